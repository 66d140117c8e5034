"""Which outputs belong to which inputs, and what happens to those that exist."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from command_runner import Told, undisturbed
from forecast.commands import HASTY, PLAIN, command, saved, weekly

from sigform_forecast.batch import threads_of
from sigform_forecast.jobs import stem_of
from sigform_kit.options import Common

NAIVE = ("--model", "LastValue", "-n", "2", *HASTY)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder, which also holds what is temporary."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def planned(*args: object) -> dict[str, list[str]]:
    """The outputs of each input, as `--dry-run` tells them; nothing is written."""
    with undisturbed(Path()):
        told = command(*args, "--dry-run", "--json")
    assert told.code == 0, told.err
    lines = [json.loads(line) for line in told.out.splitlines()]
    return {line["input"]: line["files"] for line in lines}


def files() -> set[str]:
    """Every file below the working folder."""
    return {str(path) for path in Path().rglob("*") if path.is_file()}


# --- names of outputs ----------------------------------------------------------------------------


def test_outputs_stand_beside_their_input():
    saved(weekly(), "in/data.csv")
    found = [f"in/data_forecast{end}" for end in (".csv", ".png", ".md")]
    assert planned("in/data.csv") == {"in/data.csv": found}
    assert planned("in/data.csv", "--no-plot", "--no-report") == {"in/data.csv": found[:1]}
    told = command("in/data.csv", "--dry-run")
    assert told.out == f"in/data.csv -> {', '.join(found)}\n"


@pytest.mark.parametrize(
    ("output", "table"),
    [
        ("out", "out/data_forecast.csv"),
        ("there.is", "there.is/data_forecast.csv"),
        ("out.csv", "out.csv"),
        ("new/out.csv.gz", "new/out.csv.gz"),
        ("out.parquet", "out.parquet"),
        ("-", "-"),
    ],
)
def test_an_output_is_a_file_a_folder_or_stdout(output, table):
    saved(weekly())
    Path("there.is").mkdir()
    told = command("data.csv", "-o", output, *PLAIN, "--dry-run")
    assert told.out == f"data.csv -> {table}\n"


def test_folders_keep_their_structure():
    for name in ("in/a.csv", "in/deep/er/b.tsv", "in/deep/c.csv.gz", "in/.hidden/d.csv"):
        saved(weekly(), name)
    Path("in/notes.md").write_text("nothing")
    assert planned("in", "-o", "out", *PLAIN) == {
        "in/a.csv": ["out/a_forecast.csv"],
        "in/deep/c.csv.gz": ["out/deep/c_forecast.csv"],
        "in/deep/er/b.tsv": ["out/deep/er/b_forecast.csv"],
    }
    assert planned("in/**/*.csv*", "-o", "out", *PLAIN) == {
        "in/a.csv": ["out/a_forecast.csv"],
        "in/deep/c.csv.gz": ["out/deep/c_forecast.csv"],
    }
    assert planned("in/deep", "in/a.csv", *PLAIN) == {
        "in/a.csv": ["in/a_forecast.csv"],
        "in/deep/c.csv.gz": ["in/deep/c_forecast.csv"],
        "in/deep/er/b.tsv": ["in/deep/er/b_forecast.csv"],
    }


def test_the_outputs_of_an_earlier_run_are_no_inputs():
    saved(weekly(), "in/a.csv")
    assert command("in", *NAIVE, *PLAIN).code == 0
    saved(weekly(), "in/b.csv")
    with undisturbed(Path()):
        told = command("in", *PLAIN, "--skip-existing", "--dry-run")
    assert told.code == 0, told.err
    assert told.out.splitlines() == [
        "in/a.csv -> nothing: all of it exists",
        "in/b.csv -> in/b_forecast.csv",
    ]
    assert told.err == "in/a_forecast.csv is a forecast itself; left out\n"
    # Named alone, a forecast is a table like any other.
    assert planned("in/a_forecast.csv", *PLAIN) == {
        "in/a_forecast.csv": ["in/a_forecast_forecast.csv"]
    }


def test_two_inputs_never_share_an_output():
    saved(weekly(), "a.csv")
    saved(weekly(), "a.tsv")
    with undisturbed(Path()):
        told = command("a.csv", "a.tsv")
    assert told.code == 2
    assert told.error.startswith("output a_forecast.csv would be written twice")


def test_stems_are_without_any_suffix():
    names = {"a.csv": "a", "b.csv.gz": "b", "-": "stdin", "sales.2024.csv": "sales.2024"}
    assert {name: stem_of(Path(name)) for name in names} == names


def test_threads_are_shared_out_among_the_jobs(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert threads_of(Common(jobs=1)) >= threads_of(Common(jobs=4)) >= 1
    assert threads_of(Common(jobs=64)) == 1
    assert threads_of(Common(jobs=4, threads=7)) == 7


# --- existing outputs ----------------------------------------------------------------------------


def ran(*args: object) -> Told:
    told = command("data.csv", *NAIVE, *args)
    assert told.code == 0, told.err
    return told


def test_overwrite_replaces_and_skip_existing_leaves():
    saved(weekly())
    Path("data_forecast.csv").write_text("mine")
    told = ran("--skip-existing")
    assert told.out == ""
    assert told.err == "data_forecast.csv exists; skipped\n"
    assert files() == {"data.csv", "data_forecast.csv"}
    (line,) = ran("--skip-existing", "--json").out.splitlines()
    assert json.loads(line)["status"] == "skipped"
    ran("--overwrite", *PLAIN)
    assert len(pd.read_csv("data_forecast.csv")) == 2
    both = command("data.csv", *NAIVE, "--overwrite", "--skip-existing")
    assert both.code == 2
    assert "exclude each other" in both.error


def test_skip_existing_finishes_what_a_killed_run_began():
    saved(weekly())
    Path("data_forecast.md").write_text("from before")
    told = ran("--skip-existing")
    assert "wrote data_forecast.csv\nwrote data_forecast.png" in told.out
    assert "data_forecast.md" not in told.out
    assert Path("data_forecast.md").read_text() == "from before"


def test_the_table_appears_last_so_that_it_stands_for_the_whole(monkeypatch):
    saved(weekly())
    appeared: list[str] = []
    link = os.link

    def note(source: Path, target: Path) -> None:
        appeared.append(Path(target).name)
        link(source, target)

    monkeypatch.setattr(os, "link", note)
    ran()
    assert appeared == ["data_forecast.md", "data_forecast.png", "data_forecast.csv"]


def test_an_interrupt_while_writing_leaves_nothing(monkeypatch):
    saved(weekly())

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sigform_forecast.plotting.plot_forecast", interrupt)
    with undisturbed(Path()):
        told = command("data.csv", *NAIVE)
    assert told.code == 130
    assert told.err.endswith("sigform-forecast: interrupted\n")


# --- what is said --------------------------------------------------------------------------------


def test_quiet_leaves_only_the_result():
    saved(weekly().drop(index=[30]))
    told = ran(*PLAIN, "-q")
    assert told.err == ""
    assert told.out.endswith("wrote data_forecast.csv\n")
    assert "filled 1 missing value of 'y'" in ran(*PLAIN, "--overwrite").err


def test_json_is_one_object_a_line_without_nan():
    saved(weekly(y=5.0))
    (line,) = ran(*PLAIN, "--json").out.splitlines()

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    record = json.loads(line, parse_constant=refuse)
    assert record["status"] == "done"
    assert record["files"] == ["data_forecast.csv"]
    assert {"found", "input", "model", "output", "report", "rows", "summary"} <= set(record)


def test_a_config_file_fills_the_defaults():
    saved(weekly())
    Path("settings.toml").write_text(
        'horizon = 3\nlevel = [50]\nmodel = "seasonalnaive"\nplot = false\nbudget = "5s"\n'
        'target = ["y"]\n'
    )
    told = command("data.csv", "--config", "settings.toml", "-n", "4")
    assert told.code == 0, told.err
    table = pd.read_csv("data_forecast.csv")
    assert len(table) == 4
    assert list(table.columns[2:]) == ["SeasonalNaive"] + [
        f"SeasonalNaive-{end}-50" for end in ("lo", "hi")
    ]
    assert files() == {"data.csv", "settings.toml", "data_forecast.csv", "data_forecast.md"}


def test_debug_shows_the_traceback():
    Path("data.csv").write_text("date,y\n")
    told = command("data.csv", "--debug")
    assert told.code == 1
    assert "Traceback" in told.err
