"""Pictures: the history, the forecast and its bands; one panel a series."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

MOST_PANELS = 12
HISTORY, FORECAST = "#3b4252", "#d1495b"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.parse_math": False,  # the names of series may hold dollar signs
}


def plot_forecast(
    history: pd.DataFrame | None,
    forecast: pd.DataFrame,
    path: Path,
    *,
    title: str = "",
    seasons: int = 6,
) -> None:
    """Draw a forecast table, with the end of the history it continues, into a PNG.

    `history` has unique_id, ds, y; `forecast` also `<model>` and its interval columns. As much
    history is shown as `seasons` horizons, 12 series at most (the title says of how many).
    Raises ValueError when `forecast` has no model column.
    """
    model, levels = forecast_columns(forecast)
    ids = list(dict.fromkeys(forecast["unique_id"]))
    shown = ids[:MOST_PANELS]
    names = None if history is None else history["unique_id"].astype(str)
    columns = 1 if len(shown) == 1 else 2 if len(shown) <= 6 else 3
    rows = math.ceil(len(shown) / columns)
    with mpl.rc_context(STYLE):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=(max(9.0, 5.2 * columns), 3.9 if rows == 1 else 2.7 * rows))
        figure.set_layout_engine("constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, name in zip(axes, shown, strict=False):
            part = forecast.loc[forecast["unique_id"] == name]
            past = None
            if history is not None:
                past = history.loc[names == str(name)].tail(seasons * len(part))
            draw(axis, past, part, model, levels)
            if len(shown) > 1:
                axis.set_title(str(name), loc="left", fontsize=9)
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        what = f"next {len(forecast) // len(ids)} rows by {model}"
        left = "" if len(ids) == len(shown) else f" ({len(shown)} of {len(ids)} series)"
        figure.suptitle(f"{title}: {what}{left}" if title else what + left)
        with warnings.catch_warnings():
            # Names in a script that the font lacks are drawn as boxes; the numbers are all there.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            figure.savefig(path, dpi=150, format="png")


def forecast_columns(forecast: pd.DataFrame) -> tuple[str, list[int]]:
    """The model of a forecast table and the levels of its intervals, the widest first."""
    known = {"unique_id", "ds", "y", "cutoff"}
    names = [str(name) for name in forecast.columns if name not in known]
    models = [name for name in names if not re.search(r"-(lo|hi)-\d+$", name)]
    if not models or "unique_id" not in forecast or "ds" not in forecast:
        raise ValueError(f"the columns are {list(forecast)}; needs unique_id, ds and a model")
    model = models[0]
    levels = {int(m[1]) for n in names if (m := re.fullmatch(rf"{re.escape(model)}-lo-(\d+)", n))}
    return model, sorted(levels, reverse=True)


def draw(
    axis: Axes, past: pd.DataFrame | None, forecast: pd.DataFrame, model: str, levels: list[int]
) -> None:
    """One series: its history, the forecast joined to it, and a band for each level."""
    times, middle = plain(forecast), forecast[model].to_numpy()
    for n, level in enumerate(levels):
        axis.fill_between(
            times,
            forecast[f"{model}-lo-{level}"].to_numpy(),
            forecast[f"{model}-hi-{level}"].to_numpy(),
            color=FORECAST,
            alpha=0.16 + 0.14 * n,
            linewidth=0,
            label=f"{level} % interval",
        )
    if past is not None and len(past):
        when, values = plain(past), past["y"].to_numpy()
        axis.plot(when, values, color=HISTORY, linewidth=1.1, label="history")
        times = np.concatenate([when[-1:], times])
        middle = np.concatenate([values[-1:], middle])
    axis.plot(times, middle, color=FORECAST, linewidth=1.5, label=model)
    axis.margins(x=0.01)
    if np.issubdtype(times.dtype, np.datetime64):
        # The default labels are whole dates, which run into each other on small panels.
        locator = AutoDateLocator(minticks=3, maxticks=8)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def plain(frame: pd.DataFrame) -> np.ndarray:
    """The times of a table as matplotlib draws them: on the user's own clock."""
    times = pd.Index(frame["ds"])
    if isinstance(times, pd.DatetimeIndex) and times.tz is not None:
        times = times.tz_localize(None)
    return times.to_numpy()
