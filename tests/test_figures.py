"""What the figures show, read back from the axes."""

import matplotlib
import numpy as np
import pandas as pd
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


def test_forest_has_a_line_for_every_arm_with_its_interval_and_what_was_reported(ax):
    arms = pd.DataFrame({
        "experiment": ["one", "one", "two"], "arm": ["a", "b", "c"], "iterations": [70_000, 25_000, 10],
        "accuracy": [0.7, 0.8, 0.6], "low": [0.69, 0.1, 0.5], "high": [0.71, 1.5, 0.7], "n": [5, 2, 3],
        "source": ["paper", None, "earlier port"], "reported": [0.81, np.nan, 0.65],
    })  # fmt: skip
    figures.draw_forest(ax, arms)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "a, 70,000 (n = 5)",
        "b, 25,000 (n = 2)",
        "c, 10 (n = 3)",
    ]
    drawn = [tuple(line.get_xdata()) for line in ax.get_lines() if len(line.get_xdata())]
    assert drawn == [(0.69, 0.71), (0.7,), (0.81,), (0.8,), (0.5, 0.7), (0.6,), (0.65,)]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["here, with its 95 % interval (n > 2)", "paper", "earlier port"]


def test_cycle_shows_accuracy_above_the_rate_over_the_last_whole_cycles():
    iterations = np.arange(5, 101, 5)
    frame = pd.DataFrame({"iteration": iterations, "lr": iterations / 1000, "test_accuracy": 0.5 + iterations / 1000})
    fig, axes = plt.subplots(2, 1, sharex=True)
    figures.draw_cycle(axes, frame, cycle=30)
    accuracy, rate = axes[0].get_lines()[0], axes[1].get_lines()[0]
    assert accuracy.get_xdata().tolist() == rate.get_xdata().tolist() == list(range(30, 91, 5))
    assert rate.get_ydata()[0] == 0.03 and accuracy.get_ydata()[-1] == 0.59
    plt.close(fig)


@pytest.mark.parametrize(("runs", "bands"), [(1, 0), (2, 0), (3, 1)])
def test_bands_are_drawn_from_three_runs_on(ax, runs, bands):
    frame = pd.DataFrame(
        {"dataset": "d", "arm": "a", "seed": seed, "iteration": k, "test_accuracy": 0.5 + k / 100 + seed / 1000}
        for seed in range(runs)
        for k in (10, 20, 30)
    )
    figures.draw_accuracy(ax, frame)
    assert sum(len(band.get_paths()) for band in ax.collections) == bands
    assert ax.get_ylim()[1] < 1
