"""The reference files of diffusion networks, where SIGFORM_FIXTURES says they are."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from sigform_generate.dit import DiT
from sigform_generate.vdt import VDT


def reference(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Config, published state and the other tensors of a reference file."""
    root = os.environ.get("SIGFORM_FIXTURES")
    if root is None:
        pytest.skip("SIGFORM_FIXTURES names no folder with reference tensors")
    path = Path(root) / "golden" / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"there is no reference file {path.name}")
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata().get("kwargs", "{}"))
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    return config, state, tensors


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach() - wanted).norm() / wanted.norm())


def perturb(model: nn.Module, seed: int = 0) -> None:
    """Move all parameters away from where they start."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def published(model: DiT | VDT) -> dict[str, Tensor]:
    """The state dict as the published code saves it, with its fixed positions; moves the model."""
    perturb(model)
    state = {name: value.clone() for name, value in model.published_state().items()}
    state["pos_embed"] = model.pos_embed[None].clone()
    if isinstance(model, VDT):
        state["time_embed"] = model.time_embed[None].clone()
    return state
