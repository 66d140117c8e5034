"""PSNR, SSIM and luma against their formulas."""

import math

import numpy as np
import pytest

from sigform_superres.metrics import luma, psnr, ssim


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, shape)


def direct_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Equation 13 of Wang et al. 2004, a window at a time, with the two-dimensional gaussian."""
    y, x = np.mgrid[-5:6, -5:6]
    weights = np.exp(-(x**2 + y**2) / 4.5)
    weights /= weights.sum()
    values = []
    for row in range(a.shape[0] - 10):
        for column in range(a.shape[1] - 10):
            p, q = (plane[row : row + 11, column : column + 11] for plane in (a, b))
            mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
            var_p = (weights * (p - mean_p) ** 2).sum()
            var_q = (weights * (q - mean_q) ** 2).sum()
            both = (weights * (p - mean_p) * (q - mean_q)).sum()
            values.append(
                (2 * mean_p * mean_q + 6.5025)
                * (2 * both + 58.5225)
                / ((mean_p**2 + mean_q**2 + 6.5025) * (var_p + var_q + 58.5225))
            )
    return float(np.mean(values))


def test_luma_of_known_colours() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    expected = [[16.0, 235.0, 81.481, 144.553, 40.966]]
    assert luma(colours.astype(np.uint8)) == pytest.approx(np.array(expected))
    assert luma(colours.astype(np.float32)) == pytest.approx(np.array(expected))


def test_grey_counts_as_equal_colours() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = luma(np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(luma(grey), expected)
    assert np.array_equal(luma(grey[..., None]), expected)


def test_psnr_of_a_known_error() -> None:
    a = np.full((8, 9, 3), 100, np.uint8)
    assert psnr(a, a, border=0) == math.inf
    assert psnr(a, a - 5, border=2) == pytest.approx(20 * math.log10(51))
    assert psnr(a - 5, a, border=2) == pytest.approx(20 * math.log10(51))
    assert psnr(a / 255, (a - 5) / 255, border=0, peak=1) == pytest.approx(20 * math.log10(51))


def test_the_border_does_not_count() -> None:
    a, b = noise(30, 31), noise(30, 31)
    b[:3], b[-3:], b[:, :3], b[:, -3:] = 0, 0, 0, 0
    assert psnr(a, b, border=3) == math.inf
    assert ssim(a, b, border=3) == pytest.approx(1)
    assert psnr(a, b, border=2) < 40
    assert ssim(a, b, border=2) < 0.9999


@pytest.mark.parametrize("strength", [0.05, 0.5, 1.0])
def test_ssim_equals_the_direct_formula(strength: float) -> None:
    a = noise(20, 17)
    b = (1 - strength) * a + strength * noise(20, 17, seed=1)
    assert ssim(a, b, border=1) == pytest.approx(direct_ssim(a[1:-1, 1:-1], b[1:-1, 1:-1]))


def test_what_cannot_be_compared_is_said() -> None:
    plane, picture = noise(20, 30), noise(20, 30, 3)
    with pytest.raises(ValueError, match=r"\(20, 30\) and \(20, 29\); needs the same shape"):
        psnr(plane, plane[:, :-1], border=0)
    with pytest.raises(ValueError, match="picture is 30x20; needs at least 21x21 with a border"):
        psnr(plane, plane, border=10)
    with pytest.raises(ValueError, match="picture is 30x20; needs at least 21x21 with a border"):
        ssim(plane, plane, border=5)
    with pytest.raises(ValueError, match="border is -1; needs 0 or more"):
        psnr(plane, plane, border=-1)
    with pytest.raises(ValueError, match=r"plane has shape \(20, 30, 3\); needs \(H, W\)"):
        ssim(picture, picture, border=0)
    with pytest.raises(ValueError, match=r"picture has shape \(30,\)"):
        psnr(plane[0], plane[0], border=0)
    with pytest.raises(ValueError, match="picture is uint16; needs uint8"):
        luma(picture.astype(np.uint16))
    with pytest.raises(ValueError, match=r"picture has shape \(20, 30, 2\)"):
        luma(picture[..., :2])
