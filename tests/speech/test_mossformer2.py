"""MossFormer2 against the published implementation, and as a model of its own."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_speech.mossformer2 import (
    DenseMemory,
    MossFormer2,
    MossFormer2Config,
    Projection,
    project_normed,
)

BLOCKS = "mask_net.mdl.intra_mdl.mossformerM"


def golden() -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Config, published state and the other tensors of the reference file."""
    root = os.environ.get("SIGFORM_FIXTURES")
    if root is None:
        pytest.skip("SIGFORM_FIXTURES names no folder with reference tensors")
    with safe_open(Path(root) / "golden" / "mossformer2_a.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    return config, state, tensors


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def small(**changes: Any) -> MossFormer2Config:
    widths = {"encoder_embedding_dim": 16, "mossformer_sequence_dim": 16, "inner_channels": 7}
    rest = {"num_mossformer_layer": 2, "group_size": 32, "query_key_dim": 8, "sample_rate": 8000}
    return MossFormer2Config(**{**widths, **rest, **changes})


def perturbed(**changes: Any) -> MossFormer2:
    """A network in eval mode whose weights are all away from where they start."""
    torch.manual_seed(0)
    network = MossFormer2(small(**changes)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


# The published network.


def test_reference_output_and_what_is_between() -> None:
    config, state, tensors = golden()
    network = MossFormer2.from_reference(config, state)
    assert not network.training
    assert sum(p.numel() for p in network.parameters()) == config["n_params"]
    found: dict[str, Tensor] = {}
    blocks = network.mask_net.blocks
    memory = blocks.get_submodule("memories.0")
    gate = memory.get_submodule("gate")
    to_u = gate.get_submodule("to_u")

    def keep(name: str) -> Any:
        return lambda _module, _args, output: found.update({name: output})

    blocks.get_submodule("layers.0").register_forward_hook(keep("flash0"))
    memory.register_forward_hook(keep("fsmn0"))
    gate.register_forward_hook(keep("fsmn0.gated_fsmn"))
    gate.register_forward_pre_hook(lambda _, args: found.update({"fsmn0.to_u": to_u(args[0])}))
    network.mask_net.prelu.register_forward_pre_hook(
        lambda _, args: found.update({"mdl": args[0].transpose(1, 2)})
    )
    with torch.no_grad():
        out = network(tensors["input"])
        frames = network.encode(tensors["input"])
        found["encoder"] = frames.transpose(1, 2)
        found["mask"] = network.masks(frames).permute(2, 0, 3, 1)  # (S, B, N, L)
    assert relative(out.transpose(0, 1), tensors["output"]) < 1e-5
    taps = {k.removeprefix("tap."): v for k, v in tensors.items() if k.startswith("tap.")}
    assert found.keys() == taps.keys()
    for name, tap in taps.items():
        assert relative(found[name], tap) < 1e-5, name


@pytest.mark.parametrize(
    "part",
    [
        "model.mask_net.pos_enc.scale",
        f"model.{BLOCKS}.fsmn.0.conv1.1.weight",
        f"model.{BLOCKS}.fsmn.0.gated_fsmn.to_v.mdl.0.bias",
        f"model.{BLOCKS}.fsmn.0.gated_fsmn.fsmn.conv.conv2.weight",
        f"model.{BLOCKS}.fsmn.0.norm2.bias",
        f"model.{BLOCKS}.layers.0.to_qk.mdl.0.g",
    ],
)
def test_every_part_matters(part: str) -> None:
    config, state, tensors = golden()
    other = {**state, part: state[part].roll(1) + 0.5}
    network = MossFormer2.from_reference(config, other)
    with torch.no_grad():
        found = network(tensors["input"]).transpose(0, 1)
    assert relative(found, tensors["output"]) > 1e-4


def test_dense_memory_is_the_published_one() -> None:
    """Channels first, padded, dilated, grouped by two of the concatenation: as it is published."""
    torch.manual_seed(0)
    for channels, length in ((6, 90), (7, 41)):
        memory = DenseMemory(channels)
        with torch.no_grad():
            for parameter in memory.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            x = torch.randn(2, length, channels)
            skip = x.transpose(1, 2).unsqueeze(3)  # (B, C, L, 1)
            for dilation, name in ((1, "1"), (2, "2")):
                conv, norm = getattr(memory, f"conv{name}"), getattr(memory, f"norm{name}")
                pad = 19 * dilation
                out = F.conv2d(
                    F.pad(skip, (0, 0, pad, pad)), conv.weight,
                    dilation=(dilation, 1), groups=channels,
                )  # fmt: skip
                out = getattr(memory, f"prelu{name}")(norm(out))
                skip = torch.cat([out, skip], dim=1)
            assert relative(memory(x), out.squeeze(3).transpose(1, 2)) < 1e-5


def test_projections_at_once_are_each_alone() -> None:
    torch.manual_seed(0)
    modules = [Projection(6).eval(), Projection(6).eval()]
    x = torch.randn(2, 30, 6) + 3
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        both = project_normed(x, modules)
        for module, found in zip(modules, both.chunk(2, dim=-1), strict=True):
            hidden = F.silu(module.linear(module.norm(x)))
            conv = F.conv1d(hidden.transpose(1, 2), module.conv.weight, padding=8, groups=6)
            assert relative(found, hidden + conv.transpose(1, 2)) < 1e-5


def test_published_size() -> None:
    with torch.device("meta"):
        network = MossFormer2()
    assert sum(parameter.numel() for parameter in network.parameters()) == 55_735_394


def test_published_state_round_trip() -> None:
    network = perturbed(num_spks=3)
    again = MossFormer2.from_reference(network.config_dict(), network.published_state())
    assert again.config == network.config
    assert all(name.startswith("model.") for name in network.published_state())
    x = torch.randn(1, 900)
    with torch.no_grad():
        assert torch.equal(again(x), network(x))


# As a model of its own.


def test_a_gradient_reaches_every_parameter() -> None:
    network = perturbed().train()
    network(torch.randn(2, 1000)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.norm() > 0, name


def test_a_batch_of_two_equals_two_singles() -> None:
    network, x = perturbed(), torch.randn(2, 1500)
    with torch.no_grad():
        both = network(x)
        # The norms over a signal, of level and of time, see one signal each.
        assert relative(both, torch.cat([network(one[None]) for one in x])) < 1e-5


@pytest.mark.parametrize("samples", [16, 17, 24, 2056, 4003])
@pytest.mark.parametrize("speakers", [2, 3])
def test_awkward_lengths(samples: int, speakers: int) -> None:
    network = perturbed(num_spks=speakers)
    with torch.no_grad():
        out = network(torch.randn(1, samples))
    assert out.shape == (1, speakers, samples)
    assert out.isfinite().all()
    tail = (samples - 16) % 8
    assert (out[..., samples - tail :] == 0).all()
    assert out[..., :16].any()


def test_the_output_grows_with_the_input() -> None:
    network, x = perturbed(), torch.randn(1, 1200)
    with torch.no_grad():
        assert relative(network(10 * x), 10 * network(x)) < 1e-5
        assert relative(network(0.1 * x), 0.1 * network(x)) < 1e-4
        assert not network(torch.zeros(1, 1200)).any()


def test_blocks_in_half_precision() -> None:
    wide = {"encoder_embedding_dim": 32, "mossformer_sequence_dim": 32, "inner_channels": 32}
    network, x = perturbed(**wide), torch.randn(1, 1200)
    with torch.no_grad():
        wanted = network(x)
        out = network.body_to(torch.bfloat16)(x)
    assert out.dtype == torch.float32
    assert 0 < relative(out, wanted) < 0.05
    assert network.encoder.dtype == torch.float32


def test_overfits_a_few_signals() -> None:
    torch.manual_seed(0)
    network = MossFormer2(small(num_mossformer_layer=1)).eval()  # without dropout
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
        ({"num_mossformer_layer": 0}, "num_mossformer_layer is 0; needs 1 or more"),
        ({"inner_channels": 0}, "inner_channels is 0; needs 1 or more"),
        ({"num_spks": 0}, "num_spks is 0; needs 1 or more"),
        ({"group_size": 0}, "group_size is 0; needs 1 or more"),
        ({"mossformer_sequence_dim": 32}, "and mossformer_sequence_dim are 16 and 32; needs one"),
        ({"encoder_embedding_dim": 15, "mossformer_sequence_dim": 15}, "needs even ones"),
        ({"query_key_dim": 9}, "query_key_dim 9; needs even ones"),
        ({"encoder_kernel_size": 1}, "kernel_size 1; needs half of it"),
        ({"expansion_factor": 2.0}, "expansion_factor is 2.0; needs 4"),
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


def test_references_are_read_strictly() -> None:
    network = perturbed()
    state, config = network.published_state(), network.config_dict()
    nested = {
        "model": "MossFormer2", "seed": 4, "note": "", "n_params": 1,
        "args": {k: config[k] for k in ("encoder_embedding_dim", "mossformer_sequence_dim",
                                        "num_mossformer_layer", "num_spks")},
        "block_kwargs": {k: config[k] for k in ("group_size", "query_key_dim")},
        "inner_channels": config["inner_channels"],
    }  # fmt: skip
    again = MossFormer2.from_reference(nested, state)
    assert again.config_dict() == config | {"sample_rate": 16_000}
    with pytest.raises(ValueError, match="config has unknown 'num_speakers'"):
        MossFormer2.from_reference(nested | {"num_speakers": 2}, state)
    with pytest.raises(ValueError, match=r"model\.dec\.weight missing"):
        MossFormer2.from_reference(nested, {k: v for k, v in state.items() if "dec.w" not in k})
    with pytest.raises(ValueError, match="extra unexpected"):
        MossFormer2.from_reference(nested, state | {"extra": torch.ones(1)})
    derived = {
        "model.mask_net.pos_enc.inv_freq": torch.ones(1),
        f"model.{BLOCKS}.layers.0.rotary_pos_emb.freqs": torch.ones(1),
    }
    MossFormer2.from_reference(nested, state | derived)
