"""The policies under the call of the well-known TensorFlow implementation."""

from typing import Any

from clr import _checks
from clr._checks import brief
from clr.policies import ExpRange, Policy, Triangular, Triangular2

__all__ = ["cyclic_learning_rate"]


def cyclic_learning_rate(
    global_step: Any,
    learning_rate: float = 0.01,
    max_lr: float = 0.1,
    step_size: float = 20.0,
    gamma: float = 0.99994,
    mode: str = "triangular",
) -> Any:
    """Return the rate of `global_step` with the call and the defaults of the well-known TensorFlow implementation.

    mode is "triangular", "triangular2" or "exp_range"; the last declines in amplitude only.
    Source: mhmoodlan/cyclic-learning-rate, whose unknown modes mean "triangular"; here they are errors.

    >>> round(cyclic_learning_rate(5), 12)
    0.0325
    """
    base_lr = _checks.nonnegative("learning_rate", learning_rate)
    if mode == "triangular":
        policy: Policy = Triangular(base_lr, max_lr, step_size)  # type: ignore[arg-type]
    elif mode == "triangular2":
        policy = Triangular2(base_lr, max_lr, step_size)  # type: ignore[arg-type]
    elif mode == "exp_range":
        policy = ExpRange(base_lr, max_lr, step_size, gamma, "amplitude")  # type: ignore[arg-type]
    else:
        raise ValueError(f'mode must be "triangular", "triangular2" or "exp_range", got {brief(mode)}')
    return policy.__call__(global_step)  # by its name, or torch.compile up to 2.11 fails at a policy made inside
