"""The README's sentences: pictures that are read in words, the findings, what is seen at scale, the finders' regret."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from clr import results
from clr.experiments import findings, pictures, sentences, tables
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
AGAINST_LINE = {
    "above": "**cycles finish above a line to zero**",
    "below": "**cycles finish below a line to zero**",
    "equal": "**cycles equal a line to zero within one point**",
    "open": "it is open whether cycles finish above a line to zero",
}
AGAINST_FIXED = {
    "above": "**cycles beat the best of three fixed rates**",
    "below": "**the best of three fixed rates beats cycles**",
    "equal": "**cycles equal the best of three fixed rates within one point**",
    "open": "it is open whether cycles beat the best of three fixed rates",
}
WITH_DROPS = {  # rivals of cycles with drops, and their questions of `clr.experiments.questions` by net
    "a line to zero": {"quick": "a-quick", "full": "a-full"},
    "a constant rate with drops": {"quick": "a-quick-decay", "full": "a-full-decay"},
}
EQUALS = {
    "above": "**finish above {rival}**",
    "below": "**finish below {rival}**",
    "equal": "**equal {rival} within one point**",
    "open": "show no clear difference from {rival}",
}


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
        f"*Dots: ends of cycles and runs. Whiskers: 95% CI ({n}).{_within_a_cycle(runs, study)}*"
    )


def _within_a_cycle(runs: pd.DataFrame, study: Study) -> str:
    """Return where the cycles' runs end, in mid-cycle, which the picture leaves out."""
    config = study.config("headline", "triangular")
    rows = results.rows_at(runs[runs["arm"] == "triangular"], config.iterations)
    if rows.empty or config.last_cycle_end == config.iterations:
        return ""
    return f" In mid-cycle, at {config.iterations:,}: {100 * rows['test_accuracy'].mean():.1f}%."


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
    """Return what cycles with drops equal, and how cycles end on the residual net, each with its interval and n."""
    shown = [_drops_bullet(), _residual_bullet()]
    return "\n".join(filter(None, shown)) or "Nothing has been run at full length yet."


def _drops_bullet() -> str:
    """Return how cycles that drop the rate at the end compare with plain schedules; "" before these have run."""
    found, said = findings.findings().set_index("key"), []
    for rival, keys in WITH_DROPS.items():
        rows = {net: found.loc[key] for net, key in keys.items() if key in found.index}
        verdicts = {row["verdict"] for row in rows.values()}
        words = EQUALS[verdicts.pop()] if len(verdicts) == 1 else "differ from {rival} by net"
        effects = ", ".join(f"{net} net {findings.format_effect(row)}" for net, row in rows.items())
        said += [f"{words.format(rival=rival)}: {effects}"] if rows else []
    return f"- With drops of the rate at the end, cycles {'. They '.join(said)}." if said else ""


def _residual_bullet() -> str:
    """Return how cycles end on the residual net against a line and against fixed rates; "" before these have run."""
    study = Study()
    found = findings.findings(study.runs("resnet")).set_index("key")
    if not {"h-linear", "g"} <= set(found.index):
        return ""
    line, fixed = found.loc["h-linear"], found.loc["g"]
    return (
        "- On a small residual net, at rates that the range test proposed, "
        f"{_words(AGAINST_LINE, line)}: {findings.format_effect(line)}. At the paper's rates and with drops "
        f"{_words(AGAINST_FIXED, fixed)}: {findings.format_effect(fixed)}."
    )


def _words(by_verdict: dict[str, str], row: pd.Series) -> str:
    return by_verdict[row["verdict"]] if row["n"] >= results.MIN_RUNS else "too few runs so far"


def at_scale() -> str:
    """Return what AlgoPerf's logs say of one cycle against two, by half of the budget and by its end."""
    summary = algoperf.read_summary()
    by_half, _, by_end, *_ = algoperf.sentences(summary)
    half, end = (
        f"{gain:+.1f}% ({low:+.1f}% to {high:+.1f}%, n = {n})"
        for gain, low, high, n in algoperf.without_variants(summary)
    )
    return f"{by_half} {by_end} Without variants of a workload: {half} and {end}."


def paper() -> str:
    """Return how far the paper's net ends below the paper's Table 1."""
    return f"{claims.paper(tables.beside_reported('paper-table-1', Study().runs('paper-table-1')))}."


def _regrets() -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the regret benchmark's results, and its finders: mean over schedules and the worst case."""
    found = json.loads(REGRET.read_text(encoding="utf-8"))
    by = pd.DataFrame(found["finders"]).groupby("finder", sort=False)
    columns = {"mean": ("mean", "mean"), "median": ("median", "median"), "worst": ("worst", "max")}
    return found, by.agg(**columns, schedules=("schedule", "size"))


def _best_other(finders: pd.DataFrame) -> tuple[str, pd.Series]:
    """Return the finder of others that has the least mean regret from one curve of 100 updates."""
    others = finders[finders.index.str.endswith(", 100 updates") & ~finders.index.str.startswith("clr")]
    best = others["mean"].idxmin()
    return str(best).removesuffix(", 100 updates").replace("fastai ", "fastai's "), others.loc[best]


def regret_claim() -> str:
    """Return the title of the picture of regret: the means at our price, at others', and the best other's."""
    _, finders = _regrets()
    name, other = _best_other(finders)
    ours, cheap = finders.loc["clr, five curves"], finders.loc["clr, 100 updates"]
    return (
        f"On average clr's rates lose {ours['mean']:.1f}% of the gain ({cheap['mean']:.1f}% if found in 100 updates), "
        f"those of {name} {other['mean']:.1f}%"
    )


def regret_picture() -> str:
    """Return the picture of regret, with an alt text that says the finding."""
    found, _ = _regrets()
    return f"![{regret_claim()}. {len(found['tasks'])} tasks, five schedules.](images/regret.png)"


def regret() -> str:
    """Return the regret of our rates, of the best other finder, ours at its price, and the worst case."""
    found, finders = _regrets()
    name, other = _best_other(finders)
    ours, cheap = (finders.loc[f"clr, {price}"] for price in ("five curves", "100 updates"))
    missed = "missed" if ours["worst"] > AIM else "met"
    return (
        f"On average over {len(found['tasks'])} tasks and five schedules, training at the proposed rate loses "
        f"{ours['mean']:.1f}% of what the schedule's best rate gains (median {ours['median']:.1f}%). Finding it takes "
        f"700 updates. Found in 100, clr's rates lose {cheap['mean']:.1f}% and those of {name}, the "
        f"best other finder, {other['mean']:.1f}%. "
        f"At worst clr's lose {_worst('clr, five curves')}; found in 100, {_worst('clr, 100 updates')}. "
        f"The aim, at most {AIM}%, is {missed}."
    )


def _worst(finder: str) -> str:
    """Return a finder's highest regret, and on which task."""
    rows = pd.DataFrame(_regrets()[0]["finders"])
    row = rows[rows["finder"] == finder].sort_values("worst").iloc[-1]
    return f"{row['worst']:.0f}% (*{row['worst task']}*)"


def printed_bounds() -> str:
    """Return what `print(bounds)` printed in the RangeTest notebook."""
    cells = json.loads((REGRET.parents[3] / "notebooks" / "RangeTest.ipynb").read_text(encoding="utf-8"))["cells"]
    cell = next(cell for cell in cells if "clr.find_bounds(" in "".join(cell["source"]) and cell["cell_type"] == "code")
    text = "".join(next(out["text"] for out in cell["outputs"] if out["output_type"] == "stream"))
    return f"```text\n{text.rstrip()}\n```"


def regret_schedules() -> str:
    """Return a table of what each schedule loses at our rates, and how much better it is than a constant rate."""
    found, _ = _regrets()
    lost, n = pd.DataFrame(found["against the best schedule"]).T.sort_values("mean"), len(found["tasks"])
    sure = [str(name) for name, row in lost.iterrows() if row["low"] > 0]
    saved = lost.apply(
        lambda row: f"{row['saved']:+.1f} points (95% CI {row['low']:+.1f} to {row['high']:+.1f})", axis=1
    )
    saved["constant"] = ""
    columns = {
        "loses, on average": lost["mean"].map("{:.1f}%".format),
        "on the worst task": lost["worst"].map("{:.0f}%".format),
    }
    table = pd.DataFrame({"schedule": lost.index} | columns | {"better than constant by": saved})
    return (
        f"On {n} tasks: what each schedule, at the proposed rate, loses of the best schedule's gain at its best rate. "
        f"Clearly better than a constant rate: {' and '.join(sure) or 'none'}. The examples use what lost least.\n\n"
        f"{table.to_markdown(index=False, disable_numparse=True)}"
    )
