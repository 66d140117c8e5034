"""Muon for the matrices of a network and AdamW for all else, as one optimizer.

Muon (Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks") makes every
step of a matrix nearly orthogonal. With steps scaled to AdamW's size (arXiv 2502.16982) both take
one learning rate.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


class MuonAdamW(Optimizer):
    """`matrices`, all of two dimensions, go by Muon and have the weight decay; `others` by AdamW.

    Raises ValueError for a matrix that is none.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        self.muon = Muon(
            matrices,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adamw = AdamW(others, lr=lr, betas=betas, weight_decay=0.0)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of both; the closure, as with every optimizer, computes the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Loading a state, and a schedule, replace what this optimizer holds.
        for part, group in zip((self.muon, self.adamw), self.param_groups, strict=True):
            part.param_groups = [group]
            part.state = self.state
            part.step()
        return loss
