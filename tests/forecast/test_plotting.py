"""Pictures of forecasts: they are written, of the right size, and show what they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from forecast.series import seasonal, table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sigform_forecast.plotting import draw, forecast_columns, plot_forecast

LEVELS = (80, 95)


def pair(
    names: list[Any], rows: int = 200, h: int = 12, zone: str | None = None, whole: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """History and forecast of several series."""
    parts = []
    for n, name in enumerate(names):
        part = table(seasonal(rows + h, seed=n) * 10**n, "x").assign(unique_id=name)
        if zone is not None:
            part["ds"] = pd.date_range("2024-10-20", periods=rows + h, freq="h", tz=zone)
        if whole:
            part["ds"] = np.arange(rows + h)
        parts.append(part)
    history = pd.concat([part.iloc[:rows] for part in parts], ignore_index=True)
    ahead = pd.concat([part.iloc[rows:] for part in parts], ignore_index=True)
    forecast = ahead.rename(columns={"y": "NLinear"})
    for level in LEVELS:
        forecast[f"NLinear-lo-{level}"] = forecast["NLinear"] - level / 50
        forecast[f"NLinear-hi-{level}"] = forecast["NLinear"] + level / 50
    return history, forecast


def size(path: Path) -> tuple[int, int]:
    """Width and height in the header of a PNG, whose first bytes are checked."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) > 5000
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1350, 585)), (2, (1560, 585)), (20, (2340, 1620))],
)
def test_a_png_of_the_right_size(count: int, expected: tuple[int, int], tmp_path: Path) -> None:
    history, forecast = pair([f"s{n}" for n in range(count)])
    path = tmp_path / "plot.png"
    plot_forecast(history, forecast, path, title="sales.csv")
    assert size(path) == expected


@pytest.mark.parametrize(
    "how", [{"zone": "Europe/Berlin"}, {"whole": True}, {"names": [3, 1]}, {"rows": 1}]
)
def test_any_kind_of_time_and_name(how: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    plot_forecast(*pair(how.pop("names", ["a"]), **how), path)
    assert size(path)[1] == 585


def test_without_history_and_with_names_of_all_kinds(tmp_path: Path) -> None:
    _, forecast = pair(["$x^2$", "US$ {^_} $", "売上", "a\\b"])
    plot_forecast(None, forecast, tmp_path / "plot", title="$")
    assert size(tmp_path / "plot") == (1560, 810)


def shown(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn from now on."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **how: Any) -> None:
        figures.append(figure)
        save(figure, *args, **how)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_what_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = shown(monkeypatch)
    history, forecast = pair([f"s{n:02d}" for n in range(20)])
    plot_forecast(history, forecast, tmp_path / "a.png", title="sales.csv", seasons=3)
    (figure,) = figures
    assert figure.get_suptitle() == "sales.csv: next 12 rows by NLinear (12 of 20 series)"
    assert [axis.get_title(loc="left") for axis in figure.axes] == [f"s{n:02d}" for n in range(12)]
    past, ahead = figure.axes[4].get_lines()
    mine = history[history["unique_id"] == "s04"]
    assert np.array_equal(past.get_ydata(), mine["y"].tail(36))
    # The forecast begins at the last known value, so that the line does not break.
    expected = forecast.loc[forecast["unique_id"] == "s04", "NLinear"]
    assert np.array_equal(ahead.get_ydata(), [mine["y"].iloc[-1], *expected])
    assert len(figure.axes[4].collections) == 2
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["95 % interval", "80 % interval", "history", "NLinear"]


def test_whole_numbers_name_the_same_series(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures = shown(monkeypatch)
    history, forecast = pair([7])
    plot_forecast(history, forecast.assign(unique_id="7"), tmp_path / "a.png")
    assert len(figures[0].axes[0].get_lines()) == 2
    assert figures[0].get_suptitle() == "next 12 rows by NLinear"


def test_a_band_lies_where_its_columns_say() -> None:
    _, forecast = pair(["a"])
    axis: Axes = Figure().subplots()
    draw(axis, None, forecast, "NLinear", [95, 80])
    wide, narrow = (band.get_paths()[0].get_extents() for band in axis.collections)
    assert wide.ymin == pytest.approx(forecast["NLinear-lo-95"].min())
    assert wide.ymax == pytest.approx(forecast["NLinear-hi-95"].max())
    assert narrow.ymin == pytest.approx(forecast["NLinear-lo-80"].min())


def test_the_style_stays_inside(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    plot_forecast(*pair(["a"]), tmp_path / "plot.png")
    assert dict(mpl.rcParams) == before


def test_columns_are_found() -> None:
    _, forecast = pair(["a"])
    assert forecast_columns(forecast) == ("NLinear", [95, 80])
    assert forecast_columns(forecast.assign(y=1, cutoff=2)[["cutoff", "y", *forecast]]) == (
        "NLinear", [95, 80],
    )  # fmt: skip
    assert forecast_columns(forecast[["unique_id", "ds", "NLinear"]]) == ("NLinear", [])


@pytest.mark.parametrize(
    "columns", [["unique_id", "ds"], ["ds", "NLinear"], ["unique_id", "NLinear"],
                ["unique_id", "ds", "NLinear-lo-80", "NLinear-hi-80"]],
)  # fmt: skip
def test_other_columns_are_refused(columns: list[str], tmp_path: Path) -> None:
    _, forecast = pair(["a"])
    with pytest.raises(ValueError, match="needs unique_id, ds and a model"):
        plot_forecast(None, forecast[columns], tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()
