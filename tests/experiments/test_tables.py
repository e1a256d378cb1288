"""Tables: what stands beside what, and where a run is read."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from clr import paths, results
from clr.experiments import catalogue, tables
from clr.experiments.study import Study


def of(*names):
    """The runs of some experiments."""
    return pd.concat([results.read(experiment=name) for name in names])


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


def test_arms_are_read_where_something_was_reported_of_them(save):
    assert tables.beside_reported("headline", of("headline")).empty
    save("headline", "triangular", 0, {20_000: 0.7, 21_000: 0.1, 32_000: 0.75, 35_000: 0.72})
    save("headline", "fixed", 0, {20_000: 0.6, 32_000: 0.65, 70_000: 0.75})
    found = tables.beside_reported("headline", of("headline")).set_index(["arm", "iterations"])
    assert found["accuracy"].to_dict() == {
        ("fixed", 70_000): 0.75, ("triangular", 20_000): 0.7, ("triangular", 32_000): 0.75, ("triangular", 35_000): 0.72
    }  # fmt: skip
    assert found["reported"].to_dict() == {
        ("fixed", 70_000): 0.759, ("triangular", 20_000): 0.759, ("triangular", 32_000): 0.772,
        ("triangular", 35_000): 0.753,
    }  # fmt: skip


def test_differences_are_those_of_the_pairs_at_one_number_of_updates(save):
    for seed, accuracy in enumerate((0.70, 0.72, 0.73)):
        save("controls", "fixed-25k", seed, {20_000: 0.1, 25_000: accuracy})
        save("controls", "linear-25k", seed, {25_000: accuracy + 0.02})
        save("paper-table-1", "fixed", seed + 1, {25_000: 0.60, 70_000: 0.9})
    table = tables.differences(of("controls", "paper-table-1"), "fixed-25k", 25_000)
    assert table["arm"].tolist() == ["linear-25k", "fixed"] and table["n"].tolist() == [3, 2]
    assert table["points"].tolist() == pytest.approx([2, -12.5]) and table["low"][0] == pytest.approx(2)
    assert np.isnan(table["low"][1])  # two pairs have no interval of their own
    assert tables.differences(of("mults"), "fixed-25k", 25_000).empty


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


def test_summaries_stand_in_order_and_are_numbered_from_nought(save):
    save("controls", "triangular-25k", 0, {24_000: 0.75, 25_000: 0.72})
    save("controls", "linear-25k", 0, {25_000: 0.8}, "cifar10-jpeg")
    found = tables.summaries("controls")
    assert found[["dataset", "iterations"]].to_numpy().tolist() == [
        ["cifar10", 24_000], ["cifar10", 25_000], ["cifar10-jpeg", 25_000],
    ]  # fmt: skip
    assert found.index.tolist() == [0, 1, 2]


def test_runs_of_an_experiment_that_is_not_in_the_catalogue_are_summarised_too(save):
    save("controls", "triangular-25k", 0, {24_000: 0.75, 25_000: 0.72})
    (paths.home() / "results" / "cifar10" / "controls").rename(paths.home() / "results" / "cifar10" / "my-own")
    assert tables.summaries("my-own")["iterations"].tolist() == [24_000, 25_000]


def test_an_arm_is_summarised_where_something_was_reported_of_it_too(save):
    save("headline", "triangular", 0, {20_000: 0.7, 21_000: 0.1, 32_000: 0.75, 35_000: 0.72})
    assert tables.summaries("headline")["iterations"].tolist() == [20_000, 32_000, 35_000]


def test_the_difference_from_what_was_reported_is_in_points(save):
    save("paper-table-1", "decay", 0, {25_000: 0.50})
    (text,) = tables.experiment_table("paper-table-1")["cifar10"]
    assert text == "50.00% (n = 1): -28.5"


def test_diverged_runs_are_counted_in_words():
    row = SimpleNamespace(accuracy=0.5, low=0.4, high=0.6, n=3, diverged=2)
    assert tables.format_accuracy(row) == "50.00% (40.00 to 60.00, n = 3), 2 diverged"
    row.diverged = 0
    assert tables.format_accuracy(row) == "50.00% (40.00 to 60.00, n = 3)"


def test_differences_are_by_data_set_the_best_first_and_without_arms_that_have_no_pair(save):
    save("controls", "fixed-25k", 0, {25_000: 0.5})
    save("controls", "fixed-25k", 0, {25_000: 0.5}, "cifar10-jpeg")
    for arm, accuracy in {"triangular-25k": 0.25, "linear-25k": 0.75}.items():
        save("controls", arm, 0, {25_000: accuracy}, "cifar10-jpeg")
        save("controls", arm, 0, {25_000: accuracy})
    save("controls", "one-cycle-25k", 1, {25_000: 0.9})  # of a seed that the reference does not have
    table = tables.differences(of("controls"), "fixed-25k", 25_000)
    assert table[["dataset", "arm", "points", "n"]].to_numpy().tolist() == [
        ["cifar10", "linear-25k", 25, 1], ["cifar10", "triangular-25k", -25, 1],
        ["cifar10-jpeg", "linear-25k", 25, 1], ["cifar10-jpeg", "triangular-25k", -25, 1],
    ]  # fmt: skip
    assert table.index.tolist() == [0, 1, 2, 3]


def test_multipliers_make_the_difference_between_the_ends_of_a_policys_two_arms(save):
    for seed, accuracy in enumerate((0.5, 0.25, 0.125)):
        save("mults", "fixed", seed, {20_000: 0.1, 25_000: accuracy + 0.25})
        save("mults", "exp", seed, {25_000: 0.6})  # without its other arm
    for seed, accuracy in enumerate((0.5, 0.25)):
        save("mults", "fixed-without", seed, {25_000: accuracy})
    found = tables.multiplier_differences(Study().ends("mults"))
    assert found[["arm", "points", "n"]].to_numpy().tolist() == [["fixed", 25, 2]]


def test_the_bounds_of_an_arm_and_data_set_are_read_from_its_own_curves(save):
    for arm, top in {"quick-unit": 0.6, "full-caffe": 0.5}.items():
        for dataset in ("cifar10", "cifar10-jpeg"):
            save("range-test", arm, 0, {k: min(top, 0.1 + k / 3000) for k in range(100, 4001, 100)}, dataset)
    found = tables.range_test_bounds()
    assert list(found) == [(arm, d) for arm in ("quick-unit", "full-caffe") for d in ("cifar10", "cifar10-jpeg")]
    assert all(bounds.n_curves == 1 for bounds in found.values())
    assert found["quick-unit", "cifar10"].max_lr > found["full-caffe", "cifar10"].max_lr
