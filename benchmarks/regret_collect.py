"""What `range_test_regret.py` collects: trained runs on a grid of peak rates, and the curves of range tests."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from regret_tasks import TASKS, Task
from torch import Tensor, nn

from clr.range_test.peak import landmark

SCHEDULES = ("constant", "triangular", "linear", "one-cycle", "cosine")
SEEDS, CURVES = 3, 10
PROTOCOLS = {"wide": (-7.0, 1.0, 100), "long": (-7.0, 1.0, 200), "scout": (-7.0, 1.0, 40)}  # powers of ten, updates
SCOUT_WIDTH = 0.2  # decades: a scout makes five updates per decade
BELOW, ABOVE = 2.75, 1.0  # decades around where the scouts are lost: what the close look covers
PACKED = ("wide", "long", "scout", "close")  # the protocols whose curves are committed
CURVE_HELD_OUT = 512  # held-out examples per evaluation, at most
TEN_TIMES = ("regression, SGD", "digits MLP, Adam")  # also trained for ten times the updates


def shape(schedule: str, updates: int) -> np.ndarray:
    """Return the rates of a schedule with peak 1, one per update: what clr's policies of these names give."""
    k, T = np.arange(updates), updates
    if schedule == "constant":
        return np.ones(T)
    if schedule == "triangular":  # Triangular(peak / 4, peak, T // 4)
        step = T // 4
        return 0.25 + 0.75 * (step - np.abs(k % (2 * step) - step)) / step
    if schedule == "linear":  # Decay(0, peak, T)
        return 1 - k / T
    if (
        schedule == "one-cycle"
    ):  # OneCycle(peak / 10, peak, T): 45% up, 45% down, then from peak / 10 to a hundredth of it
        up = round(0.45 * T)
        return np.interp(k, [0, up, 2 * up, T], [0.1, 1, 0.1, 0.001])
    warmup = T // 20  # Cosine(peak, T, T // 20)
    return np.where(k <= warmup, (k + 1) / (warmup + 1), (1 + np.cos(np.pi * (k - warmup) / (T - warmup))) / 2)


# One update, one evaluation, one run


def endless(batches: Any) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def update(task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> Tensor:
    loss = task.loss(model(batch[0]), batch[1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor) -> Tensor:
    model.eval()
    out = torch.cat([model(part) for part in x.split(512)])
    model.train()
    return out


def train(
    task: Task, schedule: str, peak: float, seed: int, updates: int, make: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """Train with a schedule; return the metric before and after, None where a weight or the loss is not finite.

    make: replaces the task's optimizer by another.
    """
    model, optimizer, batches = task.start(seed)
    optimizer = optimizer if make is None else make(model)
    held_x, held_y = task.data()[2:]
    switch = getattr(optimizer, "train", lambda: None), getattr(optimizer, "eval", lambda: None)  # Schedule-Free's
    first, finite, source = task.metric(outputs(model, held_x), held_y), True, endless(batches)
    switch[0]()
    for k, rate in enumerate((peak * shape(schedule, updates)).tolist()):
        set_rate(optimizer, rate)
        loss = update(task, model, optimizer, next(source))
        if k % 20 == 0 and not torch.isfinite(loss):
            finite = False
            break
    switch[1]()
    out = outputs(model, held_x)
    last = task.metric(out, held_y)
    finite = finite and bool(np.isfinite(last) and out.isfinite().all())
    return {"first": first, "last": last if finite else None}


# Range tests


def curve(task: Task, seed: int, low: float, high: float, updates: int, most: int = CURVE_HELD_OUT) -> dict[str, Any]:
    """Make one exponential range test, between two powers of ten, with an evaluation after every update.

    Rows of the result, per update: training loss (before it), then held-out loss and metric (after it), from up to
    `most` examples (0: as few as next), and again from three training batches' worth, which cost about as much as it.
    The curve ends where a loss is not finite. `before` has the four held-out numbers of the untrained model.
    """
    model, optimizer, batches = task.start(1000 + seed)
    few = min(CURVE_HELD_OUT, 3 * task.batch_size)
    x, y = (part[: max(most, few)] for part in task.data()[2:])

    def evaluate() -> list[float]:
        out = outputs(model, x)
        some = out[: few * (len(out) // len(x))]  # a sequence model returns several rows per example
        pairs = (out, y), (some, y[:few])
        return [float(f(*pair)) for pair in pairs for f in (task.loss, task.metric)]

    before, rows, source = evaluate(), [], endless(batches)
    rates = 10 ** np.linspace(low, high, updates)
    for rate in rates.tolist():
        set_rate(optimizer, rate)
        loss = float(update(task, model, optimizer, next(source)))
        row = [loss, *evaluate()]
        if not np.isfinite([row[0], row[1]]).all():
            break
        rows.append(row)
    return {
        "lr": rates[: len(rows)].tolist(),
        "before": before,
        "rows": np.round(rows, 6).tolist(),
        "range": [low, high],
    }


def decades(scouts: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return the powers of ten to look at closely, around where quick curves over all decades lose half of their gain.

    Where those curves never clearly fall, the whole range.
    """
    curves = [(scout["lr"], [row[0] for row in scout["rows"]]) for scout in scouts]
    lost = np.log10(landmark(curves, width=SCOUT_WIDTH))
    return (lost - BELOW, lost + ABOVE) if np.isfinite(lost) else PROTOCOLS["wide"][:2]


# Everything, resumable


class Shelf:
    """A file of JSON lines, each with a key; what is there is not made again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.items = {item.pop("key"): item for item in map(json.loads, lines)}

    def get(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if key not in self.items:
            self.items[key] = make()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key} | self.items[key]) + "\n")
        return self.items[key]


def folder(work: Path, name: str) -> Path:
    return work / name.replace(", ", "-").replace(" ", "-").replace("%", "pc")


def collect(work: Path, kind: str, name: str, seed: int) -> None:
    """Make what is missing of one kind for one task and one seed (of "curves": one half of the seeds)."""
    torch.set_num_threads(1)
    task = TASKS[name]
    shelf = Shelf(folder(work, name) / f"{kind}-{seed}.jsonl")
    if kind == "curves":
        return collect_curves(task, shelf, seed)
    if kind == "close":
        return collect_close(task, shelf)
    if kind == "peers":
        from regret_peers import collect_peers

        return collect_peers(task, shelf)
    if kind == "others":
        return collect_others(task, shelf, seed)
    updates = task.updates * (10 if kind == "tenfold" else 1)
    for schedule in SCHEDULES:
        for rate in task.rates():
            key = f"{schedule} {rate:.4g}"
            shelf.get(key, lambda s=schedule, r=rate: train(task, s, r, seed, updates))


def collect_curves(task: Task, shelf: Shelf, half: int) -> None:
    """Make range tests over all decades, of 100 updates and, for the first five seeds, of 200."""
    for seed in range(half * CURVES // 2, (half + 1) * CURVES // 2):
        for name in ("wide", "long") if half == 0 else ("wide",):
            shelf.get(f"{name} {seed}", lambda s=seed, n=name: curve(task, s, *PROTOCOLS[n], most=0))


def collect_close(task: Task, shelf: Shelf) -> None:
    """Make five tests in two steps, twice: quick scouts over all decades, then close looks at those they point to."""
    for seed in range(CURVES):
        shelf.get(f"scout {seed}", lambda s=seed: curve(task, s, *PROTOCOLS["scout"], most=0))
    for half in range(2):
        seeds = range(half * CURVES // 2, (half + 1) * CURVES // 2)
        ends = decades([shelf.items[f"scout {seed}"] for seed in seeds])
        for seed in seeds:
            shelf.get(f"close {seed}", lambda s=seed, e=ends: curve(task, s, *e, 100, most=0))


def collect_others(task: Task, shelf: Shelf, seed: int) -> None:
    """Train by what a user would pick instead of any finder, with the settings that their authors advise."""
    import schedulefree
    from prodigyopt import Prodigy

    def prodigy(model: nn.Module) -> Any:
        return Prodigy(model.parameters(), lr=1.0, weight_decay=0.01, safeguard_warmup=True, use_bias_correction=True)

    def adamw(model: nn.Module) -> Any:
        return torch.optim.AdamW(model.parameters(), lr=0.001)

    def free(model: nn.Module) -> Any:
        return schedulefree.AdamWScheduleFree(model.parameters(), lr=0.0025)

    for schedule in SCHEDULES:
        for name, rate, make in (("Prodigy", 1.0, prodigy), ("AdamW", 0.001, adamw), ("Schedule-Free", 0.0025, free)):
            if name != "Schedule-Free" or schedule == "constant":
                key = f"{name} {schedule}"
                shelf.get(key, lambda s=schedule, r=rate, m=make: train(task, s, r, seed, task.updates, m))


def jobs() -> list[tuple[str, str, int]]:
    """Return all pieces of work, in the order in which they are useful."""
    names = [name for name in TASKS if name != "CIFAR quick, SGD"]
    parts = [[("curves", name, 0), ("grid", name, 0)] for name in names]
    parts += [[("close", name, 0)] for name in names]
    parts += [[("grid", name, 1)] for name in names]
    parts += [[("peers", name, 0), ("others", name, 0)] for name in names]
    parts += [[("tenfold", name, 0)] for name in TEN_TIMES]
    parts += [[("curves", name, 1)] for name in names]
    parts += [[("grid", name, 2), ("others", name, 1)] for name in names]
    parts += [[("others", name, 2)] for name in names]
    parts += [[("tenfold", name, seed) for seed in (1, 2) for name in TEN_TIMES]]
    parts += [[("curves", "CIFAR quick, SGD", 0), ("grid", "CIFAR quick, SGD", 0)]]
    return [job for part in parts for job in part]


# From the work folder to the files that are committed


def pack(work: Path) -> None:
    """Write runs.csv.gz, curves.json.gz and peers.json.gz from the work folder, as far as it has got."""
    import pandas as pd
    from regret_score import RESULTS, write_json

    runs, curves, peers = [], {}, {}
    for name in TASKS:
        for path in sorted(folder(work, name).glob("*.jsonl")):
            kind, items = path.stem.split("-")[0], Shelf(path).items
            if kind in ("curves", "close"):
                kept = {key: _short(item) for key, item in items.items() if key.split(" ")[0] in PACKED}
                curves.setdefault(name, {}).update(kept)
            elif kind == "peers":
                peers[name] = items
            else:
                seed = int(path.stem.split("-")[1])
                runs += [_row(name, kind, seed, key, item) for key, item in items.items()]
    write_json("curves", curves)
    write_json("peers", peers)
    columns = ["task", "kind", "schedule", "rate", "method", "seed", "first", "last"]
    table = pd.DataFrame(runs, columns=columns).round({"first": 6, "last": 6})
    table.to_csv(RESULTS / "runs.csv.gz", index=False, compression={"method": "gzip", "mtime": 0})


def _short(item: dict[str, Any]) -> dict[str, Any]:
    """Return a curve with five significant digits; its rates follow from its range and number of updates."""
    rows = [[float(f"{value:.5g}") for value in row] for row in item["rows"]]
    lr = item["lr"]
    step = float(np.log10(lr[1] / lr[0])) if len(lr) > 1 else 0.0
    return {"start": item["range"][0], "step": round(step, 9), "before": item["before"], "rows": rows}


def _row(name: str, kind: str, seed: int, key: str, item: dict[str, Any]) -> tuple[Any, ...]:
    first, second = key.split(" ")
    schedule, rate, method = (second, None, first) if kind == "others" else (first, float(second), None)
    return name, kind, schedule, rate, method, seed, item["first"], item["last"]
