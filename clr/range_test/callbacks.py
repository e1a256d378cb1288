"""Wrap the user's forward, loss and metric, so that errors name the function and its inputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from clr import _checks

__all__ = ["checked_forward", "checked_metric", "with_note"]


def checked_forward(forward: Callable[[Any, Any], Any]) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Wrap forward: it raises a TypeError unless it returns a pair."""

    def called(model: Any, batch: Any) -> tuple[Any, Any]:
        pair = forward(model, batch)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            length = f" of {len(pair)}" if isinstance(pair, (tuple, list)) else ""
            raise TypeError(f"forward must return (outputs, targets), got {type(pair).__name__}{length}")
        return pair[0], pair[1]

    return called


def checked_metric(metric: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Wrap metric: it raises a TypeError unless it returns a number.

    A tensor stays one, so that the device need not wait. It becomes float32 unless it is float64: sums over batches
    would overflow or stall in half precision.
    """
    noted = with_note("metric", metric)

    def called(outputs: Any, targets: Any) -> Any:
        value = noted(outputs, targets)
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
            return value if value.dtype == torch.float64 else value.float()
        if isinstance(value, (str, Tensor)) or getattr(value, "size", 1) != 1 or not hasattr(value, "__float__"):
            got = f"a tensor {_described(value)}" if isinstance(value, Tensor) else _checks.brief(value)
            raise TypeError(f"metric must return a number or a one-element tensor, got {got}")
        return float(value)

    return called


def with_note(name: str, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Wrap a function of outputs and targets: its exceptions get a note that describes both."""

    def called(outputs: Any, targets: Any) -> Any:
        try:
            return function(outputs, targets)
        except Exception as error:
            error.add_note(f"in {name}(outputs, targets): outputs {_described(outputs)}, targets {_described(targets)}")
            raise

    return called


def _described(value: Any) -> str:
    """Return a tensor's dtype and shape, or the type of anything else.

    >>> import torch
    >>> _described(torch.zeros(32, 1)), _described([1])
    ('float32 (32, 1)', 'list')
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__
