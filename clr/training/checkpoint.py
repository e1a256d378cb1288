"""What an interrupted run resumes from: one file, replaced every half minute, for this run alone."""

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
from clr.training.config import require_same_run

__all__ = ["Checkpoint"]

SECONDS = 30.0  # between two of them


class Checkpoint:
    """The checkpoint of one run: its rows, the seconds they took, its first provenance, net and optimizer.

    Args:
        path: the file; None keeps no checkpoint.
        spec: the `run_spec`. The checkpoint of another run is refused.
        provenance: that of this process; the file keeps that of the first.

    `rows`, `seconds_before` and `first_provenance` are those of the file after `load`.
    """

    def __init__(self, path: Path | None, spec: dict[str, Any], provenance: dict[str, Any]) -> None:
        self.path, self.spec = path, spec
        self.rows: list[dict[str, float]] = []
        self.seconds_before, self.first_provenance = 0.0, dict(provenance)
        self.start_time = self.save_time = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds of the run so far, those before interruptions included."""
        return self.seconds_before + time.perf_counter() - self.start_time

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
            self.first_provenance = dict(state["begun"]) or self.first_provenance
        except ResultError:
            raise
        except (RuntimeError, EOFError, LookupError, TypeError, ValueError, BadZipFile, PickleError) as error:
            raise ResultError(f"{self.path} is damaged ({error}); delete it to begin anew") from error

    def save_if_due(self, net: nn.Module, optimizer: Optimizer) -> None:
        """Write the file, if the last one is older than `SECONDS`."""
        if time.perf_counter() - self.save_time > SECONDS:
            self.save_time = time.perf_counter()
            self.save(net, optimizer)

    def save(self, net: nn.Module, optimizer: Optimizer) -> None:
        """Write the file, if there is to be one, whole or not at all."""
        if self.path is None:
            return
        state = {
            "identity": self.spec,
            "rows": self.rows,
            "seconds": self.seconds,
            "begun": self.first_provenance,
            "net": net.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        content = io.BytesIO()  # what torch says of a full disk names neither the disk nor the file
        torch.save(state, content)
        with paths.atomic_write(self.path) as part:
            part.write_bytes(content.getvalue())  # a view of it, left in a traceback, crashes Python 3.12.1


def _read(path: Path) -> dict[str, Any]:
    with ZipFile(path) as file:  # torch does not look at the checksums
        if damaged := file.testzip():
            raise ValueError(f"the checksum of {damaged} is wrong")
    return torch.load(path, weights_only=True, map_location="cpu")
