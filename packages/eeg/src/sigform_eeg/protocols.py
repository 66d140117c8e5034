"""What is trained on and what is tested: fixed rules, no trial on both sides.

CO, CV and LOSO are the settings of arXiv 2506.21140. Trials are named by subject and index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigform_eeg.trials import Trials
from sigform_kit.errors import InputError

Part = tuple[str, NDArray[np.int64]]
"""A subject and indices of its trials, in time order."""

PROTOCOLS = ("co", "cv", "loso", "held-out", "runs")


@dataclass(frozen=True, kw_only=True)
class Fold:
    """What one model is trained on and tested on."""

    name: str
    train: tuple[Part, ...]
    test: tuple[Part, ...]


def folds_of(protocol: str, subjects: Sequence[Trials]) -> list[Fold]:
    """The folds of a protocol in PROTOCOLS. Raises ValueError for another name."""
    makers = {
        "co": co_folds,
        "cv": cv_folds,
        "loso": loso_folds,
        "held-out": held_out_folds,
        "runs": leave_one_run_out,
    }
    if protocol not in makers:
        raise ValueError(f"protocol is {protocol!r}; needs one of {', '.join(PROTOCOLS)}")
    return makers[protocol](subjects)


def co_folds(subjects: Sequence[Trials], share: float = 0.8) -> list[Fold]:
    """Within a session, chronological: the first `share` of each class trains, the rest tests.

    One fold for each subject. Raises InputError for a subject with too few trials.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; needs a share between 0 and 1")
    folds = []
    for trials in subjects:
        early = np.zeros(len(trials), bool)
        for label in range(len(trials.classes)):
            index = np.flatnonzero(trials.labels == label)
            early[index[: round(share * len(index))]] = True
        folds.append(_within(trials, f"{trials.subject}", early))
    return folds


def cv_folds(subjects: Sequence[Trials], count: int = 5) -> list[Fold]:
    """Cross-validation within each subject: `count` stretches of time, each tested once.

    Raises InputError for a subject with too few trials.
    """
    if count < 2:
        raise ValueError(f"count is {count}; needs 2 folds or more")
    folds = []
    for trials in subjects:
        if len(trials) < count:
            raise InputError(
                f"{trials.subject}: too few trials ({len(trials)}); needs {count} for the folds"
            )
        for number, index in enumerate(np.array_split(np.arange(len(trials)), count)):
            keep = np.ones(len(trials), bool)
            keep[index] = False
            folds.append(_within(trials, f"{trials.subject} fold {number + 1}", keep))
    return folds


def leave_one_run_out(subjects: Sequence[Trials]) -> list[Fold]:
    """Within each subject, every recording tested by a model of the others.

    Raises InputError for a subject with a single recording.
    """
    folds = []
    for trials in subjects:
        runs = np.unique(trials.runs)
        if len(runs) < 2:
            raise InputError(f"{trials.subject}: has one recording; needs two to leave one out")
        folds += [
            _within(trials, f"{trials.subject} run {run}", trials.runs != run) for run in runs
        ]
    return folds


def loso_folds(subjects: Sequence[Trials]) -> list[Fold]:
    """Every subject tested by a model of the others. Raises InputError for a single subject."""
    if len(subjects) < 2:
        raise InputError(f"{_names(subjects)}: one subject only; needs two to leave one out")
    return [
        Fold(
            name=held.subject,
            train=tuple(_all(other) for other in subjects if other is not held),
            test=(_all(held),),
        )
        for held in subjects
    ]


def held_out_folds(subjects: Sequence[Trials], every: int = 5) -> list[Fold]:
    """One fold: every fifth subject by name is tested by a model of the others.

    Raises InputError for fewer than `every` subjects.
    """
    if every < 2:
        raise ValueError(f"every is {every}; needs 2 or more")
    ordered = sorted(subjects, key=lambda trials: trials.subject)
    if len(ordered) < every:
        raise InputError(
            f"{_names(ordered)}: {len(ordered)} subjects; needs {every} to hold every {every}th out"
        )
    return [
        Fold(
            name=f"every {every}th subject",
            train=tuple(_all(one) for n, one in enumerate(ordered) if (n + 1) % every),
            test=tuple(_all(one) for n, one in enumerate(ordered) if not (n + 1) % every),
        )
    ]


def chosen(subjects: Sequence[Trials], parts: Sequence[Part]) -> list[Trials]:
    """The trials of one side of a fold, subject by subject.

    Raises ValueError for a subject that is not among them.
    """
    known = {trials.subject: trials for trials in subjects}
    for name, _ in parts:
        if name not in known:
            raise ValueError(f"subject is {name!r}; needs one of {', '.join(known)}")
    return [known[name].select(index) for name, index in parts]


def _within(trials: Trials, name: str, train: NDArray[np.bool_]) -> Fold:
    for side, mask in (("train on", train), ("test", ~train)):
        if not mask.any():
            raise InputError(f"{name}: too few trials ({len(trials)}): none left to {side}")
    missing = [
        trials.classes[label]
        for label in np.setdiff1d(np.unique(trials.labels), np.unique(trials.labels[train]))
    ]
    if missing:
        raise InputError(f"{name}: too few trials of {', '.join(missing)}: none left to train on")
    return Fold(
        name=name,
        train=((trials.subject, np.flatnonzero(train)),),
        test=((trials.subject, np.flatnonzero(~train)),),
    )


def _all(trials: Trials) -> Part:
    return trials.subject, np.arange(len(trials))


def _names(subjects: Sequence[Trials]) -> str:
    return ", ".join(trials.subject for trials in subjects) or "no subjects"
