"""`make mutate`: what a mutant is, and that its list of tests and of equivalents is of this code."""

import ast
import json
from pathlib import Path

from tools.mutants import device_lines, mutants

ROOT = Path(__file__).parents[1]
KNOWN = json.loads((ROOT / "tools" / "mutate.json").read_text(encoding="utf-8"))


def changes(source):
    return [(mutant.before, mutant.after) for mutant in mutants(source)]


def test_one_operator_number_condition_or_statement_is_changed_at_a_time():
    assert changes("if a < 1:\n    b = a + 1\n") == [
        ("a < 1", "a <= 1"), ("a < 1", "not a < 1"), ("1", "2"), ("a + 1", "a - 1"), ("1", "2"),
    ]  # fmt: skip
    assert changes("while True:\n    f(a and not b)\n    break\n") == [
        ("True", "False"), ("True", "not True"), ("f(a and not b)", "pass"), ("a and not b", "a or not b"),
        ("not b", "b"), ("break", "continue"),
    ]  # fmt: skip
    assert changes("x = min(a, -b) if c in d else a ** 2.5") == [
        ("c in d", "c not in d"), ("c in d", "not c in d"), ("min", "max"), ("-b", "b"), ("a ** 2.5", "a * 2.5"),
        ("2.5", "3.5"),
    ]  # fmt: skip


def test_words_annotations_and_lines_of_devices_have_none():
    source = '"""Text 1."""\n__all__ = ["a"]\nx: list[1] = y\nraise E(1 + 1)\nf"{1 + 1}"\nz = torch.cuda.count() > 1\n'
    assert changes(source) == [] and device_lines(source) == [6]


def test_a_mutant_has_one_line_changed_and_can_be_compiled():
    for name in ("clr/results.py", "clr/range_test/curve.py"):
        source = (ROOT / name).read_text(encoding="utf-8")
        before = source.splitlines()
        for mutant in mutants(source)[::10]:
            ast.parse(mutant.text)
            lines = zip(before, mutant.text.splitlines(), strict=False)
            assert next(i for i, (one, other) in enumerate(lines, 1) if one != other) == mutant.line


def test_lines_keep_their_numbers_where_one_line_replaces_several():
    for source, after in (("if x:\n    f(\n        1\n    )\nend\n", "pass"), ("x = (a\n    < b)\nend\n", "a <= b")):
        text = next(mutant.text for mutant in mutants(source) if mutant.after.strip() == after)
        ast.parse(text)
        assert text.splitlines().index("end") == source.splitlines().index("end")


def test_the_list_names_files_and_lines_that_are_there():
    for name, tests in KNOWN["tests"].items():
        assert all((ROOT / path).exists() for path in (name, *tests))
    places = {name: set(lines_and_changes(ROOT / name)) for name, *_ in KNOWN["equivalent"]}
    for name, line, change, reason in KNOWN["equivalent"]:
        assert (line, change) in places[name] and len(reason) > 10


def lines_and_changes(path):
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    return [(lines[mutant.line - 1].strip(), f"{mutant.before} -> {mutant.after}") for mutant in mutants(source)]
