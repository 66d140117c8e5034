"""Runs `sigform-forecast`: in this process, in a forked one to be killed, or as a shell would.

Importing torch and Lightning takes seconds; the forked processes come from a server that has them.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
from command_runner import Told, runner

from sigform_forecast.cli import app
from sigform_kit.running import run

QUICK = ("--steps", "2", "--d-model", "8")
PLAIN = ("--no-plot", "--no-report")
# With so little time AutoETS, whose import alone takes seconds, is left out.
HASTY = ("--budget", "1s")

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["sigform_forecast.training", "sigform_forecast.cli"])

command = runner(app)


def start(*args: object, told: Path, env: Mapping[str, str] | None = None) -> BaseProcess:
    """Starts the command in a process of its own, which says what it says in the file `told`.

    When it ends by itself, its last line tells by how many MiB its memory grew at most.
    """
    words = [str(arg) for arg in args]
    process = FORKS.Process(target=_forked, args=(words, Path.cwd(), told, dict(env or {})))
    process.start()
    return process


def _forked(words: list[str], folder: Path, told: Path, env: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(env)
    stream = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = run(app, words)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os.write(2, f"grew by {(after - before) / 1024:.0f} MiB\n".encode())
    sys.exit(code)


def finish(process: BaseProcess, seconds: float = 120) -> int:
    """Waits for a process that `start` made; its exit code, negative for a signal."""
    process.join(seconds)
    assert process.exitcode is not None, "the command still runs"
    return process.exitcode


def shell(*args: object, stdin: bytes = b"", module: str = "sigform_forecast") -> Told:
    """Runs the command as a shell would."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, args)],
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return Told("sigform-forecast", done.returncode, done.stdout, done.stderr.decode())


def weekly(rows: int = 90, start: str = "2024-01-01", **columns: object) -> pd.DataFrame:
    """Days with a season of seven and a little noise: `date`, `y` and further columns."""
    steps = np.arange(rows)
    noise = np.random.default_rng(7).normal(scale=0.2, size=rows)
    values = np.round(20 + 3 * np.sin(2 * np.pi * steps / 7) + 0.01 * steps + noise, 3)
    times = pd.date_range(start, periods=rows, freq="D")
    return pd.DataFrame({"date": times, "y": values, **columns})


def saved(frame: pd.DataFrame, path: str | Path = "data.csv") -> Path:
    """Writes a table as CSV and returns its path."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(place, index=False)
    return place


def edited(frame: pd.DataFrame, edit: Callable[[list[str]], None]) -> str:
    """The text of a table after `edit` changed its lines."""
    lines = frame.to_csv(index=False).splitlines()
    edit(lines)
    return "\n".join(lines) + "\n"
