"""The default metric of a range test, and the loss of a net that only predicts the mean."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from torch import Tensor

__all__ = ["choose_metric", "constant_loss"]

ENOUGH = 10  # examples, for a mean of the targets


def choose_metric(outputs: Any, targets: Any) -> Callable[[Tensor, Tensor], float] | None:
    """Return the accuracy that fits outputs and targets, or None if it would be a guess.

    Scores (N, classes, ...) with integer targets (N, ...), scores with the classes last, and one logit per target that
    is 0 or 1 are understood. Targets beyond the scores, targets that are not integers, several labels per example, and
    one output per target that looks like a probability are not. Negative targets are left out, as with torch's
    ignore_index.
    """
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or outputs.dim() < 1 or not targets.numel():
        return None
    if targets.is_floating_point() or targets.is_complex():
        return None
    first, last = outputs.shape[:1] + outputs.shape[2:], outputs.shape[:-1]
    if (outputs.dim() == 1 or outputs.shape[1] == 1) and targets.shape in (first, outputs.shape):
        return None if _looks_like_probabilities(outputs) or not _are_zero_or_one(targets) else _binary_accuracy
    fits_first, fits_last = targets.shape == first, outputs.dim() > 2 and targets.shape == last
    if fits_first == fits_last:
        return None
    dim = 1 if fits_first else -1
    return partial(_class_accuracy, dim=dim) if 0 <= targets.max() < outputs.shape[dim] > 1 else None


def _class_accuracy(outputs: Tensor, targets: Tensor, dim: int) -> float:
    right, counted = outputs.argmax(dim) == targets, targets >= 0
    return (right & counted).sum().item() / max(1, counted.sum().item())


def _binary_accuracy(outputs: Tensor, targets: Tensor) -> float:
    return ((outputs.reshape(targets.shape) > 0) == targets.bool()).sum().item() / targets.numel()


def _are_zero_or_one(targets: Tensor) -> bool:
    return bool(((targets == 0) | (targets == 1)).all())


def _looks_like_probabilities(outputs: Tensor) -> bool:
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def constant_loss(loss_fn: Callable[[Any, Any], Any], outputs: Any, targets: Any) -> float:
    """Return the loss of outputs that are the mean of the targets, whatever the input; NaN unless this is a regression.

    >>> from torch import nn, tensor
    >>> targets = tensor([[9.0], [11.0]] * 5)
    >>> constant_loss(nn.functional.mse_loss, targets, targets)
    1.0
    """
    tensors = isinstance(outputs, Tensor) and isinstance(targets, Tensor)
    if tensors and targets.is_floating_point() and outputs.shape == targets.shape and targets.shape[:1] >= (ENOUGH,):
        with suppress(Exception):  # the loss may need more of outputs than their values
            return float(loss_fn(targets.mean(0).expand_as(targets), targets))
    return float("nan")
