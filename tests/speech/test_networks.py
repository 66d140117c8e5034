"""Weight files of both networks."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sigform_core.weights import load_weights, save_weights
from sigform_speech.mossformer import MossFormer, MossFormerConfig
from sigform_speech.mossformer2 import MossFormer2, MossFormer2Config
from sigform_speech.networks import Network, load_network, model_name, save_network

NETWORKS = {
    "mossformer": MossFormer(
        MossFormerConfig(
            in_channels=8, out_channels=8, d_model=8, num_blocks=1, query_key_dim=8, group_size=16,
            num_spks=3, norm="gln", sample_rate=44_100,
        )
    ),
    "mossformer2": MossFormer2(
        MossFormer2Config(
            encoder_embedding_dim=8, mossformer_sequence_dim=8, num_mossformer_layer=1,
            inner_channels=5, query_key_dim=8, group_size=16, num_spks=3, sample_rate=44_100,
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "network"), NETWORKS.items())
def test_round_trip(name: str, network: Network, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_network(path, network, {"licence": "Apache-2.0"})
    again, file = load_network(path)
    assert type(again) is type(network)
    assert model_name(again) == file.model == name
    assert file.card == {"licence": "Apache-2.0"}
    assert again.config == network.config
    assert not again.training
    assert again.num_spks == 3
    assert again.sample_rate == 44_100
    assert again.state_dict().keys() == network.state_dict().keys()
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_files_have_the_published_names(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_network(path, NETWORKS["mossformer"], {})
    assert "mask_net.mdl.att_mdl.mossformerM.layers.0.to_qk.mdl.0.g" in load_weights(path).tensors
    save_network(path, NETWORKS["mossformer2"], {})
    assert "model.mask_net.mdl.intra_mdl.mossformerM.fsmn.0.conv1.1.weight" in (
        load_weights(path).tensors
    )


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match=r"net\.safetensors does not exist"):
        load_network(path)
    save_weights(path, {"weight": torch.ones(1)}, model="craft", config={})
    with pytest.raises(ValueError, match="is for craft; needs one of mossformer, mossformer2"):
        load_network(path)
    save_weights(path, {"weight": torch.ones(1)}, model="mossformer2", config={"num_spks": 0})
    with pytest.raises(ValueError, match=r"net\.safetensors: num_spks is 0; needs 1 or more"):
        load_network(path)
    config = NETWORKS["mossformer2"].config_dict()
    save_weights(path, {"weight": torch.ones(1)}, model="mossformer2", config=config)
    with pytest.raises(ValueError, match=r"net\.safetensors: the weights do not fit MossFormer2: "):
        load_network(path)
    with pytest.raises(ValueError, match="network is Linear; needs MossFormer or MossFormer2"):
        model_name(nn.Linear(1, 1))
