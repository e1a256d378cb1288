"""Every picture of the README and the notebooks: functions that draw on given axes and return them.

They take frames and policies, never a net, so no torch is needed. They neither show nor save. A title claims what the
frame shows, computed by `clr.figures.claims`.
"""

from clr.figures.base import style
from clr.figures.comparisons import draw_differences, draw_ends, draw_init, draw_paper
from clr.figures.curves import draw_accuracy, draw_rates, draw_training
from clr.figures.cycles import draw_controls, draw_cycle_ends, draw_cycles, draw_headline
from clr.figures.range_tests import draw_peak, draw_range_test
from clr.figures.story import draw_story

__all__ = [
    "draw_accuracy", "draw_controls", "draw_cycle_ends", "draw_cycles", "draw_differences", "draw_ends",
    "draw_headline", "draw_init", "draw_paper", "draw_peak", "draw_range_test", "draw_rates", "draw_story",
    "draw_training", "style",
]  # fmt: skip
