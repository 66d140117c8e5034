"""Training AV-DiT on clips with sound, in two runs that both resume.

First an image DiT learns the frames one by one (unless one is given), then it is frozen and the
layers around it learn the clips with their sound. Both predict the clean sample rather than the
noise, which a narrow network over large patches of pixels could not hold. The paper's recipe for
latents is AdamW at 5e-4, batches of 16, 100 000 steps.

Letters of shapes: B batch, T frames, S side in pixels, N samples, F windows, M mel bands.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sigform_core.training import OnProgress, StepSampler, TrainResult, TrainSettings, fit
from sigform_core.weights import load_torch_checkpoint
from sigform_generate.avdit import AVDiT, AVDiTConfig
from sigform_generate.bouncing import bouncing_clip
from sigform_generate.data import DRAWS, AVSet, held_out, to_tensor
from sigform_generate.diffusion import Diffusion, betas
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.fitting import Fitted
from sigform_generate.networks import Sampling, load_network, save_network
from sigform_generate.sound import MelSettings, to_image

if TYPE_CHECKING:
    from sigform_generate.data import OnPrepared, Source

Pairs = Dataset[tuple[Tensor, Tensor]]
"""Clips (T, 3, S, S) with sound (N,), both in [-1, 1]."""

OnSamples = Callable[[int, Tensor, Tensor], None]
"""Told the step, and clips (n, T, 3, S, S) with spectrograms (n, 1, F, M) drawn there."""

HELD_CLIPS = 32
"""Most clips to validate on; bouncing balls have no end of them."""

HELD_SEED = 1 << 24
"""Bouncing balls of seeds from here on are never trained on."""


@dataclass(frozen=True, kw_only=True)
class AVRecipe:
    """How long and how fast to train both runs; batches are counted in clips."""

    backbone_steps: int = 3000
    steps: int = 20_000
    batch_size: int = 8
    stills: int = 4  # frames of each clip that a step of the backbone's run sees
    learning_rate: float = 5e-4  # at its height
    warm_up: int = 200  # steps
    final_rate: float = 0.05  # of learning_rate, at the end of the cosine
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    averaging: float = 0.999  # share of the running average that a step keeps
    validate_every: int = 250  # steps
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    devices: int = 1
    workers: int = 0  # processes that prepare clips


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


def process(sampling: Sampling) -> Diffusion:
    """The diffusion that a network was trained in."""
    return Diffusion(
        betas(sampling.schedule, sampling.diffusion_steps),
        prediction=cast(Any, sampling.prediction),
        variance=cast(Any, sampling.variance),
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


class _Stills(Dataset[tuple[Tensor]]):
    """A few frames of each clip (k, 3, S, S), chosen by (seed, item)."""

    def __init__(self, pairs: Pairs, count: int, seed: int) -> None:
        self.pairs = pairs
        self.count = count
        self.seed = seed

    def __len__(self) -> int:
        return _length(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor]:
        frames = self.pairs[index][0]
        chance = torch.Generator().manual_seed(self.seed * DRAWS + index)
        return (frames[torch.randperm(len(frames), generator=chance)[: self.count]],)


class _Spectrograms(Dataset[tuple[Tensor, Tensor]]):
    """Clips (T, 3, S, S) with the spectrogram (1, F, M) of their sound."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return _length(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        frames, sound = self.pairs[index]
        return frames, to_image(sound[None])[0]


def _length(items: Dataset[Any]) -> int:
    return len(items)  # pyright: ignore[reportArgumentType]


class JointModule(lightning.LightningModule):
    """Denoises all modalities of a batch at one timestep a sample; losses are added.

    A batch is a tuple with a tensor (B, ...) for each modality. Validates the averaged weights
    on fixed timesteps and noise.
    """

    def __init__(self, network: nn.Module, diffusion: Diffusion, recipe: AVRecipe) -> None:
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        self.diffusion = diffusion
        self.recipe = recipe
        self.total = recipe.steps if isinstance(network, AVDiT) else recipe.backbone_steps

    def losses(
        self, network: nn.Module, batch: Sequence[Tensor], t: Tensor, noise: Sequence[Tensor]
    ) -> list[Tensor]:
        """The loss of each modality, one number a sample."""
        clean = [part.flatten(0, 1) for part in batch] if len(batch) == 1 else list(batch)
        noised = [self.diffusion.noised(x, t, e) for x, e in zip(clean, noise, strict=True)]
        if len(clean) == 1:
            outputs = [network(noised[0], t, torch.zeros_like(t))]
        else:
            outputs = network(*noised, t)
        return [
            self.diffusion.losses(made, x, seen, t, e).loss
            for made, x, seen, e in zip(outputs, clean, noised, noise, strict=True)
        ]

    def training_step(self, batch: tuple[Tensor, ...], batch_index: int) -> Tensor:
        del batch_index
        samples = batch[0].flatten(0, 1) if len(batch) == 1 else batch[0]
        t = torch.randint(len(self.diffusion), (len(samples),), device=samples.device)
        noise = [torch.randn_like(samples), *[torch.randn_like(part) for part in batch[1:]]]
        losses = [loss.mean() for loss in self.losses(self.network, batch, t, noise)]
        for name, loss in zip(("video", "audio"), losses, strict=False):
            self.log(f"train_{name}_loss", loss)
        return torch.stack(losses).sum()

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        del outputs, batch, batch_idx
        # Early averages would be mostly the start.
        keep = min(self.recipe.averaging, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            for mean, value in zip(
                self.average.parameters(), self.network.parameters(), strict=True
            ):
                if value.requires_grad:
                    mean.lerp_(value, 1 - keep)

    def on_validation_epoch_start(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[Tensor, ...], batch_index: int) -> None:
        samples = batch[0].flatten(0, 1) if len(batch) == 1 else batch[0]
        chance = torch.Generator().manual_seed(batch_index)
        count = len(samples)
        # Timesteps evenly over the whole range, the same ones at every validation.
        shares = (torch.arange(count) + torch.rand((), generator=chance)) / count
        t = (shares * len(self.diffusion)).long().to(samples.device)
        noise = [
            torch.randn(part.shape, generator=chance).to(part.device)
            for part in (samples, *batch[1:])
        ]
        losses = [loss.double().sum() for loss in self.losses(self.average, batch, t, noise)]
        parts = [*losses, torch.zeros_like(losses[0])][:2]
        self.sums += torch.stack([*parts, torch.full_like(parts[0], count)])

    def on_validation_epoch_end(self) -> None:
        gathered = cast(Tensor, self.all_gather(self.sums)).reshape(-1, 3).sum(0)
        video, audio, count = gathered.tolist()
        self.log("val_video_loss", video / count, sync_dist=True)
        if isinstance(self.network, AVDiT):
            self.log("val_audio_loss", audio / count, sync_dist=True)
        self.log("val_loss", (video + audio) / count, sync_dist=True)

    def configure_optimizers(self) -> dict[str, object]:  # pyright: ignore[reportIncompatibleMethodOverride]
        learnt = [value for value in self.network.parameters() if value.requires_grad]
        recipe = self.recipe
        optimizer = torch.optim.AdamW(
            learnt, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _rate(self, step: int) -> float:
        recipe = self.recipe
        rise = min(1.0, (step + 1) / max(1, recipe.warm_up))
        fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / self.total))
        return rise * (recipe.final_rate + (1 - recipe.final_rate) * fall)


def train_part(
    network: nn.Module,
    sets: tuple[Dataset[Any], Dataset[Any]],
    diffusion: Diffusion,
    recipe: AVRecipe,
    run_dir: Path,
    *,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Train the DiT or the AV-DiT and leave it with the averaged weights of the best validation.

    Raises TrainingInterrupted on Ctrl-C; resuming goes on from there.
    """
    train, held = sets
    sampler = StepSampler(_length(train), recipe.batch_size, recipe.seed)
    loaders = (
        DataLoader(train, batch_sampler=sampler, num_workers=recipe.workers),
        DataLoader(held, batch_size=recipe.batch_size),
    )
    module = JointModule(network.train(), diffusion, recipe)
    settings = TrainSettings(
        run_dir=run_dir,
        max_steps=module.total,
        seed=recipe.seed,
        dtype=recipe.dtype,
        device=recipe.device,
        devices=recipe.devices,
        gradient_clip=recipe.gradient_clip,
        validate_every=min(recipe.validate_every, module.total),
        monitor="val_loss",
        resume=resume,
    )
    result = fit(module, loaders, settings, on_progress=on_progress)
    if result.best_path is None:
        raise ValueError("no validation was better than none; needs clips to validate on")
    state = load_torch_checkpoint(result.best_path)
    prefix = "average."
    network.load_state_dict(
        {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    )
    network.eval().cpu()
    return result


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
) -> Fitted:
    """Train on pairs of clip and sound and write `run_dir/weights.safetensors`.

    `start` is a weight file to begin from: a DiT is taken as the backbone, an AV-DiT goes on
    learning; its config then counts. `on_progress` counts the steps of both runs together.
    Raises ValueError for a file that does not fit, TrainingInterrupted on Ctrl-C.
    """
    if sampling.audio_samples is None:
        raise ValueError("audio_samples is None; needs the number of samples of a clip's sound")
    config = config or small_config(sampling.size, sampling.frames, sampling.audio_samples)
    diffusion = process(sampling)
    given = None if start is None else load_network(start).network
    if given is not None and not isinstance(given, DiT | AVDiT):
        raise ValueError(f"{start} holds a {type(given).__name__}; needs a DiT or an AV-DiT")
    first = recipe.backbone_steps if given is None else 0

    def told(before: int) -> OnProgress | None:
        tell = on_progress
        if tell is None:
            return None
        return lambda step, _, metrics: tell(before + step, first + recipe.steps, metrics)

    seconds = 0.0
    metrics: dict[str, float] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if isinstance(given, AVDiT):
            network = given
        else:
            backbone = DiT(config.backbone) if given is None else given
            network = AVDiT.around(backbone, replace(config, backbone=backbone.config))
    if given is None:
        stills = _Stills(train, recipe.stills, recipe.seed), _Stills(held, 4, recipe.seed)
        result = train_part(
            network.backbone.requires_grad_(True),
            stills,
            diffusion,
            recipe,
            run_dir / "backbone",
            resume=resume,
            on_progress=told(0),
        )
        network.backbone.requires_grad_(False)
        seconds += result.seconds
        metrics["backbone_val_loss"] = float(result.best_score or 0.0)
    result = train_part(
        network,
        (_Spectrograms(train), _Spectrograms(held)),
        diffusion,
        recipe,
        run_dir / "joint",
        resume=resume,
        on_progress=told(first),
    )
    scores = [row["val_loss"] for row in result.history if "val_loss" in row]
    metrics |= {"first_val_loss": scores[0], "val_loss": float(result.best_score or 0.0)}
    fitted = Fitted(
        weights=run_dir / "weights.safetensors",
        steps=result.steps + first,
        seconds=seconds + result.seconds,
        metrics=metrics,
        train_items=_length(train),
        validation_items=_length(held),
    )
    facts = {
        "architecture": "av-dit",
        "trainable_parameters": network.trainable_parameters(),
        "frozen_parameters": network.frozen_parameters(),
        "recipe": asdict(recipe),
        "started_from": start.name if start else None,
        "train_items": fitted.train_items,
        "validation_items": fitted.validation_items,
        "metrics": {name: round(value, 5) for name, value in metrics.items()},
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
        prediction="start",
        variance="fixed_small",
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
) -> Fitted:
    """Train on a person's clips with sound; a tenth of them, at most 32, is held out.

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
    )
