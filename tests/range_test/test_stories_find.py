"""Range tests in whole stories: random models, optimizers and loaders, trained, probed and interrupted in any order."""

import copy
import random
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from stories import assert_finds, told
from torch import nn
from torch.nn import functional as F
from toys import Net, adam, augmented, flat, global_order, own_generator, plain_list, points, sgd

import clr
from clr.range_test import bounds as bounds_module
from clr.range_test import restore
from clr.range_test.curve import CurveKind
from clr.range_test.verdict import _SEEN

BOTH, LOWER, UPPER = {CurveKind.PEAK, CurveKind.PLATEAU}, {CurveKind.RISING}, {CurveKind.TOO_NARROW}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.head = nn.GRU(1, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.cells(x[:, :, None])[0][:, -1])


def partly_frozen():
    net = Net()
    net.layers[0].requires_grad_(False)
    net.layers[1].eval()
    return net


def two_groups(parameters):
    first, *others = parameters
    return torch.optim.AdamW([{"params": [first], "lr": 0.003}, {"params": others, "lr": 0.01}])


def lbfgs(parameters):
    return torch.optim.LBFGS([p for p in parameters if p.requires_grad], lr=0.1, max_iter=2)


def damaged():
    (x, y), *others = plain_list()
    return [(x * torch.nan, y), *others]


def one_class():
    return [(x, torch.zeros_like(y)) for x, y in plain_list()]


models = st.sampled_from([Net, Recurrent, partly_frozen, lambda: nn.Linear(2, 2)])
optimizers = st.sampled_from([sgd, adam, two_groups, lbfgs])
loaders = st.sampled_from([plain_list, global_order, own_generator, augmented, one_class, damaged])


class Story(RuleBasedStateMachine):
    """What must hold: a test changes nothing, and a bound is in order, or NaN for a reason that the verdict names."""

    @initialize(model=models, optimizer=optimizers, loader=loaders, seed=st.integers(0, 9))
    def begin(self, model, optimizer, loader, seed):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        self.model, self.loader, self.finite = model(), loader(), loader is not damaged
        self.optimizer = optimizer(self.model.parameters())
        self.loss_fn = F.cross_entropy

    def trace(self):
        """Return everything there is: states, gradients, modes, the groups, and all random states."""
        states = [self.model.state_dict(), self.optimizer.state_dict(), [p.grad for p in self.model.parameters()]]
        plain = {k: v for module in self.model.modules() for k, v in vars(module).items() if isinstance(v, (int, list))}
        randoms = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()]
        of_loader = [getattr(self.loader, "generator", None), getattr(self.loader, "sampler", None)]
        owned = [x.get_state() for x in of_loader if isinstance(x, torch.Generator)]
        own = [owned, getattr(of_loader[1], "passes", None), getattr(of_loader[1], "generator", None) is None]
        return flat([states, copy.deepcopy(plain), [m.training for m in self.model.modules()], randoms, own])

    @rule()
    def train(self):
        for x, y in list(self.loader)[:3]:

            def closure(x=x, y=y):
                self.optimizer.zero_grad()
                loss = self.loss_fn(self.model(x), y)
                loss.backward()
                return loss

            self.optimizer.step(closure)

    @rule(mode=st.booleans())
    def change_the_mode(self, mode):
        self.model.train(mode)

    def finds(self, loss_fn, held_out, **options):
        val_loader = [points()] if held_out else None
        return clr.find_bounds(self.model, self.optimizer, loss_fn, self.loader, val_loader, **options)

    @rule(
        held_out=st.booleans(), seeds=st.integers(1, 2), iterations=st.integers(10, 24),
        accumulation_steps=st.integers(1, 2), end_lr=st.sampled_from([None, 1e-4, 30.0]),
    )  # fmt: skip
    def find_bounds(self, held_out, **options):
        before = self.trace()
        try:
            found = self.finds(self.loss_fn, held_out, **options)
        except ValueError as error:  # the model has been trained on NaN, or is evaluated on it
            assert not self.finite and "metric must be a finite number on the model as it is" in str(error)  # noqa: PT017
        else:
            assert_in_order(found)
        assert self.trace() == before

    @rule(call=st.integers(1, 60), error=st.sampled_from([KeyboardInterrupt, ZeroDivisionError]))
    def be_interrupted(self, call, error):
        calls = []

        def loss_fn(outputs, targets):
            calls.append(1)
            if len(calls) == call:
                raise error
            return F.cross_entropy(outputs, targets)

        before = self.trace()
        with pytest.raises((error, ValueError)):
            self.finds(loss_fn, True, seeds=1, iterations=10, start_lr=1e-5, end_lr=0.1)
            raise error  # the test was over before that call
        assert self.trace() == before


def assert_in_order(found):
    """Hold bounds to their own rules."""
    base_lr, max_lr = found.base_lr, found.max_lr
    known = np.isfinite([base_lr, max_lr]).tolist()
    assert _SEEN[found.kind].split("{")[0] in found.verdict
    assert known == [found.kind in BOTH | LOWER, found.kind in BOTH | UPPER]
    for (low, high), lr in ((found.base_ci, base_lr), (found.max_ci, max_lr)):
        assert 0 <= low <= lr <= high if np.isfinite(lr) else np.isnan([low, high]).all()
    assert not all(known) or base_lr < max_lr
    peaks = [found.peak_lr(schedule) for schedule in ("constant", "triangular")]
    assert peaks[0] < peaks[1] if np.isfinite(peaks[1]) else np.isnan(peaks).all()


Story.TestCase.settings = told(4, 4)
TestStory = Story.TestCase


def crossed(analyse):
    def instead(curve):
        shape = analyse(curve)
        return replace(shape, base_x=shape.max_x, max_x=shape.base_x)

    return instead


@pytest.mark.parametrize(
    ("module", "name", "fault"),
    [
        (restore, "preserve_rng", lambda _: nullcontext),
        (restore, "_refill", lambda _: lambda values: lambda: None),
        (restore, "_snapshot_loader", lambda _: lambda *_: None),
        (bounds_module, "analyse", crossed),
        (bounds_module, "_majority", lambda _: lambda kinds: CurveKind.PEAK),
    ],
)
def test_a_fault_is_found(monkeypatch, module, name, fault):
    monkeypatch.setattr(module, name, fault(getattr(module, name)))
    assert_finds(Story, steps=6)
