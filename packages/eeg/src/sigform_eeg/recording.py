"""A continuous recording: opened by MNE, read piece by piece in microvolts, bad channels mended.

What MNE warns of becomes notes, plain sentences for the caller to show.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sigform_eeg.channels import BadFinder, Selection, find_eeg, match, standard_name
from sigform_kit.errors import InputError

if TYPE_CHECKING:
    from mne.io import BaseRaw

SUFFIXES = (
    ".edf", ".bdf", ".gdf", ".fif", ".fif.gz", ".vhdr", ".set", ".cnt", ".mff", ".nxe", ".lay",
    ".cdt",
)  # fmt: skip
"""Of recordings that a folder is searched for."""

BLOCK_SECONDS = 10.0
"""Read at a time."""

_NO_MATTER = ("does not conform to MNE naming conventions",)

Float = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Channels of a recording that is read when it is needed."""

    raw: BaseRaw
    where: str  # what messages call it
    rows: Mapping[str, int]  # of the file, by standard name
    bad: Mapping[str, str]  # what is wrong with which channel
    selection: Selection
    notes: tuple[str, ...]

    @property
    def channels(self) -> tuple[str, ...]:
        return self.selection.channels

    @property
    def rate(self) -> float:
        """Hz."""
        return float(self.raw.info["sfreq"])

    @property
    def samples(self) -> int:
        return int(self.raw.n_times)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples / self.rate

    def pick(self, channels: Sequence[str], *, fill_missing: bool = False) -> Recording:
        """The same recording with these channels, mended anew. Raises what `match` does."""
        selection = match(
            self.rows, channels, self.bad, where=self.where, fill_missing=fill_missing
        )
        before = [note for note in self.notes if note not in self.selection.notes]
        return replace(self, selection=selection, notes=(*before, *selection.notes))

    def span(self, begin: int, end: int) -> Float:
        """Samples `begin` to before `end`, (C, end - begin) in microvolts.

        Before the first and after the last the signal is taken to stay as it is. Raises InputError
        when the file cannot be read there.
        """
        first, last = max(0, begin), min(self.samples, end)
        if first >= last:
            raise ValueError(f"span is {begin} to {end}; needs samples of {self.samples}")
        rows = read_rows(self.raw, self.selection.picks, first, last, self.where)
        made = self.selection.apply(rows)
        if (first, last) != (begin, end):
            made = np.pad(made, ((0, 0), (first - begin, end - last)), mode="edge")
        return made

    def blocks(self, seconds: float = BLOCK_SECONDS) -> Iterator[Float]:
        """The whole recording, piece after piece: (C, n) in microvolts."""
        step = max(1, round(seconds * self.rate))
        for begin in range(0, self.samples, step):
            yield self.span(begin, min(begin + step, self.samples))


def open_recording(
    source: Path | BaseRaw,
    channels: Sequence[str] | None = None,
    *,
    where: str | None = None,
    find_bad: bool = True,
    fill_missing: bool = False,
) -> Recording:
    """A recording with these channels by name, in this order (None: all that are EEG).

    Channels marked bad, and with `find_bad` flat ones and such with NaN (a pass over the file), are
    interpolated from the others. Raises InputError naming the file for what cannot be read, and the
    channels that are missing.
    """
    notes: list[str] = []
    if isinstance(source, Path):
        where = where or str(source)
        raw, notes = open_raw(source)
    else:
        raw, where = source, where or "the recording"
    if raw.n_times < 2:
        raise InputError(f"{where}: holds {raw.n_times} samples; needs a recording")
    rows, left_out = find_eeg(raw.ch_names, raw.get_channel_types())
    if channels is not None:
        # Asked for by name, a row counts whatever it looks like.
        every = {standard_name(name): row for row, name in reversed([*enumerate(raw.ch_names)])}
        rows |= {name: every[name] for name in channels if name in every and name not in rows}
        left_out = []
    marked = {raw.ch_names.index(name): "marked bad" for name in raw.info["bads"]}
    bad = marked | (_look(raw, list(rows.values()), where) if find_bad else {})
    named = {name: bad[row] for name, row in rows.items() if row in bad}
    selection = match(rows, channels, named, where=where, fill_missing=fill_missing)
    return Recording(
        raw=raw,
        where=where,
        rows=rows,
        bad=named,
        selection=selection,
        notes=(*notes, *left_out, *selection.notes),
    )


def open_raw(path: Path) -> tuple[BaseRaw, list[str]]:
    """A recording of any kind that MNE reads, its samples still on disk, and notes.

    Raises InputError naming the file for one that is missing, unknown, damaged or cut off.
    """
    import mne

    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.name.lower().endswith((".edf", ".bdf")):
        _check_edf(path)
    notes: list[str] = []
    try:
        with noted(notes):
            raw = mne.io.read_raw(path, preload=False, verbose="WARNING")
    except Exception as error:
        # Readers of damaged files raise whatever they stumble over.
        raise InputError(f"{path}: cannot be read as a recording: {reason(error)}") from error
    return raw, notes


def read_rows(raw: BaseRaw, picks: Sequence[int], begin: int, end: int, where: str) -> Float:
    """Rows of a recording in microvolts: (P, end - begin).

    Raises InputError when the file cannot be read there.
    """
    try:
        with noted([]):
            rows = raw.get_data(picks=np.array(picks), start=begin, stop=end, verbose="WARNING")
    except Exception as error:
        at = begin / raw.info["sfreq"]
        raise InputError(f"{where}: cannot be read at {at:.1f} s: {reason(error)}") from error
    return (np.asarray(rows) * 1e6).astype(np.float32)


@contextlib.contextmanager
def noted(notes: list[str]) -> Iterator[None]:
    """Collects what MNE warns of; nothing reaches the terminal, where MNE logs to stdout."""
    texts: list[str] = []

    def take(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            texts.append(record.getMessage())
        return False

    logger = logging.getLogger("mne")
    logger.addFilter(take)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        logger.removeFilter(take)
    past = DeprecationWarning, FutureWarning, ResourceWarning
    texts += [str(one.message) for one in caught if not issubclass(one.category, past)]
    for text in (" ".join(text.split()) for text in texts):
        if text not in notes and not any(part in text for part in _NO_MATTER):
            notes.append(text)


def _look(raw: BaseRaw, picks: Sequence[int], where: str) -> dict[int, str]:
    """What is wrong with which row, by a pass over the recording."""
    if not picks:
        return {}
    finder = BadFinder(len(picks), raw.info["sfreq"])
    step = max(2, round(BLOCK_SECONDS * raw.info["sfreq"]))
    for begin in range(0, raw.n_times, step):
        finder(read_rows(raw, picks, begin, min(begin + step, raw.n_times), where))
    return {picks[number]: reason for number, reason in finder.bad().items()}


def _check_edf(path: Path) -> None:
    """Raises InputError for an EDF or BDF file with less in it than its header promises."""
    is_bdf = path.suffix.lower() == ".bdf"
    try:
        with path.open("rb") as file:
            head = file.read(256)
            magic = b"\xffBIOSEMI" if is_bdf else b"0"
            if not head.startswith(magic):
                raise ValueError
            size = file.seek(0, 2)
            count = int(head[252:256])
            start = int(head[184:192])
            records = int(head[236:244])
            file.seek(256 + count * 216)
            lengths = file.read(8 * count)
        per_record = sum(int(lengths[8 * n : 8 * n + 8]) for n in range(count))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a recording: no EDF or BDF header") from error
    width = 3 if is_bdf else 2
    held = (size - start) // max(1, per_record * width)
    if held < max(1, records):
        raise InputError(
            f"{path}: cut off: holds {max(0, held)} of {max(1, records)} records; "
            "needs the whole file"
        )


def reason(error: Exception) -> str:
    """The first line of a message written for a reader, else that the file is not as it should."""
    lines = str(error).strip().splitlines()
    if lines and isinstance(error, ValueError | RuntimeError | OSError | ImportError):
        return lines[0].strip()
    return f"damaged, or of another kind than its suffix says ({type(error).__name__})"
