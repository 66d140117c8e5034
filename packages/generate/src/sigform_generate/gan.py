"""How StyleSwin is trained: a generator against a discriminator, as published, or in little time.

The published recipe (arXiv 2112.10762, appendix): logistic loss, a gradient penalty on every 16th
step (R1), Adam at two rates, an average of the generator's weights, balanced consistency, rates
that fall linearly at the end. `GanRecipe.published` has its numbers. The default is for a thousand
images and a small network: both networks see augmented images only (arXiv 2006.10738), and a step
uses the images it has made twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from sigform_core.averaging import averaged, follow
from sigform_core.device import generator
from sigform_core.reference import load_reference
from sigform_core.training import OnProgress, StepSampler, TrainSettings, fit
from sigform_core.weights import is_weight_file, load_torch_checkpoint, load_weights, save_weights
from sigform_generate.augment import augment
from sigform_generate.data import ImageSet, OnPrepared, held_out
from sigform_generate.evaluation import kernel_distance
from sigform_generate.features import ImageProxy, extract
from sigform_generate.fitting import Fitted
from sigform_generate.growing import grow_discriminator, grow_generator
from sigform_generate.networks import load_network, save_network
from sigform_generate.styleswin import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    from_pixels,
    to_pixels,
)
from sigform_generate.upstream_styleswin import load_discriminator, load_styleswin

OnSamples = Callable[[int, Tensor], None]
"""Step, and images (n, 3, H, W) in [-1, 1] that the averaged weights make of the same vectors."""

SHEET = 36
"""Images shown during training."""

VALIDATED = 256
"""Images made at a validation."""

GRADIENT_CLIP = 5.0
"""Largest norm of the discriminator's gradients."""

LEAST = 8
"""Images that a training needs: there is nothing to learn from fewer."""

DISCRIMINATOR = "discriminator.safetensors"
"""Beside the weights of the generator; a training that starts from these goes on with it."""


@dataclass(frozen=True, kw_only=True)
class GanRecipe:
    """How long, on what and how fast to train; rates are per step of `batch_size` images."""

    steps: int = 20_000
    batch_size: int = 8
    generator_rate: float = 3e-4
    discriminator_rate: float = 4e-4
    decay_from: float = 0.4  # share of the steps after which rates fall to 0
    r1: float = 4.0  # weight of the gradient penalty
    r1_every: int = 16  # steps
    consistency: float = 0.0  # weight of balanced consistency; 0 leaves it out
    augmented: bool = False  # both networks see augmented images only: for long trainings on few
    fresh_images: bool = False  # the generator's step makes images of its own
    half_life: float = 3_000  # images after which the average keeps half of what it was
    flip: bool = True  # mirrored images are as good
    small: bool = True  # a network for 64 pixels and a processor, not the published widths
    validate_every: int = 500  # steps, also between sample sheets
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"  # of the generator; the discriminator needs float32
    devices: int = 1
    workers: int = 0  # processes that load images

    def __post_init__(self) -> None:
        if self.steps < 1 or self.r1_every < 1 or self.validate_every < 1:
            raise ValueError("steps, r1_every and validate_every need to be 1 or more")
        share = self.batch_size / max(1, self.devices)
        if share < 1 or share % 1 or (share > 4 and share % 4):
            raise ValueError(
                f"batch_size is {self.batch_size}; needs up to 4 or a multiple of 4 a device"
            )
        if not 0 <= self.decay_from <= 1:
            raise ValueError(f"decay_from is {self.decay_from}; needs 0 to 1")

    @classmethod
    def published(cls, size: int = 256) -> Self:
        """The published recipe for FFHQ at 256 or 1024 pixels (batches of 8 GPUs together)."""
        large = size > 256
        return cls(
            steps=1_000_000,
            batch_size=16 if large else 32,
            generator_rate=5e-5,
            discriminator_rate=2e-4,
            decay_from=0.6 if large else 0.775,
            r1=10.0,
            consistency=0.0 if large else 10.0,
            augmented=False,
            fresh_images=True,
            half_life=10_000,
            flip=False,
            small=False,
            validate_every=5_000,
        )


def networks_for(size: int, recipe: GanRecipe) -> tuple[Generator, Discriminator]:
    """Fresh networks for images of `size` pixels, by the recipe's seed."""
    if recipe.small:
        stages = size.bit_length() - 2
        widths = (128, 128, 64, 48, 16, 16, 16, 16, 16)[:stages]
        # The last is that of the first layer, at half the image's side: as wide as the next.
        seen_widths = (192, 128, 96, 48, 32, 16, 16, 16, 16)[: stages - 1]
        made = GeneratorConfig(
            size=size,
            style_dim=128,
            n_mlp=4,
            mlp_ratio=2.0,
            min_heads=2,
            in_channels_by_stage=widths,
        )
        seen = DiscriminatorConfig(size=size, sn=False, channels=(*seen_widths, seen_widths[-1]))
    else:
        multiplier = 1 if size > 256 else 2
        made = GeneratorConfig(size=size, channel_multiplier=multiplier)
        seen = DiscriminatorConfig(size=size, channel_multiplier=multiplier)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Generator(made), Discriminator(seen)


class GanModule(lightning.LightningModule):
    """The two networks' losses on images (B, 3, H, W) in [-1, 1].

    Validation is a kernel distance between features of held-out images and of as many as
    VALIDATED images of the averaged generator: `val_proxy_kid`, by a fixed random network.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        recipe: GanRecipe,
        on_samples: OnSamples | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.average = averaged(generator)
        self.recipe = recipe
        self.on_samples = on_samples
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def training_step(self, batch: Tensor, batch_index: int) -> None:
        del batch_index
        real = from_pixels(batch)
        step = int(self.taken)
        made_by, seen_by = self.optimizers()  # pyright: ignore[reportGeneralTypeIssues]
        self._set_rates(made_by, seen_by, step)
        recipe = self.recipe
        images = self.make(len(real), gradients=not recipe.fresh_images)

        judged = self.judge_loss(real, images.detach())
        seen_by.zero_grad()
        self.manual_backward(judged)
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), GRADIENT_CLIP)
        seen_by.step()
        if step % recipe.r1_every == 0:
            penalty = self.penalty(real)
            seen_by.zero_grad()
            # Weighted up for the steps that went without.
            self.manual_backward(recipe.r1 / 2 * penalty * recipe.r1_every)
            nn.utils.clip_grad_norm_(self.discriminator.parameters(), GRADIENT_CLIP)
            seen_by.step()
            self.log("r1", penalty.detach())

        if recipe.fresh_images:
            images = self.make(len(real), gradients=True)
        self.discriminator.requires_grad_(False)
        fooled = F.softplus(-self.score(self._shown(images))).mean()
        made_by.zero_grad()
        self.manual_backward(fooled)
        made_by.step()
        self.discriminator.requires_grad_(True)
        keep = 0.5 ** (len(real) * self.trainer.world_size / recipe.half_life)
        follow(self.average, self.generator, keep, step)
        self.taken += 1
        self.log_dict({"d_loss": judged.detach(), "g_loss": fooled.detach()})

    def make(self, count: int, *, gradients: bool) -> Tensor:
        """Images of fresh random vectors: (count, 3, H, W)."""
        z = torch.randn(count, self.generator.config.style_dim).to(self.device)
        with torch.set_grad_enabled(gradients):
            return self.generator(z).float()

    def score(self, images: Tensor) -> Tensor:
        """The discriminator in float32: its gradients are the loss's weakest part."""
        with torch.autocast(self.device.type, enabled=False):
            return self.discriminator(images)

    def judge_loss(self, real: Tensor, made: Tensor) -> Tensor:
        """The discriminator's loss, with balanced consistency where the recipe has it."""
        real_score, made_score = self.score(self._shown(real)), self.score(self._shown(made))
        self.log_dict(
            {"real_score": real_score.detach().mean(), "made_score": made_score.detach().mean()}
        )
        loss = F.softplus(-real_score).mean() + F.softplus(made_score).mean()
        if self.recipe.consistency:
            changes = F.mse_loss(real_score, self.score(augment(real)))
            changes = changes + F.mse_loss(made_score, self.score(augment(made)))
            loss = loss + self.recipe.consistency * changes
        return loss

    def penalty(self, real: Tensor) -> Tensor:
        """R1: the mean squared length of the score's gradient at real images."""
        shown = self._shown(real).detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.score(shown).sum(), shown, create_graph=True)
        return slope.square().flatten(1).sum(dim=1).mean()

    def _shown(self, images: Tensor) -> Tensor:
        return augment(images) if self.recipe.augmented else images

    def _set_rates(self, made_by: Any, seen_by: Any, step: int) -> None:
        recipe = self.recipe
        left = (recipe.steps - step) / max(1.0, recipe.steps * (1 - recipe.decay_from))
        for optimizer, rate in (
            (made_by, recipe.generator_rate),
            (seen_by, recipe.discriminator_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, left)

    def samples(self, count: int) -> Tensor:
        """Images of the averaged generator, vector k by seed + k: (count, 3, H, W) in [-1, 1]."""
        z = torch.stack([first_vector(self.average, self.recipe.seed + k) for k in range(count)])
        with torch.no_grad():
            parts = [self.average(part).float() for part in z.to(self.device).split(16)]
        return to_pixels(torch.cat(parts)).cpu()

    def on_validation_epoch_start(self) -> None:
        self.held: list[Tensor] = []

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        del batch_index
        self.held.append(batch.cpu())

    def on_validation_epoch_end(self) -> None:
        held = torch.cat(self.held)
        net = ImageProxy()
        made = self.samples(VALIDATED)
        distance, _ = kernel_distance(extract(net, held), extract(net, made))
        self.log("val_proxy_kid", distance, sync_dist=True)
        if self.on_samples is not None and self.global_rank == 0:
            self.on_samples(int(self.taken), made[:SHEET])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        recipe = self.recipe
        # The penalty takes steps of its own: as published, Adam is slowed by as much.
        share = recipe.r1_every / (recipe.r1_every + 1)
        return [
            torch.optim.Adam(
                self.generator.parameters(), lr=recipe.generator_rate, betas=(0.0, 0.99)
            ),
            torch.optim.Adam(
                self.discriminator.parameters(),
                lr=recipe.discriminator_rate,
                betas=(0.0, 0.99**share),
            ),
        ]


def first_vector(network: Generator, seed: int) -> Tensor:
    """The random vector of a seed: (D,), on the CPU."""
    return torch.randn(network.config.style_dim, generator=generator(seed))


def fit_images(
    files: Sequence[Path],
    run_dir: Path,
    recipe: GanRecipe,
    *,
    size: int = 64,
    start: Path | None = None,
    resume: bool = False,
    card: dict[str, Any] | None = None,
    on_prepared: OnPrepared | None = None,
    on_progress: OnProgress | None = None,
    on_samples: OnSamples | None = None,
) -> Fitted:
    """Train on images and write `run_dir/weights.safetensors`: the average of best validation.

    `start` is a weight file of a generator to go on from, with the discriminator that lies beside
    it if one does, or a published checkpoint: of this size, or of half of it, which then grows.
    A tenth of the images is held out. `card` adds to what the file says of itself. Raises
    ValueError, InputError where too few images can be read, TrainingInterrupted on Ctrl-C;
    resuming goes on from there.
    """
    made_by, seen_by = networks_for(size, recipe) if start is None else started(start, size, recipe)
    train_files, held_files = held_out(files, recipe.seed)
    cache = run_dir / "images"
    train = ImageSet(
        train_files,
        size,
        flip=recipe.flip,
        seed=recipe.seed,
        least=LEAST,
        cache=cache,
        on_prepared=on_prepared,
    )
    held = ImageSet(held_files, size, least=2, cache=cache)
    sampler = StepSampler(len(train), recipe.batch_size, recipe.seed)
    loaders = (
        DataLoader(train, batch_sampler=sampler, num_workers=recipe.workers),
        DataLoader(held, batch_size=32),
    )
    settings = TrainSettings(
        run_dir=run_dir,
        max_steps=recipe.steps,
        seed=recipe.seed,
        dtype=recipe.dtype,
        device=recipe.device,
        devices=recipe.devices,
        validate_every=min(recipe.validate_every, recipe.steps),
        monitor="val_proxy_kid",
        resume=resume,
    )
    module = GanModule(made_by.train(), seen_by.train(), recipe, on_samples)
    result = fit(module, loaders, settings, on_progress=on_progress)
    if result.best_path is None:
        raise ValueError("no validation was better than none; needs images to validate on")
    state = load_torch_checkpoint(result.best_path)
    for name, network in (("average", made_by), ("discriminator", seen_by)):
        network.load_state_dict(
            {
                key.removeprefix(f"{name}."): value
                for key, value in state.items()
                if key.startswith(f"{name}.")
            }
        )
    metrics = {"val_proxy_kid": float(result.best_score or 0.0)}
    fitted = Fitted(
        weights=run_dir / "weights.safetensors",
        steps=result.steps,
        seconds=result.seconds,
        metrics=metrics,
        train_items=len(train.files),
        validation_items=len(held.files),
    )
    told = {
        "recipe": asdict(recipe),
        "started_from": start.name if start else None,
        "train_images": fitted.train_items,
        "validation_images": fitted.validation_items,
        "val_proxy_kid": round(metrics["val_proxy_kid"], 5),
        "steps": fitted.steps,
        "seconds": round(fitted.seconds),
        **(card or {}),
    }
    # The discriminator first: where the weights are, what goes on from them is too.
    save_weights(
        run_dir / DISCRIMINATOR,
        seen_by.state_dict(),
        model="styleswin-discriminator",
        config=asdict(seen_by.config),
    )
    save_network(fitted.weights, made_by.eval().cpu(), told)
    return fitted


def started(start: Path, size: int, recipe: GanRecipe) -> tuple[Generator, Discriminator]:
    """A generator of ours to go on from, and its discriminator, a fresh one where it has none.

    Of half the size, both grow. Raises ValueError for another network or size.
    """
    ours = is_weight_file(start)
    network = (load_network if ours else load_styleswin)(start).network
    if not isinstance(network, Generator) or size not in (
        network.config.size,
        2 * network.config.size,
    ):
        raise ValueError(f"{start} is no StyleSwin of {size} or {size // 2} pixels; needs one")
    large, fresh = networks_for(size, recipe)
    grows = network.config.size < size
    if grows:
        grow_generator(network, large, generator(recipe.seed))
        network = large
    trained = beside(start) if ours else load_discriminator(start)
    if trained is None:
        return network, fresh
    if not grows:
        return network, trained
    grow_discriminator(trained, fresh)
    return network, fresh


def beside(start: Path) -> Discriminator | None:
    """The discriminator that lies beside a weight file of ours, if one does."""
    path = start.with_name(DISCRIMINATOR)
    if not path.is_file():
        return None
    file = load_weights(path, expect_model="styleswin-discriminator")
    return load_reference(Discriminator(DiscriminatorConfig(**file.config)), file.tensors)
