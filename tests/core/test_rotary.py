"""Rotary turns against multiplication of complex numbers, written out one by one."""

import cmath

import pytest
import torch

from sigform_core.rotary import rotary_turns, rotate


def turned(x: torch.Tensor, offset: int, channels: int, base: float) -> torch.Tensor:
    """x (L, D) in float64, its first channels turned pair by pair."""
    out = x.double().clone()
    for position in range(len(x)):
        for pair in range(channels // 2):
            angle = (offset + position) / base ** (2 * pair / channels)
            real, imaginary = x[position, 2 * pair : 2 * pair + 2].tolist()
            number = complex(real, imaginary) * cmath.exp(1j * angle)
            out[position, 2 * pair], out[position, 2 * pair + 1] = number.real, number.imag
    return out


@pytest.mark.parametrize("channels", [2, 6, 8])
@pytest.mark.parametrize(("offset", "base"), [(0, 10_000.0), (90, 100.0)])
def test_pairs_turn_as_complex_numbers(channels: int, offset: int, base: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(11, 8)
    turns = rotary_turns(11, channels, base=base, offset=offset)
    assert turns.shape == (11, channels // 2)
    wanted = turned(x, offset, channels, base)
    assert torch.allclose(rotate(x, turns).double(), wanted, atol=1e-5)
    assert torch.equal(rotate(x, turns)[:, channels:], x[:, channels:])


def test_leading_dimensions_and_heads() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 6)  # (B, L, heads, D)
    turns = rotary_turns(5, 4)
    found = rotate(x, turns.unsqueeze(1))
    for head in range(3):
        assert torch.allclose(found[:, :, head], rotate(x[:, :, head], turns))


def test_products_depend_on_the_distance_only() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 8).expand(2, 40, 8)
    turns = rotary_turns(40, 8)
    scores = rotate(q, turns) @ rotate(k, turns).T
    for distance in range(-5, 6):
        diagonal = scores.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4)
    assert not torch.allclose(scores[0], scores[0, 0].expand(40), atol=1e-2)


def test_positions_go_on_from_an_offset() -> None:
    whole = rotary_turns(20, 8)
    assert torch.allclose(rotary_turns(8, 8, offset=12), whole[12:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    x = torch.randn(7, 8).to(dtype)
    found = rotate(x, rotary_turns(7, 4))
    assert found.dtype == dtype
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    assert torch.allclose(found.double(), turned(x, 0, 4, 10_000.0), rtol=tolerance, atol=tolerance)


def test_gradients_turn_back() -> None:
    x = torch.randn(5, 8, requires_grad=True)
    turns = rotary_turns(5, 6)
    grad = torch.randn(5, 8)
    (rotate(x, turns) * grad).sum().backward()
    assert x.grad is not None
    assert torch.allclose(rotate(x.grad, turns), grad, atol=1e-5)


@pytest.mark.parametrize("dim", [0, 3, -2])
def test_odd_numbers_of_channels_are_refused(dim: int) -> None:
    with pytest.raises(ValueError, match=f"dim is {dim}; needs an even number from 2"):
        rotary_turns(4, dim)
