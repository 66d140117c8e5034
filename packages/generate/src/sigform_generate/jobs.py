"""What the commands that make something do: imported late, as all of it needs torch."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigform_core.device import set_threads
from sigform_generate.batch import Job, Piece, Record
from sigform_generate.catalogue import SHIPPED
from sigform_generate.generator import AVGenerator, ImageGenerator, VideoGenerator, of_kind
from sigform_generate.given import Given
from sigform_generate.masks import Box
from sigform_generate.media import Clip, read_clip, write_clip, write_wav
from sigform_generate.pictures import clip_sheet, grid, read_image, write_png
from sigform_kit.batch import OnStage
from sigform_kit.outputs import STDOUT, Policy, output

Pixels = NDArray[np.uint8]
OnNote = Callable[[str], None]
SHEET_FRAMES = 8
"""Frames of each clip in a grid."""


@dataclass(frozen=True)
class Made:
    """One sample: an image (H, W, 3), or a clip."""

    image: Pixels | None = None
    clip: Clip | None = None


def generate(
    job: Job, pieces: Sequence[Piece], *, policy: Policy, on_progress: OnStage, on_note: OnNote
) -> Iterator[Record]:
    """Makes and writes the samples of a job, batch by batch; tells of each when it is on disk.

    Raises InputError, ValueError and OSError in one line; nothing is left half written.
    """
    set_threads(job.threads)
    maker = maker_of(job)
    if "licence" in maker.card:
        on_note(f"{maker.name}: {maker.card['licence']}")
    given = None
    if isinstance(maker, VideoGenerator) and job.given is not None:
        box = None if job.mask is None else Box(*job.mask)
        given = maker.window(job.mode, maker.read(job.mode, job.given), box)
        for note in given.notes:
            on_note(f"{job.given}: {note}")
    settings = settings_of(job, maker.name, maker.model)
    size = job.batch_size or (1 if maker.device.type == "cpu" else 8)
    batches = list(_consecutive(pieces, size))
    for number, batch in enumerate(batches):
        begun = time.monotonic()

        def on_step(step: int, steps: int, before: int = number) -> None:
            on_progress("sampling", before * steps + step, len(batches) * steps)

        made = _batch(job, maker, given, batch, on_step)
        seconds = (time.monotonic() - begun) / len(batch)
        for piece, one in zip(batch, made, strict=True):
            told = {**settings, "seed": piece.seed}
            notes = write(piece, one, told, policy)
            for note in notes:
                on_note(f"{piece.target}: {note}")
            yield {
                "seed": piece.seed,
                "files": [str(file) for file in piece.files],
                "kind": job.kind,
                "seconds": round(seconds, 3),
                "notes": [*(given.notes if given is not None else []), *notes],
            }


def maker_of(job: Job) -> ImageGenerator | VideoGenerator | AVGenerator:
    """The generator that a job asks for."""
    return of_kind(job.kind).load(
        job.weights,
        device=job.device,
        dtype=job.dtype,
        latents=job.latents,
        sound_latents=job.sound_latents,
    )


def _batch(
    job: Job,
    maker: ImageGenerator | VideoGenerator | AVGenerator,
    given: Given | None,
    batch: Sequence[Piece],
    on_step: Callable[[int, int], None],
) -> list[Made]:
    count, seed = len(batch), batch[0].seed
    if isinstance(maker, ImageGenerator):
        images = maker(
            count, seed=seed, truncation=job.truncation, steps=job.steps, label=job.label,
            guidance=job.guidance, batch_size=count, on_step=on_step,
        )  # fmt: skip
        return [Made(image=image) for image in images]
    if isinstance(maker, VideoGenerator) and given is not None:
        clips = maker.fill(
            given, count, seed=seed, steps=job.steps, batch_size=count, on_step=on_step
        )
    else:
        clips = maker(count, seed=seed, steps=job.steps, batch_size=count, on_step=on_step)
    return [Made(clip=clip) for clip in clips]


def _consecutive(pieces: Sequence[Piece], size: int) -> Iterator[list[Piece]]:
    """Batches of at most `size` pieces whose seeds follow each other."""
    batch: list[Piece] = []
    for piece in pieces:
        if batch and (len(batch) == size or piece.seed != batch[-1].seed + 1):
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def settings_of(job: Job, weights: str, model: str) -> dict[str, Any]:
    """All it takes to make a sample again, but for its seed; goes into every file."""
    path = Path(weights)
    shipped = next((name for name, file in SHIPPED.items() if file == path), None)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    told: dict[str, Any] = {
        "software": f"sigform-generate {importlib.metadata.version('sigform-generate')}",
        "kind": job.kind,
        "model": model,
        "weights": shipped or path.name,
        "sha256": digest,
        "dtype": job.dtype,
    }
    plain = Job(kind=job.kind)
    for name in ("steps", "truncation", "guidance", "label", "mode", "mask"):
        if getattr(job, name) != getattr(plain, name):
            told[name] = getattr(job, name)
    if job.given is not None:
        told["given"] = job.given.name
    return told


def write(piece: Piece, made: Made, settings: dict[str, Any], policy: Policy) -> list[str]:
    """Writes every file of a sample: all of them appear, or none. Returns notes.

    An error of the disk says which file it met.
    """
    notes: list[str] = []
    try:
        with ExitStack() as files:
            # Leaving in turn, the sample itself appears last: where it is, the rest is too.
            places = [
                files.enter_context(output(file, policy, make_parents=True))
                for file in reversed(piece.files)
            ]
            for file, place in zip(reversed(piece.files), places, strict=True):
                notes += _write_one(file, place, piece.format, made, settings)
    except OSError as error:
        if error.errno in (None, errno.EPIPE):
            raise
        name = "stdout" if piece.target == Path(STDOUT) else str(piece.target)
        raise OSError(error.errno, error.strerror, name) from error
    return notes


def _write_one(
    file: Path, place: Path, format: str, made: Made, settings: dict[str, Any]
) -> list[str]:
    clip = made.clip
    if file.suffix == ".json":
        about = dict(settings)
        if clip is not None:
            about |= {"frames": len(clip.frames), "fps": float(clip.fps)}
            if clip.audio is not None:
                about |= {"samples": clip.audio.shape[1], "sample_rate": clip.sample_rate}
        place.write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    elif made.image is not None:
        write_png(place, made.image, settings)
    elif clip is not None and file.suffix == ".wav":
        if clip.audio is not None and clip.sample_rate is not None:
            write_wav(place, clip.audio, clip.sample_rate)
    elif clip is not None:
        return write_clip(
            place, clip.frames, clip.fps, audio=clip.audio, sample_rate=clip.sample_rate,
            settings=settings, suffix=f".{format}",
        )  # fmt: skip
    return []


def write_grid(pieces: Sequence[Piece], kind: str, target: Path, policy: Policy) -> None:
    """Writes one picture of all samples, as they are on disk: a row a clip, some of its frames."""
    if kind == "image":
        sheet = grid([read_image(piece.target) for piece in pieces])
    else:
        clips = [read_clip(piece.target, sound=False).frames for piece in pieces]
        least = min(len(clip) for clip in clips)
        chosen = np.linspace(0, least - 1, min(SHEET_FRAMES, least)).round().astype(int)
        sheet = clip_sheet(np.stack([clip[chosen] for clip in clips]))
    with output(target, policy, make_parents=True) as place:
        write_png(place, sheet)


def wander(
    job: Job,
    files: tuple[Path, Path],
    *,
    fps: int,
    frames: int,
    policy: Policy,
    on_progress: OnStage,
) -> Record:
    """Writes the video of a way through the images of a StyleSwin; `frames` between two."""
    set_threads(job.threads)
    maker = ImageGenerator.load(job.weights, device=job.device, dtype=job.dtype)
    seeds = list(range(job.seed, job.seed + job.count))
    total = max(1, frames) * len(seeds)
    pixels = []
    for image in maker.walk(seeds, max(1, frames), truncation=job.truncation):
        pixels.append(image)
        on_progress("walking", len(pixels), total)
    settings = {**settings_of(job, maker.name, maker.model), "seeds": seeds, "mode": "project"}
    piece = Piece(seed=job.seed, files=files, format=files[-1].suffix.lower().removeprefix("."))
    clip = Clip(frames=np.stack(pixels), fps=Fraction(fps))
    notes = write(piece, Made(clip=clip), settings, policy)
    return {"files": [str(file) for file in files], "frames": len(pixels), "notes": notes}
