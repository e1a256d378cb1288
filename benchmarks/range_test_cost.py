"""What do range tests cost? Against the bare training loop, and against torch-lr-finder, in one run.

    python benchmarks/range_test_cost.py

1. A bare update: a small net (digits-sized MLP), 500 updates, evaluated only at the end on one batch. The bare loop
   makes the same updates and one such evaluation. The two take turns, and turns at going first. Two numbers: the median
   of the pairs' ratios, and the ratio of the least times, which a busy machine disturbs less.
2. `find_bounds` with its defaults, against torch-lr-finder's 100 iterations on the same model (one curve, no
   evaluation, no seeds), for Caffe's quick net and the MLP. Without torch-lr-finder this part is left out.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import clr

UPDATES, PAIRS, TURNS = 500, 41, 3


def bare(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list) -> None:
    rates = [0.1 * k / UPDATES for k in range(UPDATES)]
    for k in range(UPDATES):
        x, y = batches[k % len(batches)]
        optimizer.param_groups[0]["lr"] = rates[k]
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        (model(batches[0][0]).argmax(1) == batches[0][1]).sum().item()


def tested(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list) -> None:
    clr.lr_range_test(
        model, optimizer, F.cross_entropy, batches, batches[:1], start_lr=0, end_lr=0.1, iterations=UPDATES,
        eval_every=UPDATES, eval_batches=1, progress=False,
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def seconds(run: Callable[..., None]) -> float:
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = [(torch.randn(128, 64), torch.randint(10, (128,))) for _ in range(20)]
    began = time.process_time()
    run(model, optimizer, batches)
    return time.process_time() - began


def overhead() -> dict[str, float]:
    """Return the cost of a bare update in a range test."""
    seconds(bare), seconds(tested)
    pairs = []
    for i in range(PAIRS):
        turns = [(kind, seconds(kind)) for kind in ((bare, tested) if i % 2 else (tested, bare))]
        pairs.append((dict(turns)[bare], dict(turns)[tested]))
    without, with_test = (statistics.median(times) for times in zip(*pairs, strict=True))
    median = statistics.median(b / a - 1 for a, b in pairs)
    least = min(b for _, b in pairs) / min(a for a, _ in pairs) - 1
    print(f"bare {without:.3f} s, range test {with_test:.3f} s, {median:+.1%} (median of {PAIRS}), least {least:+.1%}")
    return {"bare": without, "range_test": with_test, "overhead": median, "overhead_of_least": least, "pairs": PAIRS}


def against_lr_finder(name: str, make: Callable[[], nn.Module], data: TensorDataset) -> dict[str, float] | None:
    """Return the CPU seconds of find_bounds and of torch-lr-finder's 100 iterations, the least of some turns."""
    try:
        from torch_lr_finder import LRFinder
    except ImportError:
        print("torch-lr-finder is not installed")
        return None
    times: dict[str, list[float]] = {"find_bounds": [], "torch_lr_finder": []}
    for _ in range(TURNS):
        for kind in times:
            torch.manual_seed(0)
            model = make()
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-7, momentum=0.9)
            train, val = DataLoader(data, 100, shuffle=True), DataLoader(data, 100)
            began = time.process_time()
            if kind == "find_bounds":
                clr.find_bounds(model, optimizer, F.cross_entropy, train, val)
            else:
                finder: Any = LRFinder(model, optimizer, nn.CrossEntropyLoss(), device="cpu")
                finder.range_test(train, end_lr=10, num_iter=100)
                finder.reset()
            times[kind].append(time.process_time() - began)
    least = {kind: min(values) for kind, values in times.items()}
    ratio = least["find_bounds"] / least["torch_lr_finder"]
    print(f"{name}: " + ", ".join(f"{kind} {value:.2f} s" for kind, value in least.items()) + f", ratio {ratio:.1f}")
    return least | {"ratio": ratio}


def main() -> None:
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    pictures = TensorDataset(
        torch.randn(2000, 3, 32, 32, generator=random), torch.randint(10, (2000,), generator=random)
    )
    digits = TensorDataset(torch.randn(2000, 64, generator=random), torch.randint(10, (2000,), generator=random))
    record: dict[str, Any] = overhead()
    record["quick net"] = against_lr_finder("Caffe's quick net", lambda: clr.Cifar10Quick("torch"), pictures)
    record["MLP"] = against_lr_finder("MLP", mlp, digits)
    record |= {"turns": TURNS, "torch": torch.__version__}
    target = Path(__file__).parent / "results" / "range_test_cost.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
