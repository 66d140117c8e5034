"""Small trials with a real difference in them, for tests of training and decoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sigform_eeg.alignment import Align
from sigform_eeg.networks import Setup
from sigform_eeg.preprocessing import Preprocessing
from sigform_eeg.trials import Trials

CHANNELS = ("FC3", "FCz", "FC4", "C3", "Cz", "C4", "CP3", "CP4")
CLASSES = ("left", "right")
RATE = 64.0

WINDOW = Preprocessing(
    channels=CHANNELS, sample_rate=RATE, low=6.0, high=20.0, order=2, start=0.0, stop=2.0
)


def setup(align: Align = "online") -> Setup:
    return Setup(preprocessing=WINDOW, classes=CLASSES, align=align)


def trials(subject: str = "one", count: int = 24, seed: int = 0, *, runs: int = 2) -> Trials:
    """Noise in which 10 Hz over the hand area of the other side are weak: -1 to 2.2 s."""
    chance = np.random.default_rng([seed, *subject.encode()])
    labels = np.arange(count) % 2
    signals = noise(chance, (count, len(CHANNELS), round(3.2 * RATE)))
    time = np.arange(signals.shape[2]) / RATE
    for number, label in enumerate(labels):
        strong = "C3" if label == 0 else "C4"
        phase = chance.uniform(0, 2 * np.pi)
        wave = 12 * np.sin(2 * np.pi * 10 * time + phase)
        signals[number, CHANNELS.index(strong)] += wave * (time > 0.8)
    return Trials(
        signals=signals,
        labels=labels.astype(np.int64),
        runs=np.repeat(np.arange(runs), -(-count // runs))[:count].astype(np.int64),
        classes=CLASSES,
        channels=CHANNELS,
        sample_rate=RATE,
        start=-1.0,
        subject=subject,
    )


def noise(chance: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """White, 5 microvolts."""
    return (5 * chance.standard_normal(shape)).astype(np.float32)
