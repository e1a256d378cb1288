"""Arithmetic that an int, a numpy array, a torch tensor and a JAX array share: what the policies' formulas are made of.

Iterations are integers of 64 bits until the last division, so a phase is exact however many cycles have passed.
"""

import math
import operator
import sys
from typing import Any

__all__ = ["as_float", "as_int64", "lerp", "minimum", "sin"]


def as_int64(iteration: Any) -> Any:
    """Return the iteration as an int or as 64-bit integers; tensors may be traced, so their values go unchecked."""
    if hasattr(iteration, "dtype") and getattr(iteration, "shape", None) is not None:
        return _array_as_int64(iteration)
    if isinstance(iteration, bool) or not hasattr(iteration, "__index__"):
        raise TypeError(f"iteration must be an integer, or an array or tensor of integers, got {iteration!r:.200}")
    k = operator.index(iteration)
    if k < 0:
        raise ValueError(f"iteration must be >= 0, got {k}")
    return k


def _array_as_int64(iteration: Any) -> Any:
    if hasattr(iteration, "to_numpy"):  # a pandas column
        iteration = iteration.to_numpy()
    kind = getattr(iteration.dtype, "name", str(iteration.dtype))  # "int64", "torch.int64", ...
    if "int" not in kind:
        raise TypeError(f"iteration must be of an integer dtype, got {kind}")
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(iteration, numpy.generic):
        return as_int64(int(iteration))
    if numpy is not None and isinstance(iteration, numpy.ndarray):
        k = iteration.astype(numpy.int64)
        if k.size and k.min() < 0:
            raise ValueError(f"iteration must be >= 0, got {k.min()}")
        return k
    return iteration.astype(int) if hasattr(iteration, "astype") else iteration.long()  # JAX: as wide as it was set to


def as_float(k: Any) -> Any:
    """Return integers as 64-bit floats, or 32-bit ones where there are no others."""
    if isinstance(k, int):
        return float(k)
    if hasattr(k, "astype"):
        return k.astype(float)
    return k.float() if k.device.type == "mps" else k.double()


def minimum(k: Any, limit: int) -> Any:
    """Return the iterations, no greater than a limit."""
    return min(k, limit) if isinstance(k, int) else k.clip(max=limit)


def lerp(low: float, high: float, part: Any) -> Any:
    """Return the rate at `part` of the way up: exact at both ends, and nothing small is lost in a difference."""
    return low * (1 - part) + high * part


def sin(x: Any) -> Any:
    """Return the sine of what `as_float` and arithmetic gave."""
    if isinstance(x, float):
        return type(x)(math.sin(x))  # numpy's float64, what comes of a 0-dim array, is a float too
    return x.__array_namespace__().sin(x) if hasattr(x, "__array_namespace__") else x.sin()
