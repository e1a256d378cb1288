"""Images in folders, `train/<class>/*.png|jpg` beside `test/<class>/...`: decoded once, then cached."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from clr import paths

__all__ = ["read"]


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
    suffixes = {path.suffix.lower() for _, _, path in files}
    jpeg = suffixes <= {".jpg", ".jpeg"}
    if not jpeg and suffixes != {".png"}:
        raise ValueError(f"{root} must hold either JPEG or PNG pictures, got {', '.join(sorted(suffixes))}")
    stats = ((path.relative_to(root), path.stat()) for _, _, path in files)
    lines = (f"{path.as_posix()}|{stat.st_size}|{stat.st_mtime_ns}\n" for path, stat in stats)
    key = hashlib.sha256("".join(lines).encode()).hexdigest()
    cache = paths.home() / "data" / "cache" / f"{key[:16]}.npz"
    arrays = _read_cache(cache)
    if arrays is None:
        arrays = _decode(root, files)
        _write_cache(cache, arrays)
    return arrays["images"], arrays["labels"], "jpeg" if jpeg else "png", str(arrays["fingerprint"])


def _listing(root: Path, classes: Sequence[str], per_class: Mapping[str, int]) -> list[tuple[str, int, Path]]:
    """Return (split, class, file) for every image, in order of name; refuse folders that are not CIFAR-10's."""
    files = []
    for split, count in per_class.items():
        if not (root / split).is_dir():
            raise FileNotFoundError(f"{root / split} is missing: half unpacked?")
        found = tuple(sorted(entry.name for entry in (root / split).iterdir() if not entry.name.startswith(".")))
        if found != tuple(classes):
            raise ValueError(f"{root / split} must hold the folders {', '.join(classes)}, got {', '.join(found)}")
        for label, name in enumerate(classes):
            pictures = sorted(p for p in (root / split / name).iterdir() if not p.name.startswith("."))
            if len(pictures) != count:
                raise ValueError(f"{root / split / name} must hold {count} pictures, got {len(pictures)}")
            files += [(split, label, picture) for picture in pictures]
    return files


def _decode(root: Path, files: list[tuple[str, int, Path]]) -> dict[str, np.ndarray]:
    from tqdm.auto import tqdm

    images = np.empty((len(files), 3, 32, 32), np.uint8)

    def decode(i: int) -> bytes:
        content = files[i][2].read_bytes()
        images[i] = _picture(files[i][2], content).transpose(2, 0, 1)
        return hashlib.sha256(f"{files[i][2].relative_to(root).as_posix()}\n".encode() + content).digest()

    with ThreadPoolExecutor() as pool:
        decoded = pool.map(decode, range(len(files)), chunksize=64)
        # once a second: messages of a notebook that nobody reads, such as a test's, pile up and get lost
        digests = tqdm(decoded, "decoding", len(files), unit="pictures", mininterval=1)
        fingerprint = hashlib.sha256(b"".join(digests)).hexdigest()
    labels = np.array([label for _, label, _ in files], np.int64)
    return {"images": images, "labels": labels, "fingerprint": np.array(fingerprint)}


def _picture(path: Path, content: bytes) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise ValueError(f"{path} is not a picture that can be read ({error})") from error
    if pixels.shape != (32, 32, 3):
        raise ValueError(f"{path} must be 32 x 32, got {pixels.shape[1]} x {pixels.shape[0]}")
    return pixels


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
