"""What makes the notebooks pleasant: sentences that code computes, sliders, and a picture that grows.

IPython and ipywidgets are imported inside the functions, so that nothing else of clr needs them. With `CLR_STATIC=1`
sliders are drawn once with their defaults: a saved notebook then shows a picture to a reader who runs nothing.
"""

import os
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from io import BytesIO
from typing import Any

__all__ = ["growing", "in_jupyter", "is_static", "replacing", "say", "sliders", "without_traceback"]


def is_static() -> bool:
    """Return whether `CLR_STATIC=1` asks for pictures that do not move."""
    return os.environ.get("CLR_STATIC") == "1"


def in_jupyter() -> bool:
    """Return whether a kernel runs this, not a terminal; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def without_traceback(error: BaseException) -> BaseException:
    """Return an exception that IPython shows as its message alone."""
    error._render_traceback_ = lambda: [f"{type(error).__name__}: {error}"]  # type: ignore[attr-defined]
    return error


def say(text: str) -> None:
    """Display a sentence that was computed, as markdown and as plain text."""
    from IPython.display import display

    display({"text/markdown": text, "text/plain": text}, raw=True)


def growing(draw: Callable[[Any, Any], Any]) -> Callable[[Any], None]:
    """Return a function that draws a frame in place of the last one: a picture that grows while a net trains.

    Args:
        draw: takes a matplotlib figure and the frame, and draws.
    """
    from matplotlib.figure import Figure

    show = replacing()

    def show_frame(frame: Any) -> None:
        if in_jupyter():
            figure = Figure(figsize=(8, 5.4))  # not through pyplot, which would show it a second time
            draw(figure, frame)
            show(figure)

    return show_frame


def replacing() -> Callable[[Any], None]:
    """Return a function that displays a figure in place of the last one, as an image that a saved notebook keeps."""
    handles: list[Any] = []  # one, from the first figure on: what is printed before stands above the picture

    def show(figure: Any) -> None:
        from IPython.display import Image, display

        png = BytesIO()
        figure.savefig(png, format="png", dpi=100)
        if handles:
            handles[0].update(Image(png.getvalue()))
        else:
            handles.append(display(Image(png.getvalue()), display_id=True))

    return show


def sliders(draw: Callable[..., Any], **controls: Any) -> None:
    """Draw a picture, and beside it sliders that draw it anew.

    Args:
        draw: takes the controls' values by name, draws with matplotlib and prints what it likes. What it has not
            shown itself is shown after it.
        controls: by name either the choices, as a list whose first one is shown first, or a slider, as (lowest,
            highest, start) or (lowest, highest, start, step). A start of two numbers makes two handles.

    Raises:
        TypeError: draw is no function, or a control is neither.
    """
    if not callable(draw):
        raise TypeError(f"draw must be a callable, got {draw!r}")
    defaults = {name: _default(name, control) for name, control in controls.items()}

    def show(**values: Any) -> None:
        draw(**values)
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].show()

    if is_static():
        show(**defaults)
        return
    import ipywidgets
    from IPython.display import display

    widgets: Mapping[str, Any] = {name: _widget(ipywidgets, name, control) for name, control in controls.items()}
    output = ipywidgets.interactive_output(show, dict(widgets))
    display(ipywidgets.VBox([*widgets.values(), output]))


def _default(name: str, control: Any) -> Any:
    if isinstance(control, list) and control:
        return control[0]
    if isinstance(control, tuple) and len(control) in (3, 4):
        return control[2]
    raise TypeError(f"{name} must be a list of choices or (lowest, highest, start[, step]), got {control!r}")


def _widget(ipywidgets: Any, name: str, control: Any) -> Any:
    """Return the widget of one control: choices, or a slider for whole numbers or fractions, with one handle or two."""
    common = {"description": name, "layout": {"width": "32em"}, "style": {"description_width": "9em"}}
    if isinstance(control, list):
        return ipywidgets.ToggleButtons(options=control, description=name, style={"description_width": "9em"})
    low, high, start, *step = control
    pair = isinstance(start, tuple)
    whole = all(isinstance(value, int) for value in (low, high, *(start if pair else (start,)), *step))
    kind = f"{'Int' if whole else 'Float'}{'RangeSlider' if pair else 'Slider'}"
    more = {"step": step[0] if step else (1 if whole else (high - low) / 100)}
    if not whole:
        numbers = (low, high, *(start if pair else (start,)), more["step"])
        more["readout_format"] = f".{max(map(_decimals, numbers))}f"
    return getattr(ipywidgets, kind)(value=start, min=low, max=high, continuous_update=False, **more, **common)


def _decimals(number: float, most: int = 5) -> int:
    """Return how many decimals a number needs, and no more than there is room for.

    >>> _decimals(0.0005), _decimals(2.0), _decimals(1 / 3)
    (4, 0, 5)
    """
    exponent = Decimal(repr(number)).normalize().as_tuple().exponent
    return min(most, max(0, -int(exponent)))
