import pytest
import torch
from torch.nn import functional as F

from sigform_core.mlp import Mlp


@pytest.mark.parametrize(("name", "activation"), [("gelu", F.gelu), ("relu", F.relu)])
def test_two_layers(name, activation):
    block, x = Mlp(4, 9, activation=name), torch.randn(2, 3, 4)
    hidden = activation(x @ block.up.weight.T + block.up.bias)
    torch.testing.assert_close(block(x), hidden @ block.down.weight.T + block.down.bias)


def test_dropout_only_in_training():
    block, x = Mlp(4, 64, dropout=0.5), torch.randn(2, 4)
    torch.manual_seed(0)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))


def test_unknown_activation():
    with pytest.raises(ValueError, match="activation is 'tanh'; needs one of"):
        Mlp(4, 4, activation="tanh")
