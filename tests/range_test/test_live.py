"""What is shown while bounds are found: how far the bar is, and one picture that is replaced."""

import math
import sys
import types

import pytest

from clr.range_test import live
from clr.range_test.live import Progress


@pytest.fixture
def shown_bar(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")


def test_the_bar_counts_the_updates_of_all_curves_and_is_closed(shown_bar):
    with Progress(iterations=10, seeds=3) as progress:
        assert progress.bar.total == 30
        progress.row(0, (4, 0.1, 0.5, 1.0))
        assert progress.bar.n == 4
        progress.finish_curve([object()])  # which ended early
        assert (progress.bar.n, progress.rows, progress.curves) == (10, [], [[(0.1, 0.5)]])
        progress.row(1, (3, 0.1, 0.5, 1.0))
        assert progress.bar.n == 13 and "seed=1" in str(progress.bar.postfix)
        progress.finish_curve([object(), object()])
        assert progress.bar.n == 20 and not progress.bar.disable
    assert progress.bar.disable  # tqdm's word for closed


@pytest.mark.parametrize(("value", "hidden"), [("", False), ("0", False), ("1", True), (None, False)])
def test_the_bar_is_hidden_where_tqdm_is_disabled(monkeypatch, value, hidden):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    if value is not None:
        monkeypatch.setenv("TQDM_DISABLE", value)
    with Progress(10, 1) as progress:
        assert progress.bar.disable is hidden


def test_a_picture_has_a_place_of_its_own_and_each_curve_in_it(monkeypatch):
    calls = []
    handle = types.SimpleNamespace(update=lambda image: calls.append("update"))

    def display(image, display_id):
        calls.append(display_id)
        return handle

    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(Image=lambda png: png, display=display))
    monkeypatch.setattr(live, "in_jupyter", lambda: True)
    monkeypatch.setattr(live, "SECONDS", 0.0)
    with Progress(10, 2) as progress:
        progress.row(0, (4, 0.1, 0.5, 1.0))
        progress.finish_curve([object()])
        progress.row(1, (4, 0.2, 0.6, 1.0))
        (ax,) = progress._draw_curves().axes
    assert calls == [True, "update"]
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[0.1, 0.5]], [[0.2, 0.6]]]
    assert ax.get_title() == "curve 2: running" and ax.get_xscale() == "log"


class Found:
    """Bounds that note where they are drawn."""

    def __init__(self):
        self.axes = []

    def plot(self, ax):
        self.axes.append(ax)


@pytest.mark.parametrize(("jupyter", "pictures"), [(True, 1), (False, 0)])
def test_the_last_picture_is_that_of_the_bounds_and_a_terminal_shows_none(monkeypatch, jupyter, pictures):
    shown, found = [], Found()
    monkeypatch.setattr(live, "in_jupyter", lambda: jupyter)
    with Progress(10, 1) as progress:
        monkeypatch.setattr(progress, "_show", shown.append)
        progress.drawn = 0.0
        monkeypatch.setattr(live, "SECONDS", 1e9)  # none, too soon after the last
        progress.row(0, (4, 0.1, 0.5, 1.0))
        assert not shown
        monkeypatch.setattr(live, "SECONDS", 0.0)
        progress.row(0, (8, 0.2, 0.5, 1.0))
        assert len(shown) == pictures
        monkeypatch.setattr(live, "SECONDS", 1e9)
        monkeypatch.setattr(progress, "drawn", -math.inf)  # the first comes at once
        progress.row(0, (9, 0.2, 0.5, 1.0))
        assert len(shown) == 2 * pictures
        progress.finish(found)
    assert len(shown) == 3 * pictures and [ax.figure for ax in found.axes] == shown[2:]
