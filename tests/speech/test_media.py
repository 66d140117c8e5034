"""m4a, mp4, mov, webm, mkv, avi and aac as PyAV writes them, and the same broken."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sigform_kit import InputError
from sigform_speech.reading import open_audio, read_audio

FRAMES = 100_000


def tone(frames: int, rate: int, pitch: float) -> Any:
    """A stereo tone, float32 (2, frames), at another level in each channel."""
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(frames) / rate)
    return np.stack([wave, wave / 2]).astype(np.float32)


def media(
    muxer: str, codec: str | None, rate: int, *, tracks: int = 1, video: bool = False
) -> bytes:
    """A file of tones at 440, 880, ... Hz, one for each track, behind a video track if asked."""
    made = io.BytesIO()
    with av.open(made, "w", format=muxer) as container:
        picture: Any = container.add_stream("mpeg4", rate=25) if video else None
        if picture is not None:
            picture.width = picture.height = 32
        sounds: list[Any] = []
        for name in [codec] * tracks if codec else []:
            sound: Any = container.add_stream(name, rate=rate)
            sound.layout = "stereo"
            sounds.append(sound)
        if picture is not None:
            black = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            for index in range(5):
                black.pts = index
                container.mux(picture.encode(black))
            container.mux(picture.encode(None))
        for index, sound in enumerate(sounds):
            samples = tone(FRAMES, rate, 440 * (index + 1))
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            frame.sample_rate = rate
            cut = av.AudioResampler(
                format=sound.codec_context.format,
                layout="stereo",
                rate=rate,
                frame_size=sound.codec_context.frame_size or None,
            )
            for part in [*cut.resample(frame), *cut.resample(None)]:
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    return made.getvalue()


def message(source: Any, name: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_audio(source, name)
    text = caught.value.format_message()
    assert "\n" not in text
    return text


def pitch_of(samples: Any, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples[:rate]))
    return float(spectrum.argmax())


@pytest.mark.parametrize(
    ("muxer", "codec", "rate", "container", "padding"),
    [
        ("ipod", "aac", 44_100, "mov", 1376),
        ("mp4", "aac", 16_000, "mov", 1376),
        ("adts", "aac", 44_100, "aac", 1376),
        ("mov", "alac", 44_100, "mov", 0),
        ("mov", "pcm_s24le", 8000, "mov", 0),
        ("webm", "libopus", 48_000, "matroska", 0),
        ("avi", "libmp3lame", 44_100, "avi", 1376),
        ("mpegts", "aac", 44_100, "mpegts", 1376),
    ],
)
def test_media_files_are_read(
    muxer: str, codec: str, rate: int, container: str, padding: int, tmp_path: Path
) -> None:
    path = tmp_path / "talk.media"
    path.write_bytes(media(muxer, codec, rate))
    with open_audio(path) as reader:
        assert (reader.format.container, reader.format.sample_rate) == (container, rate)
        assert (reader.format.channels, reader.frames, reader.notes) == (2, None, [])
        blocks = list(reader.blocks(10_000))
    assert all(block.shape == (2, 10_000) for block in blocks[:-1])
    samples = np.concatenate(blocks, axis=1)
    assert samples.dtype == np.float32
    # Codecs fill their last frame, and some begin with the encoder's delay.
    assert FRAMES <= samples.shape[1] <= FRAMES + padding
    assert pitch_of(samples[0, 4000:], rate) == 440
    np.testing.assert_allclose(samples[0, 4000:90_000] / 2, samples[1, 4000:90_000], atol=0.03)


def test_lossless_media_are_read_to_the_bit() -> None:
    samples, format = read_audio(io.BytesIO(media("mov", "pcm_s16le", 8000)))
    expected = np.rint(tone(FRAMES, 8000, 440) * 32768) / 32768
    np.testing.assert_allclose(samples, expected, atol=1.01 / 32768)
    assert format.subtype == "pcm_s16le"
    np.testing.assert_array_equal(samples * 32768, np.rint(samples * 32768))


def test_the_sound_of_a_video_is_read() -> None:
    samples, _ = read_audio(io.BytesIO(media("mp4", "aac", 44_100, video=True)))
    assert pitch_of(samples[0, 4000:], 44_100) == 440


def test_a_video_without_sound() -> None:
    data = media("mp4", None, 0, video=True)
    assert message(io.BytesIO(data), "film.mp4") == "film.mp4: has no sound"


def test_the_first_of_several_tracks_is_read() -> None:
    data = media("mp4", "aac", 44_100, tracks=2)
    with open_audio(io.BytesIO(data), "talk.mp4") as reader:
        assert reader.notes == ["talk.mp4: has 2 audio tracks; the first is taken"]
        assert pitch_of(reader.read()[0, 4000:], 44_100) == 440


def test_media_from_a_pipe() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    data = media("mp4", "aac", 44_100)
    whole, _ = read_audio(io.BytesIO(data))
    np.testing.assert_array_equal(read_audio(Pipe(data))[0], whole)


def test_without_pyav_the_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = media("mp4", "aac", 44_100)
    monkeypatch.setitem(sys.modules, "av", None)
    assert message(io.BytesIO(data), "talk.m4a") == (
        "talk.m4a: not audio that libsndfile reads; "
        "m4a, mp4, webm and others need pip install 'sigform-speech[media]'"
    )


@pytest.mark.parametrize(("muxer", "codec"), [("adts", "aac"), ("webm", "libopus")])
def test_cut_off_media_say_where_they_end(muxer: str, codec: str) -> None:
    data = media(muxer, codec, 48_000)
    text = message(io.BytesIO(data[: len(data) // 2]), "talk")
    assert text.startswith("talk: damaged or cut off: its sound ends after 1.0")


def test_media_without_their_index_are_not_audio() -> None:
    data = media("mp4", "aac", 44_100)  # its index is at the end
    assert message(io.BytesIO(data[: len(data) // 2])) == "stream: not audio that can be read"


def test_lists_of_other_files_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.aac").write_bytes(media("adts", "aac", 44_100))
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:3", "#EXTINF:3,", "secret.aac", "#EXT-X-ENDLIST"]
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("\n".join(lines))
    assert message(playlist) == f"{playlist}: not audio that can be read"
