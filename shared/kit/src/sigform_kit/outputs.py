"""Output files that are there complete or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from sigform_kit.errors import InputError, UsageError

STDOUT = "-"

Policy = Literal["refuse", "overwrite", "skip"]
"""What happens to a target that exists: an error, a new file in its place, or nothing."""


def check_target(
    path: str | Path, policy: Policy = "refuse", *, make_parents: bool = False
) -> bool:
    """Whether `path` is to be written (True) or, existing, to be skipped (False).

    Call it before work starts. Raises InputError, naming the path, where writing must fail: it
    exists and the policy is "refuse", is no regular file, or its folder is missing or not
    writable. With `make_parents` missing folders are no obstacle, as `output` makes them.
    """
    if os.fspath(path) == STDOUT:
        return True
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InputError(f"{path} is a folder; needs a file name")
    if target.exists():
        if not target.is_file():
            raise InputError(f"{path} is not a regular file; use - for stdout")
        if policy == "refuse":
            raise _exists(path)
        if policy == "skip":
            return False
    folder = target.parent
    while make_parents and not folder.exists():
        folder = folder.parent
    if not folder.exists():
        raise InputError(f"{path}: folder {folder} does not exist")
    if not folder.is_dir():
        raise InputError(f"{path}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: folder {folder} is not writable")
    return True


def check_targets(
    targets: Iterable[str | Path],
    policy: Policy = "refuse",
    *,
    inputs: Iterable[str | Path] = (),
    make_parents: bool = False,
) -> list[bool]:
    """`check_target` for each of a command's targets, in order.

    Raises UsageError if two targets are one file, or a target is one of the inputs; links and
    different spellings of a path are seen through.
    """
    sources = {_identity(path) for path in inputs if os.fspath(path) != STDOUT}
    taken: set[object] = set()
    wanted = []
    for target in targets:
        if os.fspath(target) != STDOUT:
            identity = _identity(target)
            if identity in sources:
                raise UsageError(f"output {target} is also an input")
            if identity in taken:
                raise UsageError(f"output {target} would be written twice")
            taken.add(identity)
        wanted.append(check_target(target, policy, make_parents=make_parents))
    return wanted


@contextlib.contextmanager
def output(
    path: str | Path, policy: Policy = "refuse", *, make_parents: bool = False
) -> Iterator[Path]:
    """Gives a temporary path with the same suffix to write to; `path` appears when all is well.

    The file is written beside its target, flushed to disk and renamed; an exception, Ctrl-C or
    SIGTERM (under `run`) removes it. A target that appears meanwhile is kept: InputError with
    "refuse", silence with "skip". `-` copies what was written to stdout.
    """
    if os.fspath(path) == STDOUT:
        with tempfile.TemporaryDirectory(prefix="sigform-") as folder:
            temporary = Path(folder, "stdout")
            yield temporary
            with temporary.open("rb") as stream:
                _copy_to_stdout(stream)
        return
    check_target(path, policy, make_parents=make_parents)
    # A link stays a link: the file behind it is what is written.
    target = Path(os.path.realpath(path))
    if make_parents:
        target.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(target.suffixes[-2:])
    temporary = target.with_name(f".sigform-{secrets.token_hex(8)}{suffix}")
    try:
        yield temporary
        if not temporary.is_file():
            raise InputError(f"{path}: nothing was written")
        _flush_to_disk(temporary)
        if policy == "overwrite":
            temporary.replace(target)
        elif not _place_new(temporary, target) and policy == "refuse":
            raise _exists(path)
        _flush_to_disk(target.parent)
    except OSError as error:
        if error.filename is None or os.fspath(error.filename) != str(temporary):
            raise
        # The reader knows the target, not the temporary file.
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _copy_to_stdout(stream: BinaryIO) -> None:
    try:
        sys.stdout.flush()
        shutil.copyfileobj(stream, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except OSError as error:
        # A broken pipe stays one: its number makes the type.
        raise OSError(error.errno, error.strerror, "stdout") from error


def _exists(path: str | Path) -> InputError:
    return InputError(f"{path} exists; --overwrite replaces it, --skip-existing leaves it")


def _place_new(temporary: Path, target: Path) -> bool:
    """Gives the file its name unless the name is taken, without a moment between the two."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:
        # Some file systems have no hard links; there the name is claimed by an empty file.
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        temporary.replace(target)
    return True


def _flush_to_disk(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        # Windows opens no folders, and keeps names safe without it.
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _identity(path: str | Path) -> object:
    """The same for two paths exactly if they are, or would become, one file."""
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino
