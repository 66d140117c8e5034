"""AV-DiT: its size, what is frozen, how it starts, and that both modalities hear of each other."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sigform_generate.avdit import AVDiT, AVDiTConfig, time_positions
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.networks import load_network, save_network
from sigform_generate.policy import PLAIN, StepContext

BACKBONE = DiTConfig(
    input_size=16,
    patch_size=4,
    in_channels=3,
    hidden_size=32,
    depth=2,
    num_heads=2,
    num_classes=1,
    class_dropout_prob=0.0,
    learn_sigma=False,
)
SMALL = AVDiTConfig(
    backbone=BACKBONE,
    frames=4,
    audio_channels=1,
    audio_size=(8, 6),
    audio_patch=(2, 3),
    lora_rank=4,
    adapter_rank=4,
    fusion_rank=4,
    fusion_grid=2,
)


def filled(config: AVDiTConfig = SMALL, seed: int = 0) -> AVDiT:
    """A model in which nothing is zero."""
    chance = torch.Generator().manual_seed(seed)
    model = AVDiT(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.2 * torch.randn(value.shape, generator=chance))
    return model


def inputs(batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    video = torch.randn(batch, 4, 3, 16, 16, generator=chance)
    return video, torch.randn(batch, 1, 8, 6, generator=chance), torch.arange(batch) * 300 + 20


def test_at_the_papers_size_158_million_are_trained() -> None:
    with torch.device("meta"):
        model = AVDiT(AVDiTConfig())
    assert round(model.trainable_parameters() / 1e6, 1) == 158.3
    assert round(model.frozen_parameters() / 1e6, 1) == 674.8


def test_both_outputs_have_the_shapes_of_the_inputs() -> None:
    video, audio, t = inputs()
    seen, heard = filled()(video, audio, t)
    assert seen.shape == video.shape
    assert heard.shape == audio.shape
    learned = AVDiTConfig(
        backbone=DiTConfig(
            input_size=8, patch_size=2, in_channels=4, hidden_size=32, depth=1, num_heads=2
        ),
        frames=3,
        audio_channels=2,
        audio_size=(6, 4),
    )
    latents = torch.zeros(1, 3, 4, 8, 8), torch.zeros(1, 2, 6, 4)
    seen, heard = AVDiT(learned)(*latents, torch.tensor([5]))
    assert seen.shape == (1, 3, 8, 8, 8)
    assert heard.shape == (1, 4, 6, 4)


def test_at_the_start_each_frame_is_the_dits_own_and_audio_is_zero() -> None:
    backbone = DiT(BACKBONE).eval()
    with torch.no_grad():
        for value in backbone.parameters():
            value.normal_(std=0.2)
    model = AVDiT.around(backbone, SMALL).eval()
    video, audio, t = inputs()
    seen, heard = model(video, audio, t)
    for frame in range(4):
        alone = backbone(video[:, frame], t, torch.zeros(2, dtype=torch.long))
        assert torch.allclose(seen[:, frame], alone, atol=1e-5)
    assert not heard.any()


def test_a_backbone_of_another_config_is_refused() -> None:
    other = DiT(DiTConfig(input_size=8, hidden_size=32, depth=1, num_heads=2))
    with pytest.raises(ValueError, match="backbone is DiTConfig"):
        AVDiT.around(other, SMALL)


def test_a_gradient_reaches_all_that_is_trained_and_nothing_else() -> None:
    model = filled()
    seen, heard = model(*inputs())
    (seen.square().sum() + heard.square().sum()).backward()
    for name, value in model.named_parameters():
        assert value.requires_grad != name.startswith("backbone."), name
        if value.requires_grad:
            assert value.grad is not None, name
            assert bool(value.grad.any()), name
        else:
            assert value.grad is None, name
    assert model.trainable_parameters() + model.frozen_parameters() == sum(
        value.numel() for value in model.parameters()
    )


@pytest.mark.parametrize("grid", [1, 2, 4])
def test_each_modality_hears_of_the_other_through_the_gates_alone(grid: int) -> None:
    config = AVDiTConfig(**{**vars(SMALL), "fusion_grid": grid})
    model = filled(config)
    video, audio, t = inputs()
    seen, heard = model(video, audio, t)
    other_seen, _ = model(video, audio + 1, t)
    _, other_heard = model(video + 1, audio, t)
    assert not torch.allclose(seen, other_seen)
    assert not torch.allclose(heard, other_heard)
    with torch.no_grad():
        for inserted in model.inserted:
            inserted.video_gate.zero_()  # pyright: ignore
            inserted.audio_gate.zero_()  # pyright: ignore
    seen, heard = model(video, audio, t)
    assert torch.equal(model(video, audio + 1, t)[0], seen)
    assert torch.equal(model(video + 1, audio, t)[1], heard)


def test_frames_hear_of_each_other() -> None:
    model = filled()
    video, audio, t = inputs()
    seen, _ = model(video, audio, t)
    changed = video.clone()
    changed[:, 0] += 1
    others, _ = model(changed, audio, t)
    assert not torch.allclose(seen[:, 3], others[:, 3])


def test_a_batch_of_two_is_two_of_one() -> None:
    model = filled()
    video, audio, t = inputs()
    seen, heard = model(video, audio, t)
    for k in range(2):
        one = slice(k, k + 1)
        alone = model(video[one], audio[one], t[one])
        assert torch.allclose(alone[0], seen[one], atol=1e-5)
        assert torch.allclose(alone[1], heard[one], atol=1e-5)


def test_row_r_of_the_spectrogram_has_the_time_of_its_frame() -> None:
    model = AVDiT(SMALL)  # 4 rows of 2 columns for 4 frames
    assert torch.equal(model.audio_times.view(4, 2, -1)[:, 1], model.frame_times)
    finer = AVDiT(AVDiTConfig(**{**vars(SMALL), "audio_patch": (1, 3)}))
    halves = time_positions(torch.arange(8, dtype=torch.float64) / 2, 32)
    assert torch.equal(finer.audio_times.view(8, 2, -1)[:, 0], halves)


def test_what_is_saved_is_the_whole_model(tmp_path) -> None:
    model = filled()
    save_network(tmp_path / "a.safetensors", model, {})
    loaded = load_network(tmp_path / "a.safetensors")
    network = loaded.network
    assert isinstance(network, AVDiT)
    assert network.config == SMALL
    assert network.trainable_parameters() == model.trainable_parameters()
    for made, wanted in zip(network(*inputs()), model(*inputs()), strict=True):
        assert torch.equal(made, wanted)


class Counting:
    """A policy that runs all blocks and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def begin(self, context: StepContext) -> None:
        del context

    def run(
        self,
        index: int,
        block: Callable[[tuple[Tensor, Tensor], Tensor], tuple[Tensor, Tensor]],
        tokens: tuple[Tensor, Tensor],
        condition: Tensor,
    ) -> tuple[Tensor, Tensor]:
        assert [part.shape[-1] for part in tokens] == [32, 32]
        self.calls.append(index)
        return block(tokens, condition)


def test_every_block_goes_through_the_policy_as_a_pair() -> None:
    model, policy = filled(), Counting()
    made = model(*inputs(), policy=policy)  # pyright: ignore[reportArgumentType]
    plain = model(*inputs(), policy=PLAIN)
    assert policy.calls == [0, 1]
    assert all(torch.equal(a, b) for a, b in zip(made, plain, strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "frames is 0"),
        ({"lora_rank": 0}, "lora_rank is 0"),
        ({"audio_patch": (3, 3)}, "needs to fill"),
        ({"fusion_grid": 3}, "fusion_grid is 3; needs to divide 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AVDiTConfig(**{**vars(SMALL), **wrong})


def test_other_inputs_than_the_configs_are_refused() -> None:
    model = AVDiT(SMALL)
    video, audio, t = inputs()
    with pytest.raises(ValueError, match=r"video has shape \(2, 3, 3, 16, 16\)"):
        model(video[:, :3], audio, t)
    with pytest.raises(ValueError, match=r"audio has shape \(1, 1, 8, 6\)"):
        model(video, audio[:1], t)


@pytest.mark.parametrize("part", ["temporal", "fusion"])
def test_time_has_a_direction_for_both_that_look_along_it(part: str) -> None:
    model = filled()
    with torch.no_grad():
        for inserted in model.inserted:
            if part == "temporal":
                inserted.video_gate.zero_()  # pyright: ignore
            else:
                inserted.temporal.attention.proj.weight.zero_()  # pyright: ignore
    video, audio, t = inputs()
    seen, _ = model(video, audio, t)
    backwards, _ = model(video.flip(1), audio, t)
    assert not torch.allclose(backwards.flip(1), seen, atol=1e-4)
