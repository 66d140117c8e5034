"""What happened when: cues from annotations or a stim channel, and the classes they stand for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sigform_eeg.recording import noted
from sigform_kit.errors import InputError

if TYPE_CHECKING:
    from mne.io import BaseRaw

EventMap = Mapping[str, Sequence[str]]
"""The events of each class, as `--events left=T1` gives them."""

_NO_CUE = re.compile(r"^(?:bad|edge|boundary|new segment|rest$|t0$|start$|end$)", re.I)


@dataclass(frozen=True, kw_only=True)
class Event:
    """A cue: its sample, counted from the recording's first, and its name in the file."""

    sample: int
    name: str


def annotated_events(raw: BaseRaw) -> list[Event]:
    """The recording's annotations, in time order."""
    held = raw.annotations
    if not len(held):
        return []
    pairs = zip(onset_samples(raw), held.description, strict=True)
    found = [Event(sample=sample, name=str(name).strip()) for sample, name in pairs]
    return sorted(found, key=lambda event: event.sample)


def onset_samples(raw: BaseRaw) -> list[int]:
    """Where each annotation begins, in samples from the recording's first."""
    held = raw.annotations
    # Without a date MNE counts onsets from before a crop, which `time_as_index` does not know.
    early = raw.first_time if held.orig_time is None else 0.0
    at = raw.time_as_index(held.onset - early, use_rounding=True, origin=held.orig_time)
    return at.tolist()


def stim_events(raw: BaseRaw, where: str = "the recording") -> list[Event]:
    """Rises of the stim channels, named by their number; none where there is no such channel."""
    import mne

    if "stim" not in raw.get_channel_types():
        return []
    notes: list[str] = []
    try:
        with noted(notes):
            found = mne.find_events(raw, shortest_event=1, initial_event=False, verbose="WARNING")
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"{where}: its stim channel cannot be read: {error}") from error
    return [Event(sample=int(s) - raw.first_samp, name=str(code)) for s, _, code in found]


def all_events(raw: BaseRaw, where: str = "the recording") -> list[Event]:
    """Annotations and rises of stim channels together, in time order."""
    found = [*annotated_events(raw), *stim_events(raw, where)]
    return sorted(found, key=lambda event: event.sample)


def count_events(events: Sequence[Event]) -> dict[str, int]:
    """How often each name occurs, by name."""
    return dict(sorted(Counter(event.name for event in events).items()))


def classes_of(names: Mapping[str, int], events: EventMap | None, where: str) -> dict[str, str]:
    """The class of each event name. Without `events` every cue is a class of its own name.

    Names match exactly, else whatever their case. Raises InputError listing what there is when
    nothing matches, and ValueError for an event of two classes.
    """
    told = told_events(names)
    if not names:
        raise InputError(f"{where}: no events found: neither annotations nor a stim channel")
    if events is None:
        cues = [name for name in names if not _NO_CUE.match(name)]
        if not cues:
            raise InputError(f"{where}: no cues found among its events ({told}); name them")
        return {name: name for name in cues}
    made: dict[str, str] = {}
    for label, wanted in events.items():
        for one in wanted:
            exact = [name for name in names if name == one]
            for name in exact or [name for name in names if name.lower() == one.lower()]:
                if made.setdefault(name, label) != label:
                    raise ValueError(f"event {name} is of {made[name]} and {label}; needs one")
    if not made:
        asked = ", ".join(one for wanted in events.values() for one in wanted)
        raise InputError(f"{where}: no events {asked} found; it has {told}")
    return made


def told_events(names: Mapping[str, int]) -> str:
    """Names with their counts, for a message."""
    return ", ".join(f"{name} {count}" for name, count in names.items()) or "none"
