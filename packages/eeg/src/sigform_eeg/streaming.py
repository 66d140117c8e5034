"""Where a stream comes from, and what a decoder says of it: files in real time, and LSL.

from sigform_eeg.streaming import open_source, stream

with open_source("lsl:amplifier") as source:
    for posterior in stream(decoder, source):
        posterior.time, posterior.probabilities

Sources give chunks (C, n) in microvolts. Memory does not grow with the length of the stream.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sigform_eeg.alignment import Align
from sigform_eeg.channels import match, standard_name
from sigform_eeg.epochs import is_epochs, mend, read_epochs
from sigform_eeg.preprocessing import check_window, keep_of
from sigform_eeg.recording import Recording, open_recording
from sigform_kit.errors import InputError, UsageError, did_you_mean

if TYPE_CHECKING:
    from mne_lsl.lsl import StreamInlet

    from sigform_eeg.decoder import Decoder
    from sigform_eeg.sessions import Posterior, Session
    from sigform_eeg.trials import Trials

LSL = "lsl:"
"""In front of the name of an LSL stream."""

CHUNK_SECONDS = 0.025
"""Of samples that are handed over together."""

RECONNECT_SECONDS = 10.0
"""That a dropped stream has to come back."""

RESOLVE_SECONDS = 5.0
"""That a stream has to be found at first."""

SILENCE_SECONDS = 1.5
"""Without a sample, after which a stream counts as dropped."""

BUFFER_SECONDS = 60
"""Of samples that LSL keeps for a decoder that falls behind; older ones are lost."""

MICROVOLTS = {
    "microvolts": 1.0, "microvolt": 1.0, "uv": 1.0, "µv": 1.0, "μv": 1.0, "-6": 1.0,
    "millivolts": 1e3, "millivolt": 1e3, "mv": 1e3, "-3": 1e3,
    "volts": 1e6, "volt": 1e6, "v": 1e6, "0": 1e6,
    "nanovolts": 1e-3, "nanovolt": 1e-3, "nv": 1e-3, "-9": 1e-3,
}  # fmt: skip
"""By the units that LSL streams state, in small letters; MNE's are powers of ten of a volt."""

Float = NDArray[np.float32]
OnNote = Callable[[str], None]


class Source(ABC):
    """Chunks of samples (C, n) in microvolts, C and n as they come; iterated over once."""

    where: str  # what messages call it
    channels: tuple[str, ...]
    sample_rate: float  # Hz
    notes: tuple[str, ...]  # what the user should know

    def parts(self) -> Iterator[Iterable[Float]]:
        """What is decoded by itself, one after the other: the whole, or each of many trials."""
        yield self

    @abstractmethod
    def __iter__(self) -> Iterator[Float]: ...

    @abstractmethod
    def close(self) -> None:
        """Let go of it; the iteration ends after the chunk under way."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_source(
    spec: str | os.PathLike[str],
    *,
    channels: Sequence[str] | None = None,
    speed: float | None = None,
    chunk_seconds: float = CHUNK_SECONDS,
    reconnect: float = RECONNECT_SECONDS,
    timeout: float = RESOLVE_SECONDS,
    unit: str | None = None,
    on_note: OnNote | None = None,
) -> Source:
    """A recording or epochs by their path, or `lsl:NAME`.

    A file comes `speed` times as fast as it was recorded (None: as fast as it is read), with
    `channels` by name, bad ones interpolated as `open_recording` does. An LSL stream is waited for
    for `timeout` seconds; one that drops has `reconnect` seconds to come back. `unit` says what
    its samples are in where it does not state it, or wrongly; `on_note` hears of drops.

    Raises InputError naming the source for what cannot be opened, ValueError for a speed, length
    or unit that cannot be.
    """
    if speed is not None and not 0 < speed < math.inf:
        raise ValueError(f"speed is {speed}; needs more than 0")
    if not 0 < chunk_seconds <= 10:
        raise ValueError(f"chunk_seconds is {chunk_seconds}; needs 10 s at most, more than 0")
    if reconnect < 0 or not timeout > 0:
        raise ValueError(f"reconnect is {reconnect} and timeout {timeout}; needs seconds")
    if unit is not None and unit.lower() not in MICROVOLTS:
        raise ValueError(f"unit is {unit!r}; needs one of {', '.join(MICROVOLTS)}")
    text = os.fspath(spec)
    if not text.startswith(LSL):
        if is_epochs(Path(text)):
            trials, notes = mend(read_epochs(Path(text), text), channels)
            return EpochSource(trials, notes, speed=speed, chunk_seconds=chunk_seconds)
        recording = open_recording(Path(text), channels)
        return FileSource(recording, speed=speed, chunk_seconds=chunk_seconds)
    if speed is not None:
        raise UsageError(f"{text} comes as fast as it comes; --speed is for files")
    return LslSource(
        text.removeprefix(LSL), chunk_seconds=chunk_seconds, reconnect=reconnect,
        timeout=timeout, unit=unit, on_note=on_note,
    )  # fmt: skip


class _Played(Source):
    """What is there already, chunk by chunk; with `speed` each comes when its last sample would."""

    def __init__(
        self,
        where: str,
        channels: tuple[str, ...],
        sample_rate: float,
        notes: Sequence[str],
        speed: float | None,
        chunk_seconds: float,
    ) -> None:
        self.where = where
        self.channels = channels
        self.sample_rate = sample_rate
        self.notes = tuple(notes)
        self._speed = speed
        self._step = max(1, round(chunk_seconds * sample_rate))
        self._closed = False
        self._begun: float | None = None
        self._given = 0  # samples

    def close(self) -> None:
        self._closed = True

    def _chunks(self, block: Float) -> Iterator[Float]:
        if self._begun is None:
            self._begun = time.perf_counter()
        for first in range(0, block.shape[1], self._step):
            if self._closed:
                return
            chunk = block[:, first : first + self._step]
            self._given += chunk.shape[1]
            if self._speed is not None:
                due = self._begun + self._given / self.sample_rate / self._speed
                time.sleep(max(0.0, due - time.perf_counter()))
            yield chunk


class FileSource(_Played):
    """A recording, piece by piece."""

    def __init__(
        self,
        recording: Recording,
        *,
        speed: float | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> None:
        super().__init__(
            recording.where, recording.channels, recording.rate, recording.notes, speed,
            chunk_seconds,
        )  # fmt: skip
        self._recording = recording

    def __iter__(self) -> Iterator[Float]:
        for block in self._recording.blocks():
            yield from self._chunks(block)


class EpochSource(_Played):
    """Trials one after the other, each decoded by itself."""

    def __init__(
        self,
        trials: Trials,
        notes: Sequence[str] = (),
        *,
        speed: float | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> None:
        super().__init__(
            trials.subject, trials.channels, trials.sample_rate, notes, speed, chunk_seconds
        )
        self.trials = trials

    def parts(self) -> Iterator[Iterable[Float]]:
        for trial in self.trials.signals:
            yield self._chunks(trial)

    def __iter__(self) -> Iterator[Float]:
        for part in self.parts():
            yield from part


class LslSource(Source):
    """A stream of the lab streaming layer by its name; its EEG channels where it says types.

    Samples lost while it was away are replaced by the last one, so that time goes on. Raises
    InputError when it is not found, has no names or no rate, or stays away.
    """

    def __init__(
        self,
        name: str,
        *,
        chunk_seconds: float = CHUNK_SECONDS,
        reconnect: float = RECONNECT_SECONDS,
        timeout: float = RESOLVE_SECONDS,
        unit: str | None = None,
        on_note: OnNote | None = None,
    ) -> None:
        self.where = f"{LSL}{name}"
        self._name = name
        self._reconnect = reconnect
        self._on_note = on_note
        self._closed = False
        self._inlet: StreamInlet | None = None
        found = self._resolve(timeout)
        if found is None:
            raise InputError(f"{self.where}: not found within {timeout:g} s{self._others()}")
        info = self._open(found, timeout)
        self._signature = (info.get_channel_names(), info.sfreq)
        self.sample_rate = float(info.sfreq)
        names = info.get_channel_names()
        if not names or None in names:
            raise self._refused("its channels have no names; needs them to be matched")
        if not self.sample_rate > 0:
            raise self._refused("its rate is irregular; needs samples at a steady rate")
        if not np.issubdtype(np.dtype(info.dtype), np.number):
            raise self._refused("holds text; needs samples")
        types = [(kind or "").lower() for kind in info.get_channel_types() or [""] * len(names)]
        rows = [n for n, kind in enumerate(types) if kind == "eeg"] or list(range(len(names)))
        self.channels = tuple(names[row] for row in rows)
        self._rows = rows
        self._scale, self.notes = self._scales(info.get_channel_units(), unit)
        self._chunk = max(1, round(chunk_seconds * self.sample_rate))

    def __iter__(self) -> Iterator[Float]:
        last: Float | None = None
        heard, dropped = time.monotonic(), False
        while not self._closed:
            chunk = self._pull(2 * self._chunk / self.sample_rate)
            if chunk is None or not chunk.shape[1]:
                patience = RESOLVE_SECONDS if last is None else SILENCE_SECONDS
                if chunk is None or time.monotonic() - heard > patience:
                    if not dropped:
                        self._tell(f"dropped; waiting {self._reconnect:g} s for it")
                    dropped = True
                    self._come_back(heard)
                continue
            now = time.monotonic()
            if dropped and last is not None:
                missed = max(0, round((now - heard) * self.sample_rate) - chunk.shape[1])
                self._tell(f"back; {missed / self.sample_rate:.1f} s are missing")
                for first in range(0, missed, self._chunk):
                    yield np.repeat(last, min(self._chunk, missed - first), axis=1)
            heard, last, dropped = now, chunk[:, -1:], False
            yield chunk

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _tell(self, note: str) -> None:
        if self._on_note is not None:
            self._on_note(f"{self.where}: {note}")

    def _pull(self, seconds: float) -> Float | None:
        """The next samples, none within `seconds`, or None from a stream that is gone."""
        if self._inlet is None:
            return None
        try:
            samples, _ = self._inlet.pull_chunk(timeout=seconds, max_samples=self._chunk)
        except (RuntimeError, TimeoutError):
            return None
        # LSL gives (n, C) in a buffer that it uses again.
        picked: NDArray[Any] = np.asarray(samples)[:, self._rows].T
        return np.ascontiguousarray(picked * self._scale, np.float32)

    def _come_back(self, heard: float) -> None:
        """Open the stream anew, once it is there again. Raises InputError when it stays away."""
        self._drop()
        while not self._closed:
            if time.monotonic() - heard > self._reconnect + SILENCE_SECONDS:
                raise self._refused(f"dropped, and not back within {self._reconnect:g} s")
            found = self._resolve(0.5)
            if found is None:
                continue
            try:
                info = self._open(found, 2.0)
            except InputError:
                continue
            if (info.get_channel_names(), info.sfreq) != self._signature:
                raise self._refused("came back with other channels or another rate")
            return

    def _refused(self, why: str) -> InputError:
        self._drop()
        return InputError(f"{self.where}: {why}")

    def _drop(self) -> None:
        self._inlet = None  # its destructor lets LSL go

    def _resolve(self, seconds: float) -> Any:
        """The stream of our name on the network, EEG before others."""
        found = _lsl(self.where).resolve_streams(timeout=seconds, name=self._name, minimum=1)
        return min(found, key=lambda one: one.stype.lower() != "eeg") if found else None

    def _open(self, found: Any, seconds: float) -> Any:
        """Connect to it; gives its full description. Raises InputError when it does not answer."""
        inlet = _lsl(self.where).StreamInlet(found, max_buffered=BUFFER_SECONDS, recover=False)
        try:
            inlet.open_stream(timeout=seconds)
            info = inlet.get_sinfo(timeout=seconds)
        except (RuntimeError, TimeoutError) as error:
            raise InputError(f"{self.where}: does not answer") from error
        self._inlet = inlet
        return info

    def _others(self) -> str:
        """What there is instead."""
        found = sorted({one.name for one in _lsl(self.where).resolve_streams(timeout=1.0)})
        if not found:
            return "; there are no LSL streams"
        return f";{did_you_mean(self._name, found)} there are: {', '.join(found)}"

    def _scales(
        self, units: Sequence[str | None] | None, unit: str | None
    ) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Microvolts to a step of each channel, (C, 1), and notes."""
        if unit is not None:
            return np.full((len(self._rows), 1), MICROVOLTS[unit.lower()]), ()
        stated = [((units[row] if units else None) or "").lower() for row in self._rows]
        unknown = sorted({word for word in stated if word and word not in MICROVOLTS})
        if unknown:
            raise self._refused(f"states the unit {unknown[0]!r}; say which by --unit")
        scale = np.array([[MICROVOLTS.get(word, 1.0)] for word in stated])
        silent = "" in stated
        return scale, (f"{self.where} states no units; taken for microvolts",) if silent else ()


class Latency:
    """Times of steps in bounded memory; quantiles are right to one per cent."""

    _LEAST, _RATIO, _COUNT = 1e-6, 1.02, 1000  # s of the first bin, of one to the next, bins

    def __init__(self) -> None:
        self._bins = np.zeros(self._COUNT, np.int64)
        self.count = 0
        self.longest = 0.0  # s

    def add(self, seconds: float) -> None:
        place = math.log(max(seconds, self._LEAST) / self._LEAST, self._RATIO)
        self._bins[min(int(place), self._COUNT - 1)] += 1
        self.count += 1
        self.longest = max(self.longest, seconds)

    def quantile(self, share: float) -> float:
        """Seconds that `share` of the steps stay below; 0 before the first."""
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}; needs 0 to 1")
        if not self.count:
            return 0.0
        place = int(np.searchsorted(self._bins.cumsum(), max(1, math.ceil(share * self.count))))
        return min(self._LEAST * self._RATIO ** (place + 0.5), self.longest)

    @property
    def p50(self) -> float:
        return self.quantile(0.5)

    @property
    def p99(self) -> float:
        return self.quantile(0.99)


def stream(
    decoder: Decoder,
    source: Source,
    *,
    hop: float | None = None,
    align: Align | None = None,
    matrix: NDArray[np.float64] | None = None,
    latency: Latency | None = None,
) -> Iterator[Posterior]:
    """What a decoder says of a source, as soon as it can be said.

    Channels are matched by name. Of epochs each is decoded from where its window begins, alignment
    going on; times are those of the trials one after the other. `hop`, `align` and `matrix` as
    `Decoder.stream` takes them; `latency` gets the time of each chunk that completed a posterior.
    Raises InputError naming the source for missing channels, a rate too low and a dropped stream,
    ValueError as `Decoder.stream` does.
    """
    rows = {standard_name(name): row for row, name in enumerate(source.channels)}
    match(rows, decoder.channels, {}, where=source.where)
    try:
        keep_of(decoder.setup.preprocessing, source.sample_rate)
    except ValueError as error:
        raise InputError(f"{source.where}: {error}") from error
    session = decoder.stream(
        source.sample_rate, channels=source.channels, hop=hop, align=align, matrix=matrix
    )
    skip = None
    if isinstance(source, EpochSource):
        check_window(source.trials, decoder.setup.preprocessing)
        skip = decoder.setup.preprocessing.start - source.trials.start
    return _posteriors(session, source, skip, latency)


def _posteriors(
    session: Session, source: Source, skip: float | None, latency: Latency | None
) -> Iterator[Posterior]:
    """With `skip` every part is a trial, whose first seconds they are before its window."""
    for part in source.parts():
        if skip is not None:
            session.begin_trial(skip)
        for chunk in part:
            begun = time.perf_counter()
            made = session.push(chunk)
            if made and latency is not None:
                latency.add(time.perf_counter() - begun)
            yield from made
        yield from session.finish()


def _lsl(where: str) -> Any:
    """The module mne_lsl.lsl. Raises InputError where it is not installed."""
    begun = "mne_lsl.lsl" in sys.modules
    try:
        import mne_lsl.lsl
        from mne_lsl.lsl.load_liblsl import lib
    except ImportError as error:
        raise InputError(f"{where} needs mne-lsl: pip install 'sigform-eeg[lsl]'") from error
    if not begun:
        mne_lsl.set_log_level("ERROR")
        own = [Path("lsl_api.cfg"), Path.home() / "lsl_api/lsl_api.cfg"]
        own += [Path("/etc/lsl_api/lsl_api.cfg")]
        # It logs to stderr at will; a user's own settings are left alone.
        if "LSLAPICFG" not in os.environ and not any(path.exists() for path in own):
            with contextlib.suppress(AttributeError):
                lib.lsl_set_config_content(b"[log]\nlevel = -3\n")
    return mne_lsl.lsl
