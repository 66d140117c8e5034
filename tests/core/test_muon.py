"""The joint optimizer steps as its two parts would, and resumes where it was."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon

from sigform_core.muon import MuonAdamW


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 4))


def split(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    values = list(module.parameters())
    return [v for v in values if v.ndim == 2], [v for v in values if v.ndim != 2]


def joint(module: nn.Module) -> MuonAdamW:
    return MuonAdamW(*split(module), lr=0.01, weight_decay=0.1)


def advance(module: nn.Module, *optimizers: torch.optim.Optimizer, seed: int) -> Tensor:
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(seed))

    def closure() -> Tensor:
        module.zero_grad()
        loss = (module(x) - x[:, :4].roll(1, 1)).square().mean()
        loss.backward()
        return loss

    if len(optimizers) == 1:
        return optimizers[0].step(closure)  # pyright: ignore[reportReturnType]
    loss = closure()
    for optimizer in optimizers:
        optimizer.step()
    return loss


def test_steps_are_those_of_both_parts() -> None:
    ours, theirs = network(), network()
    together = joint(ours)
    matrices, others = split(theirs)
    muon = Muon(matrices, lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adamw = AdamW(others, lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    losses = [advance(ours, together, seed=step) for step in range(5)]
    for step in range(5):
        advance(theirs, muon, adamw, seed=step)
    assert all(loss is not None for loss in losses)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_saved_state_goes_on_to_the_last_bit() -> None:
    straight = network()
    optimizer = joint(straight)
    for step in range(3):
        advance(straight, optimizer, seed=step)
    resumed = copy.deepcopy(straight)
    again = joint(resumed)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        advance(straight, optimizer, seed=step)
        advance(resumed, again, seed=step)
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_schedule_reaches_both_parts() -> None:
    module = network()
    optimizer = joint(module)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step else 1.0)
    advance(module, optimizer, seed=0)
    schedule.step()
    before = [value.clone() for value in module.parameters()]
    advance(module, optimizer, seed=1)
    for was, now in zip(before, module.parameters(), strict=True):
        assert torch.equal(was, now)


def test_a_matrix_needs_two_dimensions() -> None:
    with pytest.raises(ValueError, match="2D"):
        MuonAdamW([nn.Parameter(torch.zeros(3))], [nn.Parameter(torch.zeros(3))], lr=0.1)
