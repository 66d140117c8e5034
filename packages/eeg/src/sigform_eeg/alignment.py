"""Euclidean alignment: every subject's mean covariance becomes the identity.

He and Wu, IEEE TBME 67(2), 2020 (arXiv 1808.05464): x <- R^(-1/2) x, R the mean covariance of the
subject's trials. "subject" takes all trials of a set, later ones too; "online" takes those so far,
and only it is causal. n trials, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Align = Literal["none", "subject", "online"]

SHRINKAGE = 1e-3
"""Share of white noise in R, without which average references and the like have no inverse."""

Float = NDArray[np.float32]
Matrix = NDArray[np.float64]


def covariances(signals: Float) -> Matrix:
    """Covariance of the channels over time, means taken off: (n, C, T) -> (n, C, C)."""
    centred = signals.astype(np.float64)
    centred -= centred.mean(axis=2, keepdims=True)
    return centred @ centred.transpose(0, 2, 1) / max(1, signals.shape[2] - 1)


def whitener(covariance: Matrix, shrinkage: float = SHRINKAGE) -> Matrix:
    """R^(-1/2) of a covariance (C, C), shrunk by a share towards its mean variance.

    The identity for silence. Raises ValueError for values that are not finite.
    """
    if not np.isfinite(covariance).all():
        raise ValueError("the covariance has values that are not finite; needs finite signals")
    size = len(covariance)
    level = np.trace(covariance) / size
    if level <= 0:
        return np.eye(size)
    values, vectors = np.linalg.eigh(
        (1 - shrinkage) * covariance + shrinkage * level * np.eye(size)
    )
    values = np.maximum(values, 1e-3 * shrinkage * level)
    return (vectors / np.sqrt(values)) @ vectors.T


class OnlineAligner:
    """R of the windows so far, all with one weight, or the last `memory` of them above all.

    `prior` (C, C) counts as `prior_weight` windows before the first.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        memory: int | None = None,
        prior: Matrix | None = None,
        prior_weight: float = 1.0,
    ) -> None:
        if memory is not None and memory < 1:
            raise ValueError(f"memory is {memory}; needs 1 window or more")
        if prior is not None and prior.shape != (n_channels, n_channels):
            raise ValueError(f"prior has shape {prior.shape}; needs ({n_channels}, {n_channels})")
        self._memory = memory
        self._mean = np.zeros((n_channels, n_channels)) if prior is None else prior.copy()
        self._count = 0.0 if prior is None else prior_weight
        self._matrix: Matrix | None = None

    def update(self, window: Float) -> None:
        """Takes in a window (C, T)."""
        if window.ndim != 2 or len(window) != len(self._mean):
            raise ValueError(
                f"the window has shape {window.shape}; needs ({len(self._mean)}, samples)"
            )
        self._count += 1
        if self._memory is not None:
            self._count = min(self._count, self._memory)
        self._mean += (covariances(window[None])[0] - self._mean) / self._count
        self._matrix = None

    @property
    def matrix(self) -> Matrix:
        """R^(-1/2), (C, C); the identity before the first window."""
        if self._matrix is None:
            self._matrix = whitener(self._mean)
        return self._matrix

    @property
    def started(self) -> bool:
        """Whether there is anything to align by."""
        return self._count > 0

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays from which `load_state` goes on."""
        return {"mean": self._mean.copy(), "count": np.array(self._count)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._mean = np.array(state["mean"], np.float64)
        self._count = float(state["count"])
        self._matrix = None


def align_trials(
    signals: Float, how: Align, *, include_current: bool = True
) -> tuple[Float, Matrix]:
    """Aligned trials of one subject, and the matrix of each: (n, C, T) -> (n, C, T), (n, C, C).

    `signals` are in time order. With "online" trial k takes R from trials 1 to k, or to k - 1
    without `include_current`; then the first is aligned by itself, for want of another.

    Raises ValueError for another `how`.
    """
    count, channels, _ = signals.shape
    if how == "none":
        matrices = np.broadcast_to(np.eye(channels), (count, channels, channels)).copy()
        return signals, matrices
    if how == "subject":
        one = whitener(covariances(signals).mean(axis=0)) if count else np.eye(channels)
        matrices = np.broadcast_to(one, (count, channels, channels)).copy()
    elif how == "online":
        matrices = _online(signals, include_current)
    else:
        raise ValueError(f"align is {how!r}; needs none, subject or online")
    return (matrices.astype(np.float32) @ signals).astype(np.float32), matrices


def _online(signals: Float, include_current: bool) -> Matrix:
    count, channels, _ = signals.shape
    aligner = OnlineAligner(channels)
    matrices = np.empty((count, channels, channels))
    for number, trial in enumerate(signals):
        before = aligner.matrix if aligner.started else None
        aligner.update(trial)
        matrices[number] = aligner.matrix if include_current or before is None else before
    return matrices
