"""One file and its forecast: real files, every form of input and output, covariates."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_runner import undisturbed
from forecast.commands import HASTY, PLAIN, QUICK, command, saved, shell, weekly

from sigform_forecast.reading import read_table

EXAMPLES = Path(__file__).parents[2] / "examples"
NAIVE = ("--model", "SeasonalNaive", *HASTY)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder, which also holds what is temporary."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)


# --- real files ----------------------------------------------------------------------------------

# File, options, names of its series, and the dates that the forecast begins and ends with.
REAL = [
    ("airline_monthly.csv", (), 1, "1961-01-01", "1961-12-01"),
    ("co2_weekly.csv", (), 1, "2002-01-05", "2002-12-28"),
    ("ilinet_weekly.csv", ("-n", "8", "--look-back", "52"), 11, "2022-10-16", "2022-12-04"),
    ("pedestrians_hourly_long.csv", (), 2, "2023-05-01 00:00:00", "2023-05-01 23:00:00"),
    ("temps_daily_min.csv", (), 1, "1991-01-01", "1991-01-07"),
    ("us_change_quarterly.csv", (), 5, "2016-10-01", "2018-04-01"),
    ("us_retail_sales_monthly.csv", (), 1, "2016-06-01", "2017-05-01"),
    ("wikipedia_peyton_manning_daily.csv", (), 1, "2016-01-21", "2016-01-27"),
    (
        "ETTh1.csv",
        ("--target", "OT", "--look-back", "96"),
        1,
        "2018-06-26 20:00:00",
        "2018-06-27 19:00:00",
    ),
]


def check_outputs(name: str, series: int, first: str, last: str, out: str) -> None:
    """Table, picture and report of a forecast are there, finite and in line with its record."""
    record = json.loads(out)
    table = pd.read_csv(f"{name}_forecast.csv")
    model = record["model"]
    lows = [f"{model}-lo-95", f"{model}-lo-80"]
    highs = [f"{model}-hi-80", f"{model}-hi-95"]
    assert list(table.columns) == ["unique_id", "ds", model, *lows, *highs]
    horizon = record["report"]["horizon"]
    assert list(table["unique_id"].value_counts()) == [horizon] * series
    assert record["rows"] == len(table) == series * horizon
    assert (table["ds"].iloc[0], table["ds"].iloc[horizon - 1]) == (first, last)
    assert np.isfinite(table.iloc[:, 2:].to_numpy()).all()
    assert (np.diff(table[[*lows, *highs]], axis=1) >= 0).all()
    assert record["files"] == [f"{name}_forecast{end}" for end in (".csv", ".png", ".md")]
    with Path(f"{name}_forecast.png").open("rb") as picture:
        assert picture.read(8) == b"\x89PNG\r\n\x1a\n"
    report = Path(f"{name}_forecast.md").read_text()
    assert report.startswith(f"# Forecast of {horizon} rows by {model}\n")
    assert record["report"]["verdict"] in report
    for score in record["report"]["scores"]:
        assert f"| {score['name']} |" in report
    for note in record["found"]:
        assert note.removeprefix("steps: ") in report


def test_the_example_is_forecast():
    shutil.copy(EXAMPLES / "sea_surface_temperature.csv", "sst.csv")
    told = command("sst.csv", *QUICK, "--json")
    assert told.code == 0, told.err
    check_outputs("sst", 1, "2011-01-01", "2011-12-01", told.out)


@pytest.mark.parametrize(("name", "options", "series", "first", "last"), REAL)
def test_real_files_are_forecast(name, options, series, first, last):
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip("SIGFORM_FIXTURES is not set; needs the folder with data/forecast")
    shutil.copy(Path(folder, "data/forecast", name), name)
    told = command(name, *QUICK, *options, "--json")
    assert told.code == 0, told.err
    check_outputs(name.removesuffix(".csv"), series, first, last, told.out)


# --- streams and formats -------------------------------------------------------------------------


def test_stdin_to_stdout_is_bytes_in_and_bytes_out():
    text = weekly().to_csv(index=False).encode()
    words = ("-", "--model", "NLinear", *HASTY, "-n", "3")
    told = shell(*words, stdin=text)
    assert told.code == 0, told.err
    table = pd.read_csv(io.BytesIO(told.raw))
    assert list(table["ds"]) == ["2024-03-31", "2024-04-01", "2024-04-02"]
    assert "NLinear has the least error" in told.err or "forecasts these windows better" in told.err
    assert list(Path().iterdir()) == []
    same = command(*words, stdin=gzip.compress(text))
    assert same.raw == told.raw


def test_stdin_to_a_folder_is_named_after_stdin():
    text = weekly().to_csv(index=False).encode()
    told = command("-", *NAIVE, *PLAIN, "-o", "out", stdin=text)
    assert told.code == 0, told.err
    assert told.out.splitlines()[-1] == "wrote out/stdin_forecast.csv"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("-", "data.csv"), "- is stdin or stdout; needs a single input and --engine local"),
        (("data.csv", "more.csv", "-o", "-"), "names one file for 2 inputs; needs a folder"),
        (("data.csv", "-o", "-", "--engine", "ray"), "needs a single input and --engine local"),
        (("data.csv", "-o", "-", "--json"), "the table and --json would share stdout"),
        (("data.csv", "more.csv", "-o", "x.csv"), "names one file for 2 inputs; needs a folder"),
    ],
)
def test_streams_are_for_one_input(words, reason):
    saved(weekly())
    saved(weekly(), "more.csv")
    with undisturbed(Path()):
        told = command(*words)
    assert told.code == 2
    assert reason in told.error


def test_every_format_holds_the_same_table():
    saved(weekly())
    for name in ("out.csv", "out.csv.gz", "out.parquet", "new/folder/out.csv"):
        told = command("data.csv", *NAIVE, *PLAIN, "-n", "4", "-o", name)
        assert told.code == 0, told.err
        assert told.out.splitlines()[-1] == f"wrote {name}"
    expected = pd.read_csv("out.csv", parse_dates=["ds"])
    others = (pd.read_csv("out.csv.gz", parse_dates=["ds"]), pd.read_parquet("out.parquet"))
    for table in others:
        pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    assert Path("new/folder/out.csv").read_bytes() == Path("out.csv").read_bytes()
    assert Path("out.csv.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_plot_and_report_stand_beside_a_named_output():
    saved(weekly())
    command("data.csv", *NAIVE, "-o", "out.csv.gz", "--no-plot")
    command("data.csv", *NAIVE, "-o", "only.parquet", "--no-report")
    assert {p.name for p in Path().iterdir()} == {
        "data.csv", "out.csv.gz", "out.md", "only.parquet", "only.png"
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".tsv"])
def test_inputs_of_every_kind_give_the_same_forecast(suffix):
    frame = weekly()
    saved(frame, "plain.csv")
    if suffix == ".parquet":
        frame.to_parquet("data.parquet")
    else:
        frame.to_csv(f"data{suffix}", index=False, sep="\t" if suffix == ".tsv" else ",")
    for name in ("plain.csv", f"data{suffix}"):
        assert command(name, *NAIVE, *PLAIN, "-n", "3").code == 0
    assert Path("data_forecast.csv").read_text() == Path("plain_forecast.csv").read_text()


GERMAN = "Datum;Umsatz in €;Käufe\r\n" + "".join(
    f"{day:%d.%m.%Y};{1000 + 10 * (n % 7):.2f};{n % 7 + 0.5}\r\n".replace("|", ";")
    for n, day in enumerate(pd.date_range("2024-01-01", periods=70))
).replace(".00;", ",00;").replace(".5\r", ",5\r")


def test_like_input_writes_as_the_file_was_written():
    Path("daten.csv").write_bytes(GERMAN.encode("cp1252"))
    told = command("daten.csv", *NAIVE, *PLAIN, "-n", "2", "--like-input")
    assert told.code == 0, told.err
    text = Path("daten_forecast.csv").read_bytes().decode("cp1252")
    header, first, *_ = text.splitlines()
    assert header.startswith("unique_id;ds;SeasonalNaive;SeasonalNaive-lo-95")
    assert first.startswith("Umsatz in €;11.03.2024;1000,0;")
    table = read_table("daten_forecast.csv", target="SeasonalNaive")
    assert table.dialect.decimal == ","
    assert list(table.frame["unique_id"].unique()) == ["Umsatz in €", "Käufe"]
    assert list(table.frame["y"]) == pytest.approx([1000, 1010, 0.5, 1.5])
    assert list(table.frame["ds"][:2]) == list(pd.date_range("2024-03-11", periods=2))
    plain = command("daten.csv", *NAIVE, *PLAIN, "-n", "2", "-o", "plain.csv")
    assert plain.code == 0
    assert pd.read_csv("plain.csv")["SeasonalNaive"].iloc[0] == 1000.0


def test_times_keep_their_zone():
    frame = weekly(60)
    hours = pd.date_range("2024-03-30", periods=60, freq="h", tz="Europe/Berlin")
    saved(frame.assign(date=hours.tz_localize(None)))
    told = command(
        "data.csv", *NAIVE, *PLAIN, "-n", "3", "--timezone", "Europe/Berlin", "--season", "7"
    )
    assert told.code == 0, told.err
    assert "times put into Europe/Berlin" in told.err
    ahead = pd.date_range(hours[-1], periods=4, freq="h")[1:]
    assert list(pd.read_csv("data_forecast.csv")["ds"]) == [str(stamp) for stamp in ahead]


# --- columns and covariates ----------------------------------------------------------------------


def test_levels_are_those_asked_for():
    saved(weekly())
    told = command("data.csv", *NAIVE, *PLAIN, "-n", "2", "--level", "50", "--level", "90")
    assert told.code == 0, told.err
    names = list(pd.read_csv("data_forecast.csv").columns[3:])
    assert names == [f"SeasonalNaive-{end}" for end in ("lo-90", "lo-50", "hi-50", "hi-90")]
    assert "50 % covers  90 % covers" in told.out


def test_a_model_is_named_in_any_case():
    saved(weekly())
    assert command("data.csv", "--model", "seasonalnaive", *HASTY, *PLAIN, "-n", "2").code == 0
    assert pd.read_csv("data_forecast.csv").columns[2] == "SeasonalNaive"


def test_targets_may_hold_commas():
    frame = weekly(**{"sales, net": np.arange(90.0), "other": 2.0})
    saved(frame)
    told = command("data.csv", *NAIVE, *PLAIN, "-n", "2", "--target", '"sales, net", y')
    assert told.code == 0, told.err
    assert set(pd.read_csv("data_forecast.csv")["unique_id"]) == {"sales, net", "y"}


PROMO = np.arange(90) % 10 // 8


def test_known_covariates_come_from_the_file_or_from_another():
    frame = weekly(promo=PROMO)
    frame["y"] += 5 * frame["promo"]
    frame.loc[83:, "y"] = np.nan
    saved(frame)
    words = ("--known", "promo", *QUICK, "--model", "Informer", *PLAIN)
    told = command("data.csv", *words)
    assert told.code == 0, told.err
    assert "no --horizon: forecasting the 7 rows with known covariates" in told.err
    saved(frame.head(83), "past.csv")
    saved(frame.tail(7).drop(columns="y"), "future.csv")
    told = command("past.csv", "--future", "future.csv", *words)
    assert told.code == 0, told.err
    tables = [pd.read_csv(f"{name}_forecast.csv") for name in ("data", "past")]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert list(tables[0]["ds"]) == [str(day.date()) for day in frame["date"][83:]]
    # Another future, another forecast: it is used.
    saved(frame.tail(7).drop(columns="y").assign(promo=1 - frame["promo"]), "future.csv")
    assert command("past.csv", "--future", "future.csv", *words, "--overwrite").code == 0
    changed = pd.read_csv("past_forecast.csv")
    assert not np.allclose(changed["Informer"], tables[0]["Informer"], rtol=1e-6)


def test_past_covariates_are_not_series():
    saved(weekly(rain=PROMO * 1.0))
    told = command("data.csv", "--past", "rain", *QUICK, *PLAIN, "-n", "3")
    assert told.code == 0, told.err
    assert list(pd.read_csv("data_forecast.csv")["unique_id"]) == ["y"] * 3


def test_a_long_file_with_covariates_a_series():
    parts = [weekly(promo=(PROMO + n) % 2).assign(shop=name) for n, name in enumerate("ab")]
    frame = pd.concat(parts)
    frame.loc[frame.index >= 85, "y"] = np.nan
    saved(frame)
    told = command("data.csv", "--id", "shop", "--known", "promo", *QUICK, *PLAIN)
    assert told.code == 0, told.err
    assert pd.read_csv("data_forecast.csv").groupby("unique_id").size().to_dict() == {
        "a": 5, "b": 5
    }  # fmt: skip


def test_integer_steps_go_on_counting():
    frame = pd.DataFrame({"step": np.arange(1, 91), "y": weekly()["y"]})
    saved(frame)
    told = command("data.csv", "--season", "7", *NAIVE, "-n", "3")
    assert told.code == 0, told.err
    assert list(pd.read_csv("data_forecast.csv")["ds"]) == [91, 92, 93]


def test_the_same_seed_gives_the_same_table():
    saved(weekly())
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ("--model", "Informer", *QUICK, *PLAIN, "--seed", seed, "-o", f"{name}.csv")
        assert command("data.csv", *words).code == 0
    a, b, c = (Path(f"{name}.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c
