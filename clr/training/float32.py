"""Exact float32 on CUDA: no TF32, and algorithms that repeat their bits. These settings belong to the process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["exact_float32", "is_tf32"]

_lock = threading.Lock()
_open: list[bool] = []  # the tf32 of every `exact_float32` that is open, in all threads
_saved_flags: list[tuple] = []  # the flags before the first of them


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
            _saved_flags.append(_swap_flags((True, False, *_precisions(tf32))))
        _open.append(tf32)
    try:
        yield
    finally:
        with _lock:
            _open.pop()
            if not _open:
                _swap_flags(_saved_flags.pop())


def is_tf32() -> bool:
    """Return whether CUDA's convolutions are in TF32 now."""
    owner, name = _flags()[2]
    return getattr(owner, name) in (True, "tf32")


def _flags() -> list[tuple[object, str]]:
    """Return the flags, each as (object, attribute): two of cuDNN's, then the precisions.

    From torch 2.9 on a precision is a text, `fp32_precision`. The older `allow_tf32` raises an error once anybody has
    set the new one, so it is used only where there is no other.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    general: list[tuple[object, str]] = [(cudnn, "deterministic"), (cudnn, "benchmark")]
    if hasattr(matmul, "fp32_precision"):
        return [*general, *((part, "fp32_precision") for part in (cudnn.conv, cudnn.rnn, matmul))]  # type: ignore[attr-defined]
    return [*general, (cudnn, "allow_tf32"), (matmul, "allow_tf32")]


def _precisions(tf32: bool) -> list[bool | str]:
    """Return the values of the precisions among the flags."""
    return [("tf32" if tf32 else "ieee") if name == "fp32_precision" else tf32 for _, name in _flags()[2:]]


def _swap_flags(values: tuple) -> tuple:
    """Set the flags; return what they were."""
    before = tuple(getattr(owner, name) for owner, name in _flags())
    for (owner, name), value in zip(_flags(), values, strict=True):
        setattr(owner, name, value)
    return before
