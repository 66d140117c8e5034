"""Before and after, to look at: one PNG, or one HTML file with a slider that needs no network.

"Before" is the original enlarged by bicubic to the result's size, much as a viewer program shows
it. Both files hold the whole picture, reduced where it is large, and a detail at full resolution
from the place where the original has the most edges.

Letters: h, w the original's height and width, H, W those of the result, C channels (1 or 3).
"""

import base64
import html
import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sigform_superres.resizing import imresize, imresize_part

PANEL = 800  # pixels of the longer side of the whole picture in the PNG
DETAIL_ZOOM = 4  # how much larger than the whole picture the PNG shows the detail
MARGIN, TEXT = 12, 16
PAPER, INK, MARK = "#ffffff", "#20242c", "#e4572e"

PAGE_WHOLE = 2000  # pixels of the longer side of the whole picture in the HTML
PAGE_DETAIL = 640  # pixels of the longer side of the detail; a smaller picture has none
LOSSLESS = 512 * 512  # pixels up to which the HTML keeps a picture without loss

SEARCHED = 4_000_000  # pixels looked at to find the detail


@dataclass(frozen=True)
class Pair:
    """Two RGB pictures of one size, the original and the result, and what they show."""

    before: Image.Image
    after: Image.Image
    captions: tuple[str, str]


@dataclass(frozen=True)
class Box:
    """Rows and columns of the result that are shown as the detail."""

    rows: range
    columns: range


def compare_png(
    before: NDArray, after: NDArray, target: Path, *, title: str = "Before and after"
) -> None:
    """Write a PNG: original and result side by side, below them the same detail of both, magnified.

    `before` (h, w, C) is the original and `after` (H, W, C) the result, each uint8 or uint16, of
    which 8 bits are shown. The PNG is about 1600 pixels wide and is written to `target` whatever
    its suffix. Raises ValueError for another shape or dtype.
    """
    whole = _whole(before, after, PANEL)
    height, width = whole.after.height, whole.after.width
    box = _detail_box(before, after, max(height // DETAIL_ZOOM, 1), max(width // DETAIL_ZOOM, 1))
    detail = _detail(before, after, box)

    zoom = _zoom(whole, PANEL)
    shown = width * zoom / after.shape[1]
    (left, right), (top, bottom) = (
        (part.start * shown, max(part.stop * shown - 1, part.start * shown))
        for part in (box.columns, box.rows)
    )
    columns: list[list[tuple[str, Image.Image]]] = []
    for column in range(2):
        panel = _magnified((whole.before, whole.after)[column], zoom)
        ImageDraw.Draw(panel).rectangle((left, top, right, bottom), outline=MARK, width=2)
        part = _magnified((detail.before, detail.after)[column], zoom * DETAIL_ZOOM)
        caption = f"{detail.captions[column]}, shown {zoom * DETAIL_ZOOM} times as large"
        columns.append([(whole.captions[column], panel), (caption, part)])
    _sheet(title, columns).save(target, format="PNG")


def compare_html(
    before: NDArray, after: NDArray, target: Path, *, title: str = "Before and after"
) -> None:
    """Write one HTML file in which a slider uncovers the result over the original.

    Takes what `compare_png` takes. The pictures are inside the file, as WebP; nothing is fetched.
    Larger than 2000 pixels they are reduced; larger than 640, a detail of 640 is shown as well,
    pixel for pixel.
    """
    whole = _whole(before, after, PAGE_WHOLE)
    figures = [_figure(whole, fit=True)]
    if max(after.shape[:2]) > PAGE_DETAIL:
        height, width = (min(length, PAGE_DETAIL) for length in after.shape[:2])
        box = _detail_box(before, after, height, width)
        figures.append(_figure(_detail(before, after, box), fit=False))
    page = PAGE.format(title=html.escape(title), figures="\n".join(figures))
    target.write_text(page, encoding="utf-8")


def _whole(before: NDArray, after: NDArray, longest: int) -> Pair:
    """Both pictures whole, at the result's size or reduced to `longest` pixels."""
    for what, picture in (("before", before), ("after", after)):
        _check(what, picture)
    height, width = after.shape[:2]
    ratio = min(1.0, longest / max(height, width))
    size = (max(round(height * ratio), 1), max(round(width * ratio), 1))
    reduced = "" if ratio == 1 else f", shown at {size[1]}x{size[0]}"
    return Pair(
        _image(imresize(before, size=size)),
        _image(imresize(after, size=size)),
        (
            f"Before: {before.shape[1]}x{before.shape[0]}, enlarged by bicubic{reduced}",
            f"After: {width}x{height}{reduced}",
        ),
    )


def _detail(before: NDArray, after: NDArray, box: Box) -> Pair:
    """A part of both pictures at the result's full resolution."""
    rows, columns = box.rows, box.columns
    size = (after.shape[0], after.shape[1])
    place = f"detail of {len(columns)}x{len(rows)} at {columns.start}, {rows.start}"
    return Pair(
        _image(imresize_part(before, size, rows, columns)),
        _image(after[rows.start : rows.stop, columns.start : columns.stop]),
        (f"Before, {place}", f"After, {place}"),
    )


def _detail_box(before: NDArray, after: NDArray, height: int, width: int) -> Box:
    """The part of the result, `height` by `width`, over the most edges of the original."""
    step = math.ceil(math.sqrt(before.shape[0] * before.shape[1] / SEARCHED))
    green = before[::step, ::step, before.shape[2] // 2].astype(np.int32)
    edges = np.abs(np.diff(green, axis=0, append=green[-1:]))
    edges += np.abs(np.diff(green, axis=1, append=green[:, -1:]))
    sizes = ((after.shape[0], edges.shape[0], height), (after.shape[1], edges.shape[1], width))
    down, across = (max(part * coarse // full, 1) for full, coarse, part in sizes)
    rows, columns = edges.shape[0] // down, edges.shape[1] // across
    blocks = edges[: rows * down, : columns * across].reshape(rows, down, columns, across)
    best = int(blocks.sum(axis=(1, 3), dtype=np.int64).argmax())
    corner = (best // columns * down, best % columns * across)
    top, left = (
        min(start * full // coarse, full - part)
        for start, (full, coarse, part) in zip(corner, sizes, strict=True)
    )
    return Box(range(top, top + height), range(left, left + width))


def _zoom(pair: Pair, longest: int) -> int:
    """How often a small picture is magnified, its pixels left to be seen, to fill `longest`."""
    return max(longest // max(pair.after.size), 1)


def _magnified(image: Image.Image, times: int) -> Image.Image:
    size = (image.width * times, image.height * times)
    return image.resize(size, Image.Resampling.NEAREST)


def _image(picture: NDArray) -> Image.Image:
    """An 8-bit RGB image of a grey or RGB picture."""
    if picture.dtype == np.uint16:
        picture = ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)
    channels = picture.shape[2]
    return Image.fromarray(np.repeat(picture, 3 // channels, axis=2))


def _sheet(title: str, columns: list[list[tuple[str, Image.Image]]]) -> Image.Image:
    """A page with a title and columns of pictures, each with its caption above."""
    font = ImageFont.load_default(TEXT)
    heading = ImageFont.load_default(round(1.4 * TEXT))
    widths = [
        max(max(math.ceil(font.getlength(text)), image.width) for text, image in column)
        for column in columns
    ]
    line = 2 * TEXT
    height = MARGIN + line + sum(line + image.height + MARGIN for _, image in columns[0])
    width = max(sum(widths) + MARGIN * (len(columns) - 1), math.ceil(heading.getlength(title)))
    sheet = Image.new("RGB", (width + 2 * MARGIN, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=heading)
    x = MARGIN
    for column, column_width in zip(columns, widths, strict=True):
        y = MARGIN + line
        for text, image in column:
            draw.text((x, y + TEXT // 2), text, fill=INK, font=font)
            sheet.paste(image, (x, y + line))
            y += line + image.height + MARGIN
        x += column_width + MARGIN
    return sheet


def _figure(pair: Pair, *, fit: bool) -> str:
    """The HTML of one slider; with `fit` the picture is no taller than the window."""
    width, height = pair.after.size
    shown = width * _zoom(pair, PAGE_DETAIL)
    limits = ["100%", f"{shown}px", *([f"{90 * width / height:.3f}vh"] if fit else [])]
    return FIGURE.format(
        caption=html.escape(" · ".join(pair.captions)),
        style=f"width: min({', '.join(limits)})",
        pixels="pixels" if shown > width else "smooth",
        width=width,
        height=height,
        before=_data_url(pair.before),
        after=_data_url(pair.after),
    )


def _data_url(image: Image.Image) -> str:
    data = BytesIO()
    lossless = image.width * image.height <= LOSSLESS
    image.save(data, format="WEBP", lossless=lossless, quality=90)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _check(what: str, picture: NDArray) -> None:
    shaped = picture.ndim == 3 and picture.shape[2] in (1, 3) and picture.size > 0
    if not shaped or picture.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{what} is {picture.dtype} of shape {picture.shape}; "
            "needs uint8 or uint16 (H, W, 1) or (H, W, 3)"
        )


FIGURE = """<figure>
<figcaption>{caption}</figcaption>
<div class="pair {pixels}" style="{style}">
<img alt="Before" width="{width}" height="{height}" src="{before}">
<img alt="After" class="after" width="{width}" height="{height}" src="{after}">
<input type="range" min="0" max="100" value="50" aria-label="Share of the original, in per cent">
<span class="line"></span><span class="tag left">before</span><span class="tag right">after</span>
</div>
</figure>"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.4 system-ui, sans-serif; margin: 1.5rem; }}
h1 {{ font-size: 1.25rem; overflow-wrap: anywhere; }}
figure {{ margin: 0 0 2rem; }}
figcaption {{ margin-bottom: 0.5rem; }}
.pair {{ --split: 50%; position: relative; overflow: hidden; }}
.pair img {{ display: block; width: 100%; height: auto; }}
.pixels img {{ image-rendering: pixelated; }}
.pair .after {{ position: absolute; inset: 0; clip-path: inset(0 0 0 var(--split)); }}
.pair input {{
  position: absolute; inset: 0; width: 100%; height: 100%; margin: 0;
  opacity: 0; cursor: ew-resize; touch-action: pan-y;
}}
.line {{
  position: absolute; top: 0; bottom: 0; left: var(--split); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none;
}}
input:focus-visible + .line {{ width: 6px; margin-left: -3px; background: #e4572e; }}
.tag {{
  position: absolute; bottom: 0.5rem; padding: 0 0.5rem; border-radius: 0.25rem;
  background: #000a; color: #fff; pointer-events: none;
}}
.left {{ left: 0.5rem; }}
.right {{ right: 0.5rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>Drag across a picture, or move to it with Tab and press the arrow keys.</p>
{figures}
<script>
for (const range of document.querySelectorAll("input")) {{
  const show = () => range.parentElement.style.setProperty("--split", range.value + "%");
  range.addEventListener("input", show);
  show();
}}
</script>
</body>
</html>
"""
