"""Any model, optimizer, loss and batches: one update and one evaluation of them."""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toys import SHORT, plain_list, points, script, sgd, spied

import clr
from clr.range_test.metric import choose_metric
from clr.range_test.trainer import Trainer, default_forward


def test_a_part_in_eval_mode_is_not_trained_in_another_and_a_whole_is():
    modes = []
    model, optimizer, loader = script(plain_list, sgd)
    model.layers[1].register_forward_pre_hook(lambda *_: modes.append((model.layers[1].training, model.training)))
    model.layers[1].eval()
    clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, **SHORT)
    assert set(modes) == {(False, False), (False, True)}
    modes.clear()
    clr.lr_range_test(model.eval(), optimizer, F.cross_entropy, loader, loader, **SHORT)
    assert set(modes) == {(False, False), (True, True)} and not model.training


def two_groups(*rates, key="lr"):
    return lambda model: [{"params": [p], key: rate} for p, rate in zip(model.parameters(), rates, strict=True)]


def test_groups_keep_their_ratios_and_the_fastest_is_on_the_axis():
    rates, _, test = spied(groups=two_groups(0.01, 0.04))
    assert all(slow == pytest.approx(fast / 4, rel=1e-15) for slow, fast in rates)
    assert test.frame.lr.iloc[-1] == rates[-1][1] and test.multipliers == (0.25, 1.0)


def test_multipliers_apply_as_in_policy_lr():
    rates, _, test = spied(groups=two_groups(1.0, 2.0, key="lr_mult"))
    assert all(twice == 2 * once for once, twice in rates) and test.frame.lr.iloc[-1] == rates[-1][0]


def test_rates_that_are_tensors_stay_the_same_tensors():
    rate = torch.tensor(0.05, dtype=torch.float64)
    rates, _, test = spied(lambda p: torch.optim.SGD(p, lr=rate))
    assert rates[-1] == [test.frame.lr.iloc[-1]] and rate.item() == 0.05


def test_groups_that_share_one_tensor_are_given_their_own_rates_and_share_it_again():
    rate = torch.tensor(0.05, dtype=torch.float64)
    made = []

    def shared(groups):
        made.append(torch.optim.SGD([*groups], lr=rate))
        return made[-1]

    rates, _, test = spied(shared, groups=two_groups(1.0, 10.0, key="lr_mult"))
    assert all(tenfold == pytest.approx(10 * once) for once, tenfold in rates)
    assert test.frame.lr.iloc[-1] == rates[-1][0]
    assert all(group["lr"] is rate for group in made[0].param_groups) and rate.item() == 0.05


def test_an_optimizer_whose_rates_are_zero_has_equal_groups():
    assert spied(groups=two_groups(0.0, 0.0))[2].multipliers == (1.0, 1.0)


def test_dicts_and_other_shapes_go_through_forward():
    model = nn.Linear(2, 2)
    x, y = points()
    batches = [{"x": a, "y": b} for a, b in zip(x.split(16), y.split(16), strict=True)]
    dicts = clr.lr_range_test(
        model, sgd(model.parameters()), F.cross_entropy, batches, batches,
        forward=lambda model, batch: (model(batch["x"]), batch["y"]), **SHORT,
    )  # fmt: skip
    pairs = clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, plain_list(), plain_list(), **SHORT)
    assert dicts.frame.equals(pairs.frame)


def test_a_metric_is_averaged_by_the_size_of_batches():
    model = nn.Linear(2, 2)
    x, y = points(6)
    test = clr.lr_range_test(
        model, sgd(model.parameters()), F.cross_entropy, [(x, y)], [(x[:4], y[:4]), (x[4:], y[4:])],
        metric=lambda outputs, targets: torch.tensor(float(len(targets))), **SHORT,
    )  # fmt: skip
    assert test.frame.metric.tolist() == pytest.approx([(4 * 4 + 2 * 2) / 6] * 5)


def evaluated(metric, batches, autocast=None):
    model = nn.Linear(2, 1)
    trainer = Trainer(model, sgd(model.parameters()), F.mse_loss, default_forward, metric, autocast, None)
    return trainer.evaluate(batches)


def test_a_mean_over_a_thousand_batches_of_a_metric_in_half_precision_is_exact():
    one = torch.zeros(1, 2), torch.zeros(1, 1)
    assert evaluated(lambda *_: torch.tensor(0.5, dtype=torch.bfloat16), [one] * 1000) == 0.5


def test_a_metric_in_half_precision_does_not_overflow_with_the_size_of_batches():
    pair = torch.zeros(256, 2), torch.full((256, 1), 15.0)
    minus_mse = lambda outputs, targets: -(outputs * 0 - targets.half()).square().mean()  # noqa: E731
    assert evaluated(minus_mse, [pair] * 2, torch.float16) == -225


LABELS = torch.tensor([0, 1, 1, 0, 1])


@pytest.mark.parametrize(
    ("outputs", "targets", "value"),
    [
        (torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]), 0.5),
        (
            torch.tensor([[[2.0, 0.0], [0.0, 2.0]]]),
            torch.tensor([[0, 0]]),
            None,
        ),  # which of the 2 are classes?
        (torch.randn(4, 3, 7), torch.randint(3, (4, 7)), ...),
        (torch.randn(4, 7, 3), torch.randint(3, (4, 7)), ...),
        (torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, -100]), 1.0),  # ignore_index
        (LABELS - 0.5, LABELS, 1.0),
        ((LABELS - 0.5)[:, None], LABELS, 1.0),
        ((LABELS - 0.5)[:, None], LABELS[:, None].bool(), 1.0),
        (torch.sigmoid(torch.randn(5)), LABELS, None),  # probabilities, perhaps
        (torch.randn(5, 1), LABELS.float(), None),
        (torch.randn(5, 1), LABELS * 3, None),  # counts
        (torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 4]), None),  # no class 4
        (torch.randn(5, 3), torch.randint(2, (5, 3)), None),  # several labels each
        (torch.randn(5, 3), torch.randn(5, 3), None),
        ({"logits": torch.randn(5, 3)}, LABELS, None),
    ],
)
def test_accuracy_is_chosen_where_it_has_a_meaning(outputs, targets, value):
    metric = choose_metric(outputs, targets)
    assert (metric is None) == (value is None)
    if value is not None:
        found = metric(outputs, targets)
        assert 0 <= found <= 1 if value is ... else found == value


def test_without_a_metric_a_regression_is_judged_by_its_loss():
    x = torch.randn(64, 2)
    batches = [(x, x.sum(1, keepdim=True))]
    model = nn.Linear(2, 1)
    test = clr.lr_range_test(model, sgd(model.parameters()), F.mse_loss, batches, batches, **SHORT)
    assert test.metric_name == "-loss"
    assert test.frame.metric[0] == pytest.approx(-F.mse_loss(model(x), batches[0][1]).item())


def test_minus_the_loss_as_metric_does_not_keep_the_model():
    model = nn.Linear(2, 1)
    kept = weakref.ref(model)
    trainer = Trainer(model, sgd(model.parameters()), F.mse_loss, default_forward, None, None, None)
    batch = torch.zeros(4, 2), torch.ones(4, 1)
    value, metric = trainer.evaluate([batch]), trainer.metric
    with torch.no_grad():
        assert metric(model(batch[0]), batch[1]) == value
    del trainer, model
    gc.collect()
    assert kept() is None


def test_a_loss_that_is_no_scalar_is_told_where_it_is_the_metric_too():
    model = nn.Linear(2, 1)
    batches = [(torch.zeros(4, 2), torch.ones(4, 1))]
    with pytest.raises(ValueError, match=r"loss_fn must return a scalar tensor, got shape \(4, 1\)"):
        clr.lr_range_test(
            model, sgd(model.parameters()), nn.MSELoss(reduction="none"), batches, batches, **SHORT
        )  # fmt: skip


def test_examples_are_counted_in_the_batch_where_targets_are_no_tensor():
    model = nn.Linear(2, 2)
    test = clr.lr_range_test(
        model, sgd(model.parameters()), lambda loss, _: loss, plain_list(), plain_list()[:2],
        forward=lambda model, batch: (F.cross_entropy(model(batch[0]), batch[1]), None), **SHORT,
    )  # fmt: skip
    assert test.examples == 32


def test_the_loss_of_a_constant_is_noted_where_outputs_are_like_targets():
    x = torch.randn(64, 2)
    y = x.sum(1, keepdim=True) + 10
    noted = []
    for targets, loss_fn in (
        (y, F.mse_loss),
        (y > 10, lambda out, y: F.binary_cross_entropy_with_logits(out, y + 0.0)),
    ):
        model = nn.Linear(2, 1)
        batches = [(x, targets.squeeze(1) if targets.dtype == torch.bool else targets)]
        forward = lambda model, batch: (model(batch[0]).reshape(batch[1].shape), batch[1])  # noqa: E731
        test = clr.lr_range_test(
            model, sgd(model.parameters()), loss_fn, batches, batches, forward=forward, **SHORT
        )  # fmt: skip
        noted.append(test.constant_loss)
    assert noted == [pytest.approx(y.var(correction=0).item()), None]


def test_accumulated_batches_equal_the_big_batch():
    x, y = (t.double() if t.is_floating_point() else t for t in points())
    curves = []
    for size, accumulate in ((32, 1), (8, 4)):
        torch.manual_seed(0)
        model = nn.Linear(2, 2).double()
        loader = list(zip(x.split(size), y.split(size), strict=True))
        test = clr.lr_range_test(
            model, sgd(model.parameters()), F.cross_entropy, loader, [(x, y)], accumulation_steps=accumulate,
            metric=lambda out, y: -F.cross_entropy(out, y), **SHORT,
        )  # fmt: skip
        curves.append(test.frame.drop(columns="iteration").to_numpy()[1:])
    np.testing.assert_allclose(*curves, rtol=1e-12)


def test_losses_are_kept_where_the_next_call_overwrites_them():
    """As a model does that is compiled for CUDA graphs, with mode="reduce-overhead"."""
    given = []

    def overwriting(outputs, targets):
        for loss in given:
            loss.data.fill_(torch.nan)
        given.append(F.cross_entropy(outputs, targets))
        return given[-1]

    losses = []
    for loss_fn in (F.cross_entropy, overwriting):
        torch.manual_seed(0)
        model, optimizer, loader = script(plain_list, sgd)
        losses.append(clr.lr_range_test(model, optimizer, loss_fn, loader, loader, **SHORT).frame["train_loss"])
    assert len(given) == 12 and losses[0].equals(losses[1])


def test_autocast_reaches_the_model_and_the_metric():
    kinds = set()
    model = nn.Linear(2, 2)

    def metric(outputs, targets):
        kinds.add(outputs.dtype)
        return 0.5

    clr.lr_range_test(
        model, sgd(model.parameters()), F.cross_entropy, plain_list(), [points()], autocast=torch.bfloat16,
        metric=metric, **SHORT,
    )  # fmt: skip
    assert kinds == {torch.bfloat16}


def test_a_scaler_changes_nothing_but_the_scale():
    model = nn.Linear(2, 2)
    frames = [
        clr.lr_range_test(
            model, sgd(model.parameters()), F.cross_entropy, plain_list(), [points()], scaler=scaler, **SHORT
        ).frame
        for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10))
    ]
    np.testing.assert_allclose(frames[0], frames[1], rtol=1e-6)


def test_nothing_is_read_back_between_evaluations(monkeypatch):
    reads = []
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor,
            name,
            lambda self, *a, _name=name, _of=original, **k: (reads.append(_name), _of(self, *a, **k))[1],
        )
    counts = []
    for iterations in (10, 50):
        reads.clear()
        options = SHORT | {"iterations": iterations, "eval_every": 50}
        clr.lr_range_test(model, optimizer, F.cross_entropy, plain_list(), [points()], **options)
        counts.append(len(reads))
    assert counts[0] == counts[1] > 0
