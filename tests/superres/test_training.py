"""Training pairs, the closed-form start, the recipe, and a folder from start to weight file."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sigform_core.training import TrainingInterrupted
from sigform_superres import networks
from sigform_superres.craft import CRAFT, CRAFTConfig
from sigform_superres.data import CropSet, Pair, prepare_pairs, to_tensor, turned
from sigform_superres.fitting import bicubic_psnr, fit_folder
from sigform_superres.networks import load_network
from sigform_superres.resizing import imresize
from sigform_superres.training import (
    Recipe,
    silence,
    solve_upsampling,
    split_validation,
    start_from,
)


def tiny(scale: int = 2) -> CRAFT:
    torch.manual_seed(0)
    config = CRAFTConfig(
        upscale=scale, embed_dim=32, depths=(1,), num_heads=(2,), split_size_0=4, split_size_1=8
    )
    return CRAFT(config)


def scene(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Soft shapes with sharp edges, (H, W, 3) uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3))
    for _ in range(12):
        a, b, c = random.normal(size=3)
        side = (a * (x - width / 2) + b * (y - height / 2) + 8 * c) > 0
        image += side[..., None] * random.uniform(0, 60, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> list[Path]:
    pictures = []
    for seed in range(6):
        pictures.append(tmp_path / f"{seed}.png")
        Image.fromarray(scene(seed)).save(pictures[-1])
    return pictures


def test_pairs_are_bicubic_reductions_of_whole_multiples(
    folder: list[Path], tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    pairs = prepare_pairs(folder, 3, tmp_path / "pairs", on_prepared=lambda *at: told.append(at))
    assert told[-1] == (6, 6)
    large = scene(0)[:48, :63]
    np.testing.assert_array_equal(pairs[0].large, large)
    np.testing.assert_array_equal(pairs[0].small, imresize(large, 1 / 3))


def test_pairs_are_made_once(folder: list[Path], tmp_path: Path) -> None:
    prepare_pairs(folder, 2, tmp_path / "pairs")
    written = sorted((tmp_path / "pairs").rglob("*.npy"))
    ages = [path.stat().st_mtime_ns for path in written]
    prepare_pairs(folder, 2, tmp_path / "pairs")
    assert [path.stat().st_mtime_ns for path in written] == ages
    Image.fromarray(scene(9)).save(folder[0])  # another picture: another set of pairs
    prepare_pairs(folder, 2, tmp_path / "pairs")
    assert len(list((tmp_path / "pairs").rglob("*.npy"))) == 2 * len(written)


def test_grey_deep_and_small_pictures(tmp_path: Path) -> None:
    grey, deep, small = (tmp_path / name for name in ("grey.png", "deep.png", "small.png"))
    Image.fromarray(scene(0)[..., 0]).save(grey)
    Image.fromarray(scene(0)[..., 0].astype(np.uint16) * 257).save(deep)
    Image.fromarray(scene(0)[:1, :1]).save(small)
    pairs = prepare_pairs([grey, deep, small], 2, tmp_path / "pairs", least=8)
    assert [pair.name for pair in pairs] == ["grey.png", "deep.png"]
    np.testing.assert_array_equal(pairs[0].large, pairs[1].large)
    assert pairs[0].large.shape == (48, 64, 3)
    with pytest.raises(ValueError, match="none of 1 pictures"):
        prepare_pairs([small], 2, tmp_path / "pairs", least=8)


def test_crops_belong_together() -> None:
    coordinates = np.stack(np.mgrid[:20, :24], axis=-1).astype(np.uint8)
    small = np.concatenate([coordinates, np.zeros((20, 24, 1), np.uint8)], axis=2)
    large = small.repeat(2, 0).repeat(2, 1)
    crops = CropSet([Pair("a", large, small)], 2, 6, seed=0)
    starts = set()
    for item in range(60):
        crop, wanted = crops[item]
        np.testing.assert_array_equal(crop.repeat_interleave(2, 1).repeat_interleave(2, 2), wanted)
        starts.add(tuple(crop[:2].amin((1, 2)).tolist()))
    assert len(starts) > 40
    again = CropSet([Pair("a", large, small)], 2, 6, seed=0)
    assert torch.equal(again[7][0], crops[7][0])
    other = CropSet([Pair("a", large, small)], 2, 6, seed=1)
    assert any(not torch.equal(other[i][0], crops[i][0]) for i in range(5))


def test_a_patch_larger_than_a_picture_is_refused() -> None:
    small = np.zeros((5, 9, 3), np.uint8)
    with pytest.raises(ValueError, match="patch is 6"):
        CropSet([Pair("a", small.repeat(2, 0).repeat(2, 1), small)], 2, 6, seed=0)


def test_eight_turns() -> None:
    pixels = np.arange(12).reshape(2, 2, 3)
    assert len({turned(pixels, turn).tobytes() for turn in range(8)}) == 8


def crops_of(scale: int, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    made = []
    for seed in range(count):
        large = scene(seed)[: 48 // scale * scale, : 60 // scale * scale]
        made.append((to_tensor(imresize(large, 1 / scale)), to_tensor(large)))
    return made


def error(network: CRAFT, crops: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    with torch.inference_mode():
        made = [(network(small[None])[0], large) for small, large in crops]
    return sum(float((a - b)[:, 12:-12, 12:-12].square().mean()) for a, b in made)


@pytest.mark.parametrize("scale", [2, 3])
def test_closed_form_start_beats_bicubic(scale: int) -> None:
    network = tiny(scale).eval()
    silence(network)
    crops = crops_of(scale, 24)
    solve_upsampling(network, crops)
    bicubic = 0.0
    for small, large in crops:
        made = imresize(small.permute(1, 2, 0).double().numpy(), scale)
        missing = (made - large.permute(1, 2, 0).numpy())[12:-12, 12:-12]
        bicubic += float(np.square(missing).mean())
    assert error(network, crops) < bicubic


def test_closed_form_is_the_least_squares_answer() -> None:
    network = tiny().eval()
    crops = crops_of(2, 8)
    solve_upsampling(network, crops)
    best = error(network, crops)
    last = network.upsample[0]
    with torch.no_grad():
        last.bias += 2e-3  # type: ignore[operator]
    assert error(network, crops) > best


def test_start_from_another_scale() -> None:
    two, three = tiny(2), tiny(3)
    with torch.no_grad():
        two.conv_first.weight.fill_(0.25)
    start_from(three, two)
    assert torch.equal(three.conv_first.weight, two.conv_first.weight)
    assert three.upsample[0].weight.shape[0] == 27
    wide = CRAFT(replace(two.config, embed_dim=64))
    with pytest.raises(ValueError, match="do not fit"):
        start_from(three, wide)


def test_validation_pictures_are_set_apart() -> None:
    names = [Path(str(i)) for i in range(100)]
    train, held = split_validation(names, seed=0)
    assert len(held) == 3
    assert sorted([*train, *held]) == sorted(names)
    assert split_validation(names, seed=0) == (train, held)
    assert split_validation(names, seed=1)[1] != held
    with pytest.raises(ValueError, match="needs 2 or more"):
        split_validation(names[:1], seed=0)


def test_a_folder_becomes_a_weight_file(
    folder: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(networks.ARCHITECTURES, "craft", tiny)
    recipe = Recipe(steps=6, batch_size=2, patch=16, validate_every=3, device="cpu", warm_up=1)
    whole = fit_folder(folder, "craft", 2, tmp_path / "whole", recipe)
    network, file = load_network(whole.weights)
    assert file.card["steps"] == 6
    assert file.card["validation_psnr"] == pytest.approx(whole.best_psnr, abs=1e-3)
    assert file.card["recipe"]["patch"] == 16
    assert whole.best_psnr > whole.bicubic_psnr - 6
    assert not network.training

    def stop(step: int, *_: object) -> None:
        if step == 4:
            raise_interrupt()

    run = tmp_path / "parts"
    with pytest.raises(TrainingInterrupted):
        fit_folder(folder, "craft", 2, run, recipe, on_progress=stop)
    resumed = fit_folder(folder, "craft", 2, run, recipe, resume=True)
    again, _ = load_network(resumed.weights)
    for (name, a), b in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name

    started = fit_folder(
        folder, "craft", 3, tmp_path / "three", replace(recipe, steps=1, patch=12),
        start=whole.weights,
    )  # fmt: skip
    assert load_network(started.weights)[1].card["started_from"] == "weights.safetensors"


def raise_interrupt() -> None:
    import signal

    signal.raise_signal(signal.SIGINT)


def test_bicubic_score_is_that_of_the_papers(tmp_path: Path, folder: list[Path]) -> None:
    pairs = prepare_pairs(folder, 2, tmp_path / "pairs")
    score = bicubic_psnr(pairs, 2)
    assert 10 < score < 60
    perfect = [Pair("flat", np.full((32, 32, 3), 90, np.uint8), np.full((16, 16, 3), 90, np.uint8))]
    assert bicubic_psnr(perfect, 2) == math.inf
