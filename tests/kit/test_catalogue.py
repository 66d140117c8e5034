from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sigform_kit import InputError
from sigform_kit.catalogue import Figure, catalogue_of, read_catalogue

GOOD = """
[[models]]
name = "small"
task = "two speakers"
model = "MossFormer"
paper = "2302.11824"
command = "sigform-separate mix.wav"
parameters = 827584
ours = { value = 6.4, metric = "dB SI-SDRi", data = "200 mixtures", source = "RESULTS.md" }

[[models]]
name = "naive"
task = "the last value again"
model = "baseline"
command = "sigform-forecast data.csv"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "catalogue.toml"
    path.write_text(text)
    return path


def test_what_is_there_is_read_and_what_is_not_is_empty(tmp_path):
    small, naive = read_catalogue(written(tmp_path, GOOD))
    assert small.ours == Figure(
        value=6.4, metric="dB SI-SDRi", data="200 mixtures", source="RESULTS.md"
    )
    assert small.ours.text() == "6.4 dB SI-SDRi (200 mixtures)"
    assert (small.origin, naive.origin) == ("arXiv 2302.11824", "baseline")
    assert (naive.parameters, naive.published, naive.card) == (None, None, "")
    assert small.record()["ours"] == {
        "value": 6.4,
        "metric": "dB SI-SDRi",
        "data": "200 mixtures",
        "source": "RESULTS.md",
    }


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('task = "two', 'tsk = "two', "model small: key 'tsk' is unknown. Did you mean 'task'?"),
        ('task = "two speakers"\n', "", "model small: task is missing"),
        ("827584", '"0.8 M"', "model small: parameters is '0.8 M'; needs int"),
        ("827584", "true", "model small: parameters is True; needs int"),
        ("827584", "-1", "model small: parameters is -1; needs 0 or more"),
        ('"2302.11824"', '"arXiv:2302.1"', "model small: paper is 'arXiv:2302.1'; needs an arXiv"),
        ("value = 6.4", 'value = "6.4"', "model small: ours: value is '6.4'; needs float"),
        (', source = "RESULTS.md"', "", "model small: ours: source is missing"),
        ("metric =", "metrics =", "model small: ours: key 'metrics' is unknown. Did you mean 'm"),
        ('"two speakers"', '"two\\nspeakers"', "model small: task is 'two\\nspeakers'; needs one"),
        ('"two speakers"', '""', "model small: task is ''; needs one line"),
        ('name = "naive"', 'name = "small"', "name 'small' is there 2 times; needs one"),
        ('name = "small"\n', "", "model 1: name is missing"),
        ("[[models]]\nname", "[[model]]\nname", "tables are "),
        ("ours = {", "ours = 6.4 #", "model small: ours is 6.4; needs a table with value"),
        ("[[models]]", "[[models", "Expected"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_model(tmp_path, before, after, said):
    assert before in GOOD
    path = written(tmp_path, GOOD.replace(before, after))
    with pytest.raises(InputError) as caught:
        read_catalogue(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_no_models_is_said(tmp_path):
    with pytest.raises(InputError, match=r"tables are none; needs \[\[models\]\] only"):
        read_catalogue(written(tmp_path, ""))
    with pytest.raises(InputError, match="model 1 is 3; needs a table"):
        read_catalogue(written(tmp_path, "models = [3]"))


def test_a_catalogue_is_found_without_importing_its_package(tmp_path, monkeypatch):
    package = tmp_path / "some_domain"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert catalogue_of("some_domain") is None
    path = written(package, GOOD)
    assert catalogue_of("some_domain") == path
    assert catalogue_of("no_such_domain") is None
    assert catalogue_of("sys") is None
    assert "some_domain" not in sys.modules


def test_reading_is_light():
    code = (
        "import sys; from sigform_kit.catalogue import catalogue_of, read_catalogue\n"
        "found = catalogue_of('sigform_forecast')\n"
        "assert read_catalogue(found)\n"
        "print({'torch', 'numpy', 'pandas', 'sigform_forecast'} & set(sys.modules) or 'light')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "light\n"
