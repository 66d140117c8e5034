"""Epochs that were cut already: a file of trials instead of a recording.

`.npz` as described at `read_epochs`, and MNE's own `-epo.fif`. One file is one subject's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from sigform_eeg.channels import BadFinder, find_eeg, match, standard_name
from sigform_eeg.recording import noted, reason
from sigform_eeg.trials import Trials
from sigform_kit.errors import InputError

SUFFIXES = (".npz", "-epo.fif", "_epo.fif", "-epo.fif.gz", "_epo.fif.gz")

CLASSES = ("left", "right")
"""Of .npz files that do not name theirs."""


def is_epochs(path: Path) -> bool:
    """Whether the name is that of a file of epochs."""
    return path.name.lower().endswith(SUFFIXES)


def read_epochs(path: Path, subject: str | None = None) -> Trials:
    """Epochs as .npz: X (n, C, T) in microvolts, y (n,), sfreq, tmin, ch_names.

    Perhaps run (n,) and classes too. Of MNE's epochs the EEG channels; events are the classes. The
    subject is that of the file's name unless told.
    Raises InputError for a file that is damaged or lacks one.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    subject = subject or re.sub(r"[-_]epo$", "", path.name.split(".")[0])
    read = _read_npz if path.suffix.lower() == ".npz" else _read_fif
    trials = read(path, subject)
    if not len(trials):
        raise InputError(f"{path}: holds no epochs")
    return trials


def mend(trials: Trials, channels: Sequence[str] | None) -> tuple[Trials, list[str]]:
    """Trials with these channels (None: all), bad ones interpolated, and notes on what was done.

    Raises InputError naming channels that are missing.
    """
    finder = BadFinder(len(trials.channels), trials.sample_rate)
    for trial in trials.signals:
        finder(trial)
    bad = {trials.channels[number]: reason for number, reason in finder.bad().items()}
    rows = {name: number for number, name in enumerate(trials.channels)}
    selection = match(rows, channels, bad, where=trials.subject)
    signals = selection.apply(trials.signals[:, list(selection.picks)])
    mended = replace(trials, signals=signals, channels=selection.channels)
    return mended, [f"{trials.subject}: {note}" for note in selection.notes]


def _read_npz(path: Path, subject: str) -> Trials:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            parts = {name: held[name] for name in held.files}
    except (ValueError, BadZipFile, EOFError) as error:
        # NumPy's own words would advise to load what must never be loaded.
        raise InputError(
            f"{path}: cannot be read as epochs: damaged, or of another kind than .npz"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read as epochs: {reason(error)}") from error
    missing = [name for name in ("X", "y", "sfreq", "tmin", "ch_names") if name not in parts]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; needs X, y, sfreq, tmin, ch_names")
    try:
        labels = parts["y"].astype(np.int64)
        return Trials(
            signals=np.asarray(parts["X"], np.float32),
            labels=labels,
            runs=parts["run"].astype(np.int64) if "run" in parts else np.zeros_like(labels),
            classes=tuple(map(str, parts.get("classes", CLASSES))),
            channels=tuple(standard_name(str(name)) for name in parts["ch_names"]),
            sample_rate=float(parts["sfreq"]),
            start=float(parts["tmin"]),
            subject=subject,
        )
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from error


def _read_fif(path: Path, subject: str) -> Trials:
    import mne

    try:
        with noted([]):
            held = mne.read_epochs(path, preload=True, verbose="WARNING")
            rows, _ = find_eeg(held.ch_names, held.get_channel_types())
            signals = held.get_data(picks=np.array(list(rows.values())), verbose="WARNING")
    except Exception as error:
        # Readers of damaged files raise whatever they stumble over.
        raise InputError(f"{path}: cannot be read as epochs: {reason(error)}") from error
    names = {code: name for name, code in held.event_id.items()}
    codes = np.unique(held.events[:, 2])
    return Trials(
        signals=(signals * 1e6).astype(np.float32),
        labels=np.searchsorted(codes, held.events[:, 2]).astype(np.int64),
        runs=np.zeros(len(signals), np.int64),
        classes=tuple(names[int(code)] for code in codes),
        channels=tuple(rows),
        sample_rate=float(held.info["sfreq"]),
        start=float(held.tmin),
        subject=subject,
    )
