"""Tables of what has come out: the one that a run ends with, and each experiment beside what others reported.

Arms are read at the end of their runs; a cyclical one that ends within a cycle also at the end of its last whole one,
where one would stop.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from clr import policies, results
from clr.experiments.catalogue import EXPERIMENTS

__all__ = ["arms_table", "differences", "experiment_table", "format_accuracy", "runs_table", "summaries"]

DATASETS = ("cifar10", "cifar10-jpeg")  # a column each, also before anything has run on one
CYCLICAL = [kind.__name__ for kind in policies.Cyclic.__subclasses__()]


def runs_table(results_dir: Path, dataset: str) -> pd.DataFrame:
    """Return one row an arm: experiment, arm, iterations, accuracy with its interval, n, data set, device, seconds."""
    made = results.records(results_dir, dataset)
    if made.empty:
        raise ValueError(f"nothing has finished on {dataset} in {results_dir}")
    summary = pd.concat([summaries(name, results_dir) for name in sorted(set(made["experiment"]))])
    summary = summary[summary["dataset"] == dataset]
    by_arm = made.groupby(["dataset", "experiment", "arm"])
    device = by_arm["provenance.device"].agg(lambda names: ", ".join(sorted(set(names)))).rename("device")
    seconds = by_arm["provenance.seconds"].mean().round().astype(int).rename("seconds")
    table = summary.merge(device.reset_index()).merge(seconds.reset_index())
    table["accuracy"] = [format_accuracy(row) for row in table.itertuples()]
    columns = ["experiment", "arm", "iterations", "accuracy", "n", "dataset", "device", "seconds"]
    return table[columns].rename(columns={"dataset": "data set", "seconds": "seconds a run"})


def format_accuracy(row: Any) -> str:
    """Write a summary's accuracy in percent with its 95 % interval, or say that one run has none; what diverged."""
    ends = f"{100 * row.low:.2f} to {100 * row.high:.2f}" if row.n > 1 else "one run"
    return f"{100 * row.accuracy:.2f} % ({ends})" + (f", {row.diverged} diverged" if row.diverged else "")


def summaries(name: str, results_dir: Path | None = None) -> pd.DataFrame:
    """Summarise an experiment's arms, as `clr.results.summarise` does, at every number of updates worth reading.

    Those are the end, the end of the last cycle, and where something was reported.
    """
    frame, made = (read(results_dir, experiment=name) for read in (results.read, results.records))
    steps = {}
    if "config.policy.step_size" in made:
        cyclical = made[made["config.policy.policy"].isin(CYCLICAL)]
        steps = cyclical.set_index(["dataset", "arm"])["config.policy.step_size"].to_dict()
    parts = [results.summarise(frame)]
    for (dataset, arm), runs in frame.groupby(["dataset", "arm"]):
        read = set(_reported(name, arm))
        if (dataset, arm) in steps:
            read |= _last_multiple(runs["iteration"], 2 * int(steps[dataset, arm]))
        parts += [results.summarise(runs, k) for k in sorted(read) if k < runs["iteration"].max()]
    some = [part for part in parts if len(part)] or parts[:1]  # an empty one has no types, which older pandas minds
    return pd.concat(some).sort_values(["dataset", "arm", "iterations"], ignore_index=True)


def _last_multiple(iterations: pd.Series, cycle: int) -> set[int]:
    return {int(k) for k in iterations[iterations % cycle == 0].nlargest(1)}


def _reported(name: str, arm: str) -> dict[int, float]:
    """Return the accuracy that was reported of an arm, by the updates."""
    told = EXPERIMENTS[name].reported if name in EXPERIMENTS else {}
    return {k: value for (of, k), value in told.items() if of == arm}


def arms_table(dataset: str, results_dir: Path | None = None) -> pd.DataFrame:
    """Return the summaries of all arms on a data set, but for range tests, in the catalogue's order.

    Each has a source and a reported accuracy, missing where there is none.
    """
    rows = []
    for name in [name for name in EXPERIMENTS if name != "range-test"]:
        found = summaries(name, results_dir)
        for arm in EXPERIMENTS[name].arms:
            reported = _reported(name, arm)
            for row in found[(found["dataset"] == dataset) & (found["arm"] == arm)].to_dict("records"):
                k = row["iterations"]
                source = EXPERIMENTS[name].source if k in reported else None
                rows.append(row | {"source": source, "reported": reported.get(k, math.nan)})
    return pd.DataFrame(rows, columns=[*found.columns, "source", "reported"])


def experiment_table(name: str, results_dir: Path | None = None) -> pd.DataFrame:
    """Return an experiment to read: an arm's accuracy as reported and as it came out on each data set.

    After each of ours: its 95 % interval over seeds, n, and the difference from what was reported, in points.
    """
    found = summaries(name, results_dir)
    datasets = [*DATASETS, *sorted(set(found["dataset"]) - set(DATASETS))]
    rows = []
    for arm, config in EXPERIMENTS[name].arms.items():
        mine, reported = found[found["arm"] == arm], _reported(name, arm)
        for updates in sorted({*mine["iterations"], *reported} or {config.iterations}):
            value = reported.get(updates)
            row = {"arm": arm, "updates": f"{updates:,}"}
            row["reported"] = f"{100 * value:.1f} % ({EXPERIMENTS[name].source})" if value else ""
            for dataset in datasets:
                here = mine[(mine["dataset"] == dataset) & (mine["iterations"] == updates)]
                row[dataset] = next((_ours(found, value) for found in here.itertuples()), "not yet run")
            rows.append(row)
    return pd.DataFrame(rows).drop(columns=[] if EXPERIMENTS[name].reported else "reported")


def differences(reference: str, iteration: int, names: Sequence[str], results_dir: Path | None = None) -> pd.DataFrame:
    """Return by how many points of accuracy each arm differs from one of them after so many updates, seed by seed.

    Args:
        names: the experiments whose arms are compared.

    Returns:
        One row an arm and data set, the best first: dataset, arm, points, their 95 % interval (low, high), n pairs.
    """
    frame = pd.concat([results.rows_at(results.read(results_dir, experiment=name), iteration) for name in names])
    rows = []
    for (dataset, arm), runs in frame[frame["arm"] != reference].groupby(["dataset", "arm"]):
        pair = results.paired_difference(runs, frame[frame["arm"] == reference])
        points = [100 * pair[name] for name in ("difference", "low", "high")]
        rows.append([dataset, arm, *points, pair["n"]])
    table = pd.DataFrame(rows, columns=["dataset", "arm", "points", "low", "high", "n"])
    return table[table["n"] > 0].sort_values(["dataset", "points"], ascending=[True, False], ignore_index=True)


def _ours(row: Any, reported: float | None) -> str:
    several = row.n > 1
    ends = f"{100 * row.low:.2f} to {100 * row.high:.2f}, " if several else ""
    diverged = f", {row.diverged} diverged" if row.diverged else ""
    text = f"{100 * row.accuracy:.2f} % ({ends}n = {row.n}{diverged})"
    if reported is None:
        return text
    points = f"{100 * (row.accuracy - reported):+.1f}"
    ends = f" ({100 * (row.low - reported):+.1f} to {100 * (row.high - reported):+.1f})" if several else ""
    return f"{text}: {points}{ends}"
