"""Sources of streams: files as fast as asked for, LSL with drops, and the decoder behind them."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import torch
from eeg.files import raw_array, saved
from eeg.small import CHANNELS, RATE, noise, setup

from sigform_eeg.decoder import Decoder
from sigform_eeg.networks import build
from sigform_eeg.streaming import Latency, Source, open_source, stream
from sigform_kit.errors import InputError, UsageError


def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(build("lmuformer", setup()), setup(), device="cpu")


def signals(rate: float = RATE, seconds: float = 6.0) -> np.ndarray:
    return noise(np.random.default_rng(1), (len(CHANNELS), round(rate * seconds)))


def recording(folder: Path, **more: Any) -> Path:
    given: dict[str, Any] = {"names": CHANNELS, "rate": RATE} | more
    return saved(folder / "noise_raw.fif", raw_array(signals(given["rate"]), **given))


class Chunks(Source):
    """A source out of memory."""

    where, notes = "somewhere", ()

    def __init__(self, chunks: list[np.ndarray], channels: tuple[str, ...], rate: float) -> None:
        self.chunks, self.channels, self.sample_rate = chunks, channels, rate

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.chunks)

    def close(self) -> None:
        self.chunks = []


@pytest.mark.parametrize("rate", [RATE, 250.0])
def test_a_file_streamed_says_what_run_says(tmp_path: Path, rate: float) -> None:
    path, made = recording(tmp_path, rate=rate), decoder()
    latency = Latency()
    with open_source(path) as source:
        told = list(stream(made, source, hop=0.5, latency=latency))
    windows = made(path, hop=0.5)
    assert len(told) > 5
    np.testing.assert_allclose([one.time for one in told], windows.times)
    np.testing.assert_allclose(
        [one.probabilities for one in told], windows.probabilities, atol=2e-5
    )
    assert 0 < latency.count <= len(told)
    assert 0 < latency.p50 <= latency.p99 <= latency.longest


def test_chunks_are_microvolts_of_the_asked_length(tmp_path: Path) -> None:
    source = open_source(recording(tmp_path), chunk_seconds=0.1)
    chunks = list(source)
    assert source.channels == CHANNELS
    assert source.sample_rate == RATE
    assert {chunk.shape[1] for chunk in chunks[:-1]} == {6}
    assert all(chunk.dtype == np.float32 for chunk in chunks)
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), signals(), atol=1e-3)


def test_speed_sets_the_pace_of_a_file(tmp_path: Path) -> None:
    path = recording(tmp_path)
    begun = time.perf_counter()
    assert len(list(open_source(path, speed=20.0))) > 100
    taken = time.perf_counter() - begun
    assert 0.3 <= taken < 2.0
    begun = time.perf_counter()
    first = next(iter(open_source(path, speed=0.1)))
    assert time.perf_counter() - begun >= 10 * first.shape[1] / RATE


def test_a_closed_file_ends(tmp_path: Path) -> None:
    source = open_source(recording(tmp_path), speed=1.0)
    got = 0
    for _ in source:
        got += 1
        source.close()
    assert got == 1


def test_channels_are_matched_by_name() -> None:
    made, whole = decoder(), signals()
    order = np.random.default_rng(0).permutation(len(CHANNELS))
    names = tuple(f"EEG {CHANNELS[row].upper()}-REF" for row in order)
    more = np.concatenate([whole[order], 1e6 * whole[:1]])
    mixed = Chunks(np.array_split(more, 40, axis=1), (*names, "EOG"), RATE)
    straight = Chunks([whole], CHANNELS, RATE)
    for one, other in zip(stream(made, mixed), stream(made, straight), strict=True):
        assert one.time == other.time
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=2e-5)


def test_missing_channels_are_named_before_the_first_chunk() -> None:
    source = Chunks([], (*CHANNELS[:-2], "Fz"), RATE)
    with pytest.raises(InputError, match="somewhere: lacks channels CP3, CP4"):
        stream(decoder(), source)


def test_a_rate_too_low_is_named() -> None:
    with pytest.raises(InputError, match="somewhere: the sample rate is 30 Hz"):
        stream(decoder(), Chunks([], CHANNELS, 30.0))


def test_memory_does_not_grow_with_the_stream() -> None:
    latency = Latency()
    endless = Chunks([signals()[:, :4]], CHANNELS, RATE)
    endless.chunks = itertools.cycle(endless.chunks)  # pyright: ignore[reportAttributeAccessIssue]
    told = stream(decoder(), endless, latency=latency)
    sizes = []
    for _ in range(3):
        for _ in range(60):
            next(told)
        sizes.append(latency._bins.nbytes)
    assert latency.count >= 100
    assert len(set(sizes)) == 1


def test_quantiles_of_latencies_are_right_to_a_per_cent() -> None:
    values = np.random.default_rng(0).lognormal(-6, 1, 5000)
    latency = Latency()
    assert latency.p50 == 0
    for value in values:
        latency.add(value)
    for share in (0.01, 0.5, 0.99):
        assert latency.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.015)
    assert latency.quantile(1.0) == pytest.approx(values.max(), rel=0.011)
    with pytest.raises(ValueError, match="share is 2"):
        latency.quantile(2)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"speed": 0.0}, "speed is 0"),
        ({"chunk_seconds": 0.0}, "chunk_seconds is 0"),
        ({"reconnect": -1.0}, "reconnect is -1"),
        ({"unit": "pound"}, "unit is 'pound'"),
    ],
)
def test_odd_settings_are_refused(tmp_path: Path, more: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        open_source(recording(tmp_path), **more)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.edf: no such file"):
        open_source(tmp_path / "none.edf")


def test_without_mne_lsl_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mne_lsl.lsl", None)
    with pytest.raises(InputError, match=r"lsl:here needs mne-lsl: pip install .*\[lsl\]"):
        open_source("lsl:here")
    with pytest.raises(UsageError, match="--speed is for files"):
        open_source("lsl:here", speed=1.0)


class Player:
    """mne-lsl's player of a recording, which sends volts, unless its units are changed."""

    def __init__(self, name: str, raw: mne.io.BaseRaw, *, unit: str | None = None) -> None:
        try:
            from mne_lsl.player import PlayerLSL
        except (ImportError, OSError, RuntimeError) as error:
            pytest.skip(f"mne-lsl cannot be used here: {error}")
        self.player = PlayerLSL(raw, chunk_size=4, name=name, source_id=name, annotations=False)
        if unit is not None:
            self.player.set_channel_units(dict.fromkeys(raw.ch_names, unit))

    def __enter__(self) -> Player:
        self.player.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.player.running:
            self.player.stop()


def first_seconds(source: Source, seconds: float) -> np.ndarray:
    chunks, count = [], 0
    for chunk in source:
        chunks.append(chunk)
        count += chunk.shape[1]
        if count >= seconds * source.sample_rate:
            break
    return np.concatenate(chunks, axis=1)


def slope(channels: tuple[str, ...] = ("C4", "Fz", "C3"), seconds: float = 6.0) -> mne.io.RawArray:
    """Each channel rises by its number a sample, in microvolts."""
    rise = np.arange(round(RATE * seconds))
    return raw_array(np.outer(np.arange(1, len(channels) + 1), rise), names=channels, rate=RATE)


@pytest.mark.parametrize("unit", [None, "microvolts"])
def test_lsl_gives_microvolts_by_the_stated_units(unit: str | None) -> None:
    with (
        Player(f"sigform-units-{unit}", slope(), unit=unit),
        open_source(f"lsl:sigform-units-{unit}") as source,
    ):
        assert source.channels == ("C4", "Fz", "C3")
        assert source.sample_rate == RATE
        got = first_seconds(source, 0.5)
    steps = np.diff(got, axis=1)
    wraps = steps < 0  # the player begins again at the end
    np.testing.assert_allclose(steps[~wraps], np.broadcast_to([[1], [2], [3]], steps.shape)[~wraps])


def test_lsl_is_decoded_by_names() -> None:
    names = CHANNELS[::-1]
    raw = raw_array(signals(seconds=3.0), names=names, rate=RATE)
    with Player("sigform-decoded", raw), open_source("lsl:sigform-decoded") as source:
        told = list(itertools.islice(stream(decoder(), source), 30))
        source.channels = ("Fz", *source.channels[2:])
        with pytest.raises(InputError, match="lsl:sigform-decoded: lacks channels"):
            stream(decoder(), source)
    assert np.all(np.diff([one.time for one in told]) > 0)


def test_lsl_that_comes_back_goes_on_in_time() -> None:
    notes: list[str] = []
    raw = slope()
    with Player("sigform-drops", raw) as first:
        source = open_source("lsl:sigform-drops", reconnect=20.0, on_note=notes.append)
        chunks = iter(source)
        begun = time.monotonic()
        count = next(chunks).shape[1]
        first.player.stop()
        with Player("sigform-drops", raw):
            while not any("back" in note for note in notes):
                count += next(chunks).shape[1]
            for _ in range(100):
                count += next(chunks).shape[1]
            taken = time.monotonic() - begun
        source.close()
    assert "dropped; waiting 20 s" in notes[0]
    assert count / RATE == pytest.approx(taken, abs=1.0)


def test_lsl_that_stays_away_stops_with_a_line() -> None:
    with Player("sigform-gone", slope()) as player:
        chunks = iter(open_source("lsl:sigform-gone", reconnect=0.5))
        next(chunks)
        player.player.stop()
        begun = time.monotonic()
        with pytest.raises(
            InputError, match=r"lsl:sigform-gone: dropped, and not back within 0\.5"
        ):
            list(chunks)
    assert time.monotonic() - begun < 8


def test_lsl_that_is_not_there_is_named_with_what_is() -> None:
    with (
        Player("sigform-present", slope()),
        pytest.raises(InputError, match=r"lsl:sigform-presents: not found .*sigform-present"),
    ):
        open_source("lsl:sigform-presents", timeout=0.5)
