"""Weight files hold a network whole, and say what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from generate.commands import AV_SAMPLING, SAMPLING, saved, tiny
from torch import nn

from sigform_core.weights import load_weights, save_weights
from sigform_generate.networks import (
    CLASSES,
    KINDS,
    Sampling,
    config_from,
    load_network,
    model_name,
    network_classes,
    save_network,
)
from sigform_generate.vdt import VDTConfig

KINDS_HERE = {"image": "styleswin", "dit": "dit", "video": "vdt", "av": "av-dit"}


@pytest.mark.parametrize("kind", KINDS_HERE)
def test_a_network_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    network = tiny(kind)
    loaded = load_network(saved(tmp_path, kind))
    assert loaded.model == KINDS_HERE[kind]
    assert loaded.card == {"data": "none"}
    assert loaded.network.config == network.config
    assert not loaded.network.training
    ours, theirs = network.state_dict(), loaded.network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_sampling_comes_back(tmp_path: Path) -> None:
    assert load_network(saved(tmp_path, "video")).sampling == SAMPLING
    assert load_network(saved(tmp_path, "av")).sampling == AV_SAMPLING
    assert load_network(saved(tmp_path, "image")).sampling is None


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    network = tiny("video")
    whole, half = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_network(whole, network, {}, sampling=SAMPLING)
    save_network(half, network, {}, sampling=SAMPLING, dtype=torch.float16)
    assert half.stat().st_size < 0.75 * whole.stat().st_size
    value = next(load_network(half).network.parameters())
    assert value.dtype == torch.float32
    assert torch.allclose(value, next(network.parameters()), atol=1e-3)


def test_every_name_has_its_class() -> None:
    for name in CLASSES:
        network, config = network_classes(name)
        assert issubclass(network, nn.Module)
        assert isinstance(config, type)
    assert set(KINDS) < set(CLASSES)
    with pytest.raises(ValueError, match="model is 'gan'; needs one of styleswin"):
        network_classes("gan")
    with pytest.raises(ValueError, match="network is Linear"):
        model_name(nn.Linear(1, 1))


def test_a_file_of_another_model_is_named(tmp_path: Path) -> None:
    place = tmp_path / "craft.safetensors"
    save_weights(place, {"a": torch.zeros(1)}, model="craft", config={})
    with pytest.raises(ValueError, match=r"craft.safetensors is for craft; needs one of styleswin"):
        load_network(place)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"depht": 2}, r"unknown 'depht' \(did you mean 'depth'\?\)"),
        ({"depth": 2}, "missing"),
        ({"hidden_size": -1}, "hidden_size is -1"),
    ],
)
def test_a_config_that_does_not_fit_is_named(change: dict, said: str, tmp_path: Path) -> None:
    file = load_weights(saved(tmp_path, "video"))
    broken = tmp_path / "broken.safetensors"
    save_weights(
        broken, file.tensors, model=file.model, config={**file.config, **change}, card=file.card
    )
    with pytest.raises(ValueError, match=rf"broken.safetensors: .*{said}"):
        load_network(broken)


def test_configs_take_what_json_makes_of_them() -> None:
    config = config_from(Sampling, {"size": 8, "modes": ["predict"]})
    assert config == Sampling(size=8, modes=("predict",))
    with pytest.raises(ValueError, match="config does not make a Sampling"):
        config_from(Sampling, {})
    with pytest.raises(ValueError, match="size and frames are 0, 1"):
        Sampling(size=0)
    assert config_from(VDTConfig, {"num_frames": 4}).num_frames == 4
