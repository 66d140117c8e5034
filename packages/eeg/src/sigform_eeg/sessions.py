"""A stream through a network: chunks of samples in, posteriors out, with an explicit state.

Every posterior stands on samples that came before it, alignment included, so a file read to the
end and a stream give the same. C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sigform_eeg.alignment import OnlineAligner
from sigform_eeg.channels import Selection
from sigform_eeg.dbconformer import DBConformer
from sigform_eeg.eeg_lmuformer import EEGLMUFormer
from sigform_eeg.networks import Network, Setup
from sigform_eeg.preprocessing import Conditioner
from sigform_eeg.stream_state import StreamState

Float = NDArray[np.float32]
State = dict[str, NDArray[Any]]

AT_ONCE = 32
"""Windows that go through a network together where a long chunk holds as many."""


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """What a network says of the samples up to `time`."""

    time: float  # s from the first sample of the stream to the end of the last one that counts
    probabilities: NDArray[np.float64]  # (K,)


class _Engine(Protocol):
    """A network that takes aligned samples."""

    def push(self, samples: Float, matrix: Float | None) -> None: ...
    def take(self) -> list[tuple[int, NDArray[np.float64]]]: ...
    def restart(self) -> None: ...
    def pass_over(self, count: int) -> None: ...
    def state(self) -> State: ...
    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None: ...


class Session:
    """One stream. It needs `warm_up` seconds before the first posterior.

    `rate` (Hz) and `selection` (rows that are the channels; None: all, in order) say what chunks
    look like. Online alignment learns from one window after the other, `matrix` (C, C) is one that
    stays.
    """

    def __init__(
        self,
        network: Network,
        setup: Setup,
        rate: float,
        *,
        hop: float,
        online: bool,
        matrix: NDArray[np.float64] | None = None,
        selection: Selection | None = None,
    ) -> None:
        window = setup.preprocessing
        self.rate = rate
        self._selection = selection
        self._channels = len(setup.channels)
        self._preprocessing = window
        self._own_rate = window.sample_rate
        self._window = window.samples
        self._conditioner = Conditioner(window, self._channels, rate)
        self._aligner = OnlineAligner(self._channels) if online else None
        self._fixed = None if matrix is None else matrix.astype(np.float32)
        self._gathered = np.zeros((self._channels, 0), np.float32)  # of the aligner's next window
        self._seen = 0  # samples at our own rate
        self._skip = 0  # samples that only let the filter settle
        step = max(1, round(hop * window.sample_rate))
        self._engine: _Engine = (
            _Tokens(network, step) if isinstance(network, EEGLMUFormer)
            else _Windows(network, self._channels, self._window, step)
        )  # fmt: skip
        whole = self._window / self._own_rate
        self.warm_up = whole if online or not isinstance(network, EEGLMUFormer) else hop
        self.delay = self._conditioner.delay
        """Seconds by which the resampler holds samples back."""

    def push(self, chunk: Float) -> list[Posterior]:
        """The next samples (C, n) in microvolts, n of any size -> the posteriors they complete.

        Raises ValueError for another number of channels.
        """
        if self._selection is not None:
            chunk = self._selection.apply(chunk[list(self._selection.picks)])
        return self._go_on(self._conditioner(chunk))

    def finish(self) -> list[Posterior]:
        """The posteriors of samples that the resampler still holds; the stream is over."""
        return self._go_on(self._conditioner.finish())

    def restart(self) -> None:
        """Forget what the network has seen, as at a cue; filter and alignment go on."""
        self._engine.restart()

    def begin_trial(self, skip: float) -> None:
        """A trial that was cut out elsewhere: filter and network begin anew, alignment goes on.

        The filter settles in its first `skip` seconds, which are not decoded.
        """
        self._conditioner = Conditioner(self._preprocessing, self._channels, self.rate)
        self._gathered = self._gathered[:, :0]
        self._skip = max(0, round(skip * self._own_rate))
        self._engine.restart()

    def state(self) -> State:
        """Arrays from which `load_state` of another session of the same decoder goes on."""
        parts = {"conditioner": self._conditioner.state(), "engine": self._engine.state()}
        if self._aligner is not None:
            parts["aligner"] = self._aligner.state()
        named = {f"{part}.{key}": a for part, own in parts.items() for key, a in own.items()}
        return {
            **named,
            "gathered": self._gathered.copy(),
            "seen": np.array(self._seen),
            "skip": np.array(self._skip),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Raises ValueError for a state of another kind of session."""
        if "seen" not in state or ("aligner.count" in state) != (self._aligner is not None):
            raise ValueError("the state is of another session; needs one of the same decoder")
        self._conditioner.load_state(_part(state, "conditioner"))
        self._engine.load_state(_part(state, "engine"))
        if self._aligner is not None:
            self._aligner.load_state(_part(state, "aligner"))
        self._gathered = np.array(state["gathered"], np.float32)
        self._seen = int(state["seen"])
        self._skip = int(state.get("skip", 0))

    def _go_on(self, samples: Float) -> list[Posterior]:
        if self._skip:
            passed = min(self._skip, samples.shape[1])
            self._skip -= passed
            self._engine.pass_over(passed)
            samples = samples[:, passed:]
        if self._aligner is None:
            self._engine.push(samples, self._fixed)
        else:
            # Windows of the aligner end where they end, however the stream is cut into chunks.
            while samples.shape[1]:
                rest = self._window - self._gathered.shape[1]
                part, samples = samples[:, :rest], samples[:, rest:]
                self._align(self._aligner, part)
        return [
            Posterior(time=count / self._own_rate, probabilities=told)
            for count, told in self._engine.take()
        ]

    def _align(self, aligner: OnlineAligner, part: Float) -> None:
        """Samples up to the end of the aligner's window at most."""
        self._gathered = np.concatenate([self._gathered, part], axis=1)
        whole = self._gathered.shape[1] == self._window
        first = not aligner.started
        before = aligner.matrix.astype(np.float32)
        window = self._gathered
        if whole:
            aligner.update(window)
            self._gathered = window[:, :0]
        if first and not whole:
            return
        if first:
            self._engine.push(window, aligner.matrix.astype(np.float32))
            return
        # A window that ends here counts towards its own alignment, as published.
        self._engine.push(part[:, :-1], before)
        self._engine.push(part[:, -1:], aligner.matrix.astype(np.float32))


class _Windows:
    """A network of whole windows: each `step` samples the last `window` of them."""

    def __init__(self, network: DBConformer, channels: int, window: int, step: int) -> None:
        self._network = network
        self._window, self._step = window, step
        self._recent = np.zeros((channels, 0), np.float32)  # not aligned, the window's at most
        self._count = 0  # samples so far
        self._since = 0  # samples since the last restart
        self._ready: list[tuple[int, Float]] = []

    def push(self, samples: Float, matrix: Float | None) -> None:
        joined = np.concatenate([self._recent, samples], axis=1)
        held = self._recent.shape[1]
        last = self._since + samples.shape[1]
        first = max(self._window, self._since + 1)
        first += (self._window - first) % self._step
        for since in range(first, last + 1, self._step):
            end = held + since - self._since
            window = joined[:, end - self._window : end]
            ready = window.copy() if matrix is None else matrix @ window
            self._ready.append((self._count + since - self._since, ready))
        self._count += samples.shape[1]
        self._since = last
        self._recent = joined[:, -self._window :].copy()

    @torch.no_grad()
    def take(self) -> list[tuple[int, NDArray[np.float64]]]:
        made: list[tuple[int, NDArray[np.float64]]] = []
        device = next(self._network.parameters()).device
        for first in range(0, len(self._ready), AT_ONCE):
            some = self._ready[first : first + AT_ONCE]
            batch = torch.from_numpy(np.stack([window for _, window in some])).to(device)
            told = self._network(batch).double().softmax(-1).cpu().numpy()
            made += [(count, row) for (count, _), row in zip(some, told, strict=True)]
        self._ready = []
        return made

    def restart(self) -> None:
        self._recent = self._recent[:, :0]
        self._since = 0

    def pass_over(self, count: int) -> None:
        """Samples right after a restart that are not decoded."""
        self._count += count

    def state(self) -> State:
        return {"recent": self._recent.copy(), "place": np.array([self._count, self._since])}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._recent = np.array(state["recent"], np.float32)
        self._count, self._since = (int(value) for value in state["place"])
        self._ready = []


class _Tokens:
    """A network that goes on from token to token; every `step` samples it is listened to."""

    def __init__(self, network: EEGLMUFormer, step: int) -> None:
        self._network = network
        self._stride = network.samples_per_token
        self._every = max(1, round(step / self._stride))
        self._device = next(network.parameters()).device
        self._inside = network.initial_state(1).to(self._device)
        self._count = 0  # samples so far
        self._tokens = 0  # since the last restart
        self._begun = 0  # sample of the last restart
        self._ready: list[tuple[int, NDArray[np.float64]]] = []

    @torch.no_grad()
    def push(self, samples: Float, matrix: Float | None) -> None:
        if not samples.shape[1]:
            return
        aligned = samples if matrix is None else matrix @ samples
        batch = torch.from_numpy(np.ascontiguousarray(aligned))[None].to(self._device)
        logits, self._inside = self._network.step(batch, self._inside)  # (1, n, K)
        for row in logits[0].double().softmax(-1).cpu().numpy():
            self._tokens += 1
            if self._tokens % self._every == 0:
                seen = self._tokens + self._network.delay
                self._ready.append((self._begun + seen * self._stride, row))
        self._count += samples.shape[1]

    def take(self) -> list[tuple[int, NDArray[np.float64]]]:
        made, self._ready = self._ready, []
        return made

    def restart(self) -> None:
        self._inside = self._network.initial_state(1).to(self._device)
        self._tokens, self._begun = 0, self._count

    def pass_over(self, count: int) -> None:
        """Samples right after a restart that are not decoded."""
        self._count += count
        self._begun = self._count

    def state(self) -> State:
        inside = {f"inside.{k}": v.cpu().numpy() for k, v in self._inside.to_dict().items()}
        return {**inside, "place": np.array([self._count, self._tokens, self._begun])}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        inside = {k: torch.from_numpy(np.array(v)) for k, v in _part(state, "inside").items()}
        self._inside = StreamState.from_dict(inside).to(self._device)
        self._count, self._tokens, self._begun = (int(value) for value in state["place"])
        self._ready = []


def _part(state: Mapping[str, NDArray[Any]], name: str) -> State:
    head = f"{name}."
    return {k.removeprefix(head): v for k, v in state.items() if k.startswith(head)}
