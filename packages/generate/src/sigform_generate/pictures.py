"""Pictures: reading any of them as RGB, PNG with the settings inside, and sheets of many.

Letters of shapes: H, W pixels, N pictures. Pixels are uint8 RGB.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from sigform_kit.errors import InputError

SETTINGS_KEY = "sigform"
"""The keyword of the text chunk in which a PNG carries its settings as JSON."""

MOST_PIXELS = 200_000_000


def read_image(path: Path) -> NDArray[np.uint8]:
    """Any picture that Pillow reads, upright, (H, W, 3); transparency lies on white.

    Raises InputError for what is no picture, broken, or above 200 million pixels.
    """
    try:
        with warnings.catch_warnings():
            # What Pillow warns of (size, odd EXIF) is either refused below or harmless.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise InputError(
                        f"{path}: has {image.width}x{image.height} pixels; "
                        f"needs at most {MOST_PIXELS // 1_000_000} million"
                    )
                return as_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: has too many pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"{path}: broken image ({error})") from error


def as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """A Pillow image of any mode as (H, W, 3); 16 bit becomes 8, transparency lies on white."""
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.clip(np.asarray(image.convert("I"), np.float64) / 257, 0, 255)
        return np.repeat(np.round(grey).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        cut = image.convert("RGBA")
        white = Image.new("RGBA", cut.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, cut)
    return np.array(image.convert("RGB"))


def write_png(
    path: Path, pixels: NDArray[np.uint8], settings: dict[str, Any] | None = None
) -> None:
    """Write (H, W, 3), or (H, W) grey, as PNG; the settings go into a text chunk as JSON.

    Raises ValueError for other shapes or types.
    """
    _check(pixels)
    text = PngInfo()
    if settings is not None:
        # add_text alone keeps to Latin-1; escaped JSON is plain ASCII.
        text.add_text(SETTINGS_KEY, json.dumps(settings))
    with path.open("wb") as file:
        Image.fromarray(pixels).save(file, "PNG", pnginfo=text)


def read_settings(path: Path) -> dict[str, Any] | None:
    """The settings that `write_png` put into a PNG, or None where there are none."""
    with Image.open(path) as image:
        text = image.info.get(SETTINGS_KEY)
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def grid(
    images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    columns: int | None = None,
    *,
    gap: int = 2,
    enlarge: int = 1,
) -> NDArray[np.uint8]:
    """One sheet (H', W', 3) of N equally large pictures (N, H, W, 3), row by row on white.

    columns: about as many as rows if None. gap: pixels between. enlarge: pixels each pixel becomes
    on a side.
    """
    images = np.stack(list(images)) if len(images) else np.empty((0, 1, 1, 3), np.uint8)
    if not len(images) or images.ndim != 4:
        raise ValueError(f"images are of shape {images.shape}; needs (N, H, W, 3), N 1 or more")
    if enlarge > 1:
        images = images.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    count, height, width, _ = images.shape
    across = min(count, columns or int(np.ceil(np.sqrt(count))))
    rows = -(-count // across)
    sheet = np.full(
        (rows * (height + gap) - gap, across * (width + gap) - gap, 3), 255, dtype=np.uint8
    )
    for number, image in enumerate(images):
        row, column = divmod(number, across)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def clip_sheet(clips: NDArray[np.uint8], *, gap: int = 2, enlarge: int = 1) -> NDArray[np.uint8]:
    """Clips (N, T, H, W, 3) as one sheet: a clip a row, its frames from left to right."""
    count, frames = clips.shape[:2]
    flat = clips.reshape(count * frames, *clips.shape[2:])
    return grid(flat, frames, gap=gap, enlarge=enlarge)


def _check(pixels: NDArray) -> None:
    if pixels.dtype != np.uint8 or not (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    ):
        raise ValueError(
            f"picture is {pixels.dtype} of shape {pixels.shape}; needs uint8 (H, W, 3) or (H, W)"
        )
