"""Numbers as people write them: decimal comma or point, thousands, units, and blanks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

# pyarrow makes these functions when it is imported, so type checkers do not know them.
pc: Any = pyarrow.compute

Floats = NDArray[np.float64]

MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "--", ".", "?", "#n/a")
_UNITS = r"(?:%|€|\$|£|¥|EUR|USD|GBP|CHF)"
NUMBER = re.compile(
    rf"\s*(?:[+\-−]?\s*{_UNITS}?\s*[+\-−]?(?:\d[\d.,'’\s]*|[.,]\d+)(?:[eE][+\-]?\d+)?"
    rf"\s*{_UNITS}?|[+\-]?(?:inf|infinity)|true|false)\s*",
    re.IGNORECASE,
)


@dataclass
class NumberParser:
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
