"""Random changes to images that a discriminator should not mind: flips, moves, colours, holes.

Differentiable, so that a generator can learn through them (arXiv 2006.10738), and the changes of
balanced consistency regularisation (arXiv 2002.04724). Random numbers come from torch's global
generator, which `fit` seeds at every step.

Shapes: B batch, C channels, H and W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFT = 1 / 8
"""Of a side: how far an image moves at most."""

HOLE = 1 / 2
"""Of a side: what is cut out."""


def augment(images: Tensor) -> Tensor:
    """Every image (B, C, H, W) changed in all four ways, each by a draw of its own."""
    return cut_out(translate(recolour(flip(images))))


def flip(images: Tensor) -> Tensor:
    """Left and right exchanged in half of the images."""
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(chosen, images.flip(-1), images)


def recolour(images: Tensor) -> Tensor:
    """Brighter or darker by up to 0.5; saturation 0 to 2 times, contrast 0.5 to 1.5 times."""
    brightness, saturation, contrast = torch.rand(
        3, len(images), 1, 1, 1, device=images.device, dtype=images.dtype
    )
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = torch.lerp(grey, images, 2 * saturation)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(middle, images, 0.5 + contrast)


def translate(images: Tensor) -> Tensor:
    """Moved by whole pixels, up to an eighth of a side; what comes in is 0."""
    B, _, H, W = images.shape
    rows = _moved(B, H, images.device)  # (B, H)
    columns = _moved(B, W, images.device)
    padded = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # (B, H + 2, W + 2, C)
    batch = torch.arange(B, device=images.device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def cut_out(images: Tensor) -> Tensor:
    """A square of half a side set to 0 somewhere, partly outside at the edges."""
    B, _, H, W = images.shape
    inside = [_hole(B, side, images.device) for side in (H, W)]
    hole = inside[0][:, :, None] & inside[1][:, None]  # (B, H, W)
    return images.masked_fill(hole[:, None], 0.0)


def _moved(count: int, side: int, device: torch.device) -> Tensor:
    """For each pixel of a moved side where it comes from in a side with a border of 1."""
    most = int(side * SHIFT + 0.5)
    steps = torch.randint(-most, most + 1, (count, 1), device=device)
    return (torch.arange(side, device=device) + 1 + steps).clamp(0, side + 1)


def _hole(count: int, side: int, device: torch.device) -> Tensor:
    length = int(side * HOLE + 0.5)
    middle = torch.randint(0, side + 1 - length % 2, (count, 1), device=device)
    place = torch.arange(side, device=device)
    return (place >= middle - length // 2) & (place < middle - length // 2 + length)
