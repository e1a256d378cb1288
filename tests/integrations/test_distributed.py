"""DistributedDataParallel on two processes of this machine, with gloo."""

import page
import pytest
import torch
from processes import on_two
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import clr

POLICY = clr.Triangular(0.01, 0.1, 5)
needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="this torch has no gloo"
)


def net():
    torch.manual_seed(0)
    return nn.Linear(4, 2)


def train(model, optimizer, scheduler, start, stop, rank=slice(None)):
    """Make updates on a process's half of each batch, or on all of it."""
    for k in range(start, stop):
        values = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(k))[rank]
        optimizer.zero_grad()
        nn.functional.mse_loss(model(values[..., :4]), values[..., 4:]).backward()
        optimizer.step()
        scheduler.step()


def parts():
    after = page.run("DistributedDataParallel", model=net(), policy=POLICY)
    return after.model, after.optimizer, after.scheduler


def process(rank, folder):
    """Train in one run, and in two with a checkpoint between; leave the rates and the weights in a file."""
    rates = []
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    whole, half, again = parts(), parts(), parts()
    train(*whole, 0, 24, rank)
    train(*half, 0, 13, rank)
    if rank == 0:
        torch.save([part.state_dict() for part in half], folder / "checkpoint.pt")
    torch.distributed.barrier()
    for part, state in zip(again, torch.load(folder / "checkpoint.pt"), strict=True):
        part.load_state_dict(state)
    train(*again, 13, 24, rank)
    torch.save([rates, whole[0].module.state_dict(), again[0].module.state_dict()], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@needs_gloo
def test_every_process_has_the_policys_rates_and_resumes_bit_for_bit(tmp_path):
    (rates, whole, halves), other = on_two(process, tmp_path)
    assert rates == [POLICY(k) for k in range(24)] * 2
    torch.testing.assert_close([rates, whole, halves], other, rtol=0, atol=0)
    torch.testing.assert_close(whole, halves, rtol=0, atol=0)
    alone = net()
    optimizer = torch.optim.SGD(alone.parameters(), lr=1.0, momentum=0.9)
    train(alone, optimizer, clr.PolicyLR(optimizer, POLICY), 0, 24)
    torch.testing.assert_close(whole, alone.state_dict())


def range_test_process(rank, folder):
    """Train after a range test on a process's own batches, which stop at other rates alone, and without one."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.save([trained_after(rank, tests) for tests in (True, False)], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def trained_after(rank, tests):
    """Return the curve of a range test, if it is made, and the weights after three updates."""
    random = torch.Generator().manual_seed(rank)
    batches = [(torch.randn(8, 4, generator=random), torch.randint(2, (8,), generator=random)) for _ in range(8)]
    model = nn.parallel.DistributedDataParallel(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    frame = None
    if tests:
        test = clr.lr_range_test(
            model, optimizer, nn.functional.cross_entropy, batches[:6], batches[6:], start_lr=1e-3, end_lr=1e3,
            spacing="exponential", iterations=60, progress=False,
        )  # fmt: skip
        frame = test.frame.to_numpy().tolist()
    for inputs, targets in batches[:3]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return frame, model.module.state_dict()


@needs_gloo
def test_all_processes_see_one_range_test_and_train_on_as_without_it(tmp_path):
    one, other = on_two(range_test_process, tmp_path)
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    (frame, weights), (_, without) = one
    assert len(frame) < 61
    torch.testing.assert_close(weights, without, rtol=0, atol=0)


def find_bounds_process(rank, folder):
    """Find the bounds of a regression on a process's own batches, whose targets have a mean of their own."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    random = torch.Generator().manual_seed(rank)
    inputs = [torch.randn(16, 4, generator=random) for _ in range(8)]
    batches = [(values, values[:, :2] + 5 + rank) for values in inputs]
    model = nn.parallel.DistributedDataParallel(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bounds = clr.find_bounds(model, optimizer, nn.functional.mse_loss, batches[:6], batches[6:], seeds=1, iterations=40)
    torch.save([bounds.verdict, bounds.peak_lr("linear"), bounds.tests[0].constant_loss], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@needs_gloo
def test_all_processes_find_the_same_bounds(tmp_path):
    one, other = on_two(find_bounds_process, tmp_path)
    assert one == other and one[1] > 0 and one[2] > 0 and "Standardize the targets" in one[0]
