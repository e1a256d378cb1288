"""PolicyLR on every optimizer of torch: the rates used, the groups, momentum, states, and what is refused."""

import gc
import io
import math
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from clr.groups import lr_multipliers
from clr.optim import CaffeSGD
from clr.policies import Decay, Fixed, Ramp, Stages, Triangular
from clr.schedulers import PolicyLR

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


def test_an_integer_tensor_for_a_rate_is_refused_before_anything_changes():
    optimizer = sgd(torch.tensor(1))
    with pytest.raises(TypeError, match=r"lr must be a float or a floating-point tensor, got tensor\(1\)"):
        PolicyLR(optimizer, Fixed(0.25))
    assert optimizer.param_groups[0].keys() == sgd().param_groups[0].keys()


@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)])
def test_a_group_that_joins_has_its_rate_in_its_first_update(lr):
    optimizer = sgd(lr)
    scheduler = PolicyLR(optimizer, Fixed(0.25))
    used(scheduler, 2)
    joined = nn.Parameter(torch.ones(1))
    joined.grad = torch.ones(1)
    optimizer.add_param_group({"params": [joined], "lr_mult": 2})
    optimizer.step()
    assert joined.item() == 1 - 2 * 0.25
    scheduler.step()
    assert [float(rate) for rate in scheduler.get_last_lr()] == [0.25, 0.5]


def test_a_group_that_joins_has_the_momentum_in_its_first_update():
    optimizer = sgd(momentum=0.5)
    scheduler = PolicyLR(optimizer, Fixed(0.25), momentum=Fixed(0.75))
    optimizer.add_param_group({"params": [weights()], "momentum": 0.1})
    optimizer.step()
    assert [group["momentum"] for group in scheduler.optimizer.param_groups] == [0.75, 0.75]


def test_a_group_that_joins_is_left_alone_while_another_sets_the_rates():
    optimizer = sgd()
    scheduler = PolicyLR(optimizer, Fixed(0.25))
    optimizer.add_param_group({"params": [weights()], "lr": 0.7})
    optimizer.param_groups[0]["lr"] = 0.1  # as a range test does
    optimizer.step()
    assert scheduler.optimizer.param_groups[1]["lr"] == 0.7


def test_an_optimizer_state_without_multipliers_is_warned_of_and_takes_none():
    optimizer = grouped({"lr_mult": 2}, {"lr_scale": 0.5})
    scheduler = PolicyLR(optimizer, Fixed(0.2))
    old = grouped({}, {}).state_dict()
    with pytest.warns(UserWarning, match="lacks") as caught:
        optimizer.load_state_dict(old)
    assert [str(warning.message) for warning in caught] == [
        "group 0 keeps lr_mult = 2, which the loaded optimizer state lacks",
        "group 1 keeps lr_scale = 0.5, which the loaded optimizer state lacks",
    ]
    assert {warning.filename for warning in caught} == {__file__}  # the line of the user's call
    assert PolicyLR(optimizer, Fixed(0.2)).multipliers == scheduler.multipliers == (2, 0.5)


# Stepped once an epoch.


def stepped_once_in(updates, scheduler, epochs):
    for _ in range(epochs):
        for _ in range(updates):
            scheduler.optimizer.step()
        scheduler.step()


def test_a_policy_that_is_stepped_once_an_epoch_is_warned_of_once():
    scheduler = PolicyLR(sgd(), POLICY)
    stepped_once_in(50, scheduler, 1)
    stepped_once_in(1, scheduler, 10)
    with pytest.warns(
        UserWarning, match="step\\(\\) came once in 50 updates. A policy of clr counts updates"
    ) as caught:
        stepped_once_in(50, scheduler, 1)
    assert caught[0].filename == __file__
    stepped_once_in(50, scheduler, 3)


def test_one_gap_of_fifty_updates_is_not_warned_of():
    scheduler = PolicyLR(sgd(), POLICY)
    stepped_once_in(49, scheduler, 1)
    stepped_once_in(50, scheduler, 1)


@pytest.mark.parametrize(
    ("policy", "updates"), [(POLICY, 49), (lambda epoch: 0.1, 50)], ids=["49 updates", "a function of one's own"]
)
def test_other_ways_to_step_are_not_warned_of(policy, updates):
    stepped_once_in(updates, PolicyLR(sgd(), policy), 4)


def test_a_rate_that_is_a_tensor_is_not_read_in_between():
    optimizer = torch.optim.SGD([weights()], lr=0.1)
    optimizer.add_param_group({"params": [weights()], "lr": torch.tensor(0.1)})  # only one of two
    scheduler = PolicyLR(optimizer, POLICY)
    stepped_once_in(50, scheduler, 4)  # no hint: to count, each update would wait for the device


def test_a_range_tests_updates_count_for_nothing():
    optimizer = sgd()
    scheduler = PolicyLR(optimizer, POLICY)
    for k in range(400):
        optimizer.param_groups[0]["lr"] = 1e-3 * 1.02**k
        optimizer.step()
        if k in (150, 300):
            scheduler.step()


def stepped(updates, scheduler, times=1):
    for _ in range(updates):
        scheduler.optimizer.step()
        for _ in range(times):
            scheduler.step()


@pytest.mark.parametrize("times", [2, 4, 6])
@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
def test_a_policy_that_is_stepped_once_a_batch_of_several_is_warned_of_once(rate, times):
    scheduler = PolicyLR(torch.optim.SGD([weights()], lr=rate), Triangular(0.1, 0.2, 100))
    with pytest.warns(UserWarning, match="^step.. came 10 times without an optimizer.step.. before it. ") as said:
        stepped(20, scheduler, times)
    assert len(said) == 1 and said[0].filename == __file__


def test_a_gradient_scaler_that_skips_updates_is_not_warned_of():
    scheduler = PolicyLR(sgd(), Triangular(0.1, 0.2, 100))
    stepped(10, scheduler)
    for _ in range(20):
        scheduler.step()


@pytest.mark.parametrize("policy", [Decay(0.0, 0.1, 5), Stages({0: Fixed(0.1), 5: Fixed(0.0)})], ids=["line", "stages"])
def test_training_on_at_a_rate_of_zero_is_warned_of_once(policy):
    scheduler = PolicyLR(sgd(), policy)
    stepped(5, scheduler)  # the whole policy: nothing to say
    with pytest.warns(UserWarning, match="^The rate is 0 from update 5 on, where the policy ends. A policy of") as said:
        stepped(3, scheduler)
    assert len(said) == 1


@pytest.mark.parametrize("policy", [Triangular(0.0, 0.1, 1), Ramp(0.0, 0.1, 10), lambda k: 0.0])
def test_a_rate_that_is_zero_now_and_then_or_a_function_of_ones_own_is_not_warned_of(policy):
    stepped(20, PolicyLR(sgd(), policy))


@pytest.mark.parametrize("updates", [1, 5])
def test_a_schedule_that_is_looked_at_without_updates_is_not_warned_of(updates):
    scheduler = PolicyLR(sgd(), Decay(0.0, 0.1, 5))
    stepped(updates, scheduler)  # torch itself warns of a first step without an update
    for _ in range(20 if updates == 1 else 5):
        scheduler.step()


def test_a_class_in_place_of_a_policy_is_named():
    with pytest.raises(TypeError, match=r"policy must be an object, such as Triangular\(...\), got the class"):
        PolicyLR(sgd(), Triangular)


@pytest.mark.parametrize("position", ["5", 5.0, True, None])
def test_a_state_whose_position_is_no_integer_is_named(position):
    scheduler = PolicyLR(sgd(), POLICY)
    state = scheduler.state_dict() | {"last_epoch": position}
    with pytest.raises(TypeError, match=f"state_dict must have an integer 'last_epoch', got {position!r}"):
        scheduler.load_state_dict(state)
    assert scheduler.last_epoch == 0


def test_a_state_of_another_policy_is_warned_of():
    first, second = PolicyLR(sgd(), Decay(0.0, 0.1, 10)), PolicyLR(sgd(), Decay(0.0, 0.2, 10))
    stepped(5, first)
    with pytest.warns(UserWarning, match="state_dict has the rate 0.05 at update 5, the policy 0.1: was it saved with"):
        second.load_state_dict(first.state_dict())
    assert second.get_last_lr() == [0.1]
    PolicyLR(sgd(), Decay(0.0, 0.1, 10)).load_state_dict(first.state_dict())


def test_a_scheduler_that_is_gone_is_not_kept_by_its_optimizer():
    optimizer = sgd()
    gone = weakref.ref(PolicyLR(optimizer, POLICY))
    gc.collect()
    assert gone() is None
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())


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


def multiplied(lr_mult):
    return torch.optim.SGD([{"params": [weights()], "lr_mult": lr_mult}], lr=0.5)


def test_a_rate_that_turns_bad_is_named_with_its_iteration_and_not_used():
    scheduler = PolicyLR(sgd(), lambda k: 0.1 if k < 3 else math.nan)
    used(scheduler, 2)
    with pytest.raises(ValueError, match=r"policy\(3\) must be a finite number >= 0, got nan"):
        used(scheduler, 1)
    assert scheduler.optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("value", [0.53, torch.tensor(0.53), "5"])
def test_a_metric_is_no_argument_of_step_and_changes_nothing(value):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = PolicyLR(optimizer, Triangular(0.1, 1.0, 5))
    with pytest.raises(TypeError, match=r"epoch must be an integer or None, since step\(\) takes no metric, got"):
        scheduler.step(value)
    optimizer.step()
    scheduler.step()
    assert scheduler.last_epoch == 1 and scheduler.get_last_lr() == [Triangular(0.1, 1.0, 5)(1)]
