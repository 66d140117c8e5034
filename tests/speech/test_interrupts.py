"""A signal during C code is neither lost nor told as another error."""

from __future__ import annotations

import io
import signal
import threading

import numpy as np
import pytest

from sigform_speech.audio import AudioFormat
from sigform_speech.interrupts import InterruptsHeld
from sigform_speech.reading import open_audio
from sigform_speech.writing import AudioWriter

FORMAT = AudioFormat(container="WAV", subtype="PCM_16", sample_rate=8000, channels=1)


def test_a_signal_waits_for_the_end():
    before = signal.getsignal(signal.SIGINT)
    done = []

    def work() -> None:
        with InterruptsHeld():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the rest"]
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with InterruptsHeld():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_no_signals():
    told = []

    def work() -> None:
        with InterruptsHeld():
            told.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert told == ["worked"]


class Interrupting(io.BytesIO):
    """A stream in whose n-th call of C code a signal comes."""

    left = -1

    def tell(self) -> int:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return super().tell()


@pytest.mark.parametrize("call", range(1, 8))
def test_a_signal_anywhere_in_writing_is_raised(call):
    stream = Interrupting()
    stream.left = call

    def work() -> None:
        with AudioWriter(stream, FORMAT) as writer:
            for _ in range(100):
                writer.write(np.zeros((1, 100), np.float32))

    with pytest.raises(KeyboardInterrupt):
        work()
    assert stream.left <= 0


def test_a_signal_in_reading_is_raised(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    with AudioWriter(path, FORMAT) as writer:
        writer.write(np.zeros((1, 20_000), np.float32))
    from sigform_speech import sndfile

    inner = sndfile._View.readinto

    def readinto(view, buffer):
        signal.raise_signal(signal.SIGINT)
        return inner(view, buffer)

    with open_audio(path) as reader:
        monkeypatch.setattr(sndfile._View, "readinto", readinto)
        with pytest.raises(KeyboardInterrupt):
            sum(block.shape[1] for block in reader.blocks())
        monkeypatch.undo()
