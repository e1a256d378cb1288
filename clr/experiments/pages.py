"""The notebooks, executed, and one HTML page: the pictures, the table, and links to the executed notebooks."""

import hashlib
import html
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import pandas as pd
import torch

from clr import data, paths

__all__ = ["NotebookError", "execute", "find_notebooks", "write_index"]

PACKAGE = Path(__file__).parents[1]
NBCONVERT = [sys.executable, "-m", "nbconvert"]


class NotebookError(RuntimeError):
    """A notebook failed; the message has its name and what it said."""


def find_notebooks() -> list[Path]:
    """Return the notebooks of the home folder or, if it has none (as on a cluster's scratch), those beside the code."""
    found = sorted((paths.home() / "notebooks").glob("*.ipynb")) or sorted(PACKAGE.parent.glob("notebooks/*.ipynb"))
    if not found:
        places = f"{paths.home() / 'notebooks'} or {PACKAGE.parent / 'notebooks'}"
        print(f"No notebooks to execute: there are none in {places}.")
    return found


def execute(folder: Path, output: Path, scale: str = "full") -> list[Path]:
    """Execute the notebooks, which read their scale's runs from `folder`/results and write to `folder`/images.

    They find the data where this process would. If neither they nor the code nor the results have changed since the
    last time, nothing is executed.

    Args:
        output: gets the executed notebooks, and each as an HTML page.

    Returns:
        The HTML pages.

    Raises:
        NotebookError: a cell failed.
    """
    sources, mark = find_notebooks(), output / ".made-from"
    pages = [output / f"{source.stem}.html" for source in sources]
    made_from = _digest([*sources, *PACKAGE.rglob("*.py"), *(folder / "results").rglob("*.json")])
    if mark.exists() and mark.read_text(encoding="utf-8") == made_from and all(page.exists() for page in pages):
        print("The notebooks are as they were: not executed again.", flush=True)
        return pages
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as ipython:  # an SQLite history in a home on NFS may hang
        environment = _environment(folder, scale) | {"IPYTHONDIR": ipython}
        with ThreadPoolExecutor(max(1, min(2, joblib.cpu_count()))) as pool:
            list(pool.map(lambda source: _execute(source, output, environment), sources))
        if sources:
            executed = [str(output / source.name) for source in sources]
            _call([*NBCONVERT, "--to", "html", *executed], environment, "nbconvert")
    mark.write_text(made_from, encoding="utf-8")
    return pages


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(str(file).encode() + file.read_bytes())
    return digest.hexdigest()


def _environment(folder: Path, scale: str) -> dict[str, str]:
    synthetic = os.environ.get("CLR_DATA") == "synthetic"
    images = "synthetic" if synthetic else str(data.usual_folder().absolute())  # a kernel starts in another folder
    environment = os.environ | {"CLR_HOME": str(paths.home()), "CLR_DATA": images, "CLR_SCALE": scale}
    environment |= {"CLR_RESULTS": str(folder / "results"), "CLR_IMAGES": str(folder / "images")}
    environment |= {"CLR_STATIC": "1", "PYTHONUTF8": "1", "TQDM_DISABLE": "1"}
    environment.setdefault("OMP_NUM_THREADS", str(min(torch.get_num_threads(), joblib.cpu_count())))  # heeds quotas
    return environment


def _execute(source: Path, output: Path, environment: dict[str, str]) -> None:
    print(f"Executing {source.name}", flush=True)
    command = [*NBCONVERT, "--to", "notebook", "--execute", "--output-dir", str(output), str(source)]
    try:
        _call(command, environment, source.name)
    except NotebookError as error:
        if "Kernel died before replying" not in str(error):
            raise
        _call(command, environment, source.name)  # another process took a port that had been chosen for the kernel


def _call(command: list[str], environment: dict[str, str], name: str) -> None:
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        raise NotebookError(f"{name} failed:\n{done.stderr}")


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
img { max-width: 100%; } figure { margin: 2rem 0; } figcaption { color: #555; }
table { border-collapse: collapse; } td, th { padding: 0.2rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; }
"""


def write_index(path: Path, title: str, reading: str, table: pd.DataFrame, pages: Sequence[Path], images: Path) -> Path:
    """Write the HTML page: what the table says, the table, links to the executed notebooks, and the pictures.

    Args:
        path: of the page.
        title: plain text, as `reading` is, which says what the table shows.
        pages: the executed notebooks as HTML.
        images: the folder of the pictures.
    """
    links = "".join(f'<li><a href="{_link(page, path)}">{html.escape(page.stem)}</a></li>' for page in pages)
    pictures = "".join(
        f'<figure><img src="{_link(picture, path)}" alt="{picture.stem.replace("-", " ")}">'
        f"<figcaption>{picture.stem.replace('-', ' ')}</figcaption></figure>"
        for picture in sorted(images.glob("*.png"), key=lambda path: (path.stem != "headline", path.stem))
    )
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(reading)}</p>"
        f"{table.to_html(index=False, border=0)}<h2>Notebooks</h2><ul>{links}</ul><h2>Pictures</h2>{pictures}</html>\n"
    )
    with paths.atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _link(target: Path, page: Path) -> str:
    return Path(os.path.relpath(target, page.parent)).as_posix()
