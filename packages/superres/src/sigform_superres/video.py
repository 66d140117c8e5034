"""Videos: every frame on its own, its time kept, the sound beside it untouched.

PyAV, FFmpeg in Python, reads and writes MP4, MOV, MKV, WebM and AVI; it is the extra `video`, and
imported when first needed. Memory does not grow with the length of a video.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from sigform_kit.errors import InputError
from sigform_superres.upscaler import Target, Upscaler

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.sidedata.sidedata import SideData
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

INSTALL = "pip install 'sigform-superres[video]'"

QUALITY = 66
"""Of the video unless another is asked for: crf 18 in H.264, where one sees no loss."""


@dataclass(frozen=True, kw_only=True)
class Container:
    """How videos of one suffix are written, by FFmpeg's names."""

    muxer: str
    video: str
    sound: str


CONTAINERS = {
    "mp4": Container(muxer="mp4", video="libx264", sound="aac"),
    "mov": Container(muxer="mov", video="libx264", sound="aac"),
    "mkv": Container(muxer="matroska", video="libx264", sound="aac"),
    "webm": Container(muxer="webm", video="libvpx-vp9", sound="libopus"),
    "avi": Container(muxer="avi", video="libx264", sound="libmp3lame"),
}

# FFmpeg's other readers follow lists of further files, even on the network.
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"

# The numbers by which H.264 and FFmpeg name a matrix between RGB and Y'CbCr.
_RGB, _BT709, _UNKNOWN, _BT601_625, _BT601_525, _SMPTE240, _BT2020 = 0, 1, 2, 5, 6, 7, 9
_LIMITED, _FULL = 1, 2

# swscale: bicubic, chroma at full resolution, exact rounding; its defaults are off by several.
_EXACT = 0x4 | 0x2000 | 0x4000 | 0x40000


def upscale_video(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    *,
    size: Target | None = None,
    quality: int | None = None,
    on_frame: Callable[[int, int | None], None] | None = None,
    container: str | None = None,
) -> list[str]:
    """Upscale a video frame by frame; returns notes on whatever is not as it was.

    quality: 1 to 100, 66 if None. on_frame: called with the frames done, and how many there are
    if the file says so. container: one of CONTAINERS, where the suffix of `target` is none.
    Frames are written as H.264, in WebM as VP9, in 4:2:0, upright, of square pixels, in the matrix
    that they had and limited range. Their times are kept: exactly in MP4 and MOV, to a millisecond
    in MKV and WebM, to the nearest frame in AVI. Sound is copied, or re-encoded where the container
    cannot hold it. Titles and chapters go over; subtitles and other streams do not.

    Raises InputError for a file that is no video, broken or cut short, at the latest when coming
    to the place: what is in `target` then is to be thrown away. ValueError for a container or
    quality that cannot be; OSError.
    """
    name = container or target.suffix.removeprefix(".").lower()
    if name not in CONTAINERS:
        raise ValueError(f"container is {name!r}; needs {', '.join(CONTAINERS)}")
    quality = QUALITY if quality is None else quality
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}; needs 1 to 100")
    try:
        import av
    except ImportError as error:
        raise InputError(f"{source}: videos need PyAV: {INSTALL}") from error
    _check_whole(source)
    look = Look.at(source)
    kind = CONTAINERS[name]
    with ExitStack() as stack:
        clip = _opened(source, stack)
        # Python's own file tells of a full disk in its own words.
        file = stack.enter_context(target.open("wb"))
        stack.enter_context(_one_line_errors(source, f"cannot be written as {name}"))
        made = stack.enter_context(av.open(file, "w", format=kind.muxer))
        made.metadata.update(_kept(clip.metadata, _OF_CONTAINERS))
        made.set_chapters(clip.chapters())
        moving = _moving(clip, source)
        frames = _Frames(made, kind, moving, look, upscaler, size, quality)
        sounds = [_sound(made, kind, stream) for stream in clip.streams.audio]
        tracks = {sound.source.index: sound for sound in sounds if sound is not None}
        for packet in _packets(clip, source):
            if packet.stream_index == moving.index:
                for frame in _decoded(packet, source):
                    frames.write(frame)
                    if on_frame is not None:
                        on_frame(frames.count, moving.frames or None)
            elif packet.stream_index in tracks:
                with _one_line_errors(source, "has broken sound"):
                    tracks[packet.stream_index].write(packet)
        frames.finish()
        taken = {moving.index, *tracks}
        left = Counter(s.type for s in clip.streams if s.index not in taken)
        return [
            *look.notes,
            *frames.notes,
            *(note for sound in tracks.values() for note in sound.notes),
            *(f"left out {n} {what} stream{'s' * (n > 1)}" for what, n in left.items()),
        ]


# --- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the first frame is to be seen, which stands for all of them.

    `turn` makes a decoded frame (H, W, 3) upright; `height` and `width` are those of the upright
    one once its pixels are square, which stretches it but never makes it smaller. `matrix` and
    the fields after it are of its colours, in FFmpeg's numbers.
    """

    height: int
    width: int
    turn: Callable[[NDArray], NDArray]
    matrix: int
    full_range: bool
    primaries: int
    transfer: int
    notes: list[str]

    @classmethod
    def at(cls, source: Path) -> Self:
        """Decodes the first frame. Raises InputError where there is none."""
        with ExitStack() as stack:
            clip = _opened(source, stack)
            stream = _moving(clip, source)
            packets = (packet for packet in _packets(clip, source) if packet.stream is stream)
            frame = next((f for packet in packets for f in _decoded(packet, source)), None)
            if frame is None:
                raise InputError(f"{source}: has no frames")
            turn, sideways = _upright(frame)
            height, width = turn(np.empty((frame.height, frame.width))).shape
            notes: list[str] = []
            aspect = stream.sample_aspect_ratio or Fraction(1)
            if aspect != 1:
                # Not every container of PyAV's can be told of the shape of pixels.
                notes.append(f"pixels of {aspect.numerator}:{aspect.denominator} became square")
                aspect = 1 / aspect if sideways else aspect
                height, width = round(height * max(1, 1 / aspect)), round(width * max(1, aspect))
            bits = max(part.bits for part in frame.format.components)
            if bits > 8:
                notes.append(f"{bits} bits a sample became 8")
            if any(part.is_alpha for part in frame.format.components):
                notes.append("transparency was left out")
            if frame.interlaced_frame:
                notes.append("is interlaced, and was upscaled as it is; deinterlace it first")
            coder = stream.codec_context
            return cls(
                height=height,
                width=width,
                turn=turn,
                matrix=_matrix(frame, source),
                full_range=(
                    _is_rgb(frame)
                    or frame.color_range == _FULL
                    or frame.format.name.startswith("yuvj")
                ),
                primaries=coder.color_primaries,
                transfer=coder.color_trc,
                notes=notes,
            )


def _opened(source: Path, stack: ExitStack) -> InputContainer:
    import av

    file = stack.enter_context(source.open("rb"))
    with _one_line_errors(source, "is not a video that can be read"):
        options = {"format_whitelist": _DEMUXERS}
        clip = av.open(file, "r", container_options=options, metadata_errors="replace")
        return stack.enter_context(clip)


def _moving(clip: InputContainer, source: Path) -> VideoStream:
    """The first video stream, of which the picture on a cover is not one."""
    from av.stream import Disposition

    for stream in clip.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise InputError(f"{source}: has no video stream")


def _packets(clip: InputContainer, source: Path) -> Iterator[Packet]:
    """Every packet, and at last an empty one for each stream whose decoder shall finish."""
    streams = [stream for stream in clip.streams if stream.codec_context is not None]
    with _one_line_errors(source, "is a broken or truncated video"):
        yield from clip.demux(streams)


def _decoded(packet: Packet, source: Path) -> list[VideoFrame]:
    with _one_line_errors(source, "is a broken or truncated video"):
        return packet.decode()


@contextlib.contextmanager
def _one_line_errors(source: Path, what: str) -> Iterator[None]:
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        raise InputError(f"{source}: {what}: {error.strerror}") from error


def _upright(frame: VideoFrame) -> tuple[Callable[[NDArray], NDArray], bool]:
    """How pixels become upright by the display matrix, and whether sides change place."""
    # PyAV's stubs take the container of side data for a dictionary by name.
    found = cast("Iterable[SideData]", frame.side_data)
    matrix = next((bytes(data) for data in found if data.type.name == "DISPLAYMATRIX"), None)
    # A pixel at (x, y) is shown at (a x + c y, b x + d y), but for where the whole begins.
    a, b, _, c, d = (1, 0, 0, 0, 1) if matrix is None else struct.unpack_from("=5i", matrix)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = (-1 if a < 0 else 1), (-1 if d < 0 else 1)
        return lambda pixels: pixels[::down, ::across], False
    across, down = (-1 if c < 0 else 1), (-1 if b < 0 else 1)
    return lambda pixels: pixels.swapaxes(0, 1)[::down, ::across], True


def _matrix(frame: VideoFrame, source: Path) -> int:
    """The matrix of the colours, by the players' rule where the file does not name it."""
    space = frame.colorspace
    if _is_rgb(frame):
        return _BT709
    if space in (_BT709, _BT601_625, _BT601_525, _SMPTE240, _BT2020):
        return space
    if space in (_RGB, _UNKNOWN):
        return _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601_525
    raise InputError(f"{source}: has colours of matrix {space}; needs BT.601, 709 or 2020")


def _is_rgb(frame: VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.has_palette


def _check_whole(source: Path) -> None:
    """Raises InputError for a file that ends before its own headers say, as decoders are silent."""
    with source.open("rb") as file:
        length = file.seek(0, io.SEEK_END)
        if length == 0:
            raise InputError(f"{source}: is empty")
        file.seek(0)
        try:
            end = _announced_end(file, length)
        except (struct.error, IndexError):
            end = 0  # so short that it is no video, which the decoder will say
    if end > length:
        raise InputError(f"{source}: is cut short: {length} bytes of {end}")


def _announced_end(file: BinaryIO, length: int) -> int:
    """Where a file ends by its headers, in bytes; 0 if they do not tell."""
    magic = file.read(4)
    end = 0
    if magic == b"RIFF":
        while magic == b"RIFF":
            end += 8 + struct.unpack("<I", file.read(4))[0]
            file.seek(end)
            magic = file.read(4)
        return end
    if magic == b"\x1a\x45\xdf\xa3":
        header = _ebml_size(file)
        # What stands ahead of all else is some forty bytes long.
        if header is None or header > length:
            return 0
        file.seek(header, io.SEEK_CUR)
        if file.read(4) != b"\x18\x53\x80\x67":
            return 0
        segment = _ebml_size(file)
        return 0 if segment is None else file.tell() + segment
    while end + 8 <= length:
        file.seek(end)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:
            size = struct.unpack(">Q", file.read(8))[0]
        if size < 8:
            break
        # Some cameras put what is no box behind the last one.
        if end + size > length:
            return end + size if kind in (b"mdat", b"moov", b"moof") else 0
        end += size
    return 0


def _ebml_size(file: BinaryIO) -> int | None:
    """The length of an element of Matroska in bytes; None while it is being recorded."""
    first = file.read(1)[0]
    count = 9 - first.bit_length()
    digits = bytes([first & (0xFF >> count)]) + file.read(count - 1)
    value = int.from_bytes(digits, "big")
    return None if value == (1 << 7 * count) - 1 else value


# --- writing -------------------------------------------------------------------------------------

# What FFmpeg says of a file itself, beside what its maker says.
_OF_CONTAINERS = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")
_OF_STREAMS = (*_OF_CONTAINERS, "vendor_id", "rotate", "_statistics", "bps", "number_of_")


def _kept(metadata: dict[str, str], left: tuple[str, ...]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if not key.lower().startswith(left)}


class _Frames:
    """The video that is made: takes decoded frames, upscales and encodes them."""

    def __init__(
        self,
        made: OutputContainer,
        kind: Container,
        source: VideoStream,
        look: Look,
        upscaler: Upscaler,
        size: Target | None,
        quality: int,
    ) -> None:
        self.made, self.look, self.upscaler = made, look, upscaler
        asked = size.size(look.height, look.width) if size else None
        scale = upscaler.scale
        self.height, self.width = asked or (look.height * scale, look.width * scale)
        self.count = 0
        self._timeless = self._damaged = self._rounded = 0
        self._last: int | None = None
        rate = source.average_rate or source.guessed_rate or Fraction(25)
        # AVI knows no times, only how many frames a second there are.
        self.clock = 1 / rate if kind.muxer == "avi" else source.time_base or 1 / rate
        h264 = kind.video == "libx264"
        # H.264 in 4:2:0 is of even sides; VP9 of any.
        self.padding = (self.height % 2 * h264, self.width % 2 * h264)
        self.stream = cast(
            "VideoStream",
            made.add_stream(
                kind.video,
                rate=rate,
                options=_options(kind, quality),
                width=self.width + self.padding[1],
                height=self.height + self.padding[0],
                bit_rate=0,
            ),
        )
        self.stream.time_base = self.clock
        coder = self.stream.codec_context
        coder.pix_fmt = "yuv420p"
        coder.time_base = self.clock
        coder.thread_type = "AUTO"
        coder.flags |= _FRAME_DURATION
        coder.colorspace = look.matrix
        coder.color_range = _LIMITED
        coder.color_primaries = look.primaries
        coder.color_trc = look.transfer
        self.stream.metadata.update(_kept(source.metadata, _OF_STREAMS))

    def write(self, frame: VideoFrame) -> None:
        """Takes the next frame, in the order in which they are seen."""
        stamp = frame.dts if frame.pts is None else frame.pts
        ticks = None if stamp is None else stamp * (frame.time_base or self.clock) / self.clock
        time = None if ticks is None else round(ticks)
        if time is None or (self._last is not None and time <= self._last):
            self._timeless += 1
            return
        # The size is named for each, as that of frames can change midway.
        size = Target(width=self.width, height=self.height)
        large = self._yuv(self.upscaler(self._rgb(frame), target=size))
        large.pts, large.time_base, self._last = time, self.clock, time
        large.duration = round(frame.duration * (frame.time_base or self.clock) / self.clock)
        self.made.mux(self.stream.encode(large))
        self.count += 1
        self._rounded += ticks != time
        self._damaged += frame.is_corrupt

    def finish(self) -> None:
        """Writes what the encoder held back."""
        self.made.mux(self.stream.encode(None))

    @property
    def notes(self) -> list[str]:
        """What is not as it was."""
        notes: list[str] = []
        if any(self.padding):
            height, width = self.height + self.padding[0], self.width + self.padding[1]
            notes.append(
                f"{self.width}x{self.height} was padded to {width}x{height}: "
                "H.264 needs even width and height"
            )
        if self._timeless:
            notes.append(f"frames left out as they had no time of their own: {self._timeless}")
        if self._rounded:
            notes.append(f"frames whose times were rounded, as AVI needs it: {self._rounded}")
        if self._damaged:
            notes.append(f"frames damaged in the source: {self._damaged}")
        return notes

    def _rgb(self, frame: VideoFrame) -> NDArray:
        """(H, W, 3) uint8, upright."""
        decoded = frame.reformat(
            format="rgb24",
            src_colorspace=_swscale(self.look.matrix),
            src_color_range=_FULL if self.look.full_range else _LIMITED,
            dst_color_range=_FULL,
            interpolation=_EXACT,
        )
        return np.ascontiguousarray(self.look.turn(decoded.to_ndarray()))

    def _yuv(self, pixels: NDArray) -> VideoFrame:
        from av.video.frame import VideoFrame

        down, across = self.padding
        if down or across:
            pixels = np.pad(pixels, ((0, down), (0, across), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=_swscale(self.look.matrix),
            src_color_range=_FULL,
            dst_color_range=_LIMITED,
            interpolation=_EXACT,
        )
        frame.colorspace, frame.color_range = self.look.matrix, _LIMITED
        return frame


# The encoder hands on how long a frame is shown, of which the last one has no other trace.
_FRAME_DURATION = 1 << 8


def _options(kind: Container, quality: int) -> dict[str, str]:
    """For the encoder; a crf is the lower the better."""
    if kind.video == "libvpx-vp9":
        return {
            "crf": f"{63 - 0.6 * quality:.0f}",
            "deadline": "good",
            "cpu-used": "2",
            "row-mt": "1",
        }
    # Never crf 0: that would be a lossless profile that few players know.
    options = {"crf": f"{51 - quality / 2:g}", "chroma_sample_location": "center"}
    # AVI keeps one order of frames.
    return {**options, "bf": "0"} if kind.muxer == "avi" else options


def _swscale(matrix: int) -> int:
    """swscale's number of a matrix."""
    return _BT601_625 if matrix == _BT601_525 else matrix


@dataclass
class _Copied:
    """Sound that goes over packet by packet."""

    made: OutputContainer
    source: AudioStream
    stream: Stream

    def write(self, packet: Packet) -> None:
        if packet.size:
            packet.stream = self.stream
            self.made.mux(packet)

    @property
    def notes(self) -> list[str]:
        return []


@dataclass
class _Encoded:
    """Sound that goes over decoded and encoded anew."""

    made: OutputContainer
    source: AudioStream
    stream: AudioStream

    def write(self, packet: Packet) -> None:
        for frame in packet.decode():
            self.made.mux(self.stream.encode(frame))
        if not packet.size:
            self.made.mux(self.stream.encode(None))

    @property
    def notes(self) -> list[str]:
        before, now = self.source.codec_context, self.stream.codec_context
        codec = now.codec.canonical_name
        same = now.layout.nb_channels == before.layout.nb_channels
        shape = "" if same else f", {now.layout.name}"
        return [f"sound was re-encoded from {before.codec.canonical_name} to {codec}{shape}"]


def _sound(
    made: OutputContainer, kind: Container, source: AudioStream
) -> _Copied | _Encoded | None:
    """A track for a stream of sound; None where nobody can decode it."""
    import av

    coder = source.codec_context
    if coder is None:
        return None
    if _holds(kind.muxer, source):
        sound = _Copied(made, source, made.add_stream_from_template(source))
    else:
        rates = av.Codec(kind.sound, "w").audio_rates or [coder.sample_rate]
        rate = coder.sample_rate if coder.sample_rate in rates else max(rates)
        layout = "mono" if coder.layout.nb_channels == 1 else "stereo"
        stream = made.add_stream(kind.sound, rate=rate, bit_rate=192_000, layout=layout)
        sound = _Encoded(made, source, cast("AudioStream", stream))
    sound.stream.metadata.update(_kept(source.metadata, _OF_STREAMS))
    return sound


def _holds(muxer: str, stream: AudioStream) -> bool:
    """Whether a container can hold a stream as it is: tried in memory, as no list tells it all."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True
