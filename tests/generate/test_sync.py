"""The measure of synchrony, on clips whose impacts are known."""

import numpy as np
import pytest

from sigform_generate.bouncing import bouncing_clip
from sigform_generate.sync import heard_onsets, seen_impacts, synchrony

CLIPS = [bouncing_clip(500 + number) for number in range(12)]
FRAMES = [clip.frames for clip in CLIPS]
SOUNDS = [clip.audio for clip in CLIPS]


def nearest(times: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.abs(others[None] - times[:, None]).min(1)


def test_impacts_are_seen_when_they_are() -> None:
    for clip in CLIPS:
        true = np.array([impact.time for impact in clip.impacts])
        seen = seen_impacts(clip.frames, 10)
        assert nearest(seen, true).max() < 0.1
        # The last frames show a fall without a rise.
        inner = true[(true > 0.15) & (true < 1.3)]
        assert nearest(inner, seen).max() < 0.1


def test_impacts_are_heard_when_they_are() -> None:
    for clip in CLIPS:
        true = np.array([impact.time for impact in clip.impacts])
        heard = heard_onsets(clip.audio, 16_000)
        assert nearest(heard, true).max() < 0.03
        assert nearest(true[true < 1.5], heard).max() < 0.1  # two at once are one onset


def test_matching_sound_is_told_from_other_sound() -> None:
    found = synchrony(FRAMES, SOUNDS, fps=10, sample_rate=16_000)
    assert found.within == 1
    assert found.heard_within > 0.95
    assert found.chance < 0.7
    assert abs(found.lag) < 0.03
    assert (found.clips, found.tolerance) == (12, 0.1)
    assert "100% of" in found.line()
    moved = synchrony(FRAMES, SOUNDS[1:] + SOUNDS[:1], fps=10, sample_rate=16_000)
    assert moved.within < 0.8


@pytest.mark.parametrize("late", [0.05, 0.2])
def test_a_delay_of_the_sound_is_the_lag(late: float) -> None:
    count = round(late * 16_000)
    sounds = [np.concatenate([np.zeros(count, np.float32), sound[:-count]]) for sound in SOUNDS]
    found = synchrony(FRAMES, sounds, fps=10, sample_rate=16_000)
    assert found.lag == pytest.approx(late, abs=0.03)
    assert (found.within > 0.9) == (late < 0.1)


def test_silence_is_never_in_time() -> None:
    silent = [np.zeros_like(sound) for sound in SOUNDS]
    found = synchrony(FRAMES, silent, fps=10, sample_rate=16_000)
    assert (found.within, found.heard, found.chance) == (0, 0, 0)
    assert np.isnan(found.lag)


def test_still_pictures_and_loose_ends_are_refused() -> None:
    still = [np.repeat(clip[:1], 16, axis=0) for clip in FRAMES]
    with pytest.raises(ValueError, match="no impact is seen"):
        synchrony(still, SOUNDS, fps=10, sample_rate=16_000)
    with pytest.raises(ValueError, match="12 clips and 11 sounds"):
        synchrony(FRAMES, SOUNDS[1:], fps=10, sample_rate=16_000)


def test_a_clip_without_contrast_has_no_impacts() -> None:
    noise = np.random.default_rng(0).integers(100, 110, (16, 64, 64, 3)).astype(np.uint8)
    assert len(seen_impacts(noise, 10)) == 0
    assert len(heard_onsets(np.zeros(16_000, np.float32), 16_000)) == 0
