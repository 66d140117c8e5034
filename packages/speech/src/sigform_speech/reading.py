"""Sound from files, streams and pipes, block by block in constant memory.

libsndfile (`sndfile.py`) decodes what it knows, PyAV (`media.py`) the rest. Whatever a decoder
makes of a broken file, the outcome is one `InputError` and never part of a sound.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, Self, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from sigform_kit.errors import InputError, describe
from sigform_speech.audio import AudioFormat, DamagedError
from sigform_speech.media import MediaDecoder
from sigform_speech.sndfile import sndfile_decoder

Samples = NDArray[np.float32]
Source = str | os.PathLike[str] | BinaryIO

BLOCK = 65_536
"""Samples of each channel in a block where nobody says how many."""

MIN_RATE = 1_000
MAX_RATE = 768_000
"""Sample rates that are taken for true, in Hz."""

_SPOOLED = 64 << 20  # bytes of a pipe that are kept in memory, not in a file
_MALFORMED = 3  # libsndfile's SF_ERR_MALFORMED_FILE


class Decoder(Protocol):
    """What gives the samples of one source.

    `frames` is the length in samples, None where it is not truly known beforehand; `pieces` gives
    all samples in order, float32 (C, n), and raises DamagedError where it cannot go on.
    """

    format: AudioFormat
    frames: int | None
    notes: list[str]

    def pieces(self) -> Iterator[Samples]: ...

    def close(self) -> None: ...


class AudioReader:
    """The sound of one source, to be read once; a context manager.

    `format` is what the source stores; `frames` its length in samples, None where the container
    does not say or cannot be trusted; `notes` is what its user should know.
    """

    def __init__(self, name: str, decoder: Decoder, opened: contextlib.ExitStack) -> None:
        self.name = name
        self.format = decoder.format
        self.frames = decoder.frames
        self.notes = decoder.notes
        self._decoder = decoder
        self._opened = opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes what `open_audio` opened; a stream that was given stays open."""
        self._opened.close()

    def blocks(self, size: int = BLOCK) -> Iterator[Samples]:
        """The sound as float32 `(C, n)`, [-1, 1] being full scale; n = `size` but in the last.

        Raises InputError where the source is damaged or cut off, holds no samples at all, or a
        sample is NaN or infinite.
        """
        if size < 1:
            raise ValueError(f"block size is {size}; needs at least 1")
        waiting: list[Samples] = []
        have = 0
        for piece in self._pieces():
            waiting.append(piece)
            have += piece.shape[1]
            if have < size:
                continue
            joined = np.concatenate(waiting, axis=1)
            whole = have - have % size
            for start in range(0, whole, size):
                yield joined[:, start : start + size].copy()
            waiting = [joined[:, whole:]]
            have -= whole
        if have:
            yield np.concatenate(waiting, axis=1)

    def read(self) -> Samples:
        """The sound whole, float32 `(C, T)`. Raises InputError as `blocks` does."""
        return np.concatenate(list(self._pieces()), axis=1)

    def _pieces(self) -> Iterator[Samples]:
        """What the decoder gives, checked."""
        taken = 0
        try:
            for piece in self._decoder.pieces():
                self._check_finite(piece, taken)
                taken += piece.shape[1]
                yield piece
        except DamagedError as error:
            raise self._cut_off(taken, str(error)) from error
        if taken == 0:
            raise InputError(f"{self.name}: holds no samples")
        if self.frames is not None and taken < self.frames:
            raise self._cut_off(taken, "the rest is missing")

    def _check_finite(self, piece: Samples, taken: int) -> None:
        finite = np.isfinite(piece)
        if not finite.all():
            at = int(np.flatnonzero(~finite.all(axis=0))[0])
            value = piece[~finite[:, at], at][0]
            seconds = (taken + at) / self.format.sample_rate
            raise InputError(f"{self.name}: a sample is {value} at {seconds:.3f} s")

    def _cut_off(self, taken: int, why: str) -> InputError:
        rate = self.format.sample_rate
        whole = "" if self.frames is None else f" of {self.frames / rate:.2f} s"
        return InputError(
            f"{self.name}: damaged or cut off: its sound ends after {taken / rate:.2f} s{whole} "
            f"({why.rstrip('.')})"
        )


def open_audio(source: Source, name: str | None = None) -> AudioReader:
    """Opens a file, by its path or as a binary stream, for reading in blocks.

    `name` is what messages call a stream. What cannot seek, such as stdin, is first copied to a
    temporary file; other streams are read from their beginning. Raises InputError, in one line
    with the name, for what is missing, a folder, not permitted, empty or no audio, whose rate is
    not believable, and for media files without sound or without the extra that reads them.
    """
    with contextlib.ExitStack() as opened:
        name, stream = _stream(source, name, opened)
        decoder = _decoder(stream, name)
        opened.callback(decoder.close)
        rate = decoder.format.sample_rate
        if not MIN_RATE <= rate <= MAX_RATE:
            raise InputError(f"{name}: its rate is {rate} Hz; needs {MIN_RATE} to {MAX_RATE}")
        if decoder.frames == 0:
            raise InputError(f"{name}: holds no samples")
        return AudioReader(name, decoder, opened.pop_all())


def read_audio(source: Source, name: str | None = None) -> tuple[Samples, AudioFormat]:
    """All samples, float32 `(C, T)`, [-1, 1] being full scale, and the format.

    Raises InputError as `open_audio` and `AudioReader.blocks` do.
    """
    with open_audio(source, name) as reader:
        return reader.read(), reader.format


def _stream(source: Source, name: str | None, opened: contextlib.ExitStack) -> tuple[str, BinaryIO]:
    """The name for messages, and a stream that can seek and is not empty."""
    if isinstance(source, str | os.PathLike):
        name = name or os.fspath(source)
        if Path(source).is_dir():
            raise InputError(f"{name}: is a folder; needs a file")
    else:
        given = getattr(source, "name", None)
        name = name or (given if isinstance(given, str) else "stream")
    try:
        if isinstance(source, str | os.PathLike):
            source = opened.enter_context(Path(source).open("rb"))  # noqa: SIM115
        if not source.seekable():
            spooled = opened.enter_context(tempfile.SpooledTemporaryFile(_SPOOLED))  # noqa: SIM115
            shutil.copyfileobj(source, spooled)
            source = cast(BinaryIO, spooled)
        source.seek(0, os.SEEK_END)
        length = source.tell()
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or describe(error)}") from error
    if length == 0:
        raise InputError(f"{name}: is empty")
    return name, source


def _decoder(stream: BinaryIO, name: str) -> Decoder:
    try:
        return sndfile_decoder(stream, name)
    except (DamagedError, OSError) as error:
        raise InputError(f"{name}: {describe(error)}") from error
    except soundfile.LibsndfileError as error:
        stream.seek(0)
        # FFmpeg would leave out what is damaged, and the sound be shorter.
        if error.code == _MALFORMED and stream.read(4) == b"OggS":
            raise InputError(f"{name}: damaged or cut off: {error.error_string}") from error
        stream.seek(0)
        return MediaDecoder(stream, name)
