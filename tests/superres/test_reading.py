"""Real bytes of every kind of picture, against Pillow, tifffile and numbers written by hand."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from PIL.ExifTags import IFD, Base

from sigform_kit import InputError, describe
from sigform_superres.picture import Picture
from sigform_superres.reading import open_animation, read_picture

LOSSLESS = ["PNG", "WEBP", "TIFF", "TIFF-lzw", "BMP", "GIF"]
SRGB = imagecodecs.cms_profile("srgb")


def photo(height: int = 23, width: int = 31, dtype: type = np.uint8, channels: int = 3) -> Any:
    """Smooth colours with a little noise, so that no row or column is like another."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / 5 + k) + np.cos(x / (4 + k)) for k in range(channels)]
    values = (
        np.stack(waves, axis=-1) / 5 + 0.5 + rng.uniform(-0.02, 0.02, (height, width, channels))
    )
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    kind, _, compression = kind.partition("-")
    if compression:
        options["compression"] = f"tiff_{compression}"
    if kind == "WEBP":
        options |= {"lossless": True, "exact": True}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows: list[bytes], width: int, depth: int, colour_type: int, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def tiff(samples: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def same(picture: Picture, colour: Any, alpha: Any = None) -> None:
    assert picture.colour.dtype == np.asarray(colour).dtype
    np.testing.assert_array_equal(picture.colour, colour)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(picture.alpha, alpha)


# --- modes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOSSLESS[:-1])
def test_rgb(kind: str) -> None:
    picture = read_picture(encoded(Image.fromarray(photo()), kind))
    same(picture, photo())
    assert picture.colour.flags.writeable
    assert picture.notes == ()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF-lzw", "BMP"])
def test_grey_stays_grey(kind: str) -> None:
    grey = photo(channels=1)
    same(read_picture(encoded(Image.fromarray(grey[..., 0]), kind)), grey)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF"])
def test_lossy_formats_decode_as_pillow_does(kind: str) -> None:
    for image in (Image.fromarray(photo()), Image.fromarray(photo(channels=1)[..., 0])):
        data = encoded(image, kind)
        expected = np.asarray(Image.open(io.BytesIO(data)))
        same(read_picture(data), expected.reshape(*expected.shape[:2], -1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF-lzw", "BMP"])
def test_one_bit_becomes_full_range_grey(kind: str) -> None:
    bits = photo(channels=1)[..., 0] > 120
    same(read_picture(encoded(Image.fromarray(bits), kind)), bits[..., None] * np.uint8(255))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TIFF-lzw"])
def test_colour_and_alpha_are_kept_apart(kind: str) -> None:
    rgba = photo(channels=4)
    rgba[:5, :5, 3] = 0
    same(read_picture(encoded(Image.fromarray(rgba), kind)), rgba[..., :3], rgba[..., 3])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha(kind: str) -> None:
    both = photo(channels=2)
    image = Image.fromarray(both)
    assert image.mode == "LA"
    same(read_picture(encoded(image, kind)), both[..., :1], both[..., 1])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_palette_becomes_rgb(kind: str) -> None:
    image = Image.fromarray(photo()).quantize(40)
    same(read_picture(encoded(image, kind)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_a_transparent_colour(kind: str) -> None:
    image = Image.fromarray(photo()).quantize(40)
    indices = np.asarray(image)
    picture = read_picture(encoded(image, kind, transparency=3))
    shown = indices != 3
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, shown * np.uint8(255))
    np.testing.assert_array_equal(picture.colour[shown], np.asarray(image.convert("RGB"))[shown])


def test_palette_with_many_alphas() -> None:
    image = Image.fromarray(photo()).quantize(40)
    alphas = np.arange(40, dtype=np.uint8) * 6
    data = encoded(image, "PNG", transparency=alphas.tobytes())
    same(read_picture(data), np.asarray(image.convert("RGB")), alphas[np.asarray(image)])


@pytest.mark.parametrize(("depth", "row", "stretch"), [(1, 0b00011011, 255), (2, 0b00011011, 85)])
def test_few_bits_of_grey_with_a_transparent_one(depth: int, row: int, stretch: int) -> None:
    data = png([bytes([row])], 8 // depth, depth, 0, chunk(b"tRNS", struct.pack(">H", 1)))
    grey = [row >> (8 - depth - at) & ((1 << depth) - 1) for at in range(0, 8, depth)]
    values = np.array(grey, np.uint8)[None]
    same(read_picture(data), values[..., None] * stretch, (values != 1) * np.uint8(255))


def test_rgb_with_a_transparent_colour() -> None:
    data = png([bytes([1, 2, 3, 4, 5, 6])], 2, 8, 2, chunk(b"tRNS", struct.pack(">3H", 4, 5, 6)))
    same(
        read_picture(data),
        np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8),
        np.array([[255, 0]], np.uint8),
    )


# --- 16 bits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("most", [65535, 200])
def test_16_bit_png_is_exact_however_dark(channels: int, most: int) -> None:
    deep = (photo(dtype=np.uint16, channels=channels) // (65535 // most)).astype(np.uint16)
    colours = channels - (channels in (2, 4))
    picture = read_picture(bytes(imagecodecs.png_encode(deep if channels > 1 else deep[..., 0])))
    same(picture, deep[..., :colours], deep[..., -1] if channels in (2, 4) else None)


def test_16_bit_png_with_a_transparent_colour() -> None:
    row = np.array([[1, 2, 3], [300, 400, 500]], ">u2")
    key = chunk(b"tRNS", struct.pack(">3H", 300, 400, 500))
    same(
        read_picture(png([row.tobytes()], 2, 16, 2, key)),
        row[None].astype(np.uint16),
        np.array([[65535, 0]], np.uint16),
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 5},
        {"compression": "lzw", "tile": (16, 16)},
        {"planarconfig": "separate"},
    ],
)
def test_16_bit_tiff(options: dict[str, Any]) -> None:
    deep = photo(dtype=np.uint16)
    stored = np.moveaxis(deep, 2, 0) if "planarconfig" in options else deep
    same(read_picture(tiff(stored, photometric="rgb", **options)), deep)


@pytest.mark.parametrize("width", [1, 2, 31])
def test_16_bit_grey_tiff_of_any_width_and_either_sense(width: int) -> None:
    grey = photo(width=width, dtype=np.uint16, channels=1)
    same(read_picture(tiff(grey[..., 0], photometric="minisblack")), grey)
    same(read_picture(tiff(grey[..., 0], photometric="miniswhite")), 65535 - grey)


@pytest.mark.parametrize("colours", [1, 3])
def test_16_bit_tiff_with_alpha(colours: int) -> None:
    deep = photo(dtype=np.uint16, channels=colours + 1)
    kind: Any = "rgb" if colours == 3 else "minisblack"
    data = tiff(deep, photometric=kind, extrasamples=["unassalpha"], planarconfig="contig")
    same(read_picture(data), deep[..., :-1], deep[..., -1])


def test_16_bit_tiff_with_colours_multiplied_by_alpha() -> None:
    deep = photo(dtype=np.uint16, channels=4)
    deep[:4, :4, 3] = 0
    cover = deep[..., 3:] / 65535
    stored = np.concatenate([np.rint(deep[..., :3] * cover), deep[..., 3:]], axis=2)
    data = tiff(stored.astype(np.uint16), photometric="rgb", extrasamples=["assocalpha"])
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.alpha, deep[..., 3])
    off = np.abs(picture.colour.astype(int) - deep[..., :3]) * cover
    assert off.max() <= 1


def test_12_bit_tiff_becomes_full_range() -> None:
    values = np.array([[0, 1, 2048, 4095]], np.uint16)
    data = tiff(values, photometric="minisblack", bitspersample=12)
    expected = np.rint(values / 4095 * 65535).astype(np.uint16)[..., None]
    same(read_picture(data), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.uint32, np.int16])
def test_samples_that_are_no_integers_of_16_bits_are_refused(dtype: type) -> None:
    data = tiff(np.ones((4, 4), dtype), photometric="minisblack")
    with pytest.raises(InputError, match=r"^picture: holds .*samples.*; needs"):
        read_picture(data)


def test_colours_that_are_not_read_are_refused() -> None:
    lab = Image.fromarray(photo()).convert("LAB")
    with pytest.raises(InputError, match="picture: holds LAB samples; needs"):
        read_picture(encoded(lab, "TIFF"))


# --- orientation ---------------------------------------------------------------------------------


def oriented(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[Base.Orientation] = orientation
    return tags


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "TIFF-lzw", "AVIF"])
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    data = encoded(Image.fromarray(photo()), kind, exif=oriented(orientation), dpi=(300, 150))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = read_picture(data)
    same(picture, expected)
    assert picture.width == (23 if orientation > 4 else 31)
    if picture.metadata.exif is not None:
        tags = Image.Exif()
        tags.load(picture.metadata.exif)
        assert tags.get(Base.Orientation, 1) == 1
    if kind not in ("WEBP", "AVIF"):
        assert picture.metadata.dpi == pytest.approx(
            (150, 300) if orientation > 4 else (300, 150), rel=1e-3
        )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_at_16_bits(orientation: int) -> None:
    deep = photo(dtype=np.uint16, channels=4)
    exif = oriented(orientation).tobytes().removeprefix(b"Exif\0\0")
    body = bytes(imagecodecs.png_encode(deep))
    of_png = read_picture(body[:33] + chunk(b"eXIf", exif) + body[33:])
    tag = (274, 3, 1, orientation, True)
    options: Any = {"photometric": "rgb", "extrasamples": ["unassalpha"], "extratags": [tag]}
    of_tiff = read_picture(tiff(deep, **options))
    pillows = read_picture(
        encoded(Image.fromarray((deep // 257).astype(np.uint8)), "PNG", exif=oriented(orientation))
    )
    for picture in (of_png, of_tiff):
        assert picture.alpha is not None
        np.testing.assert_array_equal(picture.colour // 257, pillows.colour)
        np.testing.assert_array_equal(picture.alpha // 257, pillows.alpha)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_orientation_in_xmp_alone(kind: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    options: dict[str, Any] = {"xmp": xmp} if kind == "JPEG" else {"tiffinfo": {700: xmp}}
    data = encoded(Image.fromarray(photo()), kind, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = read_picture(data)
    same(picture, expected)
    assert picture.width == 23
    assert picture.metadata.xmp is not None
    assert b'tiff:Orientation="1"' in picture.metadata.xmp


def test_exif_is_edited_in_place_and_its_thumbnail_blanked() -> None:
    thumbnail = b"\xff\xd8" + b"small picture" * 3 + b"\xff\xd9"
    exif = bytearray(b"MM\0*" + struct.pack(">L", 8))
    exif += struct.pack(">H", 2)
    exif += struct.pack(">HHLHH", Base.Orientation, 3, 1, 6, 0)
    exif += struct.pack(">HHLL", Base.MakerNote, 7, 8, 80)
    exif += struct.pack(">L", 38)
    exif += struct.pack(">H", 2)
    exif += struct.pack(">HHLL", Base.JpegIFOffset, 4, 1, 100)
    exif += struct.pack(">HHLL", Base.JpegIFByteCount, 4, 1, len(thumbnail)) + bytes(4)
    exif += bytes(80 - len(exif)) + b"LENS\0\0\0\x50" + bytes(12) + thumbnail
    data = encoded(Image.fromarray(photo()), "JPEG", exif=b"Exif\0\0" + bytes(exif))
    picture = read_picture(data)
    assert picture.width == 23
    expected = bytearray(exif)
    expected[19] = 1
    expected[34:38] = bytes(4)
    expected[100:] = bytes(len(thumbnail))
    assert picture.metadata.exif == bytes(expected)


def test_exif_in_the_old_text_chunk_of_imagemagick() -> None:
    raw = oriented(6).tobytes()
    text = f"\nexif\n{len(raw):8}\n{raw.hex()}\n".encode()
    body = encoded(Image.fromarray(photo()), "PNG")
    old = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    picture = read_picture(body[:33] + old + body[33:])
    assert picture.width == 23
    assert picture.metadata.exif is not None


@pytest.mark.parametrize("raw", [b"junk", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_broken_exif_is_left_out_and_said(raw: bytes) -> None:
    data = encoded(Image.fromarray(photo()), "PNG", exif=b"Exif\0\0" + raw)
    picture = read_picture(data)
    same(picture, photo())
    assert picture.metadata.exif is None
    assert picture.notes == ("the EXIF is broken and left out",)


# --- metadata ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_metadata_is_read(kind: str) -> None:
    tags = Image.Exif()
    tags[Base.Make] = "Camera"
    tags.get_ifd(IFD.Exif)[Base.ISOSpeedRatings] = 400
    tags.get_ifd(IFD.GPSInfo)[1] = "N"
    options: dict[str, Any] = {"icc_profile": SRGB, "dpi": (300, 300)}
    xmp = b"<x:xmpmeta>about</x:xmpmeta>"
    if kind == "TIFF":
        tags[700] = xmp
    elif kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    else:
        options["xmp"] = xmp
    options["exif"] = tags.tobytes()
    metadata = read_picture(encoded(Image.fromarray(photo()), kind, **options)).metadata
    assert metadata.icc == SRGB
    assert metadata.xmp == xmp
    found = Image.Exif()
    found.load(metadata.exif or b"")
    assert found[Base.Make] == "Camera"
    assert found.get_ifd(IFD.Exif)[Base.ISOSpeedRatings] == 400
    assert found.get_ifd(IFD.GPSInfo)[1] == "N"
    if kind not in ("WEBP", "AVIF"):
        assert metadata.dpi == pytest.approx((300, 300), rel=1e-5)


def test_metadata_of_16_bit_tiff() -> None:
    options: Any = {"resolution": (100, 50), "resolutionunit": "CENTIMETER", "iccprofile": SRGB}
    metadata = read_picture(tiff(photo(dtype=np.uint16), photometric="rgb", **options)).metadata
    assert metadata.icc == SRGB
    assert metadata.dpi == pytest.approx((254, 127))


def test_a_profile_for_other_colours_is_left_out_and_said() -> None:
    grey = imagecodecs.cms_profile("gray", gamma=2.2)
    for icc in (grey, b"junk", cmyk_profile()):
        picture = read_picture(encoded(Image.fromarray(photo()), "PNG", icc_profile=icc))
        assert picture.metadata.icc is None
        assert len(picture.notes) == 1
        assert "colour profile" in picture.notes[0]


# --- CMYK ----------------------------------------------------------------------------------------


def cmyk_profile() -> bytes:
    """A printer of our own: 2 x 2 x 2 x 2 corners from white paper (Lab) to black, lut8Type."""
    corners = []
    for at in range(16):
        c, m, y, k = (at >> bit & 1 for bit in (3, 2, 1, 0))
        light = (1 - 0.35 * c) * (1 - 0.5 * m) * (1 - 0.1 * y) * (1 - 0.9 * k)
        corners += [round(light * 240), 128 - 40 * c + 70 * m, 128 - 50 * c + 80 * y]
    straight = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += struct.pack(">9i", *(65536 * (n in (0, 4, 8)) for n in range(9)))
    lut += straight * 4 + bytes(corners) + straight * 3
    paper = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    text = b"text\0\0\0\0none\0"
    name = b"desc\0\0\0\0" + struct.pack(">L", 5) + b"test\0" + bytes(78)
    tags = {b"A2B0": lut, b"wtpt": paper, b"cprt": text, b"desc": name}
    table, body = struct.pack(">L", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">LL", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">L", start + len(body)) + b"lcms" + struct.pack(">L", 0x02400000)
    header += b"prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


def by_hand(ink: np.ndarray, flags: int = 0) -> np.ndarray:
    """Ink through the profile by Pillow's ImageCms."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile()))
    image = Image.fromarray(ink, "CMYK")
    target = ImageCms.createProfile("sRGB")
    options: Any = {"outputMode": "RGB", "flags": ImageCms.Flags(flags)}
    return np.asarray(ImageCms.profileToProfile(image, source, target, **options))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "TIFF-lzw"])
def test_cmyk_goes_through_its_profile(kind: str) -> None:
    image = Image.fromarray(photo(channels=4), "CMYK")
    data = encoded(image, kind, icc_profile=cmyk_profile())
    ink = np.asarray(Image.open(io.BytesIO(data)))
    picture = read_picture(data)
    np.testing.assert_allclose(picture.colour.astype(int), by_hand(ink), atol=1)
    assert picture.colour.dtype == np.uint8
    assert picture.metadata.icc is None
    assert picture.notes == ()
    plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(plain - picture.colour).mean() > 5


def test_cmyk_ink_is_dark_and_paper_is_light() -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:, 8:, 3] = 255
    for icc in (cmyk_profile(), b""):
        image = Image.fromarray(ink, "CMYK")
        colour = read_picture(encoded(image, "JPEG", icc_profile=icc, quality=100)).colour
        assert colour[:, :6].min() > 180
        assert colour[:, 10:].max() < 60


def test_16_bit_cmyk_agrees_with_8_bit() -> None:
    ink = photo(channels=4)
    options: Any = {"photometric": "separated", "iccprofile": cmyk_profile()}
    picture = read_picture(tiff(ink.astype(np.uint16) * 257, **options))
    assert picture.colour.dtype == np.uint16
    np.testing.assert_allclose(
        picture.colour / 257, by_hand(ink, ImageCms.Flags.NOOPTIMIZE), atol=0.6
    )


@pytest.mark.parametrize("icc", [b"", SRGB, cmyk_profile()[:200]])
def test_cmyk_without_a_usable_profile_is_converted_and_said(icc: bytes) -> None:
    ink = photo(channels=4)
    picture = read_picture(encoded(Image.fromarray(ink, "CMYK"), "TIFF", icc_profile=icc))
    left = 255 - ink.astype(float)
    expected = left[..., :3] * left[..., 3:] / 255
    np.testing.assert_allclose(picture.colour, expected, atol=0.51)
    assert picture.metadata.icc is None
    assert "converted to sRGB by the plain formula" in picture.notes[0]


# --- animations ----------------------------------------------------------------------------------


def moving(count: int = 4) -> list[Image.Image]:
    still = photo() // 64 * 64
    return [Image.fromarray(np.roll(still, 5 * index, axis=1)) for index in range(count)]


def animated(kind: str, frames: list[Image.Image], **options: Any) -> bytes:
    first, *rest = frames
    return encoded(first, kind, save_all=True, append_images=rest, **options)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_animation_frames_and_times(kind: str) -> None:
    times = [50, 100, 150, 1200]
    animation = open_animation(animated(kind, moving(), duration=times, loop=2))
    assert animation is not None
    assert (animation.width, animation.height, animation.count) == (31, 23, 4)
    assert animation.plays == (3 if kind == "GIF" else 2)
    for _ in range(2):
        frames = list(animation)
        assert [frame.duration for frame in frames] == times
        for frame, expected in zip(frames, moving(), strict=True):
            same(frame.picture, np.asarray(expected))


@pytest.mark.parametrize(("options", "plays"), [({}, 1), ({"loop": 0}, 0), ({"loop": 4}, 5)])
def test_how_often_a_gif_is_shown(options: dict[str, int], plays: int) -> None:
    animation = open_animation(animated("GIF", moving(), duration=50, **options))
    assert animation is not None
    assert animation.plays == plays


@pytest.mark.parametrize("disposal", [1, 2, 3])
def test_gif_frames_are_composed_by_their_disposal(disposal: int) -> None:
    """Three small squares, each laid on what its predecessor's disposal left."""
    blocks = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0)
    blocks += bytes([0, 0, 0, 255, 0, 0])
    for index in range(3):
        blocks += b"!\xf9\x04" + struct.pack("<BHBB", disposal << 2 | 1, 7, 0, 0)
        blocks += b"," + struct.pack("<4HBB", 2 * index, 0, 2, 2, 0, 2)
        # Codes of 3 bits: clear, 1, 1, clear, 1, 1, end.
        codes = sum(code << 3 * at for at, code in enumerate([4, 1, 1, 4, 1, 1, 5]))
        blocks += b"\x03" + codes.to_bytes(3, "little") + b"\0"
    animation = open_animation(blocks + b";")
    assert animation is not None
    for index, frame in enumerate(animation):
        alpha = np.zeros((8, 8), np.uint8)
        alpha[:2, (0 if disposal == 1 else 2 * index) : 2 * index + 2] = 255
        assert frame.duration == 70
        assert frame.picture.alpha is not None
        np.testing.assert_array_equal(frame.picture.alpha, alpha)
        assert (frame.picture.colour[alpha > 0] == [255, 0, 0]).all()


def test_webp_frames_keep_their_alpha() -> None:
    frames = [Image.fromarray(np.roll(photo(channels=4), at, axis=0)) for at in (0, 3)]
    animation = open_animation(animated("WEBP", frames, duration=40))
    assert animation is not None
    for frame, expected in zip(animation, frames, strict=True):
        rgba = np.asarray(expected)
        np.testing.assert_array_equal(frame.picture.alpha, rgba[..., 3])


@pytest.mark.parametrize("kind", LOSSLESS)
def test_one_picture_is_no_animation(kind: str) -> None:
    assert open_animation(encoded(moving()[0], kind)) is None


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_of_many_is_read_and_said(kind: str) -> None:
    picture = read_picture(animated(kind, moving(3)))
    same(picture, np.asarray(moving()[0]))
    word = "pages" if kind == "TIFF" else "frames"
    assert picture.notes == (f"holds 3 {word}; the first was read",)


def test_a_long_animation_is_not_held_in_memory() -> None:
    import tracemalloc

    large = [Image.fromarray(np.roll(photo(200, 200) // 64 * 64, k, axis=0)) for k in range(40)]
    data = animated("GIF", large)
    animation = open_animation(data)
    assert animation is not None
    tracemalloc.start()
    try:
        shown = sum(frame.picture.height for frame in animation)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert shown == 40 * 200
    assert peak < 8 * 200 * 200 * 3


# --- sources -------------------------------------------------------------------------------------


def test_paths_bytes_and_streams(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(photo()), "PNG")
    path = tmp_path / "mein Bild äöü 画.png"
    path.write_bytes(data)
    same(read_picture(path), photo())
    same(read_picture(str(path)), photo())
    same(read_picture(io.BytesIO(data)), photo())
    with path.open("rb") as stream:
        same(read_picture(stream), photo())


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(Image.fromarray(photo()), "TIFF"))
    same(read_picture(path), photo())


def test_the_reference_pictures_are_read() -> None:
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip("SIGFORM_FIXTURES is not set: the reference data is not here")
    root = Path(folder) / "data" / "superres"
    bridge = read_picture(root / "set14" / "bridge.png")
    assert bridge.colour.shape[2] == 1
    for path in (root / "set5" / "bird.png", root / "train" / "bsd_76002.jpg"):
        same(read_picture(path), np.asarray(Image.open(path)))


# --- bad files -----------------------------------------------------------------------------------


def refused(path: Path | bytes, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_picture(path)
    line = describe(caught.value)
    assert "\n" not in line
    for word in ("picture" if isinstance(path, bytes) else path.name, *words):
        assert word in line


def test_files_that_are_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    refused(path, "No such file")
    path.write_bytes(b"")
    refused(path, "is empty")
    path.write_text("Dear diary, this is no picture.")
    refused(path, "is not a picture that can be read; needs PNG, JPEG")
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    refused(path, "is not a picture that can be read")
    refused(tmp_path, "Is a directory")
    for magic in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"II*\0", b"BM"):
        refused(magic, "is a broken or truncated")
    for magic in (b"GIF89a", b"\0\0\0\x18ftypavif"):
        refused(magic, "is a broken or truncated")


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.png"

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    # Root may read everything, so the refusal is played.
    monkeypatch.setattr(Path, "read_bytes", denied)
    refused(path, "Permission denied")


def deep_png() -> bytes:
    return bytes(imagecodecs.png_encode(photo(dtype=np.uint16)))


def deep_tiff() -> bytes:
    return tiff(photo(dtype=np.uint16), photometric="rgb", compression="zlib", rowsperstrip=4)


def still(kind: str, **options: Any) -> Callable[[], bytes]:
    return lambda: encoded(Image.fromarray(photo()), kind, **options)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(still("PNG"), id="png"),
        pytest.param(still("JPEG"), id="jpeg"),
        pytest.param(still("JPEG", progressive=True), id="progressive"),
        pytest.param(still("WEBP"), id="webp"),
        pytest.param(still("TIFF"), id="tiff"),
        pytest.param(still("TIFF-lzw"), id="tiff-lzw"),
        pytest.param(still("TIFF-jpeg"), id="tiff-jpeg"),
        pytest.param(still("BMP"), id="bmp"),
        pytest.param(still("GIF"), id="gif"),
        pytest.param(still("AVIF"), id="avif"),
        pytest.param(deep_png, id="png-16"),
        pytest.param(deep_tiff, id="tiff-16"),
        pytest.param(lambda: tiff(photo(dtype=np.uint16), photometric="rgb"), id="tiff-16-plain"),
    ],
)
def test_a_truncated_file_is_an_error_or_the_whole_picture(
    make: Callable[[], bytes], capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    data = make()
    whole = read_picture(data)
    cuts = {1, 5, 30, *range(60, len(data), max(1, len(data) // 60))}
    cuts |= set(range(max(1, len(data) - 30), len(data)))
    lines = []
    for cut in sorted(cuts):
        try:
            picture = read_picture(data[:cut])
        except InputError as error:
            lines.append(describe(error))
        else:
            assert len(data) - cut < 30
            same(picture, whole.colour, whole.alpha)
    assert len(lines) >= len(cuts) - 30
    # libtiff has a word of its own to say about a JPEG inside whose tables are cut off.
    assert capfd.readouterr().err == "" or "tiff-jpeg" in request.node.name
    assert all(line.startswith("picture: is ") and "\n" not in line for line in lines)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_a_truncated_animation_is_an_error(kind: str) -> None:
    data = animated(kind, moving(3), duration=50)
    for cut in range(1, len(data), max(1, len(data) // 80)):
        with pytest.raises(InputError):
            open_animation(data[:cut])
        with pytest.raises(InputError):
            read_picture(data[:cut])


def test_a_frame_broken_further_on_is_an_error() -> None:
    data = bytearray(animated("GIF", moving(3), duration=50))
    starts = [at for at in range(len(data)) if data[at : at + 3] == b"!\xf9\x04"]
    # The code size of the last frame's pixels; none has 200 bits.
    at = data.index(b",", starts[-1]) + 10
    data[at + (3 << ((data[at - 1] & 7) + 1) if data[at - 1] & 0x80 else 0)] = 200
    animation = open_animation(bytes(data))
    assert animation is not None
    with pytest.raises(InputError, match=r"^picture: is a broken or truncated GIF file"):
        list(animation)


@pytest.mark.parametrize("side", [23000, 30000, 60000])
def test_bombs_are_refused_by_their_header(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
    refused(bomb, "has more than 512 megapixels, the limit")
    gif = b"GIF89a" + struct.pack("<HH", side, side) + b"\0\0\0,"
    gif += struct.pack("<4HBB", 0, 0, side, side, 0, 8) + b"\0;"
    refused(gif, "has more than 512 megapixels, the limit")
    page = tiff(np.zeros((1, 1), np.uint16), photometric="minisblack")
    for tag in (256, 257):
        at = page.index(struct.pack("<H", tag), 8)
        page = page[: at + 2] + struct.pack("<HLL", 4, 1, side) + page[at + 12 :]
    refused(page, "has more than 512 megapixels, the limit")


@pytest.mark.parametrize("kind", [*LOSSLESS, "JPEG", "AVIF"])
def test_the_limit_of_pixels_can_be_chosen(kind: str) -> None:
    before = Image.MAX_IMAGE_PIXELS
    data = encoded(moving()[0], kind)
    assert read_picture(data, max_pixels=23 * 31).width == 31
    for limit in (23 * 31 - 1, 23 * 31 // 3):
        with pytest.raises(InputError, match=r"has more than .* megapixels"):
            read_picture(data, max_pixels=limit)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_gif_frame_larger_than_its_screen_is_refused_too() -> None:
    data = bytearray(encoded(moving()[0], "GIF"))
    data[6:10] = struct.pack("<HH", 1, 1)
    with pytest.raises(InputError, match="has more than"):
        read_picture(bytes(data), max_pixels=100)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 5)])
@pytest.mark.parametrize("kind", [*LOSSLESS, "JPEG", "AVIF"])
def test_tiny_pictures(kind: str, size: tuple[int, int]) -> None:
    picture = read_picture(encoded(Image.fromarray(photo(*size) // 64 * 64), kind))
    assert (picture.height, picture.width) == size


def test_damaged_bytes_never_escape_as_another_error() -> None:
    rng = np.random.default_rng(3)
    originals = [still(kind)() for kind in ("PNG", "JPEG", "WEBP", "TIFF-lzw", "BMP", "GIF")]
    originals += [deep_png(), deep_tiff(), animated("GIF", moving(3))]
    for data in originals:
        for _ in range(40):
            damaged = np.frombuffer(data, np.uint8).copy()
            damaged[rng.integers(8, len(data), 3)] = rng.integers(0, 256, 3)
            with contextlib.suppress(InputError):
                read_picture(damaged.tobytes(), max_pixels=10_000)


def test_frames_come_in_order() -> None:
    animation = open_animation(animated("WEBP", moving(), duration=20))
    assert animation is not None
    for one, other in pairwise(frame.picture.colour for frame in animation):
        assert not np.array_equal(one, other)
