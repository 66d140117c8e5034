"""The task object: a recording in, one recording for each speaker out.

from sigform_speech import Separator

separator = Separator.load()
voices = separator("meeting.wav")         # a path, a file object, or an array (T,) or (C, T)
voices.speakers                           # (S, C, T) float32 at the rate of the recording
voices.write("meeting.wav")               # meeting_speaker1.wav, meeting_speaker2.wav
separator.separate_file("long.flac", ["a.flac", "b.flac"])  # in constant memory
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sigform_core.device import pick_device, pick_dtype, set_threads
from sigform_kit.outputs import Policy
from sigform_speech.audio import AudioFormat, output_format
from sigform_speech.catalogue import find_weights
from sigform_speech.networks import Network
from sigform_speech.reading import open_audio
from sigform_speech.resampling import Resampler
from sigform_speech.stitching import CHUNK_SECONDS, OVERLAP_SECONDS, StreamSeparator
from sigform_speech.upstream import load_any
from sigform_speech.writing import HEADROOM, speaker_files

BLOCK_SECONDS = 1.0
"""Of a file, that is read at once."""

MOST_CHANNELS = 64
"""Of an array: more are samples, given as (T, C)."""

Float = NDArray[np.float32]
Wave = NDArray[Any] | Tensor
OnProgress = Callable[[float, float | None], None]  # seconds done, seconds in all where known


@dataclass(frozen=True, kw_only=True)
class Separated:
    """The speakers of one recording, float32, together about the recording itself.

    `speakers` is (S, T) where the recording was (T,), else (S, C, T), at `sample_rate` (Hz). What
    lies above `bandwidth` (Hz) is lost: half the rate of the network, if that is the lower one.
    `format` is how `write` stores them, but for the container. Iterating gives one after the other.
    """

    speakers: Float
    sample_rate: int
    bandwidth: float
    format: AudioFormat

    def __iter__(self) -> Iterator[Float]:
        return iter(self.speakers)

    def __len__(self) -> int:
        return len(self.speakers)

    @property
    def gain(self) -> float:
        """What to multiply all speakers by to keep them within full scale, [-1, 1]: 1 or less."""
        peak = float(np.abs(self.speakers).max(initial=0.0))
        return 1.0 if peak <= 1.0 else HEADROOM / peak

    def write(self, target: str | Path, policy: Policy = "refuse") -> list[Path]:
        """Write a file for each speaker and return their paths; `target` says where.

        `talk.wav` stands for talk_speaker1.wav and so on, `{}` in a name for the speaker's number,
        and a name without a suffix for a folder. Where the format has no room for samples beyond
        full scale, `gain` is applied. Raises InputError and UsageError as `speaker_files` does.
        """
        paths = [speaker_path(target, number) for number in range(1, len(self) + 1)]
        format = output_format(self.format, paths[0].suffix)
        with speaker_files(paths, format, policy, make_parents=True) as files:
            files.write(self.speakers.reshape(len(self), format.channels, -1))
        return paths


@dataclass(frozen=True, kw_only=True)
class SeparatedFile:
    """What came of one file: its length (s), the gain that kept it from clipping, the format."""

    seconds: float
    gain: float
    format: AudioFormat
    bandwidth: float  # Hz, above which nothing is left
    notes: tuple[str, ...]  # what the user should know of the source


class Separator:
    """A network with all that a recording needs around it: rates, channels, length and levels.

    `chunk_seconds` go through the network at once, `overlap_seconds` of them twice. `threads` of
    the CPU are set for the whole process. Raises ValueError for a device or dtype that cannot be.
    """

    def __init__(
        self,
        network: Network,
        *,
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
    ) -> None:
        set_threads(threads)
        self.device = pick_device(device)
        self.dtype = self._dtype(dtype)
        self.network = network.eval().to(self.device)
        if self.dtype.itemsize < 4:
            self.network.body_to(self.dtype)
        self.speakers = network.num_spks
        self.chunk_seconds = chunk_seconds
        self.overlap_seconds = overlap_seconds

    @classmethod
    def load(
        cls,
        weights: str | Path = "default",
        *,
        speakers: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """A separator by the name of shipped or published weights, or any checkpoint's path.

        `speakers` must be what the weights separate; "default" goes by it. Raises ValueError for
        an unknown name, a file that is no checkpoint of a known network, or other speakers.
        """
        network = load_any(find_weights(str(weights), speakers))
        if speakers not in (None, network.num_spks):
            raise ValueError(
                f"speakers is {speakers}; the weights {weights} need {network.num_spks}"
            )
        return cls(network, device=device, dtype=dtype, threads=threads)

    @property
    def sample_rate(self) -> int:
        """Hz, at which the network works."""
        return self.network.sample_rate

    def bandwidth(self, sample_rate: int) -> float:
        """Hz, above which the speakers of a recording at `sample_rate` hold nothing."""
        return min(sample_rate, self.sample_rate) / 2

    def __call__(
        self,
        recording: Wave | str | os.PathLike[str] | BinaryIO,
        sample_rate: int | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> Separated:
        """The speakers of a whole recording, at its own rate and of its own length.

        An array or tensor is (T,) or (C, T) at `sample_rate` (the network's when it is None):
        floating point, [-1, 1] being full scale, or integers, which are scaled so. A path or a
        binary stream brings its rate. Raises ValueError for another shape or type, no samples, NaN
        or infinite ones, InputError for a file that cannot be read.
        """
        if isinstance(recording, np.ndarray | Tensor):
            wave, stored = _to_float(recording)
            rate = self.sample_rate if sample_rate is None else sample_rate
            format = AudioFormat(container="WAV", subtype=stored, sample_rate=rate, channels=1)
        else:
            with open_audio(recording) as reader:
                wave, format = reader.read(), reader.format
            if sample_rate not in (None, format.sample_rate):
                raise ValueError(
                    f"sample_rate is {sample_rate}; {reader.name} has {format.sample_rate}"
                )
        rows = np.atleast_2d(wave)
        format = replace(format, channels=len(rows))
        rate, total = format.sample_rate, rows.shape[1]
        step = max(1, round(BLOCK_SECONDS * rate))
        blocks = (rows[:, start : start + step] for start in range(0, total, step))
        speakers = np.empty((self.speakers, *rows.shape), np.float32)
        done = 0
        for part in self.separate_stream(blocks, rate, len(rows)):
            speakers[..., done : done + part.shape[2]] = part
            done += part.shape[2]
            if on_progress is not None:
                on_progress(done / rate, total / rate)
        return Separated(
            speakers=speakers.reshape(self.speakers, *wave.shape),
            sample_rate=rate,
            bandwidth=self.bandwidth(rate),
            format=format,
        )

    def separate_stream(
        self, blocks: Iterable[Float], sample_rate: int, channels: int = 1
    ) -> Iterator[Float]:
        """Blocks (C, n) of any size -> the speakers (S, C, m), a part at a time, as many samples.

        Float32 at `sample_rate` (Hz) both; memory does not grow with the length. Raises ValueError
        for blocks of another shape, NaN and infinite samples.
        """
        S, own = self.speakers, self.sample_rate
        there = Resampler(sample_rate, own, channels)
        back = Resampler(own, sample_rate, S * channels)
        stitcher = StreamSeparator(
            self.network,
            channels,
            chunk_seconds=self.chunk_seconds,
            overlap_seconds=self.overlap_seconds,
        )
        taken = given = 0
        for block in blocks:
            taken += block.shape[-1]
            made = stitcher.push(there.push(block))
            part = back.push(made.reshape(S * channels, -1))[:, : taken - given]
            given += part.shape[1]
            if part.shape[1]:
                yield part.reshape(S, channels, -1)
        made = stitcher.push(there.push(np.zeros((channels, 0), np.float32), last=True))
        made = np.concatenate([made, stitcher.finish()], axis=2)
        part = back.push(made.reshape(S * channels, -1), last=True)[:, : taken - given]
        if part.shape[1]:
            yield part.reshape(S, channels, -1)

    def separate_file(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        targets: Sequence[str | Path],
        *,
        format: AudioFormat | None = None,
        mono: bool = False,
        policy: Policy = "refuse",
        make_parents: bool = False,
        name: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> SeparatedFile:
        """Write the speakers of one file into one file each, in constant memory.

        The targets' suffix says their container, everything else stays as in the source; `format`
        is instead of both. `mono` averages the channels. All files appear when all is well, or
        none. `name` is what messages call a stream. Raises ValueError for another number of
        targets than speakers, InputError and UsageError for what cannot be read or written.
        """
        if len(targets) != self.speakers:
            raise ValueError(f"{len(targets)} targets are given; needs {self.speakers}")
        with open_audio(source, name) as reader:
            rate = reader.format.sample_rate
            channels = 1 if mono else reader.format.channels
            if format is None:
                stored = replace(reader.format, channels=channels)
                format = output_format(stored, Path(targets[0]).suffix)
            blocks = reader.blocks(max(1, round(BLOCK_SECONDS * rate)))
            if mono:
                blocks = (block.mean(axis=0, keepdims=True) for block in blocks)
            total = None if reader.frames is None else reader.frames / rate
            with speaker_files(targets, format, policy, make_parents=make_parents) as files:
                for part in self.separate_stream(blocks, rate, channels):
                    files.write(part)
                    if on_progress is not None:
                        on_progress(files.frames / rate, total)
            return SeparatedFile(
                seconds=files.frames / rate,
                gain=files.gain,
                format=format,
                bandwidth=self.bandwidth(rate),
                notes=tuple(reader.notes),
            )

    def _dtype(self, name: str) -> torch.dtype:
        if name == "auto":
            cuda = self.device.type == "cuda"
            half = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if half else torch.float32
        if name == "float64":
            raise ValueError("dtype is 'float64'; needs auto, float32, bfloat16 or float16")
        return pick_dtype(name, self.device)


def speaker_path(target: str | Path, number: int) -> Path:
    """Where a speaker goes: `{}` is its number, a suffix a file's name, the rest a folder's."""
    path = Path(target)
    if "{}" in path.name:
        return path.with_name(path.name.replace("{}", str(number)))
    if path.suffix and not path.is_dir():
        return path.with_name(f"{path.stem}_speaker{number}{path.suffix}")
    return path / f"speaker{number}.wav"


def _to_float(recording: Wave) -> tuple[Float, str]:
    """An array (T,) or (C, T) as float32 with full scale 1, and how libsndfile would store it."""
    wave = recording.detach().cpu().numpy() if isinstance(recording, Tensor) else recording
    if wave.ndim not in (1, 2) or (wave.ndim == 2 and len(wave) > MOST_CHANNELS):
        raise ValueError(
            f"recording has shape {wave.shape}; needs (samples,) or (channels, samples)"
        )
    if wave.size == 0:
        raise ValueError(f"recording has shape {wave.shape}; needs a sample or more")
    if wave.dtype in (np.int16, np.int32):
        bits = 8 * wave.dtype.itemsize
        return (wave / 2.0 ** (bits - 1)).astype(np.float32), f"PCM_{bits}"
    if not np.issubdtype(wave.dtype, np.floating):
        raise ValueError(f"recording is of {wave.dtype}; needs floating point, int16 or int32")
    if not np.isfinite(wave).all():
        raise ValueError("recording has NaN or infinite samples; needs finite ones")
    return wave.astype(np.float32), "FLOAT"
