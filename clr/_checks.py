"""The rules for arguments: each returns the value as it is kept, or raises an error with name, rule and value."""

import math
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = [
    "boolean", "choice", "columns", "decay_factor", "function", "momentum", "nonnegative", "number", "path",
    "positive_int", "seed",
]  # fmt: skip


def number(name: str, value: Any, kind: str = "a number") -> float:
    """Return a number as a float; TypeError for anything else, booleans and strings among them."""
    dtype = str(getattr(value, "dtype", type(value).__name__))
    if isinstance(value, str) or "bool" in dtype or "complex" in dtype or getattr(value, "ndim", False):
        raise TypeError(f"{name} must be {kind}, got {value!r}")
    if not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be {kind}, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def nonnegative(name: str, value: Any) -> float:
    """Return a learning rate, or anything else that is finite and not negative.

    >>> nonnegative("base_lr", -1)
    Traceback (most recent call last):
    ValueError: base_lr must be a finite number >= 0, got -1
    """
    if not 0 <= number(name, value) < math.inf:
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")
    return float(value)


def positive_int(name: str, value: Any) -> int:
    """Return a positive integer; 20.0 counts as 20, 2.5 does not."""
    as_float = number(name, value, "a positive integer")
    if not (0 < as_float < math.inf and as_float.is_integer()):
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def decay_factor(name: str, value: Any) -> float:
    """Return the factor of an exponential decline, in (0, 1]."""
    if not 0 < number(name, value) <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value!r}")
    return float(value)


def momentum(name: str, value: Any) -> float:
    """Return a momentum, in [0, 1)."""
    if not 0 <= number(name, value) < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value!r}")
    return float(value)


def choice(name: str, value: Any, known: Iterable[str]) -> str:
    """Return a value that is one of the known ones.

    >>> choice("pixels", "float", ("caffe", "unit"))
    Traceback (most recent call last):
    ValueError: pixels must be 'caffe' or 'unit', got 'float'
    """
    if value not in tuple(known):
        raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")
    return value


def seed(name: str, value: Any) -> int:
    """Return a seed; numpy's generators take these."""
    try:
        whole = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = -1
    if not 0 <= whole < 2**32:
        raise ValueError(f"{name} must be an integer from 0 to 2**32 - 1, got {value!r}")
    return whole


def boolean(name: str, value: Any) -> bool:
    """Return True or False; what is merely true, such as "no", is refused."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def function(name: str, value: Any) -> Any:
    """Return what can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a callable, got {value!r}")
    return value


def path(name: str, value: Any) -> Path:
    """Return the path of a file or folder."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise TypeError(f"{name} must be a path, got {value!r}")
    return Path(value)


def columns(name: str, frame: Any, needed: Iterable[str]) -> Any:
    """Return a DataFrame that has the columns."""
    if not hasattr(frame, "columns"):
        raise TypeError(f"{name} must be a DataFrame, got {frame!r}")
    if missing := [column for column in needed if column not in frame]:
        raise ValueError(f"{name} must have the column {missing[0]!r}, got {', '.join(map(str, frame.columns))}")
    return frame
