"""What does an update cost in core milliseconds, and how much of that is convolutions?

    python benchmarks/core_time.py [--repeats 5] [--updates 10]

Everything runs on one thread and is measured in processor time, which other programs on the machine disturb less than
the clock. The usual loop is a DataLoader with two workers that normalises images one by one, as torchvision does,
torch.optim.SGD, torch's CyclicLR and the same net in torch's layout; its workers' time counts. Ours is the update of
`clr.training`, in float32 and, where the processor is fast in it, in bfloat16. The floor is what oneDNN takes for the
convolutions of an update alone, forward and backward on the same shapes. All take turns; the table has medians and
ranges.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

import clr
from clr import nets
from clr.training import machine, precision
from clr.training.update import Batches, Update

RESULTS = Path(__file__).parent / "results"
FIRST = 20  # updates before the clock starts


def init(net: str) -> str:
    return "he" if net in nets.RESNETS else "torch"


def now(device: str) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


# The usual loop.


class Pictures(Dataset):
    """Images as torchvision's CIFAR10 gives them: bytes in memory, made into PIL images and transformed one by one."""

    def __init__(self, data: clr.data.Cifar10) -> None:
        from torchvision import transforms

        self.images, self.labels = data.train.images.permute(0, 2, 3, 1).numpy(), data.train.labels.tolist()
        means = (data.channel_means / 255).tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(means, (1.0, 1.0, 1.0))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def usual(net: str, data: clr.data.Cifar10, updates: int, device: str) -> float:
    """Return the updates per second of the usual loop."""
    model = nets.NETS[net](init(net)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0025, momentum=0.9, weight_decay=0.004)
    scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.0025, 0.01, step_size_up=2000, cycle_momentum=False)
    loader = DataLoader(Pictures(data), batch_size=100, shuffle=True, num_workers=2, persistent_workers=True)
    k, start = 0, 0.0
    while True:
        for x, y in loader:
            if k == FIRST:
                start = now(device)
            if k == FIRST + updates:
                return updates / (now(device) - start)
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            scheduler.step()
            k += 1


def usual_core_time(net: str, data: clr.data.Cifar10, updates: int) -> float:
    """Return the core seconds per update of the usual loop, its start and its workers' included."""
    before = os.times()
    usual(net, data, updates, "cpu")
    after = os.times()  # the workers have ended, so their time is there
    return sum(b - a for a, b in zip(before[:4], after[:4], strict=True)) / (FIRST + updates)


# Ours.


def new_update(net: str, data: clr.data.Cifar10, kind: str = "float32") -> Update:
    model = nets.NETS[net](init(net)).to(memory_format=torch.channels_last)
    batches = Batches(data, "cpu", 100, 0, "unit", True, None)
    optimizer = clr.CaffeSGD(model.param_groups(mults=False), lr=0.0)
    return Update(model, optimizer, batches, [0.01] * 10_000, 0, 100, precision=kind)


def core_time(work: Callable[[], Any], times: int) -> float:
    """Return the core seconds of some work, the mean of so many times."""
    start = time.thread_time()
    for _ in range(times):
        work()
    return (time.thread_time() - start) / times


def precisions(device: str) -> list[str]:
    """Return float32, and bfloat16 where the device is fast in it."""
    try:
        precision.check_fast("bfloat16", device)
    except precision.SlowPrecisionError:
        return ["float32"]
    return ["float32", "bfloat16"]


# The floor.


def convolutions(net: str) -> Callable[[], None]:
    """Return a function that makes the convolutions of an update, forward and backward, and nothing else."""
    calls = [_convolution(*shape) for shape in _shapes(net)]

    def make() -> None:
        for call in calls:
            call()

    return make


def _shapes(net: str) -> list[tuple[torch.nn.Conv2d, torch.Size, torch.Size, bool]]:
    """Return each convolution of a net with the shapes of its input and output, and whether it is not the first."""
    found: list[tuple[torch.nn.Conv2d, torch.Size, torch.Size, bool]] = []
    model = nets.NETS[net](init(net)).to(memory_format=torch.channels_last)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda layer, x, y: found.append((layer, x[0].shape, y.shape, bool(found))))
    model(torch.zeros(100, 3, 32, 32))
    return found


def _convolution(layer: torch.nn.Conv2d, x: torch.Size, y: torch.Size, inner: bool) -> Callable[[], None]:
    """Return a function that makes a convolution and its gradients; that of the input only if a layer is below."""
    images, grad = (torch.randn(shape).contiguous(memory_format=torch.channels_last) for shape in (x, y))
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    where = (list(layer.stride), list(layer.padding), [1, 1], False, [0, 0], 1)
    sizes, wanted = [y[1]], [inner, True, bias is not None]

    def call() -> None:
        torch.ops.aten.convolution(images, weight, bias, *where)
        torch.ops.aten.convolution_backward(grad, images, weight, sizes, *where, wanted)

    return call


class Timed(TorchDispatchMode):
    """Add up the core time of the calls of torch that are convolutions of the net or batch norm.

    torch's own profiler is no help here: what it notes between the tensors has the allocator fetch new memory at every
    update, which makes an update a tenth slower, outside the convolutions most of all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.thread_time()
        found = call(*args, **(kwargs or {}))
        if _is_inside(str(call), args):
            self.seconds += time.thread_time() - start
        return found


def _is_inside(call: str, args: Sequence[Any]) -> bool:
    """Return whether a call is batch norm or a convolution of the net, not the LRN's window, channel by channel."""
    by_channel = any(isinstance(part, torch.Tensor) and part.dim() == 4 and part.shape[1] == 1 for part in args)
    return "batch_norm" in call or ("convolution" in call and not by_channel)


def outside(net: str, turns: int = 9, updates: int = 4) -> tuple[float, float, float]:
    """Return the share of an update on one core that is neither convolution nor batch norm: least, median, most."""
    data, shares = clr.synthetic_cifar10(train=1000, test=10), []
    with machine.cpu_threads(1):
        machine.keep_freed_memory()
        update = new_update(net, data)
        for _ in range(turns + 1):
            whole = core_time(update, updates)
            with Timed() as timed:
                core_time(update, updates)
            shares.append(1 - timed.seconds / updates / whole)
    return min(shares[1:]), statistics.median(shares[1:]), max(shares[1:])  # the first turn is no measure


def measure(net: str, data: clr.data.Cifar10, repeats: int, updates: int) -> dict[str, list[float]]:
    """Return the core milliseconds per update of every kind, one per turn."""
    machine.keep_freed_memory()
    updaters = {f"ours, {kind}": new_update(net, data, kind) for kind in precisions("cpu")}
    floor, found = convolutions(net), {}
    for turn in range(repeats + 1):
        times = {"usual loop": usual_core_time(net, data, updates)}
        for name, update in updaters.items():
            times[name] = core_time(update, updates)
        times["convolutions alone"] = core_time(floor, updates)
        for name, seconds in times.items() if turn else ():  # the first turn is no measure
            found.setdefault(name, []).append(1000 * seconds)
    return found


def row(net: str, found: dict[str, list[float]]) -> dict[str, Any]:
    def ratio(first: str, second: str) -> float:
        return round(statistics.median(a / b for a, b in zip(found[first], found[second], strict=True)), 2)

    return {
        "net": net,
        "core ms per update (least, median, most)": {
            name: [round(v, 1) for v in (min(all_), statistics.median(all_), max(all_))] for name, all_ in found.items()
        },
        "times the usual loop": {name: ratio("usual loop", name) for name in found},
        "convolutions' share of float32": ratio("convolutions alone", "ours, float32"),
        "neither convolution nor batch norm (least, median, most)": [round(share, 3) for share in outside(net)],
    }


def show(row: dict[str, Any]) -> None:
    print(row["net"])
    for name, (least, median, most) in row["core ms per update (least, median, most)"].items():
        print(f"  {name:20}{median:7.1f} ms ({least} to {most}){row['times the usual loop'][name]:7.2f} times")
    share = row["convolutions' share of float32"]
    least, median, most = row["neither convolution nor batch norm (least, median, most)"]
    rest = f"{median:.1%} ({least:.1%} to {most:.1%})"
    print(f"  convolutions are {share:.0%} of ours in float32; outside them and batch norm {rest}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="Cifar10Quick,Cifar10Full,Cifar10ResNet8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--updates", type=int, default=10, help="per turn")
    options = parser.parse_args()
    data = clr.synthetic_cifar10(train=5000, test=100)
    rows = []
    with machine.cpu_threads(1):
        for net in options.nets.split(","):
            rows.append(row(net, measure(net, data, options.repeats, options.updates)))
            show(rows[-1])
    record = {**machine.provenance("cpu", 1), "repeats": options.repeats, "updates": options.updates, "rows": rows}
    print(record["device"])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "core_time.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
