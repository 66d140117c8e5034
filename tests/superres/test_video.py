"""Videos: times, colours, sound and the way up stay; broken files are errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from PIL import Image

from sigform_kit.errors import InputError
from sigform_superres.upscaler import Target, Upscaler
from sigform_superres.video import upscale_video

TIMES = tuple(range(0, 8000, 1000))  # at 25,000 ticks a second


@dataclass
class Nearest:
    """Every pixel becomes a square of them: what a network would do, without one."""

    scale: int = 2
    seen: list[np.ndarray] = field(default_factory=list)

    def __call__(self, pixels: np.ndarray, *, target: Target | None = None) -> np.ndarray:
        self.seen.append(pixels)
        height, width = pixels.shape[:2]
        size = target.size(height, width) if target else None
        down, across = size or (self.scale * height, self.scale * width)
        rows, columns = np.arange(down) * height // down, np.arange(across) * width // across
        return pixels[rows][:, columns]


def upscaled(source: Path, target: Path, scale: int = 2, **options: Any) -> list[str]:
    return upscale_video(source, target, cast(Upscaler, Nearest(scale)), **options)


def grey(number: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.full((height, width, 3), 20 + 25 * number, np.uint8)


def clip(
    path: Path,
    pictures: Sequence[np.ndarray] | None = None,
    *,
    times: Sequence[int] = TIMES,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    matrix: int = 1,
    tags: tuple[int, int] | None = None,
    full: bool = False,
    sound: str | None = "aac",
    sound_from: float = 0.0,
    prepare: Callable[[Any], None] = lambda _: None,
    **options: str,
) -> Path:
    """Writes a short video of lossless pictures, with a sine beside it.

    `tags` are colour space and range as they are written down, which may be unspecified.
    """
    pictures = [grey(number) for number in range(len(times))] if pictures is None else pictures
    with av.open(str(path), "w", options=options) as made:
        rate = 25 if codec in ("mpeg4", "rawvideo") else 25_000
        stream: Any = made.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = stream.time_base = Fraction(1, rate)
        if codec == "libx264":
            stream.options = {"qp": "0"} if pixels == "yuv444p" else {"crf": "1"}
        space = {5: 6}.get(matrix, matrix)
        stream.codec_context.colorspace, stream.codec_context.color_range = tags or (
            space,
            1 + full,
        )
        prepare(stream)
        track: Any = None
        if sound is not None:
            track = made.add_stream(sound, rate=48_000, layout="mono")
            track.metadata["language"] = "fra"
        for number, (time, picture) in enumerate(zip(times, pictures, strict=True)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format=pixels,
                dst_colorspace=matrix,
                src_color_range=2,
                dst_color_range=1 + full,
                interpolation=0x4 | 0x2000 | 0x4000 | 0x40000,
            )
            frame.pts, frame.time_base = time * rate // 25_000, Fraction(1, rate)
            made.mux(stream.encode(frame))
            if track is not None and number == 0:
                wave = np.sin(np.arange(14_400) * 0.06).astype(np.float32) * 0.5
                wave_frame: Any = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
                wave_frame.sample_rate = 48_000
                wave_frame.pts = round(sound_from * 48_000)
                made.mux(track.encode(wave_frame))
        made.mux(stream.encode(None))
        if track is not None:
            made.mux(track.encode(None))
    return path


def decoded(path: Path) -> tuple[list[np.ndarray], list[float], Any]:
    """Pictures as a player shows them, when, and the stream."""
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        frames = list(video.decode(stream))
        pictures = [
            f.reformat(
                format="rgb24",
                src_colorspace={6: 5, 2: 5}.get(f.colorspace, f.colorspace),
                src_color_range=f.color_range,
                dst_color_range=2,
                interpolation=0x4 | 0x2000 | 0x40000,
            ).to_ndarray()
            for f in frames
        ]
        return pictures, [float((f.pts or 0) * (f.time_base or 0)) for f in frames], stream


def packets(path: Path, kind: str = "audio") -> list[tuple[float, bytes]]:
    with av.open(str(path)) as video:
        found = video.demux(getattr(video.streams, kind)[0])
        return [(float(p.pts * p.time_base), bytes(p)) for p in found if p.size]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("plain") / "a.mp4")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi"])
def test_every_container_holds_all_frames_and_the_sound(plain, tmp_path, suffix):
    told: list[tuple[int, int | None]] = []
    notes = upscaled(plain, tmp_path / f"b.{suffix}", on_frame=lambda *at: told.append(at))
    pictures, times, stream = decoded(tmp_path / f"b.{suffix}")
    assert [picture.shape for picture in pictures] == [(24, 32, 3)] * 8
    for number, picture in enumerate(pictures):
        assert abs(picture.astype(int) - (20 + 25 * number)).max() <= 4
    assert np.diff(times) == pytest.approx([0.04] * 7, abs=0.0011)
    assert stream.codec_context.codec.canonical_name == ("vp9" if suffix == "webm" else "h264")
    assert told == [(number, 8) for number in range(1, 9)]
    if suffix == "webm":
        assert notes == ["sound was re-encoded from aac to opus"]
    elif suffix == "avi":
        assert len(notes) <= 1
    else:
        assert notes == []
        assert [data for _, data in packets(tmp_path / f"b.{suffix}")] == [
            data for _, data in packets(plain)
        ]


def test_sound_is_copied_with_its_times_and_language(plain, tmp_path, capfd):
    upscaled(plain, tmp_path / "b.mp4")
    assert capfd.readouterr() == ("", "")  # FFmpeg has much to say
    assert packets(tmp_path / "b.mp4") == packets(plain)
    with av.open(str(tmp_path / "b.mp4")) as video:
        assert video.streams.audio[0].language == "fra"


@pytest.mark.parametrize("late", [0.0, 0.2])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_sound_that_begins_apart_from_the_picture_stays_in_step(tmp_path, late, suffix):
    begin = 5000 if late == 0.0 else 0
    source = clip(tmp_path / "a.mp4", times=[begin + time for time in TIMES], sound_from=late)
    upscaled(source, tmp_path / f"b.{suffix}")

    def gap(path: Path) -> float:
        """Where the first sound is heard, from the first picture on."""
        with av.open(str(path)) as video:
            for frame in video.decode(video.streams.audio[0]):
                wave = np.abs(frame.to_ndarray().astype(float))
                if wave.max() > 0.1:
                    begun = float((frame.pts or 0) * (frame.time_base or 0))
                    heard = begun + np.argmax(wave.max(axis=0) > 0.1) / 48_000
                    return heard - decoded(path)[1][0]
        raise AssertionError("silent")

    assert gap(source) == pytest.approx(late - begin / 25_000, abs=0.01)
    assert gap(tmp_path / f"b.{suffix}") == pytest.approx(gap(source), abs=0.008)


def test_uneven_times_are_kept_exactly(tmp_path):
    times = [500, 1501, 1700, 4000, 4003, 9000, 20_000, 20_777]
    source = clip(tmp_path / "a.mp4", times=times, sound=None)
    assert upscaled(source, tmp_path / "b.mp4") == []
    assert decoded(tmp_path / "b.mp4")[1] == decoded(source)[1] == [t / 25_000 for t in times]
    assert upscaled(source, tmp_path / "b.mkv") == []
    assert decoded(tmp_path / "b.mkv")[1] == [round(t / 25, 0) / 1000 for t in times]
    left, rounded = upscaled(source, tmp_path / "b.avi")
    assert left == "frames left out as they had no time of their own: 2"
    assert rounded == "frames whose times were rounded, as AVI needs it: 6"


def test_the_last_frame_is_shown_as_long_as_before(tmp_path):
    source = clip(tmp_path / "a.mp4", sound=None)
    # Of these frames the last is shown longest, which only its own duration tells.
    with av.open(str(source)) as before, av.open(str(tmp_path / "b.mp4"), "w") as longer:
        stream = before.streams.video[0]
        copy: Any = longer.add_stream_from_template(stream)
        found = [packet for packet in before.demux(stream) if packet.size]
        max(found, key=lambda packet: packet.pts or 0).duration = 30_000
        for packet in found:
            packet.stream = copy
            longer.mux(packet)
    upscaled(tmp_path / "b.mp4", tmp_path / "c.mp4")
    with av.open(str(tmp_path / "b.mp4")) as before, av.open(str(tmp_path / "c.mp4")) as after:
        assert after.duration == before.duration == pytest.approx(1_480_000, abs=1000)


RED = np.full((12, 16, 3), (255, 0, 0), np.uint8)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 30, 90))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_colours_do_not_shift(tmp_path, matrix, full):
    bars = np.repeat(np.repeat(np.array([COLOURS], np.uint8), 16, 0), 16, 1)
    source = clip(tmp_path / "a.mp4", [bars] * 8, matrix=matrix, full=full, sound=None)
    upscaled(source, tmp_path / "b.mp4")
    pictures, _, stream = decoded(tmp_path / "b.mp4")
    for number, colour in enumerate(COLOURS):
        middle = pictures[3][8:24, 32 * number + 8 : 32 * number + 24].reshape(-1, 3)
        assert abs(middle.astype(int) - colour).max() <= 4
    assert stream.codec_context.colorspace == {5: 6}.get(matrix, matrix)
    assert stream.codec_context.color_range == 1


def test_untagged_colours_are_those_of_small_video_and_then_say_so(tmp_path):
    source = clip(tmp_path / "a.mp4", [RED] * 8, matrix=5, tags=(2, 0), sound=None)
    assert decoded(source)[2].codec_context.colorspace == 2
    upscaled(source, tmp_path / "b.mp4", size=Target(height=720))
    pictures, _, stream = decoded(tmp_path / "b.mp4")
    assert stream.codec_context.colorspace == 6
    assert abs(pictures[0].astype(int) - RED[0, 0]).max() <= 4


CORNERS = np.zeros((12, 16, 3), np.uint8)
CORNERS[:6, :8], CORNERS[:6, 8:], CORNERS[6:, :8] = 240, 160, 80


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_videos_are_turned_upright_once(tmp_path, degrees, mirrored):
    source = clip(
        tmp_path / "a.mp4",
        [CORNERS] * 8,
        prepare=lambda stream: stream.set_display_rotation(degrees, hflip=mirrored),
    )
    upscaled(source, tmp_path / "b.mp4")
    pictures, _, _ = decoded(tmp_path / "b.mp4")
    turned = np.rot90(CORNERS, degrees // 90)  # both count against the clock
    shown = (turned[:, ::-1] if mirrored else turned).repeat(2, 0).repeat(2, 1)
    assert pictures[0].shape == shown.shape
    assert abs(pictures[0][..., 1].astype(int) - shown[..., 1]).mean() < 4
    with av.open(str(tmp_path / "b.mp4")) as video:
        assert next(video.decode(video=0)).rotation == 0


@pytest.mark.parametrize(
    ("aspect", "degrees", "shape"),
    [("4:3", 0, (24, 42)), ("4:3", 90, (42, 24)), ("1:2", 0, (48, 32)), ("1:2", 90, (32, 48))],
)
def test_pixels_become_square(tmp_path, aspect, degrees, shape):
    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(aspect.replace(":", "/"))
        stream.set_display_rotation(degrees)

    source = clip(tmp_path / "a.mp4", prepare=prepare)
    assert f"pixels of {aspect} became square" in upscaled(source, tmp_path / "b.webm")
    pictures, _, stream = decoded(tmp_path / "b.webm")
    assert pictures[0].shape[:2] == shape
    assert stream.sample_aspect_ratio in (None, 1)
    upscaled(source, tmp_path / "c.webm", size=Target(height=20))
    height, width = decoded(tmp_path / "c.webm")[0][0].shape[:2]
    assert height == 20
    assert width / height == pytest.approx(shape[1] / shape[0], abs=0.03)


def test_odd_sizes_are_padded_where_h264_needs_it(plain, tmp_path):
    size = Target(width=31, height=25)
    (note,) = upscaled(plain, tmp_path / "b.mkv", size=size)
    assert note == "31x25 was padded to 32x26: H.264 needs even width and height"
    assert decoded(tmp_path / "b.mkv")[0][0].shape == (26, 32, 3)
    upscaled(plain, tmp_path / "b.webm", size=size)
    assert decoded(tmp_path / "b.webm")[0][0].shape == (25, 31, 3)


def test_a_container_can_be_named_where_the_suffix_is_none(plain, tmp_path):
    upscaled(plain, tmp_path / "part", container="mkv")
    with av.open(str(tmp_path / "part")) as video:
        assert "matroska" in video.format.name


def test_quality_is_a_matter_of_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), np.uint8)
    source = clip(tmp_path / "a.mp4", list(noise), sound=None)
    for suffix in ("mp4", "webm"):
        sizes = []
        for quality in (10, 50, 100):
            upscaled(source, tmp_path / f"b.{suffix}", quality=quality)
            sizes.append((tmp_path / f"b.{suffix}").stat().st_size)
        assert sizes[0] < 0.7 * sizes[1] < 0.49 * sizes[2]


def test_a_video_of_another_kind_is_read_and_the_rest_of_it_named(tmp_path):
    source = clip(tmp_path / "a.avi", codec="mpeg4", sound="libmp3lame")
    upscaled(source, tmp_path / "b.mp4")
    assert len(decoded(tmp_path / "b.mp4")[0]) == 8
    assert decoded(tmp_path / "b.mp4")[1] == decoded(source)[1]
    deep = clip(tmp_path / "c.mkv", pixels="yuv420p10le", sound="flac")
    assert "10 bits a sample became 8" in upscaled(deep, tmp_path / "d.mp4")
    rgb = {"codec": "libx264rgb", "pixels": "rgb24", "matrix": 0, "full": True}
    clear = clip(tmp_path / "e.mkv", [RED] * 8, sound="pcm_s16le", **rgb)
    assert upscaled(clear, tmp_path / "f.webm") == ["sound was re-encoded from pcm_s16le to opus"]
    assert abs(decoded(tmp_path / "f.webm")[0][0].astype(int) - RED[0, 0]).max() <= 4


def test_titles_and_chapters_go_over_and_subtitles_are_named(plain, tmp_path):
    with av.open(str(plain)) as before, av.open(str(tmp_path / "a.mkv"), "w") as made:
        stream = before.streams.video[0]
        copy: Any = made.add_stream_from_template(stream)
        words: Any = made.add_stream("subrip")
        words.codec_context.subtitle_header = b""
        made.metadata["title"] = "Été"
        base = Fraction(1, 1000)
        made.set_chapters(
            [{"id": 1, "start": 0, "end": 200, "time_base": base, "metadata": {"title": "One"}}]
        )
        for packet in before.demux(stream):
            if packet.size:
                packet.stream = copy
                made.mux(packet)
        line = av.Packet(b"Hello")
        line.stream, line.pts, line.dts, line.duration = words, 0, 0, 100
        line.time_base = base
        made.mux(line)
    assert upscaled(tmp_path / "a.mkv", tmp_path / "b.mp4") == ["left out 1 subtitle stream"]
    with av.open(str(tmp_path / "b.mp4")) as video:
        assert video.metadata["title"] == "Été"
        assert [chapter["metadata"]["title"] for chapter in video.chapters()] == ["One"]


def refused(source: Path, says: str) -> None:
    target = source.with_name("refused.mp4")
    with pytest.raises(InputError) as caught:
        upscaled(source, target)
    message = caught.value.format_message()
    assert message.startswith(f"{source}: {says}")
    assert "\n" not in message


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "webm"])
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_a_truncated_video_is_an_error(plain, tmp_path, suffix, share):
    whole = tmp_path / f"whole.{suffix}"
    upscaled(plain, whole)
    data = whole.read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: int(share * len(data))])
    refused(tmp_path / f"a.{suffix}", "is cut short")


def test_a_truncated_video_is_an_error_with_its_index_ahead(tmp_path):
    source = clip(tmp_path / "a.mp4", movflags="faststart")
    data = source.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    source.write_bytes(data[:-300])
    refused(source, "is cut short")


def test_what_is_no_video_is_an_error(tmp_path):
    Image.fromarray(RED).save(tmp_path / "picture.png")
    (tmp_path / "picture.png").rename(tmp_path / "picture.mp4")
    refused(tmp_path / "picture.mp4", "is not a video that can be read")
    for name, data in {
        "empty.mp4": b"",
        "text.mp4": b"Dear Sir or Madam, this is a letter and not a video.\n" * 20,
        "list.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.ts\n#EXT-X-ENDLIST\n",
        "one.mkv": b"\x1a",
        "odd.mkv": b"\x1a\x45\xdf\xa3\x00\xff\xff\xff\xff\xff\xff\xff\xff",
        "odd.avi": b"RIFF\x00",
    }.items():
        (tmp_path / name).write_bytes(data)
        says = "is empty" if not data else "is not a video that can be read"
        refused(tmp_path / name, says)


def test_sound_alone_and_a_stream_without_frames_are_errors(plain, tmp_path):
    with av.open(str(plain)) as before, av.open(str(tmp_path / "a.mp4"), "w") as made:
        copy: Any = made.add_stream_from_template(before.streams.audio[0])
        for packet in before.demux(before.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                made.mux(packet)
    refused(tmp_path / "a.mp4", "has no video stream")
    with av.open(str(plain)) as before, av.open(str(tmp_path / "b.mkv"), "w") as made:
        made.add_stream_from_template(before.streams.video[0])
        copy = made.add_stream_from_template(before.streams.audio[0])
        for packet in before.demux(before.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                made.mux(packet)
    refused(tmp_path / "b.mkv", "has no frames")


def test_wrong_options_and_a_missing_pyav_are_said(plain, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="container is 'gif'; needs mp4, mov, mkv, webm, avi"):
        upscaled(plain, tmp_path / "b.gif")
    with pytest.raises(ValueError, match="quality is 101; needs 1 to 100"):
        upscaled(plain, tmp_path / "b.mp4", quality=101)
    monkeypatch.setitem(sys.modules, "av", None)
    refused(plain, "videos need PyAV: pip install 'sigform-superres[video]'")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_disk_is_an_error_of_the_system(plain):
    with pytest.raises(OSError, match="No space left"):
        upscaled(plain, Path("/dev/full"), container="mp4")
