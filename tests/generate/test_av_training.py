"""Training of AV-DiT: what it learns and freezes, what it writes, how it goes on."""

import csv
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from generate.codecs import Shrinking
from torch import Tensor

from sigform_core.training import TrainingInterrupted
from sigform_core.weights import load_torch_checkpoint, load_weights
from sigform_generate.av_training import (
    HELD_SEED,
    AVRecipe,
    BouncingSet,
    fit_av,
    fit_bouncing,
    small_config,
    small_sampling,
)
from sigform_generate.avdit import AVDiT, AVDiTConfig
from sigform_generate.bouncing import bouncing_clip
from sigform_generate.data import Source, to_tensor
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.fitting import Fitted
from sigform_generate.networks import load_network, save_network
from sigform_kit.errors import InputError

TINY = AVDiTConfig(
    backbone=DiTConfig(
        input_size=16,
        patch_size=8,
        in_channels=3,
        hidden_size=32,
        depth=1,
        num_heads=2,
        class_dropout_prob=0.0,
        num_classes=1,
        learn_sigma=False,
    ),
    frames=4,
    audio_channels=1,
    audio_size=(40, 64),
    audio_patch=(10, 16),
    lora_rank=4,
    adapter_rank=4,
    fusion_rank=4,
)
QUICK = AVRecipe(
    backbone_steps=2,
    backbone_batch=4,
    steps=2,
    batch_size=2,
    warm_up=1,
    validate_every=1,
    sample_every=2,
    device="cpu",
)


def bounce(run_dir: Path, recipe: AVRecipe = QUICK, **more) -> Fitted:
    return fit_bouncing(run_dir, recipe, clips=32, size=16, frames=4, config=TINY, **more)


def test_the_small_models_rows_of_audio_last_as_long_as_frames() -> None:
    config = small_config(64, 16, 25_600)
    assert config.audio_grid[0] == 16
    model = AVDiT(config)
    count = model.trainable_parameters() + model.frozen_parameters()
    assert count * 4 < 25e6  # bytes that may ship
    assert small_config(32, 7, 16_000).audio_size == (100, 64)
    with pytest.raises(ValueError, match="size is 60; needs a multiple of 8"):
        small_config(60, 16, 25_600)


def test_bouncing_items_are_the_clips_of_their_seeds() -> None:
    items = BouncingSet(3, first=5, frames=4, size=32)
    frames, sound = items[2]
    clip = bouncing_clip(7, frames=4, height=32, width=32)
    assert len(items) == 3
    assert torch.equal(frames, to_tensor(clip.frames))
    assert torch.equal(sound, torch.from_numpy(clip.audio))
    assert torch.equal(items.still(2, 3), frames[3])
    assert HELD_SEED > 1 << 20


def test_both_runs_end_in_one_file_that_says_how_to_sample(tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    sheets: list[tuple[Tensor, ...]] = []
    fitted = bounce(
        tmp_path,
        card={"licence": "Apache-2.0"},
        on_progress=lambda step, total, _: steps.append((step, total)),
        on_samples=lambda _, made: sheets.append(made),
    )
    assert (fitted.steps, fitted.train_items, fitted.validation_items) == (4, 32, 16)
    assert {"backbone_val_loss", "val_loss"} <= set(fitted.metrics)
    assert steps[0] == (1, 4)
    assert steps[-1] == (4, 4)
    assert [part.shape[1:] for part in sheets[0]] == [(4, 3, 16, 16), (1, 40, 64)]
    loaded = load_network(fitted.weights)
    assert isinstance(loaded.network, AVDiT)
    assert loaded.network.config == TINY
    sampling = loaded.sampling
    assert sampling is not None
    assert (sampling.frames, sampling.audio_samples, sampling.sample_rate) == (4, 6400, 16_000)
    assert (sampling.prediction, sampling.schedule) == ("start", QUICK.schedule)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["licence"] == "Apache-2.0"
    assert card["trainable_parameters"] == loaded.network.trainable_parameters()
    assert card["frozen_parameters"] == loaded.network.frozen_parameters()


def test_the_second_run_leaves_the_backbone_as_the_first_made_it(tmp_path: Path) -> None:
    fitted = bounce(tmp_path)
    first = load_torch_checkpoint(tmp_path / "backbone" / "best.ckpt")
    last = load_weights(fitted.weights).tensors
    names = [name for name in last if name.startswith("backbone.")]
    assert names
    for name in names:
        assert torch.equal(last[name], first[name.replace("backbone.", "average.", 1)]), name
    assert any(value.any() for name, value in last.items() if name.endswith("video_gate"))


def test_training_improves_both_runs_losses(tmp_path: Path) -> None:
    recipe = replace(
        QUICK, backbone_steps=40, steps=40, learning_rate=3e-3, averaging=0.9, validate_every=5
    )
    bounce(tmp_path, recipe)
    for part, share in (("backbone", 0.8), ("joint", 0.8)):
        with (tmp_path / part / "metrics.csv").open() as file:
            rows = [row["val_loss"] for row in csv.DictReader(file) if row["val_loss"]]
        losses = [float(row) for row in rows]
        assert losses[-1] < share * losses[0], part


@pytest.mark.parametrize("stop_at", [1, 3])
def test_interrupted_in_either_run_it_goes_on_to_the_same_end(tmp_path: Path, stop_at: int) -> None:
    whole = bounce(tmp_path / "whole")

    def interrupt(step: int, total: int | None, metrics: dict[str, float]) -> None:
        del total, metrics
        if step == stop_at and not pressed:  # it is told of a step again when that is validated
            pressed.append(step)
            signal.raise_signal(signal.SIGINT)

    pressed: list[int] = []

    with pytest.raises(TrainingInterrupted):
        bounce(tmp_path / "cut", on_progress=interrupt)
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    cut = bounce(tmp_path / "cut", resume=True)
    assert cut.steps == whole.steps
    found, wanted = load_weights(cut.weights).tensors, load_weights(whole.weights).tensors
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


def test_a_given_dit_is_the_backbone_and_an_av_dit_goes_on(tmp_path: Path) -> None:
    backbone = DiT(TINY.backbone)
    with torch.no_grad():
        for value in backbone.parameters():
            value.normal_(std=0.1)
    save_network(tmp_path / "dit.safetensors", backbone, {})
    fitted = bounce(tmp_path / "a", start=tmp_path / "dit.safetensors")
    assert fitted.steps == 2
    assert not (tmp_path / "a" / "backbone").exists()
    made = load_network(fitted.weights).network
    assert isinstance(made, AVDiT)
    for name, value in backbone.state_dict().items():
        assert torch.equal(made.backbone.state_dict()[name], value), name
    again = bounce(tmp_path / "b", start=fitted.weights)
    assert again.steps == 2
    assert again.metrics["val_loss"] <= 1.5 * fitted.metrics["val_loss"]
    card = json.loads((tmp_path / "b" / "card.json").read_text())
    assert card["started_from"] == "weights.safetensors"


def test_weights_of_another_network_are_no_start(tmp_path: Path) -> None:
    from sigform_generate.vdt import VDT, VDTConfig

    config = VDTConfig(
        input_size=16, patch_size=8, in_channels=3, hidden_size=32, depth=1, num_heads=2
    )
    save_network(tmp_path / "vdt.safetensors", VDT(config), {})
    with pytest.raises(ValueError, match="holds a VDT; needs a DiT or an AV-DiT"):
        bounce(tmp_path / "run", start=tmp_path / "vdt.safetensors")


# --- a person's clips ----------------------------------------------------------------------------


def archive(path: Path, count: int, *, silent: bool = False) -> list[Source]:
    clips = [bouncing_clip(number, frames=8, height=32, width=32) for number in range(count)]
    audio = np.stack([np.round(clip.audio * 32767).astype(np.int16) for clip in clips])
    np.savez(
        path,
        frames=np.stack([clip.frames for clip in clips]),
        audio=audio * (not silent),
        fps=10,
        sample_rate=16_000,
    )
    return [Source(path, index) for index in range(count)]


def test_a_folders_clips_are_conformed_and_one_is_held_out(tmp_path: Path) -> None:
    sources = archive(tmp_path / "clips.npz", 4)
    fitted = fit_av(sources, tmp_path / "run", QUICK, size=16, frames=4, config=TINY)
    assert fitted.validation_items == 1
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert (card["clips"], card["held_clips"]) == (3, 1)
    assert load_network(fitted.weights).sampling == replace(
        small_sampling(16, 4), schedule="linear", prediction="start", variance="fixed_large"
    )


def test_one_codec_alone_is_refused(tmp_path: Path) -> None:
    sources = archive(tmp_path / "clips.npz", 4)
    with pytest.raises(ValueError, match="one of codec and sound_codec is None; needs both or"):
        fit_av(sources, tmp_path / "run", QUICK, size=32, frames=4, codec=Shrinking())


def test_clips_of_another_size_are_named(tmp_path: Path) -> None:
    sources = archive(tmp_path / "clips.npz", 4)
    with pytest.raises(ValueError, match="makes clips of 4 x 3 x 16 x 16; those given are"):
        fit_av(sources, tmp_path / "run", QUICK, size=32, frames=4, config=TINY)


def test_silent_clips_are_nothing_to_learn_from(tmp_path: Path) -> None:
    sources = archive(tmp_path / "clips.npz", 4, silent=True)
    with pytest.raises(InputError, match="0 usable clips with sound"):
        fit_av(sources, tmp_path / "run", QUICK, size=16, frames=4, config=TINY)
