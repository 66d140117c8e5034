"""The weights by name: those shipped in the package, and those that the papers' authors offer."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open

WEIGHTS = Path(__file__).parent / "weights"

SHIPPED = {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}
"""Weight files in the package, as `default`; each has a model card of its name beside it."""

POINTER = "last_best_checkpoint"
"""A published file that names another one beside it, which holds the tensors."""


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A checkpoint that the authors of a paper offer, fetched when it is asked for by name.

    Where `sha256` has nothing for a file, nobody told it to us: that of the first download is
    kept beside the file, and later reads are held to it.
    """

    name: str
    model: str
    speakers: int
    sample_rate: int  # Hz
    parameters: str
    trained_on: str
    si_sdri: Mapping[str, float]  # dB by test set, as published
    licence: str
    address: str  # of the folder
    files: tuple[str, ...]
    sha256: Mapping[str, str] = field(default_factory=dict)  # by file


def _standalone(data: str, speakers: int, si_sdri: Mapping[str, float]) -> PublishedWeights:
    """One of the three 8 kHz checkpoints beside the code of the MossFormer2 paper."""
    name = f"mossformer2-{data}-{speakers}spk"
    return PublishedWeights(
        name=name,
        model="MossFormer2",
        speakers=speakers,
        sample_rate=8000,
        parameters="55.7 M",
        trained_on={"librimix": "Libri2Mix", "wsj0mix": "WSJ0-3mix", "whamr": "WHAMR!"}[data],
        si_sdri=si_sdri,
        licence="MIT (repository; not stated for the weights)",
        address=f"https://huggingface.co/alibabasglab/{name}/resolve/main",
        files=("encoder.ckpt", "masknet.ckpt", "decoder.ckpt"),
    )


PUBLISHED = (
    PublishedWeights(
        name="mossformer-wsj0-2mix",
        model="MossFormer (L)",
        speakers=2,
        sample_rate=8000,
        parameters="42.1 M",
        trained_on="WSJ0-2mix",
        si_sdri={"WSJ0-2mix": 22.8},
        licence="Apache-2.0 (code; not stated for the weights)",
        address="https://www.modelscope.cn/models/iic/speech_mossformer_separation_temporal_8k"
        "/resolve/master",
        files=("configuration.json", "encoder.bin", "masknet.bin", "decoder.bin"),
    ),
    PublishedWeights(
        name="mossformer2-16k",
        model="MossFormer2",
        speakers=2,
        sample_rate=16_000,
        parameters="55.7 M",
        trained_on="not stated",
        si_sdri={"WSJ0-2mix": 22.0, "WHAM!": 17.4, "Libri2Mix": 16.7, "LRS2-2mix": 15.5},
        licence="Apache-2.0 (code; not stated for the weights)",
        address="https://huggingface.co/alibabasglab/MossFormer2_SS_16K/resolve/main",
        files=(POINTER,),
    ),
    _standalone("librimix", 2, {"Libri2Mix": 21.7}),
    _standalone("wsj0mix", 3, {}),
    _standalone("whamr", 2, {"WHAMR!": 17.0}),
)


def published(name: str) -> PublishedWeights:
    """The entry of PUBLISHED by its name; raises ValueError for another one."""
    for entry in PUBLISHED:
        if entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in PUBLISHED)
    raise ValueError(f"name is {name!r}; needs one of {names}")


def find_weights(
    name_or_path: str,
    speakers: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """The file or folder that a name or path means; "default" goes by the number of speakers.

    A published checkpoint is fetched once, `progress(done, total)` counting bytes. Raises
    ValueError, with the nearest known name, for what is neither; for shipped and published
    weights of another number of speakers; and as `upstream.fetch`.
    """
    if name_or_path == "default" and speakers is not None:
        return _shipped_for(speakers)
    if name_or_path in SHIPPED:
        path = SHIPPED[name_or_path]
        _check_speakers(name_or_path, speakers_of(path), speakers)
        return path
    path = Path(name_or_path)
    if path.exists():
        return path
    names = [entry.name for entry in PUBLISHED]
    if name_or_path in names:
        from sigform_speech.upstream import fetch

        _check_speakers(name_or_path, published(name_or_path).speakers, speakers)
        return fetch(name_or_path, progress=progress)
    known = [*SHIPPED, *names]
    near = difflib.get_close_matches(name_or_path, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"weights {name_or_path!r} are neither a file nor one of {', '.join(known)}{hint}"
    )


def speakers_of(path: Path) -> int:
    """How many speakers a weight file of ours separates; raises ValueError for other files."""
    try:
        with safe_open(path, framework="np") as file:
            return int(json.loads((file.metadata() or {})["config"])["num_spks"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no weight file of a MossFormer") from error


def _shipped_for(speakers: int) -> Path:
    """Shipped weights for a number of speakers, the default before others."""
    for name in sorted(SHIPPED, key=lambda name: name != "default"):
        if speakers_of(SHIPPED[name]) == speakers:
            return SHIPPED[name]
    fitting = [entry.name for entry in PUBLISHED if entry.speakers == speakers]
    instead = f"; published are {', '.join(fitting)}" if fitting else ""
    raise ValueError(f"no weights for {speakers} speakers are shipped{instead}")


def _check_speakers(name: str, have: int, asked: int | None) -> None:
    if asked is not None and asked != have:
        raise ValueError(f"speakers is {asked}; the weights {name} need {have}")
