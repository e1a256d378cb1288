"""The truth and the regret of `range_test_regret.py`, from the files that it commits. Nothing trains here."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results" / "range_test_regret"
SCHEDULES = ("constant", "triangular", "linear", "one-cycle", "cosine")
BANDWIDTH = 0.15  # decades; the grid's spacing is 0.25, so neighbours weigh a quarter. Halving it changes little


@dataclass(frozen=True)
class Truth:
    """The smooth curve of the gain against the rate, for one task and one schedule.

    places: the grid's rates, as powers of ten.  gains: the mean over seeds of the metric less the untrained one, not
    below zero.  variances: of those means.  seeds: how many.
    """

    places: np.ndarray
    gains: np.ndarray
    variances: np.ndarray
    seeds: int

    def weights(self, place: np.ndarray) -> np.ndarray:
        """Return the weights of the grid's rates at places, which are kept within the grid: (places, rates)."""
        place = np.clip(np.atleast_1d(place), self.places[0], self.places[-1])
        weights = np.exp(-0.5 * ((place[:, None] - self.places) / BANDWIDTH) ** 2)
        return weights / weights.sum(1, keepdims=True)

    @property
    def best(self) -> float:
        """Return the power of ten of the best rate."""
        fine = np.arange(self.places[0], self.places[-1] + 1e-9, 0.01)
        return float(fine[(self.weights(fine) @ self.gains).argmax()])

    def gain(self, place: Any) -> np.ndarray:
        return self.weights(np.asarray(place, float)) @ self.gains

    def regret(self, place: Any) -> np.ndarray:
        """Return the percent of the best rate's gain that is lost at places (powers of ten)."""
        return 100 * (1 - self.gain(place) / self.gain(self.best))

    def error(self, place: float) -> float:
        """Return the standard error of the regret at a place."""
        best = self.gain(self.best)[0]
        difference = self.weights(self.best) - self.weights(place) * (self.gain(self.best) / best)
        return float(100 * np.sqrt((difference**2 @ self.variances)[0]) / best)


def truths(grid: pd.DataFrame) -> dict[tuple[str, str], Truth]:
    """Return the truth by task and schedule from the runs of a grid."""
    found = {}
    for (task, schedule), runs in grid.groupby(["task", "schedule"], sort=False):
        untrained = runs["first"].mean()
        gain = (runs["last"].fillna(-np.inf).clip(lower=untrained) - untrained).rename("gain")
        by_rate = pd.concat([np.log10(runs["rate"]).round(4), gain], axis=1).groupby("rate")["gain"]
        mean, count = by_rate.mean(), by_rate.count()
        variance = by_rate.var().fillna(0) / count
        found[task, schedule] = Truth(mean.index.to_numpy(), mean.to_numpy(), variance.to_numpy(), int(count.max()))
    return found


# Files


def read_json(name: str) -> Any:
    with gzip.open(RESULTS / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def write_json(name: str, value: Any) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(RESULTS / f"{name}.json.gz", "wb", mtime=0) as file:  # the same bytes every time
        file.write(json.dumps(value, separators=(",", ":")).encode())


def read_runs(kind: str) -> pd.DataFrame:
    """Return the trained runs: kind "grid", "tenfold" or "others"."""
    runs = pd.read_csv(RESULTS / "runs.csv.gz")
    return runs[runs["kind"] == kind].reset_index(drop=True)
