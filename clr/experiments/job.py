"""One job of an experiment: train, save, clean up; and many jobs side by side, with one progress bar."""

import math
import os
import pickle
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import joblib
import torch
from tqdm.auto import tqdm

from clr import paths, results
from clr.data import Cifar10
from clr.training import Run, RunConfig, machine, require_same_run, run_spec, train

__all__ = ["JOBS_PER_CUDA_DEVICE", "Job", "run_all"]

BYTES_PER_PROCESS = 1.2e9  # torch and one run; the images are shared
JOBS_PER_CUDA_DEVICE = 10  # five seeds of two arms


@dataclass(frozen=True)
class Job:
    """One run, as a worker gets it: everything except the images."""

    config: RunConfig
    folder: Path
    keep_weights: bool
    device: str
    rerun: bool

    def __call__(self, data: Cifar10, progress: Path) -> None:
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


def run_all(jobs: list[Job], data: Cifar10, n_jobs: int | None, name: str) -> None:
    """Run jobs side by side, with one progress bar of updates for all, named `name`."""
    if not jobs:
        return
    on_cpu, devices = torch.device(jobs[0].device).type == "cpu", len({job.device for job in jobs})
    prefer = "processes" if on_cpu else "threads"  # a hint, which joblib.parallel_config overrides
    backend, configured = joblib.parallel.get_active_backend()
    here = on_cpu and isinstance(backend, joblib.parallel.BACKENDS["loky"])  # not a cluster's workers
    usual = _processes(len(jobs)) if here else -1 if on_cpu else JOBS_PER_CUDA_DEVICE * devices
    n_jobs = n_jobs or configured or usual
    if here:  # joblib starts a process for each of n_jobs, even if there are fewer calls
        n_jobs = min(joblib.effective_n_jobs(n_jobs), len(jobs))
    with tempfile.TemporaryDirectory() as notes, _progress_bar(jobs, Path(notes), name), machine.exact_float32():
        calls = (joblib.delayed(job)(data, Path(notes) / str(i)) for i, job in enumerate(jobs))
        with _temporary_folder_named():
            joblib.Parallel(n_jobs, prefer=prefer, mmap_mode="c")(calls)


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
def _progress_bar(jobs: list[Job], notes: Path, name: str) -> Iterator[None]:
    """Show the updates that the jobs have noted, and the time left, until the work inside is done."""
    done = threading.Event()
    first: dict[str, int] = {}  # updates made before an interruption do not count for the time left
    with tqdm(total=sum(job.config.iterations for job in jobs), unit="updates", desc=name) as bar:

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
