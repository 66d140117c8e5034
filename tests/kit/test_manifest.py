"""`--report`: a line for each input, whole or not at all, and gone on with."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.processes import environment

from sigform_kit.errors import InputError
from sigform_kit.manifest import manifest

WRITER = """
import sys
from pathlib import Path
from sigform_kit.manifest import manifest
with manifest(Path(sys.argv[1]), "skip") as tell:
    number = 0
    while True:
        tell(Path(f"in{number}"), [Path(f"out{number}")], "done", 0.5, None)
        number += 1
"""


def lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a manifest; one that is not whole is an error."""
    text = path.read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def write(path: Path, *names: str, policy: Any = "refuse") -> None:
    with manifest(path, policy) as tell:
        for name in names:
            tell(Path(name), [Path(f"{name}.out")], "done", 1.23456, None)


def test_a_line_says_what_became_of_an_input(tmp_path):
    path = tmp_path / "new" / "r.jsonl"
    with manifest(path, "refuse") as tell:
        tell(Path("a ü\n"), [Path("x"), Path("y")], "done", 1.23456, None)
        # On disk before the next: a kill takes nothing of it.
        assert len(lines(path)) == 1
        tell(Path("b"), [], "failed", 0.0, "is bad")
    assert lines(path) == [
        {"input": "a ü\n", "outputs": ["x", "y"], "status": "done", "seconds": 1.235,
         "error": None},
        {"input": "b", "outputs": [], "status": "failed", "seconds": 0.0, "error": "is bad"},
    ]  # fmt: skip


def test_no_manifest_is_asked_for(tmp_path):
    with manifest(None, "refuse") as tell:
        tell(Path("a"), [], "done", 0.0, None)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_one_is_kept_gone_on_with_or_begun_anew(tmp_path):
    path = tmp_path / "r.jsonl"
    write(path, "a")
    with pytest.raises(InputError, match=r"r\.jsonl exists; --skip-existing goes on with it"):
        write(path, "b")
    write(path, "b", policy="skip")
    assert [line["input"] for line in lines(path)] == ["a", "b"]
    write(path, "c", policy="overwrite")
    assert [line["input"] for line in lines(path)] == ["c"]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "{}\n", "[1]\n", "no end"])
@pytest.mark.parametrize("policy", ["skip", "overwrite"])
def test_what_is_no_manifest_is_left_alone(tmp_path, content, policy):
    path = tmp_path / "data.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=r"data\.csv is no report of an earlier run"):
        write(path, "a", policy=policy)
    assert path.read_text() == content


@given(keep=st.integers(0, 400))
def test_whatever_a_stopped_machine_left_is_gone_on_with(tmp_path_factory, keep):
    path = tmp_path_factory.mktemp("m") / "r.jsonl"
    write(path, "a", "b", "c")
    whole = path.read_bytes()[:keep]
    path.write_bytes(whole)
    write(path, "d", policy="skip")
    told = [line["input"] for line in lines(path)]
    assert told == [*"abc"[: whole.count(b"\n")], "d"]


def test_a_full_disk_takes_no_half_line(tmp_path):
    path = tmp_path / "r.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with manifest(path, "refuse") as tell:
            tell(Path("a"), [], "done", 0.0, None)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
            with pytest.raises(OSError, match=r"File too large.*r\.jsonl"):
                tell(Path("b"), [], "done", 0.0, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [line["input"] for line in lines(path)] == ["a"]


def test_a_kill_leaves_whole_lines(tmp_path):
    path = tmp_path / "r.jsonl"
    for killed in range(3):
        size = path.stat().st_size if path.exists() else 0
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], env=environment(), stderr=subprocess.PIPE
        )
        while not path.exists() or path.stat().st_size < size + 5000 * (killed + 1):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        told = lines(path)
    # Each run began to count from 0, after all that was there.
    assert sum(line["input"] == "in0" for line in told) == 3
