"""Pictures read upright, PNG with its settings, and sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigform_generate.pictures import clip_sheet, grid, read_image, read_settings, write_png
from sigform_kit.errors import InputError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_png_comes_back_with_its_settings(tmp_path: Path) -> None:
    pixels, settings = noise(5, 7, 3), {"seed": 3, "note": "ä ☃"}
    write_png(tmp_path / "a.png", pixels, settings)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)
    assert read_settings(tmp_path / "a.png") == settings


def test_a_png_of_others_has_no_settings(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "a.png")
    assert read_settings(tmp_path / "a.png") is None


@pytest.mark.parametrize("pixels", [noise(4, 4, 4), noise(4, 4, 3).astype(np.float32)])
def test_other_shapes_and_types_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="needs uint8"):
        write_png(tmp_path / "a.png", pixels)
    assert not (tmp_path / "a.png").exists()


def test_a_picture_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(pixels, -1))


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read[0, 0].tolist() == [255, 0, 0]
    assert (read.reshape(-1, 3)[1:] == 255).all()


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 100, 255]


def test_grey_and_palettes_become_colour(tmp_path: Path) -> None:
    for mode in ("L", "P", "CMYK", "1"):
        path = tmp_path / f"{mode}.tiff"
        Image.fromarray(noise(3, 4, 3)).convert(mode).save(path)
        assert read_image(path).shape == (3, 4, 3)


def test_broken_and_foreign_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    whole = tmp_path / "a.png"
    write_png(whole, noise(64, 64, 3))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:4000])
    for name in ("notes.png", "cut.png"):
        with pytest.raises(InputError, match=name) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "missing.png")


def test_a_grid_holds_every_picture_in_its_place() -> None:
    images = noise(5, 4, 6, 3)
    sheet = grid(images, 2, gap=1)
    assert sheet.shape == (3 * 5 - 1, 2 * 7 - 1, 3)
    np.testing.assert_array_equal(sheet[10:14, 0:6], images[4])
    np.testing.assert_array_equal(sheet[5:9, 7:13], images[3])
    assert (sheet[10:, 7:] == 255).all()
    assert grid(images).shape[1] == 3 * 8 - 2  # as many columns as rows, or one more


def test_a_grid_can_be_enlarged_and_needs_pictures() -> None:
    assert grid(noise(1, 4, 4, 3), enlarge=3).shape == (12, 12, 3)
    with pytest.raises(ValueError, match="N 1 or more"):
        grid([])


def test_a_clip_sheet_has_a_clip_a_row() -> None:
    clips = noise(2, 3, 4, 4, 3)
    sheet = clip_sheet(clips, gap=0)
    assert sheet.shape == (8, 12, 3)
    np.testing.assert_array_equal(sheet[4:, 8:], clips[1, 2])
