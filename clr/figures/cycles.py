"""The pictures that argue about cycles: the headline, cycle ends against plain schedules, one cycle, the controls."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from clr import _checks
from clr.figures import claims
from clr.figures.base import (
    MIN_RUNS,
    check_axes,
    check_pair,
    check_runs,
    claim,
    end_label,
    label_ends,
    line_style,
    look,
    mean_rows,
    percent_axis,
    updates_axis,
    whiskers,
)  # fmt: skip

CYCLICAL, REFERENCE = claims.CYCLICAL, claims.REFERENCE

__all__ = ["draw_controls", "draw_cycle_ends", "draw_cycles", "draw_headline"]


def draw_headline(axes: Sequence[Axes], frame: pd.DataFrame, cycle: int) -> Sequence[Axes]:
    """Draw how early cycles and plain schedules reach the final accuracy of the long schedule.

    Cycle ends are dots with intervals; the curve stops at the last. The title is the claim.

    Args:
        axes: two that share their x axis: accuracies go on the first, the learning rates on the second.
        frame: both arms and any others, with the column lr, as `clr.results.read` returns it.
        cycle: updates in a cycle.
    """
    top, strip = check_pair(axes)
    cycle = _checks.positive_int("cycle", cycle)
    check_runs(top, frame, ("lr", "seed"))
    target, length = _target(frame)
    labels = {}
    for arm, runs in frame.groupby("arm"):
        labels[arm] = _draw_arm(top, str(arm), runs, cycle if arm == CYCLICAL else None)
        rates = runs.groupby("iteration")["lr"].first().loc[: labels[arm][0]]
        strip.plot(rates.index, rates, **line_style(str(arm)))
    top.set(ylim=_zoom(target, frame), xlim=(0, length * 1.01), xlabel="", ylabel="test accuracy")
    percent_axis(top.yaxis)
    *_, text, colour = labels.pop(REFERENCE)  # its end has no room to the right of it
    label_ends(top, list(labels.values()))
    style: dict[str, Any] = {"color": colour, "ha": "right", "weight": "bold", "fontsize": 11}
    top.text(0.99, 0.03, f"the long schedule:\n{text}", transform=top.transAxes, **style)
    top.axhline(target, color="0.2", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    top.text(length, target + 0.004, f"{100 * target:.1f}%", ha="right", va="bottom", color="0.2", fontsize=10)
    strip.set(ylabel="rate", ylim=(0, None))
    updates_axis(strip)
    claim(top, claims.headline(frame, cycle))
    return axes


def _draw_arm(ax: Axes, arm: str, runs: pd.DataFrame, cycle: int | None) -> tuple[float, float, str, Any]:
    """Draw an arm's mean with intervals where it is read, at its end or at its cycle ends; return its label."""
    colour, rows = look(arm)[0], mean_rows(runs)
    ends = rows.index[rows.index % cycle == 0] if cycle else rows.index[-1:]  # those that were evaluated
    end = (ends if len(ends) else rows.index)[-1]
    ax.plot(rows.loc[:end].index, rows.loc[:end, "accuracy"], **line_style(arm))
    whiskers(ax, rows[rows.index % cycle == 0] if cycle else rows.loc[[end]], color=colour)
    return end, rows.loc[end, "accuracy"], end_label(arm, rows.loc[:end]), colour


def _target(frame: pd.DataFrame) -> tuple[float, int]:
    rows = mean_rows(frame[frame["arm"] == REFERENCE])
    if rows.empty:
        raise ValueError(f"frame must hold the arm {REFERENCE!r}, got {_checks.listed(frame['arm'].unique())}")
    return float(rows["accuracy"].iloc[-1]), int(rows.index[-1])


def _zoom(target: float, frame: pd.DataFrame) -> tuple[float, float]:
    """Return limits of accuracy a fifth apart: above all curves, so that what differs fills the picture."""
    best = frame.groupby(["arm", "iteration"])["test_accuracy"].mean().max()
    high = np.ceil(20 * max(target, best) + 0.4) / 20
    return high - 0.2, high


def draw_cycle_ends(ax: Axes, frame: pd.DataFrame, cycle: int, plain: Sequence[str]) -> Axes:
    """Draw how far the cycles are above each plain schedule, seed by seed, at every cycle end.

    Both arms are read after the same number of updates. Whiskers are 95% intervals over pairs of seeds, from three on.

    Args:
        plain: the arms to compare with; the title is about the first.

    Raises:
        ValueError: an arm is not in the frame, or `plain` is empty.
    """
    cycle = _checks.positive_int("cycle", cycle)
    check_runs(check_axes(ax), frame, ("seed",))
    if not plain:
        raise ValueError("plain must name at least one arm, got none")
    for arm in (CYCLICAL, *plain):
        _checks.choice("arm", arm, sorted(frame["arm"].unique()))
    labels, last = [], frame["iteration"][frame["arm"] == CYCLICAL].max() // cycle * cycle
    right = last + cycle / 4
    for i, arm in enumerate(plain):
        rows = claims.pairs(frame, CYCLICAL, arm)
        rows = rows[rows.index % cycle == 0]
        colour, dashes, words = look(arm)
        x = rows.index + (i - (len(plain) - 1) / 2) * 0.12 * cycle
        sure = rows["n"] >= MIN_RUNS
        ax.vlines(x[sure], rows["low"][sure], rows["high"][sure], color=colour, linewidth=2.5)
        ax.plot(x, rows["points"], "o", color=colour, markersize=7, linestyle=(0, dashes) if dashes else "-")
        labels.append((right, rows["points"].iloc[-1], f"against {words} (n = {rows['n'].max()})", colour))
    ax.axhline(0, color="0.2", linewidth=1)
    ax.margins(y=0.12)
    ax.set_xlim(0, right)
    ax.set_xticks(np.arange(0, last + cycle, 2 * cycle))
    ax.set(ylabel="accuracy of cycles − plain, points")
    claim(ax, claims.cycle_ends(frame, cycle, plain))
    label_ends(ax, labels, 0.08)
    updates_axis(ax, "updates, at cycle ends")
    return ax


def draw_cycles(axes: Sequence[Axes], frame: pd.DataFrame, cycle: int) -> Sequence[Axes]:
    """Draw one arm's whole cycles over one another, the early ones pale: mean accuracy above the learning rate.

    Args:
        axes: two that share their x axis.
        frame: one arm on one data set, as `clr.results.read` returns it.
        cycle: updates in a cycle.
    """
    _checks.columns("frame", frame, ("seed", "iteration", "lr", "test_accuracy"))
    end = frame["iteration"].max() // _checks.positive_int("cycle", cycle) * cycle
    if not end > 0:
        raise ValueError(f"frame must reach the end of a cycle of {cycle}, got {frame['iteration'].max()} updates")
    top, strip = check_pair(axes)
    rows, labels = mean_rows(frame), []
    shades = sns.color_palette("YlOrBr", end // cycle + 4)[4:]
    for i, colour in enumerate(shades):
        part = rows[(rows.index >= i * cycle) & (rows.index <= (i + 1) * cycle)]
        x = (part.index - i * cycle) / cycle
        top.plot(x, part["accuracy"], color=colour)
        strip.plot(x, part["lr"], color=colour)
        if len(part) and i in (0, 1, len(shades) - 1):  # a cycle shorter than the evaluations has none
            labels.append((1, part["accuracy"].iloc[-1], f"cycle {i + 1}", colour))
    first = rows.loc[cycle : 2 * cycle, "accuracy"].min()
    top.set(ylim=(np.floor(20 * first) / 20, None), xlim=(0, 1), xlabel="", ylabel="test accuracy")
    percent_axis(top.yaxis)
    label_ends(top, labels)
    strip.set(xlabel="position in the cycle", ylabel="rate", ylim=(0, None))
    percent_axis(strip.xaxis)
    claim(top, claims.cycles(frame, cycle))
    return axes


def draw_controls(
    axes: Sequence[Axes], frame: pd.DataFrame, ends: Mapping[str, int], pair: tuple[str, str], fork: int | None = None
) -> Sequence[Axes]:
    """Draw the arms of the controls, zoomed, their ends with 95% intervals, and their rates below.

    Args:
        axes: two that share their x axis.
        ends: for an arm that stops within a cycle, the end of its last whole one, where it is read.
        pair: cycles alone, and the same cycles with drops, which the title compares.
        fork: the update up to which both of the pair are one run: drawn once, and marked.
    """
    top, strip = check_pair(axes)
    check_runs(top, frame, ("seed", "lr"))
    last, labels = frame["iteration"].max(), []
    for arm, runs in frame.groupby("arm"):
        start = fork or 0 if arm == pair[1] else 0
        runs = runs[(runs["iteration"] <= ends.get(str(arm), last)) & (runs["iteration"] >= start)]
        rows = mean_rows(runs)
        top.plot(rows.index, rows["accuracy"], **line_style(str(arm)))
        strip.plot(rows.index, rows["lr"], **line_style(str(arm)))
        colour = look(str(arm))[0]
        whiskers(top, rows.iloc[-1:], colour, clip=False)
        labels.append((last, rows["accuracy"].iloc[-1], end_label(str(arm), rows), colour))
    top.set(ylim=_zoom(0.0, frame), ylabel="test accuracy", xlim=(0, last), xlabel="")
    top.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 4, 5, 8, 10], integer=True))
    _mark_fork(top, fork)
    percent_axis(top.yaxis)
    label_ends(top, labels)
    strip.set(ylabel="rate", ylim=(0, None))
    updates_axis(strip)
    claim(top, claims.controls(frame, *pair, ends.get(pair[0], int(last))))
    return axes


def _mark_fork(ax: Axes, fork: Any) -> None:
    if fork:
        ax.axvline(fork, color="0.5", linewidth=1, linestyle=":")
        ax.text(fork, ax.get_ylim()[0], " first drop", color="0.35", va="bottom")
