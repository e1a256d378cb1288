"""Runs that are watched: the same numbers as any, rows as they come, and an interruption that is gone on from."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from clr import experiments
from clr.experiments import watch as module
from clr.experiments.watch import watch
from clr.training import train


@pytest.fixture
def configs():
    tiny = experiments.configs("headline", 1, "tiny")
    short = {"iterations": 6, "evaluate_every": 2, "test_pictures": 100}
    return {arm: replace(config, **short) for (arm, _), config in tiny.items()}


def test_watched_runs_have_the_numbers_of_any_others(small, configs, tmp_path, capsys):
    seen = []
    frame = watch(configs, small, seen.append, tmp_path)
    for arm, config in configs.items():
        rows = frame[frame["arm"] == arm].drop(columns=["dataset", "arm", "seed"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, pd.DataFrame(train(config, small).rows)[list(rows)], check_dtype=False)
    assert len(seen[-1]) == len(frame)
    assert not list(tmp_path.iterdir())
    assert seen[-1].attrs["left"] == "done"
    assert re.fullmatch(
        r"Training fixed \(6 updates\), triangular \(6 updates\): about \d+ (seconds|minutes) here\.\n",
        capsys.readouterr().out,
    )


def test_an_interruption_says_one_line_and_is_gone_on_from(small, configs, tmp_path, monkeypatch, capsys):
    whole = watch(configs, small, lambda frame: None, tmp_path)
    waits = []

    def interrupt(running, timeout):
        waits.append(timeout)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "wait", interrupt)
        watch(configs, small, lambda frame: None, tmp_path)
    said = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"Interrupted\. Kept: .*\. Run the cell again to go on\.", said)
    again = watch(configs, small, lambda frame: None, tmp_path)
    keys = ["arm", "iteration"]
    pd.testing.assert_frame_equal(
        again.sort_values(keys, ignore_index=True), whole.sort_values(keys, ignore_index=True)
    )


def test_a_failure_is_not_swallowed(small, configs, tmp_path):
    def broken(frame):
        raise OSError("no picture")

    with pytest.raises(OSError, match="no picture"):
        watch(configs, small, broken, tmp_path)
