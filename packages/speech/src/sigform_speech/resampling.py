"""Another sample rate, block by block: soxr, without delay and with lengths known beforehand."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

QUALITY = "VHQ"


def output_length(length: int, source_rate: int, target_rate: int) -> int:
    """How many samples `length` of them become: length * target / source, rounded up."""
    return -(-length * target_rate // source_rate)


class Resampler:
    """Resamples a stream of blocks `(C, n)` from one rate to another, both in Hz.

    Sample i of the output is the sound at i / target_rate seconds, whatever the blocks were: there
    is no delay. The sound is taken to be silent before and after. Equal rates give the blocks
    themselves. A resampler is good for one stream. Raises ValueError for rates or channels < 1.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int) -> None:
        for what, value in (
            ("source rate", source_rate),
            ("target rate", target_rate),
            ("number of channels", channels),
        ):
            if value < 1:
                raise ValueError(f"{what} is {value}; needs at least 1")
        self.source_rate = source_rate
        self.target_rate = target_rate
        self.channels = channels
        self._stream: soxr.ResampleStream | None = None
        if source_rate != target_rate:
            self._stream = soxr.ResampleStream(
                source_rate, target_rate, channels, dtype="float32", quality=QUALITY
            )
        self._taken = 0
        self._given = 0
        self._ended = False

    def push(self, block: Samples, *, last: bool = False) -> Samples:
        """What can be said of the output after this block; all the rest with the `last` one.

        Takes and gives float32 `(C, n)`; n may be 0 in both. The outputs together have
        `output_length` of all inputs.
        """
        if self._ended:
            raise ValueError("a block came after the last one; needs a new Resampler")
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"block has shape {block.shape}; needs ({self.channels}, n)")
        self._ended = last
        self._taken += block.shape[1]
        if self._stream is None:
            return block
        if not last:
            made = self._resample(block)
            self._given += made.shape[1]
            return made
        # soxr may end one sample early; with a little silence after the sound it does not.
        silence = np.zeros((self.channels, 2 + 2 * self.source_rate // self.target_rate), "f4")
        made = self._resample(np.concatenate([block, silence], axis=1), last=True)
        whole = output_length(self._taken, self.source_rate, self.target_rate)
        return made[:, : whole - self._given]

    def _resample(self, block: Samples, *, last: bool = False) -> Samples:
        assert self._stream is not None
        made = self._stream.resample_chunk(np.ascontiguousarray(block.T, "f4"), last=last)
        return np.ascontiguousarray(made.reshape(-1, self.channels).T)


def resample(samples: Samples, source_rate: int, target_rate: int) -> Samples:
    """`samples` `(C, T)` or `(T,)`, at another rate: `output_length` of them, float32."""
    rows = samples[None] if samples.ndim == 1 else samples
    made = Resampler(source_rate, target_rate, rows.shape[0]).push(rows, last=True)
    return made[0] if samples.ndim == 1 else made
