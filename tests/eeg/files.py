"""Small recordings and trials for the tests, and where the real ones lie."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
from numpy.typing import NDArray

from sigform_eeg.trials import Trials

NAMES = ("FC3", "FCz", "FC4", "C3", "Cz", "C4", "CP3", "CPz", "CP4")
RATE = 160.0


def fixtures(part: str) -> Path:
    """A folder of the real data, or the test is skipped."""
    root = os.environ.get("SIGFORM_FIXTURES")
    if not root:
        pytest.skip(f"SIGFORM_FIXTURES is not set; needs the folder with {part}")
    return Path(root) / part


def noise(channels: int, samples: int, seed: int = 0) -> NDArray[np.float32]:
    """Microvolts, (C, T)."""
    return (10 * np.random.default_rng(seed).standard_normal((channels, samples))).astype("f4")


def trials(
    count: int = 12,
    *,
    subject: str = "S1",
    channels: Sequence[str] = NAMES,
    seconds: float = 6.0,
    start: float = -1.0,
    rate: float = RATE,
    runs: int = 2,
    seed: int = 0,
    **more: Any,
) -> Trials:
    """Noise, left and right by turns."""
    samples = round(seconds * rate)
    signals = noise(count * len(channels), samples, seed).reshape(count, len(channels), samples)
    parts: dict[str, Any] = {
        "signals": signals,
        "labels": np.arange(count) % 2,
        "runs": np.sort(np.arange(count) % runs),
        "classes": ("left", "right"),
        "channels": tuple(channels),
        "sample_rate": rate,
        "start": start,
        "subject": subject,
    }
    return Trials(**(parts | more))


def raw_array(
    signals: NDArray[Any],
    *,
    names: Sequence[str] = NAMES,
    rate: float = RATE,
    types: str | list[str] = "eeg",
    events: Sequence[tuple[float, str]] = (),
) -> mne.io.RawArray:
    """A recording in memory, from microvolts (C, T); events are (seconds, name)."""
    info = mne.create_info(list(names), rate, types, verbose="ERROR")
    raw = mne.io.RawArray(np.asarray(signals, float) * 1e-6, info, verbose="ERROR")
    onsets = [onset for onset, _ in events]
    described = [name for _, name in events]
    raw.set_annotations(mne.Annotations(onsets, [0.0] * len(onsets), described), verbose="ERROR")
    return raw


def saved(path: Path, raw: mne.io.RawArray) -> Path:
    """Written as the name tells, FIF or EDF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.name.endswith((".fif", ".fif.gz")):
            raw.save(path, verbose="ERROR")
        else:
            mne.export.export_raw(path, raw, verbose="ERROR")
    return path


def cued(
    path: Path, *, seconds: float = 60.0, rate: float = RATE, seed: int = 0, **more: Any
) -> Path:
    """A file of noise with T1 and T2 by turns every 5 s from 2 s on, and a rest between."""
    signals = noise(len(NAMES), round(seconds * rate), seed)
    events = [
        (onset, ("T1", "T2")[number % 2])
        for number, onset in enumerate(np.arange(2.0, seconds - 4.5, 5.0).tolist())
    ]
    rests = [(onset + 4.2, "T0") for onset, _ in events]
    given: dict[str, Any] = {"rate": rate, "events": [*events, *rests]}
    return saved(path, raw_array(signals, **(given | more)))
