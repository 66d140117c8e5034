"""Distances as torchmetrics has them, proxies that order damage, and the baselines beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sigform_generate.evaluation import (
    Figure,
    evaluate_clips,
    evaluate_images,
    evaluate_sounds,
    frechet_distance,
    held_over,
    kernel_distance,
    motion,
    psnr,
)


def features(count: int, width: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    mix = np.random.default_rng(9).standard_normal((width, width))
    return random.standard_normal((count, width)) @ mix + 0.1 * seed


def blobs(count: int, seed: int) -> Tensor:
    """Pictures (N, 3, 64, 64) of one soft, coloured blob each on a grained ground."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    made = np.empty((count, 3, 64, 64), np.float32)
    for number in range(count):
        top, left, wide = random.uniform((20, 20, 6), (44, 44, 12)).tolist()
        blob = np.exp(-((y - top) ** 2 + (x - left) ** 2) / (2 * wide**2))
        made[number] = -0.8 + random.uniform(0.5, 1.5, (3, 1, 1)) * blob
        made[number] += 0.1 * random.standard_normal((3, 64, 64))
    return torch.from_numpy(made).clamp(-1, 1)


def gliding(count: int, seed: int) -> Tensor:
    """Clips (N, 8, 3, 64, 64) of a blob that moves evenly."""
    still = blobs(count, seed)
    return torch.stack([still.roll(2 * step, -1) for step in range(8)], dim=1)


@pytest.mark.parametrize("counts", [(60, 80), (10, 12)])
def test_frechet_is_that_of_matrix_roots(counts: tuple[int, int]) -> None:
    first, second = features(counts[0], 16, 0), features(counts[1], 16, 1)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ two).real, 0)).sum()
    gap = ((first.mean(0) - second.mean(0)) ** 2).sum()
    wanted = gap + np.trace(one) + np.trace(two) - 2 * roots
    assert frechet_distance(first, second) == pytest.approx(wanted, rel=1e-5)
    assert frechet_distance(second, first) == pytest.approx(wanted, rel=1e-5)


def test_frechet_is_torchmetrics_fid() -> None:
    from torchmetrics.image.fid import _compute_fid

    first, second = features(200, 8, 0), features(150, 8, 1)
    parts = [
        torch.from_numpy(part)
        for pair in (first, second)
        for part in (pair.mean(0), np.cov(pair, rowvar=False))
    ]
    wanted = float(_compute_fid(*parts))
    assert frechet_distance(first, second) == pytest.approx(wanted, rel=1e-6)


def test_kernel_distance_is_torchmetrics_kid() -> None:
    from torchmetrics.image.kid import poly_mmd

    first, second = features(40, 8, 0), features(40, 8, 1)
    wanted = float(poly_mmd(torch.from_numpy(first), torch.from_numpy(second)))
    value, spread = kernel_distance(first, second)
    assert value == pytest.approx(wanted, rel=1e-6)
    assert spread == 0
    value, spread = kernel_distance(first, second, subset=20, subsets=200)
    assert value == pytest.approx(wanted, abs=5 * spread / np.sqrt(200))
    assert spread > 0


def test_a_set_is_at_no_distance_from_itself() -> None:
    for count in (10, 50):
        first = features(count, 16, 0)
        assert frechet_distance(first, first) == pytest.approx(0, abs=1e-8)
        assert frechet_distance(first, first + 2) == pytest.approx(16 * 4)


def test_too_few_or_unlike_features_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 2 or more"):
        frechet_distance(features(1, 4, 0), features(5, 4, 0))
    with pytest.raises(ValueError, match="of one D"):
        kernel_distance(features(5, 4, 0), features(5, 3, 0))
    with pytest.raises(ValueError, match="1 generated"):
        evaluate_images(torch.zeros(3, 3, 8, 8), torch.zeros(1, 3, 8, 8))


def test_proxies_order_damage_to_pictures() -> None:
    real, fresh = blobs(64, 0), blobs(64, 1)
    damaged = [
        fresh,
        F.interpolate(F.avg_pool2d(fresh, 2), 64, mode="bilinear"),
        F.interpolate(F.avg_pool2d(fresh, 8), 64, mode="bilinear"),
    ]
    figures = [evaluate_images(real, made) for made in damaged]
    for name in range(2):
        values = [pair[name].value for pair in figures]
        assert values == sorted(values)
        assert values[1] > 2 * abs(values[0])


def test_figures_say_what_they_rest_on() -> None:
    frechet, kernel = evaluate_images(blobs(40, 0), blobs(30, 1))
    assert (frechet.name, kernel.name) == ("proxy-FID", "proxy-KID")
    assert (frechet.real, frechet.made) == (40, 30)
    assert frechet.floor is not None
    assert frechet.value < frechet.mean
    assert frechet.value < frechet.noise
    assert "30 generated, 40 real" in frechet.line()
    assert "fixed random convnet v1" in frechet.line()
    assert Figure(**kernel.as_dict()) == kernel


def test_figures_are_the_same_each_time() -> None:
    assert evaluate_images(blobs(9, 0), blobs(8, 1)) == evaluate_images(blobs(9, 0), blobs(8, 1))


def test_clips_that_stand_or_jump_are_farther_away() -> None:
    real, fresh = gliding(16, 0), gliding(16, 1)
    still = fresh[:, :1].expand(-1, 8, -1, -1, -1)
    jumping = fresh[:, [0, 5, 1, 7, 3, 2, 6, 4]]
    values = [evaluate_clips(real, made)[0] for made in (fresh, still, jumping)]
    assert [value.name for value in values] == ["proxy-FVD"] * 3
    assert 2 * values[0].value < values[1].value
    assert 2 * values[0].value < values[2].value


def test_noise_in_the_sound_is_heard() -> None:
    generator = torch.Generator().manual_seed(0)
    pitches = 200 + 800 * torch.rand(32, 1, generator=generator)
    tones = 0.5 * torch.sin(2 * torch.pi * pitches * torch.arange(8000) / 16000)
    noisy = tones[16:] + 0.05 * torch.randn(16, 8000, generator=generator)
    clean, dirty = (evaluate_sounds(tones[:16], made)[0] for made in (tones[16:], noisy))
    assert clean.name == "proxy-FAD"
    assert 5 * clean.value < dirty.value


def test_psnr_counts_what_the_mask_takes() -> None:
    real = torch.zeros(2, 3, 3, 4, 4)
    made = real.clone()
    made[:, 1] += 0.2
    mask = torch.zeros(2, 3, 4, 4)
    mask[:, 1] = 1
    assert psnr(made, real, mask) == pytest.approx(20.0, abs=1e-4)
    assert psnr(made, real, 1 - mask) == pytest.approx(100.0, abs=1e-4)
    assert psnr(made, real) == pytest.approx(20 + 10 * np.log10(3), abs=1e-4)
    mask[0] = 0
    assert psnr(made, real, mask) == pytest.approx(20.0, abs=1e-4)
    with pytest.raises(ValueError, match="takes nothing"):
        psnr(made, real, torch.zeros(2, 3, 4, 4))


def test_the_baseline_holds_and_blends_frames() -> None:
    clip = torch.arange(5.0).view(1, 5, 1, 1, 1).expand(1, 5, 3, 2, 2).clone()
    mask = torch.zeros(1, 5, 2, 2)
    mask[:, 2:] = 1
    assert held_over(clip, mask)[0, :, 0, 0, 0].tolist() == [0, 1, 1, 1, 1]
    mask = 1 - mask
    assert held_over(clip, mask)[0, :, 0, 0, 0].tolist() == [2, 2, 2, 3, 4]
    mask = torch.ones(1, 5, 2, 2)
    mask[:, [0, 4]] = 0
    torch.testing.assert_close(held_over(clip, mask), clip)


def test_the_baseline_fills_a_box_with_its_frames_mean() -> None:
    clip = torch.tensor([1.0, 3.0, 9.0, 2.0]).view(1, 1, 1, 2, 2).expand(1, 2, 3, 2, 2)
    mask = torch.zeros(1, 2, 2, 2)
    mask[:, :, 1, 0] = 1
    filled = held_over(clip, mask)
    assert filled[0, 1, 2].flatten().tolist() == [1, 3, 2, 2]


def test_flicker_is_told_from_movement() -> None:
    steady = torch.linspace(-1, 1, 9).view(1, 9, 1, 1, 1).expand(1, 9, 3, 2, 2)
    turns = torch.tensor([0.0, 0.2] * 4).view(1, 8, 1, 1, 1)
    noise = torch.randn(4, 50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert motion(steady).flicker == pytest.approx(0, abs=1e-5)
    assert motion(steady).step == pytest.approx(127.5 * 0.25)
    assert motion(turns).flicker == pytest.approx(2)
    assert motion(noise).flicker == pytest.approx(np.sqrt(3), rel=0.02)
    assert motion(0 * steady).flicker == 0
    with pytest.raises(ValueError, match="needs 3 or more"):
        motion(steady[:, :2])
