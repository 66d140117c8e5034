"""Runs a domain's command in a forked process of its own, under conditions of our choice.

Importing torch takes seconds; the forked processes come from a server that has it, so that a
signal meets the work and not the imports.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import random
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

import psutil

from sigform_kit import local_engine
from sigform_kit.running import run

FORKS = multiprocessing.get_context("forkserver")

NOBODY = 65534
PATIENCE = 120.0
"""Seconds after which a command hangs."""

Condition = Callable[[], None]
"""Called in the process before the command; must be picklable."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative for a signal) and what it said."""

    code: int
    told: str
    seconds: float

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.told.splitlines() if "error:" in line]


class Running:
    """A command under way; `begun` is when its work could begin."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self._process = process
        self._pipe = pipe
        self._told = b""
        self.pid = process.pid or 0
        while not self._told.startswith(b"ready\n") and self._read(PATIENCE):
            pass
        self.begun = time.monotonic()

    def send(self, number: signal.Signals) -> None:
        """As from a terminal, where Ctrl-C reaches every process; others reach the first alone."""
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGINT:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    def workers(self) -> list[psutil.Process]:
        """The worker processes of the command."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.pid).children(recursive=True)
            return [child for child in children if "resource_tracker" not in _words(child)]
        return []

    def end(self) -> Ended:
        """Waits until the command and all that it started are gone."""
        while self._read(PATIENCE):
            if time.monotonic() - self.begun > PATIENCE:
                break
        self._process.join(PATIENCE)
        code = self._process.exitcode
        if code is None:
            os.killpg(self.pid, signal.SIGKILL)
            raise TimeoutError(f"a command still runs after {PATIENCE:.0f} s")
        self._pipe.close()
        told = self._told.decode(errors="replace").removeprefix("ready\n")
        return Ended(code, told, time.monotonic() - self.begun)

    def _read(self, seconds: float) -> bool:
        """Takes what was said; False when nobody is left who could say more."""
        if not self._pipe.poll(seconds):
            return False
        piece = os.read(self._pipe.fileno(), 1 << 16)
        self._told += piece
        return bool(piece)


def preload(modules: Sequence[str]) -> None:
    """What the processes have imported, those of the first call in this process."""
    FORKS.set_forkserver_preload([*modules])


def prepared(prepare: Callable[[Path], None], folder: Path) -> None:
    """Has a folder filled, in a process of its own."""
    process = FORKS.Process(target=prepare, args=(folder,))
    process.start()
    process.join(10 * PATIENCE)
    if process.exitcode != 0:
        raise RuntimeError(f"{prepare.__name__} ends with {process.exitcode}")


def start(
    app: str, words: Sequence[object], folder: Path, conditions: Sequence[Condition] = ()
) -> Running:
    """Starts the command of the app at "module:attribute" in `folder`."""
    ours, theirs = FORKS.Pipe(duplex=False)
    process = FORKS.Process(
        target=_live, args=(theirs, app, [str(word) for word in words], folder, [*conditions])
    )
    process.start()
    theirs.close()
    return Running(process, ours)


def finish(app: str, words: Sequence[object], folder: Path, *conditions: Condition) -> Ended:
    """Runs the command to its end."""
    return start(app, words, folder, conditions).end()


def _live(
    pipe: Connection, app: str, words: list[str], folder: Path, conditions: list[Condition]
) -> None:
    os.setsid()
    os.chdir(folder)
    os.dup2(pipe.fileno(), 1)
    os.dup2(pipe.fileno(), 2)
    pipe.close()
    home = folder.parent / "home"
    os.environ.update(
        HOME=str(home), MPLCONFIGDIR=str(home), SIGFORM_CACHE=str(home), TMPDIR=str(home),
        MNE_HOME=str(home), OMP_NUM_THREADS="1",
    )  # fmt: skip
    # Made anew, as those of the server know another file.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    # A background job is deaf to Ctrl-C; a command at a terminal is not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module, _, attribute = app.partition(":")
    command: Any = getattr(importlib.import_module(module), attribute)
    try:
        os.write(1, b"ready\n")
        for condition in conditions:
            condition()
        code = run(command, words)
    except KeyboardInterrupt:
        # Ours: within `run` it is told and counted.
        code = 130
    sys.exit(code)


def _words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


# --- conditions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LargestFile:
    """The disk is full: no file grows beyond `size` bytes."""

    size: int

    def __call__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


def full_stdout() -> None:
    """stdout goes to a full disk."""
    device = os.open("/dev/full", os.O_WRONLY)
    os.dup2(device, 1)
    os.close(device)


def as_nobody() -> None:
    """No rights beyond those of any user."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


@dataclass(frozen=True)
class ClockJumps:
    """Whenever a Python program asks for the time of day it is up to ten years off."""

    seed: int

    def __call__(self) -> None:
        draw = random.Random(self.seed)
        now, now_ns = time.time, time.time_ns
        reach = 10 * 365 * 86400
        time.time = lambda: now() + draw.uniform(-reach, reach)
        time.time_ns = lambda: now_ns() + draw.randrange(-reach, reach) * 10**9


def forked_workers() -> None:
    """The worker processes of a batch are forked: the same life without the imports at its start.

    Each start of a fresh interpreter with torch costs seconds of no interest here.
    """
    fork, get_context = multiprocessing.get_context("fork"), multiprocessing.get_context

    def forking(method: str | None = None) -> Any:
        return fork if method == "spawn" else get_context(method)

    multiprocessing.get_context = forking
    serve = local_engine._serve

    def serve_alone(pipe: Connection, worker: bytes) -> None:
        # A fork holds the parent's ends of all pipes, its own too, and would outlive the parent.
        for entry in list(Path("/proc/self/fd").iterdir()):
            with contextlib.suppress(OSError):
                number = int(entry.name)
                if number != pipe.fileno() and stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.close(number)
        serve(pipe, worker)

    local_engine._serve = serve_alone


def no_network() -> None:
    """Whoever looks a name up or connects is refused, and it is told on stderr."""

    def refuse(*_: object, **__: object) -> NoReturn:
        os.write(2, b"the network was asked\n")
        raise OSError(101, "Network is unreachable")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse
