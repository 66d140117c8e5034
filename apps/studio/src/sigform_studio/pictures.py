"""The tab that enlarges a picture, with a slider between before and after."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from sigform_studio.desk import Desk, needed, shown
from sigform_studio.look import downloads, notes
from sigform_studio.visits import Job

if TYPE_CHECKING:
    from sigform_superres import Picture, Upscaler

NAME = "upscale"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".gif")
MAX_PIXELS = 16_000_000
"""Of the picture that is dropped; the command has no such limit."""

SHOWN_SIDE = 2400
"""Of what the slider shows, at most; the file to save is whole."""


def build(desk: Desk) -> None:
    """The tab's parts and what its button does."""
    gr.HTML(
        '<p class="sf-lead">A picture two, three or four times as large. Drag the line to compare '
        "with plain bicubic enlargement.</p>"
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            file = desk.drop(NAME, "A picture", SUFFIXES)
            scale = gr.Radio([2, 3, 4], value=2, label="Times larger", elem_id=f"{NAME}-scale")
            controls = desk.buttons(NAME, "Enlarge")
        with gr.Column(scale=3, min_width=360):
            slider = gr.ImageSlider(
                label="Before | after", type="filepath", visible=False, interactive=False,
                max_height=620, buttons=["fullscreen"], elem_id=f"{NAME}-slider",
            )  # fmt: skip
            result = gr.HTML(visible=False, elem_id=f"{NAME}-result")

    def work(job: Job, path: str | None, scale: int) -> Sequence[Any]:
        pair, told = enlarged(desk, job, needed(path, "a picture"), scale)
        return [shown(pair), shown(told)]

    desk.wire(NAME, controls, [file, scale], [slider, result], work)


def enlarged(desk: Desk, job: Job, source: Path, scale: int) -> tuple[tuple[str, str], str]:
    """Before and after as the slider takes them, and what there is to say and to save."""
    job.report("reading the picture")
    from sigform_superres import read_picture, write_picture

    picture = read_picture(source, max_pixels=MAX_PIXELS)
    job.report("loading the network")
    upscaler = loaded(scale, desk.device, desk.threads)

    def tell(done: int, total: int) -> None:
        job.report("enlarging", done, total)

    tell(0, 1)
    large = upscaler(picture, on_tile=tell)
    job.report("writing")
    place = job.folder / f"{source.stem}_x{scale}.png"
    said = [*picture.notes, *write_picture(large, place)]
    job.report("drawing")
    side = max(large.height, large.width)
    height, width = (max(1, n * min(side, SHOWN_SIDE) // side) for n in (large.height, large.width))
    before, after = (job.folder / f"{name}.png" for name in ("before", "after"))
    save_shown(picture, (height, width), before)
    save_shown(large, (height, width), after)
    if side > SHOWN_SIDE:
        said.append(f"shown at {width} x {height} pixels; the file has all of them")
    told = f"{picture.width} x {picture.height} became {large.width} x {large.height} pixels"
    links = downloads([(place, place.name)])
    html = f'<div class="sf-result"><p>{escape(told)}</p>{links}{notes(said)}</div>'
    return (str(before), str(after)), html


def save_shown(picture: Picture, size: tuple[int, int], place: Path) -> None:
    """A picture in 8 bits and this size (h, w), by bicubic where it has another."""
    from dataclasses import replace

    import numpy as np

    from sigform_superres import write_picture
    from sigform_superres.resizing import imresize

    def fitted(samples: Any) -> Any:
        if samples.dtype == np.uint16:
            samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return samples if samples.shape[:2] == size else imresize(samples, size=size)

    alpha = None if picture.alpha is None else fitted(picture.alpha)
    write_picture(replace(picture, colour=fitted(picture.colour), alpha=alpha), place)


@lru_cache(maxsize=3)
def loaded(scale: int, device: str, threads: int | None) -> Upscaler:
    from sigform_core.device import set_threads
    from sigform_superres import Upscaler

    set_threads(threads)
    return Upscaler.load(scale=scale, device=device)
