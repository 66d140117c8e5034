"""Tables as people have them: real files, every dialect, every fault, and bounded memory."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sigform_forecast.calendar import infer_calendar
from sigform_forecast.reading import Dialect, Table, read_table

Write = Callable[..., Path]

DAYS = pd.date_range("2020-01-01", periods=40, freq="D")
VALUES = np.round(np.sin(np.arange(40)) * 2000 + 3000.25, 2)


@pytest.fixture
def data() -> Path:
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip("SIGFORM_FIXTURES is not set: the reference data is not here")
    return Path(folder) / "data" / "forecast"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str | bytes, name: str = "table.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return put


def rows(dates: Any, values: Any, separator: str = ",", header: str | None = "date,y") -> str:
    lines = [] if header is None else [header.replace(",", separator)]
    lines += [f"{date}{separator}{value}" for date, value in zip(dates, values, strict=True)]
    return "\n".join(lines) + "\n"


def same(table: Table, stamps: Any = DAYS, values: Any = VALUES, series: str = "y") -> None:
    expected = pd.DataFrame({"unique_id": series, "ds": stamps, "y": np.asarray(values, float)})
    expected["unique_id"] = expected["unique_id"].astype(table.frame["unique_id"].dtype)
    frame = table.frame.copy()
    frame.attrs = {}
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False, check_freq=False)


def said(table: Table, part: str) -> bool:
    return any(part in note for note in table.notes)


# --- the reference files -------------------------------------------------------------------------

FILES = {
    "ETTh1": (7 * 17420, 7, "hourly", "2016-07-01 00:00", "2018-06-26 19:00", 5.827000141143799, 0),
    "ETTh2": (7 * 17420, 7, "hourly", "2016-07-01 00:00", "2018-06-26 19:00", 41.13000106811523, 0),
    "airline_monthly": (144, 1, "monthly, first day", "1949-01-01", "1960-12-01", 112, 0),
    "co2_weekly": (2284, 1, "weekly on Saturday", "1958-03-29", "2001-12-29", 316.1, 59),
    "ilinet_weekly": (11 * 1301, 11, "weekly on Sunday", "1997-10-12", "2022-10-09", 1.10148, 1735),
    "pedestrians_hourly_long": (1440, 2, "hourly", "2023-04-01", "2023-04-30 23:00", 903, 0),
    "temps_daily_min": (3650, 1, "daily", "1981-01-01", "1990-12-31", 20.7, 0),
    "us_change_quarterly": (
        935, 5, "quarterly, first day", "1970-01-01", "2016-07-01", 0.615986218, 0,
    ),
    "us_retail_sales_monthly": (293, 1, "monthly, first", "1992-01-01", "2016-05-01", 146376, 0),
    "wikipedia_peyton_manning_daily": (
        2905, 1, "daily", "2007-12-10", "2016-01-20", 9.59076113897809, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_reference_files_need_no_options(data: Path, name: str) -> None:
    count, series, calendar, first, last, value, missing = FILES[name]
    table = read_table(data / f"{name}.csv")
    frame = table.frame
    assert len(frame) == count
    assert frame["unique_id"].nunique() == series
    assert list(frame.columns) == ["unique_id", "ds", "y"]
    assert frame["y"].dtype == np.float64
    assert frame["ds"].min() == pd.Timestamp(first)
    assert frame["ds"].max() == pd.Timestamp(last)
    assert frame["y"].iloc[0] == value
    assert int(frame["y"].isna().sum()) == missing
    assert infer_calendar(frame).describe().startswith(calendar)
    assert table.layout == ("long" if name.startswith("pedestrians") else "wide")


def test_reference_values_are_those_of_the_text(data: Path) -> None:
    header, *lines = (data / "ETTh1.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    frame = read_table(data / "ETTh1.csv").frame
    for place, name in enumerate(header.split(",")[1:], 1):
        mine = frame[frame["unique_id"] == name]
        assert mine["y"].tolist() == [float(row[place]) for row in cells]
        assert mine["ds"].astype(str).tolist() == [row[0] for row in cells]


def test_reference_headers_and_dates_are_kept(data: Path) -> None:
    ili = read_table(data / "ilinet_weekly.csv")
    assert ili.targets[:2] == ["% WEIGHTED ILI", "%UNWEIGHTED ILI"]
    quarters = read_table(data / "us_change_quarterly.csv")
    assert said(quarters, "ignored the unnamed index column 1")
    assert quarters.dialect.dates(pd.DatetimeIndex(["2016-10-01"])) == ["2016 Q4"]
    days = read_table(data / "temps_daily_min.csv")
    assert said(days, "month-first")
    assert days.dialect.dates(pd.DatetimeIndex(["1991-01-02"])) == ["1/2/1991"]


# --- bytes, separators, numbers ------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(write: Write, encoding: str) -> None:
    table = read_table(write(rows(DAYS.date, VALUES, header="date,Größe"), encoding=encoding))
    same(table, series="Größe")
    assert table.dialect.encoding == encoding


def test_latin1_that_is_no_cp1252(write: Write) -> None:
    text = rows(DAYS.date, VALUES, header="date,K\x81nig")
    table = read_table(write(text, encoding="latin-1"))
    assert table.dialect.encoding == "latin-1"
    same(table, series="K\x81nig")


@pytest.mark.parametrize(
    ("separator", "shown"),
    [(",", ","), (";", ";"), ("\t", "\t"), ("|", "|"), ("   ", "whitespace"), (" ", " ")],
)
def test_separators(write: Write, separator: str, shown: str) -> None:
    table = read_table(write(rows(DAYS.date, VALUES, separator)))
    same(table)
    assert table.dialect.separator == shown


def test_ragged_blanks_align_a_table(write: Write) -> None:
    lines = ["date           y", *(f"{d}  {v:>10}" for d, v in zip(DAYS.date, VALUES, strict=True))]
    same(read_table(write("\n".join(lines), "table.txt")))


@pytest.mark.parametrize(
    ("spell", "separator", "decimal"),
    [
        (lambda v: f"{v:.2f}".replace(".", ","), ";", ","),
        (lambda v: f"{v:,.2f}".replace(",", " ").replace(".", ",").replace(" ", "."), ";", ","),
        (lambda v: f"{v:,.2f}", ";", "."),
        (lambda v: f'"{v:,.2f}"', ",", "."),
        (lambda v: f"{v:,.2f}".replace(",", " ").replace(".", ","), ";", ","),
        (lambda v: f"{v:,.2f}".replace(",", "\u00a0").replace(".", ","), ";", ","),
        (lambda v: f"{v:,.2f}".replace(",", "\u202f").replace(".", ","), "\t", ","),
        (lambda v: f"{v:,.2f}".replace(",", "'"), ";", "."),
        (lambda v: f'"{v:.2f}"'.replace(".", ","), ",", ","),
        (lambda v: f"{v:e}", ",", "."),
        (lambda v: f"+{v}", ",", "."),
        (lambda v: f"  {v}  ", ",", "."),
    ],
)
def test_decimals_and_thousands(
    write: Write, spell: Callable[[float], str], separator: str, decimal: str
) -> None:
    table = read_table(write(rows(DAYS.date, map(spell, VALUES), separator)))
    same(table)
    assert table.dialect.decimal == decimal


@pytest.mark.parametrize(
    ("spell", "sign"),
    [
        (lambda v: f"{v} %", "%"),
        (lambda v: f"{v}%", "%"),
        (lambda v: f"€ {v}", "€"),
        (lambda v: f"${v}", "$"),
        (lambda v: f"{v} EUR", "EUR"),
    ],
)
def test_units_are_stripped_and_said(
    write: Write, spell: Callable[[float], str], sign: str
) -> None:
    table = read_table(write(rows(DAYS.date, map(spell, VALUES))))
    same(table)
    assert said(table, f"stripped {sign}")


def test_negative_money_and_the_long_minus(write: Write) -> None:
    table = read_table(write(rows(DAYS.date[:4], ["−1.5", "-€2", "€-3", "4"])))
    assert table.frame["y"].tolist() == [-1.5, -2, -3, 4]


def test_three_digits_after_a_comma_are_thousands_unless_the_file_is_german(write: Write) -> None:
    cells = ["1,234", "2,345", "3,456", "4,567"]
    english = read_table(write(rows(DAYS.date[:4], cells, "\t")))
    german = read_table(write(rows(DAYS.date[:4], cells, ";")))
    assert english.frame["y"].iloc[0] == 1234
    assert german.frame["y"].iloc[0] == 1.234
    assert said(english, "assumed")
    assert said(german, "assumed")
    told = read_table(write(rows(DAYS.date[:4], cells, ";")), decimal=".")
    assert told.frame["y"].iloc[0] == 1234


def test_a_comma_after_the_sample_still_counts(write: Write) -> None:
    days = pd.date_range("1990-01-01", periods=9000, freq="D").date
    cells = [*map(str, range(8990)), *["7,5"] * 10]
    table = read_table(write(rows(days, cells, ";")))
    assert table.frame["y"].iloc[-1] == 7.5
    assert table.frame["y"].iloc[1] == 1


def test_missing_spellings_are_counted(write: Write) -> None:
    names = ["", "NA", "N/A", "nan", "null", "-", ".", "?", "#N/A", "None"]
    cells = [*names, *VALUES[10:].tolist()]
    table = read_table(write(rows(DAYS.date, cells)))
    assert table.frame["y"].isna().sum() == 10
    assert said(table, "10 missing values in 'y'")


def test_true_and_false_are_one_and_zero(write: Write) -> None:
    cells = ["True", "False"] * 20
    text = "date,y,promo\n" + "".join(
        f"{d},{v},{c}\n" for d, v, c in zip(DAYS.date, VALUES, cells, strict=True)
    )
    table = read_table(write(text), past=["promo"])
    assert table.frame["promo"].tolist() == [1.0, 0.0] * 20


# --- headers and lines above ---------------------------------------------------------------------


def test_header_missing(write: Write) -> None:
    table = read_table(write(rows(DAYS.date, VALUES, header=None)))
    same(table, series="column2")
    assert said(table, "no header: columns are named column1, column2")


@pytest.mark.parametrize(
    "above",
    ["# from the plant\n# 2020\n", "\n\n", "Plant 7\nexported 2020-05-01 by X\n\n", "sep=;\n"],
)
def test_lines_above_the_table(write: Write, above: str) -> None:
    same(read_table(write(above + rows(DAYS.date, VALUES, ";"))))


def test_titles_units_and_comments_around_the_header(write: Write) -> None:
    excel = "Report 2020;;\nUnit: kWh;;\n\nDatum;Strom;Gas\n;kWh;m³\n" + "".join(
        f"{d:%d.%m.%Y};1.000,5;{v}\n" for d, v in zip(DAYS, range(40), strict=True)
    )
    table = read_table(write(excel))
    assert table.targets == ["Strom", "Gas"]
    assert table.frame["y"].iloc[0] == 1000.5
    months = pd.date_range("1958-03-01", periods=40, freq="MS")
    noaa = "# decimal\n#  year month  y\n" + "".join(
        f"  {m.year}   {m.month:2d}   {v}\n" for m, v in zip(months, VALUES, strict=True)
    )
    same(read_table(write(noaa)), months)


def test_commented_header_and_units_line(write: Write) -> None:
    same(read_table(write("# " + rows(DAYS.date, VALUES))))
    units = rows(DAYS.date, VALUES).replace("date,y\n", "date,y\n,kWh\n")
    table = read_table(write(units))
    same(table)
    assert said(table, "units")


def test_duplicate_names_are_said(write: Write) -> None:
    text = "date,a,a\n" + "".join(f"{d},1,{v}\n" for d, v in zip(DAYS.date, VALUES, strict=True))
    table = read_table(write(text))
    assert table.targets == ["a", "a.2"]
    assert said(table, "'a' appears again")


def test_unnamed_columns(write: Write) -> None:
    frame = pd.DataFrame({"date": DAYS.date, "y": VALUES})
    table = read_table(write(frame.to_csv()))
    same(table)
    assert said(table, "ignored the unnamed index column 1")
    same(read_table(write(frame.set_index("date").to_csv(index_label=""))))
    same(read_table(write(rows(DAYS.date, [f"{v}," for v in VALUES]))))
    same(read_table(write("date,y\n" + frame.to_csv(header=False))))


def test_windows_and_old_mac_line_ends(write: Write) -> None:
    for end in ("\r\n", "\r"):
        same(read_table(write(rows(DAYS.date, VALUES).replace("\n", end))))


def test_blank_rows_are_dropped(write: Write) -> None:
    text = rows(DAYS.date, VALUES).replace("2020-01-05", "\n,\n2020-01-05") + ",\n\n"
    table = read_table(write(text))
    same(table)
    assert said(table, "dropped 2 blank rows")


# --- dates ---------------------------------------------------------------------------------------

HOURS = pd.date_range("2020-03-01 05:00", periods=40, freq="h")


@pytest.mark.parametrize(
    ("spell", "form"),
    [
        ("%Y-%m-%d", "%Y-%m-%d"),
        ("%Y/%m/%d", "%Y/%m/%d"),
        ("%d.%m.%Y", "%d.%m.%Y"),
        ("%d/%m/%Y", "%d/%m/%Y"),
        ("%m/%d/%Y", "%m/%d/%Y"),
        ("%d.%m.%y", "%d.%m.%y"),
        ("%Y%m%d", "%Y%m%d"),
        ("%d-%b-%Y", "%d-%b-%Y"),
        ("%d %B %Y", "%d %B %Y"),
        ('"%B %d, %Y"', "%B %d, %Y"),
        ('"%a, %d %b %Y"', "%a, %d %b %Y"),
        ("%Y-%m-%d 00:00:00", "%Y-%m-%d %H:%M:%S"),
    ],
)
def test_spellings_of_days(write: Write, spell: str, form: str) -> None:
    table = read_table(write(rows(DAYS.strftime(spell), VALUES)))
    same(table)
    assert table.dialect.date_format == form
    assert table.dialect.dates(DAYS) == DAYS.strftime(form).tolist()


@pytest.mark.parametrize(
    "spell",
    [
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%d %H:%M:%S.000",
        "%d.%m.%Y %H:%M",
        "%m/%d/%Y %I:%M %p",
        "%Y%m%d%H",
        "%Y%m%d%H%M",
        "%Y%m%d%H%M%S",
        "%d/%m/%y %H:%M:%S",
    ],
)
def test_spellings_of_hours(write: Write, spell: str) -> None:
    same(read_table(write(rows(HOURS.strftime(spell), VALUES))), HOURS)


@pytest.mark.parametrize(
    ("freq", "spell"),
    [
        ("MS", lambda d: f"{d:%Y-%m}"),
        ("MS", lambda d: f"{d:%Y/%m}"),
        ("MS", lambda d: f"{d:%m/%Y}"),
        ("MS", lambda d: f"{d:%b %Y}"),
        ("MS", lambda d: f"{d:%Y %b}"),
        ("MS", lambda d: f"{d:%b-%y}"),
        ("MS", lambda d: f"{d:%YM%m}"),
        ("MS", lambda d: f"{d:%Y%m}"),
        ("QS", lambda d: f"{d.year} Q{d.quarter}"),
        ("QS", lambda d: f"{d.year}Q{d.quarter}"),
        ("QS", lambda d: f"{d.year}-Q{d.quarter}"),
        ("QS", lambda d: f"Q{d.quarter} {d.year}"),
        ("YS", lambda d: f"{d.year}"),
        ("W-MON", lambda d: f"{d:%G-W%V}"),
        ("W-MON", lambda d: f"{d:%G-W%V-%u}"),
        ("W-MON", lambda d: f"{d:%G}W{d:%V}"),
    ],
)
def test_spellings_of_longer_steps(
    write: Write, freq: str, spell: Callable[[pd.Timestamp], str]
) -> None:
    stamps = pd.date_range("1990-01-01", periods=40, freq=freq)
    table = read_table(write(rows([spell(stamp) for stamp in stamps], VALUES)))
    same(table, stamps)
    assert table.dialect.dates(stamps) == [spell(stamp) for stamp in stamps]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_unix_times(write: Write, unit: str) -> None:
    numbers = HOURS.as_unit(unit).asi8  # type: ignore[arg-type]
    table = read_table(write(rows(numbers, VALUES, header="timestamp,y")))
    same(table, HOURS)
    assert table.dialect.dates(HOURS) == [str(number) for number in numbers]


def test_days_without_leading_zeros(write: Write) -> None:
    texts = [f"{d.day}/{d.month}/{d.year} {d.hour}:00" for d in HOURS + pd.Timedelta(days=20)]
    table = read_table(write(rows(texts, VALUES)))
    same(table, HOURS + pd.Timedelta(days=20))
    assert not table.dialect.padded
    day = pd.DatetimeIndex(["2020-03-02"])
    assert Dialect(date_format="%d.%m.%Y", padded=False).dates(day) == ["2.3.2020"]


def test_midnight_without_its_time(write: Write) -> None:
    texts = [f"{d:%Y-%m-%d}" if d.hour == 0 else f"{d:%Y-%m-%d %H:%M:%S}" for d in HOURS]
    same(read_table(write(rows(texts, VALUES))), HOURS)


def test_day_and_month_are_told_apart_by_evidence(write: Write) -> None:
    short = pd.date_range("2020-01-01", periods=12, freq="MS")
    monthly = pd.date_range("2020-01-01", periods=24, freq="MS")
    days = DAYS[:12]
    by_field = read_table(write(rows(DAYS.strftime("%d/%m/%Y"), VALUES)))
    same(by_field)
    by_step = read_table(write(rows(monthly.strftime("%d/%m/%Y"), VALUES[:24])))
    same(by_step, monthly, VALUES[:24])
    open_ = read_table(write(rows(short.strftime("%d/%m/%Y"), VALUES[:12])))
    assert said(open_, "assumed month-first")
    same(open_, days, VALUES[:12])
    told = read_table(write(rows(short.strftime("%d/%m/%Y"), VALUES[:12])), dayfirst=True)
    same(told, short, VALUES[:12])
    german = read_table(write(rows(short.strftime("%d.%m.%Y"), VALUES[:12])))
    assert said(german, "assumed day-first")


def test_date_format_is_obeyed(write: Write) -> None:
    path = write(rows(DAYS.strftime("%Y|%d|%m"), VALUES, ";"))
    same(read_table(path, date_format="%Y|%d|%m", time="date"))
    with pytest.raises(ValueError, match=r"line 2: time column 'date' holds '2020\|01\|01'; needs"):
        read_table(path, date_format="%Y-%m", time="date")


def test_date_and_time_in_two_columns(write: Write) -> None:
    clock = [f"{h:%d.%m.%Y};{h:%H:%M}" for h in HOURS]
    same(read_table(write(rows(clock, VALUES, ";", "Datum,Uhrzeit,y"))), HOURS)
    hours = [f"{h:%Y-%m-%d},{h.hour}" for h in HOURS]
    same(read_table(write(rows(hours, VALUES, header="date,hour,y"))), HOURS)
    ending = [f"{h:%Y-%m-%d},{h.hour + 1}" for h in HOURS]
    table = read_table(write(rows(ending, VALUES, header="date,hour,y")))
    same(table, HOURS + pd.Timedelta(hours=1))
    assert said(table, "hour 24 is midnight")
    parts = [f"{h.year},{h.month},{h.day},{h.hour}" for h in HOURS]
    same(read_table(write(rows(parts, VALUES, header="year,month,day,hour,y"))), HOURS)
    blank = [f"{h:%Y-%m-%d  %H:%M}" for h in HOURS]
    same(read_table(write(rows(blank, VALUES, "  ", "date,y"))), HOURS)


def test_midnight_as_hour_24_and_clocks_with_dots(write: Write) -> None:
    texts = [f"{day:%d.%m.%Y} {hour:02d}:00" for day in DAYS[:2] for hour in range(1, 25)]
    late = pd.date_range("2020-01-01 01:00", periods=48, freq="h")
    same(read_table(write(rows(texts, range(48)))), late, range(48))
    dots = [f"{h:%d/%m/%Y};{h:%H.%M.%S}" for h in HOURS]
    table = read_table(write(rows(dots, VALUES, ";", "Date,Time,y").replace("\n", ";;\n")))
    same(table, HOURS)


def test_two_days_of_minutes_tell_day_from_month(write: Write) -> None:
    minutes = pd.date_range("2009-01-01", periods=300, freq="10min")
    for spell in ("%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p"):
        table = read_table(write(rows(minutes.strftime(spell), range(300))))
        same(table, minutes, range(300))
        assert not said(table, "assumed")


def test_integer_steps(write: Write) -> None:
    table = read_table(write(rows(range(40), VALUES, header="step,y")))
    assert table.frame["ds"].dtype == np.int64
    same(table, np.arange(40))
    asked = read_table(write(rows(range(0, 400, 10), VALUES, header="n,y")), time="n")
    same(asked, np.arange(0, 400, 10))


# --- time zones ----------------------------------------------------------------------------------


def test_zones(write: Write) -> None:
    utc = HOURS.tz_localize("UTC")
    zulu = read_table(write(rows(HOURS.strftime("%Y-%m-%dT%H:%M:%SZ"), VALUES)))
    same(zulu, utc)
    assert said(zulu, "time zone UTC")
    fixed = read_table(write(rows(HOURS.strftime("%Y-%m-%d %H:%M:%S+02:00"), VALUES)))
    assert (fixed.frame["ds"] == utc - pd.Timedelta(hours=2)).all()
    assert fixed.frame["ds"].iloc[0].isoformat() == "2020-03-01T05:00:00+02:00"
    berlin = pd.date_range("2020-03-28 20:00", periods=40, freq="h", tz="Europe/Berlin")
    texts = [stamp.isoformat() for stamp in berlin]
    mixed = read_table(write(rows(texts, VALUES)))
    assert str(pd.DatetimeIndex(mixed.frame["ds"]).tz) == "UTC"
    assert said(mixed, "offsets +01:00, +02:00 converted to UTC")
    assert (mixed.frame["ds"] == berlin).all()
    asked = read_table(write(rows(texts, VALUES)), timezone="Europe/Berlin")
    assert str(pd.DatetimeIndex(asked.frame["ds"]).tz) == "Europe/Berlin"
    with pytest.raises(ValueError, match="timezone is 'Mars/Base'; needs a name"):
        read_table(write(rows(texts, VALUES)), timezone="Mars/Base")


def test_naive_times_are_put_into_a_zone_with_both_hours_of_autumn(write: Write) -> None:
    local = pd.date_range("2020-10-24 20:00", periods=40, freq="h", tz="Europe/Berlin")
    texts = local.strftime("%Y-%m-%d %H:%M")
    table = read_table(write(rows(texts, VALUES)), timezone="Europe/Berlin")
    assert (table.frame["ds"] == local).all()
    spring = pd.date_range("2020-03-28 20:00", periods=40, freq="h").strftime("%Y-%m-%d %H:%M")
    moved = read_table(write(rows(spring, VALUES)), timezone="Europe/Berlin")
    assert said(moved, "1 time in a spring hour")


# --- layouts -------------------------------------------------------------------------------------


def long_text(ids: list[Any], columns: dict[str, Any], name: str = "store") -> str:
    lines = [",".join(["date", name, *columns])]
    for place, series in enumerate(ids):
        for row, day in enumerate(DAYS.date):
            cells = [f"{column[row] + place}" for column in columns.values()]
            lines.append(",".join([str(day), str(series), *cells]))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("ids", "name"), [(["b", "a"], "store"), ([7, 3], "item"), (["x", "y"], "where"), ([1, 2], "n")]
)
def test_long_layouts_are_found(write: Write, ids: list[Any], name: str) -> None:
    table = read_table(write(long_text(ids, {"sold": VALUES}, name)))
    assert table.layout == "long"
    assert table.id == name
    assert table.frame["unique_id"].unique().tolist() == [str(series) for series in ids]
    assert said(table, f"long layout: id column '{name}', 2 series, target sold")
    assert table.frame["y"].iloc[40] == VALUES[0] + 1


def test_ids_keep_their_zeros_and_na_is_a_name(write: Write) -> None:
    table = read_table(write(long_text(["007", "NA"], {"sold": VALUES})))
    assert table.frame["unique_id"].unique().tolist() == ["007", "NA"]


def test_two_columns_make_an_id(write: Write) -> None:
    lines = ["date,shop,item,y"]
    for shop in "ab":
        for item in ("p", "q", "r"):
            lines += [f"{day},{shop},{item},{v}" for day, v in zip(DAYS.date, VALUES, strict=True)]
    table = read_table(write("\n".join(lines)))
    assert table.id == "shop/item"
    assert table.frame["unique_id"].unique().tolist()[:2] == ["a/p", "a/q"]


def test_numbered_rows_and_an_id_of_text_and_number(write: Write) -> None:
    lines, number = ["id,date,store_nbr,family,sales,onpromotion"], 0
    for day in DAYS.date:
        for store in (1, 10, 2):
            for family in ("AUTO", "BABY CARE"):
                lines.append(f"{number},{day},{store},{family},{number % 50}.0,0")
                number += 1
    table = read_table(write("\n".join(lines)))
    assert table.id == "family/store_nbr"
    assert table.targets == ["sales"]
    assert table.frame["unique_id"].nunique() == 6
    assert said(table, "ignored column 'id': it numbers the rows")


def test_rows_sorted_by_time_are_put_by_series(write: Write) -> None:
    lines = long_text(["b", "a"], {"sold": VALUES}).splitlines()
    mixed = [lines[0], *sorted(lines[1:])]
    table = read_table(write("\n".join(mixed)))
    assert table.frame["unique_id"].unique().tolist() == ["a", "b"]
    assert table.frame["ds"].head(40).tolist() == DAYS.tolist()
    assert table.frame.attrs["out_of_order"] == {}


def test_several_values_in_long_layout(write: Write) -> None:
    text = long_text(["b", "a"], {"price": VALUES, "weight": VALUES})
    both = read_table(write(text))
    assert both.frame["unique_id"].unique().tolist() == [
        "b/price", "a/price", "b/weight", "a/weight",
    ]  # fmt: skip
    one = read_table(write(text), target="weight", past=["price"])
    assert list(one.frame.columns) == ["unique_id", "ds", "y", "price"]
    assert one.frame["unique_id"].unique().tolist() == ["b", "a"]
    named = read_table(write(text.replace("weight", "Sales")))
    assert named.targets == ["Sales"]
    assert said(named, "not used: price")


def test_text_columns_are_ignored_and_said(write: Write) -> None:
    weather = ["sun", "rain", "snow", "fog"] * 10
    text = "date,y,weather\n" + "".join(
        f"{d},{v},{w}\n" for d, v, w in zip(DAYS.date, VALUES, weather, strict=True)
    )
    table = read_table(write(text))
    same(table)
    assert said(table, "ignored text column 'weather' (4 distinct texts)")


def test_layout_and_id_are_obeyed(write: Write) -> None:
    path = write(long_text([1, 2], {"sold": VALUES}))
    wide = read_table(path, layout="wide", target="sold")
    assert wide.frame["unique_id"].unique().tolist() == ["sold"]
    assert len(wide.frame) == 80
    with pytest.raises(ValueError, match="no column tells the series apart; needs --id"):
        read_table(write(rows(DAYS.date, VALUES)), layout="long")
    by_id = read_table(write(long_text([1, 2], {"sold": VALUES})), id="store")
    assert by_id.frame["unique_id"].nunique() == 2


def test_repeated_rows_do_not_make_a_wide_file_long(write: Write) -> None:
    text = rows([*DAYS.date, *DAYS.date], [*VALUES, *VALUES])
    table = read_table(write(text))
    assert table.layout == "wide"
    assert len(table.frame) == 80
    assert table.frame["ds"].is_monotonic_increasing


def test_covariates_and_the_known_future(write: Write) -> None:
    text = "date,y,holiday,rain\n"
    for row, day in enumerate(DAYS.date):
        y, rain = (VALUES[row], row) if row < 30 else ("", "")
        text += f"{day},{y},{row % 7 == 0:d},{rain}\n"
    table = read_table(write(text), known=["holiday"], past=["rain"])
    assert len(table.frame) == 30
    assert list(table.frame.columns) == ["unique_id", "ds", "y", "holiday", "rain"]
    assert table.future is not None
    assert list(table.future.columns) == ["unique_id", "ds", "holiday"]
    assert table.future["ds"].tolist() == DAYS[30:].tolist()
    assert table.future["holiday"].tolist() == [float(row % 7 == 0) for row in range(30, 40)]
    without = read_table(write(text), target="y")
    assert len(without.frame) == 40
    assert without.future is None


def test_future_is_cut_for_each_series(write: Write) -> None:
    lines = ["unique_id,ds,y,price"]
    for name, end in (("a", 35), ("b", 30)):
        lines += [f"{name},{d},{row if row < end else ''},2" for row, d in enumerate(DAYS.date)]
    table = read_table(write("\n".join(lines)), known=["price"])
    assert table.frame.groupby("unique_id").size().tolist() == [35, 30]
    assert table.future is not None
    assert table.future.groupby("unique_id").size().tolist() == [5, 10]


def test_newest_first_is_sorted_and_flagged(write: Write) -> None:
    table = read_table(write(rows(DAYS.date[::-1], VALUES[::-1])))
    same(table)
    assert table.frame.attrs["out_of_order"]["y"][0] == 39


# --- other sources -------------------------------------------------------------------------------


def test_gzip_streams_and_stdin(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    text = rows(DAYS.date, VALUES)
    packed = read_table(write(gzip.compress(text.encode()), "table.csv.gz"))
    same(packed)
    assert packed.dialect.gzip
    same(read_table(io.BytesIO(text.encode())))
    same(read_table(io.BytesIO(gzip.compress(text.encode("utf-16")))))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    piped = read_table("-")
    same(piped)
    assert piped.name == "stdin"


def test_parquet(tmp_path: Path, write: Write) -> None:
    frame = pd.DataFrame({"unique_id": "a", "ds": DAYS, "y": VALUES})
    frame.to_parquet(tmp_path / "t.parquet")
    same(read_table(tmp_path / "t.parquet"), series="a")
    texts = frame.assign(
        ds=DAYS.strftime("%d.%m.%Y"), unique_id=frame["unique_id"].astype("category")
    )
    texts.to_parquet(tmp_path / "u.parquet")
    same(read_table(io.BytesIO((tmp_path / "u.parquet").read_bytes())), series="a")
    indexed = frame.set_index("ds")[["y"]].tz_localize("Europe/Berlin")
    indexed.to_parquet(tmp_path / "v.parquet")
    same(read_table(tmp_path / "v.parquet"), DAYS.tz_localize("Europe/Berlin"))
    frame.assign(y=np.where(np.arange(40) == 2, np.inf, 1)).to_parquet(tmp_path / "w.parquet")
    with pytest.raises(ValueError, match="row 3: column 'y' holds 'inf'"):
        read_table(tmp_path / "w.parquet")
    listed = frame.assign(z=[[1]] * 40)
    listed.to_parquet(tmp_path / "z.parquet")
    assert said(read_table(tmp_path / "z.parquet"), "ignored column 'z' of type list")
    with pytest.raises(ValueError, match="column 'z' holds no numbers"):
        read_table(tmp_path / "z.parquet", target="z")
    with pytest.raises(ValueError, match="broken parquet"):
        read_table(write(b"PAR1 and no more of it", "x.parquet"))


# --- faults --------------------------------------------------------------------------------------

GOOD = rows(DAYS.date, VALUES)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"table.csv: is empty"),
        ("\n \n", {}, r"is empty"),
        ("date,y\n", {}, r"has a header and no rows \(date, y\)"),
        ("date,y\n2020-01-01,5\n", {}, r"holds 1 row of data; needs at least two"),
        ("a,b\n1,2\n3,4\n", {}, r"no column holds dates; needs one, or --time .*\(columns: a, b\)"),
        (GOOD, {"target": "yy"}, r"has no column 'yy'; did you mean 'y'\? \(columns: date, y\)"),
        (GOOD, {"time": "Dat"}, r"has no column 'Dat'; did you mean 'date'\?"),
        (GOOD, {"target": "y", "past": ["y"]}, r"column 'y' has 2 roles; needs one"),
        (GOOD, {"known": ["date"]}, r"no column holds dates"),
        (GOOD.replace("3000.25", "ERR"), {}, r"line 2: column 'y' holds 'ERR'; needs a number"),
        (GOOD.replace("3000.25", "inf"), {}, r"line 2: column 'y' holds 'inf'; needs a finite"),
        (GOOD.replace("3000.25", "1e999"), {}, r"line 2: column 'y' holds '1e999'; needs a"),
        (
            "\n# x\n" + GOOD.replace("2020-01-20", "2020-01-2O"), {},
            r"line 23: time column 'date' holds '2020-01-2O'; needs a date like %Y-%m-%d",
        ),
        (GOOD.replace("2020-01-20", "2020-02-31"), {}, r"line 21: .*'2020-02-31'"),
        (GOOD.replace("2020-01-20", ""), {}, r"line 21: time column 'date' is blank"),
        (GOOD.replace("2020-01-20,", "2020-01-20,1,"), {}, r"line 21: has 3 columns; needs 2"),
        (GOOD.replace("2020-01-20,", "2020-01-20"), {}, r"line 21: has 1 column; needs 2"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 20, {}, r"is a binary file"),
        (b"PK\x03\x04" + b"sheet" * 90, {}, r"is a zip or Excel file"),
        (gzip.compress(GOOD.encode() * 50)[:300], {}, r"the gzip data is broken"),
        (b"\x1f\x8b\x08\0 no gzip at all", {}, r"the gzip data is broken"),
        ('"' + GOOD, {}, r"opens a quotation mark that is never closed"),
        (GOOD, {"decimal": ";"}, r"decimal is ';'; needs '\.' or ','"),
        (GOOD, {"separator": "::"}, r"separator is '::'; needs one character"),
        (GOOD, {"encoding": "klingon"}, r"encoding is 'klingon'; needs one that Python knows"),
        (GOOD, {"layout": "tall"}, r"layout is 'tall'; needs 'wide' or 'long'"),
        (rows(DAYS.date, ["sun"] * 40), {}, r"no column holds numbers to forecast"),
        (rows(DAYS.date, ["sun"] * 40), {"target": "y"}, r"line 2: column 'y' holds 'sun'"),
        (rows(["a", *range(1, 40)], VALUES, header="step,y"), {"time": "step"}, r"line 2: .*'a'"),
        (
            "date,hour,y\n" + "".join(f"{d},1,5\n" for d in range(20000101, 20000131)) * 20
            + "20000131,99,1\n", {}, r"line 602: hour in 'date' and 'hour' is 99; needs 0 to 24",
        ),
        (rows([*DAYS.date] * 3, [*VALUES] * 3), {}, r"120 rows have 40 different times and no"),
        (long_text(["a", ""], {"y": VALUES}), {"id": "store"}, r"line 42: id column .* is blank"),
    ],
)  # fmt: skip
def test_faults_are_one_plain_line(
    write: Write, text: str | bytes, options: dict[str, Any], message: str
) -> None:
    path = write(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path, **options)
    assert "\n" not in str(caught.value)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "none.csv")


def test_a_fault_in_a_column_that_is_not_used_does_not_matter(write: Write) -> None:
    text = "date,y,z\n" + "".join(
        f"{d},{v},{'ERR' if v == VALUES[3] else 1}\n"
        for d, v in zip(DAYS.date, VALUES, strict=True)
    )
    same(read_table(write(text), target="y"))
    with pytest.raises(ValueError, match="line 5: column 'z' holds 'ERR'"):
        read_table(write(text))


def test_line_numbers_count_the_lines_of_the_file(write: Write) -> None:
    text = "made by X\n\n" + GOOD.replace("2020-01-03", '\n"2020-01-03"').replace(
        f"2020-01-30,{VALUES[29]}", "2020-01-30,bad"
    )
    lines = text.splitlines()
    with pytest.raises(ValueError, match="column 'y' holds 'bad'") as caught:
        read_table(write(text))
    number = int(str(caught.value).split("line ")[1].split(":")[0])
    assert lines[number - 1] == "2020-01-30,bad"


# --- whatever is written is read back ------------------------------------------------------------


@st.composite
def panels(draw: st.DrawFn) -> tuple[pd.DataFrame, dict[str, Any]]:
    freq, size = (
        draw(st.sampled_from(["h", "D", "W-SUN", "MS", "15min"])),
        draw(st.integers(32, 60)),
    )
    count = draw(st.integers(1, 3))
    start = draw(st.sampled_from(["1999-12-20", "2020-02-27", "2016-07-01"]))
    stamps = pd.date_range(start, periods=size, freq=freq)
    number = st.floats(-1e7, 1e7, allow_nan=False).map(lambda v: round(v, 3)) | st.just(np.nan)
    values = draw(st.lists(number, min_size=size * count, max_size=size * count))
    # Three digits after the sign in every cell would leave the decimal sign open.
    values[0] = 0.25
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat([f"série {chr(97 + n)}" for n in range(count)], size),
            "ds": np.tile(stamps, count),
            "y": values,
        }
    )
    decimal = draw(st.sampled_from([".", ","]))
    dialect = {
        "decimal": decimal,
        "sep": draw(st.sampled_from([";", "\t", "|"] + [","] * (decimal == "."))),
        "date_format": draw(
            st.sampled_from(
                ["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "%Y/%m/%d %H:%M", "%d %b %Y %H:%M",
                 "%Y-%m-%dT%H:%M"]
            )
        ),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"])),
        "quoting": draw(st.sampled_from([0, 1])),
    }  # fmt: skip
    return frame, dialect


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=panels())
def test_any_dialect_is_read_back(case: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    frame, dialect = case
    text = frame.to_csv(index=False, **dialect)
    table = read_table(io.BytesIO(text.encode(dialect["encoding"])))
    read = table.frame.copy()
    read.attrs = {}
    pd.testing.assert_frame_equal(read, frame, check_dtype=False, check_freq=False)


MARKS = "0,;.\"'\n\r\t -/:aZ%é#\0"


@settings(max_examples=100, deadline=None)
@given(
    kind=st.integers(0, 3),
    cuts=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 30), st.text(MARKS, max_size=8)),
        min_size=1, max_size=6,
    ),
)  # fmt: skip
def test_damaged_tables_are_read_or_refused_in_one_line(
    kind: int, cuts: list[tuple[int, int, str]]
) -> None:
    text = [
        GOOD,
        rows(DAYS.strftime("%d.%m.%Y"), VALUES, ";").replace(".5", ",5"),
        long_text(["a", "b"], {"y": VALUES}),
        rows(HOURS.strftime("%Y-%m-%dT%H:%M:%S+02:00"), VALUES, " "),
    ][kind]
    for start, length, new in cuts:
        text = text[:start] + new + text[start + length :]
    try:
        table = read_table(io.BytesIO(text.encode()))
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert len(table.frame) > 1
    assert not np.isinf(table.frame["y"]).any()


# --- size ----------------------------------------------------------------------------------------

MEASURE = """
import sys, threading, time
import psutil
from sigform_forecast.reading import read_table
read_table(sys.argv[2])
me, peak, stop = psutil.Process(), [0], threading.Event()
def watch():
    while not stop.is_set():
        peak[0] = max(peak[0], me.memory_info().rss)
        time.sleep(0.002)
before = me.memory_info().rss
thread = threading.Thread(target=watch)
thread.start()
begin = time.perf_counter()
frame = read_table(sys.argv[1]).frame
took = time.perf_counter() - begin
stop.set()
thread.join()
size = int(frame.memory_usage(deep=True).sum())
print(len(frame), size, peak[0] - before, took)
"""


def measured(path: Path, small: Path) -> tuple[int, int, int, float]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), str(small)], capture_output=True, check=True
    )
    count, size, peak, took = done.stdout.split()
    return int(count), int(size), int(peak), float(took)


def big_panel(path: Path, series: int) -> int:
    steps = pd.date_range("2000-01-01", periods=1000, freq="h").strftime("%Y-%m-%d %H:%M:%S")
    block = "".join(f"@,{step},{row % 97}.{row % 10}\n" for row, step in enumerate(steps))
    with path.open("w") as file:
        file.write("unique_id,ds,y\n")
        for number in range(series):
            file.write(block.replace("@", f"series_{number:05d}"))
    return series * 1000


def test_memory_is_bounded_at_300_000_rows(tmp_path: Path, write: Write) -> None:
    count = big_panel(tmp_path / "big.csv", 300)
    read, size, peak, _ = measured(tmp_path / "big.csv", write(GOOD))
    assert read == count
    # 40 MB aside for the sample and the pools of pyarrow, which do not grow with the file.
    assert peak < 4 * size + 40e6


@pytest.mark.slow
def test_two_million_rows(tmp_path: Path, write: Write) -> None:
    count = big_panel(tmp_path / "big.csv", 2000)
    read, size, peak, took = measured(tmp_path / "big.csv", write(GOOD))
    assert read == count
    assert peak < 4 * size
    assert took < 30
