"""A mistake in a user's function is told in its words, and leaves no trace."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toys import SHORT, flat, plain_list, points, sgd

import clr
from clr.range_test.callbacks import checked_metric

X, Y = points()
LONG = [(X, Y[:, None])]


def probe(model=None, loss_fn=F.cross_entropy, batches=None, **options):
    """Run a test that must fail, and see that model, optimizer and random state are as before."""
    model = nn.Linear(2, 2) if model is None else model
    optimizer, batches = sgd(model.parameters()), plain_list() if batches is None else batches
    before = flat([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()])
    try:
        clr.lr_range_test(model, optimizer, loss_fn, batches, batches, **SHORT | options)
    finally:
        assert flat([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()]) == before


@pytest.mark.parametrize(
    ("value", "got"),
    [("0.5", "'0.5'"), (None, "None"), (torch.ones(3), r"a tensor float32 \(3,\)"), (np.ones(2), r"array\(\[1., 1.\]")],
)
def test_a_metric_returns_one_number(value, got):
    with pytest.raises(TypeError, match=f"metric must return a number or a one-element tensor, got {got}"):
        probe(metric=lambda outputs, targets: value)


@pytest.mark.parametrize("value", [1, 0.5, True, np.float32(0.5), torch.tensor([0.5]), torch.tensor(1)])
def test_numbers_of_all_kinds_are_metrics(value):
    assert checked_metric(lambda outputs, targets: value)(None, None) == value


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float32, torch.float32),
     (torch.float64, torch.float64), (torch.uint8, torch.float32)],
)  # fmt: skip
def test_a_metric_in_half_precision_is_widened(dtype, kept):
    value = checked_metric(lambda outputs, targets: torch.tensor([3], dtype=dtype))(None, None)
    assert value.dtype == kept and value.shape == (1,) and value == 3


@pytest.mark.parametrize(
    ("returned", "got"),
    [(lambda out, y: out, "Tensor"), (lambda out, y: {"x": out, "y": y}, "dict"), (lambda *a: (*a, 0), "tuple of 3")],
)
def test_forward_returns_a_pair(returned, got):
    with pytest.raises(TypeError, match=rf"forward must return \(outputs, targets\), got {got}"):
        probe(forward=lambda model, batch: returned(model(batch[0]), batch[1]))


def test_a_loss_that_fails_keeps_its_exception_and_says_what_it_got():
    with pytest.raises(RuntimeError, match="Float") as caught:
        probe(nn.Linear(2, 1), nn.BCEWithLogitsLoss(), LONG)
    assert caught.value.__notes__ == ["in loss_fn(outputs, targets): outputs float32 (96, 1), targets int64 (96, 1)"]


def test_a_metric_that_fails_says_what_it_got():
    with pytest.raises(ZeroDivisionError) as caught:
        probe(metric=lambda outputs, targets: 1 / 0)
    assert caught.value.__notes__ == ["in metric(outputs, targets): outputs float32 (16, 2), targets int64 (16,)"]


def test_a_class_is_no_loss():
    with pytest.raises(TypeError, match=r"loss_fn must be an object, such as CrossEntropyLoss\(\), got the class"):
        probe(loss_fn=nn.CrossEntropyLoss)
