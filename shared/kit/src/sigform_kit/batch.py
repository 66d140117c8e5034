"""Many inputs, one command: planned and checked before the work, shared out, told one by one.

A command makes a task of each input: where it comes from and which files it becomes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sigform_kit.engines import run_items
from sigform_kit.errors import InputsFailedError, UsageError, describe
from sigform_kit.inputs import STDIN
from sigform_kit.manifest import Status, check_manifest, manifest
from sigform_kit.options import Common
from sigform_kit.outputs import STDOUT, check_targets

Record = dict[str, Any]
"""What a `--json` line says of one input."""

OnStage = Callable[[str, int, int | None], None]
"""Told what is done, the steps done and, where that is known, the steps in all."""


class Task(Protocol):
    """One input and every file that it becomes; `-` is stdin or stdout."""

    @property
    def source(self) -> Path: ...

    @property
    def outputs(self) -> Sequence[Path]: ...


AnyTask = TypeVar("AnyTask", bound=Task)


def is_folder(output: Path) -> bool:
    """Whether -o names a folder: one that is there, or a name without a suffix."""
    if str(output) == STDOUT:
        return False
    return output.is_dir() or not (output.suffix or output.exists())


def check_streams(tasks: Sequence[Task], common: Common, what: str) -> None:
    """Raises UsageError where a pipe would be shared by two inputs, processes or results.

    `what` goes to stdout, such as "the picture".
    """
    to_stdout = any(Path(STDOUT) in task.outputs for task in tasks)
    streams = to_stdout or Path(STDIN) in [task.source for task in tasks]
    if streams and (len(tasks) > 1 or common.engine != "local"):
        raise UsageError("- is stdin or stdout; needs a single input and --engine local")
    if to_stdout and common.json:
        raise UsageError(f"{what} and --json would share stdout; needs -o with a file")


def threads_of(common: Common) -> int | None:
    """Threads of each process: as asked, or all cores shared out among the jobs; None: torch's."""
    if common.threads is not None or common.jobs == 1:
        return common.threads
    return max(1, (os.cpu_count() or 1) // common.jobs)


def ready(tasks: Sequence[Task], common: Common) -> bool:
    """Checks every output; whether work is to begin, as with --dry-run the plan is only told.

    Raises what `check_targets` and `check_manifest` do.
    """
    report = [] if common.manifest is None else [common.manifest]
    for path in report:
        check_manifest(path, common.policy)
    wanted = check_targets(
        [*(path for task in tasks for path in task.outputs), *report],
        common.policy,
        inputs=[task.source for task in tasks],
        make_parents=True,
    )
    if not common.dry_run:
        return True
    plan = iter(wanted)
    for task in tasks:
        names = [str(path) for path in task.outputs if next(plan)]
        text = f"{task.source} -> {', '.join(names) or 'nothing: all of it exists'}"
        common.console.result({"input": str(task.source), "files": names}, text)
    return False


def share_out(
    tasks: Sequence[AnyTask],
    worker: Callable[[], Callable[[AnyTask], Record]],
    common: Common,
    *,
    label: str,
    show: Callable[[Record], None],
) -> None:
    """Has the processes of the engine do every task; shows and writes down each as it comes.

    `worker` is that of `run_items`. Raises InputsFailedError, at the end, if one or more failed.
    """
    failures: list[tuple[object, str]] = []
    with (
        manifest(common.manifest, common.policy) as tell,
        common.console.progress(label, len(tasks)) as advance,
    ):
        for outcome in run_items(
            tasks, worker, engine=common.engine, jobs=common.jobs, address=common.address
        ):
            task = outcome.item
            if outcome.ok and outcome.value is not None:
                tell(task.source, task.outputs, _status(outcome.value), outcome.seconds, None)
                show(outcome.value)
            else:
                reason = _without_name(outcome.error or "no result", task)
                tell(task.source, task.outputs, "failed", outcome.seconds, reason)
                failures.append((str(task.source), reason))
            advance()
    if failures:
        raise InputsFailedError(failures, len(tasks))


def do_alone(task: Task, work: Callable[[OnStage], Record], common: Common) -> Record:
    """Does the only task in this process, with a bar for each stage, and writes it down.

    Raises what `work` does.
    """
    with manifest(common.manifest, common.policy) as tell:
        begun = time.monotonic()
        try:
            with stage_progress(common) as on_progress:
                record = work(on_progress)
        except Exception as error:
            seconds, reason = time.monotonic() - begun, _without_name(describe(error), task)
            tell(task.source, task.outputs, "failed", seconds, reason)
            raise
        tell(task.source, task.outputs, _status(record), time.monotonic() - begun, None)
        return record


def _status(record: Record) -> Status:
    return "skipped" if record.get("status") == "skipped" else "done"


def _without_name(reason: str, task: Task) -> str:
    return reason.removeprefix(f"{task.source}: ")


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
                total = None if steps is None else steps - step + 1
                advance = bars.enter_context(common.console.progress(stage, total))
                shown = (stage, step - 1)
            for _ in range(step - shown[1]):
                advance()
            shown = (stage, step)
            if step == steps:
                bars.close()
                shown = None

        yield on_progress
