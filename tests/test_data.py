"""Data: what is read, what is refused and how it says so."""

import hashlib
import http.server
import io
import os
import pickle
import shutil
import ssl
import struct
import sys
import threading
import types
import urllib.error
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clr import data, download, image_folder, paths, synthetic
from clr.data import CLASSES, Cifar10, load_cifar10, synthetic_cifar10
from clr.download import download_cifar10


@pytest.fixture
def tiny_folder(tmp_path, monkeypatch):
    """An image folder of two training pictures and one test picture a class, and a module that expects just that."""
    monkeypatch.setattr(data, "PER_CLASS", {"train": 2, "test": 1})
    random = np.random.RandomState(0)
    for split, count in data.PER_CLASS.items():
        for name in CLASSES:
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(random.randint(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.jpg", quality=95)
    return tmp_path / "pictures"


def test_image_folder_is_read_in_order_of_class_and_name(tiny_folder):
    loaded = load_cifar10(tiny_folder)
    assert (loaded.name, len(loaded.train), len(loaded.test)) == ("cifar10-jpeg", 20, 10)
    assert loaded.train.labels.tolist() == sorted(2 * list(range(10)))
    with Image.open(tiny_folder / "train" / "bird" / "1.jpg") as picture:
        assert np.array_equal(loaded.train.images[5], np.asarray(picture).transpose(2, 0, 1))
    with Image.open(tiny_folder / "test" / "truck" / "0.jpg") as picture:
        assert np.array_equal(loaded.test.images[9], np.asarray(picture).transpose(2, 0, 1))


def test_cached_pictures_equal_decoded_ones(tiny_folder):
    first = load_cifar10(tiny_folder)
    (cache,) = (paths.home() / "data" / "cache").iterdir()
    again = load_cifar10(tiny_folder)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.train.images, first.train.images)
    content = bytearray(cache.read_bytes())
    content[-5000] ^= 1
    cache.write_bytes(content)
    assert torch.equal(load_cifar10(tiny_folder).train.images, first.train.images)  # damaged: decoded again


def test_fingerprint_is_over_the_bytes_of_the_files(tiny_folder):
    first = load_cifar10(tiny_folder).fingerprint
    path = tiny_folder / "test" / "cat" / "0.jpg"
    path.write_bytes(path.read_bytes() + b"\0")  # the same pixels
    assert load_cifar10(tiny_folder).fingerprint != first


@pytest.mark.parametrize("part", ["train/cat/1.jpg", "test/dog/0.jpg"])
def test_missing_picture_is_refused(tiny_folder, part):
    (tiny_folder / part).unlink()
    folder = str((tiny_folder / part).parent)
    with pytest.raises(ValueError, match="must hold . images, got") as error:
        load_cifar10(tiny_folder)
    assert folder in str(error.value)


def test_half_unpacked_and_wrong_folders_are_refused(tiny_folder):
    (tiny_folder / "test").rename(tiny_folder / "kept")
    with pytest.raises(FileNotFoundError, match="test is missing"):
        load_cifar10(tiny_folder)
    (tiny_folder / "kept").rename(tiny_folder / "test")
    (tiny_folder / "train" / "apple").mkdir()
    with pytest.raises(ValueError, match=r"train must hold the folders airplane, .* truck, and also has apple$"):
        load_cifar10(tiny_folder)
    (tiny_folder / "train" / "apple").rmdir()
    shutil.rmtree(tiny_folder / "train" / "cat")
    (tiny_folder / "train" / "cat").touch()  # a file of that name
    with pytest.raises(ValueError, match=r"train must hold the folders airplane, .* truck, and lacks cat$"):
        load_cifar10(tiny_folder)


def test_a_flat_folder_of_five_thousand_images_gets_a_short_message(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "train").mkdir()
    for k in range(1, 5001):
        (tmp_path / "train" / f"{k}.png").touch()
    with pytest.raises(
        ValueError, match=r"train must hold .* and lacks airplane, .* and also has 1.png, .*999.png"
    ) as error:
        load_cifar10(tmp_path)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["Thumbs.db", "folder.png/", "0.gif", "README"])
def test_something_else_among_the_images_is_named(tiny_folder, name):
    path = tiny_folder / "train" / "ship" / name
    path.mkdir() if name.endswith("/") else path.touch()
    with pytest.raises(
        ValueError, match=rf"ship.{path.name} is not an image: the folder must hold .png, .jpg, .jpeg files"
    ):
        load_cifar10(tiny_folder)


def png(depth, kind, chunks=(), size=(32, 32), row=b"\5" * 32):
    """A PNG by the specification: its chunks, each with length, name and CRC."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + row) * 32))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*c) for c in chunks) + rows + chunk(b"IEND", b"")


GRAY, RGB, PALETTE, RGBA = 0, 2, 3, 6  # color types of the PNG specification
WHOLE = png(8, RGB, row=bytes(range(96)))


def test_images_with_fewer_colors_are_read_as_their_colors(tmp_path):
    shown = [image_folder._pixels(tmp_path, content)[0, 0].tolist() for content in (
        png(8, GRAY), png(8, PALETTE, [(b"PLTE", bytes(range(18)))]), WHOLE)]  # fmt: skip
    assert shown == [[5, 5, 5], [15, 16, 17], [0, 1, 2]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot identify"),
        (b"GIF89a" + bytes(100), "cannot identify"),
        (b"an HTML page in its place", "cannot identify"),
        (WHOLE[:20], ""),
        (WHOLE[:-20], ""),
        (WHOLE[:50] + struct.pack(">I", 7) + WHOLE[54:], ""),
        (png(8, RGB, size=(32, 31), row=bytes(96)), "32 x 32, got 32 x 31"),
        (png(8, RGB, size=(2**31 - 1, 2**31 - 1)), "decompression bomb"),
        (png(8, RGB, size=(10_000, 10_000)), "DecompressionBomb|32 x 32, got 10000 x 10000|exceeds limit"),
        (png(16, RGB, row=bytes(192)), "8 bits"),
        (png(16, GRAY, row=bytes(64)), "8 bits"),
        (png(8, RGBA, row=bytes(128)), "8 bits"),
        (png(8, PALETTE), "palette"),
        (png(8, PALETTE, [(b"PLTE", bytes(9))]), "palette"),
        (png(8, PALETTE, [(b"PLTE", bytes(10))]), ""),
        (png(8, RGB, [(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**8)))], row=bytes(96)), ""),
    ],
)  # fmt: skip
def test_a_damaged_image_is_one_error_with_the_files_name(tiny_folder, content, reason):
    path = tiny_folder / "train" / "frog" / "0.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"frog.0\.jpg is not an image that can be read: .*({reason})") as error:
        load_cifar10(tiny_folder)
    assert len(str(error.value)) < 500


def read(name, content):
    """The pixels, or the message of the one error that is allowed."""
    try:
        return image_folder._pixels(Path(name), content)
    except ValueError as error:
        return str(error)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255), st.booleans())
def test_a_changed_or_cut_png_gives_its_pixels_or_an_error_with_its_name(place, change, cut):
    content = bytearray(WHOLE)
    content[place] ^= change
    found = read("7.png", bytes(content[:place]) if cut else bytes(content))
    assert found.startswith("7.png is") if isinstance(found, str) else np.array_equal(found, read("7.png", WHOLE))


@given(st.binary(max_size=300), st.integers(0, 600))
def test_noise_in_a_jpeg_gives_pixels_or_an_error_with_its_name(noise, place):
    whole = io.BytesIO()
    Image.fromarray(np.arange(3072, dtype=np.uint16).astype(np.uint8).reshape(32, 32, 3)).save(whole, "JPEG")
    found = read("7.jpg", whole.getvalue()[:place] + noise + whole.getvalue()[place + len(noise) :])
    assert found.startswith("7.jpg is") and len(found) < 300 if isinstance(found, str) else found.shape == (32, 32, 3)


def test_png_folder_that_is_not_cifar10_is_refused(tiny_folder):
    for path in list(tiny_folder.rglob("*.jpg")):
        with Image.open(path) as picture:
            picture.save(path.with_suffix(".png"))
        path.unlink()
    with pytest.raises(ValueError, match=r"are not CIFAR-10's: channel sums .* expected \(6415714204"):
        load_cifar10(tiny_folder)


def test_nothing_there_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("CLR_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"python -m clr data.*CLR_DATA"):
        load_cifar10()
    (tmp_path / "cifar-10-python.tar.gz").touch()
    with pytest.raises(FileNotFoundError, match="cifar-10-python.tar.gz is there but not unpacked"):
        load_cifar10(tmp_path)


def test_original_files_are_checked_one_by_one(tmp_path):
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    with pytest.raises(FileNotFoundError, match="data_batch_1 is missing: half unpacked"):
        load_cifar10(tmp_path)
    (base / "data_batch_1").write_bytes(b"damaged")
    with pytest.raises(
        ValueError, match=r"data_batch_1 is damaged: its md5 should be c99cafc152244af753f735de768cd75f"
    ):
        load_cifar10(base)


def test_original_files_are_read_through_torchvision(tmp_path, monkeypatch):
    """Batches in the original's format, with md5s and channel sums exchanged for their own."""
    from torchvision.datasets import CIFAR10

    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    pictures = np.random.RandomState(0).randint(0, 256, (60, 3072), np.uint8)
    for list_name, names in (("train_list", CIFAR10.train_list), ("test_list", CIFAR10.test_list)):
        entries = []
        for i, (name, _) in enumerate(names):
            part = pictures[10 * i : 10 * i + 10] if list_name == "train_list" else pictures[50:]
            content = pickle.dumps({"data": part, "labels": list(range(10))})
            (base / name).write_bytes(content)
            entries.append([name, hashlib.md5(content).hexdigest()])
        monkeypatch.setattr(CIFAR10, list_name, entries)
    meta = pickle.dumps({"label_names": list(CLASSES)})
    (base / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": hashlib.md5(meta).hexdigest()})

    with pytest.raises(ValueError, match="are not CIFAR-10's"):
        load_cifar10(tmp_path)
    sums = pictures[:50].reshape(50, 3, -1).sum((0, 2), dtype=np.int64)
    monkeypatch.setattr(data, "CHANNEL_SUMS", tuple(sums.tolist()))
    loaded = load_cifar10(tmp_path)
    assert loaded.name == "cifar10"
    assert np.array_equal(loaded.train.images.reshape(50, -1), pictures[:50])
    assert loaded.test.labels.tolist() == list(range(10))
    (tmp_path / "train").mkdir()
    base.rename(tmp_path / "cifar10")  # the folder itself may be called otherwise
    assert load_cifar10(tmp_path / "cifar10").fingerprint == loaded.fingerprint


@pytest.mark.parametrize("named", ["", "synthetic", "mine", "mine/cifar-10-batches-py"])
def test_a_download_goes_where_loading_looks(tmp_path, monkeypatch, named):
    monkeypatch.setenv("CLR_DATA", str(tmp_path / named) if named.startswith("mine") else named)
    (tmp_path / "mine" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / "mine" / "cifar-10-batches-py" / "data_batch_1").touch()  # half unpacked
    unpacked = []
    original = types.SimpleNamespace(base_folder="cifar-10-batches-py", filename="c.tar.gz", url="", tgz_md5="")
    monkeypatch.setattr(
        data, "torchvision_cifar10",
        lambda: type("CIFAR10", (), vars(original) | {"__init__": lambda self, root, download: unpacked.append(root)}),
    )  # fmt: skip
    monkeypatch.setattr(download, "_fetch", lambda url, target, md5: None)
    folder = tmp_path / "mine" if named.startswith("mine") else paths.home() / "data"
    assert download_cifar10() == folder and unpacked == [str(folder)]


def test_a_folder_of_another_name_is_not_completed(tmp_path):
    (tmp_path / "data_batch_1").touch()
    with pytest.raises(ValueError, match="root must be called cifar-10-batches-py to be completed, got"):
        download_cifar10(tmp_path)


def test_missing_torchvision_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision.datasets", None)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(ImportError, match="pip install torch torchvision"):
        load_cifar10(tmp_path)


@pytest.fixture
def server(tmp_path):
    """A server of one file that knows ranges; it counts the bytes it has sent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        content, sent, cut = bytes(range(256)) * 1000, [], None

        def do_GET(self):
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            if start >= len(self.content):
                self.send_error(416)
                return
            body = self.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            body = body[: self.cut]
            self.sent.append(len(body))
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield Handler, f"http://127.0.0.1:{httpd.server_port}/file"
        httpd.shutdown()
        thread.join()


def test_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    handler, url = server
    md5 = hashlib.md5(handler.content).hexdigest()
    handler.cut = 100_000
    with pytest.raises(ConnectionError, match="ended after 100000 of 256000 bytes; run again"):
        download._fetch(url, tmp_path / "file", md5)
    handler.cut = None
    download._fetch(url, tmp_path / "file", md5)
    assert (tmp_path / "file").read_bytes() == handler.content
    assert handler.sent == [100_000, 156_000]


def test_download_that_was_whole_but_not_renamed_is_taken(server, tmp_path):
    handler, url = server
    (tmp_path / "file.part").write_bytes(handler.content)
    download._fetch(url, tmp_path / "file", hashlib.md5(handler.content).hexdigest())
    assert (tmp_path / "file").read_bytes() == handler.content


def test_a_part_longer_than_the_archive_goes_so_that_the_next_try_succeeds(server, tmp_path):
    handler, url = server
    md5 = hashlib.md5(handler.content).hexdigest()
    (tmp_path / "file.part").write_bytes(handler.content + b"more")
    with pytest.raises(OSError, match="416"):
        download._fetch(url, tmp_path / "file", md5)
    download._fetch(url, tmp_path / "file", md5)
    assert (tmp_path / "file").read_bytes() == handler.content


def test_a_page_in_place_of_the_archive_is_refused_and_removed(server, tmp_path):
    _, url = server
    with pytest.raises(ConnectionError, match="is not the archive: its md5 should be 0"):
        download._fetch(url, tmp_path / "file", "0")
    assert not list(tmp_path.glob("file*"))


def test_a_machine_that_forbids_md5_for_security_downloads_all_the_same(server, tmp_path, monkeypatch):
    """OpenSSL's FIPS mode: md5 is refused, except where it is said to guard nothing."""
    handler, url = server
    md5 = hashlib.md5(handler.content).hexdigest()
    allowed = hashlib.md5

    def fips(content=b"", *, usedforsecurity=True):
        if usedforsecurity:
            raise ValueError("[digital envelope routines] unsupported")
        return allowed(content)

    monkeypatch.setattr(hashlib, "md5", fips)
    download._fetch(url, tmp_path / "file", md5)
    assert (tmp_path / "file").read_bytes() == handler.content


def test_missing_certificates_are_named_with_their_remedy(tmp_path, monkeypatch):
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "unable to get local issuer certificate"

    def urlopen(*arguments, **options):
        raise urllib.error.URLError(refused)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(ConnectionError, match=r"https://x.org/y cannot be verified .* `pip install certifi`"):
        download._fetch("https://x.org/y", tmp_path / "file", "0")


def test_certificates_of_certifi_are_taken_where_it_is_installed(server, tmp_path, monkeypatch):
    handler, url = server
    taken = []
    monkeypatch.setitem(sys.modules, "certifi", types.SimpleNamespace(where=lambda: "a-file.pem"))
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda self, cafile=None, **_: taken.append(cafile))
    download._fetch(url, tmp_path / "file", hashlib.md5(handler.content).hexdigest())
    assert "a-file.pem" in taken


def test_a_home_folder_and_variables_are_replaced_in_paths(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "inner"))
    for written in ("~/inner", "$SCRATCH", Path("~") / "inner", "~/nowhere/../inner"):
        with pytest.raises(FileNotFoundError, match="no CIFAR-10 in .*inner") as error:
            load_cifar10(written)
        assert "~" not in str(error.value)
        monkeypatch.setenv("CLR_DATA", str(written))
        with pytest.raises(FileNotFoundError, match="no CIFAR-10 in .*inner"):
            load_cifar10()
        monkeypatch.setenv("CLR_HOME", str(written))
        assert paths.home() == (tmp_path / "inner").resolve()


def test_download_offline_fails_at_once(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(OSError, match="refused"):
        download_cifar10(tmp_path)


def test_synthetic_is_deterministic():
    first, again = synthetic_cifar10(300, 200), synthetic_cifar10(300, 200)
    assert (
        first.fingerprint
        == again.fingerprint
        == hashlib.sha256(
            b"".join(t.numpy().tobytes() for s in (again.train, again.test) for t in (s.images, s.labels))
        ).hexdigest()
    )
    assert first.fingerprint != synthetic_cifar10(300, 200, seed=1).fingerprint
    assert (first.name, first.train.images.shape, first.test.images.shape) == (
        "synthetic",
        (300, 3, 32, 32),
        (200, 3, 32, 32),
    )


def test_who_knows_the_synthetic_views_is_right_in_seven_of_ten_cases():
    common, rare = synthetic._views(np.random.RandomState(0))
    views = np.concatenate([common, rare], axis=1).reshape(10, 37, -1).clip(-128, 127).astype(np.float32)
    views -= views.mean(-1, keepdims=True)  # an image may be brighter
    split = synthetic_cifar10(1000, 1).train
    images = split.images.flatten(1).numpy().astype(np.float32)
    distance = (views**2).sum(-1) - 2 * np.einsum("nd,cvd->ncv", images - images.mean(1, keepdims=True), views)
    nearest, labels = distance.min(-1).argmin(-1), split.labels.numpy()
    assert 0.65 < (nearest == labels).mean() < 0.75
    assert (nearest // 2 == labels // 2).mean() > 0.99
    is_rare = distance.min(1).argmin(-1) >= 25
    assert 0.2 < is_rare.mean() < 0.3


def test_mean_image_is_that_of_numpy(small):
    expected = small.train.images.numpy().astype(np.float64).mean(0)
    assert np.array_equal(small.mean_image.numpy(), expected.astype(np.float32))
    assert np.allclose(small.channel_means, expected.mean((1, 2)), rtol=1e-7)


def test_data_is_compared_by_identity(small):
    assert small == small and small != data.synthetic_cifar10(10, 10)


def test_data_survives_pickling(small):
    again = pickle.loads(pickle.dumps(small))
    assert torch.equal(again.train.images, small.train.images)
    assert (again.name, again.fingerprint) == (small.name, small.fingerprint)


@pytest.mark.skipif(
    os.environ.get("CLR_DATA", "synthetic") == "synthetic", reason="CLR_DATA names no copy of CIFAR-10's pictures"
)
def test_real_pictures_have_cifar10s_colours(monkeypatch):
    monkeypatch.setenv("CLR_HOME", str(Path(__file__).parents[1]))  # its cache, which the notebooks read, too
    loaded: Cifar10 = load_cifar10()
    assert loaded.name in ("cifar10", "cifar10-jpeg")
    assert (len(loaded.train), len(loaded.test)) == (50_000, 10_000)
    assert torch.allclose(loaded.channel_means, torch.tensor([125.3, 123.0, 113.9]), atol=0.1)
    assert loaded.train.labels.bincount().tolist() == [5000] * 10


def test_every_tenth_training_image_is_held_out_and_the_means_are_those_of_the_others(small):
    split = small.hold_out(10)
    assert (len(split.train), len(split.test)) == (900, 100)
    assert torch.equal(split.test.images, small.train.images[::10])
    assert torch.equal(split.train.labels[:9], small.train.labels[1:10])
    assert torch.allclose(split.mean_image, split.train.images.double().mean(0).float())
    assert (split.name, split.fingerprint) == (small.name, small.fingerprint)


@pytest.mark.parametrize("every", [1, 1.0])
def test_not_all_images_can_be_held_out(small, every):
    with pytest.raises(ValueError, match=f"every must be at least 2, got {every}"):
        small.hold_out(every)
    assert (len(small.hold_out(2).train), len(small.hold_out(2).test)) == (500, 500)
