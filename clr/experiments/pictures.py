"""The study's pictures: which runs each is drawn from, with `clr.figures`, and under which name it is kept.

Each takes a `Study` and returns a figure; where the runs it needs have not finished, it says so and returns None.
"""

import os
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import wraps
from io import StringIO
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from clr import _checks, figures, results
from clr.experiments import findings, tables
from clr.experiments.catalogue import REPORTED_BOUNDS
from clr.experiments.study import Study
from clr.range_test import Bounds, suggest_bounds

__all__ = [
    "PICTURES", "PROPOSED", "bounds", "control_differences", "controls", "cycle", "cycle_ends", "differences",
    "headline", "headline_runs", "init", "multipliers", "paper", "precision", "proposed_bounds", "proposed_rates",
    "range_test", "save", "table_4", "training", "whole",
]  # fmt: skip

Draw = Callable[..., Figure | None]


def _needs(experiment: str, *arms: str) -> Callable[[Draw], Draw]:
    """Return a decorator that draws only where these arms have finished, and otherwise prints how to train them."""

    def decorate(draw: Draw) -> Draw:
        @wraps(draw)
        def checked(study: Study, *more: str, **options: Any) -> Figure | None:
            there = set(study.runs(experiment)["arm"])
            if there and set(arms) | set(more) <= there:
                return draw(study, *more, **options)
            return _not_finished(study, experiment)

        return checked

    return decorate


def _not_finished(study: Study, experiment: str) -> Figure | None:
    """Print how to train what a picture lacks; return no picture."""
    print(f"Not finished at scale {study.scale}: `{study.command(experiment)}`")
    return None


def _with_strip() -> tuple[Figure, list[plt.Axes]]:
    figure, axes = plt.subplots(2, 1, sharex=True, height_ratios=(5, 1.3), figsize=(8, 5.4))
    return figure, list(axes)


def training(figure: Figure, rows: pd.DataFrame) -> None:
    """Draw the rows of `watch` so far, into a figure of `clr.notebook.growing`."""
    axes = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1.3))
    figures.draw_training(axes, rows, rows.attrs["updates"])
    axes[0].set_title(rows.attrs["left"])


@_needs("headline")
def whole(study: Study, lowest: float = 0.0) -> Figure | None:
    """Draw the headline's schedules from the first update to the last, above an accuracy."""
    figure, ax = plt.subplots()
    figures.draw_accuracy(ax, study.runs("headline"), {"triangular": study.cycle}).set_ylim(bottom=lowest)
    return figure


def headline_runs(study: Study) -> pd.DataFrame:
    """Return the runs of the headline's picture: cycles with drops are left out, as they are cycles up to the drops."""
    runs = study.runs("headline", "headline-controls")
    return runs[runs["arm"] != "triangular-32k-drops"]


@_needs("headline", "fixed", "triangular")
def headline(study: Study) -> Figure | None:
    """Draw how early cycles and plain schedules reach the accuracy of the long schedule."""
    figure, axes = _with_strip()
    figures.draw_headline(axes, headline_runs(study), study.cycle)
    return figure


@_needs("headline", "triangular")
def cycle_ends(study: Study) -> Figure | None:
    """Draw how far the cycles are ahead of plain schedules after the same number of updates."""
    runs = study.runs("headline", "headline-controls")
    plain = [arm for arm in ("linear-32k", "fixed-32k") if arm in set(runs["arm"])]
    if not plain:
        return _not_finished(study, "headline-controls")
    figure, ax = plt.subplots()
    figures.draw_cycle_ends(ax, runs, study.cycle, plain)
    return figure


@_needs("headline", "triangular")
def cycle(study: Study) -> Figure | None:
    """Draw all whole cycles of the headline over one another."""
    figure, axes = _with_strip()
    runs = study.runs("headline")
    figures.draw_cycles(axes, runs[runs["arm"] == "triangular"], study.cycle)
    return figure


def _forest(table: pd.DataFrame, reference: str, updates: int | None = None) -> Figure:
    figure, ax = plt.subplots(figsize=(8, 1.6 + 0.55 * len(table)))
    figures.draw_differences(ax, table, reference, updates)
    return figure


@_needs("headline", "triangular")
def differences(study: Study) -> Figure | None:
    """Draw by how much each of the headline's schedules ends above its cycles, at their last whole cycle's end."""
    end = study.config("headline", "triangular").last_cycle_end
    table = tables.differences(study.runs("headline", "headline-controls"), "triangular", end)
    table = table[table["arm"] != "fixed"]  # which is not at its end there
    return _not_finished(study, "headline-controls") if table.empty else _forest(table, "cycles", end)


@_needs("controls", "fixed-25k")
def control_differences(study: Study) -> Figure | None:
    """Draw by how much the paper's net ends above step decay at a low rate, if the rate comes down at the end."""
    end = study.config("controls", "fixed-25k").iterations
    table = tables.differences(study.runs("controls", "paper-table-1"), "fixed-25k", end)
    at_end = ("fixed-25k-high", "triangular-25k-drops", "linear-25k", "one-cycle-25k", "triangular2")
    table = table[table["arm"].isin(at_end)]
    return _not_finished(study, "controls") if table.empty else _forest(table, "step decay at a low rate", end)


PAIR = ("triangular-25k", "triangular-25k-drops")


@_needs("controls", *PAIR)
def controls(study: Study) -> Figure | None:
    """Draw the arms that the paper left out, on its net."""
    figure, axes = _with_strip()
    runs = study.runs("controls")
    alone, dropped = (study.config("controls", arm) for arm in PAIR)
    fork = dropped.policy.stages[1][0]  # type: ignore[attr-defined]
    runs = runs[runs["iteration"] <= alone.iterations]
    figures.draw_controls(axes, runs, {PAIR[0]: alone.last_cycle_end}, PAIR, fork)
    return figure


@_needs("paper-table-1", "fixed")
def paper(study: Study) -> Figure | None:
    """Draw our accuracies of the paper's Table 1 beside the paper's."""
    found = _reported(study, "paper-table-1")
    if found.empty:
        return None
    figure, ax = plt.subplots()
    figures.draw_paper(ax, found)
    return figure


def _reported(study: Study, experiment: str) -> pd.DataFrame:
    """Return the arms of which others reported an accuracy, with that; where there is none, say so."""
    found = tables.beside_reported(experiment, study.runs(experiment))
    if found.empty:
        print(f"What others reported of {experiment} is of full length.")
    return found


@_needs("mults", "fixed", "fixed-without")
def multipliers(study: Study) -> Figure | None:
    """Draw by how much the prototxt's multipliers change each policy's end."""
    table = tables.multiplier_differences(study.ends("mults"))
    return _not_finished(study, "mults") if table.empty else _forest(table, "the same without multipliers")


@_needs("init", *(f"{pixels}-pixels-{init}-init" for pixels in ("caffe", "unit") for init in ("caffe", "torch")))
def init(study: Study) -> Figure | None:
    """Draw two kinds of initial weights on two kinds of pixels."""
    figure, ax = plt.subplots()
    figures.draw_init(ax, study.runs("init"))
    return figure


def tested_arm(study: Study, arm: str) -> str:
    """Return the arm of a net's range test on images held out from training where it has finished, else `arm`."""
    held_out = f"{arm}-held-out"
    return held_out if held_out in set(study.runs("range-test")["arm"]) else arm


def bounds(study: Study, arm: str) -> Bounds:
    """Return the bounds that the code proposes from a range test's curves."""
    curves = study.runs("range-test")
    curves = curves[curves["arm"] == tested_arm(study, arm)]
    return suggest_bounds(curves.rename(columns={"test_accuracy": "metric"}))


def range_test(study: Study, arm: str) -> Figure | None:
    """Draw the range test of a net, its proposed bounds, and those that others read by eye."""
    return _range_test(study, tested_arm(study, arm))


@_needs("range-test")
def _range_test(study: Study, tested: str) -> Figure | None:
    arm, found = tested.removesuffix("-held-out"), bounds(study, tested)
    figure, ax = plt.subplots()
    reported = REPORTED_BOUNDS[arm][:3] if arm in REPORTED_BOUNDS else None
    images = "held-out images" if study.config("range-test", tested).hold_out_every else "test images"
    figures.draw_range_test(ax, found.curve, found, found.spacing, reported, f"accuracy on {images}")
    figures.draw_peak(ax, found)
    return figure


@_needs("resnet", "triangular-drops")
def table_4(study: Study) -> Figure | None:
    """Draw the arms of the paper's Table 4, in small; the title compares cycles with the best fixed rate."""
    arms = _reported(study, "resnet")
    if arms.empty:
        return None
    figure, ax = plt.subplots(figsize=(8, 3.2))
    figures.draw_ends(ax, arms)
    found = findings.findings(study.runs("resnet")).set_index("key")
    if "g" in found.index:
        row, reported = found.loc["g"], arms.set_index("arm")["reported"]
        paper = 100 * (reported["triangular-drops"] - reported.drop("triangular-drops").max())
        ours = f"{findings.format_effect(row)}, {paper:+.1f} in the paper"
        figures.base.claim(ax, f"Cycles with drops minus the best fixed rate: {ours}")
    return figure


def precision(study: Study) -> Figure | None:
    """Draw by how many points the headline's schedules in bfloat16 are above the same in float32, the catalogue's."""
    return _precision(replace(study, precision=None))


@_needs("precision", "fixed", "triangular")
def _precision(study: Study) -> Figure | None:
    end = study.config("precision", "fixed").iterations
    half, full = (results.rows_at(study.runs(name), end) for name in ("precision", "headline"))
    rows = [
        {"arm": arm} | results.paired_difference(half[half["arm"] == arm], full[full["arm"] == arm])
        for arm in ("fixed", "triangular")
    ]
    table = pd.DataFrame(rows)
    figure, most = _forest(table, "float32", end), table[["low", "high"]].abs().to_numpy().max()
    if np.isfinite(most):
        words = f"After {end:,} updates bfloat16 is at most {most:.1f} points from float32 (95% intervals)"
        figures.base.claim(figure.axes[0], words)
    return figure


PROPOSED = ("constant", "triangular", "linear", "one-cycle", "cosine")


def proposed_bounds(study: Study) -> Bounds | None:
    """Return the range test of the residual net, made before its runs and kept beside them; None where it is not."""
    path = study.root / study.name / "resnet" / "bounds.json"
    return Bounds.from_json(path) if path.exists() else None


def proposed_rates(study: Study) -> Figure | None:
    """Draw the residual net's range test, the schedules it proposes, and, from the first run on, what each reached."""
    found, runs = proposed_bounds(study), study.runs("resnet")
    if found is None:
        print(f"Not finished at scale {study.scale}: `python -m clr run resnet` and `python -m tools.resnet_bounds`")
        return None
    configs = {arm: study.config("resnet", arm) for arm in PROPOSED}
    policies, runs = {arm: config.policy for arm, config in configs.items()}, runs[runs["arm"].isin(PROPOSED)]
    heights = (3.2, 2, 2) if runs.empty else (3.2, 2, 2, 3.6)
    size = (9.5, 12 if len(heights) == 4 else 8)
    figure, axes = plt.subplots(len(heights), 1, height_ratios=heights, figsize=size, layout="constrained")
    figures.draw_story(axes, found, policies, configs["linear"].iterations, runs)
    return figure


PICTURES: dict[str, Callable[[Study], Figure | None]] = {
    "headline": headline,
    "cycle-ends": cycle_ends,
    "cycle": cycle,
    "differences": differences,
    "controls": controls,
    "control-differences": control_differences,
    "paper-table-1": paper,
    "mults": multipliers,
    "init": init,
    "paper-table-4": table_4,
    "proposed-rates": proposed_rates,
    "precision": precision,
    "range-test-quick-unit": lambda study: range_test(study, "quick-unit"),
    "range-test-full-caffe": lambda study: range_test(study, "full-caffe"),
}


def save(study: Study, folder: str | os.PathLike[str]) -> None:
    """Save every picture whose runs have finished, by its name, and say nothing of the others."""
    folder = _checks.path("folder", folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        with redirect_stdout(StringIO()):
            figure = draw(study)
        if figure:
            figure.savefig(folder / f"{name}.png")
            plt.close(figure)
