"""The tab that separates the speakers of a recording, to be heard one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from sigform_studio.desk import Desk, needed, shown
from sigform_studio.look import address, download, notes
from sigform_studio.visits import Job

if TYPE_CHECKING:
    from sigform_speech import Separator

NAME = "separate"
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".m4a", ".mp4", ".mkv")
COLUMNS = 600
"""Of a drawn wave."""

COLOURS = ("#5b6270", "#0f766e", "#b45309", "#6d28d9")


def build(desk: Desk) -> None:
    """The tab's parts and what its button does."""
    gr.HTML(
        '<p class="sf-lead">Two people on one track: hear each of them. Everything above 4 kHz is '
        "lost, as the shipped network works at 8 kHz.</p>"
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            file = desk.drop(NAME, "A recording", SUFFIXES)
            mono = gr.Checkbox(label="Mix the channels down to one", value=False)
            controls = desk.buttons(NAME, "Separate")
        with gr.Column(scale=3, min_width=360):
            result = gr.HTML(visible=False, elem_id=f"{NAME}-result")

    def work(job: Job, path: str | None, mono: bool) -> Sequence[Any]:
        return [shown(separated(desk, job, needed(path, "a recording"), mono))]

    desk.wire(NAME, controls, [file, mono], [result], work)


def separated(desk: Desk, job: Job, source: Path, mono: bool) -> str:
    """The recording and each of its speakers as players, and links to their files."""
    job.report("loading the network")
    from sigform_speech.audio import AudioFormat
    from sigform_speech.reading import open_audio
    from sigform_speech.writing import speaker_files

    separator = loaded(desk.device, desk.threads)
    with open_audio(source, source.name) as reader:
        channels = 1 if mono else reader.format.channels
        format = AudioFormat(
            container="WAV", subtype="PCM_16", sample_rate=reader.format.sample_rate,
            channels=channels,
        )  # fmt: skip
    # A browser plays few formats, so the recording is written as it plays all of them.
    whole = job.folder / f"{source.stem}.wav"
    with (
        open_audio(source, source.name) as reader,
        speaker_files([whole], replace(format, channels=reader.format.channels)) as copy,
    ):
        for block in reader.blocks():
            job.report("reading")
            copy.write(block[None])
    targets = [job.folder / f"{source.stem}_speaker{n + 1}.wav" for n in range(separator.speakers)]

    def tell(done: float, total: float | None) -> None:
        job.report(f"separating, {done:.0f} s of sound", done, total)

    told = separator.separate_file(
        source, targets, format=format, mono=mono, name=source.name, on_progress=tell
    )
    job.report("drawing")
    names = ["Recording", *(f"Speaker {n + 1}" for n in range(len(targets)))]
    rows = "".join(
        track(name, path, COLOURS[n % len(COLOURS)])
        for n, (name, path) in enumerate(zip(names, [whole, *targets], strict=True))
    )
    said = [*told.notes]
    if told.gain < 1:
        said.append(f"all speakers were turned down to {told.gain:.2f} so that none clips")
    if told.bandwidth < told.format.sample_rate / 2:
        said.append(f"nothing is left above {told.bandwidth / 1000:g} kHz")
    return f'<div class="sf-result">{rows}{notes(said)}</div>'


@lru_cache(maxsize=1)
def loaded(device: str, threads: int | None) -> Separator:
    from sigform_speech import Separator

    return Separator.load(device=device, threads=threads)


def track(name: str, path: Path, colour: str) -> str:
    """A row with a name, the wave and a player."""
    return (
        f'<div class="sf-track"><b style="color:{colour}">{escape(name)}</b>{wave(path, colour)}'
        f'<div class="sf-play"><audio controls preload="metadata" src="{address(path)}"></audio>'
        f"{download(path, 'Save')}</div></div>"
    )


def wave(path: Path, colour: str) -> str:
    """The largest and least sample of each column of a picture, as an SVG."""
    import numpy as np
    import soundfile

    highs, lows = [], []
    with soundfile.SoundFile(path) as file:
        step = max(1, -(-file.frames // COLUMNS))
        for block in file.blocks(step, dtype="float32", always_2d=True):
            highs.append(float(block.max(initial=0.0)))
            lows.append(float(block.min(initial=0.0)))
    top = max(1e-4, float(np.abs([highs, lows]).max(initial=0.0)))
    points = [f"{x},{50 - 48 * value / top:.1f}" for x, value in enumerate(highs)]
    points += [f"{x},{50 - 48 * lows[x] / top:.1f}" for x in reversed(range(len(lows)))]
    return (
        f'<svg viewBox="0 0 {len(highs)} 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon points="{" ".join(points)}" fill="{colour}"/></svg>'
    )
