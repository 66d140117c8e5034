"""Workers that the engine tests send to other processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigform_kit import output


@dataclass(frozen=True)
class Square:
    """Squares numbers; what else an item says, it does. `folder` keeps marks between attempts."""

    folder: Path

    def __call__(self) -> Callable[[object], object]:
        (self.folder / f"set-up-{os.getpid()}").touch()
        return self._work

    def _work(self, item: Any) -> object:
        if isinstance(item, int):
            return item * item
        match item.split():
            case ["crash-once"]:
                mark = self.folder / "crashed"
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case ["crash"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["raise"]:
                raise ValueError("item is bad;\nneeds good")
            case ["exit"]:
                raise SystemExit("leaving")
            case ["unpicklable"]:
                return lambda: None
            case ["print"]:
                print("from a library", flush=True)  # noqa: T201
            case ["sleep", seconds]:
                (self.folder / f"asleep-{os.getpid()}").touch()
                time.sleep(float(seconds))
            case ["write", target]:
                with output(target) as path:
                    path.write_text("half")
                    (self.folder / "writing").touch()
                    time.sleep(60)
        return f"{item} done"


def plain() -> Callable[[int], int]:
    return abs


def no_model() -> Callable[[int], int]:
    raise FileNotFoundError(2, "No such file or directory", "model.safetensors")


def killed_at_once() -> Callable[[int], int]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@dataclass(frozen=True)
class KilledAtFirstStart:
    """Dies the first time it is set up."""

    folder: Path

    def __call__(self) -> Callable[[int], int]:
        mark = self.folder / "started"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return abs
