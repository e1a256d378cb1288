"""The range test of the experiment `resnet`: one `clr.find_bounds` at its defaults, made before any of its runs.

    CLR_DATA=pictures python -m tools.resnet_bounds

trains on nine tenths of the training images, looks at the other tenth, and writes the bounds with all curves to
`results/<data set>/resnet/bounds.json`. The test images are not looked at. The catalogue's five policies are what
`bounds.policy(name, iterations=8000)` returns.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import clr
from clr import paths
from clr.data import Cifar10, Split
from clr.experiments import EXPERIMENTS
from clr.nets import NETS
from clr.optim import SOLVERS
from clr.training import RunConfig, machine

__all__ = ["CONFIG", "bounds_path", "find", "write"]

CONFIG: RunConfig = EXPERIMENTS["resnet"].arms["fixed-0.1"]  # net, solver and batches are those of every arm
HOLD_OUT_EVERY = 10


def bounds_path(dataset: str) -> Path:
    """Return where the bounds of a data set lie: beside the runs."""
    return paths.home() / "results" / dataset / "resnet" / "bounds.json"


def find(data: Cifar10) -> clr.Bounds:
    """Return the bounds of the residual net, from five curves with their own initial weights and order of batches."""
    data = data.hold_out(HOLD_OUT_EVERY)
    mean = data.channel_means.view(3, 1, 1)
    with machine.cpu_threads(1):
        return clr.find_bounds(
            _new, None, nn.functional.cross_entropy, *(_loader(s, mean) for s in (data.train, data.test))
        )


def _new() -> tuple[nn.Module, torch.optim.Optimizer]:
    net = NETS[CONFIG.net](CONFIG.init)
    groups = net.param_groups(CONFIG.weight_decay, CONFIG.mults)  # type: ignore[operator]
    return net, SOLVERS[CONFIG.optimizer](groups, lr=0.1, momentum=CONFIG.momentum)


def _loader(split: Split, mean: Tensor) -> DataLoader:
    def collate(examples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        images, labels = (torch.stack(part) for part in zip(*examples, strict=True))
        return (images - mean) / 255, labels

    return DataLoader(TensorDataset(split.images, split.labels), CONFIG.batch_size, shuffle=True, collate_fn=collate)


def write() -> None:
    """Find the bounds on the data set of `load_cifar10`, write them and print the verdict."""
    data = clr.load_cifar10()
    bounds = find(data)
    path = bounds_path(data.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    bounds.to_json(path)
    print(bounds, path, sep="\n")


if __name__ == "__main__":
    write()
