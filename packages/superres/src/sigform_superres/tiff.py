"""TIFF files: what a header says, samples of more than 8 bits, and writing band by band."""

from __future__ import annotations

import contextlib
import logging
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np
import tifffile
from PIL.ExifTags import Base

from sigform_superres.exif import for_tiff, from_tiff
from sigform_superres.picture import Metadata, Picture, Samples, UnsupportedError

# tifffile logs what it meets in odd files; without a handler Python prints that on stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_BAND_BYTES = 1 << 18
_ORIENTATION, _ICC, _XMP = 274, 34675, 700
_GREY_INVERTED, _GREY, _RGB, _CMYK = 0, 1, 2, 5
_SAMPLES = {_GREY_INVERTED: ("L", 1), _GREY: ("L", 1), _RGB: ("RGB", 3), _CMYK: ("CMYK", 4)}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 2, 3, 4, 5, 7


@dataclass(frozen=True)
class Head:
    """What a TIFF file says before its pixels; `orientation` is None where it does not say."""

    width: int
    height: int
    bits: int
    pages: int
    orientation: int | None
    metadata: Metadata
    notes: tuple[str, ...]


def read_head(file: BinaryIO) -> Head:
    """Look at the first page.

    Raises UnsupportedError for samples that are no integers of up to 16 bits, ValueError for
    pixels beyond the end of the file, and whatever tifffile raises for broken files.
    """
    with tifffile.TiffFile(file) as tiff:
        page = _first_page(tiff)
        bits = page.bitspersample
        if page.sampleformat not in (None, 1, 4):
            raise UnsupportedError(
                f"holds {bits}-bit signed or floating samples; needs unsigned ones"
            )
        if not isinstance(bits, int) or not 0 < bits <= 16:
            raise UnsupportedError(f"holds samples of {bits} bits; needs 16 at most")
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if not ends or max(ends) > tiff.filehandle.size:
            raise ValueError("ends before its pixels do")
        texts: dict[int, bytes] = {}
        for tag in (_ICC, _XMP):
            if (value := page.tags.valueof(tag)) is not None:
                texts[tag] = value.encode() if isinstance(value, str) else bytes(value)
        notes, exif = (), None
        try:
            exif = from_tiff(
                file, offset=page.offset, order=tiff.byteorder, bigtiff=tiff.is_bigtiff
            )
        except ValueError as error:
            notes = (f"{error} and left out",)
        metadata = Metadata(icc=texts.get(_ICC), xmp=texts.get(_XMP), exif=exif, dpi=_dpi(page))
        return Head(
            width=page.imagewidth,
            height=page.imagelength,
            bits=bits,
            pages=sum(
                isinstance(one, tifffile.TiffPage) and not one.is_reduced for one in tiff.pages
            ),
            orientation=page.tags.valueof(_ORIENTATION),
            metadata=metadata,
            notes=notes,
        )


def read_deep(file: BinaryIO) -> tuple[str, Samples]:
    """Samples of 9 to 16 bits as full-range uint16, with the name of what they are.

    Returns ("L", "LA", "RGB", "RGBA" or "CMYK", (H, W, samples)), not turned. Raises
    UnsupportedError for other colours, and whatever tifffile raises for broken files.
    """
    with tifffile.TiffFile(file) as tiff:
        page = _first_page(tiff)
        if page.photometric not in _SAMPLES:
            kind = int(page.photometric)
            raise UnsupportedError(f"holds colours of TIFF's kind {kind}; needs grey, RGB or CMYK")
        name, count = _SAMPLES[page.photometric]
        # (planes, depth, H, W, samples of a plane)
        samples = page.asarray(squeeze=False)
        samples = np.moveaxis(samples[:, 0], 0, 2).reshape(*samples.shape[2:4], -1)
        samples = samples.astype(np.uint16, order="C")
    if page.bitspersample < 16:
        most = (1 << page.bitspersample) - 1
        samples = ((samples.astype(np.uint32) * 65535 + most // 2) // most).astype(np.uint16)
    if page.photometric == _GREY_INVERTED:
        samples[..., 0] = 65535 - samples[..., 0]
    kind = page.extrasamples[0] if page.extrasamples else None
    if name == "CMYK" or kind not in (_ASSOCIATED, _UNASSOCIATED):
        return name, samples[..., :count]
    samples = samples[..., : count + 1]
    if kind == _ASSOCIATED:
        alpha = np.maximum(samples[..., count:], 1).astype(np.uint32)
        colour = (samples[..., :count] * np.uint32(65535) + alpha // 2) // alpha
        samples[..., :count] = np.minimum(colour, 65535)
    return name + "A", samples


def write_tiff(file: BinaryIO, picture: Picture) -> list[str]:
    """Write the picture and all its metadata, deflated, in strips. Needs 1 MB beside the picture.

    Returns what could not be carried. The file must be seekable and less than 4 GB.
    """
    metadata = picture.metadata
    samples, dtype = picture.channels, picture.colour.dtype
    rows = max(1, _BAND_BYTES // (picture.width * samples * dtype.itemsize))
    offsets, counts = [], []
    # The offset of the directory follows once it is known.
    file.write(b"II*\0\0\0\0\0")
    for band in picture.bands(rows):
        steps = band.astype(dtype.newbyteorder("<"))
        steps[:, 1:] -= band[:, :-1]
        offsets.append(file.tell())
        counts.append(file.write(zlib.compress(steps.tobytes(), 6)))
    file.write(bytes(file.tell() % 2))
    tags: dict[int, tuple[int, bytes | tuple[int, ...]]] = {
        256: (_LONG, (picture.width,)),
        257: (_LONG, (picture.height,)),
        258: (_SHORT, (dtype.itemsize * 8,) * samples),
        259: (_SHORT, (8,)),  # deflate
        262: (_SHORT, (_RGB if samples > 2 else _GREY,)),
        273: (_LONG, tuple(offsets)),
        277: (_SHORT, (samples,)),
        278: (_LONG, (rows,)),
        279: (_LONG, tuple(counts)),
        317: (_SHORT, (2,)),  # differences along the rows
    }
    if picture.alpha is not None:
        tags[338] = _SHORT, (_UNASSOCIATED,)
    if metadata.dpi is not None:
        for tag, dpi in zip((282, 283), metadata.dpi, strict=True):
            ratio = Fraction(dpi).limit_denominator(10000)
            tags[tag] = _RATIONAL, (ratio.numerator, ratio.denominator)
        tags[296] = _SHORT, (2,)  # inches
    if metadata.icc is not None:
        tags[_ICC] = _UNDEFINED, metadata.icc
    if metadata.xmp is not None:
        tags[_XMP] = _BYTE, metadata.xmp
    notes = []
    if metadata.exif is not None:
        try:
            texts, places, written = for_tiff(metadata.exif, file.tell())
        except ValueError as error:
            notes.append(f"{error} and left out")
        else:
            file.write(written)
            tags |= {tag: (_ASCII, text) for tag, text in texts.items()}
            tags |= {tag: (_LONG, (place,)) for tag, place in places.items()}
    place = file.tell()
    file.write(_directory(tags, place))
    file.seek(4)
    file.write(struct.pack("<L", place))
    return notes


def _directory(tags: Mapping[int, tuple[int, bytes | tuple[int, ...]]], at: int) -> bytes:
    """A directory, little-endian, to be written at offset `at`."""
    table = struct.pack("<H", len(tags))
    values = b""
    after = at + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        letter = "H" if kind == _SHORT else "L"
        data = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{letter}", *value)
        count = len(value) // (2 if kind == _RATIONAL else 1)
        table += struct.pack("<HHL", tag, kind, count)
        if len(data) <= 4:
            table += data.ljust(4, b"\0")
        else:
            table += struct.pack("<L", after + len(values))
            values += data + bytes(len(data) % 2)
    return table + bytes(4) + values


def _first_page(tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    page = tiff.pages.first if len(tiff.pages) else None
    if not isinstance(page, tifffile.TiffPage):
        raise ValueError("holds no whole page")
    return page


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(page.tags.valueof(Base.ResolutionUnit, default=2))
    resolution = page.tags.valueof(282), page.tags.valueof(283)
    if unit is None or None in resolution:
        return None
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        (a, b), (c, d) = resolution
        return a / b * unit, c / d * unit
    return None
