"""AV-DiT: one frozen image transformer makes video and its sound, through small inserted layers.

Wang et al., "AV-DiT: Efficient Audio-Visual Diffusion Transformer for Joint Audio and Video
Generation" (arXiv 2406.07686). There is no published code and there are no weights. From the
paper: the frozen DiT shared by both branches, trainable temporal attention inside each block,
light adapters for the audio, the block's own frozen self-attention to fuse both. Our reading,
where the paper's text was not to be had: where exactly the layers sit, their ranks, what the
fusion attends over, fixed positions in time.

Letters of shapes: B batch, T frames, C and A channels of video and audio, (H, W) picture,
(F, M) spectrogram, N patches of a frame, K patches of the spectrogram, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.linear import Linear
from sigform_generate.adaln import (
    AdaBlock,
    Additions,
    Head,
    PatchEmbed,
    SelfAttention,
    gated,
    grid_positions,
    unpatchify,
)
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.policy import PLAIN, BlockPolicy, run_blocks

Pair = tuple[Tensor, Tensor]
"""Tokens of video (B, T, N, D) and of audio (B, K, D)."""


@dataclass(frozen=True, kw_only=True)
class AVDiTConfig:
    """The frozen DiT, and the layers around it; the defaults are the paper's sizes.

    With latents of 16 frames of 256x256 and of 1.6 s of sound 158 M parameters are trained.
    """

    backbone: DiTConfig = field(default_factory=DiTConfig)
    frames: int = 16
    audio_channels: int = 8
    audio_size: tuple[int, int] = (40, 16)  # in time, in frequency
    audio_patch: tuple[int, int] = (2, 2)
    lora_rank: int = 8  # of the audio's additions to a block's four layers
    adapter_rank: int = 32  # width of the audio's bottleneck beside the feed-forward
    fusion_rank: int = 16  # of the additions to the attention that fuses
    fusion_grid: int = 1  # means of a frame that fusion sees, down and across; all: backbone's grid

    def __post_init__(self) -> None:
        whole = ("frames", "audio_channels", "lora_rank", "adapter_rank", "fusion_rank")
        for name in (*whole, "fusion_grid"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs 1 or more")
        for size, patch in zip(self.audio_size, self.audio_patch, strict=True):
            if patch < 1 or size < 1 or size % patch:
                raise ValueError(
                    f"audio_patch is {self.audio_patch}; needs to fill {self.audio_size}"
                )
        if self.backbone.grid[0] % self.fusion_grid:
            raise ValueError(
                f"fusion_grid is {self.fusion_grid}; needs to divide {self.backbone.grid[0]}"
            )

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Patches of the spectrogram, in time and in frequency."""
        (f, m), (p, q) = self.audio_size, self.audio_patch
        return f // p, m // q

    @property
    def audio_out_channels(self) -> int:
        return self.audio_channels * (2 if self.backbone.learn_sigma else 1)


class AVDiT(nn.Module):
    """video (B, T, C, H, W), audio (B, A, F, M), timesteps t (B,) -> both denoised.

    Outputs have the channels of the inputs, twice as many with the backbone's `learn_sigma`; both
    modalities are at the same t. At the start, video is what the DiT makes of each frame alone
    and audio is zero. Raises ValueError for other sizes than the config's.
    """

    audio_positions: Tensor
    frame_times: Tensor
    audio_times: Tensor

    def __init__(self, config: AVDiTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.backbone.hidden_size
        self.backbone = DiT(config.backbone).requires_grad_(False)
        self.audio_patches = PatchEmbed(config.audio_channels, config.audio_patch, dim)
        outputs = config.audio_patch[0] * config.audio_patch[1] * config.audio_out_channels
        self.audio_head = Head(dim, outputs)
        self.inserted = nn.ModuleList(Inserted(config) for _ in range(config.backbone.depth))
        rows, columns = config.audio_grid
        frames = torch.arange(config.frames, dtype=torch.float64)
        # Both begin together: row r of the spectrogram is heard at frame r * T / rows.
        heard = torch.arange(rows, dtype=torch.float64) * (config.frames / rows)
        for name, value in (
            ("audio_positions", grid_positions((rows, columns), dim)),
            ("frame_times", time_positions(frames, dim)),
            ("audio_times", time_positions(heard.repeat_interleave(columns), dim)),
        ):
            self.register_buffer(name, value, persistent=False)

    @classmethod
    def around(cls, backbone: DiT, config: AVDiTConfig) -> Self:
        """A new model with the weights of a trained DiT; raises ValueError for another config."""
        if backbone.config != config.backbone:
            raise ValueError(f"backbone is {backbone.config}; needs {config.backbone}")
        model = cls(config)
        model.backbone.load_state_dict(backbone.state_dict())
        return model

    def trainable_parameters(self) -> int:
        """How many numbers training changes."""
        return sum(value.numel() for value in self.parameters() if value.requires_grad)

    def frozen_parameters(self) -> int:
        """How many numbers stay the DiT's."""
        return sum(value.numel() for value in self.parameters() if not value.requires_grad)

    def forward(
        self, video: Tensor, audio: Tensor, t: Tensor, *, policy: BlockPolicy = PLAIN
    ) -> Pair:
        self._check(video, audio)
        dit = self.backbone
        # The backbone's label is always "no class", or its only one.
        none = dit.config.num_classes if dit.config.class_dropout_prob > 0 else 0
        condition = dit.condition(t, torch.full_like(t, none, dtype=torch.long))  # (B, D)
        conditions, head = dit.modulations(condition)
        seen = dit.embed(video.flatten(0, 1)).unflatten(0, video.shape[:2])  # (B, T, N, D)
        heard = self.audio_patches(audio) + self.audio_positions  # (B, K, D)
        seen, heard = run_blocks(policy, self.steps(), (seen, heard), conditions)
        sound = unpatchify(
            self.audio_head(heard, head),
            self.config.audio_grid,
            self.config.audio_patch,
            self.config.audio_out_channels,
        )
        return dit.finish(dit.head(seen, head), video, condition), sound

    def steps(self) -> list[Callable[[Pair, Tensor], Pair]]:
        """The blocks as the policy runs them: from a pair of tokens to a pair."""
        times = (self.frame_times, self.audio_times)
        return [
            partial(cast(Inserted, inserted), cast(AdaBlock, block), times)
            for inserted, block in zip(self.inserted, self.backbone.blocks, strict=True)
        ]

    def _check(self, video: Tensor, audio: Tensor) -> None:
        config = self.config
        size = config.backbone.input_size
        clip = (config.frames, config.backbone.in_channels, size, size)
        image = (config.audio_channels, *config.audio_size)
        for what, got, wanted in (("video", video, clip), ("audio", audio, image)):
            if got.shape[1:] != wanted or len(got) != len(video):
                raise ValueError(f"{what} has shape {tuple(got.shape)}; needs (B, {wanted})")


class Inserted(nn.Module):
    """The trained layers around one frozen block, which is given: pair of tokens -> pair."""

    def __init__(self, config: AVDiTConfig) -> None:
        super().__init__()
        dim = config.backbone.hidden_size
        hidden = int(dim * config.backbone.mlp_ratio)
        self.grid = config.backbone.grid
        self.fusion_grid = config.fusion_grid
        self.temporal = TemporalAttention(dim, config.backbone.num_heads)
        shapes = {
            "qkv": (dim, 3 * dim),
            "proj": (dim, dim),
            "up": (dim, hidden),
            "down": (hidden, dim),
        }
        self.audio = nn.ModuleDict(
            {name: LowRank(*shape, config.lora_rank) for name, shape in shapes.items()}
        )
        self.adapter = Adapter(dim, config.adapter_rank)
        self.fusion = nn.ModuleDict(
            {name: LowRank(*shapes[name], config.fusion_rank) for name in ("qkv", "proj")}
        )
        self.video_gate = nn.Parameter(torch.zeros(dim))
        self.audio_gate = nn.Parameter(torch.zeros(dim))

    def forward(self, block: AdaBlock, times: Pair, tokens: Pair, condition: Tensor) -> Pair:
        video, audio = tokens
        video = video + self.temporal(video, times[0])
        video = block(video, condition)
        audio = self.adapt(block, audio, condition)
        return self.fuse(block, times, (video, audio), condition)

    def adapt(self, block: AdaBlock, audio: Tensor, condition: Tensor) -> Tensor:
        """The block with low-rank additions, and the bottleneck beside its feed-forward."""
        add = _additions(self.audio)
        branch = block.attention_branch(audio, condition, add)
        audio = gated(audio, condition[:, 2], branch)
        branch = block.mlp_branch(audio, condition, add)
        return gated(audio, condition[:, 5], branch) + self.adapter(audio)

    def fuse(self, block: AdaBlock, times: Pair, tokens: Pair, condition: Tensor) -> Pair:
        """The block's attention over means of the frames and all audio tokens, both gated."""
        video, audio = tokens
        means = self._pool(video)  # (B, T, G * G, D)
        timed = means + times[0][:, None]
        joint = torch.cat([timed.flatten(1, 2), audio + times[1]], dim=1)
        mixed = block.attention_branch(joint, condition, _additions(self.fusion))
        seen, heard = mixed.split([timed.shape[1] * timed.shape[2], audio.shape[1]], dim=1)
        video = video + self._spread(self.video_gate * seen.view_as(timed))
        return video, audio + self.audio_gate * heard

    def _pool(self, video: Tensor) -> Tensor:
        """Tokens (B, T, N, D) -> means of G x G parts of each frame (B, T, G * G, D)."""
        (h, w), g = self.grid, self.fusion_grid
        parts = video.unflatten(2, (g, h // g, g, w // g))  # (B, T, G, h/G, G, w/G, D)
        return parts.mean(dim=(3, 5)).flatten(2, 3)

    def _spread(self, means: Tensor) -> Tensor:
        """Means (B, T, G * G, D) -> each for all tokens of its part (B, T, N, D)."""
        (h, w), g = self.grid, self.fusion_grid
        parts = means.unflatten(2, (g, 1, g, 1))
        return parts.expand(-1, -1, g, h // g, g, w // g, -1).flatten(2, 5)


def _additions(layers: nn.ModuleDict) -> Additions:
    """Low-rank layers by the names of the block's layers that they stand beside."""
    return {name: cast(LowRank, layer) for name, layer in layers.items()}


class TemporalAttention(nn.Module):
    """Attention of each patch over time: tokens (B, T, N, D), times (T, D) -> what to add.

    Zero at the start. The fixed times join the normalised tokens, so the frozen block never meets
    them.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = SelfAttention(dim, heads)
        nn.init.xavier_uniform_(self.attention.qkv.weight)
        nn.init.zeros_(self.attention.qkv.bias)
        nn.init.zeros_(self.attention.proj.weight)
        nn.init.zeros_(self.attention.proj.bias)

    def forward(self, tokens: Tensor, times: Tensor) -> Tensor:
        lines = (self.norm(tokens) + times[:, None]).transpose(1, 2)  # (B, N, T, D)
        return self.attention(lines).transpose(1, 2)


class LowRank(nn.Module):
    """A low-rank addition to a frozen linear layer (LoRA, arXiv 2106.09685), zero at the start."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.down = Linear(inputs, rank, bias=False)
        self.up = Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


class Adapter(nn.Module):
    """A bottleneck (arXiv 1902.00751) over normalised tokens (..., D), zero at the start."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.down = Linear(dim, rank)
        self.up = Linear(rank, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.gelu(self.down(F.layer_norm(x, x.shape[-1:], eps=1e-6))))


def time_positions(places: Tensor, dim: int) -> Tensor:
    """Fixed positions of places in time (n,), in frames, whole or not -> (n, D), float32."""
    rates = 10000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angles = places[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
