"""DLGSANet upscales an image: convolutions whose kernels each pixel makes, and sparse attention.

Li et al., "DLGSANet: Lightweight Dynamic Local and Global Self-Attention Networks for Image
Super-Resolution", ICCV 2023, arXiv 2301.02031. The published checkpoints (tiny, light and full;
x2, x3, x4) load through `from_reference`; parameter names are theirs.

Shapes: B batch, H and W pixels, C channels (last axis inside the network), h heads, d channels a
head, s scale, K side of a dynamic kernel, G groups of channels that share one, D length of the
code a kernel is made from.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sigform_core import load_reference, read_config
from sigform_superres.convolution import Conv2d, pixel_shuffle
from sigform_superres.restormer import ChannelNorm, GatedFeedForward, head_products, normalised

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Of DIV2K, taken off the input; the published network keeps it outside its weights."""

KERNEL_NUMBERS = 1 << 22
"""How many numbers of dynamic kernels exist at a time: 16 MB of float32, about a cache full."""

Windows = tuple[Sequence[int], Sequence[int]]
"""Where the windows of channel attention begin: rows, then columns."""

FeedForwardType = Literal["GDFN", "BaseFFN"]

# Names in published configs that never reach the network.
_UNUSED = ("type", "input_resolution")

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "softmax": lambda scores: scores.softmax(dim=-1),
}

# Dimension, groups and blocks; the window of attention in the input is 192 pixels of the output.
_PUBLISHED = {"tiny": (48, 3, 3), "light": (48, 4, 3), "full": (90, 6, 4)}
_PUBLISHED_WINDOW = {2: 96, 3: 72, 4: 48}


@dataclass(frozen=True, kw_only=True)
class DLGSANetConfig:
    """The published light configuration at 4 times; fields as the published constructor's."""

    upscale: int = 4
    in_chans: int = 3
    dim: int = 48  # channels
    groups: int = 4  # residual groups
    blocks: int = 3  # of each group, a local and a global layer each
    buildblock_type: Literal["sparseedge", "edge", "idynamic", "restormer"] = "sparseedge"
    window_size: int = 7  # side of the dynamic kernels, in pixels
    idynamic_num_heads: int = 6  # channels that share a dynamic kernel
    idynamic_ffn_type: FeedForwardType = "GDFN"
    idynamic_ffn_expansion_factor: float = 2.0
    idynamic: bool = True  # otherwise one learnt depthwise kernel for all pixels
    restormer_num_heads: int = 6
    restormer_ffn_type: FeedForwardType = "GDFN"
    restormer_ffn_expansion_factor: float = 2.0
    tlc_flag: bool = True  # attention within windows in eval mode
    tlc_kernel: int = 48  # side of those windows, in pixels
    activation: Literal["relu", "gelu", "sigmoid"] = "relu"  # of sparse attention
    img_range: float = 1.0  # the network works on pixels in [0, img_range]
    upsampler: Literal["pixelshuffledirect", "pixelshuffle", ""] = "pixelshuffledirect"
    body_norm: bool = False

    def __post_init__(self) -> None:
        for name in ("in_chans", "groups", "blocks", "tlc_kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs 1 or more")
        if self.dim < 4:
            raise ValueError(f"dim is {self.dim}; needs 4 or more")
        for name in ("idynamic_num_heads", "restormer_num_heads"):
            heads = getattr(self, name)
            if heads < 1 or self.dim % heads:
                raise ValueError(f"{name} is {heads}; needs a divisor of dim {self.dim}")
        if self.window_size < 1 or self.window_size % 2 == 0:
            raise ValueError(f"window_size is {self.window_size}; needs an odd number")
        for name in ("idynamic_ffn_expansion_factor", "restormer_ffn_expansion_factor"):
            if self.dim * getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs 1 / dim or more")
        if self.img_range <= 0:
            raise ValueError(f"img_range is {self.img_range}; needs more than 0")
        for name, allowed in (
            ("buildblock_type", ("sparseedge", "edge", "idynamic", "restormer")),
            ("idynamic_ffn_type", ("GDFN", "BaseFFN")),
            ("restormer_ffn_type", ("GDFN", "BaseFFN")),
            ("activation", ("relu", "gelu", "sigmoid")),
            ("upsampler", ("pixelshuffledirect", "pixelshuffle", "")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; needs {', '.join(map(repr, allowed))}"
                )
        scales = (1, 2, 3, 4, 8) if self.upsampler == "pixelshuffle" else range(1, 9)
        if self.upscale not in scales:
            raise ValueError(f"upscale is {self.upscale}; needs {', '.join(map(str, scales))}")

    @classmethod
    def published(cls, size: Literal["tiny", "light", "full"], upscale: int = 4) -> Self:
        """The configuration of a published checkpoint; raises ValueError for another."""
        if size not in _PUBLISHED or upscale not in _PUBLISHED_WINDOW:
            raise ValueError(
                f"DLGSANet {size!r} at {upscale} times is not published; needs tiny, light or full"
                " at 2, 3 or 4 times"
            )
        dim, groups, blocks = _PUBLISHED[size]
        window = _PUBLISHED_WINDOW[upscale]
        return cls(upscale=upscale, dim=dim, groups=groups, blocks=blocks, tlc_kernel=window)

    @property
    def scale(self) -> int:
        """How many times larger the output is: 1 without an upsampler."""
        return self.upscale if self.upsampler else 1

    @property
    def local_window(self) -> int:
        """Side of the windows of channel attention in pixels."""
        # As published, only sparse attention is told tlc_kernel.
        return self.tlc_kernel if self.buildblock_type == "sparseedge" else 48


def local_starts(length: int, kernel: int) -> list[int]:
    """Where windows of `kernel` pixels begin along `length` pixels, as published.

    As few as cover it, evenly apart but for the last, which ends at the border.
    """
    spare = max(0, length - kernel)
    count = math.ceil(length / kernel)
    step = math.ceil(spare / max(1, count - 1))
    return sorted({min(i * step, spare) for i in range(count)})


class Cells(NamedTuple):
    """One axis cut wherever a window begins or ends, so that each window is whole cells."""

    spans: list[slice]
    held: Tensor  # (windows, cells), 1 where the window holds the cell
    mean: Tensor  # (cells, windows), to average over the windows that hold a cell

    @classmethod
    def of(cls, length: int, kernel: int, starts: Iterable[int], like: Tensor) -> Self:
        """What lies beyond the axis is cut off; raises ValueError when a place has no window."""
        windows = [(max(0, start), min(length, start + kernel)) for start in starts]
        windows = [(begin, end) for begin, end in windows if begin < end]
        cuts = sorted({0, length, *(place for window in windows for place in window)})
        held = torch.tensor(
            [[float(a <= begin < b) for begin in cuts[:-1]] for a, b in windows],
            device=like.device,
            dtype=_at_least_float32(like.dtype),
        )
        if not windows or not held.any(0).all():
            raise ValueError(f"windows {windows} leave gaps; need to cover {length} pixels")
        spans = [slice(begin, end) for begin, end in pairwise(cuts)]
        return cls(spans, held, (held / held.sum(0)).t())


class Grid(NamedTuple):
    """The windows of an image as rows and columns of cells.

    Sums over a window are sums over its cells, so what windows share is computed once.
    """

    rows: Cells
    columns: Cells

    def sums(self, cells: Tensor) -> Tensor:
        """What each cell (B, rows, columns, ...) holds -> what each window holds."""
        return _both_axes(self.rows.held, self.columns.held, cells)

    def means(self, windows: Tensor) -> Tensor:
        """Of each window (B, rows, columns, ...) -> the mean of those that hold a cell."""
        return _both_axes(self.rows.mean, self.columns.mean, windows)


class SparseAttention(nn.Module):
    """Channels ask channels: cosines through an activation weigh the values (section 3.2).

    (B, H, W, C) -> (B, H, W, C). Each window of the grid has weights of its own; where windows
    overlap, their outputs are averaged.
    """

    def __init__(self, channels: int, heads: int, activation: str) -> None:
        super().__init__()
        self.heads = heads
        self.activation = _ACTIVATIONS[activation]
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = Conv2d(3 * channels, 3 * channels, 3, groups=3 * channels, bias=False)
        self.project_out = Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        qkv = self.qkv_dwconv(self.qkv(x))  # (B, H, W, 3C)
        cells = [[qkv[:, r, c] for c in grid.columns.spans] for r in grid.rows.spans]
        weights = self._weights([[self._measure(cell) for cell in row] for row in cells], grid)
        rows = [
            _join([self._attend(cell, weights[:, i, j]) for j, cell in enumerate(row)], dim=2)
            for i, row in enumerate(cells)
        ]
        return _join(rows, dim=1)

    def _measure(self, cell: Tensor) -> Tensor:
        """Sums over the pixels of one cell: (B, h, d, d + 2), products then squared lengths."""
        query, key, _ = cell.flatten(1, 2).chunk(3, dim=-1)  # (B, L, C) each
        # In half precision a sum over many pixels would stop growing.
        wide = _at_least_float32(cell.dtype)
        query, key = query.to(wide), key.to(wide)
        lengths = torch.stack([query.square().sum(1), key.square().sum(1)], dim=-1)  # (B, C, 2)
        products = head_products(query, key, self.heads)
        return torch.cat([products, lengths.unflatten(1, (self.heads, -1))], dim=-1)

    def _weights(self, measured: list[list[Tensor]], grid: Grid) -> Tensor:
        """One matrix a cell for attention and projection: (B, rows, columns, C, C)."""
        sums = grid.sums(torch.stack([torch.stack(row, dim=1) for row in measured], dim=1))
        products, query, key = sums[..., :-2], sums[..., -2], sums[..., -1]
        weights = self.activation(normalised(products, query, key) * self.temperature)
        C = self.project_out.out_channels
        project = self.project_out.weight.view(C, self.heads, -1)  # (C, h, d)
        # The mean over windows and the projection are linear, so they come before the pixels.
        folded = torch.einsum("nhi,brchij->brcnhj", project.to(weights.dtype), grid.means(weights))
        return folded.flatten(-2)

    def _attend(self, cell: Tensor, weights: Tensor) -> Tensor:
        """cell (B, n, m, 3C), weights (B, C, C) -> (B, n, m, C)."""
        value = cell.chunk(3, dim=-1)[2].flatten(1, 2)  # (B, L, C)
        out = torch.bmm(value, weights.to(value.dtype).transpose(1, 2))
        return out.unflatten(1, cell.shape[1:3])


class DynamicConvolution(nn.Module):
    """Each pixel makes its own kernels from what is around it (section 3.1).

    (B, H, W, C) -> (B, H, W, C); `group` channels share a kernel.
    """

    def __init__(self, channels: int, kernel: int, group: int) -> None:
        super().__init__()
        self.kernel = kernel
        code = channels // 4
        self.conv1 = nn.Sequential(
            Conv2d(channels, code, 1), Conv2d(code, code, kernel, groups=code)
        )
        self.conv2 = nn.Sequential(Conv2d(code, kernel * kernel * (channels // group), 1))

    def forward(self, x: Tensor) -> Tensor:
        last: Any = self.conv2[0]
        return dynamic_convolution(
            x, self.conv1(x), last.weight[:, :, 0, 0], last.bias, kernel=self.kernel
        )


class LocalMixing(nn.Module):
    """A dynamic convolution, or a plain depthwise one, between two 1x1 convolutions."""

    def __init__(self, config: DLGSANetConfig) -> None:
        super().__init__()
        C, K = config.dim, config.window_size
        self.conv0 = Conv2d(C, C, 1, bias=False)
        self.conv = (
            DynamicConvolution(C, K, config.idynamic_num_heads)
            if config.idynamic
            else Conv2d(C, C, K, groups=C)
        )
        self.conv1 = Conv2d(C, C, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(self.conv(self.conv0(x)))


class FeedForward(nn.Module):
    """Two 1x1 convolutions around a GELU: (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.body = nn.Sequential(
            Conv2d(channels, hidden, 1), nn.GELU(), Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class LocalLayer(nn.Module):
    """Dynamic convolution and feed-forward, each after a norm and around a skip."""

    def __init__(self, config: DLGSANetConfig) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(config.dim)
        self.IDynamicDWConv = LocalMixing(config)
        self.norm2 = ChannelNorm(config.dim)
        self.IDynamic_ffn = _feed_forward(
            config.idynamic_ffn_type, config.dim, config.idynamic_ffn_expansion_factor
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.IDynamicDWConv(self.norm1(x))
        return x + self.IDynamic_ffn(self.norm2(x))


class GlobalLayer(nn.Module):
    """Channel attention and feed-forward, each after a norm and around a skip."""

    def __init__(self, config: DLGSANetConfig) -> None:
        super().__init__()
        sparse = config.buildblock_type == "sparseedge"
        self.norm3 = ChannelNorm(config.dim)
        self.restormer_attn = SparseAttention(
            config.dim, config.restormer_num_heads, config.activation if sparse else "softmax"
        )
        self.norm4 = ChannelNorm(config.dim)
        self.restormer_ffn = _feed_forward(
            config.restormer_ffn_type, config.dim, config.restormer_ffn_expansion_factor
        )

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = x + self.restormer_attn(self.norm3(x), grid)
        return x + self.restormer_ffn(self.norm4(x))


class ResidualGroup(nn.Module):
    """Layers in turn, local and global, and a convolution, around a skip (figure 2)."""

    def __init__(self, config: DLGSANetConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(config.blocks):
            if config.buildblock_type != "restormer":
                layers.append(LocalLayer(config))
            if config.buildblock_type != "idynamic":
                layers.append(GlobalLayer(config))
        self.body = nn.ModuleList([*layers, Conv2d(config.dim, config.dim, 3)])

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        skip = x
        for layer in self.body:
            x = layer(x, grid) if isinstance(layer, GlobalLayer) else layer(x)
        return skip + x


class PixelShuffle(nn.Module):
    """(B, H, W, C * s * s) -> (B, s * H, s * W, C)."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return pixel_shuffle(x, self.scale).permute(0, 2, 3, 1)


class DLGSANet(nn.Module):
    """(B, 3, H, W) of pixels in [0, 1] -> (B, 3, s * H, s * W), any H and W from 1.

    The output is not clamped. With `local`, channel attention stays within windows of
    `config.local_window` pixels of a grid (the published test-time local converter, TLC), else it
    spans the image, as it was trained; None means in eval mode only, as published. `windows` says
    where the windows of the grid begin, which `local_starts` does otherwise: a tile of an image
    can keep the image's. What of them lies outside x is left out.

    Raises ValueError when x has other channels, or when windows leave pixels uncovered.
    """

    def __init__(self, config: DLGSANetConfig | None = None) -> None:
        super().__init__()
        config = config or DLGSANetConfig()
        self.config = config
        self.scale = config.scale
        C, channels = config.dim, config.in_chans
        self.overlap_embed = nn.Sequential(
            nn.Sequential(OrderedDict(proj=Conv2d(channels, C, 3, bias=False)))
        )
        norms = [ChannelNorm(C) for _ in range(2 if config.body_norm else 0)]
        self.deep_feature_extraction = nn.ModuleList(
            [
                *norms[:1],
                *(ResidualGroup(config) for _ in range(config.groups)),
                *norms[1:],
                Conv2d(C, C, 3),
            ]
        )
        if config.upsampler == "pixelshuffle":
            self.conv_before_upsample = nn.Sequential(Conv2d(C, 64, 3), nn.LeakyReLU())
            self.upsample = _upsampling(64, 64, _factors(config.upscale))
            self.conv_last = Conv2d(64, channels, 3)
        elif config.upsampler == "pixelshuffledirect":
            self.upsample = _upsampling(C, channels, [config.upscale])
        else:
            self.conv_last = Conv2d(C, channels, 3)
        mean = RGB_MEAN if channels == 3 else (0.0,) * channels
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(mean), persistent=False)

    @property
    def residual(self) -> Conv2d | None:
        """The body's last convolution, before the skip from the first features."""
        last = self.deep_feature_extraction[-1]
        return last if isinstance(last, Conv2d) else None

    @classmethod
    def from_reference(cls, config: Mapping[str, object], state: Mapping[str, Tensor]) -> Self:
        """The network with published weights, in eval mode; `config` as the published constructor.

        Raises ValueError naming what is missing, unexpected or of another shape.
        """
        known: dict[str, Any] = read_config(config, DLGSANetConfig, ignore=_UNUSED)
        return load_reference(cls(DLGSANetConfig(**known)), state, ignore=("mean",))

    def published_state(self) -> dict[str, Tensor]:
        """The weights under their published names."""
        return dict(self.state_dict())

    def config_dict(self) -> dict[str, Any]:
        """The configuration as plain values, for a weight file."""
        return asdict(self.config)

    @property
    def body_dtype(self) -> torch.dtype:
        """What everything between the first and the last convolutions is calculated in."""
        return next(self.deep_feature_extraction.parameters()).dtype

    def body_to(self, dtype: torch.dtype) -> Self:
        """Calculate the body in `dtype`. In 16 bits the ends alone would cost 0.1 dB."""
        self.deep_feature_extraction.to(dtype)
        return self

    def forward(
        self, x: Tensor, *, local: bool | None = None, windows: Windows | None = None
    ) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.config.in_chans:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; needs (B, {self.config.in_chans}, H, W)"
            )
        grid = self._grid(x, local, windows)
        x = x.to(next(self.overlap_embed.parameters()).dtype)
        mean = self.mean.to(x.dtype)
        image = (x.permute(0, 2, 3, 1) - mean) * self.config.img_range  # (B, H, W, 3)
        # Planes would go on through every sum with them, and layer norms would copy them.
        first = self.overlap_embed(image.contiguous()).contiguous()
        features = first.to(self.body_dtype)
        for stage in self.deep_feature_extraction:
            features = (
                stage(features, grid) if isinstance(stage, ResidualGroup) else stage(features)
            )
        out = self._reconstruct(first + features.to(first.dtype)) / self.config.img_range + mean
        return out.permute(0, 3, 1, 2)

    def _grid(self, x: Tensor, local: bool | None, windows: Windows | None) -> Grid:
        if windows is not None and local is False:
            raise ValueError("windows are given and local is False; needs one or the other")
        if local is None:
            local = windows is not None or (self.config.tlc_flag and not self.training)
        sizes = x.shape[2:]
        kernels = [self.config.local_window] * 2 if local else list(sizes)
        starts = windows or [local_starts(size, k) for size, k in zip(sizes, kernels, strict=True)]
        return Grid(*map(lambda *axis: Cells.of(*axis, like=x), sizes, kernels, starts))

    def _reconstruct(self, features: Tensor) -> Tensor:
        if self.config.upsampler == "pixelshuffledirect":
            return self.upsample(features)
        if self.config.upsampler == "pixelshuffle":
            features = self.upsample(self.conv_before_upsample(features))
        return self.conv_last(features)


def dynamic_convolution(
    x: Tensor, code: Tensor, weight: Tensor, bias: Tensor, *, kernel: int
) -> Tensor:
    """A depthwise convolution whose kernels differ from pixel to pixel, in the dtype of x.

    The kernels of a pixel are weight @ its code + bias: (G, K, K), one for each C / G channels.
    x (B, H, W, C), code (B, H, W, D), weight (G * K * K, D), bias (G * K * K,) -> (B, H, W, C);
    beyond the border is 0. The gradient keeps x and the code and makes the kernels again: they
    are many times larger than x.
    """
    return _DynamicConvolution.apply(x, code, weight, bias, kernel)  # pyright: ignore


class _DynamicConvolution(torch.autograd.Function):
    """Planes of pixels, moved over each other: one product and sum for each place in a kernel.

    Bands of rows, so that their kernels fit into the cache.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, code: Tensor, weight: Tensor, bias: Tensor, kernel: int
    ) -> Tensor:
        (B, H, W, C), G = x.shape, len(weight) // kernel**2
        # In half precision each of the many sums would round.
        wide = _at_least_float32(x.dtype)
        planes = _padded_planes(x.to(wide), kernel, G)  # (B, G, C/G, H + K - 1, W + K - 1)
        # A plane of ones carries the bias.
        codes = planes.new_ones(B, code.shape[-1] + 1, H, W)
        codes[:, :-1] = code.permute(0, 3, 1, 2)
        make = torch.cat([weight, bias[:, None]], dim=1).to(wide)  # (G * K * K, D + 1)
        out = planes.new_zeros(B, G, C // G, H, W)
        for rows, kernels in _bands_of_kernels(codes, make, kernel):
            for (i, j), moved in _moves(planes, rows, W, kernel):
                out[..., rows, :].addcmul_(kernels[:, :, i, j, None], moved)
        ctx.save_for_backward(planes, codes, make)
        ctx.kernel = kernel
        ctx.dtypes = x.dtype, code.dtype, weight.dtype, bias.dtype
        return out.view(B, C, H, W).permute(0, 2, 3, 1).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        planes, codes, make = ctx.saved_tensors
        kernel: int = ctx.kernel
        B, G, per_group = planes.shape[:3]
        H, W = grad.shape[1:3]
        pad = kernel // 2
        grads = grad.to(planes.dtype).permute(0, 3, 1, 2).contiguous()
        grads = grads.view(B, G, per_group, H, W)
        grad_planes, grad_codes = torch.zeros_like(planes), torch.empty_like(codes)
        grad_make = torch.zeros_like(make)
        for rows, kernels in _bands_of_kernels(codes, make, kernel):
            band = grads[..., rows, :]
            for (i, j), moved in _moves(grad_planes, rows, W, kernel):
                moved.addcmul_(kernels[:, :, i, j, None], band)
            grad_kernels = kernels.zero_()
            for i in range(kernel):
                lines = planes[..., rows.start + i : rows.stop + i, :]
                moved = lines.unfold(-1, W, 1).transpose(3, 4)  # (B, G, C/G, K, n, W)
                for c in range(per_group):
                    grad_kernels[:, :, i].addcmul_(band[:, :, c, None], moved[:, :, c])
            flat = grad_kernels.flatten(4).flatten(1, 3)  # (B, G * K * K, n * W)
            found = torch.bmm(make.t().expand(B, -1, -1), flat)  # (B, D + 1, n * W)
            grad_codes[:, :, rows] = found.unflatten(2, (-1, W))
            grad_make += torch.bmm(flat, codes[:, :, rows].flatten(2).transpose(1, 2)).sum(0)
        grad_x = grad_planes[..., pad : pad + H, pad : pad + W].flatten(1, 2).permute(0, 2, 3, 1)
        grad_code = grad_codes[:, :-1].permute(0, 2, 3, 1)
        all_four = grad_x, grad_code, grad_make[:, :-1], grad_make[:, -1]
        return *(g.to(dtype) for g, dtype in zip(all_four, ctx.dtypes, strict=True)), None


def _padded_planes(x: Tensor, kernel: int, groups: int) -> Tensor:
    B, H, W, C = x.shape
    pad = kernel // 2
    planes = x.new_zeros(B, C, H + 2 * pad, W + 2 * pad)
    planes[:, :, pad : pad + H, pad : pad + W] = x.permute(0, 3, 1, 2)
    return planes.unflatten(1, (groups, -1))


def _bands_of_kernels(codes: Tensor, make: Tensor, kernel: int) -> Iterable[tuple[slice, Tensor]]:
    """Bands of rows, evenly, and the kernels of their pixels.

    codes (B, D + 1, H, W), make (G * K * K, D + 1) -> kernels (B, G, K, K, n, W), about
    KERNEL_NUMBERS in all. They lie where the last band's were: fresh memory costs more than what
    is done with it.
    """
    (B, _, H, W), G = codes.shape, len(make) // kernel**2
    count = math.ceil(B * H * W * len(make) / KERNEL_NUMBERS)
    rows = math.ceil(H / max(1, count))
    buffer = codes.new_empty(B * len(make) * rows * W)
    for begin in range(0, H, rows):
        band = codes[:, :, begin : begin + rows]
        n = band.shape[2]
        flat = buffer[: B * len(make) * n * W].view(B, len(make), n * W)
        torch.bmm(make.expand(B, -1, -1), band.flatten(2), out=flat)
        yield slice(begin, begin + n), flat.view(B, G, kernel, kernel, n, W)


def _moves(
    planes: Tensor, rows: slice, W: int, kernel: int
) -> Iterable[tuple[tuple[int, int], Tensor]]:
    """Each place in a kernel, and the view of padded planes that it looks at from these rows."""
    for i in range(kernel):
        lines = planes[..., rows.start + i : rows.stop + i, :]
        for j in range(kernel):
            yield (i, j), lines[..., j : j + W]


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _both_axes(rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Matrices over the second and third axes of values (B, rows, columns, ...)."""
    values = torch.einsum("ri,bi...->br...", rows, values)
    return torch.einsum("cj,brj...->brc...", columns, values)


def _join(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _feed_forward(kind: FeedForwardType, channels: int, expansion: float) -> nn.Module:
    return (GatedFeedForward if kind == "GDFN" else FeedForward)(channels, expansion)


def _factors(scale: int) -> list[int]:
    """The steps that 'pixelshuffle' goes up in."""
    return [3] if scale == 3 else [2] * round(math.log2(scale))


def _upsampling(inputs: int, outputs: int, factors: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(
        *(layer for s in factors for layer in (Conv2d(inputs, s * s * outputs, 3), PixelShuffle(s)))
    )
