"""What the tests share: a small data set, and folders that are not the user's."""

import os

import joblib
import matplotlib
import pytest
import torch

from clr import experiments, paths, results
from clr.data import Cifar10, synthetic_cifar10

if "OMP_NUM_THREADS" not in os.environ:  # joblib heeds a container's quota, torch neither that nor pytest's workers
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    torch.set_num_threads(max(1, min(torch.get_num_threads(), joblib.cpu_count()) // workers))


@pytest.fixture(scope="session")
def small() -> Cifar10:
    return synthetic_cifar10(train=1000, test=500)


@pytest.fixture(autouse=True)
def same_randomness():
    """Every test draws the same numbers, in whatever order and on whatever worker it runs."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Every test has an empty home, so that none reads or writes the user's data, results or images."""
    monkeypatch.setenv("CLR_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def own_style():
    """No test sees the style of pictures that another has set."""
    with matplotlib.rc_context():
        yield


is_available, visible = torch.cuda.is_available, os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.fixture(scope="session", autouse=True)
def cuda_is_hidden():
    """Tests compare bits with the CPU, or kill processes, so a GPU would make them fail. Fixtures of modules, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # for the processes that a test starts
        yield


@pytest.fixture(autouse=True)
def tests_of_cuda_see_it(request, monkeypatch):
    if request.node.get_closest_marker("cuda"):
        monkeypatch.setattr(torch.cuda, "is_available", is_available)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.fixture(autouse=True)
def slow_bfloat16_is_allowed(monkeypatch):
    """Tests of bfloat16 are about its numbers, on processors that only emulate it, too."""
    monkeypatch.setenv("CLR_SLOW_BFLOAT16", "1")


@pytest.fixture
def save():
    """Save an invented run of the catalogue: save(experiment, arm, seed, {updates: accuracy})."""

    def save(name: str, arm: str, seed: int, curve: dict[int, float], dataset: str = "cifar10") -> None:
        config = experiments.configs(name, seed + 1)[arm, seed]
        losses = {"train_loss": 1.0, "test_loss": 1.0}
        rows = [{"iteration": k, "lr": config.policy(k - 1), "test_accuracy": a} | losses for k, a in curve.items()]
        made = {"device": "some processor", "seconds": 10.0}
        record = {"config": config.to_dict(), "data": {"name": dataset}, "diverged": False, "provenance": made}
        results.save(paths.home() / "results" / dataset / name / arm, seed, rows, record)

    return save
