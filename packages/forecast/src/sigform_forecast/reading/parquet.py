"""Tables in parquet files, whose columns have their types already."""

from __future__ import annotations

import io
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from sigform_forecast.reading.cells import NumberParser
from sigform_forecast.reading.columns import Column, Kind, RawTable
from sigform_forecast.reading.dialect import Dialect
from sigform_forecast.reading.encoding import File
from sigform_forecast.reading.shape import SAMPLE_ROWS
from sigform_forecast.reading.time_columns import find_time, timed
from sigform_forecast.reading.wish import Wish
from sigform_forecast.wording import listed


def read_parquet(file: File, wish: Wish) -> RawTable:
    """Read a parquet table; columns of types that cannot be used are left out and said."""
    try:
        table = pyarrow.parquet.read_table(file.path or io.BytesIO(file.content or b""))
    except (pa.ArrowInvalid, OSError) as error:
        raise file.fault("", f"is a broken parquet file ({error})") from error
    notes = ["parquet"]
    names = [str(name) for name in table.column_names]
    wish.check(file.name, names)
    texts: dict[str, pa.ChunkedArray] = {}
    columns: dict[str, Column] = {}
    for name in names:
        cells = table.column(name)
        if pa.types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        if re.fullmatch(r"__index_level_\d+__", name) and pa.types.is_integer(cells.type):
            notes.append("ignored the unnamed index column")
            continue
        kind = _parquet_kind(cells.type)
        if kind is None:
            notes.append(f"ignored column {name!r} of type {cells.type}")
            continue
        columns[name] = Column(kind)
        texts[name] = cells
    if table.num_rows == 0:
        raise file.fault("", f"has a header and no rows ({listed(names)})")
    sample = {
        name: [str(cell or "") for cell in cells.slice(0, SAMPLE_ROWS).to_pylist()]
        for name, cells in texts.items()
        if columns[name].kind != "number" or pa.types.is_integer(cells.type)
    }
    time = find_time(file.name, sample, wish)
    for name, column in columns.items():
        cells = texts[name]
        if name in time.parts:
            column.kind, column.parts, column.rows = "time", cells.chunks, len(cells)
            continue
        if name == wish.id:
            column.kind = "text"
        if column.kind == "number":
            column.values = cells.cast(pa.float64()).to_numpy(zero_copy_only=False)
            column.missing = int(np.isnan(column.values).sum())
            infinite = np.isinf(column.values)
            if infinite.any():
                column.bad = (int(infinite.argmax()), "inf")
        else:
            for chunk in cells.cast(pa.string()).fill_null("").chunks:
                column.add(chunk, NumberParser("."))
            column.close()

    def locate(row: int) -> str:
        return f"row {row + 1}"

    return timed(file.name, columns, time, wish, Dialect(separator=""), notes, locate)


def _parquet_kind(kind: pa.DataType) -> Kind | None:
    types = pa.types
    if types.is_timestamp(kind) or types.is_date(kind):
        return "time"
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return "number"
    return "number" if types.is_decimal(kind) else None
