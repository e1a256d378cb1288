"""Training that one can watch: some runs side by side in threads of this process, and their rows as they come."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pandas as pd

from clr.data import Cifar10
from clr.results import COLUMNS
from clr.training import RunConfig, train
from clr.training.run import Stopped

__all__ = ["watch"]


def watch(
    configs: Mapping[str, RunConfig], data: Cifar10, show: Callable[[pd.DataFrame], None], folder: Path
) -> pd.DataFrame:
    """Train some runs side by side, and once per second show the rows so far; return all rows.

    An interruption ends them at their next update. What it leaves is one checkpoint per run, from which the next
    call goes on; nothing else is written.

    Args:
        configs: by arm.
        show: called with one row per evaluation: dataset, arm, seed, and the columns of a run's CSV.
        folder: where the checkpoints are kept.
    """
    rows: list[dict[str, object]] = []
    stop = threading.Event()

    def one(arm: str, config: RunConfig) -> None:
        where = {"dataset": data.name, "arm": arm, "seed": config.seed}
        checkpoint = folder / f"{arm}.checkpoint"
        train(config, data, checkpoint=checkpoint, stop=stop.is_set, watch=lambda row: rows.append(where | row))
        checkpoint.unlink(missing_ok=True)

    def frame() -> pd.DataFrame:
        return pd.DataFrame(list(rows), columns=["dataset", "arm", "seed", *COLUMNS])

    print(f"Training {', '.join(f'{arm} ({config.iterations:,} updates)' for arm, config in configs.items())}")
    with ThreadPoolExecutor(len(configs)) as pool:
        running = [pool.submit(one, arm, config) for arm, config in configs.items()]
        try:
            while wait(running, timeout=1).not_done:
                show(frame())
        except KeyboardInterrupt:
            stop.set()
            print("Interrupted. Run the cell again to go on from here.")
    for run in running:
        if not isinstance(run.exception(), Stopped):
            run.result()
    show(frame())
    return frame()
