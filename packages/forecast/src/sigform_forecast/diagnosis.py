"""What is wrong with a panel, said before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sigform_forecast.calendar import DAY, HOUR, Calendar, Ints, step_words
from sigform_forecast.placing import (
    SHOWN,
    Bools,
    Floats,
    Placed,
    by_series,
    numbers_of,
    ticks,
    time_text,
)
from sigform_forecast.wording import counted

Severity = Literal["info", "warning", "error"]

STEP_RUN = 5  # equal steps in a row that are no accident


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


def diagnose(frame: pd.DataFrame, calendar: Calendar) -> Diagnosis:
    """Look for everything in a panel that makes a forecast wrong or weaker.

    frame: long panel as found (`unique_id`, `ds`, `y`, covariates); it is not changed.
    Codes: timezone, wrong_frequency, mixed_frequency, off_grid, unordered, duplicates, dst,
    leap_days, gaps, infinite, all_missing, nearly_empty, missing, constant, ends_early, too_few.
    Raises ValueError for a blank time and for a calendar of another kind of time.
    """
    placed = Placed.of(frame, calendar)
    y = numbers_of(frame, "y")[placed.order]
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


def _each(
    code: str,
    severity: Severity,
    placed: Placed,
    rows: NDArray[np.intp],
    say: Callable[[int, NDArray[np.intp]], str],
    weights: Ints | None = None,
) -> Iterator[Finding]:
    """A finding for each series that `rows` lie in; one for all when they are many.

    weights: how much each row counts for. `say` makes the message of the count and of the positions
    in `rows` that it is about.
    """
    for label, name, mine in by_series(placed.names, placed.codes[rows]):
        count = len(mine) if weights is None else int(weights[mine].sum())
        message = f"{label}: {say(count, mine)}"
        if name is None:
            counts = np.bincount(placed.codes[rows], weights)
            if counts.max() > 1:
                message += f"; most in {str(placed.names[counts.argmax()])!r} ({counts.max():,.0f})"
        first: Any = placed.index[rows[mine[0]]]
        yield Finding(code, severity, name, count, first, message)


def _frequency(placed: Placed) -> Iterator[Finding]:
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
        f"{counted(count, 'timestamp')} off the calendar ({calendar.describe()}), "
        f"first {placed.when(off[mine[0]])}"
    ))  # fmt: skip
    yield from _mixed(placed, raw)


def _misfit(placed: Placed, forward: Ints, off: NDArray[np.intp]) -> str:
    """Why a declared frequency does not fit the data; empty when it does."""
    calendar = placed.calendar
    values, counts = np.unique(forward, return_counts=True)
    common = int(values[counts.argmax()])
    close = 0.67 < float(np.median(forward)) / calendar.step < 1.5
    if common != calendar.step and not close:
        return f"the commonest step is {_step_words(calendar, common)}"
    jitter = calendar.unit in ("clock", "day") and close and counts.max() < 0.5 * len(forward)
    if len(off) > 0.2 * len(placed.times) and not jitter:
        return f"{counted(len(off), 'timestamp')} lie elsewhere, first {placed.when(off[0])}"
    return ""


def _raw_steps(placed: Placed) -> Ints:
    """Distance of each row but the first to the row before, in the unit of the calendar's step."""
    calendar = placed.calendar
    if calendar.unit in ("clock", "step"):
        return np.diff(placed.times)
    if calendar.unit == "day":
        return np.diff(ticks(_wall(placed.index)))
    if calendar.unit == "half-month":
        return np.diff(placed.steps)
    return np.diff(replace(calendar, step=1, phase=0).ordinals(placed.index))


def _wall(index: pd.Index) -> pd.Index:
    return index.tz_localize(None) if isinstance(index, pd.DatetimeIndex) else index


def _step_words(calendar: Calendar, step: int) -> str:
    if calendar.unit in ("clock", "day"):
        return step_words(step)
    unit = {"month": "month", "business": "business day", "half-month": "half month"}
    return counted(step, unit[calendar.unit]) if calendar.unit in unit else str(step)


def _mixed(placed: Placed, raw: Ints) -> Iterator[Finding]:
    """Stretches of a series that keep another step than the calendar's."""
    calendar = placed.calendar
    key = np.where(placed.same, raw, -1)
    starts = np.flatnonzero(np.diff(key, prepend=-2))
    lengths = np.diff(starts, append=len(key))
    odd = (key[starts] > 0) & (key[starts] != calendar.step) & (lengths >= STEP_RUN)
    rows, lengths = starts[odd], lengths[odd]
    yield from _each("mixed_frequency", "warning", placed, rows, lambda count, mine: (
        f"{counted(count, 'step')} of {_step_words(calendar, int(key[rows[mine[0]]]))} "
        f"instead of {_step_words(calendar, calendar.step)}, from {placed.when(rows[mine[0]])} on"
    ), lengths)  # fmt: skip


def _order(placed: Placed, frame: pd.DataFrame) -> Iterator[Finding]:
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
        message = f"{label}: {counted(total, 'row')} out of order of time; sorted"
        yield Finding("unordered", "warning", None, total, None, message)
        return
    sizes = dict(zip(placed.names, np.bincount(placed.codes).tolist(), strict=True))
    for name, (count, first) in found.items():
        where = "" if first is None else f", first {time_text(first, placed.calendar)}"
        message = f"{name!r}: {counted(count, 'row')} out of order of time{where}; sorted"
        severity: Severity = "warning"
        if count > 1 and count == sizes.get(name, 0) - 1:
            message, severity = f"{name!r}: newest rows first; put in order of time", "info"
        yield Finding("unordered", severity, name, count, first, message)


def _neighbours(placed: Placed, y: Floats) -> Iterator[Finding]:
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
        f"{counted(count, 'timestamp')} repeated, {differ[mine].sum():,} with another value, "
        f"first {placed.when(doubled[mine[0]])}"
    ))  # fmt: skip
    leaps = _leap_days(placed, holes, absent)
    yield from _each("leap_days", "info", placed, leaps, lambda count, mine: (
        f"{counted(count, 'leap day')} absent, first after {placed.when(leaps[mine[0]])}"
    ))  # fmt: skip
    holes = np.setdiff1d(holes, leaps)
    sizes = absent[holes]

    def say(count: int, mine: NDArray[np.intp]) -> str:
        worst = mine[sizes[mine].argmax()]
        runs = f"longest run {sizes[worst]:,} after {placed.when(holes[worst])}"
        return f"{counted(count, 'timestamp')} absent, {runs}"

    yield from _each("gaps", "warning", placed, holes, say, sizes)


def _daylight_saving(
    placed: Placed, holes: NDArray[np.intp], absent: Ints, doubled: NDArray[np.intp]
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


def _leap_days(placed: Placed, holes: NDArray[np.intp], absent: Ints) -> NDArray[np.intp]:
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


def _values(placed: Placed, y: Floats) -> Iterator[Finding]:
    codes, starts = placed.codes, placed.starts
    size = len(placed.names)
    rows = np.bincount(codes, minlength=size)
    finite = np.isfinite(y)
    filled = np.bincount(codes[finite], minlength=size)
    infinite = np.flatnonzero(np.isinf(y))
    yield from _each("infinite", "error", placed, infinite, lambda count, mine: (
        f"{counted(count, 'infinite value')}, first {placed.when(infinite[mine[0]])}"
    ))  # fmt: skip
    empty = filled == 0
    yield from _each(
        "all_missing", "warning", placed, starts[empty], lambda *_: "no values; left out"
    )
    sparse = ~empty & (filled < 0.2 * rows)
    few = filled[sparse]
    yield from _each("nearly_empty", "warning", placed, starts[sparse], lambda _, mine: (
        f"only {counted(int(few[mine].sum()), 'value')} in "
        f"{counted(int(rows[sparse][mine].sum()), 'row')}"
    ))  # fmt: skip
    gone = np.flatnonzero(np.isnan(y) & ~(empty | sparse)[codes])
    yield from _each("missing", "warning", placed, gone, lambda count, mine: (
        f"{counted(count, 'value')} missing, first {placed.when(gone[mine[0]])}"
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
        values = numbers_of(frame, name)
        infinite, missing = int(np.isinf(values).sum()), int(np.isnan(values).sum())
        label = f"covariate {name!r}"
        if infinite:
            message = f"{label}: {counted(infinite, 'infinite value')}"
            yield Finding("infinite", "error", None, infinite, None, message)
        if missing == len(values):
            yield Finding("all_missing", "warning", None, missing, None, f"{label}: no values")
        elif missing:
            message = f"{label}: {counted(missing, 'value')} missing"
            yield Finding("missing", "warning", None, missing, None, message)
        finite = values[np.isfinite(values)]
        if len(finite) and finite.min() == finite.max():
            message = f"{label}: constant at {finite[0]:g}"
            yield Finding("constant", "info", None, len(finite), None, message)


def _lengths(placed: Placed, y: Floats) -> Iterator[Finding]:
    codes, season = placed.codes, placed.calendar.season_length
    filled = np.flatnonzero(np.isfinite(y))
    counts = np.bincount(codes[filled], minlength=len(placed.names))
    short = placed.starts[(counts > 0) & (counts < max(2 * season, 3))]
    yield from _each("too_few", "warning", placed, short, lambda _, mine: (
        f"{counted(int(counts[codes[short[mine]]].max()), 'value')}; "
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
