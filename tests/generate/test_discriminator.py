import dataclasses

import pytest
import torch
from generate.references import reference, relative

from sigform_generate.discriminator import Discriminator, DiscriminatorConfig, spread

SMALL = DiscriminatorConfig(size=16, sn=True, channels=(12, 8, 8))


@pytest.fixture(scope="module")
def published():
    config, state, tensors = reference("styleswin_disc_a")
    config["channels"] = {"4": 48, "8": 32, "16": 24, "32": 16}
    return Discriminator.from_reference(config, state), config, state, tensors


def test_agrees_with_the_reference(published) -> None:
    model, _, _, tensors = published
    x = tensors["input.x"].clone().requires_grad_(True)
    out = model(x)
    (slope,) = torch.autograd.grad(out.sum(), x)
    assert relative(out, tensors["output"]) < 1e-5
    assert relative(slope, tensors["output.grad_input"]) < 1e-4
    assert relative(model(x[:1]), tensors["output.batch1"]) < 1e-5


def test_misfits_are_named(published) -> None:
    _, config, state, _ = published
    less = {name: value for name, value in state.items() if name != "final_linear.2.bias"}
    with pytest.raises(ValueError, match=r"final_linear\.2\.bias missing"):
        Discriminator.from_reference(config, less)
    with pytest.raises(ValueError, match=r"sides \[4, 16\]; needs \[4, 8\]"):
        Discriminator.from_reference({**config, "channels": {"4": 8, "16": 8}}, state)


def test_without_spectral_norm_the_last_layers_are_named_otherwise() -> None:
    torch.manual_seed(0)
    model = Discriminator(dataclasses.replace(SMALL, sn=False)).eval()
    theirs = {
        "final_linear.1.bias": "final_linear.0.bias",
        "final_linear.2.weight": "final_linear.1.weight",
        "final_linear.2.bias": "final_linear.1.bias",
    }
    state = {theirs.get(name, name): value for name, value in model.state_dict().items()}
    config = {"size": 16, "sn": False, "channels": {"4": 12, "8": 8, "16": 8}}
    loaded = Discriminator.from_reference(config, state)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(x), model(x))


def test_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = Discriminator(DiscriminatorConfig(size=256))
    assert sum(value.numel() for value in model.parameters()) == 26_211_585


@pytest.mark.parametrize("sn", [True, False])
def test_gradients_reach_every_parameter_twice(sn: bool) -> None:
    torch.manual_seed(0)
    model = Discriminator(dataclasses.replace(SMALL, sn=sn)).train()
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    score = model(x).sum()
    (slope,) = torch.autograd.grad(score, x, create_graph=True)
    (slope.square().sum() + score).backward()
    lost = [name for name, value in model.named_parameters() if value.grad is None]
    assert lost == []


def test_training_finds_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    model = Discriminator(SMALL).train()
    conv = model.final_conv[0]
    for _ in range(60):
        model(torch.randn(2, 3, 16, 16))
    largest = torch.linalg.svdvals(conv.weight_orig.flatten(1))[0]
    torch.testing.assert_close(conv.scaled() * largest, conv.weight_orig, rtol=1e-3, atol=1e-4)


def test_evaluation_moves_no_buffer() -> None:
    model = Discriminator(SMALL).eval()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.randn(2, 3, 16, 16))
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())


def test_spread_is_that_of_groups() -> None:
    features = torch.randn(8, 5, 4, 4)
    out = spread(features)
    group = features[1::2]
    wanted = (group.var(0, correction=0) + 1e-8).sqrt().mean()
    assert out.shape == (8, 1, 4, 4)
    torch.testing.assert_close(out[3], wanted.expand(1, 4, 4))
    with pytest.raises(ValueError, match="6 images; needs up to 4 or a multiple of 4"):
        spread(features[:6])


def test_wrong_images_and_configs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x is \(1, 3, 8, 8\); needs \(B, 3, 16, 16\)"):
        Discriminator(SMALL)(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="16 pixels need 3 widths"):
        dataclasses.replace(SMALL, channels=(8, 8))
    with pytest.raises(ValueError, match="size is 20; needs a power of two"):
        dataclasses.replace(SMALL, size=20)
