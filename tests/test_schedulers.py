"""PolicyLR on every optimizer of torch, beside torch's own schedulers, and named pins of where CyclicLR differs."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CyclicLR, ExponentialLR, LambdaLR, OneCycleLR, SequentialLR
from torch.torch_version import TorchVersion

from clr.optim import CaffeSGD
from clr.policies import ExpRange, Fixed, Ramp, Sinusoidal, Stages, Triangular, Triangular2
from clr.schedulers import PolicyLR, lr_multipliers

POLICY = Triangular(0.01, 0.1, 4)
SPARSE_OR_OTHER = {"Optimizer", "SparseAdam", "LBFGS", "Muon"}  # Muon takes matrices only
OPTIMIZERS = [
    *(
        kind
        for name, kind in sorted(vars(torch.optim).items())
        if isinstance(kind, type) and name not in SPARSE_OR_OTHER
    ),
    CaffeSGD,
]
each_optimizer = pytest.mark.parametrize("kind", OPTIMIZERS)


def weights(*shape):
    w = nn.Parameter(torch.ones(*shape or (2, 3)))
    w.grad = torch.full_like(w, 0.1)
    return w


def sgd(lr=0.5, groups=1, **options):
    return torch.optim.SGD([{"params": [weights()]} for _ in range(groups)], lr=lr, **options)


def used(scheduler, updates):
    """Make updates, and return the rates of the first group that they were made with."""
    rates = []
    for _ in range(updates):
        rates.append(float(scheduler.optimizer.param_groups[0]["lr"]))
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# The rates that are used.


@each_optimizer
def test_every_optimizer_uses_exactly_the_policys_rates(kind):
    scheduler = PolicyLR(kind([weights()], lr=0.5), POLICY)
    assert used(scheduler, 20) == [POLICY(k) for k in range(20)]


def test_every_dense_optimizer_of_torch_is_tested():
    assert {torch.optim.SGD, torch.optim.Adam, torch.optim.Adafactor, torch.optim.Rprop} <= set(OPTIMIZERS)
    assert len(OPTIMIZERS) >= 13


@pytest.mark.parametrize("kind", [torch.optim.SparseAdam, torch.optim.LBFGS, getattr(torch.optim, "Muon", None)])
def test_the_other_optimizers_have_the_policys_rates_set(kind):
    if kind is None:
        pytest.skip("this torch has no Muon")
    scheduler = PolicyLR(kind([weights()], lr=0.5), POLICY)
    scheduler.optimizer._opt_called = True  # they take no dense gradient, or a closure
    for k in range(1, 20):
        scheduler.step()
        assert scheduler.optimizer.param_groups[0]["lr"] == POLICY(k)


def test_the_weights_are_those_of_a_rate_set_by_hand():
    scheduled, by_hand = (torch.optim.SGD([weights()], lr=0.5, momentum=0.9) for _ in range(2))
    used(PolicyLR(scheduled, POLICY), 20)
    for k in range(20):
        by_hand.param_groups[0]["lr"] = POLICY(k)
        by_hand.step()
    assert torch.equal(scheduled.param_groups[0]["params"][0], by_hand.param_groups[0]["params"][0])


@pytest.mark.parametrize("number", [float, np.float32, np.float64, torch.tensor, lambda rate: int(rate * 1000)])
def test_any_callable_of_the_iteration_is_a_policy(number):
    rates = used(PolicyLR(sgd(), lambda k: number(0.1 / (1 + k))), 5)
    assert rates == [float(number(0.1 / (1 + k))) for k in range(5)]


def test_each_group_has_its_multiple():
    optimizer = sgd(groups=3)
    optimizer.param_groups[1]["lr_mult"] = 2
    optimizer.param_groups[2]["lr_mult"] = 0
    scheduler = PolicyLR(optimizer, POLICY)
    for k in range(20):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == [POLICY(k), 2 * POLICY(k), 0] == scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()


def test_a_rate_that_is_a_tensor_is_filled_in_place():
    rate = torch.tensor(0.5, dtype=torch.float64)
    scheduler = PolicyLR(sgd(rate), POLICY)
    assert used(scheduler, 20) == [POLICY(k) for k in range(20)]
    assert scheduler.optimizer.param_groups[0]["lr"] is rate
    assert rate == POLICY(20)


def test_groups_do_not_share_one_tensor_for_their_rates():
    """torch gives the tensor it was handed to every group, where the last group's rate would be everyone's."""
    groups = [{"params": [weights()], "lr_mult": mult} for mult in (1, 2)]
    PolicyLR(optimizer := torch.optim.SGD(groups, lr=torch.tensor(0.5)), Fixed(0.25))
    assert [group["lr"].item() for group in optimizer.param_groups] == [0.25, 0.5]


def test_a_group_added_later_joins_at_the_next_step():
    optimizer = sgd()
    scheduler = PolicyLR(optimizer, POLICY)
    used(scheduler, 3)
    optimizer.add_param_group({"params": [weights()], "lr": 0.7, "lr_mult": 2})
    assert optimizer.param_groups[1]["lr"] == 0.7
    used(scheduler, 1)
    assert [group["lr"] for group in optimizer.param_groups] == [POLICY(4), 2 * POLICY(4)]
    assert scheduler.get_last_lr() == [POLICY(4), 2 * POLICY(4)]
    optimizer.add_param_group({"params": [weights()], "lr_mult": -2})
    with pytest.raises(ValueError, match="lr_mult must be a finite number >= 0, got -2"):
        used(scheduler, 1)


def grouped(*options):
    return torch.optim.SGD([{"params": [weights()], **own} for own in options], lr=0.5)


@pytest.mark.parametrize(
    ("groups", "multipliers"),
    [
        ([{}, {}], (1, 1)),
        ([{"lr": 0.01}, {"lr": 0.04}], (0.25, 1)),
        ([{"lr": 0.0}, {"lr": 0.04}], (0, 1)),
        ([{"lr": 0.0}, {"lr": 0.0}], (1, 1)),
        ([{"lr": 9.0, "initial_lr": 0.01}, {"lr": 0.04}], (0.25, 1)),
        ([{"lr": 0.01, "lr_mult": 2}, {"lr": 0.04}], (2, 1)),
        ([{"lr": 0.01, "lr_scale": 0.1}, {"lr": 0.04, "lr_mult": 3}, {"lr_mult": 3, "lr_scale": 0.5}], (0.1, 3, 1.5)),
    ],
)
def test_a_groups_multiplier_is_its_lr_mult_times_lr_scale_or_else_the_ratio_of_its_own_rate(groups, multipliers):
    assert lr_multipliers(grouped(*groups)) == multipliers
    assert PolicyLR(grouped(*groups), Fixed(0.1)).get_last_lr() == pytest.approx([0.1 * m for m in multipliers])


def test_a_second_scheduler_finds_the_ratios_that_the_first_one_found():
    optimizer = grouped({"lr": 0.01}, {"lr": 0.04})
    used(PolicyLR(optimizer, Ramp(0.0, 1.0, 8)), 3)
    assert PolicyLR(optimizer, POLICY).multipliers == (0.25, 1)


def test_a_group_that_joins_changes_no_others_multiplier():
    optimizer = grouped({"lr": 0.01}, {"lr": 0.04})
    scheduler = PolicyLR(optimizer, Fixed(0.2))
    optimizer.add_param_group({"params": [weights()], "lr": 0.08})
    optimizer.add_param_group({"params": [weights()], "lr": 0.08, "lr_mult": 3, "lr_scale": 0.5})
    used(scheduler, 1)
    assert scheduler.get_last_lr() == pytest.approx([0.05, 0.2, 0.4, 0.3])
    still = PolicyLR(sgd(lr=0.0), Fixed(0.2))
    still.optimizer.add_param_group({"params": [weights()], "lr": 0.08})
    used(still, 1)
    assert still.get_last_lr() == [0.2, 0.2]


def test_a_state_has_its_multipliers_and_one_without_keeps_those_of_construction():
    first = PolicyLR(grouped({"lr": 0.01}, {"lr": 0.04}), Fixed(0.2))
    again = PolicyLR(grouped({}, {}), Fixed(0.2))
    again.load_state_dict(through_a_file(first.state_dict()))
    assert again.get_last_lr() == [0.05, 0.2]
    again = PolicyLR(grouped({"lr": 0.02}, {"lr": 0.04}), Fixed(0.2))
    again.load_state_dict({"last_epoch": 3, "_last_lr": [0.05, 0.2]})
    assert again.get_last_lr() == [0.1, 0.2]


def test_an_integer_tensor_for_a_rate_becomes_one_that_can_hold_it():
    scheduler = PolicyLR(sgd(torch.tensor(1)), Fixed(0.25))
    assert used(scheduler, 3) == [0.25] * 3


def test_stepping_out_of_order_warns():
    scheduler = PolicyLR(sgd(), POLICY)
    with pytest.warns(UserWarning, match="Detected call of `lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`"):
        scheduler.step()


def test_asking_for_the_rates_changes_nothing():
    scheduler = PolicyLR(sgd(momentum=0.9), POLICY, momentum=Triangular(0.1, 0.2, 4))
    used(scheduler, 3)
    scheduler.optimizer.param_groups[0]["momentum"] = 0.7
    assert scheduler.get_lr() == [POLICY(3)]
    assert scheduler.optimizer.param_groups[0]["momentum"] == 0.7


# Momentum.


@each_optimizer
def test_momentum_is_left_alone(kind):
    optimizer = kind([weights()], lr=0.5)
    before = {key: optimizer.param_groups[0].get(key) for key in ("momentum", "betas")}
    used(PolicyLR(optimizer, POLICY), 10)
    assert {key: optimizer.param_groups[0].get(key) for key in ("momentum", "betas")} == before


@each_optimizer
def test_momentum_follows_its_policy_where_there_is_one(kind):
    momentum = Triangular(0.85, 0.95, 4)
    optimizer = kind([weights()], lr=0.5)
    group = optimizer.param_groups[0]
    if "momentum" not in group and "betas" not in group:
        message = f"momentum must be None, as {kind.__name__} has neither momentum nor betas, got Triangular"
        with pytest.raises(ValueError, match=message):
            PolicyLR(optimizer, POLICY, momentum)
        return
    scheduler = PolicyLR(optimizer, POLICY, momentum)
    for k in range(20):
        assert group["lr"] == POLICY(k)
        assert (group["momentum"] if "momentum" in group else group["betas"][0]) == momentum(k)
        optimizer.step()
        scheduler.step()


def test_the_second_beta_stays():
    optimizer = torch.optim.Adam([weights()], betas=(0.9, 0.98))
    PolicyLR(optimizer, POLICY, momentum=lambda k: 0.5)
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.98)


# States.


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
    again.load_state_dict(first.state_dict())
    assert used(again, 5) == [POLICY(k) for k in range(7, 12)]


def test_a_run_of_cyclic_lr_goes_on_under_a_policy():
    first = CyclicLR(sgd(), 0.01, 0.1, 4, cycle_momentum=False)
    used(first, 7)
    again = PolicyLR(sgd(), POLICY)
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


# Beside torch's own schedulers.

ignore_epoch = pytest.mark.filterwarnings("ignore:The epoch parameter")  # torch 2.6's SequentialLR uses it


def warm_up_then_policy(policy_first, **options):
    optimizer = sgd(**options)
    make = [lambda: ConstantLR(optimizer, factor=0.1, total_iters=5), lambda: PolicyLR(optimizer, POLICY)]
    made = [build() for build in (make[::-1] if policy_first else make)]
    return SequentialLR(optimizer, made[::-1] if policy_first else made, milestones=[5])


@ignore_epoch
@pytest.mark.parametrize("policy_first", [True, False], ids=["built first", "built last"])
def test_after_a_warm_up_the_policy_starts_at_zero(policy_first):
    rates = used(warm_up_then_policy(policy_first, momentum=0.95), 25)
    assert rates == [0.05] * 5 + [POLICY(k) for k in range(20)]


@ignore_epoch
def test_a_policy_hands_over_to_a_scheduler_and_to_a_policy():
    optimizer = sgd()
    schedulers = [PolicyLR(optimizer, POLICY), PolicyLR(optimizer, Fixed(0.3)), ExponentialLR(optimizer, 0.5)]
    rates = used(SequentialLR(optimizer, schedulers, milestones=[8, 10]), 13)
    assert rates[:10] == [POLICY(k) for k in range(8)] + [0.3] * 2
    assert rates[11:] == [rates[10] * 0.5, rates[10] * 0.25]


@ignore_epoch
@pytest.mark.parametrize("lr", [0.5, POLICY(0)])
@pytest.mark.parametrize("optimizer_last", [True, False])
@pytest.mark.parametrize("half", [0, 3, 5, 12])
def test_a_sequence_resumes_wherever_it_was_cut(half, optimizer_last, lr):
    """The states of the schedulers that are not at work must not set rates when they are loaded."""

    def sequence():
        optimizer = sgd(lr)
        schedulers = [ConstantLR(optimizer, 1, 5), PolicyLR(optimizer, POLICY), ExponentialLR(optimizer, 0.5)]
        return SequentialLR(optimizer, schedulers, milestones=[5, 10])

    whole, first, again = sequence(), sequence(), sequence()
    rates = used(first, half)
    loads = [(again.optimizer, first.optimizer), (again, first)]
    for new, old in loads[::-1] if optimizer_last else loads:
        new.load_state_dict(through_a_file(old.state_dict()))
    assert rates + used(again, 20 - half) == used(whole, 20)


@ignore_epoch
def test_momentum_joins_in_at_the_milestone():
    optimizer, momentum = sgd(momentum=0.95), Triangular(0.85, 0.95, 4)
    schedulers = [PolicyLR(optimizer, Fixed(0.1), lambda k: 0.5), PolicyLR(optimizer, POLICY, momentum)]
    sequence = SequentialLR(optimizer, schedulers, milestones=[3])
    momenta = []
    for _ in range(8):
        momenta.append(optimizer.param_groups[0]["momentum"])
        used(sequence, 1)
    assert momenta == [0.5] * 3 + [momentum(k) for k in range(5)]


def test_lambda_lr_at_rate_one_is_the_same():
    assert used(PolicyLR(sgd(), POLICY), 20) == used(LambdaLR(sgd(lr=1.0), POLICY), 20)


@pytest.mark.parametrize(("kind", "anneal"), [(Triangular, "linear"), (Sinusoidal, "cos")])
def test_one_cycle_lr_is_one_cycle_and_a_ramp(kind, anneal):
    size, total = 10, 50
    options = {"total_steps": total, "pct_start": (size + 1) / total, "anneal_strategy": anneal, "three_phase": True}
    one = OneCycleLR(sgd(momentum=0.9), 0.1, div_factor=10, base_momentum=0.85, max_momentum=0.95, **options)
    policy = kind(0.01, 0.1, size)
    ours = PolicyLR(sgd(momentum=0.9), policy, momentum=lambda k: 1.8 - kind(0.85, 0.95, size)(k))
    for _ in range(2 * size + 1):
        for key in ("lr", "momentum"):
            assert ours.optimizer.param_groups[0][key] == pytest.approx(one.optimizer.param_groups[0][key], rel=1e-12)
        used(one, 1), used(ours, 1)


def test_one_cycle_lr_ends_as_stages_do():
    size, total = 10, 50
    one = OneCycleLR(
        *(sgd(), 0.1, total),
        div_factor=10,
        final_div_factor=100,
        pct_start=(size + 1) / total,
        anneal_strategy="linear",
        three_phase=True,
        cycle_momentum=False,
    )
    end = Ramp(0.01, 0.0001, total - 1 - 2 * size)
    rates = [PolicyLR(sgd(), Stages({0: Triangular(0.01, 0.1, size), 2 * size: end})).policy(k) for k in range(total)]
    assert rates == pytest.approx(used_until(one, total), rel=1e-12)


def used_until(scheduler, total):
    """As `used`, but without the step that OneCycleLR does not have."""
    return [*used(scheduler, total - 1), scheduler.optimizer.param_groups[0]["lr"]]


# What is refused.


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: PolicyLR(nn.Linear(1, 1), POLICY),
            TypeError,
            r"optimizer must be a torch.optim.Optimizer, got Linear\(",
        ),
        (lambda: PolicyLR(sgd(), 0.1), TypeError, "policy must be a policy or a callable of the iteration, got 0.1"),
        (lambda: PolicyLR(sgd(), None), TypeError, "policy must be a policy or a callable of the iteration, got None"),
        (lambda: PolicyLR(sgd(), POLICY, 0.9), TypeError, "momentum must be a policy or a callable .*, got 0.9"),
        (lambda: PolicyLR(sgd(), POLICY, 0.0), TypeError, "momentum must be a policy or a callable .*, got 0.0"),
        (lambda: PolicyLR(sgd(), POLICY, lambda k: 1.0), ValueError, r"momentum\(0\) must be < 1, got 1.0"),
        (lambda: PolicyLR(sgd(), POLICY, lambda k: -0.1), ValueError, r"momentum\(0\) must be a finite .* got -0.1"),
        (lambda: PolicyLR(sgd(), lambda k: math.nan), ValueError, r"policy\(0\) must be a finite number >= 0, got nan"),
        (lambda: PolicyLR(sgd(), lambda k: math.inf), ValueError, r"policy\(0\) must be a finite number >= 0, got inf"),
        (lambda: PolicyLR(sgd(), lambda k: -0.1), ValueError, r"policy\(0\) must be a finite number >= 0, got -0.1"),
        (lambda: PolicyLR(sgd(), lambda k: "0.1"), TypeError, r"policy\(0\) must be a number, got '0.1'"),
        (lambda: PolicyLR(sgd(), lambda k: None), TypeError, r"policy\(0\) must be a number, got None"),
        (lambda: PolicyLR(sgd(), lambda k: np.ones(2)), TypeError, r"policy\(0\) must be a number, got array\("),
        (lambda: PolicyLR(sgd(), lambda k: torch.ones(2)), TypeError, r"policy\(0\) must be a number, got tensor\("),
        (lambda: PolicyLR(multiplied(-1), POLICY), ValueError, "lr_mult must be a finite number >= 0, got -1"),
        (lambda: PolicyLR(multiplied("2"), POLICY), TypeError, "lr_mult must be a number, got '2'"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"optimizer": 1}, "state_dict must be a scheduler's, with 'last_epoch' and '_last_lr', got 'optimizer'"),
        (5, "state_dict must be a scheduler's, with 'last_epoch' and '_last_lr', got 5"),
        ({"last_epoch": 1, "_last_lr": [], "multipliers": [1, 1]}, "state_dict must be of 1 groups, .*, got 2"),
    ],
)
def test_a_state_of_something_else_is_refused(state, message):
    with pytest.raises(ValueError, match=message):
        PolicyLR(sgd(), POLICY).load_state_dict(state)


def multiplied(lr_mult):
    return torch.optim.SGD([{"params": [weights()], "lr_mult": lr_mult}], lr=0.5)


def test_a_rate_that_turns_bad_is_named_with_its_iteration_and_not_used():
    scheduler = PolicyLR(sgd(), lambda k: 0.1 if k < 3 else math.nan)
    used(scheduler, 2)
    with pytest.raises(ValueError, match=r"policy\(3\) must be a finite number >= 0, got nan"):
        used(scheduler, 1)
    assert scheduler.optimizer.param_groups[0]["lr"] == 0.1


# torch's CyclicLR, pinned where it differs.


def test_pin_torch_changes_the_momentum_unasked():
    for momentum in (0.0, 0.95):
        torchs, ours = sgd(momentum=momentum), sgd(momentum=momentum)
        used(CyclicLR(torchs, 0.01, 0.1, 4), 4)
        used(PolicyLR(ours, POLICY), 4)
        assert torchs.param_groups[0]["momentum"] == pytest.approx(0.8)
        assert ours.param_groups[0]["momentum"] == momentum


def test_pin_torch_refuses_optimizers_without_momentum():
    with pytest.raises(ValueError, match="optimizer must support momentum"):
        CyclicLR(torch.optim.Adagrad([weights()]), 0.01, 0.1, 4)
    PolicyLR(torch.optim.Adagrad([weights()]), POLICY)


def test_pin_torchs_first_rate_of_a_resume_is_another():
    optimizer = sgd(lr=0.5)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    resumed = CyclicLR(optimizer, 0.01, 0.1, 5, cycle_momentum=False, last_epoch=3)
    assert used(resumed, 2) == pytest.approx(
        [0.18, 0.1]
    )  # the first should be 0.082: between 0.01 and 0.1, not 0.5 and 0.1
    ours = PolicyLR(sgd(lr=0.5), Triangular(0.01, 0.1, 5))
    ours.load_state_dict({"last_epoch": 4, "_last_lr": [0.5]})
    assert used(ours, 2) == pytest.approx([0.082, 0.1])


def test_pin_torchs_first_rate_is_anothers_where_there_was_a_scheduler_before():
    optimizer = sgd(lr=0.5)
    ConstantLR(optimizer, factor=1)
    assert used(CyclicLR(optimizer, 0.01, 0.1, 4, cycle_momentum=False), 1) == [0.5]
    assert used(PolicyLR(optimizer, POLICY), 1) == [0.01]


def test_pin_torchs_loading_leaves_the_optimizer_as_it_was():
    first = CyclicLR(sgd(), 0.01, 0.1, 4, cycle_momentum=False)
    used(first, 2)
    again = CyclicLR(sgd(), 0.01, 0.1, 4, cycle_momentum=False)
    again.load_state_dict(first.state_dict())
    assert again.get_last_lr() == [pytest.approx(0.055)]
    assert again.optimizer.param_groups[0]["lr"] == 0.01


def test_pin_torchs_loading_overwrites_the_bounds_and_empties_its_argument():
    first = CyclicLR(sgd(), 0.01, 0.1, 4, cycle_momentum=False)
    again = CyclicLR(sgd(), 0.01, 0.9, 4, cycle_momentum=False)
    again.load_state_dict(state := first.state_dict())
    assert again.max_lrs == [0.1]
    with pytest.raises(KeyError, match="_scale_fn_custom"):
        again.load_state_dict(state)


@pytest.mark.skipif(TorchVersion(torch.__version__) < "2.11", reason="older torch leaves the group out in silence")
def test_pin_torch_takes_no_group_after_it_was_made():
    scheduler = CyclicLR(sgd(), 0.01, 0.1, 4, cycle_momentum=False)
    scheduler.optimizer.add_param_group({"params": [weights()], "lr": 0.7})
    with pytest.raises(ValueError, match="zip"):
        used(scheduler, 1)


@ignore_epoch
def test_pin_torchs_sequence_depends_on_what_was_built_first():
    def sequence(cyclic_first):
        optimizer = sgd(lr=0.1)
        make = [
            lambda: ConstantLR(optimizer, factor=0.1, total_iters=5),
            lambda: CyclicLR(optimizer, 0.01, 0.1, 4, cycle_momentum=False),
        ]
        made = [build() for build in (make[::-1] if cyclic_first else make)]
        return SequentialLR(optimizer, made[::-1] if cyclic_first else made, milestones=[5])

    assert used(sequence(False), 1) == pytest.approx([0.01])
    assert used(sequence(True), 1) == pytest.approx([0.001])


def test_pin_torchs_window_of_ones_own_does_not_pickle():
    def scheduler():
        return CyclicLR(sgd(), 0.01, 0.1, 4, cycle_momentum=False, scale_fn=lambda cycle: 0.5)

    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(scheduler())
    assert scheduler().state_dict()["_scale_fn_custom"] is None
    assert pickle.loads(pickle.dumps(PolicyLR(sgd(), Triangular2(0.01, 0.1, 4)))).policy == Triangular2(0.01, 0.1, 4)
