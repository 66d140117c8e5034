"""The weights by name: those shipped in the package, and where published ones are to be had."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"

SHIPPED = {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}
"""Weight files in the package, as `vdt-64`; each has a model card of its name beside it."""

DEFAULTS = {"image": "styleswin-64", "video": "vdt-64", "av": "av-dit-64"}
"""What "default" means for each thing that is made."""

NON_COMMERCIAL = "CC BY-NC 4.0: for non-commercial use only"

SD_VAE = "stabilityai/sd-vae-ft-mse"
AUDIOLDM = "cvssp/audioldm-s-full-v2"
LICENCES = {SD_VAE: "MIT", AUDIOLDM: "CC BY-NC-SA 4.0: for non-commercial use only"}
"""What the authors' pages say of the two whose latents published networks see; read them before
using what is made."""


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A checkpoint that authors offer; a person fetches it and gives its path."""

    name: str
    makes: str  # as in DEFAULTS, with the side in pixels
    parameters: str
    figure: str  # as published
    licence: str
    where: str


_STYLESWIN = {"licence": "MIT", "where": "github.com/microsoft/StyleSwin"}
PUBLISHED = (
    PublishedWeights(
        name="FFHQ_256.pt", makes="image 256", parameters="48.9 M", figure="FID 2.81", **_STYLESWIN
    ),
    PublishedWeights(
        name="LSUNChurch_256.pt",
        makes="image 256",
        parameters="48.9 M",
        figure="FID 2.95",
        **_STYLESWIN,
    ),
    PublishedWeights(
        name="CelebAHQ_256.pt",
        makes="image 256",
        parameters="48.9 M",
        figure="FID 3.25",
        **_STYLESWIN,
    ),
    PublishedWeights(
        name="FFHQ_1024.pt",
        makes="image 1024",
        parameters="40.9 M",
        figure="FID 5.07",
        **_STYLESWIN,
    ),
    PublishedWeights(
        name="CelebAHQ_1024.pt",
        makes="image 1024",
        parameters="40.9 M",
        figure="FID 4.43",
        **_STYLESWIN,
    ),
    PublishedWeights(
        name="DiT-XL-2-256x256.pt",
        makes="image 256",
        parameters="675 M",
        figure="FID 2.27",
        licence=NON_COMMERCIAL,
        where="github.com/facebookresearch/DiT",
    ),
    PublishedWeights(
        name="VDT (Sky Time-Lapse)",
        makes="video 256",
        parameters="861 M",
        figure="",
        licence=NON_COMMERCIAL,
        where="github.com/RERV/VDT",
    ),
)


def find_weights(name_or_path: str, kind: str | None = None) -> Path:
    """The file that a name or path means; "default" goes by what is to be made.

    Raises ValueError, with the nearest known name, for what is neither.
    """
    asked = name_or_path
    if name_or_path == "default" and kind is not None:
        asked = DEFAULTS[kind]
    if asked in SHIPPED:
        return SHIPPED[asked]
    path = Path(name_or_path)
    if path.exists():
        return path
    have = ", ".join(SHIPPED) or "none in this package"
    near = difflib.get_close_matches(asked, SHIPPED, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"weights {asked!r} are neither a file nor one of {have}{hint}")
