"""The Legendre memory: a window of the past as its coefficients on Legendre polynomials.

Voelker, Kajic and Eliasmith, "Legendre Memory Units" (NeurIPS 2019): m' = A m + B u keeps the last
`theta` tokens of a scalar u, here held constant over each token. A and B are fixed. As a sum over
the past it is a convolution with the impulse response H_k = A^k B (Chilkuri and Eliasmith, arXiv
2102.11417), made by an FFT for all tokens at once.

Shapes: N tokens, B sequences, M coefficients.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

from sigform_eeg.stream_state import Carry, Streamed


@lru_cache(maxsize=16)
def legendre_system(order: int, theta: float) -> tuple[Tensor, Tensor]:
    """A (M, M) and B (M,) in float64 for tokens 1 apart, a window of `theta` tokens, M = `order`.

    Raises ValueError when one of them is not positive.
    """
    if order < 1:
        raise ValueError(f"memory_size is {order}; needs 1 or more")
    if not theta > 0:
        raise ValueError(f"theta is {theta}; needs more than 0 tokens")
    # What is cached must serve training too, whoever asks first.
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        index = torch.arange(order, dtype=torch.float64)
        gain = (2 * index + 1) / theta
        i, j = index[:, None], index[None, :]
        signs = torch.where(i < j, -1.0, 1 - 2 * ((i - j + 1) % 2))
        # The exponential of both together holds u constant over a token.
        joint = torch.zeros(order + 1, order + 1, dtype=torch.float64)
        joint[:order, :order] = gain[:, None] * signs
        joint[:order, order] = gain * (1 - 2 * (index % 2))
        held = torch.linalg.matrix_exp(joint)
        return held[:order, :order].contiguous(), held[:order, order].contiguous()


def impulse_response(order: int, theta: float, length: int) -> Tensor:
    """H (N, M) in float64: H_k = A^k B for k below `length`."""
    power, b = legendre_system(order, theta)
    response = b[None]  # (1, M)
    while len(response) < length:
        response = torch.cat([response, response @ power.t()])
        power = power @ power
    return response[:length]


@lru_cache(maxsize=16)
def transfer(
    order: int, theta: float, length: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The spectrum of H padded to twice `length` tokens: (N + 1, 1, M), complex of `dtype`."""
    with torch.inference_mode(False), torch.no_grad():
        spectrum = torch.fft.rfft(impulse_response(order, theta, length), n=2 * length, dim=0)
        return spectrum[:, None].to(device, dtype.to_complex())


class LegendreMemory(Streamed):
    """u (N, B) -> its memory after every token (N, B, M), time first.

    Whole sequences by FFT, any N; a stream by the recurrence. 16-bit inputs are kept in float32.
    """

    a: Tensor
    b: Tensor

    def __init__(self, order: int, theta: float) -> None:
        super().__init__()
        self.order = order
        self.theta = theta
        a, b = legendre_system(order, theta)
        default = torch.get_default_dtype()
        self.register_buffer("a", a.to(default, copy=True), persistent=False)
        self.register_buffer("b", b.to(default, copy=True), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        # Anew from float64: a cast back would keep the rounding of float32.
        a, b = legendre_system(self.order, self.theta)
        self.a, self.b = a.to(self.a, copy=True), b.to(self.b, copy=True)
        return self

    def start(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        return {self.key: like.new_zeros(batch, self.order)}

    def forward(self, u: Tensor, carry: Carry | None = None) -> Tensor:
        if carry is None:
            return self.whole(u)
        memory, memories = carry[self.key], []
        for now in u.unbind(0):
            memory = torch.addr(memory @ self.a.t(), now, self.b)  # (B, M)
            memories.append(memory)
        carry[self.key] = memory
        return torch.stack(memories) if memories else u.new_zeros(0, u.shape[1], self.order)

    def whole(self, u: Tensor) -> Tensor:
        """The memory of sequences from their first token: u (N, B) -> (N, B, M)."""
        length = len(u)
        wide = u.float() if u.dtype in (torch.float16, torch.bfloat16) else u
        spectrum = torch.fft.rfft(wide, n=2 * length, dim=0)[..., None]  # (N + 1, B, 1)
        response = transfer(self.order, self.theta, length, wide.dtype, u.device)
        memories = torch.fft.irfft(spectrum * response, n=2 * length, dim=0)  # (2N, B, M)
        return memories[:length].to(u.dtype)

    def extra_repr(self) -> str:
        return f"{self.order}, theta={self.theta}"
