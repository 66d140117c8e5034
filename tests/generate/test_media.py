"""Films and sound come back as they were written, to the frame and sample."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sigform_generate.media import (
    has_sound,
    read_clip,
    stream_frames,
    write_clip,
    write_wav,
)
from sigform_kit.errors import InputError


def film(frames: int = 5, height: int = 32, width: int = 48) -> np.ndarray:
    """Soft colours that move, uint8 (T, H, W, 3)."""
    time, y, x = np.mgrid[:frames, :height, :width]
    parts = (y * 3 + 20 * time, x * 2 + 60, 200 - y - x)
    return np.stack([part.clip(20, 235) for part in parts], axis=-1).astype(np.uint8)


def tone(samples: int, rate: int = 16000) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * 300 * np.arange(samples) / rate)).astype(np.float32)


def away(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found.astype(float) - wanted).mean())


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    frames=st.integers(1, 9),
    height=st.integers(16, 40),
    width=st.integers(16, 40),
    samples=st.integers(1, 9000),
    rate=st.sampled_from([8000, 16000, 22050, 44100]),
    fps=st.sampled_from([Fraction(10), Fraction(25), Fraction(24000, 1001)]),
)
def test_any_length_and_size_comes_back(
    tmp_path: Path,
    suffix: str,
    frames: int,
    height: int,
    width: int,
    samples: int,
    rate: int,
    fps: Fraction,
) -> None:
    path = tmp_path / f"a{suffix}"
    pixels, sound = film(frames, height, width), tone(samples, rate)
    write_clip(path, pixels, fps, audio=sound, sample_rate=rate, settings={"seed": 1})
    clip = read_clip(path)
    assert clip.frames.shape == pixels.shape
    assert away(clip.frames, pixels) < 6
    assert clip.audio is not None
    assert clip.sample_rate is not None
    assert clip.audio.shape == (1, round(samples * clip.sample_rate / rate))
    assert clip.settings == {"seed": 1}
    if frames > 1:
        assert abs(clip.fps / fps - 1) < 0.02


def test_mp4_keeps_the_rate_and_the_sound_in_its_place(tmp_path: Path) -> None:
    sound = tone(12345)
    write_clip(tmp_path / "a.mp4", film(), 10, audio=sound, sample_rate=16000)
    clip = read_clip(tmp_path / "a.mp4")
    assert (clip.sample_rate, clip.fps, clip.seconds) == (16000, 10, 0.5)
    assert clip.audio is not None
    assert away(clip.audio[0], sound) < 0.01


def test_two_channels_stay_two(tmp_path: Path) -> None:
    sound = np.stack([tone(5000), 0 * tone(5000)])
    write_clip(tmp_path / "a.mp4", film(), 10, audio=sound, sample_rate=16000)
    clip = read_clip(tmp_path / "a.mp4")
    assert clip.audio is not None
    assert away(clip.audio, sound) < 0.02


def test_strong_colours_survive(tmp_path: Path) -> None:
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    pixels[..., 0] = 250
    for suffix in (".mp4", ".webm"):
        write_clip(tmp_path / f"a{suffix}", pixels, 10)
        assert away(read_clip(tmp_path / f"a{suffix}").frames, pixels) < 2


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    frames=st.integers(1, 6),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    still=st.booleans(),
)
def test_gif_keeps_every_frame(
    tmp_path: Path, frames: int, height: int, width: int, still: bool
) -> None:
    pixels = film(frames, height, width)
    if still:
        pixels[:] = pixels[0]
    write_clip(tmp_path / "a.gif", pixels, 10, settings={"seed": "ä" * 300})
    clip = read_clip(tmp_path / "a.gif")
    assert clip.frames.shape == pixels.shape
    assert away(clip.frames, pixels) < 6
    assert clip.settings == {"seed": "ä" * 300}


def test_gif_times_add_up(tmp_path: Path) -> None:
    notes = write_clip(tmp_path / "a.gif", film(16), 15, audio=tone(100), sample_rate=16000)
    assert notes == ["a GIF has no sound", "GIF times are whole hundredths of s"]
    times = read_clip(tmp_path / "a.gif").times
    assert times is not None
    np.testing.assert_allclose(times, np.arange(16) / 15, atol=0.0051)


def test_odd_sizes_are_padded_and_said(tmp_path: Path) -> None:
    assert write_clip(tmp_path / "a.mp4", film(2, 31, 33), 10) == ["33x31 was padded to even 34x32"]
    with av.open(tmp_path / "a.mp4") as container:
        assert container.streams.video[0].width == 34


def test_streamed_frames_are_those_read(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", film(5, 31, 33), 10)
    clip = read_clip(tmp_path / "a.mp4")
    streamed = list(stream_frames(tmp_path / "a.mp4"))
    np.testing.assert_allclose([time for time, _ in streamed], np.arange(5) / 10)
    np.testing.assert_array_equal(np.stack([pixels for _, pixels in streamed]), clip.frames)


def test_only_the_first_seconds_are_read(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", film(20), 10, audio=tone(32000), sample_rate=16000)
    clip = read_clip(tmp_path / "a.mp4", seconds=0.5)
    assert len(clip.frames) == 5
    assert clip.audio is not None
    assert clip.audio.shape == (1, 8000)


def test_only_the_last_seconds_are_kept(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", film(20), 10)
    whole, end = read_clip(tmp_path / "a.mp4"), read_clip(tmp_path / "a.mp4", last=0.55)
    np.testing.assert_array_equal(end.frames, whole.frames[-6:])
    assert (end.seconds, end.fps, end.part) == (whole.seconds, whole.fps, "last")
    assert (whole.part, read_clip(tmp_path / "a.mp4", last=9).part) == ("", "")


def test_frames_are_shaped_as_they_come(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", film(5, 31, 33), 10)
    seen = []

    def shaped(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        return pixels[::2, ::3]

    clip = read_clip(tmp_path / "a.mp4", shaped=shaped)
    assert seen == [(31, 33, 3)] * 5
    np.testing.assert_array_equal(clip.frames, read_clip(tmp_path / "a.mp4").frames[:, ::2, ::3])


@pytest.mark.parametrize("late", [0.3, -0.3])
def test_sound_that_starts_elsewhere_is_put_in_its_place(tmp_path: Path, late: float) -> None:
    path = tmp_path / "a.mkv"
    with av.open(path, "w") as container:
        video, sound = container.add_stream("libx264", rate=10), container.add_stream("flac", 8000)
        video.width = video.height = 32
        sound.layout = "mono"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number + (0 if late > 0 else 3), Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        click = np.zeros((1, 8000), np.int16)
        click[0, 4000] = 32767
        heard = av.AudioFrame.from_ndarray(click, format="s16", layout="mono")
        heard.sample_rate, heard.time_base = 8000, Fraction(1, 8000)
        heard.pts = 2400 if late > 0 else 0
        container.mux(sound.encode(heard))
        container.mux(sound.encode(None))
    clip = read_clip(path)
    assert clip.audio is not None
    assert clip.audio[0].argmax() == pytest.approx(4000 + 8000 * late, abs=10)


def test_films_without_sound_have_none(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", film(), 10)
    assert read_clip(tmp_path / "a.mp4").audio is None
    assert not has_sound(tmp_path / "a.mp4")
    write_clip(tmp_path / "b.mp4", film(), 10, audio=tone(99), sample_rate=16000)
    assert has_sound(tmp_path / "b.mp4")


def test_bad_files_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty.mp4").touch()
    write_wav(tmp_path / "sound.wav", tone(1000), 16000)
    write_clip(tmp_path / "whole.mp4", film(30, 64, 64), 10)
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name in ("text.mp4", "empty.mp4", "sound.wav", "cut.mp4"):
        with pytest.raises(InputError, match=name) as caught:
            read_clip(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="has no video stream"):
        read_clip(tmp_path / "sound.wav")
    with pytest.raises(FileNotFoundError):
        read_clip(tmp_path / "missing.mp4")


def test_a_full_disk_says_so() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    for suffix in (".mp4", ".webm", ".gif"):
        with pytest.raises(OSError, match="No space left"):
            write_clip(full, film(), 10, suffix=suffix)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(ValueError, match=r"suffix is '\.avi'"):
        write_clip(tmp_path / "a.avi", film(), 10)
    with pytest.raises(ValueError, match="needs uint8"):
        write_clip(path, film().astype(np.float32), 10)
    with pytest.raises(ValueError, match="fps is 0"):
        write_clip(path, film(), 0)
    with pytest.raises(ValueError, match="and a rate"):
        write_clip(path, film(), 10, audio=tone(10))
    assert not path.exists()


def test_wav_holds_every_sample(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(777), 16000)
    samples, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == 16000
    np.testing.assert_allclose(samples, tone(777), atol=1e-4)
