"""Cyclical learning rates: policies, an LR range test, and Caffe's CIFAR-10 nets, on PyTorch.

Every public name is here, and is imported when it is first used: `import clr` itself imports nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clr import data, experiments, figures, nets, optim, policies, range_test, results, schedulers, training
    from clr.data import load_cifar10, synthetic_cifar10
    from clr.functional import cyclic_learning_rate
    from clr.nets import Cifar10Full, Cifar10FullSigmoid, Cifar10FullSigmoidBN, Cifar10Quick
    from clr.optim import CaffeSGD
    from clr.policies import (
        Decay,
        Exp,
        ExpRange,
        Fixed,
        Parabolic,
        Policy,
        Ramp,
        Sinusoidal,
        Stages,
        Triangular,
        Triangular2,
        step_size,
    )
    from clr.range_test import lr_range_test, suggest_bounds
    from clr.schedulers import PolicyLR

__all__ = [
    "CaffeSGD", "Cifar10Full", "Cifar10FullSigmoid", "Cifar10FullSigmoidBN", "Cifar10Quick", "Decay", "Exp", "ExpRange",
    "Fixed", "Parabolic", "Policy", "PolicyLR", "Ramp", "Sinusoidal", "Stages", "Triangular", "Triangular2",
    "cyclic_learning_rate", "data", "experiments", "figures", "load_cifar10", "lr_range_test", "nets", "optim",
    "policies", "range_test", "results", "schedulers", "step_size", "suggest_bounds", "synthetic_cifar10", "training",
]  # fmt: skip

_MODULES = {
    "data", "experiments", "figures", "nets", "optim", "policies", "range_test", "results", "schedulers", "training",
}  # fmt: skip
_HOMES = {  # of the names that are not in clr.policies
    "CaffeSGD": "optim", "PolicyLR": "schedulers", "load_cifar10": "data", "synthetic_cifar10": "data",
    "Cifar10Full": "nets", "Cifar10FullSigmoid": "nets", "Cifar10FullSigmoidBN": "nets", "Cifar10Quick": "nets",
    "cyclic_learning_rate": "functional", "lr_range_test": "range_test", "suggest_bounds": "range_test",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"clr.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'clr' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"clr.{_HOMES.get(name, 'policies')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
