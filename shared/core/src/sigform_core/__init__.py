"""What every sigform domain stands on: transformer parts, weight files and training.

Importing this does not import torch; each name below brings in its module when first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

# Huge pages under large tensors, where Linux has them; torch asks once, when it first allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from sigform_core.attention import attend
    from sigform_core.device import (
        generator,
        pick_device,
        pick_dtype,
        precision_for,
        set_threads,
    )
    from sigform_core.download import DownloadError
    from sigform_core.positions import sinusoidal_positions
    from sigform_core.reference import load_reference, read_config
    from sigform_core.training import (
        StepSampler,
        TrainingInterrupted,
        TrainResult,
        TrainSettings,
        fit,
    )
    from sigform_core.weights import (
        Published,
        WeightFile,
        cache_folder,
        load_torch_checkpoint,
        load_weights,
        resolve,
        save_weights,
    )

__all__ = [
    "DownloadError",
    "Published",
    "StepSampler",
    "TrainResult",
    "TrainSettings",
    "TrainingInterrupted",
    "WeightFile",
    "attend",
    "cache_folder",
    "fit",
    "generator",
    "load_reference",
    "load_torch_checkpoint",
    "load_weights",
    "pick_device",
    "pick_dtype",
    "precision_for",
    "read_config",
    "resolve",
    "save_weights",
    "set_threads",
    "sinusoidal_positions",
]

_MODULES = {
    "attention": ["attend"],
    "device": ["generator", "pick_device", "pick_dtype", "precision_for", "set_threads"],
    # `download` itself would be hidden by the module of that name.
    "download": ["DownloadError"],
    "positions": ["sinusoidal_positions"],
    "reference": ["load_reference", "read_config"],
    "training": ["StepSampler", "TrainResult", "TrainSettings", "TrainingInterrupted", "fit"],
    "weights": [
        "Published",
        "WeightFile",
        "cache_folder",
        "load_torch_checkpoint",
        "load_weights",
        "resolve",
        "save_weights",
    ],
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
