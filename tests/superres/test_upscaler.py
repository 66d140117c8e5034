"""The task object: sizes, depths, alpha, ensembles, and what it is loaded from."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sigform_superres.catalogue import SHIPPED
from sigform_superres.craft import CRAFT, CRAFTConfig
from sigform_superres.data import turned
from sigform_superres.dlgsanet import DLGSANet, DLGSANetConfig
from sigform_superres.networks import save_network
from sigform_superres.picture import Metadata, Picture
from sigform_superres.tiling import SMALLEST
from sigform_superres.upscaler import LARGEST_SIDE, Target, Upscaler, unturned

TINY = CRAFTConfig(
    upscale=2, embed_dim=32, depths=(1,), num_heads=(2,), split_size_0=4, split_size_1=8
)


class Slope(nn.Module):
    """Repeats pixels and darkens each row less than the last: not the same after a turn."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        large = x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        slope = torch.linspace(0.5, 1.0, large.shape[2]).view(-1, 1)
        return large * slope


class Nearest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    most = int(np.iinfo(dtype).max)
    return np.random.default_rng(1).integers(0, most + 1, shape).astype(dtype)


def upscaler(network: nn.Module | None = None, **more) -> Upscaler:
    return Upscaler(network or Nearest(), 2, device="cpu", dtype="float32", **more)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_depth_and_channels_stay(dtype: type, channels: int) -> None:
    pixels = noise(7, 9, channels, dtype=dtype)
    made = upscaler()(pixels)
    np.testing.assert_array_equal(made, pixels.repeat(2, 0).repeat(2, 1))
    assert made.dtype == dtype


def test_a_picture_keeps_alpha_and_metadata() -> None:
    picture = Picture(noise(6, 5, 3), noise(6, 5), Metadata(icc=b"icc", dpi=(72.0, 72.0)))
    made = upscaler()(picture)
    assert (made.height, made.width) == (12, 10)
    assert made.metadata == picture.metadata
    assert made.alpha is not None
    assert picture.alpha is not None
    np.testing.assert_array_equal(made.alpha, picture.alpha.repeat(2, 0).repeat(2, 1))


def test_hidden_colours_do_not_come_out() -> None:
    colour = np.full((8, 8, 3), 200, np.uint8)
    alpha = np.full((8, 8), 255, np.uint8)
    colour[:, 4:], alpha[:, 4:] = 0, 0  # black where nothing is seen

    class Blur(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            smooth = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            return smooth.repeat_interleave(2, 2).repeat_interleave(2, 3)

    made = upscaler(Blur())(Picture(colour, alpha))
    assert made.alpha is not None
    assert made.colour[made.alpha > 0].min() >= 199


@pytest.mark.parametrize(
    ("target", "size"),
    [
        (Target(factor=2.5), (25, 40)),
        (Target(factor=0.5), (5, 8)),
        (Target(width=48), (30, 48)),
        (Target(height=15), (15, 24)),
        (Target(width=7, height=9), (9, 7)),
        (Target(), (20, 32)),
    ],
)
def test_any_target(target: Target, size: tuple[int, int]) -> None:
    made = upscaler()(noise(10, 16, 3), target=target)
    assert made.shape == (*size, 3)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"factor": 0}, "factor is 0"),
        ({"factor": float("inf")}, "factor is inf"),
        ({"width": 0}, "width is 0"),
        ({"height": -1}, "height is -1"),
        ({"factor": 2, "width": 3}, "factor is given with width"),
    ],
)
def test_impossible_targets(wrong: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Target(**wrong)


def test_turns_are_undone() -> None:
    pixels = noise(4, 6, 3)
    lying = [turned(pixels, turn).tobytes() for turn in range(8)]
    assert len(set(lying)) == 8
    for turn in range(8):
        np.testing.assert_array_equal(unturned(turned(pixels, turn), turn), pixels)


def test_ensemble_averages_the_eight_ways() -> None:
    network = Slope()
    pixels = noise(8, 6, 3)
    told: list[tuple[int, int]] = []
    made = upscaler(network, ensemble=True)(pixels, on_tile=lambda *at: told.append(at))
    assert sorted({shape[2:] for shape in network.seen}) == [(6, 8), (8, 6)]
    assert told == [(i, 8) for i in range(1, 9)]
    each = []
    for turn in range(8):
        large = turned(pixels, turn).repeat(2, 0).repeat(2, 1).astype(float)
        each.append(unturned(large * np.linspace(0.5, 1, len(large))[:, None, None], turn))
    np.testing.assert_allclose(made, np.mean(each, axis=0), atol=0.51)


def test_grey_that_the_network_tints_stays_grey() -> None:
    class Tint(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tint = torch.tensor([0.9, 1.0, 1.0]).view(3, 1, 1)
            return (x * tint).repeat_interleave(2, 2).repeat_interleave(2, 3)

    made = upscaler(Tint())(np.full((4, 4, 1), 200, np.uint8))
    assert set(np.unique(made)) == {193}


def test_tiles_follow_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made = upscaler()
    monkeypatch.setattr("sigform_superres.upscaler.free_memory", lambda _: 64 << 30)
    assert made._side(600, 700) == 700
    assert made._side(4000, 6000) == LARGEST_SIDE["cpu"]
    monkeypatch.setattr("sigform_superres.upscaler.free_memory", lambda _: 1 << 30)
    assert made._side(600, 700) < 600
    monkeypatch.setattr("sigform_superres.upscaler.free_memory", lambda _: 0)
    assert made._side(4000, 6000) == SMALLEST
    assert upscaler(tile=200)._side(4000, 6000) == 200


def test_wrong_tile_and_device() -> None:
    with pytest.raises(ValueError, match="tile is 50; needs 96"):
        upscaler(tile=50)
    with pytest.raises(ValueError, match="device is 'gpu'"):
        Upscaler(Nearest(), 2, device="gpu")


def test_wrong_arrays() -> None:
    with pytest.raises(ValueError, match="needs"):
        upscaler()(noise(4, 4))
    with pytest.raises(ValueError, match="needs"):
        upscaler()(np.zeros((4, 4, 3), np.float32))


def test_loads_a_weight_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CRAFT(TINY).eval()
    path = tmp_path / "mine.safetensors"
    save_network(path, network, {})
    loaded = Upscaler.load(path, device="cpu")
    pixels = noise(17, 12, 3)
    with torch.inference_mode():
        image = torch.from_numpy(pixels.transpose(2, 0, 1)).float()[None] / 255
        wanted = network(image)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    made = loaded(pixels)
    assert np.abs(made.astype(int) - wanted).max() <= 1
    with pytest.raises(ValueError, match=r"scale is 4; the weights .* need 2"):
        Upscaler.load(path, scale=4)


def test_unknown_weights_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="neither a file nor one of"):
        Upscaler.load("no-such-weights")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_default_weights_are_there(scale: int) -> None:
    assert f"craft-x{scale}" in SHIPPED
    made = Upscaler.load(scale=scale, device="cpu")
    assert made.scale == scale
    assert made(noise(16, 16, 3)).shape == (16 * scale, 16 * scale, 3)


def test_bfloat16_is_close_to_float32(shipped_craft: CRAFT) -> None:
    ramp = np.linspace(0, 255, 40)
    pixels = np.clip(ramp[:, None, None] + ramp[None, :, None] * [1, 0.5, 0], 0, 255)
    pixels = pixels.astype(np.uint8)
    exact = Upscaler(shipped_craft, 2, device="cpu", dtype="float32")(pixels)
    mixed = Upscaler.load("craft-x2", device="cpu", dtype="bfloat16")
    # The first and the last layer stay as they are: 8 bits of mantissa are fewer than a picture's.
    assert mixed.network.conv_first.weight.dtype == torch.float32  # type: ignore[union-attr]
    assert mixed.network.body_dtype == torch.bfloat16  # type: ignore[union-attr]
    assert np.abs(exact.astype(int) - mixed(pixels)).mean() < 0.25


def test_bfloat16_for_dlgsanet() -> None:
    torch.manual_seed(0)
    network = DLGSANet(DLGSANetConfig(upscale=2, dim=12, groups=1, blocks=1))
    pixels = noise(20, 24, 3)
    exact = upscaler(copy.deepcopy(network))(pixels)
    mixed = Upscaler(network, 2, device="cpu", dtype="bfloat16")
    assert network.body_dtype == torch.bfloat16
    assert np.abs(exact.astype(int) - mixed(pixels)).mean() < 0.5
