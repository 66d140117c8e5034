"""From EEG to tokens, causally: the power of learnt rhythms, some twenty times a second.

Learnt mixtures of the channels, a learnt filter for each, the squares' mean over the last half
second or so, its logarithm: the power features of motor imagery (as in Schirrmeister et al., arXiv
1703.05051), of which none looks ahead.

Shapes: B recordings, C channels, T samples, F rhythms, N tokens.
"""

import torch
from torch import Tensor, nn

from sigform_core.depthwise import depthwise
from sigform_core.linear import linear
from sigform_eeg.stream_state import Carry, Streamed, StreamState, carry_on, initial_state

LEAST_POWER = 1e-6
"""Added to mean squares, in the square of the input's unit."""


class PowerTokens(Streamed):
    """Samples (B, C, T) -> tokens (B, F, T // stride), the log power of F rhythms, normed.

    Token n is of the `window` samples up to sample (n + 1) * stride, of fewer at the beginning.
    A `kernel` of samples filters each of the F mixtures. Raises ValueError for another number of
    channels or too few samples.
    """

    def __init__(
        self, n_chans: int, features: int, *, kernel: int, stride: int, window: int
    ) -> None:
        super().__init__()
        sizes = {"n_chans": n_chans, "features": features, "kernel": kernel, "stride": stride}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; needs 1 or more")
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel} samples; needs an odd number")
        if window < stride or window % stride:
            raise ValueError(f"window is {window} samples; needs a multiple of stride, {stride}")
        self.n_chans = n_chans
        self.features = features
        self.kernel = kernel
        self.stride = stride
        self.window = window
        self.spatial = nn.Parameter(torch.empty(features, n_chans))
        self.temporal = nn.Parameter(torch.empty(features, kernel))  # oldest first
        self.norm = nn.BatchNorm1d(features)
        nn.init.orthogonal_(self.spatial)
        nn.init.kaiming_uniform_(self.temporal, a=5**0.5)

    @property
    def blocks(self) -> int:
        """Strides in a window."""
        return self.window // self.stride

    def start(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        return {
            f"{self.key}.samples": like.new_zeros(batch, self.kernel - 1, self.features),
            f"{self.key}.squares": like.new_zeros(batch, self.blocks - 1, self.features),
            f"{self.key}.count": torch.zeros((), dtype=torch.int64),
        }

    def forward(self, x: Tensor) -> Tensor:
        self.check(x, self.stride)
        return self.tokens(x).permute(1, 2, 0)

    def initial_state(self, batch: int = 1) -> StreamState:
        """The state before the first sample of `batch` recordings."""
        return initial_state(self, batch)

    @torch.no_grad()
    def step(self, samples: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """The next samples (B, C, n), any n -> the tokens they complete (B, F, n') and the state.

        Raises ValueError in training mode, and for a state of another layer or batch.
        """
        self.check(samples)
        carry = carry_on(self, state, len(samples))
        tokens = self.tokens(samples, carry)
        return tokens.permute(1, 2, 0), StreamState(carry, state.batch)

    def check(self, x: Tensor, least: int = 0) -> None:
        """Raises ValueError unless x is (B, C, T) with `least` samples or more."""
        if x.dim() != 3 or x.shape[1] != self.n_chans or x.shape[2] < least:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; "
                f"needs (B, {self.n_chans}, T) with {least} samples or more"
            )

    def tokens(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """The tokens (N, B, F) that samples x (B, C, T) complete, time first."""
        memory = self.start(len(x), x) if carry is None else carry
        names = (f"{self.key}.samples", f"{self.key}.squares", f"{self.key}.count")
        seen, squares, count = (memory[name] for name in names)
        samples = torch.cat([seen, linear(x.transpose(1, 2), self.spatial)], dim=1)  # (B, T, F)
        made = (samples.shape[1] - self.kernel + 1) // self.stride
        used = made * self.stride
        if made:
            reach = self.kernel // 2
            filtered = depthwise(samples[:, : self.kernel - 1 + used], self.temporal.unsqueeze(1))
            rhythms = filtered[:, reach : reach + used].unflatten(1, (made, self.stride))
            squares = torch.cat([squares, rhythms.square().sum(2)], dim=1)  # (B, N, F)
        if carry is not None:
            kept = squares.shape[1] - self.blocks + 1
            after = (samples[:, used:].clone(), squares[:, kept:].clone(), count + made)
            carry.update(zip(names, after, strict=True))
        if not made:
            return x.new_zeros(0, len(x), self.features)
        power = squares.unfold(1, self.blocks, 1).sum(-1)  # (B, N, F)
        strides = torch.arange(1, made + 1) + int(count)
        covered = self.stride * strides.clamp(max=self.blocks)
        logs = (power / covered[:, None].to(power) + LEAST_POWER).log()
        return self.norm(logs.transpose(1, 2)).permute(2, 0, 1)

    def multiply_accumulates(self) -> int:
        """Multiplications by weights for one token, and those of the squares."""
        return self.stride * self.features * (self.n_chans + self.kernel + 1)
