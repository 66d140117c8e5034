"""Runs `sigform-upscale` in this process, and makes small pictures and networks for it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sigform_superres.craft import CRAFT, CRAFTConfig
from sigform_superres.data import to_tensor
from sigform_superres.networks import save_network
from sigform_superres.resizing import imresize
from sigform_superres.training import silence, solve_upsampling


@dataclass(frozen=True)
class Told:
    """How a command ended and what it said; `raw` are the bytes of stdout."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def error(self) -> str:
        """The one error line, without the name of the command."""
        lines = [line for line in self.err.splitlines() if "error:" in line]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err, self.err
        start = "sigform-upscale: error: "
        assert lines[0].startswith(start), lines[0]
        return lines[0].removeprefix(start)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON lines of a command that succeeded; NaN is no JSON."""
        assert self.code == 0, self.err

        def refuse(word: str) -> None:
            raise ValueError(f"{word} is no JSON")

        return [json.loads(line, parse_constant=refuse) for line in self.out.splitlines()]


def command(*args: object, stdin: bytes = b"") -> Told:
    """Runs the command in this process."""
    from sigform_kit.running import run
    from sigform_superres.cli import app

    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    err = io.StringIO()
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(app, [str(arg) for arg in args])
    finally:
        sys.stdin = before
    assert isinstance(out.buffer, io.BytesIO)
    return Told(code, out.buffer.getvalue(), err.getvalue())


def tiny(scale: int) -> CRAFT:
    """A network of CRAFT's form with a thousandth of its work, its weights random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(scale)
        config = CRAFTConfig(
            upscale=scale,
            embed_dim=32,
            depths=(1,),
            num_heads=(2,),
            split_size_0=2,
            split_size_1=4,
        )
        return CRAFT(config)


def saved_network(folder: Path, scale: int = 4) -> Path:
    """A weight file of a tiny network that enlarges about as bicubic does."""
    place = folder / f"tiny-x{scale}.safetensors"
    network = tiny(scale).eval()
    silence(network)
    large = [pixels(12 * scale, 12 * scale, seed=seed) for seed in range(60)]
    pairs = [(imresize(pixels, size=(12, 12)), pixels) for pixels in large]
    solve_upsampling(network, ((to_tensor(low), to_tensor(high)) for low, high in pairs))
    save_network(place, network, {"architecture": "tiny", "set5_psnr": 30.5})
    return place


def pixels(height: int = 12, width: int = 16, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Soft random colours, uint8 (H, W, C)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, channels), np.uint8)
    planes = [
        np.asarray(Image.fromarray(coarse[..., channel]).resize((width, height)))
        for channel in range(channels)
    ]
    return np.stack(planes, axis=-1)


def picture(path: str | Path = "a.png", **shape: int) -> Path:
    """Writes a picture of `pixels` in the format of its suffix."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    made = pixels(**shape)
    Image.fromarray(made if made.shape[2] > 1 else made[..., 0]).save(place)
    return place


def moving(path: str | Path, frames: int = 3, **options: Any) -> Path:
    """Writes an animation of small pictures, shown for 70, 80, 90, ... milliseconds."""
    images = [Image.fromarray(pixels(8, 12, seed=seed)) for seed in range(frames)]
    times = [70 + 10 * number for number in range(frames)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=times, **options)
    return Path(path)


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """What happens inside leaves the folder exactly as it was."""

    def state() -> dict[Path, bytes | None]:
        return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}

    before = state()
    yield
    assert state() == before
