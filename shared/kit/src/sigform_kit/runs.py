"""The folder of a training: may one begin there, or go on?"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from sigform_kit.errors import InputError

CHECKPOINT = "last.ckpt"
SETTINGS = "settings.toml"
FILES = (CHECKPOINT, "best.ckpt", "metrics.csv", "weights.safetensors", "card.json")
"""What a training leaves, besides its settings."""


def check_run(
    folder: Path,
    settings: Mapping[str, object],
    *,
    same: Iterable[str],
    resume: bool,
    anew: bool,
) -> None:
    """Raises InputError if a folder holds a run that is neither resumed nor to be replaced.

    A run that is resumed must have the `same` settings, those that make the network.
    """
    if not (folder / CHECKPOINT).exists():
        return
    if not resume:
        if anew:
            return
        raise InputError(f"{folder} holds a run; --resume goes on, --overwrite starts anew")
    with contextlib.suppress(FileNotFoundError):
        before = tomllib.loads((folder / SETTINGS).read_text("utf-8"))
        for name in same:
            if name in before and before[name] != settings[name]:
                raise InputError(
                    f"{folder} holds a run with {name} {before[name]}; "
                    f"--resume with {settings[name]} needs a run of its own"
                )


def clear_run(folder: Path) -> None:
    """Remove an earlier run; other files of the folder stay."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
