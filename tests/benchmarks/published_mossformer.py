"""MossFormer and MossFormer2 written plainly, the way their published code works: the measure.

Written here from the description, not copied: frames lie channels first outside the blocks,
depthwise convolutions run on transposed views, hidden, queries and keys are projected one by one,
both values attend one by one, padded frames are masked. Equal weights give the output of
`sigform_speech.mossformer` and `mossformer2`; the letters of shapes are theirs.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_speech.mossformer import MossFormer, MossFormerConfig
from sigform_speech.mossformer2 import MossFormer2, MossFormer2Config

DROPOUT = 0.1


def chain(**modules: nn.Module) -> nn.Sequential:
    """Modules one after the other, under the names that they have in published checkpoints."""
    return nn.Sequential(OrderedDict(modules))


class Swap(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class ScaleNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        size = torch.norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return x / size.clamp(min=1e-5) * self.g


class DepthwiseSkip(nn.Module):
    """x (B, L, C) and its depthwise convolution along L, which is done channels first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = nn.Conv1d(channels, channels, 17, padding=8, groups=channels, bias=False)
        self.sequential = nn.Sequential(Swap(), chain(conv=conv))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sequential(x).transpose(1, 2)


class Projection(nn.Module):
    def __init__(self, norm: nn.Module, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.mdl = nn.Sequential(
            norm, nn.Linear(inputs, outputs), nn.SiLU(), DepthwiseSkip(outputs), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mdl(x)


class OffsetScale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(4, channels))
        self.beta = nn.Parameter(torch.empty(4, channels))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (torch.einsum("...d,hd->...hd", x, self.gamma) + self.beta).unbind(-2)


def rotate(x: Tensor) -> Tensor:
    """x (B, L, D) with up to 32 of its channels turned by their position, in pairs."""
    length, turned = x.shape[1], min(32, x.shape[2])
    rates = 1 / 10_000.0 ** (torch.arange(0, turned, 2).float() / turned)
    angles = torch.einsum("l,d->ld", torch.arange(length).float(), rates)
    angles = angles.repeat_interleave(2, dim=-1)  # (L, 32)
    start, rest = x[..., :turned], x[..., turned:]
    pairs = start.unflatten(-1, (-1, 2))
    across = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
    return torch.cat([start * angles.cos() + across * angles.sin(), rest], dim=-1)


class GatedAttention(nn.Module):
    def __init__(self, config: MossFormerConfig) -> None:
        super().__init__()
        N, D, dropout = config.d_model, config.query_key_dim, config.attn_dropout
        self.group_size = config.group_size
        self.to_hidden = Projection(ScaleNorm(), N, 4 * N, dropout)
        self.to_qk = Projection(ScaleNorm(), N, D, dropout)
        self.qk_offset_scale = OffsetScale(D)
        self.to_out = Projection(ScaleNorm(), 2 * N, N, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        delayed, same = x.chunk(2, dim=-1)
        shifted = torch.cat([F.pad(delayed, (0, 0, 1, -1)), same], dim=-1)
        v, u = self.to_hidden(shifted).chunk(2, dim=-1)
        four = [rotate(part) for part in self.qk_offset_scale(self.to_qk(shifted))]
        attended_v, attended_u = self.attend(four, v, u)
        return x + self.to_out((attended_u * v) * torch.sigmoid(attended_v * u))

    def attend(self, four: list[Tensor], v: Tensor, u: Tensor) -> list[Tensor]:
        (B, L), P = v.shape[:2], self.group_size
        missing = -L % P
        parts = [*four, v, u]
        if missing:
            parts = [F.pad(part, (0, 0, 0, missing)) for part in parts]
        quad_q, lin_q, quad_k, lin_k, v, u = (part.unflatten(1, (-1, P)) for part in parts)
        weights = F.relu(torch.einsum("bgid,bgjd->bgij", quad_q, quad_k) / P) ** 2
        weights = self.dropout(weights)
        if missing:
            there = F.pad(torch.ones(B, L, dtype=torch.bool), (0, missing))
            weights = weights.masked_fill(~there.view(B, -1, 1, P), 0.0)
        attended = []
        for values in (v, u):
            near = torch.einsum("bgij,bgje->bgie", weights, values)
            product = torch.einsum("bgnd,bgne->bde", lin_k, values) / L
            far = torch.einsum("bgnd,bde->bgne", lin_q, product)
            attended.append((near + far).flatten(1, 2)[:, :L])
        return attended


class ChannelNorm(nn.LayerNorm):
    """A layer norm of frames that lie channels first."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


class DenseMemory(nn.Module):
    """Two depthwise convolutions along L of planes (B, C, L, 1), the second of all before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for layer, dilation in ((1, 1), (2, 2)):
            pad = nn.ConstantPad2d((0, 0, 19 * dilation, 19 * dilation), 0.0)
            conv = nn.Conv2d(
                channels * layer,
                channels,
                (39, 1),
                dilation=(dilation, 1),
                groups=channels,
                bias=False,
            )
            self.add_module(f"pad{layer}", pad)
            self.add_module(f"conv{layer}", conv)
            self.add_module(f"norm{layer}", nn.InstanceNorm2d(channels, affine=True))
            self.add_module(f"prelu{layer}", nn.PReLU(channels))

    def forward(self, x: Tensor) -> Tensor:
        before, out = x, x
        for layer in (1, 2):
            out = before
            for part in ("pad", "conv", "norm", "prelu"):
                out = self.get_submodule(f"{part}{layer}")(out)
            before = torch.cat([out, before], dim=1)
        return out


class Memory(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.project = nn.Linear(channels, channels, bias=False)
        self.conv = DenseMemory(channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.project(F.relu(self.linear(x)))
        planes = hidden.unsqueeze(1).permute(0, 3, 2, 1)  # (B, C, L, 1)
        return x + self.conv(planes).permute(0, 3, 2, 1).squeeze(1)


class GatedMemory(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_u = Projection(nn.LayerNorm(channels), channels, channels, DROPOUT)
        self.to_v = Projection(nn.LayerNorm(channels), channels, channels, DROPOUT)
        self.fsmn = Memory(channels)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.to_u(x), self.to_v(x)
        return v * self.fsmn(u) + x


class MemoryBlock(nn.Module):
    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv1d(width, channels, 1), nn.PReLU())
        self.norm1 = ChannelNorm(channels)
        self.gated_fsmn = GatedMemory(channels)
        self.norm2 = ChannelNorm(channels)
        self.conv2 = nn.Conv1d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm1(self.conv1(x.transpose(1, 2)))
        hidden = self.gated_fsmn(hidden.transpose(1, 2))
        return x + self.conv2(self.norm2(hidden.transpose(1, 2))).transpose(1, 2)


class BlockList(nn.Module):
    """Attention blocks, each followed by its memory block where there are any."""

    def __init__(self, config: MossFormerConfig, memory_channels: int | None = None) -> None:
        super().__init__()
        count = range(config.num_blocks)
        self.layers = nn.ModuleList(GatedAttention(config) for _ in count)
        if memory_channels is not None:
            self.fsmn = nn.ModuleList(MemoryBlock(config.d_model, memory_channels) for _ in count)

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if hasattr(self, "fsmn"):
                x = self.fsmn[number](x)
        return x


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        L, N = x.shape[1:]
        rates = 1 / 10_000.0 ** (torch.arange(0, N, 2).float() / N)
        angles = torch.einsum("l,n->ln", torch.arange(L).float(), rates)
        return torch.cat([angles.sin(), angles.cos()], dim=-1) * self.scale


class MaskNet(nn.Module):
    """frames (B, N, L) -> masks (S, B, N, L); `mdl` has the blocks and the norm after them."""

    def __init__(self, config: MossFormerConfig, mdl: nn.ModuleDict) -> None:
        super().__init__()
        N, S = config.d_model, config.num_spks
        self.num_spks = S
        self.norm = nn.GroupNorm(1, N, eps=1e-8)
        self.conv1d_encoder = nn.Conv1d(N, N, 1, bias=False)
        self.pos_enc = Positions()
        self.mdl = mdl
        self.prelu = nn.PReLU()
        self.conv1d_out = nn.Conv1d(N, N * S, 1)
        self.output = nn.Sequential(nn.Conv1d(N, N, 1), nn.Tanh())
        self.output_gate = nn.Sequential(nn.Conv1d(N, N, 1), nn.Sigmoid())
        self.conv1_decoder = nn.Conv1d(N, N, 1, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        B, N, L = frames.shape
        x = self.conv1d_encoder(self.norm(frames)).transpose(1, 2)
        x = (x + self.pos_enc(x)).transpose(1, 2)
        blocks, norm = self.mdl.values()
        x = self.prelu(norm(blocks(x.transpose(1, 2)).transpose(1, 2)) + x)
        x = self.conv1d_out(x).view(B * self.num_spks, N, L)
        x = self.conv1_decoder(self.output(x) * self.output_gate(x))
        return F.relu(x).view(B, self.num_spks, N, L).transpose(0, 1)


def encoder(config: MossFormerConfig) -> nn.Sequential:
    K, N = config.kernel_size, config.d_model
    return chain(conv1d=nn.Conv1d(1, N, K, config.stride, bias=False), relu=nn.ReLU())


def decoder(config: MossFormerConfig) -> nn.ConvTranspose1d:
    K, N = config.kernel_size, config.d_model
    return nn.ConvTranspose1d(N, 1, K, config.stride, bias=config.bias)


def separated(x: Tensor, encoder: nn.Module, mask_net: nn.Module, decoder: nn.Module) -> Tensor:
    """x (B, T) -> (B, S, T)."""
    frames = encoder(x.unsqueeze(1))  # (B, N, L)
    parts = mask_net(frames) * frames  # (S, B, N, L)
    signals = torch.stack([decoder(part).squeeze(1) for part in parts], dim=1)
    return F.pad(signals, (0, x.shape[1] - signals.shape[2]))


class PublishedMossFormer(nn.Module):
    """(B, T) -> (B, S, T); takes `MossFormer.published_state()`. Norms "ln", not causal."""

    def __init__(self, config: MossFormerConfig) -> None:
        super().__init__()
        N = config.d_model
        blocks = chain(mossformerM=BlockList(config), norm=chain(norm=nn.LayerNorm(N, eps=1e-6)))
        mdl = nn.ModuleDict({"att_mdl": blocks, "att_norm": nn.GroupNorm(1, N, eps=1e-8)})
        self.encoder = encoder(config)
        self.mask_net = MaskNet(config, mdl)
        self.decoder = decoder(config)

    def forward(self, x: Tensor) -> Tensor:
        return separated(x, self.encoder, self.mask_net, self.decoder)


class PublishedMossFormer2(nn.Module):
    """(B, T) -> (B, S, T); takes `MossFormer2.published_state()`."""

    def __init__(self, config: MossFormer2Config) -> None:
        super().__init__()
        shell = config.shell
        N = shell.d_model
        blocks = chain(
            mossformerM=BlockList(shell, config.inner_channels), norm=nn.LayerNorm(N, eps=1e-6)
        )
        mdl = nn.ModuleDict({"intra_mdl": blocks, "intra_norm": nn.GroupNorm(1, N, eps=1e-8)})
        self.model = nn.ModuleDict(
            {"enc": encoder(shell), "mask_net": MaskNet(shell, mdl), "dec": decoder(shell)}
        )

    def forward(self, x: Tensor) -> Tensor:
        return separated(x, *self.model.values())


def published_form(ours: MossFormer | MossFormer2) -> nn.Module:
    """A network of the same configuration, with weights of its own."""
    if isinstance(ours, MossFormer2):
        return PublishedMossFormer2(ours.config)
    return PublishedMossFormer(ours.config)
