"""A picture in memory: its samples as they were in the file, and what the file said about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Samples = np.ndarray[tuple[int, ...], np.dtype[np.uint8 | np.uint16]]


class UnsupportedError(ValueError):
    """A file that is whole, but holds what we do not read."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file carries beside its pixels; None where it carries nothing.

    icc: the colour profile of the pixels. exif: EXIF, from its TIFF header on, of an upright
    picture (orientation 1, no thumbnail). xmp: an XMP packet. dpi: pixels per inch, across and
    down.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright picture.

    colour: (H, W, 1) grey or (H, W, 3) RGB, uint8 or uint16, full range.
    alpha: (H, W) of the same dtype, 0 transparent, or None where the file has none.
    notes: a plain line for each thing that reading had to decide.

    Raises ValueError for any other shape or dtype.
    """

    colour: Samples
    alpha: Samples | None = None
    metadata: Metadata = Metadata()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape, dtype = self.colour.shape, self.colour.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise ValueError(f"colour has shape {shape}; needs (H, W, 1) or (H, W, 3), not empty")
        if dtype not in (np.uint8, np.uint16):
            raise ValueError(f"colour has dtype {dtype}; needs uint8 or uint16")
        if self.alpha is not None and (self.alpha.shape, self.alpha.dtype) != (shape[:2], dtype):
            raise ValueError(
                f"alpha has shape {self.alpha.shape} and dtype {self.alpha.dtype}; "
                f"needs {shape[:2]} and {dtype}, as the colour has"
            )

    @property
    def height(self) -> int:
        return self.colour.shape[0]

    @property
    def width(self) -> int:
        return self.colour.shape[1]

    @property
    def channels(self) -> int:
        """Samples of a pixel: 1 or 3 of colour, and one more where there is alpha."""
        return self.colour.shape[2] + (self.alpha is not None)

    def bands(self, rows: int) -> Iterator[Samples]:
        """Interleaved (<= rows, W, channels) parts from top to bottom, each contiguous."""
        for top in range(0, self.height, rows):
            band = self.colour[top : top + rows]
            if self.alpha is not None:
                band = np.concatenate([band, self.alpha[top : top + rows, :, None]], axis=2)
            yield np.ascontiguousarray(band)


@dataclass(frozen=True)
class Frame:
    """One full picture of an animation and how long it is shown, in milliseconds."""

    picture: Picture
    duration: int


@dataclass(frozen=True)
class Animation:
    """Frames of one size, decoded while they are iterated over, and so as often as one likes.

    count: the number of frames. plays: how often all of them are shown, 0 for without end.
    """

    width: int
    height: int
    count: int
    plays: int
    frames: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()
