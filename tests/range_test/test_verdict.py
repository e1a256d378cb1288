"""The verdict, sentence by sentence: invented bounds, and what is said of them."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from clr.range_test import verdict
from clr.range_test.curve import CurveKind, CurveShape
from clr.range_test.peak import HOLDS
from clr.range_test.record import RangeTest
from clr.range_test.verdict import write_verdict

UNKNOWN = np.nan, (np.nan, np.nan)


def curve_of(*losses, top=1.0, **fields):
    """Return a range test of a few rates up to `top`."""
    rates = [np.nan, *np.linspace(top / len(losses), top, len(losses))]
    frame = pd.DataFrame({"lr": rates, "metric": 0.5, "train_loss": [np.nan, *losses]})
    return RangeTest(frame, **{"examples": 100, "spacing": "exponential"} | fields)


TESTS = curve_of(3.0, 2.0), curve_of(3.0, 1.0)


def told(kind=CurveKind.PEAK, base=(0.01, (0.008, 0.012)), top=(0.1, (0.08, 0.12)), peak=0.05, **fields):
    """Return bounds as they are when a metric rises and falls, but for some of their fields."""
    peaks = {"linear": (peak, (0.012, 0.2)), "constant": (0.03, (0.0075, 0.12))}
    usual = {"failure_lr": 0.3, "n_curves": 2, "tests": TESTS}
    (base_lr, base_ci), (max_lr, max_ci) = base, top
    return SimpleNamespace(
        kind=kind,
        base_lr=base_lr,
        base_ci=base_ci,
        max_lr=max_lr,
        max_ci=max_ci,
        peaks=peaks,
        landmark=8 * peak,
        **usual | fields,
    )


def said(bounds, kinds=None, diverged=(False, False), bad=(False, False), log_max_lr=np.nan, solved=False):
    """Return the verdict's sentences, where curves show some kinds (None: all what the bounds' kind says)."""
    shapes = [CurveShape(kind) for kind in kinds or [bounds.kind] * 2]
    curves = [SimpleNamespace(diverged=one, bad_data=other) for one, other in zip(diverged, bad, strict=True)]
    return write_verdict(bounds, shapes, curves, bounds.tests[0], log_max_lr, solved).splitlines()


TRAIN = [
    "Train with a peak rate of 0.05 (constant: 0.03).",
    "The best peak should lie within a factor of 4, 0.012 to 0.2: it did in 88 to 97% of cases tested.",
]
BASE = "base_lr: 0.01 (95% CI 0.008 to 0.012), where learning starts."
TOP = "max_lr: 0.1 (95% CI 0.08 to 0.12)"
ENDS = ["Based on 2 curves.", "Each evaluation looks at 100 examples."]
MORE = "If val_loader has more, larger batches of it would sharpen the bounds."


def test_the_rate_to_train_with_comes_first_then_what_was_seen_the_bounds_and_on_what_they_rest():
    assert said(told(), diverged=(True, False)) == [
        *TRAIN,
        "The metric rises, then loses half of its gain or diverges at 0.3.",
        BASE,
        f"{TOP}, an upper limit: a third of 0.3.",
        "Training diverged in 1 of 2 curves, as it should when a test goes far enough.",
        *ENDS,
    ]


def test_a_plateau_advises_to_go_on_and_says_that_larger_rates_may_work():
    assert said(told(CurveKind.PLATEAU, failure_lr=np.nan)) == [
        *TRAIN,
        "The metric rises, then slows, and keeps most of its gain up to the largest rate tested.",
        BASE,
        f"{TOP}, where the rise slows; larger rates may work too.",
        "Test up to a larger end_lr to see where training fails.",
        *ENDS,
    ]


def test_what_is_unknown_is_named_and_the_advice_comes_last_where_the_peak_rate_is_known():
    assert said(told(CurveKind.RISING, top=UNKNOWN, failure_lr=np.nan)) == [
        *TRAIN,
        "The metric is still rising at the largest rate tested.",
        BASE,
        "Unknown: max_lr; the peak rate stands, as it is read from the training loss.",
        "To know more, test up to a larger end_lr.",
        *ENDS,
    ]


def test_the_advice_comes_first_where_nothing_is_known():
    bounds = told(CurveKind.FLAT, base=UNKNOWN, top=UNKNOWN, peak=np.nan, failure_lr=np.nan)
    assert said(bounds) == [
        "Test up to a larger end_lr, train for more updates, or evaluate on more examples.",
        "The metric never rises clearly above its starting value.",
        "Unknown: base_lr and max_lr.",
        *ENDS,
        MORE,
    ]


@pytest.mark.parametrize(
    ("kind", "seen", "advice"),
    [
        (
            CurveKind.TOO_NARROW,
            "The metric falls at 0.3, too soon after it rises to tell where learning starts.",
            "To know more, use more updates; the paper suggests a third of max_lr as base_lr.",
        ),
        (
            CurveKind.FALLING,
            "The metric falls, without a clear rise before.",
            "To know more, start from a smaller start_lr, unless the model is trained already.",
        ),
        (
            CurveKind.TOO_FEW,
            "There are fewer than 10 evaluations in a curve, too few to find bounds.",
            "To know more, evaluate more often.",
        ),
        (
            CurveKind.BAD_DATA,
            "The loss is not finite at a rate at which nothing can have changed; no rate causes this.",
            "To know more, check the data for NaN and infinity.",
        ),
    ],
)
def test_each_kind_of_curve_has_its_sentence_and_its_advice(kind, seen, advice):
    sentences = said(told(kind, base=UNKNOWN))
    after_the_rate = sentences[3 if kind is CurveKind.FALLING else 2]
    assert after_the_rate == seen and advice in sentences


# Training that fails at once, curves too noisy, and curves that disagree.


def test_training_that_fails_at_once_is_said_with_the_rates_it_fails_at():
    bounds = told(CurveKind.TOO_FEW, UNKNOWN, UNKNOWN, np.nan, tests=(curve_of(1.0, top=0.2), curve_of(1.0, top=0.5)))
    failed = said(bounds, diverged=(False, True))
    assert failed[:2] == [
        "Start from a smaller start_lr or, if these rates are tiny already, check the scale of inputs, targets and "
        "weights.",
        "Training fails before the test has made 10 evaluations, at rates up to 0.5.",
    ]
    assert not any("diverged" in words for words in failed)
    assert said(bounds)[0] == "Evaluate more often."
    assert said(told(), diverged=(True, True))[2] == "The metric rises, then loses half of its gain or diverges at 0.3."


@pytest.mark.parametrize(
    ("kind", "noisy"), [(CurveKind.PEAK, True), (CurveKind.PLATEAU, True), (CurveKind.RISING, False)]
)
def test_a_fall_or_a_plateau_at_no_certain_rate_asks_for_more_seeds(kind, noisy):
    sentences = said(told(kind, top=UNKNOWN, failure_lr=np.nan))
    assert ("The curve is too noisy to tell at which rate." in sentences) == noisy
    assert ("To know more, use more seeds, or more updates." in sentences) == noisy
    assert ("The metric rises, then loses half of its gain or diverges." in sentences) == (kind == CurveKind.PEAK)


@pytest.mark.parametrize(
    ("kinds", "seen", "advice"),
    [
        (["flat", "peak"], "The curves disagree (1 flat, 1 peak).", "use more seeds, or more updates"),
        (["peak", "bad data"], "The curves disagree (1 peak, 1 bad data).", "check the data for NaN and infinity"),
    ],
)
def test_curves_that_disagree_are_counted_by_kind(kinds, seen, advice):
    bounds = told(CurveKind.DISAGREE, UNKNOWN, UNKNOWN, failure_lr=np.nan)
    sentences = said(bounds, [CurveKind(kind) for kind in kinds])
    assert seen in sentences and f"To know more, {advice}." in sentences and MORE in sentences
    assert not any("curves show this" in words for words in sentences)


def test_bad_data_of_one_curve_is_advised_on_only_where_the_curves_disagree():
    sentences = said(told(CurveKind.FLAT, UNKNOWN, UNKNOWN), [CurveKind.FLAT, CurveKind.BAD_DATA])
    assert (
        "To know more, test up to a larger end_lr, train for more updates, or evaluate on more examples." in sentences
    )


# Bounds.


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((0.01, 1.0), "0.1 (95% CI 0.01 to 1), an upper limit: a third of 0.3."),
        ((0.01, 1.01), "0.1, too uncertain to use; its 95% CI spans more than a factor of 100."),
        ((0.0, 0.5), "0.1 (95% CI 0 to 0.5), an upper limit: a third of 0.3."),
    ],
)
def test_an_interval_over_more_than_a_factor_of_a_hundred_says_nothing(ends, words):
    assert f"max_lr: {words}" in said(told(top=(0.1, ends)))


TRY_BOTH, BELIEVE = "Try max_lr as the peak rate, too, and keep the better one.", "Believe the peak rate."


@pytest.mark.parametrize("kind", [CurveKind.PEAK, CurveKind.PLATEAU, CurveKind.TOO_NARROW])
@pytest.mark.parametrize(("peak", "above"), [(0.1, False), (0.101, True), (np.nan, False)])
def test_a_peak_rate_above_max_lr_is_explained_by_what_the_metric_does(kind, peak, above):
    sentences = said(told(kind, peak=peak))
    expected = [BELIEVE if kind is CurveKind.PLATEAU else TRY_BOTH] if above else []
    assert [text for text in sentences if text in (TRY_BOTH, BELIEVE)] == expected
    assert sum(text.startswith("The peak rate is above max_lr") for text in sentences) == len(expected)


@pytest.mark.parametrize(("peak", "below"), [(0.01, False), (0.0099, True), (np.nan, False)])
def test_a_peak_rate_below_base_lr_is_a_disagreement(peak, below):
    words = "The peak rate is below base_lr, so the two readings disagree: test with more updates."
    assert (words in said(told(peak=peak))) is below


def test_where_the_test_has_solved_its_task_the_peak_rate_is_a_lower_limit():
    words = (
        "The test has solved its task by 0.4, where the loss is a hundredth of the untrained one, so higher peak rates "
    )
    assert said(told(), solved=True) == [*TRAIN, f"{words}may work.", *said(told())[2:]]


@pytest.mark.parametrize(("spacing", "losses", "said_so"), [("linear", True, True), ("exponential", True, False),
                                                           ("linear", False, False)])  # fmt: skip
def test_linear_spacing_says_why_there_is_no_rate_to_train_with(spacing, losses, said_so):
    test = curve_of(3.0, 2.0, spacing=spacing)
    test = test if losses else RangeTest(test.frame.drop(columns="train_loss"), spacing)
    words = 'No rate to train with is read from linear spacing: test with spacing="exponential".'
    assert (words in said(told(peak=np.nan, tests=(test, test)))) is said_so


@pytest.mark.parametrize(("top", "keeps"), [(0.4, True), (0.41, False)])
def test_a_loss_that_keeps_its_gain_up_to_the_end_of_any_curve_promises_more(top, keeps):
    """The peak rate is an eighth of where half of the gain is lost: 0.4."""
    sentences = said(told(tests=(curve_of(3.0, 2.0, top=0.2), curve_of(3.0, 1.0, top=top))))
    end = "The training loss keeps its gain up to the largest rate tested, so higher peak rates may work."
    assert (sentences[2] == end) == keeps == (end in sentences)


# How many curves show it.


def agreement(kinds, early=(), **fields):
    shapes = [CurveShape(CurveKind(kind), rises_at_start=i in early) for i, kind in enumerate(kinds)]
    return verdict._agreement(told(n_curves=len(kinds), **fields), shapes)


def test_how_many_curves_agree_is_said_where_some_do_not():
    assert agreement(["peak", "peak"]) == []
    assert agreement(["peak", "flat", "peak"]) == ["2 of 3 curves show this; the bounds come from these curves."]
    assert agreement(["peak", "flat", "peak"], base=UNKNOWN) == [
        "2 of 3 curves show this; the bounds come from these curves."
    ]
    assert agreement(["peak", "flat", "peak"], base=UNKNOWN, top=UNKNOWN) == ["Only 2 of 3 curves show this."]
    assert agreement(["disagree", "flat"], kind=CurveKind.DISAGREE) == []


def test_a_metric_that_rises_at_the_first_evaluation_leaves_base_lr_open_below():
    assert agreement(["peak", "peak"], early=(0, 1)) == [
        "The metric is already rising at the first evaluation, so base_lr may be lower than shown."
    ]
    assert agreement(["peak", "peak"], early=(1,)) == [
        "In 1 of 2 curves the metric is already rising at the first evaluation, so base_lr may be lower than shown."
    ]
    assert agreement(["peak", "peak", "flat"], early=(2,)) == [
        "2 of 3 curves show this; the bounds come from these curves."
    ]
    assert agreement(["peak", "peak"], early=(0, 1), base=UNKNOWN) == []


# What it rests on.


def test_curves_that_diverged_are_counted_but_for_those_of_bad_data():
    assert "Training diverged in 1 of 2 curves." in said(
        told(CurveKind.FLAT, UNKNOWN, UNKNOWN), diverged=(True, True), bad=(False, True)
    )
    assert not any("diverged in" in words for words in said(told(), diverged=(True, False), bad=(True, False)))


def test_one_curve_has_no_spread_between_seeds():
    (words,) = verdict._based_on(told(n_curves=1))
    assert words.startswith("Based on one curve: intervals cover its noise, not the spread between seeds.")


@pytest.mark.parametrize(
    ("kind", "tests", "equal"),
    [
        (CurveKind.PEAK, (TESTS[0], TESTS[0]), True),
        (CurveKind.PEAK, (TESTS[0], TESTS[0], TESTS[1]), False),
        (CurveKind.TOO_FEW, (TESTS[0], TESTS[0]), False),
    ],
)
def test_equal_curves_are_noticed_where_there_are_enough_evaluations(kind, tests, equal):
    based, *more = verdict._based_on(told(kind, n_curves=len(tests), tests=tests))
    assert based == f"Based on {len(tests)} curves."
    assert [words.startswith("All of them are equal: let train_loader shuffle") for words in more] == [True] * equal


def test_the_metric_the_classes_and_the_batches_are_told_where_something_is_to_be_known_of_them():
    chosen = curve_of(1.0, metric_name="accuracy", examples=0)
    odd = curve_of(1.0, one_class=True, held_out=False)
    assert verdict._evaluation(told(tests=(chosen, curve_of(1.0))), chosen) == [
        "The metric is accuracy, since none was given."
    ]
    assert verdict._evaluation(told(tests=(chosen, odd)), odd) == [
        "Each evaluation looks at 100 examples.",
        "All of them are of one class: is val_loader sorted, or are the loaders swapped?",
        "Some evaluation batches were also trained on. Pass a val_loader.",
    ]


def test_of_a_curve_of_which_nothing_more_is_known_nothing_more_is_said():
    plain = RangeTest(TESTS[0].frame)
    assert verdict._evaluation(told(tests=(plain,)), plain) == []
    assert verdict._mean_predictor_warning(told(tests=(plain,))) == []


@pytest.mark.parametrize(
    ("base", "sharp"), [((0.01, 0.029), True), ((0.01, 0.03), False), ((0.0, 0.5), True), ((np.nan, np.nan), True)]
)
def test_bounds_are_sharp_within_a_factor_of_three(base, sharp):
    assert verdict._is_sharp(told(base=(0.01, base))) == sharp
    assert (MORE not in said(told(base=(0.01, base)))) == sharp


def mean_predictor(*tests):
    """Return the share of the fall in loss, as it is said, or None."""
    found = verdict._mean_predictor_warning(told(tests=tests))
    assert found[1:] == ["Standardize the targets, then test again."] * bool(found)
    return found[0].partition(" already makes ")[2].partition(" of the fall")[0] if found else None


def test_the_mean_of_the_targets_is_named_where_it_makes_more_than_half_of_the_fall():
    assert mean_predictor(curve_of(10.0, 2.0, constant_loss=4.0)) == "75%"
    assert mean_predictor(curve_of(10.0, 2.0, constant_loss=1.0)) == "100%"  # it never comes as low
    assert mean_predictor(curve_of(0.5, 0.1, constant_loss=0.2)) == "75%"
    assert mean_predictor(curve_of(10.0, -2.0, constant_loss=4.0)) is None  # half of it
    assert mean_predictor(curve_of(10.0, -1.9, constant_loss=4.0)) == "50%"
    assert mean_predictor(curve_of(10.0, 2.0)) is None  # no regression


def test_targets_as_far_from_their_mean_as_from_the_outputs_are_no_case_of_it():
    assert mean_predictor(curve_of(10.0, 4.9, constant_loss=5.0)) is None
    assert mean_predictor(curve_of(10.0, 4.9, constant_loss=4.9)) == "100%"


def test_the_first_five_losses_are_the_start_where_they_are_known():
    losses = (10.0, 12.0, 8.0, 10.0, 10.0, 0.0)
    assert mean_predictor(curve_of(6.0, 2.0, constant_loss=4.0, losses=losses)) == "75%"


def test_the_median_over_curves_decides_and_curves_without_finite_losses_say_nothing():
    much, little = curve_of(10.0, 2.0, constant_loss=3.0), curve_of(10.0, 0.0, constant_loss=4.9)
    lost = curve_of(np.inf, constant_loss=1.0)
    infinite = curve_of(3.0, constant_loss=1.0, losses=(np.inf,))
    assert mean_predictor(much, much, little) == "88%"
    assert mean_predictor(lost, infinite, much) == "88%"
    assert mean_predictor(lost) is None


def test_a_loss_that_never_falls_has_no_share():
    assert mean_predictor(curve_of(10.0, 12.0, constant_loss=10.0)) is None


def test_how_often_the_best_peak_lay_in_the_interval_is_what_the_benchmark_says():
    results = Path(__file__).parents[2] / "benchmarks" / "results" / "range_test_regret" / "regret.json"
    held = json.loads(results.read_text(encoding="utf-8"))["coverage"]
    held = [share for finder in ("clr, five curves", "clr, one curve") for share in held[finder].values()]
    assert (min(held), max(held)) == HOLDS


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ({}, ["No rate to train with: the training loss never falls clearly, as where a model is trained already.",
              "Give each curve more updates, for example four times as many, or train below max_lr (0.1)."]),
        ({"kind": CurveKind.RISING, "top": UNKNOWN, "failure_lr": np.nan},
         ["No rate to train with: the training loss never falls clearly, as where a model is trained already.",
          "Give each curve more updates, for example four times as many."]),
        ({"tests": (curve_of(3.0, 2.0, spacing="linear"),) * 2},
         ['No rate to train with is read from linear spacing: test with spacing="exponential".']),
        (
            {"tests": (curve_of(3.0, 2.0, spacing="linear"),) * 2, "kind": CurveKind.DISAGREE},
            ['No rate to train with is read from linear spacing: test with spacing="exponential".'],
        ),
        (
            {"tests": (curve_of(3.0, 2.0), curve_of(3.0, 2.0, top=2.0))},
            ["No rate to train with: the curves must share start_lr, end_lr and iterations."],
        ),
        ({"kind": CurveKind.TOO_FEW}, ["Evaluate more often."]),
    ],
)  # fmt: skip
def test_why_there_is_no_rate_to_train_with_comes_first(fields, first):
    assert said(told(**{"peak": np.nan} | fields))[: len(first)] == first


@pytest.mark.parametrize("kind", [CurveKind.FLAT, CurveKind.PEAK])
def test_a_rate_that_only_the_loss_speaks_for_is_called_so(kind):
    alone = "Only the training loss speaks for it: the metric does not show that the model learns."
    assert (said(told(kind))[2] == alone) == (kind is CurveKind.FLAT)


def test_a_metric_of_ones_own_that_falls_may_have_the_wrong_sign():
    falling = {"kind": CurveKind.FALLING, "base": UNKNOWN, "top": UNKNOWN, "failure_lr": np.nan}
    assert "If less of your metric is better, return it with a minus." in said(told(**falling))
    accuracy = (curve_of(3.0, 2.0, metric_name="accuracy"),) * 2
    assert "with a minus" not in " ".join(said(told(**falling, tests=accuracy)))
