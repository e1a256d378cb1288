"""What is recorded of a machine, and what is set on it, with the system's answers made up."""

import io
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clr.training import machine

MALLOPT = {-3: 2**25, -1: 2**30, -2: 2**26}  # of glibc's malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD


@pytest.fixture
def glibc(monkeypatch):
    """A glibc that notes what it is told, and refuses the options of `refused`."""
    told, refused = {}, set()

    def mallopt(option, value):
        told[option] = value
        return int(option not in refused)

    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(machine.sys, "platform", "linux")
    return told, refused


def test_glibc_is_told_to_keep_its_memory(glibc):
    told, refused = glibc
    assert machine.keep_freed_memory.__wrapped__() is True and told == MALLOPT
    refused.add(-1)
    assert machine.keep_freed_memory.__wrapped__() is False


@pytest.mark.parametrize(("system", "libc"), [("win32", "glibc"), ("linux", "musl")])
def test_no_other_library_is_told_anything(glibc, monkeypatch, system, libc):
    monkeypatch.setattr(machine.sys, "platform", system)
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: (libc, ""))
    assert machine.keep_freed_memory.__wrapped__() is False and glibc[0] == {}


def test_threads_are_as_before_afterwards():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), machine.cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_a_cpus_provenance_has_its_name_and_all_versions(monkeypatch):
    monkeypatch.setattr(machine, "_processor", lambda: "a processor")
    monkeypatch.setattr(machine, "_commit", lambda: "abc")
    assert machine.provenance("cpu", 3) == {
        "device": "a processor", "threads": 3, "tf32": False, "torch": torch.__version__, "numpy": np.__version__,
        "python": machine.platform.python_version(), "system": machine.sys.platform, "commit": "abc",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("driver", "built", "why"),
    [
        (False, "13.0", ""),
        (True, "13.0", ": torch sees no CUDA device, though there is a driver (too old for CUDA 13.0?)"),
        (True, None, ": torch sees no CUDA device, though there is a driver (this torch is built without CUDA)"),
    ],
)
def test_a_driver_that_torch_does_not_see_is_named(monkeypatch, driver, built, why):
    monkeypatch.setattr(machine, "_processor", lambda: "a processor")
    monkeypatch.setattr(machine.os.path, "exists", lambda path: driver)
    monkeypatch.setattr(torch.version, "cuda", built)
    assert machine.describe_device("cpu") == f"CPU (a processor){why}"


def test_processors_are_named_as_the_system_names_them(monkeypatch):
    monkeypatch.setattr(machine.os.path, "exists", lambda path: path == "/proc/cpuinfo")
    monkeypatch.setattr(machine.platform, "machine", lambda: "a machine")
    for text, name in {
        "cpu family : 25\nmodel name : B\n\nmodel name : A\nmodel name : B\n": "A, B", "cpu family : 25\n": "a machine",
    }.items():  # fmt: skip
        monkeypatch.setattr(machine, "open", lambda *_, text=text, **__: io.StringIO(text), raising=False)
        assert machine._processor.__wrapped__() == name
    monkeypatch.setattr(machine.os.path, "exists", lambda path: False)
    monkeypatch.setattr(machine.sys, "platform", "other")
    for answer, name in {"a processor": "a processor", "": "a machine"}.items():
        monkeypatch.setattr(machine.platform, "processor", lambda answer=answer: answer)
        assert machine._processor.__wrapped__() == name


@pytest.mark.parametrize(("changed", "commit"), [(0, "abc"), (1, "abc+")])
def test_the_commit_says_whether_files_differ(monkeypatch, changed, commit):
    asked = []

    def run(command, cwd, capture_output, text=False, check=False):
        asked.append((command[1], check))
        assert capture_output and (cwd / "py.typed").exists()
        return subprocess.CompletedProcess(command, changed, stdout="abc\n" if text else b"")

    monkeypatch.setattr(machine.subprocess, "run", run)
    assert machine._commit.__wrapped__() == commit
    assert asked == [("ls-files", True), ("rev-parse", True), ("diff", False)]


@pytest.mark.parametrize("error", [OSError(), subprocess.CalledProcessError(128, "git")])
def test_outside_a_checkout_there_is_no_commit(monkeypatch, error):
    def run(*_, **__):
        raise error

    monkeypatch.setattr(machine.subprocess, "run", run)
    assert machine._commit.__wrapped__() is None


@pytest.mark.parametrize(("answer", "name"), [("Apple M3 Pro\n", "Apple M3 Pro"), ("\n", "a machine")])
def test_a_mac_is_asked_for_its_processor_without_a_word(monkeypatch, answer, name):
    def run(command, capture_output, text):
        assert capture_output and text and command[0] == "sysctl"
        return subprocess.CompletedProcess(command, 0, stdout=answer)

    monkeypatch.setattr(machine.os.path, "exists", lambda path: False)
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine.platform, "machine", lambda: "a machine")
    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    monkeypatch.setattr(machine.subprocess, "run", run)
    assert machine._processor.__wrapped__() == name
