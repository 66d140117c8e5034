"""Weight files: what a network sees and says travels with it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from eeg.small import CHANNELS, CLASSES, WINDOW, setup

from sigform_core.weights import load_weights, save_weights
from sigform_eeg.networks import ARCHITECTURES, Setup, build, load_network, save_network


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_network_comes_back_from_its_file(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(architecture, setup()).eval()
    path = tmp_path / "weights.safetensors"
    save_network(path, network, setup(), {"licence": "none"})
    again, told, file = load_network(path)
    assert told == setup()
    assert file.card == {"licence": "none"}
    assert not again.training
    assert type(again) is type(network)
    signals = torch.randn(3, len(CHANNELS), WINDOW.samples)
    with torch.no_grad():
        torch.testing.assert_close(again(signals), network(signals), rtol=0, atol=0)
        assert again(signals).shape == (3, len(CLASSES))
    assert again.config_dict() == network.config_dict()


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"architecture is 'eegnet'; needs one of dbconformer"):
        build("eegnet", setup())


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_weights(path, {"a": torch.zeros(1)}, model="mossformer", config={})
    with pytest.raises(ValueError, match=r"is for mossformer; needs one of dbconformer"):
        load_network(path)


@pytest.mark.parametrize("missing", ["network", "setup"])
def test_a_file_without_its_setup_is_refused(missing: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_network(path, build("dbconformer", setup()), setup(), {})
    file = load_weights(path)
    rest = {name: value for name, value in file.config.items() if name != missing}
    save_weights(path, file.tensors, model=file.model, config=rest)
    with pytest.raises(ValueError, match=f"has no '{missing}' in its config"):
        load_network(path)


def test_weights_of_another_montage_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_network(path, build("dbconformer", setup()), setup(), {})
    file = load_weights(path)
    config = {**file.config, "network": {**file.config["network"], "n_chans": 5}}
    save_weights(path, file.tensors, model=file.model, config=config)
    with pytest.raises(ValueError, match=r"weights\.safetensors: .*shape"):
        load_network(path)


def test_a_setup_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="channels is None"):
        Setup(preprocessing=replace(WINDOW, channels=None), classes=CLASSES, align="none")
    with pytest.raises(ValueError, match=r"classes is \('left',\)"):
        Setup(preprocessing=WINDOW, classes=("left",), align="none")
    with pytest.raises(ValueError, match="align is 'later'; needs none, subject, online"):
        Setup(preprocessing=WINDOW, classes=CLASSES, align="later")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="setup has classes; needs align, classes"):
        Setup.from_dict({"classes": ["a", "b"]})
    assert Setup.from_dict(setup().to_dict()) == setup()
