"""The subcommands of `sigform-separate` as a person at a terminal meets them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command_runner import undisturbed
from speech.commands import command, recording, saved_network, sound, tiny

import sigform_speech
from sigform_kit.console import Console
from sigform_speech import audio, batch, catalogue, cli, fitting
from sigform_speech.separator import Separator
from sigform_speech.training import Recipe

HEAVY = (
    "torch", "numpy", "soundfile", "soxr", "lightning", "torchaudio", "torchmetrics", "matplotlib",
    "av", "scipy", "ray", "rich",
)  # fmt: skip
VERBS = list(cli.app.commands)


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


def read(path: str | Path) -> np.ndarray:
    """The 16-bit values of a file, (T, C)."""
    return soundfile.read(path, dtype="int16", always_2d=True)[0]


# --- help ----------------------------------------------------------------------------------------


def test_no_help_imports_what_is_heavy():
    script = (
        "import json, sys, sigform_speech\n"
        "from sigform_speech.cli import app\n"
        "from sigform_kit.running import run\n"
        "codes = [run(app, [*words, '--help']) for words in json.loads(sys.argv[1])]\n"
        f"print([name for name in {HEAVY} if name in sys.modules], codes)\n"
    )
    words = json.dumps([[], *([verb] for verb in VERBS)])
    done = subprocess.run(
        [sys.executable, "-c", script, words], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"[] {[0] * (len(VERBS) + 1)}"
    assert done.stderr == ""


def test_help_is_quick_and_whole():
    begun = time.perf_counter()
    words = [sys.executable, "-m", "sigform_speech", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    # It takes 0.2 s; the bound is for a machine that does much else.
    assert time.perf_counter() - begun < 5
    assert (done.returncode, done.stderr) == (0, "")
    listed = done.stdout.split("Commands:")[1]
    assert [line.split()[0] for line in listed.strip().splitlines()] == VERBS
    assert "..." not in listed


@pytest.mark.parametrize("verb", VERBS)
def test_each_help_names_its_options_in_words(verb):
    told = command(verb, "--help")
    assert told.code == 0
    assert "RANGE" not in told.out.split("--device")[0]
    assert told.out.startswith(f"Usage: sigform-separate {verb}")


def test_without_arguments_the_help_comes():
    told = command()
    assert told.code == 2
    assert "Usage: sigform-separate" in told.out + told.err


def test_what_the_command_line_repeats_is_what_the_library_says():
    assert {f".{name}" for name in batch.FORMATS} == set(audio.SUFFIXES)
    assert cli.ARCHITECTURES == fitting.ARCHITECTURES


def test_the_library_is_reached_from_its_name():
    for name in sigform_speech.__all__:
        assert getattr(sigform_speech, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Seperator'"):
        _ = sigform_speech.Seperator


# --- separate ------------------------------------------------------------------------------------


def test_a_recording_becomes_one_for_each_speaker_beside_it(net):
    recording()
    told = command("mix.wav", "-w", net)
    assert (told.code, told.err) == (0, "")
    assert told.out == "mix.wav (0.5 s) -> mix_speaker1.wav, mix_speaker2.wav\n"
    wanted = Separator.load(net)(sound()[:, 0], 8000).speakers
    for number, voice in enumerate(wanted, 1):
        found = read(f"mix_speaker{number}.wav")[:, 0]
        np.testing.assert_allclose(found, voice * 2**15, atol=0.51)


@pytest.mark.parametrize("format", batch.FORMATS)
def test_every_format_is_kept_and_can_be_asked_for(net, format):
    rate = 48_000
    kept = format not in ("w64", "rf64", "caf")
    if kept:
        assert command(recording(f"a.{format}", 0.2, rate), "-w", net).code == 0
    assert command(recording("b.wav", 0.2, rate), "-w", net, "--format", format).code == 0
    for name in ("a", "b") if kept else ("b",):
        found = soundfile.info(f"{name}_speaker2.{format}")
        assert (found.format, found.samplerate) == (audio.SUFFIXES[f".{format}"], rate)


def test_rate_channels_and_sample_format_stay(net):
    recording("a.flac", 0.5, 44_100, 2, subtype="PCM_24")
    recording("b.wav", 0.5, 22_050, 2, subtype="FLOAT")
    (first,) = command("a.flac", "-w", net, "--json").records
    assert first["notes"] == ["nothing above 4 kHz is kept: the network works at 8 kHz"]
    told = command("b.wav", "-w", net, "--mono")
    assert told.err == "b.wav: nothing above 4 kHz is kept: the network works at 8 kHz\n"
    for name, rate, channels, subtype, frames in (
        ("a_speaker1.flac", 44_100, 2, "PCM_24", 22_050),
        ("b_speaker2.wav", 22_050, 1, "FLOAT", 11_025),
    ):
        found = soundfile.info(name)
        assert (found.samplerate, found.channels, found.frames) == (rate, channels, frames)
        assert found.subtype == subtype
    assert command("b.wav", "-w", net, "--overwrite", "-q").err == ""


def test_json_tells_everything(net):
    recording("mix.wav", channels=2)
    (record,) = command("mix.wav", "-w", net, "--json", "--plot").records
    assert record.pop("seconds") > 0
    assert record.pop("real_time_factor") > 0
    assert record == {
        "input": "mix.wav",
        "outputs": ["mix_speaker1.wav", "mix_speaker2.wav"],
        "status": "done",
        "plot": "mix_speakers.png",
        "speakers": 2,
        "sample_rate": 8000,
        "channels": 2,
        "duration": 0.5,
        "gain_db": 0.0,
        "bandwidth": 4000.0,
        "notes": [],
    }


def test_what_would_clip_is_turned_down_and_said(net, monkeypatch):
    def loud(self, blocks, sample_rate, channels=1):
        del sample_rate, channels
        for block in blocks:
            yield np.stack([2 * block] * self.speakers) / np.abs(block).max()

    monkeypatch.setattr(Separator, "separate_stream", loud)
    recording()
    (record,) = command("mix.wav", "-w", net, "--json").records
    assert record["gain_db"] == pytest.approx(-6.03, abs=0.01)
    assert record["notes"] == ["turned down by 6.0 dB so that nothing clips"]
    assert np.abs(read("mix_speaker1.wav")).max() in range(32_700, 32_768)


def test_stdin_and_stdout(net):
    data = recording("mix.wav", channels=2).read_bytes()
    assert command("mix.wav", "-w", net).code == 0
    files = np.concatenate([read("mix_speaker1.wav"), read("mix_speaker2.wav")], axis=1)
    told = command("-", "-w", net, stdin=data)
    assert (told.code, told.err) == (0, "- (0.5 s) -> -\n")
    # The channels of the first speaker, then those of the second.
    np.testing.assert_array_equal(read(io.BytesIO(told.raw)), files)  # pyright: ignore
    told = command("mix.wav", "-w", net, "-o", "-", "--format", "flac", "--mono", "-q")
    assert soundfile.info(io.BytesIO(told.raw)).format == "FLAC"
    assert soundfile.info(io.BytesIO(told.raw)).channels == 2
    assert command("-", "-w", net, "-o", "out", "--plot", stdin=data).code == 0
    np.testing.assert_array_equal(read("out/stdin_speaker2.wav"), files[:, 2:])
    assert Path("out/stdin_speakers.png").read_bytes().startswith(b"\x89PNG")


def test_the_options_reach_the_separator(net, monkeypatch):
    seen = {}

    def load(weights, **options):
        seen.update(options, weights=weights)
        raise ValueError("enough")

    monkeypatch.setattr(Separator, "load", load)
    recording()
    assert command("mix.wav", "-w", net).error == "enough"
    plain = {"weights": str(net), "speakers": 2, "device": "auto", "dtype": "auto", "threads": None}
    assert seen == plain
    words = ("--device", "cpu", "--dtype", "bfloat16", "--threads", "3")
    chosen = {**plain, "device": "cpu", "dtype": "bfloat16", "threads": 3}
    assert command("mix.wav", "--weights", net, *words).error == "enough"
    assert seen == chosen
    assert command("evaluate", "mix.wav", "-r", "mix.wav", "-w", net, *words).error == "enough"
    assert seen == {**chosen, "speakers": None}


def test_progress_goes_by_seconds(net, monkeypatch):
    bars = []

    def progress(_self, label, total):
        bars.append([label, total])
        return contextlib.nullcontext(lambda: bars[-1].append("second"))

    monkeypatch.setattr(Console, "progress", progress)
    recording(seconds=20)
    assert command("mix.wav", "-w", net).code == 0
    (bar,) = bars
    # The first chunk's seconds are there at once.
    assert bar[0] == "mix.wav"
    assert 10 < bar.count("second") == bar[1] < 20


def test_a_config_file_fills_the_defaults(net):
    recording(channels=2)
    Path("settings.toml").write_text(f'weights = "{net}"\nformat = "flac"\nmono = true\n')
    assert command("mix.wav", "--config", "settings.toml").code == 0
    assert soundfile.info("mix_speaker2.flac").channels == 1


def test_debug_shows_the_traceback(net):
    Path("mix.wav").write_text("text")
    told = command("mix.wav", "-w", net, "--debug")
    assert told.code == 1
    assert "Traceback" in told.err


# --- evaluate ------------------------------------------------------------------------------------


def mixture(folder: str, seed: int = 0) -> Path:
    """A folder with mix.wav, s1.wav and s2.wav."""
    place = Path(folder)
    place.mkdir(parents=True)
    parts = [sound(1, seed=seed), sound(1, seed=seed + 5)]
    for name, samples in (("s1", parts[0]), ("s2", parts[1]), ("mix", parts[0] + parts[1])):
        soundfile.write(place / f"{name}.wav", samples, 8000)
    return place


def test_evaluate_tells_scores_of_a_file_or_a_folder(net):
    mixture("set/a")
    mixture("set/b", seed=1)
    told = command("evaluate", "set", "-w", net, "--csv", "out/scores.csv", "--report", "r.json")
    assert told.code == 0, told.err
    header, *rows = told.out.splitlines()
    assert header.split()[:5] == ["mixture", "seconds", "mixture_si_sdr", "si_sdr", "si_sdri"]
    assert [row.split()[0] for row in rows] == ["a", "b", "mean"]
    records = command("evaluate", "set", "-w", net, "--json").records
    assert records[2]["si_sdri"] == pytest.approx(np.mean([r["si_sdri"] for r in records[:2]]))
    with Path("out/scores.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [float(row["si_sdr"]) for row in written] == [record["si_sdr"] for record in records]
    report = json.loads(Path("r.json").read_text())
    assert len(report["mixtures"][0]["speakers"]) == 2
    words = ("set/a/mix.wav", "-r", "set/a/s2.wav", "-r", "set/a/s1.wav")
    (alone, _) = command("evaluate", *words, "-w", net, "--json").records
    assert alone["si_sdri"] == pytest.approx(records[0]["si_sdri"])


def test_evaluate_compares_what_others_separated():
    folder = mixture("a")
    references = ("-r", folder / "s1.wav", "-r", folder / "s2.wav")
    estimates = ("--estimate", folder / "s2.wav", "--estimate", folder / "s1.wav")
    row, _ = command("evaluate", *references, *estimates, "--json").records
    assert row["si_sdr"] > 90
    assert row["permutation"] == "2 1"
    row, _ = command("evaluate", folder / "mix.wav", *references, *estimates, "--json").records
    assert row["si_sdr"] > 90


def test_evaluate_mixes_a_corpus(net):
    for speaker in range(3):
        recording(f"corpus/dev/{speaker}/a.wav", 3.1, seed=speaker)
    words = ("--corpus", "corpus", "--split", "dev", "--count", "2", "-w", net, "--json")
    records = command("evaluate", *words).records
    assert [record["mixture"].split("_")[0] for record in records] == ["000", "001", "mean"]


def test_evaluate_does_the_rest_where_one_fails(net):
    mixture("set/a")
    mixture("set/b", seed=1)
    Path("set/b/s2.wav").write_text("no sound")
    told = command("evaluate", "set", "-w", net)
    assert told.code == 1
    assert [row.split()[0] for row in told.out.splitlines()[1:]] == ["a", "mean"]
    assert "failed: b: set/b/s2.wav: not audio that can be read\n" in told.err
    assert told.error == "1 of 2 inputs failed"


EVALUATE = {
    "nothing": ((), "needs a MIXTURE with --reference, a FOLDER, or --corpus"),
    "no references": (("mix.wav",), "mix.wav needs a --reference for each speaker"),
    "folder and references": ((".", "-r", "mix.wav"), ". is a folder, which has its references"),
    "corpus and references": (("--corpus", ".", "-r", "mix.wav"), "--corpus has its own"),
    "both": (("mix.wav", "--corpus", "."), "needs a MIXTURE with --reference, a FOLDER, or"),
    "suffix": (("mix.wav", "-r", "mix.wav", "--csv", "a.txt"), "a.txt: suffix is '.txt'; needs"),
    "few estimates": (
        ("-r", "mix.wav", "-r", "mix.wav", "--estimate", "mix.wav"), "there are 1 estimates and 2"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "reason"), EVALUATE.values(), ids=EVALUATE)
def test_evaluate_says_what_does_not_go_together(net, words, reason):
    recording()
    told = command("evaluate", *words, "-w", net)
    assert told.code == 2
    assert told.error.startswith(reason)


def test_evaluate_says_what_is_missing(net):
    Path("none").mkdir()
    assert command("evaluate", "none", "-w", net).error.startswith("none has no mixtures")
    assert command("evaluate", "gone", "-w", net).error == "gone: no such file or folder"
    recording()
    recording("long.wav", 0.6)
    told = command("evaluate", "mix.wav", "-r", "mix.wav", "-r", "long.wav", "-w", net)
    assert "--cut compares up to the end of the shorter" in told.error
    Path("scores.csv").write_text("mine")
    words = ("evaluate", "mix.wav", "-r", "mix.wav", "-w", net, "--csv", "scores.csv")
    assert command(*words).error.startswith("scores.csv exists; --overwrite replaces it")
    skipped = command(*words, "--skip-existing")
    assert (skipped.code, skipped.err) == (0, "scores.csv: all of it exists; skipped\n")


# --- train ---------------------------------------------------------------------------------------

SHORT = (
    "--steps", "2", "--seconds", "0.5", "--batch-size", "2", "--validate-every", "1",
    "--validation-items", "1", "--dtype", "float32", "--warm-up", "1",
)  # fmt: skip


@pytest.fixture
def folder(monkeypatch) -> Path:
    """Speakers to train on, and a tiny network in the place of every other."""

    def build(architecture: str, *, speakers: int, sample_rate: int):
        assert architecture in fitting.ARCHITECTURES
        return tiny(speakers, sample_rate)

    monkeypatch.setattr(fitting, "build", build)
    for speaker in range(4):
        recording(f"set/{speaker}/a.wav", 1, seed=speaker)
    return Path("set")


def test_train_writes_weights_settings_and_what_they_reach(folder):
    told = command("train", folder, *SHORT, "--json")
    (record,) = told.records
    assert record["weights"] == "set_mossformer-small/weights.safetensors"
    assert (record["steps"], record["train_voices"], record["validation_voices"]) == (2, 2, 2)
    lines = [line for line in told.err.splitlines() if line.startswith("step ")]
    assert [line.split(":")[0] for line in lines] == ["step 1 of 2", "step 2 of 2"]
    assert lines[-1].endswith(" dB")
    run = Path("set_mossformer-small")
    assert {path.name for path in run.iterdir()} == {
        "settings.toml", "last.ckpt", "best.ckpt", "metrics.csv", "weights.safetensors",
        "card.json",
    }  # fmt: skip
    assert "seconds = 0.5" in (run / "settings.toml").read_text()
    again = command("train", folder, *SHORT)
    assert again.error.startswith(f"{record['weights']} exists; --overwrite replaces")
    skipped = command("train", folder, *SHORT, "--skip-existing")
    assert (skipped.code, skipped.err) == (0, f"{record['weights']} exists; skipped\n")
    other = command("train", folder, *SHORT, "-s", "3", "-o", run, "--resume", "--overwrite")
    assert (
        other.error == f"{run} holds a run with speakers 2; --resume with 3 needs a run of its own"
    )
    # A step more, by the settings of the first run.
    longer = command(
        "train", folder, "-o", run, "--config", run / "settings.toml", "--steps", "3", "--resume",
        "--overwrite", "--json",
    )  # fmt: skip
    assert longer.records[0]["steps"] == 3
    assert command(recording(), "-w", record["weights"]).code == 0


def fitting_that(monkeypatch, action) -> None:
    monkeypatch.setattr("sigform_speech.fitting.fit_folder", action)


def test_an_interrupted_training_says_how_to_go_on(folder, monkeypatch):
    def interrupted(folder, run_dir, recipe, **options):
        del folder, recipe, options
        (run_dir / "last.ckpt").write_text("saved")
        raise KeyboardInterrupt

    fitting_that(monkeypatch, interrupted)
    told = command("train", folder, "-o", "run", *SHORT)
    assert told.code == 130
    assert told.err.splitlines() == [
        "saved; to go on: sigform-separate train 'set' -o 'run' --config 'run/settings.toml' "
        "--resume",
        "sigform-separate: interrupted",
    ]
    again = command("train", folder, "-o", "run", *SHORT)
    assert again.error == "run holds a run; --resume goes on, --overwrite starts anew"


def handed_on(monkeypatch, *words: object) -> dict:
    """What `train` gives to the fitting."""
    seen = {}

    def stopped(folder, run_dir, recipe, **options):
        seen.update(options, folder=folder, run_dir=run_dir, recipe=recipe)
        raise ValueError("enough")

    fitting_that(monkeypatch, stopped)
    assert command("train", *words).error == "enough"
    del seen["on_progress"]
    return seen


@pytest.mark.usefixtures("shipped")
def test_train_hands_everything_on(folder, net, monkeypatch):
    seen = handed_on(
        monkeypatch, folder, "--architecture", "mossformer2", "-s", "3", "--sample-rate", "16000",
        "-o", "run", "--valid", folder, "--start", "default", "--resume", *SHORT,
        "--learning-rate", "1e-4", "--weight-decay", "0.1", "--gain-db", "2", "--speed", "0.2",
        "--turns", "0.5", "--workers", "2", "--devices", "3", "--seed", "7", "--device", "cpu",
    )  # fmt: skip
    assert seen.pop("recipe") == Recipe(
        steps=2, batch_size=2, seconds=0.5, learning_rate=1e-4, weight_decay=0.1, warm_up=1,
        gain_db=2, speed=0.2, turns=0.5, validate_every=1, validation_items=1, workers=2,
        devices=3, seed=7, device="cpu", dtype="float32",
    )  # fmt: skip
    assert seen == {
        "folder": folder, "run_dir": Path("run"), "architecture": "mossformer2", "speakers": 3,
        "sample_rate": 16_000, "validation": folder, "librimix": None, "start": net,
        "resume": True,
    }  # fmt: skip
    assert handed_on(monkeypatch, folder, "--librimix", "train-100")["librimix"] == "train-100"


def test_train_without_words_is_the_recipe(folder, monkeypatch):
    assert handed_on(monkeypatch, folder)["recipe"] == Recipe()


def test_train_can_be_rehearsed(folder):
    with undisturbed(Path()):
        told = command("train", folder, "--dry-run")
    assert told.out == "would train set_mossformer-small/weights.safetensors on 4 voices\n"


def test_train_says_what_is_wrong(folder):
    both = command("train", folder, "--librimix", "train-100", "--valid", folder)
    assert (both.code, both.error.split(" (")[0]) == (
        2, "--librimix has its own validation set; needs no --valid"
    )  # fmt: skip
    recording("one/1/a.wav", 1)
    assert command("train", "one", *SHORT).error.startswith("one has recordings of 1 speakers")
    (folder / "0/b.wav").write_bytes(b"no sound")
    assert command("train", folder, *SHORT).error.startswith("set/0/b.wav ")
    assert command("train", folder, "--start", "defalt").error.startswith("weights 'defalt' are")
    assert command("train", folder, "--architecture", "sepformer").code == 2


# --- info, models, export, doctor ----------------------------------------------------------------


def test_info_tells_what_a_recording_holds():
    recording("a.flac", 0.5, 16_000, 2, subtype="PCM_24")
    told = command("info", "a.flac")
    assert told.code == 0, told.err
    assert told.out.splitlines()[:6] == [
        "file: a.flac", "container: FLAC", "samples: PCM_24", "sample_rate: 16000",
        "channels: 2", "duration: 0.5",
    ]  # fmt: skip
    soundfile.write("silence.wav", np.zeros(800), 8000)
    (record,) = command("info", "silence.wav", "--json").records
    assert (record["frames"], record["peak_dbfs"], record["notes"]) == (800, None, [])


def test_info_tells_what_weights_are_whatever_their_name(net):
    (record,) = command("info", net, "--json").records
    parameters = sum(p.numel() for p in tiny().parameters())
    assert record == {
        "file": str(net),
        "model": "mossformer",
        "speakers": 2,
        "sample_rate": 8000,
        "parameters": parameters,
        "card": {"name": "tiny", "si_sdri": {"made up": 1.5}},
    }
    Path("weights.wav").write_bytes(net.read_bytes())
    assert f"parameters: {parameters}" in command("info", "weights.wav").out
    torch.save(tiny(3).published_state(), "net.pt")
    (record,) = command("info", "net.pt", "--json").records
    assert (record["speakers"], record["card"]) == (3, {})


def test_info_of_what_is_neither_costs_one_line():
    Path("a.wav").write_text("text")
    assert command("info", "a.wav").error == "a.wav: not audio that can be read"
    Path("b.safetensors").write_text("text")
    assert command("info", "b.safetensors").error.startswith("b.safetensors ")
    assert command("info", "c").error == "c: no such file or folder"


@pytest.mark.usefixtures("shipped")
def test_models_lists_the_shipped_and_the_published():
    rows = command("models", "--json").records
    assert [row["name"] for row in rows[:2]] == ["default", "mossformer-wsj0-2mix"]
    assert rows[0]["si_sdri"] == {"made up": 1.5}
    assert rows[1]["si_sdri"] == {"WSJ0-2mix": 22.8}
    lines = command("models").out.splitlines()
    assert lines[0].split()[:4] == ["name", "model", "speakers", "sample_rate"]
    assert "made up 1.5" in lines[1]


def test_models_fetches_by_name(net, monkeypatch):
    def fetch(name, *, progress):
        assert name == "mossformer2-16k"
        progress(1 << 20, 3 << 20)
        return net

    monkeypatch.setattr("sigform_speech.jobs.fetch", fetch)
    told = command("models", "--fetch", "mossformer2-16k")
    assert (told.code, told.out) == (0, f"{net}\n")


def test_export_writes_what_others_load(net):
    told = command("export", net, "out/net.safetensors")
    assert (told.code, told.out) == (0, "wrote out/net.safetensors\n")
    recording()
    assert command("mix.wav", "-w", "out/net.safetensors").code == 0
    assert command("mix.wav", "-w", net, "-o", "other").code == 0
    np.testing.assert_array_equal(read("mix_speaker1.wav"), read("other/mix_speaker1.wav"))
    assert command("export", net, "out/net.safetensors").error.startswith("out/net.safetensors exi")
    assert command("export", net, net, "--overwrite").error.startswith(f"output {net} is also an")
    assert "ends in '.onnx'" in command("export", net, "net.onnx").error


@pytest.mark.usefixtures("shipped")
def test_doctor_says_what_is_installed(monkeypatch):
    found = {row["name"]: row for row in command("doctor", "--json").records}
    assert found["sigform-speech"]["status"] == "ok"
    assert found["weights"]["detail"] == "default"
    assert {"torch", "av", "pesq", "pystoi", "torchaudio"} <= set(found)
    monkeypatch.setattr(catalogue, "SHIPPED", {})
    told = command("doctor")
    assert told.code == 1
    assert "fail  weights: none in the package" in told.out
