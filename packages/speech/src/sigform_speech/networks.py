"""The networks by name: writing and reading our weight files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sigform_core.weights import WeightFile, load_weights, save_weights
from sigform_speech.mossformer import MossFormer
from sigform_speech.mossformer2 import MossFormer2

Network = MossFormer | MossFormer2

CLASSES: dict[str, type[MossFormer] | type[MossFormer2]] = {
    "mossformer": MossFormer,
    "mossformer2": MossFormer2,
}
"""What the `model` of a weight file names."""


def model_name(network: nn.Module) -> str:
    """The name of a network's class in weight files; raises ValueError for any other class."""
    for name, cls in CLASSES.items():
        if type(network) is cls:
            return name
    raise ValueError(f"network is {type(network).__name__}; needs MossFormer or MossFormer2")


def save_network(path: Path, network: Network, card: Mapping[str, Any]) -> None:
    """Write a weight file with the published parameter names, which other programs read too."""
    save_weights(
        path,
        network.published_state(),
        model=model_name(network),
        config=network.config_dict(),
        card=card,
    )


def load_network(path: Path) -> tuple[Network, WeightFile]:
    """Read a weight file of ours: the network in eval mode, and what the file says about it.

    Raises FileNotFoundError, and ValueError when it is no weight file or for no network here.
    """
    file = load_weights(path)
    if file.model not in CLASSES:
        raise ValueError(f"{path} is for {file.model}; needs one of {', '.join(CLASSES)}")
    try:
        return CLASSES[file.model].from_reference(file.config, file.tensors), file
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
