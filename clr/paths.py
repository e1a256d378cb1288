"""Where data, results, runs and images lie, unless a call says otherwise.

All four are folders of the home: `CLR_HOME`, else the nearest parent of the working folder that holds both `clr/`
and `notebooks/` (a notebook's kernel starts in `notebooks/`), else the working folder.
"""

import os
from pathlib import Path

__all__ = ["home", "temporary"]


def home() -> Path:
    """Return the folder that holds data/, results/, runs/ and images/."""
    if named := os.environ.get("CLR_HOME"):
        return Path(named).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "clr").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return here


def temporary(path: Path) -> Path:
    """Return the name under which to write what is then renamed to `path`: no reader ever sees half a file."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")
