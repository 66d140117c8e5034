"""What is given of a video when the rest is to be made: frames of a window, and what is missing.

Letters of shapes: T frames, H, W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sigform_generate.conform import conform_clip, conform_image, middle
from sigform_generate.masks import INTERPOLATED, Box, mode_mask
from sigform_generate.media import SUFFIXES, Clip, read_clip
from sigform_generate.pictures import read_image
from sigform_kit.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Given:
    """A window of frames (T, H, W, 3) uint8, and where it is to be made: missing (T, H, W)."""

    frames: NDArray[np.uint8]
    missing: NDArray[np.bool_]
    notes: list[str] = field(default_factory=list)


SPARE = 1.0
"""Seconds of a film that are read beyond what a mode needs: frames come when they come."""


def read_given(path: Path, mode: str, seconds: float) -> Clip:
    """What a mode needs of a film for a window of so many seconds, or a picture as one frame.

    A long film is never held. Raises InputError for what is neither film nor picture.
    """
    first = 0.0 if mode == "animate" else seconds + SPARE
    last = None
    if mode == "predict":
        first, last = None, seconds + SPARE
    try:
        clip = read_clip(path, seconds=first, last=last, sound=False)
        if len(clip.frames) > 1 or mode == "animate" or not clip.part:
            return clip
        return read_clip(path, sound=False)  # frames are so rare that there are few
    except InputError:
        if path.suffix.lower() in SUFFIXES:
            raise
    return Clip(frames=read_image(path)[None], fps=Fraction(1), name=str(path))


def window_of(
    mode: str,
    clip: Clip,
    *,
    size: int,
    frames: int,
    fps: float,
    box: Box | None = None,
) -> Given:
    """The window of T `frames` of a clip that a mode fills in.

    "predict" goes on after the clip's last T/2 frames, "backward" makes what was before its
    first T/2, "interpolate" keeps each fourth of T frames, "animate" begins with its first
    frame, and "complete" makes the `box`, in pixels of the clip, of each of T frames. Raises
    InputError for a clip that is too short and a box that is all or nothing, ValueError for
    another mode.
    """
    if len(clip.frames) == 1 and mode != "animate":
        raise InputError(f"{clip.name}: has one frame; {mode} needs a clip")
    half = frames // 2
    inner = None
    if mode == "predict":
        start = max(0.0, clip.seconds - half / fps)
        kept, notes = conform_clip(clip, size=size, fps=fps, frames=half, start=start)
    elif mode == "backward":
        kept, notes = conform_clip(clip, size=size, fps=fps, frames=half)
    elif mode == "interpolate":
        whole, notes = conform_clip(clip, size=size, fps=fps, frames=frames)
        kept = whole[::INTERPOLATED]
    elif mode == "animate":
        image, notes = conform_image(clip.frames[0], size)
        kept = image[None]
    elif mode == "complete":
        if box is None:
            raise ValueError("box is None; needs left, top, width and height")
        kept, notes = conform_clip(clip, size=size, fps=fps, frames=frames)
        inner = box_in_window(box, clip, size)
    else:
        raise ValueError(f"mode is {mode!r}; needs one that is given something")
    missing = mode_mask(mode, (frames, size, size), box=inner).bool().numpy()
    window = np.full((frames, size, size, 3), 128, np.uint8)
    window[~missing.all(axis=(1, 2))] = kept
    return Given(frames=window, missing=missing, notes=notes)


def box_in_window(box: Box, clip: Clip, size: int) -> Box:
    """A box in the pixels of the clip as one in the square window.

    Raises InputError for a box outside the clip, or that is nothing or all of what is kept of it.
    """
    height, width = clip.frames.shape[1:3]
    x, y, w, h = box.left, box.top, box.width, box.height
    if min(x, y) < 0 or x + w > width or y + h > height:
        raise InputError(
            f"{clip.name}: mask {x},{y},{w},{h} reaches outside its {width}x{height} pixels"
        )
    top, left, inner_height, inner_width = middle(height, width, size, size)
    across, down = size / inner_width, size / inner_height
    first, last = max(0, floor((x - left) * across)), min(size, ceil((x + w - left) * across))
    upper, lower = max(0, floor((y - top) * down)), min(size, ceil((y + h - top) * down))
    if first >= last or upper >= lower:
        raise InputError(
            f"{clip.name}: mask {x},{y},{w},{h} keeps everything: it lies outside the middle "
            f"{inner_width}x{inner_height} pixels that are used"
        )
    if (first, upper, last, lower) == (0, 0, size, size):
        raise InputError(f"{clip.name}: mask {x},{y},{w},{h} keeps nothing; needs a smaller box")
    return Box(first, upper, last - first, lower - upper)
