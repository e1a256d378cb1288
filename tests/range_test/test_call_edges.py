"""Batches, trainer, peak rates, verdicts and defaults at their edges: exact values, just inside and just outside."""

import inspect
import random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import clr
from clr.range_test import verdict
from clr.range_test.batches import InfiniteLoader, batch_size, draw_held_out, evaluation_interval, is_finite
from clr.range_test.curve import (
    CurveKind,
)
from clr.range_test.metric import choose_metric
from clr.range_test.peak import landmark, peak_rates
from clr.range_test.randomness import preserve_rng, seed_everything
from clr.range_test.record import RangeTest
from clr.range_test.trainer import Trainer, default_forward
from clr.range_test.verdict import format_bound

# Batches.


def test_batches_begin_again_and_epochs_are_counted():
    batches = InfiniteLoader([1, 2, 3], 2)
    assert [next(batches) for _ in range(3)] == [[1, 2], [3, 1], [2, 3]] and batches.epochs == 2
    assert next(batches) == [1, 2] and batches.epochs == 3


def test_batches_to_evaluate_on_cost_no_more_than_the_training():
    train = [torch.zeros(4, 1)] * 30
    val = [torch.zeros(10, 1)] * 30
    draw = lambda every, **options: draw_held_out(InfiniteLoader(train, 1), val, every, **options)  # noqa: E731
    assert [len(draw(every)) for every in (1, 4, 5, 25)] == [1, 3, 4, 20]  # 2 * every * 4 examples, in tens
    assert len(draw(5, per_update=1)) == 2 and len(draw(1, count=7)) == 7
    assert len(draw_held_out(InfiniteLoader(train, 1), None, 25)) == 3  # a tenth of the loader
    assert len(draw_held_out(InfiniteLoader(train, 1), None, 25, count=2)) == 2
    assert len(draw_held_out(InfiniteLoader(iter(train), 1), None, 25)) == 10  # it has no length


@pytest.mark.parametrize(
    ("examples", "iterations", "every"), [(8, 100, 2), (80, 1000, 10), (81, 1000, 11), (800, 100, 5)]
)
def test_a_large_batch_is_evaluated_on_more_seldom_but_twenty_times(examples, iterations, every):
    batches = InfiniteLoader([torch.zeros(4, 1)], 1)
    assert evaluation_interval(batches, [torch.zeros(examples, 1)], 2, iterations) == every


def test_a_batchs_size_is_the_length_of_its_longest_tensor():
    four = torch.zeros(4, 2)
    graph = {"edges": torch.zeros(2, 3), "nodes": four, "target": torch.zeros(1)}
    for batch in (
        four,
        (four, 1),
        {"a": "b", "c": four},
        [["x"], {"y": [four]}],
        {"n": torch.ones(1), "x": four},
        [{"x": four}],
        graph,
    ):
        assert batch_size(batch) == 4
    assert [batch_size(batch) for batch in (torch.tensor(3.0), (), "abc", 7)] == [1, 1, 1, 1]


def boxes(*counts):
    return [{"boxes": torch.zeros(count, 4), "labels": torch.zeros(count)} for count in counts]


IMAGES, MASKS = [torch.zeros(3, 8, 8)] * 2, [torch.zeros(8, 8)] * 2


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        ((IMAGES, boxes(7, 1)), 2),  # as torchvision's detection references collate them
        (tuple(zip(*zip(IMAGES, boxes(3, 3), strict=True), strict=True)), 2),
        ((IMAGES[:1], boxes(7)), 1),
        ((IMAGES, MASKS), 2),
        ((IMAGES, torch.zeros(2)), 2),
        ((IMAGES, torch.zeros(2, 3)), 2),
        ((IMAGES, [4, 4]), 2),
        ((["ab", "cd", "ef"], ["gh", "ij", "kl"]), 3),
        (([torch.zeros(9, 1), torch.zeros(5, 1)], [torch.zeros(9), torch.zeros(5)]), 2),  # sequences and their labels
        ([{"image": image, "boxes": torch.zeros(9, 4)} for image in IMAGES], 2),
        ({"pixels": torch.zeros(2, 3, 8, 8), "labels": boxes(7, 1)}, 2),
    ],
)
def test_lists_of_examples_count_by_their_own_length(batch, size):
    assert batch_size(batch) == size


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        ([torch.zeros(5, 3, 8, 8)] * 2, torch.zeros(5)),  # two views of each image
        ((torch.zeros(5, 3, 8, 8), torch.zeros(5, 7)), torch.zeros(5)),  # an image and a text
        ((torch.zeros(5, 9), torch.zeros(2, 7)), (torch.zeros(5), torch.zeros(5))),  # nodes and edges
        ((torch.zeros(5, 9), None), [torch.zeros(5), torch.zeros(5)]),
        ((), torch.zeros(5)),
        ({"x": torch.zeros(5, 9)}, {"y": torch.zeros(5)}),
        ([torch.zeros(5, 9)], torch.tensor(1.0)),
    ],
)
def test_several_inputs_are_no_list_of_examples(inputs, targets):
    assert batch_size((inputs, targets)) == 5


def test_numbers_that_are_not_finite_are_seen_anywhere_in_a_batch():
    good, bad = torch.ones(2), torch.tensor([1.0, torch.inf])
    for batch in (good, (good, "x", torch.ones(1, dtype=int)), {"a": [good]}, "abc"):
        assert is_finite(batch)
    for batch in (bad, {"a": [good, bad]}, (good, {"b": bad})):
        assert not is_finite(batch)


# Trainer.


@pytest.mark.parametrize(
    ("mults", "held"), [((2.0, 4.0), 0.5), ((0.0, 10.0), 0.5), ((0.0, 1.0), 0.5), ((0.25, 3.0), 0.5)]
)
def test_the_rate_is_read_from_the_group_whose_multiple_is_nearest_to_one(mults, held):
    model = nn.Linear(2, 2)
    groups = [{"params": [p], "lr_mult": mult} for p, mult in zip(model.parameters(), mults, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    trainer = Trainer(model, optimizer, F.cross_entropy, default_forward, None, None, None)
    trainer.train_step(0.5, [(torch.zeros(2, 2), torch.zeros(2, dtype=torch.long))])
    assert [group["lr"] for group in optimizer.param_groups] == [0.5 * mult for mult in mults]
    assert trainer.current_lr() == held


# Peak rates.


def losses_of(rates):
    return np.where(rates < 0.2, 1 / (1 + (100 * rates) ** 2), 9.0)


def test_the_landmark_is_where_half_of_the_gain_is_lost_of_the_smoothed_curve():
    rates = np.logspace(-4, 0, 401)
    assert landmark([(rates, losses_of(rates))], width=0.005) == pytest.approx(0.2, rel=0.02)


def test_a_curve_never_lost_has_its_landmark_one_step_beyond_its_end():
    rates = np.logspace(-4, 0, 101)
    assert landmark([(rates, 1 / (1 + (100 * rates) ** 2))]) == pytest.approx(10**0.04)


def test_the_ends_of_a_peaks_interval_are_a_factor_of_four_away():
    rates = np.logspace(-4, 0, 101)
    peaks = peak_rates([(rates, losses_of(rates))])
    for lr, (low, high) in peaks.values():
        assert (low, high) == pytest.approx((lr / 4, lr * 4))
    assert peaks["linear"][0] * 8 == pytest.approx(peaks["constant"][0] * 14)


@pytest.mark.parametrize(
    ("curves", "gain", "clear"), [(1, 2.5, False), (1, 2.75, True), (2, 1.7, False), (2, 1.9, True)]
)
def test_a_gain_is_clear_above_three_standard_errors_of_the_first_losses(curves, gain, clear):
    """Losses that jump by 2 each time: 1.4826 * 2 / sqrt(2 * 5 * curves) is one, and their first five average 0.2."""
    rates = np.logspace(-4, 0, 100)
    losses = np.where(np.arange(100) < 50, (-1.0) ** np.arange(100), -gain)
    assert np.isfinite(landmark([(rates, losses)] * curves)) == clear


@pytest.mark.parametrize(("lowest", "known"), [(4, False), (5, True)])
def test_a_curve_that_is_lowest_among_its_first_five_losses_has_no_landmark(lowest, known):
    losses = np.array([2.0] * lowest + [0.0] + [1.5] * 20)
    assert np.isfinite(landmark([(np.logspace(-2, 0, len(losses)), losses)], width=1e-9)) == known


def test_the_factors_below_the_landmark_are_14_and_8():
    rates = np.logspace(-4, 0, 101)
    lost = landmark([(rates, np.log(losses_of(rates)))])
    found = {schedule: lost / lr for schedule, (lr, _) in peak_rates([(rates, losses_of(rates))]).items()}
    assert found == pytest.approx({"constant": 14, "triangular": 8, "linear": 8, "one-cycle": 8, "cosine": 8})


# Verdicts.


def told(**fields):
    """Return invented bounds, of curves of which nothing else is looked at."""
    usual = {"kind": CurveKind.PEAK, "base_ci": (1.0, 2.0), "max_ci": (1.0, 2.0), "max_lr": 1.0, "tests": ()}
    return SimpleNamespace(**usual | fields)


@pytest.mark.parametrize(
    ("lr", "ci", "words"),
    [
        (0.5, (0.0, 0.5), "0.5 or lower"),
        (0.5, (0.0, 0.6), "0.5 (95% CI 0 to 0.6)"),
        (0.5, (0.4, 0.5), "0.5 (95% CI 0.4 to 0.5)"),
    ],
)
def test_a_bound_is_open_below_where_its_interval_begins_at_nought_and_ends_at_it(lr, ci, words):
    assert format_bound(lr, ci) == words


@pytest.mark.parametrize(("log_max_lr", "said"), [(0.49, 1), (0.5, 0), (2.0, 0), (2.01, 1), (np.nan, 0)])
def test_the_logarithm_is_advised_beyond_a_factor_of_two(log_max_lr, said):
    assert bool(verdict._log_advice(told(), log_max_lr)) == said
    assert verdict._log_advice(told(max_lr=np.nan), log_max_lr) == []


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({}, False),
        ({"max_ci": (1.0, 3.0)}, True),
        ({"max_ci": (1.0, 2.99)}, False),
        ({"max_ci": (0.0, 9.0)}, False),
        ({"max_ci": (np.nan, np.nan)}, False),
        ({"kind": CurveKind.FLAT}, True),
        ({"kind": CurveKind.TOO_NARROW}, True),
        ({"kind": CurveKind.DISAGREE}, True),
    ],
)
def test_more_examples_are_advised_where_an_interval_spans_a_factor_of_three(fields, more):
    first, *rest = verdict._evaluation(told(**fields), SimpleNamespace(examples=7, metric_name="metric"))
    assert (
        first == "Each evaluation looks at 7 examples."
        and ["would sharpen" in words for words in rest] == [True] * more
    )


@pytest.mark.parametrize(("constant", "said"), [(0.5, []), (0.49, ["51%"]), (1.0, []), (-1.0, ["100%"]), (None, [])])
def test_a_constant_that_makes_more_than_half_of_the_fall_is_named(constant, said):
    rows = pd.DataFrame({"train_loss": [np.nan, 1.0, 0.0, 3.0]})
    test = RangeTest(rows, constant_loss=constant, losses=(0.8, 1.2, 1.0, 1.0, 1.0, 9.0))
    found = verdict._mean_predictor_warning(told(tests=(test,)))
    assert [share in words for share, words in zip(said, found, strict=False)] == [True] * len(said)
    without = verdict._mean_predictor_warning(told(tests=(RangeTest(rows, constant_loss=constant),)))
    assert bool(without) == bool(found) == bool(said)


# The calls.


def test_defaults_are_those_that_the_documentation_names():
    def defaults(function):
        given = {name: value.default for name, value in inspect.signature(function).parameters.items()}
        return {name: value for name, value in given.items() if value not in (inspect.Parameter.empty, None)}

    assert defaults(clr.find_bounds) == {"iterations": 100, "seeds": 5, "accumulation_steps": 1}
    assert defaults(clr.lr_range_test) == {
        "iterations": 500, "spacing": "linear", "accumulation_steps": 1, "stop_when_diverged": True, "progress": True,
    }  # fmt: skip


def examples(batches, size=8):
    drawn = torch.Generator().manual_seed(0)
    return [(torch.randn(size, 2, generator=drawn), torch.arange(size) % 2) for _ in range(batches)]


@pytest.mark.parametrize(("iterations", "evaluations"), [(10, 10), (99, 99), (100, 50)])
def test_a_curve_has_fifty_evaluations_or_one_per_update(iterations, evaluations):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"start_lr": 1e-6, "end_lr": 1e-3, "iterations": iterations, "seeds": 1}
    found = clr.find_bounds(model, optimizer, F.cross_entropy, examples(4), examples(1), **options)
    assert len(found.tests[0].frame) == evaluations + 1 and found.tests[0].frame["iteration"].max() == iterations


@pytest.mark.parametrize(
    ("val", "batches", "held_out"), [("other", 4, True), ("same", 40, False), (None, 4, False), (None, 40, True)]
)
def test_batches_are_held_out_unless_they_are_trained_on(val, batches, held_out):
    train = examples(batches)
    val_loader = {"other": examples(2), "same": train, None: None}[val]
    for call, options in ((clr.find_bounds, {"seeds": 1}), (clr.lr_range_test, {"progress": False})):
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        rates = {"start_lr": 1e-6, "end_lr": 1e-3, "iterations": 12}
        found = call(model, optimizer, F.cross_entropy, train, val_loader, **rates, **options)
        assert getattr(found, "tests", (found,))[0].held_out is held_out


# Metrics.


def test_a_logit_of_nought_is_not_yet_the_class_one():
    logits = torch.tensor([0.0, 2.0, -1.0, 0.0])
    assert choose_metric(logits, torch.tensor([0, 1, 0, 1]))(logits, torch.tensor([0, 1, 0, 1])) == 0.75


# Random states.


def test_a_seed_reaches_every_generator():
    own = [torch.Generator(), random.Random(), np.random.default_rng(9), np.random.RandomState(9)]
    loader = SimpleNamespace(**{f"own_{i}": generator for i, generator in enumerate(own)}, __iter__=None)
    with preserve_rng():
        seed_everything(3, [loader])
        drawn = random.random(), np.random.random(), torch.rand(1).item()
        assert drawn == (random.Random(3).random(), np.random.RandomState(3).random(), seeded_torch().item())
    assert torch.rand(1, generator=own[0]).item() == seeded_torch().item()
    assert own[1].random() == random.Random(3).random()
    assert own[2].random() == np.random.default_rng(3).random()
    assert own[3].random() == np.random.RandomState(3).random()


def seeded_torch():
    return torch.rand(1, generator=torch.Generator().manual_seed(3))
