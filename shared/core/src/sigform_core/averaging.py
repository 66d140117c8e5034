"""Training that keeps a running average of the weights, at a rate that falls along a cosine.

Averaged weights end near where a longer, slower training would (Polyak and Juditsky, 1992).
Imports Lightning, so it is for modules that describe a training: `sigform-core[train]`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import lightning.pytorch as lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from sigform_core.weights import load_torch_checkpoint

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


class AveragedModule(lightning.LightningModule, Generic[AnyNetwork]):
    """`network` learns; `average`, in eval mode, follows it after every step of the optimizer.

    `averaging` is the share of the average that a step keeps, 0 to 1. What is frozen from the
    start is in memory once. Modules that step several optimizers use `averaged` and `follow`.
    """

    def __init__(self, network: AnyNetwork, averaging: float) -> None:
        super().__init__()
        self.network = network
        self.average = averaged(network)
        self.averaging = averaging

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # Here, since after Ctrl-C a step is saved before `on_train_batch_end` would be called.
        self.follow(self.global_step + 1)

    def follow(self, step: int) -> None:
        """Move the average towards the network as it is after `step` steps."""
        follow(self.average, self.network, self.averaging, step)


def averaged(network: AnyNetwork) -> AnyNetwork:
    """A copy to keep the average in, in eval mode; what is frozen is the network's own."""
    frozen = {id(value): value for value in network.parameters() if not value.requires_grad}
    return copy.deepcopy(network, frozen).requires_grad_(False).eval()


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, averaging: float, step: int) -> None:
    """Move `average`, of which at most the share `averaging` stays, to `network` after `step`."""
    # Early averages would be mostly the start.
    keep = min(averaging, (1 + step) / (10 + step))
    torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
        list(average.parameters()), list(network.parameters()), 1 - keep
    )
    for mean, value in zip(average.buffers(), network.buffers(), strict=True):
        mean.copy_(value)


def averaged_state(checkpoint: Path) -> dict[str, Tensor]:
    """The averaged weights in a checkpoint that `fit` wrote of an AveragedModule."""
    prefix = "average."
    return {
        name.removeprefix(prefix): value
        for name, value in load_torch_checkpoint(checkpoint).items()
        if name.startswith(prefix)
    }


def warm_cosine(step: int, steps: int, *, warm_up: int, final_rate: float) -> float:
    """The share of the highest learning rate at `step` of `steps`, counted from 0.

    It rises in a line for `warm_up` steps under a cosine (arXiv 1608.03983) to `final_rate`.
    """
    rise = min(1.0, (step + 1) / max(1, warm_up))
    fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps))
    return rise * (final_rate + (1 - final_rate) * fall)


def scheduled(
    optimizer: Optimizer, steps: int, *, warm_up: int, final_rate: float
) -> dict[str, object]:
    """An optimizer under `warm_cosine`, as `configure_optimizers` gives it to `fit`."""
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warm_cosine(step, steps, warm_up=warm_up, final_rate=final_rate)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
