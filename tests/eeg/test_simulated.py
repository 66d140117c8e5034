"""Simulated recordings: decodable, the same for a seed, and named simulated everywhere."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from sigform_eeg.baselines import CspLda
from sigform_eeg.preprocessing import Preprocessing, prepare
from sigform_eeg.protocols import chosen, leave_one_run_out
from sigform_eeg.reading import read_trials
from sigform_eeg.recording import open_recording
from sigform_eeg.simulated import CHANNELS, EVENTS, simulate
from sigform_kit import InputError


def decoded(folder: Path) -> float:
    """Share of trials that CSP+LDA decodes in runs it was not fitted to."""
    subjects = read_trials(folder, Preprocessing(), events=EVENTS).subjects
    ready = [prepare(one, Preprocessing()) for one in subjects]
    right = []
    for fold in leave_one_run_out(ready):
        (test,) = chosen(ready, fold.test)
        model = CspLda().fit(chosen(ready, fold.train))
        right += (model.predict_proba(test).argmax(1) == test.labels).tolist()
    return float(np.mean(right))


@pytest.mark.parametrize("suffix", [".fif", ".edf"])
def test_they_can_be_decoded(tmp_path: Path, suffix: str) -> None:
    paths = simulate(tmp_path, suffix=suffix)
    assert len(paths) == 6
    assert decoded(tmp_path) > 0.8


def test_without_the_effect_they_cannot(tmp_path: Path) -> None:
    simulate(tmp_path, strength=0.0, suffix=".edf")
    assert 0.3 < decoded(tmp_path) < 0.7


def test_they_say_what_they_are(tmp_path: Path) -> None:
    (path,) = simulate(tmp_path, subjects=1, runs=1)
    assert "simulated" in path.name
    assert sorted(tmp_path.iterdir()) == [path]
    raw = mne.io.read_raw(path, verbose="ERROR")
    assert set(raw.annotations.description) == {"simulated left", "simulated right"}
    assert "simulated" in raw.info["description"]
    recording = open_recording(path)
    assert recording.channels == CHANNELS
    assert not recording.notes
    (one,) = read_trials(path, Preprocessing(), events=EVENTS).subjects
    assert one.subject == "sub-simulated01"
    assert one.count() == {"left": 8, "right": 8}


def test_a_seed_makes_the_same(tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (path,) = simulate(tmp_path / name, subjects=1, runs=1, seed=seed)
        made.append(open_recording(path).span(0, 1000))
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_files_are_not_replaced_unasked(tmp_path: Path) -> None:
    simulate(tmp_path, subjects=1, runs=1)
    with pytest.raises(InputError, match="exists"):
        simulate(tmp_path, subjects=1, runs=1)
    simulate(tmp_path, subjects=1, runs=1, overwrite=True)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"suffix": ".bdf"}, r"suffix is '\.bdf'; needs \.fif or \.edf"),
        ({"subjects": 0}, "subjects is 0"),
        ({"strength": 2.0}, "strength is 2.0"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, wrong: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        simulate(tmp_path, **wrong)
