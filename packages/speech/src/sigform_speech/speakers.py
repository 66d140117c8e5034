"""Which output is whose: keeps every speaker in the same output from chunk to chunk.

A network may give the speakers in another order for every chunk. Two things tell which it is:
what the chunk shares with the one before, as its outputs there must be the same signals, and the
voices, which are known from all chunks before. Both are log-likelihood ratios and add up, so each
counts as much as it has to say: nothing where the shared part is silent, or nobody spoke yet.

Shapes: S speakers, C channels, T samples.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from sigform_speech.voices import ACTIVE, Stretch, VoiceModel, cepstra, frame_powers

Float = NDArray[np.floating]

SHARED_WEIGHT = 20.0
"""Log-likelihood ratio of one second in which the shared signals leave no doubt."""

FRAME_SECONDS = 0.032
"""Of the shared part, judged on its own, so that loud sounds do not outvote the rest."""

DOMINANT = 2.0
"""Times the energy of all other outputs (3 dB): an output's frames that show its voice."""

VOICE_WEIGHT = 0.5
"""Of the voices' log-likelihood ratios: neighbouring seconds are less independent than assumed."""

MOST_KNOWN, MOST_NEW = 30.0, 4.0
"""Seconds that a voice counts as known by, and heard for in one chunk, at most."""

FADING = 0.9
"""Of the loudest speech so far, what is expected of the next chunk at least."""


class SpeakerOrder:
    """The order of the outputs of one chunk after the other; S! orders are weighed.

    Chunks of outputs are to be of comparable level.
    """

    def __init__(self, speakers: int, sample_rate: int) -> None:
        self._orders = [list(order) for order in permutations(range(speakers))]
        self._sample_rate = sample_rate
        self._model = VoiceModel.load()
        nobody = self._model.describe(np.zeros((0, len(self._model.mean))))
        self._voices = [nobody] * speakers
        self._loud = 0.0  # energy of a frame of loud speech

    def __call__(self, outputs: Float, before: Float) -> list[int]:
        """The output (S, C, T) for each speaker.

        `before` (S, C, shared) are the speakers in order in the samples that outputs begin with,
        as the last chunk gave them.
        """
        shared = before.shape[2]
        agreement = self._agreement(before, outputs[..., :shared])
        heard = self._listen(outputs[..., shared:])
        voices = [
            [self._model.likelihood_ratio(known, new) for new in heard] for known in self._voices
        ]
        order, certainty = self._decide(agreement + VOICE_WEIGHT * np.array(voices))
        for speaker, output in enumerate(order):
            new = replace(heard[output], seconds=certainty * heard[output].seconds)
            known = self._voices[speaker]
            self._voices[speaker] = known.joined(new, most_seconds=MOST_KNOWN)
        return order

    def _decide(self, evidence: Float) -> tuple[list[int], float]:
        """The likeliest order by evidence (speakers, outputs), and how certain it is, 0 to 1."""
        totals = np.array(
            [sum(evidence[pair] for pair in enumerate(order)) for order in self._orders]
        )
        chances = np.exp(totals - totals.max())
        best = int(chances.argmax())
        guess = 1 / len(chances)
        known = any(voice.seconds for voice in self._voices)
        certainty = (chances[best] / chances.sum() - guess) / (1 - guess) if known else 1.0
        return self._orders[best], float(certainty)

    def _agreement(self, before: Float, outputs: Float) -> Float:
        """How well each speaker before fits each output in the shared part: (S, S)."""
        S, _, shared = before.shape
        size = round(FRAME_SECONDS * self._sample_rate)
        frames = shared // size
        if not frames:
            return np.zeros((S, S))

        def framed(signals: Float) -> Float:
            parts = signals[..., : frames * size].astype(np.float64)
            return parts.reshape(S, -1, frames, size)

        old, new = framed(before), framed(outputs)
        products = np.einsum("sclt,oclt->lso", old, new)
        energy = np.sqrt(np.square(old).sum((0, 1, 3)) * np.square(new).sum((0, 1, 3)))  # (L,)
        speech = energy > ACTIVE * self._loud
        share = products[speech] / energy[speech, None, None]
        return SHARED_WEIGHT * FRAME_SECONDS * share.sum(axis=0)

    def _listen(self, outputs: Float) -> list[Stretch]:
        """What each output's voice sounds like where it speaks and no other does."""
        powers = frame_powers(outputs, self._sample_rate)  # (S, L, bins)
        energy = powers.sum(axis=2) / powers.shape[2]
        total = energy.sum(axis=0)
        self._loud = max(FADING * self._loud, float(np.percentile(total, 95)))
        heard = []
        for own, power in zip(energy, powers, strict=True):
            speech = (own > ACTIVE * self._loud) & (own > DOMINANT * (total - own))
            new = self._model.describe(cepstra(power[speech], self._sample_rate))
            heard.append(replace(new, seconds=min(new.seconds, MOST_NEW)))
        return heard
