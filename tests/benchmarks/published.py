"""The Informer written plainly, the way its published code works, as the measure for ours.

Written here from the description, not copied: every query gets its own copy of its sampled keys,
masks are built densely, feed-forwards are convolutions of width 1, and the decoder computes every
position although only the last ones are read. Same parameters and same output as
`sigform_forecast.informer`; letters of shapes as there.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.positions import sinusoidal_positions
from sigform_forecast.informer import InformerConfig, KeySampler, sample_size

LONGEST = 5000  # rows of the published table of positions


def attention(
    query: Tensor, key: Tensor, value: Tensor, samples: Tensor, *, factor: int, causal: bool
) -> Tensor:
    """ProbSparse attention: (B, Q, H, E), twice (B, K, H, E), samples (Q, S) -> (B, Q, H, E)."""
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))  # (B, H, L, E)
    (batch, heads, queries, dim), keys = q.shape, k.shape[2]
    of_batch = torch.arange(batch).view(-1, 1, 1)
    of_head = torch.arange(heads).view(1, -1, 1)

    repeated = k.unsqueeze(2).expand(batch, heads, queries, keys, dim)
    own_keys = repeated[:, :, torch.arange(queries).unsqueeze(1), samples]  # (B, H, Q, S, E)
    sampled = (q.unsqueeze(3) @ own_keys.transpose(3, 4)).squeeze(3)  # (B, H, Q, S)
    sparsity = sampled.amax(-1) - sampled.sum(-1) / keys
    active = sample_size(factor, queries)
    top = sparsity.topk(active, sorted=False).indices  # (B, H, U)

    scores = q[of_batch, of_head, top] @ k.transpose(2, 3) / math.sqrt(dim)  # (B, H, U, K)
    if causal:
        future = torch.ones(queries, keys, dtype=torch.bool).triu(1)
        future = future.expand(batch, heads, queries, keys)[of_batch, of_head, top]
        scores.masked_fill_(future, -math.inf)
        context = v.cumsum(2)
    else:
        context = v.mean(2, keepdim=True).expand(batch, heads, queries, dim).clone()
    context[of_batch, of_head, top] = scores.softmax(-1) @ v
    return context.transpose(1, 2).contiguous()


class ProbSparse(nn.Module):
    def __init__(self, factor: int, *, causal: bool) -> None:
        super().__init__()
        self.factor = factor
        self.causal = causal

    def forward(self, query: Tensor, key: Tensor, value: Tensor, sampler: KeySampler) -> Tensor:
        queries, keys = query.shape[1], key.shape[1]
        samples = sampler.draw(queries, keys, sample_size(self.factor, keys))
        return attention(query, key, value, samples, factor=self.factor, causal=self.causal)


class Full(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, sampler: KeySampler) -> Tensor:
        del sampler
        scores = torch.einsum("bqhe,bkhe->bhqk", query, key) / math.sqrt(query.shape[-1])
        weights = self.dropout(scores.softmax(-1))
        return torch.einsum("bhqk,bkhe->bqhe", weights, value).contiguous()


class AttentionLayer(nn.Module):
    def __init__(self, attention: nn.Module, dim: int, heads: int, *, mix: bool = False) -> None:
        super().__init__()
        self.attention = attention
        self.heads = heads
        self.mix = mix
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, memory: Tensor, sampler: KeySampler) -> Tensor:
        q = self.query(x).unflatten(-1, (self.heads, -1))
        k = self.key(memory).unflatten(-1, (self.heads, -1))
        v = self.value(memory).unflatten(-1, (self.heads, -1))
        y = self.attention(q, k, v, sampler)
        if self.mix:
            y = y.transpose(1, 2).contiguous()
        return self.out(y.view(x.shape))


class FeedForward(nn.Module):
    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.up = nn.Conv1d(config.d_model, config.d_ff, 1)
        self.down = nn.Conv1d(config.d_ff, config.d_model, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.gelu(self.up(x.transpose(1, 2))))  # (B, d_ff, L)
        return self.dropout(self.down(hidden).transpose(1, 2))


class EncoderLayer(nn.Module):
    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        dim = config.d_model
        inner = ProbSparse(config.factor, causal=False)
        self.attention = AttentionLayer(inner, dim, config.n_heads)
        self.mlp = FeedForward(config)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, sampler: KeySampler) -> Tensor:
        x = self.norm1(x + self.dropout(self.attention(x, x, sampler)))
        return self.norm2(x + self.mlp(x))


class DistilLayer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm1d(dim)
        self.activation = nn.ELU()
        self.pool = nn.MaxPool1d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.activation(self.norm(self.conv(x.transpose(1, 2))))).transpose(1, 2)


class Encoder(nn.Module):
    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        depth = config.depths[0]
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(depth))
        self.distil = nn.ModuleList(DistilLayer(config.d_model) for _ in range(depth - 1))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, sampler: KeySampler) -> Tensor:
        for layer, distil in zip(self.layers, self.distil, strict=False):
            x = distil(layer(x, sampler))
        return self.norm(self.layers[-1](x, sampler))


class DecoderLayer(nn.Module):
    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        dim, heads = config.d_model, config.n_heads
        inner = ProbSparse(config.factor, causal=True)
        self.self_attention = AttentionLayer(inner, dim, heads, mix=True)
        self.cross_attention = AttentionLayer(Full(config.dropout), dim, heads)
        self.mlp = FeedForward(config)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, memory: Tensor, sampler: KeySampler) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attention(x, x, sampler)))
        x = self.norm2(x + self.dropout(self.cross_attention(x, memory, sampler)))
        return self.norm3(x + self.mlp(x))


class Decoder(nn.Module):
    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.d_layers))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, memory: Tensor, sampler: KeySampler) -> Tensor:
        for layer in self.layers:
            x = layer(x, memory, sampler)
        return self.norm(x)


class DataEmbedding(nn.Module):
    table: Tensor

    def __init__(self, columns: int, config: InformerConfig) -> None:
        super().__init__()
        dim = config.d_model
        self.value = nn.Conv1d(columns, dim, 3, padding=1, padding_mode="circular")
        self.calendar = nn.Linear(config.features, dim)
        self.register_buffer("table", sinusoidal_positions(LONGEST, dim), persistent=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mark: Tensor) -> Tensor:
        value = self.value(x.transpose(1, 2)).transpose(1, 2)  # (B, L, D)
        return self.dropout(value + self.table[: x.shape[1]] + self.calendar(mark))


class PublishedInformer(nn.Module):
    """The network with ProbSparse attention, "timeF" calendar, distilling and mix."""

    def __init__(self, config: InformerConfig) -> None:
        super().__init__()
        self.out_len = config.out_len
        self.enc_embedding = DataEmbedding(config.enc_in, config)
        self.dec_embedding = DataEmbedding(config.dec_in, config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.projection = nn.Linear(config.d_model, config.c_out)

    def forward(
        self,
        x_enc: Tensor,
        x_mark_enc: Tensor,
        x_dec: Tensor,
        x_mark_dec: Tensor,
        key_samples: list[Tensor] | None = None,
    ) -> Tensor:
        """Same as `sigform_forecast.informer.Informer.forward`."""
        sampler = KeySampler(key_samples)
        memory = self.encoder(self.enc_embedding(x_enc, x_mark_enc), sampler)
        y = self.decoder(self.dec_embedding(x_dec, x_mark_dec), memory, sampler)
        return self.projection(y)[:, -self.out_len :]

    def load_ours(self, state: Mapping[str, Tensor]) -> None:
        """Take the parameters of our Informer, whose feed-forwards are linear layers."""
        own = self.state_dict()
        self.load_state_dict({name: tensor.view_as(own[name]) for name, tensor in state.items()})
