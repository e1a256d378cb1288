"""The report: the README's numbers are those of results/, and its sentences fit what they are made from."""

from pathlib import Path

import numpy as np
import pytest

from clr import experiments, paths, results
from clr.experiments import tables
from tools import readme as report

ROOT = Path(__file__).parents[1]


def save(
    arm: str, seed: int, curve: dict[int, float], dataset: str = "cifar10", experiment: str = "headline"
) -> None:  # fmt: skip
    rows = [
        {"iteration": k, "lr": 0.1, "train_loss": 1.0, "test_loss": 1.0, "test_accuracy": a} for k, a in curve.items()
    ]
    config = experiments.configs(experiment, seed + 1)[arm, seed].to_dict()
    made = {"device": "some processor", "seconds": 10.0}
    record = {"config": config, "data": {"name": dataset}, "diverged": False, "provenance": made}
    results.save(paths.home() / "results" / dataset / experiment / arm, seed, rows, record)


def test_readme_holds_what_the_results_say(monkeypatch):
    monkeypatch.setenv("CLR_HOME", str(ROOT))
    text = (ROOT / "README.md").read_text()
    assert report.renew(text) == text, "run `python -m tools.readme`"


def test_claim_before_anything_has_run():
    assert report.claim() == "Nothing has been run at full length yet."
    save("triangular", 0, {4000: 0.6})
    assert "at **60.00 % (one run)** after **4,000** updates" in report.claim()
    assert "nothing to compare with yet" in report.claim()


def test_claim_of_one_seed_gives_no_interval():
    save("triangular", 0, {4000: 0.6, 8000: 0.76, 9000: 0.5})
    save("fixed", 0, {70_000: 0.75})
    claim = report.claim()
    assert "at **76.00 % (one run)** after **8,000** updates" in claim
    assert "ends at **75.00 % (one run)** after **70,000**" in claim
    assert "+1.00 points, has no interval" in claim
    assert "first reach the fixed schedule's mean after 8,000 updates, in 1 of 1 runs" in claim


def test_claim_of_several_seeds_pairs_them():
    for seed in range(3):
        save("triangular", seed, {4000: 0.74 + 0.01 * seed, 8000: 0.79 + 0.01 * seed})
        save("fixed", seed, {70_000: 0.75 + 0.01 * seed - 0.001})
    low, high = (100 * end for end in results.interval([0.79, 0.80, 0.81]))
    claim = report.claim()
    assert f"at **80.00 % ({low:.2f} to {high:.2f})**" in claim
    assert "the difference is +4.10 points (95 % interval +4.10 to +4.10, 3 pairs)" in claim
    low, high = results.interval([8000, 8000, 4000])
    assert "first reach the fixed schedule's mean after 4,000 to 8,000 updates, in 3 of 3 runs (mean 6,667," in claim
    assert f"95 % interval {low:,.0f} to {high:,.0f}, that accuracy taken as exact)." in claim


def test_claim_says_how_many_runs_fall_below_again():
    save("fixed", 0, {70_000: 0.75})
    for seed, (second, third) in enumerate([(0.74, 0.77), (0.76, 0.77), (0.76, 0.74)]):
        save("triangular", seed, {4000: 0.76, 6000: 0.5, 8000: second, 12_000: third})  # 6,000: no end of a cycle
    save("triangular", 3, {4000: 0.7, 8000: 0.71, 12_000: 0.72})
    assert "in 3 of 4 runs" in report.claim()
    assert "; 2 of them are below it again at a later end." in report.claim()


def test_claim_says_what_comes_out_without_cycles():
    save("fixed", 0, {70_000: 0.75})
    for seed in range(2):
        save("triangular", seed, {32_000: 0.76 + 0.01 * seed})
        save("linear-32k", seed, {32_000: 0.77 + 0.03 * seed}, experiment="headline-controls")
    save("fixed-32k", 0, {32_000: 0.7}, experiment="headline-controls")
    low, high = (100 * end for end in results.interval([0.01, 0.03]))
    claim = report.claim()
    assert "Without cycles, after as many updates, a line from the same highest rate to zero is at **78.50 % (" in claim
    assert f"**, +2.00 points ({low:+.2f} to {high:+.2f}) against the cycles seed by seed (n = 2); " in claim
    assert claim.endswith(
        "dropped twice is at **70.00 % (one run)**, -6.00 points against the cycles seed by seed (n = 1)."
    )


def test_claim_says_when_the_fixed_schedule_is_never_reached():
    save("triangular", 0, {4000: 0.7})
    save("fixed", 0, {70_000: 0.75})
    assert "At no end of a cycle has it reached the fixed schedule's mean, 75.00 %." in report.claim()


def test_tables_show_the_schedules_that_ran():
    assert "| 60,000 to 65,000 | 0.0001 |" in report.fixed_schedule()
    assert "| Triangular | 0.0025 | 0.01 | 2,000 | 35,000 |" in report.clr_schedule()


def test_third_table_has_a_row_for_each_point_that_was_reached():
    save("fixed", 0, {70_000: 0.75})
    save("triangular", 0, {20_000: 0.74})
    rows = report.fixed_against_clr().splitlines()[2:]
    assert rows == [
        "| cifar10 | fixed | 70,000 | 75.00 % (one run) | 1 | 75.9 % |",
        "| cifar10 | triangular | 20,000 | 74.00 % (one run) | 1 | 75.9 % |",
    ]


def test_runs_table_names_data_set_device_and_seconds():
    for seed in range(2):
        save("fixed", seed, {70_000: 0.7 + 0.1 * seed})
    (row,) = tables.runs_table(paths.home() / "results", "cifar10").to_dict("records")
    assert (row["n"], row["data set"], row["device"], row["seconds a run"]) == (2, "cifar10", "some processor", 10)
    assert row["accuracy"].startswith("75.00 % (")
    assert np.isclose(row["iterations"], 70_000)


def test_readme_without_a_block_is_refused():
    with pytest.raises(ValueError, match="README.md must have a block <!-- claim -->"):
        report.renew("no blocks")


def test_runs_table_reads_the_triangular_arm_at_the_end_of_a_cycle_too():
    save("triangular", 0, {4000: 0.7, 8000: 0.76, 9000: 0.5})
    rows = tables.runs_table(paths.home() / "results", "cifar10")
    assert rows["iterations"].tolist() == [8000, 9000]
    assert rows["accuracy"].tolist() == ["76.00 % (one run)", "50.00 % (one run)"]


def test_runs_table_of_nothing_says_so():
    with pytest.raises(ValueError, match="nothing has finished on cifar10 in"):
        tables.runs_table(paths.home() / "results", "cifar10")
