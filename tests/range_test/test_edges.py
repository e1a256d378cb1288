"""The rules by which curves are read, at their edges: exact values, just inside and just outside."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import LOG, hill, noisy

from clr.policies import Cosine, Decay, Fixed, OneCycle, Triangular
from clr.range_test.bounds import suggest_bounds
from clr.range_test.curve import (
    Curve,
    CurveKind,
    _crossing,
    _fit_broken_line,
    analyse,
    clipped,
    cross_validated_spline,
    has_diverged,
    robust_std,
    to_curve,
    wild_block_bootstrap,
)
from clr.range_test.record import RangeTest, as_range_tests

# Curves.


@pytest.mark.parametrize(
    ("last_losses", "last_metric", "untrained", "diverged"),
    [
        (4.1, 0.5, 0.0, True),
        (4.0, 0.5, 0.0, False),  # three levels above the first ones, and no more
        (4.1, 0.51, 0.0, False),  # not half of the gain
        (4.1, 0.5, -1.0, False),  # of a larger gain
        (4.1, 0.6, np.nan, True),  # the first evaluation, 0.2, stands for the untrained metric
        (4.1, 0.61, np.nan, False),
        (np.inf, 1.0, 0.0, True),
        (1.0, np.nan, 0.0, True),
    ],
)
def test_divergence_is_a_loss_of_three_levels_and_half_of_the_gain(last_losses, last_metric, untrained, diverged):
    losses, metrics = [1.0] * 10 + [last_losses] * 3, [0.2] * 5 + [1.0] * 7 + [last_metric]
    assert has_diverged(losses, metrics, untrained) is diverged


def test_one_high_loss_of_the_last_three_is_no_divergence_and_two_are():
    assert not has_diverged([1.0] * 12 + [9.0], [1.0] * 12 + [0.0], 0.0)
    assert not has_diverged([1.0] * 9 + [9.0, 1.0, 9.0, 1.0], [1.0] * 12 + [0.0], 0.0)
    assert has_diverged([1.0] * 10 + [9.0, 1.0, 9.0], [1.0] * 12 + [0.0], 0.0)


def test_two_losses_are_too_few_to_have_diverged_and_three_are_not():
    assert not has_diverged([1.0, 8.0], [0.5, 0.49], 0.5)
    assert has_diverged([1.0, 8.0, 8.0], [0.5, 0.5, 0.49], 0.5)


def test_the_last_loss_or_metric_alone_decides_where_it_is_not_finite():
    for bad in (np.nan, np.inf):
        assert has_diverged([1.0] * 12 + [bad], [1.0] * 13, 0.0) and has_diverged([1.0] * 13, [1.0] * 12 + [bad], 0.0)
        assert not has_diverged([1.0] * 11 + [bad, 1.0], [1.0] * 13, 0.0)


def test_a_metric_that_never_changed_is_no_divergence():
    assert not has_diverged([1.0] * 10 + [9.0] * 3, [0.5] * 13, 0.5)
    assert has_diverged([1.0] * 10 + [9.0] * 3, [0.5] * 12 + [0.5 - 1e-5], 0.5)


def test_a_negative_level_counts_by_its_size():
    assert not has_diverged([-1.0] * 10 + [1.9] * 3, [1.0] * 12 + [0.0], 0.0)
    assert has_diverged([-1.0] * 10 + [2.1] * 3, [1.0] * 12 + [0.0], 0.0)


def test_the_first_ten_losses_have_the_level():
    losses = [1.0] * 5 + [2.0] * 14  # their median is 1.5, and four times that is 6
    assert has_diverged([*losses, 7.0, 7.0, 7.0], [1.0] * 21 + [0.0], 0.0)
    assert not has_diverged([*losses, 5.9, 5.9, 5.9], [1.0] * 21 + [0.0], 0.0)


def test_a_test_that_fails_at_its_first_rate_has_no_bad_data():
    rows = {"iteration": [0, 1], "lr": [np.nan, 0.1], "metric": [0.5, np.nan], "train_loss": [np.nan, np.nan]}
    curve = to_curve(RangeTest(pd.DataFrame(rows), "exponential"))
    assert len(curve.y) == 0 and curve.diverged and not curve.bad_data


def test_a_level_that_is_met_but_not_passed_is_crossed_where_it_is_left():
    assert _crossing(np.arange(4.0), np.array([2.0, 1.0, 1.0, 0.0]), 1.0) == 2.0
    assert _crossing(np.arange(3.0), np.array([2.0, 1.5, 1.0]), 1.0) == 2.0
    assert np.isnan(_crossing(np.arange(3.0), np.array([2.0, 1.5, 1.1]), 1.0))
    assert _crossing(np.arange(3.0) + 5, np.array([0.5, 2.0, 0.0]), 1.0) == 5.0
    assert _crossing(np.array([1.0, 3.0]), np.array([2.0, 0.0]), 0.5) == 2.5


@pytest.mark.parametrize(("first", "second"), [(4, 6), (0, 2), (3, 9), (5, 7)])
@pytest.mark.parametrize(("ratio", "slows"), [(0.49, True), (0.51, False), (-1.0, True)])
def test_two_knees_are_found_where_they_are_and_a_line_half_as_steep_is_slower(first, second, ratio, slows):
    place = np.arange(12.0)
    y = np.clip(place - first, 0, second - first) + ratio * np.maximum(place - second, 0)
    found = _fit_broken_line(10 * place, y + 7, 7.0)
    assert found[0] == pytest.approx(10 * first, abs=1e-6)
    assert found[1] == pytest.approx(10 * second, abs=1e-6) if slows else np.isnan(found[1])


def test_a_level_far_away_costs_no_digits():
    y = hill(LOG) + np.random.default_rng(0).normal(0, 0.02, len(LOG))
    smooth, errors = cross_validated_spline(y)
    far, far_errors = cross_validated_spline(y + 1e8)
    np.testing.assert_allclose(far_errors, errors, atol=1e-5)
    np.testing.assert_allclose(far - 1e8, smooth, atol=1e-5)


def test_the_robust_deviation_is_scipys():
    errors = np.random.default_rng(0).normal(0, 2, 101)
    centred = np.concatenate([errors, -errors])
    assert robust_std(centred) == pytest.approx(stats.median_abs_deviation(centred, scale="normal"), rel=1e-4)


def curve(y, untrained=np.nan, diverged=False, log=True, **options):
    return Curve(np.arange(float(len(y))), np.asarray(y, float), untrained, diverged, log, **options)


def test_values_below_the_start_by_more_than_the_gain_count_as_that_far_below():
    assert clipped(curve([0, 2, -1, -9], 0.0)).tolist() == [0, 2, -1, -2]
    assert clipped(curve([5, 1, 3, 7, -90])).tolist() == [5, 1, 3, 7, -1]  # the median of the first three, 3
    assert clipped(curve([0, -1, -9], 1.0)).tolist() == [0, -1, -9]  # no gain


def test_a_peaks_bounds_are_a_fifth_of_its_gain_and_a_third_of_its_half_loss():
    y = np.concatenate([np.linspace(0, 1, 41), np.linspace(1, 0, 41)[1:]])
    x = np.linspace(0, 8, 81)
    shape = analyse(Curve(x, y, 0.0, False, True))
    assert (shape.kind, shape.rises_at_start) == (CurveKind.PEAK, False)
    assert (shape.base_x, shape.max_x) == pytest.approx((0.8, 6 - np.log(3)), abs=0.05)
    linear = analyse(Curve(x, y, 0.0, False, False))
    assert (linear.base_x, linear.max_x) == pytest.approx((0.8, 2.0), abs=0.03)


def test_ten_evaluations_are_enough_and_nine_are_too_few():
    rising = np.arange(10.0)
    assert analyse(curve(rising, 0.0)).kind is not CurveKind.TOO_FEW
    assert analyse(curve(rising[:9], 0.0)).kind is CurveKind.TOO_FEW
    assert analyse(curve(rising, 0.0, bad_data=True)).kind is CurveKind.BAD_DATA


def test_resamples_differ_by_signs_alone_and_come_again():
    noisy_hill = hill(LOG) + np.random.default_rng(0).normal(0, 0.05, len(LOG))
    samples = wild_block_bootstrap(curve(noisy_hill, 0.1), 8)
    assert len({sample.base_x for sample in samples}) > 4
    assert samples == wild_block_bootstrap(curve(noisy_hill, 0.1), 8)


# Bounds.


@pytest.mark.parametrize(("evaluations", "smooth"), [(10, True), (9, False)])
def test_a_curve_of_ten_evaluations_has_a_smooth_line(evaluations, smooth):
    lr = np.geomspace(1e-3, 1, evaluations)
    table = suggest_bounds(pd.DataFrame({"lr": lr, "metric": np.arange(float(evaluations))})).curve
    for name in ("smooth", "low", "high"):
        assert table[name].notna().all() if smooth else table[name].isna().all()


def test_the_band_of_several_curves_is_students():
    curves = noisy(range(4))
    table = suggest_bounds(curves).curve
    by_rate = curves.groupby("lr")["metric"]
    low, high = stats.t.interval(0.95, 3, by_rate.mean(), by_rate.sem())
    np.testing.assert_allclose(table["mean"], by_rate.mean())
    np.testing.assert_allclose(np.stack([table["low"], table["high"]]), np.stack([low, high]))
    assert (table["n"] == 4).all() and table["lr"].is_monotonic_increasing


def test_the_band_of_one_curve_is_1_96_of_its_deviations():
    rows = noisy([0])
    table = suggest_bounds(rows).curve
    smooth, errors = cross_validated_spline(rows["metric"].to_numpy())
    np.testing.assert_allclose(table["smooth"], smooth)
    np.testing.assert_allclose(table["high"] - table["smooth"], 1.96 * robust_std(errors))
    np.testing.assert_allclose(table["smooth"] - table["low"], 1.96 * robust_std(errors))


def test_where_a_curve_has_ended_there_is_no_band_and_no_mean_of_smooth_lines():
    curves = pd.concat([noisy([0]), noisy([1]).iloc[:60]])
    table = suggest_bounds(curves).curve
    assert table["n"].tolist() == [2] * 60 + [1] * 40
    for name in ("low", "high", "smooth"):
        assert table[name].iloc[:59].notna().all() and table[name].iloc[60:].isna().all()


def test_curves_that_agree_are_not_said_to():
    assert "show this" not in suggest_bounds(noisy(range(3))).verdict


def test_the_interval_of_several_curves_is_students_over_their_logarithms():
    curves = [noisy([seed], spread=0.1) for seed in range(3)]
    each = [np.log(suggest_bounds(rows).base_lr) for rows in curves]
    low, high = stats.t.interval(0.95, 2, np.mean(each), stats.sem(each))
    bounds = suggest_bounds(pd.concat(curves))
    assert (bounds.base_lr, *bounds.base_ci) == pytest.approx(np.exp([np.mean(each), low, high]))


# Bounds as values.


def test_policies_are_those_that_are_described():
    peaks = dict.fromkeys(("constant", "triangular", "linear", "one-cycle", "cosine"), (0.8, (0.2, 3.2)))
    bounds = replace(suggest_bounds(noisy([0])), peaks=peaks)
    found = {schedule: bounds.policy(schedule, 100) for schedule in peaks}
    assert found == {
        "constant": Fixed(0.8), "triangular": Triangular(0.2, 0.8, 25), "linear": Decay(0.0, 0.8, 100),
        "one-cycle": OneCycle(0.08, 0.8, 100), "cosine": Cosine(0.8, 100, warmup=5),
    }  # fmt: skip
    assert bounds.policy("triangular", 100, cycles=5).step_size == 10 and bounds.policy("triangular", 5).step_size == 1


def test_bounds_and_tests_cannot_be_changed():
    bounds = suggest_bounds(noisy([0]))
    for value, name in ((bounds, "base_lr"), (bounds.tests[0], "seed"), (curve([1.0]), "diverged")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)


def test_two_curves_that_agree_have_bounds_and_one_of_two_has_none():
    assert np.isfinite([suggest_bounds(noisy(range(2))).base_lr, suggest_bounds(noisy(range(2))).max_lr]).all()
    flat = noisy([1]).assign(metric=0.1)
    assert np.isnan(suggest_bounds(pd.concat([noisy([0]), flat])).base_lr)


@pytest.mark.parametrize(("evaluations", "without", "known"), [(10, False, True), (9, False, False), (10, True, False)])
def test_peak_rates_need_ten_losses_of_every_curve(evaluations, without, known):
    lr = np.geomspace(1e-3, 1, evaluations)
    losses = np.array([9.0] * 6 + [1.0] * (evaluations - 6))
    rows = pd.DataFrame({"lr": lr, "metric": np.arange(float(evaluations)), "train_loss": losses})
    tests = [
        RangeTest(rows, "exponential"),
        RangeTest(rows.drop(columns="train_loss") if without else rows, "exponential"),
    ]
    assert np.isfinite(suggest_bounds(tests).peak_lr("linear")) == known


def test_a_mean_of_losses_belongs_to_the_geometric_mean_of_its_rates():
    ratio = 10**0.1
    rates = 1e-3 * ratio ** np.arange(60)
    each = np.where(rates < 0.2, 2 - np.tanh(np.log10(rates / 1e-2)), 9.0)
    every = 3
    ends = np.arange(every, 61, every)
    rows = pd.DataFrame({"iteration": ends, "lr": rates[ends - 1], "metric": 1.0})
    rows["train_loss"] = [each[end - every : end].mean() for end in ends]
    lr, loss = RangeTest(rows, "exponential").rates_and_losses()
    np.testing.assert_allclose(lr, [np.exp(np.log(rates[end - every : end]).mean()) for end in ends])
    np.testing.assert_allclose(loss, rows["train_loss"])
    lr, loss = RangeTest(rows, "exponential", losses=tuple(each)).rates_and_losses()
    np.testing.assert_allclose(lr, rates)
    np.testing.assert_allclose(loss, each)


def test_linearly_spaced_rates_are_read_on_their_own_axis():
    rates = 0.1 * np.arange(1, 7)
    rows = pd.DataFrame({"iteration": [2, 4, 6], "lr": rates[1::2], "metric": 1.0, "train_loss": [3.0, 2.0, 1.0]})
    np.testing.assert_allclose(RangeTest(rows, "linear").rates_and_losses()[0], [0.15, 0.35, 0.55])
    np.testing.assert_allclose(RangeTest(rows, "linear", losses=(6.0,) * 6).rates_and_losses()[0], rates)
    with pytest.raises(ValueError, match="frame must have the column 'train_loss'"):
        RangeTest(rows.drop(columns="train_loss")).rates_and_losses()


# Records.


@pytest.mark.parametrize(
    ("lr", "spacing"),
    [
        (np.linspace(0, 1, 50), "linear"),
        (np.linspace(0.1, 0.2, 3), "linear"),
        (np.geomspace(1e-4, 0.5, 60), "exponential"),
        (np.geomspace(1e-4, 0.5, 3), "exponential"),
        (np.geomspace(1e-4, 0.5, 2), "linear"),  # nothing shows
    ],
)
def test_spacing_is_told_from_three_rates_on(lr, spacing):
    assert as_range_tests(pd.DataFrame({"lr": lr, "metric": 1.0}))[0].spacing == spacing


def test_a_table_has_each_updates_loss_beside_its_evaluation():
    rows = pd.DataFrame({"iteration": [0, 2, 5], "lr": [np.nan, 0.1, 0.2], "metric": 1.0, "train_loss": 1.0})
    table = RangeTest(rows, losses=(1.0, 2.0, 3.0, 4.0, 5.0)).table()
    assert table["losses"].tolist() == ["", "1.0 2.0", "3.0 4.0 5.0"]
    assert "seed" not in table and "losses" not in RangeTest(rows).table()
