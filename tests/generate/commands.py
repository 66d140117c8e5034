"""Runs `sigform-generate` in this process, and makes tiny networks and files for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from command_runner import runner
from PIL import Image
from torch import nn

from sigform_generate.avdit import AVDiT, AVDiTConfig
from sigform_generate.cli import app
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.media import write_clip
from sigform_generate.networks import Sampling, save_network
from sigform_generate.styleswin import Generator, GeneratorConfig
from sigform_generate.vdt import VDT, VDTConfig

command = runner(app)

SIZE, FRAMES, FPS = 16, 8, 10.0
SAMPLES, RATE = 12_800, 16_000  # of sound

SAMPLING = Sampling(
    size=SIZE,
    frames=FRAMES,
    fps=FPS,
    prediction="start",
    variance="fixed_small",
    schedule="cosine",
    steps="ddim4",
)
AV_SAMPLING = Sampling(
    size=SIZE,
    frames=FRAMES,
    fps=FPS,
    prediction="start",
    variance="fixed_small",
    steps="ddim4",
    sample_rate=RATE,
    audio_samples=SAMPLES,
)
PICTURE = DiTConfig(
    input_size=SIZE, patch_size=8, in_channels=3, hidden_size=16, depth=1, num_heads=2,
    num_classes=3, learn_sigma=False,
)  # fmt: skip


def tiny(kind: str) -> nn.Module:
    """A network of each kind with a thousandth of its work, its weights random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        if kind == "image":
            config = GeneratorConfig(
                size=SIZE, style_dim=16, n_mlp=1, in_channels_by_stage=(16, 16, 16)
            )
            network: nn.Module = Generator(config)
        elif kind == "dit":
            network = DiT(PICTURE)
        elif kind == "video":
            network = VDT(
                VDTConfig(
                    input_size=SIZE, patch_size=8, in_channels=3, hidden_size=16, depth=1,
                    num_heads=2, num_classes=1, learn_sigma=False, num_frames=FRAMES,
                )
            )  # fmt: skip
        else:
            network = AVDiT(
                AVDiTConfig(
                    backbone=PICTURE, frames=FRAMES, audio_channels=1, audio_size=(80, 64),
                    audio_patch=(10, 8),
                )
            )  # fmt: skip
        for value in network.parameters():
            if value.abs().max() == 0:
                nn.init.normal_(value, std=0.3)
    return network.eval()


def saved(folder: Path, kind: str) -> Path:
    """A weight file of a tiny network."""
    sampling = {"image": None, "dit": SAMPLING, "video": SAMPLING, "av": AV_SAMPLING}[kind]
    place = folder / f"tiny-{kind}.safetensors"
    save_network(place, tiny(kind), {"data": "none"}, sampling=sampling)
    return place


def frames(count: int, height: int = 20, width: int = 24, seed: int = 0) -> np.ndarray:
    """A soft spot that moves, uint8 (T, H, W, 3)."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(0.2, 0.8, 2)
    tint = random.uniform(100, 255, 3)
    down, across = np.mgrid[0:height, 0:width]
    made = []
    for number in range(count):
        place = (x + number / 40) % 1
        spot = np.exp(-((across / width - place) ** 2 + (down / height - y) ** 2) * 30)
        made.append(spot[..., None] * tint)
    return np.stack(made).astype(np.uint8)


def clip(
    path: str | Path = "clip.mp4", count: int = FRAMES, fps: float = FPS, **shape: int
) -> Path:
    """Writes a silent clip."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_clip(place, frames(count, **shape), fps)
    return place


def clip_with_sound(path: str | Path, count: int = FRAMES, seed: int = 0) -> Path:
    """Writes a clip whose sound is a falling tone."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(count / FPS * RATE)) / RATE
    tone = 0.5 * np.sin(2 * np.pi * (400 + 50 * seed) * time) * np.exp(-4 * time)
    audio = tone.astype(np.float32)
    write_clip(place, frames(count, seed=seed), FPS, audio=audio, sample_rate=RATE)
    return place


def picture(path: str | Path = "a.png", **shape: int) -> Path:
    """Writes a picture."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frames(1, **shape)[0]).save(place)
    return place
