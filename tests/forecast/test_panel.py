"""Panels and windows: rows, times and covariates stay together, whatever is cut or added."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from forecast.series import panel_of, table, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_forecast.calendar import infer_calendar
from sigform_forecast.panel import Ints, Panel, Scaler, WindowSet, origins

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5).filter(lambda n: max(n) > 1)


def counted(lengths: list[int], covariates: bool = True) -> Panel:
    """Series of these lengths whose value in row r of series s is 100 s + r; covariates beside."""
    parts = [
        table(100.0 * s + np.arange(rows), f"s{s}", start=f"2024-01-{s + 1:02d}")
        for s, rows in enumerate(lengths)
    ]
    frame = pd.concat(parts, ignore_index=True)
    if not covariates:
        return panel_of(frame)
    frame = frame.assign(p=-frame["y"], q=frame["y"] / 10, r=frame["y"] + 0.5)
    return panel_of(frame, past=["p"], known=["q", "r"])


def assert_together(panel: Panel) -> None:
    """Every row still has the covariates and the time that it had in `counted`."""
    assert np.array_equal(panel.past[:, 0], -panel.values)
    assert np.array_equal(panel.known, np.stack([panel.values / 10, panel.values + 0.5], 1))
    series, row = np.divmod(panel.values, 100)
    expected = pd.Timestamp("2024-01-01") + pd.to_timedelta(24 * series + row, unit="h")
    assert list(panel.times) == list(expected)
    assert panel.bounds[0] == 0
    assert panel.bounds[-1] == len(panel.values) == len(panel.times) == len(panel.marks)
    assert len(panel.ids) == len(panel.bounds) - 1


def test_from_frame_keeps_rows_and_names() -> None:
    panel = counted([3, 5, 1])
    assert panel.ids == ("s0", "s1", "s2")
    assert panel.bounds.tolist() == [0, 3, 8, 9]
    assert panel.lengths.tolist() == [3, 5, 1]
    assert panel.series(1).tolist() == [100, 101, 102, 103, 104]
    assert panel.marks.shape == (9, 4)
    assert_together(panel)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop(columns="p"), "no column 'p'; needs unique_id, ds, y, p"),
        (lambda f: f.iloc[[0, 3, 1]], "not together"),
        (lambda f: f.assign(y=[0, 1, np.nan, 3]), "y of 's0' at 2024-01-01 02:00:00 is nan"),
        (lambda f: f.assign(p=[0, np.inf, 2, 3]), "p of 's0' at 2024-01-01 01:00:00 is inf"),
    ],
)
def test_from_frame_says_what_is_wrong(change: object, says: str) -> None:
    frame = pd.concat([table([0.0, 1.0, 2.0], "s0"), table([3.0], "s1")], ignore_index=True)
    frame["p"] = 1.0
    calendar = infer_calendar(frame)
    with pytest.raises(ValueError, match=says):
        Panel.from_frame(change(frame), calendar, past=["p"])  # pyright: ignore[reportCallIssue]


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, length=st.integers(1, 10))
def test_tail_takes_the_last_rows_of_each_series(lengths: list[int], length: int) -> None:
    panel = counted(lengths)
    tail = panel.tail(length)
    assert tail.ids == panel.ids
    for s in range(len(lengths)):
        assert np.array_equal(tail.series(s), panel.series(s)[-length:])
    assert_together(tail)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, data=st.data())
def test_until_takes_the_head_of_each_series(lengths: list[int], data: st.DataObject) -> None:
    ends = np.array([data.draw(st.integers(0, rows)) for rows in lengths])
    if not ends.any():
        ends[0] = 1
    panel = counted(lengths)
    head = panel.until(ends)
    left = [s for s in range(len(lengths)) if ends[s]]
    assert head.ids == tuple(panel.ids[s] for s in left)
    for n, s in enumerate(left):
        assert np.array_equal(head.series(n), panel.series(s)[: ends[s]])
    assert_together(head)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, data=st.data())
def test_rows_keeps_any_rows_and_drops_empty_series(
    lengths: list[int], data: st.DataObject
) -> None:
    panel = counted(lengths)
    size = sum(lengths)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    keep[data.draw(st.integers(0, size - 1))] = True
    kept = panel.rows(keep)
    assert np.array_equal(kept.values, panel.values[keep])
    for n, name in enumerate(kept.ids):
        assert set(kept.series(n) // 100) == {int(name[1:])}
    assert_together(kept)


@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, horizon=st.integers(1, 6))
def test_extended_adds_each_series_its_future(lengths: list[int], horizon: int) -> None:
    panel = counted(lengths)
    size = len(lengths) * horizon * 2
    known = np.linspace(1000.0, 2000.0, size).reshape(len(lengths), horizon, 2)
    longer = panel.extended(horizon, known)
    assert longer.ids == panel.ids
    assert longer.lengths.tolist() == [rows + horizon for rows in lengths]
    assert len(longer.marks) == len(longer.values)
    for s, rows in enumerate(lengths):
        begin, end = longer.bounds[s], longer.bounds[s + 1]
        assert np.array_equal(longer.values[begin : end - horizon], panel.series(s))
        assert np.isnan(longer.values[end - horizon : end]).all()
        assert np.array_equal(longer.known[end - horizon : end], known[s])
        assert not longer.past[end - horizon : end].any()
        first = pd.Timestamp("2024-01-01") + pd.Timedelta(days=s)
        expected = pd.date_range(first, periods=rows + horizon, freq="h")
        assert list(longer.times[begin:end]) == list(expected)
    old = ~np.isnan(longer.values)
    assert_together(longer.rows(old))


@pytest.mark.parametrize(
    ("freq", "start", "zone"),
    [
        ("ME", "2023-10-31", None),
        ("B", "2024-01-01", None),
        ("D", "2024-03-20", "Europe/Berlin"),
        ("h", "2024-10-26 20:00", "Europe/Berlin"),
        ("QE", "2020-03-31", None),
    ],
)
def test_extended_continues_the_calendar(freq: str, start: str, zone: str | None) -> None:
    dates = pd.date_range(start, periods=30, freq=freq, tz=zone)
    frame = pd.DataFrame({"unique_id": "a", "ds": dates, "y": np.arange(30.0)})
    longer = panel_of(frame.iloc[:20]).extended(10, np.zeros((1, 10, 0)))
    assert list(longer.times) == list(dates)
    assert longer.times.dtype == dates.dtype


def test_extended_continues_integer_times() -> None:
    frame = pd.DataFrame({"unique_id": "a", "ds": np.arange(0, 40, 4), "y": np.arange(10.0)})
    longer = panel_of(frame).extended(3, np.zeros((1, 3, 0)))
    assert longer.times.tolist() == list(range(0, 52, 4))


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, length=st.integers(1, 7), data=st.data())
def test_contexts_are_padded_where_a_series_begins(
    lengths: list[int], length: int, data: st.DataObject
) -> None:
    panel = counted(lengths, covariates=False)
    s = data.draw(st.integers(0, len(lengths) - 1))
    row = data.draw(st.integers(1, lengths[s]))
    (context,) = panel.contexts(panel.bounds[s : s + 1] + row, length)
    known = panel.series(s)[max(0, row - length) : row]
    assert np.array_equal(context[length - len(known) :], known)
    assert np.isnan(context[: length - len(known)]).all()


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, stride=st.integers(1, 4), data=st.data())
def test_origins_count_back_from_the_newest(
    lengths: list[int], stride: int, data: st.DataObject
) -> None:
    panel = counted(lengths, covariates=False)
    first = np.array([data.draw(st.integers(0, rows)) for rows in lengths])
    last = np.array([data.draw(st.integers(-2, rows - 1)) for rows in lengths])
    expected = [
        panel.bounds[s] + row
        for s in range(len(lengths))
        for row in reversed(range(last[s], first[s] - 1, -stride))
    ]
    assert origins(panel, first, last, stride).tolist() == expected


def by_hand(panel: Panel, origin: int, look_back: int, horizon: int) -> list[np.ndarray]:
    """The window of one origin, row by row."""
    s = max(n for n in range(len(panel.ids)) if panel.bounds[n] <= origin)
    rows = [max(origin + step, int(panel.bounds[s])) for step in range(-look_back, horizon)]
    values = np.array([[panel.values[r], *panel.past[r]] for r in rows[:look_back]])
    return [values, panel.marks[rows], panel.known[rows], panel.values[rows[look_back:]]]


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(3, 9), min_size=1, max_size=4),
    look_back=st.integers(1, 12),
    horizon=st.integers(1, 3),
)
def test_windows_agree_with_a_slow_loop(lengths: list[int], look_back: int, horizon: int) -> None:
    panel = counted(lengths)
    every = origins(panel, np.zeros(len(lengths), np.int64), panel.lengths - horizon)
    windows = WindowSet(panel, every, look_back, horizon)
    assert len(windows) == sum(rows - horizon + 1 for rows in lengths)
    batch = windows.__getitems__(range(len(windows)))
    for n, origin in enumerate(every):
        for part, alone, expected in zip(
            batch, windows[n], by_hand(panel, int(origin), look_back, horizon), strict=True
        ):
            assert part.dtype == torch.float32
            assert np.array_equal(part[n].numpy(), expected.astype(np.float32))
            assert torch.equal(part[n], alone)


def test_windows_at_the_start_of_a_series_repeat_its_first_row() -> None:
    panel = counted([4, 6])
    values, _, known, target = WindowSet(panel, panel.bounds[1:2] + 2, 5, 2)[0]
    assert values[:, 0].tolist() == [100, 100, 100, 100, 101]
    assert values[:, 1].tolist() == [-100, -100, -100, -100, -101]
    assert np.allclose(known[:, 0].numpy(), [10, 10, 10, 10, 10.1, 10.2, 10.3])
    assert target.tolist() == [102, 103]


def test_scaler_gives_every_series_mean_0_and_deviation_1() -> None:
    frame = tables({"a": 30, "b": 50, "c": 2})
    frame["p"] = frame["y"] * 3 - 1
    panel = panel_of(frame, past=["p"])
    scaled = Scaler.fit(panel).scale(panel)
    for s in range(3):
        assert scaled.series(s).mean() == pytest.approx(0, abs=1e-9)
        assert scaled.series(s).std() == pytest.approx(1)
    assert scaled.past.mean() == pytest.approx(0, abs=1e-9)
    assert scaled.past.std() == pytest.approx(1)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9, 1e-6, -7.3e5])
def test_what_does_not_vary_is_scaled_by_something_of_its_size(value: float) -> None:
    panel = panel_of(table(np.full(31, value)))
    scaler = Scaler.fit(panel)
    assert scaler.std[0] == (pytest.approx(abs(value)) if value else 1.0)
    assert np.abs(scaler.scale(panel).values).max() < 1e-12


def test_scaler_keeps_a_small_variation_of_large_values() -> None:
    values = 1e9 + 1e-2 * np.sin(np.arange(60.0))
    scaled = Scaler.fit(panel_of(table(values))).scale(panel_of(table(values)))
    assert scaled.values.std() == pytest.approx(1, rel=1e-3)


def test_scaler_leaves_empty_rows_empty() -> None:
    panel = panel_of(table([1.0, 2.0, 3.0]))
    longer = panel.extended(2, np.zeros((1, 2, 0)))
    scaled = Scaler.fit(panel).scale(longer)
    assert np.isnan(scaled.values).tolist() == [False, False, False, True, True]


def test_marks_follow_the_calendar_given() -> None:
    panel = panel_of(table(np.arange(8.0)))
    minutes = replace(panel, calendar=replace(panel.calendar, feature_code="t"))
    assert panel.marks.shape == (8, 4)
    assert minutes.marks.shape == (8, 5)


def ends(*rows: int) -> Ints:
    return np.array(rows, dtype=np.int64)


def test_until_and_tail_of_one_panel_meet() -> None:
    panel = counted([5, 7])
    head, tail = panel.until(ends(3, 3)), panel.tail(4)
    assert head.series(1).tolist() == [100, 101, 102]
    assert tail.series(1).tolist() == [103, 104, 105, 106]
