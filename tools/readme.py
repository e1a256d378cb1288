"""The README's numbers: its sentences and tables, made from the results on disk.

README.md calls these functions between `[[[cog` and `[[[end]]]`, and `make readme` renews what stands there. A test
compares the page with what they return.
"""

import math
from typing import Any

import pandas as pd

from clr import results
from clr.experiments import findings as clr_findings
from clr.experiments import tables
from clr.experiments.catalogue import EXPERIMENTS, REPORTED_BOUNDS
from clr.experiments.tables import format_accuracy, format_interval
from clr.range_test.bounds import format_bound
from tools import algoperf
from tools.answer import answer

__all__ = [
    "answer", "at_scale", "clr_schedule", "controls", "findings", "fixed_against_clr", "fixed_schedule",
    "headline_controls", "paper_table_1", "range_tests",
]  # fmt: skip

ARMS = EXPERIMENTS["headline"].arms


def _markdown(frame: pd.DataFrame) -> str:
    return frame.to_markdown(index=False, disable_numparse=True)


def _datasets() -> list[str]:
    return sorted(results.read(experiment="headline")["dataset"].unique())


# The findings.


def findings(root: str = "results") -> str:
    """Return the findings: question, answer, effect with interval and n, and links to the runs below `root`.

    Exploratory ones have a table of their own, below.
    """
    plain, exploratory = (_with_links(clr_findings.findings_table(which), root) for which in (False, True))
    if exploratory:
        note = "Exploratory, since what to compare was chosen after some of the runs:"
        return f"{plain}\n\n{note}\n\n{exploratory}".lstrip()
    return plain or "No question has an answer yet."


def _with_links(table: pd.DataFrame, root: str) -> str:
    table["where"] = [f"[{where.split('/', 1)[1]}]({root}/{where})" for where in table["where"]]
    return "" if table.empty else _markdown(table)


def at_scale() -> str:
    """Return what AlgoPerf's public logs say of one cycle against two: the finding, then the table."""
    summary = algoperf.read_summary()
    return f"{algoperf.sentence(summary)}\n\n{_markdown(algoperf.table(summary))}"


# The tables.


def fixed_schedule() -> str:
    """Return Table 1: the fixed schedule of the catalogue, which the tests hold the results to."""
    stages: Any = ARMS["fixed"].policy.stages  # type: ignore[attr-defined]
    ends = [start for start, _ in stages[1:]] + [ARMS["fixed"].iterations]
    rows = [
        {"iterations": f"{start:,} to {end:,}", "learning rate": f"{policy.lr:.5f}".rstrip("0")}
        for (start, policy), end in zip(stages, ends, strict=True)
    ]
    return _markdown(pd.DataFrame(rows))


def clr_schedule() -> str:
    """Return Table 2: the cyclical schedule, likewise."""
    policy: Any = ARMS["triangular"].policy
    row = {
        "policy": type(policy).__name__, "base_lr": policy.base_lr, "max_lr": policy.max_lr,
        "step size": f"{policy.step_size:,}", "iterations": f"{ARMS['triangular'].iterations:,}",
    }  # fmt: skip
    return _markdown(pd.DataFrame([row]))


def fixed_against_clr() -> str:
    """Return Table 3: both arms at the ends of cycles and at the end, beside what the earlier port reported."""
    rows = []
    for dataset in _datasets():
        frame = results.read(dataset=dataset, experiment="headline")
        for (arm, iterations), reported in EXPERIMENTS["headline"].reported.items():
            for row in results.summarise(frame[frame["arm"] == arm], iterations).itertuples():
                rows.append([dataset, arm, f"{iterations:,}", format_accuracy(row), f"{100 * reported:.1f}%"])
    columns = ["data set", "policy", "updates", "accuracy (95% interval)", "earlier port, `cifar10`, n = 5"]
    return _markdown(pd.DataFrame(rows, columns=columns))


def paper_table_1() -> str:
    """Return the paper's Table 1, as far as it is of CIFAR-10, with our accuracies."""
    return _markdown(tables.experiment_table("paper-table-1"))


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
    runs = pd.concat([results.read(experiment=of) for of in (name, beside)])
    found = tables.differences(runs, reference, iteration)
    lines = [
        f"On `{dataset}`, after {iteration:,} updates, against `{reference}` seed by seed: "
        f"{', '.join(map(_points, part.itertuples()))}. ({note}.)"
        for dataset, part in found.groupby("dataset")
    ]
    return "\n\n".join([_markdown(tables.experiment_table(name)), *lines])


def _points(row: Any) -> str:
    return f"`{row.arm}` {format_interval(row.points, row.low, row.high, row.n, '+.2f', ' points')}"


def range_tests() -> str:
    """Return the bounds that the code proposes from the range tests, beside those that others read by eye.

    Bounds depend on the test, so each row has the rates that were tested and the images that were looked at.
    """
    rows, verdicts = [], []
    for (arm, dataset), bounds in tables.range_test_bounds().items():
        base, top = (
            "unknown" if math.isnan(lr) else format_bound(lr, ci)
            for lr, ci in ((bounds.base_lr, bounds.base_ci), (bounds.max_lr, bounds.max_ci))
        )
        rows.append([arm, f"`{dataset}`", _test_in_words(arm), base, top, bounds.n_curves])
        verdicts.append(f"`{arm}` on `{dataset}`: {' '.join(bounds.verdict.split())}")
    rows += [
        [arm, f"{source}, by eye", "", f"{low:g}", f"{high:g}", ""]
        for arm, (source, low, high, _) in REPORTED_BOUNDS.items()
    ]
    columns = ["net and pixels", "", "test", "base_lr", "max_lr", "n"]
    table = pd.DataFrame(rows, columns=columns).sort_values("net and pixels", kind="stable", ascending=False)
    limit = "The linear tests stop before training fails, so their max_lr is a lower limit."
    return "\n\n".join([_markdown(table), limit, *verdicts])


def _test_in_words(arm: str) -> str:
    config = EXPERIMENTS["range-test"].arms[arm]
    policy: Any = config.policy
    images = "held-out" if config.hold_out_every else "test"
    rates = f"{policy.start_lr:g} to {policy.end_lr:g}, {policy.spacing}"
    return f"{rates}, {config.iterations:,} updates, {images} images"
