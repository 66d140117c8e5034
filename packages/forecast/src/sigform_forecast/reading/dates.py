"""Dates as people write them: the formats that a text may have, and columns parsed by format.

A format is one of strftime with two additions, "%q" for the quarter and "%K" for ISO weeks like
W05; or "unix s", "unix ms", "unix us", "unix ns" for numbers.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

# pyarrow makes these functions when it is imported, so type checkers do not know them.
pc: Any = pyarrow.compute

TIME_OF_DAY = re.compile(
    r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[AaPp][Mm])?|\d{1,2}\.\d{2}\.\d{2}"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august",
                "september", "october", "november", "december")  # fmt: skip
_DATE = re.compile(
    r"(?P<weekday>(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s+)?(?P<date>.+?)"
    r"(?:(?P<gap>[T ]+)(?P<clock>\d{1,2}:\d{2}(?P<second>:\d{2}(?P<part>[.,]\d+)?)?"
    r"|\d{1,2}\.\d{2}\.\d{2})"
    r"(?P<noon> ?[AaPp][Mm])?(?P<zone> ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2}))?)?"
)


def date_formats(text: str, weak: bool = True) -> list[str]:
    """Formats in which a text may be read as a date; two when day and month could be swapped.

    weak: also take years, year-months and unix times, which plain numbers may be, too.
    """
    text = text.strip()
    if not 4 <= len(text) <= 40 or not text[-1].isalnum() or not any(map(str.isdigit, text)):
        return []
    match = _DATE.fullmatch(text)
    if match is None:
        return []
    dates = _day_formats(match["date"].strip(), weak)
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


def _day_formats(text: str, weak: bool) -> list[str]:
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
class DateParser:
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
            forms = date_formats(str(texts[first].as_py() or ""))
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
        swapped = swap_day_month(forms[0])
        if swapped is None:
            return forms[0], _parse(texts, forms[0])
        # The first text may fit one order only by chance of a typing error: try both on all rows.
        day, month = sorted((forms[0], swapped), key=lambda form: form.find("%d"))
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


def swap_day_month(form: str) -> str | None:
    """The format with day and month exchanged; None where they cannot be confused."""
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
    return index.tz_localize("UTC") if is_zoned(form) else index


def _parse_chunk(chunk: pa.Array, form: str) -> NDArray[np.datetime64]:
    if form.startswith("%Y-%m-%d"):
        # Where some text is no ISO date, the slower ways below say which.
        with contextlib.suppress(pa.ArrowInvalid):
            stamps = pc.cast(chunk, pa.timestamp("us", tz="UTC" if is_zoned(form) else None))
            return stamps.to_numpy(zero_copy_only=False)
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


def is_zoned(form: str) -> bool:
    """Whether texts of this format carry a time zone."""
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
    stamps = pd.to_datetime(series, format=form, errors="coerce", utc=is_zoned(form))
    index = pd.DatetimeIndex(stamps)
    return (index if index.tz is None else index.tz_localize(None)).as_unit("us")


def is_padded(texts: Sequence[str], form: str) -> bool:
    """Whether days and months below ten carry a leading zero in all texts."""
    clock = form.find("%H")
    single = re.compile(r"(?<![\d:])\d(?=[-/. ]|$)")
    return "%f" in form or not any(
        single.search(text if clock < 0 else text[:10]) for text in texts
    )
