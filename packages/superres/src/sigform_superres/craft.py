"""CRAFT upscales an image 2, 3 or 4 times: windows of attention, high-frequency priors and fusion.

Li et al., "Feature Modulation Transformer: Cross-Refinement of Global Representation via
High-Frequency Prior for Image Super-Resolution", ICCV 2023, arXiv 2308.05022. The published
checkpoints (x2, x3, x4) load through `from_reference`; parameter names are theirs, but for the
feed-forward's.

Shapes: B batch, H and W pixels of the padded input, C channels (last axis inside the network),
h heads, d channels a head, s scale.
"""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core import attend, load_reference, read_config
from sigform_core.linear import Linear
from sigform_core.mlp import Mlp
from sigform_core.windows import relative_index, relative_offsets, window_join, window_partition
from sigform_superres.convolution import Conv2d, convolve, pixel_shuffle
from sigform_superres.padding import Padding, pad_to_multiple
from sigform_superres.restormer import ChannelNorm, GatedFeedForward, head_products, normalised

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Of DIV2K, taken off the input; the published network keeps it outside its weights."""

# Names in published configs that never reach the network.
_UNUSED = ("type", "img_size", "window_size", "upsampler", "flash", "drop_path_rate")


@dataclass(frozen=True, kw_only=True)
class CRAFTConfig:
    """The published configuration at 4 times; fields are named as the published constructor's."""

    upscale: int = 4
    in_chans: int = 3
    embed_dim: int = 48  # channels
    depths: tuple[int, ...] = (2, 2, 2, 2)  # blocks of each group
    num_heads: tuple[int, ...] = (6, 6, 6, 6)  # of each group
    split_size_0: int = 4  # short side of the attention windows, in pixels
    split_size_1: int = 16  # long side
    mlp_ratio: float = 2.0
    qkv_bias: bool = True
    img_range: float = 1.0  # the network works on pixels in [0, img_range]
    resi_connection: Literal["1conv", "identity"] = "1conv"

    def __post_init__(self) -> None:
        if not 1 <= self.upscale <= 8:
            raise ValueError(f"upscale is {self.upscale}; needs 1 to 8")
        if self.embed_dim < 32:
            raise ValueError(f"embed_dim is {self.embed_dim}; needs 32 or more")
        if not self.depths or len(self.depths) != len(self.num_heads):
            raise ValueError(
                f"depths {self.depths} and num_heads {self.num_heads} need one entry a group"
            )
        for heads in self.num_heads:
            if heads % 2 or self.embed_dim % heads:
                raise ValueError(
                    f"num_heads is {heads}; needs an even divisor of embed_dim {self.embed_dim}"
                )
        if min(self.split_size_0, self.split_size_1, min(self.depths)) < 1:
            raise ValueError("depths and split sizes need to be 1 or more")
        if self.resi_connection not in ("1conv", "identity"):
            raise ValueError(
                f"resi_connection is {self.resi_connection!r}; needs 1conv or identity"
            )

    @property
    def multiple(self) -> int:
        """What the padded height and width are multiples of: both sides of a window fit."""
        return math.lcm(self.split_size_0, self.split_size_1)


Region = tuple[slice, slice]
"""Rows and columns of an image."""

WHOLE: Region = (slice(None), slice(None))

Keep = Callable[[Tensor], Callable[[], Tensor]]
"""Puts a tensor somewhere and returns how to get it back, once."""


class ChannelStatistics(NamedTuple):
    """All that one channel attention takes from the whole image: sums over its pixels."""

    products: Tensor  # (B, h, d, d), query channel by key channel
    queries: Tensor  # (B, h, d), squared
    keys: Tensor  # (B, h, d), squared

    def plus(self, other: "ChannelStatistics") -> "ChannelStatistics":
        """The statistics of two regions together."""
        return ChannelStatistics(*(a + b for a, b in zip(self, other, strict=True)))


Result = TypeVar("Result")
Stages = Generator[ChannelStatistics, ChannelStatistics, Result]
"""A calculation that asks for the statistics of the whole image as often as it needs them."""


class PositionBias(nn.Module):
    """A bias for every offset in a window, by a small network on the offset.

    Its layer norms run over `dim` features. At the published width `dim` is 1, where a layer norm
    gives its bias whatever comes in: the bias is then one constant a head, which softmax ignores.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.pos_proj = nn.Linear(2, dim)
        self.pos1 = nn.Sequential(nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, dim))
        self.pos2 = nn.Sequential(nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, dim))
        self.pos3 = nn.Sequential(nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, heads))
        if self.is_constant:
            self.requires_grad_(False)  # nothing it could learn would change the output

    @property
    def is_constant(self) -> bool:
        """Whether the bias is the same for every offset, so that attention need not add it."""
        return self.dim == 1

    def forward(self, offsets: Tensor) -> Tensor:
        """offsets (P, 2) in pixels -> (P, h)."""
        return self.pos3(self.pos2(self.pos1(self.pos_proj(offsets))))


class WindowAttention(nn.Module):
    """Attention within windows of `window` pixels, moved by `shift` (section 3.2).

    qkv (B, H, W, 3 * h * d) -> (B, H, W, h * d). No mask: as published, what a shifted window
    loses on one side of the image it takes from the other.
    """

    def __init__(
        self, channels: int, heads: int, window: tuple[int, int], shift: tuple[int, int]
    ) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.shift = shift
        # The published code divides twice: once for the branch, once inside the network.
        self.pos = PositionBias(channels // 4 // 4, heads)
        self.register_buffer("offsets", relative_offsets(window), persistent=False)
        self.register_buffer("index", relative_index(window), persistent=False)

    def forward(self, qkv: Tensor) -> Tensor:
        H, W = qkv.shape[1:3]
        up, left = self.shift
        if up or left:
            qkv = torch.roll(qkv, (-up, -left), dims=(1, 2))
        windows = window_partition(qkv, self.window)  # (N, P, 3 * h * d)
        heads = windows.unflatten(-1, (3, self.heads, -1))  # (N, P, 3, h, d)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (N, h, P, d) each
        attended = attend(query, key, value, bias=self._bias())  # (N, h, P, d)
        out = window_join(attended.transpose(1, 2).flatten(2), self.window, (H, W))
        return torch.roll(out, (up, left), dims=(1, 2)) if up or left else out

    def _bias(self) -> Tensor | None:
        if self.pos.is_constant:
            return None
        return self.pos(self.offsets)[self.index].permute(2, 0, 1)  # (h, P, P)


class ShiftedRectangleBlock(nn.Module):
    """SRWAB: half of the channels attend in flat windows, half in tall ones (section 3.2).

    (B, H, W, C) -> (B, H, W, C).
    """

    def __init__(self, config: CRAFTConfig, heads: int, shifted: bool) -> None:
        super().__init__()
        C, half = config.embed_dim, config.embed_dim // 2
        flat = (config.split_size_0, config.split_size_1)
        tall = (config.split_size_1, config.split_size_0)
        self.norm1 = nn.LayerNorm(C)
        self.qkv = Linear(C, 3 * C, bias=config.qkv_bias)
        self.attns = nn.ModuleList(
            WindowAttention(
                half, heads // 2, window, (window[0] // 2, window[1] // 2) if shifted else (0, 0)
            )
            for window in (flat, tall)
        )
        self.get_v = Conv2d(C, C, 3, groups=C)
        self.proj = Linear(C, C)
        self.norm2 = nn.LayerNorm(C)
        self.mlp = Mlp(C, int(C * config.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, 2, -1))  # (B, H, W, 3, 2, C/2)
        branches = [
            attention(qkv[..., branch, :].flatten(-2))
            for branch, attention in enumerate(self.attns)
        ]
        value = qkv[..., 2, :, :].flatten(-2)  # (B, H, W, C)
        attended = torch.cat(branches, dim=-1) + self.get_v(value)
        x = x + self.proj(attended)
        return x + self.mlp(self.norm2(x))


class HighFrequencyBlock(nn.Module):
    """HFERB: a convolution beside a max pooling, which keeps edges (section 3.2).

    (B, H, W, C) -> (B, H, W, C).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv = Conv2d(half, half, 3)
        self.fc = Conv2d(half, half, 1)
        self.last_fc = Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        convolved, pooled = x.chunk(2, dim=-1)
        pooled = F.max_pool2d(pooled.permute(0, 3, 1, 2), 3, stride=1, padding=1)
        edges = self.fc(pooled.permute(0, 2, 3, 1))
        both = torch.cat([F.gelu(self.conv(convolved)), F.gelu(edges)], dim=-1)
        return x + self.last_fc(both)


class ChannelAttention(nn.Module):
    """Channels of the high-frequency features ask channels of the low ones (section 3.2).

    low (B, H, W, C) and the statistics of the whole image -> (B, H, W, C). Every output pixel
    depends on the whole image, but only through these sums, which `measure` takes.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q = Conv2d(channels, channels, 1, bias=False)
        self.q_dwconv = Conv2d(channels, channels, 3, groups=channels, bias=False)
        self.kv = Conv2d(channels, 2 * channels, 1, bias=False)
        self.kv_dwconv = Conv2d(2 * channels, 2 * channels, 3, groups=2 * channels, bias=False)
        self.project_out = Conv2d(channels, channels, 1, bias=False)

    def measure(self, low: Tensor, high: Tensor, region: Region) -> ChannelStatistics:
        """The sums over the pixels in `region` of low and high (B, H, W, C)."""
        # In half precision a sum over a million pixels would stop growing.
        dtype = torch.promote_types(low.dtype, torch.float32)
        query, key = (
            x[:, *region].flatten(1, 2).to(dtype)  # (B, L, C)
            for x in (self.q_dwconv(self.q(high)), self._key_or_value(low, 0))
        )
        return ChannelStatistics(
            head_products(query, key, self.heads),
            query.square().sum(1).unflatten(-1, (self.heads, -1)),
            key.square().sum(1).unflatten(-1, (self.heads, -1)),
        )

    def forward(self, low: Tensor, statistics: ChannelStatistics) -> Tensor:
        B, H, W, C = low.shape
        weights = (normalised(*statistics) * self.temperature).softmax(dim=-1)  # (B, h, d, d)
        # One matrix does attention and projection: their product is C x C, the image is not.
        project = self.project_out.weight.view(C, self.heads, -1)  # (C, h, d)
        folded = torch.einsum("nhi,bhij->bnhj", project, weights.to(project.dtype)).flatten(2)
        value = self._key_or_value(low, 1).reshape(B, H * W, C)
        return torch.bmm(value, folded.transpose(1, 2)).view(B, H, W, C)

    def _key_or_value(self, low: Tensor, half: int) -> Tensor:
        """One half of what `kv` and `kv_dwconv` make: they are asked for at different times."""
        narrow, mix = (layer.weight.chunk(2)[half] for layer in (self.kv, self.kv_dwconv))
        return convolve(convolve(low, narrow), mix, groups=len(mix))


class FusionBlock(nn.Module):
    """HFB: fuse low and high frequencies by channel attention (section 3.2).

    low (B, H, W, C) and the statistics that `measure` took -> (B, H, W, C).
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attn = ChannelAttention(channels, heads)
        self.norm2 = ChannelNorm(channels)
        self.ffn = GatedFeedForward(channels, 2.66)

    def measure(self, low: Tensor, high: Tensor, region: Region) -> ChannelStatistics:
        """What the attention has to know of the whole image, from `region` of it."""
        return self.attn.measure(self.norm1(low), high, region)

    def forward(self, low: Tensor, statistics: ChannelStatistics) -> Tensor:
        x = low + self.attn(self.norm1(low), statistics)
        return x + self.ffn(self.norm2(x))


class CrossRefinement(nn.Module):
    """CRFB: at each depth two window blocks and a high-frequency block of one input, fused."""

    def __init__(self, config: CRAFTConfig, depth: int, heads: int) -> None:
        super().__init__()
        C = config.embed_dim
        self.srwa_blocks = nn.ModuleList(
            ShiftedRectangleBlock(config, heads, shifted=bool(i % 2)) for i in range(2 * depth)
        )
        self.hfer_blocks = nn.ModuleList(HighFrequencyBlock(C) for _ in range(depth))
        self.hf_blocks = nn.ModuleList(FusionBlock(C, heads) for _ in range(depth))

    def stages(self, x: Tensor, region: Region, keep: Keep) -> Stages[Tensor]:
        """(B, H, W, C) -> (B, H, W, C), in stages as `CRAFT.stages`."""
        for i, (edges, fuse) in enumerate(zip(self.hfer_blocks, self.hf_blocks, strict=True)):
            low = self.srwa_blocks[2 * i + 1](self.srwa_blocks[2 * i](x))
            measured = cast(FusionBlock, fuse).measure(low, edges(x), region)
            kept = keep(low)
            del x, low
            statistics = yield measured
            x = fuse(kept(), statistics)
        return x


class RefinementGroup(nn.Module):
    """RCRFG: a cross-refinement and a convolution around a skip."""

    def __init__(self, config: CRAFTConfig, depth: int, heads: int) -> None:
        super().__init__()
        self.residual_group = CrossRefinement(config, depth, heads)
        self.conv = Conv2d(config.embed_dim, config.embed_dim, 3)

    def stages(self, x: Tensor, region: Region, keep: Keep) -> Stages[Tensor]:
        """(B, H, W, C) -> (B, H, W, C), in stages as `CRAFT.stages`."""
        kept = keep(x)
        inner = self.residual_group.stages(x, region, keep)
        del x
        refined = yield from inner
        return kept() + self.conv(refined)


class CRAFT(nn.Module):
    """(B, 3, H, W) of pixels in [0, 1] -> (B, 3, s * H, s * W), any H and W from 1.

    The output is not clamped. `padding` is how H and W become multiples of the windows: "reflect"
    as in training, "flip" as in the script behind the published numbers, which always adds some.

    Raises ValueError when x has other channels.
    """

    def __init__(self, config: CRAFTConfig | None = None) -> None:
        super().__init__()
        config = config or CRAFTConfig()
        self.config = config
        self.scale = config.upscale
        C, s = config.embed_dim, config.upscale
        self.conv_first = Conv2d(config.in_chans, C, 3)
        self.layers = nn.ModuleList(
            RefinementGroup(config, depth, heads)
            for depth, heads in zip(config.depths, config.num_heads, strict=True)
        )
        self.norm = ChannelNorm(C)
        identity = config.resi_connection == "identity"
        self.conv_after_body = nn.Identity() if identity else Conv2d(C, C, 3)
        self.upsample = nn.Sequential(Conv2d(C, s * s * config.in_chans, 3))
        mean = RGB_MEAN if config.in_chans == 3 else (0.0,) * config.in_chans
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.apply(_initialise)

    @property
    def residual(self) -> Conv2d | None:
        """The body's last convolution, before the skip from the first features."""
        return self.conv_after_body if isinstance(self.conv_after_body, Conv2d) else None

    @classmethod
    def from_reference(cls, config: Mapping[str, object], state: Mapping[str, Tensor]) -> Self:
        """The network with published weights, in eval mode; `config` as the published constructor.

        Raises ValueError naming what is missing, unexpected or of another shape.
        """
        known: dict[str, Any] = read_config(config, CRAFTConfig, ignore=_UNUSED)
        for name in ("depths", "num_heads"):
            if name in known:
                known[name] = tuple(known[name])
        return load_reference(
            cls(CRAFTConfig(**known)), state, rename=own_name, ignore=DERIVED_BUFFERS
        )

    def published_state(self) -> dict[str, Tensor]:
        """The weights under published names, with the index tables that other readers want."""
        state = {published_name(name): value for name, value in self.state_dict().items()}
        short, long = self.config.split_size_0, self.config.split_size_1
        for direction, window in (("h", (short, long)), ("v", (long, short))):
            state[f"relative_position_index_{direction}"] = relative_index(window)
            state[f"biases_{direction}"] = relative_offsets(window)
        return state

    def config_dict(self) -> dict[str, Any]:
        """The configuration as plain values, for a weight file."""
        return asdict(self.config)

    @property
    def body_dtype(self) -> torch.dtype:
        """What everything between the first and the last convolution is calculated in."""
        return self.norm.body.weight.dtype

    def body_to(self, dtype: torch.dtype) -> Self:
        """Calculate the body in `dtype`. In 16 bits the ends alone would cost 0.1 dB."""
        for part in (self.layers, self.norm, self.conv_after_body):
            part.to(dtype)
        return self

    def forward(self, x: Tensor, *, padding: Padding = "reflect") -> Tensor:
        walk = self.stages(x, WHOLE, padding=padding)
        statistics = next(walk)
        while True:
            try:
                statistics = walk.send(statistics)
            except StopIteration as end:
                return end.value

    def stages(
        self,
        x: Tensor,
        region: Region,
        keep: Keep = lambda x: [x].pop,
        *,
        padding: Padding = "reflect",
    ) -> Stages[Tensor]:
        """`forward` as a generator that stops at every channel attention, for a tile of an image.

        It yields the sums that the attention takes from `region` (rows and columns of x, which may
        reach into the padding), is sent those of the whole image, and returns the output. Between,
        it holds two feature maps, which `keep` may put elsewhere: it returns how to get one back.
        """  # fmt: skip
        H, W = x.shape[2:]
        image = pad_to_multiple(self._image(x), self.config.multiple, padding)
        features = self.conv_first(image).to(self.body_dtype)
        for layer in self.layers:
            group = cast(RefinementGroup, layer).stages(features, region, keep)
            del features  # or this frame would hold what `keep` has put away
            features = yield from group
        body = self.conv_after_body(self.norm(features)).to(image.dtype)
        features = body + self.conv_first(image)
        out = pixel_shuffle(self.upsample(features), self.scale)
        out = out / self.config.img_range + self.mean.to(out.dtype).view(-1, 1, 1)
        return out[..., : H * self.scale, : W * self.scale]

    def _image(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.config.in_chans:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; needs (B, {self.config.in_chans}, H, W)"
            )
        # Planes would go on through every sum with them, and layer norms would copy them.
        pixels = x.permute(0, 2, 3, 1).contiguous()  # (B, H, W, 3)
        pixels = pixels.to(self.conv_first.weight.dtype)
        return (pixels - self.mean.to(pixels.dtype)) * self.config.img_range


DERIVED_BUFFERS = (
    "relative_position_index_*",
    "biases_*",
    "*.attns.?.offsets",
    "*.attns.?.index",
    "mean",
)


def own_name(published: str) -> str:
    """The name here of a published parameter."""
    return published.replace(".mlp.fc1.", ".mlp.up.").replace(".mlp.fc2.", ".mlp.down.")


def published_name(own: str) -> str:
    """The published name of a parameter here."""
    return own.replace(".mlp.up.", ".mlp.fc1.").replace(".mlp.down.", ".mlp.fc2.")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
