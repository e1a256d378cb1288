"""The README's numbers: its sentences and tables, made from results on disk, so that a test can hold it to them.

`write` renews the README's blocks, each between `<!-- name -->` and `<!-- /name -->`.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from clr import paths, results
from clr.experiments.catalogue import EXPERIMENTS, REPORTED_BOUNDS
from clr.experiments.tables import differences, experiment_table, format_accuracy
from clr.range_test.bounds import suggest_bounds
from clr.results import markdown_table

__all__ = ["BLOCKS", "renew", "write"]

ARMS = EXPERIMENTS["headline"].arms
WITHOUT_CYCLES = {
    "linear-32k": "a line from the same highest rate to zero", "fixed-32k": "the same mean rate dropped twice",
}  # fmt: skip


def _headline(dataset: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = results.read(dataset=dataset, experiment="headline")
    return frame[frame["arm"] == "fixed"], frame[frame["arm"] == "triangular"]


def _datasets() -> list[str]:
    return sorted(results.read(experiment="headline")["dataset"].unique())


def claim() -> str:
    """Return the headline's finding, one paragraph a data set."""
    return "\n\n".join(_claim(dataset) for dataset in _datasets()) or "Nothing has been run at full length yet."


def _claim(dataset: str) -> str:
    fixed, triangular = _headline(dataset)
    if triangular.empty:
        return f"On `{dataset}` the triangular arm of the headline has not finished: there is nothing to compare yet."
    end = int(triangular.loc[triangular["iteration"] % _cycle() == 0, "iteration"].max())
    there = next(results.summarise(triangular, end).itertuples())
    text = (
        f"On `{dataset}`, Caffe's quick net under the triangular policy is at **{format_accuracy(there)}** after "
        f"**{end:,}** updates, the end of a cycle (n = {there.n})"
    )
    if fixed.empty:
        return f"{text}. The fixed schedule's 70,000 updates have not finished: there is nothing to compare with yet."
    final = next(results.summarise(fixed).itertuples())
    against = (
        f"under the fixed schedule with its two drops it ends at **{format_accuracy(final)}** after "
        f"**{final.iterations:,}** (n = {final.n})"
    )
    sentences = [f"{text}; {against}.", _paired(triangular, end, fixed), _reached(triangular, final)]
    return " ".join([*sentences, *_without_cycles(dataset, triangular, end)])


def _paired(triangular: pd.DataFrame, end: int, fixed: pd.DataFrame) -> str:
    pair = results.paired_difference(results.rows_at(triangular, end), results.rows_at(fixed))
    points = f"{100 * pair['difference']:+.2f} points"
    if pair["n"] < 2:
        return f"With {pair['n']} pair of seeds the difference, {points}, has no interval."
    return (
        f"Seed by seed the difference is {points} (95 % interval {100 * pair['low']:+.2f} to "
        f"{100 * pair['high']:+.2f}, {pair['n']} pairs)."
    )


def _reached(triangular: pd.DataFrame, final: Any) -> str:
    target, ends = final.accuracy, triangular[triangular["iteration"] % _cycle() == 0]
    reached = results.iterations_to_accuracy(triangular, target, every=_cycle())["iteration"]
    some = reached.dropna().astype(int)
    if some.empty:
        return f"At no end of a cycle has it reached the fixed schedule's mean, {100 * target:.2f} %."
    when, told = f"{some.min():,}", ""
    if len(some) > 1:
        low, high = results.interval(some)
        when = f"{some.min():,} to {some.max():,}"
        told = f" (mean {some.mean():,.0f}, 95 % interval {low:,.0f} to {high:,.0f}, that accuracy taken as exact)"
    below = sum(_falls_again(run, target) for _, run in ends.groupby("seed"))
    again = f"; {below} of them {'is' if below == 1 else 'are'} below it again at a later end" if below else ""
    return (
        f"The ends of its cycles first reach the fixed schedule's mean after {when} updates, in {len(some)} of "
        f"{len(reached)} runs{told}{again}."
    )


def _falls_again(run: pd.DataFrame, target: float) -> bool:
    above = run.sort_values("iteration")["test_accuracy"] >= target
    return bool((above.cummax() & ~above).any())


def _without_cycles(dataset: str, triangular: pd.DataFrame, end: int) -> list[str]:
    controls = results.read(dataset=dataset, experiment="headline-controls")
    words = []
    for arm, what in WITHOUT_CYCLES.items():
        runs = results.rows_at(controls[controls["arm"] == arm], end)
        for row in results.summarise(runs).itertuples():
            pair = results.paired_difference(runs, results.rows_at(triangular, end))
            ends = f" ({100 * pair['low']:+.2f} to {100 * pair['high']:+.2f})" if pair["n"] > 1 else ""
            points = f"{100 * pair['difference']:+.2f} points{ends} against the cycles seed by seed"
            words.append(f"{what} is at **{format_accuracy(row)}**, {points} (n = {pair['n']})")
    return [f"Without cycles, after as many updates, {'; '.join(words)}."] if words else []


def _cycle() -> int:
    return 2 * ARMS["triangular"].policy.step_size  # type: ignore[attr-defined]


def fixed_schedule() -> str:
    """Return Table 1: the fixed schedule of the catalogue, which the tests hold the results to."""
    stages: Any = ARMS["fixed"].policy.stages  # type: ignore[attr-defined]
    ends = [start for start, _ in stages[1:]] + [ARMS["fixed"].iterations]
    rows = [
        {"iterations": f"{start:,} to {end:,}", "learning rate": f"{policy.lr:.5f}".rstrip("0")}
        for (start, policy), end in zip(stages, ends, strict=True)
    ]
    return markdown_table(pd.DataFrame(rows))


def clr_schedule() -> str:
    """Return Table 2: the cyclical schedule, likewise."""
    policy: Any = ARMS["triangular"].policy
    row = {
        "policy": type(policy).__name__, "base_lr": policy.base_lr, "max_lr": policy.max_lr,
        "step size": f"{policy.step_size:,}", "iterations": f"{ARMS['triangular'].iterations:,}",
    }  # fmt: skip
    return markdown_table(pd.DataFrame([row]))


def fixed_against_clr() -> str:
    """Return Table 3: both arms at the ends of cycles and at the end, beside what the earlier port reported."""
    rows = []
    for dataset in _datasets():
        frame = results.read(dataset=dataset, experiment="headline")
        for (arm, iterations), reported in EXPERIMENTS["headline"].reported.items():
            for row in results.summarise(frame[frame["arm"] == arm], iterations).itertuples():
                rows.append([dataset, arm, f"{iterations:,}", format_accuracy(row), row.n, f"{100 * reported:.1f} %"])
    columns = ["data set", "policy", "updates", "accuracy (95 % interval)", "n", "earlier port, `cifar10`, n = 5"]
    return markdown_table(pd.DataFrame(rows, columns=columns))


def paper_table_1() -> str:
    """Return the paper's Table 1, as far as it is of CIFAR-10, with what came out here."""
    return markdown_table(experiment_table("paper-table-1"))


def controls() -> str:
    """Return the arms that the paper left out, and how much each differs from the compressed fixed schedule."""
    note = (
        "`fixed`, `exp` and `exp_range` are not at their end there, and `triangular-25k` is a quarter into a cycle: "
        "the table has the end of its last one, too"
    )
    return _compared("controls", "fixed-25k", 25_000, "paper-table-1", note)


def headline_controls() -> str:
    """Return the headline's controls, and how much each differs from its cycles at the end of the last whole one."""
    note = "`fixed` has not yet dropped its rate there"
    return _compared("headline-controls", "triangular", 32_000, "headline", note)


def _compared(name: str, reference: str, iteration: int, beside: str, note: str) -> str:
    found = differences(reference, iteration, (name, beside))
    lines = [
        f"On `{dataset}`, after {iteration:,} updates, against `{reference}` seed by seed: "
        f"{', '.join(map(_points, part.itertuples()))}. ({note}.)"
        for dataset, part in found.groupby("dataset")
    ]
    return "\n\n".join([markdown_table(experiment_table(name)), *lines])


def _points(row: Any) -> str:
    ends = f"{row.low:+.2f} to {row.high:+.2f}, " if row.n > 1 else ""
    return f"`{row.arm}` {row.points:+.2f} points ({ends}n = {row.n})"


def range_tests() -> str:
    """Return the bounds that the code proposes from the range tests, beside those that others read by eye."""
    frame = results.read(experiment="range-test")
    rows, verdicts = [], []
    for arm, (source, low, high, n) in REPORTED_BOUNDS.items():
        for dataset, curves in frame[frame["arm"] == arm].groupby("dataset"):
            bounds = suggest_bounds(curves.rename(columns={"test_accuracy": "metric"}))
            base, top = _bound(bounds.base_lr, bounds.base_ci), _bound(bounds.max_lr, bounds.max_ci)
            rows.append([arm, f"`{dataset}`", base, top, bounds.n_curves])
            verdicts.append(f"`{arm}` on `{dataset}`: {bounds.verdict}")
        rows.append([arm, f"{source}, by eye", f"{low:g}", f"{high:g}", n])
    columns = ["net and pixels", "", "base_lr (95 % interval)", "max_lr (95 % interval)", "n"]
    return "\n\n".join([markdown_table(pd.DataFrame(rows, columns=columns)), *verdicts])


def _bound(rate: float, interval: tuple[float, float]) -> str:
    if interval == (0, rate):
        return f"at most {rate:.3g}"
    return "cannot be told" if math.isnan(rate) else f"{rate:.3g} ({interval[0]:.3g} to {interval[1]:.3g})"


BLOCKS: dict[str, Callable[[], str]] = {
    "claim": claim,
    "table-1": fixed_schedule,
    "table-2": clr_schedule,
    "table-3": fixed_against_clr,
    "headline-controls": headline_controls,
    "paper-table-1": paper_table_1,
    "controls": controls,
    "range-test": range_tests,
}


def renew(text: str) -> str:
    """Return a README with its blocks made anew from the results."""
    for name, make in BLOCKS.items():
        block = re.search(rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- /{name} -->)", text, re.DOTALL)
        if not block:
            raise ValueError(f"README.md must have a block <!-- {name} --> ... <!-- /{name} -->")
        text = text[: block.start()] + make() + text[block.end() :]
    return text


def write() -> None:
    """Renew README.md."""
    path = paths.home() / "README.md"
    path.write_text(renew(path.read_text()))


if __name__ == "__main__":
    write()
