"""Trials from files and folders, and one clear line for whatever is wrong with them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eeg.files import NAMES, RATE, cued, fixtures, noise, raw_array, saved, trials

from sigform_eeg.preprocessing import Preprocessing, prepare, prepare_raw
from sigform_eeg.reading import describe, read_epochs, read_trials
from sigform_eeg.recording import open_recording
from sigform_kit import InputError

HANDS = {"left": ("T1",), "right": ("T2",)}
OURS = Preprocessing()


def message(place: Path, events: Any = HANDS, ours: Preprocessing = OURS) -> str:
    with pytest.raises(InputError) as caught:
        read_trials(place, ours, events=events)
    text = caught.value.format_message()
    assert "\n" not in text
    return text


def epochs(path: Path, **more: Any) -> Path:
    whole = trials(16)
    parts: dict[str, Any] = {
        "X": whole.signals, "y": whole.labels, "run": whole.runs, "sfreq": RATE, "tmin": -1.0,
        "ch_names": np.array(NAMES),
    }  # fmt: skip
    kept = {name: part for name, part in (parts | more).items() if part is not None}
    np.savez(path, **kept)
    return path


def test_trials_of_a_file_are_what_a_stream_of_it_sees(tmp_path: Path) -> None:
    path = cued(tmp_path / "S001R04.fif")
    read = read_trials(path, OURS, events=HANDS)
    (one,) = read.subjects
    assert (one.subject, one.classes, one.channels) == ("S001", ("left", "right"), NAMES)
    assert one.labels.tolist() == [0, 1] * 5 + [0]
    assert set(one.runs) == {4}
    assert not read.notes
    made = prepare(one, OURS)
    streamed, _ = prepare_raw(open_recording(path), OURS)
    for number in range(len(made)):
        begin = round((2 + 5 * number) * RATE)
        expected = streamed[:, begin : begin + 640]
        assert np.abs(made.signals[number] - expected).max() < 1e-3 * expected.std()


def test_a_folder_is_read_by_subject_and_run(tmp_path: Path) -> None:
    for seed, name in enumerate(["S001R04", "S001R08", "S002R04"]):
        cued(tmp_path / f"{name}.edf", seed=seed)
    read = read_trials(tmp_path, OURS, events=HANDS)
    assert [(one.subject, sorted(set(one.runs.tolist()))) for one in read.subjects] == [
        ("S001", [4, 8]), ("S002", [4]),
    ]  # fmt: skip
    only = read_trials(tmp_path, OURS, events=HANDS, runs=[8]).subjects
    assert [(one.subject, len(one)) for one in only] == [("S001", 11)]
    with pytest.raises(InputError, match="runs 7 are not there; it has 4, 8"):
        read_trials(tmp_path, OURS, events=HANDS, runs=[7])


def test_runs_without_a_number_are_counted(tmp_path: Path) -> None:
    for name in ("one", "two"):
        cued(tmp_path / "anna" / f"{name}.edf")
    (one,) = read_trials(tmp_path, OURS, events=HANDS).subjects
    assert (one.subject, sorted(set(one.runs.tolist()))) == ("anna", [0, 1])


def test_without_names_every_cue_is_a_class(tmp_path: Path) -> None:
    read = read_trials(cued(tmp_path / "a.edf"), OURS)
    assert read.subjects[0].classes == ("T1", "T2")
    assert read.notes == ["every cue is a class of its own: T1, T2"]


def test_two_rates_are_reconciled(tmp_path: Path) -> None:
    cued(tmp_path / "S001R04.edf")
    cued(tmp_path / "S001R08.edf", rate=250.0, seed=1)
    read = read_trials(tmp_path, OURS, events=HANDS)
    assert read.notes == ["the recordings have sample rates of 160, 250 Hz; resampled to 160 Hz"]
    (one,) = read.subjects
    assert (one.sample_rate, len(one)) == (160.0, 22)
    made = prepare(one, OURS).select(one.runs == 8)
    streamed, _ = prepare_raw(open_recording(tmp_path / "S001R08.edf"), OURS)
    expected = streamed[:, 320:960]
    assert np.abs(made.signals[0] - expected).max() < 2e-3 * expected.std()


def test_bad_channels_are_mended_and_told(tmp_path: Path) -> None:
    signals = noise(9, 9600)
    signals[3] = 0
    events = [(2.0 + 5 * n, ("T1", "T2")[n % 2]) for n in range(10)]
    path = saved(tmp_path / "a_eeg.fif", raw_array(signals, events=events))
    read = read_trials(path, OURS, events=HANDS)
    assert read.notes == [f"{path}: interpolated from 8 good channels: C3 (flat)"]
    assert read.subjects[0].signals[:, 3].std() > 1
    spoilt = np.array(trials(16).signals)
    spoilt[:, 4] = np.nan
    read = read_trials(epochs(tmp_path / "sub-1.npz", X=spoilt), OURS)
    assert read.notes == ["sub-1: interpolated from 8 good channels: Cz (NaN)"]
    assert np.isfinite(read.subjects[0].signals).all()
    every = saved(tmp_path / "b_eeg.fif", raw_array(0 * signals, events=events))
    assert message(every) == f"{every}: all 9 channels are bad (flat)"


def test_trials_beyond_the_file_and_in_bad_spans_are_left_out(tmp_path: Path) -> None:
    signals = noise(9, 9600)
    events = [(2.0 + 5 * n, ("T1", "T2")[n % 2]) for n in range(12)]
    raw = raw_array(signals, events=events)
    raw.annotations.append(13.0, 0.5, "BAD_jaw")
    path = saved(tmp_path / "a_eeg.fif", raw)
    read = read_trials(path, OURS, events=HANDS)
    assert len(read.subjects[0]) == 10
    assert read.notes == [
        f"{path}: 1 of 12 trials reach beyond the recording, left out",
        f"{path}: 1 of 12 trials lie in a span annotated as bad, left out",
    ]


def test_channels_that_not_all_have_are_left_out(tmp_path: Path) -> None:
    cued(tmp_path / "S001R04.edf")
    names = [*NAMES[:8], "Oz"]
    cued(tmp_path / "S002R04.edf", names=names)
    read = read_trials(tmp_path, OURS, events=HANDS)
    assert {one.channels for one in read.subjects} == {NAMES[:8]}
    assert read.notes == ["not in every recording, left out: CP4, Oz"]
    wanted = Preprocessing(channels=("C3", "Oz"))
    assert message(tmp_path, ours=wanted).startswith(
        f"{tmp_path / 'S001R04.edf'}: lacks channel Oz; it has FC3"
    )


def test_files_without_a_cue_are_left_out(tmp_path: Path) -> None:
    cued(tmp_path / "S001R04.edf")
    cued(tmp_path / "S001R01.edf", events=[(0.0, "T0")])
    read = read_trials(tmp_path, OURS, events=HANDS)
    assert len(read.subjects[0]) == 11
    assert read.notes == [f"{tmp_path / 'S001R01.edf'}: left out, without a cue; its events: T0 1"]


def test_unusable_recordings_are_told_in_a_line(tmp_path: Path) -> None:
    silent = cued(tmp_path / "silent.edf", events=[])
    assert message(silent) == f"{silent}: no events found: neither annotations nor a stim channel"
    path = cued(tmp_path / "a.edf")
    assert message(path, {"left": ("left",)}) == (
        f"{path}: no events left found; it has T0 11, T1 6, T2 5"
    )
    assert message(path, {"left": ("T1",), "right": ("T3",)}) == (
        f"{path}: trials are of one class only (left 6, right 0); needs two or more"
    )
    few = cued(tmp_path / "few.edf", seconds=25.0)
    assert message(few) == (
        f"{few}: too few trials (left 2, right 2); needs 4 or more of each class"
    )
    assert len(read_trials(few, OURS, events=HANDS, check=False).subjects[0]) == 4
    short = cued(tmp_path / "short.edf", seconds=3.0, events=[(1.0, "T1")])
    assert message(short) == f"{short}: is 3 s long; needs 4 s, the window"
    late = cued(tmp_path / "late.edf", seconds=6.0, events=[(4.0, "T1")])
    assert f"{late}: no trial fits into the recordings" in message(late)
    slow = cued(tmp_path / "slow" / "S001R04.edf", rate=50.0)
    cued(tmp_path / "slow" / "S001R08.edf")
    assert message(slow.parent).startswith("S001: the sample rate is 50 Hz; needs more than 64 Hz")


def test_epochs_are_read_with_their_classes_and_runs(tmp_path: Path) -> None:
    path = epochs(tmp_path / "sub-007.npz", classes=np.array(["rest", "feet"]))
    one = read_epochs(path)
    assert (one.subject, one.classes, one.start) == ("sub-007", ("rest", "feet"), -1.0)
    read = read_trials(path, OURS, events={"feet": ("feet",), "idle": ("rest",)}, runs=[1])
    (one,) = read.subjects
    assert one.classes == ("feet", "idle")
    assert one.labels.tolist() == [1, 0] * 4
    assert not read.notes


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"y": None, "tmin": None}, "lacks y, tmin; needs X, y, sfreq, tmin, ch_names"),
        ({"y": np.zeros(3, int)}, "labels and runs of sub-1"),
        ({"ch_names": np.array(["C3"])}, "signals of sub-1 have shape"),
        ({"y": np.full(16, 2)}, "needs 0 to 1"),
        ({"X": np.array(["a"])}, "could not convert"),
        ({"X": np.array([{}], object)}, "cannot be read as epochs"),
    ],
)
def test_epochs_that_do_not_fit_are_told(tmp_path: Path, more: dict[str, Any], told: str) -> None:
    path = epochs(tmp_path / "sub-1.npz", **more)
    with pytest.raises(InputError, match=told) as caught:
        read_epochs(path)
    assert caught.value.format_message().startswith(f"{path}: ")


def test_epochs_cut_off_are_told(tmp_path: Path) -> None:
    path = epochs(tmp_path / "sub-1.npz")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"sub-1\.npz: cannot be read as epochs"):
        read_epochs(path)


def test_what_is_in_a_file_is_told(tmp_path: Path) -> None:
    told = describe(cued(tmp_path / "S001R04.edf"))
    assert json.loads(json.dumps(told)) == told
    assert (told["kind"], told["subject"], told["run"]) == ("recording", "S001", 4)
    assert told["channels"] == list(NAMES)
    assert (told["sample_rate"], told["duration"]) == (RATE, 60.0)
    assert told["annotations"] == {"T0": 11, "T1": 6, "T2": 5}
    assert told["stim_events"] == {}
    told = describe(epochs(tmp_path / "sub-1.npz"))
    assert (told["trials"], told["events"]) == (16, {"left": 8, "right": 8})
    assert told["window"] == [-1.0, 5.0]


def test_what_is_in_a_folder_is_told(tmp_path: Path) -> None:
    cued(tmp_path / "S001R04.edf")
    cued(tmp_path / "S002R04.edf", rate=250.0)
    told = describe(tmp_path)
    assert json.loads(json.dumps(told)) == told
    assert list(told["subjects"]) == ["S001", "S002"]
    assert told["sample_rates"] == [RATE, 250.0]
    assert told["events"] == {"T0": 22, "T1": 12, "T2": 10}
    assert told["duration"] == 120.0


def test_bids_is_read_with_its_events_and_bad_channels(tmp_path: Path) -> None:
    mne_bids = pytest.importorskip("mne_bids")
    source = cued(tmp_path / "a.edf")
    root = tmp_path / "bids"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mne

        raw = mne.io.read_raw(source, verbose="ERROR")
        raw.info["bads"] = ["C3"]
        raw.info["line_freq"] = 50
        place = mne_bids.BIDSPath(subject="01", task="hands", run="02", root=root, datatype="eeg")
        mne_bids.write_raw_bids(raw, place, verbose="ERROR")
    read = read_trials(root, OURS, events=HANDS)
    (one,) = read.subjects
    assert (one.subject, len(one), set(one.runs)) == ("sub-01", 11, {2})
    assert any("C3 (marked bad)" in note for note in read.notes)
    assert describe(root)["events"] == {"T0": 11, "T1": 6, "T2": 5}


def test_the_real_recordings_give_the_real_epochs() -> None:
    folder = fixtures("data/eeg")
    whole = read_epochs(folder / "eegmmi22" / "sub-001.npz")
    ours = Preprocessing(channels=whole.channels)
    read = read_trials(folder / "raw", ours, events=HANDS)
    assert not read.notes
    imagined = whole.select(np.isin(whole.runs, [4, 8]))
    (one,) = read.subjects
    assert np.array_equal(one.signals, imagined.signals)
    assert np.array_equal(one.labels, imagined.labels)


def brain_vision(folder: Path, signals: np.ndarray, markers: list[tuple[int, str]]) -> Path:
    """The three files of a BrainVision recording of microvolts (C, T), as its format says."""
    lines = [f"Ch{n}={name},,0.1,µV" for n, name in enumerate(NAMES, 1)]
    header = folder / "S001R04.vhdr"
    header.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        "DataFile=S001R04.eeg\nMarkerFile=S001R04.vmrk\nDataFormat=BINARY\n"
        f"DataOrientation=MULTIPLEXED\nNumberOfChannels={len(NAMES)}\nSamplingInterval=6250\n"
        "[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\n" + "\n".join(lines) + "\n",
        "utf-8",
    )
    told = [f"Mk{n}=Stimulus,{name},{at + 1},1,0" for n, (at, name) in enumerate(markers, 1)]
    (folder / "S001R04.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        "DataFile=S001R04.eeg\n[Marker Infos]\n" + "\n".join(told) + "\n",
        "utf-8",
    )
    (folder / "S001R04.eeg").write_bytes(np.round(10 * signals.T).astype("<i2").tobytes())
    return header


def test_brainvision_is_read_with_its_markers(tmp_path: Path) -> None:
    signals = noise(9, 9600)
    markers = [(round(RATE * (2 + 5 * n)), ("S  1", "S  2")[n % 2]) for n in range(11)]
    path = brain_vision(tmp_path, signals, markers)
    asked = {"left": ("Stimulus/S  1",), "right": ("Stimulus/S  2",)}
    read = read_trials(path, OURS, events=asked)
    (found,) = read.subjects
    assert found.classes == ("left", "right")
    assert found.labels.tolist() == [n % 2 for n in range(11)]
    begin = round(RATE * 2) + round(found.start * RATE)
    wanted = signals[:, begin : begin + found.signals.shape[2]]
    skipped = wanted.shape[1] - found.signals.shape[2]
    np.testing.assert_allclose(found.signals[0][:, skipped:], wanted, atol=0.051)
