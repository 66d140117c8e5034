"""Many inputs, one command: where each output goes, and who works on it.

Imported by the command line, so it stays on click and kit until there is work to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
from sigform_speech import catalogue
from sigform_speech.audio import READ_SUFFIXES, SUFFIXES

FORMATS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)

# What is read but not written becomes its nearest of kin, or WAV.
_KIN = {".oga": ".ogg", ".aifc": ".aiff"}

MOST_SPEAKERS = 9
"""Whose outputs of an earlier run are recognised."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to do with every input: plain values that travel to every worker."""

    weights: str = "default"
    speakers: int = 2
    mono: bool = False
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One input and where its outputs go; "-" is stdin or stdout.

    `sounds` are a file for each speaker, or stdout alone for all of them; `suffix` is that of
    their format. `plot` is a picture.
    """

    source: Path
    sounds: tuple[Path, ...]
    suffix: str
    plot: Path | None = None
    policy: Policy = "refuse"

    @property
    def outputs(self) -> list[Path]:
        """Every file that will be there."""
        return [*self.sounds] if self.plot is None else [*self.sounds, self.plot]


def speakers_of(weights: str, asked: int | None) -> int:
    """How many speakers the weights separate, which are fetched only where their name says nothing.

    Raises ValueError or OSError for weights that cannot be found or read, or separate other than
    `asked`.
    """
    offered = {entry.name: entry.speakers for entry in catalogue.PUBLISHED}
    if weights in offered and weights not in catalogue.SHIPPED and not Path(weights).exists():
        have = offered[weights]
    else:
        path = catalogue.find_weights(weights, asked)
        try:
            have = catalogue.speakers_of(path)
        except (ValueError, OSError):  # no file of ours
            from sigform_speech.upstream import load_any

            have = load_any(path).num_spks
    if asked not in (None, have):
        raise ValueError(f"speakers is {asked}; the weights {weights} need {have}")
    return have


def tasks_for(
    files: Sequence[str],
    job: Job,
    common: Common,
    *,
    output: Path | None = None,
    format: str | None = None,
    plot: bool = False,
) -> list[Task]:
    """Each input with its outputs: beside it, in a folder, or under the name given.

    The outputs of an earlier run are no inputs beside what they were made of. Raises UsageError
    for what does not go together, InputError for a name that stands for no file.
    """
    items = new_inputs(expand_inputs(files, suffixes=READ_SUFFIXES), output, common)
    if len(items) > 1 and output is not None and not is_folder(output):
        raise UsageError(f"-o {output} names one file for {len(items)} inputs; needs a folder")

    def task_of(item: Input) -> Task:
        suffix = suffix_of(item.path, output, format)
        sounds = sounds_of(item, output, suffix, job.speakers)
        return Task(
            source=item.path,
            sounds=tuple(sounds),
            suffix=suffix,
            plot=plot_of(item, sounds[0], output) if plot else None,
            policy=common.policy,
        )

    tasks = [task_of(item) for item in items]
    check_streams(tasks, common, "the sound")
    return tasks


def new_inputs(items: Sequence[Input], output: Path | None, common: Common) -> list[Input]:
    """The inputs that no other input became in an earlier run, whatever the format was."""
    made = {
        path.with_suffix("")
        for item in items
        for path in sounds_of(item, output, ".wav", MOST_SPEAKERS)
        if path.with_suffix("") != item.path.with_suffix("")
    }
    earlier = [item for item in items if item.path.with_suffix("") in made]
    for item in earlier:
        common.console.detail(f"{item.path} is the output of another input; left out")
    if earlier:
        outputs = "output" if len(earlier) == 1 else "outputs"
        common.console.say(f"{len(earlier)} {outputs} of an earlier run left out; -v names them")
    left_out = {item.path for item in earlier}
    return [item for item in items if item.path not in left_out]


def sounds_of(item: Input, output: Path | None, suffix: str, speakers: int) -> list[Path]:
    """Where the speakers of an input go: a file each, or stdout for all."""
    if str(output or item.path) == STDOUT:
        return [Path(STDOUT)]
    stem = stem_of(item)
    if output is None:
        place = item.path.with_name(stem + suffix)
    elif is_folder(output):
        place = (output / item.relative).with_name(stem + suffix)
    else:
        place = output
    return [speaker_path(place, number, output) for number in range(1, speakers + 1)]


def speaker_path(place: Path, number: int, output: Path | None) -> Path:
    """The file of a speaker: its number takes the place of {} in -o, or ends the name."""
    if output is not None and "{}" in str(output):
        numbered = str(output).replace("{}", str(number))
        return Path(numbered + str(place).removeprefix(str(output)))
    return place.with_name(f"{place.stem}_speaker{number}{place.suffix}")


def stem_of(item: Input) -> str:
    """What the outputs of an input are named after."""
    return "stdin" if str(item.path) == STDIN else item.path.stem


def suffix_of(source: Path, output: Path | None, asked: str | None) -> str:
    """The suffix of the format to write. Raises UsageError where the names do not tell."""
    wanted = None if asked is None else f".{asked}"
    if output is not None and str(output) != STDOUT and not is_folder(output):
        named = output.suffix.lower() if output.suffix.lower() in SUFFIXES else None
        if wanted and named and SUFFIXES[wanted] != SUFFIXES[named]:
            raise UsageError(f"--format is {asked} and -o {output} is not; needs one of the two")
        if wanted is None and named is None:
            known = ", ".join(SUFFIXES)
            raise UsageError(f"{output}: suffix is {output.suffix!r}; needs {known}, or --format")
        return named or wanted or ".wav"
    own = source.suffix if source.suffix.lower() in SUFFIXES else None
    return wanted or own or _KIN.get(source.suffix.lower(), ".wav")


def plot_of(item: Input, sound: Path, output: Path | None) -> Path:
    """Where the picture of an input goes: beside its outputs."""
    if str(sound) == STDOUT:
        raise UsageError("--plot has no name beside stdout; needs -o with a file or folder")
    named = output is not None and not is_folder(output)
    stem = output.stem.replace("{}", "") if named and output is not None else stem_of(item)
    return sound.with_name(f"{stem}_speakers.png")


def work_through(job: Job, tasks: list[Task], common: Common) -> None:
    """Work on every task: a single one here, several by the engine; raises if one failed."""
    if not ready(tasks, common):
        return
    from sigform_speech.jobs import run, work_off

    notes: set[str] = set()
    if len(tasks) == 1 and common.engine == "local":
        record = do_alone(
            tasks[0], lambda on_progress: run(job, tasks[0], on_progress=on_progress), common
        )
        show(record, notes, common)
        return
    worker = partial(work_off, job, Path.cwd())
    share_out(
        tasks, worker, common, label="separating", show=lambda record: show(record, notes, common)
    )


def show(record: Record, told: set[str], common: Common) -> None:
    """The result of one input, on stdout; beside sound that went there, on stderr.

    A note that was `told` of an input before is not told again.
    """
    for note in record.get("notes", ()):
        if note not in told:
            common.console.say(f"{record['input']}: {note}")
            told.add(note)
    if record["status"] == "skipped":
        common.console.say(f"{', '.join(record['outputs'])}: all of it exists; skipped")
        if common.json:
            common.console.result(record, "")
    elif record["outputs"] == [STDOUT]:
        common.console.say(line_of(record))
    else:
        common.console.result(record, line_of(record))


def line_of(record: Record) -> str:
    """What was made of which input, for a reader."""
    names = [*record["outputs"], *filter(None, [record["plot"]])]
    return f"{record['input']} ({record['duration']:.1f} s) -> {', '.join(names)}"
