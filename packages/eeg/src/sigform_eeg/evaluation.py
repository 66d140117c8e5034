"""How well a network decodes trials whose labels are known, at their end and on the way there.

n trials, C channels, T samples, N tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sigform_eeg.alignment import Align, align_trials
from sigform_eeg.eeg_lmuformer import EEGLMUFormer
from sigform_eeg.metrics import Result
from sigform_eeg.networks import Network, Setup
from sigform_eeg.preprocessing import prepare
from sigform_eeg.trials import Trials
from sigform_kit.errors import InputError

AT_ONCE = 64
"""Trials that go through a network together."""

ENOUGH = 0.99
"""Share of the final accuracy that a shorter window has to reach."""

Float = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PrefixCurve:
    """Accuracy after each token, when its last sample is there."""

    seconds: NDArray[np.float64]  # (N,), after the cue
    accuracy: NDArray[np.float64]  # (N,)
    start: float  # s after the cue at which the window starts

    @property
    def final(self) -> float:
        """Accuracy on the whole window."""
        return float(self.accuracy[-1])

    def share_needed(self, enough: float = ENOUGH) -> float:
        """The shortest share of the window from which on accuracy is `enough` of the final one."""
        below = np.flatnonzero(self.accuracy < enough * self.final)
        first = int(below[-1]) + 1 if len(below) else 0
        return float((self.seconds[first] - self.start) / (self.seconds[-1] - self.start))


@torch.no_grad()
def probabilities(network: Network, signals: Float) -> NDArray[np.float64]:
    """Of aligned windows (n, C, T): (n, K)."""
    device = next(network.parameters()).device
    parts = [
        network(torch.from_numpy(part).to(device)).double().softmax(-1).cpu().numpy()
        for part in _batches(signals)
    ]
    return np.concatenate(parts)


@torch.no_grad()
def prefix_probabilities(network: Network, signals: Float) -> NDArray[np.float64]:
    """After each token of aligned windows (n, C, T): (n, N, K).

    Raises ValueError for a network that needs whole windows.
    """
    if not isinstance(network, EEGLMUFormer):
        raise ValueError(f"network is {type(network).__name__}; needs an LMUFormer for prefixes")
    device = next(network.parameters()).device
    parts = [
        network.prefix_logits(torch.from_numpy(part).to(device)).double().softmax(-1).cpu().numpy()
        for part in _batches(signals)
    ]
    return np.concatenate(parts)


def windows_of(trials: Trials, setup: Setup, align: Align, *, strictly: bool = False) -> Trials:
    """One subject's trials as recorded -> as a network sees them, (n, C, T).

    Online alignment is as published: trial k by trials 1 to k. `strictly`, what comes later in
    trial k plays no part: by trials 1 to k - 1. Raises InputError for trials that do not fit.
    """
    if trials.classes != setup.classes:
        raise InputError(
            f"{trials.subject}: classes are {', '.join(trials.classes)}; the model needs "
            f"{', '.join(setup.classes)}"
        )
    prepared = prepare(trials, setup.preprocessing)
    aligned, _ = align_trials(prepared.signals, align, include_current=not strictly)
    return prepared.with_signals(aligned)


def evaluate(
    network: Network, setup: Setup, subjects: Sequence[Trials], *, align: Align | None = None
) -> list[Result]:
    """Each subject's trials as recorded; `align` instead of what the network was trained for."""
    results = []
    for trials in subjects:
        seen = windows_of(trials, setup, align or setup.align)
        results.append(
            Result(
                fold="all",
                subject=trials.subject,
                labels=seen.labels,
                probabilities=probabilities(network, seen.signals),
            )
        )
    return results


def prefix_curve(
    network: Network, setup: Setup, subjects: Sequence[Trials], *, align: Align | None = None
) -> PrefixCurve:
    """Accuracy against seconds after the cue over all trials of the subjects, as recorded.

    Nothing after a token plays a part in its answer, alignment included, unless `align` is
    "subject". Raises ValueError for a network that needs whole windows.
    """
    right = []
    for trials in subjects:
        seen = windows_of(trials, setup, align or setup.align, strictly=True)
        told = prefix_probabilities(network, seen.signals).argmax(axis=2)  # (n, N)
        right.append(told == seen.labels[:, None])
    accuracy = np.concatenate(right).mean(axis=0)
    window = setup.preprocessing
    return PrefixCurve(
        seconds=token_seconds(network, len(accuracy), setup), accuracy=accuracy, start=window.start
    )


def token_seconds(network: Network, count: int, setup: Setup) -> NDArray[np.float64]:
    """When the last sample that counts for each of `count` tokens comes, s after the cue: (N,)."""
    if not isinstance(network, EEGLMUFormer):
        raise ValueError(f"network is {type(network).__name__}; needs an LMUFormer for prefixes")
    window = setup.preprocessing
    ends = network.samples_per_token * (np.arange(1, count + 1) + network.delay)
    # Zeros stand for what lies beyond the window's end.
    return window.start + np.minimum(ends, window.samples) / window.sample_rate


def _batches(signals: Float) -> list[Float]:
    if not len(signals):
        raise ValueError("there are no trials; needs one or more")
    return [
        np.ascontiguousarray(signals[first : first + AT_ONCE])
        for first in range(0, len(signals), AT_ONCE)
    ]
