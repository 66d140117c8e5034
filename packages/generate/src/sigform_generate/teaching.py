"""What the command `train` does, of whatever kind: the files, the recipe, the sheets of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sigform_generate.catalogue import find_weights
from sigform_generate.data import (
    AVSet,
    ClipSet,
    ImageSet,
    Source,
    find_clips,
    find_images,
    to_pixels,
)
from sigform_generate.fitting import Fitted
from sigform_generate.latents import PictureCodec, SoundCodec, picture_codec, sound_codec
from sigform_generate.pictures import clip_sheet, grid, write_png
from sigform_kit.batch import OnStage
from sigform_kit.options import Common
from sigform_kit.outputs import output

if TYPE_CHECKING:
    from sigform_generate.av_training import AVRecipe
    from sigform_generate.diffusion_training import DiffusionRecipe
    from sigform_generate.gan import GanRecipe

    Recipe = GanRecipe | DiffusionRecipe | AVRecipe

# Lightning takes long to import: only once there is something to train on.

SAME = ("size", "frames", "fps", "recipe", "model")
"""Settings that make the network: a run that is resumed has them as they were."""

PARTS = {"image": (".",), "video": (".",), "av": ("backbone", "joint")}
"""The folders of a run in which its checkpoints lie."""

LEAST = {"image": 20, "video": 4, "av": 4}
"""Files that a training needs: a tenth of them is held out, two images or one clip at least."""

SHOWN_NOTES = 5
SHOWN_CLIPS = 4
SHOWN_FRAMES = 8

OnNote = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A training, all that is known before it begins; `notes` are to be said."""

    kind: str
    sources: Sequence[Path] | Sequence[Source]
    recipe: Recipe
    size: int
    frames: int = 1
    fps: float = 1.0
    start: Path | None = None
    model: str | None = None  # a published size of VDT
    codec: PictureCodec | None = None  # of the published recipes, which learn latents
    sound_codec: SoundCodec | None = None
    notes: tuple[str, ...] = ()


def prepare(kind: str, folder: Path | None, options: dict[str, Any], common: Common) -> Lesson:
    """Looks at the folder and settles the recipe. Raises InputError where there is nothing.

    Codecs are loaded, since without them nothing can begin. Without a folder there are no sources,
    and bouncing balls are learnt from.
    """
    sources: Sequence[Path] | Sequence[Source] = []
    skipped: list[str] = []
    if folder is not None:
        sources, skipped = find_images(folder) if kind == "image" else find_clips(folder)
    start, seen, heard = (options.get(name) for name in ("start", "latents", "sound_latents"))
    return Lesson(
        kind=kind,
        sources=sources,
        recipe=recipe_of(kind, options, common),
        size=options["size"],
        frames=options.get("frames", 1),
        fps=options.get("fps", 1.0),
        start=None if start is None else find_weights(start, kind),
        model=options.get("model"),
        codec=None if seen is None else picture_codec(f"sd-vae:{seen}"),
        sound_codec=None if heard is None else sound_codec(f"audioldm:{heard}"),
        notes=tuple(shortened(skipped)),
    )


def recipe_of(kind: str, options: dict[str, Any], common: Common) -> Recipe:
    """The recipe of a kind, with what was asked for in place of its own numbers."""
    from sigform_generate.av_training import AVRecipe
    from sigform_generate.diffusion_training import DiffusionRecipe
    from sigform_generate.gan import GanRecipe

    published = options["recipe"] == "published"
    plain: Recipe
    if kind == "image":
        plain = GanRecipe.published(options["size"]) if published else GanRecipe()
    elif kind == "video":
        plain = DiffusionRecipe.published() if published else DiffusionRecipe()
    else:
        plain = AVRecipe.published() if published else AVRecipe()
    asked: dict[str, Any] = {
        "steps": options["steps"],
        "batch_size": common.batch_size,
        "validate_every": options["validate_every"],
    }
    rates = ("generator_rate", "discriminator_rate") if kind == "image" else ("learning_rate",)
    asked |= dict.fromkeys(rates, options["learning_rate"])
    if kind == "image":
        asked["flip"] = options["mirror"]
    else:
        asked["sample_every"] = options["validate_every"]
    if kind == "video":
        asked["mirror"] = options["mirror"]
    if kind == "av":
        asked["backbone_steps"] = options["backbone_steps"]
    settled = {
        "seed": common.seed or 0,
        "device": common.device,
        "dtype": common.dtype,
        "devices": options["devices"],
    }
    return replace(plain, **{k: v for k, v in asked.items() if v is not None}, **settled)


def teach(
    lesson: Lesson, run_dir: Path, *, resume: bool, on_progress: OnStage, on_note: OnNote
) -> Fitted:
    """Trains, and writes the weights and sheets of samples to `run_dir`."""

    def on_step(step: int, total: int | None, metrics: dict[str, float]) -> None:
        del metrics
        on_progress("training", step, total)

    sources: Any = readable(lesson, run_dir, on_progress, on_note) if lesson.sources else []
    from sigform_generate import av_training, diffusion_training
    from sigform_generate.gan import GanRecipe, fit_images

    recipe = lesson.recipe
    if isinstance(recipe, GanRecipe):
        return fit_images(
            sources, run_dir, recipe, size=lesson.size, start=lesson.start, resume=resume,
            on_progress=on_step, on_samples=partial(image_sheet, run_dir),
        )  # fmt: skip
    if not sources:
        return av_training.fit_bouncing(
            run_dir, recipe,  # pyright: ignore[reportArgumentType]
            size=lesson.size, frames=lesson.frames, start=lesson.start, resume=resume,
            on_progress=on_step, on_samples=partial(clips_sheet, run_dir),
        )  # fmt: skip

    def on_encoded(done: int, total: int) -> None:
        on_progress("encoding", done, total)

    size, frames, fps = lesson.size, lesson.frames, lesson.fps
    told: dict[str, Any] = {
        "size": size, "frames": frames, "fps": fps, "codec": lesson.codec, "start": lesson.start,
        "resume": resume, "on_encoded": on_encoded, "on_progress": on_step,
        "on_samples": partial(clips_sheet, run_dir),
    }  # fmt: skip
    if isinstance(recipe, diffusion_training.DiffusionRecipe):
        if lesson.model is not None:
            told["config"] = diffusion_training.published_config(lesson.model, size, frames)
        return diffusion_training.fit_clips(sources, run_dir, recipe, **told)
    if lesson.sound_codec is not None:
        samples = av_training.small_sampling(size, frames, fps).audio_samples or 0
        told["config"] = av_training.published_config(size, frames, samples)
    return av_training.fit_av(sources, run_dir, recipe, sound_codec=lesson.sound_codec, **told)


def readable(
    lesson: Lesson, run_dir: Path, on_progress: OnStage, on_note: OnNote
) -> list[Path] | list[Source]:
    """The files that can be read and are long enough; tells of the others.

    What is read is kept in the run's folder, from where the training takes it. Raises InputError
    for too few.
    """

    def on_prepared(done: int, total: int) -> None:
        on_progress("reading", done, total)

    sources: Any = lesson.sources
    found: ImageSet | ClipSet | AVSet
    if lesson.kind == "image":
        found = ImageSet(
            sources, lesson.size, least=LEAST["image"], cache=run_dir / "images",
            on_prepared=on_prepared,
        )  # fmt: skip
    else:
        found = (ClipSet if lesson.kind == "video" else AVSet)(
            sources, lesson.frames, lesson.size, lesson.fps, least=LEAST[lesson.kind],
            cache=run_dir / "clips", on_prepared=on_prepared,
        )  # fmt: skip
    for note in shortened(found.notes):
        on_note(note)
    return found.files if isinstance(found, ImageSet) else found.sources


def shortened(notes: Sequence[str]) -> list[str]:
    """The first few of many lines."""
    more = [f"and {len(notes) - SHOWN_NOTES} more"] if len(notes) > SHOWN_NOTES else []
    return [*notes[:SHOWN_NOTES], *more]


def image_sheet(run_dir: Path, step: int, images: Tensor) -> None:
    """Writes samples (N, 3, H, W) in [-1, 1] as run_dir/samples/STEP.png."""
    _write(run_dir, step, grid(to_pixels(images)))


def clips_sheet(run_dir: Path, step: int, samples: Tensor | tuple[Tensor, ...]) -> None:
    """The same of clips (N, T, 3, H, W): a row a clip, some of its frames."""
    clips = samples if isinstance(samples, Tensor) else samples[0]
    chosen = torch.linspace(0, clips.shape[1] - 1, min(SHOWN_FRAMES, clips.shape[1])).round().long()
    _write(run_dir, step, clip_sheet(to_pixels(clips[:SHOWN_CLIPS, chosen])))


def _write(run_dir: Path, step: int, sheet: Any) -> None:
    target = run_dir / "samples" / f"{step:06d}.png"
    with output(target, "overwrite", make_parents=True) as place:
        write_png(place, sheet)
