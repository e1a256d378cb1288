"""The links: what a page names is there, and until there is an address no page has a link that needs one."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_a_page_links_to_is_there(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    gone = [link for link in links if "://" not in link and not page.parent.joinpath(link).exists()]
    assert not gone


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_heading_that_a_page_links_to_is_there(page):
    for link, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        target = page.parent / link if link else page
        titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
        assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_without_an_address_no_page_has_a_link_that_needs_one(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if "urls" not in project:
        assert not re.search(r"OWNER/NAME|nbviewer\.org|colab|mybinder|git\+https", path.read_text(encoding="utf-8"))
