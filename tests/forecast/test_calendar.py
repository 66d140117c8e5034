"""The user's own calendar is found, continued, and turned into the Informer's features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_forecast.calendar import Calendar, infer_calendar, time_features, time_tables


def panel(*indexes: pd.Index) -> pd.DataFrame:
    frames = [
        pd.DataFrame({"unique_id": f"s{number}", "ds": index, "y": 1.0})
        for number, index in enumerate(indexes)
    ]
    return pd.concat(frames, ignore_index=True)


def stamps(*texts: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(texts)


# alias, season, longer seasons, feature code, words
KNOWN = [
    ("50ms", 20, (20, 1200), "s", "every 50 milliseconds"),
    ("s", 60, (60, 3600), "s", "every second"),
    ("30s", 2, (2, 120), "s", "every 30 seconds"),
    ("min", 60, (60, 1440), "t", "every minute"),
    ("15min", 96, (96, 672), "t", "every 15 minutes"),
    ("30min", 48, (48, 336), "t", "every 30 minutes"),
    ("h", 24, (24, 168), "h", "hourly"),
    ("6h", 4, (4, 28), "h", "every 6 hours"),
    ("D", 7, (7, 365), "d", "daily"),
    ("3D", 122, (122,), "d", "every 3 days"),
    ("B", 5, (5, 260), "b", "business days"),
    ("W-SUN", 52, (52,), "w", "weekly on Sunday"),
    ("W-WED", 52, (52,), "w", "weekly on Wednesday"),
    ("2W-SUN", 26, (26,), "w", "every 2 weeks on Sunday"),
    ("SMS", 24, (24,), "d", "twice a month, first day and day 15"),
    ("SME", 24, (24,), "d", "twice a month, day 15 and last day"),
    ("MS", 12, (12,), "m", "monthly, first day"),
    ("ME", 12, (12,), "m", "monthly, last day"),
    ("BME", 12, (12,), "m", "monthly, last weekday"),
    ("BMS", 12, (12,), "m", "monthly, first weekday"),
    ("2MS", 6, (6,), "m", "every 2 months, first day"),
    ("QS-OCT", 4, (4,), "m", "quarterly, first day"),
    ("QE-DEC", 4, (4,), "m", "quarterly, last day"),
    ("QE-NOV", 4, (4,), "m", "quarterly, last day"),
    ("YS-JAN", 1, (1,), "a", "yearly in Jan, first day"),
    ("YE-JUN", 1, (1,), "a", "yearly in Jun, last day"),
    ("4YS-JAN", 1, (1,), "a", "every 4 years, first day"),
]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize(("freq", "season", "seasons", "code", "words"), KNOWN)
def test_calendars_are_found_and_continued(
    freq: str, season: int, seasons: tuple[int, ...], code: str, words: str, zone: str | None
) -> None:
    index = pd.date_range("2019-02-01", periods=60, freq=freq, tz=zone)
    calendar = infer_calendar(panel(index))
    assert calendar.freq == freq
    assert (calendar.season_length, calendar.seasons) == (season, seasons)
    assert calendar.feature_code == code
    assert calendar.describe().startswith(words)
    assert (calendar.future(index[19], 40) == index[20:]).all()
    assert (calendar.grid(index[3], index[-1]) == index[3:]).all()
    declared = infer_calendar(panel(index), freq)
    assert declared.freq == freq
    assert declared.declared
    assert (declared.future(index[19], 40) == index[20:]).all()


@pytest.mark.parametrize("freq", ["15min", "h", "D", "W-TUE", "MS", "ME", "QE-DEC", "B"])
def test_gaps_duplicates_and_order_do_not_matter(freq: str) -> None:
    index = pd.date_range("2019-02-01", periods=200, freq=freq)
    rng = np.random.default_rng(3)
    kept = rng.permutation(np.append(rng.choice(200, 160, replace=False), [5, 5, 9]))
    assert infer_calendar(panel(index[kept])).freq == freq


def test_months_keep_their_day() -> None:
    fifteenth = pd.date_range("2020-01-01", periods=30, freq="MS") + pd.Timedelta(days=14)
    calendar = infer_calendar(panel(fifteenth))
    assert calendar.describe().startswith("monthly, day 15")
    assert calendar.future(fifteenth[-1], 2).tolist() == [
        pd.Timestamp("2022-07-15"), pd.Timestamp("2022-08-15"),
    ]  # fmt: skip
    thirtieth = stamps("2021-11-30", "2021-12-30", "2022-01-30", "2022-02-28", "2022-03-30")
    assert infer_calendar(panel(thirtieth)).future(thirtieth[-1], 2).tolist() == [
        pd.Timestamp("2022-04-30"), pd.Timestamp("2022-05-30"),
    ]  # fmt: skip
    ends = stamps("2021-11-30", "2021-12-31", "2022-01-31", "2022-02-28")
    assert infer_calendar(panel(ends)).future(ends[-1], 2).tolist() == [
        pd.Timestamp("2022-03-31"), pd.Timestamp("2022-04-30"),
    ]  # fmt: skip


def test_a_yearly_leap_day_falls_back_to_the_end_of_february() -> None:
    leaps = stamps("2016-02-29", "2017-02-28", "2018-02-28", "2019-02-28")
    assert infer_calendar(panel(leaps)).future(leaps[-1], 2).tolist() == [
        pd.Timestamp("2020-02-29"), pd.Timestamp("2021-02-28"),
    ]  # fmt: skip


def test_business_days_survive_holidays_and_skip_weekends() -> None:
    days = pd.date_range("2020-01-01", periods=60, freq="B").delete([0, 10, 30, 31])
    calendar = infer_calendar(panel(days))
    assert calendar.freq == "B"
    future = calendar.future(pd.Timestamp("2020-03-20"), 3)
    assert future.tolist() == [pd.Timestamp(f"2020-03-{day}") for day in (23, 24, 25)]
    week = pd.date_range("2020-01-06", periods=5, freq="D")
    assert infer_calendar(panel(week)).freq == "D"


def test_time_of_day_is_kept() -> None:
    weekly = pd.date_range("2020-01-05 06:30", periods=20, freq="W-SUN")
    assert infer_calendar(panel(weekly)).future(weekly[-1], 1)[0] == weekly[-1] + pd.Timedelta("7D")
    monthly = pd.date_range("2020-01-31 18:00", periods=20, freq="ME")
    assert infer_calendar(panel(monthly)).future(monthly[-1], 1)[0].hour == 18


def test_daylight_saving() -> None:
    days = pd.date_range("2020-03-01", periods=25, freq="D", tz="Europe/Berlin")
    future = infer_calendar(panel(days)).future(days[-1], 10)
    assert {stamp.hour for stamp in future} == {0}
    assert future[-1].utcoffset() != future[0].utcoffset()
    hours = pd.date_range("2020-10-24", periods=24, freq="h", tz="Europe/Berlin")
    clock = infer_calendar(panel(hours)).future(hours[-1], 30)
    assert len(set(np.diff(clock.asi8))) == 1
    assert [stamp.hour for stamp in clock[:5]] == [0, 1, 2, 2, 3]
    night = pd.date_range("2020-03-20 02:30", periods=8, freq="D", tz="Europe/Berlin")
    skipped = infer_calendar(panel(night)).future(night[-1], 3)
    assert [f"{stamp:%d %H:%M}" for stamp in skipped] == ["28 02:30", "29 03:00", "30 02:30"]


def test_last_off_the_grid_goes_on_at_the_next_step() -> None:
    hours = pd.date_range("2020-01-01", periods=40, freq="h")
    calendar = infer_calendar(panel(hours))
    assert calendar.future(pd.Timestamp("2020-01-05 10:20"), 1)[0].hour == 11


def test_series_may_have_their_own_phase() -> None:
    sundays = pd.date_range("2020-01-05", periods=20, freq="W-SUN")
    tuesdays = pd.date_range("2020-01-07", periods=20, freq="W-TUE")
    calendar = infer_calendar(panel(sundays, tuesdays))
    assert calendar.phase is None
    assert calendar.future(sundays[-1], 1)[0].day_name() == "Sunday"
    assert calendar.future(tuesdays[-1], 1)[0].day_name() == "Tuesday"
    with pytest.raises(ValueError, match="phase is None; needs one"):
        calendar.ordinals(sundays)


def test_integer_steps() -> None:
    calendar = infer_calendar(panel(pd.Index(range(5, 105, 5))))
    assert (calendar.freq, calendar.step, calendar.feature_code) == ("5", 5, "none")
    assert calendar.future(100, 3).tolist() == [105, 110, 115]
    assert calendar.grid(5, 20).tolist() == [5, 10, 15, 20]
    assert calendar.describe() == "integer steps of 5, no season"
    assert infer_calendar(panel(pd.Index(range(30))), 1).declared
    with pytest.raises(ValueError, match="freq is 'D'; needs a positive integer"):
        infer_calendar(panel(pd.Index(range(30))), "D")
    with pytest.raises(ValueError, match="no dominant step"):
        infer_calendar(panel(pd.Index([0, 3, 5, 12, 13, 20, 27, 40])))


def test_declared_frequencies_take_their_anchor_from_the_data() -> None:
    mondays = pd.date_range("2020-01-06", periods=30, freq="W-MON")
    assert infer_calendar(panel(mondays), "W").freq == "W-MON"
    ends = pd.date_range("2020-01-31", periods=30, freq="ME")
    assert infer_calendar(panel(ends), "M").freq == "ME"
    quarters = pd.date_range("2020-02-01", periods=30, freq="QS-NOV")
    assert infer_calendar(panel(quarters), "Q").freq == "QS-NOV"
    hours = pd.date_range("2020-01-01 00:07", periods=30, freq="h")
    assert infer_calendar(panel(hours), "H").future(hours[-1], 1)[0].minute == 7
    assert infer_calendar(panel(hours), "D").freq == "D"
    anchored = infer_calendar(panel(mondays), "W-SUN")
    assert anchored.future(mondays[-1], 1)[0].day_name() == "Sunday"
    months = infer_calendar(panel(pd.date_range("2020-01-01", periods=90, freq="D")), "MS")
    assert months.future(pd.Timestamp("2020-03-20"), 1)[0] == pd.Timestamp("2020-04-01")


@pytest.mark.parametrize("freq", ["X", "7", "W-XYZ", "0D", "D-MON", "MS-JAN", "", "15 min ago"])
def test_unknown_frequencies(freq: str) -> None:
    days = pd.date_range("2020-01-01", periods=30, freq="D")
    with pytest.raises(ValueError, match=r"freq is .*; needs"):
        infer_calendar(panel(days), freq)


def test_no_dominant_step_names_the_two_commonest_and_the_option() -> None:
    rng = np.random.default_rng(0)
    seconds = np.cumsum(rng.integers(40, 80, 300))
    index = pd.Timestamp("2020-01-01") + pd.to_timedelta(seconds, unit="s")
    with pytest.raises(ValueError, match=r"commonest are \d+ seconds .* and .*--freq min\)"):
        infer_calendar(panel(pd.DatetimeIndex(index)))
    odd = stamps("2020-01-03", "2020-02-10", "2020-03-04", "2020-04-28", "2020-05-07", "2020-06-20")
    with pytest.raises(ValueError, match=r"no dominant step.*--freq MS"):
        infer_calendar(panel(odd))
    with pytest.raises(ValueError, match="no two different timestamps"):
        infer_calendar(panel(stamps("2020-01-01"), stamps("2020-01-02")))


def test_ordinals_and_stamps_undo_each_other_and_floor() -> None:
    half = infer_calendar(panel(pd.date_range("2020-01-15", periods=20, freq="SME")))
    days = stamps("2020-01-10", "2020-01-15", "2020-01-30", "2020-01-31", "2020-02-14")
    assert half.stamps(half.ordinals(days), days).tolist() == list(
        stamps("2019-12-31", "2020-01-15", "2020-01-15", "2020-01-31", "2020-01-31")
    )
    hours = infer_calendar(panel(pd.date_range("2020-01-01", periods=20, freq="h")))
    late = stamps("2020-01-01 10:50")
    assert hours.stamps(hours.ordinals(late), late)[0].hour == 10
    assert hours.stamps(hours.ordinals(late, nearest=True), late)[0].hour == 11


@settings(max_examples=80, deadline=None)
@given(
    freq=st.sampled_from([freq for freq, *_ in KNOWN]),
    start=st.datetimes(pd.Timestamp("1950-01-01"), pd.Timestamp("2050-01-01")),
    zone=st.sampled_from([None, "UTC", "America/New_York", "Australia/Lord_Howe"]),
    h=st.integers(1, 50),
)
def test_future_is_later_regular_and_the_grid_of_itself(
    freq: str, start: pd.Timestamp, zone: str | None, h: int
) -> None:
    begin = pd.Timestamp(start).floor("D") + pd.Timedelta(hours=12)
    index = pd.date_range(begin, periods=30, freq=freq, tz=zone)
    calendar = infer_calendar(panel(index))
    future = calendar.future(index[-1], h)
    assert len(future) == h
    assert future[0] > index[-1]
    assert future.is_monotonic_increasing
    assert future.is_unique
    assert (calendar.grid(index[0], future[-1]) == index.append(future)).all()
    assert future.dtype == index.dtype


# --- features ------------------------------------------------------------------------------------

MOMENT = pd.DatetimeIndex(["2020-12-31 23:59:59", "2021-01-01 00:00:00"])


@pytest.mark.parametrize(
    ("code", "last", "first"),
    [
        ("s", [0.5, 0.5, 0.5, 3 / 6 - 0.5, 0.5, 0.5], [-0.5, -0.5, -0.5, 4 / 6 - 0.5, -0.5, -0.5]),
        ("t", [0.5, 0.5, 3 / 6 - 0.5, 0.5, 0.5], [-0.5, -0.5, 4 / 6 - 0.5, -0.5, -0.5]),
        ("h", [0.5, 3 / 6 - 0.5, 0.5, 0.5], [-0.5, 4 / 6 - 0.5, -0.5, -0.5]),
        ("d", [3 / 6 - 0.5, 0.5, 0.5], [4 / 6 - 0.5, -0.5, -0.5]),
        ("b", [3 / 6 - 0.5, 0.5, 0.5], [4 / 6 - 0.5, -0.5, -0.5]),
        ("w", [0.5, 52 / 52 - 0.5], [-0.5, 52 / 52 - 0.5]),
        ("m", [0.5], [-0.5]),
        ("a", [0.5], [-0.5]),
    ],
)
def test_features_are_the_published_ones(code: str, last: list[float], first: list[float]) -> None:
    features = time_features(MOMENT, code)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, [last, first], atol=1e-6)


def test_features_of_integers_and_of_unknown_codes() -> None:
    assert (time_features(pd.Index(range(5)), "none") == np.zeros((5, 1))).all()
    assert (time_tables(pd.Index(range(5)), "none") == np.zeros((5, 4))).all()
    with pytest.raises(ValueError, match="feature code is 'x'; needs one of"):
        time_features(MOMENT, "x")


def test_features_are_of_the_local_clock() -> None:
    berlin = pd.DatetimeIndex(["2020-06-30 22:00"], tz="UTC").tz_convert("Europe/Berlin")
    assert time_tables(berlin, "t").tolist() == [[7, 1, 2, 0, 0]]
    assert time_features(berlin, "h")[0, 0] == -0.5


def test_tables_stay_inside_their_embeddings() -> None:
    quarters = pd.date_range("2020-01-01", periods=40_000, freq="15min")
    tables = time_tables(quarters, "t")
    assert tables.dtype == np.int64
    assert tables.min(axis=0).tolist() == [1, 1, 0, 0, 0]
    assert tables.max(axis=0).tolist() == [12, 31, 6, 23, 3]
    assert time_tables(quarters, "h").shape == (40_000, 4)


def test_a_calendar_is_a_plain_value() -> None:
    calendar = infer_calendar(panel(pd.date_range("2020-01-01", periods=9, freq="ME")))
    assert calendar == Calendar(
        freq="ME", season_length=12, seasons=(12,), feature_code="m", unit="month", step=1, day=31
    )
    with pytest.raises(ValueError, match="h is 0; needs at least 1"):
        calendar.future(pd.Timestamp("2020-09-30"), 0)
    with pytest.raises(ValueError, match="time is int64; needs dates"):
        calendar.ordinals(pd.Index([1, 2]))
