"""Many runs: load the runs that are there, train those that are missing.

What they are is in `clr.experiments.catalogue`, at full length. The scales "quick" and "tiny" shrink iterations, step
sizes and drop points together, so that every curve keeps its shape.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from clr import _checks, paths, results
from clr.data import Cifar10, load_cifar10
from clr.experiments.catalogue import EXPERIMENTS
from clr.experiments.job import Job, run_all
from clr.experiments.queue import QUEUE, Row
from clr.experiments.stand_in import set_aside_others
from clr.policies import Policy, Ramp, Stages
from clr.training import RunConfig, cuda
from clr.training.precision import SlowPrecisionError, check_fast

__all__ = [
    "EXPERIMENTS",
    "SCALES",
    "Scale",
    "check_machine",
    "configs",
    "kept_apart",
    "queue_state",
    "results_folder",
    "run",
    "run_queue",
]


@dataclass(frozen=True)
class Scale:
    """How much shorter than the paper: the scale divides everything counted in updates by `shrink`.

    A range test is divided by `range_test`, where that is given: its few updates pass all rates.
    """

    shrink: int
    evaluations: int  # how many times fewer evaluations a curve has than at full scale
    seeds: int
    test_pictures: int | None
    range_test: int | None = None


SCALES = {"full": Scale(1, 1, 5, None), "quick": Scale(50, 2, 2, 1000, 25), "tiny": Scale(1000, 10, 2, 500)}


def configs(
    name: str, seeds: int | None = None, scale: str = "full", arms: Sequence[str] | None = None,
    precision: str | None = None,
) -> dict[tuple[str, int], RunConfig]:  # fmt: skip
    """Return an experiment's runs by (arm, seed): all arms of seed 0, the longest first, then those of seed 1, ...

    Args:
        arms: names or patterns such as "adam-*"; None for all arms.
        precision: "float32" or "bfloat16"; None for the catalogue's.
    """
    _checks.choice("name", name, EXPERIMENTS)
    _checks.choice("scale", scale, SCALES)
    seeds = SCALES[scale].seeds if seeds is None else _checks.positive_int("seeds", seeds)
    chosen = _choose_arms(name, arms)
    by_length = sorted(chosen.items(), key=lambda arm: -arm[1].iterations)
    return {
        (arm, seed): _scaled(replace(config, seed=seed, precision=precision or config.precision), SCALES[scale])
        for seed in range(seeds)
        for arm, config in by_length
    }


def _choose_arms(name: str, arms: Sequence[str] | None) -> dict[str, RunConfig]:
    known = EXPERIMENTS[name].arms
    if arms is None:
        return known
    if isinstance(arms, str) or not arms or not all(isinstance(pattern, str) for pattern in arms):
        raise TypeError(f"arms must be a sequence of names, got {_checks.brief(arms)}")
    for pattern in arms:
        if not any(fnmatch(arm, pattern) for arm in known):
            raise ValueError(f"arms must be among those of {name} ({', '.join(known)}), got {pattern!r}")
    return {arm: config for arm, config in known.items() if any(fnmatch(arm, pattern) for pattern in arms)}


def _scaled(config: RunConfig, scale: Scale) -> RunConfig:
    shrink = (scale.range_test if isinstance(config.policy, Ramp) else None) or scale.shrink
    return replace(
        config,
        policy=_compress(config.policy, shrink),
        iterations=_divided(config.iterations, shrink),
        evaluate_every=_divided(config.evaluate_every * scale.evaluations, shrink),
        test_pictures=scale.test_pictures,
    )


def _divided(updates: int, by: int) -> int:
    return max(1, round(updates / by))


def _compress(policy: Policy, by: int) -> Policy:
    """Return the policy that goes through the same rates `by` times as fast."""
    if isinstance(policy, Stages):
        return Stages({round(start / by): _compress(stage, by) for start, stage in policy.stages})
    values: dict[str, Any] = {field.name: getattr(policy, field.name) for field in fields(policy)}  # type: ignore[arg-type]
    for name in ("step_size", "iterations"):
        if name in values:
            values[name] = _divided(values[name], by)
    if "warmup" in values:
        values["warmup"] = min(round(values["warmup"] / by), values["iterations"] - 1)
    if "gamma" in values:
        values["gamma"] **= by
    return type(policy)(**values)


def kept_apart(name: str, precision: str | None) -> str | None:
    """Return a precision that is not the one of an experiment's arms in the catalogue; otherwise None."""
    own = {config.precision for config in EXPERIMENTS[name].arms.values()}
    return None if precision is None or own == {precision} else precision


def results_folder(dataset: str, scale: str, precision: str | None = None) -> Path:
    """Return where runs are kept: results/ at full scale on real images, else runs/<data set>-<scale>/results.

    Runs in another precision than the catalogue's are kept in runs/<data set>-<scale>-<precision>/results.
    """
    _checks.choice("scale", scale, SCALES)
    if scale == "full" and dataset != "synthetic" and precision is None:
        return paths.home() / "results"
    other = "" if precision is None else f"-{precision}"
    return paths.home() / "runs" / f"{dataset}-{scale}{other}" / "results"


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
    check_machine(device, n_jobs)
    data = load_cifar10() if data is None else data
    places = {of: _place(scale, data, device, n_jobs, results_dir, kept_apart(of, precision)) for of in names}
    plans = {of: _plan(of, wanted[of], place, rerun, tf32) for of, place in places.items()}
    for of, jobs in plans.items():
        run_all(_in_turn(jobs, places[of].devices), places[of].data, places[of].n_jobs, of)
    return pd.concat([_rows(of, wanted[of], places[of]) for of in names], ignore_index=True)


def _rows(name: str, wanted: dict[tuple[str, int], RunConfig], place: "_Place") -> pd.DataFrame:
    """Return the rows of some runs of an experiment."""
    frame = results.read(place.root, place.data.name, name)
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
    check_machine(device, n_jobs)
    place = _place(scale, load_cifar10() if data is None else data, device, n_jobs, results_dir)
    jobs: dict[tuple[Path, int], Job] = {}
    for row in rows:
        wanted = configs(row.experiment, row.seeds, scale, row.arms)
        try:
            planned = _plan(row.experiment, wanted, place)
        except SlowPrecisionError as error:
            print(f"queue: {row.experiment} is left out: {error}", file=sys.stderr, flush=True)
            continue
        for job in planned:
            jobs.setdefault((job.folder, job.config.seed), job)
    run_all(_in_turn(list(jobs.values()), place.devices), place.data, place.n_jobs, "queue")


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


@dataclass(frozen=True)
class _Place:
    """Where jobs run, and on what: the checked arguments that `run` and `run_queue` share."""

    data: Cifar10
    devices: list[str]
    n_jobs: int | None
    root: Path


def _place(
    scale: str,
    data: Cifar10,
    device: str | None,
    n_jobs: int | None,
    results_dir: str | os.PathLike[str] | None,
    precision: str | None = None,
) -> _Place:
    devices, n_jobs = check_machine(device, n_jobs)
    if not isinstance(data, Cifar10):
        raise TypeError(f"data must be a data set of clr.data, got {_checks.brief(data)}")
    root = (
        results_folder(data.name, scale, precision) if results_dir is None else _checks.path("results_dir", results_dir)
    )
    if results_dir is None and data.name == "synthetic":
        set_aside_others(root, data)
    return _Place(data, devices, n_jobs, root)


def check_machine(device: str | None, n_jobs: int | None) -> tuple[list[str], int | None]:
    """Return the devices that the runs take in turn, and how many runs side by side; None stands for the usual.

    Raises:
        ValueError: there is no such device, or n_jobs is neither positive nor -1.
    """
    n_jobs = n_jobs if n_jobs in (None, -1) else _checks.positive_int("n_jobs", n_jobs)
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    return _devices(usual if device is None else device), n_jobs


def _plan(
    name: str, wanted: dict[tuple[str, int], RunConfig], place: _Place, rerun: bool = False, tf32: bool = False
) -> list[Job]:
    """Return the jobs that are left to do; their folders can be written, and their precision is not a slow one."""
    missing: list[Job] = []
    for (arm, seed), config in wanted.items():
        folder = place.root / place.data.name / name / arm
        job = Job(config, folder, EXPERIMENTS[name].keep_weights and seed == 0, place.devices[0], rerun, tf32)
        if job.is_finished(place.data):
            job.delete_checkpoint()
        else:
            missing.append(job)
    for precision in {job.config.precision for job in missing}:
        check_fast(precision, place.devices[0])
    for job in missing:  # a folder that cannot be written is an error before anything is trained
        paths.require_writable(job.folder)
    return missing


def _in_turn(jobs: list[Job], devices: list[str]) -> list[Job]:
    return [replace(job, device=devices[i % len(devices)]) for i, job in enumerate(jobs)]


def _devices(device: str) -> list[str]:
    """Return the devices that the runs take in turn: "cuda" without a number stands for all of them."""
    if device == "cuda" and torch.cuda.device_count() > 1:
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [str(cuda.check_device(device))]
