"""What is written is what other programs read, and what cannot be written is said."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from sigform_kit import InputError
from sigform_superres.picture import Animation, Frame, Metadata, Picture
from sigform_superres.reading import open_animation, read_picture
from sigform_superres.writing import (
    FORMATS,
    check_format,
    format_named,
    format_of,
    write_animation,
    write_picture,
)

SRGB = imagecodecs.cms_profile("srgb")
ADOBE = imagecodecs.cms_profile("adobergb")
XMP = b"<x:xmpmeta>about</x:xmpmeta>"


def exif() -> bytes:
    tags = Image.Exif()
    tags[Base.Make] = "Camera"
    tags[Base.Orientation] = 1
    tags[Base.ImageWidth] = 31
    tags.get_ifd(IFD.Exif)[Base.ISOSpeedRatings] = 400
    tags.get_ifd(IFD.Exif)[Base.ExposureTime] = 0.008
    tags.get_ifd(IFD.Exif)[Base.ExifImageWidth] = 31
    tags.get_ifd(IFD.Exif)[Base.ExifImageHeight] = 70000
    tags.get_ifd(IFD.GPSInfo)[1] = "N"
    return tags.tobytes().removeprefix(b"Exif\0\0")


def samples(*shape: int, dtype: type = np.uint8, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def picture(channels: int = 3, dtype: type = np.uint8, **metadata: Any) -> Picture:
    colours = channels - (channels in (2, 4))
    alpha = samples(23, 31, dtype=dtype, seed=6) if channels in (2, 4) else None
    return Picture(samples(23, 31, colours, dtype=dtype), alpha, Metadata(**metadata))


def smooth(height: int = 40, width: int = 50, channels: int = 3, dtype: type = np.uint8) -> Picture:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / 9 + k) + np.cos(x / (7 + k)) for k in range(channels)]
    most = np.iinfo(dtype).max
    return Picture(np.rint((np.stack(waves, axis=-1) / 5 + 0.5) * most).astype(dtype))


def written(picture: Picture, format: str, **options: Any) -> tuple[bytes, list[str]]:
    file = io.BytesIO()
    notes = write_picture(picture, file, format=format, **options)
    return file.getvalue(), notes


def interleaved(picture: Picture) -> np.ndarray:
    (whole,) = picture.bands(picture.height)
    return whole[..., 0] if whole.shape[2] == 1 else whole


def same(one: Picture, other: Picture) -> None:
    np.testing.assert_array_equal(one.colour, other.colour)
    assert one.colour.dtype == other.colour.dtype
    np.testing.assert_array_equal(one.alpha, other.alpha)


# --- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_lossless_formats_keep_every_bit(format: str, channels: int, dtype: type) -> None:
    before = picture(channels, dtype)
    data, notes = written(before, format)
    same(read_picture(data), before)
    assert notes == []
    decode = imagecodecs.png_decode if format == "png" else tifffile_read
    np.testing.assert_array_equal(decode(data), interleaved(before))
    if dtype == np.uint8:
        np.testing.assert_array_equal(Image.open(io.BytesIO(data)), interleaved(before))


def tifffile_read(data: bytes) -> np.ndarray:
    return tifffile.imread(io.BytesIO(data))


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    noise=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_size_through_png_and_tiff(
    height: int, width: int, channels: int, dtype: type, noise: bool
) -> None:
    colours = channels - (channels in (2, 4))
    if noise:
        colour = samples(height, width, colours, dtype=dtype)
    else:
        colour = smooth(height, width, colours, dtype).colour
    alpha = samples(height, width, dtype=dtype) if channels in (2, 4) else None
    before = Picture(colour, alpha)
    for format in ("png", "tiff"):
        same(read_picture(written(before, format)[0]), before)


@pytest.mark.parametrize(
    "colour",
    [
        np.ascontiguousarray(np.tile(smooth(60, 80).colour, (12, 8, 1))),
        np.repeat(samples(1, 400, 3) // 8, 800, axis=0) + samples(800, 400, 3) // 64,
    ],
    ids=["tiles", "columns"],
)
def test_png_of_many_bands_is_as_small_as_pillows(colour: np.ndarray) -> None:
    data, _ = written(Picture(colour), "png")
    file = io.BytesIO()
    Image.fromarray(colour).save(file, "PNG")
    same(read_picture(data), Picture(colour))
    assert len(data) < 1.1 * len(file.getvalue())


@pytest.mark.parametrize("channels", [1, 3])
def test_bmp(channels: int) -> None:
    data, notes = written(picture(channels), "bmp")
    same(read_picture(data), picture(channels))
    assert notes == []


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_come_near_and_obey_quality(format: str, channels: int) -> None:
    before = smooth(channels=channels)
    sizes = []
    for quality in (30, None, 100):
        data, notes = written(before, format, quality=quality)
        assert notes == []
        sizes.append(len(data))
        if quality != 30:
            after = read_picture(data).colour.astype(int)
            assert np.abs(after - before.colour).mean() < 2
            # WebP has no grey.
            assert after.shape[2] == (3 if format == "webp" else channels)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_alpha_in_lossy_formats(format: str) -> None:
    alpha = np.full((40, 50), 255, np.uint8)
    alpha[:, :25] = 0
    data, notes = written(Picture(smooth().colour, alpha), format)
    assert notes == []
    after = read_picture(data).alpha
    assert after is not None
    assert np.abs(after.astype(int) - alpha).max() <= 4


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_gif_of_few_colours_is_exact(channels: int) -> None:
    full = picture(channels)
    alpha = None if full.alpha is None else (full.alpha > 99) * np.uint8(255)
    before = Picture(full.colour // 64 * 64, alpha)
    data, notes = written(before, "gif")
    after = read_picture(data)
    shown = np.ones((23, 31), bool) if alpha is None else alpha > 0
    rgb = np.broadcast_to(before.colour, (23, 31, 3))
    np.testing.assert_array_equal(after.colour[shown], rgb[shown])
    np.testing.assert_array_equal(after.alpha, before.alpha)
    assert notes == []


def test_what_a_gif_loses_is_said() -> None:
    data, notes = written(picture(4), "gif")
    assert notes == [
        "gif holds 256 colours: more were dithered",
        "gif holds no half transparency: it was rounded",
    ]
    assert read_picture(data).width == 31


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif", "bmp", "gif"])
def test_16_bits_are_rounded_to_8_and_said(format: str) -> None:
    deep = Picture(np.tile(np.array([[[128], [129], [65535]]], np.uint16), (1, 8, 1)))
    data, notes = written(deep, format, quality=100)
    assert notes == [f"{format} holds 8 bits: 16-bit samples were rounded"]
    if format == "bmp":
        assert read_picture(data).colour[0, :3, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("format", ["jpeg", "bmp"])
def test_transparency_is_laid_on_white_and_said(format: str, dtype: type) -> None:
    most = np.iinfo(dtype).max
    colour = np.zeros((8, 24, 3), dtype)
    alpha = np.zeros((8, 24), dtype)
    alpha[:, 8:16], alpha[:, 16:] = most // 2, most
    data, notes = written(Picture(colour, alpha), format, quality=100)
    assert notes[-1] == f"{format} holds no transparency: laid on white"
    after = read_picture(data)
    assert after.alpha is None
    for start, value in ((0, 255), (8, 128), (16, 0)):
        assert np.abs(after.colour[:, start : start + 8].astype(int) - value).max() <= 2


# --- metadata ------------------------------------------------------------------------------------

FULL = {"icc": ADOBE, "exif": exif(), "xmp": XMP, "dpi": (300.0, 150.0)}


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "avif"])
def test_metadata_is_carried(format: str, deep: bool) -> None:
    data, notes = written(picture(3, np.uint16 if deep else np.uint8, **FULL), format)
    assert [note for note in notes if "16-bit" not in note] == []
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        tags = image.getexif()
        inner, place = tags.get_ifd(IFD.Exif), tags.get_ifd(IFD.GPSInfo)
        assert image.info["icc_profile"] == ADOBE
        assert image.info["xmp"] == XMP
        assert tags[Base.Make] == "Camera"
        assert inner[Base.ISOSpeedRatings] == 400
        assert inner[Base.ExposureTime] == pytest.approx(0.008)
        assert place[1] == "N"
        assert (inner[Base.ExifImageWidth], inner[Base.ExifImageHeight]) == (31, 23)
        if format in ("webp", "avif"):
            assert (tags[Base.XResolution], tags[Base.YResolution]) == (300, 150)
            assert tags[Base.ResolutionUnit] == 2
        else:
            assert image.info["dpi"] == pytest.approx((300, 150), rel=1e-3)
    again = read_picture(data).metadata
    assert (again.icc, again.xmp) == (ADOBE, XMP)
    if format not in ("webp", "avif"):
        assert again.dpi == pytest.approx((300, 150), rel=1e-3)


def test_exif_and_dpi_of_png_and_jpeg_do_not_drift() -> None:
    for format in ("png", "jpeg", "tiff"):
        first = read_picture(written(picture(**FULL), format)[0])
        second = read_picture(written(first, format)[0])
        assert second.metadata == first.metadata


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_dpi_without_exif_goes_into_a_new_one(format: str) -> None:
    data, _ = written(picture(dpi=(72.0, 72.0)), format)
    assert Image.open(io.BytesIO(data)).getexif()[Base.XResolution] == 72


@pytest.mark.parametrize("format", ["png", "tiff", "bmp", "jpeg", "webp", "avif", "gif"])
def test_nothing_is_made_up(format: str) -> None:
    metadata = read_picture(written(picture(), format)[0]).metadata
    assert metadata == Metadata()


@pytest.mark.parametrize("format", list(FORMATS))
def test_strip_leaves_nothing(format: str) -> None:
    data, _ = written(picture(**FULL), format, strip=True)
    assert read_picture(data).metadata == Metadata()
    for secret in (b"Camera", b"about", b"acsp"):
        assert secret not in data


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_strip_converts_the_colours_first(dtype: type) -> None:
    before = picture(3, dtype, icc=ADOBE)
    after = read_picture(written(before, "png", strip=True)[0])
    eight = (before.colour // (257 if dtype == np.uint16 else 1)).astype(np.uint8)
    source, target = (ImageCms.ImageCmsProfile(io.BytesIO(icc)) for icc in (ADOBE, SRGB))
    image = Image.fromarray(eight)
    options: Any = {"flags": ImageCms.Flags.NOOPTIMIZE}
    expected = np.asarray(ImageCms.profileToProfile(image, source, target, **options))
    scale = 257 if dtype == np.uint16 else 1
    off = np.abs(after.colour / scale - expected)
    # One step of 8 bits in the linear shadows of AdobeRGB is many in sRGB.
    assert np.percentile(off, 90) <= 1.5
    assert np.abs(before.colour / scale - expected).mean() > 4 * off.mean() + 1


def test_strip_converts_grey_too_and_leaves_srgb_alone() -> None:
    gamma = imagecodecs.cms_profile("gray", gamma=1.0)
    ramp = np.arange(256, dtype=np.uint8)[None, :, None]
    after = read_picture(written(Picture(ramp, None, Metadata(icc=gamma)), "png", strip=True)[0])
    linear = np.arange(256) / 255
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, curved)
    np.testing.assert_allclose(after.colour[0, :, 0], expected, atol=1.01)
    for channels in (1, 3):
        before = picture(channels, icc=SRGB)
        same(read_picture(written(before, "png", strip=True)[0]), before)


@pytest.mark.parametrize("format", ["bmp", "gif"])
def test_formats_without_a_profile_get_srgb(format: str) -> None:
    before = picture(icc=ADOBE, exif=exif(), dpi=(300.0, 300.0))
    before = Picture(before.colour // 128 * 128, None, before.metadata)
    data, notes = written(before, format)
    stripped, _ = written(before, "png", strip=True)
    np.testing.assert_array_equal(read_picture(data).colour, read_picture(stripped).colour)
    assert notes == [f"{format} holds no EXIF and no XMP: left out"]
    if format == "bmp":
        assert read_picture(data).metadata.dpi == pytest.approx((300, 300), rel=1e-3)


def test_a_broken_profile_is_dropped_and_said() -> None:
    icc = ADOBE[:300]
    data, notes = written(picture(icc=icc), "bmp")
    same(read_picture(data), picture())
    assert notes == ["the colour profile is broken: left out without converting the colours"]


def test_what_is_too_long_for_jpeg_is_left_out_and_said() -> None:
    tags = Image.Exif()
    tags[Base.MakerNote] = bytes(70000)
    long = tags.tobytes().removeprefix(b"Exif\0\0")
    data, notes = written(picture(exif=long, xmp=b"x" * 65600), "jpeg")
    assert notes == [
        "the EXIF is too long for jpeg and left out",
        "the XMP is too long for jpeg and left out",
    ]
    assert read_picture(data).metadata == Metadata()
    for format in ("png", "webp", "tiff"):
        metadata = read_picture(written(picture(exif=long, xmp=b"x" * 65600), format)[0]).metadata
        assert metadata.xmp == b"x" * 65600
    data, notes = written(picture(xmp=b"x" * 65504, exif=long[:65527]), "jpeg")
    assert notes == []
    assert read_picture(data).metadata.xmp == b"x" * 65504


@pytest.mark.parametrize("format", ["png", "tiff", "webp", "jpeg", "avif"])
def test_broken_exif_is_left_out_and_said(format: str) -> None:
    data, notes = written(picture(exif=b"II*\0\xff\xff\xff\xff"), format)
    assert read_picture(data).metadata.exif is None
    assert notes == ["the EXIF is broken and left out"]


# --- formats and limits --------------------------------------------------------------------------


def test_formats_by_suffix_and_name() -> None:
    assert [format_of(f"a b/x.{s}") for s in ("PNG", "jpg", "tif", "avif")] == [
        "png",
        "jpeg",
        "tiff",
        "avif",
    ]
    assert [format_named(name) for name in ("JPG", ".tif", "webp")] == ["jpeg", "tiff", "webp"]
    with pytest.raises(InputError, match=r"photo\.heic: suffix is '\.heic'; needs one of \.png"):
        format_of("photo.heic")
    with pytest.raises(InputError, match=r"format is 'wbep'; needs one of .* Did you mean 'webp'"):
        format_named("wbep")
    with pytest.raises(ValueError, match="needs one"):
        write_picture(picture(), io.BytesIO())
    with pytest.raises(ValueError, match="quality is 0; needs 1 to 100"):
        written(picture(), "jpeg", quality=0)


@pytest.mark.parametrize(("format", "side"), [("jpeg", 65500), ("webp", 16383), ("gif", 65535)])
def test_the_largest_side_is_written_and_one_more_refused(format: str, side: int) -> None:
    line = np.zeros((1, side + 1, 1), np.uint8)
    assert read_picture(written(Picture(line[:, :side]), format)[0]).width == side
    with pytest.raises(InputError, match=f"{format} cannot hold {side + 1} x 1 pixels: at most"):
        written(Picture(line), format)


def test_avif_holds_what_its_readers_take() -> None:
    line = np.zeros((1, 32768, 1), np.uint8)
    assert read_picture(written(Picture(line), "avif")[0]).width == 32768
    with pytest.raises(InputError, match="at most 32768 a side"):
        check_format("avif", 32769, 1)
    with pytest.raises(InputError, match="at most 268 megapixels"):
        check_format("avif", 24000, 16000)


def test_files_of_four_gigabytes_are_refused_before_the_work() -> None:
    check_format("png", 100_000, 100_000)
    check_format("tiff", 24_000, 16_000, bytes_per_pixel=8)
    for format in ("tiff", "bmp"):
        with pytest.raises(InputError, match="at most 4 GB; PNG holds more"):
            check_format(format, 40_000, 40_000)


# --- animations ----------------------------------------------------------------------------------


def frames(count: int = 4, alpha: bool = False, times: tuple[int, ...] = (50, 120)) -> list[Frame]:
    still = smooth(23, 31).colour // 64 * 64
    shown = (samples(23, 31) > 128) * np.uint8(255) if alpha else None
    return [
        Frame(
            Picture(
                np.ascontiguousarray(np.roll(still, 5 * at, axis=1)),
                None if shown is None else np.ascontiguousarray(np.roll(shown, 5 * at, axis=1)),
            ),
            times[at % len(times)],
        )
        for at in range(count)
    ]


def animation_of(data: bytes) -> Animation:
    animation = open_animation(data)
    assert animation is not None
    return animation


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("plays", [0, 1, 2, 7])
@pytest.mark.parametrize("format", ["gif", "webp"])
def test_animations_keep_frames_times_and_plays(format: str, plays: int, alpha: bool) -> None:
    file = io.BytesIO()
    before = frames(alpha=alpha)
    assert write_animation(iter(before), file, format=format, plays=plays, quality=100) == []
    animation = animation_of(file.getvalue())
    assert (animation.count, animation.plays) == (4, plays)
    for after, frame in zip(animation, before, strict=True):
        assert after.duration == frame.duration
        if alpha:
            np.testing.assert_array_equal(after.picture.alpha, frame.picture.alpha)
        if format == "gif":
            shown = slice(None) if frame.picture.alpha is None else frame.picture.alpha > 0
            np.testing.assert_array_equal(after.picture.colour[shown], frame.picture.colour[shown])
        elif not alpha:
            off = after.picture.colour.astype(int) - frame.picture.colour
            assert np.abs(off).mean() < 15


def test_webp_frames_do_not_swap() -> None:
    plain = [Frame(Picture(np.full((16, 16, 3), value, np.uint8)), 40) for value in (20, 120, 220)]
    file = io.BytesIO()
    write_animation(plain, file, format="webp")
    for frame, value in zip(animation_of(file.getvalue()), (20, 120, 220), strict=True):
        assert np.abs(frame.picture.colour.astype(int) - value).max() <= 3


def test_gif_times_are_rounded_without_drifting() -> None:
    file = io.BytesIO()
    write_animation(frames(30, times=(33,)), file, format="gif")
    times = [frame.duration for frame in animation_of(file.getvalue())]
    assert set(times) == {30, 40}
    assert sum(times) == 990


def test_webp_animation_carries_metadata_and_gif_gets_srgb() -> None:
    first, *rest = frames()
    first = Frame(Picture(first.picture.colour, None, Metadata(**FULL)), first.duration)
    file = io.BytesIO()
    assert write_animation([first, *rest], file, format="webp") == []
    with Image.open(io.BytesIO(file.getvalue())) as image:
        assert image.info["icc_profile"] == ADOBE
        assert image.info["xmp"] == XMP
        assert image.getexif()[Base.Make] == "Camera"
    frame = next(iter(animation_of(file.getvalue())))
    assert frame.picture.metadata.icc == ADOBE
    file = io.BytesIO()
    write_animation([first, *rest], file, format="webp", strip=True)
    assert next(iter(animation_of(file.getvalue()))).picture.metadata == Metadata()
    notes = write_animation([first, *rest], io.BytesIO(), format="gif")
    assert notes == ["gif holds no EXIF and no XMP: left out"]


def test_frames_are_taken_one_at_a_time() -> None:
    alive: list[int] = []

    def counted() -> Iterator[Frame]:
        for at in range(30):
            alive.append(at)
            yield Frame(Picture(np.full((300, 300, 3), at * 8, np.uint8)), 40)

    for format in ("gif", "webp"):
        with io.BytesIO() as file:
            tracemalloc.start()
            try:
                write_animation(counted(), file, format=format)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < 12 * 300 * 300 * 3
    assert len(alive) == 60


def test_animations_that_cannot_be_written() -> None:
    with pytest.raises(InputError, match="an animation needs gif or webp"):
        write_animation(frames(), io.BytesIO(), format="png")
    for format in ("gif", "webp"):
        with pytest.raises(ValueError, match="no frames"):
            write_animation([], io.BytesIO(), format=format)
        odd = Frame(Picture(samples(5, 5, 3)), 10)
        with pytest.raises(ValueError, match=r"frame is 5 x 5; needs \(31, 23\)"):
            write_animation([*frames(), odd], io.BytesIO(), format=format)


# --- targets -------------------------------------------------------------------------------------


def test_paths_and_streams_get_the_same_bytes(tmp_path: Path) -> None:
    for format in FORMATS:
        path = tmp_path / f"ä b{FORMATS[format].suffixes[0]}"
        write_picture(picture(), path)
        other = tmp_path / "temporary.part"
        write_picture(picture(), str(other), format=format)
        assert path.read_bytes() == other.read_bytes() == written(picture(), format)[0]


def test_a_pipe_is_a_target() -> None:
    script = (
        "import sys, numpy as np\n"
        "from sigform_superres.picture import Picture\n"
        "from sigform_superres.writing import write_picture\n"
        "write_picture(Picture(np.ones((9, 8, 3), np.uint8)), sys.stdout.buffer, format='tiff')\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert read_picture(done.stdout).width == 8


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_full_disk_is_an_error(format: str) -> None:
    with pytest.raises(OSError, match=r"No space left|encoder error|cannot write"):
        write_picture(picture(), Path("/dev/full"), format=format)


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_a_large_picture_is_written_without_a_copy(tmp_path: Path, format: str) -> None:
    large = Picture(
        np.ascontiguousarray(np.tile(smooth(50, 100).colour, (20, 20, 1))),
        np.full((1000, 2000), 255, np.uint8),
    )
    tracemalloc.start()
    try:
        write_picture(large, tmp_path / "large", format=format)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000 < large.colour.nbytes
    same(read_picture(tmp_path / "large"), large)


# --- pictures in memory --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("colour", "alpha"),
    [
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 4), np.uint8), None),
        (np.zeros((0, 4, 3), np.uint8), None),
        (np.zeros((4, 4, 3), np.float32), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)),
    ],
)
def test_pictures_of_other_shapes_are_refused(colour: Any, alpha: Any) -> None:
    with pytest.raises(ValueError, match="needs"):
        Picture(colour, alpha)


def test_exif_sizes_too_large_for_their_field_become_unknown() -> None:
    from sigform_superres.exif import resized

    short = b"MM\0*" + struct.pack(">LH", 8, 1) + struct.pack(">HHLHH", 256, 3, 1, 31, 0) + bytes(4)
    assert struct.unpack_from(">H", resized(short, 40000, 9), 18) == (40000,)
    assert struct.unpack_from(">H", resized(short, 70000, 9), 18) == (0,)
    assert resized(short, 31, 5) == short
