"""The machine that a run is made on: its memory, its CPU threads, the names of its parts."""

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

from clr.training import float32

__all__ = ["cpu_threads", "describe_device", "keep_freed_memory", "provenance"]


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


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Return the hardware and versions that a run was made with: recorded beside its result, never compared."""
    cuda = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "threads": threads,
        "tf32": cuda and float32.is_tf32(),
        "torch": str(torch.__version__),  # plain: a checkpoint holds it, too
        **({"cudnn": torch.backends.cudnn.version()} if cuda else {}),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": sys.platform,
        "commit": _commit(),
    }


def describe_device(device: str) -> str:
    """Return a device in words, and why it is not CUDA where a driver of NVIDIA's is installed.

    For example "cuda:0 (NVIDIA H200, 138 GiB free)" or "CPU (AMD EPYC)".
    """
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return f"{device} ({torch.cuda.get_device_name(device)}, {free / 2**30:.0f} GiB free)"
    if torch.cuda.is_available() or not os.path.exists("/proc/driver/nvidia/version"):
        return f"CPU ({_processor()})"
    built = f"too old for CUDA {torch.version.cuda}?" if torch.version.cuda else "this torch is built without CUDA"
    return f"CPU ({_processor()}): torch sees no CUDA device, though there is a driver ({built})"


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
