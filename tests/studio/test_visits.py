"""Visits keep their files apart, and leave none."""

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigform_studio.visits import Job, Progress, StoppedError, Visits


def upload(root: Path, name: str = "talk.wav") -> Path:
    path = root / "hash" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"sound")
    return path


def wrote(job: Job, name: str = "result.txt") -> Path:
    def work() -> Path:
        path = job.folder / name
        path.write_text("mine")
        return path

    return job.run(work)


def test_each_visit_has_folders_of_its_own(tmp_path: Path) -> None:
    visits = Visits(tmp_path)
    jobs = [visits.begin(visit, tab) for visit in ("anna", "ben") for tab in ("a", "b")]
    assert len({wrote(job) for job in jobs}) == 4
    visits.end("anna")
    assert [job.folder.exists() for job in jobs] == [False, False, True, True]
    visits.close()
    assert list(tmp_path.iterdir()) == []


def test_a_new_job_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    visits = Visits(tmp_path)
    first = visits.begin("anna", "a")
    wrote(first)
    second = visits.begin("anna", "a")
    assert not first.folder.exists()
    assert visits.job("anna", "a") is second
    with pytest.raises(StoppedError):
        first.report("still here")


def test_work_that_goes_on_after_its_page_leaves_nothing(tmp_path: Path) -> None:
    visits = Visits(tmp_path)
    job = visits.begin("anna", "a")
    inside, gone = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        assert gone.wait(10)
        (job.folder / "late.txt").write_text("late")

    thread = threading.Thread(target=lambda: job.run(work))
    thread.start()
    assert inside.wait(10)
    visits.end("anna")
    assert job.folder.exists()  # it would fail in the middle otherwise
    gone.set()
    thread.join()
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_was_stopped_while_it_waited_never_begins(tmp_path: Path) -> None:
    job = Visits(tmp_path).begin("anna", "a")
    job.stop()
    with pytest.raises(StoppedError):
        wrote(job)
    assert not job.folder.exists()


def test_a_report_says_how_far_and_stops(tmp_path: Path) -> None:
    job = Job(tmp_path / "job")
    job.report("separating", 3, 4)
    assert job.progress == Progress("separating", 0.75)
    job.report("separating", 5, None)
    assert job.progress == Progress("separating", None)
    job.stop()
    with pytest.raises(StoppedError):
        job.report("separating", 4, 4)


@given(done=st.floats(-1e9, 1e9), total=st.floats(-1e9, 1e9))
def test_a_share_is_a_share(done: float, total: float) -> None:
    job = Job(Path("never"))
    job.report("on", done, total)
    assert job.progress.share is None or 0 <= job.progress.share <= 1


def test_an_upload_of_two_visits_goes_with_the_later(tmp_path: Path) -> None:
    visits, path = Visits(tmp_path), upload(tmp_path)
    visits.keep("anna", "a", path)
    visits.keep("ben", "a", path)
    visits.end("anna")
    assert path.exists()
    visits.end("ben")
    assert list(tmp_path.iterdir()) == []


def test_an_upload_goes_when_another_takes_its_place(tmp_path: Path) -> None:
    visits, first = Visits(tmp_path), upload(tmp_path)
    visits.keep("anna", "a", first)
    visits.keep("anna", "a", first)
    assert first.exists()
    second = tmp_path / "other" / "b.wav"
    second.parent.mkdir()
    second.touch()
    visits.keep("anna", "a", second)
    assert not first.exists()
    visits.keep("anna", "a", None)
    assert list(tmp_path.iterdir()) == []


def test_closing_waits_for_work_only_so_long(tmp_path: Path) -> None:
    visits = Visits(tmp_path)
    job = visits.begin("anna", "a")
    inside, go = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        go.wait(10)

    thread = threading.Thread(target=lambda: job.run(work))
    thread.start()
    assert inside.wait(10)
    visits.close(patience=0.1)
    assert job.running
    go.set()
    thread.join()
