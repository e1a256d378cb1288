"""The command line, in this process; and what the repository's other files promise."""

import itertools
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from clr import experiments
from clr.__main__ import main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tiny_data(monkeypatch):
    """The stand-in, small, wherever data is loaded."""
    from clr import data

    monkeypatch.setenv("CLR_DATA", "synthetic")
    monkeypatch.setattr(data.synthetic_cifar10, "__defaults__", (300, 100, 0))


def test_run_list_and_table(tiny_data, capsys):
    assert main(["run", "range-test", "--scale", "tiny", "--seeds", "1", "--n-jobs", "1"]) == 0
    assert main(["list", "--scale", "tiny"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"synthetic\s+range-test\s+quick-unit\s+4\s+1 of 2 seeds", listed)
    assert main(["table", "--scale", "tiny"]) == 0
    assert re.search(r"range-test\s+quick-unit\s+4\s+[\d.]+% \(n = 1\)\s+synthetic", capsys.readouterr().out)


def test_a_table_of_nothing_says_so(capsys):
    assert main(["table", "--scale", "tiny"]) == 0
    assert capsys.readouterr().out == "nothing has finished at scale tiny\n"


@pytest.mark.parametrize(("named", "found"), [(None, "home/data"), ("here", "here"), ("synthetic", "synthetic")])
def test_the_notebooks_find_data_where_the_main_job_does(tmp_path, monkeypatch, named, found):
    from clr import __main__

    environments = []
    monkeypatch.setenv("CLR_DATA", named) if named else monkeypatch.delenv("CLR_DATA", raising=False)
    monkeypatch.setattr(__main__.paths, "home", lambda: tmp_path / "home")
    (tmp_path / "home" / "notebooks").mkdir(parents=True)
    (tmp_path / "home" / "notebooks" / "One.ipynb").touch()
    monkeypatch.chdir(tmp_path)
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(__main__.subprocess, "run", lambda *_, env, **__: environments.append(env) or done)
    __main__._execute_notebooks(tmp_path / "runs", tmp_path / "out")
    assert environments[0]["CLR_HOME"] == str(tmp_path / "runs")
    assert environments[0]["CLR_DATA"] == (found if found == "synthetic" else str(tmp_path / found))


def test_mistakes_are_said_in_one_line(tiny_data, capsys):
    assert main(["run", "headlines"]) == 1
    assert main(["run"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith("clr: name must be 'headline'")
    assert errors[1].startswith("clr: name an experiment, or --all")


def test_missing_data_is_said_in_one_line(monkeypatch, capsys):
    monkeypatch.delenv("CLR_DATA", raising=False)
    assert main(["run", "headline"]) == 1
    assert "no CIFAR-10 in" in capsys.readouterr().err


def test_ctrl_c_is_said_and_has_its_exit_status(tiny_data, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "run", interrupted)
    assert main(["run", "headline", "--scale", "tiny"]) == 130
    assert "Nothing finished is lost" in capsys.readouterr().err


def test_environment_yml_holds_what_pyproject_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert f"python {project['requires-python']}" in environment
    extras = re.search(r"-e \.\[(.*)\]", environment)[1].split(",")
    assert set(extras) <= set(project["optional-dependencies"])


def test_lock_holds_names_and_versions_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.!]+", line) for line in lines)
    locked = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    wanted = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    assert {re.match(r"[\w-]+", name)[0] for name in wanted} <= locked


def test_ci_files_call_make_test():
    assert "make test" in (ROOT / ".circleci" / "config.yml").read_text(encoding="utf-8")
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make test")


@pytest.mark.parametrize("failure", [OSError("no network"), KeyboardInterrupt()])
def test_main_job_goes_on_with_the_stand_in_when_nothing_can_be_downloaded(failure, monkeypatch, capsys):
    from clr import __main__, data

    def fail():
        raise failure

    monkeypatch.delenv("CLR_DATA", raising=False)
    monkeypatch.setattr(data, "download_cifar10", fail)
    monkeypatch.setattr(data.synthetic_cifar10, "__defaults__", (300, 100, 0))
    assert __main__._find_data().name == "synthetic"
    assert "Trying to download it; Ctrl-C goes on with the offline stand-in" in capsys.readouterr().out


def test_main_job_stops_at_damaged_data(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CLR_DATA", raising=False)
    (tmp_path / "home" / "data" / "train").mkdir(parents=True)
    assert main(["main", "--scale", "tiny"]) == 1
    assert "train must hold the folders airplane" in capsys.readouterr().err
