"""EXIF and XMP of a picture that was turned upright and changed its size.

EXIF is a small TIFF file. It is edited in place, as maker notes hold offsets from its start and
cannot be read any more where they were moved.
"""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_SHORT, _LONG = 3, 4
_TEXTS = (
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.Copyright,
)
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([1-8])")


def upright(raw: bytes) -> tuple[bytes, int | None]:
    """The EXIF of the picture turned upright, and the orientation (1 to 8) that it had, if any.

    The thumbnail is blanked, as it shows the picture of before. Raises ValueError if broken.
    """
    exif = bytearray(re.sub(rb"^(Exif\0\0)+", b"", raw))
    orientation = None
    try:
        order, first = _header(exif)
        for tag, kind, at in _entries(exif, order, first):
            if tag == Base.Orientation and kind == _SHORT:
                (orientation,) = struct.unpack_from(order + "H", exif, at)
                struct.pack_into(order + "H", exif, at, 1)
        _drop_thumbnail(exif, order, first)
    except struct.error as error:
        raise ValueError("the EXIF is broken") from error
    return bytes(exif), orientation if orientation in range(1, 9) else None


def upright_xmp(xmp: bytes) -> tuple[bytes, int | None]:
    """The XMP of the picture turned upright, and the orientation (1 to 8) that it had, if any."""
    found = _XMP_ORIENTATION.search(xmp)
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp), int(found[2]) if found else None


def resized(exif: bytes, width: int, height: int) -> bytes:
    """The EXIF with the new size of the picture, in pixels, wherever it names one."""
    sizes = {
        Base.ImageWidth: width,
        Base.ImageLength: height,
        Base.ExifImageWidth: width,
        Base.ExifImageHeight: height,
    }
    edited = bytearray(exif)
    order, first = _header(edited)
    directories = [first]
    for tag, kind, at in _entries(edited, order, first):
        if tag == IFD.Exif and kind == _LONG:
            directories += struct.unpack_from(order + "L", edited, at)
    for directory in directories:
        for tag, kind, at in _entries(edited, order, directory):
            if tag in sizes and kind == _LONG:
                struct.pack_into(order + "L", edited, at, sizes[Base(tag)])
            elif tag in sizes and kind == _SHORT:
                # A count too large for its field is replaced by 0, which means unknown.
                size = sizes[Base(tag)]
                struct.pack_into(order + "H", edited, at, size if size < 1 << 16 else 0)
    return bytes(edited)


def with_resolution(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    """The EXIF with the pixels per inch, unless it names them: for formats without such a field."""
    tags = Image.Exif()
    tags.load(exif or b"")
    if exif is not None and Base.XResolution in tags:
        return exif
    tags[Base.XResolution], tags[Base.YResolution] = dpi
    tags[Base.ResolutionUnit] = 2
    return tags.tobytes().removeprefix(b"Exif\0\0")


def from_tiff(file: BinaryIO, *, offset: int, order: str, bigtiff: bool) -> bytes | None:
    """The EXIF among the tags of a TIFF file with a directory at `offset`; None if it has none.

    order: "<" or ">". Raises ValueError if broken.
    """
    with _broken_as_value_error():
        tags, exif = Image.Exif(), Image.Exif()
        tags.endian, tags.bigtiff = order, bigtiff
        tags.load_from_fp(file, offset)
        for tag in _TEXTS:
            if tag in tags:
                exif[tag] = tags[tag]
        for directory in (IFD.Exif, IFD.GPSInfo):
            if found := _directory(tags, directory):
                exif[directory] = found
        return exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else None


def for_tiff(exif: bytes, at: int) -> tuple[dict[int, bytes], dict[int, int], bytes]:
    """What a TIFF file takes to carry the EXIF, little-endian.

    Returns its texts by tag, the offsets of its two directories by tag, and these directories,
    to be written at offset `at`. Raises ValueError if broken.
    """
    with _broken_as_value_error():
        tags = Image.Exif()
        tags.load(exif)
        texts = {
            int(tag): tags[tag].encode("latin-1") + b"\0"
            for tag in _TEXTS
            if isinstance(tags.get(tag), str)
        }
        places, written = {}, b""
        for directory in (IFD.Exif, IFD.GPSInfo):
            if found := _directory(tags, directory):
                packed = ImageFileDirectory_v2(b"II*\0\x08\0\0\0", group=directory)
                for tag, value in found.items():
                    packed[tag] = value
                places[int(directory)] = at + len(written)
                written += packed.tobytes(at + len(written))
                written += bytes(len(written) % 2)
        return texts, places, written


def _directory(tags: Image.Exif, directory: int) -> dict[int, Any]:
    """The tags of a directory inside the EXIF, without the place of a further one in it."""
    return {tag: v for tag, v in tags.get_ifd(directory).items() if tag != IFD.Interop}


@contextlib.contextmanager
def _broken_as_value_error() -> Iterator[None]:
    """Pillow decodes and encodes EXIF late, and broken tags make it raise nearly anything."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Exception as error:
        raise ValueError("the EXIF is broken") from error


def _header(exif: bytearray) -> tuple[str, int]:
    """The byte order for struct and the offset of the first directory."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(exif[:4]))
    if order is None:
        raise ValueError("the EXIF is broken")
    return order, struct.unpack_from(order + "L", exif, 4)[0]


def _entries(exif: bytearray, order: str, directory: int) -> Iterator[tuple[int, int, int]]:
    """Tag, type and the offset of the value for each single number of a directory."""
    (count,) = struct.unpack_from(order + "H", exif, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(order + "HHL", exif, at)
        if length == 1:
            yield tag, kind, at + 8


def _drop_thumbnail(exif: bytearray, order: str, first: int) -> None:
    (count,) = struct.unpack_from(order + "H", exif, first)
    link = first + 2 + 12 * count
    (second,) = struct.unpack_from(order + "L", exif, link)
    if not second:
        return
    place = {
        tag: struct.unpack_from(order + "L", exif, at)[0]
        for tag, kind, at in _entries(exif, order, second)
        if kind == _LONG
    }
    start = place.get(Base.JpegIFOffset, 0)
    end = min(start + place.get(Base.JpegIFByteCount, 0), len(exif))
    if 0 < start < end:
        exif[start:end] = bytes(end - start)
    struct.pack_into(order + "L", exif, link, 0)
