"""Pictures and animations into files.

PNG, TIFF, JPEG, WebP and AVIF carry all metadata. Where a format has no place for a colour
profile (BMP, GIF), and where metadata is stripped, the colours are first converted to sRGB, as
that is what everybody takes colours without a profile for. Whatever else a format cannot hold is
either refused (`check_format`) or converted and said in one line, which the functions return.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image

from sigform_kit import InputError, did_you_mean
from sigform_superres import exif
from sigform_superres.picture import Frame, Metadata, Picture, Samples
from sigform_superres.png import write_png
from sigform_superres.profiles import to_srgb
from sigform_superres.tiff import write_tiff


@dataclass(frozen=True)
class Format:
    """What a format of files can hold.

    max_side and max_pixels are limits of the format and of the library everybody reads it with;
    max_bytes is that of the pixels, unpacked. `metadata`: whether it has a place for profile, EXIF
    and XMP; `dpi`: for pixels per inch, beside EXIF.
    """

    suffixes: tuple[str, ...]
    max_side: int
    max_pixels: int | None = None
    max_bytes: int | None = None
    alpha: bool = True
    deep: bool = False
    metadata: bool = True
    dpi: bool = True
    animated: bool = False


FORMATS = {
    "png": Format((".png",), (1 << 31) - 1, deep=True),
    "jpeg": Format((".jpg", ".jpeg", ".jpe", ".jfif"), 65500, alpha=False),
    "webp": Format((".webp",), 16383, dpi=False, animated=True),
    "tiff": Format((".tif", ".tiff"), (1 << 31) - 1, max_bytes=4_000_000_000, deep=True),
    "bmp": Format((".bmp",), (1 << 31) - 1, max_bytes=4_000_000_000, alpha=False, metadata=False),
    "avif": Format((".avif",), 32768, max_pixels=1 << 28, dpi=False),
    "gif": Format((".gif",), 65535, metadata=False, dpi=False, animated=True),
}
_ALIASES = {"jpg": "jpeg", "tif": "tiff"}
_QUALITY = {"jpeg": 95, "webp": 90, "avif": 85}
_MAX_JPEG_SEGMENT = 65533
_ROWS = 256


def format_of(path: str | Path) -> str:
    """The name in FORMATS that belongs to the suffix of a path. Raises InputError for others."""
    suffix = Path(path).suffix.lower()
    for name, format in FORMATS.items():
        if suffix in format.suffixes:
            return name
    known = ", ".join(format.suffixes[0] for format in FORMATS.values())
    raise InputError(f"{path}: suffix is {suffix!r}; needs one of {known}")


def format_named(name: str) -> str:
    """The name in FORMATS for what a person may call it. Raises InputError for others."""
    lower = name.lower().removeprefix(".")
    lower = _ALIASES.get(lower, lower)
    if lower not in FORMATS:
        hint = did_you_mean(lower, [*FORMATS, *_ALIASES])
        raise InputError(f"format is {name!r}; needs one of {', '.join(FORMATS)}.{hint}")
    return lower


def check_format(format: str, width: int, height: int, *, bytes_per_pixel: int = 3) -> None:
    """Raises InputError if a format cannot hold a picture of that size. Call before the work."""
    limits = FORMATS[format_named(format)]
    size = f"{format} cannot hold {width} x {height} pixels"
    if max(width, height) > limits.max_side:
        raise InputError(f"{size}: at most {limits.max_side} a side; PNG holds more")
    if limits.max_pixels is not None and width * height > limits.max_pixels:
        raise InputError(f"{size}: at most {limits.max_pixels / 1e6:.0f} megapixels")
    if limits.max_bytes is not None and width * height * bytes_per_pixel > limits.max_bytes:
        raise InputError(f"{size}: at most {limits.max_bytes / 1e9:g} GB; PNG holds more")


def write_picture(
    picture: Picture,
    target: str | Path | BinaryIO,
    *,
    format: str | None = None,
    quality: int | None = None,
    strip: bool = False,
) -> list[str]:
    """Write a picture in a format, by default that of the target's suffix; notes are returned.

    quality: 1 to 100 for JPEG (95 if None), WebP (90) and AVIF (85); PNG, TIFF and BMP are always
    lossless, and ignore it. strip: leave out all metadata.

    Raises InputError for an unknown format and a picture that the format cannot hold, ValueError
    for a quality outside 1 to 100, and OSError.
    """
    format, quality = _checked(target, format, quality)
    check_format(
        format,
        picture.width,
        picture.height,
        bytes_per_pixel=picture.channels * picture.colour.dtype.itemsize,
    )
    picture, notes = _fitted(picture, format, strip=strip)
    with _opened(target) as file:
        if format == "png":
            write_png(file, picture)
        elif format == "tiff":
            notes += write_tiff(file, picture)
        elif format == "gif":
            notes += _write_gif(file, iter([Frame(picture, 0)]), plays=1)
        else:
            _write_by_pillow(file, picture, format, quality)
    return notes


def write_animation(
    frames: Iterable[Frame],
    target: str | Path | BinaryIO,
    *,
    format: str | None = None,
    plays: int = 0,
    quality: int | None = None,
    strip: bool = False,
) -> list[str]:
    """Write frames one by one as they come, as GIF or WebP; notes are returned.

    plays: how often the animation is shown, 0 for without end. The metadata is that of the first
    frame. GIF keeps times to 10 ms, without drifting. Raises as `write_picture` does, and
    ValueError if there are no frames or they differ in size.
    """
    format, quality = _checked(target, format, quality)
    if not FORMATS[format].animated:
        raise InputError(f"format is {format!r}; an animation needs gif or webp")
    notes: dict[str, None] = {}

    def fitted() -> Iterator[Frame]:
        size = None
        for frame in frames:
            picture = frame.picture
            if size is None:
                size = picture.width, picture.height
                check_format(format, *size)
            elif size != (picture.width, picture.height):
                raise ValueError(f"frame is {picture.width} x {picture.height}; needs {size}")
            picture, said = _fitted(picture, format, strip=strip)
            notes.update(dict.fromkeys(said))
            yield Frame(picture, frame.duration)

    with _opened(target) as file:
        if format == "gif":
            notes.update(dict.fromkeys(_write_gif(file, fitted(), plays=plays)))
        else:
            _write_moving_webp(file, fitted(), plays=plays, quality=quality)
    return list(notes)


def _checked(
    target: str | Path | BinaryIO, format: str | None, quality: int | None
) -> tuple[str, int]:
    """The format, and the quality to be used where the format has one."""
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}; needs 1 to 100")
    if format is None:
        if not isinstance(target, str | Path):
            raise ValueError("format is None; a stream needs one")
        format = format_of(target)
    format = format_named(format)
    return format, quality if quality is not None else _QUALITY.get(format, 0)


@contextlib.contextmanager
def _opened(target: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    """A file to write to, to read and to seek in, whose bytes end up in the target."""
    if isinstance(target, str | Path):
        with Path(target).open("w+b") as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        shutil.copyfileobj(file, target)


def _fitted(picture: Picture, format: str, *, strip: bool) -> tuple[Picture, list[str]]:
    """The picture as the format can hold it, and what that cost."""
    limits, metadata = FORMATS[format], picture.metadata
    colour, alpha = picture.colour, picture.alpha
    notes = []
    if metadata.icc is not None and (strip or not limits.metadata):
        try:
            colour = to_srgb(colour, metadata.icc)
        except ValueError as error:
            notes.append(f"{error}: left out without converting the colours")
    if colour.dtype == np.uint16 and not limits.deep:
        notes.append(f"{format} holds 8 bits: 16-bit samples were rounded")
        colour, alpha = _rounded(colour), None if alpha is None else _rounded(alpha)
    if alpha is not None and not limits.alpha:
        notes.append(f"{format} holds no transparency: laid on white")
        colour, alpha = _on_white(colour, alpha), None
    metadata = Metadata() if strip else _carried(metadata, picture, format, notes)
    return Picture(colour, alpha, metadata), notes


def _carried(metadata: Metadata, picture: Picture, format: str, notes: list[str]) -> Metadata:
    """The metadata that the format has a place for, with the new size of the picture."""
    if metadata.exif is not None:
        try:
            fresh = exif.resized(metadata.exif, picture.width, picture.height)
            metadata = replace(metadata, exif=fresh)
        except (ValueError, struct.error):
            notes.append("the EXIF is broken and left out")
            metadata = replace(metadata, exif=None)
    if not FORMATS[format].metadata:
        if metadata.exif is not None or metadata.xmp is not None:
            notes.append(f"{format} holds no EXIF and no XMP: left out")
        return Metadata(dpi=metadata.dpi)
    if not FORMATS[format].dpi and metadata.dpi is not None:
        metadata = replace(metadata, exif=exif.with_resolution(metadata.exif, metadata.dpi))
    if format == "jpeg":
        # Each is one segment with its own mark before it.
        if metadata.exif is not None and len(metadata.exif) + 6 > _MAX_JPEG_SEGMENT:
            notes.append("the EXIF is too long for jpeg and left out")
            metadata = replace(metadata, exif=None)
        if metadata.xmp is not None and len(metadata.xmp) + 29 > _MAX_JPEG_SEGMENT:
            notes.append("the XMP is too long for jpeg and left out")
            metadata = replace(metadata, xmp=None)
    return metadata


def _rounded(samples: Samples) -> Samples:
    """16 bits as the nearest 8."""
    out = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), _ROWS):
        band = samples[top : top + _ROWS]
        out[top : top + _ROWS] = band // 257 + (band % 257 > 128)
    return out


def _on_white(colour: Samples, alpha: Samples) -> Samples:
    """(H, W, C) uint8 as seen before white."""
    out = np.empty(colour.shape, np.uint8)
    for top in range(0, len(colour), _ROWS):
        shown = alpha[top : top + _ROWS, :, None].astype(np.uint16)
        out[top : top + _ROWS] = (
            colour[top : top + _ROWS] * shown + 255 * (255 - shown) + 127
        ) // 255
    return out


def _as_image(picture: Picture) -> Image.Image:
    """Pillow's image of 8 bits; it holds 4 bytes for a pixel of colour."""
    (whole,) = picture.bands(picture.height)
    return Image.fromarray(whole[..., 0] if picture.channels == 1 else whole)


def _write_by_pillow(file: BinaryIO, picture: Picture, format: str, quality: int) -> None:
    metadata = picture.metadata
    options: dict[str, Any] = {}
    if format != "bmp":
        options["quality"] = quality
        options["icc_profile"] = metadata.icc or b""
        if metadata.exif is not None:
            options["exif"] = b"Exif\0\0" + metadata.exif
        if metadata.xmp is not None:
            options["xmp"] = metadata.xmp
    if format == "jpeg":
        # Full resolution of colour: an enlargement is looked at for its edges.
        options["subsampling"] = 0
    if format == "avif":
        options["subsampling"] = "4:4:4" if picture.colour.shape[2] == 3 else "4:0:0"
    if format == "bmp":
        # Without it Pillow claims 96.
        options["dpi"] = metadata.dpi or (0, 0)
    elif FORMATS[format].dpi and metadata.dpi is not None:
        options["dpi"] = metadata.dpi
    # Pillow takes a short write to a real file, on a full disk, for a whole one.
    encoded = BytesIO()
    _as_image(picture).save(encoded, format.upper(), **options)
    file.write(encoded.getbuffer())


def _write_gif(file: BinaryIO, frames: Iterator[Frame], *, plays: int) -> list[str]:
    """Every frame whole, with its own 256 colours, on a cleared screen; notes are returned."""
    shown_until, told_until = 0, 0
    started, exact, halves = False, True, False
    for frame in frames:
        if not started:
            started = True
            size = struct.pack("<HH", frame.picture.width, frame.picture.height)
            file.write(b"GIF89a" + size + b"\0\0\0")
            if plays != 1:
                file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01")
                file.write(struct.pack("<HB", max(plays - 1, 0), 0))
        image, transparent, kept = _with_palette(frame.picture)
        exact = exact and kept
        alpha = frame.picture.alpha
        halves = halves or (alpha is not None and bool(((alpha > 0) & (alpha < 255)).any()))
        shown_until += frame.duration
        hundredths = (shown_until - told_until + 5) // 10
        told_until += hundredths * 10
        options: dict[str, Any] = {"transparency": transparent} if transparent is not None else {}
        file.writelines(
            GifImagePlugin.getdata(
                image,
                duration=min(hundredths, 65535) * 10,
                disposal=2,
                include_color_table=True,
                **options,
            )
        )
    if not started:
        raise ValueError("an animation has no frames; needs one or more")
    file.write(b";")
    notes = [] if exact else ["gif holds 256 colours: more were dithered"]
    return [*notes, "gif holds no half transparency: it was rounded"] if halves else notes


def _with_palette(picture: Picture) -> tuple[Image.Image, int | None, bool]:
    """The picture in 256 colours, which of them means transparent, and whether it lost any.

    As many colours as there is place for are kept as they are; more are dithered.
    """
    colour = (
        np.repeat(picture.colour, 3, axis=2) if picture.colour.shape[2] == 1 else picture.colour
    )
    hidden = None if picture.alpha is None else picture.alpha < 128
    if hidden is not None and hidden.any() and not hidden.all():
        # Hidden colours must not take places in the palette.
        colour = np.where(hidden[..., None], colour[~hidden][0], colour)
    image = Image.fromarray(colour)
    best = image.quantize(256 if hidden is None else 255)
    exact = np.array_equal(np.asarray(best.convert("RGB")), colour)
    if not exact:
        best = image.quantize(palette=best, dither=Image.Dither.FLOYDSTEINBERG)
    if hidden is None:
        return best, None, exact
    indices = np.array(best)
    indices[hidden] = 255
    marked = Image.fromarray(indices)
    marked.putpalette(((best.getpalette() or []) + [0] * 768)[:768])
    return marked, 255, exact


def _write_moving_webp(
    file: BinaryIO, frames: Iterator[Frame], *, plays: int, quality: int
) -> None:
    """Every frame whole, replacing the one before (WebP container specification)."""
    metadata, canvas, alpha = Metadata(), None, False
    # The header depends on the frames and is written over these 30 bytes at the end.
    file.write(bytes(30))
    for frame in frames:
        picture = frame.picture
        if canvas is None:
            metadata, canvas = picture.metadata, (picture.width, picture.height)
            if metadata.icc is not None:
                file.write(_riff_chunk(b"ICCP", metadata.icc))
            file.write(_riff_chunk(b"ANIM", struct.pack("<LH", 0, plays)))
        still = BytesIO()
        _write_by_pillow(still, replace(picture, metadata=Metadata()), "webp", quality)
        alpha = alpha or picture.alpha is not None
        times = min(max(frame.duration, 0), (1 << 24) - 1)
        place = bytes(6) + _24_bits(picture.width - 1, picture.height - 1, times)
        do_not_blend = b"\x02"
        file.write(_riff_chunk(b"ANMF", place + do_not_blend + _image_chunks(still.getvalue())))
    if canvas is None:
        raise ValueError("an animation has no frames; needs one or more")
    if metadata.exif is not None:
        file.write(_riff_chunk(b"EXIF", metadata.exif))
    if metadata.xmp is not None:
        file.write(_riff_chunk(b"XMP ", metadata.xmp))
    flags = 0x02 | 0x10 * alpha | 0x20 * (metadata.icc is not None)
    flags |= 0x08 * (metadata.exif is not None) | 0x04 * (metadata.xmp is not None)
    size = file.tell() - 8
    file.seek(0)
    file.write(b"RIFF" + struct.pack("<L", size) + b"WEBP")
    extended = struct.pack("<L", flags) + _24_bits(canvas[0] - 1, canvas[1] - 1)
    file.write(_riff_chunk(b"VP8X", extended))


def _image_chunks(webp: bytes) -> bytes:
    """The chunks of a WebP picture that a frame of an animation is made of."""
    found, at = b"", 12
    while at < len(webp):
        kind, size = struct.unpack_from("<4sL", webp, at)
        end = at + 8 + size + size % 2
        if kind in (b"ALPH", b"VP8 ", b"VP8L"):
            found += webp[at:end]
        at = end
    return found


def _riff_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<L", len(data)) + data + bytes(len(data) % 2)


def _24_bits(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(3, "little") for number in numbers)
