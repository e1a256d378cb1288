"""What one curve shows, on synthetic curves with known truth and beside libraries."""

import numpy as np
import pandas as pd
import pytest
from synthetic import LINEAR, LOG, TRUE_BASE, broken, frame, hill, noisy, up

from clr.range_test.bounds import suggest_bounds
from clr.range_test.curve import (
    MIN_SPLINE,
    Curve,
    CurveKind,
    _blocks,
    _every_pair,
    _rises,
    clipped,
    cross_validated_spline,
    smoothed,
)
from clr.range_test.record import as_range_tests


def test_a_hill_has_a_foot_and_a_third_of_its_fall():
    bounds = suggest_bounds(frame(hill(LOG)))
    assert bounds.base_lr == pytest.approx(TRUE_BASE, rel=0.05)
    assert bounds.max_lr == pytest.approx(1.0, rel=0.05)
    assert (
        bounds.kind is CurveKind.PEAK
        and "Based on one curve" in bounds.verdict
        and str(bounds).split() == bounds.verdict.split()
    )


@pytest.mark.parametrize("sd", [0.0, 0.02])
@pytest.mark.parametrize("later", [0.3, 0.0, -0.2])
def test_a_rise_that_slows_has_its_bounds_at_the_two_knees(sd, later):
    noise = np.random.default_rng(0).normal(0, sd, 100)
    bounds = suggest_bounds(frame(broken(LINEAR, later=later) + noise, LINEAR))
    assert bounds.spacing == "linear" and bounds.kind is CurveKind.PLATEAU
    assert (bounds.base_lr, bounds.max_lr) == pytest.approx((0.15, 0.5), abs=0.01 + 2 * sd)


def test_the_knees_are_those_of_fitting_every_pair_of_them_by_a_library():
    from clr.range_test.curve import _fit_broken_line, _least_squares_knees

    y = broken(LINEAR[::4]) + np.random.default_rng(0).normal(0, 0.03, 25)
    place, fits = np.arange(25.0), []
    for i in range(24):
        for j in range(i + 2, 24):
            columns = np.stack([np.clip(place, i, j) - i, np.maximum(place - j, 0)], axis=1)
            slopes, error, *_ = np.linalg.lstsq(columns, y - 0.1)
            if slopes[0] > 0:
                fits.append((error[0], i, j))
    assert _least_squares_knees(_every_pair(25), y - 0.1)[:2] == min(fits)[1:]
    assert (
        np.abs(np.subtract(_fit_broken_line(place, y, 0.1), min(fits)[1:])).max() <= 1
    )  # between evaluations it fits better still


def unknown(bounds, *names):
    return all(np.isnan(getattr(bounds, f"{n}_lr")) and np.isnan(getattr(bounds, f"{n}_ci")).all() for n in names)


def test_still_rising_at_the_end():
    bounds = suggest_bounds(frame(0.1 + np.maximum(LINEAR - 0.2, 0), LINEAR))
    assert (
        unknown(bounds, "max") and bounds.base_lr == pytest.approx(0.2, abs=0.011) and bounds.kind is CurveKind.RISING
    )


@pytest.mark.parametrize("sd", [0.0, 0.01])
def test_never_rises(sd):
    bounds = suggest_bounds(frame(0.1 + np.random.default_rng(0).normal(0, sd, 100)))
    assert unknown(bounds, "base", "max") and bounds.kind is CurveKind.FLAT


def test_noise_alone_seldom_rises():
    random = np.random.default_rng(1)
    kinds = [suggest_bounds(frame(random.normal(0.1, 0.01, 100))).kind for _ in range(20)]
    assert kinds.count(CurveKind.FLAT) >= 19


def test_already_falling_at_the_start():
    bounds = suggest_bounds(frame(0.9 - 0.8 * up(LOG, 0.001)))
    assert unknown(bounds, "base", "max") and bounds.kind is CurveKind.FALLING


def test_too_few_evaluations():
    bounds = suggest_bounds(frame(hill(LOG[::12]), LOG[::12]))
    assert unknown(bounds, "base", "max") and bounds.kind is CurveKind.TOO_FEW


def test_a_rise_in_the_first_interval_is_at_the_first_rate():
    before = pd.DataFrame({"lr": [np.nan], "metric": [0.1], "seed": [0]})
    metric = np.minimum(0.5 + LINEAR, 0.9)
    bounds = suggest_bounds(pd.concat([before, frame(metric, LINEAR)]))
    assert bounds.base_lr == pytest.approx(LINEAR[0]) and "already rising at the first" in bounds.verdict


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
        assert bounds.max_lr == pytest.approx(1.0, rel=0.15) and "Training diverged in 1 of 1 curves" in bounds.verdict


def test_a_ragged_end_counts_once_it_costs_half_of_the_gain():
    random = np.random.default_rng(0)
    metric = hill(LOG, fall=1e6) - np.where(LOG > 1, random.uniform(0, 0.8, 100) + 0.1, 0)
    assert 0.2 < suggest_bounds(frame(metric)).max_lr < 1


def test_leaving_blocks_out_in_one_go_is_leaving_them_out_one_by_one():
    from scipy.interpolate import make_smoothing_spline

    from clr.range_test.curve import LAMBDAS, _smoothers, cross_validated_spline

    y, place = noisy([0])["metric"].to_numpy()[:30], np.arange(30.0)
    scores = []
    for lam in LAMBDAS:
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
    assert np.sum(cross_validated_spline(y)[1] ** 2) == pytest.approx(min(scores), rel=1e-6)


def measured(metric, untrained):
    """Return a curve that `find_bounds` made of a net with one logit, up to where it diverged."""
    rows = {"lr": [np.nan, *10 ** (0.15 * np.arange(len(metric)))], "metric": [untrained, *metric], "seed": 0}
    return pd.DataFrame(rows)


LOUD = [  # -log(loss) and accuracies, as measured
    (.365, [.37, .37, .37, .38, .39, .42, .45, .5, .58, .75, .93, .86, .85, .7, .55, .57, .47, .76, .38, -.3, -1.15]),
    (.345, [.35, .35, .35, .36, .37, .38, .4, .44, .53, .67, .82, .9, .65, .46, .52, .68, .79, .57, .19, .56, -2.4]),
    (.61, [.62, .62, .63, .65, .62, .64, .71, .72, .72, .72, .78, .81, .79, .72, .48, .77, .79, .75, .64, .44, .56]),
]  # fmt: skip


@pytest.mark.parametrize(("untrained", "metric"), LOUD)
def test_a_clear_rise_before_a_loud_failure_is_a_rise(untrained, metric):
    from clr.range_test.curve import analyse, to_curve

    test = as_range_tests(measured(metric, untrained))[0]
    shape, best = analyse(to_curve(test)), np.log(10) * 0.15 * int(np.argmax(metric))
    assert shape.kind is CurveKind.PEAK and shape.base_x < best < shape.max_x + np.log(3)


@pytest.mark.parametrize("sd", [0, 0.7])
def test_noise_without_a_rise_seldom_has_one_before_its_best_evaluation(sd):
    from clr.range_test.curve import Curve, smoothed

    random = np.random.default_rng(0)
    white = random.normal(0, 1, (40, 26))
    curves = [Curve(np.arange(25.0), e[1:] + sd * e[:-1], 0.0, True, True) for e in white]
    assert sum(smoothed(curve)[2] for curve in curves) <= 2


def test_a_few_evaluations_after_a_peak_that_ends_the_rise_are_left_as_they_are():
    rise = np.linspace(0, 0.3, 30) + np.random.default_rng(77).normal(0, 0.05, 30)
    y = np.append(rise, [-2.0, -2.5, -1.5])
    curve = Curve(np.arange(33.0), y, 0.0, False, False, False)
    end = int(clipped(curve).argmax())
    assert 33 - end < MIN_SPLINE
    assert not _rises(curve, *cross_validated_spline(clipped(curve)))  # the fall hides it from a spline through all
    smooth, errors, rises = smoothed(curve)
    assert rises and smooth[end:].tolist() == clipped(curve)[end:].tolist() and not errors[end:].any()


def test_blocks_have_the_cube_root_of_the_evaluations():
    assert [np.bincount(_blocks(n)).max() for n in (1, 8, 9, 27, 64, 1000)] == [1, 2, 3, 3, 4, 10]


def test_every_pair_of_knees_is_two_apart_or_more_and_begins_at_the_first_evaluation():
    pairs = _every_pair(6)[0].tolist()
    assert pairs == [[0, 2], [0, 3], [0, 4], [1, 3], [1, 4], [2, 4]]
