"""The two bounds of a cyclical policy, read off the curves of LR range tests. (Paper: section 3.3.)

`clr.range_test.curve` says how one curve is read. The bounds are means over the curves, with Student's interval. The
interval of a single curve comes from a block bootstrap of its prediction errors with random signs, which keeps the
noise of every stretch of the curve where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from clr._stats import t_interval
from clr.range_test.curve import (
    MIN_EVALUATIONS,
    Curve,
    CurveKind,
    CurveShape,
    analyse,
    cross_validated_spline,
    has_diverged,
    robust_std,
    wild_block_bootstrap,
)  # fmt: skip

__all__ = ["Bounds", "format_bound", "suggest_bounds"]

RESAMPLES = 200

Array = np.ndarray
Interval = tuple[float, float]
NO_INTERVAL = (float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class Bounds:
    """The bounds that range tests give, how certain they are, and why.

    base_lr, max_lr: learning rates; NaN if unknown.  base_ci, max_ci: 95% intervals, (low, high). base_ci begins at 0
        if most curves rise by their first evaluation, and ends at base_lr if all do.
    kind: what most curves show.  verdict: what was seen, the bounds, and what to do, in sentences; `str(bounds)`, too.
    curve: lr, mean of the metric, low and high (95% interval of the mean where no curve has ended; for one curve 95% of
        its noise), smooth, n (curves that reach this rate).  n_curves: how many.  spacing: "linear" or "exponential".
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

    def __str__(self) -> str:
        return self.verdict

    def plot(self, ax: Any = None) -> Any:
        """Draw the curve, its band and the bounds with their intervals on `ax` (None for new axes); return it."""
        from clr.figures import draw_range_test

        return draw_range_test(ax, self.curve, self, self.spacing)


def suggest_bounds(tests: Any) -> Bounds:
    """Return `base_lr` and `max_lr` from one range test, or better from several, one per seed.

    Args:
        tests: a `RangeTest`, a sequence of them, or a tidy DataFrame with the columns lr and metric (larger is better),
            seed if it holds several curves, and train_loss if that should show divergence. A row whose lr is NaN is the
            untrained model; without one the curve's first evaluations stand for it.

    Raises:
        TypeError: tests are of another kind.  ValueError: a column is missing, or there is no curve.

    >>> lr = np.linspace(0.01, 1, 100)
    >>> bounds = suggest_bounds(pd.DataFrame({"lr": lr, "metric": np.clip(lr - 0.2, 0, 0.3)}))
    >>> round(bounds.base_lr, 2), round(bounds.max_lr, 1)
    (0.2, 0.5)
    """
    frames, spacing, held_out = _frames(tests)
    curves = [_curve(frame, spacing == "exponential") for frame in frames]
    shapes = [analyse(curve) for curve in curves]
    kind = _majority([shape.kind for shape in shapes])
    agreeing = [shape for shape in shapes if shape.kind == kind]
    samples = wild_block_bootstrap(curves[0], RESAMPLES) if len(curves) == 1 and kind in _HAS_BOUND else []
    samples = [sample for sample in samples if sample.kind == kind]
    log = curves[0].log_axis
    base_lr, base_ci = _estimate([s.base_x for s in agreeing], len(curves), [s.base_x for s in samples], log)
    max_lr, max_ci = _estimate([s.max_x for s in agreeing], len(curves), [s.max_x for s in samples], log)
    at_start = [shape.rises_at_start for shape in agreeing]
    if np.isfinite(base_lr) and 2 * sum(at_start) > len(at_start):  # how far below the first evaluation is not seen
        base_ci = (0.0, base_lr if all(at_start) else base_ci[1])
    bounds = Bounds(
        base_lr, max_lr, base_ci, max_ci, kind, "", _mean_curve(frames, curves), len(curves), spacing
    )  # fmt: skip
    return replace(bounds, verdict=_verdict(bounds, agreeing, sum(c.diverged for c in curves), held_out))


def format_bound(lr: float, ci: Interval) -> str:
    """Return a bound with its interval, in words.

    >>> format_bound(0.0123, (0.011, 0.0139)), format_bound(0.0005, (0.0, 0.0005))
    ('0.012 (95% CI 0.011 to 0.014)', '0.0005 or lower')
    """
    low, high = ci
    return f"{lr:.2g} or lower" if low == 0 and high == lr else f"{lr:.2g} (95% CI {low:.2g} to {high:.2g})"


# From curves to bounds

_HAS_BOUND = (CurveKind.PEAK, CurveKind.PLATEAU, CurveKind.RISING, CurveKind.TOO_NARROW)


def _majority(kinds: Sequence[CurveKind]) -> CurveKind:
    """Return what most curves show; of two that are as frequent, the one that `CurveKind` lists first."""
    return max(CurveKind, key=kinds.count)


def _estimate(places: Sequence[float], n_curves: int, samples: Sequence[float], log: bool) -> tuple[float, Interval]:
    """Return a rate and its interval from places on the axis: of most curves, or of one curve and its resamples."""
    finite, resampled = (np.array([place for place in values if np.isfinite(place)]) for values in (places, samples))
    if n_curves == 1 and len(finite) and len(resampled):
        low, high = np.quantile(resampled, [0.025, 0.975])
    elif len(finite) >= 2 and 2 * len(finite) > n_curves:
        low, high = t_interval(finite.mean(), finite.std(ddof=1) / np.sqrt(len(finite)), len(finite))
    else:
        return float("nan"), NO_INTERVAL
    places = min(low, finite.mean()), finite.mean(), max(high, finite.mean())
    low, lr, high = (float(np.exp(x)) if log else max(0.0, float(x)) for x in places)
    return lr, (low, high)


# Taking curves in


def _frames(tests: Any) -> tuple[list[pd.DataFrame], str, bool]:
    if isinstance(tests, pd.DataFrame):
        missing = [name for name in ("lr", "metric") if name not in tests]
        if missing:
            known = ", ".join(map(str, tests.columns))
            raise ValueError(f"tests must have the column {missing[0]!r} (rename yours), got {known}")
        for name in ("lr", "metric"):
            if not pd.api.types.is_numeric_dtype(tests[name]):
                raise TypeError(f"tests must hold numbers in the column {name!r}, got {tests[name].dtype}")
        frames = [part for _, part in tests.groupby("seed", dropna=False)] if "seed" in tests else [tests]
        if any(part["lr"].dropna().duplicated().any() for part in frames):
            raise ValueError("tests must have one row a rate in each curve: give curves a column 'seed'")
        return _nonempty(frames), _spacing(tests["lr"].to_numpy(float)), True
    tests = [tests] if hasattr(tests, "frame") else tests
    if not isinstance(tests, Sequence) or not all(hasattr(test, "frame") for test in tests):
        raise TypeError(f"tests must be range tests or a DataFrame, got {tests!r}")
    spacings = {test.spacing for test in tests}
    if len(spacings) > 1:
        raise ValueError(f"tests must share one spacing, got {' and '.join(sorted(spacings))}")
    frames = [test.frame.assign(diverged=test.diverged) for test in tests]
    return _nonempty(frames), *spacings, all(test.held_out for test in tests)


def _nonempty(frames: list[pd.DataFrame]) -> list[pd.DataFrame]:
    if not frames or not all(frame["lr"].notna().any() for frame in frames):
        raise ValueError("tests must hold at least one curve with at least one rate, got none")
    for lr in (frame["lr"].dropna() for frame in frames):
        if not np.isfinite(lr).all() or lr.min() < 0:
            raise ValueError(f"tests must have finite rates >= 0 in the column 'lr', got {lr.min():g} to {lr.max():g}")
    return frames


def _spacing(lr: Array) -> str:
    """Return what the rates are evenly spaced by: of differences and ratios, those that vary less."""
    lr = np.unique(lr[lr > 0])
    if len(lr) < 3:
        return "linear"
    linear, exponential = (np.std(step) / np.mean(step) for step in (np.diff(lr), np.diff(np.log(lr))))
    return "exponential" if exponential < linear else "linear"


def _curve(frame: pd.DataFrame, log: bool) -> Curve:
    """Return a frame's curve up to where it diverged: the first metric or loss that is not finite."""
    untrained = frame.loc[frame["lr"].isna(), "metric"].to_numpy(float)
    frame = frame[frame["lr"] > 0] if log else frame[frame["lr"].notna()]
    frame = frame.sort_values("lr", kind="stable")
    columns = [name for name in ("metric", "train_loss") if name in frame]
    finite = np.isfinite(frame[columns].to_numpy(float)).all(1)
    end = len(finite) if finite.all() else int(finite.argmin())
    flagged = "diverged" in frame and bool(frame["diverged"].any())
    if "train_loss" in frame and end:  # a curve on disk has no flag
        flagged = flagged or has_diverged(frame["train_loss"].to_numpy(float)[:end])
    lr, metric = frame["lr"].to_numpy(float)[:end], frame["metric"].to_numpy(float)[:end]
    before = float(untrained[0]) if len(untrained) else float("nan")
    return Curve(np.log(lr) if log else lr, metric, before, flagged or end < len(finite), log)


def _mean_curve(frames: Sequence[pd.DataFrame], curves: Sequence[Curve]) -> pd.DataFrame:
    by_rate = pd.concat(frames).dropna(subset="lr").groupby("lr")["metric"]
    table = by_rate.agg(["mean", "std", "count"]).reset_index()
    lr, count = table["lr"].to_numpy(), table["count"].to_numpy()
    smooth = _mean_smooth(lr, curves)
    if len(curves) == 1:
        enough = len(curves[0].y) >= MIN_EVALUATIONS
        half = 1.96 * robust_std(cross_validated_spline(curves[0].y)[1]) if enough else np.nan
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
        smooths.append(np.interp(lr, at, cross_validated_spline(curve.y)[0], right=np.nan))
    return np.mean(smooths, axis=0) if smooths else np.nan * lr


# Words

_SEEN = {
    CurveKind.PEAK: "The metric rises, then loses half of its gain or diverges at a higher rate. max_lr is a third of "
    "that rate, as a safety margin.",
    CurveKind.PLATEAU: "The metric rises, then slows, and keeps most of its gain up to the largest rate tested. max_lr "
    "is where the rise slows; larger rates may work too. Test up to a larger end_lr to see where training fails.",
    CurveKind.RISING: "The metric is still rising at the largest rate tested, so max_lr is unknown. Test up to a "
    "larger end_lr.",
    CurveKind.TOO_NARROW: "The metric falls so soon after it rises that base_lr cannot be separated from max_lr. Use "
    "exponential spacing or more updates, or set base_lr to a third of max_lr, as the paper suggests.",
    CurveKind.FALLING: "The metric falls from the start, so neither bound can be found. Start from a smaller start_lr.",
    CurveKind.FLAT: "The metric never rises clearly above its starting value, so neither bound can be found. Test up "
    "to a larger end_lr, train for more updates, or evaluate on more examples.",
    CurveKind.TOO_FEW: f"The curve has fewer than {MIN_EVALUATIONS} evaluations, too few to find either bound. "
    "Evaluate more often or, if training diverged, test up to a smaller end_lr.",
}  # fmt: skip


def _verdict(bounds: Bounds, agreeing: Sequence[CurveShape], diverged: int, held_out: bool) -> str:
    n, agree = bounds.n_curves, len(agreeing)
    words = [_SEEN[bounds.kind]]
    for name, lr, ci in (("base_lr", bounds.base_lr, bounds.base_ci), ("max_lr", bounds.max_lr, bounds.max_ci)):
        words += [f"{name}: {format_bound(lr, ci)}."] if np.isfinite(lr) else []
    if agree < n and np.isfinite([bounds.base_lr, bounds.max_lr]).any():
        words.append(f"{agree} of {n} curves show this; the bounds come from these curves.")
    elif agree < n:
        words.append(f"Only {agree} of {n} curves show this.")
    early = sum(shape.rises_at_start for shape in agreeing) if np.isfinite(bounds.base_lr) else 0
    if early == agree:
        words.append("The metric is already rising at the first evaluation, so base_lr is an upper limit.")
    elif early:
        words.append(f"In {early} of {agree} curves the metric is already rising at the first evaluation, so base_lr "
                     "may be lower than shown.")  # fmt: skip
    if diverged:
        words.append(f"Training diverged in {diverged} of {n} curves, as it should when a test goes far enough.")
    words.append(
        f"Based on {n} curves." if n > 1 else "Based on one curve: intervals cover its noise, not the spread between "
        "seeds. Use five seeds if you can."
    )  # fmt: skip
    if not held_out:
        words.append("Some evaluation batches were also trained on. Pass a val_loader.")
    return " ".join(words)
