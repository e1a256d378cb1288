"""Results on disk in whole stories: runs saved, killed in the middle, damaged and copied, against a model."""

import json
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pandas as pd
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from stories import assert_finds, told

from clr import paths, results
from clr.results import COLUMNS, ResultError, run_path

RUNS = [(arm, seed) for arm in ("fixed", "cycles") for seed in (0, 1)]
numbers = st.sampled_from([0.0, 1 / 3, 1e-17, 1e300, float("nan"), float("inf")])
rows_of_runs = st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=3)


class Killed(BaseException):
    """The process has ended."""


@contextmanager
def killed_at(n):
    """End the process at its n-th call to the disk: neither that call nor a later one does anything."""
    calls = count(1)

    def until_then(call):
        def instead(*arguments, **options):
            if next(calls) >= n:
                raise Killed
            return call(*arguments, **options)

        return instead

    with ExitStack() as stack:
        for owner, names in {Path: ("open", "mkdir", "replace", "unlink"), os: ("fsync",)}.items():
            for name in names:
                stack.enter_context(patch.object(owner, name, until_then(getattr(owner, name))))
        yield


def cut(path, data):
    path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size - 1))])


def flip(path, data):
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)


def edit(path, data):
    if path.suffix == ".json":
        record = json.loads(path.read_bytes())
        record[data.draw(st.sampled_from(sorted(record)))] = data.draw(st.sampled_from([None, [], {}, 3, "x"]))
        path.write_text(json.dumps(record), encoding="utf-8")
    else:
        path.write_text(path.read_text(encoding="utf-8").replace("3", "4") + "\n", encoding="utf-8")


def remove(path, data):
    path.unlink()


def made(values):
    return pd.DataFrame([dict(zip(COLUMNS, (i + 1, *row), strict=True)) for i, row in enumerate(values)])


class Story(RuleBasedStateMachine):
    """What must hold: of each run the rows that were saved last, or a ResultError if somebody damaged it, or none."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.saved = {}  # by run: its rows
        self.damaged = set()

    def teardown(self):
        shutil.rmtree(self.root)

    def folder(self, run):
        return self.root / "toy" / "trial" / run[0]

    def write(self, run, rows):
        record = {"config": {"seed": run[1]}, "data": {"name": "toy"}, "provenance": {"seconds": 1.0}}
        results.save(self.folder(run), run[1], rows.to_dict("records"), record)

    def found(self, run):
        """Return a run's rows as text, None where it has not finished, and the error's type where it is damaged."""
        try:
            loaded = results.load(self.folder(run), run[1])
        except ResultError as error:
            return ResultError if f"seed-{run[1]}" in str(error) and len(str(error)) < 500 else error
        return None if loaded is None else loaded[0].to_csv()

    def expect(self, run, text):
        """Note what a run has become."""
        self.saved.pop(run, None)
        self.damaged.discard(run)
        if text is ResultError:
            self.damaged.add(run)
        elif text is not None:
            self.saved[run] = text

    @rule(run=st.sampled_from(RUNS), values=rows_of_runs)
    def save(self, run, values):
        self.write(run, rows := made(values))
        assert self.found(run) == rows.to_csv()
        self.expect(run, rows.to_csv())

    @rule(run=st.sampled_from(RUNS), values=rows_of_runs, call=st.integers(1, 14))
    def be_killed_while_saving(self, run, values, call):
        before, rows = self.found(run), made(values)
        with suppress(Killed), killed_at(call):
            self.write(run, rows)
        after = self.found(run)
        assert after in (before, None, rows.to_csv())
        self.expect(run, after)

    @rule(
        run=st.sampled_from(RUNS), suffix=st.sampled_from([".csv", ".json"]),
        damage=st.sampled_from([cut, flip, edit, remove]), data=st.data(),
    )  # fmt: skip
    def damage(self, run, suffix, damage, data):
        path = run_path(self.folder(run), run[1], suffix)
        if run not in self.saved or not path.exists():
            return
        damage(path, data)
        after = self.found(run)
        assert after in (self.saved[run], None, ResultError)  # never other rows
        assert suffix == ".json" or after is ResultError
        self.expect(run, after)
        if run in self.saved:  # only the record's own words have changed, if any: no checksum covers them
            with suppress(ResultError):
                results.read(self.root)
            path.unlink()
            self.expect(run, None)

    @rule(run=st.sampled_from(RUNS), other=st.sampled_from(RUNS))
    def copy_to_where_another_belongs(self, run, other):
        if run[1] == other[1] or run not in self.saved:
            return
        for suffix in (".csv", ".json"):
            self.folder(other).mkdir(parents=True, exist_ok=True)
            shutil.copy(run_path(self.folder(run), run[1], suffix), run_path(self.folder(other), other[1], suffix))
        with pytest.raises(ResultError, match="wrong folder|damaged|missing|changed|format"):
            results.read(self.root)
        for suffix in (".csv", ".json"):
            run_path(self.folder(other), other[1], suffix).unlink()
        self.expect(other, None)

    @invariant()
    def every_run_is_what_was_saved(self):
        for run in RUNS:
            assert self.found(run) == (ResultError if run in self.damaged else self.saved.get(run))

    @invariant()
    def all_runs_are_read_or_the_damage_is_said(self):
        if self.damaged:
            with pytest.raises(ResultError):
                results.read(self.root)
        else:
            frame = results.read(self.root)
            runs = frame.groupby(["arm", "seed"])
            texts = {run: rows[list(COLUMNS)].reset_index(drop=True).to_csv() for run, rows in runs}
            assert texts == self.saved


Story.TestCase.settings = told(15, 12)
TestStory = Story.TestCase


def test_a_writer_that_is_not_atomic_is_found(monkeypatch):
    monkeypatch.setattr(paths, "atomic_write", nullcontext)
    assert_finds(Story)


def test_a_checksum_that_covers_nothing_is_found(monkeypatch):
    monkeypatch.setattr(results.hashlib, "sha256", lambda content: SimpleNamespace(hexdigest=lambda: "same"))
    assert_finds(Story)


def test_an_old_record_beside_new_rows_is_found(monkeypatch):
    """Where the older record stays until the new rows have their name, a kill in between damages a finished run."""
    unlink = Path.unlink
    monkeypatch.setattr(
        results.Path, "unlink", lambda path, missing_ok=False: path.suffix == ".json" or unlink(path, missing_ok)
    )
    assert_finds(Story)
