"""Many inputs, one command: where each output goes, and who works on it.

Imported by the command line, so it stays on click and kit until there is work to do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sigform_forecast.jobs import SUFFIXES, Job, Targets, Task, stem_of
from sigform_kit.batch import check_streams, do_alone, is_folder, ready, share_out
from sigform_kit.errors import UsageError
from sigform_kit.inputs import STDIN, Input, expand_inputs
from sigform_kit.options import Common
from sigform_kit.outputs import STDOUT


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
    tasks = [
        Task(
            source=item.path,
            targets=Targets.beside(
                places[item.path], plot=plot, report=report, policy=common.policy, like=like
            ),
        )
        for item in inputs
    ]
    check_streams(tasks, common, "the table")
    return tasks


def place_of(item: Input, output: Path | None, folder: bool) -> Path:
    """Where the forecast of an input goes."""
    name = f"{stem_of(item.path)}_forecast.csv"
    if output is None:
        return Path(STDOUT) if str(item.path) == STDIN else item.path.with_name(name)
    return (output / item.relative).with_name(name) if folder else output


def work_through(job: Job, tasks: list[Task], common: Common) -> None:
    """Work on every task: a single one here, several by the engine; raises if one failed."""
    if not ready(tasks, common):
        return
    from sigform_forecast.pipeline import run, work_off

    if len(tasks) == 1 and common.engine == "local":
        from sigform_core.device import set_threads

        set_threads(threads_of(common))
        say = common.console.say
        record = do_alone(
            tasks[0],
            lambda on_progress: run(job, tasks[0], say=say, on_progress=on_progress),
            common,
        )
        show(record, common)
        return

    def show_with_findings(record: dict[str, Any]) -> None:
        for note in record.get("found", ()):
            common.console.say(f"{record['input']}: {note}")
        show(record, common)

    worker = partial(work_off, job, Path.cwd())
    share_out(tasks, worker, common, label="forecasting", show=show_with_findings)


def threads_of(common: Common) -> int:
    """Threads of each process: as asked, or half of the cores, shared out among the jobs.

    Small networks gain little from more, and lose tenfold where other programs hold the cores.
    """
    if common.threads is not None:
        return common.threads
    return max(1, (os.cpu_count() or 1) // (2 * common.jobs))


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
