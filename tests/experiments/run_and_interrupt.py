"""The program that test_stop.py interrupts: `python -m clr ...` on a small stand-in, with a backend of joblib's.

A checkpoint is written at every evaluation.
"""

import sys

import joblib

from clr import __main__, data, training

if __name__ in ("__main__", "__mp_main__"):  # here and in its processes, but not where pytest looks for doctests
    data.synthetic_cifar10.__defaults__ = (300, 100, 0)
    training.checkpoint.SECONDS = 0.0

if __name__ == "__main__":
    with joblib.parallel_config(backend=sys.argv[1], n_jobs=2):
        sys.exit(__main__.main(sys.argv[2:]))
