"""One call for all: `find_bounds` on a small net, its result, its interruption and its traces."""

import copy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from toys import flat, sgd

import clr
from clr.range_test import live


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


def task(n=600):
    x = torch.randn(n, 10, generator=torch.Generator().manual_seed(0))
    return x, x[:, :3].argmax(1)


def net():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
    return model, sgd(model.parameters())


def loaders():
    x, y = task()
    train = DataLoader(TensorDataset(x[:500], y[:500]), 25, shuffle=True)
    return train, DataLoader(TensorDataset(x[500:], y[500:]), 50)


def find(seeds=2, **options):
    return clr.find_bounds(*net(), F.cross_entropy, *loaders(), seeds=seeds, **options)


@pytest.fixture(scope="module")
def bounds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TQDM_DISABLE", "1")
        return find(seeds=5)


def test_one_call_gives_bounds_and_peak_rates_that_train(bounds):
    assert bounds.n_curves == 5 and bounds.kind == "peak" and bounds.base_lr < bounds.max_lr
    x, y = task()
    for schedule in ("constant", "triangular", "linear", "one-cycle", "cosine"):
        low, high = bounds.peak_ci(schedule)
        assert low < bounds.peak_lr(schedule) < high
        model, optimizer = net()
        scheduler = clr.PolicyLR(optimizer, bounds.policy(schedule, iterations=300))
        batches = DataLoader(TensorDataset(x[:500], y[:500]), 25, shuffle=True)
        for a, b in [pair for _ in range(15) for pair in batches]:
            optimizer.zero_grad()
            F.cross_entropy(model(a), b).backward()
            optimizer.step()
            scheduler.step()
        assert (model(x[500:]).argmax(1) == y[500:]).float().mean() > 0.85, schedule


def test_policies_have_the_peak_and_the_shape_that_they_are_judged_with(bounds):
    peaks = {name: bounds.peak_lr(name) for name in bounds.peaks}
    for name, peak in peaks.items():
        rates = bounds.policy(name, iterations=400)(np.arange(400))
        assert rates.max() == pytest.approx(peak, rel=1e-12), name
    assert bounds.policy("triangular", 400) == clr.Triangular(peaks["triangular"] / 4, peaks["triangular"], 100)
    assert bounds.policy("triangular", 400, cycles=4).step_size == 50
    assert bounds.policy("linear", 400) == clr.Decay(0, peaks["linear"], 400)
    assert bounds.policy("cosine", 400).warmup == 20
    assert bounds.policy("triangular", 10, cycles=5).step_size == 1
    with pytest.raises(ValueError, match="cycles must be at most iterations / 2, got 20 in 10 iterations"):
        bounds.policy("triangular", 10, cycles=20)
    with pytest.raises(ValueError, match="schedule must be 'constant' or 'triangular' or .* got 'cyclic'"):
        bounds.peak_lr("cyclic")


def test_what_to_do_is_printed_first_then_what_was_seen_a_table_and_the_next_call(bounds):
    lines = str(bounds).splitlines()
    assert max(map(len, lines)) <= 100 and str(bounds).startswith(bounds.verdict)
    rate = f"{bounds.peak_lr('linear'):.2g}"
    assert lines[0] == f"Train with a peak rate of {rate} (constant: {bounds.peak_lr('constant'):.2g})."
    assert f"diverges at {3 * bounds.max_lr:.2g}." in lines[2] and f"a third of {3 * bounds.max_lr:.2g}." in lines[4]
    assert "  one-cycle" in str(bounds) and lines[-1] == 'Next: bounds.policy("one-cycle", iterations=...)'
    assert "The metric is accuracy, since none was given." in lines
    assert "Each evaluation looks at 50 examples." in lines


def test_json_keeps_everything(bounds, tmp_path):
    bounds.to_json(tmp_path / "bounds.json")
    again = clr.Bounds.from_json(tmp_path / "bounds.json")
    assert str(again) == str(bounds) and again.curve.equals(bounds.curve) and again.peaks == bounds.peaks
    assert all(one.frame.equals(two.frame) for one, two in zip(again.tests, bounds.tests, strict=True))
    assert vars(clr.suggest_bounds(again.tests))["max_ci"] == bounds.max_ci
    assert again == bounds and hash(again) == hash(bounds) and replace(again, base_lr=1.0) != bounds != 3


@pytest.mark.parametrize(
    ("text", "got"), [("{}", "lacks base_lr, max_lr"), ("[1]", "lacks base_lr"), ("hello", "char 0")]
)
def test_a_file_that_holds_no_bounds_is_named(text, got, tmp_path):
    (tmp_path / "b.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"path must be a file that to_json wrote, got .*b.json.*{got}"):
        clr.Bounds.from_json(tmp_path / "b.json")


def test_held_out_examples_of_one_class_are_asked_about():
    x, _ = task()
    same = [(x[:50], torch.zeros(50, dtype=torch.long))]
    found = clr.find_bounds(*net(), F.cross_entropy, loaders()[0], same, seeds=1, iterations=20)
    assert "is val_loader sorted, or are the loaders swapped?" in found.verdict and found.tests[0].one_class


def test_curves_from_disk_give_exactly_these_bounds(bounds, tmp_path):
    for test in bounds.tests:
        test.to_csv(tmp_path / f"{test.seed}.csv")
    again = clr.suggest_bounds([clr.range_test.RangeTest.from_csv(tmp_path / f"{seed}.csv") for seed in range(5)])
    assert str(again) == str(bounds) and again.base_ci == bounds.base_ci and again.peaks == bounds.peaks


def test_a_range_that_is_given_is_kept_and_makes_no_scouts():
    found = find(start_lr=1e-3, end_lr=1.0, iterations=40)
    assert found.tests[0].frame["lr"].iloc[1] == pytest.approx(1e-3, rel=0.2)
    assert found.curve["lr"].max() <= 1.0


@pytest.mark.parametrize("given", [{"start_lr": 1e-4}, {"end_lr": 1.0}])
def test_half_a_range_is_completed(given):
    lr = find(iterations=40, **given).curve["lr"]
    assert lr.min() == pytest.approx(given.get("start_lr", lr.min()), rel=0.5) and lr.max() <= given.get(
        "end_lr", np.inf
    )


def test_an_end_below_all_that_the_scouts_find_is_reached_from_further_below():
    lr = find(end_lr=1e-7, seeds=1, iterations=40).curve["lr"]
    assert lr.min() == pytest.approx(1e-7 / 10**2.75, rel=0.5) and lr.max() <= 1e-7


def test_a_curve_ends_where_training_has_failed_and_the_next_begins(monkeypatch):
    finished = []

    class Noted(live.Progress):
        def finish_curve(self, tests):
            super().finish_curve(tests)
            finished.append((len(tests), len(self.curves), len(self.rows)))

    monkeypatch.setattr(sys.modules["clr.range_test.find"], "Progress", Noted)
    found = find(seeds=2, start_lr=0.1, end_lr=1e6, iterations=100)
    assert all(test.frame["iteration"].max() < 100 for test in found.tests)
    assert finished == [(1, 1, 0), (2, 2, 0)]


def test_the_callers_random_numbers_decide_nothing_and_the_loaders_own_are_put_back():
    x, y = task()
    own = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(x[:500], y[:500]), 25, shuffle=True, generator=own)
    before, found = own.get_state(), []
    for seed in (0, 1):
        model, optimizer = net()
        torch.manual_seed(seed)
        found.append(
            clr.find_bounds(model, optimizer, F.cross_entropy, loader, seeds=1, iterations=20, start_lr=1e-3, end_lr=1)
        )
        assert torch.equal(own.get_state(), before)
    assert str(found[0]) == str(found[1]) and found[0].tests[0].losses == found[1].tests[0].losses


@pytest.mark.parametrize(("iterations", "held_out"), [(15, True), (30, False)])
def test_without_val_loader_batches_are_held_out_until_the_second_epoch(iterations, held_out):
    train, _ = loaders()  # of twenty batches
    found = clr.find_bounds(*net(), F.cross_entropy, train, seeds=1, iterations=iterations, start_lr=1e-3, end_lr=1)
    assert found.tests[0].held_out is held_out


def test_scouts_that_learn_nothing_clear_leave_the_whole_range():
    x = torch.randn(400, 8, generator=torch.Generator().manual_seed(3))
    y = x[:, :1] * x[:, 1:2] + torch.randn(400, 1, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
    batches = DataLoader(TensorDataset(x, y), 8, shuffle=True)
    found = clr.find_bounds(model, torch.optim.Adam(model.parameters()), F.mse_loss, batches, batches, seeds=1)
    assert found.tests[0].frame["lr"][1] < 2e-7 and found.tests[0].frame["lr"].max() > 0.1


def test_one_batch_is_trained_and_evaluated_on_and_the_verdict_says_so():
    x, y = task()
    found = clr.find_bounds(*net(), F.cross_entropy, [(x, y)], seeds=1, iterations=20)
    assert "Some evaluation batches were also trained on. Pass a val_loader." in found.verdict


@pytest.mark.filterwarnings("error")
def test_a_net_that_fails_at_once_has_a_verdict_without_warnings():
    x, y = task()
    model = nn.Sequential(nn.Linear(10, 500), nn.Linear(500, 1))
    for parameter in model.parameters():
        parameter.data *= 100
    batches = [(1e6 * a, b.float()[:, None]) for a, b in zip(x.split(50), y.split(50), strict=True)]
    found = clr.find_bounds(model, sgd(model.parameters()), F.mse_loss, batches[:8], batches[8:], seeds=2)
    assert found.kind == "too few" and "Training fails before" in found.verdict and np.isnan(found.peak_lr("linear"))


def test_nothing_is_left_behind():
    model, optimizer = net()
    train, val = loaders()
    before = flat([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()])
    clr.find_bounds(model, optimizer, F.cross_entropy, train, val, seeds=1, iterations=20)
    assert flat([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()]) == before


def test_a_function_makes_new_weights_for_each_seed():
    made = []

    def make():
        model = nn.Linear(10, 3)
        made.append(copy.deepcopy(model.weight))
        return model, sgd(model.parameters())

    before = torch.get_rng_state()
    clr.find_bounds(make, None, F.cross_entropy, *loaders(), seeds=2, iterations=20)
    scouts, curves = made[:2], made[2:]
    assert torch.equal(scouts[0], curves[0]) and not torch.equal(curves[0], curves[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_function_that_returns_what_is_there_leaves_no_trace():
    model, optimizer = net()
    before = flat([model.state_dict(), optimizer.state_dict()])
    clr.find_bounds(lambda: (model, optimizer), None, F.cross_entropy, *loaders(), seeds=2)
    assert flat([model.state_dict(), optimizer.state_dict()]) == before


@pytest.mark.parametrize("finished", [0, 1])
def test_an_interruption_keeps_the_curves_that_are_finished(finished):
    calls = []

    def loss_fn(outputs, targets):
        calls.append(1)
        if len(calls) == 20 + finished * 30:
            raise KeyboardInterrupt
        return F.cross_entropy(outputs, targets)

    model, optimizer = net()
    before = flat(model.state_dict())
    with pytest.raises(KeyboardInterrupt, match=f"stopped after {finished} of 3 curves") as caught:
        clr.find_bounds(
            model, optimizer, loss_fn, *loaders(), seeds=3, start_lr=1e-4, end_lr=0.5, iterations=30,
            metric=lambda outputs, targets: 0.5,
        )  # fmt: skip
    kept = caught.value.bounds
    assert str(caught.value).endswith("the exception's .bounds has theirs" if finished else "there are no bounds yet")
    assert caught.value._render_traceback_() == [f"KeyboardInterrupt: {caught.value}"]  # in a notebook
    assert flat(model.state_dict()) == before and (kept.n_curves if kept else 0) == finished


def test_in_jupyter_one_picture_grows_and_stays(monkeypatch):
    shown = []

    class Handle:
        def update(self, image):
            shown.append(("update", image))

    display = pytest.importorskip("IPython.display")
    monkeypatch.setattr(display, "Image", lambda data: data)
    monkeypatch.setattr(display, "display", lambda image, display_id: shown.append(("display", image)) or Handle())
    monkeypatch.setattr(live, "in_jupyter", lambda: True)
    monkeypatch.setattr(live, "SECONDS", 0.05)
    find(seeds=2, iterations=40)
    assert [how for how, _ in shown] == ["display"] + ["update"] * (len(shown) - 1) and 2 <= len(shown) < 80
    assert all(image.startswith(b"\x89PNG") for _, image in shown)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, TypeError, "model must be a torch module or a function that makes one, got int"),
        ({"model": net}, TypeError, "optimizer must be None where model is a function, got SGD"),
        ({"model": lambda: 3, "optimizer": None}, TypeError, r"model must return \(model, optimizer\), got int"),
        ({"val_loader": TensorDataset(torch.zeros(2))}, TypeError, "val_loader must be .* wrap it in a DataLoader"),
        ({"optimizer": None}, TypeError, "optimizer must be a torch.optim.Optimizer, got None"),
        ({"metric": F.cross_entropy}, ValueError, "metric must be larger where .*, got a loss: pass None"),
        ({"metric": nn.CrossEntropyLoss()}, ValueError, "metric must be larger where outputs are better, got a loss"),
        ({"seeds": 0}, ValueError, "seeds must be a positive integer, got 0"),
        ({"iterations": 5}, ValueError, "iterations must be at least 10, got 5"),
        ({"start_lr": 0}, ValueError, "end_lr must be greater than start_lr > 0, got 0 to"),
        ({"start_lr": 1, "end_lr": 0.1}, ValueError, "end_lr must be greater than start_lr > 0, got 1 to 0.1"),
        ({"start_lr": 0.1, "end_lr": 0.1}, ValueError, "end_lr must be greater than start_lr > 0, got 0.1 to 0.1"),
        ({"end_lr": -1.0}, ValueError, "end_lr must be a finite number >= 0, got -1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    model, optimizer = net()
    train, val = loaders()
    usual = {"model": model, "optimizer": optimizer, "loss_fn": F.cross_entropy, "train_loader": train}
    with pytest.raises(error, match=message):
        clr.find_bounds(**usual | {"val_loader": val} | arguments)


def test_it_takes_fourteen_parameters():
    import inspect

    assert len(inspect.signature(clr.find_bounds).parameters) <= 14


class NextInRow(nn.Module):
    """A small transformer that learns to count modulo 12 within the range test itself."""

    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(12, 16), nn.Parameter(0.02 * torch.randn(8, 16))
        self.layer, self.out = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Linear(16, 12)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(8)
        return self.out(self.layer(self.embed(x) + self.place, src_mask=mask))


def test_where_the_test_solves_the_task_the_proposed_rate_trains():
    """Read from the end of the test, where no gradient was left, the rate was 1.2, and training diverged."""
    torch.manual_seed(0)
    rows = (torch.randint(0, 12, (400, 1)) + 3 * torch.arange(9)) % 12
    batches = list(zip(rows[:, :-1].split(32), rows[:, 1:].split(32), strict=True))
    loss_fn = lambda scores, y: F.cross_entropy(scores.flatten(0, 1), y.flatten())  # noqa: E731
    model = NextInRow()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    bounds = clr.find_bounds(model, optimizer, loss_fn, batches[:10], batches[10:], seeds=2)
    assert "The test has solved its task" in bounds.verdict
    scheduler = clr.PolicyLR(optimizer, bounds.policy("linear", iterations=200))
    for k in range(200):
        x, y = batches[k % 10]
        optimizer.zero_grad()
        (loss := loss_fn(model(x), y)).backward()
        optimizer.step()
        scheduler.step()
    assert loss.item() < 1.0  # untrained: 2.5
