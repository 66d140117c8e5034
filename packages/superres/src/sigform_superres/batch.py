"""Many inputs, one command: where each output goes, and who works on it.

Imported by the command line, so it stays on click and kit until there is work to do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sigform_kit.engines import run_items
from sigform_kit.errors import InputsFailedError, UsageError
from sigform_kit.inputs import STDIN, Input, expand_inputs
from sigform_kit.options import Common
from sigform_kit.outputs import STDOUT, Policy, check_targets
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

OnStage = Callable[[str, int, int | None], None]  # what is done, steps done, steps in all


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
    def targets(self) -> list[Path]:
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
    made = {path for task in tasks for path in task.targets if path != task.source}
    for path in sorted(made.intersection(task.source for task in tasks)):
        common.console.say(f"{path} is the output of another input; left out")
    tasks = [task for task in tasks if task.source not in made]
    if len(tasks) > 1 and output is not None and not folder:
        raise UsageError(f"-o {output} names one file for {len(tasks)} inputs; needs a folder")
    if len(tasks) > 1 and compare not in (None, *COMPARISONS):
        raise UsageError(f"--compare {compare} names one file for {len(tasks)} inputs")
    to_stdout = Path(STDOUT) in [task.target for task in tasks]
    streams = to_stdout or Path(STDIN) in [task.source for task in tasks]
    if streams and (len(tasks) > 1 or common.engine != "local"):
        raise UsageError("- is stdin or stdout; needs a single input and --engine local")
    if to_stdout and common.json:
        raise UsageError("the picture and --json would share stdout; needs -o with a file")
    return tasks


def is_folder(output: Path) -> bool:
    """Whether -o names a folder: one that is there, or a name without a suffix."""
    if str(output) == STDOUT:
        return False
    return output.is_dir() or not (output.suffix or output.exists())


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
    wanted = check_targets(
        [path for task in tasks for path in task.targets],
        common.policy,
        inputs=[task.source for task in tasks],
        make_parents=True,
    )
    if common.dry_run:
        plan = iter(wanted)
        for task in tasks:
            names = [str(path) for path in task.targets if next(plan)]
            text = f"{task.source} -> {', '.join(names) or 'nothing: all of it exists'}"
            common.console.result({"input": str(task.source), "files": names}, text)
        return
    from sigform_superres.jobs import run as run_task
    from sigform_superres.jobs import work_off

    if len(tasks) == 1 and common.engine == "local":
        from sigform_core.device import set_threads

        set_threads(job.threads)
        with stage_progress(common) as on_progress:
            record = run_task(job, tasks[0], on_progress=on_progress)
        show(record, common)
        return
    failures: list[tuple[object, str]] = []
    with common.console.progress("upscaling", len(tasks)) as advance:
        worker = partial(work_off, job, Path.cwd())
        for outcome in run_items(
            tasks, worker, engine=common.engine, jobs=common.jobs, address=common.address
        ):
            source = str(outcome.item.source)
            if outcome.ok and outcome.value is not None:
                show(outcome.value, common)
            else:
                reason = outcome.error or "no result"
                failures.append((source, reason.removeprefix(f"{source}: ")))
            advance()
    if failures:
        raise InputsFailedError(failures, len(tasks))


def threads_of(common: Common) -> int | None:
    """Threads of each process: as asked, or all cores shared out among the jobs; None: torch's."""
    if common.threads is not None or common.jobs == 1:
        return common.threads
    return max(1, (os.cpu_count() or 1) // common.jobs)


@contextlib.contextmanager
def stage_progress(common: Common) -> Iterator[OnStage]:
    """Gives `on_progress(stage, step, steps)`; a bar a stage, drawn only on a terminal."""
    with contextlib.ExitStack() as bars:
        shown: tuple[str, int] | None = None  # the stage with a bar, and its last step
        advance: Callable[[], None] = lambda: None  # noqa: E731 - until there is a bar

        def on_progress(stage: str, step: int, steps: int | None) -> None:
            nonlocal shown, advance
            if shown is None or shown[0] != stage:
                bars.close()
                # A resumed training does not begin at its first step.
                bar = common.console.progress(stage, (steps or step) - step + 1)
                advance = bars.enter_context(bar)
                advance()
            elif shown[1] != step:
                advance()
            shown = (stage, step)
            if step == steps:
                bars.close()
                shown = None

        yield on_progress


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
