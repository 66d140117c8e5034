"""The two-layer feed-forward block of a transformer (arXiv 1706.03762, section 3.3)."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


class Mlp(nn.Module):
    """Linear, activation, dropout, linear, dropout over the last axis: (..., dim) -> (..., dim).

    Raises ValueError for an activation that is not in ACTIVATIONS.
    """

    def __init__(
        self, dim: int, hidden: int, *, activation: str = "gelu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; needs one of {sorted(ACTIVATIONS)}")
        self.up = Linear(dim, hidden)
        self.down = Linear(hidden, dim)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.up(x)))
        return self.dropout(self.down(hidden))
