"""CaffeSGD against Caffe's formula written out by hand, and against torch.optim.SGD where the two agree."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from clr.optim import SOLVERS, CaffeSGD

RATES = [0.02, 0.06, 0.1, 0.08, 0.04, 0.0, 0.02, 0.04]  # what a cyclical policy does to a rate


def model():
    """Return a small net in float64, so that differences are of formula and not of rounding."""
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    generator = torch.Generator().manual_seed(0)
    for w in net.parameters():
        nn.init.normal_(w, std=0.5, generator=generator)
    return net


def run(net, optimizer, rates, first=0):
    """Make one update a rate; the data depend on the update's number alone."""
    for k, rate in enumerate(rates, first):
        for group in optimizer.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        optimizer.zero_grad()
        x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        net(x).square().mean().backward()
        optimizer.step()
    return [w.detach() for w in net.parameters()]


def by_hand(rates, momentum, weight_decay, nesterov):
    """Caffe's update, one line for one line of its solvers, in numpy."""
    net = model()
    V = [np.zeros(w.shape) for w in net.parameters()]
    for k, rate in enumerate(rates):
        x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        gradients = torch.autograd.grad(net(x).square().mean(), list(net.parameters()))
        for i, (w, gradient) in enumerate(zip(net.parameters(), gradients, strict=True)):
            old = V[i]
            V[i] = momentum * old + rate * (gradient.numpy() + weight_decay * w.detach().numpy())
            w.data -= torch.from_numpy((1 + momentum) * V[i] - momentum * old if nesterov else V[i])
    return [w.detach() for w in net.parameters()]


def caffes_adaptive(solver, g, k, rate, momentum, h, m):
    """One line for one line of Caffe's solvers: the update, given the gradient and what is remembered of the past."""
    if solver == "Adam":
        m[:] = momentum * m + (1 - momentum) * g
        h[:] = 0.999 * h + (1 - 0.999) * g**2
        correction = math.sqrt(1 - 0.999 ** (k + 1)) / (1 - momentum ** (k + 1))
        return rate * correction * m / (np.sqrt(h) + 1e-8)
    if solver == "RMSprop":
        h[:] = 0.99 * h + (1 - 0.99) * g**2
        return rate * g / (np.sqrt(h) + 1e-8)
    if solver == "AdaGrad":
        h[:] = h + g**2
        return rate * g / (np.sqrt(h) + 1e-8)
    h[:] = momentum * h + (1 - momentum) * g**2
    step = g * np.sqrt((1e-6 + m) / (1e-6 + h))
    m[:] = momentum * m + (1 - momentum) * step**2
    return rate * step


@pytest.mark.parametrize(("solver", "momentum"), [("Adam", 0.9), ("RMSprop", 0), ("AdaGrad", 0), ("AdaDelta", 0.95)])
def test_torchs_adaptive_optimizers_are_caffes(solver, momentum):
    net, twin = model(), model()
    optimizer = SOLVERS[solver]([{"params": list(net.parameters()), "weight_decay": 0.004}], lr=0.0, momentum=momentum)
    ours = run(net, optimizer, RATES)
    past = [(np.zeros(w.shape), np.zeros(w.shape)) for w in twin.parameters()]
    for k, rate in enumerate(RATES):
        x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        gradients = torch.autograd.grad(twin(x).square().mean(), list(twin.parameters()))
        for w, gradient, (h, m) in zip(twin.parameters(), gradients, past, strict=True):
            g = gradient.numpy() + 0.004 * w.detach().numpy()
            w.data -= torch.from_numpy(caffes_adaptive(solver, g, k, rate, momentum, h, m))
    for w, expected in zip(ours, twin.parameters(), strict=True):
        # torch adds Adam's 1e-8 to a root that is already corrected for its start: up to 30 times less of it at first
        assert torch.allclose(w, expected, rtol=0, atol=1e-5 if solver == "Adam" else 1e-12)
    moved = max(float((w - first).detach().abs().max()) for w, first in zip(ours, model().parameters(), strict=True))
    assert moved > 0.001


def test_nesterov_and_sgd_are_themselves():
    for solver, nesterov in (("CaffeSGD", False), ("Nesterov", True)):
        net = model()
        ours = run(net, SOLVERS[solver](net.parameters(), lr=0.0, momentum=0.9), RATES)
        for w, expected in zip(ours, by_hand(RATES, 0.9, 0.0, nesterov), strict=True):
            assert torch.allclose(w, expected, rtol=1e-12)
    assert SOLVERS["SGD"] is torch.optim.SGD


def one_weight(optimizer, **options):
    """Return a weight of 0 with a gradient of 1, and its optimizer."""
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    w.grad = torch.ones_like(w)
    return w, optimizer([w], lr=1.0, **options)


@pytest.mark.parametrize(("optimizer", "expected"), [(CaffeSGD, -2.0), (torch.optim.SGD, -1.75)])
def test_the_velocity_remembers_the_rates_it_was_made_with(optimizer, expected):
    w, sgd = one_weight(optimizer, momentum=0.5)
    sgd.step()  # velocity 1, weight -1
    sgd.param_groups[0]["lr"] = 0.5
    sgd.step()  # Caffe: velocity 0.5 + 0.5 = 1.0; torch: 0.5 * (0.5 + 1) = 0.75
    assert w.item() == expected


def test_nesterov_looks_ahead_by_the_new_velocity():
    w, sgd = one_weight(CaffeSGD, momentum=0.5, nesterov=True)
    sgd.step()  # V 1: 1.5 * 1 - 0.5 * 0 = 1.5
    sgd.param_groups[0]["lr"] = 0.5
    sgd.step()  # V 1: 1.5 * 1 - 0.5 * 1 = 1
    assert w.item() == -2.5


@pytest.mark.parametrize("lr", [1.0, torch.tensor(1.0), torch.tensor(1.0, dtype=torch.float64)], ids=repr)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 0.0), (0.9, 0.01), (0.0, 0.01)])
def test_a_moving_rate_follows_caffes_formula(momentum, weight_decay, nesterov, lr):
    net = model()
    lr = copy.deepcopy(lr)
    ours = run(net, CaffeSGD(net.parameters(), lr, momentum, weight_decay, nesterov), RATES)
    tolerance = 1e-6 if torch.is_tensor(lr) and lr.dtype == torch.float32 else 1e-13  # the rates' own rounding
    torch.testing.assert_close(ours, by_hand(RATES, momentum, weight_decay, nesterov), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_constant_rate_is_torchs_sgd_and_a_moving_one_is_not(nesterov):
    def both(rates):
        ours, theirs = model(), model()
        options = {"lr": 1.0, "momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov}
        return (run(ours, CaffeSGD(ours.parameters(), **options), rates),
                run(theirs, torch.optim.SGD(theirs.parameters(), **options), rates))  # fmt: skip

    torch.testing.assert_close(*both([0.01] * 20), rtol=1e-12, atol=1e-12)
    ours, theirs = both([0.01] * 10 + [0.02] * 10)
    assert max((a - b).abs().max() for a, b in zip(ours, theirs, strict=True)) > 1e-3


def test_groups_keep_their_own_options_and_lr_mult_is_not_applied():
    weights = [nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(3)]
    sgd = CaffeSGD([
        {"params": weights[:1], "lr_mult": 2.0},
        {"params": weights[1:2], "lr": 0.5, "weight_decay": 1.0},
    ], lr=0.1)  # fmt: skip
    sgd.add_param_group({"params": weights[2:], "momentum": 0.0, "lr": 1.0})
    for w in weights:
        w.grad = torch.ones_like(w)
    sgd.step()
    assert [w.item() for w in weights] == [0.9, 0.0, 0.0]


def test_gradients_are_left_as_they_are_and_weights_without_one_too():
    with_gradient, without, frozen = (nn.Parameter(torch.ones(2)) for _ in range(3))
    frozen.requires_grad_(False)
    sgd = CaffeSGD([with_gradient, without, frozen], lr=0.1, weight_decay=0.1)
    with_gradient.grad = torch.tensor([1.0, 2.0])
    sgd.step()
    assert with_gradient.grad.tolist() == [1, 2]
    assert without.tolist() == frozen.tolist() == [1, 1]
    assert list(sgd.state) == [with_gradient]


def test_the_velocity_stays_where_it_is():  # as a captured CUDA graph needs
    w, sgd = one_weight(CaffeSGD)
    sgd.step()
    place = sgd.state[w]["velocity"].data_ptr()
    sgd.step()
    assert sgd.state[w]["velocity"].data_ptr() == place


def test_a_closure_is_called_once_with_gradients_on():
    w, sgd = one_weight(CaffeSGD)
    losses = []

    def closure():
        sgd.zero_grad()
        losses.append((w - 3).square().sum())
        losses[-1].backward()
        return losses[-1]

    assert sgd.step(closure) is losses[0]
    assert len(losses) == 1
    assert w.item() == 6  # 0 + 1.0 * 2 * 3


@pytest.mark.parametrize("lr", [1.0, torch.tensor(1.0)], ids=["float", "tensor"])
def test_two_half_runs_through_a_file_are_one_whole_run_bit_for_bit(lr):
    whole = model()
    expected = run(whole, CaffeSGD(whole.parameters(), copy.deepcopy(lr), weight_decay=0.01), RATES)

    first = model()
    sgd = CaffeSGD(first.parameters(), copy.deepcopy(lr), weight_decay=0.01)
    run(first, sgd, RATES[:4])
    file = io.BytesIO()
    torch.save({"net": first.state_dict(), "sgd": sgd.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    second = model()
    sgd = CaffeSGD(second.parameters(), copy.deepcopy(lr))
    second.load_state_dict(saved["net"])
    sgd.load_state_dict(saved["sgd"])
    torch.testing.assert_close(run(second, sgd, RATES[4:], first=4), expected, rtol=0, atol=0)


def test_a_pickled_optimizer_goes_on_with_its_net():
    net = model()
    sgd = CaffeSGD(net.parameters(), 1.0)
    run(net, sgd, RATES[:4])
    net_copy, sgd_copy = pickle.loads(pickle.dumps((net, sgd)))
    torch.testing.assert_close(
        run(net_copy, sgd_copy, RATES[4:], first=4), run(net, sgd, RATES[4:], first=4), rtol=0, atol=0
    )


@pytest.mark.parametrize(("options", "error", "match"), [
    ({"lr": -0.1}, ValueError, "lr must be a finite number >= 0, got -0.1"),
    ({"lr": math.nan}, ValueError, "lr must be a finite number >= 0, got nan"),
    ({"lr": math.inf}, ValueError, "lr must be a finite number >= 0, got inf"),
    ({"lr": "0.1"}, TypeError, "lr must be a number, got '0.1'"),
    ({"lr": None}, TypeError, "lr must be a number, got None"),
    ({"lr": torch.tensor([0.1, 0.2])}, TypeError, r"lr must be a number, got tensor\(\[0.1000, 0.2000\]\)"),
    ({"momentum": 1.0}, ValueError, r"momentum must be in \[0, 1\), got 1.0"),
    ({"momentum": -0.1}, ValueError, r"momentum must be in \[0, 1\), got -0.1"),
    ({"momentum": True}, TypeError, "momentum must be a number, got True"),
    ({"weight_decay": -1}, ValueError, "weight_decay must be a finite number >= 0, got -1"),
    ({"weight_decay": math.nan}, ValueError, "weight_decay must be a finite number >= 0, got nan"),
])  # fmt: skip
def test_bad_options_are_named_for_the_optimizer_and_for_a_group(options, error, match):
    w, sgd = one_weight(CaffeSGD)
    with pytest.raises(error, match=match):
        CaffeSGD([w], **{"lr": 0.1, **options})
    with pytest.raises(error, match=match):
        sgd.add_param_group({"params": [nn.Parameter(torch.ones(1))], **options})
    assert len(sgd.param_groups) == 1  # nothing was added


def test_a_group_joins_a_copied_optimizer():
    sgd = copy.deepcopy(CaffeSGD([nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.5))
    sgd.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.2})
    assert [(group["lr"], group["momentum"]) for group in sgd.param_groups] == [(0.1, 0.5), (0.2, 0.5)]
    with pytest.raises(ValueError, match="momentum must be in"):
        sgd.add_param_group({"params": [nn.Parameter(torch.ones(1))], "momentum": 1})
