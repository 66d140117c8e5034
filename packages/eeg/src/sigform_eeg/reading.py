"""Recordings and epochs of a person's own, and what is in them."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from sigform_eeg.trials import Trials
from sigform_kit.errors import InputError

EPOCH_CLASSES = ("left", "right")
"""Of epoch files that do not name theirs."""


def read_epochs(path: Path) -> Trials:
    """Epochs as .npz: X (n, C, T) in microvolts, y (n,), sfreq, tmin, ch_names, perhaps run (n,).

    Raises InputError for a file that is damaged or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            parts = {name: held[name] for name in held.files}
    except (OSError, ValueError, BadZipFile, EOFError) as error:
        raise InputError(f"{path} cannot be read as epochs (.npz): {error}") from error
    missing = [name for name in ("X", "y", "sfreq", "tmin", "ch_names") if name not in parts]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; needs X, y, sfreq, tmin, ch_names")
    labels = parts["y"].astype(np.int64)
    classes = tuple(map(str, parts["classes"])) if "classes" in parts else EPOCH_CLASSES
    signals = np.asarray(parts["X"], np.float32)
    try:
        return Trials(
            signals=signals,
            labels=labels,
            runs=parts["run"].astype(np.int64) if "run" in parts else np.zeros_like(labels),
            classes=classes,
            channels=tuple(map(str, parts["ch_names"])),
            sample_rate=float(parts["sfreq"]),
            start=float(parts["tmin"]),
            subject=_subject_of(path),
        )
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _subject_of(path: Path) -> str:
    found = re.match(r"(sub-[A-Za-z0-9]+)", path.stem)
    return found.group(1) if found else path.stem
