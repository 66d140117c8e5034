"""What a command does with many inputs: planned, checked, shared out, and told."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from sigform_kit.batch import (
    Record,
    check_streams,
    do_alone,
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


def told(path: str = "r.jsonl") -> list[tuple[str, str, str | None]]:
    """Input, status and error of each line of a manifest."""
    found = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert all(line["outputs"] == [f"{line['input']}.out"] for line in found)
    assert all(0 <= line["seconds"] < 60 for line in found)
    return [(line["input"], line["status"], line["error"]) for line in found]


def test_what_became_of_each_input_is_written_down():
    for name, text in {"a": "one", "b": "bad", "c": "three"}.items():
        Path(name).write_text(text)
    tasks = [task(name, f"{name}.out") for name in "abc"]
    seen: list[int] = []
    common = Common(manifest=Path("r.jsonl"))
    with pytest.raises(InputsFailedError):
        share_out(tasks, copier, common, label="copying", show=lambda _: seen.append(len(told())))
    assert told() == [("a", "done", None), ("b", "failed", "is bad"), ("c", "done", None)]
    # A result is written down before it is shown.
    assert seen == [1, 3]


def test_one_input_alone_is_written_down_too():
    Path("b").write_text("bad")
    one = task("b", "b.out")
    work = copier()
    with pytest.raises(InputError, match="b: is bad"):
        do_alone(one, lambda _: work(one), Common(manifest=Path("r.jsonl")))
    Path("b").write_text("good")
    common = Common(manifest=Path("r.jsonl"), skip_existing=True)
    assert do_alone(one, lambda _: work(one), common) == {"input": "b", "text": "good"}
    do_alone(one, lambda _: {"status": "skipped"}, common)
    assert told() == [("b", "failed", "is bad"), ("b", "done", None), ("b", "skipped", None)]


def test_the_manifest_is_checked_before_the_work():
    with pytest.raises(UsageError, match=r"output r\.jsonl would be written twice"):
        ready([task("a", "r.jsonl")], Common(manifest=Path("r.jsonl")))
    Path("r.jsonl").touch()
    with pytest.raises(UsageError, match=r"output r\.jsonl is also an input"):
        ready([task("r.jsonl", "b")], Common(manifest=Path("r.jsonl"), overwrite=True))
    with pytest.raises(InputError, match=r"r\.jsonl exists; --skip-existing goes on"):
        ready([task("a", "b")], Common(manifest=Path("r.jsonl")))
    assert ready([task("a", "b")], Common(manifest=Path("r.jsonl"), skip_existing=True))


def echo() -> Callable[[Task], Record]:
    """A worker that does nothing but answer at length; every tenth input fails."""

    def work(task: Task) -> Record:
        if task.source.name.endswith("7"):
            raise InputError(f"{task.source}: is bad")
        return {"input": str(task.source), "text": "x" * 10_000}

    return work


def test_two_thousand_inputs_keep_memory_flat():
    tasks = [task(f"{number}", f"{number}.out") for number in range(2000)]
    process, sizes = psutil.Process(), []

    def show(_: Record) -> None:
        sizes.append(process.memory_info().rss)

    common = Common(manifest=Path("r.jsonl"), jobs=2)
    with pytest.raises(InputsFailedError, match="200 of 2000 inputs failed"):
        share_out(tasks, echo, common, label="echoing", show=show)
    assert len(sizes) == 1800
    assert max(sizes) - sizes[50] < 8 * 2**20
    lines = told()
    assert len({source for source, _, _ in lines}) == len(lines) == 2000
    assert sum(status == "failed" for _, status, _ in lines) == 200


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
