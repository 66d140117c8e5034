"""Weight files: one `.safetensors` file that also says which model it fills, and how.

Beside the tensors, the file's metadata holds the format version, the model's name, its config
and the key facts of its model card, the last two as JSON, and the SHA-256 of all of it, so that a
damaged file is no silent wrong answer. Nothing in it is executed on loading.
"""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sigform_core.download import download

FORMAT_VERSION = 1

# Where published checkpoints keep their tensors; averaged weights before the raw ones.
_CONTAINERS = (
    "params_ema",
    "params-ema",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "g_ema",
    "ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
)
_WRAPPERS = ("module.", "_orig_mod.", "netG.")


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """What a weight file holds: tensors on the CPU by name, and what they are."""

    tensors: dict[str, Tensor]
    model: str
    config: dict[str, Any]
    card: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, kw_only=True)
class Published:
    """A checkpoint that others published: where it is, and the SHA-256 (hex) of its bytes."""

    url: str
    sha256: str
    size: int | None = None  # bytes


def save_weights(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    model: str,
    config: Mapping[str, Any],
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write a weight file, whole or not at all; a file already at `path` is replaced.

    Tensors may share memory, be views or lie on any device. `config` and `card` must be what JSON
    holds (a tuple comes back as a list). Raises ValueError when a tensor has a NaN, or `config`
    or `card` has one or something that JSON cannot hold.
    """
    metadata = {
        "format": "pt",
        "sigform_format": str(FORMAT_VERSION),
        "model": model,
        "config": _to_json("config", config),
        "card": _to_json("card", card or {}),
    }
    plain = _separate(tensors)
    _refuse_nan(plain, path)
    metadata["sha256"] = _sha256_of(plain, metadata)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        mode = part.stat().st_mode
        save_file(plain, part, metadata)
        # safetensors makes files that nobody else may read.
        part.chmod(mode)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_weights(path: Path, *, expect_model: str | None = None) -> WeightFile:
    """Read a weight file; `expect_model` is the model it must be for.

    Raises FileNotFoundError when there is none, and ValueError when it is not a safetensors file,
    is cut short or damaged, was not written by `save_weights` or by a newer sigform, is for
    another model than `expect_model`, or has a NaN.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weight file {path} does not exist")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            model, config, card, version = _read_metadata(path, metadata)
            if expect_model is not None and model != expect_model:
                raise ValueError(f"{path} is for the model {model!r}; needs {expect_model!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _unreadable(path, error) from error
    # Files of before have none.
    if "sha256" in metadata and metadata["sha256"] != _sha256_of(tensors, metadata):
        raise ValueError(f"{path} is damaged: its SHA-256 is another; needs to be copied again")
    _refuse_nan(tensors, path)
    return WeightFile(
        tensors=tensors, model=model, config=config, card=card, format_version=version
    )


def resolve(
    name_or_path: str,
    *,
    shipped: Mapping[str, Path],
    published: Mapping[str, Published],
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """The file that `name_or_path` means: shipped in the package, a local path, or published.

    A published checkpoint is downloaded once to the cache folder; its SHA-256 is checked every
    time. `progress(done, total)` counts downloaded bytes. Raises ValueError, with the nearest
    known name, for what is none of these, and as `download` does.
    """
    if name_or_path in shipped:
        return shipped[name_or_path]
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    if name_or_path in published:
        checkpoint = published[name_or_path]
        name = Path(urlsplit(checkpoint.url).path)
        # With the hash in its name, a checkpoint published anew does not meet the old file.
        target = cache_folder() / f"{name.stem}-{checkpoint.sha256[:12]}{name.suffix}"
        return download(
            checkpoint.url,
            target,
            sha256=checkpoint.sha256,
            size=checkpoint.size,
            progress=progress,
        )
    known = sorted({*shipped, *published})
    near = difflib.get_close_matches(name_or_path, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(
        f"weights are {name_or_path!r}, which is no file{hint}; needs a file or one of "
        f"{', '.join(known) or 'no names'}"
    )


def cache_folder() -> Path:
    """Where published checkpoints are kept: $SIGFORM_CACHE, else the platform's cache folder."""
    return Path(os.environ.get("SIGFORM_CACHE") or platformdirs.user_cache_dir("sigform"))


def is_weight_file(path: Path) -> bool:
    """Whether `save_weights` wrote the file at `path`; False for any other, or none."""
    try:
        with safe_open(path, framework="pt") as file:
            return "sigform_format" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_torch_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch checkpoint, on the CPU, without running any code in it.

    What is called `.safetensors` is read as such. The usual containers (`state_dict`, `model`,
    averaged weights first, ...) are unwrapped and a `module.` before every name is removed.
    Raises FileNotFoundError, and ValueError when the file needs code to be run, is corrupt, or
    holds no state dict.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    loaded = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    while isinstance(loaded, Mapping):
        container = next((key for key in _CONTAINERS if isinstance(loaded.get(key), Mapping)), None)
        if container is None:
            break
        loaded = loaded[container]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(f"{path} holds a {type(loaded).__name__}; needs a state dict")
    state = dict(loaded)
    if strange := [str(key) for key, value in state.items() if not isinstance(value, Tensor)]:
        shown = ", ".join(strange[:5])
        raise ValueError(f"{path} holds {shown}, not tensors; needs a state dict")
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    return state


def _load_pickle(path: Path) -> object:
    with path.open("rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes make the unpickler raise nearly anything
            code = re.search(r"GLOBAL (\S+)", str(error))
            if code is None:
                raise ValueError(f"{path} is no readable PyTorch checkpoint") from error
            raise ValueError(
                f"{path} holds {code[1]}, code that is never run; needs plain tensors"
            ) from error


def _load_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: SafetensorError) -> ValueError:
    if "incomplete" in str(error) or "header length" in str(error):
        return ValueError(f"{path} is cut short; needs to be copied again")
    return ValueError(f"{path} is not a safetensors file ({error})")


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, contiguous, none sharing memory with another."""
    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        alone = tensor.detach().cpu().contiguous()
        memory = alone.untyped_storage().data_ptr()
        plain[name] = alone.clone() if memory in seen else alone
        seen.add(memory)
    return plain


def _sha256_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Of metadata and tensors (on the CPU, contiguous), in hex."""
    told = {name: text for name, text in metadata.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # A single number is contiguous to torch whatever its stride, which `view` then refuses.
        flat = tensor.reshape(-1).as_strided((tensor.numel(),), (1,))
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _refuse_nan(tensors: Mapping[str, Tensor], path: Path) -> None:
    bad = [name for name, value in tensors.items() if _has_nan(value)]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ValueError(f"{path}: NaN in {', '.join(bad[:5])}{more}; needs numbers")


def _has_nan(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isnan().any())


def _to_json(what: str, value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} does not fit JSON ({error})") from error


def _read_metadata(
    path: Path, metadata: Mapping[str, str]
) -> tuple[str, dict[str, Any], dict[str, Any], int]:
    """Model, config, card and format version out of a file's metadata."""
    if missing := [key for key in ("sigform_format", "model", "config") if key not in metadata]:
        raise ValueError(f"{path} has no {', '.join(missing)} in its metadata; needs a weight file")
    version = metadata["sigform_format"]
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}; this sigform reads up to {FORMAT_VERSION}"
        )
    try:
        config = json.loads(metadata["config"])
        card = json.loads(metadata.get("card", "{}"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has broken JSON in its metadata ({error})") from error
    for what, value in (("config", config), ("card", card)):
        if not isinstance(value, dict):
            raise ValueError(f"{path}: {what} is a {type(value).__name__}; needs an object")
    return metadata["model"], config, card, int(version)
