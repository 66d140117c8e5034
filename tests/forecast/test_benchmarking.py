"""Our Informer in the paper's protocol: the same windows, the same errors, every row printed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from forecast.series import seasonal

from sigform_forecast.baselines import SeasonalNaive
from sigform_forecast.benchmarking import (
    Plan,
    Row,
    chosen,
    panel_of,
    run_benchmark,
    scored,
    starts_of_test,
    with_mean,
)
from sigform_forecast.protocol import Benchmark, Features, channelwise, load_benchmark
from sigform_forecast.training import Recipe

H = 6
RECIPE = Recipe(seconds=None, steps=2, batch_size=8, device="cpu")


def small(folder: Path, features: Features = "M", rows: int = 400) -> Benchmark:
    """Hourly rows of three channels with a day's season, the target in the middle of the file."""
    columns = {n: k * seasonal(rows, season=24, seed=k) for k, n in enumerate(("a", "OT", "b"), 1)}
    dates = pd.date_range("2020-01-01", periods=rows, freq="h")
    pd.DataFrame({"date": dates, **columns}).to_csv(folder / "own.csv", index=False)
    return load_benchmark(folder, "own", features)


def ett(folder: Path) -> Benchmark:
    """A year and eight months of hours in the form of ETTh1, with rows that no split uses."""
    rows = 14_500
    dates = pd.date_range("2016-07-01", periods=rows, freq="h")
    table = pd.DataFrame(
        {"date": dates, "HUFL": seasonal(rows, season=24), "OT": dates.day_of_year}
    )
    table.to_csv(folder / "ETTh1.csv", index=False)
    return load_benchmark(folder, "ETTh1", "M")


def assert_same_score(benchmark: Benchmark) -> None:
    """A baseline's errors by `scored` are those of the protocol itself."""
    panel, parts = panel_of(benchmark)
    judged = 1 if benchmark.features == "MS" else len(panel.ids)
    starts = starts_of_test(panel, parts, H, judged)
    method = SeasonalNaive(24)
    forecasts = method.predict(panel.contexts(starts, 48), H)
    row = scored("x", panel, starts, forecasts, judged, 48, began=0.0)
    expected = benchmark.evaluate(channelwise(method, H), "test", 48, H)
    assert row.mse == pytest.approx(expected.mse, rel=1e-9)
    assert row.mae == pytest.approx(expected.mae, rel=1e-9)
    assert row.windows == expected.windows


@pytest.mark.parametrize("features", ["S", "M", "MS"])
def test_windows_and_errors_are_those_of_the_protocol(features: Features, tmp_path: Path) -> None:
    assert_same_score(small(tmp_path, features))


def test_the_ett_splits_are_kept(tmp_path: Path) -> None:
    benchmark = ett(tmp_path)
    assert_same_score(benchmark)
    panel, parts = panel_of(benchmark)
    assert panel.lengths.tolist() == [20 * 720, 20 * 720]
    assert (parts.train.tolist(), parts.val.tolist()) == ([8640, 8640], [11520, 11520])
    assert panel.calendar.freq == "h"
    assert np.array_equal(panel.series(1), benchmark.values[: 20 * 720, 1])
    assert list(panel.times[20 * 720 :][:2]) == list(pd.DatetimeIndex(benchmark.times[:2]))


def rows_of(benchmark: Benchmark, plan: Plan) -> list[Row]:
    seen: list[tuple[str, int, int | None]] = []
    rows = list(run_benchmark(benchmark, plan, on_progress=lambda *now: seen.append(now)))
    stages = {stage for stage, _, _ in seen}
    assert stages == (set() if plan.resume else {f"seed {seed}" for seed in plan.seeds})
    return rows


@pytest.mark.parametrize("features", ["M", "MS"])
def test_every_row_is_there(features: Features, tmp_path: Path) -> None:
    benchmark = small(tmp_path, features)
    plan = Plan(horizon=H, d_model=8, seeds=(0, 1), recipe=RECIPE, runs=tmp_path / "runs")
    rows = rows_of(benchmark, plan)
    assert [row.method for row in rows] == [
        "SN24", "last value", "7-day profile", "yesterday's mean + 7-day profile", "NLinear",
        "profile alone", "Informer on the profile", "Informer on the profile",
    ]  # fmt: skip
    # Every test window is counted, by every method.
    assert {row.windows for row in rows} == {80 - H + 1}
    assert [row.seed for row in rows[-2:]] == [0, 1]
    assert all(row.mse < 0.5 * rows[1].mse for row in rows[-4:]), "last value is far behind"
    runs = [tmp_path / "runs" / f"own-{features}-h6-seed{seed}" for seed in plan.seeds]
    losses = [(run / "metrics.csv").read_text("utf-8") for run in runs]
    assert losses[0] != losses[1], "each seed trains its own weights"
    table = with_mean(rows)
    assert json.dumps(table)
    mean, spread = table[-2:]
    assert mean["mse"] == round(np.mean([row.mse for row in rows[-2:]]), 4)
    assert spread["mae"] == round(np.std([row.mae for row in rows[-2:]], ddof=1), 4)
    again = rows_of(benchmark, replace(plan, resume=True))
    assert [(row.mse, row.steps) for row in again] == [(row.mse, row.steps) for row in rows]


def test_informer_on_its_own(tmp_path: Path) -> None:
    plan = Plan(
        horizon=H, look_back=36, profile=False, d_model=8, seeds=(3,), recipe=RECIPE, runs=tmp_path
    )
    rows = rows_of(small(tmp_path, "S"), plan)
    assert [row.method for row in rows[-2:]] == ["NLinear", "Informer, normalised"]
    assert (rows[-1].look_back, rows[-1].seed) == (36, 3)
    assert [row["method"] for row in with_mean(rows)][-2:] == ["Informer, normalised", "mean"]


def test_published_numbers_come_first(tmp_path: Path) -> None:
    plan = Plan(horizon=24, seeds=(), recipe=RECIPE, runs=tmp_path)
    rows = run_benchmark(ett(tmp_path), plan, on_progress=lambda *_: None)
    first = next(rows)
    assert (first.method, first.mse, first.mae, first.published) == ("Informer", 0.577, 0.549, True)


def test_the_plan_is_followed(tmp_path: Path) -> None:
    panel, parts = panel_of(small(tmp_path))
    plan = Plan(horizon=H, look_back=60, season_length=12, d_model=8, recipe=RECIPE)
    config = chosen(panel, parts, plan)
    assert (config.look_back, config.horizon, config.d_model, config.d_ff) == (60, H, 8, 32)
    assert config.season_length in (1, 12)
    assert chosen(panel, parts, replace(plan, profile=False)).profile is False
    assert chosen(panel, parts, Plan(horizon=H, recipe=RECIPE)).season_length == 24
