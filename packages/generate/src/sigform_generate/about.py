"""`models`, `info` and `doctor`: what weights there are, what a file holds, what is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sigform_core.weights import is_weight_file
from sigform_generate.catalogue import DEFAULTS, PUBLISHED, SHIPPED
from sigform_generate.media import READ_SUFFIXES, read_clip
from sigform_generate.networks import KINDS, Loaded, load_network
from sigform_generate.pictures import read_image, read_settings
from sigform_generate.published import load_any
from sigform_kit.catalogue import FILE as CATALOGUE
from sigform_kit.catalogue import read_catalogue
from sigform_kit.doctor import Check
from sigform_kit.errors import InputError

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")

EXTRAS = {
    "latent": ("diffusers", "networks over latents (published VDT, DiT; --recipe published)"),
    "metrics": ("torch_fidelity", "FID and KID with Inception features"),
}


def list_models() -> list[dict[str, Any]]:
    """The weights in the package, and those that authors offer."""
    entries = read_catalogue(Path(__file__).with_name(CATALOGUE))
    papers = {entry.name: entry.origin for entry in entries}
    rows = []
    for name, path in SHIPPED.items():
        loaded = load_network(path)
        default = ", default" if name in DEFAULTS.values() else ""
        rows.append(
            {
                "name": name,
                "paper": papers.get(name),
                "makes": f"{KINDS[loaded.model]} {_side(loaded)}{default}",
                "parameters": f"{_count(loaded):,}",
                "figure": loaded.card.get("figure"),
                "licence": "Apache-2.0",
                "where": "in this package",
            }
        )
    for published in PUBLISHED:
        rows.append(
            {
                "name": published.name,
                "paper": papers.get(published.name),
                "makes": published.makes,
                "parameters": published.parameters,
                "figure": published.figure,
                "licence": published.licence,
                "where": published.where,
            }
        )
    return rows


def describe_file(path: Path) -> dict[str, Any]:
    """What weights, a picture or a clip hold. Raises InputError, ValueError or OSError."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; needs a file")
    suffix = path.suffix.lower()
    if suffix in WEIGHT_SUFFIXES or is_weight_file(path):
        return _weights(path)
    if suffix in READ_SUFFIXES:
        return _clip(path)
    pixels = read_image(path)
    return {
        "file": str(path),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "settings": read_settings(path),
    }


def _weights(path: Path) -> dict[str, Any]:
    loaded = load_any(path)
    return {
        "file": str(path),
        "model": loaded.model,
        "makes": KINDS.get(loaded.model, "nothing by itself"),
        "parameters": _count(loaded),
        "sampling": None if loaded.sampling is None else vars(loaded.sampling),
        "card": loaded.card,
    }


def _clip(path: Path) -> dict[str, Any]:
    sizes: list[tuple[int, ...]] = []

    def measured(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        sizes[:] = [pixels.shape]
        return pixels[:1, :1].copy()  # a long film is never held

    clip = read_clip(path, shaped=measured)
    height, width, _ = sizes[0]
    sound = None if clip.audio is None else f"{clip.audio.shape[0]} x {clip.audio.shape[1]} samples"
    return {
        "file": str(path),
        "width": width,
        "height": height,
        "frames": len(clip.frames),
        "fps": float(clip.fps),
        "sound": sound,
        "sample_rate": clip.sample_rate,
        "settings": clip.settings,
    }


def _side(loaded: Loaded) -> int:
    network: Any = loaded.network
    return loaded.sampling.size if loaded.sampling is not None else network.config.size


def _count(loaded: Loaded) -> int:
    return sum(value.numel() for value in loaded.network.parameters())


def own_checks() -> Iterator[Callable[[], Check]]:
    """Are the weights there and whole, can films be written, and which extras are installed?"""
    yield weights
    yield encoders
    for extra in EXTRAS:
        yield partial(installed, extra)


def weights() -> Check:
    """Do the shipped weights load, one for each thing that is made?"""
    missing = [name for name in DEFAULTS.values() if name not in SHIPPED]
    for path in SHIPPED.values():
        load_network(path)
    if missing:
        advice = "install sigform-generate again, or give -w FILE"
        detail = f"{', '.join(missing)} not in the package"
        return Check(name="weights", status="fail", detail=detail, advice=advice)
    return Check(name="weights", status="ok", detail=", ".join(SHIPPED))


def encoders() -> Check:
    """Does the installed FFmpeg have what films are written with?"""
    import av

    needed = ("libx264", "aac", "libvpx-vp9", "libopus")
    missing = [name for name in needed if name not in av.codecs_available]
    if missing:
        advice = "install av from PyPI: pip install --force-reinstall av"
        detail = f"without {', '.join(missing)}"
        return Check(name="encoders", status="fail", detail=detail, advice=advice)
    return Check(name="encoders", status="ok", detail=", ".join(needed))


def installed(extra: str) -> Check:
    """Is the package of an extra there?"""
    module, purpose = EXTRAS[extra]
    if importlib.util.find_spec(module) is None:
        advice = f"for {purpose}: pip install 'sigform-generate[{extra}]'"
        return Check(name=module, status="warn", detail="not installed", advice=advice)
    return Check(name=module, status="ok", detail=f"installed, for {purpose}")
