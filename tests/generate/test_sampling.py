"""Sampling: by seed, whatever the batch; what is given stays; modalities go together."""

import pytest
import torch
from generate.references import perturb
from torch import Tensor

from sigform_generate.diffusion import Diffusion, betas
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.masks import mode_mask
from sigform_generate.policy import BlockPolicy
from sigform_generate.sampling import Tensors, denoiser, labelled, sample
from sigform_generate.vdt import VDT, VDTConfig

SHAPE = (4, 3, 4, 4)  # T, C, H, W
PIXELS = Diffusion(betas("cosine"), prediction="start", variance="fixed_small")


def small() -> VDT:
    torch.manual_seed(0)
    config = VDTConfig(
        input_size=4,
        in_channels=3,
        hidden_size=16,
        depth=2,
        num_heads=2,
        num_frames=4,
        num_classes=1,
        learn_sigma=False,
    )
    model = VDT(config).eval()
    perturb(model)
    return model


def half(inputs: Tensors, t: Tensor, policy: BlockPolicy) -> Tensors:
    """A network that guesses half of what it sees."""
    del t, policy
    return tuple(x / 2 for x in inputs)


@pytest.mark.parametrize("steps", ["ddim5", "6"])
def test_a_sample_depends_on_its_seed_alone(steps: str) -> None:
    denoise = denoiser(small())
    together = sample(denoise, PIXELS, [SHAPE], seeds=[3, 4, 5], steps=steps)[0]
    for place, seed in enumerate([3, 4, 5]):
        alone = sample(denoise, PIXELS, [SHAPE], seeds=[seed], steps=steps)[0]
        torch.testing.assert_close(alone[0], together[place], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)
    again = sample(denoise, PIXELS, [SHAPE], seeds=[3, 4, 5], steps=steps)[0]
    assert torch.equal(again, together)


def test_what_is_given_stays_and_matters() -> None:
    denoise = denoiser(small())
    mask = mode_mask("predict", (4, 4, 4))
    torch.manual_seed(1)
    clips = torch.rand(2, *SHAPE) * 2 - 1
    found = sample(
        denoise, PIXELS, [SHAPE], seeds=[0, 0], steps="ddim5", given=[clips], masks=[mask]
    )[0]
    assert torch.equal(found[:, :2], clips[:, :2])
    # The seeds are the same, so what differs comes from the given frames.
    assert not torch.allclose(found[0, 2:], found[1, 2:], atol=1e-4)
    free = sample(denoise, PIXELS, [SHAPE], seeds=[0], steps="ddim5")[0]
    assert not torch.allclose(found[0, 2:], free[0, 2:], atol=1e-4)


def test_given_parts_enter_clean_at_every_step() -> None:
    seen = []

    def watch(inputs: Tensors, t: Tensor, policy: BlockPolicy) -> Tensors:
        del t, policy
        seen.append(inputs[0][0, 0, 0, 0, 0].item())
        return inputs

    mask = mode_mask("animate", (4, 4, 4)).expand(1, -1, -1, -1)
    sample(
        watch,
        PIXELS,
        [SHAPE],
        seeds=[0],
        steps="ddim3",
        given=[torch.full((1, *SHAPE), 0.25)],
        masks=[mask],
    )
    assert seen == [0.25] * 3


def test_modalities_are_denoised_together_with_their_own_noise() -> None:
    told: list[tuple[int, int]] = []
    video, sound = sample(
        half,
        PIXELS,
        [SHAPE, (1, 4, 4)],
        seeds=[7, 8],
        steps="3",
        on_step=lambda done, steps: told.append((done, steps)),
    )
    assert video.shape == (2, *SHAPE)
    assert sound.shape == (2, 1, 4, 4)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert not torch.equal(video[:, 0, :1], sound)
    alone = sample(half, PIXELS, [SHAPE], seeds=[7], steps="ddim3")[0]
    both = sample(half, PIXELS, [SHAPE, (1, 4, 4)], seeds=[7], steps="ddim3")[0]
    assert torch.equal(alone, both)


def test_eta_adds_noise_to_ddim() -> None:
    still = sample(half, PIXELS, [SHAPE], seeds=[1], steps="ddim4")[0]
    moved = sample(half, PIXELS, [SHAPE], seeds=[1], steps="ddim4", eta=1.0)[0]
    assert not torch.allclose(still, moved, atol=1e-3)


def test_images_of_a_dit_with_and_without_labels() -> None:
    torch.manual_seed(0)
    config = DiTConfig(input_size=4, hidden_size=16, depth=1, num_heads=2, num_classes=3)
    model = DiT(config).eval()
    perturb(model)
    diffusion = Diffusion(betas("linear"))
    nothing = torch.full((2,), 3)
    shape, seeds = (4, 4, 4), [0, 1]
    free = sample(denoiser(model), diffusion, [shape], seeds=seeds, steps="4", clip=False)[0]
    named = sample(labelled(model, nothing), diffusion, [shape], seeds=seeds, steps="4", clip=False)
    assert torch.equal(free, named[0])
    labels = torch.tensor([0, 2])
    plain, strong = (
        sample(labelled(model, labels, scale), diffusion, [shape], seeds=seeds, steps="4")[0]
        for scale in (1.0, 4.0)
    )
    assert not torch.allclose(plain, strong, atol=1e-3)


def test_refuses_what_does_not_fit() -> None:
    mask, clip = mode_mask("predict", (4, 4, 4)), torch.zeros(1, *SHAPE)
    with pytest.raises(ValueError, match="given and masks do not match"):
        sample(half, PIXELS, [SHAPE], seeds=[0], masks=[mask])
    with pytest.raises(ValueError, match=r"mask has shape \(4, 4\); needs \(4, 4, 4\)"):
        sample(half, PIXELS, [SHAPE], seeds=[0], given=[clip], masks=[mask[0]])
    with pytest.raises(ValueError, match=r"given has shape \(4, 3, 4, 4\)"):
        sample(half, PIXELS, [SHAPE], seeds=[0], given=[clip[0]], masks=[mask])
    with pytest.raises(ValueError, match="no seed is given"):
        sample(half, PIXELS, [SHAPE], seeds=[])
