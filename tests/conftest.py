"""What the tests share: a small data set, and folders that are not the user's."""

import pytest
import torch

from clr.data import Cifar10, synthetic_cifar10


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
