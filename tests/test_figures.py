"""What the figures show, read back from the axes."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")

import matplotlib.pyplot as plt

from clr import figures
from clr.policies import Fixed, Triangular


@pytest.fixture
def ax():
    with plt.rc_context():
        figures.style()
        fig, ax = plt.subplots()
        yield ax
        plt.close(fig)


def test_rates_are_drawn_for_every_iteration_and_named(ax):
    policies = {"triangular": Triangular(0.001, 0.006, 20), "fixed": Fixed(0.001), "own": lambda k: 0.002 + 0 * k}
    assert figures.draw_rates(ax, policies, 80) is ax
    for line, (name, policy) in zip(ax.get_lines(), policies.items(), strict=True):
        assert line.get_label() == name
        assert np.array_equal(line.get_xdata(), np.arange(81))
        assert np.array_equal(line.get_ydata(), policy(np.arange(81)))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("iteration", "learning rate")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(policies)


def test_one_policy_alone_needs_no_legend(ax):
    assert figures.draw_rates(ax, {"fixed": Fixed(0.001)}, 80).get_legend() is None


def test_the_style_fixes_the_size_that_a_figure_prints(ax):
    assert repr(ax.figure) == "<Figure size 800x450 with 1 Axes>"
