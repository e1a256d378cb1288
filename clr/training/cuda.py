"""CUDA: the devices that training accepts, a stream for every thread, and the capture of an update as a graph.

Why a capture is safe beside other threads. While one thread captures, torch asks for no other CUDA call in the process.
So all runs of a process go through one gate. Uploads, updates, evaluations and checkpoints of different runs pass it
together (`shared`). The first updates of a run, in which libraries initialise, and its capture pass it `alone`. Kernels
that were launched before may still run: only calls matter. Code outside this package does not know the gate. Where it
disturbs a capture, the run warns and continues without a graph. CLR_CUDA_GRAPHS=0 switches all captures off.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import LifoQueue

import torch

from clr.training.float32 import exact_float32

__all__ = ["Gate", "alone", "capture", "check_device", "on_device", "shared", "use_graphs"]


def check_device(device: str | torch.device) -> torch.device:
    """Return a device that can train: the CPU, or a CUDA device that torch sees.

    Raises:
        ValueError: it is none of torch's, is not there, or is of another kind, such as Apple's MPS.
    """
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be one of torch's, such as 'cpu' or 'cuda:0', got {device!r}") from error
    if asked.type == "mps":  # pytorch issues 175189, 175190 and 197805
        reason = "on MPS torch's gradients are wrong in the memory layout used here, and threads end the process"
        raise ValueError(f"device must be 'cpu' or a CUDA device ({reason}), got {device!r}")
    if asked.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or a CUDA device, got {device!r}")
    if asked.type == "cuda" and (asked.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device must be one that torch can see ({torch.cuda.device_count()} CUDA devices here), got {device!r}"
        )
    return asked


@contextmanager
def on_device(device: str, tf32: bool = False) -> Iterator[None]:
    """Compute on a device; on CUDA on a stream of this thread's own, so that threads compute side by side."""
    if check_device(device).type != "cuda":
        yield
        return
    with (
        exact_float32(tf32),
        torch.cuda.device(device),
        _own_stream(device) as stream,
        torch.cuda.stream(stream),
        torch.autograd.set_multithreading_enabled(False),  # otherwise one thread computes the gradients of all runs
    ):
        yield


# Streams.

STREAMS = 32  # torch has so many per device and hands them out in turn, so the next may be another thread's

_streams: dict[int, LifoQueue] = {}
_streams_lock = threading.Lock()


@contextmanager
def _own_stream(device: str) -> Iterator[torch.cuda.Stream]:
    """Take a stream that no other thread has; wait while all are taken."""
    index = torch.device(device).index
    free = _free_streams(torch.cuda.current_device() if index is None else index)
    stream = free.get()
    try:
        yield stream
    finally:
        stream.synchronize()  # memory that this thread frees may be used by others at once
        free.put(stream)


def _free_streams(index: int) -> LifoQueue:
    with _streams_lock:
        if index not in _streams:
            made = [torch.cuda.Stream(index) for _ in range(STREAMS)]
            _streams[index] = LifoQueue()
            for stream in {stream.cuda_stream: stream for stream in made}.values():
                _streams[index].put(stream)
        return _streams[index]


# The gate.


class Gate:
    """A lock that many threads share or that one has alone. Who waits to be alone goes before those who would share.

    A thread inside must not ask again.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._sharing, self._waiting, self._taken = 0, 0, False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Be inside together with others who share."""
        with self._change:
            self._change.wait_for(lambda: not self._taken and not self._waiting)
            self._sharing += 1
        try:
            yield
        finally:
            with self._change:
                self._sharing -= 1
                self._change.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be inside while nobody else is."""
        with self._change:
            self._waiting += 1
            try:
                self._change.wait_for(lambda: not self._taken and not self._sharing)
                self._taken = True
            finally:
                self._waiting -= 1
                self._change.notify_all()
        try:
            yield
        finally:
            with self._change:
                self._taken = False
                self._change.notify_all()


_gate = Gate()


def _is_cuda(device: str | torch.device) -> bool:
    return torch.device(device).type == "cuda"


def shared(device: str | torch.device) -> AbstractContextManager[None]:
    """Pass the gate together with other runs; the CPU has no gate."""
    return _gate.shared() if _is_cuda(device) else nullcontext()


def alone(device: str | torch.device) -> AbstractContextManager[None]:
    """Pass the gate alone; the CPU has no gate."""
    return _gate.alone() if _is_cuda(device) else nullcontext()


# Graphs.


def use_graphs() -> bool:
    """Return whether updates are captured: always, unless CLR_CUDA_GRAPHS is 0.

    Raises:
        ValueError: CLR_CUDA_GRAPHS is neither 0 nor 1.
    """
    value = os.environ.get("CLR_CUDA_GRAPHS", "1")
    if value not in ("0", "1"):
        raise ValueError(f"CLR_CUDA_GRAPHS must be 0 or 1, got {value!r}")
    return value == "1"


def capture(work: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
    """Record the kernels that `work` launches, without running them. Call it `alone`.

    Returns None, after a warning, where the capture fails.
    """
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(f"no CUDA graph ({reason}); the run continues without one, more slowly", stacklevel=2)
        return None
    return graph
