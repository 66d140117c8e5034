"""Common spatial patterns with linear discriminant analysis: what a network has to beat."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sigform_eeg.trials import Trials, concatenate


class CspLda:
    """CSP (Ramoser et al. 2000) by MNE, log-power of `n_components`, then LDA by scikit-learn.

    It takes prepared trials, aligned or not; several subjects are pooled.
    """

    def __init__(self, n_components: int = 6) -> None:
        if n_components < 1:
            raise ValueError(f"n_components is {n_components}; needs 1 or more")
        self.n_components = n_components
        self._pipeline: Any = None
        self._classes: tuple[str, ...] = ()

    def fit(self, trials: Trials | Sequence[Trials]) -> Self:
        """Raises ValueError for trials of one class only."""
        from mne.decoding import CSP
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.pipeline import make_pipeline

        pooled = trials if isinstance(trials, Trials) else concatenate(list(trials))
        if len(np.unique(pooled.labels)) < 2:
            raise ValueError(f"trials of {pooled.subject} are of one class; needs two or more")
        csp = CSP(n_components=min(self.n_components, len(pooled.channels)), log=True)
        self._pipeline = make_pipeline(csp, LinearDiscriminantAnalysis())
        self._classes = pooled.classes
        with _quiet():
            self._pipeline.fit(pooled.signals.astype(np.float64), pooled.labels)
        return self

    def predict_proba(self, trials: Trials) -> NDArray[np.float64]:
        """(n, K), a column for each of the classes; 0 for one that was not trained on.

        Raises ValueError before `fit`.
        """
        if self._pipeline is None:
            raise ValueError("the baseline is not fitted; needs fit first")
        made = np.zeros((len(trials), len(self._classes)))
        if len(trials):
            with _quiet():
                known = self._pipeline.predict_proba(trials.signals.astype(np.float64))
            made[:, self._pipeline[-1].classes_] = known
        return made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No lines of MNE's and no warnings about collinear features, which LDA copes with."""
    from mne import use_log_level

    with use_log_level("ERROR"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
