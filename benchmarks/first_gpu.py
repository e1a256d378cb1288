"""What does the first GPU show? Checks and speeds that no machine without one can give, in at most ten minutes.

    python benchmarks/first_gpu.py [--minutes 10]

Every line is one check: its name, what was found, its seconds. "False" or "RAISED" is a finding. When the time is up,
the checks that are left are named as "not done". The lines also go to results/first_gpu.json.
"""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

import clr
from clr.training import Run, RunConfig, machine, train, update
from clr.training.float32 import exact_float32

NETS = ("Cifar10Quick", "Cifar10Full", "Cifar10FullSigmoid", "Cifar10FullSigmoidBN", "Cifar10ResNet8")
SMALL = clr.synthetic_cifar10(train=2000, test=500)
LARGE = clr.synthetic_cifar10(train=50_000, test=10_000)
BASE = RunConfig(
    "Cifar10Quick", clr.Triangular(0.001, 0.01, 10), 60, pixels="unit", init="torch", reshuffle=True,
    evaluate_every=8, test_pictures=100,
)  # fmt: skip


def config_of(net: str, **values: Any) -> RunConfig:
    own = {"init": "he", "mults": False, "optimizer": "Nesterov"} if net in clr.nets.RESNETS else {}
    return dataclasses.replace(BASE, net=net, **own | values)


@contextmanager
def without_graphs() -> Iterator[None]:
    os.environ["CLR_CUDA_GRAPHS"] = "0"
    try:
        yield
    finally:
        del os.environ["CLR_CUDA_GRAPHS"]


@contextmanager
def contiguous() -> Iterator[None]:
    """Train in torch's default layout (NCHW), not in channels last."""
    update.LAYOUT["cuda"] = torch.contiguous_format
    try:
        yield
    finally:
        update.LAYOUT["cuda"] = torch.channels_last


def same(first: Run, second: Run) -> bool:
    """Return whether two runs are equal to the last bit."""
    weights = all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    return first.rows == second.rows and weights


def captured_is_eager(config: RunConfig) -> dict[str, bool]:
    with without_graphs():
        eager, again = (train(config, SMALL, device="cuda") for _ in range(2))
    return {"captured == eager": same(train(config, SMALL, device="cuda"), eager), "eager == eager": same(again, eager)}


def distance_from_cpu(config: RunConfig) -> float:
    """Return the largest relative difference of twenty losses; tests/training/test_update.py asks for 1e-4."""
    short = dataclasses.replace(config, iterations=20, evaluate_every=1)
    pairs = zip(train(short, SMALL, device="cuda").rows, train(short, SMALL).rows, strict=True)
    return max(abs(gpu["train_loss"] / cpu["train_loss"] - 1) for gpu, cpu in pairs)


def threads_are_alone(rounds: int) -> list[bool]:
    """Compare runs in ten threads with the same runs alone: captures, uploads, evaluations and eager updates meet."""
    configs = [config_of(NETS[seed % 5], seed=seed, evaluate_every=1 + seed % 3) for seed in range(20)]
    configs[4::6] = [dataclasses.replace(config, optimizer="Adam") for config in configs[4::6]]
    on_gpu = partial(train, data=SMALL, device="cuda")
    alone = [on_gpu(config) for config in configs]
    with exact_float32(), ThreadPoolExecutor(10) as pool:
        return [all(map(same, alone, pool.map(on_gpu, configs))) for _ in range(rounds)]


def speed(runs: int = 1, updates: int = 600, **changes: Any) -> dict[str, float]:
    """Return the updates per second of runs in threads, from the half time of all to the last one's end."""
    config = dataclasses.replace(BASE, iterations=2 * updates, evaluate_every=updates, **changes)
    half, ends = threading.Barrier(runs), []

    def run(seed: int) -> float:
        times = {}

        def progress(iteration: int) -> None:
            if iteration == updates:
                half.wait(120)
            times[iteration] = time.perf_counter()

        train(dataclasses.replace(config, seed=seed), LARGE, device="cuda", progress=progress)
        ends.append(times[2 * updates])
        return times[updates]

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with exact_float32(), ThreadPoolExecutor(runs) as pool:
        start = min(pool.map(run, range(runs)))
    rate = round(runs * updates / (max(ends) - start))
    return {"updates per second": rate, "MiB": torch.cuda.max_memory_reserved() >> 20}


def kernels() -> list[str]:
    """Return the kernels of six updates by time: which convolutions, and do they change the layout?"""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile, without_graphs():
        train(dataclasses.replace(BASE, iterations=6), SMALL, device="cuda")
    events = sorted(profile.key_averages(), key=lambda event: -event.device_time_total)
    return [f"{event.device_time_total / 6:.0f} us, {event.count / 6:.1f} x {event.key[:90]}" for event in events[:18]]


def interrupt() -> int:
    """Return the exit status after Ctrl-C: 130 is right."""
    command = [sys.executable, "-m", "clr", "run", "headline", "--scale", "full", "--device", "cuda"]
    environment = os.environ | {"CLR_DATA": "synthetic", "CLR_HOME": tempfile.mkdtemp()}
    running = subprocess.Popen(command, env=environment)
    time.sleep(30)
    running.send_signal(signal.SIGINT)
    return running.wait(60)


def checks() -> dict[str, Callable[[], Any]]:
    """Return the checks by name, the most important first."""
    found: dict[str, Callable[[], Any]] = {}
    for net in NETS:
        config = config_of(net)
        found[f"{net}: bits"] = partial(captured_is_eager, config)
        found[f"{net}: distance from the CPU"] = partial(distance_from_cpu, config)
    found["threads == alone, three rounds"] = partial(threads_are_alone, 3)
    found["speed, one run"] = speed
    found["speed, one run without a graph"] = without_graphs()(speed)
    found["speed, one run in NCHW"] = contiguous()(speed)
    found["speed, ten runs"] = partial(speed, 10, 300)
    found["Ctrl-C ends with 130"] = interrupt
    found["speed, ten runs in NCHW"] = contiguous()(partial(speed, 10, 300))
    found["speed, ten runs of Adam"] = partial(speed, 10, 150, optimizer="Adam")
    found["speed, ten runs, all test images"] = partial(speed, 10, 300, test_pictures=None)
    found["kernels"] = kernels
    return found


def attempt(check: Callable[[], Any]) -> Any:
    try:
        return check()
    except Exception as error:
        return f"RAISED {type(error).__name__}: {str(error)[:300]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="no check starts after so many")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(f"first_gpu.py needs a CUDA device: {machine.describe_device('cpu')}")
    deadline = time.monotonic() + 60 * options.minutes
    record: dict[str, Any] = machine.provenance("cuda", 1) | {"memory": machine.describe_device("cuda:0")}
    print(json.dumps(record, indent=1))
    for name, check in checks().items():
        start = time.monotonic()
        record[name] = attempt(check) if start < deadline else "not done, time is up"
        print(f"{name}: {json.dumps(record[name])} ({time.monotonic() - start:.0f} s)", flush=True)
    path = Path(__file__).parent / "results" / "first_gpu.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
