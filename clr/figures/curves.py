"""Whole curves: learning rates of policies, and test accuracy of runs, against updates."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from clr import _checks
from clr.figures.base import (
    FAMILIES,
    MIN_BAND,
    band,
    check_axes,
    check_pair,
    check_runs,
    label_ends,
    line_style,
    look,
    mean_rows,
    own_style,
    percent_axis,
    updates_axis,
)  # fmt: skip

__all__ = ["draw_accuracy", "draw_rates", "draw_training"]


def draw_rates(ax: Axes, policies: Mapping[str, Callable[[Any], Any]], iterations: int) -> Axes:
    """Draw the learning rate of each policy over the iterations from 0 to `iterations`.

    Args:
        policies: by the name that the legend gives each; any callables of an array of iterations. The name of a family
            of schedules, such as "line to zero", takes that family's colour; other names take colours of no family.
    """
    check_axes(ax)
    if not isinstance(policies, Mapping):
        raise TypeError(f"policies must be a mapping of names to policies, got {_checks.brief(policies)}")
    iterations = _checks.positive_int("iterations", iterations)
    k = np.arange(iterations + 1)
    others = [name for name in policies if name not in FAMILIES]
    for name, policy in policies.items():
        own = line_style(name) if name in FAMILIES else own_style(others.index(name))
        ax.plot(k, _checks.function(f"policies[{name!r}]", policy)(k), label=name, **own)
    updates_axis(ax)
    ax.set(ylabel="learning rate", xlim=(0, iterations), ylim=(0, None))
    if len(policies) > 1:  # above the axes: a cyclical rate leaves no corner free
        columns = 4 if len(policies) == 4 else 3
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False)
    return ax


def draw_accuracy(ax: Axes, frame: pd.DataFrame, cycles: Mapping[str, int] | None = None) -> Axes:
    """Draw whole curves of test accuracy: each arm's mean over its seeds, labelled at its end.

    From five runs on, a band shows the mean's 95% interval. With two to four, the single runs are drawn pale.

    Args:
        frame: of one experiment on one data set, as `clr.results.read` returns it. Where a run ended early, the mean
            goes on over the others.
        cycles: for a cyclical arm the updates in a cycle; its cycle ends are marked.
    """
    check_runs(check_axes(ax), frame)
    cycles = {arm: _checks.positive_int(f"cycles[{arm!r}]", cycle) for arm, cycle in (cycles or {}).items()}
    if "experiment" in frame and frame["experiment"].nunique() > 1:
        raise ValueError(f"frame must hold one experiment, got {_checks.listed(frame['experiment'].unique())}")
    labels = []
    for arm, runs in frame.groupby("arm"):
        colour, _, words = look(str(arm))
        draw_mean(ax, runs, str(arm))
        rows = mean_rows(runs)
        if arm in cycles:
            ends = rows[rows.index % cycles[arm] == 0]
            ax.plot(ends.index, ends["accuracy"], "o", color=colour, markersize=6)
        labels.append((rows.index[-1], rows["accuracy"].iloc[-1], f"{words} (n = {rows['n'].max()})", colour))
    low, high = ax.get_ylim()
    ax.set(ylabel="test accuracy", xlim=(0, frame["iteration"].max()), ylim=(max(0, low), min(1, high)))
    updates_axis(ax)
    percent_axis(ax.yaxis)
    label_ends(ax, labels)
    return ax


def draw_training(axes: Sequence[Axes], frame: pd.DataFrame, updates: int) -> Sequence[Axes]:
    """Draw runs as far as they have come: accuracies above their learning rates, on axes that stay as they are.

    Args:
        axes: two that share their x axis.
        frame: arm, iteration, lr and test_accuracy; it may be empty.
        updates: of the longest run.
    """
    top, strip = check_pair(axes)
    _checks.columns("frame", frame, ("arm", "iteration", "lr", "test_accuracy"))
    labels = []
    for arm, rows in frame.groupby("arm"):
        colour, _, words = look(str(arm))
        top.plot(rows["iteration"], rows["test_accuracy"], marker="o", markersize=4, **line_style(str(arm)))
        strip.plot(rows["iteration"], rows["lr"], **line_style(str(arm)))
        end = rows.iloc[-1]
        labels.append((end["iteration"], end["test_accuracy"], f"{words}, {100 * end['test_accuracy']:.0f}%", colour))
    top.set(xlim=(0, 1.25 * updates), ylim=(0, 1), ylabel="test accuracy")
    percent_axis(top.yaxis)
    label_ends(top, labels)
    strip.set(ylabel="rate", ylim=(0, None))
    updates_axis(strip)
    return axes


def draw_mean(ax: Axes, runs: pd.DataFrame, arm: str) -> None:
    """Draw the mean accuracy of one arm's runs with its band, or above its single runs where they are two to four."""
    own = line_style(arm)
    if 1 < runs["seed"].nunique() < MIN_BAND:
        for _, run in runs.groupby("seed"):
            ax.plot(run["iteration"], run["test_accuracy"], color=own["color"], linewidth=0.6, alpha=0.4)
    sns.lineplot(runs, x="iteration", y="test_accuracy", errorbar=band, ax=ax, **own)
