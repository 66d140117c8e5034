"""What an audio file is: its container, how it stores samples, its rate and its channels."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sigform_kit.errors import UsageError

SUFFIXES = {
    ".wav": "WAV",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".opus": "OGG",
    ".mp3": "MP3",
    ".aiff": "AIFF",
    ".aif": "AIFF",
    ".w64": "W64",
    ".rf64": "RF64",
    ".caf": "CAF",
}
"""The suffixes that can be written, and the container each stands for."""

MEDIA_SUFFIXES = (
    ".m4a", ".mp4", ".mov", ".m4b", ".3gp", ".aac", ".webm", ".mkv", ".mka", ".wma", ".avi",
)  # fmt: skip
"""Suffixes that are read by PyAV, the extra `media`, and not written."""

READ_SUFFIXES = (*SUFFIXES, ".oga", ".aifc", ".au", ".snd", *MEDIA_SUFFIXES)
"""What to look for in a folder."""

# Stored bits of a sample; the compressed ones are as good as the 16 bits they decode to.
_BITS = {
    "PCM_S8": 8,
    "PCM_U8": 8,
    "PCM_16": 16,
    "PCM_24": 24,
    "PCM_32": 32,
    "ULAW": 16,
    "ALAW": 16,
    "ALAC_16": 16,
    "ALAC_20": 20,
    "ALAC_24": 24,
    "ALAC_32": 32,
}
_FLOATS = ("FLOAT", "DOUBLE")
_PLAIN = ("PCM_16", "PCM_24", "PCM_32", *_FLOATS, "ULAW", "ALAW")

# The first of a container's equals is the one that others become.
_STORED = {
    "WAV": ("PCM_U8", *_PLAIN),
    "WAVEX": ("PCM_U8", *_PLAIN),
    "W64": ("PCM_U8", *_PLAIN),
    "RF64": ("PCM_U8", *_PLAIN),
    "AIFF": ("PCM_S8", *_PLAIN, "PCM_U8"),
    "CAF": ("PCM_S8", *_PLAIN, "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
}

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_VORBIS_RATE = 200_000
_FLAC_RATE = 655_350
_FLAC_ANY_RATE = 65_535


@dataclass(frozen=True, kw_only=True)
class AudioFormat:
    """How a file stores sound.

    `container` and `subtype` (of the samples) have libsndfile's names, such as WAV and PCM_16;
    for what PyAV reads, FFmpeg's names of container and codec, such as mov and aac.
    `sample_rate` is in Hz.
    """

    container: str
    subtype: str
    sample_rate: int
    channels: int

    @property
    def is_float(self) -> bool:
        """Whether samples beyond full scale, [-1, 1], are stored as they are."""
        return self.subtype in _FLOATS

    @property
    def bits(self) -> int | None:
        """The bits of a stored integer sample; None for floats and lossy codecs."""
        return _BITS.get(self.subtype)


class DamagedError(ValueError):
    """A decoder cannot go on, and says why."""


def output_format(source: AudioFormat, suffix: str) -> AudioFormat:
    """The format of a file with this suffix that stores what `source` does as well as it can.

    The sample format stays where the container has it; else it is the smallest that loses
    nothing, or the largest there is (24 bits for FLAC from float). What was lossy becomes 16 bits
    in a container of plain samples. Raises UsageError for a suffix that is not written, and for a
    rate or a number of channels that its codec does not have.
    """
    container = SUFFIXES.get(suffix.lower())
    if container is None:
        raise UsageError(f"the output's suffix is {suffix!r}; needs {', '.join(SUFFIXES)}")
    if container == "WAV" and source.container == "WAVEX":
        container = "WAVEX"
    if suffix.lower() == ".opus":
        subtype = "OPUS"
    elif source.subtype in _STORED[container]:
        subtype = source.subtype
    else:
        subtype = _nearest(source.subtype, _STORED[container])
    format = replace(source, container=container, subtype=subtype)
    check_format(format)
    return format


def check_format(format: AudioFormat) -> None:
    """Raises UsageError if the codec cannot store this rate or number of channels."""
    rate, channels = format.sample_rate, format.channels
    if format.container == "MP3":
        _need(rate in _MP3_RATES, "MP3", f"{rate} Hz", _listed(_MP3_RATES))
        _need(channels <= 2, "MP3", f"{channels} channels", "1 or 2")
    elif format.subtype == "OPUS":
        _need(rate in _OPUS_RATES, "Opus", f"{rate} Hz", _listed(_OPUS_RATES))
        _need(channels <= 255, "Opus", f"{channels} channels", "at most 255")
    elif format.subtype == "VORBIS":
        _need(rate <= _VORBIS_RATE, "Vorbis", f"{rate} Hz", f"at most {_VORBIS_RATE}")
        _need(channels <= 255, "Vorbis", f"{channels} channels", "at most 255")
    elif format.container == "FLAC":
        fits = rate <= _FLAC_ANY_RATE or (rate <= _FLAC_RATE and rate % 10 == 0)
        allowed = f"at most {_FLAC_RATE}, above {_FLAC_ANY_RATE} a multiple of 10"
        _need(fits, "FLAC", f"{rate} Hz", allowed)
        _need(channels <= 8, "FLAC", f"{channels} channels", "at most 8")
    elif format.subtype.startswith("ALAC"):
        _need(channels <= 8, "ALAC", f"{channels} channels", "at most 8")


def _need(fits: bool, codec: str, got: str, allowed: str) -> None:
    if not fits:
        raise UsageError(f"{codec} cannot store {got}; needs {allowed}. WAV stores any")


def _listed(rates: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, rates[:-1]))} or {rates[-1]}"


def _nearest(subtype: str, stored: tuple[str, ...]) -> str:
    """The first lossy codec of a container; else the integers that are just enough."""
    integers = {name: _BITS[name] for name in stored if name.startswith("PCM")}
    if not integers:
        return stored[0]
    bits = 32 if subtype in _FLOATS else _BITS.get(subtype, 16)
    # FFmpeg's names of plain samples: pcm_s24le, pcm_f32be.
    if plain := re.match(r"pcm_[suf](\d+)", subtype):
        bits = int(plain[1])
    enough = [name for name, has in integers.items() if has >= bits]
    return (
        min(enough, key=integers.__getitem__) if enough else max(integers, key=integers.__getitem__)
    )
