"""`sigform` with distributions of our own making beside those that are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


class Machine:
    """A folder of made-up distributions, and `sigform` run with it on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self, distribution: str, verb: str, target: str, summary: str = "", code: str = ""
    ) -> None:
        module = target.partition(":")[0]
        if code:
            (self.folder / f"{module}.py").write_text(code)
        info = self.folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\nSummary: {summary}\n"
        )
        (info / "entry_points.txt").write_text(f"[sigform.apps]\n{verb} = {target}\n")

    def sigform(self, *args: str, command: str = "") -> subprocess.CompletedProcess[str]:
        start = ["-c", command] if command else ["-m", "sigform_suite"]
        return subprocess.run(
            [sys.executable, *start, *args],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(self.folder), "TERM": "dumb"},
            check=False,
        )
