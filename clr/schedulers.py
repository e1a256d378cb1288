"""Any policy on any torch optimizer, and the one rule for the rates of an optimizer's groups.

torch's CyclicLR changes the momentum by default, overflows after 1,024 cycles of "triangular2", shrinks only the
amplitude in "exp_range", and resumes at a different rate than it stopped with. `PolicyLR` only asks its policy. It
computes no rate of its own: the formulas are in `clr.policies`.
"""

import math
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clr import _checks
from clr.plain_policies import Policy

__all__ = ["PolicyLR"]

_SCALES = ("lr_mult", "lr_scale")
_LONG_GAP = 50  # updates between two steps of a scheduler that is stepped once an epoch


def lr_multipliers(optimizer: Optimizer) -> tuple[float, ...]:
    """Return each group's multiple of the rate, by the one rule that the range test and `PolicyLR` share.

    A group's multiple is its "lr_mult" times its "lr_scale" (timm's name) where any group has either. Otherwise the
    groups keep the ratios of their own rates ("initial_lr" where a scheduler has noted one), the fastest at 1. Rates
    that are all 0 mean equal groups.

    >>> import torch
    >>> groups = [{"params": [torch.zeros(1)], "lr": lr} for lr in (0.001, 0.01)]
    >>> lr_multipliers(torch.optim.SGD(groups))
    (0.1, 1.0)
    """
    groups = optimizer.param_groups
    if any(_is_scaled(group) for group in groups):
        return tuple(_scale(group) for group in groups)
    fastest = _fastest_lr(optimizer)
    return tuple(_own_lr(group) / fastest if fastest else 1.0 for group in groups)


def set_lr(group: dict[str, Any], lr: float) -> None:
    """Set a group's rate; a rate that is a tensor is filled in place."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def unshare_lr(optimizer: Optimizer) -> None:
    """Give each group a rate of its own: torch hands one tensor to all groups.

    Raises:
        TypeError: a rate is a tensor of integers, which would round every rate.
    """
    tensors = [group for group in optimizer.param_groups if isinstance(group["lr"], Tensor)]
    for group in tensors:
        if not group["lr"].is_floating_point():
            raise TypeError(f"lr must be a float or a floating-point tensor, got {group['lr']!r}")
    seen: set[int] = set()
    for group in tensors:
        if id(group["lr"]) in seen:
            group["lr"] = group["lr"].clone()
        seen.add(id(group["lr"]))


def _is_scaled(group: dict[str, Any]) -> bool:
    return any(name in group for name in _SCALES)


def _scale(group: dict[str, Any]) -> float:
    return math.prod(_checks.nonnegative(name, group.get(name, 1)) for name in _SCALES)


def _own_lr(group: dict[str, Any]) -> float:
    return float(group.get("initial_lr", group["lr"]))


def _fastest_lr(optimizer: Optimizer) -> float:
    return max(_own_lr(group) for group in optimizer.param_groups)


class PolicyLR(LRScheduler):
    """Set an optimizer's learning rate by a policy: update k uses exactly policy(k), for k = 0, 1, ...

    Call `step()` after every `optimizer.step()`. A group's rate is policy(k) times its multiple (`lr_multipliers`):
    "lr_mult" times "lr_scale" where any group has either, else the ratio of its own rate to the fastest group's. The
    multiples are taken once, at construction. A group that joins later changes no other's. It has its rate before its
    first update: its multiple is "lr_mult" times "lr_scale", or, without either, the rate it came with over the
    fastest group's initial one (1 if that is 0). A rate that is a tensor is filled in place. An optimizer state that
    lacks "lr_mult" or "lr_scale" is warned of, and the groups keep theirs.

    Args:
        optimizer: a torch optimizer.
        policy: one of clr's policies, or any callable that takes the iteration (a Python int) and returns a rate.
        momentum: the same for SGD's momentum or Adam's first beta; None leaves them alone. To lower momentum while the
            rate rises, pass a function: `momentum=lambda k: 1.8 - Triangular(0.85, 0.95, 2000)(k)`.

    Raises:
        TypeError: optimizer is not a torch Optimizer, its rate is a tensor of integers, or policy is not callable or
            does not return a number.
        ValueError: a rate is negative or not finite, or the optimizer has no momentum to set.

    The state is the position, the last rates and the multiples, not the policy, so torch.load's safe default takes it.
    Loading it sets the policy's rate (and momentum) at once. In a SequentialLR the policy starts at 0 at its milestone.
    In a ChainedScheduler it replaces the rates of the schedulers before it; those after it start from its rate each
    time. A policy of clr that is stepped once in 50 updates or more, twice, is warned of: its iterations are updates.

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
                hint = "; use bounds.policy(schedule, iterations)" if type(value).__name__ == "Bounds" else ""
                got = f"{_checks.brief(value)}{hint}"
                raise TypeError(f"{name} must be a policy or a callable of the iteration, got {got}")
        for group in optimizer.param_groups:
            if momentum is not None and not group.keys() & {"momentum", "betas"}:
                reason = f"{type(optimizer).__name__} has neither momentum nor betas"
                raise ValueError(f"momentum must be None, as {reason}, got {momentum!r}")
        self.policy, self.momentum = policy, momentum
        unshare_lr(optimizer)
        self.multipliers, self._reference_lr = lr_multipliers(optimizer), _fastest_lr(optimizer)
        self._groups = _noted(optimizer.param_groups)
        self._updates, self._long_gaps = 0, 0
        super().__init__(optimizer)
        self._watch()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._watch()  # a copied optimizer has no hooks

    def step(self, epoch: int | None = None) -> None:
        """Set the next update's rates (and momentum): call it after every `optimizer.step()`."""
        self._hint()
        super().step(epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return each group's rate at the current iteration."""
        rate = _called("policy", self.policy, self.last_epoch)
        if self.momentum is not None and self._get_lr_called_within_step:  # where torch's schedulers set theirs, too
            self._set_momentum(_called("momentum", self.momentum, self.last_epoch))
        if self._places() != list(range(len(self._groups))):  # groups have joined or gone
            unshare_lr(self.optimizer)
            self.multipliers = self._multipliers_now()
            self._last_lr = self._last_now()
            self._groups = _noted(self.optimizer.param_groups)
        return [rate * multiplier for multiplier in self.multipliers]

    def _places(self) -> list[int | None]:
        """Return where each group was when the groups were noted; None for one that has joined since.

        A loaded optimizer state replaces the groups, other libraries replace the lists in them; never both at once.
        """
        known = {id(part): i for i, noted in enumerate(self._groups) for part in noted[:2]}
        return [known.get(id(group), known.get(id(group["params"]))) for group in self.optimizer.param_groups]

    def _multipliers_now(self) -> tuple[float, ...]:
        """Return the multiple of each group, also of those that have joined since the groups were noted."""
        pairs = zip(self.optimizer.param_groups, self._places(), strict=True)
        return tuple(self._joining_multiplier(group) if i is None else self.multipliers[i] for group, i in pairs)

    def _last_now(self) -> list[float | Tensor]:
        """Return the last rates of the groups that are still there."""
        return [self._last_lr[i] for i in self._places() if i is not None and i < len(self._last_lr)]

    def _watch(self) -> None:
        """Have the optimizer call this scheduler, as long as it lives, before an update and after a loaded state."""
        this = weakref.ref(self)

        def before_update(*_: Any) -> None:
            if not torch.compiler.is_compiling() and (scheduler := this()) is not None:
                scheduler._before_update()

        def after_load(*_: Any) -> None:
            if (scheduler := this()) is not None:
                scheduler._keep_scales()

        self.optimizer.register_step_pre_hook(before_update)
        self.optimizer.register_load_state_dict_post_hook(after_load)

    def _before_update(self) -> None:
        """Count the update, and give groups that have joined their rate; not where another has set the rates."""
        groups, places = self.optimizer.param_groups, self._places()
        if (None not in places and any(isinstance(group["lr"], Tensor) for group in groups)) or not self._rates_hold():
            return  # to read a tensor at every update would make the device wait
        self._updates += 1
        if None in places:
            for group, place, rate in zip(groups, places, self.get_lr(), strict=True):
                if place is None:
                    set_lr(group, float(rate))

    def _keep_scales(self) -> None:
        """Put back what a loaded optimizer state has taken from the groups, and warn of it."""
        for i, (group, place) in enumerate(zip(self.optimizer.param_groups, self._places(), strict=True)):
            scales = {} if place is None else self._groups[place][2]
            if lost := {name: value for name, value in scales.items() if name not in group}:
                group.update(lost)
                kept = ", ".join(f"{name} = {value}" for name, value in lost.items())
                warnings.warn(f"group {i} keeps {kept}, which the loaded optimizer state lacks", stacklevel=4)

    def _hint(self) -> None:
        """Warn, once, where a policy that counts updates is plainly stepped once an epoch."""
        long_gap = isinstance(self.policy, Policy) and self._updates >= _LONG_GAP
        self._long_gaps += long_gap
        if long_gap and self._long_gaps == 2:
            text = f"step() came once in {self._updates} updates. A policy of clr counts updates: call it after each"
            warnings.warn(text, stacklevel=3)
        self._updates = 0

    def _rates_hold(self) -> bool:
        """Return whether the groups still have the rates that this scheduler set."""
        last: dict[int | None, float | Tensor] = dict(enumerate(self._last_lr))
        pairs = [(group, last.get(i)) for group, i in zip(self.optimizer.param_groups, self._places(), strict=True)]
        return all(rate is None or float(group["lr"]) == float(rate) for group, rate in pairs)

    def _joining_multiplier(self, group: dict[str, Any]) -> float:
        if _is_scaled(group):
            return _scale(group)
        return _own_lr(group) / self._reference_lr if self._reference_lr else 1.0

    def _set_momentum(self, momentum: float) -> None:
        if momentum >= 1:
            raise ValueError(f"momentum({self.last_epoch}) must be < 1, got {momentum}")
        for group in self.optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = momentum
            else:
                group["betas"] = (momentum, *group["betas"][1:])

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration, the last rates and the multiples; no rates if another scheduler has set its own."""
        last = [float(rate) for rate in self._last_now()]
        holds = self.last_epoch >= 0 and self._rates_hold()
        multipliers = list(self._multipliers_now())
        return {"last_epoch": self.last_epoch, "_last_lr": last if holds else [], "multipliers": multipliers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; its rate (and momentum) is in the optimizer at once.

        A state without multiples, as other schedulers and older versions save it, keeps those taken at construction.
        """
        if not isinstance(state_dict, Mapping) or not state_dict.keys() >= {"last_epoch", "_last_lr"}:
            known = ", ".join(map(repr, state_dict)) if isinstance(state_dict, Mapping) else repr(state_dict)
            raise ValueError(f"state_dict must be a scheduler's, with 'last_epoch' and '_last_lr', got {known}")
        multipliers = tuple(state_dict.get("multipliers", self.multipliers))
        if len(multipliers) > (groups := len(self.optimizer.param_groups)):
            raise ValueError(f"state_dict must be of {groups} groups, as the optimizer's, got {len(multipliers)}")
        self.last_epoch, self.multipliers = state_dict["last_epoch"], multipliers
        self._groups = _noted(self.optimizer.param_groups[: len(multipliers)])
        if state_dict["_last_lr"]:
            self.last_epoch -= 1
            self._initial_step()  # torch's: a step before which no optimizer.step() is asked for
            self._step_count = self.last_epoch + 1  # as torch's schedulers have it after a load


def _noted(groups: list[dict[str, Any]]) -> list[tuple[dict[str, Any], list[Any], dict[str, Any]]]:
    """Return each group, its parameters and its scales."""
    return [(group, group["params"], {name: group[name] for name in _SCALES if name in group}) for group in groups]


def _called(name: str, function: Callable[[int], Any], k: int) -> float:
    value = function(k)
    return value if type(value) is float and 0 <= value < math.inf else _checks.nonnegative(f"{name}({k})", value)
