"""A forecaster as a file: everything comes back, and other files are refused in one line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from forecast.series import seasonal, table, tables

from sigform_core.weights import load_weights, save_weights
from sigform_forecast.baselines import NLinear
from sigform_forecast.fitting import Fitted
from sigform_forecast.forecaster import Forecaster
from sigform_forecast.panel import Panel, Scaler
from sigform_forecast.saving import load_forecaster, times_from_array, times_to_array


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    frame = tables({"a": 200, "b": 120})
    frame["price"] = frame["y"].round()
    return Forecaster(
        4, model="Informer", steps=2, budget=0.01, d_model=8, device="cpu", levels=(50, 90),
        past=["price"],
    ).fit(frame)  # fmt: skip


def assert_same(one: object, two: object, where: str) -> None:
    """Equal, whatever they are made of."""
    if isinstance(one, np.ndarray):
        assert isinstance(two, np.ndarray), where
        assert np.array_equal(one, two), where
    elif isinstance(one, pd.Index):
        assert isinstance(two, pd.Index), where
        assert one.equals(two), where
    elif isinstance(one, dict):
        assert isinstance(two, dict), where
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f"{where}[{key}]")
    elif isinstance(one, NLinear):
        assert isinstance(two, NLinear), where
        assert_same(one.state(), two.state(), where)
    elif isinstance(one, torch.nn.Module):
        assert isinstance(two, torch.nn.Module), where
        assert_same(
            {k: v.numpy() for k, v in one.state_dict().items()},
            {k: v.numpy() for k, v in two.state_dict().items()},
            where,
        )
    elif isinstance(one, (Panel, Scaler)) or hasattr(one, "half_widths"):
        assert type(one) is type(two), where
        for name in (f.name for f in fields(one)):  # pyright: ignore[reportArgumentType]
            assert_same(getattr(one, name), getattr(two, name), f"{where}.{name}")
    else:
        assert type(one) is type(two), where
        assert one == two, where


def test_everything_comes_back(fitted: Forecaster, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m.safetensors")
    settings, loaded = load_forecaster(tmp_path / "m.safetensors")
    assert settings == fitted.settings
    for field in fields(Fitted):
        if field.name != "backtest":
            assert_same(getattr(fitted.fitted, field.name), getattr(loaded, field.name), field.name)
    assert loaded.backtest is None
    again = Forecaster.load(tmp_path / "m.safetensors")
    assert again.report_.text() == fitted.report_.text()
    assert (again.model_, again.calendar_) == (fitted.model_, fitted.calendar_)
    with pytest.raises(ValueError, match="keeps no backtest; needs df"):
        again.cross_validation()
    # What was loaded is saved as it was.
    again.save(tmp_path / "n.safetensors")
    first, second = (load_weights(tmp_path / f"{n}.safetensors") for n in "mn")
    assert (first.config, first.card) == (second.config, second.card)
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_nothing_is_saved_before_a_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not fitted"):
        Forecaster(3).save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_other_files_are_refused(fitted: Forecaster, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Forecaster.load(tmp_path / "m")
    (tmp_path / "text").write_text("ds,y\n")
    with pytest.raises(ValueError, match=r"not a safetensors file|cut short"):
        Forecaster.load(tmp_path / "text")
    save_weights(tmp_path / "other", {"w": torch.ones(1)}, model="informer", config={})
    with pytest.raises(ValueError, match="for the model 'informer'; needs 'sigform-forecaster'"):
        Forecaster.load(tmp_path / "other")
    fitted.save(tmp_path / "m")
    (tmp_path / "cut").write_bytes((tmp_path / "m").read_bytes()[:-1000])
    with pytest.raises(ValueError, match="cut short"):
        Forecaster.load(tmp_path / "cut")


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+02:00"])
def test_times_come_back(zone: str | None) -> None:
    times = pd.date_range("2024-10-26 22:00", periods=9, freq="h", tz=zone).as_unit("ns")
    again = times_from_array(times_to_array(times), "ns", None if zone is None else str(times.tz))
    assert list(again) == list(times)
    assert str(again.dtype) == str(times.dtype)
    steps = pd.Index([3, 5, 7])
    assert times_from_array(times_to_array(steps), None, None).equals(steps)


def test_a_saved_informer_forecasts_without_the_training_library(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    Forecaster(3, model="Informer", steps=1, d_model=8).fit(table(seasonal(120))).save(path)
    asked = (
        "import sys; from sigform_forecast import Forecaster; "
        f"assert len(Forecaster.load({str(path)!r}).predict()) == 3; "
        "print([name for name in ('lightning', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
