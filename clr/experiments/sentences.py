"""The study's findings in sentences, each computed from the finished runs of a `Study`.

The word follows the interval: where it includes zero there is no clear difference. Means of one or two runs carry no
interval. Below full scale there is no finding: accuracies of shortened runs say little about long ones.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import wraps
from itertools import groupby
from typing import Any

import pandas as pd

from clr import results
from clr.experiments import findings, pictures, tables
from clr.experiments.catalogue import EXPERIMENTS
from clr.experiments.questions import QUESTIONS
from clr.experiments.study import Study
from clr.experiments.tables import format_interval
from clr.figures import claims
from clr.figures.base import MIN_RUNS, look
from clr.range_test import suggest_bounds

__all__ = ["answers", "conclusions", "controls", "cycle_ends", "fewer_updates", "gap", "init", "multipliers", "paper",
           "precision", "proposed_bounds", "proposed_rates", "range_test", "residual", "two_meanings",
           "without_cycles"]  # fmt: skip

Sentence = Callable[..., str]
WORDS = {
    "linear-32k": "a line to zero", "linear-25k": "a line to zero", "fixed-32k": "step decay at a high rate",
    "fixed-25k": "step decay at a low rate", "one-cycle-25k": "one cycle",
}  # fmt: skip


def _full_only(experiment: str, *arms: str) -> Callable[[Sentence], Sentence]:
    """Return a decorator for sentences that need these arms at full scale; elsewhere they say why there is none."""

    def decorate(sentence: Sentence) -> Sentence:
        @wraps(sentence)
        def checked(study: Study, *more: str) -> str:
            if study.scale != "full":
                return f"{study.scale.capitalize()} run: compare shapes, not accuracies."
            if not set(arms) <= set(study.runs(experiment)["arm"]):
                return _no_finding(study, experiment)
            return sentence(study, *more)

        return checked

    return decorate


def _no_finding(study: Study, experiment: str) -> str:
    return f"No finding yet: `{study.command(experiment)}` trains what is missing."


def gap(first: str, second: str, differences: "pd.Series[float]", verb: str = "ends") -> str:
    """Return by how many points one schedule is above another, seed by seed, in words that follow the interval.

    >>> gap("a line", "the cycles", pd.Series([1.0, 2.0, 3.0]))
    'no clear difference between a line and the cycles: +2.0 points (95% CI -0.5 to 4.5, n = 3)'
    >>> gap("a line", "the cycles", pd.Series([-1.0]))
    'a line ends 1.0 points below the cycles (n = 1)'
    """
    mean, n = differences.mean(), len(differences)
    side = "above" if mean > 0 else "below"
    if n < MIN_RUNS:
        return f"{first} {verb} {abs(mean):.1f} points {side} {second} (n = {n})"
    low, high = results.interval(differences)
    if low <= 0 <= high:
        return (
            f"no clear difference between {first} and {second}: {mean:+.1f} points "
            f"(95% CI {low:.1f} to {high:.1f}, n = {n})"
        )
    ends = sorted((abs(low), abs(high)))
    return f"{first} {verb} {abs(mean):.1f} points {side} {second} (95% CI {ends[0]:.1f} to {ends[1]:.1f}, n = {n})"


def _at(study: Study, experiment: str, arm: str, iteration: int | None = None) -> "pd.Series[float]":
    runs = study.runs(experiment)
    rows = results.rows_at(runs[runs["arm"] == arm], iteration)
    return rows.set_index("seed")["test_accuracy"]


def _difference(first: "pd.Series[float]", second: "pd.Series[float]") -> "pd.Series[float]":
    return (100 * (first - second)).dropna()


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


@_full_only("headline", "fixed", "triangular")
def fewer_updates(study: Study) -> str:
    """Return after how many updates the cycles' ends reach the long schedule's final mean, and in how many runs."""
    fixed, runs = _at(study, "headline", "fixed"), study.runs("headline")
    reached = claims.first_reached(runs[runs["arm"] == "triangular"], fixed.mean(), study.cycle)
    some, length = reached.dropna(), study.config("headline", "fixed").iterations
    if some.empty:
        return "No cycle end reaches the final accuracy of the long schedule."
    when = f"{some.min():,.0f}" if some.min() == some.max() else f"{some.min():,.0f} to {some.max():,.0f}"
    return (
        f"The long schedule, step decay at a low rate, ends at {100 * fixed.mean():.1f}% after {length:,} updates "
        f"(n = {len(fixed)}). "
        f"The ends of cycles first reach that after {when} updates, in {len(some)} of {len(reached)} runs."
    )


@_full_only("headline", "triangular")
def without_cycles(study: Study) -> str:
    """Return how plain schedules end against the cycles after the same number of updates."""
    end = study.config("headline", "triangular").last_cycle_end
    cycles, words = _at(study, "headline", "triangular", end), []
    for arm in ("linear-32k", "fixed-32k"):
        plain = _at(study, "headline-controls", arm)
        if len(plain):
            words.append(gap(WORDS[arm], "the cycles", _difference(plain, cycles)))
    return f"After {end:,} updates: {'; '.join(words)}." if words else "No plain schedule has finished yet."


@_full_only("headline", "triangular")
def cycle_ends(study: Study) -> str:
    """Return at which cycle ends before the last the cycles are clearly ahead of each plain schedule."""
    runs, words = study.runs("headline", "headline-controls"), []
    for arm in ("linear-32k", "fixed-32k"):
        if arm in set(runs["arm"]):
            rows = claims.pairs(runs, "triangular", arm)
            rows = rows[rows.index % study.cycle == 0].iloc[:-1]
            ahead = int(((rows["low"] > 0) & (rows["n"] >= MIN_RUNS)).sum())
            words.append(f"of {WORDS[arm]} at {ahead}")
    if not words:
        return "No plain schedule has finished yet."
    return (
        f"Cycles leave a usable net every {study.cycle:,} updates. Of the {len(rows)} cycle ends before the last, they "
        f"are clearly ahead {' and '.join(words)}."
    )


@_full_only("controls", *pictures.PAIR)
def controls(study: Study) -> str:
    """Return what dropping the rate is worth to cycles, and how cycles with drops end against what comes down once."""
    dropped, end = _at(study, "controls", pictures.PAIR[1]), study.config("controls", pictures.PAIR[0]).last_cycle_end
    last, words = _at(study, "controls", pictures.PAIR[0], end), []
    alone = f"cycles alone, at {end:,} updates,"
    words.append(_capital(gap(alone, "cycles that then drop", _difference(last, dropped), "end")))
    for arm in ("linear-25k", "one-cycle-25k", "fixed-25k"):
        other = _at(study, "controls", arm)
        if len(other):
            words.append(_capital(gap("cycles that then drop", WORDS[arm], _difference(dropped, other), "end")))
    return " ".join(words)


@_full_only("paper-table-1", "fixed")
def paper(study: Study) -> str:
    """Return how ours end against the paper's numbers: the lowest and the highest."""
    arms = tables.beside_reported("paper-table-1", study.runs("paper-table-1"))
    gaps = (100 * (arms["accuracy"] - arms["reported"])).set_axis(arms["arm"]).sort_values()
    return (
        f"{claims.paper(arms)}. Against the paper the lowest is `{gaps.index[0]}` ({gaps.iloc[0]:+.1f} points), the "
        f"highest `{gaps.index[-1]}` ({gaps.iloc[-1]:+.1f} points)."
    )


@_full_only("paper-table-1", "exp_range-bounds", "exp_range-amplitude")
def two_meanings(study: Study) -> str:
    """Return how far the two meanings of exp_range are apart at the end of their last whole cycle."""
    end = study.config("paper-table-1", "exp_range-bounds").last_cycle_end
    first, second = (_at(study, "paper-table-1", f"exp_range-{decays}", end) for decays in ("bounds", "amplitude"))
    words = gap("exp_range with declining bounds", "exp_range with a declining amplitude", _difference(first, second))
    return f"At {end:,} updates, the end of the last whole cycle, {words}."


@_full_only("mults", "fixed")
def multipliers(study: Study) -> str:
    """Return how much higher or lower policies end with the multipliers: the extremes."""
    table = tables.multiplier_differences(study.ends("mults")).set_index("arm")
    if table.empty:
        return "No pair with and without multipliers has finished yet."
    points = table["points"].sort_values()
    ends = [
        f"`{arm}` ends {abs(gap):.1f} points {'higher' if gap > 0 else 'lower'}"
        for arm, gap in points.iloc[[0, -1]].items()
    ]
    n = table["n"].min()
    return f"With the multipliers {' and '.join(ends)}: the extremes of {len(points)} policies (n = {n} each)."


@_full_only("init", "caffe-pixels-caffe-init", "unit-pixels-caffe-init")
def init(study: Study) -> str:
    """Return where each kind of initial weights ends on each kind of pixels."""
    ends = results.rows_at(study.runs("init")).groupby("arm")["test_accuracy"].agg(["mean", "size"])
    words = [f"{100 * row['mean']:.2f}% for `{arm}`" for arm, row in ends.sort_values("mean").iterrows()]
    return f"Accuracy at the end: {', '.join(words)} (n = {ends['size'].min()})."


@_full_only("range-test")
def range_test(study: Study, arm: str) -> str:
    """Return the verdict on a range test's curves."""
    if pictures.tested_arm(study, arm) not in set(study.runs("range-test")["arm"]):
        return _no_finding(study, "range-test")
    return pictures.bounds(study, arm).verdict


@_full_only("resnet")
def residual(study: Study) -> str:
    """Return what the runs of the residual net answer, as a list: one line per question that has its runs."""
    return _answers_of(study, "resnet")


def precision(study: Study) -> str:
    """Return whether bfloat16 changes the headline's accuracies, as a list. Both sides are the catalogue's."""
    return _precision(replace(study, precision=None))


@_full_only("precision")
def _precision(study: Study) -> str:
    return _answers_of(study, "precision")


def _answers_of(study: Study, experiment: str) -> str:
    asked = [question.key for question in QUESTIONS if question.first.experiment == experiment]
    return answers(asked, study) or _no_finding(study, experiment)


@_full_only("resnet")
def proposed_bounds(study: Study) -> str:
    """Return the verdict on the curves of the range test on the residual net, read anew."""
    found = pictures.proposed_bounds(study)
    if found is None:
        return "No finding yet: `python -m tools.resnet_bounds` makes the range test."
    return suggest_bounds(found.tests).verdict


@_full_only("resnet")
def proposed_rates(study: Study) -> str:
    """Return where each schedule that the residual net's range test proposes ended."""
    runs = study.runs("resnet")
    ends = results.summarise(runs[runs["arm"].isin(pictures.PROPOSED)], study.config("resnet", "linear").iterations)
    if ends.empty:
        return _no_finding(study, "resnet")
    reached = [
        f"{look(row.arm)[2]} {format_interval(100 * row.accuracy, 100 * row.low, 100 * row.high, row.n, unit='%')}"
        for row in ends.sort_values("accuracy", ascending=False).itertuples()
    ]
    return f"After {ends['iterations'].max():,} updates at the proposed rates: {', '.join(reached)}."


@_full_only("headline")
def conclusions(study: Study) -> str:
    """Return the answers to the questions about the two nets, as a list; exploratory ones are left out."""
    asked = [question for question in QUESTIONS if question.first.experiment not in ("resnet", "precision")]
    return answers([question.key for question in asked if not question.exploratory], study)


def answers(keys: Sequence[str], study: Study) -> str:
    """Return one bullet per question of `keys` that has its runs: each answer, and the difference it is read from."""
    found = findings.findings(study.runs(*EXPERIMENTS))
    rows = found[found["key"].isin(keys)]
    rows = rows.sort_values("key", key=lambda key: key.map(list(keys).index))
    return "\n".join(
        f"- {question.rstrip('?')}? {' '.join(_answers(of))}"
        for question, of in groupby(rows.itertuples(), lambda row: str(row.question))
    )


def _answers(rows: Iterable[Any]) -> list[str]:
    """Return each answer, once, and the differences of the rows in turn that give it."""
    return [
        f"**{answer}.** {' '.join(map(_difference_of, of))}"
        for answer, of in groupby(rows, lambda row: str(row.answer))
    ]


def _difference_of(row: Any) -> str:
    note = f"; {row.note}" if row.note else ""
    return f"{_capital(row.what)[:-1]}: {findings.format_effect(row)}{note}."
