"""One update and one evaluation, part by part: gradients, losses, batches on a device, and several processes."""

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn, tensor
from torch.nn import functional as F

from clr.range_test import trainer as module
from clr.range_test.trainer import Trainer, default_forward, to_device

X, Y = tensor([[1.0], [2.0], [4.0], [8.0]]), tensor([[0.0], [0.0], [1.0], [1.0]])
CPU = torch.device("cpu")


def line():
    """Return a model of one weight, 1."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    return model


def trainer_of(model, optimizer=torch.optim.SGD, loss_fn=F.mse_loss, metric=None, scaler=None, forward=default_forward):
    return Trainer(model, optimizer(model.parameters(), lr=1.0), loss_fn, forward, metric, None, scaler)


# An update.


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_an_update_steps_along_the_gradient_of_the_mean_loss_of_its_batches(parts):
    model = line()
    trainer = trainer_of(model)
    batches = list(zip(X.chunk(parts), Y.chunk(parts), strict=True))
    losses = []
    for _ in range(2):
        weight = model.weight.item()
        losses.append(F.mse_loss(weight * X, Y).item())
        trainer.train_step(0.001, batches)
        gradient = (2 * (weight * X - Y) * X).mean().item()
        assert model.weight.item() == pytest.approx(weight - 0.001 * gradient)
    assert trainer.pop_losses().tolist() == pytest.approx(losses)
    trainer.train_step(0.001, batches)
    assert len(trainer.pop_losses()) == 1  # those since the last call


def test_an_optimizer_that_calls_the_model_has_the_loss_before_its_update():
    model = line()
    trainer = trainer_of(model, torch.optim.LBFGS)
    assert trainer.needs_closure and not trainer_of(line()).needs_closure
    before = F.mse_loss(X, Y).item()
    trainer.train_step(0.5, [(X, Y)])
    assert trainer.pop_losses().tolist() == [before]
    assert F.mse_loss(model(X), Y).item() < before


def test_a_scaler_is_refused_where_the_optimizer_calls_the_model():
    scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(ValueError, match="scaler must be None for LBFGS, whose step calls the model, got one"):
        trainer_of(line(), torch.optim.LBFGS, scaler=scaler)
    assert trainer_of(line(), scaler=scaler).scaler is scaler


@pytest.mark.parametrize("half", [False, True])
def test_gradients_are_unscaled_before_the_step_but_for_half_precision_weights_which_torch_refuses(half):
    model = line().half() if half else line()
    trainer = trainer_of(model, scaler=torch.amp.GradScaler("cpu", init_scale=4.0), loss_fn=lambda y, t: (y * 0).sum())
    assert trainer.unscales is not half
    x = torch.ones(2, 1, dtype=torch.float16 if half else torch.float32)
    if not half:
        trainer.train_step(0.1, [(x, x)])


def test_a_scaler_steps_and_is_updated_at_each_update():
    weights = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)):
        model = line()
        trainer = trainer_of(model, scaler=scaler)
        for _ in range(3):
            trainer.train_step(0.001, [(X, Y)])
        weights.append(model.weight.item())
    assert weights[0] == pytest.approx(weights[1]) != 1 and scaler.get_scale() == 64


def test_parameters_that_are_not_the_models_lose_their_gradients_too():
    model, other = line(), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([*model.parameters(), other], lr=1.0)
    trainer = Trainer(model, optimizer, lambda out, y: F.mse_loss(other * out, y), default_forward, None, None, None)
    for _ in range(2):
        weight = other.item() * X * model.weight.item()
        slope = (2 * (weight - Y) * weight / other.item()).mean().item()
        before = other.item()
        trainer.train_step(0.001, [(X, Y)])
        assert other.item() == pytest.approx(before - 0.001 * slope)


@pytest.mark.parametrize(
    ("mults", "lr"),
    [
        ((1.0, 0.0), 0.1),
        ((3.0, 1.0), 0.1),  # to the last bit: 3 * 0.1 / 3 is more
        ((0.5,), 0.1),
        ((0.0, 10.0), 0.1),
        ((8.0, 4.0), 0.1),
    ],
)
def test_the_rate_on_the_axis_is_that_of_a_multiplier_of_one(mults, lr):
    model = nn.Sequential(*(line() for _ in mults))
    groups = [{"params": part.parameters(), "lr_mult": mult} for part, mult in zip(model, mults, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    trainer = Trainer(model, optimizer, F.mse_loss, default_forward, None, None, None)
    trainer.train_step(0.1, [(X, Y)])
    assert trainer.current_lr() == lr


# An evaluation.


def test_an_evaluation_is_in_eval_mode_and_counts_examples():
    model, modes = nn.Sequential(line(), nn.Dropout(0.5)), []
    model[1].eval()

    def metric(outputs, targets):
        modes.append((model.training, model[0].training, model[1].training))
        return float(len(targets))

    trainer = trainer_of(model, metric=metric)
    assert trainer.evaluate([(X, Y), (X[:2], Y[:2])]) == pytest.approx((4 * 4 + 2 * 2) / 6)
    assert trainer.examples == 6 and trainer.metric_name == "metric"
    assert set(modes) == {(False, False, False)} and [m.training for m in model.modules()] == [True, True, False]
    assert not model[0].weight.grad and model[0].weight.requires_grad


def test_without_a_metric_a_regression_has_minus_its_loss():
    trainer = trainer_of(line())
    assert trainer.evaluate([(X, Y)]) == -F.mse_loss(X, Y).item() and trainer.metric_name == "-loss"


def test_a_metric_that_is_no_number_is_told():
    with pytest.raises(TypeError, match="metric must return a number or a one-element tensor, got '0.5'"):
        trainer_of(line(), metric=lambda outputs, targets: "0.5").evaluate([(X, Y)])


def test_an_evaluation_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="val_loader must give at least one batch, got none"):
        trainer_of(line()).evaluate([])


def test_the_constant_is_the_mean_target_of_the_first_batch_alone():
    trainer, far = trainer_of(line()), 100 + 10 * torch.arange(10.0)[:, None]
    trainer.evaluate([(far, far), (far, 9 * far)])
    trainer.evaluate([(far, 7 * far)])
    assert trainer.constant_loss == pytest.approx(825) and trainer.metric_name == "-loss"


def test_without_a_metric_classes_have_their_accuracy_in_all_evaluations():
    scores = tensor([[3.0, 1.0], [0.0, 1.0], [5.0, 1.0], [4.0, 1.0]])
    trainer = trainer_of(line(), loss_fn=F.cross_entropy, forward=lambda model, batch: batch)
    batch = scores, tensor([0, 1, 1, 0])
    assert trainer.evaluate([batch]) == 0.75 == trainer.evaluate([batch]) and trainer.metric_name == "accuracy"
    assert trainer.constant_loss is None


@pytest.mark.parametrize(
    ("loss", "got"), [(torch.zeros(2), r"shape \(2,\)"), (torch.zeros(1), r"shape \(1,\)"), (0.5, "<class 'float'>")]
)
def test_a_loss_that_is_no_scalar_tensor_is_told(loss, got):
    for call in (lambda t: t.train_step(0.1, [(X, Y)]), lambda t: t.evaluate([(X, Y)])):
        with pytest.raises(ValueError, match=f"loss_fn must return a scalar tensor, got {got}"):
            call(trainer_of(line(), loss_fn=lambda outputs, targets: loss))


# Batches.

Pair = namedtuple("Pair", "x y")


class Encoding(dict):
    """A batch that moves itself, as tokenizers make them."""

    def to(self, device):
        return Encoding(self, moved=device)


def test_a_batch_is_moved_whatever_holds_its_tensors(monkeypatch):
    moved = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking: moved.append(non_blocking) or self + 1)
    one = tensor(1.0)
    assert to_device(one, CPU) == 2
    assert to_device((one, "a", 3, None), CPU) == (2, "a", 3, None)
    assert to_device([one, [one]], CPU) == [2, [2]]
    assert to_device({"a": one, "b": (one,)}, CPU) == {"a": 2, "b": (2,)}
    assert to_device(OrderedDict(a=one), CPU) == {"a": 2}
    found = to_device(Pair(one, [one]), CPU)
    assert found == Pair(2, [2]) and type(found) is Pair
    assert to_device(Encoding(a=1), CPU) == {"a": 1, "moved": CPU} and set(moved) == {False}


@pytest.mark.parametrize(
    ("batch", "got"), [((1, 2, 3), "tuple of 3"), ([1], "list of 1"), ({"x": 1, "y": 2}, "dict;"), (X, "Tensor;")]
)
def test_a_batch_that_is_no_pair_asks_for_forward(batch, got):
    with pytest.raises(TypeError, match=f"batches must be pairs of inputs and targets, got {got}"):
        default_forward(line(), batch)


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_pair_is_inputs_and_targets(kind):
    outputs, targets = default_forward(line(), kind([X, Y]))
    assert torch.equal(outputs, X) and targets is Y


# Several processes.


@pytest.fixture
def two_processes(monkeypatch):
    """A trainer of two processes, of which the other has `other` to add where a sum is taken."""
    other = []
    together = SimpleNamespace(
        all_reduce=lambda values, group: values.add_(torch.as_tensor(other.pop(0))),
        get_world_size=lambda group: 2,
        is_available=lambda: True,
        is_initialized=lambda: False,
    )
    monkeypatch.setattr(torch, "distributed", together)
    trainer = trainer_of(line(), metric=lambda outputs, targets: outputs.mean())
    trainer.process_group = "both"
    return trainer, other


def test_losses_and_metrics_are_means_over_the_processes(two_processes):
    trainer, other = two_processes
    trainer.train_step(0.0, [(X, Y)])
    other.append([1.0])
    assert trainer.pop_losses() == pytest.approx((F.mse_loss(X, Y).item() + 1) / 2)
    other += [float("nan"), [8.0 * 3.0, 8]]  # no constant; eight examples, whose metric is 3
    assert trainer.evaluate([(X, Y)]) == pytest.approx((3.75 * 4 + 3 * 8) / 12) and not other


class FSDPModule:
    """What fully_shard makes a module's base."""


class Sharded(FSDPModule, nn.Linear):
    pass


def wrapped(module):
    """Return a module as DistributedDataParallel wraps it, without processes."""
    ddp = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(ddp)
    ddp.module, ddp.process_group = module, "its group"
    return ddp


def test_the_processes_are_those_of_whatever_wraps_the_model_or_a_part_of_it(monkeypatch):
    models = {"plain": line(), "whole": wrapped(line()), "part": nn.Sequential(line(), wrapped(line()))}
    models["sharded"] = nn.Sequential(line(), Sharded(1, 1))
    assert [module._process_group(model) for model in models.values()] == [None] * 4
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "group", SimpleNamespace(WORLD="all"))
    found = {name: module._process_group(model) for name, model in models.items()}
    assert found == {"plain": None, "whole": "its group", "part": "its group", "sharded": "all"}
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    assert module._process_group(models["whole"]) is None


def test_losses_are_read_as_doubles_in_order():
    trainer = trainer_of(line())
    for rate in (0.0, 0.001, 0.0):
        trainer.train_step(rate, [(X, Y)])
    losses = trainer.pop_losses()
    assert losses.dtype == np.float64 and losses[0] == losses[1] > losses[2]
