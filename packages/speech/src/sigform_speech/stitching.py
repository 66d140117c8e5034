"""A recording of any length, separated chunk by chunk with every speaker in the same output.

Chunks overlap: around its cut ends a chunk sees less than the whole, so those ends are left out,
and what remains of the overlap is faded from one chunk into the next. Which output is whose is
decided by `speakers`, how loud by `levels`. Memory is that of two chunks.

Shapes: S speakers, C channels, T samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sigform_core.overlap import fades
from sigform_speech.levels import Levels
from sigform_speech.speakers import SpeakerOrder

if TYPE_CHECKING:
    from sigform_speech.networks import Network

CHUNK_SECONDS = 8.0
OVERLAP_SECONDS = 2.0

EDGE_SECONDS = 0.25
"""Of a cut end, that counts nothing."""

LEVEL = 0.06
"""Root mean square at which the network hears a chunk: blind to levels, but for its epsilons."""

INAUDIBLE = 1e-6
"""Of a chunk's largest value, what is left of a constant by rounding."""

SMALLEST = 1e-12
"""Amplitude below which there is silence (full scale being 1)."""

CANCELLED = 0.25
"""Of the channels' mean energy: a mean of them with less has lost what they hold."""

Float = NDArray[np.float32]


class StreamSeparator:
    """Separates what is pushed, in blocks of any size, at the network's sample rate.

    All blocks and outputs together are equally long, and where the blocks are cut does not matter.
    A recording of one chunk or less goes through the network once. Masks are estimated on the mean
    of the channels and applied to each, so that every speaker stays at its place between them. The
    mean value of each chunk (DC) is taken off; chunks of zeros give zeros.

    Raises ValueError for no channels, or chunks shorter than two overlaps.
    """

    def __init__(
        self,
        network: Network,
        channels: int = 1,
        *,
        chunk_seconds: float = CHUNK_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
    ) -> None:
        if channels < 1:
            raise ValueError(f"channels is {channels}; needs 1 or more")
        if not 0 < 2 * overlap_seconds <= chunk_seconds:
            raise ValueError(
                f"chunk_seconds is {chunk_seconds} and overlap_seconds {overlap_seconds}; "
                "needs chunks of two overlaps or more"
            )
        self.network = network
        self.channels = channels
        self.speakers = network.num_spks
        self.sample_rate = network.sample_rate
        self._overlap = round(overlap_seconds * self.sample_rate)
        self._size = round(chunk_seconds * self.sample_rate)
        edge = min(round(EDGE_SECONDS * self.sample_rate), self._overlap // 4)
        both = [(0, self._overlap), (0, self._overlap)]
        self._fade_out, self._fade_in = (part.numpy() for part in fades(both, edge))
        self._order = SpeakerOrder(self.speakers, self.sample_rate)
        self._levels = Levels(self.speakers)
        self._device = next((p.device for p in network.parameters()), torch.device("cpu"))
        self._waiting: list[Float] = []  # what came after `_input`
        self._input = np.zeros((channels, 0), np.float32)  # from the last chunk's start on
        self._done = 0  # samples of `_input` whose outputs were returned
        self._tail = np.zeros((self.speakers, channels, 0), np.float32)  # outputs after them
        self._finished = False

    def push(self, block: Float) -> Float:
        """block (C, n) -> the outputs (S, C, m) that are complete by now, float32, m >= 0.

        Raises ValueError for another shape, NaN or infinite samples, and after `finish`.
        """
        if self._finished:
            raise ValueError("a block came after finish; needs a new StreamSeparator")
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"block has shape {block.shape}; needs ({self.channels}, samples)")
        if not np.isfinite(block).all():
            raise ValueError("block has NaN or infinite samples; needs finite ones")
        self._waiting.append(block.astype(np.float32))
        return self._work(last=False)

    def finish(self) -> Float:
        """The rest of the outputs (S, C, m). Raises ValueError when called again."""
        if self._finished:
            raise ValueError("finish was called before; needs a new StreamSeparator")
        self._finished = True
        return self._work(last=True)

    def _work(self, *, last: bool) -> Float:
        made = []
        waiting = sum(block.shape[1] for block in self._waiting)
        if last or self._input.shape[1] + waiting >= self._done + self._size:
            self._input = np.concatenate([self._input, *self._waiting], axis=1)
            self._waiting = []
            while self._input.shape[1] >= self._done + self._size:
                made.append(self._chunk(self._done, self._done + self._size, last=False))
        if last:
            stop = self._input.shape[1]
            if stop > self._done + self._tail.shape[2]:
                # The last chunk is as long as the others: it begins earlier, on known ground.
                made.append(self._chunk(max(0, stop - self._size), stop, last=True))
            else:
                made.append(self._tail)
        return np.concatenate([self._tail[..., :0], *made], axis=2)

    def _chunk(self, start: int, stop: int, *, last: bool) -> Float:
        """The outputs that [start, stop) of the input completes, from where the last one ended."""
        outputs = self._separate(self._input[:, start:stop], self._done - start)
        shared = self._tail.shape[2]
        outputs[..., :shared] *= self._fade_in[:shared]
        outputs[..., :shared] += self._tail * self._fade_out[:shared]
        if last:
            return outputs
        complete = outputs.shape[2] - self._overlap
        self._tail = outputs[..., complete:].copy()
        # The last chunk may begin anywhere in this one.
        self._input = self._input[:, self._done :]
        self._done = complete
        return outputs[..., :complete]

    def _separate(self, samples: Float, skip: int) -> Float:
        """(C, T) of the input -> (S, C, T - skip): speakers in order, as loud as in the mixture."""
        mixture = centred(samples)
        if not mixture.any():
            return np.zeros((self.speakers, *mixture[:, skip:].shape), np.float32)
        outputs = self._run(mixture)[..., skip:]
        mixture = mixture[:, skip:]
        outputs = self._order(outputs, self._tail)
        gains = self._levels.gains(mixture, outputs)
        return outputs * gains.astype(np.float32)[:, None, None]

    def _run(self, mixture: Float) -> Float:
        """(C, T) -> (S, C, T) by the network, in any order and about as loud as the mixture."""
        T = mixture.shape[1]
        heard = middle(mixture)
        level = np.sqrt(np.square(heard, dtype=np.float64).mean())
        network = self.network
        # Whole frames, and a second one over the last samples.
        frames = 2 + max(0, -(-(T - network.kernel_size) // network.stride))
        padding = (0, (frames - 1) * network.stride + network.kernel_size - T)

        def encoded(channel: Float) -> Tensor:
            samples = torch.from_numpy((channel / level * LEVEL).astype(np.float32))
            return network.encode(F.pad(samples, padding)[None].to(self._device))

        with torch.inference_mode():
            masks = network.masks(encoded(heard))
            parts = [network.decode(encoded(channel), masks, T) for channel in mixture]
        outputs = torch.cat(parts).float().cpu().numpy().swapaxes(0, 1)  # (S, C, T)
        loud = np.sqrt(np.square(outputs.sum(0), dtype=np.float64).mean() or 1.0)
        own = np.sqrt(np.square(mixture, dtype=np.float64).mean())
        return outputs * np.float32(own / loud)


def centred(samples: Float) -> Float:
    """samples (C, T) less their mean over time; zeros where nothing but a constant is.

    Zeros stay zeros and do not count: they are pauses of a recorder, not of what it heard.
    """
    heard = samples != 0
    count = np.maximum(heard.sum(axis=1, keepdims=True), 1)
    left = samples - heard * (samples.sum(axis=1, keepdims=True, dtype=np.float64) / count)
    most = np.abs(samples).max(axis=1, keepdims=True, initial=0.0)
    nothing = np.abs(left).max(axis=1, keepdims=True, initial=0.0) <= INAUDIBLE * most
    return np.where(nothing | (most <= SMALLEST), 0, left).astype(np.float32)


def middle(samples: Float) -> Float:
    """samples (C, T) -> (T,): the mean of the channels, or the strongest where they cancel."""
    mean = samples.mean(axis=0)
    energies = np.square(samples, dtype=np.float64).sum(axis=1)
    if np.square(mean, dtype=np.float64).sum() < CANCELLED * energies.mean():
        return samples[energies.argmax()]
    return mean
