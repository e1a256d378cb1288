"""The learning-rate policies of Cyclical Learning Rates for Training Neural Networks (Smith, arXiv:1506.01186).

A policy is a value: a frozen dataclass that is called with the iteration and returns the learning rate. Iterations
count updates from 0, so update k uses `policy(k)`. The rate depends on nothing else, so a policy can be printed,
compared, plotted and resumed without an optimizer. An int gives a float, an integer numpy array a float64 array of
its shape (a pandas column too), an integer torch tensor a float64 tensor on its device (float32 where there is no
float64); JAX arrays and traced integers work as well. Neither torch nor numpy is imported here: every formula is
arithmetic that all share.

    lr  |  max_lr      /\\        /\\
        |            /    \\    /    \\        step_size: iterations in half a cycle
        |  base_lr /        \\/        \\
        +-------------------------------- iteration
"""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

from clr import _checks
from clr._arithmetic import as_float, as_int64, lerp, minimum, sin

__all__ = [
    "Decay", "Exp", "ExpRange", "Fixed", "Parabolic", "Policy", "Ramp", "Sinusoidal", "Stages", "Triangular",
    "Triangular2", "cyclic_learning_rate", "from_dict", "step_size", "to_dict",
]  # fmt: skip


class Policy:
    """What all policies share: the check of their arguments, and of the iteration they are called with."""

    _kinds: ClassVar[dict[str, type["Policy"]]] = {}

    def __init_subclass__(cls) -> None:
        if not cls.__name__.startswith("_"):
            Policy._kinds[cls.__name__] = cls

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            if check := _CHECKS.get(field.name):
                object.__setattr__(self, field.name, check(field.name, getattr(self, field.name)))
        low, high = getattr(self, "base_lr", None), getattr(self, "max_lr", None)
        if low is not None and high is not None and low > high:
            raise ValueError(f"max_lr must be at least base_lr ({low}), got {high}")

    def __call__(self, iteration: Any) -> Any:
        """Return the learning rate of update `iteration` (0-based): an integer, or an array or tensor of them."""
        return self._rate(as_int64(iteration))

    def _rate(self, k: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define _rate(k)")


@dataclass(frozen=True)
class Fixed(Policy):
    """The same rate always: lr. (Caffe's "fixed".)

    >>> Fixed(0.001)(70_000)
    0.001
    """

    lr: float

    def _rate(self, k: Any) -> Any:
        return self.lr + 0 * as_float(k)


@dataclass(frozen=True)
class Exp(Policy):
    """Exponential decay: base_lr * gamma^iteration. (Caffe's "exp"; section 4.1.2 has gamma = 0.99994.)

    >>> round(Exp(0.001, 0.99994)(25_000), 8)
    0.00022312
    """

    base_lr: float
    gamma: float

    def _rate(self, k: Any) -> Any:
        return self.base_lr * self.gamma ** as_float(k)


@dataclass(frozen=True)
class Decay(Policy):
    """From max_lr linearly down to base_lr over step_size iterations, then base_lr. (Section 4.1.1's control.)

    >>> policy = Decay(0.001, 0.007, 4000)
    >>> policy(0), policy(2000), policy(9000)
    (0.007, 0.004, 0.001)
    """

    base_lr: float
    max_lr: float
    step_size: int

    def _rate(self, k: Any) -> Any:
        return lerp(self.base_lr, self.max_lr, as_float(self.step_size - minimum(k, self.step_size)) / self.step_size)


@dataclass(frozen=True)
class _Cyclic(Policy):
    """A rate that swings between base_lr and max_lr, up in step_size iterations and down in as many."""

    base_lr: float
    max_lr: float
    step_size: int

    @property
    def cycle_length(self) -> int:
        """Iterations in a whole cycle, up and down."""
        return 2 * self.step_size

    def _height(self, k: Any) -> Any:
        """Height in the cycle, 0 at its ends and 1 in its middle; exact, as all before the division is integer."""
        return as_float(self.step_size - abs(k % (2 * self.step_size) - self.step_size)) / self.step_size

    def _cycle(self, k: Any) -> Any:
        return k // (2 * self.step_size)


@dataclass(frozen=True)
class Triangular(_Cyclic):
    """The triangular policy: linear from base_lr up to max_lr in step_size iterations, and back. (Section 3.1.)

    >>> policy = Triangular(0.001, 0.006, 2000)
    >>> policy(0), round(policy(500), 15), policy(2000), policy(4000)
    (0.001, 0.00225, 0.006, 0.001)
    """

    def _rate(self, k: Any) -> Any:
        return lerp(self.base_lr, self.max_lr, self._height(k))


@dataclass(frozen=True)
class Triangular2(_Cyclic):
    """As triangular, but the difference between the bounds is halved after each cycle. (Section 3.1.)

    >>> policy = Triangular2(0.001, 0.006, 2000)
    >>> policy(2000), policy(6000), round(policy(10_000), 15)
    (0.006, 0.0035, 0.00225)
    """

    def _rate(self, k: Any) -> Any:
        return lerp(self.base_lr, self.max_lr, self._height(k) * 0.5 ** as_float(self._cycle(k)))


@dataclass(frozen=True)
class ExpRange(_Cyclic):
    """As triangular, with an exponential decline by gamma^iteration. (Section 3.1.)

    decays="bounds": both bounds decline, as the paper's words have it: triangular * gamma^iteration.
    decays="amplitude": only their difference does, as in Keras, TensorFlow and torch: base_lr is never left behind.

    >>> round(ExpRange(0.001, 0.006, 2000, 0.99994)(4000), 8)
    0.00078662
    >>> ExpRange(0.001, 0.006, 2000, 0.99994, decays="amplitude")(4000)
    0.001
    """

    gamma: float
    decays: str = "bounds"

    def _rate(self, k: Any) -> Any:
        decline = self.gamma ** as_float(k)
        if self.decays == "bounds":
            return lerp(self.base_lr, self.max_lr, self._height(k)) * decline
        return lerp(self.base_lr, self.max_lr, self._height(k) * decline)


@dataclass(frozen=True)
class Parabolic(_Cyclic):
    """A cycle in the shape of a Welch window: 1 - (2u - 1)^2 for u from 0 to 1. (Named in section 3.1.)

    >>> Parabolic(0.0, 1.0, 100)(50)
    0.75
    """

    def _rate(self, k: Any) -> Any:
        height = self._height(k)
        return lerp(self.base_lr, self.max_lr, height * (2 - height))


@dataclass(frozen=True)
class Sinusoidal(_Cyclic):
    """A cycle in the shape of a Hann window: sin^2(pi u) for u from 0 to 1. (Named in section 3.1.)

    >>> round(Sinusoidal(0.0, 1.0, 100)(50), 12)
    0.5
    """

    def _rate(self, k: Any) -> Any:
        return lerp(self.base_lr, self.max_lr, sin(self._height(k) * (math.pi / 2)) ** 2)


@dataclass(frozen=True)
class Ramp(Policy):
    """From start_lr to end_lr in `iterations` iterations, then end_lr: the LR range test. (Section 3.3.)

    spacing="linear" is the paper's; "exponential" multiplies by the same factor each time and needs start_lr > 0.

    >>> Ramp(0.0, 0.02, 4000)(1000)
    0.005
    >>> round(Ramp(1e-4, 1.0, 100, spacing="exponential")(50), 12)
    0.01
    """

    start_lr: float
    end_lr: float
    iterations: int
    spacing: str = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spacing == "exponential" and not (self.start_lr > 0 and self.end_lr > 0):
            name = "end_lr" if self.start_lr > 0 else "start_lr"
            raise ValueError(f'{name} must be > 0 for spacing="exponential", got {getattr(self, name)}')

    def _rate(self, k: Any) -> Any:
        k = minimum(k, self.iterations)
        done, left = as_float(k) / self.iterations, as_float(self.iterations - k) / self.iterations
        if self.spacing == "linear":
            return self.start_lr * left + self.end_lr * done
        return self.start_lr**left * self.end_lr**done


@dataclass(frozen=True)
class Stages(Policy):
    """One policy after another: {start: policy, ...}, each starting again at its own iteration 0.

    >>> fixed = Stages({0: Fixed(0.001), 60_000: Fixed(0.0001), 65_000: Fixed(0.00001)})
    >>> fixed(59_999), fixed(60_000), fixed(69_999)
    (0.001, 0.0001, 1e-05)
    """

    stages: Any  # given as the mapping; kept as ((start, policy), ...), in order of start

    def _rate(self, k: Any) -> Any:
        rate = self.stages[0][1]._rate(k)
        for start, policy in self.stages[1:]:
            if isinstance(k, int):
                rate = policy._rate(k - start) if k >= start else rate
            else:
                since = abs(k - start)  # where k < start the stage is multiplied away
                rate = rate * (k < start) + policy._rate(since) * (k >= start)
        return rate


def step_size(examples: int, batch_size: int, epochs: float = 4) -> int:
    """Return the iterations in half a cycle of `epochs` epochs; the paper advises 2 to 10. (Section 3.2.)

    >>> step_size(examples=50_000, batch_size=100, epochs=4)
    2000
    """
    examples, batch_size = _checks.positive_int("examples", examples), _checks.positive_int("batch_size", batch_size)
    if not 0 < _checks.number("epochs", epochs) < math.inf:
        raise ValueError(f"epochs must be a positive number, got {epochs!r}")
    return max(1, round(math.ceil(examples / batch_size) * epochs))


def cyclic_learning_rate(
    global_step: Any,
    learning_rate: float = 0.01,
    max_lr: float = 0.1,
    step_size: float = 20.0,
    gamma: float = 0.99994,
    mode: str = "triangular",
) -> Any:
    """Return the rate of `global_step` as the well-known TensorFlow implementation does: its call and defaults.

    mode is "triangular", "triangular2" or "exp_range"; the last declines in amplitude only.
    Source: mhmoodlan/cyclic-learning-rate, whose unknown modes mean "triangular"; here they are errors.

    >>> round(cyclic_learning_rate(5), 12)
    0.0325
    """
    base_lr, step_size = (
        _checks.nonnegative("learning_rate", learning_rate),
        _checks.positive_int("step_size", step_size),
    )
    if mode == "triangular":
        policy: Policy = Triangular(base_lr, max_lr, step_size)
    elif mode == "triangular2":
        policy = Triangular2(base_lr, max_lr, step_size)
    elif mode == "exp_range":
        policy = ExpRange(base_lr, max_lr, step_size, gamma, "amplitude")
    else:
        raise ValueError(f'mode must be "triangular", "triangular2" or "exp_range", got {mode!r}')
    return policy.__call__(global_step)  # by its name, or torch.compile up to 2.11 fails at a policy made inside


def to_dict(policy: Policy) -> dict[str, Any]:
    """Return a policy as plain JSON values, for `from_dict`.

    >>> to_dict(Fixed(0.1))
    {'policy': 'Fixed', 'lr': 0.1}
    """
    if not isinstance(policy, Policy):
        raise TypeError(f"policy must be one of clr's policies, got {policy!r}")
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}  # type: ignore[arg-type]
    if isinstance(policy, Stages):
        values = {"stages": [[start, to_dict(stage)] for start, stage in policy.stages]}
    return {"policy": type(policy).__name__, **values}


def from_dict(values: Mapping[str, Any]) -> Policy:
    """Return the policy that `to_dict` wrote.

    >>> from_dict({"policy": "Fixed", "lr": 0.1})
    Fixed(lr=0.1)
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"values must be a mapping that to_dict wrote, got {values!r}")
    arguments = dict(values)
    kind = arguments.pop("policy", None)
    if kind not in Policy._kinds:
        raise ValueError(f"policy must be one of {', '.join(sorted(Policy._kinds))}, got {kind!r}")
    if "stages" in arguments:
        arguments["stages"] = {start: from_dict(stage) for start, stage in arguments["stages"]}
    return Policy._kinds[kind](**arguments)


def _stages(name: str, value: Any) -> tuple[tuple[int, Policy], ...]:
    try:
        pairs = dict(value) if isinstance(value, (Mapping, tuple)) else {}
    except (TypeError, ValueError):  # a tuple of other things than pairs
        pairs = {}
    if not pairs:
        raise TypeError(f"{name} must be a mapping of first iterations to policies, got {value!r}")
    for start, policy in pairs.items():
        if isinstance(start, bool) or not hasattr(start, "__index__") or start < 0:
            raise ValueError(f"{name} must start at integers >= 0, got {start!r}")
        if not isinstance(policy, Policy):
            raise TypeError(f"{name} must hold policies, got {policy!r} at {start}")
    if 0 not in pairs:
        raise ValueError(f"{name} must have a policy for iteration 0, got one from {min(pairs)} on")
    return tuple((operator.index(start), pairs[start]) for start in sorted(pairs))


_CHECKS: dict[str, Any] = {
    "lr": _checks.nonnegative,
    "base_lr": _checks.nonnegative,
    "max_lr": _checks.nonnegative,
    "start_lr": _checks.nonnegative,
    "end_lr": _checks.nonnegative,
    "step_size": _checks.positive_int,
    "iterations": _checks.positive_int,
    "gamma": _checks.decay_factor,
    "stages": _stages,
    "decays": partial(_checks.choice, known=("bounds", "amplitude")),
    "spacing": partial(_checks.choice, known=("linear", "exponential")),
}
