"""Which outputs belong to which inputs, what happens to those that exist, and many inputs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command_runner import undisturbed
from superres.commands import command, picture, saved_network

from sigform_superres import catalogue
from sigform_superres.batch import Job, scales_of


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """A weight file for a scale of 4."""
    return saved_network(tmp_path_factory.mktemp("weights"))


def planned(*args: object) -> dict[str, list[str]]:
    """The outputs of each input, as `--dry-run` tells them; nothing is written."""
    with undisturbed(Path()):
        told = command(*args, "-s", "4", "--dry-run", "--json")
    return {line["input"]: line["files"] for line in told.records}


def empty(*names: str) -> None:
    """Files that are only looked at by name."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def files() -> set[str]:
    """Every file below the working folder."""
    return {str(path) for path in Path().rglob("*") if path.is_file()}


# --- names of outputs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("in/a.png", "in/a_x4.png"),
        ("in/b.c.JPG", "in/b.c_x4.JPG"),
        ("clip.mp4", "clip_x4.mp4"),
        ("scan", "scan_x4.png"),
        ("raw.nef", "raw_x4.png"),
    ],
)
def test_outputs_stand_beside_their_input(source, output):
    empty(source)
    assert planned(source) == {source: [output]}
    told = command(source, "-s", "4", "--dry-run")
    assert told.out == f"{source} -> {output}\n"


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ("out", "out/a_x4.png"),
        ("there.is", "there.is/a_x4.png"),
        ("out.jpg", "out.jpg"),
        ("new/out.webp", "new/out.webp"),
        ("-", "-"),
    ],
)
def test_an_output_is_a_file_a_folder_or_stdout(output, place):
    empty("a.png")
    Path("there.is").mkdir()
    told = command("a.png", "-s", "4", "-o", output, "--dry-run")
    assert told.out == f"a.png -> {place}\n"


def test_formats_sizes_and_comparisons_are_in_the_names():
    empty("a.png")
    assert planned("a.png", "--format", "jpg") == {"a.png": ["a_x4.jpg"]}
    assert planned("a.png", "--factor", "1.5") == {"a.png": ["a_x1.5.png"]}
    assert planned("a.png", "--width", "800") == {"a.png": ["a_w800.png"]}
    assert planned("a.png", "--compare", "html", "-o", "out") == {
        "a.png": ["out/a_x4.png", "out/a_x4_compare.html"]
    }
    assert planned("a.png", "--compare", "b.png") == {"a.png": ["a_x4.png", "b.png"]}


def test_folders_keep_their_structure_and_patterns_theirs():
    empty("in/a.png", "in/deep/er/b.JPEG", "in/deep/c.webp", "in/.hidden/d.png", "in/e.txt")
    empty("in/f.mp4")
    assert planned("in", "-o", "out") == {
        "in/a.png": ["out/a_x4.png"],
        "in/deep/c.webp": ["out/deep/c_x4.webp"],
        "in/deep/er/b.JPEG": ["out/deep/er/b_x4.JPEG"],
    }
    assert planned("in/**/*.[pw]*", "-o", "out", "--format", "tiff") == {
        "in/a.png": ["out/a_x4.tif"],
        "in/deep/c.webp": ["out/deep/c_x4.tif"],
    }
    assert planned("in/deep/c.webp", "in/a.png") == {
        "in/a.png": ["in/a_x4.png"],
        "in/deep/c.webp": ["in/deep/c_x4.webp"],
    }
    # A folder may hold an afternoon of video: it is worked on where it is named.
    assert planned("in/f.mp4") == {"in/f.mp4": ["in/f_x4.mp4"]}


def test_the_outputs_of_an_earlier_run_are_no_inputs():
    empty("in/a.png", "in/a_x4.png", "in/a_x4_compare.png", "in/b.png")
    with undisturbed(Path()):
        words = ("in", "-s", "4", "--compare", "png", "--skip-existing", "--dry-run")
        told = command(*words)
    assert told.code == 0, told.err
    assert told.out.splitlines() == [
        "in/a.png -> nothing: all of it exists",
        "in/b.png -> in/b_x4.png, in/b_x4_compare.png",
    ]
    assert told.err.splitlines() == [
        "in/a_x4.png is the output of another input; left out",
        "in/a_x4_compare.png is the output of another input; left out",
    ]
    # Named alone, it is a picture like any other.
    assert planned("in/a_x4.png") == {"in/a_x4.png": ["in/a_x4_x4.png"]}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("a.png", "a.bmp", "--format", "png"), "output a_x4.png would be written twice"),
        (("a.png", "b.png", "-o", "c.png"), "-o c.png names one file for 2 inputs"),
        (("a.png", "b.png", "-o", "-"), "-o - names one file for 2 inputs"),
        (("a.png", "b.png", "--compare", "c.png"), "--compare c.png names one file for 2 inputs"),
        (("a.png", "-", "-o", "out"), "- is stdin or stdout; needs a single input"),
        (("-", "--engine", "ray"), "- is stdin or stdout; needs a single input and --engine local"),
        (("a.png", "--compare", "a.png"), "output a.png is also an input"),
        (("a.png", "--compare", "a_x4.png"), "output a_x4.png would be written twice"),
    ],
)
def test_outputs_are_never_shared(words, reason):
    empty("a.png", "a.bmp", "b.png")
    with undisturbed(Path()):
        told = command(*words, "-s", "4")
    assert told.code == 2
    assert told.error.startswith(reason)


def test_scales_are_those_of_the_weights(net, monkeypatch):
    monkeypatch.setattr(catalogue, "SHIPPED", {f"craft-x{s}": net for s in (2, 3, 4)} | {"b-x2": 0})
    assert scales_of("default", None, sized=False) == (4,)
    assert scales_of("default", None, sized=True) == (2, 3, 4)
    assert scales_of("craft", 3, sized=True) == (3,)
    assert scales_of("b", None, sized=False) == (2,)
    assert scales_of("craft-x4", None, sized=True) == (4,)
    assert scales_of(str(net), None, sized=True) == (4,)


def test_an_ending_says_what_was_done():
    assert Job(scales=(2,)).ending == "x2"
    assert Job(factor=2.5).ending == "x2.5"
    assert Job(width=8, height=9).ending == "8x9"
    assert (Job(width=8).ending, Job(height=9).ending) == ("w8", "h9")


# --- existing outputs ----------------------------------------------------------------------------


def test_overwrite_replaces_and_skip_existing_leaves(net):
    picture()
    Path("a_x4.png").write_text("mine")
    told = command("a.png", "-w", net, "--skip-existing")
    assert (told.code, told.out, told.err) == (0, "", "a_x4.png exists; skipped\n")
    assert Path("a_x4.png").read_text() == "mine"
    (record,) = command("a.png", "-w", net, "--skip-existing", "--json").records
    assert record == {"input": "a.png", "output": "a_x4.png", "status": "skipped"}
    assert command("a.png", "-w", net, "--overwrite").code == 0
    assert Path("a_x4.png").read_bytes().startswith(b"\x89PNG")
    both = command("a.png", "-w", net, "--overwrite", "--skip-existing")
    assert both.code == 2
    assert "exclude each other" in both.error


def test_skip_existing_finishes_what_a_killed_run_began(net):
    picture()
    Path("a_x4_compare.png").write_text("from before")
    assert command("a.png", "-w", net, "--compare", "png", "--skip-existing").code == 0
    assert Path("a_x4.png").exists()
    assert Path("a_x4_compare.png").read_text() == "from before"


def test_the_picture_appears_last_so_that_it_stands_for_the_whole(net, monkeypatch):
    picture()
    appeared: list[str] = []
    link = os.link

    def note(source: Path, target: Path) -> None:
        appeared.append(Path(target).name)
        link(source, target)

    monkeypatch.setattr(os, "link", note)
    assert command("a.png", "-w", net, "--compare", "html").code == 0
    assert appeared == ["a_x4_compare.html", "a_x4.png"]


# --- many inputs ---------------------------------------------------------------------------------


def test_one_bad_picture_among_several_is_listed_and_the_rest_is_done(net):
    picture("in/a.png")
    picture("in/deep/ü c.jpg")
    Path("in/b.png").write_text("no picture")
    told = command("in", "-w", net, "-o", "out", "--format", "webp", "--json")
    assert told.code == 1
    assert told.error == "1 of 3 inputs failed"
    reason = "is not a picture that can be read; needs PNG, JPEG, WebP, TIFF, BMP, AVIF or GIF"
    assert f"failed: in/b.png: {reason}\n" in told.err
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert {line["output"] for line in lines} == {"out/a_x4.webp", "out/deep/ü c_x4.webp"}
    assert {name for name in files() if name.startswith("out")} == {
        "out/a_x4.webp",
        "out/deep/ü c_x4.webp",
    }
