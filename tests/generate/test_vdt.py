"""VDT against the published implementation, and as a model of its own."""

from dataclasses import replace

import pytest
import torch
from generate.references import perturb, reference, relative

from sigform_core.reference import load_reference
from sigform_generate import vdt
from sigform_generate.vdt import PUBLISHED, VDT, VDTConfig

SMALL = VDTConfig(
    input_size=4,
    patch_size=2,
    in_channels=3,
    hidden_size=16,
    depth=2,
    num_heads=2,
    num_classes=3,
    num_frames=5,
)


def small(config: VDTConfig = SMALL) -> VDT:
    torch.manual_seed(0)
    model = VDT(config).eval()
    perturb(model)
    return model


@pytest.mark.parametrize("name", ["vdt_a", "vdt_b"])
def test_is_the_published_network(name: str) -> None:
    config, state, tensors = reference(name)
    model = VDT.from_reference(config, state)
    with torch.no_grad():
        found = model(tensors["input.masked_x"], tensors["input.t"])
    assert relative(found, tensors["output"]) < 1e-5
    assert torch.equal(model.pos_embed, tensors["state.pos_embed"][0])
    assert torch.equal(model.time_embed, tensors["state.time_embed"][0])


def test_blocks_are_the_published_blocks() -> None:
    config, state, tensors = reference("vdt_a")
    model = VDT.from_reference(config, state)
    with torch.no_grad():
        tokens = model.embed(tensors["input.masked_x"])  # (B, T, N, D)
        assert relative(tokens.flatten(0, 1), tensors["tap.tokens"]) < 1e-5
        blocks, _ = model.modulations(model.condition(tensors["input.t"]))
        for number, (block, modulation) in enumerate(zip(model.blocks, blocks, strict=True)):
            tokens = block(tokens, modulation)
            assert relative(tokens.flatten(0, 1), tensors[f"tap.blocks.{number}"]) < 1e-5


def test_a_batch_of_two_equals_two_singles() -> None:
    model = small()
    x, t = torch.randn(2, 5, 3, 4, 4), torch.tensor([3, 900])
    with torch.no_grad():
        singles = [model(x[i : i + 1], t[i : i + 1]) for i in range(2)]
        torch.testing.assert_close(model(x, t), torch.cat(singles))


@pytest.mark.parametrize("tokens", [1, 13, 1 << 20])
def test_parts_without_gradients_are_the_whole(
    tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vdt, "TOKENS", tokens)
    model = small()
    x, t = torch.randn(2, 5, 3, 4, 4), torch.tensor([3, 900])
    wanted = model(x, t).detach()
    before = x.clone()
    with torch.inference_mode():
        torch.testing.assert_close(model(x, t), wanted)
    assert torch.equal(x, before)


def test_every_frame_sees_every_other() -> None:
    model = small()
    x = torch.randn(1, 5, 3, 4, 4, requires_grad=True)
    model(x, torch.tensor([9]))[0, 0].square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().amax(dim=(0, 2, 3, 4)) > 0).all()


def test_a_gradient_reaches_every_parameter() -> None:
    model = small(replace(SMALL, learn_sigma=False))
    out = model(torch.randn(2, 5, 3, 4, 4), torch.tensor([3, 900]))
    assert out.shape == (2, 5, 3, 4, 4)
    out.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_state_round_trips() -> None:
    model = small()
    x, t = torch.randn(1, 5, 3, 4, 4), torch.tensor([5])
    with torch.no_grad():
        wanted = model(x, t)
        again = VDT.from_reference(model.config_dict(), model.published_state())
        assert torch.equal(again(x, t), wanted)
        assert torch.equal(load_reference(VDT(SMALL), model.state_dict())(x, t), wanted)


def test_names_what_does_not_fit() -> None:
    model = small()
    state = {**model.published_state(), "blocks.0.temporal_fc.bias": torch.zeros(3)}
    with pytest.raises(ValueError, match=r"blocks\.0\.temporal_fc\.bias has shape \(3,\)"):
        VDT.from_reference(model.config_dict(), state)
    with pytest.raises(ValueError, match=r"x has shape \(1, 4, 3, 4, 4\); this model needs \(B, 5"):
        model(torch.zeros(1, 4, 3, 4, 4), torch.tensor([1]))
    with pytest.raises(ValueError, match="num_frames is 0"):
        replace(SMALL, num_frames=0)


def test_overfits_a_few_clips() -> None:
    torch.manual_seed(0)
    model = VDT(replace(SMALL, hidden_size=32, learn_sigma=False))
    x, t = torch.randn(8, 5, 3, 4, 4), torch.arange(8) * 100
    wanted = torch.randn(8, 1, 3, 1, 1).expand_as(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    loss = torch.ones(())
    for _ in range(60):
        loss = (model(x, t) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1  # it begins at 0.9


@pytest.mark.parametrize(("name", "millions"), [("VDT-S/2", 41.85), ("VDT-L/2", 861)])
def test_published_sizes_have_the_published_number_of_parameters(
    name: str, millions: float
) -> None:
    with torch.device("meta"):
        model = VDT(PUBLISHED[name])
    count = sum(p.numel() for p in model.parameters())
    # The published code counts its fixed positions, 256 patches and 16 frames, as parameters.
    count += model.pos_embed.numel() + model.time_embed.numel()
    assert count / 1e6 == pytest.approx(millions, rel=1e-3)
