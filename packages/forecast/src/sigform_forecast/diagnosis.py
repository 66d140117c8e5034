"""What is wrong with a panel, said before training, and the repair that is asked for.

Both work on all series at once: rows are sorted by series and step, and every question is one
about neighbouring rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sigform_forecast.calendar import DAY, HOUR, Calendar, Ints, step_words

Severity = Literal["info", "warning", "error"]
Fill = Literal["interpolate", "previous", "zero", "seasonal", "drop", "error"]
Duplicates = Literal["mean", "last", "first", "error"]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

SHOWN = 5  # series that get a line each; more are summed up in one
STEP_RUN = 5  # equal steps in a row that are no accident
GRID_LIMIT = 20  # times the rows that a grid may have
_FILL_WORDS = {
    "interpolate": "by interpolation",
    "previous": "with the previous value",
    "zero": "with zero",
    "seasonal": "with the value of one season before",
}


@dataclass(frozen=True)
class Finding:
    """One thing to know about the data.

    series: its name, or None when the finding is about several or all. count: how many timestamps,
    values or series. first: where it begins. message: one plain line.
    """

    code: str
    severity: Severity
    series: str | None
    count: int
    first: pd.Timestamp | int | None
    message: str


@dataclass(frozen=True)
class Diagnosis:
    """Everything found, errors first."""

    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        """The findings that should stop a run unless the user decides otherwise."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def codes(self) -> set[str]:
        """The codes that occur."""
        return {finding.code for finding in self.findings}


@dataclass(frozen=True)
class _Placed:
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

    @cached_property
    def same(self) -> Bools:
        """Whether each row but the first belongs to the series of the row before it."""
        return np.diff(self.codes) == 0

    @cached_property
    def off_grid(self) -> Bools:
        stamps = self.calendar.stamps(self.steps, self.index, phase=self.phase)
        return _times(stamps) != self.times

    def when(self, row: Any) -> str:
        return _when(self.index[row], self.calendar)

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """First row of each series."""
        return np.flatnonzero(np.diff(self.codes, prepend=-1))


def diagnose(frame: pd.DataFrame, calendar: Calendar) -> Diagnosis:
    """Look for everything in a panel that makes a forecast wrong or weaker.

    frame: long panel as found (`unique_id`, `ds`, `y`, covariates); it is not changed.
    Codes: timezone, wrong_frequency, mixed_frequency, off_grid, unordered, duplicates, dst,
    leap_days, gaps, infinite, all_missing, nearly_empty, missing, constant, ends_early, too_few.
    Raises ValueError for a blank time and for a calendar of another kind of time.
    """
    placed = _place(frame, calendar)
    y = _numbers(frame, "y")[placed.order]
    findings = [
        *_frequency(placed),
        *_order(placed, frame),
        *_neighbours(placed, y),
        *_values(placed, y),
        *_covariates(frame),
        *_lengths(placed, y),
    ]
    rank = {"error": 0, "warning": 1, "info": 2}
    return Diagnosis(sorted(findings, key=lambda finding: rank[finding.severity]))


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
    placed = _place(frame, calendar)
    names = [name for name in frame.columns if name not in ("unique_id", "ds")]
    values = {name: _numbers(frame, name)[placed.order] for name in names}
    lines: list[str] = []
    _drop_infinite(values, lines)
    codes, steps, phase = placed.codes, placed.steps, _rows(placed.phase, placed.codes)
    for label, _, mine in _by_series(placed.names, codes[placed.off_grid]):
        what = f"{_count(len(mine), 'timestamp')} of {label}"
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


def _place(frame: pd.DataFrame, calendar: Calendar) -> _Placed:
    if not len(frame):
        raise ValueError("the panel has no rows; needs at least two")
    index = pd.Index(frame["ds"])
    if (calendar.unit == "step") == isinstance(index, pd.DatetimeIndex):
        raise ValueError(f"time is {index.dtype}; needs the kind of the calendar ({calendar.freq})")
    if index.hasnans:
        raise ValueError(f"ds is blank in {_count(int(index.isna().sum()), 'row')}; needs a time")
    codes, names = pd.factorize(frame["unique_id"])
    times = _times(index)
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
    return _Placed(
        calendar, pd.Index(names), order, codes, index, times, steps, phase, stepped_back
    )


def _times(index: pd.Index) -> Ints:
    """Absolute microseconds, or the integers themselves."""
    if isinstance(index, pd.DatetimeIndex):
        return index.as_unit("us").asi8
    return index.to_numpy(np.int64)


def _numbers(frame: pd.DataFrame, name: str) -> Floats:
    if name not in frame.columns:
        raise ValueError(f"the panel has no column {name!r}; needs unique_id, ds and y")
    if not pd.api.types.is_numeric_dtype(frame[name]):
        raise ValueError(f"column {name!r} is {frame[name].dtype}; needs numbers")
    return frame[name].to_numpy(np.float64)


def _rows(phase: Ints | int, codes: NDArray[np.intp]) -> Ints:
    return np.broadcast_to(np.asarray(phase, np.int64), codes.shape)


# --- findings ------------------------------------------------------------------------------------


def _by_series(
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


def _each(
    code: str,
    severity: Severity,
    placed: _Placed,
    rows: NDArray[np.intp],
    say: Callable[[int, NDArray[np.intp]], str],
    weights: Ints | None = None,
) -> Iterator[Finding]:
    """A finding for each series that `rows` lie in; one for all when they are many.

    weights: how much each row counts for. `say` makes the message of the count and of the positions
    in `rows` that it is about.
    """
    for label, name, mine in _by_series(placed.names, placed.codes[rows]):
        count = len(mine) if weights is None else int(weights[mine].sum())
        message = f"{label}: {say(count, mine)}"
        if name is None:
            counts = np.bincount(placed.codes[rows], weights)
            if counts.max() > 1:
                message += f"; most in {str(placed.names[counts.argmax()])!r} ({counts.max():,.0f})"
        first: Any = placed.index[rows[mine[0]]]
        yield Finding(code, severity, name, count, first, message)


def _frequency(placed: _Placed) -> Iterator[Finding]:
    calendar, index = placed.calendar, placed.index
    if isinstance(index, pd.DatetimeIndex) and index.tz is not None:
        yield Finding("timezone", "info", None, len(index), None, f"times are in {index.tz}")
    raw = _raw_steps(placed)
    forward = raw[placed.same & (raw > 0)]
    off = np.flatnonzero(placed.off_grid)
    if calendar.declared and len(forward):
        misfit = _misfit(placed, forward, off)
        if misfit:
            what = f"--freq {calendar.freq} does not fit: {misfit}"
            first: Any = index[0]
            yield Finding("wrong_frequency", "error", None, len(off), first, what)
            return
    yield from _each("off_grid", "warning", placed, off, lambda count, mine: (
        f"{_count(count, 'timestamp')} off the calendar ({calendar.describe()}), "
        f"first {placed.when(off[mine[0]])}"
    ))  # fmt: skip
    yield from _mixed(placed, raw)


def _misfit(placed: _Placed, forward: Ints, off: NDArray[np.intp]) -> str:
    """Why a declared frequency does not fit the data; empty when it does."""
    calendar = placed.calendar
    values, counts = np.unique(forward, return_counts=True)
    common = int(values[counts.argmax()])
    close = 0.67 < float(np.median(forward)) / calendar.step < 1.5
    if common != calendar.step and not close:
        return f"the commonest step is {_step_words(calendar, common)}"
    jitter = calendar.unit in ("clock", "day") and close and counts.max() < 0.5 * len(forward)
    if len(off) > 0.2 * len(placed.times) and not jitter:
        return f"{_count(len(off), 'timestamp')} lie elsewhere, first {placed.when(off[0])}"
    return ""


def _raw_steps(placed: _Placed) -> Ints:
    """Distance of each row but the first to the row before, in the unit of the calendar's step."""
    calendar = placed.calendar
    if calendar.unit in ("clock", "step"):
        return np.diff(placed.times)
    if calendar.unit == "day":
        return np.diff(_times(_wall(placed.index)))
    if calendar.unit == "half-month":
        return np.diff(placed.steps)
    return np.diff(replace(calendar, step=1, phase=0).ordinals(placed.index))


def _wall(index: pd.Index) -> pd.Index:
    return index.tz_localize(None) if isinstance(index, pd.DatetimeIndex) else index


def _step_words(calendar: Calendar, step: int) -> str:
    if calendar.unit in ("clock", "day"):
        return step_words(step)
    unit = {"month": "month", "business": "business day", "half-month": "half month"}
    return _count(step, unit[calendar.unit]) if calendar.unit in unit else str(step)


def _mixed(placed: _Placed, raw: Ints) -> Iterator[Finding]:
    """Stretches of a series that keep another step than the calendar's."""
    calendar = placed.calendar
    key = np.where(placed.same, raw, -1)
    starts = np.flatnonzero(np.diff(key, prepend=-2))
    lengths = np.diff(starts, append=len(key))
    odd = (key[starts] > 0) & (key[starts] != calendar.step) & (lengths >= STEP_RUN)
    rows, lengths = starts[odd], lengths[odd]
    yield from _each("mixed_frequency", "warning", placed, rows, lambda count, mine: (
        f"{_count(count, 'step')} of {_step_words(calendar, int(key[rows[mine[0]]]))} "
        f"instead of {_step_words(calendar, calendar.step)}, from {placed.when(rows[mine[0]])} on"
    ), lengths)  # fmt: skip


def _order(placed: _Placed, frame: pd.DataFrame) -> Iterator[Finding]:
    """Rows that were not in order of time, here or in the file that was read."""
    here, counts = np.unique(placed.back, return_counts=True)
    found: dict[str, tuple[int, Any]] = {
        str(placed.names[series]): (int(count), None)
        for series, count in zip(here, counts, strict=True)
    }
    found |= frame.attrs.get("out_of_order", {})
    if len(found) > SHOWN:
        total = sum(count for count, _ in found.values())
        label = f"{len(found):,} of {len(placed.names):,} series"
        message = f"{label}: {_count(total, 'row')} out of order of time; sorted"
        yield Finding("unordered", "warning", None, total, None, message)
        return
    sizes = dict(zip(placed.names, np.bincount(placed.codes).tolist(), strict=True))
    for name, (count, first) in found.items():
        where = "" if first is None else f", first {_when(first, placed.calendar)}"
        message = f"{name!r}: {_count(count, 'row')} out of order of time{where}; sorted"
        severity: Severity = "warning"
        if count > 1 and count == sizes.get(name, 0) - 1:
            message, severity = f"{name!r}: newest rows first; put in order of time", "info"
        yield Finding("unordered", severity, name, count, first, message)


def _neighbours(placed: _Placed, y: Floats) -> Iterator[Finding]:
    """Duplicates and gaps, with daylight saving and leap days told apart."""
    index = placed.index
    doubled = np.flatnonzero(placed.same & (np.diff(placed.times) == 0)) + 1
    absent = np.where(placed.same, np.diff(placed.steps) - 1, 0)
    holes = np.flatnonzero(absent > 0)  # the row before each gap
    spring, autumn = _daylight_saving(placed, holes, absent, doubled)
    parts = []
    if len(spring):
        parts.append(f"an hour is absent in spring (first after {placed.when(spring[0])})")
    if len(autumn):
        parts.append(f"an hour is doubled in autumn (first {placed.when(autumn[0])})")
    if parts:
        first: Any = index[min([*spring[:1], *autumn[:1]])]
        message = f"local time with daylight saving: {' and '.join(parts)}; --timezone resolves it"
        yield Finding("dst", "warning", None, len(spring) + len(autumn), first, message)
    doubled, holes = np.setdiff1d(doubled, autumn), np.setdiff1d(holes, spring)
    differ = ~np.isclose(y[doubled], y[doubled - 1], rtol=0, atol=0, equal_nan=True)
    yield from _each("duplicates", "warning", placed, doubled, lambda count, mine: (
        f"{_count(count, 'timestamp')} repeated, {differ[mine].sum():,} with another value, "
        f"first {placed.when(doubled[mine[0]])}"
    ))  # fmt: skip
    leaps = _leap_days(placed, holes, absent)
    yield from _each("leap_days", "info", placed, leaps, lambda count, mine: (
        f"{_count(count, 'leap day')} absent, first after {placed.when(leaps[mine[0]])}"
    ))  # fmt: skip
    holes = np.setdiff1d(holes, leaps)
    sizes = absent[holes]

    def say(count: int, mine: NDArray[np.intp]) -> str:
        worst = mine[sizes[mine].argmax()]
        runs = f"longest run {sizes[worst]:,} after {placed.when(holes[worst])}"
        return f"{_count(count, 'timestamp')} absent, {runs}"

    yield from _each("gaps", "warning", placed, holes, say, sizes)


def _daylight_saving(
    placed: _Placed, holes: NDArray[np.intp], absent: Ints, doubled: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The gaps and the repeated rows that are the hour lost in spring and doubled in autumn."""
    calendar, index = placed.calendar, placed.index
    nothing = np.empty(0, np.intp)
    if not isinstance(index, pd.DatetimeIndex) or index.tz is not None:
        return nothing, nothing
    if calendar.unit != "clock" or HOUR % calendar.step:
        return nothing, nothing

    def changing(stamps: pd.DatetimeIndex) -> Bools:
        night = (stamps.day_of_week == 6) & (stamps.hour <= 3)
        return np.asarray(night & stamps.month.isin((3, 4, 9, 10, 11)))

    lost = index[holes] + pd.Timedelta(microseconds=calendar.step)
    an_hour = absent[holes] * calendar.step == HOUR
    return holes[changing(lost) & an_hour], doubled[changing(index[doubled])]


def _leap_days(placed: _Placed, holes: NDArray[np.intp], absent: Ints) -> NDArray[np.intp]:
    """The gaps of daily data that make a leap year one of 365 days."""
    wall = _wall(placed.index)
    if placed.calendar.unit != "day" or placed.calendar.step != DAY:
        return np.empty(0, np.intp)
    lost = pd.DatetimeIndex(wall[holes]) + pd.Timedelta(days=1)
    alone = absent[holes] == 1
    february = alone & np.asarray((lost.month == 2) & (lost.day == 29))
    december = alone & np.asarray(lost.day_of_year == 366)
    # Any 31 December may be missing; years of 365 days are those that lack nothing else.
    others = placed.codes[holes[~(february | december)]]
    return holes[february | (december & ~np.isin(placed.codes[holes], others))]


def _values(placed: _Placed, y: Floats) -> Iterator[Finding]:
    codes, starts = placed.codes, placed.starts
    size = len(placed.names)
    rows = np.bincount(codes, minlength=size)
    finite = np.isfinite(y)
    filled = np.bincount(codes[finite], minlength=size)
    infinite = np.flatnonzero(np.isinf(y))
    yield from _each("infinite", "error", placed, infinite, lambda count, mine: (
        f"{_count(count, 'infinite value')}, first {placed.when(infinite[mine[0]])}"
    ))  # fmt: skip
    empty = filled == 0
    yield from _each(
        "all_missing", "warning", placed, starts[empty], lambda *_: "no values; left out"
    )
    sparse = ~empty & (filled < 0.2 * rows)
    few = filled[sparse]
    yield from _each("nearly_empty", "warning", placed, starts[sparse], lambda _, mine: (
        f"only {_count(int(few[mine].sum()), 'value')} in "
        f"{_count(int(rows[sparse][mine].sum()), 'row')}"
    ))  # fmt: skip
    gone = np.flatnonzero(np.isnan(y) & ~(empty | sparse)[codes])
    yield from _each("missing", "warning", placed, gone, lambda count, mine: (
        f"{_count(count, 'value')} missing, first {placed.when(gone[mine[0]])}"
    ))  # fmt: skip
    low, high = np.fmin.reduceat(y, starts), np.fmax.reduceat(y, starts)
    constant = starts[(filled > 2) & (low == high)]
    yield from _each("constant", "warning", placed, constant, lambda count, mine: (
        f"constant at {y[finite & (codes == codes[constant[mine[0]]])][0]:g}"
        if count == 1 else "constant"
    ))  # fmt: skip


def _covariates(frame: pd.DataFrame) -> Iterator[Finding]:
    for name in frame.columns:
        if name in ("unique_id", "ds", "y"):
            continue
        values = _numbers(frame, name)
        infinite, missing = int(np.isinf(values).sum()), int(np.isnan(values).sum())
        label = f"covariate {name!r}"
        if infinite:
            message = f"{label}: {_count(infinite, 'infinite value')}"
            yield Finding("infinite", "error", None, infinite, None, message)
        if missing == len(values):
            yield Finding("all_missing", "warning", None, missing, None, f"{label}: no values")
        elif missing:
            message = f"{label}: {_count(missing, 'value')} missing"
            yield Finding("missing", "warning", None, missing, None, message)
        finite = values[np.isfinite(values)]
        if len(finite) and finite.min() == finite.max():
            message = f"{label}: constant at {finite[0]:g}"
            yield Finding("constant", "info", None, len(finite), None, message)


def _lengths(placed: _Placed, y: Floats) -> Iterator[Finding]:
    codes, season = placed.codes, placed.calendar.season_length
    filled = np.flatnonzero(np.isfinite(y))
    counts = np.bincount(codes[filled], minlength=len(placed.names))
    short = placed.starts[(counts > 0) & (counts < max(2 * season, 3))]
    yield from _each("too_few", "warning", placed, short, lambda _, mine: (
        f"{_count(int(counts[codes[short[mine]]].max()), 'value')}; "
        f"two seasons are {max(2 * season, 3)}"
    ))  # fmt: skip
    if not len(filled):
        return
    ends = filled[np.flatnonzero(np.diff(codes[filled], append=-1))]  # last value of each series
    newest = placed.times[ends].max()
    early = ends[placed.times[ends] < newest]
    last = placed.when(ends[placed.times[ends].argmax()])
    yield from _each("ends_early", "warning", placed, early, lambda _, mine: (
        f"the last value is at {placed.when(early[mine[0]])}, that of others at {last}"
    ))  # fmt: skip


# --- repair --------------------------------------------------------------------------------------


def _drop_infinite(values: dict[str, Floats], lines: list[str]) -> None:
    for name, column in values.items():
        infinite = np.isinf(column)
        if infinite.any():
            values[name] = np.where(infinite, np.nan, column)
            lines.append(f"took {_count(int(infinite.sum()), 'infinite value')} of {name!r} out")


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
        return _when(stamps[0], self.calendar)

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
        for label, _, mine in _by_series(self.names, self.codes[extra]):
            what = f"{_count(len(mine), 'repeated row')} of {label}"
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
        for label, _, _ in _by_series(self.names, empty):
            self.lines.append(f"left out {label}: no values")
        early = (rows < first[self.codes]) & (last >= 0)[self.codes]
        late = (rows > last[self.codes]) & (last >= 0)[self.codes]
        for cut, where in ((early, "before the first"), (late, "after the last")):
            for label, _, mine in _by_series(self.names, self.codes[cut]):
                what = _count(len(mine), "empty row")
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
                f"{name!r} lacks {_count(count, 'value')}, the first at "
                f"{_when(index[holes[0]], self.calendar)}; needs none, or another rule for filling"
            )
        if fill == "drop":
            last = np.full(len(self.names), -1)
            last[self.codes[holes]] = holes
            keep = np.arange(len(y)) > last[self.codes]
            for label, _, mine in _by_series(self.names, self.codes[~keep]):
                what = _count(len(mine), "row")
                self.lines.append(f"dropped {what} of {label}: all up to its last hole")
            return keep
        before, after = _neighbours_of(y, self.codes, holes)
        if fill == "zero":
            filled = np.zeros(len(holes))
        elif fill == "previous":
            filled = y[before]
        else:
            filled = _between(y, _times(index), holes, before, after)
        if fill == "seasonal":
            filled = self._seasonal(y, holes, filled)
        runs = after - before - 1
        for label, _, mine in _by_series(self.names, self.codes[holes]):
            worst = mine[runs[mine].argmax()]
            self.lines.append(
                f"filled {_count(len(mine), 'missing value')} of {label} {_FILL_WORDS[fill]} "
                f"(longest run {runs[worst]:,} from "
                f"{_when(index[before[worst] + 1], self.calendar)})"
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
        before, after = _neighbours_of(column, self.codes, holes)
        column[holes] = _between(column, _times(index), holes, before, after)
        none = (before < 0) & (after < 0)
        for label, _, mine in _by_series(self.names, self.codes[holes[~none]]):
            what = f"{_count(len(mine), 'missing value')} of covariate {name!r} in {label}"
            self.lines.append(f"filled {what} by interpolation")
        for label, _, _ in _by_series(self.names, self.codes[holes[none]]):
            self.lines.append(f"covariate {name!r} has no values in {label}: filled with 0")


def _neighbours_of(
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


def _when(stamp: Any, calendar: Calendar) -> str:
    """A timestamp without the midnight that says nothing in a calendar of days."""
    return str(stamp) if calendar.unit == "clock" else str(stamp).removesuffix(" 00:00:00")


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")
