"""Training data: images, clips and clips with sound from a person's folder, as datasets.

Everything is decoded and conformed once; an item then is a function of (seed, its number) alone.
Letters of shapes: S side in pixels, T frames, N samples of sound.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sigform_generate.conform import conform_clip, conform_image, conform_sound
from sigform_generate.media import READ_SUFFIXES, Clip, read_clip
from sigform_generate.pictures import read_image
from sigform_kit.errors import InputError

DRAWS = 1 << 20
"""Different items a training draws from before it starts over."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif")
SILENT = 1e-4
"""The largest sample of a track that counts as silent."""

Item = TypeVar("Item")
Shaped = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
OnPrepared = Callable[[int, int], None]  # items done, items in all


@dataclass(frozen=True)
class Source:
    """One clip: a film or GIF, or entry `index` of an archive .npz with `frames` and `fps`.

    An archive holds frames (n, T, H, W, 3) uint8, fps and, for sound, audio (n, N) int16 and
    sample_rate.
    """

    path: Path
    index: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.index is None else f"{self.path}[{self.index}]"

    def load(self, *, sound: bool = False, shaped: Shaped | None = None) -> Clip:
        """Decode the clip, a film's frames shaped one by one. Raises InputError with its name."""
        if self.index is None:
            return read_clip(self.path, sound=sound, shaped=shaped)
        held = _archive(self.path, self.path.stat().st_mtime_ns)
        audio = held.audio[self.index] if sound and held.audio is not None else None
        if audio is not None and audio.dtype == np.int16:
            audio = audio.astype(np.float32) / 32768
        return Clip(
            frames=held.frames[self.index],
            fps=held.fps,
            audio=None if audio is None else np.atleast_2d(audio).astype(np.float32),
            sample_rate=None if audio is None else held.sample_rate,
            name=str(self),
        )


@dataclass(frozen=True, eq=False)
class _Archive:
    frames: NDArray[np.uint8]
    fps: Fraction
    audio: NDArray | None
    sample_rate: int | None


@functools.lru_cache(maxsize=2)
def _archive(path: Path, _changed: int) -> _Archive:
    try:
        # numpy leaves a file of its own open where the archive is broken.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            frames, fps = parts["frames"], Fraction(float(parts["fps"])).limit_denominator(1001)
            audio = parts.get("audio")
            rate = int(parts["sample_rate"]) if audio is not None else None
    except KeyError as error:
        raise InputError(f"{path}: {str(error.args[0]).strip()}; needs frames and fps") from error
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"{path}: not an archive of clips ({error})") from error
    except Exception as error:
        # zipfile and zlib have errors of their own for a broken archive.
        raise InputError(f"{path}: broken archive ({error})") from error
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[-1] != 3:
        raise InputError(
            f"{path}: frames are {frames.dtype} of shape {frames.shape}; "
            "needs uint8 (clips, frames, height, width, 3)"
        )
    return _Archive(frames, fps, audio, rate)


# --- what is in a folder -------------------------------------------------------------------------


def find_images(folder: Path) -> tuple[list[Path], list[str]]:
    """All pictures under a folder in order of their names, and a line for every other file.

    Raises InputError where there is none.
    """
    found, notes = _walk(folder, IMAGE_SUFFIXES, "image")
    if not found:
        raise InputError(f"{folder}: has no images ({', '.join(IMAGE_SUFFIXES)})")
    return found, notes


def find_clips(folder: Path) -> tuple[list[Source], list[str]]:
    """All clips under a folder (or of one file): films, GIFs, and every entry of .npz archives.

    Raises InputError where there is none.
    """
    found, notes = _walk(folder, (*READ_SUFFIXES, ".npz"), "clip")
    sources: list[Source] = []
    for path in found:
        if path.suffix.lower() == ".npz":
            count = len(_archive(path, path.stat().st_mtime_ns).frames)
            sources += [Source(path, index) for index in range(count)]
        else:
            sources.append(Source(path))
    if not sources:
        raise InputError(f"{folder}: has no clips ({', '.join((*READ_SUFFIXES, '.npz'))})")
    return sources, notes


def _walk(folder: Path, suffixes: Sequence[str], kind: str) -> tuple[list[Path], list[str]]:
    if folder.is_file():
        return [folder], []
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    good = [path for path in files if path.suffix.lower() in suffixes]
    notes = [f"skipped {path}: not of a kind of {kind}" for path in files if path not in set(good)]
    return good, notes


def held_out(
    items: Sequence[Item], seed: int, *, share: float = 0.1, most: int = 256
) -> tuple[list[Item], list[Item]]:
    """(to train on, held out): a share of the items chosen by the seed, at least one of each.

    Raises InputError for fewer than two items.
    """
    if len(items) < 2:
        raise InputError(f"{len(items)} items to train on; needs at least 2, one is held out")
    count = min(most, max(1, round(share * len(items))), len(items) - 1)
    chosen = set(np.random.default_rng([seed, 1]).permutation(len(items))[:count].tolist())
    train = [item for number, item in enumerate(items) if number not in chosen]
    return train, [items[number] for number in sorted(chosen)]


# --- datasets ------------------------------------------------------------------------------------


class ImageSet(Dataset[Tensor]):
    """Pictures as (3, S, S) in [-1, 1], the middle square resized.

    With `flip`, item i of many is picture i modulo their number, mirrored by a coin of (seed, i);
    without, item i is picture i. Broken files are left out and named in `notes`. `cache` is a
    folder in which the pixels are kept, and mapped from there rather than held.

    Raises InputError where fewer than `least` are left.
    """

    def __init__(
        self,
        files: Sequence[Path],
        size: int,
        *,
        flip: bool = False,
        seed: int = 0,
        least: int = 1,
        cache: Path | None = None,
        on_prepared: OnPrepared | None = None,
    ) -> None:
        self.flip = flip
        self.seed = seed
        self.notes: list[str] = []
        self.files: list[Path] = []
        kept: list[NDArray[np.uint8]] = []
        for number, path in enumerate(files):
            try:
                kept.append(stored(cache, [path, "image", size], functools.partial(_side, size)))
                self.files.append(path)
            except InputError as error:
                self.notes.append(f"skipped {error.format_message()}")
            if on_prepared is not None:
                on_prepared(number + 1, len(files))
        _check_count(len(kept), least, "images", files)
        self.pixels = kept

    def __len__(self) -> int:
        return DRAWS if self.flip else len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        pixels = self.pixels[index % len(self.pixels)]
        if self.flip and np.random.default_rng([self.seed, index]).integers(2):
            pixels = pixels[:, ::-1]
        return to_tensor(pixels)


class ClipSet(Dataset[Tensor]):
    """Clips as (T, 3, S, S) in [-1, 1] at `fps`.

    With `augment`, item i is a window chosen evenly from all by (seed, i), mirrored by a coin;
    without, the middle window of clip i. Clips that are broken or too short are left out and named
    in `notes`.

    Raises InputError where fewer than `least` are left.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        frames: int,
        size: int,
        fps: float,
        *,
        augment: bool = False,
        seed: int = 0,
        least: int = 1,
        cache: Path | None = None,
        on_prepared: OnPrepared | None = None,
    ) -> None:
        self.frames = frames
        self.size = size
        self.fps = fps
        self.augment = augment
        self.seed = seed
        self.notes: list[str] = []
        self.sources: list[Source] = []
        self.clips: list[NDArray[np.uint8]] = []  # (n, S, S, 3) each, n >= T
        for number, source in enumerate(sources):
            try:
                self._take(source, size, fps, cache)
            except InputError as error:
                self.notes.append(f"skipped {error.format_message()}")
            if on_prepared is not None:
                on_prepared(number + 1, len(sources))
        _check_count(len(self.clips), least, "clips", [source.path for source in sources])
        self.ends = np.cumsum([len(clip) - frames + 1 for clip in self.clips])

    def _take(self, source: Source, size: int, fps: float, cache: Path | None) -> None:
        def make(_: Path) -> NDArray[np.uint8]:
            clip = source.load(shaped=lambda pixels: conform_image(pixels, size)[0])
            return conform_clip(clip, size=size, fps=fps)[0]

        clip = stored(cache, [source.path, "clip", source.index, size, fps], make)
        _check_length(len(clip), self.frames, fps, source)
        self.clips.append(clip)
        self.sources.append(source)

    def __len__(self) -> int:
        return DRAWS if self.augment else len(self.clips)

    def window(self, index: int) -> tuple[int, int, bool]:
        """Item i as (number of the clip, first frame, mirrored)."""
        if not self.augment:
            return index, (len(self.clips[index]) - self.frames) // 2, False
        random = np.random.default_rng([self.seed, index])
        place = int(random.integers(self.ends[-1]))
        number = int(np.searchsorted(self.ends, place, side="right"))
        first = place - (int(self.ends[number - 1]) if number else 0)
        return number, first, bool(random.integers(2))

    def __getitem__(self, index: int) -> Tensor:
        number, first, mirrored = self.window(index)
        pixels = self.clips[number][first : first + self.frames]
        return to_tensor(pixels[:, :, ::-1] if mirrored else pixels)


class AVSet(Dataset[tuple[Tensor, Tensor]]):
    """Clips with sound as (frames (T, 3, S, S) in [-1, 1], sound (N,) in [-1, 1]).

    N is what lasts as long as T frames: round(T / fps * sample_rate). Windows are drawn as
    ClipSet does; clips without sound, or with silence alone, are left out and named in `notes`.

    Raises InputError where fewer than `least` are left.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        frames: int,
        size: int,
        fps: float,
        *,
        sample_rate: int = 16000,
        augment: bool = False,
        seed: int = 0,
        least: int = 1,
        cache: Path | None = None,
        on_prepared: OnPrepared | None = None,
    ) -> None:
        self.fps = fps
        self.sample_rate = sample_rate
        self.samples = round(frames / fps * sample_rate)
        notes: list[str] = []
        heard: list[Source] = []
        self.sounds: list[NDArray[np.float32]] = []
        for source in sources:
            try:
                sound = stored(
                    cache,
                    [source.path, "sound", source.index, sample_rate],
                    functools.partial(_mono, source, sample_rate),
                )
            except InputError as error:
                notes.append(f"skipped {error.format_message()}")
                continue
            heard.append(source)
            self.sounds.append(sound)
        _check_count(len(heard), least, "clips with sound", [s.path for s in sources], notes)
        self.clips = ClipSet(
            heard,
            frames,
            size,
            fps,
            augment=augment,
            seed=seed,
            least=least,
            cache=cache,
            on_prepared=on_prepared,
        )
        kept = dict(zip(heard, self.sounds, strict=True))
        self.sounds = [kept[source] for source in self.clips.sources]
        self.sources = self.clips.sources
        self.notes = [*notes, *self.clips.notes]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        number, first, _ = self.clips.window(index)
        return self.clips[index], torch.from_numpy(self.sound(number, first))

    def sound(self, number: int, first: int) -> NDArray[np.float32]:
        """What is heard of clip `number` (N,) in the window that begins with frame `first`."""
        start = round(first / self.fps * self.sample_rate)
        sound = self.sounds[number][start : start + self.samples]
        return np.pad(sound, (0, self.samples - len(sound))).astype(np.float32)


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [-1, 1]."""
    moved = np.ascontiguousarray(np.moveaxis(pixels, -1, -3), dtype=np.float32)
    return torch.from_numpy(moved).div_(127.5).sub_(1.0)


def to_pixels(values: Tensor) -> NDArray[np.uint8]:
    """float (..., 3, H, W) in [-1, 1], clipped -> uint8 (..., H, W, 3)."""
    whole = values.detach().float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return np.ascontiguousarray(np.moveaxis(whole.cpu().numpy(), -3, -1))


# --- preparing -----------------------------------------------------------------------------------


def _side(size: int, path: Path) -> NDArray[np.uint8]:
    return conform_image(read_image(path), size)[0]


def _mono(source: Source, sample_rate: int, _: Path) -> NDArray[np.float32]:
    clip = source.load(sound=True, shaped=lambda pixels: pixels[:1, :1].copy())
    if clip.audio is None or clip.sample_rate is None:
        raise InputError(f"{source}: has no sound")
    sound = conform_sound(clip.audio, clip.sample_rate, sample_rate=sample_rate)[0]
    if not len(sound) or float(np.abs(sound).max()) < SILENT:
        raise InputError(f"{source}: its sound is silent")
    return sound


def stored(cache: Path | None, key: list, make: Callable[[Path], NDArray]) -> NDArray:
    """What `make(key[0])` gives, kept in the cache folder if there is one, then mapped."""
    path: Path = key[0]
    if cache is None:
        return make(path)
    stat = path.stat()
    mark = json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns, *key[1:]])
    file = cache / f"{hashlib.sha256(mark.encode()).hexdigest()[:24]}.npy"
    if not file.exists():
        made = make(path)
        cache.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        with part.open("wb") as stream:
            np.save(stream, np.ascontiguousarray(made))
        part.replace(file)  # where it exists, it is whole
    # Many thousand mapped files would run out of handles: small ones are held.
    return np.load(file, mmap_mode="r" if file.stat().st_size > 1 << 20 else None)


def _check_length(count: int, frames: int, fps: float, source: Source) -> None:
    if count < frames:
        raise InputError(
            f"{source}: has {count} frames at {fps:g} fps; needs {frames}, {frames / fps:.2f} s"
        )


def _check_count(
    count: int, least: int, kind: str, paths: Iterable[Path], notes: Sequence[str] = ()
) -> None:
    if count < max(1, least):
        where = sorted({str(path.parent) for path in paths})
        place = where[0] if len(where) == 1 else f"{len(where)} folders"
        why = f" ({notes[0]})" if notes else ""
        raise InputError(f"{place}: has {count} usable {kind}; needs at least {max(1, least)}{why}")
