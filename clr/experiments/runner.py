"""Many runs: load the runs that are there, train those that are missing."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from clr import _checks, paths, results
from clr.data import Cifar10, load_cifar10
from clr.experiments.catalogue import EXPERIMENTS
from clr.experiments.folders import kept_apart, results_folder, set_aside_others
from clr.experiments.job import Job
from clr.experiments.queue import QUEUE, Row
from clr.experiments.scales import configs
from clr.experiments.side_by_side import run_all
from clr.training import RunConfig, cuda
from clr.training.precision import SlowPrecisionError, check_fast

__all__ = ["check_machine", "queue_state", "run", "run_queue"]


def run(
    name: str | Sequence[str],
    seeds: int | None = None,
    scale: str = "full",
    data: Cifar10 | None = None,
    device: str | None = None,
    n_jobs: int | None = None,
    rerun: bool = False,
    results_dir: str | os.PathLike[str] | None = None,
    arms: Sequence[str] | None = None,
    precision: str | None = None,
    tf32: bool = False,
) -> pd.DataFrame:
    """Train the runs of an experiment that have not finished; return the rows of all, as `clr.results.read` does.

    Args:
        name: a key of `EXPERIMENTS`, or several: what is wrong with any is an error before the first is trained.
        seeds: runs per arm, seeds 0, 1, ...; None for the scale's own (full 5, quick 2, tiny 2).
        scale: "full", "quick" (1/50 of the updates, range tests 1/25) or "tiny" (1/1000, for tests).
        data: None for `load_cifar10()`.
        device: None for CUDA where there is one, else the CPU. On plain "cuda" the runs take the devices in turn.
        n_jobs: runs side by side; None for one per core on the CPU, as far as the memory goes, and ten per CUDA
            device. To use another engine than processes of this machine, call this inside
            `joblib.parallel_config(backend=...)`.
        rerun: retrain finished runs as well; each old result stays until its new one is whole.
        results_dir: None for results/ at full scale on real images, runs/<data set>-<scale>/results otherwise.
        arms: names or patterns such as "adam-*"; None for all arms.
        precision: "float32" or "bfloat16"; None for the catalogue's. Any other than that is kept apart, in
            runs/<data set>-<scale>-<precision>/results.
        tf32: multiply with 10 bits of the mantissa on CUDA. That is no setting of a run, so it needs a results_dir.

    Raises:
        ResultError: a result on disk was made with another config or data; the message names the field.
        ValueError: an argument is out of range, or the device has only a slow bfloat16.
    """
    names: list[Any] = list(dict.fromkeys(name)) if isinstance(name, (list, tuple)) and name else [name]
    wanted = {of: configs(of, seeds, scale, arms, precision) for of in names}
    _checks.boolean("rerun", rerun)
    if _checks.boolean("tf32", tf32) and results_dir is None:
        raise ValueError("results_dir must be given with tf32=True, whose results are kept apart from all others")
    devices, n_jobs = check_machine(device, n_jobs)
    data = _checked(load_cifar10() if data is None else data)
    roots = {of: _root(scale, data, results_dir, kept_apart(of, precision)) for of in names}
    plans = {of: _plan(of, wanted[of], root, data, devices, rerun, tf32) for of, root in roots.items()}
    for of, jobs in plans.items():
        run_all(jobs, data, n_jobs, of)
    return pd.concat([_rows(of, wanted[of], roots[of], data) for of in names], ignore_index=True)


def _rows(name: str, wanted: dict[tuple[str, int], RunConfig], root: Path, data: Cifar10) -> pd.DataFrame:
    """Return the rows of some runs of an experiment."""
    frame = results.read(root, data.name, name)
    return frame[pd.MultiIndex.from_frame(frame[["arm", "seed"]]).isin(list(wanted))]


def run_queue(
    scale: str = "full",
    data: Cifar10 | None = None,
    device: str | None = None,
    n_jobs: int | None = None,
    results_dir: str | os.PathLike[str] | None = None,
    rows: Sequence[Row] = QUEUE,
) -> None:
    """Train what the queue still lacks, in its order, side by side; an interrupted run goes on from its checkpoint.

    Arguments are those of `run`. rows: of `clr.experiments.queue`.
    """
    devices, n_jobs = check_machine(device, n_jobs)
    data = _checked(load_cifar10() if data is None else data)
    root = _root(scale, data, results_dir)
    jobs: dict[tuple[Path, int], Job] = {}
    for row in rows:
        wanted = configs(row.experiment, row.seeds, scale, row.arms)
        try:
            planned = _plan(row.experiment, wanted, root, data, devices)
        except SlowPrecisionError as error:
            print(f"queue: {row.experiment} is left out: {error}", file=sys.stderr, flush=True)
            continue
        for job in planned:
            jobs.setdefault((job.folder, job.config.seed), job)
    run_all(_in_turn(list(jobs.values()), devices), data, n_jobs, "queue")


def queue_state(dataset: str, scale: str = "full", rows: Sequence[Row] = QUEUE) -> pd.DataFrame:
    """Return the queue's progress on a data set: experiment, arm, finished ("3 of 5"), updates left, core hours."""
    root = results_folder(dataset, scale)
    table: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        for (arm, _), config in configs(row.experiment, 1, scale, row.arms).items():
            state = [_run_seconds(root / dataset / row.experiment / arm, seed) for seed in range(row.seeds)]
            done = [seconds for seconds in state if seconds is not None]
            left = (row.seeds - len(done)) * config.iterations
            finished = f"{len(done)} of {row.seeds}"
            table[row.experiment, arm] = [row.experiment, arm, finished, left, round(sum(done) / 3600, 1)]
    return pd.DataFrame(table.values(), columns=["experiment", "arm", "finished", "updates left", "core hours"])


def _run_seconds(folder: Path, seed: int) -> float | None:
    """Return what a finished run took, or None for one that has not finished or is damaged."""
    try:
        found = results.load(folder, seed)
    except results.ResultError:
        return None
    return None if found is None else float(found[1].get("provenance", {}).get("seconds", 0.0))


def _checked(data: Any) -> Cifar10:
    if not isinstance(data, Cifar10):
        raise TypeError(f"data must be a data set of clr.data, got {_checks.brief(data)}")
    return data


def _root(
    scale: str, data: Cifar10, results_dir: str | os.PathLike[str] | None, precision: str | None = None
) -> Path:  # fmt: skip
    """Return the results folder: the one that was given, or the usual one."""
    if results_dir is not None:
        return _checks.path("results_dir", results_dir)
    root = results_folder(data.name, scale, precision)
    if data.name == "synthetic":
        set_aside_others(root, data)
    return root


def check_machine(device: str | None, n_jobs: int | None) -> tuple[list[str], int | None]:
    """Return the devices that the runs take in turn, and how many runs side by side; None stands for the usual.

    Raises:
        ValueError: there is no such device, or n_jobs is neither positive nor -1.
    """
    n_jobs = n_jobs if n_jobs in (None, -1) else _checks.positive_int("n_jobs", n_jobs)
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    return _devices(usual if device is None else device), n_jobs


def _plan(
    name: str, wanted: dict[tuple[str, int], RunConfig], root: Path, data: Cifar10, devices: list[str],
    rerun: bool = False, tf32: bool = False,
) -> list[Job]:  # fmt: skip
    """Return the jobs that are left to do; their folders can be written, and their precision is not a slow one."""
    missing: list[Job] = []
    for (arm, seed), config in wanted.items():
        folder = root / data.name / name / arm
        job = Job(config, folder, EXPERIMENTS[name].keep_weights and seed == 0, devices[0], rerun, tf32)
        if job.is_finished(data):
            job.delete_checkpoint()
        else:
            missing.append(job)
    for precision in {job.config.precision for job in missing}:
        check_fast(precision, devices[0])
    for job in missing:  # a folder that cannot be written is an error before anything is trained
        paths.require_writable(job.folder)
    return _in_turn(missing, devices)


def _in_turn(jobs: list[Job], devices: list[str]) -> list[Job]:
    return [replace(job, device=devices[i % len(devices)]) for i, job in enumerate(jobs)]


def _devices(device: str) -> list[str]:
    """Return the devices that the runs take in turn: "cuda" without a number stands for all of them."""
    if device == "cuda" and torch.cuda.device_count() > 1:
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [str(cuda.check_device(device))]
