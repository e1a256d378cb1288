"""Where to put the two bounds of a cyclical policy, read off the curves of LR range tests. (Paper: section 3.3.)

The method, curve by curve, on the axis that the test was spaced by (the rate if linear, its logarithm otherwise):

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

The bounds are the means over the curves, with Student's interval; one curve alone gets its interval by a block
bootstrap of its residuals, with random signs, which leaves every stretch of the curve its own raggedness. Both bounds
follow the rate when it is measured in other units, and the metric too. The three lines (4) have no constant but that
half, yet were settled with the earlier port's published range test in view: that the headline's bounds come out near
the published ones is no independent check.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.interpolate import make_smoothing_spline

__all__ = ["Bounds", "suggest_bounds"]

RISES = 3  # standard deviations: a rise, not noise
STARTS = 0.2  # of the gain
LOST = 0.5  # of the gain
MARGIN = 3  # see point 3
SLOWS = 0.5  # of the slope
FEWEST = 10  # evaluations: with fewer, a fifth of the gain lies within one interval of the rise
RESAMPLES = 200
KNEES = 100  # places where two lines may meet
LAMS = np.logspace(-2, 10, 49)  # from nearly no smoothing to a straight line

Array = np.ndarray
UNTOLD = (float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class Bounds:
    """The bounds that range tests propose, how sure they are, and why.

    base_lr, max_lr: learning rates; NaN where they cannot be told.  base_ci, max_ci: 95 % intervals, (low, high).
    verdict: what was seen, how sure it is and what to do, in sentences.
    curve: lr, mean of the metric, low and high (95 % of the mean over seeds, while all go on; with one curve 95 % of
        its noise), smooth, n (curves that came so far).  seeds: how many curves.
    spacing: of the rates, "linear" or "exponential".
    """

    base_lr: float
    max_lr: float
    base_ci: tuple[float, float]
    max_ci: tuple[float, float]
    verdict: str
    curve: pd.DataFrame
    seeds: int
    spacing: str

    def plot(self, ax: Any = None) -> Any:
        """Draw the curve, its band, and the bounds with their intervals on `ax` (a new one if None); return it."""
        from clr.figures import draw_range_test

        return draw_range_test(ax, self.curve, self, self.spacing)


@dataclass(frozen=True)
class _Curve:
    """One curve: places on the axis, metric, the metric before training (NaN: unknown), whether it diverged next."""

    x: Array
    y: Array
    before: float
    diverged: bool
    log: bool


@dataclass(frozen=True)
class _Reading:
    """What one curve says: positions on the axis (NaN where untold), and what was seen."""

    base: float = np.nan
    top: float = np.nan
    seen: str = ""
    at_once: bool = False


def suggest_bounds(tests: Any) -> Bounds:
    """Propose `base_lr` and `max_lr` from one range test, or better from several: one a seed. See the module's text.

    Args:
        tests: a `RangeTest`, a sequence of them, or a tidy DataFrame with the columns lr and metric (larger is better),
            seed where there are several curves, and train_loss where divergence should be seen in it. A row whose lr
            is NaN is the model before training; without one the curve's start stands for it.

    Raises:
        TypeError: tests are of another kind.  ValueError: a column is missing, or there is no curve.

    >>> lr = np.linspace(0.01, 1, 100)
    >>> bounds = suggest_bounds(pd.DataFrame({"lr": lr, "metric": np.clip(lr - 0.2, 0, 0.3)}))
    >>> round(bounds.base_lr, 2), round(bounds.max_lr, 1)
    (0.2, 0.5)
    """
    frames, spacing, held_out = _frames(tests)
    curves = [_curve(frame, spacing == "exponential") for frame in frames]
    readings = [_read(curve) for curve in curves]
    seen = _majority([reading.seen for reading in readings])
    agreeing = [reading for reading in readings if reading.seen == seen]
    if len(curves) == 1:
        samples = _resampled(curves[0]) if seen in ("lost", "slows", "rising", "apart") else []
        base = readings[0].base, _quantiles([sample.base for sample in samples])
        top = readings[0].top, _quantiles([sample.top for sample in samples if sample.seen == seen])
    else:
        base, top = (_mean([getattr(r, name) for r in agreeing], len(curves)) for name in ("base", "top"))
    (base_lr, base_ci), (max_lr, max_ci) = (_rates(told, curves[0].log) for told in (base, top))
    words = _verdict(seen, readings, curves, base_lr, base_ci, max_lr, max_ci, held_out)
    return Bounds(base_lr, max_lr, base_ci, max_ci, words, _mean_curve(frames, curves), len(curves), spacing)


# Reading one curve


def _read(curve: _Curve) -> _Reading:
    if len(curve.y) < FEWEST:
        return _Reading(seen="few")
    smooth, errors = _smooth(curve.y)
    known = np.isfinite(curve.before)
    before, peak = curve.before if known else smooth[0], int(smooth.argmax())
    gain, clear = smooth[peak] - before, max(RISES * _spread(errors), 1e-9 * np.abs(curve.y).max())
    if gain <= clear:
        return _Reading(seen="falling" if curve.diverged or before - smooth.min() > clear else "flat")
    level = before + STARTS * gain
    foot = _crossing(curve.x[: peak + 1][::-1], smooth[: peak + 1][::-1], level)
    at_once = bool(known and np.isnan(foot))  # already at the first evaluation
    lost = _crossing(curve.x[peak:], smooth[peak:], before + (1 - LOST) * gain)
    if np.isnan(lost) and curve.diverged:
        lost = float(curve.x[-1])
    if np.isnan(lost):
        base, top = _knees(curve.x, curve.y, curve.before if known else curve.y[0])
        at_once = at_once or base <= curve.x[0]
        return _Reading(curve.x[0] if at_once else base, top, "rising" if np.isnan(top) else "slows", at_once)
    base = curve.x[0] if at_once else foot
    top = lost - np.log(MARGIN) if curve.log else lost / MARGIN
    return _Reading(base, top, "lost", at_once) if top > base else _Reading(np.nan, top, "apart", at_once)


def _smooth(y: Array) -> tuple[Array, Array]:
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


def _spread(errors: Array) -> float:
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


def _resampled(curve: _Curve) -> list[_Reading]:
    """Read the curve anew, its residuals (left-out ones) with random signs block by block; always the same signs."""
    smooth, errors = _smooth(curve.y)
    blocks = _blocks(len(errors))
    random = np.random.default_rng(0)
    signs = random.choice([-1.0, 1.0], size=(RESAMPLES, blocks[-1] + 1))[:, blocks]
    return [_read(_Curve(curve.x, smooth + errors * sign, curve.before, curve.diverged, curve.log)) for sign in signs]


# From curves to bounds


def _majority(seen: Sequence[str]) -> str:
    """Return what most curves show; where two are as frequent, the one that is listed first among the causes."""
    return max(_SEEN, key=lambda kind: seen.count(kind))


def _mean(places: Sequence[float], curves: int) -> tuple[float, tuple[float, float]]:
    told = np.array([place for place in places if np.isfinite(place)])
    if len(told) < 2 or 2 * len(told) <= curves:
        return float("nan"), UNTOLD
    half = stats.t.ppf(0.975, len(told) - 1) * told.std(ddof=1) / np.sqrt(len(told))
    return float(told.mean()), (float(told.mean() - half), float(told.mean() + half))


def _quantiles(places: Sequence[float]) -> tuple[float, float]:
    told = [place for place in places if np.isfinite(place)]
    return tuple(np.quantile(told, [0.025, 0.975]).tolist()) if told else UNTOLD


def _rates(told: tuple[float, tuple[float, float]], log: bool) -> tuple[float, tuple[float, float]]:
    """Return a place on the axis and its interval as learning rates; the interval always holds the rate."""
    place, (low, high) = told
    if np.isnan(place) or np.isnan(low):
        return float("nan"), UNTOLD
    low, high = min(low, place), max(high, place)
    rate, low, high = (float(np.exp(v)) if log else max(0.0, float(v)) for v in (place, low, high))
    return rate, (low, high)


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
        frames = [part for _, part in tests.groupby("seed")] if "seed" in tests else [tests]
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
    """Return by what the rates are evenly spaced: of differences and ratios, those that vary less."""
    lr = np.unique(lr[lr > 0])
    if len(lr) < 3:
        return "linear"
    linear, exponential = (np.std(step) / np.mean(step) for step in (np.diff(lr), np.diff(np.log(lr))))
    return "exponential" if exponential < linear else "linear"


def _curve(frame: pd.DataFrame, log: bool) -> _Curve:
    """Cut a frame's curve where it diverged: at the first metric or loss that is not finite."""
    untrained = frame.loc[frame["lr"].isna(), "metric"].to_numpy(float)
    frame = frame[frame["lr"] > 0] if log else frame[frame["lr"].notna()]
    frame = frame.sort_values("lr", kind="stable")
    columns = [name for name in ("metric", "train_loss") if name in frame]
    finite = np.isfinite(frame[columns].to_numpy(float)).all(1)
    end = len(finite) if finite.all() else int(finite.argmin())
    flagged = "diverged" in frame and bool(frame["diverged"].any())
    if "train_loss" in frame and end:  # a curve on disk has no flag: told as `lr_range_test` tells it
        losses = frame["train_loss"].to_numpy(float)[:end]
        flagged = flagged or bool(losses[-1] > losses[0] + 3 * abs(losses[0]))
    lr, metric = frame["lr"].to_numpy(float)[:end], frame["metric"].to_numpy(float)[:end]
    before = float(untrained[0]) if len(untrained) else float("nan")
    return _Curve(np.log(lr) if log else lr, metric, before, flagged or end < len(finite), log)


def _mean_curve(frames: Sequence[pd.DataFrame], curves: Sequence[_Curve]) -> pd.DataFrame:
    stacked = pd.concat(frames).dropna(subset="lr")
    by_rate = stacked.groupby("lr")["metric"]
    table = by_rate.agg(["mean", "std", "count"]).reset_index()
    smooths = [pd.Series(_smooth(c.y)[0], np.exp(c.x) if c.log else c.x) for c in curves if len(c.y) >= FEWEST]
    lr, count = table["lr"].to_numpy(), table["count"].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        half = stats.t.ppf(0.975, np.maximum(count - 1, 1)) * table["std"].to_numpy() / np.sqrt(count)
    half[count < len(curves)] = np.nan  # where some have diverged the others are no fair sample
    if len(curves) == 1:
        half = np.full(len(lr), 1.96 * _spread(_smooth(curves[0].y)[1]) if smooths else np.nan)
    smooth = np.mean([np.interp(lr, s.index, s, right=np.nan) for s in smooths], axis=0) if smooths else np.nan * lr
    middle = smooth if len(curves) == 1 else table["mean"].to_numpy()
    return pd.DataFrame(
        {"lr": lr, "mean": table["mean"], "low": middle - half, "high": middle + half, "smooth": smooth, "n": count}
    )


# Words


_SEEN = {
    "lost": "The metric rises, and loses half of its gain again further up.",
    "slows": "The metric rises, slows, and loses nothing up to the largest rate tested: max_lr is where it slows, and "
    "larger rates may do as well. A larger end_lr would show where training fails.",
    "rising": "The metric is still rising at the largest rate tested, so max_lr cannot be told: test up to a larger "
    "end_lr.",
    "apart": "The metric rises so shortly before it falls that base_lr cannot be told apart from max_lr: test with "
    "exponential spacing or more updates, or take a third of max_lr, as the paper advises.",
    "falling": "The metric is already falling at the start, so neither bound can be told: test from a smaller "
    "start_lr.",
    "flat": "The metric never rises clearly above where it starts, so neither bound can be told: test up to a larger "
    "end_lr, for more updates, or with more examples to evaluate on.",
    "few": f"There are fewer than {FEWEST} evaluations before the curve ends, so neither bound can be told: evaluate "
    "more often, or, where it diverged, test up to a smaller end_lr.",
}  # fmt: skip


def _verdict(
    seen: str, readings: Sequence[_Reading], curves: Sequence[_Curve], base_lr: float, base_ci: tuple[float, float],
    max_lr: float, max_ci: tuple[float, float], held_out: bool,
) -> str:  # fmt: skip
    n, agree, diverged = len(curves), sum(r.seen == seen for r in readings), sum(c.diverged for c in curves)
    words = []
    for name, rate, (low, high) in (("base_lr", base_lr, base_ci), ("max_lr", max_lr, max_ci)):
        words += [f"{name} {rate:.3g} (95 %: {low:.3g} to {high:.3g})."] if np.isfinite(rate) else []
    words.append(_SEEN[seen])
    if agree < n:
        words.append(f"Only {agree} of {n} curves show this; the bounds are theirs where they are the majority.")
    if np.isfinite(base_lr) and any(reading.at_once for reading in readings):
        words.append("The rise begins at the first evaluation or before: base_lr is its rate, at most.")
    if diverged:
        words.append(f"{diverged} of {n} curves diverged.")
    words.append(
        f"Mean of {n} curves."
        if n > 1
        else "One curve only: seeds were not averaged, and the intervals leave out how "
        "much seeds differ; five are better."
    )
    if not held_out:
        words.append("Some of the batches evaluated on were trained on as well: give a val_loader.")
    return " ".join(words)
