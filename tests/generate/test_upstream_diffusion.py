"""Checkpoints in the published form of DiT and VDT, written here with random weights."""

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from generate.references import published
from torch import Tensor

from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.upstream_diffusion import NOTICE, load_diffusion, published_config
from sigform_generate.vdt import VDT, VDTConfig

IMAGE = DiTConfig(input_size=4, hidden_size=384, depth=1, num_heads=6, num_classes=3)
CLIP = VDTConfig(
    input_size=4,
    hidden_size=16,
    depth=2,
    num_heads=2,
    mlp_ratio=3,
    num_classes=2,
    num_frames=3,
    learn_sigma=False,
)


def test_a_bare_dit_loads(tmp_path: Path) -> None:
    model = DiT(IMAGE).eval()
    torch.save(published(model), tmp_path / "DiT.pt")
    loaded = load_diffusion(tmp_path / "DiT.pt")
    assert loaded.model == "dit"
    assert loaded.network.config == IMAGE
    assert loaded.sampling is not None
    assert (loaded.sampling.size, loaded.sampling.variance) == (32, "learned_range")
    assert loaded.card["licence"] == NOTICE
    x, t, y = torch.randn(1, 4, 4, 4), torch.tensor([9]), torch.tensor([1])
    with torch.no_grad():
        assert torch.equal(loaded.network(x, t, y), model(x, t, y))


def test_the_average_of_a_trainings_checkpoint_loads(tmp_path: Path) -> None:
    model = VDT(CLIP).eval()
    average = published(model)
    raw = {name: value + 1 for name, value in average.items()}
    settings = argparse.Namespace(model="VDT-S/2", lr=1e-4)
    torch.save({"model": raw, "ema": average, "args": settings}, tmp_path / "vdt.pt")
    loaded = load_diffusion(tmp_path / "vdt.pt", heads=2)
    assert loaded.model == "vdt"
    assert loaded.network.config == CLIP
    assert loaded.sampling is not None
    assert loaded.sampling.frames == 3
    x, t = torch.randn(1, 3, 4, 4, 4), torch.tensor([9])
    with torch.no_grad():
        assert torch.equal(loaded.network(x, t), model(x, t))


def test_an_unpublished_width_needs_heads() -> None:
    state = published(VDT(CLIP))
    with pytest.raises(ValueError, match="width is 16, not a published one; needs the number of"):
        published_config(state)
    assert published_config(state, 4)["num_heads"] == 4


def damaged(state: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    changed = dict(state)
    if kind == "missing":
        del changed["blocks.0.attn.proj.bias"]
    elif kind == "left over":
        changed["blocks.0.extra"] = torch.zeros(1)
    elif kind == "misshapen":
        changed["final_layer.linear.bias"] = torch.zeros(5)
    elif kind == "no patches":
        del changed["pos_embed"]
    elif kind == "learnt positions":
        changed["pos_embed"] = changed["pos_embed"] + 1
    else:
        changed = {"layers.0.weight": torch.zeros(2, 2)}
    return changed


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"blocks\.0\.attn\.proj\.bias missing"),
        ("left over", r"blocks\.0\.extra unexpected"),
        ("misshapen", r"final_layer\.linear\.bias has shape \(5,\), needs \(32,\)"),
        ("no patches", "pos_embed missing"),
        ("learnt positions", "pos_embed is not the fixed table"),
        ("another network", r"has layers\.0\.weight, \.\.\.; needs a checkpoint of DiT or VDT"),
    ],
)
def test_names_what_does_not_fit(tmp_path: Path, kind: str, message: str) -> None:
    state = published(DiT(replace(IMAGE, hidden_size=384)))
    torch.save(damaged(state, kind), tmp_path / "x.pt")
    with pytest.raises(ValueError, match=message) as caught:
        load_diffusion(tmp_path / "x.pt")
    assert str(tmp_path / "x.pt") in str(caught.value)


def test_code_is_never_run(tmp_path: Path) -> None:
    torch.save({"model": DiT(IMAGE)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="code that is never run"):
        load_diffusion(tmp_path / "x.pt")
