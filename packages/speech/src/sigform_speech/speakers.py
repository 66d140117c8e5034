"""Which output is whose: keeps every speaker in the same output from chunk to chunk.

A network may give the speakers in another order for every chunk. Two things tell which it is:
what the chunk shares with the one before, as its outputs there must be the same signals, and the
voices, which are known from all chunks before. Both are log-likelihood ratios and add up, so each
counts as much as it has to say: nothing where the shared part is silent, or nobody spoke yet.
Where the voices say that the network changed its order within a chunk, or divided one voice
among its outputs while nobody else spoke, that is undone first.

Shapes: S speakers, C channels, T samples.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from sigform_speech.voices import ACTIVE, HOP_SECONDS, Stretch, VoiceModel, cepstra, frame_powers

Float = NDArray[np.floating]

SHARED_WEIGHT = 20.0
"""Log-likelihood ratio of one second in which the shared signals leave no doubt."""

FRAME_SECONDS = 0.032
"""Of the shared part, judged on its own, so that loud sounds do not outvote the rest."""

DOMINANT = 2.0
"""Times the energy of all other outputs (3 dB): an output's frames that show its voice."""

VOICE_WEIGHT = 0.75
"""Of the voices' log-likelihood ratios: neighbouring seconds are less independent than assumed."""

MOST_KNOWN, MOST_NEW = 30.0, 4.0
"""Seconds that a voice counts as known by, and heard for in one chunk, at most."""

FADING = 0.9
"""Of the loudest speech so far, what is expected of the next chunk at least."""

BLOCK_FRAMES = 16
"""Frames of the voices (a quarter of a second) after which a network may change its order."""

CHANGE = 2.0
"""Log-likelihood ratio that a change of order within a chunk costs."""

ENOUGH = 2.0
"""Seconds by which every voice must be known before a chunk's order is corrected within it."""

FADE_SECONDS = 0.03
"""Of a change of order."""

TOGETHER = 0.1
"""Of the louder output's energy in a frame, above which another one has something in it too."""

SAME = 0.7
"""Correlation of two outputs in a frame above which they are parts of one voice."""

ALONE = 0.5
"""Log-likelihood ratio that it costs to begin a chunk with one voice: nothing heard is no voice."""

BOTH_SPEAK = 1.0
"""Log-likelihood ratio by which a frame with two different signals speaks against one voice."""


class SpeakerOrder:
    """Puts the outputs of one chunk after the other into one order; S! orders are weighed.

    Chunks of outputs are to be of comparable level.
    """

    def __init__(self, speakers: int, sample_rate: int) -> None:
        self._orders = [list(order) for order in permutations(range(speakers))]
        self._sample_rate = sample_rate
        self._model = VoiceModel.load()
        D = len(self._model.between)
        self._voices = Stretch(seconds=np.zeros(speakers), mean=np.zeros((speakers, D)))
        self._loud = 0.0  # energy of a frame of loud speech

    def __call__(self, outputs: Float, before: Float) -> Float:
        """outputs (S, C, T) of the network -> those of the speakers (S, C, T).

        `before` (S, C, shared) are the speakers in the samples that outputs begin with, as the
        last chunk gave them.
        """
        shared = before.shape[2]
        outputs = self._straightened(outputs)
        agreement = self._agreement(before, outputs[..., :shared])
        heard = self._listen(outputs[..., shared:])
        heard = replace(heard, seconds=np.minimum(heard.seconds, MOST_NEW))
        order, certainty = self._decide(agreement + self._compare(heard))
        new = Stretch(seconds=certainty * heard.seconds[order], mean=heard.mean[order])
        self._voices = self._voices.joined(new, most_seconds=MOST_KNOWN)
        return outputs[order]

    def _straightened(self, outputs: Float) -> Float:
        """The outputs with the changes of order within them undone, where voices tell of any."""
        if self._voices.seconds.min() < ENOUGH:
            return outputs
        S, _, T = outputs.shape
        pairs = self._compare(self._listen(outputs, BLOCK_FRAMES))  # (blocks, speakers, outputs)
        orders = pairs[:, np.arange(S), self._orders].sum(axis=2)  # (blocks, orders)
        alone = pairs.sum(axis=2) - BOTH_SPEAK * self._differing(outputs)[: len(pairs), None]
        alone[:1] -= ALONE
        path = cheapest_path(np.concatenate([orders, alone], axis=1), CHANGE)
        if (path == path[0]).all() and path[0] < len(self._orders):
            return outputs
        hop = round(HOP_SECONDS * self._sample_rate)
        places = np.repeat(path, BLOCK_FRAMES * hop)
        places = np.concatenate([places, np.full(max(0, T - len(places)), path[-1])])[:T]
        size = round(FADE_SECONDS * self._sample_rate)
        made = np.zeros_like(outputs)
        for number in np.unique(path):
            chosen = np.pad((places == number).astype(np.float32), size // 2, mode="edge")
            total = np.concatenate([[0], np.cumsum(chosen, dtype=np.float64)])
            width = 2 * (size // 2)
            weight = ((total[width : width + T] - total[:T]) / width).astype(np.float32)
            if number < len(self._orders):
                made += outputs[self._orders[number]] * weight
            else:
                made[number - len(self._orders)] += outputs.sum(axis=0) * weight
        return made

    def _differing(self, outputs: Float) -> Float:
        """In how many frames of each block two outputs have different signals in them: (blocks,)"""
        size = round(HOP_SECONDS * self._sample_rate)
        count = -(-outputs.shape[2] // size)
        padded = np.pad(outputs, ((0, 0), (0, 0), (0, count * size - outputs.shape[2])))
        frames = padded.reshape(*outputs.shape[:2], count, size).astype(np.float64)
        products = np.einsum("sclt,oclt->lso", frames, frames)
        energy = np.diagonal(products, axis1=1, axis2=2)  # (L, S)
        scale = np.sqrt(energy[:, :, None] * energy[:, None]) + 1e-30
        loudest = energy.max(axis=1)
        heard = (energy > TOGETHER * loudest[:, None]) & (loudest > ACTIVE * self._loud)[:, None]
        apart = (np.abs(products) < SAME * scale) & heard[:, :, None] & heard[:, None]
        differing = apart.any(axis=(1, 2))
        return np.pad(differing, (0, -count % BLOCK_FRAMES)).reshape(-1, BLOCK_FRAMES).sum(axis=1)

    def _compare(self, heard: Stretch) -> Float:
        """How much likelier each stretch (..., outputs) is by each speaker: (..., S, outputs)."""
        known = Stretch(seconds=self._voices.seconds[:, None], mean=self._voices.mean[:, None])
        new = Stretch(seconds=heard.seconds[..., None, :], mean=heard.mean[..., None, :, :])
        return VOICE_WEIGHT * self._model.likelihood_ratio(known, new)

    def _decide(self, evidence: Float) -> tuple[list[int], float]:
        """The likeliest order by evidence (speakers, outputs), and how certain it is, 0 to 1."""
        totals = np.array(
            [sum(evidence[pair] for pair in enumerate(order)) for order in self._orders]
        )
        chances = np.exp(totals - totals.max())
        best = int(chances.argmax())
        guess = 1 / len(chances)
        known = self._voices.seconds.any()
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

    def _listen(self, outputs: Float, block: int | None = None) -> Stretch:
        """What each output's voice sounds like where it speaks and no other does: (S,) stretches.

        With `block`, of every so many frames: (blocks, S).
        """
        powers = frame_powers(outputs, self._sample_rate)  # (S, L, bins)
        energy = powers.mean(axis=2)
        total = energy.sum(axis=0)
        loud = max(FADING * self._loud, float(np.percentile(total, 95)))
        speech = (energy > ACTIVE * loud) & (energy > DOMINANT * (total - energy))
        values = cepstra(powers, self._sample_rate)
        if block is None:
            self._loud = loud
            return self._model.describe(values, speech)
        missing = -len(total) % block
        values = np.pad(values, ((0, 0), (0, missing), (0, 0)))
        speech = np.pad(speech, ((0, 0), (0, missing)))
        blocks = speech.shape[1] // block
        return self._model.describe(
            values.reshape(len(values), blocks, block, -1).swapaxes(0, 1),
            speech.reshape(len(speech), blocks, block).swapaxes(0, 1),
        )


def cheapest_path(evidence: Float, change: float) -> NDArray[np.intp]:
    """The path of most evidence (L, choices) when every change of choice costs: (L,)."""
    best = np.zeros(evidence.shape[1])
    came_from = np.zeros(evidence.shape, np.intp)
    for place, now in enumerate(evidence):
        stay = best >= best.max() - change
        came_from[place] = np.where(stay, np.arange(len(best)), best.argmax())
        best = np.maximum(best, best.max() - change) + now
    path = np.empty(len(evidence), np.intp)
    path[-1] = best.argmax()
    for place in range(len(path) - 1, 0, -1):
        path[place - 1] = came_from[place, path[place]]
    return path
