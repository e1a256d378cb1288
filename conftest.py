"""What nbval's kernels inherit: pictures that do not move, and no progress bars.

CLR_SHUFFLE=7 mixes the tests' order.
"""

import itertools
import os
import random

import nbval.kernel

os.environ["CLR_STATIC"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ.pop("CLR_IMAGES", None)
os.environ.pop("CLR_RESULTS", None)
os.environ.pop("CLR_SCALE", None)

start_kernel = nbval.kernel.start_new_kernel


def start_kernel_again(*args, **kwargs):
    """Start a kernel, once more where another process took a port that had been chosen for the first."""
    try:
        return start_kernel(*args, **kwargs)
    except RuntimeError:
        return start_kernel(*args, **kwargs)


nbval.kernel.start_new_kernel = start_kernel_again


def pytest_collection_modifyitems(items):
    """Mix the files, and the tests of each file, but not the cells of a notebook."""
    if seed := os.environ.get("CLR_SHUFFLE"):
        mixed = random.Random(seed)
        files = [list(group) for _, group in itertools.groupby(items, key=lambda item: item.path)]
        for tests in files:
            if tests[0].path.suffix == ".py":
                mixed.shuffle(tests)
        mixed.shuffle(files)
        items[:] = itertools.chain(*files)
