"""Rectangular windows over an image: cutting, joining, and where its pixels stand to each other.

Shapes: B batch, H and W the image, h and w the window, n = (H / h) * (W / w) windows an image.
"""

import torch
from torch import Tensor


def window_partition(image: Tensor, window: tuple[int, int]) -> Tensor:
    """Cut (B, H, W, C) into windows of (h, w) pixels, row by row: (B * n, h * w, C).

    Raises ValueError when the image is no whole number of windows high or wide.
    """
    B, H, W, C = image.shape
    h, w = window
    if H % h or W % w:
        raise ValueError(f"image is {H}x{W}; needs multiples of the window {h}x{w}")
    grid = image.view(B, H // h, h, W // w, w, C)
    return grid.transpose(2, 3).reshape(-1, h * w, C)


def window_join(windows: Tensor, window: tuple[int, int], image: tuple[int, int]) -> Tensor:
    """Put windows (B * n, h * w, C) back into images (B, H, W, C) of `image` = (H, W) pixels."""
    (h, w), (H, W) = window, image
    grid = windows.reshape(-1, H // h, W // w, h, w, windows.shape[-1])
    return grid.transpose(2, 3).reshape(-1, H, W, windows.shape[-1])


def relative_offsets(window: tuple[int, int]) -> Tensor:
    """Every (row, column) offset between two pixels of a window: float32 ((2h-1) * (2w-1), 2)."""
    h, w = window
    rows = torch.arange(1 - h, h, dtype=torch.float32)
    columns = torch.arange(1 - w, w, dtype=torch.float32)
    return torch.cartesian_prod(rows, columns)


def relative_index(window: tuple[int, int]) -> Tensor:
    """For each pair of a window's pixels its row in `relative_offsets`: int64 (h * w, h * w)."""
    h, w = window
    pixels = torch.cartesian_prod(torch.arange(h), torch.arange(w))  # (h * w, 2)
    offsets = pixels[:, None] - pixels[None] + torch.tensor([h - 1, w - 1])
    return offsets[..., 0] * (2 * w - 1) + offsets[..., 1]
