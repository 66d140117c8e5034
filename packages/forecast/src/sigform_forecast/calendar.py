"""The calendar of a panel: its step, its season, and the dates that come next.

A calendar numbers its own steps. `ordinals` says in which step a timestamp falls, `stamps` says
when a step is, and everything else (the regular grid, the future, gaps) is arithmetic on those
numbers. Hours and finer count absolute time; days and coarser count the clock on the wall, so that
midnight stays midnight across a change to daylight saving.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Unit = Literal["step", "clock", "day", "business", "half-month", "month"]
Ints = NDArray[np.int64]

MILLISECOND, SECOND = 1_000, 1_000_000  # microseconds, the unit of all arithmetic here
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
MONTH_END = 31

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_CLOCK = {"h": HOUR, "min": MINUTE, "s": SECOND, "ms": MILLISECOND, "us": 1}
_CLOCK_WORDS = {"h": "hour", "min": "minute", "s": "second", "ms": "millisecond"}
# What people still type: the aliases that pandas 3 removed, and the bare units of the Informer.
_OLD_ALIASES = {"H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "d": "D", "w": "W", "b": "B",
                "A": "Y", "AS": "YS", "SM": "SME", "m": "M"}  # fmt: skip
_FIELDS = {  # first value, and what divides the rest
    "second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day_of_week": (0, 6), "day": (1, 30),
    "day_of_year": (1, 365), "week": (1, 52), "month": (1, 11),
}  # fmt: skip
_FEATURES = {
    "s": ("second", "minute", "hour", "day_of_week", "day", "day_of_year"),
    "t": ("minute", "hour", "day_of_week", "day", "day_of_year"),
    "h": ("hour", "day_of_week", "day", "day_of_year"),
    "d": ("day_of_week", "day", "day_of_year"),
    "b": ("day_of_week", "day", "day_of_year"),
    "w": ("day", "week"),
    "m": ("month",),
    "a": ("month",),
}
_FREQ_HELP = "s, min, h, D, B, W, MS, ME, QS, QE, YS or YE, with a number before it if need be"


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """The regular steps that a panel follows.

    freq: pandas offset alias ("15min", "W-SUN", "QE-DEC"); the number of the step as text for
        integer time ("1"). Months on another day than the first or last carry the nearest alias
        and say the rule in `day`.
    season_length: steps of the season to assume, 1 where there is none; `seasons` adds longer ones.
    feature_code: the Informer's letter for `time_features`: s, t, h, d, b, w, m, a, or "none".
    unit, step: what a step counts, and how many of it (microseconds for "clock" and "day").
    phase: where the steps begin, in the same unit, modulo step; None when each series has its own.
    day: day of the month, 31 being the last; `second_day` likewise for half months.
    business: the first or last weekday of the month instead of the first or last day.
    time: time of day in microseconds, for units that count days on the wall.
    declared: given by the user rather than found in the data.
    """

    freq: str
    season_length: int
    seasons: tuple[int, ...]
    feature_code: str
    unit: Unit
    step: int
    phase: int | None = 0
    day: int = 1
    second_day: int = 15
    business: bool = False
    time: int = 0
    declared: bool = False

    def ordinals(
        self, index: pd.Index, *, nearest: bool = False, phase: Ints | int | None = None
    ) -> Ints:
        """Number of the step in which each timestamp falls; (N,) int64.

        `nearest` rounds to the closest step instead of the one begun (clock and day units only).
        `phase` is needed when the calendar has none of its own: one for all or one a row.
        """
        phase = self._phase(phase)
        if self.unit in ("step", "clock", "day"):
            half = self.step // 2 if nearest else 0
            return (self._measure(index) - phase + half) // self.step
        days = _wall(index) // DAY
        if self.unit == "business":
            return (_business_ordinals(days) - phase) // self.step
        months = _months(days)
        if self.unit == "half-month":
            day = days - _month_days(months) + 1
            return 2 * months + (day >= self._second_day(months)) - (day < self.day)
        return (months - phase) // self.step

    def stamps(
        self, ordinals: Ints, like: pd.Index, *, phase: Ints | int | None = None
    ) -> pd.Index:
        """Timestamps of the numbered steps, with time zone and resolution of `like`; (N,)."""
        phase = self._phase(phase)
        if self.unit == "step":
            return pd.Index(ordinals * self.step + phase)
        if self.unit == "clock":
            stamps = pd.DatetimeIndex((ordinals * self.step + phase).astype("M8[us]"))
            zone = _dates(like).tz
            if zone is not None:
                stamps = stamps.tz_localize("UTC").tz_convert(zone)
            return stamps.as_unit(_dates(like).unit)
        if self.unit == "day":
            wall = ordinals * self.step + phase
        elif self.unit == "business":
            week, weekday = np.divmod(ordinals * self.step + phase, 5)
            wall = (week * 7 + weekday - 3) * DAY + self.time
        elif self.unit == "half-month":
            months, second = np.divmod(ordinals, 2)
            days = _day_of_month(months, self.day)
            late = _month_days(months) + self._second_day(months) - 1
            wall = np.where(second == 1, late, days) * DAY + self.time
        else:
            wall = _day_of_month(ordinals * self.step + phase, self.day, self.business) * DAY
            wall = wall + self.time
        return _localise(wall, like)

    def phases(self, index: pd.Index) -> Ints:
        """Where within a step each timestamp lies, in the unit of `phase`; (N,) int64."""
        if self.unit in ("step", "clock", "day"):
            return self._measure(index) % self.step
        days = _wall(index) // DAY
        if self.unit == "half-month":
            return np.zeros(len(index), np.int64)
        return (_business_ordinals(days) if self.unit == "business" else _months(days)) % self.step

    def future(self, last: pd.Timestamp | int, h: int) -> pd.Index:
        """The h timestamps that follow `last`, the time of the last observation."""
        if h < 1:
            raise ValueError(f"h is {h}; needs at least 1")
        like = pd.Index([last])
        calendar = self.at(last)
        start = calendar.ordinals(like)[0]
        # A last stamp that lies off the grid may still be behind the stamp of its own step.
        after = 0 if calendar.stamps(np.array([start]), like)[0] > last else 1
        return calendar.stamps(start + after + np.arange(h), like)

    def grid(self, first: pd.Timestamp | int, last: pd.Timestamp | int) -> pd.Index:
        """Every step from that of `first` to that of `last`, both included."""
        like = pd.Index([first])
        calendar = self.at(first)
        begin, end = calendar.ordinals(pd.Index([first, last]))
        return calendar.stamps(np.arange(begin, end + 1), like)

    def at(self, stamp: pd.Timestamp | int) -> Calendar:
        """This calendar with the phase of `stamp` when it has none of its own."""
        if self.phase is not None:
            return self
        return replace(self, phase=int(self.phases(pd.Index([stamp]))[0]))

    def describe(self) -> str:
        """The calendar in words: "hourly, season 24 (also 168)"."""
        words = self._words()
        if self.season_length <= 1:
            return f"{words}, no season"
        longer = ", ".join(str(season) for season in self.seasons if season != self.season_length)
        return f"{words}, season {self.season_length}" + (f" (also {longer})" if longer else "")

    def _words(self) -> str:
        if self.unit == "step":
            return "integer steps of " + self.freq
        if self.unit == "clock":
            count, alias = _split_clock(self.step)
            word = _CLOCK_WORDS.get(alias, "microsecond")
            if count > 1:
                return f"every {count} {word}s"
            return "hourly" if word == "hour" else f"every {word}"
        if self.unit == "day":
            weeks, rest = divmod(self.step, 7 * DAY)
            if rest:
                return "daily" if self.step == DAY else f"every {self.step // DAY} days"
            on = "" if self.phase is None else f" on {_weekday_word(self.phase)}"
            return ("weekly" if weeks == 1 else f"every {weeks} weeks") + on
        if self.unit == "business":
            return "business days" if self.step == 1 else f"every {self.step} business days"
        if self.unit == "half-month":
            return f"twice a month, {_day_words(self.day)} and {_day_words(self.second_day)}"
        each = {1: "monthly", 3: "quarterly", 12: "yearly"}.get(
            self.step, f"every {self.step // 12} years" if self.step % 12 == 0
            else f"every {self.step} months"
        )  # fmt: skip
        if self.step == 12 and self.phase is not None:
            each += f" in {MONTHS[self.phase].title()}"
        return f"{each}, {_day_words(self.day, self.business)}"

    def _phase(self, given: Ints | int | None) -> Ints | int:
        phase = self.phase if given is None else given
        if phase is None:
            raise ValueError("phase is None; needs one for each row, or Calendar.at(first)")
        return phase

    def _second_day(self, months: Ints) -> Ints:
        return np.minimum(self.second_day, _month_lengths(months))

    def _measure(self, index: pd.Index) -> Ints:
        if self.unit == "step":
            return index.to_numpy(np.int64)
        return _absolute(index) if self.unit == "clock" else _wall(index)


def infer_calendar(frame: pd.DataFrame, freq: str | int | None = None) -> Calendar:
    """Find the calendar of a panel from the commonest step over all series.

    frame: long panel with `unique_id` and `ds`; order, gaps and duplicates do not matter.
    freq: the step as the user declares it, a pandas alias or an integer; the anchor that it leaves
    open (which weekday, which day of the month) is taken from the data.
    Raises ValueError when no step dominates, when there are fewer than two timestamps, and when
    freq is not understood or does not suit the kind of time.
    """
    index = pd.Index(frame["ds"])
    if not isinstance(index, pd.DatetimeIndex):
        return _integer_calendar(frame, index, freq)
    codes = pd.factorize(frame["unique_id"])[0]
    if freq is not None:
        return _anchored(replace(_declared(str(freq)), declared=True), index, codes)
    absolute, wall = _absolute(index), _wall(index)
    steps, counts = _step_counts(absolute, codes)
    step = int(steps[counts.argmax()])
    if step >= DAY - HOUR:
        days = _dated(wall, codes)
        if days is not None:
            return _anchored(days, index, codes)
        steps, counts = _step_counts(wall, codes)
        step = int(steps[counts.argmax()])
    multiples = counts[steps % step == 0].sum() / counts.sum()
    if multiples < 0.8 or counts.max() / counts.sum() < 0.2:
        raise ValueError(_no_dominant_step(steps, counts))
    calendar = _build("day" if step % DAY == 0 else "clock", step)
    return _anchored(calendar, index, codes)


def time_features(index: pd.Index, code: str) -> NDArray[np.float32]:
    """The Informer's "timeF" features in [-0.5, 0.5]; (N, F) float32.

    F is 6 for code s, 5 for t, 4 for h, 3 for d and b, 2 for w, 1 for m and a. An integer index
    has no calendar: (N, 1) of zeros. Raises ValueError for another code.
    """
    if not isinstance(index, pd.DatetimeIndex):
        return np.zeros((len(index), 1), np.float32)
    if code not in _FEATURES:
        raise ValueError(f"feature code is {code!r}; needs one of {', '.join(_FEATURES)}")
    fields = _FEATURES[code]
    features = np.empty((len(index), len(fields)), np.float32)
    for column, name in enumerate(fields):
        first, span = _FIELDS[name]
        values = index.isocalendar()["week"] if name == "week" else getattr(index, name)
        features[:, column] = (values.to_numpy(np.float64) - first) / span - 0.5
    return features


def time_tables(index: pd.Index, code: str) -> Ints:
    """Rows of the embedding tables: month, day, weekday, hour and, for code t, quarter of the hour.

    (N, 4) int64, (N, 5) for code t; zeros for an integer index.
    """
    width = 5 if code == "t" else 4
    tables = np.zeros((len(index), width), np.int64)
    if isinstance(index, pd.DatetimeIndex):
        fields = (index.month, index.day, index.day_of_week, index.hour, index.minute // 15)
        for column, field in enumerate(fields[:width]):
            tables[:, column] = field
    return tables


def _dates(index: pd.Index) -> pd.DatetimeIndex:
    if not isinstance(index, pd.DatetimeIndex):
        raise ValueError(f"time is {index.dtype}; needs dates for this calendar")
    return index


def _absolute(index: pd.Index) -> Ints:
    return _dates(index).as_unit("us").asi8


def _wall(index: pd.Index) -> Ints:
    return _dates(index).tz_localize(None).as_unit("us").asi8


def _localise(wall: Ints, like: pd.Index) -> pd.DatetimeIndex:
    zone, unit = _dates(like).tz, _dates(like).unit
    stamps = pd.DatetimeIndex(wall.astype("M8[us]"))
    if zone is not None:
        summer = np.ones(len(stamps), bool)
        stamps = stamps.tz_localize(zone, ambiguous=summer, nonexistent="shift_forward")
    return stamps.as_unit(unit)


def _business_ordinals(days: Ints) -> Ints:
    # Day 0 of the epoch is a Thursday; a weekend counts as the Friday before it.
    week, weekday = np.divmod(days + 3, 7)
    return week * 5 + np.minimum(weekday, 4)


def _months(days: Ints) -> Ints:
    return days.astype("M8[D]").astype("M8[M]").astype(np.int64)


def _month_days(months: Ints) -> Ints:
    return months.astype("M8[M]").astype("M8[D]").astype(np.int64)


def _month_lengths(months: Ints) -> Ints:
    return _month_days(months + 1) - _month_days(months)


def _day_of_month(months: Ints, day: int, business: bool = False) -> Ints:
    days = _month_days(months) + np.minimum(day, _month_lengths(months)) - 1
    if not business:
        return days
    over = np.maximum((days + 3) % 7 - 4, 0)  # 1 on Saturday, 2 on Sunday
    return days - over if day == MONTH_END else days + np.where(over > 0, 3 - over, 0)


def _mode(values: Ints) -> tuple[int, float]:
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()]), float(counts.max() / counts.sum())


def _step_counts(values: Ints, codes: NDArray[np.intp]) -> tuple[Ints, Ints]:
    """The distinct positive steps between neighbours of the same series, and how often each is."""
    same = codes[1:] == codes[:-1]
    gaps = np.diff(values)
    if not same.any() or (gaps[same] < 0).any() or (np.diff(codes) < 0).any():
        order = np.lexsort((values, codes))
        same, gaps = np.diff(codes[order]) == 0, np.diff(values[order])
    gaps = gaps[same & (gaps > 0)]
    if not len(gaps):
        raise ValueError("the data has no two different timestamps in any series; needs two rows")
    return np.unique(gaps, return_counts=True)


def _dated(wall: Ints, codes: NDArray[np.intp]) -> Calendar | None:
    """The calendar of whole days, business days, weeks, half months or months, if one fits."""
    days = wall // DAY
    steps, counts = _step_counts(days, codes)
    typical = _median(steps, counts)
    if typical >= 26:
        return _monthly(days, codes)
    if 12 < typical < 18 and len(days) > 3:
        return _half_monthly(days)
    if int(steps[counts.argmax()]) == 1 and not ((days + 3) % 7 > 4).any():
        weekends = (days.max() + 3) // 7 - (days.min() + 3) // 7
        return _build("business", 1) if weekends > 0 else None
    return None


def _median(values: Ints, counts: Ints) -> float:
    return float(values[np.searchsorted(counts.cumsum(), counts.sum() / 2)])


def _monthly(days: Ints, codes: NDArray[np.intp]) -> Calendar | None:
    months = _months(days)
    steps, counts = _step_counts(months, codes)
    step = int(steps[counts.argmax()])
    if counts[steps % step == 0].sum() / counts.sum() < 0.8:
        return None
    return _month_rule(_build("month", step), days)


def _month_rule(calendar: Calendar, days: Ints, needed: float = 0.95) -> Calendar | None:
    """The calendar with the day rule (last day, a fixed day, a weekday) that the days follow."""
    months = _months(days)
    fixed = _mode(days - _month_days(months) + 1)[0]
    latest = int((days - _month_days(months) + 1).max())
    rules = ((MONTH_END, False), (fixed, False), (latest, False), (1, True), (MONTH_END, True))
    for day, business in rules:
        if (_day_of_month(months, day, business) == days).mean() >= needed:
            return replace(calendar, day=day, business=business)
    return None


def _half_monthly(days: Ints) -> Calendar | None:
    months = _months(days)
    day = days - _month_days(months) + 1
    last = days == _day_of_month(months, MONTH_END)
    for first, second in ((1, 15), (1, 16), (15, MONTH_END)):
        fits = (day == first) | (last if second == MONTH_END else day == second)
        if fits.mean() >= 0.95:
            return replace(_build("half-month", 1), day=first, second_day=second)
    return None


def _anchored(calendar: Calendar, index: pd.DatetimeIndex, codes: NDArray[np.intp]) -> Calendar:
    """Fill in phase, time of day and day of the month from the data, and name the result."""
    if calendar.unit not in ("clock", "day"):
        calendar = replace(calendar, time=_mode(_wall(index) % DAY)[0])
    if calendar.declared and calendar.phase is not None:
        return _named(calendar)
    if calendar.declared and calendar.unit == "month" and calendar.day == 0:
        days = _wall(index) // DAY
        free = replace(calendar, day=1)
        calendar = _month_rule(free, days) or free
    phases = calendar.phases(index)
    phase, share = _mode(phases)
    if share < 0.9:
        pairs, counts = np.unique(np.stack([codes, phases], 1), axis=0, return_counts=True)
        starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
        if np.maximum.reduceat(counts, starts).sum() >= 0.9 * len(index):
            return _named(replace(calendar, phase=None))
        if share < 0.5:
            # Nothing to anchor to: whole hours, midnight, January; Monday for weeks.
            phase = 4 * DAY % calendar.step if calendar.unit == "day" else 0
    return _named(replace(calendar, phase=phase))


def _build(unit: Unit, step: int) -> Calendar:
    """A calendar without anchor: seasons and feature code follow from the step."""
    seasons, code = _seasons(unit, step)
    return Calendar(
        freq="", season_length=seasons[0], seasons=seasons, feature_code=code, unit=unit,
        step=step, phase=None,
    )  # fmt: skip


def _seasons(unit: Unit, step: int) -> tuple[tuple[int, ...], str]:
    if unit == "step":
        return (1,), "none"
    if unit == "business":
        return ((5, 260) if step == 1 else (max(1, round(260 / step)),)), "b"
    if unit == "half-month":
        return (24,), "d"
    if unit == "month":
        return (12 // step if 12 % step == 0 else 1,), "m" if step < 12 else "a"
    if unit == "day" and step >= DAY:
        if step == DAY:
            return (7, 365), "d"
        return (max(1, round(365.25 * DAY / step)),), "w" if step % (7 * DAY) == 0 else "d"
    if step >= DAY:
        return (1,), "h"
    code = "h" if step >= HOUR else "t" if step >= MINUTE else "s"
    cycles = (DAY, 7 * DAY) if step >= 5 * MINUTE else (HOUR, DAY) if step >= MINUTE else (
        (MINUTE, HOUR) if step >= SECOND else (SECOND, MINUTE)
    )  # fmt: skip
    return tuple(max(1, round(cycle / step)) for cycle in cycles), code


def _named(calendar: Calendar) -> Calendar:
    return replace(calendar, freq=_alias(calendar))


def _alias(calendar: Calendar) -> str:
    step, phase = calendar.step, calendar.phase
    if calendar.unit == "step":
        return str(step)
    if calendar.unit == "clock":
        count, alias = _split_clock(step)
        return _counted(count, alias)
    if calendar.unit == "day":
        weeks, rest = divmod(step, 7 * DAY)
        if rest:
            return _counted(step // DAY, "D")
        weekday = 6 if phase is None else (phase // DAY + 3) % 7
        return _counted(weeks, f"W-{WEEKDAYS[weekday]}")
    if calendar.unit == "business":
        return _counted(step, "B")
    if calendar.unit == "half-month":
        return "SME" if calendar.second_day == MONTH_END else "SMS"
    edge = "E" if calendar.day == MONTH_END else "S"
    kind = ("B" if calendar.business else "") + "{}" + edge
    if step % 12 == 0:
        return _counted(step // 12, f"{kind.format('Y')}-{MONTHS[(phase or 0) % 12]}")
    if step % 3 == 0:
        # pandas names a quarterly calendar by its last month of the year.
        return _counted(step // 3, f"{kind.format('Q')}-{MONTHS[(phase or 0) % 3 + 9]}")
    return _counted(step, kind.format("M"))


def _split_clock(step: int) -> tuple[int, str]:
    for alias, size in _CLOCK.items():
        if step % size == 0:
            return step // size, alias
    return step, "us"


def _counted(count: int, alias: str) -> str:
    return alias if count == 1 else f"{count}{alias}"


def _declared(freq: str) -> Calendar:
    """The calendar that an alias stands for; phase None and day 0 where its anchor is open."""
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(?:-([A-Za-z]{3}))?", freq.strip())
    if match is None:
        raise ValueError(f"freq is {freq!r}; needs one of {_FREQ_HELP}, since time is dates")
    count, alias = int(match[1] or 1), match[2]
    anchor = (match[3] or "").upper()
    alias = _OLD_ALIASES.get(alias, alias)
    if count < 1:
        raise ValueError(f"freq is {freq!r}; needs a number of at least 1")
    if alias in _CLOCK and not anchor:
        return _build("clock", count * _CLOCK[alias])
    if alias == "D" and not anchor:
        return _build("day", count * DAY)
    if alias == "W" and (not anchor or anchor in WEEKDAYS):
        calendar = _build("day", count * 7 * DAY)
        if not anchor or count > 1:
            return calendar
        return replace(calendar, phase=(WEEKDAYS.index(anchor) + 4) % 7 * DAY)
    if alias == "B" and not anchor:
        return _build("business", count)
    if alias in ("SMS", "SME") and not anchor and count == 1:
        first, second = (1, 15) if alias == "SMS" else (15, MONTH_END)
        return replace(_build("half-month", 1), day=first, second_day=second, phase=0)
    months = re.fullmatch(r"(B?)([MQY])([SE]?)", alias)
    if months is None or (anchor and (anchor not in MONTHS or months[2] == "M")):
        raise ValueError(f"freq is {freq!r}; needs one of {_FREQ_HELP}")
    step = count * {"M": 1, "Q": 3, "Y": 12}[months[2]]
    day = {"S": 1, "E": MONTH_END, "": 0}[months[3]]
    calendar = replace(_build("month", step), day=day, business=bool(months[1]))
    if step == 1 and day:
        return replace(calendar, phase=0)
    if anchor and count == 1:
        return replace(calendar, day=day or MONTH_END, phase=MONTHS.index(anchor) % step)
    return calendar


def _integer_calendar(frame: pd.DataFrame, index: pd.Index, freq: str | int | None) -> Calendar:
    codes = pd.factorize(frame["unique_id"])[0]
    values = index.to_numpy(np.int64)
    if freq is None:
        steps, counts = _step_counts(values, codes)
        step = int(steps[counts.argmax()])
        if counts[steps % step == 0].sum() / counts.sum() < 0.8:
            raise ValueError(
                f"time has no dominant step: {counts.max() / counts.sum():.0%} are {step}; "
                "needs one, or --freq with the step as a number"
            )
    elif re.fullmatch(r"[1-9]\d*", str(freq)):
        step = int(freq)
    else:
        raise ValueError(f"freq is {freq!r}; needs a positive integer, since time is integer steps")
    calendar = replace(_build("step", step), declared=freq is not None)
    phase, share = _mode(values % step)
    return _named(replace(calendar, phase=phase if share >= 0.9 or step == 1 else None))


def _no_dominant_step(steps: Ints, counts: Ints) -> str:
    first, *rest = counts.argsort(kind="stable")[::-1][:2]
    total = counts.sum()
    shown = f"{step_words(int(steps[first]))} ({counts[first] / total:.0%})"
    for second in rest:
        shown += f" and {step_words(int(steps[second]))} ({counts[second] / total:.0%})"
    near = _nearest_alias(_median(steps, counts))
    return (
        f"time has no dominant step: the commonest are {shown}; needs one regular step, "
        f"or --freq to put the rows on one (the middle step suggests --freq {near})"
    )


def _nearest_alias(step: float) -> str:
    choices = {
        "s": SECOND, "10s": 10 * SECOND, "30s": 30 * SECOND, "min": MINUTE, "5min": 5 * MINUTE,
        "10min": 10 * MINUTE, "15min": 15 * MINUTE, "30min": 30 * MINUTE, "h": HOUR,
        "3h": 3 * HOUR, "6h": 6 * HOUR, "12h": 12 * HOUR, "D": DAY, "W": 7 * DAY,
        "MS": 30.44 * DAY, "QS": 91.3 * DAY, "YS": 365.25 * DAY,
    }  # fmt: skip
    return min(choices, key=lambda alias: abs(np.log(choices[alias] / max(step, 1.0))))


def step_words(step: int) -> str:
    """A span of `step` microseconds in words: "15 minutes", "1 day"."""
    for size, word in ((7 * DAY, "week"), (DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"),
                       (SECOND, "second"), (MILLISECOND, "millisecond")):  # fmt: skip
        if step >= size and step % size == 0:
            count = step // size
            return f"{count} {word}" + ("s" if count > 1 else "")
    return f"{step / SECOND:g} seconds"


def _weekday_word(phase: int) -> str:
    return ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[
        (phase // DAY + 3) % 7
    ]


def _day_words(day: int, business: bool = False) -> str:
    kind = "weekday" if business else "day"
    return {1: f"first {kind}", MONTH_END: f"last {kind}"}.get(day, f"day {day}")
