"""Whatever is wrong with an input costs one clear line, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command_runner import largest_file, undisturbed
from speech.commands import command, recording, saved_network, sound

from sigform_core import download
from sigform_core.weights import save_weights
from sigform_speech import catalogue
from sigform_speech.separator import Separator
from sigform_speech.writing import AudioWriter


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """A weight file for two speakers."""
    return saved_network(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def idle(monkeypatch) -> None:
    """Makes sure that no work begins."""
    monkeypatch.setattr(Separator, "separate_stream", lambda *_: pytest.fail("the work began"))


def refused(*args: object, code: int = 1) -> str:
    """The one line of a command that must fail and leave the folder as it was."""
    with undisturbed(Path()):
        told = command(*args)
    assert told.code == code, told.err
    assert told.raw == b""
    return told.error


def done(*args: object) -> list[np.ndarray]:
    """What a command that must succeed makes of mix.wav, each (T, C)."""
    told = command("mix.wav", *args)
    assert told.code == 0, told.err
    return [soundfile.read(f"mix_speaker{n}.wav", always_2d=True)[0] for n in (1, 2)]


# --- files ---------------------------------------------------------------------------------------


def in_format(format: str, seconds: float = 2.0) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, sound(seconds), 8000, format=format)
    return stream.getvalue()


def with_a_sample(value: float) -> bytes:
    stream, samples = io.BytesIO(), sound()
    samples[1000] = value
    soundfile.write(stream, samples, 8000, "FLOAT", format="WAV")
    return stream.getvalue()


FILES = {
    "empty": ("a.wav", b"", r"a\.wav: is empty"),
    "text": ("a.wav", b"no sound", r"a\.wav: not audio that can be read"),
    "other binary": ("a.mp3", bytes(range(256)), r"a\.mp3: not audio that can be read"),
    "no samples": ("a.wav", in_format("WAV", 0), r"a\.wav: holds no samples"),
    "NaN": ("a.wav", with_a_sample(np.nan), r"a\.wav: a sample is nan at 0\.125 s"),
    "infinite": ("a.wav", with_a_sample(-np.inf), r"a\.wav: a sample is -inf at 0\.125 s"),
    "cut FLAC": ("a.flac", in_format("FLAC")[:-4000], r"a\.flac: damaged or cut off: its sound"),
    "a head of WAV": ("a.wav", in_format("WAV")[:20], r"a\.wav: "),
    "MP3 of a wrong header": (
        "a.mp3", b"ID3\x04\x00\x00\x00\x00\x00\x08" + b"\xff\x00" * 3000, r"a\.mp3: not audio"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "reason"), FILES.values(), ids=FILES)
def test_a_bad_file_costs_one_line(net, name, content, reason):
    Path(name).write_bytes(content)
    error = refused(name, "-w", net)
    assert re.match(reason, error), error


def test_what_is_not_there_costs_one_line(net):
    assert refused("a.wav", "-w", net) == "a.wav: no such file or folder"
    assert refused("*.wav", "-w", net).startswith("*.wav: no file ending in .3gp, .aac")
    Path("sub").mkdir()
    Path("sub/notes.md").write_text("nothing")
    assert refused("sub", "-w", net).startswith("sub: no file ending in .3gp, .aac")


def test_bad_bytes_on_stdin_cost_one_line(net):
    for content, reason in ((b"", "is empty"), (b"text", "not audio that can be read")):
        told = command("-", "-w", net, stdin=content)
        assert (told.code, told.raw) == (1, b"")
        assert told.error == f"stdin: {reason}"


@pytest.mark.parametrize("samples", [1, 15, 16, 17, 100])
def test_the_shortest_recordings_are_separated(net, samples):
    soundfile.write("mix.wav", sound()[500 : 500 + samples], 8000)
    assert [len(voice) for voice in done("-w", net)] == [samples] * 2


@pytest.mark.parametrize("value", [0.0, 0.5], ids=["silence", "DC"])
def test_nothing_to_hear_stays_nothing(net, value):
    soundfile.write("mix.wav", np.full(4000, value), 8000)
    assert all(np.abs(voice).max() < 1e-3 for voice in done("-w", net))


def test_192_khz_and_8_channels_stay(net):
    recording("mix.wav", 0.2, 192_000, 8)
    voices = done("-w", net)
    assert [voice.shape for voice in voices] == [(38_400, 8)] * 2
    assert soundfile.info("mix_speaker1.wav").samplerate == 192_000


def test_a_rate_that_the_format_does_not_have_costs_one_line(net):
    recording("mix.wav", 0.2, 44_100, 1)
    error = refused("mix.wav", "-w", net, "--format", "opus", code=2)
    assert error.startswith("Opus cannot store 44100 Hz; needs 8000, 12000, 16000")


def test_names_with_spaces_and_other_letters_are_kept(net):
    name = "in/Füße im Schnee, 日本 [1]"
    recording(f"{name}.wav")
    told = command(f"{name}.wav", "-w", net, "--plot")
    assert told.code == 0, told.err
    assert {Path(f"{name}_{end}").exists() for end in ("speaker2.wav", "speakers.png")} == {True}
    assert name in told.out


# --- weights -------------------------------------------------------------------------------------


def weights_for(kind: str, net: Path) -> str:
    """Weights of one kind, none of which work."""
    if kind == "of another model":
        save_weights(Path("w.safetensors"), {"a": torch.zeros(1)}, model="informer", config={})
    elif kind == "cut":
        Path("w.safetensors").write_bytes(net.read_bytes()[:-100])
    elif kind == "text":
        Path("w.safetensors").write_text("no weights")
    elif kind == "sound":
        return str(recording("voice.wav"))
    elif kind == "of no network":
        torch.save({"layer.weight": torch.zeros(3)}, "w.pt")
        return "w.pt"
    elif kind == "misspelt":
        return "mossformer2-16"
    elif kind == "folder":
        Path("w").mkdir()
        return "w"
    return "w.safetensors"


WEIGHTS = {
    "of another model": r"w\.safetensors is for informer; needs one of mossformer, mossformer2",
    "cut": r"w\.safetensors ",
    "text": r"w\.safetensors ",
    "sound": r"voice\.wav is no readable PyTorch checkpoint",
    "of no network": r"w\.pt ",
    "misspelt": r"weights 'mossformer2-16' are neither a file .*; did you mean mossformer2-16k\?",
    "folder": r"w ",
    "missing": r"weights 'w\.safetensors' are neither a file nor one of",
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("speakers", [(), ("-s", "2")], ids=["free", "two"])
@pytest.mark.parametrize(("kind", "reason"), WEIGHTS.items(), ids=WEIGHTS)
def test_bad_weights_cost_one_line(net, kind, reason, speakers):
    weights = weights_for(kind, net)
    recording()
    error = refused("mix.wav", "-w", weights, *speakers)
    assert re.match(reason, error), error


@pytest.mark.usefixtures("idle")
def test_more_speakers_than_the_weights_separate_cost_one_line(net, monkeypatch):
    recording()
    error = refused("mix.wav", "-w", net, "-s", "3")
    assert error == f"speakers is 3; the weights {net} need 2"
    monkeypatch.setattr(catalogue, "SHIPPED", {"default": net})
    error = refused("mix.wav", "-s", "3")
    assert error == "no weights for 3 speakers are shipped; published are mossformer2-wsj0mix-3spk"
    assert "1 is not in the range" in refused("mix.wav", "-s", "1", code=2)


@pytest.mark.usefixtures("idle")
def test_published_weights_without_a_network_cost_one_line(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("SIGFORM_CACHE", str(cache))
    monkeypatch.setattr(download, "_PAUSES", (0.0,))
    nowhere = [replace(entry, address="http://127.0.0.1:9") for entry in catalogue.PUBLISHED]
    monkeypatch.setattr(catalogue, "PUBLISHED", tuple(nowhere))
    recording()
    for words in (("mix.wav", "-w", "mossformer2-16k"), ("models", "--fetch", "mossformer2-16k")):
        told = command(*words)
        assert (told.code, told.raw) == (1, b"")
        assert told.error.startswith("could not reach the network for http://127.0.0.1:9/")
        assert f"into {cache}" in told.error
    assert command("models", "--fetch", "mossformer9").error.startswith("name is 'mossformer9'")


# --- options -------------------------------------------------------------------------------------

OPTIONS = {
    "no speakers": (("--speakers", "0"), 2, "'--speakers': 0 is not in the range"),
    "format": (("--format", "m4a"), 2, "'--format': 'm4a' is not one of 'wav', 'flac'"),
    "device": (("--device", "tpu"), 2, "device is 'tpu'; needs auto, cpu"),
    "absent device": (("--device", "cuda:99"), 1, "'cuda:99'"),
    "dtype": (("--dtype", "float16", "--device", "cpu"), 1, "dtype is 'float16' on the CPU"),
    "two formats": (("-o", "b.wav", "--format", "mp3"), 2, "--format is mp3 and -o b.wav is not"),
    "no format": (("-o", "b.dat"), 2, r"b\.dat: suffix is '\.dat'; needs \.wav, \.flac"),
    "stdout twice": (("-o", "-", "--json"), 2, "the sound and --json would share stdout"),
    "no name": (("-o", "-", "--plot"), 2, "--plot has no name beside stdout"),
    "missing config": (("--config", "none.toml"), 2, "'none.toml' does not exist"),
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(("options", "code", "reason"), OPTIONS.values(), ids=OPTIONS)
def test_an_option_that_does_not_fit_costs_one_line(net, options, code, reason):
    recording()
    error = refused("mix.wav", "-w", net, *options, code=code)
    assert re.search(reason, error), error


@pytest.mark.usefixtures("idle")
def test_wrong_words_get_the_nearest_right_one(net):
    recording()
    assert "'evaluat'. Did you mean 'evaluate'?" in refused("evaluat", "mix.wav", code=2)
    told = refused("mix.wav", "-w", net, "--fromat", code=2)
    assert "Did you mean" in told
    assert "'--format'" in told


# --- outputs -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("output", "code", "reason"),
    [
        ("mix{}.wav", 2, r"output mix1\.wav is also an input"),
        ("link{}.wav", 2, r"output link1\.wav is also an input"),
        ("mix1.wav/sub", 1, "Not a directory"),
        ("sub/b{}.wav", 1, r"sub/b2\.wav exists; --overwrite replaces it"),
        ("sub/c{}.wav", 1, r"sub/c1\.wav is a folder; needs a file name"),
    ],
)
def test_an_output_that_cannot_be_written_costs_one_line(net, output, code, reason):
    recording("mix1.wav")
    recording("sub/b2.wav")
    Path("sub/c1.wav").mkdir()
    Path("link1.wav").symlink_to("mix1.wav")
    words = ("--overwrite",) if code == 2 else ()
    error = refused("mix1.wav", "-w", net, "-o", output, *words, code=code)
    assert re.search(reason, error), error


def test_a_missing_folder_is_made(net):
    recording()
    assert command("mix.wav", "-w", net, "-o", "new/deeper").code == 0
    assert Path("new/deeper/mix_speaker2.wav").exists()


@pytest.mark.usefixtures("idle")
def test_a_folder_that_is_not_writable_is_refused_before_the_work(net, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    recording()
    error = refused("mix.wav", "-w", net, "-o", "sub/b.wav")
    assert re.fullmatch(r"sub/b_speaker1\.wav: folder .* is not writable", error)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_a_full_disk_leaves_no_half_file(net, suffix):
    recording(seconds=2)
    with largest_file(1000):
        error = refused("mix.wav", "-w", net, "-o", f"out{suffix}")
    assert error == f"out_speaker1{suffix}: File too large"


def test_a_disk_that_is_full_at_the_end_leaves_no_half_file(net, monkeypatch):
    recording(seconds=2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    error = refused("mix.wav", "-w", net)
    assert re.fullmatch(r"mix_speaker\d\.wav: No space left on device", error)


def test_a_full_disk_for_one_file_leaves_the_others_done(net):
    recording("in/a.wav", 4)
    recording("in/b.wav", 0.1)
    told = command("in", "-w", net, "-o", "out")
    assert told.code == 0, told.err
    with largest_file(20_000):
        told = command("in", "-w", net, "-o", "small")
    assert told.code == 1
    assert told.err.startswith("sigform-separate: failed: in/a.wav: small/a_speaker1.wav: File too")
    assert {path.name for path in Path("small").iterdir()} == {
        "b_speaker1.wav", "b_speaker2.wav"
    }  # fmt: skip


def test_a_full_stdout_costs_one_line(net):
    from sigform_kit.running import run
    from sigform_speech.cli import app

    source, said = recording(), io.StringIO()
    with open("/dev/full", "w") as out, contextlib.redirect_stdout(out):  # noqa: PTH123
        with contextlib.redirect_stderr(said):
            code = run(app, [str(source), "-w", str(net), "-o", "-"])
        with contextlib.suppress(OSError):
            out.flush()
    assert code == 1
    assert said.getvalue() == "sigform-separate: error: stdout: No space left on device\n"


# --- interrupts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Separator, "separate_stream"), (AudioWriter, "write"), (os, "fsync")],
    ids=["network", "writing", "end"],
)
def test_an_interrupt_leaves_nothing(net, monkeypatch, owner, name):
    inner = getattr(owner, name)

    def interrupted(*args, **options):
        signal.raise_signal(signal.SIGINT)
        return inner(*args, **options)

    monkeypatch.setattr(owner, name, interrupted)
    recording()
    with undisturbed(Path()):
        told = command("mix.wav", "-w", net, "--plot")
    assert told.code == 130
    assert told.err == "sigform-separate: interrupted\n"
    assert told.raw == b""
