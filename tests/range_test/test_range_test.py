"""The range test: an honest axis, no trace left, any model, clear errors. Toy tasks, on the CPU."""

import copy
import random
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

import clr
from clr.policies import Ramp

SHORT = {"start_lr": 0.001, "end_lr": 0.5, "iterations": 12, "eval_every": 3, "progress": False}


class Net(nn.Module):
    """All that has a state: batch norm, dropout, and a counter that is no buffer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 2))
        self.calls, self.seen = 0, []

    def forward(self, x):
        self.calls += 1
        self.seen.append(len(x))
        return self.layers(x)


class Augmented(Dataset):
    """Pictures of a kind, with augmentation by Python's and numpy's random numbers."""

    def __init__(self, x, y):
        self.x, self.y, self.random = x, y, np.random.default_rng(3)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        noise = random.gauss(0, 0.1) + np.random.normal() * 0.1 + float(self.random.normal()) * 0.1
        return self.x[i] + noise, self.y[i]


class Counting(RandomSampler):
    """A sampler with a state of its own."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        yield from list(super().__iter__())[:: 1 if self.passes % 2 else -1]


def points(n=96):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] + x[:, 1] > 0).long()


def global_order():
    return DataLoader(TensorDataset(*points()), 16, shuffle=True)


def own_generator():
    return DataLoader(TensorDataset(*points()), 16, shuffle=True, generator=torch.Generator().manual_seed(1))


def augmented():
    return DataLoader(Augmented(*points()), 16, sampler=Counting(points()[1], generator=torch.Generator()))


def plain_list():
    x, y = points()
    return list(zip(x.split(16), y.split(16), strict=True))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01, amsgrad=True)


def script(make_loader, make_optimizer):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = Net()
    return model, make_optimizer(model.parameters()), make_loader()


def fit(model, optimizer, loader, epochs=1):
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model


def flat(value):
    """Return a value with each tensor as its bytes, so that == compares to the bit."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.detach().contiguous().view(-1).view(torch.uint8).tolist()
    if isinstance(value, dict):
        return {key: flat(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [flat(part) for part in value]
    return value


def everything(model, optimizer, loader):
    state = [model.state_dict(), optimizer.state_dict(), [module.training for module in model.modules()]]
    gradients = [p.grad for p in model.parameters()]
    randoms = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state(), torch.rand(1)]
    own = [model.calls, list(model.seen), getattr(getattr(loader, "sampler", None), "passes", None)]
    return flat([state, gradients, randoms, own])


class Stop(Exception):
    pass


def interrupted(error):
    calls = []

    def loss_fn(outputs, targets):
        calls.append(1)
        if len(calls) == 7:
            raise error
        return F.cross_entropy(outputs, targets)

    return loss_fn


@pytest.mark.parametrize("make_loader", [global_order, own_generator, augmented, plain_list])
@pytest.mark.parametrize("make_optimizer", [sgd, adam])
@pytest.mark.parametrize("trained_before", [False, True])
@pytest.mark.parametrize("how", ["once", "twice", "seeded", "exception", "interrupt"])
def test_training_goes_on_as_if_there_had_been_no_test(make_loader, make_optimizer, trained_before, how):
    ends = []
    for tested in (False, True):
        model, optimizer, loader = script(make_loader, make_optimizer)
        if trained_before:
            fit(model, optimizer, loader)
        if tested and how in ("exception", "interrupt"):
            error = Stop if how == "exception" else KeyboardInterrupt
            with pytest.raises(error):
                clr.lr_range_test(model, optimizer, interrupted(error()), loader, loader, **SHORT)
        elif tested:
            for seed in {"once": [None], "twice": [None, None], "seeded": [5]}[how]:
                clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, seed=seed, **SHORT)
        start = copy.deepcopy(optimizer.state_dict())
        fit(model, optimizer, loader, epochs=2)
        ends.append((flat(start), everything(model, optimizer, loader)))
    assert ends[0] == ends[1]


def test_a_second_test_gives_the_same_curve():
    model, optimizer, loader = script(augmented, adam)
    tests = [clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, **SHORT) for _ in range(2)]
    assert tests[0].frame.equals(tests[1].frame)


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
        clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, **SHORT | {"eval_every": every}).frame
        for every in (1, 6)
    )
    common = often[often.iteration.isin(seldom.iteration)].drop(columns="train_loss").reset_index(drop=True)
    assert common.equals(seldom.drop(columns="train_loss"))


def test_present_gradients_modes_and_absent_state_stay():
    model, optimizer, loader = script(plain_list, adam)
    model.layers[1].eval()
    gradient = model.layers[0].weight.grad = torch.ones(8, 2)
    clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, **SHORT)
    assert model.layers[0].weight.grad is gradient and torch.equal(gradient, torch.ones(8, 2))
    assert model.layers[4].weight.grad is None and not optimizer.state
    assert [module.training for module in model.modules()] == [True, True, True, False, True, True, True]


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


def test_scaler_and_loss_module_are_put_back():
    model, optimizer, loader = script(plain_list, sgd)
    loss_fn = nn.BatchNorm1d(2)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    before = flat(scaler.state_dict()), flat(loss_fn.state_dict())
    clr.lr_range_test(
        model, optimizer, lambda x, y: F.cross_entropy(loss_fn(x), y), loader, loader, scaler=scaler, **SHORT
    )
    assert flat(scaler.state_dict()) == before[0]
    module = nn.CrossEntropyLoss(weight=torch.ones(2))
    clr.lr_range_test(model, optimizer, module, loader, loader, **SHORT)


class Wrapping(torch.optim.Optimizer):
    """As SAM or Accelerate wrap an optimizer: the state and the rates are the inner one's."""

    def __init__(self, inner):
        super().__init__([p for group in inner.param_groups for p in group["params"]], {"lr": 0.0})
        self.inner, self.param_groups = inner, inner.param_groups

    def step(self, closure=None):
        return self.inner.step(closure)


def test_an_optimizer_that_wraps_another_is_put_back():
    model, inner, loader = script(plain_list, sgd)
    fit(model, inner, loader)
    before = flat([inner.state_dict(), model.state_dict()])
    clr.lr_range_test(model, Wrapping(inner), F.cross_entropy, loader, loader, **SHORT)
    assert flat([inner.state_dict(), model.state_dict()]) == before


class Collecting(nn.Module):
    """Changes in place whatever it holds."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.array, self.last, self.sizes, self.pair = np.zeros(2), deque([0], 3), {0}, (torch.zeros(2), [0])

    def forward(self, x):
        self.array += 1
        self.last.append(len(self.last))
        self.sizes.add(len(x))
        self.pair[0].add_(1)
        self.pair[1].append(1)
        return self.layer(x)


def test_what_a_model_holds_is_put_back_whatever_its_kind():
    model, loader = Collecting(), plain_list()
    held = [model.array, model.last, model.sizes, model.pair]
    clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, loader, loader, **SHORT)
    assert all(new is old for new, old in zip([model.array, model.last, model.sizes, model.pair], held, strict=True))
    assert (model.array.tolist(), model.last, model.sizes) == ([0, 0], deque([0], 3), {0})
    assert flat(model.pair) == flat((torch.zeros(2), [0]))


@pytest.mark.parametrize("eval_batches", [None, 2])
def test_loaders_that_share_a_generator_train_as_if_nobody_had_looked(eval_batches):
    def losses(eval_every, options):
        model, optimizer, _ = script(plain_list, sgd)
        shared, data = torch.Generator().manual_seed(1), TensorDataset(*points())
        train, val = (DataLoader(data, 16, shuffle=shuffle, generator=shared) for shuffle in (True, False))
        test = clr.lr_range_test(
            model, optimizer, F.cross_entropy, train, val, **SHORT | {"eval_every": eval_every} | options
        )
        return test.frame["train_loss"].dropna().to_numpy().reshape(-1, 12 // eval_every)

    often = losses(1, {"iterations": 24, "eval_batches": eval_batches}).reshape(2, 12).mean(1)
    seldom = losses(12, {"iterations": 24, "eval_batches": eval_batches}).ravel()
    assert often == pytest.approx(seldom, rel=1e-6)


def test_a_seed_is_not_left_behind_for_a_device_that_is_not_in_use(monkeypatch):
    model, optimizer, loader = script(plain_list, sgd)
    if torch.cuda.is_initialized():
        pytest.skip("CUDA is in use already")
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail(f"CUDA would start with {seed}"))
    clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, seed=5, **SHORT)


def test_numbers_of_other_libraries_are_taken():
    model, optimizer, loader = script(plain_list, sgd)
    seed, counts = np.int64(1), {"eval_batches": 2.0, "accumulate": np.float64(1)}
    test = clr.lr_range_test(model, optimizer, F.cross_entropy, loader, loader, seed=seed, **SHORT, **counts)
    assert test.seed == 1 and type(test.seed) is int


def test_kept_workers_are_left_alone():
    dataset = Augmented(*points(16))
    loader = DataLoader(dataset, 8, num_workers=1, persistent_workers=True)
    next(iter(loader))
    workers = loader._iterator
    model, optimizer, _ = script(plain_list, sgd)
    options = SHORT | {"iterations": 2, "eval_every": 2}
    clr.lr_range_test(model, optimizer, F.cross_entropy, loader, [points()], **options)
    assert loader._iterator is workers


# The axis


def spied(make_optimizer=sgd, groups=None, **options):
    """Run a test; return the rates of all groups at each step, the weights after it, and the test."""
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(groups(model) if groups else model.parameters())
    rates, weights = [], []
    optimizer.register_step_post_hook(
        lambda opt, *_: (rates.append([float(g["lr"]) for g in opt.param_groups]), weights.append(model.weight.clone()))
    )
    test = clr.lr_range_test(
        model, optimizer, F.cross_entropy, plain_list(), [points()], metric=lambda out, y: model.weight.sum().item(),
        **SHORT | options,
    )  # fmt: skip
    return rates, weights, test


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


@pytest.mark.filterwarnings("error")
def test_a_scheduler_is_not_called_and_goes_on_as_it_would_have():
    rates = []
    for tested in (False, True):
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=4)
        if tested:
            clr.lr_range_test(model, optimizer, F.cross_entropy, plain_list(), **SHORT)
        rates.append([])
        for _ in range(5):
            optimizer.step()
            scheduler.step()
            rates[-1].append(optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1]


# Any model, any loader


@pytest.mark.parametrize(
    "make_optimizer",
    [
        sgd, adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam, torch.optim.Adadelta,
        torch.optim.ASGD, torch.optim.Rprop, torch.optim.Adamax, torch.optim.RAdam, torch.optim.Adafactor,
        torch.optim.LBFGS, lambda p: clr.CaffeSGD(p, lr=0.1),
    ],
)  # fmt: skip
def test_every_optimizer_is_tested_and_put_back(make_optimizer):
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(model.parameters())
    before = flat([model.state_dict(), optimizer.state_dict()])
    test = clr.lr_range_test(model, optimizer, F.cross_entropy, plain_list(), [points()], **SHORT)
    assert np.isfinite(test.frame.metric).all() and test.frame.train_loss.nunique() == 4
    assert flat([model.state_dict(), optimizer.state_dict()]) == before


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


def test_accuracy_counts_every_place_of_a_sequence():
    from clr.range_test.trainer import accuracy

    scores = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])  # (1 example, 2 classes, 2 places)
    assert accuracy(scores, torch.tensor([[0, 0]])) == 0.5


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


def test_accumulated_batches_equal_the_big_batch():
    x, y = (t.double() if t.is_floating_point() else t for t in points())
    curves = []
    for size, accumulate in ((32, 1), (8, 4)):
        torch.manual_seed(0)
        model = nn.Linear(2, 2).double()
        loader = list(zip(x.split(size), y.split(size), strict=True))
        test = clr.lr_range_test(
            model, sgd(model.parameters()), F.cross_entropy, loader, [(x, y)], accumulate=accumulate,
            metric=lambda out, y: -F.cross_entropy(out, y), **SHORT,
        )  # fmt: skip
        curves.append(test.frame.drop(columns="iteration").to_numpy()[1:])
    np.testing.assert_allclose(*curves, rtol=1e-12)


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


def test_a_loss_four_times_the_first_is_divergence():
    model = nn.Linear(2, 2)
    options = SHORT | {"end_lr": 1e6, "spacing": "exponential", "iterations": 60}
    x, y = points()[0], torch.arange(96) % 2  # classes that no line separates: a large rate must do harm
    batches = list(zip(x.split(16), y.split(16), strict=True))
    test = clr.lr_range_test(model, sgd(model.parameters()), F.cross_entropy, batches, [(x, y)], **options)
    losses = test.frame.train_loss.to_numpy()
    assert test.diverged and losses[-1] > 4 * losses[1] > losses[2:-1].max()


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
        ({"train_loader": iter([1])}, TypeError, "train_loader must be an iterable that can be gone through again"),
        ({"val_loader": (batch for batch in [])}, TypeError, "val_loader must be an iterable that can be gone through"),
        ({"train_loader": 3}, TypeError, "train_loader must be an iterable"),
        ({"train_loader": [torch.zeros(2)]}, TypeError, "batches must be pairs .* got Tensor; .* forward="),
        ({"train_loader": [(1, 2, 3)]}, TypeError, "got tuple of 3"),
        ({"model": FROZEN}, ValueError, "model must have parameters that require gradients"),
        ({"optimizer": sgd(nn.Linear(2, 2).parameters())}, ValueError, "optimizer must hold parameters of the model"),
        ({"optimizer": "sgd"}, TypeError, "optimizer must be torch's"),
        ({"end_lr": 0.0001}, ValueError, "end_lr must be greater than start_lr = 0.001, got 0.0001"),
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
        ({"accumulate": True}, TypeError, "accumulate must be a positive integer, got True"),
        ({"loss_fn": lambda x, y: x}, ValueError, r"loss_fn must return a scalar tensor, got shape \(16, 2\)"),
        ({"loss_fn": lambda x, y: 1.0}, ValueError, "loss_fn must return a scalar tensor, got <class 'float'>"),
        ({"metric": lambda x, y: float("nan")}, ValueError, "metric must be a finite number on the model as it is"),
        ({"val_loader": [(points()[0], points()[0])]}, ValueError, "metric must be given: accuracy needs scores"),
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


def test_the_csv_is_exact(tmp_path):
    import pandas as pd

    test = spied()[2]
    test.to_csv(tmp_path / "curve.csv")
    text = pd.read_csv(tmp_path / "curve.csv", dtype=str)  # older pandas reads numbers only nearly
    assert text.astype(test.frame.dtypes).equals(test.frame)
