"""The residual nets for CIFAR-10 of He et al. (arXiv:1512.03385, section 4.2).

Depth 6n + 2: a convolution, three stages of n blocks at widths 16, 32, 64, and one linear layer. All convolutions are
3 x 3 without bias, each with batch norm. Where the width grows, the shortcut takes every second pixel and adds channels
of zeros, so shortcuts have no parameters ("option A").
"""

import operator
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clr import _checks

__all__ = ["Cifar10ResNet", "default_device"]


class Block(nn.Module):
    """Two convolutions and a shortcut around them: relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride, self.extra = outputs // inputs, outputs - inputs
        self.conv1, self.bn1 = _conv(inputs, outputs, self.stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _conv(outputs, outputs), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) for (N, inputs, H, W)."""
        out = self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x)))))
        if self.stride > 1:  # every second pixel, by a pool of one: unlike a slice's, its gradient keeps the layout
            x = F.pad(F.avg_pool2d(x, 1, self.stride), (0, 0, 0, 0, 0, self.extra))
        return F.relu_(out.add_(x))


class Cifar10ResNet(nn.Sequential):
    """A residual net, fed (N, 3, 32, 32) float images and returning (N, 10) scores.

    It has 75,290 parameters at depth 8, 269,722 at 20 and 853,018 at 56.

    Args:
        depth: 6n + 2: 8, 14, 20, ...
        init: "he" alone: normal weights of variance 2 / fan-in, biases 0 (He et al., arXiv:1502.01852).
        generator: source of the initial weights; torch's global one if None.
    """

    weight_decay = 1e-4  # the paper's

    def __init__(self, depth: int = 8, init: str = "he", generator: torch.Generator | None = None) -> None:
        blocks = _blocks_per_stage(depth)
        _checks.choice("init", init, ("he",))
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, got {_checks.brief(generator)}")
        super().__init__(
            OrderedDict(
                conv1=_conv(3, 16),
                bn1=nn.BatchNorm2d(16),
                relu=nn.ReLU(inplace=True),
                stage1=_stage(16, 16, blocks),  # (N, 16, 32, 32)
                stage2=_stage(16, 32, blocks),  # (N, 32, 16, 16)
                stage3=_stage(32, 64, blocks),  # (N, 64, 8, 8)
                pool=nn.AvgPool2d(8),
                flatten=nn.Flatten(),
                fc=nn.utils.skip_init(nn.Linear, 64, 10, device=default_device()),
            )
        )
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights of all convolutions and of the linear layer anew, from the first layer to the last."""
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.weight.normal_(0, (2 / layer.weight[0].numel()) ** 0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()

    def param_groups(self, weight_decay: float | None = None, mults: bool = False) -> list[dict[str, Any]]:
        """Return one optimizer group of all parameters, with "name", "lr_mult" 1 and "weight_decay".

        Args:
            weight_decay: of all parameters, those of batch norm included, as in the paper; None for its 0.0001.
            mults: False alone: multipliers per parameter are Caffe's.
        """
        decay = _checks.nonnegative("weight_decay", self.weight_decay if weight_decay is None else weight_decay)
        if _checks.boolean("mults", mults):
            raise ValueError("mults must be False for a residual net, which has no prototxt, got True")
        return [{"params": list(self.parameters()), "name": "all", "lr_mult": 1.0, "weight_decay": decay}]


def _blocks_per_stage(depth: Any) -> int:
    try:
        blocks, rest = divmod(-1 if isinstance(depth, bool) else operator.index(depth) - 2, 6)
    except TypeError:
        blocks, rest = 0, 0
    if blocks < 1 or rest:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), got {_checks.brief(depth)}")
    return blocks


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Block(inputs if i == 0 else outputs, outputs) for i in range(blocks)))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.utils.skip_init(
        nn.Conv2d, inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False, device=default_device()
    )


def default_device() -> torch.device:
    """Return the default device, which `skip_init` leaves out; torch 2.7 has it wrong within `with torch.device`."""
    return torch.empty(0).device
