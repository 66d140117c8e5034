"""The baselines against hand values, brute force and each other."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_forecast.baselines import (
    AutoETS,
    Baseline,
    LastValue,
    NLinear,
    SeasonalNaive,
    SeasonalProfile,
    available,
)

NAN = np.nan


def waves(rows: int, seed: int = 0) -> np.ndarray:
    """A noisy series with a season of 12 rows."""
    noise = np.random.default_rng(seed).normal(size=rows)
    return np.sin(np.arange(rows) * 2.0 * np.pi / 12.0) + 0.1 * noise


def test_last_value() -> None:
    context = np.array([[1.0, 2.0], [NAN, 5.0]])
    assert LastValue().predict(context, 3).tolist() == [[2.0] * 3, [5.0] * 3]


def test_seasonal_naive_repeats_the_last_season() -> None:
    context = np.array([[9.0, 9.0, 1.0, 2.0, 3.0]])
    assert SeasonalNaive(3).predict(context, 5).tolist() == [[1.0, 2.0, 3.0, 1.0, 2.0]]


def test_profile_averages_whole_seasons_only() -> None:
    context = np.array([[100.0, 1.0, 2.0, 3.0, 6.0]])
    assert SeasonalProfile(2).predict(context, 3).tolist() == [[2.0, 4.0, 2.0]]
    assert SeasonalProfile(2, periods=1).predict(context, 2).tolist() == [[3.0, 6.0]]


def test_profile_around_the_mean_of_the_last_season() -> None:
    context = np.array([[1.0, 2.0, 3.0, 6.0]])
    assert SeasonalProfile(2, level="last").predict(context, 2).tolist() == [[3.5, 5.5]]


def test_padded_rows_use_the_seasons_they_have() -> None:
    context = np.array([[1.0, 2.0, 3.0, 6.0], [NAN, 2.0, 3.0, 6.0], [NAN, NAN, NAN, 6.0]])
    expected = [[2.0, 4.0], [3.0, 6.0], [6.0, 6.0]]
    assert SeasonalProfile(2).predict(context, 2).tolist() == expected


@pytest.mark.parametrize("method", [SeasonalNaive(9), SeasonalProfile(9, level="last")])
def test_a_season_longer_than_the_context_repeats_the_last_value(method: Baseline) -> None:
    assert method.predict(np.array([[1.0, 4.0]]), 2).tolist() == [[4.0, 4.0]]


@settings(max_examples=50, deadline=None)
@given(
    season=st.integers(1, 8),
    periods=st.integers(1, 4),
    length=st.integers(1, 40),
    padding=st.integers(0, 20),
    h=st.integers(1, 20),
)
def test_padding_at_the_left_changes_nothing(
    season: int, periods: int, length: int, padding: int, h: int
) -> None:
    context = waves(length)[None]
    padded = np.concatenate([np.full((1, padding), NAN), context], axis=1)
    for method in (
        LastValue(),
        SeasonalNaive(season),
        SeasonalProfile(season, periods),
        SeasonalProfile(season, periods, level="last"),
        NLinear(lookback=30).fit([waves(100)], h=20),
    ):
        forecast = method.predict(context, h)
        assert forecast.shape == (1, h)
        assert np.isfinite(forecast).all()
        np.testing.assert_allclose(method.predict(padded, h), forecast, rtol=1e-12, atol=1e-12)


def test_a_batch_equals_its_rows() -> None:
    context = np.stack([waves(48, seed) for seed in range(3)])
    context[1, :20] = NAN
    for method in available(12, lookback=24).values():
        method.fit([waves(120)], 6)
        rows = np.concatenate([method.predict(context[row : row + 1], 6) for row in range(3)])
        np.testing.assert_allclose(method.predict(context, 6), rows, rtol=1e-12)


@pytest.mark.parametrize(
    ("context", "h", "message"),
    [
        (np.array([[1.0, NAN, 3.0]]), 2, "context row 0 has a gap"),
        (np.array([[1.0, 2.0], [1.0, NAN]]), 2, "context row 1 has a gap"),
        (np.array([[NAN, NAN]]), 2, "context row 0 has a gap"),
        (np.array([[1.0, np.inf]]), 2, "context row 0 has a gap"),
        (np.array([1.0, 2.0]), 2, r"context has shape \(2,\)"),
        (np.zeros((1, 0)), 2, "context has shape"),
        (np.ones((1, 3)), 0, "h is 0"),
    ],
)
def test_bad_contexts_are_refused(context: np.ndarray, h: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeasonalNaive(2).predict(context, h)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="season_length is 0"):
        SeasonalNaive(0)
    with pytest.raises(ValueError, match="periods is 0"):
        SeasonalProfile(2, periods=0)
    with pytest.raises(ValueError, match="level is 'first'"):
        SeasonalProfile(2, level="first")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="lookback is 0"):
        NLinear(lookback=0)
    with pytest.raises(ValueError, match="2-dimensional"):
        LastValue().fit([np.ones((2, 3))], 1)


def test_nlinear_is_the_ridge_solution_over_all_windows_of_all_series() -> None:
    series, h, lookback = [waves(5000), waves(40, seed=1), waves(12, seed=2)], 4, 10
    model = NLinear(lookback=lookback).fit(series, h)
    windows = np.concatenate(
        [
            values[start : start + lookback + h][None] - values[start + lookback - 1]
            for values in series
            for start in range(len(values) - lookback - h + 1)
        ]
    )
    inputs, targets = windows[:, :lookback], windows[:, lookback:]
    inputs_0, targets_0 = inputs - inputs.mean(axis=0), targets - targets.mean(axis=0)
    gram = inputs_0.T @ inputs_0
    penalty = model.strength * np.trace(gram) / lookback * np.eye(lookback)
    weight = np.linalg.solve(gram + penalty, inputs_0.T @ targets_0)
    assert model.weight is not None
    assert model.bias is not None
    np.testing.assert_allclose(model.weight, weight, atol=1e-9)
    np.testing.assert_allclose(
        model.bias, targets.mean(axis=0) - inputs.mean(axis=0) @ weight, atol=1e-9
    )


def test_nlinear_holds_out_windows_without_shared_targets() -> None:
    lookback, h = 5, 3
    folds = NLinear()._folds([60, 40], lookback, h)
    everything = np.concatenate([inside for inside, _ in folds])
    assert sorted(everything) == [*range(53), *range(60, 60 + 33)]
    for inside, touching in folds:
        rest = np.setdiff1d(everything, np.concatenate([inside, touching]))
        assert np.abs(rest[:, None] - inside).min() == h
        assert np.abs(touching[:, None] - inside).min(axis=1).max() == h - 1


def test_nlinear_prefers_the_strength_that_generalises() -> None:
    noise = np.random.default_rng(0).normal(size=150)
    assert NLinear(lookback=60).fit([noise], 4).strength >= 0.1
    assert NLinear(lookback=60).fit([waves(3000)], 4).strength < 0.1


def test_nlinear_does_not_choose_by_targets_it_has_seen() -> None:
    # Nothing of a random walk can be forecast; windows sharing targets would make it look so.
    walk = np.random.default_rng(1).normal(size=300).cumsum()
    assert NLinear(lookback=40).fit([walk], 60).strength >= 10.0


def test_nlinear_learns_a_season_and_a_trend() -> None:
    rows = np.arange(400.0)
    truth = 0.5 * rows + 10.0 * np.sin(rows * 2.0 * np.pi / 12.0)
    model = NLinear(lookback=24).fit([truth[:300]], 24)
    forecast = model.predict(truth[None, 276:300], 24)
    np.testing.assert_allclose(forecast[0], truth[300:324], atol=0.5)


def test_nlinear_follows_the_unit_of_a_single_series() -> None:
    values = waves(300)
    plain = NLinear(lookback=24).fit([values], 6).predict(values[None, -24:], 6)
    scaled = 1e6 * values - 3e7
    moved = NLinear(lookback=24).fit([scaled], 6).predict(scaled[None, -24:], 6)
    np.testing.assert_allclose(moved, 1e6 * plain - 3e7, rtol=1e-7)


def test_nlinear_cuts_a_look_back_that_the_data_cannot_teach() -> None:
    model = NLinear(lookback=336).fit([waves(144), waves(30)], 12)
    assert model.weight is not None
    assert model.weight.shape == (66, 12)
    assert model.predict(waves(200)[None], 5).shape == (1, 5)


@pytest.mark.parametrize("values", [np.full(50, 7.0), np.arange(50.0) * 3.0])
def test_nlinear_continues_constant_and_straight_series(values: np.ndarray) -> None:
    forecast = NLinear(lookback=8).fit([values], 5).predict(values[None, :45], 5)
    np.testing.assert_allclose(forecast[0], values[45:], rtol=1e-9)


def test_nlinear_thins_very_large_data() -> None:
    values = waves(4000)
    everything = NLinear(lookback=24).fit([values], 6).predict(values[None, -24:], 6)
    model = NLinear(lookback=24, max_windows=500)
    assert sum(len(inside) for inside, _ in model._folds([4000], 24, 6)) <= 500
    thinned = model.fit([values], 6).predict(values[None, -24:], 6)
    assert not np.array_equal(thinned, everything)
    np.testing.assert_allclose(thinned, everything, atol=0.1)


def test_nlinear_leaves_windows_with_a_gap_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NLinear, "STRENGTHS", (0.01,))
    values = waves(600)
    values[300] = NAN
    gappy = NLinear(lookback=24).fit([values], 6).state()
    whole = NLinear(lookback=24).fit([values[:300], values[301:]], 6).state()
    np.testing.assert_allclose(gappy["weight"], whole["weight"], atol=1e-9)
    np.testing.assert_allclose(gappy["bias"], whole["bias"], atol=1e-9)
    with pytest.raises(ValueError, match="no window of 4 rows is free of gaps"):
        NLinear(lookback=2).fit([np.tile([1.0, NAN], 20)], 2)


def test_nlinear_state_round_trip() -> None:
    model = NLinear(lookback=24).fit([waves(200)], 6)
    again = NLinear.from_state(model.state())
    context = waves(50, seed=3)[None]
    assert np.array_equal(again.predict(context, 6), model.predict(context, 6))
    with pytest.raises(ValueError, match=r"lacks \['bias'\]"):
        NLinear.from_state({"weight": model.state()["weight"]})
    with pytest.raises(ValueError, match=r"needs \(lookback, h\) and \(h,\)"):
        NLinear.from_state({"weight": np.ones((4, 3)), "bias": np.ones(2)})


def test_nlinear_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="not fitted"):
        NLinear().predict(np.ones((1, 4)), 2)
    with pytest.raises(ValueError, match="not fitted"):
        NLinear().state()
    with pytest.raises(ValueError, match="at most the 6 steps fitted"):
        NLinear(lookback=24).fit([waves(200)], 6).predict(np.ones((1, 4)), 7)
    with pytest.raises(ValueError, match="the longest series has 7 rows; NLinear needs 8"):
        NLinear().fit([waves(7)], 6)


def test_auto_ets_follows_trend_and_season() -> None:
    rows = np.arange(66.0)
    truth = 100.0 + 2.0 * rows + 20.0 * np.sin(rows * 2.0 * np.pi / 12.0)
    context = np.stack([truth[:60], np.full(60, 5.0), np.r_[np.full(54, NAN), np.arange(6.0)]])
    forecast = AutoETS(12).fit([], 6).predict(context, 6)
    np.testing.assert_allclose(forecast[0], truth[60:], rtol=0.02)
    np.testing.assert_allclose(forecast[1], 5.0)
    assert forecast[2].tolist() == [5.0] * 6


def test_auto_ets_takes_every_short_length() -> None:
    context = np.full((14, 20), NAN)
    for row in range(14):
        context[row, 19 - row :] = waves(row + 1) + 3.0
    assert np.isfinite(AutoETS(4).predict(context, 3)).all()


def test_auto_ets_refuses_what_takes_too_long() -> None:
    assert AutoETS(24).affordable(100, 336)
    assert not AutoETS(24).affordable(2857, 336)
    assert AutoETS(1).affordable(2857, 336)
    with pytest.raises(ValueError, match=r"AutoETS on 2857 windows of 336 rows takes about 960 s"):
        AutoETS(24).predict(np.ones((2857, 336)), 24)


def test_without_statsforecast_auto_ets_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("statsforecast", "statsforecast.models"):
        monkeypatch.setitem(sys.modules, module, None)
    assert list(available(24)) == ["LastValue", "SeasonalNaive", "SeasonalProfile", "NLinear"]
    with pytest.raises(ImportError, match=r"pip install 'sigform-forecast\[baselines\]'"):
        AutoETS(12).predict(waves(60)[None], 6)


def test_available_lists_the_columns() -> None:
    methods = available(24, lookback=48)
    assert list(methods) == ["LastValue", "SeasonalNaive", "SeasonalProfile", "NLinear", "AutoETS"]
    assert all(name == method.name for name, method in methods.items())
    assert methods["NLinear"] == NLinear(48)


def test_importing_is_light() -> None:
    heavy = "{'torch', 'pandas', 'scipy', 'statsforecast', 'lightning', 'matplotlib'}"
    code = (
        "import sys, sigform_forecast.baselines, sigform_forecast.intervals, "
        f"sigform_forecast.protocol; print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
