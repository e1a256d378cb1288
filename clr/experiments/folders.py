"""Where runs are kept: the results folder of a data set, scale and precision."""

import json
from contextlib import suppress
from pathlib import Path

from clr import _checks, paths
from clr.data import Cifar10
from clr.experiments.catalogue import EXPERIMENTS
from clr.experiments.scales import SCALES

__all__ = ["kept_apart", "results_folder", "set_aside_others"]


def kept_apart(name: str, precision: str | None) -> str | None:
    """Return a precision that is not the one of an experiment's arms in the catalogue; otherwise None."""
    own = {config.precision for config in EXPERIMENTS[name].arms.values()}
    return None if precision is None or own == {precision} else precision


def results_folder(dataset: str, scale: str, precision: str | None = None) -> Path:
    """Return where runs are kept: results/ at full scale on real images, else runs/<data set>-<scale>/results.

    Runs in another precision than the catalogue's are kept in runs/<data set>-<scale>-<precision>/results.
    """
    _checks.choice("scale", scale, SCALES)
    if scale == "full" and dataset != "synthetic" and precision is None:
        return paths.home() / "results"
    other = "" if precision is None else f"-{precision}"
    return paths.home() / "runs" / f"{dataset}-{scale}{other}" / "results"


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
