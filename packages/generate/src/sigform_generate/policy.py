"""The seam around a denoiser's blocks: who decides whether and how each of them runs.

A model's loop hands every block to a policy. The plain policy runs it. One that skips, reuses or
quantises keeps its own state between the steps of a sampling, which `begin` tells it of.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

Tokens = TypeVar("Tokens", Tensor, tuple[Tensor, Tensor])
"""Tokens of one modality, or of video and audio together."""


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """Where a sampling stands: `step` of `steps`, counted from 0, at the model's timestep."""

    step: int
    steps: int
    timestep: float


class BlockPolicy(Protocol):
    """What a denoiser's loop asks for each of its blocks."""

    def begin(self, context: StepContext) -> None:
        """Called before the denoiser runs for a step; step 0 starts a new sampling."""
        ...

    def run(
        self,
        index: int,
        block: Callable[[Tokens, Tensor], Tokens],
        tokens: Tokens,
        condition: Tensor,
    ) -> Tokens:
        """The tokens after block `index`, whose modulation is `condition` (B, 6, D)."""
        ...


class Plain:
    """Runs every block, changes nothing, keeps nothing."""

    def begin(self, context: StepContext) -> None:
        del context

    def run(
        self,
        index: int,
        block: Callable[[Tokens, Tensor], Tokens],
        tokens: Tokens,
        condition: Tensor,
    ) -> Tokens:
        del index
        return block(tokens, condition)


PLAIN = Plain()


def run_blocks(
    policy: BlockPolicy,
    blocks: Iterable[Callable[[Tokens, Tensor], Tokens]],
    tokens: Tokens,
    conditions: Iterable[Tensor],
) -> Tokens:
    """All blocks in order, each through the policy."""
    for index, (block, condition) in enumerate(zip(blocks, conditions, strict=True)):
        tokens = policy.run(index, block, tokens, condition)
    return tokens
