"""Two processes of this machine, for the tests that train on several."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def on_two(function: Callable[..., None], folder: Path, *arguments: Any) -> list[Any]:
    """Call function(rank, folder, ...) on two processes, and return what each left in `<rank>.pt`."""
    multiprocessing.set_forkserver_preload(["torch", "torch._dynamo", "accelerate"])  # slow imports, so once for both
    torch.multiprocessing.start_processes(function, (folder, *arguments), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]
