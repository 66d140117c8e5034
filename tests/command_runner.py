"""Runs the command of a domain in this process, as a person at a terminal would."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from sigform_kit.running import run


@dataclass(frozen=True)
class Told:
    """How a command ended and what it said; `raw` are the bytes of stdout."""

    name: str
    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def error(self) -> str:
        """The one error line, without the name of the command."""
        lines = [line for line in self.err.splitlines() if "error:" in line]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err, self.err
        start = f"{self.name}: error: "
        assert lines[0].startswith(start), lines[0]
        return lines[0].removeprefix(start)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON lines of a command that succeeded; NaN is no JSON."""
        assert self.code == 0, self.err

        def refuse(word: str) -> None:
            raise ValueError(f"{word} is no JSON")

        return [json.loads(line, parse_constant=refuse) for line in self.out.splitlines()]


def runner(app: click.Command) -> Callable[..., Told]:
    """What runs `app` with words, and with bytes on stdin."""
    return partial(_run, app)


def _run(app: click.Command, *words: object, stdin: bytes = b"") -> Told:
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    err = io.StringIO()
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(app, [str(word) for word in words])
    finally:
        sys.stdin = before
    assert isinstance(out.buffer, io.BytesIO)
    return Told(app.name or "", code, out.buffer.getvalue(), err.getvalue())


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """What happens inside leaves the folder exactly as it was."""

    def state() -> dict[Path, bytes | None]:
        return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}

    before = state()
    yield
    after = state()
    changed = [str(p) for p in before.keys() | after if before.get(p, ...) != after.get(p, ...)]
    assert not changed, changed


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Whoever writes a longer file, in bytes, gets an error of the operating system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
