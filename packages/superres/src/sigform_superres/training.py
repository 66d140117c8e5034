"""How a network is trained: absolute error on random crops, Adam, and an average of its weights.

The recipe is the papers' (L1, Adam, crops turned and mirrored) with three changes for short
trainings: the learning rate falls along a cosine, the weights are averaged, and the training
starts from the best linear upscaling, solved in closed form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from sigform_core.averaging import AveragedModule, averaged_state, scheduled
from sigform_core.linear import solve
from sigform_core.training import OnProgress, StepSampler, TrainResult, TrainSettings, fit
from sigform_superres.convolution import Conv2d
from sigform_superres.data import CropSet, Pair, to_tensor
from sigform_superres.metrics import luma, psnr
from sigform_superres.networks import Network

SOLVE_CROPS = 192
"""Crops that the closed-form start is solved on."""

RIDGE = 1e-6
"""Of the features' mean square: keeps the solution small where features repeat each other."""

VALIDATION_SIDE = 96
"""Pixels of the small picture: validation looks at the middle of each picture up to this."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long, on what and how fast to train."""

    steps: int = 20_000
    batch_size: int = 16
    patch: int = 48  # side of a crop, in pixels of the small picture
    learning_rate: float = 5e-4  # at its height
    warm_up: int = 200  # steps
    final_rate: float = 0.01  # of learning_rate, at the end of the cosine
    gradient_clip: float = 1.0
    averaging: float = 0.999  # share of the running average that a step keeps
    solve_start: bool = True
    validate_every: int = 500  # steps
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    devices: int = 1
    workers: int = 0  # processes that cut crops


class UpscaleModule(AveragedModule[Network]):
    """L1 between the network's output and the crop; validates the averaged weights by PSNR on Y."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        super().__init__(network, recipe.averaging)
        self.recipe = recipe

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        del batch_index
        small, large = batch
        loss = F.l1_loss(self.network(small), large)
        self.log("train_loss", loss)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        del batch_index
        small, large = batch
        self.sums += torch.tensor([luma_psnr(self.average, small, large), 1.0]).to(self.sums)

    def on_validation_epoch_end(self) -> None:
        gathered = self.all_gather(self.sums)
        total, count = gathered.reshape(-1, 2).sum(0).tolist()  # pyright: ignore
        self.log("val_psnr", total / count, sync_dist=True)

    def configure_optimizers(self) -> dict[str, object]:  # pyright: ignore[reportIncompatibleMethodOverride]
        learnt = [value for value in self.network.parameters() if value.requires_grad]
        optimizer = torch.optim.Adam(learnt, lr=self.recipe.learning_rate, betas=(0.9, 0.99))
        recipe = self.recipe
        return scheduled(
            optimizer, recipe.steps, warm_up=recipe.warm_up, final_rate=recipe.final_rate
        )


def luma_psnr(network: nn.Module, small: Tensor, large: Tensor) -> float:
    """PSNR on Y of one picture in the papers' protocol: rounded output, border of s pixels."""
    with torch.inference_mode():
        made = network(small).clamp(0, 1).mul(255).round().float()
    scale = large.shape[-1] // small.shape[-1]
    made, wanted = (x[0].permute(1, 2, 0).cpu().numpy() for x in (made, large.float() * 255))
    return psnr(luma(made), luma(wanted), border=scale)


class Middles(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """The middle of each picture, for validation: (small (3, h, w), large (3, s * h, s * w))."""

    def __init__(self, pairs: Sequence[Pair], scale: int) -> None:
        self.pairs = pairs
        self.scale = scale

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pair, s = self.pairs[index], self.scale
        spans = []
        for size in pair.small.shape[:2]:
            side = min(size, VALIDATION_SIDE)
            spans.append(((size - side) // 2, (size - side) // 2 + side))
        (top, bottom), (left, right) = spans
        small = pair.small[top:bottom, left:right]
        large = pair.large[s * top : s * bottom, s * left : s * right]
        return to_tensor(small), to_tensor(large)


@torch.no_grad()
def solve_upsampling(network: Network, crops: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Set the last convolution to the least-squares answer on these crops, features as they are.

    With the body silenced (its last convolution zero) the network is then the best linear filter
    of 5x5 pixels, a little better than bicubic; with the body of a network for another scale it
    is the quickest way to this one.
    """
    last = getattr(network, "upsample", [None])[0]
    if not isinstance(last, Conv2d):
        raise ValueError(f"the network ends in {type(last).__name__}; needs one convolution")
    products = answers = torch.zeros(())
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        for small, large in crops:
            network(small[None])
            height, width = small.shape[1:]
            # Without what the network pads, and the pixels around it that saw zeros.
            image = seen.pop()[:, 1 : height - 1, 1 : width - 1].permute(0, 3, 1, 2)
            features = F.unfold(image, 3)[0].T.double()  # (n, 9 * C)
            features = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
            wanted = (large - network.mean.view(-1, 1, 1)) * network.config.img_range
            target = F.pixel_unshuffle(wanted, network.scale)[:, 2:-2, 2:-2]
            products = products + features.T @ features
            answers = answers + features.T @ target.flatten(1).T.double()
    finally:
        hook.remove()
    ridge = RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    solution = solve(products + ridge, answers)  # (9 * C + 1, s * s * 3)
    last.weight.copy_(solution[:-1].T.reshape(last.weight.shape))
    if last.bias is None:
        raise ValueError("the last convolution has no bias; needs one")
    last.bias.copy_(solution[-1])


def start_from(network: Network, other: Network) -> None:
    """Take over the weights of a network of the same shape for another scale, but the last layer.

    Raises ValueError naming what does not fit.
    """
    state = {
        name: value
        for name, value in other.state_dict().items()
        if not name.startswith("upsample.")
    }
    own = network.state_dict()
    for name in own:
        if name.startswith("upsample."):
            continue
        if name not in state or state[name].shape != own[name].shape:
            raise ValueError(f"the weights to start from do not fit: {name} differs")
    network.load_state_dict(state, strict=False)


def train_network(
    network: Network,
    train: Sequence[Pair],
    validation: Sequence[Pair],
    recipe: Recipe,
    run_dir: Path,
    *,
    fresh: bool = True,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[Network, TrainResult]:
    """Train and return the averaged network with the best validation PSNR, in eval mode.

    `fresh` says that the network's weights are random: its body is then silenced at the start.
    Checkpoints and metrics.csv go to `run_dir`, `resume` goes on from there. Raises ValueError
    when a crop does not fit the pictures, TrainingInterrupted on Ctrl-C.
    """
    crops = CropSet(train, network.scale, recipe.patch, recipe.seed)
    if recipe.solve_start and not (resume and (run_dir / "last.ckpt").exists()):
        if fresh:
            silence(network)
        network.eval()
        solve_upsampling(network, (crops[i] for i in range(SOLVE_CROPS)))
    sampler = StepSampler(len(crops), recipe.batch_size, recipe.seed)
    loaders = (
        DataLoader(crops, batch_sampler=sampler, num_workers=recipe.workers),
        DataLoader(Middles(validation, network.scale), batch_size=1),
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
        monitor="val_psnr",
        mode="max",
        resume=resume,
    )
    module = UpscaleModule(network.train(), recipe)
    result = fit(module, loaders, settings, on_progress=on_progress)
    if result.best_path is None:
        raise ValueError("no validation was better than none; needs pictures to validate on")
    network.load_state_dict(averaged_state(result.best_path))
    return network.eval().cpu(), result


def silence(network: Network) -> None:
    """Make the body add nothing to the first features, until training makes it."""
    last = network.residual
    if last is not None:
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)


def split_validation(
    pictures: Sequence[Path], seed: int, share: float = 0.03
) -> tuple[list[Path], list[Path]]:
    """Pictures to train on and to validate on, by a draw from the seed: at least one of each.

    Raises ValueError for fewer than two pictures.
    """
    if len(pictures) < 2:
        raise ValueError(f"{len(pictures)} picture is given; needs 2 or more")
    count = max(1, min(len(pictures) // 2, round(share * len(pictures))))
    chosen: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(pictures))[:count]
    held = set(chosen.tolist())
    train = [path for number, path in enumerate(pictures) if number not in held]
    return train, [pictures[number] for number in sorted(held)]
