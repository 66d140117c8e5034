"""Networks by name, and their weight files."""

from pathlib import Path

import pytest
import torch

from sigform_core.weights import load_weights, save_weights
from sigform_superres.craft import CRAFT, CRAFTConfig
from sigform_superres.dlgsanet import DLGSANet, DLGSANetConfig
from sigform_superres.networks import (
    ARCHITECTURES,
    Network,
    build,
    load_network,
    model_name,
    save_network,
)

SMALL: tuple[Network, ...] = (
    CRAFT(CRAFTConfig(upscale=3, embed_dim=32, depths=(1,), num_heads=(2,), img_range=255.0)),
    DLGSANet(
        DLGSANetConfig(
            upscale=2, dim=12, groups=1, blocks=1, window_size=3, tlc_kernel=8, activation="gelu"
        )
    ),
)


@pytest.mark.parametrize(
    ("architecture", "scale", "parameters"),
    [
        ("craft", 2, 737_756),
        ("craft", 3, 744_251),
        ("dlgsanet-tiny", 4, 581_298),
        ("dlgsanet-light", 4, 760_776),
        ("dlgsanet", 4, 4_762_920),
    ],
)
def test_built_as_published(architecture: str, scale: int, parameters: int) -> None:
    network = build(architecture, scale)
    assert sum(value.numel() for value in network.parameters()) == parameters
    assert network.scale == scale
    assert model_name(network) == ("craft" if architecture == "craft" else "dlgsanet")


def test_new_networks_are_drawn_anew() -> None:
    torch.manual_seed(0)
    first, second = build("craft", 2), build("craft", 2)
    torch.manual_seed(0)
    again = build("craft", 2)
    assert torch.equal(first.upsample[0].weight, again.upsample[0].weight)  # pyright: ignore
    assert not torch.equal(first.upsample[0].weight, second.upsample[0].weight)  # pyright: ignore


def test_what_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="architecture is 'swinir'; needs one of craft, dlgsanet-"):
        build("swinir", 2)
    for architecture in ARCHITECTURES:
        for scale in (1, 5, 0):
            with pytest.raises(ValueError, match=f"scale is {scale}; needs 2, 3 or 4"):
                build(architecture, scale)


@pytest.mark.parametrize("network", SMALL, ids=["craft", "dlgsanet"])
def test_weight_file_round_trip(network: Network, tmp_path: Path) -> None:
    path, card = tmp_path / "net.safetensors", {"licence": "Apache-2.0", "set5": [33.1, 0.91]}
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.1 * torch.randn_like(value))
    save_network(path, network, card)
    again, file = load_network(path)
    assert type(again) is type(network)
    assert again.config == network.config
    assert not again.training
    assert file.card == card
    assert file.model == model_name(network)
    assert file.tensors.keys() == network.published_state().keys()
    x = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        assert torch.equal(again(x), network.eval()(x))


def test_weight_files_for_something_else(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match=r"net\.safetensors does not exist"):
        load_network(path)
    save_weights(path, {"a": torch.zeros(1)}, model="informer", config={})
    with pytest.raises(ValueError, match=r"net\.safetensors is for informer; needs one of craft"):
        load_network(path)


def test_weight_files_that_are_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_network(path, SMALL[0], {})
    file = load_weights(path)
    tensors = {name: value for name, value in file.tensors.items() if name != "upsample.0.bias"}
    save_weights(path, tensors, model="craft", config=file.config)
    with pytest.raises(ValueError, match=r"upsample\.0\.bias missing"):
        load_network(path)
    save_weights(path, file.tensors, model="craft", config={**file.config, "upscale": 2})
    with pytest.raises(ValueError, match=r"upsample\.0\.weight has shape"):
        load_network(path)
    save_weights(path, file.tensors, model="craft", config={**file.config, "colour": "red"})
    with pytest.raises(ValueError, match="unknown 'colour'"):
        load_network(path)
