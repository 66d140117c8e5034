"""Decode EEG recordings and streams with DBConformer and LMUFormer, also spiking.

    from sigform_eeg import Decoder

    decoder = Decoder.load()
    windows = decoder("session.edf")         # a path, or an MNE Raw
    windows.times, windows.probabilities     # (n,) seconds, (n, classes)
    session = decoder.stream(250.0)          # session.push(chunk) -> posteriors

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigform_eeg.alignment import OnlineAligner, align_trials
    from sigform_eeg.baselines import CspLda
    from sigform_eeg.dbconformer import DBConformer
    from sigform_eeg.decoder import Decoder, Windows
    from sigform_eeg.eeg_lmuformer import EEGLMUFormer
    from sigform_eeg.fitting import Plan, fit_subjects, make_setup
    from sigform_eeg.lmuformer import LMUFormer, SpikingLMUFormer
    from sigform_eeg.preprocessing import Preprocessing, prepare
    from sigform_eeg.reading import read_trials
    from sigform_eeg.sessions import Posterior, Session
    from sigform_eeg.training import Recipe
    from sigform_eeg.trials import Trials

__all__ = [
    "CspLda",
    "DBConformer",
    "Decoder",
    "EEGLMUFormer",
    "LMUFormer",
    "OnlineAligner",
    "Plan",
    "Posterior",
    "Preprocessing",
    "Recipe",
    "Session",
    "SpikingLMUFormer",
    "Trials",
    "Windows",
    "align_trials",
    "fit_subjects",
    "make_setup",
    "prepare",
    "read_trials",
]

_HOMES = {
    "CspLda": "baselines",
    "DBConformer": "dbconformer",
    "Decoder": "decoder",
    "EEGLMUFormer": "eeg_lmuformer",
    "LMUFormer": "lmuformer",
    "OnlineAligner": "alignment",
    "Plan": "fitting",
    "Posterior": "sessions",
    "Preprocessing": "preprocessing",
    "Recipe": "training",
    "Session": "sessions",
    "SpikingLMUFormer": "lmuformer",
    "Trials": "trials",
    "Windows": "decoder",
    "align_trials": "alignment",
    "fit_subjects": "fitting",
    "make_setup": "fitting",
    "prepare": "preprocessing",
    "read_trials": "reading",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"sigform_eeg.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
