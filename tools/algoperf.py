"""One cycle or two, at scale: a study of MLCommons' public AlgoPerf logs.

The AlgoPerf v0.5 submission "Cyclic LR" ran NadamW with cycles of linear warm-up and cosine decay to about zero. Two of
its five settings differ only in `cycles`, 1 against 2. Both have the same budget, so two cycles come down once at half
of it and once more at its end. There are 14 workloads and five studies, so 70 pairs of runs.

    git clone https://github.com/mlcommons/submissions_algorithms
    git -C submissions_algorithms checkout 12c8e4ea
    python -m tools.algoperf submissions_algorithms

writes `results/algoperf/cyclic_lr_summary.csv`, one row per run, and prints the table and the finding. Everything else
here reads that file. Six traps, each handled where it is named:

1. The budget is the length that a run's schedule had. `read_logs` takes it from the run's own metadata. The benchmark's
   scoring constants are also called `step_hint`, and differ in 12 of the 14 workloads.
2. A run stops soon after it reaches its target, so its best value is only a lower limit: `outcomes`.
3. The two runs of a pair share a study, not a random seed: `effects`.
4. Some metrics are better when lower: `LOWER`, `outcomes`.
5. Time limits end some runs a few percent early: `summarise`.
6. Six of the workloads are variants of six others, so 14 are not 14 independent tests: `sentence`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from scipy import stats

from clr import results

__all__ = ["draw", "effects", "main", "outcomes", "read_logs", "read_summary", "sentence", "summarise", "table",
           "without_variants"]  # fmt: skip

LOGS = "previous_leaderboards/algoperf_v05/logs/external_tuning/cyclic_lr"
SUMMARY = Path(__file__).parents[1] / "results" / "algoperf" / "cyclic_lr_summary.csv"
LOWER = {"loss", "wer"}
HIGHER = {"accuracy", "bleu", "mean_average_precision", "ssim"}
BUDGETS = {"half": 0.51, "end": 1.02}  # the clock sets the evaluations, so none lies exactly at half or at the end
LABELS = {
    "criteo1tb": "Criteo 1TB, DLRM", "criteo1tb_embed_init": "Criteo 1TB, other init",
    "fastmri": "fastMRI, U-Net", "fastmri_tanh": "fastMRI, tanh",
    "imagenet_resnet": "ImageNet, ResNet-50", "imagenet_resnet_large_bn_init": "ImageNet, other BN init",
    "imagenet_vit": "ImageNet, ViT", "librispeech_conformer": "LibriSpeech, Conformer",
    "librispeech_conformer_layernorm": "LibriSpeech, layer norm", "librispeech_deepspeech": "LibriSpeech, DeepSpeech",
    "ogbg": "OGBG, graph net", "ogbg_model_size": "OGBG, other size",
    "wmt": "WMT, Transformer", "wmt_glu_tanh": "WMT, GLU and tanh",
}  # fmt: skip
VARIANTS = [  # of six of the other workloads: same data, another net or start
    "criteo1tb_embed_init", "fastmri_tanh", "imagenet_resnet_large_bn_init", "librispeech_conformer_layernorm",
    "ogbg_model_size", "wmt_glu_tanh",
]  # fmt: skip
RUN = ["workload", "study", "cycles"]


def read_logs(clone: str | Path) -> pd.DataFrame:
    """Return every validation of the runs that differ only in `cycles`, from a clone of the public repository.

    A pair is found by its settings, not by its trial's number: two trials that agree in every setting except `cycles`.
    `step_hint` and `target` come from each run's metadata. `step_hint` is the length of its schedule, and the file
    `scoring/workload_targets_v05.json` has other lengths under the same name (fastMRI: 18,094, where the schedule took
    36,189). Half of those is not where the first cycle ends.

    Raises:
        FileNotFoundError: the clone does not hold the logs.
        ValueError: a workload has no such pair, or its runs have different budgets or targets.
    """
    root = Path(clone) / LOGS
    folders = sorted(path for path in root.glob("study_*/*") if path.is_dir())
    if not folders:
        raise FileNotFoundError(f"clone must hold study_*/ in {LOGS}, got {str(clone)!r}")
    logs = pd.concat([_read_run(trial) for folder in folders for trial in _pair(folder)], ignore_index=True)
    constants = logs.groupby("workload")[["step_hint", "target", "metric"]].nunique().max(axis=1)
    if constants.max() > 1:
        raise ValueError(f"a workload must have one step_hint, target and metric, got several of {constants.idxmax()}")
    return logs


def _pair(folder: Path) -> list[Path]:
    """Return the two trials that differ only in `cycles`: first one cycle, then two."""
    groups: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob("trial_*/hparams.json")):
        settings = json.loads(path.read_text(encoding="utf-8"))
        cycles = settings.pop("cycles")
        groups.setdefault(json.dumps(settings, sort_keys=True), {})[cycles] = path.parent
    pairs = [trials for trials in groups.values() if set(trials) == {1, 2}]
    if len(pairs) != 1:
        raise ValueError(f"{folder.parent.name}/{folder.name} must have one pair of 1 and 2 cycles, got {len(pairs)}")
    return [pairs[0][1], pairs[0][2]]


def _read_run(trial: Path) -> pd.DataFrame:
    metadata = json.loads((trial / "meta_data_0.json").read_text(encoding="utf-8"))
    metric = metadata["workload.target_metric_name"]
    evaluations = pd.read_csv(trial / "eval_measurements.csv")
    return pd.DataFrame({
        "workload": trial.parent.name.removesuffix("_pytorch"), "study": int(trial.parents[1].name.split("_")[1]),
        "cycles": json.loads((trial / "hparams.json").read_text(encoding="utf-8"))["cycles"], "metric": metric,
        "step_hint": metadata["workload.step_hint"], "target": metadata["workload.validation_target_value"],
        "rng_seed": metadata["rng_seed"], "step": evaluations["global_step"],
        "value": evaluations[f"validation/{metric}"],
    })  # fmt: skip


def summarise(logs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run: its best validation by half and by the end of its budget, and when it met its target.

    "By half" includes evaluations to 51% of `step_hint`, and "by the end" those to 102%. `last_step` tells how far the
    run went. Time limits ended some from 90% on, when the rate was low but not yet zero. ResNet-50 ran on to 159%,
    at a rate of about zero. The file keeps six decimals.

    Raises:
        ValueError: a metric whose better direction is unknown, or a run without a validation in the first half.
    """
    unknown = sorted(set(logs["metric"]) - LOWER - HIGHER)
    if unknown:
        raise ValueError(f"metric must be one of {', '.join(sorted(LOWER | HIGHER))}, got {', '.join(unknown)}")
    rows = [_summarise_run(run.dropna(subset="value").sort_values("step")) for _, run in logs.groupby(RUN)]
    frame = pd.DataFrame(rows).sort_values(RUN, ignore_index=True)
    return frame.astype({"first_step_at_target": "Int64"}).round(6)


def _summarise_run(run: pd.DataFrame) -> dict[str, Any]:
    first = run.iloc[0]
    lower, hint, target = first["metric"] in LOWER, first["step_hint"], first["target"]
    half, end = (run.loc[run["step"] <= share * hint, "value"] for share in BUDGETS.values())
    if half.empty:
        names = ", ".join(f"{name} {first[name]}" for name in RUN)
        raise ValueError(f"a run must have a validation in its first half, got none in {names}")
    best = "min" if lower else "max"
    at_target = run.loc[(run["value"] <= target) if lower else (run["value"] >= target), "step"]
    return {
        "workload": first["workload"], "metric": first["metric"], "better": "lower" if lower else "higher",
        "step_hint": hint, "target": target, "study": first["study"], "cycles": first["cycles"],
        "rng_seed": first["rng_seed"], "evaluations": len(run), "best_by_half": half.agg(best),
        "best_by_step_hint": end.agg(best), "last_by_step_hint": end.iloc[-1], "last_step": run["step"].iloc[-1],
        "first_step_at_target": at_target.iloc[0] if len(at_target) else None,
    }  # fmt: skip


def read_summary(path: str | Path = SUMMARY) -> pd.DataFrame:
    """Return the summary on disk, as `summarise` makes it."""
    return pd.read_csv(path).astype({"first_step_at_target": "Int64"})


def _split(summary: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the runs with one cycle and those with two, row by row of the same workload and study."""
    runs = pd.crosstab([summary["workload"], summary["study"]], summary["cycles"]).reindex(columns=[1, 2], fill_value=0)
    unmatched = (runs != 1).any(axis=1)
    if unmatched.any():
        workload, study = unmatched.idxmax()
        raise ValueError(f"a study must have one run with 1 cycle and one with 2, got others in {workload}, {study}")
    return [summary[summary["cycles"] == n].set_index(["workload", "study"]).sort_index() for n in (1, 2)]


def outcomes(summary: pd.DataFrame) -> pd.DataFrame:
    """Return one row per pair of runs: who is ahead, 1 for two cycles, -1 for one cycle, missing if undecided.

    A run stops soon after it reaches its target, so its best value is a lower limit of what it could do. That leaves a
    pair decided when one run has reached the target by then and the other has not, and when neither has. A pair is
    undecided when both have. To drop every pair in which a run stopped would keep only the workloads that are too hard.

    Columns `half` and `end` say who is ahead by then. `alone` says which run alone reaches the target, and `first`
    which gets there first, where both do. `half_gain` and `end_gain` are how far two cycles are ahead, in percent of
    the target value. Where one run had stopped, the true gap is larger.
    """
    one, two = _split(summary)
    target, sign = one["target"], one["better"].map({"higher": 1, "lower": -1})
    frame = pd.DataFrame(index=one.index)
    for name, column in (("half", "best_by_half"), ("end", "best_by_step_hint")):
        undecided = (sign * (one[column] - target) >= 0) & (sign * (two[column] - target) >= 0)
        frame[f"{name}_gain"] = (sign * (two[column] - one[column]) / target * 100).mask(undecided)
        frame[name] = np.sign(frame[f"{name}_gain"])
    times = [run["first_step_at_target"].astype(float) for run in (one, two)]
    alone = times[1].notna().astype(int) - times[0].notna().astype(int)
    frame["alone"], frame["first"] = alone.where(alone != 0), np.sign(times[0] - times[1])
    return frame.reset_index()


def effects(summary: pd.DataFrame) -> pd.DataFrame:
    """Return per workload, by half and by the end, how far two cycles are ahead, in percent of the target value.

    `gain` is the mean over the decided pairs, `n` their number, `low` and `high` its 95% t interval from n = 3 on. The
    runs of a pair share a study but not a seed, so pairing removes no noise. The interval holds all the same.
    """
    rows = []
    for workload, pairs in outcomes(summary).groupby("workload"):
        for name in BUDGETS:
            gains = pairs[f"{name}_gain"].dropna()
            low, high = results.interval(gains) if len(gains) >= results.MIN_RUNS else (np.nan, np.nan)
            rows.append((workload, name, gains.mean(), low, high, len(gains)))
    return pd.DataFrame(rows, columns=["workload", "by", "gain", "low", "high", "n"])


def table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return pairs per workload, and in all: who is ahead by half and by the end, and who reaches the target.

    A pair counts as "both at target" where best values no longer decide it: see `outcomes`.
    """
    frame = outcomes(summary)
    columns = {"workload": frame["workload"], "pairs": 1}
    for name, label in (("half", "by half"), ("end", "by the end")):
        columns[f"{label}: two cycles ahead"] = (frame[name] == 1).astype(int)
        columns[f"{label}: one cycle ahead"] = (frame[name] == -1).astype(int)
        columns[f"{label}: both at target"] = frame[name].isna().astype(int)
    columns["target: both reach it"] = frame["first"].notna().astype(int)
    columns["target: two cycles first"] = (frame["first"] == 1).astype(int)
    columns["target: one cycle alone"] = (frame["alone"] == -1).astype(int)
    columns["target: two cycles alone"] = (frame["alone"] == 1).astype(int)
    counts = pd.DataFrame(columns).groupby("workload").sum()
    counts.loc["all"] = counts.sum()
    return counts.reset_index()


def _verdict(low: float, high: float, names: tuple[str, str, str]) -> str:
    return names[0] if low > 0 else names[1] if high < 0 else names[2]


def _median(gains: pd.DataFrame, by: str) -> tuple[float, float, float, int]:
    """Return the median gain over workloads, its exact 95% interval, and the number of workloads."""
    values = gains.loc[gains["by"] == by, "gain"].dropna()
    interval = stats.quantile_test(values, p=0.5).confidence_interval()
    return float(values.median()), float(interval.low), float(interval.high), len(values)


def _percent(gains: pd.DataFrame, by: str) -> str:
    median, low, high, n = _median(gains, by)
    return f"{median:+.1f}% of the target value (median, 95% CI {low:+.1f}% to {high:+.1f}%, n = {n} workloads)"


def _majority(frame: pd.DataFrame, column: str) -> str:
    """Return how many workloads two cycles win by a majority of pairs, with the exact 95% interval; ties drop out."""
    wins = frame.groupby("workload")[column].sum(min_count=1).replace(0, np.nan).dropna()
    k, n = int((wins > 0).sum()), len(wins)
    if n == 0:
        return "no workload decides"
    low, high = stats.binomtest(k, n).proportion_ci()
    words = _verdict(low - 0.5, high - 0.5, ("two cycles more often", "one cycle more often", "no clear difference"))
    return f"{words}: two cycles lead on {k} of {n} workloads, 95% CI {low:.0%} to {high:.0%}"


def sentence(summary: pd.DataFrame) -> str:
    """Return what the table shows, in the words of `sentences`."""
    return " ".join(sentences(summary))


def sentences(summary: pd.DataFrame) -> list[str]:
    """Return what the table shows, with n and 95% intervals over workloads; the words follow the intervals.

    The last sentence leaves out the variants, which are not independent of the workloads that they vary.
    """
    frame, gains, parts = outcomes(summary), effects(summary), []
    for name, label in (
        ("half", "By half of the budget, where only the rate of two cycles has come down"),
        ("end", "By the end"),
    ):
        words = _verdict(*_median(gains, name)[1:3], ("ahead of one", "behind one", "not clearly apart from one"))
        parts += [
            f"{label}, two cycles are {words}: {_percent(gains, name)}.",
            f"They are ahead in {(frame[name] == 1).sum()} of {frame[name].count()} decided pairs.",
        ]
    alone, first = frame["alone"], frame["first"]
    parts += [
        f"In {alone.count()} of {len(frame)} pairs only one run reaches the target.",
        f"It has one cycle in {(alone == -1).sum()} of them ({_majority(frame, 'alone')}).",
        f"Both reach it in {first.count()} pairs.",
        f"Two cycles are first in {(first == 1).sum()} of them ({_majority(frame, 'first')}).",
    ]
    others = _no_variants(gains)
    parts.append(f"Without the variants, by half: {_percent(others, 'half')}; by the end: {_percent(others, 'end')}.")
    return parts


def _no_variants(gains: pd.DataFrame) -> pd.DataFrame:
    return gains[~gains["workload"].isin(VARIANTS)]


def without_variants(summary: pd.DataFrame) -> list[tuple[float, float, float, int]]:
    """Return the median gain of two cycles, its 95% interval and n, by half of the budget and by its end."""
    gains = _no_variants(effects(summary))
    return [_median(gains, by) for by in ("half", "end")]


def draw(ax: Axes, summary: pd.DataFrame) -> Axes:
    """Draw per workload how far two cycles are ahead by half of the budget (circle) and by its end (diamond).

    A marker is hollow where the 95% interval over studies includes zero, or fewer than three pairs are decided. The
    side says who is ahead. The axis is linear between -0.3% and 0.3%, logarithmic beyond. The title is the finding of
    `sentence`.
    """
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib axes, got {ax!r}")
    gains = effects(summary)
    by = {name: rows.set_index("workload") for name, rows in gains.groupby("by")}
    order = by["half"]["gain"].sort_values(ascending=False, na_position="last").index
    for y, workload in enumerate(order):
        _draw_row(ax, y, by["half"].loc[workload], by["end"].loc[workload])
    _label(ax, by["half"].loc[order[0], "gain"], by["end"].loc[order[0], "gain"])
    ax.set(yticks=range(len(order)), yticklabels=[LABELS.get(name, name) for name in order])
    ax.set(ylim=(len(order) - 0.4, -2.2))
    words = [
        _verdict(*_median(gains, name)[1:3], ("two cycles lead", "one cycle leads", "neither leads clearly"))
        for name in BUDGETS
    ]
    ax.set_title(f"By half of the budget {words[0]},\nby its end {words[1]}", loc="left", weight="bold")
    return ax


def _draw_row(ax: Axes, y: int, half: pd.Series, end: pd.Series) -> None:
    palette = sns.color_palette("colorblind")
    ax.plot([half["gain"], end["gain"]], [y, y], color="0.85", linewidth=3, zorder=1)
    for row, marker, name, colour in ((half, "o", "half", palette[1]), (end, "D", "the end", palette[4])):
        if row["n"] == 0:
            side, align = (0.12, "left") if name == "half" else (-0.12, "right")
            ax.text(side, y, f"both at target by {name}", ha=align, va="center", fontsize=9.5, color="0.35")
            continue
        face = colour if row["low"] > 0 or row["high"] < 0 else "white"
        ax.plot(row["gain"], y, marker, color=colour, markerfacecolor=face, markersize=8, mew=2, zorder=3)


def _label(ax: Axes, half: float, end: float) -> None:
    """Label the axis, its two sides, and the first row's two markers."""
    ticks = {-10: "-10%", -1: "-1%", 0: "0", 1: "+1%", 10: "+10%"}
    ax.set_xscale("symlog", linthresh=0.3)
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.set(
        xlim=(-100, 100),
        xlabel="lead of two cycles, % of the target value, symmetric log scale\nhollow: 95% CI includes 0, or n < 3",
    )
    ax.grid(False, axis="y")
    ax.axvline(0, color="0.2", linewidth=1)
    ax.text(-0.12, -1.6, "← one cycle ahead", ha="right", va="center", weight="bold")
    ax.text(0.12, -1.6, "two cycles ahead →", ha="left", va="center", weight="bold")
    for x, text in ((half, "by half"), (end, "by the end")):
        if np.isfinite(x):
            ax.text(x, -0.4, text, ha="center", va="bottom")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the summary of a clone's logs, and print the table and the finding."""
    parser = argparse.ArgumentParser(prog="python -m tools.algoperf", description="One cycle or two, at scale.")
    parser.add_argument("clone", type=Path, help="a clone of github.com/mlcommons/submissions_algorithms")
    parser.add_argument("--out", type=Path, default=SUMMARY, help="the CSV to write")
    args = parser.parse_args(arguments)
    summary = summarise(read_logs(args.clone))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    summary.to_csv(args.out, index=False, lineterminator="\n")
    print(table(summary).to_string(index=False), sentence(summary), sep="\n\n")


if __name__ == "__main__":
    main()
