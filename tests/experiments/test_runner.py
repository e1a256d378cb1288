"""Experiments: what they are, how they shrink, and that finished runs are loaded and never trained again."""

import dataclasses
import json
import os
from functools import partial

import joblib
import numpy as np
import pytest

from clr import experiments, paths, results
from clr.experiments import EXPERIMENTS, catalogue, configs, job, results_folder, run
from clr.policies import Cosine, Exp, ExpRange, Fixed, Ramp, Stages, Triangular
from clr.results import ResultError
from clr.training.precision import SlowPrecisionError


@pytest.fixture
def trial(monkeypatch):
    """An experiment of two short arms, in place of the long ones."""
    base = EXPERIMENTS["headline"].arms["triangular"]
    arms = {
        "short": dataclasses.replace(base, iterations=4, evaluate_every=2, batch_size=10, test_pictures=20),
        "long": dataclasses.replace(base, iterations=6, evaluate_every=2, batch_size=10, test_pictures=20),
    }
    monkeypatch.setitem(EXPERIMENTS, "trial", catalogue.Experiment("trial", "Does it run?", arms, keep_weights=True))
    full = dataclasses.replace(experiments.SCALES["full"], test_pictures=20)
    monkeypatch.setitem(experiments.SCALES, "full", full)


def test_headline_is_the_published_one():
    arms = EXPERIMENTS["headline"].arms
    fixed, triangular = arms["fixed"], arms["triangular"]
    assert [fixed.policy(k) for k in (0, 59_999, 60_000, 64_999, 65_000)] == [1e-3, 1e-3, 1e-4, 1e-4, 1e-5]
    assert triangular.policy == Triangular(0.0025, 0.01, 2000)
    assert (fixed.iterations, triangular.iterations) == (70_000, 35_000)
    for config in arms.values():
        assert (config.net, config.pixels, config.init, config.mults) == ("Cifar10Quick", "unit", "torch", False)
        assert (config.momentum, config.weight_decay, config.batch_size, config.reshuffle) == (0.9, 0.004, 100, True)
        assert config.evaluate_every == 500
    ramp = EXPERIMENTS["range-test"].arms["quick-unit"]
    assert (ramp.policy, ramp.iterations, ramp.evaluate_every) == (Ramp(0.001, 0.04, 4000), 4000, 100)


def test_held_out_range_tests_go_further_on_images_held_out_from_training():
    arms = EXPERIMENTS["range-test"].arms
    for name in ("quick-unit", "full-caffe"):
        old, new = arms[name], arms[f"{name}-held-out"]
        assert new.hold_out_every == 10 and old.hold_out_every is None
        assert new.policy.spacing == "exponential" and new.policy.end_lr > 3 * old.policy.end_lr
        assert dataclasses.replace(new, policy=old.policy, hold_out_every=None) == old


def test_the_papers_table_1_is_what_the_paper_says():
    arms = EXPERIMENTS["paper-table-1"].arms
    assert {name: config.iterations for name, config in arms.items()} == {
        "fixed": 70_000, "triangular2": 25_000, "decay": 25_000, "exp": 70_000, "exp_range-bounds": 42_000,
        "exp_range-amplitude": 42_000,
    }  # fmt: skip
    for config in arms.values():
        assert (config.net, config.pixels, config.init, config.mults) == ("Cifar10Full", "caffe", "caffe", True)
        assert (config.optimizer, config.momentum, config.weight_decay, config.reshuffle) == (
            "CaffeSGD",
            0.9,
            None,
            False,
        )
    # Table 2 by its own peaks: 0.005 at the first, half of it at the second; every stage starts at its full height
    rates = arms["triangular2"].policy(
        np.array([0, 2000, 6000, 15_999, 16_000, 17_000, 19_000, 22_000, 22_500, 23_500])
    )
    expected = [0.001, 0.005, 0.003, 0.00100025, 0.0001, 0.0005, 0.0003, 0.00001, 0.00005, 0.00003]
    assert rates == pytest.approx(expected, rel=1e-12)
    decay = arms["decay"].policy(np.array([0, 2000, 4000, 24_999]))
    assert decay == pytest.approx([0.007, 0.004, 0.001, 0.001], rel=1e-12)
    assert arms["exp"].policy(70_000) == pytest.approx(0.001 * 0.0149937, rel=1e-5)
    bounds, amplitude = (arms[f"exp_range-{kind}"].policy(42_000) for kind in ("bounds", "amplitude"))
    assert (bounds, amplitude) == (pytest.approx(0.00048272, rel=1e-5), pytest.approx(0.00140227, rel=1e-5))


def test_controls_differ_from_the_papers_run_in_one_thing_each():
    controls, table = EXPERIMENTS["controls"].arms, EXPERIMENTS["paper-table-1"].arms
    first_cycle = np.arange(4000)
    cycling = table["triangular2"].policy(first_cycle)
    for name in ("triangular-25k", "triangular-25k-drops", "triangular-70k", "triangular-70k-drops"):
        assert np.array_equal(controls[name].policy(first_cycle), cycling)
    ends_of_cycles = np.array([*range(0, 16_000, 4000), *range(16_000, 22_000, 2000), *range(22_000, 25_000, 1000)])
    lowest = controls["triangular-25k-drops"].policy(ends_of_cycles)
    assert np.array_equal(controls["fixed-25k"].policy(ends_of_cycles), lowest)
    ends = {name: config.policy(config.iterations - 1) for name, config in controls.items()}
    assert ends["linear-25k"] == pytest.approx(0.005 / 25_000)
    high, low = controls["fixed-25k-high"].policy, controls["fixed-25k"].policy
    assert high(np.arange(25_000)) == pytest.approx(3 * low(np.arange(25_000)))  # the same drops
    assert high(0) == pytest.approx(controls["triangular-25k"].policy(np.arange(4000)).mean())
    assert ends["one-cycle-25k"] < 0.00001 < controls["one-cycle-25k"].policy(11_250) == 0.005


def test_the_headlines_controls_differ_from_it_in_the_policy_alone():
    cycling = EXPERIMENTS["headline"].arms["triangular"]
    rates = cycling.policy(np.arange(32_000))
    for config in EXPERIMENTS["headline-controls"].arms.values():
        assert dataclasses.replace(config, policy=cycling.policy, iterations=cycling.iterations) == cycling
    fixed, linear = (EXPERIMENTS["headline-controls"].arms[name].policy for name in ("fixed-32k", "linear-32k"))
    assert fixed(0) == pytest.approx(rates.mean()) and fixed(31_999) == pytest.approx(fixed(0) / 100)
    assert linear(0) == rates.max() and linear(31_999) == pytest.approx(0.01 / 32_000)
    drops = EXPERIMENTS["headline-controls"].arms["triangular-32k-drops"].policy(np.arange(32_000))
    assert np.array_equal(drops[:28_000], rates[:28_000])
    assert [drops[k] for k in (28_000, 29_000, 30_000, 30_500, 31_500)] == [0.00025, 0.001, 0.000025, 0.0001, 0.0001]


def test_the_step_sizes_are_one_epoch_and_eight_of_whole_cycles():
    cycling = EXPERIMENTS["headline"].arms["triangular"]
    for size, config in zip((500, 4000), EXPERIMENTS["step-size"].arms.values(), strict=True):
        assert config == dataclasses.replace(cycling, policy=Triangular(0.0025, 0.01, size), iterations=24_000)
        assert config.iterations % (2 * size) == 0


def test_what_was_reported_is_said_of_arms_that_are_there_and_evaluated_then():
    told = 0
    for experiment in EXPERIMENTS.values():
        assert experiment.source in ((catalogue.PAPER, catalogue.PORT) if experiment.reported else ("",))
        for (arm, iterations), accuracy in experiment.reported.items():
            config = experiment.arms[arm]
            assert iterations <= config.iterations and iterations % config.evaluate_every == 0
            assert 0.5 < accuracy < 0.95
            told += 1
    assert told == 4 + 5 + 2 + 12 + 4


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_arm_trains(small, name):
    from clr.training import train

    for (arm, _), config in configs(name, seeds=1, scale="tiny").items():
        short = dataclasses.replace(config, batch_size=5, iterations=min(6, config.iterations), evaluate_every=3)
        rows = train(dataclasses.replace(short, test_pictures=10), small).rows
        assert rows[-1]["iteration"] == short.iterations, arm
        expected = [config.policy(row["iteration"] - 1) for row in rows]
        assert [row["lr"] for row in rows] == pytest.approx(expected, rel=1e-12), arm


def test_shrunk_policies_pass_through_the_same_rates():
    policies = [
        Triangular(0.1, 0.9, 2000),
        ExpRange(0.1, 0.9, 2000, 0.9999),
        Exp(0.1, 0.9999),
        Ramp(0.0, 1.0, 4000),
        Stages({0: Fixed(0.1), 60_000: Triangular(0.1, 0.9, 50)}),
    ]
    for policy in policies:
        small = experiments.scales._compress(policy, 25)
        for k in (0, 25, 1000, 40_000, 60_000, 60_050):
            assert small(k // 25) == pytest.approx(policy(k), rel=1e-9)


def test_scales_keep_the_shape():
    quick, tiny = configs("headline", scale="quick"), configs("headline", scale="tiny")
    assert len(quick) == 4
    assert {config.iterations for config in quick.values()} == {1400, 700}
    assert {config.iterations for config in tiny.values()} == {70, 35}
    assert quick["fixed", 0].policy == Stages({0: Fixed(0.001), 1200: Fixed(0.0001), 1300: Fixed(0.00001)})
    assert quick["triangular", 1].policy.step_size == 40
    assert {config.test_pictures for config in quick.values()} == {1000}
    assert {seed: config.seed for (_, seed), config in quick.items()} == {0: 0, 1: 1}
    ramp = configs("range-test", scale="quick")["quick-unit-held-out", 0]
    assert (ramp.iterations, ramp.policy.iterations) == (160, 160)


def test_runs_are_kept_apart_by_data_set_and_scale():
    home = paths.home()
    assert results_folder("cifar10", "full") == results_folder("cifar10-jpeg", "full") == home / "results"
    assert results_folder("cifar10", "quick") == home / "runs" / "cifar10-quick" / "results"
    assert results_folder("synthetic", "full") == home / "runs" / "synthetic-full" / "results"


def test_finished_runs_are_loaded_and_missing_ones_trained(trial, small, tmp_path):
    first = run("trial", 1, data=small, n_jobs=1, results_dir=tmp_path)
    assert first.groupby("arm")["iteration"].apply(list).to_dict() == {"long": [2, 4, 6], "short": [2, 4]}
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("seed-0.*")}
    both = run("trial", 2, data=small, n_jobs=1, results_dir=tmp_path)
    assert both["seed"].unique().tolist() == [0, 1]
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("seed-0.*")}
    assert sorted({path.name for path in tmp_path.rglob("seed*")}) == [
        "seed-0.csv", "seed-0.json", "seed-0.safetensors", "seed-1.csv", "seed-1.json",
    ]  # fmt: skip
    assert not list(tmp_path.rglob(".*"))


def test_a_rerun_trains_anew_and_no_checkpoint_outlives_its_run(trial, small, tmp_path):
    run("trial", 1, data=small, n_jobs=1, results_dir=tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("seed-0.*")}
    for rerun in (False, True):
        for path in tmp_path.rglob("seed-0.csv"):
            checkpoint = path.parent / ".seed-0.checkpoint"
            checkpoint.write_bytes(b"of a process that was stopped; to be read by nobody")
            os.utime(checkpoint, (0, 0))  # before the result
        run("trial", 1, data=small, n_jobs=1, results_dir=tmp_path, rerun=rerun)
        assert not list(tmp_path.rglob(".*"))
        assert all((path.stat().st_mtime_ns > stamp) == rerun for path, stamp in stamps.items())


def test_results_in_tf32_are_other_results(trial, small, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="results_dir must be given with tf32=True"):
        run("trial", 1, data=small, n_jobs=1, tf32=True)
    asked, train = [], job.train
    monkeypatch.setattr(job, "train", lambda *args, **options: asked.append(options["tf32"]) or train(*args, **options))
    for tf32 in (True, True, False):
        where = {"data": small, "n_jobs": 1, "arms": ["short"], "results_dir": tmp_path / str(tf32)}
        run("trial", 1, **where, tf32=tf32)
    assert asked == [True, False]
    for tf32 in (True, False):
        where["results_dir"] = tmp_path / str(tf32)
        with pytest.raises(ResultError, match=f"tf32 is {tf32}, asked for {not tf32}"):
            run("trial", 1, **where, tf32=not tf32)


@pytest.mark.parametrize("name", [5, None, [], ["headline", 5]])
def test_names_that_are_none_are_refused(name):
    with pytest.raises((TypeError, ValueError), match="name must be 'headline' or"):
        run(name)


def test_a_mistake_in_the_machine_is_found_before_images_are_loaded(monkeypatch):
    monkeypatch.setattr("clr.experiments.runner.load_cifar10", lambda: pytest.fail("loaded"))
    for call in (partial(run, "headline"), experiments.run_queue):
        with pytest.raises(ValueError, match="n_jobs must be a positive integer, got 0"):
            call(n_jobs=0)


def test_several_experiments_are_all_checked_before_the_first_is_trained(trial, small, tmp_path, monkeypatch):
    arms = experiments.EXPERIMENTS["trial"].arms
    monkeypatch.setitem(experiments.EXPERIMENTS, "other", catalogue.Experiment("other", "Is it checked?", arms))
    run("other", 1, data=small, n_jobs=1, results_dir=tmp_path)
    changed = {arm: dataclasses.replace(config, momentum=0.5) for arm, config in arms.items()}
    with monkeypatch.context() as patch:
        patch.setitem(experiments.EXPERIMENTS, "other", catalogue.Experiment("other", "Is it checked?", changed))
        with pytest.raises(ResultError, match="config.momentum"):
            run(["trial", "other"], 1, data=small, n_jobs=1, results_dir=tmp_path)
    assert not list((tmp_path / "synthetic" / "trial").rglob("seed-*"))
    both = run(["trial", "other"], 1, data=small, n_jobs=1, results_dir=tmp_path)
    assert both["experiment"].unique().tolist() == ["trial", "other"]


def test_kept_weights_are_those_of_the_last_update(trial, small, tmp_path):
    from clr.training import evaluate

    frame = run("trial", 1, data=small, n_jobs=1, results_dir=tmp_path)
    weights = tmp_path / "synthetic" / "trial" / "long" / "seed-0.safetensors"
    seen = evaluate(configs("trial", 1)["long", 0], small, weights)
    last = frame[frame["arm"] == "long"].iloc[-1]
    assert seen == {name: last[name] for name in ("test_loss", "test_accuracy")}


def test_result_of_another_config_or_data_set_is_refused_before_training(trial, small, tmp_path):
    run("trial", 1, data=small, n_jobs=1, results_dir=tmp_path)
    path = tmp_path / "synthetic" / "trial" / "long" / "seed-0.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {"config": record["config"] | {"momentum": 0.5}}), encoding="utf-8")
    with pytest.raises(ResultError, match=r"config.momentum is 0.5, asked for 0.9"):
        run("trial", 2, data=small, n_jobs=1, results_dir=tmp_path)
    path.write_text(json.dumps(record | {"data": {"name": "synthetic", "fingerprint": "other"}}), encoding="utf-8")
    with pytest.raises(ResultError, match=r"data.fingerprint is 'other', asked for"):
        run("trial", 2, data=small, n_jobs=1, results_dir=tmp_path)
    assert not (tmp_path / "synthetic" / "trial" / "long" / "seed-1.csv").exists()


def test_records_say_what_was_run_and_how(trial, small, tmp_path):
    run("trial", 1, data=small, n_jobs=1, results_dir=tmp_path)
    record = results.records(tmp_path).iloc[0]
    assert record["data.fingerprint"] == small.fingerprint
    assert record["config.policy.policy"] == "Triangular"
    for name in ("device", "threads", "torch", "numpy", "python", "commit", "seconds"):
        assert f"provenance.{name}" in record


@pytest.mark.parametrize(
    ("asked", "devices", "side_by_side", "prefer"),
    [
        (None, ["cuda:0", "cuda:1", "cuda:2", "cuda:0"], 30, "threads"),
        ("cuda", ["cuda:0", "cuda:1", "cuda:2", "cuda:0"], 30, "threads"),
        ("cuda:1", ["cuda:1"] * 4, 10, "threads"),
        ("cpu", ["cpu"] * 4, 3, "processes"),
    ],
)
def test_runs_take_the_devices_in_turn(trial, small, tmp_path, monkeypatch, asked, devices, side_by_side, prefer):
    started = []

    class Parallel:
        def __init__(self, n_jobs, prefer, mmap_mode):
            self.asked = n_jobs, prefer

        def __call__(self, calls):
            started.extend([[arguments[0].device for _, arguments, _ in calls], *self.asked])
            return []

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr(joblib, "Parallel", Parallel)
    monkeypatch.setattr(experiments.side_by_side, "_processes", lambda jobs: jobs - 1)
    monkeypatch.setattr("clr.training.machine.describe_device", str)
    run("trial", 2, data=small, device=asked, results_dir=tmp_path)
    assert started == [devices, side_by_side, prefer]


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_bits_do_not_depend_on_the_backend(trial, small, tmp_path, backend):
    alone = run("trial", 1, data=small, n_jobs=1, results_dir=tmp_path / "alone")
    with joblib.parallel_config(backend=backend, n_jobs=2):
        beside = run("trial", 1, data=small, results_dir=tmp_path / "beside")
    assert alone.equals(beside)


def test_arms_may_be_chosen_by_name_or_pattern(trial, small, tmp_path):
    assert set(configs("trial", 2, arms=["lo*"])) == {("long", 0), ("long", 1)}
    frame = run("trial", 1, data=small, n_jobs=1, results_dir=tmp_path, arms=["short"])
    assert set(frame["arm"]) == {"short"}
    with pytest.raises(ValueError, match=r"arms must be among those of trial \(short, long\), got 'middle'"):
        configs("trial", arms=["short", "middle"])
    with pytest.raises(TypeError, match="arms must be a sequence of names, got 'short'"):
        configs("trial", arms="short")


def test_the_queue_trains_its_rows_in_order_and_nothing_twice(trial, small, tmp_path, monkeypatch):
    from clr.experiments.queue import Row

    order = []
    save = results.save

    def note(folder, seed, *rest):
        order.append((folder.name, seed))
        save(folder, seed, *rest)

    monkeypatch.setattr(results, "save", note)
    run("trial", 1, data=small, n_jobs=1, results_dir=tmp_path, arms=["short"])
    rows = (Row("trial", ("long",), 1), Row("trial", ("*",), 2))
    experiments.run_queue(data=small, n_jobs=1, results_dir=tmp_path, rows=rows)
    assert order == [("short", 0), ("long", 0), ("long", 1), ("short", 1)]
    experiments.run_queue(data=small, n_jobs=1, results_dir=tmp_path, rows=rows)
    assert len(order) == 4


def test_the_queues_state_counts_seeds_updates_and_core_hours(trial, save):
    from clr.experiments.queue import Row

    for seed in range(2):
        save("trial", "long", seed, {6: 0.5})
    state = experiments.queue_state("cifar10", rows=(Row("trial", ("long",), 3),))
    assert state.to_dict("records") == [
        {"experiment": "trial", "arm": "long", "finished": "2 of 3", "updates left": 6, "core hours": 0.0}
    ]


def test_every_row_of_the_queue_names_arms_of_the_catalogue():
    from clr.experiments.queue import QUEUE

    for row in QUEUE:
        assert configs(row.experiment, row.seeds, arms=row.arms)


def test_the_scales_are_those_that_the_documentation_names():
    found = {name: (scale.shrink, scale.evaluations, scale.seeds) for name, scale in experiments.SCALES.items()}
    assert found == {"full": (1, 1, 5), "quick": (50, 2, 2), "tiny": (1000, 10, 2)}
    assert [scale.range_test for scale in experiments.SCALES.values()] == [None, 25, None]
    assert [scale.test_pictures for scale in experiments.SCALES.values()] == [None, 1000, 500]


@pytest.mark.parametrize("n_jobs", [None, -1, 1, 3])
def test_the_usual_number_of_jobs_and_one_per_core_are_passed_on(n_jobs):
    assert experiments.check_machine("cpu", n_jobs) == (["cpu"], n_jobs)
    for wrong in (0, -2, 1.5):
        with pytest.raises(ValueError, match="n_jobs must be a positive integer"):
            experiments.check_machine("cpu", wrong)


# What is asked for: names, places, and what is refused before anything is trained.


def test_runs_are_planned_seed_by_seed_the_longest_arm_first(trial):
    assert list(configs("trial", 2)) == [("long", 0), ("short", 0), ("long", 1), ("short", 1)]
    assert list(configs("trial", 1, arms=["*"])) == [("long", 0), ("short", 0)]
    assert len(configs("trial")) == 2 * 5 and len(configs("trial", scale="tiny")) == 2 * 2


def test_a_precision_replaces_the_catalogues(trial):
    assert {config.precision for config in configs("trial", 1).values()} == {"float32"}
    assert {config.precision for config in configs("trial", 1, precision="bfloat16").values()} == {"bfloat16"}
    assert {config.precision for config in configs("precision", 1).values()} == {"bfloat16"}


@pytest.mark.parametrize("arms", [[], ["short", 3], [3], "short"])
def test_arms_that_are_no_sequence_of_names_are_refused(trial, arms):
    with pytest.raises(TypeError, match="arms must be a sequence of names, got"):
        configs("trial", arms=arms)


def test_a_name_or_a_scale_that_is_none_is_refused():
    with pytest.raises(ValueError, match="name must be 'headline' or .*, got 'nothing'"):
        configs("nothing")
    for call in (lambda: configs("headline", scale="half"), lambda: results_folder("cifar10", "half")):
        with pytest.raises(ValueError, match="scale must be 'full' or 'quick' or 'tiny', got 'half'"):
            call()


@pytest.mark.parametrize(
    ("policy", "by", "expected"),
    [
        (Cosine(0.5, 8000, warmup=400), 25, Cosine(0.5, 320, warmup=16)),
        (Cosine(0.5, 400, warmup=399), 100, Cosine(0.5, 4, warmup=3)),  # not all of it, rounded up
        (Triangular(0.1, 0.5, 20), 1000, Triangular(0.1, 0.5, 1)),  # one update at least
        (Stages({0: Fixed(0.5), 1500: Ramp(0.1, 0.5, 40)}), 20, Stages({0: Fixed(0.5), 75: Ramp(0.1, 0.5, 2)})),
        (Exp(0.5, 0.5), 2, Exp(0.5, 0.25)),
    ],
)
def test_a_shrunk_policy_has_whole_numbers_of_updates(policy, by, expected):
    assert experiments.scales._compress(policy, by) == expected


def test_evaluations_are_as_many_times_rarer_as_the_scale_says():
    every = {scale: configs("headline", 1, scale)["fixed", 0].evaluate_every for scale in experiments.SCALES}
    assert every == {"full": 500, "quick": 20, "tiny": 5}
    assert configs("range-test", 1, "tiny")["quick-unit", 0].iterations == 4  # no number of its own


@pytest.mark.parametrize(
    ("name", "precision", "apart"),
    [
        ("headline", None, None),
        ("headline", "float32", None),
        ("headline", "bfloat16", "bfloat16"),
        ("precision", "bfloat16", None),
        ("precision", "float32", "float32"),
    ],
)
def test_runs_in_another_precision_than_the_catalogues_are_kept_apart(name, precision, apart):
    assert experiments.kept_apart(name, precision) == apart
    runs = paths.home() / "runs"
    assert results_folder("cifar10", "full", "bfloat16") == runs / "cifar10-full-bfloat16" / "results"
    assert results_folder("cifar10", "tiny", "bfloat16") == runs / "cifar10-tiny-bfloat16" / "results"


def untrained(*arguments, **options):
    raise AssertionError("trained")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rerun": "no"}, TypeError, "rerun must be True or False, got 'no'"),
        ({"data": "cifar10"}, TypeError, "data must be a data set of clr.data, got 'cifar10'"),
        ({"results_dir": 3}, TypeError, "results_dir must be a path, got 3"),
    ],
)
def test_an_argument_is_refused_before_anything_is_trained(trial, small, monkeypatch, options, error, message):
    monkeypatch.setattr(experiments.job, "train", untrained)
    with pytest.raises(error, match=message):
        run("trial", 1, **{"data": small, "n_jobs": 1} | options)


def test_a_slow_precision_is_refused_before_anything_is_trained(trial, small, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments.job, "train", untrained)
    monkeypatch.setattr(experiments.runner, "check_fast", slow_bfloat16)
    with pytest.raises(SlowPrecisionError, match="bfloat16 on cpu"):
        run("trial", 1, data=small, device="cpu", n_jobs=1, results_dir=tmp_path, precision="bfloat16")
    assert not list(tmp_path.iterdir())


def slow_bfloat16(precision, device):
    if precision == "bfloat16":
        raise SlowPrecisionError(f"bfloat16 on {device}")


def test_a_folder_that_cannot_be_made_is_an_error_before_anything_is_trained(trial, small, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments.job, "train", untrained)
    (tmp_path / "synthetic" / "trial").mkdir(parents=True)
    (tmp_path / "synthetic" / "trial" / "short").touch()  # a file of that name
    with pytest.raises(OSError, match="short"):
        run("trial", 1, data=small, n_jobs=1, results_dir=tmp_path)


def test_the_queue_leaves_out_what_is_slow_here_and_says_so(trial, small, tmp_path, monkeypatch, capsys):
    from clr.experiments.queue import Row

    monkeypatch.setattr(experiments.runner, "check_fast", slow_bfloat16)
    rows = (Row("precision", ("fixed",), 1), Row("trial", ("short",), 1))
    experiments.run_queue(data=small, n_jobs=1, results_dir=tmp_path, rows=rows)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "queue: precision is left out: bfloat16 on cpu" and said[1].startswith("queue: 1 runs, 1 side by")
    assert results.read(tmp_path)["arm"].unique().tolist() == ["short"]


# What comes back.


def test_the_rows_of_the_runs_that_were_asked_for_come_back_numbered_from_nought(trial, small, save):
    for arm in ("long", "short"):
        save("trial", arm, 0, {2: 0.25, 4: 0.5}, "synthetic")
    folder = paths.home() / "results"
    for path in folder.rglob("seed-0.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        record["data"] = {"name": small.name, "fingerprint": small.fingerprint}
        path.write_text(json.dumps(record), encoding="utf-8")
    frame = run("trial", 1, data=small, n_jobs=1, results_dir=folder, arms=["short"])
    assert list(frame) == [*results.KEYS, *results.COLUMNS] and frame.index.tolist() == [0, 1]
    assert set(frame["arm"]) == {"short"}


@pytest.mark.parametrize(("folder", "aside"), [(None, True), ("mine", False)])
def test_synthetic_results_of_another_version_are_set_aside_in_the_usual_place_alone(
    trial, small, tmp_path, monkeypatch, folder, aside
):
    seen = []
    monkeypatch.setattr(experiments.runner, "set_aside_others", lambda root, data: seen.append((root, data)))
    root = results_folder("synthetic", "full") if folder is None else tmp_path / folder
    run("trial", 1, data=small, n_jobs=1, results_dir=folder and root, arms=["short"])
    assert seen == [(root, small)] * aside
    assert [path.name for path in root.rglob("*.csv")] == ["seed-0.csv"]


def test_real_images_are_never_set_aside(trial, small, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments.runner, "set_aside_others", untrained)
    real = dataclasses.replace(small, name="cifar10")
    assert set(run("trial", 1, data=real, n_jobs=1, arms=["short"])["dataset"]) == {"cifar10"}
    assert (paths.home() / "results" / "cifar10" / "trial" / "short" / "seed-0.csv").exists()


def test_core_hours_are_those_of_the_finished_runs(trial, monkeypatch):
    from clr.experiments.queue import Row

    found = [3600 * 1234.5, None, 3600 * 100.0, 0.0]
    monkeypatch.setattr(experiments.runner, "_run_seconds", lambda folder, seed: found[seed])
    (row,) = experiments.queue_state("cifar10", rows=(Row("trial", ("short",), 4),)).to_dict("records")
    assert (row["finished"], row["updates left"], row["core hours"]) == ("3 of 4", 4, 1334.5)
    monkeypatch.setattr(experiments.runner, "_run_seconds", lambda folder, seed: 3600 * 0.26)
    assert experiments.queue_state("cifar10", rows=(Row("trial", ("short",), 1),))["core hours"].tolist() == [0.3]


def test_a_run_took_what_its_record_says_and_one_that_is_damaged_has_not_finished(trial, save):
    save("trial", "short", 0, {4: 0.5})
    folder = paths.home() / "results" / "cifar10" / "trial" / "short"
    seconds = experiments.runner._run_seconds
    assert seconds(folder, 0) == 10.0 and seconds(folder, 1) is None
    record = json.loads((folder / "seed-0.json").read_text(encoding="utf-8"))
    del record["provenance"]
    (folder / "seed-0.json").write_text(json.dumps(record), encoding="utf-8")
    assert seconds(folder, 0) == 0.0
    (folder / "seed-0.csv").unlink()
    assert seconds(folder, 0) is None
