"""Files, folders and patterns named on the command line, as a list of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sigform_kit.errors import InputError

STDIN = "-"


@dataclass(frozen=True, kw_only=True)
class Input:
    """One file to work on.

    `relative` is its place below the folder or pattern that named it (just the file name for a
    file named directly), so that outputs can keep the structure. stdin is `-` in both.
    """

    path: Path
    relative: Path


def expand_inputs(names: Iterable[str | Path], *, suffixes: Collection[str] = ()) -> list[Input]:
    """Every file that `names` stand for, once, sorted by path.

    A folder stands for the files below it that end in one of `suffixes` (such as ".csv", in
    either case; all files when empty), except hidden ones; a pattern (`*`, `?`, `[...]`, `**`)
    for what it matches; anything else for a file. Raises InputError naming whatever stands for
    no file at all.
    """
    found: dict[str, Input] = {}
    for name in [os.fspath(name) for name in names]:
        entries = list(_expand(name, tuple(suffix.lower() for suffix in suffixes)))
        if not entries:
            wanted = f" ending in {', '.join(sorted(suffixes))}" if suffixes else ""
            raise InputError(f"{name}: no file{wanted} found")
        for entry in entries:
            key = STDIN if name == STDIN else os.path.realpath(entry.path)
            found.setdefault(key, entry)
    return sorted(found.values(), key=lambda entry: entry.path)


def _expand(name: str, suffixes: tuple[str, ...]) -> Iterator[Input]:
    path = Path(name)
    if name == STDIN or path.is_file() or (path.exists() and not path.is_dir()):
        yield Input(path=path, relative=Path(path.name))
    elif path.is_dir():
        yield from _walk(path, path, suffixes)
    elif glob.has_magic(name):
        fixed = [part for part, magic in _parts(path) if not magic]
        root = Path(*fixed)
        for found in glob.glob(name, recursive=True):  # noqa: PTH207 - leaves hidden files out
            match = Path(found)
            if match.is_dir():
                yield from _walk(match, root, suffixes)
            else:
                yield Input(path=match, relative=match.relative_to(root))
    else:
        raise InputError(f"{name}: no such file or folder")


def _parts(pattern: Path) -> Iterator[tuple[str, bool]]:
    """Each part of a pattern, and whether it or one before it has a wildcard."""
    magic = False
    for part in pattern.parts:
        magic = magic or glob.has_magic(part)
        yield part, magic


def _walk(folder: Path, root: Path, suffixes: tuple[str, ...]) -> Iterator[Input]:
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            # Hidden files include what a killed run left half-written.
            if not name.startswith(".") and name.lower().endswith(suffixes or ""):
                path = Path(parent, name)
                yield Input(path=path, relative=path.relative_to(root))


def _raise(error: OSError) -> None:
    raise error
