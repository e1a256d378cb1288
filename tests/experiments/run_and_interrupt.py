"""The program that test_stop.py interrupts: `python -m clr ...` on a small stand-in, with a backend of joblib's.

A checkpoint is written at every evaluation.
"""

import sys

import joblib

from clr import __main__, data, training


def write_at_every_evaluation():
    training.checkpoint.SECONDS = 0.0


if __name__ == "__main__":
    data.synthetic_cifar10.__defaults__ = (300, 100, 0)
    write_at_every_evaluation()
    options = {"initializer": write_at_every_evaluation} if sys.argv[1] == "loky" else {}
    with joblib.parallel_config(backend=sys.argv[1], n_jobs=2, **options):
        sys.exit(__main__.main(sys.argv[2:]))
