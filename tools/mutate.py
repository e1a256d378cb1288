"""Put mutants into modules one at a time, and see which of them the tests notice: `make mutate`.

python -m tools.mutate              a sample of 40 mutants per module, always the same
python -m tools.mutate --all        all of them
python -m tools.mutate bounds find  of these modules

One process imports torch and pytest, then a fork of it tests each mutant, in a copy of the checkout, with the tests
that run the mutated line, the quickest first. A line that is run at import has all tests of the module. Outcomes are
kept in runs/mutants.json, so an interrupted call goes on; survivors are tried again when a test has changed. A mutant
that only another process would notice counts as a survivor.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest

from tools.mutants import Mutant, device_lines, mutants

ROOT = Path(__file__).parents[1]
KNOWN = Path(__file__).with_suffix(".json")  # tests by module; equivalent mutants, and places of devices, with reasons
OUTCOMES = ROOT / "runs" / "mutants.json"
SEED = 20
OPTIONS = [
    "-x", "-q", "-p", "no:cacheprovider", "-p", "no:nbval", "-o", "addopts=--doctest-modules",
    # slow (the stories' own tests of their sharpness, and simulations), or in torch's compiler, which coverage stops
    "-k", "not is_found and not intervals_cover and not compile",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # hypothesis is imported once, for all
]  # fmt: skip


@dataclass(frozen=True)
class Baseline:
    """What the tests of a module do without a mutant: the limit of processor seconds, and the tests by line."""

    limit: float
    by_line: dict[str, list[str]]

    def tests_of(self, line: int) -> list[str]:
        """Return the tests that run a line, the quickest first."""
        return self.by_line.get(str(line), [])


class Watch:
    """A pytest plugin that writes down which tests run which lines of a module, the quickest first."""

    def __init__(self, module: Path, report: Path):
        self.module, self.report, self.seconds = module, report, dict[str, float]()
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=[str(module)])
        self.coverage.set_option("run:disable_warnings", ["no-data-collected"])  # where all of it runs at import

    def pytest_sessionstart(self) -> None:
        """Begin to watch."""
        self.coverage.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Name the test that begins."""
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add what a part of a test took."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        """Write the tests by line."""
        self.coverage.stop()
        found = self.coverage.get_data().contexts_by_lineno(str(self.module))
        seconds = self.seconds
        by_line = {line: sorted(set(tests) & set(seconds), key=seconds.__getitem__) for line, tests in found.items()}
        self.report.write_text(json.dumps(by_line), encoding="utf-8")


class Only:
    """A pytest plugin that runs some tests in their order, and no others; all of them where none is named."""

    def __init__(self, first: list[str]):
        self.place = {test: i for i, test in enumerate(first)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out the other tests."""
        if chosen := [item for item in items if item.nodeid in self.place]:
            items[:] = sorted(chosen, key=lambda item: self.place[item.nodeid])


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
    for name in (
        "hypothesis", "IPython.display", "joblib", "matplotlib.pyplot", "pandas", "scipy.interpolate", "scipy.stats",
        "seaborn", "torch._dynamo", "torchvision",  # torch's compiler comes with the first optimizer, in three seconds
    ):  # fmt: skip
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
    baseline: list[Baseline] = []
    for mutant in chosen:
        line = source.splitlines()[mutant.line - 1].strip()
        if (name, line, f"{mutant.before} -> {mutant.after}") in equivalents:
            counts["equivalent"] += 1
            continue
        outcome = _outcome(name, mutant, source, tests, copy, baseline)
        counts[outcome] += 1
        if outcome == "survived":
            alive.append(f"{name}:{mutant.line}: {mutant.before} -> {mutant.after}    in: {line}")
    devices = len(device_lines(source))
    return [name, len(every), len(chosen), counts["killed"], counts["equivalent"], counts["survived"], devices], alive


def _is_in(source: str, line: int, functions: set[str]) -> bool:
    """Return whether a line is in one of the functions, whose mutants are left out."""
    found = [node for node in ast.walk(ast.parse(source)) if getattr(node, "name", None) in functions]
    return any(node.lineno <= line <= node.end_lineno for node in found)  # type: ignore[attr-defined]


def _outcome(name: str, mutant: Mutant, source: str, tests: list[str], copy: Path, baseline: list[Baseline]) -> str:
    """Return what became of a mutant: from an earlier call if neither it nor, for a survivor, a test has changed."""
    content = "".join((copy / test).read_text(encoding="utf-8") for test in tests)
    change = f"{mutant.line} {mutant.before} -> {mutant.after}"
    key = hashlib.sha256(f"{name} {source} {change} {mutant.text}".encode()).hexdigest()
    checked = hashlib.sha256(content.encode()).hexdigest()
    outcomes = json.loads(OUTCOMES.read_text(encoding="utf-8")) if OUTCOMES.exists() else {}
    if (key in outcomes and outcomes[key]["outcome"] == "killed") or outcomes.get(key, {}).get("tests") == checked:
        return outcomes[key]["outcome"]
    if not baseline:
        baseline.append(_baseline(name, tests, copy))
    first = baseline[0].tests_of(_first_line(source, mutant.line))
    files = list(dict.fromkeys(test.partition("::")[0] for test in first)) or [name, *tests]
    survives = _passes(copy / name, mutant.text, source, files, baseline[0].limit, first)
    outcome = "survived" if survives else "killed"
    outcomes[key] = {"module": name, "change": change, "outcome": outcome, "tests": checked}
    OUTCOMES.parent.mkdir(exist_ok=True)
    OUTCOMES.write_text(json.dumps(outcomes, indent=1), encoding="utf-8")
    return outcome


def _first_line(source: str, line: int) -> int:
    """Return the first line of the statement that a line belongs to, or the line itself if it is a decorator's."""
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    return max((s.lineno for s in statements if s.lineno <= line <= (s.end_lineno or s.lineno)), default=line)


def _baseline(name: str, tests: list[str], copy: Path) -> Baseline:
    """Run a module's tests without a mutant: what they cost, and which of them run which lines."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = copy / "baseline.json"
    if _forked([name, *tests], 3600.0, Watch(copy / name, report), write_bytecode=True):
        raise SystemExit(f"the tests of {name} fail without a mutant: python -m pytest {' '.join(tests)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    limit = 10 + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # watched, they take twice as long
    return Baseline(limit, json.loads(report.read_text(encoding="utf-8")))


def _passes(module: Path, mutated: str, source: str, tests: list[str], limit: float, first: list[str]) -> bool:
    """Return whether the tests pass with a mutant in the copy."""
    module.write_text(mutated, encoding="utf-8")
    for compiled in (module.parent / "__pycache__").glob(f"{module.stem}.*"):
        compiled.unlink()  # one as long, of the same second, would be taken for it
    try:
        return _forked(tests, limit, Only(first)) == 0
    finally:
        module.write_text(source, encoding="utf-8")


def _forked(tests: list[str], limit: float, plugin: Watch | Only, write_bytecode: bool = False) -> int:
    """Run tests in a fork of this process, within a limit of processor seconds, and of five times that on the clock.

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
        os._exit(_pytest(tests, plugin))
    until = time.monotonic() + 5 * limit
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.killpg(child, 9)
            ended = os.waitpid(child, 0)
            break
        time.sleep(0.05)
    return ended[1]


def _pytest(tests: list[str], plugin: Watch | Only) -> int:
    try:
        return int(pytest.main([*OPTIONS, *tests], plugins=[plugin]))
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
