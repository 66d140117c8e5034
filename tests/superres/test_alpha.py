"""Colours under full transparency, and that they leave no fringe."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sigform_superres.alpha import bleed


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_visible_pixel_colours_all(dtype: type, channels: int) -> None:
    most = np.iinfo(dtype).max
    colour = np.zeros((37, 22, channels), dtype)
    alpha = np.zeros((37, 22), dtype)
    colour[30, 5], alpha[30, 5] = most - 3, 1
    filled = bleed(colour, alpha)
    assert filled.dtype == dtype
    assert (filled == most - 3).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    visible=st.floats(0.001, 1),
)
@settings(max_examples=80, deadline=None)
def test_visible_stay_and_hidden_lie_between(
    seed: int, height: int, width: int, visible: float
) -> None:
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 65536, (height, width, 3), dtype=np.uint16)
    alpha = rng.integers(1, 65536, (height, width), dtype=np.uint16)
    alpha[rng.random((height, width)) > visible] = 0
    before = colour.copy()
    filled = bleed(colour, alpha)
    shown = alpha > 0
    np.testing.assert_array_equal(colour, before)
    np.testing.assert_array_equal(filled[shown], colour[shown])
    np.testing.assert_array_equal(filled, bleed(colour, alpha))
    if shown.any():
        assert (filled >= colour[shown].min(axis=0)).all()
        assert (filled <= colour[shown].max(axis=0)).all()


@pytest.mark.parametrize("edge", [15, 16, 17, 32])
def test_the_nearest_colour_wins_on_either_side_of_any_block(edge: int) -> None:
    colour = np.zeros((48, 48, 3), np.uint8)
    colour[:, : edge - 2], colour[:, edge - 2 : edge] = (0, 0, 255), (255, 0, 0)
    alpha = np.zeros((48, 48), np.uint8)
    alpha[:, :edge] = 255
    np.testing.assert_array_equal(bleed(colour, alpha)[:, edge], np.tile([255, 0, 0], (48, 1)))


def test_a_thin_visible_pixel_counts_less_than_a_full_one() -> None:
    colour = np.array([[[0], [99], [255]]], np.uint8)
    alpha = np.array([[1, 0, 255]], np.uint8)
    assert bleed(colour, alpha)[0, 1, 0] > 250


def test_thin_but_near_wins_over_full_but_far() -> None:
    colour = np.zeros((1, 64, 1), np.uint8)
    alpha = np.zeros((1, 64), np.uint8)
    colour[0, 0], alpha[0, 0] = 200, 1
    colour[0, 63], alpha[0, 63] = 0, 255
    filled = bleed(colour, alpha)[0, :, 0]
    assert filled[1:16].min() > 150
    assert filled[48:].max() < 50


@pytest.mark.parametrize("value", [0, 7])
def test_nothing_visible_or_nothing_hidden_is_left_alone(value: int) -> None:
    colour = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
    assert bleed(colour, np.full((5, 5), value, np.uint8)) is colour


def test_no_dark_fringe_after_enlarging_colour_and_alpha_apart() -> None:
    y, x = np.mgrid[:32, :32]
    alpha = np.where((y - 15.5) ** 2 + (x - 15.5) ** 2 < 120, 255, 0).astype(np.uint8)
    colour = np.where(alpha[..., None] > 0, 200, 0).astype(np.uint8).repeat(3, axis=2)

    def darkest(colour: np.ndarray) -> int:
        large = np.asarray(Image.fromarray(colour).resize((128, 128), Image.Resampling.BICUBIC))
        cover = np.asarray(Image.fromarray(alpha).resize((128, 128), Image.Resampling.BICUBIC))
        return int(large[cover > 8].min())

    assert darkest(colour) < 60
    assert darkest(bleed(colour, alpha)) == 200
