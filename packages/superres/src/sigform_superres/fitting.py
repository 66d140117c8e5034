"""From a folder of pictures to a weight file: what the command `train` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sigform_superres.data import OnPrepared, Pair, prepare_pairs
from sigform_superres.networks import build, load_network, save_network
from sigform_superres.resizing import imresize
from sigform_superres.training import (
    Middles,
    Recipe,
    luma_psnr,
    split_validation,
    start_from,
    train_network,
)

if TYPE_CHECKING:
    from sigform_core.training import OnProgress


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training came to; PSNR on Y of the validation pictures, in dB."""

    weights: Path
    steps: int
    best_psnr: float
    bicubic_psnr: float
    train_pictures: int
    validation_pictures: int
    seconds: float


def fit_folder(
    pictures: Sequence[Path],
    architecture: str,
    scale: int,
    run_dir: Path,
    recipe: Recipe,
    *,
    start: Path | None = None,
    card: dict[str, Any] | None = None,
    resume: bool = False,
    on_prepared: OnPrepared | None = None,
    on_progress: OnProgress | None = None,
) -> Fitted:
    """Train on pictures and write `run_dir/weights.safetensors` with its card inside.

    `start` is a weight file of the same architecture, for any scale: with another scale all but
    its last layer is taken over. A share of the pictures is held out for validation. `card` adds
    to what the file says of itself. Raises ValueError, InputError for a broken picture,
    TrainingInterrupted on Ctrl-C; resuming goes on from there.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build(architecture, scale)
    if start is not None:
        other, _ = load_network(start)
        if other.scale == scale:
            network.load_state_dict(other.state_dict())
            recipe = replace(recipe, solve_start=False)  # what it has learnt is better
        else:
            start_from(network, other)
    train_files, held_files = split_validation(pictures, recipe.seed)
    train = prepare_pairs(
        train_files, scale, run_dir / "pairs", least=recipe.patch, on_prepared=on_prepared
    )
    held = prepare_pairs(held_files, scale, run_dir / "pairs", least=16)
    trained, result = train_network(
        network,
        train,
        held,
        recipe,
        run_dir,
        fresh=start is None,
        resume=resume,
        on_progress=on_progress,
    )
    fitted = Fitted(
        weights=run_dir / "weights.safetensors",
        steps=result.steps,
        best_psnr=float(result.best_score or 0.0),
        bicubic_psnr=bicubic_psnr(held, scale),
        train_pictures=len(train),
        validation_pictures=len(held),
        seconds=result.seconds,
    )
    told = {
        "architecture": architecture,
        "scale": scale,
        "recipe": asdict(recipe),
        "started_from": start.name if start else None,
        "train_pictures": fitted.train_pictures,
        "validation_psnr": round(fitted.best_psnr, 3),
        "validation_bicubic_psnr": round(fitted.bicubic_psnr, 3),
        "steps": fitted.steps,
        "seconds": round(fitted.seconds),
        **(card or {}),
    }
    save_network(fitted.weights, trained, told)
    (run_dir / "card.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    return fitted


def bicubic_psnr(pairs: Sequence[Pair], scale: int) -> float:
    """Mean PSNR of bicubic on the same middles of the pictures that validation looks at."""
    bicubic, middles = _Bicubic(scale), Middles(pairs, scale)
    parts = (middles[number] for number in range(len(middles)))
    return float(np.mean([luma_psnr(bicubic, small[None], large[None]) for small, large in parts]))


class _Bicubic(nn.Module):
    """MATLAB's bicubic with a network's interface."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, small: Tensor) -> Tensor:
        pixels = small[0].permute(1, 2, 0).double().numpy()
        made = imresize(pixels, self.scale)
        return torch.from_numpy(made).permute(2, 0, 1)[None]
