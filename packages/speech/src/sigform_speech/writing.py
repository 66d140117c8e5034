"""Sound into files: whole or not at all, block by block, and never clipped.

Integers and lossy codecs hold samples in [-1, 1] only. What an input's outputs have beyond that
is known at the end, so their samples wait in a temporary file beside the targets, and all are
turned down by one gain if they must be.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from sigform_kit.errors import InputError
from sigform_kit.outputs import Policy, check_target, output
from sigform_speech.audio import AudioFormat, check_format
from sigform_speech.interrupts import InterruptsHeld

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Samples = NDArray[np.float32]

HEADROOM = 0.999
"""The peak of what had to be turned down."""

_BLOCK = 65_536  # frames that are encoded at once
_SPOOLED = 64 << 20  # bytes that wait for a pipe in memory, not in a file

# What a 32-bit length can say, less room for the header.
_LARGEST = 2**32 - 2**16

_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "DOUBLE": 8}


def gain_for(peak: float, format: AudioFormat) -> float:
    """What to multiply samples by whose largest magnitude is `peak` so that none clips."""
    return 1.0 if format.is_float or peak <= 1.0 else HEADROOM / peak


class AudioWriter:
    """Encodes blocks into one file or seekable stream; a context manager.

    Samples beyond full scale clip unless the format is float: `gain_for` is the caller's part, as
    are temporary names (`speaker_files` does both). Integers are rounded to the nearest, so that
    what was read from them is written as it was. Raises OSError, naming the file, where the
    system does not take the bytes, and UsageError for what the codec cannot store.
    """

    def __init__(self, target: Path | BinaryIO, format: AudioFormat) -> None:
        check_format(format)
        self.format = format
        self._name: str | None = None
        self._opened: io.FileIO | None = None
        if isinstance(target, Path):
            self._name = str(target)
            # With a buffer, seeking could fail too, which libsndfile does not ask.
            self._opened = target.open("w+b", buffering=0)
            self._stream = _Outlet(self._opened)
        else:
            self._stream = _Outlet(target)
        self._file: soundfile.SoundFile | None = None
        try:
            with InterruptsHeld():
                self._file = soundfile.SoundFile(
                    cast(BinaryIO, self._stream),
                    "w",
                    samplerate=format.sample_rate,
                    channels=format.channels,
                    subtype=format.subtype,
                    format=format.container,
                )
        except BaseException:
            if self._file is not None:
                with contextlib.suppress(soundfile.LibsndfileError):
                    self._file.close()
            self._close_stream()
            self._raise_failure()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        # What is half written is thrown away; only its first error is worth telling.
        with contextlib.suppress(OSError, soundfile.LibsndfileError):
            self.close()

    def write(self, block: Samples) -> None:
        """Adds float32 `(C, n)`, [-1, 1] being full scale."""
        if block.ndim != 2 or block.shape[0] != self.format.channels:
            raise ValueError(f"block has shape {block.shape}; needs ({self.format.channels}, n)")
        if self._file is None:
            raise ValueError("a block came after the file was closed")
        if block.shape[1] == 0:
            return
        try:
            with InterruptsHeld():
                self._file.write(_stored(block.T, self.format.bits))
        except (soundfile.LibsndfileError, AssertionError):
            self._raise_failure()
            raise
        self._raise_failure()

    def close(self) -> None:
        """Completes the file and has the system store it."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            with InterruptsHeld():
                file.close()
        except soundfile.LibsndfileError:
            self._raise_failure()
            raise
        finally:
            self._close_stream()
        self._raise_failure()

    def _close_stream(self) -> None:
        if self._opened is not None:
            self._stream.finish(self._opened)

    def _raise_failure(self) -> None:
        error = self._stream.failure
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), self._name) from error
        if error is not None:
            raise error


class _Outlet:
    """A stream for libsndfile. `failure` is what was raised, as callbacks of C cannot."""

    def __init__(self, stream: BinaryIO | io.FileIO) -> None:
        self.failure: BaseException | None = None
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell

    def write(self, data: ReadableBuffer) -> int:
        if self.failure is not None:
            return 0
        try:
            return _write_all(self._stream, memoryview(data))
        except BaseException as error:  # noqa: BLE001 - the writer raises it
            self.failure = error
            return 0

    def finish(self, opened: io.FileIO) -> None:
        try:
            with opened:
                os.fsync(opened.fileno())
        except OSError as error:
            self.failure = self.failure or error


class SpeakerFiles:
    """The files of one input's speakers while they grow: see `speaker_files`.

    `peak` is the largest magnitude so far, of all speakers; `frames` the length in samples;
    `gain`, once the files are there, what every sample was multiplied by.
    """

    def __init__(
        self, paths: Sequence[str | Path], format: AudioFormat, waiting: io.FileIO
    ) -> None:
        self.paths = paths
        self.format = format
        self.peak = 0.0
        self.frames = 0
        self.gain = 1.0
        self._waiting = waiting

    def write(self, block: Samples) -> None:
        """Adds float32 `(S, C, n)`, one row for each of the paths.

        Raises ValueError for another shape and for NaN or infinity, and InputError where the disk
        does not take it, or the container cannot hold so much.
        """
        expected = (len(self.paths), self.format.channels)
        if block.ndim != 3 or block.shape[:2] != expected:
            raise ValueError(f"block has shape {block.shape}; needs {(*expected, 'n')}")
        if block.shape[2] == 0:
            return
        peak = float(np.abs(block).max())
        if not np.isfinite(peak):
            raise ValueError("samples to write are NaN or infinite; needs finite ones")
        self.peak = max(self.peak, peak)
        self.frames += block.shape[2]
        if self.format.container == "AIFF" and not _fits(self.format, self.frames):
            raise InputError(f"{self.paths[0]}: AIFF ends at 4 GiB; .wav, .w64 and .caf go on")
        together = np.ascontiguousarray(np.moveaxis(block, 2, 0), np.float32)  # (n, S, C)
        try:
            _write_all(self._waiting, together.data.cast("B"))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.paths[0])) from error

    def encode(self, temporaries: Sequence[Path]) -> None:
        """Writes what was taken to these files, one for each speaker."""
        self._waiting.seek(0)
        self.gain = gain_for(self.peak, self.format)
        format = self.format
        if format.container in ("WAV", "WAVEX") and not _fits(format, self.frames):
            format = replace(format, container="RF64")
        shape = (-1, len(self.paths), format.channels)
        with contextlib.ExitStack() as opened:
            writers = [opened.enter_context(AudioWriter(path, format)) for path in temporaries]
            for start in range(0, self.frames, _BLOCK):
                count = min(_BLOCK, self.frames - start) * len(writers) * format.channels
                block = np.fromfile(self._waiting, np.float32, count).reshape(shape)
                block *= np.float32(self.gain)
                for speaker, writer in enumerate(writers):
                    writer.write(block[:, speaker].T)


@contextlib.contextmanager
def speaker_files(
    paths: Sequence[str | Path],
    format: AudioFormat,
    policy: Policy = "refuse",
    *,
    make_parents: bool = False,
) -> Iterator[SpeakerFiles]:
    """Takes the blocks of one input's speakers; the files appear, all or none, when all is well.

    Memory does not grow; the disk holds float32 samples meanwhile, in a nameless file beside the
    first target. Samples are stored as given, unless any is beyond full scale and the format would
    clip it: then all speakers are turned down alike, as `gain` tells afterwards. WAV files beyond
    4 GiB become RF64. Existing files are kept or replaced as `policy` says, as
    `sigform_kit.outputs.output` does it; `-` is stdout. Raises InputError, or OSError with the
    target's name, for what cannot be written, and UsageError for what the codec cannot store.
    """
    check_format(format)
    with contextlib.ExitStack() as stack:
        temporaries = [
            stack.enter_context(output(path, policy, make_parents=make_parents)) for path in paths
        ]
        # Without a buffer, closing it on a full disk fails not once more.
        waiting = stack.enter_context(
            tempfile.TemporaryFile(buffering=0, dir=temporaries[0].parent)
        )
        files = SpeakerFiles(paths, format, waiting)
        yield files
        files.encode(temporaries)
        # Before the first file gets its name, no name may have been taken meanwhile.
        for path in paths:
            check_target(path, policy)


def write_audio(
    target: str | Path | BinaryIO,
    samples: Samples,
    format: AudioFormat,
    policy: Policy = "refuse",
) -> float:
    """Writes float32 `(C, T)` or `(T,)` to a file, `-`, or a binary stream; returns the gain.

    The gain is 1, or what kept samples beyond full scale from clipping. A stream is written at
    its position and stays open. Raises as `speaker_files` does.
    """
    rows = samples[None] if samples.ndim == 1 else samples
    if isinstance(target, str | Path):
        with speaker_files([target], format, policy) as files:
            files.write(rows[None])
        return files.gain
    gain = gain_for(float(np.abs(rows).max(initial=0.0)), format)
    with tempfile.SpooledTemporaryFile(_SPOOLED) as whole:
        with AudioWriter(cast(BinaryIO, whole), format) as writer:
            for start in range(0, rows.shape[1], _BLOCK):
                writer.write(rows[:, start : start + _BLOCK] * np.float32(gain))
        whole.seek(0)
        shutil.copyfileobj(whole, target)
    return gain


def _write_all(stream: BinaryIO | io.FileIO, data: memoryview) -> int:
    """Writes until all is written, as a full disk takes a part before it refuses."""
    left = data
    while left:
        left = left[stream.write(left) :]
    return len(data)


def _stored(frames: Samples, bits: int | None) -> NDArray[np.float32] | NDArray[np.int32]:
    """What libsndfile is to be given: integers in the upper bits, which it takes as they are.

    From floats it would cut off what is below the last bit, where here it is rounded.
    """
    if bits is None:
        return np.ascontiguousarray(frames)
    full = 2.0 ** (bits - 1)
    rounded = np.rint(frames * np.float64(full)).clip(-full, full - 1)
    return np.ascontiguousarray(rounded.astype(np.int32) << (32 - bits))


def _fits(format: AudioFormat, frames: int) -> bool:
    """Whether a container with 32-bit lengths holds so many samples of each channel."""
    return frames * format.channels * _BYTES.get(format.subtype, 4) <= _LARGEST
