"""What a person uses from Python: images, clips, and clips with sound, by seed.

Sample k of a call depends on `seed + k` only. Pixels are uint8 (..., H, W, 3), clips are
`media.Clip`s. Letters of shapes: N samples, T frames, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sigform_core.device import generator as seeded
from sigform_core.device import pick_device, pick_dtype
from sigform_generate.catalogue import AUDIOLDM, LICENCES, SD_VAE, find_weights
from sigform_generate.data import to_pixels, to_tensor
from sigform_generate.diffusion import Diffusion, betas
from sigform_generate.dit import DiT
from sigform_generate.given import Given, read_given, window_of
from sigform_generate.latents import (
    PictureCodec,
    SoundCodec,
    moved,
    picture_codec,
    sound_codec,
)
from sigform_generate.masks import Box, checked
from sigform_generate.media import Clip
from sigform_generate.networks import KINDS, Loaded, Sampling
from sigform_generate.policy import PLAIN, BlockPolicy
from sigform_generate.published import load_any
from sigform_generate.sampling import Denoiser, OnStep, denoiser, labelled, sample
from sigform_generate.styleswin import to_pixels as from_imagenet

Pixels = NDArray[np.uint8]
USUAL_FPS = 8.0
"""Frames a second where the weights do not say, as the published ones of VDT."""

MEAN_OF = 4096
"""Random vectors whose mean style truncation goes towards."""


class _Generator:
    """What all three have in common: a network in its place, and batches of seeds."""

    kind = ""

    def __init__(
        self,
        loaded: Loaded,
        *,
        device: str = "auto",
        dtype: str = "float32",
        name: str = "",
        latents: Path | None = None,
        sound_latents: Path | None = None,
    ) -> None:
        """Raises ValueError for a network of another kind, and for a device that is not there."""
        self.latents, self.sound_latents = latents, sound_latents
        if KINDS.get(loaded.model) != self.kind:
            makes = KINDS.get(loaded.model, "nothing by itself")
            raise ValueError(
                f"{name or 'the network'} is for {loaded.model}, which makes {makes}; "
                f"needs weights that make {self.kind}"
            )
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.network: Any = loaded.network.to(self.device).eval()
        self.model, self.sampling, self.card = loaded.model, loaded.sampling, loaded.card
        self.name = name

    @classmethod
    def load(
        cls,
        name: str = "default",
        *,
        device: str = "auto",
        dtype: str = "float32",
        latents: Path | None = None,
        sound_latents: Path | None = None,
    ) -> Self:
        """Shipped weights by name, or a file: ours, or published.

        Networks over latents need the folders of a Stable Diffusion autoencoder, `latents`, and
        of AudioLDM's autoencoder and vocoder, `sound_latents`; see `latents.py`.

        Raises ValueError for an unknown name, an unreadable or another file, and for a device or
        number format that this machine lacks.
        """
        path = find_weights(name, cls.kind)
        return cls(
            load_any(path),
            device=device,
            dtype=dtype,
            name=str(path),
            latents=latents,
            sound_latents=sound_latents,
        )

    def _batches(self, n: int, seed: int, batch_size: int | None) -> list[list[int]]:
        if n < 1:
            raise ValueError(f"n is {n}; needs 1 or more")
        # Alone, a sample is the same to the last bit however many are asked for.
        size = batch_size or (1 if self.device.type == "cpu" else 8)
        seeds = range(seed, seed + n)
        return [list(seeds[start : start + size]) for start in range(0, n, size)]

    def _settings(self) -> Sampling:
        if self.sampling is None:
            raise ValueError(f"{self.name}: does not say what it was trained for; needs sampling")
        return self.sampling

    @cached_property
    def _pictures(self) -> PictureCodec:
        codec = picture_codec(_with_folder(self._settings().codec, "sd-vae", self.latents))
        return moved(codec, self.device)

    @cached_property
    def _sounds(self) -> SoundCodec:
        name = self._settings().sound_codec
        return moved(sound_codec(_with_folder(name, "audioldm", self.sound_latents)), self.device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _denoise(
        self,
        denoise: Denoiser,
        shapes: Sequence[tuple[int, ...]],
        seeds: Sequence[int],
        *,
        steps: str | None,
        policy: BlockPolicy,
        on_step: OnStep | None,
        mask: Tensor | None = None,
        given: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Samples of every modality, (N, *shape) each."""
        settings = self._settings()
        diffusion = Diffusion(
            betas(settings.schedule, settings.diffusion_steps),
            prediction=settings.prediction,  # pyright: ignore[reportArgumentType]
            variance=settings.variance,  # pyright: ignore[reportArgumentType]
        )
        with torch.inference_mode(), self._autocast():
            return sample(
                denoise,
                diffusion,
                shapes,
                seeds=seeds,
                steps=steps or settings.steps,
                given=None if given is None else [given.expand(len(seeds), *shapes[0])],
                masks=None if mask is None else [mask],
                clip=settings.codec == "pixel",
                device=self.device,
                policy=policy,
                on_step=on_step,
            )


class ImageGenerator(_Generator):
    """Images (N, H, W, 3) from a StyleSwin, or from a DiT.

    Raises ValueError for what the network has not: truncation of a DiT, steps of a StyleSwin.
    """

    kind = "image"

    def __call__(
        self,
        n: int = 1,
        *,
        seed: int = 0,
        truncation: float = 1.0,
        steps: str | None = None,
        label: int | None = None,
        guidance: float = 1.0,
        batch_size: int | None = None,
        on_step: OnStep | None = None,
    ) -> Pixels:
        batches = self._batches(n, seed, batch_size)
        made = []
        for number, seeds in enumerate(batches):
            if self.model == "styleswin":
                if steps is not None or label is not None or guidance != 1:
                    raise ValueError("a StyleSwin takes no steps, label or guidance; needs a DiT")
                images = self._styled(self._styles(seeds, truncation))
                if on_step is not None:
                    on_step(number + 1, len(batches))
            else:
                if truncation != 1:
                    raise ValueError("a DiT takes no truncation; needs a StyleSwin")
                images = self._diffused(
                    seeds, steps, label, guidance, _counted(on_step, number, len(batches))
                )
            made.append(images)
        return np.concatenate(made)

    def walk(
        self, seeds: Sequence[int], frames: int, *, truncation: float = 1.0
    ) -> Iterator[Pixels]:
        """Images (H, W, 3) on the way through those of `seeds` and back: `frames` between two.

        Straight lines between styles, slow at their ends. StyleSwin only.
        """
        if self.model != "styleswin":
            raise ValueError(f"{self.name} is for {self.model}; needs a StyleSwin to walk through")
        styles = torch.cat([self._styles([seed], truncation) for seed in seeds])
        for here, there in zip(styles, styles.roll(-1, 0), strict=True):
            for number in range(frames):
                share = 0.5 - 0.5 * float(np.cos(np.pi * number / frames))
                yield self._styled(torch.lerp(here, there, share)[None])[0]

    @torch.inference_mode()
    def _styles(self, seeds: Sequence[int], truncation: float) -> Tensor:
        width = self.network.config.style_dim
        z = torch.cat([torch.randn(1, width, generator=seeded(seed)) for seed in seeds])
        # One after the other: the products of one style do not depend on its company.
        styles = torch.cat([self.network.mapping(one[None].to(self.device)) for one in z])
        if truncation == 1:
            return styles
        mean = self.network.mean_latent(MEAN_OF, seeded(0)).to(styles)
        return torch.lerp(mean, styles, truncation)

    @torch.inference_mode()
    def _styled(self, styles: Tensor) -> Pixels:
        with self._autocast():
            images = self.network.synthesis(styles)
        return to_pixels(from_imagenet(images.float()))

    def _diffused(
        self,
        seeds: Sequence[int],
        steps: str | None,
        label: int | None,
        guidance: float,
        on_step: OnStep | None,
    ) -> Pixels:
        network: DiT = self.network
        config = network.config
        if label is not None and not label < config.num_classes:
            raise ValueError(f"label is {label}; this DiT has 0 to {config.num_classes - 1}")
        if guidance != 1 and label is None:
            raise ValueError(f"guidance is {guidance} without a label; needs a label")

        run = denoiser(network)
        if label is not None:
            labels = torch.full((len(seeds),), label, device=self.device)
            run = labelled(network, labels, guidance)
        shape = (config.in_channels, config.input_size, config.input_size)
        (made,) = self._denoise(run, [shape], seeds, steps=steps, policy=PLAIN, on_step=on_step)
        return to_pixels(self._pictures.decode(made[:, None])[:, 0])


class VideoGenerator(_Generator):
    """Clips from a VDT: out of nothing, or the missing part of a given one.

    Given clips may have any size and rate; `window` says what was done to them. Each method
    returns n clips of the network's length, the given frames in them.
    """

    kind = "video"

    def __call__(
        self,
        n: int = 1,
        *,
        seed: int = 0,
        steps: str | None = None,
        batch_size: int | None = None,
        policy: BlockPolicy = PLAIN,
        on_step: OnStep | None = None,
    ) -> list[Clip]:
        return self._make(None, n, seed, steps, batch_size, policy, on_step)

    def read(self, mode: str, path: Path) -> Clip:
        """What a mode needs of a film, or a picture; see `given.read_given`."""
        settings = self._settings()
        return read_given(path, mode, settings.frames / (settings.fps or USUAL_FPS))

    def window(self, mode: str, clip: Clip, box: Box | None = None) -> Given:
        """What a mode is given of a clip; see `given.window_of`."""
        settings = self._settings()
        return window_of(
            mode,
            clip,
            size=settings.size,
            frames=settings.frames,
            fps=settings.fps or USUAL_FPS,
            box=box,
        )

    def fill(
        self,
        given: Given,
        n: int = 1,
        *,
        seed: int = 0,
        steps: str | None = None,
        batch_size: int | None = None,
        policy: BlockPolicy = PLAIN,
        on_step: OnStep | None = None,
    ) -> list[Clip]:
        """Makes what is missing of a window. Raises ValueError if that is nothing or all of it."""
        return self._make(given, n, seed, steps, batch_size, policy, on_step)

    def predict(self, clip: Clip, n: int = 1, *, seed: int = 0) -> list[Clip]:
        """What comes after the last frames of a clip."""
        return self.fill(self.window("predict", clip), n, seed=seed)

    def backward(self, clip: Clip, n: int = 1, *, seed: int = 0) -> list[Clip]:
        """What was before the first frames of a clip."""
        return self.fill(self.window("backward", clip), n, seed=seed)

    def interpolate(self, clip: Clip, n: int = 1, *, seed: int = 0) -> list[Clip]:
        """The frames between each fourth one of a clip."""
        return self.fill(self.window("interpolate", clip), n, seed=seed)

    def animate(self, picture: Pixels, n: int = 1, *, seed: int = 0) -> list[Clip]:
        """What comes after a picture (H, W, 3)."""
        still = Clip(frames=picture[None], fps=Fraction(1), name="picture")
        return self.fill(self.window("animate", still), n, seed=seed)

    def complete(self, clip: Clip, box: Box, n: int = 1, *, seed: int = 0) -> list[Clip]:
        """A clip with the inside of a box made anew."""
        return self.fill(self.window("complete", clip, box), n, seed=seed)

    def _make(
        self,
        given: Given | None,
        n: int,
        seed: int,
        steps: str | None,
        batch_size: int | None,
        policy: BlockPolicy,
        on_step: OnStep | None,
    ) -> list[Clip]:
        settings, config = self._settings(), self.network.config
        side = config.input_size
        shape = (settings.frames, config.in_channels, side, side)
        mask = latent = None
        if given is not None:
            latent = self._pictures.encode(to_tensor(given.frames)[None].to(self.device))
            missing = torch.from_numpy(given.missing).float()
            # A latent pixel is made anew if any pixel under it is.
            mask = checked(functional.adaptive_max_pool2d(missing, side))
        clips: list[Clip] = []
        batches = self._batches(n, seed, batch_size)
        for number, seeds in enumerate(batches):
            (made,) = self._denoise(
                denoiser(self.network),
                [shape],
                seeds,
                steps=steps,
                policy=policy,
                on_step=_counted(on_step, number, len(batches)),
                mask=mask,
                given=latent,
            )
            frames = to_pixels(self._pictures.decode(made))
            if given is not None:
                frames = np.where(given.missing[..., None], frames, given.frames)
            clips += [_clip(pixels, settings) for pixels in frames]
        return clips


class AVGenerator(_Generator):
    """Clips with sound from an AV-DiT, both denoised together."""

    kind = "av"

    def __call__(
        self,
        n: int = 1,
        *,
        seed: int = 0,
        steps: str | None = None,
        batch_size: int | None = None,
        policy: BlockPolicy = PLAIN,
        on_step: OnStep | None = None,
    ) -> list[Clip]:
        settings = self._settings()
        if settings.sample_rate is None or settings.audio_samples is None:
            raise ValueError(f"{self.name}: does not say how long its sound is; needs sampling")
        config = self.network.config
        side = config.backbone.input_size
        shapes = [
            (config.frames, config.backbone.in_channels, side, side),
            (config.audio_channels, *config.audio_size),
        ]
        clips: list[Clip] = []
        batches = self._batches(n, seed, batch_size)
        for number, seeds in enumerate(batches):
            video, audio = self._denoise(
                denoiser(self.network),
                shapes,
                seeds,
                steps=steps,
                policy=policy,
                on_step=_counted(on_step, number, len(batches)),
            )
            waves = self._sounds.decode(audio, settings.audio_samples).cpu().numpy()
            for pixels, wave in zip(to_pixels(self._pictures.decode(video)), waves, strict=True):
                clips.append(_clip(pixels, settings, wave[None]))
        return clips


def _with_folder(name: str, kind: str, folder: Path | None) -> str:
    """The codec's name with the folder that a person gave, where it needs one."""
    if name != kind:
        return name
    if folder is None:
        wanted, option = {"sd-vae": (SD_VAE, "latents"), "audioldm": (AUDIOLDM, "sound_latents")}[
            kind
        ]
        raise ValueError(
            f"these weights work on latents; needs {option} (--{option.replace('_', '-')}), "
            f"a folder with a copy of {wanted} ({LICENCES[wanted]})"
        )
    return f"{kind}:{folder}"


def _clip(pixels: Pixels, settings: Sampling, audio: NDArray[np.float32] | None = None) -> Clip:
    return Clip(
        frames=pixels,
        fps=Fraction(settings.fps or USUAL_FPS).limit_denominator(1001),
        audio=audio,
        sample_rate=None if audio is None else settings.sample_rate,
    )


def _counted(on_step: OnStep | None, batch: int, batches: int) -> OnStep | None:
    """Counts the steps of all batches as one row."""
    if on_step is None:
        return None
    return lambda step, steps: on_step(batch * steps + step, batches * steps)


def of_kind(kind: str) -> type[ImageGenerator] | type[VideoGenerator] | type[AVGenerator]:
    """The generator of "image", "video" or "av"."""
    return {"image": ImageGenerator, "video": VideoGenerator, "av": AVGenerator}[kind]
