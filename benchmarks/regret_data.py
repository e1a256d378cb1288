"""The data of the tasks of `range_test_regret.py`: training inputs and targets, held-out inputs and targets.

Only `cifar` needs files (`CLR_DATA`); the digits come with scikit-learn and the rest is generated.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Data = tuple[Tensor, Tensor, Tensor, Tensor]  # training inputs and targets, held-out inputs and targets


@cache
def digits() -> Data:
    """Return scikit-learn's 8 x 8 digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))
    x = torch.tensor(data.images[order] / 16 - 0.3, dtype=torch.float32)[:, None]
    y = torch.tensor(data.target[order])
    return x[:1297], y[:1297], x[1297:], y[1297:]


def noisy_digits() -> Data:
    """Return the digits, with 40% of the training labels replaced by random ones."""
    x, y, held_x, held_y = digits()
    random = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(y), generator=random) < 0.4
    return x, torch.where(wrong, torch.randint(0, 10, y.shape, generator=random), y), held_x, held_y


def some_digits(low: int, high: int) -> Data:
    """Return the digits low to high - 1, as the classes 0, 1, ..."""
    x, y, held_x, held_y = digits()
    keep, held = (y >= low) & (y < high), (held_y >= low) & (held_y < high)
    return x[keep], y[keep] - low, held_x[held], held_y[held] - low


def pixels() -> Data:
    """Return the digits as inputs and targets of an autoencoder."""
    x, _, held_x, _ = digits()
    return x.flatten(1), x.flatten(1), held_x.flatten(1), held_x.flatten(1)


@cache
def sequences() -> Data:
    """Return sequences of eight symbols; the target is the symbol that follows the one mark."""
    random = np.random.RandomState(0)
    x = random.randint(0, 8, (6000, 8))
    place = random.randint(0, 7, 6000)
    x[np.arange(6000), place] = 8
    y = x[np.arange(6000), place + 1]
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    return x[:5500], y[:5500], x[5500:], y[5500:]


@cache
def characters() -> Data:
    """Return texts of a Markov chain of order two over 12 symbols; the targets are the next symbols."""
    random = np.random.RandomState(1)
    chance = random.dirichlet(np.full(12, 0.1), (12, 12)).cumsum(-1)
    text = random.randint(0, 12, (2500, 17))
    for k in range(2, 17):
        draws = random.rand(2500, 1)
        text[:, k] = (draws > chance[text[:, k - 2], text[:, k - 1]]).sum(1).clip(max=11)
    text = torch.from_numpy(text)
    return text[:2200, :-1], text[:2200, 1:], text[2200:, :-1], text[2200:, 1:]


@cache
def friedman() -> Data:
    """Return Friedman's first regression problem, with ten inputs and noise of standard deviation one."""
    random = torch.Generator().manual_seed(1)
    x = torch.rand(2000, 10, generator=random)
    y = 10 * torch.sin(torch.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y = (y + torch.randn(2000, generator=random))[:, None]
    return x[:1000], y[:1000], x[1000:], y[1000:]


@cache
def documents() -> Data:
    """Return bags of 30 words out of 2,000; the target is the one of eight topics that a third of them come from."""
    random = np.random.RandomState(2)
    topic = random.randint(0, 8, 5000)
    own, common = random.randint(0, 250, (5000, 30)) + 250 * topic[:, None], random.randint(0, 2000, (5000, 30))
    words = np.where(random.rand(5000, 30) < 0.33, own, common)
    x, y = torch.from_numpy(words), torch.from_numpy(topic)
    return x[:4000], y[:4000], x[4000:], y[4000:]


@cache
def rare() -> Data:
    """Return 20 inputs of which a quadratic form decides the class; 3% are positive."""
    random = np.random.RandomState(3)
    x = random.randn(12_000, 20)
    score = (x @ random.randn(20, 4)) ** 2 @ np.array([1, 1, -1, -1]) / 8 + x[:, 0] + 0.5 * random.randn(12_000)
    y = (score > np.quantile(score, 0.97)).astype(int)
    x, y = torch.tensor(x, dtype=torch.float32), torch.from_numpy(y)
    return x[:9000], y[:9000], x[9000:], y[9000:]


@cache
def cifar(held_out: int, half: bool) -> Data:
    """Return 20,000 training and some test pictures of CIFAR-10, between 0 and 1, less the channel means."""
    import clr

    data = clr.load_cifar10()
    mean = data.channel_means.view(3, 1, 1)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:20_000]
    parts: list[Tensor] = []
    for split, index in ((data.train, order), (data.test, torch.arange(0, 10_000, 10_000 // held_out))):
        x = (split.images[index].float() - mean) / 255
        parts += [F.avg_pool2d(x, 2) if half else x.contiguous(memory_format=torch.channels_last), split.labels[index]]
    return tuple(parts)  # type: ignore[return-value]
