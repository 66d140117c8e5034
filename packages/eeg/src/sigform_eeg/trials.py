"""Trials: cut pieces of one person's recordings, with what they stand for.

Letters of shapes: n trials, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sigform_kit.errors import InputError

LEAST_TRIALS = 4
"""Of each class, below which nothing can be learnt and tested."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """One subject's trials in time order. Raises ValueError where the parts do not fit."""

    signals: NDArray[np.float32]  # (n, C, T), microvolts
    labels: NDArray[np.int64]  # (n,), index into classes
    runs: NDArray[np.int64]  # (n,), which recording of the subject
    classes: tuple[str, ...]
    channels: tuple[str, ...]  # standard names: FC3, Cz, ...
    sample_rate: float  # Hz
    start: float  # seconds of the first sample relative to the cue
    subject: str

    def __post_init__(self) -> None:
        if self.signals.ndim != 3 or self.signals.shape[1] != len(self.channels):
            raise ValueError(
                f"signals of {self.subject} have shape {self.signals.shape}; "
                f"needs (trials, {len(self.channels)} channels, samples)"
            )
        count = len(self.signals)
        if self.labels.shape != (count,) or self.runs.shape != (count,):
            raise ValueError(
                f"labels and runs of {self.subject} have shapes {self.labels.shape} and "
                f"{self.runs.shape}; needs ({count},)"
            )
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"labels of {self.subject} are {self.labels.min()} to {self.labels.max()}; "
                f"needs 0 to {len(self.classes) - 1}"
            )
        if self.sample_rate <= 0:
            raise ValueError(f"sample_rate is {self.sample_rate}; needs more than 0 Hz")

    def __len__(self) -> int:
        return len(self.signals)

    @property
    def stop(self) -> float:
        """Seconds after the cue at which the trials end."""
        return self.start + self.signals.shape[2] / self.sample_rate

    def select(self, which: NDArray[np.bool_] | NDArray[np.int64] | Sequence[int]) -> Trials:
        """The trials of a mask or of indices, in the order given."""
        index = np.asarray(which)
        if index.dtype != np.bool_:
            index = index.astype(np.int64)
        return replace(
            self, signals=self.signals[index], labels=self.labels[index], runs=self.runs[index]
        )

    def pick(self, channels: Sequence[str]) -> Trials:
        """The same trials with these channels, in this order.

        Raises InputError that names the missing ones.
        """
        place = {name: number for number, name in enumerate(self.channels)}
        missing = [name for name in channels if name not in place]
        if missing:
            raise InputError(
                f"{self.subject} lacks {_plural(len(missing), 'channel')} "
                f"{', '.join(missing)}; has {', '.join(self.channels)}"
            )
        if tuple(channels) == self.channels:
            return self
        index = [place[name] for name in channels]
        return replace(self, signals=self.signals[:, index], channels=tuple(channels))

    def with_signals(self, signals: NDArray[np.float32]) -> Trials:
        """The same trials with other signals of the same shape, aligned ones perhaps."""
        if signals.shape != self.signals.shape:
            raise ValueError(f"signals have shape {signals.shape}; needs {self.signals.shape}")
        return replace(self, signals=signals)

    def count(self) -> dict[str, int]:
        """Trials of each class."""
        numbers = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(number) for name, number in zip(self.classes, numbers, strict=True)}


def concatenate(parts: Sequence[Trials], subject: str | None = None) -> Trials:
    """Trials one after the other; of several subjects where `subject` names what they are.

    Raises ValueError where classes, channels, rates or windows differ.
    """
    if not parts:
        raise ValueError("no trials are given; needs one part or more")
    first = parts[0]
    for part in parts[1:]:
        for what in ("classes", "channels", "sample_rate", "start"):
            if getattr(part, what) != getattr(first, what):
                raise ValueError(
                    f"{what} of {part.subject} is {getattr(part, what)}; needs "
                    f"{getattr(first, what)} as {first.subject}"
                )
        if part.signals.shape[2] != first.signals.shape[2]:
            raise ValueError(
                f"trials of {part.subject} have {part.signals.shape[2]} samples; needs "
                f"{first.signals.shape[2]} as {first.subject}"
            )
    return replace(
        first,
        signals=np.concatenate([part.signals for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        runs=np.concatenate([part.runs for part in parts]),
        subject=subject or first.subject,
    )


def common_channels(subjects: Sequence[Trials]) -> tuple[str, ...]:
    """The channels that every subject has, in the order of the first.

    Raises InputError when there are none.
    """
    shared = set.intersection(*(set(trials.channels) for trials in subjects))
    if not shared:
        names = ", ".join(trials.subject for trials in subjects)
        raise InputError(f"{names} have no channel in common")
    return tuple(name for name in subjects[0].channels if name in shared)


def check_counts(counts: Mapping[str, int], where: str, least: int = LEAST_TRIALS) -> None:
    """Raises InputError, naming `where`, for one class only or fewer than `least` trials of one."""
    told = ", ".join(f"{name} {number}" for name, number in counts.items())
    if sum(number > 0 for number in counts.values()) < 2:
        raise InputError(f"{where}: trials are of one class only ({told}); needs two or more")
    if min(counts.values()) < least:
        raise InputError(f"{where}: too few trials ({told}); needs {least} or more of each class")


def check_trainable(trials: Trials, where: str, least: int = LEAST_TRIALS) -> None:
    """Raises what `check_counts` does."""
    check_counts(trials.count(), where, least)


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
