"""Cues from annotations and stim channels, and the classes they stand for."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from eeg.files import NAMES, RATE, noise, raw_array
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_eeg.batch import events_of
from sigform_eeg.events import all_events, annotated_events, classes_of, count_events, stim_events
from sigform_kit import InputError

THERE = {"T0": 8, "T1": 4, "T2": 4}


def with_stim(*, first: int = 0) -> mne.io.RawArray:
    """Codes 1 and 2 by turns every second, a pulse of 20 samples each."""
    signals = np.vstack([noise(9, 960), np.zeros((1, 960))])
    for number in range(5):
        signals[9, 100 + number * 160 : 120 + number * 160] = (1 + number % 2) * 1e6
    raw = raw_array(signals, names=[*NAMES, "STI"], types=["eeg"] * 9 + ["stim"])
    raw.set_meas_date(1_600_000_000)
    if first:
        raw.crop(tmin=first / RATE, verbose="ERROR")
    return raw


def test_annotations_come_in_time_order_with_their_samples() -> None:
    raw = raw_array(noise(9, 960), events=[(4.0, "T2"), (1.5, "T1"), (3.0, "T0")])
    found = annotated_events(raw)
    assert [(event.sample, event.name) for event in found] == [
        (240, "T1"), (480, "T0"), (640, "T2"),
    ]  # fmt: skip
    assert count_events(found) == {"T0": 1, "T1": 1, "T2": 1}
    assert not annotated_events(raw_array(noise(9, 100)))


@pytest.mark.parametrize("date", [None, 1_600_000_000])
def test_samples_count_from_the_first_of_a_cropped_recording(date: int | None) -> None:
    raw = raw_array(noise(9, 960), events=[(1.5, "T1"), (4.0, "T2")])
    raw.set_meas_date(date)
    raw.set_annotations(mne.Annotations([1.5, 4.0], 0.0, ["T1", "T2"], raw.info["meas_date"]))
    cropped = raw.copy().crop(tmin=1.0, verbose="ERROR")
    assert [event.sample for event in annotated_events(cropped)] == [80, 480]


@pytest.mark.parametrize("first", [0, 60])
def test_rises_of_a_stim_channel_are_events(first: int) -> None:
    found = stim_events(with_stim(first=first))
    assert [event.name for event in found] == ["1", "2", "1", "2", "1"]
    assert [event.sample for event in found] == [100 - first + 160 * n for n in range(5)]
    assert not stim_events(raw_array(noise(9, 100)))


def test_both_kinds_are_joined() -> None:
    raw = with_stim()
    start = raw.info["meas_date"]
    raw.set_annotations(mne.Annotations([0.1, 2.0], 0.0, ["begin", "T1"], start), verbose="ERROR")
    assert count_events(all_events(raw)) == {"1": 3, "2": 2, "T1": 1, "begin": 1}
    assert all_events(raw)[0].name == "begin"


def test_events_become_classes() -> None:
    asked = {"left": ("T1",), "other": ("t0", "T2")}
    assert classes_of(THERE, asked, "x.edf") == {"T1": "left", "T0": "other", "T2": "other"}
    assert classes_of(THERE, None, "x.edf") == {"T1": "T1", "T2": "T2"}
    both = {"go": 1, "GO": 2}
    assert classes_of(both, {"a": ("go",), "b": ("GO",)}, "x.edf") == {"go": "a", "GO": "b"}


def test_no_events_and_wrong_names_list_what_is_there() -> None:
    with pytest.raises(InputError, match=r"x\.edf: no events left found; it has T0 8, T1 4, T2 4$"):
        classes_of(THERE, {"a": ("left",)}, "x.edf")
    with pytest.raises(InputError, match=r"x\.edf: no events found: neither annotations nor"):
        classes_of({}, {"a": ("left",)}, "x.edf")
    with pytest.raises(InputError, match=r"x\.edf: no cues found among its events \(T0 8\)"):
        classes_of({"T0": 8}, None, "x.edf")
    with pytest.raises(ValueError, match="event T1 is of a and b; needs one"):
        classes_of(THERE, {"a": ("T1",), "b": ("T1",)}, "x.edf")


LABELS = st.sampled_from(["T0", "T1", "T2", "left hand", "ü, 1"])
CUES = st.lists(st.tuples(st.integers(0, 959), LABELS), max_size=12)


@settings(max_examples=60, deadline=None)
@given(cues=CUES, first=st.integers(0, 500), date=st.sampled_from([None, 1_600_000_000]))
def test_any_list_of_annotations_is_found_where_it_is(
    cues: list[tuple[int, str]], first: int, date: int | None
) -> None:
    raw = raw_array(noise(9, 960))
    raw.set_meas_date(date)
    onsets = [sample / RATE for sample, _ in cues]
    names = [name for _, name in cues]
    raw.set_annotations(mne.Annotations(onsets, 0.0, names, raw.info["meas_date"]))
    raw.crop(tmin=first / RATE, verbose="ERROR")
    found = annotated_events(raw)
    assert [event.sample for event in found] == sorted(event.sample for event in found)
    wanted = sorted((sample - first, name) for sample, name in cues if sample >= first)
    assert sorted((event.sample, event.name) for event in found) == wanted


@settings(max_examples=60, deadline=None)
@given(
    codes=st.lists(st.integers(1, 255), max_size=8),
    gaps=st.lists(st.integers(1, 40), min_size=8, max_size=8),
    widths=st.lists(st.integers(1, 20), min_size=8, max_size=8),
)
def test_any_pulses_of_a_stim_channel_are_found(
    codes: list[int], gaps: list[int], widths: list[int]
) -> None:
    stim, at, wanted = np.zeros((1, 960)), 0, []
    for code, gap, width in zip(codes, gaps, widths, strict=False):
        at += gap
        stim[0, at : at + width] = code * 1e6  # written in microvolts
        wanted.append((at, str(code)))
        at += width
    raw = raw_array(
        np.vstack([noise(9, 960), stim]), names=[*NAMES, "STI"], types=["eeg"] * 9 + ["stim"]
    )
    assert [(event.sample, event.name) for event in stim_events(raw)] == wanted


@given(
    counts=st.dictionaries(st.text(min_size=1, max_size=4), st.integers(1, 9), max_size=6),
    asked=st.dictionaries(
        st.sampled_from(["left", "right"]), st.lists(st.text(min_size=1, max_size=4), max_size=3)
    ),
)
def test_every_event_has_one_class_or_a_line_says_why(
    counts: dict[str, int], asked: dict[str, list[str]]
) -> None:
    try:
        told = classes_of(counts, asked or None, "x.edf")
    except (InputError, ValueError) as error:
        message = error.message if isinstance(error, InputError) else str(error)
        assert message
        return
    assert told.keys() <= counts.keys()
    if asked:
        assert set(told.values()) <= asked.keys()


@given(
    wanted=st.dictionaries(
        st.text("abcdefg", min_size=1, max_size=5),
        st.lists(st.integers(0, 99), min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    )
)
def test_events_as_words_are_read_as_meant(wanted: dict[str, list[int]]) -> None:
    names = {name: [f"{name}{n}" for n in numbers] for name, numbers in wanted.items()}
    words = [f" {name} = {' , '.join(labels)}" for name, labels in names.items()]
    assert events_of(words) == names
