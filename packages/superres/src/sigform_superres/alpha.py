"""Colours for the transparent parts of a picture.

Files hold any colour under full transparency, mostly black. A network that sees it next to the
visible edge draws a dark fringe into the edge, so the visible colours are let run out first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sigform_superres.picture import Samples

Floats = NDArray[np.floating]


def bleed(colour: Samples, alpha: Samples) -> Samples:
    """The colour (H, W, C), filled from the nearest visible colours where alpha (H, W) is 0.

    Unchanged elsewhere, and as it is if nothing is hidden or nothing visible. Works in time and
    memory proportional to the picture by a pyramid of averages weighted with alpha, halved until
    every hidden pixel has seen a visible one.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return colour
    weight = alpha[..., None].astype(np.float32) / np.iinfo(alpha.dtype).max
    filled = _fill(colour.astype(np.float32), weight)
    return np.where(hidden[..., None], np.rint(filled).astype(colour.dtype), colour)


def _fill(colour: Floats, weight: Floats) -> Floats:
    """(H, W, C) with the pixels of weight (H, W, 1) 0 taken from the next coarser level."""
    empty = weight == 0
    if not empty.any():
        return colour
    coarse_weight = _halve(weight)
    average = _halve(colour * weight) / np.maximum(coarse_weight, np.finfo(np.float32).tiny)
    # Averages count in full one level up: what is far away must not win over the thinly visible.
    coarse = _fill(average, (coarse_weight > 0).astype(np.float32))
    height, width = colour.shape[:2]
    spread = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(empty, spread, colour)


def _halve(values: Floats) -> Floats:
    """(ceil(H / 2), ceil(W / 2), C): weights 1 3 3 1 over neighbours, 0 beyond the border.

    The overlap lets a pixel see its neighbour on whichever side of a block's border it lies.
    """
    for axis in (0, 1):
        padding = [(0, 0)] * 3
        padding[axis] = (1, 2 + values.shape[axis] % 2)
        lines = np.moveaxis(np.pad(values, padding), axis, 0)
        halved = lines[0:-3:2] + 3 * (lines[1:-2:2] + lines[2:-1:2]) + lines[3::2]
        values = np.moveaxis(halved / 8, 0, axis)
    return values
