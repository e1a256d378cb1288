"""The tasks on which `range_test_regret.py` judges learning rates: models, optimizers, and how a run is scored.

Every task is small, runs on one CPU thread, and needs no download. Only the two CIFAR-10 tasks need `CLR_DATA`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from regret_data import (
    Data,
    characters,
    cifar,
    digits,
    documents,
    friedman,
    noisy_digits,
    pixels,
    rare,
    sequences,
    some_digits,
)
from torch import Tensor, nn
from torch.nn import functional as F


class Batches:
    """Shuffled batches of tensors, in a new order in every pass."""

    def __init__(self, x: Tensor, y: Tensor, size: int) -> None:
        self.x, self.y, self.size = x, y, size

    def __len__(self) -> int:
        return -(-len(self.x) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(len(self.x)).split(self.size):
            yield self.x[index], self.y[index]


# Models


def mlp(inputs: int, *hidden: int, outputs: int = 10, act: type[nn.Module] = nn.ReLU, drop: float = 0.0) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for size in hidden:
        layers += [nn.Linear(inputs, size), act(), *([nn.Dropout(drop)] if drop else [])]
        inputs = size
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def cnn(outputs: int = 10) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(128, outputs),
    )  # fmt: skip


@cache
def pretrained() -> dict[str, Tensor]:
    """Return the weights of the CNN after 300 updates on the digits 0 to 4, without its last layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = cnn(5)
        adam, batches = torch.optim.Adam(net.parameters(), lr=0.003), Batches(*some_digits(0, 5)[:2], 32)
        for _ in range(300 // len(batches)):
            for x, y in batches:
                adam.zero_grad()
                F.cross_entropy(net(x), y).backward()
                adam.step()
    return {name: value for name, value in net.state_dict().items() if not name.startswith("8.")}


def fine_tuned() -> nn.Module:
    net = cnn(5)
    net.load_state_dict(pretrained(), strict=False)
    return net


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
    """Two encoder layers over eight symbols."""

    def __init__(self) -> None:
        super().__init__()
        self.symbol, self.place = nn.Embedding(9, 32), nn.Parameter(torch.randn(8, 32) * 0.1)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.symbol(x) + self.place).mean(1))


class ViT(nn.Module):
    """A vision transformer on the 16 patches of a digit, with its normalization first."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.place = nn.Conv2d(1, 32, 2, 2), nn.Parameter(torch.randn(16, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.patch(x).flatten(2).mT + self.place).mean(1))


class Mixer(nn.Module):
    """Two blocks that mix 16 patches of a digit, then their 32 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 32, 2, 2)
        sizes = (16, 32, 16, 32)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in sizes)
        self.mixes = nn.ModuleList(mlp(size, 2 * size, outputs=size, act=nn.GELU)[1:] for size in sizes)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).mT
        for k, (norm, mix) in enumerate(zip(self.norms, self.mixes, strict=True)):
            x = x + (mix(norm(x)) if k % 2 else mix(norm(x).mT).mT)
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    """A GRU that predicts every next symbol."""

    def __init__(self) -> None:
        super().__init__()
        self.symbol, self.gru, self.head = nn.Embedding(12, 16), nn.GRU(16, 32, batch_first=True), nn.Linear(32, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.symbol(x))[0]).flatten(0, 1)


def bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(2000, 32), nn.Linear(32, 8))


def quick() -> nn.Module:
    import clr

    return clr.Cifar10Quick("torch").to(memory_format=torch.channels_last)


# Optimizers; `lr` here is only a placeholder, which a run replaces before its first update


class Lion(torch.optim.Optimizer):
    """The sign of an average of gradients, as in Chen et al. (2023)."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        if closure is not None:
            with torch.enable_grad():
                closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                p.sub_(torch.lerp(p.grad, mean, first).sign_(), alpha=group["lr"])
                mean.lerp_(p.grad, 1 - second)


def optimizer(kind: str, model: Any, lr: float = 0.001) -> torch.optim.Optimizer:
    """Return the named optimizer of all parameters of the model."""
    if kind == "CaffeSGD":
        import clr

        return clr.CaffeSGD(model.param_groups(mults=False), lr=lr)
    if kind == "Lion":
        return Lion(model.parameters(), lr)
    options = {
        "SGD": {"momentum": 0.9}, "AdamW": {"weight_decay": 0.05},
        "Nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    }  # fmt: skip
    name = {"plain SGD": "SGD", "Nesterov": "SGD"}.get(kind, kind)
    fused = {"fused": True} if name in ("SGD", "Adam", "AdamW", "Adagrad") else {}  # faster, same formula
    return getattr(torch.optim, name)(model.parameters(), lr=lr, **fused, **options.get(kind, {}))


# Scores


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.argmax(1) == targets.flatten()).double().mean())


def negative_mse(outputs: Tensor, targets: Tensor) -> float:
    return -float(F.mse_loss(outputs, targets))


def auc(outputs: Tensor, targets: Tensor) -> float:
    """Return the chance that a positive scores above a negative, ties counted half (Mann and Whitney)."""
    from scipy.stats import rankdata

    score = (outputs[:, 1] - outputs[:, 0]).double().numpy()
    positive = targets.numpy() == 1
    n, m = positive.sum(), (~positive).sum()
    if not np.isfinite(score).all() or not n or not m:
        return float("nan")
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * m))


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets.flatten())


@dataclass(frozen=True)
class Task:
    """What is trained, for how many updates, and between which powers of ten the grid of peak rates lies."""

    model: Callable[[], nn.Module]
    kind: str
    data: Callable[[], Data]
    batch_size: int
    updates: int
    grid: tuple[float, float]
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    metric: Callable[[Tensor, Tensor], float] = accuracy

    def start(self, seed: int, lr: float = 0.001) -> tuple[nn.Module, torch.optim.Optimizer, Batches]:
        """Return model, optimizer and training batches; the seed sets weights, batch order and dropout."""
        pretrained() if self.model is fine_tuned else None
        torch.manual_seed(seed)
        model = self.model()
        return model, optimizer(self.kind, model, lr), Batches(*self.data()[:2], self.batch_size)

    def rates(self) -> list[float]:
        """Return the peak rates of the grid, four per decade."""
        low, high = self.grid
        return [float(rate) for rate in 10 ** np.arange(low, high + 0.01, 0.25)]


def small() -> nn.Module:
    return mlp(64, 64)


TASKS = {
    "digits MLP, SGD": Task(small, "SGD", digits, 64, 300, (-3.25, 0.5)),
    "digits MLP, Adam": Task(small, "Adam", digits, 64, 300, (-4, -0.25)),
    "digits CNN, SGD": Task(cnn, "SGD", digits, 64, 300, (-3, 0)),
    "digits CNN, Adam": Task(cnn, "Adam", digits, 64, 300, (-4, -0.75)),
    "transformer, Adam": Task(Transformer, "Adam", sequences, 64, 600, (-4.25, -1.25)),
    "characters GRU, AdamW": Task(Recurrent, "AdamW", characters, 16, 300, (-3.5, 0.5)),
    "digits ViT, AdamW": Task(ViT, "AdamW", digits, 32, 300, (-4, -0.75)),
    "digits mixer, Lion": Task(Mixer, "Lion", digits, 32, 300, (-4.5, -1.25)),
    "autoencoder, RMSprop": Task(
        lambda: mlp(64, 48, 12, 48, outputs=64), "RMSprop", pixels, 32, 500, (-4.25, -1.25), F.mse_loss, negative_mse
    ),
    "fine-tuning, Nesterov": Task(fine_tuned, "Nesterov", lambda: some_digits(5, 10), 16, 300, (-4, -0.25)),
    "label noise, SGD": Task(lambda: mlp(64, 256, drop=0.2), "SGD", noisy_digits, 32, 500, (-3.25, 0.25)),
    "batches of 8, plain SGD": Task(
        lambda: mlp(64, 48, 48, 48, act=nn.Tanh), "plain SGD", digits, 8, 600, (-2.5, 0.25)
    ),
    "regression, SGD": Task(
        lambda: mlp(10, 64, 64, outputs=1), "SGD", friedman, 50, 400, (-4.5, -1.25), F.mse_loss, negative_mse
    ),
    "documents, Adagrad": Task(bag, "Adagrad", documents, 32, 500, (-2, 1.75)),
    "3% positives, Adam": Task(
        lambda: mlp(20, 64, 64, outputs=2), "Adam", rare, 128, 500, (-3.5, -0.25), metric=auc
    ),
    "CIFAR ResNet BN, SGD": Task(resnet, "SGD", lambda: cifar(1000, True), 32, 300, (-3, 0.25)),
    "CIFAR quick, SGD": Task(quick, "CaffeSGD", lambda: cifar(500, False), 100, 300, (-2.5, -0.75)),
}  # fmt: skip
