"""Which columns tell the time, and the timestamps that they hold."""

from __future__ import annotations

import datetime
import itertools
import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from sigform_forecast.reading.columns import Column, RawTable
from sigform_forecast.reading.dates import (
    TIME_OF_DAY,
    DateParser,
    date_formats,
    is_padded,
    is_zoned,
    swap_day_month,
)
from sigform_forecast.reading.dialect import Dialect
from sigform_forecast.reading.wish import Wish
from sigform_forecast.wording import counted, listed, short

# pyarrow makes these functions when it is imported, so type checkers do not know them.
pc: Any = pyarrow.compute

_TIME_NAME = re.compile(
    r"ds|dates?|datum|data|fecha|dato|time|zeit|zeitpunkt|zeitstempel|datetime|month|monat|year"
    r"|jahr|quarter|quartal|week|woche|day|tag|period|t|step|timestep|time_idx|index|idx"
    r"|.*(?:date|time|stamp).*",
    re.IGNORECASE,
)
_STEP_NAME = re.compile(r"ds|t|step|time|timestep|time_idx|index|idx|period", re.IGNORECASE)
_HOUR_NAME = re.compile(r"hour|hr|stunde|time|hour.?of.?day", re.IGNORECASE)


@dataclass(frozen=True)
class TimeColumns:
    """The columns that tell the time: one, a date and a clock, or year, month and day."""

    parts: list[str]
    hour: str | None = None
    integer: bool = False
    join: str = " "


def find_time(file: str, sample: dict[str, list[str]], wish: Wish) -> TimeColumns:
    """The time columns asked for or the likeliest; raises ValueError when none holds dates."""
    filled = {
        name: [cell.strip() for cell in cells if cell.strip()][:500]
        for name, cells in sample.items()
        if name == wish.time or name not in (wish.id, *wish.values)
    }
    lower = {name.lower(): name for name in filled}
    if wish.time is not None:
        time = wish.time
    else:
        ranked = [
            (rank, place, name)
            for place, (name, cells) in enumerate(filled.items())
            if (rank := _time_rank(name, cells, place == 0)) is not None
        ]
        if not ranked:
            raise ValueError(
                f"{file}: no column holds dates; needs one, or --time with the column that tells "
                f"the time (columns: {listed(list(sample))})"
            )
        rank, _, time = min(ranked)
        year = next((lower[name] for name in ("year", "jahr", "yr") if name in lower), None)
        month = next((lower[name] for name in ("month", "monat", "mo") if name in lower), None)
        if rank >= 3 and year and month:
            day = next((lower[name] for name in ("day", "tag") if name in lower), None)
            parts = [year, month, day] if day else [year, month]
            return TimeColumns(parts, hour=_hour_column(filled, parts) if day else None, join="-")
    cells = filled[time]
    if _is_steps(time, cells):
        return TimeColumns([time], integer=True)
    if wish.date_format or any("%H" in form for cell in cells[:20] for form in date_formats(cell)):
        return TimeColumns([time])
    for name, others in filled.items():
        fits = sum(bool(TIME_OF_DAY.fullmatch(cell)) for cell in others)
        if name != time and fits > 0.9 * len(others):
            return TimeColumns([time, name])
    return TimeColumns([time], hour=_hour_column(filled, [time]))


def _time_rank(name: str, cells: list[str], first: bool) -> int | None:
    """How good a column is for the time, 0 the best; None when it cannot be."""
    if not cells:
        return None
    digits = all(cell.isdigit() for cell in cells)
    dates = sum(bool(date_formats(cell, weak=digits)) for cell in cells) > 0.9 * len(cells)
    named = bool(_TIME_NAME.fullmatch(name))
    if name.lower() == "ds" and (dates or digits):
        return 0
    if dates and not digits:
        return 1 if named else 2
    numbers = [int(cell) for cell in cells] if digits else []
    rising = all(b > a for a, b in itertools.pairwise(numbers)) and len(numbers) > 1
    if dates and named:
        return 3
    if dates and (first or len(cells[0]) in (8, 12, 14)) and rising:
        return 4
    if digits and _STEP_NAME.fullmatch(name):
        return 5
    return None


def _is_steps(name: str, cells: list[str]) -> bool:
    if not cells or not all(re.fullmatch(r"-?\d+", cell) for cell in cells):
        return False
    counter = re.fullmatch(r"t|step|timestep|time_idx|index|idx", name, re.IGNORECASE)
    if counter and max(map(len, cells)) < 8:
        return True
    return not all(date_formats(cell) for cell in cells)


def _hour_column(filled: dict[str, list[str]], taken: list[str]) -> str | None:
    for name, cells in filled.items():
        if name in taken or not _HOUR_NAME.fullmatch(name) or not cells:
            continue
        if all(re.fullmatch(r"\d{1,2}(?:\.0)?", cell) and float(cell) <= 24 for cell in cells):
            return name
    return None


def timed(
    file: str, columns: dict[str, Column], time: TimeColumns, wish: Wish, dialect: Dialect,
    notes: list[str], locate: Callable[[int], str],
) -> RawTable:  # fmt: skip
    """Turn the text of the time columns into timestamps, and drop rows that hold nothing."""
    parts = [pa.chunked_array(columns.pop(name).parts) for name in time.parts]
    hour = columns.pop(time.hour) if time.hour else None
    label = " and ".join(repr(name) for name in [*time.parts, *filter(None, [time.hour])])
    raw = RawTable(file, pd.Index([]), columns, time.parts[0], dialect, notes, locate)
    if pa.types.is_timestamp(parts[0].type) or pa.types.is_date(parts[0].type):
        empty = parts[0].is_null().to_numpy()
        texts = parts[0]
    else:
        parts = [part.cast(pa.string()).fill_null("") for part in parts]
        texts = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, time.join)
        empty = pc.equal(parts[0], "").to_numpy()
    del parts
    if empty.any():
        texts, lines = _drop_empty(raw, texts, empty, label)
        raw.locate = lambda row: locate(int(lines[row]))
        if hour is not None:
            hour.keep(~empty)
    if len(texts) < 2:
        raise ValueError(f"{file}: holds {counted(len(texts), 'row')} of data; needs at least two")
    raw.ds = _stamps(raw, texts, time, wish, label)
    if hour is not None:
        raw.ds = _add_hours(raw, hour, label)
    return raw


def _drop_empty(
    raw: RawTable, texts: pa.ChunkedArray, empty: NDArray[np.bool_], label: str
) -> tuple[pa.ChunkedArray, NDArray[np.intp]]:
    """Drop the rows without time that are blank throughout; raise for one that is not."""
    filled = np.zeros(len(empty), bool)
    for column in raw.columns.values():
        if column.kind == "number":
            filled |= ~np.isnan(column.values)
        else:
            filled |= np.array([bool(text) for text in column.texts])[column.codes]
    if (empty & filled).any():
        raise raw.fault(int((empty & filled).argmax()), f"time column {label} is blank")
    for column in raw.columns.values():
        column.keep(~empty)
        if column.kind == "number":
            column.missing -= int(empty.sum())
        if column.bad is not None:
            row, text = column.bad
            column.bad = (row - int(empty[:row].sum()), text)
    raw.notes.append(f"dropped {counted(int(empty.sum()), 'blank row')}")
    return texts.filter(pa.array(~empty)), np.flatnonzero(~empty)


def _stamps(
    raw: RawTable, texts: pa.ChunkedArray, time: TimeColumns, wish: Wish, label: str
) -> pd.Index:
    if not pa.types.is_string(texts.type):
        index = pd.DatetimeIndex(texts.to_pandas()).as_unit("us")
        return _zoned(raw, index, set(), wish)
    if time.integer:
        try:
            steps = texts.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            whole = pc.match_substring_regex(texts, r"^[+-]?\d{1,18}$").to_numpy()
            row = int((~whole).argmax())
            raise raw.fault(
                row, f"time column {label} holds {short(texts[row].as_py())!r}; needs an integer"
            ) from None
        raw.notes.append(f"time {label} is integer steps")
        raw.dialect = replace(raw.dialect, date_format="integer")
        return pd.Index(steps)
    dates = DateParser(wish.date_format, wish.dayfirst)
    index, bad = dates.parse(texts)
    if bad >= 0:
        needs = f"a date like {dates.forms[0]}" if dates.forms else "a date"
        raise raw.fault(
            bad, f"time column {label} holds {short(texts[bad].as_py())!r}; needs {needs}"
        )
    form = dates.forms[0]
    order = ""
    if swap_day_month(form):
        order = "day-first " if form.index("%d") < form.index("%m") else "month-first "
    raw.notes.append(f"dates {label} {order}as {' or '.join(dates.forms)}")
    raw.notes += dates.notes
    padded = not re.search("%[dm]", form) or is_padded(texts.slice(0, 2000).to_pylist(), form)
    raw.dialect = replace(raw.dialect, date_format=form, padded=padded)
    offsets = set()
    if is_zoned(form):
        found = pc.extract_regex(texts, r"(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$")
        offsets = set(pc.unique(pc.struct_field(found, "zone")).to_pylist())
    return _zoned(raw, cast(pd.DatetimeIndex, index), offsets, wish)


def _zoned(
    raw: RawTable, index: pd.DatetimeIndex, offsets: set[str], wish: Wish
) -> pd.DatetimeIndex:
    """Timestamps that carry a zone, in the zone asked for or that of their one offset."""
    if wish.timezone is not None:
        try:
            zoneinfo.ZoneInfo(wish.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(
                f"timezone is {wish.timezone!r}; needs a name like 'Europe/Berlin'"
            ) from error
    if index.tz is None:
        return index
    several = f"offsets {', '.join(sorted(offsets))}" if len(offsets) > 1 else ""
    if wish.timezone is not None:
        raw.notes.append(f"{several or 'times'} converted to {wish.timezone}")
        return index.tz_convert(wish.timezone)
    if several and not offsets <= {"Z", "UTC", "GMT", "+00:00", "+0000"}:
        raw.notes.append(f"{several} converted to UTC (--timezone decides)")
    elif offsets and not offsets & {"Z", "UTC", "GMT"}:
        digits = next(iter(offsets)).replace(":", "").ljust(5, "0")
        minutes = int(digits[:3]) * 60 + int(digits[0] + digits[3:])
        index = index.tz_convert(datetime.timezone(datetime.timedelta(minutes=minutes)))
        raw.notes.append(f"time zone {index.tz}")
    else:
        raw.notes.append(f"time zone {index.tz}")
    return index


def _add_hours(raw: RawTable, hour: Column, label: str) -> pd.Index:
    wrong = ~((hour.values >= 0) & (hour.values <= 24))
    if wrong.any():
        row = int(wrong.argmax())
        raise raw.fault(row, f"hour in {label} is {hour.values[row]:g}; needs 0 to 24")
    if hour.values.max() == 24:
        raw.notes.append(f"hours in {label} run to 24: hour 24 is midnight of the next day")
    raw.dialect = replace(raw.dialect, date_format=raw.dialect.date_format + " %H:%M")
    micros = np.round(hour.values * 3.6e9).astype("m8[us]")
    return raw.ds + pd.TimedeltaIndex(micros)


def localise(raw: RawTable, codes: NDArray[np.intp], timezone: str) -> pd.DatetimeIndex:
    """Put naive times into a zone: of a doubled hour, the first row is summer time."""
    wall = cast(pd.DatetimeIndex, raw.ds)
    seen = pd.DataFrame({"code": codes, "wall": wall}).groupby(["code", "wall"]).cumcount()
    summer = seen.to_numpy() == 0
    zoned = wall.tz_localize(timezone, ambiguous=summer, nonexistent="NaT")
    missing = int(zoned.isna().sum())
    if missing:
        raw.notes.append(
            f"{counted(missing, 'time')} in a spring hour that {timezone} skips: moved forward"
        )
        zoned = wall.tz_localize(timezone, ambiguous=summer, nonexistent="shift_forward")
    raw.notes.append(f"times put into {timezone}")
    return zoned
