"""The images and labels of the synthetic data, as numpy arrays: five pairs of classes that are hard to tell apart.

A view is a pattern of 4 x 4 squares in random colours, and an image shows one in noise. Each class has a common view,
which looks much like that of the other class of its pair, and is moved round the image's edges by 0 to 4 pixels each
way. One image in four shows one of twelve rare views of its class instead. Every image is brighter or darker. Three of
ten labels are those of the other class of the pair, so no net can be right in more than about 70% of cases.

The data was made so that short runs show what long ones on photographs show. Swapped labels leave little between the
classes of a pair, so the noise of a high rate costs accuracy while it lasts; the common views are learned soon, and
the rare ones late, which keeps accuracy below what is possible. So it cannot tell whether any of that holds for
photographs, nor which schedule is the best there.
"""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np

__all__ = ["draw"]

Labelled: TypeAlias = tuple[np.ndarray, np.ndarray]

CLASSES = 10
PAIR, OWN, BRIGHTER, NOISE = 127, 35, 30, 80  # the most by which a pair, a class, an image and a pixel differ from grey
MOVES, RARE_VIEWS = 5, 12
RARE, SWAPPED = 25, 30  # percent of the images


def draw(counts: Iterable[int], seed: int) -> list[Labelled]:
    """Return images (uint8, (count, 3, 32, 32)) and labels (int64, (count,)) for each count, all of the same views."""
    random = np.random.RandomState(seed)  # its integers are the same on every platform
    views = _views(random)
    return [_split(random, *views, count) for count in counts]


def _views(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Return each class's common view in all its places, and its rare ones: int16, (10, 25 or 12, 3, 32, 32)."""
    pairs = random.randint(-PAIR, PAIR + 1, (CLASSES // 2, 3, 4, 4)).repeat(2, axis=0)
    common = _squares(pairs + random.randint(-OWN, OWN + 1, pairs.shape))
    moves = [(down, right) for down in range(MOVES) for right in range(MOVES)]
    moved = np.stack([np.roll(common, move, (-2, -1)) for move in moves], axis=1)
    return moved, _squares(random.randint(-PAIR, PAIR + 1, (CLASSES, RARE_VIEWS, 3, 4, 4)))


def _squares(colours: np.ndarray) -> np.ndarray:
    return colours.repeat(8, axis=-2).repeat(8, axis=-1).astype(np.int16)


def _split(random: np.random.RandomState, common: np.ndarray, rare: np.ndarray, count: int) -> Labelled:
    views = np.concatenate([common, rare], axis=1)
    classes, percent = random.randint(0, CLASSES, count), random.randint(0, 100, (2, count))
    labels = np.where(percent[0] < SWAPPED, classes ^ 1, classes)  # classes 0 and 1 are a pair, 2 and 3, ...
    places, which = random.randint(0, common.shape[1], count), random.randint(0, RARE_VIEWS, count)
    shown = np.where(percent[1] < RARE, common.shape[1] + which, places)
    grey = 128 - NOISE + random.randint(-BRIGHTER, BRIGHTER + 1, (count, 1, 1, 1)).astype(np.int16)
    images = np.empty((count, 3, 32, 32), np.uint8)
    for start in range(0, count, 1000):
        part = slice(start, start + 1000)
        noise = random.randint(0, 2 * NOISE + 1, images[part].shape, dtype=np.uint8)
        images[part] = np.clip(views[classes[part], shown[part]] + grey[part] + noise, 0, 255)
    return images, labels.astype(np.int64)
