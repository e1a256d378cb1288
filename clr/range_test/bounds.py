"""Where to put the two bounds of a cyclical policy, read off the curves of LR range tests. (Paper: section 3.3.)

What one curve shows is read in `clr.reading`, and the method told there. The bounds are the means over the curves, with
Student's interval; one curve alone gets its interval by a block bootstrap of its residuals, with random signs, which
leaves every stretch of the curve its own raggedness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clr._stats import t_interval
from clr.range_test.curve import FEWEST, Curve, Reading, read, resampled, smoothed, spread

__all__ = ["Bounds", "suggest_bounds"]

RESAMPLES = 200
PLACES = ("base", "top")

Array = np.ndarray
UNTOLD = (float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class Bounds:
    """The bounds that range tests propose, how sure they are, and why.

    base_lr, max_lr: learning rates; NaN where they cannot be told.  base_ci, max_ci: 95 % intervals, (low, high);
        base_ci begins at 0 where most curves rise by their first evaluation, and then ends at base_lr if all do.
    verdict: what was seen, how sure it is and what to do, in sentences.
    curve: lr, mean of the metric, low and high (95 % of the mean over seeds, while all go on; with one curve 95 % of
        its noise), smooth, n (curves that came so far).  n_curves: how many.
    spacing: of the rates, "linear" or "exponential".
    """

    base_lr: float
    max_lr: float
    base_ci: tuple[float, float]
    max_ci: tuple[float, float]
    verdict: str
    curve: pd.DataFrame
    n_curves: int
    spacing: str

    def plot(self, ax: Any = None) -> Any:
        """Draw the curve, its band, and the bounds with their intervals on `ax` (a new one if None); return it."""
        from clr.figures import draw_range_test

        return draw_range_test(ax, self.curve, self, self.spacing)


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
    readings = [read(curve) for curve in curves]
    seen = _majority([reading.seen for reading in readings])
    agreeing = [reading for reading in readings if reading.seen == seen]
    if len(curves) == 1:
        samples = resampled(curves[0], RESAMPLES) if seen in ("lost", "slows", "rising", "apart") else []
        alike = [sample for sample in samples if sample.seen == seen]
        base, top = ((getattr(readings[0], name), _quantiles([getattr(r, name) for r in alike])) for name in PLACES)
    else:
        base, top = (_mean([getattr(r, name) for r in agreeing], len(curves)) for name in PLACES)
    (base_lr, base_ci), (max_lr, max_ci) = (_rates(told, curves[0].log) for told in (base, top))
    at_once = [reading.at_once for reading in agreeing]
    if np.isfinite(base_lr) and 2 * sum(at_once) > len(at_once):  # how far below the first evaluation is not seen
        base_ci = (0.0, base_lr if all(at_once) else base_ci[1])
    words = _verdict(seen, readings, curves, base_lr, base_ci, max_lr, max_ci, held_out)
    return Bounds(base_lr, max_lr, base_ci, max_ci, words, _mean_curve(frames, curves), len(curves), spacing)


# From curves to bounds


def _majority(seen: Sequence[str]) -> str:
    """Return what most curves show; where two are as frequent, the one that is listed first among the causes."""
    return max(_SEEN, key=lambda kind: seen.count(kind))


def _mean(places: Sequence[float], curves: int) -> tuple[float, tuple[float, float]]:
    told = np.array([place for place in places if np.isfinite(place)])
    if len(told) < 2 or 2 * len(told) <= curves:
        return float("nan"), UNTOLD
    low, high = t_interval(told.mean(), told.std(ddof=1) / np.sqrt(len(told)), len(told))
    return float(told.mean()), (float(low), float(high))


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
    """Return by what the rates are evenly spaced: of differences and ratios, those that vary less."""
    lr = np.unique(lr[lr > 0])
    if len(lr) < 3:
        return "linear"
    linear, exponential = (np.std(step) / np.mean(step) for step in (np.diff(lr), np.diff(np.log(lr))))
    return "exponential" if exponential < linear else "linear"


def _curve(frame: pd.DataFrame, log: bool) -> Curve:
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
    return Curve(np.log(lr) if log else lr, metric, before, flagged or end < len(finite), log)


def _mean_curve(frames: Sequence[pd.DataFrame], curves: Sequence[Curve]) -> pd.DataFrame:
    stacked = pd.concat(frames).dropna(subset="lr")
    by_rate = stacked.groupby("lr")["metric"]
    table = by_rate.agg(["mean", "std", "count"]).reset_index()
    smooths = [pd.Series(smoothed(c.y)[0], np.exp(c.x) if c.log else c.x) for c in curves if len(c.y) >= FEWEST]
    lr, count = table["lr"].to_numpy(), table["count"].to_numpy()
    smooth = np.mean([np.interp(lr, s.index, s, right=np.nan) for s in smooths], axis=0) if smooths else np.nan * lr
    if len(curves) == 1:
        half = 1.96 * spread(smoothed(curves[0].y)[1]) if smooths else np.nan
        low, high = smooth - half, smooth + half
    else:  # where some have diverged the others are no fair sample
        whole = np.where(count == len(curves), table["std"], np.nan)
        low, high = t_interval(table["mean"].to_numpy(), whole / np.sqrt(count), count)
    return pd.DataFrame({"lr": lr, "mean": table["mean"], "low": low, "high": high, "smooth": smooth, "n": count})


# Words


_SEEN = {
    "lost": "The metric rises, and loses half of its gain again further up.",
    "slows": "The metric rises, slows, and loses less than half of its gain up to the largest rate tested: max_lr is "
    "where it slows, and larger rates may do as well. A larger end_lr would show where training fails.",
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
    seen: str, readings: Sequence[Reading], curves: Sequence[Curve], base_lr: float, base_ci: tuple[float, float],
    max_lr: float, max_ci: tuple[float, float], held_out: bool,
) -> str:  # fmt: skip
    n, agree, diverged = len(curves), sum(r.seen == seen for r in readings), sum(c.diverged for c in curves)
    words = []
    for name, rate, (low, high) in (("base_lr", base_lr, base_ci), ("max_lr", max_lr, max_ci)):
        known = f"at most {rate:.3g}" if low == 0 and high == rate else f"{rate:.3g} (95 %: {low:.3g} to {high:.3g})"
        words += [f"{name} {known}."] if np.isfinite(rate) else []
    words.append(_SEEN[seen])
    if agree < n:
        words.append(f"Only {agree} of {n} curves show this; the bounds are theirs where they are the majority.")
    if np.isfinite(base_lr) and (early := sum(r.at_once for r in readings if r.seen == seen)):
        words.append(
            "The rise begins at the first evaluation or before, whose rate base_lr is."
            if early == agree
            else f"In {early} of {agree} curves the rise begins at the first evaluation or before, and base_lr with it."
        )
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
