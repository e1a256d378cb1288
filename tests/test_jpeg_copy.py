"""The JPEG copy: cloned from a local repository at its commit, checked, and begun anew when interrupted."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clr import data, jpeg_copy

ROOT = Path(__file__).parents[1]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository like the public one, of three images per class; return its folder and its first commit."""
    monkeypatch.setattr(data, "PER_CLASS", {"train": 2, "test": 1})
    root = tmp_path / "public"
    random = np.random.default_rng(0)
    for split, count in data.PER_CLASS.items():
        for name in data.CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i:04}.jpg")
    git(root, "init", "-q")
    git(root, "config", "uploadpack.allowAnySHA1InWant", "true")
    commit(root)
    first = git(root, "rev-parse", "HEAD")
    monkeypatch.setattr(jpeg_copy, "FINGERPRINT", data.load_cifar10(root).fingerprint)
    (root / "test" / "cat" / "0000.jpg").write_bytes((root / "test" / "dog" / "0000.jpg").read_bytes())
    commit(root)
    return root, first


def git(root, *arguments):
    command = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(root):
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "images")


def test_the_copy_is_that_of_the_commit_and_nothing_else_is_left(repository, tmp_path):
    root, first = repository
    place = jpeg_copy.clone_jpeg_cifar10(tmp_path / "data", str(root), first)
    assert sorted(path.name for path in place.iterdir()) == ["test", "train"]
    assert data.load_cifar10(place).fingerprint == jpeg_copy.FINGERPRINT
    assert jpeg_copy.clone_jpeg_cifar10(place, "nowhere", first) == place  # it is there: nothing is fetched


def test_an_interrupted_clone_begins_anew(repository, tmp_path, monkeypatch):
    root, first = repository
    with monkeypatch.context() as patch:
        patch.setattr(jpeg_copy, "_check", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            jpeg_copy.clone_jpeg_cifar10(tmp_path / "data", str(root), first)
    assert not list((tmp_path / "data").iterdir())
    (tmp_path / "data" / ".jpeg-clone" / "train").mkdir(parents=True)  # what a killed process leaves
    place = jpeg_copy.clone_jpeg_cifar10(tmp_path / "data", str(root), first)
    assert sorted(path.name for path in place.iterdir()) == ["test", "train"]


def test_a_process_killed_between_test_and_train_is_finished_by_the_next(repository, tmp_path):
    root, first = repository
    place = jpeg_copy.clone_jpeg_cifar10(tmp_path / "data", str(root), first)
    (place / "train").rename(tmp_path / "gone")
    assert jpeg_copy.clone_jpeg_cifar10(place, str(root), first) == place
    assert sorted(path.name for path in place.iterdir()) == ["test", "train"]


def test_train_does_not_stay_beside_a_test_of_something_else(repository, tmp_path):
    root, first = repository
    mine = tmp_path / "data" / "test" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(ValueError, match="must hold the folders"):
        jpeg_copy.clone_jpeg_cifar10(tmp_path / "data", str(root), first)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["test"] and mine.exists()


@pytest.mark.parametrize("original", ["cifar-10-batches-py", "data_batch_1"])
def test_a_folder_with_the_original_is_refused(tmp_path, monkeypatch, original):
    (tmp_path / original).mkdir()
    monkeypatch.setenv("CLR_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"root must be a folder without the original, .*: set CLR_DATA to another"):
        jpeg_copy.clone_jpeg_cifar10()


def test_other_images_are_refused_and_do_not_stay(repository, tmp_path):
    root, _ = repository
    with pytest.raises(ValueError, match="must hold the JPEG copy whose fingerprint begins .*, got cifar10-jpeg"):
        jpeg_copy.clone_jpeg_cifar10(tmp_path / "data", str(root), git(root, "rev-parse", "HEAD"))
    assert not list((tmp_path / "data").iterdir())


def test_what_git_says_is_said(tmp_path):
    with pytest.raises(ConnectionError, match="git fetch failed: .*nowhere"):
        jpeg_copy.clone_jpeg_cifar10(tmp_path / "data", str(tmp_path / "nowhere"))


def test_the_fingerprint_is_that_of_the_results():
    record = json.loads((ROOT / "results/cifar10-jpeg/headline/fixed/seed-0.json").read_text(encoding="utf-8"))
    assert record["data"]["fingerprint"] == jpeg_copy.FINGERPRINT
