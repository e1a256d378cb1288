"""How fast do the experiments train? Compared with the usual loop and with a matrix product on the same machine.

    python benchmarks/training_speed.py [--device cuda] [--repeats 5]

The usual loop is one run in one process: a DataLoader with two workers that normalises images one by one, as
torchvision does, torch.optim.SGD, torch's CyclicLR, the same net in torch's layout, torch's number of threads. Ours is
`clr.training.train`, one run per core (ten in threads on CUDA). Neither time includes the start. The matrix product is
2048 x 2048 (8192 on CUDA) in float32, on every core at once. All take turns; the table has medians and ranges.
A profile of one update on one core says what share of it is neither convolution nor batch norm.
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

import joblib
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

import clr
from clr import experiments, nets
from clr.training import machine, train
from clr.training.float32 import exact_float32
from clr.training.update import Batches, Update

RESULTS = Path(__file__).parent / "results"
FIRST = 20  # updates before the clock starts


class Pictures(Dataset):
    """Images as torchvision's CIFAR10 gives them: bytes in memory, made into PIL images and transformed one by one."""

    def __init__(self, data: clr.data.Cifar10) -> None:
        from torchvision import transforms

        self.images, self.labels = data.train.images.permute(0, 2, 3, 1).numpy(), data.train.labels.tolist()
        means = (data.channel_means / 255).tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(means, (1.0, 1.0, 1.0))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def usual(net: str, data: clr.data.Cifar10, updates: int, device: str) -> float:
    """Return the updates per second of the usual loop."""
    model = nets.NETS[net](init(net)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0025, momentum=0.9, weight_decay=0.004)
    scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.0025, 0.01, step_size_up=2000, cycle_momentum=False)
    loader = DataLoader(Pictures(data), batch_size=100, shuffle=True, num_workers=2, persistent_workers=True)
    k, start = 0, 0.0
    while True:
        for x, y in loader:
            if k == FIRST:
                start = now(device)
            if k == FIRST + updates:
                return updates / (now(device) - start)
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            scheduler.step()
            k += 1


def init(net: str) -> str:
    return "he" if net in nets.RESNETS else "torch"


def in_float32(measure: Callable[..., float], *arguments: Any) -> float:
    """Measure without TF32, as ours is measured. torch uses TF32 for convolutions by default."""
    with exact_float32():
        return measure(*arguments)


def now(device: str) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def one_run(
    net: str, data: clr.data.Cifar10, seed: int, runs: int, folder: str, updates: int, device: str, tf32: bool
) -> tuple[float, float]:
    """Return when one run's second half started and ended. Its one evaluation there is of 100 images.

    At half time the runs wait for each other, so that all are under way while they are timed.
    """
    config = dataclasses.replace(
        experiments.EXPERIMENTS["headline"].arms["triangular"], net=net, init=init(net), seed=seed,
        iterations=2 * updates, evaluate_every=updates, test_pictures=100,
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


def ours(net: str, data: clr.data.Cifar10, runs: int, updates: int, device: str, tf32: bool = False) -> float:
    """Return the updates per second of so many runs together, from half time to the last one's end."""
    prefer = "processes" if torch.device(device).type == "cpu" else "threads"
    with exact_float32(tf32), tempfile.TemporaryDirectory() as folder:
        calls = (joblib.delayed(one_run)(net, data, seed, runs, folder, updates, device, tf32) for seed in range(runs))
        started, ended = zip(*joblib.Parallel(runs, prefer=prefer, mmap_mode="c")(calls), strict=True)
    return runs * updates / (max(ended) - min(started))


def matrix_product(device: str, seconds: float = 1.0) -> float:
    """Return the float32 FLOP/s of a large matrix product on one core, or on CUDA."""
    torch.set_num_threads(1)
    size = 2048 if device == "cpu" else 8192
    a, b = torch.randn(2, size, size, device=device).unbind()
    a @ b
    count, start = 0, now(device)
    while now(device) < start + seconds:
        a @ b
        count += 1
    return 2 * size**3 * count / (now(device) - start)


def everywhere(cores: int, device: str) -> float:
    if device != "cpu":
        return matrix_product(device)
    return sum(joblib.Parallel(cores)(joblib.delayed(matrix_product)(device) for _ in range(cores)))


def flop(net: str) -> int:
    """Return the floating-point operations of one update of 100 images, convolutions and products alone."""
    model = nets.NETS[net](init(net))
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(torch.randn(100, 3, 32, 32)), torch.zeros(100, dtype=torch.int64)).backward()
    return counter.get_total_flops()


def outside(net: str, updates: int = 20) -> float:
    """Return the share of an update on one core that is neither convolution nor batch norm."""
    data = clr.synthetic_cifar10(train=1000, test=10)
    model = nets.NETS[net](init(net)).to(memory_format=torch.channels_last)
    batches = Batches(data, "cpu", 100, 0, "unit", True, None)
    with machine.cpu_threads(1):
        machine.keep_freed_memory()
        update = Update(model, clr.CaffeSGD(model.param_groups(mults=False), lr=0.0), batches, [0.01] * 100, 0, 100)
        for k in range(5):
            update(k)
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            for k in range(5, 5 + updates):
                update(k)
    events = profiled.key_averages()
    inside = sum(event.self_cpu_time_total for event in events if "conv" in event.key or "batch_norm" in event.key)
    return 1 - inside / sum(event.self_cpu_time_total for event in events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--updates", type=int, default=100, help="per timing; on CUDA 20 or 3 times as many")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    data = clr.synthetic_cifar10(train=50_000, test=100)
    rows = []
    for net in ("Cifar10Quick", "Cifar10Full", "Cifar10ResNet8"):
        kinds = measures(net, data, options, cores)
        measured: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(options.repeats):
            for kind, measure in kinds.items():
                measured[kind].append(measure())
        rows.append(row(net, measured, options))
        print(json.dumps(rows[-1], indent=1), flush=True)
    RESULTS.mkdir(exist_ok=True)
    with exact_float32():
        record = {"cores": cores, **machine.provenance(options.device, 1), "rows": rows}
    path = RESULTS / f"training_speed_{torch.device(options.device).type}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measures(
    net: str, data: clr.data.Cifar10, options: argparse.Namespace, cores: int
) -> dict[str, Callable[[], float]]:
    """Return what is measured, by its name in the table."""
    device, updates = options.device, options.updates
    kinds = {
        "usual loop": lambda: in_float32(usual, net, data, updates, device),
        "ours": lambda: ours(net, data, cores, updates, device),
        "matrix product": lambda: everywhere(cores, device),
    }
    if torch.device(device).type != "cpu":
        kinds["ours"] = lambda: ours(net, data, 10, 3 * updates, device)
        kinds["ours, one run"] = lambda: ours(net, data, 1, 20 * updates, device)
        kinds["ours, TF32"] = lambda: ours(net, data, 10, 3 * updates, device, True)
    return kinds


def row(net: str, measured: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    spread = {kind: [min(all_), statistics.median(all_), max(all_)] for kind, all_ in measured.items()}
    against = [a / b for a, b in zip(measured["ours"], measured["usual loop"], strict=True)]
    share = [flop(net) * a / b for a, b in zip(measured["ours"], measured["matrix product"], strict=True)]
    kinds = [kind for kind in measured if kind != "matrix product"]
    return {
        "net": net,
        "repeats": options.repeats,
        "GFLOP an update": round(flop(net) / 1e9, 2),
        "updates a second (least, median, most)": {k: [round(v, 1) for v in spread[k]] for k in kinds},
        "matrix product, GFLOP/s": [round(v / 1e9, 1) for v in spread["matrix product"]],
        "times the usual loop": round(statistics.median(against), 2),
        "share of the matrix product's rate": round(statistics.median(share), 2),
        "neither convolution nor batch norm, on one CPU core": round(outside(net), 2),
    }


if __name__ == "__main__":
    main()
