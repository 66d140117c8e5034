"""Which files a run makes, before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigform_generate.batch import FORMATS, Job, pieces_of
from sigform_kit.errors import UsageError


def names(job: Job, output: str, format: str | None = None) -> list[list[str]]:
    return [[str(file) for file in piece.files] for piece in pieces_of(job, Path(output), format)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_samples_are_named_by_their_seed() -> None:
    assert names(Job(kind="image", count=2, seed=41), "out") == [
        ["out/image_00041.json", "out/image_00041.png"],
        ["out/image_00042.json", "out/image_00042.png"],
    ]
    assert names(Job(kind="av"), "out") == [
        ["out/av_00000.json", "out/av_00000.wav", "out/av_00000.mp4"]
    ]
    assert names(Job(kind="video"), ".", "gif") == [["video_00000.json", "video_00000.gif"]]


def test_a_single_one_may_be_named() -> None:
    assert names(Job(kind="video"), "a.webm") == [["a.json", "a.webm"]]
    (piece,) = pieces_of(Job(kind="video"), Path("a.webm"), None)
    assert (piece.format, piece.target) == ("webm", Path("a.webm"))
    (piece,) = pieces_of(Job(kind="video"), Path("-"), "gif")
    assert (piece.format, piece.files) == ("gif", (Path("-"),))


@pytest.mark.parametrize(
    ("job", "output", "format", "said"),
    [
        (Job(kind="image", count=2), "a.png", None, "names one file for 2 samples"),
        (Job(kind="image"), "a.jpg", None, "suffix is '.jpg'; needs .png"),
        (Job(kind="av"), "a.gif", None, "suffix is '.gif'; needs .mp4, .webm"),
        (Job(kind="video"), "a.mp4", "gif", "--format is gif and a.mp4 is mp4"),
    ],
)
def test_names_at_odds_are_refused(job: Job, output: str, format: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        pieces_of(job, Path(output), format)


def test_every_kind_has_a_format() -> None:
    assert set(FORMATS) == {"image", "video", "av"}
