"""Which files a run of the command makes, planned and checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigform_kit.batch import is_folder, stage_progress
from sigform_kit.errors import InputError, UsageError
from sigform_kit.options import Common
from sigform_kit.outputs import STDOUT, check_targets

Record = dict[str, Any]
"""What a `--json` line says of one sample."""

FORMATS = {"image": ("png",), "video": ("mp4", "webm", "gif"), "av": ("mp4", "webm")}
"""What each kind is written as; the first unless another is asked for."""

MODES = ("unconditional", "predict", "backward", "interpolate", "animate", "complete")
"""What of a video is given; see `VideoGenerator`."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is asked of a run, apart from where its files go; None leaves it to the weights."""

    kind: str
    weights: str = "default"
    count: int = 1
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    threads: int | None = None
    batch_size: int | None = None
    steps: str | None = None
    truncation: float = 1.0
    guidance: float = 1.0
    label: int | None = None
    latents: Path | None = None
    sound_latents: Path | None = None
    mode: str = "unconditional"
    given: Path | None = None
    mask: tuple[int, int, int, int] | None = None  # left, top, width, height, pixels of the given


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One sample: its seed and every file that it becomes, the one it is asked for last."""

    seed: int
    files: tuple[Path, ...]
    format: str

    @property
    def target(self) -> Path:
        return self.files[-1]


def pieces_of(job: Job, output: Path, format: str | None) -> list[Piece]:
    """The samples of a run; each is named by its seed. Raises UsageError for names at odds."""
    known = FORMATS[job.kind]
    folder = is_folder(output)
    if not folder:
        if job.count > 1:
            raise UsageError(f"-o {output} names one file for {job.count} samples; needs a folder")
        suffix = output.suffix.lower().removeprefix(".")
        if str(output) != STDOUT and suffix not in known:
            raise UsageError(f"{output}: suffix is {output.suffix!r}; needs .{', .'.join(known)}")
        if format is not None and suffix and format != suffix:
            raise UsageError(f"--format is {format} and {output} is {suffix}; needs one of the two")
        format = format or suffix or None
    written = format or known[0]

    def piece(seed: int) -> Piece:
        if str(output) == STDOUT:
            return Piece(seed=seed, files=(output,), format=written)
        target = output / f"{job.kind}_{seed:05d}.{written}" if folder else output
        beside = [".json", ".wav"] if job.kind == "av" else [".json"]
        files = (*map(target.with_suffix, beside), target)
        return Piece(seed=seed, files=files, format=written)

    return [piece(job.seed + number) for number in range(job.count)]


def work_through(job: Job, pieces: Sequence[Piece], grid: Path | None, common: Common) -> None:
    """Makes every sample that is not there yet, and a picture of them all.

    Raises UsageError, InputError, ValueError and OSError in one line; what was written before
    stays, and every file is whole.
    """
    if job.given is not None and not job.given.exists():
        raise InputError(f"{job.given}: no such file or folder")
    if job.given is not None and job.given.is_dir():
        raise InputError(f"{job.given} is a folder; needs a file")
    files = [file for piece in pieces for file in piece.files]
    inputs = [] if job.given is None else [job.given]
    extra = [] if grid is None else [grid]
    wanted = check_targets([*files, *extra], common.policy, inputs=inputs, make_parents=True)
    to_write = {file for file, write in zip([*files, *extra], wanted, strict=True) if write}
    todo = [piece for piece in pieces if piece.target in to_write]
    if common.dry_run:
        for piece in todo:
            names = [str(file) for file in piece.files]
            text = f"seed {piece.seed} -> {', '.join(names)}"
            common.console.result({"seed": piece.seed, "files": names}, text)
        return
    for piece in pieces:
        if piece not in todo:
            common.console.say(f"{piece.target} exists; skipped")
    from sigform_generate.jobs import generate, write_grid

    if todo:
        with stage_progress(common) as on_progress:
            made = generate(
                job,
                todo,
                policy=common.policy,
                on_progress=on_progress,
                on_note=common.console.say,
            )
            for record in made:
                show(record, common)
    if grid is not None and (todo or grid in to_write):
        write_grid(pieces, job.kind, grid, "overwrite" if common.overwrite else "skip")
        common.console.say(f"grid: {grid}")


def show(record: Record, common: Common) -> None:
    """One sample on stdout; beside a picture that went there, on stderr."""
    line = f"seed {record['seed']} -> {', '.join(record['files'])}"
    if record["files"] == [STDOUT]:
        common.console.say(line)
    else:
        common.console.result(record, line)
