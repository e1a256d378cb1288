"""What is installed and what is read: the locks agree, CI compares hashes, and no file that is read runs code."""

import ast
import os
import pickle
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from safetensors import SafetensorError

from clr import experiments, image_folder, nets, optim
from clr.data import load_cifar10
from clr.results import ResultError
from clr.training import evaluate
from clr.training.checkpoint import Checkpoint

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PIN = re.compile(
    r"([a-z0-9-]+)(?:\[[a-z0-9, -]+\])?==([\w.]+)(?: ; [^\\\n]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
)


# What is installed.


@pytest.fixture(scope="module")
def hashed():
    """The lock of CI."""
    return (ROOT / "requirements-ci.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def versions(hashed):
    """The versions in the lock of CI, by name."""
    return {name: version for name, version, _ in PIN.findall(hashed)}


def test_the_lock_of_ci_holds_names_versions_markers_and_hashes_only(hashed):
    assert PIN.sub("", hashed) == ""


def test_both_locks_hold_the_same_versions(versions):
    plain = (ROOT / "requirements.lock").read_text(encoding="utf-8").split()
    assert {f"{name}=={version}" for name, version in versions.items()} <= set(plain)


def test_the_lock_of_ci_holds_what_notebooks_and_tests_need_the_build_backend_and_no_other_extra(versions):
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["notebooks"], *extras["test"], *PROJECT["build-system"]["requires"]]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[requirement.name])
    assert not {"jax", "keras", "ray", "scikit-learn"} & set(versions)


def test_ci_installs_by_hash_before_it_checks_anything():
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nci-venv:\n")[1].split("\n\n")[0]
    _, hashes, editable, _ = recipe.splitlines()
    assert hashes.endswith("pip install --quiet --require-hashes -r requirements-ci.lock")
    assert editable.endswith("pip install --quiet --no-deps --no-build-isolation -e .")
    for path in (".circleci/config.yml", ".ci/run"):
        commands = re.findall(
            r"^(?:      - run: )?make (\S+)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE
        )
        assert commands[0] == "ci-venv" and len(commands) == 4


def test_the_images_of_ci_are_exact():
    config = (ROOT / ".circleci" / "config.yml").read_text(encoding="utf-8")
    images = re.findall(r"image: (\S+)", config)
    assert images and all(re.fullmatch(r"\S+:\d+\.\d+\.\d+", image) for image in images)
    assert "orbs:" not in config


# What is read.


UNSAFE = re.compile(
    r"(builtins\.)?(eval|exec)|(_?pickle|dill|cloudpickle|marshal|joblib)\.(load|loads|Unpickler)|pandas\.read_pickle"
    r"|yaml\.(unsafe_|full_)?load(_all)?|shelve\.open|runpy\.run_path|torch\.(jit|hub|serialization)\.load"
)
SAFE_WITH = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}


def unsafe_reads(source):
    """Return what a module names that runs code from a file, with imports followed."""
    nodes, imported = list(ast.walk(ast.parse(source))), {}
    for node in nodes:
        if isinstance(node, ast.Import):
            imported |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def full_name(node):
        first, dot, rest = ast.unparse(node).partition(".")
        return imported.get(first, first) + dot + rest

    def is_safe(call):
        keyword, value = SAFE_WITH.get(full_name(call.func), ("", None))
        return any(
            k.arg == keyword and isinstance(k.value, ast.Constant) and k.value.value is value for k in call.keywords
        )

    safe = {id(node.func) for node in nodes if isinstance(node, ast.Call) and is_safe(node)}
    names = {full_name(node) for node in nodes if isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in safe}
    return sorted(name for name in names if name in SAFE_WITH or UNSAFE.fullmatch(name))


def test_no_module_runs_code_from_a_file_that_it_reads():
    modules = [path for folder in ("clr", "tools", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
    reads = {str(path.relative_to(ROOT)): unsafe_reads(path.read_text(encoding="utf-8")) for path in modules}
    assert {"clr/image_folder.py", "clr/training/checkpoint.py", "tools/readme.py"} <= set(reads)
    assert {path: names for path, names in reads.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch\ntorch.load(p)", "torch.load"),
        ("import torch\ntorch.load(p, weights_only=False)", "torch.load"),
        ("import torch\ntorch.load(p, weights_only=safe)", "torch.load"),
        ("from torch import load as read\nread(p)", "torch.load"),
        ("import torch\nread = torch.load", "torch.load"),
        ("import numpy as np\nnp.load(p)", "numpy.load"),
        ("import numpy as np\nnp.load(p, allow_pickle=True)", "numpy.load"),
        ("from pickle import loads\nloads(b)", "pickle.loads"),
        ("import pandas as pd\npd.read_pickle(p)", "pandas.read_pickle"),
        ("import yaml\nyaml.load(p, Loader)", "yaml.load"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
    ],
)
def test_a_read_that_may_run_code_is_found(source, found):
    assert unsafe_reads(source) == [found]


def test_a_read_that_runs_no_code_is_none_of_them():
    torch_and_numpy = (
        "import torch\ntorch.load(p, weights_only=True)\nimport numpy as np\nnp.load(p, allow_pickle=False)"
    )
    assert (
        unsafe_reads(f"{torch_and_numpy}\nnet.eval()\nimport json\njson.load(f)\nimport yaml\nyaml.safe_load(f)") == []
    )


class Payload:
    """What makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def payload(tmp_path):
    """A payload that works, and whose folder is not there after the test."""
    content = Payload(tmp_path / "ran")
    pickle.loads(pickle.dumps(content))
    (tmp_path / "ran").rmdir()
    yield content
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_runs_no_code(payload, tmp_path):
    torch.save({"identity": payload}, tmp_path / "checkpoint")
    net = nets.Cifar10Quick()
    optimizer = optim.CaffeSGD(net.parameters(), lr=0.1)
    with pytest.raises(ResultError, match="checkpoint is damaged"):
        Checkpoint(tmp_path / "checkpoint", {}, {}).load(net, optimizer)


def test_weights_run_no_code(payload, small, tmp_path):
    torch.save({"conv1.weight": payload}, tmp_path / "seed-0.safetensors")
    config = experiments.EXPERIMENTS["headline"].arms["triangular"]
    with pytest.raises(SafetensorError):
        evaluate(config, small, tmp_path / "seed-0.safetensors")


def test_the_cache_of_an_image_folder_runs_no_code(payload, tmp_path):
    np.savez(tmp_path / "cache.npz", images=np.array([payload], dtype=object))
    assert image_folder._read_cache(tmp_path / "cache.npz") is None


def test_cifar10s_own_files_which_are_pickles_are_read_only_if_they_are_the_originals(payload, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ["batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))]:
        (folder / name).write_bytes(pickle.dumps(payload))
    with pytest.raises(ValueError, match="data_batch_1 is damaged: its md5 should be c99cafc152244af753f735de768cd75f"):
        load_cifar10(tmp_path)
