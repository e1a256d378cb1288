"""Running the named experiments: load the runs that are there, train those that are missing.

What they are is in `clr.catalogue`, at full length. The scales "quick" and "tiny" shrink iterations, step sizes and
drop points together, so that every curve keeps its shape.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch
from tqdm.auto import tqdm

from clr import _checks, paths, results
from clr.data import Cifar10, load_cifar10
from clr.experiments.catalogue import EXPERIMENTS
from clr.policies import Policy, Stages
from clr.training import Run, RunConfig, machine, require_same_run, run_spec, train

__all__ = ["EXPERIMENTS", "SCALES", "Scale", "configs", "results_folder", "run"]


@dataclass(frozen=True)
class Scale:
    """How much shorter than the paper: everything counted in updates is divided by `shrink`."""

    shrink: int
    evaluations: int  # times as rare as the shrinking alone would have them
    seeds: int
    test_pictures: int | None


ON_CUDA = 10  # runs side by side on one device: five seeds of two arms

SCALES = {"full": Scale(1, 1, 5, None), "quick": Scale(25, 2, 3, 2000), "tiny": Scale(1000, 10, 2, 500)}


def configs(name: str, seeds: int | None = None, scale: str = "full") -> dict[tuple[str, int], RunConfig]:
    """Return the runs of an experiment, by (arm, seed): first all arms of seed 0, the longest first, then of 1, ..."""
    _checks.choice("name", name, EXPERIMENTS)
    _checks.choice("scale", scale, SCALES)
    seeds = SCALES[scale].seeds if seeds is None else _checks.positive_int("seeds", seeds)
    arms = sorted(EXPERIMENTS[name].arms.items(), key=lambda arm: -arm[1].iterations)
    return {
        (arm, seed): _scaled(replace(config, seed=seed), SCALES[scale]) for seed in range(seeds) for arm, config in arms
    }


def _scaled(config: RunConfig, scale: Scale) -> RunConfig:
    return replace(
        config,
        policy=_shrunk(config.policy, scale.shrink),
        iterations=_divided(config.iterations, scale.shrink),
        evaluate_every=_divided(config.evaluate_every * scale.evaluations, scale.shrink),
        test_pictures=scale.test_pictures,
    )


def _divided(updates: int, by: int) -> int:
    return max(1, round(updates / by))


def _shrunk(policy: Policy, by: int) -> Policy:
    """Return the policy that goes through the same rates `by` times as fast."""
    if isinstance(policy, Stages):
        return Stages({round(start / by): _shrunk(stage, by) for start, stage in policy.stages})
    values: dict[str, Any] = {field.name: getattr(policy, field.name) for field in fields(policy)}  # type: ignore[arg-type]
    for name in ("step_size", "iterations"):
        if name in values:
            values[name] = _divided(values[name], by)
    if "warmup" in values:
        values["warmup"] = min(round(values["warmup"] / by), values["iterations"] - 1)
    if "gamma" in values:
        values["gamma"] **= by
    return type(policy)(**values)


def results_folder(dataset: str, scale: str) -> Path:
    """Return where runs are kept: results/ at full scale on real pictures, else runs/<data set>-<scale>/results."""
    _checks.choice("scale", scale, SCALES)
    if scale == "full" and dataset != "synthetic":
        return paths.home() / "results"
    return paths.home() / "runs" / f"{dataset}-{scale}" / "results"


def run(
    name: str,
    seeds: int | None = None,
    scale: str = "full",
    data: Cifar10 | None = None,
    device: str | None = None,
    n_jobs: int | None = None,
    rerun: bool = False,
    results_dir: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Run an experiment, but for what has finished before; return all its rows, as `clr.results.read` does.

    Args:
        name: a key of `EXPERIMENTS`.
        seeds: runs an arm, seeds 0, 1, ...; None for the scale's own (full 5, quick 3, tiny 2).
        scale: "full", "quick" (1/25 of the updates) or "tiny" (1/1000, for tests).
        data: None for `load_cifar10()`.
        device: None for CUDA where there is one, else the CPU. On plain "cuda" the runs take the devices in turn.
        n_jobs: runs side by side; None for one a core on the CPU and ten a CUDA device. Another engine than processes
            of this machine: call this inside `joblib.parallel_config(backend=...)`.
        rerun: train anew also what has finished; each old result stays until its new one is whole.
        results_dir: None for results/ at full scale on real pictures, runs/<data set>-<scale>/results otherwise.

    Raises:
        ResultError: a result that is there was made with another config or data; the message names the field.
    """
    wanted = configs(name, seeds, scale)
    n_jobs = n_jobs if n_jobs in (None, -1) else _checks.positive_int("n_jobs", n_jobs)
    _checks.boolean("rerun", rerun)
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    devices = _devices(usual if device is None else device)
    data = load_cifar10() if data is None else data
    if not isinstance(data, Cifar10):
        raise TypeError(f"data must be a data set of clr.data, got {data!r}")
    root = results_folder(data.name, scale) if results_dir is None else _checks.path("results_dir", results_dir)
    folder = root / data.name / name
    jobs = [
        Job(config, folder / arm, EXPERIMENTS[name].keep_weights and seed == 0, devices[0], rerun)
        for (arm, seed), config in wanted.items()
    ]
    missing: list[Job] = []
    for job in jobs:
        if job.finished(data):
            job.forget_checkpoint()
        else:
            missing.append(replace(job, device=devices[len(missing) % len(devices)]))
    for job in missing:  # a folder that cannot be written is said before anything is trained
        job.folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=job.folder).close()
    _run_all(missing, data, n_jobs)
    frame = results.read(root, data.name, name)
    keys = pd.MultiIndex.from_frame(frame[["arm", "seed"]])
    return frame[keys.isin(list(wanted))].reset_index(drop=True)


def _devices(device: str) -> list[str]:
    """Return the devices that runs are given in turn: "cuda" without a number stands for all of them."""
    if device == "cuda" and torch.cuda.device_count() > 1:
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be one of torch's, such as 'cpu' or 'cuda:0', got {device!r}") from error
    if asked.type == "cuda" and (asked.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device must be here, where torch sees {torch.cuda.device_count()} of CUDA, got {device!r}")
    return [str(asked)]


@dataclass(frozen=True)
class Job:
    """One run, as it is handed to a worker: all but the pictures."""

    config: RunConfig
    folder: Path
    keep_weights: bool
    device: str
    rerun: bool

    def __call__(self, data: Cifar10, progress: Path) -> None:
        """Train, and write the result; what is left after an interruption is a checkpoint to go on from."""
        if self.rerun or self.finished(data):
            self.forget_checkpoint()
        if self.finished(data):
            return
        seed = self.config.seed
        finished = train(
            self.config, data, device=self.device, checkpoint=self._checkpoint, progress=lambda n: _note(progress, n)
        )
        if not self.finished(data):
            if self.keep_weights:
                _save_weights(self.folder / f"seed-{seed}.safetensors", finished)
            made = {"diverged": finished.diverged, "provenance": finished.provenance}
            results.save(self.folder, seed, finished.rows, run_spec(self.config, data) | made)
        self.forget_checkpoint()

    def finished(self, data: Cifar10) -> bool:
        """Return whether the run has finished, here or in another process on the same folder; its result stays."""
        if self.rerun or (found := results.load(self.folder, self.config.seed)) is None:
            return False
        require_same_run(self.folder / f"seed-{self.config.seed}.json", found[1], run_spec(self.config, data))
        return True

    def forget_checkpoint(self) -> None:
        """Remove the checkpoint of a finished run, also that of a process that was stopped before it could do so."""
        with suppress(OSError):  # in a read-only folder it stays, and is in nobody's way
            self._checkpoint.unlink(missing_ok=True)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / f".seed-{self.config.seed}.checkpoint"


def _save_weights(path: Path, finished: Run) -> None:
    from safetensors.torch import save

    with paths.atomic_write(path) as part:
        part.write_bytes(save(finished.weights))


def _run_all(jobs: list[Job], data: Cifar10, n_jobs: int | None) -> None:
    """Run jobs side by side, with one bar of updates for all."""
    if not jobs:
        return
    on_cpu, devices = torch.device(jobs[0].device).type == "cpu", len({job.device for job in jobs})
    n_jobs = n_jobs or joblib.parallel.get_active_backend()[1] or (-1 if on_cpu else ON_CUDA * devices)
    prefer = "processes" if on_cpu else "threads"  # a hint, which joblib.parallel_config goes before
    with tempfile.TemporaryDirectory() as notes, _bar(jobs, Path(notes)), machine.exact_float32():
        calls = (joblib.delayed(job)(data, Path(notes) / str(i)) for i, job in enumerate(jobs))
        joblib.Parallel(n_jobs, prefer=prefer, mmap_mode="c")(calls)


def _note(path: Path, iteration: int) -> None:
    with suppress(OSError):  # a bar is not worth a run
        if path.parent.exists():
            path.write_text(str(iteration))


@contextmanager
def _bar(jobs: list[Job], notes: Path) -> Iterator[None]:
    """Show the updates that the jobs have noted, and the time left, until the work inside is done."""
    done = threading.Event()
    first: dict[str, int] = {}  # what was made before an interruption does not count for the time left
    with tqdm(total=sum(job.config.iterations for job in jobs), unit="updates", desc=jobs[0].folder.parent.name) as bar:

        def show() -> None:
            made = {note.name: int(note.read_text() or 0) for note in notes.iterdir()}
            bar.initial = sum(first.setdefault(name, updates) for name, updates in made.items())
            bar.n = sum(made.values())
            bar.refresh()

        def watch() -> None:
            while not done.wait(1.0):
                show()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            show()
