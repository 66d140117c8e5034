"""What the command `evaluate` measures: made samples against a folder of real data.

Every row says how many samples it rests on, and stands beside what needs no network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sigform_core.device import set_threads
from sigform_generate.batch import Job
from sigform_generate.data import (
    AVSet,
    ClipSet,
    ImageSet,
    find_clips,
    find_images,
    to_pixels,
    to_tensor,
)
from sigform_generate.evaluation import (
    Figure,
    evaluate_clips,
    evaluate_images,
    evaluate_sounds,
    held_over,
    motion,
    psnr,
)
from sigform_generate.features import find_inception
from sigform_generate.generator import USUAL_FPS, AVGenerator, ImageGenerator, VideoGenerator
from sigform_generate.given import Given
from sigform_generate.masks import Box, mode_mask
from sigform_generate.media import Clip
from sigform_generate.networks import Sampling
from sigform_generate.sync import synchrony
from sigform_kit.batch import OnStage

COLUMNS = ("figure", "value", "made", "real", "halves", "mean item", "noise", "baseline", "by")
"""`halves`: the same distance between two halves of the real data; `mean item` and `noise`: of
copies of their mean, and of noise like them; `baseline`: of holding or blending what is given,
for movement that of the real data, and for impacts what other clips' sound gives by chance."""

MOST_REAL = 2048
"""Real items that are compared with."""

MOST_FILLED = 64
"""Clips whose missing parts are made, for each mode."""

FILLED = ("predict", "backward", "interpolate", "animate", "complete")

Row = dict[str, Any]
OnNote = Callable[[str], None]
Item = TypeVar("Item")


def measured(job: Job, folder: Path, *, on_progress: OnStage, on_note: OnNote) -> list[Row]:
    """The rows of an evaluation. Raises InputError, ValueError and OSError in one line."""
    set_threads(job.threads)
    kinds = {"image": images_measured, "video": clips_measured, "av": pairs_measured}
    return kinds[job.kind](job, folder, on_progress, on_note)


def images_measured(job: Job, folder: Path, on_progress: OnStage, on_note: OnNote) -> list[Row]:
    """FID and KID, or their proxies."""
    maker = ImageGenerator.load(
        job.weights,
        device=job.device,
        dtype=job.dtype,
        latents=job.latents,
        sound_latents=job.sound_latents,
    )
    files, skipped = find_images(folder)
    config = maker.network.config
    size = config.size if maker.sampling is None else maker.sampling.size
    real = ImageSet(_some(files, on_note), size, least=4)
    _tell([*skipped, *real.notes], on_note)
    net, why = find_inception()
    if net is None:
        on_note(f"figures by a proxy, as {why}")
    else:
        net.to(maker.device)
    made = maker(
        job.count, seed=job.seed, truncation=job.truncation, steps=job.steps,
        batch_size=job.batch_size, on_step=lambda done, total: on_progress("making", done, total),
    )  # fmt: skip
    shown = torch.stack([real[number] for number in range(len(real))])
    return [_row(figure) for figure in evaluate_images(shown, to_tensor(made), net=net)]


def clips_measured(job: Job, folder: Path, on_progress: OnStage, on_note: OnNote) -> list[Row]:
    """Proxies of FVD, how much it moves and flickers, and PSNR of every mode that fills in."""
    maker = VideoGenerator.load(
        job.weights,
        device=job.device,
        dtype=job.dtype,
        latents=job.latents,
        sound_latents=job.sound_latents,
    )
    settings = _needed(maker.sampling)
    sources, skipped = find_clips(folder)
    real = ClipSet(
        _some(sources, on_note), settings.frames, settings.size, settings.fps or USUAL_FPS, least=4
    )
    _tell([*skipped, *real.notes], on_note)
    shown = torch.stack([real[number] for number in range(len(real))])
    clips = maker(
        job.count, seed=job.seed, steps=job.steps, batch_size=job.batch_size,
        on_step=lambda done, total: on_progress("making", done, total),
    )  # fmt: skip
    made = torch.stack([to_tensor(clip.frames) for clip in clips])
    rows = [_row(figure) for figure in evaluate_clips(shown, made)]
    rows += _moving(made, shown)
    part = shown[:MOST_FILLED]
    for mode in FILLED:
        if mode in settings.modes:
            rows.append(filled(maker, mode, part, job, on_progress))
    return rows


def filled(maker: VideoGenerator, mode: str, clips: Tensor, job: Job, on_progress: OnStage) -> Row:
    """PSNR of what a mode makes of real clips (N, T, 3, H, W), beside what needs no network."""
    frames, _, height, width = clips.shape[1:]
    box = Box(width // 4, height // 4, width // 2, height // 2) if mode == "complete" else None
    mask = mode_mask(mode, (frames, height, width), box=box)
    made = []
    for number, clip in enumerate(clips):
        given = Given(frames=to_pixels(clip), missing=mask.bool().numpy())
        (one,) = maker.fill(given, seed=job.seed + number, steps=job.steps)
        made.append(to_tensor(one.frames))
        on_progress(mode, number + 1, len(clips))
    whole = mask.expand(len(clips), *mask.shape)
    held = held_over(clips * (1 - whole[:, :, None]), whole)
    return {
        "figure": f"PSNR of {mode}, dB",
        "value": psnr(torch.stack(made), clips, whole),
        "made": len(clips),
        "real": len(clips),
        "baseline": psnr(held, clips, whole),
    }


def pairs_measured(job: Job, folder: Path, on_progress: OnStage, on_note: OnNote) -> list[Row]:
    """Proxies of FVD and FAD, and whether impacts are heard when they are seen."""
    maker = AVGenerator.load(
        job.weights,
        device=job.device,
        dtype=job.dtype,
        latents=job.latents,
        sound_latents=job.sound_latents,
    )
    settings = _needed(maker.sampling)
    sources, skipped = find_clips(folder)
    rate = settings.sample_rate or 16_000
    real = AVSet(
        _some(sources, on_note), settings.frames, settings.size, settings.fps or USUAL_FPS,
        sample_rate=rate, least=4,
    )  # fmt: skip
    _tell([*skipped, *real.notes], on_note)
    pairs = [real[number] for number in range(len(real))]
    clips = maker(
        job.count, seed=job.seed, steps=job.steps, batch_size=job.batch_size,
        on_step=lambda done, total: on_progress("making", done, total),
    )  # fmt: skip
    shown, heard = (torch.stack(list(part)) for part in zip(*pairs, strict=True))
    made = torch.stack([to_tensor(clip.frames) for clip in clips])
    sounds = torch.stack([_sound(clip) for clip in clips])
    rows = [_row(figure) for figure in evaluate_clips(shown, made)]
    rows += [_row(figure) for figure in evaluate_sounds(heard, sounds, sample_rate=rate)]
    rows += _moving(made, shown)
    for name, each in (
        ("made", [(clip.frames, sound.numpy()) for clip, sound in zip(clips, sounds, strict=True)]),
        ("real", [(to_pixels(frames), sound.numpy()) for frames, sound in pairs]),
    ):
        try:
            rows += _in_time(name, each, settings.fps or USUAL_FPS, rate)
        except ValueError as error:
            on_note(f"synchrony of the {name} clips: {error}")
    return rows


def _in_time(
    name: str, pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]], fps: float, rate: int
) -> list[Row]:
    """Whether what is seen to bounce is heard then. Raises ValueError where nothing bounces."""
    frames, sounds = [clip for clip, _ in pairs], [sound for _, sound in pairs]
    found = synchrony(frames, sounds, fps=fps, sample_rate=rate)
    counts = {name: len(pairs), "by": f"{found.seen} impacts seen, {found.heard} heard"}
    return [
        {
            "figure": f"impacts of the {name} heard within a frame, %",
            "value": 100 * found.within,
            "baseline": 100 * found.chance,
            **counts,
        },
        {"figure": f"lag of the {name}, ms", "value": 1000 * found.lag, **counts},
    ]


def _sound(clip: Clip) -> Tensor:
    if clip.audio is None:
        raise ValueError("a clip was made without sound; needs the weights of an AV-DiT")
    return torch.from_numpy(clip.audio[0])


def _moving(made: Tensor, real: Tensor) -> list[Row]:
    """How much neighbouring frames differ, and how much of it is taken back at once."""
    ours, true = motion(made), motion(real)
    counts = {"made": len(made), "real": len(real)}
    return [
        {"figure": "change a frame, of 255", "value": ours.step, "baseline": true.step, **counts},
        {"figure": "flicker", "value": ours.flicker, "baseline": true.flicker, **counts},
    ]


def _row(figure: Figure) -> Row:
    return {
        "figure": figure.name,
        "value": figure.value,
        "made": figure.made,
        "real": figure.real,
        "halves": figure.floor,
        "mean item": figure.mean,
        "noise": figure.noise,
        "by": figure.features,
    }


def _needed(sampling: Sampling | None) -> Sampling:
    if sampling is None:
        raise ValueError("the weights do not say what they were trained for; needs sampling")
    return sampling


def _some(items: Sequence[Item], on_note: OnNote) -> list[Item]:
    """At most MOST_REAL items, evenly from all, and a line where some are left out."""
    if len(items) <= MOST_REAL:
        return list(items)
    on_note(f"compared with {MOST_REAL} of {len(items)}")
    chosen = np.linspace(0, len(items) - 1, MOST_REAL).round().astype(int)
    return [items[number] for number in chosen]


def _tell(notes: Sequence[str], on_note: OnNote) -> None:
    for note in notes[:5]:
        on_note(note)
    if len(notes) > 5:
        on_note(f"and {len(notes) - 5} more")
