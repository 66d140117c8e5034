"""Fitting: train on the head of each series, measure on its tail, train again on all of it.

Letters of shapes: S series, W windows, T horizon steps.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sigform_forecast.backtest import (
    Backtest,
    Parts,
    best_season,
    interval_columns,
    plan_parts,
    seasonal_scales,
    tail_origins,
)
from sigform_forecast.baselines import AutoETS, Baseline, NLinear, available
from sigform_forecast.calendar import Calendar
from sigform_forecast.intervals import Conformal
from sigform_forecast.panel import Floats, Ints, Panel, Scaler
from sigform_forecast.report import Report
from sigform_forecast.settings import INFORMER, MODELS, Settings

if TYPE_CHECKING:
    from sigform_forecast.network import ForecastNetwork, NetworkConfig
    from sigform_forecast.training import Recipe, Trained

OnStage = Callable[[str, int, int | None], None]  # stage, step, steps in all

LONGEST_CONTEXT = 4096
BASELINE_BATCH = 256  # windows that a baseline forecasts at a time
# Of the budget: to train before the backtest, to train again on all rows, and for AutoETS.
TRAIN_SHARE, REFIT_SHARE, ETS_SHARE = 0.4, 0.3, 0.3
ETS_SEASONS, ETS_ROWS = 8, 64  # AutoETS reads so many seasons, or so many rows if that is more


@dataclass(kw_only=True)
class Fitted:
    """Everything a fitted forecaster needs to forecast, and nothing else."""

    model: str
    calendar: Calendar
    zone: str | None
    season_length: int
    context: int  # rows of each series that forecasts read
    network: ForecastNetwork | None
    scaler: Scaler
    ids: tuple[str, ...]
    integer_ids: bool  # unique_id holds whole numbers, in what comes out too
    scale: Floats  # (S,) seasonal scale of the intervals
    counts: bool  # all values are whole and not negative: no forecast or bound is below 0
    nlinear: NLinear | None
    conformal: dict[str, Conformal]
    tail: Panel
    report: Report
    backtest: Backtest | None = field(default=None, repr=False)

    def columns(self, forecast: Floats, scale: Floats) -> dict[str, Floats]:
        """The forecast (N, T) of the model used and its intervals, as columns of a table."""
        bounds = self.conformal[self.model].interval(forecast, scale)
        if self.counts:
            bounds = {k: (np.maximum(lo, 0), np.maximum(hi, 0)) for k, (lo, hi) in bounds.items()}
        return interval_columns(self.model, forecast, bounds)

    def names(self, ids: Sequence[str]) -> pd.Index:
        """Names of series as the user's table has them."""
        names = pd.Index(ids)
        return names.astype(np.int64) if self.integer_ids else names


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Where training keeps its files and whom it tells how far it is."""

    run_dir: Path | None
    resume: bool
    on_progress: OnStage | None

    @contextlib.contextmanager
    def folder(self, stage: str) -> Iterator[Path]:
        """A folder for a training's files: kept under `run_dir`, or removed afterwards."""
        if self.run_dir is None:
            with tempfile.TemporaryDirectory(prefix="sigform-") as path:
                yield Path(path)
        else:
            path = self.run_dir / stage
            path.mkdir(parents=True, exist_ok=True)
            yield path

    def train(
        self,
        stage: str,
        panel: Panel,
        parts: Parts | None,
        config: NetworkConfig,
        recipe: Recipe,
        gate: float = 1.0,
    ) -> Trained:
        """`training.train_network`, reporting its progress under the name of the stage."""
        from sigform_forecast.training import train_network

        def report(step: int, total: int | None, metrics: dict[str, float]) -> None:
            del metrics
            if self.on_progress is not None:
                self.on_progress(stage, step, total)

        with self.folder(stage) as folder:
            return train_network(
                panel, parts, config, recipe, folder,
                gate=gate, resume=self.resume, on_progress=report,
            )  # fmt: skip


def fit_panel(
    panel: Panel,
    settings: Settings,
    stages: Stages,
    notes: Sequence[str],
    integer_ids: bool = False,
) -> Fitted:
    """Train on the head of each series, measure on its tail, then train again on all rows."""
    began = time.perf_counter()
    said = list(notes)
    if settings.season_length is not None:
        calendar = replace(
            panel.calendar, season_length=settings.season_length, seasons=(settings.season_length,)
        )
        panel = replace(panel, calendar=calendar)
    parts = plan_parts(panel.lengths, settings.h)
    scaler = Scaler.fit(panel.until(parts.train))
    scaled = scaler.scale(panel)
    trained = None
    season = best_season(panel, parts)
    if settings.wants_informer:
        try:
            config = chosen_config(scaled, parts, settings, said)
        except ValueError as error:
            if settings.model == INFORMER:
                raise
            said.append(f"Informer was left out: {error}")
        else:
            recipe = planned(settings, began, TRAIN_SHARE)
            trained = stages.train("train", scaled, parts, config, recipe)
    network = None if trained is None else trained.network
    starts = tail_origins(panel, parts, settings.h)
    look_back = 336 if network is None else max(network.config.look_back, 4 * season)
    baselines = available(season, look_back)
    nlinear = fitted_nlinear(baselines, scaled, parts.val, settings.h, said)
    context = max(look_back, min(LONGEST_CONTEXT, 7 * season))
    ets_budget = ETS_SHARE * (60.0 if settings.budget is None else settings.budget)
    afford_ets(baselines, len(starts), ets_context(context, season), ets_budget, said)
    scale = seasonal_scales(panel, parts.val, season)
    fitted = Fitted(
        model=settings.model,
        calendar=panel.calendar,
        zone=str(tz) if (tz := getattr(panel.times, "tz", None)) is not None else None,
        season_length=season,
        context=context,
        network=network,
        scaler=scaler,
        ids=panel.ids,
        integer_ids=integer_ids,
        scale=scale,
        counts=bool((panel.values >= 0).all() and (panel.values == np.round(panel.values)).all()),
        nlinear=nlinear,
        conformal={},
        tail=panel.tail(context),
        report=Report(horizon=settings.h),
    )
    names = set(baselines) | ({INFORMER} if network is not None else set())
    backtest = measure(fitted, settings, panel, starts, names, scaler)
    scores = backtest.scores(settings.levels)
    fitted.model = scores[0].name if settings.model == "auto" else settings.model
    if fitted.model not in names:
        reason = next((note for note in said if note.startswith(fitted.model)), "not installed")
        raise ValueError(f"{fitted.model} cannot be used here: {reason}")
    fitted.conformal = {name: backtest.conformal(name, settings.levels) for name in names}
    said += fitted.conformal[fitted.model].notes
    fitted.backtest = backtest
    fitted.scaler = Scaler.fit(panel)
    whole = fitted.scaler.scale(panel)
    if nlinear is not None and fitted.model == "NLinear":
        fitted.nlinear = fitted_nlinear(baselines, whole, panel.lengths, settings.h, said)
    if trained is not None and fitted.model == INFORMER:
        spent = (time.perf_counter() - began) / (settings.budget or np.inf)
        again = replace(
            planned(settings, began, min(1.0, spent + REFIT_SHARE)), steps=trained.steps
        )
        refit = stages.train("refit", whole, None, trained.network.config, again, trained.gate)
        fitted.network = refit.network
    fitted.report = Report.of(
        fitted, settings, scores, trained, seconds=time.perf_counter() - began, notes=said
    )
    return fitted


def chosen_config(
    scaled: Panel, parts: Parts, settings: Settings, notes: list[str]
) -> NetworkConfig:
    """The network's configuration, with what validation decides. Raises ValueError."""
    from sigform_forecast.network import NetworkConfig
    from sigform_forecast.training import choose, possible_look_backs

    tried = possible_look_backs(scaled, parts, settings.h, settings.look_back)
    if settings.look_back is not None and tried[0] < settings.look_back:
        notes.append(
            f"the look-back was shortened from {settings.look_back} to {tried[0]} rows: the "
            f"training part of the longest series has {int(parts.train.max())}"
        )
    marks = scaled.marks.shape[1]
    return choose(
        scaled,
        parts,
        NetworkConfig(
            look_back=tried[0],
            horizon=settings.h,
            past=scaled.past.shape[1],
            known=scaled.known.shape[1],
            marks=marks,
            d_model=settings.d_model,
            d_ff=4 * settings.d_model,
            attn=settings.attn,
            seed=settings.seed,
        ),
        tried,
    ).config


def planned(settings: Settings, began: float, share: float) -> Recipe:
    """The training recipe for what is left of a share of the budget."""
    from sigform_forecast.training import Recipe

    seconds = None
    if settings.budget is not None and settings.steps is None:
        seconds = max(0.5, share * settings.budget - (time.perf_counter() - began))
    return Recipe(
        seconds=seconds,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        device=settings.device,
        dtype=settings.dtype,
    )


def fitted_nlinear(
    baselines: dict[str, Baseline], scaled: Panel, ends: Ints, h: int, notes: list[str]
) -> NLinear | None:
    """NLinear solved on the rows before `ends`; taken out of `baselines` where it cannot be."""
    method = baselines.get("NLinear")
    if not isinstance(method, NLinear):
        return None
    try:
        return method.fit([scaled.series(s)[:end] for s, end in enumerate(ends)], h)
    except ValueError as error:
        notes.append(f"NLinear was left out: {error}")
        del baselines["NLinear"]
        return None


def afford_ets(
    baselines: dict[str, Baseline], windows: int, context: int, seconds: float, notes: list[str]
) -> None:
    """Take AutoETS out of `baselines` when its windows would cost more than their time."""
    method = baselines.get("AutoETS")
    if isinstance(method, AutoETS):
        method.max_seconds = seconds
        if not method.affordable(windows, context):
            notes.append(
                f"AutoETS was left out: {windows} windows take it about "
                f"{method.seconds(windows, context):.0f} s; needs a larger budget"
            )
            del baselines["AutoETS"]


def ets_context(context: int, season_length: int) -> int:
    """Rows that AutoETS reads: its time grows with them, and old seasons add little."""
    return min(context, max(ETS_ROWS, ETS_SEASONS * season_length))


def forecast_windows(
    fitted: Fitted,
    settings: Settings,
    panel: Panel,
    starts: Ints,
    scaler: Scaler,
    name: str | None = None,
) -> Floats:
    """Forecasts (W, T) of one method from the rows before `starts`, in the user's units."""
    name = fitted.model if name is None else name
    series = np.searchsorted(panel.bounds, starts, side="right") - 1
    mean, std = scaler.mean[series, None], scaler.std[series, None]
    if name == INFORMER:
        from sigform_forecast.inference import forecasts

        if fitted.network is None:
            raise ValueError("there is no Informer in this model; needs a fit with it")
        found = forecasts(fitted.network, scaler.scale(panel), starts, settings.device)
    else:
        method = fitted.nlinear if name == "NLinear" else available(fitted.season_length)[name]
        if method is None:
            raise ValueError("there is no NLinear in this model; needs a fit with it")
        length = fitted.context
        if isinstance(method, AutoETS):
            method.max_seconds = np.inf
            length = ets_context(length, fitted.season_length)
        found = np.empty((len(starts), settings.h))
        for first in range(0, len(starts), BASELINE_BATCH):
            part = slice(first, first + BASELINE_BATCH)
            contexts = (panel.contexts(starts[part], length) - mean[part]) / std[part]
            found[part] = method.predict(contexts, settings.h)
    found = found * std + mean
    return np.maximum(found, 0.0) if fitted.counts else found


def measure(
    fitted: Fitted, settings: Settings, panel: Panel, starts: Ints, names: set[str], scaler: Scaler
) -> Backtest:
    """Let several methods forecast the same windows of a panel."""
    h = settings.h
    series = np.searchsorted(panel.bounds, starts, side="right") - 1
    targets = starts[:, None] + np.arange(h)  # (W, T)
    return Backtest(
        ids=panel.ids,
        series=series,
        starts=starts - panel.bounds[series],
        cutoffs=panel.times[starts - 1],
        times=panel.times[targets.ravel()],
        truth=panel.values[targets],
        scale=fitted.scale[series],
        forecasts={
            name: forecast_windows(fitted, settings, panel, starts, scaler, name)
            for name in MODELS
            if name in names
        },
    )


def with_intervals(measured: Backtest, fitted: Fitted) -> pd.DataFrame:
    """The table of measured windows, with the intervals that the fit had before them."""
    table = measured.frame()
    ids = fitted.names(measured.ids)[measured.series].repeat(measured.horizon)
    columns = fitted.columns(measured.forecasts[fitted.model], measured.scale)
    return table.assign(unique_id=ids, **columns)
