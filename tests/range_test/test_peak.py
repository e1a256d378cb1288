"""The rule for peak rates: it follows units, and counts what ended early as lost."""

import tracemalloc

import numpy as np
import pytest

from clr.range_test.peak import FACTORS, INTERVAL, _smoothed, in_logs, is_solved, landmark, peak_rates

RATES = np.logspace(-5, 1, 121)


def valley(edge: float = 0.3, seed: int = 0, noise: float = 0.02) -> np.ndarray:
    """Return losses that fall from 2 around 1e-3, and explode beyond the edge."""
    random = np.random.default_rng(seed)
    losses = 0.2 + 1.8 / (1 + (RATES / 1e-3) ** 2) + noise * random.standard_normal(len(RATES))
    return np.where(edge < RATES, losses + 50 * (RATES / edge - 1), losses)


def test_the_landmark_is_where_the_gain_is_lost() -> None:
    assert landmark([(RATES, valley(0.3))]) == pytest.approx(0.3, rel=0.3)
    assert landmark([(RATES, valley(0.03))]) == pytest.approx(0.03, rel=0.3)


def by_definition(losses: np.ndarray, width: float) -> np.ndarray:
    updates = np.arange(len(losses))
    kernel = np.exp(-0.5 * ((updates[:, None] - updates) / width) ** 2)
    return kernel @ losses / kernel.sum(1)


@pytest.mark.parametrize("updates", [1, 2, 9, 121, 500])
@pytest.mark.parametrize("width", [1e-9, 0.7, 3.0, 40.0])
def test_losses_are_averaged_with_the_weights_of_a_gaussian_also_at_the_ends(updates: int, width: float) -> None:
    losses = 1e3 + np.random.default_rng(0).standard_normal(updates)
    np.testing.assert_allclose(_smoothed(losses, width), by_definition(losses, width), rtol=1e-13)


def test_a_landmark_of_thousands_of_updates_needs_little_memory() -> None:
    rates = np.logspace(-5, 1, 4000)
    losses = np.interp(np.log(rates), np.log(RATES), valley())
    tracemalloc.start()
    found = landmark([(rates, losses)] * 2)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == pytest.approx(0.3, rel=0.3) and most < 2**20  # bytes; a matrix of all pairs has 128 million


def test_rates_that_do_not_rise_have_no_landmark() -> None:
    for rates in (RATES[::-1], np.ones(len(RATES))):
        assert np.isnan(landmark([(rates, valley())]))


def test_rates_in_other_units_move_the_peak_with_them() -> None:
    assert landmark([(1000 * RATES, valley())]) == pytest.approx(1000 * landmark([(RATES, valley())]))


@pytest.mark.parametrize(("scale", "shift"), [(100, 0), (0.01, 0), (1, 50), (3, -7)])
def test_the_loss_in_other_units_changes_nothing(scale: float, shift: float) -> None:
    assert landmark([(RATES, scale * valley() + shift)]) == pytest.approx(landmark([(RATES, valley())]))


def test_a_curve_that_ends_is_lost_from_there_on() -> None:
    losses = valley()
    cut = np.where(RATES > 0.35, np.nan, losses)
    n = int((RATES <= 0.35).sum())
    assert landmark([(RATES, cut)]) == landmark([(RATES, np.where(RATES > 0.35, np.inf, losses))])
    assert landmark([(RATES, cut)]) == pytest.approx(0.35, rel=0.3)
    assert landmark([(RATES, losses), (RATES[:n], losses[:n])]) == pytest.approx(0.35, rel=0.3)


def test_several_curves_are_averaged() -> None:
    five = landmark([(RATES, valley(0.3, seed, noise=0.3)) for seed in range(5)])
    assert five == pytest.approx(0.3, rel=0.3)


def test_a_test_that_is_never_lost_ends_at_its_largest_rate() -> None:
    assert landmark([(RATES, valley(edge=1e9))]) == pytest.approx(RATES[-1] * RATES[1] / RATES[0])


def test_without_a_gain_there_is_no_rate() -> None:
    noise = np.random.default_rng(0).standard_normal(len(RATES))
    for losses in (np.full(len(RATES), 2.0), 2 + RATES, 2 + noise, np.full(len(RATES), np.nan)):
        peaks = peak_rates([(RATES, losses)])
        assert np.isnan([value for lr, ends in peaks.values() for value in (lr, *ends)]).all()


def test_every_schedule_gets_a_rate_inside_its_interval() -> None:
    peaks = peak_rates([(RATES, valley())])
    assert set(peaks) == {"constant", "triangular", "linear", "one-cycle", "cosine"} == set(FACTORS)
    for lr, (low, high) in peaks.values():
        assert low * INTERVAL == pytest.approx(lr) == pytest.approx(high / INTERVAL)
    assert peaks["constant"][0] < peaks["linear"][0]


def test_losses_that_rise_from_the_first_rate_have_no_peak() -> None:
    losses = 1.1 * 2.0 ** np.arange(len(RATES))
    assert np.isnan(landmark([(RATES, losses)]))
    assert np.isnan(peak_rates([(RATES[:8], losses[:8])])["linear"][0])


def landmark_by_definition(curves: list[np.ndarray]) -> float:
    """Return what `landmark` does, from its docstring and a Gaussian's weights."""
    place, width = np.log10(RATES), 0.1 / (np.log10(RATES[1]) - np.log10(RATES[0]))
    ends = [losses[: np.flatnonzero(~np.isfinite(np.append(losses, np.nan)))[0]] for losses in curves]
    before = [losses[:5].mean() for losses in ends]
    capped = []
    for losses, first in zip(ends, before, strict=True):
        top = 2 * first - min(by_definition(losses, width).min(), first)
        capped.append(np.append(np.minimum(losses, top), np.full(len(RATES) - len(losses), top)))
    smooth = by_definition(np.mean(capped, axis=0), width)
    lowest = int(smooth.argmin())
    level = (np.mean(before) + smooth[lowest]) / 2
    i = lowest + int(np.flatnonzero(smooth[lowest:] > level)[0])
    return float(10 ** np.interp(level, smooth[i - 1 : i + 1], place[i - 1 : i + 1]))


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_the_landmark_of_noisy_curves_of_which_one_ends_early_is_that_of_the_definition(noise: float) -> None:
    early = valley(0.3, 1, noise)
    early[95:] = np.inf
    for curves in ([valley(0.3, 2, noise)], [valley(0.3, 2, noise), early, valley(0.1, 3, noise)]):
        assert landmark([(RATES, losses) for losses in curves]) == pytest.approx(
            landmark_by_definition(curves), rel=1e-9
        )


def test_a_curve_of_a_single_loss_does_not_hide_the_others() -> None:
    assert landmark([(RATES, valley()), (RATES, valley()[:1])]) == pytest.approx(0.3, rel=0.3)


def test_a_loss_of_nothing_counts_as_the_least_above_it_and_a_negative_one_has_all_curves_read_as_they_are() -> None:
    nothing, negative = valley(seed=1), valley(seed=1)
    nothing[60], negative[60] = 0.0, -0.1
    logs = in_logs([(RATES, valley()), (RATES, nothing)])
    least = min(valley().min(), nothing[nothing > 0].min())
    nothing[60] = least
    assert [losses.tolist() for _, losses in logs] == [np.log(valley()).tolist(), np.log(nothing).tolist()]
    for losses in (negative, np.zeros(len(RATES))):
        curves = [(RATES, valley() * (losses < 0).any()), (RATES, losses)]
        assert in_logs(curves) == curves


def solved(edge: float = np.inf, least: float = 1e-4) -> np.ndarray:
    """Return losses that fall from 2 to nearly nothing, a hundredth at 1e-2, and explode beyond the edge."""
    losses = np.maximum(2 / (1 + 99 * (RATES / 1e-2) ** 4), least)
    return np.where(edge < RATES, 2.0, losses)


@pytest.mark.parametrize("least", [1e-4, 0.0])
def test_a_test_that_has_solved_its_task_ends_where_it_has(least: float) -> None:
    """Beyond, there is no gradient left, and no rate can be seen to fail."""
    curves = [(RATES, solved(least=least)), (RATES, 1.1 * solved(least=least))]
    assert is_solved(curves)
    assert peak_rates(curves)["linear"][0] == pytest.approx(1e-2 / FACTORS["linear"], rel=0.2)


@pytest.mark.parametrize(
    "losses", [solved(edge=1.0), solved(least=0.03), solved() - 1e-3], ids=["fails", "not all", "negative"]
)
def test_a_test_that_fails_later_or_keeps_some_loss_or_may_be_negative_has_solved_nothing(losses: np.ndarray) -> None:
    curves = [(RATES, losses)]
    assert not is_solved(curves)
    assert peak_rates(curves)["linear"][0] == landmark(in_logs(curves)) / FACTORS["linear"] > 0.1
