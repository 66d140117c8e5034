"""Latents are those of the windows' frames and sound, encoded once and kept for one codec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from generate.codecs import Hearing, Shrinking

from sigform_generate.bouncing import bouncing_clip
from sigform_generate.data import AVSet, ClipSet, Source
from sigform_generate.encoded import EncodedClips, EncodedPairs
from sigform_generate.latents import codec_mark


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Three clips of eight frames of 32 x 32 pixels, with sound."""
    clips = [bouncing_clip(seed, frames=8, height=32, width=32) for seed in range(3)]
    place = tmp_path_factory.mktemp("clips") / "clips.npz"
    np.savez(
        place,
        frames=np.stack([clip.frames for clip in clips]),
        audio=np.stack([np.round(clip.audio * 32767).astype(np.int16) for clip in clips]),
        fps=10,
        sample_rate=16_000,
    )
    return [Source(place, index) for index in range(3)]


def clips_of(sources: list[Source], *, augment: bool) -> ClipSet:
    return ClipSet(sources, 4, 32, 10, augment=augment, seed=5)


def test_items_are_the_latents_of_the_same_windows(sources: list[Source]) -> None:
    clips = clips_of(sources, augment=True)
    made = EncodedClips(clips, Shrinking())
    assert len(made) == len(clips)
    mirrored = [clips.window(index)[2] for index in range(12)]
    assert set(mirrored) == {False, True}
    for index in range(12):
        wanted = Shrinking().encode(clips[index][None])[0]
        torch.testing.assert_close(made[index], wanted)


def test_windows_are_mirrored_only_where_that_is_wanted(sources: list[Source]) -> None:
    clips = clips_of(sources, augment=True)
    plain = EncodedClips(clips, Shrinking(), mirror=False)
    assert len(plain.latents) == 1
    index = next(index for index in range(99) if clips.window(index)[2])
    wanted = Shrinking().encode(clips[index].flip(-1)[None])[0]
    torch.testing.assert_close(plain[index], wanted)
    still = clips_of(sources, augment=False)
    assert len(EncodedClips(still, Shrinking()).latents) == 1


def test_sound_is_that_of_the_window(sources: list[Source]) -> None:
    pairs = AVSet(sources, 4, 32, 10, augment=True, seed=5)
    made = EncodedPairs(pairs, Shrinking(), Hearing())
    for index in range(8):
        frames, sound = pairs[index]
        torch.testing.assert_close(made[index].frames, Shrinking().encode(frames[None])[0])
        torch.testing.assert_close(made[index].sound, Hearing().encode(sound[None])[0])


def test_a_clip_is_encoded_once(sources: list[Source], tmp_path: Path) -> None:
    counted = []

    class Counting(Shrinking):
        def encode(self, frames: torch.Tensor) -> torch.Tensor:
            counted.append(frames.shape[1])
            return super().encode(frames)

    clips = clips_of(sources, augment=True)
    told: list[tuple[int, int]] = []
    first = EncodedClips(
        clips, Counting(), cache=tmp_path, on_encoded=lambda *place: told.append(place)
    )
    assert counted == [8] * 6
    assert told == [(number, 6) for number in range(1, 7)]
    again = EncodedClips(clips, Counting(), cache=tmp_path)
    assert len(counted) == 6
    assert torch.equal(first[3], again[3])
    EncodedClips(clips, Shrinking(), cache=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 12


def test_codecs_are_told_apart_by_their_networks() -> None:
    class Networked(Shrinking):
        def __init__(self, seed: int) -> None:
            torch.manual_seed(seed)
            self.vae = torch.nn.Linear(2, 2)

    marks = [codec_mark(codec) for codec in (Shrinking(), Networked(0), Networked(1))]
    assert len(set(marks)) == 3
    assert codec_mark(Networked(1)) == marks[2]
