from __future__ import annotations

from pathlib import Path

import pytest

from sigform_kit import InputError, expand_inputs


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("d/b.csv", "d/a.csv", "d/deep/c.CSV", "d/notes.txt", "d/.hidden.csv",
                 "d/.git/x.csv", "top.csv"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def pairs(*names: object, **options) -> list[tuple[str, str]]:
    return [(str(i.path), str(i.relative)) for i in expand_inputs([*map(str, names)], **options)]


@pytest.mark.usefixtures("tree")
def test_a_file_stands_for_itself_whatever_its_suffix():
    assert pairs("d/notes.txt", suffixes=[".csv"]) == [("d/notes.txt", "notes.txt")]


@pytest.mark.usefixtures("tree")
def test_a_folder_stands_for_the_files_below_it():
    assert pairs("d", suffixes=[".csv"]) == [
        ("d/a.csv", "a.csv"),
        ("d/b.csv", "b.csv"),
        ("d/deep/c.CSV", "deep/c.CSV"),
    ]
    assert ("d/notes.txt", "notes.txt") in pairs("d")


@pytest.mark.usefixtures("tree")
def test_a_pattern_keeps_the_structure_below_its_fixed_part():
    assert pairs("d/*.csv") == [("d/a.csv", "a.csv"), ("d/b.csv", "b.csv")]
    assert pairs("*/deep/*") == [("d/deep/c.CSV", "d/deep/c.CSV")]
    assert pairs("d/**/*.CSV") == [("d/deep/c.CSV", "deep/c.CSV")]


def test_a_pattern_that_matches_a_folder_takes_its_files(tree):
    assert pairs(tree / "d" / "de?p", suffixes=[".csv"]) == [
        (str(tree / "d/deep/c.CSV"), "deep/c.CSV")
    ]


@pytest.mark.usefixtures("tree")
def test_a_name_with_wildcards_that_exists_is_a_file():
    Path("x[1].csv").touch()
    assert pairs("x[1].csv") == [("x[1].csv", "x[1].csv")]


def test_duplicates_count_once_and_all_is_sorted(tree):
    Path("again.csv").symlink_to("top.csv")
    assert pairs("top.csv", "d/b.csv", tree / "top.csv", "d/*.csv", "again.csv") == [
        ("d/a.csv", "a.csv"),
        ("d/b.csv", "b.csv"),
        ("top.csv", "top.csv"),
    ]


@pytest.mark.usefixtures("tree")
def test_stdin_is_a_dash():
    assert pairs("-") == [("-", "-")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.csv", "no.csv: no such file or folder"),
        ("*.parquet", r"\*.parquet: no file ending in .csv found"),
        ("d/.git", "d/.git: no file ending in .csv found"),
    ],
)
def test_what_stands_for_nothing_is_named(tree, name, said):
    (tree / "d/.git/x.csv").rename(tree / "d/.git/x.txt")
    with pytest.raises(InputError, match=said):
        expand_inputs(["top.csv", name], suffixes=[".csv"])
