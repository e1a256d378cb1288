"""The range test: rates as on its axis, rows, divergence, clear errors. Toy tasks, on the CPU."""

import functools
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from toys import SHORT, flat, global_order, own_generator, plain_list, points, script, sgd, spied

import clr
from clr.policies import Ramp
from clr.range_test import RangeTest
from clr.range_test.curve import has_diverged


def test_seeds_give_other_curves_and_the_same_seed_the_same():
    model, optimizer, loader = script(own_generator, sgd)
    losses = [
        clr.lr_range_test(model, optimizer, F.cross_entropy, loader, seed=seed, **SHORT).frame.train_loss[1:].tolist()
        for seed in (1, 2, 1)
    ]
    assert losses[0] == losses[2] != losses[1]


def test_how_often_it_looks_does_not_change_the_curve():
    model, optimizer, loader = script(global_order, sgd)
    often, seldom = (
        clr.lr_range_test(
            model, optimizer, F.cross_entropy, loader, loader, **SHORT | {"eval_every": every, "eval_batches": 6}
        ).frame
        for every in (1, 6)
    )
    common = often[often.iteration.isin(seldom.iteration)].drop(columns="train_loss").reset_index(drop=True)
    assert common.equals(seldom.drop(columns="train_loss"))


def test_numbers_of_other_libraries_are_taken():
    model, optimizer, loader = script(plain_list, sgd)
    seed, counts = np.int64(1), {"eval_batches": 2.0, "accumulation_steps": np.float64(1)}
    test = clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, seed=seed, **SHORT, **counts)
    assert test.seed == 1 and type(test.seed) is int


@pytest.mark.parametrize("with_val_loader", [True, False])
def test_every_loader_is_as_it_was(with_val_loader):
    loaders = [own_generator(), own_generator()]
    before = [flat(loader.generator.get_state()) for loader in loaders]
    model, val_loader = nn.Linear(2, 2), loaders[1] if with_val_loader else None
    clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, loaders[0], val_loader, **SHORT)
    assert [flat(loader.generator.get_state()) for loader in loaders] == before


def test_a_model_in_eval_mode_is_trained_in_train_mode_and_evaluated_in_eval_mode():
    model, modes = nn.Linear(2, 2).eval(), []
    model.register_forward_pre_hook(lambda model, _: modes.append((torch.is_grad_enabled(), model.training)))
    clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, plain_list(), [points()], **SHORT)
    assert set(modes) == {(True, True), (False, False)} and not model.training


@pytest.mark.parametrize(("progress", "shown"), [(True, "LR range test: 100%.* 12/12 "), (False, "$")])
def test_the_bar_counts_the_updates(monkeypatch, capsys, progress, shown):
    import tqdm.auto

    monkeypatch.setattr(tqdm.auto, "tqdm", functools.partial(tqdm.std.tqdm, mininterval=0.0))
    model = nn.Linear(2, 2)
    options = SHORT | {"progress": progress}
    clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, plain_list(), [points()], **options)
    said = capsys.readouterr().err
    assert re.match(shown, said.rstrip().split("\r")[-1])
    assert not progress or re.search(" 3/12 .* 6/12 .* 9/12 ", said, re.S)


# The axis


@pytest.mark.parametrize("spacing", ["linear", "exponential"])
def test_rates_are_those_of_a_ramp_and_recorded_as_used(spacing):
    rates, _, test = spied(spacing=spacing)
    assert [rate for (rate,) in rates] == Ramp(0.001, 0.5, 12, spacing)(np.arange(12)).tolist()
    assert test.frame.iteration.tolist() == [0, 3, 6, 9, 12]
    assert test.frame.lr[1:].tolist() == [rates[k - 1][0] for k in (3, 6, 9, 12)] and np.isnan(test.frame.lr[0])


def test_the_row_of_a_rate_is_after_its_update():
    _, weights, test = spied()
    assert test.frame.metric[1:].tolist() == [weights[k - 1].sum().item() for k in (3, 6, 9, 12)]


def test_train_loss_is_the_mean_since_the_row_before():
    losses = []
    model = nn.Linear(2, 2)

    def loss_fn(outputs, targets):
        losses.append(F.cross_entropy(outputs, targets))
        return losses[-1]

    test = clr.lr_range_test(model, sgd(model.parameters()), loss_fn, plain_list(), [points()], **SHORT)
    means = torch.stack(losses).detach().double().reshape(4, 3).mean(1)
    assert test.frame.train_loss[1:].tolist() == means.tolist() and np.isnan(test.frame.train_loss[0])


def test_a_last_shorter_interval_is_evaluated_too():
    assert spied(iterations=7)[2].frame.iteration.tolist() == [0, 3, 6, 7]


def test_a_hundred_evaluations_by_default():
    assert len(spied(iterations=300, eval_every=None)[2].frame) == 101


def test_a_linear_test_may_start_at_zero():
    rates, _, test = spied(start_lr=0, eval_every=1)
    assert rates[0] == [0.0] and test.frame.lr[1] == 0.0 and test.frame.metric[1] == test.frame.metric[0]


def test_without_val_loader_the_first_batches_are_set_aside():
    seen = []
    model = nn.Linear(2, 2)

    def forward(model, batch):
        seen.append((torch.is_grad_enabled(), batch[2]))
        return model(batch[0]), batch[1]

    x, y = points()
    loader = [(a, b, i) for i, (a, b) in enumerate(zip(x.split(4), y.split(4), strict=True))]  # 24 batches
    test = clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, loader, forward=forward, **SHORT)
    assert {i for training, i in seen if not training} == {0, 1} and test.held_out
    assert [i for training, i in seen if training] == list(range(2, 14))
    long = clr.lr_range_test(
        model, sgd(model.parameters()), F.cross_entropy, loader, forward=forward, **SHORT | {"iterations": 23}
    )
    assert not long.held_out
    batches = plain_list()
    assert not clr.lr_range_test(MODEL, sgd(MODEL.parameters()), F.cross_entropy, batches, batches, **SHORT).held_out


def test_a_part_of_val_loader_is_drawn_once():
    drawn = []

    class Drawn(list):
        def __iter__(self):
            for batch in super().__iter__():
                drawn.append(batch)
                yield batch

    model = nn.Linear(2, 2)
    loaders = plain_list(), Drawn(plain_list())
    clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, *loaders, eval_batches=2, **SHORT)
    assert len(drawn) == 2


# Divergence


def exploding(after):
    calls = []

    def loss_fn(outputs, targets):
        calls.append(1)
        return F.cross_entropy(outputs, targets) * (1 if len(calls) <= after else float("nan"))

    return loss_fn


def test_a_curve_ends_where_it_diverges_and_keeps_the_row():
    model = nn.Linear(2, 2)
    test = clr.lr_range_test(model, sgd(model.parameters()), exploding(4), plain_list(), [points()], **SHORT)
    assert test.diverged and test.frame.iteration.tolist() == [0, 3, 6] and np.isnan(test.frame.train_loss.iloc[-1])
    assert all(p.isfinite().all() for p in model.parameters())


def test_stopping_can_be_turned_off():
    model = nn.Linear(2, 2)
    test = clr.lr_range_test(
        model, sgd(model.parameters()), exploding(4), plain_list(), [points()], stop_when_diverged=False, **SHORT
    )
    assert test.diverged and test.frame.iteration.tolist() == [0, 3, 6, 9, 12]


def test_a_loss_that_stays_four_times_its_first_level_is_divergence():
    model = nn.Linear(2, 2)
    options = SHORT | {"end_lr": 1e6, "spacing": "exponential", "iterations": 60}
    x, y = points()[0], torch.arange(96) % 2  # classes that no line separates: a large rate must do harm
    batches = list(zip(x.split(16), y.split(16), strict=True))
    test = clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, batches, [(x, y)], **options)
    losses = test.frame.train_loss.to_numpy()
    assert test.diverged and losses[-2] > 4 * losses[1] > losses[2:8].max() and len(losses) < 21


@pytest.mark.parametrize("sd", [0.1, 1.0, 3.0])
def test_noisy_losses_are_no_divergence_where_nothing_changes_or_the_metric_still_rises(sd):
    losses = np.exp(np.random.default_rng(0).normal(0, sd, 200)).tolist()
    still, rising = [0.5] * 200, np.linspace(0, 1, 200).tolist()
    for metrics in (still, rising):
        assert not any(has_diverged(losses[:n], metrics[:n], metrics[0]) for n in range(1, 201))
    assert has_diverged([*losses, np.nan], [*still, 0.5], 0.5)
    falling = [*np.linspace(0, 1, 20), *np.zeros(5)]
    assert has_diverged([*np.ones(20), *np.full(5, 9.0)], falling, 0.0)


def test_bad_data_is_seen_whatever_the_rate():
    model, batches = nn.Linear(2, 2), plain_list()
    batches[3] = (batches[3][0].clone().fill_(torch.inf), batches[3][1])
    test = clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, batches, [points()], **SHORT)
    assert test.bad_data and len(test.frame) == 3
    assert clr.suggest_bounds(test).kind == "bad data" and "Check the data" in clr.suggest_bounds(test).verdict


def test_a_metric_that_becomes_nan_ends_the_curve_and_is_kept():
    values = iter([0.5, 0.6, float("nan")])
    model = nn.Linear(2, 2)
    test = clr.lr_range_test(
        model, sgd(model.parameters()), F.cross_entropy, plain_list(), [points()], metric=lambda *_: next(values),
        **SHORT,
    )  # fmt: skip
    assert test.diverged and test.frame.metric[:2].tolist() == [0.5, 0.6] and np.isnan(test.frame.metric[2])


# Bad input: each a clear error, with the model untouched


MODEL = nn.Linear(2, 2)
FROZEN = nn.Linear(2, 2).requires_grad_(False)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"train_loader": []}, ValueError, "train_loader must give at least one batch"),
        ({"train_loader": [], "val_loader": None}, ValueError, "train_loader must give at least one batch"),
        ({"val_loader": []}, ValueError, "val_loader must give at least one batch"),
        (
            {"train_loader": iter([1])},
            TypeError,
            "train_loader must be an iterable that can be iterated again, got .*: pass the DataLoader",
        ),
        ({"val_loader": (batch for batch in [])}, TypeError, "val_loader must be an iterable that can be iterated"),
        ({"train_loader": 3}, TypeError, "train_loader must be an iterable"),
        ({"train_loader": [torch.zeros(2)]}, TypeError, "batches must be pairs .* got Tensor; .* forward="),
        ({"train_loader": [(1, 2, 3)]}, TypeError, "got tuple of 3"),
        (
            {"train_loader": [{"x": torch.zeros(2, 2), "y": torch.zeros(2)}]},
            TypeError,
            r"got dict; .* give forward=lambda model, batch: \(model\(batch\['x'\]\), batch\['y'\]\)",
        ),
        (
            {"optimizer": sgd([{"params": MODEL.parameters(), "lr_mult": 0.0}])},
            ValueError,
            r"optimizer must have a group whose lr_mult \(or lr_scale\) is not 0, got none",
        ),
        ({"model": FROZEN}, ValueError, "model must have parameters that require gradients"),
        ({"optimizer": sgd(nn.Linear(2, 2).parameters())}, ValueError, "optimizer must hold parameters of the model"),
        ({"optimizer": "sgd"}, TypeError, "optimizer must be a torch.optim.Optimizer, got 'sgd'"),
        ({"end_lr": 0.0001}, ValueError, "end_lr must be greater than start_lr = 0.001, got 0.0001"),
        ({"end_lr": 0.001}, ValueError, "end_lr must be greater than start_lr = 0.001, got 0.001"),
        ({"train_loader": 5}, TypeError, "train_loader must be .* iterated again, got 5$"),
        ({"train_loader": TensorDataset(torch.zeros(2))}, TypeError, "train_loader .* got .*: wrap it in a DataLoader"),
        ({"start_lr": -1.0}, ValueError, "start_lr must be a finite number >= 0, got -1.0"),
        ({"start_lr": 0, "spacing": "exponential"}, ValueError, "start_lr must be > 0"),
        ({"spacing": "cubic"}, ValueError, "spacing must be 'linear' or 'exponential', got 'cubic'"),
        ({"metric": 3}, TypeError, "metric must be a callable, got 3"),
        ({"autocast": True}, TypeError, "autocast must be a torch dtype, such as torch.bfloat16, got True"),
        ({"scaler": 1}, TypeError, "scaler must be a torch.amp.GradScaler, got 1"),
        ({"metric": 0}, TypeError, "metric must be a callable, got 0"),
        (
            {"optimizer": torch.optim.LBFGS(MODEL.parameters()), "scaler": torch.amp.GradScaler("cpu")},
            ValueError,
            "scaler must be None for LBFGS, whose step calls the model",
        ),
        ({"seed": -1}, ValueError, "seed must be an integer from 0 to .* got -1"),
        ({"train_loader": None}, TypeError, "train_loader must be an iterable .* got None"),
        ({"iterations": 0}, ValueError, "iterations must be a positive integer, got 0"),
        ({"eval_every": 0}, ValueError, "eval_every must be a positive integer, got 0"),
        ({"eval_batches": 1.5}, ValueError, "eval_batches must be a positive integer, got 1.5"),
        ({"accumulation_steps": True}, TypeError, "accumulation_steps must be a positive integer, got True"),
        (
            {"loss_fn": lambda x, y: x},
            ValueError,
            r"loss_fn must return a scalar tensor, got shape \(16, 2\): take its mean",
        ),
        ({"loss_fn": lambda x, y: 1.0}, ValueError, "loss_fn must return a scalar tensor, got <class 'float'>"),
        ({"loss_fn": lambda x, y: F.cross_entropy(x, y).detach()}, ValueError, "loss_fn must return a loss with a"),
        (
            {
                "val_loader": [(torch.full((4, 2), torch.nan), torch.zeros(4).long())],
                "metric": lambda x, y: -F.cross_entropy(x, y),
            },
            ValueError,
            "got nan, as val_loader holds numbers that are not finite",
        ),
        ({"metric": lambda x, y: float("nan")}, ValueError, "metric must be a finite number on the model as it is"),
    ],
)
def test_bad_input_is_a_clear_error_and_changes_nothing(changes, error, message):
    arguments = {
        "model": MODEL, "optimizer": sgd(MODEL.parameters()), "loss_fn": F.cross_entropy, "train_loader": plain_list(),
        "val_loader": plain_list(), **SHORT, **changes,
    }  # fmt: skip
    before = flat([MODEL.state_dict(), torch.get_rng_state()])
    with pytest.raises(error, match=message):
        clr.lr_range_test(**arguments)
    assert flat([MODEL.state_dict(), torch.get_rng_state()]) == before


def test_a_loader_without_length_works():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(*points(), strict=True))

    model = nn.Linear(2, 2)
    test = clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, DataLoader(Stream(), 4), **SHORT)
    assert len(test.frame) == 5 and test.held_out


# What comes out


def test_a_file_gives_back_the_test_to_the_last_bit(tmp_path):
    test = spied(spacing="exponential", seed=3)[2]
    test.to_csv(tmp_path / "curve.csv")
    again = RangeTest.from_csv(tmp_path / "curve.csv")
    assert again.frame.equals(test.frame) and (again.frame.dtypes == test.frame.dtypes).all()
    others = [{name: value for name, value in vars(t).items() if name != "frame"} for t in (test, again)]
    assert others[0] == others[1] and again.seed == 3 and len(again.losses) == 12


def test_a_file_keeps_the_loss_of_a_constant(tmp_path):
    test = RangeTest(spied()[2].frame, constant_loss=0.1)
    test.to_csv(tmp_path / "curve.csv")
    assert RangeTest.from_csv(tmp_path / "curve.csv").constant_loss == 0.1


def test_the_evaluation_looks_at_no_more_than_its_training_and_draws_it_once():
    drawn = []

    class Endless:
        def __iter__(self):
            while True:
                drawn.append(1)
                yield points()[0][:16], points()[1][:16]

    model = nn.Linear(2, 2)
    test = clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, plain_list(), Endless(), **SHORT)
    assert len(drawn) == 6 and test.examples == 96  # of 16 each: twice those of the three updates between evaluations


def test_a_large_batch_to_evaluate_on_is_looked_at_less_often():
    model, large = nn.Linear(2, 2), points(960)
    options = SHORT | {"iterations": 600, "eval_every": None}
    test = clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, plain_list(), [large], **options)
    assert test.examples == 960 and test.frame.iteration[:2].tolist() == [0, 30]
