"""The shipped weights on readers they never heard: better than nothing done, and nobody swapped."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from sigform_speech.protocol import evaluation_mixtures
from sigform_speech.separator import Separator
from sigform_speech.training import improvement

RATE = 8000
BLOCK = 4 * RATE
"""Samples for which it is asked who is where."""

Float = NDArray[np.float32]


@pytest.fixture(scope="module")
def corpus() -> Path:
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip("SIGFORM_FIXTURES is not set: needs the readers in data/speech")
    return Path(folder, "data/speech")


@pytest.fixture(scope="module")
def separator() -> Separator:
    torch.set_num_threads(1)
    return Separator.load(device="cpu", dtype="float32")


def blocks_straight(speakers: Float, references: Float) -> list[bool]:
    """For each block in which somebody speaks, whether it is the way round of the most."""
    straight = []
    for start in range(0, speakers.shape[1] - BLOCK + 1, BLOCK):
        cut = slice(start, start + BLOCK)
        wanted, made = references[:, cut], speakers[:, cut]
        if np.abs(wanted).max() < 1e-3:
            continue
        shared = np.abs(made @ wanted.T)  # (estimate, reference)
        straight.append(bool(np.trace(shared) > np.trace(shared[::-1])))
    most = sum(straight) * 2 >= len(straight)
    return [block == most for block in straight]


def test_mixtures_of_unseen_readers_come_apart(corpus: Path, separator: Separator) -> None:
    gains = []
    for mixture in evaluation_mixtures(corpus, split="valid", count=12):
        x, y = (torch.from_numpy(value)[None] for value in (mixture.mixture, mixture.sources))
        gains.append(improvement(separator.network, x, y).item())
    assert np.mean(gains) > 6, gains


def test_nobody_is_swapped_over_long_turns(corpus: Path, separator: Separator) -> None:
    folder = corpus / "mixtures/05_long_turns_FM"
    references = np.stack(
        [soundfile.read(folder / f"s{n}.wav", dtype="float32")[0] for n in (1, 2)]
    )
    made = separator(folder / "mix.wav").speakers[:, 0]
    assert made.shape == references.shape
    straight = blocks_straight(made, references)
    assert len(straight) >= 15
    assert all(straight), straight


def conversation(corpus: Path, seconds: float) -> Iterator[Float]:
    """Two test readers (2, T) turn by turn, with pauses, a little overlap and gains that drift."""
    with (corpus / "speakers.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    rows.sort(key=lambda row: -int(row["n_utterances"]))
    pair = [next(row["speaker_id"] for row in rows if row["gender"] == sex) for sex in "FM"]
    spoken = [
        [
            soundfile.read(file, dtype="float32")[0]
            for file in sorted((corpus / "test" / who).iterdir())
        ]
        for who in pair
    ]
    rng = np.random.default_rng(0)
    done = 0
    while done < seconds * RATE:
        first, second = (voice[rng.integers(len(voice))] for voice in spoken)
        overlap = int(rng.uniform(-1.5, 1.5) * RATE)  # seconds; a pause where negative
        begin = max(0, len(first) - overlap)
        part = np.zeros((2, begin + len(second) + int(rng.uniform(0, 4) * RATE)), np.float32)
        part[0, : len(first)] = first
        part[1, begin : begin + len(second)] = second
        part *= np.float32(0.5 * 10 ** rng.uniform(-0.2, 0.2))
        done += part.shape[1]
        yield part


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("minutes", [5, 60])
def test_nobody_is_swapped_in_an_hour(minutes: int, corpus: Path, separator: Separator) -> None:
    parts = list(conversation(corpus, 60 * minutes))
    references = np.concatenate(parts, axis=1)
    blocks = (part.sum(0, keepdims=True) for part in parts)
    made = np.concatenate(list(separator.separate_stream(blocks, RATE)), axis=2)[:, 0]
    assert made.shape == references.shape
    straight = blocks_straight(made, references)
    assert len(straight) >= 12 * minutes
    # Single blocks may be told apart wrongly; nobody stays on the other's side.
    minutes_of = [straight[n : n + 15] for n in range(0, len(straight) - 14, 15)]
    assert all(sum(minute) > 7 for minute in minutes_of), [sum(minute) for minute in minutes_of]
    assert sum(straight) >= 0.85 * len(straight), f"{sum(straight)} of {len(straight)}"
