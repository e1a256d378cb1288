"""One curve of a range test, as it is kept: in memory, as CSV, or as rows of a tidy table."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from clr import _checks

__all__ = ["RangeTest", "as_range_tests", "from_dict", "share_rates", "to_dict"]

COLUMNS = ("iteration", "lr", "metric", "train_loss")  # of a frame; the other columns of a file describe the curve
DESCRIPTION = {
    "spacing", "multipliers", "diverged", "held_out", "bad_data", "metric_name", "examples", "seed", "constant_loss",
    "one_class",
}  # fmt: skip
LOSSES = "losses"  # a column of a file: those since the row before, as text


@dataclass(frozen=True, eq=False)
class RangeTest:
    """One curve of a range test.

    frame: one row per evaluation: iteration (updates made), lr (of the last of them), metric, train_loss (mean over the
        updates since the row before). The first row is the untrained model: iteration 0, lr and train_loss NaN.
    spacing: "linear" or "exponential".  multipliers: of the rate, one per group.
    diverged: whether training had diverged at the last evaluation.
    held_out: whether no batch was both trained on and evaluated on, as far as the loaders show.
    bad_data: whether a batch held numbers that are not finite when the loss was not finite.
    metric_name: "accuracy" or "-loss" if the test chose it.  examples: how many each evaluation looks at; 0 if unknown.
    constant_loss: of outputs that are the mean of the targets; None if unknown, or if this is not a regression.
    one_class: whether an evaluation looks at targets of one class only; False if targets are not plain classes.
    losses: the training loss of every update, before it; empty if unknown.
    """

    frame: pd.DataFrame
    spacing: str = "linear"
    multipliers: tuple[float, ...] = (1.0,)
    diverged: bool = False
    held_out: bool = True
    seed: int | None = None
    bad_data: bool = False
    metric_name: str = "metric"
    examples: int = 0
    losses: tuple[float, ...] = ()
    constant_loss: float | None = None
    one_class: bool = False

    def __repr__(self) -> str:
        lr = self.frame["lr"]
        rates = f"lr={lr.min():.2g} to {lr.max():.2g}, evaluations={lr.notna().sum()}"
        return f"RangeTest({rates}, metric={self.metric_name!r}, seed={self.seed}, diverged={self.diverged})"

    def table(self) -> pd.DataFrame:
        """Return the frame with a column for everything else; `as_range_tests` reads it back."""
        multipliers = " ".join(map(repr, self.multipliers))
        described = {name: getattr(self, name) for name in sorted(DESCRIPTION)} | {"multipliers": multipliers}
        described = {name: value for name, value in described.items() if value is not None}
        if self.losses:
            ends = [0, *self.frame["iteration"]]
            parts = [self.losses[start:end] for start, end in pairwise(ends)]
            described["losses"] = [" ".join(map(repr, part)) for part in parts]
        return self.frame.assign(**described)

    def rates_and_losses(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rates and training losses: one of each per update where they were kept, else one per evaluation.

        A mean loss belongs to the mean of its rates, for exponential spacing the geometric one.

        Raises:
            ValueError: the frame has no column train_loss.
        """
        _checks.columns("frame", self.frame, ("train_loss",))
        rows = self.frame[self.frame["lr"] > 0]
        lr, loss = rows["lr"].to_numpy(float), rows["train_loss"].to_numpy(float)
        if "iteration" not in rows or len(rows) < 2:
            return lr, loss
        to_axis, to_rates = (np.log, np.exp) if self.spacing == "exponential" else (np.asarray, np.asarray)
        x, iterations = to_axis(lr), rows["iteration"].to_numpy(float)
        step = (x[-1] - x[0]) / (iterations[-1] - iterations[0])  # per update
        if self.losses:
            updates = np.arange(1, len(self.losses) + 1)
            return to_rates(x[0] + (updates - iterations[0]) * step), np.array(self.losses)
        return to_rates(x - step * (np.diff(iterations, prepend=0.0) - 1) / 2), loss

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the whole test. `from_csv` reads it back exactly; `suggest_bounds` also takes what pandas reads."""
        self.table().to_csv(_checks.path("path", path), index=False, lineterminator="\n", na_rep="nan")

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> "RangeTest":
        """Read a test that `to_csv` wrote, to the last bit.

        Raises:
            ValueError: the file has no column lr or metric, or holds several curves.
        """
        table = pd.read_csv(_checks.path("path", path), dtype=str, keep_default_na=False)  # older pandas rounds numbers
        _checks.columns(str(path), table, ("lr", "metric"))
        for name in table.columns.intersection(COLUMNS):
            try:
                table[name] = [float(text) for text in table[name]]
            except ValueError as error:
                raise ValueError(f"path must hold numbers in the column {name!r}, got {error} in {path}") from None
        if "iteration" in table:
            table["iteration"] = table["iteration"].astype("int64")
        tests = as_range_tests(table)
        if len(tests) > 1:
            raise ValueError(f"path must hold one curve, got {len(tests)} in {path}")
        return tests[0]

    def plot(self, ax: Any = None, bounds: Any = None) -> Any:
        """Draw the metric against the rate on `ax` (None for new axes), with bounds if given; return the axes."""
        from clr.figures import draw_range_test

        curve = self.frame.dropna(subset="lr").rename(columns={"metric": "mean"})
        return draw_range_test(ax, curve, bounds, self.spacing, metric=self.metric_name)


def share_rates(tests: Sequence[RangeTest]) -> bool:
    """Return whether the curves pass the same rates, as far as each goes."""
    rates = [test.rates_and_losses()[0] for test in tests]
    longest = max(rates, key=len)
    return all(np.allclose(part, longest[: len(part)], rtol=1e-6) for part in rates)


def as_range_tests(tests: Any) -> list[RangeTest]:
    """Return range tests, given one, several or a tidy DataFrame of them.

    Raises:
        TypeError: tests are of another kind.  ValueError: a column is missing, curves cannot be told apart, there is
        no curve, or the curves are not of one net, data set and spacing.
    """
    if isinstance(tests, pd.DataFrame):
        found = _from_table(tests)
    else:
        found = [tests] if isinstance(tests, RangeTest) else tests
        if not isinstance(found, Sequence) or not all(isinstance(test, RangeTest) for test in found):
            raise TypeError(f"tests must be range tests or a DataFrame, got {_checks.brief(tests)}")
    if not found or not all(test.frame["lr"].notna().any() for test in found):
        raise ValueError("tests must hold at least one curve with at least one rate, got none")
    for lr in (test.frame["lr"].dropna() for test in found):
        if not np.isfinite(lr).all() or lr.min() < 0:
            raise ValueError(f"tests must have finite rates >= 0 in the column 'lr', got {lr.min():g} to {lr.max():g}")
    if len(spacings := {test.spacing for test in found}) > 1:
        raise ValueError(f"tests must share one spacing, got {' and '.join(sorted(spacings))}")
    return list(found)


def _from_table(table: pd.DataFrame) -> list[RangeTest]:
    missing = [name for name in ("lr", "metric") if name not in table]
    if missing:
        raise ValueError(f"tests must have the column {missing[0]!r} (rename yours), got {_checks.listed(table)}")
    for name in ("lr", "metric"):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise TypeError(f"tests must hold numbers in the column {name!r}, got {table[name].dtype}")
    for name in table.columns.difference([*COLUMNS, *DESCRIPTION, LOSSES]):
        if not pd.api.types.is_numeric_dtype(table[name]) and table[name].nunique(dropna=False) > 1:
            values = ", ".join(map(str, table[name].unique()[:3]))
            hint = "select the rows of one, or call the column 'seed'"
            raise ValueError(f"tests must be of one net and one data set, got {name} {values}: {hint}")
    parts = [part for _, part in table.groupby("seed", dropna=False)] if "seed" in table else [table]
    if any(part["lr"].dropna().duplicated().any() for part in parts):
        raise ValueError("tests must have one row per rate in each curve: give curves a column 'seed'")
    spacing = _spacing(table["lr"].to_numpy(float))  # of all curves: one that ended early has too few rates
    return [_from_rows(part, spacing) for part in parts]


def _from_rows(rows: pd.DataFrame, spacing: str) -> RangeTest:
    """Return the curve in a table's rows, sorted by rate, with what the other columns say about it."""
    rows = rows.sort_values("lr", kind="stable", na_position="first")  # losses and rates go up together
    first = rows.iloc[0] if len(rows) else {}
    known: dict[str, Any] = {name: first[name] for name in DESCRIPTION if name in rows and len(rows)}
    for name in ("diverged", "held_out", "bad_data", "one_class"):
        if name in known:
            known[name] = str(known[name]) == "True"
    if "multipliers" in known:
        known["multipliers"] = tuple(float(part) for part in str(known["multipliers"]).split())
    if "examples" in known:
        known["examples"] = int(known["examples"])
    if "constant_loss" in known:
        known["constant_loss"] = float(known["constant_loss"])
    if "seed" in known:
        known["seed"] = None if pd.isna(known["seed"]) else int(known["seed"])
    if LOSSES in rows:
        known[LOSSES] = tuple(float(loss) for part in rows[LOSSES] if isinstance(part, str) for loss in part.split())
    frame = rows[[name for name in rows.columns if name in COLUMNS]].reset_index(drop=True)
    return RangeTest(frame, **{"spacing": spacing} | known)


def _spacing(lr: np.ndarray) -> str:
    """Return "linear" if the differences of the rates vary less than their ratios, otherwise "exponential"."""
    lr = np.unique(lr[lr > 0])
    if len(lr) < 3:
        return "linear"
    linear, exponential = (np.std(step) / np.mean(step) for step in (np.diff(lr), np.diff(np.log(lr))))
    return "exponential" if exponential < linear else "linear"


def to_dict(test: RangeTest) -> dict[str, Any]:
    """Return a test as plain values for JSON."""
    values = {name: value for name, value in vars(test).items() if name != "frame"}
    values |= {"multipliers": list(test.multipliers), "losses": list(test.losses)}
    return values | {"frame": test.frame.to_dict("list")}


def from_dict(values: dict[str, Any]) -> RangeTest:
    """Return the test from the values that `to_dict` made of it."""
    frame = pd.DataFrame(values["frame"])
    tuples = {name: tuple(values[name]) for name in ("multipliers", "losses")}
    return RangeTest(**values | {"frame": frame} | tuples)
