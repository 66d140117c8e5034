"""The tab that generates: seeds, files and links, on a generator that is quick."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sigform_studio import generation
from sigform_studio.desk import Desk
from sigform_studio.visits import Job, StoppedError, Visits

clips = pytest.importorskip("sigform_generate.media")


class Quick:
    """Makes grey things, as grey as the seed says."""

    model, name = "quick", "/weights/quick-8.safetensors"

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __call__(self, n: int, *, seed: int, on_step: Callable[[int, int], None]) -> list[Any]:
        on_step(1, 2)
        on_step(2, 2)
        return [self.make(seed + k) for k in range(n)]


def grey(seed: int) -> np.ndarray:
    return np.full((8, 8, 3), seed, np.uint8)


def clip(seed: int) -> Any:
    sound = np.zeros((1, 1600), np.float32)
    frames = np.stack([grey(seed)] * 4)
    return clips.Clip(frames=frames, fps=Fraction(10), audio=sound, sample_rate=16_000)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    def run(kind: str, make: Callable[[int], Any], count: int, seed: int) -> str:
        monkeypatch.setattr(generation, "loaded", lambda *_: Quick(make))
        return job.run(lambda: generation.generated(desk, job, kind, count, seed))

    job, desk = Job(tmp_path / "job"), Desk(visits=Visits(tmp_path))
    return SimpleNamespace(run=run, job=job)


def test_pictures_have_their_seeds(made: SimpleNamespace) -> None:
    html = made.run("image", grey, 3, 40)
    assert [f"seed {n}</span>" in html for n in (39, 40, 41, 42, 43)] == [False, *[True] * 3, False]
    for seed in (40, 41, 42):
        with Image.open(made.job.folder / f"image_{seed}.png") as image:
            assert image.getpixel((0, 0)) == (seed, seed, seed)
    assert "weights quick-8." in html
    assert "/weights/" not in html


def test_clips_with_sound_are_read_back(made: SimpleNamespace) -> None:
    html = made.run("av", clip, 1, 7)
    back = clips.read_clip(made.job.folder / "clip_7.mp4")
    assert len(back.frames) == 4
    assert back.audio is not None
    assert "autoplay" not in html
    assert made.job.progress.share == 1.0


def test_silent_clips_play_by_themselves(made: SimpleNamespace) -> None:
    assert "muted autoplay" in made.run("video", clip, 1, 7)


def test_it_stops_between_steps(made: SimpleNamespace) -> None:
    def make(seed: int) -> np.ndarray:
        made.job.stop()
        return grey(seed)

    with pytest.raises(StoppedError):
        made.run("image", make, 2, 0)
    assert not (made.job.folder / "image_1.png").exists()
