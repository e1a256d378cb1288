"""The machine that a run is made on: how to make it keep its memory, and what to note of it beside a result."""

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["exact_float32", "keep_freed_memory", "on", "pinned", "provenance"]


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed for the next update, not to hand it back to the system page by page.

    The temporaries of one update are larger than glibc's thresholds; faulting them in anew every time costs up to
    half the speed. Returns whether there was a glibc to tell.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
    mallopt = ctypes.CDLL(None).mallopt
    wanted = {M_MMAP_THRESHOLD: 1 << 25, M_TRIM_THRESHOLD: 1 << 30, M_TOP_PAD: 1 << 26}
    return all(mallopt(option, size) for option, size in wanted.items())


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Compute on so many CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def exact_float32(tf32: bool = False) -> Iterator[None]:
    """Let CUDA multiply in float32 as it is, not in TF32, and by algorithms that give the same bits again."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32 = tf32, True, False, tf32
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32 = before


@contextmanager
def on(device: str, tf32: bool = False) -> Iterator[None]:
    """Compute on a device; on CUDA on a stream of its own, so that runs in other threads go side by side."""
    if torch.device(device).type != "cuda":
        yield
        return
    with exact_float32(tf32), torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream(device)):
        yield


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Return what a run was made with: recorded beside its result, never compared."""
    cuda = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "threads": threads,
        "tf32": cuda and torch.backends.cudnn.allow_tf32,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": sys.platform,
        "commit": _commit(),
    }


@cache
def _processor() -> str:
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = {line.split(":")[1].strip() for line in file if line.startswith("model name")}
        return ", ".join(sorted(names)) or platform.machine()
    return platform.processor() or platform.machine()


@cache
def _commit() -> str | None:
    """Return the commit of this code, with "+" after it where files differ from it; None outside a checkout."""
    try:
        here = Path(__file__).parent
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "."], cwd=here, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.returncode else "")
