"""What `find_bounds` does between its arguments and its curves: the range, the scouts, the batches it looks at."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import clr
from clr.range_test import find as module
from clr.range_test.find import _Search

BELOW = 10**2.75  # from where training fails to the lowest rate of a curve
PARTS = [(torch.randn(4, 2, generator=torch.Generator().manual_seed(i)), torch.arange(4) % 2) for i in range(40)]
RANGE = {"start_lr": 1e-5, "end_lr": 1e-2}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


def net(lr=0.1):
    model = nn.Sequential(nn.Linear(2, 2))
    return model, torch.optim.SGD(model.parameters(), lr=lr)


def searching(model=None, optimizer=None, val=PARTS[30:]):
    if model is None:
        model, optimizer = net()
    rest = {"loss_fn": F.cross_entropy, "train_loader": PARTS[:30], "val_loader": val, "scaler": None, "metric": None}
    return _Search(model, optimizer, rest | {"forward": module.default_forward})


def found(**options):
    return clr.find_bounds(*net(), F.cross_entropy, PARTS[:30], PARTS[30:], **{"iterations": 20, "seeds": 2} | options)


# The range.


@pytest.fixture
def failing_at(monkeypatch):
    """Let the scouts find that training fails at a rate; failing_at(rate) gives the list of what they looked at."""

    def failing_at(rate):
        looked = []
        monkeypatch.setattr(module, "landmark", lambda scouts, width: looked.append((scouts, width)) or rate)
        monkeypatch.setattr(_Search, "scout", lambda self, rates, seed: [float(seed)] * len(rates))
        return looked

    return failing_at


@pytest.mark.parametrize(
    ("start", "end", "fails", "expected"),
    [
        (None, None, 0.1, (0.1 / BELOW, 1.0)),  # ten times beyond
        (None, None, np.nan, (1e-7, 10.0)),  # nothing clear: all that the scouts looked at
        (1e-5, None, 0.1, (1e-5, 1.0)),
        (0.5, None, 0.1, (0.5, 0.5 * BELOW)),  # a start beyond all that was found
        (None, 1.0, 0.1, (0.1 / BELOW, 1.0)),
        (None, 1e-4, 0.1, (1e-4 / BELOW, 1e-4)),  # an end before it
        (None, 5.0, np.nan, (1e-7, 5.0)),
    ],
)
def test_the_range_is_the_decades_around_where_training_fails(failing_at, start, end, fails, expected):
    looked = failing_at(fails)
    ramp = searching().ramp(start, end, 30, 3)
    assert (ramp.start_lr, ramp.end_lr) == pytest.approx(expected)
    assert (ramp.iterations, ramp.spacing) == (30, "exponential")
    ((scouts, width),) = looked
    assert [losses[0] for _, losses in scouts] == [0, 1, 2] and width == 0.2
    rates = np.array(scouts[0][0])
    assert len(rates) == 40 and rates[0] == 1e-7 and rates[-1] * rates[-1] / rates[-2] == pytest.approx(10)


def test_a_range_that_is_given_whole_needs_no_scouts(failing_at):
    looked = failing_at(0.1)
    ramp = searching().ramp(1e-4, 1e-3, 30, 3)
    assert (ramp.start_lr, ramp.end_lr) == (1e-4, 1e-3) and not looked


@pytest.mark.parametrize(("start", "end"), [(0.1, 0.1), (0.2, 0.1), (0.0, 0.1), (None, 0.0), (0.0, None)])
def test_a_range_rises_from_above_nought(failing_at, start, end):
    failing_at(0.1)
    with pytest.raises(ValueError, match="end_lr must be greater than start_lr > 0, got"):
        searching().ramp(start, end, 30, 1)


@pytest.mark.parametrize(("start", "end", "name"), [(-1.0, 0.1, "start_lr"), (0.1, -1.0, "end_lr")])
def test_an_end_of_the_range_that_is_negative_is_named(start, end, name):
    with pytest.raises(ValueError, match=f"{name} must be a finite number >= 0, got -1.0"):
        searching().ramp(start, end, 30, 1)


def test_a_scout_trains_at_each_rate_once_and_is_forgotten():
    model, optimizer = net()
    before, rates = model[0].weight.tolist(), []
    optimizer.register_step_pre_hook(lambda opt, *_: rates.append(opt.param_groups[0]["lr"]))
    losses = searching(model, optimizer).scout([0.25, 0.5, 1.0], seed=0)
    assert rates == [0.25, 0.5, 1.0] and len(losses) == 3 and len(set(losses)) == 3
    assert model[0].weight.tolist() == before


# The curves.


def test_a_model_in_eval_mode_is_trained_in_train_mode_and_evaluated_in_eval_mode():
    model, optimizer = net()
    modes = []
    model.register_forward_pre_hook(lambda *_: modes.append((model.training, torch.is_grad_enabled())))
    clr.find_bounds(model.eval(), optimizer, F.cross_entropy, PARTS[:30], PARTS[30:], iterations=10, seeds=1, **RANGE)
    assert set(modes) == {(True, True), (False, False)} and not model.training


def test_seeds_are_those_of_the_random_numbers_in_training():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"iterations": 20, "seeds": 2, **RANGE}
    bounds = clr.find_bounds(model, optimizer, F.cross_entropy, PARTS[:30], PARTS[30:], **options)
    assert [test.seed for test in bounds.tests] == [0, 1]
    assert bounds.tests[0].losses != bounds.tests[1].losses
    alone = clr.lr_range_test(
        model, optimizer, F.cross_entropy, PARTS[:30], PARTS[30:], seed=1, iterations=20, spacing="exponential",
        progress=False, **RANGE,
    )  # fmt: skip
    assert alone.losses == bounds.tests[1].losses


def test_an_evaluation_looks_at_as_many_examples_as_were_trained_on_since_the_last():
    (test,) = found(seeds=1, iterations=100, **RANGE).tests
    assert test.examples == 2 * 4 and len(test.frame) == 1 + 50 and test.metric_name == "accuracy"


class Watched:
    """A loader that notes each pass."""

    def __init__(self, batches, passes):
        self.batches, self.passes = batches, lambda: passes.append(1)

    def __iter__(self):
        self.passes()
        return iter(self.batches)


def test_val_loader_is_drawn_from_once_for_all_seeds():
    passes = []
    options = {"iterations": 20, "seeds": 3, **RANGE}
    bounds = clr.find_bounds(*net(), F.cross_entropy, PARTS[:30], Watched(PARTS[30:], passes), **options)
    assert len(passes) == 1 and [test.metric_name for test in bounds.tests] == ["accuracy"] * 3
    assert all(test.held_out for test in bounds.tests)


def test_without_val_loader_each_seed_holds_out_batches_of_its_own():
    search = searching(val=None)
    search.run_seed(search.ramp(1e-5, 1e-2, 10, 1), 0, lambda seed, row: None)
    assert search.held_out is None
    search = searching()
    search.run_seed(search.ramp(1e-5, 1e-2, 10, 1), 0, lambda seed, row: None)
    assert len(search.held_out) == 1 and search.metric_name == "accuracy"


def test_each_row_each_curve_and_the_bounds_are_shown_as_they_come(monkeypatch):
    shown = []

    class Shown:
        def __init__(self, iterations, seeds):
            shown.append(("begin", iterations, seeds))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            shown.append("end")

        def row(self, seed, row):
            shown.append((seed, row[0]))

        def finish_curve(self, tests):
            shown.append(f"curve {len(tests)}")

        def finish(self, bounds):
            shown.append(bounds)

    monkeypatch.setattr(module, "Progress", Shown)
    bounds = found(iterations=10, seeds=2, **RANGE)
    rows = range(1, 11)
    assert shown == [
        ("begin", 10, 2), *((0, k) for k in rows), "curve 1", *((1, k) for k in rows), "curve 2", bounds, "end",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("after", "words"),
    [(0, "stopped after 0 of 3 curves; there are no bounds yet"), (1, "1 of 3 curves; the exception's .bounds has")],
)
def test_an_interruption_says_how_many_curves_are_kept(monkeypatch, after, words):
    run_seed = _Search.run_seed

    def interrupted(self, ramp, seed, on_row):
        if seed == after:
            raise KeyboardInterrupt
        return run_seed(self, ramp, seed, on_row)

    monkeypatch.setattr(_Search, "run_seed", interrupted)
    with pytest.raises(KeyboardInterrupt, match=words) as raised:
        found(seeds=3, **RANGE)
    assert getattr(raised.value.bounds, "n_curves", 0) == after


# Functions that make the model.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: net()[0], r"model must return \(model, optimizer\), got Sequential"),
        (lambda: [*net()], r"model must return \(model, optimizer\), got list"),
        (lambda: (*net(), 1), r"model must return \(model, optimizer\), got tuple"),
        (lambda: (net()[0], 1), "optimizer must be a torch.optim.Optimizer, got 1"),
    ],
)
def test_a_function_that_makes_anything_else_is_told_so(make, message):
    with pytest.raises(TypeError, match=message):
        clr.find_bounds(make, None, F.cross_entropy, PARTS, seeds=1, iterations=10, **RANGE)


def test_a_function_goes_without_an_optimizer_and_a_model_with_one():
    with pytest.raises(TypeError, match="optimizer must be None where model is a function, got SGD"):
        searching(net, net()[1])
    with pytest.raises(TypeError, match="model must be a torch module or a function that makes one, got int"):
        searching(3)
    with pytest.raises(TypeError, match="optimizer must be a torch.optim.Optimizer, got"):
        searching(net()[0], None)


@pytest.mark.parametrize(("iterations", "refused"), [(9, True), (10, False)])
def test_a_curve_has_ten_updates_at_least(iterations, refused):
    if refused:
        with pytest.raises(ValueError, match="iterations must be at least 10, got 9"):
            found(iterations=iterations, **RANGE)
    else:
        assert len(found(iterations=iterations, seeds=1, **RANGE).tests[0].losses) == 10


# What is trained.


def test_an_optimizer_may_hold_other_parameters_and_groups_that_stay():
    model, other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2)
    groups = [
        {"params": model[0].parameters(), "lr_mult": 0.0},
        {"params": [*model[1].parameters(), *other.parameters()], "lr_mult": 10.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    test = clr.find_bounds(
        model, optimizer, F.cross_entropy, PARTS[:30], PARTS[30:], seeds=1, iterations=20, **RANGE
    ).tests[0]
    assert test.multipliers == (0.0, 10.0)
    assert test.frame["lr"].dropna().is_monotonic_increasing and test.frame["lr"].iloc[1] > 0


def test_one_tensor_of_a_rate_that_all_groups_share_is_taken_apart():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = [{"params": part.parameters(), "lr_mult": mult} for part, mult in zip(model, (1.0, 0.5), strict=True)]
    optimizer, seen = torch.optim.SGD(groups, lr=torch.tensor(0.1)), []
    optimizer.register_step_pre_hook(lambda *_: seen.append([float(group["lr"]) for group in optimizer.param_groups]))
    clr.find_bounds(model, optimizer, F.cross_entropy, PARTS[:30], PARTS[30:], seeds=1, iterations=20, **RANGE)
    assert seen and all(second == pytest.approx(first / 2) for first, second in seen)
