"""MossFormer: separates the voices of a mixture by masks from gated single-head attention.

Zhao and Ma, "MossFormer: Pushing the Performance Limit of Monaural Speech Separation using Gated
Single-Head Transformer with Convolution-Augmented Joint Self-Attentions" (arXiv 2302.11824). The
checkpoints published on ModelScope load through `upstream`.

Everything is kept as (B, L, N), channels last, and every block makes its four projections by one
product and one depthwise convolution: equal to the published form, several times as fast.

Shapes: B signals, T samples, L frames of the encoder, N channels, S speakers, G groups of P
frames, D channels of queries and keys, K samples in a frame.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.depthwise import depthwise
from sigform_core.linear import linear, product
from sigform_core.reference import load_views, read_config
from sigform_core.rotary import rotary_turns, rotate

ROTARY_CHANNELS = 32
"""Of queries and keys, that are turned by their position."""

CONVOLUTION = 17
"""Frames that a projection's depthwise convolution spans."""

Norm = Literal["ln", "gln", "cln", "bn"]

Names = Sequence[tuple[str, str]]
"""Patterns of our parameter names and what published code calls them."""

SHELL_NAMES: Names = (
    (r"mask_net\.norm\.(?:batch\.)?", "mask_net.norm."),
    (r"mask_net\.bottleneck\.", "mask_net.conv1d_encoder."),
    (r"mask_net\.position_scale", "mask_net.pos_enc.scale"),
    (r"mask_net\.split\.", "mask_net.conv1d_out."),
    (r"mask_net\.(output|output_gate)\.", r"mask_net.\1.0."),
    (r"mask_net\.to_mask\.", "mask_net.conv1_decoder."),
    (r"(to_\w+)\.norm\.", r"\1.mdl.0."),
    (r"(to_\w+)\.linear\.", r"\1.mdl.1."),
    (r"(to_\w+)\.conv\.", r"\1.mdl.3.sequential.1.conv."),
)
"""What both MossFormers' published checkpoints share."""

PUBLISHED_NAMES: Names = (
    (r"encoder$", "encoder.conv1d.weight"),
    (r"decoder$", "decoder.weight"),
    (r"decoder_bias$", "decoder.bias"),
    *SHELL_NAMES,
    (r"mask_net\.blocks\.layers\.", "mask_net.mdl.att_mdl.mossformerM.layers."),
    (r"mask_net\.blocks\.norm\.", "mask_net.mdl.att_mdl.norm.norm."),
    (r"mask_net\.blocks_norm\.(?:batch\.)?", "mask_net.mdl.att_norm."),
)

ONE_FRAME = re.compile(
    r"mask_net\.(bottleneck|split|output|output_gate|to_mask|blocks\.memories\.\d+\.(enter|leave))"
    r"\.weight"
)
"""Linear layers that published code has as convolutions over one frame."""

DERIVED = ("*rotary_pos_emb.freqs", "*pos_enc.inv_freq")
"""Published tensors that follow from the configuration; the first stands there for every block."""


@dataclass(frozen=True, kw_only=True)
class MossFormerConfig:
    """The published constructor's arguments; the defaults are MossFormer (L), 42.10 M parameters.

    Published code takes four widths, which only work when they are equal: `in_channels`,
    `out_channels` and `d_model`, and an `expansion_factor` of 4. Raises ValueError otherwise.
    """

    in_channels: int = 512  # N
    out_channels: int = 512
    d_model: int = 512
    kernel_size: int = 16  # K, samples
    stride: int = 8  # samples, half of the kernel
    num_blocks: int = 24
    group_size: int = 256  # P, frames
    query_key_dim: int = 128  # D
    expansion_factor: float = 4.0
    attn_dropout: float = 0.1
    causal: bool = False  # the attention only: norms and convolutions look ahead
    norm: Norm = "ln"
    bias: bool = False  # of the decoder
    num_spks: int = 2  # S
    sample_rate: int = 8000  # Hz, of the signals that it was trained on

    def __post_init__(self) -> None:
        for name in ("in_channels", "kernel_size", "num_blocks", "group_size", "num_spks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs 1 or more")
        if not self.in_channels == self.out_channels == self.d_model:
            raise ValueError(
                f"in_channels, out_channels and d_model are {self.in_channels}, "
                f"{self.out_channels} and {self.d_model}; needs one number"
            )
        if self.in_channels % 2 or self.query_key_dim % 2:
            raise ValueError(
                f"d_model is {self.d_model} and query_key_dim {self.query_key_dim}; needs even ones"
            )
        if self.kernel_size < 2 or self.stride != self.kernel_size // 2:
            raise ValueError(
                f"stride is {self.stride} and kernel_size {self.kernel_size}; needs half of it"
            )
        if self.expansion_factor != 4:
            raise ValueError(f"expansion_factor is {self.expansion_factor}; needs 4")
        if self.norm not in ("ln", "gln", "cln", "bn"):
            raise ValueError(f"norm is {self.norm!r}; needs ln, gln, cln or bn")
        if not 0 <= self.attn_dropout < 1:
            raise ValueError(f"attn_dropout is {self.attn_dropout}; needs 0 or more, less than 1")


class ScaleNorm(nn.Module):
    """Each frame divided by its root mean square, times one learnt scale (arXiv 1910.05895)."""

    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return scale_to_unit(x) * self.g


def scale_to_unit(x: Tensor) -> Tensor:
    """x (..., N) divided by its root mean square along N, which counts as 1e-5 at least."""
    size = x.float().norm(dim=-1, keepdim=True) * x.shape[-1] ** -0.5
    return x * size.clamp(min=1e-5).reciprocal().to(x.dtype)


class ConvModule(nn.Module):
    """ScaleNorm, a linear layer, SiLU and a depthwise convolution around a skip (figure 2).

    (B, L, N) -> (B, L, M). `project` makes several of them at once.
    """

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.norm = ScaleNorm()
        self.linear = nn.Linear(inputs, outputs)
        self.conv = nn.Conv1d(
            outputs, outputs, CONVOLUTION, padding="same", groups=outputs, bias=False
        )
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return project(x, [self])


def project(x: Tensor, modules: Sequence[ConvModule]) -> Tensor:
    """The outputs of modules on the same x (B, L, N), side by side: (B, L, M1 + M2 + ...).

    One product and one convolution for all: each norm's scale goes into its weights, and the skip
    around the convolution into the kernels' middle.
    """
    weight = _join([module.linear.weight * module.norm.g for module in modules])
    bias = _join([module.linear.bias for module in modules])
    kernels = _join([module.conv.weight for module in modules])  # (M, 1, 17)
    hidden = F.silu(linear(scale_to_unit(x).to(weight.dtype), weight, bias))
    hidden = convolve_frames(hidden, kernels, skip=True)
    return F.dropout(hidden, modules[0].dropout, modules[0].training)


def convolve_frames(x: Tensor, kernels: Tensor, *, skip: bool = False) -> Tensor:
    """Depthwise convolution along L of x (B, L, M), kernels (M, 1, k) with k odd; zeros beyond.

    With `skip` x is added.
    """
    if not skip:
        return depthwise(x, kernels)
    if x.dtype != torch.float32:
        # One and a small weight, rounded to 16 bits together, would lose the weight.
        return x + depthwise(x, kernels)
    middle = kernels.shape[-1] // 2
    ones = F.pad(kernels.new_ones(1), (middle, middle))
    return depthwise(x, kernels + ones)


class OffsetScale(nn.Module):
    """Queries and keys of both attentions from one projection: (B, L, D) -> (B, L, 4, D).

    In order: query within groups, query over all, key within groups, key over all.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(4, dim) * 0.02)
        self.beta = nn.Parameter(torch.zeros(4, dim))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.beta, x.unsqueeze(2), self.gamma)


class GatedAttention(nn.Module):
    """A block: joint attention within groups and over all frames, gated (section 2.2).

    (B, L, N) -> (B, L, N). Within a group of P frames each attends to each by relu(q k / P)^2;
    over all frames attention is linear in L.
    """

    def __init__(self, config: MossFormerConfig) -> None:
        super().__init__()
        N, D = config.d_model, config.query_key_dim
        self.group_size = config.group_size
        self.causal = config.causal
        self.dropout = config.attn_dropout
        self.to_hidden = ConvModule(N, 4 * N, config.attn_dropout)
        self.to_qk = ConvModule(N, D, config.attn_dropout)
        self.qk_offset_scale = OffsetScale(D)
        self.to_out = ConvModule(2 * N, N, config.attn_dropout)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        N, D = x.shape[-1], self.qk_offset_scale.gamma.shape[1]
        hidden = project(shift_half(x), [self.to_hidden, self.to_qk])
        values, qk = hidden.split([4 * N, D], dim=-1)
        four = rotate(self.qk_offset_scale(qk), turns)  # (B, L, 4, D)
        quad_q, lin_q, quad_k, lin_k = four.unbind(2)
        attended = self.attend(quad_q, lin_q, quad_k, lin_k, values)
        v, u = values.chunk(2, dim=-1)
        attended_v, attended_u = attended.chunk(2, dim=-1)
        gated = attended_u * v * torch.sigmoid(attended_v * u)
        return x + self.to_out(gated).to(x.dtype)

    def attend(
        self, quad_q: Tensor, lin_q: Tensor, quad_k: Tensor, lin_k: Tensor, values: Tensor
    ) -> Tensor:
        """The sum of both attentions over the same values (B, L, E): (B, L, E)."""
        B, L, E = values.shape
        P = self.group_size
        # Frames of zeros attend and are attended to by nothing.
        quad_q, lin_q, quad_k, lin_k, values = (
            pad_frames(part, P) for part in (quad_q, lin_q, quad_k, lin_k, values)
        )
        grouped = values.view(-1, P, E)  # (B * G, P, E)
        scores = torch.bmm(quad_q.reshape(-1, P, quad_q.shape[-1]), _columns(quad_k / P, P))
        scores = scores.relu().square()
        if self.causal:
            scores = scores.tril()
        scores = F.dropout(scores, self.dropout, self.training)
        if self.causal:
            # Each group looks at the groups before it.
            products = torch.bmm(_columns(lin_k / P, P), grouped)  # (B * G, D, E)
            before = products.view(B, -1, *products.shape[1:]).cumsum(1)
            before = F.pad(before[:, :-1], (0, 0, 0, 0, 1, 0)).flatten(0, 1)
            over_all = torch.bmm(lin_q.reshape(-1, P, lin_q.shape[-1]), before)
        else:
            products = product((lin_k / L).transpose(1, 2), values)  # (B, D, E)
            over_all = product(lin_q, products).view(-1, P, E)
        return product(scores, grouped, over_all).view(B, -1, E)[:, :L]


class MaskNet(nn.Module):
    """Masks for every speaker from the encoder's frames: (B, L, N) -> (B, L, S, N)."""

    def __init__(self, config: MossFormerConfig, blocks: nn.Module) -> None:
        super().__init__()
        N, S = config.d_model, config.num_spks
        self.num_spks = S
        self.norm = SignalNorm(config.norm, N)
        self.bottleneck = nn.Linear(N, N, bias=False)
        self.position_scale = nn.Parameter(torch.ones(1))
        self.blocks = blocks
        self.blocks_norm = SignalNorm(config.norm, N)
        self.prelu = nn.PReLU()
        self.split = nn.Linear(N, N * S)
        self.output = nn.Linear(N, N)
        self.output_gate = nn.Linear(N, N)
        self.to_mask = nn.Linear(N, N, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        x = linear(self.norm(frames), self.bottleneck.weight)
        x = x + positions(x) * self.position_scale
        x = self.blocks_norm(self.blocks(x).to(x.dtype)) + x
        parts = linear(self.prelu(x), self.split.weight, self.split.bias)
        parts = parts.unflatten(-1, (self.num_spks, -1))  # (B, L, S, N)
        weight = torch.cat([self.output.weight, self.output_gate.weight])
        bias = torch.cat([self.output.bias, self.output_gate.bias])
        value, gate = linear(parts, weight, bias).chunk(2, dim=-1)
        return linear(value.tanh() * gate.sigmoid(), self.to_mask.weight).relu()


class Blocks(nn.Module):
    """The stack of attention blocks with a norm at its end: (B, L, N) -> (B, L, N)."""

    def __init__(self, config: MossFormerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GatedAttention(config) for _ in range(config.num_blocks))
        self.norm = nn.LayerNorm(config.d_model, eps=1e-6)
        self.turned = min(ROTARY_CHANNELS, config.query_key_dim)

    def forward(self, x: Tensor) -> Tensor:
        turns = block_turns(x, self.turned)
        for layer in self.layers:
            x = layer(x, turns)
        return self.norm(x)


class SignalNorm(nn.Module):
    """The norm that `kind` names, of (B, L, N): over a whole signal (ln, gln) or a frame (cln)."""

    def __init__(self, kind: Norm, channels: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "bn":
            self.batch = nn.BatchNorm1d(channels)
        else:
            shape = (channels, 1) if kind == "gln" else (channels,)
            self.weight = nn.Parameter(torch.ones(shape))
            self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "bn":
            return self.batch(x.transpose(1, 2)).transpose(1, 2)
        over = x.shape[-1:] if self.kind == "cln" else x.shape[1:]
        normed = F.layer_norm(x, over, eps=1e-8)
        return torch.addcmul(self.bias.flatten(), normed, self.weight.flatten())


class MaskingNetwork(nn.Module):
    """Encoder, masks and decoder, as both MossFormers have them (figure 1).

    Signals in, one signal for each speaker out: (B, T) -> (B, S, T), any T from one kernel on.
    Samples are floating point at `sample_rate`, of any level: the output grows with the input, and
    trained weights leave its scale open. The last (T - K) % stride samples, which fill no frame,
    come out as zeros, as published; `Separator` does without such a tail. Signals of a batch see
    each other's padding: pad none that are to be compared.

    Raises ValueError for another number of dimensions or fewer samples than a kernel.
    """

    def __init__(self, shell: MossFormerConfig, blocks: nn.Module) -> None:
        super().__init__()
        self.shell = shell
        K, N = shell.kernel_size, shell.d_model
        self.encoder = nn.Parameter(torch.empty(N, K))
        self.mask_net = MaskNet(shell, blocks)
        self.decoder = nn.Parameter(torch.empty(N, K))
        self.decoder_bias = nn.Parameter(torch.zeros(1)) if shell.bias else None
        nn.init.kaiming_uniform_(self.encoder, a=5**0.5)
        nn.init.kaiming_uniform_(self.decoder, a=5**0.5)

    @property
    def num_spks(self) -> int:
        return self.shell.num_spks

    @property
    def sample_rate(self) -> int:
        """Hz, of the signals that go in and come out."""
        return self.shell.sample_rate

    @property
    def kernel_size(self) -> int:
        """Samples that one frame covers: the least that a signal needs."""
        return self.shell.kernel_size

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        return self.shell.stride

    def body_to(self, dtype: torch.dtype) -> Self:
        """Calculate inside the blocks in `dtype`; what runs past them stays as it is."""
        self.mask_net.blocks.layers.to(dtype)  # pyright: ignore[reportAttributeAccessIssue]
        return self

    def forward(self, x: Tensor) -> Tensor:
        frames = self.encode(x)
        return self.decode(frames, self.masks(frames), x.shape[-1])

    def encode(self, x: Tensor) -> Tensor:
        """x (B, T) -> frames (B, L, N), none negative."""
        if x.dim() != 2 or x.shape[1] < self.kernel_size:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; "
                f"needs (B, T) with {self.kernel_size} samples or more"
            )
        return linear(x.unfold(1, self.kernel_size, self.stride), self.encoder).relu()

    def masks(self, frames: Tensor) -> Tensor:
        """frames (B, L, N) -> masks (B, L, S, N), none negative."""
        return self.mask_net(frames)

    def decode(self, frames: Tensor, masks: Tensor, samples: int) -> Tensor:
        """The speakers' parts of frames (B, L, N) by masks (B or 1, L, S, N): (B, S, samples)."""
        parts = linear(masks * frames.unsqueeze(2), self.decoder.t())  # (B, L, S, K)
        return overlap_add(parts, self.stride, samples, self.decoder_bias)


class MossFormer(MaskingNetwork):
    """The published network: (B, T) -> (B, S, T), see `MaskingNetwork`."""

    def __init__(self, config: MossFormerConfig | None = None) -> None:
        self.config = config or MossFormerConfig()
        super().__init__(self.config, Blocks(self.config))

    @classmethod
    def from_reference(cls, config: Mapping[str, object], state: Mapping[str, Tensor]) -> Self:
        """The network with published weights, in eval mode; `config` as the published constructor.

        Raises ValueError naming what is missing, unexpected or of another shape.
        """
        known: dict[str, Any] = read_config(config, MossFormerConfig)
        network = cls(MossFormerConfig(**known))
        return load_views(network, network.published_state(), state, ignore=DERIVED)

    def published_state(self) -> dict[str, Tensor]:
        """The weights under their published names and shapes."""
        return published_views(self, PUBLISHED_NAMES)

    def config_dict(self) -> dict[str, Any]:
        """The configuration as plain values, for a weight file."""
        return asdict(self.config)


def published_views(network: nn.Module, names: Names) -> dict[str, Tensor]:
    """A network's tensors under published names, viewed in the shapes of published layers."""
    views: dict[str, Tensor] = {}
    for own, tensor in network.state_dict().items():
        published = own
        for pattern, replacement in names:
            published = re.sub(pattern, replacement, published)
        if re.fullmatch(r"encoder|decoder", own):
            tensor = tensor.unsqueeze(1)  # convolutions of one channel
        elif ONE_FRAME.fullmatch(own):
            tensor = tensor.unsqueeze(2)
        views[published] = tensor
    return views


def overlap_add(frames: Tensor, stride: int, samples: int, bias: Tensor | None = None) -> Tensor:
    """frames (B, L, S, K), each `stride` after the last, summed: (B, S, samples), zeros after."""
    B, L, S, K = frames.shape
    length = (L - 1) * stride + K
    columns = frames.permute(0, 2, 3, 1).reshape(B * S, K, L)
    out = F.fold(columns, (1, length), (1, K), stride=(1, stride)).view(B, S, length)
    if bias is not None:
        out = out + bias
    return F.pad(out, (0, samples - length))  # a negative pad cuts


def shift_half(x: Tensor) -> Tensor:
    """x (B, L, N) with the first half of its channels a frame later."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([F.pad(first, (0, 0, 1, -1)), second], dim=-1)


def pad_frames(x: Tensor, multiple: int) -> Tensor:
    """x (B, L, C) with zeros after it up to a multiple of frames."""
    missing = -x.shape[1] % multiple
    return F.pad(x, (0, 0, 0, missing)) if missing else x


def positions(x: Tensor) -> Tensor:
    """Sinusoidal positions for x (B, L, N): (L, N), all sines first, then all cosines."""
    L, N = x.shape[1:]
    # As published to the last bit, which thousands of frames multiply.
    rates = 1 / 10_000.0 ** (torch.arange(0, N, 2, device=x.device).float() / N)
    angles = torch.arange(L, device=x.device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(x.dtype)


def block_turns(x: Tensor, channels: int) -> Tensor:
    """Rotary turns for queries and keys (B, L, 4, D) of x (B, L, N)."""
    return rotary_turns(x.shape[1], channels, device=x.device).unsqueeze(1)


def _columns(keys: Tensor, group: int) -> Tensor:
    """keys (B, G * P, D) -> (B * G, D, P)."""
    return keys.reshape(-1, group, keys.shape[-1]).transpose(1, 2)


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
