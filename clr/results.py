"""Results on disk: one CSV a run and its JSON beside it, the statistics made of them, and tables in markdown.

    <results>/<data set>/<experiment>/<arm>/seed-<k>.csv     iteration, lr, train_loss, test_loss, test_accuracy
    <results>/<data set>/<experiment>/<arm>/seed-<k>.json    config and data (what the run is), provenance (how it came)

The row of iteration n is what the net does after exactly n updates; its lr is that of the last of them, its
train_loss the mean over the updates since the row before. Files are written whole or not at all, and only by code.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clr import paths

__all__ = [
    "COLUMNS", "ResultError", "interval", "iterations_to_accuracy", "load", "markdown_table", "read", "save", "summarise",
]  # fmt: skip

FORMAT = 1
COLUMNS = ("iteration", "lr", "train_loss", "test_loss", "test_accuracy")


class ResultError(ValueError):
    """A result on disk is damaged, or is not the run that was asked for."""


def save(folder: Path, seed: int, rows: Sequence[Mapping[str, float]], record: Mapping[str, Any]) -> None:
    """Write a finished run: its rows, then its record (config, data, provenance) with the rows' checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    text = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n", na_rep="nan")
    record = {"format": FORMAT, **record, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    _write(folder / f"seed-{seed}.csv", text)
    _write(folder / f"seed-{seed}.json", json.dumps(record, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    part = paths.temporary(path)
    try:
        with part.open("w", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load(folder: Path, seed: int, identity: Mapping[str, Any] | None = None) -> tuple[pd.DataFrame, dict] | None:
    """Read one run's rows and record, or None where it has not finished.

    Args:
        identity: the "config" and "data" that the run should have been made with; None takes any.

    Raises:
        ResultError: the files are damaged, edited or of another format, or the run is another than `identity`.
    """
    csv, record_path = folder / f"seed-{seed}.csv", folder / f"seed-{seed}.json"
    if not record_path.exists():
        return None
    try:
        record = json.loads(record_path.read_text())
        text = csv.read_bytes()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultError(f"{record_path} is damaged ({error}); delete the run's files to train it again") from error
    except FileNotFoundError as error:
        raise ResultError(f"{csv} is missing beside {record_path.name}; delete that to train it again") from error
    if record.get("format") != FORMAT:
        raise ResultError(f"{record_path} must have format {FORMAT}, got {record.get('format')!r}")
    if hashlib.sha256(text).hexdigest() != record["sha256"]:
        raise ResultError(f"{csv} was changed after it was written: its sha256 is not the one in {record_path.name}")
    for part, asked in (identity or {}).items():
        if difference := _first_difference(part, record.get(part), asked):
            raise ResultError(f"{record_path} holds another run: {difference}")
    return pd.read_csv(io.BytesIO(text), float_precision="round_trip"), record


def _first_difference(name: str, found: Any, asked: Any) -> str | None:
    if isinstance(found, Mapping) and isinstance(asked, Mapping):
        for key in [*asked, *(key for key in found if key not in asked)]:
            if difference := _first_difference(f"{name}.{key}", found.get(key), asked.get(key)):
                return difference
        return None
    asked = json.loads(json.dumps(asked))
    return None if found == asked else f"{name} is {found!r}, asked for {asked!r}"


def read(
    results_dir: str | os.PathLike[str] | None = None, dataset: str | None = None, experiment: str | None = None
) -> pd.DataFrame:
    """Read all finished runs as one tidy frame: dataset, experiment, arm, seed, then the CSV's columns."""
    root = Path(results_dir) if results_dir is not None else paths.home() / "results"
    frames = []
    for path in sorted(root.glob(f"{dataset or '*'}/{experiment or '*'}/*/seed-*.json")):
        rows, record = load(path.parent, int(path.stem.removeprefix("seed-")))  # type: ignore[misc]
        where = dict(zip(("dataset", "experiment", "arm"), path.parent.parts[-3:], strict=True))
        frames.append(rows.assign(**where, seed=record["config"]["seed"]))
    keys = ["dataset", "experiment", "arm", "seed"]
    if not frames:
        return pd.DataFrame(columns=[*keys, *COLUMNS])
    frame = pd.concat(frames, ignore_index=True)[[*keys, *COLUMNS]]
    return frame.sort_values([*keys, "iteration"], ignore_index=True)
