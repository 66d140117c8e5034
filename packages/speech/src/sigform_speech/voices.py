"""Telling voices apart: how likely it is that two stretches of speech have one speaker.

A stretch is described by the mean cepstrum of its frames, turned so that its values are
independent, with a variance of 1 within a speaker (over one second) and of `between` across
speakers. What is not the speaker averages out with time, so a few seconds tell most pairs apart.

Shapes: S signals, C channels, T samples, L frames, D values.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]

FRAME_SECONDS = 0.04
HOP_SECONDS = 0.016

BANDS = 24
LOWEST, HIGHEST = 100.0, 3800.0
"""Hz, between which the bands lie: what a telephone passes on."""

CEPSTRUM = 16
"""Values of a frame; the zeroth, which is its level, is left out."""

ACTIVE = 10**-2.5
"""Of the loud frames' energy, above which a frame is speech."""


SHRINK = 0.1
"""Of covariances between values, what is left out."""


def frame_powers(signals: Float, sample_rate: int) -> Float:
    """Power spectra of signals (..., C, T), summed over channels: (..., L, bins), float64."""
    size = round(FRAME_SECONDS * sample_rate)
    hop = round(HOP_SECONDS * sample_rate)
    missing = max(0, size - signals.shape[-1])
    padded = np.pad(signals, [(0, 0)] * (signals.ndim - 1) + [(0, missing)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[..., ::hop, :]
    spectra = np.fft.rfft(frames * np.hanning(size), _bins(sample_rate))
    return np.square(np.abs(spectra)).sum(axis=-3)


def cepstra(powers: Float, sample_rate: int) -> Float:
    """Cepstra of power spectra (..., L, bins): (..., L, CEPSTRUM), whatever the level."""
    bank, cosines = _tables(sample_rate)
    bands = powers @ bank.T
    floor = 1e-10 * bands.max(axis=-1, keepdims=True) + 1e-30
    return np.log(bands + floor) @ cosines


def _bins(sample_rate: int) -> int:
    return 1 << (round(FRAME_SECONDS * sample_rate) - 1).bit_length()


@functools.cache
def _tables(sample_rate: int) -> tuple[Float, Float]:
    """Triangular mel bands (BANDS, bins) and the cosines that make cepstra of their logarithms."""
    frequencies = np.fft.rfftfreq(_bins(sample_rate), 1 / sample_rate)
    low, high = (2595 * np.log10(1 + edge / 700) for edge in (LOWEST, HIGHEST))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    places = (np.arange(BANDS) + 0.5)[:, None] * np.arange(1, CEPSTRUM + 1)
    cosines = np.sqrt(2 / BANDS) * np.cos(np.pi * places / BANDS)
    return np.clip(np.minimum(rising, falling), 0, None), cosines


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Speech of one voice: how much of it (seconds) and its mean description (..., D).

    Many stretches, (...) of them, are one object.
    """

    seconds: Float
    mean: Float

    def joined(self, other: Stretch, *, most_seconds: float) -> Stretch:
        """Both together; what is older than `most_seconds` fades away."""
        seconds = self.seconds + other.seconds
        share = np.divide(other.seconds, seconds, out=np.zeros_like(seconds), where=seconds > 0)
        mean = self.mean + share[..., None] * (other.mean - self.mean)
        return Stretch(seconds=np.minimum(seconds, most_seconds), mean=mean)


@dataclass(frozen=True, kw_only=True)
class VoiceModel:
    """How descriptions vary: `turn` (CEPSTRUM, D) makes them, less `mean` (CEPSTRUM,)."""

    mean: Float
    turn: Float
    between: Float  # (D,), the variance across speakers; within them it is 1 for a second

    @classmethod
    def load(cls) -> Self:
        """The model shipped, fitted to the train readers of our excerpt of LibriSpeech."""
        values = json.loads(Path(__file__).with_name("voices.json").read_text())
        return cls(**{name: np.array(values[name]) for name in ("mean", "turn", "between")})

    @classmethod
    def fit(cls, speakers: Iterable[Iterable[Float]], sample_rate: int) -> Self:
        """The model of recordings (T,), a group of them for each speaker.

        Raises ValueError when no two speakers have two seconds of speech each.
        """
        groups = [
            np.concatenate([_by_second(file, sample_rate) for file in files]) for files in speakers
        ]
        groups = [group for group in groups if len(group) > 1]
        if len(groups) < 2:
            raise ValueError(
                f"{len(groups)} speakers have two seconds of speech; needs two or more"
            )
        means = np.array([group.mean(axis=0) for group in groups])
        left = np.concatenate([group - mean for group, mean in zip(groups, means, strict=True)])
        within = _smoothed(left.T @ left / (len(left) - len(groups)))
        # The means of few seconds differ within a speaker, too.
        across = np.cov(means.T) - within * np.mean([1 / len(group) for group in groups])
        whiten = np.linalg.inv(np.linalg.cholesky(within)).T
        between, axes = np.linalg.eigh(whiten.T @ _smoothed(across) @ whiten)
        return cls(
            mean=np.concatenate(groups).mean(axis=0),
            turn=whiten @ axes,
            between=np.clip(between, 1e-3, None),
        )

    def describe(self, cepstra: Float, speech: NDArray[np.bool_]) -> Stretch:
        """The stretches of frames (..., L, CEPSTRUM) where they are `speech` (..., L): (...)."""
        count = speech.sum(axis=-1)
        total = (cepstra * speech[..., None]).sum(axis=-2)
        mean = total / np.maximum(count, 1)[..., None]
        return Stretch(seconds=count * HOP_SECONDS, mean=(mean - self.mean) @ self.turn)

    def likelihood_ratio(self, known: Stretch, new: Stretch) -> Float:
        """How much likelier `new` is by the speaker of `known` than by anybody: (...).

        As the natural logarithm of a ratio; 0 where either has no speech.
        """
        spread, noise = (1 / np.maximum(part.seconds, 1e-9)[..., None] for part in (known, new))
        trust = self.between / (self.between + spread)
        variance = trust * spread + noise
        anyone = self.between + noise
        same = (new.mean - trust * known.mean) ** 2 / variance + np.log(variance)
        other = new.mean**2 / anyone + np.log(anyone)
        return 0.5 * (other - same).sum(axis=-1)


def _by_second(recording: Float, sample_rate: int) -> Float:
    """Mean cepstra of every second of speech in a recording (T,): (seconds, CEPSTRUM)."""
    powers = frame_powers(recording[None] - recording.mean(), sample_rate)
    energy = powers.sum(axis=-1)
    speech = cepstra(powers[energy > ACTIVE * np.percentile(energy, 95)], sample_rate)
    each = round(1 / HOP_SECONDS)
    whole = len(speech) // each
    return speech[: whole * each].reshape(whole, each, CEPSTRUM).mean(axis=1)


def _smoothed(covariance: Float) -> Float:
    """A covariance estimated from little, a little nearer to independence."""
    return (1 - SHRINK) * covariance + SHRINK * np.diag(np.diag(covariance))
