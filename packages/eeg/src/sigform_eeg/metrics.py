"""How well trials were decoded: per fold, per subject and in all, with confidence intervals.

Scores come from probabilities (n, K) and labels (n,), by torchmetrics.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METRICS = ("accuracy", "balanced_accuracy", "kappa", "auroc")

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a model said of one subject's trials in one fold."""

    fold: str
    subject: str
    labels: NDArray[np.int64]  # (n,)
    probabilities: NDArray[np.float64]  # (n, K)


def scores(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> dict[str, float | None]:
    """Accuracy, balanced accuracy, Cohen's kappa and AUROC (one against the rest, mean).

    Classes without a trial count in none of them; what is not defined, as AUROC for trials of one
    class, is None. Raises ValueError for shapes that do not fit and for values not finite.
    """
    import torch
    from torchmetrics.functional.classification import (
        binary_auroc,
        multiclass_accuracy,
        multiclass_cohen_kappa,
    )

    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            f"probabilities have shape {probabilities.shape} and labels {labels.shape}; "
            "needs (n, classes) and (n,), n of 1 or more"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities are not finite; needs numbers")
    count = probabilities.shape[1]
    target = torch.from_numpy(np.asarray(labels, np.int64))
    given = torch.from_numpy(np.ascontiguousarray(probabilities, np.float64))
    present = target.unique().tolist()
    recalls = multiclass_accuracy(given, target, count, average="none")[present]
    several = len(present) > 1
    areas = [binary_auroc(given[:, k], (target == k).long()) for k in present] if several else []
    made = {
        "accuracy": float(multiclass_accuracy(given, target, count, average="micro")),
        "balanced_accuracy": float(recalls.mean()),
        "kappa": float(multiclass_cohen_kappa(given, target, count)) if several else None,
        "auroc": float(torch.stack(areas).mean()) if several else None,
    }
    # torchmetrics counts in single precision.
    return {name: None if value is None else round(value, 6) for name, value in made.items()}


def confusion(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Trials by class and by what was decoded: (K, K)."""
    count = probabilities.shape[1]
    made = np.zeros((count, count), np.int64)
    np.add.at(made, (np.asarray(labels), probabilities.argmax(axis=1)), 1)
    return made


def interval(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean of folds and its confidence interval by Student's t; none for a single fold."""
    from scipy import stats

    mean, count = float(np.mean(values)), len(values)
    low = high = None
    if count > 1:
        half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * np.std(values, ddof=1)
        half = float(half / np.sqrt(count))
        low, high = mean - half, min(1.0, mean + half)
    return {"mean": mean, "low": low, "high": high, "folds": count}


def summary(results: Iterable[Result], classes: Sequence[str]) -> dict[str, Any]:
    """Plain values for JSON: `folds`, `subjects` and `all`, and the confusion over all trials.

    A fold that tests several subjects counts once for each. `chance` is the share of the most
    frequent class. Raises ValueError without results.
    """
    listed = list(results)
    if not listed:
        raise ValueError("there are no results; needs one or more")
    folds = [
        {
            "fold": one.fold,
            "subject": one.subject,
            "trials": len(one.labels),
            **scores(one.probabilities, one.labels),
        }
        for one in listed
    ]
    by_subject: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for fold in folds:
        by_subject[fold["subject"]].append(fold)
    labels = np.concatenate([one.labels for one in listed])
    together = sum(confusion(one.probabilities, one.labels) for one in listed)
    return {
        "classes": list(classes),
        "trials": len(labels),
        "chance": float(np.bincount(labels).max() / len(labels)),
        "confidence": CONFIDENCE,
        "all": _intervals(folds),
        "subjects": {name: _intervals(own) for name, own in by_subject.items()},
        "folds": folds,
        "confusion": np.asarray(together).tolist(),
    }


def _intervals(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in METRICS:
        values = [fold[name] for fold in folds if fold[name] is not None]
        made[name] = interval(values) if values else None
    return made
