"""Torch's own ways to train: mixed precision, sequences, groups that join, a compiled step."""

import copy
import shutil

import page
import pytest
import torch
from torch import nn

import clr

POLICY = clr.Triangular(0.01, 0.1, 5)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def pairs(start, stop):
    made = [torch.randn(8, 6, generator=torch.Generator().manual_seed(k)) for k in range(start, stop)]
    return [(values[:, :4], values[:, 4:]) for values in made]


def amp(loader):
    names = {"model": net(), "loader": loader, "loss_fn": nn.functional.mse_loss, "policy": POLICY, "device": "cpu"}
    return page.run("Plain torch", **names)


def test_mixed_precision_uses_the_policys_rates_and_resumes_bit_for_bit(rates, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    amp(pairs(0, 13))
    halves = amp(pairs(13, 24))
    assert rates == [POLICY(k) for k in range(24)]
    (tmp_path / "checkpoint.pt").unlink()
    whole = amp(pairs(0, 24))
    torch.testing.assert_close(halves.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert whole.model[0].weight.dtype == torch.float32


def test_an_update_that_the_scaler_skips_uses_up_no_rate(rates, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loader = pairs(0, 12)
    loader[4][0][0, 0] = torch.inf
    after = amp(loader)
    assert rates == [POLICY(k) for k in range(11)]
    assert after.scaler.get_scale() == 2**15  # half of what it was
    assert after.scheduler.get_last_lr() == [POLICY(11)]


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # torch 2.6's SequentialLR uses it
def test_the_policy_starts_after_a_warm_up(rates):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    after = page.run("Plain torch", 1, optimizer=optimizer, policy=POLICY)
    train(model, optimizer, after.scheduler, 12)
    assert rates == [0.1] * 5 + [POLICY(k) for k in range(7)]


def test_the_policy_is_found_once_and_a_resumed_run_reads_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loader = [(x, 3 * x[:, :2]) for x, _ in pairs(0, 40)]
    names = {"loader": loader[:30], "val_loader": loader[30:], "loss_fn": nn.functional.mse_loss, "model": net()}
    first = page.run("First, the policy", **names, epochs=3, accumulation_steps=4)
    assert first.updates == 3 * 8 and first.policy == first.bounds.policy("one-cycle", iterations=24)
    again = page.run("First, the policy", **names)
    assert again.policy == first.policy and not hasattr(again, "bounds")


def test_a_hook_that_clips_is_there_for_the_test_alone(tmp_path):
    loader = [(x, 3 * x[:, :2]) for x, _ in pairs(0, 40)]
    names = {"loader": loader[:30], "val_loader": loader[30:], "loss_fn": nn.functional.mse_loss, "model": net()}
    optimizer = torch.optim.SGD(names["model"].parameters(), lr=1.0)
    found = page.run("First, the policy", 1, optimizer=optimizer, **names)
    assert found.bounds.n_curves == 5 and not optimizer._optimizer_step_pre_hooks


def train(model, optimizer, scheduler, updates, start=0):
    for inputs, targets in pairs(start, start + updates):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        scheduler.step()


def parts():
    """A net whose last layer is not trained at first."""
    model = net()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=1.0, momentum=0.9)
    return model, optimizer, clr.PolicyLR(optimizer, POLICY)


def join(model, optimizer, scheduler):
    page.run("Plain torch", 2, optimizer=optimizer, scheduler=scheduler, head=model[2])


def test_a_group_that_joins_has_its_rate_and_a_resume_keeps_it():
    whole, again = parts(), parts()
    train(*whole, 7)
    join(*whole)
    train(*whole, 6, start=7)
    assert [group["lr"] for group in whole[1].param_groups] == [POLICY(13), 10 * POLICY(13)]
    states = [copy.deepcopy(part.state_dict()) for part in whole]
    train(*whole, 6, start=13)
    join(*again)
    for part, state in zip(again, states, strict=True):
        part.load_state_dict(state)
    train(*again, 6, start=13)
    assert [group["lr"] for group in again[1].param_groups] == [POLICY(19), 10 * POLICY(19)]
    torch.testing.assert_close(again[0].state_dict(), whole[0].state_dict(), rtol=0, atol=0)


def on_first_compilation_only(loader):
    """Give a loader's batches; after the first, a step that would be compiled again is an error."""
    yield loader[0]
    with torch.compiler.set_stance("fail_on_recompile"):
        yield from loader[1:]


def compiled(loader):
    return page.run("torch.compile", model=net(), loader=loader, loss_fn=nn.functional.mse_loss, policy=POLICY)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler")
def test_a_compiled_step_follows_the_policy_and_is_compiled_once():
    torch.compiler.reset()
    by_hand = net()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=1.0)
    for k, (inputs, targets) in enumerate(pairs(0, 24)):
        optimizer.param_groups[0]["lr"] = POLICY(k)
        optimizer.zero_grad()
        nn.functional.mse_loss(by_hand(inputs), targets).backward()
        optimizer.step()
    whole = compiled(on_first_compilation_only(pairs(0, 24)))
    assert whole.optimizer.param_groups[0]["lr"] == POLICY(24)
    torch.testing.assert_close(whole.model.state_dict(), by_hand.state_dict())
    half, again = compiled(pairs(0, 13)), compiled([])
    for name in ("model", "optimizer", "scheduler"):
        vars(again)[name].load_state_dict(vars(half)[name].state_dict())
    for inputs, targets in pairs(13, 24):
        again.update(inputs, targets)
        again.scheduler.step()
    torch.testing.assert_close(again.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
