"""What is done to a domain's command, and what was lost by it: that must be nothing.

Each trial runs in a copy of the prepared folder. Nothing is lost if the inputs are as they were,
every output that is there is the one of an undisturbed run to the last byte, the command said what
it had to say in one line, and running it again finishes the rest.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.domains import Domain
from faults.processes import (
    ClockJumps,
    Condition,
    Ended,
    LargestFile,
    as_nobody,
    finish,
    forked_workers,
    full_stdout,
    no_network,
    preload,
    prepared,
    start,
)

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
State = dict[str, bytes]


@dataclass
class Row:
    """A line of the table: how often a fault was tried, what came of it, and what was lost."""

    domain: str
    fault: str
    tried: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


class Bench:
    """A prepared domain: its folder, and what an undisturbed run makes of it."""

    def __init__(self, domain: Domain, place: Path, seed: int) -> None:
        self.domain = domain
        self.place = place
        self.draw = random.Random(f"{domain.name} {seed}")
        place.chmod(0o755)
        (place / "home").mkdir()
        (place / "home").chmod(0o777)
        self.model = place / "model"
        self.model.mkdir()
        preload(domain.heavy)
        prepared(domain.prepare, self.model)
        self.before = state(self.model)
        self.one, self.seconds_of_one = self._reference(domain.one)
        self.many, self.seconds_of_many = self._reference(domain.many, forked_workers)
        fresh, self.seconds_of_fresh = self._reference(domain.many)
        if fresh != self.many:
            raise RuntimeError(f"{domain.name}: fresh workers make other outputs than forked ones")

    def folder(self) -> Path:
        """A fresh copy of the prepared folder."""
        target = Path(tempfile.mkdtemp(dir=self.place), "work")
        shutil.copytree(self.model, target)
        target.parent.chmod(0o755)
        return target

    def run(self, folder: Path, words: Sequence[object], *conditions: Condition) -> Ended:
        return finish(self.domain.app, words, folder, *conditions)

    def again(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """The words of the run that finishes what another began."""
        return (*words, "--skip-existing", *self.report())

    def report(self) -> tuple[str, ...]:
        return ("--report", "report.jsonl") if self.domain.engine else ()

    def _reference(self, words: tuple[str, ...], *conditions: Condition) -> tuple[State, float]:
        folder = self.folder()
        ended = self.run(folder, words, *conditions)
        if ended.code != 0:
            raise RuntimeError(f"{self.domain.name} fails undisturbed: {ended.told}")
        made = outputs(folder)
        shutil.rmtree(folder.parent)
        return made, ended.seconds


def state(folder: Path) -> State:
    """Every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def outputs(folder: Path) -> State:
    """The visible files of out/."""
    out = folder / "out"
    found = state(out) if out.is_dir() else {}
    return {name: data for name, data in found.items() if not Path(name).name.startswith(".")}


def hidden(folder: Path) -> list[str]:
    """Temporary files that were left."""
    return [str(path) for path in folder.rglob(".sigform-*")]


def losses(
    bench: Bench, folder: Path, expected: State, *, whole: bool = False, more: Sequence[str] = ()
) -> Iterator[str]:
    """What is not as it must be; `more` are files of the trial itself."""
    now = state(folder)
    for name, data in bench.before.items():
        if name not in more and now.get(name) != data:
            yield f"input {name} is not as it was"
    made = outputs(folder)
    for name, data in made.items():
        if name not in expected:
            yield f"out/{name} is nobody's"
        elif data != expected[name]:
            yield f"out/{name} differs from that of an undisturbed run"
    if whole:
        yield from (f"out/{name} is missing" for name in expected.keys() - made.keys())
    known = {*bench.before, *(f"out/{name}" for name in made), "report.jsonl", *more}
    for name in now.keys() - known:
        if not Path(name).name.startswith(".sigform-"):
            yield f"{name} was left behind"
    yield from _broken_lines(folder)


def _broken_lines(folder: Path) -> Iterator[str]:
    report = folder / "report.jsonl"
    if not report.exists():
        return
    text = report.read_text()
    if text and not text.endswith("\n"):
        yield "report.jsonl ends in half a line"
        return
    for line in text.splitlines():
        record = json.loads(line)
        missing = [name for name in record["outputs"] if not (folder / name).exists()]
        if record["status"] != "failed" and missing:
            yield f"report.jsonl says {record['input']} is {record['status']}; {missing} is not"


def said(ended: Ended, code: int, *, lines: int = 1) -> Iterator[str]:
    """What is wrong with how a command ended."""
    if ended.code != code:
        yield f"the exit code is {ended.code}, not {code}: {ended.told[-300:]}"
    if "Traceback" in ended.told:
        yield f"a traceback: {ended.told[-300:]}"
    if len(ended.error_lines) != lines:
        yield f"{len(ended.error_lines)} error lines, not {lines}: {ended.told[-300:]}"


# --- the trials ----------------------------------------------------------------------------------


def bad_inputs(bench: Bench, row: Row, count: int) -> None:
    """Each bad input alone, then all of them beside the good ones, then damage at random."""
    domain = bench.domain
    for name, content in domain.bad.items():
        folder = bench.folder()
        if content is not None:
            (folder / name).write_bytes(content)
        ended = bench.run(folder, domain.judge(name))
        row.tried += 1
        row.count("one line")
        row.lost += [f"{name}: {why}" for why in said(ended, 1)]
        row.lost += [f"{name}: {why}" for why in losses(bench, folder, {}, more=[name])]
        row.lost += [f"{name}: left {path}" for path in hidden(folder)]
        shutil.rmtree(folder.parent)
    if domain.engine:
        folder = bench.folder()
        (folder / "bad").mkdir()
        for name, content in domain.bad.items():
            if content is not None:
                (folder / "bad" / name).write_bytes(content)
        present = [f"bad/{name}" for name, content in domain.bad.items() if content is not None]
        words = (*domain.many, "bad", "--jobs", "2", *bench.report())
        ended = bench.run(folder, words, forked_workers)
        row.tried += 1
        row.count("the good ones beside them done")
        row.lost += said(ended, 1)
        row.lost += losses(bench, folder, bench.many, whole=True, more=present)
        failed = {line["input"] for line in _records(folder) if line["status"] == "failed"}
        if failed != set(present):
            row.lost.append(f"the report says {sorted(failed)} failed, not {present}")
        shutil.rmtree(folder.parent)
    if domain.damage is not None:
        for _ in range(count):
            _damaged_input(bench, row, domain.damage)


def _damaged_input(bench: Bench, row: Row, name: str) -> None:
    folder = bench.folder()
    path = folder / name
    path.write_bytes(damaged(path.read_bytes(), bench.draw))
    ended = bench.run(folder, bench.domain.one)
    row.tried += 1
    if ended.code == 0:
        row.count("damage that is still readable")
        if "Traceback" in ended.told:
            row.lost.append(f"a traceback: {ended.told[-300:]}")
    else:
        row.count("damage refused")
        row.lost += said(ended, 1)
        row.lost += losses(bench, folder, {}, more=[name])
    row.lost += [f"left {path}" for path in hidden(folder)]
    shutil.rmtree(folder.parent)


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Cut short, or some bits flipped."""
    if draw.random() < 0.5:
        return data[: draw.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def signals(number: signal.Signals) -> Callable[[Bench, Row, int], None]:
    """The command is sent a signal at a random moment; every fourth time a batch of processes.

    The last batch has freshly started workers, the others forked ones.
    """

    def trial(bench: Bench, row: Row, count: int) -> None:
        for turn in range(count):
            batch = turn % 4 == 3
            fresh = turn == count - 1
            _signalled(bench, row, number, batch=batch, fresh=fresh)

    return trial


def _signalled(bench: Bench, row: Row, number: signal.Signals, *, batch: bool, fresh: bool) -> None:
    domain = bench.domain
    words = domain.many if batch else domain.one
    expected = bench.many if batch else bench.one
    seconds = bench.seconds_of_one
    if batch:
        seconds = bench.seconds_of_fresh if fresh else bench.seconds_of_many
    jobs = ("--jobs", "2") if batch and domain.engine else ()
    folder = bench.folder()
    moment = bench.draw.uniform(0, 0.95 * seconds)
    conditions = [] if fresh else [forked_workers]
    running = start(domain.app, (*words, *jobs, *bench.report()), folder, conditions)
    time.sleep(moment)
    running.send(number)
    ended = running.end()
    row.tried += 1
    hit = ended.code == CODES[number]
    row.count("stopped by it" if hit else "had ended before")
    if ended.code not in (0, CODES[number]):
        row.lost.append(f"the exit code is {ended.code} after {moment:.3f} s: {ended.told[-300:]}")
    if "Traceback" in ended.told:
        row.lost.append(f"a traceback after {moment:.3f} s: {ended.told[-600:]}")
    row.lost += losses(bench, folder, expected, whole=not hit)
    left = hidden(folder)
    if left and number == signal.SIGKILL:
        row.count("left a hidden temporary file")
    elif left:
        row.lost.append(f"{left} was left after {moment:.3f} s")
    ended = bench.run(folder, bench.again(words), forked_workers)
    row.lost += said(ended, 0, lines=0)
    row.lost += losses(bench, folder, expected, whole=True)
    shutil.rmtree(folder.parent)


def killed_worker(bench: Bench, row: Row, count: int) -> None:
    """One of the worker processes of a batch is killed at a random moment."""
    if not bench.domain.engine:
        return
    for turn in range(count):
        folder = bench.folder()
        words = (*bench.domain.many, "--jobs", "2", *bench.report())
        fresh = turn == 0
        running = start(bench.domain.app, words, folder, [] if fresh else [forked_workers])
        seconds = bench.seconds_of_fresh if fresh else bench.seconds_of_many
        time.sleep(bench.draw.uniform(0.1, 0.9) * seconds)
        workers = running.workers()
        if workers:
            bench.draw.choice(workers).kill()
        ended = running.end()
        row.tried += 1
        row.count("all done" if workers else "had ended before")
        row.lost += said(ended, 0, lines=0)
        row.lost += losses(bench, folder, bench.many, whole=True)
        shutil.rmtree(folder.parent)


def full_disk(bench: Bench, row: Row, count: int) -> None:
    """No file may grow beyond a random size, less than that of the largest output; and stdout."""
    largest = max(len(data) for data in bench.one.values())
    for _ in range(count):
        folder = bench.folder()
        size = bench.draw.randrange(largest)
        ended = bench.run(folder, bench.domain.one, LargestFile(size))
        row.tried += 1
        row.count("one line")
        row.lost += said(ended, 1)
        # Of several outputs those that fit may be there, whole.
        row.lost += losses(bench, folder, bench.one)
        row.lost += [f"left {path}" for path in hidden(folder)]
        ended = bench.run(folder, bench.again(bench.domain.one))
        row.lost += said(ended, 0, lines=0)
        row.lost += losses(bench, folder, bench.one, whole=True)
        shutil.rmtree(folder.parent)
    folder = bench.folder()
    ended = bench.run(folder, bench.domain.to_stdout, full_stdout)
    row.tried += 1
    row.count("one line")
    row.lost += said(ended, 1)
    row.lost += losses(bench, folder, {})
    shutil.rmtree(folder.parent)


def read_only_target(bench: Bench, row: Row, count: int) -> None:
    """The folder of the outputs may not be written to; then one that is there already."""
    del count
    for inside in (False, True):
        folder = bench.folder()
        (folder / "out").mkdir()
        if inside:
            for name in bench.one:
                (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / "out" / name).write_bytes(bench.one[name])
        (folder / "out").chmod(0o555)
        folder.chmod(0o555)
        words = (*bench.domain.one, "--overwrite") if inside else bench.domain.one
        ended = bench.run(folder, words, as_nobody)
        row.tried += 1
        row.count("one line")
        row.lost += said(ended, 1)
        if not any("out" in line for line in ended.error_lines):
            row.lost.append(f"the line does not name the target: {ended.told[-300:]}")
        row.lost += losses(bench, folder, bench.one, whole=inside)
        folder.chmod(0o755)
        (folder / "out").chmod(0o755)
        shutil.rmtree(folder.parent)


def changed_clock(bench: Bench, row: Row, count: int) -> None:
    """The time of day jumps by years each time that it is asked for."""
    for _ in range(max(1, count // 4)):
        folder = bench.folder()
        ended = bench.run(
            folder, (*bench.domain.one, *bench.report()), ClockJumps(bench.draw.randrange(1 << 30))
        )
        row.tried += 1
        row.count("the same outputs")
        row.lost += said(ended, 0, lines=0)
        row.lost += losses(bench, folder, bench.one, whole=True)
        for record in _records(folder):
            if not 0 <= record["seconds"] < 600:
                row.lost.append(f"the report says it took {record['seconds']} s")
        shutil.rmtree(folder.parent)


def _records(folder: Path) -> list[dict[str, Any]]:
    report = folder / "report.jsonl"
    return [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []


def no_network_at_all(bench: Bench, row: Row, count: int) -> None:
    """Whoever asks the network is refused: the main job does not, published weights do."""
    del count
    folder = bench.folder()
    ended = bench.run(folder, bench.domain.one, no_network)
    row.tried += 1
    row.count("the same outputs, nothing asked")
    row.lost += said(ended, 0, lines=0)
    row.lost += losses(bench, folder, bench.one, whole=True)
    if "the network was asked" in ended.told:
        row.lost.append("the network was asked")
    shutil.rmtree(folder.parent)
    if bench.domain.published:
        folder = bench.folder()
        ended = bench.run(folder, bench.domain.published, no_network)
        row.tried += 1
        row.count("published weights: one line")
        row.lost += said(ended, 1)
        row.lost += losses(bench, folder, {})
        shutil.rmtree(folder.parent)


def damaged_weights(bench: Bench, row: Row, count: int) -> None:
    """The weight file is cut short or has some bits flipped."""
    name = bench.domain.weights
    for _ in range(count):
        folder = bench.folder()
        path = folder / name
        path.write_bytes(damaged(path.read_bytes(), bench.draw))
        ended = bench.run(folder, bench.domain.one)
        row.tried += 1
        row.count("one line")
        row.lost += said(ended, 1)
        row.lost += losses(bench, folder, {}, more=[name])
        row.lost += [f"left {left}" for left in hidden(folder)]
        shutil.rmtree(folder.parent)


TRIALS: dict[str, Callable[[Bench, Row, int], None]] = {
    "bad and damaged inputs": bad_inputs,
    "SIGINT": signals(signal.SIGINT),
    "SIGTERM": signals(signal.SIGTERM),
    "SIGKILL": signals(signal.SIGKILL),
    "SIGKILL of a worker": lambda bench, row, count: killed_worker(bench, row, max(1, count // 4)),
    "disk full": full_disk,
    "read-only target": read_only_target,
    "clock jumps": changed_clock,
    "no network": no_network_at_all,
    "damaged weight file": damaged_weights,
}


def try_all(
    domain: Domain,
    *,
    count: int,
    seed: int,
    only: Sequence[str] = (),
    on_row: Callable[[Row], None] = lambda _: None,
) -> list[Row]:
    """Every trial of a domain; the random ones `count` times."""
    rows = []
    place = Path(tempfile.mkdtemp(prefix=f"sigform-faults-{domain.name}-"))
    try:
        bench = Bench(domain, place, seed)
        for fault, trial in TRIALS.items():
            if only and fault not in only:
                continue
            row = Row(domain.name, fault)
            trial(bench, row, count)
            if row.tried:
                rows.append(row)
                on_row(row)
    finally:
        for folder, _, _ in os.walk(place):
            Path(folder).chmod(0o755)
        shutil.rmtree(place)
    return rows
