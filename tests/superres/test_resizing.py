"""MATLAB's bicubic against torchvision and exact arithmetic; both resizers at awkward sizes."""

import math
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from sigform_superres.resizing import imresize, imresize_part, resample

SIZES = st.integers(1, 40)


@pytest.fixture(scope="module")
def butterfly() -> np.ndarray:
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip("SIGFORM_FIXTURES is not set; needs the folder with data/superres/set5")
    with Image.open(Path(folder) / "data" / "superres" / "set5" / "butterfly.png") as image:
        return np.array(image.convert("RGB"))


def noise(*shape: int, dtype: type = np.float64) -> np.ndarray:
    values = np.random.default_rng(0).uniform(0, 1, shape)
    if np.issubdtype(dtype, np.integer):
        return (values * np.iinfo(dtype).max).round().astype(dtype)
    return values.astype(dtype)


def keys(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def lanczos(x: float) -> float:
    if x == 0:
        return 1.0
    if abs(x) >= 3:
        return 0.0
    return 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2


def resize_line(line: list[float], count: int, scale: float, kernel=keys, radius: int = 2):
    """The definition, a pixel at a time: a stretched kernel over a mirrored line."""
    n, stretch, result = len(line), min(scale, 1.0), []
    for k in range(count):
        centre = (k + 0.5) / scale - 0.5
        total = weights = 0.0
        reach = math.ceil(radius / stretch) + 1
        for i in range(math.floor(centre) - reach, math.floor(centre) + reach + 1):
            weight = kernel((centre - i) * stretch)
            mirrored = i % (2 * n)
            total += weight * line[mirrored if mirrored < n else 2 * n - 1 - mirrored]
            weights += weight
        result.append(total / weights)
    return np.array(result)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shrinking_a_photo_equals_torchvision_with_a_mirrored_border(
    butterfly: np.ndarray, scale: int
) -> None:
    image = butterfly[: 252 // scale * scale, : 240 // scale * scale]
    pad = 8 * scale
    padded = np.pad(image.astype(np.float64), ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    shrunk = transforms.functional.resize(
        torch.tensor(padded).permute(2, 0, 1),
        [padded.shape[0] // scale, padded.shape[1] // scale],
        interpolation=InterpolationMode.BICUBIC,
        antialias=True,
    )
    expected = shrunk[:, 8:-8, 8:-8].permute(1, 2, 0).numpy()
    assert np.abs(imresize(image.astype(np.float64), 1 / scale) - expected).max() < 1e-9
    rounded = imresize(image, 1 / scale)
    assert rounded.dtype == np.uint8
    assert np.abs(rounded - expected.clip(0, 255)).max() < 0.5 + 1e-9


@given(height=SIZES, width=SIZES, scale=st.sampled_from([0.1, 1 / 3, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0]))
@settings(max_examples=40, deadline=None)
def test_a_scale_follows_the_definition(height: int, width: int, scale: float) -> None:
    image = noise(height, width)
    result = imresize(image, scale)
    h, w = (max(math.ceil(round(length * scale, 6)), 1) for length in image.shape)
    assert result.shape == (h, w)
    row, column = h // 2, w - 1
    across = np.array([resize_line(list(line), w, scale)[column] for line in image])
    assert result[row, column] == pytest.approx(resize_line(list(across), h, scale)[row], abs=1e-12)


@given(height=SIZES, width=SIZES, h=SIZES, w=SIZES, channels=st.sampled_from([1, 3]))
@settings(max_examples=40, deadline=None)
def test_any_size_follows_the_definition(
    height: int, width: int, h: int, w: int, channels: int
) -> None:
    picture = noise(height, width, channels, dtype=np.uint16)
    result = resample(picture, h, w)
    assert result.shape == (h, w, channels)
    assert result.dtype == np.uint16
    assert imresize(picture, size=(h, w)).shape == (h, w, channels)
    line = [
        resize_line(list(map(float, row)), w, w / width, lanczos, 3)[0] for row in picture[..., -1]
    ]
    exact = resize_line(line, h, h / height, lanczos, 3)[-1]
    assert abs(float(result[-1, 0, -1]) - min(max(exact, 0), 65535)) <= 0.5 + 1e-6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_flat_picture_stays_flat_and_the_same_size_changes_nothing(dtype: type) -> None:
    flat = np.full((50, 70, 3), np.iinfo(dtype).max, dtype)
    assert np.array_equal(resample(flat, 133, 17), np.full((133, 17, 3), flat.max(), dtype))
    assert np.array_equal(imresize(flat, 0.3), np.full((15, 21, 3), flat.max(), dtype))
    picture = noise(50, 70, 3, dtype=dtype)
    assert np.array_equal(resample(picture, 50, 70), picture)
    assert np.array_equal(imresize(picture, 1.0), picture)


def test_many_blocks_equal_one_line() -> None:
    line = noise(301, 1)
    for scale in (0.25, 3.0):
        count = math.ceil(301 * scale)
        expected = resize_line(list(line[:, 0]), count, scale)
        tall = imresize(np.repeat(line, 7, axis=1), scale)
        wide = imresize(np.repeat(line, 7, axis=1).T, scale)
        assert np.abs(tall[:, 0] - expected).max() < 1e-12
        assert np.abs(wide[0] - expected).max() < 1e-12


@given(data=st.data(), height=SIZES, width=SIZES, h=st.integers(1, 90), w=SIZES)
@settings(max_examples=30, deadline=None)
def test_a_part_is_cut_from_the_whole(
    data: st.DataObject, height: int, width: int, h: int, w: int
) -> None:
    image = noise(height, width)
    top, left = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    rows = range(top, data.draw(st.integers(top + 1, h)))
    columns = range(left, data.draw(st.integers(left + 1, w)))
    whole = imresize(image, size=(h, w))
    part = imresize_part(image, (h, w), rows, columns)
    expected = whole[rows.start : rows.stop, columns.start : columns.stop]
    assert part.shape == expected.shape
    assert np.abs(part - expected).max() < 1e-12


@pytest.mark.parametrize("rows", [range(0), range(3, 9), range(-1, 3), range(0, 8, 2)])
def test_a_part_outside_the_size_is_said(rows: range) -> None:
    with pytest.raises(ValueError, match=r"needs a step of 1 inside range\(0, 8\)"):
        imresize_part(noise(4, 4), (8, 8), rows, range(8))


def test_rounding_is_half_up_and_clipped() -> None:
    # A weight of exactly one half each: bicubic at half size takes both middle pixels alike.
    assert imresize(np.array([[2, 3]], np.uint8), size=(1, 1))[0, 0] == 3
    edge = np.repeat(np.array([[0, 255]], np.uint8), 4, axis=1)
    floats = imresize(edge.astype(np.float32), 4)
    assert floats.dtype == np.float32
    assert floats.min() < 0
    assert floats.max() > 255
    assert imresize(edge, 4).min() == 0
    assert imresize(edge, 4).max() == 255


def test_a_length_times_the_scale_is_not_rounded_up_by_floating_point() -> None:
    assert 110 * 1.1 > 121
    assert imresize(noise(110, 11), 1.1).shape == (121, 13)


@pytest.mark.parametrize(
    ("before", "after"),
    [((3000, 500), (60, 50)), ((300, 50), (3000, 500)), ((3000, 500), (3000, 9))],
)
def test_working_memory_is_a_part_of_a_float64_copy(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    picture = np.zeros((*before, 3), np.uint8)
    tracemalloc.start()
    result = resample(picture, *after)
    peak = tracemalloc.get_traced_memory()[1] - result.nbytes
    tracemalloc.stop()
    assert peak < 8 * max(picture.size, result.size) / 5


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (noise(4, 4), {}, "needs exactly one"),
        (noise(4, 4), {"scale": 2, "size": (8, 8)}, "needs exactly one"),
        (noise(4, 4), {"scale": 0}, "scale is 0; needs a number above 0"),
        (noise(4, 4), {"scale": math.nan}, "scale is nan"),
        (noise(4, 4), {"size": (0, 3)}, "size is 0 by 3 pixels"),
        (noise(4, 0), {"scale": 2}, r"shape \(4, 0\); needs .* not empty"),
        (noise(4), {"scale": 2}, r"shape \(4,\)"),
        (
            np.zeros((4, 4), np.int32),
            {"scale": 2},
            "image is int32; needs uint8, uint16",
        ),
    ],
)
def test_what_cannot_be_resized_is_said(image: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        imresize(image, **arguments)


def test_what_cannot_be_resampled_is_said() -> None:
    with pytest.raises(ValueError, match=r"picture is float64 .* needs uint8 or uint16"):
        resample(noise(4, 4, 3), 8, 8)
    with pytest.raises(ValueError, match="size is 8 by 0 pixels; needs at least 1 by 1"):
        resample(noise(4, 4, 3, dtype=np.uint8), 8, 0)
