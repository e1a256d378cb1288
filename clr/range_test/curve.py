"""What one range test's curve shows: where the metric starts to rise, and where it slows or is lost again.

On the axis that the test was spaced by (the rate if linear, its logarithm otherwise):

1. The metric is smoothed by a cubic smoothing spline (scipy), as much as predicts each block of neighbouring
   evaluations best from all the others: noise hangs together here, and leaving out single ones (GCV) takes it for
   signal.
2. It *rises* if it comes to stand three standard deviations of its own noise above the metric before training.
3. Where the gain is lost again, `base_lr` is where a fifth of it is made, the start of the "20 % to 80 % rise time" (a
   tenth, the other usual start, scatters a third more over seeds), and `max_lr` a third of the rate at which half of it
   is gone. A test is past a rate before the harm is done, and a net that is warmed up bears more than a fresh one:
   trained at a constant rate, nets fail at about a third of that rate. The third was read off three tasks (digits MLP
   and CNN by SGD, a transformer by Adam; the first curves of Caffe's quick net had been seen), and is checked on others
   in `benchmarks/range_test_quality.py`.
4. Where the gain is not lost, three straight lines are fitted by least squares: the level before training (where that
   is not known, of the first evaluation), a rise and what follows. Where they meet are `base_lr` and, if the last line
   rises less than half as fast, `max_lr`. Otherwise the curve is still rising, and `max_lr` cannot be told.

Both places follow the rate when it is measured in other units, and the metric too. The three lines (4) have no constant
but that half, yet were settled with the headline's range test and the earlier port's published one in view, and their
level with that of Caffe's full net: that those bounds come out near the published ones is no independent check.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.interpolate import make_smoothing_spline

__all__ = ["FEWEST", "Curve", "Reading", "read", "resampled", "smoothed", "spread"]

Array = np.ndarray

RISES = 3  # standard deviations: a rise, not noise
STARTS = 0.2  # of the gain
LOST = 0.5  # of the gain
MARGIN = 3  # see point 3
SLOWS = 0.5  # of the slope
FEWEST = 10  # evaluations: with fewer, a fifth of the gain lies within one interval of the rise
KNEES = 100  # places where two lines may meet
LAMS = np.logspace(-2, 10, 49)  # from nearly no smoothing to a straight line


@dataclass(frozen=True)
class Curve:
    """One curve: places on the axis, metric, the metric before training (NaN: unknown), whether it diverged next."""

    x: Array
    y: Array
    before: float
    diverged: bool
    log: bool


@dataclass(frozen=True)
class Reading:
    """What one curve says: positions on the axis (NaN where untold), and what was seen."""

    base: float = np.nan
    top: float = np.nan
    seen: str = ""
    at_once: bool = False


def read(curve: Curve) -> Reading:
    """Read one curve, as the module's text says."""
    if len(curve.y) < FEWEST:
        return Reading(seen="few")
    smooth, errors = smoothed(curve.y)
    known = np.isfinite(curve.before)
    before, peak = curve.before if known else smooth[0], int(smooth.argmax())
    gain, clear = smooth[peak] - before, max(RISES * spread(errors), 1e-9 * np.abs(curve.y).max())
    if gain <= clear:
        return Reading(seen="falling" if curve.diverged or before - smooth.min() > clear else "flat")
    level = before + STARTS * gain
    foot = _crossing(curve.x[: peak + 1][::-1], smooth[: peak + 1][::-1], level)
    at_once = bool(known and np.isnan(foot))  # already at the first evaluation
    lost = _crossing(curve.x[peak:], smooth[peak:], before + (1 - LOST) * gain)
    if np.isnan(lost) and curve.diverged:
        lost = float(curve.x[-1])
    if np.isnan(lost):
        base, top = _knees(curve.x, curve.y, curve.before if known else curve.y[0])
        at_once = at_once or base <= curve.x[0]
        return Reading(curve.x[0] if at_once else base, top, "rising" if np.isnan(top) else "slows", at_once)
    base = curve.x[0] if at_once else foot
    top = lost - np.log(MARGIN) if curve.log else lost / MARGIN
    return Reading(base, top, "lost", at_once) if top > base else Reading(np.nan, top, "apart", at_once)


def smoothed(y: Array) -> tuple[Array, Array]:
    """Return the smoothed metric, and by how much each evaluation misses what those outside its block foretell.

    The smoothness is the one whose misses are least, in squares. A curve is smoothed too little where it turns slowly
    if it turns sharply elsewhere, and what is left there is too small to be its noise; those misses are not.
    """
    roughness, vectors, blocks, inverses = _smoothers(len(y))
    kept = vectors.T @ (y - y.mean())
    residuals = (roughness * LAMS[:, None] / (1 + LAMS[:, None] * roughness) * kept) @ vectors.T  # (lams, n)
    parts = [inverse @ residuals[:, block, None] for block, inverse in zip(blocks, inverses, strict=True)]
    errors = np.concatenate(parts, axis=1)[..., 0]  # (lams, n)
    best = int((errors**2).sum(1).argmin())
    place = np.arange(len(y), dtype=float)  # evaluations are evenly spaced on their axis
    return make_smoothing_spline(place, y, lam=LAMS[best])(place), errors[best]


def spread(errors: Array) -> float:
    """Return the standard deviation of errors that are normal but for some; 1.4826 makes the median one."""
    return float(1.4826 * np.median(np.abs(errors)))


@cache
def _smoothers(n: int) -> tuple[Array, Array, list[Array], list[Array]]:
    """Return what the smoothing splines through n even points share, and what leaving blocks out takes.

    Eigenvalues and -vectors of the roughness, the integral of s''^2 (Green and Silverman 1994, section 2.3); blocks;
    and for each block (I - H)^-1 for every lam, H the smoother within it: times residuals, errors of leaving it out.
    """
    second = np.diff(np.eye(n), 2, axis=0)
    gram = (4 * np.eye(n - 2) + np.eye(n - 2, k=1) + np.eye(n - 2, k=-1)) / 6
    roughness, vectors = np.linalg.eigh(second.T @ np.linalg.solve(gram, second))
    roughness = roughness.clip(0)
    left = roughness * LAMS[:, None] / (1 + LAMS[:, None] * roughness)  # eigenvalues of I - H, (lams, n)
    blocks = [np.flatnonzero(_blocks(n) == block) for block in range(_blocks(n)[-1] + 1)]
    inverses = [np.linalg.inv((vectors[block] * left[:, None]) @ vectors[block].T) for block in blocks]
    return roughness, vectors, blocks, inverses


def _blocks(n: int) -> Array:
    """Return each evaluation's block: of n^(1/3), the usual order, so that what hangs together stays together."""
    return np.arange(n) // int(np.ceil(n ** (1 / 3)))


def _crossing(x: Array, y: Array, level: float) -> float:
    """Return where y, which starts above the level, first comes below it; NaN where it does not."""
    below = np.flatnonzero(y < level)
    if not len(below):
        return float("nan") if y[-1] > level else float(x[-1])
    i = below[0]
    if not i:
        return float(x[0])
    return float(x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - level) / (y[i - 1] - y[i]))


def _knees(x: Array, y: Array, level: float) -> tuple[float, float]:
    """Return where a level, a rise and a last straight line meet; NaN for the second if the last is no slower.

    All pairs of evaluations are tried, then tenths of an evaluation around the best.
    """
    first, second, _ = _best(_every_pair(len(y)), y - level)
    near = np.linspace(-1, 1, 21)
    pairs = np.array([(i, j) for i in first + near for j in second + near if 0 <= i <= j - 1 <= len(y) - 3])
    first, second, slows = _best(_lines(pairs, len(y)), y - level)
    place = np.arange(len(y))
    return float(np.interp(first, place, x)), float(np.interp(second, place, x)) if slows else float("nan")


@cache
def _every_pair(n: int) -> tuple[Array, Array, Array]:
    at = np.unique(np.linspace(0, n - 2, min(n - 1, KNEES)).astype(int))
    return _lines(np.array([(i, j) for i in at for j in at if i + 2 <= j]), n)


def _lines(pairs: Array, n: int) -> tuple[Array, Array, Array]:
    """Return pairs of knees, and of each of n places how far it is on the way between them, and past the second."""
    place, (first, second) = np.arange(n), pairs.T[:, :, None]
    return pairs, np.clip(place, first, second) - first, np.maximum(place, second) - second


def _best(lines: tuple[Array, Array, Array], y: Array) -> tuple[float, float, bool]:
    """Return the knees whose lines fit y best, from zero, of those that rise; and whether the last line is slower."""
    pairs, between, past = lines
    bb, bp, pp = (np.einsum("ij,ij->i", u, v) for u, v in ((between, between), (between, past), (past, past)))
    by, py = between @ y, past @ y
    rise, last = np.stack([by * pp - py * bp, py * bb - by * bp]) / (bb * pp - bp**2)
    best = np.where(rise > 0, rise * by + last * py, -np.inf).argmax()
    return float(pairs[best, 0]), float(pairs[best, 1]), bool(last[best] < SLOWS * rise[best])


def resampled(curve: Curve, samples: int) -> list[Reading]:
    """Read the curve anew, its residuals (left-out ones) with random signs block by block; always the same signs."""
    smooth, errors = smoothed(curve.y)
    blocks = _blocks(len(errors))
    random = np.random.default_rng(0)
    signs = random.choice([-1.0, 1.0], size=(samples, blocks[-1] + 1))[:, blocks]
    return [read(Curve(curve.x, smooth + errors * sign, curve.before, curve.diverged, curve.log)) for sign in signs]
