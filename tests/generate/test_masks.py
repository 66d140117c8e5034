"""Masks: the published modes, a person's own, and those of training."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_generate.masks import MODES, Box, checked, draw_mask, draw_rectangles, mode_mask

SHAPE = (16, 4, 4)


def frames_given(mask: torch.Tensor) -> list[int]:
    """The frames that are given whole; the others have to be missing whole."""
    flat = mask.flatten(1)
    assert ((flat == flat[:, :1]).all(dim=1)).all()
    return torch.nonzero(flat[:, 0] == 0).flatten().tolist()


@pytest.mark.parametrize(
    ("mode", "given", "wanted"),
    [
        ("predict", None, range(8)),
        ("predict", 3, range(3)),
        ("backward", None, range(8, 16)),
        ("backward", 1, [15]),
        ("interpolate", None, [0, 4, 8, 12]),
        ("interpolate", 15, [0, 15]),
        ("animate", None, [0]),
        ("animate", 5, [5]),
        ("scattered", [2, 7], [2, 7]),
        ("unconditional", None, []),
    ],
)
def test_modes_give_their_frames(
    mode: str, given: int | list[int] | None, wanted: Sequence[int]
) -> None:
    mask = mode_mask(mode, SHAPE, given=given)
    assert mask.shape == SHAPE
    assert frames_given(mask) == list(wanted)


def test_a_box_is_missing_in_every_frame() -> None:
    mask = mode_mask("complete", (2, 4, 6), box=Box(1, 2, 3, 9))
    wanted = torch.zeros(4, 6)
    wanted[2:4, 1:4] = 1
    assert torch.equal(mask, wanted.expand(2, 4, 6))


@pytest.mark.parametrize(
    ("mode", "given", "box", "message"),
    [
        ("forwards", None, None, "mode is 'forwards'; needs one of animate"),
        ("predict", 16, None, "mask keeps everything"),
        ("interpolate", 1, None, "mask keeps everything"),
        ("predict", 0, None, "given is 0; needs 1 or more"),
        ("backward", 17, None, "given is 17 frames; the clip has 16"),
        ("animate", 16, None, "given frame is 16; needs 0 to 15"),
        ("scattered", None, None, "needs the frames that are given"),
        ("predict", [1], None, r"given is \[1\]; mode 'predict' needs one number"),
        ("scattered", [], None, "mask keeps nothing"),
        ("complete", None, None, "without a box"),
        ("complete", None, Box(0, 0, 4, 4), "mask keeps nothing"),
        ("complete", None, Box(4, 0, 2, 2), "mask keeps everything"),
        ("complete", None, Box(-3, 0, 2, 2), "mask keeps everything"),
    ],
)
def test_refuses_masks_without_sense(
    mode: str, given: int | list[int] | None, box: Box | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mode_mask(mode, SHAPE, given=given, box=box)


def test_a_mask_is_of_zeros_and_ones() -> None:
    with pytest.raises(ValueError, match="mask has other values"):
        checked(torch.full(SHAPE, 0.5))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 17), st.integers(1, 9), st.integers(1, 9))
def test_training_masks_leave_something_to_generate(seed: int, t: int, h: int, w: int) -> None:
    mask = draw_mask(np.random.default_rng(seed), (t, h, w))
    assert mask.shape == (t, h, w)
    assert mask.any()
    assert ((mask == 0) | (mask == 1)).all()


def test_training_masks_come_as_often_as_published() -> None:
    random = np.random.default_rng(0)
    counts: dict[str, int] = {}
    for _ in range(2000):
        mask = draw_mask(random, SHAPE)
        rows = mask.flatten(1)
        if not (rows == rows[:, :1]).all():
            kind = "spatial"
        else:
            kind = {0: "unconditional", 1: "one", 4: "four", 8: "half"}.get(
                len(frames_given(mask)), "scattered"
            )
        counts[kind] = counts.get(kind, 0) + 1
    assert counts["spatial"] / 2000 == pytest.approx(0.2, abs=0.03)
    assert counts["half"] / 2000 == pytest.approx(0.8 / 3, abs=0.03)  # predict and backward
    assert counts["unconditional"] / 2000 == pytest.approx(0.8 / 6, abs=0.04)


def test_scattered_frames_are_a_fifth() -> None:
    random = np.random.default_rng(1)
    masks = [draw_mask(random, (64, 1, 2)) for _ in range(1000)]
    found = [int((mask.amax(dim=(1, 2)) == 0).sum()) for mask in masks]
    scattered = [n for n in found if n not in (0, 1, 16, 32)]
    assert np.mean(scattered) == pytest.approx(0.2 * 64, abs=1)


def test_rectangles_cover_about_half() -> None:
    random = np.random.default_rng(0)
    covered = np.array([draw_rectangles(random, 32, 32).mean() for _ in range(200)])
    assert covered.mean() == pytest.approx(0.5, abs=0.04)
    assert covered.min() > 0.4
    assert covered.max() < 0.6
    assert draw_rectangles(random, 2, 2).any()


def test_modes_are_in_the_published_order() -> None:
    assert MODES[:4] == ("predict", "backward", "interpolate", "unconditional")
