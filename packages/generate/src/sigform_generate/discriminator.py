"""StyleSwin's discriminator says how real an image looks, working on its wavelets.

Zhang et al., arXiv 2112.10762, section 3.4: blocking artefacts of window attention show in the
high frequencies, which a wavelet transform puts in channels of their own. Parameter names are the
published ones.

Shapes: B batch, C channels, H and W pixels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core import load_reference, read_config
from sigform_generate.filters import blur, downsample, dwt, iwt

GROUP = 4
"""Images that the last layers compare with each other."""

BANDS = 12
"""Four wavelet bands of three colours."""

# Filters in published checkpoints, which are always the same.
DERIVED = ("*dwt.*", "*iwt.*", "*.kernel")


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The published configuration at 256; fields are named as the published constructor's."""

    size: int = 256  # pixels, a power of two
    sn: bool = True  # spectral normalisation of every weight
    channel_multiplier: int = 2  # of the published widths at 64 pixels and more
    channels: tuple[int, ...] = ()  # by resolution, 4x4 first; the published ones when empty

    def __post_init__(self) -> None:
        if self.size < 8 or self.size & (self.size - 1):
            raise ValueError(f"size is {self.size}; needs a power of two from 8")
        count = self.size.bit_length() - 2
        m = self.channel_multiplier
        published = (512, 512, 512, 512, 256 * m, 128 * m, 64 * m, 32 * m, 16 * m)
        channels = tuple(self.channels) or published[:count]
        object.__setattr__(self, "channels", channels)
        if len(channels) != count or min(channels) < 1:
            raise ValueError(f"channels is {channels}; {self.size} pixels need {count} widths")

    @classmethod
    def published(cls, config: Mapping[str, Any]) -> Self:
        """From the published constructor's arguments, where channels may go by resolution."""
        known = read_config(config, cls)
        channels = known.get("channels", ())
        if isinstance(channels, Mapping):
            by_side = {int(side): int(width) for side, width in channels.items()}
            sides = [4 << number for number in range(len(by_side))]
            if sorted(by_side) != sides:
                raise ValueError(f"channels has sides {sorted(by_side)}; needs {sides}")
            size = known.get("size", cls.size)
            known["channels"] = tuple(by_side[side] for side in sides if side <= size)
        return cls(**known)


class Scaled(nn.Module):
    """A weight divided by what it can do at most, or stored with unit variance.

    With `spectral` by its largest singular value, one step of the power method a training
    forward; else multiplied with fan_in ** -0.5.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, shape: tuple[int, ...], spectral: bool, bias: bool) -> None:
        super().__init__()
        outputs, fan_in = shape[0], math.prod(shape[1:])
        self.spectral = spectral
        self.gain = fan_in**-0.5
        if spectral:
            self.weight_orig = nn.Parameter(torch.randn(shape) * self.gain)
            self.register_buffer("weight_u", F.normalize(torch.randn(outputs), dim=0))
            self.register_buffer("weight_v", F.normalize(torch.randn(fan_in), dim=0))
        else:
            self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def scaled(self) -> Tensor:
        """The weight as it is used."""
        if not self.spectral:
            return self.weight * self.gain
        matrix = self.weight_orig.flatten(1)
        if self.training:
            with torch.no_grad():
                self.weight_v.copy_(F.normalize(matrix.T @ self.weight_u, dim=0, eps=1e-12))
                self.weight_u.copy_(F.normalize(matrix @ self.weight_v, dim=0, eps=1e-12))
        # Cloned: a later forward of the same step moves them before this one's gradients.
        largest = self.weight_u.clone() @ (matrix @ self.weight_v.clone())
        return self.weight_orig / largest


class Conv2d(Scaled):
    """A convolution without bias: (B, C, H, W) -> (B, C', H', W')."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, spectral: bool, stride: int = 1
    ) -> None:
        super().__init__((outputs, inputs, kernel, kernel), spectral, bias=False)
        self.stride = stride
        self.padding = kernel // 2 if stride == 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.scaled(), stride=self.stride, padding=self.padding)


class Dense(Scaled):
    """A linear layer: (B, in) -> (B, out)."""

    def __init__(self, inputs: int, outputs: int, *, spectral: bool, bias: bool = True) -> None:
        super().__init__((outputs, inputs), spectral, bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scaled(), self.bias)


class Activation(nn.Module):
    """Leaky ReLU of x plus a bias for each channel, of unchanged variance: same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return leaky(x + self.bias.view(-1, *[1] * (x.dim() - 2)))


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times the square root of 2."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


class Blur(nn.Module):
    """The filter before a stride of 2: (B, C, H, W) -> (B, C, H + 1, W + 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return blur(x)


class FromBands(nn.Module):
    """Wavelet bands to features, added to those so far.

    bands (B, 12, H, W) and features (B, C, h, w) or None -> the bands and features (B, C, h, w):
    of the same size first, of half the image's afterwards.
    """

    def __init__(self, width: int, *, spectral: bool, first: bool) -> None:
        super().__init__()
        self.first = first
        self.conv = nn.Sequential(Conv2d(BANDS, width, 1, spectral=spectral), Activation(width))

    def forward(self, bands: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.first:
            bands = dwt(downsample(iwt(bands)))
        seen = self.conv(bands)
        return bands, seen if features is None else seen + features


class ConvBlock(nn.Module):
    """Two convolutions, the second halving the image: (B, C, H, W) -> (B, C', H / 2, W / 2)."""

    def __init__(self, inputs: int, outputs: int, *, spectral: bool) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(Conv2d(inputs, inputs, 3, spectral=spectral), Activation(inputs))
        self.conv2 = nn.Sequential(
            Blur(), Conv2d(inputs, outputs, 3, spectral=spectral, stride=2), Activation(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class Discriminator(nn.Module):
    """Images (B, 3, size, size) in the generator's normalisation -> (B, 1), higher more real.

    Images are compared within groups of 4, so an image's value depends on its group; raises
    ValueError for more than 4 images that are no whole number of groups.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        sn = config.sn
        # The wavelets of an image are half as large; the width of that resolution is passed over.
        widths = (config.channels[-1], *config.channels[:-2][::-1])
        self.from_rgbs = nn.ModuleList(
            FromBands(width, spectral=sn, first=number == 0) for number, width in enumerate(widths)
        )
        self.convs = nn.ModuleList(
            ConvBlock(wide, narrow, spectral=sn) for wide, narrow in pairwise(widths)
        )
        last = widths[-1]
        self.final_conv = nn.Sequential(Conv2d(last + 1, last, 3, spectral=sn), Activation(last))
        self.final_linear = nn.Sequential(
            Dense(last * 16, last, spectral=sn, bias=sn),
            Activation(last),
            Dense(last, 1, spectral=sn),
        )

    def forward(self, x: Tensor) -> Tensor:
        size = self.config.size
        if x.dim() != 4 or x.shape[1:] != (3, size, size):
            raise ValueError(f"x is {tuple(x.shape)}; needs (B, 3, {size}, {size})")
        bands, features = dwt(x), None
        for from_bands, conv in zip(self.from_rgbs[:-1], self.convs, strict=True):
            bands, features = from_bands(bands, features)
            features = conv(features)
        _, features = self.from_rgbs[-1](bands, features)
        features = self.final_conv(torch.cat([features, spread(features)], dim=1))
        return self.final_linear(features.flatten(1))

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        """The published discriminator, in eval mode; ValueError names what does not fit."""
        model = cls(DiscriminatorConfig.published(config))
        return load_reference(model, state, rename=model.our_name, ignore=DERIVED)

    def our_name(self, name: str) -> str:
        """Our name for a published parameter: without `sn` its activation has the bias."""
        if self.config.sn:
            return name
        moved = {"final_linear.0.bias": "final_linear.1.bias"}
        for part in ("weight", "bias"):
            moved[f"final_linear.1.{part}"] = f"final_linear.2.{part}"
        return moved.get(name, name)


def spread(features: Tensor) -> Tensor:
    """How much the images of a group differ (StyleGAN's minibatch stddev): (B, 1, H, W)."""
    B, C, H, W = features.shape
    group = min(B, GROUP)
    if B % group:
        raise ValueError(f"the batch is {B} images; needs up to {GROUP} or a multiple of {GROUP}")
    # Image i is compared with i + B / group, i + 2 * B / group, ...
    groups = features.view(group, B // group, C, H, W)
    deviation = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))  # (B / group,)
    return deviation.repeat(group).view(B, 1, 1, 1).expand(-1, -1, H, W)
