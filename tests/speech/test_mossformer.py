"""MossFormer against the published implementation, and as a model of its own."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_speech.mossformer import (
    GatedAttention,
    MossFormer,
    MossFormerConfig,
    convolve_frames,
    overlap_add,
    positions,
    project,
    shift_half,
)

LAYER = "mask_net.mdl.att_mdl.mossformerM.layers.0"


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Arguments, published state and the other tensors of a reference file."""
    root = os.environ.get("SIGFORM_FIXTURES")
    if root is None:
        pytest.skip("SIGFORM_FIXTURES names no folder with reference tensors")
    with safe_open(Path(root) / "golden" / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])["kwargs"]
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    return config, state, tensors


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def small(**changes: Any) -> MossFormerConfig:
    widths = {"in_channels": 16, "out_channels": 16, "d_model": 16}
    rest = {"num_blocks": 2, "group_size": 32, "query_key_dim": 8}
    return MossFormerConfig(**{**widths, **rest, **changes})


def perturbed(**changes: Any) -> MossFormer:
    """A network in eval mode whose weights are all away from where they start."""
    torch.manual_seed(0)
    network = MossFormer(small(**changes)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


# The published network.


@pytest.mark.parametrize("name", ["mossformer_a", "mossformer_c_causal_gln"])
def test_reference_outputs(name: str) -> None:
    config, state, tensors = golden(name)
    network = MossFormer.from_reference(config, state)
    assert not network.training
    pairs = [(key, key.replace("input", "output")) for key in tensors if key.startswith("input")]
    assert len(pairs) == (2 if name == "mossformer_a" else 1)
    with torch.no_grad():
        for given, wanted in pairs:
            assert relative(network(tensors[given]).transpose(1, 2), tensors[wanted]) < 1e-5


@pytest.mark.parametrize("name", ["mossformer_a", "mossformer_c_causal_gln"])
def test_reference_between_the_layers(name: str) -> None:
    config, state, tensors = golden(name)
    network = MossFormer.from_reference(config, state)
    found: dict[str, Tensor] = {}
    net = network.mask_net
    first = net.blocks.get_submodule("layers.0")
    assert isinstance(first, GatedAttention)

    def keep(name: str, module: nn.Module, channels_last: bool = True) -> None:
        module.register_forward_hook(
            lambda _module, _args, out: found.update(
                {name: out if channels_last else out.transpose(1, 2)}
            )
        )

    keep("masknet_norm", net.norm, channels_last=False)
    for block in range(config["num_blocks"]):
        keep(f"block{block}", net.blocks.get_submodule(f"layers.{block}"))
    keep("block0.to_out", first.to_out)
    keep("final_layernorm", net.blocks)
    net.prelu.register_forward_pre_hook(
        lambda _, args: found.update({"mdl": args[0].transpose(1, 2)})
    )
    with torch.no_grad():
        frames = network.encode(tensors["input"])
        found["encoder"] = frames.transpose(1, 2)
        found["mask"] = network.masks(frames).permute(2, 0, 3, 1)  # (S, B, N, L)
        found["bottleneck"] = net.bottleneck(net.norm(frames)).transpose(1, 2)
        found["pos_emb"] = positions(frames) * net.position_scale
        x = found["bottleneck"].transpose(1, 2) + found["pos_emb"]
        hidden = project(shift_half(x), [first.to_hidden, first.to_qk])
        found["block0.to_hidden"] = hidden[..., : 4 * config["d_model"]]
        found["block0.to_qk"] = hidden[..., 4 * config["d_model"] :]
    taps = {k.removeprefix("tap."): v for k, v in tensors.items() if k.startswith("tap.")}
    assert taps.keys() <= found.keys()
    for name, tap in taps.items():
        assert relative(found[name], tap) < 1e-5, name


@pytest.mark.parametrize(
    ("part", "least"),
    [
        ("mask_net.pos_enc.scale", 1e-2),
        (f"{LAYER}.qk_offset_scale.beta", 1e-4),
        (f"{LAYER}.to_qk.mdl.0.g", 1e-4),
        (f"{LAYER}.to_hidden.mdl.3.sequential.1.conv.weight", 1e-2),
    ],
)
def test_every_part_matters(part: str, least: float) -> None:
    config, state, tensors = golden("mossformer_a")
    network = MossFormer.from_reference(config, {**state, part: state[part].roll(1) + 0.5})
    with torch.no_grad():
        found = network(tensors["input"]).transpose(1, 2)
    assert relative(found, tensors["output"]) > least


def test_published_size() -> None:
    with torch.device("meta"):
        two, three = MossFormer(), MossFormer(MossFormerConfig(num_spks=3))
    assert sum(p.numel() for p in two.parameters()) == pytest.approx(42.10e6, abs=5e3)
    assert sum(p.numel() for p in three.parameters()) == pytest.approx(42.36e6, abs=5e3)


@pytest.mark.parametrize("norm", ["ln", "gln", "cln", "bn"])
def test_published_state_round_trip(norm: str) -> None:
    network = perturbed(norm=norm, bias=True, num_spks=3)
    again = MossFormer.from_reference(network.config_dict(), network.published_state())
    assert again.config == network.config
    x = torch.randn(1, 900)
    with torch.no_grad():
        assert torch.equal(again(x), network(x))
    assert all(tensor.is_contiguous() for tensor in network.published_state().values())


def test_references_are_read_strictly() -> None:
    network = perturbed()
    state, config = network.published_state(), network.config_dict()
    with pytest.raises(ValueError, match=r"unknown 'num_speakers' \(did you mean 'num_spks'\?\)"):
        MossFormer.from_reference(config | {"num_speakers": 2}, state)
    with pytest.raises(ValueError, match=r"decoder\.weight missing"):
        MossFormer.from_reference(config, {k: v for k, v in state.items() if "decoder.w" not in k})
    with pytest.raises(ValueError, match="extra unexpected"):
        MossFormer.from_reference(config, state | {"extra": torch.ones(1)})
    with pytest.raises(ValueError, match=r"prelu\.weight has shape \(2,\), needs \(1,\)"):
        MossFormer.from_reference(config, state | {"mask_net.prelu.weight": torch.ones(2)})
    derived = {"mask_net.pos_enc.inv_freq": X, f"{LAYER}.rotary_pos_emb.freqs": X}
    MossFormer.from_reference(config, state | derived)


X = torch.ones(1)


# Its parts, written out.


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [5, 16, 35])
def test_attention_is_the_formula(causal: bool, length: int) -> None:
    torch.manual_seed(0)
    P, D, E = 8, 6, 5
    attention = GatedAttention(small(group_size=P, query_key_dim=D, causal=causal)).eval()
    quad_q, lin_q, quad_k, lin_k = torch.randn(4, 2, length, D).double()
    values = torch.randn(2, length, E).double()
    found = attention.attend(quad_q, lin_q, quad_k, lin_k, values)
    wanted = torch.zeros_like(values)
    for b in range(2):
        for i in range(length):
            for j in range(length):
                near, seen = i // P == j // P, j <= i or not causal
                weight = torch.zeros((), dtype=torch.float64)
                if near and seen:
                    weight = ((quad_q[b, i] @ quad_k[b, j]) / P).relu().square()
                if not causal:
                    weight = weight + lin_q[b, i] @ lin_k[b, j] / length
                elif j // P < i // P:
                    weight = weight + lin_q[b, i] @ lin_k[b, j] / P
                wanted[b, i] += weight * values[b, j]
    assert relative(found, wanted) < 1e-12


def test_projections_at_once_are_each_alone() -> None:
    torch.manual_seed(0)
    block = GatedAttention(small()).eval()
    modules = [block.to_hidden, block.to_qk]
    x = torch.randn(2, 30, 16)
    with torch.no_grad():
        for module in modules:
            module.norm.g.mul_(1.7)
            module.linear.bias.normal_()
        both = project(x, modules)
        for module, found in zip(modules, both.split([64, 8], dim=-1), strict=True):
            hidden = F.silu(module.linear(module.norm(x)))
            groups = hidden.shape[-1]
            conv = F.conv1d(hidden.transpose(1, 2), module.conv.weight, padding=8, groups=groups)
            assert relative(found, hidden + conv.transpose(1, 2)) < 1e-5
            assert relative(module(x), found) < 1e-5


@pytest.mark.parametrize("skip", [False, True])
def test_frames_are_convolved(skip: bool) -> None:
    torch.manual_seed(0)
    x, kernels = torch.randn(2, 23, 4), torch.randn(4, 1, 5)
    found = convolve_frames(x, kernels, skip=skip)
    wanted = F.conv1d(x.transpose(1, 2), kernels, padding=2, groups=4).transpose(1, 2)
    assert relative(found, wanted + x if skip else wanted) < 1e-5


def test_overlapping_frames_are_summed() -> None:
    frames = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]], [[10.0, 20.0, 30.0, 40.0]]]])  # (1, 2, 1, 4)
    assert overlap_add(frames, 2, 8).tolist() == [[[1, 2, 13, 24, 30, 40, 0, 0]]]
    assert overlap_add(frames, 2, 5).tolist() == [[[1, 2, 13, 24, 30]]]
    assert overlap_add(frames, 2, 7, torch.ones(1)).tolist() == [[[2, 3, 14, 25, 31, 41, 0]]]


def test_half_of_the_channels_come_a_frame_later() -> None:
    x = torch.arange(12.0).view(1, 3, 4)
    assert shift_half(x).tolist() == [[[0, 0, 2, 3], [0, 1, 6, 7], [4, 5, 10, 11]]]


# As a model of its own.

VARIANTS = [
    {},
    {"num_spks": 3, "kernel_size": 8, "stride": 4},
    {"causal": True, "norm": "gln"},
    {"norm": "cln", "bias": True},
    {"norm": "bn", "query_key_dim": 40},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_gradient_reaches_every_parameter(changes: dict[str, Any]) -> None:
    network = perturbed(**changes).train()
    network(torch.randn(2, 700)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.norm() > 0, name


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_batch_of_two_equals_two_singles(changes: dict[str, Any]) -> None:
    network, x = perturbed(**changes), torch.randn(2, 900)
    with torch.no_grad():
        assert relative(network(x), torch.cat([network(one[None]) for one in x])) < 1e-5


@pytest.mark.parametrize("samples", [16, 17, 2056, 4003])
@pytest.mark.parametrize("changes", VARIANTS[:3])
def test_awkward_lengths(samples: int, changes: dict[str, Any]) -> None:
    network = perturbed(**changes)
    with torch.no_grad():
        out = network(torch.randn(1, samples))
    assert out.shape == (1, network.num_spks, samples)
    assert out.isfinite().all()
    filled = samples - (samples - network.kernel_size) % network.stride
    assert (out[..., filled:] == 0).all()
    assert out[..., : network.kernel_size].any()


@pytest.mark.parametrize("changes", VARIANTS[:3])
def test_the_output_grows_with_the_input(changes: dict[str, Any]) -> None:
    network, x = perturbed(**changes), torch.randn(1, 1200)
    with torch.no_grad():
        wanted = network(x)
        assert relative(network(10 * x), 10 * wanted) < 1e-5
        assert relative(network(0.1 * x), 0.1 * wanted) < 1e-4
        assert not network(torch.zeros(1, 1200)).any()


def test_masks_and_frames_are_what_the_output_is_made_of() -> None:
    network, x = perturbed(num_spks=3), torch.randn(2, 500)
    with torch.no_grad():
        frames = network.encode(x)
        masks = network.masks(frames)
        assert frames.shape == (2, 61, 16)
        assert masks.shape == (2, 61, 3, 16)
        assert frames.min() >= 0
        assert masks.min() >= 0
        assert torch.equal(network.decode(frames, masks, 500), network(x))
    assert (network.kernel_size, network.stride, network.num_spks) == (16, 8, 3)
    assert network.sample_rate == 8000


def test_causal_attention_is_another() -> None:
    network, x = perturbed(), torch.randn(1, 1200)
    causal = MossFormer.from_reference(
        network.config_dict() | {"causal": True}, network.published_state()
    )
    with torch.no_grad():
        assert relative(causal(x), network(x)) > 1e-3


def test_blocks_in_half_precision() -> None:
    wide = {"in_channels": 32, "out_channels": 32, "d_model": 32}
    network, x = perturbed(**wide), torch.randn(1, 1200)
    with torch.no_grad():
        wanted = network(x)
        out = network.body_to(torch.bfloat16)(x)
    assert out.dtype == torch.float32
    assert 0 < relative(out, wanted) < 0.05
    assert network.encoder.dtype == torch.float32


def test_overfits_a_few_signals() -> None:
    torch.manual_seed(0)
    network = MossFormer(small(num_blocks=1)).eval()  # without dropout
    time = torch.arange(400) / 8000
    low, high = torch.randint(150, 400, (8, 1)), torch.randint(1500, 3000, (8, 1))
    speakers = torch.stack([(6.28 * hz * time).sin() for hz in (low, high)], dim=1)  # (8, 2, T)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        loss = (network(speakers.sum(1)) - speakers).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 8


# What does not fit.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_blocks": 0}, "num_blocks is 0; needs 1 or more"),
        ({"num_spks": 0}, "num_spks is 0; needs 1 or more"),
        ({"group_size": 0}, "group_size is 0; needs 1 or more"),
        ({"d_model": 32}, "d_model are 16, 16 and 32; needs one number"),
        ({"in_channels": 15, "out_channels": 15, "d_model": 15}, "d_model is 15 .* needs even"),
        ({"query_key_dim": 9}, "query_key_dim 9; needs even ones"),
        ({"stride": 4}, "stride is 4 and kernel_size 16; needs half of it"),
        ({"kernel_size": 1, "stride": 0}, "stride is 0 and kernel_size 1; needs half of it"),
        ({"expansion_factor": 2.0}, r"expansion_factor is 2\.0; needs 4"),
        ({"norm": "layer"}, "norm is 'layer'; needs ln, gln, cln or bn"),
        ({"attn_dropout": 1.0}, r"attn_dropout is 1\.0; needs 0 or more, less than 1"),
    ],
)
def test_config_errors(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        small(**changes)


def test_signals_that_do_not_fit() -> None:
    network = perturbed()
    for shape in ((1, 15), (16,), (1, 2, 100)):
        with pytest.raises(ValueError, match=r"x has shape .*; needs \(B, T\) with 16 samples"):
            network(torch.zeros(shape))
