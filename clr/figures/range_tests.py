"""The picture of a range test: where the metric starts to rise, where it slows or fails, and what to train with."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from clr import _checks
from clr.figures.base import MIN_RUNS, check_axes, claim, percent_axis

__all__ = ["draw_peak", "draw_range_test"]

LOST_FRACTION = 0.5  # of the gain: from there on the test has failed
LEAST = 0.2  # height of a share's axis: noise must not look like learning
_WHY_UNKNOWN = {  # by the kind of the curves
    "rising": "the metric still rises at the end",
    "falling": "the metric falls, with no clear rise before",
    "flat": "the metric never rises",
    "too few": "too few evaluations",
    "bad data": "the data are not finite",
    "disagree": "the curves disagree",
}


PAPER: dict[str, Any] = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}  # behind a text


def draw_range_test(
    ax: Axes | None, curve: pd.DataFrame, bounds: Any = None, spacing: str = "linear", reported: Any = None,
    metric: str = "metric",
) -> Axes:  # fmt: skip
    """Draw a range test: the metric against the rate, its band, and the bounds with their 95% intervals.

    Between the bounds the rise is drawn as the straight lines that meet at them. Where half of the gain is lost again,
    the rates beyond are shaded.

    Args:
        ax: None for a new one.
        curve: lr and mean; also low and high, smooth, and n (curves), as `Bounds.curve` has them.
        bounds: a `clr.Bounds`; a bound that is NaN is not drawn.
        spacing: of the rates; "exponential" makes the axis logarithmic.
        reported: bounds that someone else read, as (who, base_lr, max_lr); drawn as a bracket above.
        metric: its name; an accuracy is written in percent.
    """
    _checks.columns("curve", curve, ("lr", "mean"))
    _checks.choice("spacing", spacing, ("linear", "exponential"))
    ax = plt.subplots()[1] if ax is None else check_axes(ax)
    n = int(curve["n"].max()) if "n" in curve else 1
    is_smoothed = "smooth" in curve
    blue, orange, green, *_ = sns.color_palette("colorblind")
    ax.plot(curve["lr"], curve["mean"], color=blue, linewidth=0.8 if is_smoothed else 1.8, alpha=0.7)
    if "low" in curve and curve["low"].notna().any() and (n == 1 or n >= MIN_RUNS):
        ax.fill_between(curve["lr"], curve["low"], curve["high"], color=blue, alpha=0.15, linewidth=0)
    if is_smoothed:
        ax.plot(curve["lr"], curve["smooth"], color=blue, linewidth=2.4)
    _set_rates(ax, curve, spacing)
    ax.set_ylabel("metric (larger is better)" if metric == "metric" else metric)
    ax.margins(y=0.18)
    if is_smoothed:
        _leave_out_depths(ax, curve)
    if "accuracy" in metric:
        percent_axis(ax.yaxis)
        _limit_share(ax, curve)
    _draw_failure(ax, curve, bounds)
    _draw_lines(ax, curve, bounds, spacing)
    for name, colour, below in (("base_lr", green, "starts"), ("max_lr", orange, "max_lr")):
        _draw_bound(ax, curve, bounds, name, colour, below)
    _draw_reported(ax, reported)
    claim(ax, f"{_claim(curve, bounds)} ({'one curve' if n == 1 else f'{n} curves'})")
    return ax


def _set_rates(ax: Axes, curve: pd.DataFrame, spacing: str) -> None:
    low, high = curve["lr"].min(), curve["lr"].max()
    ax.set(xlabel="learning rate", xscale="log" if spacing == "exponential" else "linear", xlim=(low, high))
    if spacing == "exponential" and high < 10 * low:
        ax.xaxis.set_minor_formatter("{x:g}")  # within a decade every label would have a power of ten


def _leave_out_depths(ax: Axes, curve: pd.DataFrame) -> None:
    """End the axis below what was read, where a metric without a floor falls so deep that its rise would look flat."""
    low, high = curve["smooth"].min(), curve["smooth"].max()
    if curve["mean"].min() < 2 * low - high:
        ax.set_ylim(low - (high - low) / 2, high + (high - low) / 2)


def _limit_share(ax: Axes, curve: pd.DataFrame) -> None:
    """Let a share's axis end at 1, and span `LEAST` or more."""
    low, high = ax.get_ylim()
    if curve["mean"].max() <= 1 < high:
        high = ax.set_ylim(top=1)[1]
    if high - low < LEAST:
        foot = min(max((low + high - LEAST) / 2, 0.0), 1 - LEAST)
        ax.set_ylim(foot, foot + LEAST)


def draw_peak(ax: Axes, bounds: Any) -> None:
    """Mark the rate to train with and the rates between which the best one likely lies; the title says both first."""
    rate, (low, high) = bounds.peaks["linear"]
    if not np.isfinite(rate):
        return
    transform = ax.get_xaxis_transform()
    ax.plot([low, high], [0.22, 0.22], "|-", transform=transform, color="0.15", linewidth=1.5, markersize=8, zorder=4)
    ax.plot(rate, 0.22, "D", transform=transform, color="0.15", markersize=7, zorder=5)
    style: dict[str, Any] = {"weight": "bold", "color": "0.15", "zorder": 5, "bbox": PAPER}
    ax.text(rate, 0.26, f"train with {rate:.2g}", transform=transform, ha="center", **style)
    fails = fails_at(bounds.curve, bounds)
    then = f"the test fails at {fails:.2g}" if np.isfinite(fails) else "where it fails is not known"
    n = "one curve" if bounds.n_curves == 1 else f"{bounds.n_curves} curves"
    claim(ax, f"Train with {rate:.2g}; {then} ({n})")


def _interval(bounds: Any, name: str) -> tuple[float, tuple[float, float]]:
    ci = {"base_lr": "base_ci", "max_lr": "max_ci"}[name]
    return getattr(bounds, name, np.nan), getattr(bounds, ci, (np.nan, np.nan))


def _draw_bound(ax: Axes, curve: pd.DataFrame, bounds: Any, name: str, colour: Any, word: str) -> None:
    """Draw one bound as a line, write its rate at the foot, and shade its interval; two that overlap only there."""
    rate, (low, high) = _interval(bounds, name)
    if not np.isfinite(rate):
        return
    y = 0.04 if name == "max_lr" else 0.12
    overlap = _interval(bounds, "base_lr")[1][1] > _interval(bounds, "max_lr")[1][0]
    bottom, top = (y - 0.015, y + 0.06) if overlap else (0, 1)
    ax.axvspan(max(low, curve["lr"].min()), high, bottom, top, color=colour, alpha=0.18, linewidth=0)
    ax.axvline(rate, color=colour, linewidth=2, linestyle="-" if name == "max_lr" else "--")
    most = "≤ " if low == 0 and high == rate else ""
    side, text = _beside(ax, rate, f"{word}: {most}{rate:.2g}", 0.3 if name == "max_lr" else 0.75)
    ax.text(rate, y, text, transform=ax.get_xaxis_transform(), ha=side, weight="bold", color="0.15", zorder=5)


def _beside(ax: Axes, rate: float, text: str, last: float) -> tuple[str, str]:
    """Return on which side of a rate there is room for a text, and the text: on the right up to `last` of the width."""
    left = ax.transAxes.inverted().transform(ax.transData.transform((rate, 0)))[0]
    return ("left", f" {text}") if left < last else ("right", f"{text} ")


def _failure(curve: pd.DataFrame) -> float:
    """Return the first rate beyond the best at which half of the gain is lost again; NaN where none is."""
    values = curve.get("smooth", curve["mean"]).to_numpy(float)
    if not np.isfinite(values).any():
        return float("nan")
    best = int(np.nanargmax(values))
    if best == 0:  # no gain to lose
        return float("nan")
    floor = np.nanmin(values[: best + 1])
    lost = np.flatnonzero(values[best:] < values[best] - LOST_FRACTION * (values[best] - floor))
    return float(curve["lr"].iloc[best + lost[0]]) if len(lost) else float("nan")


def fails_at(curve: pd.DataFrame, bounds: Any) -> float:
    """Return the rate at which training fails: the one that max_lr was read off, else that of the mean curve."""
    if getattr(bounds, "kind", "") == "flat":  # what looks like a gain is noise
        return float("nan")
    known = getattr(bounds, "failure_lr", np.nan)
    return known if np.isfinite(known) else _failure(curve)


def _draw_failure(ax: Axes, curve: pd.DataFrame, bounds: Any) -> None:
    rate = fails_at(curve, bounds)
    if np.isfinite(rate):
        ax.axvspan(rate, curve["lr"].max(), facecolor="0.9", edgecolor="0.7", hatch="//", linewidth=0, zorder=0)
        side, text = _beside(ax, rate, "fails", 0.85)
        text = text if side == "left" else "fails \N{RIGHTWARDS ARROW} "  # outside the hatched area
        ax.text(rate, 0.96, text, transform=ax.get_xaxis_transform(), va="top", ha=side, weight="bold", color="0.3")


def _draw_lines(ax: Axes, curve: pd.DataFrame, bounds: Any, spacing: str) -> None:
    """Draw the straight lines that meet at the bounds, where the gain is kept: level, rise, and what follows."""
    knots = [rate for rate in (_interval(bounds, name)[0] for name in ("base_lr", "max_lr")) if np.isfinite(rate)]
    if len(knots) < 2 or np.isfinite(fails_at(curve, bounds)):
        return
    rates = curve["lr"].to_numpy(float)
    x, *turns = (np.log(v) if spacing == "exponential" else v for v in (rates, *knots))
    hinges = np.stack([np.ones_like(x), *(np.maximum(0, x - turn) for turn in turns)], axis=1)
    fitted, *_ = np.linalg.lstsq(hinges, curve["mean"].to_numpy(float))
    ax.plot(rates, hinges @ fitted, color="0.15", linewidth=1, linestyle=(0, (4, 2)))


def _draw_reported(ax: Axes, reported: Any) -> None:
    if reported is None:
        return
    who, low, high = reported
    transform = ax.get_xaxis_transform()
    ax.plot([low, low, high, high], [0.9, 0.93, 0.93, 0.9], color="0.3", linewidth=1.3, transform=transform)
    ax.text(low, 0.935, f"{who}, by eye", transform=transform, va="bottom", color="0.3", bbox=PAPER)


def _claim(curve: pd.DataFrame, bounds: Any) -> str:
    """Return in words what was found: where the rise slows, or where training fails."""
    top, fails = _interval(bounds, "max_lr")[0], fails_at(curve, bounds)
    if bounds is None:
        return "Range test"
    if not np.isfinite(top):
        return _unknown(bounds)
    if np.isfinite(fails):
        return f"The test fails at {fails:.2g}; max_lr is {top:.2g}"
    return f"The rise slows at {top:.2g}; no failure up to {curve['lr'].max():.2g}"


def _unknown(bounds: Any) -> str:
    """Return which bounds are unknown, and why."""
    why = _WHY_UNKNOWN.get(getattr(bounds, "kind", ""))
    if why is None:
        return "This test does not determine max_lr"
    if bounds.kind == "too few" and any(test.diverged for test in bounds.tests):
        why = "training fails at once"
    return f"{'No max_lr' if np.isfinite(bounds.base_lr) else 'No bounds'}: {why}"
