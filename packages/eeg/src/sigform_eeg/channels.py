"""Electrodes: their standard names and places, and what stands in for bad ones.

Names follow the 10-05 system (Oostenveld and Praamstra 2001) as MNE writes them: Fp1, FCz, TPP7h.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial.legendre import legval
from numpy.typing import NDArray

from sigform_kit.errors import InputError, did_you_mean

FLAT_UV = 0.1
"""Microvolts between highest and lowest of a second below which it counts as flat."""

FLAT_SHARE = 0.5
"""Of the seconds, above which a channel counts as flat."""

BROKEN_SHARE = 0.01
"""Of the samples, above which a channel counts as not a number; fewer are held over."""

LEAST_GOOD = 3
"""Channels with known places from which others are interpolated."""

ALIASES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
"""Electrodes of the older 10-20 system, and their names today."""

_ELECTRODE = re.compile(
    r"(NFP|AFP|FP|N|AFF|AF|FFC|FFT|FCC|FTT|FC|FT|F|CCP|CPP|CP|C|TTP|TPP|TP|T|PPO|POO|PO|P|OI|O|I"
    r"|A|M)(Z|\d{1,2})(H?)"
)
_AROUND = re.compile(r"^(?:EEG[\s:_-]+)|(?:[\s_-]+(?:REF|LE|AR|AVG|A1|A2|M1|M2|CZ))$", re.I)
_NO_EEG = re.compile(r"^(?:[HV]?EOG|ECG|EKG|EMG|GSR|RESP|PULSE|STATUS|TRIG|MARKER|STIM)", re.I)

Matrix = NDArray[np.float64]


def standard_name(name: str) -> str:
    """The name as the 10-05 system writes it: "Fc5." is FC5, "EEG CZ-REF" Cz.

    What is no electrode of the system only loses blanks and dots around it.
    """
    bare = name.strip().strip(".").strip()
    core = _AROUND.sub("", _AROUND.sub("", bare)).strip(". ")
    found = _ELECTRODE.fullmatch(core.upper())
    if found is None:
        return bare
    letters, number, half = found.groups()
    return letters.replace("FP", "Fp") + number.lower() + half.lower()


def is_electrode(name: str) -> bool:
    """Whether a standard name is one of the 10-05 system's."""
    return _ELECTRODE.fullmatch(name.upper()) is not None


def positions(names: Iterable[str]) -> dict[str, NDArray[np.float64]]:
    """Unit vectors from the middle of the head, right, front and up, of the names that have one."""
    places = _places()
    return {
        name: places[ALIASES.get(name, name)] for name in names if ALIASES.get(name, name) in places
    }


@functools.cache
def _places() -> dict[str, NDArray[np.float64]]:
    import mne

    # The older name warns from MNE 1.13 on, the newer is not known before.
    offered = mne.channels.get_builtin_montages()
    name = "colin27_1005" if "colin27_1005" in offered else "standard_1005"
    found: dict[str, Any] = mne.channels.make_standard_montage(name).get_positions()["ch_pos"]
    points = np.array(list(found.values()))
    # The sphere |p - c| = r through all electrodes, by least squares.
    left = np.column_stack([2 * points, np.ones(len(points))])
    centre = np.linalg.lstsq(left, (points**2).sum(axis=1))[0][:3]
    return {
        name: (point - centre) / np.linalg.norm(point - centre) for name, point in found.items()
    }


def spline_weights(known: Matrix, wanted: Matrix) -> Matrix:
    """Spherical splines (Perrin et al. 1989): unit vectors (K, 3) and (W, 3) -> weights (W, K)."""

    def g(cosines: Matrix) -> Matrix:
        terms = [(2 * n + 1) / (n * (n + 1)) ** 4 / (4 * np.pi) for n in range(1, 51)]
        return np.asarray(legval(np.clip(cosines, -1, 1), [0, *terms]), np.float64)

    count = len(known)
    system = np.ones((count + 1, count + 1))
    system[:count, :count] = g(known @ known.T) + 1e-5 * np.eye(count)
    system[count, count] = 0
    right = np.column_stack([g(wanted @ known.T), np.ones(len(wanted))])
    return (right @ np.linalg.pinv(system))[:, :count]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rows of a recording become the channels, and how those are mixed where some are bad."""

    channels: tuple[str, ...]
    picks: tuple[int, ...]  # rows of the recording, P of them
    weights: NDArray[np.float32] | None  # (C, P); None: each row is its channel
    notes: tuple[str, ...]

    def apply(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The picked rows (..., P, T) as channels (..., C, T)."""
        return rows if self.weights is None else self.weights @ hold_over(rows)


def hold_over(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples (..., T) that are not finite become the last one before them, 0 at the beginning."""
    finite = np.isfinite(rows)
    if finite.all():
        return rows
    place = np.where(finite, np.arange(rows.shape[-1]), 0)
    held = np.take_along_axis(rows, np.maximum.accumulate(place, axis=-1), axis=-1)
    return np.where(np.isfinite(held), held, np.float32(0))


def find_eeg(names: Sequence[str], types: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Rows of a recording that are EEG, by standard name, and notes on what was left out.

    MNE takes every row of an EDF file for EEG, so names decide where most are electrodes.
    """
    rows: dict[str, int] = {}
    notes = []
    for number, (name, kind) in enumerate(zip(names, types, strict=True)):
        standard = standard_name(name)
        if kind != "eeg" or _NO_EEG.match(standard):
            continue
        if standard in rows:
            notes.append(f"two channels are named {standard}; the second is left out")
            continue
        rows[standard] = number
    strangers = [name for name in rows if not is_electrode(name)]
    if 0 < len(strangers) < len(rows) / 2:
        notes.append(f"no EEG by their names, left out: {', '.join(strangers)}")
        rows = {name: row for name, row in rows.items() if is_electrode(name)}
    return rows, notes


def match(
    rows: Mapping[str, int],
    wanted: Sequence[str] | None,
    bad: Mapping[str, str],
    *,
    where: str,
    fill_missing: bool = False,
) -> Selection:
    """The wanted channels (None: all) from the rows at hand, by name, in the order wanted.

    `bad` says what is wrong with which channel; such channels are interpolated from all good ones
    that have a place, and so are missing ones with `fill_missing`. Raises InputError naming
    `where` and the channels that are missing or cannot be interpolated.
    """
    if not rows:
        raise InputError(f"{where}: no EEG channels found")
    found = {**{ALIASES[old]: row for old, row in rows.items() if old in ALIASES}, **rows}
    names = list(rows) if wanted is None else list(wanted)
    missing = [name for name in names if name not in found]
    if missing and not fill_missing:
        hint = did_you_mean(missing[0], found)
        raise InputError(f"{where}: lacks {_listed(missing)};{hint} it has {', '.join(rows)}")
    bad_rows = {rows[name] for name in bad if name in rows}
    lost = [name for name in names if name in missing or found[name] in bad_rows]
    if not lost:
        picks = tuple(found[name] for name in names)
        return Selection(channels=tuple(names), picks=picks, weights=None, notes=())
    good = {name: row for name, row in rows.items() if row not in bad_rows}
    if not good:
        kinds = ", ".join(sorted(set(bad.values())))
        raise InputError(f"{where}: all {len(rows)} channels are bad ({kinds})")
    reasons = ", ".join(f"{name} ({_reason(name, rows, bad)})" for name in lost)
    places = positions([*good, *lost])
    sources = [name for name in good if name in places]
    homeless = [name for name in lost if name not in places]
    if len(sources) < LEAST_GOOD or homeless:
        if wanted is None and len(good) >= 1:
            note = f"bad and left out, as they cannot be interpolated: {reasons}"
            return Selection(
                channels=tuple(good), picks=tuple(good.values()), weights=None, notes=(note,)
            )
        why = (
            f"where {', '.join(homeless)} sit is not known"
            if homeless
            else f"{len(sources)} good channels are too few ({LEAST_GOOD} or more)"
        )
        raise InputError(f"{where}: bad channels {reasons} cannot be interpolated: {why}")
    picks = tuple(good.values())
    place_of = {row: number for number, row in enumerate(picks)}
    weights = np.zeros((len(names), len(picks)), np.float32)
    splines = spline_weights(
        np.array([places[name] for name in sources]), np.array([places[name] for name in lost])
    )
    for number, name in enumerate(names):
        if name in lost:
            columns = [place_of[good[source]] for source in sources]
            weights[number, columns] = splines[lost.index(name)]
        else:
            weights[number, place_of[found[name]]] = 1
    note = f"interpolated from {len(sources)} good channels: {reasons}"
    return Selection(channels=tuple(names), picks=picks, weights=weights, notes=(note,))


class BadFinder:
    """Flat channels and such with NaN, from blocks (C, n) of any length, in bounded memory."""

    def __init__(self, n_channels: int, rate: float) -> None:
        self._second = max(2, round(rate))
        self._samples = 0
        self._seconds = 0
        self._flat = np.zeros(n_channels, np.int64)
        self._broken = np.zeros(n_channels, np.int64)

    def __call__(self, block: NDArray[np.float32]) -> None:
        finite = np.isfinite(block)
        self._samples += block.shape[1]
        self._broken += (~finite).sum(axis=1)
        for begin in range(0, block.shape[1], self._second):
            part = block[:, begin : begin + self._second]
            if part.shape[1] < 2:
                continue
            held = finite[:, begin : begin + self._second]
            high = np.where(held, part, -np.inf).max(axis=1)
            low = np.where(held, part, np.inf).min(axis=1)
            self._seconds += 1
            self._flat += held.any(axis=1) & (high - low < FLAT_UV)

    def bad(self) -> dict[int, str]:
        """What is wrong with which channel, by number."""
        made = {}
        for number in range(len(self._flat)):
            if self._broken[number] > BROKEN_SHARE * self._samples:
                made[number] = "NaN"
            elif self._flat[number] > FLAT_SHARE * self._seconds:
                made[number] = "flat"
        return made


def _reason(name: str, rows: Mapping[str, int], bad: Mapping[str, str]) -> str:
    if name in bad:
        return bad[name]
    for old, new in ALIASES.items():
        if new == name and old in rows and old in bad:
            return bad[old]
    return "missing"


def _listed(names: Sequence[str]) -> str:
    return f"channel{'s' if len(names) > 1 else ''} {', '.join(names)}"
