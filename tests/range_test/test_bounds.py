"""The bounds: known truth on synthetic curves, honest intervals, words for all that cannot be told."""

from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import clr
from clr.range_test.bounds import Bounds, suggest_bounds

matplotlib.use("Agg")
LOG = np.geomspace(1e-4, 10, 100)
LINEAR = np.linspace(0.01, 1.0, 100)


def up(lr, at, width=0.15):
    """A rise by one around `at`; a fifth of it is made at `at` * 10 ** (-1.386 * width)."""
    return 1 / (1 + (at / lr) ** (1 / (width * np.log(10))))


def hill(lr, rise=0.01, fall=3.0):
    return 0.1 + 0.8 * up(lr, rise) * (1 - up(lr, fall, 0.05))


def frame(metric, lr=LOG, seed=0):
    return pd.DataFrame({"lr": lr, "metric": metric, "seed": seed})


def noisy(seeds, sd=0.02, spread=0.0, lr=LOG):
    """Curves of `hill`, each with its own noise (whose neighbours hang together) and its own shift along the axis."""
    random = np.random.default_rng(seeds[0])
    parts = []
    for seed in seeds:
        white = random.normal(0, sd, len(lr) + 1)
        shift = 10 ** random.normal(0, spread)
        parts.append(frame(hill(lr * shift) + 0.8 * white[1:] + 0.6 * white[:-1], lr, seed))
    return pd.concat(parts)


@dataclass
class Test:
    __test__ = False
    frame: pd.DataFrame
    spacing: str = "exponential"
    diverged: bool = False
    held_out: bool = True


TRUE_BASE = 0.01 * 10 ** (-1.386 * 0.15)


def test_a_hill_has_a_foot_and_a_third_of_its_fall():
    bounds = suggest_bounds(frame(hill(LOG)))
    assert bounds.base_lr == pytest.approx(TRUE_BASE, rel=0.05)
    assert bounds.max_lr == pytest.approx(1.0, rel=0.05)
    assert "loses half of its gain" in bounds.verdict and "One curve only: seeds were not averaged" in bounds.verdict


def test_five_curves_say_so_and_have_a_band():
    bounds = suggest_bounds(noisy(range(5)))
    assert bounds.n_curves == 5 and "Mean of 5 curves" in bounds.verdict and bounds.spacing == "exponential"
    for rate, (low, high), truth in ((bounds.base_lr, bounds.base_ci, TRUE_BASE), (bounds.max_lr, bounds.max_ci, 1.0)):
        assert low < rate < high and rate == pytest.approx(truth, rel=0.15)
    assert (bounds.curve["low"] < bounds.curve["high"]).all() and (bounds.curve["n"] == 5).all()


@pytest.mark.parametrize(("seeds", "spread", "least"), [(5, 0.1, 0.85), (3, 0.1, 0.85), (1, 0.0, 0.7)])
def test_intervals_cover_the_truth(seeds, spread, least):
    runs = 40 if seeds > 1 else 12
    tests = [noisy(range(10 * k, 10 * k + seeds), spread=spread) for k in range(runs)]
    found = [suggest_bounds(test) for test in tests]
    noiseless = suggest_bounds(frame(hill(LOG)))
    for name in ("base", "max"):
        truth = getattr(noiseless, f"{name}_lr")
        inside = [low <= truth <= high for low, high in (getattr(bounds, f"{name}_ci") for bounds in found)]
        assert np.mean(inside) >= least, name


def test_the_bounds_move_with_the_unit_of_the_rate_and_not_with_that_of_the_metric():
    curves = noisy(range(3))
    plain = suggest_bounds(curves)
    scaled = suggest_bounds(curves.assign(lr=curves.lr * 1000, metric=curves.metric * 100 - 7))
    assert scaled.base_lr == pytest.approx(1000 * plain.base_lr, rel=1e-3)
    assert scaled.max_ci == pytest.approx([1000 * edge for edge in plain.max_ci], rel=1e-3)


def test_the_order_of_curves_and_rows_does_not_matter():
    curves = noisy(range(3))
    mixed = curves.assign(seed=2 - curves.seed).sample(frac=1, random_state=0)
    plain, other = suggest_bounds(curves), suggest_bounds(mixed)
    assert (plain.base_lr, plain.max_lr, *plain.base_ci) == pytest.approx((other.base_lr, other.max_lr, *other.base_ci))


def test_asking_twice_gives_the_same_interval_and_leaves_the_random_state():
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    first, second = (suggest_bounds(noisy([0])) for _ in range(2))
    assert first.base_ci == second.base_ci and np.random.get_state()[1].tolist() == before


def broken(lr, start=0.15, knee=0.5, later=0.2):
    """A level, a rise, and a slower one."""
    return 0.1 + np.clip(lr - start, 0, knee - start) + later * np.maximum(lr - knee, 0)


@pytest.mark.parametrize("sd", [0.0, 0.02])
@pytest.mark.parametrize("later", [0.3, 0.0, -0.2])
def test_a_rise_that_slows_has_its_bounds_at_the_two_knees(sd, later):
    noise = np.random.default_rng(0).normal(0, sd, 100)
    bounds = suggest_bounds(frame(broken(LINEAR, later=later) + noise, LINEAR))
    assert bounds.spacing == "linear" and "max_lr is where it slows" in bounds.verdict
    assert (bounds.base_lr, bounds.max_lr) == pytest.approx((0.15, 0.5), abs=0.01 + 2 * sd)


def test_the_knees_are_those_of_fitting_every_pair_of_them_by_a_library():
    from clr.range_test.curve import _best, _every_pair, _knees

    y = broken(LINEAR[::4]) + np.random.default_rng(0).normal(0, 0.03, 25)
    place, fits = np.arange(25.0), []
    for i in range(24):
        for j in range(i + 2, 24):
            columns = np.stack([np.clip(place, i, j) - i, np.maximum(place - j, 0)], axis=1)
            slopes, error, *_ = np.linalg.lstsq(columns, y - 0.1)
            if slopes[0] > 0:
                fits.append((error[0], i, j))
    assert _best(_every_pair(25), y - 0.1)[:2] == min(fits)[1:]
    assert (
        np.abs(np.subtract(_knees(place, y, 0.1), min(fits)[1:])).max() <= 1
    )  # between evaluations it fits better still


def untold(bounds, *names):
    return all(np.isnan(getattr(bounds, f"{n}_lr")) and np.isnan(getattr(bounds, f"{n}_ci")).all() for n in names)


def test_still_rising_at_the_end():
    bounds = suggest_bounds(frame(0.1 + np.maximum(LINEAR - 0.2, 0), LINEAR))
    assert (
        untold(bounds, "max")
        and bounds.base_lr == pytest.approx(0.2, abs=0.011)
        and "still rising at the largest rate" in bounds.verdict
    )


@pytest.mark.parametrize("sd", [0.0, 0.01])
def test_never_rises(sd):
    bounds = suggest_bounds(frame(0.1 + np.random.default_rng(0).normal(0, sd, 100)))
    assert untold(bounds, "base", "max") and "never rises" in bounds.verdict


def test_noise_alone_seldom_rises():
    random = np.random.default_rng(1)
    verdicts = [suggest_bounds(frame(random.normal(0.1, 0.01, 100))).verdict for _ in range(20)]
    assert sum("never rises" in verdict for verdict in verdicts) >= 19


def test_already_falling_at_the_start():
    bounds = suggest_bounds(frame(0.9 - 0.8 * up(LOG, 0.001)))
    assert untold(bounds, "base", "max") and "already falling at the start" in bounds.verdict


def test_too_few_evaluations():
    bounds = suggest_bounds(frame(hill(LOG[::12]), LOG[::12]))
    assert untold(bounds, "base", "max") and "fewer than 10 evaluations" in bounds.verdict


def test_a_rise_in_the_first_interval_is_at_the_first_rate():
    before = pd.DataFrame({"lr": [np.nan], "metric": [0.1], "seed": [0]})
    metric = np.minimum(0.5 + LINEAR, 0.9)
    bounds = suggest_bounds(pd.concat([before, frame(metric, LINEAR)]))
    assert bounds.base_lr == pytest.approx(LINEAR[0]) and "begins at the first evaluation or before" in bounds.verdict


def test_one_high_first_evaluation_is_noise_and_no_rise():
    before = pd.DataFrame({"lr": [np.nan], "metric": [0.1], "seed": [0]})
    metric = hill(LOG) + np.random.default_rng(0).normal(0, 0.02, 100)
    metric[0] = 0.4  # well above a fifth of the gain
    bounds = suggest_bounds(pd.concat([before, frame(metric)]))
    assert bounds.base_lr == pytest.approx(TRUE_BASE, rel=0.3) and "first evaluation" not in bounds.verdict


def test_a_curve_that_diverges_loses_its_gain_there():
    metric = 0.1 + 0.8 * up(LOG, 0.01)
    tail = np.where(LOG > 3, np.nan, metric)
    for curve in (frame(tail), frame(metric).assign(train_loss=np.where(LOG > 3, np.inf, 1.0))):
        bounds = suggest_bounds(curve)
        assert bounds.max_lr == pytest.approx(1.0, rel=0.15) and "1 of 1 curves diverged" in bounds.verdict


def test_a_test_that_stopped_early_is_told_by_its_flag():
    cut = LOG < 3
    rows = pd.DataFrame({"lr": LOG[cut], "metric": (0.1 + 0.8 * up(LOG, 0.01))[cut], "train_loss": 1.0})
    assert suggest_bounds(Test(rows, diverged=True)).max_lr == pytest.approx(1.0, rel=0.15)


def test_a_ragged_end_counts_once_it_costs_half_of_the_gain():
    random = np.random.default_rng(0)
    metric = hill(LOG, fall=1e6) - np.where(LOG > 1, random.uniform(0, 0.8, 100) + 0.1, 0)
    assert 0.2 < suggest_bounds(frame(metric)).max_lr < 1


def test_a_minority_of_curves_does_not_decide():
    curves = pd.concat([noisy(range(4)), frame(np.full(100, 0.1), seed=9)])
    bounds = suggest_bounds(curves)
    assert bounds.max_lr == pytest.approx(1, rel=0.2) and "Only 4 of 5 curves show this" in bounds.verdict


def test_batches_trained_on_are_mentioned():
    assert "were trained on as well" in suggest_bounds(Test(frame(hill(LOG)), held_out=False)).verdict


@pytest.mark.parametrize(
    ("tests", "error", "message"),
    [
        (pd.DataFrame({"lr": [1.0], "test_accuracy": [0.5]}), ValueError, "column 'metric' .*, got lr, test_accuracy"),
        (pd.DataFrame({"lr": [], "metric": []}), ValueError, "at least one curve with at least one rate"),
        ([], ValueError, "at least one curve|spacing"),
        (3, TypeError, "range tests or a DataFrame, got 3"),
        ([3], TypeError, "range tests or a DataFrame"),
        ([Test(frame(LOG)), Test(frame(LOG), "linear")], ValueError, "one spacing, got exponential and linear"),
    ],
)
def test_bad_input(tests, error, message):
    with pytest.raises(error, match=message):
        suggest_bounds(tests)


def test_a_curve_from_disk_says_the_same(tmp_path):
    curves = noisy(range(2))
    curves.to_csv(tmp_path / "curves.csv", index=False)
    text = pd.read_csv(tmp_path / "curves.csv", dtype=str)  # older pandas reads numbers only nearly
    assert suggest_bounds(text.astype(curves.dtypes)).base_ci == suggest_bounds(curves).base_ci


@pytest.mark.parametrize("lr", [LOG, LINEAR])
def test_plots_mark_bounds_and_intervals_on_the_axis_of_the_test(lr):
    curves = noisy(range(3)) if lr is LOG else frame(np.clip(LINEAR, 0.2, 0.6), LINEAR)
    bounds = suggest_bounds(curves)
    assert isinstance(bounds, Bounds)
    ax = bounds.plot()
    assert ax.get_xscale() == ("log" if lr is LOG else "linear")
    assert {label.split(" =")[0] for label in ax.get_legend_handles_labels()[1]} >= {"base_lr", "max_lr", "95 % band"}
    assert bounds.plot(ax) is ax
    plt.close("all")


def test_a_range_test_draws_itself():
    import torch

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))]
    test = clr.lr_range_test(
        model, optimizer, torch.nn.functional.cross_entropy, batches, batches, start_lr=0, end_lr=1, iterations=20,
        progress=False,
    )  # fmt: skip
    ax = test.plot(bounds=suggest_bounds(test))
    assert ax.get_xlabel() == "learning rate" and len(ax.lines[0].get_xdata()) == 20
    plt.close("all")


def test_leaving_blocks_out_in_one_go_is_leaving_them_out_one_by_one():
    from scipy.interpolate import make_smoothing_spline

    from clr.range_test.curve import LAMS, _smoothers, smoothed

    y, place = noisy([0])["metric"].to_numpy()[:30], np.arange(30.0)
    scores = []
    for lam in LAMS:
        errors = []
        for block in _smoothers(30)[2]:
            rest = np.setdiff1d(np.arange(30), block)
            if 0 in block or 29 in block:  # beyond its ends a natural spline is a straight line
                spline = make_smoothing_spline(place[rest], y[rest], lam=lam)
                end, at = (rest[0], block) if 0 in block else (rest[-1], block)
                guess = spline(end) + spline.derivative()(end) * (at - end)
            else:
                guess = make_smoothing_spline(place[rest], y[rest], lam=lam)(block)
            errors.append(np.sum((guess - y[block]) ** 2))
        scores.append(np.sum(errors))
    assert np.sum(smoothed(y)[1] ** 2) == pytest.approx(min(scores), rel=1e-6)


def test_curves_that_cannot_be_told_apart_are_refused():
    lr = np.linspace(0.01, 1, 50)
    curve = pd.DataFrame({"lr": lr, "metric": np.clip(lr, 0, 0.4)})
    with pytest.raises(ValueError, match="tests must have one row a rate in each curve: give curves a column 'seed'"):
        suggest_bounds(pd.concat([curve, curve]))


def test_a_rise_before_the_first_evaluation_leaves_the_lower_bound_open():
    lr = np.linspace(0.1, 1, 50)
    early = np.minimum(lr, 0.5)
    curves = pd.concat([pd.DataFrame({"lr": lr, "metric": early, "seed": seed}) for seed in range(3)])
    bounds = suggest_bounds(pd.concat([curves, pd.DataFrame({"lr": np.nan, "metric": 0.0, "seed": [0, 1, 2]})]))
    assert bounds.base_ci == (0.0, bounds.base_lr) and bounds.base_lr == pytest.approx(0.1)
    assert "base_lr at most 0.1. " in bounds.verdict and "or before, whose rate base_lr is" in bounds.verdict
    late = curves[curves["seed"] == 2].assign(metric=np.clip(lr - 0.3, 0, 0.3))
    most = suggest_bounds(pd.concat([curves[curves["seed"] < 2], late]))
    assert "In 2 of 3 curves the rise begins at the first evaluation or before" in most.verdict
    assert most.base_ci[0] == 0 and most.base_ci[1] > most.base_lr
    some = suggest_bounds(pd.concat([curves[curves["seed"] < 1], *(late.assign(seed=seed) for seed in range(1, 5))]))
    assert "In 1 of 5 curves the rise begins at the first evaluation or before" in some.verdict
    assert 0 < some.base_ci[0] < some.base_lr


def test_curves_without_a_seed_are_not_left_out():
    lr = np.linspace(0.01, 1, 50)
    curve = pd.DataFrame({"lr": lr, "metric": np.clip(lr - 0.2, 0, 0.3)})
    assert suggest_bounds(pd.concat([curve.assign(seed=None), curve.assign(seed=1.0)])).seeds == 2
