"""Tiles give what the whole picture gives, and survive running out of memory."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from sigform_superres import tiling
from sigform_superres.craft import CRAFT, CRAFTConfig, FusionBlock
from sigform_superres.data import to_tensor
from sigform_superres.dlgsanet import DLGSANet, DLGSANetConfig
from sigform_superres.tiling import MARGIN, OVERLAP, SMALLEST, OutOfMemoryError, TiledPass

CPU = torch.device("cpu")


class Nearest(nn.Module):
    """Repeats every pixel, so that any error of the tiling shows."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.sides: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sides.append(max(x.shape[2:]))
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


class SmallMemory(Nearest):
    """Fails as an allocator does for inputs above some number of pixels."""

    def __init__(self, scale: int, most: int, words: str = "CUDA out of memory") -> None:
        super().__init__(scale)
        self.most = most
        self.words = words

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] * x.shape[3] > self.most:
            raise RuntimeError(self.words)
        return super().forward(x)


class Apart(nn.Module):
    """Hides what a network is, so that its tiles know nothing of each other."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def noise(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    most = int(np.iinfo(dtype).max)
    return np.random.default_rng(0).integers(0, most + 1, (height, width, 3)).astype(dtype)


def run(network: nn.Module, scale: int, pixels: np.ndarray, side: int, **more) -> np.ndarray:
    tiles = TiledPass(network, scale, pixels, side, device=CPU, dtype=torch.float32, **more)
    return tiles.run()


def whole(network: nn.Module, pixels: np.ndarray) -> Tensor:
    with torch.inference_mode():
        return network(to_tensor(pixels)[None])[0].permute(1, 2, 0)


def decibels(made: np.ndarray, wanted: Tensor) -> float:
    error = made / np.iinfo(made.dtype).max - wanted.clamp(0, 1).numpy()
    return float(-10 * np.log10(np.mean(error**2)))


def small_craft(seed: int = 0, scale: int = 2) -> CRAFT:
    torch.manual_seed(seed)
    config = CRAFTConfig(
        upscale=scale, embed_dim=32, depths=(1, 1), num_heads=(2, 2), split_size_0=4, split_size_1=8
    )
    network = CRAFT(config).eval()
    # Sharp channel attention, so that wrong statistics would show.
    for name, value in network.named_parameters():
        if name.endswith("temperature"):
            nn.init.constant_(value, 8.0)
    return network


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 260), width=st.integers(1, 260),
    side=st.integers(SMALLEST, 200), scale=st.integers(1, 3),
)  # fmt: skip
def test_every_pixel_comes_from_its_place(height: int, width: int, side: int, scale: int) -> None:
    pixels = noise(height, width)
    network = Nearest(scale)
    made = run(network, scale, pixels, side)
    np.testing.assert_array_equal(made, pixels.repeat(scale, 0).repeat(scale, 1))
    assert max(network.sides) <= side


def test_sixteen_bits_are_kept() -> None:
    pixels = noise(130, 150, np.uint16)
    np.testing.assert_array_equal(
        run(Nearest(2), 2, pixels, SMALLEST), pixels.repeat(2, 0).repeat(2, 1)
    )


def test_levels_round_and_clip() -> None:
    values = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 1.0, 7.0])
    assert tiling.to_levels(values, np.dtype(np.uint8)).tolist() == [0, 0, 1, 255, 255]


def test_progress_counts_surveys_too() -> None:
    told: list[tuple[int, int]] = []
    run(small_craft(), 2, noise(100, 120), 96, on_tile=lambda *at: told.append(at))
    assert told == [(i, len(told)) for i in range(1, len(told) + 1)]
    assert len(told) % 3 == 0  # each tile at both attentions, and to the end


def test_craft_tiles_agree_with_the_whole() -> None:
    network = small_craft()
    # Two halves unlike each other: a tile that saw only its own would be far off.
    pixels = noise(104, 168)
    pixels[:, 84:] //= 8
    wanted = whole(network, pixels)
    pixels = pixels.astype(np.uint16) * 257
    alone = TiledPass(Apart(network), 2, pixels, 96, device=CPU, dtype=torch.float32).run()
    assert decibels(run(network, 2, pixels, 96), wanted) > 80
    assert decibels(alone, wanted) < 40


def test_windows_join_opposite_sides_in_tiles_too() -> None:
    """The outermost pixels see the other side of the picture, not that of their tile."""
    network = small_craft()
    pixels = noise(100, 164).astype(np.uint16) * 257
    wanted, made = whole(network, pixels), run(network, 2, pixels, 96)
    for side in (np.s_[:8], np.s_[-8:], np.s_[:, :8], np.s_[:, -8:]):
        assert decibels(made[side], wanted[side]) > 80


def test_craft_tiles_in_files_agree_too() -> None:
    network = small_craft()
    pixels = noise(104, 168).astype(np.uint16) * 257
    kept = run(network, 2, pixels, 96)
    filed = run(network, 2, pixels, 96, keep_bytes=0)
    assert 0 < np.abs(kept.astype(int) - filed).max() < 200


@pytest.mark.parametrize("step", ["measure", "forward"])
def test_craft_goes_on_where_memory_ran_out(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """In the middle of the stages, and while the second tile is being finished."""
    network = small_craft()
    pixels = noise(104, 168).astype(np.uint16) * 257
    usual = getattr(FusionBlock, step)
    calls = 0

    def failing(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(*arguments)

    tiles = TiledPass(network, 2, pixels, 128, device=CPU, dtype=torch.float32)
    monkeypatch.setattr(FusionBlock, step, failing)
    made = tiles.run()
    assert tiles.side == 96
    assert decibels(made, whole(network, pixels)) > 60


def test_dlgsanet_tiles_agree_with_the_whole() -> None:
    torch.manual_seed(0)
    config = DLGSANetConfig(upscale=2, dim=12, groups=1, blocks=1, tlc_kernel=24)
    network = DLGSANet(config).eval()
    pixels = noise(104, 168)
    wanted = whole(network, pixels)
    made = run(network, 2, pixels.astype(np.uint16) * 257, 96)
    assert decibels(made, wanted) > 60


def test_padding_of_odd_sizes_is_counted() -> None:
    network = small_craft()
    pixels = noise(101, 163).astype(np.uint16) * 257
    assert decibels(run(network, 2, pixels, 96), whole(network, pixels)) > 60


@pytest.mark.parametrize(
    "words", ["CUDA out of memory", "[enforce fail] DefaultCPUAllocator: can't allocate memory"]
)
def test_tiles_shrink_when_memory_runs_out(words: str) -> None:
    network = SmallMemory(2, most=128 * 128, words=words)
    pixels = noise(230, 250)
    tiles = TiledPass(network, 2, pixels, 200, device=CPU, dtype=torch.float32)
    np.testing.assert_array_equal(tiles.run(), pixels.repeat(2, 0).repeat(2, 1))
    assert tiles.side <= 128
    assert max(network.sides) <= 128


def test_finished_tiles_are_not_done_again() -> None:
    pixels = noise(100, 400)
    network = Nearest(1)
    fails = SmallMemory(1, most=10**9)
    run(network, 1, pixels, 200)
    tiles = TiledPass(fails, 1, pixels, 200, device=CPU, dtype=torch.float32)
    calls = 0

    def forward(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:  # the second tile, once
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Nearest.forward(fails, x)

    fails.forward = forward  # type: ignore[method-assign]
    np.testing.assert_array_equal(tiles.run(), pixels)
    assert fails.sides[0] > 100  # the first tile was large and done once
    assert all(side <= 100 for side in fails.sides[1:])


def test_smallest_tile_that_does_not_fit_is_said() -> None:
    with pytest.raises(OutOfMemoryError, match=r"tile of \d+ pixels does not fit"):
        run(SmallMemory(2, most=100), 2, noise(200, 200), 128)


def test_other_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="something else"):
        run(SmallMemory(2, most=100, words="something else"), 2, noise(200, 200), 128)


def test_tile_side_is_checked() -> None:
    with pytest.raises(ValueError, match="tile is 64; needs 96"):
        run(Nearest(2), 2, noise(10, 10), 64)


def test_margins_leave_room_to_fade() -> None:
    assert OVERLAP > 2 * MARGIN
    assert SMALLEST >= 2 * OVERLAP


def test_no_seam_on_a_real_picture(shipped_craft: CRAFT) -> None:
    fixtures = os.environ.get("SIGFORM_FIXTURES")
    if not fixtures:
        pytest.skip("SIGFORM_FIXTURES is not set")
    picture = Path(fixtures) / "data/superres/set5/butterfly.png"
    pixels = np.asarray(Image.open(picture).convert("RGB"))[:192, :160]
    wanted = whole(shipped_craft, pixels)
    made = run(shipped_craft, shipped_craft.scale, pixels.astype(np.uint16) * 257, 128)
    assert decibels(made, wanted) > 60
    # Errors gather nowhere: those along the cut are no larger than elsewhere inside.
    s = shipped_craft.scale
    error = np.abs(made / 65535 - wanted.clamp(0, 1).numpy()).mean(axis=(1, 2))
    inside = error[16 * s : -16 * s]
    assert inside.max() < 2e-3
