"""Tables of finished runs: the one that a run ends with, and each experiment beside what others reported.

Arms are read at the end of their runs. A cyclical one that ends within a cycle is also read at the end of its last
whole cycle, where one would stop. Columns are the data sets with results, rows the arms with results.
"""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from clr import policies, results
from clr.experiments.catalogue import EXPERIMENTS
from clr.range_test import Bounds, suggest_bounds

__all__ = [
    "beside_reported", "differences", "experiment_table", "format_accuracy", "format_interval",
    "multiplier_differences", "range_test_bounds", "runs_table", "summaries",
]  # fmt: skip

DIFFERENCE = ["points", "low", "high", "n"]  # of `clr.results.paired_difference`


def format_interval(value: float, low: float, high: float, n: int, spec: str = ".1f", unit: str = "") -> str:
    """Write a value with its 95% interval and n, in the one form that every table and sentence has.

    >>> format_interval(1.7, 0.6, 2.7, 3, "+.1f", " points")
    '+1.7 points (+0.6 to +2.7, n = 3)'
    >>> format_interval(75.4, math.nan, math.nan, 1, unit="%")
    '75.4% (n = 1)'
    """
    ends = f"{low:{spec}} to {high:{spec}}, " if math.isfinite(low) else ""
    return f"{value:{spec}}{unit} ({ends}n = {n})"


def format_accuracy(row: Any) -> str:
    """Write a summary's accuracy in percent, with its interval and n, and how many runs diverged."""
    text = format_interval(100 * row.accuracy, 100 * row.low, 100 * row.high, row.n, ".2f", "%")
    return text + (f", {row.diverged} diverged" if row.diverged else "")


def runs_table(results_dir: Path, dataset: str) -> pd.DataFrame:
    """Return one row per arm: experiment, arm, iterations, accuracy with interval and n, data set, device, seconds."""
    made = results.records(results_dir, dataset)
    if made.empty:
        raise ValueError(f"nothing has finished on {dataset} in {results_dir}")
    names = sorted(set(made["experiment"]))
    summary = pd.concat([summaries(name, results_dir, results.read(results_dir, dataset, name)) for name in names])
    by_arm = made.groupby(results.ARM).agg(
        device=("provenance.device", lambda names: ", ".join(sorted(set(names)))),
        seconds=("provenance.seconds", "mean"),
    )
    table = summary.merge(by_arm.reset_index())
    table["accuracy"] = [format_accuracy(row) for row in table.itertuples()]
    table["seconds"] = table["seconds"].round().astype(int)
    columns = ["experiment", "arm", "iterations", "accuracy", "dataset", "device", "seconds"]
    return table[columns].rename(columns={"dataset": "data set", "seconds": "seconds per run"})


def summaries(name: str, results_dir: Path | None = None, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Summarise an experiment's arms, as `clr.results.summarise` does, at every number of updates worth reading.

    Those are the end, the end of the last cycle, and where something was reported.

    Args:
        runs: of the experiment in `results_dir`, some of them; None for all.
    """
    frame = results.read(results_dir, experiment=name) if runs is None else runs
    lengths = _cycle_lengths(name, results_dir)
    parts = [results.summarise(frame)]
    for (dataset, arm), of in frame.groupby(["dataset", "arm"]):
        read = {*_reported(name, arm), *_last_cycle_end(of["iteration"], lengths.get((dataset, arm)))}
        parts += [results.summarise(of, k) for k in sorted(read) if k < of["iteration"].max()]
    some = [part for part in parts if len(part)] or parts[:1]  # an empty one has no types, which older pandas minds
    return pd.concat(some).sort_values(["dataset", "arm", "iterations"], ignore_index=True)


def _cycle_lengths(name: str, results_dir: Path | None) -> dict[tuple[str, str], int | None]:
    """Return the updates in a cycle of each arm that was run; None for those without cycles of one length."""
    return {
        (where["dataset"], where["arm"]): getattr(
            policies.from_dict(record["config"]["policy"]), "cycle_length", None
        )
        for where, _, record in results.iter_runs(results_dir, None, name)
    }  # fmt: skip


def _last_cycle_end(iterations: pd.Series, cycle_length: int | None) -> set[int]:
    if cycle_length is None:
        return set()
    return {int(k) for k in iterations[iterations % cycle_length == 0].nlargest(1)}


def _reported(name: str, arm: str) -> dict[int, float]:
    """Return the accuracy that was reported of an arm, by the updates."""
    reported = EXPERIMENTS[name].reported if name in EXPERIMENTS else {}
    return {k: value for (of, k), value in reported.items() if of == arm}


def beside_reported(name: str, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the summaries of an experiment's arms of which others reported an accuracy, where they did, with that.

    Args:
        runs: of the experiment, on one data set, as `clr.results.read` returns them.
    """
    parts = [
        results.summarise(runs[runs["arm"] == arm], updates).assign(reported=value)
        for (arm, updates), value in EXPERIMENTS[name].reported.items()
    ]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def experiment_table(name: str, results_dir: Path | None = None, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return an experiment to read: an arm's accuracy as reported and as it is here on each data set.

    After each of ours: its 95% interval over seeds, n, and the difference from what was reported, in points.
    """
    found, experiment = summaries(name, results_dir, runs), EXPERIMENTS[name]
    datasets = sorted(set(found["dataset"]))
    rows = []
    for arm in [arm for arm in experiment.arms if arm in set(found["arm"])]:
        reported = _reported(name, arm)
        for updates, here in found[found["arm"] == arm].groupby("iterations"):
            value = reported.get(int(updates))
            texts = {row.dataset: _format_beside_reported(row, value) for row in here.itertuples()}
            report = f"{100 * value:.1f}% ({experiment.source})" if value else ""
            rows.append([arm, f"{updates:,}", report, *(texts.get(dataset, "") for dataset in datasets)])
    table = pd.DataFrame(rows, columns=["arm", "updates", "reported", *datasets])
    return table if experiment.reported else table.drop(columns="reported")


def _format_beside_reported(row: Any, reported: float | None) -> str:
    if reported is None:
        return format_accuracy(row)
    value, low, high = (100 * (end - reported) for end in (row.accuracy, row.low, row.high))
    ends = f" ({low:+.1f} to {high:+.1f})" if math.isfinite(low) else ""
    return f"{format_accuracy(row)}: {value:+.1f}{ends}"


def differences(runs: pd.DataFrame, reference: str, iteration: int) -> pd.DataFrame:
    """Return by how many points of accuracy each arm differs from one of them after so many updates, seed by seed.

    Args:
        runs: as `clr.results.read` returns them.

    Returns:
        One row per arm and data set, the best first: dataset, arm, points, their 95% interval (low, high), n pairs.
    """
    frame = results.rows_at(runs, iteration)
    base = frame[frame["arm"] == reference]
    rows = [
        {"dataset": dataset, "arm": arm} | results.paired_difference(of, base)
        for (dataset, arm), of in frame[frame["arm"] != reference].groupby(["dataset", "arm"])
    ]
    table = pd.DataFrame(rows, columns=["dataset", "arm", *DIFFERENCE])
    return table[table["n"] > 0].sort_values(["dataset", "points"], ascending=[True, False], ignore_index=True)


def multiplier_differences(ends: pd.DataFrame) -> pd.DataFrame:
    """Return by how many points each policy ends higher with the prototxt's multipliers than without, seed by seed.

    Args:
        ends: of the experiment "mults", one row per run: where one would stop.

    Returns:
        One row per policy that has both arms: arm, points, their 95% interval (low, high), n pairs.
    """
    arms = {str(arm): rows for arm, rows in ends.groupby("arm")}
    rows = [
        {"arm": arm} | results.paired_difference(of, arms[f"{arm}-without"])
        for arm, of in arms.items()
        if f"{arm}-without" in arms
    ]
    return pd.DataFrame(rows, columns=["arm", *DIFFERENCE])


def range_test_bounds() -> dict[tuple[str, str], Bounds]:
    """Return the bounds that the range tests propose, by (arm, data set), in the catalogue's order."""
    frame = results.read(experiment="range-test").rename(columns={"test_accuracy": "metric"})
    return {
        (arm, str(dataset)): suggest_bounds(curves)
        for arm in EXPERIMENTS["range-test"].arms
        for dataset, curves in frame[frame["arm"] == arm].groupby("dataset")
    }
