"""The networks by name, and the weight files that hold one with all it takes to sample from it.

A file has the network's own parameter names, its config, and in its card what was trained and,
for a diffusion network, the `Sampling` that it was trained for.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import nn

from sigform_core.reference import load_reference, read_config
from sigform_core.weights import load_weights, save_weights

CLASSES = {
    "styleswin": ("styleswin", "Generator", "GeneratorConfig"),
    "styleswin-discriminator": ("discriminator", "Discriminator", "DiscriminatorConfig"),
    "dit": ("dit", "DiT", "DiTConfig"),
    "vdt": ("vdt", "VDT", "VDTConfig"),
    "av-dit": ("avdit", "AVDiT", "AVDiTConfig"),
}
"""What the `model` of a weight file names: module, class and class of its config."""

KINDS = {"styleswin": "image", "dit": "image", "vdt": "video", "av-dit": "av"}
"""What each generating network makes."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What a diffusion network was trained for: needed to sample from it."""

    size: int  # side of the pictures, pixels
    frames: int = 1
    fps: float | None = None  # frames a second
    sample_rate: int | None = None  # Hz
    audio_samples: int | None = None  # of the sound of one clip
    schedule: str = "linear"
    diffusion_steps: int = 1000
    prediction: str = "noise"
    variance: str = "learned_range"
    steps: str = "ddim50"  # a respacing, unless another is asked for
    codec: str = "pixel"  # what turns frames into what the network sees
    sound_codec: str = "mel"
    modes: tuple[str, ...] = ("unconditional",)  # what the masks of its training showed it

    def __post_init__(self) -> None:
        if self.size < 1 or self.frames < 1:
            raise ValueError(f"size and frames are {self.size}, {self.frames}; need 1 or more")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network in eval mode, and what its file says of it."""

    network: nn.Module
    model: str  # a name in CLASSES
    sampling: Sampling | None
    card: dict[str, Any]


def network_classes(model: str) -> tuple[type[nn.Module], type]:
    """The class of a network and that of its config; imports its module."""
    if model not in CLASSES:
        raise ValueError(f"model is {model!r}; needs one of {', '.join(CLASSES)}")
    module, network, config = CLASSES[model]
    found = importlib.import_module(f"sigform_generate.{module}")
    return getattr(found, network), getattr(found, config)


def model_name(network: nn.Module) -> str:
    """The name of a network's class in weight files; raises ValueError for any other class."""
    home = type(network).__module__.rpartition(".")[2]
    for name, (module, cls, _) in CLASSES.items():
        if (module, cls) == (home, type(network).__name__):
            return name
    raise ValueError(f"network is {type(network).__name__}; needs one of {', '.join(CLASSES)}")


def save_network(
    path: Path,
    network: nn.Module,
    card: Mapping[str, Any],
    *,
    sampling: Sampling | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a weight file; the network has its config as `config`, a dataclass.

    `dtype` halves a file where float16 is enough; reading gives float32 again.
    """
    state = network.state_dict()
    if dtype is not None:
        state = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in state.items()
        }
    told = dict(card)
    if sampling is not None:
        told["sampling"] = dataclasses.asdict(sampling)
    config: Any = network.config
    save_weights(
        path, state, model=model_name(network), config=dataclasses.asdict(config), card=told
    )


def load_network(path: Path) -> Loaded:
    """Read a weight file of ours.

    Raises FileNotFoundError, and ValueError when it is no weight file or for no network here.
    """
    file = load_weights(path)
    if file.model not in CLASSES:
        raise ValueError(f"{path} is for {file.model}; needs one of {', '.join(CLASSES)}")
    cls, config_class = network_classes(file.model)
    card = dict(file.card)
    sampling = card.pop("sampling", None)
    try:
        network = cls(config_from(config_class, file.config))
        load_reference(network, file.tensors)
        told = None if sampling is None else config_from(Sampling, sampling)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Loaded(network=network, model=file.model, sampling=told, card=card)


def config_from(config_class: type, entries: Mapping[str, Any]) -> Any:
    """A config dataclass from what JSON keeps of it: lists are tuples, configs inside it too.

    Raises ValueError for entries that it does not know or that are missing.
    """
    known = read_config(entries, config_class)
    hints = get_type_hints(config_class)
    values = {name: _value(hints[name], value) for name, value in known.items()}
    try:
        return config_class(**values)
    except TypeError as error:
        raise ValueError(f"config does not make a {config_class.__name__} ({error})") from error


def _value(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return config_from(kind, value)
    if isinstance(value, list):
        return tuple(_value(None, entry) for entry in value)
    return value
