"""Bounds and peak rates of a user's model in one call: scouts find the useful decades, then curves cover them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clr import _checks
from clr.notebook import without_traceback
from clr.policies import Ramp
from clr.range_test.batches import draw_held_out, evaluation_interval
from clr.range_test.bounds import Bounds, suggest_bounds
from clr.range_test.curve import MIN_EVALUATIONS
from clr.range_test.live import Progress
from clr.range_test.peak import landmark
from clr.range_test.randomness import seed_everything
from clr.range_test.record import RangeTest
from clr.range_test.restore import preserve_state
from clr.range_test.run import run_curve
from clr.range_test.task import OTHERS, Task
from clr.range_test.trainer import Forward, default_forward

__all__ = ["find_bounds"]

WIDEST = (1e-7, 10.0)  # the rates of the scouts
SCOUT_UPDATES = 40
SCOUT_WIDTH = 0.2  # decades over which the scouts' losses are smoothed
BELOW, ABOVE = 10**2.75, 10.0  # from the scouts' landmark to the ends of the close look
EVALUATIONS = 50  # per curve
PER_UPDATE = 1  # examples evaluated per example trained on

Make = Callable[[], tuple[nn.Module, torch.optim.Optimizer]]


def find_bounds(
    model: nn.Module | Make,
    optimizer: torch.optim.Optimizer | None,
    loss_fn: Callable[[Any, Any], Tensor],
    train_loader: Iterable[Any],
    val_loader: Iterable[Any] | None = None,
    *,
    start_lr: float | None = None,
    end_lr: float | None = None,
    iterations: int = 100,
    seeds: int = 5,
    metric: Callable[[Any, Any], Any] | None = None,
    forward: Forward | None = None,
    accumulation_steps: int = 1,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> Bounds:
    """Find the rate to train with, and the bounds of the useful rates, by several range tests on anyone's model.

    Scouts of 40 updates, from 1e-7 to 10, find the decades in which the model learns and fails. Then each seed makes
    one curve of `iterations` updates there, exponentially spaced, which ends early once training has failed.
    Evaluations cost less than the training: they look at a fixed part of val_loader, drawn once. The optimizer's hooks
    are called, so one that clips gradients clips them here, too. Afterwards everything is restored exactly, as
    `lr_range_test` does it, but for what it cannot see: objects of your own that a hook or the loss changes (a moving
    average of the weights, say), and a data set that can be read only once.

    Args:
        model: on any device. Or a function that takes nothing and returns (model, optimizer), both new; then optimizer
            is None, and seeds also vary the initial weights.
        optimizer: any of torch's, with the model's parameters. Its own rate does not matter; its groups' ratios do.
        loss_fn: called with (outputs, targets); returns a scalar tensor.
        train_loader, val_loader: as in `lr_range_test`. Of val_loader, only the first batch is used if it is large.
        start_lr, end_lr: the range of the curves; None for what the scouts find.
        iterations: updates per curve, at least 10.  seeds: how many curves, of seeds 0, 1, ... With a scout each that
            is 700 updates. The cheapest use makes 100: `seeds=1, iterations=100, start_lr=1e-7, end_lr=10`.
        metric, forward, accumulation_steps, autocast, scaler: as in `lr_range_test`.

    Returns:
        Bounds, with the curves as `tests`. `peak_lr` and `policy` give what to train with.

    Raises:
        TypeError, ValueError: as `lr_range_test`.
        KeyboardInterrupt: on Ctrl-C; its `.bounds` are those of the finished curves (None before the first one).

    A bar shows seed, rate, metric and the time left (`TQDM_DISABLE=1` turns it off); in Jupyter the picture grows.
    Under DistributedDataParallel every process calls this. All see the same metrics and losses, and stop together.

    >>> import os; os.environ["TQDM_DISABLE"] = "1"
    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(256, 2)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> batches = list(zip(x.split(16), (x.prod(1) > 0).long().split(16)))
    >>> bounds = find_bounds(model, sgd, nn.functional.cross_entropy, batches[:12], batches[12:], seeds=2)
    >>> bounds.n_curves, bounds.policy("triangular", iterations=1000).max_lr == bounds.peak_lr("triangular")
    (2, True)
    """
    search = _Search(model, optimizer, {
        "loss_fn": loss_fn, "train_loader": train_loader, "val_loader": val_loader, "metric": metric,
        "forward": default_forward if forward is None else forward, "autocast": autocast, "scaler": scaler,
        "accumulation_steps": _checks.positive_int("accumulation_steps", accumulation_steps),
    })  # fmt: skip
    iterations, seeds = _checks.positive_int("iterations", iterations), _checks.positive_int("seeds", seeds)
    if iterations < MIN_EVALUATIONS:
        raise ValueError(f"iterations must be at least {MIN_EVALUATIONS}, got {iterations}")
    tests: list[RangeTest] = []
    try:
        with Progress(iterations, seeds) as progress:
            ramp = search.ramp(start_lr, end_lr, iterations, seeds)
            for seed in range(seeds):
                tests.append(search.run_seed(ramp, seed, progress.row))
                progress.finish_curve(tests)
            bounds = suggest_bounds(tests)
            progress.finish(bounds)
    except KeyboardInterrupt as error:
        error.bounds = suggest_bounds(tests) if tests else None  # type: ignore[attr-defined]
        kept = "the exception's .bounds has theirs" if tests else "there are no bounds yet"
        error.args = (f"stopped after {len(tests)} of {seeds} curves; {kept}",)
        without_traceback(error)
        raise
    return bounds


@dataclass
class _Search:
    """What the curves of one call share.

    rest: of a `Task`, but for the model and the optimizer, which a function may make anew for each seed.
    """

    model: Any
    optimizer: Any
    rest: dict[str, Any]
    metric_name: str = "metric"
    held_out: list[Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, nn.Module):
            Task(self.model, self.optimizer, **self.rest)  # checks them all
        elif not callable(self.model):
            raise TypeError(
                f"model must be a torch module or a function that makes one, got {type(self.model).__name__}"
            )
        elif self.optimizer is not None:
            raise TypeError(f"optimizer must be None where model is a function, got {type(self.optimizer).__name__}")

    def ramp(self, start_lr: float | None, end_lr: float | None, iterations: int, seeds: int) -> Ramp:
        """Return the rates of the curves: those asked for, or the decades that the scouts find."""
        start, end = (
            None if value is None else _checks.nonnegative(name, value)
            for name, value in (("start_lr", start_lr), ("end_lr", end_lr))
        )
        if start is None or end is None:
            rates = Ramp(*WIDEST, SCOUT_UPDATES, "exponential")(np.arange(SCOUT_UPDATES)).tolist()
            scouts = [(rates, self.scout(rates, seed)) for seed in range(seeds)]
            lost = landmark(scouts, SCOUT_WIDTH)  # unknown where the scouts learn nothing that is clear
            low, high = (lost / BELOW, lost * ABOVE) if np.isfinite(lost) else WIDEST
            if start is None:
                start = min(low, (end or np.inf) / BELOW)
            if end is None:
                end = max(high, start * BELOW)
        if not 0 < start < end:
            raise ValueError(f"end_lr must be greater than start_lr > 0, got {start:g} to {end:g}")
        return Ramp(start, end, iterations, "exponential")

    def scout(self, rates: list[float], seed: int) -> list[float]:
        """Return the training losses of a short test without evaluations."""
        with self._task(seed) as task, task.prepared(seed) as (trainer, batches):
            for rate in rates:
                trainer.train_step(rate, next(batches))
            return trainer.pop_losses().tolist()

    def run_seed(self, ramp: Ramp, seed: int, on_row: Callable[[int, Any], None]) -> RangeTest:
        """Train one seed through the ramp; return its curve."""
        with self._task(seed) as task, task.prepared(seed) as (trainer, batches):
            trainer.metric_name = self.metric_name
            every, held_out = max(1, ramp.iterations // EVALUATIONS), self.held_out
            if held_out is None:
                held_out = draw_held_out(batches, task.val_loader, every, per_update=PER_UPDATE)
            every = evaluation_interval(batches, held_out, every, ramp.iterations, PER_UPDATE)
            test = run_curve(trainer, batches, held_out, ramp, every, True, lambda row: on_row(seed, row))
        self.rest["metric"], self.metric_name = trainer.metric, trainer.metric_name
        if task.val_loader is not None:
            self.held_out = held_out
        return replace(test, held_out=task.holds_out(batches), seed=seed)

    @contextmanager
    def _task(self, seed: int) -> Iterator[Task]:
        """Yield what a seed trains; where a function makes it, restore afterwards what that has changed."""
        if self.optimizer is not None:
            yield Task(self.model, self.optimizer, **self.rest)
            return
        loaders = [loader for loader in (self.rest["train_loader"], self.rest["val_loader"]) if loader is not None]
        with preserve_state({name: self.rest[name] for name in OTHERS}, loaders):
            seed_everything(seed, loaders)
            made = self.model()
            if not isinstance(made, tuple) or len(made) != 2:
                raise TypeError(f"model must return (model, optimizer), got {type(made).__name__}")
            yield Task(*made, **self.rest)
