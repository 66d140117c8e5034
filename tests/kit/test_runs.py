"""When a folder may take a training: never a run that somebody still wants."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigform_kit.errors import InputError
from sigform_kit.runs import FILES, check_run, clear_run
from sigform_kit.settings import write_settings


@pytest.fixture
def run(tmp_path) -> Path:
    """The folder of a run of width 8."""
    write_settings(tmp_path / "settings.toml", {"width": 8, "steps": 100})
    (tmp_path / "last.ckpt").touch()
    return tmp_path


def check(folder: Path, *, resume: bool = False, anew: bool = False, **settings: object) -> None:
    check_run(folder, {"width": 8, **settings}, same=["width"], resume=resume, anew=anew)


def test_an_empty_folder_takes_any_run(tmp_path):
    check(tmp_path)
    check(tmp_path, resume=True)


def test_a_run_is_resumed_or_replaced_only_when_asked(run):
    with pytest.raises(InputError, match="holds a run; --resume goes on, --overwrite starts anew"):
        check(run)
    check(run, resume=True, steps=200)
    check(run, anew=True, width=9)


def test_a_run_goes_on_only_with_the_same_network(run):
    with pytest.raises(InputError, match=r"holds a run with width 8; --resume with 9 needs a run"):
        check(run, resume=True, anew=True, width=9)
    (run / "settings.toml").unlink()
    check(run, resume=True, width=9)


def test_clearing_leaves_what_is_not_of_a_run(run):
    for name in (*FILES, "notes.txt"):
        (run / name).touch()
    clear_run(run)
    assert {path.name for path in run.iterdir()} == {"settings.toml", "notes.txt"}
