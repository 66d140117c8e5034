"""From a folder of voices to a weight file."""

import csv
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sigform_core.training import TrainingInterrupted
from sigform_kit import InputError
from sigform_speech import fitting
from sigform_speech.fitting import ARCHITECTURES, build, fit_folder
from sigform_speech.mossformer import MossFormer, MossFormerConfig
from sigform_speech.networks import load_network
from sigform_speech.training import Recipe, windowed_waves

RATE = 8000
RECIPE = Recipe(
    steps=4, batch_size=2, seconds=0.25, warm_up=1, validate_every=2, validation_items=2,
    device="cpu",
)  # fmt: skip


def tiny(_: str = "", *, speakers: int = 2, sample_rate: int = RATE) -> MossFormer:
    return MossFormer(
        MossFormerConfig(
            in_channels=32, out_channels=32, d_model=32, kernel_size=16, stride=8, num_blocks=1,
            group_size=32, query_key_dim=32, num_spks=speakers, sample_rate=sample_rate,
        )
    )  # fmt: skip


def say(pitch: float, seconds: float) -> np.ndarray:
    """A hum: harmonics of a pitch in Hz, weaker the higher."""
    time = np.arange(round(seconds * RATE)) / RATE
    return sum(0.2 / k * np.sin(2 * np.pi * k * pitch * time) for k in range(1, 6))  # pyright: ignore[reportReturnType]


def write_voices(folder: Path, count: int = 4, first: int = 90) -> Path:
    for number in range(count):
        speaker = folder / f"speaker{number}"
        speaker.mkdir(parents=True)
        for part in (1, 2):
            soundfile.write(speaker / f"{part}.wav", say(first + 35 * number, part), RATE)
    return folder


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    return write_voices(tmp_path / "voices")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "build", tiny)


def test_a_folder_becomes_a_weight_file(voices: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    run = tmp_path / "run"
    fitted = fit_folder(
        voices, run, RECIPE, card={"licence": "CC0-1.0"},
        on_progress=lambda step, steps, _: told.append((step, steps)),
    )  # fmt: skip
    assert fitted.weights == run / "weights.safetensors"
    assert (fitted.steps, fitted.train_voices, fitted.validation_voices) == (4, 2, 2)
    assert told[-1] == (4, 4)
    network, file = load_network(fitted.weights)
    assert not network.training
    assert (network.num_spks, network.sample_rate) == (2, RATE)
    assert network(torch.randn(1, 500)).shape == (1, 2, 500)
    assert json.loads((run / "card.json").read_text("utf-8")) == file.card
    card: dict[str, Any] = dict(file.card)
    assert card.pop("recipe")["seconds"] == 0.25
    assert card.pop("seconds") == round(fitted.seconds)
    with (run / "metrics.csv").open(encoding="utf-8") as table:
        scores = [float(row["val_si_sdri"]) for row in csv.DictReader(table) if row["val_si_sdri"]]
    assert len(scores) == 2
    assert fitted.best_si_sdri == pytest.approx(max(scores))
    assert card.pop("validation_si_sdri") == pytest.approx(max(scores), abs=6e-4)
    assert card == {
        "architecture": "mossformer-small", "started_from": None, "train_voices": 2,
        "validation_voices": 2, "steps": 4, "licence": "CC0-1.0",
    }  # fmt: skip


def test_going_on_from_weights_with_other_voices_to_validate(voices: Path, tmp_path: Path) -> None:
    first = fit_folder(voices, tmp_path / "first", replace(RECIPE, steps=1))
    held = write_voices(tmp_path / "held", count=3, first=300)
    still = replace(RECIPE, steps=1, learning_rate=1e-12)
    second = fit_folder(
        voices, tmp_path / "second", still, start=first.weights, validation=held, speakers=3
    )
    assert (second.train_voices, second.validation_voices) == (4, 3)
    network, file = load_network(second.weights)
    assert file.card["started_from"] == "weights.safetensors"
    assert file.card["architecture"] is None
    before, _ = load_network(first.weights)
    for (name, a), b in zip(
        before.state_dict().items(), network.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6, msg=name)


def test_three_speakers_at_another_rate(tmp_path: Path) -> None:
    voices = write_voices(tmp_path / "voices", count=6)
    recipe = replace(RECIPE, steps=1)
    fitted = fit_folder(voices, tmp_path / "run", recipe, speakers=3, sample_rate=16_000)
    assert (fitted.train_voices, fitted.validation_voices) == (3, 3)
    network, _ = load_network(fitted.weights)
    assert (network.num_spks, network.sample_rate) == (3, 16_000)


def test_librimix(tmp_path: Path) -> None:
    for subset, count in (("train-100", 3), ("dev", 5)):
        for number in range(count):
            sources = np.stack([say(100, 0.5), say(170 + number, 0.5)])
            for name, samples in zip(
                ("mix_clean", "s1", "s2"), (sources.sum(0), *sources), strict=True
            ):
                folder = tmp_path / "Libri2Mix" / "wav8k" / "min" / subset / name
                folder.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / f"{number}.wav", samples / 2, RATE)
    recipe = replace(RECIPE, steps=1)
    fitted = fit_folder(tmp_path, tmp_path / "run", recipe, librimix="train-100")
    assert (fitted.train_voices, fitted.validation_voices) == (3, 2)


def test_a_stopped_run_is_finished_later(voices: Path, tmp_path: Path) -> None:
    def stop(step: int, *_: object) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    run = tmp_path / "run"
    with pytest.raises(TrainingInterrupted):
        fit_folder(voices, run, RECIPE, on_progress=stop)
    assert not (run / "weights.safetensors").exists()
    with pytest.raises(ValueError, match="holds a run; needs resume"):
        fit_folder(voices, run, RECIPE)
    assert fit_folder(voices, run, RECIPE, resume=True).steps == 4


@pytest.mark.parametrize("simple", [True, False])
def test_how_a_network_begins(
    simple: bool, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[MossFormer] = []

    def stop(network: MossFormer, *_: object, **__: object) -> None:
        begun.append(network)
        raise InterruptedError

    monkeypatch.setattr(fitting, "train_network", stop)
    state = torch.get_rng_state()
    for seed in (0, 0, 1):
        with pytest.raises(InterruptedError):
            fit_folder(voices, tmp_path, replace(RECIPE, start_simple=simple, seed=seed))
    assert torch.equal(torch.get_rng_state(), state)
    one, again, other = (network.mask_net.bottleneck.weight for network in begun)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    waves = windowed_waves(16)
    assert torch.equal(begun[0].encoder[:16], waves) is simple


def test_folders_that_do_not_do(voices: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is not a folder"):
        fit_folder(tmp_path / "nowhere", tmp_path / "run", RECIPE)
    with pytest.raises(ValueError, match="4 speakers are given; needs 6"):
        fit_folder(voices, tmp_path / "run", RECIPE, speakers=3)
    with pytest.raises(InputError, match="no folder Libri2Mix"):
        fit_folder(voices, tmp_path / "run", RECIPE, librimix="train-100")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("architecture", "millions"),
    [("mossformer-small", 0.83), ("mossformer", 42.10), ("mossformer2", 55.74)],
)
def test_architectures(architecture: str, millions: float) -> None:
    assert architecture in ARCHITECTURES
    with torch.device("meta"):
        network = build(architecture, speakers=2, sample_rate=16_000)
    assert (network.num_spks, network.sample_rate) == (2, 16_000)
    count = sum(value.numel() for value in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_an_unknown_architecture() -> None:
    with pytest.raises(ValueError, match="'conv-tasnet'; needs one of mossformer-small"):
        build("conv-tasnet")
