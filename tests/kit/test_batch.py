"""What a command does with many inputs: planned, checked, shared out, and told."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sigform_kit.batch import (
    Record,
    check_streams,
    is_folder,
    ready,
    share_out,
    stage_progress,
    threads_of,
)
from sigform_kit.console import Console
from sigform_kit.errors import InputError, InputsFailedError, UsageError
from sigform_kit.options import Common


@dataclass(frozen=True)
class Task:
    """A plan to make `outputs` of `source`."""

    source: Path
    outputs: tuple[Path, ...]


def task(source: str, *outputs: str) -> Task:
    return Task(Path(source), tuple(map(Path, outputs)))


def copier() -> Callable[[Task], Record]:
    """A worker that reads the source and fails where it says so."""

    def work(task: Task) -> Record:
        text = task.source.read_text()
        if text == "bad":
            raise InputError(f"{task.source}: is bad")
        return {"input": str(task.source), "text": text}

    return work


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_a_folder_is_one_that_is_there_or_a_name_without_suffix():
    Path("there.is").mkdir()
    Path("file").touch()
    found = {name: is_folder(Path(name)) for name in ("there.is", "new", "new.wav", "file", "-")}
    assert found == {"there.is": True, "new": True, "new.wav": False, "file": False, "-": False}


@pytest.mark.parametrize(
    ("tasks", "options", "reason"),
    [
        ([task("-", "a"), task("b", "c")], {}, "needs a single input"),
        ([task("a", "-"), task("b", "c")], {}, "needs a single input"),
        ([task("-", "a")], {"engine": "ray"}, "--engine local"),
        ([task("a", "-")], {"json": True}, "the sound and --json would share stdout"),
    ],
)
def test_a_pipe_is_not_shared(tasks, options, reason):
    with pytest.raises(UsageError, match=reason):
        check_streams(tasks, Common(**options), "the sound")


def test_one_input_may_come_from_a_pipe_and_go_to_one():
    check_streams([task("-", "-")], Common(), "the sound")
    check_streams([task("-", "a")], Common(json=True), "the sound")


def test_a_rehearsal_tells_what_would_be_written(capsys):
    Path("there").touch()
    tasks = [task("a", "new", "there"), task("b", "there2")]
    assert not ready(tasks, Common(dry_run=True, skip_existing=True))
    assert capsys.readouterr().out == "a -> new\nb -> there2\n"
    assert not ready([task("a", "there")], Common(dry_run=True, skip_existing=True))
    assert capsys.readouterr().out == "a -> nothing: all of it exists\n"
    assert ready(tasks, Common(skip_existing=True))


def test_outputs_are_checked_before_the_work():
    Path("there").touch()
    with pytest.raises(InputError, match="there exists"):
        ready([task("a", "there")], Common())
    with pytest.raises(UsageError, match="x would be written twice"):
        ready([task("a", "x"), task("b", "x")], Common())


def test_every_input_is_worked_on_and_the_failed_are_listed():
    for name, text in {"a": "one", "b": "bad", "c": "three"}.items():
        Path(name).write_text(text)
    shown: list[Any] = []
    tasks = [task(name, f"{name}.out") for name in "abc"]
    with pytest.raises(InputsFailedError, match="1 of 3 inputs failed") as caught:
        share_out(tasks, copier, Common(), label="copying", show=shown.append)
    assert caught.value.failures == [("b", "is bad")]
    assert shown == [{"input": "a", "text": "one"}, {"input": "c", "text": "three"}]


def test_each_stage_has_a_bar_that_ends_with_it(monkeypatch):
    told: list[object] = []

    @contextlib.contextmanager
    def progress(_: Console, label: str, total: int | None) -> Iterator[Callable[[], None]]:
        told.append((label, total))
        yield lambda: told.append("step")
        told.append("end")

    monkeypatch.setattr(Console, "progress", progress)
    with stage_progress(Common()) as on_progress:
        # Resumed at its second step, told twice of one, then two at once.
        for step in (2, 3, 3, 5):
            on_progress("train", step, 5)
        # A stage of unknown length.
        on_progress("frames", 1, None)
    assert told == [
        ("train", 4), "step", "step", "step", "step", "end", ("frames", None), "step", "end"
    ]  # fmt: skip


def test_threads_are_shared_out_among_the_jobs(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert threads_of(Common(jobs=1)) is None
    assert threads_of(Common(jobs=4)) == 4
    assert threads_of(Common(jobs=64)) == 1
    assert threads_of(Common(jobs=4, threads=7)) == 7
