"""The folder in which a studio keeps all it writes, gone when it ends.

A studio that was killed cannot remove its own: the next one does, as nothing holds its lock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "sigform-studio-"
LOCK = "in-use"
UNLOCKED_SECONDS = 3600
"""A folder without a lock file may be about to get one, unless it is older."""


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A private folder; meanwhile temporary files and Gradio's cache of this process are in it."""
    remove_orphans(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    before = tempfile.tempdir
    cache = os.environ.get("GRADIO_TEMP_DIR")
    try:
        with (folder / LOCK).open("w") as lock:
            hold(lock.fileno())
            for name in ("files", "temporary"):
                (folder / name).mkdir()
            os.environ["GRADIO_TEMP_DIR"] = str(folder / "files")
            # Not TMPDIR, which a browser that is opened from here would keep.
            tempfile.tempdir = str(folder / "temporary")
            yield folder
    finally:
        tempfile.tempdir = before
        os.environ.pop("GRADIO_TEMP_DIR", None)
        if cache is not None:
            os.environ["GRADIO_TEMP_DIR"] = cache
        shutil.rmtree(folder, ignore_errors=True)


def remove_orphans(place: Path) -> list[Path]:
    """Remove what killed studios of this user left in a folder; gives what was removed."""
    removed: list[Path] = []
    if os.name != "posix":
        return removed
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if (
                folder.stat().st_uid == os.getuid()
                and not folder.is_symlink()
                and is_orphan(folder)
            ):
                shutil.rmtree(folder)
                removed.append(folder)
    return removed


def is_orphan(folder: Path) -> bool:
    """Whether no studio that runs holds the lock of a folder."""
    try:
        with (folder / LOCK).open("r+") as lock:
            return hold(lock.fileno())
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime > UNLOCKED_SECONDS


def hold(handle: int) -> bool:
    """Lock an open file until it is closed; False where another process holds it."""
    try:
        import fcntl
    except ImportError:
        # Without such locks, as on Windows, every folder counts as held.
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
