"""The task object: a recording in, what the person did when out.

from sigform_eeg import Decoder

decoder = Decoder.load()
windows = decoder("session.edf")              # a path, an MNE Raw, or Trials
windows.times, windows.probabilities          # (n,) s, (n, K)
session = decoder.stream(250.0, channels=names)
for posterior in session.push(chunk):         # (C, n) microvolts
    posterior.time, posterior.probabilities
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from sigform_core.device import pick_device, pick_dtype, set_threads
from sigform_eeg.alignment import Align, OnlineAligner, align_trials
from sigform_eeg.catalogue import find_weights
from sigform_eeg.channels import Selection, match, standard_name
from sigform_eeg.eeg_lmuformer import EEGLMUFormer
from sigform_eeg.epochs import is_epochs, mend, read_epochs
from sigform_eeg.evaluation import probabilities
from sigform_eeg.networks import Network, Setup, load_network
from sigform_eeg.preprocessing import Conditioner, prepare, prepare_raw
from sigform_eeg.recording import Recording, open_recording
from sigform_eeg.sessions import Posterior, Session
from sigform_eeg.trials import Trials
from sigform_kit.errors import InputError

if TYPE_CHECKING:
    from mne.io import BaseRaw

HOP_SECONDS = 0.5
"""Between two windows when nothing else is asked for."""

Openable: TypeAlias = "str | os.PathLike[str] | BaseRaw | Recording | Trials"
"""A recording or epochs: the path of a file, or what it holds."""

OnProgress = Callable[[float, float], None]  # seconds done, seconds in all


@dataclass(frozen=True, kw_only=True)
class Windows:
    """What was decoded when; `times` are where windows end, in seconds of the recording.

    Of epochs: in seconds of the trials, one after the other.
    """

    times: NDArray[np.float64]  # (n,)
    probabilities: NDArray[np.float64]  # (n, K)
    classes: tuple[str, ...]
    seconds: float  # a window's length, or that of the training's windows
    align: Align
    causal: bool  # nothing after a window played a part in it
    notes: tuple[str, ...]  # what the user should know of the recording

    def __len__(self) -> int:
        return len(self.times)

    @property
    def labels(self) -> tuple[str, ...]:
        """The most likely class of each window."""
        return tuple(self.classes[k] for k in self.probabilities.argmax(axis=1))


class Decoder:
    """A network with all that a recording needs around it: channels, rate, band and alignment.

    `align` instead of what the weights were trained for. `threads` of the CPU are set for the
    whole process. Raises ValueError for a device that cannot be or another `align`.
    """

    def __init__(
        self,
        network: Network,
        setup: Setup,
        *,
        align: Align | None = None,
        device: str = "auto",
        dtype: str = "float32",
        threads: int | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        if align is not None and align not in get_args(Align):
            raise ValueError(f"align is {align!r}; needs {', '.join(get_args(Align))}")
        set_threads(threads)
        self.device = pick_device(device)
        if dtype != "auto" and pick_dtype(dtype, self.device) != torch.float32:
            raise ValueError(f"dtype is {dtype!r}; needs float32: these networks are small")
        self.network = network.eval().to(self.device)
        self.setup = setup
        self.align: Align = align or setup.align
        self.card = dict(card or {})

    @classmethod
    def load(
        cls,
        weights: str | Path = "default",
        *,
        align: Align | None = None,
        device: str = "auto",
        dtype: str = "float32",
        threads: int | None = None,
    ) -> Self:
        """A decoder by the name of shipped weights or the path of a weight file.

        Raises ValueError for an unknown name and for a file that is no weight file of ours.
        """
        network, setup, file = load_network(find_weights(str(weights)))
        return cls(
            network, setup, align=align, device=device, dtype=dtype, threads=threads, card=file.card
        )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.setup.classes

    @property
    def channels(self) -> tuple[str, ...]:
        """What the network needs, in its order."""
        return self.setup.channels

    @property
    def window_seconds(self) -> float:
        """Of the windows that the network was trained on."""
        return self.setup.preprocessing.samples / self.setup.preprocessing.sample_rate

    def __call__(
        self,
        source: Openable,
        *,
        hop: float = HOP_SECONDS,
        align: Align | None = None,
        onsets: Sequence[float] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Windows:
        """A whole recording, an answer every `hop` seconds once there is a window of it.

        It equals what `stream` says of the same samples. With `onsets`, cues in seconds of the
        recording, it is an answer for the window after each instead. "subject" alignment takes
        the whole recording first, which is not causal. Of epochs there is an answer for the window
        of each, and cues and `hop` have no part in it. Raises InputError, naming the file, for one
        that cannot be read, is too short, or lacks channels.
        """
        align = align or self.align
        recording = self._open(source)
        if isinstance(recording, Trials):
            return self._of_trials(recording, align)
        if recording.duration < self.window_seconds:
            raise InputError(
                f"{recording.where}: is {recording.duration:.2f} s long; the model needs "
                f"{self.window_seconds:g} s or more"
            )
        if onsets is not None:
            times, told = self._at(recording, onsets, align)
        else:
            times, told = self._throughout(recording, hop, align, on_progress)
        return Windows(
            times=times,
            probabilities=told,
            classes=self.classes,
            seconds=self.window_seconds,
            align=align,
            causal=align != "subject",
            notes=recording.notes,
        )

    def stream(
        self,
        rate: float | None = None,
        *,
        channels: Sequence[str] | None = None,
        hop: float | None = None,
        align: Align | None = None,
        matrix: NDArray[np.float64] | None = None,
    ) -> Session:
        """A session for chunks (C, n) in microvolts at `rate` Hz (the network's when None).

        `channels` names the rows of chunks where they are others than the network's or in another
        order. An answer comes every `hop` seconds; a network that goes from token to token gives
        one for each unless `hop` is set. "subject" alignment needs its `matrix` (C, C), from
        `alignment_of` an earlier recording. Raises ValueError without it, and for a rate too low;
        InputError for missing channels.
        """
        align = align or self.align
        if align == "subject" and matrix is None:
            raise ValueError("align is 'subject', which needs the whole recording, or a matrix")
        rate = self.setup.preprocessing.sample_rate if rate is None else rate
        every = HOP_SECONDS if hop is None else hop
        if hop is None and isinstance(self.network, EEGLMUFormer):
            every = self.network.samples_per_token / self.setup.preprocessing.sample_rate
        if every <= 0:
            raise ValueError(f"hop is {every}; needs more than 0 s")
        return Session(
            self.network,
            self.setup,
            rate,
            hop=every,
            online=align == "online",
            matrix=matrix if align == "subject" else None,
            selection=None if channels is None else self._select(channels),
        )

    def alignment_of(self, source: Openable) -> NDArray[Any]:
        """R^(-1/2) of a whole recording, window after window, or of all epochs: (C, C)."""
        recording = self._open(source)
        if isinstance(recording, Trials):
            mended, _ = mend(recording, self.channels)
            _, matrices = align_trials(prepare(mended, self.setup.preprocessing).signals, "subject")
            return matrices[0]
        try:
            conditioner = Conditioner(self.setup.preprocessing, len(self.channels), recording.rate)
        except ValueError as error:
            raise InputError(f"{recording.where}: {error}") from error
        aligner = OnlineAligner(len(self.channels))
        held = np.zeros((len(self.channels), 0), np.float32)
        size = self.setup.preprocessing.samples
        for block in recording.blocks():
            held = np.concatenate([held, conditioner(block)], axis=1)
            while held.shape[1] >= size:
                aligner.update(held[:, :size])
                held = held[:, size:]
        return aligner.matrix

    def _of_trials(self, trials: Trials, align: Align) -> Windows:
        window = self.setup.preprocessing
        mended, notes = mend(trials, self.channels)
        aligned, _ = align_trials(prepare(mended, window).signals, align)
        length = trials.signals.shape[2] / trials.sample_rate
        times = np.arange(len(trials)) * length + window.stop - trials.start
        return Windows(
            times=times,
            probabilities=probabilities(self.network, aligned),
            classes=self.classes,
            seconds=self.window_seconds,
            align=align,
            causal=align != "subject",
            notes=tuple(notes),
        )

    def _open(self, source: Openable) -> Recording | Trials:
        if isinstance(source, Trials):
            return source
        if isinstance(source, Recording):
            return source if source.channels == self.channels else source.pick(self.channels)
        if isinstance(source, str | os.PathLike):
            if is_epochs(Path(source)):
                return read_epochs(Path(source), str(source))
            return open_recording(Path(source), self.channels)
        return open_recording(source, self.channels)

    def _select(self, channels: Sequence[str]) -> Selection:
        rows = {standard_name(name): row for row, name in enumerate(channels)}
        return match(rows, self.channels, {}, where="the stream")

    def _throughout(
        self, recording: Recording, hop: float, align: Align, on_progress: OnProgress | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        matrix = self.alignment_of(recording) if align == "subject" else None
        try:
            session = self.stream(recording.rate, hop=hop, align=align, matrix=matrix)
        except ValueError as error:
            raise InputError(f"{recording.where}: {error}") from error
        made: list[Posterior] = []
        done = 0
        for block in recording.blocks():
            made += session.push(block)
            done += block.shape[1]
            if on_progress is not None:
                on_progress(done / recording.rate, recording.duration)
        made += session.finish()
        times = np.array([one.time for one in made], np.float64)
        told = [one.probabilities for one in made]
        return times, np.array(told, np.float64).reshape(len(made), len(self.classes))

    def _at(
        self, recording: Recording, onsets: Sequence[float], align: Align
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        window = self.setup.preprocessing
        signals, rate = prepare_raw(recording, window)
        starts = np.round((np.asarray(onsets, np.float64) + window.start) * rate).astype(int)
        outside = (starts < 0) | (starts + window.samples > signals.shape[1])
        if outside.any():
            late = float(np.asarray(onsets)[outside][0])
            raise InputError(
                f"{recording.where}: the window of the cue at {late:g} s lies beyond its "
                f"{recording.duration:.2f} s"
            )
        if not len(starts):
            return np.zeros(0), np.zeros((0, len(self.classes)))
        cut = np.stack([signals[:, at : at + window.samples] for at in starts])
        aligned, _ = align_trials(cut, align)
        return (starts + window.samples) / rate, probabilities(self.network, aligned)
