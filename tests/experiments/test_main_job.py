"""What `make run` does, at the scale tiny on a small stand-in: curve, table, notebooks, page; and what is old."""

import json
import re
import shutil
from pathlib import Path

import pytest
from run_and_interrupt import with_small_batches

from clr import data, experiments, paths
from clr.__main__ import main
from clr.experiments import main_job, pages, speed
from clr.experiments.folders import set_aside_others

ROOT = Path(__file__).parents[2]
READ_FILES = ("Experiments", "Figures")  # notebooks that read what lies in a home


@pytest.fixture
def made(monkeypatch, tmp_path, capsys):
    """The home of a finished `make run`, and what it printed; of the notebooks those that read files."""
    monkeypatch.setenv("CLR_DATA", "synthetic")
    monkeypatch.setattr(data.synthetic_cifar10, "__defaults__", (300, 100, 0))
    for name in ("headline", "range-test"):
        monkeypatch.setitem(experiments.EXPERIMENTS, name, with_small_batches(name))
    home = paths.home()
    (home / "notebooks").mkdir(parents=True)
    for name in READ_FILES:  # in another home than the clone: nbval executes all four in the clone
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", home / "notebooks")
    assert main(["main", "--scale", "tiny", "--n-jobs", "1"]) == 0
    return home / "runs" / "synthetic-tiny", capsys.readouterr().out


def test_the_main_job_says_what_it_does_draws_executes_and_writes_a_page(made, monkeypatch, capsys):
    folder, said = made
    lines = said.splitlines()
    assert re.match(r"Trains what is missing of 8 runs \(226 updates\), .*: about .* here\.", lines[0])
    first = re.search(r"First curve: (.*)\nWhile the rate rises from 0.0005 to", said)[1]
    assert Path(first).read_bytes().startswith(b"\x89PNG")
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert lines[-1].endswith("index.html") and lines[-2] in page
    linked = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert {"notebooks/Experiments.html", "notebooks/Figures.html", "images/headline.png"} <= set(linked)
    assert all((folder / link).is_file() for link in linked)
    for name in READ_FILES:
        cells = json.loads((folder / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        assert any("image/png" in output.get("data", {}) for output in outputs)
        assert not [output for output in outputs if output["output_type"] == "error"]
    monkeypatch.setattr(pages, "_execute", lambda *_: pytest.fail("executed a second time"))
    assert main(["main", "--scale", "tiny", "--n-jobs", "1"]) == 0
    assert "The notebooks are as they were: not executed again." in capsys.readouterr().out


def test_the_sentence_reads_the_table(save):
    for seed, ends in enumerate([(0.70, 0.60), (0.72, 0.62)]):
        for arm, end, iterations in (("triangular", ends[0], 32_000), ("fixed", ends[1], 70_000)):
            save("headline", arm, seed, {iterations: end})
    assert main_job.reading(experiments.study.Study()) == (
        "Accuracy on cifar10: cycles 71.0% after 32,000 updates (n = 2); "
        "step decay, low rate 61.0% after 70,000 updates (n = 2)."
    )


def test_a_failing_notebook_is_one_message_with_its_name(monkeypatch, tmp_path):
    failed = type("Done", (), {"returncode": 1, "stderr": "NameError: name 'x' is not defined"})
    monkeypatch.setattr(pages.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(pages.NotebookError, match=r"One.ipynb failed:\nNameError"):
        pages._execute(tmp_path / "One.ipynb", tmp_path, {})


def test_a_kernel_whose_port_was_taken_is_started_once_more(monkeypatch, tmp_path):
    died = type("Done", (), {"returncode": 1, "stderr": "RuntimeError: Kernel died before replying to kernel_info"})
    left = [died, type("Done", (), {"returncode": 0})]
    monkeypatch.setattr(pages.subprocess, "run", lambda *_, **__: left.pop(0))
    pages._execute(tmp_path / "One.ipynb", tmp_path, {})
    assert not left
    left = [died] * 3
    with pytest.raises(pages.NotebookError, match="One.ipynb failed:\\nRuntimeError: Kernel died"):
        pages._execute(tmp_path / "One.ipynb", tmp_path, {})
    assert len(left) == 1


def test_notebooks_find_data_below_the_users_home(monkeypatch, tmp_path):
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.setenv("CLR_DATA", "$PLACE/images")
    assert pages._environment(tmp_path, "tiny")["CLR_DATA"] == str(tmp_path / "images")
    monkeypatch.setenv("CLR_DATA", "synthetic")
    assert pages._environment(tmp_path, "tiny")["CLR_DATA"] == "synthetic"


def test_runs_on_another_stand_in_are_set_aside_and_kept(small, save, tmp_path, capsys):
    folder = tmp_path / "results" / "synthetic" / "headline" / "fixed"
    folder.mkdir(parents=True)
    record = folder / "seed-0.json"
    record.write_text(json.dumps({"data": {"name": "synthetic", "fingerprint": small.fingerprint}}), encoding="utf-8")
    assert set_aside_others(tmp_path / "results", small) is None
    record.write_text(json.dumps({"data": {"name": "synthetic", "fingerprint": "0123456789"}}), encoding="utf-8")
    place = tmp_path / "results-01234567" / "synthetic"
    assert set_aside_others(tmp_path / "results", small) == place
    assert (place / "headline" / "fixed" / "seed-0.json").exists() and not folder.exists()
    assert re.fullmatch(r"The synthetic images are not those .*; training anew\.\n", capsys.readouterr().out)
    assert set_aside_others(tmp_path / "results", small) is None


def test_an_update_is_timed_without_a_trace(small):
    config = experiments.configs("range-test", 1, "tiny")["full-caffe-held-out", 0]
    assert speed.seconds_per_update(config, small) > 0
    assert not paths.home().exists()


def test_notebooks_are_executed_again_where_any_record_in_the_results_is_new(monkeypatch, tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "One.ipynb").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("CLR_HOME", str(tmp_path))
    monkeypatch.setattr(pages, "_call", lambda *_: None)
    output, bounds = tmp_path / "executed", tmp_path / "results" / "cifar10" / "resnet" / "bounds.json"
    bounds.parent.mkdir(parents=True)
    output.mkdir()
    (output / "One.html").touch()
    for text, said in (("1", "Executing"), ("1", "as they were"), ("2", "Executing")):
        bounds.write_text(text, encoding="utf-8")
        pages.execute(tmp_path, output)
        assert said in capsys.readouterr().out
