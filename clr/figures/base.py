"""What all pictures share: the style, one colour per schedule family, the arms' names in words, labels at line ends."""

import re
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from clr import _checks
from clr._stats import MIN_RUNS, t_interval

__all__ = [
    "FAMILIES", "MIN_RUNS", "band", "check_axes", "check_pair", "check_runs", "claim", "end_label", "label_ends",
    "look", "mean_rows", "percent_axis", "style", "updates_axis", "whiskers",
]  # fmt: skip

MIN_BAND = 5  # for a band around a curve; with fewer, the single runs are drawn

_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, _BROWN, *_ = sns.color_palette("colorblind").as_hex()
FAMILIES = {  # colour and dashes of each family of schedules, everywhere
    "cycles": (_ORANGE, ""),
    "line to zero": (_GREEN, (5, 1.5)),
    "one cycle": ("#a0508f", (7, 2, 1.5, 2)),
    "step decay, high rate": (_BLUE, (3, 1.2)),
    "step decay, low rate": ("#707070", ""),
    "cosine": (_BROWN, (1.2, 1.2)),
    "other": ("#202020", (1.2, 1.2)),
}
OWN = (("#202020", ""), ("#56b4e9", (5, 1.5)), ("#d55e00", (1.2, 1.2)))  # of what is no family, in turn
ARMS = {  # arm, or how it begins: its family, and its name in words
    "triangular-25k-drops": ("cycles", "cycles, then drops"),
    "triangular-32k-drops": ("cycles", "cycles, then drops"),
    "triangular-70k-drops": ("cycles", "cycles, then drops"),
    "triangular-drops": ("cycles", "cycles, then drops"),
    "triangular2": ("cycles", "halving cycles"),
    "triangular": ("cycles", "cycles"),
    "exp_range-amplitude": ("cycles", "fading cycles (amplitude)"),
    "exp_range": ("cycles", "fading cycles"),
    "step-": ("cycles", "cycles"),
    "linear-third": ("line to zero", "line, a third of the rate"),
    "linear-triple": ("line to zero", "line, three times the rate"),
    "linear": ("line to zero", "line to zero"),
    "one-cycle": ("one cycle", "one cycle"),
    "fixed-32k": ("step decay, high rate", "step decay, high rate"),
    "fixed-25k-high": ("step decay, high rate", "step decay, high rate"),
    "fixed-0.1": ("step decay, high rate", "step decay from 0.1"),
    "fixed-0.2": ("step decay, high rate", "step decay from 0.2"),
    "fixed-0.3": ("step decay, high rate", "step decay from 0.3"),
    "fixed": ("step decay, low rate", "step decay, low rate"),
    "constant": ("step decay, low rate", "constant rate"),
    "cosine": ("cosine", "half a cosine"),
    "decay": ("other", "short decay"),
    "exp": ("other", "exponential decay"),
}


def style() -> None:
    """Set the one style: seaborn's colour-blind safe palette, 8 x 4.5 inches, white, thin grid, large print."""
    sns.set_theme(style="whitegrid", palette="colorblind")
    plt.rcParams.update({
        "figure.figsize": (8.0, 4.5), "figure.dpi": 100, "figure.facecolor": "white", "savefig.facecolor": "white",
        "savefig.dpi": 150, "savefig.bbox": "tight", "grid.linewidth": 0.5, "grid.color": "0.88",
        "lines.linewidth": 1.8, "svg.hashsalt": "clr", "legend.frameon": True, "font.size": 12, "axes.labelsize": 12,
        "xtick.labelsize": 11, "ytick.labelsize": 11, "axes.titlesize": 13.5, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.edgecolor": "0.6",
    })  # fmt: skip


def look(arm: str) -> tuple[str, Any, str]:
    """Return an arm's colour, its dashes and its name in words; an unknown arm keeps its key as its name.

    >>> look("linear-32k")[2]
    'line to zero'
    """
    starts = [start for start in ARMS if arm.startswith(start)]
    if not starts:
        colour, dashes = FAMILIES.get(arm, FAMILIES["other"])
        return colour, dashes, arm
    family, words = ARMS[max(starts, key=len)]
    colour, dashes = FAMILIES[family]
    without = " without multipliers" if arm.endswith("-without") else ""
    return colour, (4, 1) if "drops" in words else dashes, words + without


def line_style(arm: str) -> dict[str, Any]:
    """Return an arm's colour and dashes as matplotlib's arguments."""
    return _as_arguments(*look(arm)[:2])


def own_style(i: int) -> dict[str, Any]:
    """Return the i-th colour and dashes that no family has."""
    return _as_arguments(*OWN[i % len(OWN)])


def _as_arguments(colour: str, dashes: Any) -> dict[str, Any]:
    return {"color": colour, "linestyle": (0, dashes) if dashes else "-"}


def band(values: Any) -> tuple[float, float]:
    """Return the 95% t interval of a mean, NaN under five runs: what seaborn's `errorbar` asks for.

    >>> band([0.7, 0.8])
    (nan, nan)
    """
    n = len(values)
    if n < MIN_BAND:
        return float("nan"), float("nan")
    low, high = t_interval(np.mean(values), np.std(values, ddof=1) / np.sqrt(n), n)
    return float(low), float(high)


def mean_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """Return per iteration the mean accuracy of one arm's runs, its 95% interval (low, high), their n, and the rate."""
    by = runs.groupby("iteration")
    rows = by["test_accuracy"].agg(["mean", "sem", "size"]).rename(columns={"mean": "accuracy", "size": "n"})
    rows["low"], rows["high"] = t_interval(rows["accuracy"], rows["sem"], rows["n"])
    return rows.assign(lr=by["lr"].first()) if "lr" in runs else rows


def whiskers(ax: Axes, rows: pd.DataFrame, color: Any, clip: bool = True) -> None:
    """Draw the mean accuracies of `mean_rows` as dots, with an interval where three runs or more give one.

    clip: end at the frame; not where a dot sits on it.
    """
    several = rows[rows["n"] >= MIN_RUNS]
    ax.vlines(several.index, several["low"], several["high"], color=color, linewidth=2, zorder=3, clip_on=clip)
    ax.plot(rows.index, rows["accuracy"], "o", markersize=6, zorder=4, color=color, clip_on=clip)


def label_ends(ax: Axes, labels: Sequence[tuple[float, float, str, Any]], gap: float = 0.065) -> None:
    """Write each text to the right of its point (x, y, text, colour), pushed apart to `gap` of the axis's height."""
    low, high = ax.get_ylim()
    step, place = gap * (high - low), -np.inf
    for x, y, text, colour in sorted(labels, key=lambda label: label[1]):
        place = max(y, place + step)
        ax.annotate(
            text, (x, y), (8, (place - y) / (high - low) * ax.bbox.height * 72 / ax.figure.dpi),
            textcoords="offset points", color=colour, va="center", weight="bold", fontsize=11, annotation_clip=False,
        )  # fmt: skip


def claim(ax: Axes, text: str) -> None:
    """Set the title, broken into lines that the picture is wide enough for."""
    whole = re.sub(r" \([^()]*n = [^)]*\)", lambda n: n[0].replace(" ", "\N{NO-BREAK SPACE}"), text)  # never broken
    ax.set_title("\n".join(textwrap.wrap(whole, 62)))


def end_label(arm: str, rows: pd.DataFrame) -> str:
    """Return what stands beside the end of an arm's curve: its name, its last accuracy of `mean_rows`, and n."""
    last = rows.iloc[-1]
    return f"{look(arm)[2]}, {100 * last['accuracy']:.1f}% (n = {last['n']:.0f})"


def percent_axis(axis: Any) -> None:
    """Write fractions as percent without decimals, at whole percents only."""
    axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def updates_axis(ax: Axes, label: str = "updates") -> None:
    """Write updates with commas."""
    ax.set_xlabel(label)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def check_axes(ax: Any) -> Axes:
    """Return matplotlib axes."""
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib axes, got {_checks.brief(ax)}")
    return ax


def check_pair(axes: Any) -> tuple[Axes, Axes]:
    """Return the two axes of a picture with a strip of rates below it."""
    if len(axes) != 2:
        raise ValueError(f"axes must be two, for accuracy and rates, got {len(axes)}")
    return check_axes(axes[0]), check_axes(axes[1])


def check_runs(ax: Axes, frame: Any, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return a frame of runs on one data set and at one scale; a shortened scale is written across the axes."""
    _checks.columns("frame", frame, ("dataset", "arm", "iteration", "test_accuracy", *columns))
    for name, words in {"dataset": "data set", "scale": "scale"}.items():
        if name in frame and frame[name].nunique() > 1:
            raise ValueError(f"frame must hold one {words}, got {_checks.listed(frame[name].unique())}")
    for scale in set(frame.get("scale", ())) - {"full"}:
        ax.text(
            0.5, 0.5, f"{scale} run: compare shapes, not accuracies", transform=ax.transAxes, ha="center", va="center",
            fontsize=18, color="0.75", rotation=20, zorder=0,
        )  # fmt: skip
    return frame
