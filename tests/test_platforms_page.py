"""docs/platforms.md: its lines do by hand what `make` does, its versions are the lock's, its prose is short."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from clr import __main__, paths

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "platforms.md").read_text(encoding="utf-8")
VENV, BY_HAND = "-m venv .venv", "python -m pip install --quiet --constraint requirements.lock --editable"


def lines_of(section):
    """Return the commands of a section's block, with Linux's names for Windows' programs."""
    block = re.search(rf"^## {section}\n.*?```\w*\n(.*?)```", PAGE, flags=re.DOTALL | re.MULTILINE)[1]
    commands = block.replace(".venv\\Scripts\\", ".venv/bin/").replace("py -3.13", "python3").splitlines()
    return [command.split("  #")[0].strip() for command in commands]


@pytest.fixture(scope="module")
def made():
    """What `make` does, one line per command."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    make = ["make", "--no-print-directory", "-n", "-B", "run", "test"]  # also where make runs these tests
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
    return said.stdout.replace("'", '"').splitlines()


def test_the_lines_for_windows_are_what_make_does(made):
    assert lines_of("Windows")[:2] == ["git clone ADDRESS clr-lab", "cd clr-lab"]
    assert lines_of("Windows")[2:] == [line for line in made if "-c " not in line and not line.startswith("touch")]


@pytest.mark.parametrize("section", ["A cluster node", "Without a GPU"])
def test_the_lines_for_a_node_and_without_a_gpu_install_what_make_does(section, made):
    own = ("export ", "--index-url", "make run", "clr run --all")
    lines = [line for line in lines_of(section) if not any(part in line for part in own)]
    assert len(lines) == 3
    assert set(lines) <= set(made)
    assert [line for line in lines if VENV in line or BY_HAND in line] == [
        line for line in made if VENV in line or BY_HAND in line
    ]


def test_torch_without_cuda_is_the_locked_one():
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8").split()
    install = next(line for line in lines_of("Without a GPU") if "--index-url" in line)
    named = re.findall(r"torch\w*==\S+", install)
    assert len(named) == 2 and set(named) <= set(locked)
    assert f"torch {'.'.join(named[0].split('==')[1].split('.')[:2])}, the pinned version" in PAGE


def test_the_cell_for_colab_and_kaggle_installs_once_in_any_folder(tmp_path, monkeypatch):
    block = re.search(r"^## Colab and Kaggle\n.*?```python\n(.*?)```", PAGE, flags=re.DOTALL | re.MULTILINE)[1]
    cell, done = re.sub(r"^( *)[!%](.*)", r'\1shell("\2")', block, flags=re.MULTILINE), []

    def shell(line):
        done.append(line)
        Path("clr-lab").mkdir(exist_ok=True)

    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        exec(cell, {"shell": shell})
    assert done == ["git clone --quiet --depth 1 ADDRESS clr-lab", "pip install --quiet ./clr-lab"]
    assert paths.home() == tmp_path / "clr-lab"


def test_installing_replaces_nothing_in_colab():
    """The versions are those that Colab had when it was looked at."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floors = {floor.name: floor.specifier for floor in map(Requirement, project["dependencies"])}
    for name, there in {"torch": "2.11.0", "numpy": "2.1.3", "pandas": "2.2.3"}.items():
        assert floors[name].contains(there)


def test_commands_of_the_page_are_there():
    commands = re.findall(r"python -m clr ([a-z].*?)(?:`|\n)", PAGE)
    assert len(commands) > 3
    for command in commands:
        assert __main__._parser().parse_args(command.split()).command


def test_no_registry_is_named_and_the_prose_is_short():
    assert not re.search(r"https?://|\bpypi\.org|whl/", PAGE)
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    assert len(" ".join(line for line in prose.splitlines() if not line.startswith("|")).split()) < 600


def test_binder_takes_torch_without_cuda_and_this_clone():
    environment = (ROOT / "binder" / "environment.yml").read_text(encoding="utf-8")
    assert re.findall(r"^ +- (.*)", environment, flags=re.MULTILINE) == [
        "python >=3.11,<3.15", "pytorch-cpu", "torchvision", "pip", "pip:", "-e ../[notebooks]",
    ]  # fmt: skip
