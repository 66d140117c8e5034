"""DLGSANet against the published implementation, and as a model of its own."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from sigform_core.weights import load_weights, save_weights
from sigform_superres import dlgsanet
from sigform_superres.dlgsanet import (
    DLGSANet,
    DLGSANetConfig,
    dynamic_convolution,
    local_starts,
)

SMALL = DLGSANetConfig(
    upscale=2, dim=12, groups=1, blocks=1, window_size=3, restormer_num_heads=3, tlc_kernel=8
)  # fmt: skip


def golden() -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Config, published state and the other tensors of the reference file."""
    root = os.environ.get("SIGFORM_FIXTURES")
    if root is None:
        pytest.skip("SIGFORM_FIXTURES names no folder with reference tensors")
    with safe_open(Path(root) / "golden" / "dlgsanet_a.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    return config, state, tensors


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def perturbed(config: DLGSANetConfig = SMALL, seed: int = 0) -> DLGSANet:
    """A network in eval mode whose weights are all away from where they start."""
    torch.manual_seed(seed)
    model = DLGSANet(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def changed(**changes: Any) -> DLGSANetConfig:
    return DLGSANetConfig(**{**DLGSANet(SMALL).config_dict(), **changes})


def test_reference_output() -> None:
    config, state, tensors = golden()
    model = DLGSANet.from_reference(config, state)
    assert not model.training
    with torch.no_grad():
        assert relative(model(tensors["input"]), tensors["output"]) < 1e-5
        whole = model(tensors["input"], local=False)
        assert relative(whole, tensors["output_no_tlc"]) < 1e-5
        assert torch.equal(model.train()(tensors["input"]), whole)
        batch = model(tensors["input_batch2"])
        assert relative(batch, tensors["output_batch2_no_tlc"]) < 1e-5
    assert relative(whole, tensors["output"]) > 1e-2


def test_reference_gradient() -> None:
    config, state, tensors = golden()
    model = DLGSANet.from_reference(config, state)
    x = tensors["input_batch2"].clone().requires_grad_()
    model(x, local=False).square().mean().backward()
    assert x.grad is not None
    assert relative(x.grad, tensors["grad_input_batch2"]) < 1e-4


def test_reference_between_the_layers() -> None:
    config, state, tensors = golden()
    model = DLGSANet.from_reference(config, state)
    taps = {k.removeprefix("tap."): v for k, v in tensors.items() if k.startswith("tap.")}
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
            found[name] = output.permute(0, 3, 1, 2)

        return hook

    for name, module in model.named_modules():
        if name in taps:
            module.register_forward_hook(keep(name))
    with torch.no_grad():
        model(tensors["input"])
    # The kernels never exist as a whole, nor is the deep part one module.
    assert set(taps) - set(found) == {
        "deep_feature_extraction",
        "deep_feature_extraction.0.body.0.IDynamicDWConv.conv.conv2",
    }
    for name, output in found.items():
        assert relative(output, taps[name]) < 1e-5, name


def test_reference_state_round_trip() -> None:
    config, state, _ = golden()
    model = DLGSANet.from_reference(config, state)
    published = model.published_state()
    assert set(published) == set(state)
    assert all(torch.equal(published[name], value) for name, value in state.items())


def test_reference_refuses_what_does_not_fit() -> None:
    config, state = SMALL, DLGSANet(SMALL).published_state()
    known = DLGSANet(config).config_dict()
    gone = {k: v for k, v in state.items() if k != "upsample.0.bias"}
    with pytest.raises(ValueError, match=r"upsample\.0\.bias missing"):
        DLGSANet.from_reference(known, gone)
    with pytest.raises(ValueError, match=r"extra unexpected"):
        DLGSANet.from_reference(known, {**state, "extra": torch.ones(1)})
    with pytest.raises(ValueError, match="dims"):
        DLGSANet.from_reference({**known, "dims": 3}, state)


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ("tiny", (565_710, 572_205, 581_298)),
        ("light", (745_188, 751_683, 760_776)),
        ("full", (4_733_724, 4_745_889, 4_762_920)),
    ],
)
def test_parameters_of_the_paper(size: Any, counts: tuple[int, ...]) -> None:
    for upscale, wanted in zip((2, 3, 4), counts, strict=True):
        config = DLGSANetConfig.published(size, upscale)
        with torch.device("meta"):
            model = DLGSANet(config)
        assert sum(p.numel() for p in model.parameters()) == wanted
        assert config.tlc_kernel * upscale in (192, 216)
    assert DLGSANetConfig.published("light") == DLGSANetConfig()


def dynamic_inputs(
    dtype: torch.dtype, size: tuple[int, int, int], channels: int = 6, groups: int = 2, K: int = 3
) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    B, H, W = size
    shapes = [(B, H, W, channels), (B, H, W, 2), (groups * K * K, 2), (groups * K * K,)]
    return [torch.randn(shape, generator=draw, dtype=dtype) for shape in shapes]


def literal_dynamic_convolution(
    x: Tensor, code: Tensor, weight: Tensor, bias: Tensor, kernel: int
) -> Tensor:
    B, H, W, C = x.shape
    kernels = (code @ weight.t() + bias).unflatten(-1, (-1, kernel, kernel))
    per_group = C // kernels.shape[3]
    out = torch.zeros_like(x)
    for b in range(B):
        for row in range(H):
            for column in range(W):
                for c in range(C):
                    for i in range(kernel):
                        for j in range(kernel):
                            r, s = row + i - kernel // 2, column + j - kernel // 2
                            if 0 <= r < H and 0 <= s < W:
                                weighs = kernels[b, row, column, c // per_group, i, j]
                                out[b, row, column, c] += weighs * x[b, r, s, c]
    return out


@pytest.mark.parametrize("size", [(2, 4, 3), (1, 1, 1), (1, 1, 3)])
@pytest.mark.parametrize("numbers", [1 << 22, 100], ids=["at once", "in bands"])
def test_dynamic_convolution_is_the_loop(
    size: tuple[int, int, int], numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlgsanet, "KERNEL_NUMBERS", numbers)
    inputs = dynamic_inputs(torch.float64, size)
    wanted = literal_dynamic_convolution(*inputs, kernel=3)
    torch.testing.assert_close(dynamic_convolution(*inputs, kernel=3), wanted)


@pytest.mark.parametrize("numbers", [1 << 22, 100], ids=["at once", "in bands"])
def test_dynamic_convolution_gradient(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlgsanet, "KERNEL_NUMBERS", numbers)
    inputs = [tensor.requires_grad_() for tensor in dynamic_inputs(torch.float64, (2, 4, 3))]
    assert torch.autograd.gradcheck(lambda *given: dynamic_convolution(*given, kernel=3), inputs)


def test_dynamic_convolution_in_half_precision_rounds_once() -> None:
    inputs = dynamic_inputs(torch.bfloat16, (1, 9, 9), K=7)
    exact = dynamic_convolution(*(tensor.double() for tensor in inputs), kernel=7)
    found = dynamic_convolution(*inputs, kernel=7)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, exact.bfloat16(), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "kernel", "starts"),
    [(48, 48, [0]), (20, 48, [0]), (49, 48, [0, 1]), (128, 48, [0, 40, 80]), (23, 16, [0, 7]),
     (1, 1, [0]), (7, 2, [0, 2, 4, 5]), (100, 9, [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 91])],
)  # fmt: skip
def test_local_starts(length: int, kernel: int, starts: list[int]) -> None:
    assert local_starts(length, kernel) == starts


def literal_windows(
    layer: dlgsanet.SparseAttention, x: Tensor, kernel: int, starts: tuple[list[int], list[int]]
) -> Tensor:
    """Attention in one window after the other, outputs summed and divided by their number."""
    (_, H, W, C), heads = x.shape, layer.heads
    qkv = layer.qkv_dwconv(layer.qkv(x))
    total, count = torch.zeros_like(x), torch.zeros(H, W, 1, dtype=x.dtype)
    for r in starts[0]:
        for c in starts[1]:
            here = (slice(None), slice(r, r + kernel), slice(c, c + kernel))
            window = qkv[here]
            query, key, value = (
                part.flatten(1, 2).transpose(1, 2).unflatten(1, (heads, -1))
                for part in window.chunk(3, dim=-1)
            )  # (B, h, d, L)
            query, key = (
                nn.functional.normalize(query, dim=-1),
                nn.functional.normalize(key, dim=-1),
            )
            weights = layer.activation(query @ key.transpose(-1, -2) * layer.temperature)
            out = (weights @ value).flatten(1, 2).transpose(1, 2).reshape(*window.shape[:3], C)
            total[here] += out
            count[here[1:]] += 1
    return layer.project_out(total / count)


@pytest.mark.parametrize("activation", ["relu", "softmax"])
@pytest.mark.parametrize("size", [(13, 17), (8, 30), (3, 9)])
def test_attention_in_windows_is_the_loop(size: tuple[int, int], activation: str) -> None:
    torch.manual_seed(0)
    layer = dlgsanet.SparseAttention(12, 3, activation).double()
    x = torch.randn(2, *size, 12, dtype=torch.float64)
    starts = local_starts(size[0], 8), local_starts(size[1], 8)
    grid = dlgsanet.Grid(
        *(dlgsanet.Cells.of(length, 8, s, like=x) for length, s in zip(size, starts, strict=True))
    )
    with torch.no_grad():
        torch.testing.assert_close(layer(x, grid), literal_windows(layer, x, 8, starts))


def test_windows_of_the_caller() -> None:
    model, x = perturbed(), torch.rand(1, 3, 13, 17)
    with torch.no_grad():
        wanted = model(x)
        own = local_starts(13, 8), local_starts(17, 8)
        assert torch.equal(model(x, windows=own), wanted)
        assert torch.equal(model.train()(x, windows=own), wanted)
        model.eval()
        # Windows that hang over the border are cut there; none further out matter.
        assert torch.equal(model(x, windows=([-9, *own[0], 13], own[1])), wanted)
        assert not torch.equal(model(x, windows=([-4, 4, 8], own[1])), wanted)
    with pytest.raises(ValueError, match="cover 17 pixels"):
        model(x, windows=(own[0], [0, 9]))
    with pytest.raises(ValueError, match="local is False"):
        model(x, windows=own, local=False)


def test_tile_with_the_windows_of_its_image() -> None:
    # One attention, so that a pixel depends on what a few convolutions and its windows see.
    model = perturbed(changed(buildblock_type="restormer"))
    x = torch.rand(1, 3, 5, 150)
    starts = [0, 34, 68, 102]
    assert local_starts(150, 48) == starts
    begin, end = 60, 124  # all of the window at 68 and parts of the next two
    with torch.no_grad():
        whole = model(x)[..., 2 * begin : 2 * end]
        tile = model(x[..., begin:end], windows=([0], [start - begin for start in starts]))
        alone = model(x[..., begin:end])
    only = slice(2 * (86 - begin), 2 * (98 - begin))  # sees no other window, and no border
    torch.testing.assert_close(tile[..., only], whole[..., only], rtol=1e-4, atol=1e-6)
    assert relative(alone[..., only], whole[..., only]) > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"buildblock_type": "edge", "idynamic": False},
        {"buildblock_type": "idynamic", "upsampler": "pixelshuffle", "upscale": 3},
        {"buildblock_type": "restormer", "upsampler": ""},
        {"idynamic_ffn_type": "BaseFFN", "restormer_ffn_type": "BaseFFN", "body_norm": True,
         "activation": "gelu", "upscale": 4, "upsampler": "pixelshuffle"},
        {"activation": "sigmoid", "in_chans": 1, "img_range": 255.0},
    ],
)  # fmt: skip
def test_a_gradient_reaches_every_parameter(changes: dict[str, Any]) -> None:
    model = perturbed(changed(**changes)).train()
    s = model.scale
    x = torch.rand(2, model.config.in_chans, 6, 5)
    out = model(x)
    assert out.shape == (2, model.config.in_chans, 6 * s, 5 * s)
    out.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.norm() > 0, name


@pytest.mark.parametrize("local", [False, True])
def test_a_batch_of_two_equals_two_singles(local: bool) -> None:
    model, x = perturbed(), torch.rand(2, 3, 13, 10)
    with torch.no_grad():
        both = model(x, local=local)
        singles = torch.cat([model(one[None], local=local) for one in x])
    torch.testing.assert_close(both, singles, rtol=1e-4, atol=1e-5)


def test_local_differs_from_global_only_beyond_a_window() -> None:
    model = perturbed()
    large, small = torch.rand(1, 3, 13, 10), torch.rand(1, 3, 8, 7)
    with torch.no_grad():
        assert relative(model(large, local=True), model(large, local=False)) > 1e-4
        assert torch.equal(model(small, local=True), model(small, local=False))
        unflagged = perturbed(changed(tlc_flag=False))
        assert torch.equal(unflagged(large), model(large, local=False))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (9, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_any_size_and_dtype(size: tuple[int, int], dtype: torch.dtype) -> None:
    model = perturbed()
    x = torch.rand(1, 3, *size)
    with torch.no_grad():
        wanted = model(x)
        out = model.to(dtype)(x.to(dtype))
    assert out.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert out.dtype == dtype
    assert relative(out.float(), wanted) < (0.05 if dtype == torch.bfloat16 else 1e-5)


def test_float64_is_exact_throughout() -> None:
    model, x = perturbed().double(), torch.rand(1, 3, 3, 2, dtype=torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(model, x, atol=1e-6)


def test_weight_file_round_trip(tmp_path: Path) -> None:
    model, x = perturbed(), torch.rand(1, 3, 6, 9)
    path = tmp_path / "weights.safetensors"
    save_weights(path, model.published_state(), model="dlgsanet", config=model.config_dict())
    file = load_weights(path, expect_model="dlgsanet")
    again = DLGSANet.from_reference(file.config, file.tensors)
    assert again.config == model.config
    with torch.no_grad():
        assert torch.equal(again(x), model(x))


def test_overfits_a_few_patches() -> None:
    torch.manual_seed(0)
    model = DLGSANet(SMALL)
    high = nn.functional.interpolate(torch.rand(4, 3, 6, 6), 24, mode="bicubic").clamp(0, 1)
    low = nn.functional.avg_pool2d(high, 2)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
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
        ({"upscale": 5, "upsampler": "pixelshuffle"}, "upscale is 5"),
        ({"dim": 0}, "dim is 0"),
        ({"groups": 0}, "groups is 0"),
        ({"window_size": 4}, "window_size is 4"),
        ({"idynamic_num_heads": 5}, "idynamic_num_heads is 5"),
        ({"restormer_num_heads": 0}, "restormer_num_heads is 0"),
        ({"restormer_ffn_expansion_factor": 0.01}, "restormer_ffn_expansion_factor is 0.01"),
        ({"idynamic_ffn_type": "MLP"}, "idynamic_ffn_type is 'MLP'"),
        ({"buildblock_type": "dense"}, "buildblock_type is 'dense'"),
        ({"activation": "softmax"}, "activation is 'softmax'"),
        ({"upsampler": "nearest"}, "upsampler is 'nearest'"),
        ({"img_range": 0.0}, "img_range is 0"),
        ({"tlc_kernel": 0}, "tlc_kernel is 0"),
    ],
)
def test_config_errors(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        changed(**changes)


def test_unpublished_and_misshapen() -> None:
    with pytest.raises(ValueError, match="'large' at 4 times is not published"):
        DLGSANetConfig.published("large")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="'tiny' at 8 times is not published"):
        DLGSANetConfig.published("tiny", 8)
    with pytest.raises(ValueError, match=r"x has shape \(1, 4, 6, 6\)"):
        DLGSANet(SMALL)(torch.rand(1, 4, 6, 6))
    assert math.prod(DLGSANet(SMALL)(torch.rand(0, 3, 6, 6)).shape) == 0
