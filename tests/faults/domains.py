"""The main job of each domain, small enough to be done a thousand times."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

INPUTS = 4
"""Of a batch."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A command, and how to try it. Paths are relative to a folder that `prepare` fills.

    `one` makes out/ from a single input in the process itself, `many` from all. With `engine` the
    command has worker processes and a manifest. `heavy` is imported once for all of it, `damage`
    is the good input that is damaged.
    """

    name: str
    app: str
    heavy: tuple[str, ...]
    prepare: Callable[[Path], None]
    one: tuple[str, ...]
    many: tuple[str, ...]
    to_stdout: tuple[str, ...]
    bad: Mapping[str, bytes | None]
    judge: Callable[[str], tuple[str, ...]]
    damage: str | None
    engine: bool = True
    published: tuple[str, ...] = ()
    weights: str = "net.safetensors"


def _speech(folder: Path) -> None:
    from speech.commands import recording, saved_network

    saved_network(folder).rename(folder / "net.safetensors")
    for number in range(INPUTS):
        recording(folder / f"in/{number}.wav", seconds=6 + number, seed=number)


def _superres(folder: Path) -> None:
    from superres.commands import picture, saved_network

    saved_network(folder).rename(folder / "net.safetensors")
    for number in range(INPUTS):
        picture(folder / f"in/{number}.png", height=90, width=100 + number, seed=number)


def _eeg(folder: Path) -> None:
    from eeg.commands import saved_network
    from eeg.files import cued

    saved_network(folder).rename(folder / "net.safetensors")
    (folder / "in").mkdir()
    for number in range(INPUTS):
        cued(folder / f"in/{number}_raw.fif", seconds=60.0 + number, seed=number)


def _forecast(folder: Path) -> None:
    from forecast.commands import QUICK, command, saved, weekly

    for number in range(INPUTS):
        saved(weekly(400 + number), folder / f"in/{number}.csv")
    words = ("train", folder / "in/0.csv", *QUICK, "--model", "Informer", "-n", "60",
             "-o", folder / "net.safetensors", "--run", folder / "run")  # fmt: skip
    told = command(*words)
    assert told.code == 0, told.err
    for path in sorted((folder / "run").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "run").rmdir()


def _generate(folder: Path) -> None:
    from generate.commands import picture, saved

    saved(folder, "image").rename(folder / "net.safetensors")
    saved(folder, "video").rename(folder / "video.safetensors")
    picture(folder / "in/0.png")


BINARY = bytes(range(256)) * 16
SEPARATE = ("-w", "net.safetensors", "-o", "out", "--device", "cpu")
DECODE = ("run", "-w", "net.safetensors", "-o", "out", "--device", "cpu")
PREDICT = ("predict", "--model", "net.safetensors", "--no-plot", "--device", "cpu", "-o", "out")
IMAGE = ("image", "-w", "net.safetensors", "--device", "cpu")

DOMAINS = (
    Domain(
        name="forecast",
        app="sigform_forecast.cli:app",
        heavy=("sigform_forecast.pipeline", "sigform_forecast.training"),
        prepare=_forecast,
        one=(*PREDICT, "in/0.csv"),
        many=(*PREDICT, "in"),
        to_stdout=(*PREDICT[:-1], "-", "in/0.csv"),
        bad={
            "missing.csv": None,
            "empty.csv": b"",
            "header.csv": b"date,y\n",
            "ragged.csv": b"date,y\n2024-01-01,1\n2024-01-02,1,2\n2024-01-03,3\n",
            "text.csv": b"date,y\n2024-01-01,1\n2024-01-02,oops\n2024-01-03,3\n",
            "dates.csv": b"date,y\n2024-02-30,1\n2024-02-31,1\n2024-02-32,3\n",
            "binary.csv": BINARY,
            "zip.csv": b"PK\x03\x04" + bytes(400),
            "gzip.csv.gz": b"\x1f\x8b\x08\x00" + bytes(40),
            "table.parquet": b"PAR1" + bytes(40),
        },
        judge=lambda name: (*PREDICT, name),
        damage="in/0.csv",
    ),
    Domain(
        name="superres",
        app="sigform_superres.cli:app",
        heavy=("sigform_superres.jobs",),
        prepare=_superres,
        one=(*SEPARATE, "in/0.png"),
        many=(*SEPARATE, "in"),
        to_stdout=("-w", "net.safetensors", "--device", "cpu", "-o", "-", "in/0.png"),
        bad={
            "missing.png": None,
            "empty.png": b"",
            "text.png": b"no picture",
            "binary.jpg": BINARY,
            "head.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\x08\2\0\0\0",
            "head.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0",
            "head.webp": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(24),
            "head.tif": b"II*\0\x08\0\0\0" + bytes(40),
            "no.gif": b"GIF89a" + bytes(40),
        },
        judge=lambda name: (*SEPARATE, name),
        damage="in/0.png",
    ),
    Domain(
        name="speech",
        app="sigform_speech.cli:app",
        heavy=("sigform_speech.jobs",),
        prepare=_speech,
        one=(*SEPARATE, "in/0.wav"),
        many=(*SEPARATE, "in"),
        to_stdout=("-w", "net.safetensors", "--device", "cpu", "-o", "-", "in/0.wav"),
        bad={
            "missing.wav": None,
            "empty.wav": b"",
            "text.wav": b"no sound",
            "binary.mp3": BINARY,
            "head.wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0",
            "head.flac": b"fLaC\0\0\0\x22" + bytes(34),
            "head.ogg": b"OggS\0\2" + bytes(60),
            "no.aiff": b"FORM\0\0\0\x20AIFF" + bytes(32),
        },
        judge=lambda name: (*SEPARATE, name),
        damage="in/0.wav",
        published=("-w", "mossformer2-16k", "-o", "out", "in/0.wav"),
    ),
    Domain(
        name="eeg",
        app="sigform_eeg.cli:app",
        heavy=("sigform_eeg.jobs",),
        prepare=_eeg,
        one=(*DECODE, "in/0_raw.fif"),
        many=(*DECODE, "in"),
        to_stdout=("run", "-w", "net.safetensors", "--device", "cpu", "-o", "-", "in/0_raw.fif"),
        bad={
            "missing.edf": None,
            "empty.edf": b"",
            "text.edf": b"no recording",
            "bytes.edf": BINARY,
            "head.edf": b"0       " + b" " * 248,
            "binary_raw.fif": BINARY,
            "bdf.bdf": BINARY,
            "eeglab.set": BINARY,
            "header.vhdr": b"Brain Vision Data Exchange Header File Version 1.0\n",
        },
        judge=lambda name: (*DECODE, name),
        damage="in/0_raw.fif",
    ),
    Domain(
        name="generate",
        app="sigform_generate.cli:app",
        heavy=("sigform_generate.jobs",),
        prepare=_generate,
        one=(*IMAGE, "-o", "out"),
        many=(*IMAGE, "-o", "out", "-n", str(INPUTS)),
        to_stdout=(*IMAGE, "-o", "-"),
        bad={
            "missing.png": None,
            "empty.png": b"",
            "text.png": b"no picture",
            "binary.jpg": BINARY,
            "empty.mp4": b"",
            "binary.mp4": BINARY,
        },
        judge=lambda name: (
            "video", "-w", "video.safetensors", "--device", "cpu", "-o", "out",
            "--mode", "animate" if name.endswith(("png", "jpg")) else "predict", "--given", name,
        ),
        damage=None,
        engine=False,
    ),
)  # fmt: skip


def installed() -> list[Domain]:
    """The domains whose packages are there, and whole enough to be imported."""
    found = []
    for domain in DOMAINS:
        package = domain.app.partition(".")[0]
        if importlib.util.find_spec(package) and importlib.util.find_spec(f"{package}.jobs"):
            found.append(domain)
    return found
