"""Separate the speakers of a recording with MossFormer and MossFormer2.

    from sigform_speech import Separator

    separator = Separator.load()
    voices = separator("meeting.wav")        # or an array: (T,) or (C, T), with its rate in Hz
    voices.speakers                          # (S, C, T), float32, at the rate of the recording
    voices.write("meeting.wav")              # meeting_speaker1.wav, meeting_speaker2.wav

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigform_speech.metrics import score, si_sdr
    from sigform_speech.mossformer import MossFormer, MossFormerConfig
    from sigform_speech.mossformer2 import MossFormer2, MossFormer2Config
    from sigform_speech.protocol import evaluation_mixtures, measure
    from sigform_speech.reading import open_audio, read_audio
    from sigform_speech.separator import Separated, Separator
    from sigform_speech.writing import write_audio

__all__ = [
    "MossFormer",
    "MossFormer2",
    "MossFormer2Config",
    "MossFormerConfig",
    "Separated",
    "Separator",
    "evaluation_mixtures",
    "measure",
    "open_audio",
    "read_audio",
    "score",
    "si_sdr",
    "write_audio",
]

_HOMES = {
    "MossFormer": "mossformer",
    "MossFormer2": "mossformer2",
    "MossFormer2Config": "mossformer2",
    "MossFormerConfig": "mossformer",
    "Separated": "separator",
    "Separator": "separator",
    "evaluation_mixtures": "protocol",
    "measure": "protocol",
    "open_audio": "reading",
    "read_audio": "reading",
    "score": "metrics",
    "si_sdr": "metrics",
    "write_audio": "writing",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"sigform_speech.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
