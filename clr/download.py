"""CIFAR-10 as its authors distribute it, downloaded: resumed after an interruption, checked and unpacked."""

import hashlib
import os
import ssl
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from clr import _checks, data

__all__ = ["download_cifar10"]

TIMEOUT = 10  # seconds to connect


def download_cifar10(root: str | os.PathLike[str] | None = None) -> Path:
    """Download and unpack the original CIFAR-10 (170 MB) into `root`; return that folder.

    The default is where `load_cifar10` looks: the folder that `CLR_DATA` names, else `data/`.

    Run again after an interruption, it resumes the download. It does not fetch an archive that is already there.
    torchvision holds the archive's address and md5, and unpacks it.
    """
    folder = _checks.path("root", data.usual_folder() if root is None else root)
    CIFAR10 = data.torchvision_cifar10()
    if (folder / "data_batch_1").exists():  # the unpacked folder itself
        if folder.name != CIFAR10.base_folder:
            raise ValueError(f"root must be called {CIFAR10.base_folder} to be completed, got {folder}")
        folder = folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / CIFAR10.filename
    if not archive.exists():
        _fetch(CIFAR10.url, archive, CIFAR10.tgz_md5)
    CIFAR10(str(folder), download=True)  # checks the archive and unpacks it
    return folder


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()  # the plain call fails under FIPS


def _certificates() -> ssl.SSLContext:
    """Trust what the system trusts and, where it is installed, certifi: Python from python.org has none on macOS."""
    context = ssl.create_default_context()
    with suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _open(request: urllib.request.Request, part: Path) -> Any:
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT, context=_certificates())
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is longer than the archive, so it is something else
            part.unlink()
        raise
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise ConnectionError(
                f"{request.full_url} cannot be verified ({error.reason.verify_message}). `pip install certifi` brings "
                "certificates; so does 'Install Certificates.command' in macOS's Python folder."
            ) from error
        raise


def _fetch(url: str, target: Path, md5: str) -> None:
    """Fetch `url` under a temporary name until it is complete, resuming an earlier try."""
    from tqdm.auto import tqdm

    part = target.with_name(target.name + ".part")
    if part.exists() and _md5(part) == md5:  # stopped just before the end
        part.rename(target)
        return
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with _open(request, part) as response:
        if response.status != 206:  # the server starts from the beginning
            done = 0
        if "Content-Length" not in response.headers:
            raise ConnectionError(f"{url} does not say how long it is: is there a login page in between?")
        size = done + int(response.headers["Content-Length"])
        with (
            part.open("ab" if done else "wb") as file,
            tqdm(total=size, initial=done, unit="B", unit_scale=True, desc=target.name) as bar,
        ):
            while chunk := response.read(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
    if part.stat().st_size != size:
        raise ConnectionError(f"{url} ended after {part.stat().st_size} of {size} bytes; run again to go on from there")
    if _md5(part) != md5:
        part.unlink()
        raise ConnectionError(f"what came from {url} is not the archive: its md5 should be {md5}; run again")
    part.rename(target)
