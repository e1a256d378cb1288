"""The rules for arguments: each returns the value as it is kept, or raises an error with name, rule and value."""

import math
from collections.abc import Iterable
from typing import Any

__all__ = ["choice", "count", "decline", "momentum", "number", "rate"]


def number(name: str, value: Any, kind: str = "a number") -> float:
    """Return a number as a float; TypeError for anything else, booleans and strings among them."""
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__") or getattr(value, "ndim", False):
        raise TypeError(f"{name} must be {kind}, got {value!r}")
    return float(value)


def rate(name: str, value: Any) -> float:
    """Return a learning rate, or anything else that is finite and not negative.

    >>> rate("base_lr", -1)
    Traceback (most recent call last):
    ValueError: base_lr must be a finite number >= 0, got -1
    """
    if not 0 <= number(name, value) < math.inf:
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")
    return float(value)


def count(name: str, value: Any) -> int:
    """Return a positive integer; 20.0 counts as 20, 2.5 does not."""
    as_float = number(name, value, "a positive integer")
    if not (0 < as_float < math.inf and as_float.is_integer()):
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def decline(name: str, value: Any) -> float:
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
