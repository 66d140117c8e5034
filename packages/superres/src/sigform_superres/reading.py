"""Pictures from files: every mode as full-range samples, upright, with their metadata.

Pillow decodes; 16-bit PNG and TIFF, which it would cut down to 8 bits in silence, go by imagecodecs
and tifffile. AVIF of 10 and 12 bits is read at 8. Whatever a decoder makes of a broken file, the
outcome is one `InputError` and never half a picture.
"""

from __future__ import annotations

import contextlib
import io
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from sigform_kit import InputError, describe
from sigform_superres import exif, png, profiles, tiff
from sigform_superres.picture import Animation, Frame, Metadata, Picture, Samples, UnsupportedError

MAX_PIXELS = 512_000_000
"""The largest picture that is read unless another limit is given."""

Source = str | Path | bytes | BinaryIO

# Pillow's modes, and the samples as which each is taken.
_SAMPLES_OF_MODE = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBX": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "YCbCr": "RGB",
    "CMYK": "CMYK",
}
_SAMPLES_OF_COUNT = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_KINDS = "PNG, JPEG, WebP, TIFF, BMP, AVIF or GIF"

# Pillow's limit on pixels and Python's filter of warnings are both of the whole process.
_PILLOW = threading.RLock()


def read_picture(source: Source, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture in a PNG, JPEG, WebP, TIFF, BMP, AVIF or GIF file, its bytes, or a stream.

    Grey stays one channel, palettes become RGB, transparency of any kind becomes alpha, 9 to 16
    bits become uint16; CMYK becomes sRGB through its profile. The EXIF orientation is applied. Of
    several pages or frames the first is read, which `notes` says.

    Raises InputError, in one line with the name of the file, for whatever cannot be read whole,
    and for pictures of more than `max_pixels`, before these are decoded.
    """
    name, data = _bytes_of(source)
    kind = _kind(name, data)
    with _one_line_errors(name, kind, max_pixels):
        if kind == "TIFF":
            return _read_tiff(name, data, max_pixels)
        with _opened(data, kind) as image:
            return _read_frame(image, data)


def open_animation(source: Source, *, max_pixels: int = MAX_PIXELS) -> Animation | None:
    """The animation in a GIF or WebP file; None for files that hold one picture, and other kinds.

    Each frame is a whole RGB picture as it is seen, decoded when the iteration comes to it. A
    stream is used up: to go on with `read_picture`, give bytes. Raises InputError as
    `read_picture` does, here or, for what is broken further on, during the iteration.
    """
    name, data = _bytes_of(source)
    kind = _kind(name, data)
    if kind not in ("GIF", "WEBP"):
        return None
    with _one_line_errors(name, kind, max_pixels), _opened(data, kind) as image:
        count = _count_of(image)
        if count < 2:
            return None
        first = _read_frame(image, data, moving=True)
        # GIF counts how often it is shown again, and says nothing for once; WebP how often at all.
        loop = image.info.get("loop")
        plays = loop or 0
        if kind == "GIF":
            plays = 1 if loop is None else loop + 1 if loop else 0

    def frames() -> Iterator[Frame]:
        with contextlib.ExitStack() as stack:
            with _one_line_errors(name, kind, max_pixels):
                image = stack.enter_context(_opened(data, kind))
            for index in range(count):
                with _one_line_errors(name, kind, max_pixels):
                    image.seek(index)
                    picture = _read_frame(image, data, moving=True)
                    duration = round(image.info.get("duration", 0))
                yield Frame(picture, duration)

    return Animation(first.width, first.height, count, plays, frames)


def _bytes_of(source: Source) -> tuple[str, bytes]:
    """The name of the source for messages, and all it holds."""
    try:
        if isinstance(source, bytes):
            name, data = "picture", source
        elif isinstance(source, str | Path):
            name, data = str(source), Path(source).read_bytes()
        else:
            given = getattr(source, "name", None)
            name, data = given if isinstance(given, str) else "stream", source.read()
    except OSError as error:
        raise InputError(describe(error)) from error
    if not data:
        raise InputError(f"{name}: is empty")
    return name, data


def _kind(name: str, data: bytes) -> str:
    """Pillow's name of the format, from the first bytes. Raises InputError for other files."""
    if data.startswith(png.SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"mif1", b"msf1"):
        return "AVIF"
    raise InputError(f"{name}: is not a picture that can be read; needs {_KINDS}")


@contextlib.contextmanager
def _one_line_errors(name: str, kind: str, max_pixels: int) -> Iterator[None]:
    """Turns whatever decoders raise into InputError, and keeps their warnings to itself."""
    with _PILLOW, warnings.catch_warnings():
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except (InputError, MemoryError):
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise _too_large(name, max_pixels) from error
        except UnsupportedError as error:
            raise InputError(f"{name}: {error}") from error
        except Exception as error:  # decoders raise anything
            why = "" if isinstance(error, Image.UnidentifiedImageError) else f": {describe(error)}"
            raise InputError(f"{name}: is a broken or truncated {kind} file{why}") from error
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _too_large(name: str, max_pixels: int) -> InputError:
    return InputError(f"{name}: has more than {max_pixels / 1e6:g} megapixels, the limit")


@contextlib.contextmanager
def _opened(data: bytes, kind: str) -> Iterator[ImageFile.ImageFile]:
    if kind == "GIF":
        _check_gif_end(data)
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        yield image


def _read_frame(image: ImageFile.ImageFile, data: bytes, *, moving: bool = False) -> Picture:
    """The current frame; as RGB if it is one of an animation, whose frames are all alike."""
    image.load()
    deep = image.format == "PNG" and png.bits_of(data) == 16
    if deep:
        pixels = png.read_16_bits(data)
        samples = _SAMPLES_OF_COUNT[pixels.shape[2]]
    else:
        samples, pixels = _pixels_of(image, data, moving=moving)
    notes: list[str] = []
    count = _count_of(image)
    if count > 1 and samples == "RGBA" and pixels[..., 3].min() == 255:
        # Animated WebP has an alpha channel whether it needs one or not.
        samples, pixels = "RGB", pixels[..., :3]
    if count > 1 and not moving:
        notes.append(f"holds {count} frames; the first was read")
    info = image.info
    embedded, orientation = None, None
    try:
        embedded, orientation = _exif_of(info)
    except ValueError as error:
        notes.append(f"{error} and left out")
    xmp = info.get("xmp")
    metadata = Metadata(
        icc=info.get("icc_profile") or None,
        exif=embedded,
        xmp=xmp if isinstance(xmp, bytes) else None,
        dpi=_plausible(info.get("dpi")),
    )
    return _finished(samples, pixels, metadata, orientation, notes)


def _read_tiff(name: str, data: bytes, max_pixels: int) -> Picture:
    head = tiff.read_head(io.BytesIO(data))
    if head.width * head.height > max_pixels:
        raise _too_large(name, max_pixels)
    notes = [*head.notes]
    if head.pages > 1:
        notes.append(f"holds {head.pages} pages; the first was read")
    metadata = replace(head.metadata, dpi=_plausible(head.metadata.dpi))
    if head.bits > 8:
        samples, pixels = tiff.read_deep(io.BytesIO(data))
        return _finished(samples, pixels, metadata, head.orientation, notes)
    with _opened(data, "TIFF") as image:
        image.load()
        samples, pixels = _pixels_of(image, data)
    # Pillow turns TIFF, and only TIFF, by itself.
    return _finished(samples, pixels, metadata, head.orientation, notes, turned=True)


def _pixels_of(
    image: ImageFile.ImageFile, data: bytes, *, moving: bool = False
) -> tuple[str, Samples]:
    """What the samples of a loaded image are, and they themselves, (H, W, samples) uint8."""
    samples = _SAMPLES_OF_MODE.get(image.mode)
    if samples is None:
        raise UnsupportedError(f"holds {image.mode} samples; needs grey, RGB, a palette or CMYK")
    key = image.info.get("transparency")
    if image.format == "PNG" and samples == "L" and key is not None and image.mode != "1":
        # Pillow stretches grey of 2 and 4 bits to 8, but not the grey that means transparent.
        image.info["transparency"] = key * 255 // ((1 << png.bits_of(data)) - 1)
    if key is not None and samples in ("L", "RGB"):
        samples += "A"
    if moving:
        samples = "RGBA" if samples in ("LA", "RGBA") else "RGB"
    converted = image if image.mode == samples else image.convert(samples)
    pixels = np.array(converted)
    return samples, pixels.reshape(*pixels.shape[:2], -1)


def _finished(
    samples: str,
    pixels: Samples,
    metadata: Metadata,
    orientation: int | None,
    notes: list[str],
    *,
    turned: bool = False,
) -> Picture:
    """The upright picture in grey or RGB; `turned` if the pixels are upright already."""
    colour, alpha = pixels, None
    if samples == "CMYK":
        colour, note = profiles.from_cmyk(pixels, metadata.icc)
        metadata = replace(metadata, icc=None)
        notes += [] if note is None else [note]
    elif samples in ("LA", "RGBA"):
        colour, alpha = pixels[..., :-1], pixels[..., -1]
    if metadata.icc is not None:
        space = profiles.space_of(metadata.icc)
        # A grey picture often keeps the profile of the RGB picture that it was made from.
        if space != "rgb" and (space != "gray" or colour.shape[2] != 1):
            notes.append("the colour profile is broken or for other colours, and was left out")
            metadata = replace(metadata, icc=None)
    if metadata.xmp is not None:
        xmp, second = exif.upright_xmp(metadata.xmp)
        metadata = replace(metadata, xmp=xmp)
        orientation = orientation or second
    if orientation in (5, 6, 7, 8) and metadata.dpi is not None:
        metadata = replace(metadata, dpi=metadata.dpi[::-1])
    turn = _UPRIGHT[1] if turned else _UPRIGHT.get(orientation or 1, _UPRIGHT[1])
    return Picture(
        np.ascontiguousarray(turn(colour)),
        None if alpha is None else np.ascontiguousarray(turn(alpha)),
        metadata,
        tuple(notes),
    )


# By EXIF orientation: how an array (H, W, ...) as stored becomes upright.
_UPRIGHT: dict[int, Callable[[Samples], Samples]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


def _exif_of(info: dict[str | tuple[int, int], Any]) -> tuple[bytes | None, int | None]:
    """The EXIF of the upright picture and the orientation in it. Raises ValueError if broken."""
    raw = info.get("exif")
    old = info.get("Raw profile type exif")
    if raw is None and isinstance(old, str):
        # ImageMagick's way before PNG had a chunk for it: three lines, then hexadecimal digits.
        raw = bytes.fromhex("".join(old.split("\n")[3:]))
    return exif.upright(raw) if raw else (None, None)


def _plausible(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    if dpi is None:
        return None
    across, down = (float(value) for value in dpi)
    usable = all(math.isfinite(value) and value > 0 for value in (across, down))
    return (across, down) if usable else None


def _count_of(image: ImageFile.ImageFile) -> int:
    """The frames of an animation; further pictures in a JPEG are previews and depth maps."""
    return 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)


def _check_gif_end(data: bytes) -> None:
    """Walks over the blocks to the trailer, as Pillow takes any end for the last frame's."""
    try:
        at = 13 + _table_bytes(data[10])
        while (block := data[at]) != 0x3B:
            if block == 0x2C:
                at += 11 + _table_bytes(data[at + 9])
            elif block == 0x21:
                at += 2
            else:
                raise ValueError(f"unknown block {block:#04x}")
            while size := data[at]:
                at += 1 + size
            at += 1
    except IndexError as error:
        raise ValueError("ends before its last frame does") from error


def _table_bytes(flags: int) -> int:
    """The length of the colour table that a GIF's flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
