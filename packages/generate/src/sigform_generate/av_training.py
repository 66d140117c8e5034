"""Training AV-DiT on clips with sound, in two runs that both resume.

First an image DiT learns the frames one by one (unless one is given), then it is frozen and the
layers around it learn the clips with their sound. Both predict the clean sample rather than the
noise, which a narrow network over large patches of pixels could not hold. The paper's recipe for
latents is AdamW at 5e-4, batches of 16, 100 000 steps.

Letters of shapes: B batch, T frames, S side in pixels, N samples, F windows, M mel bands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sigform_generate.avdit import AVDiT, AVDiTConfig
from sigform_generate.bouncing import bouncing_clip, bouncing_still
from sigform_generate.data import AVSet, held_out, to_tensor
from sigform_generate.diffusion_training import DiffusionRecipe, OnSamples, train_diffusion
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.networks import Sampling, load_network, save_network
from sigform_generate.sound import MelSettings, to_image

if TYPE_CHECKING:
    from sigform_core.training import OnProgress
    from sigform_generate.data import OnPrepared, Source
    from sigform_generate.fitting import Fitted

Pairs = Dataset[tuple[Tensor, Tensor]]
"""Clips (T, 3, S, S) with sound (N,), both in [-1, 1]."""

HELD_CLIPS = 16
"""Most clips to validate on; bouncing balls have no end of them."""

HELD_SEED = 1 << 24
"""Bouncing balls of seeds from here on are never trained on."""


@dataclass(frozen=True, kw_only=True)
class AVRecipe:
    """How long and how fast to train both runs."""

    backbone_steps: int = 3000
    backbone_batch: int = 16  # frames
    steps: int = 20_000
    batch_size: int = 4  # clips
    learning_rate: float = 5e-4  # at its height
    warm_up: int = 200  # steps
    final_rate: float = 0.05  # of learning_rate, at the end of the cosine
    gradient_clip: float = 1.0
    averaging: float = 0.999  # share of the running average that a step keeps
    schedule: str = "linear"  # frames repeat each other: they stand more noise than images
    validate_every: int = 500  # steps
    sample_every: int = 1000  # steps between sample sheets
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    devices: int = 1
    workers: int = 0  # processes that prepare clips

    def part(self, *, backbone: bool) -> DiffusionRecipe:
        """The recipe of the first or of the second run."""
        return DiffusionRecipe(
            steps=self.backbone_steps if backbone else self.steps,
            batch_size=self.backbone_batch if backbone else self.batch_size,
            learning_rate=self.learning_rate,
            warm_up=self.warm_up,
            final_rate=self.final_rate,
            gradient_clip=self.gradient_clip,
            averaging=self.averaging,
            schedule=self.schedule,
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


class _Pair(NamedTuple):
    """What AV-DiT sees of a clip; batches of named tuples are tuples, of others lists."""

    frames: Tensor  # (T, 3, S, S)
    sound: Tensor  # (1, F, M)


class _Spectrograms(Dataset[_Pair]):
    """Clips (T, 3, S, S) with the spectrogram (1, F, M) of their sound."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return _length(self.pairs)

    def __getitem__(self, index: int) -> _Pair:
        frames, sound = self.pairs[index]
        return _Pair(frames, to_image(sound[None])[0])


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

    `start` is a weight file to begin from: a DiT is taken as the backbone, an AV-DiT goes on
    learning; its config then counts. `on_progress` counts the steps of both runs together.
    Raises ValueError for a file that does not fit, TrainingInterrupted on Ctrl-C.
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
    given = None if start is None else load_network(start).network
    if given is not None and not isinstance(given, DiT | AVDiT):
        raise ValueError(f"{start} holds a {type(given).__name__}; needs a DiT or an AV-DiT")
    first = recipe.backbone_steps if given is None else 0

    def told(before: int) -> OnProgress | None:
        tell = on_progress
        if tell is None:
            return None
        return lambda step, _, metrics: tell(before + step, first + recipe.steps, metrics)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if isinstance(given, AVDiT):
            network = given
        else:
            backbone = DiT(config.backbone) if given is None else given
            network = AVDiT.around(backbone, replace(config, backbone=backbone.config))
    seconds = 0.0
    metrics: dict[str, float] = {}
    if given is None:
        result = train_diffusion(
            network.backbone.requires_grad_(True),
            _Stills(train, sampling.frames, recipe.seed),
            _Stills(held, sampling.frames, recipe.seed),
            recipe.part(backbone=True),
            run_dir / "backbone",
            resume=resume,
            on_progress=told(0),
        )
        network.backbone.requires_grad_(False)
        seconds = result.seconds
        metrics["backbone_val_loss"] = result.metrics["val_loss"]
    result = train_diffusion(
        network,
        _Spectrograms(train),
        _Spectrograms(held),
        learnt,
        run_dir / "joint",
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
        **(card or {}),
    }
    save_network(fitted.weights, network, facts, sampling=sampling)
    (run_dir / "card.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    return fitted


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
    start: Path | None = None,
    resume: bool = False,
    card: dict[str, Any] | None = None,
    on_prepared: OnPrepared | None = None,
    on_progress: OnProgress | None = None,
    on_samples: OnSamples | None = None,
) -> Fitted:
    """Train on a person's clips with sound; a tenth of them, at most 16, is held out.

    Otherwise as `fit_pairs`. Raises InputError where too few clips are usable.
    """
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
    return fit_pairs(
        train,
        held,
        run_dir,
        recipe,
        small_sampling(size, frames, fps),
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
