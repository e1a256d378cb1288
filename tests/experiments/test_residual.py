"""The experiment `resnet`: its arms are the issue's, its five policies what the committed range test says."""

import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("agg")

import matplotlib.pyplot as plt

import clr
from clr import figures, paths
from clr.experiments import EXPERIMENTS, findings, pictures, sentences
from clr.experiments.queue import QUEUE
from clr.experiments.study import Study
from clr.policies import Decay, Triangular
from tools import resnet_bounds

ROOT = Path(__file__).parents[2]
ARMS = EXPERIMENTS["resnet"].arms
BOUNDS = clr.Bounds.from_json(ROOT / "results" / "cifar10-jpeg" / "resnet" / "bounds.json")


@pytest.mark.parametrize("name", pictures.PROPOSED)
def test_a_policy_is_what_the_committed_range_test_proposes(name):
    assert ARMS[name].policy == BOUNDS.policy(name, ARMS[name].iterations)


def test_the_line_is_also_trained_at_a_third_and_at_three_times_its_peak():
    peak = BOUNDS.peak_lr("linear")
    assert ARMS["linear-third"].policy == Decay(0.0, peak / 3, 8000)
    assert ARMS["linear-triple"].policy == Decay(0.0, peak * 3, 8000)


def test_the_range_test_is_one_call_at_its_defaults_on_held_out_images():
    assert BOUNDS.n_curves == 5 and [test.seed for test in BOUNDS.tests] == [0, 1, 2, 3, 4]
    assert all(len(test.losses) <= 100 and test.held_out for test in BOUNDS.tests)


def test_the_arms_differ_in_the_policy_alone():
    base = ARMS["fixed-0.1"]
    assert all(dataclasses.replace(config, policy=base.policy) == base for config in ARMS.values())
    assert (base.net, base.iterations, base.batch_size, base.pixels) == ("Cifar10ResNet8", 8000, 100, "unit")
    assert (base.optimizer, base.momentum, base.weight_decay) == ("Nesterov", 0.9, 1e-4)


def test_table_4s_cycles_are_whole_ones_divided_by_ten_at_each_drop():
    k = np.arange(8000)
    drops = np.select([k < 4000, k < 6000], [1.0, 0.1], 0.01)
    assert ARMS["triangular-drops"].policy(k) == pytest.approx(drops * Triangular(0.1, 0.3, 400)(k), rel=1e-12)
    for rate in (0.1, 0.2, 0.3):
        assert ARMS[f"fixed-{rate}"].policy(k) == pytest.approx(drops * rate, rel=1e-12)


def test_the_queue_trains_232_000_updates_of_it_and_two_more_seeds_at_its_end():
    *rows, later = [row for row in QUEUE if row.experiment == "resnet"]
    assert later == dataclasses.replace(rows[0], seeds=5) == QUEUE[-1]
    known = clr.experiments.configs
    runs = {key: c for row in rows for key, c in known("resnet", row.seeds, arms=row.arms).items()}
    assert sum(config.iterations for config in runs.values()) == 232_000
    assert {arm for arm, _ in runs} == set(ARMS)


def test_the_range_test_never_sees_a_test_image(monkeypatch, small):
    seen = {}

    def look(make, optimizer, loss_fn, train, val):
        seen.update(optimizer=make()[1], train=torch.cat([x for x, _ in train]), val=torch.cat([x for x, _ in val]))
        return BOUNDS

    monkeypatch.setattr(clr, "find_bounds", look)
    assert resnet_bounds.find(small) is BOUNDS
    assert (len(seen["train"]), len(seen["val"])) == (len(small.train) * 9 // 10, len(small.train) // 10)
    both = torch.cat([seen["train"], seen["val"]])
    mean = small.hold_out(10).channel_means.view(3, 1, 1)
    expected = (small.train.images - mean) / 255
    assert both.double().mean() == pytest.approx(expected.double().mean().item(), abs=1e-6)
    assert torch.equal(both.flatten(1).sum(1).sort().values, expected.flatten(1).sum(1).sort().values)
    (group,) = seen["optimizer"].param_groups
    assert (group["nesterov"], group["momentum"], group["weight_decay"]) == (True, 0.9, 1e-4)


def test_the_best_of_three_rates_is_the_one_with_the_highest_mean(save):
    for seed in range(3):
        save("resnet", "triangular-drops", seed, {8000: 0.860})
        save("resnet", "fixed-0.1", seed, {8000: 0.850 + 0.003 * seed})  # the highest single run, not the highest mean
        save("resnet", "fixed-0.2", seed, {8000: 0.8545})
        save("resnet", "fixed-0.3", seed, {8000: 0.800})
    row = findings.findings().set_index("key").loc["g"]
    assert (row["value"], row["n"]) == (pytest.approx(0.55), 3)
    assert row["against"] == "resnet/best of fixed" and row["answer"] == "Yes, cycles finish higher"


def test_the_best_of_three_rates_waits_for_a_seed_that_all_have(save):
    save("resnet", "triangular-drops", 0, {8000: 0.86})
    save("resnet", "fixed-0.1", 0, {8000: 0.85})
    save("resnet", "fixed-0.2", 1, {8000: 0.85})
    assert "g" not in set(findings.findings()["key"])


def test_questions_without_runs_are_listed_as_such(save):
    asked = {question.key for question in findings.unanswered()}
    assert {"g", "h-linear", "h-constant-end", "i-third", "i-triple"} <= asked
    for arm in ("linear", "linear-third"):
        save("resnet", arm, 0, {8000: 0.8})
    assert asked - {question.key for question in findings.unanswered()} == {"i-third"}


@pytest.fixture
def with_bounds():
    path = resnet_bounds.bounds_path("cifar10")
    path.parent.mkdir(parents=True)
    BOUNDS.to_json(path)
    with plt.rc_context():
        figures.style()
        yield Study(dataset="cifar10")
    plt.close("all")


def test_the_story_is_told_before_any_run_and_with_some(with_bounds, save, capsys):
    _, losses, rates = pictures.proposed_rates(with_bounds).axes
    assert len(losses.get_lines()) == 5 + 2 and len(rates.get_lines()) == 5 and rates.get_xlabel() == "updates"
    assert [text.get_text() for text in rates.get_legend().get_texts()] == [
        "constant rate", "cycles", "line to zero", "one cycle", "half a cosine",
    ]  # fmt: skip
    assert sentences.proposed_rates(with_bounds).startswith("No finding yet")
    for seed, accuracy in enumerate((0.80, 0.82, 0.84)):
        save("resnet", "linear", seed, {400: 0.5, 8000: accuracy})
    save("resnet", "fixed-0.1", 0, {400: 0.5, 8000: 0.9})  # none of the five
    reached = pictures.proposed_rates(with_bounds).axes[3]
    assert [text.get_text() for text in reached.texts] == ["line to zero, 82.0% (n = 3)"]
    assert reached.get_title("left").startswith("4. Trained with them, the net reaches 82.0%")
    assert sentences.proposed_rates(with_bounds).endswith("line to zero 82.0% (77.0 to 87.0, n = 3).")
    assert not paths.home().samefile(ROOT) and capsys.readouterr().out == ""


def test_the_story_is_not_told_of_shortened_runs(with_bounds, capsys):
    assert pictures.proposed_rates(Study("tiny", dataset="cifar10")) is None
    assert "tools.resnet_bounds" in capsys.readouterr().out


def test_the_sentences_have_the_verdict_and_the_questions_that_have_their_runs(with_bounds, save):
    again = clr.suggest_bounds(BOUNDS.tests)
    for schedule in BOUNDS.peaks:
        assert again.peak_lr(schedule) == pytest.approx(BOUNDS.peak_lr(schedule))
    assert sentences.proposed_bounds(with_bounds) == again.verdict
    assert sentences.proposed_bounds(Study(dataset="cifar10-jpeg")).startswith("No finding yet")
    assert sentences.residual(with_bounds) == "No finding yet: `python -m clr run resnet` trains what is missing."
    for seed, accuracy in enumerate((0.80, 0.82, 0.84)):
        save("resnet", "triangular", seed, {8000: accuracy})
        save("resnet", "linear", seed, {8000: accuracy + 0.02})
    assert sentences.residual(with_bounds) == (
        "- On a residual net, do cycles finish above plain schedules? **No, cycles finish lower.** "
        "Cycles − line at 8,000, residual net: -2.0 points (-2.0 to -2.0, n = 3)."
    )
