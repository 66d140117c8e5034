import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sigform_generate.gan import DISCRIMINATOR, GanModule, GanRecipe, fit_images, networks_for
from sigform_generate.networks import load_network, save_network
from sigform_generate.styleswin import Generator, to_pixels
from sigform_kit.errors import InputError

SIZE = 8
RECIPE = GanRecipe(steps=4, batch_size=4, validate_every=2, decay_from=1.0, device="cpu")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    paths = []
    for number in range(24):
        paths.append(tmp_path / f"{number:02d}.png")
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(paths[-1])
    return paths


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigform_generate.gan.VALIDATED", 8)
    monkeypatch.setattr("sigform_generate.gan.SHEET", 4)


def test_writes_weights_and_tells_of_them(files: list[Path], tmp_path: Path) -> None:
    sheets = []
    fitted = fit_images(
        files,
        tmp_path / "run",
        RECIPE,
        size=SIZE,
        card={"trained_on": "noise"},
        on_samples=lambda step, images: sheets.append((step, images.shape, images.abs().max())),
    )
    assert [(step, tuple(shape)) for step, shape, _ in sheets] == [
        (2, (4, 3, SIZE, SIZE)),
        (4, (4, 3, SIZE, SIZE)),
    ]
    assert all(largest <= 1 for *_, largest in sheets)
    assert (fitted.steps, fitted.train_items, fitted.validation_items) == (4, 22, 2)
    assert math.isfinite(fitted.metrics["val_proxy_kid"])
    loaded = load_network(fitted.weights)
    assert isinstance(loaded.network, Generator)
    assert loaded.card["trained_on"] == "noise"
    assert loaded.card["recipe"]["r1_every"] == 16
    assert load_network(fitted.weights.with_name(DISCRIMINATOR)).model == "styleswin-discriminator"
    assert not list((tmp_path / "run").glob("*.part"))


@pytest.mark.parametrize(
    "change", [{}, {"augmented": True}, {"consistency": 10.0, "fresh_images": True}]
)
def test_going_on_ends_where_one_run_does(files: list[Path], tmp_path: Path, change) -> None:
    recipe = dataclasses.replace(RECIPE, **change)
    whole = fit_images(files, tmp_path / "whole", recipe, size=SIZE)
    half = dataclasses.replace(recipe, steps=2)
    fit_images(files, tmp_path / "half", half, size=SIZE)
    rest = fit_images(files, tmp_path / "half", recipe, size=SIZE, resume=True)
    states = [
        torch.load(run.weights.with_name("last.ckpt"), weights_only=True)["state_dict"]
        for run in (whole, rest)
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_run_is_not_written_over(files: list[Path], tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=2)
    fit_images(files, tmp_path / "run", recipe, size=SIZE)
    with pytest.raises(ValueError, match="holds a run; needs resume"):
        fit_images(files, tmp_path / "run", recipe, size=SIZE)


def test_starts_from_weights_and_grows(files: list[Path], tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=2, generator_rate=0.0, discriminator_rate=0.0)
    first = fit_images(files, tmp_path / "first", RECIPE, size=SIZE)
    again = fit_images(files, tmp_path / "again", recipe, size=SIZE, start=first.weights)
    before, after = (load_network(run.weights) for run in (first, again))
    state = after.network.state_dict()
    assert all(
        torch.allclose(value, state[name], atol=1e-6)
        for name, value in before.network.state_dict().items()
    )
    assert after.card["started_from"] == "weights.safetensors"
    grown = fit_images(files, tmp_path / "grown", recipe, size=2 * SIZE, start=first.weights)
    network = load_network(grown.weights).network
    assert isinstance(network, Generator)
    assert network.config.size == 2 * SIZE
    torch.testing.assert_close(network.input.input, before.network.input.input)


def test_starting_from_another_size_is_refused(files: list[Path], tmp_path: Path) -> None:
    network, _ = networks_for(8, RECIPE)
    save_network(tmp_path / "a.safetensors", network, {})
    with pytest.raises(ValueError, match="is no StyleSwin of 32 or 16 pixels"):
        fit_images(files, tmp_path / "run", RECIPE, size=32, start=tmp_path / "a.safetensors")


def test_too_few_images_are_refused(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs"):
        fit_images(files[:6], tmp_path / "run", RECIPE, size=SIZE)


def test_the_penalty_is_the_squared_slope() -> None:
    made, seen = networks_for(SIZE, RECIPE)
    module = GanModule(made, seen, dataclasses.replace(RECIPE, augmented=False))
    torch.manual_seed(0)
    real, step = torch.randn(4, 3, SIZE, SIZE), torch.randn(4, 3, SIZE, SIZE)
    images = real.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(seen(images).sum(), images)
    torch.testing.assert_close(
        module.penalty(real).detach(), slope.square().sum((1, 2, 3)).mean(), rtol=1e-4, atol=1e-4
    )
    # The slope itself by differences.
    seen.double()
    small = 1e-5 * step.double()
    rise = (seen(real.double() + small) - seen(real.double() - small)).sum() / 2e-5
    torch.testing.assert_close(rise, (slope.double() * step).sum(), rtol=1e-3, atol=1e-3)


def test_rates_fall_to_nothing_at_the_end() -> None:
    recipe = GanRecipe(steps=100, decay_from=0.5)
    module = GanModule(*networks_for(SIZE, recipe), recipe)
    optimizers = module.configure_optimizers()
    rates = []
    for step in (0, 50, 75, 99):
        module._set_rates(*optimizers, step)
        rates.append(optimizers[0].param_groups[0]["lr"] / recipe.generator_rate)
    assert rates == pytest.approx([1.0, 1.0, 0.5, 0.02])


def test_a_sample_is_that_of_its_seed() -> None:
    made, seen = networks_for(SIZE, RECIPE)
    module = GanModule(made, seen, RECIPE)
    vector = torch.randn(128, generator=torch.Generator().manual_seed(RECIPE.seed + 2))
    with torch.no_grad():
        wanted = to_pixels(module.average(vector[None]))[0]
    torch.testing.assert_close(module.samples(3)[2], wanted)


def test_the_published_recipe_has_the_published_numbers() -> None:
    at_256, at_1024 = GanRecipe.published(), GanRecipe.published(1024)
    assert (at_256.generator_rate, at_256.discriminator_rate, at_256.r1) == (5e-5, 2e-4, 10)
    assert (at_256.consistency, at_1024.consistency) == (10, 0)
    assert (at_256.batch_size, at_1024.batch_size) == (32, 16)
    assert (at_256.decay_from, at_1024.decay_from) == (0.775, 0.6)


@pytest.mark.slow
def test_the_published_recipe_runs_ten_steps(files: list[Path], tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        GanRecipe.published(), steps=10, batch_size=4, validate_every=10, device="cpu"
    )
    fitted = fit_images(files, tmp_path / "run", recipe, size=SIZE)
    network = load_network(fitted.weights).network
    assert isinstance(network, Generator)
    assert network.config.in_channels_by_stage == (512, 512)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"batch_size": 6}, "batch_size is 6; needs up to 4 or a multiple of 4"),
        ({"batch_size": 8, "devices": 3}, "batch_size is 8; needs"),
        ({"steps": 0}, "need to be 1 or more"),
        ({"decay_from": 1.5}, r"decay_from is 1\.5; needs 0 to 1"),
    ],
)
def test_impossible_recipes_are_refused(change, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        GanRecipe(**change)
