"""The repository's answer in one paragraph, whose words follow the findings' verdicts."""

import math
from typing import Any

import pandas as pd

from clr import results
from clr.experiments import EXPERIMENTS, findings
from clr.figures import claims

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
STEPS_FINISH = {
    "above": "So do steps at the cycles' mean rate: {effect}.",
    "below": "Steps at the cycles' mean rate finish below them: {effect}.",
    "equal": "Steps at the cycles' mean rate finish within one point of them: {effect}.",
    "open": "Steps at the cycles' mean rate show no clear difference: {effect}.",
}
CYCLE_ENDS = {
    "above": "If training stops early, cycles help a little: at their ends from 12,000 to 24,000 they lead the "
    "unfinished line by {effect} on average.",
    "below": "Stopped at a cycle end from 12,000 to 24,000, the cycles are below the unfinished line: {effect}.",
    "equal": "Stopped at a cycle end from 12,000 to 24,000, the cycles are within a point of the line: {effect}.",
    "open": "Stopped at a cycle end from 12,000 to 24,000, cycles and line show no clear difference: {effect}.",
}
DATA = {"cifar10-jpeg": "a JPEG copy of CIFAR-10", "cifar10": "CIFAR-10", "synthetic": "synthetic images"}


def answer() -> str:
    """Return the answer, one paragraph per data set: does cycling save updates, and is it the cycling?"""
    found = findings.findings()
    paragraphs = [_answer(str(dataset), of.set_index("key")) for dataset, of in found.groupby("dataset")]
    return "\n\n".join(filter(None, paragraphs)) or "Nothing has been run at full length yet."


def _answer(dataset: str, found: pd.DataFrame) -> str:
    if not {"headline", "headline-line"} <= set(found.index):
        return ""
    line = found.loc["headline-line"]
    target = results.rows_at(_runs(dataset, "headline", "fixed"))["test_accuracy"].mean()
    share, cycles_reach = _reached(_runs(dataset, "headline", "triangular"), target)
    _, line_reaches = _reached(_runs(dataset, "headline-controls", "linear-32k"), target)
    n = min(found.loc["headline", "n"], line["n"])
    sentences = [
        f"Preliminary (n = {n})." if n < results.MIN_RUNS else "",
        f"**Fewer updates: {FEWER[share]}. Because it cycles: {BY_CYCLING.get(line['verdict'], 'open')}.**",
        f"Cycling between {POLICY.base_lr} and {POLICY.max_lr} reaches the accuracy of Caffe's long schedule "
        f"({ARMS['fixed'].iterations:,} updates from a low rate, {ARMS['fixed'].policy(0)}, not tuned for this net) "
        f"{cycles_reach}.",
        f"A straight line from {POLICY.max_lr} to zero over 32,000 updates passes it {line_reaches}, and "
        f"{LINE_FINISHES[line['verdict']].format(effect=_effect(line))}.",
    ]
    if "headline-high" in found.index:
        steps = found.loc["headline-high"]
        sentences.append(STEPS_FINISH[steps["verdict"]].format(effect=_effect(steps)))
    if "c-quick-line" in found.index:
        ends = found.loc["c-quick-line"]
        sentences += [CYCLE_ENDS[ends["verdict"]].format(effect=_effect(ends)), _at_each_end(dataset)]
    return " ".join(filter(None, [*sentences, f"Data: {DATA[dataset]}."]))


def _at_each_end(dataset: str) -> str:
    """Return at how many of all cycle ends the cycles are clearly above the line, and at how many below."""
    runs = pd.concat([_runs(dataset, "headline", "triangular"), _runs(dataset, "headline-controls", "linear-32k")])
    rows = claims.pairs(runs, "triangular", "linear-32k")
    rows = rows[rows.index % POLICY.cycle_length == 0]
    above, below = int((rows["low"] > 0).sum()), int((rows["high"] < 0).sum())
    return f"Of all {len(rows)} ends, {above} are clearly above the line and {below} clearly below."


def _runs(dataset: str, experiment: str, arm: str) -> pd.DataFrame:
    frame = results.read(dataset=dataset, experiment=experiment)
    return frame[frame["arm"] == arm]


def _reached(runs: pd.DataFrame, target: float) -> tuple[str, str]:
    """Return whether "all", "some" or "none" of the runs reach an accuracy, and when.

    Both arms are read at the ends of cycles alone: a line that is read more often has more chances.
    """
    when = results.iterations_to_accuracy(runs, target, every=POLICY.cycle_length)["iteration"]
    some = when.dropna().astype(int)
    if some.empty:
        return "none", f"in none of {len(when)} seeds"
    span = " to ".join(f"{k:,}" for k in sorted({some.min(), some.max()}))
    return ("all" if len(some) == len(when) else "some"), f"after {span} updates ({len(some)} of {len(when)} seeds)"


def _effect(row: Any) -> str:
    """Write a finding's effect for a sentence, where no header says what the interval is."""
    text = findings.format_effect(row)
    return text if math.isnan(row["low"]) else text.replace("(", "(95% CI ", 1)
