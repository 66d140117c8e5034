"""Every speaker stays in the same output, whatever order the network gives."""

import os
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sigform_speech.speakers import SpeakerOrder, cheapest_path
from sigform_speech.voices import VoiceModel, cepstra, frame_powers

RATE = 8000
SHARED = 2 * RATE


@pytest.fixture(scope="session")
def read() -> Callable[[str], np.ndarray]:
    """The utterances of a reader in a split, joined: (T,), of one level."""
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip("SIGFORM_FIXTURES is not set: needs the readers in data/speech")

    def joined(reader: str) -> np.ndarray:
        files = sorted(Path(folder, "data/speech", reader).glob("*.flac"))
        speech = np.concatenate([soundfile.read(file, dtype="float32")[0] for file in files])
        return 0.05 * speech / speech.std()

    return joined


def voice(pitch: float, seconds: float, seed: int = 0) -> np.ndarray:
    """A buzz of harmonics under a spectrum of its own, coming and going like syllables: (T,)."""
    time = np.arange(round(seconds * RATE)) / RATE
    tilt = np.random.default_rng(seed).uniform(0.5, 1.5)
    tones = [
        np.sin(2 * np.pi * pitch * n * time + n * n) / n**tilt for n in range(1, int(2500 / pitch))
    ]
    syllables = np.clip(np.sin(2 * np.pi * 2.3 * time + seed), 0, None)
    return (0.1 * syllables * np.sum(tones, axis=0)).astype(np.float32)


def follow(
    sources: np.ndarray, *, leak: float = 0.15, chunk: int = 8 * RATE, seed: int = 0
) -> list[int]:
    """For each chunk of sources (S, T), given in a random order, the source in the first output."""
    random = np.random.default_rng(seed)
    order = SpeakerOrder(len(sources), RATE)
    before = np.zeros((len(sources), 1, 0), np.float32)
    first = []
    for start in range(0, sources.shape[1] - SHARED, chunk - SHARED):
        part = sources[:, start : start + chunk]
        outputs = (1 - leak) * part + leak * part.sum(axis=0)
        shuffled = random.permutation(len(sources))
        made = order(outputs[shuffled][:, None].astype(np.float32), before)
        fit = made[:, 0] @ part.T  # (outputs, sources)
        orders = list(permutations(range(len(sources))))
        first.append(max(orders, key=lambda each: sum(fit[pair] for pair in enumerate(each)))[0])
        before = made[..., chunk - SHARED :]
    return first


def test_the_shared_part_decides() -> None:
    both = np.stack([voice(110, 32), voice(190, 32, seed=1)])
    assert len(set(follow(both))) == 1


def test_a_change_within_a_chunk_is_undone(read: Callable[[str], np.ndarray]) -> None:
    """The network hands the voices over in the middle of the fourth chunk, back in the fifth."""
    sources = np.stack([read(f"train/{name}")[: 38 * RATE] for name in ("19", "26")])
    order = SpeakerOrder(2, RATE)
    before = np.zeros((2, 1, 0), np.float32)
    for number in range(6):
        part = sources[:, None, number * 6 * RATE :][..., : 8 * RATE]
        outputs = 0.95 * part + 0.05 * part[::-1]
        if number in (3, 4):
            outputs[..., 4 * RATE :] = outputs[::-1, :, 4 * RATE :].copy()
        made = order(outputs, before)
        before = made[..., 6 * RATE :]
        for piece in (slice(0, 3 * RATE), slice(5 * RATE, 8 * RATE)):
            assert np.corrcoef(made[0, 0, piece], part[0, 0, piece])[0, 1] > 0.9


def test_a_voice_alone_is_not_divided(read: Callable[[str], np.ndarray]) -> None:
    """From 20 s on only one speaks; the network gives the syllables to one output and the other."""
    sources = np.stack([read(f"train/{name}")[: 40 * RATE] for name in ("19", "26")])
    sources[1, 20 * RATE :] = 0
    outputs = 0.95 * sources + 0.05 * sources[::-1]
    syllable = np.arange(40 * RATE) // (RATE // 3) % 2
    divided = np.stack([sources[0] * (syllable == n) for n in (0, 1)])
    outputs[:, 20 * RATE :] = divided[:, 20 * RATE :]
    order = SpeakerOrder(2, RATE)
    before = np.zeros((2, 1, 0), np.float32)
    shares = []
    for start in range(0, 32 * RATE, 6 * RATE):
        made = order(outputs[:, None, start : start + 8 * RATE], before)
        before = made[..., 6 * RATE :]
        heard = made[:, 0, : 6 * RATE]
        sources_here = sources[:, start : start + 6 * RATE]
        # Of the voice's energy, what lies in its own output; both go on where both speak.
        shares.append(float((heard[0] ** 2).sum() / (heard**2).sum()))
        if start < 14 * RATE:
            assert np.corrcoef(heard[1], sources_here[1])[0, 1] > 0.9
    assert min(shares[4:]) > 0.95, shares


@pytest.mark.parametrize(
    ("change", "expected"), [(1.0, [0, 0, 1, 1, 0]), (4.0, [0, 0, 0, 0, 0]), (0.0, [0, 0, 1, 1, 0])]
)
def test_the_path_that_costs_least(change: float, expected: list[int]) -> None:
    evidence = np.array([[2, 0], [0.5, 0.4], [0, 1.5], [0, 1.5], [9, 0]], float)
    assert cheapest_path(evidence, change).tolist() == expected


def test_three_speakers() -> None:
    sources = np.stack([voice(110, 32), voice(190, 32, seed=1), voice(150, 32, seed=2)])
    assert len(set(follow(sources))) == 1


def test_voices_decide_after_a_pause(read: Callable[[str], np.ndarray]) -> None:
    """Turns of 6 s with 9 s of silence between: no two chunks share anything that is heard."""
    for one, other in (("train/26", "train/27"), ("valid/32", "valid/125")):
        pair = [read(one), read(other)]
        sources = np.zeros((2, 12 * 15 * RATE), np.float32)
        for turn in range(12):
            start, at = turn * 15 * RATE, (turn // 2) * 6 * RATE % (12 * RATE)
            speech = pair[turn % 2][at : at + 6 * RATE]
            sources[turn % 2, start : start + len(speech)] = speech
        active = [
            sources[:, start : start + 8 * RATE].any()
            for start in range(0, sources.shape[1] - SHARED, 6 * RATE)
        ]
        first = [speaker for speaker, heard in zip(follow(sources), active, strict=True) if heard]
        assert max(np.bincount(first)) / len(first) > 0.98


def test_no_evidence_keeps_the_order() -> None:
    order = SpeakerOrder(2, RATE)
    hiss = np.random.default_rng(0).normal(size=(2, 1, 8 * RATE)) * 1e-5
    speech = np.stack([voice(110, 8), voice(190, 8, seed=1)])[:, None]
    for outputs, before in ((speech, speech[..., :0]), (hiss, speech[..., :SHARED])):
        np.testing.assert_array_equal(order(outputs, before), outputs)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_polarity_or_place_between_channels_is_no_matter(channels: int) -> None:
    both = np.stack([voice(110, 8), voice(190, 8, seed=1)])[:, None]
    place = np.array([[1.0], [-1.0]])[:channels]
    outputs = (both * place).astype(np.float32)
    order = SpeakerOrder(2, RATE)
    order(outputs, outputs[..., :0])
    np.testing.assert_array_equal(order(outputs[::-1], outputs[..., :SHARED]), outputs)


def test_one_second_tells_most_pairs_apart(read: Callable[[str], np.ndarray]) -> None:
    model = VoiceModel.load()

    def describe(speech: np.ndarray):
        powers = frame_powers(speech[None], RATE)
        energy = powers.sum(axis=1)
        return model.describe(cepstra(powers, RATE), energy > 0.003 * np.percentile(energy, 95))

    readers = ["32", "125", "198", "1069", "196", "1334", "1723", "3242"]
    known = [describe(read(f"valid/{name}")[: 6 * RATE]) for name in readers]
    new = [describe(read(f"valid/{name}")[6 * RATE : 9 * RATE]) for name in readers]
    ratios = np.array([[model.likelihood_ratio(a, b) for b in new] for a in known])
    assert (ratios.argmax(axis=0) == np.arange(len(readers))).all()
    assert (np.diag(ratios) > 0).mean() >= 0.8
    assert (ratios[~np.eye(len(readers), dtype=bool)] < 0).mean() > 0.9


@pytest.mark.slow
def test_the_shipped_voices_are_those_of_the_train_readers() -> None:
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip("SIGFORM_FIXTURES is not set: needs the readers in data/speech")
    speakers = sorted(Path(folder, "data/speech/train").iterdir())
    fitted = VoiceModel.fit(
        [
            [np.asarray(soundfile.read(file)[0], np.float64) for file in sorted(one.glob("*.flac"))]
            for one in speakers
        ],
        RATE,
    )
    shipped = VoiceModel.load()
    np.testing.assert_allclose(shipped.between, fitted.between, rtol=1e-3)
    np.testing.assert_allclose(np.abs(shipped.turn), np.abs(fitted.turn), atol=1e-3)
    np.testing.assert_allclose(shipped.mean, fitted.mean, atol=1e-3)


def test_fitting_needs_two_speakers() -> None:
    with pytest.raises(ValueError, match="1 speakers have"):
        VoiceModel.fit([[voice(110, 5)]], RATE)
