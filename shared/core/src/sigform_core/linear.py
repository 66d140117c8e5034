"""The linear layer through whichever library multiplies faster on this processor.

MKL leaves an AMD processor's AVX-512 unused, and torch gives a 1x1 convolution on one thread to
MKL too. oneDNN uses it: as a convolution over tokens that lie one after the other it reads and
writes them in place, measured 2 to 2.9 times faster than `F.linear` at widths from 48 to 256.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

ONEDNN_PRODUCTS = 1 << 20
"""Multiplications below which handing over to oneDNN costs more than it saves."""

ONEDNN_BATCHED = 1 << 24
"""The same for each of a batch of products, which are handed over one by one."""


@cache
def is_onednn_faster() -> bool:
    """Whether oneDNN multiplies faster than MKL, which leaves an AMD processor's AVX-512 unused."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_f")) and "AMD" in str(cpu.get("cpu_name"))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`: x (..., D), weight (N, D), bias (N,) -> (..., N) in their dtype, on any device.

    Large float32 products on the CPU go through oneDNN where it is faster; the gradient keeps x
    and the weight only, and has no gradient of its own there.
    """
    large = x.numel() * weight.shape[0] >= ONEDNN_PRODUCTS
    if not (large and _by_onednn(x, weight)):
        return F.linear(x, weight, bias)
    tokens = x.reshape(-1, x.shape[-1])  # (T, D)
    return _OneDnnLinear.apply(tokens, weight, bias).view(*x.shape[:-1], -1)  # pyright: ignore


def product(a: Tensor, b: Tensor, total: Tensor | None = None) -> Tensor:
    """`torch.bmm`: a (B, M, K), b (B, K, N) -> (B, M, N), added to `total` if there is one.

    Goes through oneDNN as in `linear` where no gradients are kept; `total` is then overwritten.
    """
    large = a.shape[1] * a.shape[2] * b.shape[2] >= ONEDNN_BATCHED
    if torch.is_grad_enabled() or not (large and _by_onednn(a, b)):
        return torch.bmm(a, b) if total is None else torch.baddbmm(total, a, b)
    parts = (_mix_rows(left, right) for left, right in zip(a, b, strict=True))
    if total is not None:
        for one, part in zip(total, parts, strict=True):
            one += part
        return total
    return next(parts).unsqueeze(0) if len(a) == 1 else torch.stack(list(parts))


def solve(matrices: Tensor, answers: Tensor) -> Tensor:
    """`torch.linalg.solve`, without gradients: (..., N, N) and (..., N, K) -> (..., N, K).

    Through NumPy, since MKL on several threads was seen to fail or to hang on an AMD processor
    for matrices of some hundred rows. Raises numpy.linalg.LinAlgError for a singular matrix.
    """
    found = np.linalg.solve(matrices.detach().cpu().numpy(), answers.detach().cpu().numpy())
    return torch.from_numpy(found).to(matrices.device)


def _by_onednn(a: Tensor, b: Tensor) -> bool:
    plain = a.dtype == b.dtype == torch.float32 and a.device.type == "cpu"
    traced = torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
    return plain and not traced and is_onednn_faster()


def _mix_rows(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K), b (K, N) -> (M, N): rows of b are the channels of an image of N pixels."""
    rows = b.contiguous()[None, :, :, None]  # (1, K, N, 1)
    kernels = a[:, :, None, None]  # (M, K, 1, 1)
    return torch.mkldnn_convolution(rows, kernels, None, (0, 0), (1, 1), (1, 1), 1)[0, :, :, 0]


class Linear(nn.Linear):
    """The layer around `linear`: (..., D) -> (..., N)."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def _multiply(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """tokens (T, D), weight (N, D) -> (T, N), as a convolution over an image one pixel wide."""
    pixels = tokens[None, :, None].permute(0, 3, 1, 2)  # (1, D, T, 1), channels last
    kernels = weight[:, :, None, None]  # (N, D, 1, 1)
    out = torch.mkldnn_convolution(pixels, kernels, bias, (0, 0), (1, 1), (1, 1), 1)
    return out.permute(0, 2, 3, 1).reshape(len(tokens), len(weight))


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(tokens, weight)
        return _multiply(tokens, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        tokens, weight = ctx.saved_tensors
        needs_tokens, needs_weight, needs_bias = ctx.needs_input_grad
        grad = grad.contiguous()
        return (
            _multiply(grad, weight.t().contiguous(), None) if needs_tokens else None,
            grad.t() @ tokens if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )
