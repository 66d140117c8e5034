"""The Legendre memory against scipy and the definition, in both its forms."""

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete

from sigform_eeg.legendre import LegendreMemory, impulse_response, legendre_system, transfer
from sigform_eeg.stream_state import name_streams

SIZES = [(1, 5.0), (8, 20.0), (16, 31.5), (32, 128.0), (64, 40.0)]


@pytest.mark.parametrize(("order", "theta"), SIZES)
def test_the_system_held_over_a_token(order: int, theta: float) -> None:
    a, b = np.zeros((order, order)), np.zeros((order, 1))
    for i in range(order):
        b[i] = (2 * i + 1) / theta * (-1) ** i
        for j in range(order):
            a[i, j] = (2 * i + 1) / theta * (-1 if i < j else (-1) ** (i - j + 1))
    rest = np.ones((1, order)), np.zeros((1, 1))
    held_a, held_b, *_ = cont2discrete((a, b, *rest), dt=1.0, method="zoh")
    found_a, found_b = legendre_system(order, theta)
    assert np.allclose(found_a, held_a, atol=1e-10)
    assert np.allclose(found_b, held_b[:, 0], atol=1e-10)


def test_the_memory_keeps_the_window() -> None:
    order, theta = 12, 40.0
    memory = LegendreMemory(order, theta).double()
    time = torch.arange(200, dtype=torch.float64)
    u = (time / 15).sin()
    m = memory(u[:, None])[-1, 0]
    for ago in (0.0, 0.25, 0.5, 1.0):  # of the window
        polynomials = np.polynomial.legendre.legvander(np.array([2 * ago - 1]), order - 1)[0]
        kept = float(m @ torch.from_numpy(polynomials))
        # What is held over a token lies half a token back.
        assert kept == pytest.approx(float(np.sin((199.5 - ago * theta) / 15)), abs=0.02)


@pytest.mark.parametrize(("order", "theta"), SIZES)
@pytest.mark.parametrize("length", [1, 2, 7, 60, 333])
def test_both_forms_are_equal(order: int, theta: float, length: int) -> None:
    torch.manual_seed(0)
    memory = LegendreMemory(order, theta)
    name_streams(memory)
    u = torch.randn(length, 3)
    carry = memory.start(3, u)
    parts = torch.cat([memory(part, carry) for part in u.split(5)])
    whole = memory(u)
    assert whole.shape == (length, 3, order)
    assert float((parts - whole).norm() / whole.norm()) < 1e-5


def test_impulse_response() -> None:
    a, b = legendre_system(6, 10.0)
    wanted, now = [], b
    for _ in range(37):
        wanted.append(now)
        now = a @ now
    assert torch.allclose(impulse_response(6, 10.0, 37), torch.stack(wanted), rtol=0, atol=1e-12)


def test_double_precision_is_not_that_of_a_rounded_system() -> None:
    memory = LegendreMemory(8, 20.0).double()
    name_streams(memory)
    u = torch.randn(300, 2, dtype=torch.float64)
    found, wanted = memory(u, memory.start(2, u)), memory(u)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-12
    memory.float()
    assert memory.a.dtype == torch.float32
    assert not memory.state_dict()


def test_what_is_cached_serves_training_too() -> None:
    transfer.cache_clear()
    legendre_system.cache_clear()
    with torch.inference_mode():
        LegendreMemory(5, 9.0)(torch.ones(4, 1))
    with torch.device("meta"):
        LegendreMemory(6, 9.0)
    for order in (5, 6):
        u = torch.ones(4, 1, requires_grad=True)
        LegendreMemory(order, 9.0)(u).sum().backward()
        assert u.grad is not None
        assert u.grad.isfinite().all()


def test_gradients() -> None:
    memory = LegendreMemory(4, 6.0).double()
    u = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(memory, (u,))


@pytest.mark.parametrize(
    ("order", "theta", "says"),
    [(0, 5.0, "memory_size is 0; needs 1"), (4, 0.0, r"theta is 0\.0; needs more than 0")],
)
def test_bad_sizes(order: int, theta: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LegendreMemory(order, theta)
