"""Gaussian diffusion: schedules, DDPM and DDIM steps, respacing and losses, from float64 tables.

Ho et al. (arXiv 2006.11239), the learned variance and the cosine schedule of Nichol and Dhariwal
(arXiv 2102.09672), DDIM of Song et al. (arXiv 2010.02502). A network's output for x (B, ..., C, H,
W) has C channels or, with a learned variance, 2C; all else has any axes, and timesteps are (B,).
Steps are counted from 0, the least noisy. Masks are 1 where there is something to generate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Prediction = Literal["noise", "start"]
Variance = Literal["learned_range", "fixed_small", "fixed_large"]

TRAINING_STEPS = 1000

TABLES = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "timestep_map",
)


def betas(schedule: str, steps: int = TRAINING_STEPS) -> Tensor:
    """The variances (steps,), float64, added at each step: "linear" 1e-4 to 2e-2, or "cosine".

    The linear schedule for other than 1000 steps is stretched to the same total noise.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; needs 1 or more")
    if schedule == "linear":
        scale = TRAINING_STEPS / steps
        return torch.from_numpy(np.linspace(scale * 1e-4, scale * 2e-2, steps))
    if schedule == "cosine":

        def kept(time: float) -> float:
            return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

        ends = [(step / steps, (step + 1) / steps) for step in range(steps)]
        values = [min(1 - kept(end) / kept(start), 0.999) for start, end in ends]
        return torch.tensor(values, dtype=torch.float64)
    raise ValueError(f"schedule is {schedule!r}; needs linear or cosine")


def kept_steps(steps: int, spacing: str) -> list[int]:
    """Which of `steps` timesteps a shorter sampling visits, in rising order.

    "250" spreads 250 evenly from the first to the last; "10,20" does so in each half; "ddim50"
    takes every 20th from 0, as DDIM does. Raises ValueError for what is none of these or cannot be
    had.
    """
    plain = spacing.rstrip(".")
    ddim = plain.startswith("ddim")
    try:
        counts = [int(count) for count in plain.removeprefix("ddim").split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1 or (ddim and len(counts) > 1):
        raise ValueError(f"sampling steps are {spacing!r}; needs a form like 250, 10,20 or ddim50")
    if ddim:
        for stride in range(1, steps + 1):
            if len(range(0, steps, stride)) == counts[0]:
                return list(range(0, steps, stride))
        raise ValueError(f"sampling steps are {spacing!r}; no whole stride gives them of {steps}")
    found: list[int] = []
    base, extra = divmod(steps, len(counts))
    start = 0
    for section, count in enumerate(counts):
        size = base + (section < extra)
        if count > size:
            raise ValueError(f"sampling steps are {spacing!r}; needs at most {size} a section")
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        place = 0.0  # summed up, as published: the rounding depends on it
        for _ in range(count):
            found.append(start + round(place))
            place += stride
        start += size
    return found


@dataclass(frozen=True, kw_only=True)
class Moments:
    """What a step knows of the less noisy sample, and the clean one it guesses; shapes as x."""

    mean: Tensor
    variance: Tensor
    log_variance: Tensor
    start: Tensor


@dataclass(frozen=True, kw_only=True)
class Losses:
    """One number a sample each, (B,): the error, the bound in bits a value, and their sum."""

    mse: Tensor
    vb: Tensor
    loss: Tensor


class Diffusion:
    """The tables of a schedule, each (steps,) and float64 on the CPU, and what is made of them.

    `prediction` says what the network's first C channels are: the noise, or the clean sample.
    `timestep_map` (steps,) holds the timesteps that the network was trained with.
    """

    def __init__(
        self,
        betas: Tensor,
        *,
        prediction: Prediction = "noise",
        variance: Variance = "learned_range",
        timestep_map: Tensor | None = None,
    ) -> None:
        if prediction not in ("noise", "start"):
            raise ValueError(f"prediction is {prediction!r}; needs noise or start")
        if variance not in ("learned_range", "fixed_small", "fixed_large"):
            raise ValueError(
                f"variance is {variance!r}; needs learned_range, fixed_small or fixed_large"
            )
        if betas.ndim != 1 or not len(betas) or not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError("betas lie outside (0, 1]; needs one number in it for each step")
        self.prediction: Prediction = prediction
        self.variance: Variance = variance
        b: NDArray[np.float64] = betas.double().numpy()
        alphas = 1.0 - b
        product = np.cumprod(alphas)
        before = np.append(1.0, product[:-1])
        posterior = b * (1.0 - before) / (1.0 - product)
        # The first posterior variance is 0: its logarithm is the second's.
        clipped = np.log(np.append(posterior[1], posterior[1:])) if len(b) > 1 else np.log(b)
        self.betas = torch.from_numpy(b)
        self.alphas_cumprod = torch.from_numpy(product)
        self.alphas_cumprod_prev = torch.from_numpy(before)
        self.posterior_variance = torch.from_numpy(posterior)
        self.posterior_log_variance_clipped = torch.from_numpy(clipped)
        self.posterior_mean_coef1 = torch.from_numpy(b * np.sqrt(before) / (1.0 - product))
        self.posterior_mean_coef2 = torch.from_numpy(
            (1.0 - before) * np.sqrt(alphas) / (1.0 - product)
        )
        self.sqrt_recip_alphas_cumprod = torch.from_numpy(np.sqrt(1.0 / product))
        self.sqrt_recipm1_alphas_cumprod = torch.from_numpy(np.sqrt(1.0 / product - 1))
        self.timestep_map = torch.arange(len(b)) if timestep_map is None else timestep_map
        if len(self.timestep_map) != len(b):
            raise ValueError(f"timestep_map has {len(self.timestep_map)} steps; needs {len(b)}")

    def __len__(self) -> int:
        return len(self.betas)

    def respaced(self, spacing: str) -> Diffusion:
        """The same process in fewer steps; see `kept_steps`."""
        kept = torch.tensor(kept_steps(len(self), spacing))
        product = self.alphas_cumprod[kept].numpy()
        shorter = 1 - product / np.append(1.0, product[:-1])
        return Diffusion(
            torch.from_numpy(shorter),
            prediction=self.prediction,
            variance=self.variance,
            timestep_map=self.timestep_map[kept],
        )

    def noised(self, start: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The clean sample after t + 1 steps of noise (2006.11239, equation 4)."""
        product = self.alphas_cumprod
        return _at(product.sqrt(), t, start) * start + _at((1 - product).sqrt(), t, start) * noise

    def start_from_noise(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The clean sample that `noise` would have turned into x."""
        recip, recipm1 = self.sqrt_recip_alphas_cumprod, self.sqrt_recipm1_alphas_cumprod
        return _at(recip, t, x) * x - _at(recipm1, t, x) * noise

    def noise_from_start(self, x: Tensor, t: Tensor, start: Tensor) -> Tensor:
        """The noise that would have turned `start` into x."""
        recip, recipm1 = self.sqrt_recip_alphas_cumprod, self.sqrt_recipm1_alphas_cumprod
        return (_at(recip, t, x) * x - start) / _at(recipm1, t, x)

    def posterior(self, start: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The mean of the step before, given the clean sample (2006.11239, equation 7)."""
        coef1, coef2 = self.posterior_mean_coef1, self.posterior_mean_coef2
        return _at(coef1, t, x) * start + _at(coef2, t, x) * x

    def moments(self, output: Tensor, x: Tensor, t: Tensor, *, clip: bool = False) -> Moments:
        """What the network's output for x at step t says; `clip` keeps the guess in [-1, 1].

        Raises ValueError when the output has another number of channels than the variance needs.
        """
        guess, extra = self._split(output, x)
        start = guess if self.prediction == "start" else self.start_from_noise(x, t, guess)
        if clip:
            start = start.clamp(-1, 1)
        smallest = self.posterior_log_variance_clipped
        if extra is not None:
            share = (extra + 1) / 2
            log_variance = share * _at(self.betas.log(), t, x) + (1 - share) * _at(smallest, t, x)
            variance = log_variance.exp()
        elif self.variance == "fixed_small":
            log_variance = _at(smallest, t, x).expand_as(x)
            variance = _at(self.posterior_variance, t, x).expand_as(x)
        else:
            large = torch.cat([smallest[:1].exp(), self.betas[1:]])
            log_variance = _at(large.log(), t, x).expand_as(x)
            variance = log_variance.exp()
        mean = self.posterior(start, x, t)
        return Moments(mean=mean, variance=variance, log_variance=log_variance, start=start)

    def ddpm_step(
        self, output: Tensor, x: Tensor, t: Tensor, noise: Tensor, *, clip: bool = False
    ) -> Tensor:
        """The sample one step less noisy, drawn with `noise`; the last step (t = 0) adds none."""
        moments = self.moments(output, x, t, clip=clip)
        more = (t > 0).to(x.dtype).view(-1, *[1] * (x.ndim - 1))
        return moments.mean + more * (0.5 * moments.log_variance).exp() * noise

    def ddim_step(
        self,
        output: Tensor,
        x: Tensor,
        t: Tensor,
        noise: Tensor | None = None,
        *,
        eta: float = 0.0,
        clip: bool = False,
    ) -> Tensor:
        """The same by DDIM (2010.02502, equation 12); `noise` is needed where `eta` is not 0."""
        if eta and noise is None:
            raise ValueError(f"eta is {eta} without noise; needs noise or eta 0")
        start = self.moments(output, x, t, clip=clip).start
        guess = self.noise_from_start(x, t, start)
        now, before = _at(self.alphas_cumprod, t, x), _at(self.alphas_cumprod_prev, t, x)
        sigma = eta * ((1 - before) / (1 - now)).sqrt() * (1 - now / before).sqrt()
        mean = start * before.sqrt() + (1 - before - sigma**2).clamp(min=0).sqrt() * guess
        if noise is None or not eta:
            return mean
        more = (t > 0).to(x.dtype).view(-1, *[1] * (x.ndim - 1))
        return mean + more * sigma * noise

    def losses(
        self,
        output: Tensor,
        start: Tensor,
        x: Tensor,
        t: Tensor,
        noise: Tensor,
        mask: Tensor | None = None,
    ) -> Losses:
        """The hybrid loss (2102.09672, section 3.1) of the output for x, noised from `start`.

        `mask`, broadcast to x, picks what the squared error counts; its mean is over all values,
        and the bound counts all, as published. Without a learned variance the bound is 0.
        """
        guess, extra = self._split(output, x)
        error = (guess - (start if self.prediction == "start" else noise)).float()
        mse = _mean((error if mask is None else error * mask) ** 2)
        if extra is None:
            return Losses(mse=mse, vb=torch.zeros_like(mse), loss=mse)
        frozen = torch.cat([guess.detach(), extra], dim=-3)  # the bound trains the variance alone
        vb = self.bound(frozen, start, x, t)
        return Losses(mse=mse, vb=vb, loss=mse + vb)

    def bound(self, output: Tensor, start: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """One term of the variational bound, (B,), in bits a value."""
        made = self.moments(output, x, t)
        true_mean = self.posterior(start, x, t)
        true_log = _at(self.posterior_log_variance_clipped, t, x)
        spread = true_log - made.log_variance
        ratio = (true_mean - made.mean) ** 2 * (-made.log_variance).exp()
        divergence = _mean(0.5 * (-1.0 - spread + spread.exp() + ratio))
        decoded = _mean(-_discrete_log_likelihood(start, made.mean, 0.5 * made.log_variance))
        return torch.where(t == 0, decoded, divergence) / math.log(2.0)

    def _split(self, output: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The prediction, and the variance's channels if it is learned."""
        channels = x.shape[-3]
        wanted = channels * (2 if self.variance == "learned_range" else 1)
        if output.shape[-3] != wanted:
            raise ValueError(
                f"output has {output.shape[-3]} channels; {self.variance} variance of "
                f"{channels} channels needs {wanted}"
            )
        if self.variance != "learned_range":
            return output, None
        guess, extra = output.split(channels, dim=-3)
        return guess, extra


def tables(name: str, schedule: str = "linear") -> dict[str, Tensor]:
    """The tables of a respacing ("250.", "ddim50.") of 1000 steps, by the names in TABLES."""
    short = Diffusion(betas(schedule)).respaced(name)
    return {table: getattr(short, table) for table in TABLES}


def _at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """The table's values at t (B,), in the dtype and with the axes of `like`."""
    values = table.to(t.device)[t].to(like.dtype)
    return values.view(-1, *[1] * (like.ndim - 1))


def _mean(values: Tensor) -> Tensor:
    """The mean of all but the batch axis."""
    return values.flatten(1).mean(dim=1)


def _discrete_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """The log-probability of 8-bit values, scaled to [-1, 1], under a normal distribution.

    The outermost values take the tails. The distribution function is the published approximation.
    """
    centred, sharp = x - mean, (-log_scale).exp()

    def below(z: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    upper = below(sharp * (centred + 1 / 255))
    lower = below(sharp * (centred - 1 / 255))
    inner = (upper - lower).clamp(min=1e-12).log()
    first, last = upper.clamp(min=1e-12).log(), (1 - lower).clamp(min=1e-12).log()
    return torch.where(x < -0.999, first, torch.where(x > 0.999, last, inner))
