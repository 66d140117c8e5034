"""Clips as the latents of a codec, encoded once: a training reads what it would compute each step.

Items are chosen as ClipSet and AVSet choose them. Letters of shapes: S side in pixels, T frames of
a window, n of a clip, C and (h, w) latent channels and size of a frame, A and (F, M) of sound.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sigform_generate.data import AVSet, ClipSet, OnPrepared, stored, to_tensor
from sigform_generate.latents import PictureCodec, SoundCodec, codec_mark

AT_ONCE = 64
"""Frames, or windows of sound, that a codec is given together."""


class Pair(NamedTuple):
    """What AV-DiT sees of a clip; batches of named tuples are tuples, of others lists."""

    frames: Tensor  # (T, C, h, w)
    sound: Tensor  # (A, F, M)


class EncodedClips(Dataset[Tensor]):
    """The windows of a ClipSet as latents (T, C, h, w).

    Where windows are mirrored and `mirror` wants that, mirrored frames are encoded as well. `cache`
    is a folder in which the latents are kept, from where they are read; `on_encoded` counts clips.
    """

    def __init__(
        self,
        clips: ClipSet,
        codec: PictureCodec,
        *,
        mirror: bool = True,
        cache: Path | None = None,
        on_encoded: OnPrepared | None = None,
    ) -> None:
        self.clips = clips
        self.mirror = mirror and clips.augment
        mark = codec_mark(codec)
        total = len(clips.sources) * (2 if self.mirror else 1)
        self.latents: list[list[NDArray[np.float32]]] = []  # as they are, then mirrored
        for mirrored in range(2 if self.mirror else 1):
            made = []
            for source, pixels in zip(clips.sources, clips.clips, strict=True):
                key = [source.path, "latents", source.index, clips.size, clips.fps, mirrored, mark]
                shown = pixels[:, :, ::-1] if mirrored else pixels
                made.append(stored(cache, key, partial(_seen, codec, shown)))
                if on_encoded is not None:
                    on_encoded(mirrored * len(clips.sources) + len(made), total)
            self.latents.append(made)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Tensor:
        number, first, mirrored = self.clips.window(index)
        latents = self.latents[mirrored and self.mirror][number]
        return torch.from_numpy(np.array(latents[first : first + self.clips.frames]))


class EncodedPairs(Dataset[Pair]):
    """The windows of an AVSet, frames and sound as latents; otherwise as EncodedClips.

    The codec hears more than one moment at once, so the sound of every window is encoded.
    """

    def __init__(
        self,
        pairs: AVSet,
        codec: PictureCodec,
        sound_codec: SoundCodec,
        *,
        cache: Path | None = None,
        on_encoded: OnPrepared | None = None,
    ) -> None:
        self.clips = pairs.clips
        self.frames = EncodedClips(pairs.clips, codec, cache=cache, on_encoded=on_encoded)
        self.sounds: list[NDArray[np.float32]] = []  # (n - T + 1, A, F, M) each
        window = [pairs.clips.frames, pairs.fps, pairs.sample_rate, codec_mark(sound_codec)]
        for number, source in enumerate(pairs.sources):
            key = [source.path, "sound latents", source.index, *window]
            starts = len(pairs.clips.clips[number]) - pairs.clips.frames + 1
            sound = partial(pairs.sound, number)
            self.sounds.append(stored(cache, key, partial(_heard, sound_codec, sound, starts)))
            if on_encoded is not None:
                on_encoded(number + 1, len(pairs.sources))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Pair:
        number, first, _ = self.clips.window(index)
        return Pair(self.frames[index], torch.from_numpy(np.array(self.sounds[number][first])))


def _seen(codec: PictureCodec, pixels: NDArray[np.uint8], _: Path) -> NDArray[np.float32]:
    """Frames (n, S, S, 3) -> latents (n, C, h, w)."""
    parts = (pixels[start : start + AT_ONCE] for start in range(0, len(pixels), AT_ONCE))
    return np.concatenate([codec.encode(to_tensor(part)[None])[0].cpu().numpy() for part in parts])


def _heard(
    codec: SoundCodec, sound: Callable[[int], NDArray[np.float32]], starts: int, _: Path
) -> NDArray[np.float32]:
    """The sound of each window -> latents (starts, A, F, M)."""
    parts = (range(start, min(starts, start + AT_ONCE)) for start in range(0, starts, AT_ONCE))
    heard = (torch.from_numpy(np.stack([sound(first) for first in part])) for part in parts)
    return np.concatenate([codec.encode(waves).cpu().numpy() for waves in heard])
