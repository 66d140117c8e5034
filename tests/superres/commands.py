"""Runs `sigform-upscale` in this process, and makes small pictures and networks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_runner import runner
from PIL import Image

from sigform_superres.cli import app
from sigform_superres.craft import CRAFT, CRAFTConfig
from sigform_superres.data import to_tensor
from sigform_superres.networks import save_network
from sigform_superres.resizing import imresize
from sigform_superres.training import silence, solve_upsampling

command = runner(app)


def tiny(scale: int) -> CRAFT:
    """A network of CRAFT's form with a thousandth of its work, its weights random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(scale)
        config = CRAFTConfig(
            upscale=scale,
            embed_dim=32,
            depths=(1,),
            num_heads=(2,),
            split_size_0=2,
            split_size_1=4,
        )
        return CRAFT(config)


def saved_network(folder: Path, scale: int = 4) -> Path:
    """A weight file of a tiny network that enlarges about as bicubic does."""
    place = folder / f"tiny-x{scale}.safetensors"
    network = tiny(scale).eval()
    silence(network)
    large = [pixels(12 * scale, 12 * scale, seed=seed) for seed in range(60)]
    pairs = [(imresize(pixels, size=(12, 12)), pixels) for pixels in large]
    solve_upsampling(network, ((to_tensor(low), to_tensor(high)) for low, high in pairs))
    save_network(place, network, {"architecture": "tiny", "set5_psnr": 30.5})
    return place


def pixels(height: int = 12, width: int = 16, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Soft random colours, uint8 (H, W, C)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, channels), np.uint8)
    planes = [
        np.asarray(Image.fromarray(coarse[..., channel]).resize((width, height)))
        for channel in range(channels)
    ]
    return np.stack(planes, axis=-1)


def picture(path: str | Path = "a.png", **shape: int) -> Path:
    """Writes a picture of `pixels` in the format of its suffix."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    made = pixels(**shape)
    Image.fromarray(made if made.shape[2] > 1 else made[..., 0]).save(place)
    return place


def moving(path: str | Path, frames: int = 3, **options: Any) -> Path:
    """Writes an animation of small pictures, shown for 70, 80, 90, ... milliseconds."""
    images = [Image.fromarray(pixels(8, 12, seed=seed)) for seed in range(frames)]
    times = [70 + 10 * number for number in range(frames)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=times, **options)
    return Path(path)
