"""Epochs that were cut elsewhere: read from files, decoded, and streamed trial by trial."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from eeg.commands import command, saved_network
from eeg.small import CHANNELS, RATE, setup, trials

from sigform_eeg.alignment import Align
from sigform_eeg.decoder import Decoder
from sigform_eeg.epochs import is_epochs, read_epochs
from sigform_eeg.evaluation import evaluate
from sigform_eeg.folders import find_sources
from sigform_eeg.networks import build
from sigform_eeg.streaming import open_source, stream
from sigform_eeg.trials import Trials
from sigform_kit.errors import InputError

COUNT = 12


def decoder(architecture: str, align: Align) -> Decoder:
    torch.manual_seed(0)
    return Decoder(build(architecture, setup(align)), setup(align), device="cpu")


def npz(path: Path, told: Trials | None = None) -> Path:
    told = trials(count=COUNT) if told is None else told
    np.savez(
        path,
        X=told.signals,
        y=told.labels,
        sfreq=told.sample_rate,
        tmin=told.start,
        ch_names=np.array(told.channels),
    )
    return path


def fif(path: Path) -> Path:
    told = trials(count=COUNT)
    info = mne.create_info([*told.channels, "EOG"], RATE, ["eeg"] * len(CHANNELS) + ["eog"])
    signals = np.concatenate([told.signals, told.signals[:, :1]], axis=1) * 1e-6
    events = np.stack([np.arange(COUNT) * 1000, np.zeros(COUNT), 5 + 2 * told.labels], 1)
    made = mne.EpochsArray(
        signals, info, events.astype(int), told.start, {"left": 5, "right": 7}, verbose="ERROR"
    )
    made.save(path, verbose="ERROR")
    return path


def test_epochs_of_mne_are_the_same_trials(tmp_path: Path) -> None:
    path, wanted = fif(tmp_path / "sub-3-epo.fif"), trials(count=COUNT)
    assert is_epochs(path)
    assert not is_epochs(tmp_path / "sub-3_raw.fif")
    found = read_epochs(path)
    assert (found.subject, found.channels, found.classes) == ("sub-3", CHANNELS, wanted.classes)
    assert (found.sample_rate, found.start) == (RATE, -1.0)
    assert found.labels.tolist() == wanted.labels.tolist()
    np.testing.assert_allclose(found.signals, wanted.signals, atol=1e-3)
    (source,) = find_sources(tmp_path)
    assert (source.subject, source.is_epochs) == ("sub-3", True)


def test_epochs_of_mne_that_are_damaged_are_told(tmp_path: Path) -> None:
    path = fif(tmp_path / "sub-3-epo.fif")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"sub-3-epo\.fif: cannot be read as epochs: ") as caught:
        read_epochs(path)
    assert "\n" not in caught.value.format_message()
    for name in ("text-epo.fif", "text.npz"):
        (tmp_path / name).write_text("hi\n")
        with pytest.raises(InputError, match="damaged, or of another kind") as caught:
            read_epochs(tmp_path / name)
        assert "pickle" not in caught.value.format_message()
    with pytest.raises(InputError, match="no such file"):
        read_epochs(tmp_path / "none-epo.fif")
    empty = npz(tmp_path / "empty.npz", trials(count=COUNT).select([]))
    with pytest.raises(InputError, match=r"empty\.npz: holds no epochs"):
        read_epochs(empty)


@pytest.mark.parametrize("align", ["online", "subject", "none"])
@pytest.mark.parametrize("architecture", ["dbconformer", "lmuformer"])
def test_answers_are_those_of_the_evaluation(architecture: str, align: Align) -> None:
    chosen, told = decoder(architecture, align), trials(count=COUNT)
    windows = chosen(told)
    (result,) = evaluate(chosen.network, chosen.setup, [told], align=align)
    np.testing.assert_allclose(windows.probabilities, result.probabilities, atol=1e-6)
    # Each window ends 3 s into its trial of 3.2 s (205 samples).
    np.testing.assert_allclose(windows.times, np.arange(COUNT) * 205 / RATE + 3.0, atol=1e-9)
    assert windows.causal == (align != "subject")


@pytest.mark.parametrize("align", ["online", "subject", "none"])
@pytest.mark.parametrize("architecture", ["dbconformer", "lmuformer"])
def test_a_stream_of_trials_says_the_same(tmp_path: Path, architecture: str, align: Align) -> None:
    chosen, path = decoder(architecture, align), npz(tmp_path / "one.npz")
    matrix = chosen.alignment_of(path) if align == "subject" else None
    windows = chosen(path)
    made = {
        round(one.time, 6): one.probabilities
        for one in stream(chosen, open_source(path), matrix=matrix)
    }
    if architecture == "dbconformer":
        assert list(made) == [round(time, 6) for time in windows.times]
    else:
        assert len(made) > COUNT * 10  # an answer for each token
    ends = [made[round(time, 6)] for time in windows.times]
    if architecture == "dbconformer" or align != "online":
        np.testing.assert_allclose(ends, windows.probabilities, atol=2e-5)
    else:
        # Tokens come before their window's own alignment is known; the first trial waits for it.
        np.testing.assert_allclose(ends[0], windows.probabilities[0], atol=2e-5)
        assert np.abs(np.array(ends[1:]) - windows.probabilities[1:]).max() > 1e-4


def test_a_trial_knows_nothing_of_the_one_before(tmp_path: Path) -> None:
    chosen, told = decoder("lmuformer", "none"), trials(count=COUNT)
    other = told.with_signals(np.concatenate([100 * told.signals[:1], told.signals[1:]]))
    last = [
        list(stream(chosen, open_source(npz(tmp_path / f"{name}.npz", one))))[-1].probabilities
        for name, one in (("one", told), ("other", other))
    ]
    np.testing.assert_array_equal(*last)


def test_rates_and_channels_are_reconciled() -> None:
    chosen, told = decoder("dbconformer", "none"), trials(count=COUNT)
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    mixed = replace(
        told,
        signals=np.ascontiguousarray(told.signals[:, order]),
        channels=tuple(CHANNELS[row] for row in order),
    )
    np.testing.assert_allclose(chosen(mixed).probabilities, chosen(told).probabilities, atol=1e-6)
    with pytest.raises(InputError, match=r"one.* CP4"):
        chosen(told.pick(CHANNELS[:-1]))
    with pytest.raises(InputError, match="trials hold -1 to 1 s; needs 0 to 2 s"):
        chosen(replace(told, signals=told.signals[:, :, : round(2 * RATE)]))


def test_run_and_stream_by_command(tmp_path: Path) -> None:
    weights, folder = saved_network(tmp_path, "dbconformer"), tmp_path / "people"
    folder.mkdir()
    npz(folder / "a.npz")
    fif(folder / "b-epo.fif")
    npz(folder / "results.npz")  # of a training, by its name
    done = command("run", weights, folder, "-o", f"{tmp_path / 'out'}/", "--json")
    assert done.code == 0, done.err
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["windows"] for record in records] == [COUNT, COUNT]
    tables = [
        list(csv.DictReader((tmp_path / "out" / name).read_text().splitlines()))
        for name in ("a_decoded.csv", "b-epo_decoded.csv")
    ]
    assert [row["class"] for row in tables[0]] == [row["class"] for row in tables[1]]
    told = command("stream", weights, "--source", folder / "a.npz", "--json")
    assert told.code == 0, told.err
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert [line["class"] for line in lines] == [row["class"] for row in tables[0]]
    refused = command("run", weights, folder / "a.npz", "--annotate", tmp_path / "c.fif")
    assert refused.code == 1
    assert "holds epochs; --annotate needs a recording" in refused.err
    assert not (tmp_path / "c.fif").exists()
    assert not (folder / "a_decoded.csv").exists()
