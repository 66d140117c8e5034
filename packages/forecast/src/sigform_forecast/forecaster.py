"""`Forecaster`: fit on a long table, predict the next rows with intervals, say how good they are.

Tables are in Nixtla's form: `unique_id`, `ds`, `y` and covariates in; `unique_id`, `ds`,
`<model>`, `<model>-lo-80`, `<model>-hi-80`, ... out.

Letters of shapes: S series, W windows, T horizon steps, L look-back steps, G known covariates.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

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
from sigform_forecast.calendar import Calendar, infer_calendar
from sigform_forecast.diagnosis import diagnose
from sigform_forecast.intervals import Conformal
from sigform_forecast.panel import Floats, Ints, Panel, Scaler
from sigform_forecast.repair import Duplicates, Fill, repair
from sigform_forecast.report import Report

if TYPE_CHECKING:
    from sigform_forecast.network import ForecastNetwork, NetworkConfig
    from sigform_forecast.training import Recipe, Trained

OnStage = Callable[[str, int, int | None], None]  # stage, step, steps in all

INFORMER = "Informer"
MODELS = (INFORMER, "LastValue", "SeasonalNaive", "SeasonalProfile", "NLinear", "AutoETS")
LONGEST_CONTEXT = 4096
BASELINE_BATCH = 256  # windows that a baseline forecasts at a time
# Of the budget: to train before the backtest, to train again on all rows, and for AutoETS.
TRAIN_SHARE, REFIT_SHARE, ETS_SHARE = 0.4, 0.3, 0.3
ETS_SEASONS, ETS_ROWS = 8, 64  # AutoETS reads so many seasons, or so many rows if that is more


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The choices of a `Forecaster`, as it stores them; see there."""

    h: int
    model: str = "auto"
    freq: str | None = None
    season_length: int | None = None
    look_back: int | None = None
    levels: tuple[int, ...] = (80, 95)
    known: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    fill: Fill = "interpolate"
    duplicates: Duplicates = "mean"
    budget: float | None = 60.0
    steps: int | None = None
    d_model: int = 32
    attn: str = "prob"
    batch_size: int = 32
    learning_rate: float = 5e-4
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("h", "batch_size", "d_model"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs at least 1")
        for name in ("season_length", "look_back", "budget", "steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; needs more than 0")
        if self.budget is None and self.steps is None:
            raise ValueError("budget and steps are both None; needs one of them")
        if self.model not in ("auto", *MODELS):
            raise ValueError(f"model is {self.model!r}; needs auto or one of {', '.join(MODELS)}")
        if not self.levels or not all(lv == int(lv) and 0 < lv < 100 for lv in self.levels):
            raise ValueError(f"levels is {self.levels}; needs whole per cents from 1 to 99")
        if both := set(self.known) & set(self.past):
            raise ValueError(f"{sorted(both)} is in known and in past; needs to be in one")

    @property
    def wants_informer(self) -> bool:
        """Whether there is a network to train."""
        return self.model in ("auto", INFORMER)


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


class Forecaster:
    """Forecast the next `h` rows of every series of a table.

    `model` is "auto" (the best method of the backtest), or one of MODELS. `freq` is a pandas alias
    (found in the data if not given); `season_length` and `look_back` are in rows (chosen on
    validation if not given); `levels` are interval levels in per cent; `known` and `past` name
    covariate columns whose future is known, or not. `fill` and `duplicates` are how gaps and
    doubled rows are repaired (see `repair.repair`). Training takes `budget` seconds in all, or
    exactly `steps` steps; with `steps`, `seed` makes it reproducible on one device. `run_dir`
    keeps checkpoints and metrics.csv, from where `resume` goes on; `on_progress(stage, step,
    steps)` is called while it trains.

    After `fit`: `model_`, `calendar_`, `report_`, `notes_` (what was found and repaired).
    Raises ValueError for settings and data that do not fit, each in one line.
    """

    def __init__(
        self,
        h: int,
        *,
        model: str = "auto",
        freq: str | None = None,
        season_length: int | None = None,
        look_back: int | None = None,
        levels: Sequence[int] = (80, 95),
        known: Sequence[str] = (),
        past: Sequence[str] = (),
        fill: Fill = "interpolate",
        duplicates: Duplicates = "mean",
        budget: float | None = 60.0,
        steps: int | None = None,
        d_model: int = 32,
        attn: str = "prob",
        batch_size: int = 32,
        learning_rate: float = 5e-4,
        seed: int = 0,
        device: str = "auto",
        dtype: str = "float32",
        run_dir: Path | None = None,
        resume: bool = False,
        on_progress: OnStage | None = None,
    ) -> None:
        self.settings = Settings(
            h=h,
            model=model,
            freq=freq,
            season_length=season_length,
            look_back=look_back,
            levels=tuple(levels),
            known=tuple(known),
            past=tuple(past),
            fill=fill,
            duplicates=duplicates,
            budget=budget,
            steps=steps,
            d_model=d_model,
            attn=attn,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            device=device,
            dtype=dtype,
        )
        self.run_dir = run_dir
        self.resume = resume
        self.on_progress = on_progress
        self.notes_: list[str] = []
        self._fitted: Fitted | None = None

    @property
    def fitted(self) -> Fitted:
        """What `fit` or `load` left. Raises ValueError before either."""
        if self._fitted is None:
            raise ValueError("the forecaster is not fitted; needs fit(df) or load(path) first")
        return self._fitted

    @property
    def model_(self) -> str:
        """The method that `predict` uses: the chosen one, or the best of the backtest."""
        return self.fitted.model

    @property
    def calendar_(self) -> Calendar:
        """The steps of the series."""
        return self.fitted.calendar

    @property
    def report_(self) -> Report:
        """What the backtest measured, and how the model came about."""
        return self.fitted.report

    def fit(self, df: pd.DataFrame) -> Self:
        """Learn from a long table: repair it, train, measure on its tail, train on all of it.

        Raises ValueError when the data cannot carry the horizon or the model asked for, and
        sigform_core's TrainingInterrupted on Ctrl-C.
        """
        panel, self.notes_ = self._prepare(df)
        integer_ids = pd.api.types.is_integer_dtype(df["unique_id"])
        stages = Stages(run_dir=self.run_dir, resume=self.resume, on_progress=self.on_progress)
        self._fitted = fit_panel(panel, self.settings, stages, self.notes_, integer_ids)
        return self

    def predict(
        self, df: pd.DataFrame | None = None, X_df: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Forecast the `h` rows after the fitted table, or after `df` of the same form.

        `X_df` holds `ds` and the known covariates of those rows, with a `unique_id` where they
        differ between series. Returns unique_id,
        ds, `<model>` and its intervals. Raises ValueError naming what does not fit the model.
        """
        fitted = self.fitted
        panel = fitted.tail
        if df is not None:
            panel, self.notes_ = self._prepare(df, like=fitted.calendar)
            panel = panel.tail(fitted.context)
        future = panel.extended(self.settings.h, self._known_future(panel, X_df))
        starts = future.bounds[1:] - self.settings.h
        scaler, scale = self._scales(panel)
        forecast = forecast_windows(fitted, self.settings, future, starts, scaler)
        times = future.times[(starts[:, None] + np.arange(self.settings.h)).ravel()]
        ids = fitted.names(panel.ids).repeat(self.settings.h)
        return pd.DataFrame({"unique_id": ids, "ds": times, **fitted.columns(forecast, scale)})

    def cross_validation(
        self,
        df: pd.DataFrame | None = None,
        *,
        n_windows: int = 5,
        step_size: int | None = None,
    ) -> pd.DataFrame:
        """Forecasts beside the truth: unique_id, ds, cutoff, y, `<model>` and its intervals.

        Without `df`, the windows that `fit` measured itself on. With it, a fresh fit on the rows
        before the last `n_windows` windows (`step_size` rows apart, default `h`) forecasts each of
        them; this forecaster stays as it is. Raises ValueError when too few rows are left.
        """
        if df is None:
            if self.fitted.backtest is None:
                raise ValueError("a loaded model keeps no backtest; needs df")
            return with_intervals(self.fitted.backtest, self.fitted)
        h, step = self.settings.h, self.settings.h if step_size is None else step_size
        if n_windows < 1 or step < 1:
            raise ValueError(f"n_windows is {n_windows} and step_size {step}; needs 1 or more")
        panel, notes = self._prepare(df)
        held_out = h + (n_windows - 1) * step
        ends = panel.lengths - held_out
        if ends.min() < h + 2:
            raise ValueError(
                f"the shortest series has {panel.lengths.min()} rows; {n_windows} windows of {h} "
                f"rows, {step} apart, need {held_out + h + 2}"
            )
        # The run of `fit` is another one: neither gone on with nor written over.
        stages = Stages(run_dir=None, resume=False, on_progress=self.on_progress)
        integer_ids = pd.api.types.is_integer_dtype(df["unique_id"])
        fitted = fit_panel(panel.until(ends), self.settings, stages, notes, integer_ids)
        starts = (panel.bounds[:-1] + ends)[:, None] + step * np.arange(n_windows)  # (S, W)
        measured = measure(
            fitted, self.settings, panel, starts.ravel(), {fitted.model}, fitted.scaler
        )
        return with_intervals(measured, fitted)

    def save(self, path: str | Path) -> None:
        """Write the fitted forecaster as one safetensors file, replacing what is there."""
        from sigform_forecast.saving import save_forecaster

        save_forecaster(Path(path), self)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. Raises FileNotFoundError, or ValueError for another file."""
        from sigform_forecast.saving import load_forecaster

        forecaster = cls(1)
        forecaster.settings, forecaster._fitted = load_forecaster(Path(path))
        return forecaster

    def _prepare(self, df: pd.DataFrame, like: Calendar | None = None) -> tuple[Panel, list[str]]:
        """Check, repair and flatten a table; also returns what was found and done."""
        settings = self.settings
        frame = checked(df, [*settings.past, *settings.known])
        calendar = infer_calendar(frame, settings.freq)
        if like is not None and (calendar.freq, calendar.unit) != (like.freq, like.unit):
            raise ValueError(
                f"the data steps by {calendar.describe()} and the model was fitted on "
                f"{like.describe()}; needs the same"
            )
        findings = diagnose(frame, calendar).findings
        for finding in findings:
            if finding.code == "wrong_frequency":
                raise ValueError(finding.message)
        frame, repairs = repair(frame, calendar, fill=settings.fill, duplicates=settings.duplicates)
        notes = [finding.message for finding in findings] + repairs
        return Panel.from_frame(frame, calendar, past=settings.past, known=settings.known), notes

    def _scales(self, panel: Panel) -> tuple[Scaler, Floats]:
        """Scaler and seasonal scale of each series, measured on the spot for one never seen."""
        fitted = self.fitted
        own = Scaler.fit(panel)
        place = {name: n for n, name in enumerate(fitted.ids)}
        at = np.array([place.get(name, -1) for name in panel.ids])
        seen = at >= 0
        scaler = replace(
            fitted.scaler,
            mean=np.where(seen, fitted.scaler.mean[at], own.mean),
            std=np.where(seen, fitted.scaler.std[at], own.std),
        )
        fresh = seasonal_scales(panel, panel.lengths, fitted.season_length)
        return scaler, np.where(seen, fitted.scale[at], fresh)

    def _known_future(self, panel: Panel, X_df: pd.DataFrame | None) -> Floats:
        """The known covariates of the next `h` rows of each series, (S, T, G)."""
        names, h = list(self.settings.known), self.settings.h
        if not names:
            return np.zeros((len(panel.ids), h, 0))
        if X_df is None:
            raise ValueError(f"the model knows the future of {', '.join(names)}; needs X_df")
        if missing := [name for name in ("ds", *names) if name not in X_df.columns]:
            raise ValueError(f"X_df has no column {missing[0]!r}; needs ds, {', '.join(names)}")
        shared = "unique_id" not in X_df.columns
        table = X_df.assign(
            unique_id="" if shared else X_df["unique_id"].astype(str), ds=read_times(X_df["ds"])
        )
        for name in names:
            table[name] = read_numbers(table[name])
        table = table.set_index(["unique_id", "ds"])[names]
        if table.index.has_duplicates:
            twice = table.index[table.index.duplicated()].get_level_values("ds")[0]
            raise ValueError(f"X_df has {twice} twice; needs each time once a series")
        lasts = panel.times[panel.bounds[1:] - 1]
        futures = {last: panel.calendar.future(last, h) for last in lasts.unique()}
        ids = np.repeat([""] * len(panel.ids) if shared else panel.ids, h)
        times = futures[lasts[0]].append([futures[last] for last in lasts[1:]])
        wanted = pd.MultiIndex.from_arrays([ids, times])
        values = table.reindex(wanted).to_numpy(np.float64)
        absent = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if absent.size:
            row = int(absent[0])
            raise ValueError(
                f"X_df lacks {', '.join(names)} of {panel.ids[row // h]!r} at {times[row]}; "
                f"needs all {h} rows after {lasts[row // h]}"
            )
        return values.reshape(len(panel.ids), h, len(names))


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


def checked(df: pd.DataFrame, covariates: Sequence[str]) -> pd.DataFrame:
    """The columns of a long table that matter, with `ds` as times. Raises ValueError."""
    names = ["unique_id", "ds", "y", *covariates]
    if missing := [name for name in names if name not in df.columns]:
        raise ValueError(f"the table has no column {missing[0]!r}; needs {', '.join(names)}")
    if not len(df):
        raise ValueError("the table has no rows; needs some")
    frame = df.loc[:, names].copy()
    if frame["unique_id"].isna().any():
        raise ValueError("unique_id is blank in some rows; needs the name of a series in each")
    frame["ds"] = read_times(frame["ds"])
    for name in ("y", *covariates):
        frame[name] = read_numbers(frame[name])
    return frame


def read_times(column: Any) -> pd.Series:
    """Whole numbers as they are, anything else as timestamps. Raises ValueError."""
    try:
        if not pd.api.types.is_numeric_dtype(column):
            return pd.to_datetime(column)
        whole = column.astype(np.int64)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"ds has no times ({reason}); needs dates or whole numbers") from error
    if not (whole == column).all():
        raise ValueError("ds has fractions; needs dates or whole numbers")
    return whole


def read_numbers(column: Any) -> Floats:
    """A column as float64, with NaN where it is blank. Raises ValueError."""
    try:
        return np.asarray(pd.to_numeric(column), dtype=np.float64)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{column.name} has no numbers ({reason}); needs numbers") from error


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
        from sigform_forecast.training import forecasts

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
