"""The program that test_stop.py interrupts: `python -m clr ...` on a small stand-in, in two processes.

A checkpoint is written every tenth of a second, and the headline's batches are small.
"""

import sys
from dataclasses import replace

import joblib

from clr import __main__, data, experiments, training


def with_small_batches(name):
    whole = experiments.EXPERIMENTS[name]
    return replace(whole, arms={arm: replace(config, batch_size=25) for arm, config in whole.arms.items()})


def write_often():
    training.checkpoint.SECONDS = 0.1


if __name__ == "__main__":
    data.synthetic_cifar10.__defaults__ = (300, 100, 0)
    experiments.EXPERIMENTS["headline"] = with_small_batches("headline")
    write_often()
    with joblib.parallel_config(backend="loky", n_jobs=2, initializer=write_often):
        sys.exit(__main__.main(sys.argv[1:]))
