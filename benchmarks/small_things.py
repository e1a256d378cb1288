"""What do the small things cost: a table of rates, a scheduler's step, the import, the start of a run?

    python benchmarks/small_things.py

Both sides of a ratio take turns. Every number is a median, with the least and the most.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import clr
from clr import experiments
from clr.training import machine

POLICIES = {
    "Triangular": clr.Triangular(0.001, 0.006, 2000),
    "ExpRange": clr.ExpRange(0.001, 0.006, 2000, 0.99994),
    "Stages of three": experiments.EXPERIMENTS["paper-table-1"].arms["triangular2"].policy,
}


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def summary(values: list[float], scale: float = 1.0) -> dict[str, float]:
    low, middle, high = min(values), statistics.median(values), max(values)
    return {"median": round(scale * middle, 3), "least": round(scale * low, 3), "most": round(scale * high, 3)}


def steps(make: Callable[[torch.optim.Optimizer], Any], count: int = 2000) -> float:
    """Return the seconds per step of a scheduler, on an optimizer with two groups."""
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [w]} for w in weights], lr=0.001, momentum=0.9)
    scheduler = make(optimizer)
    optimizer.step()
    start = time.perf_counter()
    for _ in range(count):
        scheduler.step()
    return (time.perf_counter() - start) / count


def step_ratio(repeats: int = 15) -> dict[str, Any]:
    def ours(optimizer: torch.optim.Optimizer) -> Any:
        return clr.PolicyLR(optimizer, POLICIES["Triangular"])

    def torchs(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.CyclicLR(optimizer, 0.001, 0.006, 2000, cycle_momentum=False)

    pairs = [(steps(ours), steps(torchs)) for _ in range(repeats)]
    mine, theirs = ([pair[i] for pair in pairs] for i in (0, 1))
    return {
        "PolicyLR.step, µs": summary(mine, 1e6),
        "CyclicLR.step, µs": summary(theirs, 1e6),
        "ratio of the two": summary([a / b for a, b in pairs]),
    }


def fresh(code: str, repeats: int) -> list[float]:
    """Return the seconds that some code takes, each time in a new interpreter."""
    command = [
        sys.executable,
        "-c",
        f"import time; start = time.perf_counter()\n{code}\nprint(time.perf_counter() - start)",
    ]
    return [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
        for _ in range(repeats)
    ]


START = """
import dataclasses, clr
from clr import experiments
from clr.training import train
data = clr.synthetic_cifar10(train=50_000, test=100)
start = time.perf_counter()  # making the stand-in's images is no part of a run
config = dataclasses.replace(experiments.EXPERIMENTS["headline"].arms["triangular"], iterations=1, test_pictures=1)
train(config, data)
"""

IMPORTS = """
import torch
start = time.perf_counter()
import clr
from clr import experiments
from clr.training import train
"""


def main() -> None:
    k = np.arange(70_000)
    record: dict[str, Any] = {
        "70,000 rates, ms": {
            name: summary([timed(lambda p=policy: p(k)) for _ in range(51)], 1e3) for name, policy in POLICIES.items()
        },
        **step_ratio(),
        "import clr, ms": summary(fresh("import clr", 9), 1e3),
        "import torch, s": summary(fresh("import torch", 3)),
        "torch is imported by `import clr`": loaded(),
        "start of a run to its first update, s (imports apart)": summary(fresh(START, 3)),
        "the imports of a run beyond torch, s": summary(fresh(IMPORTS, 3)),
    }
    record |= machine.provenance("cpu", 1)
    print(json.dumps(record, indent=1, ensure_ascii=False))
    path = Path(__file__).parent / "results" / "small_things.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def loaded() -> bool:
    code = "import clr, sys; print('torch' in sys.modules)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


if __name__ == "__main__":
    main()
