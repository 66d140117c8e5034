"""What a studio writes is gone when it ends, however it ends."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sigform_studio.workfolder import LOCK, UNLOCKED_SECONDS, remove_orphans, work_folder

HOLD = """
import sys, time
from sigform_studio.workfolder import work_folder
with work_folder() as folder:
    (folder / "files" / "secret").write_text("mine")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)


def test_all_of_it_is_private_and_goes(tmp_path: Path) -> None:
    with work_folder() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o077 == 0
        assert Path(os.environ["GRADIO_TEMP_DIR"]).parent == folder
        assert Path(tempfile.mkdtemp()).is_relative_to(folder)
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir() == str(tmp_path)
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_it_goes_after_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    with pytest.raises(ZeroDivisionError), work_folder():
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    assert os.environ["GRADIO_TEMP_DIR"] == "before"


def test_a_killed_studio_is_cleaned_up_after_and_a_running_one_let_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        assert (theirs / "files" / "secret").exists()
        assert remove_orphans(tmp_path) == []
        other.kill()
        other.wait()
    assert (theirs / "files" / "secret").exists()
    with work_folder() as folder:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder]


def test_a_folder_that_is_being_made_is_let_alone(tmp_path: Path) -> None:
    folder = tmp_path / "sigform-studio-new"
    folder.mkdir()
    assert remove_orphans(tmp_path) == []
    old = time.time() - UNLOCKED_SECONDS - 1
    os.utime(folder, (old, old))
    assert remove_orphans(tmp_path) == [folder]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "documents"
    target.mkdir()
    (target / LOCK).touch()
    (tmp_path / "sigform-studio-link").symlink_to(target)
    assert remove_orphans(tmp_path) == []
    assert target.exists()
