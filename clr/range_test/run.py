"""The LR range test of Cyclical Learning Rates (Smith, arXiv:1506.01186, section 3.3), on anyone's model.

One short run raises the rate from update to update and measures the metric along the way. The test restores the
model, the optimizer and all random states. `clr.suggest_bounds` reads the bounds off such curves.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from clr import _checks
from clr.policies import Ramp
from clr.range_test.bounds import Bounds
from clr.range_test.curve import has_diverged
from clr.range_test.randomness import preserve_rng, seed_everything
from clr.range_test.restore import preserve_state
from clr.range_test.trainer import Forward, InfiniteLoader, Trainer, accuracy, default_forward
from clr.schedulers import unshare_lr

__all__ = ["RangeTest", "lr_range_test"]

Row = tuple[int, float, float, float]


@dataclass(frozen=True, eq=False)
class RangeTest:
    """One curve of a range test.

    frame: one row per evaluation: iteration (updates made), lr (of the last of them), metric, train_loss (mean over the
        updates since the row before). The first row is the untrained model: iteration 0, lr and train_loss NaN.
    spacing: "linear" or "exponential".  multipliers: of the rate, one per group.
    diverged: whether training had diverged at the last evaluation.
    held_out: whether no batch was both trained on and evaluated on, as far as the loaders show.
    """

    frame: pd.DataFrame
    spacing: str = "linear"
    multipliers: tuple[float, ...] = (1.0,)
    diverged: bool = False
    held_out: bool = True
    seed: int | None = None

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the frame. `suggest_bounds` takes what `pandas.read_csv` reads, and several curves by their seed."""
        frame = self.frame if self.seed is None else self.frame.assign(seed=self.seed)
        frame.to_csv(path, index=False, lineterminator="\n", na_rep="nan")

    def plot(self, ax: Any = None, bounds: Bounds | None = None) -> Any:
        """Draw the metric against the rate on `ax` (None for new axes), with bounds if given; return the axes."""
        from clr.figures import draw_range_test

        curve = self.frame.dropna(subset="lr").rename(columns={"metric": "mean"})
        return draw_range_test(ax, curve, bounds, self.spacing)


def lr_range_test(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], Tensor],
    train_loader: Iterable[Any],
    val_loader: Iterable[Any] | None = None,
    *,
    start_lr: float,
    end_lr: float,
    iterations: int = 500,
    spacing: str = "linear",
    eval_every: int | None = None,
    eval_batches: int | None = None,
    metric: Callable[[Any, Any], Any] | None = None,
    forward: Forward | None = None,
    accumulation_steps: int = 1,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    stop_when_diverged: bool = True,
    seed: int | None = None,
    progress: bool = True,
) -> RangeTest:
    """Train while the rate rises from start_lr to end_lr, measure the metric along the way, and restore everything.

    The row for rate r is what the model does after the update made with r. Groups keep their multiples of the rate,
    by the rule that `PolicyLR` follows, too. Schedulers are not called. The test restores model, optimizer, gradients,
    modes, scaler, loaders and random states exactly, also after an exception or Ctrl-C.

    Args:
        model: on any device; batches are moved to it. Submodules in eval mode stay so, unless the whole model is.
        loss_fn: called with (outputs, targets); returns a scalar tensor.
        train_loader: an iterable of (inputs, targets) that can be iterated again; it needs no length.
        val_loader: the same, to evaluate on. None sets aside the first tenth of the training loader's batches (10 if it
            has no length); if the test needs more than one epoch, it also trains on those (`held_out`).
        start_lr: may be 0 with linear spacing.  end_lr: reached at iteration `iterations`, as in the paper.
        iterations: updates to make.  spacing: "linear" (the paper's) or "exponential".
        eval_every: updates between evaluations; None for iterations // 100, at least 1.
        eval_batches: how many batches of val_loader, from its start; they are drawn once. None for all, every time.
        metric: called with (outputs, targets) of a batch; larger is better. The mean over batches is weighted by their
            size. None for accuracy. A metric that is no mean over examples (AUC) needs one batch: [(x, y)].
        forward: called with (model, batch) for batches of other shapes; returns (outputs, targets). For dicts:
            `lambda model, batch: (model(batch["x"]), batch["y"])`.
        accumulation_steps: batches per update; their losses are averaged.
        autocast: the dtype of `torch.autocast`.  scaler: a GradScaler.
        stop_when_diverged: end the curve at the first evaluation where metric or training loss is not finite, or the
            loss is four times the first evaluation's.
        seed: of this test's batch order, augmentation and dropout; the initial weights are the model's own. None keeps
            the current random state, so the test sees exactly the batches that training will see next.
        progress: show a bar with the time left.

    Raises:
        TypeError: a loader is an iterator, which cannot be iterated again, or an argument is of the wrong kind.
        ValueError: nothing to train, an empty loader, rates out of order, a loss that is no scalar, or a metric that is
            not a number before training. The model is not changed.

    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Linear(2, 2), torch.randn(64, 2)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> batches = [(x, (x.sum(1) > 0).long())]
    >>> test = lr_range_test(model, sgd, nn.functional.cross_entropy, batches, batches,
    ...                      start_lr=0.0, end_lr=1.0, iterations=4, progress=False)
    >>> test.frame["lr"].tolist(), sgd.param_groups[0]["lr"]
    ([nan, 0.0, 0.25, 0.5, 0.75], 0.1)
    """
    metric, forward = accuracy if metric is None else metric, default_forward if forward is None else forward
    _check_arguments(
        model, optimizer, loss_fn, train_loader, val_loader, metric, forward, autocast, scaler,
        stop_when_diverged, progress,
    )  # fmt: skip
    ramp = _ramp(start_lr, end_lr, iterations, spacing)
    every = _checks.positive_int("eval_every", max(1, ramp.iterations // 100) if eval_every is None else eval_every)
    eval_batches = None if eval_batches is None else _checks.positive_int("eval_batches", eval_batches)
    accumulation_steps = _checks.positive_int("accumulation_steps", accumulation_steps)
    seed = None if seed is None else _checks.seed("seed", seed)
    trainer = Trainer(model, optimizer, loss_fn, forward, metric, autocast, scaler)
    loaders = [train_loader] if val_loader is None else [train_loader, val_loader]
    stateful = {"model": model, "optimizer": optimizer, "scaler": scaler, "loss_fn": loss_fn, "forward": forward}
    with preserve_state(stateful | {"metric": metric}, loaders):
        unshare_lr(optimizer)
        if seed is not None:
            seed_everything(seed, loaders)
        if not model.training:
            model.train()
        batches = InfiniteLoader(train_loader, accumulation_steps)
        held_out = _held_out(batches, val_loader, eval_batches)
        rows, diverged = _curve(trainer, batches, held_out, ramp, every, stop_when_diverged, progress)
    overlap = val_loader is train_loader or (val_loader is None and batches.epochs > 1)
    frame = pd.DataFrame(rows, columns=["iteration", "lr", "metric", "train_loss"])
    return RangeTest(frame, spacing, trainer.multipliers, diverged, not overlap, seed)


def _curve(
    trainer: Trainer, batches: InfiniteLoader, held_out: Iterable[Any], ramp: Ramp, every: int, stop: bool,
    progress: bool,
) -> tuple[list[Row], bool]:  # fmt: skip
    """Return the rows, and whether training has diverged at the last one."""
    from tqdm.auto import tqdm

    rates = ramp(np.arange(ramp.iterations)).tolist()
    untrained = trainer.evaluate(held_out)
    if not np.isfinite(untrained):
        raise ValueError(f"metric must be a finite number on the model as it is, got {untrained}")
    rows, diverged = [(0, np.nan, untrained, np.nan)], False
    with tqdm(total=len(rates), unit="updates", desc="LR range test", disable=not progress) as bar:
        for k, rate in enumerate(rates):
            trainer.train_step(rate, next(batches))
            if (k + 1) % every and k + 1 < len(rates):
                continue
            rows.append((k + 1, trainer.current_lr(), trainer.evaluate(held_out), trainer.pop_mean_loss()))
            bar.update(k + 1 - bar.n)
            diverged = has_diverged([row[3] for row in rows[1:]], rows[-1][2])
            if stop and diverged:
                break
    return rows, diverged


def _held_out(batches: InfiniteLoader, val_loader: Iterable[Any] | None, count: int | None) -> Iterable[Any]:
    """Return what to evaluate on: all of val_loader, its first batches, or those of the training loader."""
    if val_loader is not None:
        with preserve_rng(val_loader):
            return val_loader if count is None else list(islice(val_loader, count))
    if count is None:
        try:
            count = max(1, len(batches.loader) // 10)  # type: ignore[arg-type]
        except TypeError:  # no length; a DataLoader over an IterableDataset has a __len__ that says so
            count = 10
    first = list(islice(batches.iterator, count))
    if not first:
        raise ValueError("train_loader must give at least one batch, got none")
    return first


def _ramp(start_lr: float, end_lr: float, iterations: int, spacing: str) -> Ramp:
    ramp = Ramp(start_lr, end_lr, iterations, spacing)
    if not ramp.start_lr < ramp.end_lr:
        raise ValueError(f"end_lr must be greater than start_lr = {start_lr}, got {end_lr}")
    return ramp


def _check_arguments(
    model: Any, optimizer: Any, loss_fn: Any, train_loader: Any, val_loader: Any, metric: Any, forward: Any,
    autocast: Any, scaler: Any, stop_when_diverged: Any, progress: Any,
) -> None:  # fmt: skip
    _check_trained(model, optimizer)
    for name, loader in {"train_loader": train_loader, "val_loader": () if val_loader is None else val_loader}.items():
        if not isinstance(loader, Iterable) or isinstance(loader, Iterator):
            raise TypeError(f"{name} must be an iterable that can be iterated again, got {loader!r}")
    for name, value in {"loss_fn": loss_fn, "metric": metric, "forward": forward}.items():
        _checks.function(name, value)
    for name, flag in {"stop_when_diverged": stop_when_diverged, "progress": progress}.items():
        _checks.boolean(name, flag)
    if autocast is not None and not isinstance(autocast, torch.dtype):
        raise TypeError(f"autocast must be a torch dtype, such as torch.bfloat16, got {autocast!r}")
    if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
        raise TypeError(f"scaler must be a torch.amp.GradScaler, got {scaler!r}")


def _check_trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    if not isinstance(model, nn.Module) or not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"model and optimizer must be torch's, got {type(model)} and {type(optimizer)}")
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    if not trained:
        raise ValueError("model must have parameters that require gradients, got none")
    if not any(id(parameter) in trained for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("optimizer must hold parameters of the model, got one that holds none of them")
