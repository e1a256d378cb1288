"""What each picture claims, computed from the frame it draws: its title, and the alt text where it is shown.

The word follows the interval: a difference whose 95% interval includes zero is no clear difference.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from clr._stats import t_interval
from clr.figures.base import MIN_RUNS, look

__all__ = ["controls", "cycle_ends", "cycles", "differences", "first_reached", "headline", "init", "paper",
           "proposed"]  # fmt: skip

CYCLICAL, REFERENCE = "triangular", "fixed"  # the arms of the headline: its cycles, and Caffe's long schedule


def _finals(frame: pd.DataFrame, arm: str) -> pd.Series:
    runs = frame[frame["arm"] == arm]
    return runs[runs["iteration"] == runs["iteration"].max()].set_index("seed")["test_accuracy"]


def first_reached(runs: pd.DataFrame, target: float, every: int = 1) -> pd.Series:
    """Return per seed the first evaluation, at multiples of `every`, that reaches an accuracy; NaN for never."""
    ends = runs[(runs["iteration"] % every == 0) & (runs["test_accuracy"] >= target)]
    return ends.groupby("seed")["iteration"].min().reindex(runs["seed"].unique()).sort_index()


def pairs(frame: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Return by how many points the first arm is above the second, seed by seed: per iteration mean, low, high, n."""
    curves = [frame[frame["arm"] == arm].set_index(["iteration", "seed"])["test_accuracy"] for arm in (first, second)]
    by = (100 * (curves[0] - curves[1]).dropna()).groupby("iteration")
    rows = by.agg(["mean", "sem", "size"]).rename(columns={"mean": "points", "size": "n"})
    rows["low"], rows["high"] = t_interval(rows["points"], rows["sem"], rows["n"])
    return rows


def _range(values: Sequence[float], unit: str = "", places: int = 0) -> str:
    low, high = (f"{value:,.{places}f}" for value in (min(values), max(values)))
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def headline(frame: pd.DataFrame, cycle: int) -> str:
    """Return at which cycle ends cycles and the earliest plain schedule first reach the long schedule's mean end.

    All are read after the same numbers of updates, so that none has more chances than another.
    """
    target = _finals(frame, REFERENCE).mean()
    when = {str(arm): first_reached(frame[frame["arm"] == arm], target, cycle) for arm in frame["arm"].unique()}
    plain = [arm for arm in when if arm != REFERENCE and not arm.startswith(CYCLICAL) and when[arm].notna().all()]
    end, some = f"the long schedule's {100 * target:.1f}%", when[CYCLICAL].dropna()
    runs = "" if len(some) == len(when[CYCLICAL]) else f" in {len(some)} of {len(when[CYCLICAL])} runs"
    text = f"Cycles reach {end} after {_range(list(some))} updates{runs}" if len(some) else f"Cycles never reach {end}"
    if not plain:
        return text
    earliest = min(plain, key=lambda arm: when[arm].mean())
    return f"{text}; {_with_article(earliest)} does after {_range(list(when[earliest]))}"


def cycle_ends(frame: pd.DataFrame, cycle: int, plain: Sequence[str]) -> str:
    """Return at which cycle ends the cycles are clearly above the first plain schedule, and at which below."""
    rows, words = pairs(frame, CYCLICAL, plain[0]), _with_article(plain[0])
    rows = rows[rows.index % cycle == 0]
    if not (rows["n"] >= MIN_RUNS).any():
        return f"Cycles against {words}, at cycle ends (n = {rows['n'].max()})"
    sure = rows[rows["n"] >= MIN_RUNS]
    sides = {"lead": sure.index[sure["low"] > 0], "trail": sure.index[sure["high"] < 0]}
    said = [f"{verb} {{}} at {_listed(ends)}" for verb, ends in sides.items() if len(ends)]
    if not said:
        return f"At no cycle end a clear difference between cycles and {words}"
    first, *rest = (part.format(name) for part, name in zip(said, (words, "it"), strict=False))
    return ", ".join([f"Cycles {first} updates", *rest])


def _with_article(arm: str) -> str:
    return look(arm)[2].replace("line", "a line")


def _listed(ends: Sequence[int]) -> str:
    *most, last = (f"{end:,}" for end in ends)
    return f"{', '.join(most)} and {last}" if most else last


def cycles(frame: pd.DataFrame, cycle: int) -> str:
    """Return by how many points accuracy at the peak rate differs from that at the ends on both sides, from cycle 2."""
    curves = frame.pivot(index="iteration", columns="seed", values="test_accuracy")
    last = curves.index.max()
    peaks = [
        k
        for k in range(cycle + cycle // 2, last + 1, cycle)
        if {k - cycle // 2, k, k + cycle // 2} <= set(curves.index)
    ]
    if not peaks:
        return f"Cycles of {cycle:,} updates, laid over one another"
    around = [(curves.loc[k - cycle // 2] + curves.loc[k + cycle // 2]) / 2 - curves.loc[k] for k in peaks]
    losses = 100 * pd.concat(around, axis=1).mean(axis=1, skipna=False).dropna()
    side = "lower" if losses.mean() > 0 else "higher"
    text = f"Accuracy is {abs(losses.mean()):.1f} points {side} at the peak rate than at the cycle's ends"
    if len(losses) < MIN_RUNS:
        return text
    low, high = t_interval(losses.mean(), losses.sem(), len(losses))
    return text if low > 0 or high < 0 else "No clear difference between the peak rate and the cycle's ends"


def differences(table: pd.DataFrame, reference: str, updates: int | None = None) -> str:
    """Return how many of the arms compared are clearly above the reference, and how many clearly below."""
    sure = table[table["n"] >= MIN_RUNS]
    above, below = (sure["low"] > 0).sum(), (sure["high"] < 0).sum()
    when = f"After {updates:,} updates " if updates else ""
    if sure.empty:
        higher = (table["points"] > 0).sum()
        return f"{when}{higher} of {len(table)} end above {reference} (n = {table['n'].max()}: no interval)"
    lower = f", {below} clearly below" if below else ""
    few = f" ({len(table) - len(sure)} more: n < {MIN_RUNS})" if len(sure) < len(table) else ""
    return f"{when}{above} of {len(sure)} schedules end clearly above {reference}{lower}{few}"


def controls(frame: pd.DataFrame, cyclical: str, dropped: str, end: int) -> str:
    """Return how far cycles alone end below the same cycles with drops: each at its end, seed by seed."""
    alone = frame[(frame["arm"] == cyclical) & (frame["iteration"] == end)].set_index("seed")["test_accuracy"]
    gap = 100 * (_finals(frame, dropped) - alone).dropna()
    side = "below" if gap.mean() > 0 else "above"
    text = f"Cycles alone end {abs(gap.mean()):.1f} points {side} cycles that then drop"
    if len(gap) < MIN_RUNS:
        return f"{text} (n = {len(gap)})"
    low, high = t_interval(gap.mean(), gap.sem(), len(gap))
    return text if low > 0 or high < 0 else "No clear difference between cycles alone and cycles that then drop"


def paper(arms: pd.DataFrame) -> str:
    """Return how many arms end below the accuracy reported for them, and by how many points."""
    gaps = 100 * (arms["reported"] - arms["accuracy"])
    if (gaps > 0).all():
        return f"All {len(gaps)} end below the paper, by {_range(gaps, ' points', 1)}"
    return f"{(gaps > 0).sum()} of {len(gaps)} end below the paper"


def init(frame: pd.DataFrame) -> str:
    """Return how many points the initial weights are apart at the end, on each kind of pixels."""
    last = frame[frame["iteration"] == frame["iteration"].max()].groupby("arm")["test_accuracy"]
    ends: Any = last.mean()
    gaps = {
        pixels: 100 * abs(ends[f"{pixels}-pixels-caffe-init"] - ends[f"{pixels}-pixels-torch-init"])
        for pixels in ("caffe", "unit")
    }
    words = f"Initial weights change accuracy by {gaps['caffe']:.2f} points on 0–255 pixels, {gaps['unit']:.1f} on 0–1"
    return f"{words} (n = {last.size().min()})"


def proposed(frame: pd.DataFrame) -> str:
    """Return what the arms of a frame reached at their ends: the lowest and the highest mean, and n."""
    ends = {str(arm): _finals(frame, str(arm)) for arm in frame["arm"].unique()}
    n = _range([len(finals) for finals in ends.values()])
    reached = _range([100 * finals.mean() for finals in ends.values()], "%", 1)
    return f"Trained with them, the net reaches {reached} (n = {n})"
