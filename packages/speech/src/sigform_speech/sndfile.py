"""Sound through libsndfile: WAV, FLAC, OGG, MP3, AIFF, CAF, W64 and its other formats."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from sigform_kit.errors import describe
from sigform_speech.audio import AudioFormat, DamagedError
from sigform_speech.interrupts import InterruptsHeld

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE = 4_096  # frames; after damage the rest of a piece is lost

# Streaming recorders write a length near 2^31 or 2^32 when they do not know it.
_PLACEHOLDER = 0x7FFF_0000

# An MP3 frame has at most 20 times the bits of another one at its rate.
_STRETCH = 64
_ID3V1 = 128


def sndfile_decoder(stream: BinaryIO, name: str) -> SoundFileDecoder:
    """libsndfile on a stream, with the cases put right in which it would lose sound.

    Raises soundfile.LibsndfileError for what it does not know, DamagedError where the stream fails.
    """
    notes: list[str] = []
    if data := _data_chunk(stream):
        start, size, present = data
        if size == 0 and present:
            everything = {start - 4: b"\xff\xff\xff\xff"}
            return SoundFileDecoder(_View(stream, replaced=everything), notes)
        if present < size < _PLACEHOLDER:
            share = present / size
            notes.append(f"{name}: holds {share:.1%} of the sound it announces; cut off?")
    decoder = SoundFileDecoder(_View(stream), notes)
    if decoder.format.container == "MP3" and not _counts_frames(stream):
        # The length is then a guess from the first frame's bits, and libsndfile stops there.
        decoder.close()
        decoder = SoundFileDecoder(_View(stream, stretch=_STRETCH), notes)
        decoder.frames = None
    return decoder


class SoundFileDecoder:
    """A `Decoder` by libsndfile. Raises soundfile.LibsndfileError for what it does not know."""

    def __init__(self, view: _View, notes: list[str]) -> None:
        self._view = view
        try:
            with InterruptsHeld():
                self._file = _ForwardFile(cast(BinaryIO, view))
        except soundfile.LibsndfileError:
            view.raise_failure()
            raise
        self.format = AudioFormat(
            container=self._file.format,
            subtype=self._file.subtype,
            sample_rate=self._file.samplerate,
            channels=self._file.channels,
        )
        # FLAC from a pipe does not know its length, which then is the largest number.
        self.frames = self._file.frames if self._file.frames < 2**62 else None
        self.notes = notes

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """All samples in order, float32 (C, n). Raises DamagedError."""
        while True:
            try:
                with InterruptsHeld():
                    piece = self._file.read(_PIECE, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                self._view.raise_failure()
                raise DamagedError(error.error_string.removeprefix("Error : ")) from error
            self._view.raise_failure()
            if not len(piece):
                return
            yield np.ascontiguousarray(piece.T, np.float32)

    def close(self) -> None:
        with InterruptsHeld():
            self._file.close()


class _ForwardFile(soundfile.SoundFile):
    """soundfile seeks after every block, which costs Opus its state and fails on piped FLAC."""

    def seekable(self) -> bool:
        return False


class _View(io.RawIOBase):
    """A stream as libsndfile is to see it: without a name, from whose suffix it would judge it.

    Some bytes may be `replaced`, and it may be said to be `stretch` times as long; nothing is
    read in what was added, except the zeros where mpg123 looks for an ID3v1 tag. What
    reading raised, Ctrl-C included, is raised by `raise_failure`, as callbacks of C cannot.
    """

    def __init__(
        self, stream: BinaryIO, *, replaced: dict[int, bytes] | None = None, stretch: int = 1
    ) -> None:
        self._failure: BaseException | None = None
        self._stream = stream
        self._replaced = replaced or {}
        self._real = stream.seek(0, os.SEEK_END)
        self._end = self._real * stretch
        self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        wanted = memoryview(buffer).cast("B")
        if self._end > self._real and self._at >= self._end - _ID3V1:
            data = bytearray(min(len(wanted), self._end - self._at))
        else:
            data = bytearray(self._from_stream(len(wanted)))
        for offset, new in self._replaced.items():
            if self._at <= offset and offset + len(new) <= self._at + len(data):
                data[offset - self._at : offset - self._at + len(new)] = new
        self._at += len(data)
        wanted[: len(data)] = data
        return len(data)

    def _from_stream(self, size: int) -> bytes:
        try:
            self._stream.seek(min(self._at, self._real))
            return self._stream.read(size)
        except BaseException as error:  # noqa: BLE001 - it is raised later
            self._failure = error
            return b""

    def raise_failure(self) -> None:
        if isinstance(self._failure, OSError):
            raise DamagedError(describe(self._failure)) from self._failure
        if self._failure is not None:
            raise self._failure


def _data_chunk(stream: BinaryIO) -> tuple[int, int, int] | None:
    """Where a WAV file's samples start, how many bytes it says they are, and how many there are.

    What follows a chunk of size 0 is samples unless it is whole chunks to the end of the file.
    None if this is no WAV file, or has no such chunk.
    """
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    data = None
    at = 12
    while at + 8 <= end:
        stream.seek(at)
        chunk = stream.read(8)
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data" and data is None:
            data = at + 8, size, end - at - 8
            if size:
                return data
        at += 8 + size + size % 2
    if data is not None and at in (end, end + 1):
        return data[0], 0, 0
    return data


def _counts_frames(stream: BinaryIO) -> bool:
    """Whether an MP3 stream begins with a frame that says how many frames follow."""
    stream.seek(0)
    head = stream.read(10)
    start = 0
    if head[:3] == b"ID3":
        for byte in head[6:]:
            start = start << 7 | byte & 0x7F
        start += len(head)
    stream.seek(start)
    first = stream.read(64)
    return any(tag in first for tag in (b"Xing", b"Info", b"VBRI"))
