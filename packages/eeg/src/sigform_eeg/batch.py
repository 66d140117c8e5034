"""Many recordings, one command: which word is the model, and where each output goes.

Imported by the command line, so it stays on click and kit until there is work to do.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sigform_eeg import catalogue
from sigform_kit.batch import (
    Record,
    check_streams,
    do_alone,
    is_folder,
    ready,
    share_out,
)
from sigform_kit.errors import UsageError
from sigform_kit.inputs import STDIN, Input, expand_inputs
from sigform_kit.options import Common
from sigform_kit.outputs import STDOUT, Policy

READ_SUFFIXES = (
    ".edf", ".bdf", ".gdf", ".fif", ".fif.gz", ".vhdr", ".set", ".cnt", ".mff", ".nxe", ".lay",
    ".cdt", ".npz",
)  # fmt: skip
"""Of recordings and epochs that a folder is searched for."""

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
RUN_WEIGHTS = "weights.safetensors"
"""What a training leaves in its folder."""

DECODED = "_decoded"
RESULTS = ("results.npz", "result.npz")
"""Of a training and of its folds: no epochs."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to do with every recording: plain values that travel to every worker."""

    weights: str = "default"
    hop: float = 0.5  # s
    align: str | None = None
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A recording, the table it becomes ("-" is stdout) and its annotated copy."""

    source: Path
    table: Path
    annotated: Path | None = None
    policy: Policy = "refuse"

    @property
    def outputs(self) -> list[Path]:
        """Every file that will be there."""
        return [self.table] if self.annotated is None else [self.table, self.annotated]


def model_and_places(words: Sequence[str], weights: str | None) -> tuple[str, list[str]]:
    """Which weights are meant, and what they are to work on.

    The first word is the model where it names one and no option did; else it is `default`.
    """
    if weights is not None:
        return run_weights(weights), list(words)
    if words and names_a_model(words[0], alone=len(words) == 1):
        return run_weights(words[0]), list(words[1:])
    return "default", list(words)


def names_a_model(word: str, *, alone: bool = False) -> bool:
    """Whether a word is weights: shipped, a file of such, or a folder that a training left.

    One that is nothing at all, with recordings after it (`alone` says there are none), is a
    misspelt model.
    """
    path = Path(word)
    if word in catalogue.SHIPPED or path.suffix.lower() in WEIGHT_SUFFIXES:
        return True
    if (path / RUN_WEIGHTS).exists():
        return True
    unknown = word != STDIN and not path.exists() and not glob.has_magic(word)
    return unknown and not alone and not word.lower().endswith(READ_SUFFIXES)


def run_weights(word: str) -> str:
    """The weights of a training's folder, or the word itself."""
    inside = Path(word) / RUN_WEIGHTS
    return str(inside) if word not in catalogue.SHIPPED and inside.exists() else word


def events_of(entries: Sequence[str]) -> dict[str, list[str]] | None:
    """`left=T1,T3` and so on as the events of each class; None where nothing is said.

    Raises UsageError for what is none, and for an event of two classes.
    """
    made: dict[str, list[str]] = {}
    taken: dict[str, str] = {}
    for entry in entries:
        name, sign, said = entry.partition("=")
        labels = [label.strip() for label in said.split(",")]
        if not sign or not name.strip() or not all(labels):
            raise UsageError(f"--events {entry!r}; needs CLASS=EVENT, such as left=T1")
        for label in labels:
            if taken.setdefault(label, name.strip()) != name.strip():
                raise UsageError(f"--events gives {label} to {taken[label]} and {name}; needs one")
        made.setdefault(name.strip(), []).extend(labels)
    return made or None


def card_of(entries: Sequence[str]) -> dict[str, str]:
    """`licence=CC0` and so on by name. Raises UsageError for what is none."""
    made: dict[str, str] = {}
    for entry in entries:
        name, _, text = entry.partition("=")
        if not name or not text:
            raise UsageError(f"--card {entry!r}; needs NAME=TEXT")
        made[name] = text
    return made


def names_of(entry: str | None) -> tuple[str, ...] | None:
    """Names between commas; None where nothing is said."""
    if entry is None:
        return None
    return tuple(name for name in (part.strip() for part in entry.split(",")) if name)


def numbers_of(entry: str | None) -> list[int] | None:
    """Numbers between commas, as 4,8,12 or 3-5. Raises UsageError for what is none."""
    numbers: list[int] = []
    for part in names_of(entry) or ():
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if found is None:
            raise UsageError(f"--runs {entry}: {part!r} is no number; needs such as 4,8,12 or 3-5")
        first, last = int(found[1]), int(found[2] or found[1])
        numbers += range(first, last + 1)
    return numbers or None


def tasks_for(
    names: Sequence[str],
    common: Common,
    *,
    output: Path | None = None,
    annotate: Path | None = None,
) -> list[Task]:
    """Each recording with its outputs: beside it, in a folder, or under the name given.

    Raises UsageError for what does not go together, InputError for a name that stands for no file.
    """
    if STDIN in names:
        raise UsageError("a recording cannot come from stdin; needs a file")
    items = expand_inputs(names, suffixes=READ_SUFFIXES)
    items = [item for item in items if not _is_ours(item)]
    for option, path, suffix in (("-o", output, ".csv"), ("--annotate", annotate, ".fif")):
        if path is None:
            continue
        if str(path) == STDOUT and option != "-o":
            raise UsageError("--annotate writes a recording; needs a file or folder")
        if len(items) > 1 and not is_folder(path) and str(path) != STDOUT:
            raise UsageError(
                f"{option} {path} names one file for {len(items)} inputs; needs a folder"
            )
        if str(path) != STDOUT and not is_folder(path) and path.suffix.lower() != suffix:
            raise UsageError(f"{path}: suffix is {path.suffix!r}; needs {suffix}")
    tasks = [
        Task(
            source=item.path,
            table=_place(item, output, f"{DECODED}.csv"),
            annotated=None if annotate is None else _place(item, annotate, f"{DECODED}_eeg.fif"),
            policy=common.policy,
        )
        for item in items
    ]
    check_streams(tasks, common, "the table")
    return tasks


def _is_ours(item: Input) -> bool:
    """A table or annotated copy of an earlier run or training that a folder brought along."""
    return item.path.name.endswith((f"{DECODED}_eeg.fif", *RESULTS))


def _place(item: Input, output: Path | None, ending: str) -> Path:
    stem = item.path.name.removesuffix(".gz").rsplit(".", 1)[0]
    if output is None:
        return item.path.with_name(stem + ending)
    if is_folder(output):
        return (output / item.relative).with_name(stem + ending)
    return output


def work_through(job: Job, tasks: list[Task], common: Common) -> None:
    """Work on every task: a single one here, several by the engine; raises if one failed."""
    if not ready(tasks, common):
        return
    from sigform_eeg.jobs import run, work_off

    if len(tasks) == 1 and common.engine == "local":
        record = do_alone(
            tasks[0], lambda on_progress: run(job, tasks[0], on_progress=on_progress), common
        )
        show(record, common)
        return
    worker = partial(work_off, job, Path.cwd())
    share_out(tasks, worker, common, label="decoding", show=lambda record: show(record, common))


def show(record: Record, common: Common) -> None:
    """The result of one recording, on stdout; beside a table that went there, on stderr."""
    for note in record.get("notes", ()):
        common.console.say(f"{record['input']}: {note}")
    if record["status"] == "skipped":
        common.console.say(f"{', '.join(record['outputs'])}: all of it exists; skipped")
        if common.json:
            common.console.result(record, "")
    elif record["outputs"][0] == STDOUT:
        common.console.say(line_of(record))
    else:
        common.console.result(record, line_of(record))


def line_of(record: Record) -> str:
    """What was made of which recording, for a reader."""
    shares = ", ".join(f"{name} {count}" for name, count in record["counts"].items())
    told = f"{record['windows']} windows: {shares}"
    made = ", ".join(record["outputs"])
    return f"{record['input']} ({record['duration']:.1f} s) -> {made} ({told})"
