"""VDT: a transformer that denoises whole clips, with attention over time before that over space.

Lu et al., "VDT: General-purpose Video Diffusion Transformers via Mask Modeling" (arXiv
2305.13311). Written from the paper and checked against reference numbers; the published checkpoint
(non-commercial) loads through `upstream_diffusion`. Unified masked modelling is in `masks`: the
given frames enter clean, and nothing else tells the network which they are.

Letters of shapes: B batch, T frames, C channels, H height and W width of the latent, N patches of
a frame, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from sigform_core.linear import Linear
from sigform_core.reference import load_views, read_config
from sigform_generate.adaln import (
    AdaBlock,
    Head,
    LabelEmbedder,
    Modulations,
    PatchEmbed,
    SelfAttention,
    TimestepEmbedder,
    embedder_views,
    grid_positions,
    line_positions,
    start_blocks,
    unpatchify,
)
from sigform_generate.dit import DiTConfig, refinement, refinement_views
from sigform_generate.policy import PLAIN, BlockPolicy, run_blocks


@dataclass(frozen=True, kw_only=True)
class VDTConfig(DiTConfig):
    """The published constructor's arguments: those of DiT, and the length of a clip."""

    num_frames: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}; needs 1 or more")
        if self.hidden_size % 2:
            raise ValueError(f"hidden_size is {self.hidden_size}; needs an even number")


PUBLISHED = {
    "VDT-S/2": VDTConfig(hidden_size=384, depth=12, num_heads=6),
    "VDT-L/2": VDTConfig(hidden_size=1152, depth=28, num_heads=16),
}
"""The published sizes, for latents of 32 x 32 and 16 frames."""

TOKENS = 2048
"""How many a block works on at a time where no gradients are kept; more was no faster."""


class VDTBlock(AdaBlock):
    """Attention over time, plain and ungated, then DiT's block on each frame (section 3.2).

    Tokens (B, T, N, D), modulation (B, 6, D), shared by all frames -> tokens.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__(dim, heads, mlp_ratio)
        self.time_norm = nn.LayerNorm(dim)
        self.time_attention = SelfAttention(dim, heads)
        self.time_out = Linear(dim, dim)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():
            return super().forward(self.over_time(x), modulation)
        # Patches do not meet in time, nor frames in space: in parts it needs less memory.
        batch, frames, patches, _ = x.shape
        out = torch.empty_like(x)
        across = max(1, TOKENS // (batch * frames))
        for part, place in zip(x.split(across, dim=2), out.split(across, dim=2), strict=True):
            place.copy_(self.over_time(part))
        along = max(1, TOKENS // (batch * patches))
        for place in out.split(along, dim=1):
            place.copy_(super().forward(place, modulation))
        return out

    def over_time(self, x: Tensor) -> Tensor:
        """Tokens (B, T, N, D) after each patch has looked at itself in all frames."""
        return x + self.time_attention.across(self.time_norm(x), self.time_out)

    def published_views(self, prefix: str) -> dict[str, Tensor]:
        layers = {
            "temporal_norm1": self.time_norm,
            "temporal_attn.qkv": self.time_attention.qkv,
            "temporal_attn.proj": self.time_attention.proj,
            "temporal_fc": self.time_out,
        }
        views = super().published_views(prefix)
        for name, layer in layers.items():
            views[f"{prefix}.{name}.weight"] = layer.weight
            views[f"{prefix}.{name}.bias"] = layer.bias
        return views


class VDT(nn.Module):
    """x (B, T, C, H, W), timesteps t (B,) -> (B, T, 2C or C, H, W).

    The first C channels are the prediction, the others (with `learn_sigma`) the variance's
    interpolation. Raises ValueError for a clip of another size or length: positions in time are
    fixed. The label is always 0, as published, but for what training drops.
    """

    pos_embed: Tensor
    time_embed: Tensor

    def __init__(self, config: VDTConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.config = config
        self.patches = PatchEmbed(config.in_channels, config.patch, dim)
        self.time = TimestepEmbedder(dim)
        self.label = LabelEmbedder(config.num_classes, dim, config.class_dropout_prob)
        self.register_buffer("pos_embed", grid_positions(config.grid, dim), persistent=False)
        self.register_buffer("time_embed", line_positions(config.num_frames, dim), persistent=False)
        self.blocks = nn.ModuleList(
            VDTBlock(dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        start_blocks(self.blocks)
        self.modulations = Modulations(dim, config.depth)
        self.head = Head(dim, config.patch_size**2 * config.out_channels)
        self.refine = refinement(config)

    @classmethod
    def from_reference(cls, config: Mapping[str, object], state: Mapping[str, Tensor]) -> Self:
        """Load published names; raises ValueError naming what is missing or does not fit."""
        known: dict[str, Any] = read_config(config, VDTConfig)
        model = cls(VDTConfig(**known))
        return load_views(model, model.published_state(), state, ignore=("pos_embed", "time_embed"))

    def config_dict(self) -> dict[str, Any]:
        """The config as `from_reference` takes it."""
        return asdict(self.config)

    def published_state(self) -> dict[str, Tensor]:
        """All parameters under their published names, sharing memory with the model."""
        views = embedder_views(self.patches, self.time, self.label, self.head)
        for number, block in enumerate(self.blocks):
            views |= block.published_views(f"blocks.{number}")  # pyright: ignore
        views |= self.modulations.published_views() | refinement_views(self.refine)
        return {name: view.detach() for name, view in views.items()}

    def embed(self, x: Tensor) -> Tensor:
        """Clips (B, T, C, H, W) -> tokens with positions (B, T, N, D)."""
        config = self.config
        wanted = (config.num_frames, config.in_channels, config.input_size, config.input_size)
        if x.ndim != 5 or x.shape[1:] != wanted:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; this model needs (B, {', '.join(map(str, wanted))})"
            )
        return self.patches(x) + self.pos_embed + self.time_embed[:, None]

    def condition(self, t: Tensor) -> Tensor:
        """Timesteps (B,) -> (B, D)."""
        return self.time(t) + self.label(torch.zeros(len(t), dtype=torch.long, device=t.device))

    def forward(self, x: Tensor, t: Tensor, *, policy: BlockPolicy = PLAIN) -> Tensor:
        condition = self.condition(t)
        blocks, head = self.modulations(condition)
        tokens = run_blocks(policy, self.blocks, self.embed(x), blocks)  # (B, T, N, D)
        config = self.config
        guess = unpatchify(self.head(tokens, head), config.grid, config.patch, config.out_channels)
        return guess if self.refine is None else self.refine(guess, x, condition)
