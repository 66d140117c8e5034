"""How loud each speaker is: gains by which a network's outputs sum to the mixture.

A network trained by SI-SDR leaves the scale, and even the sign, of its outputs open. Least squares
of the outputs onto the mixture finds both, for outputs that tell the speakers apart; where the
mixture says little about an output (nobody speaks in it, or it resembles another one), its gain
follows from what was found before.

Shapes: S speakers, C channels, T samples.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]

QUIET = 3e-4
"""Of the mixture's energy (-35 dB): outputs below keep the gain that was found before."""

LEAST_APART = 0.1
"""Smallest eigenvalue of the outputs' correlations with which they count as different signals."""

PACE = 0.5
"""How fast what was found before follows the gains of a chunk that has both speakers."""


class Levels:
    """Gains for the outputs of one chunk after the other, speakers being in a fixed order.

    They are of one sign for all speakers, so chosen that the sum fits the mixture best, and
    otherwise not negative. With outputs that are different signals, each above -35 dB of the
    mixture, they are those of least squares; outputs that are nearly one signal share one factor.
    No output gets more than about ten times the mixture's energy; a silent one stays silent.
    """

    def __init__(self, speakers: int) -> None:
        self._ratios = np.ones(speakers)  # of the speakers' gains to each other, so far

    def gains(self, mixture: Float, outputs: Float) -> Float:
        """mixture (C, T), outputs (S, C, T) -> gains (S,), float64, for all channels alike."""
        S = len(outputs)
        target = mixture.astype(np.float64).ravel()
        signals = outputs.astype(np.float64).reshape(S, -1)
        gram = signals @ signals.T
        onto = signals @ target
        energy = float(target @ target)
        if energy == 0 or np.trace(gram) == 0:
            return self._ratios.copy()
        sign = 1.0 if self._ratios @ onto >= 0 else -1.0
        onto = sign * onto
        expected = self._ratios * _common(gram, onto, energy, self._ratios)
        if not _apart(gram):
            return sign * expected
        # Scale-free: an output counts as quiet by what it would be with the expected gain.
        hold = QUIET * energy / expected**2
        gains = _not_negative(gram + np.diag(hold), onto + hold * expected)
        shares = np.minimum(1, gains**2 * np.diag(gram) / energy)
        self._ratios *= (gains / expected) ** (PACE * shares)
        self._ratios /= np.exp(np.log(self._ratios).mean())
        return sign * gains


def _common(gram: Float, onto: Float, energy: float, ratios: Float) -> float:
    """The factor that brings outputs of these ratios nearest to the mixture."""
    total = ratios @ gram @ ratios
    each = ratios**2 @ np.diag(gram)
    factor = ratios @ onto / total if total > LEAST_APART * each else 0.0
    # Outputs that cancel, or have nothing of the mixture, are left at -60 dB of it.
    return float(max(factor, 1e-3 * np.sqrt(energy / each)))


def _apart(gram: Float) -> bool:
    """Whether outputs are different signals; silent ones are."""
    size = np.sqrt(np.diag(gram))
    size[size == 0] = 1
    correlations = gram / np.outer(size, size)
    np.fill_diagonal(correlations, 1)
    return bool(np.linalg.eigvalsh(correlations)[0] > LEAST_APART)


def _not_negative(matrix: Float, onto: Float) -> Float:
    """The g >= 0 that minimises g' matrix g - 2 g' onto, matrix (S, S) positive definite."""
    S = len(onto)
    best, lowest = np.zeros(S), 0.0
    for count in range(1, S + 1):
        for chosen in map(list, combinations(range(S), count)):
            part = np.linalg.solve(matrix[np.ix_(chosen, chosen)], onto[chosen])
            value = -part @ onto[chosen]
            if (part >= 0).all() and value < lowest:
                best, lowest = np.zeros(S), value
                best[chosen] = part
    return best
