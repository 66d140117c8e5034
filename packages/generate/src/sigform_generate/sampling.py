"""From noise to samples: one loop over the timesteps for images, clips, and clips with sound.

Sample k is drawn from a generator of its own, so it does not depend on what else is in its batch.
Several modalities are denoised together, each with its own noise, at the same timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sigform_core.device import generator
from sigform_generate.diffusion import Diffusion
from sigform_generate.dit import DiT
from sigform_generate.policy import PLAIN, BlockPolicy, StepContext

Tensors = tuple[Tensor, ...]
Denoiser = Callable[[Tensors, Tensor, BlockPolicy], Tensors]
"""Noisy modalities (B, ..., C, H, W), timesteps (B,), policy -> the network's outputs for them."""

OnStep = Callable[[int, int], None]  # steps done, steps in all


def denoiser(network: nn.Module) -> Denoiser:
    """How the sampling calls a network that takes its modalities, then t: VDT, AV-DiT; and DiT.

    A DiT makes images of no class; see `labelled` for others.
    """
    if isinstance(network, DiT):
        classes = network.config.num_classes
        nothing = classes if network.config.class_dropout_prob > 0 else 0

        def run_images(inputs: Tensors, t: Tensor, policy: BlockPolicy) -> Tensors:
            return (network(inputs[0], t, torch.full_like(t, nothing), policy=policy),)

        return run_images
    model: Any = network

    def run(inputs: Tensors, t: Tensor, policy: BlockPolicy) -> Tensors:
        made = model(*inputs, t, policy=policy)
        return made if isinstance(made, tuple) else (made,)

    return run


def labelled(network: DiT, labels: Tensor, guidance: float = 1.0) -> Denoiser:
    """The same for a DiT and labels (B,), with classifier-free guidance in one batch if not 1."""

    def run(inputs: Tensors, t: Tensor, policy: BlockPolicy) -> Tensors:
        if guidance == 1.0:
            return (network(inputs[0], t, labels, policy=policy),)
        return (network.guided(inputs[0], t, labels, guidance, policy=policy),)

    return run


@torch.inference_mode()
def sample(
    denoise: Denoiser,
    diffusion: Diffusion,
    shapes: Sequence[tuple[int, ...]],
    *,
    seeds: Sequence[int],
    steps: str = "ddim50",
    given: Sequence[Tensor | None] | None = None,
    masks: Sequence[Tensor | None] | None = None,
    eta: float = 0.0,
    clip: bool = True,
    policy: BlockPolicy = PLAIN,
    device: torch.device | str = "cpu",
    on_step: OnStep | None = None,
) -> Tensors:
    """One sample a seed of each modality, (B, *shape), float32.

    `shapes` are those of one sample, (..., C, H, W). `steps` is a respacing of `diffusion`:
    "ddim50" and the like sample by DDIM with `eta`, a bare number by DDPM. `given` (B, *shape) and
    `masks` (shape without C, or with B before it; 1 to generate) hold what is known of a modality:
    it enters clean at every step and is put back at the end. `clip` keeps every guess in [-1, 1].

    Raises ValueError when these do not fit each other.
    """
    known = _known(shapes, len(seeds), given, masks, device)
    sources = [generator(seed) for seed in seeds]

    def draw() -> list[Tensor]:
        # Per sample: first all modalities at the start, then again at each step that needs it.
        drawn = [[torch.randn(shape, generator=source) for shape in shapes] for source in sources]
        return [torch.stack(column).to(device) for column in zip(*drawn, strict=True)]

    short = diffusion.respaced(steps)
    ddim = steps.startswith("ddim")
    states = draw()
    for done, index in enumerate(reversed(range(len(short)))):
        t = torch.full((len(seeds),), index, device=device)
        timestep = short.timestep_map[index].item()
        policy.begin(StepContext(step=done, steps=len(short), timestep=float(timestep)))
        inputs = tuple(_put_back(x, part) for x, part in zip(states, known, strict=True))
        outputs = denoise(inputs, torch.full_like(t, int(timestep)), policy)
        needed = index > 0 and (eta > 0 or not ddim)
        noises = draw() if needed else [x.new_zeros(()) for x in states]
        states = [
            short.ddim_step(output.float(), x, t, noise, eta=eta, clip=clip)
            if ddim
            else short.ddpm_step(output.float(), x, t, noise, clip=clip)
            for output, x, noise in zip(outputs, states, noises, strict=True)
        ]
        if on_step is not None:
            on_step(done + 1, len(short))
    return tuple(_put_back(x, part) for x, part in zip(states, known, strict=True))


Known = tuple[Tensor, Tensor] | None  # what is given, and the mask with an axis for channels


def _put_back(x: Tensor, known: Known) -> Tensor:
    """x with the given parts in their places."""
    return x if known is None else torch.where(known[1] > 0, x, known[0])


def _known(
    shapes: Sequence[tuple[int, ...]],
    count: int,
    given: Sequence[Tensor | None] | None,
    masks: Sequence[Tensor | None] | None,
    device: torch.device | str,
) -> list[Known]:
    if count < 1:
        raise ValueError("no seed is given; needs one a sample")
    nothing: list[Tensor | None] = [None] * len(shapes)
    found: list[Known] = []
    for shape, clean, mask in zip(shapes, given or nothing, masks or nothing, strict=True):
        if (clean is None) != (mask is None):
            raise ValueError("given and masks do not match; needs both or none of a modality")
        if clean is None or mask is None:
            found.append(None)
            continue
        if clean.shape != (count, *shape):
            raise ValueError(f"given has shape {tuple(clean.shape)}; needs {(count, *shape)}")
        flat = (*shape[:-3], *shape[-2:])
        if mask.shape not in (flat, (count, *flat)):
            raise ValueError(f"mask has shape {tuple(mask.shape)}; needs {flat}")
        found.append((clean.to(device).float(), mask.to(device).unsqueeze(-3)))
    return found
