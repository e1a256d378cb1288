"""From curves to bounds: known truth, honest intervals, verdicts, files and pictures."""

import re
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from synthetic import LINEAR, LOG, TRUE_BASE, broken, frame, hill, noisy, up

import clr
from clr.range_test.bounds import Bounds, suggest_bounds
from clr.range_test.curve import CurveKind
from clr.range_test.peak import FACTORS
from clr.range_test.record import RangeTest

matplotlib.use("Agg")


def curve_of(rows, spacing="exponential", **fields):
    return RangeTest(rows, spacing, **fields)


def test_five_curves_say_so_and_have_a_band():
    bounds = suggest_bounds(noisy(range(5)))
    assert bounds.n_curves == 5 and "Based on 5 curves." in bounds.verdict and bounds.spacing == "exponential"
    for rate, (low, high), truth in ((bounds.base_lr, bounds.base_ci, TRUE_BASE), (bounds.max_lr, bounds.max_ci, 1.0)):
        assert low < rate < high and rate == pytest.approx(truth, rel=0.15)
    assert (bounds.curve["low"] < bounds.curve["high"]).all() and (bounds.curve["n"] == 5).all()


@pytest.mark.parametrize(("seeds", "spread", "least"), [(5, 0.1, 0.85), (3, 0.1, 0.85), (1, 0.0, 0.9)])
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


def test_the_order_of_rows_does_not_matter_for_the_peak_rate():
    rates = np.logspace(-4, 0, 101)
    losses = np.where(rates < 0.2, 1 / (1 + (100 * rates) ** 2), 9)
    rows = pd.DataFrame({"lr": rates, "metric": -losses, "train_loss": losses, "iteration": range(1, 102)})
    for table in (rows, rows.drop(columns="iteration")):
        peak = suggest_bounds(table).peak_lr("linear")
        assert 0.01 < peak < 0.05
        assert suggest_bounds(table.sample(frac=1, random_state=0)).peak_lr("linear") == peak


def test_asking_twice_gives_the_same_interval_and_leaves_the_random_state():
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    first, second = (suggest_bounds(noisy([0])) for _ in range(2))
    assert first.base_ci == second.base_ci and np.random.get_state()[1].tolist() == before


def test_a_test_that_stopped_early_has_a_flag():
    cut = LOG < 3
    rows = pd.DataFrame({"lr": LOG[cut], "metric": (0.1 + 0.8 * up(LOG, 0.01))[cut], "train_loss": 1.0})
    assert suggest_bounds(curve_of(rows, diverged=True)).max_lr == pytest.approx(1.0, rel=0.15)


def test_a_minority_of_curves_does_not_decide():
    curves = pd.concat([noisy(range(4)), frame(np.full(100, 0.1), seed=9)])
    bounds = suggest_bounds(curves)
    assert (
        bounds.max_lr == pytest.approx(1, rel=0.2) and "4 of 5 curves show this; the bounds come from" in bounds.verdict
    )


def test_batches_trained_on_are_mentioned():
    assert "also trained on. Pass a val_loader" in suggest_bounds(curve_of(frame(hill(LOG)), held_out=False)).verdict


@pytest.mark.parametrize(
    ("tests", "error", "message"),
    [
        (pd.DataFrame({"lr": [1.0], "test_accuracy": [0.5]}), ValueError, "column 'metric' .*, got lr, test_accuracy"),
        (pd.DataFrame({"lr": [], "metric": []}), ValueError, "at least one curve with at least one rate"),
        ([], ValueError, "at least one curve|spacing"),
        (3, TypeError, "range tests or a DataFrame, got 3"),
        ([3], TypeError, "range tests or a DataFrame"),
        ([curve_of(frame(LOG)), curve_of(frame(LOG), "linear")], ValueError, "one spacing, got exponential and linear"),
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


def test_a_curve_is_written_to_a_path_in_the_home_and_to_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    test = RangeTest(pd.DataFrame({"lr": [0.1], "metric": [0.5]}))
    test.to_csv("~/curve.csv")
    assert RangeTest.from_csv("~/curve.csv").frame.equals(test.frame) and (tmp_path / "curve.csv").exists()
    with pytest.raises(TypeError, match="path must be a path, got None"):
        test.to_csv(None)


@pytest.mark.parametrize("lr", [LOG, LINEAR])
def test_plots_mark_bounds_and_intervals_on_the_axis_of_the_test(lr):
    curves = noisy(range(3)) if lr is LOG else frame(np.clip(LINEAR, 0.2, 0.6), LINEAR)
    bounds = suggest_bounds(curves)
    assert isinstance(bounds, Bounds)
    ax = bounds.plot()
    assert ax.get_xscale() == ("log" if lr is LOG else "linear")
    vertical = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert {bounds.base_lr, bounds.max_lr} <= set(vertical) and ax.get_ylabel() == "metric (larger is better)"
    assert bounds.plot(ax) is ax
    plt.close("all")


def test_a_smooth_curve_ends_with_its_curve():
    bounds = suggest_bounds(frame(hill(LOG[:60]), LOG[:60]))
    assert bounds.curve["smooth"].notna().all()
    shorter = suggest_bounds([curve_of(frame(hill(LOG))), curve_of(frame(hill(LOG[:60]), LOG[:60]))]).curve
    assert shorter["smooth"].notna().tolist() == [True] * 60 + [False] * 40


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


def test_curves_that_cannot_be_separated_are_refused():
    lr = np.linspace(0.01, 1, 50)
    curve = pd.DataFrame({"lr": lr, "metric": np.clip(lr, 0, 0.4)})
    with pytest.raises(ValueError, match="tests must have one row per rate in each curve: give curves a column 'seed'"):
        suggest_bounds(pd.concat([curve, curve]))


def test_a_rise_before_the_first_evaluation_leaves_the_lower_bound_open():
    lr = np.linspace(0.1, 1, 50)
    early = np.minimum(lr, 0.5)
    curves = pd.concat([pd.DataFrame({"lr": lr, "metric": early, "seed": seed}) for seed in range(3)])
    bounds = suggest_bounds(pd.concat([curves, pd.DataFrame({"lr": np.nan, "metric": 0.0, "seed": [0, 1, 2]})]))
    assert bounds.base_ci == (0.0, bounds.base_lr) and bounds.base_lr == pytest.approx(0.1)
    assert (
        "base_lr: 0.1 or lower, where learning starts." in bounds.verdict
        and "so base_lr may be lower than shown." in bounds.verdict
    )
    late = curves[curves["seed"] == 2].assign(metric=np.clip(lr - 0.3, 0, 0.3))
    most = suggest_bounds(pd.concat([curves[curves["seed"] < 2], late]))
    assert "In 2 of 3 curves the metric is already rising at the first evaluation" in most.verdict
    assert most.base_ci[0] == 0 and most.base_ci[1] > most.base_lr
    some = suggest_bounds(pd.concat([curves[curves["seed"] < 1], *(late.assign(seed=seed) for seed in range(1, 5))]))
    assert "In 1 of 5 curves the metric is already rising at the first evaluation" in some.verdict
    assert 0 < some.base_ci[0] < some.base_lr


def test_curves_without_a_seed_are_not_left_out():
    lr = np.linspace(0.01, 1, 50)
    curve = pd.DataFrame({"lr": lr, "metric": np.clip(lr - 0.2, 0, 0.3)})
    assert suggest_bounds(pd.concat([curve.assign(seed=None), curve.assign(seed=1.0)])).n_curves == 2


RISING = 0.1 + np.maximum(np.log(LOG / LOG[50]), 0)
FLAT, PLATEAU = np.full(100, 0.1), broken(np.arange(100) / 100, later=0.05)


@pytest.mark.parametrize(
    ("others", "kinds"),
    [([RISING, RISING], "2 peak, 2 rising"), ([FLAT, RISING, PLATEAU], "2 peak, 1 flat, 1 rising, 1 plateau")],
)
def test_curves_of_which_no_more_than_half_agree_disagree_and_more_seeds_are_advised(others, kinds):
    bounds = suggest_bounds(pd.concat([noisy(range(2)), *(frame(y, seed=seed) for seed, y in enumerate(others, 2))]))
    assert bounds.kind is CurveKind.DISAGREE and np.isnan([bounds.base_lr, bounds.max_lr, bounds.failure_lr]).all()
    assert bounds.verdict.splitlines() == [
        "Use more seeds, or more updates.", f"The curves disagree ({kinds}).", "Unknown: base_lr and max_lr.",
        f"Based on {2 + len(others)} curves.",
    ]  # fmt: skip


def test_curves_that_disagree_are_read_again_as_they_were_written(tmp_path):
    bounds = suggest_bounds(pd.concat([noisy([0]), frame(FLAT, seed=9)]))
    bounds.to_json(tmp_path / "bounds.json")
    again = Bounds.from_json(tmp_path / "bounds.json")
    assert again == bounds and again.kind is CurveKind.DISAGREE


def test_no_rate_is_proposed_where_as_many_curves_have_bad_data_as_have_not():
    rows = frame(hill(LOG)).assign(train_loss=FALLING_LOSS)
    good, bad = (curve_of(rows, bad_data=bad_data) for bad_data in (False, True))
    bounds = suggest_bounds([good, bad])
    assert np.isnan(bounds.peak_lr("linear")) and bounds.verdict.splitlines()[:2] == [
        "Check the data for NaN and infinity.", "The curves disagree (1 peak, 1 bad data).",
    ]  # fmt: skip


@pytest.mark.parametrize(("evaluations", "seed", "kind"), [(10, 20, CurveKind.PEAK), (10, 212, CurveKind.PLATEAU)])
def test_one_curve_with_no_resample_of_its_kind_has_no_bounds_and_says_so(evaluations, seed, kind):
    lr = np.geomspace(1e-4, 10, evaluations)
    bounds = suggest_bounds(frame(hill(lr) + np.random.default_rng(seed).normal(0, 0.3, evaluations), lr))
    first, seen, why, unknown, *_ = bounds.verdict.splitlines()
    assert bounds.kind is kind and np.isnan([bounds.base_lr, bounds.max_lr, bounds.failure_lr]).all()
    assert first == "Use more seeds, or more updates." and "nan" not in bounds.verdict
    assert seen.startswith("The metric rises, then") and unknown == "Unknown: base_lr and max_lr."
    assert why == "The curve is too noisy to tell at which rate."


@pytest.mark.parametrize(("metric", "factor"), [(hill(LOG), 3), (PLATEAU, np.nan), (FLAT, np.nan)])
def test_training_fails_at_three_times_max_lr_where_max_lr_was_read_off_a_failure(metric, factor):
    bounds = suggest_bounds(frame(metric))
    assert bounds.failure_lr == pytest.approx(factor * bounds.max_lr, nan_ok=True)
    if bounds.kind is CurveKind.PEAK:
        assert f"diverges at {bounds.failure_lr:.2g}." in bounds.verdict


def test_a_peak_that_is_too_narrow_names_where_training_fails():
    bounds = suggest_bounds(frame(hill(LOG, rise=0.3, fall=0.3)))
    assert bounds.kind is CurveKind.TOO_NARROW and bounds.failure_lr == pytest.approx(3 * bounds.max_lr)
    assert f"The metric falls at {bounds.failure_lr:.2g}, too soon" in bounds.verdict
    assert f"an upper limit: a third of {bounds.failure_lr:.2g}." in bounds.verdict


@pytest.mark.parametrize("column", ["net", "dataset", "arm"])
def test_curves_of_several_nets_in_one_table_are_refused(column):
    table = pd.concat([noisy([0]).assign(**{column: "a"}), noisy([1]).assign(**{column: "b"})])
    with pytest.raises(ValueError, match=f"tests must be of one net and one data set, got {column} a, b"):
        suggest_bounds(table)
    assert suggest_bounds(table.assign(**{column: "a"})).n_curves == 2


def exploding():
    """MSE on a net whose metric has no floor, its R^2, and its logarithm."""
    mse = 100 - 90 * up(LOG, 0.01) + np.where(LOG > 1, 1e9 * (LOG - 1) ** 4, 0)
    return mse + np.random.default_rng(0).normal(0, 0.5, len(LOG))


def test_a_loss_without_a_floor_gives_the_bounds_of_its_affine_image():
    mse = exploding()
    start = pd.DataFrame({"lr": [np.nan], "metric": [-100.0], "seed": [0]})
    plain = suggest_bounds(pd.concat([start, frame(-mse)]))
    r2 = suggest_bounds(pd.concat([start.assign(metric=0.0), frame(1 - mse / 100)]))
    assert plain.kind is r2.kind is CurveKind.PEAK and 0.2 < plain.max_lr < 0.4
    assert (r2.base_lr, r2.max_lr) == pytest.approx((plain.base_lr, plain.max_lr), rel=1e-6)
    assert r2.max_ci == pytest.approx(plain.max_ci, rel=1e-6)


def test_where_the_logarithm_of_a_loss_says_otherwise_the_verdict_advises_it():
    mse = 1000 / (1 + LOG / 1e-3) ** 2 + 100 * up(LOG, 0.3, 0.05) + np.where(LOG > 5, 1e6, 0)
    curve = pd.concat([pd.DataFrame({"lr": [np.nan], "metric": [-1000.0], "seed": [0]}), frame(-mse)])
    verdict = suggest_bounds(curve.assign(train_loss=-curve["metric"].where(curve["lr"].notna()))).verdict
    assert "With the logarithm of the loss as metric, max_lr would be" in verdict
    assert "With the logarithm" not in suggest_bounds(frame(hill(LOG))).verdict


def test_equal_curves_are_said_to_be_equal():
    curves = [curve_of(frame(hill(LOG))) for _ in range(3)]
    assert "All of them are equal: let train_loader shuffle" in suggest_bounds(curves).verdict


def test_peak_rates_need_training_losses_at_exponential_rates():
    losses = 0.1 + 2 * (1 - up(LOG, 0.01)) + np.where(LOG > 2, 50.0, 0)
    with_losses = frame(hill(LOG)).assign(train_loss=losses)
    peak = suggest_bounds(with_losses).peak_lr("linear")
    assert 0.1 < peak < 0.5
    assert suggest_bounds(with_losses).policy("constant", 10).lr == suggest_bounds(with_losses).peak_lr("constant")
    linear = frame(hill(LINEAR), LINEAR).assign(train_loss=1.0)
    assert all(np.isnan(suggest_bounds(curve).peak_lr("linear")) for curve in (frame(hill(LOG)), linear))


def test_bounds_and_curves_are_short_in_a_repr():
    test = clr.range_test.RangeTest(frame(hill(LOG)).assign(train_loss=1.0), "exponential", seed=3)
    assert repr(suggest_bounds(test)) == "Bounds(peak_lr=nan, base_lr=0.0062, max_lr=1, n_curves=1)"
    assert repr(test) == "RangeTest(lr=0.0001 to 10, evaluations=100, metric='metric', seed=3, diverged=False)"


def test_bounds_for_a_policy_are_an_error_that_says_which_call_makes_one():
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(TypeError, match=r"got Bounds\(.*\); use bounds.policy\(schedule, iterations\)"):
        clr.PolicyLR(optimizer, suggest_bounds(frame(hill(LOG))))


def dying(unit=1.0, mean=24.0):
    """Losses on targets far from zero: the net learns, fails at 0.01, and from then on only gives the targets' mean."""
    falling = 8 + 212 / (1 + (LOG / 3e-4) ** 3)
    losses = np.where(LOG < 0.01, falling, np.where(LOG < 0.02, 150, mean))
    return unit * (losses + np.random.default_rng(0).normal(0, 0.5, len(LOG)))


def test_a_net_that_only_gives_the_mean_of_the_targets_has_lost_its_gain():
    peak = suggest_bounds(frame(hill(LOG)).assign(train_loss=dying())).peak_lr("linear")
    assert 0.0005 < peak < 0.005  # a third of 0.01 down to a twentieth
    other_unit = suggest_bounds(frame(hill(LOG)).assign(train_loss=dying(unit=1e4))).peak_lr("linear")
    assert other_unit == pytest.approx(peak, rel=1e-6)


def test_losses_that_are_zero_or_negative_are_read_as_they_are():
    losses = np.where(LOG < 1, -2 * up(LOG, 0.01), 50.0)
    assert 0.05 < suggest_bounds(frame(hill(LOG)).assign(train_loss=losses)).peak_lr("linear") < 0.2


@pytest.mark.parametrize(
    ("constant", "said"), [(24.0, True), (215.0, False), (100.0, True), (112.0, False), (None, False)]
)
def test_targets_whose_mean_is_most_of_what_is_learned_are_named(constant, said):
    test = RangeTest(frame(hill(LOG)).assign(train_loss=dying()), "exponential", constant_loss=constant)
    verdict = suggest_bounds(test).verdict
    found = re.search(r"already makes (\d+)% of the fall in loss", verdict)
    assert bool(found) is ("Standardize the targets" in verdict) is said
    assert not found or int(found[1]) == pytest.approx(100 * (220 - constant) / 212, abs=2)


def test_a_peak_rate_above_max_lr_is_explained():
    learning = frame(broken(np.arange(100) / 100, later=0.05)).assign(train_loss=2 - 1.9 * up(LOG, 0.03))
    bounds = suggest_bounds(learning)
    assert bounds.kind is CurveKind.PLATEAU and bounds.peak_lr("triangular") > bounds.max_lr
    assert "The peak rate is above max_lr, since" in bounds.verdict and "Believe the peak rate." in bounds.verdict
    assert "above max_lr" not in suggest_bounds(learning.drop(columns="train_loss")).verdict


def test_a_peak_rate_above_max_lr_where_the_metric_falls_says_to_try_both():
    falling = frame(hill(LOG)).assign(
        train_loss=np.linspace(2, 0.1, len(LOG))
    )  # it gains up to the end, where the metric is lost
    bounds = suggest_bounds(falling)
    assert bounds.kind is CurveKind.PEAK and bounds.peak_lr("linear") > bounds.max_lr
    assert "since the loss still gains where the metric falls.\nTry max_lr as the peak rate, too" in bounds.verdict


def test_training_that_fails_at_once_is_said_with_what_to_try():
    bounds = suggest_bounds(
        curve_of(frame(hill(LOG)[:3], LOG[:3]).assign(train_loss=[1.0, np.nan, np.nan]), diverged=True)
    )
    assert bounds.kind is CurveKind.TOO_FEW and "at rates up to 0.00013" in bounds.verdict
    assert "Start from a smaller start_lr" in bounds.verdict and "as it should" not in bounds.verdict


FALLING_LOSS = 0.1 + 2 * (1 - up(LOG, 0.01)) + np.where(LOG > 2, 50.0, 0)


def test_cycles_are_made_as_nearly_as_whole_step_sizes_allow():
    bounds = suggest_bounds(frame(hill(LOG)).assign(train_loss=FALLING_LOSS))
    asked = [(400, 2), (7, 2), (95, 16), (10, 5)]
    assert [bounds.policy("triangular", n, cycles).step_size for n, cycles in asked] == [100, 2, 3, 1]


def test_the_landmark_is_what_the_peaks_are_a_part_of():
    bounds = suggest_bounds(frame(hill(LOG)).assign(train_loss=FALLING_LOSS))
    for schedule, factor in FACTORS.items():
        assert bounds.landmark == pytest.approx(factor * bounds.peak_lr(schedule))


def test_a_peak_rate_stands_where_the_bounds_are_unknown():
    verdict = suggest_bounds(frame(0.9 - 0.8 * up(LOG, 0.001)).assign(train_loss=FALLING_LOSS)).verdict.splitlines()
    assert verdict[0].startswith("Train with a peak rate of 0.")
    assert verdict[2:5] == [
        "Only the training loss speaks for it: the metric does not show that the model learns.",
        "The metric falls, without a clear rise before.",
        "Unknown: base_lr and max_lr; the peak rate stands, as it is read from the training loss.",
    ]
    assert verdict[5].startswith("To know more, start from a smaller start_lr")


def test_without_a_peak_rate_the_first_line_says_what_to_test():
    verdict = suggest_bounds(frame(np.full(100, 0.1))).verdict
    assert verdict.startswith("Test up to a larger end_lr, train for more updates, or evaluate on more examples.\n")
    assert "\nUnknown: base_lr and max_lr.\n" in verdict


def test_no_rate_is_proposed_from_bad_data():
    curve = curve_of(frame(hill(LOG)).assign(train_loss=FALLING_LOSS), bad_data=True)
    bounds = suggest_bounds(curve)
    assert np.isnan(bounds.peak_lr("linear")) and bounds.verdict.startswith("Check the data for NaN and infinity.")


def test_an_interval_over_decades_is_called_too_uncertain():
    lr = np.geomspace(1e-6, 10, 100)
    two = [frame(hill(lr, rise=rise), lr, seed) for seed, rise in enumerate((1e-4, 1e-2))]
    bounds = suggest_bounds(pd.concat(two))
    assert bounds.base_ci[1] > 100 * bounds.base_ci[0] and "too uncertain to use; its 95% CI" in bounds.verdict


def test_a_picture_says_what_to_train_with_and_where_training_fails():
    test = clr.range_test.RangeTest(frame(hill(LOG)).assign(train_loss=FALLING_LOSS), "exponential")
    bounds = suggest_bounds(test)
    ax, peak = bounds.plot(), f"{bounds.peak_lr('linear'):.2g}"
    fails = f"{3 * bounds.max_lr:.2g}"
    assert f"train with {peak}" in [text.get_text() for text in ax.texts]
    assert ax.get_title() == f"Train with {peak}; the test fails at {fails} (one curve)"
    plt.close("all")


def test_a_loss_that_was_chosen_as_the_metric_is_read_in_logarithms_if_none_is_zero():
    test = clr.range_test.RangeTest(frame(hill(LOG)).assign(train_loss=FALLING_LOSS), "exponential")
    loss = replace(test, frame=test.frame.assign(metric=-1 / test.frame["metric"]), metric_name="-loss")
    bounds = suggest_bounds(loss)
    assert bounds.plot().get_ylabel() == "-log(loss)"
    assert bounds.curve["mean"].to_numpy() == pytest.approx(np.log(test.frame["metric"]))
    loss.frame.loc[0, "metric"] = 0.0
    assert suggest_bounds(loss).plot().get_ylabel() == "-loss"
    plt.close("all")


def test_losses_that_were_kept_have_their_rates_from_two_evaluations():
    rows = {"iteration": [2, 100], "lr": [1e-5, 1e-2], "metric": [0.1, 0.9], "train_loss": [3.0, 1.0]}
    test = clr.range_test.RangeTest(pd.DataFrame(rows), "exponential", losses=tuple(np.linspace(3, 1, 100)))
    rates, losses = test.rates_and_losses()
    assert len(rates) == len(losses) == 100 and rates[[1, 99]] == pytest.approx([1e-5, 1e-2])
