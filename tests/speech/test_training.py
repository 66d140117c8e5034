"""The start, the loss, the averaged weights, and a few steps from beginning to end."""

import math
import signal
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from sigform_core.training import TrainingInterrupted
from sigform_core.weights import load_torch_checkpoint
from sigform_speech.metrics import si_sdr
from sigform_speech.mossformer import MossFormer, MossFormerConfig, overlap_add
from sigform_speech.mossformer2 import MossFormer2, MossFormer2Config
from sigform_speech.networks import Network
from sigform_speech.training import (
    Recipe,
    SeparationModule,
    improvement,
    start_simple,
    train_network,
    windowed_waves,
)

RATE = 8000
QUICK = Recipe(
    steps=6, batch_size=2, validate_every=3, learning_rate=3e-3, warm_up=2, device="cpu",
    dtype="float32",
)  # fmt: skip


def tiny(width: int = 32, kernel: int = 16, speakers: int = 2, norm: str = "ln") -> MossFormer:
    torch.manual_seed(0)
    return MossFormer(
        MossFormerConfig(
            in_channels=width, out_channels=width, d_model=width, kernel_size=kernel,
            stride=kernel // 2, num_blocks=1, group_size=32, query_key_dim=32, attn_dropout=0,
            num_spks=speakers, norm=cast(Any, norm),
        )
    )  # fmt: skip


class Fixed(Dataset[tuple[Tensor, Tensor]]):
    """Mixtures of two voices of two tones each, always the same ones."""

    def __init__(self, items: int, samples: int = RATE // 2, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        time = torch.arange(samples) / RATE
        self.sources = torch.zeros(items, 2, samples)
        for source in self.sources.flatten(0, 1):
            for pitch in random.uniform(100, 3500, 2):
                source += 0.05 * torch.sin(2 * math.pi * float(pitch) * time)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.sources[index].sum(0), self.sources[index]


class Answer(nn.Module):
    """A network that knows the answer, but for the order and a little noise."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, _: Tensor) -> Tensor:
        return self.answer


def module_of(network: nn.Module, recipe: Recipe = QUICK) -> SeparationModule:
    module = SeparationModule(cast(Network, network), recipe)
    module.log = lambda *_, **__: None  # pyright: ignore[reportAttributeAccessIssue]
    return module


# The start


def through_frames(x: Tensor, waves: Tensor) -> Tensor:
    length = waves.shape[1]
    frames = x.unfold(1, length, length // 2) @ waves.T @ waves
    return overlap_add(frames.unsqueeze(2), length // 2, x.shape[1])[:, 0]


@pytest.mark.parametrize("length", [16, 64])
def test_windowed_waves_add_up_to_the_signal(length: int) -> None:
    x = torch.randn(2, 10 * length)
    waves = windowed_waves(length)
    assert (waves.shape, waves.dtype) == ((length, length), torch.float32)
    middle = slice(length // 2, -length // 2)
    torch.testing.assert_close(through_frames(x, waves)[:, middle], x[:, middle], rtol=0, atol=1e-5)


def test_windowed_waves_of_an_odd_length() -> None:
    waves = windowed_waves(7)
    assert waves.shape == (7, 7)
    products = waves.T @ waves
    torch.testing.assert_close(products, products.diagonal().diag(), rtol=0, atol=1e-6)
    x = torch.randn(1, 700)
    assert si_sdr(through_frames(x, waves)[:, 7:-7], x[:, 7:-7]) > 25


@pytest.mark.parametrize(("width", "kernel", "speakers"), [(32, 16, 2), (64, 16, 3), (40, 16, 2)])
def test_a_network_starts_with_the_mixture(width: int, kernel: int, speakers: int) -> None:
    network = tiny(width, kernel, speakers).eval()
    x = torch.randn(2, 4000)
    middle = slice(kernel, -kernel)
    assert si_sdr(network(x)[:, 0, middle], x[:, middle]).max() < 0
    start_simple(network)
    with torch.no_grad():
        frames = network.encode(x)
        masks = network.masks(frames)
        seen = network.decode(frames, torch.ones_like(masks), x.shape[1])
        out = network(x)
    assert si_sdr(seen[..., middle], x[:, None, middle]).min() > (60 if width == 32 else 30)
    assert out.shape == (2, speakers, 4000)
    assert si_sdr(out[..., middle], x[:, None, middle]).min() > 3
    assert not torch.equal(out[:, 0], out[:, 1])  # or they would learn the same
    assert 0.15 < masks.mean() < 0.3


def test_a_gradient_reaches_everything_from_the_start() -> None:
    network = tiny(40)
    start_simple(network)
    network(torch.randn(1, 4000)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


# The module


def test_the_mixture_itself_is_no_improvement() -> None:
    mixture, sources = Fixed(3).sources.sum(1), Fixed(3).sources
    found = improvement(cast(Network, lambda x: x.unsqueeze(1).expand(-1, 2, -1)), mixture, sources)
    assert found.tolist() == [0, 0, 0]
    better = improvement(cast(Network, lambda x: sources + 0.3 * x.unsqueeze(1)), mixture, sources)
    assert (better > 5).all()


def test_the_loss_is_the_best_assignment_in_either_order() -> None:
    data = Fixed(2)
    noise = 0.01 * torch.randn_like(data.sources)
    batch = data.sources.sum(1), data.sources
    losses = [
        module_of(Answer(answer)).training_step(batch, 0)
        for answer in (data.sources + noise, (data.sources + noise).flip(1))
    ]
    wanted = -si_sdr(data.sources + noise, data.sources).mean()
    assert losses[0].item() == pytest.approx(wanted.item(), abs=1e-4)
    assert losses[1].item() == pytest.approx(wanted.item(), abs=1e-4)


def test_a_separated_mixture_teaches_no_more() -> None:
    data = Fixed(2)
    answer = data.sources.clone()
    answer[1] += 0.02 * torch.randn_like(answer[1])
    module = module_of(Answer(answer), Recipe(best_db=30))
    loss = module.training_step((data.sources.sum(1), data.sources), 0)
    loss.backward()
    learns = cast(Tensor, cast(Answer, module.network).answer.grad)
    assert not learns[0].any()
    assert learns[1].any()
    second = si_sdr(answer[1], data.sources[1]).mean().item()
    assert loss.item() == pytest.approx(-(30 + second) / 2, abs=1e-3)


def test_only_matrices_decay() -> None:
    module = module_of(tiny())
    groups = cast(torch.optim.Optimizer, module.configure_optimizers()["optimizer"]).param_groups
    assert [group["weight_decay"] for group in groups] == [QUICK.weight_decay, 0]
    assert all(value.ndim == 2 for value in groups[0]["params"])
    learnt = {id(value) for group in groups for value in group["params"]}
    assert learnt == {id(value) for value in module.network.parameters()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("seconds", 0), ("learning_rate", 0), ("learning_rate", math.nan),
        ("validate_every", -1), ("validation_items", 0), ("averaging", 1.5), ("final_rate", -0.1),
    ],
)  # fmt: skip
def test_bad_recipes(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}; needs"):
        Recipe(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("batch_size", 0, "batch_size is 0; needs 1"),
        ("gradient_clip", 0.0, "gradient_clip is 0.0; needs more"),
        ("dtype", "int3", "int3"),
        ("device", "abacus", "abacus"),
    ],
)
def test_bad_recipes_that_training_refuses(
    name: str, value: Any, words: str, tmp_path: Path
) -> None:
    recipe = Recipe(**{"steps": 1, "device": "cpu", name: value})
    with pytest.raises(ValueError, match=words):
        train_network(tiny(), Fixed(2), Fixed(2), recipe, tmp_path)


# Whole trainings


def test_it_learns_eight_mixtures(tmp_path: Path) -> None:
    network, data = tiny(), Fixed(8, samples=3000)
    start_simple(network)
    recipe = Recipe(
        steps=100, batch_size=4, learning_rate=5e-3, warm_up=10, averaging=0.9, validate_every=50,
        device="cpu", dtype="float32",
    )  # fmt: skip
    trained, result = train_network(network, data, data, recipe, tmp_path)
    found = torch.cat([improvement(trained, x[None], sources[None]) for x, sources in each(data)])
    assert found.mean() > 6
    assert result.best_score == pytest.approx(found.mean().item(), abs=0.01)
    losses = [row["train_si_sdr"] for row in result.history if "train_si_sdr" in row]
    assert losses[-1] > losses[0]


def each(data: Fixed) -> list[tuple[Tensor, Tensor]]:
    return [data[index] for index in range(len(data))]


def test_what_is_validated_and_returned_is_the_average(tmp_path: Path) -> None:
    held = Fixed(3, samples=3000, seed=1)
    trained, result = train_network(tiny(), Fixed(8, 2000), held, QUICK, tmp_path)
    assert result.best_path is not None
    assert not trained.training
    best = load_torch_checkpoint(result.best_path)
    for name, value in trained.state_dict().items():
        assert torch.equal(value, best[f"average.{name}"]), name
    assert not torch.equal(trained.encoder, best["network.encoder"])
    found = torch.cat([improvement(trained, x[None], sources[None]) for x, sources in each(held)])
    assert result.best_score == pytest.approx(found.mean().item(), abs=1e-3)


def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    data, held = Fixed(8, 2000), Fixed(2, 2000, seed=1)
    whole, _ = train_network(tiny(), data, held, QUICK, tmp_path / "whole")

    def stop(step: int, *_: object) -> None:
        if step == 4:
            signal.raise_signal(signal.SIGINT)

    parts = tmp_path / "parts"
    with pytest.raises(TrainingInterrupted):
        train_network(tiny(), data, held, QUICK, parts, on_progress=stop)
    assert len(list(parts.glob("last.ckpt"))) == 1
    resumed, result = train_network(tiny(), data, held, QUICK, parts, resume=True)
    assert result.steps == 6
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_other_network_in_bfloat16(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = MossFormer2(
        MossFormer2Config(
            encoder_embedding_dim=8, mossformer_sequence_dim=8, num_mossformer_layer=1,
            inner_channels=6, query_key_dim=8, group_size=16, sample_rate=RATE,
        )
    )  # fmt: skip
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recipe = Recipe(steps=1, batch_size=2, device="cpu", dtype="bfloat16")
    data = Fixed(2, 1000)
    trained, result = train_network(network, data, data, recipe, tmp_path)
    assert result.steps == 1
    assert result.best_score is not None
    assert math.isfinite(result.best_score)
    assert all(value.dtype == torch.float32 for value in trained.parameters())
    changed = [
        name for name, value in trained.state_dict().items() if (value != before[name]).any()
    ]
    assert len(changed) > 0.9 * len(before)
