"""Runs that are watched: the same numbers as any, rows as they come, and an interruption that is gone on from."""

import re
import time
from dataclasses import replace

import pandas as pd
import pytest

from clr import experiments
from clr.experiments import watch as module
from clr.experiments.watch import watch
from clr.training import Stopped, checkpoint, train


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


def test_a_picture_that_fails_stops_the_runs(small, configs, tmp_path, monkeypatch):
    stopped = []

    def endless(*_, stop, **__):
        until = time.monotonic() + 5
        while not stop() and time.monotonic() < until:
            time.sleep(0.01)
        stopped.append(stop())
        raise Stopped

    def broken(frame):
        raise OSError("no picture")

    monkeypatch.setattr(module, "train", endless)
    with pytest.raises(OSError, match="no picture"):
        watch(configs, small, broken, tmp_path)
    assert stopped == [True, True]


def test_a_finished_run_keeps_its_checkpoint_until_all_are_finished(small, configs, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    whole = watch(configs, small, lambda frame: None, tmp_path)
    starts = {}

    def noting(config, data, *, progress, stop, **options):
        def note(k):
            starts.setdefault(config, k)
            progress(k)

        ends = config == configs["fixed"]
        return train(config, data, progress=note, stop=lambda: not ends and not again, **options)

    monkeypatch.setattr(module, "train", noting)
    again = False
    watch(configs, small, lambda frame: None, tmp_path)
    assert set(starts.values()) == {0} and len(list(tmp_path.iterdir())) == 1
    again, seen = True, []
    starts.clear()
    frame = watch(configs, small, seen.append, tmp_path)
    assert starts == {configs["fixed"]: 6, configs["triangular"]: 0}
    assert not list(tmp_path.iterdir()) and seen[-1].attrs["left"] == "done"
    keys = ["arm", "iteration"]
    pd.testing.assert_frame_equal(
        frame.sort_values(keys, ignore_index=True), whole.sort_values(keys, ignore_index=True)
    )
