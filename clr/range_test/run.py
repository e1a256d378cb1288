"""The LR range test of Cyclical Learning Rates (Smith, arXiv:1506.01186, section 3.3), on anyone's model.

One short run whose rate rises from update to update, with the metric looked at along the way: the rates between
which it improves are those to train with. Afterwards the model, the
optimizer and every random state are as they were. `clr.suggest_bounds` reads the bounds off such curves.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from clr import _checks
from clr.policies import Ramp
from clr.range_test.bounds import Bounds, suggest_bounds
from clr.range_test.restore import random_restored, restored, seed_all
from clr.range_test.trainer import EndlessBatches, Forward, Trainer, accuracy, pair
from clr.schedulers import unshare_lr

__all__ = ["Bounds", "RangeTest", "lr_range_test", "suggest_bounds"]


@dataclass(frozen=True, eq=False)
class RangeTest:
    """One curve of a range test.

    frame: one row an evaluation: iteration (updates made), lr (of the last of them), metric, train_loss (mean over the
        updates since the row before). The first row is the model before any update: iteration 0, lr and loss NaN.
    spacing: "linear" or "exponential".  multipliers: of the rate, group by group.
    diverged: at the last evaluation, where the curve then ends unless it was told to go on.  held_out: whether no batch
        was both trained on and evaluated on, as far as the loaders tell.
    """

    frame: pd.DataFrame
    spacing: str = "linear"
    multipliers: tuple[float, ...] = (1.0,)
    diverged: bool = False
    held_out: bool = True
    seed: int | None = None

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the frame; `suggest_bounds` takes it as `pandas.read_csv` reads it, and several by their seed."""
        frame = self.frame if self.seed is None else self.frame.assign(seed=self.seed)
        frame.to_csv(path, index=False, lineterminator="\n", na_rep="nan")

    def plot(self, ax: Any = None, bounds: Bounds | None = None) -> Any:
        """Draw the metric against the rate on `ax` (a new one if None), with bounds if given; return the axes."""
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
    accumulate: int = 1,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    stop_when_diverged: bool = True,
    seed: int | None = None,
    progress: bool = True,
) -> RangeTest:
    """Train while the rate rises from start_lr to end_lr, look at the metric on the way, and put everything back.

    The row for rate r is what the model does after the update made with r. Groups keep their ratios: with "lr_mult" in
    any group the rate is multiplied by each group's, as `PolicyLR` does it; otherwise r is the rate of the fastest
    group and the others keep their distance (of "initial_lr", where a scheduler has noted one; schedulers are not
    called). Afterwards model, optimizer, gradients, modes, scaler, loaders and random states are as before, to the bit,
    also after an exception or Ctrl-C.

    Args:
        model: on any device; batches are moved to it. Submodules that are in eval mode stay so, unless the whole is.
        loss_fn: called with (outputs, targets); returns a scalar tensor.
        train_loader: any iterable of (inputs, targets) that can be gone through again; a length is not needed.
        val_loader: the same, to evaluate on. None: the first tenth of the training loader's batches (10 where it has no
            length) is set aside; where the test goes through the loader again, those are trained on too (`held_out`).
        start_lr: may be 0 with linear spacing.  end_lr: reached at iteration `iterations`, as the paper has it.
        iterations: updates to make.  spacing: "linear" (the paper's) or "exponential".
        eval_every: updates between evaluations; None for iterations // 100, at least 1.
        eval_batches: how many batches of val_loader, from its start; they are drawn once. None for all of it each time.
        metric: called with (outputs, targets) of a batch; larger is better. Averaged over batches by their size. None
            for accuracy. What is no mean over examples (AUC) is exact with a val_loader of one batch: [(x, y)].
        forward: called with (model, batch) for batches of other shapes; returns (outputs, targets). E.g. for dicts
            `lambda model, batch: (model(batch["x"]), batch["y"])`.
        accumulate: batches an update; their losses are averaged.
        autocast: the dtype of `torch.autocast`.  scaler: a GradScaler.
        stop_when_diverged: end the curve at the first evaluation where metric or training loss is not finite, or the
            loss is four times what it was at first (the factor of fastai's finder, there of the best); looked for at
            evaluations only.
        seed: of this test's batch order, augmentation and dropout (the initial weights are the model's own). None: as
            the random states are, so the test sees just the batches that training afterwards will see.
        progress: show a bar with the time left.

    Raises:
        TypeError: a loader is an iterator, which cannot be rewound, or an argument is of the wrong kind.
        ValueError: nothing to train, an empty loader, a rate out of order, a loss that is no scalar, a metric that is
            not a number before training has begun. The model is untouched.

    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Linear(2, 2), torch.randn(64, 2)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> batches = [(x, (x.sum(1) > 0).long())]
    >>> test = lr_range_test(model, sgd, nn.functional.cross_entropy, batches, batches,
    ...                      start_lr=0.0, end_lr=1.0, iterations=4, progress=False)
    >>> test.frame["lr"].tolist(), sgd.param_groups[0]["lr"]
    ([nan, 0.0, 0.25, 0.5, 0.75], 0.1)
    """
    ramp = Ramp(start_lr, end_lr, iterations, spacing)
    if not ramp.start_lr < ramp.end_lr:
        raise ValueError(f"end_lr must be greater than start_lr = {start_lr}, got {end_lr}")
    every = max(1, ramp.iterations // 100) if eval_every is None else _checks.positive_int("eval_every", eval_every)
    eval_batches = None if eval_batches is None else _checks.positive_int("eval_batches", eval_batches)
    accumulate, seed = (
        _checks.positive_int("accumulate", accumulate),
        None if seed is None else _checks.seed("seed", seed),
    )
    _check_trained(model, optimizer)
    _check_loaders(train_loader, val_loader)
    metric, forward = accuracy if metric is None else metric, pair if forward is None else forward
    for name, value in {"loss_fn": loss_fn, "metric": metric, "forward": forward}.items():
        _checks.function(name, value)
    for name, flag in {"stop_when_diverged": stop_when_diverged, "progress": progress}.items():
        _checks.boolean(name, flag)
    if autocast is not None and not isinstance(autocast, torch.dtype):
        raise TypeError(f"autocast must be a torch dtype, such as torch.bfloat16, got {autocast!r}")
    if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
        raise TypeError(f"scaler must be a torch.amp.GradScaler, got {scaler!r}")
    trainer = Trainer(model, optimizer, loss_fn, forward, metric, autocast, scaler)
    loaders = [train_loader] if val_loader is None else [train_loader, val_loader]
    losses = [loss_fn] if isinstance(loss_fn, nn.Module) else []
    keepers = [optimizer] if scaler is None else [optimizer, scaler]
    with restored([model, *losses], keepers, loaders):
        unshare_lr(optimizer.param_groups)
        if seed is not None:
            seed_all(seed, loaders)
        if not model.training:
            model.train()
        batches = EndlessBatches(train_loader, accumulate)
        held_out = _held_out(batches, val_loader, eval_batches)
        rates = ramp(np.arange(ramp.iterations)).tolist()
        rows = _rows(trainer, batches, held_out, rates, every, stop_when_diverged, progress)
    frame = pd.DataFrame(rows, columns=["iteration", "lr", "metric", "train_loss"])
    overlap = val_loader is train_loader or (val_loader is None and batches.passes > 1)
    return RangeTest(frame, spacing, trainer.multipliers, _diverged(rows), not overlap, seed)


def _rows(
    trainer: Trainer, batches: EndlessBatches, held_out: Iterable[Any], rates: Sequence[float], every: int, stop: bool,
    progress: bool,
) -> list[tuple[int, float, float, float]]:  # fmt: skip
    from tqdm.auto import tqdm

    before = trainer.evaluate(held_out)
    if not np.isfinite(before):
        raise ValueError(f"metric must be a finite number on the model as it is, got {before}")
    rows = [(0, np.nan, before, np.nan)]
    with tqdm(total=len(rates), unit="updates", desc="LR range test", disable=not progress) as bar:
        for k, rate in enumerate(rates):
            trainer.update(rate, next(batches))
            if (k + 1) % every and k + 1 < len(rates):
                continue
            rows.append((k + 1, trainer.rate(), trainer.evaluate(held_out), trainer.mean_loss()))
            bar.update(k + 1 - bar.n)
            if stop and _diverged(rows):
                break
    return rows


def _diverged(rows: Sequence[tuple[int, float, float, float]]) -> bool:
    first, last = rows[1][3], rows[-1][3]
    return not np.isfinite([rows[-1][2], last]).all() or last > first + 3 * abs(first)


def _held_out(batches: EndlessBatches, val_loader: Iterable[Any] | None, count: int | None) -> Iterable[Any]:
    """Return what to evaluate on: all of val_loader, its first batches, or the training loader's first."""
    if val_loader is not None:
        with random_restored(val_loader):
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


def _check_loaders(train_loader: Any, val_loader: Any) -> None:
    for name, loader in {"train_loader": train_loader, "val_loader": () if val_loader is None else val_loader}.items():
        if not isinstance(loader, Iterable) or isinstance(loader, Iterator):
            raise TypeError(f"{name} must be an iterable that can be gone through again, got {loader!r}")


def _check_trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    if not isinstance(model, nn.Module) or not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"model and optimizer must be torch's, got {type(model)} and {type(optimizer)}")
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    if not trained:
        raise ValueError("model must have parameters that require gradients, got none")
    if not any(id(parameter) in trained for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("optimizer must hold parameters of the model, got one that holds none of them")
