"""Folders: whose recordings they hold, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigform_eeg.folders import find_sources
from sigform_kit import InputError


def laid_out(folder: Path, *names: str) -> list[tuple[str, int | None]]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [(source.subject, source.run) for source in find_sources(folder)]


def test_the_name_tells_the_subject_and_the_run(tmp_path: Path) -> None:
    names = ("S001R10.edf", "S001R04.edf", "raw/S002R04.edf", "notes.txt", ".S001R03.edf")
    assert laid_out(tmp_path, *names) == [("S001", 4), ("S001", 10), ("S002", 4)]


def test_bids_entities_tell_the_subject_and_the_run(tmp_path: Path) -> None:
    found = laid_out(
        tmp_path,
        "sub-01/eeg/sub-01_task-hands_run-02_eeg.vhdr",
        "sub-01/eeg/sub-01_task-hands_run-02_eeg.eeg",
        "sub-02/ses-1/eeg/sub-02_ses-1_task-hands_eeg.set",
        "sub-02.npz",
    )
    assert found == [("sub-01", 2), ("sub-02", None), ("sub-02", None)]


def test_else_the_folder_tells(tmp_path: Path) -> None:
    assert laid_out(tmp_path / "a", "anna/one.edf", "anna/two.bdf", "ben/one.gdf") == [
        ("anna", None), ("anna", None), ("ben", None),
    ]  # fmt: skip
    assert laid_out(tmp_path / "carla", "one.edf", "two.edf") == [("carla", None)] * 2
    assert laid_out(tmp_path / "d", "one.npz", "two.npz") == [("one", None), ("two", None)]


def test_parts_of_a_recording_are_not_recordings(tmp_path: Path) -> None:
    names = ("a_raw.fif", "a_raw-1.fif", "b_split-01_eeg.fif", "b_split-02_eeg.fif", "c.mff/x.edf")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [source.path.name for source in find_sources(tmp_path)] == [
        "a_raw.fif", "b_split-01_eeg.fif", "c.mff",
    ]  # fmt: skip


def test_derivatives_of_a_bids_folder_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    names = ("sub-01/eeg/sub-01_task-a_eeg.edf", "derivatives/sub-01/eeg/sub-01_task-a_eeg.edf")
    assert laid_out(tmp_path, *names) == [("sub-01", None)]
    assert find_sources(tmp_path)[0].bids_root == tmp_path


def test_a_file_stands_for_itself(tmp_path: Path) -> None:
    assert laid_out(tmp_path, "S007R04.edf") == [("S007", 4)]
    (source,) = find_sources(tmp_path / "S007R04.edf")
    assert (source.subject, source.run) == ("S007", 4)


def test_nothing_found_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such file or folder"):
        find_sources(tmp_path / "none")
    with pytest.raises(InputError, match=r"no recordings found \(\.edf, \.bdf"):
        find_sources(tmp_path)
