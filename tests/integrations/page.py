"""The code of docs/integrations.md, run as it stands there: what the page says is what is tested."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


def blocks(heading: str) -> list[str]:
    """Return the Python blocks under a heading, in order."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return re.findall(r"^```python\n(.*?)^```", section[1], re.M | re.S)


def run(heading: str, block: int = 0, **names: Any) -> SimpleNamespace:
    """Run one block with the given names, and return all names that there are afterwards."""
    exec(compile(blocks(heading)[block], f"{PAGE.name}, {heading}, block {block}", "exec"), names)
    return SimpleNamespace(**names)
