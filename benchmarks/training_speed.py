"""How fast do the experiments train? Compared with the usual loop, and with the net's convolutions alone.

    python benchmarks/training_speed.py [--device cuda] [--repeats 5]

The usual loop is one run in one process: a DataLoader with two workers that normalises images one by one, as
torchvision does, torch.optim.SGD, torch's CyclicLR, the same net in torch's layout, torch's number of threads. Ours is
`clr.training.train`: one run alone, and one run per core (ten in threads on CUDA), in float32 and, where the device is
fast in it, in bfloat16. No time includes the start. The floor is what oneDNN takes for the convolutions of an update
alone, forward and backward on the same shapes, one process per core. All take turns; the table has medians and ranges.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import core_time
import joblib
import torch
from core_time import init

import clr
from clr import experiments
from clr.training import machine, train
from clr.training.float32 import exact_float32

RESULTS = Path(__file__).parent / "results"


def in_float32(measure: Callable[..., float], *arguments: Any) -> float:
    """Measure without TF32, as ours is measured. torch uses TF32 for convolutions by default."""
    with exact_float32():
        return measure(*arguments)


def one_run(
    net: str,
    data: clr.data.Cifar10,
    seed: int,
    runs: int,
    folder: str,
    updates: int,
    device: str,
    tf32: bool,
    precision: str,
) -> tuple[float, float]:
    """Return when one run's second half started and ended. Its one evaluation there is of 100 images.

    At half time the runs wait for each other, so that all are under way while they are timed.
    """
    config = dataclasses.replace(
        experiments.EXPERIMENTS["headline"].arms["triangular"], net=net, init=init(net), seed=seed,
        iterations=2 * updates, evaluate_every=updates, test_pictures=100, precision=precision,
    )  # fmt: skip
    times: dict[int, float] = {}

    def progress(iteration: int) -> None:
        if iteration == updates:
            meet(folder, seed, runs)
        times[iteration] = time.perf_counter()

    train(config, data, device=device, tf32=tf32, progress=progress)
    return times[updates], times[2 * updates]


def meet(folder: str, seed: int, runs: int) -> None:
    """Wait until all runs, threads or processes, have a file in the folder."""
    (Path(folder) / str(seed)).touch()
    deadline = time.monotonic() + 600
    while len(os.listdir(folder)) < runs and time.monotonic() < deadline:
        time.sleep(0.001)


def ours(
    net: str,
    data: clr.data.Cifar10,
    runs: int,
    updates: int,
    device: str,
    tf32: bool = False,
    precision: str = "float32",
) -> float:
    """Return the updates per second of so many runs together, from half time to the last one's end."""
    prefer = "processes" if torch.device(device).type == "cpu" else "threads"
    with exact_float32(tf32), tempfile.TemporaryDirectory() as folder:
        rest = (runs, folder, updates, device, tf32, precision)
        calls = (joblib.delayed(one_run)(net, data, seed, *rest) for seed in range(runs))
        started, ended = zip(*joblib.Parallel(runs, prefer=prefer, mmap_mode="c")(calls), strict=True)
    return runs * updates / (max(ended) - min(started))


def convolutions(net: str, updates: int) -> float:
    """Return how often per second one core makes the convolutions of an update, and nothing else."""
    with machine.cpu_threads(1):
        machine.keep_freed_memory()
        make = core_time.convolutions(net)
        make()
        start = time.perf_counter()
        for _ in range(updates):
            make()
        return updates / (time.perf_counter() - start)


def floor(net: str, cores: int, updates: int) -> float:
    """Return how often per second the cores together make the convolutions of an update."""
    return sum(joblib.Parallel(cores)(joblib.delayed(convolutions)(net, updates) for _ in range(cores)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--nets", default="Cifar10Quick,Cifar10Full,Cifar10ResNet8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--updates", type=int, default=100, help="per timing; on CUDA 20 or 3 times as many")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    data = clr.synthetic_cifar10(train=50_000, test=100)
    rows = []
    for net in options.nets.split(","):
        kinds = measures(net, data, options, cores)
        measured: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(options.repeats):
            for kind, measure in kinds.items():
                measured[kind].append(measure())
        rows.append(row(net, measured, options))
        show(rows[-1])
    RESULTS.mkdir(exist_ok=True)
    with exact_float32():
        record = {"cores": cores, **machine.provenance(options.device, 1), "rows": rows}
    print(f"{record['device']}, {cores} cores, {options.repeats} repeats of {options.updates} updates")
    path = RESULTS / f"training_speed_{torch.device(options.device).type}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measures(
    net: str, data: clr.data.Cifar10, options: argparse.Namespace, cores: int
) -> dict[str, Callable[[], float]]:
    """Return what is measured, by its name in the table."""
    device, updates = options.device, options.updates
    on_cpu = torch.device(device).type == "cpu"
    runs, more = (cores, 1) if on_cpu else (10, 3)
    kinds = {"usual loop": lambda: in_float32(core_time.usual, net, data, updates, device)}
    for name, number, share in ((f"{runs} runs", runs, more), ("one run", 1, more if on_cpu else 20)):
        for kind in core_time.precisions(device):
            kinds[f"ours, {kind}, {name}"] = lambda kind=kind, number=number, share=share: ours(
                net, data, number, share * updates, device, precision=kind
            )
    if on_cpu:
        kinds[f"convolutions alone, {runs} runs"] = lambda: floor(net, cores, updates)
        kinds["convolutions alone, one run"] = lambda: floor(net, 1, updates)
    else:
        kinds["ours, TF32, 10 runs"] = lambda: ours(net, data, 10, 3 * updates, device, True)
    return kinds


def row(net: str, measured: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "net": net,
        "repeats": options.repeats,
        "updates a second (least, median, most)": {
            kind: [round(v, 1) for v in (min(all_), statistics.median(all_), max(all_))]
            for kind, all_ in measured.items()
        },
        "times the usual loop": {kind: ratio(all_, measured["usual loop"]) for kind, all_ in measured.items()},
        "share of the convolutions' rate": {
            kind: ratio(all_, measured[f"convolutions alone, {kind.split(', ')[-1]}"])
            for kind, all_ in measured.items()
            if f"convolutions alone, {kind.split(', ')[-1]}" in measured and "float32" in kind
        },
    }


def ratio(first: list[float], second: list[float]) -> float:
    """Return the median over the turns of a ratio; each turn measures both one after the other."""
    return round(statistics.median(a / b for a, b in zip(first, second, strict=True)), 2)


def show(row: dict[str, Any]) -> None:
    print(row["net"])
    for kind, (least, median, most) in row["updates a second (least, median, most)"].items():
        share = row["share of the convolutions' rate"].get(kind)
        last = f"{share:8.2f} of the convolutions' rate" if share else ""
        print(f"  {kind:38}{median:7.1f} ({least} to {most}){row['times the usual loop'][kind]:8.2f} times{last}")


if __name__ == "__main__":
    main()
