"""`train` of each kind: what it writes, how it goes on, and what it hands to the trainings."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest
from generate.commands import FRAMES, SIZE, clip, clip_with_sound, command, picture, saved

from sigform_generate import av_training, diffusion_training, gan, teaching
from sigform_generate.fitting import Fitted
from sigform_generate.networks import load_network
from sigform_generate.pictures import read_image

SHORT = ("--steps", 3, "--batch-size", 4, "--validate-every", 2, "--size", SIZE)
CLIPS = (*SHORT, "--frames", FRAMES, "--fps", 10)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in an empty folder; a training looks at few samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gan, "VALIDATED", 8)
    monkeypatch.setattr(diffusion_training, "SHEET", 2)


def images() -> Path:
    for seed in range(24):
        picture(f"set/{seed}.png", seed=seed)
    return Path("set")


def clips(count: int = 8) -> Path:
    for seed in range(count):
        clip(f"set/{seed}.mp4", 12, seed=seed)
    return Path("set")


def steps_in(run: Path) -> list[int]:
    with (run / "metrics.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_images_are_learnt_and_made() -> None:
    told = command("train", "image", images(), "-o", "run", *SHORT)
    assert told.code == 0, told.err
    assert told.out.splitlines()[-1] == "wrote run/weights.safetensors"
    assert "val_proxy_kid" in told.out
    loaded = load_network(Path("run/weights.safetensors"))
    assert loaded.model == "styleswin"
    assert (loaded.card["steps"], loaded.card["recipe"]["batch_size"]) == (3, 4)
    sheets = sorted(Path("run/samples").iterdir())
    assert sheets
    assert read_image(sheets[-1]).shape[2] == 3
    assert "validate-every = 2" in Path("run/settings.toml").read_text()
    assert command("image", "-w", "run/weights.safetensors", "-o", "a.png").code == 0
    told = command(
        "train", "image", "set", "-o", "on", *SHORT, "--start", "run/weights.safetensors"
    )
    assert told.code == 0, told.err
    assert (
        load_network(Path("on/weights.safetensors")).card["started_from"] == "weights.safetensors"
    )


def test_clips_are_learnt_resumed_and_made() -> None:
    words = ("train", "video", clips(), "-o", "run", *CLIPS)
    assert command(*words).code == 0
    first = load_network(Path("run/weights.safetensors"))
    assert first.sampling is not None
    assert (first.sampling.size, first.sampling.frames, first.sampling.fps) == (SIZE, FRAMES, 10)
    assert "predict" in first.sampling.modes
    with_more = [4 if word == 3 else word for word in words]
    told = command(*with_more)
    assert told.error.startswith("run/weights.safetensors exists; --overwrite replaces it")
    told = command(*with_more, "--resume", "--json")
    assert told.records[-1]["steps"] == 4
    assert max(steps_in(Path("run"))) == 4
    other = command(*with_more, "--size", 32, "--resume")
    assert other.error == (
        f"run holds a run with size {SIZE}; --resume with 32 needs a run of its own"
    )
    given = clip("given.mp4", 12)
    told = command("video", "--mode", "predict", "--given", given, "--steps", "ddim2",
                   "-w", "run/weights.safetensors", "-o", "out")  # fmt: skip
    assert told.code == 0, told.err


def test_clips_with_sound_are_learnt_and_made() -> None:
    for seed in range(8):
        clip_with_sound(f"set/{seed}.mp4", seed=seed)
    words = ("train", "av", "set", "-o", "run", *CLIPS, "--backbone-steps", 2)
    told = command(*words)
    assert told.code == 0, told.err
    loaded = load_network(Path("run/weights.safetensors"))
    assert loaded.model == "av-dit"
    assert loaded.card["trainable_parameters"] > 0
    again = command(*words, "--overwrite", "--dry-run")
    assert again.out == "would train run/weights.safetensors on 8 files\n"
    assert (
        command("av", "-w", "run/weights.safetensors", "--steps", "ddim2", "-o", "a.mp4").code == 0
    )


def test_ctrl_c_saves_and_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = diffusion_training.DiffusionModule.training_step

    def interrupted(self, batch, batch_index):
        if self.global_step == 1:
            signal.raise_signal(signal.SIGINT)
        return inner(self, batch, batch_index)

    monkeypatch.setattr(diffusion_training.DiffusionModule, "training_step", interrupted)
    told = command("train", "video", clips(), "-o", "run", *CLIPS)
    assert told.code == 130
    assert told.err.splitlines()[-2:] == [
        "saved; to go on: sigform-generate train video 'set' -o 'run' "
        "--config 'run/settings.toml' --resume",
        "sigform-generate: interrupted",
    ]
    assert not Path("run/weights.safetensors").exists()
    monkeypatch.setattr(diffusion_training.DiffusionModule, "training_step", inner)
    told = command(
        "train", "video", "set", "-o", "run", "--config", "run/settings.toml", "--resume"
    )
    assert told.code == 0, told.err
    assert max(steps_in(Path("run"))) == 3


def test_an_interrupted_run_is_not_begun_anew() -> None:
    Path("run").mkdir()
    Path("run/last.ckpt").write_text("saved")
    folder = clips(4)
    told = command("train", "video", folder, "-o", "run", *CLIPS)
    assert told.error == "run holds a run; --resume goes on, --overwrite starts anew"


def handed(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> dict:
    """What a training is called with; it trains nothing."""
    seen: dict = {}

    def fit(sources, run_dir, recipe, **options):
        seen.update(options, sources=sources, recipe=recipe)
        return Fitted(weights=run_dir / "weights.safetensors", steps=1, seconds=0.0)

    monkeypatch.setattr(owner, name, fit)
    return seen


def test_everything_is_handed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = handed(monkeypatch, diffusion_training, "fit_clips")
    start = saved(tmp_path, "video")
    words = ("--steps", 7, "--learning-rate", 0.01, "--no-mirror", "--seed", 3, "--start", start)
    told = command("train", "video", clips(), "--frames", 4, "--fps", 5, "--size", 8, *words,
                   "--device", "cpu", "--validate-every", 9)  # fmt: skip
    assert told.code == 0, told.err
    recipe = seen["recipe"]
    assert (recipe.steps, recipe.learning_rate, recipe.mirror) == (7, 0.01, False)
    assert (recipe.seed, recipe.device) == (3, "cpu")
    assert (recipe.validate_every, recipe.sample_every) == (9, 9)
    assert (seen["size"], seen["frames"], seen["fps"], seen["start"]) == (8, 4, 5, start)
    assert len(seen["sources"]) == 8
    assert told.out.endswith("wrote set_video/weights.safetensors\n")


def test_without_words_it_is_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = handed(monkeypatch, gan, "fit_images")
    assert command("train", "image", images()).code == 0
    assert seen["recipe"] == gan.GanRecipe()
    assert command("train", "image", "set", "--recipe", "published", "--size", 256).code == 0
    assert seen["recipe"] == gan.GanRecipe.published(256)
    for seed in range(4):
        clip_with_sound(f"heard/{seed}.mp4", 20, seed=seed)
    seen = handed(monkeypatch, av_training, "fit_av")
    assert command("train", "av", "heard").code == 0
    assert seen["recipe"] == av_training.AVRecipe()


def test_bouncing_balls_need_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict = {}

    def fit(run_dir, recipe, **options):
        seen.update({"run_dir": run_dir, "recipe": recipe, **options})
        return Fitted(
            weights=run_dir / "weights.safetensors", steps=1, seconds=0.0, metrics={},
            train_items=1, validation_items=1,
        )  # fmt: skip

    monkeypatch.setattr(av_training, "fit_bouncing", fit)
    told = command("train", "av", "--bouncing", "-o", "run", "--backbone-steps", 3, "--size", 32)
    assert told.code == 0, told.err
    assert (seen["run_dir"], seen["size"], seen["recipe"].backbone_steps) == (Path("run"), 32, 3)
    plan = command("train", "av", "--bouncing", "--dry-run")
    assert plan.out == "would train bouncing_av/weights.safetensors on bouncing balls\n"
    both = command("train", "av", clips(), "--bouncing")
    assert (both.code, "exclude each other" in both.err) == (2, True)
    for kind in ("image", "video", "av"):
        none = command("train", kind)
        assert (none.code, "Missing argument 'FOLDER'" in none.err) == (2, True)


def test_files_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = handed(monkeypatch, gan, "fit_images")
    images()
    for number in range(7):
        Path(f"set/bad{number}.png").write_bytes(b"no picture")
    told = command("train", "image", "set", "--size", SIZE)
    assert told.code == 0, told.err
    assert len(seen["sources"]) == 24
    lines = told.err.splitlines()
    assert lines[0] == "skipped set/bad0.png: not an image that can be read"
    assert lines[-1] == "and 2 more"
    assert teaching.shortened(["a"] * 5) == ["a"] * 5
