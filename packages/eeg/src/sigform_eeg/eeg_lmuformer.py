"""LMUFormer for EEG: power tokens through a Legendre memory, sample by sample without look-ahead.

Ours, not published: `PowerTokens` before the published network (`lmuformer`), plain or spiking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from sigform_core.reference import load_reference, read_config
from sigform_eeg.lmuformer import (
    LMUFormer,
    LMUFormerConfig,
    SpikingLMUFormer,
    SpikingLMUFormerConfig,
)
from sigform_eeg.power_tokens import PowerTokens
from sigform_eeg.spike_counts import firing_rates
from sigform_eeg.stream_state import StreamState, carry_on, initial_state, name_streams

OPTIONS = (
    "spiking",
    "features",
    "dim",
    "depth",
    "mlp_ratio",
    "memory_size",
    "memory_seconds",
    "token_rate",
    "kernel_seconds",
    "window_seconds",
    "average_seconds",
    "causal",
    "drop_prob",
)
"""Arguments of the network that are no facts about the signals."""


class EEGLMUFormer(nn.Module):
    """EEG windows (B, C, T) -> logits (B, K), for any T of a token or more; signals in microvolts.

    The first arguments are braindecode's: channels, classes, samples of a window, their rate in
    Hz, and MNE's channel facts, which may say the number of channels. Then those of the network:

    - `spiking`: neurons instead of ReLU and GELU.
    - `features` rhythms, `dim` channels of tokens, `depth` blocks, `mlp_ratio` of their mixer.
    - `memory_size` coefficients for the last `memory_seconds`.
    - `token_rate` tokens a second, about: a token is a whole number of samples.
    - `kernel_seconds` and `window_seconds`: of the rhythms' filters, and of their power's mean.
    - `average_seconds`: the head's average forgets after so long, for streams without end; None
      is the mean since the beginning, as published.
    - `causal`: no look-ahead; else the published one, and a stream's logits come `delay` tokens
      late.
    - `drop_prob`: dropout of tokens' features.

    Raises ValueError where a needed fact is missing or a number is out of its range.
    """

    def __init__(
        self,
        n_chans: int | None = None,
        n_outputs: int | None = None,
        n_times: int | None = None,
        sfreq: float | None = None,
        chs_info: Sequence[Mapping[str, Any]] | None = None,
        *,
        spiking: bool = False,
        features: int = 16,
        dim: int = 32,
        depth: int = 1,
        mlp_ratio: float = 2.0,
        memory_size: int = 16,
        memory_seconds: float = 2.0,
        token_rate: float = 16.0,
        kernel_seconds: float = 0.15,
        window_seconds: float = 0.5,
        average_seconds: float | None = None,
        causal: bool = True,
        drop_prob: float = 0.5,
    ) -> None:
        super().__init__()
        if n_chans is None and chs_info is not None:
            n_chans = len(chs_info)
        if n_chans is None or n_outputs is None or sfreq is None:
            facts = {"n_chans": n_chans, "n_outputs": n_outputs, "sfreq": sfreq}
            missing = ", ".join(name for name, value in facts.items() if value is None)
            raise ValueError(f"{missing} is None; needs a number")
        lengths = {
            "sfreq": sfreq,
            "token_rate": token_rate,
            "memory_seconds": memory_seconds,
            "kernel_seconds": kernel_seconds,
            "window_seconds": window_seconds,
        }
        for name, value in lengths.items():
            if not value > 0:
                raise ValueError(f"{name} is {value}; needs more than 0")
        if not 0 <= drop_prob < 1:
            raise ValueError(f"drop_prob is {drop_prob}; needs 0 or more, less than 1")
        stride = max(round(sfreq / token_rate), 1)
        if n_times is not None and n_times < stride:
            raise ValueError(f"n_times is {n_times}; needs a token's {stride} samples or more")
        self.n_chans = n_chans
        self.n_outputs = n_outputs
        self.n_times = n_times
        self.sfreq = float(sfreq)
        self.spiking = spiking
        self.options = {
            "spiking": spiking,
            "features": features,
            "dim": dim,
            "depth": depth,
            "mlp_ratio": mlp_ratio,
            "memory_size": memory_size,
            "memory_seconds": memory_seconds,
            "token_rate": token_rate,
            "kernel_seconds": kernel_seconds,
            "window_seconds": window_seconds,
            "average_seconds": average_seconds,
            "causal": causal,
            "drop_prob": drop_prob,
        }
        self.front = PowerTokens(
            n_chans,
            features,
            kernel=2 * round(kernel_seconds * sfreq / 2) + 1,
            stride=stride,
            window=max(round(window_seconds * sfreq / stride), 1) * stride,
        )
        tokens_per_second = sfreq / stride
        settings: dict[str, Any] = {
            "in_channels": features,
            "num_classes": n_outputs,
            "dim": dim,
            "depths": depth,
            "mlp_ratios": mlp_ratio,
            "memory_size": memory_size,
            "theta": memory_seconds * tokens_per_second,
            "causal": causal,
            "average_tokens": (
                None if average_seconds is None else max(average_seconds * tokens_per_second, 1.0)
            ),
        }
        self.dropout = nn.Dropout(drop_prob)
        self.body: LMUFormer | SpikingLMUFormer = (
            SpikingLMUFormer(SpikingLMUFormerConfig(**settings))
            if spiking
            else LMUFormer(LMUFormerConfig(**settings))
        )
        name_streams(self)

    @property
    def samples_per_token(self) -> int:
        """Samples from one token to the next; token n is known after n + 1 times as many."""
        return self.front.stride

    @property
    def delay(self) -> int:
        """Tokens by which a stream's logits come later than their token."""
        return self.body.delay

    def forward(self, x: Tensor) -> Tensor:
        return self.body.read(self._encode(x))[-1]

    def prefix_logits(self, x: Tensor) -> Tensor:
        """x (B, C, T) -> logits after each token (B, N, K), of what was seen until then."""
        return self.body.read(self._encode(x)).transpose(0, 1)

    def _encode(self, x: Tensor) -> Tensor:
        self.front.check(x, self.samples_per_token)
        return self.body.encode(self.dropout(self.front.tokens(x)))

    def initial_state(self, batch: int = 1) -> StreamState:
        """The state before the first sample of `batch` streams."""
        return initial_state(self, batch)

    @torch.no_grad()
    def step(self, samples: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """The next samples (B, C, n), any n -> logits (B, n', K) and the new state.

        One for each token that they complete, equal to `prefix_logits`; `state` stays as it was.
        Raises ValueError in training mode, and for a state of another network or batch.
        """
        self.front.check(samples)
        carry = carry_on(self, state, len(samples))
        tokens = self.body.encode(self.front.tokens(samples, carry), carry, last=False)
        logits = self.body.read(tokens, carry).transpose(0, 1)
        return logits, StreamState(carry, state.batch)

    @torch.no_grad()
    def finish(self, state: StreamState) -> tuple[Tensor, StreamState]:
        """The logits (B, n, K) of the last `delay` tokens; samples short of a token are left."""
        carry = carry_on(self, state, state.batch)
        none = self.front.spatial.new_zeros(0, state.batch, self.front.features)
        tokens = self.body.encode(none, carry, last=True)
        logits = self.body.read(tokens, carry).transpose(0, 1)
        return logits, StreamState(carry, state.batch)

    def firing_rates(self, x: Tensor) -> dict[str, float]:
        """Spikes of each layer of neurons for each neuron and token, on x (B, C, T)."""
        return firing_rates(self, x)

    def synaptic_operations(self, x: Tensor) -> float:
        """Additions for one token that spikes cause on x (B, C, T): spikes times fan-out.

        Raises ValueError for a network without spikes.
        """
        if not isinstance(self.body, SpikingLMUFormer):
            raise ValueError("spiking is False; needs a spiking network to count its spikes")
        rates, fans = self.firing_rates(x), self.body.fan_outs()
        return sum(rates[f"body.{name}"] * fan for name, fan in fans.items())

    def multiply_accumulates(self) -> int:
        """Multiplications for one token of a stream, less those that spikes replace."""
        return self.front.multiply_accumulates() + self.body.multiply_accumulates()

    @classmethod
    def from_reference(cls, config: Mapping[str, object], state: Mapping[str, Tensor]) -> Self:
        """The network with the weights of `published_state`, in eval mode; `config_dict`'s config.

        Raises ValueError naming what is missing, unexpected or of another shape.
        """
        known = read_config(config, ("n_chans", "n_outputs", "n_times", "sfreq", *OPTIONS))
        return load_reference(cls(**known), state)

    def published_state(self) -> dict[str, Tensor]:
        """The weights by name, for a weight file."""
        return self.state_dict()

    def config_dict(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, for a weight file."""
        facts = {"n_chans": self.n_chans, "n_outputs": self.n_outputs, "n_times": self.n_times}
        return {**facts, "sfreq": self.sfreq, **self.options}
