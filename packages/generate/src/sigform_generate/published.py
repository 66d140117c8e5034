"""Weights of any origin: files of ours, and the checkpoints that authors published."""

from __future__ import annotations

from pathlib import Path

from sigform_core.weights import is_weight_file
from sigform_generate.networks import Loaded, load_network
from sigform_generate.upstream_diffusion import load_diffusion
from sigform_generate.upstream_styleswin import is_styleswin, load_styleswin, read_checkpoint


def load_any(path: Path) -> Loaded:
    """The network in a weight file of ours, or in a published checkpoint by what it holds.

    Nothing in the file is run. Raises FileNotFoundError, and ValueError for anything else.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; needs a weight file")
    if is_weight_file(path) or path.suffix == ".safetensors":
        return load_network(path)
    # Its tensors stay in the file: looking at the names costs nothing.
    return load_styleswin(path) if is_styleswin(read_checkpoint(path)) else load_diffusion(path)
