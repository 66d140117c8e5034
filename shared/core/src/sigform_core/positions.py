"""Sinusoidal positions (arXiv 1706.03762, section 3.5)."""

import math

import torch
from torch import Tensor, nn


def sinusoidal_positions(length: int, dim: int) -> Tensor:
    """The table (length, dim), float32: sines in the even columns, cosines in the odd ones."""
    position = torch.arange(length, dtype=torch.float32).unsqueeze(1)  # (L, 1)
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * -(math.log(10000.0) / dim))
    angle = position * rate  # (L, ceil(D/2))
    table = torch.empty(length, dim)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle[:, : dim // 2].cos()
    return table


class SinusoidalPositions(nn.Module):
    """The first L rows of the table for an input (B, L, D); the table grows with the input.

    The published tables stop at 5000 rows; this one is as long as its longest input, is no part
    of the state dict, and is kept in float32 on the input's device.
    """

    table: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("table", torch.empty(0, dim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (L, D) for x (B, L, D)."""
        length = x.shape[-2]
        if self.table.shape[0] < length:
            # What inference made could not be trained with on several processes.
            with torch.inference_mode(False):
                self.table = sinusoidal_positions(length, self.dim).to(x.device)
        return self.table[:length].to(x.dtype)
