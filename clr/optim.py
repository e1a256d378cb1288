"""Stochastic gradient descent as Caffe and the paper have it: the learning rate inside the velocity.

Caffe adds rate * gradient to the velocity; torch.optim.SGD multiplies the whole velocity by the rate of the
moment. The two agree while the rate stands still, which a cyclical one never does.
Source: BVLC/caffe, src/caffe/solvers/{sgd,nesterov}_solver.cpp.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from clr import checks

__all__ = ["CaffeSGD"]


class CaffeSGD(Optimizer):
    """Momentum SGD with velocity V <- momentum * V + lr * (gradient + weight_decay * W), then W <- W - V.

    With `nesterov`, W <- W - ((1 + momentum) * V_new - momentum * V_old), as Caffe's Nesterov solver.
    A group's "lr_mult" is not read here: whoever sets the rates (`PolicyLR`, the training loop) applies it.

    Args:
        params: parameters or groups, as for any torch optimizer.
        lr: learning rate, >= 0; a 0-dim tensor is used as it stands.
        momentum: in [0, 1).
        weight_decay: L2 coefficient, >= 0.

    >>> w = torch.nn.Parameter(torch.zeros(1))
    >>> sgd = CaffeSGD([w], lr=1.0, momentum=0.5)
    >>> w.grad = torch.ones(1)
    >>> for lr in (1.0, 0.0):  # at rate 0 the velocity still carries the weight on; torch.optim.SGD would stop
    ...     sgd.param_groups[0]["lr"] = lr
    ...     sgd.step()
    >>> w.item()
    -1.5
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, its options checked; those that it leaves out are the optimizer's."""
        for name, check in _CHECKS.items():
            check(name, param_group.get(name, self.defaults[name]))
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Make one update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._update(w, group["lr"], group["momentum"], group["weight_decay"], group["nesterov"])
        return loss

    def _update(self, w: Tensor, lr: float | Tensor, momentum: float, weight_decay: float, nesterov: bool) -> None:
        state = self.state[w]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(w)
        v = state["velocity"]
        step = w.grad.add(w, alpha=weight_decay).mul_(lr)
        if nesterov:
            w.add_(v, alpha=momentum)
        v.mul_(momentum).add_(step)
        w.sub_(v, alpha=1 + momentum if nesterov else 1)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "lr": checks.rate,
    "momentum": checks.momentum,
    "weight_decay": checks.rate,
    "nesterov": checks.flag,
}
