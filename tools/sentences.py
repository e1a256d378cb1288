"""The README's first screen and its bullets: a picture that is read in words, the findings, what is seen at scale."""

import re

import pandas as pd

from clr import results
from clr.experiments import sentences
from clr.experiments.findings import findings, format_effect
from clr.experiments.study import Study
from clr.figures import claims
from clr.figures.base import look
from tools import algoperf

__all__ = ["at_scale", "differences_picture", "findings_list", "headline_picture"]

SHOWN = ("headline", "headline-line", "c-quick-line", "a-full")  # keys of `clr.experiments.questions`


def headline_picture() -> str:
    """Return the headline's picture, with an alt text that says the finding, and its caption."""
    study = Study()
    runs = study.runs("headline", "headline-controls")
    if runs.empty:
        return "Nothing has been run at full length yet."
    ends = [f"{look(str(arm))[2]} {_end(of, study.cycle)}" for arm, of in runs.groupby("arm")]
    fewest, most = _seeds(runs)
    n = f"n = {fewest}" if fewest == most else f"n = {fewest} to {most}"
    return (
        f"![{claims.headline(runs, study.cycle)}. Test accuracy against updates. Ends: {'; '.join(ends)}]"
        "(images/headline.png)\n\n"
        "*Dots: the ends of cycles, where one would stop, and of each run. Whiskers: 95% CI over seeds "
        f"({n}). Below: the rates.*"
    )


def _end(runs: pd.DataFrame, cycle: int) -> str:
    """Return an arm's accuracy where one would stop: at its end, or at its last whole cycle's if it has cycles."""
    last = int(runs["iteration"].max())
    last = last // cycle * cycle if runs["arm"].iloc[0] == "triangular" else last
    return f"{100 * results.rows_at(runs, last)['test_accuracy'].mean():.1f}% after {last:,}"


def differences_picture() -> str:
    """Return the picture of differences from the cycles, with an alt text that says them."""
    return f"![{sentences.without_cycles(Study())}](images/differences.png)"


def _seeds(runs: pd.DataFrame) -> tuple[int, int]:
    n = runs.groupby("arm")["seed"].nunique()
    return int(n.min()), int(n.max())


def findings_list() -> str:
    """Return one bullet per main question: the answer, and the difference with its interval and n."""
    found = findings()
    rows = found[found["key"].isin(SHOWN)].sort_values("key", key=lambda keys: keys.map(SHOWN.index), kind="stable")
    lines = [
        f"- {row['question'].rstrip('?')}? **{row['answer']}.** {row['what'].capitalize()}: {format_effect(row)}."
        for _, row in rows.iterrows()
    ]
    return "\n".join(lines) or "Nothing has been run at full length yet."


def at_scale() -> str:
    """Return the first sentences of what AlgoPerf's logs say: one cycle against two, by half and by the end."""
    whole = algoperf.sentence(algoperf.read_summary())
    return " ".join(re.split(r"(?<=\.) (?=[A-Z])", whole)[:4])
