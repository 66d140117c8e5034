"""Ctrl-C and SIGTERM wait while C code calls back into Python, which would lose what they raise."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_HELD = (signal.SIGINT, signal.SIGTERM)


class InterruptsHeld:
    """A context in which a signal is only noted; what it raises is raised when the context ends."""

    def __enter__(self) -> None:
        self._noted: list[tuple[int, FrameType | None]] = []
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in _HELD:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._note)
        except BaseException:
            self._restore()
            raise

    def __exit__(self, *_: object) -> None:
        self._restore()
        for number, frame in self._noted:
            self._before[number](number, frame)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted.append((number, frame))

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
