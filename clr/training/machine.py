"""The machine that a run is made on: its memory, threads, device and float32, and the record of them."""

import ctypes
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["cpu_threads", "exact_float32", "keep_freed_memory", "on_device", "provenance"]


@cache
def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next update; it would return it to the system, page by page.

    The temporaries of one update are larger than glibc's thresholds. Faulting them in anew each time costs up to
    half the speed. Returns whether the settings took: False without glibc.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":  # libc_ver fails in Pythons of Microsoft's Store
        return False
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
    mallopt = ctypes.CDLL(None).mallopt
    wanted = {M_MMAP_THRESHOLD: 1 << 25, M_TRIM_THRESHOLD: 1 << 30, M_TOP_PAD: 1 << 26}
    return all(mallopt(option, size) for option, size in wanted.items())


@contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """Compute on so many CPU threads; afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_lock = threading.Lock()
_open: list[bool] = []  # the tf32 of every `exact_float32` that is open, in all threads
_saved_flags: list[tuple[bool, ...]] = []  # the flags before the first of them


@contextmanager
def exact_float32(tf32: bool = False) -> Iterator[None]:
    """Make CUDA multiply in exact float32, not in TF32, and by algorithms that repeat their bits.

    The flags belong to the process, so all runs in its threads must ask for the same. The last to end restores them.

    Raises:
        ValueError: another thread computes with the other setting.
    """
    with _lock:
        if (not tf32) in _open:
            raise ValueError(f"tf32 must be {not tf32}, as in the runs that go on in this process, got {tf32}")
        if not _open:
            _saved_flags.append(_swap_flags((tf32, True, False, tf32)))
        _open.append(tf32)
    try:
        yield
    finally:
        with _lock:
            _open.pop()
            if not _open:
                _swap_flags(_saved_flags.pop())


def _swap_flags(flags: tuple[bool, ...]) -> tuple[bool, ...]:
    """Set the flags; return what they were."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32 = flags
    return before


@contextmanager
def on_device(device: str, tf32: bool = False) -> Iterator[None]:
    """Compute on a device; on CUDA on the thread's own stream, so that threads compute side by side."""
    if torch.device(device).type != "cuda":
        yield
        return
    backward_here = torch.autograd.set_multithreading_enabled(False)  # or one thread makes that of all runs
    with exact_float32(tf32), torch.cuda.device(device), torch.cuda.stream(_stream(device)), backward_here:
        yield


_own = threading.local()


def _stream(device: str) -> torch.cuda.Stream:
    """Return this thread's stream. torch hands out the same 32 in turn, so a new one may be another thread's."""
    streams = vars(_own)
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    return streams[device]


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Return the hardware and versions that a run was made with: recorded beside its result, never compared."""
    cuda = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "threads": threads,
        "tf32": cuda and torch.backends.cudnn.allow_tf32,
        "torch": str(torch.__version__),  # plain: a checkpoint holds it, too
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": sys.platform,
        "commit": _commit(),
    }


@cache
def _processor() -> str:
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = {line.split(":")[1].strip() for line in file if line.startswith("model name")}
        return ", ".join(sorted(names)) or platform.machine()
    if sys.platform == "darwin":  # platform.processor() says "arm" there
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        return asked.stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


@cache
def _commit() -> str | None:
    """Return the commit of this code, followed by "+" where files differ from it; None outside a checkout."""
    try:
        here = Path(__file__).parents[1]  # the package's folder: a change anywhere in it counts
        tracked = ["git", "ls-files", "--error-unmatch", "__init__.py"]  # not where it was only installed
        subprocess.run(tracked, cwd=here, capture_output=True, check=True)
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "."], cwd=here, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.returncode else "")
