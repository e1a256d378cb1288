"""What a range test trains and measures, checked once: a model, its optimizer, a loss, a metric, and batches."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clr import _checks
from clr.groups import lr_multipliers, unshare_lr
from clr.range_test.batches import InfiniteLoader
from clr.range_test.randomness import seed_everything
from clr.range_test.restore import preserve_state
from clr.range_test.trainer import Forward, Trainer, default_forward

__all__ = ["Task"]


@dataclass(frozen=True, eq=False)
class Task:
    """Anyone's model, optimizer, loss and batches, as `lr_range_test` describes them.

    Raises:
        TypeError: one of them is of the wrong kind.
        ValueError: there is nothing to train.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: Callable[[Any, Any], Tensor]
    train_loader: Iterable[Any]
    val_loader: Iterable[Any] | None = None
    metric: Callable[[Any, Any], Any] | None = None
    forward: Forward = default_forward
    autocast: torch.dtype | None = None
    scaler: torch.amp.GradScaler | None = None
    accumulation_steps: int = 1

    def __post_init__(self) -> None:
        _check_trained(self.model, self.optimizer)
        _check_loader("train_loader", self.train_loader)
        if self.val_loader is not None:
            _check_loader("val_loader", self.val_loader)
        self._check_functions()
        if self.autocast is not None and not isinstance(self.autocast, torch.dtype):
            raise TypeError(f"autocast must be a torch dtype, such as torch.bfloat16, got {self.autocast!r}")
        if self.scaler is not None and not isinstance(self.scaler, torch.amp.GradScaler):
            raise TypeError(f"scaler must be a torch.amp.GradScaler, got {_checks.brief(self.scaler)}")
        _checks.positive_int("accumulation_steps", self.accumulation_steps)

    def _check_functions(self) -> None:
        for name in ("loss_fn", "metric", "forward"):
            value = getattr(self, name)
            if name != "metric" or value is not None:
                _checks.function(name, value)
            if isinstance(value, type) and issubclass(value, nn.Module):
                raise TypeError(f"{name} must be an object, such as {value.__name__}(), got the class")
        if self.metric is not None and (self.metric is self.loss_fn or isinstance(self.metric, nn.modules.loss._Loss)):
            raise ValueError("metric must be larger where outputs are better, got a loss: pass None for minus the loss")

    @property
    def loaders(self) -> list[Iterable[Any]]:
        """The loaders that were given."""
        return [loader for loader in (self.train_loader, self.val_loader) if loader is not None]

    @contextmanager
    def prepared(self, seed: int | None) -> Iterator[tuple[Trainer, InfiniteLoader]]:
        """Yield what trains and the batches to train on, of a seed; restore everything afterwards, exactly."""
        stateful = {name: getattr(self, name) for name in ("model", "optimizer", *OTHERS)}
        trainer = Trainer(
            self.model, self.optimizer, self.loss_fn, self.forward, self.metric, self.autocast, self.scaler
        )
        with preserve_state(stateful, self.loaders):
            unshare_lr(self.optimizer)
            if seed is not None:
                seed_everything(seed, self.loaders)
            if not self.model.training:
                self.model.train()
            yield trainer, InfiniteLoader(self.train_loader, int(self.accumulation_steps))

    def holds_out(self, batches: InfiniteLoader) -> bool:
        """Return whether no batch was both trained on and evaluated on, as far as the loaders show."""
        return batches.epochs == 1 if self.val_loader is None else self.val_loader is not self.train_loader


OTHERS = ("scaler", "loss_fn", "forward", "metric")  # what else may have a state


def _check_loader(name: str, loader: Any) -> None:
    if isinstance(loader, Iterable) and not isinstance(loader, Iterator):
        return
    hint = ": pass the DataLoader, or a list of batches" if isinstance(loader, Iterator) else ""
    hint = ": wrap it in a DataLoader" if isinstance(loader, torch.utils.data.Dataset) else hint
    raise TypeError(f"{name} must be an iterable that can be iterated again, got {_checks.brief(loader)}{hint}")


def _check_trained(model: Any, optimizer: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {_checks.brief(model)}")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {_checks.brief(optimizer)}")
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    if not trained:
        raise ValueError("model must have parameters that require gradients, got none")
    if not any(id(parameter) in trained for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("optimizer must hold parameters of the model, got one that holds none of them")
    if not any(lr_multipliers(optimizer)):
        raise ValueError("optimizer must have a group whose lr_mult (or lr_scale) is not 0, got none")
