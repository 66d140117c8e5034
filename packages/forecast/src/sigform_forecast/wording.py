"""Numbers, names and texts from a file, as they stand in messages of one line."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, word: str) -> str:
    """A number with its noun: "1 row", "1,200 rows", "2 series"."""
    plural = "" if number == 1 or word.endswith("series") else "s"
    return f"{number:,} {word}{plural}"


def listed(names: Sequence[str]) -> str:
    """The first twelve names, and how many more there are."""
    shown = ", ".join(short(name) for name in list(names)[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def short(text: str) -> str:
    """A text from the file, fit for a message of one line."""
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:37] + "..."
