"""PSNR and SSIM as the super-resolution papers report them: on luma, borders cut off.

Everything is float64. Cutting `border` pixels from every side is part of the papers' protocol
(`border` = the scale), because a network cannot know what lies beyond the edge.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_PEAK = 255.0


def luma(picture: NDArray) -> Floats:
    """The Y of BT.601's studio range, (H, W) float64 in [16, 235], not rounded.

    `picture` is (H, W, 3) RGB, or grey as (H, W) or (H, W, 1), which counts as R = G = B; uint8, or
    floats in [0, 255]. Raises ValueError for another shape or dtype.
    """
    if picture.dtype != np.uint8 and picture.dtype.kind != "f":
        raise ValueError(f"picture is {picture.dtype}; needs uint8, or floats in [0, 255]")
    channels = picture.shape[2] if picture.ndim == 3 else 1
    if picture.ndim not in (2, 3) or channels not in (1, 3):
        raise ValueError(f"picture has shape {picture.shape}; needs (H, W), (H, W, 1) or (H, W, 3)")
    levels = picture.astype(np.float64).reshape(*picture.shape[:2], channels)
    red, green, blue = levels[..., 0], levels[..., channels // 2], levels[..., channels - 1]
    return 16.0 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255.0


def psnr(a: NDArray, b: NDArray, *, border: int, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures.

    `a` and `b` have one shape, (H, W) or (H, W, C), and values up to `peak`. Raises ValueError for
    two shapes, or when nothing is left inside the border.
    """
    a, b = _inside(a, b, border, least=1)
    error = float(np.mean(np.square(a - b)))
    return 10.0 * math.log10(peak**2 / error) if error > 0 else math.inf


def ssim(a: NDArray, b: NDArray, *, border: int) -> float:
    """Structural similarity (Wang et al. 2004) of two planes (H, W) with values in [0, 255].

    Gaussian window of 11 x 11 pixels with sigma 1.5, at the places where it fits whole; C1 =
    (0.01 * 255)^2, C2 = (0.03 * 255)^2. 1 for equal planes. Raises ValueError for two shapes,
    planes with channels, or when less than 11 x 11 pixels are left inside the border.
    """
    if a.ndim != 2:
        raise ValueError(f"plane has shape {a.shape}; needs (H, W)")
    a, b = _inside(a, b, border, least=SSIM_WINDOW)
    c1, c2 = (0.01 * SSIM_PEAK) ** 2, (0.03 * SSIM_PEAK) ** 2
    mean_a, mean_b = _local_mean(a), _local_mean(b)
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance = _local_mean(a * b) - product
    variances = _local_mean(a * a + b * b) - squares
    luminance = (2 * product + c1) / (squares + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return float(np.mean(luminance * structure))


def _local_mean(plane: Floats) -> Floats:
    """Gaussian average around every pixel whose whole window lies inside: (H - 10, W - 10)."""
    x = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    window = np.exp(-(x**2) / (2 * SSIM_SIGMA**2))
    window /= window.sum()
    height, width = (length - SSIM_WINDOW + 1 for length in plane.shape)
    rows, averages = np.zeros((height, plane.shape[1])), np.zeros((height, width))
    for n, weight in enumerate(window):
        rows += weight * plane[n : n + height]
    for n, weight in enumerate(window):
        averages += weight * rows[:, n : n + width]
    return averages


def _inside(a: NDArray, b: NDArray, border: int, least: int) -> tuple[Floats, Floats]:
    """Both pictures without `border` pixels at each side, in float64."""
    if a.shape != b.shape:
        raise ValueError(f"pictures have shapes {a.shape} and {b.shape}; needs the same shape")
    if a.ndim not in (2, 3):
        raise ValueError(f"picture has shape {a.shape}; needs (H, W) or (H, W, C)")
    if border < 0:
        raise ValueError(f"border is {border}; needs 0 or more pixels")
    height, width = a.shape[:2]
    needed = least + 2 * border
    if min(height, width) < needed:
        raise ValueError(
            f"picture is {width}x{height}; needs at least {needed}x{needed} "
            f"with a border of {border}"
        )
    keep = (slice(border, height - border), slice(border, width - border))
    return a[keep].astype(np.float64), b[keep].astype(np.float64)
