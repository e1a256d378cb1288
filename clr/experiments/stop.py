"""One file asks all runs side by side to stop, in threads and in processes: after Ctrl-C, or when one of them fails.

Each run looks for the file before every update, then writes its checkpoint and ends. So nothing has to be killed, and
nothing goes on behind the caller's back.
"""

import copy
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from clr.training import Stopped

__all__ = ["Stop"]


@dataclass(frozen=True)
class Stop:
    """Whether the runs should stop, as all of them see it.

    Args:
        path: the file. It exists when the runs should stop.
    """

    path: str
    owner: int = field(default_factory=os.getpid)

    def __call__(self) -> bool:
        """Return whether the runs should stop. It takes one or two microseconds."""
        return os.path.exists(self.path)

    def set(self) -> None:
        """Ask all runs to stop at their next update."""
        with suppress(OSError):  # the folder is gone when all runs have ended
            Path(self.path).touch()

    def guard(self, work: Callable[..., None], *arguments: Any) -> BaseException | None:
        """Do a run's work; return what ended it early, after asking the other runs to stop.

        Returning it, not raising it, lets the other runs end by themselves: joblib kills processes after an exception,
        and leaves threads behind.
        """
        try:
            if os.getpid() != self.owner:
                self._heed_interrupts(signal.SIG_IGN)
            if self():
                return Stopped("stopped before the first update")
            work(*arguments)
        except BaseException as error:
            self.set()
            return error if os.getpid() == self.owner else _portable(error)
        return None

    @contextmanager
    def on_interrupt(self) -> Iterator[list[int]]:
        """Let Ctrl-C stop the runs, and a second one interrupt at once; give a list that then holds the signal."""
        received: list[int] = []
        if threading.current_thread() is not threading.main_thread():  # Python allows handlers there alone
            yield received
            return
        before = signal.getsignal(signal.SIGINT) or signal.SIG_DFL
        self._heed_interrupts(before, received)
        try:
            yield received
        finally:
            signal.signal(signal.SIGINT, before)

    def _heed_interrupts(self, afterwards: Any, received: list[int] | None = None) -> None:
        """Make the first SIGINT ask for a stop; `afterwards` handles the next."""

        def handle(number: int, frame: FrameType | None) -> None:
            self.set()
            signal.signal(signal.SIGINT, afterwards)
            if received is not None:
                received.append(number)

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handle)


def _portable(error: BaseException) -> BaseException:
    """Return an error that another process can read, with its traceback as a note."""
    trace = "".join(traceback.format_exception(error))
    try:
        pickle.dumps(copy.copy(error))  # a copy is made as the other process makes its own
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(trace)
    return error
