# /// script
# requires-python = ">=3.11"
# dependencies = ["espeakng-loader==0.2.4", "numpy>=2.0", "soundfile>=0.13.1", "soxr>=1.0"]
# ///
"""Makes examples/two_voices.flac and the two voices in it: `uv run scripts/make_two_voices.py`.

Two voices of the formant synthesiser eSpeak NG read sentences of ours; the man begins while the
woman speaks, and goes on when she has ended. Every run gives the same samples.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import espeakng_loader
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE = 8000  # Hz
SECONDS = 11.0
LEVEL = -24.0  # dBFS of each voice while it speaks
SYNCHRONOUS, CHARS_UTF8 = 2, 1
SPEED, PITCH, RANGE = 1, 3, 4


@dataclass(frozen=True, kw_only=True)
class Voice:
    name: str
    begins: float  # seconds
    speed: int  # words per minute
    pitch: int  # 0 to 100
    text: str


VOICES = (
    Voice(
        name="en+f1",
        begins=0.3,
        speed=160,
        pitch=55,
        text="The ferry to the islands leaves at nine, so we should load the boat tonight. "
        "Bring a warm coat along, for the wind is cold out on the water.",
    ),
    Voice(
        name="en-us+m3",
        begins=2.4,
        speed=150,
        pitch=35,
        text="My neighbour grows apples behind the old mill. Every autumn he gives a basket "
        "of them to anybody who happens to walk by his gate.",
    ),
)


def main() -> None:
    folder = Path(__file__).resolve().parents[1] / "examples"
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    # Breath is random noise.
    library.espeak_ng_SetRandSeed(1)
    voices = [placed(speak(library, voice), rate, voice.begins) for voice in VOICES]
    for number, voice in enumerate(voices, 1):
        soundfile.write(folder / f"two_voices_speaker{number}.flac", voice, RATE)
    soundfile.write(folder / "two_voices.flac", voices[0] + voices[1], RATE)


def speak(library: ctypes.CDLL, voice: Voice) -> NDArray[np.int16]:
    """The text in this voice, at the synthesiser's own rate."""
    blocks: list[NDArray[np.int16]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.c_void_p)
    def take(samples: ctypes._Pointer[ctypes.c_int16], count: int, _: object) -> int:
        if samples and count:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(take)
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice {voice.name!r}")
    for parameter, value in ((SPEED, voice.speed), (PITCH, voice.pitch), (RANGE, 60)):
        library.espeak_SetParameter(parameter, value, 0)
    text = voice.text.encode()
    library.espeak_Synth(text, len(text) + 1, 0, 1, 0, CHARS_UTF8, None, None)
    return np.concatenate(blocks)


def placed(speech: NDArray[np.int16], rate: int, begins: float) -> NDArray[np.int16]:
    """The voice at 8 kHz and its level, from where it begins, in silence of the whole length."""
    resampled = soxr.resample(speech / 32768, rate, RATE)
    spoken = resampled[np.abs(resampled) > 1e-3]
    gain = 10 ** (LEVEL / 20) / np.sqrt(np.mean(spoken**2))
    place = np.zeros(round(SECONDS * RATE), np.int16)
    start = round(begins * RATE)
    voice = np.round(resampled * gain * 32767).astype(np.int16)
    if start + len(voice) > len(place):
        raise ValueError(f"the text ends at {(start + len(voice)) / RATE:.1f} s; needs {SECONDS}")
    place[start : start + len(voice)] = voice
    return place


if __name__ == "__main__":
    main()
