"""What the notebooks use: sentences, and sliders that are a picture where nothing can move."""

import sys
import types

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from clr import notebook


@pytest.fixture
def displayed(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *args, **kwargs: shown.append((args, kwargs)))
    return shown


def test_a_sentence_is_displayed_as_markdown_and_as_text(displayed):
    notebook.say("a **b**")
    assert displayed == [(({"text/markdown": "a **b**", "text/plain": "a **b**"},), {"raw": True})]


def test_an_interruption_is_one_line_in_a_notebook(monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    shell, shown = InteractiveShell(), []
    monkeypatch.setattr(shell, "_showtraceback", lambda etype, value, lines: shown.append(lines))
    try:
        raise notebook.without_traceback(KeyboardInterrupt("stopped after 2 of 5 curves"))
    except KeyboardInterrupt:
        shell.showtraceback()
    assert shown == [["KeyboardInterrupt: stopped after 2 of 5 curves"]]


KERNEL = types.SimpleNamespace(kernel=1)


@pytest.mark.parametrize(("shell", "jupyter"), [(None, False), (object(), False), (KERNEL, True)])
def test_a_kernel_is_told_from_a_terminal(monkeypatch, shell, jupyter):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert notebook.in_jupyter() is jupyter
    monkeypatch.delitem(sys.modules, "IPython")
    assert not notebook.in_jupyter()


class Place:
    """Where a picture is displayed: what was shown there, first and later."""

    def __init__(self, monkeypatch):
        import IPython.display

        self.shown = []
        monkeypatch.setattr(IPython.display, "Image", lambda png: png[:4])
        monkeypatch.setattr(IPython.display, "display", self.display)

    def display(self, image, display_id):
        self.shown.append((image, display_id))
        return self

    def update(self, image):
        self.shown.append((image, "in its place"))


@pytest.mark.parametrize("jupyter", [True, False])
def test_a_growing_picture_replaces_itself_and_a_terminal_draws_none(monkeypatch, jupyter):
    place, drawn = Place(monkeypatch), []
    monkeypatch.setattr(notebook, "in_jupyter", lambda: jupyter)
    show = notebook.growing(lambda figure, frame: drawn.append((figure.subplots().figure is figure, frame)))
    for frame in ("first", "second", "third"):
        show(frame)
    assert drawn == [(True, frame) for frame in ("first", "second", "third")][: 3 * jupyter]
    assert place.shown == [(b"\x89PNG", how) for how in (True, "in its place", "in its place")][: 3 * jupyter]


def test_two_pictures_have_a_place_each(monkeypatch):
    place, figure = Place(monkeypatch), Figure()
    for _ in range(2):
        notebook.replacing()(figure)
    assert [how for _, how in place.shown] == [True, True]


def test_static_sliders_draw_once_with_their_defaults_and_need_no_widgets(monkeypatch):
    monkeypatch.setenv("CLR_STATIC", "1")
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    drawn = []
    notebook.sliders(lambda **values: drawn.append(values), shape=["a", "b"], rate=(0, 1, 0.5), ends=(0, 9, (2, 3)))
    assert drawn == [{"shape": "a", "rate": 0.5, "ends": (2, 3)}]


def test_live_sliders_draw_anew_when_one_is_moved(monkeypatch, displayed):
    monkeypatch.delenv("CLR_STATIC", raising=False)
    drawn = []
    notebook.sliders(
        lambda **values: drawn.append(values), shape=["a", "b"], steps=(1, 9, 4), ends=(0.0, 1.0, (0.2, 0.6))
    )
    (box,), _ = displayed[0]
    shape, steps, ends, _ = box.children
    assert [type(widget).__name__ for widget in (shape, steps, ends)] == [
        "ToggleButtons", "IntSlider", "FloatRangeSlider",
    ]  # fmt: skip
    assert ends.readout_format == ".2f"  # a step of 0.01: no longer than its place
    steps.value = 7
    ends.value = (0.1, 0.3)
    shape.value = "b"
    assert drawn[0] == {"shape": "a", "steps": 4, "ends": (0.2, 0.6)}
    assert drawn[-1] == {"shape": "b", "steps": 7, "ends": (0.1, 0.3)}


@pytest.mark.parametrize("static", ["1", "0"])
def test_sliders_show_what_has_been_drawn(monkeypatch, displayed, static):
    monkeypatch.setenv("CLR_STATIC", static)
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append("shown"))
    notebook.sliders(lambda rate: calls.append(f"drawn at {rate}"), rate=(0, 1, 0.5))
    assert calls == ["drawn at 0.5", "shown"]


@pytest.mark.parametrize("control", [5, (1, 2), [], (1, 2, 3, 4, 5)])
def test_a_control_that_is_none_is_refused(control):
    with pytest.raises(TypeError, match=r"rate must be a list of choices or \(lowest, highest, start"):
        notebook.sliders(print, rate=control)


def test_what_cannot_draw_is_refused():
    with pytest.raises(TypeError, match="draw must be a callable, got 5"):
        notebook.sliders(5)
