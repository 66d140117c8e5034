"""Whatever is wrong with an input costs one clear line, and leaves nothing behind."""

from __future__ import annotations

import gzip
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_runner import undisturbed
from forecast.commands import (
    HASTY,
    PLAIN,
    QUICK,
    command,
    edited,
    finish,
    saved,
    start,
    weekly,
)

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 8


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder, which also holds what is temporary."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def refused(*args: object, code: int = 1) -> str:
    """The one line of a command that must fail and leave the folder as it was."""
    with undisturbed(Path()):
        told = command(*args)
    assert told.code == code, told.err
    assert told.raw == b""
    return told.error


def replaced(number: int, text: str) -> str:
    """A good table in which one line reads otherwise."""

    def edit(lines: list[str]) -> None:
        lines[number - 1] = text

    return edited(weekly(), edit)


FILES = {
    "missing": (None, "no such file"),
    "empty": ("", "is empty; needs a header and rows"),
    "blank lines": ("\n\n\n", "is empty; needs a header and rows"),
    "header only": ("date,y\n", r"has a header and no rows \(date, y\)"),
    "one row": ("date,y\n2024-01-01,3\n", "holds 1 row of data; needs at least two"),
    "no date column": (
        "x,y\n" + "0.5,1.5\n0.25,2.5\n" * 20,
        r"no column holds dates; needs one, or --time .* \(columns: x, y\)",
    ),
    "text in values": (
        replaced(8, "2024-01-07,oops"),
        "line 8: column 'y' holds 'oops'; needs a number",
    ),
    "infinite value": (
        replaced(31, "2024-01-30,inf"),
        "line 31: column 'y' holds 'inf'; needs a finite number",
    ),
    "a date that is none": (
        replaced(40, "2024-02-31,7"),
        "line 40: time column 'date' holds '2024-02-31'; needs a date like %Y-%m-%d",
    ),
    "ragged row": (replaced(12, "2024-01-11,7,8"), "line 12: has 3 columns; needs 2"),
    "binary": (np.random.default_rng(0).bytes(4000), "is a binary file; needs a text table"),
    "picture": (PNG, "is a binary file; needs a text table"),
    "spreadsheet": (b"PK\x03\x04" + bytes(400), "is a zip or Excel file; needs a text table"),
    "no values": (weekly(y=np.nan).to_csv(index=False), "no series has a value"),
}


@pytest.mark.parametrize(("content", "reason"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("verb", ["forecast", "inspect"])
def test_a_bad_file_costs_one_line(content, reason, verb):
    if content is not None:
        Path("data.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    error = refused(verb, "data.csv", *(QUICK if verb == "forecast" else ()))
    assert re.search(reason, error), error
    if "no series" not in reason:
        assert error.startswith("data.csv: ")


def test_a_broken_gzip_file_costs_one_line():
    whole = gzip.compress(weekly().to_csv(index=False).encode())
    Path("cut.csv.gz").write_bytes(whole[:-20])
    Path("spoilt.csv.gz").write_bytes(whole[:20] + bytes(40) + whole[60:])
    assert refused("cut.csv.gz").startswith("cut.csv.gz: the gzip data is broken")
    assert refused("spoilt.csv.gz").startswith("spoilt.csv.gz: the gzip data is broken")


def test_a_broken_parquet_file_costs_one_line():
    weekly().to_parquet("data.parquet")
    Path("data.parquet").write_bytes(Path("data.parquet").read_bytes()[:-30])
    assert refused("data.parquet").startswith("data.parquet: is a broken parquet file")


def test_a_folder_without_tables_costs_one_line():
    Path("sub").mkdir()
    Path("sub/notes.md").write_text("nothing")
    assert refused("sub") == "sub: no file ending in .csv, .gz, .parquet, .tsv, .txt found"


OPTIONS = {
    "unknown target": (("--target", "yy"), 1, r"has no column 'yy'; did you mean 'y'\?"),
    "unknown id": (("--id", "shop"), 1, r"has no column 'shop' \(columns: date, y, promo\)"),
    "unknown time": (("--time", "Date"), 1, r"has no column 'Date'; did you mean 'date'\?"),
    "unknown known": (("--known", "promos"), 1, r"no column 'promos'; did you mean 'promo'\?"),
    "unknown past": (("--past", "promos"), 1, r"no column 'promos'; did you mean 'promo'\?"),
    "two roles": (("--known", "promo", "--past", "promo"), 1, "has 2 roles; needs one"),
    "wrong frequency": (("--freq", "h"), 1, "--freq h does not fit: the commonest step is 1 day"),
    "no frequency": (("--freq", "banana"), 1, "freq is 'banana'; needs one of s, min, h, D"),
    "wrong zone": (("--timezone", "Europe/Berlon"), 1, "needs a name like 'Europe/Berlin'"),
    "wrong dates": (("--date-format", "%d.%m.%Y"), 1, r"line 2: .* needs a date like %d.%m.%Y"),
    "wrong encoding": (("--encoding", "latin-9000"), 1, "needs one that Python knows"),
    "wrong separator": (("--separator", ";;"), 1, "needs one character or 'whitespace'"),
    "wrong decimal": (("--decimal", ";"), 2, "'--decimal': ';' is not one of"),
    "wrong fill": (("--fill", "magic"), 2, "'--fill': 'magic' is not one of"),
    "no level": (("--level", "100"), 2, "'--level': 100 is not in the range"),
    "no horizon": (("--horizon", "0"), 2, "'--horizon': 0 is not in the range"),
    "no budget": (("--budget", "soon"), 2, "'soon' is no time span; needs one such as 60s"),
    "no width": (("--d-model", "10"), 2, "'--d-model': width is 10; needs a multiple of 4"),
    "unknown device": (("--device", "tpu"), 2, "device is 'tpu'; needs auto, cpu, cuda"),
    "absent device": (("--device", "cuda:99"), 1, "'cuda:99'"),
    "no dtype": (("--dtype", "float16"), 1, "dtype is 'float16' on the CPU"),
    "long horizon": (("-n", "500"), 1, "the horizon is 500 rows and the longest series has 90"),
    "long for Informer": (("-n", "40", "--model", "Informer"), 1, "90 rows leave no training"),
    "future for nothing": (("--future", "data.csv"), 1, "needs --known with their columns"),
    "no future": (("--known", "promo"), 1, "promo is known for 0 rows after the last value"),
    "missing config": (("--config", "none.toml"), 2, "'none.toml' does not exist"),
}


@pytest.mark.parametrize(("options", "code", "reason"), OPTIONS.values(), ids=OPTIONS)
def test_an_option_that_does_not_fit_costs_one_line(options, code, reason):
    saved(weekly(promo=np.arange(90) % 10 // 8))
    error = refused("data.csv", "--steps", "2", *options, code=code)
    assert re.search(reason, error), error


def test_gaps_are_an_error_where_asked():
    saved(weekly().drop(index=[30, 31]))
    error = refused("data.csv", *QUICK, "--fill", "error")
    assert error.startswith("'y' lacks 2 values, the first at 2024-01-31")


def test_the_known_future_must_reach_the_horizon_before_anything_is_trained():
    frame = weekly(promo=np.arange(90) % 10 // 8)
    frame.loc[80:, "y"] = np.nan
    saved(frame)
    error = refused("data.csv", *QUICK, "--known", "promo", "-n", "14")
    assert error.startswith("promo is known for 10 rows after the last value; needs 14")


def test_wrong_words_get_the_nearest_right_one():
    saved(weekly())
    assert "No such option '--horizn'. Did you mean '--horizon'?" in refused(
        "data.csv", "--horizn", "3", code=2
    )
    assert "'inspet'. Did you mean 'inspect'?" in refused("inspet", "data.csv", code=2)
    assert "Did you mean 'informer'?" in refused("data.csv", "--model", "informr", code=2)
    Path("settings.toml").write_text("horizonn = 3\n")
    error = refused("data.csv", "--config", "settings.toml", code=2)
    assert "settings.toml: no option named 'horizonn'. Did you mean 'horizon'?" in error


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("data.csv", "output data.csv is also an input"),
        ("data.csv/out.csv", "Not a directory"),
        ("/proc/out.csv", "/proc/out.csv"),
        ("/dev/full", "/dev/full is not a regular file; use - for stdout"),
        ("sub.csv", "sub.csv is a folder|sub.csv/data_forecast.csv exists"),
    ],
)
def test_an_output_that_cannot_be_written_costs_one_line(target, reason):
    saved(weekly())
    saved(weekly(), "sub.csv/data_forecast.csv")
    code = 2 if target == "data.csv" else 1
    error = refused("data.csv", "--model", "LastValue", *HASTY, *PLAIN, "-o", target, code=code)
    assert re.search(reason, error), error


def test_existing_outputs_are_refused_before_anything_is_read():
    Path("data.csv").write_text("no table")
    for name in ("data_forecast.csv", "data_forecast.png", "data_forecast.md"):
        Path(name).write_text("mine")
        error = refused("data.csv")
        assert error == f"{name} exists; --overwrite replaces it, --skip-existing leaves it"
        Path(name).unlink()


def test_a_full_disk_leaves_no_half_output(monkeypatch):
    saved(weekly())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refused("data.csv", "--model", "LastValue", *HASTY) == "No space left on device"


def test_one_bad_file_among_several_is_listed_and_the_rest_is_done():
    saved(weekly(), "in/a.csv")
    saved(weekly(start="2023-05-05"), "in/deep/c.csv")
    Path("in/b.csv").write_text("date,y\n")
    told = command("in", "--model", "LastValue", *HASTY, *PLAIN, "-o", "out")
    assert told.code == 1
    assert told.error == "1 of 3 inputs failed"
    assert "failed: in/b.csv: has a header and no rows (date, y)\n" in told.err
    found = sorted(str(p) for p in Path("out").rglob("*") if p.is_file())
    assert found == ["out/a_forecast.csv", "out/deep/c_forecast.csv"]
    assert "in/a.csv: steps: daily" in told.err


# Data that is odd but can be forecast: it works, and says what it did.


def forecast_of(*args: object) -> tuple[pd.DataFrame, str]:
    """Forecast and messages of a command that must succeed."""
    told = command("data.csv", *QUICK, *PLAIN, *args)
    assert told.code == 0, told.err
    return pd.read_csv("data_forecast.csv"), told.err


def test_an_empty_column_beside_a_good_one_is_left_out():
    saved(weekly(z=np.nan))
    table, said = forecast_of("-n", "3")
    assert list(table["unique_id"]) == ["y"] * 3
    assert "left out 'z': no values" in said


@pytest.mark.parametrize("value", [5.0, 0.0, -1e9])
def test_a_constant_series_stays_constant(value):
    saved(weekly(y=value))
    table, said = forecast_of("-n", "3")
    assert f"'y': constant at {value:g}" in said.replace(",", "")
    assert np.allclose(table.iloc[:, 2:], value, rtol=1e-6)


def test_a_look_back_longer_than_the_data_is_shortened():
    saved(weekly())
    _, said = forecast_of("-n", "5", "--look-back", "500", "--model", "Informer")
    assert re.search(r"the look-back was shortened from 500 to \d\d rows", said)


def test_three_rows_are_enough_for_a_simple_method():
    saved(weekly(3))
    table, said = forecast_of("-n", "1")
    assert len(table) == 1
    assert "Informer was left out: 3 rows leave no training" in said


def test_columns_of_one_name_are_told_apart():
    text = weekly(z=1.0).to_csv(index=False).replace("date,y,z", "date,y,y")
    Path("data.csv").write_text(text)
    table, said = forecast_of("-n", "2")
    assert list(table["unique_id"]) == ["y", "y", "y.2", "y.2"]
    assert "column name 'y' appears again: read as 'y.2'" in said


def test_gaps_doubles_and_disorder_are_repaired_and_said():
    frame = weekly().drop(index=[30, 31])
    frame = pd.concat([frame.iloc[50:], frame.iloc[:51]])
    saved(frame)
    table, said = forecast_of("-n", "2")
    assert list(table["ds"]) == ["2024-03-31", "2024-04-01"]
    assert "filled 2 missing values of 'y' by interpolation" in said
    assert "out of order of time" in said
    assert "merged" in said


def long_table(series: int, rows: int) -> Path:
    """A long table of hourly series."""
    count = series * rows
    noise = np.random.default_rng(0).normal(size=count)
    frame = pd.DataFrame(
        {
            "shop": np.repeat([f"s{n:03}" for n in range(series)], rows),
            "time": np.tile(pd.date_range("2000-01-01", periods=rows, freq="h"), series),
            "sales": np.round(50 + 10 * np.sin(np.arange(count) * 2 * np.pi / 24) + noise, 2),
        }
    )
    return saved(frame, "long.csv")


def grown(*args: object) -> float:
    """MiB by which the memory of a command grew at most."""
    process = start("long.csv", "-n", "24", *args, *PLAIN, told=Path("told.txt"))
    code, said = finish(process, 900), Path("told.txt").read_text()
    assert code == 0, said
    return float(re.findall(r"grew by (\d+) MiB", said)[0])


def test_two_hundred_thousand_rows_do_not_explode():
    long_table(20, 10_000)
    # Measured 240: half of it is what the libraries take for themselves.
    assert grown(*QUICK) < 400
    assert len(pd.read_csv("long_forecast.csv")) == 20 * 24


@pytest.mark.slow
def test_two_million_rows_do_not_explode():
    long_table(200, 10_000)
    assert grown("--budget", "20s") < 1500
    assert len(pd.read_csv("long_forecast.csv")) == 200 * 24
