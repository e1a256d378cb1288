"""PolicyLR's state: saved, loaded, copied, and two half runs that are one whole run bit for bit."""

import copy
import pickle

import pytest
import torch
from test_schedulers import POLICY, each_optimizer, grouped, sgd, through_a_file, used
from torch import nn
from torch.optim.lr_scheduler import CyclicLR

from clr.policies import ExpRange, Fixed, Triangular
from clr.schedulers import PolicyLR


def trained(kind, momentum, updates, cut=None):
    """Train a small net; at iteration `cut`, save everything and go on with new objects that load it."""
    net, optimizer, scheduler = parts(kind, momentum)
    for k in range(updates):
        if k == cut:
            states = through_a_file([part.state_dict() for part in (net, optimizer, scheduler)])
            net, optimizer, scheduler = parts(kind, momentum)
            for part, state in zip((net, optimizer, scheduler), states, strict=True):
                part.load_state_dict(state)
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(k))
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
        scheduler.step()
    return net.state_dict(), optimizer.state_dict(), scheduler.state_dict()


def parts(kind, momentum):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = kind([{"params": [net.weight]}, {"params": [net.bias], "lr_mult": 2}], lr=0.5)
    has_momentum = optimizer.param_groups[0].keys() & {"momentum", "betas"}
    policy = ExpRange(0.001, 0.01, 7, 0.99)
    return net, optimizer, PolicyLR(optimizer, policy, momentum if has_momentum else None)


@pytest.mark.parametrize("momentum", [None, Triangular(0.85, 0.95, 5)], ids=["momentum alone", "momentum cycled"])
@each_optimizer
def test_two_half_runs_are_one_whole_run_bit_for_bit(kind, momentum):
    whole, halves = trained(kind, momentum, 30), trained(kind, momentum, 30, cut=15)
    for one, other in zip(whole, halves, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("tensor", [False, True])
def test_loading_sets_rate_and_momentum_at_once_and_leaves_its_argument_alone(tensor):
    momentum = Triangular(0.85, 0.95, 4)
    first = PolicyLR(sgd(momentum=0.9, groups=2), POLICY, momentum)
    used(first, 7)
    state = first.state_dict()
    before = copy.deepcopy(state)
    rate = torch.tensor(0.5, dtype=torch.float64) if tensor else 0.5
    again = PolicyLR(sgd(rate, momentum=0.9, groups=2), POLICY, momentum)
    for _ in range(2):  # a second time, too
        again.load_state_dict(state)
        assert state == before
        assert [float(group["lr"]) for group in again.optimizer.param_groups] == [POLICY(7)] * 2
        assert [group["momentum"] for group in again.optimizer.param_groups] == [momentum(7)] * 2
        assert again.get_last_lr() == [POLICY(7)] * 2
        assert again.last_epoch == 7
    assert used(again, 5) == [POLICY(k) for k in range(7, 12)]


def test_the_state_is_the_position_the_last_rates_and_the_multipliers():
    scheduler = PolicyLR(sgd(torch.tensor(0.5)), lambda k: Fixed(0.25)(k))
    used(scheduler, 7)
    assert scheduler.state_dict() == {"last_epoch": 7, "_last_lr": [0.25], "multipliers": [1.0]}
    assert type(scheduler.state_dict()["_last_lr"][0]) is float
    assert through_a_file(scheduler.state_dict()) == scheduler.state_dict()


def test_a_resume_keeps_the_policy_that_it_was_given():
    first = PolicyLR(sgd(), Fixed(0.1))
    used(first, 7)
    again = PolicyLR(sgd(), POLICY)
    with pytest.warns(UserWarning, match="state_dict has the rate 0.1 at update 7, the policy .*: was it saved with"):
        again.load_state_dict(first.state_dict())
    assert used(again, 5) == [POLICY(k) for k in range(7, 12)]


def test_a_run_of_cyclic_lr_goes_on_under_a_policy():
    first = CyclicLR(sgd(), 0.01, 0.1, 4, cycle_momentum=False)
    used(first, 7)
    again = PolicyLR(sgd(), POLICY)
    with pytest.warns(UserWarning, match="lacks 'multipliers': it is another scheduler's, whose position counts as"):
        again.load_state_dict(first.state_dict())
    assert used(again, 5) == [POLICY(k) for k in range(7, 12)]


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_a_scheduler_pickles_with_its_optimizer(copied):
    scheduler = PolicyLR(sgd(momentum=0.9), POLICY, momentum=Triangular(0.85, 0.95, 4))
    used(scheduler, 7)
    again = copied(scheduler)
    assert again.optimizer is not scheduler.optimizer
    assert (again.policy, again.momentum) == (scheduler.policy, scheduler.momentum)
    assert used(again, 5) == used(scheduler, 5) == [POLICY(k) for k in range(7, 12)]


def test_a_state_has_its_multipliers_and_one_without_keeps_those_of_construction():
    first = PolicyLR(grouped({"lr": 0.01}, {"lr": 0.04}), Fixed(0.2))
    again = PolicyLR(grouped({}, {}), Fixed(0.2))
    again.load_state_dict(through_a_file(first.state_dict()))
    assert again.get_last_lr() == [0.05, 0.2]
    again = PolicyLR(grouped({"lr": 0.02}, {"lr": 0.04}), Fixed(0.2))
    with pytest.warns(UserWarning, match="lacks 'multipliers'"):
        again.load_state_dict({"last_epoch": 3, "_last_lr": [0.05, 0.2]})
    assert again.get_last_lr() == [0.1, 0.2]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"optimizer": 1}, "state_dict must be a scheduler's, with 'last_epoch' and '_last_lr', got .'optimizer'"),
        (5, "state_dict must be a scheduler's, with 'last_epoch' and '_last_lr', got 5"),
        (dict.fromkeys(map(str, range(1000))), r"state_dict must be a scheduler's, .*, got \['0', .*'999'\]"),
        ({"last_epoch": 1, "_last_lr": [], "multipliers": [1, 1]}, "state_dict must be of 1 groups, .*, got 2"),
        ({"last_epoch": 1, "_last_lr": [], "multipliers": 1}, "state_dict must have a list of 'multipliers', got 1"),
    ],
)
def test_a_state_of_something_else_is_refused_and_changes_nothing(state, message):
    scheduler = PolicyLR(sgd(), POLICY)
    used(scheduler, 3)
    before = scheduler.state_dict()
    with pytest.raises((TypeError, ValueError), match=message) as raised:
        scheduler.load_state_dict(state)
    assert scheduler.state_dict() == before and len(str(raised.value)) < 500
