"""The batches of a run and its update, all on the device: between evaluations, only a checkpoint is copied.

The data set lies on the device as bytes. A counter on the device selects the images of a batch, its learning rate and
the place of its loss. So on CUDA the update can be captured once, as a graph, and then replayed. Elsewhere the same
code runs directly.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from clr.data import Cifar10, Split
from clr.groups import set_lr
from clr.optim import CaffeSGD
from clr.training import cuda
from clr.training.precision import scores

__all__ = ["LAYOUT", "Batches", "Update"]

LAYOUT = {"cpu": torch.channels_last, "cuda": torch.channels_last}  # benchmarks/first_gpu.py times both on CUDA


class Batches:
    """A data set on the device, as bytes. A batch is selected by index and then made into float images.

    A training batch depends on (seed, k) alone. Images are float32, (batch, 3, 32, 32), channels last; labels are
    int64, (batch,).

    Args:
        device: a torch device.
        size: images per training batch.
        pixels: "caffe" (0 to 255 minus the mean image) or "unit" (0 to 1 minus the channel means).
        reshuffle: a new order every epoch; otherwise every epoch has the order of the first.
        test_pictures: how many, evenly spread, because an image folder is sorted by class; None for all.

    Raises:
        ValueError: a batch is larger than the training set.
    """

    def __init__(
        self, data: Cifar10, device: str, size: int, seed: int, pixels: str, reshuffle: bool, test_pictures: int | None
    ) -> None:
        if size > len(data.train):
            raise ValueError(f"batch_size must be at most the {len(data.train)} training pictures, got {size}")
        self.device, self.size, self.seed, self.pixels, self.reshuffle = device, size, seed, pixels, reshuffle
        self.train_set = _resident(data, None, device)
        self.test_set = _resident(data, min(test_pictures or len(data.test), len(data.test)), device)
        mean = data.mean_image if pixels == "caffe" else data.channel_means.view(3, 1, 1)
        self.mean = mean.permute(1, 2, 0).contiguous().to(device)
        self.epoch, self.permutation = -1, torch.zeros(len(data.train), dtype=torch.int64, device=device)
        self.offsets = torch.arange(size, device=device)

    def __call__(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the images and labels of batch k."""
        self.set_epoch_of(k)
        return self.get_batch(torch.tensor([k], device=self.device))

    def set_epoch_of(self, k: int) -> None:
        """Copy the order of batch k's epoch to the device, unless it is there."""
        epoch = k // (len(self.permutation) // self.size) if self.reshuffle else 0
        if epoch != self.epoch:
            order = np.random.RandomState([self.seed, epoch]).permutation(len(self.permutation))
            self.permutation.copy_(torch.from_numpy(order))
            self.epoch = epoch

    def get_batch(self, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return batch k of the present epoch; k is a tensor of one element on the device."""
        first = k % (len(self.permutation) // self.size) * self.size
        index = self.permutation.index_select(0, first + self.offsets)
        images, labels = (tensor.index_select(0, index) for tensor in (self.train_set.images, self.train_set.labels))
        return self._normalize(images), labels

    def _normalize(self, images: Tensor) -> Tensor:  # uint8, (N, 32, 32, 3)
        floats = images.float().sub_(self.mean)
        if self.pixels == "unit":
            floats.mul_(1 / 255)
        layout = LAYOUT[floats.device.type]
        return floats.permute(0, 3, 1, 2).contiguous(memory_format=layout)  # (N, 3, 32, 32)

    @torch.no_grad()
    def evaluate(self, net: nn.Module, size: int = 250, precision: str = "float32") -> dict[str, float]:
        """Return the mean loss and the accuracy on the test images, `size` of them at a time."""
        test, total = self.test_set, len(self.test_set.labels)
        with cuda.shared(self.device):
            net.eval()
            loss, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device, dtype=torch.int64)
            for images, labels in zip(test.images.split(size), test.labels.split(size), strict=True):
                found = scores(net, self._normalize(images), precision)
                loss += F.cross_entropy(found, labels, reduction="sum")
                right += (found.argmax(1) == labels).sum()
            net.train()
            return {"test_loss": loss.item() / total, "test_accuracy": right.item() / total}


@dataclass(frozen=True, eq=False)
class _Resident:
    """Images on a device, uint8, (N, 32, 32, 3), and their labels, int64, (N,)."""

    images: Tensor
    labels: Tensor


_residents: WeakKeyDictionary[Cifar10, WeakValueDictionary] = WeakKeyDictionary()  # while a run uses them
_upload_lock = threading.Lock()


def _resident(data: Cifar10, test_count: int | None, device: str) -> _Resident:
    """Return the training images, or so many test images, on a device; the runs of a process share them."""
    with _upload_lock:
        residents = _residents.setdefault(data, WeakValueDictionary())
        resident = residents.get((device, test_count))
        if resident is None:
            split = data.train if test_count is None else _spread(data.test, test_count)
            resident = residents[device, test_count] = _to_device_nhwc(split, device)
    return resident


def _spread(split: Split, count: int) -> Split:
    """Return so many images of a split, evenly spread."""
    index = torch.arange(count) * len(split) // count
    return Split(split.images[index], split.labels[index])


def _to_device_nhwc(split: Split, device: str) -> _Resident:
    resident = _Resident(split.images.permute(0, 2, 3, 1).contiguous().to(device), split.labels.to(device))
    if resident.images.is_cuda:
        torch.cuda.current_stream().synchronize()  # the streams of other threads read them next
    return resident


class Update:
    """Make the updates of a run, one per call.

    Args:
        optimizer: its groups have "lr_mult". With CaffeSGD the rate stays on the device. torch's optimizers take it
            from the host, and their updates are not captured.
        rates: the rate of every update.
        start: the first update.
        every: updates between evaluations; so many losses are kept.
        losses: those of the updates since the last evaluation, where the start is not one.
        precision: of the forward and backward pass.
    """

    WARM_UP = 3  # updates before the capture, in which cuDNN and the allocator settle

    def __init__(
        self, net: nn.Module, optimizer: Optimizer, batches: Batches, rates: Sequence[float], start: int, every: int,
        losses: Sequence[float] = (), precision: str = "float32",
    ) -> None:  # fmt: skip
        device = batches.device
        self.parameters = list(net.parameters())
        self.net, self.optimizer, self.batches, self.every = net, optimizer, batches, min(every, len(rates))
        self.precision = precision
        self.updates_done, self.k = start, torch.tensor([start], device=device)
        self.host_rates, self.rates = rates, torch.tensor(rates, dtype=torch.float32, device=device)
        self.losses = torch.zeros(self.every, device=device)
        self.losses[: len(losses)] = torch.tensor(losses)
        self.rate_on_device = isinstance(optimizer, CaffeSGD)
        self.lr = {group["lr_mult"]: torch.zeros((), device=device) for group in optimizer.param_groups}
        if self.rate_on_device:
            for group in optimizer.param_groups:
                group["lr"] = self.lr[group["lr_mult"]]
        self.warmup_end = start + self.WARM_UP
        self.use_graph = self.rate_on_device and self.k.is_cuda and cuda.use_graphs()
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Make the next update."""
        k = self.updates_done
        with (cuda.alone if k <= self.warmup_end else cuda.shared)(self.batches.device):
            self.batches.set_epoch_of(k)
            if not self.rate_on_device:
                self._set_host_lr(k)
            if self.use_graph and k == self.warmup_end:
                self._capture()
            if self.graph is not None:
                self.graph.replay()
            else:
                self._eager_update()
        self.updates_done = k + 1

    def release(self) -> None:
        """Free the graph; not while another thread captures one."""
        with cuda.shared(self.batches.device):
            self.graph = None

    def losses_since_row(self) -> list[float]:
        """Return the losses of the updates since the last multiple of `every`."""
        with cuda.shared(self.batches.device):
            return self.losses[: self.updates_done % self.every].tolist()

    def train_loss(self) -> float:
        """Return the mean loss of the updates since the last evaluation."""
        with cuda.shared(self.batches.device):
            return self.losses[: (self.updates_done - 1) % self.every + 1].cpu().double().mean().item()

    def _set_host_lr(self, k: int) -> None:
        for group in self.optimizer.param_groups:
            set_lr(group, self.host_rates[k] * group["lr_mult"])

    def _eager_update(self) -> None:
        rate = self.rates.index_select(0, self.k).squeeze()
        for multiplier, lr in self.lr.items():
            lr.copy_(rate * multiplier)
        images, labels = self.batches.get_batch(self.k)
        loss = F.cross_entropy(scores(self.net, images, self.precision), labels)
        self._drop_gradients()
        loss.backward()
        self.optimizer.step()
        self.losses.index_copy_(0, self.k % self.every, loss.detach().view(1))
        self.k.add_(1)

    def _capture(self) -> None:
        """Record the update as a graph. The gradients made here belong to it; where it fails, they go."""
        self._drop_gradients()
        self.graph = cuda.capture(self._eager_update)
        if self.graph is None:
            self._drop_gradients()

    def _drop_gradients(self) -> None:
        """Do what `zero_grad` does; torch's own imports torch's compiler at its first call, which takes a second."""
        for parameter in self.parameters:
            parameter.grad = None
