"""Finders, judged: from stored curves to rates, from rates to regret, and from regret to tables and a picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from regret_score import SCHEDULES, Truth, read_json, read_runs

from clr._stats import t_interval

HALVES = (range(0, 5), range(5, 10))  # the seeds of the two fives that share no curve
PEERS = ("torch-lr-finder", "Lightning", "ignite")
Finder = Callable[[np.ndarray, np.ndarray], Any]  # rates and losses of one curve -> a rate, or one per schedule


@dataclass(frozen=True)
class Curve:
    """One stored range test. Losses and metrics are held-out ones after each update, but for `train`, before it.

    few_loss, few_metric: from three training batches' worth of examples.  before: loss, metric, few_loss and few_metric
    of the untrained model.
    """

    lr: np.ndarray
    train: np.ndarray
    loss: np.ndarray
    metric: np.ndarray
    few_loss: np.ndarray
    few_metric: np.ndarray
    before: tuple[float, float, float, float]


def read_curves() -> dict[str, dict[str, dict[int, Curve]]]:
    """Return the curves by task, protocol and seed."""
    found: dict[str, dict[str, dict[int, Curve]]] = {}
    for task, items in read_json("curves").items():
        for key, item in items.items():
            protocol, seed = key.split(" ")
            rows = np.array(item["rows"])
            lr = 10 ** (item["start"] + item["step"] * np.arange(len(rows)))
            curve = Curve(lr, *rows.T, before=tuple(item["before"]))
            found.setdefault(task, {}).setdefault(protocol, {})[int(seed)] = curve
    return found


# From finders to rates: (task, schedule, pick, power of ten), one row each


def asked(finder: Finder, curves: Mapping[str, Any], five: bool, protocol: str = "wide") -> pd.DataFrame:
    """Ask a finder about every curve; of five curves the geometric mean counts."""
    rows = []
    for task, protocols in curves.items():
        told = {seed: _by_schedule(finder(c.lr, c.train)) for seed, c in protocols[protocol].items()}
        picks = HALVES if five else [[seed] for seed in told]
        for k, pick in enumerate(picks):
            for schedule in SCHEDULES:
                places = [told[seed][schedule] for seed in pick if seed in told]
                if places:
                    rows.append((task, schedule, k, float(np.nanmean(places)) if np.isfinite(places).any() else np.nan))
    return pd.DataFrame(rows, columns=["task", "schedule", "pick", "place"])


def _by_schedule(found: Any) -> dict[str, float]:
    found = found if isinstance(found, Mapping) else dict.fromkeys(SCHEDULES, found)
    with np.errstate(divide="ignore"):
        places = {schedule: float(np.log10(float(found[schedule]))) for schedule in SCHEDULES}
    return {schedule: place if np.isfinite(place) else np.nan for schedule, place in places.items()}


def suggested(peer: str, five: bool) -> pd.DataFrame:
    """Return what an installed peer suggested: each time, or the geometric mean of five."""
    rows = []
    for task, items in read_json("peers").items():
        told = {int(k.split(" ")[1]): v["lr"] for k, v in items.items() if k.rsplit(" ", 1)[0] == peer}
        places = {seed: np.log10(lr) if lr else np.nan for seed, lr in told.items()}
        picks = [[seed for seed in half if seed in places] for half in HALVES] if five else [[seed] for seed in places]
        for k, pick in enumerate(pick for pick in picks if pick):
            some = [places[seed] for seed in pick if np.isfinite(places[seed])]
            rows += [(task, schedule, k, float(np.mean(some)) if some else np.nan) for schedule in SCHEDULES]
    return pd.DataFrame(rows, columns=["task", "schedule", "pick", "place"])


# From rates to regret


def regrets(places: pd.DataFrame, truths: Mapping[tuple[str, str], Truth]) -> pd.DataFrame:
    """Add the regret of every rate. A finder that proposes none loses all of the gain."""
    judged = [(row.task, row.schedule) in truths for row in places.itertuples()]
    places = places[judged].reset_index(drop=True)
    lost = [
        100.0 if np.isnan(row.place) else float(truths[row.task, row.schedule].regret(row.place)[0])
        for row in places.itertuples()
    ]
    return places.assign(regret=lost)


def without_finder(method: str, truths: Mapping[tuple[str, str], Truth]) -> pd.DataFrame:
    """Return the regret of a method that needs no finder, against the best rate of the task's own optimizer.

    It is negative where that optimizer is worse at every rate.
    """
    runs = read_runs("others")
    runs = runs[runs["method"] == method]
    rows = []
    for (task, schedule), part in runs.groupby(["task", "schedule"], sort=False):
        if (task, schedule) in truths:
            truth, untrained = truths[task, schedule], part["first"].mean()
            gain = (part["last"].fillna(-np.inf).clip(lower=untrained) - untrained).mean()
            rows.append((task, schedule, 0, np.nan, 100 * float(1 - gain / truth.gain(truth.best)[0])))
    return pd.DataFrame(rows, columns=["task", "schedule", "pick", "place", "regret"])


def against_best_schedule(judged: pd.DataFrame, truths: Mapping[tuple[str, str], Truth]) -> dict[str, dict[str, float]]:
    """Return by schedule the percent of gain lost to the best schedule at its best rate: mean and worst of the tasks.

    saved: how much less than with a constant rate, in points, with its 95% interval over the tasks. Regret is against
    the same schedule at its best rate, so regrets of two schedules do not say which is better.
    """
    most = {task: max(float(truths[task, s].gain(truths[task, s].best)[0]) for s in SCHEDULES) for task, _ in truths}
    gains = [float(truths[row.task, row.schedule].gain(row.place)[0]) / most[row.task] for row in judged.itertuples()]
    lost = judged.assign(lost=100 * (1 - np.array(gains))).groupby(["schedule", "task"])["lost"].mean()
    by_task = lost.unstack("schedule")
    saved = -by_task.sub(by_task["constant"], axis=0)
    rows = {"mean": by_task.mean(), "worst": by_task.max(), "saved": saved.mean()}
    low, high = t_interval(saved.mean(), saved.std() / np.sqrt(len(saved)), len(saved))
    return pd.DataFrame(rows | {"low": low, "high": high}).round(2).loc[list(SCHEDULES)].to_dict("index")


# From regret to tables


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """Return mean (of the tasks' means) with its standard error, median, worst and share under 5%, by schedule."""
    rows = {}
    for schedule in SCHEDULES:
        part = judged[judged["schedule"] == schedule]
        if len(part):
            tasks = part.groupby("task")["regret"].mean()
            rows[schedule] = {
                "mean": tasks.mean(), "sem": tasks.std() / np.sqrt(len(tasks)), "median": part["regret"].median(),
                "worst": part["regret"].max(), "worst task": part.loc[part["regret"].idxmax(), "task"],
                "under 5%": 100 * (part["regret"] < 5).mean(),
            }  # fmt: skip
    return pd.DataFrame(rows).T


def table(finders: Mapping[str, pd.DataFrame], cells: str = "{mean:.1f} / {worst:.0f}") -> pd.DataFrame:
    """Return one row per finder and one column per schedule, and the mean over the columns."""
    rows = {}
    for name, judged in finders.items():
        found = summary(judged)
        row = {schedule: cells.format(**found.loc[schedule]) for schedule in found.index}
        if "{mean" in cells and len(found) == len(SCHEDULES):
            row["mean of columns"] = f"{found['mean'].mean():.1f}"
        rows[name] = row
    frame = pd.DataFrame(rows).T
    return frame[[name for name in (*SCHEDULES, "mean of columns") if name in frame]].fillna("")


def as_records(finders: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return the summaries as records for JSON."""
    records = []
    for name, judged in finders.items():
        for schedule, row in summary(judged).iterrows():
            numbers = {key: round(value, 2) if key != "worst task" else value for key, value in row.items()}
            records.append({"finder": name, "schedule": schedule} | numbers)
    return records


def draw(ax: Any, finders: Mapping[str, pd.DataFrame], ours: Sequence[str] = ()) -> Any:
    """Draw the mean regret of every finder as a bar, and on every task as a dot; return the axes.

    The rows are sorted by mean regret, least on top. A dot is the mean over schedules. Triangles are the task on which
    the first of `ours` loses most. The columns on the right are the mean and the worst case.
    """
    found = {name: summary(judged) for name, judged in finders.items()}
    names = sorted(found, key=lambda name: -found[name]["mean"].mean())
    hardest = worst_case(finders[ours[0]])["task"] if ours else None
    for place, name in enumerate(names):
        tasks = finders[name].groupby("task")["regret"].mean().clip(lower=0)
        colour, mean = "#3d94c6" if name in ours else "0.8", found[name]["mean"].mean()
        ax.barh(place, mean, height=0.72, color=colour, zorder=2)
        others = tasks.drop(hardest, errors="ignore")
        ax.plot(others, [place] * len(others), "o", ms=5, mfc="none", mec="0.2", mew=0.9, zorder=3)
        if hardest in tasks:
            ax.plot(tasks[hardest], place, "^", ms=8, color="0.1", zorder=4)
        for x, number in ((109, mean), (121, found[name]["worst"].max())):
            ax.text(x, place, f"{number:.{1 if x < 115 else 0}f}", ha="right", va="center", weight="bold")
    for x, word in ((109, "mean"), (121, "worst")):
        ax.text(x, len(names) - 0.35, word, ha="right", va="bottom", color="0.3")
    ax.set(xlim=(-1.5, 101), ylim=(-0.6, len(names) - 0.4), yticks=range(len(names)), yticklabels=names)
    for label in ax.get_yticklabels():
        label.set_weight("bold" if label.get_text() in ours else "normal")
    hard = f", triangle: {hardest}" if hardest else ""
    ax.set_xlabel(
        "regret, % of the gain lost\n"
        f"bar: mean over tasks and schedules; dot: a task{hard}, mean over schedules\n"
        "worst: one task, one schedule, one range test"
    )
    return ax


def worst_case(judged: pd.DataFrame) -> pd.Series:
    """Return the row of the highest regret: its task, schedule and regret."""
    return judged.loc[judged["regret"].idxmax()]


# fastai's rule, from its formula: it does not install beside this project's packages


def smoothed(losses: np.ndarray, beta: float = 0.98) -> np.ndarray:
    """Return fastai's smoothed loss: an exponential average without its bias towards zero."""
    mean, out = 0.0, []
    for k, loss in enumerate(losses):
        mean = beta * mean + (1 - beta) * loss
        out.append(mean / (1 - beta ** (k + 1)))
    return np.array(out)


def valley(rates: np.ndarray, losses: np.ndarray) -> float:
    """Return what fastai's `lr_find` suggests from the training losses of one curve of 100 updates, 1e-7 to 10.

    It stops at four times the least smoothed loss, leaves out the first tenth and the last five updates, and takes the
    place half way, in its integers, into the longest decreasing subsequence.
    """
    losses = smoothed(losses)
    bad = np.flatnonzero(losses > 4 * np.minimum.accumulate(losses))
    end = (bad[0] + 1 if len(bad) else len(losses)) - 5
    rates, losses = rates[len(rates) // 10 : end], losses[len(rates) // 10 : end]
    length, first, last = np.ones(len(losses), int), 0, 0
    for i in range(1, len(losses)):
        for j in range(i):
            if losses[i] < losses[j] and length[i] < length[j] + 1:
                length[i] = length[j] + 1
            if length[last] < length[i]:
                last, first = i, i - length[i]
    section = (last - first) / 3
    return float(rates[first + int(section) + int(section / 2)])
