"""Electrodes: names, places, and what is put in place of bad ones."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from eeg.files import NAMES, noise, raw_array
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_eeg.channels import (
    BadFinder,
    find_eeg,
    hold_over,
    is_electrode,
    match,
    positions,
    spline_weights,
    standard_name,
)
from sigform_eeg.preprocessing import Preprocessing, prepare_raw
from sigform_kit import InputError

ROWS = {name: number for number, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    ("written", "standard"),
    [
        ("Fc5.", "FC5"), ("Cz..", "Cz"), ("FP1", "Fp1"), ("fpz", "Fpz"), ("AFZ", "AFz"),
        ("EEG CZ-REF", "Cz"), ("EEG-C3", "C3"), ("EEG FP2-LE", "Fp2"), ("POO10H", "POO10h"),
        ("ccp1h", "CCP1h"), ("AFp3h", "AFp3h"), ("T10.", "T10"), (" M1 ", "M1"),
        ("STI 014", "STI 014"), ("EOG-left", "EOG-left"), ("EEG 001", "EEG 001"), ("Iz", "Iz"),
    ],
)  # fmt: skip
def test_names_become_those_of_the_system(written: str, standard: str) -> None:
    assert standard_name(written) == standard


def test_every_place_of_mne_keeps_its_name() -> None:
    known = positions(["Cz"])
    names = mne.channels.make_standard_montage("biosemi64").ch_names
    assert [standard_name(name.upper()) for name in names] == names
    assert all(is_electrode(name) for name in names)
    assert len(positions(names)) == 64
    assert known["Cz"][2] > 0.95


@settings(deadline=None)
@given(st.text(max_size=12))
def test_standard_names_are_stable(text: str) -> None:
    once = standard_name(text)
    assert standard_name(once) == once or not is_electrode(once)


def test_places_are_where_they_should_be() -> None:
    at = positions(["C3", "C4", "Fz", "Pz", "T3", "T7", "nowhere"])
    assert at["C3"][0] < 0 < at["C4"][0]
    assert at["Pz"][1] < 0 < at["Fz"][1]
    assert np.array_equal(at["T3"], at["T7"])
    assert "nowhere" not in at
    assert np.linalg.norm(at["C3"]) == pytest.approx(1)


def test_splines_are_those_of_mne() -> None:
    names = list(positions(mne.channels.make_standard_montage("biosemi32").ch_names))
    signals = noise(len(names), 50)
    raw = raw_array(signals, names=names)
    at = positions(names)
    raw.set_montage(
        mne.channels.make_dig_montage({name: 0.095 * at[name] for name in names}), verbose="ERROR"
    )
    raw.info["bads"] = [names[4], names[20]]
    raw.interpolate_bads(origin=(0.0, 0.0, 0.0), verbose="ERROR")
    good = [n for n in range(len(names)) if n not in (4, 20)]
    places = np.array([at[name] for name in names])
    weights = spline_weights(places[good], places[[4, 20]])
    expected = np.asarray(raw.get_data())[[4, 20]] * 1e6
    assert np.allclose(weights @ signals[good], expected, atol=1e-3)


def test_channels_are_matched_by_name_and_old_names_known() -> None:
    made = match({"T3": 4, "Cz": 2, "C3": 0}, ("C3", "T7"), {}, where="x.edf")
    assert made.channels == ("C3", "T7")
    assert made.picks == (0, 4)
    assert made.weights is None
    with pytest.raises(InputError, match=r"x\.edf: lacks channels Oz, CP9; .*it has FC3, FCz"):
        match(ROWS, ("C3", "Oz", "CP9"), {}, where="x.edf")


def test_bad_channels_are_interpolated_with_a_note() -> None:
    made = match(ROWS, ("Cz", "C3"), {"Cz": "flat"}, where="x.edf")
    (note,) = made.notes
    assert note == "interpolated from 8 good channels: Cz (flat)"
    assert made.weights is not None
    rows = np.tile(np.arange(10, dtype="f4"), (8, 1))
    assert np.allclose(made.apply(rows), rows[:2], atol=1e-3)  # a plane stays one
    assert ROWS["Cz"] not in made.picks


def test_missing_channels_are_filled_only_when_asked() -> None:
    made = match(ROWS, ("Cz", "Pz"), {}, where="x.edf", fill_missing=True)
    assert made.notes == ("interpolated from 9 good channels: Pz (missing)",)
    assert made.apply(noise(9, 20)).shape == (2, 20)


def test_what_cannot_be_mended_is_told() -> None:
    every = dict.fromkeys(NAMES, "flat")
    with pytest.raises(InputError, match=r"x\.edf: all 9 channels are bad \(flat\)"):
        match(ROWS, None, every, where="x.edf")
    with pytest.raises(InputError, match=r"bad channels C3 .flat. cannot .*: 2 good channels"):
        match({"C3": 0, "Cz": 1, "C4": 2}, ("C3", "C4"), {"C3": "flat"}, where="x.edf")
    rows = {**ROWS, "X1": 9}
    with pytest.raises(InputError, match=r"bad channels X1 .NaN. cannot .*: where X1 sit"):
        match(rows, ("C3", "X1"), {"X1": "NaN"}, where="x.edf")
    left = match(rows, None, {"X1": "NaN"}, where="x.edf")
    assert left.channels == NAMES
    assert left.notes == ("bad and left out, as they cannot be interpolated: X1 (NaN)",)
    with pytest.raises(InputError, match=r"x\.edf: no EEG channels found"):
        match({}, None, {}, where="x.edf")


def test_rows_that_are_no_eeg_are_left_out() -> None:
    names = ["Fc3.", "C3..", "Cz..", "C4..", "EOG-left", "SpO2", "STI 014", "C4"]
    rows, notes = find_eeg(names, ["eeg"] * 6 + ["stim", "eeg"])
    assert rows == {"FC3": 0, "C3": 1, "Cz": 2, "C4": 3}
    assert notes == [
        "two channels are named C4; the second is left out",
        "no EEG by their names, left out: SpO2",
    ]
    numbered, notes = find_eeg(["E1", "E2", "Cz"], ["eeg"] * 3)
    assert list(numbered) == ["E1", "E2", "Cz"]
    assert not notes


def test_flat_and_broken_channels_are_found_whatever_the_blocks() -> None:
    signals = noise(4, 1600)
    signals[1] = 7
    signals[2, 100:300] = np.nan
    signals[3, :10] = np.nan  # few enough to be held over
    for step in (160, 333, 1600):
        finder = BadFinder(4, 160)
        for begin in range(0, 1600, step):
            finder(signals[:, begin : begin + step])
        assert finder.bad() == {1: "flat", 2: "NaN"}


def test_what_is_held_over_does_not_spread() -> None:
    signals = noise(9, 400)
    expected = prepare_raw(raw_array(signals), Preprocessing(channels=("C3",)))[0]
    signals[4] = 0  # Cz is mended from the others
    signals[0, 0] = signals[8, 200] = np.nan
    made = prepare_raw(raw_array(signals), Preprocessing(channels=("C3", "Cz")))[0]
    assert np.isfinite(made).all()
    assert np.array_equal(made[:1], expected)
    assert made[1].std() > 0.1
    assert hold_over(np.array([[np.nan, 1, np.nan]], "f4")).tolist() == [[0, 1, 1]]
