"""Which outputs belong to which inputs, what happens to those that exist, and many inputs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from command_runner import undisturbed
from speech.commands import command, recording, saved_network, tiny

from sigform_kit.inputs import Input
from sigform_kit.options import Common
from sigform_speech import catalogue
from sigform_speech.batch import new_inputs, speakers_of


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """A weight file for two speakers."""
    return saved_network(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def shipped(net, monkeypatch) -> None:
    """A tiny network in the place of the shipped one."""
    monkeypatch.setattr(catalogue, "SHIPPED", {"default": net})


def planned(*args: object) -> dict[str, list[str]]:
    """The outputs of each input, as `--dry-run` tells them; nothing is written."""
    with undisturbed(Path()):
        told = command(*args, "--dry-run", "--json")
    return {line["input"]: line["files"] for line in told.records}


def empty(*names: str) -> None:
    """Files that are only looked at by name."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def files(folder: str = ".") -> set[str]:
    """Every file below a folder."""
    return {str(path) for path in Path(folder).rglob("*") if path.is_file()}


# --- names of outputs ----------------------------------------------------------------------------


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("source", "first"),
    [
        ("in/a.wav", "in/a_speaker1.wav"),
        ("in/b.c.FLAC", "in/b.c_speaker1.FLAC"),
        ("a.opus", "a_speaker1.opus"),
        ("a.oga", "a_speaker1.ogg"),
        ("a.aifc", "a_speaker1.aiff"),
        ("clip.mp4", "clip_speaker1.wav"),
        ("talk", "talk_speaker1.wav"),
    ],
)
def test_outputs_stand_beside_their_input(source, first):
    empty(source)
    assert planned(source) == {source: [first, first.replace("r1", "r2")]}
    told = command(source, "--dry-run")
    assert told.out == f"{source} -> {first}, {first.replace('r1', 'r2')}\n"


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("output", "places"),
    [
        ("out", ["out/a_speaker1.wav", "out/a_speaker2.wav"]),
        ("there.is", ["there.is/a_speaker1.wav", "there.is/a_speaker2.wav"]),
        ("new/b.flac", ["new/b_speaker1.flac", "new/b_speaker2.flac"]),
        ("voice{}.ogg", ["voice1.ogg", "voice2.ogg"]),
        ("s{}", ["s1/a.wav", "s2/a.wav"]),
        ("-", ["-"]),
    ],
)
def test_an_output_is_a_name_a_folder_or_stdout(output, places):
    empty("a.wav")
    Path("there.is").mkdir()
    told = command("a.wav", "-o", output, "--dry-run")
    assert told.out == f"a.wav -> {', '.join(places)}\n"


@pytest.mark.usefixtures("shipped")
def test_formats_and_pictures_are_in_the_names():
    empty("a.wav", "{}.wav")
    assert planned("a.wav", "--format", "MP3") == {"a.wav": ["a_speaker1.mp3", "a_speaker2.mp3"]}
    assert planned("a.wav", "--plot", "--format", ".aif") == {
        "a.wav": ["a_speaker1.aif", "a_speaker2.aif", "a_speakers.png"]
    }
    assert planned("a.wav", "-o", "out/b.wav", "--plot")["a.wav"][2] == "out/b_speakers.png"
    assert planned("a.wav", "-o", "b.dat", "--format", "wav") == {
        "a.wav": ["b_speaker1.dat", "b_speaker2.dat"]
    }
    # Braces are a number's place in -o alone.
    assert planned("{}.wav", "-o", "out") == {
        "{}.wav": ["out/{}_speaker1.wav", "out/{}_speaker2.wav"]
    }


@pytest.mark.usefixtures("shipped")
def test_folders_keep_their_structure_and_patterns_theirs():
    empty("in/a.wav", "in/deep/er/b.FLAC", "in/deep/c.m4a", "in/.hidden/d.wav", "in/e.txt")
    found = planned("in", "-o", "out")
    assert {source: places[0] for source, places in found.items()} == {
        "in/a.wav": "out/a_speaker1.wav",
        "in/deep/c.m4a": "out/deep/c_speaker1.wav",
        "in/deep/er/b.FLAC": "out/deep/er/b_speaker1.FLAC",
    }
    assert planned("in/**/*.[wm]*", "-o", "s{}", "--format", "ogg") == {
        "in/a.wav": ["s1/a.ogg", "s2/a.ogg"],
        "in/deep/c.m4a": ["s1/deep/c.ogg", "s2/deep/c.ogg"],
    }


@pytest.mark.usefixtures("shipped")
def test_the_outputs_of_an_earlier_run_are_no_inputs():
    empty("in/a.wav", "in/a_speaker1.wav", "in/a_speaker3.flac", "in/b_speaker1.wav")
    with undisturbed(Path()):
        told = command("in", "--skip-existing", "--dry-run", "-v")
    assert told.code == 0, told.err
    assert told.out.splitlines() == [
        "in/a.wav -> in/a_speaker2.wav",
        "in/b_speaker1.wav -> in/b_speaker1_speaker1.wav, in/b_speaker1_speaker2.wav",
    ]
    assert told.err.splitlines() == [
        "in/a_speaker1.wav is the output of another input; left out",
        "in/a_speaker3.flac is the output of another input; left out",
        "2 outputs of an earlier run left out; -v names them",
    ]
    assert "is the output" not in command("in", "--dry-run", "--overwrite").err
    # Named alone, it is a recording like any other.
    assert list(planned("in/a_speaker1.wav")) == ["in/a_speaker1.wav"]
    # Into a folder below the inputs, which the next run finds.
    empty("in/out/a_speaker1.wav", "in/out/deep/x.wav")
    again = planned("in/a.wav", "in/out", "-o", "in/out", "--skip-existing")
    assert list(again) == ["in/a.wav", "in/out/deep/x.wav"]


def test_leaving_out_earlier_outputs_takes_time_in_proportion():
    def seconds(count: int) -> float:
        names = [f"{n}{end}.wav" for n in range(count) for end in ("", "_speaker1", "_speaker2")]
        items = [Input(path=Path(name), relative=Path(name)) for name in names]
        begun = time.process_time()
        assert len(new_inputs(items, None, Common(quiet=True))) == count
        return time.process_time() - begun

    # Eight times the files; comparing each with each would take 64 times as long.
    assert seconds(1600) < 24 * min(seconds(200) for _ in range(3))


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("a.wav", "a.m4a"), "output a_speaker1.wav would be written twice"),
        (("a.wav", "b.wav", "-o", "c.wav"), "-o c.wav names one file for 2 inputs"),
        (("a.wav", "b.wav", "-o", "c{}.wav"), "-o c{}.wav names one file for 2 inputs"),
        (("a.wav", "b.wav", "-o", "-"), "-o - names one file for 2 inputs"),
        (("a.wav", "-", "-o", "out"), "- is stdin or stdout; needs a single input"),
        (("-", "--engine", "ray"), "- is stdin or stdout; needs a single input and --engine local"),
        (("v1.wav", "-o", "v{}.wav", "--overwrite"), "output v1.wav is also an input"),
    ],
)
def test_outputs_are_never_shared(words, reason):
    empty("a.wav", "a.m4a", "b.wav", "v1.wav")
    with undisturbed(Path()):
        told = command(*words)
    assert told.code == 2
    assert told.error.startswith(reason)


def test_the_weights_say_how_many_speakers_there_are(net, tmp_path, monkeypatch):
    three = saved_network(tmp_path, 3)
    monkeypatch.setattr(catalogue, "SHIPPED", {"default": net, "default-3": three})
    assert speakers_of("default", None) == 2
    assert speakers_of("default", 3) == 3
    assert speakers_of("default-3", None) == 3
    assert speakers_of(str(three), 3) == 3
    # Published weights are not fetched to be asked.
    assert speakers_of("mossformer2-wsj0mix-3spk", None) == 3
    torch.save(tiny(3).published_state(), "masknet.pt")
    assert speakers_of("masknet.pt", None) == 3
    for weights, have in ((str(three), 3), ("masknet.pt", 3), ("mossformer2-16k", 2)):
        with pytest.raises(ValueError, match=f"speakers is 5; the weights .* need {have}"):
            speakers_of(weights, 5)
    empty("a.wav")
    assert planned("a.wav", "-s", "3")["a.wav"][2] == "a_speaker3.wav"


# --- existing outputs ----------------------------------------------------------------------------


def test_overwrite_replaces_and_skip_existing_leaves(net):
    recording()
    for number in (1, 2):
        Path(f"mix_speaker{number}.wav").write_text("mine")
    told = command("mix.wav", "-w", net, "--skip-existing")
    assert (told.code, told.out) == (0, "")
    assert told.err == "mix_speaker1.wav, mix_speaker2.wav: all of it exists; skipped\n"
    (record,) = command("mix.wav", "-w", net, "--skip-existing", "--json").records
    outputs = ["mix_speaker1.wav", "mix_speaker2.wav"]
    assert record == {"input": "mix.wav", "outputs": outputs, "status": "skipped"}
    assert command("mix.wav", "-w", net).error.startswith("mix_speaker1.wav exists; --overwrite")
    assert Path("mix_speaker2.wav").read_text() == "mine"
    assert command("mix.wav", "-w", net, "--overwrite").code == 0
    assert soundfile.info("mix_speaker2.wav").frames == 4000


def test_skip_existing_finishes_what_a_killed_run_began(net):
    recording()
    Path("mix_speaker1.wav").write_text("from before")
    assert command("mix.wav", "-w", net, "--skip-existing").code == 0
    assert soundfile.info("mix_speaker2.wav").frames == 4000
    assert Path("mix_speaker1.wav").read_text() == "from before"


# --- many inputs ---------------------------------------------------------------------------------


def test_one_bad_file_among_several_is_listed_and_the_rest_is_done(net):
    recording("in/a.wav", rate=16000)
    recording("in/deep/ü c.flac", rate=16000)
    Path("in/b.wav").write_text("no sound")
    told = command("in", "-w", net, "-o", "out", "--json")
    assert told.code == 1
    assert told.error == "1 of 3 inputs failed"
    assert "failed: in/b.wav: not audio that can be read\n" in told.err
    # What is true of both files is said once.
    assert told.err.count("nothing above 4 kHz is kept") == 1
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert [line["input"] for line in lines] == ["in/a.wav", "in/deep/ü c.flac"]
    names = {f"out/{name}" for name in ("a_speaker1.wav", "a_speaker2.wav")}
    assert files("out") == names | {f"out/deep/ü c_speaker{n}.flac" for n in (1, 2)}


def test_a_published_name_that_is_also_a_file_is_the_file(net, monkeypatch):
    entry = replace(catalogue.PUBLISHED[0], name="here", speakers=7)
    monkeypatch.setattr(catalogue, "PUBLISHED", (entry,))
    assert speakers_of("here", None) == 7
    Path("here").write_bytes(net.read_bytes())
    assert speakers_of("here", None) == 2
