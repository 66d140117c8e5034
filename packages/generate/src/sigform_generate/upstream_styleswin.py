"""Published checkpoints of StyleSwin (MIT): the generator, its average, the discriminator.

A `.pt` holds all three as `g`, `g_ema` and `d`, with the optimizers and the arguments of the
training. Names and shapes tell the configuration, but for the rate of the mapping (0.01, as
published). The masks of shifted windows, 716 MB of a generator at 1024, are never read from the
file: it is mapped, and only what a network takes is.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sigform_generate.networks import Loaded
from sigform_generate.styleswin import Discriminator, Generator

State = Mapping[str, Tensor]

_FIRST = "layers.0.blocks.0."
_GENERATORS = ("g_ema", "g")  # the average first


def is_styleswin(names: Mapping[str, Any]) -> bool:
    """Whether names are those of a checkpoint, or of a generator by itself."""
    if any(isinstance(names.get(part), Mapping) for part in _GENERATORS):
        return True
    return f"{_FIRST}norm1.style.weight" in names


def load_styleswin(path: Path) -> Loaded:
    """The generator of a published checkpoint, in eval mode: its average where there is one.

    Nothing in the file is run. Raises FileNotFoundError, and ValueError for another network's
    checkpoint and for one with parameters missing, left over or of another shape.
    """
    held = read_checkpoint(path)
    part = next((part for part in _GENERATORS if isinstance(held.get(part), Mapping)), None)
    state = held if part is None else held[part]
    if not is_styleswin(state):
        raise ValueError(f"{path} has {_some(state)}; needs a StyleSwin generator")
    try:
        network = Generator.from_reference(generator_config(state), state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    card = {"published": path.name, "licence": "MIT", "part": part or "state dict"}
    return Loaded(network=network, model="styleswin", sampling=None, card=card)


def load_discriminator(path: Path) -> Discriminator | None:
    """The discriminator of a published checkpoint, in eval mode; None where it has none.

    Raises as `load_styleswin`.
    """
    state = read_checkpoint(path).get("d")
    if not isinstance(state, Mapping):
        return None
    try:
        return Discriminator.from_reference(discriminator_config(state), state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """What a checkpoint holds, its tensors still in the file where it can be mapped."""
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            held = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
        except Exception as error:  # damaged bytes make the unpickler raise nearly anything
            code = re.search(r"GLOBAL (\S+)", str(error))
            if code is None:
                raise ValueError(f"{path} is no readable PyTorch checkpoint") from error
            raise ValueError(
                f"{path} holds {code[1]}, code that is never run; needs plain tensors"
            ) from error
    if not isinstance(held, Mapping) or not held:
        raise ValueError(f"{path} holds a {type(held).__name__}; needs a checkpoint of StyleSwin")
    return held


def generator_config(state: State) -> dict[str, Any]:
    """The constructor's arguments by a generator's tensors; ValueError names a missing one."""
    stages = _count(state, "layers")
    widths = [_shape(state, "input.input", 4)[1]]
    widths += [
        _shape(state, f"layers.{stage}.upsample.reduction.weight", 2)[0]
        for stage in range(stages - 1)
    ]
    table = "attn.0.relative_position_bias_table"
    full, heads = 8, []
    for stage in range(stages):
        rows, half = _shape(state, f"layers.{stage}.blocks.0.{table}", 2)
        heads.append(2 * half)
        if rows == (2 * (4 << stage) - 1) ** 2:
            full = max(full, 4 << stage)  # one window
    fewest = [found for found, width in zip(heads, widths, strict=True) if found != width // 32]
    return {
        "size": 4 << (stages - 1),
        "style_dim": _shape(state, "style.1.weight", 2)[0],
        "n_mlp": len([name for name in state if re.fullmatch(r"style\.\d+\.weight", name)]),
        "enable_full_resolution": full,
        "mlp_ratio": _shape(state, f"{_FIRST}mlp.fc1.weight", 2)[0] / widths[0],
        "min_heads": fewest[0] if fewest else 4,
        "qkv_bias": f"{_FIRST}qkv.bias" in state,
        "in_channels_by_stage": widths,
    }


def discriminator_config(state: State) -> dict[str, Any]:
    """The same by a discriminator's tensors."""
    widths = [
        _shape(state, f"from_rgbs.{number}.conv.1.bias", 1)[0]
        for number in range(_count(state, "from_rgbs"))
    ]
    # Largest image first; the width of half its side is not used, and so not told.
    return {
        "size": 4 << len(widths),
        "sn": "final_conv.0.weight_orig" in state,
        "channels": [*widths[:0:-1], widths[0], widths[0]],
    }


def _shape(state: State, name: str, axes: int) -> tuple[int, ...]:
    if name not in state:
        raise ValueError(f"{name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != axes or 0 in shape:
        raise ValueError(f"{name} has shape {shape}; needs {axes} axes, none empty")
    return shape


def _count(state: State, prefix: str) -> int:
    """How many numbers follow a prefix in the names."""
    start = f"{prefix}."
    count = len({name[len(start) :].split(".")[0] for name in state if name.startswith(start)})
    if count < 2:
        raise ValueError(f"{prefix} has {count} parts; needs 2 or more")
    return count


def _some(state: Mapping[str, Any]) -> str:
    return f"{', '.join(map(str, list(state)[:4]))} ({len(state)} entries)"
