"""What happens inside a worker process, on this machine or on a cluster."""

from __future__ import annotations

import importlib
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

from sigform_kit.errors import describe


class Workplace:
    """Sets a worker up once, then works on one item after the other.

    Items and replies travel as pickles made here and in `engines`, so that whatever cannot be
    pickled is the failure of one item and not of the process. A reply is the pickle of
    (error or None, value, seconds).
    """

    _work: Callable[[Any], Any]

    def __init__(self, worker: bytes, search_path: list[str]) -> None:
        self._worker = worker
        self._search_path = search_path

    def set_up(self) -> bytes:
        """Makes the worker; modules found where it was pickled are found here too."""
        sys.path.extend(folder for folder in self._search_path if folder not in sys.path)
        importlib.invalidate_caches()

        def make() -> None:
            self._work = pickle.loads(self._worker)()

        return _reply(make)

    def work(self, item: bytes) -> bytes:
        """Works on one pickled item."""
        return _reply(lambda: self._work(pickle.loads(item)))


def _reply(task: Callable[[], Any]) -> bytes:
    begun = time.monotonic()
    try:
        return pickle.dumps((None, task(), time.monotonic() - begun))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an item's failure, not the process's
        return pickle.dumps((describe(error), None, time.monotonic() - begun))
