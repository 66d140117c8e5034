"""How well the speakers were separated: SI-SDR for training and the scores that papers print.

Shapes: B mixtures, S speakers, T samples. All ratios are in dB; more is better.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

LIMIT = 1e-10
"""Of the estimate's energy, as which target and distortion count at least: SI-SDR to ±100 dB."""

SILENCE = 1e-12
"""Energy (the sum of squares) that counts as none: far below one step of 24 bit in a second."""


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio (arXiv 1811.02508), means taken off, in dB.

    (..., T) and (..., T) -> (...), in float32 at least, with finite values and gradients:
    between -100 and 100 dB, and -100 dB where the estimate or the reference is silent.
    """
    estimate, reference = _centred(estimate), _centred(reference)
    energy = reference.square().sum(-1, keepdim=True) + SILENCE
    target = (estimate * reference).sum(-1, keepdim=True) / energy * reference
    distortion = (estimate - target).square().sum(-1)
    energy = estimate.square().sum(-1)
    above = target.square().sum(-1) + LIMIT * (energy + SILENCE)
    return 10 * torch.log10(above / (distortion + LIMIT * energy + SILENCE))


def pit_si_sdr(estimates: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SI-SDR under the best assignment of estimates to references, in dB.

    (B, S, T) and (B, S, T) -> values (B,) and permutation (B, S): estimate `permutation[b, s]` is
    the one of reference s, so `align(estimates, permutation)` stands as `references` do. The values
    carry gradients. Every assignment is tried, on the S x S matrix: meant for few speakers.
    """
    if estimates.shape != references.shape or estimates.ndim != 3:
        raise ValueError(
            f"estimates are {tuple(estimates.shape)} and references {tuple(references.shape)}; "
            "needs (B, S, T) twice"
        )
    permutation = best_permutation(_pairwise_si_sdr(estimates, references))
    return si_sdr(align(estimates, permutation), references).mean(-1), permutation


def best_permutation(scores: Tensor) -> Tensor:
    """The assignment with the highest sum: scores (B, estimates, references) -> (B, S)."""
    speakers = scores.shape[-1]
    candidates = torch.tensor(list(permutations(range(speakers))), device=scores.device)  # (S!, S)
    sums = scores[:, candidates, torch.arange(speakers, device=scores.device)].sum(-1)  # (B, S!)
    return candidates[sums.argmax(-1)]


def align(estimates: Tensor, permutation: Tensor) -> Tensor:
    """Estimates (B, S, T) in the order of the references, by a permutation (B, S)."""
    return estimates[torch.arange(len(estimates), device=estimates.device)[:, None], permutation]


@torch.no_grad()
def _pairwise_si_sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """(B, S, T) twice -> (B, estimates, references); near 60 dB and above float32 rounds it."""
    estimates, references = _centred(estimates), _centred(references)
    with torch.autocast(estimates.device.type, enabled=False):
        products = estimates @ references.mT  # (B, S, S)
    energies = estimates.square().sum(-1)[:, :, None] * references.square().sum(-1)[:, None]
    target = products.square() / (energies + SILENCE**2)  # of the estimate's energy, in [0, 1]
    return 10 * torch.log10((target + LIMIT) / ((1 - target).clamp(min=0) + LIMIT))


def _centred(signal: Tensor) -> Tensor:
    signal = signal.to(torch.promote_types(signal.dtype, torch.float32))
    return signal - signal.mean(-1, keepdim=True)
