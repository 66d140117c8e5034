"""Checkpoints of others: recognise the network in one, fetch them by name, and write ours so.

Published code saves tensors, in one file or three, and at best its constructor's arguments beside
them. Names and shapes tell the rest, but for what is taken as published: groups of 256 frames,
attention that is not causal, and the sample rate of each source.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sigform_core.download import DownloadError, Progress, download
from sigform_core.weights import cache_folder, is_weight_file, load_torch_checkpoint
from sigform_speech.catalogue import POINTER, PublishedWeights, published
from sigform_speech.mossformer import ROTARY_CHANNELS, MossFormer, MossFormerConfig
from sigform_speech.mossformer2 import MossFormer2, MossFormer2Config
from sigform_speech.networks import Network, load_network, save_network

State = Mapping[str, Tensor]

SHELL = "mask_net.mdl.att_mdl.mossformerM"
SHELL2 = "model.mask_net.mdl.intra_mdl.mossformerM"
"""Where the blocks of each network stand in the names that `from_reference` takes."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One way in which a network is published."""

    where: str
    mark: str  # beginning of names that stand in no other
    names: tuple[tuple[str, str], ...] = ()  # beginnings in the file, and in `from_reference`
    sample_rate: int

    def renamed(self, state: State) -> dict[str, Tensor]:
        """The tensors under the names of `from_reference`; raises ValueError for one twice."""
        renamed: dict[str, Tensor] = {}
        for theirs, tensor in state.items():
            name = self.rename(theirs)
            if name in renamed:
                raise ValueError(f"{theirs} is there twice, also as {name}")
            renamed[name] = tensor
        return renamed

    def rename(self, name: str) -> str:
        for theirs, ours in self.names:
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return name

    def told(self, message: str) -> str:
        """A message with the names that stand in the file."""
        for theirs, ours in self.names:
            message = message.replace(ours, theirs)
        return message


MODELSCOPE = Source(where="ModelScope", mark=f"{SHELL}.layers.", sample_rate=8000)
CLEARVOICE = Source(where="ClearerVoice-Studio", mark=f"{SHELL2}.fsmn.", sample_rate=16_000)
MODELSCOPE2 = Source(
    where="ModelScope",
    mark="mask_net.mdl.intra_mdl.mossformerM.fsmn.",
    names=(("enc.", "model.enc."), ("mask_net.", "model.mask_net."), ("dec.", "model.dec.")),
    sample_rate=8000,
)
STANDALONE = Source(
    where="the MossFormer2 repository",
    mark="masknet.dual_mdl.0.intra_mdl.mdl.flashT.fsmn.",
    names=(
        ("masknet.dual_mdl.0.intra_mdl.mdl.flashT.", f"{SHELL2}."),
        ("masknet.dual_mdl.0.intra_mdl.mdl.norm.norm.", "model.mask_net.mdl.intra_mdl.norm."),
        ("masknet.dual_mdl.0.intra_norm.", "model.mask_net.mdl.intra_norm."),
        ("masknet.", "model.mask_net."),
        ("encoder.", "model.enc."),
        ("decoder.", "model.dec."),
    ),
    sample_rate=8000,
)
SOURCES = (MODELSCOPE, CLEARVOICE, MODELSCOPE2, STANDALONE)

PARTS = ("encoder", "masknet", "decoder")
"""Of a network in three files, each with a state dict of its own."""

SINGLE_FILES = ("pytorch_model.bin", "model.safetensors")
"""What a folder may hold a whole network in."""


def load_any(path: Path) -> Network:
    """The network in a weight file or a folder of them, in eval mode.

    The file is one of ours, or a published MossFormer or MossFormer2 in one file; the folder holds
    ModelScope's three `.bin` or its `pytorch_model.bin`, ClearerVoice-Studio's
    `last_best_checkpoint`, or the MossFormer2 repository's three `.ckpt`. Every tensor of the
    network comes from there, and all of them are used. Raises FileNotFoundError, and ValueError
    naming what is missing, left over or of another shape, or saying what the file is not.
    """
    if path.is_dir():
        return _load_folder(path)
    if path.name == POINTER:
        return _load_pointed(path)
    if is_weight_file(path):
        return load_network(path)[0]
    return _network(path, load_torch_checkpoint(path))


def fetch(name: str, base_url: str | None = None, *, progress: Progress | None = None) -> Path:
    """The weight file of published weights, fetched and converted unless that was done before.

    `name` is one of the catalogue's; `base_url` is another place with its files. What is
    downloaded stays in the cache folder, where a person offline may put it too; `progress(done,
    total)` counts the bytes of each file. Raises ValueError for an unknown name, for files that
    are not what the catalogue says or that changed, and DownloadError without a network.
    """
    entry = published(name)
    folder = cache_folder() / "speech" / name
    converted = folder / f"{name}.safetensors"
    if converted.is_file():
        return converted
    address = (base_url or entry.address).rstrip("/")
    files = list(entry.files)
    try:
        for file in files:
            target = download(
                f"{address}/{file}",
                folder / file,
                sha256=entry.sha256.get(file),
                progress=progress,
            )
            if file == POINTER:
                files.append(_pointed(target).name)
    except DownloadError as error:
        reason, _, _ = str(error).partition("; without it")
        raise DownloadError(
            f"{reason}; without it, put {', '.join(files)} into {folder}"
        ) from error
    try:
        network = load_any(folder)
        _check(network, entry)
    except ValueError as error:
        raise ValueError(f"{error} (delete {folder} to fetch {name} again)") from error
    save_network(converted, network, _card(entry, folder, files))
    return converted


def export(network: Network, path: Path) -> None:
    """Write a network under its published names, for the published code and others.

    `.bin`, `.ckpt`, `.pt` and `.pth` hold a state dict, of a MossFormer2 at 16 kHz within `model`
    as ClearerVoice-Studio saves it; `.safetensors` is our weight file. Whole or not at all; a file
    already at `path` is replaced. Raises ValueError for another suffix, and when the tensors alone
    would be read as another configuration.
    """
    if path.suffix == ".safetensors":
        save_network(path, network, {})
        return
    if path.suffix not in (".bin", ".ckpt", ".pt", ".pth"):
        raise ValueError(f"{path} ends in {path.suffix!r}; needs .bin, .pt or .safetensors")
    state = {name: value.detach().cpu() for name, value in network.published_state().items()}
    state |= _derived(network)
    if isinstance(network, MossFormer2) and network.sample_rate == MODELSCOPE2.sample_rate:
        state = {name.removeprefix("model."): value for name, value in state.items()}
    source = _recognise(path, state)
    read = _config(source, source.renamed(state))
    for name, value in network.config_dict().items():
        if name != "attn_dropout" and getattr(read, name) != value:
            raise ValueError(f"{path} cannot tell that {name} is {value}; needs .safetensors")
    content = {"model": state} if source is CLEARVOICE else state
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        torch.save(content, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def mossformer_config(state: State) -> MossFormerConfig:
    """What MossFormer's tensors tell of its configuration; raises ValueError naming one missing."""
    channels, _, kernel = _shape(state, "encoder.conv1d.weight", 3)
    if "mask_net.norm.running_mean" in state:
        norm = "bn"
    else:
        norm = "gln" if state.get("mask_net.norm.weight", torch.empty(0)).dim() == 2 else "ln"
    return MossFormerConfig(
        in_channels=channels,
        out_channels=channels,
        d_model=channels,
        kernel_size=kernel,
        stride=kernel // 2,
        num_blocks=_count(state, f"{SHELL}.layers."),
        query_key_dim=_shape(state, f"{SHELL}.layers.0.qk_offset_scale.gamma", 2)[1],
        norm=norm,
        bias="decoder.bias" in state,
        num_spks=_shape(state, "mask_net.conv1d_out.weight", 3)[0] // channels,
        sample_rate=MODELSCOPE.sample_rate,
    )


def mossformer2_config(state: State, sample_rate: int) -> MossFormer2Config:
    """What MossFormer2's tensors tell of its configuration; raises ValueError naming one missing.

    `sample_rate` in Hz, which they do not tell.
    """
    channels, _, kernel = _shape(state, "model.enc.conv1d.weight", 3)
    return MossFormer2Config(
        encoder_embedding_dim=channels,
        mossformer_sequence_dim=channels,
        num_mossformer_layer=_count(state, f"{SHELL2}.fsmn."),
        encoder_kernel_size=kernel,
        num_spks=_shape(state, "model.mask_net.conv1d_out.weight", 3)[0] // channels,
        inner_channels=_shape(state, f"{SHELL2}.fsmn.0.conv1.0.weight", 3)[0],
        query_key_dim=_shape(state, f"{SHELL2}.layers.0.qk_offset_scale.gamma", 2)[1],
        sample_rate=sample_rate,
    )


def _config(
    source: Source, state: State, sample_rate: int | None = None
) -> MossFormerConfig | MossFormer2Config:
    if source is MODELSCOPE:
        return mossformer_config(state)
    return mossformer2_config(state, sample_rate or source.sample_rate)


def _network(
    path: Path,
    state: State,
    *,
    told: Mapping[str, Any] | None = None,
    sample_rate: int | None = None,
) -> Network:
    """The network that a published state dict, read from `path`, fills.

    What is `told` about it goes before what the tensors tell.
    """
    if broken := [name for name, value in state.items() if value.isnan().any()]:
        raise ValueError(f"{path}: NaN in {', '.join(broken[:5])}; needs numbers")
    source = _recognise(path, state)
    try:
        state = source.renamed(state)
        config = asdict(_config(source, state, sample_rate))
        if source is MODELSCOPE:
            return MossFormer.from_reference(config | dict(told or {}), state)
        return MossFormer2.from_reference(config, state)
    except ValueError as error:
        raise ValueError(f"{path}: {source.told(str(error))}") from error


def _recognise(path: Path, state: State) -> Source:
    for source in SOURCES:
        if any(name.startswith(source.mark) for name in state):
            return source
    names = f"{', '.join(list(state)[:4])}, ... ({len(state)} tensors)"
    if path.stem in PARTS:
        raise ValueError(f"{path} has {names}, one part of a network; needs the folder of all")
    raise ValueError(f"{path} has {names}; needs a MossFormer or MossFormer2")


def _load_folder(folder: Path) -> Network:
    for suffix in (".bin", ".ckpt"):
        files = [folder / f"{part}{suffix}" for part in PARTS]
        if any(file.exists() for file in files):
            if missing := [file.name for file in files if not file.exists()]:
                raise ValueError(f"{folder} has no {' and no '.join(missing)}; needs all three")
            return _network(folder, _joined(files), told=_told(folder / "configuration.json"))
    if (folder / POINTER).exists():
        return _load_pointed(folder / POINTER)
    for name in SINGLE_FILES:
        if (folder / name).exists():
            return load_any(folder / name)
    raise ValueError(
        f"{folder} holds no network; needs encoder, masknet and decoder as .bin or .ckpt, "
        f"{POINTER}, {' or '.join(SINGLE_FILES)}"
    )


def _joined(files: list[Path]) -> dict[str, Tensor]:
    """The tensors of a network in three files, under the names that it has in one."""
    state: dict[str, Tensor] = {}
    for file in files:
        part = "mask_net" if file.name == "masknet.bin" else file.stem
        loaded = load_torch_checkpoint(file)
        whole = all(name.startswith(f"{part}.") for name in loaded)
        state |= {name if whole else f"{part}.{name}": value for name, value in loaded.items()}
    return state


def _load_pointed(pointer: Path) -> Network:
    """The network that ClearerVoice-Studio's pointer names."""
    path = _pointed(pointer)
    return _network(path, load_torch_checkpoint(path), sample_rate=CLEARVOICE.sample_rate)


def _pointed(pointer: Path) -> Path:
    """The file beside `pointer` that its first line names."""
    if not pointer.is_file():
        raise FileNotFoundError(f"{pointer} does not exist")
    lines = pointer.read_text(encoding="utf-8", errors="replace").splitlines()
    name = lines[0].strip() if lines else ""
    # Nothing outside the folder, and nothing that is no file name anywhere.
    if not re.fullmatch(r"\w[\w.+-]*", name) or name == POINTER:
        raise ValueError(f"{pointer} names {name[:60]!r}; needs the name of a file beside it")
    return pointer.with_name(name)


def _told(path: Path) -> dict[str, Any]:
    """The constructor's arguments that ModelScope's configuration file has, if there is one."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error})") from error
    given = content.get("model") if isinstance(content, dict) else None
    if not isinstance(given, dict):
        raise ValueError(f"{path} has no object `model`; needs the network's arguments")
    known = asdict(MossFormerConfig())
    told = {name: value for name, value in given.items() if name in known}
    for name, value in told.items():
        kind = type(known[name])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f"{path}: {name} is {value!r}; needs {kind.__name__}")
    return told


def _derived(network: Network) -> dict[str, Tensor]:
    """What published code keeps beside the weights and misses where it loads strictly."""
    N, D = network.shell.d_model, network.shell.query_key_dim
    turned = min(ROTARY_CHANNELS, D)
    prefix, blocks = ("", SHELL) if isinstance(network, MossFormer) else ("model.", SHELL2)
    rates = 1 / 10_000.0 ** (torch.arange(0, N, 2).float() / N)
    freqs = 1 / 10_000.0 ** (torch.arange(0, turned, 2).float() / turned)
    derived = {f"{prefix}mask_net.pos_enc.inv_freq": rates}
    for layer in range(network.shell.num_blocks):
        derived[f"{blocks}.layers.{layer}.rotary_pos_emb.freqs"] = freqs
    return derived


def _check(network: Network, entry: PublishedWeights) -> None:
    for what in ("num_spks", "sample_rate"):
        wanted = entry.speakers if what == "num_spks" else entry.sample_rate
        if getattr(network, what) != wanted:
            raise ValueError(f"{what} is {getattr(network, what)}; {entry.name} needs {wanted}")


def _card(entry: PublishedWeights, folder: Path, files: list[str]) -> dict[str, Any]:
    """The key facts of fetched weights, for their weight file."""
    return {
        "name": entry.name,
        "licence": entry.licence,
        "trained_on": entry.trained_on,
        "si_sdri": dict(entry.si_sdri),
        "from": entry.address,
        "sha256": {
            file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files
        },
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
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
