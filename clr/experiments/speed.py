"""How long training will take on this machine, from a few updates that are made and timed."""

import statistics
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np

from clr.data import Cifar10, synthetic_cifar10
from clr.training import RunConfig, Stopped, train

__all__ = ["in_words", "seconds_per_update"]

WARM_UP = 3  # updates in which memory is allocated
TIMED = 8


def seconds_per_update(config: RunConfig, data: Cifar10 | None = None) -> float:
    """Return what an update of a run takes here, on one thread of the CPU: the median of eight.

    Args:
        data: None for a few synthetic images, which take as long as any.
    """
    started: list[float] = []

    def stop() -> bool:
        started.append(time.perf_counter())
        return len(started) > WARM_UP + TIMED

    length = WARM_UP + TIMED + 1
    data = synthetic_cifar10(config.batch_size, 1) if data is None else data
    with suppress(Stopped):
        train(replace(config, iterations=length, evaluate_every=length, hold_out_every=None), data, stop=stop)
    return statistics.median(np.diff(started)[WARM_UP:])


def in_words(seconds: float) -> str:
    """Return a duration as people say it.

    >>> in_words(4), in_words(43), in_words(200), in_words(9000)
    ('about 5 seconds', 'about 45 seconds', 'about 3 minutes', 'about 2.5 hours')
    """
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
