"""What `evaluate` measures beside distances: filled parts, movement, and sound in time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from generate.commands import FRAMES, SAMPLING, clip, command, tiny

from sigform_generate import measuring
from sigform_generate.bouncing import bouncing_clip
from sigform_generate.media import write_clip
from sigform_generate.networks import save_network


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_every_mode_that_was_learnt_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "MOST_FILLED", 2)
    modes = ("unconditional", "predict", "interpolate", "complete")
    save_network(
        Path("net.safetensors"), tiny("video"), {}, sampling=replace(SAMPLING, modes=modes)
    )
    for seed in range(4):
        clip(f"real/{seed}.mp4", FRAMES, seed=seed)
    told = command("evaluate", "video", "real", "-w", "net.safetensors", "-n", 4, "--json")
    rows = {record["figure"]: record for record in told.records}
    found = [name for name in rows if name.startswith("PSNR")]
    assert found == [f"PSNR of {mode}, dB" for mode in modes[1:]]
    for name in found:
        # Random weights fill worse than holding what is given does.
        assert rows[name]["value"] < rows[name]["baseline"]
        assert rows[name]["made"] == rows[name]["real"] == 2
    assert rows["flicker"]["value"] > rows["flicker"]["baseline"]


def test_bouncing_balls_are_heard_when_they_are_seen() -> None:
    clips = [bouncing_clip(seed) for seed in range(12)]
    pairs = [(clip.frames, clip.audio) for clip in clips]
    share, lag = measuring._in_time("real", pairs, clips[0].fps, clips[0].sample_rate)
    assert share["value"] >= 80 > share["baseline"]
    assert abs(lag["value"]) < 100
    assert share["real"] == 12
    assert "impacts seen" in share["by"]


def test_many_items_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "MOST_REAL", 3)
    notes: list[str] = []
    assert measuring._some([0, 1, 2, 3, 4], notes.append) == [0, 2, 4]
    assert notes == ["compared with 3 of 5"]
    assert measuring._some([0, 1], notes.append) == [0, 1]
    measuring._tell(["a"] * 7, notes.append)
    assert notes[1:] == [*["a"] * 5, "and 2 more"]


def test_sound_that_belongs_to_nothing_is_at_chance() -> None:
    clips = [bouncing_clip(seed) for seed in range(12)]
    sounds = [clip.audio for clip in clips]
    pairs = [(clip.frames, sounds[number - 1]) for number, clip in enumerate(clips)]
    share, _ = measuring._in_time("made", pairs, clips[0].fps, clips[0].sample_rate)
    assert share["value"] < 60


def test_clips_are_written_with_their_sound() -> None:
    clip = bouncing_clip(3)
    write_clip(Path("a.mp4"), clip.frames, clip.fps, audio=clip.audio, sample_rate=clip.sample_rate)
    (record,) = command("info", "a.mp4", "--json").records
    assert record["sound"] == f"1 x {len(clip.audio)} samples"
