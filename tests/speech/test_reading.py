"""Files of every kind, whole, damaged and lying, as soundfile writes them and hands break them."""

from __future__ import annotations

import gc
import io
import os
import struct
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_kit import InputError
from sigform_speech.reading import open_audio, read_audio

RATE = 8000
LOSSLESS = [
    ("WAV", "PCM_U8", 8), ("WAV", "PCM_16", 16), ("WAV", "PCM_24", 24), ("WAV", "PCM_32", 32),
    ("WAV", "FLOAT", 24), ("WAV", "DOUBLE", 24), ("WAVEX", "PCM_16", 16), ("FLAC", "PCM_16", 16),
    ("FLAC", "PCM_24", 24), ("AIFF", "PCM_16", 16), ("W64", "PCM_16", 16), ("RF64", "FLOAT", 24),
    ("CAF", "ALAC_16", 16), ("AU", "PCM_16", 16),
]  # fmt: skip
LOSSY = [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "ULAW")]


def voice(frames: int = 20_000, channels: int = 2, seed: int = 0) -> Any:
    """Tones with noise, (frames, channels), that all lossy codecs keep roughly."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / RATE
    tones = np.sin(2 * np.pi * time * np.linspace(200, 700, channels))
    return (0.4 * tones + 0.02 * rng.standard_normal((frames, channels))).astype(np.float32)


def encoded(
    samples: Any, container: str = "WAV", subtype: str | None = None, rate: int = RATE, **more: Any
) -> bytes:
    made = io.BytesIO()
    soundfile.write(made, samples, rate, format=container, subtype=subtype, **more)
    return made.getvalue()


def message(source: Any, name: str | None = None) -> str:
    """The one line that says why the source cannot be read."""
    with pytest.raises(InputError) as caught:
        read_audio(source, name)
    text = caught.value.format_message()
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("container", "subtype", "bits"), LOSSLESS)
def test_lossless_formats_are_read_to_the_bit(container: str, subtype: str, bits: int) -> None:
    samples = np.round(voice() * 2 ** (min(bits, 24) - 1)) / 2 ** (min(bits, 24) - 1)
    read, format = read_audio(io.BytesIO(encoded(samples, container, subtype)))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, samples.T)
    assert (format.container, format.subtype) == (container, subtype)
    assert (format.sample_rate, format.channels) == (RATE, 2)


@pytest.mark.parametrize(("container", "subtype"), LOSSY)
def test_lossy_formats_keep_length_and_sound(container: str, subtype: str) -> None:
    samples = voice()
    read, format = read_audio(io.BytesIO(encoded(samples, container, subtype)))
    assert read.shape == (2, 20_000)
    assert np.corrcoef(read[0], samples[:, 0])[0, 1] > 0.99
    assert (format.container, format.subtype) == (container, subtype)


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), *LOSSY])
def test_blocks_are_the_whole_cut_in_pieces(container: str, subtype: str) -> None:
    data = encoded(voice(), container, subtype)
    whole, _ = read_audio(io.BytesIO(data))
    with open_audio(io.BytesIO(data)) as reader:
        blocks = list(reader.blocks(777))
    assert [block.shape[1] for block in blocks] == [777] * 25 + [575]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)
    assert all(block.flags.c_contiguous for block in blocks)


@settings(deadline=None, max_examples=40)
@given(frames=st.integers(1, 9000), size=st.integers(1, 10_000), channels=st.integers(1, 3))
def test_any_block_size_gives_every_sample(frames: int, size: int, channels: int) -> None:
    samples = voice(frames, channels)
    with open_audio(io.BytesIO(encoded(samples, "WAV", "FLOAT"))) as reader:
        assert reader.frames == frames
        blocks = list(reader.blocks(size))
    assert all(block.shape == (channels, size) for block in blocks[:-1])
    assert 1 <= blocks[-1].shape[1] <= size
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), samples.T)


def test_a_block_has_at_least_one_sample() -> None:
    with (
        open_audio(io.BytesIO(encoded(voice(10)))) as reader,
        pytest.raises(ValueError, match="at least 1"),
    ):
        next(reader.blocks(0))


def test_paths_streams_and_pipes_are_one(tmp_path: Path) -> None:
    data = encoded(voice(3000))
    path = tmp_path / "ä mixture.raw"  # soundfile takes this suffix for a format
    path.write_bytes(data)
    whole = voice_read(data)
    np.testing.assert_array_equal(read_audio(path)[0], whole)
    np.testing.assert_array_equal(read_audio(str(path))[0], whole)
    with path.open("rb") as stream:
        stream.seek(100)
        np.testing.assert_array_equal(read_audio(stream)[0], whole)
        assert not stream.closed
    sink, source = os.pipe()
    with os.fdopen(source, "wb") as out:
        out.write(data)
    with os.fdopen(sink, "rb") as pipe:
        np.testing.assert_array_equal(read_audio(pipe)[0], whole)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    feeder = threading.Thread(target=fifo.write_bytes, args=(data,))
    feeder.start()
    np.testing.assert_array_equal(read_audio(fifo)[0], whole)
    feeder.join()


def voice_read(data: bytes) -> Any:
    return soundfile.read(io.BytesIO(data), dtype="float32")[0].T


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF - 36])
def test_wav_of_streaming_recorders_is_read_whole(size: int) -> None:
    data = bytearray(encoded(voice(5000), "WAV", "PCM_24"))
    at = data.find(b"data")
    data[at + 4 : at + 8] = struct.pack("<I", size)
    data[4:8] = struct.pack("<I", size)
    with open_audio(io.BytesIO(data)) as reader:
        assert reader.frames == 5000
        assert reader.notes == []
        read = reader.read()
    np.testing.assert_allclose(read, voice(5000).T, atol=2**-22)


def test_wav_of_no_samples_and_a_further_chunk_has_none() -> None:
    data = encoded(np.zeros((0, 1)), "WAV", "PCM_16")
    further = b"LIST" + struct.pack("<I", 4) + b"INFO"
    at = data.find(b"data")
    assert data[at + 4 :] == bytes(4)
    assert message(io.BytesIO(data + further)) == "stream: holds no samples"
    assert message(io.BytesIO(data)) == "stream: holds no samples"


def test_wav_shorter_than_it_says_is_read_with_a_note() -> None:
    data = encoded(voice(8000, 1), "WAV", "PCM_16")
    with open_audio(io.BytesIO(data[: len(data) // 2]), "take.wav") as reader:
        assert reader.read().shape == (1, reader.frames)
        assert reader.notes == ["take.wav: holds 49.9% of the sound it announces; cut off?"]


def test_flac_from_a_pipe_does_not_know_its_length() -> None:
    data = bytearray(encoded(voice(50_000), "FLAC"))
    data[21] &= 0xF0  # the 36 bits of the length in STREAMINFO
    data[22:26] = bytes(4)
    with open_audio(io.BytesIO(data)) as reader:
        assert reader.frames is None
        assert sum(block.shape[1] for block in reader.blocks(1000)) == 50_000


@pytest.mark.parametrize("quiet_first", [True, False])
def test_vbr_mp3_without_a_header_is_read_to_its_end(quiet_first: bool) -> None:
    loud = np.random.default_rng(0).standard_normal(200_000) * 0.3
    parts = [np.zeros(300_000), loud]
    samples = np.concatenate(parts if quiet_first else parts[::-1])
    with_header = encoded(samples, "MP3", rate=44_100, bitrate_mode="VARIABLE")
    first = with_header.find(b"\xff\xfb", 10)
    assert b"Xing" in with_header[:first]
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 0x02, 0x01]) + bytes(257)
    for data in (with_header[first:], tag + with_header[first:]):
        with open_audio(io.BytesIO(data)) as reader:
            assert reader.frames is None
            read = reader.read()
        assert 500_000 <= read.shape[1] <= 505_000  # encoder delay and padding come on top
        assert (np.abs(read[0, 1200:250_000]).max() < 0.1) == quiet_first
    with open_audio(io.BytesIO(tag + with_header)) as reader:
        assert reader.frames == reader.read().shape[1] == 500_000


def test_mp3_behind_junk_is_read() -> None:
    data = encoded(voice(), "MP3")
    junk = np.random.default_rng(1).bytes(500).replace(b"\xff", b"\x00")
    assert read_audio(io.BytesIO(junk + data))[0].shape[1] == pytest.approx(20_000, abs=4000)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_cut_off_flac_says_where_it_ends(share: float, tmp_path: Path) -> None:
    data = encoded(voice(80_000, 1), "FLAC")
    path = tmp_path / "talk.flac"
    path.write_bytes(data[: int(share * len(data))])
    text = message(path)
    assert text.startswith(f"{path}: damaged or cut off: its sound ends after ")
    assert text.endswith("s of 10.00 s (flac decoder lost sync)")
    assert float(text.split("after ")[1].split()[0]) == pytest.approx(10 * share, abs=1.1)


def test_damage_in_the_middle_is_no_shorter_sound() -> None:
    data = bytearray(encoded(voice(80_000, 1), "FLAC"))
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    assert "its sound ends after 4." in message(io.BytesIO(data))


def test_cut_off_mp3_says_where_it_ends() -> None:
    data = encoded(voice(80_000, 1), "MP3")
    text = message(io.BytesIO(data[: len(data) // 2]), "a.mp3")
    assert text.startswith("a.mp3: damaged or cut off: its sound ends after ")
    assert text.endswith(" s of 10.00 s (the rest is missing)")


def test_damaged_ogg_is_not_tried_on_another_decoder() -> None:
    data = encoded(voice(8000, 1), "OGG", "OPUS")
    text = message(io.BytesIO(data[: len(data) // 2]))
    assert text.startswith("stream: damaged or cut off: ")


def test_mp3_with_a_wrong_header() -> None:
    data = b"\xff\xfb\xf0\x00" + bytes(600)
    assert message(io.BytesIO(data), "a.mp3").startswith("a.mp3: ")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(value: float) -> None:
    samples = voice(20_000)
    samples[16_000, 1] = value
    data = encoded(samples, "WAV", "FLOAT")
    assert message(io.BytesIO(data), "x.wav") == f"x.wav: a sample is {value} at 2.000 s"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"no sound at all\n" * 50, "not audio that can be read"),
        (bytes(5000), "not audio that can be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "not audio that can be read"),
        (np.random.default_rng(3).bytes(60_000), "not audio that can be read"),
        (b"RIFF\x00\x00\x00\x00WAVE", "not audio that can be read"),
        (encoded(np.zeros((0, 2)), "AIFF"), "holds no samples"),
        (encoded(np.zeros((0, 2)), "WAV"), "holds no samples"),
    ],
)
def test_bad_files(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(data)
    assert message(path) == f"{path}: {why}"


@pytest.mark.parametrize("rate", [999, 768_001])
def test_rates_that_cannot_be(rate: int) -> None:
    data = encoded(voice(100), "WAV", rate=rate)
    assert message(io.BytesIO(data)) == f"stream: its rate is {rate} Hz; needs 1000 to 768000"


@pytest.mark.parametrize("rate", [1000, 192_000, 768_000])
def test_rates_that_can(rate: int) -> None:
    assert read_audio(io.BytesIO(encoded(voice(100), "WAV", rate=rate)))[1].sample_rate == rate


def test_many_channels() -> None:
    samples = voice(500, 8)
    read, format = read_audio(io.BytesIO(encoded(samples, "WAV", "FLOAT")))
    assert format.channels == 8
    np.testing.assert_array_equal(read, samples.T)


def test_places_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert message(tmp_path) == f"{tmp_path}: is a folder; needs a file"
    gone = tmp_path / "gone.wav"
    assert message(gone) == f"{gone}: No such file or directory"

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(gone))

    monkeypatch.setattr(Path, "open", refuse)
    assert message(gone) == f"{gone}: Permission denied"


@pytest.mark.parametrize(("room", "end"), [(20_000, "(Input/output error)"), (20, "output error")])
def test_a_stream_that_fails_says_why(room: int, end: str) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > room:
                raise OSError(5, "Input/output error")
            return super().read(size)

    assert message(Failing(encoded(voice(80_000))), "x.wav").startswith("x.wav: ")
    assert message(Failing(encoded(voice(80_000)))).endswith(end)


def test_ctrl_c_while_bytes_are_read_is_heard() -> None:
    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 20_000:
                raise KeyboardInterrupt
            return super().read(size)

    with pytest.raises(KeyboardInterrupt):
        read_audio(Interrupted(encoded(voice(80_000))))


def test_nothing_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(encoded(voice(100)))
    with open_audio(path) as reader:
        next(reader.blocks(10))
    with path.open("rb") as stream, open_audio(stream) as reader:
        pass
    assert stream.closed
    # On Windows an open file cannot be renamed; elsewhere an unclosed one is a warning, an error.
    path.rename(tmp_path / "y.wav")
    gc.collect()


def test_ten_minutes_take_no_more_memory_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(600 * RATE, np.int16), RATE)  # 9.6 MB, 19.2 MB as floats
    tracemalloc.start()
    try:
        with open_audio(path) as reader:
            total = sum(block.shape[1] for block in reader.blocks(16_384))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 600 * RATE
    assert peak < 1_000_000
