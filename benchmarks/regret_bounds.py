"""How good are base_lr and max_lr, and which metric leads to less regret? From the committed curves; nothing trains.

A constant rate of the grid *trains* where every seed makes at least half of the gain that the best rate makes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from regret_judge import HALVES, Curve, regrets
from regret_score import SCHEDULES, Truth

import clr
from clr.range_test import RangeTest

EVERY = 2  # updates between evaluations, as `find_bounds` has it for 100 updates

METRICS = {
    "its own": lambda loss, metric: metric,
    "-loss": lambda loss, metric: -loss,
    "-log(loss)": lambda loss, metric: -np.log(loss),
}


def as_test(curve: Curve, seed: int, metric: str = "its own") -> RangeTest:
    """Return a stored curve as the range test that `find_bounds` would have made of it."""
    read = METRICS[metric]
    _, _, loss, own = curve.before
    kept = np.arange(EVERY - 1, len(curve.lr), EVERY)
    means = np.add.reduceat(curve.train, kept - EVERY + 1)[: len(kept)] / EVERY
    frame = pd.DataFrame(
        {
            "iteration": np.concatenate([[0], kept + 1]),
            "lr": np.concatenate([[np.nan], curve.lr[kept]]),
            "metric": np.concatenate([[read(loss, own)], read(curve.few_loss, curve.few_metric)[kept]]),
            "train_loss": np.concatenate([[np.nan], means]),
        }
    )
    return RangeTest(frame, "exponential", seed=seed, diverged=len(curve.lr) < 100, losses=tuple(curve.train))


def picks(curves: Mapping[int, Curve], metric: str = "its own") -> list[list[RangeTest]]:
    """Return the two fives of tests that share no curve."""
    return [[as_test(curves[seed], seed, metric) for seed in half if seed in curves] for half in HALVES]


def quality(curves: Mapping[str, Any], grid: pd.DataFrame) -> pd.DataFrame:
    """Return by task: the largest rate that trains, both bounds of five curves, and how far single curves scatter.

    The bounds are those of the first five; sd is over ten single curves, in decades.
    """
    rows = {}
    for task, protocols in curves.items():
        fives = [clr.suggest_bounds(five) for five in picks(protocols["close"])]
        ones = [clr.suggest_bounds(as_test(curve, seed)) for seed, curve in protocols["close"].items()]
        trains = largest_that_trains(grid[(grid["task"] == task) & (grid["schedule"] == "constant")])
        row: dict[str, Any] = {"trains": trains}
        for name in ("base_lr", "max_lr"):
            one, five = ([getattr(found, name) for found in bounds] for bounds in (ones, fives))
            row |= {name: five[0], f"second {name}": five[1], f"{name} sd": scatter(one)}
        row |= {"within 2, one": within(ones, trains), "within 2, five": within(fives, trains)}
        rows[task] = row
    return pd.DataFrame(rows).T


def largest_that_trains(runs: pd.DataFrame) -> float:
    """Return the largest constant rate at which every seed makes half of the gain; infinity if it is the grid's end."""
    untrained = runs["first"].mean()
    gains = (runs["last"].fillna(-np.inf) - untrained).groupby(runs["rate"]).agg(["mean", "min"])
    trains = gains["min"] >= 0.5 * gains["mean"].max()
    largest = float(gains.index[trains].max())
    return largest if largest < gains.index.max() else float("inf")


def scatter(rates: list[float]) -> float:
    told = np.log10([rate for rate in rates if np.isfinite(rate)])
    return float(np.std(told, ddof=1)) if len(told) > 1 else float("nan")


def within(found: list[Any], trains: float) -> float:
    """Return the percent of max_lr within a factor of two of the truth; what is unknown is not."""
    if not np.isfinite(trains):
        return float("nan")
    return 100 * float(np.mean([trains / 2 <= bounds.max_lr <= 2 * trains for bounds in found]))


# Which metric, where none is given


def metrics(curves: Mapping[str, Any], truth: Mapping[tuple[str, str], Truth]) -> dict[str, pd.DataFrame]:
    """Return the regret of a rate at a factor below the max_lr of each metric; the other tasks choose the factor.

    A task whose max_lr is unknown loses all of the gain.
    """
    found = {}
    for metric in METRICS:
        places = {
            task: [float(np.log10(clr.suggest_bounds(five).max_lr)) for five in picks(protocols["close"], metric)]
            for task, protocols in curves.items()
        }
        found[metric] = regrets(left_out(places, truth), truth)
    return found


def left_out(places: Mapping[str, list[float]], truth: Mapping[tuple[str, str], Truth]) -> pd.DataFrame:
    rows = []
    for task, told in places.items():
        others = {other: place for other, place in places.items() if other != task and np.isfinite(place).any()}
        for schedule in SCHEDULES:
            offset = np.mean([truth[other, schedule].best - np.nanmean(place) for other, place in others.items()])
            rows += [(task, schedule, k, place + offset) for k, place in enumerate(told)]
    return pd.DataFrame(rows, columns=["task", "schedule", "pick", "place"])
