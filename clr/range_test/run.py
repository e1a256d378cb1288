"""The LR range test of Cyclical Learning Rates (Smith, arXiv:1506.01186, section 3.3), on anyone's model.

One short run raises the rate from update to update and measures the metric along the way. The test restores the
model, the optimizer and all random states. `clr.suggest_bounds` reads the bounds off such curves.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from clr import _checks
from clr.policies import Ramp
from clr.range_test.batches import InfiniteLoader, draw_held_out, evaluation_interval, is_finite, is_one_class
from clr.range_test.curve import has_diverged
from clr.range_test.record import RangeTest
from clr.range_test.task import Task
from clr.range_test.trainer import Forward, Trainer, default_forward

__all__ = ["lr_range_test", "run_curve"]

Row = tuple[int, float, float, float]


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

    The row for rate r is what the model does after the update made with r. Groups keep their multipliers of the rate,
    by the same rule as `PolicyLR`. Schedulers are not called. The optimizer's hooks are, so gradients can be
    clipped in one (`register_step_pre_hook`). The test restores model, optimizer, gradients, modes, scaler, loaders and
    random states exactly, also after an exception or Ctrl-C.

    Args:
        model: on any device; batches are moved to it. Submodules in eval mode stay so, unless the whole model is.
        loss_fn: called with (outputs, targets); returns a scalar tensor.
        train_loader: an iterable of (inputs, targets) that can be iterated again; it needs no length.
        val_loader: the same, to evaluate on. None sets aside the first tenth of the training loader's batches (10 if it
            has no length); if the test needs more than one epoch, it also trains on those (`held_out`).
        start_lr: may be 0 with linear spacing.  end_lr: the rate that one more update would have.
        iterations: updates to make.  spacing: "linear" (the paper's) or "exponential".
        eval_every: updates between evaluations; None for iterations // 100, at least 1, or more if the first batch of
            val_loader is large.
        eval_batches: how many batches of val_loader, from its start; they are drawn once and kept. None for as many as
            cost no more than the training does.
        metric: called with (outputs, targets) of a batch; larger is better. The mean over batches is weighted by their
            size. None for accuracy if outputs and targets are plainly those of a classifier, otherwise for minus the
            loss. A metric that is not a mean over examples (AUC, R^2) needs one batch: [(x, y)].
        forward: called with (model, batch) for batches of other shapes; returns (outputs, targets). For dicts:
            `lambda model, batch: (model(batch["x"]), batch["y"])`.
        accumulation_steps: batches per update; their losses are averaged.
        autocast: the dtype of `torch.autocast`.  scaler: a GradScaler.
        stop_when_diverged: end the curve at the first evaluation where metric or training loss is not finite, or the
            loss is far above its first level and the metric has lost half of its gain (`curve.has_diverged`).
        seed: of this test's batch order, augmentation and dropout; the initial weights are the model's own. None keeps
            the current random state, so the test sees exactly the batches that training will see next.
        progress: show a bar with the time left.

    Raises:
        TypeError: a loader is an iterator, which cannot be iterated again, or an argument is of the wrong kind.
        ValueError: nothing to train, an empty loader, rates out of order, a loss that is not a scalar, or a metric that
            is not a number before training. The model is not changed.

    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Linear(2, 2), torch.randn(64, 2)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> batches = [(x, (x.sum(1) > 0).long())]
    >>> test = lr_range_test(model, sgd, nn.functional.cross_entropy, batches, batches,
    ...                      start_lr=0.0, end_lr=1.0, iterations=4, progress=False)
    >>> test.frame["lr"].tolist(), sgd.param_groups[0]["lr"]
    ([nan, 0.0, 0.25, 0.5, 0.75], 0.1)
    """
    task = Task(
        model, optimizer, loss_fn, train_loader, val_loader, metric, default_forward if forward is None else forward,
        autocast, scaler, accumulation_steps,
    )  # fmt: skip
    for name, flag in {"stop_when_diverged": stop_when_diverged, "progress": progress}.items():
        _checks.boolean(name, flag)
    ramp = _ramp(start_lr, end_lr, iterations, spacing)
    every = max(1, ramp.iterations // 100) if eval_every is None else _checks.positive_int("eval_every", eval_every)
    eval_batches = None if eval_batches is None else _checks.positive_int("eval_batches", eval_batches)
    seed = None if seed is None else _checks.seed("seed", seed)
    with task.prepared(seed) as (trainer, batches), _bar(ramp.iterations, progress) as on_row:
        held_out = draw_held_out(batches, val_loader, every, eval_batches)
        if eval_every is None:
            every = evaluation_interval(batches, held_out, every, ramp.iterations)
        test = run_curve(trainer, batches, held_out, ramp, every, stop_when_diverged, on_row)
    return replace(test, held_out=task.holds_out(batches), seed=seed)


def run_curve(
    trainer: Trainer, batches: InfiniteLoader, held_out: Iterable[Any], ramp: Ramp, every: int, stop: bool,
    on_row: Callable[[Row], None],
) -> RangeTest:  # fmt: skip
    """Make the updates of one curve, and call `on_row` with each row."""
    rates = ramp(np.arange(ramp.iterations)).tolist()
    untrained = trainer.evaluate(held_out)
    if not np.isfinite(untrained):
        cause = "" if is_finite(held_out) else ", as val_loader holds numbers that are not finite"
        raise ValueError(f"metric must be a finite number on the model as it is, got {untrained}{cause}")
    rows: list[Row] = [(0, np.nan, untrained, np.nan)]
    diverged, recent, losses = False, [], []
    for k, rate in enumerate(rates):
        recent.append(next(batches))
        trainer.train_step(rate, recent[-1])
        if (k + 1) % every and k + 1 < len(rates):
            continue
        since = trainer.pop_losses()
        losses += since.tolist()
        loss = float(since.mean())
        rows.append((k + 1, trainer.current_lr(), trainer.evaluate(held_out), loss))
        on_row(rows[-1])
        diverged = has_diverged([row[3] for row in rows[1:]], [row[2] for row in rows[1:]], untrained)
        bad_data = not np.isfinite(loss) and not is_finite(recent)
        if (stop and diverged) or bad_data:
            break
        recent.clear()
    frame = pd.DataFrame(rows, columns=["iteration", "lr", "metric", "train_loss"])
    return RangeTest(
        frame, ramp.spacing, trainer.multipliers, diverged, bad_data=bad_data, metric_name=trainer.metric_name,
        examples=trainer.examples, losses=tuple(losses), constant_loss=trainer.constant_loss,
        one_class=is_one_class(held_out),
    )  # fmt: skip


@contextmanager
def _bar(updates: int, shown: bool) -> Iterator[Callable[[Row], None]]:
    from tqdm.auto import tqdm

    with tqdm(total=updates, unit="updates", desc="LR range test", disable=not shown) as bar:
        yield lambda row: bar.update(row[0] - bar.n)


def _ramp(start_lr: float, end_lr: float, iterations: int, spacing: str) -> Ramp:
    ramp = Ramp(start_lr, end_lr, iterations, spacing)
    if not ramp.start_lr < ramp.end_lr:
        raise ValueError(f"end_lr must be greater than start_lr = {start_lr}, got {end_lr}")
    return ramp
