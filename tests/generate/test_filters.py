import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sigform_generate.filters import blur, downsample, dwt, iwt, upsample

SIDES = [(2, 2), (4, 6), (10, 8)]


def plainly(x: Tensor, kernel: Tensor, up: int, down: int, before: int, after: int) -> Tensor:
    """Zeros between pixels, padding, a convolution (which mirrors the kernel), every `down`th."""
    B, C, H, W = x.shape
    spread = x.new_zeros(B, C, H * up, W * up)
    spread[..., ::up, ::up] = x
    padded = F.pad(spread, (before, after, before, after))
    weight = kernel.flip(0, 1).to(x).expand(C, 1, *kernel.shape)
    return F.conv2d(padded, weight, groups=C)[..., ::down, ::down]


def kernel() -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


@pytest.mark.parametrize(("H", "W"), SIDES)
def test_filters_equal_a_convolution(H: int, W: int) -> None:
    x = torch.randn(2, 3, H, W, dtype=torch.float64)
    torch.testing.assert_close(upsample(x), plainly(x, 4 * kernel(), 2, 1, 2, 1))
    torch.testing.assert_close(downsample(x), plainly(x, kernel(), 1, 2, 1, 1))
    torch.testing.assert_close(blur(x), plainly(x, kernel(), 1, 1, 2, 2))


@pytest.mark.parametrize(("H", "W"), SIDES)
def test_wavelets_equal_a_convolution(H: int, W: int) -> None:
    x = torch.randn(2, 3, H, W, dtype=torch.float64)
    low, high = torch.tensor([0.5, 0.5]) * 2**0.5, torch.tensor([-0.5, 0.5]) * 2**0.5
    pairs = ((low, low), (high, low), (low, high), (high, high))
    bands = [plainly(x, torch.outer(a, b), 1, 2, 0, 0) for a, b in pairs]
    torch.testing.assert_close(dwt(x), torch.cat(bands, dim=1), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("H", "W"), SIDES)
def test_wavelets_and_back_change_nothing(H: int, W: int) -> None:
    x = torch.randn(2, 3, H, W, dtype=torch.float64)
    torch.testing.assert_close(iwt(dwt(x)), x)


def test_all_are_twice_differentiable() -> None:
    x = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    for function in (upsample, downsample, blur, dwt, iwt):
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("function", [downsample, dwt])
def test_odd_sides_are_refused(function) -> None:
    with pytest.raises(ValueError, match="3x4; needs even sides"):
        function(torch.zeros(1, 3, 3, 4))


def test_bands_come_by_fours() -> None:
    with pytest.raises(ValueError, match="5 channels; needs a multiple of 4"):
        iwt(torch.zeros(1, 5, 2, 2))
