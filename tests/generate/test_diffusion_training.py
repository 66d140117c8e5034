"""Training of diffusion networks: what it learns, what it writes, how it goes on."""

import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from generate.codecs import Shrinking
from torch import Tensor
from torch.utils.data import Dataset

from sigform_core.training import OnProgress, TrainingInterrupted
from sigform_generate.data import Source
from sigform_generate.diffusion_training import (
    DiffusionModule,
    DiffusionRecipe,
    clip_psnr,
    fit_clips,
    repeat_psnr,
    small_config,
    train_diffusion,
)
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.fitting import Fitted
from sigform_generate.networks import load_network
from sigform_generate.vdt import PUBLISHED, VDT, VDTConfig
from sigform_kit.errors import InputError

TINY = VDTConfig(
    input_size=16,
    patch_size=8,
    in_channels=3,
    hidden_size=32,
    depth=1,
    num_heads=2,
    class_dropout_prob=0.0,
    num_classes=1,
    learn_sigma=False,
    num_frames=4,
)
QUICK = DiffusionRecipe(
    steps=4,
    batch_size=2,
    warm_up=1,
    validate_every=2,
    sample_every=4,
    sample_steps="ddim2",
    device="cpu",
)


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    """Eight clips of 16 x 16 pixels: a bright bar that wanders over a grey ground."""
    frames = np.full((8, 4, 16, 16, 3), 90, np.uint8)
    for clip in range(8):
        for time in range(4):
            frames[clip, time, :, (clip + 3 * time) % 16] = 220
    np.savez(tmp_path / "clips.npz", frames=frames, fps=10)
    return [Source(tmp_path / "clips.npz", index) for index in range(8)]


def fitted(
    sources: list[Source],
    run: Path,
    recipe: DiffusionRecipe = QUICK,
    *,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> Fitted:
    return fit_clips(
        sources,
        run,
        recipe,
        size=16,
        frames=4,
        fps=10,
        config=TINY,
        resume=resume,
        on_progress=on_progress,
    )


def test_fit_clips_writes_a_network_that_says_how_to_sample(
    sources: list[Source], tmp_path: Path
) -> None:
    sheets: list[tuple[int, tuple[int, ...]]] = []
    result = fit_clips(
        sources,
        tmp_path / "run",
        QUICK,
        size=16,
        frames=4,
        fps=10,
        config=TINY,
        card={"licence": "CC0"},
        on_samples=lambda step, made: sheets.append((step, tuple(made[0].shape))),
    )
    assert (result.steps, result.train_items, result.validation_items) == (4, 7, 1)
    assert {"val_loss", "val_predict_psnr", "val_repeat_psnr"} <= set(result.metrics)
    assert sheets == [(4, (8, 4, 3, 16, 16))]
    loaded = load_network(result.weights)
    assert isinstance(loaded.network, VDT)
    assert loaded.sampling is not None
    assert (loaded.sampling.prediction, loaded.sampling.schedule) == ("start", "linear")
    assert (loaded.sampling.frames, loaded.sampling.fps) == (4, 10)
    assert "complete" in loaded.sampling.modes
    assert loaded.card["licence"] == "CC0"
    card = json.loads((tmp_path / "run" / "card.json").read_text("utf-8"))
    assert card["recipe"]["steps"] == card["steps"] == 4


def test_training_makes_clips_better(sources: list[Source], tmp_path: Path) -> None:
    recipe = replace(QUICK, steps=60, learning_rate=3e-3, validate_every=20, mirror=False)
    fitted(sources, tmp_path / "run", recipe)
    rows = (tmp_path / "run" / "metrics.csv").read_text("utf-8").splitlines()
    column = rows[0].split(",").index("val_loss")
    losses = [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]]
    assert losses[-1] < 0.95 * losses[0]


def test_an_interrupted_training_goes_on_to_the_same_weights(
    sources: list[Source], tmp_path: Path
) -> None:
    whole = fitted(sources, tmp_path / "whole")
    presses = [2]

    def interrupt(step: int, total: int | None, metrics: dict[str, float]) -> None:
        del total, metrics
        if presses and step == presses[0]:
            presses.pop()
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match="interrupted after 2 steps"):
        fitted(sources, tmp_path / "cut", on_progress=interrupt)
    cut = fitted(sources, tmp_path / "cut", resume=True)
    found, wanted = (load_network(each.weights).network for each in (cut, whole))
    for (name, a), b in zip(found.named_parameters(), wanted.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_goes_on_from_a_weight_file(sources: list[Source], tmp_path: Path) -> None:
    first = fitted(sources, tmp_path / "a")
    second = fit_clips(
        sources,
        tmp_path / "b",
        replace(QUICK, learning_rate=1e-9),
        size=16,
        frames=4,
        fps=10,
        start=first.weights,
    )
    found, wanted = (load_network(each.weights).network for each in (second, first))
    for a, b in zip(found.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"makes 4 x 3 x 16 x 16 .* the clips are 4 x 3 x 32"):
        fit_clips(sources, tmp_path / "c", QUICK, size=32, frames=4, start=first.weights)


def test_too_few_clips_are_refused(sources: list[Source], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 items to train on"):
        fitted(sources[:1], tmp_path / "run")


class Random(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of an image and another kind of image."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(index)
        return torch.rand(3, 4, 4, generator=source), torch.rand(1, 2, 2, generator=source)


class Pairwise(torch.nn.Module):
    """Guesses each modality by a factor of its own; one of them is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.ones(()))
        self.b = torch.nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x: Tensor, y: Tensor, t: Tensor, *, policy: object) -> tuple[Tensor, Tensor]:
        del t, policy
        return self.a * x, self.b * y


def test_pairs_train_together_and_frozen_parts_stay(tmp_path: Path) -> None:
    network = Pairwise()
    train_diffusion(network, Random(), Random(), QUICK, tmp_path / "run")
    assert float(network.a.detach()) != 1
    assert float(network.b.detach()) == 1


def test_images_train_with_noise_and_learned_variance(tmp_path: Path) -> None:
    config = DiTConfig(
        input_size=4, in_channels=3, hidden_size=16, depth=1, num_heads=2, num_classes=1
    )
    recipe = replace(QUICK, prediction="noise", variance="learned_range", schedule="linear")

    class Images(Random):
        def __getitem__(self, index: int) -> Tensor:  # pyright: ignore
            return super().__getitem__(index)[0]

    result = train_diffusion(DiT(config), Images(), Images(), recipe, tmp_path / "run")
    assert math.isfinite(result.metrics["val_loss"])


def ten_published_steps(sources: list[Source], run: Path, config: VDTConfig, size: int) -> Fitted:
    recipe = replace(
        DiffusionRecipe.published(10), batch_size=1, validate_every=10, device="cpu", mirror=False
    )
    codec = Shrinking()
    fitted = fit_clips(
        sources,
        run,
        recipe,
        size=size,
        frames=config.num_frames,
        fps=10,
        config=config,
        codec=codec,
    )
    loaded = load_network(fitted.weights)
    assert loaded.sampling is not None
    assert (loaded.sampling.codec, loaded.sampling.variance) == ("sd-vae", "learned_range")
    return fitted


def test_published_recipe_takes_ten_steps_on_latents(sources: list[Source], tmp_path: Path) -> None:
    config = replace(PUBLISHED["VDT-S/2"], input_size=4, hidden_size=48, depth=2, num_frames=4)
    fitted = ten_published_steps(sources, tmp_path / "run", config, 32)
    assert fitted.steps == 10
    assert math.isfinite(fitted.metrics["val_loss"])
    assert "val_predict_psnr" not in fitted.metrics


def test_masked_error_is_a_mean_over_what_is_missing() -> None:
    class Zero(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, *, policy: object) -> Tensor:
            del t, policy
            return 0 * x

    module = DiffusionModule(Zero(), QUICK, masked=True)
    clips = torch.ones(1, 4, 3, 2, 2)
    masks = torch.zeros(1, 4, 1, 2, 2)
    masks[:, 1:2] = 1
    t = torch.tensor([10])
    errors, _ = module.losses(module.network, (clips,), t, (torch.zeros_like(clips),), masks)
    assert float(errors) == pytest.approx(1.0)


def test_repeating_a_still_clip_is_perfect() -> None:
    still = torch.zeros(4, 3, 2, 2)
    assert repeat_psnr(still) > 100
    off = still.clone()
    off[2:] = 0.2
    assert repeat_psnr(off) == pytest.approx(20.0, abs=1e-4)  # 2 of a range of 20
    mask = torch.zeros(4, 1, 2, 2)
    mask[3] = 1
    assert clip_psnr(off, still, mask) == pytest.approx(20.0, abs=1e-4)


def test_the_small_network_fits_a_small_file() -> None:
    with torch.device("meta"):
        model = VDT(small_config(64, 16))
    assert sum(p.numel() for p in model.parameters()) * 4 < 25e6
