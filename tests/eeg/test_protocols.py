"""Folds: fixed rules, nobody on both sides, the past before the future."""

from __future__ import annotations

import numpy as np
import pytest
from eeg.files import trials

from sigform_eeg.protocols import (
    PROTOCOLS,
    chosen,
    co_folds,
    cv_folds,
    folds_of,
    held_out_folds,
    leave_one_run_out,
    loso_folds,
)
from sigform_kit import InputError

PEOPLE = [trials(20, subject=f"S{n:02d}", seconds=0.1, runs=4) for n in range(1, 12)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_trial_is_on_both_sides(protocol: str) -> None:
    for fold in folds_of(protocol, PEOPLE):
        train = {(name, int(i)) for name, index in fold.train for i in index}
        test = {(name, int(i)) for name, index in fold.test for i in index}
        assert train
        assert test
        assert not train & test


def test_chronological_folds_test_the_last_fifth_of_each_class() -> None:
    labels = np.array([0] * 10 + [1] * 10)
    (fold,) = co_folds([trials(20, labels=labels, seconds=0.1)])
    assert fold.test[0][1].tolist() == [8, 9, 18, 19]
    assert len(co_folds(PEOPLE)) == 11


def test_cross_validation_tests_every_trial_once_in_stretches() -> None:
    folds = cv_folds(PEOPLE[:1])
    assert [fold.test[0][1].tolist() for fold in folds] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19],
    ]  # fmt: skip


def test_loso_leaves_one_subject_out() -> None:
    folds = loso_folds(PEOPLE)
    assert [fold.test[0][0] for fold in folds] == [one.subject for one in PEOPLE]
    assert all(fold.name not in {name for name, _ in fold.train} for fold in folds)
    assert all(len(fold.train) == 10 for fold in folds)


def test_every_fifth_subject_is_held_out_whatever_the_order() -> None:
    (fold,) = held_out_folds(PEOPLE[::-1])
    assert [name for name, _ in fold.test] == ["S05", "S10"]
    assert len(fold.train) == 9


def test_every_run_is_left_out() -> None:
    folds = leave_one_run_out(PEOPLE[:2])
    assert [fold.name for fold in folds[:4]] == [f"S01 run {n}" for n in range(4)]
    kept, left = chosen(PEOPLE, folds[1].train)[0], chosen(PEOPLE, folds[1].test)[0]
    assert set(left.runs) == {1}
    assert 1 not in kept.runs
    assert len(kept) + len(left) == 20


def test_too_little_is_refused() -> None:
    with pytest.raises(InputError, match="S01: one subject only; needs two"):
        loso_folds(PEOPLE[:1])
    with pytest.raises(InputError, match="4 subjects; needs 5"):
        held_out_folds(PEOPLE[:4])
    with pytest.raises(InputError, match="S1: has one recording; needs two"):
        leave_one_run_out([trials(8, runs=1, seconds=0.1)])
    with pytest.raises(InputError, match=r"S1: too few trials \(3\); needs 5"):
        cv_folds([trials(3, seconds=0.1)])
    with pytest.raises(InputError, match="S1 fold 1: too few trials of left: none left to train"):
        cv_folds([trials(10, labels=np.array([0] * 2 + [1] * 8), seconds=0.1)])
    with pytest.raises(InputError, match=r"S1: too few trials \(2\): none left to test"):
        co_folds([trials(2, seconds=0.1)])
    with pytest.raises(ValueError, match="protocol is 'tco'; needs one of co, cv"):
        folds_of("tco", PEOPLE)
    with pytest.raises(ValueError, match="subject is 'S99'"):
        chosen(PEOPLE, [("S99", np.arange(2))])
