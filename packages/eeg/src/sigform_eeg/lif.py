"""Leaky integrate-and-fire neurons over a sequence, forward and backward without a graph per step.

Membrane: h = v + (x - v) / tau; a spike where h reaches the threshold; then v is h, or 0 after a
spike (hard reset). The gradient of a spike is that of a sigmoid of steepness alpha, and none goes
through the reset (Neftci et al., arXiv 1901.09948). Because of that, the gradient is a linear
recurrence: one operation a step backward, two forward.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from sigform_eeg.stream_state import Carry, Streamed

ALPHA = 4.0
"""Steepness of the sigmoid whose slope stands for a spike's."""


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
        negative, last = _integrate(currents, start, tau, threshold)
        spikes = _spikes(negative, threshold)
    return spikes.to(x.dtype), last


def _integrate(x: Tensor, v: Tensor, tau: float, threshold: float) -> tuple[Tensor, Tensor]:
    """The negative membranes before their reset (N, ...), and the last one after it (...).

    Negative because then torch's `threshold`, which keeps what lies above, is the whole reset.
    """
    keep = 1 - 1 / tau
    negative = x.mul(-1 / tau).contiguous()
    rest = v.neg().contiguous()
    for now in negative.unbind(0):
        now.add_(rest, alpha=keep)
        torch.threshold(now, -threshold, 0.0, out=rest)
    return negative, rest.neg_()


def _spikes(negative: Tensor, threshold: float) -> Tensor:
    return (negative <= -threshold).to(negative.dtype)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, v: Tensor, tau: float, threshold: float, alpha: float
    ) -> tuple[Tensor, Tensor]:
        negative, last = _integrate(x, v, tau, threshold)
        ctx.save_for_backward(negative)
        ctx.mark_non_differentiable(last)
        ctx.set_materialize_grads(False)
        ctx.settings = (tau, threshold, alpha)  # pyright: ignore[reportAttributeAccessIssue]
        return _spikes(negative, threshold), last

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor | None, _last: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 5
        (negative,) = ctx.saved_tensors
        tau, threshold, alpha = ctx.settings
        keep = 1 - 1 / tau
        soft = torch.sigmoid((negative + threshold).mul_(-alpha))
        total = torch.ops.aten.sigmoid_backward(grad.contiguous(), soft).mul_(alpha)
        # What of a membrane's gradient comes from the next one: none after a spike.
        passed = (negative > -threshold).to(total.dtype).mul_(keep)
        later = None
        for now, share in zip(
            reversed(total.unbind(0)), reversed(passed.unbind(0)), strict=True
        ):
            if later is not None:
                now.addcmul_(later, share)
            later = now
        before = None if later is None else later * keep
        return total.div_(tau), before, None, None, None


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
