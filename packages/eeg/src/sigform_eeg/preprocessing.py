"""From microvolts as recorded to what a network sees: channels, rate, band and window.

Everything is causal, so a stream sees the samples that a file gives. soxr is not used here: at EEG
rates its streams give the first sample after 2 to 7 s (250 to 160 Hz, any quality), against
0.03 s of the resampler below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from sigform_eeg.channels import hold_over
from sigform_eeg.recording import Recording, open_recording
from sigform_eeg.trials import Trials
from sigform_kit.errors import InputError

if TYPE_CHECKING:
    from mne.io import BaseRaw

STOPBAND_DB = 60.0
"""By which the resampler weakens what would fold into the band."""

MOST_PHASES = 10_000
"""Steps of the resampler between two samples: rates are taken to one part in this."""

BLOCK = 2_000_000
"""Products that the resampler holds at a time."""

LEAD_IN = 1.0
"""Seconds before the window in which a trial's filter settles."""

Float = NDArray[np.float32]
State = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How signals become a network's input; every weight file holds one.

    A Butterworth band-pass of `order`, forward only (`low` 0: a low-pass), at `sample_rate`; then
    the window from `start` to before `stop`. `channels` None: all EEG channels.
    """

    channels: tuple[str, ...] | None = None
    sample_rate: float = 160.0  # Hz
    low: float = 8.0  # Hz
    high: float = 32.0  # Hz
    order: int = 4
    start: float = 0.0  # s after the cue
    stop: float = 4.0  # s after the cue

    def __post_init__(self) -> None:
        if self.channels is not None:
            object.__setattr__(self, "channels", tuple(self.channels))
            if not self.channels or len(set(self.channels)) < len(self.channels):
                raise ValueError(f"channels is {self.channels}; needs one or more, each once")
        if not self.sample_rate > 0:
            raise ValueError(f"sample_rate is {self.sample_rate}; needs more than 0 Hz")
        if not 0 <= self.low < self.high < self.sample_rate / 2:
            raise ValueError(
                f"low is {self.low} Hz and high {self.high} Hz; needs 0 <= low < high < "
                f"{self.sample_rate / 2:g} Hz, half the sample rate"
            )
        if not 1 <= self.order <= 10:
            raise ValueError(f"order is {self.order}; needs 1 to 10")
        if self.samples < 1:
            raise ValueError(f"the window is {self.start} to {self.stop} s; needs a sample or more")

    @property
    def samples(self) -> int:
        """Of a window."""
        return round((self.stop - self.start) * self.sample_rate)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"channels": None if self.channels is None else list(self.channels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` gave. Raises ValueError for unknown names."""
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"preprocessing has {', '.join(sorted(unknown))}; needs none of it")
        return cls(**values)


class CausalFilter:
    """The band-pass, forward only: (C, n) -> (C, n), for chunks of any length.

    It starts at rest on the first sample, so that an offset leaves no trace. `rate` in Hz.
    """

    def __init__(self, preprocessing: Preprocessing, n_channels: int, rate: float) -> None:
        band = (preprocessing.low, preprocessing.high)
        kind, corners = ("lowpass", band[1]) if band[0] == 0 else ("bandpass", band)
        if not band[1] < rate / 2:
            raise ValueError(f"high is {band[1]} Hz; needs less than {rate / 2:g} Hz")
        self._sections = signal.butter(preprocessing.order, corners, kind, fs=rate, output="sos")
        self._rest = signal.sosfilt_zi(self._sections)[:, None]  # (sections, 1, 2)
        self._n_channels = n_channels
        self._inside: NDArray[np.float64] | None = None  # (sections, C, 2)

    def __call__(self, chunk: Float) -> Float:
        _check_chunk(chunk, self._n_channels)
        if chunk.shape[1] == 0:
            return chunk.astype(np.float32)
        if self._inside is None:
            self._inside = self._rest * chunk[:, :1].astype(np.float64)
        filtered, self._inside = signal.sosfilt(
            self._sections, chunk.astype(np.float64), axis=1, zi=self._inside
        )
        return filtered.astype(np.float32)

    def state(self) -> State:
        """What the filter remembers; nothing before the first sample."""
        return {} if self._inside is None else {"inside": self._inside.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._inside = np.array(state["inside"], np.float64) if "inside" in state else None


class Resampler:
    """Another rate by a short linear-phase filter: (C, n) -> (C, m), for chunks of any length.

    Bands up to `keep` Hz are kept, and nothing folds into them. Sample m of the output stands for
    the time m / `rate_out`; it comes `delay` seconds later, or with `finish`. Before the first and
    after the last sample the signal is taken to stay as it is.
    """

    def __init__(self, n_channels: int, rate_in: float, rate_out: float, keep: float) -> None:
        ratio = Fraction(rate_out / rate_in).limit_denominator(MOST_PHASES)
        self._up, self._down = ratio.numerator, ratio.denominator
        slower = min(rate_in, rate_out)
        if not 0 < keep < slower / 2:
            raise ValueError(f"keep is {keep} Hz; needs less than {slower / 2:g} Hz")
        self._n_channels = n_channels
        self._taps = self._design(rate_in, slower, keep)  # (up, 2 half)
        self._half = 0 if self._same else self._taps.shape[1] // 2
        self.delay = self._half / rate_in
        self._held = np.zeros((n_channels, 0))  # (C, held): input that is still needed
        self._first = 0  # number of the first held sample
        self._made = 0  # outputs so far

    @property
    def _same(self) -> bool:
        return self._up == self._down

    def _design(self, rate_in: float, slower: float, keep: float) -> NDArray[np.float64]:
        if self._same:
            return np.ones((1, 1))
        fine = rate_in * self._up
        count, beta = signal.kaiserord(STOPBAND_DB, (slower - 2 * keep) / (fine / 2))
        half = max(1, -(-count // (2 * self._up)))  # input samples on either side
        steps = np.arange(-half * self._up, half * self._up + 1)
        taps = np.sinc(steps * slower / fine) * np.kaiser(len(steps), beta)
        # Phase p of tap k weighs the input sample half - 1 - k before the output's own place.
        bank = taps[:-1].reshape(2 * half, self._up)[::-1].T
        shifted = np.roll(bank, 0, axis=0)
        return shifted / shifted.sum(axis=1, keepdims=True)

    def __call__(self, chunk: Float) -> Float:
        _check_chunk(chunk, self._n_channels)
        if self._same or chunk.shape[1] == 0:
            return chunk.astype(np.float32)
        if self._held.shape[1] == 0:
            self._held = np.repeat(chunk[:, :1].astype(np.float64), self._half, axis=1)
            self._first = -self._half
        self._held = np.concatenate([self._held, chunk], axis=1)
        return self._make(self._first + self._held.shape[1] - self._half)

    def finish(self) -> Float:
        """The last samples, as if the signal stayed as it is; then it begins anew."""
        if self._same or self._held.shape[1] == 0:
            return np.zeros((self._n_channels, 0), np.float32)
        seen = self._first + self._held.shape[1]
        tail = np.repeat(self._held[:, -1:], self._half, axis=1)
        self._held = np.concatenate([self._held, tail], axis=1)
        made = self._make(seen)
        self.load_state({})
        return made

    def _make(self, end: int) -> Float:
        """Outputs whose place lies before input sample `end`."""
        last = max(self._made, -(-end * self._up // self._down))
        width = 2 * self._half
        step = max(1, BLOCK // (width * self._n_channels))
        parts = [np.zeros((self._n_channels, 0), np.float32)]
        for begin in range(self._made, last, step):
            place = np.arange(begin, min(begin + step, last)) * self._down
            index = place // self._up - self._half + 1 - self._first
            windows = self._held[:, index[:, None] + np.arange(width)]  # (C, m, 2 half)
            made = np.einsum("cmk,mk->cm", windows, self._taps[place % self._up])
            parts.append(made.astype(np.float32))
        self._made = last
        drop = last * self._down // self._up - self._half + 1 - self._first
        drop = min(max(drop, 0), self._held.shape[1] - 1)
        self._held = self._held[:, drop:]
        self._first += drop
        return np.concatenate(parts, axis=1)

    def state(self) -> State:
        """What the resampler remembers; nothing before the first sample."""
        if self._held.shape[1] == 0:
            return {}
        return {"held": self._held.copy(), "place": np.array([self._first, self._made])}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        if "held" in state:
            self._held = np.array(state["held"], np.float64)
            self._first, self._made = (int(value) for value in state["place"])
        else:
            self._held = np.zeros((self._n_channels, 0))
            self._first = self._made = 0


def keep_of(preprocessing: Preprocessing, rate: float) -> float:
    """Hz up to which a resampler from `rate` leaves the band and its flank alone.

    Raises ValueError for a rate too low for the band.
    """
    slower, high = min(rate, preprocessing.sample_rate), preprocessing.high
    if not high < slower / 2:
        raise ValueError(
            f"the sample rate is {rate:g} Hz; needs more than {2 * high:g} Hz for a band up to "
            f"{high:g} Hz"
        )
    return min(1.25 * high, (high + slower / 2) / 2)


class Conditioner:
    """Resampler and filter in one: chunks (C, n) at `rate` -> (C, m) at the preprocessing's rate.

    Samples that are not finite are taken to be the last one before them (0 at the beginning), as
    one of them would stay in the filter for good. `delay` in seconds is the resampler's.
    """

    def __init__(self, preprocessing: Preprocessing, n_channels: int, rate: float) -> None:
        keep = keep_of(preprocessing, rate)
        self._resampler = Resampler(n_channels, rate, preprocessing.sample_rate, keep)
        self._filter = CausalFilter(preprocessing, n_channels, preprocessing.sample_rate)
        self._last = np.zeros((n_channels, 1), np.float32)
        self.delay = self._resampler.delay

    def __call__(self, chunk: Float) -> Float:
        return self._filter(self._resampler(self._finite(chunk)))

    def finish(self) -> Float:
        """The samples that the resampler still holds."""
        return self._filter(self._resampler.finish())

    def _finite(self, chunk: Float) -> Float:
        _check_chunk(chunk, len(self._last))
        if chunk.shape[1] == 0:
            return chunk
        if not np.isfinite(chunk).all():
            chunk = hold_over(np.concatenate([self._last, chunk], axis=1))[:, 1:]
        self._last = chunk[:, -1:].copy()
        return chunk

    def state(self) -> State:
        """Arrays from which `load_state` goes on."""
        parts = {"filter": self._filter.state(), "resampler": self._resampler.state()}
        named = {f"{part}.{key}": a for part, state in parts.items() for key, a in state.items()}
        return {**named, "last": self._last.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        def part(name: str) -> State:
            head = f"{name}."
            return {k.removeprefix(head): v for k, v in state.items() if k.startswith(head)}

        self._filter.load_state(part("filter"))
        self._resampler.load_state(part("resampler"))
        self._last = np.array(state["last"], np.float32)


def check_window(trials: Trials, preprocessing: Preprocessing) -> None:
    """Raises InputError for trials that do not hold the window."""
    slack = 0.5 / preprocessing.sample_rate
    if trials.start > preprocessing.start + slack or trials.stop < preprocessing.stop - slack:
        raise InputError(
            f"{trials.subject}: trials hold {trials.start:g} to {trials.stop:g} s; needs "
            f"{preprocessing.start:g} to {preprocessing.stop:g} s around the cue"
        )


def prepare(trials: Trials, preprocessing: Preprocessing) -> Trials:
    """Trials as a network sees them: (n, C, `preprocessing.samples`).

    The filter starts on each trial's first sample, so trials should begin LEAD_IN before the
    window. Raises InputError for missing channels and for trials that do not hold the window or
    the band.
    """
    if preprocessing.channels is not None:
        trials = trials.pick(preprocessing.channels)
    check_window(trials, preprocessing)
    rate = preprocessing.sample_rate
    count, channels, length = trials.signals.shape
    flat = trials.signals.reshape(count * channels, length)
    try:
        conditioner = Conditioner(preprocessing, count * channels, trials.sample_rate)
    except ValueError as error:
        raise InputError(f"{trials.subject}: {error}") from error
    made = np.concatenate([conditioner(flat), conditioner.finish()], axis=1)
    begin = round((preprocessing.start - trials.start) * rate)
    window = made[:, begin : begin + preprocessing.samples]
    missing = preprocessing.samples - window.shape[1]
    if missing:  # by rounding, half a sample at most
        window = np.pad(window, ((0, 0), (0, missing)), mode="edge")
    return replace(
        trials,
        signals=np.ascontiguousarray(window).reshape(count, channels, preprocessing.samples),
        sample_rate=rate,
        start=preprocessing.start,
    )


def prepare_raw(raw: BaseRaw | Recording, preprocessing: Preprocessing) -> tuple[Float, float]:
    """A continuous recording as a network sees it: signals (C, T) and their rate in Hz.

    It is read and filtered piece by piece. Raises InputError for missing channels, and for a rate
    too low for the band.
    """
    recording = raw if isinstance(raw, Recording) else open_recording(raw, preprocessing.channels)
    try:
        conditioner = Conditioner(preprocessing, len(recording.channels), recording.rate)
    except ValueError as error:
        raise InputError(f"{recording.where}: {error}") from error
    parts = [conditioner(block) for block in recording.blocks()]
    return np.concatenate([*parts, conditioner.finish()], axis=1), preprocessing.sample_rate


def _check_chunk(chunk: Float, n_channels: int) -> None:
    if chunk.ndim != 2 or chunk.shape[0] != n_channels:
        raise ValueError(f"the chunk has shape {chunk.shape}; needs ({n_channels}, samples)")
