"""How does the cost of training grow with runs at once, batch size, net and updates? And its memory?

    python benchmarks/cost_growth.py [--device cuda]

Every number is a median of three. The picture is benchmarks/results/cost_growth_<device>.png.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import matplotlib.pyplot as plt
import torch

import clr
from clr import experiments, figures
from clr.training import machine, train
from clr.training.float32 import exact_float32

RESULTS = Path(__file__).parent / "results"
REPEATS = 3
HEADLINE = experiments.EXPERIMENTS["headline"].arms["triangular"]


def run(data: clr.data.Cifar10, device: str, updates: int, **changes: Any) -> tuple[float, float]:
    """Return the updates per second of one run's second half, and the most memory that it held, in bytes."""
    config = dataclasses.replace(HEADLINE, **({"iterations": 2 * updates, "evaluate_every": updates} | changes))
    times: list[float] = []
    train(config, data, device=device, progress=lambda iteration: times.append(time.perf_counter()))
    on_cuda = torch.device(device).type == "cuda"
    memory = torch.cuda.max_memory_reserved() if on_cuda else peak_memory()  # on CUDA with the pools of the graphs
    return updates / (times[2] - times[1]), memory


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS gives bytes, Linux kilobytes


def at_once(data: clr.data.Cifar10, device: str, runs: int, updates: int, **changes: Any) -> tuple[float, float]:
    """Return the updates per second of so many runs together, and the most memory of a process."""
    prefer = "processes" if torch.device(device).type == "cpu" else "threads"
    calls = (joblib.delayed(run)(data, device, updates, **({"test_pictures": 100} | changes)) for _ in range(runs))
    if prefer == "threads":
        torch.cuda.empty_cache()  # otherwise a row shows what a larger one before it left
        torch.cuda.reset_peak_memory_stats()
    with exact_float32():
        found = joblib.Parallel(runs, prefer=prefer, mmap_mode="c")(calls)
    return sum(speed for speed, _ in found), max(memory for _, memory in found)


def median(measure: Callable[[], tuple[float, float]]) -> dict[str, float]:
    speeds, memories = zip(*(measure() for _ in range(REPEATS)), strict=True)
    return {"updates a second": round(statistics.median(speeds), 1), "memory, MB": round(max(memories) / 2**20)}


def evaluations_share(data: clr.data.Cifar10, device: str, updates: int) -> float:
    """Return the share of the time that evaluating on 10,000 images takes at the headline's interval.

    Both are timed separately: so many updates with an evaluation on 100 images, and with one on all.
    """
    few, all_ = (
        statistics.median(updates / run(data, device, updates, test_pictures=pictures)[0] for _ in range(REPEATS))
        for pictures in (100, None)
    )
    return round((all_ - few) / (all_ - few + HEADLINE.evaluate_every * few / updates), 3)


def linear(data: clr.data.Cifar10, device: str, updates: int) -> dict[str, float]:
    """Return the seconds of one, two and four times as many updates, without start and evaluation."""
    return {
        str(times * updates): round(
            statistics.median(
                times * updates / run(data, device, times * updates, test_pictures=100)[0] for _ in range(REPEATS)
            ),
            2,
        )
        for times in (1, 2, 4)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--updates", type=int, default=50, help="per timing; 20 times as many on CUDA")
    options = parser.parse_args()
    device, on_cpu = options.device, torch.device(options.device).type == "cpu"
    updates = options.updates if on_cpu else 20 * options.updates
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    data = clr.synthetic_cifar10(train=50_000, test=10_000)
    table: dict[str, Any] = {"runs at once": {}, "batch size": {}, "net": {}}
    for runs in (1, 2, 4, 8, 16):
        if not on_cpu or runs <= max(2, cores):  # the experiments run one per core
            each = updates if on_cpu else max(100, updates // runs)
            table["runs at once"][runs] = median(lambda n=runs, u=each: at_once(data, device, n, u))
    for size in (25, 50, 100, 200, 400):
        few = max(10, updates * 100 // size)
        table["batch size"][size] = median(lambda s=size, u=few: at_once(data, device, 1, u, batch_size=s))
    for net in ("Cifar10Quick", "Cifar10Full", "Cifar10FullSigmoid", "Cifar10FullSigmoidBN"):
        table["net"][net] = median(lambda n=net: at_once(data, device, 1, updates, net=n))
    table["seconds by updates"] = linear(data, device, updates)
    table["evaluation's share at the headline's interval"] = evaluations_share(data, device, updates)
    kind = torch.device(device).type
    record = {"cores": cores, **machine.provenance(device, 1), **table}
    print(json.dumps(record, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"cost_growth_{kind}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(table, record["device"], RESULTS / f"cost_growth_{kind}.png")


def draw(table: dict[str, Any], machine_name: str, path: Path) -> None:
    figures.style()
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), width_ratios=(1, 1, 1.2))
    for ax, by in zip(axes, ("runs at once", "batch size", "net"), strict=True):
        names, speeds = list(table[by]), [row["updates a second"] for row in table[by].values()]
        if by == "net":
            ax.barh([name.removeprefix("Cifar10") for name in names], speeds)
            ax.invert_yaxis()
            ax.set(xlabel="updates per second, one run", xlim=(0, None))
            continue
        if by == "batch size":
            speeds = [size * speed for size, speed in zip(names, speeds, strict=True)]
        ax.semilogx(names, speeds, "o-", base=2)
        ax.set(
            xlabel=by,
            ylabel="images per second" if by == "batch size" else "updates per second",
            ylim=(0, 1.1 * max(speeds)),
        )
        ax.set_xticks(names, map(str, names))
    figure.suptitle(f"{machine_name}, float32", fontsize=11)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
