"""Results on disk: one CSV a run and its JSON beside it, and the statistics made of them.

    <results>/<data set>/<experiment>/<arm>/seed-<k>.csv     iteration, lr, train_loss, test_loss, test_accuracy
    <results>/<data set>/<experiment>/<arm>/seed-<k>.json    config and data (what the run is), provenance (how it came)
    <results>/<data set>/headline/<arm>/seed-0.safetensors   the net after the last update

The row of iteration n is what the net does after exactly n updates; its lr is that of the last of them, its
train_loss the mean over the updates since the row before. Files are written whole or not at all, and only by code.
"""

import glob
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from clr import _checks, paths
from clr._stats import MIN_RUNS, t_interval

__all__ = [
    "COLUMNS", "MIN_RUNS", "ResultError", "has_diverged", "interval", "iter_runs", "iterations_to_accuracy", "load",
    "paired_difference", "read", "records", "rows_at", "run_path", "save", "summarise",
]  # fmt: skip

FORMAT = 1
ARM = ["dataset", "experiment", "arm"]
KEYS = [*ARM, "seed"]
COLUMNS = ("iteration", "lr", "train_loss", "test_loss", "test_accuracy")


class ResultError(ValueError):
    """A result on disk is damaged, or is not the run that was asked for."""


def run_path(folder: Path, seed: int, suffix: str) -> Path:
    """Return the path of one of a run's files: ".csv", ".json", ".safetensors", or the hidden ".checkpoint".

    >>> run_path(Path("fixed"), 0, ".csv").name, run_path(Path("fixed"), 0, ".checkpoint").name
    ('seed-0.csv', '.seed-0.checkpoint')
    """
    hidden = "." if suffix == ".checkpoint" else ""
    return folder / f"{hidden}seed-{seed}{suffix}"


def save(folder: Path, seed: int, rows: Sequence[Mapping[str, float]], record: Mapping[str, Any]) -> None:
    """Write a finished run: its rows, then its record (config, data, provenance) with the rows' checksum.

    Both are on the disk before either has its name, and an older record goes before its rows do: whenever this is
    interrupted, the run is the old one, or none, or the new one.
    """
    folder, seed = _checks.path("folder", folder), _checks.seed("seed", seed)
    if not rows or any(set(row) != set(COLUMNS) for row in rows):
        raise ValueError(f"rows must each have {', '.join(COLUMNS)}, and be at least one, got {_checks.brief(rows)}")
    if missing := {"config", "data"} - record.keys():
        raise ValueError(f"record must have config and data, got no {min(missing)}")
    text = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n", na_rep="nan")
    record = {"format": FORMAT, **record, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    record_path = run_path(folder, seed, ".json")
    with paths.atomic_write(record_path) as record_part:
        _write(record_part, json.dumps(record, indent=1) + "\n")
        with paths.atomic_write(run_path(folder, seed, ".csv")) as part:
            _write(part, text)
            record_path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def load(folder: Path, seed: int) -> tuple[pd.DataFrame, dict] | None:
    """Read one run's rows and record, or None where it has not finished.

    `clr.training.require_same_run` checks that it is the run asked for.

    Raises:
        ResultError: the files are damaged, edited or of another format.
    """
    folder = _checks.path("folder", folder)
    csv, record_path = run_path(folder, seed, ".csv"), run_path(folder, seed, ".json")
    try:
        record = json.loads(record_path.read_bytes())
        if not isinstance(record, dict):
            raise ValueError(f"it holds a {type(record).__name__}, no record")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ResultError(f"{record_path} is damaged ({error}); delete the run's files to train it again") from error
    try:
        text = csv.read_bytes()
    except FileNotFoundError as error:
        raise ResultError(f"{csv} is missing beside {record_path.name}; delete that to train it again") from error
    if record.get("format") != FORMAT:
        raise ResultError(f"{record_path} must have format {FORMAT}, got {record.get('format')!r}")
    kinds = {"config": dict, "data": dict, "provenance": dict, "sha256": str}
    held: dict[str, Any] = {"provenance": {}} | record
    if missing := [name for name, kind in kinds.items() if not isinstance(held.get(name), kind)]:
        raise ResultError(f"{record_path} is damaged (no {missing[0]}); delete the run's files to train it again")
    if hashlib.sha256(text).hexdigest() != record["sha256"]:
        raise ResultError(f"{csv} was changed after it was written: its sha256 is not the one in {record_path.name}")
    return _parsed(text), record


def _parsed(text: bytes) -> pd.DataFrame:
    return _parsed_once(text).copy()


@lru_cache(maxsize=2048)
def _parsed_once(text: bytes) -> pd.DataFrame:
    """Return the rows of a file's content; pages and notebooks read most files several times."""
    rows = pd.read_csv(io.BytesIO(text), dtype=str, keep_default_na=False).astype(float)  # exact, unlike some read_csv
    return rows.astype({"iteration": "int64"})


def read(
    results_dir: str | os.PathLike[str] | None = None, dataset: str | None = None, experiment: str | None = None
) -> pd.DataFrame:
    """Read all finished runs as one tidy frame: dataset, experiment, arm, seed, then the CSV's columns."""
    frames = [rows.assign(**where) for where, rows, _ in iter_runs(results_dir, dataset, experiment)]
    if not frames:
        return pd.DataFrame(columns=[*KEYS, *COLUMNS])
    frame = pd.concat(frames)[[*KEYS, *COLUMNS]]
    return frame.sort_values([*KEYS, "iteration"], ignore_index=True)


def records(
    results_dir: str | os.PathLike[str] | None = None, dataset: str | None = None, experiment: str | None = None
) -> pd.DataFrame:
    """Read config, data and provenance of every finished run: one row a run, with columns as "config.iterations"."""
    finished = [where | record for where, _, record in iter_runs(results_dir, dataset, experiment)]
    return pd.json_normalize(finished) if finished else pd.DataFrame(columns=KEYS)


def iter_runs(
    results_dir: str | os.PathLike[str] | None, dataset: str | None, experiment: str | None
) -> Iterator[tuple[dict[str, Any], pd.DataFrame, dict[str, Any]]]:
    """Give each finished run: where it lies (dataset, experiment, arm, seed), its rows and its record."""
    root = paths.home() / "results" if results_dir is None else _checks.path("results_dir", results_dir)
    folders = "/".join(glob.escape(name) if name else "*" for name in (dataset, experiment))
    for path in sorted(root.glob(f"{folders}/*/seed-*.json")):
        seed = path.stem.removeprefix("seed-")
        if not re.fullmatch("0|[1-9][0-9]*", seed):
            raise ResultError(f"{path} must be named seed-<k>.json; keep copies elsewhere")
        if (found := load(path.parent, int(seed))) is None:
            continue  # begun anew since it was listed
        rows, record = found
        where = dict(zip(ARM, path.parent.parts[-3:], strict=True)) | {"seed": int(seed)}
        _check_place(path, "config.seed", record["config"].get("seed"), where["seed"])
        _check_place(path, "data.name", record["data"].get("name"), where["dataset"])
        yield where, rows, record


def _check_place(path: Path, name: str, found: Any, place: Any) -> None:
    """Refuse a file that was copied to where another run belongs: it would count as that run."""
    if found != place:
        raise ResultError(f"{path} is in the wrong folder: its {name} is {found!r}, but the place is that of {place!r}")


# Statistics. Seeds are the sample: every interval is a 95% t interval over them, and says so by its n.


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% t interval of the mean; (nan, nan) for fewer than two values.

    >>> tuple(round(end, 3) for end in interval([0.74, 0.75, 0.76]))
    (0.725, 0.775)
    """
    try:
        sample = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"values must be numbers, got {_checks.brief(values)}") from error
    if sample.ndim != 1:
        raise ValueError(f"values must be a sequence of numbers, got {_checks.brief(values)}")
    if len(sample) < 2:
        return (float("nan"), float("nan"))
    low, high = t_interval(sample.mean(), stats.sem(sample), len(sample))
    return float(low), float(high)


def rows_at(frame: pd.DataFrame, iteration: int | None = None) -> pd.DataFrame:
    """Return each run's row at an iteration, or its last row; runs without a row there are left out."""
    _checks.columns("frame", frame, [*KEYS, "iteration"])
    if iteration is None:
        return frame[frame["iteration"] == frame.groupby(KEYS)["iteration"].transform("max")]
    return frame[frame["iteration"] == _checks.positive_int("iteration", iteration)]


def has_diverged(row: Any) -> Any:
    """Return whether a run that ends with this row has diverged: a loss is not finite. A frame of rows gives a column.

    >>> bool(has_diverged({"train_loss": 0.1, "test_loss": float("nan")}))
    True
    """
    return ~np.isfinite(row["train_loss"] + row["test_loss"])


def summarise(frame: pd.DataFrame, iteration: int | None = None) -> pd.DataFrame:
    """Summarise runs by arm: updates, accuracy's mean over seeds, its 95% interval, spread (sd), n, how many diverged.

    Fewer than `MIN_RUNS` runs have no interval: NaN.

    Args:
        frame: as `read` returns it.
        iteration: where to look; None for the end of each run. A run that diverged before is not among the n there,
            but counted as diverged.
    """
    _checks.columns("frame", frame, (*KEYS, "iteration", *COLUMNS[2:]))
    frame = frame.astype(dict.fromkeys(COLUMNS[2:], float))  # an empty frame has no types
    table = rows_at(frame, iteration).groupby(ARM).agg(
        iterations=("iteration", "max"), accuracy=("test_accuracy", "mean"), sem=("test_accuracy", "sem"),
        sd=("test_accuracy", "std"), n=("seed", "size"),
    )  # fmt: skip
    sem = table["sem"].where(table["n"] >= MIN_RUNS)
    table["low"], table["high"] = t_interval(table["accuracy"], sem, table["n"])
    ends = rows_at(frame)
    lost = ends[has_diverged(ends)].groupby(ARM).size()
    table["diverged"] = lost.reindex(table.index, fill_value=0)
    return table.reset_index()[[*ARM, "iterations", "accuracy", "low", "high", "sd", "n", "diverged"]]


def paired_difference(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, float]:
    """Compare two arms seed by seed: by how many points the first is above, its 95% interval (from `MIN_RUNS` on), n.

    Args:
        first, second: one row a seed, as `rows_at` gives them for one arm.
    """
    for name, frame in {"first": first, "second": second}.items():
        _checks.columns(name, frame, ("dataset", "seed", "test_accuracy"))
        if frame.duplicated(["dataset", "seed"]).any():
            rows = int(frame.groupby(["dataset", "seed"]).size().max())
            raise ValueError(f"{name} must have one row per seed and data set, as `rows_at` gives, got {rows}")
    pairs = first.merge(second, on=["dataset", "seed"], suffixes=("", "_other"))
    points = 100 * (pairs["test_accuracy"] - pairs["test_accuracy_other"])
    low, high = interval(points) if len(points) >= MIN_RUNS else (float("nan"), float("nan"))
    return {"points": points.mean(), "low": low, "high": high, "n": len(points)}


def iterations_to_accuracy(frame: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    """Return the iteration of the row at which each run first reaches an accuracy; NaN where it never does.

    For the ends of cycles pass those rows alone: frame[frame["iteration"] % policy.cycle_length == 0].
    """
    _checks.columns("frame", frame, (*KEYS, "iteration", "test_accuracy"))
    if not 0 <= _checks.number("accuracy", accuracy) <= 1:
        raise ValueError(f"accuracy must be from 0 to 1, got {accuracy!r}")
    reached = frame[frame["test_accuracy"] >= accuracy].groupby(KEYS)["iteration"].min()
    return frame[KEYS].drop_duplicates().merge(reached.reset_index(), on=KEYS, how="left")
