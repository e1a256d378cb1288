"""PolicyLR beside torch's own schedulers, and named pins of where torch's CyclicLR differs."""

import pickle

import pytest
import torch
from test_schedulers import POLICY, sgd, through_a_file, used, weights
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    OneCycleLR,
    SequentialLR,
)
from torch.torch_version import TorchVersion

from clr.policies import Fixed, Ramp, Sinusoidal, Stages, Triangular, Triangular2
from clr.schedulers import PolicyLR

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


def test_in_a_chain_the_policy_replaces_what_comes_before_and_is_where_the_next_starts():
    optimizer = sgd()
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.5), PolicyLR(optimizer, POLICY)])
    assert used(chain, 20) == [POLICY(k) for k in range(20)]
    optimizer = sgd()
    chain = ChainedScheduler([PolicyLR(optimizer, POLICY), ExponentialLR(optimizer, 0.5)])
    assert used(chain, 20) == [POLICY(0)] + [POLICY(k) * 0.5 for k in range(1, 20)]


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
    with pytest.warns(UserWarning, match="lacks 'multipliers'"):
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
