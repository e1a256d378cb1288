"""The judge of the regret benchmark: the truth, the regret and finders' rates, on made-up grids and stored curves."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
regret_judge = pytest.importorskip("regret_judge")
regret_score = pytest.importorskip("regret_score")
regret_bounds = pytest.importorskip("regret_bounds")

SCHEDULES = regret_score.SCHEDULES


def grid(best: float = -2.0, lost: float = 0.5, seeds: int = 3) -> pd.DataFrame:
    """Return a grid whose metric falls by `lost` per decade from .9 at the best rate, and is .1 before training."""
    places = np.arange(-4, 0.01, 0.25)
    rows = [
        ("task", schedule, 10**place, seed, 0.1, 0.9 - lost * abs(place - best) if place < -0.3 else None)
        for schedule in SCHEDULES for place in places for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["task", "schedule", "rate", "seed", "first", "last"])


def test_the_best_rate_has_no_regret_and_others_what_they_lose() -> None:
    truth = regret_score.truths(grid())["task", "linear"]
    assert truth.best == pytest.approx(-2, abs=0.02)
    assert truth.seeds == 3
    assert truth.regret(truth.best) == pytest.approx([0], abs=1e-9)
    assert truth.regret([-3.0, -1.0]) == pytest.approx(100 * 0.5 / 0.8, abs=4)
    assert truth.error(-3.0) == 0  # all seeds are equal


def test_a_run_that_diverged_lost_everything_and_rates_outside_count_as_the_end() -> None:
    truth = regret_score.truths(grid())["task", "constant"]
    assert truth.regret(0.0) == pytest.approx([100], abs=1)
    assert truth.regret(5.0) == pytest.approx(truth.regret(0.0))
    assert truth.regret(-9.0) == pytest.approx(truth.regret(-4.0))


def test_a_finder_without_a_rate_loses_all() -> None:
    places = pd.DataFrame([("task", "linear", 0, np.nan)], columns=["task", "schedule", "pick", "place"])
    judged = regret_judge.regrets(places, regret_score.truths(grid()))
    assert judged["regret"].tolist() == [100]


def test_anyones_finder_is_asked_about_every_stored_curve() -> None:
    curves = regret_judge.read_curves()
    one = regret_judge.asked(lambda rates, losses: 0.01, curves, five=False)
    five = regret_judge.asked(lambda rates, losses: dict.fromkeys(SCHEDULES, rates[10]), curves, five=True)
    assert set(one["place"]) == {-2.0}
    assert set(one["task"]) == set(five["task"]) == set(curves)
    assert set(five["schedule"]) == set(SCHEDULES)


def test_fastais_valley_is_on_the_way_down() -> None:
    rates = np.logspace(-7, 1, 100)
    losses = np.where(rates < 1, 2 / (1 + 100 * rates), 50)
    assert 1e-4 < regret_judge.valley(rates, losses) < 1


def judged(**regrets: float) -> pd.DataFrame:
    rows = [(task, s, 0, regret) for task, regret in regrets.items() for s in SCHEDULES]
    return pd.DataFrame(rows, columns=["task", "schedule", "pick", "regret"])


def test_the_picture_sorts_finders_and_writes_mean_and_worst() -> None:
    ax = plt.figure().subplots()
    finders = {"theirs": judged(easy=30, hard=50), "ours": judged(easy=1, hard=9)}
    regret_judge.draw(ax, finders, ours=["ours"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["theirs", "ours"]  # from below
    assert [text.get_text() for text in ax.texts] == ["40.0", "50", "5.0", "9", "mean", "worst"]
    assert "triangle: hard" in ax.get_xlabel()
    assert [bar.get_width() for bar in ax.patches] == [40, 5]
    plt.close(ax.figure)


def test_schedules_are_compared_with_the_best_one() -> None:
    runs = grid()
    runs.loc[runs["schedule"] == "constant", "last"] -= 0.4  # half of the gain of .8
    truth = regret_score.truths(pd.concat([runs, runs.assign(task="other")]))
    places = pd.DataFrame(
        [(task, s, 0, truth[task, s].best) for task, s in truth], columns=["task", "schedule", "pick", "place"]
    )
    found = regret_judge.against_best_schedule(places, truth)
    assert found["linear"]["mean"] == pytest.approx(0, abs=1e-6)
    assert found["constant"]["worst"] == pytest.approx(50, abs=4)
    assert found["linear"]["saved"] == pytest.approx(found["constant"]["mean"])


def test_the_largest_rate_that_trains_is_one_at_which_every_seed_makes_half_of_the_gain() -> None:
    runs = grid()[lambda rows: rows["schedule"] == "constant"]
    assert regret_bounds.largest_that_trains(runs) == pytest.approx(10**-1.25)  # .9 - .4 is half way up from .1
    runs.loc[(runs["seed"] == 1) & (runs["rate"] > 0.03), "last"] = 0.1
    assert regret_bounds.largest_that_trains(runs) == pytest.approx(10**-1.75)
    assert regret_bounds.largest_that_trains(grid(lost=0)[lambda rows: rows["rate"] < 0.3]) == np.inf


def test_a_stored_curve_is_read_as_the_range_test_that_it_was() -> None:
    curve = regret_judge.read_curves()["digits MLP, Adam"]["close"][0]
    test = regret_bounds.as_test(curve, 0)
    assert len(test.frame) == 51 and np.isnan(test.frame["lr"][0]) and test.losses == tuple(curve.train)
    assert test.frame["train_loss"][1:].to_numpy() == pytest.approx(curve.train.reshape(50, 2).mean(1))
    assert test.frame["metric"][50] == curve.few_metric[99] and test.frame["lr"][50] == curve.lr[99]
    logs = regret_bounds.as_test(curve, 0, "-log(loss)").frame["metric"]
    assert np.exp(-logs[1:].to_numpy()) == pytest.approx(curve.few_loss[1::2])
