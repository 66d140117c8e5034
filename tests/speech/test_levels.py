"""Gains bring outputs of any scale back to the mixture, and never blow anything up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_speech.levels import Levels


def voices(*levels: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(len(levels), channels, 4000))
    return (noise * np.array(levels)[:, None, None]).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.2, 3.0), (40.0, 25.0), (-2.0, -1.0)])
def test_any_scale_is_undone(scales: tuple[float, float], channels: int) -> None:
    true = voices(0.1, 0.05, channels=channels)
    outputs = true * np.array(scales)[:, None, None]
    gains = Levels(2).gains(true.sum(0), outputs)
    np.testing.assert_allclose(gains * scales, 1, rtol=0.05)


def test_the_sum_is_as_near_as_least_squares_allows() -> None:
    true = voices(0.1, 0.05, 0.07)
    mixture = true.sum(0)
    outputs = 0.3 * true + 0.1 * true[[1, 2, 0]] + voices(0.01, 0.01, 0.01, seed=1)
    gains = Levels(3).gains(mixture, outputs)
    columns = outputs.reshape(3, -1).T.astype(np.float64)
    best, *_ = np.linalg.lstsq(columns, mixture.ravel().astype(np.float64))
    left = np.square(mixture.ravel() - columns @ gains).sum()
    least = np.square(mixture.ravel() - columns @ best).sum()
    assert left < 1.001 * least


def test_silence_stays_silence_and_finite() -> None:
    levels = Levels(2)
    nothing = np.zeros((1, 100), np.float32)
    for outputs in (np.zeros((2, 1, 100)), voices(1, 1)[..., :100], voices(1, 0)[..., :100]):
        assert np.isfinite(levels.gains(nothing, outputs)).all()
        assert np.isfinite(levels.gains(nothing + voices(1)[0, :, :100], outputs)).all()


def test_a_quiet_output_keeps_the_gain_it_had() -> None:
    true = voices(0.1, 0.1)
    levels = Levels(2)
    for _ in range(20):
        levels.gains(true.sum(0), true * np.array([0.5, 2.0])[:, None, None])
    # The second output is what the first left over: least squares alone would raise it.
    mixture = true[0]
    rest = 1e-3 * (true[0] + true[1])
    gains = levels.gains(mixture, np.stack([0.5 * 0.95 * true[0], 2.0 * rest]))
    assert gains[0] == pytest.approx(2.0 / 0.95, rel=0.05)
    assert gains[1] == pytest.approx(0.5, rel=0.2)


def test_outputs_that_are_one_signal_share_one_gain() -> None:
    true = voices(0.1, 0.1)
    mixture = true.sum(0)
    outputs = np.stack([mixture, mixture + 0.01 * true[0]])
    gains = Levels(2).gains(mixture, outputs)
    assert gains[0] == pytest.approx(gains[1])
    assert gains.sum() == pytest.approx(1, rel=0.02)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(-3, 3), min_size=9, max_size=9),
    st.lists(st.sampled_from([0.0, 1e-12, 1e-6, 1.0, 1e6]), min_size=3, max_size=3),
)
def test_no_output_explodes(mixing: list[float], scales: list[float]) -> None:
    true = voices(1, 1, 1)[..., :300]
    outputs = np.einsum("so,sct->oct", np.reshape(mixing, (3, 3)), true)
    outputs *= np.array(scales)[:, None, None]
    mixture = true.sum(0)
    levels = Levels(3)
    for _ in range(3):
        gains = levels.gains(mixture, outputs)
        assert np.isfinite(gains).all()
        assert (gains >= 0).all() or (gains <= 0).all()
        energies = np.square(gains[:, None, None] * outputs).sum((1, 2))
        assert energies.max() <= 10.1 * np.square(mixture).sum()
