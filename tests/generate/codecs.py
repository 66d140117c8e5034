"""Codecs in place of the authors': some without a network, and tiny autoencoders for diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sigform_generate.sound import log_mel


class Shrinking:
    """Four channels of latents, an eighth as high and wide."""

    def encode(self, frames: Tensor) -> Tensor:
        small = F.avg_pool2d(frames.flatten(0, 1), 8).unflatten(0, frames.shape[:2])
        return torch.cat([small, small.mean(dim=2, keepdim=True)], dim=2)

    def decode(self, latents: Tensor) -> Tensor:
        large = F.interpolate(latents.flatten(0, 1)[:, :3], scale_factor=8)
        return large.unflatten(0, latents.shape[:2]).clamp(-1, 1)


class Hearing:
    """Eight equal channels of a spectrogram, a quarter as long and high."""

    def encode(self, sound: Tensor) -> Tensor:
        mel = log_mel(sound)[:, None]
        mel = F.pad(mel, (0, 0, 0, -mel.shape[2] % 4), value=-11.5)
        return (F.avg_pool2d(mel, 4) / 10 + 0.5).expand(-1, 8, -1, -1)

    def decode(self, latents: Tensor, samples: int) -> Tensor:
        return torch.zeros(len(latents), samples)


def tiny_vae() -> Any:
    """An autoencoder of pictures of the published shape, 4 channels of an eighth the side."""
    kl = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl")
    torch.manual_seed(0)
    return kl.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
    )


def tiny_sound_vae() -> Any:
    """The same of spectrograms, 8 channels of a quarter the length and height."""
    kl = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl")
    torch.manual_seed(0)
    return kl.AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=8,
        scaling_factor=0.9,
    )


def tiny_vocoder() -> Any:
    """A vocoder of 64 bands at 16 kHz."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SpeechT5HifiGanConfig(
        model_in_dim=64,
        sampling_rate=16_000,
        upsample_initial_channel=16,
        upsample_rates=[5, 4, 4, 2],
        upsample_kernel_sizes=[10, 8, 8, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
        normalize_before=False,
    )
    return transformers.SpeechT5HifiGan(config)


def saved_codecs(folder: Path) -> tuple[Path, Path]:
    """Folders such as --latents and --sound-latents take."""
    pictures, sounds = folder / "sd-vae", folder / "audioldm"
    tiny_vae().save_pretrained(pictures)
    tiny_sound_vae().save_pretrained(sounds / "vae")
    tiny_vocoder().save_pretrained(sounds / "vocoder")
    return pictures, sounds
