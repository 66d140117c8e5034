"""`Forecaster` on what people have: many series, odd calendars, covariates, flat or huge values."""

from __future__ import annotations

import signal
import time
import tracemalloc
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from forecast.series import seasonal, table, tables, walk

from sigform_core.training import TrainingInterrupted
from sigform_forecast.baselines import NLinear
from sigform_forecast.fitting import planned
from sigform_forecast.forecaster import Forecaster
from sigform_forecast.settings import INFORMER, MODELS, Settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a docstring of theirs has an invalid escape
    from utilsforecast.evaluation import evaluate
    from utilsforecast.losses import coverage, mae, mase

INTERVALS = ["lo-95", "lo-80", "hi-80", "hi-95"]


def fit(
    frame: pd.DataFrame,
    h: int = 4,
    *,
    steps: int | None = 2,
    budget: float | None = 0.01,
    **how: Any,
) -> Forecaster:
    """Small and exact: two steps of a tiny network, and no time for AutoETS."""
    forecaster = Forecaster(
        h, steps=steps, budget=budget, d_model=8, batch_size=8, device="cpu", **how
    )
    return forecaster.fit(frame)


def fit_informer(frame: pd.DataFrame, **how: Any) -> Forecaster:
    """Enough for weights that validation keeps, on `spiky`."""
    return fit(frame, model=INFORMER, steps=4, learning_rate=1e-2, **how)


def assert_intervals(forecast: pd.DataFrame, model: str) -> None:
    """All finite, and the wider interval holds the narrower one, which holds the forecast."""
    columns = [f"{model}-lo-95", f"{model}-lo-80", model, f"{model}-hi-80", f"{model}-hi-95"]
    values = forecast[columns].to_numpy()
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=1) >= 0).all()


@pytest.fixture(scope="module")
def two() -> pd.DataFrame:
    """Two hourly series, 240 and 150 rows, on different levels."""
    return tables({"a": 240, "b": 150})


@pytest.fixture(scope="module")
def fitted(two: pd.DataFrame) -> Forecaster:
    return fit(two, model=INFORMER)


@pytest.fixture(scope="module")
def spiky(two: pd.DataFrame) -> pd.DataFrame:
    """Two series with a spike a day whose height no profile knows."""
    height = 10 + 10 * np.random.default_rng(0).random(len(two))
    return two.assign(y=two["y"] + np.where(two["ds"].dt.hour == 5, height, 0.0))


@pytest.fixture(scope="module")
def trained(spiky: pd.DataFrame) -> Forecaster:
    """A forecast in which Informer has a say."""
    forecaster = fit_informer(spiky)
    assert forecaster.report_.informer_steps
    return forecaster


# Nixtla's form.


def test_predict_continues_every_series(fitted: Forecaster, two: pd.DataFrame) -> None:
    forecast = fitted.predict()
    assert list(forecast) == ["unique_id", "ds", INFORMER, *(f"{INFORMER}-{i}" for i in INTERVALS)]
    assert forecast["unique_id"].tolist() == ["a"] * 4 + ["b"] * 4
    expected = pd.date_range(two["ds"].max(), periods=5, freq="h")[1:]
    assert forecast["ds"].tolist() == list(expected) * 2
    assert forecast["ds"].dtype == two["ds"].dtype
    assert_intervals(forecast, INFORMER)
    levels = forecast.groupby("unique_id")[INFORMER].mean()
    assert abs(levels["a"] - 10) < 2
    assert abs(levels["b"] - 110) < 2


def test_two_fits_with_the_same_seed_agree(trained: Forecaster, spiky: pd.DataFrame) -> None:
    again = fit_informer(spiky)
    pd.testing.assert_frame_equal(trained.predict(), again.predict())
    assert not fit_informer(spiky, seed=1).predict().equals(again.predict())


def test_steps_are_exact_whatever_the_budget(trained: Forecaster, spiky: pd.DataFrame) -> None:
    for budget in (1e-6, 1.0):
        other = fit_informer(spiky, budget=budget)
        pd.testing.assert_frame_equal(other.predict(), trained.predict())


def test_steps_know_no_time() -> None:
    began = time.perf_counter()
    assert planned(Settings(h=3, steps=7, budget=60.0), began, 0.5).seconds is None
    assert planned(Settings(h=3, budget=60.0), began, 0.5).seconds == pytest.approx(30, abs=1)


def test_informer_is_saved_with_its_weights(
    trained: Forecaster, spiky: pd.DataFrame, tmp_path: Path
) -> None:
    trained.save(tmp_path / "m")
    loaded = Forecaster.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(), trained.predict())
    pd.testing.assert_frame_equal(loaded.predict(spiky), trained.predict(spiky))


@pytest.mark.parametrize("model", MODELS)
def test_every_model_by_its_name(two: pd.DataFrame, model: str, tmp_path: Path) -> None:
    forecaster = fit(two, model=model, budget=60.0 if model == "AutoETS" else 0.01)
    assert forecaster.model_ == model
    assert not forecaster.report_.chosen
    forecast = forecaster.predict()
    assert_intervals(forecast, model)
    names = {score.name for score in forecaster.report_.scores}
    assert names == set(MODELS) - ({INFORMER, "AutoETS"} - {model})
    forecaster.save(tmp_path / "model.safetensors")
    loaded = Forecaster.load(tmp_path / "model.safetensors")
    pd.testing.assert_frame_equal(loaded.predict(), forecast)
    pd.testing.assert_frame_equal(loaded.predict(two), forecast)


def test_auto_takes_the_winner() -> None:
    forecaster = fit(table(walk(120)), model="auto", budget=60.0)
    scores = forecaster.report_.scores
    assert {score.name for score in scores} == set(MODELS)
    assert forecaster.model_ == scores[0].name == min(scores, key=lambda s: s.mase).name
    assert forecaster.report_.chosen
    assert f"{forecaster.model_}-hi-95" in forecaster.predict()


def test_a_simple_method_wins_where_it_should() -> None:
    pattern = np.random.default_rng(0).normal(size=24)
    forecaster = fit(table(np.tile(pattern, 12)), model="auto")
    assert forecaster.report_.scores[0].mase < 1e-3
    forecast = forecaster.predict()[forecaster.model_]
    assert np.allclose(forecast, pattern[:4], atol=1e-3)


# Cross-validation.


def test_cross_validation_works_with_utilsforecast(fitted: Forecaster, two: pd.DataFrame) -> None:
    table_ = fitted.cross_validation()
    assert list(table_)[:4] == ["unique_id", "ds", "cutoff", "y"]
    merged = table_.merge(two, on=["unique_id", "ds"], suffixes=("", "_true"))
    assert len(merged) == len(table_)
    assert (merged["y"] == merged["y_true"]).all()
    steps = (table_["ds"] - table_["cutoff"]) / pd.Timedelta(hours=1)
    assert steps.tolist() == [1, 2, 3, 4] * (len(table_) // 4)
    score = evaluate(table_.drop(columns="cutoff"), [mae], models=[INFORMER], agg_fn="mean")
    own = next(s for s in fitted.report_.scores if s.name == INFORMER)
    each = (table_["y"] - table_[INFORMER]).abs().mean()
    assert own.mae == pytest.approx(each)
    assert score[INFORMER][0] == pytest.approx(
        (table_["y"] - table_[INFORMER]).abs().groupby(table_["unique_id"]).mean().mean()
    )
    covered = evaluate(table_.drop(columns="cutoff"), [coverage], models=[INFORMER], level=[80, 95])
    assert covered[INFORMER].between(0.5, 1).all()
    relative = evaluate(
        table_.drop(columns="cutoff"), [partial(mase, seasonality=24)], models=[INFORMER],
        train_df=two,
    )  # fmt: skip
    assert np.isfinite(relative[INFORMER]).all()


def test_cross_validation_of_given_rows_is_a_fit_before_them(two: pd.DataFrame) -> None:
    forecaster = fit(two, model="NLinear")
    before, notes = forecaster.predict(), list(forecaster.notes_)
    found = forecaster.cross_validation(two.drop(index=[30, 31]), n_windows=3, step_size=2)
    assert len(found) == 2 * 3 * 4
    for name, part in found.groupby("unique_id"):
        rows = two[two["unique_id"] == name]
        cutoffs = part["cutoff"].unique()
        assert list(cutoffs) == list(rows["ds"].iloc[[-9, -7, -5]])
        # The first window is the forecast of a model that saw the rows before it and no others.
        known = two[two["ds"] <= cutoffs[0]]
        alone = fit(known.drop(index=[30, 31]), model="NLinear").predict()
        first = part[part["cutoff"] == cutoffs[0]]
        expected = alone[alone["unique_id"] == name]
        for column in ("ds", "NLinear", *(f"NLinear-{i}" for i in INTERVALS)):
            assert first[column].tolist() == expected[column].tolist()
    pd.testing.assert_frame_equal(forecaster.predict(), before)
    assert forecaster.notes_ == notes


def test_cross_validation_says_what_it_needs(fitted: Forecaster, two: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="shortest series has 150 rows; 40 windows of 4 rows"):
        fitted.cross_validation(two, n_windows=40)
    with pytest.raises(ValueError, match="n_windows is 0"):
        fitted.cross_validation(two, n_windows=0)


# Calendars.


@pytest.mark.parametrize(
    ("freq", "start", "zone"),
    [
        ("ME", "2010-01-31", None),
        ("B", "2023-01-02", None),
        ("QE", "1990-03-31", None),
        ("W-WED", "2022-01-05", None),
        ("30min", "2024-03-29", "Europe/Berlin"),
        ("h", "2024-10-18 23:00", "Europe/Berlin"),
        ("D", "2023-12-10", "America/New_York"),
    ],
)
def test_dates_continue_the_calendar(
    freq: str, start: str, zone: str | None, tmp_path: Path
) -> None:
    dates = pd.date_range(start, periods=206, freq=freq, tz=zone)
    frame = pd.DataFrame({"unique_id": "a", "ds": dates, "y": seasonal(206)})
    forecaster = fit(frame.iloc[:200], 6, model="SeasonalNaive")
    forecast = forecaster.predict()
    assert forecast["ds"].tolist() == list(dates[200:])
    assert forecast["ds"].dtype == dates.dtype
    forecaster.save(tmp_path / "m")
    pd.testing.assert_frame_equal(Forecaster.load(tmp_path / "m").predict(), forecast)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_resolution_of_the_times_is_kept(unit: str, tmp_path: Path) -> None:
    frame = table(seasonal(60), freq="D")
    frame["ds"] = frame["ds"].dt.as_unit(unit)  # pyright: ignore[reportAttributeAccessIssue]
    forecaster = fit(frame, model="LastValue")
    assert forecaster.predict()["ds"].dtype == f"datetime64[{unit}]"
    forecaster.save(tmp_path / "m")
    pd.testing.assert_frame_equal(Forecaster.load(tmp_path / "m").predict(), forecaster.predict())


def test_integer_times_and_names(tmp_path: Path) -> None:
    parts = [
        pd.DataFrame({"unique_id": n, "ds": np.arange(0, 400, 4) + 8 * n, "y": seasonal(100)})
        for n in (7, 3)
    ]
    forecaster = fit(pd.concat(parts), model=INFORMER, season_length=12)
    forecast = forecaster.predict()
    assert forecast["ds"].tolist() == [456, 460, 464, 468, 424, 428, 432, 436]
    assert forecast["unique_id"].tolist() == [7, 7, 7, 7, 3, 3, 3, 3]
    assert (
        forecast["unique_id"].dtype == forecaster.cross_validation()["unique_id"].dtype == "int64"
    )
    assert forecaster.report_.season_length == 12
    forecaster.save(tmp_path / "m")
    pd.testing.assert_frame_equal(Forecaster.load(tmp_path / "m").predict(), forecast)


def test_text_dates_are_read() -> None:
    frame = table(seasonal(60), freq="D")
    text = frame.assign(ds=frame["ds"].dt.strftime("%Y-%m-%d"))
    pd.testing.assert_frame_equal(
        fit(text, model="LastValue").predict(), fit(frame, model="LastValue").predict()
    )


# Units and values.


@pytest.mark.parametrize("model", [INFORMER, "NLinear", "SeasonalProfile"])
@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_forecasts_scale_with_the_series(
    fitted: Forecaster, two: pd.DataFrame, model: str, factor: float
) -> None:
    plain = fitted if model == INFORMER else fit(two, model=model)
    scaled = fit(two.assign(y=factor * two["y"]), model=model)
    expected, got = plain.predict(), scaled.predict()
    for column in list(expected)[2:]:
        spread = expected[column].std()
        assert np.allclose(got[column] / factor, expected[column], atol=2e-3 * spread, rtol=0)


def test_series_of_all_lengths_and_scales() -> None:
    frame = tables({"long": 200, "short": 12, "pair": 2, "one": 1})
    frame["y"] *= frame["unique_id"].map({"long": 1.0, "short": 1e-5, "pair": 1e6, "one": -1e3})
    for model in (INFORMER, "auto"):
        forecaster = fit(frame, model=model)
        forecast = forecaster.predict()
        assert forecast["unique_id"].unique().tolist() == ["long", "short", "pair", "one"]
        assert_intervals(forecast, forecaster.model_)
        last = frame.groupby("unique_id", sort=False)["y"].last()
        for name, part in forecast.groupby("unique_id"):
            values = frame.loc[frame["unique_id"] == name, "y"]
            room = 5 * values.std() if len(values) > 1 else 0.1 * abs(last[name])
            assert (part[forecaster.model_] - last[name]).abs().max() < room, name


@pytest.mark.parametrize("value", [0.0, 5.0, 0.3, -2e9, 1e-6])
@pytest.mark.parametrize("model", ["auto", INFORMER])
def test_a_constant_series_stays_constant(value: float, model: str) -> None:
    forecaster = fit(table(np.full(120, value)), model=model)
    assert forecaster.model_ == ("LastValue" if model == "auto" else model), "simplest of equals"
    forecast = forecaster.predict()
    assert np.allclose(forecast[forecaster.model_], value, rtol=1e-6, atol=0)
    assert_intervals(forecast, forecaster.model_)
    assert forecaster.report_.text()


def test_a_constant_series_beside_others() -> None:
    frame = pd.concat([tables({"a": 200}), table(np.full(200, 1e-6), "flat")])
    forecast = fit(frame, model=INFORMER, learning_rate=0.05).predict()
    flat = forecast[forecast["unique_id"] == "flat"]
    assert np.allclose(flat[INFORMER], 1e-6, rtol=0.05)


def test_large_values_with_little_variation() -> None:
    values = 1e9 + 0.01 * np.sin(np.arange(240) * 2 * np.pi / 24)
    forecaster = fit(table(values), model=INFORMER)
    expected = 1e9 + 0.01 * np.sin(np.arange(240, 244) * 2 * np.pi / 24)
    assert np.abs(forecaster.predict()[INFORMER] - expected).max() < 0.002


@pytest.mark.parametrize("model", ["auto", INFORMER, "NLinear"])
def test_counts_are_never_below_zero(model: str) -> None:
    rng = np.random.default_rng(0)
    sold = rng.poisson(np.where(np.arange(300) % 24 < 12, 0.1, 3.0))
    sold[-6:] = 0
    forecaster = fit(table(sold), model=model)
    for found in (forecaster.predict(), forecaster.cross_validation()):
        columns = [name for name in found if str(name).startswith(forecaster.model_)]
        assert (found[columns] >= 0).all(axis=None)
    assert_intervals(forecaster.predict(), forecaster.model_)


def test_values_below_zero_stay_so() -> None:
    forecast = fit(table(seasonal(200) - 10), model="LastValue").predict()
    assert (forecast["LastValue-lo-95"] < 0).all()


def test_a_95_per_cent_interval_covers_about_95_per_cent() -> None:
    """200 series of a season and noise: the share of the next rows inside each interval."""
    rng = np.random.default_rng(0)
    rows, h, count = 90, 4, 200
    truth = np.sin(np.arange(rows + h) * 2 * np.pi / 24) + rng.normal(size=(count, rows + h))
    frame = pd.concat([table(truth[n, :rows], f"s{n}") for n in range(count)], ignore_index=True)
    forecaster = fit(frame, h, model="SeasonalProfile")
    forecast = forecaster.predict()
    for level in (80, 95):
        low = forecast[f"SeasonalProfile-lo-{level}"].to_numpy().reshape(count, h)
        high = forecast[f"SeasonalProfile-hi-{level}"].to_numpy().reshape(count, h)
        share = ((truth[:, rows:] >= low) & (truth[:, rows:] <= high)).mean()
        assert abs(100 * share - level) < 4
        used = next(s for s in forecaster.report_.scores if s.name == "SeasonalProfile")
        assert abs(100 * used.coverage[level] - level) < 4


# Lengths.


def test_a_horizon_longer_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="horizon is 30 rows and the longest series has 20"):
        fit(table(seasonal(20)), 30)


def test_a_long_look_back_is_shortened_and_said() -> None:
    forecaster = fit(table(seasonal(100)), model=INFORMER, look_back=500)
    assert forecaster.report_.look_back is not None
    assert forecaster.report_.look_back < 100
    says = f"the look-back was shortened from 500 to {forecaster.report_.look_back} rows"
    assert any(note.startswith(says) for note in forecaster.report_.notes)


def test_too_few_rows_for_informer_leave_it_out() -> None:
    forecaster = fit(table(seasonal(9)), 2, model="auto")
    assert forecaster.model_ != INFORMER
    assert any(note.startswith("Informer was left out") for note in forecaster.report_.notes)
    assert len(forecaster.predict()) == 2
    with pytest.raises(ValueError, match="9 rows leave no training and validation window"):
        fit(table(seasonal(9)), 2, model=INFORMER)


def test_a_look_back_beyond_all_baselines_is_read_whole() -> None:
    """What predicts must be what was measured: all rows of the look-back, not the last 4096."""
    forecaster = fit(table(seasonal(60)), 1, model=INFORMER, look_back=30)
    assert forecaster.fitted.context >= 30
    assert len(forecaster.fitted.tail.values) >= 30


def test_a_season_of_the_users_own() -> None:
    pattern = np.random.default_rng(1).normal(size=10)
    values = np.tile(pattern, 20)
    forecaster = fit(table(values), model="SeasonalNaive", season_length=10)
    assert np.allclose(forecaster.predict()["SeasonalNaive"], pattern[:4])
    assert forecaster.calendar_.season_length == 10


# Other rows and series than those of the fit.


def test_predict_from_newer_rows_and_new_series(fitted: Forecaster, two: pd.DataFrame) -> None:
    later = two.assign(ds=two["ds"] + pd.Timedelta(hours=24))
    moved = fitted.predict(later)
    expected = fitted.predict()
    assert moved["ds"].tolist() == list(expected["ds"] + pd.Timedelta(hours=24))
    new = pd.concat([two, table(1e5 * seasonal(240, seed=9), "new"), table([3.0, 4.0], "tiny")])
    forecast = fitted.predict(new)
    assert forecast["unique_id"].unique().tolist() == ["a", "b", "new", "tiny"]
    assert_intervals(forecast, INFORMER)
    pd.testing.assert_frame_equal(forecast.iloc[:8], expected)
    found = forecast.loc[forecast["unique_id"] == "new", INFORMER]
    assert found.between(8e5, 12e5).all()
    width = (forecast[f"{INFORMER}-hi-80"] - forecast[f"{INFORMER}-lo-80"]).to_numpy()
    assert 1e4 < (width[8:12] / width[:4]).mean() < 1e6


def test_predict_of_one_series_is_that_of_many(fitted: Forecaster, two: pd.DataFrame) -> None:
    alone = fitted.predict(two[two["unique_id"] == "b"])
    both = fitted.predict(two)
    assert np.allclose(alone[INFORMER], both.loc[4:, INFORMER], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop(columns="y"), "no column 'y'; needs unique_id, ds, y"),
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: f.assign(ds=range(len(f))), "integer steps of 1.*fitted on hourly"),
        (lambda f: f.assign(ds=f["ds"].dt.normalize() + (f["ds"] - f["ds"].min()) * 23.9 // 1),
         "needs"),
        (lambda f: f.iloc[::2], "every 2 hours.*fitted on hourly.*needs the same"),
        (lambda f: f.assign(y="much"), "y has no numbers"),
        (lambda f: f.assign(ds="soon"), "ds has no times"),
        (lambda f: f.assign(ds=0.5), "ds has fractions"),
        (lambda f: f.assign(unique_id=None), "unique_id is blank in some rows"),
        (lambda f: f.assign(y=np.nan), "no series has a value"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_gets_one_line(
    fitted: Forecaster, two: pd.DataFrame, change: Callable[[pd.DataFrame], pd.DataFrame], says: str
) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        fitted.predict(change(two))
    assert "\n" not in str(caught.value)


def test_a_frequency_that_does_not_fit_is_refused(two: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="--freq D does not fit: the commonest step is 1 hour"):
        fit(two, freq="D")


def test_gaps_and_repeats_are_repaired_and_told(two: pd.DataFrame) -> None:
    broken = pd.concat([two.drop(index=[10, 11, 200]), two.iloc[[5]]])
    broken.loc[20, "y"] = np.inf
    forecaster = fit(broken, model="NLinear")
    assert len(forecaster.predict()) == 8
    said = " ".join(forecaster.notes_)
    assert "3 timestamps absent" in said
    assert "filled" in said
    assert "merged 1 repeated row" in said
    assert "infinite" in said
    assert set(forecaster.notes_) <= set(forecaster.report_.notes)


def test_nothing_is_predicted_before_a_fit() -> None:
    with pytest.raises(ValueError, match="not fitted"):
        Forecaster(3).predict()


# Covariates.


@pytest.fixture(scope="module")
def promoted() -> pd.DataFrame:
    """Two hourly series that a promotion lifts by half their level, whenever it runs."""
    rng = np.random.default_rng(0)
    parts = []
    for n, level in enumerate((10.0, 2000.0)):
        on = (rng.random(300) < 0.3).astype(float)
        y = level * (1 + 0.02 * rng.normal(size=300) + 0.5 * on)
        parts.append(table(y, f"s{n}", promotion=on, weather=rng.normal(size=300)))
    return pd.concat(parts, ignore_index=True)


def test_a_known_covariate_lessens_the_error(promoted: pd.DataFrame) -> None:
    without = fit(promoted, model=INFORMER)
    known = fit(promoted, model=INFORMER, known=["promotion"], past=["weather"])
    maes = [next(s for s in f.report_.scores if s.name == INFORMER).mase for f in (without, known)]
    assert maes[1] < 0.4 * maes[0]


def test_the_known_future_is_used_where_it_belongs(promoted: pd.DataFrame, tmp_path: Path) -> None:
    forecaster = fit(promoted, model=INFORMER, known=["promotion"])
    ahead = pd.date_range(promoted["ds"].max(), periods=5, freq="h")[1:]
    on = {"s0": [1.0, 0, 0, 1], "s1": [0.0, 1, 1, 0]}
    future = pd.concat(
        [pd.DataFrame({"unique_id": s, "ds": ahead, "promotion": v}) for s, v in on.items()]
    ).sample(frac=1, random_state=0)
    forecast = forecaster.predict(X_df=future)
    for name, level in (("s0", 10.0), ("s1", 2000.0)):
        found = forecast.loc[forecast["unique_id"] == name, INFORMER].to_numpy()
        assert np.allclose(found, level * (1 + 0.5 * np.array(on[name])), rtol=0.15)
    forecaster.save(tmp_path / "m")
    pd.testing.assert_frame_equal(Forecaster.load(tmp_path / "m").predict(X_df=future), forecast)
    text = future.assign(ds=future["ds"].astype(str))
    pd.testing.assert_frame_equal(forecaster.predict(X_df=text), forecast)
    # More rows than needed, in another resolution.
    more = pd.concat([future, promoted[["unique_id", "ds", "promotion"]]])
    more["ds"] = more["ds"].dt.as_unit("ns")
    pd.testing.assert_frame_equal(forecaster.predict(X_df=more), forecast)
    # One future for all.
    shared = future[future["unique_id"] == "s1"].drop(columns="unique_id")
    same = forecaster.predict(X_df=shared)
    part = same["unique_id"] == "s1"
    pd.testing.assert_frame_equal(same[part], forecast[part])
    assert not np.allclose(same[INFORMER], forecast[INFORMER])


def test_a_known_future_that_lacks_something_gets_one_line(promoted: pd.DataFrame) -> None:
    forecaster = fit(promoted, model="LastValue", known=["promotion"])
    ahead = pd.date_range(promoted["ds"].max(), periods=5, freq="h")[1:]
    good = pd.DataFrame({"ds": ahead, "promotion": 1.0})
    per_series = pd.concat([good.assign(unique_id=name) for name in ("s0", "s1")])
    assert len(forecaster.predict(X_df=good)) == 8
    cases: list[tuple[pd.DataFrame | None, str]] = [
        (None, "knows the future of promotion; needs X_df"),
        (good.drop(columns="promotion"), "X_df has no column 'promotion'"),
        (good.drop(columns="ds"), "X_df has no column 'ds'"),
        (good.iloc[:3], "X_df lacks promotion of 's0' at 2024-01-13 15:00:00; needs all 4 rows"),
        (per_series.iloc[:7], "X_df lacks promotion of 's1' at 2024-01-13 15:00:00"),
        (good.assign(promotion=[1, 0, np.nan, 1]), "X_df lacks promotion of 's0'"),
        (pd.concat([good, good]), "X_df has 2024-01-13 12:00:00 twice"),
        (good.assign(promotion="yes"), "promotion has no numbers"),
        (good.assign(ds=good["ds"].dt.tz_localize("UTC")), "X_df lacks promotion of 's0'"),
    ]
    for future, says in cases:
        with pytest.raises(ValueError, match=says) as caught:
            forecaster.predict(X_df=future)
        assert "\n" not in str(caught.value)


def test_covariates_must_be_there(promoted: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no column 'price'; needs unique_id, ds, y, price"):
        fit(promoted, past=["price"])
    with pytest.raises(ValueError, match="promotion has no numbers"):
        fit(promoted.assign(promotion="on"), known=["promotion"])


# Settings, budget, runs.


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"h": 0}, "h is 0; needs at least 1"),
        ({"model": "Prophet"}, "model is 'Prophet'; needs auto or one of LastValue, "),
        ({"levels": (80, 100)}, "levels is .80, 100.; needs whole per cents"),
        ({"levels": (97.5,)}, "needs whole per cents"),
        ({"levels": ()}, "needs whole per cents"),
        ({"budget": 0}, "budget is 0; needs more than 0"),
        ({"budget": None}, "budget and steps are both None"),
        ({"look_back": -1}, "look_back is -1"),
        ({"known": ("a", "b"), "past": ("b",)}, r"\['b'\] is in known and in past"),
    ],
)
def test_settings_say_what_they_need(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Settings(**({"h": 3} | change))


def test_levels_of_the_users_own(two: pd.DataFrame) -> None:
    forecaster = fit(two, model="LastValue", levels=[50])
    assert list(forecaster.predict()) == [
        "unique_id", "ds", "LastValue", "LastValue-lo-50", "LastValue-hi-50",
    ]  # fmt: skip
    assert set(forecaster.report_.scores[0].coverage) == {50}


def test_a_budget_is_kept(two: pd.DataFrame) -> None:
    forecaster = fit(two, model=INFORMER, steps=None, budget=2.0)
    assert 0 < forecaster.report_.seconds < 5 * 2.0


def test_progress_and_runs(two: pd.DataFrame, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    fit(
        two, model=INFORMER, run_dir=tmp_path,
        on_progress=lambda stage, step, total: seen.append((stage, step, total)),
    )  # fmt: skip
    assert ("train", 2, 2) in seen
    assert (tmp_path / "train" / "metrics.csv").is_file()
    with pytest.raises(ValueError, match="holds a run; needs resume"):
        fit(two, model=INFORMER, run_dir=tmp_path)
    resumed = fit(two, model=INFORMER, run_dir=tmp_path, resume=True)
    # Its cross-validation trains elsewhere.
    assert len(resumed.cross_validation(two, n_windows=1)) == 8


@pytest.mark.parametrize("stage", ["train", "refit"])
def test_an_interrupted_fit_goes_on(
    trained: Forecaster, spiky: pd.DataFrame, tmp_path: Path, stage: str
) -> None:
    sent: list[int] = []

    def interrupt(now: str, step: int, total: int | None) -> None:
        del total
        if (now, step) == (stage, 2) and not sent:
            sent.append(step)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupted):
        fit_informer(spiky, run_dir=tmp_path, on_progress=interrupt)
    resumed = fit_informer(spiky, run_dir=tmp_path, resume=True)
    pd.testing.assert_frame_equal(resumed.predict(), trained.predict())


# Many series.


def many(series: int, rows: int) -> pd.DataFrame:
    values = np.concatenate([seasonal(rows, season=24, seed=n) + n for n in range(series)])
    return pd.DataFrame(
        {
            "unique_id": np.repeat([f"s{n:04d}" for n in range(series)], rows),
            "ds": np.tile(pd.date_range("2024-01-01", periods=rows, freq="h"), series),
            "y": values,
        }
    )


@pytest.mark.parametrize("model", [INFORMER, "NLinear"])
def test_a_thousand_series_in_little_memory(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forecaster = fit(many(5, 500), 24, model=model, look_back=96)
    batches: list[int] = []
    network = forecaster.fitted.network
    if network is not None:
        network.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    forecast = NLinear.predict

    def counted(method: NLinear, context: np.ndarray, h: int) -> np.ndarray:
        batches.append(len(context))
        return forecast(method, context, h)

    monkeypatch.setattr(NLinear, "predict", counted)
    frame = many(1000, 500)
    size = int(frame.memory_usage(deep=True).sum())
    tracemalloc.start()
    found = forecaster.predict(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 24_000
    assert_intervals(found, model)
    # What numpy and pandas hold at once, the repair of the table included, and torch's batches.
    assert peak < 5 * size
    assert batches == [256, 256, 256, 232]
