"""The code of docs/integrations.md, run as it stands there: what the page says is what is tested."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


def run(heading: str, block: int = 0, **names: Any) -> SimpleNamespace:
    """Run the page's imports and one block under a heading, and return all names that there are afterwards."""
    top, *sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    section = dict(section.split("\n", 1) for section in sections)[heading]
    for code in (_blocks(top)[0], _blocks(section)[block]):
        exec(compile(code, f"{PAGE.name}, {heading}, block {block}", "exec"), names)
    return SimpleNamespace(**names)


def _blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
