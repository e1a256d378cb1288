"""The one training loop, and the runs of the experiments on it.

A run is a `RunConfig` and a data set, and nothing else decides its numbers: initial weights and batch order come
from the seed by separate generators, the rates from a table computed ahead, and iteration k's batch from k alone.
So a run that was interrupted goes on from its checkpoint bit for bit. Bits are the same per device, thread count
and torch version; across those, equal up to rounding.
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import PickleError
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor, nn

from clr import _checks, paths, results
from clr.data import Cifar10
from clr.nets import NETS
from clr.optim import SOLVERS
from clr.training import machine
from clr.training.config import RunConfig, require_same_run, run_spec
from clr.training.update import Batches, Update

__all__ = ["Run", "evaluate", "train"]

CHECKPOINT_SECONDS = 30.0  # between checkpoints


@dataclass(frozen=True)
class Run:
    """A finished run: its rows, one an evaluation; whether it diverged; how it came about; its final weights."""

    rows: list[dict[str, float]]
    diverged: bool
    provenance: dict[str, Any]
    weights: dict[str, Tensor]


def train(
    config: RunConfig,
    data: Cifar10,
    *,
    device: str = "cpu",
    threads: int = 1,
    tf32: bool = False,
    checkpoint: Path | None = None,
    progress: Callable[[int], None] = lambda iteration: None,
) -> Run:
    """Train one net from scratch, or go on from its checkpoint; a run that reaches NaN ends there, diverged.

    Args:
        device: a torch device.  threads: CPU threads, which the bits depend on.
        tf32: let CUDA multiply with 10 bits of the mantissa for speed; results are made without.
        checkpoint: where to keep one, every half minute. The caller removes it when the result is safe.
        progress: called with the updates made, at the start and at each evaluation.

    Raises:
        ResultError: the checkpoint is of another run; the message names the field.
    """
    if not isinstance(config, RunConfig):
        raise TypeError(f"config must be a RunConfig, got {config!r}")
    if not isinstance(data, Cifar10):
        raise TypeError(f"data must be a data set of clr.data, got {data!r}")
    checkpoint = None if checkpoint is None else _checks.path("checkpoint", checkpoint)
    _checks.function("progress", progress)
    with machine.pinned(_checks.positive_int("threads", threads)), machine.on(device, tf32):
        return _train(config, data, device, threads, checkpoint, progress)


def evaluate(config: RunConfig, data: Cifar10, weights: Path, device: str = "cpu") -> dict[str, float]:
    """Return the test loss and accuracy of a net whose weights were kept (safetensors), as its run would have them."""
    from safetensors.torch import load_file

    with machine.pinned(1), machine.on(device):
        net = _net(config, device)
        net.load_state_dict(load_file(weights))
        return _batches(config, data, device).test(net)


def _train(
    config: RunConfig,
    data: Cifar10,
    device: str,
    threads: int,
    checkpoint: Path | None,
    progress: Callable[[int], None],
) -> Run:
    machine.keep_freed_memory()
    began = time.perf_counter()
    net = _net(config, device)
    optimizer = _optimizer(config, net)
    batches = _batches(config, data, device)
    run = run_spec(config, data)
    made = machine.provenance(device, threads)
    rows, spent, begun = _resume(checkpoint, run, net, optimizer)
    begun = begun or made
    start, saved = (int(rows[-1]["iteration"]) if rows else 0), began
    rates = config.policy(np.arange(config.iterations)).tolist()
    update = Update(net, optimizer, batches, rates, start, config.evaluate_every)

    def evaluate() -> dict[str, float]:
        return {"train_loss": update.train_loss(), **batches.test(net)}

    progress(start)
    try:
        for k in range(start, config.iterations):
            update(k, rates[k])
            if (k + 1) % config.evaluate_every and k + 1 < config.iterations:
                continue
            seen = evaluate()
            rows.append({"iteration": k + 1, "lr": rates[k], **seen})
            progress(k + 1)
            if not np.isfinite(seen["train_loss"] + seen["test_loss"]):
                break
            if checkpoint is not None and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                saved = time.perf_counter()
                _save_checkpoint(checkpoint, run, rows, spent + saved - began, begun, net, optimizer)
    finally:
        update.release()
    diverged = not np.isfinite(rows[-1]["train_loss"] + rows[-1]["test_loss"])
    seconds = spent + time.perf_counter() - began
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    made["seconds"] = round(seconds, 1)
    if elsewhere := {name: value for name, value in begun.items() if value != made[name]}:
        made["begun"] = elsewhere  # it went on from a checkpoint of another commit, version or device
    return Run(rows, diverged, made, weights)


def _net(config: RunConfig, device: str) -> nn.Module:
    net = NETS[config.net](config.init, torch.Generator().manual_seed(config.seed))
    return net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _batches(config: RunConfig, data: Cifar10, device: str) -> Batches:
    return Batches(data, device, config.batch_size, config.seed, config.pixels, config.reshuffle, config.test_pictures)


def _optimizer(config: RunConfig, net: Any) -> torch.optim.Optimizer:
    groups = net.param_groups(config.weight_decay, config.mults)
    return SOLVERS[config.optimizer](groups, lr=0.0, momentum=config.momentum)


def _save_checkpoint(
    path: Path, identity: dict, rows: list, seconds: float, begun: dict, net: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:  # fmt: skip
    state = {"identity": identity, "rows": rows, "seconds": seconds, "begun": begun}
    content = io.BytesIO()  # what torch says of a full disk names neither the disk nor the file
    torch.save(state | {"net": net.state_dict(), "optimizer": optimizer.state_dict()}, content)
    with paths.atomic_write(path) as part:
        part.write_bytes(content.getvalue())  # a view of it, left in a traceback, crashes Python 3.12.1


def _resume(
    path: Path | None, identity: dict, net: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[list[dict[str, float]], float, dict[str, Any]]:
    """Put the checkpoint's state into net and optimizer; return its rows, their seconds and where they were begun."""
    if path is None or not path.exists():
        return [], 0.0, {}
    try:
        with ZipFile(path) as file:  # torch does not look at the checksums
            if damaged := file.testzip():
                raise ValueError(f"the checksum of {damaged} is wrong")
        state = torch.load(path, weights_only=True, map_location="cpu")
        require_same_run(path, state["identity"], identity)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        return state["rows"], state["seconds"], dict(state["begun"])
    except results.ResultError:
        raise
    except (RuntimeError, EOFError, LookupError, TypeError, ValueError, BadZipFile, PickleError) as error:
        raise results.ResultError(f"{path} is damaged ({error}); delete it to begin anew") from error
