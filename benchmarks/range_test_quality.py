"""How good are the bounds that `clr.suggest_bounds` proposes? Against brute force, and against other finders' rules.

    CLR_DATA=<CIFAR-10> python benchmarks/range_test_quality.py collect [task ...]    # hours become minutes: resumable
    python benchmarks/range_test_quality.py report                                    # the table, and the JSON

Eight tasks. Each: 20 range tests of 500 updates (weights, batch order and dropout all from the seed), the rate rising
exponentially over four to six decades; the truth by a grid of constant rates, four a decade, three seeds, as many updates.
A rate *learns* where the metric ends, in the mean of the seeds, a tenth of the way from its start to the best rate's;
it *trains* where every seed ends at least half of the way. Needs scikit-learn, for its 8 x 8 digits.
Finished pieces are kept in runs/range_test_quality/, and are not made again.
"""

import argparse
import json
import sys
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
from clr import paths

UPDATES, EVERY, CURVES, SEEDS = 500, 5, 20, 3
WORK = paths.home() / "runs" / "range_test_quality"


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
    "Quick unit, SGD": Task(lambda: quick("torch"), caffe_unit, lambda: cifar("unit", 400), 100, (-4, 0), (-3.25, -0.5)),
    "Quick caffe, SGD": Task(lambda: quick("caffe"), caffe, lambda: cifar("caffe", 400), 100, (-6, -1.5), (-5, -2)),
}


# Collecting


def collect(names: list[str]) -> None:
    torch.set_num_threads(1)
    clr.training.keep_freed_memory()
    for name in names:
        task, folder = TASKS[name], WORK / name.replace(", ", "-").replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(CURVES):
            once(folder / f"curve-{seed}.json", lambda seed=seed: curve(task, seed))
        for seed in range(SEEDS):
            for rate in task.rates():
                policy = clr.Fixed(rate)
                once(folder / f"rate-{rate:.3g}-{seed}.json", lambda p=policy, s=seed: train(task, p, 100 + s))


def once(path: Path, make: Callable[[], Any]) -> Any:
    if not path.exists():
        path.write_text(json.dumps(make()))
        print(path.parent.name, path.stem, flush=True)
    return json.loads(path.read_text())


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["collect", "report"])
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    arguments = parser.parse_args()
    if arguments.what == "collect":
        collect(arguments.tasks or list(TASKS))
