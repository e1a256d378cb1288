"""No trace: after a range test, training goes on as if there had been none, to the bit."""

import copy
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from toys import (
    SHORT,
    Augmented,
    adam,
    augmented,
    everything,
    fit,
    flat,
    global_order,
    own_generator,
    plain_list,
    points,
    script,
    sgd,
)

import clr


class Stop(Exception):
    pass


def interrupted(error):
    calls = []

    def loss_fn(outputs, targets):
        calls.append(1)
        if len(calls) == 7:
            raise error
        return F.cross_entropy(outputs, targets)

    return loss_fn


@pytest.mark.parametrize("make_loader", [global_order, own_generator, augmented, plain_list])
@pytest.mark.parametrize("make_optimizer", [sgd, adam])
@pytest.mark.parametrize("trained_before", [False, True])
@pytest.mark.parametrize("how", ["once", "twice", "seeded", "exception", "interrupt"])
def test_training_goes_on_as_if_there_had_been_no_test(make_loader, make_optimizer, trained_before, how):
    ends = []
    for tested in (False, True):
        model, optimizer, loader = script(make_loader, make_optimizer)
        if trained_before:
            fit(model, optimizer, loader)
        if tested and how in ("exception", "interrupt"):
            error = Stop if how == "exception" else KeyboardInterrupt
            with pytest.raises(error):
                clr.lr_range_test(model, optimizer, interrupted(error()), loader, loader, **SHORT)
        elif tested:
            for seed in {"once": [None], "twice": [None, None], "seeded": [5]}[how]:
                clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, seed=seed, **SHORT)
        start = copy.deepcopy(optimizer.state_dict())
        fit(model, optimizer, loader, epochs=2)
        ends.append((flat(start), everything(model, optimizer, loader)))
    assert ends[0] == ends[1]


def test_a_second_test_gives_the_same_curve():
    model, optimizer, loader = script(augmented, adam)
    tests = [clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, **SHORT) for _ in range(2)]
    assert tests[0].frame.equals(tests[1].frame)


def test_present_gradients_modes_and_absent_state_stay():
    model, optimizer, loader = script(plain_list, adam)
    model.layers[1].eval()
    gradient = model.layers[0].weight.grad = torch.ones(8, 2)
    clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, **SHORT)
    assert model.layers[0].weight.grad is gradient and torch.equal(gradient, torch.ones(8, 2))
    assert model.layers[4].weight.grad is None and not optimizer.state
    assert [module.training for module in model.modules()] == [True, True, True, False, True, True, True]


def test_scaler_and_loss_module_are_put_back():
    model, optimizer, loader = script(plain_list, sgd)
    loss_fn = nn.BatchNorm1d(2)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    before = flat(scaler.state_dict()), flat(loss_fn.state_dict())
    clr.lr_range_test(
        model, optimizer, lambda x, y: F.cross_entropy(loss_fn(x), y), loader, loader, scaler=scaler, **SHORT
    )
    assert flat(scaler.state_dict()) == before[0]
    module = nn.CrossEntropyLoss(weight=torch.ones(2))
    clr.lr_range_test(model, optimizer, module, loader, loader, **SHORT)


class Wrapping(torch.optim.Optimizer):
    """As SAM or Accelerate wrap an optimizer: the state and the rates are the inner one's."""

    def __init__(self, inner):
        super().__init__([p for group in inner.param_groups for p in group["params"]], {"lr": 0.0})
        self.inner, self.param_groups = inner, inner.param_groups

    def step(self, closure=None):
        return self.inner.step(closure)


def test_an_optimizer_that_wraps_another_is_put_back():
    model, inner, loader = script(plain_list, sgd)
    fit(model, inner, loader)
    before = flat([inner.state_dict(), model.state_dict()])
    clr.lr_range_test(model, Wrapping(inner), F.cross_entropy, loader, loader, **SHORT)
    assert flat([inner.state_dict(), model.state_dict()]) == before


class Collecting(nn.Module):
    """Changes in place whatever it holds."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.array, self.last, self.sizes, self.pair = np.zeros(2), deque([0], 3), {0}, (torch.zeros(2), [0])

    def forward(self, x):
        self.array += 1
        self.last.append(len(self.last))
        self.sizes.add(len(x))
        self.pair[0].add_(1)
        self.pair[1].append(1)
        return self.layer(x)


def test_what_a_model_holds_is_put_back_whatever_its_kind():
    model, loader = Collecting(), plain_list()
    held = [model.array, model.last, model.sizes, model.pair]
    clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, loader, loader, **SHORT)
    assert all(new is old for new, old in zip([model.array, model.last, model.sizes, model.pair], held, strict=True))
    assert (model.array.tolist(), model.last, model.sizes) == ([0, 0], deque([0], 3), {0})
    assert flat(model.pair) == flat((torch.zeros(2), [0]))


@pytest.mark.parametrize("eval_batches", [None, 2])
def test_loaders_that_share_a_generator_train_as_if_nobody_had_looked(eval_batches):
    def losses(eval_every, options):
        model, optimizer, _ = script(plain_list, sgd)
        shared, data = torch.Generator().manual_seed(1), TensorDataset(*points())
        train, val = (DataLoader(data, 16, shuffle=shuffle, generator=shared) for shuffle in (True, False))
        test = clr.lr_range_test(
            model, optimizer, F.cross_entropy, train, val, **SHORT | {"eval_every": eval_every} | options
        )
        return test.frame["train_loss"].dropna().to_numpy().reshape(-1, 12 // eval_every)

    often = losses(1, {"iterations": 24, "eval_batches": eval_batches}).reshape(2, 12).mean(1)
    seldom = losses(12, {"iterations": 24, "eval_batches": eval_batches}).ravel()
    assert often == pytest.approx(seldom, rel=1e-6)


def test_a_seed_is_not_left_behind_for_a_device_that_is_not_in_use(monkeypatch):
    model, optimizer, loader = script(plain_list, sgd)
    if torch.cuda.is_initialized():
        pytest.skip("CUDA is in use already")
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail(f"CUDA would start with {seed}"))
    clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, seed=5, **SHORT)


def test_kept_workers_are_left_alone():
    dataset = Augmented(*points(16))
    loader = DataLoader(dataset, 8, num_workers=1, persistent_workers=True)
    next(iter(loader))
    workers = loader._iterator
    model, optimizer, _ = script(plain_list, sgd)
    options = SHORT | {"iterations": 2, "eval_every": 2}
    clr.lr_range_test(model, optimizer, F.cross_entropy, loader, [points()], **options)
    assert loader._iterator is workers


@pytest.mark.filterwarnings("error")
def test_a_scheduler_is_not_called_and_goes_on_as_it_would_have():
    rates = []
    for tested in (False, True):
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=4)
        if tested:
            clr.lr_range_test(model, optimizer, F.cross_entropy, plain_list(), **SHORT)
        rates.append([])
        for _ in range(5):
            optimizer.step()
            scheduler.step()
            rates[-1].append(optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1]


@pytest.mark.parametrize(
    "make_optimizer",
    [
        sgd, adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam, torch.optim.Adadelta,
        torch.optim.ASGD, torch.optim.Rprop, torch.optim.Adamax, torch.optim.RAdam, torch.optim.Adafactor,
        torch.optim.LBFGS, lambda p: clr.CaffeSGD(p, lr=0.1),
    ],
)  # fmt: skip
def test_every_optimizer_is_tested_and_put_back(make_optimizer):
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(model.parameters())
    before = flat([model.state_dict(), optimizer.state_dict()])
    test = clr.lr_range_test(model, optimizer, F.cross_entropy, plain_list(), [points()], **SHORT)
    assert np.isfinite(test.frame.metric).all() and test.frame.train_loss.nunique() == 4
    assert flat([model.state_dict(), optimizer.state_dict()]) == before
