"""PolicyLR in Accelerate's loop, with accumulated gradients, on one process and on two of this machine."""

import copy
import os
import socket

import page
import pytest
import torch
from processes import on_two
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, TensorDataset

import clr

accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")

POLICY = clr.Triangular(0.01, 0.1, 5)


def net():
    torch.manual_seed(0)
    return nn.Linear(4, 2)


def trained(start, stop, processes):
    """Make the updates from start to stop, each of four batches of two examples on every process."""
    values = torch.randn(12, 4 * 2 * processes, 6, generator=torch.Generator().manual_seed(1))[start:stop].flatten(0, 1)
    loader = DataLoader(TensorDataset(values[:, :4], values[:, 4:]), batch_size=2)
    names = {"model": net(), "loader": loader, "loss_fn": nn.functional.mse_loss, "policy": POLICY}
    after = page.run("Accelerate", **names)
    return after.accelerator.unwrap_model(after.model).state_dict()


def whole_and_halves(folder, processes):
    """Return the weights of one run, and of two with a checkpoint between."""
    for name in ("whole", "halves"):
        (folder / name).mkdir(exist_ok=True)
    os.chdir(folder / "whole")
    whole = trained(0, 12, processes)
    os.chdir(folder / "halves")
    trained(0, 7, processes)
    return whole, trained(7, 12, processes)


def test_accumulated_gradients_are_one_step_of_the_policy_and_a_resume_changes_nothing(rates, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # and back, afterwards
    whole, halves = whole_and_halves(tmp_path, processes=1)
    assert rates == [POLICY(k) for k in range(12)] * 2
    torch.testing.assert_close(halves, whole, rtol=0, atol=0)


def test_find_bounds_puts_the_prepared_optimizer_back(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    inner = torch.optim.SGD((model := net()).parameters(), lr=0.1, momentum=0.9)
    values = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(values[:, :4], 3 * values[:, :2]), batch_size=4, shuffle=True)
    model, optimizer, loader = accelerate.Accelerator().prepare(model, inner, loader)
    before = copy.deepcopy([inner.state_dict(), model.state_dict()])
    found = clr.find_bounds(model, optimizer, nn.functional.mse_loss, loader, loader, accumulation_steps=4)
    assert found.n_curves == 5
    torch.testing.assert_close([inner.state_dict(), model.state_dict()], before, rtol=0, atol=0)


def process(rank, folder, port):
    """Train as above; then under Accelerate's default; leave rates and weights in a file."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    rates = []
    register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    whole, halves = whole_and_halves(folder, processes=2)
    optimizer = torch.optim.SGD(net().parameters(), lr=1.0)
    optimizer, scheduler = accelerate.Accelerator().prepare(optimizer, clr.PolicyLR(optimizer, POLICY))
    for _ in range(12):
        optimizer.step()
        scheduler.step()
    torch.save([rates, whole, halves], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_on_two_processes_too_where_the_default_is_two_steps_an_update(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (rates, whole, halves), other = on_two(process, tmp_path, port)
    assert rates == [POLICY(k) for k in range(12)] * 2 + [POLICY(2 * k) for k in range(12)]
    torch.testing.assert_close([rates, whole, halves], other, rtol=0, atol=0)
    torch.testing.assert_close(halves, whole, rtol=0, atol=0)
