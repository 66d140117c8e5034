"""Pictures, clips and sound of any size, rate and length brought to those of a model, and said so.

Letters of shapes: T frames, H, W pixels, C channels, N samples. Every function returns what it
made and plain sentences of what it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigform_generate.media import Clip
from sigform_kit.errors import InputError

_NEARLY = 1e-3  # seconds by which a frame counts as already shown: WebM rounds to milliseconds


def conform_image(
    image: NDArray[np.uint8], size: int | tuple[int, int]
) -> tuple[NDArray[np.uint8], list[str]]:
    """(H, W, 3) -> (H', W', 3): the largest middle part of the wanted shape, resized.

    size: the side of a square, or (height, width). Shrinking is antialiased.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size is {size}; needs 1 or more")
    top, left, inner_height, inner_width = middle(image.shape[0], image.shape[1], height, width)
    notes = []
    if (inner_height, inner_width) != image.shape[:2]:
        was = f"{image.shape[1]}x{image.shape[0]}"
        notes.append(f"cropped {was} to {inner_width}x{inner_height}")
        image = image[top : top + inner_height, left : left + inner_width]
    if (inner_height, inner_width) != (height, width):
        notes.append(f"resized to {width}x{height}")
        image = resized(image, height, width)
    return np.ascontiguousarray(image), notes


def middle(height: int, width: int, to_height: int, to_width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest middle part with the wanted ratio of sides."""
    inner_height = max(1, min(height, round(width * to_height / to_width)))
    inner_width = max(1, min(width, round(height * to_width / to_height)))
    return (height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width


def resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3) resized by Lanczos with antialiasing, as Pillow does it."""
    if image.shape[:2] == (height, width):
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def shown_at(times: Sequence[float] | NDArray, moments: Sequence[float] | NDArray) -> NDArray:
    """Which frame is on the screen at each moment: the last one that has begun."""
    return np.maximum(np.searchsorted(times, np.asarray(moments) + _NEARLY, side="right") - 1, 0)


def conform_clip(
    clip: Clip,
    *,
    size: int | tuple[int, int],
    fps: float | Fraction,
    frames: int | None = None,
    start: float = 0.0,
) -> tuple[NDArray[np.uint8], list[str]]:
    """Frames (T, H', W', 3) at `fps` from `start` seconds on; all there are if `frames` is None.

    Raises InputError, naming the clip, when it is shorter than what is asked for.
    """
    rate = Fraction(fps).limit_denominator(1001)
    if rate <= 0:
        raise ValueError(f"fps is {fps}; needs more than 0")
    times = clip.times
    if times is None:
        times = np.arange(len(clip.frames)) / float(clip.fps)
    available = int(float((clip.seconds - start) * rate) + 1e-2)
    count = frames if frames is not None else max(available, 1)
    if frames is not None and available < count:
        raise InputError(
            f"{clip.name}: has {max(clip.seconds - start, 0):.2f} s, {max(available, 0)} frames at "
            f"{float(rate):g} fps; needs {count} frames, {count / float(rate):.2f} s"
        )
    moments = start + np.arange(count) / float(rate)
    chosen = shown_at(times, moments)
    made, cuts = [], []
    for index in chosen:
        image, cuts = conform_image(clip.frames[index], size)
        made.append(image)
    notes = list(cuts)
    whole = count == len(clip.frames) and np.array_equal(chosen, np.arange(count))
    if not whole or abs(float(clip.fps / rate) - 1) > 1e-3:
        part = f"the {clip.part} " if clip.part else ""
        notes.append(
            f"took {count} frames at {float(rate):g} fps from {start:.1f} s "
            f"of {part}{len(clip.frames)} at {float(clip.fps):.4g} fps"
        )
    return np.stack(made), notes


def conform_sound(
    audio: NDArray[np.float32], rate: int, *, sample_rate: int, samples: int | None = None
) -> tuple[NDArray[np.float32], list[str]]:
    """(N,) or (C, N) at `rate` -> mono (N',) at `sample_rate`, cut or filled with silence.

    samples: N'; the whole length if None.
    """
    import torch
    import torchaudio

    audio = np.atleast_2d(audio)
    notes = []
    if audio.shape[0] > 1:
        notes.append(f"mixed {audio.shape[0]} channels into one")
    mono = audio.mean(axis=0, dtype=np.float64).astype(np.float32)
    if rate != sample_rate:
        notes.append(f"resampled sound from {rate} to {sample_rate} Hz")
        if len(mono):
            wave = torch.from_numpy(mono)[None]
            mono = torchaudio.functional.resample(wave, rate, sample_rate)[0].numpy()
    count = len(mono) if samples is None else samples
    if len(mono) < count:
        notes.append(f"filled {(count - len(mono)) / sample_rate:.2f} s with silence")
        mono = np.pad(mono, (0, count - len(mono)))
    elif len(mono) > count:
        notes.append(f"cut sound to {count / sample_rate:.2f} s")
        mono = mono[:count]
    return np.clip(mono, -1, 1), notes
