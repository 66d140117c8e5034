"""CSP+LDA: decodes what can be decoded, and comes to the numbers measured elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from eeg.files import fixtures, trials

from sigform_eeg.alignment import align_trials
from sigform_eeg.baselines import CspLda
from sigform_eeg.preprocessing import Preprocessing, prepare
from sigform_eeg.protocols import chosen, leave_one_run_out
from sigform_eeg.reading import read_epochs
from sigform_eeg.trials import concatenate

SPEC = Preprocessing(low=8.0, high=30.0, start=0.5, stop=3.5)


def lively(count: int = 40, seed: int = 0) -> np.ndarray:
    """Noise, twice as strong at C3 for left and at C4 for right."""
    signals = trials(count, seed=seed, seconds=1.0).signals.copy()
    signals[0::2, 3] *= 2
    signals[1::2, 5] *= 2
    return signals


def test_it_decodes_power_and_nothing_else() -> None:
    train = trials(40, signals=lively(), seconds=1.0)
    test = trials(40, signals=lively(seed=1), seconds=1.0)
    probabilities = CspLda().fit(train).predict_proba(test)
    assert probabilities.shape == (40, 2)
    assert np.allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == test.labels).mean() > 0.95
    blind = CspLda().fit(trials(40, seconds=1.0)).predict_proba(test)
    assert (blind.argmax(1) == test.labels).mean() < 0.8


def test_several_subjects_are_pooled() -> None:
    one = trials(20, signals=lively(20), seconds=1.0)
    other = trials(20, signals=lively(20, seed=2), seconds=1.0, subject="S2")
    pooled = CspLda().fit(concatenate([one, other])).predict_proba(one)
    assert np.array_equal(CspLda().fit([one, other]).predict_proba(one), pooled)


def test_a_class_never_seen_has_no_probability() -> None:
    three = trials(40, signals=lively(), seconds=1.0, classes=("left", "right", "feet"))
    probabilities = CspLda().fit(three).predict_proba(three)
    assert probabilities.shape == (40, 3)
    assert not probabilities[:, 2].any()


def test_channels_without_full_rank_are_no_obstacle() -> None:
    signals = lively()
    signals -= signals.mean(axis=1, keepdims=True)
    train = trials(40, signals=signals, seconds=1.0)
    assert (CspLda().fit(train).predict_proba(train).argmax(1) == train.labels).mean() > 0.9


def test_what_cannot_be_fitted_is_refused() -> None:
    one_class = trials(20)
    with pytest.raises(ValueError, match="trials of S1 are of one class"):
        CspLda().fit(one_class.select(one_class.labels == 0))
    with pytest.raises(ValueError, match="needs fit first"):
        CspLda().predict_proba(one_class)
    with pytest.raises(ValueError, match="n_components is 0"):
        CspLda(0)


@pytest.mark.parametrize(("subject", "measured"), [("sub-001", 0.756), ("sub-010", 0.778)])
def test_within_subjects_it_comes_to_what_was_measured(subject: str, measured: float) -> None:
    path: Path = fixtures("data/eeg/eegmmi22") / f"{subject}.npz"
    ready = [prepare(read_epochs(path), SPEC)]
    right = 0
    for fold in leave_one_run_out(ready):
        (test,) = chosen(ready, fold.test)
        said = CspLda().fit(chosen(ready, fold.train)).predict_proba(test)
        right += int((said.argmax(1) == test.labels).sum())
    assert right / 90 == pytest.approx(measured, abs=0.04)


def test_alignment_is_what_lets_it_cross_subjects() -> None:
    folder = fixtures("data/eeg/eegmmi22")
    names = ("001", "002", "004", "010", "013")
    ready = [prepare(read_epochs(folder / f"sub-{name}.npz"), SPEC) for name in names]
    reached = {}
    for how in ("none", "subject"):
        aligned = [one.with_signals(align_trials(one.signals, how)[0]) for one in ready]
        model = CspLda().fit(aligned[1:])
        reached[how] = (model.predict_proba(aligned[0]).argmax(1) == aligned[0].labels).mean()
    assert reached["subject"] > reached["none"] + 0.05
    assert reached["subject"] > 0.65
