"""Speed of the scan over spiking neurons beside a plain loop with autograd."""

from collections.abc import Callable

import pytest
import torch
from benchmarks.measure import apart, median_seconds
from torch import Tensor

from sigform_eeg.lif import lif_scan

WIDTH, STEPS, TURNS = 256, 128, 15


class Spike(torch.autograd.Function):
    """A step whose slope is that of a sigmoid of steepness 4, as published code writes it."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(x)
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # noqa: ANN001
        soft = torch.sigmoid(4 * ctx.saved_tensors[0])
        return grad * 4 * soft * (1 - soft)


def plain_loop(x: Tensor) -> Tensor:
    v, spikes = torch.zeros_like(x[0]), []
    for now in x:
        v = v + (now - v) / 2
        spike = Spike.apply(v - 1)
        v = v * (1 - spike.detach())
        spikes.append(spike)
    return torch.stack(spikes)


def step(scan: Callable[[Tensor], Tensor], batch: int, *, backward: bool) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    x = 1.5 * torch.randn(STEPS, batch, WIDTH, generator=generator)
    weight = torch.randn(STEPS, batch, WIDTH, generator=generator)

    def forward() -> None:
        with torch.no_grad():
            scan(x)

    def both() -> None:
        leaf = x.detach().requires_grad_()
        (scan(leaf) * weight).sum().backward()

    return both if backward else forward


def lif_seconds(batch: int, backward: bool) -> dict[str, float]:
    steps = {
        "ours": step(lambda x: lif_scan(x)[0], batch, backward=backward),
        "plain": step(plain_loop, batch, backward=backward),
    }
    return median_seconds(steps, TURNS)


@pytest.mark.benchmark
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("batch", [1, 8])
def test_the_scan_is_five_times_faster_than_a_plain_loop(batch: int, backward: bool) -> None:
    figures = apart(lif_seconds, batch, backward)
    assert figures["plain"] >= 5 * figures["ours"], figures
