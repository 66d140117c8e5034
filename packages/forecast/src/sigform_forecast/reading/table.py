"""The panel that a file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sigform_forecast.reading.cells import Floats
from sigform_forecast.reading.columns import RawTable
from sigform_forecast.reading.delimited import read_delimited
from sigform_forecast.reading.dialect import Dialect
from sigform_forecast.reading.encoding import File
from sigform_forecast.reading.parquet import read_parquet
from sigform_forecast.reading.roles import (
    check_values,
    find_free,
    find_ids,
    find_targets,
    note_roles,
    series_of_rows,
)
from sigform_forecast.reading.time_columns import localise
from sigform_forecast.reading.wish import Layout, Wish
from sigform_forecast.wording import counted, listed


@dataclass(frozen=True)
class Table:
    """What a file holds and how it was understood.

    frame: the long panel as found: `unique_id` (str), `ds` (datetime64[us], with time zone where
    the file has one, or int64 steps), `y` (float64) and the covariates (float64), sorted by first
    appearance of unique_id and by ds; gaps, duplicates and NaN are left in. `frame.attrs` holds
    "out_of_order": for each series whose rows were not in order of time, how many stepped back and
    where first.
    future: rows after the last observed y in which the known columns are filled and y is blank:
    `unique_id`, `ds` and the known columns; None when there are none.
    notes: one plain line for each thing that was detected or assumed.
    """

    frame: pd.DataFrame
    future: pd.DataFrame | None
    notes: list[str]
    dialect: Dialect
    time: str
    id: str | None
    targets: list[str]
    known: list[str]
    past: list[str]
    layout: Layout
    name: str


def read_table(
    source: str | Path | BinaryIO,
    *,
    time: str | None = None,
    id: str | None = None,
    target: str | Sequence[str] | None = None,
    known: Sequence[str] = (),
    past: Sequence[str] = (),
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    date_format: str | None = None,
    dayfirst: bool | None = None,
    timezone: str | None = None,
    layout: Layout | None = None,
) -> Table:
    """Read a CSV, TSV, text, gzipped or parquet table into a panel.

    source: a path, "-" for stdin, or a binary stream, read once.
    time, id, target, known, past: columns; found when None or empty. known are covariates whose
    future is known, past those known only up to the last observation.
    separator, decimal, encoding, date_format, dayfirst, timezone, layout: decide what is otherwise
    found. timezone puts naive times into that zone and converts aware ones to it.
    Raises ValueError naming the file and the line when it cannot be read, and OSError from opening.
    """
    if decimal not in (None, ".", ","):
        raise ValueError(f"decimal is {decimal!r}; needs '.' or ','")
    if layout not in (None, "wide", "long"):
        raise ValueError(f"layout is {layout!r}; needs 'wide' or 'long'")
    targets = [target] if isinstance(target, str) else list(target or ())
    wish = Wish(time, id, targets, list(known), list(past), date_format, dayfirst, timezone, layout)
    file = File.open(source)
    if file.head.startswith(b"PAR1"):
        raw = read_parquet(file, wish)
    else:
        raw = read_delimited(file, wish, separator, decimal, encoding)
    return _panel(raw, wish)


def _panel(raw: RawTable, wish: Wish) -> Table:
    ids = find_ids(raw, wish)
    covariates = wish.known + wish.past
    free = find_free(raw, ids, wish)
    targets = wish.targets or find_targets(free, ids)
    if not targets:
        raise ValueError(
            f"{raw.name}: no column holds numbers to forecast; needs one "
            f"(columns: {listed([raw.time, *raw.columns])})"
        )
    check_values(raw, [*targets, *covariates])
    codes, names = series_of_rows(raw, ids)
    if wish.timezone is not None and isinstance(raw.ds, pd.DatetimeIndex) and raw.ds.tz is None:
        raw.ds = localise(raw, codes, wish.timezone)
    layout: Layout = "long" if ids else "wide"
    note_roles(raw, ids, names, targets, free, wish)
    order, out_of_order = _time_order(raw, codes)
    if order is not None:
        codes, raw.ds = codes[order], raw.ds[order]
    data = {name: _taken(raw.columns[name].values, order) for name in [*targets, *covariates]}
    ahead = _is_future(codes, [data[name] for name in targets], [data[n] for n in wish.known])
    future = None
    if ahead.any():
        future = _long(
            raw.ds[ahead], codes[ahead], names, ids, targets,
            {name: data[name][ahead] for name in wish.known},
        )  # fmt: skip
        raw.notes.append(f"{counted(int(ahead.sum()), 'row')} after the last value: known future")
        codes, raw.ds = codes[~ahead], raw.ds[~ahead]
        data = {name: column[~ahead] for name, column in data.items()}
    y = data[targets[0]] if len(targets) == 1 else np.concatenate([data.pop(n) for n in targets])
    raw.columns = {}
    frame = _long(
        raw.ds, codes, names, ids, targets, {name: data[name] for name in covariates}, y
    )  # fmt: skip
    frame.attrs["out_of_order"] = {
        series: found
        for code, found in out_of_order.items()
        for series in _series_names(names[code : code + 1], ids, targets)
    }
    return Table(
        frame=frame, future=future, notes=raw.notes, dialect=raw.dialect, time=raw.time,
        id="/".join(ids) or None, targets=list(targets), known=wish.known, past=wish.past,
        layout=layout, name=raw.name,
    )  # fmt: skip


def _time_order(
    raw: RawTable, codes: NDArray[np.intp]
) -> tuple[NDArray[np.intp] | None, dict[int, tuple[int, Any]]]:
    """The order by series and time, None if the rows are in it, and which series stepped back."""
    values = raw.ticks
    order = None if (np.diff(codes) >= 0).all() else np.argsort(codes, kind="stable")
    by_series, in_file = _taken(codes, order), _taken(values, order)
    back = np.flatnonzero((np.diff(in_file) < 0) & (np.diff(by_series) == 0)) + 1
    if not len(back):
        return order, {}
    found, first, counts = np.unique(by_series[back], return_index=True, return_counts=True)
    rows = back[first] if order is None else order[back[first]]
    steps = {
        int(code): (int(count), raw.ds[row])
        for code, count, row in zip(found, counts, rows, strict=True)
    }
    return np.lexsort((values, codes)), steps


def _taken(values: NDArray[Any], order: NDArray[np.intp] | None) -> NDArray[Any]:
    return values if order is None else values[order]


def _is_future(
    codes: NDArray[np.intp], targets: list[Floats], known: list[Floats]
) -> NDArray[np.bool_]:
    """Rows after a series' last value whose known covariates are filled; rows are in order."""
    ahead = np.zeros(len(codes), bool)
    if not known:
        return ahead
    seen = np.flatnonzero(~np.all([np.isnan(column) for column in targets], axis=0))
    last = np.full(int(codes.max()) + 1, len(codes))
    last[codes[seen]] = seen
    ahead = np.arange(len(codes)) > last[codes]
    return ahead & ~np.any([np.isnan(column) for column in known], axis=0)


def _series_names(names: list[str], ids: list[str], targets: list[str]) -> list[str]:
    if not ids:
        return targets
    if len(targets) == 1:
        return names
    return [f"{name}/{target}" for target in targets for name in names]


def _long(
    ds: pd.Index, codes: NDArray[np.intp], names: list[str], ids: list[str], targets: list[str],
    covariates: dict[str, Floats], y: Floats | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The panel with the rows once for each target, one target after the other."""
    times = len(targets)
    if times > 1:
        codes = np.concatenate([codes + number * len(names) for number in range(times)])
        ds = ds.take(np.tile(np.arange(len(ds)), times))
    unique_id = pd.Index(_series_names(names, ids, targets), dtype=str).take(codes)
    data: dict[str, Any] = {"unique_id": unique_id, "ds": ds}
    if y is not None:
        data["y"] = y
    data |= {
        name: np.tile(values, times) if times > 1 else values for name, values in covariates.items()
    }
    return pd.DataFrame(data, copy=False)
