"""Generate images, video, and video with sound, with StyleSwin, VDT and AV-DiT.

    from sigform_generate import AVGenerator, ImageGenerator, VideoGenerator, read_clip, write_clip

    images = ImageGenerator.load()(8, seed=0)     # (8, 64, 64, 3) uint8; image k is seed + k's
    video = VideoGenerator.load()
    clips = video(2, seed=0)                      # frames, fps
    clips = video.predict(read_clip("first8.mp4"))
    clip = AVGenerator.load()()[0]                # frames, fps, audio, sample_rate
    write_clip("clip.mp4", clip.frames, clip.fps, audio=clip.audio, sample_rate=clip.sample_rate)

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigform_generate.avdit import AVDiT, AVDiTConfig
    from sigform_generate.diffusion import Diffusion
    from sigform_generate.dit import DiT, DiTConfig
    from sigform_generate.generator import AVGenerator, ImageGenerator, VideoGenerator
    from sigform_generate.given import Given
    from sigform_generate.masks import Box
    from sigform_generate.media import Clip, read_clip, write_clip
    from sigform_generate.networks import Sampling, load_network, save_network
    from sigform_generate.policy import BlockPolicy
    from sigform_generate.styleswin import (
        Discriminator,
        DiscriminatorConfig,
        Generator,
        GeneratorConfig,
    )
    from sigform_generate.vdt import VDT, VDTConfig

__all__ = [
    "VDT",
    "AVDiT",
    "AVDiTConfig",
    "AVGenerator",
    "BlockPolicy",
    "Box",
    "Clip",
    "DiT",
    "DiTConfig",
    "Diffusion",
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "Given",
    "ImageGenerator",
    "Sampling",
    "VDTConfig",
    "VideoGenerator",
    "load_network",
    "read_clip",
    "save_network",
    "write_clip",
]

_HOMES = {
    "VDT": "vdt",
    "AVDiT": "avdit",
    "AVDiTConfig": "avdit",
    "AVGenerator": "generator",
    "BlockPolicy": "policy",
    "Box": "masks",
    "Clip": "media",
    "DiT": "dit",
    "DiTConfig": "dit",
    "Diffusion": "diffusion",
    "Discriminator": "discriminator",
    "DiscriminatorConfig": "discriminator",
    "Generator": "styleswin",
    "GeneratorConfig": "styleswin",
    "Given": "given",
    "ImageGenerator": "generator",
    "Sampling": "networks",
    "VDTConfig": "vdt",
    "VideoGenerator": "generator",
    "load_network": "networks",
    "read_clip": "media",
    "save_network": "networks",
    "write_clip": "media",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"sigform_generate.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
