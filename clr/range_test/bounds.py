"""The bounds of a cyclical policy and the rates to train with, from the curves of LR range tests. (Paper: section 3.3.)

`clr.range_test.curve` explains how one curve is read. The bounds are means over the curves, with Student's interval.
The interval of a single curve comes from a block bootstrap of its prediction errors with random signs, which leaves the
noise of each part of the curve in its place. It does not cover the error of the smoothing itself, so it is widened by a
factor that `benchmarks/range_test_coverage.py` checks. The rates to train with come from the training losses
(`clr.range_test.peak`).
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd

from clr import _checks
from clr._stats import t_interval
from clr.policies import Cosine, Decay, Fixed, OneCycle, Policy, Triangular
from clr.range_test.curve import (
    MAX_LR_DIVISOR,
    MIN_EVALUATIONS,
    Curve,
    CurveKind,
    CurveShape,
    analyse,
    robust_std,
    smoothed,
    to_curve,
    wild_block_bootstrap,
)
from clr.range_test.peak import FACTORS, is_solved, peak_rates
from clr.range_test.record import RangeTest, as_range_tests, from_dict, share_rates, to_dict
from clr.range_test.verdict import format_bound, write_verdict

__all__ = ["Bounds", "format_bound", "suggest_bounds"]

RESAMPLES = 200
WIDEN = 2.0  # of the bootstrap's interval, which holds the truth of 85% of simulated curves; twice as wide, of 95%

Array = np.ndarray
Interval = tuple[float, float]
NO_INTERVAL = (float("nan"), float("nan"))
NO_PEAKS = dict.fromkeys(FACTORS, (float("nan"), NO_INTERVAL))


@dataclass(frozen=True, eq=False, repr=False)
class Bounds:
    """The bounds and the peak rates that range tests give, how certain they are, and why.

    base_lr, max_lr: learning rates, where learning starts and up to which it trains; NaN if unknown.
    base_ci, max_ci: 95% intervals, (low, high). If most curves rise by their first evaluation, base_ci begins at 0; if
        all do, it ends at base_lr.
    kind: what more than half of the curves show, or "disagree".
    verdict: what to do, what was seen, the bounds, and caveats, one sentence per line.
    curve: lr, mean of the metric, low and high (95% interval of the mean where no curve has ended; for one curve 95% of
        its noise), smooth, n (curves that reach this rate). Where the tests chose -loss, and no loss is 0 or negative,
        these are of -log(loss), which is what was read.  n_curves: how many.  spacing: "linear" or "exponential".
    peaks: by schedule, the rate to train with and the two rates between which the best one lies.  tests: the curves.
    """

    base_lr: float
    max_lr: float
    base_ci: Interval
    max_ci: Interval
    kind: CurveKind
    verdict: str
    curve: pd.DataFrame
    n_curves: int
    spacing: str
    peaks: dict[str, tuple[float, Interval]]
    tests: tuple[RangeTest, ...]

    def __repr__(self) -> str:
        known = f"peak_lr={self.peak_lr('linear'):.2g}, base_lr={self.base_lr:.2g}, max_lr={self.max_lr:.2g}"
        return f"Bounds({known}, n_curves={self.n_curves})"

    def __str__(self) -> str:
        words = [line for text in self.verdict.split("\n") for line in wrap(text, 100, subsequent_indent="  ")]
        if not np.isfinite(self._rates()).all():
            return "\n".join(words)
        rows = [f"  {name:<12}{lr:<11.2g}{ci[0]:.2g} to {ci[1]:.2g}" for name, (lr, ci) in self.peaks.items()]
        then = 'Next: bounds.policy("one-cycle", iterations=...)'
        return "\n".join([*words, "", f"  {'schedule':<12}{'peak rate':<11}best between", *rows, "", then])

    def __eq__(self, other: object) -> bool:
        """Return whether all values are equal, NaN to NaN."""
        return isinstance(other, Bounds) and json.dumps(self._values()) == json.dumps(other._values())

    def __hash__(self) -> int:
        return hash(self.verdict)

    def _values(self) -> dict[str, Any]:
        return vars(self) | {"curve": self.curve.to_dict("list"), "tests": [to_dict(test) for test in self.tests]}

    def _rates(self) -> list[float]:
        return [lr for lr, _ in self.peaks.values()]

    @property
    def failure_lr(self) -> float:
        """The rate at which half of the gain is lost or training diverges: three times max_lr. NaN if unknown."""
        return MAX_LR_DIVISOR * self.max_lr if self.kind in (CurveKind.PEAK, CurveKind.TOO_NARROW) else float("nan")

    @property
    def landmark(self) -> float:
        """The rate that the peak rates are a part of, as `clr.range_test.peak` reads it off the training losses.

        There half of their fall is lost again; else it is the end of the test or, if the losses fall to a hundredth,
        where they first do. NaN where they never fall clearly.
        """
        return self.peaks["linear"][0] * FACTORS["linear"]

    def peak_lr(self, schedule: str) -> float:
        """Return the rate to train with: the peak of a "constant", "triangular", "linear", "one-cycle" or "cosine"."""
        return self.peaks[_checks.choice("schedule", schedule, self.peaks)][0]

    def peak_ci(self, schedule: str) -> Interval:
        """Return the rates between which the best peak of a schedule should lie, a factor of four either way.

        It did in 94% of the benchmark's cases (in 88% with "linear", in 94% or more with the others): see
        benchmarks/README.md. The curves do not widen or narrow it.
        """
        return self.peaks[_checks.choice("schedule", schedule, self.peaks)][1]

    def policy(self, schedule: str, iterations: int, cycles: int = 2) -> Policy:
        """Return a policy with the schedule's peak rate, ready for `PolicyLR`.

        Args:
            schedule: "constant"; "triangular" (up from a quarter of the peak and back, `cycles` times or, where
                iterations is no multiple of 2 cycles, nearly as often); "linear" (the peak, then
                down to 0 in a line); "one-cycle" (from a tenth of the peak up, back, and down to a thousandth);
                "cosine" (5% of the updates to warm up).
            iterations: updates of the whole run.

        Raises:
            ValueError: the peak rate is unknown, or an argument is out of range.
        """
        peak, n = self.peak_lr(schedule), _checks.positive_int("iterations", iterations)
        if not np.isfinite(peak):
            why = " ".join(self.verdict.splitlines()[:2])
            raise ValueError(f"schedule must have a known peak rate, got {schedule!r}: {why}")
        if schedule == "triangular":
            if n < 2 * _checks.positive_int("cycles", cycles):
                raise ValueError(f"cycles must be at most iterations / 2, got {cycles} in {n} iterations")
            return Triangular(peak / 4, peak, round(n / (2 * int(cycles))))
        if schedule == "one-cycle":
            return OneCycle(peak / 10, peak, n)
        if schedule == "cosine":
            return Cosine(peak, n, warmup=n // 20)
        return Fixed(peak) if schedule == "constant" else Decay(0.0, peak, n)

    def plot(self, ax: Any = None) -> Any:
        """Draw the curve, its band, the bounds with their intervals and the peak rate on `ax` (None for new axes)."""
        from clr.figures import draw_peak, draw_range_test

        name = _in_logs(self.tests)[0].metric_name
        ax = draw_range_test(ax, self.curve, self, self.spacing, metric=name)
        draw_peak(ax, self)
        return ax

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write everything, curves included; `from_json` reads it back exactly."""
        with open(_checks.path("path", path), "w", encoding="utf-8") as file:
            json.dump(self._values(), file, indent=1)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "Bounds":
        """Read what `to_json` wrote.

        Raises:
            ValueError: the file is not JSON, or lacks a field.
        """
        with open(_checks.path("path", path), encoding="utf-8") as file:
            try:
                values = json.load(file)
            except ValueError as error:
                raise ValueError(f"path must be a file that to_json wrote, got {path}: {error}") from None
        known = values if isinstance(values, dict) else {}
        if missing := [field.name for field in fields(cls) if field.name not in known]:
            raise ValueError(f"path must be a file that to_json wrote, got {path}, which lacks {', '.join(missing)}")
        intervals = {name: tuple(values[name]) for name in ("base_ci", "max_ci")}
        peaks = {name: (lr, tuple(ci)) for name, (lr, ci) in values["peaks"].items()}
        frames = {"curve": pd.DataFrame(values["curve"]), "tests": tuple(from_dict(test) for test in values["tests"])}
        return cls(**values | intervals | frames | {"kind": CurveKind(values["kind"]), "peaks": peaks})


def suggest_bounds(tests: Any) -> Bounds:
    """Return bounds and peak rates from one range test, or better from several, one per seed.

    Args:
        tests: a `RangeTest`, a sequence of them, or a tidy DataFrame with the columns lr and metric (larger is better),
            seed if it holds several curves, and train_loss for divergence and the peak rates, which also need
            exponential spacing. A row whose lr is NaN is the untrained model; without one the curve's first evaluations
            stand for it.

    Raises:
        TypeError: tests are of another kind.
        ValueError: a column is missing, there is no curve, or the curves are of several nets or data sets.

    >>> lr = np.linspace(0.01, 1, 100)
    >>> bounds = suggest_bounds(pd.DataFrame({"lr": lr, "metric": np.clip(lr - 0.2, 0, 0.3)}))
    >>> round(bounds.base_lr, 2), round(bounds.max_lr, 1)
    (0.2, 0.5)
    """
    found = as_range_tests(tests)
    read = _in_logs(found)
    curves = [to_curve(test) for test in read]
    shapes = [analyse(curve) for curve in curves]
    kind = _majority([shape.kind for shape in shapes])
    (base_lr, base_ci), (max_lr, max_ci) = _bounds(curves, shapes, kind)
    table = _mean_curve([test.frame for test in read], curves)
    bad_data = CurveKind.BAD_DATA in {shape.kind for shape in shapes}
    losses = [] if bad_data and kind in (CurveKind.BAD_DATA, CurveKind.DISAGREE) else _loss_curves(found)
    peaks, solved = (peak_rates(losses), is_solved(losses)) if losses else (NO_PEAKS, False)
    bounds = Bounds(
        base_lr, max_lr, base_ci, max_ci, kind, "", table, len(curves), found[0].spacing, peaks, tuple(found)
    )
    verdict = write_verdict(bounds, shapes, curves, read[0], _log_max_lr(curves, read), solved)
    return replace(bounds, verdict=verdict)


# From curves to bounds


def _bounds(
    curves: Sequence[Curve], shapes: Sequence[CurveShape], kind: CurveKind
) -> tuple[tuple[float, Interval], tuple[float, Interval]]:
    """Return base_lr and max_lr with their intervals, from the curves of this kind."""
    agreeing = [shape for shape in shapes if shape.kind == kind]
    one = len(curves) == 1 and np.isfinite([shapes[0].base_x, shapes[0].max_x]).any()
    samples = [sample for sample in wild_block_bootstrap(curves[0], RESAMPLES) if sample.kind == kind] if one else []
    n, log = len(curves), curves[0].log_axis
    base_lr, base_ci = _estimate([s.base_x for s in agreeing], n, [s.base_x for s in samples], log)
    max_lr, max_ci = _estimate([s.max_x for s in agreeing], n, [s.max_x for s in samples], log)
    at_start = [shape.rises_at_start for shape in agreeing]
    if np.isfinite(base_lr) and 2 * sum(at_start) > len(at_start):  # how far below the first evaluation is not seen
        base_ci = (0.0, base_lr if all(at_start) else base_ci[1])
    return (base_lr, base_ci), (max_lr, max_ci)


def _majority(kinds: Sequence[CurveKind]) -> CurveKind:
    """Return what more than half of the curves show, or that they disagree."""
    ((kind, count),) = Counter(kinds).most_common(1)
    return kind if 2 * count > len(kinds) else CurveKind.DISAGREE


def _estimate(places: Sequence[float], n_curves: int, samples: Sequence[float], log: bool) -> tuple[float, Interval]:
    """Return a rate and its interval from places on the axis: of most curves, or of one curve and its resamples."""
    finite, resampled = (np.array([place for place in values if np.isfinite(place)]) for values in (places, samples))
    if n_curves == 1 and len(finite) and len(resampled):
        low, high = finite[0] + WIDEN * (np.quantile(resampled, [0.025, 0.975]) - finite[0])
    elif len(finite) >= 2 and 2 * len(finite) > n_curves:
        low, high = t_interval(finite.mean(), finite.std(ddof=1) / np.sqrt(len(finite)), len(finite))
    else:
        return float("nan"), NO_INTERVAL
    places = min(low, finite.mean()), finite.mean(), max(high, finite.mean())
    low, lr, high = (float(np.exp(x)) if log else max(0.0, float(x)) for x in places)
    return lr, (low, high)


def _in_logs(tests: Sequence[RangeTest]) -> list[RangeTest]:
    """Return tests that chose -loss as metric with -log(loss) instead, if no loss is 0 or negative."""
    metrics = [test.frame["metric"].to_numpy(float) for test in tests]
    if any(test.metric_name != "-loss" for test in tests) or any((m >= 0).any() for m in metrics):
        return list(tests)
    frames = [test.frame.assign(metric=-np.log(-metric)) for test, metric in zip(tests, metrics, strict=True)]
    return [replace(t, frame=frame, metric_name="-log(loss)") for t, frame in zip(tests, frames, strict=True)]


def _log_max_lr(curves: Sequence[Curve], tests: Sequence[RangeTest]) -> float:
    """Return the max_lr that -log(loss) would give where the metric is a loss with a minus, otherwise NaN."""
    for curve, test in zip(curves, tests, strict=True):
        losses = test.frame.get("train_loss", pd.Series(dtype=float)).dropna()
        if not len(losses) or not len(curve.y) or max(curve.y.max(), curve.untrained_metric) >= 0:
            return float("nan")
        if not 0.5 < -curve.untrained_metric / losses.iloc[0] < 2:
            return float("nan")
    logs = [replace(c, y=-np.log(-c.y), untrained_metric=-np.log(-c.untrained_metric)) for c in curves]
    shapes = [analyse(curve) for curve in logs]
    kind = _majority([shape.kind for shape in shapes])
    places = [shape.max_x for shape in shapes if shape.kind == kind and np.isfinite(shape.max_x)]
    return float(np.exp(np.mean(places)) if curves[0].log_axis else np.mean(places)) if places else float("nan")


def _loss_curves(tests: Sequence[RangeTest]) -> list[tuple[Any, Any]]:
    """Return the training losses by rate; none unless all tests have them, at rates that rise by a constant ratio."""
    if not all("train_loss" in test.frame for test in tests):
        return []
    losses = [test.rates_and_losses() for test in tests]
    most = max(len(rates) for rates, _ in losses)
    if tests[0].spacing != "exponential" or most < MIN_EVALUATIONS or not share_rates(tests):
        return []
    return [pair for pair in losses if len(pair[0])]


def _mean_curve(frames: Sequence[pd.DataFrame], curves: Sequence[Curve]) -> pd.DataFrame:
    by_rate = pd.concat(frames).dropna(subset="lr").groupby("lr")["metric"]
    table = by_rate.agg(["mean", "std", "count"]).reset_index()
    lr, count = table["lr"].to_numpy(), table["count"].to_numpy()
    smooth = _mean_smooth(lr, curves)
    if len(curves) == 1:
        enough = len(curves[0].y) >= MIN_EVALUATIONS
        half = 1.96 * robust_std(smoothed(curves[0])[1]) if enough else np.nan
        low, high = smooth - half, smooth + half
    else:  # where some have diverged, the others are not a fair sample
        whole = np.where(count == len(curves), table["std"], np.nan)
        low, high = t_interval(table["mean"].to_numpy(), whole / np.sqrt(count), count)
    return pd.DataFrame({"lr": lr, "mean": table["mean"], "low": low, "high": high, "smooth": smooth, "n": count})


def _mean_smooth(lr: Array, curves: Sequence[Curve]) -> Array:
    """Return the mean of the smoothed curves at the rates, NaN beyond the end of any."""
    smooths = []
    for curve in (curve for curve in curves if len(curve.y) >= MIN_EVALUATIONS):
        at = np.exp(curve.x) if curve.log_axis else curve.x
        beyond = lr > at[-1] * (1 + 1e-9)  # a rate and the exponential of its logarithm are nearly equal
        smooths.append(np.where(beyond, np.nan, np.interp(lr, at, smoothed(curve)[0])))
    return np.mean(smooths, axis=0) if smooths else np.nan * lr
