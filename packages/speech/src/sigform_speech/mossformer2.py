"""MossFormer2: MossFormer with a memory block, free of recurrence, after every attention block.

Zhao et al., "MossFormer2: Combining Transformer and RNN-Free Recurrent Network for Enhanced
Time-Domain Monaural Speech Separation" (arXiv 2312.11825). The checkpoints that are published on
ModelScope, in ClearerVoice-Studio and as `mossformer2-librimix-2spk`, `mossformer2-wsj0mix-3spk`
and `mossformer2-whamr-2spk` load through `upstream`.

Encoder, masks, decoder and attention are those of `mossformer`, and so is the layout, channels
last. The letters are too; C are the channels within a memory block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.depthwise import depthwise
from sigform_core.linear import linear
from sigform_core.reference import load_views, read_config
from sigform_speech.mossformer import (
    CONVOLUTION,
    DERIVED,
    ROTARY_CHANNELS,
    SHELL_NAMES,
    GatedAttention,
    MaskingNetwork,
    MossFormerConfig,
    Names,
    block_turns,
    convolve_frames,
    published_views,
)

MEMORY = 39
"""Frames that a memory's first convolution spans; the second spans twice as many, less one."""

DROPOUT = 0.1
"""Of every projection and of the attention, which published code lets nobody choose."""

PUBLISHED_NAMES: Names = (
    (r"^encoder$", "enc.conv1d.weight"),
    (r"^decoder$", "dec.weight"),
    *SHELL_NAMES,
    (r"mask_net\.blocks\.(layers|memories)\.", r"mask_net.mdl.intra_mdl.mossformerM.\1."),
    (r"mask_net\.blocks\.norm\.", "mask_net.mdl.intra_mdl.norm."),
    (r"mask_net\.blocks_norm\.", "mask_net.mdl.intra_norm."),
    (r"\.memories\.", ".fsmn."),
    (r"\.enter\.", ".conv1.0."),
    (r"\.prelu_in\.", ".conv1.1."),
    (r"\.leave\.", ".conv2."),
    (r"\.gate\.memory\.", ".gated_fsmn.fsmn."),
    (r"\.gate\.", ".gated_fsmn."),
    (r"\.dense\.", ".conv."),
    (r"^", "model."),
)

_ABOUT = ("model", "seed", "note", "n_params", "torch", "rotary_embedding_torch")
"""Keys of a reference's configuration that say where it is from."""


@dataclass(frozen=True, kw_only=True)
class MossFormer2Config:
    """The published arguments and what published code fixes; the defaults have 55.74 M parameters.

    Published code takes two widths, which only work when they are equal, and an
    `expansion_factor` of 4. Raises ValueError otherwise.
    """

    encoder_embedding_dim: int = 512  # N
    mossformer_sequence_dim: int = 512
    num_mossformer_layer: int = 24
    encoder_kernel_size: int = 16  # K, samples; frames are half of it apart
    num_spks: int = 2  # S
    inner_channels: int = 256  # C
    group_size: int = 256  # P, frames
    query_key_dim: int = 128  # D
    expansion_factor: float = 4.0
    sample_rate: int = 16_000  # Hz, of the signals that it was trained on; 8000 in some checkpoints

    def __post_init__(self) -> None:
        for name in ("num_mossformer_layer", "inner_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs 1 or more")
        if self.encoder_embedding_dim != self.mossformer_sequence_dim:
            raise ValueError(
                f"encoder_embedding_dim and mossformer_sequence_dim are "
                f"{self.encoder_embedding_dim} and {self.mossformer_sequence_dim}; needs one number"
            )
        _ = self.shell  # raises for the rest

    @property
    def shell(self) -> MossFormerConfig:
        """The MossFormer with the same encoder, decoder and attention blocks."""
        return MossFormerConfig(
            in_channels=self.encoder_embedding_dim,
            out_channels=self.encoder_embedding_dim,
            d_model=self.encoder_embedding_dim,
            kernel_size=self.encoder_kernel_size,
            stride=self.encoder_kernel_size // 2,
            num_blocks=self.num_mossformer_layer,
            group_size=self.group_size,
            query_key_dim=self.query_key_dim,
            expansion_factor=self.expansion_factor,
            attn_dropout=DROPOUT,
            num_spks=self.num_spks,
            sample_rate=self.sample_rate,
        )


class Projection(nn.Module):
    """LayerNorm, a linear layer, SiLU and a depthwise convolution around a skip: (B, L, C) -> same.

    `project_normed` makes several of them at once.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Linear(channels, channels)
        self.conv = nn.Conv1d(channels, channels, CONVOLUTION, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return project_normed(x, [self])


def project_normed(x: Tensor, modules: Sequence[Projection]) -> Tensor:
    """The outputs of modules on the same x (B, L, C), side by side: (B, L, C1 + C2 + ...).

    One norm, one product and one convolution for all, as `mossformer.project`.
    """
    products = [folded(module.norm, module.linear) for module in modules]
    weight = torch.cat([weight for weight, _ in products])
    bias = torch.cat([bias for _, bias in products])
    kernels = torch.cat([module.conv.weight for module in modules])  # (C1 + C2 + ..., 1, 17)
    hidden = F.silu(linear(F.layer_norm(x, x.shape[-1:]), weight, bias))
    hidden = convolve_frames(hidden, kernels, skip=True)
    return F.dropout(hidden, DROPOUT, modules[0].training)


def folded(norm: nn.LayerNorm, layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias that do a norm's scale and shift and then a layer, in one product."""
    return layer.weight * norm.weight, torch.addmv(layer.bias, layer.weight, norm.bias)


class DenseMemory(nn.Module):
    """Two depthwise convolutions over the past and future, the second of both inputs (figure 3).

    (B, L, C) -> (B, L, C). The published second convolution reads the concatenation of the first
    one's output and its input two channels at a time, so that half of its outputs come from one of
    them and half from the other; kept, so that its weights load.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = (MEMORY, 1)
        self.conv1 = nn.Conv2d(channels, channels, kernel, groups=channels, bias=False)
        self.norm1 = nn.InstanceNorm2d(channels, affine=True)
        self.prelu1 = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(2 * channels, channels, kernel, groups=channels, bias=False)
        self.norm2 = nn.InstanceNorm2d(channels, affine=True)
        self.prelu2 = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = convolve_frames(x, self.conv1.weight.squeeze(3))
        out = channel_prelu(norm_frames(out, self.norm1), self.prelu1)
        pairs = torch.cat([out, x], dim=-1)  # (B, L, 2 C)
        kernels = self.conv2.weight.view(-1, 1, MEMORY)  # (2 C, 1, 39)
        pairs = depthwise(pairs, kernels, dilation=2)
        out = pairs[..., 0::2] + pairs[..., 1::2]
        return channel_prelu(norm_frames(out, self.norm2), self.prelu2)


def norm_frames(x: Tensor, norm: nn.InstanceNorm2d) -> Tensor:
    """Every channel of x (B, L, C) brought to the norm's scale and shift over all frames."""
    mean = x.float().mean(1, keepdim=True)
    centred = x - mean.to(x.dtype)
    deviation = centred.float().square().mean(1, keepdim=True).add(norm.eps).sqrt()
    return torch.addcmul(norm.bias, centred, (norm.weight / deviation).to(x.dtype))


def channel_prelu(x: Tensor, prelu: nn.PReLU) -> Tensor:
    """PReLU of x (B, L, C) with a slope for each channel."""
    return F.prelu(x.transpose(1, 2), prelu.weight).transpose(1, 2)


class Memory(nn.Module):
    """A feed-forward sequential memory (arXiv 1803.05030) with dense convolutions: same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.project = nn.Linear(channels, channels, bias=False)
        self.dense = DenseMemory(channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = linear(x, self.linear.weight, self.linear.bias).relu()
        return x + self.dense(linear(hidden, self.project.weight))


class GatedMemory(nn.Module):
    """A memory of one projection, gated by another, around a skip: (B, L, C) -> same (figure 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_u = Projection(channels)
        self.to_v = Projection(channels)
        self.memory = Memory(channels)

    def forward(self, x: Tensor) -> Tensor:
        u, v = project_normed(x, [self.to_u, self.to_v]).chunk(2, dim=-1)
        return torch.addcmul(x, self.memory(u.contiguous()), v)


class MemoryBlock(nn.Module):
    """A gated memory at a width of its own, around a skip: (B, L, N) -> (B, L, N) (section 2.2)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, channels)
        self.prelu_in = nn.PReLU()
        self.norm1 = nn.LayerNorm(channels)
        self.gate = GatedMemory(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.leave = nn.Linear(channels, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = x.to(self.enter.weight.dtype)
        hidden = self.prelu_in(linear(inner, self.enter.weight, self.enter.bias))
        hidden = F.layer_norm(self.gate(self.norm1(hidden)), hidden.shape[-1:])
        return x + linear(hidden, *folded(self.norm2, self.leave)).to(x.dtype)


class Blocks(nn.Module):
    """The stack of attention and memory blocks in turn, a norm at its end: (B, L, N) -> same."""

    def __init__(self, config: MossFormer2Config) -> None:
        super().__init__()
        N, C = config.encoder_embedding_dim, config.inner_channels
        count = config.num_mossformer_layer
        self.layers = nn.ModuleList(GatedAttention(config.shell) for _ in range(count))
        self.memories = nn.ModuleList(MemoryBlock(N, C) for _ in range(count))
        self.norm = nn.LayerNorm(N, eps=1e-6)
        self.turned = min(ROTARY_CHANNELS, config.query_key_dim)

    def forward(self, x: Tensor) -> Tensor:
        turns = block_turns(x, self.turned)
        for layer, memory in zip(self.layers, self.memories, strict=True):
            x = memory(layer(x, turns))
        return self.norm(x)


class MossFormer2(MaskingNetwork):
    """The published network: (B, T) -> (B, S, T), see `mossformer.MaskingNetwork`."""

    def __init__(self, config: MossFormer2Config | None = None) -> None:
        self.config = config or MossFormer2Config()
        super().__init__(self.config.shell, Blocks(self.config))

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        """The network with published weights, in eval mode.

        `config` has our fields, or published arguments as `args` and `block_kwargs`, beside
        `inner_channels`. Raises ValueError naming what is missing, unexpected or of another shape.
        """
        nested = ("args", "block_kwargs")
        flat = {key: value for key, value in config.items() if key not in nested}
        for name in nested:
            flat |= config.get(name, {})
        known: dict[str, Any] = read_config(flat, MossFormer2Config, ignore=_ABOUT)
        network = cls(MossFormer2Config(**known))
        return load_views(network, network.published_state(), state, ignore=DERIVED)

    def body_to(self, dtype: torch.dtype) -> Self:
        """Calculate inside the blocks in `dtype`; what runs past them stays as it is."""
        self.mask_net.blocks.memories.to(dtype)  # pyright: ignore[reportAttributeAccessIssue]
        return super().body_to(dtype)

    def published_state(self) -> dict[str, Tensor]:
        """The weights under their published names and shapes."""
        return published_views(self, PUBLISHED_NAMES)

    def config_dict(self) -> dict[str, Any]:
        """The configuration as plain values, for a weight file."""
        return asdict(self.config)
