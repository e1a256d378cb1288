"""A user's model, optimizer, loss and batches, whatever their shapes: one update and one evaluation of them."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from clr.range_test.restore import random_restored

__all__ = ["EndlessBatches", "Forward", "Trainer", "accuracy", "pair"]

Forward = Callable[[nn.Module, Any], tuple[Any, Any]]


class Trainer:
    """A user's model, optimizer and loss, as one update and one evaluation."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, loss_fn: Callable[[Any, Any], Tensor],
        forward: Forward, metric: Callable[[Any, Any], Any], autocast: torch.dtype | None,
        scaler: torch.amp.GradScaler | None,
    ) -> None:  # fmt: skip
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.forward, self.metric, self.autocast, self.scaler = forward, metric, autocast, scaler
        self.device = next(p for p in model.parameters() if p.requires_grad).device
        self.multipliers = _multipliers(optimizer)
        groups = [group["params"] for group in optimizer.param_groups]
        self.parameters = list(dict.fromkeys([*model.parameters(), *(p for group in groups for p in group)]))
        self.losses: list[Tensor] = []
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        self.steps_by_closure = closure is not None and closure.default is closure.empty  # LBFGS
        if self.steps_by_closure and scaler is not None:
            raise ValueError(f"scaler must be None for {type(optimizer).__name__}, whose step calls the model, got one")

    def update(self, rate: float, batches: Sequence[Any]) -> None:
        """Make one update with `rate`; nothing here waits for the device, but what the scaler does itself."""
        for group, multiplier in zip(self.optimizer.param_groups, self.multipliers, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * multiplier)
            else:
                group["lr"] = rate * multiplier
        if self.steps_by_closure:
            calls: list[Tensor] = []

            def closure() -> Any:
                calls.append(self._backward(batches))
                return calls[-1]

            self.optimizer.step(closure)
            self.losses.append(calls[0])
            return
        self.losses.append(self._backward(batches))
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _backward(self, batches: Sequence[Any]) -> Tensor:
        """Set the gradients of the mean loss over the batches; return it."""
        losses: list[Tensor] = []
        for batch in batches:
            with self._autocast():
                outputs, targets = self.forward(self.model, _moved(batch, self.device))
                loss = _scalar(self.loss_fn(outputs, targets))
            if len(batches) > 1:
                loss = loss / len(batches)
            if not losses:
                for parameter in self.parameters:  # as late as can be: its memory is still warm when it is used again
                    parameter.grad = None
            losses.append(loss.detach())
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _autocast(self) -> Any:
        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)

    def rate(self) -> float:
        """Return the rate that the optimizer holds, of the group whose multiplier is nearest to 1."""
        nearest = min(range(len(self.multipliers)), key=lambda i: abs(self.multipliers[i] - 1))
        lr = float(self.optimizer.param_groups[nearest]["lr"])
        return lr if self.multipliers[nearest] in (0, 1) else lr / self.multipliers[nearest]

    def mean_loss(self) -> float:
        """Return the mean loss over the updates since it was last asked for."""
        mean = torch.stack(self.losses).cpu().double().mean().item()
        self.losses.clear()
        return mean

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Any]) -> float:
        """Return the metric in eval mode; modes and random states are as before, so training does not notice."""
        modes = [(module, module.training) for module in self.model.modules()]
        total, count = 0.0, 0
        with random_restored(batches):
            self.model.eval()
            for batch in batches:
                with self._autocast():
                    outputs, targets = self.forward(self.model, _moved(batch, self.device))
                    size = len(targets) if isinstance(targets, Tensor) and targets.dim() else 1
                    total, count = total + self.metric(outputs, targets) * size, count + size
        for module, mode in modes:
            module.training = mode
        if not count:
            raise ValueError("val_loader must give at least one batch, got none")
        return float(total) / count


class EndlessBatches(Iterator[list[Any]]):
    """The loader's batches, `size` at a time, from its start again when it has ended."""

    def __init__(self, loader: Iterable[Any], size: int) -> None:
        self.loader, self.size, self.passes = loader, size, 1
        self.iterator = iter(loader)

    def __next__(self) -> list[Any]:
        return [self.batch() for _ in range(self.size)]

    def batch(self) -> Any:
        """Return the next batch, the first again after the last."""
        for batch in self.iterator:
            return batch
        self.iterator, self.passes = iter(self.loader), self.passes + 1
        for batch in self.iterator:
            return batch
        raise ValueError("train_loader must give at least one batch each time it is gone through, got none")


def _multipliers(optimizer: torch.optim.Optimizer) -> tuple[float, ...]:
    groups = optimizer.param_groups
    if any("lr_mult" in group for group in groups):
        return tuple(float(group.get("lr_mult", 1)) for group in groups)
    rates = [float(group.get("initial_lr", group["lr"])) for group in groups]
    fastest = max(rates)
    return tuple(rate / fastest if fastest else 1.0 for rate in rates)


def _scalar(loss: Tensor) -> Tensor:
    if not isinstance(loss, Tensor) or loss.dim():
        kind = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{type(loss)}"
        raise ValueError(f"loss_fn must return a scalar tensor, got {kind}")
    return loss


def _moved(batch: Any, device: torch.device) -> Any:
    """Return the batch on the device: tensors, whatever else has a `.to`, and tuples, lists and dicts of them."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=device.type == "cuda")  # towards the CPU it might be read too early
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_moved(value, device) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(_moved(value, device) for value in batch)
    return batch


def pair(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """Return outputs and targets of a batch that is a pair of inputs and targets."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        length = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise TypeError(
            f"batches must be pairs of inputs and targets, got {type(batch).__name__}{length}; for other shapes give "
            "forward=lambda model, batch: (outputs, targets)"
        )
    return model(batch[0]), batch[1]


def accuracy(outputs: Any, targets: Any) -> float:
    """Return the share of targets, classes, whose score is the highest."""
    classes = isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.dim() > 1
    if not classes or outputs.shape[:1] + outputs.shape[2:] != targets.shape or targets.is_floating_point():
        shapes = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in (outputs, targets)]
        raise ValueError(f"metric must be given: accuracy needs scores (N, classes) and classes (N,), got {shapes}")
    return (outputs.argmax(1) == targets).sum().item() / targets.numel()
