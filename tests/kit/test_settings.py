from __future__ import annotations

import enum
import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.sample_app import app

from sigform_kit import run, to_toml, write_settings

# Every letter but halves of surrogate pairs, which no text file can hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALAR = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)


@given(st.dictionaries(TEXT, SCALAR | st.lists(SCALAR)))
def test_tomllib_reads_back_what_is_written(settings):
    assert tomllib.loads(to_toml(settings)) == settings


class Colour(enum.Enum):
    RED = "red"


def test_kinds_of_values():
    written = to_toml(
        {"a": None, "b": Path("x/y"), "c": (1, 2.5), "d": Colour.RED, "e": math.inf, "f": math.nan}
    )
    read = tomllib.loads(written)
    assert math.isnan(read.pop("f"))
    assert read == {"b": "x/y", "c": [1, 2.5], "d": "red", "e": math.inf}


def test_numpy_floats_are_plain_numbers():
    import numpy

    assert to_toml({"lr": numpy.float64(0.1)}) == "lr = 0.1\n"


@pytest.mark.parametrize("value", [{"x": 1}, object(), [None], "\ud800"])
def test_other_values_are_refused_by_name(value):
    with pytest.raises(ValueError, match="setting 'lr': "):
        to_toml({"lr": value})


def test_write_settings_replaces_and_comments(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("old")
    write_settings(path, {"epochs": 3}, "sample train\nsigform-kit 0.1.0")
    assert path.read_text() == "# sample train\n# sigform-kit 0.1.0\nepochs = 3\n"


def test_resolved_settings_are_a_config_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_text("abc")
    args = ["data.txt", "-h", "2", "--column", "a", "--device", "cpu", "-q"]
    assert run(app, [*args, "-o", "one.txt"]) == 0
    settings = tomllib.loads((tmp_path / "one.txt.toml").read_text())
    assert settings == {
        "out": "one.txt",
        "horizon": 2,
        "scale": 1.0,
        "column": ["a"],
        "loud": False,
        "device": "cpu",
        "dtype": "float32",
        "seed": 0,
        "batch-size": 32,
        "jobs": 1,
        "engine": "local",
    }
    (tmp_path / "one.txt").unlink()
    assert run(app, ["data.txt", "--config", "one.txt.toml"]) == 0
    assert (tmp_path / "one.txt").read_text() == "abcabc"
    assert capsys.readouterr().out == ""
