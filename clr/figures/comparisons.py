"""Ends of runs compared: differences from a reference, ours beside the paper's, initial weights and pixels."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from clr import _checks
from clr.figures import claims
from clr.figures.base import MIN_RUNS, check_axes, check_runs, claim, label_ends, look, percent_axis, updates_axis

__all__ = ["draw_differences", "draw_ends", "draw_init", "draw_paper"]


def draw_differences(ax: Axes, table: pd.DataFrame, reference: str, updates: int | None = None) -> Axes:
    """Draw by how many points each arm is above a reference, the best first, with 95% intervals over pairs of seeds.

    A marker is filled and has an interval from three pairs on; below that it is hollow. At the right edge stands n.

    Args:
        table: columns arm, points, low, high and n, as `clr.experiments.tables.differences` returns them; a column
            label where the rows should be named otherwise than by their arms.
        reference: its name in words.  updates: after how many both were read, for the title.
    """
    check_axes(ax)
    _checks.columns("table", table, ("arm", "points", "low", "high", "n"))
    table = table.sort_values("points", ascending=False, ignore_index=True)
    for y, row in enumerate(table.itertuples()):
        _draw_row(ax, y, row, row.points, f"n = {row.n}")
    ax.axvline(0, color="0.2", linewidth=1)
    ax.set_yticks(range(len(table)), table["label"] if "label" in table else [_name(str(arm)) for arm in table["arm"]])
    ax.grid(False, axis="y")
    hollow = f" (hollow: fewer than {MIN_RUNS} pairs)" if (table["n"] < MIN_RUNS).any() else ""
    ax.set(ylim=(len(table) - 0.4, -0.6), xlabel=f"points above {reference}{hollow}")
    claim(ax, claims.differences(table, reference, updates))
    return ax


def _draw_row(ax: Axes, y: float, row: Any, value: float, text: str) -> None:
    """Draw an arm's value, filled and with its interval from three runs on, and write at the right edge beside it."""
    colour, sure = look(str(row.arm))[0], row.n >= MIN_RUNS
    if sure:
        ax.plot([row.low, row.high], [y, y], "|-", color=colour, linewidth=2.5, markersize=16, mew=2)
    ax.plot(value, y, "o", color=colour, markersize=8, markerfacecolor=colour if sure else "white", mew=2)
    ax.text(1.02, y, text, transform=ax.get_yaxis_transform(), va="center", color="0.35")


def _name(arm: str) -> str:
    words = look(arm)[2]
    return words if words == arm else f"{words}\n({arm})"


def draw_paper(ax: Axes, arms: pd.DataFrame) -> Axes:
    """Draw each arm's accuracy (circle) joined with the one that the paper reports (square); the gap in points between.

    Args:
        arms: columns arm, accuracy, n and reported, as `clr.experiments.tables.beside_reported` returns them.
    """
    check_axes(ax)
    _checks.columns("arms", arms, ("arm", "accuracy", "n", "reported"))
    arms = arms.dropna(subset="reported").sort_values("reported", ascending=False, ignore_index=True)
    for y, row in enumerate(arms.itertuples()):
        ax.plot([row.accuracy, row.reported], [y, y], color="0.75", linewidth=3, zorder=1)
        colour = look(str(row.arm))[0]
        face = colour if row.n >= MIN_RUNS else "white"
        ax.plot(row.accuracy, y, "o", color=colour, markersize=10, mew=2, markerfacecolor=face)
        ax.plot(row.reported, y, "s", color="0.2", markersize=9)
        gap = f"{100 * (row.accuracy - row.reported):+.1f}"
        ax.text((row.accuracy + row.reported) / 2, y - 0.13, gap, ha="center", va="bottom")
        ax.text(1.02, y, f"n = {row.n}", transform=ax.get_yaxis_transform(), va="center", color="0.35")
    ax.set_yticks(range(len(arms)), [_name(str(arm)) for arm in arms["arm"]])
    ax.grid(False, axis="y")
    ax.set(ylim=(len(arms) - 0.4, -0.8), xlabel=f"test accuracy: circle ours (hollow: n < {MIN_RUNS}), square paper")
    percent_axis(ax.xaxis)
    claim(ax, claims.paper(arms))
    return ax


def draw_ends(ax: Axes, arms: pd.DataFrame) -> Axes:
    """Draw each arm's accuracy with its 95% interval, the best first; at the right edge stand n and what was reported.

    Args:
        arms: columns arm, accuracy, low, high, n, reported, as `clr.experiments.tables.beside_reported` returns them.
    """
    check_axes(ax)
    _checks.columns("arms", arms, ("arm", "accuracy", "low", "high", "n", "reported"))
    arms = arms.sort_values("accuracy", ascending=False, ignore_index=True)
    for y, row in enumerate(arms.itertuples()):
        _draw_row(ax, y, row, row.accuracy, f"n = {row.n}; paper {100 * row.reported:.1f}%")
    ax.set_yticks(range(len(arms)), [look(str(arm))[2] for arm in arms["arm"]])
    ax.grid(False, axis="y")
    ax.set(ylim=(len(arms) - 0.4, -0.6), xlabel="test accuracy")
    percent_axis(ax.xaxis)
    if ax.get_xlim()[1] - ax.get_xlim()[0] < 0.1:
        ax.xaxis.set_major_locator(MultipleLocator(0.01))
    return ax


def draw_init(ax: Axes, frame: pd.DataFrame) -> Axes:
    """Draw the curves of two kinds of initial weights (dashes) on two kinds of pixels (colour).

    Args:
        frame: of the experiment "init", whose arms are named "<pixels>-pixels-<init>-init".
    """
    check_runs(check_axes(ax), frame)
    looks: dict[str, Any] = {"caffe": ("#0173b2", "0–255"), "unit": ("#de8f05", "0–1")}
    labels = []
    for arm, runs in frame.groupby("arm"):
        pixels, _, weights, _ = str(arm).split("-")
        colour, scale = looks[pixels]
        mean = runs.groupby("iteration")["test_accuracy"].mean()
        ax.plot(mean.index, mean, color=colour, linestyle="-" if weights == "caffe" else "--")
        labels.append((mean.index[-1], mean.iloc[-1], f"{scale} pixels, {weights.capitalize()} weights", colour))
    ax.set(ylabel="test accuracy", xlim=(0, frame["iteration"].max()), ylim=(0, np.ceil(10 * ax.get_ylim()[1]) / 10))
    percent_axis(ax.yaxis)
    updates_axis(ax)
    label_ends(ax, labels)
    claim(ax, claims.init(frame))
    return ax
