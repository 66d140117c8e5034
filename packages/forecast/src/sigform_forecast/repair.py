"""The repair of a panel: every series on its regular grid, without holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sigform_forecast.calendar import Calendar, Ints
from sigform_forecast.placing import (
    Bools,
    Floats,
    Placed,
    by_series,
    numbers_of,
    ticks,
    time_text,
)
from sigform_forecast.wording import counted

Fill = Literal["interpolate", "previous", "zero", "seasonal", "drop", "error"]
Duplicates = Literal["mean", "last", "first", "error"]

GRID_LIMIT = 20  # times the rows that a grid may have
_FILL_WORDS = {
    "interpolate": "by interpolation",
    "previous": "with the previous value",
    "zero": "with zero",
    "seasonal": "with the value of one season before",
}


def repair(
    frame: pd.DataFrame,
    calendar: Calendar,
    *,
    fill: Fill = "interpolate",
    duplicates: Duplicates = "mean",
) -> tuple[pd.DataFrame, list[str]]:
    """Put every series on its regular grid without holes; returns the panel and what was done.

    Rows off the grid move to their step, rows of one step are merged as `duplicates` says, empty
    rows at both ends are cut, and holes in y are filled: "interpolate" linearly in time, "previous"
    value, "zero", "seasonal" value of one season before (interpolated where there is none), "drop"
    keeps only the rows after the last hole, "error" raises. Covariates are always interpolated and
    held at their ends. A series without values is left out. All values are finite afterwards, and
    finite values that were in the panel stay as they were unless they were merged.
    Raises ValueError when no series is left and when the grid would be mostly holes.
    """
    placed = Placed.of(frame, calendar)
    names = [name for name in frame.columns if name not in ("unique_id", "ds")]
    values = {name: numbers_of(frame, name)[placed.order] for name in names}
    lines: list[str] = []
    _drop_infinite(values, lines)
    codes, steps = placed.codes, placed.steps
    phase = np.broadcast_to(np.asarray(placed.phase, np.int64), codes.shape)
    for label, _, mine in by_series(placed.names, codes[placed.off_grid]):
        what = f"{counted(len(mine), 'timestamp')} of {label}"
        lines.append(f"moved {what} onto the calendar ({calendar.describe()})")
    grid = _Grid(placed.names, calendar, placed.index, codes, steps, phase, values, lines)
    grid.merge(duplicates)
    grid.cut_ends()
    grid.spread()
    index = calendar.stamps(grid.steps, placed.index, phase=grid.phase)
    kept = grid.fill_target(fill, index)
    for name in names:
        if name != "y":
            grid.fill_covariate(name, index)
    data: dict[str, Any] = {"unique_id": placed.names.take(grid.codes), "ds": index}
    repaired = pd.DataFrame({**data, **{name: values[name] for name in names}}, copy=False)
    if not kept.all():
        repaired = repaired.loc[kept].reset_index(drop=True)
    return repaired, lines


def _drop_infinite(values: dict[str, Floats], lines: list[str]) -> None:
    for name, column in values.items():
        infinite = np.isinf(column)
        if infinite.any():
            values[name] = np.where(infinite, np.nan, column)
            lines.append(f"took {counted(int(infinite.sum()), 'infinite value')} of {name!r} out")


@dataclass
class _Grid:
    """Rows on their way to the regular grid: every method leaves them sorted by series and step."""

    names: pd.Index
    calendar: Calendar
    like: pd.Index
    codes: NDArray[np.intp]
    steps: Ints
    phase: Ints
    values: dict[str, Floats]
    lines: list[str]

    def keep(self, rows: NDArray[Any]) -> None:
        self.codes, self.steps, self.phase = self.codes[rows], self.steps[rows], self.phase[rows]
        for name, column in self.values.items():
            self.values[name] = column[rows]

    def when(self, row: int) -> str:
        one = slice(row, row + 1)
        stamps = self.calendar.stamps(self.steps[one], self.like, phase=self.phase[one])
        return time_text(stamps[0], self.calendar)

    def merge(self, how: Duplicates) -> None:
        """Make one row of all rows of a step."""
        fresh = np.diff(self.codes, prepend=-1).astype(bool)
        fresh[1:] |= np.diff(self.steps) != 0
        extra = np.flatnonzero(~fresh)
        if not len(extra):
            return
        if how == "error":
            name = str(self.names[self.codes[extra[0]]])
            raise ValueError(
                f"{name!r} has {self.when(int(extra[0]))} more than once; needs each time once, "
                "or another rule for duplicates"
            )
        for label, _, mine in by_series(self.names, self.codes[extra]):
            what = f"{counted(len(mine), 'repeated row')} of {label}"
            taken = "their mean" if how == "mean" else f"the {how}"
            self.lines.append(f"merged {what} into {taken}, first {self.when(int(extra[mine[0]]))}")
        starts = np.flatnonzero(fresh)
        if how != "mean":
            self.keep(starts if how == "first" else np.append(starts[1:], len(fresh)) - 1)
            return
        means = {}
        for name, column in self.values.items():
            known = ~np.isnan(column)
            sums = np.add.reduceat(np.where(known, column, 0.0), starts)
            counts = np.add.reduceat(known.astype(np.int64), starts)
            blank = np.full(len(starts), np.nan)
            means[name] = np.divide(sums, counts, out=blank, where=counts > 0)
        self.keep(starts)
        self.values.update(means)

    def cut_ends(self) -> None:
        """Cut the rows before the first and after the last value of each series."""
        size, rows = len(self.names), np.arange(len(self.codes))
        known = np.flatnonzero(~np.isnan(self.values["y"]))
        first, last = np.full(size, len(rows)), np.full(size, -1)
        first[self.codes[known[::-1]]] = known[::-1]
        last[self.codes[known]] = known
        empty = np.flatnonzero(last < 0)
        if len(empty) == size:
            raise ValueError("no series has a value; needs at least one")
        for label, _, _ in by_series(self.names, empty):
            self.lines.append(f"left out {label}: no values")
        early = (rows < first[self.codes]) & (last >= 0)[self.codes]
        late = (rows > last[self.codes]) & (last >= 0)[self.codes]
        for cut, where in ((early, "before the first"), (late, "after the last")):
            for label, _, mine in by_series(self.names, self.codes[cut]):
                what = counted(len(mine), "empty row")
                self.lines.append(f"cut {what} {where} value of {label}")
        self.keep((rows >= first[self.codes]) & (rows <= last[self.codes]))

    def spread(self) -> None:
        """Give every step its row; the new ones hold NaN."""
        starts = np.flatnonzero(np.diff(self.codes, prepend=-1))
        ends = np.append(starts[1:], len(self.codes)) - 1
        lengths = self.steps[ends] - self.steps[starts] + 1
        rows = np.diff(starts, append=len(self.codes))
        wild = lengths > GRID_LIMIT * rows + 1000
        if wild.any():
            series = int(wild.argmax())
            name = str(self.names[self.codes[starts[series]]])
            raise ValueError(
                f"{name!r} has {rows[series]:,} rows on {lengths[series]:,} steps of its calendar "
                f"({self.calendar.describe()}) from {self.when(int(starts[series]))} to "
                f"{self.when(int(ends[series]))}; needs another --freq or a wrong date put right"
            )
        if lengths.sum() == len(self.codes):
            return
        offsets = np.cumsum(lengths) - lengths
        series = np.repeat(np.arange(len(starts)), rows)
        place = offsets[series] + self.steps - self.steps[starts][series]
        total = int(lengths.sum())
        first = np.repeat(self.steps[starts] - offsets, lengths)
        for name, column in self.values.items():
            self.values[name] = np.full(total, np.nan)
            self.values[name][place] = column
        self.codes = np.repeat(self.codes[starts], lengths)
        self.phase = np.repeat(self.phase[starts], lengths)
        self.steps = first + np.arange(total)

    def fill_target(self, fill: Fill, index: pd.Index) -> Bools:
        """Fill the holes of y; returns which rows stay."""
        y = self.values["y"]
        holes = np.flatnonzero(np.isnan(y))
        keep = np.ones(len(y), bool)
        if not len(holes):
            return keep
        if fill == "error":
            name = str(self.names[self.codes[holes[0]]])
            count = int((self.codes[holes] == self.codes[holes[0]]).sum())
            raise ValueError(
                f"{name!r} lacks {counted(count, 'value')}, the first at "
                f"{time_text(index[holes[0]], self.calendar)}; needs none, or another rule for "
                "filling"
            )
        if fill == "drop":
            last = np.full(len(self.names), -1)
            last[self.codes[holes]] = holes
            keep = np.arange(len(y)) > last[self.codes]
            for label, _, mine in by_series(self.names, self.codes[~keep]):
                what = counted(len(mine), "row")
                self.lines.append(f"dropped {what} of {label}: all up to its last hole")
            return keep
        before, after = _nearest_filled(y, self.codes, holes)
        if fill == "zero":
            filled = np.zeros(len(holes))
        elif fill == "previous":
            filled = y[before]
        else:
            filled = _between(y, ticks(index), holes, before, after)
        if fill == "seasonal":
            filled = self._seasonal(y, holes, filled)
        runs = after - before - 1
        for label, _, mine in by_series(self.names, self.codes[holes]):
            worst = mine[runs[mine].argmax()]
            self.lines.append(
                f"filled {counted(len(mine), 'missing value')} of {label} {_FILL_WORDS[fill]} "
                f"(longest run {runs[worst]:,} from "
                f"{time_text(index[before[worst] + 1], self.calendar)})"
            )
        y[holes] = filled
        return keep

    def _seasonal(self, y: Floats, holes: NDArray[np.intp], otherwise: Floats) -> Floats:
        """Value of the latest season before each hole that has one."""
        season = self.calendar.season_length
        filled, open_ = otherwise.copy(), np.arange(len(holes))
        source = holes - season
        while len(open_):
            inside = source[open_] >= 0
            open_ = open_[inside]
            inside = self.codes[source[open_]] == self.codes[holes[open_]]
            open_ = open_[inside]
            known = ~np.isnan(y[source[open_]])
            filled[open_[known]] = y[source[open_[known]]]
            open_ = open_[~known]
            source[open_] -= season
        return filled

    def fill_covariate(self, name: str, index: pd.Index) -> None:
        """Interpolate a covariate, hold it at its ends, and take 0 where a series has none."""
        column = self.values[name]
        holes = np.flatnonzero(np.isnan(column))
        if not len(holes):
            return
        before, after = _nearest_filled(column, self.codes, holes)
        column[holes] = _between(column, ticks(index), holes, before, after)
        none = (before < 0) & (after < 0)
        for label, _, mine in by_series(self.names, self.codes[holes[~none]]):
            what = f"{counted(len(mine), 'missing value')} of covariate {name!r} in {label}"
            self.lines.append(f"filled {what} by interpolation")
        for label, _, _ in by_series(self.names, self.codes[holes[none]]):
            self.lines.append(f"covariate {name!r} has no values in {label}: filled with 0")


def _nearest_filled(
    values: Floats, codes: NDArray[np.intp], holes: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The nearest filled rows before and after each hole in its own series, -1 where none is."""
    rows, known = np.arange(len(values)), ~np.isnan(values)
    before = np.maximum.accumulate(np.where(known, rows, -1))[holes]
    after = np.minimum.accumulate(np.where(known, rows, len(rows))[::-1])[::-1][holes]
    after[after == len(rows)] = -1
    before[(before >= 0) & (codes[before] != codes[holes])] = -1
    after[(after >= 0) & (codes[after] != codes[holes])] = -1
    return before, after


def _between(
    values: Floats,
    times: Ints,
    holes: NDArray[np.intp],
    before: NDArray[np.intp],
    after: NDArray[np.intp],
) -> Floats:
    """Values on the line in time between the neighbours; the one neighbour at an end; else 0."""
    left = np.where(before >= 0, before, after)
    right = np.where(after >= 0, after, before)
    span = np.maximum(times[right] - times[left], 1)
    share = (times[holes] - times[left]) / span
    low, high = values[left], values[right]
    # Weights rather than a slope: the difference of two huge values may overflow.
    line = np.where(left == right, low, low * (1 - share) + high * share)
    return np.where((before < 0) & (after < 0), 0.0, line)
