"""Recordings: read piece by piece in microvolts, and what is damaged told in one line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest
from eeg.files import NAMES, RATE, cued, fixtures, noise, raw_array, saved

from sigform_eeg.recording import open_recording
from sigform_kit import InputError


def message(source: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_recording(source)
    text = caught.value.format_message()
    assert "\n" not in text
    assert text.startswith(str(source))
    return text.removeprefix(f"{source}: ")


@pytest.mark.parametrize(("suffix", "error"), [(".fif", 1e-4), (".edf", 0.01)])
def test_samples_come_in_microvolts_by_name(tmp_path: Path, suffix: str, error: float) -> None:
    signals = noise(9, 1600)
    path = saved(tmp_path / f"a_eeg{suffix}", raw_array(signals))
    recording = open_recording(path, ("C4", "FC3"))
    assert (recording.rate, recording.duration, recording.notes) == (RATE, 10.0, ())
    blocks = np.concatenate(list(recording.blocks(0.7)), axis=1)
    assert np.abs(blocks - signals[[5, 0]]).max() < error
    around = recording.span(-5, 3)
    assert np.array_equal(around[:, :5], np.repeat(around[:, 5:6], 5, axis=1))
    assert np.array_equal(around[:, 5:], blocks[:, :3])
    assert np.array_equal(recording.span(1590, 1605)[:, -6:], np.repeat(blocks[:, -1:], 6, axis=1))
    assert np.array_equal(recording.pick(("FC3",)).span(0, 9), blocks[1:, :9])


def test_flat_nan_and_marked_channels_are_mended_and_told(tmp_path: Path) -> None:
    signals = noise(9, 1600)
    signals[3] = 0
    signals[4, 200:900] = np.nan
    raw = raw_array(signals)
    raw.info["bads"] = ["CP4"]
    path = saved(tmp_path / "a_eeg.fif", raw)
    recording = open_recording(path)
    assert recording.channels == NAMES
    assert recording.notes == (
        "interpolated from 6 good channels: C3 (flat), Cz (NaN), CP4 (marked bad)",
    )
    made = recording.span(0, 1600)
    assert np.isfinite(made).all()
    assert made[3].std() > 1
    assert np.abs(made[5] - signals[5]).max() < 1e-3
    assert open_recording(path, ("C4",)).notes == ()


def test_a_recording_of_nothing_is_refused(tmp_path: Path) -> None:
    flat = saved(tmp_path / "flat_eeg.fif", raw_array(np.zeros((9, 800))))
    assert message(flat) == "all 9 channels are bad (flat)"
    other = raw_array(np.zeros((1, 800)), names=["STI 014"], types="stim")
    assert message(saved(tmp_path / "stim_eeg.fif", other)) == "no EEG channels found"


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("half.edf", cut, r"cut off: holds \d+ of 60 records; needs the whole file"),
        ("head.edf", lambda data: data[:300], "no EDF or BDF header"),
        ("empty.edf", lambda _: b"", "no EDF or BDF header"),
        ("other.bdf", lambda data: data, "no EDF or BDF header"),
        ("junk.edf", lambda _: b"junk" * 500, "no EDF or BDF header"),
        ("other.fif", lambda data: data, "cannot be read as a recording"),
        ("other.gdf", cut, "cannot be read as a recording"),
        ("other.vhdr", lambda _: b"hello", "cannot be read as a recording"),
        ("other.set", cut, "cannot be read as a recording"),
        ("other.txt", lambda _: b"hello", "cannot be read as a recording"),
    ],
)
def test_damaged_files_are_told_in_a_line(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes], told: str
) -> None:
    whole = cued(tmp_path / "whole.edf").read_bytes()
    path = tmp_path / name
    path.write_bytes(damage(whole))
    with pytest.raises(InputError, match=told):
        open_recording(path)
    message(path)


def test_missing_files_and_channels_are_named(tmp_path: Path) -> None:
    assert message(tmp_path / "none.edf") == "no such file"
    path = cued(tmp_path / "a.edf")
    with pytest.raises(InputError, match=r"a\.edf: lacks channel Oz; it has FC3, FCz"):
        open_recording(path, ("C3", "Oz"))


def test_channels_asked_for_count_whatever_they_look_like() -> None:
    raw = raw_array(noise(3, 800), names=["C3", "Cz", "Resp"])
    recording = open_recording(raw)
    assert recording.channels == ("C3", "Cz")
    assert open_recording(raw, ("Resp", "C3")).channels == ("Resp", "C3")


def test_warnings_become_notes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    raw = raw_array(noise(9, 1600), events=[(2.0, "T1"), (3.0, "T2")])
    path = saved(tmp_path / "a.edf", raw)
    data = bytearray(path.read_bytes())
    data[256 + 16 : 256 + 32] = data[256 : 256 + 16]  # two channels of one name
    path.write_bytes(data)
    recording = open_recording(path)
    assert sum("not unique" in note for note in recording.notes) == 1
    other = saved(tmp_path / "oddly_named.fif", raw)
    assert open_recording(other).notes == ()
    assert capfd.readouterr() == ("", "")


def test_long_recordings_are_read_in_bounded_memory(tmp_path: Path) -> None:
    path = saved(tmp_path / "long_eeg.fif", raw_array(noise(9, 400_000)))
    open_recording(path)
    tracemalloc.start()
    recording = open_recording(path, ("C3", "C4"))
    total = sum(block.shape[1] for block in recording.blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 400_000
    assert peak < 3_000_000  # the file holds 14 400 000 bytes of samples


def test_the_real_files_read(tmp_path: Path) -> None:
    path = fixtures("data/eeg/raw") / "S001R04.edf"
    recording = open_recording(path)
    assert len(recording.channels) == 64
    assert recording.channels[:3] == ("FC5", "FC3", "FC1")
    assert recording.duration == 125.0
    assert not recording.notes
    (tmp_path / "cut.edf").write_bytes(cut(path.read_bytes()))
    with pytest.raises(InputError, match=r"cut\.edf: cut off: holds 62 of 125 records"):
        open_recording(tmp_path / "cut.edf")
    assert isinstance(recording.raw, mne.io.BaseRaw)
