"""The tab that decodes an EEG recording: the posterior moves along it as it is played."""

from __future__ import annotations

import base64
import csv
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from sigform_studio.desk import Desk, needed, shown
from sigform_studio.look import downloads, element, notes
from sigform_studio.visits import Job

if TYPE_CHECKING:
    import numpy as np

    from sigform_eeg import Decoder, Windows
    from sigform_eeg.recording import Recording

NAME = "decode"
SUFFIXES = (".edf", ".bdf", ".gdf", ".fif", ".set", ".cnt")
TRACES = ("C3", "Cz", "C4")
TRACE_RATE = 64.0
"""Hz at which traces are drawn, where the recording is not very long."""

MOST_SAMPLES = 400_000
"""Drawn of each trace."""

SIMULATED = "simulated-sub1-run1.edf"


def build(desk: Desk) -> None:
    """The tab's parts and what its button does."""
    gr.HTML(
        '<p class="sf-lead">Imagined hand movements, decoded window by window. Play the recording '
        "and watch what the network makes of it.</p>"
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            file = desk.drop(NAME, "A recording (EDF, BDF, GDF, FIF, SET, CNT)", SUFFIXES)
            simulated = gr.Checkbox(
                label="Show it with a simulated recording instead", elem_id=f"{NAME}-simulated"
            )
            hop = gr.Slider(
                0.1, 2.0, value=0.5, step=0.1, label="Seconds between answers",
                elem_id=f"{NAME}-hop",
            )  # fmt: skip
            controls = desk.buttons(NAME, "Decode")
        with gr.Column(scale=3, min_width=360):
            result = gr.HTML(visible=False, elem_id=f"{NAME}-result")

    def work(job: Job, path: str | None, simulated: bool, hop: float) -> Sequence[Any]:
        source = made_up(job) if simulated else needed(path, "a recording")
        return [shown(decoded(desk, job, source, hop))]

    desk.wire(NAME, controls, [file, simulated, hop], [result], work)


def made_up(job: Job) -> Path:
    """A recording of nobody, in the job's folder."""
    job.report("simulating a recording")
    from sigform_eeg.simulated import simulate

    return simulate(job.folder / "simulated", subjects=1, runs=1, trials=12, suffix=".edf")[0]


def decoded(desk: Desk, job: Job, source: Path, hop: float) -> str:
    """The player, what there is to know of the recording, and a link to the posteriors."""
    job.report("loading the network")
    from sigform_eeg.recording import open_recording

    decoder = loaded(desk.device, desk.threads)
    job.report("opening the recording")
    recording = open_recording(source, decoder.channels, where=source.name)

    def tell(done: float, total: float) -> None:
        job.report(f"decoding, {done:.0f} of {total:.0f} s", done, total)

    windows = decoder(recording, hop=hop, on_progress=tell)
    job.report("drawing")
    place = job.folder / f"{source.stem}_posteriors.csv"
    write_posteriors(windows, place)
    player = element("sigform-posterior", drawn(job, recording, windows))
    said = list(windows.notes)
    if source.parent.name == "simulated":
        said.insert(0, "This recording was simulated: it is of nobody.")
    how = (
        f"Each answer looks at the {windows.seconds:g} s before it. Classes: "
        f"{', '.join(windows.classes)}. Alignment: {windows.align}."
    )
    return (
        f'<div class="sf-result"><h3>{escape(source.name)}</h3>{player}'
        f'<p class="sf-quiet">{escape(how)}</p>'
        f"{downloads([(place, place.name)])}{notes(said)}</div>"
    )


@lru_cache(maxsize=1)
def loaded(device: str, threads: int | None) -> Decoder:
    from sigform_eeg import Decoder

    return Decoder.load(device=device, threads=threads)


def write_posteriors(windows: Windows, place: Path) -> None:
    """A row for each answer: when, what, and how likely each class is."""
    with place.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "class", *windows.classes])
        for time, label, shares in zip(
            windows.times, windows.labels, windows.probabilities, strict=True
        ):
            rows.writerow([f"{time:.3f}", label, *(f"{share:.4f}" for share in shares)])


def drawn(job: Job, recording: Recording, windows: Windows) -> dict[str, Any]:
    """What the player draws: posteriors, a few traces, and the annotations."""
    names = [name for name in TRACES if name in recording.channels] or [recording.channels[0]]
    seconds = recording.duration
    step = max(1, round(recording.rate / min(TRACE_RATE, MOST_SAMPLES / seconds)))
    traces = traces_of(job, recording, names, step)
    events = recording.raw.annotations
    first = float(recording.raw.first_time) if events.orig_time is not None else 0.0
    return {
        "seconds": round(seconds, 3),
        "window": windows.seconds,
        "classes": list(windows.classes),
        "times": [round(float(time), 3) for time in windows.times],
        "shares": [[round(float(p), 4) for p in row] for row in windows.probabilities],
        "rate": recording.rate / step,
        "channels": names,
        "traces": traces,
        "events": [
            [round(float(onset) - first, 3), str(name)]
            for onset, name in zip(events.onset, events.description, strict=True)
        ],
    }


def traces_of(job: Job, recording: Recording, names: Sequence[str], step: int) -> list[str]:
    """Microvolts as 16-bit integers in base64, the mean of every `step` samples; one a channel."""
    import numpy as np

    rows = [recording.channels.index(name) for name in names]
    parts: list[np.ndarray] = []
    held = np.zeros((len(rows), 0), np.float32)
    for block in recording.blocks():
        job.report("drawing")
        held = np.concatenate([held, block[rows]], axis=1)
        whole = held.shape[1] // step * step
        parts.append(held[:, :whole].reshape(len(rows), -1, step).mean(axis=2))
        held = held[:, whole:]
    made = np.concatenate(parts, axis=1)
    made -= np.median(made, axis=1, keepdims=True)
    small = np.clip(np.rint(made), -32768, 32767).astype("<i2")
    return [base64.b64encode(row.tobytes()).decode() for row in small]
