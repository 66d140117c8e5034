"""How the diffusion networks are trained: images (DiT), clips (VDT), clips with sound (AV-DiT).

The published repositories have no training of VDT or AV-DiT; this one is ours. Clips are masked as
published. Small networks see whole pixels, and predict the clean clip: their width cannot carry
the noise of a patch. The error is then weighted by the signal-to-noise ratio, in bounds (arXiv
2303.09556).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sigform_core.averaging import AveragedModule, averaged_state, scheduled
from sigform_core.device import generator, pick_device
from sigform_core.training import OnProgress, StepSampler, TrainSettings, fit
from sigform_generate.data import ClipSet, held_out, to_tensor
from sigform_generate.diffusion import TRAINING_STEPS, Diffusion, Prediction, Variance, betas
from sigform_generate.encoded import EncodedClips
from sigform_generate.fitting import Fitted
from sigform_generate.latents import moved
from sigform_generate.masks import MODES, draw_mask, mode_mask
from sigform_generate.networks import Loaded, Sampling, save_network
from sigform_generate.policy import PLAIN
from sigform_generate.published import load_any
from sigform_generate.sampling import Tensors, denoiser, sample
from sigform_generate.upstream_diffusion import NOTICE, SHRUNK
from sigform_generate.vdt import PUBLISHED, VDT, VDTConfig

if TYPE_CHECKING:
    from sigform_generate.data import OnPrepared, Source
    from sigform_generate.latents import PictureCodec

OnSamples = Callable[[int, Tensors], None]
"""Step, and samples of each modality (B, ..., C, H, W) in [-1, 1] from the averaged weights."""

VALIDATED_AT = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the timesteps at which validation denoises."""

LARGEST_WEIGHT = 5.0
"""Of the error at a timestep, where the network predicts the clean sample."""

SHEET = 8
"""Samples shown during training."""


@dataclass(frozen=True, kw_only=True)
class DiffusionRecipe:
    """How long, on what and how fast to train."""

    steps: int = 20_000
    batch_size: int = 4
    learning_rate: float = 5e-4  # at its height
    warm_up: int = 200  # steps
    final_rate: float = 0.02  # of learning_rate, at the end of the cosine
    gradient_clip: float = 1.0
    averaging: float = 0.999  # share of the running average that a step keeps
    schedule: str = "linear"  # frames repeat each other: they stand more noise than images
    prediction: Prediction = "start"
    variance: Variance = "fixed_large"
    mirror: bool = True  # show clips mirrored, too
    validate_every: int = 500  # steps
    sample_every: int = 1000  # steps between sample sheets
    sample_steps: str = "ddim20"
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    devices: int = 1
    workers: int = 0  # processes that load items

    @classmethod
    def published(cls, steps: int = 1_000_000) -> Self:
        """DiT's and VDT's own, for latents: predicted noise and variance, Adam at 1e-4."""
        return cls(
            steps=steps,
            batch_size=256,
            learning_rate=1e-4,
            warm_up=0,
            final_rate=1.0,
            averaging=0.9999,
            schedule="linear",
            prediction="noise",
            variance="learned_range",
            sample_steps="250",
        )

    def diffusion(self) -> Diffusion:
        """The process in its training steps."""
        tables = betas(self.schedule, TRAINING_STEPS)
        return Diffusion(tables, prediction=self.prediction, variance=self.variance)


class DiffusionModule(AveragedModule[nn.Module]):
    """The hybrid loss of a network on noised items; validates an average of its weights.

    A batch is one tensor, or a tuple of one a modality, (B, ..., C, H, W) in [-1, 1], noised to
    the same timestep each. `masked` draws a mask for each clip (B, T, C, H, W), as published.
    `latent` says that items are no pixels: guesses are not kept in range, no PSNR is taken.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: DiffusionRecipe,
        *,
        masked: bool = False,
        latent: bool = False,
        on_samples: OnSamples | None = None,
    ) -> None:
        super().__init__(network, recipe.averaging)
        self.recipe = recipe
        self.masked = masked
        self.latent = latent
        self.diffusion = recipe.diffusion()
        self.on_samples = on_samples
        self.shapes: list[tuple[int, ...]] = []

    def training_step(self, batch: Tensor | Tensors, batch_index: int) -> Tensor:
        del batch_index
        starts = modalities(batch)
        count, steps = len(starts[0]), len(self.diffusion)
        # Spread over the steps: one draw shifts them all, which makes the loss less noisy.
        places = (torch.rand(1) + torch.arange(count) / count) % 1.0
        t = (places * steps).long().to(self.device)
        noises = tuple(torch.randn_like(start) for start in starts)
        masks = self.draw_masks(starts[0]) if self.masked else None
        errors, bounds = self.losses(self.network, starts, t, noises, masks)
        loss = (errors * self.weight(t)).mean() + bounds.mean()
        self.log("train_loss", loss)
        return loss

    def losses(
        self,
        network: nn.Module,
        starts: Tensors,
        t: Tensor,
        noises: Tensors,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Squared error and bound, (B,) each, summed over the modalities.

        The error is the mean over what the masks (B, T, 1, H, W) leave to generate.
        """
        noisy = tuple(
            self.diffusion.noised(start, t, noise)
            for start, noise in zip(starts, noises, strict=True)
        )
        seen = noisy
        if masks is not None:
            seen = (torch.where(masks > 0, noisy[0], starts[0]), *noisy[1:])
        outputs = denoiser(network)(seen, t, PLAIN)
        errors = bounds = torch.zeros(len(t), device=t.device)
        for number, (output, start, x, noise) in enumerate(
            zip(outputs, starts, noisy, noises, strict=True)
        ):
            mask = masks if number == 0 else None
            found = self.diffusion.losses(output.float(), start, x, t, noise, mask)
            share = 1.0 if mask is None else mask.flatten(1).mean(dim=1)
            errors, bounds = errors + found.mse / share, bounds + found.vb
        return errors, bounds

    def weight(self, t: Tensor) -> Tensor:
        """What the error at timesteps (B,) counts; 1 for predicted noise, as published."""
        if self.diffusion.prediction == "noise":
            return torch.ones(len(t), device=t.device)
        product = self.diffusion.alphas_cumprod.to(t.device)[t]
        # 1 / (1 - product) makes the error that of the velocity.
        return (1 / (1 - product)).clamp(max=LARGEST_WEIGHT).float()

    def draw_masks(self, clips: Tensor) -> Tensor:
        """A mask for each of the clips (B, T, C, H, W), (B, T, 1, H, W)."""
        frames, _, height, width = clips.shape[1:]
        random = np.random.default_rng(int(torch.randint(1 << 62, ())))
        drawn = [draw_mask(random, (frames, height, width)) for _ in range(len(clips))]
        return torch.stack(drawn).unsqueeze(2).to(clips.device)

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        del outputs, batch_idx
        if self.on_samples is None or self.global_rank:
            return
        if not isinstance(batch, Tensor | tuple | list):
            return
        if self.global_step % self.recipe.sample_every == 0:
            shapes = [tuple(start.shape[1:]) for start in modalities(batch)]
            made = sample(
                denoiser(self.average),
                self.diffusion,
                shapes,
                seeds=[self.recipe.seed + number for number in range(SHEET)],
                steps=self.recipe.sample_steps,
                clip=not self.latent,
                device=self.device,
            )
            shown = made if self.latent else tuple(x.clamp(-1, 1) for x in made)
            self.on_samples(self.global_step, tuple(x.cpu() for x in shown))

    def on_validation_epoch_start(self) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: Tensor | Tensors, batch_index: int) -> None:
        starts = modalities(batch)
        steps = len(self.diffusion)
        for place, share in enumerate(VALIDATED_AT):
            source = generator(batch_index * len(VALIDATED_AT) + place)
            noises = tuple(
                torch.randn(start.shape, generator=source).to(start.device) for start in starts
            )
            t = torch.full((len(starts[0]),), int(share * steps), device=self.device)
            errors, _ = self.losses(self.average, starts, t, noises)
            weighted = errors * self.weight(t)
            self.sums[:2] += torch.stack([weighted.sum(), weighted.new_tensor(len(t))])
        if self.masked and not self.latent:
            for number, clip in enumerate(starts[0]):
                value = predict_psnr(self.average, self.diffusion, clip, batch_index + number)
                self.sums[2:] += self.sums.new_tensor([value, 1.0])

    def on_validation_epoch_end(self) -> None:
        gathered = self.all_gather(self.sums)
        total, count, psnr, clips = gathered.reshape(-1, 4).sum(0).tolist()  # pyright: ignore
        self.log("val_loss", total / count, sync_dist=True)
        if clips:
            self.log("val_predict_psnr", psnr / clips, sync_dist=True)

    def configure_optimizers(self) -> dict[str, object]:  # pyright: ignore[reportIncompatibleMethodOverride]
        recipe = self.recipe
        learnt = [value for value in self.network.parameters() if value.requires_grad]
        optimizer = torch.optim.AdamW(
            learnt, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        return scheduled(
            optimizer, recipe.steps, warm_up=recipe.warm_up, final_rate=recipe.final_rate
        )


def modalities(batch: Tensor | Sequence[Tensor]) -> Tensors:
    """A batch as one tensor a modality."""
    return (batch,) if isinstance(batch, Tensor) else tuple(batch)


def predict_psnr(network: nn.Module, diffusion: Diffusion, clip: Tensor, seed: int) -> float:
    """PSNR in dB of the second half of a clip (T, C, H, W), guessed from the first in one step.

    The guess from pure noise is the network's mean of what may follow, so no sample is sharper.
    """
    frames, _, height, width = clip.shape
    mask = mode_mask("predict", (frames, height, width)).to(clip.device)[:, None]
    noise = torch.randn(clip.shape, generator=generator(seed)).to(clip.device)
    t = torch.full((1,), len(diffusion) - 1, device=clip.device)
    with torch.inference_mode():
        seen = torch.where(mask > 0, noise, clip)[None]
        output = denoiser(network)((seen,), t, PLAIN)[0]
        made = diffusion.moments(output.float(), noise[None], t, clip=True).start[0]
    return clip_psnr(made, clip, mask)


def repeat_psnr(clip: Tensor) -> float:
    """The same when the last given frame is repeated: what a prediction has to beat."""
    frames, _, height, width = clip.shape
    mask = mode_mask("predict", (frames, height, width))[:, None].to(clip.device)
    return clip_psnr(clip[frames // 2 - 1].expand_as(clip), clip, mask)


def clip_psnr(made: Tensor, wanted: Tensor, mask: Tensor) -> float:
    """PSNR in dB, of values in [-1, 1], over what the mask (T, 1, H, W) leaves to generate."""
    error = ((made - wanted) ** 2 * mask).sum() / mask.expand_as(wanted).sum()
    return float(10 * torch.log10(4 / error.clamp(min=1e-12)))


def train_diffusion(
    network: nn.Module,
    train: Dataset[Any],
    validation: Dataset[Any],
    recipe: DiffusionRecipe,
    run_dir: Path,
    *,
    masked: bool = False,
    latent: bool = False,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    on_samples: OnSamples | None = None,
) -> Fitted:
    """Train `network` and leave it with the average of best validation, in eval mode on the CPU.

    Items are tensors, or tuples of one a modality, in [-1, 1] unless `latent`. Checkpoints and
    metrics.csv go to `run_dir`, `resume` goes on from there; no weight file is written. Raises
    TrainingInterrupted on Ctrl-C.
    """
    count: int = len(train)  # pyright: ignore[reportArgumentType]
    held: int = len(validation)  # pyright: ignore[reportArgumentType]
    sampler = StepSampler(count, recipe.batch_size, recipe.seed)
    loaders = (
        DataLoader(train, batch_sampler=sampler, num_workers=recipe.workers),
        DataLoader(validation, batch_size=1),
    )
    settings = TrainSettings(
        run_dir=run_dir,
        max_steps=recipe.steps,
        seed=recipe.seed,
        dtype=recipe.dtype,
        device=recipe.device,
        devices=recipe.devices,
        gradient_clip=recipe.gradient_clip,
        validate_every=min(recipe.validate_every, recipe.steps),
        monitor="val_loss",
        mode="min",
        resume=resume,
    )
    module = DiffusionModule(
        network.train(), recipe, masked=masked, latent=latent, on_samples=on_samples
    )
    result = fit(module, loaders, settings, on_progress=on_progress)
    if result.best_path is None:
        raise ValueError("no validation was better than none; needs items to validate on")
    load_average(network, result.best_path)
    best = min(
        (row for row in result.history if "val_loss" in row), key=lambda row: row["val_loss"]
    )
    metrics = {name: value for name, value in best.items() if name.startswith("val_")}
    return Fitted(
        weights=run_dir / "weights.safetensors",
        steps=result.steps,
        seconds=result.seconds,
        metrics=metrics,
        train_items=count,
        validation_items=held,
    )


def load_average(network: nn.Module, checkpoint: Path) -> None:
    """Give `network` the averaged weights of a training's checkpoint, in eval mode on the CPU."""
    network.load_state_dict(averaged_state(checkpoint))
    network.eval().cpu()


class Windows(Dataset[Tensor]):
    """The windows of a ClipSet (T, 3, S, S), mirrored only where that is wanted."""

    def __init__(self, clips: ClipSet, *, mirror: bool) -> None:
        self.clips = clips
        self.mirror = mirror

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Tensor:
        number, first, mirrored = self.clips.window(index)
        pixels = self.clips.clips[number][first : first + self.clips.frames]
        return to_tensor(pixels[:, :, ::-1] if mirrored and self.mirror else pixels)


def small_config(size: int, frames: int) -> VDTConfig:
    """A VDT over pixels that two cores can train: 3.7 M parameters, patches of 8 x 8."""
    return VDTConfig(
        input_size=size,
        patch_size=8,
        in_channels=3,
        hidden_size=160,
        depth=6,
        num_heads=5,
        class_dropout_prob=0.0,
        num_classes=1,
        learn_sigma=False,
        refine_channels=32,
        num_frames=frames,
    )


def published_config(model: str, size: int, frames: int) -> VDTConfig:
    """A published VDT, a name in `vdt.PUBLISHED`, for the latents of clips of `size` pixels."""
    return replace(PUBLISHED[model], input_size=size // SHRUNK, num_frames=frames)


def fit_clips(
    sources: Sequence[Source],
    run_dir: Path,
    recipe: DiffusionRecipe,
    *,
    size: int = 64,
    frames: int = 16,
    fps: float = 10.0,
    config: VDTConfig | None = None,
    codec: PictureCodec | None = None,
    start: Path | None = None,
    resume: bool = False,
    card: dict[str, Any] | None = None,
    on_prepared: OnPrepared | None = None,
    on_encoded: OnPrepared | None = None,
    on_progress: OnProgress | None = None,
    on_samples: OnSamples | None = None,
) -> Fitted:
    """Train a VDT on clips and write `run_dir/weights.safetensors`: all modes in one network.

    `config` is the small one by default. `codec` is Stable Diffusion's, for latents and published
    sizes (`published_config`); each clip is encoded once. `start` is a weight file of a VDT of this
    size and length to go on from, ours or published. A tenth of the clips is held out. `card` adds
    to what the file says of itself. Raises ValueError for a file that does not fit, InputError
    where too few clips can be read, TrainingInterrupted on Ctrl-C.
    """
    begun = None if start is None else load_any(start)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network: Any = VDT(config or small_config(size, frames)) if begun is None else begun.network
    if not isinstance(network, VDT):
        raise ValueError(f"{start} is for {type(network).__name__}; needs a VDT")
    shown, kept = held_out(sources, recipe.seed)
    train, held = (
        ClipSet(
            part,
            frames,
            size,
            fps,
            augment=part is shown,
            seed=recipe.seed,
            cache=run_dir / "clips",
            on_prepared=on_prepared if part is shown else None,
        )
        for part in (shown, kept)
    )
    if codec is None:
        watched = Windows(held, mirror=False)
        _check_shape(network, watched[0])
        windows = Windows(train, mirror=recipe.mirror)
    else:
        codec, latents = moved(codec, pick_device(recipe.device)), run_dir / "latents"
        watched = EncodedClips(held, codec, cache=latents)
        _check_shape(network, watched[0])
        windows = EncodedClips(
            train, codec, mirror=recipe.mirror, cache=latents, on_encoded=on_encoded
        )
        on_samples = decoded(on_samples, codec)
    fitted = train_diffusion(
        network,
        windows,
        watched,
        recipe,
        run_dir,
        masked=True,
        latent=codec is not None,
        resume=resume,
        on_progress=on_progress,
        on_samples=on_samples,
    )
    repeated = float(np.mean([repeat_psnr(held[number]) for number in range(len(held))]))
    metrics = {**fitted.metrics, "val_repeat_psnr": repeated}
    fitted = replace(
        fitted, metrics=metrics, train_items=len(train.sources), validation_items=len(held.sources)
    )
    told = {
        "recipe": asdict(recipe),
        "started_from": start.name if start else None,
        "train_clips": fitted.train_items,
        "validation_clips": fitted.validation_items,
        "metrics": {name: round(value, 5) for name, value in metrics.items()},
        "steps": fitted.steps,
        "seconds": round(fitted.seconds),
        **terms_of(begun),
        **(card or {}),
    }
    sampling = Sampling(
        size=size,
        frames=frames,
        fps=fps,
        schedule=recipe.schedule,
        diffusion_steps=TRAINING_STEPS,
        prediction=recipe.prediction,
        variance=recipe.variance,
        codec="pixel" if codec is None else "sd-vae",
        modes=MODES,
    )
    save_network(fitted.weights, network, told, sampling=sampling)
    (run_dir / "card.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    return fitted


def decoded(on_samples: OnSamples | None, codec: PictureCodec) -> OnSamples | None:
    """Shows frames in place of their latents, the first modality of the samples."""
    if on_samples is None:
        return None
    return lambda step, made: on_samples(step, (codec.decode(made[0]).cpu(), *made[1:]))


def terms_of(begun: Loaded | None) -> dict[str, Any]:
    """The licence of published weights, which holds for what is trained from them too."""
    bound = begun is not None and begun.card.get("licence") == NOTICE
    return {"licence": NOTICE} if bound else {}


def _check_shape(network: VDT, clip: Tensor) -> None:
    """Raise ValueError when the network does not take the clips (T, C, h, w)."""
    config = network.config
    wanted = (config.num_frames, config.in_channels, config.input_size, config.input_size)
    if clip.shape != wanted:
        raise ValueError(
            f"the network makes {' x '.join(map(str, wanted))} (frames, channels, height, width); "
            f"the clips are {' x '.join(map(str, clip.shape))}"
        )
