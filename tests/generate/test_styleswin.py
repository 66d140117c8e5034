import dataclasses
import json

import pytest
import torch
from generate.references import reference, relative
from torch import Tensor

from sigform_generate.networks import load_network, save_network
from sigform_generate.styleswin import (
    Generator,
    GeneratorConfig,
    Grid,
    from_pixels,
    moments,
    sinusoids,
    to_pixels,
)

SMALL = GeneratorConfig(size=32, style_dim=16, n_mlp=2, in_channels_by_stage=(32, 32, 16, 16))


def small(config: GeneratorConfig = SMALL) -> Generator:
    torch.manual_seed(0)
    model = Generator(config)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model.eval()


@pytest.fixture(scope="module")
def published() -> tuple[Generator, dict[str, Tensor], dict[str, Tensor]]:
    config, state, tensors = reference("styleswin_a")
    config["in_channels_by_stage"] = [64, 64, 32, 16]
    return Generator.from_reference(config, state), state, tensors


@pytest.mark.parametrize("gradients", [True, False])
def test_agrees_with_the_reference(published, gradients: bool) -> None:
    model, _, tensors = published
    with torch.set_grad_enabled(gradients):
        made = model(tensors["input.z"])
        truncated = model(
            tensors["input.z"],
            truncation=0.7,
            truncation_latent=tensors["input.truncation_latent"],
        )
    assert relative(model.mapping(tensors["input.z"]), tensors["tap.style"]) < 1e-5
    assert relative(made, tensors["output"]) < 1e-5
    assert relative(truncated, tensors["output.truncated"]) < 1e-5


def test_missing_and_unexpected_parameters_are_named(published) -> None:
    _, state, _ = published
    config, _, _ = reference("styleswin_a")
    config["in_channels_by_stage"] = [64, 64, 32, 16]
    less = {name: value for name, value in state.items() if name != "to_rgbs.1.bias"}
    with pytest.raises(ValueError, match=r"to_rgbs\.1\.bias missing"):
        Generator.from_reference(config, less)
    with pytest.raises(ValueError, match="strange unexpected"):
        Generator.from_reference(config, {**state, "strange": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"upscale.*known are"):
        Generator.from_reference({**config, "upscale": 2}, state)


@pytest.mark.parametrize(
    ("size", "multiplier", "millions"), [(256, 2, 48.929512), (1024, 1, 40.862990)]
)
def test_has_the_published_number_of_parameters(
    size: int, multiplier: int, millions: float
) -> None:
    with torch.device("meta"):
        model = Generator(GeneratorConfig(size=size, channel_multiplier=multiplier))
    assert sum(value.numel() for value in model.parameters()) == round(millions * 1e6)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"enable_full_resolution": 16},
        {"qkv_bias": False},
        {"min_heads": 2},
        {"mlp_ratio": 1.5, "qk_scale": 0.3},
    ],
)
def test_without_gradients_images_are_the_same(change) -> None:
    model = small(dataclasses.replace(SMALL, **change))
    z = torch.randn(2, 16)
    slow = model(z)
    with torch.no_grad():
        fast = model(z)
    torch.testing.assert_close(fast, slow.detach(), atol=2e-5, rtol=1e-4)


def test_parts_of_an_image_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, z = small(), torch.randn(1, 16)
    with torch.no_grad():
        whole = model(z)
        monkeypatch.setattr("sigform_generate.styleswin.CHUNK", 100)
        torch.testing.assert_close(model(z), whole, atol=2e-5, rtol=1e-4)


def test_an_image_does_not_depend_on_its_batch() -> None:
    model, z = small(), torch.randn(3, 16)
    with torch.no_grad():
        together = model(z)
        alone = torch.cat([model(one[None]) for one in z])
    assert torch.equal(together, alone)


def test_inference_leaves_the_weights() -> None:
    model, z = small(), torch.randn(1, 16)
    with torch.no_grad():
        assert torch.equal(model(z), model(z))


def test_bfloat16_is_close() -> None:
    model, z = small(), torch.randn(1, 16)
    with torch.no_grad():
        exact = model(z)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(z).float()
    assert 1e-4 < relative(rough, exact) < 0.05


def test_a_gradient_reaches_every_parameter() -> None:
    model = small()
    model(torch.randn(2, 16)).square().mean().backward()
    lost = [
        name
        for name, value in model.named_parameters()
        if value.grad is None or not value.grad.abs().sum()
    ]
    assert lost == []


def test_styles_can_be_mixed() -> None:
    model = small()
    first, second = model.mapping(torch.randn(2, 16))
    mixed = torch.stack([first] * 4 + [second] * 4)[None]
    with torch.no_grad():
        made = model.synthesis(mixed)
        same = model.synthesis(first.expand(1, 8, -1))
        torch.testing.assert_close(same, model.synthesis(first[None]))
    assert not torch.allclose(made, same)


def test_truncation_goes_to_the_mean() -> None:
    model, z = small(), torch.randn(2, 16)
    mean = model.mean_latent(64, torch.Generator().manual_seed(0))
    assert mean.shape == (1, 16)
    with torch.no_grad():
        none = model(z, truncation=0.0, truncation_latent=mean)
        torch.testing.assert_close(none[0], none[1])
    with pytest.raises(ValueError, match=r"truncation is 0\.5; needs a truncation_latent"):
        model(z, truncation=0.5)


def test_survives_saving(tmp_path) -> None:
    model, z = small(), torch.randn(1, 16)
    save_network(tmp_path / "a.safetensors", model, {})
    loaded = load_network(tmp_path / "a.safetensors").network
    assert loaded.config == model.config
    with torch.no_grad():
        assert torch.equal(model(z), loaded(z))


def test_overfits_eight_images() -> None:
    model = Generator(
        GeneratorConfig(
            size=16, style_dim=16, n_mlp=1, in_channels_by_stage=(32, 32, 16), min_heads=2
        )
    )
    torch.manual_seed(0)
    z, wanted = torch.randn(8, 16), torch.rand(8, 3, 16, 16)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    first = last = 0.0
    for step in range(60):
        loss = (model(z) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (loss.item() if not step else first), loss.item()
    assert last < 0.3 * first


def test_shifted_windows_hold_every_token_once() -> None:
    grid = Grid(32, 8)
    tokens = torch.cat([kind.tokens for kind in grid.kinds()])
    assert torch.equal(tokens[grid.unshift], torch.arange(32 * 32))
    kinds = list(grid.kinds())
    assert [len(kind.tokens) // 64 for kind in kinds] == [9, 3, 3, 1]
    assert kinds[0].mask is None
    assert [int((kind.mask < 0).sum()) for kind in kinds[1:] if kind.mask is not None] == [
        2048,
        2048,
        3072,
    ]


def test_windows_hold_neighbours() -> None:
    grid = Grid(16, 8)
    inner = next(grid.kinds()).tokens
    rows, columns = grid.order[inner] // 16, grid.order[inner] % 16
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 11, 4, 11)


def test_moments_are_the_same_in_parts() -> None:
    x = torch.randn(2, 5000, 3) + 5
    with torch.no_grad():
        variance, mean = moments(x)
    torch.testing.assert_close(mean, x.mean(1))
    torch.testing.assert_close(variance, x.var(1, correction=0))


def test_positions_fall_from_one_to_a_ten_thousandth() -> None:
    table = sinusoids(6, 8)
    places = torch.arange(1, 7)
    torch.testing.assert_close(table[:, 0], places.sin())
    torch.testing.assert_close(table[:, 7], (places / 10_000).cos())


def test_pixels_come_back() -> None:
    pixels = torch.rand(2, 3, 4, 4) * 2 - 1
    torch.testing.assert_close(to_pixels(from_pixels(pixels)), pixels)
    assert to_pixels(100 * from_pixels(pixels)).abs().max() <= 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"size": 48}, "size is 48; needs a power of two"),
        ({"in_channels_by_stage": (32, 32)}, "has 2 stages; 32 pixels need 4"),
        ({"in_channels_by_stage": (30, 32, 16, 16)}, "has 30; needs multiples of 4"),
        ({"min_heads": 3}, "min_heads is 3; needs an even number"),
        ({"n_mlp": 0}, "need to be 1 or more"),
        ({"size": 4096, "in_channels_by_stage": ()}, "needs in_channels_by_stage above 1024"),
    ],
)
def test_impossible_configs_are_refused(change, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        dataclasses.replace(SMALL, **change)


def test_wrong_vectors_are_refused() -> None:
    model = small()
    with pytest.raises(ValueError, match=r"z is \(2, 3\); needs \(B, 16\)"):
        model(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"w is \(2, 3, 16\); needs"):
        model.synthesis(torch.zeros(2, 3, 16))


def test_config_is_json() -> None:
    again = json.loads(json.dumps(dataclasses.asdict(SMALL)))
    assert GeneratorConfig(**again) == dataclasses.replace(
        SMALL, in_channels_by_stage=(32, 32, 16, 16)
    )
