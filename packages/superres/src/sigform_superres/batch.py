"""Many inputs, one command: where each output goes, and who works on it.

Imported by the command line, so it stays on click and kit until there is work to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sigform_kit.batch import check_streams, do_alone, is_folder, ready, share_out
from sigform_kit.errors import UsageError
from sigform_kit.inputs import STDIN, Input, expand_inputs
from sigform_kit.options import Common
from sigform_kit.outputs import STDOUT, Policy
from sigform_superres import catalogue

# The first suffix is the one that outputs get.
FORMATS = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp",),
    "avif": (".avif",),
    "gif": (".gif",),
}
PICTURES = {suffix: name for name, suffixes in FORMATS.items() for suffix in suffixes}
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
COMPARISONS = ("png", "html")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to do with every input: plain values that travel to every worker.

    The smallest of `scales` that reaches the size is what the network does; a resampler does the
    rest. Sizes are in pixels.
    """

    weights: str = "default"
    scales: tuple[int, ...] = (4,)
    factor: float | None = None
    width: int | None = None
    height: int | None = None
    quality: int | None = None
    strip: bool = False
    tile: int | None = None
    ensemble: bool = False
    device: str = "auto"
    dtype: str = "auto"
    backend: str = "torch"
    threads: int | None = None

    @property
    def sized(self) -> bool:
        """Whether another size is asked for than what the network gives."""
        return any(size is not None for size in (self.factor, self.width, self.height))

    @property
    def ending(self) -> str:
        """What the name of an output says: x4, x2.5, w800, h600 or 800x600."""
        if self.factor is not None:
            return f"x{self.factor:g}"
        if self.width is not None and self.height is not None:
            return f"{self.width}x{self.height}"
        if self.sized:
            return f"w{self.width}" if self.height is None else f"h{self.height}"
        return f"x{self.scales[0]}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One input and where its outputs go; "-" is stdin or stdout.

    `format` is one of FORMATS, None for a video. `comparison` is a .png or .html file.
    """

    source: Path
    target: Path
    format: str | None
    comparison: Path | None = None
    policy: Policy = "refuse"

    @property
    def outputs(self) -> list[Path]:
        """Every file that will be there."""
        return [self.target] if self.comparison is None else [self.target, self.comparison]


def scales_of(weights: str, scale: int | None, *, sized: bool) -> tuple[int, ...]:
    """The scales to choose from: the one asked for, those shipped, or what a file does.

    Raises ValueError or OSError for weights that cannot be found or read.
    """
    if scale is not None:
        return (scale,)
    name = catalogue.DEFAULT if weights == "default" else weights
    shipped = tuple(s for s in catalogue.SCALES if f"{name}-x{s}" in catalogue.SHIPPED)
    if shipped:
        return shipped if sized else shipped[-1:]
    path = catalogue.find_weights(weights, None)
    from sigform_superres.upstream import load_any

    return (load_any(path)[1],)


def tasks_for(
    files: Sequence[str],
    job: Job,
    common: Common,
    *,
    output: Path | None = None,
    format: str | None = None,
    compare: str | None = None,
) -> list[Task]:
    """Each input with its outputs: beside it, in a folder, or under the name given.

    The outputs of an earlier run are no inputs, even where a folder or pattern names them. Raises
    UsageError for what does not go together, InputError for a name that stands for no file.
    """
    folder = output is not None and is_folder(output)

    def task_of(item: Input) -> Task:
        target = target_of(item, job, output, format, folder=folder)
        return Task(
            source=item.path,
            target=target,
            format=format_of(item.path, target, format),
            comparison=comparison_of(item.path, target, compare),
            policy=common.policy,
        )

    tasks = [task_of(item) for item in expand_inputs(files, suffixes=PICTURES)]
    made = {path for task in tasks for path in task.outputs if path != task.source}
    for path in sorted(made.intersection(task.source for task in tasks)):
        common.console.say(f"{path} is the output of another input; left out")
    tasks = [task for task in tasks if task.source not in made]
    if len(tasks) > 1 and output is not None and not folder:
        raise UsageError(f"-o {output} names one file for {len(tasks)} inputs; needs a folder")
    if len(tasks) > 1 and compare not in (None, *COMPARISONS):
        raise UsageError(f"--compare {compare} names one file for {len(tasks)} inputs")
    check_streams(tasks, common, "the picture")
    return tasks


def target_of(
    item: Input, job: Job, output: Path | None, format: str | None, *, folder: bool
) -> Path:
    """Where the result of an input goes."""
    if output is not None and not folder:
        return output
    stdin = str(item.path) == STDIN
    if output is None and stdin:
        return Path(STDOUT)
    suffix = item.path.suffix
    if suffix.lower() not in VIDEOS:
        if format is not None:
            suffix = FORMATS[format][0]
        elif suffix.lower() not in PICTURES:
            suffix = ".png"
    name = f"{'stdin' if stdin else item.path.stem}_{job.ending}{suffix}"
    return item.path.with_name(name) if output is None else (output / item.relative).with_name(name)


def format_of(source: Path, target: Path, asked: str | None) -> str | None:
    """The format of a result, None for a video. Raises UsageError where the names do not tell."""
    suffix = target.suffix.lower()
    if source.suffix.lower() in VIDEOS:
        if suffix not in VIDEOS:
            raise UsageError(f"{source} is a video and {target} is not; needs {', '.join(VIDEOS)}")
        return None
    if str(target) == STDOUT:
        return asked or PICTURES.get(source.suffix.lower(), "png")
    named = PICTURES.get(suffix)
    if asked is not None and named not in (None, asked):
        raise UsageError(f"--format is {asked} and {target} is {named}; needs one of the two")
    format = asked or named
    if format is None:
        known = ", ".join(suffixes[0] for suffixes in FORMATS.values())
        raise UsageError(f"{target}: suffix is {target.suffix!r}; needs {known}, or --format")
    return format


def comparison_of(source: Path, target: Path, compare: str | None) -> Path | None:
    """Where before and after go side by side; None where nobody asked."""
    if compare is None:
        return None
    if source.suffix.lower() in VIDEOS:
        raise UsageError(f"{source} is a video; --compare needs pictures")
    if compare not in COMPARISONS:
        return Path(compare)
    if str(target) == STDOUT:
        raise UsageError(f"--compare {compare} has no name beside stdout; needs a file name")
    return target.with_name(f"{target.stem}_compare.{compare}")


def work_through(job: Job, tasks: list[Task], common: Common) -> None:
    """Work on every task: a single one here, several by the engine; raises if one failed."""
    if not ready(tasks, common):
        return
    from sigform_superres.jobs import run, work_off

    if len(tasks) == 1 and common.engine == "local":
        from sigform_core.device import set_threads

        set_threads(job.threads)
        record = do_alone(
            tasks[0], lambda on_progress: run(job, tasks[0], on_progress=on_progress), common
        )
        show(record, common)
        return
    worker = partial(work_off, job, Path.cwd())
    share_out(tasks, worker, common, label="upscaling", show=lambda record: show(record, common))


def show(record: dict[str, Any], common: Common) -> None:
    """The result of one input, on stdout; beside a picture that went there, on stderr."""
    for note in record.get("notes", ()):
        common.console.say(f"{record['input']}: {note}")
    if record["status"] == "skipped":
        common.console.say(f"{record['output']} exists; skipped")
        if common.json:
            common.console.result(record, "")
    elif record["output"] == STDOUT:
        common.console.say(line_of(record))
    else:
        common.console.result(record, line_of(record))


def line_of(record: dict[str, Any]) -> str:
    """What was made of which input, for a reader."""
    source, target = record["input"], record["output"]
    if record["size"] is None:
        return f"{source} -> {target}"
    parts = [f"{source} ({record['from']}) -> {target} ({record['size']})"]
    if record["frames"] > 1:
        parts.append(f"{record['frames']} frames")
    if record["comparison"] is not None:
        parts.append(record["comparison"])
    return ", ".join(parts)
