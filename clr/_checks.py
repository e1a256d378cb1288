"""Argument checks: each returns the normalized value, or raises an error with the name, the rule and the value."""

import dataclasses
import math
import operator
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

__all__ = [
    "POLICY_RULES", "RULES", "boolean", "brief", "choice", "columns", "decay_factor", "fields", "function",
    "int_at_least_two", "listed", "momentum", "nonnegative", "nonnegative_int", "number", "pairs", "path",
    "positive_int", "seed", "shorten", "stages", "warn",
]  # fmt: skip


def shorten(text: str, length: int = 200) -> str:
    """Cut a text in its middle so that a message stays readable.

    >>> shorten("airplane, automobile, bird, cat", length=20)
    'airplane,...ird, cat'
    """
    half = (length - 3) // 2
    return text if len(text) <= length else f"{text[: length - 3 - half]}...{text[-half:]}"


def brief(value: Any) -> str:
    """Return the repr of a value, short enough for a message."""
    try:
        return shorten(repr(value))
    except Exception:  # an integer of more than 4,300 digits, or somebody's own class
        return f"a value of type {type(value).__name__}"


def listed(values: Iterable[Any]) -> str:
    """Return values with commas between, short enough for a message."""
    return shorten(", ".join(map(str, values)))


def warn(text: str) -> None:
    """Warn at the line of the user's call: the innermost that is neither in clr nor in torch."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("clr", "torch"):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def number(name: str, value: Any, kind: str = "a number") -> float:
    """Return a number as a float; TypeError for anything else, booleans and strings among them."""
    dtype = str(getattr(value, "dtype", type(value).__name__))
    if isinstance(value, str) or "bool" in dtype or "complex" in dtype or getattr(value, "ndim", False):
        raise TypeError(f"{name} must be {kind}, got {brief(value)}")
    if not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be {kind}, got {brief(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def nonnegative(name: str, value: Any) -> float:
    """Return a learning rate, or any other finite number >= 0.

    >>> nonnegative("base_lr", -1)
    Traceback (most recent call last):
    ValueError: base_lr must be a finite number >= 0, got -1
    """
    if not 0 <= number(name, value) < math.inf:
        raise ValueError(f"{name} must be a finite number >= 0, got {brief(value)}")
    return float(value)


def positive_int(name: str, value: Any) -> int:
    """Return a positive integer; 20.0 counts as 20, 2.5 does not."""
    as_float = number(name, value, "a positive integer")
    if not (0 < as_float < math.inf and as_float.is_integer()):
        raise ValueError(f"{name} must be a positive integer, got {brief(value)}")
    return int(value)


def nonnegative_int(name: str, value: Any) -> int:
    """Return an integer >= 0; 20.0 counts as 20, 2.5 does not."""
    as_float = number(name, value, "an integer >= 0")
    if not (0 <= as_float < math.inf and as_float.is_integer()):
        raise ValueError(f"{name} must be an integer >= 0, got {brief(value)}")
    return int(value)


def int_at_least_two(name: str, value: Any) -> int:
    """Return an integer >= 2; 20.0 counts as 20, 2.5 does not."""
    if (whole := positive_int(name, value)) < 2:
        raise ValueError(f"{name} must be at least 2, got {brief(value)}")
    return whole


def decay_factor(name: str, value: Any) -> float:
    """Return the factor of an exponential decline, in (0, 1]."""
    if not 0 < number(name, value) <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {brief(value)}")
    return float(value)


def momentum(name: str, value: Any) -> float:
    """Return a momentum, in [0, 1)."""
    if not 0 <= number(name, value) < 1:
        raise ValueError(f"{name} must be in [0, 1), got {brief(value)}")
    return float(value)


def choice(name: str, value: Any, known: Iterable[str]) -> str:
    """Return a value that is among the known ones.

    >>> choice("pixels", "float", ("caffe", "unit"))
    Traceback (most recent call last):
    ValueError: pixels must be 'caffe' or 'unit', got 'float'
    """
    if value not in tuple(known):
        raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {brief(value)}")
    return value


def seed(name: str, value: Any) -> int:
    """Return a seed that numpy's generators take."""
    try:
        whole = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = -1
    if not 0 <= whole < 2**32:
        raise ValueError(f"{name} must be an integer from 0 to 2**32 - 1, got {brief(value)}")
    return whole


def boolean(name: str, value: Any) -> bool:
    """Return True or False; other values that count as true, such as "no", are refused."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {brief(value)}")
    return value


def function(name: str, value: Any) -> Any:
    """Return a callable."""
    if not callable(value):
        raise TypeError(f"{name} must be a callable, got {brief(value)}")
    return value


def pairs(name: str, value: Any) -> list[tuple[Any, Any]]:
    """Return the items of a mapping, or of a sequence of pairs."""
    try:
        found = list(value.items()) if isinstance(value, Mapping) else [(k, v) for k, v in value]
    except (TypeError, ValueError):  # not a sequence of pairs
        found = []
    if not found:
        raise TypeError(f"{name} must be a mapping of first iterations to policies, got {brief(value)}")
    return found


def stages(name: str, value: Any, kind: type) -> tuple[tuple[int, Any], ...]:
    """Return pairs of a start and a policy, of class `kind`, in order of start; the first starts at 0."""
    found = pairs(name, value)
    for start, policy in found:
        if isinstance(start, bool) or not hasattr(start, "__index__") or start < 0:
            raise ValueError(f"{name} must start at integers >= 0, got {brief(start)}")
        if not isinstance(policy, kind):
            raise TypeError(f"{name} must hold policies, got {brief(policy)} at {start}")
    by_start = {operator.index(start): policy for start, policy in sorted(found, key=lambda pair: pair[0])}
    if 0 not in by_start:
        raise ValueError(f"{name} must have a policy for iteration 0, got one from {min(by_start)} on")
    if len(by_start) < len(found):
        raise ValueError(f"{name} must have one policy per start, got {shorten(str([start for start, _ in found]))}")
    return tuple(by_start.items())


def path(name: str, value: Any) -> Path:
    """Return the path of a file or folder, with `~` and environment variables replaced."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise TypeError(f"{name} must be a path, got {brief(value)}")
    return Path(os.path.expandvars(os.path.expanduser(value)))


def columns(name: str, frame: Any, needed: Iterable[str]) -> Any:
    """Return a DataFrame that has the columns."""
    if not hasattr(frame, "columns"):
        raise TypeError(f"{name} must be a DataFrame, got {brief(frame)}")
    if missing := [column for column in needed if column not in frame]:
        raise ValueError(f"{name} must have the column {missing[0]!r}, got {listed(frame.columns)}")
    return frame


Rule = Callable[[str, Any], Any]
POLICY_RULES: dict[str, Rule] = {  # by argument name: one name means one thing in all policies
    **dict.fromkeys(("lr", "base_lr", "max_lr", "start_lr", "end_lr"), nonnegative),
    **dict.fromkeys(("step_size", "iterations"), positive_int),
    "warmup": nonnegative_int,
    "gamma": decay_factor,
    "decays": partial(choice, known=("bounds", "amplitude")),
    "spacing": partial(choice, known=("linear", "exponential")),
}
RULES: dict[str, Rule] = {  # and in the study
    **POLICY_RULES,
    "weight_decay": nonnegative,
    **dict.fromkeys(("batch_size", "evaluate_every", "test_pictures"), positive_int),
    "hold_out_every": int_at_least_two,
    **dict.fromkeys(("mults", "nesterov", "reshuffle"), boolean),
    "momentum": momentum,
    "seed": seed,
    "init": partial(choice, known=("caffe", "torch", "he")),
    "precision": partial(choice, known=("float32", "bfloat16")),
    "pixels": partial(choice, known=("caffe", "unit")),
}


def fields(instance: Any, rules: dict[str, Rule], **own_rules: Rule) -> None:
    """Normalize a frozen dataclass's fields by `own_rules`, else by `rules`; a None that is the default stays."""
    for field in dataclasses.fields(instance):
        rule, value = own_rules.get(field.name) or rules.get(field.name), getattr(instance, field.name)
        if rule is not None and not (value is None and field.default is None):
            object.__setattr__(instance, field.name, rule(field.name, value))
