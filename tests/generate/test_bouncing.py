"""The bouncing balls: the same by seed, falling as they should, and heard when they hit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_generate.bouncing import FLOOR, bouncing_clip, bouncing_still


def test_a_seed_is_always_the_same_clip() -> None:
    one, again, other = bouncing_clip(3), bouncing_clip(3), bouncing_clip(4)
    assert np.array_equal(one.frames, again.frames)
    assert np.array_equal(one.audio, again.audio)
    assert one.impacts == again.impacts
    assert not np.array_equal(one.frames, other.frames)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(1, 20),
    height=st.integers(16, 80),
    width=st.integers(16, 80),
    rate=st.sampled_from([8000, 16_000, 22_050]),
)
def test_any_size_has_exact_lengths(
    seed: int, frames: int, height: int, width: int, rate: int
) -> None:
    clip = bouncing_clip(seed, frames=frames, height=height, width=width, sample_rate=rate)
    assert clip.frames.shape == (frames, height, width, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.audio.shape == (round(frames / 10 * rate),)
    assert clip.audio.dtype == np.float32
    assert np.abs(clip.audio).max(initial=0) <= 1
    times = [impact.time for impact in clip.impacts]
    assert times == sorted(times)
    assert all(0 < time < frames / 10 for time in times)


def test_a_ball_is_lowest_at_its_impacts() -> None:
    # Many frames a second: the lowest place of the ball is then near the impact itself.
    clip = bouncing_clip(9, frames=400, fps=250, height=128, width=128)
    assert len({impact.ball for impact in clip.impacts}) == 1
    bright = clip.frames.max(-1) > 140
    bright[:, int(128 * (1 - FLOOR)) :] = False
    rows = np.arange(128)
    lowest = np.array([rows[frame.any(1)].max() for frame in bright])
    for impact in clip.impacts:
        assert lowest[round(impact.time * 250) - 1] >= lowest.max() - 1
    # Between two impacts it flies.
    first, second = (round(impact.time * 250) for impact in clip.impacts[:2])
    assert lowest[(first + second) // 2] < lowest.max() - 10


def test_nothing_is_heard_before_the_first_impact_and_something_after_each() -> None:
    for seed in range(8):
        clip = bouncing_clip(seed)
        first = round(clip.impacts[0].time * clip.sample_rate)
        assert not clip.audio[:first].any()
        for impact in clip.impacts:
            if impact.time < 1.5:
                start = round(impact.time * clip.sample_rate)
                assert np.abs(clip.audio[start : start + 400]).max() > 0.05


def test_a_still_is_the_frame_of_its_clip() -> None:
    clip = bouncing_clip(5, frames=6, height=32, width=48)
    for number in (0, 5):
        still = bouncing_still(5, number, frames=6, height=32, width=48)
        assert np.array_equal(still, clip.frames[number])


@pytest.mark.parametrize(
    "wrong", [{"frames": 0}, {"height": 8}, {"width": 3}, {"fps": 0}, {"sample_rate": 0}]
)
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, int]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} is {wrong[name]}; needs"):
        bouncing_clip(0, **wrong)
