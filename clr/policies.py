"""The learning-rate policies of Cyclical Learning Rates for Training Neural Networks (Smith, arXiv:1506.01186).

A policy is a frozen dataclass. Call it with the iteration: the number of updates made so far, so update k has the rate
`policy(k)`, k = 0, 1, ... The rate depends on nothing else. You can print, compare, plot and save a policy without an
optimizer. An int gives a float, an integer array or tensor gives a float64 one of its shape (float32 on devices
without float64). The formulas are plain arithmetic on any of these, so this file imports neither numpy nor torch.

    lr  |  max_lr      /\\        /\\
        |            /    \\    /    \\        step_size: iterations in half a cycle
        |  base_lr /        \\/        \\
        +-------------------------------- iteration
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import partial
from typing import Any

from clr import _checks
from clr._arithmetic import as_float, as_int64, lerp, minimum, sin
from clr._checks import brief, shorten

__all__ = [
    "POLICIES", "Cosine", "Cyclic", "Decay", "Exp", "ExpRange", "Fixed", "OneCycle", "Parabolic", "Policy", "Ramp",
    "Sinusoidal", "Stages", "Triangular", "Triangular2", "from_dict", "step_size", "to_dict",
]  # fmt: skip


class Policy:
    """A learning rate that depends on the iteration alone.

    A subclass is a frozen dataclass with a `_rate(k)`, which takes an integer and an array or tensor of them alike.
    """

    def __post_init__(self) -> None:
        _checks.fields(self, _checks.POLICY_RULES)  # each field by the rule of its name
        low, high = getattr(self, "base_lr", None), getattr(self, "max_lr", None)
        if low is not None and high is not None and low > high:
            raise ValueError(f"max_lr must be at least base_lr ({low}), got {high}")

    def __call__(self, iteration: Any) -> Any:
        """Return the learning rate of update `iteration` (0-based): an integer, or an array or tensor of them."""
        return self._rate(as_int64(iteration))

    def _rate(self, k: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define _rate(k)")


@dataclass(frozen=True)
class Cyclic(Policy):
    """A rate that swings between base_lr and max_lr: up in step_size iterations and down in as many."""

    base_lr: float
    max_lr: float
    step_size: int

    @property
    def cycle_length(self) -> int:
        """Iterations in a whole cycle, up and down."""
        return 2 * self.step_size

    def _height(self, k: Any) -> Any:
        """Return the height in the cycle, 0 at its ends and 1 in its middle; integers up to the last division."""
        return as_float(self.step_size - abs(k % self.cycle_length - self.step_size)) / self.step_size


@dataclass(frozen=True)
class Triangular(Cyclic):
    """The triangular policy: linear from base_lr up to max_lr in step_size iterations, and back. (Section 3.1.)

    >>> policy = Triangular(0.001, 0.006, 2000)
    >>> policy(0), round(policy(500), 15), policy(2000), policy(4000)
    (0.001, 0.00225, 0.006, 0.001)
    >>> policy.cycle_length
    4000
    """

    def _rate(self, k: Any) -> Any:
        return lerp(self.base_lr, self.max_lr, self._height(k))


@dataclass(frozen=True)
class Triangular2(Cyclic):
    """Like triangular, but the difference between the bounds is halved after each cycle. (Section 3.1.)

    >>> policy = Triangular2(0.001, 0.006, 2000)
    >>> policy(2000), policy(6000), round(policy(10_000), 15)
    (0.006, 0.0035, 0.00225)
    """

    def _rate(self, k: Any) -> Any:
        return lerp(self.base_lr, self.max_lr, self._height(k) * 0.5 ** as_float(k // self.cycle_length))


@dataclass(frozen=True)
class ExpRange(Cyclic):
    """Like triangular, with an exponential decline by gamma^iteration. (Section 3.1.)

    decays="bounds": both bounds decline, as the paper's words have it: triangular * gamma^iteration.
    decays="amplitude": only their difference declines, as in Keras, TensorFlow and torch; every cycle ends at base_lr.

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
class Parabolic(Cyclic):
    """A cycle in the shape of a Welch window: 1 - (2u - 1)^2 for u from 0 to 1. (Named in section 3.1.)

    >>> Parabolic(0.0, 1.0, 100)(50)
    0.75
    """

    def _rate(self, k: Any) -> Any:
        height = self._height(k)
        return lerp(self.base_lr, self.max_lr, height * (2 - height))


@dataclass(frozen=True)
class Sinusoidal(Cyclic):
    """A cycle in the shape of a Hann window: sin^2(pi u) for u from 0 to 1. (Named in section 3.1.)

    >>> round(Sinusoidal(0.0, 1.0, 100)(50), 12)
    0.5
    """

    def _rate(self, k: Any) -> Any:
        return lerp(self.base_lr, self.max_lr, sin(self._height(k) * (math.pi / 2)) ** 2)


# Without cycles: what cyclical policies are compared with


def _left(k: Any, start: int, end: int) -> Any:
    """Return what is left of a descent: 1 up to `start`, then in a line down to 0 at `end`, and 0 from there on."""
    return as_float(minimum(end - minimum(k, end), end - start)) / (end - start)


@dataclass(frozen=True)
class Fixed(Policy):
    """A constant rate: lr. (Caffe's "fixed".)

    >>> Fixed(0.001)(70_000)
    0.001
    """

    lr: float

    def _rate(self, k: Any) -> Any:
        return self.lr + 0 * as_float(k)  # in the shape of k


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
    """From max_lr linearly down to base_lr in step_size iterations, then base_lr. (Section 4.1.1's control.)

    >>> policy = Decay(0.001, 0.007, 4000)  # Decay(0.0, lr, n) is a line to zero
    >>> policy(0), policy(2000), policy(9000)
    (0.007, 0.004, 0.001)
    """

    base_lr: float
    max_lr: float
    step_size: int

    def _rate(self, k: Any) -> Any:
        return lerp(self.base_lr, self.max_lr, _left(k, 0, self.step_size))


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
        done, left = as_float(minimum(k, self.iterations)) / self.iterations, _left(k, 0, self.iterations)
        if self.spacing == "linear":
            return self.start_lr * left + self.end_lr * done
        return self.start_lr**left * self.end_lr**done


@dataclass(frozen=True)
class OneCycle(Policy):
    """One cycle and a descent: up to max_lr in 45 % of `iterations`, back in 45 %, then down to base_lr / 100.

    Source: Smith and Topin, arXiv:1708.07120. To lower the momentum from 0.95 to 0.85 while the rate rises, as they do:
    `PolicyLR(optimizer, OneCycle(0.1, 1.0, n), momentum=lambda k: 0.95 - 0.1 * OneCycle(0, 1, n)(k))`.

    >>> policy = OneCycle(0.1, 1.0, 100)
    >>> policy(0), policy(45), policy(90), policy(100)
    (0.1, 1.0, 0.1, 0.001)
    """

    base_lr: float
    max_lr: float
    iterations: int

    def _rate(self, k: Any) -> Any:
        half = max(1, 9 * self.iterations // 20)
        tail = max(1, self.iterations - 2 * half)
        height = as_float(half - abs(minimum(k, 2 * half) - half)) / half  # 0 in the descent
        left = _left(k, 2 * half, 2 * half + tail)  # 1 in the triangle
        return lerp(lerp(self.base_lr / 100, self.base_lr, left), self.max_lr, height)


@dataclass(frozen=True)
class Cosine(Policy):
    """A linear warmup, then half a cosine down to 0 at `iterations`, and 0 from there on.

    Up to update `warmup` the rate is max_lr (k + 1) / (warmup + 1), so no update is lost at rate 0. From there it is
    max_lr (1 + cos(pi (k - warmup) / (iterations - warmup))) / 2. (Loshchilov and Hutter, arXiv:1608.03983.)

    >>> policy = Cosine(1.0, 100, warmup=4)
    >>> policy(0), policy(4), round(policy(52), 12), policy(100)
    (0.2, 1.0, 0.5, 0.0)
    """

    max_lr: float
    iterations: int
    warmup: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup >= self.iterations:
            raise ValueError(f"warmup must be less than iterations ({self.iterations}), got {self.warmup}")

    def _rate(self, k: Any) -> Any:
        risen = as_float(minimum(k, self.warmup) + 1) / (self.warmup + 1)
        left = _left(k, self.warmup, self.iterations)
        return self.max_lr * risen * sin(left * (math.pi / 2)) ** 2  # the half cosine, exact at both ends


@dataclass(frozen=True)
class Stages(Policy):
    """One policy after another: {start: policy, ...}. Each begins at its own iteration 0 when its stage starts.

    >>> fixed = Stages({0: Fixed(0.001), 60_000: Fixed(0.0001), 65_000: Fixed(0.00001)})
    >>> fixed(59_999), fixed(60_000), fixed(69_999)
    (0.001, 0.0001, 1e-05)
    """

    stages: Any  # a mapping, or (start, policy) pairs; kept as such pairs in order of start

    def __post_init__(self) -> None:
        _checks.fields(self, _checks.POLICY_RULES, stages=partial(_checks.stages, kind=Policy))

    def _rate(self, k: Any) -> Any:
        if isinstance(k, int):
            start, policy = [stage for stage in self.stages if stage[0] <= k][-1]
            return policy._rate(k - start)
        ends = [*(start for start, _ in self.stages[1:]), math.inf]
        parts = zip(self.stages, ends, strict=True)
        return sum(policy._rate(abs(k - start)) * ((start <= k) & (k < end)) for (start, policy), end in parts)


def step_size(examples: int, batch_size: int, epochs: float = 4) -> int:
    """Return the iterations of `epochs` epochs, half a cycle; the paper advises 2 to 10 epochs. (Section 3.2.)

    >>> step_size(examples=50_000, batch_size=100, epochs=4)
    2000
    """
    examples, batch_size = _checks.positive_int("examples", examples), _checks.positive_int("batch_size", batch_size)
    if not 0 < _checks.number("epochs", epochs) < math.inf:
        raise ValueError(f"epochs must be a positive number, got {brief(epochs)}")
    return max(1, round(math.ceil(examples / batch_size) * epochs))


POLICIES: dict[str, type[Policy]] = {
    cls.__name__: cls
    for cls in (
        Cosine, Decay, Exp, ExpRange, Fixed, OneCycle, Parabolic, Ramp, Sinusoidal, Stages, Triangular, Triangular2,
    )
}  # fmt: skip


def to_dict(policy: Policy) -> dict[str, Any]:
    """Return a policy of `POLICIES` as plain JSON values, for `from_dict`.

    >>> to_dict(Fixed(0.1))
    {'policy': 'Fixed', 'lr': 0.1}
    """
    name = type(policy).__name__
    if POLICIES.get(name) is not type(policy):
        raise TypeError(f"policy must be one of clr's policies, got {brief(policy)}")
    if isinstance(policy, Stages):
        return {"policy": name, "stages": [[start, to_dict(stage)] for start, stage in policy.stages]}
    return {"policy": name, **vars(policy)}


def from_dict(values: Mapping[str, Any]) -> Policy:
    """Return the policy that `to_dict` wrote. JSON written by hand may hold stages as {"0": {...}, "1000": {...}}.

    >>> from_dict({"policy": "Fixed", "lr": 0.1})
    Fixed(lr=0.1)
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"values must be a mapping that to_dict wrote, got {brief(values)}")
    arguments = dict(values)
    name = arguments.pop("policy", None)
    if not isinstance(name, str) or name not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {brief(name)}")
    known = [field.name for field in fields(POLICIES[name])]  # type: ignore[arg-type]
    required = {field.name for field in fields(POLICIES[name]) if field.default is MISSING}  # type: ignore[arg-type]
    if not required <= arguments.keys() <= set(known):
        found = shorten(", ".join(map(str, arguments))) or "nothing"
        raise ValueError(f"{name} must have {', '.join(known)}, got {found}")
    if name == "Stages":
        pairs = _checks.pairs("stages", arguments["stages"])
        arguments["stages"] = [(int(k) if isinstance(k, str) and k.isdecimal() else k, from_dict(v)) for k, v in pairs]
    return POLICIES[name](**arguments)
