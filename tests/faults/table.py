"""The table of faults: its rows as they come, and its head."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import click
from faults.domains import DOMAINS
from faults.trials import TRIALS, Row, try_all

HEAD = """# What was tried to break it, and what was lost

Written by `cd tests && python -m faults --count {count} --seed {seed} --write ../FAULTS.md`; the
same with a count of 1 is a test (`tests/faults`). {machine}

Each trial runs the domain's main job on small files of its own, in a fresh folder, with a tiny
network. Nothing is lost when the inputs are as they were, every output that is there equals that of
an undisturbed run to the last byte, nothing else is left, the command says what was wrong in one
line with its promised exit code, and running it again with `--skip-existing` finishes the rest.
The moments of signals, the sizes at which the disk is full and the damage are random, drawn from
the seed. Every fourth signal meets a batch on two worker processes, the others a single input.
Processes are forked from one that has imported torch, so that signals meet the work; the last batch
of each signal starts its workers afresh.

- bad and damaged inputs: those of the lists in `tests/faults/domains.py`, alone and all together
  beside good ones, and a good input cut short or with flipped bits.
- disk full: no file may grow beyond a random size (RLIMIT_FSIZE), and stdout on /dev/full.
- read-only target: as a user without rights; a new output, and one that is there with --overwrite.
- clock jumps: Python's time of day is up to ten years off, anew each time it is asked for.
- no network: each look-up and connection is refused and told; the main job makes none.
- damaged weight file: cut short or with flipped bits, noticed by the SHA-256 that it holds.
- a SIGKILL leaves no time to tidy up: a hidden `.sigform-*` file may stay beside the output.

| Domain | Fault | Tried | What came of it | Lost |
| --- | --- | --- | --- | --- |
"""


def line_of(row: Row) -> str:
    """A row of the table."""
    came = "; ".join(f"{count} {outcome}" for outcome, count in row.outcomes.items())
    lost = "nothing" if not row.lost else f"**{len(row.lost)}: {row.lost[0][:200]}**"
    cells = (row.domain, row.fault, str(row.tried), came, " ".join(lost.split()))
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def with_others(rows: list[str], path: Path) -> list[str]:
    """The rows, and those that the table at `path` has of other domains and faults, in order."""
    known = {_key(row): row for row in _lines(path)} | {_key(row): row for row in rows}
    order = [(domain.name, fault) for domain in DOMAINS for fault in TRIALS]
    return [known[key] for key in order if key in known]


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [line for line in path.read_text("utf-8").splitlines() if line.startswith("| ")]


def _key(row: str) -> tuple[str, str]:
    _, domain, fault, *_ = (cell.strip() for cell in row.split("|"))
    return domain, fault


def machine() -> str:
    """Where and when."""
    today = datetime.datetime.now(datetime.UTC).date()
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{today}, {system}, {os.cpu_count()} cores."


def show(row: Row) -> None:
    """A row as soon as it is there, and what was lost in full."""
    click.echo(line_of(row))
    for loss in row.lost:
        click.echo(f"    {loss}", err=True)


def try_domain(name: str, *, count: int, seed: int, only: tuple[str, ...]) -> list[Row]:
    """Every trial of the domain of that name."""
    domain = next(domain for domain in DOMAINS if domain.name == name)
    return try_all(domain, count=count, seed=seed, only=only, on_row=show)
