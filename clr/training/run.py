"""The one training loop, and the runs of the experiments on it.

A run is a `RunConfig` and a data set, and nothing else decides its numbers: initial weights and batch order come
from the seed by separate generators, the rates from a table computed ahead, and iteration k's batch from k alone.
So an interrupted run resumes from its checkpoint bit for bit. One device, thread count and torch version give the same
bits; across those, numbers are equal up to rounding.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clr import _checks, results
from clr.data import Cifar10
from clr.nets import NETS
from clr.optim import SOLVERS
from clr.training import cuda, machine
from clr.training.checkpoint import Checkpoint
from clr.training.config import RunConfig, run_spec
from clr.training.precision import check_fast
from clr.training.update import LAYOUT, Batches, Update

__all__ = ["Run", "Stopped", "evaluate", "train"]


@dataclass(frozen=True)
class Run:
    """A finished run: one row per evaluation, whether it diverged, its provenance, its final weights on the CPU."""

    rows: list[dict[str, float]]
    diverged: bool
    provenance: dict[str, Any]
    weights: dict[str, Tensor]


class Stopped(Exception):
    """A run was asked to stop. Its checkpoint, if it has one, holds all of its updates."""


def train(
    config: RunConfig,
    data: Cifar10,
    *,
    device: str = "cpu",
    threads: int = 1,
    tf32: bool = False,
    checkpoint: Path | None = None,
    progress: Callable[[int], None] = lambda iteration: None,
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[dict[str, float]], None] = lambda row: None,
) -> Run:
    """Train one net from scratch, or from its checkpoint. A run whose loss is no longer finite ends there, diverged.

    Args:
        device: "cpu" or a CUDA device.  threads: CPU threads, which the bits depend on.
        tf32: multiply with 10 bits of the mantissa on CUDA, for speed. Committed results never use it.
        checkpoint: the file of the checkpoint, written every half minute and when the run is stopped. The caller
            removes it when the result is safe. None keeps none.
        progress: called with the number of updates made, at the start and at each evaluation.
        stop: asked before each update. Where it returns True, the run writes its checkpoint and ends with `Stopped`.
        watch: called with each row, first with those of the checkpoint.

    Raises:
        ResultError: the checkpoint is damaged, or of another run; the message names the field.
        Stopped: `stop` returned True.
        ValueError: the device is not there, or cannot train, or has only a slow bfloat16.
    """
    if not isinstance(config, RunConfig):
        raise TypeError(f"config must be a RunConfig, got {_checks.brief(config)}")
    if not isinstance(data, Cifar10):
        raise TypeError(f"data must be a data set of clr.data, got {_checks.brief(data)}")
    checkpoint = None if checkpoint is None else _checks.path("checkpoint", checkpoint)
    _checks.function("progress", progress)
    _checks.function("stop", stop)
    _checks.function("watch", watch)
    cuda.check_device(device)
    check_fast(config.precision, device)
    with machine.cpu_threads(_checks.positive_int("threads", threads)), cuda.on_device(device, tf32):
        state = Checkpoint(checkpoint, run_spec(config, data, tf32), machine.provenance(device, threads))
        return _train(config, data, device, state, progress, stop, watch)


def evaluate(
    config: RunConfig, data: Cifar10, weights: str | os.PathLike[str], device: str = "cpu"
) -> dict[str, float]:
    """Return the test loss and accuracy of a net from its weights (safetensors), evaluated as in its run."""
    from safetensors.torch import load_file

    with machine.cpu_threads(1), cuda.on_device(device):
        with cuda.shared(device):
            net = _net(config, device)
            net.load_state_dict(load_file(_checks.path("weights", weights)))
            batches = _batches(config, data, device)
        return batches.evaluate(net, precision=config.precision)


def _train(
    config: RunConfig, data: Cifar10, device: str, checkpoint: Checkpoint, progress: Callable[[int], None],
    stop: Callable[[], bool], watch: Callable[[dict[str, float]], None],
) -> Run:  # fmt: skip
    machine.keep_freed_memory()
    rates = config.policy(np.arange(config.iterations)).tolist()
    with cuda.shared(device):
        net = _net(config, device)
        optimizer, batches = _optimizer(config, net), _batches(config, data, device)
        checkpoint.load(net, optimizer)
        rows, start = checkpoint.rows, checkpoint.iteration
        every, losses = config.evaluate_every, checkpoint.losses
        update = Update(net, optimizer, batches, rates, start, every, losses, config.precision)
    for row in rows:
        watch(row)
    progress(start)
    try:
        for k in range(start, config.iterations):
            asked = stop()
            if k > start and (asked or checkpoint.is_due()):
                checkpoint.save(net, optimizer, k, update.losses_since_row())
            if asked:
                raise Stopped(f"stopped after {k} updates")
            update()
            if (k + 1) % config.evaluate_every and k + 1 < config.iterations:
                continue
            found = {"train_loss": update.train_loss(), **batches.evaluate(net, precision=config.precision)}
            rows.append({"iteration": k + 1, "lr": rates[k], **found})
            watch(rows[-1])
            progress(k + 1)
            if results.has_diverged(rows[-1]):
                break
    finally:
        update.release()
    with cuda.shared(device):
        weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    return Run(rows, bool(results.has_diverged(rows[-1])), checkpoint.provenance, weights)


def _net(config: RunConfig, device: str) -> nn.Module:
    net = NETS[config.net](config.init, torch.Generator().manual_seed(config.seed))
    layout = LAYOUT[torch.device(device).type]
    return net.to(device=device, memory_format=layout)  # type: ignore[call-overload]


def _batches(config: RunConfig, data: Cifar10, device: str) -> Batches:
    data = data if config.hold_out_every is None else data.hold_out(config.hold_out_every)
    return Batches(data, device, config.batch_size, config.seed, config.pixels, config.reshuffle, config.test_pictures)


def _optimizer(config: RunConfig, net: Any) -> torch.optim.Optimizer:
    groups = net.param_groups(config.weight_decay, config.mults)
    return SOLVERS[config.optimizer](groups, lr=0.0, momentum=config.momentum)
