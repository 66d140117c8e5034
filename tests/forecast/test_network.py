"""The network for real series: windows in any unit, a profile that is solved, every length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from forecast.series import panel_of, seasonal, table
from torch import Tensor
from torch.nn import functional as F

from sigform_forecast.network import (
    ForecastNetwork,
    NetworkConfig,
    SeasonalProfile,
    normalise,
)
from sigform_forecast.panel import Batch, WindowSet, origins

TINY = NetworkConfig(
    look_back=24, horizon=6, season_length=12, d_model=8, n_heads=2, d_ff=16, dropout=0.0
)


def network(config: NetworkConfig, *, trained: bool = False) -> ForecastNetwork:
    """A network in evaluation mode; `trained` gives its output some weight."""
    torch.manual_seed(3)
    made = ForecastNetwork(config)
    if trained:
        torch.nn.init.normal_(made.informer.projection.weight, std=0.3)
        if made.profile is not None:
            made.profile.weight.normal_(std=0.3)
    return made.eval()


def random_batch(config: NetworkConfig, size: int = 2, seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    whole = config.look_back + config.horizon
    return Batch(
        values=torch.randn(size, config.look_back, 1 + config.past),
        marks=torch.rand(size, whole, config.marks) - 0.5,
        known=torch.randn(size, whole, config.known),
        target=torch.randn(size, config.horizon),
    )


def run(made: ForecastNetwork, batch: Batch) -> Tensor:
    with torch.no_grad():
        return made(batch.values, batch.marks, batch.known)


@pytest.mark.parametrize("profile", [True, False])
@pytest.mark.parametrize("attn", ["prob", "full"])
@pytest.mark.parametrize(("factor", "shift"), [(1.0, 5.0), (40.0, 0.0), (3.0, -200.0)])
def test_units_of_a_window_come_out_again(
    profile: bool, attn: str, factor: float, shift: float
) -> None:
    config = replace(TINY, profile=profile, attn=attn, past=1)
    made, batch = network(config, trained=True), random_batch(config)
    values = batch.values.clone()
    values[:, :, 0] = factor * values[:, :, 0] + shift
    expected = factor * run(made, batch) + shift
    got = run(made, batch._replace(values=values))
    assert torch.allclose(got, expected, atol=2e-4 * factor + 1e-4 * abs(shift))
    assert not torch.allclose(got, values[:, -1:, 0].expand_as(got), atol=0.1 * factor)


def test_a_flat_window_gives_nearly_its_value() -> None:
    made, batch = network(TINY, trained=True), random_batch(TINY)
    got = run(made, batch._replace(values=torch.full_like(batch.values, 7.0)))
    assert torch.allclose(got, torch.tensor(7.0), atol=0.02)


def test_a_new_network_without_profile_returns_the_last_value() -> None:
    made, batch = network(replace(TINY, profile=False)), random_batch(TINY)
    assert torch.equal(run(made, batch), batch.values[:, -1:, 0].expand(2, 6))


def test_a_new_network_returns_the_forecast_of_its_profile() -> None:
    made, batch = network(TINY), random_batch(TINY)
    assert made.profile is not None
    made.profile.weight.normal_()
    window, level, scale = normalise(batch.values)
    expected = made.profile(window, batch.known, scale) * scale + level
    assert torch.equal(run(made, batch), expected)
    assert not torch.equal(expected, level.expand(2, 6))


def windows(values: np.ndarray, config: NetworkConfig, **known: np.ndarray) -> WindowSet:
    panel = panel_of(table(values).assign(**known), known=list(known))
    first, last = np.array([config.look_back]), panel.lengths - config.horizon
    return WindowSet(panel, origins(panel, first, last), config.look_back, config.horizon)


def profile_error(profile: SeasonalProfile, batch: Batch) -> float:
    window, level, scale = normalise(batch.values)
    error = profile(window, batch.known, scale) * scale + level - batch.target
    return float(error.square().mean())


def test_solve_recovers_a_planted_seasonal_line() -> None:
    pattern = np.random.default_rng(0).normal(size=12)
    values = np.tile(pattern, 30) + 0.01 * np.arange(360)
    train, later = windows(values[:240], TINY), windows(values[240:], TINY)
    profile = SeasonalProfile(TINY)
    profile.solve([train.__getitems__(range(len(train)))])
    found = later.__getitems__(range(len(later)))
    assert profile_error(profile, found) < 1e-4 * float(found.target.var())


def test_solve_lies_between_shared_and_own_weights() -> None:
    """Least squares per step fits its windows best, one weight for all steps worst."""
    config = replace(TINY, known=1)
    batch = random_batch(config, size=60)
    profile = SeasonalProfile(config)
    profile.solve([Batch(*(p[:25] for p in batch)), Batch(*(p[25:] for p in batch))])
    window, level, scale = normalise(batch.values)
    inputs = (profile.features(window, batch.known, scale) * scale.unsqueeze(2)).double()
    wanted = (batch.target - level).double()
    shared = torch.linalg.lstsq(inputs.flatten(0, 1), wanted.flatten()).solution
    own = torch.linalg.lstsq(inputs.transpose(0, 1), wanted.T).solution  # (T, K)
    worst = float((inputs @ shared - wanted).square().mean())
    best = float(((inputs * own).sum(2) - wanted).square().mean())
    assert best < profile_error(profile, batch) < worst
    assert profile.weight.var(0).max() > 0, "steps should differ"


@pytest.mark.parametrize("length", [1, 2, 11])
def test_solve_stays_finite_on_flat_windows(length: int) -> None:
    config = replace(TINY, season_length=length)
    flat = windows(np.full(60, 3.0), config)
    profile = SeasonalProfile(config)
    profile.solve([flat.__getitems__(range(len(flat)))])
    assert profile.weight.isfinite().all()


def test_a_known_covariate_is_used_by_the_profile() -> None:
    promotion = (np.random.default_rng(1).random(400) < 0.2).astype(float)
    values = seasonal(400, noise=0.02) + 2.0 * promotion
    errors = {}
    for known in ({}, {"promotion": promotion}):
        config = replace(TINY, known=len(known))
        train = windows(values[:300], config, **{k: v[:300] for k, v in known.items()})
        later = windows(values[300:], config, **{k: v[300:] for k, v in known.items()})
        profile = SeasonalProfile(config)
        profile.solve([train.__getitems__(range(len(train)))])
        errors[len(known)] = profile_error(profile, later.__getitems__(range(len(later))))
    assert errors[1] < 0.3 * errors[0]


def test_the_known_future_reaches_informer() -> None:
    config = replace(TINY, known=2, profile=False)
    made, batch = network(config, trained=True), random_batch(config)
    changed = batch.known.clone()
    changed[:, -1] += 1.0
    assert not torch.equal(run(made, batch), run(made, batch._replace(known=changed)))


def test_past_covariates_reach_informer() -> None:
    config = replace(TINY, past=2)
    made, batch = network(config, trained=True), random_batch(config)
    changed = batch.values.clone()
    changed[:, 5, 2] += 3.0
    assert not torch.equal(run(made, batch), run(made, batch._replace(values=changed)))


@pytest.mark.parametrize("profile", [True, False])
@pytest.mark.parametrize("attn", ["prob", "full"])
def test_a_gradient_reaches_every_parameter(profile: bool, attn: str) -> None:
    config = replace(TINY, profile=profile, attn=attn, known=1, past=1)
    made, batch = network(config).train(), random_batch(config, size=4)
    optimizer = torch.optim.SGD(made.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.mse_loss(made(batch.values, batch.marks, batch.known), batch.target).backward()
        optimizer.step()
    for name, parameter in made.named_parameters():
        # A key's bias shifts all scores of a query alike, which softmax does not see.
        if not name.endswith("key.bias"):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("attn", ["prob", "full"])
def test_a_batch_of_two_equals_two_singles(attn: str) -> None:
    config = replace(TINY, attn=attn, known=1)
    made, batch = network(config, trained=True), random_batch(config)
    singles = [run(made, Batch(*(part[n : n + 1] for part in batch))) for n in range(2)]
    assert torch.allclose(run(made, batch), torch.cat(singles), atol=1e-5)


@pytest.mark.parametrize(
    ("look_back", "horizon", "season"),
    [(1, 1, 1), (2, 1, 1), (2, 7, 2), (3, 40, 24), (5, 3, 7), (7, 7, 3), (33, 19, 11), (10, 1, 10)],
)
def test_awkward_lengths(look_back: int, horizon: int, season: int) -> None:
    config = replace(TINY, look_back=look_back, horizon=horizon, season_length=season)
    made, batch = network(config, trained=True), random_batch(config)
    assert run(made, batch).shape == (2, horizon)
    profile = SeasonalProfile(config)
    profile.solve([batch])
    assert profile.weight.isfinite().all()
    made.train()
    F.mse_loss(made(batch.values, batch.marks, batch.known), batch.target).backward()


def test_profile_repeats_phases() -> None:
    """With all weight on the last season, the forecast is that season again."""
    config = replace(TINY, look_back=10, horizon=8, season_length=3)
    profile = SeasonalProfile(config)
    profile.weight[:, config.seasons - 1] = 1.0
    batch = random_batch(config)
    window, level, scale = normalise(batch.values)
    got = profile(window, batch.known, scale) * scale + level
    expected = torch.stack([batch.values[:, -3 + t % 3, 0] for t in range(8)], 1)
    assert torch.allclose(got, expected, atol=1e-5)


def test_overfits_eight_samples() -> None:
    config = replace(TINY, profile=False)
    batch = random_batch(config, size=8)
    made = network(config).train()
    optimizer = torch.optim.Adam(made.parameters(), 2e-2)
    losses = []
    for _ in range(250):
        optimizer.zero_grad()
        loss = F.mse_loss(made(batch.values, batch.marks, batch.known), batch.target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-20:]) < 0.1 * losses[0]


@pytest.mark.parametrize("name", ["look_back", "horizon", "season_length", "marks"])
def test_config_says_what_it_needs(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0; needs at least 1"):
        replace(TINY, **{name: 0})
