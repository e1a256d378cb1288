"""The learning-rate policies of Cyclical Learning Rates for Training Neural Networks (Smith, arXiv:1506.01186).

A policy is a frozen dataclass. Call it with the iteration: the number of updates made so far, so update k has the rate
`policy(k)`, k = 0, 1, ... The rate depends on nothing else. You can print, compare, plot and save a policy without an
optimizer. An int gives a float, an integer array or tensor gives a float64 one of its shape (float32 on devices
without float64). The formulas are plain arithmetic on any of these, so this file imports neither numpy nor torch.
Policies without cycles are in `clr.plain_policies`, and here under the same names.

    lr  |  max_lr      /\\        /\\
        |            /    \\    /    \\        step_size: iterations in half a cycle
        |  base_lr /        \\/        \\
        +-------------------------------- iteration
"""

import math
import operator
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from clr import _checks
from clr._arithmetic import as_float, lerp, sin
from clr._checks import brief, shorten
from clr.plain_policies import Cosine, Decay, Exp, Fixed, OneCycle, Policy, Ramp

__all__ = [
    "POLICIES", "Cosine", "Cyclic", "Decay", "Exp", "ExpRange", "Fixed", "OneCycle", "Parabolic", "Policy", "Ramp",
    "Sinusoidal", "Stages", "Triangular", "Triangular2", "cyclic_learning_rate", "from_dict", "step_size", "to_dict",
]  # fmt: skip


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

    def _cycle(self, k: Any) -> Any:
        return k // self.cycle_length


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
        return lerp(self.base_lr, self.max_lr, self._height(k) * 0.5 ** as_float(self._cycle(k)))


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


@dataclass(frozen=True)
class Stages(Policy):
    """One policy after another: {start: policy, ...}. Each begins at its own iteration 0 when its stage starts.

    >>> fixed = Stages({0: Fixed(0.001), 60_000: Fixed(0.0001), 65_000: Fixed(0.00001)})
    >>> fixed(59_999), fixed(60_000), fixed(69_999)
    (0.001, 0.0001, 1e-05)
    """

    stages: Any  # a mapping, or (start, policy) pairs; kept as such pairs in order of start

    def __post_init__(self) -> None:
        _checks.fields(self, stages=_stages)

    def _rate(self, k: Any) -> Any:
        rate = self.stages[0][1]._rate(k)
        for start, policy in self.stages[1:]:
            if isinstance(k, int):
                rate = policy._rate(k - start) if k >= start else rate
            else:
                since = abs(k - start)  # where k < start the stage is multiplied away
                rate = rate * (k < start) + policy._rate(since) * (k >= start)
        return rate


def _stages(name: str, value: Any) -> tuple[tuple[int, Policy], ...]:
    try:
        pairs = list(value.items()) if isinstance(value, Mapping) else [(k, v) for k, v in value]
    except (TypeError, ValueError):  # not a sequence of pairs
        pairs = []
    if not pairs:
        raise TypeError(f"{name} must be a mapping of first iterations to policies, got {brief(value)}")
    for start, policy in pairs:
        if isinstance(start, bool) or not hasattr(start, "__index__") or start < 0:
            raise ValueError(f"{name} must start at integers >= 0, got {brief(start)}")
        if not isinstance(policy, Policy):
            raise TypeError(f"{name} must hold policies, got {brief(policy)} at {start}")
    by_start = {operator.index(start): policy for start, policy in sorted(pairs, key=lambda pair: pair[0])}
    if 0 not in by_start:
        raise ValueError(f"{name} must have a policy for iteration 0, got one from {min(by_start)} on")
    if len(by_start) < len(pairs):
        raise ValueError(f"{name} must have one policy per start, got {shorten(str([start for start, _ in pairs]))}")
    return tuple(by_start.items())


# In iterations, and as a function


def step_size(examples: int, batch_size: int, epochs: float = 4) -> int:
    """Return the iterations in half a cycle of `epochs` epochs; the paper advises 2 to 10. (Section 3.2.)

    >>> step_size(examples=50_000, batch_size=100, epochs=4)
    2000
    """
    examples, batch_size = _checks.positive_int("examples", examples), _checks.positive_int("batch_size", batch_size)
    if not 0 < _checks.number("epochs", epochs) < math.inf:
        raise ValueError(f"epochs must be a positive number, got {brief(epochs)}")
    return max(1, round(math.ceil(examples / batch_size) * epochs))


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


# As JSON

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
    known = {field.name: field.default is MISSING for field in fields(POLICIES[name])}  # type: ignore[arg-type]
    if not arguments.keys() <= known.keys() or any(known[field] and field not in arguments for field in known):
        found = shorten(", ".join(map(str, arguments))) or "nothing"
        raise ValueError(f"{name} must have {', '.join(known)}, got {found}")
    if name == "Stages":
        arguments["stages"] = _stages_from_json(arguments["stages"])
    return POLICIES[name](**arguments)


def _stages_from_json(stages: Any) -> Any:
    try:
        pairs = [(k, v) for k, v in (stages.items() if isinstance(stages, Mapping) else stages)]
    except (TypeError, ValueError):
        return stages  # which Stages refuses
    return [(int(k) if isinstance(k, str) and k.isdecimal() else k, from_dict(v)) for k, v in pairs]
