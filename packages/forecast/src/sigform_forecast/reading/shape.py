"""Where the table lies in a text: separator, header, first row, and the line of every row."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from sigform_forecast.reading.cells import NUMBER
from sigform_forecast.reading.dates import TIME_OF_DAY, date_formats
from sigform_forecast.reading.encoding import SAMPLE_BYTES, File
from sigform_forecast.wording import counted, listed

SAMPLE_ROWS = 3_000
SAMPLE_CELLS = 60_000


@dataclass(frozen=True)
class Shape:
    """Where the table lies in the text: separator, names and the line before the first row."""

    encoding: str
    separator: str
    names: list[str]
    skip: int
    rows: list[list[str]]
    notes: list[str]

    @property
    def delimiter(self) -> str:
        return "\t" if self.separator == "whitespace" else self.separator


def find_shape(file: File, encoding: str, separator: str | None) -> Shape:
    """Find separator, header and first row on the first rows of the file.

    Raises ValueError for what is no table: nothing, a header alone, a binary file.
    """
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(file.head)
    text = text.removeprefix("\ufeff")
    if len(file.head) == SAMPLE_BYTES:
        text = text[: text.rfind("\n") + 1]
    if not text.strip():
        raise file.fault("", "is empty; needs a header and rows")
    notes: list[str] = []
    declared = re.match(r"sep=(.)\r?\n", text)
    if separator is None and declared:
        separator = declared[1]
    if separator is not None:
        separator = {"\\t": "\t", "tab": "\t", " ": "whitespace"}.get(separator, separator)
        if separator != "whitespace" and len(separator) != 1:
            raise ValueError(f"separator is {separator!r}; needs one character or 'whitespace'")
        candidates = [separator]
    else:
        candidates = ["\t", ";", "|", ",", " ", "whitespace"]
    scored = [(_consistency(_records(text, mark, 200), mark), mark) for mark in candidates]
    score, separator = max(scored, key=lambda pair: pair[0])
    if score <= 0:
        # One column only, or nothing that looks like a table: pyarrow still needs a delimiter.
        separator = candidates[0] if len(candidates) == 1 else ","
    records = _records(text, separator, SAMPLE_ROWS)[1 if declared else 0 :]
    width = Counter(len(cells) for _, cells in records).most_common(1)[0][0]
    if score <= 0 and len(records) > 2 and len(file.head) > 200 and not _is_text(text):
        raise file.fault("", "is a binary file; needs a text table (CSV) or parquet")
    header, first = _find_header(records, width)
    shown = {"\t": "tab", " ": "space"}.get(separator, separator)
    notes.append(f"separator {shown!r}" if len(shown) == 1 else f"separator {shown}")
    rows = [cells for _, cells in records[first:]]
    if header is None:
        names = [f"column{number + 1}" for number in range(width)]
        notes.append(f"no header: columns are named {listed(names)}")
        leading = first
    else:
        names = _align(records[header][1], rows, width, file, records[header][0])
        leading = header
        if first - header > 1:
            notes.append(f"skipped {counted(first - header - 1, 'line')} below the header (units)")
    if leading:
        notes.append(f"skipped {counted(leading, 'line')} above the table")
    if not rows:
        if any("\n" in name for name in names):
            raise file.fault("", "opens a quotation mark that is never closed")
        raise file.fault("", f"has a header and no rows ({listed(names)})")
    skip = records[first - 1][0] if first else 0
    rows = [cells for cells in rows[: max(50, SAMPLE_CELLS // width)] if len(cells) == width]
    return Shape(encoding, separator, names, skip, rows, notes)


def _is_text(text: str) -> bool:
    marks = text[:2000]
    return sum(mark.isprintable() or mark.isspace() for mark in marks) > 0.9 * len(marks)


def _records(text: str, separator: str, limit: int) -> list[tuple[int, list[str]]]:
    """The first rows with the number of the line on which each ends; blank lines are left out."""
    found = []
    for line, cells in _parsed(io.StringIO(text, newline=""), separator):
        found.append((line, cells))
        if len(found) >= limit:
            break
    return found


def _parsed(lines: Iterator[str] | io.StringIO, separator: str) -> Iterator[tuple[int, list[str]]]:
    if separator == "whitespace":
        split = (re.sub(r"[ \t]+", "\t", line.strip(" \t\r\n")) + "\n" for line in lines)
        reader = csv.reader(split, delimiter="\t")
    else:
        reader = csv.reader(lines, delimiter=separator)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error:
            continue
        if cells is None:
            return
        if len(cells) > 1 or any(cell.strip() for cell in cells):
            yield reader.line_num, cells


def _consistency(records: list[tuple[int, list[str]]], separator: str) -> float:
    """How much like a table the rows are: 1 when all have the same number of at least 2 cells."""
    rows = [cells for _, cells in records if not cells[0].startswith("#")]
    if not rows:
        return 0.0
    # The header may be one short (unnamed index, date and time) and counts as a fault otherwise.
    body = rows[len(rows) // 4 :]
    width, count = Counter(len(cells) for cells in body).most_common(1)[0]
    if width < 2:
        return 0.0
    blanks = sum(cell == "" for cells in body for cell in cells)
    blank = blanks > (0 if separator == " " else 0.6 * width * len(body))
    strange = len(rows[0]) not in (width, width - 1, width + 1) or len(rows[0]) < 2
    return min(count / len(body) / 0.95, 1.0) - 0.2 * strange - 0.5 * blank


def _find_header(records: list[tuple[int, list[str]]], width: int) -> tuple[int | None, int]:
    """Position of the header, None if there is none, and of the first row."""
    body = [cells for _, cells in records[len(records) // 4 :] if len(cells) == width] or [
        cells for _, cells in records[-1:]
    ]
    dated = [
        column
        for column in range(min(width, len(body[0])))
        if sum(bool(date_formats(cells[column], weak=False)) for cells in body) > len(body) / 2
    ]

    def is_row(cells: list[str]) -> bool:
        if dated:
            return any(
                column < len(cells) and bool(date_formats(cells[column])) for column in dated
            )
        return any(NUMBER.fullmatch(cell) for cell in cells)

    full = [place for place, (_, cells) in enumerate(records) if len(cells) >= width]
    first = next((place for place in full if is_row(records[place][1])), None)
    if first is None:
        return 0, min(1, len(records))
    above = [
        place
        for place in range(first)
        if len(records[place][1]) in (width, width - 1, width + 1)
        and (len(records[place][1]) > 1 or width == 1)
    ]
    if not above:
        return None, first
    named = [place for place in above if not records[place][1][0].startswith("#")]
    header = above[-1]
    if named:
        # Titles above the header and units below it fill fewer cells.
        header = max(named, key=lambda place: (sum(map(bool, records[place][1])), -place))
    between = [cells for _, cells in records[header + 1 : first]]
    if any(NUMBER.fullmatch(cell) for cells in between for cell in cells):
        return header, header + 1
    return header, first


def _align(
    header: list[str], rows: list[list[str]], width: int, file: File, line: int
) -> list[str]:
    names = [name.strip().strip("\ufeff") for name in header]
    names[0] = re.sub(r"^#+\s*", "", names[0])
    if len(names) == width + 1 and not names[0]:
        names = names[1:]
    if len(names) == width + 1 and not names[-1]:
        names = names[:-1]
    if len(names) == width - 1 and rows:
        full = [cells for cells in rows[:200] if len(cells) == width]
        if all(not cells[-1].strip() for cells in full):
            names = [*names, ""]
        elif all(TIME_OF_DAY.fullmatch(cells[1]) for cells in full):
            names = [names[0], f"{names[0]} (time)", *names[1:]]
        else:
            names = ["", *names]
    if len(names) != width and rows:
        raise file.fault(
            f"line {line}", f"the header has {len(names)} columns and the rows have {width}"
        )
    return names


def unique_names(names: list[str], notes: list[str]) -> list[str]:
    """Names without blanks and repeats; repeats are said."""
    seen: Counter[str] = Counter()
    fresh = []
    for place, name in enumerate(names):
        name = name or f"column{place + 1}"
        seen[name] += 1
        if seen[name] > 1:
            renamed = f"{name}.{seen[name]}"
            while renamed in names:
                renamed += "_"
            notes.append(f"column name {name!r} appears again: read as {renamed!r}")
            name = renamed
        fresh.append(name)
    return fresh


def _rows_of(file: File, shape: Shape) -> Iterator[tuple[int, list[str]]]:
    """Every row with its line number, slowly: only to say where a fault lies."""
    with io.TextIOWrapper(
        cast(Any, file.stream()), encoding=shape.encoding, errors="replace", newline=""
    ) as lines:
        for _ in range(shape.skip):
            lines.readline()
        for line, cells in _parsed(lines, shape.separator):
            yield line + shape.skip, cells


def line_of(file: File, shape: Shape, row: int) -> int:
    """The line on which a row of the table ends."""
    rows = (line for line, cells in _rows_of(file, shape) if len(cells) == len(shape.names))
    return next(itertools.islice(rows, row, None), shape.skip + row + 1)


def ragged_line(file: File, shape: Shape) -> tuple[int, int] | None:
    """Line and number of cells of the first row that has not as many as the others."""
    ragged = (
        (line, len(cells))
        for line, cells in _rows_of(file, shape)
        if len(cells) != len(shape.names) and any(cell.strip() for cell in cells)
    )
    return next(ragged, None)
