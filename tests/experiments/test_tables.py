"""Tables: what stands beside what, and where a run is read."""

import pytest

from clr import experiments, paths, results
from clr.experiments import catalogue, tables


def save(name: str, arm: str, seed: int, curve: dict[int, float], dataset: str = "cifar10") -> None:
    rows = [
        {"iteration": k, "lr": 0.1, "train_loss": 1.0, "test_loss": 1.0, "test_accuracy": a} for k, a in curve.items()
    ]
    config = experiments.configs(name, seed + 1)[arm, seed].to_dict()
    record = {"config": config, "data": {"name": dataset}, "diverged": False, "provenance": {}}
    results.save(paths.home() / "results" / dataset / name / arm, seed, rows, record)


def test_all_arms_of_nothing_is_an_empty_table_with_its_columns():
    assert tables.arms_table("cifar10").empty and {"accuracy", "source", "reported"} <= set(
        tables.arms_table("cifar10")
    )


def test_arms_stand_beside_what_was_reported():
    for seed, accuracy in enumerate((0.80, 0.81, 0.82)):
        save("paper-table-1", "fixed", seed, {60_000: 0.7, 70_000: accuracy}, "cifar10-jpeg")
    save("paper-table-1", "decay", 0, {25_000: 0.785})
    table = tables.experiment_table("paper-table-1").set_index("arm")
    low, high = (100 * end for end in results.interval([0.80, 0.81, 0.82]))
    assert table.loc["fixed"].to_dict() == {
        "updates": "70,000",
        "reported": "81.4 % (paper)",
        "cifar10": "not yet run",
        "cifar10-jpeg": f"81.00 % ({low:.2f} to {high:.2f}, n = 3): -0.4 ({low - 81.4:+.1f} to {high - 81.4:+.1f})",
    }
    assert table.loc["decay", "cifar10"] == "78.50 % (n = 1): +0.0"
    assert table.loc["exp_range-amplitude", ["reported", "cifar10"]].tolist() == ["", "not yet run"]
    assert len(table) == 6


def test_cyclical_arms_are_read_at_the_end_of_their_last_cycle_too():
    save("controls", "triangular-25k", 0, {20_000: 0.7, 24_000: 0.75, 25_000: 0.72})
    save("controls", "linear-25k", 0, {24_000: 0.7, 25_000: 0.8})
    found = tables.summaries("controls")
    assert found[["arm", "iterations", "accuracy"]].to_numpy().tolist() == [
        ["linear-25k", 25_000, 0.8],
        ["triangular-25k", 24_000, 0.75],
        ["triangular-25k", 25_000, 0.72],
    ]


@pytest.mark.parametrize("name", catalogue.EXPERIMENTS)
def test_every_experiment_has_a_table_before_anything_has_run(name):
    table = tables.experiment_table(name)
    assert set(table["arm"]) == set(catalogue.EXPERIMENTS[name].arms)
    assert (table[["cifar10", "cifar10-jpeg"]] == "not yet run").all(axis=None)


def test_all_arms_leave_out_range_tests_and_keep_the_catalogues_order():
    save("controls", "fixed-25k", 0, {25_000: 0.7})
    save("headline", "fixed", 0, {70_000: 0.75})
    save("range-test", "quick-unit", 0, {4000: 0.6})
    save("headline", "triangular", 0, {35_000: 0.75}, "cifar10-jpeg")
    arms = tables.arms_table("cifar10")
    assert arms[["experiment", "arm"]].to_numpy().tolist() == [["headline", "fixed"], ["controls", "fixed-25k"]]
    assert arms["source"].tolist()[0] == catalogue.PORT and arms["source"].isna()[1]
    assert arms["reported"].tolist()[0] == 0.759


def test_differences_are_those_of_the_pairs_at_one_number_of_updates():
    for seed, accuracy in enumerate((0.70, 0.72)):
        save("controls", "fixed-25k", seed, {20_000: 0.1, 25_000: accuracy})
        save("controls", "linear-25k", seed, {25_000: accuracy + 0.02})
        save("paper-table-1", "fixed", seed + 1, {25_000: 0.60, 70_000: 0.9})
    table = tables.differences("fixed-25k", 25_000, ("controls", "paper-table-1"))
    assert table["arm"].tolist() == ["linear-25k", "fixed"] and table["n"].tolist() == [2, 1]
    assert table["points"].tolist() == pytest.approx([2, -12]) and table["low"][0] == pytest.approx(2)
    assert tables.differences("fixed-25k", 25_000, ["mults"]).empty
