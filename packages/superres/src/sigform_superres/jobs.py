"""What each command does, once its words are understood: imported late, as all of it needs torch.

`work_off` is what an engine calls for each input.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import importlib.util
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from sigform_core.device import set_threads
from sigform_core.weights import is_weight_file
from sigform_kit.batch import OnStage
from sigform_kit.catalogue import FILE as CATALOGUE
from sigform_kit.catalogue import read_catalogue
from sigform_kit.doctor import Check
from sigform_kit.errors import InputError, describe
from sigform_kit.inputs import STDIN, expand_inputs
from sigform_kit.outputs import STDOUT, check_target, output
from sigform_superres import catalogue
from sigform_superres.batch import PICTURES, Job, Task
from sigform_superres.compare import compare_html, compare_png
from sigform_superres.networks import Network, load_network
from sigform_superres.picture import Animation, Frame, Picture, Samples
from sigform_superres.profiles import to_srgb
from sigform_superres.protocol import (
    Evaluation,
    Perceptual,
    Protocol,
    Row,
    evaluate,
    evaluate_pairs,
    pair_paths,
)
from sigform_superres.reading import open_animation, read_picture
from sigform_superres.tiling import OutOfMemoryError
from sigform_superres.upscaler import Backend, Target, Upscaler
from sigform_superres.upstream import OtherNetwork, export, load_any
from sigform_superres.writing import FORMATS, check_format, write_animation, write_picture

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")


# --- upscaling -----------------------------------------------------------------------------------


def work_off(job: Job, folder: Path) -> Callable[[Task], dict[str, Any]]:
    """The worker of an engine: loads the network once a process, then is called with each task.

    Paths are meant from `folder`, which a cluster's processes need to see as well.
    """
    os.chdir(folder)
    set_threads(job.threads)
    upscalers = Upscalers(job)

    def work(task: Task) -> dict[str, Any]:
        return run(job, task, upscalers)

    return work


@dataclass
class Plan:
    """How a picture is brought to its size, in pixels, and what is to be said of it."""

    upscaler: Upscaler
    height: int
    width: int
    notes: list[str] = field(default_factory=list)


class Upscalers:
    """The upscalers of a job, one a scale. Raises what `Upscaler.load` and `Target` do."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.target = Target(factor=job.factor, width=job.width, height=job.height)
        self._loaded: dict[int, Upscaler] = {}
        if len(job.scales) == 1:
            self.of(job.scales[0])

    def of(self, scale: int) -> Upscaler:
        """The upscaler by `scale`, loaded when first asked for."""
        if scale not in self._loaded:
            job = self.job
            self._loaded[scale] = Upscaler.load(
                job.weights,
                scale=scale,
                device=job.device,
                dtype=job.dtype,
                tile=job.tile,
                ensemble=job.ensemble,
                backend=cast(Backend, job.backend),
            )
        return self._loaded[scale]

    def reaching(self, ratio: float) -> Upscaler:
        """The smallest that enlarges `ratio` times, else the largest."""
        scales = sorted(self.job.scales)
        return self.of(next((scale for scale in scales if scale >= ratio), scales[-1]))

    def plan(self, height: int, width: int) -> Plan:
        """What a picture of this size goes through."""
        size = self.target.size(height, width)
        if size is None:
            upscaler = self.of(self.job.scales[0])
            return Plan(upscaler, height * upscaler.scale, width * upscaler.scale)
        ratio = max(size[0] / height, size[1] / width)
        plan = Plan(self.reaching(ratio), *size)
        scale = plan.upscaler.scale
        if ratio > scale:
            plan.notes.append(
                f"enlarged {ratio:.3g} times: {scale} times by the network, the rest by Lanczos"
            )
        return plan


def run(
    job: Job,
    task: Task,
    upscalers: Upscalers | None = None,
    *,
    on_progress: OnStage | None = None,
) -> dict[str, Any]:
    """Upscale one input and write its files; returns what a `--json` line says of it.

    `upscalers` are those of the job, made if there are none yet. Raises ValueError or OSError in
    one line; nothing is left half written.
    """
    wanted = [check_target(path, task.policy, make_parents=True) for path in task.outputs]
    record = {"input": str(task.source), "output": str(task.target)}
    if not wanted[0]:
        return {**record, "status": "skipped"}
    begun = time.monotonic()
    upscalers = upscalers or Upscalers(job)
    try:
        made = _made(job, task, upscalers, on_progress or (lambda *_: None))
    except OutOfMemoryError as error:
        raise InputError(f"{task.source}: {error}") from error
    return {
        **record,
        "status": "done",
        "comparison": None if task.comparison is None else str(task.comparison),
        **made,
        "seconds": round(time.monotonic() - begun, 3),
    }


def _made(job: Job, task: Task, upscalers: Upscalers, on_progress: OnStage) -> dict[str, Any]:
    """Reads, upscales and writes; what came of it."""
    format = task.format
    if format is None:
        return _video(job, task, upscalers, on_progress)
    source = _Stdin(sys.stdin.buffer.read()) if str(task.source) == STDIN else task.source
    if FORMATS[format].animated:
        animation = open_animation(source)
        if animation is not None:
            return _animation(job, task, format, animation, upscalers, on_progress)
        if isinstance(source, _Stdin):
            source.seek(0)
    picture = read_picture(source)
    plan = upscalers.plan(picture.height, picture.width)
    each = picture.channels * picture.colour.dtype.itemsize
    check_format(format, plan.width, plan.height, bytes_per_pixel=each)

    def on_tile(done: int, total: int) -> None:
        on_progress(task.source.name, done, total)

    large = plan.upscaler(picture, target=upscalers.target, on_tile=on_tile)
    with _places(task) as (place, aside):
        notes = write_picture(large, place, format=format, quality=job.quality, strip=job.strip)
        if aside is not None:
            _compare(picture, large, aside, task)
    return _told(picture, plan, [*picture.notes, *notes])


def _animation(
    job: Job,
    task: Task,
    format: str,
    animation: Animation,
    upscalers: Upscalers,
    on_progress: OnStage,
) -> dict[str, Any]:
    """Every frame on its own, with its time."""
    plan = upscalers.plan(animation.height, animation.width)
    check_format(format, plan.width, plan.height)
    first: list[tuple[Picture, Picture]] = []

    def frames() -> Iterator[Frame]:
        for number, frame in enumerate(animation, 1):
            large = plan.upscaler(frame.picture, target=upscalers.target)
            if not first:
                first.append((frame.picture, large))
            on_progress(task.source.name, number, animation.count)
            yield replace(frame, picture=large)

    with _places(task) as (place, aside):
        notes = write_animation(
            frames(),
            place,
            format=format,
            plays=animation.plays,
            quality=job.quality,
            strip=job.strip,
        )
        if aside is not None:
            _compare(*first[0], aside, task)
    return _told(animation, plan, notes, frames=animation.count)


def _video(job: Job, task: Task, upscalers: Upscalers, on_progress: OnStage) -> dict[str, Any]:
    from sigform_superres.video import upscale_video

    upscaler = upscalers.reaching(job.factor or max(job.scales))
    with _places(task) as (place, _):
        notes = upscale_video(
            task.source,
            place,
            upscaler,
            size=upscalers.target if job.sized else None,
            quality=job.quality,
            on_frame=lambda done, total: on_progress(task.source.name, done, total),
        )
    notes = [*_fallback(upscaler), *notes]
    return {"from": None, "size": None, "frames": None, "notes": notes}


def _told(
    small: Picture | Animation, plan: Plan, notes: Sequence[str], frames: int = 1
) -> dict[str, Any]:
    return {
        "from": f"{small.width}x{small.height}",
        "size": f"{plan.width}x{plan.height}",
        "width": plan.width,
        "height": plan.height,
        "scale": plan.upscaler.scale,
        "frames": frames,
        "notes": [*plan.notes, *_fallback(plan.upscaler), *notes],
    }


def _fallback(upscaler: Upscaler) -> list[str]:
    """What is to be said where OpenVINO was asked for and did not do it."""
    return ["too large to go through whole; its tiles by PyTorch"] if upscaler.fell_back else []


class _Stdin(io.BytesIO):
    """What stdin held, with a name for messages."""

    name = "stdin"


@contextlib.contextmanager
def _places(task: Task) -> Iterator[tuple[Path, Path | None]]:
    """Where to write the result and the comparison: both of them appear, or none.

    An error of the disk says which file it met.
    """
    try:
        with ExitStack() as files:
            # Leaving in turn, the result appears last: where it is, the rest is too.
            place, *others = [
                files.enter_context(output(path, task.policy, make_parents=True))
                for path in task.outputs
            ]
            yield place, others[0] if others else None
    except OSError as error:
        if error.errno in (None, errno.EPIPE) or error.filename is not None:
            raise
        place = "stdout" if str(task.target) == STDOUT else str(task.target)
        raise OSError(error.errno, error.strerror, place) from error


def _compare(small: Picture, large: Picture, place: Path, task: Task) -> None:
    """Before and after, as the suffix says."""
    write = compare_html if place.suffix == ".html" else compare_png
    write(_shown(small), _shown(large), place, title=task.source.name)


def _shown(picture: Picture) -> Samples:
    """The colours as they are seen: in sRGB, before white."""
    colour, alpha, icc = picture.colour, picture.alpha, picture.metadata.icc
    if icc is not None:
        with contextlib.suppress(ValueError):  # a broken profile is left out when writing, too
            colour = to_srgb(colour, icc)
    if alpha is None:
        return colour
    most = np.uint32(np.iinfo(colour.dtype).max)
    seen = alpha[..., None].astype(np.uint32)
    return ((colour * seen + most * (most - seen) + most // 2) // most).astype(colour.dtype)


# --- evaluate ------------------------------------------------------------------------------------


def pictures_in(folder: Path) -> list[Path]:
    """The pictures below a folder, by name. Raises InputError where there are none."""
    return [found.path for found in expand_inputs([folder], suffixes=PICTURES)]


def evaluate_folder(
    folder: Path,
    upscaler: Upscaler,
    *,
    protocol: Protocol = "rgb",
    small: Path | None = None,
    metrics: Sequence[str] = (),
    advance: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score an upscaler on the large pictures in a folder, reduced or with given small ones.

    `metrics` are names of pyiqa; `advance` is called for every picture. Raises InputError for a
    file that cannot be read, ValueError for pictures that do not fit.
    """
    perceptual = Perceptual(metrics, str(upscaler.device)) if metrics else None
    scale, large = upscaler.scale, pictures_in(folder)

    def named(path: Path) -> tuple[str, Samples]:
        advance()
        return path.stem, read_picture(path).colour

    if small is None:
        images = (named(path) for path in large)
        return evaluate(upscaler, images, scale, protocol=protocol, perceptual=perceptual)
    pairs = pair_paths(large, pictures_in(small), scale)
    loaded = ((*named(path), read_picture(other).colour) for path, other in pairs)
    return evaluate_pairs(upscaler, loaded, scale, perceptual=perceptual)


def score_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One flat record a picture, the mean last."""

    def flat(row: Row) -> dict[str, Any]:
        bicubic = {f"bicubic_{name}": value for name, value in row.bicubic.as_json().items()}
        return {"image": row.name, **row.network.as_json(), **bicubic}

    return [flat(row) for row in (*evaluation.rows, evaluation.mean)]


def write_scores(rows: Sequence[Mapping[str, Any]], place: Path) -> None:
    """Write the records of `score_rows` as CSV."""
    with place.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


# --- info, models, doctor ------------------------------------------------------------------------


def describe_file(path: Path) -> dict[str, Any]:
    """What a weight file or a picture holds. Raises InputError, ValueError or OSError."""
    return _weights(path) if _is_weights(path) else _picture(path)


def _is_weights(path: Path) -> bool:
    """By content, except where a broken file only has its name left."""
    if path.suffix.lower() in WEIGHT_SUFFIXES:
        return True
    with path.open("rb") as file:
        head = file.read(10)
    in_torch_archive = head.startswith((b"PK\x03\x04", b"\x80\x02"))
    return in_torch_archive or (
        head[8:] == b'{"' and int.from_bytes(head[:8], "little") < path.stat().st_size
    )


def _weights(path: Path) -> dict[str, Any]:
    network, scale = load_any(path)
    card = load_network(path)[1].card if is_weight_file(path) else {}
    own_name = network.name if isinstance(network, OtherNetwork) else type(network).__name__
    return {
        "file": str(path),
        "architecture": card.get("architecture", own_name),
        "scale": scale,
        "parameters": sum(p.numel() for p in network.parameters()),
        "card": card,
    }


def _picture(path: Path) -> dict[str, Any]:
    picture = read_picture(path)
    animation = open_animation(path)
    metadata = picture.metadata
    return {
        "file": str(path),
        "width": picture.width,
        "height": picture.height,
        "mode": "grey" if picture.colour.shape[2] == 1 else "RGB",
        "bits": 8 * picture.colour.dtype.itemsize,
        "alpha": picture.alpha is not None,
        "frames": 1 if animation is None else animation.count,
        "profile": _profile_name(metadata.icc),
        "exif": None if metadata.exif is None else f"{len(metadata.exif)} bytes",
        "xmp": None if metadata.xmp is None else f"{len(metadata.xmp)} bytes",
        "dpi": metadata.dpi,
        "notes": list(picture.notes),
    }


def _profile_name(icc: bytes | None) -> str | None:
    if icc is None:
        return None
    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
    except (OSError, ImageCms.PyCMSError) as error:
        return f"broken ({describe(error)})"


def export_weights(source: Path, place: Path) -> None:
    """Write the CRAFT or DLGSANet in a file as `upstream.export` does. Raises ValueError."""
    network, _ = load_any(source)
    if not isinstance(network, Network):
        raise ValueError(f"{source} holds another network; needs CRAFT or DLGSANet")
    export(network, place)


def list_models() -> list[dict[str, Any]]:
    """The weights in the package, and those that the authors offer."""
    entries = read_catalogue(Path(__file__).with_name(CATALOGUE))
    papers = {key: entry.origin for entry in entries for key in (entry.name, entry.model)}
    rows = []
    for name, path in catalogue.SHIPPED.items():
        network, file = load_network(path)
        rows.append(
            {
                "name": name,
                "paper": papers.get(name),
                "scales": network.scale,
                "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
                "set5": file.card.get("set5_psnr"),
                "licence": "Apache-2.0",
                "where": "in this package",
            }
        )
    for published in catalogue.PUBLISHED:
        rows.append(
            {
                "name": published.name,
                "paper": papers.get(published.name),
                "scales": ", ".join(map(str, published.scales)),
                "parameters": published.parameters,
                "set5": published.set5,
                "licence": published.licence,
                "where": published.where,
            }
        )
    return rows


EXTRAS = {
    "video": ("av", "video files"),
    "any-model": ("spandrel", "weights of other architectures"),
    "metrics": ("pyiqa", "evaluate --metric"),
    "openvino": ("openvino", "upscale --backend openvino"),
}


def own_checks() -> Iterator[Callable[[], Check]]:
    """Are the weights there and whole, and which extras are installed?"""
    yield weights
    for extra in EXTRAS:
        yield partial(installed, extra)


def weights() -> Check:
    """Do the shipped weights load?"""
    scales = [load_network(path)[0].scale for path in catalogue.SHIPPED.values()]
    if not scales:
        advice = "install sigform-superres again"
        return Check(name="weights", status="fail", detail="none in the package", advice=advice)
    return Check(name="weights", status="ok", detail=", ".join(catalogue.SHIPPED))


def installed(extra: str) -> Check:
    """Is the package of an extra there?"""
    module, purpose = EXTRAS[extra]
    if importlib.util.find_spec(module) is None:
        advice = f"for {purpose}: pip install 'sigform-superres[{extra}]'"
        return Check(name=module, status="warn", detail="not installed", advice=advice)
    return Check(name=module, status="ok", detail=f"installed, for {purpose}")
