"""Chunks give what the whole gives: every sample, every speaker in its place, in flat memory."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sigform_speech.mossformer import MossFormer, MossFormerConfig
from sigform_speech.stitching import StreamSeparator, centred, middle

RATE = 8000


class Bands:
    """Splits low from high sound in frames of their own, perfectly; the order is drawn anew."""

    kernel_size = stride = 40
    num_spks = 2
    sample_rate = RATE

    def __init__(self, *, shuffle: bool = False, dtype: torch.dtype = torch.float32) -> None:
        self.random = np.random.default_rng(0)
        self.shuffle = shuffle
        self.dtype = dtype
        self.lengths: list[int] = []

    def parameters(self) -> Iterator[nn.Parameter]:
        return iter(())

    def encode(self, x: Tensor) -> Tensor:
        return torch.view_as_real(torch.fft.rfft(x.unfold(1, 40, 40))).flatten(2)  # (B, L, 42)

    def masks(self, frames: Tensor) -> Tensor:
        self.lengths.append(frames.shape[1] * 40)
        low = (torch.arange(42) < 14).to(self.dtype)
        both = [low, 1 - low]
        if self.shuffle and self.random.random() < 0.5:
            both.reverse()
        return torch.stack(both).expand(1, frames.shape[1], 2, 42)

    def decode(self, frames: Tensor, masks: Tensor, samples: int) -> Tensor:
        parts = (masks * frames.unsqueeze(2)).unflatten(-1, (21, 2)).contiguous()
        signals = torch.fft.irfft(torch.view_as_complex(parts.float()), 40)  # (B, L, S, 40)
        return signals.transpose(1, 2).flatten(2)[..., :samples]


def tiny() -> MossFormer:
    torch.manual_seed(0)
    config = MossFormerConfig(
        in_channels=32,
        out_channels=32,
        d_model=32,
        num_blocks=1,
        group_size=32,
        query_key_dim=32,
    )
    return MossFormer(config).eval()


def noise(seconds: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise of a level that changes, without a constant part."""
    count = round(seconds * RATE)
    white = np.random.default_rng(seed).normal(size=(channels, count + 1))
    swell = 1 + 0.5 * np.sin(np.arange(count) / RATE)
    return (0.1 * np.diff(white) * swell).astype(np.float32)


def separate(
    network: Any,
    samples: np.ndarray,
    blocks: list[int] | None = None,
    *,
    chunk: float = 8.0,
    overlap: float = 2.0,
) -> np.ndarray:
    stream = StreamSeparator(network, len(samples), chunk_seconds=chunk, overlap_seconds=overlap)
    cuts = np.cumsum(blocks or [samples.shape[1]])
    parts = [stream.push(block) for block in np.split(samples, cuts, axis=1)]
    return np.concatenate([*parts, stream.finish()], axis=2)


@settings(deadline=None, max_examples=25)
@given(
    samples=st.integers(1, 12_000),
    blocks=st.lists(st.integers(0, 5000), max_size=8),
    channels=st.sampled_from([1, 2]),
)
def test_no_sample_is_lost_however_it_is_cut(
    samples: int, blocks: list[int], channels: int
) -> None:
    mixture = noise(samples / RATE, channels)
    network = tiny()
    whole = separate(network, mixture, chunk=0.4, overlap=0.1)
    assert whole.shape == (2, channels, samples)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(separate(network, mixture, blocks, chunk=0.4, overlap=0.1), whole)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("seconds", [20, 26.0, 8.0, 14.005, 3.0])
def test_chunks_are_the_whole(seconds: float, *, shuffle: bool) -> None:
    mixture = noise(seconds, 2)
    # A single pass over everything is what no recording needs.
    whole = separate(Bands(), mixture, chunk=60)
    made = separate(Bands(shuffle=shuffle), mixture)
    if np.square(made[0] - whole[0]).sum() > np.square(made[1] - whole[0]).sum():
        made = made[::-1]
    np.testing.assert_allclose(made.sum(0), mixture, atol=2e-3)
    assert np.square(made - whole).mean() < 1e-4 * np.square(whole).mean()


def test_a_short_recording_is_one_pass() -> None:
    network, mixture = tiny(), noise(7.9)
    made = separate(network, mixture)
    with torch.inference_mode():
        own = network(torch.from_numpy(mixture))[0].numpy()
    for ours, theirs in zip(made[:, 0], own, strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.9999


@pytest.mark.parametrize("samples", [2, 7, 15, 16, 17, 23, 24, 25, 8000])
def test_two_frames_cover_the_last_samples(samples: int) -> None:
    class Watched(MossFormer):
        def encode(self, x: Tensor) -> Tensor:
            self.length = x.shape[1]
            return super().encode(x)

    network = Watched(tiny().config).eval()
    made = separate(network, noise(samples / RATE))
    assert made.shape == (2, 1, samples)
    assert (network.length - 16) % 8 == 0
    assert network.length >= max(samples, 16) + 8


def test_pauses_of_zeros_skip_the_network() -> None:
    network = Bands()
    mixture = np.concatenate([noise(8), np.zeros((1, 30 * RATE), np.float32), noise(8)], axis=1)
    made = separate(network, mixture)
    assert len(network.lengths) < 6
    assert not made[..., 8 * RATE : 38 * RATE].any()
    assert made[..., : 8 * RATE].any()
    assert made[..., 38 * RATE :].any()


@pytest.mark.parametrize("value", [0.0, 0.1, -1.0, 1e30, 1e-30])
def test_a_constant_is_silence(value: float) -> None:
    made = separate(tiny(), np.full((1, 3 * RATE), value, np.float32))
    assert not made.any()


@pytest.mark.parametrize("level", [1e-9, 1e-4, 1.0, 1e4])
def test_levels_change_nothing_else(level: float) -> None:
    mixture = noise(10)
    np.testing.assert_allclose(
        separate(tiny(), mixture * np.float32(level)) / level,
        separate(tiny(), mixture),
        atol=1e-4,
    )


def test_a_click_or_one_sample_is_finite() -> None:
    click = np.zeros((1, 20 * RATE), np.float32)
    click[0, 5000] = 1
    for samples in (click, click[:, 5000:5001], noise(0.001) * 1e-20):
        assert np.isfinite(separate(tiny(), samples)).all()


def test_the_stereo_picture_stays() -> None:
    mixture = noise(12) * np.array([[1.0], [0.3]], np.float32)
    made = separate(tiny(), mixture)
    np.testing.assert_allclose(made[:, 1], 0.3 * made[:, 0], atol=1e-5)


def test_channels_that_cancel_are_heard() -> None:
    one = noise(12)
    made = separate(Bands(), one * np.array([[1.0], [-1.0]], np.float32))
    np.testing.assert_allclose(made[:, 0], -made[:, 1], atol=1e-5)
    np.testing.assert_allclose(made.sum(0)[0], one[0], atol=2e-3)
    single = separate(Bands(), one)
    assert np.square(made[:, 0] - single[:, 0]).mean() < 1e-4 * np.square(single).mean()


def test_the_middle_is_the_mean_where_it_says_something() -> None:
    left, right = noise(1, 2)
    np.testing.assert_array_equal(middle(np.stack([left, right])), (left + right) / 2)
    np.testing.assert_array_equal(
        middle(np.stack([left, -2 * left + 0.01 * right]))[:9], (-2 * left + 0.01 * right)[:9]
    )


def test_memory_does_not_grow_with_the_length() -> None:
    def peak(seconds: int) -> int:
        stream = StreamSeparator(Bands(), 2)  # pyright: ignore[reportArgumentType]
        block = noise(1, 2)
        tracemalloc.start()
        for _ in range(seconds):
            stream.push(block)
        stream.finish()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(120) < 1.1 * peak(40)


def test_half_precision_networks_give_float32() -> None:
    made = separate(Bands(dtype=torch.bfloat16), noise(10))
    assert made.dtype == np.float32


@pytest.mark.parametrize(
    "block",
    [np.zeros(5, np.float32), np.zeros((2, 5), np.float32), np.full((1, 5), np.nan, np.float32)],
)
def test_blocks_that_cannot_be(block: np.ndarray) -> None:
    with pytest.raises(ValueError, match="block has"):
        StreamSeparator(tiny()).push(block)


def test_nothing_comes_after_the_end() -> None:
    stream = StreamSeparator(tiny())
    assert stream.finish().shape == (2, 1, 0)
    with pytest.raises(ValueError, match="after finish"):
        stream.push(noise(1))
    with pytest.raises(ValueError, match="called before"):
        stream.finish()


@pytest.mark.parametrize(
    "more", [{"channels": 0}, {"overlap_seconds": 5}, {"overlap_seconds": 0}, {"chunk_seconds": -1}]
)
def test_settings_that_cannot_be(more: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs"):
        StreamSeparator(tiny(), **more)  # pyright: ignore[reportArgumentType]


def test_centred_takes_the_mean_off_and_nothing_else() -> None:
    samples = noise(1, 2)
    np.testing.assert_allclose(
        centred(samples + np.float32(0.5)), samples - samples.mean(1)[:, None], atol=1e-6
    )
