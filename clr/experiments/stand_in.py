"""Runs on synthetic images of another version: no run of this one can be compared with them."""

import json
from contextlib import suppress
from pathlib import Path

from clr.data import Cifar10

__all__ = ["set_aside_others"]


def set_aside_others(root: Path, data: Cifar10) -> Path | None:
    """Move the results on other synthetic images out of the way, and say so in one line; return where they are then.

    Args:
        root: a results folder below runs/.
        data: the synthetic images of this version.
    """
    folder = root / data.name
    found = {_fingerprint(record) for record in folder.rglob("seed-*.json")}
    others = sorted(fingerprint for fingerprint in found if fingerprint not in (None, data.fingerprint))
    if not others:
        return None
    place = root.with_name(f"results-{others[0][:8]}")
    place.mkdir(parents=True, exist_ok=True)
    target = place / data.name
    number = 1
    while target.exists():
        number += 1
        target = place / f"{data.name}-{number}"
    folder.rename(target)
    print(f"The synthetic images are not those of an earlier version: its runs are now in {target}; training anew.")
    return target


def _fingerprint(record: Path) -> str | None:
    """Return the fingerprint in a record; None in one that is damaged, which whoever reads it will say."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        return str(json.loads(record.read_bytes())["data"]["fingerprint"])
    return None
