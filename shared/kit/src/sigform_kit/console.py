"""What a command says: results on stdout, messages and progress on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from sigform_kit.jsonlines import to_json

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

_STYLES = {"bold": "1", "red": "31", "green": "32", "yellow": "33"}


class Console:
    """The voice of one command.

    `json` prints each result as one JSON object a line. `verbosity` is -1 with -q (no messages
    and no progress; warnings stay), 0 normally, 1 and more with -v (details too).
    """

    def __init__(self, *, json: bool = False, verbosity: int = 0) -> None:
        self.json = json
        self.verbosity = verbosity
        self._live: RichConsole | None = None

    def result(self, record: Mapping[str, object], text: str) -> None:
        """Prints one result on stdout: `record` as JSON with --json, else `text`."""
        self._print(to_json(record) if self.json else text, sys.stdout)

    def table(self, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
        """Prints rows on stdout: one JSON object each with --json, else aligned text."""
        if self.json:
            for row in rows:
                self._print(to_json({column: row.get(column) for column in columns}), sys.stdout)
            return
        header, *lines = align(rows, columns)
        self._print("\n".join([paint(header, "bold", sys.stdout), *lines]), sys.stdout)

    def say(self, text: str) -> None:
        """A message on stderr; -q silences it."""
        if self.verbosity >= 0:
            self._print(text, sys.stderr)

    def detail(self, text: str) -> None:
        """A message on stderr that only -v asks for."""
        if self.verbosity >= 1:
            self._print(text, sys.stderr)

    def warn(self, text: str) -> None:
        """A warning on stderr, also with -q."""
        self._print(f"{paint('warning:', 'yellow', sys.stderr)} {text}", sys.stderr)

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None) -> Iterator[Callable[[], None]]:
        """Gives a function to call after each of `total` steps (None: nobody knows how many).

        Draws only on a terminal.
        """
        if self.verbosity < 0 or not sys.stderr.isatty():
            yield lambda: None
            return
        from rich.console import Console as RichConsole
        from rich.progress import Progress

        self._live = RichConsole(stderr=True)
        # Redirecting would send results meant for stdout to stderr.
        bar = Progress(
            console=self._live, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        try:
            with bar:
                task = bar.add_task(label, total=total)
                yield lambda: bar.advance(task)
        finally:
            self._live = None

    def _print(self, text: str, stream: TextIO) -> None:
        if self._live is not None and stream.isatty():
            # Through rich, so that the line appears above the progress bar and not inside it.
            self._live.out(text, highlight=False)
        else:
            print(text, file=stream, flush=True)


def paint(text: str, style: str, stream: TextIO) -> str:
    """`text` in bold, red, green or yellow where `stream` is a terminal that may show it.

    NO_COLOR (set to anything) and TERM=dumb forbid it.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def align(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> list[str]:
    """A header and one line a row, in columns two blanks apart, numbers to the right."""
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    to_right = [any(isinstance(row.get(column), int | float) for row in rows) for column in columns]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    lines = []
    for row in (columns, *cells):
        padded = []
        for cell, width, right in zip(row, widths, to_right, strict=True):
            blanks = " " * (width - _width(cell))
            padded.append(blanks + cell if right else cell + blanks)
        lines.append("  ".join(padded).rstrip())
    return lines


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())


def _width(text: str) -> int:
    """Terminal cells that `text` takes: two for wide letters, none for combining marks."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )
