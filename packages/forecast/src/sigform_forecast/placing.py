"""A panel's rows placed on its calendar: what diagnosis and repair both start from.

Rows are sorted by series and step, so that every question about all series at once is one about
neighbouring rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sigform_forecast.calendar import Calendar, Ints
from sigform_forecast.wording import counted

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

SHOWN = 5  # series that get a line each; more are summed up in one


@dataclass(frozen=True)
class Placed:
    """A panel sorted by series and time, with each row's step on the calendar."""

    calendar: Calendar
    names: pd.Index
    order: NDArray[np.intp]
    codes: NDArray[np.intp]
    index: pd.Index
    times: Ints
    steps: Ints
    phase: Ints | int
    back: NDArray[np.intp]  # series of the rows that stepped back in time

    @classmethod
    def of(cls, frame: pd.DataFrame, calendar: Calendar) -> Placed:
        """Sort and place a long panel.

        Raises ValueError for no rows, a blank time, and a calendar of another kind of time.
        """
        if not len(frame):
            raise ValueError("the panel has no rows; needs at least two")
        index = pd.Index(frame["ds"])
        if (calendar.unit == "step") == isinstance(index, pd.DatetimeIndex):
            raise ValueError(
                f"time is {index.dtype}; needs the kind of the calendar ({calendar.freq})"
            )
        if index.hasnans:
            raise ValueError(
                f"ds is blank in {counted(int(index.isna().sum()), 'row')}; needs a time"
            )
        codes, names = pd.factorize(frame["unique_id"])
        times = ticks(index)
        order = np.argsort(codes, kind="stable")
        back = (np.diff(times[order]) < 0) & (np.diff(codes[order]) == 0)
        stepped_back = codes[order][1:][back]
        if back.any():
            order = np.lexsort((times, codes))
        codes, times, index = codes[order], times[order], index[order]
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        phase: Ints | int = calendar.phase or 0
        if calendar.phase is None:
            phase = calendar.phases(index[starts])[codes]
        nearest = False
        if calendar.unit in ("clock", "day"):
            gaps = np.diff(times)[np.diff(codes) == 0]
            # Rows about a step apart are late or early; rows much closer are to be gathered.
            nearest = bool(len(gaps)) and float(np.median(gaps)) > 0.75 * calendar.step
        steps = calendar.ordinals(index, nearest=nearest, phase=phase)
        return cls(
            calendar, pd.Index(names), order, codes, index, times, steps, phase, stepped_back
        )

    @cached_property
    def same(self) -> Bools:
        """Whether each row but the first belongs to the series of the row before it."""
        return np.diff(self.codes) == 0

    @cached_property
    def off_grid(self) -> Bools:
        """Whether each row lies beside the time of its step."""
        stamps = self.calendar.stamps(self.steps, self.index, phase=self.phase)
        return ticks(stamps) != self.times

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """First row of each series."""
        return np.flatnonzero(np.diff(self.codes, prepend=-1))

    def when(self, row: Any) -> str:
        """The time of a row, for a message."""
        return time_text(self.index[row], self.calendar)


def ticks(index: pd.Index) -> Ints:
    """Absolute microseconds, or the integers themselves."""
    if isinstance(index, pd.DatetimeIndex):
        return index.as_unit("us").asi8
    return index.to_numpy(np.int64)


def numbers_of(frame: pd.DataFrame, name: str) -> Floats:
    """A column as float64; raises ValueError when it is absent or holds no numbers."""
    if name not in frame.columns:
        raise ValueError(f"the panel has no column {name!r}; needs unique_id, ds and y")
    if not pd.api.types.is_numeric_dtype(frame[name]):
        raise ValueError(f"column {name!r} is {frame[name].dtype}; needs numbers")
    return frame[name].to_numpy(np.float64)


def by_series(
    names: pd.Index, codes: NDArray[np.intp]
) -> Iterator[tuple[str, str | None, NDArray[np.intp]]]:
    """Label, name and positions in `codes` of each series, or of all at once when they are many."""
    if not len(codes):
        return
    affected = np.unique(codes)
    if len(affected) > SHOWN:
        yield f"{len(affected):,} of {len(names):,} series", None, np.arange(len(codes))
        return
    for series in affected:
        name = str(names[series])
        yield repr(name), name, np.flatnonzero(codes == series)


def time_text(stamp: Any, calendar: Calendar) -> str:
    """A timestamp without the midnight that says nothing in a calendar of days."""
    return str(stamp) if calendar.unit == "clock" else str(stamp).removesuffix(" 00:00:00")
