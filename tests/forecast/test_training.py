"""Training: what validation chooses, that nothing gets worse, and that stopping changes nothing."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from forecast.series import panel_of, seasonal, table, tables, walk
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_core.training import TrainingInterrupted
from sigform_forecast.backtest import Parts, plan_parts
from sigform_forecast.inference import forecasts, loader
from sigform_forecast.network import NetworkConfig
from sigform_forecast.panel import Floats, Panel, Scaler, WindowSet
from sigform_forecast.training import (
    Choice,
    Recipe,
    Trained,
    choose,
    possible_look_backs,
    squared_error,
    start_network,
    thinned,
    train_network,
    training_windows,
    validation_windows,
)

H = 4
TINY = NetworkConfig(
    look_back=24, horizon=H, season_length=12, d_model=8, n_heads=2, d_ff=16, marks=4
)
BARE = replace(TINY, profile=False)  # what leaves the training most to learn
RECIPE = Recipe(
    seconds=None, steps=12, batch_size=8, learning_rate=3e-3, validations=4, device="cpu"
)


def prepared(frame: pd.DataFrame, horizon: int = H) -> tuple[Panel, Parts]:
    """The panel of a table in scaled units, and its parts."""
    panel = panel_of(frame)
    parts = plan_parts(panel.lengths, horizon)
    return Scaler.fit(panel.until(parts.val)).scale(panel), parts


@pytest.fixture(scope="module")
def hourly() -> tuple[Panel, Parts]:
    return prepared(tables({"a": 300, "b": 200}))


def weights(trained: Trained) -> torch.Tensor:
    return torch.cat([value.flatten() for value in trained.network.state_dict().values()])


# What validation chooses.


def chosen(values: Floats, freq: str, horizon: int = 6) -> Choice:
    panel, parts = prepared(table(values, freq=freq), horizon)
    config = replace(TINY, horizon=horizon, marks=panel.marks.shape[1])
    return choose(panel, parts, config, possible_look_backs(panel, parts, horizon, None))


@pytest.mark.parametrize(("freq", "season"), [("D", 7), ("h", 24), ("h", 168), ("MS", 12)])
@pytest.mark.parametrize("seed", [0, 1])
def test_choose_finds_the_season(freq: str, season: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seasons = min(60, 1200 // season + 1)
    values = np.tile(rng.normal(size=season), seasons)
    values += rng.normal(size=len(values), scale=0.3)
    choice = chosen(values, freq)
    assert choice.config.season_length == season
    assert choice.config.look_back >= 2 * season
    assert choice.config.profile
    assert choice.profile_error < 0.5 * choice.last_value_error


def test_choose_drops_the_profile_on_most_random_walks() -> None:
    kept = [chosen(walk(400, seed), "h").config.profile for seed in range(10)]
    assert sum(kept) <= 3


def test_choose_compares_the_starting_points_of_training() -> None:
    panel, parts = prepared(table(seasonal(400)))
    choice = choose(panel, parts, TINY, [24, 48])
    judged = list(loader(validation_windows(panel, parts, choice.config.look_back, H)))
    train = training_windows(panel, parts, choice.config.look_back, H)
    start = start_network(train, choice.config)
    assert squared_error(start, judged) == pytest.approx(choice.profile_error, rel=1e-4)
    last_value = start_network(train, replace(choice.config, profile=False))
    assert squared_error(last_value, judged) == pytest.approx(choice.last_value_error, rel=1e-4)


def test_choose_says_when_nothing_is_left() -> None:
    panel, parts = prepared(table(seasonal(60)))
    with pytest.raises(ValueError, match=r"no look-back of \[60\] leaves a training"):
        choose(panel, parts, TINY, [60])


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 140), min_size=1, max_size=3),
    horizon=st.integers(1, 20),
    asked=st.none() | st.integers(1, 200),
)
def test_every_look_back_leaves_windows(
    lengths: list[int], horizon: int, asked: int | None
) -> None:
    lengths[0] = max(lengths[0], horizon + 2)
    names = {f"s{n}": rows for n, rows in enumerate(lengths)}
    panel = panel_of(tables(names))
    parts = plan_parts(panel.lengths, horizon)
    try:
        tried = possible_look_backs(panel, parts, horizon, asked)
    except ValueError as error:
        assert max(lengths) < 4 * horizon + 20
        assert f"needs about {4 * horizon + 20} rows" in str(error)  # noqa: PT017
        return
    assert len(validation_windows(panel, parts, tried[0], horizon))
    for look_back in tried:
        assert len(training_windows(panel, parts, look_back, horizon))
    if asked is not None:
        assert tried[0] <= asked


def test_windows_keep_to_their_parts() -> None:
    panel, parts = prepared(tables({"a": 200, "b": 120}))
    train = training_windows(panel, parts, 24, H)
    judged = validation_windows(panel, parts, 24, H)
    first = panel.bounds[:-1]
    for s in range(2):
        inside = (train.origins >= first[s]) & (train.origins < panel.bounds[s + 1])
        rows = train.origins[inside] - first[s]
        assert rows.tolist() == list(range(24, parts.train[s] - H + 1))
        inside = (judged.origins >= first[s]) & (judged.origins < panel.bounds[s + 1])
        rows = judged.origins[inside] - first[s]
        assert rows.tolist() == list(range(parts.train[s], parts.val[s] - H + 1))
    thin = validation_windows(panel, parts, 24, H, most=10)
    assert 5 <= len(thin) <= 12


def test_thinned_windows_span_the_whole() -> None:
    panel, parts = prepared(table(seasonal(900)))
    windows = training_windows(panel, parts, 24, H)
    batches = list(thinned(windows, 300 * H))
    found = torch.cat([batch.target for batch in batches])
    assert len(found) == 300
    assert len(batches) == 2
    assert torch.equal(found[0], windows[0].target)
    assert torch.equal(found[-1], windows[len(windows) - 1].target)
    assert sum(len(batch.target) for batch in thinned(windows, 10**9)) == len(windows)


# A training.


def trained_on(
    data: tuple[Panel, Parts], folder: Path, recipe: Recipe = RECIPE, **how: object
) -> Trained:
    return train_network(*data, BARE, recipe, folder, **how)  # pyright: ignore[reportArgumentType]


def test_training_improves_on_the_start(hourly: tuple[Panel, Parts], tmp_path: Path) -> None:
    trained = trained_on(hourly, tmp_path / "new" / "run", replace(RECIPE, steps=80))
    assert trained.start_error is not None
    assert trained.best_error is not None
    assert trained.best_error < 0.98 * trained.start_error
    assert 0 < trained.steps <= trained.steps_taken <= 80
    assert not trained.network.training
    judged = loader(validation_windows(*hourly, TINY.look_back, H))
    assert squared_error(trained.network, judged) == pytest.approx(trained.best_error, rel=1e-3)


@pytest.mark.parametrize("learning_rate", [1e-6, 1e-2, 1.0])
def test_weights_kept_are_never_worse_than_the_start(
    hourly: tuple[Panel, Parts], tmp_path: Path, learning_rate: float
) -> None:
    trained = trained_on(hourly, tmp_path, replace(RECIPE, learning_rate=learning_rate))
    judged = loader(validation_windows(*hourly, TINY.look_back, H))
    assert trained.start_error is not None
    assert squared_error(trained.network, judged) <= trained.start_error * (1 + 1e-6)


def test_a_start_that_nothing_beats_is_kept(tmp_path: Path) -> None:
    pattern = np.random.default_rng(0).normal(size=12)
    data = prepared(table(np.tile(pattern, 25)))
    trained = train_network(*data, TINY, replace(RECIPE, learning_rate=1.0), tmp_path)
    start = start_network(training_windows(*data, TINY.look_back, H), TINY)
    assert trained.steps == 0
    assert trained.steps_taken > 0
    assert trained.best_error == trained.start_error
    for name, value in start.state_dict().items():
        assert torch.equal(trained.network.state_dict()[name], value), name


@pytest.mark.parametrize("validated", [True, False])
def test_the_same_seed_gives_the_same_weights(
    hourly: tuple[Panel, Parts], tmp_path: Path, validated: bool
) -> None:
    data = (hourly[0], hourly[1] if validated else None)
    runs = []
    for name in ("one", "two"):
        torch.manual_seed(len(name) + len(runs))  # of no consequence
        runs.append(weights(train_network(*data, BARE, RECIPE, tmp_path / name)))
    other = train_network(*data, BARE, replace(RECIPE, seed=1), tmp_path / "three")
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], weights(other))


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 19])
def test_any_number_of_steps(hourly: tuple[Panel, Parts], tmp_path: Path, steps: int) -> None:
    trained = train_network(hourly[0], None, TINY, replace(RECIPE, steps=steps), tmp_path)
    assert (trained.steps, trained.steps_taken) == (steps, steps)
    assert trained.start_error is None
    assert trained.best_error is None
    start = start_network(training_windows(*hourly, TINY.look_back, H), TINY)
    assert not torch.equal(
        start.state_dict()["informer.projection.weight"],
        trained.network.state_dict()["informer.projection.weight"],
    )


def interrupt_at(step: int) -> Callable[[int, int | None, dict[str, float]], None]:
    """Ctrl-C, once, while this step is reported."""
    done: list[int] = []

    def on_progress(now: int, total: int | None, metrics: dict[str, float]) -> None:
        del total, metrics
        if now == step and not done:
            done.append(now)
            signal.raise_signal(signal.SIGINT)

    return on_progress


@pytest.mark.parametrize("validated", [True, False])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    hourly: tuple[Panel, Parts], tmp_path: Path, validated: bool
) -> None:
    data = (hourly[0], hourly[1] if validated else None)
    recipe = replace(RECIPE, validations=3)
    whole = train_network(*data, BARE, recipe, tmp_path / "whole")
    for step in (5, 8):
        with pytest.raises(TrainingInterrupted):
            train_network(
                *data, BARE, recipe, tmp_path / "cut", resume=step > 5,
                on_progress=interrupt_at(step),
            )  # fmt: skip
    resumed = train_network(*data, BARE, recipe, tmp_path / "cut", resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    assert (whole.steps, whole.best_error) == (resumed.steps, resumed.best_error)
    # A run that is done stays as it is.
    again = train_network(*data, BARE, recipe, tmp_path / "cut", resume=True)
    assert torch.equal(weights(whole), weights(again))
    assert again.steps_taken == whole.steps_taken


def test_a_resumed_run_keeps_to_its_first_plan(hourly: tuple[Panel, Parts], tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        trained_on(hourly, tmp_path, on_progress=interrupt_at(3))
    assert json.loads((tmp_path / "plan.json").read_text()) == {"steps": 12}
    for other, cut in (({"steps": None, "seconds": 60.0}, 5), ({"steps": 40}, 7)):
        with pytest.raises(TrainingInterrupted):
            trained_on(
                hourly, tmp_path, replace(RECIPE, **other), resume=True,
                on_progress=interrupt_at(cut),
            )  # fmt: skip
    trained = trained_on(hourly, tmp_path, replace(RECIPE, steps=1), resume=True)
    assert trained.steps_taken == 12


def test_a_new_run_does_not_write_over_another(hourly: tuple[Panel, Parts], tmp_path: Path) -> None:
    trained_on(hourly, tmp_path)
    with pytest.raises(ValueError, match="holds a run; needs resume"):
        trained_on(hourly, tmp_path)


def test_training_needs_a_window(tmp_path: Path) -> None:
    panel, _ = prepared(table(seasonal(20)))
    with pytest.raises(ValueError, match="longest training part has 20 rows; needs 24 of look-"):
        train_network(panel, None, TINY, RECIPE, tmp_path)


@pytest.mark.parametrize("validated", [True, False])
def test_the_time_budget_is_kept(
    hourly: tuple[Panel, Parts], tmp_path: Path, validated: bool
) -> None:
    recipe = replace(RECIPE, steps=None, seconds=1.5, most_epochs=1e6, patience=1000)
    began = time.perf_counter()
    trained = train_network(hourly[0], hourly[1] if validated else None, BARE, recipe, tmp_path)
    assert trained.steps_taken > 5
    assert time.perf_counter() - began < 5 * 1.5


def test_a_plan_too_long_for_today_ends_with_the_time(
    hourly: tuple[Panel, Parts], tmp_path: Path
) -> None:
    """A machine may be slower than it was when the plan was made."""
    (tmp_path / "plan.json").write_text('{"steps": 1000000}')
    recipe = replace(RECIPE, steps=None, seconds=0.5, patience=1000)
    trained = trained_on(hourly, tmp_path, recipe, resume=True)
    assert 0 < trained.steps_taken < 100_000
    assert 0.5 < trained.seconds < 5


def test_no_time_leaves_the_start(hourly: tuple[Panel, Parts], tmp_path: Path) -> None:
    trained = trained_on(hourly, tmp_path, replace(RECIPE, steps=None, seconds=1e-6))
    assert (trained.steps, trained.steps_taken) == (0, 0)
    assert trained.best_error == trained.start_error


def test_epochs_limit_a_generous_budget(hourly: tuple[Panel, Parts], tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=None, seconds=600.0, most_epochs=0.2)
    windows: WindowSet = training_windows(*hourly, TINY.look_back, H)
    trained = trained_on(hourly, tmp_path, recipe)
    assert trained.steps_taken == int(np.ceil(0.2 * len(windows) / 8))


def test_forecasts_of_many_windows_are_those_of_each(hourly: tuple[Panel, Parts]) -> None:
    panel, parts = hourly
    network = start_network(training_windows(panel, parts, TINY.look_back, H), TINY)
    torch.manual_seed(0)
    torch.nn.init.normal_(network.informer.projection.weight)
    starts = np.concatenate([np.arange(2, 270), [305, 320, 496]])  # more than one batch
    found = forecasts(network, panel, starts, "cpu")
    assert found.shape == (len(starts), H)
    assert found.dtype == np.float64
    for n in (0, 100, len(starts) - 1):
        alone = forecasts(network, panel, starts[n : n + 1], "cpu")
        assert np.allclose(found[n], alone[0], atol=1e-5)
