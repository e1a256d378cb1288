"""The batches to train on and to evaluate on, drawn by hand."""

import itertools

import pytest
import torch

from clr.range_test.batches import InfiniteLoader, draw_held_out, is_finite, is_one_class

INPUTS = torch.zeros(2, 3)


def of_sizes(*sizes):
    return [torch.zeros(size, 1) for size in sizes]


def test_an_update_trains_on_all_batches_that_it_accumulates():
    batches = InfiniteLoader(of_sizes(4, 5, 6), 3)
    assert batches.examples() == 12  # by the first batch
    assert [len(batch) for batch in next(batches)] == [4, 5, 6]


def test_no_more_batches_are_drawn_than_are_held_out():
    drawn = []

    def endless():
        for size in itertools.chain([4, 10], itertools.repeat(1)):
            drawn.append(size)
            yield torch.zeros(size, 1)
            assert len(drawn) < 3, "the loader was asked for more"

    held_out = draw_held_out(InfiniteLoader(of_sizes(1), 1), endless(), every=3)  # at most 6 examples
    assert [len(batch) for batch in held_out] == [4] and drawn == [4, 10]


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([(INPUTS, torch.tensor([4, 4])), (INPUTS, torch.tensor([4, 4]))], True),
        ([(INPUTS[:1], torch.tensor([4])), (INPUTS, torch.tensor([4, 4]))], True),
        ([(INPUTS, torch.tensor([4, 4])), (INPUTS, torch.tensor([4, 5]))], False),
        ([(INPUTS, torch.tensor([4, 4])), (INPUTS, torch.tensor([5, 5]))], False),
        ([[INPUTS, torch.tensor([[4], [4]])]], True),
        ([(INPUTS[:1], torch.tensor([4]))], False),  # one example says nothing
        ([(INPUTS, torch.ones(2)), (INPUTS, torch.ones(2, dtype=torch.int64))], False),  # numbers, not classes
        ([(INPUTS, torch.ones(2, dtype=torch.complex64))], False),
        ([(INPUTS, torch.zeros(0, dtype=torch.int64))], False),
        ([(INPUTS, [4, 4])], False),
        ([(INPUTS, torch.tensor([4, 4]), torch.ones(2))], False),  # a weight for each
        ([{"x": INPUTS, "y": torch.tensor([4, 4])}], False),
        ([], False),
    ],
)
def test_targets_of_one_class_are_told_from_all_others(batches, expected):
    assert is_one_class(batches) is expected


@pytest.mark.parametrize("wrap", [lambda a, b: (a, b), lambda a, b: [b, a], lambda a, b: {"a": a, "b": [b]}])
def test_one_number_that_is_not_finite_is_enough(wrap):
    good, counts = torch.ones(2), torch.ones(2, dtype=torch.int64)
    assert is_finite(wrap(good, counts)) and is_finite("abc")
    for bad in (torch.tensor([1.0, torch.nan]), torch.tensor([-torch.inf])):
        assert not is_finite(wrap(good, bad)) and not is_finite(wrap(bad, good))
