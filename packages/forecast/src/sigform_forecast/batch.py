"""Many inputs, one command: where each output goes, and who works on it.

Imported by the command line, so it stays on click and kit until there is work to do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sigform_forecast.jobs import SUFFIXES, Job, Targets, Task, stem_of
from sigform_kit.engines import run_items
from sigform_kit.errors import InputsFailedError, UsageError
from sigform_kit.inputs import STDIN, Input, expand_inputs
from sigform_kit.options import Common
from sigform_kit.outputs import STDOUT, check_targets


def tasks_for(
    files: Sequence[str], output: Path | None, plot: bool, report: bool, like: bool, common: Common
) -> list[Task]:
    """Each input with its outputs: beside it, in a folder, or under the name given.

    The outputs of an earlier run are no inputs, even where a folder or pattern names them.
    """
    inputs = expand_inputs(files, suffixes=SUFFIXES)
    folder = output is not None and is_folder(output)
    places = {item.path: place_of(item, output, folder) for item in inputs}
    made = {place for path, place in places.items() if place != path} - {Path(STDOUT)}
    for path in sorted(made.intersection(places)):
        common.console.say(f"{path} is a forecast itself; left out")
    inputs = [item for item in inputs if item.path not in made]
    if len(inputs) > 1 and output is not None and not folder:
        raise UsageError(f"-o {output} names one file for {len(inputs)} inputs; needs a folder")
    streams = Path(STDIN) in places or Path(STDOUT) in places.values()
    if streams and (len(inputs) > 1 or common.engine != "local"):
        raise UsageError("- is stdin or stdout; needs a single input and --engine local")
    if Path(STDOUT) in places.values() and common.json:
        raise UsageError("the table and --json would share stdout; needs -o with a file")
    return [
        Task(
            source=item.path,
            targets=Targets.beside(
                places[item.path], plot=plot, report=report, policy=common.policy, like=like
            ),
        )
        for item in inputs
    ]


def is_folder(output: Path) -> bool:
    """Whether -o names a folder: one that is there, or a name without a suffix."""
    if str(output) == STDOUT:
        return False
    return output.is_dir() or not (output.suffix or output.exists())


def place_of(item: Input, output: Path | None, folder: bool) -> Path:
    """Where the forecast of an input goes."""
    name = f"{stem_of(item.path)}_forecast.csv"
    if output is None:
        return Path(STDOUT) if str(item.path) == STDIN else item.path.with_name(name)
    return (output / item.relative).with_name(name) if folder else output


def work_through(job: Job, tasks: list[Task], common: Common) -> None:
    """Work on every task: a single one here, several by the engine; raises if one failed."""
    wanted = check_targets(
        [path for task in tasks for path in task.targets.all],
        common.policy,
        inputs=[task.source for task in tasks],
        make_parents=True,
    )
    if common.dry_run:
        plan = iter(wanted)
        for task in tasks:
            names = [str(path) for path in task.targets.all if next(plan)]
            text = f"{task.source} -> {', '.join(names) or 'nothing: all of it exists'}"
            common.console.result({"input": str(task.source), "files": names}, text)
        return
    from sigform_forecast.pipeline import run as run_task
    from sigform_forecast.pipeline import work_off

    if len(tasks) == 1 and common.engine == "local":
        from sigform_core.device import set_threads

        set_threads(threads_of(common))
        with stage_progress(common) as on_progress:
            record = run_task(job, tasks[0], say=common.console.say, on_progress=on_progress)
        show(record, common)
        return
    failures: list[tuple[object, str]] = []
    with common.console.progress("forecasting", len(tasks)) as advance:
        worker = partial(work_off, job, Path.cwd())
        for outcome in run_items(
            tasks, worker, engine=common.engine, jobs=common.jobs, address=common.address
        ):
            source = str(outcome.item.source)
            if outcome.ok and outcome.value is not None:
                for note in outcome.value.get("found", ()):
                    common.console.say(f"{source}: {note}")
                show(outcome.value, common)
            else:
                reason = outcome.error or "no result"
                failures.append((source, reason.removeprefix(f"{source}: ")))
            advance()
    if failures:
        raise InputsFailedError(failures, len(tasks))


def threads_of(common: Common) -> int:
    """Threads of each process: as asked, or half of the cores, shared out among the jobs.

    Small networks gain little from more, and lose tenfold where other programs hold the cores.
    """
    if common.threads is not None:
        return common.threads
    return max(1, (os.cpu_count() or 1) // (2 * common.jobs))


@contextlib.contextmanager
def stage_progress(common: Common) -> Iterator[Callable[[str, int, int | None], None]]:
    """Gives `on_progress(stage, step, steps)`; a bar a stage, drawn only on a terminal."""
    with contextlib.ExitStack() as bars:
        shown: list[str] = []
        advance: list[Callable[[], None]] = []

        def on_progress(stage: str, step: int, steps: int | None) -> None:
            if shown != [stage]:
                bars.close()
                # A resumed training does not begin at its first step.
                bar = common.console.progress(stage, (steps or step) - step + 1)
                shown[:], advance[:] = [stage], [bars.enter_context(bar)]
            advance[0]()
            if step == steps:
                bars.close()
                shown.clear()

        yield on_progress


def show(record: dict[str, Any], common: Common) -> None:
    """The result of one input, on stdout; beside a table that went there, on stderr."""
    if record["status"] == "skipped":
        common.console.say(f"{record['output']} exists; skipped")
        if common.json:
            common.console.result(record, "")
    elif record["output"] == STDOUT:
        common.console.say(record["summary"])
    else:
        wrote = [f"wrote {path}" for path in record["files"]]
        common.console.result(record, "\n".join([record["summary"], *wrote]))
