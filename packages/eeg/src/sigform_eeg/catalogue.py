"""The weights by name: those shipped in the package."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parent / "weights"

SHIPPED = {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}
"""Weight files in the package, as `default`; each has a model card of its name beside it."""

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""How the names of tensors end that are counted and not learnt."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a weight file says of itself, its tensors left on disk."""

    path: Path
    model: str
    config: dict[str, Any]
    card: dict[str, Any]
    parameters: int


def find_weights(name_or_path: str) -> Path:
    """The file that a name or path means.

    Raises ValueError, with the nearest known name, for what is neither.
    """
    if name_or_path in SHIPPED:
        return SHIPPED[name_or_path]
    path = Path(name_or_path)
    if path.exists():
        return path
    near = difflib.get_close_matches(name_or_path, SHIPPED, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"weights {name_or_path!r} are neither a file nor one of {', '.join(SHIPPED)}{hint}"
    )


def describe(path: Path) -> Described:
    """What a weight file says. Raises ValueError for what is none of ours."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            said = file.metadata() or {}
            learnt = [name for name in file.keys() if not name.endswith(STATISTICS)]  # noqa: SIM118
            shapes = [file.get_slice(name).get_shape() for name in learnt]
        return Described(
            path=path,
            model=said["model"],
            config=json.loads(said["config"]),
            card=json.loads(said.get("card", "{}")),
            parameters=sum(_product(shape) for shape in shapes),
        )
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no weight file of ours") from error


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
