"""Which parts of a clip a network has to make: the modes of VDT (arXiv 2305.13311, section 3.3).

A mask is 1 where there is something to generate and 0 where it is given; (T, H, W) for one clip,
on the pixels of what the network sees. Modes are the command's names for the published numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Mode = Literal[
    "unconditional", "predict", "backward", "interpolate", "animate", "scattered", "complete"
]

MODES: tuple[Mode, ...] = (
    "predict",
    "backward",
    "interpolate",
    "unconditional",
    "animate",
    "scattered",
    "complete",
)
"""In the published order: 0 to 5, and the spatial masks from 6 on."""

INTERPOLATED = 4
"""Every how many frames one is given to interpolate between, as published."""

SCATTERED = 0.8
"""Share of single frames to generate in the mode "scattered"; published as a share of tokens."""

SPATIAL = 0.2
"""Share of training clips with spatial masks."""

COVERED = 0.5
"""Share of a frame that a spatial mask covers."""


@dataclass(frozen=True)
class Box:
    """A rectangle of a frame, in its pixels."""

    left: int
    top: int
    width: int
    height: int


def mode_mask(
    mode: str,
    shape: tuple[int, int, int],
    *,
    given: int | Sequence[int] | None = None,
    box: Box | None = None,
) -> Tensor:
    """The mask (T, H, W), float32, of a mode for a clip of `shape` (T, H, W).

    `given` is how many frames are given to "predict" or "backward" (half of them), every how many
    one is for "interpolate" (4), which one for "animate" (the first, 0), or which ones for
    "scattered"; `box` is what "complete" fills in every frame. Raises ValueError for another mode
    and for a mask that leaves nothing to generate or gives nothing.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; needs one of {', '.join(sorted(MODES))}")
    frames, height, width = shape
    mask = torch.ones(shape)
    if mode == "unconditional":
        return mask
    if mode == "complete":
        if box is None:
            raise ValueError("mode is 'complete' without a box; needs what to fill in")
        inside = torch.zeros(height, width)
        top, left = max(box.top, 0), max(box.left, 0)
        inside[top : max(box.top + box.height, 0), left : max(box.left + box.width, 0)] = 1
        return checked(inside.expand(shape).clone())
    if mode == "scattered":
        if not isinstance(given, Sequence):
            raise ValueError(f"given is {given}; mode 'scattered' needs the frames that are given")
        kept = list(given)
    elif given is not None and not isinstance(given, int):
        raise ValueError(f"given is {given}; mode {mode!r} needs one number")
    else:
        kept = _kept(mode, frames, given)
    if outside := [frame for frame in kept if not 0 <= frame < frames]:
        raise ValueError(f"given frame is {outside[0]}; needs 0 to {frames - 1}")
    mask[kept] = 0
    return checked(mask)


def _kept(mode: str, frames: int, given: int | None) -> list[int]:
    """The frames that a mode keeps."""
    if mode == "animate":
        return [given or 0]
    number = (INTERPOLATED if mode == "interpolate" else frames // 2) if given is None else given
    if number < 1:
        raise ValueError(f"given is {number}; needs 1 or more")
    if mode == "interpolate":
        return list(range(0, frames, number))
    if number > frames:
        raise ValueError(f"given is {number} frames; the clip has {frames}")
    return list(range(number)) if mode == "predict" else list(range(frames - number, frames))


def checked(mask: Tensor) -> Tensor:
    """The mask, if it gives something and leaves something to generate; ValueError otherwise."""
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("mask has other values; needs 0 (given) and 1 (to generate)")
    if not bool(mask.any()):
        raise ValueError("mask keeps everything; needs something to generate")
    if bool(mask.all()):
        raise ValueError("mask keeps nothing; needs something given, or mode 'unconditional'")
    return mask


def draw_mask(random: np.random.Generator, shape: tuple[int, int, int]) -> Tensor:
    """A training mask (T, H, W), float32: a fifth spatial, else one of the six modes, evenly.

    A clip of one frame gets spatial masks and full ones only.
    """
    frames, height, width = shape
    if random.random() < SPATIAL:
        covered = torch.from_numpy(draw_rectangles(random, height, width))
        return covered.expand(shape).clone()
    mode = MODES[int(random.integers(6))]
    if mode == "unconditional" or frames == 1:
        return torch.ones(shape)
    if mode == "animate":
        return mode_mask(mode, shape, given=int(random.integers(frames)))
    if mode == "scattered":
        kept = np.flatnonzero(random.random(frames) >= SCATTERED)[: frames - 1]
        # Without a frame given it is the unconditional mode.
        return mode_mask(mode, shape, given=kept.tolist()) if len(kept) else torch.ones(shape)
    return mode_mask(mode, shape)


def draw_rectangles(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A mask (H, W), float32, of rectangles over about half a frame (BEiT, arXiv 2106.08254).

    Each covers at least a twelfth and at most what is missing; sides differ by up to 10 to 3.
    Some of the frame is always covered, and of more than a pixel some is left out.
    """
    mask = np.zeros((height, width), np.float32)
    wanted = COVERED * height * width
    for _ in range(64):
        missing = wanted - mask.sum()
        if missing < wanted / 12:
            break
        area = random.uniform(min(wanted / 12, missing), missing)
        aspect = math.exp(random.uniform(math.log(0.3), -math.log(0.3)))
        high = min(max(1, round(math.sqrt(area * aspect))), height)
        wide = min(max(1, round(math.sqrt(area / aspect))), width)
        top = int(random.integers(height - high + 1))
        left = int(random.integers(width - wide + 1))
        grown = mask.copy()
        grown[top : top + high, left : left + wide] = 1
        if not grown.all():
            mask = grown
    if not mask.any():
        mask[:, : max(1, width // 2)] = 1
    return mask
