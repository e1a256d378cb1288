"""The program that test_stop.py interrupts: `python -m clr ...` on a small stand-in, with a backend of joblib's."""

import sys

import joblib

from clr import __main__, data

data.synthetic_cifar10.__defaults__ = (300, 100, 0)

if __name__ == "__main__":
    with joblib.parallel_config(backend=sys.argv[1], n_jobs=2):
        sys.exit(__main__.main(sys.argv[2:]))
