"""The subcommands of `sigform-decode` as a person at a terminal meets them."""

from __future__ import annotations

import csv
import inspect
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import mne
import numpy as np
import pytest
from command_runner import undisturbed
from eeg.commands import EVENTS, QUICK, TRAIN, WINDOW, command, people, saved_network
from eeg.files import NAMES, cued, fixtures, noise, raw_array, saved
from eeg.small import CHANNELS

import sigform_eeg
from sigform_eeg import (
    batch,
    catalogue,
    cli,
    fitting,
    jobs,
    networks,
    protocols,
    recording,
    training,
)
from sigform_eeg.decoder import HOP_SECONDS, Decoder
from sigform_eeg.eeg_lmuformer import EEGLMUFormer
from sigform_eeg.preprocessing import Preprocessing
from sigform_eeg.training import Recipe

HEAVY = (
    "torch", "numpy", "scipy", "mne", "sklearn", "lightning", "torchmetrics", "matplotlib", "soxr",
    "mne_lsl", "mne_bids", "ray", "rich",
)  # fmt: skip
VERBS = list(cli.app.commands)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """A weight file that streams."""
    return saved_network(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def no_report(monkeypatch) -> None:
    """Trainings without their pictures, which take longer than they do."""
    monkeypatch.setattr(jobs, "reports", lambda *_: [])


def table(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


# --- help ----------------------------------------------------------------------------------------


def test_no_help_imports_what_is_heavy():
    script = (
        "import json, sys, sigform_eeg\n"
        "from sigform_eeg.cli import app\n"
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
    words = [sys.executable, "-m", "sigform_eeg", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    # It takes 0.3 s; the bound is for a machine that does much else.
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
    assert told.out.startswith(f"Usage: sigform-decode {verb}")


def test_without_arguments_the_help_comes():
    told = command()
    assert told.code == 2
    assert "Usage: sigform-decode" in told.out + told.err


def test_what_the_command_line_repeats_is_what_the_library_says():
    assert tuple(networks.ARCHITECTURES) == cli.ARCHITECTURES
    assert protocols.PROTOCOLS == cli.PROTOCOLS
    # The other suffixes of epochs end in .fif.
    assert (*recording.SUFFIXES, ".npz") == batch.READ_SUFFIXES
    assert {option.name: option.default for option in cli.app.commands["run"].params}[
        "hop"
    ] == HOP_SECONDS
    options = {option.name: option.default for option in cli.app.commands["train"].params}
    window, recipe = Preprocessing(), Recipe()
    for name in ("start", "stop", "low", "high", "sample_rate"):
        assert options[name] == getattr(window, name), name
    for name in ("epochs", "batch_size", "learning_rate", "weight_decay", "seed"):
        assert options[name] == getattr(recipe, name), name


def test_the_library_is_reached_from_its_name():
    for name in sigform_eeg.__all__:
        assert getattr(sigform_eeg, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Decodr'"):
        _ = sigform_eeg.Decodr


# --- run -----------------------------------------------------------------------------------------


def test_a_recording_becomes_a_table_beside_it(net):
    path = cued(Path("in/talk_raw.fif"))
    told = command(path, "-w", net)
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("in/talk_raw.fif (60.0 s) -> in/talk_raw_decoded.csv (120 windows:")
    rows = table("in/talk_raw_decoded.csv")
    assert list(rows[0]) == ["time", "left", "right", "class"]
    wanted = Decoder.load(net)(path)
    assert [float(row["time"]) for row in rows] == wanted.times.tolist()
    told_of = [[float(row["left"]), float(row["right"])] for row in rows]
    np.testing.assert_allclose(told_of, wanted.probabilities, atol=1e-6)
    assert tuple(row["class"] for row in rows) == wanted.labels


def test_the_model_may_come_first_or_by_option_or_as_the_folder_of_a_run(net, monkeypatch):
    path = cued(Path("a_raw.fif"), seconds=20)
    first = command("run", net, path, "-o", "-", "-q")
    assert first.code == 0, first.err
    Path("trained").mkdir()
    Path("trained/weights.safetensors").write_bytes(net.read_bytes())
    monkeypatch.setattr(catalogue, "SHIPPED", {"default": net})
    for words in ((path,), (path, "-w", net), ("trained", path), ("default", path), (net, path)):
        assert command("run", *words, "-o", "-", "-q").raw == first.raw


def test_annotations_say_what_was_decoded(net):
    path = cued(Path("a_raw.fif"), seconds=20)
    assert command(path, "-w", net, "--hop", "1", "--annotate", "b_eeg.fif").code == 0
    rows = table("a_raw_decoded.csv")
    found = mne.io.read_raw("b_eeg.fif", verbose="ERROR").annotations
    made = np.flatnonzero([str(name).startswith("decoded/") for name in found.description])
    assert found.description[made].tolist() == [f"decoded/{row['class']}" for row in rows]
    ends = found.onset[made] + found.duration[made]
    np.testing.assert_allclose(ends, [float(row["time"]) for row in rows], atol=1e-3)
    kept = mne.io.read_raw(path, verbose="ERROR").annotations
    assert len(found) == len(kept) + len(rows)


@pytest.mark.parametrize("dated", [False, True])
def test_annotations_of_a_cropped_recording_stay_in_place(net, dated):
    raw = raw_array(noise(len(NAMES), 4000), events=[(12.0, "T1")])
    if dated:
        raw.set_meas_date(1_700_000_000)
    saved(Path("a_raw.fif"), raw.crop(10.0))
    assert command("a_raw.fif", "-w", net, "--annotate", "b_eeg.fif").code == 0
    found = mne.io.read_raw("b_eeg.fif", verbose="ERROR")
    held = found.annotations
    # MNE counts from the start of the measurement, dated or not.
    times = held.onset - found.first_time
    at = dict(zip(held.description, times, strict=True))
    assert at["T1"] == pytest.approx(2.0)
    assert max(times) == pytest.approx(14.5, abs=0.02)


def test_channels_are_found_by_name_and_rates_reconciled(net):
    path = cued(Path("a_raw.fif"), seconds=20)
    raw = mne.io.read_raw(path, preload=True, verbose="ERROR")
    raw.reorder_channels([*reversed(NAMES)])
    raw.save("b_raw.fif", verbose="ERROR")
    assert command(path, "-w", net).code == command("b_raw.fif", "-w", net).code == 0
    assert table("a_raw_decoded.csv") == table("b_raw_decoded.csv")
    quick = cued(Path("c_raw.fif"), seconds=20, rate=250.0)
    assert command(quick, "-w", net).code == 0
    assert len(table("c_raw_decoded.csv")) == len(table("a_raw_decoded.csv"))


def test_a_folder_and_json(net):
    people(Path("in/deep"), 2, 12.0)
    places = ("-o", "out", "--annotate", "out")
    told = command("in", "-w", net, *places, "--json", "--align", "subject")
    records = {record.pop("input"): record for record in told.records}
    assert list(records) == ["in/deep/sub-001_raw.fif", "in/deep/sub-002_raw.fif"]
    record = records["in/deep/sub-002_raw.fif"]
    assert record.pop("seconds") > 0
    assert sum(record.pop("counts").values()) == 24
    assert record == {
        "outputs": ["out/deep/sub-002_raw_decoded.csv", "out/deep/sub-002_raw_decoded_eeg.fif"],
        "status": "done", "classes": ["left", "right"], "windows": 24, "duration": 12.0,
        "align": "subject", "causal": False,
        "notes": ["subject alignment saw the whole recording first; only online is causal"],
    }  # fmt: skip
    one = ("in/deep/sub-001_raw.fif", "-w", net, "-o", "out/deep", "--annotate", "out/deep")
    assert command(*one, "--skip-existing", "--json").records[0]["status"] == "skipped"
    assert "--overwrite" in command("in", "-w", net, "-o", "out").error


def test_dry_run_does_nothing(net):
    people(Path("in"), 2, 40.0)
    with undisturbed(Path()):
        told = command("in", "-w", net, "--dry-run")
        train = command("train", "in", *TRAIN, "--dry-run")
        example = command("train", "--example", "--dry-run")
    assert told.out.splitlines()[0] == "in/sub-001_raw.fif -> in/sub-001_raw_decoded.csv"
    assert train.out.startswith("would train in_lmuformer/weights.safetensors on 14 trials of 2 ")
    assert "would simulate simulated" in example.out


def test_a_config_file_fills_the_defaults(net):
    path = cued(Path("a_raw.fif"), seconds=20)
    Path("settings.toml").write_text(f'weights = "{net}"\nhop = 4\n')
    assert command(path, "--config", "settings.toml").code == 0
    assert len(table("a_raw_decoded.csv")) == 5


def test_debug_shows_the_traceback(net):
    Path("a.edf").write_text("text")
    told = command("a.edf", "-w", net, "--debug")
    assert told.code == 1
    assert "Traceback" in told.err


# --- stream --------------------------------------------------------------------------------------


def test_a_stream_says_what_a_run_says(net):
    path = cued(Path("a_raw.fif"), seconds=20)
    told = command("stream", net, "--source", path, "--hop", "0.5", "--json")
    assert told.err.startswith("40 answers; step p50 ")
    assert told.err.rstrip().endswith("(online alignment)")
    command(path, "-w", net)
    for record, row in zip(told.records, table("a_raw_decoded.csv"), strict=True):
        assert record["time"] == float(row["time"])
        assert record["probabilities"]["left"] == pytest.approx(float(row["left"]), abs=1e-4)
        assert record["class"] == row["class"]


def test_a_stream_gives_each_token_and_stops_when_told(net):
    path = cued(Path("a_raw.fif"), seconds=20)
    told = command("stream", "--weights", net, "--source", path, "--seconds", "4", "--speed", "50")
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    network = Decoder.load(net).network
    assert isinstance(network, EEGLMUFormer)
    assert len(lines) == 4 * 64 // network.samples_per_token
    assert lines[-1].split()[:3] == ["4.000", "s", "left"]


def test_a_stream_of_whole_windows_and_with_an_earlier_recording(tmp_path):
    path = cued(Path("a_raw.fif"), seconds=20)
    whole = saved_network(tmp_path, "dbconformer", "subject")
    error = command("stream", whole, "--source", path).error
    assert "needs an earlier recording of the same person by --calibrate" in error
    told = command("stream", whole, "--source", path, "--calibrate", path, "--json", "-q")
    command(path, "-w", whole)
    rows = table("a_raw_decoded.csv")
    shares = [record["probabilities"]["left"] for record in told.records]
    np.testing.assert_allclose(shares, [float(row["left"]) for row in rows], atol=1e-4)


# --- train ---------------------------------------------------------------------------------------


def test_train_writes_everything_and_its_weights_decode():
    people(Path("in"))
    told = command("train", "in", *TRAIN, "--card", "attribution=made up", "-o", "run", "--json")
    (record,) = told.records
    assert record["weights"] == "run/weights.safetensors"
    for name in ("weights.safetensors", "metrics.json", "settings.toml", "card.json"):
        assert Path("run", name).exists(), name
    assert any(name.endswith("report.html") for name in record["files"])
    assert all(Path(name).stat().st_size > 0 for name in record["files"])
    assert json.loads(Path("run/card.json").read_text())["attribution"] == "made up"
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["protocol"] == "loso"
    assert set(metrics["network"]["subjects"]) == {"sub-001", "sub-002"}
    assert record["accuracy"] == pytest.approx(metrics["network"]["all"]["accuracy"]["mean"])
    assert (record["align"], record["causal"]) == ("online", True)
    told = command("run", "run", "in/sub-001_raw.fif", "-o", "a.csv")
    assert told.code == 0, told.err
    record = json.loads(command("info", "run", "--json").out)
    assert record["channels"] == list(NAMES)
    assert record["classes"] == ["left", "right"]


@pytest.mark.usefixtures("no_report")
def test_a_killed_training_goes_on_where_it_was(monkeypatch):
    people(Path("in"))
    words = ("train", "in", *TRAIN, "--epochs", "4")
    assert command(*words, "-o", "whole").code == 0
    begun: list[str] = []
    real = training.train_network

    def stopped(network, train, recipe, folder, **options):
        begun.append(folder.name)
        if folder.name == "002":
            progress = options["on_progress"]

            def watch(step, *rest):
                if step == 2:
                    signal.raise_signal(signal.SIGINT)
                progress(step, *rest)

            options["on_progress"] = watch
        return real(network, train, recipe, folder, **options)

    monkeypatch.setattr(fitting, "train_network", stopped)
    told = command(*words, "-o", "parts")
    assert told.code == 130
    assert "saved; to go on: sigform-decode train 'in' -o 'parts' --config" in told.err
    assert not Path("parts/weights.safetensors").exists()
    assert "parts holds a run; --resume goes on" in command(*words, "-o", "parts").error
    assert "resuming parts needs" in command(*words[:-1], "5", "-o", "parts", "--resume").error
    monkeypatch.setattr(fitting, "train_network", real)
    resumed = ("train", "in", "-o", "parts", "--config", "parts/settings.toml", "--resume")
    told = command(*resumed)
    assert told.code == 0, told.err
    assert begun == ["001", "002"]
    first, second = (json.loads(Path(n, "metrics.json").read_text()) for n in ("whole", "parts"))
    assert first == second


@pytest.mark.usefixtures("no_report")
def test_a_finished_run_is_kept_or_replaced():
    people(Path("in"))
    words = ("train", "in", *TRAIN, "--protocol", "co", "-o", "run", "-q")
    assert command(*words).code == 0
    with undisturbed(Path()):
        assert "exists; --overwrite replaces it" in command(*words).error
        assert command(*words, "--skip-existing").code == 0
    Path("run/notes.txt").write_text("mine")
    told = command(*words, "--overwrite", "--align", "none")
    assert told.code == 0, told.err
    assert "no alignment" in told.out
    assert Path("run/notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("no_report")
def test_the_network_of_the_only_fold_is_kept():
    people(Path("in"), 5, 40.0)
    words = ("train", "in", *TRAIN, "--no-final", "--json")
    assert "has 5" in command(*words).error
    (record,) = command(*words, "--protocol", "held-out", "-o", "run").records
    told = json.loads(Path("run/card.json").read_text())
    assert told["trained_on"] == ["sub-001", "sub-002", "sub-003", "sub-004"]
    (row, _) = command("evaluate", "run", "in/sub-005_raw.fif", *EVENTS, "--json").records
    assert row["accuracy"] == pytest.approx(record["accuracy"])


def test_the_example_is_simulated_trained_and_decoded():
    told = command(
        "train", "--example", "--epochs", "1", *WINDOW, *QUICK[:2], "-o", "run", "--json"
    )
    assert told.code == 0, told.err
    assert "simulated 6 recordings in simulated, of no person" in told.err
    assert "simulated" in json.loads(Path("run/card.json").read_text())["data"]
    path = "simulated/sub-simulated01_run-01_simulated_eeg.fif"
    assert command("run", "run", path).code == 0
    assert command("stream", "run", "--source", path, "--seconds", "5").code == 0


def test_the_real_recordings_train_run_and_stream(no_report):
    del no_report
    raw = fixtures("data/eeg/raw")
    words = ("--protocol", "runs", "--channels", "FC3,FCz,FC4,C3,Cz,C4,CP3,CP4", "-o", "run")
    told = command("train", raw, *TRAIN, *words, "--json")
    assert told.code == 0, told.err
    path = sorted(raw.rglob("*.edf"))[0]
    (record,) = command("run", "run", path, "-o", "a.csv", "--json").records
    assert record["windows"] == len(table("a.csv"))
    assert command("stream", "run", "--source", path, "--seconds", "5").code == 0
    assert command("evaluate", "run", raw, *EVENTS, "--json").records[-1]["trials"] >= 29


# --- evaluate ------------------------------------------------------------------------------------


def test_evaluate_tells_scores_by_subject(net):
    people(Path("in"))
    files = ("--csv", "out/a.csv", "--report", "r.json", "--curve", "c.png")
    told = command("evaluate", net, "in", *EVENTS, *files, "--baseline")
    assert told.code == 0, told.err
    header, *rows = told.out.splitlines()
    assert header.split() == [
        "subject", "trials", "accuracy", "balanced_accuracy", "kappa", "auroc", "chance", "csp_lda",
    ]  # fmt: skip
    assert [row.split()[0] for row in rows] == ["sub-001", "sub-002", "all"]
    records = command("evaluate", "-w", net, "in", *EVENTS, "--json").records
    assert records[-1]["trials"] == 22
    mean = np.mean([record["accuracy"] for record in records[:2]])
    assert records[-1]["accuracy"] == pytest.approx(mean, abs=1e-5)
    written = table("out/a.csv")
    assert [float(row["accuracy"]) for row in written] == [one["accuracy"] for one in records]
    report = json.loads(Path("r.json").read_text())
    assert report["csp_lda_protocol"] == "loso"
    assert np.sum(report["network"]["confusion"]) == 22
    curve = table("c.csv")
    assert float(curve[-1]["seconds_after_cue"]) == 2.0
    assert Path("c.png").read_bytes()[:4] == b"\x89PNG"
    assert "of the final accuracy" in told.err


def test_classes_in_another_order_score_the_same(net):
    people(Path("in"))
    turned = (*EVENTS[2:], *EVENTS[:2])
    first, second = (
        command("evaluate", net, "in", *words, "--json").records for words in (EVENTS, turned)
    )
    assert first == second


# --- info, models, doctor ------------------------------------------------------------------------


def test_info_lists_what_there_is(net):
    people(Path("in"))
    told = command("info", "in/sub-001_raw.fif").out.splitlines()
    assert "sample_rate: 160.0" in told
    assert "annotations: T1: 6" in told
    assert f"channels: {', '.join(NAMES)}" in told
    assert "events: T2: 10" in command("info", "in").out
    record = json.loads(command("info", net, "--json").out)
    assert record["channels"] == list(CHANNELS)
    assert (record["window"], record["align"]) == ([0.0, 2.0], "online")
    assert record["parameters"] > 1000


def test_models_and_doctor(net, monkeypatch):
    monkeypatch.setattr(catalogue, "SHIPPED", {"default": net})
    (record,) = command("models", "--json").records
    assert (record["name"], record["classes"], record["accuracy"]) == (
        "default",
        "left, right",
        0.5,
    )
    told = command("doctor")
    assert told.code == 0, told.out
    assert "weights: default" in told.out
    assert "mne_lsl: " in told.out
    monkeypatch.setattr(catalogue, "SHIPPED", {})
    assert command("doctor").code == 1
    assert "no models are in this package" in command("models").error


def test_nothing_takes_keywords_that_it_does_not_know():
    for name in ("run", "measure", "labelled", "describe"):
        kinds = [p.kind for p in inspect.signature(getattr(jobs, name)).parameters.values()]
        assert inspect.Parameter.VAR_KEYWORD not in kinds
