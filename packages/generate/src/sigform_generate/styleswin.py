"""StyleSwin makes an image from a random vector: a Swin transformer with styles, from 4x4 up.

Zhang et al., "StyleSwin: Transformer-based GAN for High-resolution Image Generation", CVPR 2022,
arXiv 2112.10762. The published checkpoints (FFHQ, CelebA-HQ, LSUN church) load through
`upstream_styleswin`; parameter names are theirs, but for the feed-forward's.

Shapes: B batch, D width of the style, C channels, h heads, d channels a head, P pixels of a
window, L tokens of an image. Tokens inside a stage lie window by window, which spares half of the
attention its cutting and joining: nothing else in a stage depends on their order.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core import attend, load_reference, read_config
from sigform_core.linear import Linear, linear
from sigform_core.mlp import Mlp
from sigform_core.windows import relative_index, window_partition
from sigform_generate.discriminator import Discriminator, DiscriminatorConfig
from sigform_generate.filters import upsample

__all__ = ["Discriminator", "DiscriminatorConfig", "Generator", "GeneratorConfig", "to_pixels"]

WINDOW = 8
"""Side of the attention windows, in pixels, where an image is not attended as a whole."""

CHUNK = 4096
"""Tokens that inference takes through a block at a time, so that they stay in the cache."""

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
"""Of ImageNet: the network's images are ([0, 1] - mean) / std."""

OUTSIDE = -100.0
"""Added to the score of a pixel that only rolling brought into the window, as published."""

# Published arguments that say how to train, or that never reach the network.
_UNUSED = ("use_checkpoint", "drop_rate", "attn_drop_rate")

# Tables in published checkpoints that the configuration gives.
DERIVED = ("*relative_position_index", "*attn_mask*", "*_float_tensor", "*.upsample.kernel")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The published configuration at 256; fields are named as the published constructor's."""

    size: int = 256  # pixels, a power of two
    style_dim: int = 512
    n_mlp: int = 8  # layers from the random vector to the style
    channel_multiplier: int = 2  # of the published widths at 64 pixels and more
    lr_mlp: float = 0.01
    enable_full_resolution: int = 8  # pixels up to which an image is one window
    mlp_ratio: float = 4.0
    min_heads: int = 4  # of every block; wide ones have one for 32 channels, as published
    qkv_bias: bool = True
    qk_scale: float | None = None  # d ** -0.5
    in_channels_by_stage: tuple[int, ...] = ()  # 4x4 first; the published ones when empty

    def __post_init__(self) -> None:
        if self.size < 8 or self.size & (self.size - 1):
            raise ValueError(f"size is {self.size}; needs a power of two from 8")
        if min(self.style_dim, self.n_mlp, self.channel_multiplier) < 1:
            raise ValueError("style_dim, n_mlp and channel_multiplier need to be 1 or more")
        stages = self.size.bit_length() - 2
        channels = tuple(self.in_channels_by_stage) or _published_widths(
            stages, self.channel_multiplier
        )
        object.__setattr__(self, "in_channels_by_stage", channels)
        if len(channels) != stages:
            raise ValueError(
                f"in_channels_by_stage has {len(channels)} stages; {self.size} pixels need {stages}"
            )
        if self.min_heads < 2 or self.min_heads % 2:
            raise ValueError(f"min_heads is {self.min_heads}; needs an even number from 2")
        for width in channels:
            heads = self.heads(width)
            if width < 8 or width % 4 or width % heads or heads % 2:
                raise ValueError(
                    f"in_channels_by_stage has {width}; needs multiples of 4 and of the heads, "
                    f"{heads}, which are even"
                )

    @property
    def n_latent(self) -> int:
        """Styles of an image: one for each block."""
        return 2 * len(self.in_channels_by_stage)

    def heads(self, width: int) -> int:
        """Attention heads at so many channels, half of them for the shifted windows."""
        return max(width // 32, self.min_heads)

    def window(self, side: int) -> int:
        """Side of the windows over images of `side` pixels."""
        return side if side <= max(self.enable_full_resolution, WINDOW) else WINDOW


def _published_widths(stages: int, multiplier: int) -> tuple[int, ...]:
    wide = (512, 512, 512, 512, *(width * multiplier for width in (256, 128, 64, 32, 16)))
    if stages > len(wide):
        raise ValueError(f"size is {4 << (stages - 1)}; needs in_channels_by_stage above 1024")
    return wide[:stages]


class EqualLinear(nn.Module):
    """A linear layer whose weights are stored with unit variance: (..., in) -> (..., out)."""

    def __init__(self, inputs: int, outputs: int, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.rate = rate
        self.gain = rate / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.gain, self.weight, self.bias * self.rate)


class PixelNorm(nn.Module):
    """Vectors of unit mean square: (B, D) -> (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class MappingLayer(EqualLinear):
    """(B, D) -> (B, D), a leaky ReLU behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(x), 0.2) * math.sqrt(2)


class StyleNorm(nn.Module):
    """AdaIN (section 3.1): each channel of an image normalised, then scaled and moved by a style.

    Gives the whole as one factor and one summand a channel, (B, C) each, for x (B, L, C) and
    style (B, D), so that the layer that follows can take them into its weights. As published,
    the scale is the style's own, not one plus it.
    """

    def __init__(self, width: int, style_dim: int) -> None:
        super().__init__()
        self.style = EqualLinear(style_dim, 2 * width)

    def forward(self, x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = modulation.chunk(2, dim=-1)
        variance, mean = moments(x.float())  # (B, C)
        factor = scale * torch.rsqrt(variance + 1e-5)
        return factor, shift - mean * factor


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean of the channels of x (B, L, C): (B, C) each."""
    if not one_by_one(x):
        return torch.var_mean(x, dim=1, correction=0)
    # Four times as fast as `var_mean`, which sums one number after the other.
    mean = x.mean(dim=1)
    squares = torch.zeros_like(mean)
    for rows in _spans(x.shape[1], CHUNK):
        squares += (x[:, rows] - mean[:, None]).square_().sum(dim=1)
    return squares / x.shape[1], mean


def one_by_one(x: Tensor) -> bool:
    """Whether images are made one after the other: on the CPU, without gradients.

    It costs nothing there, and an image then is the same to the last bit in any batch.
    """
    return x.device.type == "cpu" and not torch.is_grad_enabled()


class Kind(NamedTuple):
    """Shifted windows that lack the same neighbours: their tokens, and who must not see whom."""

    tokens: Tensor  # (n * P,), places among the tokens of the image
    mask: Tensor | None  # (P, P), added to the scores


class Grid(nn.Module):
    """Where the tokens of an image of `side` pixels lie: orders of windows, as index tables."""

    order: Tensor  # (L,), the pixel of each token
    back: Tensor  # (L,), the token of each pixel
    unshift: Tensor  # (L,), the place of each token among those of all kinds
    masks: Tensor  # (3, P, P)

    def __init__(self, side: int, window: int) -> None:
        super().__init__()
        self.side = side
        self.window = window
        self.shifts = window < side
        pixels = torch.arange(side * side).view(1, side, side, 1)
        order = window_partition(pixels, (window, window)).flatten()  # (L,), pixels by window
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        if not self.shifts:
            self.register_buffer("tokens_0", torch.arange(side * side), persistent=False)
            return
        shift = window // 2
        rolled = torch.roll(pixels, (-shift, -shift), dims=(1, 2))
        shifted = window_partition(rolled, (window, window))[..., 0]  # (n, P)
        places = order.argsort()[shifted].unflatten(0, (side // window, -1))
        groups = (places[:-1, :-1], places[:-1, -1:], places[-1:, :-1], places[-1:, -1:])
        for number, group in enumerate(groups):
            self.register_buffer(f"tokens_{number}", group.flatten(), persistent=False)
        joined = torch.cat([group.flatten() for group in groups])
        self.register_buffer("unshift", joined.argsort(), persistent=False)
        wrapped = torch.arange(window) >= window - shift
        columns, rows = wrapped.repeat(window), wrapped.repeat_interleave(window)  # (P,)
        apart = [side[:, None] != side[None] for side in (columns, rows)]
        masks = torch.stack([apart[0], apart[1], apart[0] | apart[1]])
        self.register_buffer("masks", masks * OUTSIDE, persistent=False)  # (3, P, P)

    def kinds(self) -> Iterator[Kind]:
        """Shifted windows inside the image, at its right, at its lower edge, and in the corner."""
        for number in range(4 if self.shifts else 1):
            mask = self.masks[number - 1] if number else None
            yield Kind(self.get_buffer(f"tokens_{number}"), mask)


class PositionTable(nn.Module):
    """Learnt scores for every offset in a window: forward() -> (h, P, P)."""

    index: Tensor

    def __init__(self, window: int, heads: int) -> None:
        super().__init__()
        offsets = (2 * window - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("index", relative_index((window, window)), persistent=False)

    def forward(self) -> Tensor:
        return self.relative_position_bias_table[self.index].permute(2, 0, 1)


class Block(nn.Module):
    """Double attention, then a feed-forward, each after AdaIN (section 3.2): (B, L, C) twice.

    Half of the heads attend in windows, half in windows moved by half a side.
    """

    def __init__(self, config: GeneratorConfig, width: int, grid: Grid) -> None:
        super().__init__()
        heads = config.heads(width)
        self.heads = heads // 2
        self.scale = config.qk_scale or (width // heads) ** -0.5
        self.norm1 = StyleNorm(width, config.style_dim)
        # Outputs lie (2, 3, C / 2): query, key and value of one half, then of the other.
        self.qkv = Linear(width, 3 * width, bias=config.qkv_bias)
        self.attn = nn.ModuleList(PositionTable(grid.window, self.heads) for _ in range(2))
        self.proj = Linear(width, width)
        self.norm2 = StyleNorm(width, config.style_dim)
        self.mlp = Mlp(width, int(width * config.mlp_ratio))

    def modulations(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """What a style (B, D) says to the two norms: (B, 2 * C) each."""
        return self.norm1.style(style), self.norm2.style(style)

    def forward(self, x: Tensor, modulations: tuple[Tensor, Tensor], grid: Grid) -> Tensor:
        factor, summand = self.norm1(x, modulations[0])
        normed = torch.addcmul(summand[:, None], x, factor[:, None])  # (B, L, C)
        still, moved = self.qkv(normed).chunk(2, dim=-1)  # (B, L, 3 * C / 2) each
        biases = [table() for table in self.attn]
        halves = [self._attend(still, biases[0])]
        if grid.shifts:
            parts = [
                self._attend(moved[:, kind.tokens], _masked(biases[1], kind))
                for kind in grid.kinds()
            ]
            halves.append(torch.cat(parts, dim=1)[:, grid.unshift])
        else:
            halves.append(self._attend(moved, biases[1]))
        x = x + self.proj(torch.cat(halves, dim=-1))
        factor, summand = self.norm2(x, modulations[1])
        return x + self.mlp(torch.addcmul(summand[:, None], x, factor[:, None]))

    def run(self, x: Tensor, modulations: tuple[Tensor, Tensor], grid: Grid) -> None:
        """The same without gradients for one image, x (1, L, C) changed in place.

        The norms go into the weights behind them, and a part of the image goes through a layer
        after the other while it is in the processor's cache. Under autocast the products are in
        its dtype and x stays as it is.
        """
        tokens, dtype = x[0], _product_dtype(x)
        factor, summand = self.norm1(x, modulations[0])
        weight, bias = _fold(self.qkv, factor, summand, dtype)
        half = len(weight) // 2
        biases = [table().to(dtype) for table in self.attn]
        attended = tokens.new_empty(tokens.shape, dtype=dtype)
        width = attended.shape[1] // 2
        whole = max(1, CHUNK // grid.window**2) * grid.window**2  # tokens of whole windows
        for rows in _spans(len(tokens), whole):
            qkv = linear(tokens[rows].to(dtype), weight[:half], bias[:half])
            attended[rows, :width] = self._attend(qkv[None], biases[0])[0]
        for kind in grid.kinds():
            scores = _masked(biases[1], kind)
            for rows in _spans(len(kind.tokens), whole):
                places = kind.tokens[rows]
                qkv = linear(tokens[places].to(dtype), weight[half:], bias[half:])
                attended[places, width:] = self._attend(qkv[None], scores)[0]
        weight, bias = self.proj.weight.to(dtype), self.proj.bias.to(dtype)
        for rows in _spans(len(tokens), CHUNK):
            tokens[rows] += linear(attended[rows], weight, bias)
        factor, summand = self.norm2(x, modulations[1])
        up, up_bias = _fold(self.mlp.up, factor, summand, dtype)
        down, down_bias = self.mlp.down.weight.to(dtype), self.mlp.down.bias.to(dtype)
        for rows in _spans(len(tokens), CHUNK):
            hidden = F.gelu(linear(tokens[rows].to(dtype), up, up_bias))
            tokens[rows] += linear(hidden, down, down_bias)

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Windows one after the other (B, n * P, 3 * C / 2) -> (B, n * P, C / 2)."""
        heads = qkv.reshape(-1, bias.shape[-1], 3, self.heads, qkv.shape[-1] // (3 * self.heads))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B * n, h / 2, P, d) each
        if torch.is_grad_enabled() and bias.requires_grad:
            # A bias that learns keeps `attend` off its fused kernel, and the other is slower.
            scores = (query * self.scale) @ key.transpose(-1, -2)
            attended = scores.add_(bias).softmax(dim=-1) @ value
        else:
            attended = attend(query, key, value, scale=self.scale, bias=bias[None])
        return attended.transpose(1, 2).reshape(*qkv.shape[:-1], -1)


def _masked(bias: Tensor, kind: Kind) -> Tensor:
    return bias if kind.mask is None else bias + kind.mask.to(bias.dtype)


def _fold(
    layer: nn.Linear, factor: Tensor, summand: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The weight and bias that take x to layer(x * factor + summand); factor (1, C)."""
    bias = F.linear(summand, layer.weight, layer.bias)[0]
    return (layer.weight * factor).to(dtype), bias.to(dtype)


def _product_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _spans(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


class Upsample(nn.Module):
    """Twice the side, other channels, and where a pixel is (section 3.3).

    (B, H, W, C) -> (B, 2H, 2W, C').
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.reduction = Linear(width, out, bias=False)
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        out = self.reduction(self.normed(x))
        across, down = out.chunk(2, dim=-1)
        place = self.alpha * sinusoids(out.shape[1], across.shape[-1], out.device)  # (2H, C' / 2)
        return torch.cat([across + place, down + place[:, None]], dim=-1)

    def normed(self, x: Tensor) -> Tensor:
        """Enlarged and normalised: (B, H, W, C) -> (B, 2H, 2W, C)."""
        enlarged = F.interpolate(
            x.permute(0, 3, 1, 2), scale_factor=2, mode="bilinear", align_corners=False
        )
        return self.norm(enlarged.permute(0, 2, 3, 1))


def sinusoids(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sines, then cosines of the places 1 to `length`, falling to 1 / 10,000: (length, width)."""
    half = width // 2
    frequencies = torch.exp(
        torch.arange(half, device=device) * (-math.log(10_000) / max(1, half - 1))
    )
    angles = torch.arange(1, length + 1, device=device)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Stage(nn.Module):
    """Two blocks at one resolution; all but the last stage double it (figure 2).

    Tokens (B, H, W, C) -> (B, 2H, 2W, C'), or (B, H, W, C) from the last.
    """

    def __init__(self, config: GeneratorConfig, number: int) -> None:
        super().__init__()
        widths, side = config.in_channels_by_stage, 4 << number
        self.grid = Grid(side, config.window(side))
        self.blocks = nn.ModuleList(Block(config, widths[number], self.grid) for _ in range(2))
        last = number == len(widths) - 1
        self.upsample = None if last else Upsample(widths[number], widths[number + 1])

    def forward(self, x: Tensor, modulations: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        grid = self.grid
        tokens = x.flatten(1, 2)[:, grid.order]  # (B, L, C)
        alone = one_by_one(x) and len(x) == 1
        for block, said in zip(self.blocks, modulations, strict=True):
            if alone:
                cast(Block, block).run(tokens, said, grid)
            else:
                tokens = block(tokens, said, grid)
        x = tokens[:, grid.back].unflatten(1, (grid.side, grid.side))
        return x if self.upsample is None else self.upsample(x)


class ToRGB(nn.Module):
    """Colours out of features, added to the enlarged image so far: (B, H, W, C) -> (B, 3, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 3, 1)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))  # a second one, as published

    def forward(self, x: Tensor, image: Tensor | None) -> Tensor:
        colours = F.linear(x, self.conv.weight.flatten(1), self.conv.bias).permute(0, 3, 1, 2)
        colours = colours + self.bias
        return colours if image is None else colours + image


class ConstantInput(nn.Module):
    """The learnt 4x4 image that everything starts from: (1, C, 4, 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, width, 4, 4))


class Generator(nn.Module):
    """Random vectors (B, D) -> images (B, 3, size, size), ImageNet's mean and std taken off.

    `to_pixels` brings them to [-1, 1]. Nothing inside is random: an image is a function of its
    vector. On the CPU without gradients the images of a batch are made one after the other, each
    the same whatever the others are.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        widths, D = config.in_channels_by_stage, config.style_dim
        layers = (MappingLayer(D, D, config.lr_mlp) for _ in range(config.n_mlp))
        self.style = nn.Sequential(PixelNorm(), *layers)
        self.input = ConstantInput(widths[0])
        self.layers = nn.ModuleList(Stage(config, number) for number in range(len(widths)))
        self.to_rgbs = nn.ModuleList(ToRGB(width) for width in (*widths[1:], widths[-1]))
        self.apply(_start)

    def forward(
        self, z: Tensor, *, truncation: float = 1.0, truncation_latent: Tensor | None = None
    ) -> Tensor:
        """`truncation` below 1 moves styles towards `truncation_latent` (1, D): less variety."""
        if z.dim() != 2 or z.shape[1] != self.config.style_dim:
            raise ValueError(f"z is {tuple(z.shape)}; needs (B, {self.config.style_dim})")
        w = self.mapping(z)
        if truncation != 1.0:
            if truncation_latent is None:
                raise ValueError(f"truncation is {truncation}; needs a truncation_latent")
            w = torch.lerp(truncation_latent.to(w), w, truncation)
        return self.synthesis(w)

    def mapping(self, z: Tensor) -> Tensor:
        """Random vectors to styles: (B, D) -> (B, D)."""
        if one_by_one(z):
            return torch.cat([self.style(one) for one in z.split(1)])
        return self.style(z)

    def synthesis(self, w: Tensor) -> Tensor:
        """Styles (B, D), or one for each block (B, n_latent, D), to images (B, 3, H, W)."""
        n, D = self.config.n_latent, self.config.style_dim
        if w.dim() == 2:
            w = w[:, None].expand(-1, n, -1)
        if w.shape[1:] != (n, D):
            raise ValueError(f"w is {tuple(w.shape)}; needs (B, {D}) or (B, {n}, {D})")
        if one_by_one(w) and len(w) > 1:
            return torch.cat([self.synthesis(one) for one in w.split(1)])
        blocks = [block for stage in self.layers for block in cast(Stage, stage).blocks]
        said = [cast(Block, block).modulations(w[:, number]) for number, block in enumerate(blocks)]
        x = self.input.input.permute(0, 2, 3, 1).expand(len(w), -1, -1, -1)  # (B, 4, 4, C)
        image = None
        for number, (stage, to_rgb) in enumerate(zip(self.layers, self.to_rgbs, strict=True)):
            x = stage(x, said[2 * number : 2 * number + 2])
            if image is not None and image.shape[-1] < x.shape[1]:
                image = upsample(image)
            image = to_rgb(x, image)
        if image is None:
            raise ValueError("the generator has no stages; needs one or more")
        return image

    @torch.no_grad()
    def mean_latent(self, n: int, generator: torch.Generator) -> Tensor:
        """The mean style of n random vectors, for truncation: (1, D)."""
        z = torch.randn(n, self.config.style_dim, generator=generator, device=generator.device)
        return self.style(z.to(self.input.input)).mean(dim=0, keepdim=True)

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        """The published generator, in eval mode; raises ValueError naming what does not fit."""
        model = cls(GeneratorConfig(**read_config(config, GeneratorConfig, ignore=_UNUSED)))
        ours = {name: by_half(value) if ".qkv." in name else value for name, value in state.items()}
        return load_reference(model, ours, rename=_rename, ignore=DERIVED)


def by_half(qkv: Tensor) -> Tensor:
    """A published weight or bias of `qkv`, (3 * C, ...) as (3, 2, C / 2), in our order (2, 3)."""
    if len(qkv) % 6:
        raise ValueError(f"qkv has {len(qkv)} outputs; needs a multiple of 6")
    return qkv.unflatten(0, (3, 2, -1)).transpose(0, 1).flatten(0, 2)


def _rename(name: str) -> str:
    return name.replace(".mlp.fc1.", ".mlp.up.").replace(".mlp.fc2.", ".mlp.down.")


def to_pixels(images: Tensor) -> Tensor:
    """The generator's images (..., 3, H, W) as pixels in [-1, 1]."""
    mean, std = (images.new_tensor(x).view(3, 1, 1) for x in (PIXEL_MEAN, PIXEL_STD))
    return ((images * std + mean) * 2 - 1).clamp(-1, 1)


def from_pixels(pixels: Tensor) -> Tensor:
    """Pixels in [-1, 1] as the generator makes them and the discriminator sees them."""
    mean, std = (pixels.new_tensor(x).view(3, 1, 1) for x in (PIXEL_MEAN, PIXEL_STD))
    return ((pixels + 1) / 2 - mean) / std


def _start(module: nn.Module) -> None:
    """Initial weights of what is not equalised; images start grey, as published."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_normal_(module.weight, gain=1.0 if isinstance(module, nn.Linear) else 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
