"""Which files of a folder are recordings, and whose.

The subject is told by the file's name (`sub-01_...`, `S001R04`), else by the sub-folder it lies in,
else all files are one subject's, named like the folder. Epoch files are a subject each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sigform_eeg.epochs import SUFFIXES as EPOCHS
from sigform_eeg.epochs import is_epochs
from sigform_eeg.recording import SUFFIXES
from sigform_kit.errors import InputError

_BIDS = re.compile(r"(sub-[A-Za-z0-9]+)(?:.*?_run-(\d+))?")
_LATER_SPLIT = re.compile(r"(?:raw|eeg)-\d+\.fif|_split-(?!01)\d+_.*\.fif")
_PREFIX = re.compile(r"([A-Za-z]+\d+)[_-]?R(\d+)$")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file, whose it is and, where its name tells, the number of the run."""

    path: Path
    subject: str
    run: int | None = None
    bids_root: Path | None = None

    @property
    def is_epochs(self) -> bool:
        return is_epochs(self.path)


def find_sources(place: Path) -> list[Source]:
    """The recordings at a path, by subject, then run, then name.

    Raises InputError when there is none.
    """
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    if _is_recording(place) or place.is_file():
        return [_source(place, place.name.split(".")[0])]
    files = [path for path in place.rglob("*") if _is_recording(path) and _stands_alone(path)]
    if not files:
        raise InputError(f"{place}: no recordings found ({', '.join((*SUFFIXES, *EPOCHS))})")
    bids_root = place if (place / "dataset_description.json").exists() else None
    made = []
    for path in files:
        other = path.name.split(".")[0] if is_epochs(path) else place.resolve().name
        top = path.relative_to(place).as_posix().split("/")[0]
        fallback = top if path.parent != place else other
        # sourcedata and derivatives hold the same recordings again.
        if bids_root is None or top.startswith("sub-"):
            made.append(_source(path, fallback, bids_root))
    if not made:
        raise InputError(f"{place}: no recordings found in its sub- folders")
    return sorted(made, key=lambda one: (one.subject, one.run or 0, one.path.name))


def _source(path: Path, fallback: str, bids_root: Path | None = None) -> Source:
    name = path.name.split(".")[0]
    for pattern in (_BIDS, _PREFIX):
        if found := pattern.match(name):
            run = int(found.group(2)) if found.group(2) else None
            return Source(path=path, subject=found.group(1), run=run, bids_root=bids_root)
    return Source(path=path, subject=fallback, bids_root=bids_root)


def _is_recording(path: Path) -> bool:
    return path.name.lower().endswith((*SUFFIXES, *EPOCHS)) and not path.name.startswith(".")


def _stands_alone(path: Path) -> bool:
    """Not a part of another recording: inside an .mff folder, or a later split of a .fif."""
    inside = any(parent.suffix.lower() == ".mff" for parent in path.parents)
    return not inside and _LATER_SPLIT.search(path.name) is None
