"""The one interval of every mean in this project: Student's, over seeds or over curves."""

from typing import Any

import numpy as np
from scipy import stats

__all__ = ["MIN_RUNS", "t_interval"]

MIN_RUNS = 3  # fewer get no interval: that of two is 12.7 standard errors to either side, and hides all else


def t_interval(mean: Any, sem: Any, n: Any, level: float = 0.95) -> tuple[Any, Any]:
    """Return the t interval of a mean with standard error `sem` over `n` values; NaN for fewer than two.

    Numbers or arrays. Not `scipy.stats.t.interval`, which warns of equal values, where the interval has no width.

    >>> tuple(round(float(end), 3) for end in t_interval(0.75, 0.01 / 3**0.5, 3))
    (0.725, 0.775)
    """
    half = stats.t.ppf((1 + level) / 2, np.asarray(n) - 1.0) * sem  # NaN for no degree of freedom
    return mean - half, mean + half
