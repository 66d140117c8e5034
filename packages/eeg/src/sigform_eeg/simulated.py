"""Simulated recordings to try the commands on: made here, from no person, and named so everywhere.

Each trial weakens the 10 Hz rhythm over the hand area of the other side, as imagined movements do.
Below it lie background sources shared by all channels, noise of each channel and mains hum.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigform_eeg.channels import positions
from sigform_kit.outputs import output

CHANNELS = (
    "Fz", "FC3", "FC1", "FCz", "FC2", "FC4", "C5", "C3", "C1", "Cz", "C2", "C4", "C6", "CP3",
    "CP1", "CPz", "CP2", "CP4", "P1", "Pz", "P2", "POz",
)  # fmt: skip
"""The montage of BCI Competition IV 2a."""

EVENTS = {"left": ("simulated left",), "right": ("simulated right",)}
"""The annotations of each class, as `read_trials` takes them."""

FIRST_CUE = 3.0
"""Seconds; a cue follows every SPACING."""

SPACING = 5.5
IMAGERY = 4.0
"""Seconds after the cue during which the rhythm is weak."""

HAND_AREAS = ("C4", "C3")
"""Whose rhythm weakens for a left and a right hand."""

Signals = NDArray[Any]


def simulate(
    folder: Path,
    *,
    subjects: int = 3,
    runs: int = 2,
    trials: int = 16,
    sample_rate: float = 160.0,
    seed: int = 0,
    strength: float = 0.6,
    suffix: str = ".fif",
    channels: Sequence[str] = CHANNELS,
    overwrite: bool = False,
) -> list[Path]:
    """Write `runs` recordings of each made-up subject to `folder`; gives their paths.

    `trials` in each, half of them left; `strength` is the share of its amplitude by which the
    rhythm weakens; `suffix` is .fif or .edf (EDF records whole seconds). The same seed makes the
    same signals.

    Raises ValueError for a number out of range, and InputError where a file exists unless
    `overwrite`.
    """
    if suffix not in (".fif", ".edf"):
        raise ValueError(f"suffix is {suffix!r}; needs .fif or .edf")
    if subjects < 1 or runs < 1 or trials < 2:
        raise ValueError(
            f"subjects is {subjects}, runs {runs} and trials {trials}; needs 1, 1 and 2 or more"
        )
    if not 0 <= strength <= 1 or sample_rate < 100:
        raise ValueError(
            f"strength is {strength} and sample_rate {sample_rate}; needs a share, and 100 Hz"
        )
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for subject in range(1, subjects + 1):
        mixing = _head(np.random.default_rng([seed, subject]), channels)
        for run in range(1, runs + 1):
            random = np.random.default_rng([seed, subject, run])
            labels = random.permutation(np.arange(trials) % 2)
            signals = _record(random, mixing, labels, sample_rate, strength)
            path = folder / f"sub-simulated{subject:02d}_run-{run:02d}_simulated_eeg{suffix}"
            _write(path, signals, labels, sample_rate, channels, overwrite)
            made.append(path)
    return made


def _head(random: np.random.Generator, channels: Sequence[str]) -> tuple[Signals, Signals]:
    """How one person's sources reach the channels: hand areas (C, 2), background (C, sources)."""
    places = positions([*channels, *HAND_AREAS])
    electrodes = np.array([places[name] for name in channels])

    def spread(sources: Signals, width: float) -> Signals:
        return np.exp(-((1 - electrodes @ sources.T) / width))

    hands = np.array([places[name] for name in HAND_AREAS]) + random.normal(0, 0.06, (2, 3))
    others = random.normal(size=(12, 3))
    others[:, 2] = np.abs(others[:, 2])
    hands, others = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (hands, others))
    signs = random.choice([-1.0, 1.0], 12)
    return spread(hands, 0.08), spread(others, 0.25) * signs


def _record(
    random: np.random.Generator,
    mixing: tuple[Signals, Signals],
    labels: NDArray[np.int64],
    rate: float,
    strength: float,
) -> Signals:
    """(C, T) in microvolts."""
    length = int(np.ceil(FIRST_CUE + SPACING * len(labels) + 1) * rate)
    hands, others = mixing
    gains = np.ones((2, length))
    for number, label in enumerate(labels):
        begin = round((FIRST_CUE + SPACING * number + 0.4) * rate)
        gains[label, begin : begin + round((IMAGERY - 0.4) * rate)] -= strength
    smooth = np.hanning(round(0.3 * rate) + 2)
    gains = np.stack([np.convolve(gain, smooth / smooth.sum(), "same") for gain in gains])
    rhythm = _rhythm(random, 2, length, rate) * gains
    hum = 2 * np.sin(2 * np.pi * 50 * np.arange(length) / rate)
    background = 8 * _pink(random, others.shape[1], length)
    noise = 2 * random.normal(size=(len(hands), length))
    return hands @ (9 * rhythm) + others @ background + noise + hum


def _rhythm(random: np.random.Generator, count: int, length: int, rate: float) -> Signals:
    """Noise of 9 to 12 Hz with unit spread, (count, length)."""
    spectrum = np.fft.rfft(random.normal(size=(count, length)), axis=1)
    hertz = np.fft.rfftfreq(length, 1 / rate)
    made = np.fft.irfft(spectrum * ((hertz > 9) & (hertz < 12)), length, axis=1)
    return made / made.std(axis=1, keepdims=True)


def _pink(random: np.random.Generator, count: int, length: int) -> Signals:
    """Noise whose power falls with the frequency, with unit spread: (count, length)."""
    spectrum = np.fft.rfft(random.normal(size=(count, length)), axis=1)
    scale = 1 / np.sqrt(np.maximum(np.arange(spectrum.shape[1]), 8))
    made = np.fft.irfft(spectrum * scale, length, axis=1)
    return made / made.std(axis=1, keepdims=True)


def _write(
    path: Path,
    signals: Signals,
    labels: NDArray[np.int64],
    rate: float,
    channels: Sequence[str],
    overwrite: bool,
) -> None:
    import mne

    info = mne.create_info(list(channels), rate, "eeg", verbose="ERROR")
    raw = mne.io.RawArray(signals * 1e-6, info, verbose="ERROR")
    raw.info["description"] = "simulated by sigform-eeg; not a recording of a person"
    names = [f"simulated {('left', 'right')[label]}" for label in labels]
    onsets = FIRST_CUE + SPACING * np.arange(len(labels))
    raw.set_annotations(mne.Annotations(onsets, IMAGERY, names), verbose="ERROR")
    with output(path, "overwrite" if overwrite else "refuse") as temporary, _silent():
        if path.suffix == ".fif":
            raw.save(temporary, overwrite=True, verbose="ERROR")
        else:
            mne.export.export_raw(temporary, raw, fmt="edf", overwrite=True, verbose="ERROR")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """MNE would have other file names and channel types, none of which is a fault here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
