"""PNG files written band by band, and read at 16 bits, neither of which Pillow does.

A picture of 400 megapixels is written in a few megabytes beside itself; Pillow needs a copy of
four bytes a pixel. W3C PNG Specification, third edition.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from sigform_superres.picture import Metadata, Picture, Samples

SIGNATURE = b"\x89PNG\r\n\x1a\n"

Bytes = NDArray[np.uint8]

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_BAND_BYTES = 1 << 17
_INCH = 0.0254  # metres


def bits_of(head: bytes) -> int:
    """Bits per sample (1, 2, 4, 8 or 16), from the first 26 bytes of a file."""
    return head[24]


def read_16_bits(data: bytes) -> Samples:
    """(H, W, 1 to 4) uint16: grey or RGB, then alpha, also where a colour means transparent.

    Raises imagecodecs.PngError.
    """
    samples = imagecodecs.png_decode(data)
    return samples.reshape(*samples.shape[:2], -1)


def write_png(file: BinaryIO, picture: Picture) -> None:
    """Write the picture and all its metadata. Needs 4 MB, or 40 rows, beside the picture."""
    bits = picture.colour.dtype.itemsize * 8
    colour_type = _COLOUR_TYPES[picture.channels]
    header = struct.pack(">IIBBBBB", picture.width, picture.height, bits, colour_type, 0, 0, 0)
    file.write(SIGNATURE)
    _chunk(file, b"IHDR", header)
    _write_metadata(file, picture.metadata)
    packer = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)
    for band in _filtered_bands(picture):
        if packed := packer.compress(band):
            _chunk(file, b"IDAT", packed)
    _chunk(file, b"IDAT", packer.flush())
    _chunk(file, b"IEND", b"")


def _write_metadata(file: BinaryIO, metadata: Metadata) -> None:
    if metadata.icc is not None:
        _chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc))
    if metadata.dpi is not None:
        across, down = (round(dpi / _INCH) for dpi in metadata.dpi)
        _chunk(file, b"pHYs", struct.pack(">IIB", across, down, 1))
    if metadata.xmp is not None:
        _chunk(file, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    if metadata.exif is not None:
        _chunk(file, b"eXIf", metadata.exif)


def _chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data)
    file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


def _filtered_bands(picture: Picture) -> Iterator[bytes]:
    """The rows of the picture, each filtered and with the number of its filter before it."""
    pixel = picture.channels * picture.colour.dtype.itemsize
    width = picture.width * pixel
    last = np.zeros((1, width), np.uint8)
    for band in picture.bands(max(1, _BAND_BYTES // width)):
        if band.dtype == np.uint16:
            band = band.astype(">u2")
        rows = band.view(np.uint8).reshape(len(band), width)
        yield _filtered(rows, np.concatenate([last, rows[:-1]]), pixel)
        last = rows[-1:]


def _filtered(rows: Bytes, above: Bytes, pixel: int) -> bytes:
    """Each row by the filter that leaves the smallest differences (section 12.7)."""
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, pixel:], corner[:, pixel:] = rows[:, :-pixel], above[:, :-pixel]
    candidates = {1: rows - left, 2: rows - above, 4: rows - _paeth(left, above, corner)}
    sizes = [
        np.abs(candidate.view(np.int8), dtype=np.int16).sum(axis=1, dtype=np.int64)
        for candidate in candidates.values()
    ]
    chosen = np.argmin(sizes, axis=0)
    out = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    for index, (number, candidate) in enumerate(candidates.items()):
        out[chosen == index, 0] = number
        out[chosen == index, 1:] = candidate[chosen == index]
    return out.tobytes()


def _paeth(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    """Whichever of the three is nearest to left + above - corner (section 9.4)."""
    a, b, c = (values.astype(np.int16) for values in (left, above, corner))
    to_left, to_above = np.abs(b - c), np.abs(a - c)
    to_corner = np.abs(a + b - 2 * c)
    above_or_corner = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, above_or_corner)
