"""The subcommands of `sigform-forecast` as a person at a terminal meets them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_runner import Told, undisturbed
from forecast.commands import (
    HASTY,
    PLAIN,
    QUICK,
    command,
    finish,
    saved,
    shell,
    start,
    weekly,
)

from sigform_forecast import Forecaster
from sigform_forecast.cli import app
from sigform_kit.running import run

HEAVY = ("torch", "pandas", "numpy", "scipy", "matplotlib", "lightning", "pyarrow", "ray", "rich")
VERBS = list(app.commands)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder, which also holds what is temporary."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def fixtures(name: str) -> Path:
    """A folder of reference data; the test is skipped where there is none."""
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip(f"SIGFORM_FIXTURES is not set; needs the folder that holds {name}")
    return Path(folder, name)


def records(told: Told) -> list[dict[str, object]]:
    """The JSON lines of a command that succeeded; NaN is no JSON."""
    assert told.code == 0, told.err

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in told.out.splitlines()]


# --- help ----------------------------------------------------------------------------------------


def test_no_help_imports_what_is_heavy():
    script = (
        "import json, sys\n"
        "from sigform_forecast.cli import app\n"
        "from sigform_kit.running import run\n"
        "codes = [run(app, [*words, '--help']) for words in json.loads(sys.argv[1])]\n"
        f"print([name for name in {HEAVY} if name in sys.modules], codes)\n"
    )
    words = json.dumps([[], *([verb] for verb in VERBS)])
    done = subprocess.run(
        [sys.executable, "-c", script, words], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"[] {[0] * (len(VERBS) + 1)}"
    assert done.stderr == ""


def test_help_is_quick_and_whole():
    begun = time.perf_counter()
    told = shell("--help")
    # It takes 0.2 s; the bound is for a machine that does much else.
    assert time.perf_counter() - begun < 5
    assert told.code == 0
    assert told.err == ""
    listed = told.out.split("Commands:")[1]
    assert [line.split()[0] for line in listed.strip().splitlines()] == VERBS
    assert "..." not in listed


@pytest.mark.parametrize("verb", VERBS)
def test_each_help_names_its_options_in_words(verb):
    told = command(verb, "--help")
    assert told.code == 0
    assert "INTEGER RANGE" not in told.out.split("--device")[0]
    assert told.out.startswith(f"Usage: sigform-forecast {verb}")


def test_without_arguments_the_help_comes():
    told = command()
    assert told.code == 2
    assert "Usage: sigform-forecast" in told.out + told.err


# --- the small commands --------------------------------------------------------------------------


def test_models_lists_every_method_that_can_be_asked_for():
    from sigform_forecast.cli import METHODS
    from sigform_forecast.settings import MODELS

    listed = [row["name"] for row in records(command("models", "--json"))]
    assert set(listed) == set(MODELS) == set(METHODS) - {"auto"}
    assert "arXiv 2012.07436" in command("models").out


def test_doctor_says_what_is_installed():
    told = command("doctor", "--json")
    found = {str(row["name"]): row for row in records(told)}
    assert found["sigform-forecast"]["status"] == "ok"
    assert "torch" in found


@pytest.mark.parametrize(("colour", "expected"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_honoured_on_a_terminal(colour, expected):
    ours, theirs = os.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    subprocess.run(
        [sys.executable, "-m", "sigform_forecast", "models"],
        stdout=theirs,
        env={**kept, "TERM": "xterm", **colour},
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert b"LastValue" in shown
    assert (b"\x1b[" in shown) == expected


def test_inspect_says_what_was_found_and_trains_nothing():
    saved(weekly().drop(index=[30, 31, 50]))
    with undisturbed(Path()):
        told = command("inspect", "data.csv")
        (record,) = records(command("inspect", "data.csv", "--json"))
    assert told.out.splitlines()[0] == "data.csv: 87 rows in 1 series, daily, season 7 (also 365)"
    assert "  y: 87 rows, 2024-01-01 to 2024-03-30" in told.out
    assert "3 timestamps absent" in told.out
    assert "filled 3 missing values of 'y' by interpolation" in told.out
    assert record["targets"] == ["y"]
    assert record["rows"] == 87
    assert [f["code"] for f in record["findings"]] == ["gaps"]  # type: ignore[attr-defined]


def test_stdin_can_be_inspected_and_trained_on():
    text = weekly().to_csv(index=False).encode()
    assert command("inspect", "-", stdin=text).out.startswith("stdin: 90 rows in 1 series")
    told = command("train", "-", "--dry-run", stdin=text)
    assert told.out == "would train stdin_model.safetensors in stdin_run\n"


def test_inspect_takes_the_rules_of_repair():
    saved(weekly().drop(index=[30, 31]))
    told = command("inspect", "data.csv", "--fill", "seasonal")
    assert "with the value of one season before" in told.out


def test_the_user_decides_what_a_table_leaves_open():
    Path("data.csv").write_text(
        "date,shop,y\n" + "".join(f"0{n}/03/2024,1,{n}\n" for n in range(1, 8)), "utf-8"
    )
    for flag, step in (("--day-first", "daily"), ("--month-first", "monthly")):
        (record,) = records(command("inspect", "data.csv", "--target", "y", flag, "--json"))
        assert str(record["step"]).startswith(step)
    refused = command("inspect", "data.csv", "--target", "y", "--layout", "long")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "no column tells the series apart" in refused.err
    taken = command("inspect", "data.csv", "--target", "y", "--layout", "wide", "--day-first")
    assert taken.code == 0


# --- train and predict ---------------------------------------------------------------------------

INFORMER = ("--model", "Informer", "--steps", "4", "--d-model", "8", "-n", "7")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An Informer trained on `weekly()`."""
    folder = tmp_path_factory.mktemp("model")
    saved(weekly(), folder / "data.csv")
    place = folder / "model.safetensors"
    assert command("train", folder / "data.csv", *INFORMER, "-o", place, "-q").code == 0
    return place


def test_train_writes_model_checkpoints_and_settings():
    saved(weekly())
    told = command("train", "data.csv", *INFORMER)
    assert told.code == 0, told.err
    assert told.out.splitlines()[-1] == "wrote data_model.safetensors"
    assert "steps: daily, season 7" in told.err
    names = {str(p.relative_to("data_run")) for p in Path("data_run").rglob("*") if p.is_file()}
    assert {"settings.toml", "train/last.ckpt", "train/metrics.csv", "refit/last.ckpt"} <= names
    again = command("train", "data.csv", "-o", "other.safetensors")
    assert again.code == 1
    assert again.error == "data_run holds a run; --resume goes on, --overwrite starts anew"
    same = command(
        "train", "data.csv", "--config", "data_run/settings.toml", "--run", "two", "-o", "two.sf"
    )
    assert same.code == 0, same.err
    first, second = (Forecaster.load(p).predict() for p in ("data_model.safetensors", "two.sf"))
    pd.testing.assert_frame_equal(first, second)
    assert command("train", "data.csv", *INFORMER, "--overwrite").code == 0


def test_train_can_be_rehearsed():
    saved(weekly())
    with undisturbed(Path()):
        told = command("train", "data.csv", "--dry-run")
    assert told.out == "would train data_model.safetensors in data_run\n"


def test_predict_says_what_the_saved_forecaster_says(model):
    new = weekly(97)
    saved(new, "new.csv")
    told = command("predict", "new.csv", "--model", model, *PLAIN)
    assert told.code == 0, told.err
    found = pd.read_csv("new_forecast.csv", parse_dates=["ds"])
    frame = new.rename(columns={"date": "ds"}).assign(unique_id="y")
    expected = Forecaster.load(model).predict(frame)
    assert list(found["ds"]) == list(pd.date_range("2024-04-07", periods=7))
    assert list(found.columns) == list(expected.columns)
    numbers = expected.columns[2:]
    np.testing.assert_allclose(found[numbers], expected[numbers], rtol=1e-12)
    assert f"the scores are those of the data {model} was fitted on" in told.err


def test_predict_on_the_file_of_the_training_is_the_forecast_of_the_fit(model):
    saved(weekly())
    assert command("predict", "data.csv", "--model", model, *PLAIN).code == 0
    found = pd.read_csv("data_forecast.csv")
    np.testing.assert_allclose(
        found.iloc[:, 2:], Forecaster.load(model).predict().iloc[:, 2:], rtol=1e-5
    )


@pytest.fixture(scope="module")
def promoted(tmp_path_factory) -> Path:
    """A model that knows the future of a covariate."""
    folder = tmp_path_factory.mktemp("promoted")
    saved(weekly(promo=np.arange(90) % 10 // 8), folder / "data.csv")
    place = folder / "promoted.safetensors"
    words = ("--known", "promo", *INFORMER, "-o", place, "-q")
    assert command("train", folder / "data.csv", *words).code == 0
    return place


def test_predict_finds_the_covariates_of_the_model_by_name(promoted):
    frame = weekly(97, promo=np.arange(97) % 10 // 8)
    frame.loc[90:, "y"] = np.nan
    saved(frame)
    told = command("predict", "data.csv", "--model", promoted, *PLAIN)
    assert told.code == 0, told.err
    assert len(pd.read_csv("data_forecast.csv")) == 7
    saved(frame.head(90), "past.csv")
    saved(frame.tail(7).drop(columns="y"), "future.csv")
    told = command("predict", "past.csv", "--future", "future.csv", "--model", promoted, *PLAIN)
    assert told.code == 0, told.err
    same = [Path(f"{name}_forecast.csv").read_text() for name in ("data", "past")]
    assert same[0] == same[1]


def test_a_file_that_does_not_fit_the_model_costs_one_line(model, promoted):
    saved(weekly())
    saved(weekly().assign(date=pd.date_range("2024-01-01", periods=90, freq="h")), "hourly.csv")
    saved(weekly(20), "short.csv")
    for words, reason in (
        (("hourly.csv", "--model", model), r"steps by hourly.* fitted on daily.*; needs the same"),
        (("data.csv", "--model", model, "-n", "9"), "forecasts 7 rows and 9 are asked for"),
        (("data.csv", "--model", promoted), r"has no column 'promo' \(columns: date, y\)"),
        (("data.csv", "--model", "none.safetensors"), "none.safetensors: no such file"),
        (("data.csv", "--model", "data.csv"), "data.csv is not a safetensors file"),
    ):
        with undisturbed(Path()):
            told = command("predict", *words, *PLAIN)
        assert told.code == 1
        assert re.search(reason, told.error), told.error
    assert command("predict", "data.csv").code == 2


def test_a_spoilt_model_costs_one_line(model):
    saved(weekly())
    whole = model.read_bytes()
    for content, reason in (
        (whole[: len(whole) // 2], "is cut short; needs to be copied again"),
        (b"", "is not a safetensors file|is empty|is cut short"),
        (whole[:8] + b"x" * 40 + whole[48:], "is not a safetensors file"),
    ):
        Path("model.safetensors").write_bytes(content)
        for words in (("predict", "data.csv", "--model"), ("info",)):
            told = command(*words, "model.safetensors")
            assert told.code == 1
            assert re.search(reason, told.error), told.error


def running(process: BaseProcess, checkpoint: Path) -> Iterator[None]:
    """Yields while a training has not written its checkpoint yet."""
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.is_alive(), Path("told.txt").read_text()
        assert time.monotonic() < deadline
        yield
        time.sleep(0.02)


LONG_TRAINING = (
    *("--model", "Informer", "--steps", "120", "--d-model", "8", "-n", "3"),
    *("--look-back", "14", "--batch-size", "8"),
)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_training_that_was_stopped_is_resumed(sign):
    saved(weekly())
    process = start("train", "data.csv", *LONG_TRAINING, told=Path("told.txt"))
    for _ in running(process, Path("data_run/train/last.ckpt")):
        continue
    assert process.pid is not None
    os.kill(process.pid, sign)
    code, said = finish(process), Path("told.txt").read_text()
    if sign == signal.SIGINT:
        assert code == 130, said
        assert "data_run keeps the checkpoints; --resume goes on from there" in said
        assert "sigform-forecast: interrupted" in said
        assert "Traceback" not in said
    else:
        assert code == -signal.SIGKILL
    assert not Path("data_model.safetensors").exists()
    taken = torch.load("data_run/train/last.ckpt", weights_only=True)["global_step"]
    assert 0 < taken < 120
    told = command("train", "data.csv", *LONG_TRAINING, "--resume")
    assert told.code == 0, told.err
    steps = pd.read_csv("data_run/train/metrics.csv")["step"]
    assert steps.is_monotonic_increasing
    assert steps.iloc[-1] > taken
    # Nothing half-written is left, and the model is that of a training that never stopped.
    left = [p.name for p in Path().rglob("*") if p.is_file() and p.name.startswith(".")]
    assert left == []
    assert Forecaster.load("data_model.safetensors").model_ == "Informer"
    if sign == signal.SIGKILL:
        whole = command("train", "data.csv", *LONG_TRAINING, "--run", "b", "-o", "b.safetensors")
        assert whole.code == 0
        pd.testing.assert_frame_equal(
            Forecaster.load("data_model.safetensors").predict(),
            Forecaster.load("b.safetensors").predict(),
        )


# --- info ----------------------------------------------------------------------------------------


def test_info_tells_what_a_model_holds(model):
    told = command("info", model)
    assert told.code == 0
    assert "model: Informer\nhorizon: 7\n" in told.out
    assert "method" in told.out
    (record,) = records(command("info", model, "--json"))
    assert record["horizon"] == 7
    assert record["levels"] == [80, 95]
    assert record["step"] == "daily, season 7 (also 365)"


def test_info_of_what_is_no_model_costs_one_line():
    saved(weekly())
    assert command("info", "data.csv").error.startswith("data.csv is not a safetensors file")
    assert command("info", "none.safetensors").error == "none.safetensors: no such file"
    Path("checkpoint.pth").write_text("no checkpoint")
    error = command("info", "checkpoint.pth").error
    assert error == "checkpoint.pth is no readable PyTorch checkpoint"


PUBLISHED = (
    "informer_ETTh1_ftM_sl48_ll24_pl24_dm32_nh4_el3_dl2_df64_atprob_fc3_ebtimeF_dtTrue_mxTrue_exp_0"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint as the published training saves it, from the reference tensors."""
    from safetensors.torch import load_file

    source = fixtures("golden/informer_a.safetensors")
    state = {
        name.removeprefix("state."): tensor
        for name, tensor in load_file(source).items()
        if name.startswith("state.")
    }
    place = tmp_path_factory.mktemp("published") / PUBLISHED / "checkpoint.pth"
    place.parent.mkdir()
    torch.save(state, place)
    return place


def test_a_published_checkpoint_is_told_of_and_forecasts(checkpoint):
    (record,) = records(command("info", checkpoint, "--json"))
    assert (record["seq_len"], record["label_len"], record["out_len"]) == (48, 24, 24)
    assert "published Informer, 59,719 parameters" in command("info", checkpoint).out
    hours = pd.date_range("2024-01-01", periods=120, freq="h")
    columns = {f"x{n}": np.sin(np.arange(120) / 4 + n) for n in range(7)}
    saved(pd.DataFrame({"date": hours, **columns}))
    told = command("predict", "data.csv", "--model", checkpoint, "--no-plot")
    assert told.code == 0, told.err
    table = pd.read_csv("data_forecast.csv")
    assert list(table.columns) == ["unique_id", "ds", "Informer"]
    assert table["ds"].iloc[0] == "2024-01-06 00:00:00"
    assert len(table) == 7 * 24
    assert "no intervals, no backtest" in told.err
    assert "No backtest was made." in Path("data_forecast.md").read_text()
    again = command("predict", "data.csv", "--model", checkpoint, *PLAIN, "-o", "again.csv")
    assert again.code == 0
    assert Path("again.csv").read_text() == Path("data_forecast.csv").read_text()


def test_a_published_checkpoint_elsewhere_costs_one_line(checkpoint):
    saved(weekly())
    assert "the data is daily" in command("predict", "data.csv", "--model", checkpoint).error
    Path("mine").mkdir()
    Path("mine/checkpoint.pth").write_bytes(checkpoint.read_bytes())
    error = command("predict", "data.csv", "--model", "mine/checkpoint.pth").error
    assert error.startswith("the folder is called 'mine', without sl... for seq_len")


# --- backtest, plot, benchmark -------------------------------------------------------------------


def test_backtest_writes_windows_that_utilsforecast_reads():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a docstring of theirs has an invalid escape
        from utilsforecast.evaluation import evaluate
        from utilsforecast.losses import coverage, mae

    saved(weekly())
    words = ("--model", "NLinear", *HASTY, "-n", "5", "--json", "-o", "windows.csv")
    (record,) = records(command("backtest", "data.csv", *words))
    table = pd.read_csv("windows.csv", parse_dates=["ds", "cutoff"])
    assert list(table.columns[:4]) == ["unique_id", "ds", "cutoff", "y"]
    found = evaluate(
        table.drop(columns="cutoff"), metrics=[mae, partial(coverage, level=95)], level=[95],
        models=["NLinear"],
    )  # fmt: skip
    scores = {score["name"]: score for score in record["scores"]}  # type: ignore[attr-defined]
    assert found["NLinear"].iloc[0] == pytest.approx(scores["NLinear"]["mae"], rel=1e-9)
    assert (
        list(Path().iterdir()) == [Path("data.csv"), Path("windows.csv")]
        or len(list(Path().iterdir())) == 2
    )
    told = command("backtest", "data.csv", "--model", "NLinear", "-o", "windows.csv")
    assert told.error.startswith("windows.csv exists")


def test_plot_draws_a_forecast_again():
    saved(weekly())
    assert command("data.csv", "--model", "SeasonalNaive", *HASTY, "-n", "7", "-q").code == 0
    drawn = Path("data_forecast.png").read_bytes()
    told = command("plot", "data_forecast.csv", "--history", "data.csv", "--overwrite")
    assert told.out == "wrote data_forecast.png\n"
    assert Path("data_forecast.png").read_bytes()[:8] == drawn[:8] == b"\x89PNG\r\n\x1a\n"
    assert command("plot", "data_forecast.csv").error.startswith("data_forecast.png exists")
    assert command("plot", "data.csv").error.startswith("data.csv is no forecast table: the col")
    assert command("plot", "data_forecast.csv", "-o", "a/b.png").code == 0
    assert Path("a/b.png").exists()


def test_benchmark_reproduces_the_naive_rows():
    folder = fixtures("data/forecast")
    told = command("benchmark", "--data", folder, "--naive", "--json", "-n", "24")
    rows = {str(row["method"]): row for row in records(told)}
    for method, mse, mae in (("SN24", 0.046, 0.166), ("last value", 0.034, 0.139)):
        assert round(float(rows[method]["mse"]), 3) == mse  # type: ignore[arg-type]
        assert round(float(rows[method]["mae"]), 3) == mae  # type: ignore[arg-type]
    assert rows["SN24"]["windows"] == 2857


def test_benchmark_trains_and_tests_on_any_folder():
    frame = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=400, freq="h")})
    saved(frame.assign(OT=np.sin(np.arange(400) * 2 * np.pi / 24), x=1.0), "own.csv")
    words = ("benchmark", "--data", ".", "--dataset", "own", "-n", "6", "--seeds", "0", "--json")
    rows = records(command(*words, "--steps", "1", "--d-model", "8"))
    methods = [str(row["method"]) for row in rows]
    assert methods[0] == "SN24"
    assert methods[-1] == "mean"
    assert any(name.startswith("Informer") for name in methods)
    assert all(row["mse"] is not None for row in rows)
    assert Path("runs/own-S-h6-seed0/metrics.csv").exists()
    assert "holds a run; needs resume" in command(*words, "--steps", "1", "--d-model", "8").error
    assert command(*words, "--seeds", "a").error.startswith("--seeds is 'a'; needs numbers")
    none = command("benchmark", "--data", "nowhere").error
    assert none == "nowhere/ETTh1.csv is not there; needs the CSV of ETTh1"


# --- the umbrella --------------------------------------------------------------------------------


def test_the_umbrella_command_does_the_same(capsys):
    from sigform_suite.cli import make_app

    saved(weekly())
    words = [*QUICK, *PLAIN, "-q", "-n", "3"]
    assert run(make_app(), ["forecast", "data.csv", *words, "-o", "umbrella.csv"]) == 0
    assert command("data.csv", *words, "-o", "own.csv").code == 0
    assert Path("umbrella.csv").read_bytes() == Path("own.csv").read_bytes()
    assert run(make_app(), ["forecast", "inspect", "none.csv"]) == 1
    assert "none.csv: no such file" in capsys.readouterr().err
