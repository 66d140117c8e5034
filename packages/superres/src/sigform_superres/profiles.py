"""Colour profiles: CMYK to RGB, and any profile to sRGB, by LittleCMS at the depth of the picture.

An RGB or grey picture without a profile is taken for sRGB, as everybody does.
"""

from __future__ import annotations

from typing import Literal

import imagecodecs
import numpy as np

from sigform_superres.picture import Samples

Space = Literal["gray", "rgb", "cmyk"]

_SIGNATURES: dict[bytes, Space] = {b"GRAY": "gray", b"RGB ": "rgb", b"CMYK": "cmyk"}
_ROWS = 256


def space_of(icc: bytes) -> Space | None:
    """What colours a profile is for; None for broken profiles and other spaces."""
    return _SIGNATURES.get(icc[16:20]) if icc[36:40] == b"acsp" else None


def from_cmyk(ink: Samples, icc: bytes | None) -> tuple[Samples, str | None]:
    """sRGB (H, W, 3) of inks (H, W, 4), 0 none and full range all of it, and what is to be said.

    Without a CMYK profile that can be used, each colour is what its ink and the black leave.
    """
    if icc is not None and space_of(icc) == "cmyk":
        try:
            return _transformed(ink, icc, "cmyk"), None
        except imagecodecs.CmsError:
            note = "the CMYK profile is broken: converted to sRGB by the plain formula"
    else:
        note = "CMYK without a CMYK profile: converted to sRGB by the plain formula"
    most = int(np.iinfo(ink.dtype).max)
    colour = np.empty((*ink.shape[:2], 3), ink.dtype)
    for top in range(0, len(ink), _ROWS):
        left = most - ink[top : top + _ROWS].astype(np.uint32)
        colour[top : top + _ROWS] = (left[..., :3] * left[..., 3:] + most // 2) // most
    return colour, note


def to_srgb(colour: Samples, icc: bytes) -> Samples:
    """The colours, (H, W, 1) or (H, W, 3) in the space of the profile, in sRGB.

    They come back as they are where the profile says the same as sRGB. Raises ValueError for a
    profile that is broken or for other colours.
    """
    space = space_of(icc)
    grey = colour.shape[2] == 1
    if space not in ("gray", "rgb") or (space == "gray" and not grey):
        raise ValueError(f"the colour profile is for {space or 'no known colours'}")
    try:
        if space == "rgb" and _is_srgb(icc):
            return colour
        if not grey:
            return _transformed(colour, icc, "rgb")
        if space == "rgb":
            # Some programs leave the profile of the RGB picture in its grey version.
            colour = np.repeat(colour, 3, axis=2)
        return np.ascontiguousarray(_transformed(colour, icc, space)[..., 1:2])
    except imagecodecs.CmsError as error:
        raise ValueError("the colour profile is broken") from error


def _is_srgb(icc: bytes) -> bool:
    """Whether no colour moves by more than half a step of 8 bits."""
    steps = np.linspace(0, 65535, 17).round().astype(np.uint16)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(17, -1, 3)
    moved = _transformed(cube, icc, "rgb").astype(np.int32) - cube
    return int(np.abs(moved).max()) <= 128


def _transformed(samples: Samples, icc: bytes, space: Space) -> Samples:
    srgb = imagecodecs.cms_profile("srgb")
    # LittleCMS by itself goes by coarse tables, up to 14 steps of 255 off in the shadows; not so
    # for 8-bit RGB, where it is ten times as fast and right.
    exact = samples.dtype == np.uint16 or space == "gray"
    flags = imagecodecs.CMS.FLAGS.NOOPTIMIZE if exact else None
    out = np.empty((*samples.shape[:2], 3), samples.dtype)
    for top in range(0, len(samples), _ROWS):
        band = np.ascontiguousarray(samples[top : top + _ROWS])
        out[top : top + _ROWS] = imagecodecs.cms_transform(
            band[..., 0] if space == "gray" else band,
            icc,
            srgb,
            colorspace=space,
            outcolorspace="rgb",
            flags=flags,
        )
    return out
