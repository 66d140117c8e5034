"""Scores: equal to scikit-learn's, and honest about what is not defined."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from sigform_eeg.metrics import Result, confusion, interval, scores, summary


def said(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities somewhat better than chance, and labels of unequal number."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    raw = rng.random((count, classes)) + 0.4 * np.eye(classes)[labels]
    return raw / raw.sum(1, keepdims=True), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_equal_scikit_learns(classes: int) -> None:
    probabilities, labels = said(200, classes)
    decoded = probabilities.argmax(1)
    made = scores(probabilities, labels)
    assert made["accuracy"] == pytest.approx(reference.accuracy_score(labels, decoded), abs=1e-6)
    assert made["balanced_accuracy"] == pytest.approx(
        reference.balanced_accuracy_score(labels, decoded), abs=1e-6
    )
    assert made["kappa"] == pytest.approx(reference.cohen_kappa_score(labels, decoded), abs=1e-6)
    given = probabilities[:, 1] if classes == 2 else probabilities
    expected = reference.roc_auc_score(labels, given, multi_class="ovr")
    assert made["auroc"] == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(
        confusion(probabilities, labels), reference.confusion_matrix(labels, decoded)
    )


def test_one_class_leaves_some_undefined_and_warns_of_nothing() -> None:
    probabilities, _ = said(10, 2)
    made = scores(probabilities, np.zeros(10, int))
    assert made["kappa"] is None
    assert made["auroc"] is None
    assert made["accuracy"] == made["balanced_accuracy"]


def test_absent_classes_count_in_nothing() -> None:
    probabilities = np.eye(3)[[0, 1, 0, 1]] * 0.8 + 0.1
    made = scores(probabilities, np.array([0, 1, 0, 1]))
    assert made == {"accuracy": 1.0, "balanced_accuracy": 1.0, "kappa": 1.0, "auroc": 1.0}


def test_intervals_are_students() -> None:
    made = interval([0.6, 0.7, 0.8])
    assert made["mean"] == pytest.approx(0.7)
    assert made["low"] == pytest.approx(0.7 - 4.302653 * 0.1 / np.sqrt(3), abs=1e-6)
    assert made["folds"] == 3
    assert interval([0.6]) == {"mean": 0.6, "low": None, "high": None, "folds": 1}
    assert interval([0.9, 1.0])["high"] == 1.0


def test_the_summary_is_by_fold_by_subject_and_in_all() -> None:
    results = []
    for seed, (fold, subject) in enumerate([("a", "S1"), ("b", "S1"), ("a", "S2")]):
        probabilities, labels = said(30, 2, seed)
        results.append(
            Result(fold=fold, subject=subject, labels=labels, probabilities=probabilities)
        )
    made = summary(results, ("left", "right"))
    assert json.loads(json.dumps(made)) == made
    assert [fold["subject"] for fold in made["folds"]] == ["S1", "S1", "S2"]
    assert made["subjects"]["S1"]["accuracy"]["folds"] == 2
    assert made["subjects"]["S2"]["accuracy"]["low"] is None
    means = [fold["accuracy"] for fold in made["folds"]]
    assert made["all"]["accuracy"]["mean"] == pytest.approx(np.mean(means))
    assert np.sum(made["confusion"]) == made["trials"] == 90
    assert made["chance"] == pytest.approx(sum((one.labels == 1).sum() for one in results) / 90)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"probabilities have shape \(3, 2\) and labels \(2,\)"):
        scores(np.ones((3, 2)), np.zeros(2, int))
    with pytest.raises(ValueError, match="probabilities are not finite"):
        scores(np.full((3, 2), np.nan), np.zeros(3, int))
    with pytest.raises(ValueError, match="there are no results"):
        summary([], ("left", "right"))
