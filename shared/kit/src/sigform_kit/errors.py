"""What went wrong, said in one line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence

import click


class InputError(click.ClickException):
    """An input, or the work on it, failed. `run` prints its one line and exits with 1."""


class InputsFailedError(InputError):
    """Some of many inputs failed and the rest is done; `run` lists them and exits with 1."""

    def __init__(self, failures: Sequence[tuple[object, str]], total: int) -> None:
        """Takes (input, why) for each failure and the number of all inputs."""
        super().__init__(f"{len(failures)} of {total} inputs failed")
        self.failures = failures


class UsageError(click.UsageError):
    """The command was called wrongly. `run` prints its one line and exits with 2."""


def describe(error: BaseException) -> str:
    """Says in one line what went wrong, and where if the error knows a file.

    The type is named only where the text was not written for a reader: neither by us
    (ClickException), nor about a value (ValueError), nor by the operating system (OSError).
    """
    if isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, MemoryError):
        text = f"out of memory: {error}" if str(error) else "out of memory"
    elif isinstance(error, OSError) and error.strerror and error.filename is not None:
        names = [name for name in (error.filename, error.filename2) if name is not None]
        where = " -> ".join(os.fsdecode(n) if isinstance(n, bytes) else str(n) for n in names)
        text = f"{where}: {error.strerror}"
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif isinstance(error, ValueError | OSError) and str(error):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return " ".join(text.split())


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known word, or nothing when none is near."""
    nearest = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""
