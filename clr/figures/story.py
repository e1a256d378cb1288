"""The range test shown whole: the curves of one call, the schedules that it proposes, and what each of them reached."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from clr import _checks
from clr.figures.base import (
    check_axes,
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
)
from clr.figures.claims import proposed
from clr.figures.range_tests import draw_peak, draw_range_test

__all__ = ["draw_story"]


def draw_story(
    axes: Sequence[Axes], bounds: Any, policies: Mapping[str, Callable[[Any], Any]], updates: int, frame: pd.DataFrame
) -> Sequence[Axes]:
    """Draw from top to bottom a range test, the rates of the schedules it proposes, and how they trained.

    Args:
        axes: four, for the test's held-out accuracy, its training loss, the rates and the test accuracy; the first
            three where the frame is empty.
        bounds: a `clr.Bounds` with the curves of the test.
        policies: by arm.
        updates: of every run.
        frame: the runs of these arms, as `clr.results.read` returns them; arms may be missing, and it may be empty.
    """
    if len(axes) != (3 if frame.empty else 4):
        most = "three, for test, losses and rates" if frame.empty else "four, for test, losses, rates and accuracies"
        raise ValueError(f"axes must be {most}, got {len(axes)}")
    test, losses, rates, *reached = map(check_axes, axes)
    draw_range_test(test, bounds.curve, bounds, bounds.spacing, metric="held-out accuracy")
    draw_peak(test, bounds)
    claim(test, f"1. The range test ({len(bounds.tests)} curves), on held-out images")
    _draw_losses(losses, bounds, policies)
    losses.set_xlim(test.get_xlim())
    _draw_rates(rates, policies, updates)
    updates_axis(axes[-1])
    for ax in reached:
        _draw_reached(ax, check_runs(ax, frame, ("seed",)), updates)
    return axes


def _draw_losses(ax: Axes, bounds: Any, policies: Mapping[str, Callable[[Any], Any]]) -> None:
    """Draw the training loss of every curve, smoothed over five updates, and the peak rates that are read off it."""
    for test in bounds.tests:
        rates, losses = test.rates_and_losses()
        ax.plot(rates, pd.Series(losses).rolling(5, center=True, min_periods=1).mean(), color="0.55", linewidth=1)
    for i, peak in enumerate(sorted({bounds.peak_lr(arm) for arm in policies})):
        names = [look(arm)[2] for arm in policies if bounds.peak_lr(arm) == peak]
        ax.axvline(peak, color="0.15", linewidth=1.4, linestyle=(0, (1, 1.5)))
        text, side = f" {names[0] if len(names) == 1 else 'others'}: {peak:.2g} ", "left" if i else "right"
        ax.text(peak, 0.86, text, transform=ax.get_xaxis_transform(), ha=side, weight="bold")
    ax.set(
        xlabel="learning rate", ylabel="training loss", xscale="log" if bounds.spacing == "exponential" else "linear"
    )
    claim(ax, f"2. {_read_from(bounds)}")


def _read_from(bounds: Any) -> str:
    """Return where the peak rates were read off the losses, or that it was at the end of the test."""
    last, at = max(test.frame["lr"].max() for test in bounds.tests), bounds.landmark
    shares = f"1/{at / bounds.peak_lr('linear'):.0f} of that, 1/{at / bounds.peak_lr('constant'):.0f} if constant"
    if at < 0.999 * last:
        return f"The losses are read at {at:.2g}: peak rates are {shares}"
    return f"No lasting rise of the loss up to {at:.2g}: peak rates are {shares}"


def _draw_rates(ax: Axes, policies: Mapping[str, Callable[[Any], Any]], updates: int) -> None:
    k = np.arange(_checks.positive_int("updates", updates))
    for arm, policy in policies.items():
        ax.plot(k, policy(k), label=look(arm)[2], **line_style(arm))
    ax.set(ylabel="learning rate", xlim=(0, updates), ylim=(0, None))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=11)  # beside the labels below
    updates_axis(ax, "")
    claim(ax, "3. The schedules with these peak rates")


def _draw_reached(ax: Axes, frame: pd.DataFrame, updates: int) -> None:
    labels = []
    for arm, runs in frame.groupby("arm"):
        rows, colour = mean_rows(runs), look(str(arm))[0]
        ax.plot(rows.index, rows["accuracy"], **line_style(str(arm)))
        whiskers(ax, rows.iloc[[-1]], colour, clip=False)
        labels.append((rows.index[-1], rows["accuracy"].iloc[-1], end_label(str(arm), rows), colour))
    ax.set(ylabel="test accuracy", xlim=(0, updates))
    percent_axis(ax.yaxis)
    lowest, highest = (end(label[1] for label in labels) for end in (min, max))
    ax.set_ylim(max(0.0, lowest - 0.2), min(1.0, highest + 0.08))
    label_ends(ax, labels, 0.08)
    claim(ax, f"4. {proposed(frame)}")
