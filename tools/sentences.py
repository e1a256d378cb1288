"""The README's sentences: pictures that are read in words, the findings, what is seen at scale, the finders' regret."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from clr import results
from clr.experiments import pictures, sentences
from clr.experiments.study import Study
from clr.figures import claims
from clr.figures.base import look
from tools import algoperf

__all__ = [
    "at_scale", "cycle_ends_picture", "findings_list", "headline_picture", "paper", "printed_bounds", "regret",
    "regret_claim", "regret_picture", "regret_schedules",
]  # fmt: skip

REGRET = Path(__file__).parents[1] / "benchmarks" / "results" / "range_test_regret" / "regret.json"
AIM = 15  # percent: the highest regret that the benchmark aims at
SHOWN = ("a-quick", "a-full")  # of `clr.experiments.questions`; the answer has others


def headline_picture() -> str:
    """Return the headline's picture, with an alt text that says the finding, and its caption."""
    study = Study()
    runs = pictures.headline_runs(study)
    if runs.empty:
        return "Nothing has been run at full length yet."
    ends = [f"{look(str(arm))[2]} {_end(of, study.cycle)}" for arm, of in runs.groupby("arm")]
    fewest, most = _seeds(runs)
    n = f"n = {fewest}" if fewest == most else f"n = {fewest} to {most}"
    return (
        f"![{claims.headline(runs, study.cycle)}. Test accuracy against updates. Ends: {'; '.join(ends)}]"
        "(images/headline.png)\n\n"
        "*Dots: ends of cycles and runs. Whiskers: "
        f"95% CI ({n}).*"
    )


def _end(runs: pd.DataFrame, cycle: int) -> str:
    """Return an arm's accuracy where one would stop: at its end, or at its last whole cycle's if it has cycles."""
    last = int(runs["iteration"].max())
    last = last // cycle * cycle if runs["arm"].iloc[0] == "triangular" else last
    return f"{100 * results.rows_at(runs, last)['test_accuracy'].mean():.1f}% after {last:,}"


def cycle_ends_picture() -> str:
    """Return the picture of cycle ends against plain schedules, with an alt text that says the finding."""
    study = Study()
    runs = study.runs("headline", "headline-controls")
    if "linear-32k" not in set(runs["arm"]):
        return "No plain schedule has finished yet."
    claim = claims.cycle_ends(runs, study.cycle, ["linear-32k"])
    return f"![{claim}. {sentences.without_cycles(study)}](images/cycle-ends.png)"


def _seeds(runs: pd.DataFrame) -> tuple[int, int]:
    n = runs.groupby("arm")["seed"].nunique()
    return int(n.min()), int(n.max())


def findings_list() -> str:
    """Return one bullet per main question: the answer, and the difference with its interval and n."""
    return sentences.answers(SHOWN, Study()) or "Nothing has been run at full length yet."


def at_scale() -> str:
    """Return what AlgoPerf's logs say of one cycle against two, by half of the budget and by its end."""
    whole = algoperf.sentence(algoperf.read_summary())
    return " ".join(re.split(r"(?<=\.) (?=[A-Z])", whole)[:4:2])


def paper() -> str:
    """Return how far the paper's net ends below the paper's Table 1."""
    return re.split(r"(?<=\.) (?=[A-Z])", sentences.paper(Study()))[0]


def _regrets() -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the regret benchmark's results, and its finders: mean over schedules and the worst case."""
    found = json.loads(REGRET.read_text(encoding="utf-8"))
    by = pd.DataFrame(found["finders"]).groupby("finder", sort=False)
    return found, by.agg(mean=("mean", "mean"), worst=("worst", "max"), schedules=("schedule", "size"))


def _best_other(finders: pd.DataFrame, price: str = "100 updates") -> tuple[str, pd.Series]:
    """Return the finder of others that has the least mean regret at a price: one curve of 100 updates, or five."""
    others = finders[finders.index.str.endswith(f", {price}") & ~finders.index.str.startswith("clr")]
    best = others["mean"].idxmin()
    return str(best).removesuffix(f", {price}").replace("fastai ", "fastai's "), others.loc[best]


def regret_claim() -> str:
    """Return the title of the picture of regret: the means at others' price, ours, and the worst case."""
    _, finders = _regrets()
    name, other = _best_other(finders)
    ours, cheap = finders.loc["clr, five curves"], finders.loc["clr, 100 updates"]
    return (
        f"After 100 updates clr's rates lose {cheap['mean']:.1f}% of the gain on average, those of {name} "
        f"{other['mean']:.1f}%. After 700, clr's lose {ours['mean']:.1f}%, at worst {ours['worst']:.0f}%"
    )


def regret_picture() -> str:
    """Return the picture of regret, with an alt text that says the finding."""
    found, _ = _regrets()
    return f"![{regret_claim()}. {len(found['tasks'])} tasks, five schedules.](images/regret.png)"


def regret() -> str:
    """Return the regret of our rates, of the best other finder, ours at its price, and the worst case."""
    found, finders = _regrets()
    name, other = _best_other(finders)
    name_of_five, of_five = _best_other(finders, "five curves")
    ours, cheap, at_500 = (finders.loc[f"clr, {p}"] for p in ("five curves", "100 updates", "no scouts, 500 updates"))
    rows = pd.DataFrame(found["finders"])
    worst = rows[rows["finder"] == "clr, five curves"].sort_values("worst").iloc[-1]
    missed = "missed" if worst["worst"] > AIM else "met"
    where = f"*{worst['worst task']}*; after 100, {cheap['worst']:.0f}%"
    return (
        f"On average over {len(found['tasks'])} tasks and five schedules, training at the proposed rate loses "
        f"{ours['mean']:.1f}% of what the schedule's best rate gains. That takes 700 updates. After 100, others' "
        f"default, clr loses {cheap['mean']:.1f}% and {name}, the best other finder, {other['mean']:.1f}%; after 500, "
        f"clr {at_500['mean']:.1f}% and {name_of_five} {of_five['mean']:.1f}%. At worst clr loses "
        f"{worst['worst']:.0f}% ({where}): our aim, {AIM}%, is {missed}."
    )


def printed_bounds() -> str:
    """Return what `print(bounds)` printed in the RangeTest notebook."""
    cells = json.loads((REGRET.parents[3] / "notebooks" / "RangeTest.ipynb").read_text(encoding="utf-8"))["cells"]
    cell = next(cell for cell in cells if "clr.find_bounds(" in "".join(cell["source"]) and cell["cell_type"] == "code")
    text = "".join(next(out["text"] for out in cell["outputs"] if out["output_type"] == "stream"))
    return f"```text\n{text.rstrip()}\n```"


def regret_schedules() -> str:
    """Return which schedule loses least at our rates where the end of training is known, and where it is not."""
    found, _ = _regrets()
    lost = pd.DataFrame(found["against the best schedule"]).T
    groups = {"known": ["linear", "one-cycle", "cosine"], "not known": ["triangular", "constant"]}
    known, unknown = (lost.loc[names].sort_values("mean") for names in groups.values())
    best = known.iloc[0]
    clear = "less" if best["low"] > 0 else "less, no clear difference"
    return (
        f"At the proposed rates, on {len(found['tasks'])} tasks judged at the end of training, this share of the best "
        f"schedule's gain is lost (mean, worst task). If the end is known: {_ranked(known)}. "
        f"If it is not: {_ranked(unknown)}. Against a constant rate, {known.index[0]}, the best of three, loses "
        f"{best['saved']:.1f} points {clear} (95% CI {best['low']:.1f} to {best['high']:.1f}, "
        f"n = {len(found['tasks'])} tasks)."
    )


def _ranked(lost: pd.DataFrame) -> str:
    return ", ".join(f"{name} ({row['mean']:.1f}%, {row['worst']:.0f}%)" for name, row in lost.iterrows())
