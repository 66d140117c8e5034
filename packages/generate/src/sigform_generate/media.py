"""Clips: films with and without sound, read and written to the exact frame and sample.

PyAV, FFmpeg in Python, does the work and is imported when first needed. Letters of shapes:
T frames, H, W pixels, C channels, N samples.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sigform_kit.errors import InputError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SUFFIXES = (".mp4", ".webm", ".gif")
"""What `write_clip` writes."""

READ_SUFFIXES = (*SUFFIXES, ".mov", ".m4v", ".mkv", ".avi", ".mpg", ".mpeg", ".ogv", ".3gp")

# FFmpeg's other readers follow lists of further files, even on the network.
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpeg,mpegts,ogg,flv,asf,wav"

_BT709, _BT601, _LIMITED, _FULL = 1, 5, 1, 2
# swscale: bicubic, chroma at full resolution, exact rounding; its defaults are off by several.
_EXACT = 0x4 | 0x2000 | 0x4000 | 0x40000
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


@dataclass(frozen=True, eq=False)
class Clip:
    """Moving pictures with or without sound.

    frames (T, H, W, 3) uint8, `times` (T,) in seconds from the start if they are not evenly spaced,
    audio (C, N) float32 in [-1, 1]; `settings` is what `write_clip` was given, `part` is "first"
    or "last" where the file has more.
    """

    frames: NDArray[np.uint8]
    fps: Fraction
    audio: NDArray[np.float32] | None = None
    sample_rate: int | None = None
    name: str = "clip"
    times: NDArray[np.float64] | None = field(default=None, repr=False)
    settings: dict[str, Any] | None = None
    part: str = ""

    @property
    def seconds(self) -> float:
        """How long the pictures last."""
        if self.times is None or len(self.times) < 2:
            return float(len(self.frames) / self.fps)
        return float(self.times[-1] + 1 / self.fps)


# --- reading -------------------------------------------------------------------------------------


def read_clip(
    path: str | Path,
    *,
    seconds: float | None = None,
    last: float | None = None,
    sound: bool = True,
    shaped: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
) -> Clip:
    """Read a film or GIF, at most its first `seconds`, with its first audio track if it has one.

    last: keep the frames of so many seconds at the end, and all sound. shaped: what becomes of
    each frame (H, W, 3) as it is decoded. With any of the three a long film is never held at its
    full size. Raises InputError for what is no film, has no pictures, or is broken.
    """
    from av import AudioFrame, VideoFrame

    path = Path(path)
    with _opened(path) as container:
        video = _moving(container, path)
        audio = container.streams.audio[0] if sound and container.streams.audio else None
        ours = _read_note(container.metadata)
        frames: deque[NDArray[np.uint8]] = deque()
        times: list[float] = []
        part = ""
        pieces: list[NDArray[np.float32]] = []
        sizes: set[tuple[int, ...]] = set()
        planes, heard, late = _planes(audio), 0, 0.0
        with _one_line_errors(path):
            for frame in container.decode(*(s for s in (video, audio) if s is not None)):
                if isinstance(frame, AudioFrame):
                    if not pieces:
                        late = float(frame.time or 0)
                    for part in planes.resample(frame):
                        pieces.append(np.asarray(part.to_ndarray(), np.float32))
                        heard += part.samples
                elif not isinstance(frame, VideoFrame):
                    continue
                elif seconds is None or not times or _time(frame, times) - times[0] < seconds:
                    times.append(_time(frame, times))
                    pixels = to_rgb(frame)
                    sizes.add(pixels.shape)
                    pixels = pixels[: ours.get("height"), : ours.get("width")]
                    frames.append(np.array(pixels) if shaped is None else shaped(pixels))
                    while last is not None and times[-1] - times[-len(frames)] > last:
                        frames.popleft()
                        part = "last"
                else:
                    part = "first"
                    if audio is None or heard >= seconds * audio.rate:
                        break
            if planes is not None:
                pieces += [np.asarray(p.to_ndarray(), np.float32) for p in planes.resample(None)]
        if not frames:
            raise InputError(f"{path}: has no frames that can be read")
        promised = ours.get("frames") or (video.frames if "mp4" in container.format.name else 0)
        # Others' edit lists may leave out some; a file cut short lacks more.
        if seconds is None and len(times) < (1 if "frames" in ours else 0.9) * promised:
            raise InputError(f"{path}: broken video ({len(times)} of {promised} frames)")
        rate = audio.rate if audio is not None else None
        fps = _rate(video, times)
    if len(sizes) > 1:
        raise InputError(f"{path}: its frames change their size")
    samples = np.concatenate(pieces, axis=1) if pieces else None
    if samples is not None and rate is not None:
        samples = _aligned(np.clip(samples, -1, 1), late - times[0], rate)
        if seconds is not None:
            samples = samples[:, : round(seconds * rate)]
        elif ours.get("sample_rate"):
            # Sound is stored in blocks; how much of the last one is meant stands in our note.
            count = round(ours["samples"] * rate / ours["sample_rate"])
            samples = np.pad(samples[:, :count], ((0, 0), (0, max(0, count - samples.shape[1]))))
    return Clip(
        frames=np.stack(frames),
        fps=fps,
        audio=samples,
        sample_rate=rate if samples is not None else None,
        name=str(path),
        times=(np.array(times) - times[0])[-len(frames) :],
        settings=ours.get("settings"),
        part=part,
    )


def stream_frames(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The frames of a film one by one with their time in seconds: (t, (H, W, 3)).

    Raises InputError as `read_clip`, at the latest when coming to the broken place.
    """
    with _opened(path) as container:
        video = _moving(container, path)
        ours = _read_note(container.metadata)
        times: list[float] = []
        with _one_line_errors(path):
            for frame in container.decode(video):
                times = [_time(frame, times)]
                pixels = to_rgb(frame)
                height, width = pixels.shape[:2]
                yield times[0], pixels[: ours.get("height", height), : ours.get("width", width)]


def has_sound(path: Path) -> bool:
    """Whether a film has an audio track. Raises InputError for what is no film."""
    with _opened(path) as container:
        _moving(container, path)
        return bool(container.streams.audio)


def to_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """A decoded frame as upright RGB (H, W, 3), by its own matrix or else that of its size."""
    if frame.format.name in ("rgb24", "bgra", "bgr24", "gray", "pal8", "rgb8", "bgr8"):
        pixels = frame.to_ndarray(format="rgb24")
    else:
        silent = _BT709 if frame.height >= 720 else _BT601
        pixels = frame.reformat(
            format="rgb24",
            src_colorspace=frame.colorspace if frame.colorspace in (1, 5, 6, 7, 9) else silent,
            dst_color_range=_FULL,
            interpolation=_EXACT,
        ).to_ndarray()
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns), dtype=np.uint8)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    import av
    from av.error import FFmpegError

    # Opened by Python, so that missing and forbidden files say so in its words.
    with Path(path).open("rb") as file:
        try:
            container = av.open(
                file,
                "r",
                container_options={"format_whitelist": _DEMUXERS},
                metadata_errors="replace",
            )
        except (FFmpegError, ValueError, OSError) as error:
            raise InputError(f"{path}: not a video that can be read") from error
        with container:
            yield container


def _moving(container: InputContainer, path: Path) -> VideoStream:
    # A picture of an album's cover is a video stream too, and not what is meant.
    streams = [s for s in container.streams.video if not int(s.disposition) & 0x400]
    if not streams:
        raise InputError(f"{path}: has no video stream")
    return streams[0]


@contextlib.contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        raise InputError(f"{path}: broken video ({error.strerror or error})") from error


def _planes(audio: AudioStream | None) -> Any:
    from av import AudioResampler

    if audio is None:
        return None
    return AudioResampler(format="fltp", layout=audio.layout, rate=audio.rate)


def _aligned(samples: NDArray[np.float32], late: float, rate: int) -> NDArray[np.float32]:
    """Sound (C, N) that begins with the pictures: silence before what is late, early sound cut."""
    shift = round(late * rate)
    if abs(late) < 0.01:  # less than eye and ear can tell, and codecs' delays
        return samples
    return np.pad(samples, ((0, 0), (shift, 0))) if shift > 0 else samples[:, -shift:]


def _time(frame: VideoFrame, before: Iterable[float]) -> float:
    """A frame's time in seconds; one that does not say follows the last at its rate."""
    if frame.time is not None:
        return float(frame.time)
    last = next(iter(reversed(list(before))), None)
    return 0.0 if last is None else last + 0.04


def _rate(video: VideoStream, times: list[float]) -> Fraction:
    if len(times) > 1 and times[-1] > times[0]:
        measured = Fraction((len(times) - 1) / (times[-1] - times[0]))
        said = video.average_rate
        # What the file says is exact where it is right, and WebM's times are whole milliseconds.
        if said and abs(float(said / measured) - 1) < 0.02:
            return Fraction(said)
        return measured.limit_denominator(1001)
    return Fraction(video.average_rate or video.guessed_rate or 25)


def _read_note(metadata: dict[str, str]) -> dict[str, Any]:
    """What `write_clip` noted in a container; empty for other people's files."""
    text = next((v for k, v in metadata.items() if k.lower() == "comment"), "")
    try:
        note = json.loads(text)
    except ValueError:
        return {}
    whole = isinstance(note, dict) and note.get("by") == "sigform"
    return note if whole else {}


# --- writing -------------------------------------------------------------------------------------


def write_clip(
    path: str | Path,
    frames: NDArray[np.uint8],
    fps: float | Fraction,
    *,
    audio: NDArray[np.float32] | None = None,
    sample_rate: int | None = None,
    settings: dict[str, Any] | None = None,
    suffix: str | None = None,
) -> list[str]:
    """Write frames (T, H, W, 3) as .mp4 (H.264, AAC), .webm (VP9, Opus) or .gif; returns notes.

    audio: (N,) or (C, N) in [-1, 1], with its sample_rate in Hz. The settings go into the file's
    comment as JSON, with the exact size and lengths, by which `read_clip` gives back exactly
    T frames and N samples (Opus: at 48 kHz). suffix: where that of `path` is none of these.
    """
    place = Path(path)
    suffix = (suffix or place.suffix).lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"suffix is {suffix!r}; needs {', '.join(SUFFIXES)}")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise ValueError(
            f"frames are {frames.dtype} of shape {frames.shape}; needs uint8 (T, H, W, 3)"
        )
    rate = Fraction(fps).limit_denominator(1001)
    if rate <= 0:
        raise ValueError(f"fps is {fps}; needs more than 0")
    if audio is not None:
        audio = np.atleast_2d(np.asarray(audio, np.float32))
        if sample_rate is None or audio.ndim != 2 or not 1 <= audio.shape[0] <= 2:
            raise ValueError(
                f"audio is of shape {audio.shape} at {sample_rate} Hz; needs (N,) or (1 or 2, N) "
                "and a rate"
            )
    count, height, width, _ = frames.shape
    note: dict[str, Any] = {"by": "sigform", "frames": count, "height": height, "width": width}
    if audio is not None and suffix != ".gif" and audio.shape[1]:
        note |= {"samples": audio.shape[1], "sample_rate": sample_rate}
    if settings is not None:
        note["settings"] = settings
    comment = json.dumps(note)
    if suffix == ".gif":
        _write_gif(place, frames, rate, comment)
        notes = [] if audio is None else ["a GIF has no sound"]
        steps = 100 / rate
        return notes if steps.denominator == 1 else [*notes, "GIF times are whole hundredths of s"]
    notes = []
    if height % 2 or width % 2:
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        notes.append(f"{width}x{height} was padded to even {frames.shape[2]}x{frames.shape[1]}")
    # In memory first: a full disk then is an error of one write, not one inside FFmpeg.
    film = io.BytesIO()
    _write_film(film, suffix, frames, rate, audio if "samples" in note else None, note, comment)
    place.write_bytes(film.getvalue())
    return notes


def _write_film(
    file: Any,
    suffix: str,
    frames: NDArray[np.uint8],
    rate: Fraction,
    audio: NDArray[np.float32] | None,
    note: dict[str, Any],
    comment: str,
) -> None:
    import av

    mp4 = suffix == ".mp4"
    muxer = "mp4" if mp4 else "webm"
    with av.open(file, "w", format=muxer) as container:
        container.metadata["comment"] = comment
        video = container.add_stream("libx264" if mp4 else "libvpx-vp9", rate=rate)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.options = {"crf": "12"} if mp4 else {"crf": "18", "b": "0", "row-mt": "0"}
        coder = video.codec_context
        coder.time_base = 1 / rate
        coder.colorspace = coder.color_primaries = coder.color_trc = _BT709
        coder.color_range = _LIMITED
        sound = None
        if audio is not None:
            sound = _sound(container, audio, note["sample_rate"], mp4)
        # One after the other in time would need both at once; short clips fit any buffer.
        for number, pixels in enumerate(frames):
            frame = _film_frame(pixels)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and audio is not None:
            _encode_sound(container, sound, audio, note["sample_rate"])


def _film_frame(pixels: NDArray[np.uint8]) -> VideoFrame:
    from av import VideoFrame

    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=_BT709,
        src_color_range=_FULL,
        dst_color_range=_LIMITED,
        interpolation=_EXACT,
    )
    frame.colorspace, frame.color_range = _BT709, _LIMITED
    return frame


def _sound(
    container: OutputContainer, audio: NDArray[np.float32], sample_rate: int, mp4: bool
) -> AudioStream:
    layout = "mono" if audio.shape[0] == 1 else "stereo"
    rate = sample_rate if mp4 or sample_rate in _OPUS_RATES else 48000
    sound = container.add_stream("aac" if mp4 else "libopus", rate=rate, layout=layout)
    sound.bit_rate = 128_000 * audio.shape[0]
    return sound


def _encode_sound(
    container: OutputContainer, sound: AudioStream, audio: NDArray[np.float32], sample_rate: int
) -> None:
    from av import AudioFrame, AudioResampler

    coder = sound.codec_context
    # Less than a block would be dropped as the encoder's own delay.
    audio = np.pad(audio, ((0, 0), (0, max(0, 2048 - audio.shape[1]))))
    whole = AudioFrame.from_ndarray(
        np.ascontiguousarray(np.clip(audio, -1, 1)), format="fltp", layout=sound.layout.name
    )
    whole.sample_rate, whole.pts, whole.time_base = sample_rate, 0, Fraction(1, sample_rate)
    blocks = AudioResampler(
        format=coder.format,
        layout=coder.layout,
        rate=coder.rate,
        frame_size=coder.frame_size or None,
    )
    for block in itertools.chain(blocks.resample(whole), blocks.resample(None)):
        container.mux(sound.encode(block))
    container.mux(sound.encode(None))


def _write_gif(path: Path, frames: NDArray[np.uint8], rate: Fraction, comment: str) -> None:
    """A GIF with one palette for all frames, shown forever, the comment inside.

    Pillow would merge equal neighbours and FFmpeg shift times, so that frames were lost: the
    blocks of the format (GIF89a) are put together here from single pictures that Pillow packs.
    """
    from PIL import Image

    count, height, width, _ = frames.shape
    seen = Image.fromarray(frames.reshape(count * height, width, 3))
    palette = seen.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    colours = (palette.getpalette() or [])[:768]
    colours += [0] * (768 - len(colours))
    parts = [b"GIF89a", width.to_bytes(2, "little"), height.to_bytes(2, "little"), b"\xf7\0\0"]
    parts += [bytes(colours), b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"]
    parts += [b"\x21\xfe", _blocks(comment.encode()), b""]
    shown = 0
    for number, pixels in enumerate(frames):
        until = round(100 * (number + 1) / rate)
        delay, shown = max(1, until - shown), until
        image = Image.fromarray(pixels).quantize(
            palette=palette, dither=Image.Dither.FLOYDSTEINBERG
        )
        parts += [b"\x21\xf9\x04\x04", min(delay, 65535).to_bytes(2, "little"), b"\0\0"]
        parts += [b"\x2c\0\0\0\0", width.to_bytes(2, "little"), height.to_bytes(2, "little"), b"\0"]
        parts.append(_packed(image))
    path.write_bytes(b"".join([*parts, b"\x3b"]))


def _packed(image: Any) -> bytes:
    """The LZW data of one palette picture: what Pillow writes after the image descriptor."""
    import io

    held = io.BytesIO()
    image.save(held, "GIF", optimize=False, interlace=False)
    data = held.getvalue()
    flags = data[10]
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while data[place] != 0x2C:  # past the extensions
        place += 2
        while data[place]:
            place += data[place] + 1
        place += 1
    local = data[place + 9]
    place += 10 + (3 << (local & 7) + 1 if local & 0x80 else 0)
    return data[place:-1]


def _blocks(data: bytes) -> bytes:
    """Sub-blocks of at most 255 bytes each, closed by an empty one."""
    cuts = (data[start : start + 255] for start in range(0, len(data), 255))
    return b"".join(bytes([len(cut)]) + cut for cut in cuts) + b"\0"


# --- sound alone ---------------------------------------------------------------------------------


def write_wav(path: Path, audio: NDArray[np.float32], sample_rate: int) -> None:
    """Write (N,) or (C, N) in [-1, 1] as 16-bit WAV."""
    import soundfile

    samples = np.atleast_2d(np.clip(audio, -1, 1)).T
    with path.open("wb") as file:
        soundfile.write(file, samples, sample_rate, subtype="PCM_16", format="WAV")
