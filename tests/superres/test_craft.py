"""CRAFT against the published implementation, and as a model of its own."""

import gc
import json
import os
import weakref
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.weights import load_weights, save_weights
from sigform_core.windows import relative_index, relative_offsets
from sigform_superres.craft import (
    CRAFT,
    WHOLE,
    ChannelAttention,
    ChannelStatistics,
    CRAFTConfig,
    PositionBias,
    Stages,
    WindowAttention,
    own_name,
    published_name,
)
from sigform_superres.padding import mirrored, pad_to_multiple

# At width 32 the position bias is constant, as it is at the published 48; from 64 on it is not.
SMALL = CRAFTConfig(
    upscale=2, embed_dim=32, depths=(1,), num_heads=(4,), split_size_0=2, split_size_1=4
)
GROUP = "layers.0.residual_group"


def golden() -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Config, published state and the other tensors of the reference file."""
    root = os.environ.get("SIGFORM_FIXTURES")
    if root is None:
        pytest.skip("SIGFORM_FIXTURES names no folder with reference tensors")
    with safe_open(Path(root) / "golden" / "craft_a.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    return config, state, tensors


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def changed(**changes: Any) -> CRAFTConfig:
    known = CRAFT(SMALL).config_dict()
    return CRAFTConfig(**{**known, **changes})


def perturb(model: nn.Module, seed: int = 0) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def perturbed(config: CRAFTConfig = SMALL, seed: int = 0) -> CRAFT:
    """A network in eval mode whose weights are all away from where they start."""
    torch.manual_seed(seed)
    model = CRAFT(config).eval()
    perturb(model, seed)
    return model


# The published network.


def test_reference_output() -> None:
    config, state, tensors = golden()
    model = CRAFT.from_reference(config, state)
    assert not model.training
    with torch.no_grad():
        found = model(tensors["input"])
        assert relative(found, tensors["output"]) < 1e-5
        padded = model(tensors["input_padded_reflect"])
        assert relative(padded, tensors["output_padded_reflect"]) < 1e-5
        flipped = model(tensors["input"], padding="flip")
        assert relative(flipped, tensors["output_flip_pad"]) < 1e-5
    assert relative(flipped, tensors["output"]) > 1e-2


def test_reference_gradient() -> None:
    config, state, tensors = golden()
    model = CRAFT.from_reference(config, state)
    x = tensors["input_padded_reflect"].clone().requires_grad_()
    model(x).square().mean().backward()
    assert x.grad is not None
    assert relative(x.grad, tensors["grad_input_padded_reflect"]) < 1e-4


def test_reference_between_the_layers() -> None:
    config, state, tensors = golden()
    model = CRAFT.from_reference(config, state)
    taps = {k.removeprefix("tap."): v for k, v in tensors.items() if k.startswith("tap.")}
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            found[name] = output  # (B, H, W, C)

        return hook

    for name, module in model.named_modules():
        if name in taps:
            module.register_forward_hook(keep(name))
    with torch.no_grad():
        model(tensors["input_padded_reflect"])
        for branch in (0, 1):
            # Never asked for at this width, where it changes nothing.
            name = f"{GROUP}.srwa_blocks.0.attns.{branch}"
            attention = model.get_submodule(name)
            assert isinstance(attention, WindowAttention)
            assert f"{name}.pos" not in found
            found[f"{name}.pos"] = attention.pos(attention.get_buffer("offsets"))
    assert found.keys() == taps.keys()
    for name, output in found.items():
        tap = taps[name]
        if name.endswith(("attns.0", "attns.1")):
            attention = model.get_submodule(name)
            assert isinstance(attention, WindowAttention)
            assert attention.shift == ((2, 8) if name.endswith("0") else (8, 2))
            tap = tap.roll(attention.shift, (1, 2))  # taken before it is moved back
        elif tap.dim() == 4:
            tap = tap.permute(0, 2, 3, 1)
        assert relative(output.reshape(tap.shape), tap) < 1e-5, name


def test_reference_state_round_trip() -> None:
    config, state, _ = golden()
    model = CRAFT.from_reference(config, state)
    published = model.published_state()
    assert set(published) == set(state)
    for name, value in state.items():
        assert published[name].dtype == value.dtype
        assert torch.equal(published[name], value), name


def test_reference_reads_what_the_published_configs_hold() -> None:
    state = perturbed().published_state()
    known = CRAFT(SMALL).config_dict()
    unused = {"type": "CRAFT", "img_size": 64, "window_size": 16, "upsampler": ""}
    model = CRAFT.from_reference({**known, **unused, "depths": [1], "num_heads": [4]}, state)
    assert model.config == SMALL
    tables = ("relative_position_index_h", "relative_position_index_v", "biases_h", "biases_v")
    bare = {name: value for name, value in state.items() if name not in tables}
    assert len(bare) == len(state) - 4
    x = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        assert torch.equal(CRAFT.from_reference(known, bare)(x), model(x))


def test_reference_refuses_what_does_not_fit() -> None:
    known, state = CRAFT(SMALL).config_dict(), CRAFT(SMALL).published_state()
    gone = {k: v for k, v in state.items() if k != "upsample.0.bias"}
    with pytest.raises(ValueError, match=r"upsample\.0\.bias missing"):
        CRAFT.from_reference(known, gone)
    with pytest.raises(ValueError, match=r"extra unexpected"):
        CRAFT.from_reference(known, {**state, "extra": torch.ones(1)})
    with pytest.raises(ValueError, match=r"norm\.body\.bias has shape \(5,\), needs \(32,\)"):
        CRAFT.from_reference(known, {**state, "norm.body.bias": torch.ones(5)})
    with pytest.raises(ValueError, match=r"'depth' \(did you mean 'depths'"):
        CRAFT.from_reference({**known, "depth": 3}, state)


@pytest.mark.parametrize(("upscale", "count"), [(2, 737_756), (3, 744_251), (4, 753_344)])
def test_parameters_of_the_paper(upscale: int, count: int) -> None:
    model = CRAFT(CRAFTConfig(upscale=upscale))
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert len(model.published_state()) == 844
    assert model.config.multiple == 16
    assert model.scale == upscale


def test_names_go_to_and_fro() -> None:
    model = CRAFT(SMALL)
    for name in model.state_dict():
        assert own_name(published_name(name)) == name
    assert f"{GROUP}.srwa_blocks.1.mlp.fc2.bias" in model.published_state()


# Its parts, spelt out.


def literal_window_attention(layer: WindowAttention, qkv: Tensor) -> Tensor:
    """Pixel by pixel: those of a window that wraps around the image ask each other."""
    _, H, W, _ = qkv.shape
    (h, w), (up, left) = layer.window, layer.shift
    d = qkv.shape[-1] // 3 // layer.heads
    query, key, value = qkv.unflatten(-1, (3, layer.heads, d)).unbind(3)  # (B, H, W, heads, d)
    offsets = {tuple(o): n for n, o in enumerate(relative_offsets(layer.window).int().tolist())}
    bias = layer.pos(layer.get_buffer("offsets"))  # (P, heads)
    out = torch.zeros_like(query)
    for row in range(H):
        for column in range(W):
            a, b = (row - up) % H % h, (column - left) % W % w  # where it stands in its window
            scores, values = [], []
            for i in range(h):
                for j in range(w):
                    other = (row - a + i) % H, (column - b + j) % W
                    score = (query[:, row, column] * key[:, *other]).sum(-1) / d**0.5
                    scores.append(score + bias[offsets[a - i, b - j]])
                    values.append(value[:, *other])
            weights = torch.stack(scores).softmax(0)
            out[:, row, column] = (weights[..., None] * torch.stack(values)).sum(0)
    return out.flatten(-2)


@pytest.mark.parametrize("window", [(2, 4), (4, 2)])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("channels", [16, 48], ids=["constant bias", "bias"])
def test_window_attention_is_the_loop(
    window: tuple[int, int], shifted: bool, channels: int
) -> None:
    shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
    layer = WindowAttention(channels, 2, window, shift).double()
    perturb(layer)
    assert layer.pos.is_constant == (channels == 16)
    qkv = torch.randn(2, 4, 8, 3 * channels, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(qkv), literal_window_attention(layer, qkv))


def test_channel_attention_is_the_published_one() -> None:
    layer, (H, W) = ChannelAttention(12, 3), (5, 6)
    perturb(layer)
    low, high = torch.randn(2, 2, H, W, 12)
    with torch.no_grad():
        found = layer(low, layer.measure(low, high, WHOLE))
        key, value = layer.kv_dwconv(layer.kv(low)).chunk(2, dim=-1)
        query, key, value = (
            part.flatten(1, 2).transpose(1, 2).unflatten(1, (3, -1))
            for part in (layer.q_dwconv(layer.q(high)), key, value)
        )  # (B, h, d, L)
        cosines = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT
        out = (cosines * layer.temperature).softmax(-1) @ value
        wanted = layer.project_out(out.flatten(1, 2).mT.reshape(2, H, W, 12))
    torch.testing.assert_close(found, wanted)


def test_the_constant_position_bias_is_left_out_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The published width, one block of it.
    model = perturbed(CRAFTConfig(upscale=2, depths=(1,), num_heads=(6,)))
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if ".pos." in name}
    x = torch.rand(1, 3, 16, 20)
    with torch.no_grad():
        left_out = model(x)
        with monkeypatch.context() as patch:
            patch.setattr(PositionBias, "is_constant", False)
            assert 0 < relative(model(x), left_out) < 1e-5
        for name in frozen:
            model.get_parameter(name).fill_(torch.nan)
        assert torch.equal(model(x), left_out)


def test_a_wider_network_knows_where_pixels_stand() -> None:
    wide = perturbed(changed(embed_dim=96))
    assert all(parameter.requires_grad for parameter in wide.parameters())
    x = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        wanted = wide(x)
        for name, parameter in wide.named_parameters():
            if ".pos." in name:
                parameter.mul_(2.0)
        assert relative(wide(x), wanted) > 1e-3


def test_pixels_in_another_range_are_only_scaled() -> None:
    model = perturbed()
    state = model.state_dict()
    state["conv_first.weight"] = state["conv_first.weight"] / 255
    for name in ("upsample.0.weight", "upsample.0.bias"):
        state[name] = state[name] * 255
    other = CRAFT(changed(img_range=255.0)).eval()
    other.load_state_dict(state)
    x = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        assert relative(other(x), model(x)) < 1e-5


def test_without_the_last_convolution_and_the_bias() -> None:
    plain = perturbed(changed(resi_connection="identity", qkv_bias=False))
    assert plain.residual is None
    assert not any("qkv.bias" in name for name in plain.state_dict())
    full = CRAFT(SMALL).eval()
    assert full.residual is full.conv_after_body
    state = full.state_dict() | plain.state_dict()
    state |= {name: torch.zeros_like(value) for name, value in state.items() if "qkv.bias" in name}
    state["conv_after_body.weight"] = torch.zeros(32, 32, 3, 3)
    state["conv_after_body.weight"][:, :, 1, 1] = torch.eye(32)
    state["conv_after_body.bias"] = torch.zeros(32)
    full.load_state_dict(state)
    x = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        assert relative(full(x), plain(x)) < 1e-5


# Images of any size.


@settings(deadline=None)
@given(size=st.integers(1, 9), wanted=st.integers(1, 40))
def test_mirrored_goes_to_and_fro(size: int, wanted: int) -> None:
    extra = max(0, wanted - size)
    for padding, mode in (("reflect", "reflect"), ("flip", "symmetric")):
        known = np.pad(np.arange(size), (0, extra), mode=mode)[:wanted]  # pyright: ignore
        assert mirrored(size, wanted, padding).tolist() == known.tolist()  # pyright: ignore


def test_padding_is_the_published_one() -> None:
    x = torch.rand(2, 3, 20, 13)
    ours = x.permute(0, 2, 3, 1)
    reflected = pad_to_multiple(ours, 16, "reflect").permute(0, 3, 1, 2)
    assert torch.equal(reflected, F.pad(x, (0, 3, 0, 12), "reflect"))
    flipped = torch.cat([x, x.flip(2)], 2)[:, :, :32]
    flipped = torch.cat([flipped, flipped.flip(3)], 3)[..., :16]
    assert torch.equal(pad_to_multiple(ours, 16, "flip").permute(0, 3, 1, 2), flipped)
    fits = torch.rand(1, 8, 16, 3)
    assert pad_to_multiple(fits, 8, "reflect") is fits
    assert pad_to_multiple(fits, 8, "flip").shape == (1, 16, 24, 3)
    with pytest.raises(ValueError, match="padding is 'edge'; needs reflect or flip"):
        pad_to_multiple(ours, 16, "edge")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("padding", ["reflect", "flip"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 40), (12, 8)])
@pytest.mark.parametrize("upscale", [2, 3])
def test_any_size(size: tuple[int, int], padding: Any, upscale: int) -> None:
    model, (H, W) = perturbed(changed(upscale=upscale)), size
    x = torch.rand(1, 3, H, W)
    with torch.no_grad():
        out = model(x, padding=padding)
        grown = pad_to_multiple(x.permute(0, 2, 3, 1), 4, padding).permute(0, 3, 1, 2)
        whole = model(grown, padding="reflect")
    assert out.shape == (1, 3, upscale * H, upscale * W)
    assert torch.equal(out, whole[..., : upscale * H, : upscale * W])


@pytest.mark.parametrize("padding", ["reflect", "flip"])
def test_a_batch_of_two_equals_two_singles(padding: Any) -> None:
    model, x = perturbed(), torch.rand(2, 3, 13, 10)
    with torch.no_grad():
        both = model(x, padding=padding)
        singles = torch.cat([model(one[None], padding=padding) for one in x])
    torch.testing.assert_close(both, singles, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("width", [32, 96])
def test_any_dtype(dtype: torch.dtype, width: int) -> None:
    model, x = perturbed(changed(embed_dim=width)), torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        wanted = model(x)
        out = model.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    assert relative(out.float(), wanted) < (0.05 if dtype == torch.bfloat16 else 1e-5)


def test_one_channel() -> None:
    model = perturbed(changed(in_chans=1, upscale=3))
    with torch.no_grad():
        assert model(torch.rand(1, 1, 5, 6)).shape == (1, 1, 15, 18)
        assert model.get_buffer("mean").tolist() == [0.0]
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 5, 6\); needs \(B, 1, H, W\)"):
        model(torch.rand(1, 3, 5, 6))


# What channel attention takes from the whole image.


def walk(
    stages: Stages[Tensor], given: list[ChannelStatistics] | None = None
) -> tuple[Tensor, list[ChannelStatistics]]:
    """To the end, sending at each stage what is `given` or else what it found, which it returns."""
    found = [next(stages)]
    while True:
        try:
            found.append(stages.send(given[len(found) - 1] if given else found[-1]))
        except StopIteration as end:
            return end.value, found


def assert_same(found: ChannelStatistics, wanted: ChannelStatistics) -> None:
    for part, sums in zip(found, wanted, strict=True):
        torch.testing.assert_close(part, sums, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["reflect", "flip"])
def test_stages_are_the_forward_pass(padding: Any) -> None:
    model, x = perturbed(changed(depths=(1, 2), num_heads=(4, 2))), torch.rand(2, 3, 9, 14)
    with torch.no_grad():
        wanted = model(x, padding=padding)
        out, statistics = walk(model.stages(x, WHOLE, padding=padding))
        assert torch.equal(out, wanted)
        assert [part.products.shape for part in statistics] == [
            (2, 4, 8, 8), (2, 2, 16, 16), (2, 2, 16, 16)
        ]  # fmt: skip
        # Nothing but what it is sent comes from beyond.
        sent, measured = walk(model.stages(x, WHOLE, padding=padding), statistics)
        assert torch.equal(sent, wanted)
        other = [*statistics[:2], measured[2].plus(measured[2].plus(statistics[1]))]
        assert relative(walk(model.stages(x, WHOLE, padding=padding), other)[0], wanted) > 1e-4


def test_regions_together_are_the_whole_at_every_stage() -> None:
    model, x = perturbed(changed(depths=(2, 1), num_heads=(4, 4))), torch.rand(1, 3, 9, 14)
    rows, columns = (slice(0, 5), slice(5, 12)), (slice(0, 8), slice(8, 9), slice(9, 16))
    with torch.no_grad():
        wanted, whole = walk(model.stages(x, WHOLE))
        # Up to the padding, 12 x 16 pixels, in which the last regions end.
        walks = [model.stages(x, (r, c)) for r in rows for c in columns]
        total = reduce(ChannelStatistics.plus, [next(one) for one in walks])
        assert_same(total, whole[0])
        for sums in whole[1:]:
            total = reduce(ChannelStatistics.plus, [one.send(total) for one in walks])
            assert_same(total, sums)
        for one in walks:
            with pytest.raises(StopIteration) as end:
                one.send(total)
            assert relative(end.value.value, wanted) < 1e-5


def test_a_tile_sees_what_its_place_in_the_image_sees() -> None:
    # As far from the tile's ends, and the image's, where windows wrap around, as the network looks.
    model, x = perturbed(), torch.rand(1, 3, 8, 72)
    tile, share = slice(12, 60), slice(32, 40)
    within = slice(share.start - tile.start, share.stop - tile.start)
    with torch.no_grad():
        wanted, whole = walk(model.stages(x, WHOLE))
        out, found = walk(model.stages(x[..., tile], (slice(None), within)), whole)
        assert_same(found[0], next(model.stages(x, (slice(None), share))))
        place = wanted[..., 2 * share.start : 2 * share.stop]
        alone = model(x[..., tile])[..., 2 * within.start : 2 * within.stop]
    torch.testing.assert_close(
        out[..., 2 * within.start : 2 * within.stop], place, rtol=1e-4, atol=1e-5
    )
    assert relative(alone, place) > 1e-4


def test_what_waits_can_be_kept_elsewhere() -> None:
    model, x = perturbed(changed(depths=(2, 1), num_heads=(4, 4))), torch.rand(1, 3, 8, 12)
    shelf: list[Tensor] = []
    most = [0]

    def keep(features: Tensor) -> Callable[[], Tensor]:
        shelf.append(features.clone())
        most.append(len(shelf))
        return lambda: shelf.pop()  # the last one in is the first one out

    def lose(features: Tensor) -> Callable[[], Tensor]:
        return lambda: torch.zeros_like(features)

    with torch.no_grad():
        wanted = model(x)
        assert torch.equal(walk(model.stages(x, WHOLE, keep))[0], wanted)
        assert not torch.equal(walk(model.stages(x, WHOLE, lose))[0], wanted)
    assert max(most) == 2
    assert len(most) == 1 + 2 + 3  # each group and each attention
    assert not shelf


# Learning, saving.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"embed_dim": 96, "qkv_bias": False, "resi_connection": "identity", "img_range": 255.0},
        {"depths": (1, 2), "num_heads": (2, 4), "upscale": 3, "mlp_ratio": 1.5, "in_chans": 1},
    ],
)
def test_a_gradient_reaches_every_parameter(changes: dict[str, Any]) -> None:
    model = perturbed(changed(**changes)).train()
    model(torch.rand(2, model.config.in_chans, 6, 5)).square().mean().backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert ".pos." in name
            continue
        assert parameter.grad is not None, name
        # One constant for a whole head is nothing to softmax, so its gradient is only rounding.
        assert parameter.grad.norm() > 0 or name.endswith("pos.pos3.2.bias"), name


def test_weight_file_round_trip(tmp_path: Path) -> None:
    model, x = perturbed(changed(embed_dim=96, mlp_ratio=1.5)), torch.rand(1, 3, 6, 9)
    path = tmp_path / "weights.safetensors"
    save_weights(path, model.published_state(), model="craft", config=model.config_dict())
    file = load_weights(path, expect_model="craft")
    again = CRAFT.from_reference(file.config, file.tensors)
    assert again.config == model.config
    with torch.no_grad():
        assert torch.equal(again(x), model(x))


def test_index_tables_are_written_for_both_directions() -> None:
    state = CRAFT(SMALL).published_state()
    assert torch.equal(state["biases_h"], relative_offsets((2, 4)))
    assert torch.equal(state["biases_v"], relative_offsets((4, 2)))
    assert torch.equal(state["relative_position_index_h"], relative_index((2, 4)))
    assert torch.equal(state["relative_position_index_v"], relative_index((4, 2)))


def test_overfits_a_few_patches() -> None:
    torch.manual_seed(0)
    model = CRAFT(SMALL)
    high = F.interpolate(torch.rand(4, 3, 4, 4), 16, mode="bicubic").clamp(0, 1)
    low = F.avg_pool2d(high, 2)
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(learnt, lr=5e-3)
    losses = []
    for _ in range(60):
        loss = (model(low) - high).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.03
    assert losses[-1] < losses[0] / 8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"upscale": 9}, "upscale is 9"),
        ({"depths": ()}, r"depths \(\) and num_heads \(4,\)"),
        ({"depths": (1, 1)}, "one entry a group"),
        ({"num_heads": (3,)}, "num_heads is 3; needs an even divisor of embed_dim 32"),
        ({"num_heads": (6,)}, "num_heads is 6"),
        ({"split_size_0": 0}, "need to be 1 or more"),
        ({"depths": (0,)}, "need to be 1 or more"),
        ({"resi_connection": "3conv"}, "resi_connection is '3conv'; needs 1conv or identity"),
    ],
)
def test_config_errors(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        changed(**changes)


def test_what_is_put_away_is_held_by_nothing_else() -> None:
    network = CRAFT(CRAFTConfig(embed_dim=32, depths=(1, 1), num_heads=(2, 2))).eval()
    shelf: dict[int, bytes] = {}
    alive: list[weakref.ref[Tensor]] = []

    def keep(tensor: Tensor) -> Callable[[], Tensor]:
        alive.append(weakref.ref(tensor))
        number, shape = len(alive), tensor.shape
        shelf[number] = tensor.contiguous().numpy().tobytes()
        return lambda: torch.frombuffer(bytearray(shelf.pop(number)), dtype=torch.float32).view(
            shape
        )

    x = torch.rand(1, 3, 16, 32)
    with torch.inference_mode():
        wanted = network(x)
        walk = network.stages(x, WHOLE, keep)
        statistics = next(walk)
        for _ in range(2):
            gc.collect()
            assert all(tensor() is None for tensor in alive)
            assert len(shelf) == 2
            try:
                statistics = walk.send(statistics)
            except StopIteration as end:
                torch.testing.assert_close(end.value, wanted)
