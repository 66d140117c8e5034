"""Speed of the scan over spiking neurons beside a plain loop with autograd."""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from benchmarks.measure import apart
from torch import Tensor

from sigform_eeg.lif import lif_scan

WIDTH, STEPS, TURNS = 256, 128, 31


class Spike(torch.autograd.Function):
    """A step whose slope is that of a sigmoid of steepness 4, as published code writes it."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
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


def lif_seconds(batch: int) -> dict[str, float]:
    """Median processor time of forward and backward, in turns."""
    generator = torch.Generator().manual_seed(0)
    x = 1.5 * torch.randn(STEPS, batch, WIDTH, generator=generator)
    gradient = torch.randn(STEPS, batch, WIDTH, generator=generator)
    scans: dict[str, Callable[[Tensor], Tensor]] = {
        "ours": lambda x: lif_scan(x)[0],
        "plain": plain_loop,
    }
    times: dict[str, list[float]] = {name: [] for name in scans}
    for turn in range(TURNS + 2):
        for name, scan in scans.items():
            leaf = x.detach().requires_grad_()
            start = time.process_time()
            torch.autograd.grad(scan(leaf), leaf, gradient)
            if turn >= 2:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


@pytest.mark.benchmark
@pytest.mark.parametrize("batch", [1, 8])
def test_the_scan_is_five_times_faster_than_a_plain_loop(batch: int) -> None:
    figures = apart(lif_seconds, batch)
    assert figures["plain"] >= 5 * figures["ours"], figures
