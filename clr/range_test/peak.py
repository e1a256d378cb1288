"""The rate to train with, for every schedule, from the training losses of range tests.

1. The logarithm of the loss is read, so that its unit does not matter, and a fall from 1 to 0.1 counts as much as one
   from 100 to 10. A loss of 0 counts as the least above it. If any is negative, losses are read as they are.
2. It is averaged over the curves and smoothed over a tenth of a decade. A curve that has ended before the others, or
   whose loss is far above the untrained one, counts as the untrained loss plus the gain: all is lost.
3. The landmark is the rate at which half of the gain is lost again, past the lowest loss. If it never is, the landmark
   is only a lower limit: the end of the curve or, if the loss falls to a hundredth, where it first does. From there on
   the test has solved its task, and no gradient is left that a larger rate could fail with.
4. The peak rate is the landmark divided by a factor: one for a constant rate, one for schedules that come down.

How the constants were chosen (`benchmarks/range_test_regret.py` judges every task by constants of the others):
- The logarithm: less regret than the loss itself, on average and on the worst task, for every schedule.
- LOST, half of the gain: as for `max_lr`. Smaller values do worse, larger ones about as well.
- WIDTH: values from 0.05 to 0.15 decades do about as well.
- FACTORS: the geometric mean over the tasks of landmark over best rate. One factor per schedule does no better.
- INTERVAL: holds 95% of the best rates of all tasks, so that it holds 90% of those of tasks it was not chosen on.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

__all__ = ["FACTORS", "HOLDS", "INTERVAL", "in_logs", "is_solved", "landmark", "peak_rates", "read_landmark"]

LOST = 0.5  # of the gain
WIDTH = 0.1  # decades: standard deviation of the kernel that smooths
CLEAR = 3  # standard errors: a gain, not noise
SOLVED = np.log(100)  # how far the logarithm of a loss falls where nothing is left to gain
FIRST = 5  # losses at the start of a curve, whose mean is the untrained loss
FACTORS = {"constant": 14.0, "triangular": 8.0, "linear": 8.0, "one-cycle": 8.0, "cosine": 8.0}
INTERVAL = 4.0  # the factor between the peak rate and the ends of its interval
HOLDS = (88, 97)  # percent of the cases of benchmarks/README.md in which the best rate lies in it, by schedule

RatesAndLosses = tuple[Sequence[float], Sequence[float]]


def peak_rates(
    curves: Sequence[RatesAndLosses], factors: Mapping[str, float] = FACTORS
) -> dict[str, tuple[float, tuple[float, float]]]:
    """Return the rate to train with by schedule, and the two rates between which the best one lies.

    Args:
        curves: one or more pairs (rates, losses). Rates rise by a constant ratio and are the same in all curves, some
            of which may end earlier. The loss of a rate is that of the batch trained on with it, before the update; a
            loss that is not finite ends its curve.

    All rates are NaN where the loss never falls clearly below its first values.

    >>> rates = np.logspace(-4, 0, 101)
    >>> losses = np.where(rates < 0.2, 1 / (1 + (100 * rates) ** 2), 9)
    >>> lr, (low, high) = peak_rates([(rates, losses)])["linear"]
    >>> round(lr, 2), low < lr < high
    (0.02, True)
    """
    lost = read_landmark(curves)
    peaks = {schedule: lost / factor for schedule, factor in factors.items()}
    return {schedule: (peak, (peak / INTERVAL, peak * INTERVAL)) for schedule, peak in peaks.items()}


def read_landmark(curves: Sequence[RatesAndLosses], **constants: float) -> float:
    """Return the landmark of curves of losses, by steps 1 to 3."""
    return landmark(in_logs(curves), solved=np.inf if _is_negative(curves) else SOLVED, **constants)


def is_solved(curves: Sequence[RatesAndLosses]) -> bool:
    """Return whether the loss falls to a hundredth and stays low, so that larger rates have nothing to fail with."""
    return bool(read_landmark(curves) < landmark(in_logs(curves)))


def _is_negative(curves: Sequence[RatesAndLosses]) -> bool:
    losses = np.concatenate([np.asarray(losses, float) for _, losses in curves])
    return bool((losses < 0).any() or not (losses > 0).any())


def in_logs(curves: Sequence[RatesAndLosses]) -> list[RatesAndLosses]:
    """Return the curves with the logarithms of their losses, or unchanged where a loss is negative, or all are 0."""
    if _is_negative(curves):
        return list(curves)
    arrays = [(rates, np.asarray(losses, float)) for rates, losses in curves]
    least = min(losses[losses > 0].min(initial=np.inf) for _, losses in arrays)
    return [(rates, np.log(np.where(losses == 0, least, losses))) for rates, losses in arrays]  # type: ignore[misc]


def landmark(
    curves: Sequence[RatesAndLosses], width: float = WIDTH, clear: float = CLEAR, lost: float = LOST,
    solved: float = np.inf,
) -> float:  # fmt: skip
    """Return the rate at which half of the mean curve's gain is lost again, NaN where there was no clear gain.

    Where it is never lost: the rate at which the loss has first fallen by `solved`, else the end of the curve.

    >>> landmark([([0.01, 0.1, 1.0], [1.0, 1.0, 1.0])])
    nan
    """
    place = np.log10(max((rates for rates, _ in curves), key=len))
    losses = [part for part in (_finite(np.asarray(losses, float)) for _, losses in curves) if len(part)]
    if max(map(len, losses), default=0) < 2 or not place[-1] > place[0]:
        return float("nan")
    step = (place[-1] - place[0]) / (len(place) - 1)
    loss = np.mean([_capped(part, len(place), width / step) for part in losses], axis=0)
    before = float(np.mean([part[:FIRST].mean() for part in losses]))
    jumps = np.abs(np.concatenate([np.diff(part[: max(FIRST, len(place) // 5)]) for part in losses]))
    noise = 1.4826 * float(np.median(jumps)) / np.sqrt(2 * FIRST * len(losses))  # of the untrained loss
    smooth = _smoothed(loss, width / step)
    lowest = int(smooth.argmin())
    gain = before - smooth[lowest]
    if lowest < FIRST or not gain > max(clear * noise, 1e-9 * np.abs(loss).max()):  # it rises at once, or never falls
        return float("nan")
    level = before - (1 - lost) * gain
    above = np.flatnonzero(smooth[lowest:] > level)
    if not len(above):
        enough = np.flatnonzero(smooth < before - solved)
        return float(10 ** (place[enough[0]] if len(enough) else place[-1] + step))
    i = lowest + int(above[0])
    return float(10 ** np.interp(level, smooth[i - 1 : i + 1], place[i - 1 : i + 1]))


def _finite(losses: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(losses))
    return losses[: bad[0]] if len(bad) else losses


def _capped(losses: np.ndarray, rates: int, width: float) -> np.ndarray:
    """Return a loss per rate, none above the untrained loss plus the gain, which is also what follows a curve's end."""
    before = losses[:FIRST].mean()
    top = 2 * before - min(_smoothed(losses, width).min(), before)
    return np.concatenate([losses.clip(max=top), np.full(rates - len(losses), top)])


def _smoothed(losses: np.ndarray, width: float) -> np.ndarray:
    """Return means weighted by a Gaussian. Its standard deviation is `width` updates; it is cut off at the ends."""
    sums, weights = (
        gaussian_filter1d(values, width, mode="constant", truncate=8) for values in (losses, np.ones(len(losses)))
    )
    return sums / weights
