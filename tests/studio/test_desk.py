"""Jobs that fail say so in a line for the page, without folders of the machine."""

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sigform_kit.errors import InputError
from sigform_studio.desk import Outcome, needed, uploaded_path, without_folders
from sigform_studio.look import element, error_line, notes, status_line, table
from sigform_studio.page import TABS
from sigform_studio.visits import Job

NASTY = '<img src=x onerror="alert(1)">'


def outcome(tmp_path: Path, work: Any, *given: Any) -> Outcome:
    made = Outcome()
    made.fill(Job(tmp_path / "secret" / "job"), work, given)
    return made


def test_what_a_job_gives(tmp_path: Path) -> None:
    made = outcome(tmp_path, lambda job, number: [job.folder.is_dir(), number], 7)
    assert made.values == [True, 7]


@pytest.mark.parametrize("kind", [InputError, ValueError, OSError, MemoryError])
def test_what_was_to_be_expected_is_one_line(tmp_path: Path, kind: type[Exception]) -> None:
    path = tmp_path / "hash" / "talk.wav"

    def work(job: Job, given: str) -> list[Any]:
        raise kind(f"{given}: is empty\n{job.folder}/out.wav")

    made = outcome(tmp_path, work, str(path))
    assert made.values is None
    assert "talk.wav: is empty out.wav" in made.line
    assert str(tmp_path) not in made.line


def test_what_was_not_to_be_expected_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        made = outcome(tmp_path, lambda job: [job][1])
    assert "IndexError" in made.line
    assert "Traceback" not in made.line
    assert caplog.records[0].exc_info is not None


def test_a_stop_is_no_error(tmp_path: Path) -> None:
    def work(job: Job) -> list[Any]:
        job.stop()
        job.report("on")
        return ["done"]

    made = outcome(tmp_path, work)
    assert made.values is None
    assert "Stopped." in made.line
    assert "sf-error" not in made.line


def test_a_file_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="drop a picture first"):
        needed(None, "a picture")
    with pytest.raises(InputError, match="drop it again"):
        needed(str(tmp_path / "gone.png"), "a picture")


def test_the_path_of_an_upload() -> None:
    assert uploaded_path(None) is None
    assert uploaded_path(SimpleNamespace(path="/x/talk.wav")) == "/x/talk.wav"


def test_names_of_files_are_text_and_nothing_else() -> None:
    made = [
        error_line(NASTY), status_line(NASTY, 0.5), notes([NASTY]), table([NASTY], [[NASTY]]),
        element("sigform-forecast", {"name": NASTY}),
    ]  # fmt: skip
    for html in made:
        assert "<img" not in html
        assert "&lt;img" in html


def test_folders_are_left_out_only_where_they_are() -> None:
    job = Job(Path("/tmp/studio/job"))
    text = "/tmp/studio/job/a.wav and /tmp/up/b.wav"
    assert without_folders(text, job, ["/tmp/up/b.wav", 3, None]) == "a.wav and b.wav"
    assert without_folders("1/2 of all", job, ["mono"]) == "1/2 of all"


PAGE = """
import sys
from pathlib import Path
from sigform_studio.desk import Desk
from sigform_studio.page import build_page
from sigform_studio.visits import Visits

page = build_page(Desk(visits=Visits(Path("never"))), verbs={"upscale"})
for block in page.blocks.values():
    print(type(block).__name__, getattr(block, "value", ""))
print(sorted({"torch", "sigform_superres", "sigform_speech"} & set(sys.modules)))
"""


def test_a_domain_that_is_not_here_says_how_to_get_it() -> None:
    done = subprocess.run([sys.executable, "-c", PAGE], capture_output=True, text=True, check=True)
    for tab in TABS:
        assert (f"pip install {tab.distribution}" in done.stdout) == (tab.verb != "upscale")
    assert sum(line.startswith("File ") for line in done.stdout.splitlines()) == 1
    assert done.stdout.splitlines()[-1] == "[]"
