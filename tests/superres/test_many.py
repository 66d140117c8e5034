"""Thousands of pictures: memory stays where it was, and a rerun does the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from superres.commands import picture, saved_network

INPUTS = 2000


class Watch(threading.Thread):
    """The resident memory of a process and its children, in bytes, five times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.sizes: list[tuple[int, int]] = []  # outputs made so far, bytes

    def run(self) -> None:
        while self.root.is_running():
            try:
                family = [self.root, *self.root.children(recursive=True)]
                size = sum(process.memory_info().rss for process in family)
            except psutil.Error:
                return
            self.sizes.append((len(os.listdir("out")) if Path("out").exists() else 0, size))  # noqa: PTH208
            time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_pictures_keep_memory_flat(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = saved_network(tmp_path, 2)
    first = picture("in/0000.png")
    for number in range(1, INPUTS):
        shutil.copy(first, f"in/{number:04d}.png")
    command = [
        sys.executable, "-m", "sigform_superres", "in", "-w", str(net), "-s", "2", "-o", "out",
        "--device", "cpu", "--jobs", "2", "--threads", "1", "--report", "r.jsonl",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    watch = Watch(process.pid)
    watch.start()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    watch.join()
    early = [size for made, size in watch.sizes if 100 <= made <= 300]
    late = [size for made, size in watch.sizes if made >= INPUTS - 200]
    assert max(late) - max(early) < 32 * 2**20, (max(early), max(late))
    lines = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert {line["status"] for line in lines} == {"done"}
    assert len(lines) == INPUTS
    assert len({path.read_bytes() for path in Path("out").iterdir()}) == 1
