"""Pictures of separations: what they show, that blocks make no difference, and bounded memory."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sigform_kit import InputError, UsageError
from sigform_speech import plotting
from sigform_speech.plotting import COLUMNS, SeparationPlot, plot_separation

RATE = 8000


def scene(seconds: float = 1.0, speakers: int = 2, channels: int = 1) -> tuple[NDArray, NDArray]:
    shape = (speakers, channels, round(seconds * RATE))
    voices = 0.1 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return voices.sum(0), voices


@pytest.mark.parametrize(
    ("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_the_suffix_says_the_kind_of_picture(tmp_path: Path, suffix: str, begins: bytes) -> None:
    path = tmp_path / "new" / f"picture{suffix}"
    mixture, voices = scene(0.3, speakers=1)
    plot_separation(path, mixture[0], voices[:, 0], RATE)
    assert path.read_bytes().startswith(begins)


def test_rows_and_axes_are_labelled(tmp_path: Path) -> None:
    path = tmp_path / "picture.svg"
    plot_separation(path, *scene(0.3, speakers=3), RATE, title="talk $1 & $2.wav")
    text = path.read_text()
    labels = ["Mixture", "Speaker 1", "Speaker 3", "time (s)", "frequency (kHz)", "dBFS"]
    for label in [*labels, "talk $1 &amp; $2.wav"]:
        assert f">{label}</text>" in text
    assert "Speaker 4" not in text


def test_long_sounds_are_drawn_in_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plotting, "MINUTES_FROM", 2)
    plot_separation(tmp_path / "picture.svg", *scene(3, speakers=1), RATE)
    assert ">time (min)</text>" in (tmp_path / "picture.svg").read_text()


def trace_of(signal: NDArray, blocks: list[int], rate: int = RATE) -> plotting._Columns:
    trace = plotting._Trace(rate)
    for part in np.split(signal, np.cumsum(blocks), axis=1):
        trace.push(part)
    return trace.columns()


@pytest.mark.parametrize("seconds", [0.001, 0.9, 21.3])
def test_blocks_make_no_difference(seconds: float) -> None:
    signal = scene(seconds, channels=2)[0]
    whole = trace_of(signal, [])
    parts = trace_of(signal, np.random.default_rng(1).integers(0, 3000, 12).tolist())
    assert whole.seconds == parts.seconds
    for name in ("lows", "highs", "level"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-4)
    columns = len(whole.lows)
    assert (columns - 1) * whole.seconds < max(seconds, 1 / RATE) <= columns * whole.seconds + 1e-9


@pytest.mark.parametrize("seconds", [0.5, 30])
def test_the_envelope_and_the_spectrum_are_true(seconds: float) -> None:
    """A full-scale tone of 1 kHz in the second half, after one click in the first."""
    samples = round(seconds * RATE)
    signal = np.zeros((1, samples), np.float32)
    signal[0, samples // 2 :] = np.sin(2 * np.pi * np.arange(samples - samples // 2) / 8)
    signal[0, samples // 4] = -0.5
    drawn = trace_of(signal, [1000])
    times = (np.arange(len(drawn.lows)) + 0.5) * drawn.seconds
    assert drawn.lows[times < 0.45 * seconds].min() == -0.5
    assert times[drawn.lows.argmin()] > 0.5 * seconds - drawn.seconds
    assert abs(times[drawn.lows == -0.5][0] - seconds / 4) < drawn.seconds
    tone = drawn.level[(times > 0.6 * seconds) & (times < 0.9 * seconds)]
    frequencies = np.linspace(0, RATE / 2, drawn.level.shape[1])
    assert abs(frequencies[tone.mean(0).argmax()] - 1000) < 32
    assert tone.max() == pytest.approx(0, abs=0.1)
    begins = times[(drawn.level.max(1) > -6)][0]
    assert abs(begins - 0.5 * seconds) < 0.02


def test_an_hour_takes_no_more_than_its_columns() -> None:
    trace = plotting._Trace(RATE)
    block = scene(60)[0]
    for _ in range(12):
        trace.push(block)
        assert len(trace._lows) < 2 * COLUMNS
        assert trace._rest is not None
        assert trace._rest.shape[1] < trace._hops * trace._hop + len(trace._window)
    drawn = trace.columns()
    assert len(drawn.lows) >= COLUMNS
    assert len(drawn.lows) * drawn.seconds == pytest.approx(720, abs=drawn.seconds)
    assert drawn.level.std(0).max() < 3


def test_spectra_of_high_rates_are_pooled() -> None:
    signal = np.zeros((8, 19200), np.float32)
    assert trace_of(signal, [], 192_000).level.shape[1] <= plotting.FREQUENCIES


def test_silence_and_a_single_sample_can_be_drawn(tmp_path: Path) -> None:
    plot_separation(tmp_path / "silence.png", np.zeros(4000), np.zeros((1, 4000)), RATE)
    plot_separation(tmp_path / "sample.png", np.ones(1), np.ones((1, 1)), RATE)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    mixture, voices = scene(0.1)
    plot = SeparationPlot(RATE)
    with pytest.raises(ValueError, match="no sound"):
        plot.save(tmp_path / "picture.png")
    plot.push(mixture, voices)
    with pytest.raises(ValueError, match=r"mixture is \(1, 800\) and speakers \(2, 1, 799\)"):
        plot.push(mixture, voices[..., 1:])
    with pytest.raises(ValueError, match="there are 1 speakers; needs 2"):
        plot.push(mixture, voices[:1])
    with pytest.raises(UsageError, match=r"'\.gif'; needs \.png, \.svg, \.pdf"):
        plot.save(tmp_path / "picture.gif")
    (tmp_path / "picture.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists"):
        plot.save(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes() == b"mine"
    plot.save(tmp_path / "picture.png", policy="overwrite")
    assert not list(tmp_path.glob(".sigform-*"))
