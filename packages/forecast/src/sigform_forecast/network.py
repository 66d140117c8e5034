"""Informer made fit for real series: windows normalised, a residual on the seasonal profile.

The published network sees values in the units of the training part, and drifts with them. Here
every window is shifted by its last value and divided by its own spread, and both are undone at the
output (in the manner of RevIN, Kim et al., ICLR 2022). What is left of seasonality is taken by a
small linear model whose weights are solved for, not trained; Informer adds what that cannot say.

Letters of shapes: B batch, L look-back steps, T horizon steps, C past covariates, G known
covariates, F calendar features, K features of the profile.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sigform_core.linear import solve
from sigform_forecast.informer import Informer, InformerConfig
from sigform_forecast.panel import Batch

MOST_SEASONS = 14  # seasons that the profile reads at most
MOST_RECENT = 24  # most recent values that it reads at most
RIDGE = 1e-4  # of the mean square of a feature: enough to keep the solution of few windows tame
SHRINKAGE = 0.1  # likewise, for how far the weights of one step may leave those of all steps


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What a network for real series is made of; lengths in steps.

    `past` and `known` count covariates; `marks` counts calendar features. `profile` turns the
    seasonal part on; it reads `seasons` seasons of `season_length` steps.
    """

    look_back: int
    horizon: int
    season_length: int = 1
    profile: bool = True
    past: int = 0
    known: int = 0
    marks: int = 4
    d_model: int = 64
    n_heads: int = 4
    e_layers: int = 2
    d_layers: int = 1
    d_ff: int = 256
    factor: int = 5
    dropout: float = 0.1
    attn: str = "prob"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("look_back", "horizon", "season_length", "marks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs at least 1")

    @property
    def label_len(self) -> int:
        """Known steps that the decoder starts from."""
        return min(self.look_back, max(self.horizon, self.look_back // 2))

    @property
    def seasons(self) -> int:
        """Whole seasons of the look-back that the profile reads."""
        return max(1, min(self.look_back // self.season_length, MOST_SEASONS))

    @property
    def recent(self) -> int:
        """Values before the last one that the profile reads besides; a season of one has them."""
        return max(0, min(self.season_length, self.look_back, MOST_RECENT) - 1)

    def informer(self) -> InformerConfig:
        """The configuration of the network inside."""
        return InformerConfig(
            enc_in=1 + self.past,
            dec_in=1 + self.past,
            c_out=1,
            seq_len=self.look_back,
            label_len=self.label_len,
            out_len=self.horizon,
            factor=self.factor,
            d_model=self.d_model,
            n_heads=self.n_heads,
            e_layers=self.e_layers,
            d_layers=self.d_layers,
            d_ff=self.d_ff,
            dropout=self.dropout,
            attn=self.attn,
            embed="timeF",
            mark_dim=self.marks + self.known,
            sample_seed=self.seed,
        )


def normalise(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """values (B, L, 1 + C) -> window (B, L), its last value and its spread, each (B, 1)."""
    series = values[:, :, 0]
    level = series[:, -1:]
    scale = (series.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    return (series - level) / scale, level, scale


class SeasonalProfile(nn.Module):
    """A linear forecast from the same phase of each past season; its weights are solved for.

    Features of a step, all relative to the last value: the value at its phase in each of the
    seasons read, the mean of the last season and of the season before, the drift between them
    carried on, the most recent values, and for each known covariate its value at the step and its
    mean over the last season. The weights (T, K) are shared by all series; those of a step are
    drawn towards what fits all steps.
    """

    weight: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        size = config.seasons + 3 + config.recent + 2 * config.known
        self.register_buffer("weight", torch.zeros(config.horizon, size))

    def features(self, window: Tensor, known: Tensor, scale: Tensor) -> Tensor:
        """window (B, L) normalised, known (B, L + T, G), scale (B, 1) -> (B, T, K)."""
        config = self.config
        length, horizon = min(config.season_length, window.shape[1]), config.horizon
        seasons = max(1, min(config.seasons, window.shape[1] // length))
        past = window[:, -seasons * length :].unflatten(1, (seasons, length))  # (B, S, M)
        phase = torch.arange(horizon, device=window.device)
        phases = past[:, :, phase % length].transpose(1, 2)  # (B, T, S)
        means = past.mean(2)  # (B, S)
        last, before = means[:, -1:], means[:, -2:-1] if seasons > 1 else means[:, -1:]
        drift = (last - before) / length * (phase + 1)  # (B, T)
        level = torch.stack([last.expand_as(drift), before.expand_as(drift), drift], 2)
        recent = window[:, window.shape[1] - 1 - config.recent : -1]  # (B, R)
        parts = [phases, level, recent.unsqueeze(1).expand(-1, horizon, -1)]
        if config.known:
            # Covariates act in the units of the series, the window is in units of its spread.
            future = known[:, -horizon:] / scale.unsqueeze(2)  # (B, T, G)
            lately = known[:, -horizon - length : -horizon].mean(1, keepdim=True)
            parts += [future, (lately / scale.unsqueeze(2)).expand_as(future)]
        return torch.cat(parts, 2)

    def forward(self, window: Tensor, known: Tensor, scale: Tensor) -> Tensor:
        """Return (B, T), in the units of the normalised window."""
        return (self.features(window, known, scale) * self.weight).sum(2)

    def solve(self, batches: Iterable[Batch]) -> None:
        """Set the weights to the least squared error over these windows, by ridge regression."""
        horizon, size = self.weight.shape
        gram = torch.zeros(horizon, size, size, dtype=torch.float64)
        cross = torch.zeros(horizon, size, 1, dtype=torch.float64)
        for values, _, known, target in batches:
            window, level, scale = normalise(values)
            features = self.features(window, known, scale) * scale.unsqueeze(2)  # (B, T, K)
            inputs = features.transpose(0, 1).double()  # (T, B, K)
            gram += inputs.mT @ inputs
            cross += inputs.mT @ (target - level).T.unsqueeze(2).double()
        one = torch.eye(size, dtype=torch.float64)
        unit = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]  # (T, 1, 1)
        # Windows that never move have no gram at all; this keeps their solution at zero.
        unit = unit + torch.finfo(torch.float32).tiny
        shared = solve(gram.sum(0) + RIDGE * unit.sum() * one, cross.sum(0))  # (K, 1)
        own = solve(gram + SHRINKAGE * unit * one, cross - gram @ shared)
        self.weight.copy_((shared + own).squeeze(2).float())


class ForecastNetwork(nn.Module):
    """A scaled window in, the scaled horizon out, whatever the window's level and spread.

    `forward(values, marks, known)`: values (B, L, 1 + C) with the series in the first column,
    marks (B, L + T, F), known (B, L + T, G); returns (B, T), float32. Informer's output starts at
    zero, so that a new network returns the profile's forecast, or without one the last value.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.informer = Informer(config.informer())
        self.profile = SeasonalProfile(config) if config.profile else None
        nn.init.zeros_(self.informer.projection.weight)
        nn.init.zeros_(self.informer.projection.bias)

    def forward(self, values: Tensor, marks: Tensor, known: Tensor) -> Tensor:
        start, change = self.parts(values, marks, known)
        return start + change

    def parts(self, values: Tensor, marks: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """What the forecast starts from, and what Informer adds to it, both (B, T)."""
        config = self.config
        window, level, scale = normalise(values)
        history = torch.cat([window.unsqueeze(2), values[:, :, 1:]], 2)  # (B, L, 1 + C)
        latest = history[:, config.look_back - config.label_len :]
        blank = history.new_zeros(history.shape[0], config.horizon, history.shape[2])
        calendar = torch.cat([marks, known], 2)  # (B, L + T, F + G)
        change = self.informer(
            history,
            calendar[:, : config.look_back],
            torch.cat([latest, blank], 1),
            calendar[:, config.look_back - config.label_len :],
        ).squeeze(2)  # (B, T)
        start = level.expand_as(change)
        if self.profile is not None:
            start = start + self.profile(window, known, scale) * scale
        return start, change * scale

    @torch.no_grad()
    def damp(self, gate: float) -> None:
        """Keep only a share of what Informer adds: its last layer is linear, so it is scaled."""
        self.informer.projection.weight.mul_(gate)
        self.informer.projection.bias.mul_(gate)
