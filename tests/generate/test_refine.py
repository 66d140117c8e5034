"""The convolutions behind a diffusion transformer: in DiT, VDT and AV-DiT, and by themselves."""

from dataclasses import replace

import pytest
import torch
from generate.references import perturb
from torch import Tensor, nn

from sigform_generate.avdit import AVDiT, AVDiTConfig
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.refine import Refine
from sigform_generate.vdt import VDT, VDTConfig

IMAGE = DiTConfig(
    input_size=8,
    patch_size=4,
    in_channels=3,
    hidden_size=16,
    depth=1,
    num_heads=2,
    num_classes=1,
    class_dropout_prob=0.0,
    learn_sigma=False,
    refine_channels=4,
)
CLIP = VDTConfig(**vars(IMAGE), num_frames=3)
T = torch.tensor([3, 900])
LABELS = torch.zeros(2, dtype=torch.long)


def filled(network: nn.Module) -> nn.Module:
    """A network in which nothing is zero."""
    torch.manual_seed(0)
    perturb(network)
    return network.eval()


def test_nothing_changes_at_the_start() -> None:
    torch.manual_seed(0)
    plain = VDT(replace(CLIP, refine_channels=0))
    refined = VDT(CLIP)
    refined.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 3, 3, 8, 8)
    with torch.no_grad():
        nn.init.normal_(plain.head.linear.weight)
        nn.init.zeros_(refined.head.linear.bias)
        refined.head.linear.weight.copy_(plain.head.linear.weight)
        assert torch.equal(refined(x, T), plain(x, T))


def test_frames_are_refined_one_by_one_each_clip_by_its_own_condition() -> None:
    refine = filled(Refine(16, 3, 6, 4))
    guess, x, condition = torch.randn(2, 5, 6, 8, 8), torch.randn(2, 5, 3, 8, 8), torch.randn(2, 16)
    with torch.no_grad():
        whole = refine(guess, x, condition)
        assert whole.shape == guess.shape
        for clip in range(2):
            for frame in range(5):
                alone = refine(
                    guess[clip, frame][None], x[clip, frame][None], condition[clip][None]
                )
                torch.testing.assert_close(whole[clip, frame], alone[0])


def test_pixels_of_one_patch_reach_the_next() -> None:
    # At the start a network's blocks are closed, so all that crosses a seam does so here.
    model = DiT(IMAGE)
    assert model.refine is not None
    filled(model.refine)
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    model(x, T[:1], LABELS[:1])[0, :, 3, 3].sum().backward()
    assert x.grad is not None
    assert x.grad[0, :, 4, 4].abs().min() > 0
    assert not x.grad[0, :, 7, 7].any()  # three pixels is as far as three convolutions see


def test_state_round_trips_and_gradients_reach_it() -> None:
    image, clip = filled(DiT(IMAGE)), filled(VDT(CLIP))
    assert isinstance(image, DiT)
    assert isinstance(clip, VDT)
    x = torch.randn(2, 3, 3, 8, 8)
    with torch.no_grad():
        again = VDT.from_reference(clip.config_dict(), clip.published_state())
        assert torch.equal(again(x, T), clip(x, T))
        other = DiT.from_reference(image.config_dict(), image.published_state())
        assert torch.equal(other(x[:, 0], T, LABELS), image(x[:, 0], T, LABELS))
    clip(x, T).square().sum().backward()
    for name, parameter in clip.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_av_dit_refines_frames_as_its_frozen_backbone_does() -> None:
    backbone = filled(DiT(IMAGE))
    assert isinstance(backbone, DiT)
    config = AVDiTConfig(
        backbone=IMAGE, frames=3, audio_channels=1, audio_size=(6, 4), audio_patch=(2, 2)
    )
    model = AVDiT.around(backbone, config).eval()
    video, audio = torch.randn(2, 3, 3, 8, 8), torch.randn(2, 1, 6, 4)

    def alone(frame: int) -> Tensor:
        return backbone(video[:, frame], T, LABELS)

    with torch.no_grad():
        seen, _ = model(video, audio, T)
        for frame in range(3):
            torch.testing.assert_close(seen[:, frame], alone(frame), atol=1e-5, rtol=1e-5)
    assert not any(value.requires_grad for value in model.backbone.parameters())


def test_a_negative_width_is_refused() -> None:
    with pytest.raises(ValueError, match="refine_channels is -1; needs 0 or more"):
        replace(IMAGE, refine_channels=-1)
