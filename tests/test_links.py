"""The links: what a page names is there, and every notebook can be opened without installing, from one address."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "docs/integrations.md", "benchmarks/README.md")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text())
    gone = [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()]
    assert not gone


def _address():
    """The repository's, as the README has it for pip."""
    return re.search(r"pip install git\+https://github\.com/([^`]+)`", (ROOT / "README.md").read_text())[1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_on_nbviewer_colab_and_binder(path):
    address, readme = _address(), (ROOT / "README.md").read_text()
    for link in (
        f"(https://nbviewer.org/github/{address}/blob/main/notebooks/{path.name})",
        f"(https://colab.research.google.com/github/{address}/blob/main/notebooks/{path.name})",
        f"(https://mybinder.org/v2/gh/{address}/main?labpath=notebooks%2F{path.name})",
    ):
        assert link in readme


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_of_a_notebook_installs_the_repository_on_colab(path):
    cells = json.loads(path.read_text())["cells"]
    first = "".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code"))
    assert 'if "google.colab" in sys.modules:' in first
    assert f"git clone --quiet --depth 1 https://github.com/{_address()} " in first
