"""Informer: a long window of a series in, a long horizon out in one pass of the decoder.

Zhou et al., "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting",
arXiv 2012.07436. Checkpoints of the published code load through `Informer.from_reference` and
`InformerStack.from_reference` (or from the file: `sigform_forecast.upstream`).

Letters of shapes: B batch, L steps, C columns, D model width, H heads, E = D / H, Q queries,
K keys, S sampled keys of a query, U active queries, F calendar features.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.attention import attend
from sigform_core.linear import Linear, linear
from sigform_core.mlp import ACTIVATIONS, Mlp
from sigform_core.positions import SinusoidalPositions, sinusoidal_positions
from sigform_core.reference import load_reference, read_config

CALENDAR_FEATURES = {"s": 6, "t": 5, "h": 4, "d": 3, "b": 3, "w": 2, "m": 1, "a": 1}
# Sizes of the published embedding tables, in the order of their columns in `x_mark`.
CALENDAR_TABLES = {"month": 13, "day": 32, "weekday": 7, "hour": 24, "minute": 4}
DENSE_KEYS = 128  # up to here one dense product beats the sampled one (measured on CPU)
DENSE_SCORES = 1 << 19  # computed at once by the dense product: 2 MiB stay in a CPU's cache
DENSE_SCORES_GPU = 1 << 26  # 256 MiB


@dataclass(frozen=True, kw_only=True)
class InformerConfig:
    """The published constructor arguments, under their published names and defaults.

    Lengths are in steps. `e_layers` is one depth for `Informer` and one per encoder for
    `InformerStack`. `attn` is "prob" (ProbSparse) or "full"; `embed` is "timeF" (calendar features
    in [-0.5, 0.5]), "fixed" (sine tables) or "learned"; `freq` is the letter of the calendar
    (s, t, h, d, b, w, m, a). `mark_dim` widens the features of "timeF" by known covariates;
    `sample_seed` seeds the keys that ProbSparse samples in evaluation. Raises ValueError for a
    value outside these.
    """

    enc_in: int
    dec_in: int
    c_out: int
    seq_len: int
    label_len: int
    out_len: int
    factor: int = 5
    d_model: int = 512
    n_heads: int = 8
    e_layers: int | tuple[int, ...] = 3
    d_layers: int = 2
    d_ff: int = 512
    dropout: float = 0.0
    attn: str = "prob"
    embed: str = "fixed"
    freq: str = "h"
    activation: str = "gelu"
    distil: bool = True
    mix: bool = True
    mark_dim: int | None = None
    sample_seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("attn", ("prob", "full")),
            ("embed", ("timeF", "fixed", "learned")),
            ("freq", tuple(CALENDAR_FEATURES)),
            ("activation", tuple(ACTIVATIONS)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; needs one of {allowed}")
        for name in ("enc_in", "dec_in", "c_out", "seq_len", "out_len", "factor", "d_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs at least 1")
        if self.label_len < 0:
            raise ValueError(f"label_len is {self.label_len}; needs at least 0")
        if min(self.depths) < 1:
            raise ValueError(f"e_layers is {self.e_layers}; needs depths of at least 1")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model is {self.d_model}; needs a multiple of {self.n_heads} heads")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; needs a value in [0, 1)")

    @property
    def depths(self) -> tuple[int, ...]:
        """Layers of each encoder."""
        return (self.e_layers,) if isinstance(self.e_layers, int) else self.e_layers

    @property
    def features(self) -> int:
        """Columns of `x_mark` when `embed` is "timeF"."""
        return self.mark_dim if self.mark_dim is not None else CALENDAR_FEATURES[self.freq]

    @classmethod
    def from_published(cls, config: Mapping[str, object]) -> Self:
        """Read the published arguments; those that say nothing of the network are passed over.

        Raises ValueError for one that is not known.
        """
        passed_over = ("features", "output_attention", "device", "class")
        values = read_config(config, cls, ignore=passed_over)
        if isinstance(values.get("e_layers"), Sequence):
            values["e_layers"] = tuple(values["e_layers"])
        # The published command passes "15min" or "2h" and means the letter of its unit.
        freq = str(values.get("freq", "h"))
        values["freq"] = "t" if freq.endswith(("min", "T")) else freq[-1:]
        if values.get("d_ff", 512) is None:
            values["d_ff"] = 4 * values.get("d_model", 512)
        return cls(**values)


class KeySampler:
    """The sampled keys of each ProbSparse attention of one forward pass, in execution order.

    Either `given` in that order, each (Q, S), or drawn with replacement from `generator`.
    Raises ValueError when a given tensor has another shape or the list runs out.
    """

    def __init__(
        self, given: Sequence[Tensor] | None = None, generator: torch.Generator | None = None
    ) -> None:
        self.given = None if given is None else iter(given)
        self.generator = generator

    def draw(self, queries: int, keys: int, size: int) -> Tensor:
        """Return indices of keys, int64 (queries, size) on the CPU."""
        if self.given is None:
            return torch.randint(keys, (queries, size), generator=self.generator)
        sample = next(self.given, None)
        if sample is None or sample.shape != (queries, size):
            got = "exhausted" if sample is None else f"of shape {tuple(sample.shape)}"
            raise ValueError(f"key_samples is {got}; needs ({queries}, {size}) here")
        return sample


def sample_size(factor: int, length: int) -> int:
    """How many of `length` are sampled or kept: factor * ceil(ln length), at most all of them."""
    return max(1, min(factor * math.ceil(math.log(length)), length))


@cache
def has_sampled_product() -> bool:
    """Whether this torch computes only the sampled entries of a product on the CPU (needs MKL)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its CSR layout beta, once
        try:
            pattern = torch.sparse_csr_tensor([0, 1], [0], [0.0], (1, 1), dtype=torch.float32)
            one = torch.ones(1, 1)
            return torch.sparse.sampled_addmm(pattern, one, one, beta=0.0).values().item() == 1.0
        except RuntimeError:
            return False


@torch.no_grad()
def query_sparsity(query: Tensor, key: Tensor, samples: Tensor) -> Tensor:
    """How far each query's attention is from uniform, judged on its sampled keys (equation 4).

    query (B, H, Q, E), key (B, H, K, E), samples int64 (Q, S) give float32 (B, H, Q): the largest
    sampled score less the sum of the sampled scores over K (the published code divides by K, not
    by S). No gradient flows through it. Only the sampled products are computed where torch can,
    which is what makes ProbSparse attention fast; the result is the same.
    """
    batch, heads, queries, _ = query.shape
    keys, size = key.shape[2], samples.shape[1]
    query, key = query.float(), key.float()
    sampled = query.device.type == "cpu" and keys > DENSE_KEYS and has_sampled_product()
    result = query.new_empty(batch * heads, queries)
    if sampled:
        columns = samples.sort(dim=1).values.flatten()
        pattern = torch.sparse_csr_tensor(
            torch.arange(0, queries * size + 1, size),
            columns,
            query.new_zeros(queries * size),
            (queries, keys),
            check_invariants=False,
        )
        for n in range(batch * heads):
            b, h = divmod(n, heads)
            product = torch.sparse.sampled_addmm(pattern, query[b, h], key[b, h].T, beta=0.0)
            scores = product.values().view(queries, size)  # (Q, S)
            result[n] = scores.amax(-1) - scores.sum(-1) / keys
        return result.view(batch, heads, queries)
    samples = samples.to(query.device)
    scores_at_once = DENSE_SCORES if query.device.type == "cpu" else DENSE_SCORES_GPU
    block = max(1, scores_at_once // (queries * keys))
    flat_query, flat_key = query.flatten(0, 1), key.flatten(0, 1)  # (B*H, Q, E), (B*H, K, E)
    for start in range(0, batch * heads, block):
        part = slice(start, start + block)
        scores = flat_query[part] @ flat_key[part].transpose(1, 2)  # (n, Q, K)
        scores = scores.gather(2, samples.expand(scores.shape[0], -1, -1))  # (n, Q, S)
        result[part] = scores.amax(-1) - scores.sum(-1) / keys
    return result.view(batch, heads, queries)


class _Spread(torch.autograd.Function):
    """The mean value for every query, replaced by the attended values of the active ones.

    Written out because autograd would hold and copy two further tensors of the output's size.
    """

    @staticmethod
    def forward(ctx: Any, mean: Tensor, active: Tensor, index: Tensor, queries: int) -> Tensor:
        ctx.save_for_backward(index)
        batch, _, heads, dim = mean.shape
        return mean.expand(batch, queries, heads, dim).scatter(1, index, active)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (index,), (grad,) = ctx.saved_tensors, grads
        active = grad.gather(1, index)
        return grad.sum(1, keepdim=True) - active.sum(1, keepdim=True), active, None, None


def prob_sparse_attention(
    query: Tensor, key: Tensor, value: Tensor, samples: Tensor, *, factor: int, causal: bool
) -> Tensor:
    """Attend with the most selective queries only; the others take the mean value (section 3.2).

    query (B, Q, H, E), key and value (B, K, H, E) and samples (Q, S) give (B, Q, H, E). With
    `causal` (Q = K) the inactive queries take the running sum of the values instead, as published,
    although a running mean would be the counterpart: its scale grows with the position.
    """
    queries, keys = query.shape[1], key.shape[1]
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))  # (B, H, L, E)
    active = sample_size(factor, queries)
    top = query_sparsity(q, k, samples).topk(active, sorted=False).indices  # (B, H, U)
    rows = top.unsqueeze(-1).expand(-1, -1, -1, q.shape[-1])  # (B, H, U, E)
    mask = top.unsqueeze(-1) >= torch.arange(keys, device=top.device) if causal else None
    attended = attend(q.gather(2, rows), k, v, mask=mask).transpose(1, 2)  # (B, U, H, E)
    rows = rows.transpose(1, 2)  # (B, U, H, E)
    if causal:
        # In float32: the sum leaves the range of half precision on long windows.
        # Torch sums along a last axis four times as fast as along the second.
        running = value.movedim(1, -1).cumsum(-1, dtype=torch.float32).movedim(-1, 1)
        return running.to(value.dtype).scatter(1, rows, attended.to(value.dtype))
    mean = value.mean(1, keepdim=True)  # (B, 1, H, E)
    return cast(Tensor, _Spread.apply(mean, attended.to(mean.dtype), rows, queries))


class ProbSparseAttention(nn.Module):
    """`prob_sparse_attention` with its factor: (B, Q, H, E), twice (B, K, H, E) -> (B, Q, H, E)."""

    def __init__(self, factor: int, *, causal: bool) -> None:
        super().__init__()
        self.factor = factor
        self.causal = causal

    def forward(self, query: Tensor, key: Tensor, value: Tensor, sampler: KeySampler) -> Tensor:
        queries, keys = query.shape[1], key.shape[1]
        samples = sampler.draw(queries, keys, sample_size(self.factor, keys))
        return prob_sparse_attention(
            query, key, value, samples, factor=self.factor, causal=self.causal
        )


class FullAttention(nn.Module):
    """Every query attends to every key: (B, Q, H, E), twice (B, K, H, E) -> (B, Q, H, E)."""

    def __init__(self, *, causal: bool, dropout: float) -> None:
        super().__init__()
        self.causal = causal
        self.dropout = dropout

    def forward(self, query: Tensor, key: Tensor, value: Tensor, sampler: KeySampler) -> Tensor:
        del sampler  # the two kinds of attention are exchangeable
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))  # (B, H, L, E)
        dropout = self.dropout if self.training else 0.0
        return attend(q, k, v, causal=self.causal, dropout=dropout).transpose(1, 2)


class AttentionLayer(nn.Module):
    """Projections around an attention: (B, Q, D), (B, K, D) -> the `last` steps, (B, last, D).

    `mix` keeps a quirk of the published decoder: heads and steps change places before they are
    flattened, so that a row mixes several steps of one head.
    """

    def __init__(self, attention: nn.Module, dim: int, heads: int, *, mix: bool = False) -> None:
        super().__init__()
        self.attention = attention
        self.heads = heads
        self.mix = mix
        self.query = Linear(dim, dim)
        self.key = Linear(dim, dim)
        self.value = Linear(dim, dim)
        self.out = Linear(dim, dim)

    def forward(self, x: Tensor, memory: Tensor, sampler: KeySampler, last: int) -> Tensor:
        dim, steps = x.shape[-1], x.shape[1]
        # A mixed row holds steps of one head, so the last rows need the last heads alone.
        heads = -(-self.heads * last // steps) if self.mix else self.heads
        width = heads * (dim // self.heads)
        q, k, v = (
            linear(y, layer.weight[-width:], layer.bias[-width:]).unflatten(-1, (heads, -1))
            for layer, y in ((self.query, x), (self.key, memory), (self.value, memory))
        )  # (B, Q, H, E), (B, K, H, E), (B, K, H, E)
        y = self.attention(q, k, v, sampler)  # (B, Q, H, E)
        if self.mix:
            y = y.transpose(1, 2)  # (B, H, Q, E)
        return self.out(y.flatten(1)[:, -last * dim :].unflatten(1, (last, dim)))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each added and then normalised: (B, L, D) -> (B, L, D)."""

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.attention = _self_attention(config, causal=False)
        self.mlp = _feed_forward(config)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.norm2 = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, sampler: KeySampler) -> Tensor:
        x = self.norm1(x + self.dropout(self.attention(x, x, sampler, x.shape[1])))
        return self.norm2(x + self.mlp(x))


class DistilLayer(nn.Module):
    """Convolution, batch norm, ELU and max-pooling: (B, L, D) -> (B, ceil(L / 2), D), equation 5.

    Padding is 1 always; the published code compares version strings and takes 2 on torch 1.10-1.13.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x.transpose(1, 2)))  # (B, D, L)
        # ELU rises, so it may follow the pooling, where it is half the work.
        return F.elu(F.max_pool1d(y, 3, stride=2, padding=1)).transpose(1, 2).contiguous()


class Encoder(nn.Module):
    """Encoder layers with a distilling layer between each two: (B, L, D) -> (B, L / 2^(n-1), D)."""

    def __init__(self, config: InformerConfig, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(depth))
        between = depth - 1 if config.distil else 0
        self.distil = nn.ModuleList(DistilLayer(config.d_model) for _ in range(between))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, sampler: KeySampler) -> Tensor:
        for n, layer in enumerate(self.layers):
            x = layer(x, sampler)
            if n < len(self.distil):
                x = self.distil[n](x)
        return self.norm(x)


class EncoderStack(nn.Module):
    """Encoder n reads the last L / 2^n steps; the outputs are joined in time (section 3.3)."""

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(Encoder(config, depth) for depth in config.depths)

    def forward(self, x: Tensor, sampler: KeySampler) -> Tensor:
        length = x.shape[1]
        parts = [
            encoder(x[:, length - length // 2**n :], sampler)
            for n, encoder in enumerate(self.encoders)
        ]
        return torch.cat(parts, dim=1)


class DecoderLayer(nn.Module):
    """Masked self-attention, attention to the encoder, feed-forward: (B, L, D) -> (B, last, D).

    Behind the self-attention every step stands alone, so only the `last` steps go on.
    """

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.self_attention = _self_attention(config, causal=True)
        cross = FullAttention(causal=False, dropout=config.dropout)
        self.cross_attention = AttentionLayer(cross, config.d_model, config.n_heads)
        self.mlp = _feed_forward(config)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.norm2 = nn.LayerNorm(config.d_model)
        self.norm3 = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, memory: Tensor, sampler: KeySampler, last: int) -> Tensor:
        y = self.self_attention(x, x, sampler, last)
        x = self.norm1(x[:, -last:] + self.dropout(y))
        x = self.norm2(x + self.dropout(self.cross_attention(x, memory, sampler, last)))
        return self.norm3(x + self.mlp(x))


class Decoder(nn.Module):
    """Decoder layers and a norm: (B, L, D) with the encoding (B, K, D) -> the last (B, out, D)."""

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.d_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.out_len = config.out_len

    def forward(self, x: Tensor, memory: Tensor, sampler: KeySampler) -> Tensor:
        for n, layer in enumerate(self.layers):
            final = n == len(self.layers) - 1
            x = layer(x, memory, sampler, last=self.out_len if final else x.shape[1])
        return self.norm(x)


class CalendarTables(nn.Module):
    """Sum of one embedding per calendar column: int64 (B, L, 4 or 5) -> (B, L, D).

    The columns are month, day, weekday, hour and, for the frequency "t", quarter of the hour.
    """

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        names = [n for n in CALENDAR_TABLES if n != "minute" or config.freq == "t"]
        self.tables = nn.ModuleDict()
        for name in names:
            table = nn.Embedding(CALENDAR_TABLES[name], config.d_model)
            if config.embed == "fixed":
                table.weight.data.copy_(sinusoidal_positions(*table.weight.shape))
                table.weight.requires_grad_(False)
            self.tables[name] = table

    def forward(self, mark: Tensor) -> Tensor:
        columns = mark.long().unbind(-1)
        if len(columns) < len(self.tables):
            raise ValueError(f"x_mark has {len(columns)} columns; needs {list(self.tables)}")
        tables = zip(self.tables.values(), columns, strict=False)
        return torch.stack([table(column) for table, column in tables]).sum(0)


class DataEmbedding(nn.Module):
    """Values, positions and calendar as one vector a step: (B, L, C), (B, L, F) -> (B, L, D)."""

    def __init__(self, columns: int, config: InformerConfig) -> None:
        super().__init__()
        dim = config.d_model
        self.value = nn.Conv1d(columns, dim, 3, padding=1, padding_mode="circular")
        nn.init.kaiming_normal_(self.value.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.position = SinusoidalPositions(dim)
        timed = config.embed == "timeF"
        self.calendar = nn.Linear(config.features, dim) if timed else CalendarTables(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        value = self.value(x.transpose(1, 2)).transpose(1, 2)  # (B, L, D)
        return self.dropout(self.calendar(mark) + self.position(value) + value)


class Informer(nn.Module):
    """The published network: known window and calendar in, the next `out_len` steps out.

    `forward(x_enc, x_mark_enc, x_dec, x_mark_dec)` takes the window (B, seq_len, enc_in), its
    calendar (B, seq_len, F), the decoder's input (B, label_len + out_len, dec_in), which is the
    last `label_len` known steps followed by zeros, and its calendar, and returns
    (B, out_len, c_out), float32, in the units of the input. Any window length is taken.

    ProbSparse attention samples keys. `key_samples` gives them; otherwise they come from
    `generator`, and without one from torch's global generator in training and from
    `config.sample_seed` in evaluation, so that a forecast is the same every time (the published
    code samples anew in evaluation, which moves its output by more than its size).
    """

    config: InformerConfig

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.config = config
        self.enc_embedding = DataEmbedding(config.enc_in, config)
        self.dec_embedding = DataEmbedding(config.dec_in, config)
        self.encoder = self._encoder(config)
        self.decoder = Decoder(config)
        self.projection = nn.Linear(config.d_model, config.c_out)

    def _encoder(self, config: InformerConfig) -> nn.Module:
        if len(config.depths) != 1:
            raise ValueError(f"e_layers is {config.e_layers}; Informer needs one depth")
        return Encoder(config, config.depths[0])

    def forward(
        self,
        x_enc: Tensor,
        x_mark_enc: Tensor,
        x_dec: Tensor,
        x_mark_dec: Tensor,
        key_samples: Sequence[Tensor] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        if x_dec.shape[1] < self.config.out_len:
            raise ValueError(f"x_dec has {x_dec.shape[1]} steps; needs {self.config.out_len}")
        if generator is None and not self.training:
            generator = torch.Generator().manual_seed(self.config.sample_seed)
        sampler = KeySampler(key_samples, generator)
        memory = self.encoder(self.enc_embedding(x_enc, x_mark_enc), sampler)  # (B, K, D)
        y = self.decoder(self.dec_embedding(x_dec, x_mark_dec), memory, sampler)
        return self.projection(y)  # (B, out_len, c_out)

    @classmethod
    def from_reference(cls, config: Mapping[str, object], state: Mapping[str, Tensor]) -> Self:
        """Build from the published arguments and parameters, in evaluation mode.

        Raises ValueError naming what is missing, unexpected or of another shape.
        """
        model = cls(InformerConfig.from_published(config))
        renamed = {}
        for name, tensor in state.items():
            if name.endswith("position_embedding.pe"):
                continue  # a table that follows from its size
            # The published feed-forward is a convolution of width 1: the same as a linear layer.
            pointwise = name.endswith((".conv1.weight", ".conv2.weight")) and tensor.ndim == 3
            renamed[rename_published(name)] = tensor.squeeze(-1) if pointwise else tensor
        load_reference(model, renamed)
        return model


class InformerStack(Informer):
    """Informer with several encoders, each over half the window of the one before."""

    def _encoder(self, config: InformerConfig) -> nn.Module:
        return EncoderStack(config)


def _self_attention(config: InformerConfig, *, causal: bool) -> AttentionLayer:
    if config.attn == "prob":
        attention: nn.Module = ProbSparseAttention(config.factor, causal=causal)
    else:
        attention = FullAttention(causal=causal, dropout=config.dropout)
    return AttentionLayer(attention, config.d_model, config.n_heads, mix=causal and config.mix)


def _feed_forward(config: InformerConfig) -> Mlp:
    return Mlp(config.d_model, config.d_ff, activation=config.activation, dropout=config.dropout)


PUBLISHED_NAMES = (
    (r"value_embedding\.tokenConv", "value"),
    (r"temporal_embedding\.embed\b", "calendar"),
    (r"temporal_embedding\.(\w+)_embed(\.emb)?", r"calendar.tables.\1"),
    (r"\battn_layers\b", "layers"),
    (r"\bconv_layers\b", "distil"),
    (r"\bdownConv\b", "conv"),
    (r"\b(query|key|value|out)_projection\b", r"\1"),
    (r"\bconv1\b", "mlp.up"),
    (r"\bconv2\b", "mlp.down"),
)


def rename_published(name: str) -> str:
    """Our name of a published parameter."""
    for pattern, ours in PUBLISHED_NAMES:
        name = re.sub(pattern, ours, name)
    return name
