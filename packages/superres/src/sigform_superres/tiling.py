"""Pictures of any size through a network in bounded memory, as if they had gone through whole.

The picture is cut into overlapping tiles on the network's grid. What a network takes from beyond
a tile is brought to it: CRAFT's channel attention looks at sums over the whole picture, which all
tiles collect together before any goes on; DLGSANet's looks at a grid of local windows, of which a
tile uses those of the whole picture. The tiles' outputs are faded into each other.

Letters of shapes: H and W the picture's pixels, s scale.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sigform_core.overlap import Span, cuts, fades, overlapping_spans
from sigform_superres.craft import CRAFT, WHOLE, ChannelStatistics, Stages
from sigform_superres.data import to_tensor
from sigform_superres.dlgsanet import DLGSANet, local_starts
from sigform_superres.shelf import Shelf

OVERLAP = 32
"""Pixels that neighbouring tiles share; outside of it a trained network hardly looks."""

MARGIN = 12
"""Of them on either side, those where a tile's own output is not used."""

SMALLEST = 96
"""A tile is never cut below this side: three quarters of it would be overlap."""

ROWS = 64
"""Of finished pixels that are rounded together."""

OnTile = Callable[[int, int], None]  # tiles done, tiles in all


class OutOfMemoryError(RuntimeError):
    """Even the smallest tile did not fit into memory."""


@dataclass(frozen=True)
class Region:
    """A part of the picture, in pixels."""

    rows: Span
    columns: Span

    @property
    def side(self) -> int:
        """The longer one."""
        return max(self.rows[1] - self.rows[0], self.columns[1] - self.columns[0])

    def of(self, pixels: NDArray) -> NDArray:
        """This part of an array (H, W, ...)."""
        return pixels[slice(*self.rows), slice(*self.columns)]

    def within(self, other: Region) -> tuple[slice, slice]:
        """Where this region lies in `other`."""
        return (
            slice(self.rows[0] - other.rows[0], self.rows[1] - other.rows[0]),
            slice(self.columns[0] - other.columns[0], self.columns[1] - other.columns[0]),
        )


@dataclass(frozen=True)
class Tile:
    """A region that overlaps its neighbours, and its share of the picture, which does not."""

    region: Region
    share: Region


Read = Callable[[Region], Tensor]
"""Gives a part of the picture, (1, 3, h, w) in [0, 1]."""


class Reach(Protocol):
    """How one kind of network sees beyond a tile."""

    multiple: int  # tiles start at multiples of this

    @property
    def stages(self) -> int:
        """How often all tiles are visited before any of them is finished."""
        ...

    def prepare(self, tiles: Sequence[Tile], read: Read, on_visit: Callable[[], None]) -> None:
        """Do what needs all tiles, which `read` gives; may be called again with smaller ones."""
        ...

    def upscale(self, region: Region, read: Read) -> Tensor:
        """The network's output for a region (1, 3, s * h, s * w); it need not be a tile."""
        ...


class CraftReach:
    """CRAFT: all tiles walk together from one channel attention to the next.

    At each, every tile adds its share to the sums of the whole picture, and waits for the others.
    A picture in one tile goes straight through.

    CRAFT's shifted windows join opposite sides of the picture. A tile at one side therefore has a
    strip of the other side put behind (or before) it, where its own windows join.
    """

    def __init__(self, network: CRAFT, picture: Region, shelf: Shelf) -> None:
        self.network = network
        self.size = (picture.rows[1], picture.columns[1])
        self.shelf = shelf
        self.multiple = network.config.multiple
        self.statistics: list[ChannelStatistics] = []
        self.walks: dict[Region, Stages[Tensor]] = {}

    @property
    def stages(self) -> int:
        return sum(self.network.config.depths)

    def prepare(self, tiles: Sequence[Tile], read: Read, on_visit: Callable[[], None]) -> None:
        self.walks = {}
        for stage in range(self.stages):
            total: ChannelStatistics | None = None
            for tile in tiles:
                measured = self._advance(tile, stage, read)
                total = measured if total is None else total.plus(measured)
                on_visit()
            # Sums that were complete before memory ran out stay.
            if stage == len(self.statistics) and total is not None:
                self.statistics.append(total)

    def upscale(self, region: Region, read: Read) -> Tensor:
        walk = self.walks.pop(region, None)
        if walk is None and not self.statistics:
            return self.network(read(region))
        rows, columns = self._joined(region.rows, 0), self._joined(region.columns, 1)
        known = self.statistics
        if walk is None:
            walk = self.network.stages(self._read(rows, columns, read), WHOLE)
            next(walk)
        else:
            known = known[-1:]
        out = finished(walk, known)
        s = self.network.scale
        inside = (
            slice(s * joined.before, s * (joined.before + span[1] - span[0]))
            for joined, span in ((rows, region.rows), (columns, region.columns))
        )
        return out[:, :, *inside]

    def _advance(self, tile: Tile, stage: int, read: Read) -> ChannelStatistics:
        if stage > 0:
            return self.walks[tile.region].send(self.statistics[stage - 1])
        rows, columns = self._joined(tile.region.rows, 0), self._joined(tile.region.columns, 1)
        share = (
            self._share(tile.share.rows, tile.region.rows, rows.before, 0),
            self._share(tile.share.columns, tile.region.columns, columns.before, 1),
        )
        walk = self.network.stages(self._read(rows, columns, read), share, self.shelf.keep)
        self.walks[tile.region] = walk
        return next(walk)

    def _share(self, share: Span, span: Span, before: int, axis: int) -> slice:
        """Where a tile's share lies in what the network gets."""
        start, stop = share
        if stop == self.size[axis]:
            # The padding at the picture's far side is part of what the whole picture's sums count.
            stop = self._whole(stop)
        return slice(before + start - span[0], before + stop - span[0])

    def _joined(self, span: Span, axis: int) -> Joined:
        size, strip = self.size[axis], max(2 * self.multiple, self._whole(OVERLAP))
        start, stop = span
        if start > 0 and stop == size:
            return Joined([(0, strip), span], strip)
        if start == 0 and self._whole(stop) < size:
            return Joined([(0, self._whole(stop)), (self._whole(size) - strip, size)], 0)
        return Joined([(0, size) if start == 0 else span], 0)

    def _read(self, rows: Joined, columns: Joined, read: Read) -> Tensor:
        return torch.cat(
            [
                torch.cat([read(Region(row, column)) for column in columns.parts], dim=3)
                for row in rows.parts
            ],
            dim=2,
        )

    def _whole(self, length: int) -> int:
        """A length up to the next end of a window."""
        return -(-length // self.multiple) * self.multiple


class Joined(NamedTuple):
    """Parts of an axis that are put together, and what lies before the one that is wanted."""

    parts: list[Span]
    before: int


def finished(walk: Stages[Tensor], statistics: Sequence[ChannelStatistics]) -> Tensor:
    """What a walk returns once it has been sent these."""
    for known in statistics:
        try:
            walk.send(known)
        except StopIteration as end:
            return end.value
    raise ValueError(f"{len(statistics)} statistics are given; the network needs more")


class DlgsaReach:
    """DLGSANet: a tile's attention uses the windows that the whole picture's grid has there."""

    stages = 0
    multiple = 1

    def __init__(self, network: DLGSANet, picture: Region) -> None:
        self.network = network
        kernel = network.config.local_window
        self.rows = local_starts(picture.rows[1], kernel)
        self.columns = local_starts(picture.columns[1], kernel)

    def prepare(self, tiles: Sequence[Tile], read: Read, on_visit: Callable[[], None]) -> None:
        del tiles, read, on_visit

    def upscale(self, region: Region, read: Read) -> Tensor:
        if not self.network.config.tlc_flag:
            return self.network(read(region))
        windows = self._starts(self.rows, region.rows), self._starts(self.columns, region.columns)
        return self.network(read(region), windows=windows)

    def _starts(self, starts: Sequence[int], span: Span) -> list[int]:
        """The windows of the picture's grid that touch a tile, counted from the tile's start."""
        kernel = self.network.config.local_window
        return [start - span[0] for start in starts if span[0] - kernel < start < span[1]]


class PlainReach:
    """Any other network: a tile knows nothing of what lies beyond it."""

    stages = 0
    multiple = 1

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def prepare(self, tiles: Sequence[Tile], read: Read, on_visit: Callable[[], None]) -> None:
        del tiles, read, on_visit

    def upscale(self, region: Region, read: Read) -> Tensor:
        return self.network(read(region))


def reach_of(network: nn.Module, picture: Region, shelf: Shelf) -> Reach:
    """How this network sees beyond the tiles of a picture."""
    if isinstance(network, CRAFT):
        return CraftReach(network, picture, shelf)
    if isinstance(network, DLGSANet):
        return DlgsaReach(network, picture)
    return PlainReach(network)


class TiledPass:
    """One picture on its way through a network, tile by tile.

    `pixels` is (H, W, 3) uint8 or uint16; `side` is the largest tile, in pixels. When memory runs
    out, tiles are cut smaller from then on; finished ones stay, and `side` tells afterwards what
    went. `keep_bytes` is how much of what waits between tiles is held in memory (the rest goes to
    temporary files).
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
        keep_bytes: int = 1 << 30,
        on_tile: OnTile | None = None,
    ) -> None:
        if side < SMALLEST:
            raise ValueError(f"tile is {side}; needs {SMALLEST} pixels or more")
        self.network = network
        self.pixels = pixels
        self.scale = scale
        self.side = side
        self.device = device
        self.dtype = dtype
        self.keep_bytes = keep_bytes
        self.on_tile = on_tile
        self.picture = Region((0, pixels.shape[0]), (0, pixels.shape[1]))
        self.done = 0

    def run(self, dtype: np.dtype | None = None) -> NDArray:
        """The upscaled picture (s * H, s * W, 3), in `dtype` (uint8 or uint16; its own if None).

        Raises OutOfMemoryError when even the smallest tile does not fit.
        """
        with torch.inference_mode(), Shelf(self.keep_bytes) as shelf:
            self.reach = reach_of(self.network, self.picture, shelf)
            rows, columns = self._prepare()
            return self._upscale(rows, columns, np.dtype(dtype or self.pixels.dtype))

    def _prepare(self) -> tuple[list[Span], list[Span]]:
        """Cut the picture, and do what needs all tiles, smaller ones if memory runs out."""
        while True:
            rows, columns = self._cut(self.picture)
            tiles = [
                Tile(Region(row, column), Region(row_share, column_share))
                for row, row_share in zip(rows, cuts(rows), strict=True)
                for column, column_share in zip(columns, cuts(columns), strict=True)
            ]
            visits = 0 if len(tiles) == 1 else self.reach.stages
            self.done, self.total = 0, (1 + visits) * len(tiles)
            if not visits:
                return rows, columns
            try:
                self.reach.prepare(tiles, self._read, self._tell)
            except (MemoryError, RuntimeError) as error:
                self._shrink(self.side, error)
            else:
                return rows, columns
            self._free()

    def _upscale(self, rows: list[Span], columns: list[Span], dtype: np.dtype) -> NDArray:
        H, W, s = *self.pixels.shape[:2], self.scale
        result = np.empty((s * H, s * W, 3), dtype)
        carried = torch.zeros(0, s * W, 3)  # rows that the next band of tiles adds to
        downs, acrosses = self._fades(rows), self._fades(columns)
        for number, (row, down) in enumerate(zip(rows, downs, strict=True)):
            top, bottom = s * row[0], s * row[1]
            band = torch.zeros(bottom - top, s * W, 3)
            band[: len(carried)] = carried
            for column, across in zip(columns, acrosses, strict=True):
                tile = self._tile(Region(row, column))  # (h, w, 3)
                band[:, s * column[0] : s * column[1]] += faded(tile, down, across)
                self._tell()
            last = number + 1 == len(rows)
            ready = len(band) if last else s * rows[number + 1][0] - top
            # A few rows at a time: a band of a large picture is as large as a tile's memory.
            for first in range(0, ready, ROWS):
                rows_ready = slice(first, min(first + ROWS, ready))
                result[top:][rows_ready] = to_levels(band[rows_ready], dtype)
            carried = band[ready:].clone()
        return result

    def _tile(self, region: Region) -> Tensor:
        """The network's output for a region, cut up if it has to be: (s * h, s * w, 3) float32."""
        if region.side <= self.side:
            try:
                made = self.reach.upscale(region, self._read)
                return made[0].permute(1, 2, 0).float().cpu()
            except (MemoryError, RuntimeError) as error:
                self._shrink(region.side, error)
            # Outside of the handler: its traceback would keep the tensors of the failed attempt.
            self._free()
        rows, columns = self._cut(region)
        s = self.scale
        made = torch.zeros(
            s * (region.rows[1] - region.rows[0]), s * (region.columns[1] - region.columns[0]), 3
        )
        for row, down in zip(rows, self._fades(rows), strict=True):
            for column, across in zip(columns, self._fades(columns), strict=True):
                part = Region(row, column)
                at = tuple(slice(s * x.start, s * x.stop) for x in part.within(region))
                made[at] += faded(self._tile(part), down, across)
        return made

    def _cut(self, region: Region) -> tuple[list[Span], list[Span]]:
        rows, columns = (
            [
                (start + first, start + last)
                for first, last in overlapping_spans(
                    stop - start, self.side, OVERLAP, self.reach.multiple
                )
            ]
            for start, stop in (region.rows, region.columns)
        )
        return rows, columns

    def _shrink(self, side: int, error: Exception) -> None:
        """Halve the tiles after running out of memory; anything else is raised again."""
        if not is_out_of_memory(error):
            raise error
        if side <= SMALLEST:
            raise OutOfMemoryError(
                f"a tile of {side} pixels does not fit into the memory of {self.device}"
            ) from None
        self.side = max(SMALLEST, side // 2)

    def _free(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _read(self, region: Region) -> Tensor:
        """A part of the picture as the network wants it: (1, 3, h, w) in [0, 1]."""
        tile = to_tensor(region.of(self.pixels))[None]
        return tile.to(self.device, self.dtype)

    def _fades(self, spans: Sequence[Span]) -> list[Tensor]:
        scaled = [(self.scale * start, self.scale * stop) for start, stop in spans]
        return fades(scaled, MARGIN * self.scale)

    def _tell(self) -> None:
        self.done += 1
        if self.on_tile is not None:
            self.on_tile(self.done, self.total)


def faded(tile: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """A tile (h, w, 3) with the weights of its rows (h,) and columns (w,)."""
    return tile * down[:, None, None] * across[None, :, None]


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
