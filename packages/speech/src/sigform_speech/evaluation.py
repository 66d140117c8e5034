"""What `sigform-separate evaluate` does: scores of files, folders and the committed set, in tables.

Files of several channels are compared by their mean over the channels.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sigform_kit.errors import InputError, InputsFailedError, UsageError, describe
from sigform_kit.outputs import Policy, output
from sigform_speech.audio import READ_SUFFIXES
from sigform_speech.protocol import (
    Measurement,
    Mixture,
    Row,
    Samples,
    Separate,
    evaluation_mixtures,
    measure,
    measure_one,
    measurement,
)
from sigform_speech.reading import open_audio

MIXTURE_NAMES = ("mix", "mixture", "mix_clean")
"""What a mixture is called beside s1, s2, ...: a file in its own folder, or a folder of many."""

OnDone = Callable[[str], object]
"""Told the name of each mixture that is done, or failed."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """A mixture and its references, not read yet."""

    name: str
    mixture: Path
    references: tuple[Path, ...]


def evaluate_files(
    separate: Separate, mixture: Path, references: Sequence[Path], *, cut: bool = False
) -> Measurement:
    """Separate one file and compare with its references.

    With `cut` files of different length are compared up to the end of the shortest. Raises
    InputError naming the files where one cannot be read or rates or lengths differ.
    """
    files = Files(name=str(mixture), mixture=mixture, references=tuple(references))
    return measure(separate, [read_mixture(files, cut=cut)])


def evaluate_estimates(
    estimates: Sequence[Path],
    references: Sequence[Path],
    mixture: Path | None = None,
    *,
    cut: bool = False,
) -> Measurement:
    """Compare separated files, by whatever program, with the references.

    Without a mixture its place is taken by the sum of the references. Raises as `evaluate_files`
    does, and UsageError for fewer estimates than references.
    """
    if not 1 <= len(references) <= len(estimates):
        raise UsageError(
            f"there are {len(estimates)} estimates and {len(references)} references; "
            "needs an estimate for each reference"
        )
    others = () if mixture is None else (mixture,)
    signals, rate = _read_together([*others, *references, *estimates], cut=cut)
    sources = signals[len(others) : len(others) + len(references)]
    item = Mixture(
        name=str(mixture or estimates[0]),
        mixture=sources.sum(0) if mixture is None else signals[0],
        sources=sources,
        sample_rate=rate,
    )
    return measure(lambda *_: signals[-len(estimates) :], [item])


def evaluate_folder(
    separate: Separate, folder: Path, *, cut: bool = False, on_done: OnDone = lambda _: None
) -> Measurement:
    """Separate every mixture that `find_files` finds, and go on after those that fail.

    Raises as `find_files` does, and InputsFailedError where all of them fail.
    """
    rows: list[Row] = []
    failures: list[tuple[str, str]] = []
    found = find_files(folder)
    for files in found:
        try:
            rows.append(measure_one(separate, read_mixture(files, cut=cut)))
        except (InputError, ValueError, OSError) as error:
            failures.append((files.name, describe(error)))
        on_done(files.name)
    if not rows:
        raise InputsFailedError(failures, len(found))
    return measurement(rows, failures)


def evaluate_corpus(
    separate: Separate,
    root: Path,
    *,
    split: str = "test",
    count: int = 200,
    seed: int = 0,
    on_done: OnDone = lambda _: None,
) -> Measurement:
    """Measure on the committed set of a corpus; raises as `evaluation_mixtures` does."""
    mixtures = evaluation_mixtures(root, split, count, seed)
    return measure(separate, mixtures, on_done=lambda row: on_done(row.name))


def find_files(folder: Path) -> list[Files]:
    """The mixtures in a folder and their references, by name, in either of two layouts.

    A folder for each mixture, with files mix, s1, s2, ... in it (or `folder` itself is one); or
    LibriMix: folders mix_clean, s1, s2, ... with files of the same names. Raises InputError where
    there are none, and for a mixture without a reference.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    bundles = list(_bundles(folder))
    if not bundles:
        bundles = [files for place in sorted(folder.iterdir()) for files in _bundles(place)]
    if not bundles:
        raise InputError(
            f"{folder} has no mixtures; needs folders with mix.wav, s1.wav, s2.wav, "
            "or the folders mix_clean, s1, s2"
        )
    return bundles


def read_mixture(files: Files, *, cut: bool = False) -> Mixture:
    """Read a mixture and its references; raises as `evaluate_files` does."""
    if not files.references:
        raise UsageError(f"{files.mixture} has no references; needs one for each speaker")
    signals, rate = _read_together([files.mixture, *files.references], cut=cut)
    return Mixture(name=files.name, mixture=signals[0], sources=signals[1:], sample_rate=rate)


def table(result: Measurement) -> list[dict[str, Any]]:
    """A row for each mixture, the means of the groups and the mean over all; scores in dB.

    The columns are those of the scores that were taken; a value that there is not is None.
    """
    grouped = any(row.group for row in result.rows)

    def line(name: str, group: str, values: dict[str, Any], **more: Any) -> dict[str, Any]:
        pairing = {"pairing": group} if grouped else {}
        rest = {"permutation": None, "notes": None, **more}
        return {"mixture": name, **pairing, "seconds": rest.pop("seconds", None), **values, **rest}

    lines = [
        line(
            row.name,
            row.group,
            row.values(),
            seconds=round(row.seconds, 3),
            permutation=" ".join(str(estimate + 1) for estimate in row.scores.permutation),
            notes="; ".join(row.scores.notes) or None,
        )
        for row in result.rows
    ]
    lines += [line("mean", name, means) for name, (_, means) in result.groups.items()]
    return [*lines, line("mean", "", result.mean)]


def as_json(result: Measurement) -> dict[str, Any]:
    """The measurement as plain values, with each speaker's scores."""
    return {
        "mixtures": [
            {
                "mixture": row.name,
                **({"pairing": row.group} if row.group else {}),
                "seconds": row.seconds,
                "mixture_si_sdr": row.mixture_si_sdr,
                "speakers": [
                    {
                        "estimate": estimate + 1,
                        **{name: values[speaker] for name, values in row.scores.values.items()},
                    }
                    for speaker, estimate in enumerate(row.scores.permutation)
                ],
                "mean": row.scores.mean,
                "notes": list(row.scores.notes),
            }
            for row in result.rows
        ],
        "pairings": {
            name: {"mixtures": count, **means} for name, (count, means) in result.groups.items()
        },
        "mean": {"mixtures": len(result.rows), **result.mean},
        "failures": [{"mixture": name, "error": why} for name, why in result.failures],
        "notes": list(result.notes),
    }


def write_scores(result: Measurement, path: Path, policy: Policy = "refuse") -> None:
    """Write the scores, as CSV (`table`) or JSON (`as_json`) by the suffix, all or nothing.

    Raises UsageError for another suffix, and InputError as `sigform_kit.output` does.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise UsageError(f"{path} has the suffix {suffix!r}; needs .csv or .json")
    with output(path, policy, make_parents=True) as place:
        if suffix == ".json":
            place.write_text(
                json.dumps(as_json(result), indent=1, allow_nan=False) + "\n", encoding="utf-8"
            )
            return
        lines = table(result)
        with place.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)


def _bundles(folder: Path) -> Iterator[Files]:
    """The mixtures of one folder: a single one made of files, or many made of folders."""
    if not folder.is_dir():
        return
    entries = sorted(folder.iterdir())
    named = {path.stem: path for path in entries if _is_audio(path)}
    name = next((name for name in MIXTURE_NAMES if name in named), None)
    if name is not None:
        yield _bundle(folder.name, named[name], [named.get(f"s{n}") for n in range(1, 10)])
    name = next((name for name in MIXTURE_NAMES if (folder / name).is_dir()), None)
    if name is None:
        return
    for mixture in sorted(filter(_is_audio, (folder / name).iterdir())):
        places = [folder / f"s{n}" / mixture.name for n in range(1, 10)]
        yield _bundle(mixture.stem, mixture, [path if path.is_file() else None for path in places])


def _bundle(name: str, mixture: Path, places: Sequence[Path | None]) -> Files:
    if places[0] is None:
        raise InputError(f"{mixture} has no reference s1 beside it")
    references = places[: places.index(None)] if None in places else places
    return Files(name=name, mixture=mixture, references=tuple(filter(None, references)))


def _is_audio(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in READ_SUFFIXES


def _read_together(paths: Sequence[Path], *, cut: bool) -> tuple[Samples, int]:
    """Files of one rate and length, as (files, T), and the rate in Hz."""
    signals: list[Samples] = []
    rates: list[int] = []
    for path in paths:
        with open_audio(path) as audio:
            signals.append(audio.read().mean(0))
            rates.append(audio.format.sample_rate)
        if rates[-1] != rates[0]:
            raise InputError(
                f"{path} has {rates[-1]} Hz and {paths[0]} {rates[0]} Hz; needs one rate"
            )
        if not cut and len(signals[-1]) != len(signals[0]):
            raise InputError(
                f"{path} has {len(signals[-1])} samples and {paths[0]} {len(signals[0])}; "
                "--cut compares up to the end of the shorter"
            )
    samples = min(map(len, signals))
    return np.stack([signal[:samples] for signal in signals]), rates[0]
