"""PolicyLR in whole stories: updates, groups that join and go, states saved and loaded, against a short model."""

import copy
import pickle
import warnings

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stories import assert_finds, told
from test_schedulers import OPTIMIZERS, grouped, through_a_file, weights

from clr.groups import Groups
from clr.policies import Cosine, ExpRange, Fixed, OneCycle, Ramp, Stages, Triangular, Triangular2
from clr.schedulers import PolicyLR

POLICIES = [
    Fixed(0.25), Triangular(0.01, 0.1, 3), Triangular2(0.0, 0.1, 2), ExpRange(0.01, 0.1, 2, 0.9), Ramp(0.0, 0.7, 9),
    OneCycle(0.01, 0.1, 12), Cosine(0.3, 10, warmup=2), Stages({0: Fixed(0.1), 4: Triangular(0.01, 0.1, 2)}),
    lambda k: 1 / (1 + k),
]  # fmt: skip
rates = st.sampled_from([0.0, 0.01, 0.02, 0.5])
group_options = st.fixed_dictionaries({}, optional={"lr": rates, "lr_mult": rates, "lr_scale": rates})
momentums = st.sampled_from([None, Triangular(0.85, 0.95, 3)])
pytestmark = pytest.mark.filterwarnings("ignore:.*A policy of clr counts updates")  # a story does what it likes


class Model:
    """What must hold: update k is made with policy(k) times a group's multiplier, whatever has happened before."""

    def __init__(self, policy, momentum, groups):
        self.policy, self.momentum, self.k = policy, momentum, 0
        self.fastest = max(group["lr"] for group in groups)
        scaled = any(group.keys() & {"lr_mult", "lr_scale"} for group in groups)
        self.multipliers = [self.multiplier(group, scaled) for group in groups]

    def multiplier(self, group, scaled):
        if scaled:
            return group.get("lr_mult", 1) * group.get("lr_scale", 1)
        return group["lr"] / self.fastest if self.fastest else 1.0

    def join(self, group):
        self.multipliers.append(self.multiplier(group, group.keys() & {"lr_mult", "lr_scale"}))

    def rates(self):
        return [self.policy(self.k) * multiplier for multiplier in self.multipliers]


class Story(RuleBasedStateMachine):
    @initialize(
        kind=st.sampled_from(OPTIMIZERS), groups=st.lists(group_options, min_size=1, max_size=3),
        policy=st.sampled_from(POLICIES), momentum=momentums, tensor=st.booleans(),
    )  # fmt: skip
    def begin(self, kind, groups, policy, momentum, tensor):
        self.kind, self.tensor, self.saved, self.copied = kind, tensor, None, False
        self.groups = [{"lr": 0.5} | group for group in groups]
        has_momentum = self.made().param_groups[0].keys() & {"momentum", "betas"}
        self.model = Model(policy, momentum if has_momentum else None, self.groups)
        self.optimizer = self.made()
        self.scheduler = PolicyLR(self.optimizer, policy, self.model.momentum)
        self.joined = self.made_updates = 0  # groups whose rate nobody has looked at; updates of these objects

    def made(self):
        return self.kind([self.group(options) for options in self.groups], lr=0.5)

    def group(self, options):
        lr = torch.tensor(options["lr"], dtype=torch.float64) if self.tensor else options["lr"]
        return {"params": [weights()], **options, "lr": lr}

    @rule()
    def update(self):
        self.optimizer.step()
        assert self.rates() == self.model.rates()
        self.scheduler.step()
        self.model.k += 1
        self.made_updates, self.joined = self.made_updates + 1, 0

    @precondition(lambda self: len(self.groups) < 5)
    @rule(options=group_options)
    def join(self, options):
        self.groups.append({"lr": 0.5} | options)
        self.optimizer.add_param_group(self.group(self.groups[-1]))
        self.model.join(self.groups[-1])
        self.joined += 1

    @precondition(lambda self: len(self.groups) > 1)
    @rule(data=st.data())
    def go(self, data):
        i = data.draw(st.integers(0, len(self.groups) - 1))
        self.joined -= i >= len(self.groups) - self.joined
        self.optimizer.state.pop(self.optimizer.param_groups[i]["params"][0], None)
        for parts in (self.groups, self.optimizer.param_groups, self.model.multipliers):
            del parts[i]

    @rule()
    def save(self):
        states = self.optimizer.state_dict(), self.scheduler.state_dict()
        kept = self.model.k, list(self.model.multipliers), list(self.groups), self.joined
        self.saved = through_a_file(states), kept

    @precondition(lambda self: self.saved)
    @rule(anew=st.booleans(), optimizer_first=st.booleans())
    def load(self, anew, optimizer_first):
        (optimizer, scheduler), (k, multipliers, groups, joined) = self.saved
        if not anew and (len(groups) != len(self.groups) or (self.copied and not k)):
            return  # torch refuses the first; of the second it warns, as it cannot watch a copied optimizer
        optimizer_first |= joined > 0  # or the rate that a group came with is put back
        if anew:
            self.groups, self.model.fastest = list(groups), max(group["lr"] for group in groups)
            self.optimizer, self.copied = self.made(), False
            self.scheduler = PolicyLR(self.optimizer, self.model.policy, self.model.momentum)
        pairs = [(self.optimizer, optimizer), (self.scheduler, scheduler)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "group .* keeps lr_")  # saved by groups that have gone since
            for part, state in pairs if optimizer_first else pairs[::-1]:
                part.load_state_dict(copy.deepcopy(state))
        self.groups, self.model.k, self.model.multipliers = list(groups), k, list(multipliers)
        self.made_updates, self.joined = 0, joined

    @precondition(lambda self: self.made_updates)
    @rule(copied=st.sampled_from([copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]))
    def go_on_with_a_copy(self, copied):
        if copied is copy.deepcopy or self.model.policy in POLICIES[:-1]:  # a lambda does not pickle
            (self.optimizer, self.scheduler), self.copied = copied((self.optimizer, self.scheduler)), True

    @rule(
        state=st.sampled_from([{}, {"optimizer": 1}, None, {"last_epoch": 1, "_last_lr": [], "multipliers": [1] * 9}])
    )
    def refuse(self, state):
        with pytest.raises(ValueError, match="state_dict must be"):
            self.scheduler.load_state_dict(state)

    def rates(self):
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    @invariant()
    def the_groups_have_their_rates(self):
        settled = len(self.groups) - self.joined
        assert self.rates()[:settled] == self.model.rates()[:settled]
        assert self.scheduler.last_epoch == self.model.k
        if self.model.momentum is not None:
            for group in self.optimizer.param_groups[:settled]:
                momentum = group["momentum"] if "momentum" in group else group["betas"][0]
                assert momentum == self.model.momentum(self.model.k)


Story.TestCase.settings = told(40, 20)
TestStory = Story.TestCase


def forgets_multipliers(self):
    return {"last_epoch": self.last_epoch, "_last_lr": [], "multipliers": [1.0] * len(self.multipliers)}


def loads_one_late(self, state, load=PolicyLR.load_state_dict):
    load(self, state)
    self.last_epoch += 1


def by_place(self):
    known = len(self._remembered)
    return [i if i < known else None for i in range(len(self.optimizer.param_groups))]


def over_the_fastest_now(self, group):
    return group["lr"] / max(other["lr"] for other in self.optimizer.param_groups)


@pytest.mark.parametrize(
    ("of", "name", "fault"),
    [
        (PolicyLR, "state_dict", forgets_multipliers),
        (PolicyLR, "load_state_dict", loads_one_late),
        (PolicyLR, "_watch", lambda self: None),
        (Groups, "remembered_indices", by_place),
        (Groups, "_joining_multiplier", over_the_fastest_now),
    ],
)
def test_a_fault_is_found(monkeypatch, of, name, fault):
    monkeypatch.setattr(of, name, fault)
    assert_finds(Story)


def test_groups_that_go_take_their_own_multipliers_with_them():
    optimizer = grouped({"lr": 0.01}, {"lr": 0.04}, {"lr": 0.02})
    scheduler = PolicyLR(optimizer, Fixed(0.2))
    del optimizer.param_groups[0]
    optimizer.add_param_group({"params": [weights()], "lr_mult": 3.0})
    optimizer.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.1, 0.6])
    assert scheduler.state_dict()["multipliers"] == [1.0, 0.5, 3.0]
    optimizer.param_groups[0]["params"] = list(optimizer.param_groups[0]["params"])  # as other libraries do
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.2, 0.1, 0.6])


def test_a_copied_optimizer_gives_groups_that_join_their_rate():
    scheduler = copy.deepcopy(PolicyLR(grouped({}), Fixed(0.2)))
    scheduler.optimizer.add_param_group({"params": [weights()], "lr": 0.7, "lr_mult": 2.0})
    scheduler.optimizer.step()
    assert [group["lr"] for group in scheduler.optimizer.param_groups] == [0.2, 0.4]


def test_a_state_of_the_start_still_warns_of_a_step_out_of_order_and_a_later_one_does_not():
    scheduler = PolicyLR(grouped({}), Fixed(0.2))
    scheduler.load_state_dict(scheduler.state_dict())
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    later = PolicyLR(grouped({}), Fixed(0.2))
    later.load_state_dict(scheduler.state_dict())
    later.step()
    assert later.last_epoch == 2


def test_bounds_in_place_of_a_policy_are_told_from_other_things():
    with pytest.raises(TypeError) as caught:
        PolicyLR(grouped({}), 0.1)
    assert "bounds.policy" not in str(caught.value)
