"""What `find_bounds` shows while it runs: one bar over all curves, or in Jupyter a picture that grows."""

import math
import os
import time
from collections.abc import Sequence
from typing import Any

from clr.notebook import in_jupyter, replacing
from clr.range_test.record import RangeTest

__all__ = ["Progress"]

SECONDS = 1.0  # between two pictures


class Progress:
    """The bar over all curves. In Jupyter the bar is text, and the picture above it is replaced as curves grow."""

    def __init__(self, iterations: int, seeds: int) -> None:
        self.iterations, self.seeds = iterations, seeds
        self.rows: list[Any] = []
        self.curves: list[Any] = []  # of finished tests: rates and metrics
        self.replace_picture = replacing()
        self.drawn = -math.inf

    def __enter__(self) -> "Progress":
        from tqdm import tqdm

        hidden = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")  # tqdm reads it only when it is imported
        self.bar = tqdm(total=self.iterations * self.seeds, unit="updates", desc="find_bounds", disable=hidden)
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.close()

    def row(self, seed: int, row: tuple[int, float, float, float]) -> None:
        """Show a new row of a seed's curve."""
        self.rows.append(row)
        self.bar.update(seed * self.iterations + row[0] - self.bar.n)
        self.bar.set_postfix(seed=seed, lr=f"{row[1]:.1e}", metric=f"{row[2]:.3g}", refresh=False)
        if in_jupyter() and time.monotonic() - self.drawn >= SECONDS:
            self._show(self._draw_curves())

    def finish_curve(self, tests: Sequence[RangeTest]) -> None:
        """Keep the finished curve, and move the bar to its end: it may have ended early."""
        self.curves.append([(row[1], row[2]) for row in self.rows])
        self.rows = []
        self.bar.update(len(tests) * self.iterations - self.bar.n)

    def finish(self, bounds: Any) -> None:
        """Show the bounds in the last picture."""
        if in_jupyter():
            figure = _figure()
            bounds.plot(figure.subplots())
            self._show(figure)

    def _draw_curves(self) -> Any:
        figure = _figure()
        ax = figure.subplots()
        for curve in [*self.curves, [(row[1], row[2]) for row in self.rows]]:
            ax.plot(*zip(*curve, strict=True), linewidth=1)
        ax.set(xscale="log", xlabel="learning rate", ylabel="metric", title=f"curve {len(self.curves) + 1}: running")
        return figure

    def _show(self, figure: Any) -> None:
        self.replace_picture(figure)
        self.drawn = time.monotonic()


def _figure() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(7, 4), layout="constrained")
