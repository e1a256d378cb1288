"""The metric that is chosen where none was given, value by value, and the loss of the targets' mean."""

import math

import pytest
import torch
from torch import tensor
from torch.nn import functional as F

from clr.range_test.metric import choose_metric, constant_loss


def accuracy(outputs, targets):
    """Return the value of the metric that is chosen for outputs and targets; None where none is."""
    metric = choose_metric(outputs, targets)
    return None if metric is None else metric(outputs, targets)


SCORES = tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [1.0, 0.0, 4.0], [9.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("targets", "value"),
    [
        ([0, 1, 2, 0], 1.0),
        ([0, 1, 2, 1], 0.75),
        ([1, 0, 0, 1], 0.0),
        ([0, 1, 1, -100], 2 / 3),  # what is negative is left out
        ([-1, -1, -1, 0], 1.0),
        ([0, 0, 0, 0], 0.5),  # all of one class, the first
        ([0, 1, 2, 3], None),  # no such class
        ([-1, -1, -1, -1], None),  # nothing to judge by
    ],
)
def test_the_accuracy_of_classes_is_the_share_of_those_with_the_highest_score(targets, value):
    assert accuracy(SCORES, tensor(targets)) == (None if value is None else pytest.approx(value))


def test_batches_after_the_first_may_hold_nothing_to_judge_by():
    metric = choose_metric(SCORES, tensor([0, 1, 2, 0]))
    assert metric(SCORES[:1], tensor([0])) == 1.0 and metric(SCORES, tensor([-1] * 4)) == 0.0


def test_scores_may_have_their_classes_second_or_last():
    targets = tensor([[0, 1, 2, 0], [2, 2, 2, 2]])
    last = torch.stack([SCORES, SCORES])
    assert accuracy(last, targets) == accuracy(last.movedim(-1, 1), targets) == 5 / 8
    pictures = torch.stack([last, last], 1)  # two rows of pixels
    assert accuracy(pictures.movedim(-1, 1), torch.stack([targets, targets], 1)) == 5 / 8
    assert accuracy(pictures, torch.stack([targets, targets], 1)) == 5 / 8


LOGITS = tensor([-2.0, 3.0, 0.5, -1.0])


@pytest.mark.parametrize(
    ("outputs", "targets", "value"),
    [
        (LOGITS, [0, 1, 1, 0], 1.0),
        (LOGITS, [1, 1, 1, 0], 0.75),
        (LOGITS, [0, 0, 0, 0], 0.5),
        (LOGITS, [1, 1, 1, 1], 0.5),
        (LOGITS, [0, 1, 2, 0], None),  # counts
        (LOGITS, [-1, 1, 1, 0], None),
        (tensor([0.0, 1.0, 0.5, 0.25]), [0, 1, 1, 0], None),  # probabilities, perhaps
        (tensor([-0.1, 1.0, 0.5, 0.25]), [0, 1, 1, 0], 0.75),
        (tensor([0.0, 1.1, 0.5, 0.25]), [0, 1, 1, 0], 0.75),
    ],
)
def test_the_accuracy_of_one_logit_is_the_share_on_the_right_side_of_nought(outputs, targets, value):
    for shape in ((4,), (4, 1)):
        assert accuracy(outputs.reshape(shape), tensor(targets)) == value
        assert accuracy(outputs.reshape(shape), tensor(targets).reshape(shape)) == value
    assert accuracy(outputs.reshape(2, 1, 2), tensor(targets).reshape(2, 2)) == value


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (torch.randn(4, 5, 1), torch.zeros(4, 5, dtype=torch.long)),  # one class is none
        (torch.randn(4), torch.zeros(5, dtype=torch.long)),
        (torch.randn(4, 3), torch.zeros(5, dtype=torch.long)),
        (torch.randn(4, 3), torch.zeros(4, 3, dtype=torch.long)),
        (torch.randn(4, 3), torch.zeros(4)),
        (torch.randn(4, 3), torch.zeros(4, dtype=torch.complex64)),
        (torch.randn(0, 3), torch.zeros(0, dtype=torch.long)),
        (tensor(1.0), tensor(1)),
        (torch.randn(4, 3), [0, 1, 2, 0]),
        ([0.5, 0.1], tensor([0, 1])),
        (torch.randn(4, 4, 4), torch.zeros(4, 4, dtype=torch.long)),  # which of them are classes?
    ],
)
def test_where_it_would_have_to_be_guessed_no_accuracy_is_chosen(outputs, targets):
    assert choose_metric(outputs, targets) is None


# The loss of a net that gives the mean of the targets.

PAIRS = torch.stack([torch.arange(10.0), 3 * torch.arange(10.0)], 1)  # variances 8.25 and 9 * 8.25


@pytest.mark.parametrize(("targets", "loss"), [(PAIRS, 41.25), (PAIRS[:, 0], 8.25), (PAIRS[:, :1], 8.25)])
def test_the_loss_of_the_mean_of_the_targets_is_their_variance(targets, loss):
    assert constant_loss(F.mse_loss, torch.zeros_like(targets), targets) == pytest.approx(loss)


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (PAIRS[:9], PAIRS[:9]),  # too few for a mean
        (PAIRS, PAIRS.long()),
        (PAIRS[:, :1], PAIRS[:, 0]),
        (PAIRS, PAIRS.tolist()),
        (PAIRS.tolist(), PAIRS),
        (tensor(1.0), tensor(1.0)),
    ],
)
def test_what_is_no_regression_has_no_such_loss(outputs, targets):
    assert math.isnan(constant_loss(F.mse_loss, outputs, targets))


def test_a_loss_that_needs_more_than_values_has_none_either():
    def loss_fn(outputs, targets):
        raise AttributeError("outputs have no attribute 'logits'")

    assert math.isnan(constant_loss(loss_fn, PAIRS, PAIRS))
