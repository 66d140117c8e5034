"""Measuring on a file's own tail: what is held out, which windows, and the scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from forecast.series import panel_of, table, tables
from hypothesis import given
from hypothesis import strategies as st

from sigform_forecast.backtest import (
    MOST_WINDOWS,
    Backtest,
    best_season,
    interval_columns,
    plan_parts,
    seasonal_scales,
    tail_origins,
)


@given(lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=6), horizon=st.integers(1, 400))
def test_parts_follow_each_other(lengths: list[int], horizon: int) -> None:
    rows = np.array(lengths)
    if rows.max() < horizon + 2:
        with pytest.raises(ValueError, match=f"horizon is {horizon} rows and the longest series"):
            plan_parts(rows, horizon)
        return
    parts = plan_parts(rows, horizon)
    test, val = rows - parts.val, parts.val - parts.train
    enough = rows >= horizon + 2
    # Who is too short for a window keeps all rows; the others can make one and leave two rows.
    assert (test[~enough] == 0).all()
    assert (test[enough] >= horizon).all()
    assert (parts.val >= np.minimum(rows, 2)).all()
    assert (test <= np.maximum(0.35 * rows, horizon)).all()
    assert (test < horizon + MOST_WINDOWS).all()
    assert ((val == 0) | (val >= horizon)).all()
    assert ((val == 0) | (parts.train >= 2 * horizon)).all()


def test_long_series_hold_out_their_share() -> None:
    parts = plan_parts(np.array([400, 10_000]), 24)
    assert parts.val.tolist() == [400 - 80, 10_000 - 24 - MOST_WINDOWS + 1]
    assert parts.train[0] == 320 - 60


def test_tail_windows_are_all_or_evenly_thinned() -> None:
    panel = panel_of(tables({"a": 200, "b": 80, "c": 4}))
    parts = plan_parts(panel.lengths, 4)
    every = tail_origins(panel, parts, 4)
    expected = [
        panel.bounds[s] + row
        for s in range(2)
        for row in range(parts.val[s], panel.lengths[s] - 4 + 1)
    ]
    assert every.tolist() == expected
    thin = tail_origins(panel, parts, 4, most=12)
    assert set(thin) <= set(every)
    assert 8 <= len(thin) <= 14
    assert {panel.bounds[1] - 4, panel.bounds[2] - 4} <= set(thin)  # the newest of each


def two_methods() -> Backtest:
    """Two windows of two steps; `good` errs by 1 and -1, `bad` by 4."""
    truth = np.array([[10.0, 20.0], [30.0, 40.0]])
    return Backtest(
        ids=("a", "b"),
        series=np.array([0, 1]),
        starts=np.array([5, 7]),
        cutoffs=pd.Index([4, 6]),
        times=pd.Index([5, 6, 7, 8]),
        truth=truth,
        scale=np.array([1.0, 4.0]),
        forecasts={"bad": truth - 4.0, "good": truth - np.array([[1.0], [-1.0]])},
    )


def test_scores_are_those_of_hand() -> None:
    good, bad = two_methods().scores([80])
    assert (good.name, bad.name) == ("good", "bad")
    assert (good.mae, good.rmse, good.mase) == (1.0, 1.0, pytest.approx((1 + 0.25) / 2))
    assert (bad.mae, bad.rmse, bad.mase) == (4.0, 4.0, pytest.approx((4 + 1) / 2))
    assert set(good.coverage) == {80}


def test_a_single_start_measures_no_coverage() -> None:
    backtest = replace(two_methods(), starts=np.array([5, 5]))
    assert backtest.coverage("good", [80]) is None
    assert backtest.scores([80])[0].coverage == {}


def test_the_table_names_each_row() -> None:
    frame = two_methods().frame()
    assert frame.to_dict("list") == {
        "unique_id": ["a", "a", "b", "b"],
        "ds": [5, 6, 7, 8],
        "cutoff": [4, 4, 6, 6],
        "y": [10.0, 20.0, 30.0, 40.0],
    }


def test_columns_have_the_names_of_nixtla() -> None:
    forecast = np.array([[1.0, 2.0]])
    bounds = {80: (forecast - 1, forecast + 1), 95: (forecast - 2, forecast + 2)}
    columns = interval_columns("M", forecast, bounds)
    assert list(columns) == ["M", "M-lo-95", "M-lo-80", "M-hi-80", "M-hi-95"]
    assert columns["M-lo-95"].tolist() == [-1.0, 0.0]


def test_seasonal_scales_read_the_rows_before_the_end_only() -> None:
    panel = panel_of(pd.concat([table([0.0, 1, 2, 3, 100]), table([5.0, 5, 5, 9, 9], "b")]))
    assert seasonal_scales(panel, np.array([4, 3]), 1).tolist() == [1.0, 5.0]
    assert seasonal_scales(panel, np.array([4, 4]), 2).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("season", [24, 168])
def test_the_season_that_repeats_is_found(season: int) -> None:
    rng = np.random.default_rng(season)
    pattern = rng.normal(size=season)
    rows = 1200
    values = np.tile(pattern, rows // season + 1)[:rows] + 0.1 * rng.normal(size=rows)
    panel = panel_of(table(values))
    assert best_season(panel, plan_parts(panel.lengths, 24)) == season


def test_the_held_out_rows_have_no_say_in_the_season() -> None:
    """A week's pattern in the rows that may be seen, a day's in those that may not."""
    rng = np.random.default_rng(0)
    values = np.tile(rng.normal(size=168), 8)[:1200]
    panel = panel_of(table(values))
    parts = plan_parts(panel.lengths, 24)
    values[parts.val[0] :] = np.tile(100 * rng.normal(size=24), 50)[: 1200 - parts.val[0]]
    assert best_season(panel_of(table(values)), parts) == 168


def test_few_rows_keep_the_season_of_the_calendar() -> None:
    panel = panel_of(table(np.arange(40.0)))
    assert best_season(panel, plan_parts(panel.lengths, 2)) == 24
