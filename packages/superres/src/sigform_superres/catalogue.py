"""The weights by name: those shipped in the package, and where published ones are to be had."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"

SHIPPED = {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}
"""Weight files in the package, as `craft-x4`; each has a model card of its name beside it."""

DEFAULT = "craft"
"""The architecture that does the job unless another is asked for."""

SCALES = (2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Checkpoints that the authors of a paper offer; a person fetches them and gives their path."""

    name: str
    scales: tuple[int, ...]
    parameters: str
    set5: str  # PSNR on Y in dB as published, by scale
    licence: str
    where: str


PUBLISHED = (
    PublishedWeights(
        name="CRAFT",
        scales=(2, 3, 4),
        parameters="0.74, 0.74, 0.75 M",
        set5="38.23 / 34.71 / 32.52",
        licence="Apache-2.0 (repository; not stated for the weights)",
        where="github.com/AVC2-UESTC/CRAFT-SR",
    ),
    PublishedWeights(
        name="DLGSANet-tiny",
        scales=(2, 3, 4),
        parameters="0.57, 0.57, 0.58 M",
        set5="38.16 / 34.63 / 32.46",
        licence="academic research (repository)",
        where="github.com/NeonLeexiang/DLGSANet",
    ),
    PublishedWeights(
        name="DLGSANet-light",
        scales=(2, 3, 4),
        parameters="0.75, 0.75, 0.76 M",
        set5="38.20 / 34.70 / 32.54",
        licence="academic research (repository)",
        where="github.com/NeonLeexiang/DLGSANet",
    ),
    PublishedWeights(
        name="DLGSANet",
        scales=(4,),
        parameters="4.76 M",
        set5="32.80 (x4)",
        licence="academic research (repository)",
        where="github.com/NeonLeexiang/DLGSANet",
    ),
)


def default_name(scale: int) -> str:
    """The shipped weights that are used for a scale when nothing else is said."""
    return f"{DEFAULT}-x{scale}"


def find_weights(name_or_path: str, scale: int | None) -> Path:
    """The file that a name or path means; "default" and a bare architecture go by the scale (4).

    Raises ValueError, with the nearest known name, for what is neither.
    """
    asked = DEFAULT if name_or_path == "default" else name_or_path
    for name in (asked, f"{asked}-x{scale or 4}"):
        if name in SHIPPED:
            return SHIPPED[name]
    path = Path(name_or_path)
    if path.exists():
        return path
    have = ", ".join(SHIPPED)
    if asked in {name.rpartition("-x")[0] for name in SHIPPED}:
        raise ValueError(f"no weights of {asked} for {scale or 4} times are shipped; have {have}")
    near = difflib.get_close_matches(asked, SHIPPED, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"weights {name_or_path!r} are neither a file nor one of {have}{hint}")
