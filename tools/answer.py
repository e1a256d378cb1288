"""The repository's answer in a few bullets, whose words follow the findings' verdicts."""

import math
from typing import Any

import pandas as pd

from clr import results
from clr.experiments import EXPERIMENTS, findings

__all__ = ["answer"]

ARMS = EXPERIMENTS["headline"].arms
POLICY: Any = ARMS["triangular"].policy
FEWER = {"all": "yes", "some": "partly", "none": "no"}
BY_CYCLING = {"above": "no", "below": "yes"}  # by the line's difference from the cycles; else open
LINE_FINISHES = {
    "above": "finishes above the cycles: {effect}",
    "below": "finishes below the cycles: {effect}",
    "equal": "finishes within one point of the cycles: {effect}",
    "open": "shows no clear difference from the cycles: {effect}",
}
STEP_DECAY_FINISHES = {
    "above": "Step decay from their mean rate finishes above them: {effect}.",
    "below": "Step decay from their mean rate finishes below them: {effect}.",
    "equal": "Step decay from their mean rate finishes within one point of them: {effect}.",
    "open": "Step decay from their mean rate shows no clear difference: {effect}.",
}
LESSON = (
    "Know when training ends? Bring the rate down to zero by then. If not, "
    "[cycle](docs/choosing-rates.md#3-choose-a-schedule) and keep the net of the last cycle's end, or drop the rate "
    "before you stop."
)
STOPPED_EARLY = {"above": "cycles help", "below": "cycles cost", "equal": "little difference", "open": "not clear"}
NETS = ("quick", "full")
ENDS = {  # the rivals at cycle ends, and their questions of `clr.experiments.questions` by net
    "a constant rate at their mean": tuple(f"c-{net}-constant-all" for net in NETS),
    "a line to zero, cut off there": tuple(f"c-{net}-line-all" for net in NETS),
}
DATA = {"cifar10-jpeg": "a JPEG copy of CIFAR-10", "cifar10": "CIFAR-10", "synthetic": "synthetic images"}


def answer() -> str:
    """Return the answer, a few bullets per data set: are updates saved, is it the cycling, what if one stops early?"""
    found = findings.findings()
    parts = [_answer(str(dataset), of.set_index("key")) for dataset, of in found.groupby("dataset")]
    return "\n\n".join(filter(None, parts)) or "Nothing has been run at full length yet."


def _answer(dataset: str, found: pd.DataFrame) -> str:
    if not {"headline", "headline-line"} <= set(found.index):
        return ""
    target = results.rows_at(_runs(dataset, "headline", "fixed"))["test_accuracy"].mean()
    n = min(found.loc["headline", "n"], found.loc["headline-line", "n"])
    parts = [
        f"Preliminary (n = {n})." if n < results.MIN_RUNS else "",
        _lesson(found),
        _fewer_updates(dataset, target),
        _by_cycling(found),
        _stopped_early(found),
    ]
    bullets = "\n".join(f"- {part}" for part in [*parts, f"Data: {DATA[dataset]}."] if part)
    return f"{bullets}\n\n{_at_cycle_ends(found)}".rstrip()


def _lesson(found: pd.DataFrame) -> str:
    """Return what to do, in one line, where a line ends higher and cycles cost nothing before that; else ""."""
    midway = set(found.loc[found.index.isin(ENDS["a line to zero, cut off there"]), "verdict"])
    holds = found.loc["headline-line", "verdict"] == "above" and "above" in midway <= {"above", "equal"}
    return f"**In short.** {LESSON}" if holds else ""


def _fewer_updates(dataset: str, target: float) -> str:
    runs, straight = _runs(dataset, "headline", "triangular"), _runs(dataset, "headline-controls", "linear-32k")
    (share, cycles), (_, line) = (_reached(of, target) for of in (runs, straight))
    high, drop = _runs(dataset, "headline-controls", "fixed-32k"), _first_drop("headline-controls", "fixed-32k")
    decay = (
        f", step decay from their mean rate, which drops at {drop:,}, {_reached(high, target)[1]}" if len(high) else ""
    )
    fewest, most = (of(part["seed"].nunique() for part in (runs, straight, high) if len(part)) for of in (min, max))
    n = f"n = {most}" if fewest == most else f"n = {fewest} to {most}"
    return (
        f"**Fewer updates: {FEWER[share]}, on the quick net.** Caffe's long schedule (step decay, "
        f"{ARMS['fixed'].iterations:,} updates from an untuned {ARMS['fixed'].policy(0)}) ends at {100 * target:.1f}%. "
        f"Read every {POLICY.cycle_length:,} updates, at cycle ends, cycles between {POLICY.base_lr} and "
        f"{POLICY.max_lr} first reach that {cycles}, a line from {POLICY.max_lr} to zero {line}{decay} ({n})."
    )


def _first_drop(experiment: str, arm: str) -> int:
    return int(EXPERIMENTS[experiment].arms[arm].policy.stages[1][0])  # type: ignore[attr-defined]


def _by_cycling(found: pd.DataFrame) -> str:
    line = found.loc["headline-line"]
    finishes = LINE_FINISHES[line["verdict"]].format(effect=_effect(line))
    text = f"**Because it cycles: {BY_CYCLING.get(line['verdict'], 'open')}.** The line {finishes}."
    if "headline-high" not in found.index:
        return text
    steps = found.loc["headline-high"]
    return f"{text} {STEP_DECAY_FINISHES[steps['verdict']].format(effect=findings.format_effect(steps))}"


def _stopped_early(found: pd.DataFrame) -> str:
    """Return whether cycles help where they end, before the last; "" where that is not known."""
    verdicts = set(found.loc[found.index.isin([key for keys in ENDS.values() for key in keys]), "verdict"])
    if not verdicts:
        return ""
    mixed = "cycles help, or are within one point on average" if verdicts == {"above", "equal"} else "it depends"
    head = STOPPED_EARLY[verdicts.pop()] if len(verdicts) == 1 else mixed
    return f"**If training stops at an earlier cycle's end: {head}** (table)."


def _at_cycle_ends(found: pd.DataFrame) -> str:
    """Return the table of how far cycles lead plain schedules, averaged over cycle ends before the last."""
    rows = [
        [rival, *(findings.format_effect(found.loc[key]) if key in found.index else "" for key in keys)]
        for rival, keys in ENDS.items()
        if set(keys) & set(found.index)
    ]
    table = pd.DataFrame(rows, columns=["averaged over cycle ends, cycles minus", *(f"{net} net" for net in NETS)])
    return table.to_markdown(index=False, disable_numparse=True) if rows else ""


def _runs(dataset: str, experiment: str, arm: str) -> pd.DataFrame:
    frame = results.read(dataset=dataset, experiment=experiment)
    return frame[frame["arm"] == arm]


def _reached(runs: pd.DataFrame, target: float) -> tuple[str, str]:
    """Return whether "all", "some" or "none" of the runs reach an accuracy, and when, read at the ends of cycles."""
    when = results.iterations_to_accuracy(runs[runs["iteration"] % POLICY.cycle_length == 0], target)["iteration"]
    some = when.dropna().astype(int)
    if some.empty:
        return "none", f"in none of {len(when)} seeds"
    span = " to ".join(f"{k:,}" for k in sorted({some.min(), some.max()}))
    if len(some) == len(when):
        return "all", f"after {span}"
    return "some", f"after {span} in {len(some)} of {len(when)} seeds"


def _effect(row: Any) -> str:
    """Write a finding's effect for a sentence, where no header says what the interval is."""
    text = findings.format_effect(row)
    return text if math.isnan(row["low"]) else text.replace("(", "(95% CI ", 1)
