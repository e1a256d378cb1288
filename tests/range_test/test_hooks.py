"""Hooks on the optimizer, such as one that clips gradients: a test calls them as training does."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toys import SHORT, plain_list, points

import clr

MOST = 0.01  # norm of clipped gradients


def made():
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def clips(model):
    def hook(*_):  # it must return None
        nn.utils.clip_grad_norm_(model.parameters(), MOST)

    return hook


def watched(model, optimizer, accumulation_steps=1, scaled=False):
    """Return a test's updates: rate, gradient of the weight when the hooks are called, weight before and after."""
    updates = []

    def before(*_):
        weight = model.weight.detach().clone()
        updates.append([optimizer.param_groups[0]["lr"], model.weight.grad.clone(), weight])

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(lambda *_: updates[-1].append(model.weight.detach().clone()))
    scaler = torch.amp.GradScaler("cpu") if scaled else None
    options = SHORT | {"accumulation_steps": accumulation_steps, "scaler": scaler}
    clr.lr_range_test(model, optimizer, F.cross_entropy, plain_list(), [points()], **options)
    return updates


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("accumulation_steps", [1, 3])
def test_hooks_see_each_update_once_with_the_gradients_that_it_uses(accumulation_steps, scaled):
    model, optimizer = made()
    x, y = (torch.cat(parts[:accumulation_steps]) for parts in zip(*plain_list(), strict=True))
    (first,) = torch.autograd.grad(F.cross_entropy(model(x), y), model.weight)
    updates = watched(model, optimizer, accumulation_steps, scaled)
    assert len(updates) == SHORT["iterations"]
    torch.testing.assert_close(updates[0][1], first)
    for rate, gradient, before, after in updates:
        torch.testing.assert_close(after, before - rate * gradient)


@pytest.mark.parametrize("fused", [False, True])  # a fused optimizer leaves dividing by the scale to its step
@pytest.mark.parametrize("scaled", [False, True])
def test_a_hook_that_clips_gradients_clips_those_of_the_test(scaled, fused):
    for clipped in (False, True):
        model, _ = made()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
        if clipped:
            optimizer.register_step_pre_hook(clips(model))
        norms = [float(gradient.norm()) for _, gradient, *_ in watched(model, optimizer, scaled=scaled)]
        assert max(norms) <= MOST if clipped else min(norms) > MOST


@pytest.mark.parametrize("call", [clr.lr_range_test, clr.find_bounds])
def test_a_hook_stays_registered_once(call, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    model, optimizer = made()
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    options = {"seeds": 1} if call is clr.find_bounds else {"progress": False}
    rates = {"start_lr": 1e-6, "end_lr": 1e-3, "iterations": 12}
    call(model, optimizer, F.cross_entropy, plain_list(), [points()], **rates, **options)
    assert len(calls) == 12
    optimizer.step()
    assert len(calls) == 13
