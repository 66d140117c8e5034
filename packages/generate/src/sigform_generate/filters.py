"""The fixed filters around StyleSwin's images: twice the size, half of it, blur, Haar wavelets.

The published code runs one compiled filter kernel for all of them; here each is a few sums over
shifted copies, on any device and twice differentiable. The kernel is [1, 3, 3, 1] along either
axis and everything outside the image is 0, as published.

Shapes: B batch, C channels, H and W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def upsample(x: Tensor) -> Tensor:
    """Twice as high and wide: (B, C, H, W) -> (B, C, 2H, 2W)."""
    return _double(_double(x).mT).mT


def downsample(x: Tensor) -> Tensor:
    """Half as high and wide: (B, C, H, W) -> (B, C, H / 2, W / 2); even sides."""
    _need_even(x)
    return _halve(_halve(x).mT).mT


def blur(x: Tensor) -> Tensor:
    """The kernel at every place where any of it meets the image by two: (B, C, H + 1, W + 1)."""
    return _smooth(_smooth(x).mT).mT


def dwt(x: Tensor) -> Tensor:
    """Haar wavelets: (B, C, H, W) -> (B, 4C, H / 2, W / 2); even sides.

    Channels are the means of 2x2 pixels (twice as large), then upper minus lower rows, left minus
    right columns, and one diagonal minus the other.
    """
    _need_even(x)
    a, b, c, d = _quarters(x)
    top, bottom, upper, lower = a + b, c + d, a - b, c - d
    return torch.cat([top + bottom, top - bottom, upper + lower, upper - lower], dim=1) / 2


def iwt(bands: Tensor) -> Tensor:
    """The inverse of `dwt`: (B, 4C, H, W) -> (B, C, 2H, 2W)."""
    if bands.shape[1] % 4:
        raise ValueError(f"bands has {bands.shape[1]} channels; needs a multiple of 4")
    ll, lh, hl, hh = (bands / 2).chunk(4, dim=1)
    top, bottom, upper, lower = ll + lh, ll - lh, hl + hh, hl - hh
    pairs = ((top, upper), (bottom, lower))
    rows = [torch.stack([x + y, x - y], dim=-1).flatten(-2) for x, y in pairs]  # (B, C, H, 2W)
    return torch.stack(rows, dim=-2).flatten(-3, -2)


def _double(x: Tensor) -> Tensor:
    """(..., W) -> (..., 2W), each new pixel three quarters of the nearer old one."""
    W = x.shape[-1]
    padded = F.pad(x, (1, 1))
    near = 0.75 * x
    left = torch.add(near, padded[..., :W], alpha=0.25)
    right = torch.add(near, padded[..., 2:], alpha=0.25)
    return torch.stack([left, right], dim=-1).flatten(-2)


def _halve(x: Tensor) -> Tensor:
    """(..., W) -> (..., W / 2)."""
    padded = F.pad(x, (1, 1))
    outer = padded[..., 0:-3:2] + padded[..., 3::2]
    inner = x[..., 0::2] + x[..., 1::2]
    return torch.add(0.375 * inner, outer, alpha=0.125)


def _smooth(x: Tensor) -> Tensor:
    """(..., W) -> (..., W + 1)."""
    padded = F.pad(x, (2, 2))
    outer = padded[..., :-3] + padded[..., 3:]
    inner = padded[..., 1:-2] + padded[..., 2:-1]
    return torch.add(0.375 * inner, outer, alpha=0.125)


def _quarters(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four pixels of every 2x2 square, by row."""
    top, bottom = x[..., 0::2, :], x[..., 1::2, :]
    return top[..., 0::2], top[..., 1::2], bottom[..., 0::2], bottom[..., 1::2]


def _need_even(x: Tensor) -> None:
    if x.shape[-1] % 2 or x.shape[-2] % 2:
        raise ValueError(f"the image is {x.shape[-2]}x{x.shape[-1]}; needs even sides")
