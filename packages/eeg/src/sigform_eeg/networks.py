"""The networks by name: building one, and writing and reading our weight files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

from torch import nn

from sigform_core.weights import WeightFile, load_weights, save_weights
from sigform_eeg.alignment import Align
from sigform_eeg.dbconformer import DBConformer
from sigform_eeg.eeg_lmuformer import EEGLMUFormer
from sigform_eeg.preprocessing import Preprocessing

Network = DBConformer | EEGLMUFormer

CLASSES: dict[str, type[DBConformer] | type[EEGLMUFormer]] = {
    "dbconformer": DBConformer,
    "eeg-lmuformer": EEGLMUFormer,
}
"""What the `model` of a weight file names."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a network was trained to see and to say; every weight file holds one."""

    preprocessing: Preprocessing  # with channels
    classes: tuple[str, ...]
    align: Align

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.preprocessing.channels is None:
            raise ValueError("channels is None; needs the names of the network's channels")
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes is {self.classes}; needs two or more, each once")
        if self.align not in get_args(Align):
            raise ValueError(f"align is {self.align!r}; needs {', '.join(get_args(Align))}")

    @property
    def channels(self) -> tuple[str, ...]:
        return self.preprocessing.channels or ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "preprocessing": self.preprocessing.to_dict(),
            "classes": list(self.classes),
            "align": self.align,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` gave. Raises ValueError where something is missing or unknown."""
        if set(values) != {"preprocessing", "classes", "align"}:
            had = ", ".join(sorted(values)) or "nothing"
            raise ValueError(f"setup has {had}; needs align, classes and preprocessing")
        return cls(
            preprocessing=Preprocessing.from_dict(values["preprocessing"]),
            classes=tuple(values["classes"]),
            align=values["align"],
        )


def _dbconformer(setup: Setup) -> DBConformer:
    preprocessing = setup.preprocessing
    return DBConformer(
        n_chans=len(setup.channels),
        n_outputs=len(setup.classes),
        n_times=preprocessing.samples,
        sfreq=preprocessing.sample_rate,
        patch_size=max(1, round(preprocessing.sample_rate / 2)),
        drop_prob=0.25,
    )


def _lmuformer(setup: Setup, *, spiking: bool = False) -> EEGLMUFormer:
    preprocessing = setup.preprocessing
    return EEGLMUFormer(
        n_chans=len(setup.channels),
        n_outputs=len(setup.classes),
        n_times=preprocessing.samples,
        sfreq=preprocessing.sample_rate,
        spiking=spiking,
        average_seconds=preprocessing.samples / preprocessing.sample_rate,
    )


ARCHITECTURES: dict[str, Callable[[Setup], Network]] = {
    "dbconformer": _dbconformer,
    "lmuformer": _lmuformer,
    "lmuformer-spiking": lambda setup: _lmuformer(setup, spiking=True),
}
"""What `train` can build: tokens of half a second as published, and our two streaming ones."""


def build(architecture: str, setup: Setup) -> Network:
    """A new network of an architecture in ARCHITECTURES, with random weights.

    Raises ValueError for another name, and for a window that the architecture cannot take.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"architecture is {architecture!r}; needs one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[architecture](setup)


def model_name(network: nn.Module) -> str:
    """The name of a network's class in weight files; raises ValueError for any other class."""
    for name, cls in CLASSES.items():
        if type(network) is cls:
            return name
    raise ValueError(f"network is {type(network).__name__}; needs DBConformer or EEGLMUFormer")


def save_network(path: Path, network: Network, setup: Setup, card: Mapping[str, Any]) -> None:
    """Write a weight file: weights by their published names, and what the network sees and says."""
    save_weights(
        path,
        network.published_state(),
        model=model_name(network),
        config={"network": network.config_dict(), "setup": setup.to_dict()},
        card=card,
    )


def load_network(path: Path) -> tuple[Network, Setup, WeightFile]:
    """Read a weight file of ours: the network in eval mode, its setup, and what the file says.

    Raises FileNotFoundError, and ValueError when it is no weight file or for no network here.
    """
    file = load_weights(path)
    if file.model not in CLASSES:
        raise ValueError(f"{path} is for {file.model}; needs one of {', '.join(CLASSES)}")
    try:
        config, setup = file.config["network"], Setup.from_dict(file.config["setup"])
        return CLASSES[file.model].from_reference(config, file.tensors), setup, file
    except KeyError as error:
        raise ValueError(f"{path} has no {error} in its config; needs a weight file") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
