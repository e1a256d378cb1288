"""What the figures show, read back from the axes, and what their titles claim."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("agg")

import matplotlib.pyplot as plt

from clr import figures
from clr.experiments import EXPERIMENTS
from clr.figures import base, claims, range_tests
from clr.policies import Fixed, Triangular
from clr.range_test import curve
from clr.range_test.peak import FACTORS


@pytest.fixture(autouse=True)
def styled():
    with plt.rc_context():
        figures.style()
        yield
        plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots()[1]


@pytest.fixture
def axes():
    return plt.subplots(2, 1, sharex=True)[1]


def runs(arm, curves, lr=0.01):
    """Curves by seed: each the accuracies after 10, 20, ... updates."""
    return pd.DataFrame(
        {"dataset": "d", "arm": arm, "seed": seed, "iteration": 10 * i, "lr": lr, "test_accuracy": accuracy}
        for seed, curve in enumerate(curves)
        for i, accuracy in enumerate(curve, 1)
    )


def title(ax):
    return ax.get_title("left").replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_rates_are_drawn_for_every_iteration_and_named(ax):
    policies = {"triangular": Triangular(0.001, 0.006, 20), "fixed": Fixed(0.001), "own": lambda k: 0.002 + 0 * k}
    assert figures.draw_rates(ax, policies, 80) is ax
    for line, (name, policy) in zip(ax.get_lines(), policies.items(), strict=True):
        assert line.get_label() == name
        assert np.array_equal(line.get_xdata(), np.arange(81))
        assert np.array_equal(line.get_ydata(), policy(np.arange(81)))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("updates", "learning rate")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(policies)


def test_one_policy_alone_needs_no_legend(ax):
    assert figures.draw_rates(ax, {"fixed": Fixed(0.001)}, 80).get_legend() is None


def test_only_the_name_of_a_family_takes_its_colour(ax):
    figures.draw_rates(ax, {name: Fixed(0.001) for name in ("triangular2", "cycles", "exp_range", "cosine")}, 80)
    families = {name: colour for name, (colour, _) in base.FAMILIES.items()}
    own, cycles, second, cosine = (line.get_color() for line in ax.get_lines())
    assert (cycles, cosine) == (families["cycles"], families["cosine"])
    assert own != second and {"#0173b2", "#de8f05", "#029e73"}.isdisjoint({own, second})


def test_the_style_fixes_the_size_that_a_figure_prints_and_its_white_ground(ax):
    assert repr(ax.figure) == "<Figure size 800x450 with 1 Axes>"
    assert ax.figure.get_facecolor() == (1, 1, 1, 1)


def test_families_differ_in_greyscale_or_in_dashes():
    looks = [(matplotlib.colors.to_rgb(colour), dashes) for colour, dashes in base.FAMILIES.values()]
    for i, (first, dashes) in enumerate(looks):
        for second, others in looks[:i]:
            weights = [0.299, 0.587, 0.114]
            assert dashes != others or abs(np.dot(weights, first) - np.dot(weights, second)) > 0.15


def test_the_five_schedules_of_a_range_test_and_one_of_your_own_look_different():
    looks = [str(base.line_style(name)) for name in (*FACTORS, "mine")]
    assert len(set(looks)) == 6


@pytest.mark.parametrize("arm", [arm for name in ("headline", "headline-controls", "controls", "paper-table-1",
                                                           "resnet")
                                 for arm in EXPERIMENTS[name].arms])  # fmt: skip
def test_every_arm_of_the_main_experiments_has_a_name_in_words(arm):
    assert base.look(arm)[2] != arm


@pytest.mark.parametrize(("seeds", "bands", "lines"), [(1, 0, 1), (2, 0, 3), (4, 0, 5), (5, 1, 1)])
def test_bands_are_drawn_from_five_runs_on_and_single_runs_below(ax, seeds, bands, lines):
    frame = runs("a", [[0.5 + seed / 1000, 0.6, 0.7] for seed in range(seeds)])
    figures.draw_accuracy(ax, frame)
    drawn = [band for band in ax.collections if band.get_paths()]
    assert len(drawn) == bands
    assert len(ax.get_lines()) == lines
    assert ax.get_ylim()[1] < 1
    assert texts(ax) == [f"a (n = {seeds})"]


def test_band_is_students_interval(ax):
    from scipy import stats

    frame = runs("a", [[0.5], [0.55], [0.52], [0.61], [0.6]])
    expected = stats.t.interval(0.95, 4, frame["test_accuracy"].mean(), stats.sem(frame["test_accuracy"]))
    assert base.band(frame["test_accuracy"]) == pytest.approx(expected)


def headline(cycle_ends=(0.5, 0.76, 0.77), line=(0.5, 0.76, 0.78), fixed=0.75):
    """Three seeds each; cycles of 20 updates, so that the even evaluations are cycle ends; a long fixed schedule."""
    noise = (-0.001, 0, 0.001)
    return pd.concat([
        runs("fixed", [[0.3, 0.4, 0.5, 0.5, 0.6, 0.6, 0.7, 0.7, 0.7, fixed + x] for x in noise]),
        runs("triangular", [[y + x for end in cycle_ends for y in (end - 0.02, end)] + [0.4] for x in noise]),
        runs("linear-32k", [[y + x for end in line for y in (end, end)] for x in noise]),
    ])  # fmt: skip


def test_headline_takes_the_last_cycle_end_that_was_evaluated(axes):
    figures.draw_headline(axes, headline(), 16)  # evaluated at tens: of 16, 32, 48, 64 none is, as at the scale tiny
    assert "cycles, 40.0% (n = 3)" in texts(axes[0])
    axes[0].clear()
    figures.draw_headline(axes, headline(), 8)
    assert "cycles, 76.0% (n = 3)" in texts(axes[0])  # at 40


def test_headline_draws_cycle_ends_as_dots_and_nothing_after_the_last(axes):
    frame = headline()
    assert figures.draw_headline(axes, frame, 20) is axes
    dots = [line for line in axes[0].get_lines() if line.get_marker() == "o" and len(line.get_xdata()) > 1]
    assert [line.get_xdata().tolist() for line in dots] == [[20, 40, 60]]
    cycles = next(line for line in axes[0].get_lines() if line.get_color() == dots[0].get_color())
    assert cycles.get_xdata()[-1] == 60
    assert "cycles, 77.0% (n = 3)" in texts(axes[0])
    assert "line to zero, 78.0% (n = 3)" in texts(axes[0])
    rates = axes[1].get_lines()
    assert len(rates) == 3
    assert [line.get_xdata()[-1] for line in rates if line.get_color() == dots[0].get_color()] == [60]


LONG = "the long schedule's 75.0%"


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({}, f"Cycles reach {LONG} after 40 updates; a line to zero does after 40"),
        ({"line": (0.5, 0.7, 0.78)}, f"Cycles reach {LONG} after 40 updates; a line to zero does after 60"),
        ({"line": (0.5, 0.7, 0.7495)}, f"Cycles reach {LONG} after 40 updates"),
        (
            {"cycle_ends": (0.5, 0.6, 0.7495)},
            f"Cycles reach {LONG} after 60 updates in 1 of 3 runs; a line to zero does after 40",
        ),
        ({"cycle_ends": (0.5, 0.6, 0.7)}, f"Cycles never reach {LONG}; a line to zero does after 40"),
    ],
)
def test_the_headline_claims_what_the_runs_show(axes, changes, claim):
    figures.draw_headline(axes, headline(**changes), 20)
    assert title(axes[0]).replace("\n", " ") == claim


def test_headline_without_its_reference_says_so(axes):
    with pytest.raises(ValueError, match="frame must hold the arm 'fixed', got triangular, linear-32k"):
        figures.draw_headline(axes, headline().query("arm != 'fixed'"), 20)


@pytest.mark.parametrize(
    ("line", "claim"),
    [
        ((0.5, 0.7, 0.79), "Cycles lead a line to zero at 40 updates, trail it at 60"),
        ((0.5, 0.7, 0.75), "Cycles lead a line to zero at 40 and 60 updates"),
    ],
)
def test_cycle_ends_are_compared_at_the_same_update(ax, line, claim):
    frame = headline(line=line)
    frame.loc[(frame["arm"] == "linear-32k") & (frame["seed"] == 0), "test_accuracy"] += 0.0001
    figures.draw_cycle_ends(ax, frame, 20, ["linear-32k"])
    assert title(ax) == claim
    points = ax.get_lines()[0]
    assert points.get_xdata().tolist() == [20, 40, 60]
    assert points.get_ydata() == pytest.approx([0, 6, 100 * (0.77 - line[2])], abs=0.01)


def test_a_difference_whose_interval_includes_zero_is_called_none(ax):
    frame = pd.concat([runs("triangular", [[0.5, 0.6]] * 3), runs("linear-32k", [[0.5, x] for x in (0.5, 0.6, 0.69)])])
    figures.draw_cycle_ends(ax, frame, 20, ["linear-32k"])
    assert title(ax) == "At no cycle end a clear difference between cycles and a line to zero"


def test_cycles_lie_over_one_another_by_position(axes):
    frame = runs("triangular", [[0.3, 0.6, 0.55, 0.7, 0.68, 0.72, 0.1]] * 3)
    figures.draw_cycles(axes, frame, 20)
    assert [line.get_xdata().tolist() for line in axes[0].get_lines()] == [[0.5, 1], [0, 0.5, 1], [0, 0.5, 1]]
    assert axes[0].get_lines()[1].get_ydata() == pytest.approx([0.6, 0.55, 0.7])
    assert title(axes[0]) == "Accuracy is 6.5 points lower at the peak rate than at the cycle's ends"


def test_controls_are_read_at_their_ends_and_share_their_trunk(axes):
    frame = pd.concat([
        runs("triangular-25k", [[0.5, 0.6, 0.7, 0.72, 0.6], [0.5, 0.6, 0.7, 0.74, 0.6]]),
        runs("triangular-25k-drops", [[0.5, 0.6, 0.76, 0.77, 0.78]] * 2),
    ])  # fmt: skip
    figures.draw_controls(axes, frame, {"triangular-25k": 40}, ("triangular-25k", "triangular-25k-drops"), 20)
    curves = [line.get_xdata().tolist() for line in axes[0].get_lines() if len(line.get_xdata()) > 2]
    assert curves == [[10, 20, 30, 40], [20, 30, 40, 50]]
    assert title(axes[0]) == "Cycles alone end 5.0 points below cycles that then drop (n = 2)"
    assert "cycles, 73.0% (n = 2)" in texts(axes[0])


TABLE = pd.DataFrame({
    "arm": ["linear-32k", "decay", "fixed-32k"], "points": [1.5, -2.0, 0.4], "low": [0.5, np.nan, -0.1],
    "high": [2.5, np.nan, 0.9], "n": [4, 1, 3],
})  # fmt: skip


def test_differences_are_sorted_and_hollow_without_an_interval(ax):
    figures.draw_differences(ax, TABLE, "cycles", 32_000)
    names = [label.get_text().splitlines()[0] for label in ax.get_yticklabels()]
    assert names == ["line to zero", "step decay, high rate", "short decay"]
    markers = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in markers] == [1.5, 0.4, -2.0]
    assert [line.get_markerfacecolor() == "white" for line in markers] == [False, False, True]
    whiskers = [tuple(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == "|"]
    assert whiskers == [(0.5, 2.5), (-0.1, 0.9)]
    assert texts(ax) == ["n = 4", "n = 3", "n = 1"]
    assert title(ax) == "After 32,000 updates 1 of 2 schedules end clearly above cycles (1 more: n < 3)"


def test_without_three_pairs_anywhere_differences_claim_nothing(ax):
    figures.draw_differences(ax, TABLE.assign(n=2), "cycles")
    assert title(ax) == "2 of 3 end above cycles (n = 2: no interval)"


def test_the_papers_accuracy_stands_beside_ours_with_the_gap_between(ax):
    arms = pd.DataFrame({
        "arm": ["fixed", "decay", "exp"], "accuracy": [0.80, 0.74, 0.5], "n": [3, 1, 1],
        "reported": [0.814, 0.785, np.nan],
    })  # fmt: skip
    figures.draw_paper(ax, arms)
    assert texts(ax) == ["-1.4", "n = 3", "-4.5", "n = 1"]
    assert title(ax) == "All 2 end below the paper, by 1.4 to 4.5 points"
    squares = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "s"]
    assert squares == [0.814, 0.785]


def test_initial_weights_are_told_apart_by_dashes_and_pixels_by_colour(ax):
    ends = {"caffe-pixels-caffe-init": 0.71, "caffe-pixels-torch-init": 0.70, "unit-pixels-caffe-init": 0.1,
            "unit-pixels-torch-init": 0.4}  # fmt: skip
    figures.draw_init(ax, pd.concat([runs(arm, [[0.1, end]]) for arm, end in ends.items()]))
    assert title(ax) == "Initial weights change accuracy by 1.00 points on 0–255 pixels, 30.0 on 0–1 (n = 1)"
    assert [line.get_linestyle() for line in ax.get_lines()] == ["-", "--", "-", "--"]
    colours = [line.get_color() for line in ax.get_lines()]
    assert colours[0] == colours[1] != colours[2] == colours[3]


class Bounds:
    base_lr, base_ci = 0.2, (0.0, 0.2)
    max_lr, max_ci = 0.5, (0.4, 0.6)


RATES = np.linspace(0.01, 1, 100)


def test_a_range_test_that_keeps_its_gain_is_drawn_with_the_lines_that_meet_at_the_bounds(ax):
    curve = pd.DataFrame({"lr": RATES, "mean": np.clip(RATES - 0.2, 0, 0.3), "n": 5})
    figures.draw_range_test(ax, curve, Bounds(), metric="test accuracy")
    (fitted,) = [line for line in ax.get_lines() if line.get_linestyle() == "--" and len(line.get_xdata()) == 100]
    assert fitted.get_ydata() == pytest.approx(curve["mean"].to_numpy())
    assert texts(ax) == [" starts: ≤ 0.2", "max_lr: 0.5 "]
    assert title(ax) == "The rise slows at 0.5; no failure up to 1 (5 curves)"


def test_a_range_test_that_goes_on_to_failure_shows_where(ax):
    curve = pd.DataFrame({"lr": RATES, "mean": np.where(RATES < 0.705, np.clip(RATES - 0.2, 0, 0.3), 0.1)})
    figures.draw_range_test(ax, curve, Bounds())
    assert " fails" in texts(ax)
    assert title(ax) == "The test fails at 0.71; max_lr is 0.5 (one curve)"


def test_a_range_test_fails_where_its_bounds_say_and_else_where_the_curve_does(ax):
    curve = pd.DataFrame({"lr": RATES, "mean": np.where(RATES < 0.705, np.clip(RATES - 0.2, 0, 0.3), 0.1)})
    for known, drawn in ((0.85, "0.85"), (np.nan, "0.71")):
        bounds = Bounds()
        bounds.failure_lr = known
        figures.draw_range_test(ax, curve, bounds)
        assert title(ax).startswith(f"The test fails at {drawn};")


def test_a_metric_that_falls_without_a_floor_leaves_its_rise_in_sight(ax):
    mean = np.where(RATES < 0.7, np.clip(RATES - 0.2, 0, 0.3), -100)
    figures.draw_range_test(ax, pd.DataFrame({"lr": RATES, "mean": mean, "smooth": mean.clip(-0.3)}), Bounds())
    assert ax.get_ylim() == pytest.approx((-0.6, 0.6))


def test_a_bound_that_is_not_known_is_not_drawn(ax):
    curve = pd.DataFrame({"lr": RATES, "mean": RATES})
    unknown = type("Bounds", (), {"base_lr": np.nan, "max_lr": np.nan})
    figures.draw_range_test(ax, curve, unknown)
    assert len(ax.get_lines()) == 1 and not texts(ax)
    assert title(ax) == "This test does not determine max_lr (one curve)"


@pytest.mark.parametrize(
    ("kind", "base_lr", "verdict", "diverged", "claim"),
    [
        ("flat", np.nan, "", False, "No bounds: the metric never rises"),
        ("disagree", np.nan, "", False, "No bounds: the curves disagree"),
        ("rising", 0.2, "", False, "No max_lr: the metric still rises at the end"),
        ("too few", np.nan, "", False, "No bounds: too few evaluations"),
        ("too few", np.nan, "", True, "No bounds: training fails at once"),
    ],
)
def test_a_picture_says_why_a_bound_is_unknown(ax, kind, base_lr, verdict, diverged, claim):
    unknown = Bounds()
    vars(unknown).update(kind=kind, base_lr=base_lr, max_lr=np.nan, max_ci=(np.nan, np.nan), verdict=verdict)
    unknown.tests = [type("Test", (), {"diverged": diverged})]
    figures.draw_range_test(ax, pd.DataFrame({"lr": RATES, "mean": RATES}), unknown)
    assert title(ax) == f"{claim} (one curve)"


def test_the_title_has_words_for_every_kind_of_curve_without_max_lr():
    found = {curve.CurveKind.PEAK, curve.CurveKind.PLATEAU, curve.CurveKind.TOO_NARROW}
    assert set(range_tests._WHY_UNKNOWN) == set(curve.CurveKind) - found


@pytest.mark.parametrize(("level", "limits"), [(0.34, (0.24, 0.44)), (0.005, (0, 0.2)), (1.0, (0.8, 1))])
def test_noise_in_a_share_does_not_look_like_learning(ax, level, limits):
    curve = pd.DataFrame({"lr": RATES, "mean": level - 0.002 * (RATES > 0.5), "n": 1})
    figures.draw_range_test(ax, curve, metric="accuracy")
    assert ax.get_ylim() == pytest.approx(limits, abs=0.002)


def test_the_axis_of_a_share_ends_at_1(ax):
    figures.draw_range_test(ax, pd.DataFrame({"lr": RATES, "mean": RATES**0.1}), metric="accuracy")
    assert ax.get_ylim()[1] == 1


def test_a_curve_without_a_gain_fails_nowhere(ax):
    flat = Bounds()
    vars(flat).update(kind="flat", verdict="", base_lr=np.nan, max_lr=np.nan)
    figures.draw_range_test(ax, pd.DataFrame({"lr": RATES, "mean": 0.5 + 1e-9 * np.sin(10 * RATES)}), flat)
    assert not texts(ax)


def test_intervals_that_overlap_are_shaded_at_the_foot_alone_and_apart(ax):
    wide = Bounds()
    wide.base_ci = (0.05, 0.45)
    figures.draw_range_test(ax, pd.DataFrame({"lr": RATES, "mean": np.clip(RATES - 0.2, 0, 0.3)}), wide)
    low, high = sorted((patch.get_y(), patch.get_y() + patch.get_height()) for patch in ax.patches)
    assert low[1] <= high[0] and high[1] < 0.2
    ax.clear()
    figures.draw_range_test(ax, pd.DataFrame({"lr": RATES, "mean": np.clip(RATES - 0.2, 0, 0.3)}), Bounds())
    assert [patch.get_height() for patch in ax.patches] == [1, 1]


def test_rates_within_a_decade_are_written_without_powers_of_ten(ax):
    rates = np.geomspace(24, 38, 20)
    figures.draw_range_test(ax, pd.DataFrame({"lr": rates, "mean": rates}), spacing="exponential")
    ax.figure.canvas.draw()
    assert "30" in [label.get_text() for label in ax.get_xticklabels(which="minor")]


def test_what_others_read_is_a_bracket_above(ax):
    figures.draw_range_test(ax, pd.DataFrame({"lr": RATES, "mean": RATES}), reported=("paper", 0.1, 0.6))
    assert ax.get_lines()[-1].get_xdata().tolist() == [0.1, 0.1, 0.6, 0.6]
    assert texts(ax) == ["paper, by eye"]


def test_a_shortened_run_says_so_across_the_picture_and_scales_are_never_mixed(ax):
    frame = runs("a", [[0.5, 0.6]]).assign(scale="quick")
    figures.draw_accuracy(ax, frame)
    assert "quick run: compare shapes, not accuracies" in texts(ax)
    with pytest.raises(ValueError, match="frame must hold one scale, got quick, full"):
        figures.draw_accuracy(ax, pd.concat([frame, frame.assign(scale="full")]))


def test_labels_at_line_ends_do_not_overlap(ax):
    ax.set_ylim(0, 1)
    base.label_ends(ax, [(1, 0.5, "a", "k"), (1, 0.501, "b", "k"), (1, 0.9, "c", "k")])
    heights = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(heights) for b in heights[:i])


def test_first_reached_is_per_seed_at_any_evaluation_or_at_cycle_ends_only():
    frame = runs("a", [[0.9, 0.5, 0.5, 0.8], [0.9, 0.8, 0.5, 0.8], [0.9, 0.5, 0.9, 0.5]])
    assert claims.first_reached(frame, 0.75, 20).tolist()[:2] == [40, 20]
    assert np.isnan(claims.first_reached(frame, 0.75, 20)[2])


def test_cycles_shorter_than_the_evaluations_are_drawn_where_they_were_evaluated(axes):
    frame = headline()
    figures.draw_cycles(axes, frame[frame["arm"] == "triangular"], 8)  # evaluated at tens: none up to 8
    assert "cycle 1" not in texts(axes[0])


def test_a_picture_fails_where_the_curve_is_read_as_failed():
    assert range_tests.LOST_FRACTION == curve.LOST_FRACTION


def test_cycles_with_drops_are_no_plain_schedule_of_the_headline(axes):
    frame = headline()
    drops = frame[frame["arm"] == "triangular"].assign(arm="triangular-32k-drops")
    figures.draw_headline(axes, pd.concat([frame[frame["arm"] != "linear-32k"], drops]), 20)
    assert title(axes[0]).replace("\n", " ") == f"Cycles reach {LONG} after 40 updates"


def test_no_dot_lies_below_the_zoomed_frame(axes):
    frame = headline(cycle_ends=(0.2, 0.5, 0.77))
    figures.draw_headline(axes, frame, 20)
    low, _ = axes[0].get_ylim()
    dots = [line for line in axes[0].get_lines() if line.get_marker() == "o" and min(line.get_ydata()) < low]
    assert dots and all(line.get_clip_on() for line in dots)


def test_only_the_reference_is_called_the_long_schedule(axes):
    frame = headline()
    other = frame[frame["arm"] == "fixed"].assign(arm="linear-70k")  # as long
    figures.draw_headline(axes, pd.concat([frame, other]), 20)
    (text,) = (text.get_text() for text in axes[0].texts if "the long schedule" in text.get_text())
    assert "step decay, low rate" in text
