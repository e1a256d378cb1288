"""How good are the bounds that `clr.suggest_bounds` proposes? Against brute force, and against other finders' rules.

    CLR_DATA=<CIFAR-10> python benchmarks/range_test_quality.py collect [task ...]    # hours on a CPU; goes on
    python benchmarks/range_test_quality.py cycles [task ...]     # trains by CLR between the bounds proposed
    python benchmarks/range_test_quality.py report                # the table, also as benchmarks/results/*.json

Nine tasks. Each: 20 range tests of 500 updates (weights, batch order and dropout all from the seed), the rate rising
exponentially over four to six decades; the truth by a grid of constant rates, four a decade, three seeds, as many
updates. The rule for max_lr was chosen on "digits MLP, SGD", "digits CNN, SGD" and "transformer, Adam".
A rate *learns* where the metric ends, in the mean of the seeds, a tenth of the way from its start to the best rate's;
it *trains* where every seed ends at least half of the way. Needs scikit-learn, for its 8 x 8 digits.
Finished pieces are kept in benchmarks/results/range_test_quality/, and are not made again.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import clr
from clr.range_test import RangeTest, bounds
from clr.training import machine

UPDATES, EVERY, CURVES, SEEDS = 500, 5, 20, 3
WORK = Path(__file__).parent / "results" / "range_test_quality"


class Batches:
    """Shuffled batches of tensors, anew every pass."""

    def __init__(self, x: Tensor, y: Tensor, size: int, shuffle: bool = True) -> None:
        self.x, self.y, self.size, self.shuffle = x, y, size, shuffle

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.x)) if self.shuffle else torch.arange(len(self.x))
        for index in order.split(self.size):
            yield self.x[index], self.y[index]


# Data: (training inputs, training classes, held-out inputs, held-out classes)


@cache
def digits() -> tuple[Tensor, ...]:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))
    x = torch.tensor(data.images[order] / 16 - 0.3, dtype=torch.float32)[:, None]  # (N, 1, 8, 8)
    y = torch.tensor(data.target[order])
    return x[:1297], y[:1297], x[1297:], y[1297:]


@cache
def cifar(pixels: str, held_out: int, half: bool = False) -> tuple[Tensor, ...]:
    data = clr.load_cifar10()
    mean = data.mean_image if pixels == "caffe" else data.channel_means.view(3, 1, 1)
    scale = 1 if pixels == "caffe" else 1 / 255
    parts = []
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    for split, index in ((data.train, order[:20_000]), (data.test, torch.arange(0, 10_000, 10_000 // held_out))):
        x = (split.images[index].float() - mean) * scale
        parts += [F.avg_pool2d(x, 2) if half else x.contiguous(memory_format=torch.channels_last), split.labels[index]]
    return tuple(parts)


@cache
def sequences() -> tuple[Tensor, ...]:
    """Which of eight symbols follows the one mark in a sequence of 16?"""
    random = np.random.RandomState(0)
    x = random.randint(0, 8, (6000, 16))
    place = random.randint(0, 15, 6000)
    x[np.arange(6000), place] = 8
    y = x[np.arange(6000), place + 1]
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    return x[:5500], y[:5500], x[5500:], y[5500:]


# Models


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(128, 10),
    )  # fmt: skip


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.skip = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.skip(x) + self.body(x))


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Residual(8, 8, 1), Residual(8, 16, 2),
        Residual(16, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.symbol, self.place = nn.Embedding(9, 32), nn.Parameter(torch.randn(16, 32) * 0.1)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.symbol(x) + self.place).mean(1))


def quick(init: str) -> nn.Module:
    return clr.Cifar10Quick(init).to(memory_format=torch.channels_last)


# Optimizers


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.001)


def caffe_unit(model: Any) -> torch.optim.Optimizer:
    return clr.CaffeSGD(model.param_groups(mults=False), lr=0.001)


def caffe(model: Any) -> torch.optim.Optimizer:
    return clr.CaffeSGD(model.param_groups(), lr=0.001)


@dataclass(frozen=True)
class Task:
    """What is trained, and the powers of ten between which the range test and the grid of constant rates go."""

    model: Callable[[], nn.Module]
    optimizer: Callable[[Any], torch.optim.Optimizer]
    data: Callable[[], tuple[Tensor, ...]]
    batch_size: int
    test: tuple[float, float]
    grid: tuple[float, float]

    def start(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer, Batches, Batches]:
        torch.manual_seed(seed)
        model = self.model()
        x, y, held_x, held_y = self.data()
        return model, self.optimizer(model), Batches(x, y, self.batch_size), Batches(held_x, held_y, 250, False)

    def rates(self) -> list[float]:
        low, high = self.grid
        return [float(rate) for rate in 10 ** np.arange(low, high + 0.01, 0.25)]


TASKS = {
    "digits MLP, SGD": Task(mlp, sgd, digits, 64, (-5, 1), (-5, 1)),
    "digits MLP, Adam": Task(mlp, adam, digits, 64, (-6, 0), (-6, 0.5)),
    "digits CNN, SGD": Task(cnn, sgd, digits, 64, (-5, 1), (-4, 1)),
    "digits CNN, Adam": Task(cnn, adam, digits, 64, (-6, 0), (-5, 0.5)),
    "transformer, Adam": Task(Transformer, adam, sequences, 64, (-6, 0), (-5, 0)),
    "ResNet BN, SGD": Task(resnet, sgd, lambda: cifar("unit", 500, True), 64, (-5, 1), (-5, 1)),
    "ResNet BN, Adam": Task(resnet, adam, lambda: cifar("unit", 500, True), 64, (-6, 0), (-5.5, 0)),
    "Quick unit, SGD": Task(
        lambda: quick("torch"), caffe_unit, lambda: cifar("unit", 400), 100, (-4, 0), (-3.25, -0.5)
    ),
    "Quick caffe, SGD": Task(lambda: quick("caffe"), caffe, lambda: cifar("caffe", 400), 100, (-6, -1.5), (-5, -2)),
}


# Collecting


def collect(names: list[str]) -> None:
    torch.set_num_threads(1)
    machine.keep_freed_memory()
    for name in names:
        task = TASKS[name]
        folder(name).mkdir(parents=True, exist_ok=True)
        for seed in range(CURVES):
            once(folder(name) / f"curve-{seed}.json", lambda task=task, seed=seed: curve(task, seed))
        for seed in range(SEEDS):
            for rate in task.rates():
                policy = clr.Fixed(rate)
                path = folder(name) / f"rate-{rate:.3g}-{seed}.json"
                once(path, lambda t=task, p=policy, s=seed: train(t, p, 100 + s))


def once(path: Path, make: Callable[[], Any]) -> Any:
    if not path.exists():
        path.write_text(json.dumps(make()), encoding="utf-8")
        print(path.parent.name, path.stem, flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def curve(task: Task, seed: int) -> dict[str, Any]:
    """Make one range test; return its frame, and the losses update by update, which other finders' rules read."""
    model, optimizer, batches, held_out = task.start(seed)
    losses: list[Tensor] = []

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        loss = F.cross_entropy(outputs, targets)
        losses.append(loss.detach())
        return loss

    low, high = (10.0**power for power in task.test)
    test = clr.lr_range_test(
        model, optimizer, loss_fn, batches, held_out, start_lr=low, end_lr=high, iterations=UPDATES,
        spacing="exponential", eval_every=EVERY, progress=False,
    )  # fmt: skip
    return {"frame": test.frame.to_dict("list"), "losses": torch.stack(losses).tolist(), "diverged": test.diverged}


def train(task: Task, policy: Any, seed: int) -> dict[str, Any]:
    """Train as long as a range test by a policy; return the metric at the start and, a mean of three, at the end."""
    model, optimizer, batches, held_out = task.start(seed)
    scheduler = clr.PolicyLR(optimizer, policy)
    first, seen, finite, k = accuracy(model, held_out), [], True, 0
    while finite and k < UPDATES:
        for x, y in batches:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            k += 1
            if k % 20 == 0 and not torch.isfinite(loss):
                finite = False
            if k in (UPDATES - 20, UPDATES - 10, UPDATES):
                seen.append(accuracy(model, held_out))
            if k == UPDATES or not finite:
                break
    finite = finite and all(bool(p.isfinite().all()) for p in model.parameters())
    return {"first": first, "last": float(np.mean(seen)) if finite else None, "finite": finite}


@torch.no_grad()
def accuracy(model: nn.Module, batches: Batches) -> float:
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    model.train()
    return right / len(batches.y)


# Cycles


def cycles(names: list[str]) -> None:
    """Train by the triangular policy, two cycles, between the bounds of each five curves: does it ever diverge?"""
    torch.set_num_threads(1)
    for name in names:
        tests = range_tests(name)
        for k in range(len(tests) // 5):
            bounds = clr.suggest_bounds(tests[5 * k : 5 * k + 5])
            if np.isfinite(bounds.base_lr + bounds.max_lr):
                policy = clr.Triangular(bounds.base_lr, bounds.max_lr, UPDATES // 4)
                once(folder(name) / f"cycle-{k}.json", lambda p=policy, k=k, n=name: train(TASKS[n], p, 200 + k))


# The report


def folder(name: str) -> Path:
    return WORK / name.replace(", ", "-").replace(" ", "-")


def pieces(name: str, kind: str) -> list[dict[str, Any]]:
    return [
        json.loads(path.read_text(encoding="utf-8")) | {"stem": path.stem}
        for path in sorted(folder(name).glob(f"{kind}-*.json"))
    ]


def range_tests(name: str) -> list[RangeTest]:
    parts = pieces(name, "curve")
    return [RangeTest(pd.DataFrame(p["frame"]), "exponential", diverged=p["diverged"]) for p in parts]


def truth(name: str) -> tuple[float, float]:
    """Return the smallest rate that learns, and the largest that trains; NaN before the whole grid is there once."""
    runs = pd.DataFrame(pieces(name, "rate"))
    if runs.empty or runs["stem"].nunique() < len(TASKS[name].rates()):
        return float("nan"), float("nan")
    runs["rate"] = [float(stem.removeprefix("rate-").rsplit("-", 1)[0]) for stem in runs["stem"]]
    first, runs["last"] = runs["first"].mean(), runs["last"].astype(float).fillna(runs["first"])
    ends = runs.groupby("rate")["last"].agg(["mean", "min"])
    gain = ends["mean"].max() - first
    learns, trains = ends["mean"] >= first + 0.1 * gain, ends["min"] >= first + 0.5 * gain
    return float(ends.index[learns].min()), float(ends.index[trains].max())


def others(name: str) -> dict[str, list[float]]:
    """Return what other finders suggest on each curve's losses, by their published rules, on the exponential axis.

    torch-lr-finder: the steepest descent of the smoothed loss (0.05 of the new one). Lightning: the same, of its
    bias-corrected mean (0.98), without the first ten and last one. fastai "valley": two thirds into the longest
    descent of the smoothed loss (0.98). All stop at 4 or 5 times the best smoothed loss.
    """
    low, high = TASKS[name].test
    lr = 10 ** (low + (high - low) * np.arange(UPDATES) / UPDATES)
    found: dict[str, list[float]] = {"torch-lr-finder": [], "Lightning": [], "fastai valley": []}
    for part in pieces(name, "curve"):
        losses = np.array(part["losses"], float)
        plain, corrected = smoothed(losses, 0.95, False), smoothed(losses, 0.98, True)
        for key, loss, stop in zip(found, (plain, corrected, corrected), (5, 4, 4), strict=True):
            bad = np.flatnonzero(~np.isfinite(loss) | (loss > stop * np.minimum.accumulate(loss)))
            loss = loss[: bad[0]] if len(bad) else loss
            skip, end = (10, -1) if key == "Lightning" else (0, None)
            part_of = loss[skip:end]
            place = longest_descent(part_of) if key == "fastai valley" else int(np.gradient(part_of).argmin())
            found[key].append(float(lr[skip + place]))
    return found


def smoothed(losses: np.ndarray, beta: float, corrected: bool) -> np.ndarray:
    mean, out = (0.0 if corrected else losses[0]), []
    for k, loss in enumerate(losses):
        mean = beta * mean + (1 - beta) * loss
        out.append(mean / (1 - beta ** (k + 1)) if corrected else mean)
    return np.array(out)


def longest_descent(loss: np.ndarray) -> int:
    """Return the place two thirds into the longest decreasing subsequence."""
    length, start = np.ones(len(loss), int), np.arange(len(loss))
    for i in range(1, len(loss)):
        before = np.flatnonzero(loss[:i] > loss[i])
        if len(before) and length[before].max() >= length[i]:
            j = before[length[before].argmax()]
            length[i], start[i] = length[j] + 1, start[j]
    end = int(length.argmax())
    return int(start[end] + 2 * (end - start[end]) / 3)


def spread(rates: list[float]) -> float:
    """Return the standard deviation in decades over what could be told."""
    told = np.log10([rate for rate in rates if np.isfinite(rate)])
    return float(np.std(told, ddof=1)) if len(told) > 1 else float("nan")


def report() -> None:
    bounds.RESAMPLES = 2  # the table has no intervals, which take the time
    rows = []
    for name in TASKS:
        tests = range_tests(name)
        if len(tests) < 10:
            continue
        random = np.random.default_rng(0)
        picks = [random.permutation(len(tests))[:5] for _ in range(40)]
        correction = (1 - 4 / (len(tests) - 1)) ** -0.5  # fives are drawn from a few without replacement
        single = [clr.suggest_bounds(test) for test in tests]
        fives = [clr.suggest_bounds([tests[i] for i in pick]) for pick in picks]
        learns, trains = truth(name)
        ended = pieces(name, "cycle")
        row: dict[str, Any] = {"task": name, "curves": len(tests), "learns": learns, "trains": trains}
        for which in ("base_lr", "max_lr"):
            one, five = ([getattr(b, which) for b in found] for found in (single, fives))
            row |= {
                which: float(np.nanmedian(five)), f"{which} untold": int(np.isnan(one).sum()),
                f"{which} sd one": spread(one), f"{which} sd five": spread(five) * correction,
            }  # fmt: skip
            if which == "max_lr":
                row |= {"within 2 one": within(one, trains), "within 2 five": within(five, trains)}
        row |= {"cycles": len(ended), "cycles diverged": sum(not end["finite"] for end in ended)}
        for rule, rates in others(name).items():
            row |= {rule: float(np.median(rates)), f"{rule} sd": spread(rates)}
            row |= {f"{rule} within 2": within(rates, trains)}
        rows.append(row)
        table = pd.DataFrame(rows)
        (Path(__file__).parent / "results").mkdir(exist_ok=True)
        target = Path(__file__).parent / "results" / "range_test_quality.json"
        target.write_text(table.to_json(orient="records", indent=1, double_precision=6) + "\n", encoding="utf-8")
    print(table.set_index("task").T.to_string(float_format=lambda x: f"{x:.3g}"))


def within(rates: list[float], trains: float) -> float:
    """Return the share of rates within a factor of two of the truth; what could not be told is not."""
    if np.isnan(trains):
        return float("nan")
    return float(np.mean([trains / 2.001 <= rate <= trains * 2.001 for rate in rates]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["collect", "cycles", "report"])
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    arguments = parser.parse_args()
    if arguments.what == "report":
        report()
    else:
        {"collect": collect, "cycles": cycles}[arguments.what](arguments.tasks or list(TASKS))
