"""What to train on: recordings by speaker, mixed anew for every item (dynamic mixing).

An item is a function of the seed and its number alone, so a training that was stopped goes on with
the mixtures it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sigform_kit import InputError

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
"""Of recordings that a folder is searched for."""

ITEMS = 1_000_000
"""Mixtures before the numbers begin again; a training sees fewer."""

LEVEL = 0.06
"""Root mean square of a mixture's loudest speaker; the network itself is blind to levels."""

QUIET = 1e-3
"""Root mean square below which a crop is taken for a pause, full scale being 1."""

TRIES = 8
"""Crops that are drawn before a quiet one is taken."""

Float = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A file of one voice: where it is, its rate in Hz and its length in samples."""

    path: Path
    sample_rate: int
    frames: int


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A speaker and the recordings of nobody else."""

    name: str
    recordings: tuple[Recording, ...]

    @property
    def seconds(self) -> float:
        return sum(file.frames / file.sample_rate for file in self.recordings)


def find_voices(folder: Path, *, least_seconds: float = 0.5) -> list[Voice]:
    """The speakers of a folder that has a folder for each, by name; files shorter are left out.

    Raises InputError naming a file that is no audio, and when fewer than two speakers are found.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; needs one with a folder for each speaker")
    voices: list[Voice] = []
    for speaker in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in speaker.rglob("*") if path.suffix.lower() in SUFFIXES)
        recordings = tuple(
            file for file in map(_look, files) if file.frames >= least_seconds * file.sample_rate
        )
        if recordings:
            voices.append(Voice(name=speaker.name, recordings=recordings))
    if len(voices) < 2:
        raise InputError(
            f"{folder} has recordings of {len(voices)} speakers; needs two or more, "
            f"in a folder each ({', '.join(SUFFIXES)})"
        )
    return voices


def _look(path: Path) -> Recording:
    try:
        found = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise InputError(f"{path} cannot be read as audio: {error}") from error
    return Recording(path=path, sample_rate=found.samplerate, frames=found.frames)


def hold_out(
    voices: Sequence[Voice], seed: int, share: float = 0.1, *, least: int = 2
) -> tuple[list[Voice], list[Voice]]:
    """Speakers to train on and others to validate on, drawn by the seed; `least` of each or more.

    Raises ValueError for fewer than twice as many speakers.
    """
    if len(voices) < 2 * least:
        raise ValueError(
            f"{len(voices)} speakers are given; needs {2 * least} to hold {least} of them out"
        )
    count = max(least, min(len(voices) - least, round(share * len(voices))))
    held = set(np.random.default_rng(seed).permutation(len(voices))[:count].tolist())
    train = [voice for number, voice in enumerate(voices) if number not in held]
    return train, [voices[number] for number in sorted(held)]


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How crops become a mixture."""

    seconds: float = 3.0
    gain_db: float = 5.0  # each speaker's level is drawn from this below to this above
    speed: float = 0.1  # and its speed (pitch with it) from this share slower to faster
    turns: float = 0.15  # share of mixtures in which one speaker is silent for a part

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise ValueError(f"seconds is {self.seconds}; needs more than 0")
        if self.gain_db < 0:
            raise ValueError(f"gain_db is {self.gain_db}; needs 0 or more")
        if not 0 <= self.speed < 0.5 or not 0 <= self.turns <= 1:
            raise ValueError(
                f"speed is {self.speed} and turns {self.turns}; needs shares, speed below 0.5"
            )


class DynamicMixtures(Dataset[tuple[Tensor, Tensor]]):
    """Mixtures of different speakers: (mixture (T,), sources (S, T)), float32.

    The mixture is the sum of the sources. Raises ValueError with fewer voices than speakers, and
    InputError for a recording that cannot be read.
    """

    def __init__(
        self,
        voices: Sequence[Voice],
        *,
        speakers: int,
        sample_rate: int,
        seed: int,
        mixing: Mixing | None = None,
        items: int = ITEMS,
    ) -> None:
        if len(voices) < speakers:
            raise ValueError(f"{len(voices)} voices are given; needs {speakers} or more")
        self.voices = list(voices)
        self.speakers = speakers
        self.sample_rate = sample_rate
        self.seed = seed
        self.mixing = mixing or Mixing()
        self.samples = round(self.mixing.seconds * sample_rate)
        self.items = items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.items:
            raise IndexError(f"index is {index}; needs one of {self.items} mixtures")
        random = np.random.default_rng([self.seed, index])
        chosen = random.choice(len(self.voices), self.speakers, replace=False)
        sources = np.stack([self._speak(self.voices[number], random) for number in chosen])
        if random.random() < self.mixing.turns:
            sources[0] *= self._turn(random)
        sources *= LEVEL / max(_rms(sources).max(), QUIET)
        return torch.from_numpy(sources.sum(0)), torch.from_numpy(sources)

    def _speak(self, voice: Voice, random: np.random.Generator) -> Float:
        """A crop of a voice at a level and a speed, (T,)."""
        mixing = self.mixing
        lengths = np.array([file.frames / file.sample_rate for file in voice.recordings])
        file = voice.recordings[int(random.choice(len(lengths), p=lengths / lengths.sum()))]
        speed = 1 + random.uniform(-mixing.speed, mixing.speed)
        rate = file.sample_rate * speed  # read as if it were recorded at this
        wanted = min(file.frames, int(np.ceil(self.samples * rate / self.sample_rate)) + 1)
        crop = np.zeros(0, np.float32)
        for _ in range(TRIES):
            start = int(random.integers(0, file.frames - wanted + 1))
            crop = read_span(file, start, wanted)
            if _rms(crop) >= QUIET:
                break
        if rate != self.sample_rate:
            crop = soxr.resample(crop, rate, self.sample_rate, quality="MQ")
        crop = crop[: self.samples]
        spare = self.samples - len(crop)
        if spare > 0:  # a short recording begins somewhere
            before = int(random.integers(0, spare + 1))
            crop = np.pad(crop, (before, spare - before))
        gain = 10 ** (random.uniform(-mixing.gain_db, mixing.gain_db) / 20)
        return (crop * (gain / max(_rms(crop), QUIET))).astype(np.float32)

    def _turn(self, random: np.random.Generator) -> Float:
        """A gate (T,) that is closed for up to half of the time, with soft edges."""
        length = int(self.samples * random.uniform(0.2, 0.5))
        start = int(random.integers(-length // 2, self.samples - length // 2))
        gate = np.ones(self.samples, np.float32)
        gate[max(0, start) : start + length] = 0
        edge = max(1, self.sample_rate // 50)
        return np.convolve(gate, np.full(edge, 1 / edge, np.float32), mode="same")


def read_span(file: Recording, start: int, frames: int) -> Float:
    """Samples of a recording, its channels averaged: (frames,).

    Raises InputError when the file cannot be read there, or has samples that are not finite.
    """
    try:
        samples, _ = soundfile.read(
            file.path, frames, start, dtype="float32", always_2d=True, fill_value=0.0
        )
    except (soundfile.LibsndfileError, OSError) as error:
        raise InputError(f"{file.path} cannot be read at sample {start}: {error}") from error
    if not np.isfinite(samples).all():
        raise InputError(f"{file.path} has samples that are not numbers after sample {start}")
    return samples.mean(axis=1)


class LibriMixCrops(Dataset[tuple[Tensor, Tensor]]):
    """Crops of a LibriMix set as its authors mixed it: (mixture (T,), sources (S, T)).

    `root` holds `Libri2Mix` or `Libri3Mix` (or is one), `subset` is train-100, train-360, dev or
    test; torchaudio's dataset knows the layout. Without `seconds` mixtures are whole; with `items`
    that many of them are taken, from all over the set. Raises InputError when the set is not there
    or a file does not fit its mixture, ValueError for a rate that LibriMix does not have,
    ImportError without torchaudio.
    """

    def __init__(
        self,
        root: Path,
        subset: str,
        *,
        speakers: int,
        sample_rate: int,
        seed: int,
        seconds: float | None,
        items: int | None = None,
    ) -> None:
        try:
            from torchaudio.datasets import LibriMix
        except ModuleNotFoundError as error:
            raise ImportError(
                "LibriMix needs torchaudio; install it: pip install 'sigform-speech[librimix]'"
            ) from error
        name = f"Libri{speakers}Mix"
        holder = root.resolve().parent if root.resolve().name == name else root
        try:
            self.set = LibriMix(holder, subset, speakers, sample_rate, "sep_clean", "min")
        except RuntimeError as error:
            raise InputError(
                f"{root} has no folder {name}; needs LibriMix as it was made"
            ) from error
        if not len(self.set):
            raise InputError(f"{self.set.mix_dir} has no mixtures; needs LibriMix's {subset}")
        count = len(self.set)
        self.chosen = np.linspace(
            0, count, min(items or count, count), endpoint=False, dtype=int
        ).tolist()
        self.sample_rate = sample_rate
        self.seed = seed
        self.samples = None if seconds is None else round(seconds * sample_rate)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        # The set's own reading needs TorchCodec with FFmpeg, and reads whole files for a crop.
        _, mixture, sources = self.set.get_metadata(self.chosen[index])
        files = [_look(self.set.root / path) for path in (mixture, *sources)]
        frames = files[0].frames
        for file in files:
            if (file.frames, file.sample_rate) != (frames, self.sample_rate):
                raise InputError(
                    f"{file.path} has {file.frames} samples at {file.sample_rate} Hz; "
                    f"needs {frames} at {self.sample_rate} Hz as its mixture"
                )
        wanted = frames if self.samples is None else min(frames, self.samples)
        random = np.random.default_rng([self.seed, index])
        start = int(random.integers(0, frames - wanted + 1))
        crops = torch.from_numpy(np.stack([read_span(file, start, wanted) for file in files]))
        if self.samples is not None:
            crops = torch.nn.functional.pad(crops, (0, self.samples - wanted))
        return crops[0], crops[1:]


def _rms(samples: Float) -> NDArray[np.floating]:
    return np.sqrt(np.mean(np.square(samples), axis=-1))
