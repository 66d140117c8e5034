"""Any size, rate and length becomes what a model takes, and what was done is said."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_generate.conform import (
    conform_clip,
    conform_image,
    conform_sound,
    middle,
    shown_at,
)
from sigform_generate.media import Clip
from sigform_kit.errors import InputError


def numbered(frames: int, fps: float = 10, side: int = 8) -> Clip:
    """A clip whose frame k is of brightness k."""
    values = np.arange(frames, dtype=np.uint8)[:, None, None, None]
    return Clip(np.tile(values, (1, side, side, 3)), Fraction(fps), name="film.mp4")


@given(*[st.integers(1, 300)] * 4)
def test_the_middle_is_inside_and_as_large_as_can_be(
    height: int, width: int, to_height: int, to_width: int
) -> None:
    top, left, inner_height, inner_width = middle(height, width, to_height, to_width)
    assert 0 <= top <= height - inner_height
    assert 0 <= left <= width - inner_width
    assert inner_height == height or inner_width == width
    assert abs((height - inner_height) - 2 * top) <= 1
    wrong = abs(inner_height * to_width - inner_width * to_height)
    assert wrong <= max(to_height, to_width) or 1 in (inner_height, inner_width)


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70), st.integers(1, 70))
def test_any_picture_gets_the_wanted_size(
    height: int, width: int, to_height: int, to_width: int
) -> None:
    image = np.full((height, width, 3), 77, np.uint8)
    made, notes = conform_image(image, (to_height, to_width))
    assert made.shape == (to_height, to_width, 3)
    assert (made == 77).all()
    assert bool(notes) == ((height, width) != (to_height, to_width))


def test_crop_and_resize_are_said() -> None:
    image = np.zeros((720, 1280, 3), np.uint8)
    image[:, 280:1000] = 200
    made, notes = conform_image(image, 64)
    assert notes == ["cropped 1280x720 to 720x720", "resized to 64x64"]
    assert (made == 200).all()


def test_shrinking_is_antialiased() -> None:
    fine = np.zeros((64, 64, 3), np.uint8)
    fine[:, ::2] = 200
    made, _ = conform_image(fine, 16)
    assert np.abs(made.astype(int) - 100).max() < 12


def test_an_image_of_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 0"):
        conform_image(np.zeros((4, 4, 3), np.uint8), 0)


def test_a_fitting_clip_is_left_alone() -> None:
    made, notes = conform_clip(numbered(16), size=8, fps=10, frames=16)
    assert notes == []
    assert made[:, 0, 0, 0].tolist() == list(range(16))


def test_half_the_rate_takes_every_second_frame() -> None:
    made, notes = conform_clip(numbered(16), size=8, fps=5, frames=4, start=0.4)
    assert made[:, 0, 0, 0].tolist() == [4, 6, 8, 10]
    assert notes == ["took 4 frames at 5 fps from 0.4 s of 16 at 10 fps"]


def test_twice_the_rate_shows_frames_twice() -> None:
    made, _ = conform_clip(numbered(3), size=8, fps=20)
    assert made[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2]


@given(
    frames=st.integers(1, 60),
    fps=st.sampled_from([8, 10, 12.5, 15, 24, 25, 30, 60]),
    wanted=st.sampled_from([5, 8, 10, 15, 25, 30]),
)
def test_a_whole_clip_lasts_as_long_as_it_did(frames: int, fps: float, wanted: int) -> None:
    made, _ = conform_clip(numbered(frames, fps, side=1), size=1, fps=wanted)
    assert abs(len(made) / wanted - frames / fps) <= 1 / wanted
    shown = made[:, 0, 0, 0].astype(float)
    moments = np.arange(len(made)) / wanted
    assert (np.diff(shown) >= 0).all()
    assert (shown / fps <= moments + 2e-3).all()
    assert (moments < (shown + 1) / fps + 1e-3).all() or len(made) == 1


def test_uneven_times_are_followed() -> None:
    times = np.array([0.0, 0.1, 0.5, 0.6])
    assert shown_at(times, [0.0, 0.2, 0.4, 0.5, 0.9]).tolist() == [0, 1, 1, 2, 3]
    clip = Clip(numbered(4).frames, Fraction(10), times=times)
    made, _ = conform_clip(clip, size=8, fps=10)
    assert made[:, 0, 0, 0].tolist() == [0, 1, 1, 1, 1, 2, 3]


def test_a_clip_shorter_than_the_window_is_named() -> None:
    with pytest.raises(InputError, match=r"film.mp4: has 0.60 s, 6 frames at 10 fps; needs 16"):
        conform_clip(numbered(6), size=8, fps=10, frames=16)
    with pytest.raises(InputError, match="needs 16 frames"):
        conform_clip(numbered(20), size=8, fps=10, frames=16, start=0.5)


@settings(deadline=None, max_examples=25)
@given(
    samples=st.integers(0, 3000),
    channels=st.integers(1, 3),
    rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
    wanted=st.one_of(st.none(), st.integers(1, 4000)),
)
def test_sound_gets_its_rate_and_length(
    samples: int, channels: int, rate: int, wanted: int | None
) -> None:
    made, _ = conform_sound(
        np.full((channels, samples), 0.25, np.float32), rate, sample_rate=16000, samples=wanted
    )
    length = -(-samples * 16000 // rate) if wanted is None else wanted
    assert made.shape == (length,)
    assert made.dtype == np.float32


def test_what_was_done_to_the_sound_is_said() -> None:
    sound = np.stack([np.ones(4800, np.float32), -np.ones(4800, np.float32)])
    made, notes = conform_sound(sound, 48000, sample_rate=16000, samples=3200)
    assert notes == [
        "mixed 2 channels into one",
        "resampled sound from 48000 to 16000 Hz",
        "filled 0.10 s with silence",
    ]
    assert not made.any()
    _, notes = conform_sound(sound[0], 48000, sample_rate=48000, samples=2400)
    assert notes == ["cut sound to 0.05 s"]


def test_a_tone_keeps_its_pitch() -> None:
    wave = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100).astype(np.float32)
    made, _ = conform_sound(wave, 44100, sample_rate=16000)
    wanted = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(made[100:-100] - wanted[100:-100]).max() < 0.01
