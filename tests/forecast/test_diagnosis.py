"""Everything wrong with a panel is said, and the repair leaves a regular and finite one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_forecast.calendar import infer_calendar
from sigform_forecast.diagnosis import Diagnosis, Finding, diagnose
from sigform_forecast.repair import repair


def series(index: pd.Index, values: Any = None, name: str = "x", **covariates: Any) -> pd.DataFrame:
    y = np.sin(np.arange(len(index))) if values is None else values
    return pd.DataFrame(
        {"unique_id": name, "ds": index, "y": np.asarray(y, float), **covariates}
    ).astype({"unique_id": "str"})


def joined(*frames: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True)


def found(frame: pd.DataFrame, freq: Any = None) -> Diagnosis:
    return diagnose(frame, infer_calendar(frame, freq))


def one(diagnosis: Diagnosis, code: str) -> Finding:
    matching = [finding for finding in diagnosis.findings if finding.code == code]
    assert len(matching) == 1, [finding.message for finding in diagnosis.findings]
    return matching[0]


HOURS = pd.date_range("2020-01-01", periods=240, freq="h")
DAYS = pd.date_range("2019-01-01", periods=400, freq="D")


def test_a_clean_panel_has_no_findings_and_repair_changes_nothing() -> None:
    frame = joined(series(HOURS), series(HOURS, name="a", values=np.arange(240)))
    assert found(frame).findings == []
    repaired, lines = repair(frame, infer_calendar(frame))
    assert lines == []
    pd.testing.assert_frame_equal(repaired, frame, check_dtype=False, check_freq=False)


# --- findings ------------------------------------------------------------------------------------


def test_gaps() -> None:
    frame = series(HOURS).drop(index=[5, 6, 7, 100])
    gap = one(found(frame), "gaps")
    assert (gap.series, gap.count, gap.severity) == ("x", 4, "warning")
    assert gap.first == HOURS[4]
    assert gap.message == ("'x': 4 timestamps absent, longest run 3 after 2020-01-01 04:00:00")


def test_duplicates_with_the_same_and_with_another_value() -> None:
    frame = series(HOURS)
    again = joined(frame, frame.iloc[[3]], frame.iloc[[9]].assign(y=77.0))
    finding = one(found(again), "duplicates")
    assert finding.count == 2
    assert "1 with another value, first 2020-01-01 03:00:00" in finding.message


def test_order() -> None:
    frame = series(HOURS)
    swapped = one(found(frame.iloc[[1, 0, *range(2, 240)]]), "unordered")
    assert (swapped.count, swapped.severity) == (1, "warning")
    newest = one(found(frame.iloc[::-1]), "unordered")
    assert newest.severity == "info"
    assert "newest rows first" in newest.message
    flagged = series(DAYS)
    flagged.attrs["out_of_order"] = {"x": (3, DAYS[7])}
    assert "3 rows out of order of time, first 2019-01-08; sorted" in (
        one(found(flagged), "unordered").message
    )


def test_mixed_frequency_says_where() -> None:
    daily = pd.date_range("2020-01-11", periods=20, freq="D")
    finding = one(found(series(HOURS.append(daily))), "mixed_frequency")
    assert finding.count == 19
    assert "19 steps of 1 day instead of 1 hour, from 2020-01-11" in finding.message
    later = pd.date_range("2020-01-11", periods=30, freq="15min")
    assert (
        "steps of 15 minutes" in one(found(series(HOURS.append(later))), "mixed_frequency").message
    )
    months = pd.date_range("2000-01-01", periods=60, freq="MS")
    quarters = pd.date_range("2005-01-01", periods=12, freq="QS")
    finding = one(found(series(months.append(quarters))), "mixed_frequency")
    assert "11 steps of 3 months instead of 1 month" in finding.message


@pytest.mark.parametrize(
    ("index", "freq", "why"),
    [
        (HOURS, "D", "the commonest step is 1 hour"),
        (HOURS, "15min", "the commonest step is 1 hour"),
        (DAYS, "h", "the commonest step is 1 day"),
        (DAYS, "MS", "lie elsewhere"),
        (DAYS, "B", "114 timestamps lie elsewhere, first 2019-01-05"),
        (pd.date_range("2020-01-01", periods=60, freq="MS"), "ME", "60 timestamps lie elsewhere"),
        (pd.date_range("2020-01-01", periods=60, freq="W-MON"), "W-SUN", "60 timestamps lie"),
        (pd.date_range("2020-01-01", periods=60, freq="MS"), "QS", "the commonest step is 1 month"),
        (pd.Index(range(0, 100, 2)), 3, "the commonest step is 2"),
    ],
)
def test_wrong_declared_frequency(index: pd.Index, freq: Any, why: str) -> None:
    diagnosis = found(series(index), freq)
    finding = one(diagnosis, "wrong_frequency")
    assert finding.severity == "error"
    assert finding.message.startswith("--freq ")
    assert why in finding.message
    assert diagnosis.errors == [finding]


def test_a_fitting_declared_frequency_is_no_error() -> None:
    assert not found(series(HOURS), "h").errors
    jitter = HOURS + pd.to_timedelta(np.random.default_rng(0).integers(-300, 300, 240), unit="s")
    diagnosis = found(series(pd.DatetimeIndex(jitter)), "h")
    assert not diagnosis.errors
    assert one(diagnosis, "off_grid").count > 200


def local_hours() -> pd.DatetimeIndex:
    zoned = pd.date_range("2020-03-01", "2020-11-30", freq="h", tz="Europe/Berlin")
    return zoned.tz_localize(None)


def test_daylight_saving_is_recognised() -> None:
    diagnosis = found(series(local_hours()))
    finding = one(diagnosis, "dst")
    assert finding.count == 2
    assert "absent in spring (first after 2020-03-29 01:00:00)" in finding.message
    assert "doubled in autumn (first 2020-10-25 02:00:00)" in finding.message
    assert not diagnosis.codes() & {"gaps", "duplicates"}
    quarter = pd.date_range("2020-03-08", "2020-11-30", freq="15min", tz="America/New_York")
    finding = one(found(series(quarter.tz_localize(None))), "dst")
    assert finding.count == 5
    zoned = found(series(quarter))
    assert zoned.codes() == {"timezone"}
    assert "America/New_York" in one(zoned, "timezone").message


def test_leap_days() -> None:
    years = pd.date_range("2015-01-01", "2021-12-31", freq="D")
    february = years[~((years.month == 2) & (years.day == 29))]
    diagnosis = found(series(february))
    assert one(diagnosis, "leap_days").count == 2
    assert "gaps" not in diagnosis.codes()
    december = years[years.day_of_year != 366]
    assert one(found(series(december)), "leap_days").count == 2
    assert "leap_days" not in found(series(december.delete(50))).codes()


def test_values() -> None:
    y = np.sin(np.arange(240.0))
    holes = y.copy()
    holes[[3, 4]] = np.nan
    assert (
        "2 values missing, first 2020-01-01 03:00:00"
        in one(found(series(HOURS, holes)), "missing").message
    )
    infinite = y.copy()
    infinite[7] = -np.inf
    assert one(found(series(HOURS, infinite)), "infinite").severity == "error"
    both = joined(series(HOURS), series(HOURS, np.full(240, np.nan), "empty"))
    assert one(found(both), "all_missing").message == "'empty': no values; left out"
    assert "constant at 4" in one(found(series(HOURS, np.full(240, 4.0))), "constant").message
    sparse = np.where(np.arange(240) % 10 == 0, y, np.nan)
    diagnosis = found(series(HOURS, sparse))
    assert "only 24 values in 240 rows" in one(diagnosis, "nearly_empty").message
    assert "missing" not in diagnosis.codes()


def test_covariates() -> None:
    t = np.arange(240.0)
    gone = np.where(t < 9, np.nan, t)
    frame = series(HOURS, a=gone, b=np.nan, c=1.0, d=np.where(t == 3, np.inf, t))
    messages = [finding.message for finding in found(frame).findings]
    assert "covariate 'a': 9 values missing" in messages
    assert "covariate 'b': no values" in messages
    assert "covariate 'c': constant at 1" in messages
    assert "covariate 'd': 1 infinite value" in messages


def test_lengths() -> None:
    short = series(HOURS[:30], name="short")
    diagnosis = found(joined(series(HOURS), short))
    assert "'short': 30 values; two seasons are 48" in one(diagnosis, "too_few").message
    early = one(diagnosis, "ends_early")
    assert early.series == "short"
    assert early.first == HOURS[29]


def test_many_series_are_summed_up() -> None:
    frames = [series(HOURS, name=f"s{n}").drop(index=list(range(5, 6 + n % 7))) for n in range(60)]
    finding = one(found(joined(*frames)), "gaps")
    assert finding.series is None
    assert finding.message.startswith("60 of 60 series: ")
    assert "longest run 7" in finding.message
    assert "most in 's6' (7)" in finding.message


def test_unsuitable_panels() -> None:
    calendar = infer_calendar(series(HOURS))
    with pytest.raises(ValueError, match="no rows"):
        diagnose(series(HOURS).iloc[:0], calendar)
    with pytest.raises(ValueError, match="time is int64; needs the kind of the calendar"):
        diagnose(series(pd.Index(range(9))), calendar)
    with pytest.raises(ValueError, match="ds is blank in 1 row"):
        diagnose(series(pd.DatetimeIndex([*HOURS[:4], pd.NaT])), calendar)
    with pytest.raises(ValueError, match="no column 'y'"):
        diagnose(series(HOURS).drop(columns="y"), calendar)
    with pytest.raises(ValueError, match=r"column 'y' is .*; needs numbers"):
        diagnose(series(HOURS).astype({"y": "str"}), calendar)


# --- repair --------------------------------------------------------------------------------------


def fixed(frame: pd.DataFrame, freq: Any = None, **options: Any) -> tuple[pd.DataFrame, list[str]]:
    return repair(frame, infer_calendar(frame, freq), **options)


def test_holes_are_filled_and_counted() -> None:
    y = np.arange(240.0)
    frame = series(HOURS, y).drop(index=[5, 6, 7])
    frame.loc[9, "y"] = np.nan
    repaired, lines = fixed(frame)
    assert repaired["y"].tolist() == y.tolist()
    assert (repaired["ds"] == HOURS).all()
    assert lines == [
        "filled 4 missing values of 'x' by interpolation (longest run 3 from 2020-01-01 05:00:00)"
    ]


def test_interpolation_is_linear_in_time() -> None:
    months = pd.date_range("2019-12-01", periods=12, freq="MS")
    repaired, _ = fixed(series(months, np.arange(12.0)).drop(index=[2]))
    assert repaired["y"].iloc[2] == pytest.approx(1 + 2 * 31 / 60)


@pytest.mark.parametrize(
    ("fill", "expected"),
    [("previous", [4, 4, 4]), ("zero", [0, 0, 0]), ("seasonal", [-19, -18, -17])],
)
def test_ways_of_filling(fill: Any, expected: list[float]) -> None:
    frame = series(HOURS, np.arange(240.0) - 20).drop(index=[25, 26, 27])
    if fill == "previous":
        expected = [4.0, 4.0, 4.0]
    repaired, lines = fixed(frame, fill=fill)
    assert repaired["y"].iloc[25:28].tolist() == expected
    assert len(lines) == 1


def test_a_seasonal_gap_longer_than_a_season_goes_further_back() -> None:
    y = np.arange(240.0)
    frame = series(HOURS, y).drop(index=range(30, 90))
    repaired, _ = fixed(frame, fill="seasonal")
    filled = repaired["y"].to_numpy()
    assert filled[30:54].tolist() == y[6:30].tolist()
    assert filled[54:78].tolist() == y[6:30].tolist()
    first = series(HOURS, y).drop(index=[3])
    assert fixed(first, fill="seasonal")[0]["y"].iloc[3] == 3.0


def test_dropping_keeps_what_follows_the_last_hole() -> None:
    frame = series(HOURS).drop(index=[5, 100])
    repaired, lines = fixed(frame, fill="drop")
    assert (repaired["ds"] == HOURS[101:]).all()
    assert lines == ["dropped 101 rows of 'x': all up to its last hole"]


def test_errors_instead_of_repairs() -> None:
    with pytest.raises(ValueError, match="'x' lacks 2 values, the first at 2020-01-01 05:00:00"):
        fixed(series(HOURS).drop(index=[5, 9]), fill="error")
    doubled = joined(series(HOURS), series(HOURS[[4]]))
    with pytest.raises(ValueError, match="'x' has 2020-01-01 04:00:00 more than once"):
        fixed(doubled, duplicates="error")
    with pytest.raises(ValueError, match="no series has a value"):
        fixed(series(HOURS, np.full(240, np.nan)))
    far = pd.DatetimeIndex([*HOURS, pd.Timestamp("2090-01-01")])
    with pytest.raises(ValueError, match=r"'x' has 241 rows on 613,\d+ steps .*wrong date"):
        fixed(series(far))


@pytest.mark.parametrize(("how", "value"), [("mean", 4.5), ("first", 1.0), ("last", 8.0)])
def test_duplicates_are_merged(how: Any, value: float) -> None:
    extra = series(HOURS[[4, 4]], [np.nan, 8.0])
    base = series(HOURS)
    base.loc[4, "y"] = 1.0
    repaired, lines = fixed(joined(base, extra), duplicates=how)
    assert len(repaired) == 240
    assert repaired["y"].iloc[4] == value
    assert lines[0].startswith("merged 2 repeated rows of 'x' into ")


def test_ends_without_values_are_cut_and_said() -> None:
    y = np.arange(240.0)
    y[:3] = np.nan
    y[-2:] = np.nan
    empty = series(HOURS, np.full(240, np.nan), "empty")
    repaired, lines = fixed(joined(series(HOURS, y), empty))
    assert (repaired["ds"] == HOURS[3:-2]).all()
    assert lines == [
        "left out 'empty': no values",
        "cut 3 empty rows before the first value of 'x'",
        "cut 2 empty rows after the last value of 'x'",
    ]


def test_infinite_values_and_covariates() -> None:
    t = np.arange(240.0)
    frame = series(HOURS, np.where(t == 9, np.inf, t), a=np.where(t < 2, np.nan, t), b=np.nan)
    repaired, lines = fixed(frame)
    assert repaired["y"].iloc[9] == 9
    assert repaired["a"].iloc[:3].tolist() == [2, 2, 2]
    assert (repaired["b"] == 0).all()
    assert "took 1 infinite value of 'y' out" in lines
    assert "filled 2 missing values of covariate 'a' in 'x' by interpolation" in lines
    assert "covariate 'b' has no values in 'x': filled with 0" in lines
    assert np.isinf(frame["y"].iloc[9])


def test_late_rows_move_to_their_step_and_fine_rows_are_gathered() -> None:
    seconds = np.random.default_rng(0).integers(-300, 300, 240)
    late = pd.DatetimeIndex(HOURS + pd.to_timedelta(seconds, unit="s"))
    repaired, lines = fixed(series(late, np.arange(240.0)), "h")
    assert (repaired["ds"] == HOURS).all()
    assert repaired["y"].tolist() == list(range(240))
    assert lines[0].startswith("moved ")
    fine = pd.date_range("2020-01-01", periods=600, freq="10min")
    hourly, _ = fixed(series(fine, np.arange(600.0)), "h")
    assert hourly["y"].tolist() == (np.arange(100) * 6 + 2.5).tolist()
    ends, _ = fixed(series(pd.date_range("2020-01-01", periods=30, freq="MS")), "ME")
    assert (ends["ds"] == pd.date_range("2020-01-31", periods=30, freq="ME")).all()


def test_zones_and_series_with_their_own_phase() -> None:
    berlin = pd.date_range("2020-03-01", periods=60, freq="D", tz="Europe/Berlin")
    repaired, _ = fixed(series(berlin).drop(index=[27, 28, 29, 30]))
    assert (repaired["ds"] == berlin).all()
    sundays = pd.date_range("2020-01-05", periods=40, freq="W-SUN")
    tuesdays = pd.date_range("2020-01-07", periods=40, freq="W-TUE")
    frame = joined(series(sundays).drop(index=[7]), series(tuesdays, name="t").drop(index=[9]))
    repaired, lines = fixed(frame)
    assert repaired["ds"].tolist() == [*sundays, *tuesdays]
    assert len(lines) == 2


def test_lines_of_many_series_are_summed_up() -> None:
    frames = [series(HOURS, name=f"s{n}").drop(index=[5]) for n in range(20)]
    _, lines = fixed(joined(*frames))
    assert len(lines) == 1
    assert lines[0].startswith("filled 20 missing values of 20 of 20 series by interpolation")


@st.composite
def broken(draw: st.DrawFn) -> pd.DataFrame:
    frames = []
    freq = draw(st.sampled_from(["h", "D", "W-SUN", "MS", "ME", "B", "QE-DEC"]))
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)):
        size = draw(st.integers(20, 60))
        index = pd.date_range("2020-01-31", periods=size, freq=freq)
        cell = st.floats(-1e12, 1e12) | st.sampled_from([np.nan, np.inf])
        frame = series(index, draw(st.lists(cell, min_size=size, max_size=size)), name)
        frame.loc[size // 2, "y"] = 1.0
        gone = draw(st.sets(st.integers(1, size - 2), max_size=size // 5))
        again = draw(st.lists(st.integers(0, size - 1), max_size=3))
        frames.append(joined(frame.drop(index=sorted(gone)), frame.iloc[again]))
    frame = joined(*frames)
    order = draw(st.permutations(range(len(frame)))) if draw(st.booleans()) else range(len(frame))
    return frame.iloc[list(order)]


@settings(max_examples=50, deadline=None)
@given(
    frame=broken(),
    fill=st.sampled_from(["interpolate", "previous", "zero", "seasonal", "drop"]),
    duplicates=st.sampled_from(["mean", "first", "last"]),
)
def test_repaired_panels_are_regular_finite_and_keep_what_was_there(
    frame: pd.DataFrame, fill: Any, duplicates: Any
) -> None:
    calendar = infer_calendar(frame)
    before = frame.copy()
    diagnose(frame, calendar)
    repaired, lines = repair(frame, calendar, fill=fill, duplicates=duplicates)
    pd.testing.assert_frame_equal(frame, before)
    assert np.isfinite(repaired["y"]).all()
    assert not diagnose(repaired, calendar).codes() & {
        "gaps", "duplicates", "unordered", "off_grid", "missing", "infinite", "all_missing",
    }  # fmt: skip
    for _, rows in repaired.groupby("unique_id", sort=False):
        first, last = rows["ds"].iloc[0], rows["ds"].iloc[-1]
        assert (pd.Index(rows["ds"]) == calendar.grid(first, last)).all()
    kept = frame[~frame.duplicated(["unique_id", "ds"], keep=False) & np.isfinite(frame["y"])]
    both = kept.merge(repaired, on=["unique_id", "ds"], how="left", suffixes=("", "_new"))
    if fill != "drop":
        assert (both["y"] == both["y_new"]).all()
    else:
        there = both["y_new"].notna()
        assert (both["y"] == both["y_new"])[there].all()
    if len(repaired) != len(frame):
        assert lines


def test_a_thousand_series_are_quick() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat([f"s{n}" for n in range(1000)], 500),
            "ds": np.tile(pd.date_range("2020-01-01", periods=500, freq="D"), 1000),
            "y": rng.normal(size=500_000),
        }
    ).sample(frac=0.95, random_state=1)
    begin = time.process_time()
    calendar = infer_calendar(frame)
    diagnose(frame, calendar)
    repaired, _ = repair(frame, calendar)
    assert np.isfinite(repaired["y"]).all()
    assert time.process_time() - begin < 8


@pytest.mark.slow
def test_two_million_rows_in_one_series() -> None:
    index = pd.date_range("2000-01-01", periods=2_000_000, freq="min")
    frame = series(index).drop(index=range(1000, 100_000, 7))
    begin = time.process_time()
    calendar = infer_calendar(frame)
    assert one(diagnose(frame, calendar), "gaps").count == len(range(1000, 100_000, 7))
    repaired, _ = repair(frame, calendar)
    assert (repaired["ds"] == index).all()
    assert time.process_time() - begin < 30
