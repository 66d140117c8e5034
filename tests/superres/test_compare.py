"""The comparison as PNG and as HTML: what the files hold, and that they need nothing else."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sigform_superres.compare import compare_html, compare_png
from sigform_superres.resizing import imresize


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def pair(height: int, width: int, channels: int = 3, dtype: type = np.uint8):
    before = noise(height, width, channels, dtype=dtype)
    return before, imresize(before, 2)


class Page(HTMLParser):
    """The elements of a page, and its pictures decoded."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.inputs: list[dict[str, str | None]] = []
        self.images: list[tuple[str | None, Image.Image]] = []
        self.addresses: list[str] = []
        self.title = ""
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            if (value := values.get(name)) is not None:
                self.addresses.append(value)
        if tag == "input":
            self.inputs.append(values)
        if tag == "img":
            kind, data = (values["src"] or "").split(",", 1)
            assert kind == "data:image/webp;base64"
            image = Image.open(BytesIO(base64.b64decode(data, validate=True)))
            assert (values["width"], values["height"]) == tuple(map(str, image.size))
            self.images.append((values["alt"], image.convert("RGB")))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "title" and not self.title:
            self.title = data


def test_the_png_shows_both_whole_and_a_detail(tmp_path: Path) -> None:
    before = np.zeros((100, 80, 3), np.uint8)
    before[60:80, 40:60] = noise(20, 20, 3)
    after = imresize(before, 2)
    # The same green at the same place tells the result's panel and detail from the original's.
    after[130:150, 90:110] = (0, 255, 0)
    target = tmp_path / "comparison.part"
    compare_png(before, after, target, title="Prüfbild, x2")
    with Image.open(target) as image:
        assert image.format == "PNG"
        sheet = np.array(image)
    green = (sheet == (0, 255, 0)).all(axis=2)
    # 160 x 200 is shown four times as large, its detail sixteen times.
    assert sheet.shape[1] == 2 * 4 * 160 + 3 * 12
    rows, columns = np.nonzero(green)
    assert columns.min() > sheet.shape[1] // 2
    assert green.sum() >= (4 * 18) ** 2 + (16 * 10) ** 2
    assert rows.min() < 850 < rows.max()


def test_a_large_picture_is_reduced_in_the_png_and_its_detail_is_not(tmp_path: Path) -> None:
    before = np.full((300, 500, 1), 128, np.uint8)
    before[100:130, 200:230] = noise(30, 30, 1)
    after = np.repeat(np.repeat(before, 4, axis=0), 4, axis=1)
    compare_png(before, after, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as image:
        sheet = np.array(image)
    assert sheet.shape[1] == 2 * 800 + 3 * 12
    # The detail of the result has squares of 4 pixels, each magnified four times.
    detail = sheet[-12 - 480 : -12, -12 - 800 : -12]
    assert np.array_equal(detail, detail[::4, ::4].repeat(4, axis=0).repeat(4, axis=1))
    assert detail.std() > 10


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (3, 5), (40, 1)])
@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint16)])
def test_awkward_sizes_and_depths(
    tmp_path: Path, size: tuple[int, int], channels: int, dtype: type
) -> None:
    before, after = pair(*size, channels, dtype)
    compare_png(before, after, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as image:
        image.load()
    compare_html(before, after, tmp_path / "c.html")
    page = Page(tmp_path / "c.html")
    assert page.images[0][1].size == page.images[1][1].size


def test_the_html_needs_nothing_outside_itself(tmp_path: Path) -> None:
    before = np.full((330, 100, 3), 90, np.uint8)
    compare_html(before, imresize(before, 2), tmp_path / "c.html")
    page = Page(tmp_path / "c.html")
    assert len(page.addresses) == 4
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not re.search(r"\w+://|url\(|@import|fetch\(|import\(", page.text)
    assert "default-src 'none'" in page.text


def test_the_slider_is_a_range_that_the_keyboard_reaches(tmp_path: Path) -> None:
    compare_html(*pair(40, 50), tmp_path / "c.html")
    (slider,) = Page(tmp_path / "c.html").inputs
    assert slider["type"] == "range"
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "100", "50")
    assert slider["aria-label"]
    assert "tabindex" not in slider
    assert "disabled" not in slider


def test_small_pictures_are_in_the_html_without_loss(tmp_path: Path) -> None:
    before, after = pair(40, 50)
    after = 255 - after
    compare_html(before, after, tmp_path / "c.html")
    (_, first), (_, second) = Page(tmp_path / "c.html").images
    assert np.array_equal(np.array(first), imresize(before, 2))
    assert np.array_equal(np.array(second), after)


def test_sixteen_bits_are_shown_as_eight(tmp_path: Path) -> None:
    eight = noise(20, 30, 3)
    sixteen = eight.astype(np.uint16) * 257
    compare_html(sixteen, sixteen, tmp_path / "c.html")
    for _, image in Page(tmp_path / "c.html").images:
        assert np.array_equal(np.array(image), eight)


def test_a_large_picture_is_reduced_in_the_html_with_a_detail_beside_it(tmp_path: Path) -> None:
    before = np.full((60, 1300, 3), 90, np.uint8)
    before[:, 700:1000] = noise(60, 300, 3)
    after = imresize(before, 2)
    compare_html(before, after, tmp_path / "c.html")
    page = Page(tmp_path / "c.html")
    assert [alt for alt, _ in page.images] == ["Before", "After"] * 2
    sizes = [image.size for _, image in page.images]
    assert sizes == [(2000, 92)] * 2 + [(640, 120)] * 2
    found = re.search(r"After, detail of 640x120 at (\d+), 0", page.text)
    assert found is not None
    left = int(found[1])
    assert 1200 < left < 1600
    detail = np.array(page.images[3][1])
    assert np.array_equal(detail, after[:, left : left + 640])
    whole = imresize(before, size=after.shape[:2])
    assert np.array_equal(np.array(page.images[2][1]), whole[:, left : left + 640])


def test_a_title_cannot_become_markup(tmp_path: Path) -> None:
    before, after = pair(4, 5)
    compare_html(before, after, tmp_path / "c.html", title="<script>{x}</script>.png")
    page = Page(tmp_path / "c.html")
    assert page.text.count("<script>") == 1
    assert page.title == "<script>{x}</script>.png"


@pytest.mark.parametrize(
    "wrong", [noise(4, 5), noise(4, 5, 4), np.zeros((4, 5, 3)), np.zeros((0, 5, 3), np.uint8)]
)
def test_what_cannot_be_compared_is_said(tmp_path: Path, wrong: np.ndarray) -> None:
    right = noise(4, 5, 3)
    for compare in (compare_png, compare_html):
        with pytest.raises(ValueError, match=r"before is .*; needs uint8 or uint16"):
            compare(wrong, right, tmp_path / "c")
        with pytest.raises(ValueError, match=r"after is .*; needs uint8 or uint16"):
            compare(right, wrong, tmp_path / "c")
