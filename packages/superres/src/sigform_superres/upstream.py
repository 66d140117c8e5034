"""Checkpoints of other programs: recognise the network in one, and write ours for them.

Published code saves a state dict, bare or as `params` or `params_ema`, and nothing about what it
fills. Names and shapes tell the rest, but for what is taken as published: pixels in [0, 1]
(`img_range` 1), for CRAFT without its index tables windows of 4 x 16 pixels, and for DLGSANet
attention through a ReLU, within local windows of the published side at each scale.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sigform_core.weights import is_weight_file, load_torch_checkpoint
from sigform_superres.craft import CRAFT, published_name
from sigform_superres.dlgsanet import DLGSANet, DLGSANetConfig
from sigform_superres.networks import Network, load_network, save_network

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

State = Mapping[str, Tensor]

_GROUP = re.compile(r"deep_feature_extraction\.\d+\.body\.\d+\.")

INSTALL = "pip install 'sigform-superres[any-model]'"
"""What brings the architectures that are not ours."""


class OtherNetwork(nn.Module):
    """A network of an architecture that spandrel knows, for inference only.

    (B, 3, H, W) of pixels in [0, 1] -> (B, 3, s * H, s * W), clamped, any H and W from 1: where
    the network takes only some sizes, the image is continued by reflection and the output cut.
    Raises ValueError for a dtype that the network does not compute in.
    """

    def __init__(self, descriptor: ImageModelDescriptor[nn.Module]) -> None:
        super().__init__()
        self.name = descriptor.architecture.name
        self.scale = descriptor.scale
        self.network = descriptor.model
        self.descriptor = descriptor

    def forward(self, x: Tensor) -> Tensor:
        runs = {
            torch.float16: self.descriptor.supports_half,
            torch.bfloat16: self.descriptor.supports_bfloat16,
        }
        if not runs.get(x.dtype, True):
            raise ValueError(f"dtype is {x.dtype}; {self.name} needs float32")
        return torch.cat([self.descriptor(image[None]) for image in x])


def load_any(path: Path) -> tuple[nn.Module, int]:
    """The network in a weight file, in eval mode, and its scale.

    (B, 3, H, W) of pixels in [0, 1] -> (B, 3, s * H, s * W). The file is one of ours, a checkpoint
    of CRAFT or DLGSANet (`.pth`, `.pt` or `.safetensors`), or with spandrel installed one of the
    architectures it knows. Every tensor of the network comes from the file, and all of the file
    is used. Raises FileNotFoundError, and ValueError naming what is missing, left over or of
    another shape, or when the network does not upscale colours.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; needs a weight file")
    network = load_network(path)[0] if is_weight_file(path) else _load_published(path)
    if isinstance(network, CRAFT | DLGSANet) and network.config.in_chans != 3:
        raise ValueError(f"{path} is for {network.config.in_chans} channels; needs 3")
    if network.scale < 2:
        raise ValueError(f"{path} does not upscale; needs a scale of 2 or more")
    return network, network.scale


def export(network: Network, path: Path) -> None:
    """Write a network under its published names, for the published code, spandrel and others.

    `.pth` holds {"params": tensors}; `.safetensors` is our weight file too, and so keeps what
    tensors cannot tell. Whole or not at all; a file already at `path` is replaced. Raises
    ValueError for another suffix.
    """
    if path.suffix == ".safetensors":
        save_network(path, network, {})
    elif path.suffix == ".pth":
        state = {name: value.detach().cpu() for name, value in network.published_state().items()}
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            torch.save({"params": state}, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    else:
        raise ValueError(f"{path} ends in {path.suffix!r}; needs .pth or .safetensors")


def is_craft(state: State) -> bool:
    """Whether names are those of CRAFT: nothing else has its fusion blocks."""
    return any(name.startswith("layers.0.residual_group.hf_blocks.") for name in state)


def is_dlgsanet(state: State) -> bool:
    """Whether names are those of DLGSANet: nothing else calls its groups so."""
    return any(_GROUP.match(name) for name in state)


def craft_config(state: State) -> dict[str, Any]:
    """CRAFT's constructor arguments, by its tensors; raises ValueError naming a missing one."""
    channels, colours = _shape(state, "conv_first.weight", 4)[:2]
    groups = [f"layers.{group}.residual_group" for group in range(_count(state, "layers"))]
    first = "layers.0.residual_group.srwa_blocks.0"
    short, long = _windows(state)
    return {
        "upscale": math.isqrt(_shape(state, "upsample.0.weight", 4)[0] // colours),
        "in_chans": colours,
        "embed_dim": channels,
        "depths": [_count(state, f"{group}.hf_blocks") for group in groups],
        "num_heads": [
            _shape(state, f"{group}.hf_blocks.0.attn.temperature", 3)[0] for group in groups
        ],
        "split_size_0": short,
        "split_size_1": long,
        "mlp_ratio": _ratio(_shape(state, f"{first}.mlp.fc1.weight", 2)[0], channels),
        "qkv_bias": f"{first}.qkv.bias" in state,
        "resi_connection": "1conv" if "conv_after_body.weight" in state else "identity",
    }


def dlgsanet_config(state: State) -> dict[str, Any]:
    """DLGSANet's constructor arguments, by its tensors; raises ValueError naming a missing one."""
    dim, colours = _shape(state, "overlap_embed.0.proj.weight", 4)[:2]
    body_norm = "deep_feature_extraction.0.body.weight" in state
    group = f"deep_feature_extraction.{int(body_norm)}.body"
    has_local = any(name.startswith(f"{group}.0.IDynamicDWConv.") for name in state)
    attention = f"{group}.{int(has_local)}"
    has_global = any(name.startswith(f"{attention}.restormer_attn.") for name in state)
    if not (has_local or has_global):
        raise ValueError(f"{group}.0 has neither IDynamicDWConv nor restormer_attn; needs one")
    # Without the other kind of layer its heads matter to nothing, but have to divide dim.
    config: dict[str, Any] = {"idynamic_num_heads": 1, "restormer_num_heads": 1}
    if has_local:
        config |= _local_layer(state, f"{group}.0", dim)
    if has_global:
        kind, expansion = _feed_forward(state, f"{attention}.restormer_ffn", dim)
        config |= {
            "restormer_num_heads": _shape(state, f"{attention}.restormer_attn.temperature", 3)[0],
            "restormer_ffn_type": kind,
            "restormer_ffn_expansion_factor": expansion,
        }
    upsampler, upscale = _upsampling(state, colours)
    if upscale in (2, 3, 4):
        config["tlc_kernel"] = DLGSANetConfig.published("light", upscale).tlc_kernel
    layers = _count(state, group) - 1  # the last is a convolution
    return config | {
        "upscale": upscale,
        "in_chans": colours,
        "dim": dim,
        "groups": len({name.split(".")[1] for name in state if _GROUP.match(name)}),
        "blocks": layers // (has_local + has_global),
        "buildblock_type": {(1, 1): "sparseedge", (1, 0): "idynamic", (0, 1): "restormer"}[
            has_local, has_global
        ],
        "upsampler": upsampler,
        "body_norm": body_norm,
    }


def _load_published(path: Path) -> CRAFT | DLGSANet | OtherNetwork:
    state = load_torch_checkpoint(path)
    broken = [name for name, value in state.items() if value.isnan().any()]
    if broken:
        raise ValueError(f"{path}: NaN in {', '.join(broken[:5])}; needs numbers")
    try:
        if is_craft(state):
            network = CRAFT.from_reference(craft_config(state), state)
            _check_tables(network, state)
            return network
        if is_dlgsanet(state):
            return DLGSANet.from_reference(dlgsanet_config(state), state)
    except ValueError as error:
        raise ValueError(f"{path}: {published_name(str(error))}") from error
    return _load_other(path, state)


def _load_other(path: Path, state: State) -> OtherNetwork:
    names = f"{', '.join(list(state)[:4])}, ... ({len(state)} tensors)"
    try:
        import spandrel
    except ImportError as error:
        raise ValueError(
            f"{path} is neither CRAFT nor DLGSANet but has {names}; other networks need {INSTALL}"
        ) from error
    try:
        with warnings.catch_warnings(action="ignore"):  # what torch thinks of spandrel's code
            found = spandrel.ModelLoader().load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError as error:
        raise ValueError(
            f"{path} has {names}; needs CRAFT, DLGSANet or a network that spandrel knows"
        ) from error
    except Exception as error:  # names of one network with shapes of none raise nearly anything
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(":")
        raise ValueError(f"{path} has {names}; spandrel cannot load it ({reason})") from error
    name = found.architecture.name
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.purpose != "SR":
        raise ValueError(f"{path} is {name} for {found.purpose}; needs a network that upscales")
    if (found.input_channels, found.output_channels) != (3, 3):
        raise ValueError(
            f"{path} is {name} from {found.input_channels} to {found.output_channels} channels; "
            "needs 3 and 3"
        )
    return OtherNetwork(found).eval()


def _windows(state: State) -> tuple[int, int]:
    """Sides of CRAFT's windows, by the table of offsets within one."""
    if "biases_h" not in state:
        return 4, 16
    table = state["biases_h"]
    if table.dim() == 2 and table.shape[1] == 2 and len(table):
        # The last offset is the largest: from the first pixel of a window to its last.
        short, long = (int(side) + 1 for side in table[-1].long())
        if min(short, long) > 0 and (2 * short - 1) * (2 * long - 1) == len(table):
            return short, long
    raise ValueError("biases_h is no table of the offsets in a window; needs one, or none")


def _check_tables(network: CRAFT, state: State) -> None:
    windows = network.config.split_size_0, network.config.split_size_1
    for name, table in network.published_state().items():
        if not name.startswith(("biases_", "relative_position_index_")) or name not in state:
            continue
        if not torch.equal(state[name].to(table.dtype), table):
            raise ValueError(f"{name} is not that of windows of {windows[0]} x {windows[1]} pixels")


def _local_layer(state: State, layer: str, dim: int) -> dict[str, Any]:
    kind, expansion = _feed_forward(state, f"{layer}.IDynamic_ffn", dim)
    found: dict[str, Any] = {
        "idynamic_ffn_type": kind,
        "idynamic_ffn_expansion_factor": expansion,
    }
    convolution = f"{layer}.IDynamicDWConv.conv"
    if f"{convolution}.weight" in state:
        kernel = _shape(state, f"{convolution}.weight", 4)[-1]
        return found | {"idynamic": False, "window_size": kernel}
    kernel = _shape(state, f"{convolution}.conv1.1.weight", 4)[-1]
    kernels = _shape(state, f"{convolution}.conv2.0.weight", 4)[0] // kernel**2
    return found | {"window_size": kernel, "idynamic_num_heads": dim // max(1, kernels)}


def _feed_forward(state: State, prefix: str, dim: int) -> tuple[str, float]:
    if f"{prefix}.body.0.weight" in state:
        return "BaseFFN", _ratio(_shape(state, f"{prefix}.body.0.weight", 4)[0], dim)
    return "GDFN", _ratio(_shape(state, f"{prefix}.project_out.weight", 4)[1], dim)


def _upsampling(state: State, colours: int) -> tuple[str, int]:
    if "conv_before_upsample.0.weight" in state:
        width = _shape(state, "conv_before_upsample.0.weight", 4)[0]
        steps = [name for name in state if re.fullmatch(r"upsample\.\d+\.weight", name)]
        outputs = [_shape(state, name, 4)[0] for name in steps]
        return "pixelshuffle", math.prod(math.isqrt(n // width) for n in outputs)
    if "conv_last.weight" in state:
        return "", 1
    outputs = _shape(state, "upsample.0.weight", 4)[0]
    return "pixelshuffledirect", math.isqrt(outputs // colours)


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
    return len({name[len(start) :].split(".")[0] for name in state if name.startswith(start)})


def _ratio(hidden: int, channels: int) -> float:
    """A ratio that makes `hidden` out of `channels` where the network truncates the product."""
    ratio = hidden / channels
    return ratio if int(channels * ratio) == hidden else math.nextafter(ratio, math.inf)
