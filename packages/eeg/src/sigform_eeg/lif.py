"""Leaky integrate-and-fire neurons over a sequence, forward and backward without a graph per step.

Membrane: h = v + (x - v) / tau; a spike where h reaches the threshold; then v is h, or 0 after a
spike (hard reset). The gradient of a spike is that of a sigmoid of steepness alpha, and none goes
through the reset (Neftci et al., arXiv 1901.09948). Because of that the gradient is a linear
recurrence, all of whose coefficients are known beforehand.
"""

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from sigform_eeg.stream_state import Carry, Streamed

ALPHA = 4.0
"""Steepness of the sigmoid whose slope stands for a spike's."""

PIECE = 1 << 15
"""Numbers that are worked on at a time, so that they stay in the cache."""

SIGMOID_SLOPE = torch.ops.aten.sigmoid_backward.grad_input
"""(gradient of a sigmoid, its value) -> the gradient of its input, into `grad_input`."""


def lif_scan(
    x: Tensor,
    v: Tensor | None = None,
    *,
    tau: float = 2.0,
    threshold: float = 1.0,
    alpha: float = ALPHA,
) -> tuple[Tensor, Tensor]:
    """Spikes (0 or 1) of input currents x (N, ...), time first, and the last membrane (...).

    `v` (...) is the membrane before, zeros if None. Gradients reach x and `v` from the spikes; the
    membrane that comes back has none. 16-bit currents are integrated in float32.
    """
    currents = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    start = currents.new_zeros(x.shape[1:]) if v is None else v.to(currents.dtype)
    if torch.is_grad_enabled() and (x.requires_grad or start.requires_grad):
        spikes, last = _Scan.apply(currents, start, tau, threshold, alpha)  # pyright: ignore
    else:
        spikes, last = _integrate(currents.detach(), start.detach(), tau, threshold)
    return spikes.to(x.dtype), last


def _piece_steps(x: Tensor) -> int:
    """Steps of x (N, ...) that stay in the cache from one operation to the next."""
    return max(PIECE // max(x[:1].numel(), 1), 1)


def _integrate(
    x: Tensor, v: Tensor, tau: float, threshold: float, membranes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Spikes (N, ...) and the last membrane (...); fills `membranes` with those before resets."""
    steps = _piece_steps(x)
    loop = _charge_by_numpy if x.device.type == "cpu" else _charge
    spikes = torch.empty_like(x, memory_format=torch.contiguous_format)
    room = torch.empty_like(spikes[:steps]) if membranes is None else membranes
    rest = v.clone(memory_format=torch.contiguous_format)
    for start in range(0, len(x), steps):
        currents = x[start : start + steps]
        at = 0 if membranes is None else start
        piece = torch.mul(currents, 1 / tau, out=room[at : at + len(currents)])
        loop(piece, rest, 1 - 1 / tau, threshold)
        torch.ge(piece, threshold, out=spikes[start : start + steps])
    return spikes, rest


def _charge(piece: Tensor, rest: Tensor, keep: float, threshold: float) -> None:
    """Turn what flows into membranes (n, ...) into them; `rest` (...) is what they rest at."""
    for now in piece.unbind(0):
        now.add_(rest, alpha=keep)
        torch.mul(now, now < threshold, out=rest)


def _charge_by_numpy(piece: Tensor, rest: Tensor, keep: float, threshold: float) -> None:
    """As `_charge`: on a CPU a call of torch takes longer than the work on one step."""
    left, below = rest.numpy(), np.empty(rest.shape, dtype=bool)
    number = left.dtype.type
    keep, threshold = number(keep), number(threshold)
    with np.errstate(all="ignore"):
        for now in piece.numpy():
            np.multiply(left, keep, out=left)
            np.add(now, left, out=now)
            np.less(now, threshold, out=below)
            np.multiply(now, below, out=left)


def _add_later(piece: Tensor, passed: Tensor, later: Tensor) -> None:
    """To each step's gradient (n, ...), last first, add the share that `passed` of the next."""
    for now, share in reversed(list(zip(piece.unbind(0), passed.unbind(0), strict=True))):
        later.copy_(now.addcmul_(later, share))


def _add_later_by_numpy(piece: Tensor, passed: Tensor, later: Tensor) -> None:
    following = later.numpy()
    room = np.empty_like(following)
    with np.errstate(all="ignore"):
        for now, share in zip(piece.numpy()[::-1], passed.numpy()[::-1], strict=True):
            np.multiply(following, share, out=room)
            following = np.add(now, room, out=now)
    later.copy_(piece[0])


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, v: Tensor, tau: float, threshold: float, alpha: float
    ) -> tuple[Tensor, Tensor]:
        membranes = torch.empty_like(x, memory_format=torch.contiguous_format)
        spikes, last = _integrate(x, v, tau, threshold, membranes)
        ctx.save_for_backward(x, v)
        ctx.mark_non_differentiable(last)
        ctx.set_materialize_grads(False)
        ctx.settings = (tau, threshold, alpha)  # pyright: ignore[reportAttributeAccessIssue]
        ctx.membranes = membranes  # pyright: ignore[reportAttributeAccessIssue]
        return spikes, last

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx, grad: Tensor | None, _last: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 5
        tau, threshold, alpha = ctx.settings
        # Fresh memory costs more than all arithmetic here: the gradient replaces the membranes,
        # which a second time over the same graph calculates anew.
        total, ctx.membranes = ctx.membranes, None
        if total is None:
            x, v = ctx.saved_tensors
            total = torch.empty_like(x, memory_format=torch.contiguous_format)
            _integrate(x, v, tau, threshold, total)
        keep, steps = 1 - 1 / tau, _piece_steps(total)
        loop = _add_later_by_numpy if total.device.type == "cpu" else _add_later
        soft_room, passed_room = torch.empty_like(total[:steps]), torch.empty_like(total[:steps])
        shift = total.new_tensor(-alpha * threshold)
        later = total.new_zeros(total.shape[1:])
        for start in reversed(range(0, len(total), steps)):
            piece = total[start : start + steps]
            # What of the next membrane's gradient comes back: none after a spike.
            passed = torch.lt(piece, threshold, out=passed_room[: len(piece)]).mul_(keep)
            soft = torch.add(shift, piece, alpha=alpha, out=soft_room[: len(piece)]).sigmoid_()
            SIGMOID_SLOPE(grad[start : start + steps], soft, grad_input=piece).mul_(alpha / tau)
            loop(piece, passed, later)
        return total, later * (keep * tau), None, None, None


class Lif(Streamed):
    """A layer of neurons: currents (N, B, C) -> spikes (N, B, C), time first."""

    def __init__(self, width: int, *, tau: float = 2.0, threshold: float = 1.0) -> None:
        super().__init__()
        if tau < 1:
            raise ValueError(f"tau is {tau}; needs 1 or more tokens")
        if threshold <= 0:
            raise ValueError(f"threshold is {threshold}; needs more than 0")
        self.width = width
        self.tau = tau
        self.threshold = threshold

    def start(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        return {self.key: like.new_zeros(batch, self.width)}

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        v = None if carry is None else carry[self.key]
        spikes, v = lif_scan(x, v, tau=self.tau, threshold=self.threshold)
        if carry is not None:
            carry[self.key] = v
        return spikes

    def extra_repr(self) -> str:
        return f"{self.width}, tau={self.tau}, threshold={self.threshold}"
