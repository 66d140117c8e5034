"""What each command does, once its words are understood: imported late, as all of it needs torch.

`work_off` is what an engine calls for each input.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from sigform_core.weights import is_weight_file
from sigform_kit.batch import OnStage
from sigform_kit.catalogue import FILE as CATALOGUE
from sigform_kit.catalogue import read_catalogue
from sigform_kit.doctor import Check
from sigform_kit.inputs import STDIN
from sigform_kit.outputs import STDOUT, check_target
from sigform_speech import catalogue, evaluation
from sigform_speech.audio import output_format
from sigform_speech.batch import Job, Task
from sigform_speech.networks import load_network, model_name
from sigform_speech.plotting import SeparationPlot
from sigform_speech.protocol import Measurement
from sigform_speech.reading import Samples, Source, open_audio
from sigform_speech.separator import BLOCK_SECONDS, OnProgress, SeparatedFile, Separator
from sigform_speech.upstream import fetch, load_any
from sigform_speech.writing import speaker_files

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


# --- separating ----------------------------------------------------------------------------------


def work_off(job: Job, folder: Path) -> Callable[[Task], dict[str, Any]]:
    """The worker of an engine: loads the network once a process, then is called with each task.

    Paths are meant from `folder`, which a cluster's processes need to see as well.
    """
    os.chdir(folder)
    separator = load(job)

    def work(task: Task) -> dict[str, Any]:
        return run(job, task, separator)

    return work


def load(job: Job) -> Separator:
    """The separator of a job. Raises what `Separator.load` does."""
    return Separator.load(
        job.weights,
        speakers=job.speakers,
        device=job.device,
        dtype=job.dtype,
        threads=job.threads,
    )


def run(
    job: Job,
    task: Task,
    separator: Separator | None = None,
    *,
    on_progress: OnStage = lambda *_: None,
) -> dict[str, Any]:
    """Separate one input and write its files; returns what a `--json` line says of it.

    `separator` is that of the job, loaded if there is none yet. Raises ValueError, OSError or a
    ClickException in one line; nothing is left half written.
    """
    wanted = [check_target(path, task.policy, make_parents=True) for path in task.outputs]
    record = {"input": str(task.source), "outputs": [str(path) for path in task.sounds]}
    if not any(wanted):
        return {**record, "status": "skipped"}
    separator = separator or load(job)
    begun = time.monotonic()
    with _source(task) as (source, name):
        made = _separate(job, task, separator, source, name, on_progress)
        if task.plot is not None:
            _draw(task, source, name, mono=job.mono)
    seconds = time.monotonic() - begun
    gain_db = 20 * math.log10(made.gain)
    return {
        **record,
        "status": "done",
        "plot": None if task.plot is None else str(task.plot),
        "speakers": separator.speakers,
        "sample_rate": made.format.sample_rate,
        "channels": made.format.channels,
        "duration": round(made.seconds, 3),
        "seconds": round(seconds, 3),
        "real_time_factor": round(seconds / made.seconds, 4),
        "gain_db": round(gain_db, 2),
        "bandwidth": made.bandwidth,
        "notes": [
            *(note.removeprefix(f"{name}: ") for note in made.notes),
            *_notes(made, separator, gain_db),
        ],
    }


def _notes(made: SeparatedFile, separator: Separator, gain_db: float) -> Iterator[str]:
    """What a user should know of the outputs."""
    if made.bandwidth < made.format.sample_rate / 2:
        own = separator.sample_rate / 1000
        yield f"nothing above {own / 2:g} kHz is kept: the network works at {own:g} kHz"
    if gain_db < 0:
        yield f"turned down by {-gain_db:.1f} dB so that nothing clips"


@contextlib.contextmanager
def _source(task: Task) -> Iterator[tuple[Source, str]]:
    """What to read, from its beginning as often as it is opened, and its name for messages."""
    if str(task.source) != STDIN:
        yield task.source, str(task.source)
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        yield cast(BinaryIO, copy), "stdin"


def _separate(
    job: Job, task: Task, separator: Separator, source: Source, name: str, on_progress: OnStage
) -> SeparatedFile:
    """Writes the speakers: a file each, or all of them to stdout."""

    def on_seconds(done: float, total: float | None) -> None:
        on_progress(name, int(done), None if total is None else int(total))

    if task.sounds == (Path(STDOUT),):
        return _separate_to_stdout(job, task, separator, source, name, on_seconds)
    format = None
    if task.sounds[0].suffix.lower() != task.suffix.lower():  # where --format says more
        with open_audio(source, name) as reader:
            channels = 1 if job.mono else reader.format.channels
            format = output_format(replace(reader.format, channels=channels), task.suffix)
    return separator.separate_file(
        source,
        task.sounds,
        format=format,
        mono=job.mono,
        policy=task.policy,
        make_parents=True,
        name=name,
        on_progress=on_seconds,
    )


def _separate_to_stdout(
    job: Job,
    task: Task,
    separator: Separator,
    source: Source,
    name: str,
    on_progress: OnProgress,
) -> SeparatedFile:
    """One file with the channels of the first speaker, then those of the next."""
    with open_audio(source, name) as reader:
        rate = reader.format.sample_rate
        blocks = reader.blocks(max(1, round(BLOCK_SECONDS * rate)))
        if job.mono:
            blocks = (block.mean(axis=0, keepdims=True) for block in blocks)
        channels = 1 if job.mono else reader.format.channels
        together = channels * separator.speakers
        format = output_format(replace(reader.format, channels=together), task.suffix)
        total = None if reader.frames is None else reader.frames / rate
        with speaker_files([STDOUT], format) as files:
            for part in separator.separate_stream(blocks, rate, channels):
                files.write(part.reshape(1, together, -1))
                on_progress(files.frames / rate, total)
    return SeparatedFile(
        seconds=files.frames / rate,
        gain=files.gain,
        format=format,
        bandwidth=separator.bandwidth(rate),
        notes=tuple(reader.notes),
    )


def _draw(task: Task, source: Source, name: str, *, mono: bool) -> None:
    """The picture of a mixture and its speakers, from their files."""
    assert task.plot is not None
    with contextlib.ExitStack() as opened:
        mixture, *speakers = [
            opened.enter_context(open_audio(place, name if place is source else None))
            for place in (source, *task.sounds)
        ]
        plot = SeparationPlot(mixture.format.sample_rate)
        for block, *parts in zip(
            mixture.blocks(), *(voice.blocks() for voice in speakers), strict=False
        ):
            # Lossy codecs may give a few samples more or less.
            shortest = min(part.shape[1] for part in (block, *parts))
            heard = block.mean(axis=0, keepdims=True) if mono else block
            plot.push(heard[:, :shortest], np.stack([part[:, :shortest] for part in parts]))
        plot.save(task.plot, title=Path(name).name, policy=task.policy)


# --- evaluate ------------------------------------------------------------------------------------


def measure(
    separator: Separator | None,
    *,
    source: Path | None,
    references: Sequence[Path],
    estimates: Sequence[Path],
    corpus: Path | None,
    split: str,
    count: int,
    seed: int,
    cut: bool,
    on_progress: OnStage,
) -> Measurement:
    """Score a file, a folder, a corpus, or what was separated before, by whichever is given.

    `separator` may be None only with `estimates`. Raises what the functions of `evaluation` do.
    """
    if estimates:
        return evaluation.evaluate_estimates(estimates, references, source, cut=cut)
    assert separator is not None
    done = 0

    def separate(mixture: Samples, sample_rate: int) -> Samples:
        return separator(mixture, sample_rate).speakers

    def on_done(_: str) -> None:
        nonlocal done
        done += 1
        on_progress("evaluating", done, count)

    if corpus is not None:
        return evaluation.evaluate_corpus(
            separate, corpus, split=split, count=count, seed=seed, on_done=on_done
        )
    assert source is not None
    if source.is_file():
        return evaluation.evaluate_files(separate, source, references, cut=cut)
    count = len(evaluation.find_files(source))
    return evaluation.evaluate_folder(separate, source, cut=cut, on_done=on_done)


# --- info, models, doctor ------------------------------------------------------------------------


def describe_file(path: Path) -> dict[str, Any]:
    """What a weight file or an audio file holds. Raises InputError, ValueError or OSError."""
    return _weights(path) if _is_weights(path) else _sound(path)


def _is_weights(path: Path) -> bool:
    return (
        path.is_dir()
        or path.suffix.lower() in WEIGHT_SUFFIXES
        or path.name == catalogue.POINTER
        or is_weight_file(path)
    )


def _weights(path: Path) -> dict[str, Any]:
    network = load_any(path)
    own = path.is_file() and is_weight_file(path)
    return {
        "file": str(path),
        "model": model_name(network),
        "speakers": network.num_spks,
        "sample_rate": network.sample_rate,
        "parameters": sum(p.numel() for p in network.parameters()),
        "card": dict(load_network(path)[1].card) if own else {},
    }


def _sound(path: Path) -> dict[str, Any]:
    """What is in a file; all of it is read, as only then damage shows, and the true length."""
    with open_audio(path) as reader:
        format, frames, peak, power = reader.format, 0, 0.0, 0.0
        for block in reader.blocks():
            frames += block.shape[1]
            peak = max(peak, float(np.abs(block).max()))
            power += float(np.square(block, dtype=np.float64).sum())
        notes = [note.removeprefix(f"{path}: ") for note in reader.notes]
    return {
        "file": str(path),
        "container": format.container,
        "samples": format.subtype,
        "sample_rate": format.sample_rate,
        "channels": format.channels,
        "duration": round(frames / format.sample_rate, 3),
        "frames": frames,
        "peak_dbfs": _decibels(peak),
        "level_dbfs": _decibels(math.sqrt(power / (frames * format.channels))),
        "notes": notes,
    }


def _decibels(level: float) -> float | None:
    return round(20 * math.log10(level), 2) if level > 0 else None


def list_models() -> list[dict[str, Any]]:
    """The weights in the package, and those that the authors offer; SI-SDRi in dB."""
    entries = read_catalogue(Path(__file__).with_name(CATALOGUE))
    papers = {entry.name: entry.origin for entry in entries}
    rows = []
    for name, path in catalogue.SHIPPED.items():
        network, file = load_network(path)
        rows.append(
            {
                "name": name,
                "model": model_name(network),
                "speakers": network.num_spks,
                "sample_rate": network.sample_rate,
                "parameters": f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} M",
                "si_sdri": file.card.get("si_sdri", {}),
                "paper": papers.get(name),
                "licence": file.card.get("licence", "Apache-2.0"),
                "where": "in this package",
            }
        )
    for entry in catalogue.PUBLISHED:
        rows.append(
            {
                "name": entry.name,
                "model": entry.model,
                "speakers": entry.speakers,
                "sample_rate": entry.sample_rate,
                "parameters": entry.parameters,
                "si_sdri": dict(entry.si_sdri),
                "paper": papers.get(entry.name),
                "licence": entry.licence,
                "where": entry.address,
            }
        )
    return rows


def fetch_weights(name: str, on_progress: OnStage) -> Path:
    """Download published weights unless they are there; raises as `upstream.fetch` does."""

    def on_bytes(done: int, total: int | None) -> None:
        on_progress(name, done >> 20, None if total is None else total >> 20)

    return fetch(name, progress=on_bytes)


EXTRAS = (
    ("media", "av", "m4a, mp4, webm and other media files"),
    ("metrics", "pesq", "PESQ in evaluate"),
    ("metrics", "pystoi", "STOI in evaluate"),
    ("librimix", "torchaudio", "train --librimix"),
)
"""Extras, what they bring, and what for."""


def own_checks() -> Iterator[Callable[[], Check]]:
    """Are the weights there and whole, and which extras are installed?"""
    yield weights
    for extra, module, purpose in EXTRAS:
        yield partial(installed, extra, module, purpose)


def weights() -> Check:
    """Do the shipped weights load?"""
    for path in catalogue.SHIPPED.values():
        load_network(path)
    if not catalogue.SHIPPED:
        advice = "install sigform-speech again"
        return Check(name="weights", status="fail", detail="none in the package", advice=advice)
    return Check(name="weights", status="ok", detail=", ".join(catalogue.SHIPPED))


def installed(extra: str, module: str, purpose: str) -> Check:
    """Is the package of an extra there?"""
    if importlib.util.find_spec(module) is None:
        advice = f"for {purpose}: pip install 'sigform-speech[{extra}]'"
        return Check(name=module, status="warn", detail="not installed", advice=advice)
    return Check(name=module, status="ok", detail=f"installed, for {purpose}")
