"""What the installed learning-rate finders suggest on the tasks of `range_test_regret.py`, at their defaults.

Each makes 100 updates and reads the training loss. torch-lr-finder and ignite start at the optimizer's own rate: 1e-7,
as the example of torch-lr-finder has it.
"""

import contextlib
import io
import logging
import warnings
from typing import Any

from regret_collect import CURVES, Shelf
from regret_judge import PEERS
from regret_tasks import Task
from torch.utils.data import DataLoader, TensorDataset

START = 1e-7


def start(task: Task, seed: int) -> tuple[Any, Any, DataLoader]:
    model, optimizer, batches = task.start(1000 + seed, START)
    return model, optimizer, DataLoader(TensorDataset(batches.x, batches.y), task.batch_size, shuffle=True)


def torch_lr_finder(task: Task, seed: int) -> float:
    import matplotlib

    matplotlib.use("Agg")
    from torch_lr_finder import LRFinder

    model, optimizer, loader = start(task, seed)
    finder = LRFinder(model, optimizer, task.loss, "cpu")
    finder.range_test(loader)
    figure, axes = matplotlib.pyplot.subplots()
    _, rate = finder.plot(ax=axes)
    matplotlib.pyplot.close(figure)
    return float(rate)


def lightning(task: Task, seed: int) -> float:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.tuner import Tuner
    from regret_tasks import optimizer as optimizer_of

    model, _, loader = start(task, seed)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.lr = model, START

        def training_step(self, batch: Any, _: int) -> Any:
            return task.loss(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            optimizer = optimizer_of(task.kind, self.model, self.lr)
            for group in optimizer.param_groups:
                group["lr"] = self.lr
            return optimizer

    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    found = Tuner(Trainer(accelerator="cpu", max_epochs=100, **quiet)).lr_find(Module(), loader)
    return float(found.suggestion())  # type: ignore[union-attr]


def ignite(task: Task, seed: int) -> float:
    from ignite.engine import Engine
    from ignite.handlers import FastaiLRFinder
    from regret_collect import update

    model, optimizer, loader = start(task, seed)
    trainer = Engine(lambda _, batch: float(update(task, model, optimizer, batch)))
    finder = FastaiLRFinder()
    with finder.attach(trainer, {"model": model, "optimizer": optimizer}, num_iter=100) as tuning:
        tuning.run(loader, max_epochs=100)
    return float(finder.lr_suggestion())


def suggestion(peer: str, task: Task, seed: int) -> dict[str, Any]:
    """Return the rate that a peer suggests, None and the error where it suggests none."""
    find = {"torch-lr-finder": torch_lr_finder, "Lightning": lightning, "ignite": ignite}[peer]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return {"lr": find(task, seed)}
    except (RuntimeError, TypeError, ValueError) as error:
        return {"lr": None, "error": str(error)[:200]}


def collect_peers(task: Task, shelf: Shelf) -> None:
    """Ask every peer five times."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for seed in range(CURVES // 2):
        for peer in PEERS:
            shelf.get(f"{peer} {seed}", lambda p=peer, s=seed: suggestion(p, task, s))
