"""Training that one can watch: some runs side by side in threads of this process, and their rows as they come."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from clr import _checks
from clr.data import Cifar10
from clr.experiments.speed import in_words, seconds_per_update
from clr.results import COLUMNS
from clr.training import RunConfig, Stopped, run_spec, train

__all__ = ["watch"]


def watch(
    configs: Mapping[str, RunConfig],
    data: Cifar10,
    show: Callable[[pd.DataFrame], None],
    folder: str | os.PathLike[str],
) -> pd.DataFrame:
    """Train some runs side by side, and once per second show the rows so far; return all rows.

    The first line printed says what is trained and about how long it takes here. An interruption ends the runs at
    their next update, as an exception in `show` does. It leaves one checkpoint per run, at most half a minute
    old, from which the next call resumes. Nothing else is written.

    Args:
        configs: by arm.
        show: called with one row per evaluation: dataset, arm, seed, and the columns of a run's CSV. The frame's
            `attrs` say how much time is "left", and how many "updates" the longest run makes.
        folder: where the checkpoints are kept.
    """
    rows: list[dict[str, Any]] = []
    stop, clock = threading.Event(), _Clock(configs)
    folder = _checks.path("folder", folder)
    checkpoints = {arm: folder / f"{arm}-{_digest(config, data)}.checkpoint" for arm, config in configs.items()}

    def one(arm: str, config: RunConfig) -> None:
        where = {"dataset": data.name, "arm": arm, "seed": config.seed}
        train(
            config, data, checkpoint=checkpoints[arm], progress=lambda k: clock.note(arm, k), stop=stop.is_set,
            watch=lambda row: rows.append(where | row),
        )  # fmt: skip

    def frame() -> pd.DataFrame:
        found = pd.DataFrame(list(rows), columns=["dataset", "arm", "seed", *COLUMNS])
        found.attrs |= {"left": clock.left(), "updates": max(config.iterations for config in configs.values())}
        return found

    print(_announcement(configs), flush=True)
    with ThreadPoolExecutor(len(configs)) as pool:
        running = {arm: pool.submit(one, arm, config) for arm, config in configs.items()}
        try:
            while wait(running.values(), timeout=1).not_done:
                if any(run.done() and run.exception() for run in running.values()):
                    stop.set()  # what made it fail is raised once the others have stopped
                show(frame())
        except BaseException as error:
            stop.set()
            if not isinstance(error, KeyboardInterrupt):
                raise
            print(_farewell(running))
    _settle(running, checkpoints)
    show(frame())
    return frame()


def _settle(running: Mapping[str, Future[None]], checkpoints: Mapping[str, Path]) -> None:
    """Raise what made a run fail, and remove the checkpoints once all runs are finished."""
    finished = [run.result() for run in running.values() if not isinstance(run.exception(), Stopped)]
    if len(finished) == len(running):
        for checkpoint in checkpoints.values():
            checkpoint.unlink(missing_ok=True)


def _digest(config: RunConfig, data: Cifar10) -> str:
    """Return a few letters that differ between runs, so that the checkpoint of another run is left alone."""
    return hashlib.sha256(json.dumps(run_spec(config, data), sort_keys=True).encode()).hexdigest()[:8]


def _announcement(configs: Mapping[str, RunConfig]) -> str:
    """Return in one line what will be trained and, from a few timed updates, about how long it takes here."""
    updates = [config.iterations for config in configs.values()]
    side_by_side = min(len(configs), joblib.cpu_count())
    each = seconds_per_update(next(iter(configs.values())))
    seconds = 1.2 * each * max(*updates, sum(updates) / side_by_side)  # evaluations take a sixth
    what = ", ".join(f"{arm} ({config.iterations:,} updates)" for arm, config in configs.items())
    return f"Training {what}: {in_words(seconds)} here."


def _farewell(running: Mapping[str, Any]) -> str:
    kept = [f"{arm} {str(run.exception()).removeprefix('stopped ')}" for arm, run in running.items() if run.exception()]
    return f"Interrupted. Kept: {', '.join(kept) or 'all runs'}. Run the cell again to go on."


class _Clock:
    """The time left until the slowest run is done, from how fast the runs were so far."""

    def __init__(self, configs: Mapping[str, RunConfig]) -> None:
        self._configs = configs
        self._first: dict[str, tuple[float, int]] = {}
        self._last: dict[str, tuple[float, int]] = {}

    def note(self, arm: str, updates: int) -> None:
        """Note that a run has made so many updates by now."""
        now = time.perf_counter(), updates
        self._first.setdefault(arm, now)  # before the last, which `left` looks at in another thread
        self._last[arm] = now

    def left(self) -> str:
        """Return in words how much time is left; nothing before the first evaluations."""
        seconds = {}
        for arm, (now, made) in list(self._last.items()):
            since, before = self._first[arm]
            if todo := self._configs[arm].iterations - made:
                if made > before:
                    seconds[arm] = todo * (now - since) / (made - before)
            else:
                seconds[arm] = 0.0
        if len(seconds) < len(self._configs):
            return ""
        return f"{in_words(max(seconds.values()))} left" if max(seconds.values()) else "done"
