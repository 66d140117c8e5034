"""The tab that forecasts a table, with bands, and with every baseline beside the method used."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from sigform_studio.desk import Desk, needed, shown
from sigform_studio.look import downloads, element, notes, table
from sigform_studio.visits import Job

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from sigform_forecast import Forecaster

NAME = "forecast"
SUFFIXES = (".csv", ".tsv", ".txt", ".gz", ".parquet")
MOST_SERIES = 60
"""Drawn; the table to save has all of them."""

HORIZONS_SHOWN = 6
"""Of the history, as many horizons as these."""

LEAST_SHOWN = 60  # rows of history


def build(desk: Desk) -> None:
    """The tab's parts and what its button does."""
    gr.HTML(
        '<p class="sf-lead">The next rows of every series of a table. Columns, dates and frequency '
        "are found and said; a backtest on the end of the data chooses the method, and measures "
        "the bands.</p>"
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            file = desk.drop(NAME, "A table", SUFFIXES)
            with gr.Row():
                horizon = gr.Number(
                    label="Rows ahead", info="0: about a season", value=0, minimum=0, precision=0,
                    min_width=120, elem_id=f"{NAME}-horizon",
                )  # fmt: skip
                budget = gr.Number(
                    label="Seconds to train", info="more can be better", value=20, minimum=1,
                    maximum=600, precision=0, min_width=120, elem_id=f"{NAME}-budget",
                )  # fmt: skip
            controls = desk.buttons(NAME, "Forecast")
        with gr.Column(scale=3, min_width=360):
            result = gr.HTML(visible=False, elem_id=f"{NAME}-result")

    def work(job: Job, path: str | None, horizon: float | None, budget: float | None) -> list[Any]:
        source = needed(path, "a table")
        return [shown(forecast(desk, job, source, int(horizon or 0), float(budget or 20)))]

    desk.wire(NAME, controls, [file, horizon, budget], [result], work)


def forecast(desk: Desk, job: Job, source: Path, horizon: int, budget: float) -> str:
    """The chart, the scores of all methods, what was found, and links to the files."""
    job.report("reading the table")
    from sigform_core.device import set_threads
    from sigform_forecast import Forecaster, read_table
    from sigform_forecast.pipeline import horizon_for
    from sigform_forecast.plotting import plot_forecast

    set_threads(desk.threads)
    found = read_table(str(source))
    said = [*found.notes]
    # What it says of the choice is in the command's words.
    ahead = horizon_for(found, found.future, horizon or None, lambda _: None)
    if not horizon:
        said.append(f"rows ahead: {ahead}, as none were asked for")

    def tell(stage: str, step: int, steps: int | None) -> None:
        text = {"train": "training", "refit": "training again on all rows"}.get(stage, stage)
        job.report(text, step, steps)

    job.report("looking at the rows")
    forecaster = Forecaster(ahead, budget=budget, device=desk.device, on_progress=tell)
    forecaster.fit(found.frame)
    job.report("forecasting")
    made = forecaster.predict()
    report = forecaster.report_
    said += [f"steps: {report.step}", *report.notes]
    job.report("drawing")
    stem = source.name.removesuffix(".gz").rpartition(".")[0] or source.name
    places = [job.folder / f"{stem}_forecast{suffix}" for suffix in (".csv", ".md", ".png")]
    made.to_csv(places[0], index=False)
    places[1].write_text(report.text(), encoding="utf-8")
    plot_forecast(found.frame, made, places[2], title=stem)
    header, rows = report.table()
    marked = next((n for n, row in enumerate(rows) if row[0] == report.model), None)
    chart = element("sigform-forecast", drawn(forecaster, found.frame, made))
    links = downloads((place, place.name) for place in places)
    return (
        f'<div class="sf-result"><h3>Next {ahead} rows by {escape(report.model)}</h3>{chart}'
        f"<p>{escape(report.verdict())}</p>{table(header, rows, marked=marked)}"
        f"{links}{notes(list(dict.fromkeys(said)))}</div>"
    )


def drawn(forecaster: Forecaster, history: pd.DataFrame, made: pd.DataFrame) -> dict[str, Any]:
    """What the chart draws: for each series its end, the forecast, its bands, the baselines."""
    from sigform_forecast.plotting import forecast_columns

    model, levels = forecast_columns(made)
    others = baselines(forecaster)
    series = []
    ids = history["unique_id"].astype(str)
    names = list(dict.fromkeys(made["unique_id"]))[:MOST_SERIES]
    ahead = forecaster.settings.h
    for number, name in enumerate(names):
        rows = made.loc[made["unique_id"] == name]
        past = history.loc[ids == str(name)].tail(max(LEAST_SHOWN, HORIZONS_SHOWN * ahead))
        series.append(
            {
                "name": str(name),
                "past": {"t": times(past["ds"]), "y": numbers(past["y"])},
                "t": times(rows["ds"]),
                "y": numbers(rows[model]),
                "bands": [
                    {
                        "level": level,
                        "low": numbers(rows[f"{model}-lo-{level}"]),
                        "high": numbers(rows[f"{model}-hi-{level}"]),
                    }
                    for level in levels
                ],
                "others": {other: numbers(rows_of[number]) for other, rows_of in others.items()},
            }
        )
    dated = made["ds"].dtype.kind == "M" or hasattr(made["ds"].dtype, "tz")
    return {"model": model, "dated": dated, "series": series}


def baselines(forecaster: Forecaster) -> dict[str, np.ndarray]:
    """What every other method says of the same rows, (S, T) by its name; the best first."""
    import numpy as np

    from sigform_forecast.fitting import forecast_windows

    fitted, settings = forecaster.fitted, forecaster.settings
    panel = fitted.tail
    future = panel.extended(settings.h, np.zeros((len(panel.ids), settings.h, 0)))
    starts = future.bounds[1:] - settings.h
    return {
        name: forecast_windows(fitted, settings, future, starts, fitted.scaler, name)
        for name in (score.name for score in fitted.report.scores)
        if name != fitted.model
    }


def times(column: pd.Series) -> list[float]:
    """Milliseconds on the clock of the data, or the steps as they are."""
    import pandas as pd

    index = pd.Index(column)
    if isinstance(index, pd.DatetimeIndex):
        naive = index.tz_localize(None) if index.tz is not None else index
        return [float(value) for value in naive.as_unit("ms").asi8]
    return [float(value) for value in index]


def numbers(values: Any) -> list[float | None]:
    """Six digits of each; None for what is missing."""
    import math

    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
