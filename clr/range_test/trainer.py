"""A user's model, optimizer, loss and batches, whatever their shapes: one update and one evaluation of them."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clr.groups import lr_multipliers, set_lr
from clr.range_test.batches import batch_size
from clr.range_test.callbacks import checked_forward, checked_metric, with_note
from clr.range_test.metric import choose_metric, constant_loss
from clr.range_test.randomness import preserve_rng

__all__ = ["Forward", "Trainer", "default_forward", "to_device"]

Forward = Callable[[nn.Module, Any], tuple[Any, Any]]


class Trainer:
    """A user's model, optimizer and loss: one update and one evaluation."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, loss_fn: Callable[[Any, Any], Tensor],
        forward: Forward, metric: Callable[[Any, Any], Any] | None, autocast: torch.dtype | None,
        scaler: torch.amp.GradScaler | None,
    ) -> None:  # fmt: skip
        self.model, self.optimizer, self.loss_fn = model, optimizer, with_note("loss_fn", loss_fn)
        self.forward, self.metric, self.autocast, self.scaler = checked_forward(forward), metric, autocast, scaler
        self.device = next(p for p in model.parameters() if p.requires_grad).device
        self.multipliers = lr_multipliers(optimizer)
        optimized = [p for group in optimizer.param_groups for p in group["params"]]
        self.parameters = list(dict.fromkeys([*model.parameters(), *optimized]))
        self.unscales = all(p.dtype is not torch.float16 for p in optimized)  # torch refuses to unscale these
        self.process_group, self.metric_name, self.examples = _process_group(model), "metric", 0
        self.constant_loss: float | None = None
        self.evaluated = False
        self.losses: list[Tensor] = []
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        self.needs_closure = closure is not None and closure.default is closure.empty  # LBFGS
        if self.needs_closure and scaler is not None:
            raise ValueError(f"scaler must be None for {type(optimizer).__name__}, whose step calls the model, got one")

    def train_step(self, rate: float, batches: Sequence[Any]) -> None:
        """Make one update at `rate`, without waiting for the device (a scaler waits for its own reasons)."""
        for group, multiplier in zip(self.optimizer.param_groups, self.multipliers, strict=True):
            set_lr(group, rate * multiplier)
        if self.needs_closure:
            self._step_by_closure(batches)
            return
        self.losses.append(self._backward(batches))
        if self.scaler is None:
            self.optimizer.step()
        else:
            if self.unscales:  # a fused optimizer would leave it to its step, which comes after a hook that clips
                self.scaler.unscale_(self.optimizer)
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _step_by_closure(self, batches: Sequence[Any]) -> None:
        calls: list[Tensor] = []

        def closure() -> Any:
            calls.append(self._backward(batches))
            return calls[-1]

        self.optimizer.step(closure)
        self.losses.append(calls[0])

    def _backward(self, batches: Sequence[Any]) -> Tensor:
        """Set the gradients of the mean loss over the batches; return it."""
        losses: list[Tensor] = []
        for batch in batches:
            with self._autocast():
                outputs, targets = self.forward(self.model, to_device(batch, self.device))
                loss = _check_scalar(self.loss_fn(outputs, targets))
            if not loss.requires_grad:
                raise ValueError("loss_fn must return a loss with a gradient, got a detached one, or no_grad")
            if len(batches) > 1:
                loss = loss / len(batches)
            if not losses:
                for parameter in self.parameters:  # as late as possible: the freed memory is reused while still warm
                    parameter.grad = None
            losses.append(loss.detach().clone())  # a compiled model's next call may overwrite it
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _autocast(self) -> Any:
        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)

    def current_lr(self) -> float:
        """Return the rate that the optimizer holds, read from a group that trains: its multiplier is nearest to 1."""
        pairs = zip(self.optimizer.param_groups, self.multipliers, strict=True)
        group, multiplier = min(((g, m) for g, m in pairs if m), key=lambda pair: abs(pair[1] - 1))
        return float(group["lr"]) / multiplier

    def pop_losses(self) -> np.ndarray:
        """Return the loss of every update since the last call, the mean over all processes, and forget them."""
        losses = self._mean_over_ranks(torch.stack(self.losses))
        self.losses.clear()
        return losses.cpu().double().numpy()

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Any]) -> float:
        """Return the metric in eval mode; modes and random states are restored, so training is not affected."""
        modes = [(module, module.training) for module in self.model.modules()]
        total, count = 0.0, 0
        with preserve_rng():
            self.model.eval()
            for batch in batches:
                with self._autocast():
                    outputs, targets = self.forward(self.model, to_device(batch, self.device))
                    self._note_constant(outputs, targets)
                    size = batch_size(targets if isinstance(targets, Tensor) else batch)
                    total, count = total + self._metric(outputs, targets) * size, count + size
        for module, mode in modes:
            module.training = mode
        if not count:
            raise ValueError("val_loader must give at least one batch, got none")
        self.examples = count
        if self.process_group is None:
            return float(total) / count
        both = self._mean_over_ranks(torch.tensor([float(total), count], device=self.device))
        return float(both[0] / both[1])

    def _note_constant(self, outputs: Any, targets: Any) -> None:
        """Note, once, the loss of a net that gives the mean target for every input."""
        if not self.evaluated:
            loss = torch.tensor(constant_loss(self.loss_fn, outputs, targets), device=self.device)
            loss = self._mean_over_ranks(loss)
            self.evaluated, self.constant_loss = True, float(loss) if loss.isfinite() else None

    def _metric(self, outputs: Any, targets: Any) -> Any:
        if self.metric is None:
            self.metric, self.metric_name = choose_metric(outputs, targets), "accuracy"
            if self.metric is None:
                self.metric, self.metric_name = _minus(self.loss_fn), "-loss"
        metric = checked_metric(self.metric) if self.metric_name == "metric" else self.metric
        return metric(outputs, targets)

    def _mean_over_ranks(self, values: Tensor) -> Tensor:
        """Return the mean over the processes that train this model together, the same on each."""
        if self.process_group is not None:
            torch.distributed.all_reduce(values, group=self.process_group)
            values /= torch.distributed.get_world_size(self.process_group)
        return values


def to_device(batch: Any, device: torch.device) -> Any:
    """Move a batch: tensors, whatever else has a `.to`, and tuples, lists and dicts of them."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=device.type == "cuda")  # towards the CPU it might be read too early
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def default_forward(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """Return outputs and targets of a batch that is a pair of inputs and targets."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        length = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise TypeError(
            f"batches must be pairs of inputs and targets, got {type(batch).__name__}{length}; for other shapes give "
            f"forward={_forward_of(batch)}"
        )
    return model(batch[0]), batch[1]


def _forward_of(batch: Any) -> str:
    """Return a `forward` that could be pasted for such a batch."""
    if isinstance(batch, Mapping) and len(batch) == 2 and not str(next(iter(batch))).startswith(("label", "target")):
        inputs, labels = map(repr, batch)
        return f"lambda model, batch: (model(batch[{inputs}]), batch[{labels}])"
    return "lambda model, batch: (outputs, targets)"


def _process_group(model: nn.Module) -> Any:
    """Return the processes that train this model together; None if there is one, or the model is not wrapped."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    for module in model.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            return module.process_group
        if any(kind.__name__ in ("FullyShardedDataParallel", "FSDPModule") for kind in type(module).__mro__):
            return torch.distributed.group.WORLD
    return None


def _minus(loss_fn: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], float]:
    """Return minus the loss as a metric. It outlives the trainer, so it must not refer to it."""
    return lambda outputs, targets: -float(_check_scalar(loss_fn(outputs, targets)))


def _check_scalar(loss: Tensor) -> Tensor:
    if not isinstance(loss, Tensor) or loss.dim():
        kind = f"shape {tuple(loss.shape)}: take its mean()" if isinstance(loss, Tensor) else f"{type(loss)}"
        raise ValueError(f"loss_fn must return a scalar tensor, got {kind}")
    return loss
