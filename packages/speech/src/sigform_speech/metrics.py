"""How well the speakers were separated: SI-SDR for training and the scores that papers print.

Shapes: B mixtures, E estimates, S speakers, T samples. All ratios are in dB; more is better.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sigform_core.linear import solve

LIMIT = 1e-10
"""Of the estimate's energy, as which target and distortion count at least: ratios to ±100 dB."""

SILENCE = 1e-12
"""Energy (the sum of squares) that counts as none: far below one step of 24 bit in a second."""

RATIOS = ("si_sdr", "si_sdri", "sdr", "sdri")

FILTER = 512
"""Taps of the filter that SDR allows between reference and estimate."""

OPTIONAL = {"pesq": "pesq", "stoi": "pystoi"}
"""Scores that are taken where these packages, the extra `metrics`, are installed."""

PESQ_BANDS = {8000: "nb", 16000: "wb"}
"""The band of ITU-T P.862 by sample rate in Hz; it knows no other rates."""

PESQ_LONGEST = 60
"""Seconds; P.862 is made for sentences, and its code holds no more than 50 of them."""

STOI_SHORTEST = 0.4
"""Seconds, without pauses, that it compares at a time."""


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio (arXiv 1811.02508), means taken off, in dB.

    (..., T) and (..., T) -> (...), in float32 at least, with finite values and gradients:
    between -100 and 100 dB, and -100 dB where the estimate or the reference is silent.
    """
    estimate, reference = _centred(estimate), _centred(reference)
    product = (estimate * reference).sum(-1, keepdim=True)
    target = product / (reference.square().sum(-1, keepdim=True) + SILENCE) * reference
    distortion = (estimate - target).square().sum(-1)
    energy = estimate.square().sum(-1)
    above = target.square().sum(-1) + LIMIT * (energy + SILENCE)
    return 10 * torch.log10(above / (distortion + LIMIT * energy + SILENCE))


def sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """The ratio of BSS Eval: what a filter of 512 taps can make of the reference counts as target.

    (..., T) and (..., T) -> (...) in dB, -100 to 100, in float64. Both must not be silent.
    """
    estimate, reference = (x / x.norm(dim=-1, keepdim=True) for x in (estimate, reference))
    size = 2 ** (estimate.shape[-1] + FILTER - 1).bit_length()
    spectrum = torch.fft.rfft(reference.double(), size)
    power = spectrum.real.square() + spectrum.imag.square()
    own = torch.fft.irfft(power, size)[..., :FILTER]
    # The raised diagonal keeps pure tones solvable, and bounds the ratio as LIMIT does above.
    own[..., 0] += LIMIT
    cross = torch.fft.irfft(spectrum.conj() * torch.fft.rfft(estimate.double(), size), size)
    cross = cross[..., :FILTER]
    lags = torch.arange(FILTER)
    toeplitz = own[..., (lags[:, None] - lags).abs()]
    taps = solve(toeplitz, cross.unsqueeze(-1)).squeeze(-1)
    target = (cross * taps).sum(-1).clamp(LIMIT, 1 - LIMIT)  # of the estimate's energy
    return 10 * torch.log10(target / (1 - target))


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
    """The assignment with the highest sum: scores (B, E, S), E >= S -> estimates (B, S)."""
    estimates, speakers = scores.shape[1:]
    ways = torch.tensor(list(permutations(range(estimates), speakers)), device=scores.device)
    sums = scores[:, ways, torch.arange(speakers, device=scores.device)].sum(-1)  # (B, ways)
    return ways[sums.argmax(-1)]


def align(estimates: Tensor, permutation: Tensor) -> Tensor:
    """Estimates (B, E, T) in the order of the references, by a permutation (B, S): (B, S, T)."""
    return estimates[torch.arange(len(estimates), device=estimates.device)[:, None], permutation]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What `score` found for the speakers of one mixture, in the order of the references.

    `values` holds by name one number a speaker, or None where there is none: si_sdr and sdr in dB,
    si_sdri and sdri their gain over the unprocessed mixture, and where the packages are installed
    pesq (1 to 4.6) and stoi (0 to 1). `notes` say in a line each what is missing and why.
    """

    values: Mapping[str, tuple[float | None, ...]]
    permutation: tuple[int, ...]  # the estimate of each reference, from 0
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> dict[str, float | None]:
        """The mean of each score over the speakers that have it; None where none has."""
        return {name: mean_of(values) for name, values in self.values.items()}


def score(estimates: NDArray, references: NDArray, mixture: NDArray, sample_rate: int) -> Scores:
    """Compare the separated speakers with the true ones, under the best mean SI-SDR.

    estimates (E, T), references (S, T) with E >= S, and the mixture (T,) that was separated, all
    at `sample_rate` Hz. Estimates beyond the number of references are left out. A speaker whose
    reference or estimate is silent has no scores, as no ratio is defined there. Raises ValueError
    for other shapes and for samples that are not finite.
    """
    made, true, mixed = _as_doubles(estimates=estimates, references=references, mixture=mixture)
    if not (made.ndim == true.ndim == 2 and mixed.shape == made.shape[1:] == true.shape[1:]):
        raise ValueError(
            f"estimates are {tuple(made.shape)}, references {tuple(true.shape)} and the mixture "
            f"{tuple(mixed.shape)}; needs (E, T), (S, T) and (T,)"
        )
    if not 1 <= len(true) <= len(made):
        raise ValueError(f"estimates are {len(made)} and references {len(true)}; needs one each")
    permutation = best_permutation(_pairwise_si_sdr(made[None], true[None]))[0].tolist()
    notes = []
    if len(made) > len(true):
        notes.append(f"scored are the best {len(true)} of {len(made)} estimates")
    made = made[permutation]
    silent = {"the mixture": mixed.expand_as(true), "its reference": true, "its estimate": made}
    heard = []
    for speaker in range(len(true)):
        what = [name for name, signals in silent.items() if _is_silent(signals[speaker])]
        if what:
            verb = "is" if len(what) == 1 else "are"
            notes.append(f"speaker {speaker + 1} has no scores: {' and '.join(what)} {verb} silent")
        else:
            heard.append(speaker)
    columns: dict[str, Sequence[float | None]] = {name: [] for name in RATIOS}
    if heard:
        columns.update(_ratios(made[heard], true[heard], mixed))
    for name, package in OPTIONAL.items():
        if _has(package):
            columns[name] = [
                _perceived(name, made[speaker], true[speaker], sample_rate, notes)
                for speaker in heard
            ]
    values = {
        name: tuple(dict(zip(heard, column, strict=True)).get(s) for s in range(len(true)))
        for name, column in columns.items()
    }
    # One reason holds for all the speakers of a file, as a rule.
    return Scores(values=values, permutation=tuple(permutation), notes=tuple(dict.fromkeys(notes)))


def missing_scores() -> str:
    """One line on the scores whose packages are not installed; empty when all are."""
    missing = [name.upper() for name, package in OPTIONAL.items() if not _has(package)]
    if not missing:
        return ""
    return f"without {' and '.join(missing)}: pip install 'sigform-speech[metrics]' adds them"


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None if none is."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def _ratios(estimates: Tensor, references: Tensor, mixture: Tensor) -> dict[str, list[float]]:
    """The ratios of (S, T) in dB and their gains over the mixture (T,), by name."""
    mixtures = mixture.expand_as(references)
    ours, before = si_sdr(estimates, references), si_sdr(mixtures, references)
    filtered = sdr(estimates, references)
    columns = ours, ours - before, filtered, filtered - sdr(mixtures, references)
    return {name: column.tolist() for name, column in zip(RATIOS, columns, strict=True)}


def _perceived(
    name: str, estimate: Tensor, reference: Tensor, sample_rate: int, notes: list[str]
) -> float | None:
    """PESQ or STOI of one speaker; None, with a note, where they do not apply."""
    signals = reference.numpy(), estimate.numpy()
    if name == "pesq" and sample_rate not in PESQ_BANDS:
        notes.append(f"no PESQ: it needs 8000 or 16000 Hz, not {sample_rate}")
        return None
    if name == "pesq" and len(estimate) > PESQ_LONGEST * sample_rate:
        notes.append(f"no PESQ: it is made for up to {PESQ_LONGEST} s")
        return None
    if name == "stoi" and len(estimate) < STOI_SHORTEST * sample_rate:
        notes.append(f"no STOI: it needs {STOI_SHORTEST} s of speech")
        return None
    package = importlib.import_module(OPTIONAL[name])
    with warnings.catch_warnings():
        # STOI only warns where too little is left without the pauses.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            if name == "pesq":
                return float(package.pesq(sample_rate, *signals, PESQ_BANDS[sample_rate]))
            return float(package.stoi(*signals, sample_rate))
        except (RuntimeError, RuntimeWarning) as error:
            notes.append(f"no {name.upper()}: {_first_sentence(error)}")
            return None


def _first_sentence(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    text = text.decode() if isinstance(text, bytes) else str(text)
    return text.partition(". ")[0].partition("\n")[0]


@torch.no_grad()
def _pairwise_si_sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """(B, E, T) and (B, S, T) -> (B, E, S); from about 60 dB on float32 rounds it."""
    estimates, references = _centred(estimates), _centred(references)
    with torch.autocast(estimates.device.type, enabled=False):
        products = estimates @ references.mT  # (B, E, S)
    energies = estimates.square().sum(-1)[:, :, None] * references.square().sum(-1)[:, None]
    target = products.square() / (energies + SILENCE**2)  # of the estimate's energy, in [0, 1]
    return 10 * torch.log10((target + LIMIT) / ((1 - target).clamp(min=0) + LIMIT))


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _as_doubles(**signals: NDArray) -> list[Tensor]:
    tensors = [torch.as_tensor(np.asarray(signal, np.float64)) for signal in signals.values()]
    for name, tensor in zip(signals, tensors, strict=True):
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name}: there are samples that are not finite")
    return tensors


def _is_silent(signal: Tensor) -> bool:
    return bool(_centred(signal).square().sum() < SILENCE)


def _centred(signal: Tensor) -> Tensor:
    signal = signal.to(torch.promote_types(signal.dtype, torch.float32))
    return signal - signal.mean(-1, keepdim=True)
