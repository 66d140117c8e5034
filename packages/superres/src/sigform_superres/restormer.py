"""The two leaves that CRAFT and DLGSANet both take from Restormer (arXiv 2111.09881).

Parameter names are the published ones. Shapes: B batch, H and W pixels, C channels, last.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_superres.convolution import Conv2d, convolve


class ChannelNorm(nn.Module):
    """Layer normalisation of each pixel's channels: (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The published modules hold their parameters one level down.
        self.body = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class GatedFeedForward(nn.Module):
    """Widen, mix 3x3 neighbours channel by channel, let one half gate the other (section 3.2).

    (B, H, W, C) -> (B, H, W, C); no biases, as published for both networks.
    """

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = Conv2d(2 * hidden, 2 * hidden, 3, groups=2 * hidden, bias=False)
        self.project_out = Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = (self._half(x, half) for half in range(2))
        return self.project_out(F.gelu(gate) * value)

    def _half(self, x: Tensor, half: int) -> Tensor:
        # Apart, as channels that lie together: GELU is 8 times faster on them than on a part.
        widen, mix = (layer.weight.chunk(2)[half] for layer in (self.project_in, self.dwconv))
        return convolve(convolve(x, widen), mix, groups=len(mix))


def normalised(gram: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Cosines from sums over pixels: gram (B, h, d, d), squared lengths (B, h, d) -> (B, h, d, d).

    A length is taken as 1e-12 at least, where `F.normalize` puts its floor too.
    """
    # Under the root, or the gradient of a channel that is zero everywhere would be NaN.
    rows, columns = (squares.clamp_min(1e-24).sqrt() for squares in (query, key))
    return gram / rows[..., :, None] / columns[..., None, :]


def head_products(a: Tensor, b: Tensor, heads: int) -> Tensor:
    """Sums over pixels of each head's channel products: (B, L, C) twice -> (B, heads, d, d)."""
    B, _, C = a.shape
    d = C // heads
    whole = torch.bmm(a.transpose(1, 2), b).view(B, heads, d, heads, d)
    return whole.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # the blocks on the diagonal
