"""The task object: a picture in, a larger picture out.

from sigform_superres import Upscaler

upscaler = Upscaler.load(scale=4)
large = upscaler(pixels)                  # (H, W, 1|3) uint8 or uint16 -> 4 times that
upscaler(read_picture("photo.png"))       # a Picture, alpha and metadata kept
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sigform_core.device import pick_device, pick_dtype
from sigform_core.memory import free_memory
from sigform_superres.alpha import bleed
from sigform_superres.catalogue import find_weights
from sigform_superres.compiled import CompiledNetwork
from sigform_superres.craft import CRAFT
from sigform_superres.data import turned
from sigform_superres.dlgsanet import DLGSANet
from sigform_superres.picture import Picture, Samples
from sigform_superres.resizing import resample
from sigform_superres.tiling import SMALLEST, OnTile, TiledPass
from sigform_superres.upstream import load_any

BYTES_PER_PIXEL = 7_000
"""Of the small picture, that CRAFT in float32 takes at most (measured: 4,900 to 7,000)."""

LARGEST_SIDE = {"cpu": 256, "cuda": 768, "mps": 512}
"""Of a tile, in pixels, where a picture does not go through whole: CPU caches like it small."""

MEMORY_SHARE = 0.5
"""Of the free memory, what a tile may take."""

MOST_MEMORY = 3 << 30
"""Bytes that a picture going through whole may take on the CPU, which others use too."""

KEEP_SHARE = 0.1
"""Of the free memory, what tiles may hold while they wait for each other."""

MOST_KEPT = 1 << 28
"""Bytes of it on the CPU; the rest waits in files."""

Backend = Literal["torch", "openvino"]
"""What runs the network."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """How large the result is to be: by a factor, a width, a height, or both; in pixels.

    With only one of width and height the other follows the picture's shape.
    """

    factor: float | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        if self.factor is not None and (self.width is not None or self.height is not None):
            raise ValueError("factor is given with width or height; needs one or the other")
        if self.factor is not None and not 0 < self.factor < math.inf:
            raise ValueError(f"factor is {self.factor}; needs more than 0")
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; needs 1 pixel or more")

    def size(self, height: int, width: int) -> tuple[int, int] | None:
        """Height and width of the result for a picture; None: whatever the network gives."""
        if self.factor is not None:
            return _pixels(height * self.factor), _pixels(width * self.factor)
        if self.width is None and self.height is None:
            return None
        rows = self.height or _pixels(height * (self.width or 0) / width)
        columns = self.width or _pixels(width * rows / height)
        return rows, columns


class Upscaler:
    """A network with all that a whole picture needs around it.

    `tile` is the largest side of the network's input in pixels; None takes what free memory
    allows. `ensemble` averages over the eight ways a picture can lie: eight times the work for a
    little more accuracy. With the `backend` "openvino" a CRAFT is compiled for each size of picture
    that goes through whole, on the CPU; `fell_back` tells whether the last one went in tiles, and
    so through PyTorch. Raises ValueError for a device, dtype, tile or backend that cannot be,
    InputError where OpenVINO is missing.
    """

    def __init__(
        self,
        network: nn.Module,
        scale: int,
        *,
        device: str = "auto",
        dtype: str = "auto",
        tile: int | None = None,
        ensemble: bool = False,
        backend: Backend = "torch",
    ) -> None:
        self.device = pick_device(device)
        self.dtype = self._dtype(dtype)
        if tile is not None and tile < SMALLEST:
            raise ValueError(f"tile is {tile}; needs {SMALLEST} pixels or more")
        if backend not in get_args(Backend):
            raise ValueError(f"backend is {backend!r}; needs {' or '.join(get_args(Backend))}")
        self.network = network.eval().to(self.device)
        self._reads = self.dtype
        if isinstance(network, CRAFT | DLGSANet) and self.dtype.itemsize < 4:
            network.float().body_to(self.dtype)
            self._reads = torch.float32
        else:
            network.to(self.dtype)
        self.scale = scale
        self.tile = tile
        self.ensemble = ensemble
        self.compiled = CompiledNetwork(self.network) if backend == "openvino" else None
        self.fell_back = False

    @classmethod
    def load(
        cls,
        weights: str | Path = "default",
        *,
        scale: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        tile: int | None = None,
        ensemble: bool = False,
        backend: Backend = "torch",
    ) -> Self:
        """An upscaler by the name of shipped weights, or any checkpoint's path.

        Paths may be weight files of ours, published CRAFT and DLGSANet checkpoints, and with
        `spandrel` installed those of forty other architectures. `scale` (4 for "default") must be
        what the weights do. Raises ValueError for an unknown name, a file that is no checkpoint
        of a known network, or another scale; FileNotFoundError.
        """
        path = find_weights(str(weights), scale)
        network, made_for = load_any(path)
        if scale is not None and scale != made_for:
            raise ValueError(f"scale is {scale}; the weights {weights} need {made_for}")
        return cls(
            network,
            made_for,
            device=device,
            dtype=dtype,
            tile=tile,
            ensemble=ensemble,
            backend=backend,
        )

    @overload
    def __call__(
        self, source: Picture, *, target: Target | None = None, on_tile: OnTile | None = None
    ) -> Picture: ...
    @overload
    def __call__(
        self, source: NDArray, *, target: Target | None = None, on_tile: OnTile | None = None
    ) -> NDArray: ...
    def __call__(
        self,
        source: Picture | NDArray,
        *,
        target: Target | None = None,
        on_tile: OnTile | None = None,
    ) -> Picture | NDArray:
        """The picture `scale` times larger, or as large as `target` says.

        An array is (H, W, 1 or 3), uint8 or uint16, and comes back so. Of a Picture the alpha is
        upscaled apart from colours that do not know it, and metadata is kept. `on_tile(done,
        total)` is called after every tile of the network's input. Raises ValueError for another
        shape or dtype, tiling.OutOfMemoryError when even the smallest tile is too large.
        """
        if not isinstance(source, Picture):
            return self._resized(Picture(source), target, on_tile).colour
        return self._resized(source, target, on_tile)

    def _resized(self, source: Picture, target: Target | None, on_tile: OnTile | None) -> Picture:
        colour, alpha = source.colour, source.alpha
        if alpha is not None:
            colour = bleed(colour, alpha)
        size = target.size(source.height, source.width) if target else None
        made = self._to_size(self._upscale(colour, on_tile), size)
        if alpha is not None:
            # The network sharpens an edge between seen and unseen like any other edge.
            alpha = self._to_size(self._upscale(alpha[..., None], on_tile), size)[..., 0]
        return replace(source, colour=made, alpha=alpha)

    def _upscale(self, pixels: Samples, on_tile: OnTile | None) -> Samples:
        """(H, W, 1 or 3) -> (s * H, s * W, 1 or 3), through the network once or eight times."""
        channels = pixels.shape[2]
        colour = pixels if channels == 3 else np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        if self.ensemble:
            made = self._averaged(colour, on_tile)
        else:
            made = self._pass(colour, on_tile).run()
        return made if channels == 3 else _grey(made)

    def _averaged(self, colour: Samples, on_tile: OnTile | None) -> Samples:
        H, W = colour.shape[:2]
        total = np.zeros((self.scale * H, self.scale * W, 3), np.uint32)
        for turn in range(8):
            tiles = self._pass(turned(colour, turn), _counting(on_tile, turn))
            # 16 bits, so that an average of eight is not one of eight rounded levels.
            total += unturned(tiles.run(np.dtype(np.uint16)), turn)
        most = int(np.iinfo(colour.dtype).max)
        whole = 8 * 65535
        return ((total.astype(np.uint64) * most + whole // 2) // whole).astype(colour.dtype)

    def _pass(self, colour: Samples, on_tile: OnTile | None) -> TiledPass:
        side = self._side(*colour.shape[:2])
        # Tiles need what CRAFT takes from the whole picture, which compiled code does not give.
        self.fell_back = self.compiled is not None and side < max(colour.shape[:2])
        return TiledPass(
            self.network if self.compiled is None or self.fell_back else self.compiled,
            self.scale,
            colour,
            side,
            device=self.device,
            dtype=self._reads,
            keep_bytes=self._share(KEEP_SHARE, MOST_KEPT),
            on_tile=on_tile,
        )

    def _side(self, height: int, width: int) -> int:
        """The largest tile for a picture: all of it where memory allows."""
        if self.tile is not None:
            return self.tile
        each = BYTES_PER_PIXEL * self.dtype.itemsize / 4
        most = self._share(MEMORY_SHARE, MOST_MEMORY) / each
        if height * width <= most:
            return max(height, width, SMALLEST)
        side = min(LARGEST_SIDE[self.device.type], math.isqrt(int(most)))
        return max(SMALLEST, side // 16 * 16)

    def _share(self, share: float, most_on_cpu: int) -> int:
        """Bytes of the device's memory."""
        free = int(share * free_memory(self.device))
        return min(free, most_on_cpu) if self.device.type == "cpu" else free

    def _to_size(self, pixels: Samples, size: tuple[int, int] | None) -> Samples:
        if size is None or size == pixels.shape[:2]:
            return pixels
        return resample(pixels, *size)

    def _dtype(self, name: str) -> torch.dtype:
        if name != "auto":
            return pick_dtype(name, self.device)
        if self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float32


def unturned(pixels: Samples, turn: int) -> Samples:
    """Undo `data.turned`."""
    pixels = pixels[:, ::-1] if turn >= 4 else pixels
    return np.rot90(pixels, -(turn % 4))


def _grey(made: Samples) -> Samples:
    """One channel out of three: their mean, as the network may tint grey a little."""
    total = made.astype(np.uint32).sum(axis=2, keepdims=True)
    return ((total + 1) // 3).astype(made.dtype)


def _pixels(length: float) -> int:
    return max(1, math.floor(length + 0.5))


def _counting(on_tile: OnTile | None, turn: int) -> OnTile | None:
    if on_tile is None:
        return None
    return lambda done, total: on_tile(turn * total + done, 8 * total)
