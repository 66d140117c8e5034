import math

import pytest
import torch

from sigform_core.positions import SinusoidalPositions, sinusoidal_positions


@pytest.mark.parametrize("dim", [2, 7, 32])
def test_it_is_the_equation(dim):
    table = sinusoidal_positions(50, dim)
    assert table.shape == (50, dim)
    for position in (0, 1, 49):
        for column in range(dim):
            angle = position / 10_000 ** (2 * (column // 2) / dim)
            wanted = math.sin(angle) if column % 2 == 0 else math.cos(angle)
            assert table[position, column] == pytest.approx(wanted, abs=1e-5)


def test_the_table_grows_with_its_input_and_is_no_parameter():
    positions = SinusoidalPositions(6)
    assert positions.state_dict() == {}
    short = positions(torch.zeros(1, 4, 6)).clone()
    long = positions(torch.zeros(1, 6000, 6))
    assert long.shape == (6000, 6)
    torch.testing.assert_close(long[:4], short)
    assert positions(torch.zeros(1, 3, 6, dtype=torch.float64)).dtype == torch.float64


def test_a_table_that_inference_made_can_be_trained_with():
    positions = SinusoidalPositions(6)
    with torch.inference_mode():
        positions(torch.zeros(1, 4, 6))
    assert not positions.table.is_inference()
