"""Training pairs: pictures of a folder beside their bicubic reductions, and random crops of both.

Letters of shapes: s scale, p patch (pixels of the small picture).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sigform_superres.protocol import degrade
from sigform_superres.reading import read_picture

CROPS = 1 << 20
"""Different crops a training draws from before it starts over."""

OnPrepared = Callable[[int, int], None]  # pictures done, pictures in all


@dataclass(frozen=True)
class Pair:
    """A picture and its bicubic reduction, RGB uint8, mapped from disk rather than held."""

    name: str
    large: NDArray[np.uint8]  # (s * h, s * w, 3)
    small: NDArray[np.uint8]  # (h, w, 3)


def prepare_pairs(
    pictures: Sequence[Path],
    scale: int,
    folder: Path,
    *,
    least: int = 1,
    on_prepared: OnPrepared | None = None,
) -> list[Pair]:
    """Decode and reduce pictures once, into a subfolder of `folder`; later calls only map them.

    Pictures whose small side would be under `least` pixels are left out. Grey becomes RGB, 16 bit
    is rounded to 8, alpha is ignored. Raises InputError for a file that cannot be read, and
    ValueError when no picture is left.
    """
    stats = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in pictures
    ]
    mark = hashlib.sha256(json.dumps([scale, least, stats]).encode()).hexdigest()[:16]
    home = folder / f"x{scale}_{mark}"
    home.mkdir(parents=True, exist_ok=True)
    pairs = []
    for number, path in enumerate(pictures):
        large, small = (home / f"{number:06d}_{part}.npy" for part in ("large", "small"))
        if not small.exists():
            _write_pair(path, scale, large, small)
        pair = Pair(path.name, np.load(large, mmap_mode="r"), np.load(small, mmap_mode="r"))
        if min(pair.small.shape[:2]) >= least:
            pairs.append(pair)
        if on_prepared is not None:
            on_prepared(number + 1, len(pictures))
    if not pairs:
        raise ValueError(
            f"none of {len(pictures)} pictures is {least * scale} pixels wide and high; "
            "needs larger pictures or a smaller patch"
        )
    return pairs


def _write_pair(path: Path, scale: int, large: Path, small: Path) -> None:
    colour = read_picture(path).colour
    if colour.dtype == np.uint16:
        colour = ((colour.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if colour.shape[2] == 1:
        colour = colour.repeat(3, axis=2)
    if min(colour.shape[:2]) < scale:
        colour = np.zeros((scale, scale, 3), np.uint8)  # too small for any patch: left out
    # The small picture is last and renamed: where it exists, both are whole.
    for target, pixels in zip((large, small), degrade(colour, scale), strict=True):
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, np.ascontiguousarray(pixels))
        part.replace(target)


class CropSet(Dataset[tuple[Tensor, Tensor]]):
    """Random crops: item i is always the same crop, drawn from (seed, i).

    Yields (small (3, p, p), large (3, s * p, s * p)), float32 in [0, 1]: a place chosen evenly
    over all pictures, turned and mirrored in one of eight ways.
    """

    def __init__(self, pairs: Sequence[Pair], scale: int, patch: int, seed: int) -> None:
        self.pairs = pairs
        self.scale = scale
        self.patch = patch
        self.seed = seed
        places = [
            (pair.small.shape[0] - patch + 1) * (pair.small.shape[1] - patch + 1) for pair in pairs
        ]
        if min(places) < 1:
            raise ValueError(f"patch is {patch}; needs at most the smallest picture's side")
        self.ends = np.cumsum(places)

    def __len__(self) -> int:
        return CROPS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng([self.seed, index])
        place = int(random.integers(self.ends[-1]))
        number = int(np.searchsorted(self.ends, place, side="right"))
        pair, s, p = self.pairs[number], self.scale, self.patch
        place -= int(self.ends[number - 1]) if number else 0
        top, left = divmod(place, pair.small.shape[1] - p + 1)
        turn = int(random.integers(8))
        small = pair.small[top : top + p, left : left + p]
        large = pair.large[s * top : s * (top + p), s * left : s * (left + p)]
        return to_tensor(turned(small, turn)), to_tensor(turned(large, turn))


def turned(pixels: NDArray, turn: int) -> NDArray:
    """One of the eight ways (0 to 7) a square can lie: quarter turns, and mirrored from 4 on."""
    pixels = np.rot90(pixels, turn % 4)
    return pixels[:, ::-1] if turn >= 4 else pixels


def to_tensor(pixels: NDArray) -> Tensor:
    """(H, W, C) uint8 or uint16, full range -> (C, H, W) float32 in [0, 1]."""
    whole = np.float32(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)).div_(
        float(whole)
    )
