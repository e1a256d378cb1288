"""Where data, results, runs and images lie, unless a call says otherwise.

All four are folders of the home: `CLR_HOME`, else the nearest parent of the working folder that holds both `clr/`
and `notebooks/` (a notebook's kernel starts in `notebooks/`), else the working folder.
"""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_write", "home", "require_writable"]


def home() -> Path:
    """Return the folder that holds data/, results/, runs/ and images/.

    Raises:
        FileNotFoundError: CLR_HOME is neither a folder nor a new one in a folder.
    """
    if named := os.environ.get("CLR_HOME"):
        folder = Path(os.path.expandvars(named)).expanduser().resolve()
        if not folder.parent.is_dir():
            raise FileNotFoundError(f"CLR_HOME must be a folder, or a new one in a folder, got {named!r}")
        return folder
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "clr").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return here


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, which then becomes `path`: no reader ever sees half a file.

    When the writing fails, or is interrupted, nothing is left of it and what was at `path` still is. An error, such as
    a full disk's, names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")  # containers on one disk share process numbers
    try:
        yield part
        _replace(part, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(part)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def _replace(part: Path, path: Path, patience: float = 2.0) -> None:
    """Rename; Windows refuses that for a moment while a scanner or an indexer has the file open."""
    give_up = time.monotonic() + patience
    while True:
        try:
            part.replace(path)
            return
        except PermissionError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def require_writable(folder: Path) -> None:
    """Make the folder where it is missing, and write an empty file there for a moment.

    Raises:
        OSError: that is refused; the message names the folder.
    """
    probe = folder / f".{uuid.uuid4().hex[:8]}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
