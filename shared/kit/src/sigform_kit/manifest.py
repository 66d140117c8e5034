"""`--report FILE.jsonl`: what became of each input, written down as it happens.

One JSON object a line: `input`, `outputs`, `status` (done, skipped or failed), `seconds`, `error`.
A run that is killed has told of all that it finished; one that goes on with `--skip-existing`
appends, and the last line of an input is what holds.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from sigform_kit.errors import InputError
from sigform_kit.jsonlines import to_json
from sigform_kit.outputs import Policy

Status = Literal["done", "skipped", "failed"]

_LONGEST_LINE = 1 << 20  # bytes; what is longer than this is no line of ours


class Manifest:
    """The open file of one run; a line is in it whole or not at all."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file

    def tell(
        self,
        source: Path,
        outputs: Sequence[Path],
        status: Status,
        seconds: float,
        error: str | None = None,
    ) -> None:
        """Append the line of one input. Raises OSError, naming the file, where it does not fit."""
        record = {
            "input": source,
            "outputs": outputs,
            "status": status,
            "seconds": round(seconds, 3),
            "error": error,
        }
        line = f"{to_json(record)}\n".encode()
        before = os.fstat(self._file).st_size
        try:
            rest = line
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as reason:
            # A full disk takes half a line; nobody shall read it.
            os.ftruncate(self._file, before)
            raise OSError(reason.errno, reason.strerror, str(self.path)) from reason


Tell = Callable[[Path, Sequence[Path], Status, float, str | None], None]
"""`Manifest.tell`, or nothing where none is wanted."""


@contextlib.contextmanager
def manifest(path: Path | None, policy: Policy) -> Iterator[Tell]:
    """Opens the manifest: a new one, or with "skip" at the end of what is there.

    Raises InputError for an existing file that is no manifest, and with "refuse" for any.
    """
    if path is None:
        yield lambda *_: None
        return
    check_manifest(path, policy)
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if policy == "overwrite" else 0)
    file = os.open(path, flags, 0o666)
    try:
        _cut_half_line(file)
        yield Manifest(path, file).tell
        os.fsync(file)
    finally:
        os.close(file)


def check_manifest(path: Path, policy: Policy) -> None:
    """Raises InputError where a manifest cannot be begun at `path`, or gone on with."""
    if not path.exists():
        return
    if policy == "refuse":
        raise InputError(
            f"{path} exists; --skip-existing goes on with it, --overwrite begins it anew"
        )
    with path.open("rb") as file:
        first, newline, _ = file.read(_LONGEST_LINE).partition(b"\n")
    # Half a first line is what a machine that stopped may leave.
    if not _is_line(first) if newline else first and not first.startswith(b"{"):
        raise InputError(f"{path} is no report of an earlier run; needs one, or a new name")


def _is_line(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and {"input", "status"} <= record.keys()


def _cut_half_line(file: int) -> None:
    """A machine that stopped may have left a line without its end."""
    size = os.fstat(file).st_size
    end = os.pread(file, _LONGEST_LINE, max(0, size - _LONGEST_LINE))
    whole = end.rfind(b"\n") + 1
    if whole < len(end):
        os.ftruncate(file, size - len(end) + whole)
