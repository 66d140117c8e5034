"""Our Informer in the paper's protocol: trained on the published split, every test window counted.

Columns are forecast one by one by a network that they share; errors are in z-scored units.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from sigform_forecast.backtest import Parts
from sigform_forecast.baselines import NLinear
from sigform_forecast.calendar import infer_calendar
from sigform_forecast.inference import forecasts
from sigform_forecast.network import NetworkConfig
from sigform_forecast.panel import Floats, Ints, Panel, origins
from sigform_forecast.protocol import PUBLISHED, Benchmark, channelwise, naive_table
from sigform_forecast.training import (
    Recipe,
    choose,
    possible_look_backs,
    start_network,
    train_network,
    training_windows,
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method's errors on every test window; `seconds` is training and forecasting."""

    method: str
    mse: float
    mae: float
    seed: int | None = None
    steps: int | None = None
    look_back: int | None = None
    windows: int | None = None
    seconds: float | None = None
    published: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train: None is chosen on validation; `profile` False leaves Informer on its own."""

    horizon: int
    look_back: int | None = None
    season_length: int | None = None
    profile: bool | None = None
    d_model: int = 64
    attn: str = "prob"
    seeds: tuple[int, ...] = (0, 1, 2)
    recipe: Recipe
    runs: Path = Path("runs")
    resume: bool = False


def run_benchmark(
    benchmark: Benchmark, plan: Plan, *, on_progress: Callable[[str, int, int | None], None]
) -> Iterator[Row]:
    """Published numbers, naive methods, NLinear, the profile alone, then Informer a seed each."""
    h = plan.horizon
    key = (benchmark.name, benchmark.features)
    for method, cells in PUBLISHED.items():
        if h in cells.get(key, {}):
            mse, mae = cells[key][h]
            yield Row(method=method, mse=mse, mae=mae, published=True)
    for method, scores in naive_table(benchmark, [h]).items():
        score = scores[h]
        yield Row(method=method, mse=score.mse, mae=score.mae, windows=score.windows)
    began = time.perf_counter()
    train = benchmark.part("train")
    linear = NLinear(plan.look_back or 336).fit([train[:, c] for c in range(train.shape[1])], h)
    # On few rows it has cut its look-back; a longer one here would cut off the first windows.
    look_back = len(linear.state()["weight"])
    score = benchmark.evaluate(channelwise(linear, h), "test", look_back, h)
    yield Row(
        method="NLinear", mse=score.mse, mae=score.mae, windows=score.windows,
        look_back=look_back, seconds=time.perf_counter() - began,
    )  # fmt: skip
    panel, parts = panel_of(benchmark)
    judged = 1 if benchmark.features == "MS" else len(panel.ids)
    config = chosen(panel, parts, plan)
    starts = starts_of_test(panel, parts, h, judged)
    if config.profile:
        began = time.perf_counter()
        network = start_network(training_windows(panel, parts, config.look_back, h), config)
        yield scored("profile alone", panel, starts, forecasts(network, panel, starts, "cpu"),
                     judged, config.look_back, began)  # fmt: skip
    name = "Informer on the profile" if config.profile else "Informer, normalised"
    for seed in plan.seeds:
        began = time.perf_counter()
        run = plan.runs / f"{benchmark.name}-{benchmark.features}-h{h}-seed{seed}"
        run.mkdir(parents=True, exist_ok=True)

        def report(
            step: int, total: int | None, metrics: dict[str, float], seed: int = seed
        ) -> None:
            del metrics
            on_progress(f"seed {seed}", step, total)

        trained = train_network(
            panel, parts, replace(config, seed=seed), replace(plan.recipe, seed=seed), run,
            resume=plan.resume, on_progress=report,
        )  # fmt: skip
        found = forecasts(trained.network, panel, starts, plan.recipe.device)
        row = scored(name, panel, starts, found, judged, config.look_back, began)
        yield replace(row, seed=seed, steps=trained.steps)


def panel_of(benchmark: Benchmark) -> tuple[Panel, Parts]:
    """The rows up to the end of the test part, a series a column, and the published borders."""
    end = benchmark.borders["test"][1]
    columns = len(benchmark.columns)
    times = pd.DatetimeIndex(benchmark.times[:end])
    frame = pd.DataFrame({"unique_id": "a", "ds": times, "y": 0.0})
    panel = Panel(
        ids=benchmark.columns,
        bounds=end * np.arange(columns + 1),
        times=times.append([times] * (columns - 1)),
        values=np.ascontiguousarray(benchmark.values[:end].T).ravel(),
        past=np.zeros((end * columns, 0)),
        known=np.zeros((end * columns, 0)),
        calendar=infer_calendar(frame),
    )
    train = np.full(columns, benchmark.borders["train"][1])
    return panel, Parts(train=train, val=np.full(columns, benchmark.borders["val"][1]))


def chosen(panel: Panel, parts: Parts, plan: Plan) -> NetworkConfig:
    """The configuration, with what the plan leaves open chosen on the validation rows."""
    config = NetworkConfig(
        look_back=plan.look_back or 1,
        horizon=plan.horizon,
        marks=panel.marks.shape[1],
        d_model=plan.d_model,
        d_ff=4 * plan.d_model,
        attn=plan.attn,
    )
    if plan.season_length is not None:
        seasons = (plan.season_length,)
        calendar = replace(panel.calendar, season_length=plan.season_length, seasons=seasons)
        panel = replace(panel, calendar=calendar)
    tried = possible_look_backs(panel, parts, plan.horizon, plan.look_back)
    config = choose(panel, parts, config, tried).config
    return config if plan.profile is None else replace(config, profile=plan.profile)


def starts_of_test(panel: Panel, parts: Parts, horizon: int, judged: int) -> Ints:
    """Rows of the first targets of every test window, of the last `judged` columns."""
    starts = origins(panel, parts.val, panel.lengths - horizon)
    return starts[starts >= panel.bounds[len(panel.ids) - judged]]


def scored(
    method: str, panel: Panel, starts: Ints, found: Floats, judged: int, look_back: int,
    began: float,
) -> Row:  # fmt: skip
    """Errors of forecasts (W, T), averaged over windows, steps and columns."""
    error = found - panel.values[starts[:, None] + np.arange(found.shape[1])]
    return Row(
        method=method,
        mse=float(np.square(error).mean()),
        mae=float(np.abs(error).mean()),
        look_back=look_back,
        windows=len(starts) // judged,
        seconds=time.perf_counter() - began,
    )


def with_mean(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The rows as a table to print, with mean and standard deviation (n - 1) over the seeds."""
    table: list[dict[str, object]] = []
    for row in rows:
        values = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(row).items()}
        table.append({**values, "method": row.method + (" (published)" if row.published else "")})
    trained = [row for row in rows if row.seed is not None]
    mse, mae = np.array([(row.mse, row.mae) for row in trained]).T
    table.append({"method": "mean", "mse": round(mse.mean(), 4), "mae": round(mae.mean(), 4)})
    if len(trained) > 1:
        spread = {"mse": round(mse.std(ddof=1), 4), "mae": round(mae.std(ddof=1), 4)}
        table.append({"method": "spread", **spread})
    return table
