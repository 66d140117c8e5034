"""Sound from what libsndfile does not read: m4a, mp4, mov, webm, mkv, wma, aac and the like.

PyAV, FFmpeg in Python, decodes them; it is the extra `media`, and imported when first needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sigform_kit.errors import InputError
from sigform_speech.audio import AudioFormat, DamagedError

if TYPE_CHECKING:
    from av.container import InputContainer

INSTALL = "pip install 'sigform-speech[media]'"

# FFmpeg's other readers follow lists of further files, even on the network.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,aac,ac3,eac3,amr,ape,aiff,au,caf,dts,flac,flv,"
    "mp3,mpeg,mpegts,ogg,tta,tak,w64,wav,wv"
)
_CUT_SECONDS = 1.0
"""How much shorter than it says a track may be: edits and padding make some difference."""


class MediaDecoder:
    """The first audio track of a media file, as a `reading.Decoder`.

    The length is what the decoder gives, encoder delay included where the file does not say what
    to drop, and so is not known beforehand. Raises InputError for what is no media file or has no
    sound, and where PyAV is missing.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        try:
            import av
            from av.error import FFmpegError
        except ImportError as error:
            raise InputError(
                f"{name}: not audio that libsndfile reads; m4a, mp4, webm and others need {INSTALL}"
            ) from error
        try:
            self._container: InputContainer = av.open(
                stream,
                "r",
                container_options={"format_whitelist": _DEMUXERS},
                metadata_errors="replace",
            )
        except (FFmpegError, ValueError) as error:
            raise InputError(f"{name}: not audio that can be read") from error
        tracks = self._container.streams.audio
        if not tracks:
            self._container.close()
            raise InputError(f"{name}: has no sound")
        track = tracks[0]
        self.format = AudioFormat(
            container=self._container.format.name.split(",")[0],
            subtype=track.codec_context.name,
            sample_rate=track.rate,
            channels=track.layout.nb_channels,
        )
        self.frames: int | None = None
        self.notes: list[str] = []
        if len(tracks) > 1:
            self.notes.append(f"{name}: has {len(tracks)} audio tracks; the first is taken")
        self._track = track

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """All samples, float32 (C, n), at the one rate and layout with which the track starts.

        Raises DamagedError.
        """
        from av import AudioResampler
        from av.error import FFmpegError

        track = self._track
        planes = AudioResampler(format="fltp", layout=track.layout, rate=track.rate)
        taken = 0
        try:
            for frame in itertools.chain(self._container.decode(track), [None]):
                for part in planes.resample(frame):
                    taken += part.samples
                    yield np.asarray(part.to_ndarray(), np.float32)
        except FFmpegError as error:
            raise DamagedError(error.strerror) from error
        announced = self._announced()
        if announced - taken / track.rate > _CUT_SECONDS:
            raise DamagedError(f"{announced:.2f} s announced")

    def close(self) -> None:
        self._container.close()

    def _announced(self) -> float:
        """The seconds of sound there should be; 0 where the container does not truly know."""
        track, container = self._track, self._container
        if self.format.container == "mov" and track.duration and track.time_base:
            return float(track.duration * track.time_base)
        if self.format.container == "matroska" and len(container.streams) == 1:
            return (container.duration or 0) / 1_000_000
        return 0.0
