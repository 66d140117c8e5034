"""Rotary position embedding (arXiv 2104.09864): positions as turns of pairs of channels."""

import torch
from torch import Tensor

Turns = tuple[Tensor, Tensor]
"""Cosine and sine of every position's angles, (L, D / 2) each."""


def rotary_turns(
    length: int,
    dim: int,
    *,
    base: float = 10_000.0,
    offset: int = 0,
    device: torch.device | None = None,
) -> Turns:
    """Turns for positions from `offset` on: pair i of `dim` channels by position / base^(2i / dim).

    float32, (length, dim / 2) each. Raises ValueError for an odd dim.
    """
    if dim % 2 or dim < 2:
        raise ValueError(f"dim is {dim}; needs an even number from 2")
    rates = base ** (-torch.arange(0, dim, 2, device=device).float() / dim)
    angles = torch.arange(offset, offset + length, device=device)[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, turns: Turns) -> Tensor:
    """x (..., L, D) with its first channels turned, in neighbouring pairs; the rest stays.

    `turns` are those of `rotary_turns`, for D channels or fewer; a dimension between L and D can be
    put there by the caller with `turns` of shape (L, 1, D' / 2).
    """
    cos, sin = (turn.to(x.dtype) for turn in turns)
    turned = 2 * cos.shape[-1]
    even, odd = x[..., 0:turned:2], x[..., 1:turned:2]
    pairs = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return torch.cat([pairs.flatten(-2), x[..., turned:]], dim=-1)
