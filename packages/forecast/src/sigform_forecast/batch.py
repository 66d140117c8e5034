"""Many inputs, one command: where each output goes, and who works on it.

Imported by the command line, so it stays on click and kit until there is work to do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sigform_kit.engines import run_items
from sigform_kit.errors import InputsFailedError
from sigform_kit.inputs import expand_inputs
from sigform_kit.options import Common
from sigform_kit.outputs import STDOUT, check_targets

if TYPE_CHECKING:
    from sigform_forecast.pipeline import Job, Task


def tasks_for(
    files: Sequence[str], output: Path | None, plot: bool, report: bool, like: bool, common: Common
) -> list[Task]:
    """Each input with its outputs: beside it, in a folder, or under the name given."""
    from sigform_forecast.pipeline import SUFFIXES, Targets, Task

    inputs = expand_inputs(files, suffixes=SUFFIXES)
    folder = output is not None and (output.is_dir() or not output.suffix) and str(output) != STDOUT
    if len(inputs) > 1 and output is not None and not folder:
        raise click.UsageError(
            f"-o {output} names one file for {len(inputs)} inputs; needs a folder"
        )
    tasks = []
    for item in inputs:
        stem = item.path.name.removesuffix(".gz")
        name = f"{Path(stem).stem}_forecast.csv"
        if str(item.path) == STDOUT:
            place = Path(STDOUT) if output is None else output
            place = place / "stdin_forecast.csv" if folder else place
        elif output is None:
            place = item.path.with_name(name)
        else:
            place = (output / item.relative).with_name(name) if folder else output
        targets: Targets = Targets.beside(
            place, plot=plot, report=report, policy=common.policy, like=like
        )
        tasks.append(Task(source=item.path, targets=targets))
    return tasks


def work_through(job: Job, tasks: list[Task], common: Common) -> None:
    """Work on every task: a single one here, several by the engine; raises if one failed."""
    from sigform_forecast.pipeline import run as run_task
    from sigform_forecast.pipeline import work_off

    if common.dry_run:
        for task in tasks:
            names = [str(path) for path in task.targets.all]
            common.console.result(
                {"input": str(task.source), "files": names}, f"{task.source} -> {', '.join(names)}"
            )
        return
    check_targets(
        [path for task in tasks for path in task.targets.all],
        common.policy,
        inputs=[task.source for task in tasks],
        make_parents=True,
    )
    if len(tasks) == 1 and common.engine == "local":
        from sigform_core.device import set_threads

        set_threads(common.threads)
        with stage_progress(common) as on_progress:
            record = run_task(job, tasks[0], say=common.console.say, on_progress=on_progress)
        show(record, common)
        return
    failures: list[tuple[object, str]] = []
    with common.console.progress("forecasting", len(tasks)) as advance:
        worker = partial(work_off, job)
        for outcome in run_items(
            tasks, worker, engine=common.engine, jobs=common.jobs, address=common.address
        ):
            if outcome.ok and outcome.value is not None:
                show(outcome.value, common)
            else:
                failures.append((outcome.item.source, outcome.error or "no result"))
            advance()
    if failures:
        raise InputsFailedError(failures, len(tasks))


def threads_of(common: Common) -> int | None:
    """Threads of each process: as asked, or the cores shared out among several jobs."""
    if common.threads is not None or common.jobs == 1:
        return common.threads
    return max(1, (os.cpu_count() or 1) // common.jobs)


@contextlib.contextmanager
def stage_progress(common: Common) -> Iterator[Callable[[str, int, int | None], None]]:
    """Gives `on_progress(stage, step, steps)`; a bar a stage, drawn only on a terminal."""
    with contextlib.ExitStack() as bars:
        shown: list[str] = []
        advance: list[Callable[[], None]] = []

        def on_progress(stage: str, step: int, steps: int | None) -> None:
            if shown != [stage]:
                bars.close()
                bar = common.console.progress(stage, steps or step)
                shown[:], advance[:] = [stage], [bars.enter_context(bar)]
            advance[0]()

        yield on_progress


def show(record: dict[str, Any], common: Common) -> None:
    """The result of one input, on stdout; a table that went there stands alone."""
    if record["output"] == "-" and not common.json:
        return
    if record["status"] == "skipped":
        common.console.say(f"{record['output']} exists; skipped")
        if common.json:
            common.console.result(record, "")
        return
    lines = [record["summary"]]
    lines += [f"wrote {path}" for path in record["files"]]
    common.console.result(record, "\n".join(lines))
