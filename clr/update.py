"""One update of a run, all of it on the device: between evaluations nothing goes to the host or comes from it.

The pictures of a batch, its learning rate and the place of its loss are looked up by a counter on the device. So on
CUDA the update can be captured once, as a graph, and from then on replayed; elsewhere the same code runs as it stands.
"""

import threading
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from clr.batches import Batches
from clr.optim import CaffeSGD

__all__ = ["Update"]


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
                group["lr"] = rate * group["lr_mult"]
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
