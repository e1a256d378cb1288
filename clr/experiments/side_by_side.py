"""Many jobs side by side: processes or threads, one progress bar, and what an interruption or an error leaves."""

import math
import os
import pickle
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.auto import tqdm

from clr.data import Cifar10
from clr.experiments.job import Job
from clr.experiments.stop import Stop
from clr.notebook import without_traceback
from clr.training import Stopped, machine
from clr.training.float32 import exact_float32

__all__ = ["JOBS_PER_CUDA_DEVICE", "run_all"]

BYTES_PER_PROCESS = 1.2e9  # torch and one run; the images are shared
JOBS_PER_CUDA_DEVICE = 10  # five seeds of two arms


def run_all(jobs: list[Job], data: Cifar10, n_jobs: int | None, name: str) -> None:
    """Run jobs side by side, with one progress bar of updates for all, named `name`.

    After Ctrl-C, or when a run fails, the others stop at their next update and keep their checkpoints.
    When a process is killed, joblib kills the other processes, whose last checkpoints stay.
    """
    if not jobs:
        return
    devices = sorted({job.device for job in jobs})
    on_cpu = torch.device(devices[0]).type == "cpu"
    prefer = "processes" if on_cpu else "threads"  # a hint, which joblib.parallel_config overrides
    n_jobs = _side_by_side(len(jobs), n_jobs, on_cpu, len(devices))
    count = min(len(jobs), joblib.effective_n_jobs(n_jobs))
    places = ", ".join(map(machine.describe_device, devices))
    print(f"{name}: {len(jobs)} runs, {count} side by side on {places}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as notes, tempfile.TemporaryDirectory() as signals:
        stop = Stop(os.path.join(signals, "stop"))
        calls = (joblib.delayed(stop.guard)(job, data, Path(notes) / str(i), stop) for i, job in enumerate(jobs))
        with stop.on_interrupt() as interrupts, _progress_bar(jobs, Path(notes), name), exact_float32(jobs[0].tf32):
            try:
                with _temporary_folder_named():
                    errors = joblib.Parallel(n_jobs, prefer=prefer, mmap_mode="c")(calls)
            except TerminatedWorkerError as error:
                errors = [_killed(error)]
            except Exception as error:  # joblib's own
                errors = [error]
    _raise_first(errors, bool(interrupts), jobs)


def _side_by_side(jobs: int, n_jobs: int | None, on_cpu: bool, devices: int) -> int:
    """Return how many runs joblib should have side by side."""
    backend, configured = joblib.parallel.get_active_backend()
    here = on_cpu and isinstance(backend, joblib.parallel.BACKENDS["loky"])  # not a cluster's workers
    usual = _processes(jobs) if here else -1 if on_cpu else JOBS_PER_CUDA_DEVICE * devices
    n_jobs = n_jobs or configured or usual
    if here:  # joblib starts a process for each of n_jobs, even if there are fewer calls
        n_jobs = min(joblib.effective_n_jobs(n_jobs), jobs)
    return n_jobs


def _raise_first(errors: list[BaseException | None], interrupted: bool, jobs: list[Job]) -> None:
    """Raise what ended the runs early, with what is kept; the runs that stopped for it are no errors."""
    first = next((error for error in errors if error is not None and not isinstance(error, Stopped)), None)
    if first is None and not interrupted:
        return
    kept = sum(job.has_checkpoint() for job in jobs)
    missing, anew = "finishes what is missing, and nothing twice", "goes on from there and retrains the others"
    left = f"{kept} of {len(jobs)} runs keep a checkpoint; the same call {anew if jobs[0].rerun else missing}"
    if interrupted or first is None or isinstance(first, KeyboardInterrupt):
        interrupt = KeyboardInterrupt(f"Interrupted. {left}.")
        raise (interrupt if isinstance(first, Exception) else without_traceback(interrupt)) from first
    first.add_note(f"The other runs were stopped. {left}.")
    raise first


def _killed(error: TerminatedWorkerError) -> ChildProcessError:
    """Return joblib's error about a killed process as one sentence."""
    signals = re.search(r"\{(.+?)\}", str(error))  # {SIGKILL(-9)}
    killed = ChildProcessError(
        f"a run's process was killed{f' ({signals[1]})' if signals else ''}, by the system when memory is short for "
        "example, and joblib ended the others; n_jobs sets how many run side by side"
    )
    killed.__cause__ = error
    return killed


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


@contextmanager
def _progress_bar(jobs: list[Job], notes: Path, name: str) -> Iterator[None]:
    """Show the updates that the jobs have noted, and the time left, until the work inside is done."""
    done = threading.Event()
    first: dict[str, int] = {}  # updates made before an interruption do not count for the time left
    with tqdm(total=sum(job.config.iterations for job in jobs), unit="updates", desc=name) as bar:

        def show() -> None:
            try:
                made = {note.name: int(note.read_text(encoding="utf-8") or 0) for note in notes.iterdir()}
            except OSError:  # no run fails for its progress bar
                return
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
