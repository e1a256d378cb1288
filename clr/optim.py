"""Stochastic gradient descent as in Caffe and the paper: the learning rate inside the velocity.

Caffe adds rate * gradient to the velocity. torch.optim.SGD multiplies the whole velocity by the current rate. The two
agree while the rate is constant, and a cyclical one never is.
`SOLVERS` also holds Caffe's other solvers, which are torch's own optimizers, and torch's SGD for comparison.
Source: BVLC/caffe, src/caffe/solvers/{sgd,nesterov,adam,rmsprop,adagrad,adadelta}_solver.cpp.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from clr import _checks

__all__ = ["SOLVERS", "WITHOUT_MOMENTUM", "CaffeSGD"]


class CaffeSGD(Optimizer):
    """Momentum SGD with velocity V <- momentum * V + lr * (gradient + weight_decay * W), then W <- W - V.

    With `nesterov`, W <- W - ((1 + momentum) * V_new - momentum * V_old), as Caffe's Nesterov solver.
    A group's "lr_mult" is not read here. `PolicyLR` and the training loop, which set the rates, apply it.

    Args:
        params: parameters or groups, as for any torch optimizer.
        lr: learning rate, >= 0. A 0-dim tensor is kept, so filling it sets the rate.
        momentum: in [0, 1).
        weight_decay: L2 coefficient, >= 0.
        nesterov: use Caffe's Nesterov update.

    Raises:
        ValueError, TypeError: an option is out of range or no number; the message names it.

    >>> w = torch.nn.Parameter(torch.zeros(1))
    >>> sgd = CaffeSGD([w], lr=1.0, momentum=0.5)
    >>> w.grad = torch.ones(1)
    >>> for lr in (1.0, 0.0):  # at rate 0 the velocity still moves the weight; torch.optim.SGD would stop
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
        """Add a group and check its options. A missing option is the optimizer's."""
        for name, default in self.defaults.items():
            if name in _checks.RULES:  # torch adds defaults of its own to a copied optimizer
                _checks.RULES[name](name, param_group.get(name, default))
        add = Optimizer.add_param_group  # torch's decorator imports its compiler at the first call, for a second
        getattr(add, "__wrapped__", add)(self, param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Make one update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for (momentum, weight_decay, nesterov), lr, weights in self._fused_groups():
            self._update(weights, lr, momentum, weight_decay, nesterov)
        return loss

    def _fused_groups(self) -> list[tuple[tuple[float, float, bool], float | Tensor, list[Tensor]]]:
        """Return the weights that have a gradient, by equal options and rate: fewer kernels than group by group."""
        fused: dict[Any, tuple[Any, Any, list[Tensor]]] = {}
        for group in self.param_groups:
            lr, options = group["lr"], (group["momentum"], group["weight_decay"], group["nesterov"])
            same = id(lr) if torch.is_tensor(lr) else lr
            weights = fused.setdefault((options, same), (options, lr, []))[2]
            weights += [w for w in group["params"] if w.grad is not None]
        return [found for found in fused.values() if found[2]]

    def _update(
        self, weights: list[Tensor], lr: float | Tensor, momentum: float, weight_decay: float, nesterov: bool
    ) -> None:
        velocities = [self._velocity(w) for w in weights]
        steps = torch._foreach_add([w.grad for w in weights], weights, alpha=weight_decay)  # type: ignore[misc]
        torch._foreach_mul_(steps, lr)
        if nesterov:
            torch._foreach_add_(weights, velocities, alpha=momentum)
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, steps)
        torch._foreach_sub_(weights, velocities, alpha=1 + momentum if nesterov else 1)

    def _velocity(self, w: Tensor) -> Tensor:
        state = self.state[w]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(w)
        return state["velocity"]


# By name, each called with (groups, lr, momentum). The constants are the defaults of caffe.proto. AdaDelta's eps is
# that of Caffe's own example, its decay Caffe's `momentum`.
SOLVERS: dict[str, Callable[..., Optimizer]] = {
    "CaffeSGD": CaffeSGD,
    "Nesterov": partial(CaffeSGD, nesterov=True),
    "SGD": torch.optim.SGD,
    "Adam": lambda groups, lr, momentum: torch.optim.Adam(groups, lr, betas=(momentum, 0.999)),
    "RMSprop": lambda groups, lr, momentum: torch.optim.RMSprop(groups, lr, alpha=0.99),
    "AdaGrad": lambda groups, lr, momentum: torch.optim.Adagrad(groups, lr, eps=1e-8),
    "AdaDelta": lambda groups, lr, momentum: torch.optim.Adadelta(groups, lr, rho=momentum, eps=1e-6),
}
WITHOUT_MOMENTUM = ("RMSprop", "AdaGrad")
