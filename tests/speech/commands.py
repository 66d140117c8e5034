"""Runs `sigform-separate` in this process, and makes small recordings and networks for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from command_runner import runner
from numpy.typing import NDArray

from sigform_speech.cli import app
from sigform_speech.mossformer import MossFormer, MossFormerConfig
from sigform_speech.networks import save_network

command = runner(app)


def tiny(speakers: int = 2, sample_rate: int = 8000) -> MossFormer:
    """A MossFormer with a thousandth of its work, its weights random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(speakers)
        config = MossFormerConfig(
            in_channels=16,
            out_channels=16,
            d_model=16,
            num_blocks=1,
            group_size=32,
            query_key_dim=32,
            num_spks=speakers,
            sample_rate=sample_rate,
        )
        return MossFormer(config)


def saved_network(folder: Path, speakers: int = 2) -> Path:
    """A weight file of a tiny network."""
    place = folder / f"tiny-{speakers}.safetensors"
    card = {"name": "tiny", "si_sdri": {"made up": 1.5}}
    save_network(place, tiny(speakers).eval(), card)
    return place


def sound(
    seconds: float = 0.5, rate: int = 8000, channels: int = 1, seed: int = 0
) -> NDArray[np.float32]:
    """Swelling noise, (T, C), of 16-bit values."""
    random = np.random.default_rng(seed)
    samples = round(seconds * rate)
    swell = np.sin(np.arange(samples)[:, None] / rate * (5 + seed)) * 0.2
    noise = random.uniform(-1, 1, (samples, channels)) * swell
    return (np.round(noise * 2**15) / 2**15).astype(np.float32)


def recording(
    path: str | Path = "mix.wav",
    seconds: float = 0.5,
    rate: int = 8000,
    channels: int = 1,
    seed: int = 0,
    subtype: str | None = None,
) -> Path:
    """Writes `sound` in the format of the suffix."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    kind = {".opus": "OGG", ".aif": "AIFF"}.get(place.suffix.lower())
    if place.suffix == ".opus":
        subtype = "OPUS"
    soundfile.write(place, sound(seconds, rate, channels, seed), rate, subtype, format=kind)
    return place
