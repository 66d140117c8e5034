"""LMUFormer, plain and spiking, against the published implementation, and as a stream."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_eeg.lmuformer import (
    Average,
    LMUFormer,
    LMUFormerConfig,
    SpikingLMUFormer,
    SpikingLMUFormerConfig,
    TokenNorm,
)
from sigform_eeg.stream_state import StreamState, name_streams

Network = LMUFormer | SpikingLMUFormer
KINDS: dict[str, type[LMUFormer] | type[SpikingLMUFormer]] = {
    "lmuformer_a": LMUFormer,
    "lmuformer_spiking_a": SpikingLMUFormer,
}
LIF = {
    "tau": 2.0,
    "decay_input": True,
    "v_threshold": 1.0,
    "v_reset": 0.0,
    "detach_reset": True,
    "surrogate": "sigmoid(alpha=4)",
    "prev_lif_v_threshold": 0.5,
}


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Arguments, published state and the other tensors of a reference file."""
    root = os.environ.get("SIGFORM_FIXTURES")
    if root is None:
        pytest.skip("SIGFORM_FIXTURES names no folder with reference tensors")
    with safe_open(Path(root) / "golden" / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    return config, state, tensors


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach() - wanted).norm() / wanted.norm())


def small(spiking: bool, **changes: Any) -> Network:
    """A network in eval mode, weights and norms all away from where they start."""
    sizes = {"dim": 24, "in_channels": 5, "num_classes": 3, "depths": 2, "memory_size": 16}
    settings = {**sizes, "theta": 40, **changes}
    torch.manual_seed(1)
    network: Network = (
        SpikingLMUFormer(SpikingLMUFormerConfig(**settings))
        if spiking
        else LMUFormer(LMUFormerConfig(**settings))
    )
    network.train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for norm in network.modules():
            if spiking and isinstance(norm, TokenNorm):
                norm.bias.add_(0.4)  # so that all neurons fire now and then
        for _ in range(30):
            network(signals(8, 60))
    return network.eval()


def signals(batch: int, tokens: int, channels: int = 5) -> Tensor:
    return 2 * torch.randn(batch, channels, tokens)


def published_gradients(network: Network) -> dict[str, Tensor]:
    """The gradients of a network under published names."""
    mirror = type(network)(network.config)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for own, other in zip(mirror.parameters(), network.parameters(), strict=True):
            assert other.grad is not None
            own.copy_(other.grad)
    return mirror.published_state()


def streamed(network: Network, x: Tensor) -> Tensor:
    """Logits (B, N, K) of x (B, C, N) token by token, the tail flushed."""
    state, found = network.initial_state(len(x)), []
    for now in x.unbind(-1):
        logits, state = network.step(now, state)
        if logits is not None:
            found.append(logits)
    assert x.shape[-1] - len(found) == network.delay
    tail, _ = network.finish(state)
    return torch.cat([torch.stack(found, 1), tail], dim=1)


# The published networks.


@pytest.mark.parametrize("name", KINDS)
def test_reference_outputs(name: str) -> None:
    config, state, tensors = golden(name)
    network = KINDS[name].from_reference(config, state)
    assert not network.training
    x = tensors["input"].transpose(1, 2)
    with torch.no_grad():
        assert relative(network(x), tensors["output"]) < 1e-5
        prefixes = network.prefix_logits(x)
        assert relative(prefixes.transpose(0, 1), tensors["output_all_seq"]) < 1e-5
        assert relative(streamed(network, x), prefixes) < 1e-5


@pytest.mark.parametrize("name", KINDS)
def test_reference_gradients(name: str) -> None:
    config, state, tensors = golden(name)
    network = KINDS[name].from_reference(config, state)
    loss = F.cross_entropy(network(tensors["input"].transpose(1, 2)), tensors["labels"])
    assert relative(loss[None], tensors["loss"]) < 1e-5
    loss.backward()
    gradients = published_gradients(network)
    wanted = {k.removeprefix("grad."): v for k, v in tensors.items() if k.startswith("grad.")}
    assert len(wanted) == 4
    for name, gradient in wanted.items():
        assert relative(gradients[name], gradient) < 1e-4, name


@pytest.mark.parametrize("name", KINDS)
def test_reference_between_the_layers(name: str) -> None:
    config, state, tensors = golden(name)
    network = KINDS[name].from_reference(config, state)
    found: dict[str, Tensor] = {}

    def keep(tap: str, layer: str, *, tokens_last: bool = True, before: bool = False) -> None:
        def note(_layer: nn.Module, args: tuple[Tensor, ...], out: Tensor | None = None) -> None:
            value = args[0] if before or out is None else out
            found[tap] = value.permute(1, 2, 0) if tokens_last else value.transpose(0, 1)

        module = network.get_submodule(layer)
        if before:
            module.register_forward_pre_hook(note)
        else:
            module.register_forward_hook(note)

    keep("patch_embed", "embed")
    keep("block0.attn", "blocks.0.mixer")
    keep("block0.mlp", "blocks.0.mlp")
    keep("block0.lmu_h", "blocks.0.mixer.project", tokens_last=False, before=True)
    with torch.no_grad():
        network(tensors["input"].transpose(1, 2))
    for tap, value in found.items():
        wanted = tensors[f"tap.{tap}"]
        assert relative(value, wanted) < 1e-5, tap


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "part",
    [
        "block.0.attn.lmu.W_u.bias",
        "block.0.attn.proj_bn.running_mean",
        "block.0.mlp.fc2_bn.weight",
        "patch_embed.rpe_conv.weight",
        "head.bias",
    ],
)
def test_every_part_matters(name: str, part: str) -> None:
    config, state, tensors = golden(name)
    network = KINDS[name].from_reference(config, {**state, part: state[part].roll(1) + 0.5})
    with torch.no_grad():
        found = network(tensors["input"].transpose(1, 2))
    assert relative(found, tensors["output"]) > 1e-4


@pytest.mark.parametrize("name", KINDS)
def test_published_weights_are_read_strictly(name: str) -> None:
    config, state, _ = golden(name)
    cls = KINDS[name]
    short = {k: v for k, v in state.items() if k != "head.weight"}
    with pytest.raises(ValueError, match=r"head\.weight missing"):
        cls.from_reference(config, short)
    with pytest.raises(ValueError, match="tail unexpected"):
        cls.from_reference(config, {**state, "tail": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"head\.bias has shape \(4,\), needs \(5,\)"):
        cls.from_reference(config, {**state, "head.bias": torch.zeros(4)})
    derived = {"block.0.attn.lmu.H": torch.zeros(3), "block.0.attn.lmu.fft_H": torch.zeros(3)}
    cls.from_reference(config, {**state, **derived})


def test_published_size() -> None:
    assert sum(p.numel() for p in LMUFormer().parameters()) == 1_621_796
    assert sum(p.numel() for p in SpikingLMUFormer().parameters()) == 1_689_894


def test_published_arguments() -> None:
    network = small(True)
    config = {
        **{"kind": "slmu_ms", "num_heads": 4, "seq_len": 60, "input_layout": "B,N(time),C"},
        **{"dim": 24, "in_channels": 5, "num_classes": 3, "depths": 2, "mlp_ratios": 4},
        **{"theta": 40, "memory_size": 16, "lif": LIF},
    }
    state = network.published_state()
    assert SpikingLMUFormer.from_reference(config, state).config == network.config
    slow = SpikingLMUFormer.from_reference({**config, "lif": {**LIF, "tau": 3.0}}, state)
    assert slow.config.tau == 3.0
    assert slow.blocks[0].get_submodule("mixer.memory_neurons").tau == 3.0
    for changes, says in (
        ({"lif": {**LIF, "v_reset": 0.5}}, r"lif has v_reset 0\.5; needs 0\.0"),
        ({"lif": {**LIF, "leak": 0.5}}, "unknown 'leak'"),
        ({"kind": "lmu"}, "kind is 'lmu'; needs 'slmu_ms'"),
        ({"depth": 2}, r"unknown 'depth' \(did you mean 'depths'\?\)"),
    ):
        with pytest.raises(ValueError, match=says):
            SpikingLMUFormer.from_reference({**config, **changes}, state)


# Streams.


@pytest.mark.parametrize("average_tokens", [None, 12.5])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("spiking", [False, True])
def test_a_stream_equals_the_whole(
    spiking: bool, causal: bool, average_tokens: float | None
) -> None:
    network = small(spiking, causal=causal, average_tokens=average_tokens)
    assert network.delay == (0 if causal else 5)
    x = signals(2, 300)
    with torch.no_grad():
        wanted = network.prefix_logits(x)
        assert relative(wanted[:, -1], network(x)) < 1e-6
    assert relative(streamed(network, x), wanted) < 1e-5


@pytest.mark.parametrize("tokens", [1, 2, 4, 6])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("spiking", [False, True])
def test_short_sequences(spiking: bool, causal: bool, tokens: int) -> None:
    network, x = small(spiking, causal=causal), signals(3, tokens)
    with torch.no_grad():
        wanted = network.prefix_logits(x)
    assert wanted.shape == (3, tokens, 3)
    state, found = network.initial_state(3), []
    for now in x.unbind(-1):
        logits, state = network.step(now, state)
        found += [] if logits is None else [logits[:, None]]
    found.append(network.finish(state)[0])
    assert relative(torch.cat(found, dim=1), wanted) < 1e-5


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("spiking", [False, True])
def test_pieces_of_any_size(spiking: bool, causal: bool) -> None:
    network, x = small(spiking, causal=causal), signals(2, 100)
    state, found = network.initial_state(2), []
    for piece in x.split([1, 0, 2, 3, 30, 1, 0, 63], dim=-1):
        logits, state = network.advance(piece, state)
        found.append(logits)
    found.append(network.finish(state)[0])
    with torch.no_grad():
        assert relative(torch.cat(found, dim=1), network.prefix_logits(x)) < 1e-5


@pytest.mark.parametrize("spiking", [False, True])
def test_what_looks_ahead_and_how_far(spiking: bool) -> None:
    x = signals(4, 80)
    other = torch.cat([x[..., :40], signals(4, 40)], dim=-1)
    for causal, same in ((True, 40), (False, 35)):
        network = small(spiking, causal=causal)
        with torch.no_grad():
            one, two = network.prefix_logits(x), network.prefix_logits(other)
        assert relative(one[:, :same], two[:, :same]) < 1e-6
        assert not torch.allclose(one[:, same + 5 :], two[:, same + 5 :], atol=1e-4)
        if not causal and not spiking:
            assert not torch.allclose(one[:, same], two[:, same], atol=1e-6)


@pytest.mark.parametrize(("spiking", "average_tokens"), [(False, None), (True, 50.0)])
def test_a_long_stream_stays_exact_and_of_one_size(
    spiking: bool, average_tokens: float | None
) -> None:
    # In double precision: in single, one membrane in ten million may miss its threshold.
    network = small(spiking, causal=True, average_tokens=average_tokens, depths=1).double()
    x = signals(1, 2000).double()
    with torch.no_grad():
        wanted = network.prefix_logits(x)
    state, found, sizes = network.initial_state(1), [], set()
    for now in x.unbind(-1):
        logits, state = network.step(now, state)
        found.append(logits)
        sizes.add(sum(t.untyped_storage().nbytes() for t in state.tensors.values()))
        assert all(t.grad_fn is None for t in state.tensors.values())
    assert len(sizes) == 1
    assert relative(torch.stack(found, 1), wanted) < 1e-9


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("spiking", [False, True])
def test_a_state_is_explicit(spiking: bool, causal: bool, tmp_path: Path) -> None:
    network, x = small(spiking, causal=causal), signals(2, 30)
    state = network.initial_state(2)
    for now in x[..., :20].unbind(-1):
        _, state = network.step(now, state)
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}
    save_file(state.to_dict(), tmp_path / "state.safetensors")
    first, _ = network.advance(x[..., 20:], state)
    assert all(torch.equal(before[name], tensor) for name, tensor in state.tensors.items())
    again = StreamState.from_dict(load_file(tmp_path / "state.safetensors")).to("cpu")
    second, _ = network.advance(x[..., 20:], again)
    assert torch.equal(first, second)


def test_states_that_do_not_fit() -> None:
    network = small(False)
    state, x = network.initial_state(2), torch.zeros(2, 5)
    with pytest.raises(ValueError, match="x has 3 streams; needs 2"):
        network.step(torch.zeros(3, 5), state)
    with pytest.raises(ValueError, match=r"the state lacks '.*'; needs one of this network"):
        small(True).step(x, state)
    with pytest.raises(ValueError, match=r"training mode; needs eval\(\)"):
        small(False).train().step(x, state)
    with pytest.raises(ValueError, match="batch is 0; needs 1 or more"):
        network.initial_state(0)
    with pytest.raises(ValueError, match="the state has no batch"):
        StreamState.from_dict({})


def test_leaky_average() -> None:
    torch.manual_seed(0)
    average = Average(3, 20.0).double()
    name_streams(average)
    x = torch.randn(700, 2, 3, dtype=torch.float64)
    found, mean = average(x), torch.zeros(2, 3, dtype=torch.float64)
    for number, now in enumerate(x):
        mean = mean + (now - mean) / min(number + 1, 20)
        assert torch.allclose(found[number], mean, atol=1e-11)
    assert torch.allclose(found[19], x[:20].mean(0))
    carry = average.start(2, x)
    parts = torch.cat([average(part, carry) for part in x.split(13)])
    assert torch.allclose(parts, found, atol=1e-11)


# Networks of their own.


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("spiking", [False, True])
def test_save_and_load(spiking: bool, causal: bool, tmp_path: Path) -> None:
    network = small(spiking, causal=causal, average_tokens=30.0)
    state = {k: v.contiguous() for k, v in network.published_state().items()}
    save_file(state, tmp_path / "weights.safetensors")
    config = json.loads(json.dumps(network.config_dict()))
    again = type(network).from_reference(config, load_file(tmp_path / "weights.safetensors"))
    assert again.config == network.config
    x = signals(2, 50)
    with torch.no_grad():
        assert torch.equal(again.prefix_logits(x), network.prefix_logits(x))


@pytest.mark.parametrize("spiking", [False, True])
def test_gradients_reach_every_parameter(spiking: bool) -> None:
    network = small(spiking).train()
    network.prefix_logits(signals(4, 60)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A norm in training takes every shift before it away again.
        if not name.endswith("bias"):
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("spiking", [False, True])
def test_a_batch_of_two_equals_two_singles(spiking: bool) -> None:
    network, x = small(spiking), signals(2, 70)
    with torch.no_grad():
        assert relative(network(x), torch.cat([network(one[None]) for one in x])) < 1e-5


@pytest.mark.parametrize("spiking", [False, True])
def test_overfits_eight_samples(spiking: bool) -> None:
    network = small(spiking, depths=1).train()
    torch.manual_seed(0)
    x, labels = signals(8, 40), torch.arange(8) % 3
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(network(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3
    assert losses[-1] < losses[0] / 4


def test_multiplications_of_the_published_network() -> None:
    # Weights 1,605,888 and the head's 8,960, as counted by torch; the memory's 256 x 256 + 256.
    assert LMUFormer().multiply_accumulates() == 1_605_888 + 8_960 + 65_792


def test_spikes_are_counted() -> None:
    network, x = small(True), signals(4, 100)
    rates, fans = network.firing_rates(x), network.fan_outs()
    assert rates.keys() == fans.keys()
    assert all(0 < rate < 1 for rate in rates.values())
    neurons = network.blocks[1].get_submodule("mixer.memory_neurons")
    seen: list[Tensor] = []
    handle = neurons.register_forward_hook(lambda _layer, _args, out: seen.append(out))
    total = network.synaptic_operations(x)
    handle.remove()
    assert rates["blocks.1.mixer.memory_neurons"] == pytest.approx(float(seen[0].mean()))
    assert total == pytest.approx(sum(rates[name] * fans[name] for name in fans))
    # If all neurons fired: every weight but the first convolution's, and the memories' inputs.
    weights = sum(p.numel() for p in network.parameters() if p.dim() == 2)
    assert sum(fans.values()) == weights - 24 * 15 + 2 * 16
    assert network.multiply_accumulates() == 24 * 15 + 2 * 16 * 16


def test_firing_rates_of_the_reference() -> None:
    config, state, tensors = golden("lmuformer_spiking_a")
    network = SpikingLMUFormer.from_reference(config, state)
    rates = network.firing_rates(tensors["input"].transpose(1, 2))
    wanted = {
        "embed.neurons.0": 0.295654296875,
        "blocks.0.mixer.enter_neurons": 0.3579915463924408,
        "blocks.0.mixer.memory_neurons": 0.0574544258415699,
        "head_neurons": 0.3121744692325592,
    }
    for name, rate in wanted.items():
        assert rates[name] == pytest.approx(rate, rel=1e-3)


# What does not fit.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dim": 0}, "dim is 0; needs 1 or more"),
        ({"depths": 0}, "depths is 0; needs 1 or more"),
        ({"memory_size": 0}, "memory_size is 0; needs 1 or more"),
        ({"mlp_ratios": 0.001}, r"mlp_ratios is 0\.001; needs"),
        ({"theta": 0}, "theta is 0; needs more than 0 tokens"),
        ({"average_tokens": 0.5}, r"average_tokens is 0\.5; needs 1 or more, or None"),
        ({"tau": 0.5}, r"tau is 0\.5; needs 1 or more"),
        ({"v_threshold": 0.0}, r"v_threshold is 0\.0; needs more than 0"),
        ({"prev_lif_v_threshold": -1.0}, r"prev_lif_v_threshold is -1\.0; needs more than 0"),
    ],
)
def test_config_errors(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SpikingLMUFormerConfig(**changes)


def test_inputs_that_do_not_fit() -> None:
    network = small(False)
    for shape in ((2, 4, 10), (5, 10), (2, 5, 0)):
        with pytest.raises(ValueError, match=r"x has shape .*; needs \(B, 5, N\) with 1 token"):
            network(torch.zeros(shape))
