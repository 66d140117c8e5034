"""Files as they are read back, by us and by soundfile; and that none is there half."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_kit import InputError, UsageError
from sigform_speech import writing
from sigform_speech.audio import SUFFIXES, AudioFormat, output_format
from sigform_speech.reading import open_audio, read_audio
from sigform_speech.writing import AudioWriter, speaker_files, write_audio

RATE = 8000


def wave(*shape: int, peak: float = 0.9, seed: int = 0) -> Any:
    values = np.random.default_rng(seed).uniform(-1, 1, shape)
    return (values * peak / np.abs(values).max()).astype(np.float32)


def plain(container: str = "WAV", subtype: str = "PCM_16", channels: int = 1) -> AudioFormat:
    return AudioFormat(container=container, subtype=subtype, sample_rate=RATE, channels=channels)


# --- which format ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "subtype", "suffix", "expected"),
    [
        ("WAV", "PCM_24", ".wav", "WAV PCM_24"),
        ("WAVEX", "PCM_24", ".WAV", "WAVEX PCM_24"),
        ("WAV", "PCM_U8", ".wav", "WAV PCM_U8"),
        ("WAV", "PCM_U8", ".flac", "FLAC PCM_S8"),
        ("WAV", "FLOAT", ".flac", "FLAC PCM_24"),
        ("WAV", "PCM_32", ".flac", "FLAC PCM_24"),
        ("WAV", "PCM_16", ".flac", "FLAC PCM_16"),
        ("WAV", "ULAW", ".wav", "WAV ULAW"),
        ("WAV", "MS_ADPCM", ".wav", "WAV PCM_16"),
        ("FLAC", "PCM_24", ".aiff", "AIFF PCM_24"),
        ("WAV", "DOUBLE", ".w64", "W64 DOUBLE"),
        ("CAF", "ALAC_24", ".caf", "CAF ALAC_24"),
        ("CAF", "ALAC_20", ".wav", "WAV PCM_24"),
        ("WAV", "PCM_16", ".mp3", "MP3 MPEG_LAYER_III"),
        ("MP3", "MPEG_LAYER_III", ".mp3", "MP3 MPEG_LAYER_III"),
        ("MP3", "MPEG_LAYER_III", ".wav", "WAV PCM_16"),
        ("WAV", "PCM_16", ".ogg", "OGG VORBIS"),
        ("OGG", "OPUS", ".ogg", "OGG OPUS"),
        ("OGG", "VORBIS", ".opus", "OGG OPUS"),
        ("mov", "aac", ".wav", "WAV PCM_16"),
        ("mov", "pcm_s24le", ".wav", "WAV PCM_24"),
        ("mov", "pcm_f32be", ".flac", "FLAC PCM_24"),
        ("RF64", "FLOAT", ".wav", "WAV FLOAT"),
    ],
)
def test_formats_stay_or_become_the_nearest(
    container: str, subtype: str, suffix: str, expected: str
) -> None:
    format = output_format(plain(container, subtype, 2), suffix)
    assert f"{format.container} {format.subtype}" == expected
    assert (format.sample_rate, format.channels) == (RATE, 2)


@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "why"),
    [
        (".mp3", 96_000, 2, "8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 or 48000"),
        (".mp3", 48_000, 3, "1 or 2"),
        (".opus", 44_100, 1, "8000, 12000, 16000, 24000 or 48000"),
        (".ogg", 384_000, 1, "at most 200000"),
        (".ogg", 48_000, 256, "at most 255"),
        (".flac", 768_000, 1, "at most 655350"),
        (".flac", 65_537, 1, "a multiple of 10"),
        (".flac", 48_000, 9, "at most 8"),
        (".m4a", 48_000, 1, ".wav, .flac, .ogg, .opus, .mp3, .aiff, .aif, .w64, .rf64, .caf"),
        ("", 48_000, 1, ".wav, .flac"),
    ],
)
def test_what_a_codec_cannot_store(suffix: str, rate: int, channels: int, why: str) -> None:
    source = AudioFormat(container="WAV", subtype="PCM_16", sample_rate=rate, channels=channels)
    with pytest.raises(UsageError) as caught:
        output_format(source, suffix)
    assert why in caught.value.format_message()


# --- samples --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_written_and_read(suffix: str, tmp_path: Path) -> None:
    time = np.arange(30_001) / RATE
    tones = 0.5 * np.sin(2 * np.pi * time * np.array([[300], [500]]))
    samples = tones.astype(np.float32)
    format = output_format(plain(channels=2), suffix)
    path = tmp_path / f"x{suffix}"
    assert write_audio(path, samples, format) == 1.0
    read, found = read_audio(path)
    assert found == format
    assert read.shape == samples.shape
    assert np.corrcoef(read.ravel(), samples.ravel())[0, 1] > 0.99
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("container", "subtype", "dtype", "step"),
    [
        ("WAV", "PCM_U8", "int16", 256),
        ("WAV", "PCM_16", "int16", 1),
        ("WAVEX", "PCM_16", "int16", 1),
        ("WAV", "PCM_24", "int32", 256),
        ("FLAC", "PCM_S8", "int16", 256),
        ("FLAC", "PCM_16", "int16", 1),
        ("FLAC", "PCM_24", "int32", 256),
        ("AIFF", "PCM_16", "int16", 1),
        ("AIFF", "PCM_24", "int32", 256),
        ("CAF", "ALAC_16", "int16", 1),
        ("CAF", "ALAC_24", "int32", 256),
        ("WAV", "ULAW", "int16", 1),
        ("WAV", "ALAW", "int16", 1),
    ],
)
def test_what_was_read_is_written_to_the_bit(
    container: str, subtype: str, dtype: Any, step: int, tmp_path: Path
) -> None:
    limits = np.iinfo(dtype)
    values = np.random.default_rng(0).integers(limits.min // step, limits.max // step, 70_000)
    values[:4] = limits.min // step, limits.max // step, 0, -1
    first, second = tmp_path / "first", tmp_path / "second"
    soundfile.write(first, (values * step).astype(dtype), RATE, format=container, subtype=subtype)
    samples, format = read_audio(first)
    assert write_audio(second, samples, format) == 1.0
    with soundfile.SoundFile(second) as file:
        assert (file.format, file.subtype) == (container, subtype)
        written = file.read(dtype=dtype)
    np.testing.assert_array_equal(written, soundfile.read(first, dtype=dtype)[0])


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_are_written_as_they_are(subtype: str, tmp_path: Path) -> None:
    samples = wave(2, 5000, peak=7.5)
    assert write_audio(tmp_path / "x", samples, plain("WAV", subtype, 2)) == 1.0
    np.testing.assert_array_equal(read_audio(tmp_path / "x")[0], samples)


def test_32_bits_are_kept_as_far_as_float32_has_them(tmp_path: Path) -> None:
    samples = wave(1, 5000, peak=1.0)
    samples[0, :2] = 1.0, -1.0
    write_audio(tmp_path / "x", samples, plain("WAV", "PCM_32"))
    np.testing.assert_allclose(read_audio(tmp_path / "x")[0], samples, rtol=0, atol=2**-32)


def test_integers_are_rounded_to_the_nearest(tmp_path: Path) -> None:
    steps = np.array([[0.4, 0.6, -0.4, -0.6, 1.2, -1.2, 32766.6, -32767.6]])
    write_audio(tmp_path / "x", (steps / 32768).astype(np.float32), plain())
    written = soundfile.read(tmp_path / "x", dtype="int16")[0]
    assert written.tolist() == [0, 1, 0, -1, 1, -1, 32767, -32768]


# --- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
def test_all_speakers_are_turned_down_alike(suffix: str, tmp_path: Path) -> None:
    samples = np.zeros((2, 1, 30_000), np.float32)
    time = np.arange(30_000) / RATE
    samples[0] = 2.5 * np.sin(2 * np.pi * 300 * time)
    samples[1] = 0.5 * np.sin(2 * np.pi * 500 * time)
    paths = [tmp_path / f"speaker{s}{suffix}" for s in (1, 2)]
    with speaker_files(paths, output_format(plain(), suffix)) as files:
        for start in range(0, 30_000, 7000):
            files.write(samples[:, :, start : start + 7000])
        assert files.gain == 1.0
    peak = float(samples.max())
    assert files.peak == pytest.approx(peak)
    assert files.gain == pytest.approx(0.999 / peak)
    assert files.frames == 30_000
    read = np.stack([read_audio(path)[0] for path in paths])
    tolerance = 1 / 32768 if suffix in (".wav", ".flac") else 0.05
    np.testing.assert_allclose(read, samples * files.gain, atol=tolerance)


@pytest.mark.parametrize(("peak", "turned"), [(1.0, False), (1.001, True)])
def test_full_scale_is_not_turned_down(peak: float, turned: bool, tmp_path: Path) -> None:
    gain = write_audio(tmp_path / "x.wav", wave(1, 100, peak=peak), plain())
    assert (gain < 1.0) == turned


def test_silence_is_silence(tmp_path: Path) -> None:
    assert write_audio(tmp_path / "x.wav", np.zeros((1, 100), np.float32), plain()) == 1.0
    assert not read_audio(tmp_path / "x.wav")[0].any()


# --- blocks ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=8),
    speakers=st.integers(1, 3),
    channels=st.integers(1, 3),
)
def test_any_blocks_make_the_same_files(sizes: list[int], speakers: int, channels: int) -> None:
    samples = wave(speakers, channels, max(sum(sizes), 1), peak=1.7)
    format = plain("WAV", "PCM_24", channels)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{s}.wav") for s in range(speakers)]
        with speaker_files(paths, format) as files:
            done = 0
            for size in sizes:
                files.write(samples[:, :, done : done + size])
                done += size
            files.write(samples[:, :, done:])
        read = np.stack([soundfile.read(path, always_2d=True)[0].T for path in paths])
    np.testing.assert_allclose(read, samples * files.gain, atol=2**-23)


def test_ten_minutes_take_no_more_memory_than_a_block(tmp_path: Path) -> None:
    block = wave(2, 1, 16_000, peak=1.5)
    tracemalloc.start()
    try:
        with speaker_files([tmp_path / "1.wav", tmp_path / "2.wav"], plain()) as files:
            for _ in range(300):  # 38 MB
                files.write(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    with open_audio(tmp_path / "2.wav") as reader:
        assert reader.frames == 600 * RATE
    assert peak < 4_000_000


def test_wrong_blocks_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"\(2, 2, 5\); needs \(2, 1, 'n'\)"),
        speaker_files([tmp_path / "1.wav", tmp_path / "2.wav"], plain()) as files,
    ):
        files.write(np.zeros((2, 2, 5), np.float32))
    with (
        pytest.raises(ValueError, match="finite"),
        speaker_files([tmp_path / "1.wav"], plain()) as files,
    ):
        files.write(np.full((1, 1, 5), np.nan, np.float32))
    assert list(tmp_path.iterdir()) == []
    with AudioWriter(io.BytesIO(), plain()) as writer:
        with pytest.raises(ValueError, match=r"\(2, 5\); needs \(1, n\)"):
            writer.write(np.zeros((2, 5), np.float32))
        writer.close()
        with pytest.raises(ValueError, match="closed"):
            writer.write(np.zeros((1, 5), np.float32))


# --- sizes ----------------------------------------------------------------------------------------


def test_wav_beyond_its_limit_becomes_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_LARGEST", 2000)
    for frames, container in ((1000, "WAV"), (1001, "RF64")):
        path = tmp_path / f"{frames}.wav"
        write_audio(path, wave(1, frames), plain())
        assert soundfile.info(path).format == container
        assert read_audio(path)[0].shape == (1, frames)


def test_aiff_beyond_its_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_LARGEST", 2000)
    with pytest.raises(InputError, match=r"x\.aiff: AIFF ends at 4 GiB"):
        write_audio(tmp_path / "x.aiff", wave(1, 1001), plain("AIFF"))
    assert list(tmp_path.iterdir()) == []


# --- all or nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("x"), ZeroDivisionError()])
def test_nothing_stays_when_work_ends_early(error: BaseException, tmp_path: Path) -> None:
    def work() -> None:
        with speaker_files([tmp_path / "1.wav", tmp_path / "2.wav"], plain()) as files:
            files.write(wave(2, 1, 1000))
            assert not (tmp_path / "1.wav").exists()
            raise error

    with pytest.raises(type(error)):
        work()
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_of_a_killed_process_but_hidden_names(tmp_path: Path) -> None:
    script = """
import os, sys, numpy as np
from sigform_speech.audio import AudioFormat
from sigform_speech.writing import speaker_files
format = AudioFormat(container="WAV", subtype="PCM_16", sample_rate=8000, channels=1)
with speaker_files([sys.argv[1]], format) as files:
    files.write(np.zeros((1, 1, 100000), np.float32))
    os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "1.wav")]
    assert subprocess.run(command, check=False).returncode == -9
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_existing_files_are_kept_unless_overwritten(tmp_path: Path) -> None:
    paths = [tmp_path / "1.wav", tmp_path / "2.wav"]
    paths[1].write_bytes(b"mine")
    with (
        pytest.raises(InputError, match=r"2\.wav exists; --overwrite"),
        speaker_files(paths, plain()),
    ):
        pytest.fail("work began")
    assert list(tmp_path.iterdir()) == [paths[1]]
    with speaker_files(paths, plain(), "skip") as files:
        files.write(wave(2, 1, 100))
    assert paths[1].read_bytes() == b"mine"
    with speaker_files(paths, plain(), "overwrite") as files:
        files.write(wave(2, 1, 100))
    assert all(read_audio(path)[0].shape == (1, 100) for path in paths)


@pytest.mark.parametrize("taken", [0, 1])
def test_a_name_taken_meanwhile_leaves_no_speaker_alone(taken: int, tmp_path: Path) -> None:
    paths = [tmp_path / "1.wav", tmp_path / "2.wav"]

    def work() -> None:
        with speaker_files(paths, plain()) as files:
            files.write(wave(2, 1, 100))
            paths[taken].write_bytes(b"mine")

    with pytest.raises(InputError, match="exists"):
        work()
    assert list(tmp_path.iterdir()) == [paths[taken]]
    assert paths[taken].read_bytes() == b"mine"


def test_folders_that_are_missing(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "x.wav"
    with pytest.raises(InputError, match="does not exist"):
        write_audio(target, wave(1, 10), plain())
    with speaker_files([target], plain(), make_parents=True) as files:
        files.write(wave(1, 1, 10))
    assert target.is_file()


@pytest.mark.parametrize(
    ("subtype", "limit"),
    [("PCM_16", 100_000), ("DOUBLE", 500_000)],  # in the waiting file; in the target
)
def test_a_full_disk_is_one_line_with_the_target(
    subtype: str, limit: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.wav"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match="large") as caught:
            write_audio(path, wave(1, 100_000), plain("WAV", subtype))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""  # where callbacks of C would show what they cannot raise


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".opus"])
@pytest.mark.parametrize("room", [0, 10_000])
def test_encoders_tell_of_a_full_disk(suffix: str, room: int) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any, /) -> int:
            if self.tell() + len(data) > room:
                raise OSError(28, "No space left on device")
            return super().write(data)

    def work() -> None:
        with AudioWriter(Full(), output_format(plain(), suffix)) as writer:
            for _ in range(10):
                writer.write(wave(1, 30_000))

    with pytest.raises(OSError, match="No space left on device"):
        work()


def test_ctrl_c_while_bytes_are_written_is_heard() -> None:
    class Interrupted(io.BytesIO):
        def write(self, data: Any, /) -> int:
            if self.tell() > 10_000:
                raise KeyboardInterrupt
            return super().write(data)

    with pytest.raises(KeyboardInterrupt), AudioWriter(Interrupted(), plain()) as writer:
        writer.write(wave(1, 300_000))


# --- streams --------------------------------------------------------------------------------------


def test_bytes_go_into_streams(tmp_path: Path) -> None:
    samples = wave(1, 5000, peak=2.0)
    made = io.BytesIO()
    gain = write_audio(made, samples, plain())
    assert gain == pytest.approx(0.4995)
    read, _ = read_audio(made)
    np.testing.assert_allclose(read, samples * gain, atol=2**-15)
    write_audio(tmp_path / "x.wav", samples, plain())
    assert made.getvalue() == (tmp_path / "x.wav").read_bytes()


def test_pipes_take_whole_files() -> None:
    sink, source = os.pipe()
    with os.fdopen(source, "wb") as out:
        write_audio(out, wave(1, 5000), plain())
    with os.fdopen(sink, "rb") as pipe:
        read, format = read_audio(pipe)
    assert read.shape == (1, 5000)
    assert format == plain()


def test_stdout(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with speaker_files(["-"], plain()) as files:
        files.write(wave(1, 1, 5000))
    read, _ = read_audio(io.BytesIO(capfdbinary.readouterr().out))
    np.testing.assert_allclose(read, wave(1, 5000), atol=2**-15)


def test_mono_without_a_channel_axis() -> None:
    made = io.BytesIO()
    write_audio(made, wave(700), plain("WAV", "FLOAT"))
    np.testing.assert_array_equal(read_audio(made)[0][0], wave(700))


@pytest.mark.parametrize(("rate", "channels"), [(384_000, 1), (48_000, 256)])
def test_what_would_crash_the_encoder_is_refused(rate: int, channels: int) -> None:
    format = AudioFormat(container="OGG", subtype="VORBIS", sample_rate=rate, channels=channels)
    with pytest.raises(UsageError, match="Vorbis cannot store"):
        AudioWriter(io.BytesIO(), format)
