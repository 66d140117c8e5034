"""Published state dicts and configs are taken whole or refused by name."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import sigform_core
from sigform_core.reference import load_reference, load_views, read_config


class Block(nn.Module):
    index: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("index", torch.arange(4))


def published() -> dict[str, Tensor]:
    other = Block()
    return {name: torch.rand(value.shape) for name, value in other.state_dict().items()}


def test_loads_every_value_and_sets_eval() -> None:
    state = published()
    block = load_reference(Block(), state, ignore=["index"])
    assert not block.training
    assert not block.norm.training
    assert torch.equal(block.proj.weight, state["proj.weight"])
    assert torch.equal(block.state_dict()["norm.running_mean"], state["norm.running_mean"])
    assert torch.equal(block.index, torch.arange(4))


def test_renames() -> None:
    state = {f"net.{name}": value for name, value in published().items()}
    block = load_reference(Block(), state, rename=lambda key: key.removeprefix("net."))
    assert torch.equal(block.proj.bias, state["net.proj.bias"])


def test_names_everything_that_does_not_fit() -> None:
    state = published()
    del state["proj.bias"]
    state["proj.weight"] = torch.zeros(3, 2)
    state["head.weight"] = torch.zeros(1)
    block = Block()
    before = {name: value.clone() for name, value in block.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_reference(block, state)
    message = str(error.value)
    assert "do not fit Block" in message
    assert "proj.bias missing" in message
    assert "head.weight unexpected" in message
    assert "proj.weight has shape (3, 2), needs (2, 3)" in message
    assert "\n" not in message
    assert block.training
    assert all(torch.equal(before[name], value) for name, value in block.state_dict().items())


def test_long_lists_are_shortened() -> None:
    state = published() | {f"extra.{number}": torch.zeros(1) for number in range(100)}
    with pytest.raises(ValueError, match="and 92 more") as error:
        load_reference(Block(), state)
    assert len(str(error.value)) < 500


def test_ignoring_does_not_excuse_a_missing_parameter() -> None:
    state = published()
    del state["proj.bias"]
    with pytest.raises(ValueError, match=r"proj\.bias missing"):
        load_reference(Block(), state, ignore=["proj.*", "index"])


def test_missing_buffer_needs_ignoring() -> None:
    state = published()
    del state["norm.running_var"]
    with pytest.raises(ValueError, match=r"norm\.running_var missing"):
        load_reference(Block(), state)
    load_reference(Block(), state, ignore=["*.running_var"])


def test_two_keys_for_one_parameter_are_refused() -> None:
    state = published() | {"ema.proj.bias": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"proj\.bias twice \(again from ema\.proj\.bias\)"):
        load_reference(Block(), state, rename=lambda key: key.removeprefix("ema."))


def views(block: Block) -> dict[str, Tensor]:
    """The block's tensors as another program shapes them: its weight as a convolution."""
    own = {f"net.{name}": value for name, value in block.state_dict().items() if name != "index"}
    return own | {"net.proj.weight": block.state_dict()["proj.weight"].unsqueeze(2)}


def test_views_are_filled_in_place() -> None:
    state = views(Block())
    block = Block()
    loaded = load_views(
        block, views(block), state | {"net.index": torch.ones(4)}, ignore=["*.index"]
    )
    assert loaded is block
    assert not block.training
    assert torch.equal(block.proj.weight, state["net.proj.weight"].squeeze(2))
    assert torch.equal(block.norm.weight, state["net.norm.weight"])
    assert block.proj.weight.requires_grad
    assert torch.equal(block.index, torch.arange(4))


def test_views_name_everything_that_does_not_fit() -> None:
    state = views(Block())
    del state["net.proj.bias"]
    state["net.proj.weight"] = state["net.proj.weight"].squeeze(2)
    state["head.weight"] = torch.zeros(1)
    block = Block()
    before = {name: value.clone() for name, value in block.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_views(block, views(block), state)
    message = str(error.value)
    assert "net.proj.bias missing" in message
    assert "head.weight unexpected" in message
    assert "net.proj.weight has shape (2, 3), needs (2, 3, 1)" in message
    assert block.training
    assert all(torch.equal(before[name], value) for name, value in block.state_dict().items())


@dataclass(frozen=True)
class Config:
    d_model: int = 8
    n_heads: int = 2


def test_reads_what_is_known() -> None:
    config = {"d_model": 16, "learning_rate": 1e-4}
    assert read_config(config, Config, ignore=["learning_rate"]) == {"d_model": 16}
    assert read_config({"d_model": 16}, {"d_model"}) == {"d_model": 16}


def test_unknown_keys_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown 'n_head' \(did you mean 'n_heads'\?\); known"):
        read_config({"n_head": 4}, Config)
    with pytest.raises(ValueError, match=r"unknown 'zzz', 'n_head'; known are d_model, n_heads"):
        read_config({"zzz": 4, "n_head": 1}, Config)


def test_importing_the_package_does_not_import_torch() -> None:
    script = "import sys, sigform_core; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_every_name_of_the_package_is_there() -> None:
    for name in sigform_core.__all__:
        assert callable(getattr(sigform_core, name)), name
    assert set(sigform_core.__all__) <= set(dir(sigform_core))
    assert not hasattr(sigform_core, "nothing")
