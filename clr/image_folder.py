"""Images in folders, `train/<class>/*.png|jpg` beside `test/<class>/...`: decoded once, then cached."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from clr import paths
from clr._checks import shorten

__all__ = ["read"]

SUFFIXES = (".png", ".jpg", ".jpeg")


def read(root: Path, classes: Sequence[str], per_class: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray, str, str]:
    """Read all images, split by split and class by class, each class in order of file name.

    Args:
        classes: the folders' names.  per_class: how many images each holds, by split.

    Returns:
        images uint8 (N, 3, 32, 32), labels int64 (N,), "png" or "jpeg", and the sha256 of all names and files.

    Raises:
        FileNotFoundError: a split is missing.
        ValueError: a folder or file is not as expected, or damaged; the message names it.
    """
    files = _listing(root, classes, per_class)
    suffixes = {path.suffix.lower() for _, path in files}
    jpeg = suffixes <= {".jpg", ".jpeg"}
    if not jpeg and suffixes != {".png"}:
        raise ValueError(f"{root} must hold either JPEG or PNG images, got {', '.join(sorted(suffixes))}")
    stats = ((path.relative_to(root), path.stat()) for _, path in files)
    lines = (f"{path.as_posix()}|{stat.st_size}|{stat.st_mtime_ns}\n" for path, stat in stats)
    key = hashlib.sha256("".join(lines).encode()).hexdigest()
    cache = paths.home() / "data" / "cache" / f"{key[:16]}.npz"
    arrays = _read_cache(cache)
    if arrays is None:
        arrays = _decode(root, files)
        _write_cache(cache, arrays)
    return arrays["images"], arrays["labels"], "jpeg" if jpeg else "png", str(arrays["fingerprint"])


def _listing(root: Path, classes: Sequence[str], per_class: Mapping[str, int]) -> list[tuple[int, Path]]:
    """Return (class, file) for every image, in order of name; refuse folders that are not CIFAR-10's."""
    files = []
    for split, count in per_class.items():
        if not (root / split).is_dir():
            raise FileNotFoundError(f"{root / split} is missing: half unpacked?")
        _check_folders(root / split, classes)
        for label, name in enumerate(classes):
            images = _entries(root / split / name)
            for path in images:
                _check_image(path)
            if len(images) != count:
                raise ValueError(f"{root / split / name} must hold {count} images, got {len(images)}")
            files += [(label, path) for path in images]
    return files


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _check_folders(folder: Path, classes: Sequence[str]) -> None:
    found = {path.name: path.is_dir() for path in _entries(folder)}
    lacks = ", ".join(name for name in classes if not found.get(name))
    besides = ", ".join(name for name in found if name not in classes)
    if lacks or besides:
        faults = [
            f"{fault} {shorten(names, 100)}" for fault, names in (("lacks", lacks), ("also has", besides)) if names
        ]
        raise ValueError(f"{folder} must hold the folders {', '.join(classes)}, and {' and '.join(faults)}")


def _check_image(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise ValueError(f"{path} is not an image: the folder must hold {', '.join(SUFFIXES)} files only")


def _decode(root: Path, files: list[tuple[int, Path]]) -> dict[str, np.ndarray]:
    from tqdm.auto import tqdm

    images, fingerprint = np.empty((len(files), 3, 32, 32), np.uint8), hashlib.sha256()
    # once a second: messages of a notebook that nobody reads, such as a test's, pile up and get lost
    for i, (_, path) in enumerate(tqdm(files, "decoding", unit="images", mininterval=1)):  # threads take twice as long
        content = path.read_bytes()
        images[i] = _pixels(path, content).transpose(2, 0, 1)
        fingerprint.update(hashlib.sha256(f"{path.relative_to(root).as_posix()}\n".encode() + content).digest())
    labels = np.array([label for label, _ in files], np.int64)
    return {"images": images, "labels": labels, "fingerprint": np.array(fingerprint.hexdigest())}


def _pixels(path: Path, content: bytes) -> np.ndarray:
    """Return the image as uint8 (32, 32, 3); ValueError with the file's name for anything else than such an image."""
    from PIL import Image

    def opened() -> Image.Image:
        return Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))

    try:
        if content.startswith(b"\x89PNG"):
            with opened() as image:
                image.verify()  # its checksums
        with opened() as image:
            if image.size != (32, 32):  # asked before decoding: a bomb stays packed
                raise ValueError(f"it must be 32 x 32, got {image.width} x {image.height}")
            if image.mode not in ("RGB", "L", "P") or (image.format == "PNG" and content[24] == 16):
                raise ValueError("it must have 8 bits each of red, green and blue")
            if image.mode == "P" and (
                image.palette is None or np.asarray(image).max() >= len(image.palette.palette) // 3
            ):
                raise ValueError("its palette lacks a color")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise SyntaxError, struct.error and others, also for a damaged file
        raise ValueError(f"{path} is not an image that can be read: {shorten(str(error))}") from error


def _read_cache(path: Path) -> dict[str, np.ndarray] | None:
    """Return the cached arrays, or None if they are missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)  # reading checks the CRC of each array
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write_cache(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with suppress(OSError), paths.atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # on a read-only or full disk the next start decodes again
