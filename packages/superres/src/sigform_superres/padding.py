"""Growing an image to the right and downwards until windows fit, in both published ways."""

from typing import Literal

import torch
from torch import Tensor

Padding = Literal["reflect", "flip"]
"""How to continue an image: without repeating its last pixel, or repeating it."""


def mirrored(size: int, wanted: int, padding: Padding) -> Tensor:
    """Which of `size` pixels stands at each of `wanted` places: int64 (wanted,).

    Goes to and fro as often as needed, so that any size from 1 will do.
    Raises ValueError for another padding.
    """
    if padding not in ("reflect", "flip"):
        raise ValueError(f"padding is {padding!r}; needs reflect or flip")
    period = max(1, 2 * size - 2) if padding == "reflect" else 2 * size
    place = torch.arange(wanted) % period
    back = period - place if padding == "reflect" else period - 1 - place
    return torch.where(place < size, place, back)


def pad_to_multiple(image: Tensor, multiple: int, padding: Padding) -> Tensor:
    """Continue (B, H, W, C) on the right and below to multiples of `multiple`.

    "flip" always adds some, a whole multiple where H or W is one already, as the published
    inference script does.
    """
    for axis in (1, 2):
        size = image.shape[axis]
        extra = multiple - size % multiple if padding == "flip" else -size % multiple
        if extra:
            places = mirrored(size, size + extra, padding).to(image.device)
            image = image.index_select(axis, places)
    return image
