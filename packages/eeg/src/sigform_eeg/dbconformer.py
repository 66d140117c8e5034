"""DBConformer: a temporal and a spatial transformer side by side, for windows of EEG.

Wang et al., "DBConformer: Dual-Branch Convolutional Transformer for EEG Decoding"
(arXiv 2506.21140). The authors publish no weights; what their code saves loads by
`from_reference`. Written from a description: their code is under a non-commercial licence.

Signals lie channels last, the norms go into their convolutions when evaluating, and queries, keys
and values come from one product: equal to the published form.

Shapes: B windows, C channels, T samples, P patches, D features, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.attention import attend
from sigform_core.depthwise import depthwise
from sigform_core.linear import Linear, linear
from sigform_core.reference import load_views, read_config

HEADS = 10
TEMPORAL_KERNEL = 63  # samples
CHANNEL_KERNEL, CHANNEL_STRIDE = 25, 5  # samples

Branch = Literal["all", "temporal", "spatial"]

PUBLISHED_ARGUMENTS = {
    "chn": "n_chans",
    "time_sample_num": "n_times",
    "class_num": "n_outputs",
    "n_classes": "n_outputs",
    "emb_size": "emb_size",
    "tem_depth": "temporal_depth",
    "chn_depth": "spatial_depth",
    "spa_dim": "spatial_dim",
    "patch_size": "patch_size",
    "gate_flag": "gate",
    "posemb_flag": "position_embedding",
    "branch": "branch",
    "chn_atten_flag": "channel_attention",
}
"""What the published constructor's arguments are called here."""

UNUSED = ("data_name", "radix")
"""Published arguments that change no weight; of some data a sample is dropped, see `patches`."""

NAMES = (
    (r"^spatial_filter\.weight", "embedding.stem.sconv.conv.weight"),
    (r"^spatial_norm\.", "embedding.stem.sconv.bn."),
    (r"^temporal_filter\.weight", "embedding.stem.tconv.0.conv.weight"),
    (r"^temporal_norm\.", "embedding.stem.tconv.0.bn."),
    (r"^channel_filter\.", "channel_embedding.encoder.0."),
    (r"^channel_project\.", "channel_embedding.encoder.4."),
    (r"^temporal_positions", "pos_embedding_temporal"),
    (r"^spatial_positions", "pos_embedding_spatial"),
    (r"^(temporal|spatial)_blocks\.(\d+)\.", r"\1_transformer.\2."),
    (r"\.attention_norm\.", ".0.fn.0."),
    (r"\.attention\.leave\.", ".0.fn.1.projection."),
    (r"\.mlp_norm\.", ".1.fn.0."),
    (r"\.up\.", ".1.fn.1.0."),
    (r"\.down\.", ".1.fn.1.3."),
    (r"^channel_score\.", "spatial_attn_pool."),
    (r"^gate\.", "gate_fc.fc."),
    (r"^classifier\.", "classifier.fc."),
)
"""Patterns of our parameter names and what published code calls them."""


@dataclass(frozen=True, kw_only=True)
class DBConformerConfig:
    """The published settings; the defaults are those of the released scripts (93,747 parameters
    with 22 channels, 1001 samples and 2 classes)."""

    n_chans: int  # C
    n_outputs: int  # K
    n_times: int  # T, samples
    patch_size: int = 125  # samples of a token of the temporal branch
    emb_size: int = 40  # D
    temporal_depth: int = 2
    spatial_depth: int = 2
    spatial_dim: int = 16  # filters of the spatial branch
    branch: Branch = "all"
    channel_attention: bool = True  # else the mean of the channels; not where there is a gate
    gate: bool = False  # mixes both branches by a learnt gate, instead of joining them
    position_embedding: bool = True
    drop_prob: float = 0.5

    def __post_init__(self) -> None:
        for name in (
            "n_chans", "n_times", "patch_size", "emb_size", "temporal_depth", "spatial_depth",
            "spatial_dim",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs 1 or more")
        if self.n_outputs < 2:
            raise ValueError(f"n_outputs is {self.n_outputs}; needs 2 or more")
        if self.emb_size % HEADS:
            raise ValueError(f"emb_size is {self.emb_size}; needs a multiple of {HEADS}")
        if self.patch_size > self.n_times:
            raise ValueError(
                f"patch_size is {self.patch_size}; needs at most the window's {self.n_times}"
            )
        if self.branch not in get_args(Branch):
            raise ValueError(f"branch is {self.branch!r}; needs {', '.join(get_args(Branch))}")
        if not 0 <= self.drop_prob < 1:
            raise ValueError(f"drop_prob is {self.drop_prob}; needs 0 or more, less than 1")

    @property
    def patches(self) -> int:
        """P, whole patches in a window; published code drops a sample that fills none."""
        return self.n_times // self.patch_size


class Attention(nn.Module):
    """Self-attention with 10 heads, scaled by the features of all heads, as published.

    (B, L, D) -> (B, L, D).
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.enter = Linear(dim, 3 * dim)  # queries, keys, values
        self.leave = Linear(dim, dim)
        self.dropout = dropout
        # Each third is begun as a layer of its own.
        for third in self.enter.weight.data.chunk(3):
            nn.init.kaiming_uniform_(third, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        D = x.shape[-1]
        parts = self.enter(x).unflatten(-1, (3, HEADS, D // HEADS))  # (B, L, 3, H, D/H)
        query, key, value = parts.transpose(1, 3).unbind(2)  # (B, H, L, D/H)
        dropout = self.dropout if self.training else 0.0
        out = attend(query, key, value, scale=D**-0.5, dropout=dropout)
        return self.leave(out.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and feed-forward, each after a norm and beside a skip: (B, L, D) -> (B, L, D)."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, dropout)
        self.mlp_norm = nn.LayerNorm(dim)
        self.up = Linear(dim, 4 * dim)
        self.down = Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        hidden = self.dropout(F.gelu(self.up(self.mlp_norm(x))))
        return x + self.dropout(self.down(hidden))


class DBConformer(nn.Module):
    """Windows of EEG (B, C, T) -> logits (B, K), float32; best standardised or aligned first.

    The first five arguments are braindecode's; `chs_info` (MNE's, one entry a channel) may stand
    for `n_chans`, and `sfreq` (Hz) is only kept. The others are those of `DBConformerConfig`.
    `dbconformer.channel_importance(x)` tells which channels counted. Raises ValueError for
    settings that do not fit, and for windows of another shape.
    """

    def __init__(
        self,
        n_chans: int | None = None,
        n_outputs: int | None = None,
        n_times: int | None = None,
        sfreq: float | None = None,
        chs_info: Sequence[Mapping[str, Any]] | None = None,
        *,
        patch_size: int = 125,
        emb_size: int = 40,
        temporal_depth: int = 2,
        spatial_depth: int = 2,
        spatial_dim: int = 16,
        branch: Branch = "all",
        channel_attention: bool = True,
        gate: bool = False,
        position_embedding: bool = True,
        drop_prob: float = 0.5,
    ) -> None:
        super().__init__()
        self.sfreq = sfreq
        self.chs_info = chs_info
        self.config = DBConformerConfig(
            n_chans=_channels(n_chans, chs_info),
            n_outputs=_given("n_outputs", n_outputs),
            n_times=_given("n_times", n_times),
            patch_size=patch_size,
            emb_size=emb_size,
            temporal_depth=temporal_depth,
            spatial_depth=spatial_depth,
            spatial_dim=spatial_dim,
            branch=branch,
            channel_attention=channel_attention,
            gate=gate,
            position_embedding=position_embedding,
            drop_prob=drop_prob,
        )
        config = self.config
        C, D, S = config.n_chans, config.emb_size, config.spatial_dim
        both = config.branch == "all"
        self.spatial_filter = nn.Linear(C, D, bias=False)
        self.spatial_norm = nn.BatchNorm1d(D)
        self.temporal_filter = nn.Conv1d(D, D, TEMPORAL_KERNEL, groups=D, bias=False)
        self.temporal_norm = nn.BatchNorm1d(D)
        self.channel_filter = nn.Conv1d(1, S, CHANNEL_KERNEL)
        self.channel_project = Linear(S, D)
        if config.position_embedding:
            self.temporal_positions = nn.Parameter(torch.randn(1, config.patches, D))
            self.spatial_positions = nn.Parameter(torch.randn(1, C, D))
        else:
            self.temporal_positions = self.spatial_positions = None
        self.temporal_blocks = nn.ModuleList(
            Block(D, drop_prob) for _ in range(config.temporal_depth)
        )
        self.spatial_blocks = nn.ModuleList(
            Block(D, drop_prob) for _ in range(config.spatial_depth)
        )
        # As published, a gate stands in every network of a single branch, without use.
        self.gate = nn.Linear(2 * D, D) if config.gate or not both else None
        attends = config.channel_attention and both and not config.gate
        self.channel_score = (
            nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, 1)) if attends else None
        )
        self.classifier = nn.Sequential(
            nn.Linear(2 * D if both and not config.gate else D, 64),
            nn.ELU(),
            nn.Dropout(drop_prob),
            nn.Linear(64, 32),
            nn.ELU(),
            nn.Dropout(min(drop_prob, 0.3)),
            nn.Linear(32, config.n_outputs),
        )
        for layer in (self.spatial_filter, self.temporal_filter):
            nn.init.trunc_normal_(layer.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """What the classifier reads of windows (B, C, T): (B, 2 D), or (B, D) with one branch."""
        self._check(x)
        config = self.config
        if config.branch == "temporal":
            return self.temporal_tokens(x).mean(1)
        channels = self.channel_tokens(x)
        weights = self._weights(channels)
        space = channels.mean(1) if weights is None else (weights * channels).sum(1)
        if config.branch == "spatial":
            return space
        time = self.temporal_tokens(x).mean(1)
        joined = torch.cat([time, space], dim=-1)
        if not config.gate or self.gate is None:
            return joined
        return torch.lerp(time, space, self.gate(joined).sigmoid())

    def channel_importance(self, x: Tensor) -> Tensor:
        """The share of each channel in the spatial branch for windows (B, C, T): (B, C), sum 1.

        Raises ValueError for a network without channel attention.
        """
        self._check(x)
        weights = self._weights(self.channel_tokens(x))
        if weights is None:
            raise ValueError("channel_attention is off; needs a network that has it")
        return weights.squeeze(-1)

    def temporal_tokens(self, x: Tensor) -> Tensor:
        """The temporal branch (section III-B): windows (B, C, T) -> patches (B, P, D)."""
        config = self.config
        hidden = self._filtered(x)  # (B, T, D)
        hidden = F.gelu(hidden[:, : config.patches * config.patch_size])
        tokens = hidden.unflatten(1, (config.patches, config.patch_size)).mean(2)  # (B, P, D)
        tokens = F.dropout(tokens, config.drop_prob, self.training)
        return _through(self.temporal_blocks, tokens, self.temporal_positions)

    def channel_tokens(self, x: Tensor) -> Tensor:
        """The spatial branch (section III-C): windows (B, C, T) -> channels (B, C, D)."""
        reach = CHANNEL_KERNEL // 2
        frames = F.pad(x, (reach, reach)).unfold(-1, CHANNEL_KERNEL, CHANNEL_STRIDE)
        filters = self.channel_filter
        hidden = linear(frames, filters.weight.squeeze(1), filters.bias)  # (B, C, frames, S)
        tokens = self.channel_project(F.elu(hidden).mean(2))
        return _through(self.spatial_blocks, tokens, self.spatial_positions)

    def _filtered(self, x: Tensor) -> Tensor:
        """The filters over channels and time with their norms: (B, C, T) -> (B, T, D)."""
        signals = x.transpose(1, 2)  # (B, T, C)
        if not self.training:
            gain, offset = _scale_of(self.spatial_norm)
            hidden = linear(signals, self.spatial_filter.weight * gain[:, None], offset)
            gain, offset = _scale_of(self.temporal_norm)
            return depthwise(hidden, self.temporal_filter.weight * gain[:, None, None]) + offset
        hidden = _normed(linear(signals, self.spatial_filter.weight), self.spatial_norm)
        return _normed(depthwise(hidden, self.temporal_filter.weight), self.temporal_norm)

    def _weights(self, channels: Tensor) -> Tensor | None:
        """The channels' shares (B, C, 1), or None where the mean is taken."""
        return None if self.channel_score is None else self.channel_score(channels).softmax(1)

    def _check(self, x: Tensor) -> None:
        C, T = self.config.n_chans, self.config.n_times
        if x.dim() != 3 or tuple(x.shape[1:]) != (C, T):
            raise ValueError(f"x has shape {tuple(x.shape)}; needs (B, {C}, {T})")

    @classmethod
    def from_reference(cls, config: Mapping[str, object], state: Mapping[str, Tensor]) -> Self:
        """The network with published weights, in eval mode.

        `config` holds the published constructor's `args` and `kw`, or our own arguments. Raises
        ValueError naming what is missing, unexpected or of another shape.
        """
        network = cls(**_published_arguments(config))
        return load_views(network, network.published_state(), state, ignore=())

    def published_state(self) -> dict[str, Tensor]:
        """The weights under their published names and shapes, sharing memory."""
        views: dict[str, Tensor] = {}
        for own, tensor in self.state_dict().items():
            if (entered := re.fullmatch(r"(.*)\.attention\.enter\.(weight|bias)", own)) is not None:
                for name, part in zip(("queries", "keys", "values"), tensor.chunk(3), strict=True):
                    views[_published(f"{entered[1]}.0.fn.1.{name}.{entered[2]}")] = part
            else:
                single = own == "spatial_filter.weight"  # published as a convolution
                views[_published(own)] = tensor.unsqueeze(2) if single else tensor
        return views

    def config_dict(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, for a weight file."""
        return {**asdict(self.config), "sfreq": self.sfreq}


def _through(blocks: nn.ModuleList, tokens: Tensor, positions: Tensor | None) -> Tensor:
    if positions is not None:
        tokens = tokens + positions
    for block in blocks:
        tokens = block(tokens)
    return tokens


def _normed(x: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """A batch norm over the features of x (B, T, D)."""
    return norm(x.flatten(0, 1)).view_as(x)


def _scale_of(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """What a batch norm does when evaluating: gain and offset (D,)."""
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None:
        raise ValueError("the norm keeps no statistics; needs them")
    gain = norm.weight * (var + norm.eps).rsqrt()
    return gain, norm.bias - mean * gain


def _published(name: str) -> str:
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _published_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    if "args" not in config and "kw" not in config:
        return read_config(config, {*DBConformerConfig.__dataclass_fields__, "sfreq"})
    read_config(config, ("args", "kw", "input_samples"))
    given = {**config.get("args", {}), **config.get("kw", {})}
    known = read_config(given, set(PUBLISHED_ARGUMENTS), ignore=UNUSED)
    # The published constructor, other than the released scripts, makes branches five blocks deep.
    arguments: dict[str, Any] = {"temporal_depth": 5, "spatial_depth": 5}
    for name, value in known.items():
        own = PUBLISHED_ARGUMENTS[name]
        if own == "n_outputs" and arguments.get(own, value) != value:
            raise ValueError(f"{name} is {value}; needs {arguments[own]}, as class_num")
        arguments[own] = value
    return arguments


def _channels(n_chans: int | None, chs_info: Sequence[Mapping[str, Any]] | None) -> int:
    if n_chans is None:
        return len(_given("n_chans", chs_info))
    if chs_info is not None and len(chs_info) != n_chans:
        raise ValueError(f"n_chans is {n_chans}; needs {len(chs_info)} as chs_info has")
    return n_chans


def _given(name: str, value: Any) -> Any:
    if value is None:
        raise ValueError(f"{name} is None; needs a value")
    return value
