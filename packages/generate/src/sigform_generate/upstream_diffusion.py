"""Published checkpoints of DiT and VDT: a person's own copies, whose licence is non-commercial.

Both save a state dict, bare or inside the checkpoint of a training, and nothing of the sizes it is
for: shapes tell them, but for the number of heads, which is that of the published width.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sigform_core.weights import load_torch_checkpoint
from sigform_generate.adaln import grid_positions, line_positions
from sigform_generate.dit import DiT
from sigform_generate.networks import Loaded, Sampling
from sigform_generate.vdt import VDT

State = Mapping[str, Tensor]

NOTICE = (
    "published under CC BY-NC 4.0: for non-commercial use only, not to be passed on as one's own"
)
"""What anyone is told who loads one of these."""

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Heads of the published widths."""

SHRUNK = 8
"""Pixels of a picture to each pixel of the latents that both were trained on."""


def is_diffusion(state: State) -> bool:
    """Whether names are those of a DiT or a VDT: nothing else has both of these."""
    return "x_embedder.proj.weight" in state and "final_layer.linear.weight" in state


def load_diffusion(path: Path, *, heads: int | None = None) -> Loaded:
    """The network of a published checkpoint, in eval mode, and how to sample from it.

    The averaged weights are taken where there are some. `heads` is needed for a width that was
    not published. Nothing in the file is run. Raises FileNotFoundError, and ValueError for another
    network's checkpoint and for one with parameters missing, left over or of another shape.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):  # settings of a training
        state = load_torch_checkpoint(path)
    if not is_diffusion(state):
        names = ", ".join(list(state)[:4])
        raise ValueError(f"{path} has {names}, ...; needs a checkpoint of DiT or VDT")
    try:
        return from_published(state, heads=heads)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def from_published(state: State, *, heads: int | None = None) -> Loaded:
    """The same for a state dict."""
    config = published_config(state, heads)
    _check_positions(state, config)
    clips = "num_frames" in config
    network = (VDT if clips else DiT).from_reference(config, state)
    sampling = Sampling(
        size=config["input_size"] * SHRUNK,
        frames=config.get("num_frames", 1),
        variance="learned_range" if config["learn_sigma"] else "fixed_large",
        steps="250",
        codec="sd-vae",
    )
    card = {"source": "published checkpoint", "licence": NOTICE}
    return Loaded(network=network, model="vdt" if clips else "dit", sampling=sampling, card=card)


def published_config(state: State, heads: int | None = None) -> dict[str, Any]:
    """The published constructor's arguments, by the tensors; raises ValueError where they cannot
    tell."""
    dim, channels, patch, _ = _shape(state, "x_embedder.proj.weight", 4)
    _, patches, _ = _shape(state, "pos_embed", 3)
    side = math.isqrt(patches)
    outputs = _shape(state, "final_layer.linear.weight", 2)[0]
    if heads is None and dim not in HEADS:
        raise ValueError(f"width is {dim}, not a published one; needs the number of heads")
    if side * side != patches:
        raise ValueError(f"pos_embed has {patches} patches; needs a square number")
    config: dict[str, Any] = {
        "input_size": side * patch,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": dim,
        "depth": len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
        "num_heads": heads or HEADS[dim],
        "mlp_ratio": _shape(state, "blocks.0.mlp.fc1.weight", 2)[0] / dim,
        "num_classes": _shape(state, "y_embedder.embedding_table.weight", 2)[0] - 1,
        "learn_sigma": outputs == 2 * channels * patch * patch,
    }
    if "time_embed" in state:
        config["num_frames"] = _shape(state, "time_embed", 3)[1]
    return config


def _shape(state: State, name: str, axes: int) -> tuple[int, ...]:
    if name not in state:
        raise ValueError(f"{name} missing")
    if state[name].ndim != axes:
        raise ValueError(f"{name} has {state[name].ndim} axes; needs {axes}")
    return tuple(state[name].shape)


def _check_positions(state: State, config: Mapping[str, Any]) -> None:
    """Raise ValueError for positions that are not the fixed ones, which the network has already."""
    dim, side = config["hidden_size"], config["input_size"] // config["patch_size"]
    tables = {"pos_embed": grid_positions((side, side), dim)}
    if "num_frames" in config:
        tables["time_embed"] = line_positions(config["num_frames"], dim)
    for name, table in tables.items():
        stored = state[name][0].float()
        if stored.shape != table.shape or not torch.allclose(stored, table, atol=1e-4):
            raise ValueError(f"{name} is not the fixed table of sines; needs a published network")
