"""Read a table of time series as people have it, and say what was understood.

`read_table` finds encoding, separator, decimal sign, dates, layout and roles of the columns, and
returns the panel as found: nothing is filled, merged or resampled here (see diagnosis.repair).
Text is parsed by pyarrow block by block into float64 and dictionary codes, so that a file of
millions of rows costs a small multiple of its panel.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import difflib
import gzip
import io
import itertools
import re
import sys
import zlib
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

# pyarrow makes these functions when it is imported, so type checkers do not know them.
pc: Any = pyarrow.compute

Layout = Literal["wide", "long"]
Kind = Literal["number", "text", "time"]
Floats = NDArray[np.float64]

SAMPLE_BYTES = 1 << 20
SAMPLE_ROWS = 3_000
SAMPLE_CELLS = 60_000

MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "--", ".", "?", "#n/a")
_MISSING = frozenset(MISSING)
_UNITS = r"(?:%|€|\$|£|¥|EUR|USD|GBP|CHF)"
_NUMBER = re.compile(
    rf"\s*(?:[+\-−]?\s*{_UNITS}?\s*[+\-−]?(?:\d[\d.,'’\s]*|[.,]\d+)(?:[eE][+\-]?\d+)?"
    rf"\s*{_UNITS}?|[+\-]?(?:inf|infinity)|true|false)\s*",
    re.IGNORECASE,
)
_TIME_OF_DAY = re.compile(
    r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[AaPp][Mm])?|\d{1,2}\.\d{2}\.\d{2}"
)
_TIME_NAME = re.compile(
    r"ds|dates?|datum|data|fecha|dato|time|zeit|zeitpunkt|zeitstempel|datetime|month|monat|year"
    r"|jahr|quarter|quartal|week|woche|day|tag|period|t|step|timestep|time_idx|index|idx"
    r"|.*(?:date|time|stamp).*",
    re.IGNORECASE,
)
_STEP_NAME = re.compile(r"ds|t|step|time|timestep|time_idx|index|idx|period", re.IGNORECASE)
_HOUR_NAME = re.compile(r"hour|hr|stunde|time|hour.?of.?day", re.IGNORECASE)
_ID_NAME = re.compile(
    r"id|.*[_ .](?:id|nr|nbr|no|num|number|code|name)|.*Id|.*ID|series|item|store|shop|sku|product"
    r"|sensor|station|location|meter|site|region|country|state|city|name|ticker|symbol|key|group"
    r"|dept|family|code",
)
_TARGET_NAMES = ("y", "target", "value", "values", "sales", "demand", "quantity", "qty", "units")


@dataclass(frozen=True)
class Dialect:
    """How the file is written, so that outputs can be written alike.

    separator: one character, or "whitespace" for runs of blanks; "" for parquet.
    date_format: strftime format with two additions, "%q" for the quarter and "%K" for ISO weeks
    like W05; "integer", "unix s", "unix ms", "unix us" and "unix ns" for numbers.
    padded: whether days and months below ten carry a leading zero.
    """

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    date_format: str = "%Y-%m-%d"
    gzip: bool = False
    padded: bool = True

    def dates(self, index: pd.Index) -> list[str]:
        """The timestamps as text in the file's own spelling."""
        if not isinstance(index, pd.DatetimeIndex):
            return [str(value) for value in index]
        if self.date_format.startswith("unix "):
            wanted = cast(Any, self.date_format.removeprefix("unix "))
            return [str(value) for value in index.as_unit(wanted).asi8]
        if self.date_format == "integer":
            return [str(value) for value in index]
        template = self.date_format.replace("%K", "W%V")
        if "%V" in template:
            template = template.replace("%Y", "%G")
        # What strftime lacks, or spells differently on other systems, is put in by hand.
        own: dict[str, Any] = {"%q": index.quarter}
        if "%z" in template:
            own["%z"] = [stamp.isoformat()[-6:] for stamp in index]
        if not self.padded:
            own |= {"%d": index.day, "%m": index.month}
        for code in own:
            template = template.replace(code, "%" + code)
        texts = list(index.strftime(template))
        for code, values in own.items():
            texts = [
                text.replace(code, str(value)) for text, value in zip(texts, values, strict=True)
            ]
        return texts


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
    wish = _Wish(
        time, id, targets, list(known), list(past), date_format, dayfirst, timezone, layout
    )
    file = _File.open(source)
    if file.head.startswith(b"PAR1"):
        raw = _read_parquet(file, wish)
    else:
        raw = _read_text(file, wish, separator, decimal, encoding)
    return _panel(raw, wish)


@dataclass(frozen=True)
class _Wish:
    """What the caller asked for."""

    time: str | None
    id: str | None
    targets: list[str]
    known: list[str]
    past: list[str]
    date_format: str | None
    dayfirst: bool | None
    timezone: str | None
    layout: Layout | None


# --- the bytes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """A source that can be opened several times; stdin and streams are held in memory."""

    name: str
    path: Path | None
    content: bytes | None
    gzipped: bool
    head: bytes

    @classmethod
    def open(cls, source: str | Path | BinaryIO) -> _File:
        if isinstance(source, (str, Path)) and str(source) != "-":
            path, content, name = Path(source), None, str(source)
            with path.open("rb") as stream:
                magic = stream.read(4)
        else:
            stream = sys.stdin.buffer if isinstance(source, (str, Path)) else source
            path, content = None, stream.read()
            name = "stdin" if stream is sys.stdin.buffer else str(getattr(stream, "name", "stream"))
            magic = content[:4]
        file = cls(name, path, content, magic.startswith(b"\x1f\x8b"), b"")
        with file.stream() as opened:
            return replace(file, head=file.read(opened, SAMPLE_BYTES))

    def stream(self) -> BinaryIO:
        source = self.path or io.BytesIO(self.content or b"")
        if self.gzipped:
            return cast(BinaryIO, gzip.open(source))
        return source.open("rb") if isinstance(source, Path) else source

    def read(self, stream: BinaryIO, size: int) -> bytes:
        try:
            return stream.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{self.name}: the gzip data is broken ({error})") from error

    def blocks(self) -> Iterator[bytes]:
        with self.stream() as stream:
            while block := self.read(stream, SAMPLE_BYTES):
                yield block

    def fault(self, where: str, what: str) -> ValueError:
        return ValueError(f"{self.name}: {where}: {what}" if where else f"{self.name}: {what}")


def _find_encoding(file: _File, encoding: str | None) -> str:
    if encoding is not None:
        try:
            return codecs.lookup(encoding).name
        except LookupError as error:
            raise ValueError(f"encoding is {encoding!r}; needs one that Python knows") from error
    for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
                       (codecs.BOM_UTF16_BE, "utf-16")):  # fmt: skip
        if file.head.startswith(mark):
            return name
    if file.head.startswith(b"PK\x03\x04"):
        raise file.fault("", "is a zip or Excel file; needs a text table, saved as CSV")
    if b"\0" in file.head:
        raise file.fault("", "is a binary file; needs a text table (CSV) or parquet")
    for name in ("utf-8", "cp1252"):
        decoder = codecs.getincrementaldecoder(name)()
        try:
            for block in file.blocks():
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return name
    return "latin-1"


class _Utf8(io.RawIOBase):
    """The file's text as UTF-8 bytes for pyarrow; runs of blanks become one tab where asked."""

    def __init__(self, file: _File, encoding: str, squeeze: bool) -> None:
        super().__init__()
        self._blocks = file.blocks()
        self._file, self._encoding, self._squeeze = file, encoding, squeeze
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest, self._ready = b"", b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._ready:
            block = next(self._blocks, None)
            if block is None:
                self._ready, self._rest = self._tidy(self._rest), b""
                break
            if self._encoding not in ("utf-8", "ascii"):
                block = self._decode(block).encode()
            if self._squeeze:
                whole, end, rest = (self._rest + block).rpartition(b"\n")
                block, self._rest = self._tidy(whole + end), rest
            self._ready = block
        size = len(self._ready) if size < 0 else size
        out, self._ready = self._ready[:size], self._ready[size:]
        return out

    def _decode(self, block: bytes) -> str:
        try:
            return self._decoder.decode(block)
        except UnicodeDecodeError as error:
            raise self._file.fault("", f"is not {self._encoding} ({error.reason})") from error

    def _tidy(self, text: bytes) -> bytes:
        if not self._squeeze:
            return text
        return re.sub(rb"\t+(?=\r?\n|$)|(?m:^)\t", b"", re.sub(rb"[ \t]+", b"\t", text))


# --- the shape of the text -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
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


def _find_shape(file: _File, encoding: str, separator: str | None) -> _Shape:
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
        notes.append(f"no header: columns are named {_listed(names)}")
        leading = first
    else:
        names = _align(records[header][1], rows, width, file, records[header][0])
        leading = header
        if first - header > 1:
            notes.append(f"skipped {_count(first - header - 1, 'line')} below the header (units)")
    if leading:
        notes.append(f"skipped {_count(leading, 'line')} above the table")
    if not rows:
        if any("\n" in name for name in names):
            raise file.fault("", "opens a quotation mark that is never closed")
        raise file.fault("", f"has a header and no rows ({_listed(names)})")
    skip = records[first - 1][0] if first else 0
    rows = [cells for cells in rows[: max(50, SAMPLE_CELLS // width)] if len(cells) == width]
    return _Shape(encoding, separator, names, skip, rows, notes)


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


def _find_header(
    records: list[tuple[int, list[str]]], width: int
) -> tuple[int | None, int]:  # fmt: skip
    """Position of the header, None if there is none, and of the first row."""
    body = [cells for _, cells in records[len(records) // 4 :] if len(cells) == width] or [
        cells for _, cells in records[-1:]
    ]
    dated = [
        column
        for column in range(min(width, len(body[0])))
        if sum(bool(_formats(cells[column], weak=False)) for cells in body) > len(body) / 2
    ]

    def is_row(cells: list[str]) -> bool:
        if dated:
            return any(column < len(cells) and bool(_formats(cells[column])) for column in dated)
        return any(_NUMBER.fullmatch(cell) for cell in cells)

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
    if any(_NUMBER.fullmatch(cell) for cells in between for cell in cells):
        return header, header + 1
    return header, first


def _align(
    header: list[str], rows: list[list[str]], width: int, file: _File, line: int
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
        elif all(_TIME_OF_DAY.fullmatch(cells[1]) for cells in full):
            names = [names[0], f"{names[0]} (time)", *names[1:]]
        else:
            names = ["", *names]
    if len(names) != width and rows:
        raise file.fault(
            f"line {line}", f"the header has {len(names)} columns and the rows have {width}"
        )
    return names


def _unique_names(names: list[str], notes: list[str]) -> list[str]:
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


# --- numbers -------------------------------------------------------------------------------------


@dataclass
class _Numbers:
    """Turns text into float64 in the file's own way of writing numbers."""

    decimal: str | None
    assumed: bool = False
    stripped: set[str] = field(default_factory=set)

    def settle(self, texts: Sequence[str], separator: str) -> None:
        """Decide between decimal point and comma on the evidence of some cells."""
        strong: Counter[str] = Counter()
        weak: Counter[str] = Counter()
        for text in texts:
            body = re.sub(rf"{_UNITS}|[\s'’+\-−]", "", text)
            sign, sure = _decimal_of(re.sub(r"[eE].*$", "", body))
            if sign:
                (strong if sure else weak)[sign] += 1
        if strong:
            self.decimal = strong.most_common(1)[0][0]
        elif weak["."] or weak[","]:
            # "1,234" alone can be either: a semicolon file is written where the comma is decimal.
            self.decimal = "," if weak[","] and separator == ";" else "."
            self.assumed = weak[","] > 0

    def convert(self, texts: pa.Array) -> tuple[Floats, int, int]:
        """Values with NaN where missing, how many are missing, and the first bad cell or -1."""
        trimmed = pc.utf8_trim_whitespace(texts)
        values = self._cast(trimmed)
        if values is None:
            absent = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(MISSING))
            trimmed = pc.if_else(absent, None, trimmed)
            values = self._cast(trimmed)
        bad = -1
        if values is None:
            values, bad = self._clean(trimmed)
        array = values.to_numpy(zero_copy_only=False)
        infinite = np.isinf(array)
        if infinite.any():
            first = int(infinite.argmax())
            bad = first if bad < 0 else min(bad, first)
        return array, int(np.isnan(array).sum()), bad

    def _cast(self, texts: pa.Array) -> pa.Array | None:
        """The quick way, for cells that are plain numbers throughout."""
        if self.decimal == ",":
            if pc.any(pc.match_substring(texts, ".")).as_py():
                return None
            texts = pc.replace_substring(texts, ",", ".")
        try:
            return pc.cast(texts, pa.float64())
        except pa.ArrowInvalid:
            return None

    def _clean(self, texts: pa.Array) -> tuple[pa.Array, int]:
        plain = pc.replace_substring(texts, "−", "-")
        for text, new in (("(?i)^true$", "1"), ("(?i)^false$", "0")):
            plain = pc.replace_substring_regex(plain, text, new)
        bare = pc.replace_substring_regex(plain, rf"^([+-]?)\s*{_UNITS}\s*([+-]?)", r"\1\2")
        bare = pc.replace_substring_regex(bare, rf"\s*{_UNITS}$", "")
        changed = pc.fill_null(pc.not_equal(plain, bare), False)
        for text in pc.unique(plain.filter(changed)).to_pylist()[:1000]:
            self.stripped.update(re.findall(_UNITS, text))
        decimal, thousand = (",", ".") if self.decimal == "," else (".", ",")
        groups = rf"\d{{1,3}}(?:[{thousand} \x{{a0}}\x{{202f}}'’]\d{{3}})+"
        number = rf"^[+-]?(?:{groups}|\d*)(?:[{decimal}]\d*)?(?:[eE][+-]?\d+)?$"
        right = pc.match_substring_regex(bare, number)
        right = pc.or_(right, pc.match_substring_regex(bare, r"(?i)^[+-]?inf(inity)?$"))
        right = pc.and_(right, pc.match_substring_regex(bare, r"\d|(?i)inf"))
        wrong = pc.fill_null(pc.invert(right), False)
        bad = pc.index(wrong, True).as_py()
        bare = pc.replace_substring_regex(bare, rf"[{thousand}\s\x{{a0}}\x{{202f}}'’]", "")
        bare = pc.replace_substring(bare, decimal, ".")
        return pc.cast(pc.if_else(wrong, None, bare), pa.float64()), int(bad)


def _decimal_of(body: str) -> tuple[str, bool]:
    """The decimal sign that a number shows, and whether it leaves no other reading."""
    dots, commas = body.count("."), body.count(",")
    if not dots and not commas:
        return "", False
    if dots and commas:
        return (",", True) if body.rindex(",") > body.rindex(".") else (".", True)
    sign, other = (".", ",") if dots else (",", ".")
    if dots + commas > 1:
        return other, True
    whole, _, part = body.partition(sign)
    if len(part) != 3 or len(whole) > 3 or whole in ("", "0"):
        return sign, True
    return sign, False


# --- dates ---------------------------------------------------------------------------------------

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august",
                "september", "october", "november", "december")  # fmt: skip
_DATE = re.compile(
    r"(?P<weekday>(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s+)?(?P<date>.+?)"
    r"(?:(?P<gap>[T ]+)(?P<clock>\d{1,2}:\d{2}(?P<second>:\d{2}(?P<part>[.,]\d+)?)?"
    r"|\d{1,2}\.\d{2}\.\d{2})"
    r"(?P<noon> ?[AaPp][Mm])?(?P<zone> ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2}))?)?"
)


def _formats(text: str, weak: bool = True) -> list[str]:
    """Formats in which a text may be read as a date; two when day and month could be swapped.

    weak: also take years, year-months and unix times, which plain numbers may be, too.
    """
    text = text.strip()
    if not 4 <= len(text) <= 40 or not text[-1].isalnum() or not any(map(str.isdigit, text)):
        return []
    match = _DATE.fullmatch(text)
    if match is None:
        return []
    dates = _date_formats(match["date"].strip(), weak)
    if match["weekday"]:
        name, rest = match["weekday"], re.sub("^[A-Za-z]+", "", match["weekday"])
        weekday = "%a" if len(name) - len(rest) == 3 else "%A"
        dates = [weekday + rest + form for form in dates]
    if match["clock"] is None:
        return dates
    if any(form.startswith("unix") or form in ("%Y", "%Y%m", "%Y%m%d%H") for form in dates):
        return []
    clock = match["gap"] + ("%I:%M" if match["noon"] else "%H:%M")
    if ":" not in match["clock"]:
        clock = match["gap"] + "%H.%M.%S"
    if match["second"]:
        clock += ":%S" + (f"{match['part'][0]}%f" if match["part"] else "")
    if match["noon"]:
        clock += match["noon"][:-2] + "%p"
    if match["zone"]:
        zone = match["zone"]
        clock += zone if zone.strip() in ("UTC", "GMT") else zone[: len(zone) - len(zone.lstrip())]
        clock += "" if zone.strip() in ("UTC", "GMT") else "%z"
    return [form + clock for form in dates]


def _date_formats(text: str, weak: bool) -> list[str]:
    if text.isdigit():
        return _digit_formats(text, weak)
    if match := re.fullmatch(r"\d{4}([-/.])(\d{1,2})\1(\d{1,2})", text):
        mark, month, day = match.groups()
        fits = int(month) <= 12 and int(day) <= 31
        return [f"%Y{mark}%m{mark}%d"] if fits else []
    if match := re.fullmatch(r"(\d{1,2})([-/. ])(\d{1,2})\2(\d{4}|\d{2})", text):
        first, mark, second, year = match.groups()
        years = "%Y" if len(year) == 4 else "%y"
        forms = []
        if int(first) <= 31 and int(second) <= 12:
            forms.append(f"%d{mark}%m{mark}{years}")
        if int(first) <= 12 and int(second) <= 31:
            forms.append(f"%m{mark}%d{mark}{years}")
        return forms
    if match := re.fullmatch(r"\d{4}([-/])(\d{1,2})", text):
        return [f"%Y{match[1]}%m"] if 1 <= int(match[2]) <= 12 else []
    if match := re.fullmatch(r"(\d{1,2})([-/.])\d{4}", text):
        # "9.1995" may as well be a number with four decimals.
        sure = weak or match[2] != "."
        return [f"%m{match[2]}%Y"] if sure and 1 <= int(match[1]) <= 12 else []
    if match := re.fullmatch(r"\d{4}([-/: ]?)([QqM])(\d{1,2})", text):
        mark, letter, number = match.groups()
        if letter == "M":
            return [f"%Y{mark}M%m"] if 1 <= int(number) <= 12 else []
        return [f"%Y{mark}{letter}%q"] if number in "1234" else []
    if match := re.fullmatch(r"([Qq])[1-4]([-/: ]?)\d{4}", text):
        return [f"{match[1]}%q{match[2]}%Y"]
    if match := re.fullmatch(r"\d{4}([- ]?)W(\d{2})(-[1-7])?", text):
        day = "-%u" if match[3] else ""
        return [f"%Y{match[1]}%K{day}"] if 1 <= int(match[2]) <= 53 else []
    return _named_month_formats(text)


def _digit_formats(text: str, weak: bool) -> list[str]:
    def plausible(*ends: int) -> bool:
        year, month = int(text[:4]), int(text[4:6] or 1)
        rest = [int(text[start:stop]) for start, stop in itertools.pairwise(ends)]
        limits = (31, 23, 59, 59)
        return 1500 <= year <= 2262 and 1 <= month <= 12 and all(
            value <= limit for value, limit in zip(rest, limits, strict=False)
        ) and (not rest or rest[0] >= 1)  # fmt: skip

    if len(text) == 8 and plausible(6, 8):
        return ["%Y%m%d"]
    if len(text) == 14 and plausible(6, 8, 10, 12, 14):
        return ["%Y%m%d%H%M%S"]
    if len(text) == 12 and plausible(6, 8, 10, 12):
        return ["%Y%m%d%H%M"]
    if not weak:
        return []
    if len(text) == 10 and plausible(6, 8, 10) and text < "21":
        return ["%Y%m%d%H"]
    if len(text) in (6, 4) and plausible():
        return ["%Y%m" if len(text) == 6 else "%Y"]
    return {10: ["unix s"], 13: ["unix ms"], 16: ["unix us"], 19: ["unix ns"]}.get(len(text), [])


def _named_month_formats(text: str) -> list[str]:
    match = re.search(r"[A-Za-z]{3,9}", text)
    if match is None:
        return []
    name = match[0].lower()
    if name not in _MONTHS and name not in _LONG_MONTHS:
        return []
    month = "%b" if name in _MONTHS else "%B"
    before, after = text[: match.start()], text[match.end() :]
    day_first = re.fullmatch(r"\d{1,2}([-/. ]{0,2})", before)
    year_after = re.fullmatch(r"([-/., ]{0,2})(\d{4}|\d{2})", after)
    if day_first and year_after:
        return [f"%d{day_first[1]}{month}{year_after[1]}{_year(year_after[2])}"]
    if before == "" and (both := re.fullmatch(r"([-. ]{1,2})\d{1,2}(,? |-)(\d{4})", after)):
        return [f"{month}{both[1]}%d{both[2]}%Y"]
    if before == "" and year_after:
        return [f"{month}{year_after[1]}{_year(year_after[2])}"]
    if year_first := re.fullmatch(r"\d{4}([-/ ]?)", before):
        if after == "":
            return [f"%Y{year_first[1]}{month}"]
        if day_last := re.fullmatch(r"([-/ ])\d{1,2}", after):
            return [f"%Y{year_first[1]}{month}{day_last[1]}%d"]
    return []


def _year(digits: str) -> str:
    return "%Y" if len(digits) == 4 else "%y"


@dataclass
class _Dates:
    """Parses a column of dates, deciding day-first or month-first on the whole column."""

    date_format: str | None
    dayfirst: bool | None
    notes: list[str] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)

    def parse(self, texts: pa.ChunkedArray) -> tuple[pd.Index, int]:
        """Timestamps (datetime64[us], UTC when the texts carry offsets, or int64 steps) and -1,
        or the position of the first text that is no date."""
        if self.date_format is not None:
            index = _parse(texts, self.date_format)
            self.forms = [self.date_format]
            missing = np.asarray(index.isna())
            return index, int(missing.argmax()) if missing.any() else -1
        index: pd.DatetimeIndex | None = None
        for _ in range(8):
            missing = np.ones(len(texts), bool) if index is None else np.asarray(index.isna())
            if index is not None and not missing.any():
                return index, -1
            first = int(missing.argmax())
            forms = _formats(str(texts[first].as_py() or ""))
            forms = [form for form in forms if form not in self.forms]
            if not forms:
                return pd.DatetimeIndex([]) if index is None else index, first
            form, fresh = self._choose(texts, forms)
            self.forms.append(form)
            if index is None:
                index = fresh
            elif (index.tz is None) != (fresh.tz is None):
                return index, first
            else:
                index = pd.DatetimeIndex(index.where(~missing, fresh))
            if index.isna()[first]:
                return index, first
        missing = np.asarray(index.isna()) if index is not None else np.zeros(1, bool)
        return cast(pd.Index, index), int(missing.argmax()) if missing.any() else -1

    def _choose(self, texts: pa.ChunkedArray, forms: list[str]) -> tuple[str, pd.DatetimeIndex]:
        swapped = {form: _swap_day_month(form) for form in forms}
        if len(forms) == 1 and swapped[forms[0]] is None:
            return forms[0], _parse(texts, forms[0])
        # The first text may fit one order only by chance of a typing error: try both on all rows.
        day, month = sorted({forms[0], cast(str, swapped[forms[0]])}, key=lambda f: f.find("%m"))[
            ::-1
        ]
        if self.dayfirst is not None:
            form = day if self.dayfirst else month
            return form, _parse(texts, form)
        parsed = {form: _parse(texts, form) for form in (day, month)}
        fits = {form: int(index.notna().sum()) for form, index in parsed.items()}
        if fits[day] != fits[month]:
            form = max(fits, key=lambda f: fits[f])
            return form, parsed[form]
        breaks = {form: _breaks(index) for form, index in parsed.items()}
        if min(breaks.values()) < 0.5 * max(breaks.values()):
            form = min(breaks, key=lambda f: breaks[f])
            return form, parsed[form]
        form = month if "/" in day else day
        order = "month-first" if form == month else "day-first"
        what = "dates fit both day-first and month-first"
        self.notes.append(f"{what}: assumed {order} (--date-format decides)")
        return form, parsed[form]


def _swap_day_month(form: str) -> str | None:
    if not re.search(r"%d.%m.%[Yy]|%m.%d.%[Yy]", form):
        return None
    return form.translate(str.maketrans("dm", "md"))


def _breaks(index: pd.DatetimeIndex) -> int:
    """How many steps are not the commonest, where a step to the same day of a month is one kind."""
    sample = index.dropna()[:20_000]
    if len(sample) < 2:
        return 0
    months = np.asarray(sample.year) * 12 + np.asarray(sample.month)
    same_day = np.diff(np.asarray(sample.day)) == 0
    step, month = np.diff(sample.asi8), np.diff(months)
    kinds = np.where(same_day & (month != 0), month, step)
    return int(len(kinds) - np.unique(kinds, return_counts=True)[1].max())


def _parse(texts: pa.ChunkedArray, form: str) -> pd.DatetimeIndex:
    """Dates in one format, NaT where a text does not fit."""
    index = pd.DatetimeIndex(np.concatenate([_parse_chunk(chunk, form) for chunk in texts.chunks]))
    return index.tz_localize("UTC") if _is_zoned(form) else index


def _parse_chunk(chunk: pa.Array, form: str) -> NDArray[np.datetime64]:
    if form.startswith("%Y-%m-%d"):
        try:
            stamps = pc.cast(chunk, pa.timestamp("us", tz="UTC" if _is_zoned(form) else None))
            return stamps.to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            # Some text is no ISO date; the slower ways below say which.
            stamps = None
    if form.startswith("unix "):
        digits = pc.match_substring_regex(chunk, r"^\d{1,18}$|^1\d{18}$")
        numbers = pc.cast(pc.if_else(digits, chunk, "0"), pa.int64()).to_numpy()
        stamps = numbers.astype(f"M8[{form.removeprefix('unix ')}]").astype("M8[us]")
        return np.where(digits.to_numpy(zero_copy_only=False), stamps, np.datetime64("NaT"))
    if not re.search(r"%[^YymdHMS]", form):
        return _parse_fields(chunk, form)
    # The rest is parsed text by text, so every text only once.
    coded = chunk.dictionary_encode()
    stamps = _parse_unique(coded.dictionary.to_numpy(zero_copy_only=False), form)
    return stamps.to_numpy("M8[us]")[coded.indices.to_numpy()]


def _parse_fields(chunk: pa.Array, form: str) -> NDArray[np.datetime64]:
    """Dates of numbers only, such as %d.%m.%Y %H:%M, from the fields of a regular expression."""
    two = r"\d{2}" if "%Y%m" in form else r"\d{1,2}"
    pattern = re.sub(
        "%([YymdHMS])",
        lambda token: f"(?P<{token[1]}>" + {"Y": r"\d{4}", "y": r"\d{2}"}.get(token[1], two) + ")",
        re.escape(form),
    )
    found = pc.extract_regex(chunk, f"^{pattern}$")
    valid = found.is_valid().to_numpy(zero_copy_only=False)
    fields: dict[str, Any] = {"Y": 1970, "m": 1, "d": 1}
    for place in range(found.type.num_fields):
        numbers = pc.cast(pc.struct_field(found, [place]), pa.int64()).fill_null(1)
        fields[found.type.field(place).name] = numbers.to_numpy()
    if "y" in fields:
        fields["Y"] = fields["y"] + np.where(fields["y"] < 69, 2000, 1900)
    month, day = fields["m"], fields["d"]
    months = (fields["Y"] - 1970) * 12 + month - 1
    days = np.asarray(months).astype("M8[M]").astype("M8[D]").astype(np.int64)
    lengths = (np.asarray(months) + 1).astype("M8[M]").astype("M8[D]").astype(np.int64) - days
    valid &= np.asarray((month >= 1) & (month <= 12) & (day >= 1) & (day <= lengths))
    seconds = (days + day - 1) * 86_400
    rest = np.zeros(len(chunk), np.int64)
    for name, size in (("S", 1), ("M", 60), ("H", 3600)):
        if name in fields:
            # 24:00 is midnight at the end of the day.
            limit = np.where(rest == 0, 24, 23) if name == "H" else 59
            valid &= fields[name] <= limit
            rest = rest + fields[name] * size
    seconds = seconds + rest
    return np.where(valid, seconds.astype("M8[s]").astype("M8[us]"), np.datetime64("NaT"))


def _is_zoned(form: str) -> bool:
    return "%z" in form or form.endswith(("UTC", "GMT"))


def _parse_unique(texts: NDArray[np.object_], form: str) -> pd.DatetimeIndex:
    series = pd.Series(texts, dtype="object")
    if "%q" in form:
        pattern = re.escape(form).replace("%Y", r"(?P<y>\d{4})").replace("%q", r"(?P<q>[1-4])")
        fields = series.str.extract(f"^{pattern}$")
        month = fields["q"].map({"1": "01", "2": "04", "3": "07", "4": "10"})
        series, form = fields["y"] + month, "%Y%m"
    elif "%K" in form:
        form = form.replace("%K", "W%V").replace("%Y", "%G")
        if "%u" not in form:
            series, form = series + "-1", form + "-%u"
    stamps = pd.to_datetime(series, format=form, errors="coerce", utc=_is_zoned(form))
    index = pd.DatetimeIndex(stamps)
    return (index if index.tz is None else index.tz_localize(None)).as_unit("us")


def _is_padded(texts: Sequence[str], form: str) -> bool:
    clock = form.find("%H")
    single = re.compile(r"(?<![\d:])\d(?=[-/. ]|$)")
    return "%f" in form or not any(
        single.search(text if clock < 0 else text[:10]) for text in texts
    )


# --- columns -------------------------------------------------------------------------------------


@dataclass
class _Column:
    """One column as it is read: numbers, coded text, or the text of dates."""

    kind: Kind
    parts: list[Any] = field(default_factory=list)
    rows: int = 0
    missing: int = 0
    bad: tuple[int, str] | None = None
    values: Floats = field(default_factory=lambda: np.empty(0))
    codes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    texts: list[str] = field(default_factory=list)

    def add(self, cells: pa.Array, numbers: _Numbers) -> None:
        if self.kind == "number":
            values, missing, bad = numbers.convert(cells)
            if bad >= 0 and self.bad is None:
                self.bad = (self.rows + bad, str(cells[bad].as_py()))
            self.missing += missing
            self.parts.append(values)
        elif self.kind == "text":
            self.parts.append(pc.utf8_trim_whitespace(cells).dictionary_encode())
        else:
            self.parts.append(pc.utf8_trim_whitespace(cells))
        self.rows += len(cells)

    def close(self) -> None:
        """Join the blocks into `values`, or `codes` and `texts`; dates stay text in `parts`."""
        if self.kind == "number":
            self.values = np.concatenate(self.parts)
        elif self.kind == "text":
            coded = pa.chunked_array(self.parts).unify_dictionaries()
            self.texts = [str(text) for text in coded.chunk(0).dictionary.to_pylist()]
            self.codes = np.concatenate([chunk.indices.to_numpy() for chunk in coded.chunks])
        if self.kind != "time":
            self.parts = []

    def keep(self, rows: NDArray[np.bool_]) -> None:
        if self.kind == "number":
            self.values = self.values[rows]
        elif self.kind == "text":
            self.codes = self.codes[rows]


@dataclass
class _Raw:
    """A table whose columns are read and whose time is understood."""

    name: str
    ds: pd.Index
    columns: dict[str, _Column]
    time: str
    dialect: Dialect
    notes: list[str]
    locate: Callable[[int], str]

    def fault(self, row: int, what: str) -> ValueError:
        return ValueError(f"{self.name}: {self.locate(row)}: {what}")


def _read_text(
    file: _File, wish: _Wish, separator: str | None, decimal: str | None, encoding: str | None
) -> _Raw:
    shape = _find_shape(file, _find_encoding(file, encoding), separator)
    notes = list(shape.notes)
    names = _unique_names(shape.names, notes)
    _check_wish(file.name, wish, names)
    sample = {name: [row[place] for row in shape.rows] for place, name in enumerate(names)}
    for name, what in _unnamed(sample, shape.names, wish).items():
        notes.append(f"ignored the unnamed {what} column {names.index(name) + 1}")
        del sample[name]
    time = _find_time(file.name, sample, wish)
    columns = {
        name: _Column(_kind(name, cells, time, wish))
        for name, cells in sample.items()
    }  # fmt: skip
    numbers = _Numbers(decimal)
    if decimal is None:
        cells = [c for name in sample if columns[name].kind == "number" for c in sample[name]]
        numbers.settle([cell for cell in cells if _NUMBER.fullmatch(cell)], shape.separator)
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
        return f"line {_line_of(file, shape, row)}"

    return _timed(file.name, columns, time, wish, dialect, notes, locate)


def _kind(name: str, cells: list[str], time: _Time, wish: _Wish) -> Kind:
    if name in time.parts:
        return "time"
    if name in (wish.id, "unique_id"):
        return "text"
    asked = name == time.hour or name in wish.targets + wish.known + wish.past
    if asked:
        return "number"
    # "007" is a name: as a number it would lose its zeros.
    if _ID_NAME.fullmatch(name) and any(re.fullmatch(r"0\d+", cell) for cell in cells):
        return "text"
    filled = [cell for cell in cells if cell.strip().lower() not in _MISSING]
    fits = sum(bool(_NUMBER.fullmatch(cell)) for cell in filled)
    return "number" if fits * 2 >= len(filled) else "text"


def _stream(
    file: _File, shape: _Shape, names: list[str], columns: dict[str, _Column], numbers: _Numbers
) -> None:
    """Read the rows block by block into the columns."""
    ragged: list[pyarrow.csv.InvalidRow] = []

    def on_ragged(row: pyarrow.csv.InvalidRow) -> str:
        if not row.text.strip(f" \t,{shape.delimiter}"):
            return "skip"
        ragged.append(row)
        return "error"

    text = _Utf8(file, shape.encoding, squeeze=shape.separator == "whitespace")
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
        where = _ragged_line(file, shape) if ragged else None
        if where is not None:
            line, got = where
            what = f"has {_count(got, 'column')}; needs {len(names)}"
            raise file.fault(f"line {line}", what) from error
        raise file.fault("", f"is not a regular table ({_short(str(error))})") from error
    for column in columns.values():
        column.close()


def _settle_late(
    numbers: _Numbers, batch: pa.RecordBatch, columns: dict[str, _Column], separator: str
) -> None:
    """Decide on the decimal sign at the first block that shows one, if the sample had none."""
    if numbers.decimal is not None:
        return
    cells: list[str] = []
    for name, column in columns.items():
        if column.kind == "number":
            signed = pc.match_substring_regex(batch.column(name), "[.,]")
            cells += batch.column(name).filter(signed)[:1000].to_pylist()
    numbers.settle([cell for cell in cells if _NUMBER.fullmatch(cell)], separator)


def _rows_of(file: _File, shape: _Shape) -> Iterator[tuple[int, list[str]]]:
    """Every row with its line number, slowly: only to say where a fault lies."""
    with io.TextIOWrapper(
        cast(Any, file.stream()), encoding=shape.encoding, errors="replace", newline=""
    ) as lines:
        for _ in range(shape.skip):
            lines.readline()
        for line, cells in _parsed(lines, shape.separator):
            yield line + shape.skip, cells


def _line_of(file: _File, shape: _Shape, row: int) -> int:
    rows = (line for line, cells in _rows_of(file, shape) if len(cells) == len(shape.names))
    return next(itertools.islice(rows, row, None), shape.skip + row + 1)


def _ragged_line(file: _File, shape: _Shape) -> tuple[int, int] | None:
    """Line and number of cells of the first row that has not as many as the others."""
    ragged = (
        (line, len(cells))
        for line, cells in _rows_of(file, shape)
        if len(cells) != len(shape.names) and any(cell.strip() for cell in cells)
    )
    return next(ragged, None)


def _read_parquet(file: _File, wish: _Wish) -> _Raw:
    try:
        table = pyarrow.parquet.read_table(file.path or io.BytesIO(file.content or b""))
    except (pa.ArrowInvalid, OSError) as error:
        raise file.fault("", f"is a broken parquet file ({error})") from error
    notes = ["parquet"]
    names = [str(name) for name in table.column_names]
    _check_wish(file.name, wish, names)
    texts: dict[str, pa.ChunkedArray] = {}
    columns: dict[str, _Column] = {}
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
        columns[name] = _Column(kind)
        texts[name] = cells
    if table.num_rows == 0:
        raise file.fault("", f"has a header and no rows ({_listed(names)})")
    sample = {
        name: [str(cell or "") for cell in cells.slice(0, SAMPLE_ROWS).to_pylist()]
        for name, cells in texts.items()
        if columns[name].kind != "number" or pa.types.is_integer(cells.type)
    }
    time = _find_time(file.name, sample, wish)
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
                column.add(chunk, _Numbers("."))
            column.close()

    def locate(row: int) -> str:
        return f"row {row + 1}"

    return _timed(file.name, columns, time, wish, Dialect(separator=""), notes, locate)


def _parquet_kind(kind: pa.DataType) -> Kind | None:
    types = pa.types
    if types.is_timestamp(kind) or types.is_date(kind):
        return "time"
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return "number"
    return "number" if types.is_decimal(kind) else None


def _check_wish(file: str, wish: _Wish, names: Sequence[str]) -> None:
    """Raise unless the columns asked for are there, each in one role."""
    asked = [*filter(None, (wish.time, wish.id)), *wish.targets, *wish.known, *wish.past]
    lower = {name.lower(): name for name in names}
    for name in asked:
        if name not in names:
            near = difflib.get_close_matches(name.lower(), lower, 1, 0.5)
            hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
            raise ValueError(f"{file}: has no column {name!r}{hint} (columns: {_listed(names)})")
        if asked.count(name) > 1:
            raise ValueError(f"{file}: column {name!r} has {asked.count(name)} roles; needs one")


def _unnamed(sample: dict[str, list[str]], header: list[str], wish: _Wish) -> dict[str, str]:
    """Columns without a name that are only a row number or empty."""
    asked = {wish.time, wish.id, *wish.targets, *wish.known, *wish.past}
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


# --- time ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Time:
    """The columns that tell the time: one, a date and a clock, or year, month and day."""

    parts: list[str]
    hour: str | None = None
    integer: bool = False
    join: str = " "


def _find_time(file: str, sample: dict[str, list[str]], wish: _Wish) -> _Time:
    filled = {
        name: [cell.strip() for cell in cells if cell.strip()][:500]
        for name, cells in sample.items()
        if name == wish.time or name not in {wish.id, *wish.targets, *wish.known, *wish.past}
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
                f"the time (columns: {_listed(list(sample))})"
            )
        rank, _, time = min(ranked)
        year = next((lower[name] for name in ("year", "jahr", "yr") if name in lower), None)
        month = next((lower[name] for name in ("month", "monat", "mo") if name in lower), None)
        if rank >= 3 and year and month:
            day = next((lower[name] for name in ("day", "tag") if name in lower), None)
            parts = [year, month, day] if day else [year, month]
            return _Time(parts, hour=_hour_column(filled, parts) if day else None, join="-")
    cells = filled[time]
    if _is_steps(time, cells):
        return _Time([time], integer=True)
    if wish.date_format or any("%H" in form for cell in cells[:20] for form in _formats(cell)):
        return _Time([time])
    for name, others in filled.items():
        fits = sum(bool(_TIME_OF_DAY.fullmatch(cell)) for cell in others)
        if name != time and fits > 0.9 * len(others):
            return _Time([time, name])
    return _Time([time], hour=_hour_column(filled, [time]))


def _time_rank(name: str, cells: list[str], first: bool) -> int | None:
    """How good a column is for the time, 0 the best; None when it cannot be."""
    if not cells:
        return None
    digits = all(cell.isdigit() for cell in cells)
    dates = sum(bool(_formats(cell, weak=digits)) for cell in cells) > 0.9 * len(cells)
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
    return not all(_formats(cell) for cell in cells)


def _hour_column(filled: dict[str, list[str]], taken: list[str]) -> str | None:
    for name, cells in filled.items():
        if name in taken or not _HOUR_NAME.fullmatch(name) or not cells:
            continue
        if all(re.fullmatch(r"\d{1,2}(?:\.0)?", cell) and float(cell) <= 24 for cell in cells):
            return name
    return None


def _timed(
    file: str, columns: dict[str, _Column], time: _Time, wish: _Wish, dialect: Dialect,
    notes: list[str], locate: Callable[[int], str],
) -> _Raw:  # fmt: skip
    """Turn the text of the time columns into timestamps, and drop rows that hold nothing."""
    parts = [pa.chunked_array(columns.pop(name).parts) for name in time.parts]
    hour = columns.pop(time.hour) if time.hour else None
    label = " and ".join(repr(name) for name in [*time.parts, *filter(None, [time.hour])])
    raw = _Raw(file, pd.Index([]), columns, time.parts[0], dialect, notes, locate)
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
        raise ValueError(f"{file}: holds {_count(len(texts), 'row')} of data; needs at least two")
    raw.ds = _stamps(raw, texts, time, wish, label)
    if hour is not None:
        raw.ds = _add_hours(raw, hour, label)
    return raw


def _drop_empty(
    raw: _Raw, texts: pa.ChunkedArray, empty: NDArray[np.bool_], label: str
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
    raw.notes.append(f"dropped {_count(int(empty.sum()), 'blank row')}")
    return texts.filter(pa.array(~empty)), np.flatnonzero(~empty)


def _stamps(
    raw: _Raw, texts: pa.ChunkedArray, time: _Time, wish: _Wish, label: str
) -> pd.Index:  # fmt: skip
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
                row, f"time column {label} holds {_short(texts[row].as_py())!r}; needs an integer"
            ) from None
        raw.notes.append(f"time {label} is integer steps")
        raw.dialect = replace(raw.dialect, date_format="integer")
        return pd.Index(steps)
    dates = _Dates(wish.date_format, wish.dayfirst)
    index, bad = dates.parse(texts)
    if bad >= 0:
        needs = f"a date like {dates.forms[0]}" if dates.forms else "a date"
        raise raw.fault(
            bad, f"time column {label} holds {_short(texts[bad].as_py())!r}; needs {needs}"
        )
    form = dates.forms[0]
    order = ""
    if _swap_day_month(form):
        order = "day-first " if form.index("%d") < form.index("%m") else "month-first "
    raw.notes.append(f"dates {label} {order}as {' or '.join(dates.forms)}")
    raw.notes += dates.notes
    padded = not re.search("%[dm]", form) or _is_padded(texts.slice(0, 2000).to_pylist(), form)
    raw.dialect = replace(raw.dialect, date_format=form, padded=padded)
    offsets = set()
    if _is_zoned(form):
        found = pc.extract_regex(texts, r"(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$")
        offsets = set(pc.unique(pc.struct_field(found, "zone")).to_pylist())
    return _zoned(raw, cast(pd.DatetimeIndex, index), offsets, wish)


def _zoned(
    raw: _Raw, index: pd.DatetimeIndex, offsets: set[str], wish: _Wish
) -> pd.DatetimeIndex:  # fmt: skip
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


def _add_hours(raw: _Raw, hour: _Column, label: str) -> pd.Index:
    wrong = ~((hour.values >= 0) & (hour.values <= 24))
    if wrong.any():
        row = int(wrong.argmax())
        raise raw.fault(row, f"hour in {label} is {hour.values[row]:g}; needs 0 to 24")
    if hour.values.max() == 24:
        raw.notes.append(f"hours in {label} run to 24: hour 24 is midnight of the next day")
    raw.dialect = replace(raw.dialect, date_format=raw.dialect.date_format + " %H:%M")
    micros = np.round(hour.values * 3.6e9).astype("m8[us]")
    return raw.ds + pd.TimedeltaIndex(micros)


def _localise(raw: _Raw, codes: NDArray[np.intp], timezone: str) -> pd.DatetimeIndex:
    """Put naive times into a zone: of a doubled hour, the first row is summer time."""
    wall = cast(pd.DatetimeIndex, raw.ds)
    seen = pd.DataFrame({"code": codes, "wall": wall}).groupby(["code", "wall"]).cumcount()
    summer = seen.to_numpy() == 0
    zoned = wall.tz_localize(timezone, ambiguous=summer, nonexistent="NaT")
    missing = int(zoned.isna().sum())
    if missing:
        raw.notes.append(
            f"{_count(missing, 'time')} in a spring hour that {timezone} skips: moved forward"
        )
        zoned = wall.tz_localize(timezone, ambiguous=summer, nonexistent="shift_forward")
    raw.notes.append(f"times put into {timezone}")
    return zoned


# --- roles and the panel -------------------------------------------------------------------------


def _panel(raw: _Raw, wish: _Wish) -> Table:
    ids = _find_ids(raw, wish)
    values = [
        name for name, column in raw.columns.items() if column.kind == "number" and name not in ids
    ]
    covariates = wish.known + wish.past
    free = [
        name
        for name in values
        if name not in covariates and not _is_text_throughout(raw.columns[name])
    ]
    for name in [name for name in free if _is_row_number(name, raw.columns[name])]:
        if name not in wish.targets:
            raw.notes.append(f"ignored column {name!r}: it numbers the rows")
            del raw.columns[name]
            free.remove(name)
    targets = wish.targets or _find_targets(free, ids)
    if not targets:
        raise ValueError(
            f"{raw.name}: no column holds numbers to forecast; needs one "
            f"(columns: {_listed([raw.time, *raw.columns])})"
        )
    _check_values(raw, [*targets, *covariates])
    codes, names = _series(raw, ids)
    if wish.timezone is not None and isinstance(raw.ds, pd.DatetimeIndex) and raw.ds.tz is None:
        raw.ds = _localise(raw, codes, wish.timezone)
    layout: Layout = "long" if ids else "wide"
    _note_roles(raw, ids, names, targets, free, wish)
    order, out_of_order = _time_order(raw.ds, codes)
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
        raw.notes.append(f"{_count(int(ahead.sum()), 'row')} after the last value: known future")
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


def _find_ids(raw: _Raw, wish: _Wish) -> list[str]:
    """The columns that tell the series apart; none when every value column is a series."""
    if wish.id is not None:
        return [wish.id]
    if wish.layout == "wide":
        return []
    if "unique_id" in raw.columns:
        return ["unique_id"]
    rows, distinct = len(raw.ds), _distinct(_counted(raw.ds))
    if rows - distinct < 0.02 * rows and wish.layout is None:
        return []
    stamps = pd.factorize(raw.ds)[0]
    candidates = sorted(
        (not _ID_NAME.fullmatch(name), column.kind == "number", place, name)
        for place, (name, column) in enumerate(raw.columns.items())
        if name not in wish.targets + wish.known + wish.past
    )
    coded: dict[str, tuple[NDArray[np.intp], int]] = {}
    for unlike, number, _, name in candidates:
        codes, texts = _codes(raw.columns[name])
        # A number without an id's name is one only if every series has every timestamp.
        balanced = 0.8 < len(texts) * distinct / rows < 1.25
        if 1 < len(texts) <= rows // 2 and (not number or not unlike or balanced):
            coded[name] = codes, len(texts)
    for name, (codes, _) in coded.items():
        if _repeats(codes, stamps) <= 0.02 * rows:
            return [name]
    for first, second in itertools.combinations(coded, 2):
        codes = coded[first][0] * coded[second][1] + coded[second][0]
        if _repeats(codes, stamps) <= 0.02 * rows:
            return [first, second]
    repeats = {name: _repeats(codes, stamps) for name, (codes, _) in coded.items()}
    best = min(repeats, key=lambda name: repeats[name], default=None)
    if best is not None and repeats[best] < 0.1 * rows:
        return [best]
    if wish.layout == "long" or distinct < 0.5 * rows:
        raise ValueError(
            f"{raw.name}: {rows:,} rows have {distinct:,} different times and no column tells the "
            "series apart; needs --id, or --layout wide "
            f"(columns: {_listed([raw.time, *raw.columns])})"
        )
    return []


def _repeats(codes: NDArray[np.intp], stamps: NDArray[np.intp]) -> int:
    """How many rows repeat the timestamp of another row of the same series."""
    return len(codes) - _distinct(codes * (int(stamps.max()) + 1) + stamps)


def _distinct(values: NDArray[np.int64]) -> int:
    # Sorting is much faster than np.unique's hashing when nearly all values differ.
    return 1 + int((np.diff(np.sort(values)) > 0).sum())


def _codes(column: _Column) -> tuple[NDArray[np.intp], list[str]]:
    """Numbered values of a column in order of appearance; no values when it cannot name series."""
    if column.kind == "text":
        codes, used = pd.factorize(column.codes)
        return codes, [column.texts[code] for code in used]
    values = column.values
    if column.kind == "time" or np.isnan(values).any() or (values != np.floor(values)).any():
        return np.zeros(0, np.intp), []
    codes, used = pd.factorize(values)
    return codes, [str(int(value)) for value in used]


def _series(raw: _Raw, ids: list[str]) -> tuple[NDArray[np.intp], list[str]]:
    """Number of the series of each row, and the names in order of appearance."""
    if not ids:
        return np.zeros(len(raw.ds), np.intp), [""]
    codes, names = _codes(raw.columns[ids[0]])
    if not names:
        raise ValueError(f"{raw.name}: id column {ids[0]!r} holds no names or whole numbers")
    for other in ids[1:]:
        more, texts = _codes(raw.columns[other])
        codes, used = pd.factorize(codes * len(texts) + more)
        names = [f"{names[both // len(texts)]}/{texts[both % len(texts)]}" for both in used]
    if "" in names:
        row = int((codes == names.index("")).argmax())
        raise raw.fault(row, f"id column {ids[0]!r} is blank")
    return codes, names


def _find_targets(free: list[str], ids: list[str]) -> list[str]:
    if not ids or len(free) == 1:
        return free
    named = [name for wanted in _TARGET_NAMES for name in free if name.lower() == wanted]
    return named[:1] or free


def _check_values(raw: _Raw, used: list[str]) -> None:
    for name in used:
        column = raw.columns.get(name)
        if column is None or column.kind != "number":
            raise ValueError(f"{raw.name}: column {name!r} holds no numbers; needs numbers")
        if column.bad is not None:
            row, text = column.bad
            infinite = re.fullmatch(r"\s*[+-]?inf(inity)?\s*", text, re.IGNORECASE)
            needs = "a finite number" if infinite else "a number"
            raise raw.fault(row, f"column {name!r} holds {_short(text)!r}; needs {needs}")


def _is_row_number(name: str, column: _Column) -> bool:
    number = re.fullmatch(
        r"#|id|no\.?|nr\.?|num|index|idx|row|row[_ ]?(?:id|num|no|nr)", name.lower()
    )
    return number is not None and bool((np.diff(column.values) == 1).all())


def _is_text_throughout(column: _Column) -> bool:
    return column.bad is not None and bool(np.isnan(column.values).all())


def _note_roles(
    raw: _Raw, ids: list[str], names: list[str], targets: list[str], free: list[str], wish: _Wish
) -> None:
    if ids:
        label = " and ".join(repr(name) for name in ids)
        what = _count(len(names), "series")
        raw.notes.append(f"long layout: id column {label}, {what}, target {_listed(targets)}")
    else:
        what = _count(len(targets), "series")
        raw.notes.append(f"wide layout: {what} ({_listed(targets)})")
    unused = [name for name in free if name not in targets]
    if unused:
        options = "--target, --known or --past"
        raw.notes.append(f"not used: {_listed(unused)} (name them with {options})")
    for name, column in raw.columns.items():
        if name in ids or name in unused or name in [*targets, *wish.known, *wish.past]:
            continue
        distinct = f" ({_count(len(_codes(column)[1]), 'distinct text')})"
        raw.notes.append(f"ignored text column {name!r}" + distinct * (column.kind == "text"))
    gaps = {name: raw.columns[name].missing for name in [*targets, *wish.known, *wish.past]}
    gaps = {name: count for name, count in gaps.items() if count}
    for name, count in list(gaps.items())[:10]:
        raw.notes.append(f"{_count(count, 'missing value')} in {name!r}")
    if len(gaps) > 10:
        raw.notes.append(f"missing values in {len(gaps) - 10} more columns")


def _time_order(
    ds: pd.Index, codes: NDArray[np.intp]
) -> tuple[NDArray[np.intp] | None, dict[int, tuple[int, Any]]]:
    """The order by series and time, None if the rows are in it, and which series stepped back."""
    values = _counted(ds)
    order = None if (np.diff(codes) >= 0).all() else np.argsort(codes, kind="stable")
    by_series, in_file = _taken(codes, order), _taken(values, order)
    back = np.flatnonzero((np.diff(in_file) < 0) & (np.diff(by_series) == 0)) + 1
    if not len(back):
        return order, {}
    found, first, counts = np.unique(by_series[back], return_index=True, return_counts=True)
    rows = back[first] if order is None else order[back[first]]
    steps = {
        int(code): (int(count), ds[row])
        for code, count, row in zip(found, counts, rows, strict=True)
    }
    return np.lexsort((values, codes)), steps


def _counted(ds: pd.Index) -> NDArray[np.int64]:
    return ds.asi8 if isinstance(ds, pd.DatetimeIndex) else ds.to_numpy(np.int64)


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


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(_short(name) for name in list(names)[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _short(text: str) -> str:
    """A text from the file, fit for a message of one line."""
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:37] + "..."


def _count(number: int, word: str) -> str:
    plural = "" if number == 1 or word.endswith("series") else "s"
    return f"{number:,} {word}{plural}"
