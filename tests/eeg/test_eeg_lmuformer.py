"""LMUFormer for EEG: streams, spikes, and its place in braindecode."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from torch import Tensor
from torch.nn import functional as F

from sigform_eeg.eeg_lmuformer import OPTIONS, EEGLMUFormer
from sigform_eeg.lmuformer import TokenNorm
from sigform_eeg.stream_state import StreamState


def small(spiking: bool = False, **changes: Any) -> EEGLMUFormer:
    """A network in eval mode, its norms used to its signals."""
    facts = {"n_chans": 5, "n_outputs": 3, "n_times": 200, "sfreq": 100.0}
    sizes = {"features": 8, "dim": 16, "memory_size": 8, "drop_prob": 0.0}
    torch.manual_seed(0)
    network = EEGLMUFormer(**{**facts, **sizes, "spiking": spiking, **changes}).train()
    with torch.no_grad():
        for norm in network.modules():
            if spiking and isinstance(norm, TokenNorm):
                norm.bias.add_(0.4)  # so that all neurons fire now and then
        for _ in range(30):
            network(recordings(8))
    return network.eval()


def recordings(batch: int, samples: int = 200) -> Tensor:
    """Microvolts (B, 5, T), of changing power."""
    swell = torch.linspace(0, 12, samples).sin() + 1.5
    return 10 * swell * torch.randn(batch, 5, samples)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def streamed(network: EEGLMUFormer, x: Tensor, pieces: list[int]) -> Tensor:
    state, found = network.initial_state(len(x)), []
    for piece in x.split(pieces, dim=-1):
        logits, state = network.step(piece, state)
        found.append(logits)
    return torch.cat([*found, network.finish(state)[0]], dim=1)


@pytest.mark.parametrize("spiking", [False, True])
def test_logits(spiking: bool) -> None:
    network, x = small(spiking), recordings(2)
    assert network.samples_per_token == 6
    assert network.delay == 0
    with torch.no_grad():
        prefixes = network.prefix_logits(x)
        assert prefixes.shape == (2, 33, 3)
        assert relative(network(x), prefixes[:, -1]) < 1e-6
        assert relative(network(x[:1]), network(x)[:1]) < 1e-5
        for samples in (6, 64, 777):
            assert network(recordings(1, samples)).shape == (1, 3)


@pytest.mark.parametrize("average_seconds", [None, 0.5])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("pieces", [[1] * 100, [4] * 50, [200], [3, 0, 111, 1, 6, 79]])
def test_a_stream_equals_the_whole(
    spiking: bool, causal: bool, average_seconds: float | None, pieces: list[int]
) -> None:
    network = small(spiking, causal=causal, average_seconds=average_seconds)
    x = recordings(2, sum(pieces))
    with torch.no_grad():
        wanted = network.prefix_logits(x)
    assert relative(streamed(network, x, pieces), wanted) < 1e-5


def test_look_ahead_comes_late() -> None:
    network, x = small(causal=False), recordings(1)
    logits, state = network.step(x, network.initial_state())
    assert logits.shape[1] == 33 - network.delay == 28
    assert network.finish(state)[0].shape[1] == 5


@pytest.mark.parametrize("spiking", [False, True])
def test_a_state_is_explicit_and_of_one_size(spiking: bool, tmp_path: Path) -> None:
    network, x = small(spiking, average_seconds=1.0), recordings(1, 3000)
    state, sizes = network.initial_state(), set()
    for piece in x.split(6, dim=-1):
        before = {name: tensor.clone() for name, tensor in state.tensors.items()}
        logits, after = network.step(piece, state)
        assert all(torch.equal(before[name], t) for name, t in state.tensors.items())
        sizes.add(sum(t.untyped_storage().nbytes() for t in state.tensors.values()))
        last, state = state, after
    assert len(sizes) == 1
    save_file(last.to_dict(), tmp_path / "state.safetensors")
    again = StreamState.from_dict(load_file(tmp_path / "state.safetensors"))
    assert torch.equal(network.step(piece, again)[0], logits)


@pytest.mark.parametrize("spiking", [False, True])
def test_save_and_load(spiking: bool, tmp_path: Path) -> None:
    network, x = small(spiking, average_seconds=3.0, causal=False), recordings(2)
    save_file(network.published_state(), tmp_path / "weights.safetensors")
    config = json.loads(json.dumps(network.config_dict()))
    again = EEGLMUFormer.from_reference(config, load_file(tmp_path / "weights.safetensors"))
    assert again.config_dict() == network.config_dict()
    assert set(OPTIONS) < network.config_dict().keys()
    with torch.no_grad():
        assert torch.equal(again(x), network(x))
    with pytest.raises(ValueError, match="unknown 'dims'"):
        EEGLMUFormer.from_reference({**config, "dims": 3}, network.published_state())


@pytest.mark.parametrize("spiking", [False, True])
def test_gradients_reach_every_parameter(spiking: bool) -> None:
    network = small(spiking).train()
    network.prefix_logits(recordings(4)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A norm in training takes every shift before it away again.
        if not name.endswith("bias"):
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("spiking", [False, True])
def test_overfits_eight_recordings(spiking: bool) -> None:
    network = small(spiking).train()
    x, labels = recordings(8), torch.arange(8) % 3
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(network(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3


def test_what_a_token_costs() -> None:
    plain, spiking, x = small(), small(True), recordings(4)
    front = 6 * 8 * (5 + 17 + 1)  # 17 taps are 0.15 s and a bit
    body = 3 * 16 * 8 + 4 * 3 * 16 * 16 + 16 + 24 * 16 + 16 * 16 + 2 * 16 * 32 + 16 * 3
    assert plain.multiply_accumulates() == front + body + 8 * 8 + 8
    assert spiking.multiply_accumulates() == front + 3 * 16 * 8 + 8 * 8
    rates = spiking.firing_rates(x)
    assert len(rates) == 11
    assert all(0 < rate < 1 for rate in rates.values())
    assert 0 < spiking.synaptic_operations(x) < body
    with pytest.raises(ValueError, match="spiking is False; needs a spiking network"):
        plain.synaptic_operations(x)


@pytest.mark.parametrize("spiking", [False, True])
def test_a_classifier_of_braindecode(spiking: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what braindecode imports
        from braindecode import EEGClassifier
    x = recordings(24).numpy()
    labels = (torch.arange(24) % 2).numpy()
    x[labels == 1, :2] *= 3
    torch.manual_seed(0)
    classifier = clone(
        EEGClassifier(
            EEGLMUFormer,
            module__sfreq=100.0,
            module__spiking=spiking,
            module__dim=16,
            optimizer=torch.optim.Adam,
            optimizer__lr=1e-2,
            batch_size=8,
            max_epochs=4,
            train_split=None,
            verbose=0,
        )
    )
    classifier.fit(x, labels)
    assert (classifier.module_.n_chans, classifier.module_.n_outputs) == (5, 2)
    assert classifier.module_.n_times == 200
    losses = classifier.history[:, "train_loss"]
    assert losses[-1] < losses[0]
    assert classifier.predict_proba(x).shape == (24, 2)
    again = clone(classifier).set_params(module__depth=2).fit(x, labels)
    assert len(again.module_.body.blocks) == 2


def test_channel_facts_of_mne() -> None:
    facts = [{"ch_name": name} for name in ("C3", "Cz", "C4")]
    assert EEGLMUFormer(n_outputs=2, sfreq=160.0, chs_info=facts).n_chans == 3


def test_defaults_are_in_seconds() -> None:
    for rate in (128.0, 160.0, 250.0, 512.0):
        network = EEGLMUFormer(22, 2, sfreq=rate)
        tokens = rate / network.samples_per_token
        assert 14 < tokens < 18
        assert network.body.config.theta == pytest.approx(2 * tokens)
        assert network.front.window / rate == pytest.approx(0.5, abs=0.04)
        assert network.front.kernel / rate == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sfreq": None}, "sfreq is None; needs a number"),
        ({"n_chans": None, "n_outputs": None}, "n_chans, n_outputs is None; needs a number"),
        ({"sfreq": -1.0}, r"sfreq is -1\.0; needs more than 0"),
        ({"token_rate": 0.0}, r"token_rate is 0\.0; needs more than 0"),
        ({"n_times": 5}, "n_times is 5; needs a token's 6 samples or more"),
        ({"drop_prob": 1.0}, r"drop_prob is 1\.0; needs 0 or more, less than 1"),
        ({"dim": 0}, "dim is 0; needs 1 or more"),
        ({"features": 0}, "features is 0; needs 1 or more"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        small(**changes)


def test_signals_that_do_not_fit() -> None:
    network = small()
    for shape in ((2, 4, 200), (5, 200), (2, 5, 5)):
        with pytest.raises(ValueError, match=r"x has shape .*; needs \(B, 5, T\) with 6 samples"):
            network(torch.zeros(shape))
    with pytest.raises(ValueError, match="x has 2 streams; needs 1"):
        network.step(torch.zeros(2, 5, 1), network.initial_state())
    with pytest.raises(ValueError, match="the state lacks"):
        network.step(torch.zeros(1, 5, 1), network.front.initial_state())
