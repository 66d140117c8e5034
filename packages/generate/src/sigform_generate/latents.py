"""What a diffusion network sees of pictures and sound: pixels and spectrograms, or latents.

Small networks see pixels and log-mel spectrograms: nothing is downloaded. The published ones see
the latents of Stable Diffusion's image autoencoder, and AV-DiT those of AudioLDM's (arXiv
2301.12503) with its HiFi-GAN; both come from a folder that a person fetched, through diffusers
and transformers (`sigform-generate[latent]`).

Letters of shapes: B clips, T frames, (H, W) pixels, C and (h, w) latent channels and size,
N samples, F windows, M mel bands.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from sigform_generate.catalogue import AUDIOLDM, LICENCES, SD_VAE
from sigform_generate.sound import MelSettings, from_image, log_mel, to_image
from sigform_kit.errors import InputError

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import SpeechT5HifiGan

SD_SCALE = 0.18215
"""Latents of Stable Diffusion's autoencoder times this have a spread of about 1."""


class PictureCodec(Protocol):
    """Frames (B, T, 3, H, W) in [-1, 1] to what the network sees, (B, T, C, h, w), and back."""

    def encode(self, frames: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


class SoundCodec(Protocol):
    """Sound (B, N) in [-1, 1] to what the network sees, (B, A, F, M), and back to N samples."""

    def encode(self, sound: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor, samples: int) -> Tensor: ...


class PixelCodec:
    """The network sees the pixels."""

    def encode(self, frames: Tensor) -> Tensor:
        return frames

    def decode(self, latents: Tensor) -> Tensor:
        return latents.clamp(-1, 1)


class MelCodec:
    """The network sees a log-mel spectrogram (B, 1, F, M); Griffin-Lim brings the sound back."""

    def __init__(self, settings: MelSettings | None = None) -> None:
        self.settings = settings or MelSettings()

    def encode(self, sound: Tensor) -> Tensor:
        return to_image(sound, self.settings)

    def decode(self, latents: Tensor, samples: int) -> Tensor:
        return from_image(latents, samples, self.settings)


class SDVAECodec:
    """Stable Diffusion's autoencoder: latents (B, T, 4, H / 8, W / 8), the mean of each.

    `at_once` bounds how many frames are in memory together. Raises ValueError for pictures whose
    sides are no multiples of the autoencoder's factor.
    """

    def __init__(self, vae: AutoencoderKL, *, at_once: int = 4) -> None:
        self.vae: Any = vae.eval().requires_grad_(False)
        self.at_once = at_once
        self.scale = float(self.vae.config.scaling_factor or SD_SCALE)
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)

    @classmethod
    def load(cls, folder: Path, *, at_once: int = 4) -> SDVAECodec:
        """Raises InputError for a folder without such a model, or without diffusers."""
        return cls(_autoencoder(folder, SD_VAE), at_once=at_once)

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"frames are {height} x {width}; this autoencoder needs multiples of {self.factor}"
            )
        flat = frames.flatten(0, 1).to(self.vae.device)
        parts = [self.vae.encode(part).latent_dist.mode() for part in flat.split(self.at_once)]
        return torch.cat(parts).mul(self.scale).unflatten(0, frames.shape[:2])

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        flat = latents.flatten(0, 1).to(self.vae.device) / self.scale
        parts = [self.vae.decode(part).sample for part in flat.split(self.at_once)]
        return torch.cat(parts).clamp(-1, 1).unflatten(0, latents.shape[:2])


class AudioLDMCodec:
    """AudioLDM's autoencoder of log-mel spectrograms, latents (B, 8, F / 4, 16), and its vocoder.

    The spectrogram is lengthened with silence to whole latents, and the sound is cut to N samples.
    """

    def __init__(self, vae: AutoencoderKL, vocoder: SpeechT5HifiGan) -> None:
        self.vae: Any = vae.eval().requires_grad_(False)
        self.vocoder: Any = vocoder.eval().requires_grad_(False)
        self.settings = MelSettings()
        self.scale = float(self.vae.config.scaling_factor)
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        bands, rate = self.vocoder.config.model_in_dim, self.vocoder.config.sampling_rate
        if (bands, rate) != (self.settings.bands, self.settings.sample_rate):
            raise ValueError(
                f"the vocoder takes {bands} bands at {rate} Hz; "
                f"needs {self.settings.bands} at {self.settings.sample_rate}"
            )

    @classmethod
    def load(cls, folder: Path) -> AudioLDMCodec:
        """A folder with `vae` and `vocoder` in it.

        Raises InputError for a folder without them, or without diffusers and transformers.
        """
        vae = _autoencoder(folder / "vae", AUDIOLDM)
        try:
            from transformers import SpeechT5HifiGan
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        try:
            vocoder = SpeechT5HifiGan.from_pretrained(folder / "vocoder", local_files_only=True)
        except (OSError, ValueError) as error:
            raise _unfit(folder / "vocoder", AUDIOLDM) from error
        return cls(vae, vocoder)

    @torch.inference_mode()
    def encode(self, sound: Tensor) -> Tensor:
        mel = log_mel(sound.to(self.vae.device).float(), self.settings)[:, None]  # (B, 1, F, M)
        floor = float(torch.tensor(self.settings.floor).log())
        mel = functional.pad(mel, (0, 0, 0, -mel.shape[2] % self.factor), value=floor)
        return self.vae.encode(mel).latent_dist.mode() * self.scale

    @torch.inference_mode()
    def decode(self, latents: Tensor, samples: int) -> Tensor:
        latents = latents.to(self.vae.device) / self.scale
        mel = self.vae.decode(latents).sample[:, 0]  # (B, F, M)
        windows = self.settings.windows(samples)
        if not windows <= mel.shape[1] < windows + self.factor:
            raise ValueError(
                f"latents hold {mel.shape[1]} windows; {samples} samples need {windows}"
            )
        # A vocoder of one sound drops the axis of the batch.
        sound = self.vocoder(mel[:, :windows]).reshape(len(mel), -1)
        sound = functional.pad(sound, (0, max(0, samples - sound.shape[1])))
        return sound[:, :samples].clamp(-1, 1)


def picture_codec(name: str) -> PictureCodec:
    """ "pixel", or "sd-vae:FOLDER". Raises ValueError for another name."""
    kind, _, folder = name.partition(":")
    if name == "pixel":
        return PixelCodec()
    if kind == "sd-vae" and folder:
        return SDVAECodec.load(Path(folder))
    raise ValueError(f"codec is {name!r}; needs pixel or sd-vae:FOLDER")


def sound_codec(name: str) -> SoundCodec:
    """ "mel", or "audioldm:FOLDER". Raises ValueError for another name."""
    kind, _, folder = name.partition(":")
    if name == "mel":
        return MelCodec()
    if kind == "audioldm" and folder:
        return AudioLDMCodec.load(Path(folder))
    raise ValueError(f"sound codec is {name!r}; needs mel or audioldm:FOLDER")


AnyCodec = TypeVar("AnyCodec", bound=PictureCodec | SoundCodec)


def moved(codec: AnyCodec, device: torch.device) -> AnyCodec:
    """The codec with its networks, if it has any, on the device."""
    for network in _networks(codec):
        network.to(device)
    return codec


def codec_mark(codec: PictureCodec | SoundCodec) -> str:
    """Tells the latents of one codec from those of another: a hash of its networks."""
    digest = hashlib.sha256(type(codec).__name__.encode())
    for network in _networks(codec):
        for name, value in network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _networks(codec: PictureCodec | SoundCodec) -> list[Any]:
    parts = (getattr(codec, name, None) for name in ("vae", "vocoder"))
    return [part for part in parts if part is not None]


def _autoencoder(folder: Path, wanted: str) -> AutoencoderKL:
    try:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    try:
        return AutoencoderKL.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise _unfit(folder, wanted) from error


def _missing(error: ModuleNotFoundError) -> InputError:
    return InputError(f"latents need {error.name}; install sigform-generate[latent]")


def _unfit(folder: Path, wanted: str) -> InputError:
    return InputError(
        f"{folder}: no model that can be read; needs a copy of {wanted} ({LICENCES[wanted]})"
    )
