"""From a folder of voices to a weight file: what the command `train` does."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sigform_speech.data import DynamicMixtures, LibriMixCrops, Mixing, find_voices, hold_out
from sigform_speech.mossformer import MossFormer, MossFormerConfig
from sigform_speech.mossformer2 import MossFormer2, MossFormer2Config
from sigform_speech.networks import Network, load_network, save_network
from sigform_speech.training import Mixtures, Recipe, start_simple, train_network

if TYPE_CHECKING:
    from sigform_core.training import OnProgress

VALIDATION_SECONDS = 4.0
VALIDATION_GAIN_DB = 1.25
"""Levels of validation mixtures differ by up to twice this, as in WSJ0-2mix."""

ARCHITECTURES = ("mossformer-small", "mossformer", "mossformer2")
"""What `train` can build: the shipped size, and the two as published."""


def build(architecture: str, *, speakers: int = 2, sample_rate: int = 8000) -> Network:
    """A new network of an architecture in ARCHITECTURES, with random weights.

    Raises ValueError for another name.
    """
    if architecture == "mossformer-small":
        return MossFormer(
            MossFormerConfig(
                in_channels=128,
                out_channels=128,
                d_model=128,
                kernel_size=64,
                stride=32,
                num_blocks=6,
                group_size=64,
                query_key_dim=64,
                attn_dropout=0.0,
                num_spks=speakers,
                sample_rate=sample_rate,
            )
        )
    if architecture == "mossformer":
        return MossFormer(MossFormerConfig(num_spks=speakers, sample_rate=sample_rate))
    if architecture == "mossformer2":
        return MossFormer2(MossFormer2Config(num_spks=speakers, sample_rate=sample_rate))
    raise ValueError(f"architecture is {architecture!r}; needs one of {', '.join(ARCHITECTURES)}")


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training came to; SI-SDRi on mixtures of held-out speakers, in dB."""

    weights: Path
    steps: int
    best_si_sdri: float
    train_voices: int
    validation_voices: int
    seconds: float


def fit_folder(
    folder: Path,
    run_dir: Path,
    recipe: Recipe,
    *,
    architecture: str = "mossformer-small",
    speakers: int = 2,
    sample_rate: int = 8000,
    validation: Path | None = None,
    librimix: str | None = None,
    start: Path | None = None,
    card: dict[str, Any] | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> Fitted:
    """Train on a folder of voices and write `run_dir/weights.safetensors` with its card inside.

    `folder` has a folder of recordings for each speaker; `validation` another such, of other
    speakers, else a tenth of the speakers is held out. With `librimix` (train-100, train-360)
    `folder` is LibriMix as its authors lay it out, validated on its dev set. `start` is a weight
    file to go on from instead of a new network. `card` adds to what the file says of itself.

    Raises ValueError, InputError for a broken recording, TrainingInterrupted on Ctrl-C; resuming
    goes on from there.
    """
    if start is not None:
        network, _ = load_network(start)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network = build(architecture, speakers=speakers, sample_rate=sample_rate)
            if recipe.start_simple and isinstance(network, MossFormer):
                start_simple(network)
    train, held, counts = _mixtures(folder, validation, librimix, network, recipe)
    trained, result = train_network(
        network, train, held, recipe, run_dir, resume=resume, on_progress=on_progress
    )
    fitted = Fitted(
        weights=run_dir / "weights.safetensors",
        steps=result.steps,
        best_si_sdri=float(result.best_score or 0.0),
        train_voices=counts[0],
        validation_voices=counts[1],
        seconds=result.seconds,
    )
    told = {
        "architecture": architecture if start is None else None,
        "recipe": asdict(recipe),
        "started_from": start.name if start else None,
        "train_voices": fitted.train_voices,
        "validation_voices": fitted.validation_voices,
        "validation_si_sdri": round(fitted.best_si_sdri, 3),
        "steps": fitted.steps,
        "seconds": round(fitted.seconds),
        **(card or {}),
    }
    save_network(fitted.weights, trained, told)
    (run_dir / "card.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    return fitted


def _mixtures(
    folder: Path, validation: Path | None, librimix: str | None, network: Network, recipe: Recipe
) -> tuple[Mixtures, Mixtures, tuple[int, int]]:
    """What to train on, what to validate on, and the number of voices (or mixtures) in each."""
    shape: dict[str, Any] = {
        "speakers": network.num_spks,
        "sample_rate": network.sample_rate,
        "seed": recipe.seed,
    }
    if librimix is not None:
        train = LibriMixCrops(folder, librimix, seconds=recipe.seconds, **shape)
        held = LibriMixCrops(folder, "dev", seconds=None, items=recipe.validation_items, **shape)
        return train, held, (len(train), len(held))
    voices = find_voices(folder)
    if validation is not None:
        others = find_voices(validation)
    else:
        voices, others = hold_out(voices, recipe.seed, least=network.num_spks)
    return (
        DynamicMixtures(voices, mixing=_mixing(recipe), **shape),
        DynamicMixtures(
            others,
            mixing=Mixing(
                seconds=VALIDATION_SECONDS, gain_db=VALIDATION_GAIN_DB, speed=0.0, turns=0.0
            ),
            items=recipe.validation_items,
            **shape,
        ),
        (len(voices), len(others)),
    )


def _mixing(recipe: Recipe) -> Mixing:
    return Mixing(
        seconds=recipe.seconds, gain_db=recipe.gain_db, speed=recipe.speed, turns=recipe.turns
    )
