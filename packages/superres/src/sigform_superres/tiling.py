"""Pictures of any size through a network in bounded memory, as if they had gone through whole.

The picture is cut into overlapping tiles on the network's grid. What a network takes from beyond
a tile is brought to it: CRAFT's channel attention looks at sums over the whole picture, which a
first pass over all tiles collects; DLGSANet's looks at a grid of local windows, of which a tile
uses those of the whole picture. The tiles' outputs are faded into each other.

Letters of shapes: H and W the picture's pixels, s scale.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sigform_core.overlap import Span, cuts, fades, overlapping_spans
from sigform_superres.craft import CRAFT, ChannelStatistics
from sigform_superres.data import to_tensor
from sigform_superres.dlgsanet import DLGSANet, local_starts

OVERLAP = 32
"""Pixels that neighbouring tiles share; outside of it a trained network hardly looks."""

MARGIN = 12
"""Of them on either side, those where a tile's own output is not used."""

SMALLEST = 96
"""A tile is never cut below this side: three quarters of it would be overlap."""

OnTile = Callable[[int, int], None]  # tiles done, tiles in all


class OutOfMemoryError(RuntimeError):
    """Even the smallest tile did not fit into memory."""


@dataclass(frozen=True)
class Region:
    """A part of the picture, in pixels."""

    rows: Span
    columns: Span

    @property
    def pixels(self) -> int:
        return (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])

    def of(self, pixels: NDArray) -> NDArray:
        """This part of an array (H, W, ...)."""
        return pixels[slice(*self.rows), slice(*self.columns)]

    def within(self, other: Region) -> tuple[slice, slice]:
        """Where this region lies in `other`."""
        return (
            slice(self.rows[0] - other.rows[0], self.rows[1] - other.rows[0]),
            slice(self.columns[0] - other.columns[0], self.columns[1] - other.columns[0]),
        )


class Reach(Protocol):
    """How one kind of network sees beyond a tile."""

    multiple: int  # tiles start at multiples of this

    def survey(self, tile: Tensor, region: Region, core: Region) -> None:
        """Take from one tile what all others need; `core` is its share of the picture."""
        ...

    @property
    def surveys(self) -> int:
        """How many passes over all tiles come before the one that upscales."""
        ...

    def upscale(self, tile: Tensor, region: Region) -> Tensor:
        """The network's output for a tile (1, 3, h, w): (1, 3, s * h, s * w)."""
        ...


class CraftReach:
    """CRAFT: the sums of every channel attention come from surveys of the whole picture."""

    surveys = 1

    def __init__(self, network: CRAFT, picture: Region) -> None:
        self.network = network
        self.picture = picture
        self.multiple = network.config.multiple
        self.statistics: list[ChannelStatistics] = []

    def survey(self, tile: Tensor, region: Region, core: Region) -> None:
        # The padding at the picture's far sides is part of what the whole picture's sums count.
        reach = Region(
            (core.rows[0], self._far(core.rows[1], self.picture.rows[1])),
            (core.columns[0], self._far(core.columns[1], self.picture.columns[1])),
        )
        found = self.network.survey(tile, reach.within(region))
        self.statistics = [
            a.plus(b) for a, b in zip(self.statistics, found, strict=True)
        ] or found

    def upscale(self, tile: Tensor, region: Region) -> Tensor:
        return self.network(tile, statistics=self.statistics)

    def _far(self, stop: int, size: int) -> int:
        return -(-stop // self.multiple) * self.multiple if stop == size else stop


class DlgsaReach:
    """DLGSANet: a tile's attention uses the windows that the whole picture's grid has there."""

    surveys = 0
    multiple = 1

    def __init__(self, network: DLGSANet, picture: Region) -> None:
        self.network = network
        kernel = network.config.local_window
        self.rows = local_starts(picture.rows[1], kernel)
        self.columns = local_starts(picture.columns[1], kernel)

    def survey(self, tile: Tensor, region: Region, core: Region) -> None:
        raise AssertionError("DLGSANet needs no survey")

    def upscale(self, tile: Tensor, region: Region) -> Tensor:
        if not self.network.config.tlc_flag:
            return self.network(tile)
        windows = self._starts(self.rows, region.rows), self._starts(self.columns, region.columns)
        return self.network(tile, windows=windows)

    def _starts(self, starts: Sequence[int], span: Span) -> list[int]:
        """The windows of the picture's grid that touch a tile, counted from the tile's start."""
        kernel = self.network.config.local_window
        return [start - span[0] for start in starts if span[0] - kernel < start < span[1]]


class PlainReach:
    """Any other network: a tile knows nothing of what lies beyond it."""

    surveys = 0
    multiple = 1

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def survey(self, tile: Tensor, region: Region, core: Region) -> None:
        raise AssertionError("an unknown network has no survey")

    def upscale(self, tile: Tensor, region: Region) -> Tensor:
        return self.network(tile)


def reach_of(network: nn.Module, picture: Region) -> Reach:
    """How this network sees beyond the tiles of a picture."""
    if isinstance(network, CRAFT):
        return CraftReach(network, picture)
    if isinstance(network, DLGSANet):
        return DlgsaReach(network, picture)
    return PlainReach(network)


class TiledPass:
    """One picture on its way through a network, tile by tile.

    `pixels` is (H, W, 3) uint8 or uint16; `side` is the largest tile, in pixels. When memory runs
    out, the tile under way is cut up, and those to come are cut smaller from then on; finished
    ones stay. `side` tells afterwards what went.
    """

    def __init__(
        self,
        network: nn.Module,
        scale: int,
        pixels: NDArray,
        side: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
        on_tile: OnTile | None = None,
    ) -> None:
        if side < SMALLEST:
            raise ValueError(f"tile is {side}; needs {SMALLEST} pixels or more")
        self.pixels = pixels
        self.scale = scale
        self.side = side
        self.device = device
        self.dtype = dtype
        self.picture = Region((0, pixels.shape[0]), (0, pixels.shape[1]))
        self.reach = reach_of(network, self.picture)
        self.rows, self.columns = (
            overlapping_spans(length, side, OVERLAP, self.reach.multiple)
            for length in pixels.shape[:2]
        )
        whole = len(self.rows) == len(self.columns) == 1
        self.surveys = 0 if whole else self.reach.surveys
        self.done = 0
        self.total = (1 + self.surveys) * len(self.rows) * len(self.columns)
        self.on_tile = on_tile

    def run(self, dtype: np.dtype | None = None) -> NDArray:
        """The upscaled picture (s * H, s * W, 3), in `dtype` (uint8 or uint16; the picture's own)."""
        with torch.inference_mode():
            for _ in range(self.surveys):
                for rows, core_rows in zip(self.rows, cuts(self.rows), strict=True):
                    for columns, core in zip(self.columns, cuts(self.columns), strict=True):
                        self._survey(Region(rows, columns), Region(core_rows, core))
                        self._tell()
            return self._upscale(np.dtype(dtype or self.pixels.dtype))

    def _upscale(self, dtype: np.dtype) -> NDArray:
        H, W, s = *self.pixels.shape[:2], self.scale
        result = np.empty((s * H, s * W, 3), dtype)
        carried = torch.zeros(0, s * W, 3)  # rows that the next band of tiles adds to
        for number, (rows, fade) in enumerate(
            zip(self._scaled(self.rows), self._fades(self.rows), strict=True)
        ):
            band = torch.zeros(rows[1] - rows[0], s * W, 3)
            band[: len(carried)] = carried
            for columns, across, scaled in zip(
                self.columns, self._fades(self.columns), self._scaled(self.columns), strict=True
            ):
                tile = self._tile(Region(self.rows[number], columns))  # (h, w, 3)
                band[:, slice(*scaled)] += tile * fade[:, None, None] * across[None, :, None]
                self._tell()
            last = number + 1 == len(self.rows)
            ready = len(band) if last else s * self.rows[number + 1][0] - rows[0]
            result[rows[0] : rows[0] + ready] = to_levels(band[:ready], dtype)
            carried = band[ready:].clone()
        return result

    def _tile(self, region: Region) -> Tensor:
        """The network's output for a region, cut up if it has to be: (s * h, s * w, 3) float32."""
        if self._fits(region):
            try:
                made = self.reach.upscale(self._input(region), region)
                return made[0].permute(1, 2, 0).float().cpu()
            except (MemoryError, RuntimeError) as error:
                self._shrink(region, error)
            # Outside of the handler: its traceback would keep the tensors of the failed attempt.
            self._free()
        rows, columns = self._cut(region)
        s = self.scale
        made = torch.zeros(
            s * (region.rows[1] - region.rows[0]), s * (region.columns[1] - region.columns[0]), 3
        )
        for row, fade in zip(rows, self._fades(rows), strict=True):
            for column, across in zip(columns, self._fades(columns), strict=True):
                part = Region(row, column)
                at = tuple(slice(s * x.start, s * x.stop) for x in part.within(region))
                made[at] += self._tile(part) * fade[:, None, None] * across[None, :, None]
        return made

    def _survey(self, region: Region, core: Region) -> None:
        if self._fits(region):
            try:
                self.reach.survey(self._input(region), region, core)
                return
            except (MemoryError, RuntimeError) as error:
                self._shrink(region, error)
            self._free()
        rows, columns = self._cut(region)
        for row, core_row in zip(rows, _within(cuts(rows), core.rows), strict=True):
            for column, core_column in zip(
                columns, _within(cuts(columns), core.columns), strict=True
            ):
                self._survey(Region(row, column), Region(core_row, core_column))

    def _fits(self, region: Region) -> bool:
        return max(region.rows[1] - region.rows[0], region.columns[1] - region.columns[0]) <= (
            self.side
        )

    def _cut(self, region: Region) -> tuple[list[Span], list[Span]]:
        return tuple(  # pyright: ignore[reportReturnType]
            [
                (start + first, start + last)
                for first, last in overlapping_spans(
                    stop - start, self.side, OVERLAP, self.reach.multiple
                )
            ]
            for start, stop in (region.rows, region.columns)
        )

    def _shrink(self, region: Region, error: Exception) -> None:
        """Halve the tiles after running out of memory; anything else is raised again."""
        if not is_out_of_memory(error):
            raise error
        side = max(region.rows[1] - region.rows[0], region.columns[1] - region.columns[0])
        if side <= SMALLEST:
            raise OutOfMemoryError(
                f"a tile of {side} pixels does not fit into the memory of {self.device}"
            ) from None
        self.side = max(SMALLEST, side // 2)

    def _free(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _input(self, region: Region) -> Tensor:
        tile = to_tensor(region.of(self.pixels))[None]  # (1, 3, h, w)
        return tile.to(self.device, self.dtype)

    def _fades(self, spans: Sequence[Span]) -> list[Tensor]:
        return fades(self._scaled(spans), MARGIN * self.scale)

    def _scaled(self, spans: Sequence[Span]) -> list[Span]:
        return [(self.scale * start, self.scale * stop) for start, stop in spans]

    def _tell(self) -> None:
        self.done += 1
        if self.on_tile is not None:
            self.on_tile(self.done, self.total)


def to_levels(image: Tensor, dtype: np.dtype) -> NDArray:
    """Values in [0, 1], others clipped, to the nearest levels of uint8 or uint16."""
    most = float(np.iinfo(dtype).max)
    return image.mul(most).add_(0.5).clamp_(0, most).numpy().astype(dtype)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of any device means that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "can't allocate memory")
    )


def _within(spans: Sequence[Span], outer: Span) -> list[Span]:
    """Spans that cover more than `outer`, cut back to it."""
    return [
        (min(max(start, outer[0]), outer[1]), max(min(stop, outer[1]), outer[0]))
        for start, stop in spans
    ]
