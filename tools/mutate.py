"""Put mutants into modules one at a time, and see which of them the tests notice: `make mutate`.

python -m tools.mutate              a sample of 40 mutants per module, always the same
python -m tools.mutate --all        all of them
python -m tools.mutate bounds find  of these modules

One process imports torch and pytest, then a fork of it tests each mutant, in a copy of the checkout. Outcomes are kept
in runs/mutants.json, so an interrupted call goes on; survivors are tried again when a test has changed.
mutmut mutates functions only and cosmic-ray starts a process per mutant, most of whose time is torch's import.
"""

import argparse
import ast
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from tools.mutants import Mutant, device_lines, mutants

ROOT = Path(__file__).parents[1]
KNOWN = Path(__file__).with_suffix(".json")  # tests by module; equivalent mutants, and places of devices, with reasons
OUTCOMES = ROOT / "runs" / "mutants.json"
SEED = 20
OPTIONS = [
    "-x", "-q", "-p", "no:cacheprovider", "-p", "no:nbval", "-o", "addopts=--doctest-modules",
    "-k", "not is_found and not intervals_cover",  # slow: the stories' own tests of their sharpness, and simulations
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # hypothesis is imported once, for all
]  # fmt: skip


def main() -> None:
    """Run the mutants that are asked for, and print the table."""
    parser = argparse.ArgumentParser(prog="tools.mutate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="parts of modules' names; all of them if none is given")
    parser.add_argument("--all", action="store_true", help="all mutants, not a sample")
    parser.add_argument("--sample", type=int, default=40, help="mutants per module")
    asked = parser.parse_args()
    known = json.loads(KNOWN.read_text(encoding="utf-8"))
    names = [n for n in known["tests"] if not asked.modules or any(part in n for part in asked.modules)]
    rows, survivors = [], []
    with tempfile.TemporaryDirectory() as folder:
        copy = _copied(Path(folder) / "copy")
        _warm_up(copy)
        for name in names:
            row, alive = _module(name, known, copy, None if asked.all else asked.sample)
            rows.append(row)
            survivors += alive
            print(*row, *alive, sep="  ", flush=True)
    _print(rows, survivors)


def _copied(folder: Path) -> Path:
    """Return a copy of what git knows of, or would add."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("images/", "checkpoints/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def _warm_up(copy: Path) -> None:
    """Import what all tests need, but nothing of this project, and be where its copy is."""
    for name in ("hypothesis", "matplotlib.pyplot", "pandas", "pytest", "scipy.stats", "scipy.interpolate", "torch"):
        __import__(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "clr"]:
        del sys.modules[name]
    os.environ |= {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "CI": "1", "TQDM_DISABLE": "1"}
    os.chdir(copy)
    sys.path[0] = str(copy)


def _module(name: str, known: dict[str, Any], copy: Path, size: int | None) -> tuple[list[Any], list[str]]:
    """Return a module's row of the table, and its survivors."""
    source, tests = (copy / name).read_text(encoding="utf-8"), known["tests"][name]
    equivalents = {tuple(entry[:3]) for entry in known["equivalent"] if entry[0] == name}
    left_out = set(known["devices"].get(name, []))
    every = [mutant for mutant in mutants(source) if not _is_in(source, mutant.line, left_out)]
    chosen = every if size is None or size >= len(every) else random.Random(f"{SEED} {name}").sample(every, size)
    chosen = sorted(chosen, key=lambda mutant: mutant.line)
    alive, counts = [], {"killed": 0, "equivalent": 0, "survived": 0}
    limits: list[float] = []
    for mutant in chosen:
        line = source.splitlines()[mutant.line - 1].strip()
        if (name, line, f"{mutant.before} -> {mutant.after}") in equivalents:
            counts["equivalent"] += 1
            continue
        outcome = _outcome(name, mutant, source, tests, copy, limits)
        counts[outcome] += 1
        if outcome == "survived":
            alive.append(f"{name}:{mutant.line}: {mutant.before} -> {mutant.after}    in: {line}")
    devices = len(device_lines(source))
    return [name, len(every), len(chosen), counts["killed"], counts["equivalent"], counts["survived"], devices], alive


def _is_in(source: str, line: int, functions: set[str]) -> bool:
    """Return whether a line is in one of the functions, whose mutants are left out."""
    found = [node for node in ast.walk(ast.parse(source)) if getattr(node, "name", None) in functions]
    return any(node.lineno <= line <= node.end_lineno for node in found)  # type: ignore[attr-defined]


def _outcome(name: str, mutant: Mutant, source: str, tests: list[str], copy: Path, limits: list[float]) -> str:
    """Return what became of a mutant: from an earlier call if neither it nor, for a survivor, a test has changed."""
    content = "".join((copy / test).read_text(encoding="utf-8") for test in tests)
    change = f"{mutant.line} {mutant.before} -> {mutant.after}"
    key = hashlib.sha256(f"{name} {source} {change} {mutant.text}".encode()).hexdigest()
    checked = hashlib.sha256(content.encode()).hexdigest()
    outcomes = json.loads(OUTCOMES.read_text(encoding="utf-8")) if OUTCOMES.exists() else {}
    if (key in outcomes and outcomes[key]["outcome"] == "killed") or outcomes.get(key, {}).get("tests") == checked:
        return outcomes[key]["outcome"]
    if not limits:
        limits.append(_baseline(name, tests))
    outcome = "survived" if _passes(copy / name, mutant.text, source, [name, *tests], limits[0]) else "killed"
    outcomes[key] = {"module": name, "change": change, "outcome": outcome, "tests": checked}
    OUTCOMES.parent.mkdir(exist_ok=True)
    OUTCOMES.write_text(json.dumps(outcomes, indent=1), encoding="utf-8")
    return outcome


def _baseline(name: str, tests: list[str]) -> float:
    """Return the limit of a mutant's processor seconds, from those that the tests need without one."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if _forked([name, *tests], 3600.0, write_bytecode=True):
        raise SystemExit(f"the tests of {name} fail without a mutant: python -m pytest {' '.join(tests)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 10 + 3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _passes(module: Path, mutated: str, source: str, tests: list[str], limit: float) -> bool:
    """Return whether the tests pass with a mutant in the copy."""
    module.write_text(mutated, encoding="utf-8")
    for compiled in (module.parent / "__pycache__").glob(f"{module.stem}.*"):
        compiled.unlink()  # one as long, of the same second, would be taken for it
    try:
        return _forked(tests, limit) == 0
    finally:
        module.write_text(source, encoding="utf-8")


def _forked(tests: list[str], limit: float, write_bytecode: bool = False) -> int:
    """Run tests in a fork of this process, within a limit of processor seconds, and of twenty times that on the clock.

    Returns 0 if all pass.
    """
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
        sys.dont_write_bytecode = not write_bytecode
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        os._exit(_pytest(tests))
    until = time.monotonic() + 20 * limit
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.killpg(child, 9)
            ended = os.waitpid(child, 0)
            break
        time.sleep(0.05)
    return ended[1]


def _pytest(tests: list[str]) -> int:
    import pytest

    try:
        return int(pytest.main([*OPTIONS, *tests]))
    except BaseException:
        traceback.print_exc()
        return 1


def _print(rows: list[list[Any]], survivors: list[str]) -> None:
    print("\nmodule  possible  made  killed  equivalent  survived  lines of devices, left out")
    for row in rows:
        print("  ".join(map(str, row)))
    made, equivalent, killed = (sum(row[i] for row in rows) for i in (2, 4, 3))
    print(f"killed {killed} of {made - equivalent}, and {equivalent} are equivalent", *survivors, sep="\n")


if __name__ == "__main__":
    main()
