"""Training AV-DiT on clips with sound, in two runs that both resume.

First an image DiT learns the frames one by one (unless one is given), then it is frozen and the
layers around it learn the clips with their sound. Both predict the clean sample rather than the
noise, which a narrow network over large patches of pixels could not hold. `AVRecipe.published` is
the paper's, for latents: AdamW at 5e-4, batches of 16, 100 000 steps, and the noise is predicted.

Letters of shapes: B batch, T frames, S side in pixels, N samples, F windows, M mel bands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sigform_core.device import pick_device
from sigform_generate.avdit import AVDiT, AVDiTConfig
from sigform_generate.bouncing import bouncing_clip, bouncing_still
from sigform_generate.data import AVSet, held_out, to_tensor
from sigform_generate.diffusion import Prediction, Variance
from sigform_generate.diffusion_training import (
    DiffusionRecipe,
    OnSamples,
    decoded,
    terms_of,
    train_diffusion,
)
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.encoded import EncodedPairs, Pair
from sigform_generate.latents import moved
from sigform_generate.networks import Sampling, save_network
from sigform_generate.published import load_any
from sigform_generate.sound import MelSettings, to_image
from sigform_generate.upstream_diffusion import SHRUNK

if TYPE_CHECKING:
    from sigform_core.training import OnProgress
    from sigform_generate.data import OnPrepared, Source
    from sigform_generate.fitting import Fitted
    from sigform_generate.latents import PictureCodec, SoundCodec

Pairs = Dataset[tuple[Tensor, Tensor]] | EncodedPairs
"""Clips (T, 3, S, S) with sound (N,), both in [-1, 1], or the latents of both."""

HELD_CLIPS = 16
"""Most clips to validate on; bouncing balls have no end of them."""

HELD_SEED = 1 << 24
"""Bouncing balls of seeds from here on are never trained on."""


@dataclass(frozen=True, kw_only=True)
class AVRecipe:
    """How long and how fast to train both runs."""

    backbone_steps: int = 3000
    backbone_batch: int = 16  # frames
    backbone_rate: float | None = None  # its learning rate; learning_rate if None
    steps: int = 20_000
    batch_size: int = 4  # clips
    learning_rate: float = 5e-4  # at its height
    warm_up: int = 200  # steps
    final_rate: float = 0.05  # of learning_rate, at the end of the cosine
    gradient_clip: float = 1.0
    averaging: float = 0.999  # share of the running average that a step keeps
    schedule: str = "linear"  # frames repeat each other: they stand more noise than images
    prediction: Prediction = "start"
    variance: Variance = "fixed_large"
    validate_every: int = 500  # steps
    sample_every: int = 1000  # steps between sample sheets
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    devices: int = 1
    workers: int = 0  # processes that prepare clips

    @classmethod
    def published(cls) -> Self:
        """The paper's, for latents; the backbone, unless it is given, as DiT's ablations."""
        return cls(
            backbone_steps=400_000,
            backbone_batch=256,
            backbone_rate=1e-4,
            steps=100_000,
            batch_size=16,
            learning_rate=5e-4,
            warm_up=0,
            final_rate=1.0,
            averaging=0.9999,
            prediction="noise",
            variance="learned_range",
        )

    def part(self, *, backbone: bool) -> DiffusionRecipe:
        """The recipe of the first or of the second run."""
        rate = self.backbone_rate if backbone else None
        return DiffusionRecipe(
            steps=self.backbone_steps if backbone else self.steps,
            batch_size=self.backbone_batch if backbone else self.batch_size,
            learning_rate=self.learning_rate if rate is None else rate,
            warm_up=self.warm_up,
            final_rate=self.final_rate,
            gradient_clip=self.gradient_clip,
            averaging=self.averaging,
            schedule=self.schedule,
            prediction=self.prediction,
            variance=self.variance,
            validate_every=self.validate_every,
            sample_every=self.sample_every,
            seed=self.seed,
            device=self.device,
            dtype=self.dtype,
            devices=self.devices,
            workers=self.workers,
        )


def small_config(size: int, frames: int, samples: int) -> AVDiTConfig:
    """A model over pixels and log-mel spectrograms that two cores can train: 3 M parameters.

    Where the sizes allow, each row of audio patches lasts as long as one frame.
    """
    mel = MelSettings()
    windows = mel.windows(samples)
    if size % 8:
        raise ValueError(f"size is {size}; needs a multiple of 8")
    rows = windows // frames if windows % frames == 0 else math.gcd(windows, 10)
    backbone = DiTConfig(
        input_size=size,
        patch_size=8,
        in_channels=3,
        hidden_size=128,
        depth=6,
        num_heads=4,
        class_dropout_prob=0.0,
        num_classes=1,
        learn_sigma=False,
        refine_channels=32,
    )
    return AVDiTConfig(
        backbone=backbone,
        frames=frames,
        audio_channels=1,
        audio_size=(windows, mel.bands),
        audio_patch=(rows, 8),
        lora_rank=32,
        adapter_rank=64,
        fusion_rank=32,
        fusion_grid=math.gcd(size // 8, 4),
    )


LATENT_HOP = 4
"""Windows of a spectrogram to each row of AudioLDM's latents, and bands to each column."""


def published_config(size: int, frames: int, samples: int) -> AVDiTConfig:
    """The paper's model for the latents of clips of `size` pixels, of `samples` at 16 kHz."""
    mel = MelSettings()
    rows = -(-mel.windows(samples) // LATENT_HOP)
    return AVDiTConfig(
        backbone=DiTConfig(input_size=size // SHRUNK),
        frames=frames,
        audio_size=(rows, mel.bands // LATENT_HOP),
    )


class BouncingSet(Dataset[tuple[Tensor, Tensor]]):
    """Bouncing balls of seeds first, first + 1, ...: clips (T, 3, S, S), sound (N,)."""

    def __init__(self, count: int, *, first: int = 0, frames: int = 16, size: int = 64) -> None:
        self.count = count
        self.first = first
        self.frames = frames
        self.size = size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        clip = bouncing_clip(
            self.first + index, frames=self.frames, height=self.size, width=self.size
        )
        return to_tensor(clip.frames), torch.from_numpy(clip.audio)

    def still(self, index: int, frame: int) -> Tensor:
        """One frame of item `index`, (3, S, S), without drawing the others."""
        side = self.size
        seed = self.first + index
        return to_tensor(bouncing_still(seed, frame, frames=self.frames, height=side, width=side))


class _Stills(Dataset[Tensor]):
    """Item i is a frame of clip i (3, S, S), chosen by (seed, i)."""

    def __init__(self, pairs: Pairs, frames: int, seed: int) -> None:
        self.pairs = pairs
        self.frames = frames
        self.seed = seed

    def __len__(self) -> int:
        return _length(self.pairs)

    def __getitem__(self, index: int) -> Tensor:
        frame = int(np.random.default_rng([self.seed, index]).integers(self.frames))
        if isinstance(self.pairs, BouncingSet):
            return self.pairs.still(index, frame)  # sixteen times as fast
        return self.pairs[index][0][frame]


class _Spectrograms(Dataset[Pair]):
    """Clips (T, 3, S, S) with the spectrogram (1, F, M) of their sound."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return _length(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        frames, sound = self.pairs[index]
        return Pair(frames, to_image(sound[None])[0])


def _length(items: Dataset[Any]) -> int:
    return len(items)  # pyright: ignore[reportArgumentType]


def fit_pairs(
    train: Pairs,
    held: Pairs,
    run_dir: Path,
    recipe: AVRecipe,
    sampling: Sampling,
    *,
    config: AVDiTConfig | None = None,
    start: Path | None = None,
    resume: bool = False,
    card: dict[str, Any] | None = None,
    on_progress: OnProgress | None = None,
    on_samples: OnSamples | None = None,
) -> Fitted:
    """Train on pairs of clip and sound and write `run_dir/weights.safetensors`.

    `start` is a weight file to begin from, ours or published: a DiT is taken as the backbone, an
    AV-DiT goes on learning; its config then counts. `on_progress` counts the steps of both runs
    together. Raises ValueError for a file that does not fit, TrainingInterrupted on Ctrl-C.
    """
    if sampling.audio_samples is None:
        raise ValueError("audio_samples is None; needs the number of samples of a clip's sound")
    config = config or small_config(sampling.size, sampling.frames, sampling.audio_samples)
    learnt = recipe.part(backbone=False)
    sampling = replace(
        sampling,
        schedule=learnt.schedule,
        prediction=learnt.prediction,
        variance=learnt.variance,
    )
    first = recipe.backbone_steps if start is None else 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network, terms = _begun(config, start)
    latent = isinstance(train, EncodedPairs)
    watched = held if isinstance(held, EncodedPairs) else _Spectrograms(held)
    _check_shapes(network.config, watched[0])

    def told(before: int) -> OnProgress | None:
        tell = on_progress
        if tell is None:
            return None
        return lambda step, _, metrics: tell(before + step, first + recipe.steps, metrics)

    seconds = 0.0
    metrics: dict[str, float] = {}
    if start is None:
        result = train_diffusion(
            network.backbone.requires_grad_(True),
            _Stills(train, sampling.frames, recipe.seed),
            _Stills(held, sampling.frames, recipe.seed),
            recipe.part(backbone=True),
            run_dir / "backbone",
            latent=latent,
            resume=resume,
            on_progress=told(0),
        )
        network.backbone.requires_grad_(False)
        seconds = result.seconds
        metrics["backbone_val_loss"] = result.metrics["val_loss"]
    result = train_diffusion(
        network,
        train if isinstance(train, EncodedPairs) else _Spectrograms(train),
        watched,
        learnt,
        run_dir / "joint",
        latent=latent,
        resume=resume,
        on_progress=told(first),
        on_samples=on_samples,
    )
    fitted = replace(
        result,
        weights=run_dir / "weights.safetensors",
        steps=result.steps + first,
        seconds=seconds + result.seconds,
        metrics=metrics | result.metrics,
    )
    facts = {
        "architecture": "av-dit",
        "trainable_parameters": network.trainable_parameters(),
        "frozen_parameters": network.frozen_parameters(),
        "recipe": asdict(recipe),
        "started_from": start.name if start else None,
        "train_items": fitted.train_items,
        "validation_items": fitted.validation_items,
        "metrics": {name: round(value, 5) for name, value in fitted.metrics.items()},
        "steps": fitted.steps,
        "seconds": round(fitted.seconds),
        **terms,
        **(card or {}),
    }
    save_network(fitted.weights, network, facts, sampling=sampling)
    (run_dir / "card.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    return fitted


def _begun(config: AVDiTConfig, start: Path | None) -> tuple[AVDiT, dict[str, Any]]:
    """The network before training, and the terms that it brings from a weight file."""
    if start is None:
        return AVDiT(config), {}
    begun = load_any(start)
    terms, given = terms_of(begun), begun.network
    if isinstance(given, AVDiT):
        return given, terms
    if not isinstance(given, DiT):
        raise ValueError(f"{start} holds a {type(given).__name__}; needs a DiT or an AV-DiT")
    return AVDiT.around(given, replace(config, backbone=given.config)), terms


def _check_shapes(config: AVDiTConfig, pair: Pair) -> None:
    """Raise ValueError when the network does not take such a pair."""
    side = config.backbone.input_size
    wanted = (config.frames, config.backbone.in_channels, side, side)
    heard = (config.audio_channels, *config.audio_size)
    for what, value, needs in (("clips", pair.frames, wanted), ("sounds", pair.sound, heard)):
        if value.shape != needs:
            raise ValueError(
                f"the network makes {what} of {' x '.join(map(str, needs))}; "
                f"those given are of {' x '.join(map(str, value.shape))}"
            )


def small_sampling(size: int = 64, frames: int = 16, fps: float = 10.0) -> Sampling:
    """What `fit_av` and `fit_bouncing` train for: pixels and log-mel spectrograms at 16 kHz."""
    rate = MelSettings().sample_rate
    return Sampling(
        size=size,
        frames=frames,
        fps=fps,
        sample_rate=rate,
        audio_samples=round(frames / fps * rate),
    )


def fit_av(
    sources: Sequence[Source],
    run_dir: Path,
    recipe: AVRecipe,
    *,
    size: int = 64,
    frames: int = 16,
    fps: float = 10.0,
    config: AVDiTConfig | None = None,
    codec: PictureCodec | None = None,
    sound_codec: SoundCodec | None = None,
    start: Path | None = None,
    resume: bool = False,
    card: dict[str, Any] | None = None,
    on_prepared: OnPrepared | None = None,
    on_encoded: OnPrepared | None = None,
    on_progress: OnProgress | None = None,
    on_samples: OnSamples | None = None,
) -> Fitted:
    """Train on a person's clips with sound; a tenth of them, at most 16, is held out.

    Stable Diffusion's codec and AudioLDM's, both or none, are for latents and the paper's size
    (`published_config`); each clip is encoded once. Otherwise as `fit_pairs`. Raises InputError
    where too few clips are usable.
    """
    if (codec is None) != (sound_codec is None):
        raise ValueError("one of codec and sound_codec is None; needs both or none")
    shown, kept = held_out(sources, recipe.seed, most=HELD_CLIPS)
    cache = run_dir / "clips"
    train, held = (
        AVSet(
            part,
            frames,
            size,
            fps,
            augment=part is shown,
            seed=recipe.seed,
            cache=cache,
            on_prepared=on_prepared if part is shown else None,
        )
        for part in (shown, kept)
    )
    sampling = small_sampling(size, frames, fps)
    shown_pairs: Pairs = train
    held_pairs: Pairs = held
    if codec is not None and sound_codec is not None:
        device, latents = pick_device(recipe.device), run_dir / "latents"
        codecs = moved(codec, device), moved(sound_codec, device)
        held_pairs = EncodedPairs(held, *codecs, cache=latents)
        shown_pairs = EncodedPairs(train, *codecs, cache=latents, on_encoded=on_encoded)
        sampling = replace(sampling, codec="sd-vae", sound_codec="audioldm")
        on_samples = decoded(on_samples, codec)
    return fit_pairs(
        shown_pairs,
        held_pairs,
        run_dir,
        recipe,
        sampling,
        config=config,
        start=start,
        resume=resume,
        card={"clips": len(train.sources), "held_clips": len(held.sources), **(card or {})},
        on_progress=on_progress,
        on_samples=on_samples,
    )


def fit_bouncing(
    run_dir: Path,
    recipe: AVRecipe,
    *,
    clips: int = 100_000,
    size: int = 64,
    frames: int = 16,
    config: AVDiTConfig | None = None,
    start: Path | None = None,
    resume: bool = False,
    card: dict[str, Any] | None = None,
    on_progress: OnProgress | None = None,
    on_samples: OnSamples | None = None,
) -> Fitted:
    """Train on bouncing balls drawn by seeds 0 to `clips`, with no data at all; see `fit_pairs`."""
    return fit_pairs(
        BouncingSet(clips, frames=frames, size=size),
        BouncingSet(HELD_CLIPS, first=HELD_SEED, frames=frames, size=size),
        run_dir,
        recipe,
        small_sampling(size, frames),
        config=config,
        start=start,
        resume=resume,
        card={"data": "procedural bouncing balls with sound", **(card or {})},
        on_progress=on_progress,
        on_samples=on_samples,
    )
