"""The precision of a run's forward and backward pass, and whether this processor has a fast bfloat16.

In bfloat16 torch's autocast runs convolutions and products with 8 bits of mantissa. Weights, optimizer, losses and
rates stay float32. Some processors multiply bfloat16 up to twice as fast as float32. Others emulate it, and take ten
times as long.
"""

import os
import statistics
import time
from functools import cache

import torch
from torch import Tensor, nn

from clr.training import machine

__all__ = ["SlowPrecisionError", "check_fast", "scores"]

SLOW = 2.0  # times as long as float32: no processor that multiplies bfloat16 itself comes near
ROUNDS = 5


def scores(net: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Return the net's scores in float32, computed in a precision: "float32" or "bfloat16"."""
    if precision == "float32":
        return net(images)
    with torch.autocast(images.device.type, torch.bfloat16, cache_enabled=False):  # a CUDA graph forbids the cache
        return net(images).float()


class SlowPrecisionError(ValueError):
    """The device only emulates the precision that was asked for."""


def check_fast(precision: str, device: str) -> None:
    """Refuse bfloat16 on a device that only emulates it, unless CLR_SLOW_BFLOAT16 is 1.

    Raises:
        SlowPrecisionError: bfloat16 is slow here; the message has how slow, and how to insist.
    """
    if precision == "float32" or os.environ.get("CLR_SLOW_BFLOAT16") == "1":
        return
    if torch.device(device).type == "cuda":
        slow = None if torch.cuda.is_bf16_supported(including_emulation=False) else "is emulated"
    else:
        ratio = _slowdown()
        slow = f"takes {ratio:.1f} times as long as float32" if ratio > SLOW else None
    if slow:
        place = machine.describe_device(device)
        raise SlowPrecisionError(
            f"precision must be 'float32' here, got 'bfloat16', which {slow} on {place}; "
            "set CLR_SLOW_BFLOAT16=1 to run anyway"
        )


@cache
def _slowdown() -> float:
    """Return how many times as long as in float32 an update of the first layer takes on one CPU thread."""
    layer = nn.Conv2d(3, 32, 5, padding=2).to(memory_format=torch.channels_last)
    images = torch.zeros(20, 3, 32, 32).contiguous(memory_format=torch.channels_last)

    def seconds(precision: str) -> float:
        start = time.perf_counter()
        scores(layer, images, precision).sum().backward()
        return time.perf_counter() - start

    with machine.cpu_threads(1):
        times = {name: [seconds(name) for _ in range(ROUNDS + 1)][1:] for name in ("float32", "bfloat16")}
    return statistics.median(times["bfloat16"]) / statistics.median(times["float32"])
