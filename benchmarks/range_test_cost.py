"""What does a range test cost, apart from the evaluations asked for? Against the bare training loop, in one run.

    python benchmarks/range_test_cost.py

A small net (digits-sized MLP), 500 updates, evaluated only at the end on one batch; the bare loop makes the same
updates, rates and one such evaluation. The two take turns, and turns at going first. Two numbers: the median of the
pairs' ratios, and the ratio of the least times, which a busy machine disturbs less.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import clr

UPDATES, PAIRS = 500, 41


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
        eval_every=UPDATES, progress=False,
    )  # fmt: skip


def seconds(run: Callable[..., None]) -> float:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = [(torch.randn(128, 64), torch.randint(10, (128,))) for _ in range(20)]
    began = time.process_time()
    run(model, optimizer, batches)
    return time.process_time() - began


def main() -> None:
    torch.set_num_threads(1)
    seconds(bare), seconds(tested)
    pairs = []
    for i in range(PAIRS):
        turns = [(kind, seconds(kind)) for kind in ((bare, tested) if i % 2 else (tested, bare))]
        pairs.append((dict(turns)[bare], dict(turns)[tested]))
    without, with_test = (statistics.median(times) for times in zip(*pairs, strict=True))
    overhead = statistics.median(b / a - 1 for a, b in pairs)
    least = min(b for _, b in pairs) / min(a for a, _ in pairs) - 1
    print(
        f"bare {without:.3f} s, range test {with_test:.3f} s, {overhead:+.1%} (median of {PAIRS}), least {least:+.1%}"
    )
    target = Path(__file__).parent / "results" / "range_test_cost.json"
    target.parent.mkdir(exist_ok=True)
    record = {
        "bare": without,
        "range_test": with_test,
        "overhead": overhead,
        "overhead_of_least": least,
        "pairs": PAIRS,
    }
    record["torch"] = torch.__version__
    target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
