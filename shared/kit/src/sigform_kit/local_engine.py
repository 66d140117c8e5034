"""Worker processes on this machine, each started fresh (spawn) and talked to through a pipe."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from sigform_kit.engines import Died, Seat
from sigform_kit.workplace import Workplace

PATIENCE = 5.0
"""Seconds a process has to end by itself before it is killed."""


@dataclass(frozen=True)
class _Child:
    process: SpawnProcess
    pipe: Connection


class LocalBackend:
    """The `engines.Backend` of `--engine local`."""

    def __init__(self, worker: bytes) -> None:
        self._worker = worker
        self._seats = count()
        self._children: dict[Seat, _Child] = {}
        self._leaving: list[SpawnProcess] = []

    def start(self) -> Seat:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self._worker), name="sigform-worker", daemon=True
        )
        with theirs, _signals_held():
            process.start()
        seat = next(self._seats)
        self._children[seat] = _Child(process, ours)
        return seat

    def give(self, seat: Seat, item: bytes) -> None:
        # A process that died meanwhile is found by replies().
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._children[seat].pipe.send_bytes(item)

    def replies(self) -> list[tuple[Seat, bytes | Died]]:
        signs: dict[Any, Seat] = {}
        for seat, child in self._children.items():
            signs[child.pipe] = signs[child.process.sentinel] = seat
        ready = multiprocessing.connection.wait(signs)
        return [(seat, self._reply(seat)) for seat in {signs[sign] for sign in ready}]

    def stop(self, seat: Seat) -> None:
        child = self._children.pop(seat)
        child.pipe.close()
        self._leaving.append(child.process)

    def close(self) -> None:
        for child in self._children.values():
            child.process.terminate()
        for seat in list(self._children):
            self.stop(seat)
        for process in self._leaving:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._leaving.clear()

    def _reply(self, seat: Seat) -> bytes | Died:
        child = self._children[seat]
        # A process may have replied and died since: the reply counts first.
        with contextlib.suppress(EOFError, OSError):
            if child.pipe.poll():
                return child.pipe.recv_bytes()
        self.stop(seat)
        child.process.join(PATIENCE)
        cause = _cause(child.process.exitcode)
        if not child.process.is_alive():
            # Each holds a file descriptor, and in a long run many may die.
            self._leaving.remove(child.process)
            child.process.close()
        return Died(cause)


def _cause(exitcode: int | None) -> str:
    if exitcode is None:
        return "it closed its pipe"
    if exitcode < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """No signal while a child starts; the child inherits that they are held back.

    Without this, Ctrl-C, which reaches parent and children alike, ends a child that starts with a
    traceback on the terminal, and what a signal raises in the parent may be lost.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started on demand by the first spawn, it would release the signals too early.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, worker: bytes) -> None:
    """The life of a worker process."""
    # The parent decides what Ctrl-C ends; SIGTERM unwinds, so that half-written outputs go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # stdout carries the command's results; what a library prints there is a message.
    os.dup2(2, 1)
    workplace = Workplace(worker, search_path=[])
    try:
        if hasattr(signal, "pthread_sigmask"):
            # Held since the start, it may come now.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        pipe.send_bytes(workplace.set_up())
        while True:
            pipe.send_bytes(workplace.work(pipe.recv_bytes()))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        # The parent is done with us, or gone.
        sys.exit(0)
