"""Euclidean alignment: what becomes white, and what may look ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sigform_eeg.alignment import Align, OnlineAligner, align_trials, covariances, whitener


def mixed(count: int = 20, channels: int = 5, seed: int = 0) -> np.ndarray:
    """Trials whose channels are mixtures, (n, C, T)."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((channels, channels))
    return (mixing @ rng.standard_normal((count, channels, 300))).astype("f4") * 20


def test_the_mean_covariance_becomes_the_identity() -> None:
    aligned, matrices = align_trials(mixed(), "subject")
    assert np.allclose(covariances(aligned).mean(0), np.eye(5), atol=0.03)
    assert np.allclose(matrices[0] @ mixed()[0], aligned[0], atol=1e-3)
    assert aligned.dtype == np.float32


def test_only_online_looks_at_no_later_trial() -> None:
    signals = mixed()
    later = signals.copy()
    later[10:] *= 3
    cases: list[tuple[Align, bool]] = [("online", True), ("subject", False), ("none", True)]
    for how, same in cases:
        one, other = (align_trials(x, how)[0] for x in (signals, later))
        assert np.array_equal(one[:10], other[:10]) is same
    own, other = (align_trials(x, "online", include_current=False)[0] for x in (signals, later))
    assert np.allclose(own[10] * 3, other[10], rtol=1e-4, atol=1e-4)


def test_online_takes_the_trials_so_far() -> None:
    signals = mixed()
    _, matrices = align_trials(signals, "online")
    assert np.allclose(matrices[7], whitener(covariances(signals[:8]).mean(0)))
    _, before = align_trials(signals, "online", include_current=False)
    assert np.allclose(before[1:], matrices[:-1])
    assert np.allclose(before[0], matrices[0])


def test_none_leaves_signals_alone() -> None:
    signals = mixed()
    aligned, matrices = align_trials(signals, "none")
    assert np.array_equal(aligned, signals)
    assert np.array_equal(matrices, np.broadcast_to(np.eye(5), (20, 5, 5)))


def test_rank_deficient_and_silent_signals_stay_finite() -> None:
    signals = mixed()
    signals -= signals.mean(axis=1, keepdims=True)  # the average reference
    signals[:, 2] = signals[:, 0]
    for how in ("subject", "online"):
        aligned, _ = align_trials(signals, how)
        assert np.isfinite(aligned).all()
        assert np.abs(aligned).max() < 100
    assert not align_trials(np.zeros((2, 3, 50), np.float32), "subject")[0].any()


def test_signals_that_are_not_finite_are_refused() -> None:
    signals = mixed()
    signals[3, 1, 5] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        align_trials(signals, "subject")
    wrong: Any = "whole"
    with pytest.raises(ValueError, match="align is 'whole'; needs none, subject or online"):
        align_trials(mixed(), wrong)


def test_a_saved_aligner_goes_on() -> None:
    signals = mixed()
    one = OnlineAligner(5)
    for trial in signals[:8]:
        one.update(trial)
    other = OnlineAligner(5)
    other.load_state(one.state())
    for aligner in (one, other):
        aligner.update(signals[8])
    assert np.array_equal(one.matrix, other.matrix)
    assert np.allclose(one.matrix, align_trials(signals, "online")[1][8])


def test_memory_forgets_and_a_prior_counts() -> None:
    quiet, loud = mixed(30), 10 * mixed(30)
    forgetful, thorough = OnlineAligner(5, memory=3), OnlineAligner(5)
    for trial in [*loud, *quiet]:
        forgetful.update(trial)
        thorough.update(trial)
    expected = whitener(covariances(quiet).mean(0))
    assert np.allclose(forgetful.matrix, expected, rtol=0.2, atol=0.1 * np.abs(expected).max())
    assert np.abs(thorough.matrix).max() < 0.5 * np.abs(expected).max()
    prior = covariances(quiet).mean(0)
    assert np.allclose(OnlineAligner(5, prior=prior).matrix, expected)
    assert np.array_equal(OnlineAligner(5).matrix, np.eye(5))
    with pytest.raises(ValueError, match="memory is 0"):
        OnlineAligner(5, memory=0)
    with pytest.raises(ValueError, match=r"the window has shape \(4, 9\)"):
        OnlineAligner(5).update(np.zeros((4, 9), np.float32))
