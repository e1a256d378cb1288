"""The benchmarks that wait for a GPU: what can be told of them without one is the order in which they do things."""

import sys
import threading
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import cost_growth
import training_speed


def test_runs_that_are_timed_wait_for_each_other(tmp_path):
    waited = []

    def first():
        training_speed.meet(str(tmp_path), 0, 2)
        waited.append((tmp_path / "1").exists())

    thread = threading.Thread(target=first)
    thread.start()
    training_speed.meet(str(tmp_path), 1, 2)
    thread.join()
    assert waited == [True]


def test_a_row_of_memory_on_cuda_starts_from_nothing(monkeypatch):
    order = []
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: order.append(name))
    monkeypatch.setattr(cost_growth, "run", lambda *_, **__: order.append("run") or (5.0, len(order)))
    assert cost_growth.at_once(None, "cuda", 2, 10) == (10.0, 4)
    assert order == ["empty_cache", "reset_peak_memory_stats", "run", "run"]
