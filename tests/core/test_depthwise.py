"""The depthwise convolution beside torch's own, forward and backward."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sigform_core.depthwise import GRADIENT_FRAMES, depthwise

LENGTHS = [1, 7, GRADIENT_FRAMES, GRADIENT_FRAMES + 1, 700]


def inputs(
    length: int, channels: int, kernel: int = 5, batch: int = 2, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(length + channels)
    x = torch.randn(batch, length, channels, generator=draw).to(dtype)
    kernels = torch.randn(channels, 1, kernel, generator=draw)
    return x.requires_grad_(), kernels.requires_grad_()


def plain(x: Tensor, kernels: Tensor, dilation: int = 1) -> Tensor:
    out = F.conv1d(
        x.transpose(1, 2),
        kernels.to(x.dtype),
        padding=kernels.shape[-1] // 2 * dilation,
        dilation=dilation,
        groups=len(kernels),
    )
    return out.transpose(1, 2)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("channels", [1, 3, 32])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_it_is_the_plain_one(length: int, channels: int, dilation: int) -> None:
    both = inputs(length, channels)
    wanted, found = plain(*both, dilation), depthwise(*both, dilation=dilation)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    # Sums over the frames: their size, and so their rounding, grows with the length.
    weighs = torch.randn_like(wanted) / length**0.5
    wanted_grads = torch.autograd.grad((wanted * weighs).sum(), both)
    found_grads = torch.autograd.grad((found * weighs).sum(), both)
    for ours, theirs in zip(found_grads, wanted_grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("length", "channels"), [*((n, 32) for n in LENGTHS), (251, 16), (40, 8)])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_bfloat16_is_near_float32(length: int, channels: int, dilation: int) -> None:
    both = inputs(length, channels, dtype=torch.bfloat16)
    exact = [t.detach().float().requires_grad_() for t in both]
    found, wanted = depthwise(*both, dilation=dilation), plain(exact[0], exact[1], dilation)
    assert found.dtype == torch.bfloat16
    weighs = torch.randn_like(wanted).bfloat16()
    found_grads = torch.autograd.grad((found * weighs).sum(), both)
    wanted_grads = torch.autograd.grad((wanted * weighs).sum(), exact)
    assert [grad.dtype for grad in found_grads] == [torch.bfloat16, torch.float32]
    for ours, theirs in [(found, wanted), *zip(found_grads, wanted_grads, strict=True)]:
        assert (ours.float() - theirs).norm() < 0.01 * theirs.norm()


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_the_gradient_is_that_of_finite_differences(dilation: int) -> None:
    x, kernels = (t.detach().double().requires_grad_() for t in inputs(7, 3))

    def function(x: Tensor, kernels: Tensor) -> Tensor:
        return depthwise(x, kernels, dilation=dilation)

    assert torch.autograd.gradcheck(function, (x, kernels))


def test_a_kernel_longer_than_the_sequence() -> None:
    both = inputs(3, 4, kernel=17)
    torch.testing.assert_close(depthwise(*both), plain(*both), rtol=1e-5, atol=1e-5)
    ours, theirs = (
        torch.autograd.grad(out.square().sum(), both) for out in (depthwise(*both), plain(*both))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_tensors_that_do_not_lie_together() -> None:
    x, kernels = inputs(40, 6)
    for strange in (
        x.detach().transpose(1, 2).contiguous().transpose(1, 2),
        x.detach()[:, ::2, 1:4],
        x.detach().flip(1),
    ):
        strange.requires_grad_()
        both = strange, kernels[: strange.shape[-1]]
        wanted, found = plain(*both), depthwise(*both)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        # The gradient of a sum is one number, expanded.
        grads = (torch.autograd.grad(out.sum(), (strange, kernels)) for out in (found, wanted))
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("learns", [(True, False), (False, True)])
def test_only_the_gradients_that_are_wanted(learns: tuple[bool, bool]) -> None:
    x, kernels = (
        t.detach().requires_grad_(wanted) for t, wanted in zip(inputs(9, 3), learns, strict=True)
    )
    depthwise(x, kernels).sum().backward()
    assert (x.grad is not None, kernels.grad is not None) == learns


def test_no_gradient_of_the_gradient() -> None:
    x, kernels = inputs(9, 3)
    (grad,) = torch.autograd.grad(depthwise(x, kernels).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_leaves_the_dtype_to_x(dtype: torch.dtype) -> None:
    x, kernels = inputs(20, 3, dtype=dtype)
    outside = depthwise(x, kernels)
    grads = torch.autograd.grad(outside.sum(), (x, kernels))
    with torch.autocast("cpu", torch.bfloat16):
        inside = depthwise(x, kernels)
        again = torch.autograd.grad(inside.sum(), (x, kernels))
    assert inside.dtype == dtype
    assert torch.equal(inside, outside)
    assert all(torch.equal(a, b) for a, b in zip(grads, again, strict=True))


@pytest.mark.parametrize("kernel", [2, 4])
def test_an_even_kernel_is_refused(kernel: int) -> None:
    with pytest.raises(ValueError, match=f"length {kernel}; needs an odd one"):
        depthwise(*inputs(9, 3, kernel=kernel))
