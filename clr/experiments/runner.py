"""Many runs: load the runs that are there, train those that are missing.

What they are is in `clr.experiments.catalogue`, at full length. The scales "quick" and "tiny" shrink iterations, step
sizes and drop points together, so that every curve keeps its shape.
"""

import math
import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
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
from clr.experiments.stop import Stop
from clr.policies import Policy, Stages
from clr.training import Run, RunConfig, Stopped, cuda, machine, require_same_run, run_spec, train
from clr.training.float32 import exact_float32

__all__ = ["EXPERIMENTS", "SCALES", "Scale", "configs", "results_folder", "run"]


@dataclass(frozen=True)
class Scale:
    """How much shorter than the paper: the scale divides everything counted in updates by `shrink`."""

    shrink: int
    evaluations: int  # how many times rarer, per update, than at full scale
    seeds: int
    test_pictures: int | None


BYTES_PER_PROCESS = 1.2e9  # torch and one run; the images are shared
JOBS_PER_CUDA_DEVICE = 10  # five seeds of two arms

SCALES = {"full": Scale(1, 1, 5, None), "quick": Scale(25, 2, 3, 2000), "tiny": Scale(1000, 10, 2, 500)}


def configs(name: str, seeds: int | None = None, scale: str = "full") -> dict[tuple[str, int], RunConfig]:
    """Return an experiment's runs by (arm, seed): all arms of seed 0, the longest first, then those of seed 1, ..."""
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
        policy=_compress(config.policy, scale.shrink),
        iterations=_divided(config.iterations, scale.shrink),
        evaluate_every=_divided(config.evaluate_every * scale.evaluations, scale.shrink),
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


@dataclass(frozen=True)
class Job:
    """One run, as a worker gets it: everything except the images."""

    config: RunConfig
    folder: Path
    keep_weights: bool
    device: str
    rerun: bool

    def __call__(self, data: Cifar10, progress: Path, stop: Callable[[], bool] = lambda: False) -> None:
        """Train, and write the result; an interruption leaves a checkpoint to go on from."""
        if self.is_finished(data):  # another process finished it after the plan was made
            self.delete_checkpoint()
            return
        if self.rerun:
            self.delete_checkpoint()  # it belongs to the old run
        run = train(
            self.config,
            data,
            device=self.device,
            checkpoint=self._checkpoint,
            progress=lambda n: _write_progress(progress, n),
            stop=stop,
        )
        if not self.is_finished(data):  # of two processes that train it at once, the first keeps its result
            self._save(run, data)
        self.delete_checkpoint()

    def is_finished(self, data: Cifar10) -> bool:
        """Return whether a result is there that stays: made here or by another process on the same folder."""
        if self.rerun or (found := results.load(self.folder, self.config.seed)) is None:
            return False
        path = results.run_path(self.folder, self.config.seed, ".json")
        require_same_run(path, found[1], run_spec(self.config, data))
        return True

    def delete_checkpoint(self) -> None:
        """Delete the checkpoint, also one that a killed process left behind."""
        with suppress(OSError):  # in a read-only folder it stays, and harms nobody
            self._checkpoint.unlink(missing_ok=True)

    def has_checkpoint(self) -> bool:
        """Return whether an interrupted run left a checkpoint."""
        return self._checkpoint.exists()

    def _save(self, run: Run, data: Cifar10) -> None:
        seed = self.config.seed
        if self.keep_weights:
            from safetensors.torch import save

            with paths.atomic_write(results.run_path(self.folder, seed, ".safetensors")) as part:
                part.write_bytes(save(run.weights))
        how = {"diverged": run.diverged, "provenance": run.provenance}
        results.save(self.folder, seed, run.rows, run_spec(self.config, data) | how)

    @property
    def _checkpoint(self) -> Path:
        return results.run_path(self.folder, self.config.seed, ".checkpoint")


def results_folder(dataset: str, scale: str) -> Path:
    """Return where runs are kept: results/ at full scale on real images, else runs/<data set>-<scale>/results."""
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
    """Train the runs of an experiment that have not finished; return the rows of all, as `clr.results.read` does.

    Args:
        name: a key of `EXPERIMENTS`.
        seeds: runs per arm, seeds 0, 1, ...; None for the scale's own (full 5, quick 3, tiny 2).
        scale: "full", "quick" (1/25 of the updates) or "tiny" (1/1000, for tests).
        data: None for `load_cifar10()`.
        device: None for CUDA where there is one, else the CPU. On plain "cuda" the runs take the devices in turn.
        n_jobs: runs side by side; None for one per core on the CPU, as far as the memory goes, and ten per CUDA
            device. To use another engine than processes of this machine, call this inside
            `joblib.parallel_config(backend=...)`.
        rerun: retrain finished runs as well; each old result stays until its new one is whole.
        results_dir: None for results/ at full scale on real images, runs/<data set>-<scale>/results otherwise.

    Raises:
        ResultError: a result on disk was made with another config or data; the message names the field.
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
    _run_all(_plan(name, wanted, root / data.name / name, data, devices, rerun), data, n_jobs)
    frame = results.read(root, data.name, name)
    keys = pd.MultiIndex.from_frame(frame[["arm", "seed"]])
    return frame[keys.isin(list(wanted))].reset_index(drop=True)


def _plan(
    name: str,
    wanted: dict[tuple[str, int], RunConfig],
    folder: Path,
    data: Cifar10,
    devices: list[str],
    rerun: bool,
) -> list[Job]:
    """Return the jobs that are left to do, which take the devices in turn; their folders can be written."""
    missing: list[Job] = []
    for (arm, seed), config in wanted.items():
        keep_weights = EXPERIMENTS[name].keep_weights and seed == 0
        job = Job(config, folder / arm, keep_weights, devices[len(missing) % len(devices)], rerun)
        if job.is_finished(data):
            job.delete_checkpoint()
        else:
            missing.append(job)
    for job in missing:  # a folder that cannot be written is an error before anything is trained
        paths.require_writable(job.folder)
    return missing


def _devices(device: str) -> list[str]:
    """Return the devices that the runs take in turn: "cuda" without a number stands for all of them."""
    if device == "cuda" and torch.cuda.device_count() > 1:
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [str(cuda.check_device(device))]


def _run_all(jobs: list[Job], data: Cifar10, n_jobs: int | None) -> None:
    """Run jobs side by side, with one progress bar of updates for all."""
    if not jobs:
        return
    on_cpu, devices = torch.device(jobs[0].device).type == "cpu", sorted({job.device for job in jobs})
    prefer = "processes" if on_cpu else "threads"  # a hint, which joblib.parallel_config overrides
    n_jobs = _side_by_side(jobs, n_jobs, on_cpu, len(devices))
    names = ", ".join(map(machine.describe_device, devices))
    count = min(len(jobs), joblib.effective_n_jobs(n_jobs))
    print(f"{jobs[0].folder.parent.name}: {len(jobs)} runs, {count} side by side on {names}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as notes, tempfile.TemporaryDirectory() as signals:
        stop = Stop(os.path.join(signals, "stop"))
        calls = (joblib.delayed(stop.guard)(job, data, Path(notes) / str(i), stop) for i, job in enumerate(jobs))
        with stop.on_interrupt() as interrupts, _progress_bar(jobs, Path(notes)), exact_float32():
            try:
                with _temporary_folder_named():
                    errors = joblib.Parallel(n_jobs, prefer=prefer, mmap_mode="c")(calls)
            except Exception as error:  # joblib's own: a worker was killed, for example
                errors = [error]
    _raise_first(errors, bool(interrupts), jobs)


def _side_by_side(jobs: list[Job], n_jobs: int | None, on_cpu: bool, devices: int) -> int:
    """Return how many runs joblib should have side by side."""
    backend, configured = joblib.parallel.get_active_backend()
    here = on_cpu and isinstance(backend, joblib.parallel.BACKENDS["loky"])  # not a cluster's workers
    usual = _processes(len(jobs)) if here else -1 if on_cpu else JOBS_PER_CUDA_DEVICE * devices
    n_jobs = n_jobs or configured or usual
    if here:  # joblib starts a process for each of n_jobs, even if there are fewer calls
        n_jobs = min(joblib.effective_n_jobs(n_jobs), len(jobs))
    return n_jobs


def _raise_first(errors: list[BaseException | None], interrupted: bool, jobs: list[Job]) -> None:
    """Raise what ended the runs early, with what is kept; the runs that stopped for it are no errors."""
    first = next((error for error in errors if error is not None and not isinstance(error, Stopped)), None)
    if first is None and not interrupted:
        return
    kept = sum(job.has_checkpoint() for job in jobs)
    left = f"{kept} of {len(jobs)} runs keep a checkpoint; the same call finishes what is missing, and nothing twice"
    if interrupted or first is None or isinstance(first, KeyboardInterrupt):
        raise KeyboardInterrupt(f"Interrupted. {left}.") from first
    first.add_note(f"The other runs were stopped. {left}.")
    raise first


def _processes(jobs: int) -> int:
    """Return how many processes to start: no more than jobs, than processors, and than free memory has room for."""
    free = math.inf
    with suppress(ImportError):
        import psutil

        free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # a container may have less
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return max(1, int(min(jobs, joblib.cpu_count(), free / BYTES_PER_PROCESS)))


@contextmanager
def _temporary_folder_named() -> Iterator[None]:
    """Raise an OSError that names the folder where joblib's own error does not: images go through a file there."""
    try:
        yield
    except pickle.PicklingError as error:
        folder = os.environ.get("JOBLIB_TEMP_FOLDER") or f"/dev/shm or {tempfile.gettempdir()}"
        if "Errno" not in (reason := str(error.__cause__).rstrip('\n"').splitlines()[-1]):
            raise
        raise OSError(f"cannot share the images through {folder} ({reason}); set JOBLIB_TEMP_FOLDER") from error


def _write_progress(note: Path, iteration: int) -> None:
    with suppress(OSError):  # no run fails for its progress bar
        if note.parent.exists():
            note.write_text(str(iteration), encoding="utf-8")


@contextmanager
def _progress_bar(jobs: list[Job], notes: Path) -> Iterator[None]:
    """Show the updates that the jobs have noted, and the time left, until the work inside is done."""
    done = threading.Event()
    first: dict[str, int] = {}  # updates made before an interruption do not count for the time left
    with tqdm(total=sum(job.config.iterations for job in jobs), unit="updates", desc=jobs[0].folder.parent.name) as bar:

        def show() -> None:
            made = {note.name: int(note.read_text(encoding="utf-8") or 0) for note in notes.iterdir()}
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
