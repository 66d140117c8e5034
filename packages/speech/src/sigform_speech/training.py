"""How a network is trained: permutation-invariant SI-SDR on mixtures made on the fly.

The loss and dynamic mixing are the papers'. Four changes make short trainings of small networks
worth while: the network starts as one that hands out the mixture itself, matrices are learnt by
Muon, the learning rate falls along a cosine, and the weights are averaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sigform_core.averaging import AveragedModule, averaged_state, scheduled
from sigform_core.muon import MuonAdamW
from sigform_core.training import OnProgress, StepSampler, TrainResult, TrainSettings, fit
from sigform_speech.metrics import pit_si_sdr
from sigform_speech.mossformer import MossFormer
from sigform_speech.networks import Network

Mixtures = Dataset[tuple[Tensor, Tensor]]
"""(mixture (T,), sources (S, T))."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long, on what and how fast to train."""

    steps: int = 100_000
    batch_size: int = 4
    seconds: float = 3.0  # of a mixture
    learning_rate: float = 1e-3  # at its height
    weight_decay: float = 1e-2
    warm_up: int = 200  # steps
    final_rate: float = 0.02  # of learning_rate, at the end of the cosine
    gradient_clip: float = 5.0
    averaging: float = 0.999  # share of the running average that a step keeps
    best_db: float = 30.0  # SI-SDR above which a mixture has no more to teach
    start_simple: bool = True
    gain_db: float = 5.0
    speed: float = 0.1
    turns: float = 0.15
    validate_every: int = 500  # steps
    validation_items: int = 100
    seed: int = 0
    device: str = "auto"
    dtype: str = "bfloat16"
    devices: int = 1
    workers: int = 0  # processes that mix

    def __post_init__(self) -> None:
        for name in ("steps", "seconds", "learning_rate", "validate_every", "validation_items"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; needs more than 0")
        for name in ("final_rate", "averaging"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs 0 to 1")


class SeparationModule(AveragedModule[Network]):
    """Negative SI-SDR under the best assignment; validates the averaged weights by SI-SDRi."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        super().__init__(network, recipe.averaging)
        self.recipe = recipe

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        del batch_index
        mixture, sources = batch
        values, _ = pit_si_sdr(self.network(mixture).float(), sources)
        self.log("train_si_sdr", values.mean())
        return -values.clamp(max=self.recipe.best_db).mean()

    def on_validation_epoch_start(self) -> None:
        self.sums = torch.zeros(2, device=self.device)  # float32: mps has no float64

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        del batch_index
        self.sums[0] += improvement(self.average, *batch).sum()
        self.sums[1] += len(batch[0])

    def on_validation_epoch_end(self) -> None:
        gathered = self.all_gather(self.sums)
        total, count = gathered.reshape(-1, 2).sum(0).tolist()  # pyright: ignore
        self.log("val_si_sdri", total / count, sync_dist=True)

    def configure_optimizers(self) -> dict[str, object]:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Encoder and decoder are filters; Muon is meant for what lies between.
        named = list(self.network.named_parameters())
        hidden = [v for name, v in named if v.ndim == 2 and name not in ("encoder", "decoder")]
        others = [v for name, v in named if v.ndim != 2 or name in ("encoder", "decoder")]
        optimizer = MuonAdamW(
            hidden,
            others,
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
        )
        recipe = self.recipe
        return scheduled(
            optimizer, recipe.steps, warm_up=recipe.warm_up, final_rate=recipe.final_rate
        )


@torch.no_grad()
def improvement(network: Network, mixture: Tensor, sources: Tensor) -> Tensor:
    """SI-SDRi in dB of mixtures (B, T), under the best assignment to sources (B, S, T): (B,)."""
    separated, _ = pit_si_sdr(network(mixture).float(), sources)
    unprocessed, _ = pit_si_sdr(mixture.unsqueeze(1).expand_as(sources), sources)
    return separated - unprocessed


@torch.no_grad()
def start_simple(network: MossFormer) -> None:
    """Let a new network begin as one that gives about the mixture to every speaker, seeing well.

    The encoder is a tight frame of windowed waves, each with both signs since it is rectified, and
    the decoder its inverse, where the network has two filters a sample; filters beyond stay random.
    Masks begin around 0.2 everywhere, which leaves the mixture with an SI-SDR of about 5 dB.
    Attention begins next to nothing, as published: begun at full strength it learns half as fast.
    """
    waves = windowed_waves(network.kernel_size)
    filters = torch.cat([waves, -waves])[: network.config.d_model]
    network.encoder[: len(filters)] = filters
    network.decoder[: len(filters)] = filters
    network.encoder[len(filters) :] *= 0.3
    network.decoder[len(filters) :] *= 0.01
    masks = network.mask_net
    N = network.config.d_model
    masks.to_mask.weight.copy_(torch.eye(N) + 0.02 * torch.randn(N, N))
    masks.output.bias.fill_(0.5)


def windowed_waves(length: int) -> Tensor:
    """Cosines and sines of a real Fourier transform under a sine window: (length, length).

    Frames half a length apart, multiplied by these and by their transpose, add up to the signal;
    of an odd length they do so nearly, and a little louder.
    """
    time = torch.arange(length, dtype=torch.float64)
    rates = torch.arange(1, (length + 1) // 2, dtype=torch.float64)[:, None]
    angles = 2 * math.pi * rates * time / length
    rows = [torch.full((1, length), 0.5**0.5, dtype=torch.float64), angles.cos(), angles.sin()]
    if length % 2 == 0:
        rows.append((math.pi * time).cos()[None] * 0.5**0.5)
    window = (math.pi * (time + 0.5) / length).sin()
    return (torch.cat(rows) * window * (2 / length) ** 0.5).float()


def train_network(
    network: Network,
    train: Mixtures,
    validation: Mixtures,
    recipe: Recipe,
    run_dir: Path,
    *,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[Network, TrainResult]:
    """Train and return the averaged network with the best validation SI-SDRi, in eval mode.

    The mixtures of `train` have one length, those of `validation` any. Checkpoints and metrics.csv
    go to `run_dir`, `resume` goes on from there. Raises TrainingInterrupted on Ctrl-C.
    """
    sampler = StepSampler(len(train), recipe.batch_size, recipe.seed)  # pyright: ignore[reportArgumentType]
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
        monitor="val_si_sdri",
        mode="max",
        resume=resume,
    )
    module = SeparationModule(network.train(), recipe)
    result = fit(module, loaders, settings, on_progress=on_progress)
    if result.best_path is None:
        raise ValueError("no validation was better than none; needs mixtures to validate on")
    network.load_state_dict(averaged_state(result.best_path))
    return network.eval().cpu(), result
