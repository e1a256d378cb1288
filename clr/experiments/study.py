"""The finished runs that a notebook shows: of one scale and one data set, and of these some seeds and arms."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from clr import _checks, paths, results
from clr.experiments.catalogue import EXPERIMENTS
from clr.experiments.folders import results_folder
from clr.experiments.scales import SCALES, configs
from clr.training import RunConfig

__all__ = ["Study"]


@dataclass(frozen=True)
class Study:
    """Finished runs of one scale and one data set: what every picture and sentence of a notebook is made from.

    scale: "full", "quick" or "tiny".  seeds: how many, from 0 on; None for all.  arms: their keys; None for all.
    dataset: None for the one with the most finished runs; below full scale the first by name, synthetic images last.
    precision: None for the catalogue's; "bfloat16" for the
    runs of `python -m clr run NAME --precision bfloat16`.
    """

    scale: str = "full"
    seeds: int | None = None
    arms: Sequence[str] | None = None
    dataset: str | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        _checks.choice("scale", self.scale, SCALES)
        if self.seeds is not None:
            _checks.positive_int("seeds", self.seeds)
        if self.arms is not None:
            if isinstance(self.arms, str) or not isinstance(self.arms, Sequence):
                raise TypeError(f"arms must be a list, such as ['fixed'], got {_checks.brief(self.arms)}")
            known = {arm for experiment in EXPERIMENTS.values() for arm in experiment.arms}
            if unknown := [arm for arm in self.arms if arm not in known]:
                raise ValueError(f"arms must be the catalogue's, such as 'fixed', got {_checks.brief(unknown[0])}")
        if self.precision is not None:
            _checks.RULES["precision"]("precision", self.precision)

    @cached_property
    def root(self) -> Path:
        """The results folder of this scale: of the data set asked for, or the one there that is not synthetic.

        In a notebook that `pages.execute` runs at this scale it is the folder that `CLR_RESULTS` names.
        """
        given, kind = os.environ.get("CLR_RESULTS"), "-".join(filter(None, (self.scale, self.precision)))
        if given and kind == os.environ.get("CLR_SCALE"):
            return Path(given)
        if kind == "full" and self.dataset != "synthetic":
            return paths.home() / "results"
        if self.dataset is not None:
            return results_folder(self.dataset, self.scale, self.precision)
        found = list(paths.home().glob(f"runs/*-{kind}/results"))
        found.sort(key=lambda path: (path.parent.name.startswith("synthetic"), path.parent.name))
        return found[0] if found else results_folder("synthetic", self.scale, self.precision)

    @cached_property
    def name(self) -> str:
        """The data set's name; "no data set" where nothing has finished."""
        if self.dataset is not None:
            return self.dataset
        counts = {path.name: len(list(path.glob("*/*/seed-*.json"))) for path in self.root.glob("*") if path.is_dir()}
        found = {name: n for name, n in counts.items() if n}
        return max(sorted(found), key=lambda name: found[name]) if found else "no data set"

    def runs(self, *experiments: str) -> pd.DataFrame:
        """Return the runs of some experiments as one frame, as `clr.results.read` does, with their scale."""
        frames = [results.read(self.root, self.name, _checks.choice("name", name, EXPERIMENTS)) for name in experiments]
        found = [frame for frame in frames if len(frame)] or frames[:1]
        frame = pd.concat(found, ignore_index=True).assign(scale=self.scale)
        if self.seeds is not None:
            frame = frame[frame["seed"] < self.seeds]
        return frame if self.arms is None else frame[frame["arm"].isin(self.arms)]

    def ends(self, experiment: str) -> pd.DataFrame:
        """Return each run's row where one would stop: at its end, or at the end of its last whole cycle."""
        runs, known = self.runs(experiment), EXPERIMENTS[experiment].arms
        ends = {arm: self.config(experiment, arm).last_cycle_end for arm in runs["arm"].unique() if arm in known}
        return runs[runs["iteration"] == runs["arm"].map(ends)]

    def config(self, experiment: str, arm: str) -> RunConfig:
        """Return an arm's settings at this scale."""
        return configs(experiment, 1, self.scale, precision=self.precision)[arm, 0]

    @property
    def cycle(self) -> int:
        """Updates in a cycle of the headline's triangular policy, at this scale."""
        return int(self.config("headline", "triangular").policy.cycle_length)  # type: ignore[attr-defined]

    def command(self, experiment: str) -> str:
        """Return the command that trains what is missing of an experiment."""
        scale = "" if self.scale == "full" else f" --scale {self.scale}"
        precision = f" --precision {self.precision}" if self.precision else ""
        return f"python -m clr run {experiment}{scale}{precision}"

    def status(self) -> str:
        """Return what has finished: scale and data set, then a list of the experiments, their questions and runs."""
        done = {}
        for name, experiment in EXPERIMENTS.items():
            n = len(self.runs(name)[["arm", "seed"]].drop_duplicates())
            if n:
                whole = sum(self.arms is None or arm in self.arms for arm, _ in configs(name, self.seeds, self.scale))
                done[name] = f"- `{name}`, {n} of {whole} runs: {experiment.question}"
        what = f"Scale {self.scale}{f', {self.precision}' if self.precision else ''}, data set {self.name}"
        if not done:
            return f"{what}: nothing has finished yet. `{self.command('headline')}` trains."
        filtered = "" if self.arms is None else f", only the arms {', '.join(self.arms)}"
        return "\n".join([f"{what}{filtered}. Finished:\n", *done.values()])
