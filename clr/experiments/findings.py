"""What the finished runs answer: each question's difference, its interval, and its answer in a few words.

Seeds are the sample, and a difference is taken seed by seed. From three pairs on, its interval is Student's over the
pairs. One or two pairs have no interval of their own: theirs comes from the residual spread pooled over the arms of one
net, and is marked "pooled". Equality within a margin is two one-sided t tests at 5%, that is, the 90% interval.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from clr import results
from clr._stats import t_interval
from clr.experiments.catalogue import EXPERIMENTS
from clr.experiments.questions import MARGIN, QUESTIONS, Question, Reading
from clr.experiments.tables import format_interval

__all__ = ["COLUMNS", "findings", "findings_table", "pooled_spread", "unanswered"]

COLUMNS = [
    "key", "question", "verdict", "answer", "what", "value", "low", "high", "low90", "high90", "n", "interval", "unit",
    "dataset", "experiment", "arm", "against", "note", "exploratory",
]  # fmt: skip
SPECS = {"points": "+.1f", "updates": "+,.0f"}


def findings(runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row per question and data set whose two arms share a seed, in the order of `QUESTIONS`.

    Args:
        runs: as `clr.results.read` returns them; None for all of results/.

    Columns:
        key, question, what: of `clr.experiments.questions.Question`.
        verdict: "above", "below", "equal" or "open".  answer: at most five words.
        value: mean over the pairs of first minus second.  low, high: its 95% interval.  low90, high90: its 90% one.
        n: pairs.  interval: "t", "pooled", or "" where there is none.  unit: "points" or "updates".
        dataset, experiment, arm: of the first reading.  against: the second's experiment and arm.
        note: what was known when the question was stated.  exploratory: whether that chose what is compared.
    """
    frame = results.read() if runs is None else runs
    rows = [
        _finding(question, str(dataset), pairs, frame)
        for question in QUESTIONS
        for dataset, pairs in _differences(question, frame).groupby(level="dataset")
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def unanswered() -> list[Question]:
    """Return the questions that no data set has a pair of runs for, n = 0, in the order of `QUESTIONS`."""
    frame = results.read()
    return [question for question in QUESTIONS if _differences(question, frame).empty]


def findings_table(exploratory: bool = False) -> pd.DataFrame:
    """Return the findings to read, or those that are exploratory: question, answer, difference, effect, and where.

    The effect has its 95% interval and n. `where` is the folder of the first arm's runs, below results/.
    """
    found = findings()
    found = found[found["exploratory"].astype(bool) == exploratory]
    notes = [f" ({note})" if note else "" for note in found["note"]]
    return pd.DataFrame({
        "question": found["question"], "answer": found["answer"], "difference": found["what"] + notes,
        "effect (95% interval)": [format_effect(row) for row in found.itertuples()],
        "where": found["dataset"] + "/" + found["experiment"] + "/" + found["arm"],
    })  # fmt: skip


def format_effect(row: Any) -> str:
    """Write a finding's value with unit, 95% interval and n; with its 90% interval where only that says "equal".

    A pooled interval is marked.

    >>> row = pd.Series({"value": 1.64, "low": 1.1, "high": 2.2, "n": 1, "unit": "points", "interval": "pooled"})
    >>> format_effect(row.reindex([*row.index, "verdict"]))
    '+1.6 points (+1.1 to +2.2, pooled, n = 1)'
    """
    spec = SPECS[row.unit]
    text = format_interval(row.value, row.low, row.high, row.n, spec, f" {row.unit}")
    text = text.replace(", n =", ", pooled, n =") if row.interval == "pooled" else text
    only_at_90 = row.verdict == "equal" and not (row.low > -MARGIN and row.high < MARGIN)
    return f"{text[:-1]}; 90%: {row.low90:{spec}} to {row.high90:{spec}})" if only_at_90 else text


def _finding(question: Question, dataset: str, pairs: pd.Series, frame: pd.DataFrame) -> dict[str, Any]:
    """Return a row of `findings`."""
    value, n = float(pairs.mean()), len(pairs)
    sem, df, interval = _standard_error(question, dataset, pairs, frame)
    (low, high), (low90, high90) = (t_interval(value, sem, df + 1, level) for level in (0.95, 0.90))
    margin = MARGIN if question.measure == "points" else 0.0
    verdict = _verdict(question, (low, high), (low90, high90), margin)
    answer = question.answers.get(verdict, "Open")
    if n < results.MIN_RUNS and answer != "Open":
        answer = f"Preliminary: {answer[0].lower()}{answer[1:]}"
    first, second = question.first, question.second
    return {
        "key": question.key, "question": question.text, "what": question.what,
        "note": question.note, "exploratory": question.exploratory,
        "verdict": verdict, "answer": answer,
        "value": value, "low": low, "high": high, "low90": low90, "high90": high90,
        "n": n, "interval": interval, "unit": question.measure,
        "dataset": dataset, "experiment": first.experiment, "arm": first.arm,
        "against": f"{second.experiment}/{second.arm}",
    }  # fmt: skip


def _verdict(question: Question, at95: tuple[float, float], at90: tuple[float, float], margin: float) -> str:
    """Return which of its answers the intervals give a question. NaN ends decide nothing."""
    sign = "above" if at95[0] > 0 else "below" if at95[1] < 0 else ""
    equal = "equal" if -margin < at90[0] and at90[1] < margin else ""
    return ((equal or sign) if question.asks_equality else (sign or equal)) or "open"


def _standard_error(
    question: Question, dataset: str, pairs: pd.Series, frame: pd.DataFrame
) -> tuple[float, int, str]:  # fmt: skip
    """Return the standard error of the mean over pairs, its degrees of freedom, and where it comes from."""
    n = len(pairs)
    if n >= results.MIN_RUNS:
        return float(stats.sem(pairs)), n - 1, "t"
    if question.measure == "points" and len(question.first.at) == 1:
        config = EXPERIMENTS[question.first.experiment].arms[question.first.arm]
        sd, df = pooled_spread(frame, dataset, config.net, config.pixels)
        if df >= MIN_FREEDOM:
            return sd * math.sqrt(2 / n), df, "pooled"
    return math.nan, 0, ""


# Differences, seed by seed.


def _differences(question: Question, frame: pd.DataFrame) -> pd.Series:
    """Return first minus second by (dataset, seed), where both have all their rows."""
    if question.measure == "updates":
        return _updates_earlier(question, frame)
    first, second = (_read(reading, frame) for reading in (question.first, question.second))
    return (100 * (first - second)).dropna()


def _rows(reading: Reading, frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame["experiment"] == reading.experiment) & (frame["arm"] == reading.arm)]


def _read(reading: Reading, frame: pd.DataFrame) -> pd.Series:
    """Return the accuracy by (dataset, seed), of the runs that have all rows."""
    if reading.best_of:
        arms = {arm: _read(replace(reading, arm=arm, best_of=()), frame) for arm in reading.best_of}
        return _best(pd.DataFrame(arms).dropna())
    rows = _rows(reading, frame)
    by_run = rows[rows["iteration"].isin(reading.at)].groupby(["dataset", "seed"])["test_accuracy"]
    return by_run.mean()[by_run.size() == len(reading.at)].astype(float)


def _best(arms: pd.DataFrame) -> pd.Series:
    """Return the column with the highest mean, data set by data set."""
    best = [runs[runs.mean().idxmax()] for _, runs in arms.groupby(level="dataset")]
    return pd.concat(best) if best else arms.iloc[:, 0]


def _updates_earlier(question: Question, frame: pd.DataFrame) -> pd.Series:
    """Return by how many updates the first is earlier at its own accuracy, the mean over its readings.

    The second is read on the same grid, with straight lines between, so that more evaluations give it no more luck.
    """
    first, second, at = _rows(question.first, frame), _rows(question.second, frame), question.first.at
    rivals = dict(list(second.groupby(["dataset", "seed"])))
    leads = {
        run: np.mean([_first_at(rivals[run], a, at[1] - at[0]) for a in rows["test_accuracy"]] - rows["iteration"])
        for run, rows in first[first["iteration"].isin(at)].groupby(["dataset", "seed"])
        if run in rivals and len(rows) == len(at)
    }
    index = pd.MultiIndex.from_tuples(list(leads), names=["dataset", "seed"])
    return pd.Series(list(leads.values()), index, dtype=float)


def _first_at(rows: pd.DataFrame, accuracy: float, every: int) -> float:
    """Return the update at which a run first has an accuracy, at multiples of `every`, its end, and lines between.

    A run that never has it counts with its end, so that the true lead over it is larger.
    """
    last = rows["iteration"].max()
    grid = rows[(rows["iteration"] % every == 0) | (rows["iteration"] == last)].sort_values("iteration")
    updates, values = grid["iteration"].to_numpy(float), grid["test_accuracy"].to_numpy(float)
    if not (values >= accuracy).any():
        return float(last)
    i = int((values >= accuracy).argmax())
    return float(np.interp(accuracy, values[i - 1 : i + 1], updates[i - 1 : i + 1]) if i else updates[0])


# The spread pooled over the arms of one net.

MIN_FREEDOM = 5  # degrees of freedom below which no pooled interval is given


def pooled_spread(frame: pd.DataFrame, dataset: str, net: str, pixels: str) -> tuple[float, int]:
    """Return the residual standard deviation of accuracy, in points, once arm and seed are fitted, and its freedom.

    The arms are those of one net and kind of pixels, each read at the end, or at the end of its last cycle. Range
    tests are left out.
    """
    runs = frame[frame["dataset"] == dataset]
    ends = [
        runs[(runs["experiment"] == name) & (runs["arm"] == arm) & (runs["iteration"] == config.last_cycle_end)]
        for name, experiment in EXPERIMENTS.items()
        for arm, config in experiment.arms.items()
        if name != "range-test" and (config.net, config.pixels) == (net, pixels)
    ]
    cells = pd.concat(ends)
    if cells.empty:
        return math.nan, 0
    factors = pd.DataFrame({"arm": cells["experiment"] + "/" + cells["arm"], "seed": cells["seed"].astype(str)})
    design = pd.get_dummies(factors, dtype=float).to_numpy()
    accuracy = 100 * cells["test_accuracy"].to_numpy(float)
    fitted, _, rank, _ = np.linalg.lstsq(design, accuracy, rcond=None)
    df = len(accuracy) - int(rank)
    residual = accuracy - design @ fitted
    return (math.sqrt(residual @ residual / df), df) if df else (math.nan, 0)
