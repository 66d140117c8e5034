"""`train --recipe published`: what it refuses, that it trains and is sampled from, and its size."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from generate.codecs import Hearing, Shrinking, saved_codecs
from generate.commands import clip, clip_with_sound, command
from generate.references import published

from sigform_core.weights import load_torch_checkpoint
from sigform_generate import av_training, diffusion_training, generator, teaching, vdt
from sigform_generate.about import describe_file
from sigform_generate.av_training import AVRecipe, published_config
from sigform_generate.avdit import AVDiT, AVDiTConfig
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.media import read_clip
from sigform_generate.networks import load_network, save_network
from sigform_generate.pictures import read_image
from sigform_generate.upstream_diffusion import NOTICE

PUBLISHED = ("--recipe", "published")
FOLDERS = ("--latents", "seen", "--sound-latents", "heard")
SMALL = ("--size", 32, "--frames", 4, "--fps", 10)
SHORT = ("--steps", 4, "--batch-size", 2, "--validate-every", 2, "--device", "cpu")
BRIEF = ("--steps", 2, "--batch-size", 2, "--device", "cpu")  # without sheets of 250 steps each
TINY = AVDiTConfig(
    backbone=DiTConfig(input_size=4, hidden_size=32, depth=1, num_heads=2),
    frames=4,
    audio_size=(10, 16),
    lora_rank=2,
    adapter_rank=2,
    fusion_rank=2,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in a folder with clips, and with folders in place of those of codecs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(diffusion_training, "SHEET", 2)
    for seed in range(4):
        clip_with_sound(f"set/{seed}.mp4", 20, seed=seed)
    for name in ("seen", "heard"):
        Path(name).mkdir()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of a thousandth of the size, and codecs without networks."""
    small = replace(vdt.PUBLISHED["VDT-S/2"], hidden_size=32, depth=1, num_heads=2)
    monkeypatch.setitem(vdt.PUBLISHED, "VDT-S/2", small)
    monkeypatch.setattr(av_training, "published_config", lambda *_: TINY)

    def seen(name: str) -> Shrinking:
        assert name == "sd-vae:seen"
        return Shrinking()

    def heard(name: str) -> Hearing:
        assert name == "audioldm:heard"
        return Hearing()

    for module in (teaching, generator):
        monkeypatch.setattr(module, "picture_codec", seen)
        monkeypatch.setattr(module, "sound_codec", heard)


# --- usage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("video", "set", "--latents", "seen"), "--latents needs --recipe published"),
        (("video", "set", "--model", "VDT-L/2"), "--model needs --recipe published"),
        (("av", "set", "--sound-latents", "heard"), "--sound-latents needs --recipe published"),
        (
            ("video", "set", *PUBLISHED),
            "--recipe published learns latents; needs --latents DIR, "
            "a copy of stabilityai/sd-vae-ft-mse (MIT)",
        ),
        (("av", "set", *PUBLISHED, "--latents", "seen"), "needs --sound-latents DIR, a copy"),
        (
            ("video", "set", *PUBLISHED, "--latents", "seen", "--size", 72),
            "--size is 72; --recipe published needs a multiple of 16",
        ),
        (
            ("video", "set", *PUBLISHED, "--latents", "seen", "--model", "VDT-S/2",
             "--start", "vdt-64"),
            "--model and --start exclude each other",
        ),
        (("av", "--bouncing", *PUBLISHED, *FOLDERS), "--bouncing draws for the small recipe"),
        (
            ("av", "set", *PUBLISHED, *FOLDERS, "--fps", 15),
            "--frames 16 at --fps 15 last 1.067 s; --recipe published needs a multiple of 0.08 s",
        ),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together(words: tuple, said: str) -> None:
    told = command("train", *words)
    assert (told.code, told.raw) == (2, b"")
    assert said in told.err
    assert not Path("set_video").exists()


@pytest.mark.slow
def test_a_folder_without_a_codec_is_one_line() -> None:
    told = command("train", "video", "set", *PUBLISHED, "--latents", "seen", *SHORT)
    assert (told.code, told.error) == (
        1,
        "seen: no model that can be read; needs a copy of stabilityai/sd-vae-ft-mse (MIT)",
    )
    assert not Path("set_video").exists()


def test_the_recipes_are_the_papers(monkeypatch: pytest.MonkeyPatch, tiny: None) -> None:
    del tiny
    seen: dict = {}

    def fit(_sources, _run_dir, recipe, **options):
        seen.update(options, recipe=recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr(diffusion_training, "fit_clips", fit)
    monkeypatch.setattr(av_training, "fit_av", fit)
    for seed in range(4):
        clip(f"long/{seed}.mp4", 16)
    words = ("--device", "cpu", "--fps", 10)
    command("train", "video", "long", *PUBLISHED, "--latents", "seen", "--model", "VDT-L/2", *words)
    wanted = diffusion_training.DiffusionRecipe.published()
    assert seen["recipe"] == replace(wanted, device="cpu")
    assert (seen["size"], seen["config"]) == (256, vdt.PUBLISHED["VDT-L/2"])
    assert 'model = "VDT-L/2"' in Path("long_video/settings.toml").read_text()
    assert "size = 256" in Path("long_video/settings.toml").read_text()
    command("train", "av", "set", *PUBLISHED, *FOLDERS, *words)
    recipe = seen["recipe"]
    assert recipe == replace(AVRecipe.published(), device="cpu")
    assert (recipe.steps, recipe.batch_size, recipe.learning_rate) == (100_000, 16, 5e-4)
    assert recipe.part(backbone=True).learning_rate == 1e-4
    assert recipe.part(backbone=False).variance == "learned_range"


def test_the_papers_av_dit() -> None:
    assert published_config(256, 16, 25_600) == AVDiTConfig()
    with torch.device("meta"):
        model = AVDiT(published_config(256, 16, 25_600))
    assert round(model.trainable_parameters() / 1e6) == 158
    assert round(model.frozen_parameters() / 1e6) == 675


# --- small networks through the whole command ----------------------------------------------------


def test_clips_are_learnt_resumed_and_made_as_latents(tiny: None) -> None:
    del tiny
    words = ("train", "video", "set", "-o", "run", *PUBLISHED, "--latents", "seen", *SMALL)
    told = command(*words, *SHORT)
    assert told.code == 0, told.err
    assert read_image(next(Path("run/samples").iterdir())).shape[2] == 3
    loaded = load_network(Path("run/weights.safetensors"))
    sampling = loaded.sampling
    assert sampling is not None
    assert (sampling.codec, sampling.size) == ("sd-vae", 32)
    assert (sampling.prediction, sampling.variance) == ("noise", "learned_range")
    kept = len(list(Path("run/latents").iterdir()))
    assert kept == 2 * 3 + 1  # mirrored, too, but for the one held out
    longer = [5 if word == 4 and before == "--steps" else word
              for before, word in zip(("", *SHORT), SHORT, strict=False)]  # fmt: skip
    told = command(*words, *longer, "--resume", "--json")
    assert told.records[-1]["steps"] == 5
    assert len(list(Path("run/latents").iterdir())) == kept
    other = command(*words, *longer, "--model", "VDT-L/2", "--resume")
    assert other.error.startswith("run holds a run with model VDT-S/2; --resume with VDT-L/2")

    words = ("video", "-w", "run/weights.safetensors", "--steps", "ddim2", "-o", "a.mp4")
    assert "needs latents (--latents), a folder with a copy of" in command(*words).error
    told = command(*words, "--latents", "seen", "--mode", "predict", "--given", "set/0.mp4")
    assert told.code == 0, told.err
    assert read_clip(Path("a.mp4")).frames.shape == (4, 32, 32, 3)


def test_clips_with_sound_are_learnt_resumed_and_made_as_latents(tiny: None) -> None:
    del tiny
    words = ("train", "av", "set", "-o", "run", *PUBLISHED, *FOLDERS, *SMALL, *SHORT)
    told = command(*words, "--backbone-steps", 2)
    assert told.code == 0, told.err
    loaded = load_network(Path("run/weights.safetensors"))
    sampling = loaded.sampling
    assert sampling is not None
    assert (sampling.codec, sampling.sound_codec) == ("sd-vae", "audioldm")
    assert (sampling.audio_samples, sampling.prediction) == (6400, "noise")
    assert loaded.card["recipe"]["backbone_batch"] == 256
    assert describe_file(Path("run/weights.safetensors"))["sampling"]["sound_codec"] == "audioldm"
    before = load_torch_checkpoint(Path("run/joint/last.ckpt"))
    longer = [6 if word == 4 and place > words.index("--steps") else word
              for place, word in enumerate(words)]  # fmt: skip
    told = command(*longer, "--backbone-steps", 2, "--resume", "--json")
    assert told.records[-1]["steps"] == 2 + 6
    after = load_torch_checkpoint(Path("run/joint/last.ckpt"))
    for name, value in before.items():
        frozen = name.startswith("network.backbone.")
        assert torch.equal(value, after[name]) or not frozen, name

    words = ("av", "-w", "run/weights.safetensors", "--steps", "ddim2", "-o", "a.mp4")
    assert "needs sound_latents" in command(*words, "--latents", "seen").error
    told = command(*words, *FOLDERS)
    assert told.code == 0, told.err
    made = read_clip(Path("a.mp4"))
    assert made.audio is not None
    assert (made.frames.shape, made.audio.shape) == ((4, 32, 32, 3), (1, 6400))


def test_a_published_dit_is_the_backbone_and_its_licence_stays(tiny: None) -> None:
    del tiny
    config = DiTConfig(input_size=4, hidden_size=384, depth=1, num_heads=6, num_classes=2)
    backbone = DiT(config)
    torch.save(published(backbone), "dit.pt")
    words = ("train", "av", "set", "-o", "run", *PUBLISHED, *FOLDERS, *SMALL, *SHORT)
    told = command(*words, "--start", "dit.pt")
    assert told.code == 0, told.err
    loaded = load_network(Path("run/weights.safetensors"))
    assert isinstance(loaded.network, AVDiT)
    for name, value in backbone.state_dict().items():
        assert torch.equal(loaded.network.backbone.state_dict()[name], value), name
    assert (loaded.card["licence"], loaded.card["started_from"]) == (NOTICE, "dit.pt")
    large = command(*words, "--size", 64, "--start", "dit.pt", "-o", "other")
    assert large.error == (
        "the network makes clips of 4 x 4 x 4 x 4; those given are of 4 x 4 x 8 x 8"
    )


def test_a_published_vdt_is_trained_on_and_its_licence_stays(tiny: None) -> None:
    del tiny
    config = vdt.VDTConfig(
        input_size=4, hidden_size=384, depth=1, num_heads=6, num_classes=2, num_frames=4
    )
    torch.save(published(vdt.VDT(config)), "vdt.pt")
    words = ("train", "video", "set", "-o", "run", *PUBLISHED, "--latents", "seen", *SMALL, *BRIEF)
    told = command(*words, "--start", "vdt.pt")
    assert told.code == 0, told.err
    loaded = load_network(Path("run/weights.safetensors"))
    assert loaded.network.config == config
    assert loaded.card["licence"] == NOTICE
    again = command(*words, "--start", "run/weights.safetensors", "-o", "again")
    assert again.code == 0, again.err
    assert load_network(Path("again/weights.safetensors")).card["licence"] == NOTICE


# --- the true width, with autoencoders of diffusers ----------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_vdt_s_takes_ten_steps_and_is_sampled_from(tmp_path: Path) -> None:
    """Clips of 4 frames, not 16, so that two cores need minutes."""
    pictures, _ = saved_codecs(tmp_path)
    words = ("train", "video", "set", "-o", "run", *PUBLISHED, "--latents", pictures)
    told = command(*words, "--frames", 4, "--fps", 10, "--steps", 10, "--batch-size", 1, "--json")
    assert told.records[-1]["steps"] == 10
    assert math.isfinite(told.records[-1]["metrics"]["val_loss"])
    network = load_network(Path("run/weights.safetensors")).network
    assert network.config == replace(vdt.PUBLISHED["VDT-S/2"], num_frames=4)
    told = command("video", "-w", "run/weights.safetensors", "--latents", pictures,
                   "--steps", "ddim2", "-o", "a.mp4")  # fmt: skip
    assert told.code == 0, told.err
    assert read_clip(Path("a.mp4")).frames.shape == (4, 256, 256, 3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_av_dit_of_the_papers_width_takes_ten_steps_and_is_sampled_from(tmp_path: Path) -> None:
    """833 M parameters; clips of 4 frames of 128 pixels, so that two cores need minutes."""
    if psutil.virtual_memory().available < 14e9:
        pytest.skip("needs 14 GB of memory")
    pictures, sounds = saved_codecs(tmp_path)
    with torch.random.fork_rng():
        # A DiT's first weights cost minutes; these are as good to start from here.
        with torch.device("meta"):
            backbone = DiT(DiTConfig(input_size=16))
        backbone.to_empty(device="cpu")
        for value in backbone.parameters():
            torch.nn.init.normal_(value, std=0.02)
    save_network(Path("dit.safetensors"), backbone, {})
    del backbone
    words = ("train", "av", "set", "-o", "run", *PUBLISHED, "--start", "dit.safetensors",
             "--latents", pictures, "--sound-latents", sounds, "--frames", 4,
             "--size", 128)  # fmt: skip
    told = command(*words, "--steps", 10, "--batch-size", 1, "--json")
    assert told.records[-1]["steps"] == 10
    assert math.isfinite(told.records[-1]["metrics"]["val_loss"])
    loaded = load_network(Path("run/weights.safetensors"))
    assert loaded.card["frozen_parameters"] > 670e6
    assert round(loaded.card["trainable_parameters"] / 1e6) == 158
    del loaded
    told = command("av", "-w", "run/weights.safetensors", "--latents", pictures,
                   "--sound-latents", sounds, "--steps", "ddim2", "-o", "a.mp4")  # fmt: skip
    assert told.code == 0, told.err
    assert read_clip(Path("a.mp4")).frames.shape == (4, 128, 128, 3)
    shutil.rmtree("run")  # 15 GB
    Path("dit.safetensors").unlink()
