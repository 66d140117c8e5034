"""How a file is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pandas as pd


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
