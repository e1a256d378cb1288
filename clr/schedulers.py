"""Any policy on any torch optimizer.

torch's CyclicLR changes the momentum by default, overflows after 1,024 cycles of "triangular2", shrinks only the
amplitude in "exp_range", and resumes at a different rate than it stopped with. `PolicyLR` only asks its policy. It
computes no rate of its own: the formulas are in `clr.policies`.
"""

import math
import operator
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clr import _checks
from clr._hints import Hints
from clr.groups import Groups, set_lr, unshare_lr
from clr.policies import Policy

__all__ = ["PolicyLR"]


class PolicyLR(LRScheduler):
    """Set an optimizer's learning rate by a policy: update k uses exactly policy(k), for k = 0, 1, ...

    Call `step()` after every `optimizer.step()`. A group's rate is policy(k) times its multiplier, which is taken once:

    - "lr_mult" times "lr_scale", where any group has either. A loaded optimizer state that lacks them leaves them be.
    - Otherwise the ratio of the group's own rate ("initial_lr" where a scheduler has noted one) to the fastest group's.
    - Of a group that joins later: "lr_mult" times "lr_scale" or, without either, the rate it came with divided by the
      fastest group's initial one. It has its rate before its first update; the other groups keep theirs.

    Args:
        optimizer: a torch optimizer.
        policy: one of clr's policies, or any callable that takes the iteration (a Python int) and returns a rate.
        momentum: the same for SGD's momentum or Adam's first beta; None leaves them alone. To lower momentum while the
            rate rises, pass a function: `momentum=lambda k: 1.8 - Triangular(0.85, 0.95, 2000)(k)`.

    Raises:
        TypeError: optimizer is not a torch Optimizer, its rate is a tensor of integers, or policy is not callable or
            does not return a number.
        ValueError: a rate is negative or not finite, momentum(k) is not in [0, 1), or the optimizer has none to set.

    The state is the position, the last rates and the multipliers, not the policy: torch.load's safe default takes it.
    Loading it sets the policy's rate (and momentum) at once. In a SequentialLR the policy starts at 0 at its milestone.
    In a ChainedScheduler it replaces the rates of the schedulers before it; those after it start from its rate each
    time. Where a policy of clr is plainly not stepped once per update, or has ended, a warning says so.

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
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {_checks.brief(optimizer)}")
        _check_policy("policy", policy)
        if momentum is not None:
            _check_policy("momentum", momentum)
            if not all(group.keys() & {"momentum", "betas"} for group in optimizer.param_groups):
                reason = f"{type(optimizer).__name__} has neither momentum nor betas"
                raise ValueError(f"momentum must be None, as {reason}, got {momentum!r}")
        self.policy, self.momentum = policy, momentum
        self._groups = Groups(optimizer)
        self._hints = Hints()
        super().__init__(optimizer)
        self._watch()

    @property
    def multipliers(self) -> tuple[float, ...]:
        """Each group's multiplier of the policy's rate."""
        return self._groups.multipliers

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._watch()  # a copied optimizer has no hooks

    def step(self, epoch: int | None = None) -> None:
        """Set the next update's rates (and momentum): call it after every `optimizer.step()`."""
        if epoch is not None:
            epoch = _as_epoch(epoch)  # before anything has changed
        super().step(epoch)
        if isinstance(self.policy, Policy) and any(self.multipliers):
            self._hints.step(self._last_lr, self.last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return each group's rate at the current iteration."""
        self._follow_groups()
        rate = _called("policy", self.policy, self.last_epoch)
        if self.momentum is not None and self._get_lr_called_within_step:  # where torch's schedulers set theirs, too
            self._set_momentum(_called("momentum", self.momentum, self.last_epoch))
        return [rate * multiplier for multiplier in self.multipliers]

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration, the last rates and the multipliers; no rates if another scheduler has set its own."""
        multipliers, last = list(self._groups.current_multipliers()), []
        if self.last_epoch >= 0 and self._rates_hold():
            rate = _called("policy", self.policy, self.last_epoch)
            last = [rate * multiplier for multiplier in multipliers]
        return {"last_epoch": self.last_epoch, "_last_lr": last, "multipliers": multipliers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; its rate (and momentum) is in the optimizer at once.

        A state without multipliers, as other schedulers save it, keeps those taken at construction, with a warning: its
        position counts as updates.
        """
        if not isinstance(state_dict, Mapping) or not state_dict.keys() >= {"last_epoch", "_last_lr"}:
            known = _checks.brief(list(state_dict) if isinstance(state_dict, Mapping) else state_dict)
            raise ValueError(f"state_dict must be a scheduler's, with 'last_epoch' and '_last_lr', got {known}")
        last_epoch = state_dict["last_epoch"]
        if isinstance(last_epoch, bool) or not isinstance(last_epoch, int):
            raise TypeError(f"state_dict must have an integer 'last_epoch', got {_checks.brief(last_epoch)}")
        if "multipliers" not in state_dict:
            _checks.warn("state_dict lacks 'multipliers': it is another scheduler's, whose position counts as updates")
        multipliers = state_dict.get("multipliers", self.multipliers)
        if not isinstance(multipliers, (list, tuple)):
            raise TypeError(f"state_dict must have a list of 'multipliers', got {_checks.brief(multipliers)}")
        if len(multipliers) > (groups := len(self.optimizer.param_groups)):
            raise ValueError(f"state_dict must be of {groups} groups, as the optimizer's, got {len(multipliers)}")
        self._compare(state_dict)
        self.last_epoch, self._hints = last_epoch, Hints()
        self._groups.remember(tuple(multipliers))
        if state_dict["_last_lr"]:
            self.last_epoch -= 1
            self._initial_step()  # torch's: a step before which no optimizer.step() is asked for
            self._step_count = self.last_epoch + 1  # as torch's schedulers have it after a load

    def _compare(self, state: Mapping[str, Any]) -> None:
        """Warn where a state of this class has another rate than the policy at its iteration."""
        if "multipliers" not in state or not state["_last_lr"]:
            return
        rate = _called("policy", self.policy, state["last_epoch"])
        here = [rate * multiplier for multiplier in state["multipliers"]]
        if not all(map(partial(math.isclose, rel_tol=1e-6), state["_last_lr"], here)):
            words = f"state_dict has the rate {max(state['_last_lr']):g} at update {state['last_epoch']}"
            _checks.warn(f"{words}, the policy {max(here):g}: was it saved with another policy?")

    def _follow_groups(self) -> None:
        """Take in groups that have joined, and forget those that have gone."""
        if self._groups.have_changed():
            unshare_lr(self.optimizer)
            places = self._groups.remembered_indices()
            self._last_lr = [self._last_lr[i] for i in places if i is not None and i < len(self._last_lr)]
            self._groups.remember(self._groups.current_multipliers())

    def _watch(self) -> None:
        """Have the optimizer call this scheduler, as long as it lives, before an update and after a loaded state."""
        this = weakref.ref(self)

        def before_update(*_: Any) -> None:
            if not torch.compiler.is_compiling() and (scheduler := this()) is not None:
                scheduler._before_update()

        def after_load(*_: Any) -> None:
            if (scheduler := this()) is not None:
                scheduler._groups.restore_scales()

        self.optimizer.register_step_pre_hook(before_update)
        self.optimizer.register_load_state_dict_post_hook(after_load)

    def _before_update(self) -> None:
        """Count the update, and give groups that have joined their rate; not where another has set the rates."""
        self._hints.trained = True
        groups, places = self.optimizer.param_groups, self._groups.remembered_indices()
        joined = None in places
        if not joined and any(isinstance(group["lr"], Tensor) for group in groups):
            return  # to read a tensor at every update would make the device wait
        if not self._rates_hold():
            return
        self._hints.updates += 1
        if joined:
            if self.momentum is not None:
                self._set_momentum(_called("momentum", self.momentum, self.last_epoch))
            for group, place, rate in zip(groups, places, self.get_lr(), strict=True):
                if place is None:
                    set_lr(group, float(rate))

    def _rates_hold(self) -> bool:
        """Return whether the groups still have the rates that this scheduler set."""
        last: dict[int | None, float | Tensor] = dict(enumerate(self._last_lr))
        pairs = zip(self.optimizer.param_groups, self._groups.remembered_indices(), strict=True)
        return all(float(group["lr"]) == float(last[place]) for group, place in pairs if place in last)

    def _set_momentum(self, momentum: float) -> None:
        if momentum >= 1:
            raise ValueError(f"momentum({self.last_epoch}) must be < 1, got {momentum}")
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = momentum
            else:
                group["betas"] = (momentum, *group["betas"][1:])


def _called(name: str, function: Callable[[int], Any], k: int) -> float:
    value = function(k)
    return value if type(value) is float and 0 <= value < math.inf else _checks.nonnegative(f"{name}({k})", value)


def _as_epoch(value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        got = _checks.brief(value)
        raise TypeError(f"epoch must be an integer or None, since step() takes no metric, got {got}") from None


def _check_policy(name: str, value: Any) -> None:
    if not callable(value):
        hint = "; use bounds.policy(schedule, iterations)" if type(value).__name__ == "Bounds" else ""
        raise TypeError(f"{name} must be a policy or a callable of the iteration, got {_checks.brief(value)}{hint}")
    if isinstance(value, type):
        raise TypeError(f"{name} must be an object, such as {value.__name__}(...), got the class")
