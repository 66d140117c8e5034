"""How the page looks: system fonts, quiet colours, and the pieces of HTML that results are made of.

Nothing here is fetched from anywhere: styles and scripts are parts of the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradio.themes import Base

HERE = Path(__file__).parent
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"]


def theme() -> Base:
    """Gradio's plainest theme with the fonts of the machine."""
    return Base(
        primary_hue="teal", secondary_hue="slate", neutral_hue="slate", font=FONTS, font_mono=MONO,
        radius_size="md", spacing_size="md",
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_500",
        block_border_width="1px",
        block_shadow="none",
        block_title_text_weight="600",
        block_label_text_weight="600",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
    )  # fmt: skip


def css() -> str:
    return (HERE / "studio.css").read_text("utf-8")


def head() -> str:
    """The elements that draw forecasts and recordings, as the page defines them."""
    return f"<script>{(HERE / 'charts.js').read_text('utf-8')}</script>"


def status_line(text: str, share: float | None, *, busy: bool = True) -> str:
    """How it goes, with a bar: as far as `share` (0 to 1), or on the move where that is unknown."""
    if not busy:
        return f'<p class="sf-status" role="status">{escape(text)}</p>'
    moving = "" if share is not None else " sf-moving"
    width = 100 if share is None else round(100 * share)
    told = "" if share is None else f" {width} %"
    return (
        f'<div class="sf-status sf-busy" role="status"><span>{escape(text)}{told}</span>'
        f'<div class="sf-bar{moving}"><i style="width:{width}%"></i></div></div>'
    )


def error_line(text: str) -> str:
    return f'<p class="sf-status sf-error" role="alert">{escape(text)}</p>'


def address(path: Path) -> str:
    """Where the page finds a file of a visit."""
    return f"gradio_api/file={quote(str(path))}"


def download(path: Path, text: str) -> str:
    """A link that saves a file."""
    return (
        f'<a class="sf-download" href="{address(path)}" download="{escape(path.name)}">'
        f"{escape(text)}</a>"
    )


def downloads(links: Iterable[tuple[Path, str]]) -> str:
    return f'<p class="sf-downloads">{"".join(download(*link) for link in links)}</p>'


def notes(lines: Sequence[str]) -> str:
    """What the user should know, one line each."""
    if not lines:
        return ""
    rows = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="sf-notes">{rows}</ul>'


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, marked: int | None = None
) -> str:
    """A table; the row `marked` stands out."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = ""
    for number, row in enumerate(rows):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        body += f'<tr class="sf-marked">{cells}</tr>' if number == marked else f"<tr>{cells}</tr>"
    return f'<table class="sf-table"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def element(name: str, values: Any) -> str:
    """One of the page's own elements with what it is to draw."""
    text = escape(json.dumps(values, allow_nan=False), quote=True)
    return f'<{name} values="{text}"></{name}>'
