"""Convolutions over whole pixels behind a diffusion transformer, which draws its patches apart.

U-ViT (Bao et al., arXiv 2209.12152, section 3.1) ends in one 3x3 convolution for the same reason.
Ours also sees the noisy input: what little noise leaves to see need not pass through the tokens.

Letters of shapes: B batch, O channels of the guess, C of the input, H height, W width, D condition.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Refine(nn.Module):
    """guess (B, ..., O, H, W), noisy x (B, ..., C, H, W), condition (B, D) -> a better guess.

    "..." may be the frames of a clip, each by itself. Changes nothing at the start.
    """

    def __init__(self, dim: int, in_channels: int, out_channels: int, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(out_channels + in_channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)
        self.leave = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(dim, 4 * channels)
        for layer in (self.leave, self.modulation):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, guess: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        pixels = torch.cat([guess, x.to(guess.dtype)], dim=-3)
        lead = pixels.shape[:-3]
        pixels = pixels.flatten(0, -4).contiguous(memory_format=torch.channels_last)
        rows = self.modulation(F.silu(condition)).repeat_interleave(len(pixels) // len(x), dim=0)
        scale_in, shift_in, scale, shift = rows[:, :, None, None].chunk(4, dim=1)
        hidden = F.silu(self.enter(pixels) * (1 + scale_in) + shift_in)
        hidden = F.silu(self.mix(hidden) * (1 + scale) + shift)
        return guess + self.leave(hidden).unflatten(0, lead)
