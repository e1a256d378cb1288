"""Every picture of the README and the notebooks: functions that draw on a given Axes and return it.

They take frames and policies, never a net, so no torch is needed; they neither show nor save.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from clr import _checks
from clr._stats import t_interval

__all__ = ["draw_accuracy", "draw_cycle", "draw_forest", "draw_range_test", "draw_rates", "style"]


FEWEST = 3  # runs for an interval to be drawn: of two it is 12.7 standard errors to either side, and hides all else


def style() -> None:
    """Set the one style: seaborn's colour-blind safe palette, 8 x 4.5 inches, thin grid."""
    sns.set_theme(style="whitegrid", palette="colorblind")
    plt.rcParams.update({
        "figure.figsize": (8.0, 4.5), "figure.dpi": 100, "savefig.dpi": 150, "savefig.bbox": "tight",
        "grid.linewidth": 0.5, "lines.linewidth": 1.6, "svg.hashsalt": "clr", "legend.frameon": True,
    })  # fmt: skip


def draw_rates(ax: Axes, policies: Mapping[str, Callable[[Any], Any]], iterations: int) -> Axes:
    """Draw the learning rate of each policy over the iterations from 0 to `iterations`.

    Args:
        policies: by the name that the legend gives each; any callables of an array of iterations.
    """
    _check_axes(ax)
    if not isinstance(policies, Mapping):
        raise TypeError(f"policies must be a mapping of names to policies, got {policies!r}")
    iterations = _checks.positive_int("iterations", iterations)
    k = np.arange(iterations + 1)
    for name, policy in policies.items():
        ax.plot(k, _checks.function(f"policies[{name!r}]", policy)(k), label=name)
    ax.set(xlabel="iteration", ylabel="learning rate", xlim=(0, iterations), ylim=(0, None))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if len(policies) > 1:  # above the axes: a cyclical rate leaves no corner free
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    return ax


def draw_accuracy(ax: Axes, frame: pd.DataFrame, cycles: Mapping[str, int] | None = None) -> Axes:
    """Draw test accuracy against iteration, whole curves: an arm's mean over its seeds, and its 95 % band (n > 2).

    Args:
        frame: of one experiment on one data set, as `clr.results.read` returns it; the legend says each arm's n. Where
            a run ended early, the mean goes on over the others.
        cycles: for a cyclical arm the updates in a cycle; its cycles' ends are marked.
    """
    _check_axes(ax)
    _checks.columns("frame", frame, ("dataset", "arm", "iteration", "test_accuracy"))
    cycles = {arm: _checks.positive_int(f"cycles[{arm!r}]", cycle) for arm, cycle in (cycles or {}).items()}
    if frame["dataset"].nunique() > 1:
        raise ValueError(f"frame must hold one data set, got {', '.join(frame['dataset'].unique())}")
    if "experiment" in frame and frame["experiment"].nunique() > 1:
        raise ValueError(f"frame must hold one experiment, got {', '.join(frame['experiment'].unique())}")
    palette, lines = sns.color_palette("colorblind"), ("-", "--", ":")
    colours = [palette[i] for i in (0, 1, 2, 4, 9)]  # more are hard to tell apart
    for i, (arm, runs) in enumerate(frame.groupby("arm")):
        colour, line = colours[i % len(colours)], lines[i // len(colours) % len(lines)]
        by_iteration = runs.groupby("iteration")["test_accuracy"]
        mean = by_iteration.mean()
        ax.plot(mean.index, mean, line, color=colour, label=f"{arm} (n = {by_iteration.size().max()})")
        _draw_band(ax, by_iteration, colour)
        if arm in cycles:
            at = mean[mean.index % cycles[arm] == 0]
            ax.plot(at.index, at, "o", color=colour, markersize=5, label=f"{arm}: ends of cycles")
    low, high = ax.get_ylim()
    ax.set(xlabel="iteration", ylabel="test accuracy", xlim=(0, None), ylim=(max(0, low), min(1, high)))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.legend(loc="lower right")
    return ax


def _draw_band(ax: Axes, by_iteration: Any, colour: Any) -> None:
    n = by_iteration.size()
    low, high = t_interval(by_iteration.mean(), by_iteration.sem(), n)
    ax.fill_between(n.index, low, high, where=n >= FEWEST, color=colour, alpha=0.25, linewidth=0)


def draw_cycle(axes: Sequence[Axes], frame: pd.DataFrame, cycle: int) -> Sequence[Axes]:
    """Draw one arm's accuracy above its learning rate, over its last two whole cycles.

    Args:
        axes: two, which share their x axis: accuracy goes on the first, the rate on the second.
        frame: one arm on one data set, as `clr.results.read` returns it.
        cycle: updates in a cycle.
    """
    _checks.columns("frame", frame, ("iteration", "lr", "test_accuracy"))
    end = frame["iteration"].max() // _checks.positive_int("cycle", cycle) * cycle
    if not end > 0:
        raise ValueError(f"frame must reach the end of a cycle of {cycle}, got {frame['iteration'].max()} updates")
    start = max(0, end - 2 * cycle)
    part = frame[(frame["iteration"] >= start) & (frame["iteration"] <= end)]
    blue, orange, *_ = sns.color_palette("colorblind")
    by_iteration = part.groupby("iteration")
    mean, rate = by_iteration["test_accuracy"].mean(), by_iteration["lr"].first()
    _draw_band(axes[0], by_iteration["test_accuracy"], blue)
    axes[0].plot(mean.index, mean, "o-", color=blue, markersize=4, label=f"n = {by_iteration.size().max()}")
    axes[1].plot(rate.index, rate, "o-", color=orange, markersize=4)
    for ax in axes:
        for bound in range(start, end + 1, cycle):
            ax.axvline(bound, color="0.6", linewidth=0.8, linestyle=":")
    axes[0].set(ylabel="test accuracy")
    axes[0].legend(loc="lower right")
    axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[1].set(xlabel="iteration", ylabel="learning rate", ylim=(0, None))
    axes[1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return axes


def draw_forest(ax: Axes, arms: pd.DataFrame) -> Axes:
    """Draw every arm's accuracy with its 95 % interval (n > 2), one a line, beside what others reported of it.

    Args:
        arms: of one data set, as `clr.tables.arms_table` returns them.
    """
    _check_axes(ax)
    _checks.columns(
        "arms", arms, ("experiment", "arm", "iterations", "accuracy", "low", "high", "n", "source", "reported")
    )
    blue, *others = sns.color_palette("colorblind")
    looks = dict(zip(arms["source"].dropna().unique(), zip("Ds^", others, strict=False), strict=False))
    places, labels, y = [], [], 0.0
    for experiment, rows in arms.groupby("experiment", sort=False):
        ax.text(0, y, f"{experiment} ", transform=ax.get_yaxis_transform(), ha="right", va="center", weight="bold")
        for row in rows.itertuples():
            y += 1
            if row.n >= FEWEST:
                ax.plot([row.low, row.high], [y, y], color=blue, linewidth=2)
            ax.plot(row.accuracy, y, "o", color=blue, markersize=5)
            if row.source in looks:
                marker, colour = looks[row.source]
                ax.plot(row.reported, y, marker, color=colour, markersize=6, fillstyle="none")
            places.append(y)
            labels.append(f"{row.arm}, {row.iterations:,} (n = {row.n})")
        y += 1.6
    ax.set(yticks=places, yticklabels=labels, ylim=(y - 1, -1), xlabel="test accuracy")
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.plot([], [], "o", color=blue, label="here, with its 95 % interval (n > 2)")
    for source, (marker, colour) in looks.items():
        ax.plot([], [], marker, color=colour, fillstyle="none", label=source)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return ax


def draw_range_test(ax: Axes | None, curve: pd.DataFrame, bounds: Any = None, spacing: str = "linear") -> Axes:
    """Draw a range test: the metric against the rate, its band, and the bounds with their 95 % intervals.

    Args:
        ax: None for a new one.
        curve: lr and mean; also low and high, smooth, and n (curves), as `Bounds.curve` has them.
        bounds: a `clr.bounds.Bounds`; a bound that is NaN is not drawn.
        spacing: of the rates; "exponential" makes the axis logarithmic.
    """
    _checks.columns("curve", curve, ("lr", "mean"))
    _checks.choice("spacing", spacing, ("linear", "exponential"))
    ax = plt.subplots()[1] if ax is None else _check_axes(ax)
    blue, orange, green, *_ = sns.color_palette("colorblind")
    seeds = f"mean of {curve['n'].max()} curves" if "n" in curve and curve["n"].max() > 1 else "one curve"
    ax.plot(curve["lr"], curve["mean"], color=blue, linewidth=1, label=seeds)
    if "low" in curve and curve["low"].notna().any():
        ax.fill_between(curve["lr"], curve["low"], curve["high"], color=blue, alpha=0.2, linewidth=0, label="95 % band")
    if "smooth" in curve:
        ax.plot(curve["lr"], curve["smooth"], color="0.25", linewidth=1.2, linestyle="--", label="smoothed")
    for name, colour in (("base_lr", green), ("max_lr", orange)):
        rate, interval = (getattr(bounds, name, np.nan), getattr(bounds, name.replace("lr", "ci"), (np.nan, np.nan)))
        if np.isfinite(rate):
            ax.axvspan(max(interval[0], curve["lr"].min()), interval[1], color=colour, alpha=0.15, linewidth=0)
            ax.axvline(rate, color=colour, label=f"{name} = {rate:.3g}")
    ax.set(xlabel="learning rate", ylabel="metric", xscale="log" if spacing == "exponential" else "linear")
    ax.legend()
    return ax


def _check_axes(ax: Any) -> Axes:
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib axes, got {ax!r}")
    return ax
