"""Runs commands as processes, as a shell would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SAMPLE = Path(__file__).with_name("sample_app.py")
TESTS = Path(__file__).parents[1]


CHANGES_OUTPUT = ("FORCE_COLOR", "NO_COLOR", "PYTHONUNBUFFERED", "TERM")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without wishes for its output, with tests/ importable."""
    kept = {name: value for name, value in os.environ.items() if name not in CHANGES_OUTPUT}
    return {**kept, "PYTHONPATH": str(TESTS), "TERM": "xterm", **(extra or {})}


def sample(
    *args: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the sample app to its end."""
    return subprocess.run(
        [sys.executable, str(SAMPLE), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env=environment(env),
        check=False,
    )


def start_sample(*args: object) -> subprocess.Popen[str]:
    """Starts the sample app with pipes to all its streams."""
    return subprocess.Popen(
        [sys.executable, str(SAMPLE), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def on_terminal(*args: object, env: Mapping[str, str] | None = None) -> str:
    """Runs the sample app on a terminal of its own and returns all that it shows."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, str(SAMPLE), *map(str, args)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(env),
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            # Linux says so when the last process has left the terminal.
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return shown.decode()
