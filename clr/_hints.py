"""What a training loop plainly gets wrong about a policy that counts updates: each is warned of once."""

from collections.abc import Sequence
from typing import Any

from clr import _checks

__all__ = ["Hints"]

LONG_GAP = 50  # updates between two steps of a scheduler that is stepped once an epoch
EMPTY = 10  # steps without an update before them; a gradient scaler skips a few


class Hints:
    """Watch a scheduler's steps, and the updates of its optimizer between them.

    It warns of a second gap of 50 updates or more between steps; of ten steps without an update, once two to nine have
    had one; and of an update at rate 0 after which the rate is 0 again.
    """

    def __init__(self) -> None:
        self.updates = 0  # since the last step, at the scheduler's own rates
        self.trained = False  # since the last step, at any rates
        self.gaps = self.full = self.empty = self.zeros = 0

    def step(self, rates: Sequence[Any], iteration: int) -> None:
        """Look at the updates since the last step, and at the rates that are set now."""
        updates, trained = self.updates, self.trained
        self.updates, self.trained = 0, False
        if updates >= LONG_GAP:
            self.gaps += 1
            if self.gaps == 2:
                _warn(f"step() came once in {updates} updates")
        if trained:
            self.full += 1
        else:
            self.empty += 1
            if self.empty == EMPTY and 1 < self.full < EMPTY:  # else a schedule is looked at
                _warn(f"step() came {EMPTY} times without an optimizer.step() before it")
        if not rates or type(rates[0]) is not float or any(rates):  # to read a tensor would make the device wait
            self.zeros = 0
        elif trained or not self.zeros:
            self.zeros += 1
            if self.zeros == 2:
                _warn(f"The rate is 0 from update {iteration - 1} on, where the policy ends")


def _warn(seen: str) -> None:
    _checks.warn(f"{seen}. A policy of clr counts updates, not epochs: call step() once after each optimizer.step()")
