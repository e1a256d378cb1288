"""The pictures in images/ that no notebook draws: what others' logs say of one cycle and two.

images/regret.png is not among them: `python benchmarks/range_test_regret.py report` draws it.

python -m tools.pictures
"""

import matplotlib.pyplot as plt

from clr import figures, paths
from tools import algoperf

__all__ = ["write"]


def write() -> None:
    """Write the pictures."""
    figures.style()
    folder = paths.home() / "images"
    folder.mkdir(exist_ok=True)
    figure, ax = plt.subplots(figsize=(8, 6))
    algoperf.draw(ax, algoperf.read_summary())
    figure.savefig(folder / "algoperf.png")
    plt.close(figure)


if __name__ == "__main__":
    write()
