"""Any policy on any torch optimizer.

torch's CyclicLR changes the momentum unasked, overflows after 1,024 cycles of "triangular2", lets only the amplitude
decline in "exp_range", and resumes at another rate than it stopped with; this scheduler only asks its policy.
It computes no rate of its own: the formulas are in `clr.policies`.
"""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clr import _checks

__all__ = ["PolicyLR"]


class PolicyLR(LRScheduler):
    """Set an optimizer's learning rate by a policy: update k is made with exactly policy(k), k = 0, 1, ...

    Call `step()` after every `optimizer.step()`. A group's rate is policy(k) times its "lr_mult", where it has one; a
    rate that is a tensor is filled in place. A group added later has the rate that it came with until the next step
    (if that is a tensor, one of its own).

    Args:
        optimizer: any of torch.optim, or one of its kind.
        policy: one of clr's policies, or any callable of the iteration (a Python int) that returns a rate.
        momentum: the same for SGD's momentum or Adam's first beta; None leaves them alone.

    Raises:
        TypeError: the optimizer is none, or a policy cannot be called or returns no number.
        ValueError: a rate is negative or not finite, or the optimizer has no momentum to set.

    The state is the position and the last rates, not the policy, so it loads with torch.load's safe default; loading
    it sets the policy's rate (and momentum) at once. In a SequentialLR the policy starts at 0 at its milestone.

    >>> import torch
    >>> from clr import Triangular
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    >>> scheduler = PolicyLR(optimizer, Triangular(0.0, 1.0, 2))
    >>> rates = []
    >>> for _ in range(5):
    ...     rates += scheduler.get_last_lr()  # the rate of this update
    ...     optimizer.step()
    ...     scheduler.step()
    >>> rates
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    def __init__(
        self, optimizer: Optimizer, policy: Callable[[int], Any], momentum: Callable[[int], Any] | None = None
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {optimizer!r}")
        for name, value in {"policy": policy, "momentum": policy if momentum is None else momentum}.items():
            if not callable(value):
                raise TypeError(f"{name} must be a policy or a callable of the iteration, got {value!r}")
        for group in optimizer.param_groups:
            _multiplier(group)
            if momentum is not None and not group.keys() & {"momentum", "betas"}:
                reason = f"{type(optimizer).__name__} has neither momentum nor betas"
                raise ValueError(f"momentum must be None, as {reason}, got {momentum!r}")
        self.policy, self.momentum = policy, momentum
        unshare_lr(optimizer.param_groups)
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return each group's rate at the present iteration."""
        rate = _called("policy", self.policy, self.last_epoch)
        if self.momentum is not None and self._get_lr_called_within_step:  # where torch's schedulers set theirs, too
            self._set_momentum(_called("momentum", self.momentum, self.last_epoch))
        return [rate * _multiplier(group) for group in self.optimizer.param_groups]

    def _set_momentum(self, momentum: float) -> None:
        if momentum >= 1:
            raise ValueError(f"momentum({self.last_epoch}) must be < 1, got {momentum}")
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = momentum
            else:
                group["betas"] = (momentum, *group["betas"][1:])

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration and the last rates; none where another scheduler has set its own since then."""
        last = [float(rate) for rate in self._last_lr]
        pairs = zip(self.optimizer.param_groups, last, strict=False)
        holds = self.last_epoch >= 0 and all(float(group["lr"]) == rate for group, rate in pairs)
        return {"last_epoch": self.last_epoch, "_last_lr": last if holds else []}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; its rate (and momentum) is in the optimizer at once."""
        self.last_epoch = state_dict["last_epoch"]
        if state_dict["_last_lr"]:
            self.last_epoch -= 1
            self._initial_step()  # torch's: a step before which no optimizer.step() is asked for


def unshare_lr(groups: list[dict[str, Any]]) -> None:
    """Give each group a tensor of its own for its rate: torch hands the one tensor it was given to all of them."""
    seen: set[int] = set()
    for group in groups:
        if isinstance(group["lr"], Tensor) and id(group["lr"]) in seen:
            group["lr"] = group["lr"].clone()
        seen.add(id(group["lr"]))


def _multiplier(group: dict[str, Any]) -> float:
    value = group.get("lr_mult", 1)
    return value if type(value) in (int, float) and 0 <= value < math.inf else _checks.nonnegative("lr_mult", value)


def _called(name: str, function: Callable[[int], Any], k: int) -> float:
    value = function(k)
    return value if type(value) is float and 0 <= value < math.inf else _checks.nonnegative(f"{name}({k})", value)
