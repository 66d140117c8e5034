"""Tables of text: every column parsed by pyarrow block by block."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from sigform_forecast.reading.cells import MISSING, NUMBER, NumberParser
from sigform_forecast.reading.columns import ID_NAME, Column, Kind, RawTable
from sigform_forecast.reading.dialect import Dialect
from sigform_forecast.reading.encoding import File, Utf8Stream, find_encoding
from sigform_forecast.reading.shape import Shape, find_shape, line_of, ragged_line, unique_names
from sigform_forecast.reading.time_columns import TimeColumns, find_time, timed
from sigform_forecast.reading.wish import Wish
from sigform_forecast.wording import counted, short

# pyarrow makes these functions when it is imported, so type checkers do not know them.
pc: Any = pyarrow.compute


def read_delimited(
    file: File, wish: Wish, separator: str | None, decimal: str | None, encoding: str | None
) -> RawTable:
    """Read a table of text; raises ValueError naming the line of a row that does not fit."""
    shape = find_shape(file, find_encoding(file, encoding), separator)
    notes = list(shape.notes)
    names = unique_names(shape.names, notes)
    wish.check(file.name, names)
    sample = {name: [row[place] for row in shape.rows] for place, name in enumerate(names)}
    for name, what in _unnamed(sample, shape.names, wish).items():
        notes.append(f"ignored the unnamed {what} column {names.index(name) + 1}")
        del sample[name]
    time = find_time(file.name, sample, wish)
    columns = {name: Column(_kind(name, cells, time, wish)) for name, cells in sample.items()}
    numbers = NumberParser(decimal)
    if decimal is None:
        cells = [c for name in sample if columns[name].kind == "number" for c in sample[name]]
        numbers.settle([cell for cell in cells if NUMBER.fullmatch(cell)], shape.separator)
    _stream(file, shape, names, columns, numbers)
    notes[0] += ", decimal " + ("comma" if numbers.decimal == "," else "point")
    if numbers.assumed:
        meaning = "one and a bit" if numbers.decimal == "," else "a thousand and more"
        notes.append(f"assumed that '1,234' means {meaning} (--decimal decides)")
    if numbers.stripped:
        notes.append(f"stripped {', '.join(sorted(numbers.stripped))} from values")
    if shape.encoding != "utf-8":
        notes.append(f"encoding {shape.encoding}")
    if file.gzipped:
        notes.append("compressed with gzip")
    dialect = Dialect(shape.separator, numbers.decimal or ".", shape.encoding, gzip=file.gzipped)

    def locate(row: int) -> str:
        return f"line {line_of(file, shape, row)}"

    return timed(file.name, columns, time, wish, dialect, notes, locate)


def _kind(name: str, cells: list[str], time: TimeColumns, wish: Wish) -> Kind:
    if name in time.parts:
        return "time"
    if name in (wish.id, "unique_id"):
        return "text"
    if name == time.hour or name in wish.values:
        return "number"
    # "007" is a name: as a number it would lose its zeros.
    if ID_NAME.fullmatch(name) and any(re.fullmatch(r"0\d+", cell) for cell in cells):
        return "text"
    filled = [cell for cell in cells if cell.strip().lower() not in MISSING]
    fits = sum(bool(NUMBER.fullmatch(cell)) for cell in filled)
    return "number" if fits * 2 >= len(filled) else "text"


def _unnamed(sample: dict[str, list[str]], header: list[str], wish: Wish) -> dict[str, str]:
    """Columns without a name that are only a row number or empty."""
    asked = wish.columns
    found = {}
    for (name, column), title in zip(sample.items(), header, strict=True):
        if name in asked or not re.fullmatch(r"(Unnamed: ?\d+)?", title):
            continue
        cells = [cell.strip() for cell in column]
        if not any(cells):
            found[name] = "empty"
        elif all(cell.isdigit() for cell in cells) and len(sample) > 2:
            steps = {int(b) - int(a) for a, b in itertools.pairwise(cells)}
            if steps <= {1}:
                found[name] = "index"
    return found


def _stream(
    file: File, shape: Shape, names: list[str], columns: dict[str, Column], numbers: NumberParser
) -> None:
    """Read the rows block by block into the columns."""
    ragged: list[pyarrow.csv.InvalidRow] = []

    def on_ragged(row: pyarrow.csv.InvalidRow) -> str:
        if not row.text.strip(f" \t,{shape.delimiter}"):
            return "skip"
        ragged.append(row)
        return "error"

    text = Utf8Stream(file, shape.encoding, squeeze=shape.separator == "whitespace")
    try:
        with pyarrow.csv.open_csv(
            text,
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=1 << 20, skip_rows=shape.skip, column_names=names
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=shape.delimiter, newlines_in_values=True, invalid_row_handler=on_ragged
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=list(columns)
            ),
        ) as reader:
            for batch in reader:
                _settle_late(numbers, batch, columns, shape.separator)
                for name, column in columns.items():
                    column.add(batch.column(name), numbers)
    except pa.ArrowInvalid as error:
        where = ragged_line(file, shape) if ragged else None
        if where is not None:
            line, got = where
            what = f"has {counted(got, 'column')}; needs {len(names)}"
            raise file.fault(f"line {line}", what) from error
        raise file.fault("", f"is not a regular table ({short(str(error))})") from error
    for column in columns.values():
        column.close()


def _settle_late(
    numbers: NumberParser, batch: pa.RecordBatch, columns: dict[str, Column], separator: str
) -> None:
    """Decide on the decimal sign at the first block that shows one, if the sample had none."""
    if numbers.decimal is not None:
        return
    cells: list[str] = []
    for name, column in columns.items():
        if column.kind == "number":
            signed = pc.match_substring_regex(batch.column(name), "[.,]")
            cells += batch.column(name).filter(signed)[:1000].to_pylist()
    numbers.settle([cell for cell in cells if NUMBER.fullmatch(cell)], separator)
