"""A convolution over images whose channels are the last axis, as both networks keep them.

One layout from end to end spares the copies between convolutions and attention, and it is the one
oneDNN is quickest with. Shapes: B batch, H and W pixels, C channels.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.linear import linear


def convolve(
    image: Tensor, weight: Tensor, bias: Tensor | None = None, *, groups: int = 1
) -> Tensor:
    """(B, H, W, C) with kernels (N, C / groups, k, k), k odd -> (B, H, W, N), zeros beyond."""
    kernel = weight.shape[-1]
    if kernel == 1 and groups == 1:
        return linear(image, weight[:, :, 0, 0], bias)
    planes = image.permute(0, 3, 1, 2)  # (B, C, H, W), channels last in memory
    out = F.conv2d(planes, weight, bias, padding=kernel // 2, groups=groups)
    return out.permute(0, 2, 3, 1)  # (B, H, W, N)


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` that keeps the size: (B, H, W, C) -> (B, H, W, N), weights as published."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return convolve(input, self.weight, self.bias, groups=self.groups)


def pixel_shuffle(x: Tensor, scale: int) -> Tensor:
    """Turn (B, H, W, C * scale^2) into an image (B, C, H * scale, W * scale)."""
    return F.pixel_shuffle(x.permute(0, 3, 1, 2), scale)
