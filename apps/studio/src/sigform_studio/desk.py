"""What every tab stands on: a file that is dropped, a button that runs, progress, results, an end.

A tab gives a function of its job and its inputs; it is called in a thread of its own, tells the job
how far it is, and gives the new values of the outputs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sigform_kit.errors import InputError, describe
from sigform_studio.look import error_line, status_line
from sigform_studio.visits import Job, StoppedError, Visits

logger = logging.getLogger("sigform_studio")

POLL_SECONDS = 0.2
"""Between two looks at how far a job is."""

Work = Callable[..., Sequence[Any]]
EXPECTED = (ValueError, OSError, MemoryError, InputError)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What the tabs of a studio share: visits, and what was said on the command line."""

    visits: Visits
    device: str = "auto"
    threads: int | None = None

    def drop(self, tab: str, label: str, suffixes: Sequence[str]) -> gr.File:
        """A place for one file of a visit, given to work as its path."""
        box = gr.File(
            label=label, file_types=list(suffixes), height=150, elem_id=f"{tab}-file",
            elem_classes="sf-drop",
        )  # fmt: skip
        # Gradio's own leaves an empty temporary file behind each time.
        box.preprocess = uploaded_path

        def keep(path: str | None, request: gr.Request) -> None:
            self.visits.keep(visit_of(request), tab, None if path is None else Path(path))

        box.change(keep, box, None, queue=False, show_progress="hidden", api_visibility="private")
        return box

    def buttons(self, tab: str, text: str) -> tuple[gr.Button, gr.Button, gr.HTML]:
        """Run, stop, and the line that says how it goes."""
        with gr.Row():
            run = gr.Button(text, variant="primary", elem_id=f"{tab}-run")
            stop = gr.Button("Stop", visible=False, elem_id=f"{tab}-stop", elem_classes="sf-stop")
        return run, stop, gr.HTML(elem_id=f"{tab}-status")

    def wire(
        self,
        tab: str,
        controls: tuple[gr.Button, gr.Button, gr.HTML],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        work: Work,
    ) -> None:
        """Have the button do the work; one visitor's after the other's, each in its own folder."""
        run, stop, status = controls
        places = [status, run, stop, *outputs]
        cleared = [gr.update(value=None, visible=False) for _ in outputs]

        def prepare(request: gr.Request) -> list[Any]:
            job = self.visits.begin(visit_of(request), tab)
            return [*running(job), *cleared]

        def follow(request: gr.Request, *given: Any) -> Iterator[list[Any]]:
            job = self.visits.job(visit_of(request), tab)
            kept = [gr.skip() for _ in outputs]
            if job is None:
                yield [*idle(error_line("The page was closed meanwhile; run it again.")), *kept]
                return
            outcome = Outcome()
            thread = threading.Thread(
                target=outcome.fill, args=(job, work, given), name=f"studio-{tab}", daemon=True
            )
            thread.start()
            told = None
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                if job.progress != told:
                    told = job.progress
                    yield [*running(job), *kept]
            if outcome.values is None:
                yield [*idle(outcome.line), *kept]
            else:
                yield [*idle(""), *outcome.values]

        def halt(request: gr.Request) -> Any:
            job = self.visits.job(visit_of(request), tab)
            if job is not None:
                job.stop()
            return status_line("stopping", None)

        plain: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        started = run.click(prepare, None, places, queue=False, **plain)
        started.then(follow, list(inputs), places, concurrency_limit=1, concurrency_id=tab, **plain)
        stop.click(halt, None, status, queue=False, **plain)


class Outcome:
    """What became of a job: values for the outputs, or the line that says why there are none."""

    def __init__(self) -> None:
        self.values: Sequence[Any] | None = None
        self.line = ""

    def fill(self, job: Job, work: Work, given: Sequence[Any]) -> None:
        """Do the work; whatever ends it early becomes one line."""
        try:
            self.values = job.run(lambda: work(job, *given))
        except StoppedError:
            self.line = status_line("Stopped.", None, busy=False)
        except EXPECTED as error:
            self.line = error_line(without_folders(describe(error), job, given))
        except Exception as error:  # the last resort of every job
            logger.exception("a job failed")
            self.line = error_line(without_folders(describe(error), job, given))


def running(job: Job) -> list[Any]:
    """Status, run and stop while a job is at work."""
    line = status_line(job.progress.text, job.progress.share)
    return [line, gr.update(interactive=False), gr.update(visible=True)]


def idle(line: str) -> list[Any]:
    """Status, run and stop when nothing is at work."""
    return [line, gr.update(interactive=True), gr.update(visible=False)]


def shown(value: Any) -> Any:
    """A result for an output, which is hidden while there is none."""
    return gr.update(value=value, visible=True)


def needed(path: str | None, what: str) -> Path:
    """The file that was dropped. Raises InputError where there is none."""
    if path is None:
        raise InputError(f"Nothing to work on yet: drop {what} first.")
    if not Path(path).is_file():
        raise InputError("The file is gone, as its page was closed meanwhile; drop it again.")
    return Path(path)


def visit_of(request: gr.Request) -> str:
    """What tells one open page from another."""
    return request.session_hash or ""


def uploaded_path(payload: Any) -> str | None:
    """The path of what was dropped, as Gradio tells it."""
    return None if payload is None else str(payload.path)


def without_folders(text: str, job: Job, given: Sequence[Any]) -> str:
    """A message without the folders of the studio, which say nothing to its reader."""
    folders = [job.folder, *(Path(value).parent for value in given if isinstance(value, str))]
    for folder in folders:
        if folder.is_absolute():
            text = text.replace(f"{folder}/", "")
    return text
