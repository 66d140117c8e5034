"""The columns of a table on their way from blocks of text to arrays."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from sigform_forecast.reading.cells import Floats, NumberParser
from sigform_forecast.reading.dialect import Dialect

# pyarrow makes these functions when it is imported, so type checkers do not know them.
pc: Any = pyarrow.compute

Kind = Literal["number", "text", "time"]

ID_NAME = re.compile(
    r"id|.*[_ .](?:id|nr|nbr|no|num|number|code|name)|.*Id|.*ID|series|item|store|shop|sku|product"
    r"|sensor|station|location|meter|site|region|country|state|city|name|ticker|symbol|key|group"
    r"|dept|family|code",
)


@dataclass
class Column:
    """One column as it is read: numbers, coded text, or the text of dates."""

    kind: Kind
    parts: list[Any] = field(default_factory=list)
    rows: int = 0
    missing: int = 0
    bad: tuple[int, str] | None = None
    values: Floats = field(default_factory=lambda: np.empty(0))
    codes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    texts: list[str] = field(default_factory=list)

    def add(self, cells: pa.Array, numbers: NumberParser) -> None:
        """Take the next block of text."""
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
        """Drop the other rows of a closed column."""
        if self.kind == "number":
            self.values = self.values[rows]
        elif self.kind == "text":
            self.codes = self.codes[rows]


@dataclass
class RawTable:
    """A table whose columns are read and whose time is understood."""

    name: str
    ds: pd.Index
    columns: dict[str, Column]
    time: str
    dialect: Dialect
    notes: list[str]
    locate: Callable[[int], str]

    @property
    def ticks(self) -> NDArray[np.int64]:
        """The times as integers: microseconds, or the steps themselves."""
        return self.ds.asi8 if isinstance(self.ds, pd.DatetimeIndex) else self.ds.to_numpy(np.int64)

    def fault(self, row: int, what: str) -> ValueError:
        """The error to raise, with the name of the file and the line of the row."""
        return ValueError(f"{self.name}: {self.locate(row)}: {what}")
