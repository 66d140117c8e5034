"""Downloading one published file: resumed when cut off, checked, and never half there."""

import hashlib
import http.client
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 30.0  # seconds without a byte
_PAUSES = (0.5, 1.0, 2.0)  # seconds before each further attempt
_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


class DownloadError(ValueError):
    """A file could not be had from the network; the message says what to do without it."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch `url` to `target` unless it is there already, and return `target`.

    The bytes go to `<target>.part`, which a later call resumes, and become `target` only when
    their SHA-256 is `sha256` (hex); two processes asking for one target wait for each other. None
    is for what nobody tells: the SHA-256 of what comes first, or lies there already, is written to
    `<target>.sha256`, to which later calls hold it.
    `progress(done, total)` counts bytes; `size` is the total when the server does not tell it.
    Only https is fetched, and http from this machine.

    Raises DownloadError when the network or the server fails after a few attempts, and ValueError
    when the bytes, or a file already at `target`, have another SHA-256.
    """
    _check_address(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f".{target.name}.lock")):
        record = target.with_name(f"{target.name}.sha256")
        if sha256 is None and record.exists():
            sha256 = record.read_text().strip()
        if target.exists():
            found = _sha256_of(target)
            if sha256 is None:
                record.write_text(f"{found}\n")
            elif found != sha256:
                raise ValueError(f"{target} has SHA-256 {found}; needs {sha256}: delete it first")
            return target
        part = target.with_name(f"{target.name}.part")
        _fetch(url, part, target, sha256, size, progress)
        found = _sha256_of(part)
        if sha256 is None:
            record.write_text(f"{found}\n")
        elif found != sha256:
            part.unlink()
            raise ValueError(f"{url} has SHA-256 {found}; needs {sha256}: nothing was kept")
        part.replace(target)
    return target


def _fetch(
    url: str,
    part: Path,
    target: Path,
    sha256: str | None,
    size: int | None,
    progress: Progress | None,
) -> None:
    """Fill `part` with all of `url`, trying again from where it was cut off."""
    attempt = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _fetch_rest(url, part, size, progress)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in (408, 429):
                raise DownloadError(f"{url} answered {error.code} {error.reason}") from error
            reason = f"{error.code} {error.reason}"
        except _NETWORK_ERRORS as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        gained = part.exists() and part.stat().st_size > before
        attempt = 0 if gained else attempt + 1
        if attempt > len(_PAUSES):
            raise DownloadError(
                f"could not reach the network for {url} ({reason}); without it, put the file "
                f"{f'with SHA-256 {sha256} ' if sha256 else ''}at {target}"
            )
        time.sleep(_PAUSES[max(0, attempt - 1)])


def _fetch_rest(url: str, part: Path, size: int | None, progress: Progress | None) -> None:
    """One request for the bytes that `part` lacks, appended to it."""
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        # A whole file is left to the SHA-256; more than the whole can only be wrong.
        if have == size:
            return
        part.unlink()
        have = 0
    headers = {"User-Agent": "sigform", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = _opener().open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        part.unlink()
        raise ConnectionError("the server refused to resume") from error
    with response:
        if have and not _resumes_at(response, have):
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else size
        with part.open("ab" if have else "wb") as file:
            done = _copy(response, file, have, total, progress)
    if total is not None and done < total:
        raise ConnectionError(f"cut off after {done} of {total} bytes")


def _copy(
    response: http.client.HTTPResponse,
    file: IO[bytes],
    done: int,
    total: int | None,
    progress: Progress | None,
) -> int:
    while chunk := response.read(_CHUNK):
        file.write(chunk)
        done += len(chunk)
        if progress:
            progress(done, total)
    return done


def _resumes_at(response: http.client.HTTPResponse, offset: int) -> bool:
    """Whether the answer continues at byte `offset`; a server may send the whole file instead."""
    span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == 206 and span is not None and int(span[1]) == offset


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ValueError(f"download address is {url}; needs https")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but only to addresses that `download` would take itself."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_SafeRedirects)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold `path` as a lock between processes.

    The operating system frees it when its holder dies, so it is never stale; the empty file
    stays, because deleting it would let two processes hold two locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                    break
                except OSError:
                    time.sleep(0.1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
