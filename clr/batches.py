"""The batches of a run: the data set on the device as bytes, made into float pictures a batch at a time.

Looked up by a number on the device, so that a captured update can make them itself (`clr.update`).
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clr.data import Cifar10, Split

__all__ = ["Batches"]


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
