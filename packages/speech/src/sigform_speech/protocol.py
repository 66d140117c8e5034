"""The committed evaluation set: two readers at a time, mixed in the manner of WSJ0-2mix.

A corpus is a folder for each split with a folder for each reader in it, and `speakers.csv` beside
the splits, which tells the readers' genders. Every choice is drawn from a hash of the seed and
of what is chosen, so that the set depends on the seed and the files alone: not on their order on
disk, nor on the version of anything.

Shapes: S speakers, T samples.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import soundfile
from numpy.typing import NDArray

from sigform_kit.errors import InputError, describe
from sigform_speech.data import Recording, Voice, find_voices
from sigform_speech.metrics import Scores, mean_of, missing_scores, score

Samples: TypeAlias = NDArray[np.float32]

Separate: TypeAlias = Callable[[Samples, int], Samples]
"""The mixture (T,) and its sample rate in Hz -> the speakers (S, T)."""

PAIRINGS = {"FF": "female-female", "FM": "female-male", "MM": "male-male"}
"""The genders of two readers; in this order they take turns in the set."""

SHORTEST, LONGEST = 3.0, 8.0
"""Seconds of a mixture; shorter utterances are not used, longer ones are cut."""

LEVELS = 2.5
"""dB, by which one speaker is at most louder than the other."""

LOUDNESS = -26.0
"""dBFS of active speech, around which the two speakers lie."""

PEAK = 0.9
"""The highest sample of a mixture and its speakers; louder ones are turned down together."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What a separation is measured on: a mixture (T,) and what each speaker said (S, T)."""

    name: str
    mixture: Samples
    sources: Samples
    sample_rate: int  # Hz
    group: str = ""  # the pairing, where it is known


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a mixture of the set is made."""

    name: str
    pairing: str  # a key of PAIRINGS, or empty where the genders are not known
    speakers: tuple[str, str]
    utterances: tuple[str, str]  # below the corpus, with /
    starts: tuple[int, int]  # samples
    samples: int
    level: float  # dB, of the first speaker over the second
    sample_rate: int  # Hz


class MixtureSet(Sequence[Mixture]):
    """The mixtures of a list of recipes, each made when it is asked for.

    Raises InputError for an utterance that is gone, shorter than it was, or not mono.
    """

    def __init__(self, root: Path, recipes: Sequence[Recipe]) -> None:
        self.root = root
        self.recipes = tuple(recipes)

    def __len__(self) -> int:
        return len(self.recipes)

    @overload
    def __getitem__(self, index: int) -> Mixture: ...
    @overload
    def __getitem__(self, index: slice) -> MixtureSet: ...
    def __getitem__(self, index: int | slice) -> Mixture | MixtureSet:
        if isinstance(index, slice):
            return MixtureSet(self.root, self.recipes[index])
        return mix(self.root, self.recipes[index])


def evaluation_mixtures(
    root: str | Path, split: str = "test", count: int = 200, seed: int = 0
) -> MixtureSet:
    """The evaluation set of a corpus: `count` mixtures of two different readers of a split.

    Female-female, female-male and male-male pairs take turns (of 200: 67, 67 and 66) as far as
    there are readers for them; a pair comes again only after all others of its kind. A smaller
    count gives the beginning of a larger one. Raises InputError where there is no such corpus.
    """
    if count < 1:
        raise ValueError(f"count is {count}; needs 1 or more")
    root = Path(root)
    voices = find_voices(root / split, least_seconds=SHORTEST)
    pairings = _pairings(voices, _genders(root / "speakers.csv"), seed)
    recipes = []
    for index in range(count):
        turn, which = index // len(pairings), index % len(pairings)
        pairing, pairs = pairings[which]
        recipes.append(_recipe(root, index, pairing, pairs[turn % len(pairs)], seed))
    return MixtureSet(root, recipes)


def mix(root: Path, recipe: Recipe) -> Mixture:
    """Read, cut, level and add up the two utterances of a recipe; mixture == sum of the sources."""
    levels = (recipe.level / 2, -recipe.level / 2)
    sources = np.stack(
        [
            _levelled(_read(root, recipe, speaker), LOUDNESS + levels[speaker], recipe.sample_rate)
            for speaker in (0, 1)
        ]
    )  # (2, T)
    highest = max(np.abs(sources).max(), np.abs(sources.sum(0)).max())
    sources = (sources * min(1, PEAK / highest)).astype(np.float32)
    return Mixture(
        name=recipe.name,
        mixture=sources[0] + sources[1],
        sources=sources,
        sample_rate=recipe.sample_rate,
        group=recipe.pairing,
    )


def active_rms(signal: NDArray, sample_rate: int) -> float:
    """Root mean square of the speech in a signal (T,): of its 32 ms frames within 40 dB of the
    loudest, so that pauses do not count."""
    frame = max(1, min(round(0.032 * sample_rate), len(signal)))
    frames = signal[: len(signal) // frame * frame].astype(np.float64).reshape(-1, frame)
    power = np.square(frames).mean(1)
    return float(np.sqrt(power[power >= power.max() * 1e-4].mean()))


@dataclass(frozen=True, kw_only=True)
class Row:
    """A mixture that was separated, and how well."""

    name: str
    group: str
    seconds: float
    scores: Scores
    mixture_si_sdr: float | None  # dB, of the unprocessed mixture, mean over the speakers

    def values(self) -> dict[str, float | None]:
        """The means over the speakers, the unprocessed mixture's SI-SDR first."""
        return {"mixture_si_sdr": self.mixture_si_sdr, **self.scores.mean}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The scores on several mixtures.

    `failures` are the names of mixtures that could not be read or separated, and why; `notes` say
    what is missing in all the rows.
    """

    rows: tuple[Row, ...]
    failures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> dict[str, float | None]:
        """The mean of each score over the mixtures that have it."""
        return _means(self.rows)

    @property
    def groups(self) -> dict[str, tuple[int, dict[str, float | None]]]:
        """For each group its number of mixtures and their means; empty without groups."""
        names = sorted({row.group for row in self.rows} - {""})
        members = {name: [row for row in self.rows if row.group == name] for name in names}
        return {name: (len(rows), _means(rows)) for name, rows in members.items()}


def measure(
    separate: Separate,
    mixtures: Iterable[Mixture],
    *,
    on_done: Callable[[Row], object] = lambda _: None,
) -> Measurement:
    """Separate each mixture and score the result beside the unprocessed mixture.

    `separate` may give more speakers than there are: the best are scored. Raises ValueError naming
    the mixture where what it gives does not fit, or where there are no mixtures.
    """
    rows = []
    for item in mixtures:
        rows.append(measure_one(separate, item))
        on_done(rows[-1])
    return measurement(rows)


def measure_one(separate: Separate, item: Mixture) -> Row:
    """The row of one mixture. Raises what `separate` does, and ValueError as `measure` does."""
    estimates = separate(item.mixture, item.sample_rate)
    try:
        scores = score(estimates, item.sources, item.mixture, item.sample_rate)
    except ValueError as error:
        raise ValueError(f"{item.name}: {error}") from error
    pairs = zip(scores.values["si_sdr"], scores.values["si_sdri"], strict=True)
    return Row(
        name=item.name,
        group=item.group,
        seconds=len(item.mixture) / item.sample_rate,
        scores=scores,
        mixture_si_sdr=mean_of(
            None if value is None or gain is None else value - gain for value, gain in pairs
        ),
    )


def measurement(rows: Sequence[Row], failures: Sequence[tuple[str, str]] = ()) -> Measurement:
    """The measurement of these rows. Raises ValueError where there are none."""
    if not rows:
        raise ValueError("there is no mixture to evaluate; needs 1 or more")
    missing = missing_scores()
    return Measurement(
        rows=tuple(rows), failures=tuple(failures), notes=(missing,) if missing else ()
    )


def _means(rows: Sequence[Row]) -> dict[str, float | None]:
    values = [row.values() for row in rows]
    return {name: mean_of(row[name] for row in values) for name in values[0]}


def _pairings(
    voices: Sequence[Voice], genders: Mapping[str, str], seed: int
) -> list[tuple[str, list[tuple[Voice, Voice]]]]:
    """Of each pairing that the readers allow, all pairs in the order in which they are taken.

    Where the genders of fewer than two readers are known, all pairs are of one nameless pairing.
    """
    known = [voice for voice in voices if voice.name in genders]
    pairings: dict[str, list[tuple[Voice, Voice]]] = {}
    if len(known) < 2:
        pairings[""] = list(combinations(voices, 2))
    else:
        for pair in combinations(sorted(known, key=lambda voice: genders[voice.name]), 2):
            pairings.setdefault(genders[pair[0].name] + genders[pair[1].name], []).append(pair)
    for pairs in pairings.values():
        pairs.sort(key=lambda pair: _draw(seed, "pair", pair[0].name, pair[1].name))
    return sorted(pairings.items())


def _recipe(root: Path, index: int, pairing: str, pair: tuple[Voice, Voice], seed: int) -> Recipe:
    first = int(_draw(seed, "first", index) * 2)
    pair = (pair[first], pair[1 - first])
    chosen: list[Recording] = []
    for speaker, voice in enumerate(pair):
        names = {_below(root, file.path): file for file in voice.recordings}
        number = int(_draw(seed, "utterance", index, speaker) * len(names))
        chosen.append(names[sorted(names)[number]])
    rate = chosen[0].sample_rate
    for file in chosen:
        if file.sample_rate != rate:
            raise InputError(
                f"{file.path} has {file.sample_rate} Hz and {chosen[0].path} {rate} Hz; "
                "a corpus needs one sample rate"
            )
    samples = min(int(LONGEST * rate), *(file.frames for file in chosen))
    starts = [
        int(_draw(seed, "start", index, speaker) * (file.frames - samples + 1))
        for speaker, file in enumerate(chosen)
    ]
    return Recipe(
        name="_".join(part for part in (f"{index:03}", pairing, *(v.name for v in pair)) if part),
        pairing=pairing,
        speakers=(pair[0].name, pair[1].name),
        utterances=(_below(root, chosen[0].path), _below(root, chosen[1].path)),
        starts=(starts[0], starts[1]),
        samples=samples,
        level=round(LEVELS * (2 * _draw(seed, "level", index) - 1), 2),
        sample_rate=rate,
    )


def _draw(seed: int, *what: object) -> float:
    """A number in [0, 1) that depends on the arguments alone."""
    text = "/".join(map(str, (seed, *what)))
    digest = hashlib.blake2b(text.encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def _genders(path: Path) -> dict[str, str]:
    """The gender, F or M, by reader; empty without the file. Raises InputError for another file."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {describe(error)}") from error
    if rows and not {"speaker_id", "gender"} <= rows[0].keys():
        raise InputError(f"{path} has no columns speaker_id and gender")
    genders = {row["speaker_id"]: (row["gender"] or "").strip().upper()[:1] for row in rows}
    return {name: gender for name, gender in genders.items() if gender in ("F", "M")}


def _read(root: Path, recipe: Recipe, speaker: int) -> Samples:
    path = root / recipe.utterances[speaker]
    try:
        signal, rate = soundfile.read(
            path, recipe.samples, recipe.starts[speaker], dtype="float32", always_2d=True
        )
    except (OSError, soundfile.SoundFileError) as error:
        raise InputError(f"{path} cannot be read: {describe(error)}") from error
    if signal.shape != (recipe.samples, 1) or rate != recipe.sample_rate:
        raise InputError(
            f"{path} has {len(signal)} samples of {signal.shape[1]} channels at {rate} Hz; "
            f"needs {recipe.samples} of one at {recipe.sample_rate} Hz"
        )
    return signal[:, 0].astype(np.float32)


def _levelled(signal: Samples, level: float, sample_rate: int) -> NDArray[np.float64]:
    """A signal (T,) with its mean taken off and its active speech at a level in dBFS."""
    centred = signal.astype(np.float64) - signal.mean(dtype=np.float64)
    return centred * (10 ** (level / 20) / max(active_rms(centred, sample_rate), 1e-9))


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
