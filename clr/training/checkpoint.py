"""What an interrupted run resumes from: one file, replaced every half minute and when the run is asked to stop."""

import io
import time
from pathlib import Path
from pickle import PickleError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import nn
from torch.optim import Optimizer

from clr import paths
from clr.results import ResultError
from clr.training import cuda
from clr.training.config import require_same_run

__all__ = ["Checkpoint"]

SECONDS = 30.0  # between two of them


class Checkpoint:
    """The checkpoint of one run: its rows, updates and seconds, its first provenance, net and optimizer.

    Args:
        path: the file; None keeps no checkpoint.
        spec: the `run_spec`. The checkpoint of another run is refused.
        provenance: that of this process; the file keeps that of the first.

    After `load`, these are as in the file: `rows`, `iteration` (updates made) and `losses` (of the updates after the
    last row).
    """

    def __init__(self, path: Path | None, spec: dict[str, Any], provenance: dict[str, Any]) -> None:
        self.path, self.spec = path, spec
        self.rows: list[dict[str, float]] = []
        self.iteration = 0
        self.losses: list[float] = []
        self.seconds_before, self._provenance, self._first_provenance = 0.0, provenance, provenance
        self._start_time = self._save_time = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds of the run so far, those before interruptions included."""
        return self.seconds_before + time.perf_counter() - self._start_time

    @property
    def provenance(self) -> dict[str, Any]:
        """This process's provenance, all seconds, and what was different where the run was begun."""
        now, first = self._provenance, self._first_provenance
        begun = {name: value for name, value in first.items() if value != now.get(name)}
        return now | {"seconds": round(self.seconds, 1)} | ({"begun": begun} if begun else {})

    def load(self, net: nn.Module, optimizer: Optimizer) -> None:
        """Put the file's state, if there is one, into net, optimizer and this object.

        Raises:
            ResultError: the file is damaged, or of another run; the message names the field.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            state = _read(self.path)
            require_same_run(self.path, state["identity"], self.spec)
            net.load_state_dict(state["net"])
            optimizer.load_state_dict(state["optimizer"])
            self.rows, self.seconds_before = state["rows"], state["seconds"]
            last_row = int(self.rows[-1]["iteration"]) if self.rows else 0
            self.iteration = state.get("iteration", last_row)  # older files were written there alone
            self.losses = state.get("losses", [])
            self._first_provenance = dict(state["begun"]) or self._provenance
        except ResultError:
            raise
        except (RuntimeError, EOFError, LookupError, TypeError, ValueError, BadZipFile, PickleError) as error:
            raise ResultError(f"{self.path} is damaged ({error}); delete it to begin anew") from error

    def is_due(self) -> bool:
        """Return whether there is to be a file, and the last one is older than `SECONDS`."""
        return self.path is not None and time.perf_counter() - self._save_time > SECONDS

    def save(self, net: nn.Module, optimizer: Optimizer, iteration: int, losses: list[float]) -> None:
        """Write the file, if there is to be one, whole or not at all.

        Args:
            iteration: the updates made.
            losses: those of the updates after the last row.
        """
        if self.path is None:
            return
        self._save_time = time.perf_counter()
        state = {"identity": self.spec, "rows": self.rows, "iteration": iteration, "losses": losses}
        state |= {"seconds": self.seconds, "begun": self._first_provenance}
        content = io.BytesIO()  # what torch says of a full disk names neither the disk nor the file
        with cuda.shared(next(net.parameters()).device):
            torch.save(state | {"net": net.state_dict(), "optimizer": optimizer.state_dict()}, content)
        with paths.atomic_write(self.path) as part:
            part.write_bytes(content.getvalue())  # a view of it, left in a traceback, crashes Python 3.12.1


def _read(path: Path) -> dict[str, Any]:
    with ZipFile(path) as file:  # torch does not look at the checksums
        if damaged := file.testzip():
            raise ValueError(f"the checksum of {damaged} is wrong")
    return torch.load(path, weights_only=True, map_location="cpu")
