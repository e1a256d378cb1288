"""What one range test's curve shows: where the metric starts to rise, and where it slows or is lost again.

On the axis by which the test was spaced (the rate if linear, its logarithm otherwise):

1. A cubic smoothing spline smooths the metric. Its smoothness is the one that predicts each block of
   neighboring evaluations best from all the others. Neighbors share noise here, so leaving out single evaluations
   (GCV) would take noise for signal.
2. The metric *rises* if it reaches three standard deviations of its own noise above the untrained metric. Training that
   fails can make most of the noise and hide the rise before it. If the whole curve does not rise, what comes before its
   best evaluation is judged alone, and the rest is smoothed apart. (With the best one included, noise would count
   as a rise too often.)
3. If the gain is lost again, `base_lr` is where a fifth of it is made, the start of the "20% to 80% rise time". (A
   tenth, the other usual start, scatters a third more over seeds.) `max_lr` is a third of the rate at which half of the
   gain is lost: a test passes a rate before the harm is done, and a net that is warmed up bears more than a fresh one.
   Trained at a constant rate, nets fail at about a third of that rate. The third was read off three tasks (digits MLP
   and CNN by SGD, a transformer by Adam), with the first curves of Caffe's quick net already seen.
   `benchmarks/range_test_regret.py bounds` checks it on others.
4. If the gain is not lost, three straight lines are fitted by least squares: the level before training (of the first
   evaluation if that is unknown), a rise, and what follows. `base_lr` is where the first two meet. `max_lr` is where
   the last two meet if the last rises less than half as fast; otherwise the curve still rises and `max_lr` is unknown.

A metric without a floor (-MSE) can fall without limit. A value further below the untrained metric than the best one is
above it counts as exactly that far below.

Rescaling the rate rescales the bounds; rescaling or shifting the metric leaves them as they are. The three lines (4)
have no constant but that half. They were settled after seeing the headline's range test and the earlier port's
published one, and their level after seeing that of Caffe's full net, so agreement with those published bounds is not
independent evidence.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "MIN_EVALUATIONS", "Curve", "CurveKind", "CurveShape", "analyse", "clipped", "cross_validated_spline",
    "has_diverged", "robust_std", "smoothed", "to_curve", "wild_block_bootstrap",
]  # fmt: skip

Array = np.ndarray

RISE_SIGMAS = 3  # standard deviations: a rise, not noise
BASE_FRACTION = 0.2  # of the gain
LOST_FRACTION = 0.5  # of the gain
MAX_LR_DIVISOR = 3  # see point 3
PLATEAU_SLOPE_RATIO = 0.5
MIN_EVALUATIONS = 10  # with fewer, a fifth of the gain lies within one interval of the rise
MIN_SPLINE = 5  # evaluations, to smooth what follows a peak
REFERENCE = 10  # evaluations at the start, whose losses show their own level and spread
MAX_KNEES = 100  # places at which two lines may meet
LAMBDAS = np.logspace(-2, 10, 49)  # from nearly no smoothing to a straight line


class CurveKind(StrEnum):
    """What a curve shows."""

    PEAK = "peak"  # a rise, and half of it lost again
    PLATEAU = "plateau"  # a rise that slows
    RISING = "rising"  # a rise up to the last rate
    TOO_NARROW = "too narrow"  # a peak whose base_lr cannot be separated from max_lr
    FALLING = "falling"
    FLAT = "flat"
    TOO_FEW = "too few"  # evaluations
    BAD_DATA = "bad data"  # numbers that are not finite, before any rate can have done harm
    DISAGREE = "disagree"  # of several curves: no kind is that of more than half


@dataclass(frozen=True)
class Curve:
    """One curve: places on the axis, metric, the untrained metric (NaN: unknown), whether training then diverged."""

    x: Array
    y: Array
    untrained_metric: float
    diverged: bool
    log_axis: bool
    bad_data: bool = False


@dataclass(frozen=True)
class CurveShape:
    """What one curve shows, and the places of its bounds on the axis (NaN: unknown)."""

    kind: CurveKind
    base_x: float = np.nan
    max_x: float = np.nan
    rises_at_start: bool = False


def has_diverged(losses: Any, metrics: Any, untrained_metric: float = np.nan) -> bool:
    """Return whether training has diverged by the last evaluation.

    It has if loss or metric is not finite. Otherwise there must be three losses, the median of the last three must
    lie above the level of the first ones by three times that level or their spread, whichever is larger, and the metric
    must have changed and lost half of its gain. One noisy loss is not enough, nor one at rates that change nothing.
    """
    if not np.isfinite([losses[-1], metrics[-1]]).all():
        return True
    first = np.asarray(losses[: max(1, min(REFERENCE, len(losses) // 2))], float)
    level = np.median(first)
    high = len(losses) >= 3 and np.median(losses[-3:]) > level + 3 * max(abs(level), robust_std(first - level))
    start = untrained_metric if np.isfinite(untrained_metric) else metrics[0]
    best = max(start, *metrics)
    return bool(high and _has_changed(metrics, start) and metrics[-1] <= best - LOST_FRACTION * (best - start))


def _has_changed(metrics: Any, start: float) -> bool:
    return bool(np.abs(np.asarray(metrics, float) - start).max(initial=0) > 1e-6 * abs(start))


def to_curve(test: Any) -> Curve:
    """Return a range test's curve up to where it diverged: the first metric or loss that is not finite."""
    log = test.spacing == "exponential"
    untrained = test.frame.loc[test.frame["lr"].isna(), "metric"].to_numpy(float)
    start = float(untrained[0]) if len(untrained) else float("nan")
    frame = test.frame[test.frame["lr"] > 0] if log else test.frame[test.frame["lr"].notna()]
    frame = frame.sort_values("lr", kind="stable")
    lr, metric = frame["lr"].to_numpy(float), frame["metric"].to_numpy(float)
    losses = frame["train_loss"].to_numpy(float) if "train_loss" in frame else np.zeros(len(frame))
    finite = np.isfinite(metric) & np.isfinite(losses)
    end = len(finite) if finite.all() else int(finite.argmin())
    diverged = test.diverged or end < len(finite) or (end > 0 and has_diverged(losses[:end], metric[:end], start))
    unchanged = end < len(finite) and end > 0 and np.isfinite(start) and not _has_changed(metric[:end], start)
    bad_data = test.bad_data or unchanged
    return Curve(np.log(lr[:end]) if log else lr[:end], metric[:end], start, bool(diverged), log, bool(bad_data))


def analyse(curve: Curve) -> CurveShape:
    """Return the shape of one curve, by the rules in this module's docstring."""
    if curve.bad_data:
        return CurveShape(CurveKind.BAD_DATA)
    if len(curve.y) < MIN_EVALUATIONS:
        return CurveShape(CurveKind.TOO_FEW)
    curve = replace(curve, y=clipped(curve))
    smooth, errors, rises = smoothed(curve)
    start = _start(curve, smooth)
    if rises:
        return _peak(curve, smooth, start)
    falls = curve.diverged or start - smooth.min() > _clear(curve, errors)
    return CurveShape(CurveKind.FALLING if falls else CurveKind.FLAT)


def smoothed(curve: Curve) -> tuple[Array, Array, bool]:
    """Return the smoothed metric, its prediction errors, and whether it rises (point 2 of this module's docstring)."""
    y = clipped(curve)
    smooth, errors = cross_validated_spline(y)
    end = int(y.argmax())
    rises = _rises(curve, smooth, errors)
    if rises or end < MIN_EVALUATIONS:
        return smooth, errors, rises
    before, early = cross_validated_spline(y[:end])
    if not _rises(curve, before, early):
        return smooth, errors, False
    enough = len(y) - end >= MIN_SPLINE
    after, late = cross_validated_spline(y[end:]) if enough else (y[end:], np.zeros(len(y) - end))
    return np.concatenate([before, after]), np.concatenate([early, late]), True


def _rises(curve: Curve, smooth: Array, errors: Array) -> bool:
    return bool(smooth.max() - _start(curve, smooth) > _clear(curve, errors))


def _start(curve: Curve, smooth: Array) -> float:
    return curve.untrained_metric if np.isfinite(curve.untrained_metric) else float(smooth[0])


def _clear(curve: Curve, errors: Array) -> float:
    """Return the smallest difference that is not noise."""
    return max(RISE_SIGMAS * robust_std(errors), 1e-9 * float(np.abs(clipped(curve)).max()))


def clipped(curve: Curve) -> Array:
    """Return the metric, cut off as far below the untrained metric as the best one is above it."""
    start = curve.untrained_metric if np.isfinite(curve.untrained_metric) else np.median(curve.y[:3])
    gain = curve.y.max() - start
    return np.maximum(curve.y, start - gain) if gain > 0 else curve.y


def _peak(curve: Curve, smooth: Array, start: float) -> CurveShape:
    """Return the shape of a curve that rises: a peak if it loses its gain again, otherwise a plateau."""
    top = int(smooth.argmax())
    gain = smooth[top] - start
    base_x = _crossing(curve.x[top::-1], smooth[top::-1], start + BASE_FRACTION * gain)
    at_start = bool(np.isfinite(curve.untrained_metric) and np.isnan(base_x))
    lost_x = _crossing(curve.x[top:], smooth[top:], start + (1 - LOST_FRACTION) * gain)
    if np.isnan(lost_x) and curve.diverged:
        lost_x = float(curve.x[-1])
    if np.isnan(lost_x):
        return _plateau(curve, at_start)
    base_x = float(curve.x[0]) if at_start else base_x
    max_x = lost_x - np.log(MAX_LR_DIVISOR) if curve.log_axis else lost_x / MAX_LR_DIVISOR
    if max_x > base_x:
        return CurveShape(CurveKind.PEAK, base_x, max_x, at_start)
    return CurveShape(CurveKind.TOO_NARROW, np.nan, max_x, at_start)


def _plateau(curve: Curve, at_start: bool) -> CurveShape:
    """Return the shape of a curve that keeps its gain: a plateau, or still rising."""
    known = np.isfinite(curve.untrained_metric)
    base_x, max_x = _fit_broken_line(curve.x, curve.y, curve.untrained_metric if known else curve.y[0])
    at_start = at_start or bool(base_x <= curve.x[0])
    kind = CurveKind.RISING if np.isnan(max_x) else CurveKind.PLATEAU
    return CurveShape(kind, float(curve.x[0]) if at_start else base_x, max_x, at_start)


def cross_validated_spline(y: Array) -> tuple[Array, Array]:
    """Return the smoothed metric, and the error of predicting each evaluation from those outside its block.

    The smoothness is the one with the least squared prediction errors. A curve that turns sharply somewhere is smoothed
    too little where it turns slowly. Its residuals there underestimate the noise; the prediction errors do not.
    """
    roughness, vectors, blocks, inverses = _smoothers(len(y))
    kept = vectors.T @ (y - y.mean())
    residuals = (roughness * LAMBDAS[:, None] / (1 + LAMBDAS[:, None] * roughness) * kept) @ vectors.T  # (lambdas, n)
    parts = [inverse @ residuals[:, block, None] for block, inverse in zip(blocks, inverses, strict=True)]
    errors = np.concatenate(parts, axis=1)[..., 0]  # (lambdas, n)
    best = int((errors**2).sum(1).argmin())
    return y - residuals[best], errors[best]


def robust_std(errors: Array) -> float:
    """Return a standard deviation that outliers do not affect: 1.4826 times the median absolute error (MAD)."""
    return float(1.4826 * np.median(np.abs(errors)))


@cache
def _smoothers(n: int) -> tuple[Array, Array, list[Array], list[Array]]:
    """Return what all smoothing splines through n even points share, for smoothing and for leaving blocks out.

    Eigenvalues and -vectors of the roughness, the integral of s''^2 (Green and Silverman 1994, section 2.3); blocks;
    and per block (I - H)^-1 for every lambda, with H the smoother within it. Multiplied by residuals, it gives the
    errors of leaving the block out.
    """
    second = np.diff(np.eye(n), 2, axis=0)
    gram = (4 * np.eye(n - 2) + np.eye(n - 2, k=1) + np.eye(n - 2, k=-1)) / 6
    roughness, vectors = np.linalg.eigh(second.T @ np.linalg.solve(gram, second))
    roughness = roughness.clip(0)
    left = roughness * LAMBDAS[:, None] / (1 + LAMBDAS[:, None] * roughness)  # eigenvalues of I - H, (lambdas, n)
    blocks = [np.flatnonzero(_blocks(n) == block) for block in range(_blocks(n)[-1] + 1)]
    inverses = [np.linalg.inv((vectors[block] * left[:, None]) @ vectors[block].T) for block in blocks]
    return roughness, vectors, blocks, inverses


def _blocks(n: int) -> Array:
    """Return each evaluation's block. Blocks have n^(1/3) members, the usual order, so that neighbors stay together."""
    return np.arange(n) // int(np.ceil(n ** (1 / 3)))


def _crossing(x: Array, y: Array, level: float) -> float:
    """Return where y, which starts above the level, first falls below it; NaN if it never does."""
    below = np.flatnonzero(y < level)
    if not len(below):
        return float("nan") if y[-1] > level else float(x[-1])
    i = below[0]
    if not i:
        return float(x[0])
    return float(x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - level) / (y[i - 1] - y[i]))


def _fit_broken_line(x: Array, y: Array, level: float) -> tuple[float, float]:
    """Return the two knees between a level, a rise and a last line; NaN for the second if the last is no slower.

    It tries all pairs of evaluations, then tenths of an evaluation around the best pair.
    """
    first, second, _ = _least_squares_knees(_every_pair(len(y)), y - level)
    near = np.linspace(-1, 1, 21)
    pairs = np.array([(i, j) for i in first + near for j in second + near if 0 <= i <= j - 1 <= len(y) - 3])
    first, second, slows = _least_squares_knees(_hinges(pairs, len(y)), y - level)
    place = np.arange(len(y))
    return float(np.interp(first, place, x)), float(np.interp(second, place, x)) if slows else float("nan")


class _Hinges(NamedTuple):
    """Pairs of knees; how far each place lies between them, and beyond the second; the products of the two, summed."""

    pairs: Array  # (pairs, 2)
    between: Array  # (pairs, places)
    past: Array
    bb: Array  # between times between, (pairs,)
    bp: Array
    pp: Array


@cache
def _every_pair(n: int) -> _Hinges:
    at = np.unique(np.linspace(0, n - 2, min(n - 1, MAX_KNEES)).astype(int))
    return _hinges(np.array([(i, j) for i in at for j in at if i + 2 <= j]), n)


def _hinges(pairs: Array, n: int) -> _Hinges:
    place, (first, second) = np.arange(n), pairs.T[:, :, None]
    between, past = np.clip(place, first, second) - first, np.maximum(place, second) - second
    bb, bp, pp = (np.einsum("ij,ij->i", u, v) for u, v in ((between, between), (between, past), (past, past)))
    return _Hinges(pairs, between, past, bb, bp, pp)


def _least_squares_knees(hinges: _Hinges, y: Array) -> tuple[float, float, bool]:
    """Return the knees whose lines, from level zero, fit y best with a rise; and whether the last line is slower.

    Two slopes per pair, by Cramer's rule on the normal equations; a better fit has the larger explained sum of squares.
    """
    pairs, between, past, bb, bp, pp = hinges
    by, py = between @ y, past @ y
    rise, last = np.stack([by * pp - py * bp, py * bb - by * bp]) / (bb * pp - bp**2)
    best = np.where(rise > 0, rise * by + last * py, -np.inf).argmax()
    return float(pairs[best, 0]), float(pairs[best, 1]), bool(last[best] < PLATEAU_SLOPE_RATIO * rise[best])


def wild_block_bootstrap(curve: Curve, samples: int) -> list[CurveShape]:
    """Return shapes of the curve with its prediction errors under random signs, one sign per block; always the same."""
    smooth, errors, _ = smoothed(curve)
    blocks = _blocks(len(errors))
    random = np.random.default_rng(0)
    signs = random.choice([-1.0, 1.0], size=(samples, blocks[-1] + 1))[:, blocks]
    return [analyse(replace(curve, y=smooth + errors * sign)) for sign in signs]
