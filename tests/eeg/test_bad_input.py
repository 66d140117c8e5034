"""Whatever is wrong with an input costs one clear line, and leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from command_runner import undisturbed
from eeg.commands import EVENTS, TRAIN, command, saved_network
from eeg.files import NAMES, cued, noise, raw_array, saved

from sigform_core.weights import save_weights


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """A weight file for eight channels and windows of 2 s."""
    return saved_network(tmp_path_factory.mktemp("weights"))


def refused(*args: object, code: int = 1) -> str:
    """The one line of a command that must fail and leave the folder as it was."""
    with undisturbed(Path()):
        told = command(*args)
    assert told.code == code, told.err
    assert told.raw == b""
    return told.error


# --- recordings ----------------------------------------------------------------------------------


def recording(kind: str) -> str:
    """A recording of one kind, none of which can be decoded."""
    path = Path("a_raw.fif")
    if kind == "missing":
        return "none.edf"
    if kind == "text":
        Path("a.edf").write_text("no recording")
        return "a.edf"
    if kind == "empty":
        Path("a.edf").touch()
        return "a.edf"
    if kind == "truncated":
        whole = cued(Path("whole.edf"), seconds=20).read_bytes()
        Path("whole.edf").unlink()
        Path("a.edf").write_bytes(whole[: len(whole) // 2])
        return "a.edf"
    if kind == "short":
        saved(path, raw_array(noise(len(NAMES), 160)))
    elif kind == "slow":
        saved(path, raw_array(noise(len(NAMES), 400), rate=32.0))
    elif kind == "other montage":
        saved(path, raw_array(noise(2, 1600), names=("O1", "O2")))
    elif kind == "one missing":
        names = [name for name in NAMES if name != "C4"]
        saved(path, raw_array(noise(len(names), 1600), names=names))
    elif kind == "all flat":
        saved(path, raw_array(np.zeros((len(NAMES), 1600))))
    elif kind == "folder":
        Path("empty").mkdir()
        return "empty"
    return str(path)


RECORDINGS = {
    "missing": r"none\.edf: no such file",
    "text": r"a\.edf: cannot be read as a recording",
    "empty": r"a\.edf: cannot be read as a recording",
    "truncated": r"a\.edf: cut off: holds \d+ of 20 records",
    "short": r"a_raw\.fif: is 1\.00 s long; the model needs 2 s or more",
    "slow": r"a_raw\.fif: .*32 Hz",
    "other montage": r"a_raw\.fif: .*FC3",
    "one missing": r"a_raw\.fif: .*C4",
    "all flat": r"a_raw\.fif: ",
    "folder": r"empty: no file ending in",
}


@pytest.mark.parametrize(("kind", "reason"), RECORDINGS.items(), ids=RECORDINGS)
def test_a_recording_that_cannot_be_decoded_costs_one_line(net, kind, reason):
    path = recording(kind)
    error = refused("run", net, path)
    assert re.match(reason, error), error
    if kind != "folder":
        assert refused("stream", net, "--source", path).startswith(path)


def test_a_flat_channel_is_mended_and_said(net):
    signals = noise(len(NAMES), 1600)
    signals[NAMES.index("C3")] = 0
    saved(Path("a_raw.fif"), raw_array(signals))
    told = command("a_raw.fif", "-w", net)
    assert told.code == 0
    assert re.search(r"a_raw\.fif: .*C3", told.err), told.err


# --- models --------------------------------------------------------------------------------------


def weights(kind: str, net: Path) -> str:
    """Weights of one kind, none of which work."""
    if kind == "of another model":
        save_weights(Path("w.safetensors"), {"a": torch.zeros(1)}, model="informer", config={})
    elif kind == "cut":
        Path("w.safetensors").write_bytes(net.read_bytes()[:-100])
    elif kind == "text":
        Path("w.safetensors").write_text("no weights")
    elif kind == "misspelt":
        return "defualt"
    return "w.safetensors"


WEIGHTS = {
    "of another model": r"w\.safetensors is for informer; needs one of dbconformer",
    "cut": r"w\.safetensors ",
    "text": r"w\.safetensors ",
    "misspelt": r"weights 'defualt' are neither a file nor one of .*",
    "missing": r"weights 'w\.safetensors' are neither a file nor one of",
}


@pytest.mark.parametrize(("kind", "reason"), WEIGHTS.items(), ids=WEIGHTS)
def test_bad_weights_cost_one_line(net, kind, reason):
    model = weights(kind, net)
    path = saved(Path("a_raw.fif"), raw_array(noise(len(NAMES), 400)))
    for words in (("run", model, path), ("run", path, "-w", model)):
        error = refused(*words)
        assert re.match(reason, error), error


# --- training ------------------------------------------------------------------------------------


def folder(kind: str) -> tuple[str, ...]:
    """A folder of one kind, and options, none of which can be trained on."""
    place, seconds = Path("in/sub-01_raw.fif"), 30.0
    if kind == "no events":
        saved(place, raw_array(noise(len(NAMES), 1600)))
    elif kind == "few":
        cued(place, seconds=12.0)
    elif kind == "nothing":
        Path("in").mkdir()
    else:
        cued(place, seconds=seconds)
    options = {
        "other events": ("-e", "left=769", "-e", "right=770"),
        "one class": ("-e", "left=T1"),
        "unknown channel": ("--channels", "C3,Cz,X9"),
        "no such run": ("--runs", "7"),
        "long window": ("--stop", "99"),
    }
    return options.get(kind, ())


FOLDERS = {
    "nothing": r"in: no recordings found",
    "no events": r"in: no events found: neither annotations nor a stim channel",
    "other events": r"in: no events 769, 770 found; it has T0 \d, T1 \d, T2 \d",
    "one class": r"in: .*one class only",
    "few": r"in: .*T1|in: .*left",
    "unknown channel": r".*X9",
    "no such run": r"in: runs 7 are not there",
    "long window": r".*in/sub-01_raw\.fif: is 30 s long; needs 99 s",
}


@pytest.mark.parametrize(("kind", "reason"), FOLDERS.items(), ids=FOLDERS)
def test_a_folder_that_cannot_be_trained_on_costs_one_line(kind, reason):
    more = folder(kind)
    named = () if "-e" in more else EVENTS
    error = refused("train", "in", *TRAIN[4:], *named, *more, "-o", "run")
    assert re.match(reason, error), error


def test_two_sample_rates_are_reconciled_and_said():
    cued(Path("in/sub-01_raw.fif"), seconds=40)
    cued(Path("in/sub-02_raw.fif"), seconds=40, rate=250.0)
    told = command("train", "in", *TRAIN, "--dry-run")
    assert told.code == 0, told.err
    assert "sample rates of 160, 250 Hz; resampled to 64 Hz" in told.err


def test_a_model_of_other_classes_says_which(net):
    path = cued(Path("a_raw.fif"), seconds=30)
    error = refused("evaluate", net, path)
    assert "the model knows left, right: say --events left=EVENT --events right=EVENT" in error


# --- options -------------------------------------------------------------------------------------

OPTIONS = {
    "no recording": (("run", "NET"), 2, "needs a RECORDING"),
    "stdin": (("run", "NET", "-"), 2, "cannot come from stdin"),
    "hop": (("run", "NET", "a_raw.fif", "--hop", "0"), 2, "'--hop': 0.0 is not in the range"),
    "align": (("run", "NET", "a_raw.fif", "--align", "all"), 2, "'all' is not one of 'none'"),
    "suffix": (("run", "NET", "a_raw.fif", "-o", "b.txt"), 2, r"suffix is '\.txt'; needs \.csv"),
    "stdout": (("run", "NET", "a_raw.fif", "-o", "-", "--json"), 2, "would share stdout"),
    "annotate": (("run", "NET", "a_raw.fif", "--annotate", "b.edf"), 2, r"needs \.fif"),
    "itself": (("run", "NET", "a_raw.fif", "--annotate", "a_raw.fif"), 2, "is also an input"),
    "no folder": (("train",), 2, "needs a FOLDER of recordings, or --example"),
    "missing": (("train", "none"), 1, "none: no such file or folder"),
    "events": (("train", ".", "-e", "T1"), 2, "'T1'; needs CLASS=EVENT, such as left=T1"),
    "two": (("train", ".", "-e", "a=T1", "-e", "b=T1"), 2, "gives T1 to a and b; needs one"),
    "runs": (("train", ".", "--runs", "x"), 2, "'x' is no number"),
    "card": (("train", ".", "--card", "x"), 2, "needs NAME=TEXT"),
    "band": (("train", ".", "--low", "40"), 1, "needs 0 <= low < high"),
    "window": (("train", ".", "--stop", "0"), 1, "the window is 0.0 to 0.0 s"),
    "rate": (("stream", "NET", "--source", "a_raw.fif", "--speed", "0"), 2, "not in the range"),
    "live": (("stream", "NET", "--source", "lsl:x", "--speed", "2"), 2, "--speed is for files"),
    "twice": (("stream", "NET", "-w", "NET", "--source", "x"), 2, "are both given; needs one"),
    "no source": (("stream", "NET"), 2, "Missing option '--source'"),
    "device": (("run", "NET", "a_raw.fif", "--device", "tpu"), 2, "device is 'tpu'; needs auto"),
    "info": (("info", "nothing"), 1, "nothing: no such file or folder"),
    "places": (("evaluate", "NET"), 2, "got 0 folders; needs one FOLDER"),
}


@pytest.mark.parametrize(("words", "code", "reason"), OPTIONS.values(), ids=OPTIONS)
def test_an_option_that_does_not_fit_costs_one_line(net, words, code, reason):
    saved(Path("a_raw.fif"), raw_array(noise(len(NAMES), 400)))
    error = refused(*(net if word == "NET" else word for word in words), code=code)
    assert re.search(reason, error), error


def test_wrong_words_get_the_nearest_right_one(net):
    assert "'evaluat'. Did you mean 'evaluate'?" in refused("evaluat", "a.edf", code=2)
    assert "Did you mean '--annotate'?" in refused("a.edf", "-w", net, "--annotat", code=2)


def test_an_interrupt_leaves_nothing(net, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    saved(Path("a_raw.fif"), raw_array(noise(len(NAMES), 400)))
    monkeypatch.setattr(mne.io.BaseRaw, "save", interrupted)
    Path("out").mkdir()
    told = command("a_raw.fif", "-w", net, "-o", "out/a.csv", "--annotate", "out/b.fif")
    assert told.code == 130
    assert [path.name for path in Path("out").iterdir()] == ["a.csv"]
