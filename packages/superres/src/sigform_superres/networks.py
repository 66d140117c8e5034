"""The networks by name: building one, and writing and reading our weight files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sigform_core.weights import WeightFile, load_weights, save_weights
from sigform_superres.craft import CRAFT, CRAFTConfig
from sigform_superres.dlgsanet import DLGSANet, DLGSANetConfig

Network = CRAFT | DLGSANet

CLASSES: dict[str, type[CRAFT] | type[DLGSANet]] = {"craft": CRAFT, "dlgsanet": DLGSANet}
"""What the `model` of a weight file names."""

ARCHITECTURES = {
    "craft": lambda scale: CRAFT(CRAFTConfig(upscale=scale)),
    "dlgsanet-tiny": lambda scale: DLGSANet(DLGSANetConfig.published("tiny", scale)),
    "dlgsanet-light": lambda scale: DLGSANet(DLGSANetConfig.published("light", scale)),
    "dlgsanet": lambda scale: DLGSANet(DLGSANetConfig.published("full", scale)),
}
"""What `train` can build: each in its published configuration for a scale of 2, 3 or 4."""


def build(architecture: str, scale: int) -> Network:
    """A new network of an architecture in ARCHITECTURES, with random weights.

    Raises ValueError for another name or scale.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"architecture is {architecture!r}; needs one of {', '.join(ARCHITECTURES)}"
        )
    if scale not in (2, 3, 4):
        raise ValueError(f"scale is {scale}; needs 2, 3 or 4")
    return ARCHITECTURES[architecture](scale)


def model_name(network: nn.Module) -> str:
    """The name of a network's class in weight files; raises ValueError for any other class."""
    for name, cls in CLASSES.items():
        if type(network) is cls:
            return name
    raise ValueError(f"network is {type(network).__name__}; needs CRAFT or DLGSANet")


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
