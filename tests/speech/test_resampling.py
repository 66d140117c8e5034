"""Lengths, alignment and sound of the resampler, for any rates and blocks."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_speech.resampling import Resampler, output_length, resample

PAIRS = [
    (44_100, 8000), (8000, 44_100), (16_000, 8000), (192_000, 8000), (8000, 192_000),
    (11_025, 8000), (8000, 11_025), (7919, 8000), (1000, 768_000), (44_100, 44_101),
]  # fmt: skip
RATES = st.one_of(
    st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000]), st.integers(1000, 60_000)
)


def noise(channels: int, frames: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, (channels, frames)).astype(np.float32)


def tone(rate: int, seconds: float, pitch: float = 440) -> Any:
    time = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def in_blocks(samples: Any, source: int, target: int, sizes: list[int]) -> Any:
    resampler = Resampler(source, target, samples.shape[0])
    made, done = [], 0
    for size in sizes:
        made.append(resampler.push(samples[:, done : done + size]))
        done += size
    made.append(resampler.push(samples[:, done:], last=True))
    assert all(part.dtype == np.float32 for part in made)
    return np.concatenate(made, axis=1)


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(0, 10_000),
    source=RATES,
    target=RATES,
    channels=st.integers(1, 3),
    sizes=st.lists(st.integers(0, 3000), max_size=6),
)
def test_blocks_of_any_size_give_the_same(
    length: int, source: int, target: int, channels: int, sizes: list[int]
) -> None:
    samples = noise(channels, length)
    made = in_blocks(samples, source, target, sizes)
    assert made.shape == (channels, ceil(Fraction(length * target, source)))
    np.testing.assert_allclose(made, resample(samples, source, target), atol=1e-6)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_there_is_no_delay(source: int, target: int) -> None:
    """A narrow bump stays where it is, to a fraction of a sample."""
    rate = min(source, target)
    centre, width = 0.25, 20 / rate
    before = np.exp(-(((np.arange(source // 2) / source - centre) / width) ** 2))
    after = resample(before.astype(np.float32), source, target)
    expected = np.exp(-(((np.arange(len(after)) / target - centre) / width) ** 2))
    np.testing.assert_allclose(after, expected, atol=1e-4)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_tones_are_the_same_tones_to_the_end(source: int, target: int) -> None:
    pitch = min(source, target) / 20
    made = resample(tone(source, 1.0, pitch), source, target)
    expected = tone(target, 1.0, pitch)
    assert abs(len(made) - len(expected)) <= 1
    inner = slice(len(expected) // 20, -len(expected) // 20)
    np.testing.assert_allclose(made[: len(expected)][inner], expected[inner], atol=1e-4)
    # The last samples are sound, not padding.
    assert np.abs(made[-max(20, 20 * target // source) :]).max() > 0.2


def test_what_the_lower_rate_cannot_hold_is_removed() -> None:
    made = resample(tone(44_100, 1.0, 6000), 44_100, 8000)
    assert np.abs(made[200:-200]).max() < 1e-5


@settings(deadline=None, max_examples=30)
@given(length=st.integers(1, 30_000), rate=RATES)
def test_there_and_back_is_never_shorter(length: int, rate: int) -> None:
    there = output_length(length, rate, 8000)
    assert output_length(there, 8000, rate) >= length


@pytest.mark.parametrize("rate", [11_025, 16_000, 44_100, 192_000])
def test_there_and_back_is_the_same_sound(rate: int) -> None:
    samples = tone(rate, 0.5)[: rate // 2 - 7]
    back = resample(resample(samples, rate, 8000), 8000, rate)[: len(samples)]
    assert len(back) == len(samples)
    inner = slice(rate // 20, -rate // 20)
    np.testing.assert_allclose(back[inner], samples[inner], atol=1e-4)


def test_channels_stay_apart() -> None:
    samples = np.stack([tone(44_100, 0.3), np.zeros(13_230, np.float32), -tone(44_100, 0.3)])
    made = resample(samples, 44_100, 8000)
    assert not made[1].any()
    np.testing.assert_array_equal(made[0], -made[2])
    np.testing.assert_array_equal(made[0], resample(samples[0], 44_100, 8000))


def test_equal_rates_give_the_block_itself() -> None:
    block = noise(2, 500)
    resampler = Resampler(8000, 8000, 2)
    assert resampler.push(block) is block
    assert resampler.push(block, last=True) is block


def test_nothing_gives_nothing() -> None:
    resampler = Resampler(44_100, 8000, 2)
    assert resampler.push(np.zeros((2, 0), np.float32)).shape == (2, 0)
    assert resampler.push(np.zeros((2, 0), np.float32), last=True).shape == (2, 0)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="target rate is 0; needs at least 1"):
        Resampler(8000, 0, 1)
    resampler = Resampler(44_100, 8000, 2)
    with pytest.raises(ValueError, match=r"\(1, 5\); needs \(2, n\)"):
        resampler.push(np.zeros((1, 5), np.float32))
    resampler.push(np.zeros((2, 5), np.float32), last=True)
    with pytest.raises(ValueError, match="after the last"):
        resampler.push(np.zeros((2, 5), np.float32))
