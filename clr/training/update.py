"""The batches of a run and its update, all on the device: between evaluations nothing leaves it or comes to it.

The data set lies on the device as bytes. The images of a batch, its learning rate and the place of its loss are looked
up by a counter on the device. So on CUDA the update can be captured once, as a graph, and from then on replayed;
elsewhere the same code runs as it stands.
"""

import threading
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from clr.data import Cifar10, Split
from clr.optim import CaffeSGD
from clr.schedulers import set_lr

__all__ = ["Batches", "Update"]


class Batches:
    """A data set on the device as bytes: batch k is a gather, made into float pictures on the way.

    A training batch depends on (seed, k) alone. Pictures come out float32, (batch, 3, 32, 32), channels last.

    Args:
        pixels: "caffe" (0 to 255 minus the mean image) or "unit" (0 to 1 minus the channel means).
        reshuffle: a new order every epoch; otherwise that of the first is kept.
        test_pictures: how many, evenly spread, as an image folder has them class by class; None for all.
    """

    def __init__(
        self, data: Cifar10, device: str, size: int, seed: int, pixels: str, reshuffle: bool, test_pictures: int | None
    ) -> None:
        if size > len(data.train):
            raise ValueError(f"batch_size must be at most the {len(data.train)} training pictures, got {size}")
        self.device, self.size, self.seed, self.pixels, self.reshuffle = device, size, seed, pixels, reshuffle
        self.train_set = _resident(data.train, device)
        count = min(test_pictures or len(data.test), len(data.test))
        spread = torch.arange(count) * len(data.test) // count
        self.test_set = _resident(Split(data.test.images[spread], data.test.labels[spread]), device)
        mean = data.mean_image if pixels == "caffe" else data.channel_means.view(3, 1, 1)
        self.mean = mean.permute(1, 2, 0).contiguous().to(device)
        self.epoch, self.order = -1, torch.zeros(len(data.train), dtype=torch.int64, device=device)
        self.places = torch.arange(size, device=device)

    def __call__(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the pictures and labels of batch k."""
        self.turn(k)
        return self.gather(torch.tensor([k], device=self.device))

    def turn(self, k: int) -> None:
        """Put the order of batch k's epoch on the device, if it is not there."""
        epoch = k // (len(self.order) // self.size) if self.reshuffle else 0
        if epoch != self.epoch:
            order = np.random.RandomState([self.seed, epoch]).permutation(len(self.order))
            self.order.copy_(torch.from_numpy(order))
            self.epoch = epoch

    def gather(self, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return batch k, a tensor of one element on the device, of the epoch that is there."""
        first = k % (len(self.order) // self.size) * self.size
        index = self.order.index_select(0, first + self.places)
        images, labels = (tensor.index_select(0, index) for tensor in self.train_set)
        return self._pictures(images), labels

    def _pictures(self, images: Tensor) -> Tensor:
        pictures = images.float().sub_(self.mean)
        if self.pixels == "unit":
            pictures.mul_(1 / 255)
        return pictures.permute(0, 3, 1, 2)

    @torch.no_grad()
    def test(self, net: nn.Module, size: int = 250) -> dict[str, float]:
        """Return the mean loss and the accuracy on the test pictures."""
        net.eval()
        loss, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device, dtype=torch.int64)
        for images, labels in zip(*(tensor.split(size) for tensor in self.test_set), strict=True):
            scores = net(self._pictures(images))
            loss += F.cross_entropy(scores, labels, reduction="sum")
            right += (scores.argmax(1) == labels).sum()
        net.train()
        total = len(self.test_set[1])
        return {"test_loss": loss.item() / total, "test_accuracy": right.item() / total}


def _resident(split: Split, device: str) -> tuple[Tensor, Tensor]:
    return split.images.permute(0, 2, 3, 1).contiguous().to(device), split.labels.to(device)  # (N, 32, 32, 3)


class Update:
    """Update k of a net, called with k and its rate for k = start, start + 1, and so on.

    Args:
        optimizer: its groups have "lr_mult". With CaffeSGD the rate stays on the device; torch's optimizers are given
            it from the host, and are not captured.
        rates: the rate of every update.
        every: updates between evaluations; as many losses are kept.
    """

    WARM_UP = 3  # updates before the capture, in which cuDNN and the allocator settle
    capturing = threading.Lock()  # one thread at a time

    def __init__(
        self, net: nn.Module, optimizer: Optimizer, batches: Batches, rates: Sequence[float], start: int, every: int
    ) -> None:
        device = batches.device
        self.net, self.optimizer, self.batches, self.every = net, optimizer, batches, min(every, len(rates))
        self.made, self.k = start, torch.tensor([start], device=device)
        self.rates = torch.tensor(rates, dtype=torch.float32, device=device)
        self.losses = torch.zeros(self.every, device=device)
        self.on_device = isinstance(optimizer, CaffeSGD)
        self.lr = {group["lr_mult"]: torch.zeros((), device=device) for group in optimizer.param_groups}
        if self.on_device:
            for group in optimizer.param_groups:
                group["lr"] = self.lr[group["lr_mult"]]
        self.settled, self.captures = start + self.WARM_UP, self.on_device and self.k.is_cuda
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, k: int, rate: float) -> None:
        """Make update k."""
        self.batches.turn(k)
        if not self.on_device:
            for group in self.optimizer.param_groups:
                set_lr(group, rate * group["lr_mult"])
        if self.graph is None and self.captures and k >= self.settled:
            self._capture()
        if self.graph is not None:
            self.graph.replay()
        else:
            first_on_cuda = self.k.is_cuda and k < self.settled  # sets libraries up, which no capture beside it bears
            with self.capturing if first_on_cuda else nullcontext():
                self._make()
        self.made = k + 1

    def release(self) -> None:
        """Let go of the graph; not while another thread captures one."""
        with self.capturing:
            self.graph = None

    def train_loss(self) -> float:
        """Return the mean loss of the updates since the last evaluation."""
        return self.losses[: (self.made - 1) % self.every + 1].cpu().double().mean().item()

    def _make(self) -> None:
        rate = self.rates.index_select(0, self.k).squeeze()
        for multiplier, lr in self.lr.items():
            lr.copy_(rate * multiplier)
        pictures, labels = self.batches.gather(self.k)
        loss = F.cross_entropy(self.net(pictures), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.index_copy_(0, self.k % self.every, loss.detach().view(1))
        self.k.add_(1)

    def _capture(self) -> None:
        """Record the update's kernels, without running them. The gradients that it makes stay the graph's own."""
        self.optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        with self.capturing, torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._make()
        self.graph = graph
