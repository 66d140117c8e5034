"""Causal filtering and resampling: the same in chunks, in trials and over whole recordings."""

from __future__ import annotations

import json

import numpy as np
import pytest
from eeg.files import NAMES, RATE, noise, raw_array, trials
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_eeg.preprocessing import (
    CausalFilter,
    Conditioner,
    Preprocessing,
    Resampler,
    prepare,
    prepare_raw,
)
from sigform_kit import InputError

chunks = st.lists(st.integers(0, 40), min_size=1, max_size=12)


def cut(signals: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
    return np.split(signals, np.cumsum(lengths).tolist(), axis=1)


def test_settings_travel_as_json() -> None:
    ours = Preprocessing(channels=("C3", "C4"), low=4.0)
    assert Preprocessing.from_dict(json.loads(json.dumps(ours.to_dict()))) == ours
    assert Preprocessing().samples == 640
    with pytest.raises(ValueError, match="preprocessing has notch; needs none of it"):
        Preprocessing.from_dict({"notch": 50})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"low": 40.0}, r"low is 40.0 Hz and high 32.0 Hz"),
        ({"high": 80.0}, r"needs 0 <= low < high < 80 Hz"),
        ({"start": 4.0}, r"the window is 4.0 to 4.0 s"),
        ({"order": 0}, r"order is 0; needs 1 to 10"),
        ({"channels": ("C3", "C3")}, "each once"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_dict(wrong)


@settings(max_examples=30, deadline=None)
@given(lengths=chunks, rate=st.sampled_from([128.0, 160.0, 250.0, 512.0, 249.9]))
def test_chunks_give_what_the_whole_gives(lengths: list[int], rate: float) -> None:
    signals = noise(2, 400) + 5000
    whole = Conditioner(Preprocessing(), 2, rate)
    expected = np.concatenate([whole(signals), whole.finish()], axis=1)
    parts = Conditioner(Preprocessing(), 2, rate)
    made = [parts(chunk) for chunk in cut(signals, lengths)]
    assert np.allclose(np.concatenate([*made, parts.finish()], axis=1), expected, atol=1e-4)
    assert expected.shape[1] == int(np.ceil(round(400 * 160 / rate, 6)))


@pytest.mark.parametrize("rate", [160.0, 250.0])
def test_a_saved_state_goes_on(rate: float) -> None:
    signals = noise(3, 500)
    first = Conditioner(Preprocessing(), 3, rate)
    whole = np.concatenate([first(signals), first.finish()], axis=1)
    before = Conditioner(Preprocessing(), 3, rate)
    head = before(signals[:, :77])
    after = Conditioner(Preprocessing(), 3, rate)
    after.load_state(before.state())
    made = np.concatenate([head, after(signals[:, 77:]), after.finish()], axis=1)
    assert np.allclose(made, whole, atol=1e-4)


@pytest.mark.parametrize("rate", [128.0, 250.0, 256.0, 500.0, 512.0, 1000.0])
def test_resampling_keeps_tones_in_time(rate: float) -> None:
    def tones(at: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * np.array([[8.0], [20.0], [36.0]]) * at)

    resampler = Resampler(3, rate, 160.0, 40.0)
    signals = tones(np.arange(int(4 * rate)) / rate).astype("f4")
    made = np.concatenate([resampler(signals), resampler.finish()], axis=1)
    expected = tones(np.arange(made.shape[1]) / 160)
    assert np.abs(made - expected)[:, 16:-16].max() < 4e-3
    assert resampler.delay < 0.04


def test_nothing_folds_into_the_band() -> None:
    resampler = Resampler(1, 500.0, 160.0, 40.0)
    folding = np.sin(2 * np.pi * 140 * np.arange(2000) / 500).astype("f4")[None]  # 20 Hz at 160
    assert np.abs(resampler(folding)[:, 32:-32]).max() < 3e-3


def test_the_filter_is_causal_and_leaves_the_band() -> None:
    ours = Preprocessing()
    changed = noise(1, 1600)
    later = changed.copy()
    later[:, 800:] += 100
    one, other = (CausalFilter(ours, 1, RATE)(x) for x in (changed, later))
    assert np.array_equal(one[:, :800], other[:, :800])
    assert not np.array_equal(one[:, 800:], other[:, 800:])

    def gain(hertz: float) -> float:
        tone = np.sin(2 * np.pi * hertz * np.arange(3200) / RATE).astype("f4")[None]
        return float(CausalFilter(ours, 1, RATE)(tone)[:, 1600:].std() * np.sqrt(2))

    assert gain(16) == pytest.approx(1, abs=0.02)
    assert gain(2) < 2e-3
    assert gain(60) < 0.05


def test_an_offset_leaves_no_trace() -> None:
    level = np.full((1, 300), 30_000, np.float32)
    assert np.abs(Conditioner(Preprocessing(), 1, 250.0)(level)).max() < 1e-3


def test_samples_that_are_not_numbers_are_held_over() -> None:
    signals = noise(2, 300)
    signals[0, 100:103] = np.nan
    held = signals.copy()
    held[0, 100:103] = signals[0, 99]
    made, expected = (Conditioner(Preprocessing(), 2, RATE)(x) for x in (signals, held))
    assert np.array_equal(made, expected)


def test_trials_see_what_a_recording_gives() -> None:
    signals = noise(len(NAMES), 2500)
    ours = Preprocessing(channels=("C4", "Cz"), start=0.5, stop=2.5)
    streamed, rate = prepare_raw(raw_array(signals, rate=250.0), ours)
    assert (rate, streamed.shape) == (160.0, (2, 1600))
    cue = 1000  # sample at 250 Hz, 4 s
    around = signals[:, cue - 250 : cue + 750][None]
    one = trials(1, signals=around, rate=250.0, runs=1)
    made = prepare(one, ours)
    assert made.signals.shape == (1, 2, 320)
    assert (made.start, made.sample_rate, made.channels) == (0.5, 160.0, ("C4", "Cz"))
    expected = streamed[:, 720:1040]
    assert np.abs(made.signals[0] - expected).max() < 1e-3 * expected.std()


def test_trials_that_do_not_hold_the_window_are_refused() -> None:
    with pytest.raises(InputError, match=r"S1: trials hold -1 to 3 s; needs 0 to 4 s"):
        prepare(trials(seconds=4.0), Preprocessing())
    with pytest.raises(InputError, match="S1 lacks channel Oz"):
        prepare(trials(), Preprocessing(channels=("Oz",)))
    with pytest.raises(InputError, match="S1: the sample rate is 60 Hz; needs more than 64 Hz"):
        prepare(trials(rate=60.0), Preprocessing())


def test_a_recording_too_slow_for_the_band_is_refused() -> None:
    with pytest.raises(InputError, match="the sample rate is 50 Hz; needs more than 64 Hz"):
        prepare_raw(raw_array(noise(9, 500), rate=50.0), Preprocessing())
