"""Tables: what stands beside what, and where a run is read."""

import math

import numpy as np
import pytest

from clr import paths, results
from clr.experiments import catalogue, tables


def test_all_arms_of_nothing_is_an_empty_table_with_its_columns():
    assert tables.arms_table("cifar10").empty and {"accuracy", "source", "reported"} <= set(
        tables.arms_table("cifar10")
    )


def test_arms_stand_beside_what_was_reported(save):
    for seed, accuracy in enumerate((0.80, 0.81, 0.82)):
        save("paper-table-1", "fixed", seed, {60_000: 0.7, 70_000: accuracy}, "cifar10-jpeg")
    save("paper-table-1", "decay", 0, {25_000: 0.785})
    table = tables.experiment_table("paper-table-1").set_index("arm")
    low, high = (100 * end for end in results.interval([0.80, 0.81, 0.82]))
    assert table.loc["fixed"].to_dict() == {
        "updates": "70,000",
        "reported": "81.4% (paper)",
        "cifar10": "",
        "cifar10-jpeg": f"81.00% ({low:.2f} to {high:.2f}, n = 3): -0.4 ({low - 81.4:+.1f} to {high - 81.4:+.1f})",
    }
    assert table.loc["decay", "cifar10"] == "78.50% (n = 1): +0.0"
    assert list(table.index) == ["fixed", "decay"]  # arms that have not run have no row


def test_cyclical_arms_are_read_at_the_end_of_their_last_cycle_too(save):
    save("controls", "triangular-25k", 0, {20_000: 0.7, 24_000: 0.75, 25_000: 0.72})
    save("controls", "linear-25k", 0, {24_000: 0.7, 25_000: 0.8})
    found = tables.summaries("controls")
    assert found[["arm", "iterations", "accuracy"]].to_numpy().tolist() == [
        ["linear-25k", 25_000, 0.8],
        ["triangular-25k", 24_000, 0.75],
        ["triangular-25k", 25_000, 0.72],
    ]


@pytest.mark.parametrize("name", catalogue.EXPERIMENTS)
def test_every_experiment_has_an_empty_table_before_anything_has_run(name):
    reported = ["reported"] if catalogue.EXPERIMENTS[name].reported else []
    table = tables.experiment_table(name)
    assert table.empty and list(table.columns) == ["arm", "updates", *reported]


def test_all_arms_leave_out_range_tests_and_keep_the_catalogues_order(save):
    save("controls", "fixed-25k", 0, {25_000: 0.7})
    save("headline", "fixed", 0, {70_000: 0.75})
    save("range-test", "quick-unit", 0, {4000: 0.6})
    save("headline", "triangular", 0, {35_000: 0.75}, "cifar10-jpeg")
    arms = tables.arms_table("cifar10")
    assert arms[["experiment", "arm"]].to_numpy().tolist() == [["headline", "fixed"], ["controls", "fixed-25k"]]
    assert arms["source"].tolist()[0] == catalogue.PORT and arms["source"].isna()[1]
    assert arms["reported"].tolist()[0] == 0.759


def test_differences_are_those_of_the_pairs_at_one_number_of_updates(save):
    for seed, accuracy in enumerate((0.70, 0.72, 0.73)):
        save("controls", "fixed-25k", seed, {20_000: 0.1, 25_000: accuracy})
        save("controls", "linear-25k", seed, {25_000: accuracy + 0.02})
        save("paper-table-1", "fixed", seed + 1, {25_000: 0.60, 70_000: 0.9})
    table = tables.differences("fixed-25k", 25_000, ("controls", "paper-table-1"))
    assert table["arm"].tolist() == ["linear-25k", "fixed"] and table["n"].tolist() == [3, 2]
    assert table["points"].tolist() == pytest.approx([2, -12.5]) and table["low"][0] == pytest.approx(2)
    assert np.isnan(table["low"][1])  # two pairs have no interval of their own
    assert tables.differences("fixed-25k", 25_000, ["mults"]).empty


def test_range_test_bounds_are_those_of_each_arm_and_data_set(save):
    ramp = {k: min(0.6, 0.1 + k / 3000) for k in range(100, 4001, 100)}
    for seed in range(2):
        save("range-test", "quick-unit", seed, ramp)
    found = tables.range_test_bounds()
    assert list(found) == [("quick-unit", "cifar10")] and found["quick-unit", "cifar10"].n_curves == 2


def test_an_interval_has_one_form_and_none_where_there_is_none():
    assert tables.format_interval(75.31, 74.99, 75.62, 5, ".2f", "%") == "75.31% (74.99 to 75.62, n = 5)"
    assert tables.format_interval(-1.64, math.nan, math.nan, 1, "+.1f", " points") == "-1.6 points (n = 1)"


def test_runs_table_names_data_set_device_and_seconds(save):
    for seed in range(2):
        save("headline", "fixed", seed, {70_000: 0.7 + 0.1 * seed})
    (row,) = tables.runs_table(paths.home() / "results", "cifar10").to_dict("records")
    assert (row["data set"], row["device"], row["seconds per run"]) == ("cifar10", "some processor", 10)
    assert row["accuracy"].startswith("75.00% (") and row["accuracy"].endswith("n = 2)")
    assert np.isclose(row["iterations"], 70_000)


def test_runs_table_reads_the_triangular_arm_at_the_end_of_a_cycle_too(save):
    save("headline", "triangular", 0, {4000: 0.7, 8000: 0.76, 9000: 0.5})
    rows = tables.runs_table(paths.home() / "results", "cifar10")
    assert rows["iterations"].tolist() == [8000, 9000]
    assert rows["accuracy"].tolist() == ["76.00% (n = 1)", "50.00% (n = 1)"]


def test_runs_table_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing has finished on cifar10 in"):
        tables.runs_table(paths.home() / "results", "cifar10")
