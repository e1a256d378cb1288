"""Other machines, simulated: their encodings, refusals, missing parts, quotas and start methods."""

import ast
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from packaging.specifiers import SpecifierSet
from torch.utils.data import DataLoader, TensorDataset

import clr
from clr import download, experiments, paths
from clr.experiments import pages, side_by_side
from clr.experiments.job import Job
from clr.training import machine

ROOT = Path(__file__).parents[1]
SOURCES = [path for top in ("clr", "tools", "tests", "benchmarks") for path in sorted((ROOT / top).rglob("*.py"))]


def python(code, **environment):
    """Run code in a process of its own, where the stand-in is small."""
    small = "from clr import data\ndata.synthetic_cifar10.__defaults__ = (300, 100, 0)\n"
    command = [sys.executable, "-c", small + textwrap.dedent(code)]
    environment = {**os.environ, "CLR_DATA": "synthetic", **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8")


# Encodings and line ends


def opens_text(call):
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    mode = "".join(a.value for a in call.args[:2] if isinstance(a, ast.Constant) and a.value in ("wb", "rb", "ab"))
    return name in ("read_text", "write_text") or (name == "open" and isinstance(call.func, ast.Name) and not mode)


def test_every_text_file_is_opened_with_its_encoding():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and opens_text(node):
                assert "encoding" in [k.arg for k in node.keywords], f"{path.relative_to(ROOT)}:{node.lineno}"


AS_ON_WINDOWS = """
import builtins, io
real = io.open
def legacy(file, mode="r", buffering=-1, encoding=None, *rest, **options):
    encoding = {encoding!r} if encoding in (None, "locale") and "b" not in mode else encoding
    return real(file, mode, buffering, encoding, *rest, **options)
builtins.open = io.open = legacy
"""
COMMANDS = """
from clr.__main__ import main
assert main(["run", "range-test", "--arms", "quick-unit", "--scale", "tiny", "--seeds", "1", "--n-jobs", "1"]) == 0
assert main(["list", "--scale", "tiny"]) == main(["table", "--scale", "tiny"]) == 0
"""


@pytest.mark.parametrize("encoding", ["cp932", "gbk", "C"])
def test_commands_run_where_the_encoding_is_not_utf_8(encoding, tmp_path):
    """As in Japanese and Chinese Windows, and under LC_ALL=C without the UTF-8 mode."""
    locale = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "LANG": "C"}
    stdout = {} if encoding == "C" else {"PYTHONIOENCODING": encoding}
    before = "" if encoding == "C" else AS_ON_WINDOWS.format(encoding=encoding)
    done = python(before + COMMANDS, CLR_HOME=str(tmp_path), **locale, **stdout)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 seeds" in done.stdout


def test_a_checkout_has_lf_alone_also_under_autocrlf(tmp_path):
    if not (shutil.which("git") and (ROOT / ".git").exists()):
        pytest.skip("needs git and a clone")
    files = [
        *(ROOT / "clr").glob("*.py"),
        ROOT / "README.md",
        ROOT / "Makefile",
        *(ROOT / "results").rglob("seed-0.csv"),
    ]
    names = [str(path.relative_to(ROOT)) for path in files]
    git = ["git", "-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    tracked = subprocess.run([*git, "ls-files", *names], cwd=ROOT, capture_output=True, text=True).stdout.split()
    subprocess.run([*git, "checkout-index", f"--prefix={tmp_path}/", *tracked], cwd=ROOT, check=True)
    assert len(tracked) > 10
    assert not [name for name in tracked if b"\r" in (tmp_path / name).read_bytes()]


# Files that the system refuses


def refuse(monkeypatch, times):
    """Let `Path.replace` fail so often, as while a scanner has the file open."""
    real, calls = Path.replace, []

    def replace(path, target):
        calls.append(path)
        if len(calls) <= times:
            raise PermissionError(13, "Access is denied", str(path))
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    return calls


def test_a_rename_that_is_refused_for_a_moment_is_made_again(monkeypatch, tmp_path):
    calls = refuse(monkeypatch, times=3)
    with paths.atomic_write(tmp_path / "file") as part:
        part.write_text("new", encoding="utf-8")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "new"
    assert len(calls) == 4


def test_a_rename_that_is_always_refused_is_an_error_after_two_seconds(monkeypatch, tmp_path):
    refuse(monkeypatch, times=1000)
    now = [0.0]
    monkeypatch.setattr(paths.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(paths.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    with pytest.raises(PermissionError, match="file"), paths.atomic_write(tmp_path / "file") as part:
        part.write_text("new", encoding="utf-8")
    assert now[0] == pytest.approx(2, abs=0.1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    paths.require_writable(tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="'.*file.inside'"):
        paths.require_writable(tmp_path / "file" / "inside")

    def refuse(path, *arguments, **options):
        raise PermissionError(13, "Access is denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(PermissionError, match="Access is denied: '.*new'"):
        paths.require_writable(tmp_path / "new")


def test_a_full_temporary_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "inside")  # nothing can be written there, not even by root
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", folder)
    calls = [joblib.delayed(len)(np.zeros(1_000_000)) for _ in range(2)]
    named = pytest.raises(OSError, match=f"cannot share the images through {re.escape(folder)} .NotADirectoryError")
    with named, side_by_side._temporary_folder_named():
        joblib.Parallel(2, temp_folder=folder)(calls)


@pytest.fixture
def executed(monkeypatch):
    """The commands and environments of the notebooks that the main job would execute."""
    calls, done = [], subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(pages.subprocess, "run", lambda command, env, **_: calls.append((command, env)) or done)
    return calls


def test_notebooks_are_found_beside_clr_when_the_home_is_elsewhere(executed, tmp_path):
    found = pages.execute(tmp_path, tmp_path / "out")
    assert [path.stem for path in found] == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    sources = [command[-1] for command, _ in executed if "--execute" in command]
    assert len(sources) == len(found) and all(str(ROOT / "notebooks") in source for source in sources)


def test_without_notebooks_the_main_job_says_so(executed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages, "PACKAGE", tmp_path / "site-packages" / "clr")
    assert pages.execute(tmp_path, tmp_path / "out") == []
    assert "No notebooks to execute: there are none in" in capsys.readouterr().out


def test_kernels_write_no_history_into_the_home_and_heed_quotas(executed, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(pages.joblib, "cpu_count", lambda: 1)
    pages.execute(tmp_path, tmp_path / "out")
    environment = executed[0][1]
    assert environment["OMP_NUM_THREADS"] == "1"
    assert Path.home() not in Path(environment["IPYTHONDIR"]).parents
    assert not Path(environment["IPYTHONDIR"]).exists()  # it was temporary


# Cores and memory


@pytest.mark.parametrize(("jobs", "cores", "free", "started"), [
    (2, 16, 64e9, 2), (10, 4, 64e9, 4), (10, 16, 5e9, 4), (10, 16, 1e8, 1),
])  # fmt: skip
def test_no_more_processes_start_than_runs_or_cores_or_memory_allow(monkeypatch, jobs, cores, free, started):
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(side_by_side.joblib, "cpu_count", lambda: cores)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("", (), {"available": free}))
    assert side_by_side._processes(jobs) == started


@pytest.mark.parametrize("asked", [None, -1, 16])
def test_two_runs_on_sixteen_cores_start_two_processes(small, tmp_path, monkeypatch, asked):
    """Of another backend, a cluster's say, all workers are asked for: its queue knows best."""
    seen = []
    monkeypatch.setattr(joblib, "cpu_count", lambda: 16)
    monkeypatch.setattr(joblib, "effective_n_jobs", lambda n: 16)
    monkeypatch.setattr(
        side_by_side.joblib,
        "Parallel",
        lambda n_jobs, **_: seen.append(n_jobs) or (lambda calls: [None for _ in calls]),
    )
    configs = list(experiments.configs("range-test", 2, "tiny").values())[:2]
    plan = [Job(config, tmp_path, False, "cpu", False) for config in configs]
    side_by_side.run_all(plan, small, asked, "trial")
    with joblib.parallel_config(backend="threading", n_jobs=-1):
        side_by_side.run_all(plan, small, asked, "trial")
    assert seen == [2, asked or -1]


# What is missing elsewhere


def test_without_a_glibc_memory_is_left_alone(monkeypatch):
    def libc_ver():
        raise OSError(22, "Invalid argument")  # as Python from Microsoft's Store says of its own file

    monkeypatch.setattr(platform, "libc_ver", libc_ver)
    monkeypatch.setattr(machine.sys, "platform", "win32")
    assert machine.keep_freed_memory.__wrapped__() is False
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))  # musl
    assert machine.keep_freed_memory.__wrapped__() is False


def test_the_processor_has_a_name_without_proc(monkeypatch):
    monkeypatch.setattr(machine.os.path, "exists", lambda path: False)
    assert machine._processor.__wrapped__() in (platform.processor(), platform.machine())
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    said = subprocess.CompletedProcess([], 0, stdout="Apple M2\n")
    how = {"capture_output": True, "text": True}
    monkeypatch.setattr(machine.subprocess, "run", lambda command, **given: said if given == how else None)
    assert machine._processor.__wrapped__() == "Apple M2"


def test_nothing_needs_fork_or_the_module_resource():
    done = python("""
        import os, pkgutil, sys
        sys.modules["resource"] = None
        del os.fork
        import clr
        for module in pkgutil.walk_packages(clr.__path__, "clr."):
            __import__(module.name)
        sys.path += ["benchmarks", "tests"]
        import cost_growth, experiments.test_faults
    """)
    assert done.returncode == 0, done.stderr


def test_an_archive_is_checked_under_fips(monkeypatch, tmp_path):
    real = hashlib.md5

    def md5(content=b"", *, usedforsecurity=True):
        if usedforsecurity:
            raise ValueError("[digital envelope routines] unsupported")
        return real(content, usedforsecurity=False)

    (tmp_path / "file").write_bytes(b"abc")
    monkeypatch.setattr(hashlib, "md5", md5)
    assert download._md5(tmp_path / "file") == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321
    from torchvision.datasets.utils import check_integrity

    assert check_integrity(str(tmp_path / "file"), "900150983cd24fb0d6963f7d28e17f72")


def test_certifis_certificates_are_trusted_where_the_system_has_none(monkeypatch):
    pytest.importorskip("certifi")
    monkeypatch.setattr(ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert download._certificates().get_ca_certs()


@pytest.mark.parametrize("method", sorted({"spawn", "forkserver"} & set(torch.multiprocessing.get_all_start_methods())))
def test_a_range_test_takes_loaders_whose_workers_are_started_anew(method):
    x = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(
        TensorDataset(x, (x[:, 0] > 0).long()),
        16,
        num_workers=1,
        multiprocessing_context=method,
        persistent_workers=True,
    )
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = torch.nn.functional.cross_entropy
    test = clr.lr_range_test(
        model, optimizer, loss, loader, loader, start_lr=0.01, end_lr=1.0, iterations=2, eval_every=1, progress=False
    )
    assert test.frame["lr"].dropna().tolist() == pytest.approx([0.01, 0.505])


# Versions


def test_the_locked_versions_admit_the_oldest_python_that_the_readme_names():
    """Of those that are installed here: the others' limits nobody knows without a network."""
    locked = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").split())
    assert "Python 3.11 to 3.14" in (ROOT / "README.md").read_text(encoding="utf-8")
    checked = 0
    for name, version in locked.items():
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if found.version.split("+")[0] == version:
            limits = SpecifierSet(found.metadata["Requires-Python"] or "")
            assert limits.contains("3.11.0") and limits.contains("3.14.0"), name
            checked += 1
    assert checked > 50
