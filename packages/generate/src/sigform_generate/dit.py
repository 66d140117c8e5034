"""DiT: a transformer over latent patches that denoises images, conditioned by adaLN-Zero.

Peebles and Xie, "Scalable Diffusion Models with Transformers" (arXiv 2212.09748). Written from the
paper and checked against reference numbers; the published checkpoints (DiT-XL/2, non-commercial)
load through `upstream_diffusion`.

Letters of shapes: B batch, C channels, H height and W width of the latent, N patches, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from sigform_core.reference import load_views, read_config
from sigform_generate.adaln import (
    AdaBlock,
    Head,
    LabelEmbedder,
    Modulations,
    PatchEmbed,
    TimestepEmbedder,
    embedder_views,
    grid_positions,
    start_blocks,
    unpatchify,
)
from sigform_generate.policy import PLAIN, BlockPolicy, run_blocks
from sigform_generate.refine import Refine

GUIDED_CHANNELS = 3
"""Published guidance moves the first three channels only, whatever their number; kept."""


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The published constructor's arguments, and one of ours; sizes in pixels of the latent."""

    input_size: int = 32
    patch_size: int = 2
    in_channels: int = 4
    hidden_size: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    class_dropout_prob: float = 0.1
    num_classes: int = 1000
    learn_sigma: bool = True
    refine_channels: int = 0  # ours: width of the convolutions behind the head, none at 0

    def __post_init__(self) -> None:
        whole = ("input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads")
        for name in (*whole, "num_classes", "mlp_ratio"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; needs more than 0")
        if self.input_size % self.patch_size:
            raise ValueError(
                f"input_size is {self.input_size}; needs a multiple of patch_size {self.patch_size}"
            )
        if self.hidden_size % 4 or self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}; needs a multiple of 4 and of num_heads "
                f"{self.num_heads}"
            )
        if self.refine_channels < 0:
            raise ValueError(f"refine_channels is {self.refine_channels}; needs 0 or more")
        if not 0 <= self.class_dropout_prob < 1:
            raise ValueError(f"class_dropout_prob is {self.class_dropout_prob}; needs [0, 1)")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of an image, down and across."""
        side = self.input_size // self.patch_size
        return side, side

    @property
    def patch(self) -> tuple[int, int]:
        return self.patch_size, self.patch_size

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learn_sigma else 1)


def refinement(config: DiTConfig) -> Refine | None:
    """The convolutions behind the head, where the config has them."""
    if not config.refine_channels:
        return None
    return Refine(
        config.hidden_size, config.in_channels, config.out_channels, config.refine_channels
    )


def refinement_views(refine: Refine | None) -> dict[str, Tensor]:
    """Their parameters, which have no published names, under ours."""
    if refine is None:
        return {}
    return {f"refine.{name}": value for name, value in refine.named_parameters()}


class DiT(nn.Module):
    """x (B, C, H, W), timesteps t (B,), labels y (B,) -> (B, 2C or C, H, W).

    The first C channels are the prediction, the others (with `learn_sigma`) the variance's
    interpolation. Raises ValueError for an image of another size.
    """

    pos_embed: Tensor

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.config = config
        self.patches = PatchEmbed(config.in_channels, config.patch, dim)
        self.time = TimestepEmbedder(dim)
        self.label = LabelEmbedder(config.num_classes, dim, config.class_dropout_prob)
        self.register_buffer("pos_embed", grid_positions(config.grid, dim), persistent=False)
        self.blocks = nn.ModuleList(
            AdaBlock(dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        start_blocks(self.blocks)
        self.modulations = Modulations(dim, config.depth)
        self.head = Head(dim, config.patch_size**2 * config.out_channels)
        self.refine = refinement(config)

    @classmethod
    def from_reference(cls, config: Mapping[str, object], state: Mapping[str, Tensor]) -> Self:
        """Load published names; raises ValueError naming what is missing or does not fit."""
        known: dict[str, Any] = read_config(config, DiTConfig)
        model = cls(DiTConfig(**known))
        return load_views(model, model.published_state(), state, ignore=("pos_embed",))

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
        """Images (B, C, H, W) -> tokens with positions (B, N, D)."""
        wanted = (self.config.in_channels, self.config.input_size, self.config.input_size)
        if x.ndim != 4 or x.shape[1:] != wanted:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; this model needs (B, {', '.join(map(str, wanted))})"
            )
        return self.patches(x) + self.pos_embed

    def condition(self, t: Tensor, y: Tensor) -> Tensor:
        """Timesteps (B,) and labels (B,) -> (B, D)."""
        return self.time(t) + self.label(y)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, *, policy: BlockPolicy = PLAIN) -> Tensor:
        condition = self.condition(t, y)
        blocks, head = self.modulations(condition)
        tokens = run_blocks(policy, self.blocks, self.embed(x), blocks)  # (B, N, D)
        return self.finish(self.head(tokens, head), x, condition)

    def finish(self, tokens: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        """The head's output (B, ..., N, P * P * out_channels) as pictures, refined if so made."""
        guess = self.unpatch(tokens)
        return guess if self.refine is None else self.refine(guess, x, condition)

    def unpatch(self, tokens: Tensor) -> Tensor:
        """The head's output (..., N, P * P * out_channels) -> (..., out_channels, H, W)."""
        config = self.config
        return unpatchify(tokens, config.grid, config.patch, config.out_channels)

    def guided(
        self, x: Tensor, t: Tensor, y: Tensor, scale: float, *, policy: BlockPolicy = PLAIN
    ) -> Tensor:
        """Classifier-free guidance: with and without the label in one batch, (B, 2C or C, H, W).

        The prediction of the first three channels becomes none + scale * (labelled - none), the
        other channels are the labelled ones'. Raises ValueError for a model without "no class".
        """
        if self.config.class_dropout_prob == 0:
            raise ValueError("class_dropout_prob is 0; guidance needs a model trained with it")
        nothing = torch.full_like(y, self.config.num_classes)
        both = self(x.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([y, nothing]), policy=policy)
        with_label, without = both.chunk(2)
        few = slice(None, GUIDED_CHANNELS)
        moved = without[:, few] + scale * (with_label[:, few] - without[:, few])
        return torch.cat([moved, with_label[:, GUIDED_CHANNELS:]], dim=1)
