"""The tab that generates images, clips, and clips with sound, each from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from sigform_studio.desk import Desk, shown
from sigform_studio.look import address, download
from sigform_studio.visits import Job

NAME = "generate"
KINDS = {"Images": "image", "Clips": "video", "Clips with sound": "av"}
MOST = 16
"""Made at once."""

SEEDS = 2**31


def build(desk: Desk) -> None:
    """The tab's parts and what its button does."""
    gr.HTML(
        '<p class="sf-lead">Small pictures and clips out of nothing. The same seed makes the same '
        "one again, on this machine.</p>"
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            kind = gr.Radio(list(KINDS), value="Images", label="What", elem_id=f"{NAME}-kind")
            with gr.Row():
                count = gr.Number(
                    label="How many", value=4, minimum=1, maximum=MOST, precision=0, min_width=100,
                    elem_id=f"{NAME}-count",
                )  # fmt: skip
                seed = gr.Number(
                    label="First seed", value=0, minimum=0, maximum=SEEDS, precision=0,
                    min_width=100, elem_id=f"{NAME}-seed",
                )  # fmt: skip
            controls = desk.buttons(NAME, "Generate")
        with gr.Column(scale=3, min_width=360):
            result = gr.HTML(visible=False, elem_id=f"{NAME}-result")

    def work(job: Job, kind: str, count: float | None, seed: float | None) -> Sequence[Any]:
        number, first = int(count or 1), int(seed or 0)
        if not 1 <= number <= MOST:
            raise ValueError(f"How many is {number}; needs 1 to {MOST}")
        if not 0 <= first <= SEEDS:
            raise ValueError(f"First seed is {first}; needs 0 to {SEEDS}")
        return [shown(generated(desk, job, KINDS[kind], number, first))]

    desk.wire(NAME, controls, [kind, count, seed], [result], work)


def generated(desk: Desk, job: Job, kind: str, count: int, seed: int) -> str:
    """The samples, each with its seed and a link to its file."""
    job.report("loading the network")
    generator = loaded(kind, desk.device, desk.threads)
    figures = []
    for number in range(count):
        which = seed + number

        def tell(done: int, total: int, number: int = number) -> None:
            job.report(f"making {number + 1} of {count}", number * total + done, count * total)

        job.report(f"making {number + 1} of {count}", number, count)
        made = generator(1, seed=which, on_step=tell)
        if kind == "image":
            place = job.folder / f"image_{which}.png"
            save_picture(made[0], place)
            shape = f'<img src="{address(place)}" alt="seed {which}">'
        else:
            place = job.folder / f"clip_{which}.mp4"
            save_clip(made[0], place)
            sound = "" if kind == "av" else " muted autoplay"
            shape = f'<video src="{address(place)}" controls loop playsinline{sound}></video>'
        figures.append(
            f"<figure>{shape}<figcaption><span>seed {which}</span>{download(place, 'Save')}"
            "</figcaption></figure>"
        )
    return (
        f'<div class="sf-result"><div class="sf-grid">{"".join(figures)}</div>'
        f'<p class="sf-quiet">Made by {escape(generator.model)}, weights '
        f"{escape(Path(generator.name).stem)}.</p></div>"
    )


@lru_cache(maxsize=3)
def loaded(kind: str, device: str, threads: int | None) -> Any:
    """The generator of one kind, ImageGenerator and so on."""
    import sigform_generate
    from sigform_core.device import set_threads

    set_threads(threads)
    names = {"image": "ImageGenerator", "video": "VideoGenerator", "av": "AVGenerator"}
    return getattr(sigform_generate, names[kind]).load(device=device)


def save_picture(pixels: Any, place: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(place)


def save_clip(clip: Any, place: Path) -> None:
    from sigform_generate.media import write_clip

    write_clip(place, clip.frames, clip.fps, audio=clip.audio, sample_rate=clip.sample_rate)
