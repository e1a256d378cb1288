"""Toy models, data and loaders that the tests of the range test share. On the CPU."""

import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

import clr

SHORT = {"start_lr": 0.001, "end_lr": 0.5, "iterations": 12, "eval_every": 3, "progress": False}


class Net(nn.Module):
    """All that has a state: batch norm, dropout, and a counter that is no buffer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 2))
        self.calls, self.seen = 0, []

    def forward(self, x):
        self.calls += 1
        self.seen.append(len(x))
        return self.layers(x)


class Augmented(Dataset):
    """Pictures of a kind, with augmentation by Python's and numpy's random numbers."""

    def __init__(self, x, y):
        self.x, self.y, self.random = x, y, np.random.default_rng(3)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        noise = random.gauss(0, 0.1) + np.random.normal() * 0.1 + float(self.random.normal()) * 0.1
        return self.x[i] + noise, self.y[i]


class Counting(RandomSampler):
    """A sampler with a state of its own."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        yield from list(super().__iter__())[:: 1 if self.passes % 2 else -1]


def points(n=96):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] + x[:, 1] > 0).long()


def global_order():
    return DataLoader(TensorDataset(*points()), 16, shuffle=True)


def own_generator():
    return DataLoader(TensorDataset(*points()), 16, shuffle=True, generator=torch.Generator().manual_seed(1))


def augmented():
    return DataLoader(Augmented(*points()), 16, sampler=Counting(points()[1], generator=torch.Generator()))


def plain_list():
    x, y = points()
    return list(zip(x.split(16), y.split(16), strict=True))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01, amsgrad=True)


def script(make_loader, make_optimizer):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = Net()
    return model, make_optimizer(model.parameters()), make_loader()


def fit(model, optimizer, loader, epochs=1):
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model


def flat(value):
    """Return a value with each tensor as its bytes, so that == compares to the bit."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.detach().contiguous().view(-1).view(torch.uint8).tolist()
    if isinstance(value, dict):
        return {key: flat(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [flat(part) for part in value]
    return value


def everything(model, optimizer, loader):
    state = [model.state_dict(), optimizer.state_dict(), [module.training for module in model.modules()]]
    gradients = [p.grad for p in model.parameters()]
    randoms = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state(), torch.rand(1)]
    own = [model.calls, list(model.seen), getattr(getattr(loader, "sampler", None), "passes", None)]
    return flat([state, gradients, randoms, own])


def spied(make_optimizer=sgd, groups=None, **options):
    """Run a test; return the rates of all groups at each step, the weights after it, and the test."""
    model = nn.Linear(2, 2)
    optimizer = make_optimizer(groups(model) if groups else model.parameters())
    rates, weights = [], []
    optimizer.register_step_post_hook(
        lambda opt, *_: (rates.append([float(g["lr"]) for g in opt.param_groups]), weights.append(model.weight.clone()))
    )
    test = clr.lr_range_test(
        model, optimizer, F.cross_entropy, plain_list(), [points()], metric=lambda out, y: model.weight.sum().item(),
        **SHORT | options,
    )  # fmt: skip
    return rates, weights, test
