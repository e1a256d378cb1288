"""The package itself: every public name is there, and none is imported before it is used."""

import inspect
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import clr

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", clr.__all__)
def test_every_public_name_is_there(name):
    value = getattr(clr, name)
    assert name in dir(clr)
    if inspect.ismodule(value):
        assert value.__name__ == f"clr.{name}"
    else:
        assert name in inspect.getmodule(value).__all__


def test_the_take_home_half_loads_nothing_of_the_study():
    study = ("data", "nets", "optim", "results", "paths", "image_folder", "training", "experiments")
    code = f"""if True:
        import sys
        import clr
        for name in ("PolicyLR", "suggest_bounds", "lr_range_test"):
            getattr(clr, name)
            loaded = [module for module in sys.modules if module.startswith({tuple(f"clr.{part}" for part in study)})]
            assert not loaded, (name, loaded)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


POLICIES = ("policies", "_arithmetic", "_checks")
SCHEDULERS = (*POLICIES, "schedulers", "groups", "_hints")
RANGE_TEST = (*SCHEDULERS, "range_test", "_stats", "notebook", "figures")


@pytest.mark.parametrize(
    ("module", "names"), [("policies", POLICIES), ("schedulers", SCHEDULERS), ("range_test", RANGE_TEST)]
)
def test_the_files_to_take_home_work_alone(tmp_path, module, names):
    (tmp_path / "clr").mkdir()
    for name in names:
        source = ROOT / "clr" / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / "clr" / name)
        else:
            shutil.copy(source.with_suffix(".py"), tmp_path / "clr")
    code = f"import clr.{module}; print(clr.{module}.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path / "clr" / module))


def test_the_readme_names_the_files_to_take_home():
    (row,) = (line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "take home" in line)
    assert set(re.findall(r"`(\w+)`", row)) == {*RANGE_TEST, "PolicyLR", "clr"}


def test_importing_clr_imports_no_library():
    code = """if True:
        import sys
        import clr
        assert "PolicyLR" in dir(clr)
        loaded = {"torch", "torchvision", "numpy", "pandas", "scipy", "matplotlib"} & sys.modules.keys()
        assert not loaded, loaded
        clr.figures, clr.results
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No clr attribute Cosinus"):
        _ = clr.Cosinus


def test_a_wheel_holds_every_file_of_the_package(tmp_path):
    pytest.importorskip(
        "setuptools", "77", reason="the build needs setuptools 77 or newer, and no network is used here"
    )
    root = Path(__file__).parents[1]
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path)
    shutil.copytree(root / "clr", tmp_path / "clr", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "."]
    subprocess.run(pip, cwd=tmp_path, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("clr/")}
    sources = {path.relative_to(root).as_posix() for path in (root / "clr").rglob("*.py*") if path.suffix != ".pyc"}
    assert packed == sources | {"clr/py.typed"}
