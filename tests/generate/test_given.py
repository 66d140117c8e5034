"""What is given of a clip: which frames and pixels of a window, and what of it is said."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from generate.commands import clip, frames, picture
from hypothesis import given as drawn
from hypothesis import strategies as st

from sigform_generate.given import box_in_window, read_given, window_of
from sigform_generate.masks import Box
from sigform_generate.media import Clip, read_clip
from sigform_kit.errors import InputError

SIZE, FRAMES, FPS = 16, 8, 10.0


def a_clip(count: int = 12, height: int = 16, width: int = 16, fps: float = FPS) -> Clip:
    return Clip(frames=frames(count, height, width), fps=Fraction(fps), name="a.mp4")


def window(mode: str, clip: Clip, box: Box | None = None):
    return window_of(mode, clip, size=SIZE, frames=FRAMES, fps=FPS, box=box)


def kept(given) -> list[int]:
    """The frames that are given whole; each frame is given whole or not at all."""
    per_frame = given.missing.reshape(FRAMES, -1)
    assert all(len(set(frame)) == 1 for frame in per_frame)
    return [number for number, frame in enumerate(per_frame) if not frame[0]]


def test_predict_goes_on_after_the_last_frames() -> None:
    clip = a_clip(12)
    given = window("predict", clip)
    assert kept(given) == [0, 1, 2, 3]
    np.testing.assert_array_equal(given.frames[:4], clip.frames[8:])
    assert given.notes == ["took 4 frames at 10 fps from 0.8 s of 12 at 10 fps"]


def test_backward_ends_with_the_first_frames() -> None:
    clip = a_clip(12)
    given = window("backward", clip)
    assert kept(given) == [4, 5, 6, 7]
    np.testing.assert_array_equal(given.frames[4:], clip.frames[:4])


def test_half_a_window_is_enough_to_predict() -> None:
    given = window("predict", a_clip(4))
    np.testing.assert_array_equal(given.frames[:4], a_clip(4).frames)
    assert given.notes == []


def test_interpolate_keeps_each_fourth() -> None:
    clip = a_clip(12)
    given = window("interpolate", clip)
    assert kept(given) == [0, 4]
    np.testing.assert_array_equal(given.frames[[0, 4]], clip.frames[[0, 4]])


def test_a_slow_clip_is_given_in_time() -> None:
    """Two frames at 2.5 a second are frames 0 and 4 at ten."""
    slow = a_clip(2, fps=2.5)
    given = window("interpolate", slow)
    np.testing.assert_array_equal(given.frames[[0, 4]], slow.frames)


def test_animate_begins_with_the_picture(tmp_path: Path) -> None:
    still = read_given(picture(tmp_path / "a.png", height=32, width=48), "animate", 0.8)
    given = window("animate", still)
    assert kept(given) == [0]
    assert given.notes == ["cropped 48x32 to 32x32", "resized to 16x16"]


def test_animate_takes_the_first_frame_of_a_clip(tmp_path: Path) -> None:
    first = read_given(clip(tmp_path / "a.gif", 3), "animate", 0.8)
    assert len(first.frames) == 1
    assert kept(window("animate", first)) == [0]


@pytest.mark.parametrize("mode", ["predict", "backward", "interpolate", "complete"])
def test_no_more_of_a_film_is_held_than_a_mode_needs(tmp_path: Path, mode: str) -> None:
    long = clip(tmp_path / "long.mp4", 60)
    held = read_given(long, mode, 0.8)
    assert len(held.frames) < 20
    box = Box(4, 4, 8, 8) if mode == "complete" else None
    given, wanted = window(mode, held, box), window(mode, read_clip(long), box)
    np.testing.assert_array_equal(given.frames, wanted.frames)
    part = f"of the {'last' if mode == 'predict' else 'first'} {len(held.frames)} at 10 fps"
    assert given.notes[-1].endswith(part)
    assert given.notes[-1].replace(part, "of 60 at 10 fps") == wanted.notes[-1]


@pytest.mark.parametrize("mode", ["predict", "backward", "interpolate"])
def test_a_film_of_few_frames_a_second_is_read_whole(tmp_path: Path, mode: str) -> None:
    slides = clip(tmp_path / "slides.mp4", 4, fps=0.4)
    held = read_given(slides, mode, 0.8)
    assert (len(held.frames), held.part) == (4, "")
    window(mode, held)


def test_complete_makes_the_box_of_every_frame() -> None:
    clip = a_clip(8)
    given = window("complete", clip, Box(2, 4, 8, 6))
    inside = np.zeros((SIZE, SIZE), bool)
    inside[4:10, 2:10] = True
    assert (given.missing == inside).all()
    np.testing.assert_array_equal(given.frames, clip.frames)


def test_a_box_follows_the_crop_and_the_resizing() -> None:
    wide = a_clip(8, height=32, width=64)  # the middle 32x32 begins at x = 16
    assert box_in_window(Box(16, 0, 16, 8), wide, SIZE) == Box(0, 0, 8, 4)
    assert box_in_window(Box(0, 0, 20, 8), wide, SIZE) == Box(0, 0, 2, 4)


@drawn(st.data())
def test_a_box_is_refused_or_keeps_and_makes_something(data) -> None:
    height, width = data.draw(st.integers(4, 40)), data.draw(st.integers(4, 40))
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    clip = Clip(frames=np.zeros((2, height, width, 3), np.uint8), fps=Fraction(10))
    try:
        box = box_in_window(Box(x, y, w, h), clip, SIZE)
    except InputError:
        return
    assert box.width > 0
    assert box.height > 0
    assert box.left >= 0
    assert box.left + box.width <= SIZE
    assert box.top + box.height <= SIZE
    assert box.width * box.height < SIZE**2


@pytest.mark.parametrize(
    ("mode", "clip", "box", "said"),
    [
        ("predict", a_clip(3), None, "a.mp4: has 0.30 s, 3 frames at 10 fps; needs 4 frames"),
        ("backward", a_clip(3), None, "a.mp4: has 0.30 s, 3 frames at 10 fps; needs 4 frames"),
        ("interpolate", a_clip(7), None, "a.mp4: has 0.70 s, 7 frames at 10 fps; needs 8 frames"),
        ("complete", a_clip(7), Box(0, 0, 4, 4), "7 frames at 10 fps; needs 8 frames"),
        ("complete", a_clip(8), Box(0, 0, 16, 16), "mask 0,0,16,16 keeps nothing"),
        ("complete", a_clip(8), Box(8, 0, 9, 4), "mask 8,0,9,4 reaches outside its 16x16 pixels"),
        ("complete", a_clip(8, 16, 32), Box(0, 0, 8, 16), "mask 0,0,8,16 keeps everything"),
        ("predict", a_clip(1), None, "a.mp4: has one frame; predict needs a clip"),
    ],
)
def test_what_cannot_be_given_is_named(mode: str, clip: Clip, box: Box | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        window(mode, clip, box)


def test_other_modes_are_given_nothing() -> None:
    with pytest.raises(ValueError, match="mode is 'unconditional'; needs one"):
        window("unconditional", a_clip())
    with pytest.raises(ValueError, match="box is None"):
        window("complete", a_clip())
