"""How near generated pictures, clips and sounds are to real ones, beside what to compare it with.

Distances between sets of features: Fréchet (Heusel 2017, arXiv 1706.08500) and kernel (Binkowski
2018, arXiv 1801.01401). Letters: N items, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sigform_generate.features import INCEPTION, ClipProxy, ImageProxy, SoundProxy, extract


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A distance with what it rests on.

    `floor` is the same distance between two halves of the real items: as good as a generator gets,
    and of fewer items, by which Fréchet distances come out larger. `mean` and `noise` are those of
    copies of the mean real item, and of noise with its mean and spread. `spread` is the standard
    deviation over subsets, of kernel distances.
    """

    name: str
    features: str
    value: float
    real: int
    made: int
    floor: float | None
    mean: float
    noise: float
    spread: float | None = None

    def line(self) -> str:
        """The figure in one line, with its sample counts."""
        floor = "" if self.floor is None else f", two halves of the real {self.floor:.4g}"
        return (
            f"{self.name} {self.value:.4g} ({self.made} generated, {self.real} real; "
            f"mean item {self.mean:.4g}, noise {self.noise:.4g}{floor}; {self.features})"
        )

    def as_dict(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)


# --- distances -----------------------------------------------------------------------------------


def frechet_distance(first: NDArray, second: NDArray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features (N, D) each, N 2 or more."""
    _check(first, second)
    # The trace of the root needs C1^(1/2) alone: C1 C2 has the eigenvalues of R C2 R, R R = C1.
    # Through features centred and scaled, C = X^T X, they are the squares of the singular values
    # of X1 X2^T: exact for singular covariances too, where a matrix root is not.
    left = (first - first.mean(axis=0)) / np.sqrt(len(first) - 1)
    right = (second - second.mean(axis=0)) / np.sqrt(len(second) - 1)
    between = float(((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum())
    if min(len(first), len(second)) > first.shape[1]:
        left, right = _triangle(left), _triangle(right)
    root = float(np.linalg.svd(left @ right.T, compute_uv=False).sum())
    return max(0.0, between + float((left**2).sum() + (right**2).sum()) - 2 * root)


def _triangle(features: NDArray) -> NDArray:
    """(D, D) of the same X^T X as (N, D)."""
    return np.asarray(np.linalg.qr(features, mode="r"))


def kernel_distance(
    first: NDArray, second: NDArray, *, subset: int = 1000, subsets: int = 100, seed: int = 0
) -> tuple[float, float]:
    """Unbiased squared MMD with the kernel (x y / D + 1)^3: (mean, deviation) over subsets.

    Sets smaller than `subset` are taken whole, once: the deviation then is 0.
    """
    _check(first, second)
    smaller = min(len(first), len(second))
    if smaller <= subset:
        return _mmd(first, second), 0.0
    random = np.random.default_rng(seed)
    values = [
        _mmd(
            first[random.permutation(len(first))[:subset]],
            second[random.permutation(len(second))[:subset]],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def _mmd(first: NDArray, second: NDArray) -> float:
    def kernel(a: NDArray, b: NDArray) -> NDArray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: NDArray) -> float:
        values = kernel(a, a)
        return float((values.sum() - np.trace(values)) / (len(a) * (len(a) - 1)))

    return within(first) + within(second) - 2 * float(kernel(first, second).mean())


def _check(first: NDArray, second: NDArray) -> None:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"features are of shapes {first.shape} and {second.shape}; needs (N, D) of one D"
        )
    if min(len(first), len(second)) < 2:
        raise ValueError(
            f"{min(len(first), len(second))} items are compared; needs 2 or more of each"
        )


# --- pictures, clips, sounds ---------------------------------------------------------------------


def evaluate_images(
    real: Tensor, made: Tensor, *, net: nn.Module | None = None, batch: int = 64
) -> list[Figure]:
    """FID and KID of pictures (N, 3, H, W) in [-1, 1], real and generated.

    net: InceptionFeatures; without one the proxy, and the figures are named proxy-FID, proxy-KID.
    """
    return _figures(real, made, ImageProxy() if net is None else net, ("FID", "KID"), batch)


def evaluate_clips(real: Tensor, made: Tensor, *, batch: int = 16) -> list[Figure]:
    """proxy-FVD and proxy-KVD of clips (N, T, 3, H, W) in [-1, 1]."""
    return _figures(real, made, ClipProxy(), ("FVD", "KVD"), batch)


def evaluate_sounds(
    real: Tensor, made: Tensor, *, sample_rate: int = 16000, batch: int = 64
) -> list[Figure]:
    """proxy-FAD and proxy-KAD of sounds (N, samples) in [-1, 1]."""
    return _figures(real, made, SoundProxy(sample_rate), ("FAD", "KAD"), batch)


def _figures(
    real: Tensor, made: Tensor, net: nn.Module, names: tuple[str, str], batch: int
) -> list[Figure]:
    count = len(real)
    if min(count, len(made)) < 2:
        raise ValueError(f"{count} real and {len(made)} generated items; needs 2 or more of each")
    true = extract(net, real, batch=batch)
    ours = extract(net, made, batch=batch)
    generator = torch.Generator().manual_seed(0)
    level = real.mean(dim=0, keepdim=True)
    # As many as were generated, a batch at a time: whole sets of noise would double the memory.
    copies = np.repeat(extract(net, level), len(made), axis=0)
    noise = np.concatenate(
        [
            extract(net, _noise(level, real.std(), min(batch, len(made) - start), generator))
            for start in range(0, len(made), batch)
        ]
    )
    order = np.random.default_rng(0).permutation(count)
    halves = true[order[: count // 2]], true[order[count // 2 :]]
    told = str(getattr(net, "name", type(net).__name__))
    prefix = "" if told == INCEPTION else "proxy-"
    measures: list[Callable[[NDArray, NDArray], tuple[float, float | None]]] = [
        lambda a, b: (frechet_distance(a, b), None),
        kernel_distance,
    ]
    made_figures = []
    for name, measure in zip(names, measures, strict=True):
        value, spread = measure(true, ours)
        made_figures.append(
            Figure(
                name=prefix + name,
                features=told,
                value=value,
                real=count,
                made=len(made),
                floor=measure(*halves)[0] if count >= 4 else None,
                mean=measure(true, copies)[0],
                noise=measure(true, noise)[0],
                spread=spread,
            )
        )
    return made_figures


def _noise(level: Tensor, spread: Tensor, count: int, generator: torch.Generator) -> Tensor:
    drawn = torch.randn((count, *level.shape[1:]), generator=generator)
    return (level + spread * drawn).clamp(-1, 1)


# --- clip by clip --------------------------------------------------------------------------------


def psnr(made: Tensor, real: Tensor, mask: Tensor | None = None) -> float:
    """Mean over clips of the PSNR in dB, values in [-1, 1] (peak 2), where the mask is 1.

    made, real: (B, T, C, H, W) or (B, C, H, W); mask: the same without C, 1 = generated. Clips of
    which the mask takes nothing do not count; equal ones count as 100 dB.
    """
    error = (made.double() - real.double()) ** 2
    error = error.mean(dim=-3)
    weight = torch.ones_like(error) if mask is None else mask.double().expand_as(error)
    taken = weight.flatten(1).sum(dim=1)
    if not (taken > 0).any():
        raise ValueError("the mask takes nothing; needs a 1 in it")
    means = (error * weight).flatten(1).sum(dim=1)[taken > 0] / taken[taken > 0]
    return float((10 * torch.log10(4 / means.clamp(min=4e-10))).mean())


def held_over(given: Tensor, mask: Tensor) -> Tensor:
    """The baseline of the masked modes: what needs no model.

    given: (B, T, C, H, W); mask: (B, T, H, W), 1 = to fill. A pixel that is given in other frames
    is blended between the nearest before and after, or held; one never given becomes the mean of
    the given pixels of its frame.
    """
    frames = given.shape[1]
    known = mask < 0.5
    place = torch.arange(frames, device=given.device)[None, :, None, None].expand_as(mask)
    before = torch.where(known, place, -1).cummax(dim=1).values
    after = torch.where(known, place, frames).flip(1).cummin(dim=1).values.flip(1)
    has_before, has_after = before >= 0, after < frames
    left = _taken(given, before.clamp(min=0))
    right = _taken(given, after.clamp(max=frames - 1))
    share = ((place - before) / (after - before).clamp(min=1)).unsqueeze(2).to(given.dtype)
    both = (has_before & has_after).unsqueeze(2)
    value = torch.where(
        both, left + share * (right - left), torch.where(has_before.unsqueeze(2), left, right)
    )
    weight = known.unsqueeze(2).to(given.dtype)
    frame_mean = (given * weight).sum(dim=(3, 4), keepdim=True) / weight.sum(
        dim=(3, 4), keepdim=True
    ).clamp(min=1)
    return torch.where((has_before | has_after).unsqueeze(2), value, frame_mean.expand_as(value))


def _taken(given: Tensor, place: Tensor) -> Tensor:
    """(B, T, C, H, W) at the frame numbers (B, T, H, W)."""
    return given.gather(1, place.unsqueeze(2).expand_as(given))


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How clips move, in pixel steps of [0, 255].

    `step` is the mean change from frame to frame; `flicker` is how much of it is taken back by the
    next frame: mean |x[t+1] - 2 x[t] + x[t-1]| over that of |x[t+1] - x[t]|, 0 for even
    brightening, about 1.7 for frames of independent noise, 2 for two frames in turn.
    """

    step: float
    flicker: float


def motion(clips: Tensor) -> Motion:
    """Motion of clips (N, T, 3, H, W) in [-1, 1], T 3 or more."""
    if clips.shape[1] < 3:
        raise ValueError(f"clips have {clips.shape[1]} frames; needs 3 or more")
    first = clips.float().diff(dim=1)
    step = float(first.abs().mean())
    bend = float(first.diff(dim=1).abs().mean())
    return Motion(step=127.5 * step, flicker=bend / step if step else 0.0)
