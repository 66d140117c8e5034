"""`Forecaster`: fit on a long table, predict the next rows with intervals, say how good they are.

Tables are in Nixtla's form: `unique_id`, `ds`, `y` and covariates in; `unique_id`, `ds`,
`<model>`, `<model>-lo-80`, `<model>-hi-80`, ... out.

Letters of shapes: S series, W windows, T horizon steps, L look-back steps, G known covariates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from sigform_forecast.backtest import seasonal_scales
from sigform_forecast.calendar import Calendar, infer_calendar
from sigform_forecast.diagnosis import diagnose
from sigform_forecast.fitting import (
    Fitted,
    OnStage,
    Stages,
    fit_panel,
    forecast_windows,
    measure,
    with_intervals,
)
from sigform_forecast.panel import Floats, Panel, Scaler
from sigform_forecast.repair import Duplicates, Fill, repair
from sigform_forecast.report import Report
from sigform_forecast.settings import Settings


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
