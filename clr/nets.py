"""The four CIFAR-10 nets of Caffe's examples, layer for layer, and the names of all nets.

Source: BVLC/caffe, examples/cifar10/cifar10_{quick,full,full_sigmoid,full_sigmoid_bn} (train_test and solver
prototxts). Each net is a list of named layers in prototxt order. Two layers that torch lacks are defined here: LRN
within a channel, and batch norm with Caffe's statistics. Tests compare every layer and gradient with real Caffe.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clr import _checks
from clr.resnet import Cifar10ResNet, default_device

__all__ = [
    "NETS", "RESNETS", "Cifar10Full", "Cifar10FullSigmoid", "Cifar10FullSigmoidBN", "Cifar10Quick", "Cifar10ResNet",
    "WithinChannelLRN",
]  # fmt: skip


class _LRN(torch.autograd.Function):
    """x * scale^-beta with scale = 1 + alpha * window mean of x^2, and the gradient written out.

    Half precision is widened to float32 inside: alpha is below what it can add to 1.
    """

    @staticmethod
    def forward(ctx: Any, narrow: Tensor, size: int, alpha: float, beta: float) -> Tensor:
        x = _wide(narrow)
        scale = _window_mean(x * x, size, alpha, 1.0)
        if beta == 0.75:  # Caffe's: two square roots are faster than a power
            root = scale.rsqrt()
            power = root.sqrt().mul_(root)
        else:
            power = scale**-beta
        ctx.save_for_backward(x, scale, power)
        ctx.size, ctx.slope = size, -2 * alpha * beta
        return (x * power).to(narrow.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # only with create_graph=True
            raise RuntimeError("WithinChannelLRN has no second derivative: create_graph must be False")
        x, scale, power = ctx.saved_tensors
        direct = _wide(grad) * power
        shared = _window_mean((direct * x).div_(scale), ctx.size)  # each value stands in its neighbours' windows
        return direct.addcmul_(x, shared, value=ctx.slope).to(grad.dtype), None, None, None


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _window_mean(x: Tensor, size: int, times: float = 1.0, plus: float = 0.0) -> Tensor:
    """Return times * mean + plus, the mean over the zero-padded window around every position, divided by size^2."""
    if x.device.type != "cpu":
        return F.avg_pool2d(x, size, stride=1, padding=size // 2).mul_(times).add_(plus)
    channels = x.size(-3)  # on a CPU a convolution channel by channel is three times as fast as the pool
    weight, bias = x.new_full((channels, 1, size, size), times / size**2), x.new_full((channels,), plus)
    with torch.autocast("cpu", enabled=False):
        return F.conv2d(x, weight, bias, padding=size // 2, groups=channels)


class WithinChannelLRN(nn.Module):
    """Divide every value by a power of the mean square in its own channel's `size` x `size` window.

    y = x / (1 + alpha * mean(x^2)) ^ beta, the mean taken over the zero-padded window and always divided by
    size^2, also at the border (Caffe's LRN with norm_region WITHIN_CHANNEL). Shape: (N, C, H, W), unchanged.

    >>> WithinChannelLRN(size=3, alpha=9.0, beta=1.0)(torch.ones(1, 1, 1, 1)).item()
    0.5
    """

    def __init__(self, size: int = 3, alpha: float = 5e-5, beta: float = 0.75) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise ValueError(f"size must be a positive odd integer, got {size!r}")
        _checks.nonnegative("alpha", alpha)
        _checks.nonnegative("beta", beta)
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised values; they have a first derivative only."""
        return _LRN.apply(x, self.size, self.alpha, self.beta)

    def extra_repr(self) -> str:
        """Return the settings that torch prints with the layer."""
        return f"size={self.size}, alpha={self.alpha}, beta={self.beta}"


class CaffeBatchNorm(nn.Module):
    """Batch normalisation with Caffe's statistics and without scale or shift.

    Caffe sums S <- .999 S + mean, counts f <- .999 f + 1, and tests with S / f. That is a moving average with weight
    .001 that starts at zero, corrected for its start: `running_mean / weight`. The variance (unbiased, as in torch)
    is treated alike. Before the first training batch all statistics are zero, and y = x / sqrt(eps).
    """

    momentum, eps = 0.001, 1e-5
    running_mean: Tensor
    running_var: Tensor
    weight: Tensor  # of the batches seen: 1 - .999^n

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.zeros(channels))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the batch's statistics in training, by the moving averages otherwise."""
        if self.training:
            self.weight.mul_(1 - self.momentum).add_(self.momentum)
            return F.batch_norm(x, self.running_mean, self.running_var, None, None, True, self.momentum, self.eps)
        seen = self.weight.clamp(min=torch.finfo(self.weight.dtype).tiny)
        return F.batch_norm(x, self.running_mean / seen, self.running_var / seen, eps=self.eps)


@dataclass(frozen=True)
class ParamSpec:
    """One parameter's settings in a prototxt: its filler's std (0 for a bias), its multipliers of rate and decay."""

    std: float
    lr_mult: float = 1.0
    decay_mult: float = 1.0


class CaffeNet(nn.Sequential):
    """A net of named layers, fed (N, 3, 32, 32) float images and returning (N, 10) scores.

    Args:
        init: "caffe" draws the prototxt's Gaussian fillers (biases 0), made for pixels of 0 to 255 minus the mean
            image; "torch" draws torch's default, uniform in +-1/sqrt(fan_in), made for pixels of about unit size.
        generator: source of the initial weights; torch's global one if None.
    """

    param_specs: ClassVar[dict[str, ParamSpec]]  # in prototxt order, by parameter name
    weight_decay: float  # the solver's own

    def __init__(self, init: str = "caffe", generator: torch.Generator | None = None) -> None:
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, got {_checks.brief(generator)}")
        super().__init__(self._layers())
        self.reset_parameters(init, generator)

    def _layers(self) -> OrderedDict[str, nn.Module]:
        raise NotImplementedError

    @torch.no_grad()
    def reset_parameters(self, init: str, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew, in prototxt order."""
        _checks.choice("init", init, ("caffe", "torch"))
        for name, parameter in self.named_parameters():
            if init == "torch":
                bound = self.get_parameter(name.replace("bias", "weight"))[0].numel() ** -0.5
                parameter.uniform_(-bound, bound, generator=generator)
            elif std := self.param_specs[name].std:
                parameter.normal_(0, std, generator=generator)
            else:
                parameter.zero_()

    def param_groups(self, weight_decay: float | None = None, mults: bool = True) -> list[dict[str, Any]]:
        """Return one optimizer group per parameter, in prototxt order, with "name", "lr_mult" and "weight_decay".

        Args:
            weight_decay: multiplied by each parameter's decay multiplier; None for the solver's own.
            mults: False leaves the prototxt's multipliers out: one rate and one decay for all parameters.
        """
        decay = self.weight_decay if weight_decay is None else weight_decay
        _checks.nonnegative("weight_decay", decay)
        _checks.boolean("mults", mults)
        return [
            {
                "params": [self.get_parameter(name)],
                "name": name,
                "lr_mult": spec.lr_mult if mults else 1.0,
                "weight_decay": decay * (spec.decay_mult if mults else 1.0),
            }
            for name, spec in self.param_specs.items()
        ]


def _conv(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.utils.skip_init(nn.Conv2d, inputs, outputs, kernel_size=5, padding=2, bias=bias, device=default_device())


def _inner_product(inputs: int, outputs: int) -> nn.Linear:
    return nn.utils.skip_init(nn.Linear, inputs, outputs, device=default_device())


def _max_pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)  # Caffe rounds pooling sizes up: 32, 16, 8, 4


def _ave_pool() -> nn.AvgPool2d:
    return nn.AvgPool2d(3, 2, ceil_mode=True)  # the divisor at the border is the clipped window, as in Caffe


class Flatten(nn.Flatten):
    """Flatten in Caffe's order, channel by channel; the gradient comes back in the memory layout of what was flattened.

    Otherwise the pool below it takes six times as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C * H * W) for (N, C, H, W)."""
        if x.requires_grad and x.is_contiguous(memory_format=torch.channels_last):
            x.register_hook(lambda grad: grad.contiguous(memory_format=torch.channels_last))
        return super().forward(x)


class Cifar10Quick(CaffeNet):
    """cifar10_quick: three convolutions, two inner products without a ReLU between, 145,578 parameters."""

    weight_decay = 0.004
    param_specs: ClassVar = {
        "conv1.weight": ParamSpec(1e-4),
        "conv1.bias": ParamSpec(0, lr_mult=2),
        "conv2.weight": ParamSpec(0.01),
        "conv2.bias": ParamSpec(0, lr_mult=2),
        "conv3.weight": ParamSpec(0.01),
        "conv3.bias": ParamSpec(0, lr_mult=2),
        "ip1.weight": ParamSpec(0.1),
        "ip1.bias": ParamSpec(0, lr_mult=2),
        "ip2.weight": ParamSpec(0.1),
        "ip2.bias": ParamSpec(0, lr_mult=2),
    }

    def _layers(self) -> OrderedDict[str, nn.Module]:
        return OrderedDict(
            conv1=_conv(3, 32),  # (N, 32, 32, 32)
            pool1=_max_pool(),  # (N, 32, 16, 16)
            relu1=nn.ReLU(),
            conv2=_conv(32, 32),
            relu2=nn.ReLU(),
            pool2=_ave_pool(),  # (N, 32, 8, 8)
            conv3=_conv(32, 64),
            relu3=nn.ReLU(),
            pool3=_ave_pool(),  # (N, 64, 4, 4)
            flatten=Flatten(),
            ip1=_inner_product(1024, 64),
            ip2=_inner_product(64, 10),
        )


class Cifar10Full(CaffeNet):
    """cifar10_full, the paper's CIFAR-10 net: LRN after two pools, one inner product, 89,578 parameters."""

    weight_decay = 0.004
    param_specs: ClassVar = {
        "conv1.weight": ParamSpec(1e-4),
        "conv1.bias": ParamSpec(0, lr_mult=2),
        "conv2.weight": ParamSpec(0.01),
        "conv2.bias": ParamSpec(0, lr_mult=2),
        "conv3.weight": ParamSpec(0.01),  # conv3 has no param block in the prototxt: 1 and 1
        "conv3.bias": ParamSpec(0),
        "ip1.weight": ParamSpec(0.01, decay_mult=250),
        "ip1.bias": ParamSpec(0, lr_mult=2, decay_mult=0),
    }

    def _layers(self) -> OrderedDict[str, nn.Module]:
        return OrderedDict(
            conv1=_conv(3, 32),
            pool1=_max_pool(),
            relu1=nn.ReLU(),
            norm1=WithinChannelLRN(),
            conv2=_conv(32, 32),
            relu2=nn.ReLU(),
            pool2=_ave_pool(),
            norm2=WithinChannelLRN(),
            conv3=_conv(32, 64),
            relu3=nn.ReLU(),
            pool3=_ave_pool(),
            flatten=Flatten(),
            ip1=_inner_product(1024, 10),
        )


class Cifar10FullSigmoid(CaffeNet):
    """cifar10_full_sigmoid: sigmoids for ReLUs, no LRN, no weight decay, 89,578 parameters."""

    weight_decay = 0.0
    param_specs: ClassVar = Cifar10Full.param_specs | {"ip1.weight": ParamSpec(0.01, decay_mult=0)}

    def _layers(self) -> OrderedDict[str, nn.Module]:
        return OrderedDict(
            conv1=_conv(3, 32),
            pool1=_max_pool(),
            sigmoid1=nn.Sigmoid(),
            conv2=_conv(32, 32),
            sigmoid2=nn.Sigmoid(),
            pool2=_ave_pool(),
            conv3=_conv(32, 64),
            sigmoid3=nn.Sigmoid(),
            pool3=_ave_pool(),
            flatten=Flatten(),
            ip1=_inner_product(1024, 10),
        )


class Cifar10FullSigmoidBN(CaffeNet):
    """cifar10_full_sigmoid_bn: convolutions without bias, batch norm before each sigmoid, 89,450 parameters."""

    weight_decay = 0.0
    param_specs: ClassVar = {
        "conv1.weight": ParamSpec(1e-4),
        "conv2.weight": ParamSpec(0.01),
        "conv3.weight": ParamSpec(0.01),
        "ip1.weight": ParamSpec(0.01),
        "ip1.bias": ParamSpec(0, decay_mult=0),
    }

    def _layers(self) -> OrderedDict[str, nn.Module]:
        return OrderedDict(
            conv1=_conv(3, 32, bias=False),
            pool1=_max_pool(),
            bn1=CaffeBatchNorm(32),
            sigmoid1=nn.Sigmoid(),
            conv2=_conv(32, 32, bias=False),
            bn2=CaffeBatchNorm(32),
            sigmoid2=nn.Sigmoid(),
            pool2=_ave_pool(),
            conv3=_conv(32, 64, bias=False),
            bn3=CaffeBatchNorm(64),
            sigmoid3=nn.Sigmoid(),
            pool3=_ave_pool(),
            flatten=Flatten(),
            ip1=_inner_product(1024, 10),
        )


RESNETS: dict[str, Callable[..., Cifar10ResNet]] = {
    f"Cifar10ResNet{depth}": partial(Cifar10ResNet, depth) for depth in (8, 20, 56)
}
NETS: dict[str, Callable[..., nn.Module]] = {  # by name, each called with (init, generator)
    **{net.__name__: net for net in (Cifar10Quick, Cifar10Full, Cifar10FullSigmoid, Cifar10FullSigmoidBN)},
    **RESNETS,
}
