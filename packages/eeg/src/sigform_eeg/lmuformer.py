"""LMUFormer and its spiking version: sequences through a Legendre memory, at once or as a stream.

Liu, Datta, Li and Beerel, "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre
Memory Units" (ICLR 2024, arXiv 2402.04882). Published weights load by `from_reference`.

Whole sequences and streams run through the same layers, whose memories are explicit
(`stream_state`). The published spiking recurrence leaves out a norm and neurons and is not kept:
here both forms are equal. In float32 a membrane within rounding of its threshold, about one in
ten million, may spike in one form and not in the other.

Shapes: B sequences, N tokens, C input channels, D channels of tokens, M coefficients of a memory,
K classes. Inside, time comes first: (N, B, D).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.linear import Linear, linear
from sigform_core.reference import load_views, read_config
from sigform_eeg.legendre import LegendreMemory
from sigform_eeg.lif import Lif
from sigform_eeg.spike_counts import firing_rates
from sigform_eeg.stream_state import (
    Carry,
    Streamed,
    StreamState,
    carry_on,
    initial_state,
    name_streams,
)

CONVOLUTIONS = 5
"""Convolutions over 3 tokens, one after the other, before the first block."""

AVERAGED_AT_ONCE = 256
"""Tokens of the leaky average that are one matrix product."""

UNUSED = ("num_heads", "seq_len", "input_layout")
"""Published arguments without a meaning: heads there are none, and any length will do."""

PUBLISHED_LIF = {
    "decay_input": True,
    "v_reset": 0.0,
    "detach_reset": True,
    "surrogate": "sigmoid(alpha=4)",
}
"""The neurons' published settings that have one value only."""

NEURONS = ("tau", "v_threshold", "prev_lif_v_threshold")
"""Those that may differ."""

DERIVED = ("*.lmu.A", "*.lmu.B", "*.lmu.H", "*.lmu.fft_H")
"""Published buffers that follow from the configuration."""

SHARED_NAMES = (
    (r"^embed\.", "patch_embed."),
    (r"^blocks\.", "block."),
    (r"\.position\.", ".rpe_conv."),
    (r"\.mixer\.to_input\.", ".attn.lmu.W_u."),
    (r"\.mixer\.to_hidden\.", ".attn.lmu.W_h."),
    (r"\.mixer\.project\.", ".attn.proj_conv."),
    (r"\.mixer\.norm\.", ".attn.proj_bn."),
    (r"\.mlp\.up\.", ".mlp.fc1_conv."),
    (r"\.mlp\.down\.", ".mlp.fc2_conv."),
    (r"\.mlp\.up_norm\.", ".mlp.fc1_bn."),
    (r"\.mlp\.down_norm\.", ".mlp.fc2_bn."),
)
PLAIN_NAMES = (
    *SHARED_NAMES,
    (r"\.convs\.(\d)\.", r".conv_layers.\1.0."),
    (r"\.norms\.(\d)\.", r".conv_layers.\1.3."),
)
SPIKING_NAMES = (
    *SHARED_NAMES,
    (r"\.(conv|norm)s\.0\.", r".proj_\1."),
    (r"\.(conv|norm)s\.(\d)\.", r".proj_\1\2."),
    (r"\.proj_norm", ".proj_bn"),
    (r"\.mixer\.enter_norm\.", ".attn.prev_bn."),
    (r"\.mixer\.input_norm\.", ".attn.lmu.bn_u."),
    (r"\.mixer\.memory_norm\.", ".attn.lmu.bn_m."),
    (r"\.mixer\.hidden_norm\.", ".attn.lmu.bn_h."),
    (r"^head_norm\.", "head_bn."),
)
"""Patterns of our parameter names and what published code calls them."""

ONE_TOKEN = re.compile(r"blocks\.\d+\.(mixer\.project|mlp\.(up|down))\.weight")
"""Linear layers that published code has as convolutions over one token."""

THREE_TOKENS = re.compile(r"embed\.(convs\.\d|position)\.weight")


@dataclass(frozen=True, kw_only=True)
class LMUFormerConfig:
    """The published arguments, with the published setting for Speech Commands as defaults.

    Ours are `causal` (convolutions look back only; trained so, not a switch for finished weights)
    and `average_tokens`: the head reads the mean of all tokens so far, as published, or if this is
    set an average that from this many tokens on forgets exponentially, for streams without end.
    """

    in_channels: int = 128  # C
    num_classes: int = 35  # K
    dim: int = 256  # D
    depths: int = 1  # blocks
    mlp_ratios: float = 4
    memory_size: int = 256  # M
    theta: float = 128  # tokens that the memory spans
    causal: bool = False
    average_tokens: float | None = None

    def __post_init__(self) -> None:
        for name in ("in_channels", "num_classes", "dim", "depths", "memory_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs 1 or more")
        if int(self.dim * self.mlp_ratios) < 1:
            raise ValueError(f"mlp_ratios is {self.mlp_ratios}; needs {1 / self.dim} or more")
        if not 0 < self.theta < math.inf:
            raise ValueError(f"theta is {self.theta}; needs more than 0 tokens")
        if self.average_tokens is not None and not self.average_tokens >= 1:
            raise ValueError(f"average_tokens is {self.average_tokens}; needs 1 or more, or None")

    @property
    def hidden(self) -> int:
        """Channels inside the channel mixer."""
        return int(self.dim * self.mlp_ratios)


@dataclass(frozen=True, kw_only=True)
class SpikingLMUFormerConfig(LMUFormerConfig):
    """As `LMUFormerConfig`, and how the neurons are set."""

    memory_size: int = 512
    tau: float = 2.0  # tokens
    v_threshold: float = 1.0
    prev_lif_v_threshold: float = 0.5  # of the neurons before a memory

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.tau < math.inf:
            raise ValueError(f"tau is {self.tau}; needs 1 or more tokens")
        for name in ("v_threshold", "prev_lif_v_threshold"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; needs more than 0")

    def neurons(self, width: int, threshold: float | None = None) -> Lif:
        """A layer of `width` neurons."""
        return Lif(width, tau=self.tau, threshold=threshold or self.v_threshold)


class TokenNorm(nn.BatchNorm1d):
    """Batch norm over all tokens of all sequences: (N, B, C) -> (N, B, C)."""

    def forward(self, input: Tensor) -> Tensor:
        if not input.numel():
            return input
        return super().forward(input.flatten(0, 1)).view_as(input)


class TokenConv(Streamed):
    """Convolution over 3 tokens without bias, zeros beyond the ends: (N, B, C) -> (N, B, D).

    Causal, it sees the token and the two before; else the one before and the one after, and a
    stream has each token's output one token later.
    """

    def __init__(self, inputs: int, outputs: int, *, causal: bool) -> None:
        super().__init__()
        self.inputs = inputs
        self.causal = causal
        self.weight = nn.Parameter(torch.empty(outputs, 3 * inputs))  # (D, 3 C), oldest first
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def start(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        return {self.key: like.new_zeros(2 if self.causal else 1, batch, self.inputs)}

    def forward(self, x: Tensor, carry: Carry | None = None, last: bool = True) -> Tensor:
        batch = x.shape[1]
        seen = self.start(batch, x)[self.key] if carry is None else carry[self.key]
        parts = [seen, x]
        if last and not self.causal:
            parts.append(x.new_zeros(1, batch, self.inputs))
        tokens = torch.cat(parts)
        if carry is not None:
            carry[self.key] = tokens[-2:].clone()
        threes = torch.cat([tokens[:-2], tokens[1:-1], tokens[2:]], dim=-1)  # (N, B, 3 C)
        return linear(threes, self.weight)

    def extra_repr(self) -> str:
        return f"{self.inputs}, {self.weight.shape[0]}, causal={self.causal}"


class Delay(Streamed):
    """The tokens that a `TokenConv` beside it gives outputs for: a stream's come one later."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        self.width = width
        self.causal = causal

    def start(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        return {self.key: like.new_zeros(0, batch, self.width)}

    def forward(self, x: Tensor, carry: Carry | None = None, last: bool = True) -> Tensor:
        if carry is None or self.causal:
            return x
        tokens = torch.cat([carry[self.key], x])
        ready = len(tokens) if last else max(len(tokens) - 1, 0)
        carry[self.key] = tokens[ready:].clone()
        return tokens[:ready]


class Average(Streamed):
    """The average of all tokens so far, after each: (N, B, D) -> (N, B, D).

    The mean, or with `tokens` from that many on a leaky average of this time constant.
    """

    def __init__(self, width: int, tokens: float | None = None) -> None:
        super().__init__()
        self.width = width
        self.tokens = tokens

    def start(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        return {
            f"{self.key}.mean": like.new_zeros(batch, self.width),
            f"{self.key}.count": torch.zeros((), dtype=torch.int64),
        }

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        memory = self.start(x.shape[1], x) if carry is None else carry
        mean, count = memory[f"{self.key}.mean"], int(memory[f"{self.key}.count"])
        means = []
        for part in x.split(len(x) if self.tokens is None else AVERAGED_AT_ONCE):
            if not len(part):
                continue
            means.append(self._go_on(part, mean, count))
            mean, count = means[-1][-1], count + len(part)
        if carry is not None:
            carry[f"{self.key}.mean"] = mean.clone()
            carry[f"{self.key}.count"] = torch.tensor(count)
        return torch.cat(means) if means else x

    def _go_on(self, x: Tensor, mean: Tensor, count: int) -> Tensor:
        """The averages of x (n, B, D) after `count` tokens of average `mean` (B, D)."""
        numbers = torch.arange(count + 1, count + len(x) + 1, dtype=torch.float64)
        if self.tokens is None:
            numbers = numbers[:, None, None]
            of_old = (count / numbers).to(x)
            return torch.addcmul(mean * of_old, x.cumsum(0), (1 / numbers).to(x))
        new = 1 / numbers.clamp(max=self.tokens)  # (n,), the share of each token when it comes
        kept = torch.log1p(-new.clamp(max=1 - 1e-12)).cumsum(0)
        shares = (kept[:, None] - kept[None, :]).exp().tril() * new  # (n, n)
        return torch.tensordot(shares.to(x), x, 1) + mean * kept.exp().to(x)[:, None, None]


class Embedding(nn.Module):
    """Five convolutions, ReLU and norm after the first four: (N, B, C) -> (N, B, D)."""

    def __init__(self, config: LMUFormerConfig) -> None:
        super().__init__()
        widths, causal = [config.in_channels, *[config.dim] * 4], config.causal
        self.convs = nn.ModuleList(TokenConv(w, config.dim, causal=causal) for w in widths[:4])
        self.norms = nn.ModuleList(TokenNorm(config.dim) for _ in range(4))
        self.position = TokenConv(config.dim, config.dim, causal=causal)
        self.delay = Delay(config.dim, causal=causal)

    def forward(self, x: Tensor, carry: Carry | None = None, last: bool = True) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, carry, last).relu())
        return self.delay(x, carry, last) + self.position(x, carry, last)


class MemoryMixer(nn.Module):
    """Mixes tokens through one memory of one channel (section 3.3): (N, B, D) -> (N, B, D)."""

    def __init__(self, config: LMUFormerConfig) -> None:
        super().__init__()
        D, M = config.dim, config.memory_size
        self.to_input = Linear(D, 1)
        self.memory = LegendreMemory(M, config.theta)
        self.to_hidden = Linear(M + D, D)
        self.project = Linear(D, D)
        self.norm = TokenNorm(D)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        u = self.to_input(x).relu().squeeze(-1)  # (N, B)
        m = self.memory(u, carry)  # (N, B, M)
        return self.norm(self.project(self.to_hidden(torch.cat([m, x], dim=-1)).relu()))


class ChannelMixer(nn.Module):
    """The feed-forward layer with norms: (N, B, D) -> (N, B, D)."""

    def __init__(self, config: LMUFormerConfig) -> None:
        super().__init__()
        self.up = Linear(config.dim, config.hidden)
        self.up_norm = TokenNorm(config.hidden)
        self.down = Linear(config.hidden, config.dim)
        self.down_norm = TokenNorm(config.dim)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:  # noqa: ARG002
        return self.down_norm(self.down(F.gelu(self.up_norm(self.up(x))))).relu()


class SpikingEmbedding(nn.Module):
    """As `Embedding`, norm and neurons before every convolution but the first."""

    def __init__(self, config: SpikingLMUFormerConfig) -> None:
        super().__init__()
        D, causal = config.dim, config.causal
        widths = [config.in_channels, D, D, D]
        self.convs = nn.ModuleList(TokenConv(width, D, causal=causal) for width in widths)
        self.norms = nn.ModuleList(TokenNorm(D) for _ in range(4))
        self.neurons = nn.ModuleList(config.neurons(D) for _ in range(4))
        self.position = TokenConv(D, D, causal=causal)
        self.delay = Delay(D, causal=causal)

    def forward(self, x: Tensor, carry: Carry | None = None, last: bool = True) -> Tensor:
        real = spikes = x
        for conv, norm, neurons in zip(self.convs, self.norms, self.neurons, strict=True):
            real = conv(spikes, carry, last)
            spikes = neurons(norm(real), carry)
        return self.delay(real, carry, last) + self.position(spikes, carry, last)


class SpikingMemoryMixer(nn.Module):
    """As `MemoryMixer`, every product's input spikes: (N, B, D) -> (N, B, D)."""

    def __init__(self, config: SpikingLMUFormerConfig) -> None:
        super().__init__()
        D, M = config.dim, config.memory_size
        self.enter_norm = TokenNorm(D)
        self.enter_neurons = config.neurons(D, config.prev_lif_v_threshold)
        self.to_input = Linear(D, 1)
        self.input_norm = TokenNorm(1)
        self.input_neurons = config.neurons(1)
        self.memory = LegendreMemory(M, config.theta)
        self.memory_norm = TokenNorm(M)
        self.memory_neurons = config.neurons(M)
        self.to_hidden = Linear(M + D, D)
        self.hidden_norm = TokenNorm(D)
        self.hidden_neurons = config.neurons(D)
        self.project = Linear(D, D)
        self.norm = TokenNorm(D)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        x = self.enter_neurons(self.enter_norm(x), carry)
        u = self.input_neurons(self.input_norm(self.to_input(x)), carry).squeeze(-1)  # (N, B)
        m = self.memory_neurons(self.memory_norm(self.memory(u, carry)), carry)  # (N, B, M)
        h = self.hidden_norm(self.to_hidden(torch.cat([m, x], dim=-1)))
        return self.norm(self.project(self.hidden_neurons(h, carry)))


class SpikingChannelMixer(nn.Module):
    """The feed-forward layer of spikes: (N, B, D) -> (N, B, D)."""

    def __init__(self, config: SpikingLMUFormerConfig) -> None:
        super().__init__()
        self.up_norm = TokenNorm(config.dim)
        self.up_neurons = config.neurons(config.dim)
        self.up = Linear(config.dim, config.hidden)
        self.down_norm = TokenNorm(config.hidden)
        self.down_neurons = config.neurons(config.hidden)
        self.down = Linear(config.hidden, config.dim)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        x = self.up(self.up_neurons(self.up_norm(x), carry))
        return self.down(self.down_neurons(self.down_norm(x), carry))


class Block(nn.Module):
    """Tokens mixed, then channels, each around a skip: (N, B, D) -> (N, B, D)."""

    def __init__(self, mixer: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer
        self.mlp = mlp

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        x = x + self.mixer(x, carry)
        return x + self.mlp(x, carry)


class TokenDecoder(nn.Module):
    """Embedding, blocks and head, as both LMUFormers have them (figure 2).

    (B, C, N) -> (B, K), logits of whole sequences of any N. `prefix_logits` has them after every
    token, `step` token by token from an explicit state, equal to those.
    """

    names: Sequence[tuple[str, str]]

    def __init__(self, shell: LMUFormerConfig, embed: nn.Module, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.shell = shell
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.average = Average(shell.dim, shell.average_tokens)
        self.head = nn.Linear(shell.dim, shell.num_classes)

    @property
    def delay(self) -> int:
        """Tokens by which a stream's logits come later than their token."""
        return 0 if self.shell.causal else CONVOLUTIONS

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.encode(self._check(x)))[-1]

    def prefix_logits(self, x: Tensor) -> Tensor:
        """x (B, C, N) -> logits after each token (B, N, K), of what was seen until then.

        Without `causal` each has seen `delay` tokens more.
        """
        return self.read(self.encode(self._check(x))).transpose(0, 1)

    def initial_state(self, batch: int = 1) -> StreamState:
        """The state before the first token of `batch` streams."""
        return initial_state(self, batch)

    def step(self, x: Tensor, state: StreamState) -> tuple[Tensor | None, StreamState]:
        """The next token x (B, C) -> logits (B, K) and the new state; `state` stays as it was.

        The logits are those after the token `delay` ago, None while there was none. Raises
        ValueError in training mode, and for a state of another network or batch.
        """
        logits, state = self.advance(x.unsqueeze(-1), state)
        return (logits[:, -1] if logits.shape[1] else None), state

    @torch.no_grad()
    def advance(self, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """The next n tokens x (B, C, n) -> logits (B, n', K) and the new state, as `step`.

        n' is n, less `delay` in all over the first calls.
        """
        return self._go_on(self._check(x, least=0), state, last=False)

    @torch.no_grad()
    def finish(self, state: StreamState) -> tuple[Tensor, StreamState]:
        """The logits (B, n, K) of the last `delay` tokens, for which no token comes any more."""
        none = self.head.weight.new_zeros(0, state.batch, self.shell.in_channels)
        return self._go_on(none, state, last=True)

    def _go_on(self, x: Tensor, state: StreamState, last: bool) -> tuple[Tensor, StreamState]:
        carry = carry_on(self, state, x.shape[1])
        logits = self.read(self.encode(x, carry, last), carry)
        return logits.transpose(0, 1), StreamState(carry, state.batch)

    def encode(self, x: Tensor, carry: Carry | None = None, last: bool = True) -> Tensor:
        """x (N, B, C) -> tokens (N', B, D), N' as many as are known by now."""
        x = self.embed(x, carry, last)
        for block in self.blocks:
            x = block(x, carry)
        return x

    def read(self, tokens: Tensor, carry: Carry | None = None) -> Tensor:
        """tokens (N, B, D) -> logits after each (N, B, K)."""
        return self.head(self.average(tokens, carry))

    def _check(self, x: Tensor, least: int = 1) -> Tensor:
        """x (B, C, N) as (N, B, C)."""
        if x.dim() != 3 or x.shape[1] != self.shell.in_channels or x.shape[2] < least:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; "
                f"needs (B, {self.shell.in_channels}, N) with {least} tokens or more"
            )
        return x.permute(2, 0, 1)

    def multiply_accumulates(self) -> int:
        """Multiplications by weights and memory matrices for one token of a stream."""
        M = self.shell.memory_size
        weights = sum(p.numel() for p in self.parameters() if p.dim() == 2)
        return weights + self.shell.depths * (M * M + M)

    def published_state(self) -> dict[str, Tensor]:
        """The weights under their published names and shapes."""
        views: dict[str, Tensor] = {}
        for own, tensor in self.state_dict().items():
            name = own
            for pattern, replacement in self.names:
                name = re.sub(pattern, replacement, name)
            if ONE_TOKEN.fullmatch(own):
                tensor = tensor.unsqueeze(-1)
            elif THREE_TOKENS.fullmatch(own):
                tensor = tensor.unflatten(1, (3, -1)).transpose(1, 2)  # (D, C, 3)
            views[name] = tensor
        return views

    def config_dict(self) -> dict[str, Any]:
        """The configuration as plain values, for a weight file."""
        return asdict(self.shell)


class LMUFormer(TokenDecoder):
    """The published network: (B, C, N) -> (B, K), see `TokenDecoder`."""

    names = PLAIN_NAMES

    def __init__(self, config: LMUFormerConfig | None = None) -> None:
        self.config = config or LMUFormerConfig()
        blocks = [
            Block(MemoryMixer(self.config), ChannelMixer(self.config))
            for _ in range(self.config.depths)
        ]
        super().__init__(self.config, Embedding(self.config), blocks)
        name_streams(self)

    @classmethod
    def from_reference(cls, config: Mapping[str, object], state: Mapping[str, Tensor]) -> Self:
        """The network with published weights, in eval mode; `config` as published or ours.

        Raises ValueError naming what is missing, unexpected or of another shape.
        """
        network = cls(LMUFormerConfig(**_read(config, "lmu", LMUFormerConfig)))
        return load_views(network, network.published_state(), state, ignore=DERIVED)


class SpikingLMUFormer(TokenDecoder):
    """The published spiking network (with "membrane shortcuts"): (B, C, N) -> (B, K).

    See `TokenDecoder`. The neurons' time is the sequence's; skips carry real values.
    """

    names = SPIKING_NAMES

    def __init__(self, config: SpikingLMUFormerConfig | None = None) -> None:
        self.config = config or SpikingLMUFormerConfig()
        blocks = [
            Block(SpikingMemoryMixer(self.config), SpikingChannelMixer(self.config))
            for _ in range(self.config.depths)
        ]
        super().__init__(self.config, SpikingEmbedding(self.config), blocks)
        self.head_norm = TokenNorm(self.config.dim)
        self.head_neurons = self.config.neurons(self.config.dim)
        name_streams(self)

    def encode(self, x: Tensor, carry: Carry | None = None, last: bool = True) -> Tensor:
        return self.head_neurons(self.head_norm(super().encode(x, carry, last)), carry)

    def firing_rates(self, x: Tensor) -> dict[str, float]:
        """Spikes of each layer of neurons for each neuron and token, on x (B, C, N)."""
        return firing_rates(self, x)

    def synaptic_operations(self, x: Tensor) -> float:
        """Additions for one token that spikes cause on x (B, C, N): spikes times fan-out."""
        rates, fans = self.firing_rates(x), self.fan_outs()
        return sum(rates[name] * fans[name] for name in fans)

    def fan_outs(self) -> dict[str, int]:
        """Weights that all neurons of a layer lead to together: the additions if all fire."""
        D, M, H = self.config.dim, self.config.memory_size, self.config.hidden
        fans = {f"embed.neurons.{i}": D * 3 * D for i in range(4)}
        for i in range(self.config.depths):
            fans[f"blocks.{i}.mixer.enter_neurons"] = D * (1 + D)
            fans[f"blocks.{i}.mixer.input_neurons"] = M
            fans[f"blocks.{i}.mixer.memory_neurons"] = M * D
            fans[f"blocks.{i}.mixer.hidden_neurons"] = D * D
            fans[f"blocks.{i}.mlp.up_neurons"] = D * H
            fans[f"blocks.{i}.mlp.down_neurons"] = H * D
        return fans | {"head_neurons": D * self.config.num_classes}

    def multiply_accumulates(self) -> int:
        """Multiplications for one token of a stream that no spikes replace.

        Those of the first convolution and of the memories with their own state.
        """
        M = self.config.memory_size
        return 3 * self.config.in_channels * self.config.dim + self.config.depths * M * M

    @classmethod
    def from_reference(cls, config: Mapping[str, object], state: Mapping[str, Tensor]) -> Self:
        """The network with published weights, in eval mode; `config` as published or ours.

        Raises ValueError naming what is missing, unexpected or of another shape.
        """
        known = _read(config, "slmu_ms", SpikingLMUFormerConfig)
        network = cls(SpikingLMUFormerConfig(**known))
        return load_views(network, network.published_state(), state, ignore=DERIVED)


def _read(config: Mapping[str, Any], kind: str, fields: type) -> dict[str, Any]:
    """The arguments in a published config (or ours), refusing another kind of network."""
    if config.get("kind", kind) != kind:
        raise ValueError(f"kind is {config['kind']!r}; needs {kind!r}")
    rest = {key: value for key, value in config.items() if key not in ("kind", "lif")}
    known = read_config(rest, fields, ignore=UNUSED)
    lif = dict(config.get("lif") or {})
    for name, value in PUBLISHED_LIF.items():
        if lif.pop(name, value) != value:
            raise ValueError(f"lif has {name} {config['lif'][name]!r}; needs {value!r}")
    return known | read_config(lif, NEURONS if kind == "slmu_ms" else ())
