"""The groups of an optimizer: one rule for their rates, for the range test and `PolicyLR` alike."""

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from clr import _checks

__all__ = ["Groups", "lr_multipliers", "set_lr", "unshare_lr"]

_SCALES = ("lr_mult", "lr_scale")

Group = dict[str, Any]


def lr_multipliers(optimizer: Optimizer) -> tuple[float, ...]:
    """Return each group's multiplier of the rate, by the one rule that the range test and `PolicyLR` share.

    A group's multiplier is its "lr_mult" times its "lr_scale" (timm's name) where any group has either. Otherwise the
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


def set_lr(group: Group, lr: float) -> None:
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


def _is_scaled(group: Group) -> bool:
    return any(name in group for name in _SCALES)


def _scale(group: Group) -> float:
    return math.prod(_checks.nonnegative(name, group.get(name, 1)) for name in _SCALES)


def _own_lr(group: Group) -> float:
    return float(group.get("initial_lr", group["lr"]))  # type: ignore[arg-type]


def _fastest_lr(optimizer: Optimizer) -> float:
    return max(_own_lr(group) for group in optimizer.param_groups)


class Groups:
    """An optimizer's groups with their multipliers of the rate, which stay theirs when groups join, go or are loaded.

    They are `lr_multipliers`' at construction. A group that joins later changes no other's; its own is "lr_mult" times
    "lr_scale" or, without either, the rate it came with over the fastest group's initial one.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        unshare_lr(optimizer)
        self.optimizer = optimizer
        self.multipliers, self._reference_lr = lr_multipliers(optimizer), _fastest_lr(optimizer)
        self.remember()

    def remember(self, multipliers: tuple[float, ...] | None = None) -> None:
        """Remember the present groups, as many as have a multiplier."""
        self.multipliers = self.multipliers if multipliers is None else multipliers
        self._remembered = [
            (group, group["params"], {name: group[name] for name in _SCALES if name in group})
            for group in self.optimizer.param_groups[: len(self.multipliers)]
        ]

    def remembered_indices(self) -> list[int | None]:
        """Return each group's index when the groups were remembered; None for one that has joined since.

        A loaded optimizer state replaces the groups, other libraries replace the lists in them; never both at once.
        """
        known = {id(part): i for i, (group, params, _) in enumerate(self._remembered) for part in (group, params)}
        return [known.get(id(group), known.get(id(group["params"]))) for group in self.optimizer.param_groups]

    def have_changed(self) -> bool:
        """Return whether groups have joined or gone since they were remembered."""
        if len(self.optimizer.param_groups) != len(self._remembered):
            return True
        pairs = zip(self.optimizer.param_groups, self._remembered, strict=True)
        return any(group is not same and group["params"] is not params for group, (same, params, _) in pairs)

    def current_multipliers(self) -> tuple[float, ...]:
        """Return the multiplier of each group, also of those that have joined since the groups were remembered."""
        pairs = zip(self.optimizer.param_groups, self.remembered_indices(), strict=True)
        return tuple(self._joining_multiplier(group) if i is None else self.multipliers[i] for group, i in pairs)

    def restore_scales(self) -> None:
        """Put back what a loaded optimizer state has taken from the groups, and warn of it."""
        for i, (group, place) in enumerate(zip(self.optimizer.param_groups, self.remembered_indices(), strict=True)):
            scales = {} if place is None else self._remembered[place][2]
            if lost := {name: value for name, value in scales.items() if name not in group}:
                group.update(lost)
                kept = ", ".join(f"{name} = {value}" for name, value in lost.items())
                _checks.warn(f"group {i} keeps {kept}, which the loaded optimizer state lacks")

    def _joining_multiplier(self, group: Group) -> float:
        if _is_scaled(group):
            return _scale(group)
        return _own_lr(group) / self._reference_lr if self._reference_lr else 1.0
