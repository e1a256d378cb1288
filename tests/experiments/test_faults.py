"""Faults: kills, full and read-only disks, damaged and foreign files. Nothing finished is lost, and nothing is half.

`CLR_KILLS=20` tries twenty kills, not a few; how many were resumed from a checkpoint is printed with `-s`.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from clr import data, experiments, results, training
from clr.__main__ import main
from clr.experiments import catalogue
from clr.results import ResultError
from clr.training import run_spec
from clr.training.checkpoint import Checkpoint

KILLS = int(os.environ.get("CLR_KILLS", 5))
ARMS = ["quick-unit", "full-caffe"]
COMMAND = f"run range-test --scale tiny --n-jobs 1 --seeds 3 --arms {','.join(ARMS)}"
ROW = {"iteration": 1, "lr": 0.1, "train_loss": 1 / 3, "test_loss": 2.5, "test_accuracy": 0.1}


@pytest.fixture
def resource():
    return pytest.importorskip("resource")


# Kills.


@pytest.fixture(scope="module")
def start():
    """A process that has loaded torch and runs commands: start(home) -> the exit statuses."""
    if not hasattr(os, "fork") or sys.platform == "darwin":
        pytest.skip("nothing to fork, or macOS, where a fork of a process that has computed may hang")
    command = [sys.executable, Path(__file__).parent / "run_and_kill.py"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as program:
        assert program.stdout.readline() == "ready\n"

        def start(home, seconds=0.0, processes=1):
            print(seconds, processes, home, COMMAND, file=program.stdin, flush=True)
            return [int(status) for status in program.stdout.readline().split()]

        yield start
        program.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """The CSVs of an undisturbed run, and how long it took."""
    home = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    assert start(home) == [0]
    seconds = time.monotonic() - began
    assert len(csvs(home)) == 2 * 3  # arms, seeds
    return csvs(home), seconds


def csvs(home):
    return {path.relative_to(home): path.read_bytes() for path in home.rglob("*.csv")}


def finished(home):
    """The files of the finished runs, whole: their bytes and times."""
    frame = results.read(home / "runs" / "synthetic-tiny" / "results")
    runs = frame[["arm", "seed"]].drop_duplicates().itertuples(index=False)
    files = [path for arm, seed in runs for path in home.rglob(f"{arm}/seed-{seed}.*")]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def checkpoints(home):
    """How far each interrupted run has a checkpoint."""
    states = {path: torch.load(path, weights_only=True) for path in home.rglob(".*.checkpoint")}
    return {name: state["rows"][-1]["iteration"] for name, state in states.items()}


def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one(start, undisturbed, tmp_path):
    whole, seconds = undisturbed
    kills, resumable, rounds = 0, 0, 0
    home, safe, far = tmp_path / "0", {}, {}
    while (kills < KILLS or resumable < KILLS / 2) and kills < 5 * KILLS:
        (status,) = start(home, random.uniform(seconds / 3, seconds))  # before that nothing is trained yet
        now = finished(home)
        assert now.items() >= safe.items()
        there = checkpoints(home)
        assert all(there.get(name, 99) >= iteration for name, iteration in far.items())
        safe, far = now, there
        if status == 0:
            assert csvs(home) == whole
            rounds += 1
            home, safe, far = tmp_path / str(rounds), {}, {}
        else:
            assert status == -9
            kills, resumable = kills + 1, resumable + bool(there)
    assert start(home) == [0]
    assert finished(home).items() >= safe.items()
    assert csvs(home) == whole
    assert not checkpoints(home)
    print(f"{kills} kills, {resumable} with a checkpoint to go on from; {rounds + 1} whole runs, all the same")
    assert resumable >= KILLS / 2


def test_two_processes_on_one_folder_end_as_one(start, undisturbed, tmp_path):
    assert start(tmp_path, undisturbed[1] / 4, processes=2) == [-9, -9]
    assert start(tmp_path, processes=2) == [0, 0]
    assert csvs(tmp_path) == undisturbed[0]
    assert len(finished(tmp_path)) == 2 * len(undisturbed[0])
    assert not checkpoints(tmp_path)


def test_the_first_of_two_processes_keeps_its_result(monkeypatch, small, tmp_path):
    """Of one run; even where another device would have given it other numbers."""
    config = experiments.configs("range-test", 1, "tiny")["quick-unit", 0]
    job = experiments.job.Job(config, tmp_path, True, "cpu", rerun=False)

    def train(*arguments, **options):
        results.save(tmp_path, 0, [ROW], run_spec(config, small))  # the other is first
        return training.Run([ROW | {"lr": 0.2}], False, {}, {})

    monkeypatch.setattr(experiments.job, "train", train)
    job(small, tmp_path / "none")
    assert results.load(tmp_path, 0)[0]["lr"].tolist() == [0.1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-0.csv", "seed-0.json"]
    monkeypatch.setattr(experiments.job, "train", None)  # and is not even begun when it is there
    job(small, tmp_path / "none")


@pytest.mark.parametrize("step", range(4))
def test_a_result_replaced_by_a_rerun_is_the_old_one_or_the_new_one_or_none(monkeypatch, tmp_path, step):
    """Interrupted before each of the three changes of name that make the new one, and after them."""
    record = {"config": {"seed": 0}, "data": {"name": "toy"}}
    results.save(tmp_path, 0, [ROW], record)
    steps = iter(range(9))

    def interrupted(change):
        def or_not(path, *arguments, **options):
            tidying = change.__name__ == "unlink" and ".part" in path.name
            if not tidying and next(steps) == step:
                raise KeyboardInterrupt
            return change(path, *arguments, **options)

        return or_not

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink"):
            patch.setattr(Path, name, interrupted(getattr(Path, name)))
        try:
            results.save(tmp_path, 0, [ROW | {"lr": 0.2}], record)
        except KeyboardInterrupt:
            assert step < 3
    loaded = results.load(tmp_path, 0)
    assert (loaded and loaded[0]["lr"].tolist()) == [[0.1], None, None, [0.2]][step]
    results.save(tmp_path, 0, [ROW | {"lr": 0.2}], record)
    assert results.load(tmp_path, 0)[0]["lr"].tolist() == [0.2]


# Disks.


@pytest.fixture
def full_disk(tmp_path):
    """A disk of 64 kB; full_disk.grow() makes it large enough."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if os.name != "posix" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_said_and_what_was_finished_stays(full_disk, trial, small, tmp_path):
    whole = experiments.run("trial", 2, data=small, n_jobs=1, results_dir=tmp_path / "whole")
    folder = full_disk / "synthetic" / "trial" / "only"
    config = experiments.configs("trial", 2)["only", 1]
    results.save(folder, 1, [ROW], run_spec(config, small))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for rerun in (False, True):  # seed 0 keeps its weights, of 600 kB
        with pytest.raises(OSError, match=r"No space left on device: '.*seed-0.safetensors'"):
            experiments.run("trial", 2, data=small, n_jobs=1, results_dir=full_disk, rerun=rerun)
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
    subprocess.run(["mount", "-o", "remount,size=4m", full_disk], check=True)
    after = experiments.run("trial", 2, data=small, n_jobs=1, results_dir=full_disk)
    assert after[after["seed"] == 0].equals(whole[whole["seed"] == 0])
    assert {path: path.read_bytes() for path in before} == before


@pytest.fixture
def trial(monkeypatch):
    """A short experiment of one arm."""
    from dataclasses import replace

    base = experiments.EXPERIMENTS["headline"].arms["triangular"]
    arms = {"only": replace(base, iterations=2, evaluate_every=1, batch_size=10, test_pictures=20)}
    monkeypatch.setitem(
        experiments.EXPERIMENTS, "trial", catalogue.Experiment("trial", "Faults?", arms, keep_weights=True)
    )
    monkeypatch.setitem(experiments.SCALES, "full", experiments.Scale(1, 1, 2, 20))
    monkeypatch.setattr(training.checkpoint, "SECONDS", float("inf"))  # however slow the machine is


@pytest.mark.parametrize(("rows", "limit", "name"), [(1, 100, "seed-0.json"), (100, 1000, "seed-0.csv")])
def test_a_file_that_may_not_grow_is_named_and_the_old_result_stays(resource, tmp_path, rows, limit, name):
    """The kernel refuses to write past RLIMIT_FSIZE; no root is needed for that."""
    record = {"config": {"seed": 0}, "data": {"name": "toy"}}
    results.save(tmp_path, 0, [ROW], record)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match=rf"File too large: '.*/{name}'"):
            results.save(tmp_path, 0, [ROW | {"lr": 0.2}] * rows, record)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert results.load(tmp_path, 0)[0]["lr"].tolist() == [0.1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-0.csv", "seed-0.json"]


def test_a_checkpoint_that_cannot_be_written_is_named_and_the_last_one_stays(resource, monkeypatch, small, tmp_path):
    monkeypatch.setattr(training.checkpoint, "SECONDS", 0.0)
    config = experiments.configs("range-test", 1, "tiny")["quick-unit", 0]
    path, soft_hard = tmp_path / "run.checkpoint", resource.getrlimit(resource.RLIMIT_FSIZE)
    whole, seen = training.train(config, small), []

    def fill(iteration):
        if iteration == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, soft_hard[1]))

    try:
        with pytest.raises(OSError, match=r"File too large: '.*run.checkpoint'"):
            training.train(config, small, checkpoint=path, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft_hard)
    assert training.train(config, small, checkpoint=path, progress=seen.append).rows == whole.rows
    assert seen[0] == 2


@pytest.fixture
def read_only():
    """A folder to fill; as_mere_user(folder) makes it read-only and the test one that must heed that, also as root."""
    if os.name != "posix":
        pytest.skip("no users to be")
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
        if os.getuid() == 0:
            os.seteuid(0)
        for folder in [Path(name), *(path for path in Path(name).rglob("*") if path.is_dir())]:
            folder.chmod(0o755)


def as_mere_user(folder):
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_a_read_only_folder_is_said_before_anything_is_trained(monkeypatch, trial, small, read_only):
    config = experiments.configs("trial", 2)["only", 0]
    folder = read_only / "synthetic" / "trial" / "only"
    results.save(folder, 0, [ROW], run_spec(config, small))
    monkeypatch.setattr(experiments.job, "train", None)
    as_mere_user(read_only)
    assert len(experiments.run("trial", 1, data=small, results_dir=read_only)) == 1  # what is there can be read
    with pytest.raises(PermissionError, match=rf"Permission denied: '{folder}"):
        experiments.run("trial", 2, data=small, results_dir=read_only)


def test_a_progress_note_that_cannot_be_written_stops_no_run(tmp_path):
    (tmp_path / "note").mkdir()
    experiments.job._write_progress(tmp_path / "note", 5)


# Files that are damaged, of another version, edited, or of another run.


@pytest.fixture
def home(monkeypatch, tmp_path):
    """Two finished runs of the command, and one that was interrupted; as the real program looks at them."""
    monkeypatch.setenv("CLR_DATA", "synthetic")
    monkeypatch.setattr(data.synthetic_cifar10, "__defaults__", (300, 100, 0))
    pictures, folder = data.synthetic_cifar10(), tmp_path / "home/runs/synthetic-tiny/results/synthetic/range-test"
    for (arm, seed), config in experiments.configs("range-test", 3, "tiny", ARMS).items():
        run, net = run_spec(config, pictures), training.run._net(config, "cpu")
        if seed < 2:
            results.save(folder / arm, seed, [ROW], run | {"provenance": {"device": "none", "seconds": 1}})
        else:
            checkpoint = Checkpoint(folder / arm / f".seed-{seed}.checkpoint", run, {})
            checkpoint.rows = [ROW]
            checkpoint.save(net, training.run._optimizer(config, net), 1, [])
    return folder / "quick-unit"


def changed(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def flipped(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda at: (at / "seed-1.csv").write_bytes((at / "seed-1.csv").read_bytes()[:-9]), "seed-1.csv was changed"),
        (
            lambda at: (at / "seed-1.csv").write_text("iteration\n1\n", encoding="utf-8"),
            "seed-1.csv was changed after it was written",
        ),
        (lambda at: (at / "seed-1.csv").unlink(), "seed-1.csv is missing beside seed-1.json"),
        (lambda at: changed(at / "seed-1.json", format=2), "seed-1.json must have format 1, got 2"),
        (lambda at: changed(at / "seed-1.json", sha256="0"), "seed-1.csv was changed after it was written"),
        (
            lambda at: (at / "seed-1.json").write_text("[]", encoding="utf-8"),
            r"seed-1.json is damaged \(it holds a list, no record\)",
        ),
        (
            lambda at: (at / "seed-1.json").write_text('{"format": 1}', encoding="utf-8"),
            r"seed-1.json is damaged \(no config\)",
        ),
        (lambda at: (at / "seed-1.json").write_bytes(b"\xff\xfe{"), "seed-1.json is damaged"),
        (lambda at: (at / "seed-1.json").write_text("", encoding="utf-8"), "seed-1.json is damaged"),
        (
            lambda at: [
                (at / f"seed-2.{kind}").write_bytes((at / f"seed-1.{kind}").read_bytes()) for kind in ("csv", "json")
            ],
            "seed-2.json holds another run: config.seed is 1, asked for 2",
        ),
        (lambda at: (at / ".seed-2.checkpoint").write_bytes(b""), "seed-2.checkpoint is damaged"),
        (lambda at: flipped(at / ".seed-2.checkpoint", 300_000), r"seed-2.checkpoint is damaged \(the checksum"),
        (lambda at: torch.save([1], at / ".seed-2.checkpoint"), "seed-2.checkpoint is damaged"),
        (lambda at: torch.save({"rows": []}, at / ".seed-2.checkpoint"), r"seed-2.checkpoint is damaged \('identity'"),
    ],
)
def test_the_program_names_a_file_that_is_not_what_it_wrote_and_leaves_it(home, capsys, damage, message):
    damage(home)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in home.iterdir()}
    assert main(COMMAND.split()) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("clr: ")]
    assert len(said) == 1
    assert re.search(re.escape(str(home)) + "/[.]?" + message, said[0])
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in home.iterdir()} == before


@pytest.mark.parametrize(
    ("copy", "message"),
    [
        (
            "range-test/quick-unit/seed-7",
            "seed-7.json is in the wrong folder: its config.seed is 0, but the place is that of 7",
        ),
        ("range-test/quick-unit/seed-0 (copy)", r"seed-0 \(copy\).json must be named seed-<k>.json"),
        ("range-test/quick-unit/seed-0_2", r"seed-0_2.json must be named seed-<k>.json"),
        ("../cifar10/range-test/quick-unit/seed-0", "data.name is 'synthetic', but the place is that of 'cifar10'"),
    ],
)
def test_a_copied_result_does_not_count_twice(home, copy, message):
    to = (home.parents[1] / copy).resolve()
    to.parent.mkdir(parents=True, exist_ok=True)
    for kind in ("csv", "json"):
        to.with_name(f"{to.name}.{kind}").write_bytes((home / f"seed-0.{kind}").read_bytes())
    for read in (results.read, results.records):
        with pytest.raises(ResultError, match=message):
            read(home.parents[2])


def test_a_checkpoint_with_a_flipped_byte_is_refused_or_the_same(home):
    path = home / ".seed-2.checkpoint"
    content = path.read_bytes()
    config = experiments.configs("range-test", 3, "tiny")["quick-unit", 2]
    run, net = run_spec(config, data.synthetic_cifar10()), training.run._net(config, "cpu")
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    refused = []
    for _ in range(20):
        path.write_bytes(content)
        flipped(path, random.randrange(len(content)))
        try:
            checkpoint = Checkpoint(path, run, {})
            checkpoint.load(net, training.run._optimizer(config, net))
            assert checkpoint.rows == [ROW]
            assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
        except ResultError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all("seed-2.checkpoint is " in message for message in refused)


def test_a_reader_that_has_seen_enough_ends_a_list_without_a_word():
    command = [sys.executable, "-m", "clr", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        program.stdout.close()
        assert program.stderr.read() == ""
    assert program.returncode == 1
