"""Runs that are watched: the same numbers as any, rows as they come, and an interruption that is gone on from."""

import io
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.figure import Figure

from clr import experiments
from clr.experiments import pictures
from clr.experiments import watch as module
from clr.experiments.watch import watch
from clr.training import Stopped, checkpoint, train


@pytest.fixture
def configs():
    tiny = experiments.configs("headline", 1, "tiny")
    short = {"iterations": 6, "evaluate_every": 2, "batch_size": 20, "test_pictures": 100}
    return {arm: replace(config, **short) for (arm, _), config in tiny.items()}


def test_watched_runs_have_the_numbers_of_any_others(small, configs, tmp_path, capsys):
    seen = []
    frame = watch(configs, small, seen.append, tmp_path)
    for arm, config in configs.items():
        rows = frame[frame["arm"] == arm].drop(columns=["dataset", "arm", "seed"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, pd.DataFrame(train(config, small).rows)[list(rows)], check_dtype=False)
    assert len(seen[-1]) == len(frame)
    assert not list(tmp_path.iterdir())
    assert seen[-1].attrs == {"left": "done", "updates": 6}
    figure = Figure()
    pictures.training(figure, seen[-1])
    assert figure.axes[0].get_title() == "done" and figure.axes[0].get_xlim() == (0, 7.5)
    assert [line.get_ydata().tolist() for line in figure.axes[1].lines] == [
        frame.loc[frame["arm"] == arm, "lr"].tolist() for arm in configs
    ]
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
    assert waits == [1]  # seconds
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


def test_a_run_that_fails_stops_the_others(small, configs, tmp_path, monkeypatch):
    (first, *_), stopped = configs.values(), []

    def train(config, *_, stop, **__):
        if config == first:
            raise OSError("disk full")
        until = time.monotonic() + 30
        while not stop() and time.monotonic() < until:
            time.sleep(0.01)
        stopped.append(stop())
        raise Stopped

    monkeypatch.setattr(module, "train", train)
    with pytest.raises(OSError, match="disk full"):
        watch(configs, small, lambda frame: None, tmp_path)
    assert stopped == [True]


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
    assert starts == {configs["fixed"]: 5, configs["triangular"]: 0}
    assert not list(tmp_path.iterdir()) and seen[-1].attrs["left"] == "done"
    keys = ["arm", "iteration"]
    pd.testing.assert_frame_equal(
        frame.sort_values(keys, ignore_index=True), whole.sort_values(keys, ignore_index=True)
    )


# What is said: before, while and after.


def test_the_announcement_is_there_before_the_training_begins(small, configs, tmp_path, monkeypatch):
    class Out(io.StringIO):
        seen = ""

        def flush(self):
            self.seen = self.getvalue()

    seen, out = [], Out()

    def begin(*arguments, **options):
        seen.append(out.seen)
        raise Stopped

    monkeypatch.setattr(module, "train", begin)
    monkeypatch.setattr("sys.stdout", out)
    watch(configs, small, lambda frame: None, tmp_path)
    assert len(seen) == 2 and all(said.startswith("Training fixed (6 updates), ") for said in seen)


@pytest.mark.parametrize(
    ("updates", "cores", "seconds"),
    [
        ((1000, 1000), 2, 1200),  # side by side, and a fifth for evaluations
        ((1000, 1000), 1, 2400),
        ((1000, 4000), 2, 4800),  # as long as the longest
        ((1000, 1000, 1000, 1000), 2, 2400),
        ((2000, 2000), 64, 2400),  # no more side by side than runs
    ],
)
def test_the_announcement_has_the_time_of_the_longest_run_or_of_all_on_the_cores(
    configs, monkeypatch, updates, cores, seconds
):
    monkeypatch.setattr(module, "seconds_per_update", lambda config: 1.0)
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    runs = {f"run-{i}": replace(configs["fixed"], iterations=n) for i, n in enumerate(updates)}
    said = module._announcement(runs)
    assert said.startswith(f"Training run-0 ({updates[0]:,} updates), run-1 ({updates[1]:,} updates)")
    assert said.endswith(f" updates): about {seconds // 60} minutes here.")


@pytest.fixture
def clock(configs, monkeypatch):
    """A clock of two runs of 6 updates: clock(now, arm, updates) notes, clock() says what is left."""
    made, now = module._Clock(configs), [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def clock(at=None, arm="", updates=0):
        if at is not None:
            now[0] = at
            made.note(arm, updates)
        return made.left()

    return clock


def test_the_time_left_is_that_of_the_slower_run_from_how_fast_it_was_so_far(clock):
    assert clock() == ""
    assert clock(100, "fixed", 0) == "" and clock(100, "triangular", 2) == ""
    assert clock(110, "fixed", 1) == ""  # nothing is known of the other
    assert clock(500, "triangular", 4) == "about 7 minutes left"  # two updates of 200 seconds, beside five of ten
    assert clock(700, "triangular", 5) == "about 3 minutes left"
    assert clock(900, "triangular", 6) == "about 50 seconds left"
    assert clock(900, "fixed", 6) == "done"


def test_runs_that_resume_from_their_end_are_done(clock):
    assert clock(100, "fixed", 6) == "" and clock(100, "triangular", 6) == "done"


def test_runs_of_another_config_or_data_set_have_other_checkpoints(small, configs):
    names = {
        module._digest(config, data)
        for config in (configs["fixed"], replace(configs["fixed"], seed=1))
        for data in (small, replace(small, name="cifar10"))
    }
    assert len(names) == 4 and module._digest(configs["fixed"], small) in names


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ((None, None), "all runs"),
        ((Stopped("stopped after 3 updates"), None), "fixed after 3 updates"),
        ((Stopped("stopped after 3 updates"), Stopped("stopped after 4 updates")), "fixed after 3 updates, triangular"),
    ],
)
def test_the_farewell_names_the_runs_that_were_stopped_and_where(ended, said):
    running = {
        arm: SimpleNamespace(exception=lambda error=error: error)
        for arm, error in zip(("fixed", "triangular"), ended, strict=True)
    }
    assert module._farewell(running).startswith(f"Interrupted. Kept: {said}")
