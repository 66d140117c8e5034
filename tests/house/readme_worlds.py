"""The small files that the commands of each README are run on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MONTAGE = (
    "Fz", "FC3", "FC1", "FCz", "FC2", "FC4", "C5", "C3", "C1", "Cz", "C2", "C4", "C6", "CP3",
    "CP1", "CPz", "CP2", "CP4", "P1", "Pz", "P2", "POz",
)  # fmt: skip
"""The channels that the shipped networks know."""


def root(folder: Path) -> None:
    """The examples, and a recording of a brain."""
    shutil.copytree(EXAMPLES, folder / "examples")
    shutil.copy(EXAMPLES / "sea_surface_temperature.csv", folder / "data.csv")
    brain(folder / "S001R04.edf", seconds=12)


def suite(folder: Path) -> None:
    """A table."""
    table(folder / "data.csv")


def forecast(folder: Path) -> None:
    """Tables."""
    table(folder / "data.csv")
    table(folder / "sales.csv", ahead=28, price=1.5, promo=0)
    table(folder / "new.csv")
    _long().to_csv(folder / "long.csv", index=False)


def speech(folder: Path) -> None:
    """Recordings of noise, alone and in folders, and a network."""
    from speech.commands import recording, saved_network

    for name in ("mix.wav", "interview.mp3", "three.wav", "long.flac"):
        recording(folder / name)
    film(folder / "talk.m4a", pictures=False)
    for number in (1, 2):
        recording(folder / f"s{number}.wav", seed=number)
        recording(folder / "recordings" / f"{number}.wav")
    for number in range(4):
        recording(folder / "voices" / str(number) / "a.wav", 2.0, seed=number)
        recording(folder / "speech" / "test" / str(number) / "a.wav", 3.1, seed=number)
    (folder / "run").mkdir()
    saved_network(folder).rename(folder / "run" / "weights.safetensors")


def superres(folder: Path) -> None:
    """Small pictures, alone and in folders, a film, and a network."""
    from superres.commands import picture, saved_network

    for name in ("photo.png", "scan.tif", "holiday/1.jpg", "holiday/there/2.png"):
        picture(folder / name)
    for number in range(3):
        picture(folder / "Set5" / f"{number}.png", height=32, width=40, seed=number)
        picture(folder / "my_photos" / f"{number}.png", height=80, width=72, seed=number)
    film(folder / "clip.mp4", pictures=True)
    (folder / "run").mkdir()
    saved_network(folder).rename(folder / "run" / "weights.safetensors")


def eeg(folder: Path) -> None:
    """Recordings of noise of several people, and the shipped network as a run."""
    brain(folder / "session.edf", seconds=12)
    brain(folder / "session.fif", seconds=12)
    for number in (1, 2):
        for run in (1, 2):
            name = f"sub-{number:03d}_run-{run}_raw.fif"
            brain(folder / "recordings" / name, seconds=40, seed=10 * run + number)
        brain(folder / "others" / f"sub-{number + 5:03d}_raw.fif", seconds=30, seed=number)
    weights = ROOT / "packages/eeg/src/sigform_eeg/weights/default.safetensors"
    (folder / "run").mkdir()
    shutil.copy(weights, folder / "run" / "weights.safetensors")


def generate(folder: Path) -> None:
    """Photographs, clips with sound, half a clip, and the shipped network as a run."""
    from superres.commands import picture

    from sigform_generate.bouncing import bouncing_clip
    from sigform_generate.media import write_clip

    picture(folder / "photo.png", height=72, width=80)
    for number in range(24):
        picture(folder / f"my_photos/{number}.jpg", height=72, width=80, seed=number)
    (folder / "my_clips").mkdir()
    for number, name in enumerate(["clip.mp4", *(f"my_clips/{number}.mp4" for number in range(5))]):
        clip = bouncing_clip(number)
        sound = {"audio": clip.audio[None], "sample_rate": clip.sample_rate}
        write_clip(folder / name, clip.frames, clip.fps, **sound)
    write_clip(folder / "first8.mp4", bouncing_clip(9).frames[:8], 15)
    weights = ROOT / "packages/generate/src/sigform_generate/weights/styleswin-64.safetensors"
    (folder / "run").mkdir()
    shutil.copy(weights, folder / "run" / "weights.safetensors")


def nothing(folder: Path) -> None:
    """No file is needed."""


WORLDS: dict[str, Callable[[Path], None]] = {
    "README.md": root,
    "apps/suite/README.md": suite,
    "packages/eeg/README.md": eeg,
    "packages/forecast/README.md": forecast,
    "packages/generate/README.md": generate,
    "packages/speech/README.md": speech,
    "packages/superres/README.md": superres,
}


def names_of(place: str) -> dict[str, object]:
    """What the Python of a README takes as given."""
    from eeg.files import noise
    from superres.commands import pixels

    return {
        "packages/eeg/README.md": {"names": list(MONTAGE), "chunk": noise(len(MONTAGE), 1500)},
        "packages/forecast/README.md": {"new_df": _long()},
        "packages/superres/README.md": {"pixels": pixels()},
    }.get(place, {})


def _long() -> Any:
    from forecast.commands import weekly

    frame = weekly(200).rename(columns={"date": "ds"})
    return frame.assign(unique_id="one")


def table(path: Path, *, ahead: int = 0, **columns: float) -> Path:
    """Days with a season; `columns` are known `ahead` days longer than what is measured."""
    from forecast.commands import saved, weekly

    frame = weekly(200)
    for name, value in columns.items():
        frame[name] = value * (1 + (np.arange(len(frame)) % 7 == 0))
    if ahead:
        frame.loc[frame.index[-ahead:], "y"] = np.nan
    return saved(frame, path)


def brain(path: Path, *, seconds: float, seed: int = 0) -> Path:
    """Noise at the channels of MONTAGE, T1 and T2 by turns every 5 s."""
    from eeg.files import RATE, noise, raw_array, saved

    onsets = np.arange(1.0, seconds - 4.5, 5.0).tolist()
    events = [(onset, ("T1", "T2")[number % 2]) for number, onset in enumerate(onsets)]
    signals = noise(len(MONTAGE), round(seconds * RATE), seed)
    return saved(path, raw_array(signals, names=MONTAGE, events=events))


def film(path: Path, *, pictures: bool) -> Path:
    """Half a second of noise, with four grey pictures or alone."""
    import av

    samples = (0.1 * np.random.default_rng(0).standard_normal((1, 24_000))).astype(np.float32)
    with av.open(str(path), "w") as container:
        shown: Any = container.add_stream("libx264", rate=8) if pictures else None
        heard: Any = container.add_stream("aac", rate=48_000, layout="mono")
        if shown is not None:
            shown.width, shown.height, shown.pix_fmt = 32, 24, "yuv420p"
            for number in range(4):
                grey = np.full((24, 32, 3), 50 * number, np.uint8)
                container.mux(shown.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(shown.encode(None))
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux(heard.encode(frame))
        container.mux(heard.encode(None))
    return path
