"""Runs under other engines of joblib: the same results to the last bit, and a lost worker loses only what it was at."""

import dataclasses
import os
import signal
import threading
import time

import joblib
import pytest
from joblib.externals.loky import reusable_executor

from clr import data, experiments, results
from clr.experiments import catalogue

ARMS = ("first", "second", "third")


@pytest.fixture
def trial(monkeypatch):
    """An experiment of three short arms."""
    base = experiments.EXPERIMENTS["headline"].arms["triangular"]
    short = dataclasses.replace(base, evaluate_every=2, batch_size=10, test_pictures=20)
    arms = {arm: dataclasses.replace(short, iterations=4 + 2 * i) for i, arm in enumerate(ARMS)}
    monkeypatch.setitem(
        experiments.EXPERIMENTS, "trial", catalogue.Experiment("trial", "Where?", arms, keep_weights=True)
    )
    monkeypatch.setitem(experiments.SCALES, "full", experiments.Scale(1, 1, 2, 20))


def run(folder, small, seeds=2, **options):
    return experiments.run("trial", seeds, data=small, results_dir=folder, **options)


def csvs(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.csv")}


def test_a_lost_process_is_said_and_loses_only_what_it_was_at(trial, small, tmp_path):
    """Of joblib's own engine, which needs nothing installed."""
    run(tmp_path / "alone", small, n_jobs=1)
    there = {}

    def kill(finished):
        there.update(finished)
        os.kill(next(iter(reusable_executor._executor._processes)), signal.SIGKILL)

    watcher = after_the_first_result(tmp_path / "beside", kill)
    with pytest.raises(ChildProcessError, match="killed"):
        run(tmp_path / "beside", small, n_jobs=2)
    watcher.join()
    assert 0 < len(there) < 6
    run(tmp_path / "beside", small, n_jobs=1)
    assert all(path.stat().st_mtime_ns == written for path, written in there.items())
    assert csvs(tmp_path / "beside") == csvs(tmp_path / "alone")


@pytest.fixture
def cluster():
    """Two dask workers, each a process of its own."""
    pytest.importorskip("distributed", reason="dask is not installed: pip install '.[integrations]'")
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


def test_dask_gives_the_same_bits_and_takes_the_pictures_once_a_worker(trial, small, tmp_path, cluster, monkeypatch):
    alone = run(tmp_path / "alone", small, n_jobs=1)
    pickled, getstate = [], data.Split.__getstate__
    monkeypatch.setattr(data.Split, "__getstate__", lambda split: pickled.append(split) or getstate(split))
    with joblib.parallel_config(backend="dask"):
        assert run(tmp_path / "dask", small).equals(alone)
    assert csvs(tmp_path / "dask") == csvs(tmp_path / "alone")
    assert len(pickled) == 2  # a train and a test split, for all six jobs
    assert len({os.getpid(), *cluster.run(os.getpid).values()}) == 3


def after_the_first_result(folder, act):
    """Start a thread that calls `act` when a run has finished, with the files of those that have."""

    def watch():
        while not list(folder.rglob("seed-*.json")):
            time.sleep(0.01)
        act({path: path.stat().st_mtime_ns for path in folder.rglob("seed-*.csv")})

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_lost_dask_worker_loses_only_what_it_was_at(trial, small, tmp_path, cluster):
    run(tmp_path / "alone", small, n_jobs=1)
    there, lost = {}, []

    def kill(finished):
        there.update(finished)
        lost.append(next(iter(cluster.run(os.getpid).values())))
        os.kill(lost[0], signal.SIGKILL)

    watcher = after_the_first_result(tmp_path / "dask", kill)
    with joblib.parallel_config(backend="dask"):
        run(tmp_path / "dask", small)
    watcher.join()
    assert lost[0] not in cluster.run(os.getpid).values()
    assert 0 < len(there) < 6
    assert all(path.stat().st_mtime_ns == written for path, written in there.items())
    assert csvs(tmp_path / "dask") == csvs(tmp_path / "alone")
    assert len(results.read(tmp_path / "dask")) == len(run(tmp_path / "dask", small))


def test_ray_gives_the_same_bits(trial, small, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install '.[integrations]'")
    from ray.util.joblib import register_ray

    alone = run(tmp_path / "alone", small, n_jobs=1)
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    except Exception as error:  # it gives its agents 15 seconds, which a busy machine may not have
        pytest.skip(f"ray did not start here: {error}")
    try:
        register_ray()
        with joblib.parallel_config(backend="ray", n_jobs=2):
            assert run(tmp_path / "ray", small).equals(alone)
    finally:
        ray.shutdown()
    assert csvs(tmp_path / "ray") == csvs(tmp_path / "alone")
