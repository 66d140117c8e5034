"""The scan over neurons against a plain loop with autograd."""

import pytest
import torch
from torch import Tensor

from sigform_eeg import lif
from sigform_eeg.lif import Lif, lif_scan
from sigform_eeg.stream_state import name_streams


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.alpha = alpha
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        soft = torch.sigmoid(ctx.alpha * ctx.saved_tensors[0])
        return grad * ctx.alpha * soft * (1 - soft), None


def plain_loop(
    x: Tensor, v: Tensor, tau: float, threshold: float, alpha: float = 4.0
) -> tuple[Tensor, Tensor]:
    spikes = []
    for now in x:
        v = v + (now - v) / tau
        spike = Spike.apply(v - threshold, alpha)
        v = v * (1 - spike.detach())
        spikes.append(spike)
    return torch.stack(spikes), v


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return 1.5 * torch.randn(shape, dtype=dtype), 0.5 * torch.randn(shape[1:], dtype=dtype)


def both(scan, x: Tensor, v: Tensor, **settings: float) -> tuple[Tensor, ...]:
    x, v = x.clone().requires_grad_(), v.clone().requires_grad_()
    spikes, last = scan(x, v, **settings)
    torch.manual_seed(1)
    (spikes * torch.randn_like(spikes)).sum().backward()
    assert x.grad is not None
    assert v.grad is not None
    return spikes.detach(), last.detach(), x.grad, v.grad


@pytest.mark.parametrize(("tau", "threshold"), [(2.0, 1.0), (2.0, 0.5), (1.0, 1.0), (7.3, 0.2)])
@pytest.mark.parametrize("shape", [(128, 2, 256), (1, 3, 5), (40, 7), (9, 1, 40_000)])
@pytest.mark.parametrize("by_numpy", [True, False])
def test_the_scan_equals_a_plain_loop(
    tau: float,
    threshold: float,
    shape: tuple[int, ...],
    by_numpy: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not by_numpy:  # what runs on a GPU
        monkeypatch.setattr(lif, "_charge_by_numpy", lif._charge)
        monkeypatch.setattr(lif, "_add_later_by_numpy", lif._add_later)
    x, v = draw(*shape, dtype=torch.float64)
    found = both(lif_scan, x, v, tau=tau, threshold=threshold)
    wanted = both(plain_loop, x, v, tau=tau, threshold=threshold)
    assert 0.02 < wanted[0].mean() < 0.6
    assert torch.equal(found[0], wanted[0])
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_single_precision() -> None:
    x, v = draw(128, 2, 256)
    found, wanted = (both(scan, x, v, tau=2.0, threshold=1.0) for scan in (lif_scan, plain_loop))
    assert torch.equal(found[0], wanted[0])
    for one, other in zip(found[1:], wanted[1:], strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_steepness() -> None:
    x, v = draw(20, 3, dtype=torch.float64)
    settings = {"tau": 2.0, "threshold": 1.0, "alpha": 1.3}
    found, wanted = both(lif_scan, x, v, **settings), both(plain_loop, x, v, **settings)
    assert torch.allclose(found[2], wanted[2], rtol=1e-9)


def test_without_gradients_it_is_the_same() -> None:
    x, v = draw(50, 2, 33)
    wanted, last = lif_scan(x.clone().requires_grad_(), v)
    found, also_last = lif_scan(x, v)
    assert torch.equal(found, wanted)
    assert torch.equal(last, also_last)
    assert not found.requires_grad
    assert not last.requires_grad


def test_inputs_stay_as_they_were() -> None:
    x, v = draw(20, 2, 3)
    before = x.clone(), v.clone()
    lif_scan(x, v)
    leaf = x.clone().requires_grad_()
    lif_scan(leaf, v)[0].sum().backward()
    assert torch.equal(x, before[0])
    assert torch.equal(v, before[1])
    assert torch.equal(leaf.detach(), x)


def test_twice_over_one_graph() -> None:
    x, v = draw(60, 2, 8)
    leaf = x.requires_grad_()
    spikes = lif_scan(leaf, v)[0]
    weight = torch.randn_like(spikes)
    first, second = (
        torch.autograd.grad(spikes, leaf, weight, retain_graph=True)[0].clone() for _ in range(2)
    )
    assert torch.equal(first, second)


def test_membranes_that_are_not_contiguous() -> None:
    x, v = draw(8, 30, 4)
    turned, start = x.permute(1, 0, 2), torch.zeros(8, 4)
    wanted = both(lif_scan, turned.contiguous(), start)
    for one, other in zip(both(lif_scan, turned, start), wanted, strict=True):
        assert torch.equal(one, other)
    strided = lif_scan(x, v.t().contiguous().t())
    assert torch.equal(strided[0], lif_scan(x, v)[0])


def test_in_pieces_it_is_the_same() -> None:
    x, v = draw(50, 2, 33)
    whole, last = lif_scan(x, v)
    first, between = lif_scan(x[:17], v)
    second, end = lif_scan(x[17:], between)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(end, last)


def test_no_steps_at_all() -> None:
    x = torch.zeros(0, 2, 3, requires_grad=True)
    spikes, last = lif_scan(x, torch.ones(2, 3))
    assert spikes.shape == (0, 2, 3)
    assert torch.equal(last, torch.ones(2, 3))
    spikes.sum().backward()
    assert x.grad is not None


def test_half_precision_is_integrated_in_single() -> None:
    x, _ = draw(200, 4, 16)
    spikes, last = lif_scan(x.bfloat16())
    assert spikes.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    assert torch.equal(spikes.float(), lif_scan(x.bfloat16().float())[0])


def test_a_layer_of_neurons() -> None:
    layer = Lif(3, tau=2.0, threshold=0.5)
    name_streams(layer)
    x, _ = draw(10, 2, 3)
    carry = layer.start(2, x)
    parts = [layer(part, carry) for part in x.split(4)]
    assert torch.equal(torch.cat(parts), layer(x))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tau": 0.5}, r"tau is 0\.5; needs 1 or more"),
        ({"threshold": 0.0}, r"threshold is 0\.0; needs more than 0"),
    ],
)
def test_bad_settings(settings: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Lif(3, **settings)
