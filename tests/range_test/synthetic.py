"""Synthetic curves whose bounds are known."""

import numpy as np
import pandas as pd

LOG = np.geomspace(1e-4, 10, 100)
LINEAR = np.linspace(0.01, 1.0, 100)
TRUE_BASE = 0.01 * 10 ** (-1.386 * 0.15)


def up(lr, at, width=0.15):
    """A rise by one around `at`; a fifth of it is made at `at` * 10 ** (-1.386 * width)."""
    return 1 / (1 + (at / lr) ** (1 / (width * np.log(10))))


def hill(lr, rise=0.01, fall=3.0):
    return 0.1 + 0.8 * up(lr, rise) * (1 - up(lr, fall, 0.05))


def frame(metric, lr=LOG, seed=0):
    return pd.DataFrame({"lr": lr, "metric": metric, "seed": seed})


def noisy(seeds, sd=0.02, spread=0.0, lr=LOG):
    """Curves of `hill`, each with its own noise (whose neighbours hang together) and its own shift along the axis."""
    random = np.random.default_rng(seeds[0])
    parts = []
    for seed in seeds:
        white = random.normal(0, sd, len(lr) + 1)
        shift = 10 ** random.normal(0, spread)
        parts.append(frame(hill(lr * shift) + 0.8 * white[1:] + 0.6 * white[:-1], lr, seed))
    return pd.concat(parts)


def broken(lr, start=0.15, knee=0.5, later=0.2):
    """A level, a rise, and a slower one."""
    return 0.1 + np.clip(lr - start, 0, knee - start) + later * np.maximum(lr - knee, 0)
