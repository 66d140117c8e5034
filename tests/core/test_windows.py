"""Windows over images: cut, joined, and what stands where in them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_core.windows import (
    relative_index,
    relative_offsets,
    window_join,
    window_partition,
)

sides = st.integers(1, 4)


@settings(deadline=None)
@given(batch=st.integers(1, 3), n=sides, m=sides, h=sides, w=sides, channels=sides)
def test_windows_are_the_parts_of_the_image(
    batch: int, n: int, m: int, h: int, w: int, channels: int
) -> None:
    image = torch.arange(batch * n * h * m * w * channels).view(batch, n * h, m * w, channels)
    windows = window_partition(image, (h, w))
    assert windows.shape == (batch * n * m, h * w, channels)
    for number, window in enumerate(windows):
        b, row, column = number // (n * m), number // m % n, number % m
        part = image[b, row * h : (row + 1) * h, column * w : (column + 1) * w]
        assert torch.equal(window.view(h, w, channels), part)
    assert torch.equal(window_join(windows, (h, w), (n * h, m * w)), image)


def test_any_memory_layout_and_dtype() -> None:
    planes = torch.rand(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    image = planes.permute(0, 2, 3, 1)
    windows = window_partition(image, (2, 3))
    assert windows.dtype == torch.float64
    assert torch.equal(windows, window_partition(image.contiguous(), (2, 3)))
    turned = windows.transpose(1, 2).contiguous().transpose(1, 2)
    joined = window_join(turned, (2, 3), (4, 6))
    assert torch.equal(joined, image)
    joined.sum().backward()
    assert planes.grad is not None
    assert torch.equal(planes.grad, torch.ones_like(planes))


def test_windows_may_change_their_channels_in_between() -> None:
    windows = window_partition(torch.rand(2, 4, 6, 3), (2, 3))
    wide = torch.cat([windows, windows], dim=-1)
    assert window_join(wide, (2, 3), (4, 6)).shape == (2, 4, 6, 6)


@pytest.mark.parametrize("size", [(5, 6), (4, 7)])
def test_only_whole_windows(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"image is {size[0]}x{size[1]}; needs .* window 2x3"):
        window_partition(torch.rand(1, *size, 3), (2, 3))


@settings(deadline=None)
@given(h=sides, w=sides)
def test_the_index_finds_the_offset_between_two_pixels(h: int, w: int) -> None:
    offsets, index = relative_offsets((h, w)), relative_index((h, w))
    assert offsets.dtype == torch.float32
    assert index.dtype == torch.int64
    assert len(offsets.unique(dim=0)) == len(offsets) == (2 * h - 1) * (2 * w - 1)
    pixels = [(row, column) for row in range(h) for column in range(w)]
    assert index.shape == (len(pixels), len(pixels))
    for i, (row, column) in enumerate(pixels):
        for j, other in enumerate(pixels):
            assert offsets[index[i, j]].tolist() == [row - other[0], column - other[1]]


def test_offsets_in_the_published_order() -> None:
    assert relative_offsets((2, 1)).tolist() == [[-1, 0], [0, 0], [1, 0]]
    assert relative_offsets((1, 2)).tolist() == [[0, -1], [0, 0], [0, 1]]
    assert relative_index((2, 2))[0].tolist() == [4, 3, 1, 0]
