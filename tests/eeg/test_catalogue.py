"""Weights by name."""

from pathlib import Path

import pytest
import torch
from eeg.small import CHANNELS, setup

from sigform_core.weights import save_weights
from sigform_eeg.catalogue import SHIPPED, describe, find_weights
from sigform_eeg.networks import build, load_network, save_network


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.touch()
    assert find_weights(str(path)) == path


def test_unknown_names_bring_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHIPPED, "default", Path("default.safetensors"))
    assert find_weights("default") == Path("default.safetensors")
    with pytest.raises(ValueError, match=r"'defualt' are neither .*; did you mean default\?"):
        find_weights("defualt")


def test_a_file_is_described_without_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    network = build("dbconformer", setup())
    save_network(path, network, setup(), {"accuracy": 0.7})
    told = describe(path)
    assert (told.model, told.card) == ("dbconformer", {"accuracy": 0.7})
    assert told.parameters == sum(value.numel() for value in network.parameters())
    assert told.config["setup"]["preprocessing"]["channels"] == list(CHANNELS)
    for other in (tmp_path / "none.safetensors", Path(__file__)):
        with pytest.raises(ValueError, match="is no weight file of ours"):
            describe(other)
    save_weights(path, {"a": torch.zeros(2)}, model="other", config={})
    assert describe(path).parameters == 2


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_load_and_have_a_card(name: str) -> None:
    path = SHIPPED[name]
    network, told, file = load_network(path)
    assert told.classes == ("left", "right")
    assert len(told.channels) == 22
    signals = torch.randn(2, 22, told.preprocessing.samples)
    with torch.no_grad():
        assert network(signals).isfinite().all()
    card = path.with_suffix(".md").read_text("utf-8")
    for word in ("Schalk", "Goldberger", "ODC-BY", "CSP+LDA", "S005", "seed"):
        assert word in card
    assert file.card["accuracy"] > file.card["csp_lda_accuracy"]
    assert path.stat().st_size < 2_000_000
