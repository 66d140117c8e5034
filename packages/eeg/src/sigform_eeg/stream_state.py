"""What a network remembers between two calls of a stream: explicit, saveable, of constant size.

A layer with a memory is a `Streamed`: given a carry (a dict of tensors) it goes on from its entry
there and replaces it; given none it takes a whole sequence. So the stream and the whole sequence
are one code, and the caller's state is never changed.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

Carry = dict[str, Tensor]


@dataclass(frozen=True)
class StreamState:
    """The memories of a network by the names of its layers, for `batch` streams side by side."""

    tensors: Mapping[str, Tensor]
    batch: int

    def to_dict(self) -> dict[str, Tensor]:
        """The tensors by name, for a file (safetensors, `torch.save`); `from_dict` reads it."""
        return {**self.tensors, "batch": torch.tensor(self.batch)}

    @classmethod
    def from_dict(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Raises ValueError when it was not made by `to_dict`."""
        if "batch" not in tensors:
            raise ValueError("the state has no batch; needs what to_dict made")
        memories = {name: tensor for name, tensor in tensors.items() if name != "batch"}
        return cls(memories, int(tensors["batch"]))

    def to(self, device: torch.device | str) -> Self:
        """The state on another device."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return type(self)(moved, self.batch)


class Streamed(nn.Module, ABC):
    """A layer with a memory, kept under `key` in a carry."""

    key: str = ""

    @abstractmethod
    def start(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        """The memory before the first token, on the device and in the dtype of `like`."""


def name_streams(network: nn.Module) -> None:
    """Give every `Streamed` inside its path in `network` as its key; the outermost call counts."""
    for name, layer in network.named_modules():
        if isinstance(layer, Streamed):
            layer.key = name


def initial_state(network: nn.Module, batch: int) -> StreamState:
    """The state of `network` before anything has gone by, for `batch` streams."""
    if batch < 1:
        raise ValueError(f"batch is {batch}; needs 1 or more streams")
    like = next(network.parameters()).detach()
    return StreamState(dict(_beginnings(network, batch, like)), batch)


def carry_on(network: nn.Module, state: StreamState, batch: int) -> Carry:
    """A carry to go on from `state`, which stays as it is.

    Raises ValueError when the network is in training mode (its norms would see one token), the
    state is another network's, or has another number of streams.
    """
    if network.training:
        raise ValueError("the network is in training mode; needs eval() before a stream")
    if batch != state.batch:
        raise ValueError(f"x has {batch} streams; needs {state.batch}, as the state")
    layers = [layer for layer in network.modules() if isinstance(layer, Streamed)]
    missing = [layer.key for layer in layers if not _knows(state, layer.key)]
    if missing:
        raise ValueError(f"the state lacks {missing[0]!r}; needs one of this network")
    return dict(state.tensors)


def _knows(state: StreamState, key: str) -> bool:
    return any(name == key or name.startswith(f"{key}.") for name in state.tensors)


def _beginnings(network: nn.Module, batch: int, like: Tensor) -> Iterator[tuple[str, Tensor]]:
    for layer in network.modules():
        if isinstance(layer, Streamed):
            yield from layer.start(batch, like).items()
