"""How a network is trained: cross entropy on aligned trials, with the few tricks that help.

Published DBConformer trains on whole windows by Adam at one rate. Here the rate falls along a
cosine, weights are averaged, and trials are shifted, scaled and mirrored. B trials, C channels,
T samples of the window, N tokens, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from sigform_core.averaging import AveragedModule, scheduled
from sigform_core.training import OnProgress, StepSampler, TrainResult, TrainSettings, fit
from sigform_eeg.eeg_lmuformer import EEGLMUFormer
from sigform_eeg.networks import Network

SIDES = ("left", "right")
"""Words in the names of two classes that a mirrored head exchanges."""

PIECES = 8
"""Of a window, that are recombined."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long, how fast and with which distortions to train."""

    epochs: float = 40.0
    batch_size: int = 32
    learning_rate: float = 3e-3  # at its height
    weight_decay: float = 1e-2
    warm_up: int = 50  # steps
    final_rate: float = 0.02  # of learning_rate, at the end of the cosine
    gradient_clip: float = 5.0
    averaging: float = 0.995  # share of the running average that a step keeps
    label_smoothing: float = 0.1
    shift: float = 0.25  # s, by which windows begin earlier or later at most
    mirror: bool | None = None  # None: where the classes are a left and a right one
    recombine: float = 0.5  # share of trials put together from pieces of others of their class
    amplitude: float = 0.2  # standard deviation of the logarithm of a trial's gain
    noise: float = 0.0  # standard deviation, in units of the aligned signal's
    channel_dropout: float = 0.05
    first_token: float = 0.5  # s, before which prefixes do not count
    validate_every: int = 200  # steps
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    devices: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "gradient_clip", "validate_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; needs more than 0")
        for name in ("final_rate", "averaging", "label_smoothing", "recombine", "channel_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs 0 to 1")
        for name in ("shift", "amplitude", "noise", "first_token", "weight_decay", "warm_up"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; needs 0 or more")


@dataclass(frozen=True, kw_only=True)
class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Aligned trials of one or more subjects; windows start at `begin` when they are not shifted.

    Read by a DataLoader a batch at a time.
    """

    signals: Tensor  # (n, C, T and what windows are shifted over)
    labels: Tensor  # (n,)
    begin: int = 0  # samples

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.signals[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        return self.signals[chosen], self.labels[chosen]


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """What a head mirrored left to right is: the channels and classes in their new places."""

    channels: tuple[int, ...]
    classes: tuple[int, ...]


def find_mirror(channels: Sequence[str], classes: Sequence[str]) -> Mirror | None:
    """The mirror of a montage in the 10-5 system whose two classes are a left and a right one.

    None where a channel has no counterpart or the classes are others.
    """
    swapped = [_other_side(name) for name in classes]
    if len(classes) != 2 or swapped != [classes[1], classes[0]]:
        return None
    opposite = [_opposite(name) for name in channels]
    if not set(opposite) <= set(channels):
        return None
    return Mirror(channels=tuple(list(channels).index(name) for name in opposite), classes=(1, 0))


def _other_side(name: str) -> str:
    left, right = SIDES
    if left in name:
        return name.replace(left, right)
    return name.replace(right, left)


def _opposite(channel: str) -> str:
    """Odd numbers are on the left, the even ones that follow them on the right."""
    letters = channel.rstrip("0123456789")
    digits = channel[len(letters) :]
    if not digits:
        return channel
    number = int(digits)
    return f"{letters}{number + 1 if number % 2 else number - 1}"


class DecodingModule(AveragedModule[Network]):
    """Cross entropy of distorted windows; networks that give prefixes answer for each of them.

    `window` is T, `begin` where a window starts that is not shifted, `rate` in Hz.
    """

    def __init__(
        self, network: Network, recipe: Recipe, *, window: int, begin: int, rate: float,
        mirror: Mirror | None, steps: int,
    ) -> None:  # fmt: skip
        super().__init__(network, recipe.averaging)
        self.recipe = recipe
        self.window, self.begin, self.rate = window, begin, rate
        self.mirror = mirror
        self.steps = steps

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        del batch_index
        signals, labels = self.distort(*batch)
        loss, last = self._loss(self.network, signals, labels)
        self.log("train_loss", loss.detach())
        self.log("train_accuracy", (last.argmax(-1) == labels).float().mean())
        return loss

    @torch.no_grad()
    def distort(self, signals: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Windows (B, C, T) out of longer signals, and their labels (B,), distorted at random.

        All of it is drawn from torch's generator, which `fit` seeds anew for every step.
        """
        recipe, B = self.recipe, len(signals)
        room = signals.shape[-1] - self.window
        reach = round(recipe.shift * self.rate)
        low, high = max(0, self.begin - reach), min(room, self.begin + reach)
        starts = torch.randint(low, high + 1, (B,))
        index = starts[:, None] + torch.arange(self.window)  # (B, T)
        index = index[:, None].expand(-1, signals.shape[1], -1).to(signals.device)
        signals = signals.gather(2, index)
        if self.mirror is not None:
            turned = (torch.rand(B) < 0.5).to(signals.device)
            other = signals[:, list(self.mirror.channels)]
            signals = torch.where(turned[:, None, None], other, signals)
            swapped = torch.tensor(self.mirror.classes, device=labels.device)[labels]
            labels = torch.where(turned, swapped, labels)
        if recipe.recombine:
            signals = _recombined(signals, labels, recipe.recombine)
        if recipe.amplitude:
            gains = (recipe.amplitude * torch.randn(B, 1, 1)).exp()
            signals = signals * gains.to(signals.device)
        if recipe.noise:
            signals = signals + recipe.noise * torch.randn_like(signals)
        if recipe.channel_dropout:
            kept = torch.rand(B, signals.shape[1], 1) >= recipe.channel_dropout
            signals = signals * kept.to(signals.device)
        return signals, labels

    def _loss(self, network: Network, signals: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the logits of whole windows (B, K)."""
        smoothing = self.recipe.label_smoothing
        if not isinstance(network, EEGLMUFormer):
            logits = network(signals)
            return F.cross_entropy(logits, labels, label_smoothing=smoothing), logits
        prefixes = network.prefix_logits(signals)  # (B, N, K)
        count = prefixes.shape[1]
        first = math.ceil(self.recipe.first_token * self.rate / self.window * count)
        told = prefixes[:, min(first, count - 1) :]
        every = labels[:, None].expand(-1, told.shape[1])
        loss = F.cross_entropy(told.flatten(0, 1), every.flatten(), label_smoothing=smoothing)
        return loss, prefixes[:, -1]

    def on_validation_epoch_start(self) -> None:
        self.sums = torch.zeros(3, device=self.device)  # float32: mps has no float64

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        del batch_index
        signals, labels = batch
        loss, logits = self._loss(self.average, signals, labels)
        self.sums[0] += loss * len(labels)
        self.sums[1] += (logits.argmax(-1) == labels).sum()
        self.sums[2] += len(labels)

    def on_validation_epoch_end(self) -> None:
        gathered = self.all_gather(self.sums)
        loss, right, count = gathered.reshape(-1, 3).sum(0).tolist()  # pyright: ignore
        self.log("held_loss", loss / count, sync_dist=True)
        self.log("held_accuracy", right / count, sync_dist=True)

    def configure_optimizers(self) -> dict[str, object]:  # pyright: ignore[reportIncompatibleMethodOverride]
        matrices = [value for value in self.network.parameters() if value.ndim >= 2]
        others = [value for value in self.network.parameters() if value.ndim < 2]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.recipe.learning_rate,
        )
        recipe = self.recipe
        return scheduled(
            optimizer, self.steps, warm_up=recipe.warm_up, final_rate=recipe.final_rate
        )


def train_network(
    network: Network,
    train: Examples,
    recipe: Recipe,
    run_dir: Path,
    *,
    window: int,
    rate: float,
    mirror: Mirror | None = None,
    held: Examples | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[Network, TrainResult]:
    """Train and return the averaged network after the last step, in eval mode on the CPU.

    `window` in samples at `rate` Hz; `mirror` as `find_mirror` says, used unless the recipe says
    no. `held`, bare windows, is measured for the curve in metrics.csv and chooses nothing.
    Checkpoints go to `run_dir`, `resume` goes on from there. Raises TrainingInterrupted on Ctrl-C,
    ValueError where the recipe asks for a mirror that there is not.
    """
    if recipe.mirror and mirror is None:
        raise ValueError(
            "mirror is True; needs a left and a right class, and channels on both sides"
        )
    sampler = StepSampler(len(train), recipe.batch_size, recipe.seed)
    steps = math.ceil(recipe.epochs * len(train) / recipe.batch_size)
    loaders = (
        DataLoader(train, batch_sampler=sampler, collate_fn=_whole),
        None if held is None else DataLoader(held, batch_size=256, collate_fn=_whole),
    )
    settings = TrainSettings(
        run_dir=run_dir,
        max_steps=steps,
        seed=recipe.seed,
        dtype=recipe.dtype,
        device=recipe.device,
        devices=recipe.devices,
        gradient_clip=recipe.gradient_clip,
        validate_every=min(recipe.validate_every, steps),
        resume=resume,
        log_every=max(1, min(20, steps)),
    )
    module = DecodingModule(
        network.train(), recipe, window=window, begin=train.begin, rate=rate,
        mirror=None if recipe.mirror is False else mirror, steps=steps,
    )  # fmt: skip
    result = fit(module, loaders, settings, on_progress=on_progress)
    return module.average.eval().cpu(), result


def examples_of(
    signals: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.int64]], begin: int = 0
) -> Examples:
    """Examples out of the aligned trials (n, C, T) and labels (n,) of one or more subjects."""
    return Examples(
        signals=torch.from_numpy(np.concatenate(list(signals))),
        labels=torch.from_numpy(np.concatenate(list(labels))),
        begin=begin,
    )


def _recombined(signals: Tensor, labels: Tensor, share: float) -> Tensor:
    """Pieces of a share of the trials (B, C, T) from others of their class, in place in time.

    Segmentation and reconstruction (Lotte, Proc. IEEE 103(6), 2015).
    """
    B = len(labels)
    whole = (torch.rand(B) >= share).to(signals.device)
    own = torch.arange(B, device=signals.device)
    parts = []
    for piece in signals.tensor_split(PIECES, dim=-1):
        # Both orders are by class and within it by chance: one onto the other keeps classes.
        there, here = ((labels + torch.rand(B).to(signals.device) / 2).argsort() for _ in range(2))
        source = torch.empty_like(own)
        source[here] = there
        parts.append(piece[torch.where(whole, own, source)])
    return torch.cat(parts, dim=-1)


def _whole(batch: Any) -> tuple[Tensor, Tensor]:
    """Batches come whole out of Examples."""
    return batch
