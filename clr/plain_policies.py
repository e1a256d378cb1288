"""`Policy`, the base of all policies, and those that do not repeat a cycle: what cyclical ones are compared with.

`clr.policies` says what a policy is, and has them all.
"""

import math
from dataclasses import dataclass
from typing import Any

from clr import _checks
from clr._arithmetic import as_float, as_int64, lerp, minimum, sin

__all__ = ["Cosine", "Decay", "Exp", "Fixed", "OneCycle", "Policy", "Ramp"]


class Policy:
    """A learning rate that depends on the iteration alone; a subclass is a frozen dataclass with a `_rate(k)`."""

    def __post_init__(self) -> None:
        _checks.fields(self)
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
    """A constant rate: lr. (Caffe's "fixed".)

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
    """From max_lr linearly down to base_lr in step_size iterations, then base_lr. (Section 4.1.1's control.)

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
        left = as_float(minimum(2 * half + tail - minimum(k, 2 * half + tail), tail)) / tail  # 1 in the triangle
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
        fall = self.iterations - self.warmup
        risen = as_float(minimum(k, self.warmup) + 1) / (self.warmup + 1)
        left = as_float(minimum(self.iterations - minimum(k, self.iterations), fall)) / fall
        return self.max_lr * risen * sin(left * (math.pi / 2)) ** 2  # the half cosine, exact at both ends
