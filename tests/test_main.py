"""The command line, in this process; and what the repository's other files promise."""

import itertools
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from clr import experiments, paths
from clr.__main__ import main
from clr.experiments import main_job, pages
from clr.training.precision import SlowPrecisionError

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
    environments = []
    monkeypatch.setenv("CLR_DATA", named) if named else monkeypatch.delenv("CLR_DATA", raising=False)
    monkeypatch.setattr(paths, "home", lambda: tmp_path / "home")
    (tmp_path / "home" / "notebooks").mkdir(parents=True)
    (tmp_path / "home" / "notebooks" / "One.ipynb").touch()
    monkeypatch.chdir(tmp_path)
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(subprocess, "run", lambda *_, env, **__: environments.append(env) or done)
    pages.execute(tmp_path / "runs", tmp_path / "out")
    assert environments[0]["CLR_RESULTS"] == str(tmp_path / "runs" / "results")
    assert environments[0]["CLR_HOME"] == str(tmp_path / "home")
    assert environments[0]["CLR_DATA"] == (found if found == "synthetic" else str(tmp_path / found))


def test_mistakes_are_said_in_one_line(tiny_data, capsys):
    assert main(["run", "headlines"]) == 1
    assert main(["run"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith("clr: name must be 'headline'")
    assert errors[1].startswith("clr: name an experiment, or --all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["range-test", "--arms", "quick"], "clr: arms must be among those of range-test (quick-unit, full-caffe"),
        (["range-test", "--n-jobs", "0"], "clr: n_jobs must be a positive integer, got 0"),
        (["range-test", "--device", "cuda:99"], "clr: device must be one that torch can see"),
        (["range-test", "--queue"], "clr: --queue must stand without names"),
    ],
)
def test_a_refused_argument_is_one_line(tiny_data, capsys, arguments, message):
    assert main(["run", *arguments, "--scale", "tiny"]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(message) and errors.count("\n") == 1


@pytest.mark.parametrize("fault", [ValueError, RuntimeError, KeyError, AssertionError])
def test_a_fault_of_the_program_keeps_its_traceback(tiny_data, monkeypatch, fault):
    def run(*arguments, **options):
        raise fault("not the user's mistake")

    monkeypatch.setattr(experiments, "run", run)
    with pytest.raises(fault, match="not the user's mistake"):
        main(["run", "range-test", "--scale", "tiny"])


def test_a_home_that_is_not_there_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("CLR_HOME", str(tmp_path / "nowhere" / "home"))
    assert main(["list"]) == 1
    assert capsys.readouterr().err.startswith(
        f"clr: CLR_HOME must be a folder, or a new one in a folder, got '{tmp_path}"
    )


def test_a_home_may_begin_with_a_tilde_or_hold_a_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "here")
    monkeypatch.setenv("CLR_HOME", "~/$PLACE")
    assert paths.home() == tmp_path / "here"


def test_a_damaged_result_is_listed_as_damaged_and_not_as_finished(save, capsys):
    for seed in range(3):
        save("range-test", "quick-unit", seed, {4000: 0.6})
    path = paths.home() / "results" / "cifar10" / "range-test" / "quick-unit" / "seed-1.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("0.6", "0.9"), encoding="utf-8")
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"cifar10\s+range-test\s+quick-unit\s+4000\s+2 of 5 seeds, 1 damaged", listed)
    assert "seed-1.csv was changed after it was written" in listed
    assert main(["table"]) == 1
    assert capsys.readouterr().err.startswith(f"clr: {path} was changed after it was written")


def test_a_run_that_has_only_begun_is_no_table_yet(save, capsys):
    save("headline", "fixed", 0, {70_000: 0.75}, "cifar10-jpeg")
    (paths.home() / "results" / "cifar10" / "headline" / "fixed").mkdir(parents=True)
    assert main(["table"]) == 0
    assert "75.00% (n = 1)" in capsys.readouterr().out


def test_all_leaves_out_what_the_machine_is_slow_in(tiny_data, monkeypatch, capsys):
    asked = []

    def slow(precision, device):
        if precision == "bfloat16":
            raise SlowPrecisionError("no fast bfloat16 here")

    monkeypatch.setattr("clr.__main__.check_fast", slow)
    monkeypatch.setattr(experiments, "run", lambda names, *_, **__: asked.append(names))
    assert main(["run", "--all", "--scale", "tiny"]) == 0
    assert asked == [[name for name in experiments.EXPERIMENTS if name != "precision"]]
    assert "precision is left out: no fast bfloat16 here" in capsys.readouterr().err


def test_a_fault_of_the_main_job_shows_its_traceback(tiny_data, monkeypatch):
    monkeypatch.setattr(main_job, "announce", lambda scale: None)
    monkeypatch.setattr(main_job, "run", lambda *_: (_ for _ in ()).throw(ValueError("a fault of ours")))
    with pytest.raises(ValueError, match="a fault of ours"):
        main(["main", "--scale", "tiny"])


def test_the_queue_runs_at_low_priority_and_its_state_is_listed(tiny_data, save, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("os.nice", asked.append, raising=False)
    monkeypatch.setattr(experiments, "run_queue", lambda scale, *rest: asked.append(scale))
    assert main(["run", "--queue", "--scale", "tiny"]) == 0
    assert asked == [19, "tiny"]
    monkeypatch.delattr("os.nice")  # as on Windows
    assert main(["run", "--queue", "--scale", "tiny"]) == 0
    assert asked == [19, "tiny", "tiny"]
    save("headline", "triangular", 0, {35_000: 0.6})
    assert main(["list", "--queue"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"headline\s+triangular\s+1 of 5\s+140000\s+0.0", listed)


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


def test_ci_files_call_make_test_and_the_numerical_tests_at_other_thread_counts():
    for path in (".circleci/config.yml", ".ci/run"):
        assert re.search(r"make test-threads$.*make test$", (ROOT / path).read_text(encoding="utf-8"), re.M | re.S)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"OMP_NUM_THREADS=(\d)", makefile) == ["1", "4"]
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make test")


@pytest.mark.parametrize("failure", [OSError("no network"), KeyboardInterrupt()])
def test_main_job_goes_on_with_the_stand_in_when_nothing_can_be_downloaded(failure, monkeypatch, capsys):
    from clr import data, download

    def fail():
        raise failure

    monkeypatch.delenv("CLR_DATA", raising=False)
    monkeypatch.setattr(download, "download_cifar10", fail)
    monkeypatch.setattr(data.synthetic_cifar10, "__defaults__", (300, 100, 0))
    assert main_job.find_data().name == "synthetic"
    assert "Trying to download it; Ctrl-C goes on with synthetic images" in capsys.readouterr().out


def test_main_job_stops_at_damaged_data(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CLR_DATA", raising=False)
    (tmp_path / "home" / "data" / "train").mkdir(parents=True)
    assert main(["main", "--scale", "tiny"]) == 1
    assert "train must hold the folders airplane" in capsys.readouterr().err
