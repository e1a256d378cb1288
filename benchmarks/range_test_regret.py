"""How much of the gain is lost by training at the rate that a finder proposes? Ours, others, and anyone's.

    CLR_DATA=<CIFAR-10> python benchmarks/range_test_regret.py collect   # two core-hours; once per core, goes on
    python benchmarks/range_test_regret.py pack                          # what was collected, as committed files
    python benchmarks/range_test_regret.py report                        # the tables, regret.json and images/regret.png
    python benchmarks/range_test_regret.py choices                       # the same with other constants in the rule
    python benchmarks/range_test_regret.py bounds                        # how good base_lr and max_lr are
    python benchmarks/range_test_regret.py --finder package.module:function    # judges yours, without any training

The regret of a rate is the percent of the best rate's gain that is lost by training with it: the gain is the held-out
metric at the end less the untrained one, and the best rate is that of the same task and schedule. The truth is a grid
of peak rates, four per decade, trained with five schedules and up to three seeds, and smoothed (`regret_score.py`).
A finder is a function of two arrays, the rates and the training losses of one range test of 100 updates from 1e-7 to 10
(the loss is that of the batch before its update; a test ends where it is not finite). It returns a rate, or a dict with
one per schedule. `--protocol close` gives it tests that look closely at the useful decades. Needs scikit-learn to
collect, and the peers: torch-lr-finder, lightning, pytorch-ignite, prodigyopt, schedulefree.
"""

import argparse
import fcntl
import importlib
import json
import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from regret_judge import (
    HALVES,
    PEERS,
    against_best_schedule,
    as_records,
    asked,
    draw,
    read_curves,
    regrets,
    suggested,
    table,
    valley,
)
from regret_judge import without_finder as no_finder
from regret_score import RESULTS, SCHEDULES, Truth, read_runs, truths

from clr.range_test.peak import landmark, read_landmark

ROOT = Path(__file__).parents[1]
WORK, IMAGES = ROOT / "runs" / "range_test_regret", ROOT / "images"
sys.path.insert(0, str(ROOT))  # for tools
HELD = 0.95  # of the best rates of the other tasks, by the interval: leaves some room above 90%

Landmarks = dict[str, list[float]]  # powers of ten by task, one per pick of curves
Truths = Mapping[tuple[str, str], Truth]


# Collecting


def collect_all() -> None:
    """Do every piece of work that is neither finished nor in the hands of another process."""
    from regret_collect import collect, jobs

    WORK.mkdir(parents=True, exist_ok=True)
    for k, job in enumerate(jobs()):
        with (WORK / f".lock-{k}").open("w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            collect(WORK, *job)
            print(k + 1, "of", len(jobs()), *job, flush=True)


def pack_all() -> None:
    from regret_collect import pack

    pack(WORK)


# Our rule, with its constants chosen on the other tasks


READS = {
    "its logarithm": lambda curve: curve.train,
    "training loss": lambda curve: curve.train,
    "held-out loss": lambda curve: curve.few_loss,
    "held-out metric": lambda curve: -curve.few_metric,
}


def landmarks(
    curves: Mapping[str, Any], protocol: str, five: bool, read: str = "its logarithm", **constants: float
) -> Landmarks:
    """Return the rule's landmarks of every task: of two fives of curves, or of every curve alone."""
    found = {}
    for task, protocols in curves.items():
        tests = {seed: (c.lr, READS[read](c)) for seed, c in protocols.get(protocol, {}).items()}
        picks = [[tests[s] for s in half if s in tests] for half in HALVES] if five else [[t] for t in tests.values()]
        reader = read_landmark if read == "its logarithm" else landmark
        found[task] = [float(np.log10(reader(pick, **constants))) for pick in picks if pick]
    return {task: places for task, places in found.items() if places}


def offsets_of(places: Landmarks, truth: Truths) -> dict[str, float]:
    """Return decades from the landmark to the peak rate, by schedule: the mean over tasks of those to the best rate.

    There are two, one for a constant rate and one for the schedules that come down.
    """
    found: dict[str, float] = {}
    for group in (SCHEDULES[:1], SCHEDULES[1:]):
        means = [np.nanmean([truth[task, s].best - place for s in group for place in places[task]])
                 for task in places if np.isfinite(places[task]).any()]  # fmt: skip
        found |= dict.fromkeys(group, float(np.mean(means)))
    return found


def left_out(places: Landmarks, truth: Truths) -> pd.DataFrame:
    """Return the rule's rates, every task's with the factors and the interval that the other tasks choose.

    held: whether the best rate of the task and schedule lies in the interval.  half: decades from the rate to its ends.
    """
    rows = []
    for task in places:
        others = {other: told for other, told in places.items() if other != task}
        offsets = offsets_of(others, truth)
        half = float(np.nanquantile(np.abs(misses(others, offsets, truth)), HELD))
        for schedule in SCHEDULES:
            for k, place in enumerate(places[task]):
                peak = place + offsets[schedule]
                held = abs(truth[task, schedule].best - peak) <= half
                rows.append((task, schedule, k, peak, held, half))
    return pd.DataFrame(rows, columns=["task", "schedule", "pick", "place", "held", "half"])


def misses(places: Landmarks, offsets: Mapping[str, float], truth: Truths) -> list[float]:
    """Return the decades from the rule's rates to the best ones."""
    return [truth[t, s].best - place - offsets[s] for t, told in places.items() for s in SCHEDULES for place in told]


def constants(places: Landmarks, truth: Truths) -> dict[str, float]:
    """Return the factors that all tasks together choose, and the interval's."""
    offsets = offsets_of(places, truth)
    interval = float(10 ** np.nanquantile(np.abs(misses(places, offsets, truth)), HELD))
    return {schedule: float(10**-offset) for schedule, offset in offsets.items()} | {"interval": interval}


# The report


def everything(curves: Mapping[str, Any], truth: Truths) -> dict[str, pd.DataFrame]:
    """Return the judged rates of all finders by name."""
    found = {}
    for name, protocol, five in (
        ("clr, five curves", "close", True), ("clr, one curve", "close", False), ("clr, 100 updates", "wide", False),
        ("clr, no scouts, 500 updates", "wide", True), ("clr, no scouts, 1000 updates", "long", True),
    ):  # fmt: skip
        found[name] = regrets(left_out(landmarks(curves, protocol, five), truth), truth)
    found["fastai valley, 100 updates"] = regrets(asked(valley, curves, False), truth)
    found["fastai valley, five curves"] = regrets(asked(valley, curves, True), truth)
    for peer in PEERS:
        found[f"{peer}, 100 updates"] = regrets(suggested(peer, False), truth)
        found[f"{peer}, five curves"] = regrets(suggested(peer, True), truth)
    for method in ("Prodigy", "AdamW", "Schedule-Free"):
        found[f"no finder: {method}"] = no_finder(method, truth)
    return {name: judged for name, judged in found.items() if len(judged)}


def known(grid: pd.DataFrame, curves: Mapping[str, Any]) -> Truths:
    """Return the truths of the tasks that have curves, from the seeds whose grids are complete."""
    sizes = grid.groupby(["task", "seed"])["rate"].transform("size")
    whole = grid[sizes == sizes.groupby(grid["task"]).transform("max")]
    whole = whole[
        whole["task"].isin(curves) & (whole.groupby("task")["schedule"].transform("nunique") == len(SCHEDULES))
    ]
    return truths(whole)


def tenfold(curves: Mapping[str, Any], places: Landmarks, truth: Truths) -> pd.DataFrame:
    """Return the regret of the rule at the usual length and at ten times as many updates, and both best rates."""
    long = truths(read_runs("tenfold"))
    rows = []
    for task in dict.fromkeys(task for task, _ in long):
        peaks = left_out(places, truth)
        for schedule in SCHEDULES:
            place = peaks.query("task == @task and schedule == @schedule")["place"].to_numpy()
            short, ten = truth[task, schedule], long[task, schedule]
            rows.append(
                (task, schedule, short.regret(place).mean(), ten.regret(place).mean(), 10**short.best, 10**ten.best)
            )
    return pd.DataFrame(rows, columns=["task", "schedule", "regret", "regret, tenfold", "best lr", "best lr, tenfold"])


def report() -> None:
    """Print all tables; write regret.json and images/regret.png."""
    curves = read_curves()
    grid = read_runs("grid")
    truth = known(grid, curves)
    curves = {task: curves[task] for task, _ in truth}
    found = everything(curves, truth)
    ours = [name for name in found if name.startswith("clr")]
    places = landmarks(curves, "close", True)
    ten = tenfold(curves, places, truth)
    cover = {name: (found[name].groupby("schedule")["held"].mean() * 100).round(0).to_dict() for name in ours}
    errors = pd.Series(
        {task: np.mean([truth[task, s].error(truth[task, s].best - 0.3) for s in SCHEDULES]) for task in curves}
    )
    seeds = pd.Series({task: int(truth[task, "constant"].seeds) for task in curves})
    by_task = found[ours[0]].pivot_table("regret", "task", "schedule", sort=False)[list(SCHEDULES)]
    print(f"{len(curves)} tasks\n\nmean / worst\n", table(found).to_markdown(), sep="")
    print("\nmedian / share under 5%\n", table(found, "{median:.1f} / {under 5%:.0f}%").to_markdown(), sep="")
    print(
        "\nregret by task, five curves\n",
        by_task.round(1).assign(se=errors.round(1), seeds=seeds).to_markdown(),
        sep="",
    )
    print("\nten times the updates\n", ten.round(3).to_markdown(index=False), sep="")
    print("\nbest rates inside peak_ci, %:", json.dumps(cover))
    print("\nconstants chosen on all tasks:", {k: round(v, 2) for k, v in constants(places, truth).items()})
    results = {
        "tasks": list(curves), "finders": as_records(found), "coverage": cover, "constants": constants(places, truth),
        "by task": by_task.round(2).to_dict("index"), "standard error": errors.round(2).to_dict(),
        "against the best schedule": against_best_schedule(found[ours[0]], truth),
        "seeds": seeds.to_dict(), "tenfold": ten.round(5).to_dict("records"),
    }  # fmt: skip
    (RESULTS / "regret.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    picture(found)


def choices() -> None:
    """Print the regret of the rule with other constants and other things read, five curves."""
    curves = read_curves()
    truth = known(read_runs("grid"), curves)
    curves = {task: curves[task] for task, _ in truth}
    variants: dict[str, dict[str, Any]] = {"as it is": {}} | {read: {"read": read} for read in list(READS)[1:]}
    variants |= {f"lost {value:g}": {"lost": value} for value in (0.3, 0.4, 0.6, 0.7)}
    variants |= {f"width {value:g}": {"width": value} for value in (0.05, 0.15, 0.2)}
    found = {
        name: regrets(left_out(landmarks(curves, "close", True, **options), truth), truth)
        for name, options in variants.items()
    }
    print(table(found).to_markdown())


def bounds() -> None:
    """Print how good base_lr and max_lr are, and which metric's max_lr leads to less regret; write bounds.json."""
    import regret_bounds

    curves = read_curves()
    grid = read_runs("grid")
    truth = known(grid, curves)
    curves = {task: curves[task] for task, _ in truth}
    quality = regret_bounds.quality(curves, grid)
    metrics = regret_bounds.metrics(curves, truth)
    print(quality.to_markdown(floatfmt=".2g"), "\n\n", table(metrics).to_markdown(), sep="")
    written = {"bounds": json.loads(quality.to_json(orient="index")), "metrics": as_records(metrics)}
    (RESULTS / "bounds.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


PICTURED = {  # on the README's picture, in its words
    "clr, five curves": "clr, 700 updates", "clr, 100 updates": "clr, 100 updates",
    "fastai valley, 100 updates": "fastai's valley, 100",
    "torch-lr-finder, 100 updates": "torch-lr-finder, 100", "Lightning, 100 updates": "Lightning, 100",
    "ignite, 100 updates": "ignite, 100", "no finder: Prodigy": "no finder: Prodigy",
    "no finder: AdamW": "no finder: AdamW .001",
}  # fmt: skip


def picture(found: Mapping[str, pd.DataFrame]) -> None:
    """Draw the finders that have a rate for all schedules; the title is what a README's sentence says."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from clr import figures
    from tools.sentences import regret_claim

    figures.style()
    shown = {words: found[name] for name, words in PICTURED.items() if name in found}
    figure, ax = pyplot.subplots(figsize=(8, 5.2))
    draw(ax, shown, [words for words in shown if words.startswith("clr")]).grid(axis="y", visible=False)
    figure.suptitle(textwrap.fill(regret_claim(), 60), x=0.01, y=1.02, ha="left", weight="bold", fontsize=14)
    figure.savefig(IMAGES / "regret.png", bbox_inches="tight")


def judge(name: str, protocol: str) -> None:
    """Judge someone's finder beside ours."""
    sys.path.insert(0, os.getcwd())
    module, _, function = name.partition(":")
    finder = getattr(importlib.import_module(module), function)
    curves = read_curves()
    truth = known(read_runs("grid"), curves)
    curves = {task: curves[task] for task, _ in truth}
    found = {
        f"{name}, one curve": regrets(asked(finder, curves, False, protocol), truth),
        f"{name}, five curves": regrets(asked(finder, curves, True, protocol), truth),
        "clr, 100 updates": regrets(left_out(landmarks(curves, "wide", False), truth), truth),
        "clr, five curves": regrets(left_out(landmarks(curves, "close", True), truth), truth),
    }
    print("regret in percent of the gain, mean / worst\n", table(found).to_markdown(), sep="")
    print("\nmedian / share under 5%\n", table(found, "{median:.1f} / {under 5%:.0f}%").to_markdown(), sep="")
    print("\n", json.dumps(as_records(found)), sep="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["collect", "pack", "report", "choices", "bounds"], default="report")
    parser.add_argument("--finder", metavar="package.module:function", help="judge it, without training")
    parser.add_argument("--protocol", choices=["wide", "close"], default="wide", help="the tests it is given")
    arguments = parser.parse_args()
    if arguments.finder:
        judge(arguments.finder, arguments.protocol)
    else:
        commands = {"collect": collect_all, "pack": pack_all, "report": report, "choices": choices, "bounds": bounds}
        commands[arguments.what]()
