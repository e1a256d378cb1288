"""Findings: differences are scipy's paired ones, words follow the intervals, and few runs get a pooled interval."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from clr import results
from clr.experiments import EXPERIMENTS, findings, questions
from clr.experiments.questions import QUESTIONS

A_FULL = ("controls", "triangular-25k-drops"), ("controls", "linear-25k")


def a_full(save, first, second):
    """Save runs of question (a) on the full net, and return its finding."""
    for (name, arm), accuracies in zip(A_FULL, (first, second), strict=True):
        for seed, accuracy in enumerate(accuracies):
            save(name, arm, seed, {25_000: accuracy})
    return findings.findings().set_index("key").loc["a-full"]


def test_nothing_has_been_found_before_anything_has_run():
    assert findings.findings().empty and list(findings.findings()) == findings.COLUMNS
    assert findings.findings_table().empty


def test_the_difference_and_its_intervals_are_scipys_paired_ones(save):
    first, second = [0.78, 0.80, 0.79, 0.81], [0.77, 0.80, 0.80, 0.785]
    row = a_full(save, first, second)
    test = stats.ttest_rel(100 * np.array(first), 100 * np.array(second))
    at95, at90 = test.confidence_interval(0.95), test.confidence_interval(0.90)
    assert (row["value"], row["n"], row["interval"], row["unit"]) == (pytest.approx(0.625), 4, "t", "points")
    assert (row["low"], row["high"]) == (pytest.approx(at95.low), pytest.approx(at95.high))
    assert (row["low90"], row["high90"]) == (pytest.approx(at90.low), pytest.approx(at90.high))


@pytest.mark.parametrize("spread", [0.002, 0.004, 0.006, 0.02])
def test_equality_is_what_two_one_sided_tests_say(save, spread):
    differences = 0.003 + spread * np.array([-1, -0.5, 0, 0.5, 1])
    row = a_full(save, 0.78 + differences, [0.78] * 5)
    points = 100 * differences
    p = max(
        stats.ttest_1samp(points, -1, alternative="greater").pvalue,
        stats.ttest_1samp(points, 1, alternative="less").pvalue,
    )
    assert (row["answer"] == "Yes, within one point") == (p < 0.05)


@pytest.mark.parametrize(
    ("differences", "answer"),
    [
        ([0.02, 0.021, 0.022], "No, cycles finish higher"),
        ([-0.02, -0.021, -0.022], "No, the line is higher"),
        ([0.003, 0.0031, 0.0029], "Yes, within one point"),  # above zero, too: equality is what is asked
        ([-0.03, 0.0, 0.03], "Open"),
    ],
)
def test_the_answer_follows_the_intervals(save, differences, answer):
    assert a_full(save, [0.7 + d for d in differences], [0.7] * 3)["answer"] == answer


def test_a_sign_comes_first_where_equality_is_not_asked(save):
    for seed in range(3):
        save("controls", "fixed-25k-high", seed, {25_000: 0.703 + seed / 1e4})
        save("controls", "fixed-25k", seed, {25_000: 0.70})
    assert findings.findings().set_index("key").loc["b", "answer"] == "Yes, high finishes higher"


def test_one_pair_has_a_pooled_interval_only_where_the_nets_arms_give_one(save):
    assert np.isnan(a_full(save, [0.80], [0.77])["low"])
    random = np.random.default_rng(0)
    arms = ["fixed-25k", "one-cycle-25k", "fixed-25k-high"]
    for arm in arms:
        for seed in range(4):
            save("controls", arm, seed, {25_000: 0.78 + random.normal(0, 0.002)})
    row = findings.findings().set_index("key").loc["a-full"]
    sd, df = findings.pooled_spread(results.read(), "cifar10", "Cifar10Full", "caffe")
    half = stats.t.ppf(0.975, df) * sd * np.sqrt(2)
    assert (row["interval"], row["n"]) == ("pooled", 1)
    assert (row["low"], row["high"]) == (pytest.approx(3 - half), pytest.approx(3 + half))
    assert row["answer"] == "Preliminary: no, cycles finish higher"
    assert findings.format_effect(row).endswith(", pooled, n = 1)")


def test_pooled_spread_is_that_of_a_two_way_analysis_of_variance(save):
    """On a full table the residual of arm + seed is what remains after both means are taken off."""
    table = 0.7 + np.array([[0.0, 0.01, 0.03], [0.02, 0.01, 0.04], [0.05, 0.07, 0.06]])
    for arm, row in zip(("fixed-25k", "linear-25k", "one-cycle-25k"), table, strict=True):
        for seed, accuracy in enumerate(row):
            save("controls", arm, seed, {25_000: accuracy})
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    sd, df = findings.pooled_spread(results.read(), "cifar10", "Cifar10Full", "caffe")
    assert df == 4 and sd == pytest.approx(100 * np.sqrt((residual**2).sum() / 4))


def test_cycles_are_compared_over_their_ends_in_points_and_in_updates(save):
    grid = range(4000, 32_001, 4000)
    for seed in range(3):
        save("headline", "triangular", seed, {k: 0.50 + k / 1e6 + 0.01 for k in grid})
        save("headline-controls", "linear-32k", seed, {k: 0.50 + k / 1e6 for k in [*grid, 12_500]} | {12_500: 0.9})
    found = findings.findings().set_index("key")
    assert found.loc["c-quick-line", "value"] == pytest.approx(1)
    assert found.loc["c-quick-line-updates", "value"] == pytest.approx((10_000 * 3 + 8_000) / 4)  # 32,000 is the end
    assert found.loc["c-quick-line-updates", "unit"] == "updates"
    assert found.loc["c-quick-line-updates", "answer"] == "Yes, earlier"


def test_a_run_without_all_readings_is_left_out(save):
    save("headline", "triangular", 0, dict.fromkeys(questions.QUICK_ENDS[:-1], 0.7))
    save("headline-controls", "linear-32k", 0, dict.fromkeys(questions.QUICK_ENDS, 0.7))
    assert not set(findings.findings()["key"]) & {"c-quick-line", "c-quick-line-updates"}


def test_every_question_reads_arms_of_the_catalogue_where_they_are_evaluated():
    assert len({question.key for question in QUESTIONS}) == len(QUESTIONS)
    for question in QUESTIONS:
        for reading in (question.first, question.second):
            for arm in reading.best_of or (reading.arm,):
                config = EXPERIMENTS[reading.experiment].arms[arm]
                assert all(k <= config.iterations and k % config.evaluate_every == 0 for k in reading.at)
        assert set(question.answers) <= {"above", "below", "equal"}
        assert all(len(answer.split()) <= 5 for answer in question.answers.values())


def test_the_table_names_the_runs_and_calls_exploratory_readings_so(save):
    for seed in range(3):
        save("headline", "triangular", seed, dict.fromkeys(questions.QUICK_ENDS, 0.70 + seed / 100))
        save("headline-controls", "linear-32k", seed, dict.fromkeys(questions.QUICK_ENDS, 0.69 + seed / 100))
    assert findings.findings_table().empty
    row = findings.findings_table(exploratory=True).iloc[0]
    assert row["where"] == "cifar10/headline/triangular"
    assert row["difference"].endswith("mean over cycle ends (exploratory: chosen after three seeds)")
    assert row["effect (95% interval)"] == "+1.0 points (+1.0 to +1.0, n = 3)"


# Edges: what counts as a reading, and where an interval begins.


@pytest.mark.parametrize(
    ("curve", "accuracy", "update"),
    [
        ([0.1, 0.2, 0.6], 0.6, 30),  # exactly, at the end
        ([0.1, 0.6, 0.4], 0.6, 20),  # exactly, and never again
        ([0.5, 0.6, 0.7], 0.4, 10),  # before the first evaluation, of which nothing is known
        ([0.1, 0.2, 0.6], 0.5, 27.5),  # three quarters of the way
        ([0.1, 0.5, 0.2], 0.3, 15),  # when it is first there, whatever comes after
        ([0.3, 0.1, 0.5], 0.4, 27.5),  # from the evaluation just before, not from an earlier one
        ([0.1, 0.2, 0.3], 0.9, 30),  # never: its end
    ],
)
def test_an_accuracy_is_first_reached_on_a_line_between_two_evaluations(curve, accuracy, update):
    rows = pd.DataFrame({"iteration": [10, 20, 30], "test_accuracy": curve})
    assert findings._first_at(rows, accuracy, 10) == pytest.approx(update)


def test_evaluations_between_the_readings_give_no_luck_but_the_end_is_always_read():
    rows = pd.DataFrame({"iteration": [35, 5, 10, 20, 15, 30], "test_accuracy": [0.7, 0.9, 0.1, 0.3, 0.9, 0.5]})
    assert findings._first_at(rows, 0.3, 10) == 20
    assert findings._first_at(rows, 0.6, 10) == pytest.approx(32.5)


def test_two_equal_arms_are_equal_in_points_and_undecided_in_updates(save):
    for seed in range(3):
        curve = {k: 0.5 + k / 1e6 for k in range(4000, 32_001, 4000)}
        save("headline", "triangular", seed, curve)
        save("headline-controls", "linear-32k", seed, curve)
        for arm in ("fixed-25k", "fixed-25k-high"):
            save("controls", arm, seed, {25_000: 0.7})
    found = findings.findings().set_index("key")
    assert found.loc["b", ["verdict", "answer"]].tolist() == ["equal", "Equal within one point"]
    assert found.loc["c-quick-line-updates", ["value", "low", "high"]].tolist() == pytest.approx([0, 0, 0])
    assert found.loc["c-quick-line-updates", ["verdict", "answer"]].tolist() == ["open", "Open"]


def test_a_reading_is_of_one_arm_of_one_experiment(save):
    save("headline", "triangular", 0, {32_000: 0.75})
    save("paper-table-1", "fixed", 0, {70_000: 0.8})  # an arm of this name, of another experiment
    assert "headline" not in set(findings.findings()["key"])
    save("headline", "fixed", 0, {32_000: 0.9, 70_000: 0.7})
    row = findings.findings().set_index("key").loc["headline"]
    assert (row["value"], row["n"]) == (pytest.approx(5), 1)


@pytest.fixture
def noisy(save):
    """Save runs whose accuracies differ by chance alone: noisy(experiment, {arm: updates}, seeds)."""
    random = np.random.default_rng(0)

    def noisy(name, curves, seeds):
        for arm, updates in curves.items():
            for seed in range(seeds):
                save(name, arm, seed, {updates: 0.78 + random.normal(0, 0.002)})

    return noisy


@pytest.mark.parametrize(("seeds", "df", "interval"), [(5, 4, ""), (6, 5, "pooled")])
def test_a_pooled_interval_needs_five_degrees_of_freedom(save, noisy, seeds, df, interval):
    noisy("controls", {"fixed-25k": 25_000, "one-cycle-25k": 25_000}, seeds)
    row = a_full(save, [0.80], [0.77])
    assert findings.pooled_spread(results.read(), "cifar10", "Cifar10Full", "caffe")[1] == df
    assert (row["interval"], np.isnan(row["low"])) == (interval, not interval)


def test_two_pairs_have_a_pooled_interval_of_their_mean(save, noisy):
    noisy("controls", {"fixed-25k": 25_000, "one-cycle-25k": 25_000}, 6)
    row = a_full(save, [0.80, 0.79], [0.77, 0.77])
    sd, df = findings.pooled_spread(results.read(), "cifar10", "Cifar10Full", "caffe")
    assert (row["value"], row["n"], row["interval"]) == (pytest.approx(2.5), 2, "pooled")
    assert row["high"] - row["value"] == pytest.approx(stats.t.ppf(0.975, df) * sd)  # one spread for two means of two


def test_a_mean_over_several_readings_has_no_pooled_interval(save, noisy):
    noisy("headline-controls", {"fixed-32k": 32_000, "triangular-32k-drops": 32_000}, 6)
    save("headline", "triangular", 0, dict.fromkeys((*questions.QUICK_ENDS, 32_000), 0.7))
    save("headline-controls", "linear-32k", 0, dict.fromkeys((*questions.QUICK_ENDS, 32_000), 0.6))
    found = findings.findings().set_index("key")["interval"]
    assert found["headline-line"] == "pooled"
    assert (found["c-quick-line"], found["c-quick-line-updates"]) == ("", "")


def test_one_run_or_none_has_no_pooled_spread(save):
    for _ in range(2):
        sd, df = findings.pooled_spread(results.read(), "cifar10", "Cifar10Full", "caffe")
        assert np.isnan(sd) and df == 0
        save("controls", "fixed-25k", 0, {25_000: 0.7})


def test_the_pooled_spread_is_of_the_ends_of_one_nets_runs_on_one_data_set(save, noisy):
    ends = {"fixed-25k": 25_000, "triangular-25k": 24_000}  # the end, and the end of the last cycle
    noisy("controls", ends, 3)
    frame = results.read()
    pooled = findings.pooled_spread(frame, "cifar10", "Cifar10Full", "caffe")
    assert pooled[1] == 2
    noisy("controls", {"fixed-25k-high": 20_000, "linear-25k": 5000}, 3)  # not yet at their ends
    noisy("range-test", {"full-caffe": 4000}, 3)
    noisy("headline", {"fixed": 70_000, "triangular": 32_000}, 3)  # another net
    save("controls", "one-cycle-25k", 0, {25_000: 0.1}, "cifar10-jpeg")
    more = pd.concat([results.read(), frame.assign(iteration=frame["iteration"] - 1000, test_accuracy=0.1)])
    assert findings.pooled_spread(more, "cifar10", "Cifar10Full", "caffe") == pytest.approx(pooled)
