"""Ctrl-C, and a run that fails: the others stop at their next update, and a second call finishes what is missing."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import pytest
import torch
from run_and_interrupt import with_small_batches

from clr import data, experiments, training
from clr.__main__ import main
from clr.experiments import catalogue, configs, job, run
from clr.experiments.stop import Stop
from clr.results import ResultError
from clr.training import Stopped

COMMAND = "run headline --scale tiny --seeds 2"  # four runs, of 70 and of 35 updates


@pytest.fixture
def trial(monkeypatch):
    """Four runs of 30 updates, with an evaluation every ten."""
    base = experiments.EXPERIMENTS["headline"].arms["triangular"]
    config = dataclasses.replace(base, iterations=30, evaluate_every=10, batch_size=10, test_pictures=20)
    arms = {"a": config, "b": dataclasses.replace(config, momentum=0.5)}
    monkeypatch.setitem(experiments.EXPERIMENTS, "trial", catalogue.Experiment("trial", "Does it stop?", arms))
    full = dataclasses.replace(experiments.SCALES["full"], test_pictures=20)
    monkeypatch.setitem(experiments.SCALES, "full", full)


@pytest.fixture
def ctrl_c():
    """Ctrl-C as at a terminal: a shell's background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def checkpoints(folder):
    """How many updates each interrupted run keeps."""
    return sorted(torch.load(path, weights_only=True)["iteration"] for path in folder.rglob(".*.checkpoint"))


def train_until_one_acts(act, n_jobs):
    """A `train` in which all runs meet after 20 updates; the first acts, the others wait there for the stop."""
    first, meeting = next(iter(configs("trial", 2).values())), threading.Barrier(n_jobs)

    def train(config, data, *, progress, stop, **options):
        def progress_then(n):
            progress(n)
            if n == 20:
                meeting.wait(60)
                if config == first:
                    act()
                deadline = time.monotonic() + 60
                while not stop() and time.monotonic() < deadline:
                    time.sleep(0.01)

        return training.train(config, data, progress=progress_then, stop=stop, **options)

    return train


# Threads.


@pytest.mark.parametrize("n_jobs", [1, 2, 4])
def test_a_failing_run_stops_the_others_and_they_keep_checkpoints(trial, small, tmp_path, monkeypatch, n_jobs):
    whole = run("trial", 2, data=small, n_jobs=1, results_dir=tmp_path / "whole")
    before = set(threading.enumerate())

    def fail():
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch, joblib.parallel_config(backend="threading"):
        patch.setattr(job, "train", train_until_one_acts(fail, n_jobs))
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory") as raised:
            run("trial", 2, data=small, n_jobs=n_jobs, results_dir=tmp_path / "r")
    kept = checkpoints(tmp_path / "r")
    assert kept == [20] * (n_jobs - 1)  # the failed run has none, as half a minute was not over
    assert raised.value.__notes__ == [
        f"The other runs were stopped. {len(kept)} of 4 runs keep a checkpoint; the same call finishes what is "
        "missing, and nothing twice."
    ]
    assert set(threading.enumerate()) <= before
    assert run("trial", 2, data=small, n_jobs=1, results_dir=tmp_path / "r").equals(whole)
    assert not checkpoints(tmp_path / "r")


@pytest.mark.parametrize("n_jobs", [1, 4])
def test_ctrl_c_stops_all_threads_at_their_next_update(trial, small, tmp_path, monkeypatch, n_jobs):
    whole = run("trial", 2, data=small, n_jobs=1, results_dir=tmp_path / "whole")
    handler, before = signal.getsignal(signal.SIGINT), set(threading.enumerate())
    with monkeypatch.context() as patch, joblib.parallel_config(backend="threading"):
        interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
        patch.setattr(job, "train", train_until_one_acts(interrupt, n_jobs))
        with pytest.raises(
            KeyboardInterrupt, match=f"^Interrupted. {n_jobs} of 4 runs keep a checkpoint; the same call"
        ):
            run("trial", 2, data=small, n_jobs=n_jobs, results_dir=tmp_path / "r")
    assert checkpoints(tmp_path / "r") == [20] * n_jobs
    assert signal.getsignal(signal.SIGINT) is handler
    assert set(threading.enumerate()) <= before
    assert run("trial", 2, data=small, n_jobs=1, results_dir=tmp_path / "r").equals(whole)


def test_a_second_ctrl_c_interrupts_at_once(tmp_path, ctrl_c):
    stop = Stop(str(tmp_path / "stop"))
    with pytest.raises(KeyboardInterrupt), stop.on_interrupt() as received:
        signal.raise_signal(signal.SIGINT)
        assert stop() and received == [signal.SIGINT]
        signal.raise_signal(signal.SIGINT)


def test_a_handler_that_was_not_needed_is_put_back(tmp_path, ctrl_c):
    with pytest.raises(ValueError, match="a run"), Stop(str(tmp_path / "stop")).on_interrupt() as received:
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        raise ValueError("a run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and not received


def test_a_run_in_another_process_takes_ctrl_c_as_a_wish_to_stop_however_often_it_is_pressed(tmp_path, ctrl_c):
    stop, seen = Stop(str(tmp_path / "stop"), owner=-1), []

    def work():
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            seen.append(stop())

    assert stop.guard(work) is None and seen == [True, True, True]


def test_a_run_in_the_callers_process_leaves_ctrl_c_to_it(tmp_path, ctrl_c):
    stop = Stop(str(tmp_path / "stop"))
    assert isinstance(stop.guard(signal.raise_signal, signal.SIGINT), KeyboardInterrupt) and stop()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_wish_to_stop_after_the_last_run_is_no_error(tmp_path):
    stop = Stop(str(tmp_path / "gone" / "stop"))
    stop.set()
    assert not stop()


def test_a_run_in_another_thread_than_the_first_needs_no_handler(tmp_path):
    seen = []

    def interruptible():
        with Stop(str(tmp_path / "stop")).on_interrupt() as received:
            seen.append(received)

    thread = threading.Thread(target=interruptible)
    thread.start()
    thread.join()
    assert seen == [[]]


# Processes.


def test_a_failing_process_stops_the_others(trial, small, tmp_path):
    """The worker's traceback comes along as a note."""
    damaged = tmp_path / "synthetic" / "trial" / "a" / ".seed-0.checkpoint"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"half a file")
    with pytest.raises(ResultError, match=r"seed-0.checkpoint is damaged .*; delete it to begin anew") as raised:
        run("trial", 1, data=small, n_jobs=2, results_dir=tmp_path)
    traceback, kept = raised.value.__notes__
    assert "in load" in traceback and kept.startswith("The other runs were stopped. ")
    assert not list(tmp_path.rglob("seed-1*"))


def run_alone(home, command=COMMAND):
    """Finish a command's runs one after the other; return their CSVs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.synthetic_cifar10, "__defaults__", (300, 100, 0))
        patch.setitem(experiments.EXPERIMENTS, "headline", with_small_batches("headline"))
        patch.setenv("CLR_DATA", "synthetic")
        patch.setenv("CLR_HOME", str(home))
        assert main([*command.split(), "--n-jobs", "1"]) == 0
    return {path.relative_to(home): path.read_bytes() for path in home.rglob("*.csv")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    csvs = run_alone(tmp_path_factory.mktemp("undisturbed"))
    assert len(csvs) == 4
    return csvs


@pytest.fixture
def program(tmp_path):
    """Start the command; returns once a run has begun, or has a checkpoint."""
    if os.name != "posix":
        pytest.skip("needs POSIX's signals and process groups")
    (tmp_path / "notes").mkdir()
    home = {"CLR_HOME": str(tmp_path / "home"), "CLR_DATA": "synthetic", "TMPDIR": str(tmp_path / "notes")}

    def has_begun():
        return any(int(note.read_text(encoding="utf-8") or 0) for note in (tmp_path / "notes").glob("*/[0-9]"))

    def start(command=COMMAND, ready=has_begun):
        script = str(Path(__file__).parent / "run_and_interrupt.py")
        running = subprocess.Popen(
            [sys.executable, script, *command.split()],
            env=os.environ | home, start_new_session=True, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while not ready():
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.01)
        return running

    return start


def wait_for_all_of(group):
    deadline = time.monotonic() + 180
    while subprocess.run(["pgrep", "-g", str(group)], capture_output=True).stdout:  # joblib's tracker is slow
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_ctrl_c_in_a_terminal_ends_with_130_and_the_same_command_goes_on(tmp_path, undisturbed, program):
    """The signal goes to all processes of the terminal, workers included. (Threads: above.)"""
    running = program()
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=180)
    assert running.returncode == 130, said
    kept = checkpoints(tmp_path / "home")
    assert f"\nInterrupted. {len(kept)} of 4 runs keep a checkpoint; the same call finishes" in said
    assert 1 <= len(kept) <= 2 and min(kept) > 0
    assert "Traceback" not in said
    wait_for_all_of(running.pid)
    assert run_alone(tmp_path / "home") == undisturbed


def test_a_killed_process_ends_the_others_and_the_same_command_goes_on_from_their_checkpoints(
    tmp_path, undisturbed, program, monkeypatch
):
    """As the kernel kills one when memory is short; joblib then kills the other before it could write anything."""
    command = COMMAND.replace("--seeds 2", "--seeds 1")
    running = program(command, ready=lambda: checkpoints(tmp_path / "home"))
    workers = subprocess.run(["pgrep", "-P", str(running.pid), "-f", "popen_loky"], capture_output=True, text=True)
    os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
    _, said = running.communicate(timeout=180)
    assert running.returncode == 1, said
    wait_for_all_of(running.pid)
    kept = checkpoints(tmp_path / "home")
    assert 1 <= len(kept) <= 2 and min(kept) > 0
    assert said.endswith(
        "clr: a run's process was killed (SIGKILL(-9)), by the system when memory is short for example, and joblib "
        "ended the others; n_jobs sets how many run side by side\n"
        f"The other runs were stopped. {len(kept)} of 2 runs keep a checkpoint; the same call finishes what is "
        "missing, and nothing twice.\n"
    )
    begun = {}
    monkeypatch.setattr(job, "_write_progress", lambda note, updates: begun.setdefault(note.name, updates))
    first = {path: rows for path, rows in undisturbed.items() if path.name == "seed-0.csv"}
    assert run_alone(tmp_path / "home", command) == first and len(first) == 2
    assert sorted(updates for updates in begun.values() if updates) == kept


# One run's work.


def test_work_after_a_stop_is_not_begun(tmp_path):
    stop = Stop(str(tmp_path / "stop"))
    done = []
    assert stop.guard(done.append, 1) is None
    stop.set()
    assert isinstance(stop.guard(done.append, 2), Stopped)
    assert done == [1]


def test_an_error_from_another_process_keeps_its_kind_or_its_words():
    class Strange(Exception):  # local, so that it cannot be pickled
        pass

    stop = Stop(os.devnull + "/none", owner=-1)
    kept, changed = (stop.guard(fail_with, error) for error in (ValueError("lr"), Strange("lr")))
    assert type(kept) is ValueError and str(kept) == "lr" and "fail_with" in kept.__notes__[0]
    assert type(changed) is RuntimeError and str(changed) == "Strange: lr"


def fail_with(error):
    raise error


def test_an_error_is_one_line_and_what_is_kept_another(monkeypatch, capsys):
    def fail(*arguments, **options):
        error = ResultError("seed-0.checkpoint is damaged")
        error.add_note("Traceback ...")
        error.add_note("The other runs were stopped.")
        raise error

    monkeypatch.setenv("CLR_DATA", "synthetic")
    monkeypatch.setattr(data.synthetic_cifar10, "__defaults__", (30, 10, 0))
    monkeypatch.setattr(experiments, "run", fail)
    assert main(["run", "headline"]) == 1
    assert capsys.readouterr().err == "clr: seed-0.checkpoint is damaged\nThe other runs were stopped.\n"
