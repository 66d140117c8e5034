"""Visits: one open page each, whose files nobody else sees and which go when it closes.

A file that is uploaded lies where Gradio puts it, under a name made from what it holds: two visits
that upload the same share it, and it goes with the later one. Results lie in folders with names
that cannot be guessed.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


class StoppedError(Exception):
    """The visitor asked for an end, or left."""


@dataclass(frozen=True)
class Progress:
    """What a job is at; `share` of it is done, 0 to 1, where that is known."""

    text: str
    share: float | None = None


class Job:
    """One press of a button: a folder for its results, how far it is, and whether to stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress = Progress("waiting for its turn")
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._running = False
        self._discarded = False

    def report(self, text: str, done: float | None = None, total: float | None = None) -> None:
        """Say how far the work is. Raises StoppedError once somebody asked for its end."""
        if self._stop.is_set():
            raise StoppedError
        share = None if done is None or not total else min(1.0, max(0.0, done / total))
        self.progress = Progress(text, share)

    def stop(self) -> None:
        """Ask for the end of the work, which comes at its next report."""
        self._stop.set()

    def discard(self) -> None:
        """Stop the work and remove the folder, as soon as nothing is written there any more."""
        self._stop.set()
        with self._lock:
            self._discarded = True
            if not self._running:
                shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def running(self) -> bool:
        return self._running

    def run(self, work: Callable[[], Result]) -> Result:
        """Do the work, whose folder is there meanwhile. Raises StoppedError if it is not wanted."""
        with self._lock:
            if self._stop.is_set():
                raise StoppedError
            self.folder.mkdir(parents=True)
            self._running = True
        try:
            return work()
        finally:
            with self._lock:
                self._running = False
                if self._discarded:
                    shutil.rmtree(self.folder, ignore_errors=True)


class Visits:
    """All visits of a studio by the name that Gradio gives each; every tab of one has one job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._jobs: dict[tuple[str, str], Job] = {}
        self._uploads: dict[tuple[str, str], Path] = {}

    def begin(self, visit: str, tab: str) -> Job:
        """A new job; that which the tab had before is discarded with its results."""
        job = Job(self._folder / secrets.token_hex(16))
        with self._lock:
            before = self._jobs.get((visit, tab))
            self._jobs[visit, tab] = job
        if before is not None:
            before.discard()
        return job

    def job(self, visit: str, tab: str) -> Job | None:
        """The job of a tab, if it has one."""
        return self._jobs.get((visit, tab))

    def keep(self, visit: str, tab: str, upload: Path | None) -> None:
        """Note the upload that a tab works on now; the one before it goes."""
        with self._lock:
            before = self._uploads.pop((visit, tab), None)
            if upload is not None:
                self._uploads[visit, tab] = upload
            self._release(before)

    def end(self, visit: str) -> None:
        """The page was closed: stop its jobs, remove its files."""
        with self._lock:
            jobs = [self._jobs.pop(key) for key in [*self._jobs] if key[0] == visit]
            for key in [key for key in self._uploads if key[0] == visit]:
                self._release(self._uploads.pop(key))
        for job in jobs:
            job.discard()

    def close(self, patience: float = 5.0) -> None:
        """End all visits; wait so many seconds for work that has not stopped yet."""
        with self._lock:
            jobs = list(self._jobs.values())
            visits = {visit for visit, _ in [*self._jobs, *self._uploads]}
        for visit in visits:
            self.end(visit)
        until = time.monotonic() + patience
        while any(job.running for job in jobs) and time.monotonic() < until:
            time.sleep(0.05)

    def _release(self, upload: Path | None) -> None:
        if upload is not None and upload not in self._uploads.values():
            upload.unlink(missing_ok=True)
            if not any(upload.parent.iterdir()):
                upload.parent.rmdir()
