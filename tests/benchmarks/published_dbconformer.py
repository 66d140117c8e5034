"""DBConformer as its paper and the reference tensors have it, in plain layers, channels first."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_eeg.dbconformer import HEADS, DBConformerConfig


class Skip(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.fn = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(x)


class SelfAttention(nn.Module):
    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.keys = nn.Linear(dim, dim)
        self.queries = nn.Linear(dim, dim)
        self.values = nn.Linear(dim, dim)
        self.projection = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.queries, self.keys, self.values)
        )
        shares = (query @ key.transpose(-1, -2) / x.shape[-1] ** 0.5).softmax(dim=-1)
        return self.projection((self.dropout(shares) @ value).transpose(1, 2).flatten(2))


def transformer(dim: int, depth: int, dropout: float) -> nn.Sequential:
    def feed_forward() -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )

    return nn.Sequential(
        *(
            nn.Sequential(
                Skip(nn.LayerNorm(dim), SelfAttention(dim, dropout), nn.Dropout(dropout)),
                Skip(nn.LayerNorm(dim), feed_forward(), nn.Dropout(dropout)),
            )
            for _ in range(depth)
        )
    )


class Stem(nn.Module):
    """Filters over channels, then over time, each with its norm; one band."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.sconv = _normed(nn.Conv1d(channels, dim, 1, bias=False), dim)
        filters = nn.Conv1d(dim, dim, 63, padding=31, groups=dim, bias=False)
        self.tconv = nn.ModuleList([_normed(filters, dim)])

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.tconv[0].bn(self.tconv[0].conv(self.sconv.bn(self.sconv.conv(x)))))


def _normed(conv: nn.Conv1d, dim: int) -> nn.Module:
    pair = nn.Module()
    pair.conv, pair.bn = conv, nn.BatchNorm1d(dim)
    return pair


class PublishedDBConformer(nn.Module):
    """(B, C, T) -> (B, K): both branches, channel attention, as the released scripts build it."""

    def __init__(self, config: DBConformerConfig) -> None:
        super().__init__()
        C, D, dropout = config.n_chans, config.emb_size, config.drop_prob
        self.config = config
        self.embedding = nn.Module()
        self.embedding.stem = Stem(C, D)
        self.channel_embedding = nn.Module()
        self.channel_embedding.encoder = nn.Sequential(
            nn.Conv1d(1, config.spatial_dim, 25, stride=5, padding=12),
            nn.ELU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(config.spatial_dim, D),
        )
        self.pos_embedding_temporal = nn.Parameter(torch.randn(1, config.patches, D))
        self.pos_embedding_spatial = nn.Parameter(torch.randn(1, C, D))
        self.temporal_transformer = transformer(D, config.temporal_depth, dropout)
        self.spatial_transformer = transformer(D, config.spatial_depth, dropout)
        self.spatial_attn_pool = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, 1))
        self.classifier = nn.Module()
        self.classifier.fc = nn.Sequential(
            nn.Linear(2 * D, 64), nn.ELU(), nn.Dropout(dropout),
            nn.Linear(64, 32), nn.ELU(), nn.Dropout(min(dropout, 0.3)),
            nn.Linear(32, config.n_outputs),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        config = self.config
        patches = self.embedding.stem(x)[..., : config.patches * config.patch_size]
        patches = F.avg_pool1d(patches, config.patch_size, config.patch_size)
        patches = F.dropout(patches, config.drop_prob, self.training).transpose(1, 2)
        time = self.temporal_transformer(patches + self.pos_embedding_temporal).mean(dim=1)
        channels = torch.stack(
            self.channel_embedding.encoder(x.flatten(0, 1).unsqueeze(1)).split(x.shape[1])
        )
        channels = self.spatial_transformer(channels + self.pos_embedding_spatial)
        shares = self.spatial_attn_pool(channels).softmax(dim=1)
        space = (shares * channels).sum(dim=1)
        return self.classifier.fc(torch.cat([time, space], dim=-1))
