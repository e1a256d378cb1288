"""CIFAR-10 as tensors, and synthetic data of the same shape for machines without it.

`load_cifar10` reads two layouts: the original `cifar-10-batches-py` (through torchvision, every file's md5 checked),
and an image folder, `train/<class>/*.png|jpg` beside `test/<class>/...` (decoded once, then cached). Every result
holds the data set's name and fingerprint. The name is `cifar10` for the original files, and for PNG copies whose
training images have the original's sums; `cifar10-jpeg` for JPEG copies; `synthetic` for the synthetic data.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clr import _checks, image_folder, paths, synthetic

__all__ = ["CLASSES", "NAMES", "Cifar10", "Split", "load_cifar10", "synthetic_cifar10"]

NAMES = ("cifar10", "cifar10-jpeg", "synthetic")  # the data sets that `load_cifar10` returns
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CHANNEL_SUMS = (6_415_714_204, 6_295_060_180, 5_829_907_619)  # of the original's 50,000 training images: R, G, B
PER_CLASS = {"train": 5_000, "test": 1_000}


class NothingThereError(FileNotFoundError):
    """The folder holds no CIFAR-10 at all; a missing part is a plain FileNotFoundError."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their classes.

    images: uint8, (N, 3, 32, 32), channels R, G, B, rows top to bottom; labels: int64, (N,), 0 to 9 as in `CLASSES`.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            if not isinstance(getattr(self, name), Tensor):
                raise TypeError(f"{name} must be a tensor, got {type(getattr(self, name)).__name__}")
        if self.images.dtype != torch.uint8 or self.images.shape[1:] != (3, 32, 32):
            raise ValueError(f"images must be uint8 (N, 3, 32, 32), got {self.images.dtype} {tuple(self.images.shape)}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1] or not len(self.labels):
            raise ValueError(
                f"labels must be int64 ({len(self.images)},), got {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(CLASSES):
            raise ValueError(f"labels must be 0 to 9, got {int(self.labels.min())} to {int(self.labels.max())}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, np.ndarray]:  # as arrays, which joblib hands to its workers without a copy
        return {"images": self.images.numpy(), "labels": self.labels.numpy()}

    def __setstate__(self, state: dict[str, np.ndarray]) -> None:
        for name, array in state.items():
            object.__setattr__(self, name, torch.from_numpy(array))


@dataclass(frozen=True, eq=False)
class Cifar10:
    """A data set of CIFAR-10's shape: its two splits, its name, and a sha256 of its content, which results hold."""

    train: Split
    test: Split
    name: str
    fingerprint: str

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            if not isinstance(getattr(self, name), Split):
                raise TypeError(f"{name} must be a Split, got {_checks.brief(getattr(self, name))}")
        for name in ("name", "fingerprint"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a string, got {_checks.brief(getattr(self, name))}")
        if self.name in ("", ".", "..") or Path(self.name).name != self.name:
            raise ValueError(f"name must be one that a folder can have, got {_checks.brief(self.name)}")

    def __sizeof__(self) -> int:  # dask sends large objects to each worker once, not with every job
        return sum(tensor.nbytes for split in (self.train, self.test) for tensor in (split.images, split.labels))

    def hold_out(self, every: int) -> "Cifar10":
        """Return the data without test images: every `every`-th training image is held out, and tested on instead.

        The same images are held out for every seed. The means are those of the other training images.
        """
        held_out = torch.arange(len(self.train)) % _checks.int_at_least_two("every", every) == 0
        train, test = (Split(self.train.images[part], self.train.labels[part]) for part in (~held_out, held_out))
        return replace(self, train=train, test=test)

    @cached_property
    def mean_image(self) -> Tensor:
        """The mean training image: float32, (3, 32, 32), 0 to 255."""
        total = sum(chunk.double().sum(0) for chunk in self.train.images.split(1000))
        return (total / len(self.train)).float()

    @cached_property
    def channel_means(self) -> Tensor:
        """The mean of each channel over all training images: float32, (3,), 0 to 255."""
        return self.mean_image.double().mean((1, 2)).float()


def load_cifar10(root: str | os.PathLike[str] | None = None) -> Cifar10:
    """Load CIFAR-10 from `root`, else from the folder that `CLR_DATA` names, else from `data/`.

    The folder holds (or is) `cifar-10-batches-py`, or holds an image folder's `train` and `test`. `CLR_DATA=synthetic`
    gives the synthetic data. Missing data is an error: this never falls back to synthetic data by itself.

    Raises:
        FileNotFoundError: the folder holds no CIFAR-10, or a part of it is missing; the message says what to do.
        ValueError: the data is damaged or is not CIFAR-10; the message names the file and what was expected.
    """
    if root is None and os.environ.get("CLR_DATA") == "synthetic":
        return synthetic_cifar10()
    folder = _checks.path("root", usual_folder() if root is None else root).absolute()
    batches = folder if (folder / "data_batch_1").exists() else folder / "cifar-10-batches-py"
    if batches.is_dir():
        return _load_batches(batches)
    if (folder / "train").is_dir():
        return _load_image_folder(folder)
    archive = next((f"; {name} is there but not unpacked" for name in _archives(folder)), "")
    raise NothingThereError(
        f"no CIFAR-10 in {folder} (neither cifar-10-batches-py nor train/<class>/*.png|jpg){archive}. Download it with "
        "`python -m clr data`, set CLR_DATA to the folder of a copy, or set CLR_DATA=synthetic for synthetic images."
    )


def usual_folder() -> Path:
    """Return the folder that `CLR_DATA` names, else `data/`."""
    named = os.environ.get("CLR_DATA", "synthetic")
    return paths.home() / "data" if named in ("", "synthetic") else _checks.path("CLR_DATA", named)


def _archives(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("cifar-10*.tar*")) if folder.is_dir() else []


# The original files


def torchvision_cifar10() -> Any:
    try:
        from torchvision.datasets import CIFAR10
    except (ImportError, RuntimeError) as error:  # a torchvision made for another torch fails with either
        raise ImportError(
            f"reading cifar-10-batches-py needs a torchvision made for torch {torch.__version__} ({error}); "
            "`pip install torch torchvision` gives a pair that matches. An image folder is read without it."
        ) from error
    return CIFAR10


def _load_batches(folder: Path) -> Cifar10:
    CIFAR10: Any = type("CIFAR10", (torchvision_cifar10(),), {"base_folder": folder.name})  # whatever it is called
    from torchvision.datasets.utils import check_integrity

    for name, md5 in CIFAR10.train_list + CIFAR10.test_list + [[CIFAR10.meta["filename"], CIFAR10.meta["md5"]]]:
        path = folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: half unpacked? `python -m clr data` fetches the rest")
        if not check_integrity(str(path), md5):
            raise ValueError(f"{path} is damaged: its md5 should be {md5}. Delete it and run `python -m clr data`")
    splits = []
    for train in (True, False):
        original = CIFAR10(str(folder.parent), train=train)
        images = torch.from_numpy(original.data).permute(0, 3, 1, 2).contiguous()
        splits.append(Split(images, torch.tensor(original.targets)))
    _check_sums(splits[0].images, folder)
    return Cifar10(splits[0], splits[1], "cifar10", _sha256(_bytes_of(splits)))


def _check_sums(images: Tensor, root: Path) -> None:
    sums = tuple(images.sum((0, 2, 3), dtype=torch.int64).tolist())
    if sums != CHANNEL_SUMS:
        raise ValueError(f"the images in {root} are not CIFAR-10's: channel sums {sums}, expected {CHANNEL_SUMS}")


def _sha256(chunks: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _bytes_of(splits: Iterable[Split]) -> Iterable[memoryview]:
    return (tensor.numpy().data.cast("B") for split in splits for tensor in (split.images, split.labels))


# An image folder


def _load_image_folder(root: Path) -> Cifar10:
    images, labels, kind, fingerprint = image_folder.read(root, CLASSES, PER_CLASS)
    first_test = len(CLASSES) * PER_CLASS["train"]
    tensors = (torch.from_numpy(images), torch.from_numpy(labels))
    train, test = map(Split, *((tensor[:first_test], tensor[first_test:]) for tensor in tensors))
    if kind == "png":
        _check_sums(train.images, root)
    return Cifar10(train, test, "cifar10-jpeg" if kind == "jpeg" else "cifar10", fingerprint)


# Synthetic data


def synthetic_cifar10(train: int = 50_000, test: int = 10_000, seed: int = 0) -> Cifar10:
    """Make the offline stand-in: images and labels that numpy draws, the same on every platform.

    `clr.synthetic` says what they show. No net can be right in more than about 70% of cases.
    """
    train, test = _checks.positive_int("train", train), _checks.positive_int("test", test)
    drawn = synthetic.draw((train, test), _checks.seed("seed", seed))
    splits = [Split(torch.from_numpy(images), torch.from_numpy(labels)) for images, labels in drawn]
    return Cifar10(splits[0], splits[1], "synthetic", _sha256(_bytes_of(splits)))
