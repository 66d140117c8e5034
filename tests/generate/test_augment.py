import pytest
import torch

from sigform_generate.augment import augment, cut_out, flip, recolour, translate


def images(count: int = 64, side: int = 16) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(count, 3, side, side)


@pytest.mark.parametrize("function", [augment, flip, recolour, translate, cut_out])
def test_shapes_stay_and_gradients_pass(function) -> None:
    x = images(4).requires_grad_(True)
    out = function(x)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_the_generator_that_fit_seeds_is_the_one_used() -> None:
    x = images(4)
    torch.manual_seed(1)
    first = augment(x)
    assert not torch.equal(augment(x), first)
    torch.manual_seed(1)
    assert torch.equal(augment(x), first)


def test_about_half_are_flipped() -> None:
    x = images()
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(flip(x), x, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(flip(x), x, strict=True)]
    assert 16 < sum(flipped) < 48
    assert 16 < sum(kept) < 48


def test_images_move_by_up_to_an_eighth() -> None:
    x = images(count=200) + 10
    moved = translate(x)
    steps = set()
    for before, after in zip(x, moved, strict=True):
        found = [
            (up, left)
            for up in range(-2, 3)
            for left in range(-2, 3)
            if torch.equal(shifted(before, up, left), after)
        ]
        assert len(found) == 1
        steps.add(found[0])
    assert len(steps) == 25


def shifted(x: torch.Tensor, up: int, left: int) -> torch.Tensor:
    out = torch.zeros_like(x)
    H, W = x.shape[1:]
    rows, columns = torch.arange(H) + up, torch.arange(W) + left
    inside = ((rows >= 0) & (rows < H))[:, None] & ((columns >= 0) & (columns < W))
    picked = x[:, rows.clamp(0, H - 1)][:, :, columns.clamp(0, W - 1)]
    return torch.where(inside, picked, out)


def test_holes_are_squares_of_half_a_side() -> None:
    gone = cut_out(torch.ones(300, 3, 16, 16))[:, 0] == 0
    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    assert torch.equal(rows * columns, gone.sum((1, 2)))
    assert rows.max() == columns.max() == 8
    assert rows.min() == 4


def test_colours_change_within_bounds() -> None:
    x = torch.zeros(500, 3, 4, 4)
    assert recolour(x).abs().max() <= 0.5
    assert recolour(x).flatten(1).mean(1).abs().max() > 0.45
