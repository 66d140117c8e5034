"""Trials from recordings and epochs of a person's own, and what is in them.

Signals stay as recorded, in microvolts, cut from `LEAD_IN` before the window so that the filter has
settled where it begins; `preprocessing.prepare` does the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sigform_eeg.epochs import mend, read_epochs
from sigform_eeg.events import (
    Event,
    EventMap,
    all_events,
    annotated_events,
    classes_of,
    count_events,
    onset_samples,
    stim_events,
    told_events,
)
from sigform_eeg.folders import Source, find_sources
from sigform_eeg.preprocessing import LEAD_IN, Preprocessing, Resampler, keep_of
from sigform_eeg.recording import Recording, noted, open_recording
from sigform_eeg.trials import Trials, check_counts, common_channels, concatenate
from sigform_kit.errors import InputError

TAIL = 0.1
"""Seconds after the window that a resampler looks into."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """Trials by subject, and what a person should know of how they came about."""

    subjects: list[Trials]
    notes: list[str]


def read_trials(
    place: Path,
    preprocessing: Preprocessing,
    *,
    events: EventMap | None = None,
    runs: Collection[int] | None = None,
    check: bool = True,
) -> Read:
    """The trials of a file or folder: every subject with the same classes and channels.

    `events` names the events of each class (None: every cue is a class); `runs` keeps recordings
    by their number. With `check` there must be two classes with a few trials each.

    Raises InputError, naming the file, for whatever cannot be read or used.
    """
    sources = find_sources(place)
    epochs = [read_epochs(one.path, one.subject) for one in sources if one.is_epochs]
    kept = [one for one in sources if not one.is_epochs]
    if runs is not None:
        wanted = sorted(runs)
        there = {one.run for one in kept}.union(*(one.runs.tolist() for one in epochs))
        epochs = [one.select(np.isin(one.runs, wanted)) for one in epochs]
        epochs = [one for one in epochs if len(one)]
        kept = [one for one in kept if one.run in wanted]
        if not epochs and not kept:
            told = _numbers([run for run in there if run is not None]) or "none by name"
            raise InputError(f"{place}: runs {_numbers(wanted)} are not there; it has {told}")
    notes: list[str] = []
    opened = _open_all(kept, preprocessing.channels, notes)
    found = [all_events(one.raw, one.where) for one in opened]
    names: Counter[str] = Counter()
    for one in found:
        names.update(event.name for event in one)
    for one in epochs:
        names.update(one.count())
    labels = classes_of(dict(sorted(names.items())), events, str(place))
    classes = tuple(events) if events is not None else tuple(dict.fromkeys(labels.values()))
    if events is None and opened:
        notes.append(f"every cue is a class of its own: {', '.join(classes)}")
    parts: list[Trials] = []
    for one in epochs:
        mended, told = mend(_relabel(one, labels, classes), preprocessing.channels)
        parts.append(mended)
        notes += told
    for source, recording, events_of_it in zip(kept, opened, found, strict=True):
        cues = [event for event in events_of_it if event.name in labels]
        if cues:
            parts.append(_cut(source, recording, cues, labels, classes, preprocessing, notes))
        else:
            told = told_events(count_events(events_of_it))
            notes.append(f"{recording.where}: left out, without a cue; its events: {told}")
    parts = _one_rate([one for one in parts if len(one)], preprocessing, notes)
    if not parts:
        raise InputError(f"{place}: no trial fits into the recordings: {'; '.join(notes)}")
    if preprocessing.channels is None:
        parts = _same_channels(parts, notes)
    subjects = _by_subject(parts)
    if check:
        totals = Counter[str](dict.fromkeys(classes, 0))
        for one in subjects:
            totals.update(one.count())
        check_counts(totals, str(place))
    return Read(subjects=subjects, notes=list(dict.fromkeys(notes)))


def describe(place: Path) -> dict[str, Any]:
    """What is in a file or folder, as plain values: see `describe_file` and `describe_folder`."""
    sources = find_sources(place)
    if place.is_dir() and sources[0].path != place:
        return describe_folder(place, sources)
    return describe_file(sources[0])


def describe_file(source: Source) -> dict[str, Any]:
    """Channels, rate in Hz, duration in s, events with their counts, and what is wrong with it."""
    told: dict[str, Any] = {"path": str(source.path), "subject": source.subject}
    if source.is_epochs:
        trials = read_epochs(source.path, source.subject)
        return told | {
            "kind": "epochs",
            "channels": list(trials.channels),
            "sample_rate": trials.sample_rate,
            "trials": len(trials),
            "window": [trials.start, round(trials.stop, 6)],
            "events": trials.count(),
            "runs": [int(run) for run in np.unique(trials.runs)],
        }
    recording = _open(source, None)
    return told | {
        "kind": "recording",
        "run": source.run,
        "channels": list(recording.rows),
        "other_channels": [
            name
            for number, name in enumerate(recording.raw.ch_names)
            if number not in recording.rows.values()
        ],
        "bad_channels": dict(recording.bad),
        "sample_rate": recording.rate,
        "duration": round(recording.duration, 6),
        "annotations": count_events(annotated_events(recording.raw)),
        "stim_events": count_events(stim_events(recording.raw, recording.where)),
        "notes": list(recording.notes),
    }


def describe_folder(place: Path, sources: Sequence[Source]) -> dict[str, Any]:
    """The files by subject, with the channels, rates and events that occur in them."""
    files = [describe_file(source) for source in sources]
    subjects: dict[str, list[str]] = {}
    events: Counter[str] = Counter()
    for one in files:
        subjects.setdefault(one["subject"], []).append(one["path"])
        for kind in ("events", "annotations", "stim_events"):
            events.update(one.get(kind, {}))
    shared = set.intersection(*(set(one["channels"]) for one in files))
    return {
        "path": str(place),
        "kind": "folder",
        "subjects": subjects,
        "channels": [name for name in files[0]["channels"] if name in shared],
        "sample_rates": sorted({one["sample_rate"] for one in files}),
        "duration": round(sum(one.get("duration", 0.0) for one in files), 6),
        "events": dict(sorted(events.items())),
        "files": files,
    }


def _open(source: Source, channels: Sequence[str] | None) -> Recording:
    if source.bids_root is None:
        return open_recording(source.path, channels)
    try:
        import mne_bids
    except ImportError as error:
        raise InputError(
            f"{source.bids_root}: BIDS needs mne-bids; pip install 'sigform-eeg[bids]'"
        ) from error
    notes: list[str] = []
    try:
        with noted(notes):
            place = mne_bids.get_bids_path_from_fname(source.path)
            raw = mne_bids.read_raw_bids(place, verbose="WARNING")
    except Exception as error:
        # Readers of damaged files raise whatever they stumble over.
        raise InputError(f"{source.path}: cannot be read as BIDS: {error}") from error
    recording = open_recording(raw, channels, where=str(source.path))
    return replace(recording, notes=(*notes, *recording.notes))


def _open_all(
    sources: Sequence[Source], channels: Sequence[str] | None, notes: list[str]
) -> list[Recording]:
    opened = [_open(source, channels) for source in sources]
    for one in opened:
        notes += [f"{one.where}: {note}" for note in one.notes]
    return opened


def _relabel(trials: Trials, labels: Mapping[str, str], classes: tuple[str, ...]) -> Trials:
    """The trials whose class has a new name, under it."""
    old = [labels.get(name) for name in trials.classes]
    numbers = np.array([-1 if name is None else classes.index(name) for name in old])
    made = numbers[trials.labels]
    kept = trials.select(made >= 0)
    return replace(kept, labels=made[made >= 0].astype(np.int64), classes=classes)


def _cut(
    source: Source,
    recording: Recording,
    cues: Sequence[Event],
    labels: Mapping[str, str],
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    notes: list[str],
) -> Trials:
    """The trials of a recording, with the lead-in and tail that `prepare` needs."""
    rate = recording.rate
    begin, end = round(preprocessing.start * rate), round(preprocessing.stop * rate)
    if recording.samples < end - begin:
        raise InputError(
            f"{recording.where}: is {recording.duration:g} s long; needs "
            f"{preprocessing.stop - preprocessing.start:g} s, the window"
        )
    fitting = [
        one for one in cues if one.sample + begin >= 0 and one.sample + end <= recording.samples
    ]
    spoilt = _bad_spans(recording)
    clean = [
        one
        for one in fitting
        if not any(one.sample + begin < b and a < one.sample + end for a, b in spoilt)
    ]
    for lost, why in (
        (len(cues) - len(fitting), "reach beyond the recording"),
        (len(fitting) - len(clean), "lie in a span annotated as bad"),
    ):
        if lost:
            notes.append(f"{recording.where}: {lost} of {len(cues)} trials {why}, left out")
    before = begin - round(LEAD_IN * rate)
    after = end + round(TAIL * rate)
    signals = np.empty((len(clean), len(recording.channels), after - before), np.float32)
    for number, one in enumerate(clean):
        signals[number] = recording.span(one.sample + before, one.sample + after)
    return Trials(
        signals=signals,
        labels=np.array([classes.index(labels[one.name]) for one in clean], np.int64),
        runs=np.full(len(clean), -1 if source.run is None else source.run, np.int64),
        classes=classes,
        channels=recording.channels,
        sample_rate=rate,
        start=before / rate,
        subject=source.subject,
    )


def _bad_spans(recording: Recording) -> list[tuple[int, int]]:
    """First sample and end of what is annotated as bad, MNE's way: a name that begins so."""
    held = recording.raw.annotations
    if not len(held):
        return []
    lengths = np.round(np.asarray(held.duration) * recording.rate).astype(int).tolist()
    spans = zip(onset_samples(recording.raw), lengths, held.description, strict=True)
    return [(a, a + n) for a, n, name in spans if str(name).lower().startswith("bad")]


def _one_rate(
    parts: Sequence[Trials], preprocessing: Preprocessing, notes: list[str]
) -> list[Trials]:
    """All at the preprocessing's rate, where they differ."""
    rates = sorted({one.sample_rate for one in parts})
    if len(rates) < 2:
        return list(parts)
    wanted = preprocessing.sample_rate
    told = ", ".join(f"{rate:g}" for rate in rates)
    notes.append(f"the recordings have sample rates of {told} Hz; resampled to {wanted:g} Hz")
    made = []
    for one in parts:
        count, channels, length = one.signals.shape
        try:
            keep = keep_of(preprocessing, one.sample_rate)
        except ValueError as error:
            raise InputError(f"{one.subject}: {error}") from error
        resampler = Resampler(count * channels, one.sample_rate, wanted, keep)
        flat = one.signals.reshape(count * channels, length)
        both = np.concatenate([resampler(flat), resampler.finish()], axis=1)
        signals = both.reshape(count, channels, -1)
        # Nominal times, as a rate rounds them by less than half a sample.
        start = round(one.start * wanted) / wanted
        made.append(replace(one, signals=signals, sample_rate=wanted, start=start))
    shortest = {one.start: one.signals.shape[2] for one in made}
    for one in made:
        shortest[one.start] = min(shortest[one.start], one.signals.shape[2])
    return [replace(one, signals=one.signals[:, :, : shortest[one.start]]) for one in made]


def _same_channels(parts: Sequence[Trials], notes: list[str]) -> list[Trials]:
    shared = common_channels(parts)
    lacking = sorted({name for one in parts for name in one.channels} - set(shared))
    if lacking:
        notes.append(f"not in every recording, left out: {', '.join(lacking)}")
    return [one.pick(shared) for one in parts]


def _by_subject(parts: Sequence[Trials]) -> list[Trials]:
    """One Trials a subject; runs without a number of their own are counted."""
    grouped: dict[str, list[Trials]] = {}
    for one in parts:
        grouped.setdefault(one.subject, []).append(one)
    made = []
    for own in grouped.values():
        numbers = [run for one in own for run in np.unique(one.runs).tolist()]
        if -1 in numbers or len(set(numbers)) < len(numbers):
            own = [
                replace(one, runs=np.full(len(one), number, np.int64))
                for number, one in enumerate(own)
            ]
        made.append(concatenate(own))
    return made


def _numbers(runs: Collection[int]) -> str:
    return ", ".join(map(str, sorted(runs)))
