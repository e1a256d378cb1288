"""Jobs: what one trains, keeps and deletes; how many are side by side, what their bar shows, and what ends them."""

import dataclasses
import os
import pickle
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import joblib
import pytest
import torch

from clr import experiments, results
from clr.experiments import job as job_module
from clr.experiments import side_by_side as module
from clr.experiments.job import Job
from clr.experiments.side_by_side import JOBS_PER_CUDA_DEVICE, run_all
from clr.results import ResultError
from clr.training import Run, Stopped, run_spec

ROW = {"iteration": 1, "lr": 0.1, "train_loss": 1.0, "test_loss": 2.0, "test_accuracy": 0.5}
CONFIG = dataclasses.replace(experiments.configs("headline", 1, "tiny")["fixed", 0], iterations=40)


@pytest.fixture
def job(tmp_path):
    return Job(CONFIG, tmp_path / "fixed", keep_weights=False, device="cpu", rerun=False)


@pytest.fixture
def trained(monkeypatch):
    """What `train` was given, in place of training; each run has one row."""
    given = []

    def train(config, data, *, device, tf32, checkpoint, progress, stop):
        given.append((checkpoint.exists(), stop()))
        progress(7)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_bytes(b"half of it")
        return Run([ROW], diverged=False, provenance={"seconds": 1.0}, weights={"weight": torch.ones(2)})

    monkeypatch.setattr(job_module, "train", train)
    return given


# One job.


def test_a_job_trains_once_and_leaves_a_result_and_no_checkpoint(job, small, tmp_path, trained):
    job(small, tmp_path / "note")
    job(small, tmp_path / "note")
    assert trained == [(False, False)]  # no checkpoint, and nobody asks for a stop
    assert (tmp_path / "note").read_text(encoding="utf-8") == "7"
    assert sorted(path.name for path in job.folder.iterdir()) == ["seed-0.csv", "seed-0.json"]
    rows, record = results.load(job.folder, 0)
    assert rows.to_dict("records") == [ROW] and job.is_finished(small)
    assert (record["diverged"], record["provenance"]) == (False, {"seconds": 1.0})
    assert {name: record[name] for name in ("config", "data")} == run_spec(CONFIG, small)


def test_the_weights_of_a_job_that_keeps_them_are_those_of_its_run(job, small, tmp_path, trained):
    from safetensors.torch import load_file

    dataclasses.replace(job, keep_weights=True)(small, tmp_path / "note")
    assert torch.equal(load_file(job.folder / "seed-0.safetensors")["weight"], torch.ones(2))


def test_a_checkpoint_is_gone_on_from_but_not_by_a_rerun_nor_after_the_end(job, small, tmp_path, trained):
    checkpoint = job.folder / ".seed-0.checkpoint"
    job.folder.mkdir()
    checkpoint.write_bytes(b"of a run that was interrupted")
    assert job.has_checkpoint()
    job(small, tmp_path / "note")
    checkpoint.write_bytes(b"of a process that was killed")
    job(small, tmp_path / "note")
    assert not job.has_checkpoint() and trained == [(True, False)]
    checkpoint.write_bytes(b"of the old run")
    again, finished = dataclasses.replace(job, rerun=True), (job.folder / "seed-0.json").stat().st_mtime
    os.utime(checkpoint, (finished - 1, finished - 1))
    assert not again.is_finished(small)
    again(small, tmp_path / "note", lambda: True)
    assert not job.has_checkpoint() and trained[1:] == [(False, True)]


def test_an_interrupted_rerun_is_gone_on_from_by_the_next(job, small, tmp_path, trained):
    again, checkpoint = dataclasses.replace(job, rerun=True), job.folder / ".seed-0.checkpoint"
    job.folder.mkdir()
    checkpoint.write_bytes(b"of a run whose result was deleted")
    again(small, tmp_path / "note")
    finished = (job.folder / "seed-0.json").stat().st_mtime
    checkpoint.write_bytes(b"of the rerun")
    os.utime(checkpoint, (finished + 1, finished + 1))
    again(small, tmp_path / "note")
    assert trained == [(True, False), (True, False)]


def test_a_rerun_replaces_a_checkpoint_of_other_settings(job, small, tmp_path, monkeypatch):
    again, checkpoint, calls = dataclasses.replace(job, rerun=True), job.folder / ".seed-0.checkpoint", []

    def train(config, data, *, checkpoint, **options):
        calls.append(checkpoint.exists())
        if checkpoint.exists():
            raise ResultError("holds another run")
        return Run([ROW], diverged=False, provenance={"seconds": 1.0}, weights={})

    monkeypatch.setattr(job_module, "train", train)
    job.folder.mkdir()
    checkpoint.write_bytes(b"of other settings")
    with pytest.raises(ResultError, match="holds another run"):
        job(small, tmp_path / "note")
    again(small, tmp_path / "note")
    assert calls == [True, True, False] and job.is_finished(small)


def test_the_result_of_another_run_is_refused_and_a_rerun_replaces_it(job, small, tmp_path, trained):
    other = dataclasses.replace(CONFIG, momentum=0.5)
    results.save(job.folder, 0, [ROW], run_spec(other, small))
    with pytest.raises(ResultError, match="config.momentum is 0.5, asked for 0.9"):
        job(small, tmp_path / "note")
    assert not trained
    dataclasses.replace(job, rerun=True)(small, tmp_path / "note")
    assert job.is_finished(small)


def test_a_job_without_a_checkpoint_has_none_to_delete(job):
    assert not job.has_checkpoint()
    job.delete_checkpoint()


# Side by side.


def test_no_job_is_no_work(small, capsys):
    run_all([], small, None, "nothing")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("n_jobs", "count"), [(1, 1), (2, 2), (5, 3)])
def test_jobs_are_announced_with_how_many_are_side_by_side(job, small, trained, capsys, n_jobs, count):
    jobs = [dataclasses.replace(job, config=dataclasses.replace(CONFIG, seed=seed)) for seed in range(3)]
    with joblib.parallel_config(backend="threading"):
        run_all(jobs, small, n_jobs, "trial")
    assert capsys.readouterr().err.startswith(f"trial: 3 runs, {count} side by side on ")
    assert len(trained) == 3 and all(job.is_finished(small) for job in jobs)


def test_a_job_that_fails_is_raised_with_what_is_kept(job, small, monkeypatch):
    def train(config, data, *, checkpoint, **options):
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(b"half of it")
        raise ZeroDivisionError("no rate")

    monkeypatch.setattr(job_module, "train", train)
    with pytest.raises(ZeroDivisionError, match="no rate") as raised:
        run_all([job], small, 1, "trial")
    assert raised.value.__notes__[0].startswith("The other runs were stopped. 1 of 1 runs keep a checkpoint; ")


@pytest.mark.parametrize(
    ("backend", "on_cpu", "asked", "expected"),
    [
        ("loky", True, None, 3),  # as many as there is room for
        ("loky", True, 2, 2),
        ("loky", True, 9, 5),  # no more than jobs
        ("loky", False, None, 2 * JOBS_PER_CUDA_DEVICE),
        ("loky", False, 9, 9),
        ("threading", True, None, -1),  # threads are joblib's to count
        ("threading", True, 9, 9),
        ("threading", False, None, 2 * JOBS_PER_CUDA_DEVICE),
    ],
)
def test_how_many_runs_are_side_by_side(monkeypatch, backend, on_cpu, asked, expected):
    monkeypatch.setattr(module, "_processes", lambda jobs: jobs - 2)
    with joblib.parallel_config(backend=backend):
        assert module._side_by_side(5, asked, on_cpu, 2) == expected


def test_a_number_that_joblib_was_told_goes_before_the_usual_one(monkeypatch):
    with joblib.parallel_config(backend="threading", n_jobs=4):
        assert module._side_by_side(5, None, True, 1) == 4
        assert module._side_by_side(5, 2, True, 1) == 2


@pytest.mark.parametrize(
    ("jobs", "cores", "free", "container", "processes"),
    [
        (5, 8, 100e9, "max", 5),
        (9, 8, 100e9, "max", 8),
        (9, 8, 3.7e9, "max", 3),  # 1.2 GB each
        (9, 8, 100e9, "2500000000", 2),
        (9, 8, 2.5e9, "100000000000", 2),
        (9, 8, 1e6, "max", 1),
    ],
)
def test_processes_are_as_many_as_jobs_cores_and_memory_allow(monkeypatch, jobs, cores, free, container, processes):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    limit = SimpleNamespace(read_text=lambda encoding: container)
    monkeypatch.setattr(module, "Path", lambda path: limit if path == "/sys/fs/cgroup/memory.max" else Path(path))
    assert module._processes(jobs) == processes


# What ended them.


def test_runs_that_ended_well_raise_nothing(job):
    module._raise_first([None, None], False, [job, job])


def test_the_first_error_is_raised_and_those_that_stopped_for_it_are_none(job):
    errors = [None, Stopped("at 3"), ValueError("first"), ValueError("second")]
    with pytest.raises(ValueError, match="first") as raised:
        module._raise_first(errors, False, [job] * 4)
    assert raised.value.__notes__ == [
        "The other runs were stopped. 0 of 4 runs keep a checkpoint; the same call finishes what is missing, and "
        "nothing twice."
    ]


@pytest.mark.parametrize(
    ("errors", "interrupted", "cause"),
    [
        ([Stopped("at 3")], True, type(None)),
        ([ValueError("late")], True, ValueError),
        ([KeyboardInterrupt()], False, KeyboardInterrupt),
    ],
)
def test_an_interruption_is_one_whatever_else_went_wrong(job, errors, interrupted, cause):
    with pytest.raises(KeyboardInterrupt, match=r"^Interrupted\. 0 of 1 runs keep a checkpoint") as raised:
        module._raise_first(errors, interrupted, [job])
    assert isinstance(raised.value.__cause__, cause) and not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize(("said", "name"), [("exit codes {SIGKILL(-9)}", " (SIGKILL(-9))"), ("unknown", "")])
def test_a_killed_process_is_said_with_its_signal(said, name):
    error = module.TerminatedWorkerError(said)
    killed = module._killed(error)
    assert str(killed).startswith(f"a run's process was killed{name}, by the system") and killed.__cause__ is error


def fail_to_share(reason):
    with module._temporary_folder_named():
        raise pickle.PicklingError("Could not pickle the task") from RuntimeError(reason)


def test_images_that_cannot_be_shared_are_an_error_that_names_the_folder(monkeypatch):
    reason = '"""\nTraceback\nOSError: [Errno 28] No space left on device\n"""'
    monkeypatch.delenv("JOBLIB_TEMP_FOLDER", raising=False)
    with pytest.raises(OSError, match=r"cannot share the images through /dev/shm or .* \(OSError: \[Errno 28\] No sp"):
        fail_to_share(reason)
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", "/small")
    with pytest.raises(OSError, match=r"through /small \(OSError: \[Errno 28\] No space left on device\); set JOBLIB"):
        fail_to_share(reason)


def test_another_error_in_sharing_is_raised_as_it_is():
    with pytest.raises(pickle.PicklingError, match="Could not pickle the task"):
        fail_to_share("TypeError: cannot pickle a lambda")


# The bar.


def test_a_note_is_written_while_there_is_a_place_for_it(tmp_path):
    job_module._write_progress(tmp_path / "0", 12)
    job_module._write_progress(tmp_path / "gone" / "0", 12)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("0", "12")]


class Bar:
    """A progress bar that notes what it shows, and when it is closed."""

    def __init__(self, total, unit, desc):
        self.total, self.desc, self.n, self.initial = total, desc, 0, 0
        self.shown, self.busy, self.drawn = [], False, threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.shown.append("closed early" if self.busy else "closed")

    def refresh(self):
        self.busy = True
        self.shown.append((self.n, self.initial))
        if threading.current_thread() is not threading.main_thread():
            self.drawn.set()
            threading.Event().wait(0.1)  # drawing takes time
        self.busy = False


@pytest.fixture
def bar(monkeypatch, job, tmp_path):
    """Open a bar of two jobs, that looks for notes at once: with bar() as shown."""
    made = []

    class Impatient(threading.Event):
        def wait(self, timeout=None):
            return super().wait(0.01)

    @contextmanager
    def opened():
        with monkeypatch.context() as patch:
            patch.setattr(module, "tqdm", lambda **options: made.append(Bar(**options)) or made[-1])
            patch.setattr(module, "threading", SimpleNamespace(Event=Impatient, Thread=threading.Thread))
            with module._progress_bar([job, job], tmp_path, "trial"):
                yield made[-1]

    return opened


def test_the_bar_shows_the_updates_of_all_jobs_and_those_of_an_earlier_call_as_made_before(bar, tmp_path):
    (tmp_path / "0").write_text("10", encoding="utf-8")
    (tmp_path / "1").write_text("", encoding="utf-8")  # about to be written
    with bar() as shown:
        assert (shown.total, shown.desc) == (80, "trial") and shown.drawn.wait(60)
        (tmp_path / "0").write_text("25", encoding="utf-8")
        (tmp_path / "1").write_text("5", encoding="utf-8")
    assert shown.shown[0] == (10, 10)
    assert shown.shown[-2:] == [(30, 10), "closed"]


def test_the_bar_is_closed_when_the_work_fails_too(bar, tmp_path):
    threads = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError), bar() as shown:
        shown.drawn.wait(60)
        raise ZeroDivisionError
    assert shown.shown[-1] == "closed" and set(threading.enumerate()) <= threads


def test_memory_of_unknown_size_limits_nothing(monkeypatch):
    def unreadable(encoding):
        raise FileNotFoundError

    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(module, "Path", lambda path: SimpleNamespace(read_text=unreadable))
    monkeypatch.setattr(joblib, "cpu_count", lambda: 4)
    assert module._processes(9) == 4
